"""Many rankings as agreement data: who preferred what, and who gave which rank.

The rule is that of `comparisons.derive_comparisons`, done to all rows at once. Tiers stand as numbers (R, K), 1 the
best, 0 where an item was not placed; items of one tier are tied, unless the task merely did not tell them apart.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from annotation.statistics.codes import Labels, encode_groups
from annotation.statistics.pairs import Pairs, pairs_of_tiers
from annotation.statistics.reliability import ReliabilityData

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]


def judged_pairs(tiers: npt.NDArray[Any], *, undistinguished: npt.NDArray[np.bool_]) -> Pairs:
    """All pairs that the rankings (R, K) judged, as numbers of columns, left < right.

    `undistinguished`: (R,) where items of one tier were merely not told apart and make no pair.
    """
    pairs = pairs_of_tiers(tiers)
    said = ~((pairs.outcomes == 0.5) & undistinguished[pairs.ranking])
    if said.all():
        return pairs
    return Pairs(
        left=pairs.left[said], right=pairs.right[said], outcomes=pairs.outcomes[said], ranking=pairs.ranking[said]
    )


def preference_data(
    tiers: npt.NDArray[Any],
    *,
    undistinguished: npt.NDArray[np.bool_],
    responses: npt.NDArray[Any],
    slates: Labels,
    annotators: Labels,
) -> ReliabilityData | None:
    """Who preferred what: each pair of responses of a slate is a unit, each annotator a rater, the slate a cluster.

    The value is 1 where the response of the lower id was preferred, -1 where the other was, 0 where they were judged
    equal; what was not judged is missing. `responses`: (R, K), the ids beside the tiers. None where there is no pair.
    """
    pairs = judged_pairs(tiers, undistinguished=undistinguished)
    if not len(pairs.ranking):
        return None
    slate, _number = encode_groups(slates, rows=len(tiers))
    annotator, _number = encode_groups(annotators, rows=len(tiers))
    place = _places_in_slates(responses, slate=slate)
    one, other = place[pairs.ranking, pairs.left], place[pairs.ranking, pairs.right]
    width = int(place.max()) + 1
    lower, upper = np.minimum(one, other), np.maximum(one, other)
    preferred = np.sign(pairs.outcomes - 0.5).astype(np.int8)
    of_row = slate[pairs.ranking]
    return ReliabilityData.from_triples(
        (of_row * width + lower) * width + upper,
        raters=annotator[pairs.ranking],
        values=np.where(one < other, preferred, -preferred),
        clusters=of_row,
    )


def exchange(preferences: ReliabilityData) -> ReliabilityData:
    """Preferences with every unit beside its mirror image, in which the responses of the pair have changed places.

    Which of two responses comes first in the list is nobody's judgement, yet where it is mostly the better one,
    measures that take chance from the values' shares believe that chance knows it. Here both come first alike.
    """
    places = np.searchsorted(preferences.values, (-1, 0, 1))
    counts = np.zeros((preferences.n_units, 3), dtype=np.int64)
    for column, (value, place) in enumerate(zip((-1, 0, 1), places, strict=True)):
        if place < len(preferences.values) and preferences.values[place] == value:
            counts[:, column] = preferences.counts[:, place]
    clusters = np.arange(len(counts)) if preferences.clusters is None else preferences.clusters
    return ReliabilityData.from_counts(
        np.concatenate([counts, counts[:, ::-1]]), values=[-1, 0, 1], clusters=np.concatenate([clusters, clusters])
    )


def rank_data(
    tiers: npt.NDArray[Any],
    *,
    undistinguished: npt.NDArray[np.bool_],
    responses: npt.NDArray[Any],
    slates: Labels,
    annotators: Labels,
) -> ReliabilityData | None:
    """Ranks within slates: each response of a slate is a unit, its mid-rank the value (1 = best), the slate a cluster.

    Rankings that merely did not tell some responses apart give no ranks. None where there is none.
    """
    ranks = mid_ranks(np.where(undistinguished[:, None], 0, tiers))
    row, column = np.nonzero(np.isfinite(ranks))
    if not len(row):
        return None
    slate, _number = encode_groups(slates, rows=len(tiers))
    annotator, _number = encode_groups(annotators, rows=len(tiers))
    place = _places_in_slates(responses, slate=slate)
    return ReliabilityData.from_triples(
        slate[row] * (int(place.max()) + 1) + place[row, column],
        raters=annotator[row],
        values=ranks[row, column],
        clusters=slate[row],
    )


def mid_ranks(tiers: npt.NDArray[Any]) -> Floats:
    """Mid-ranks (R, K) of tiers, tied items sharing the mean of their places; NaN where an item was not placed."""
    one, other = tiers[:, :, None], tiers[:, None, :]
    better = ((other < one) & (other > 0)).sum(axis=2)
    equal = (other == one).sum(axis=2)
    return np.where(tiers > 0, better + (equal + 1) / 2, np.nan)


def _places_in_slates(responses: npt.NDArray[Any], *, slate: Codes) -> Codes:
    """The place of each response among its slate's, by id, (R, K); 0 where none stands."""
    row, column = np.nonzero(responses >= 0)
    ids, response = np.unique(responses[row, column], return_inverse=True)
    keys, at = np.unique(slate[row] * len(ids) + response, return_inverse=True)
    of_key = keys // len(ids)
    first = np.searchsorted(of_key, np.arange(int(slate.max()) + 1))
    place = np.zeros(responses.shape, dtype=np.intp)
    place[row, column] = (np.arange(len(keys)) - first[of_key])[at]
    return place
