"""Plackett–Luce scores from rankings: full, partial and tied ones, with the errors of `bradley_terry`.

P(a first among S) = worth_a / sum of worths in S, and so on with what is left (Plackett 1975; Hunter 2004, "MM
algorithms for generalized Bradley-Terry models", section 5). Ties follow Davidson–Luce (see `ranking_likelihood`).
Newton's method starts at the scores that the rankings' pairs alone give.

    fitted = fit([["a", "b", "c"], [["b", "a"], "c"], ["c", "b"]])
    fitted.scores, fitted.intervals(), fitted.rank_bands(), fitted.win_probabilities()
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from annotation.statistics.codes import (
    SMALL,
    Floats,
    Integers,
    Labels,
    Names,
    encode_items,
    read_groupings,
    read_weights,
    show_names,
)
from annotation.statistics.estimation import Covariance, Groups, Options, estimate
from annotation.statistics.fits import Fit
from annotation.statistics.newton import NoMaximumError, maximise
from annotation.statistics.pair_likelihood import Data, PairLikelihood, Settings, connect_cells, no_design
from annotation.statistics.ranking_likelihood import Bools, RankingLikelihood, Rankings


def fit(
    rankings: Integers | Sequence[Sequence[Any]],
    *,
    tied: npt.ArrayLike | None = None,
    ranked: npt.ArrayLike | None = None,
    items: Sequence[Hashable] | None = None,
    weights: npt.ArrayLike | None = None,
    ridge: float = 0.0,
    clusters: Labels | tuple[Labels, Labels] | None = None,
    covariance: Covariance = "robust",
    bootstrap: int = 0,
    seed: int = 0,
    reference: Hashable | None = None,
) -> Fit:
    """Fit N rankings.

    rankings: (N, K) integers, best first, -1 after the last item of a shorter one: positions in `items`, or
        identifiers. Or a sequence of rankings, each a list of tiers, best first; a tier is an item or a list of
        items that are tied (items are then no lists or tuples themselves). Items left out of a ranking were not there.
    tied: (N, K) with an array: whether the item is tied with the one before it.
    ranked: (N,) how many items of each ranking were ranked; the others were there, below all of these, in no order
        ("best of four": 1; the top 3 of 10: 3). All, if it is not given.
    weights: (N,) importance, 0 or more.
    ridge, clusters, covariance, bootstrap, seed, reference: as in `bradley_terry.fit`; by default every ranking stands
        for itself.

    The effects "tie", "tie of 3", … are log delta of each size of ties that was seen. Raises ValueError for unreadable
    data, an item that stands twice in a ranking, fewer than two items, and ties that can be chosen in too many ways.
    """
    settings = Options(ridge=ridge, covariance=covariance, bootstrap=bootstrap, seed=seed)
    order, opens, names = _read(rankings, tied=tied, items=items)
    count = order.shape[1]
    importance = None if weights is None else read_weights(weights, rows=count)
    groupings = read_groupings(clusters, rows=count)
    read = Rankings(names, order=order, opens=opens, ranked=_read_ranked(ranked, order=order), weights=importance)
    _check_ranked(read)
    read = replace(read, ranked=np.minimum(read.ranked, read.lengths))
    telling = (read.lengths > 1) & (read.ranked > 0)
    if not telling.all():
        read, groupings = read.select(telling), [groups[telling] for groups in groupings]
    fitted = _fit(read if items is not None else _drop_unseen(read), groupings=groupings, settings=settings)
    return fitted if reference is None else fitted.anchored(reference)


def _fit(rankings: Rankings, *, groupings: list[Groups], settings: Options) -> Fit:
    """Check what is compared with what, start from the pairs, and fit."""
    if not rankings.order.size:
        raise ValueError("No ranking says anything: none has two items of which one was ranked.")
    if rankings.weights is not None and not rankings.weights.any():
        raise ValueError("Every weight is 0.")
    n = len(rankings.names)
    cells = rankings.pairs()
    if same := [rankings.names[item] for item in cells.left[cells.left == cells.right]]:
        raise ValueError(f"{show_names(same)} stands twice in a ranking.")
    pairs = Data(
        rankings.names, cells=cells, design=no_design(len(cells.left)), rows=None, count=rankings.order.shape[1]
    )
    connectivity = connect_cells(pairs)
    component = np.zeros(n, dtype=np.intp) if settings.ridge > 0 else connectivity.component
    if settings.ridge == 0 and not connectivity.is_connected:
        rankings, source = rankings.split(component)
        groupings = [groups[source] for groups in groupings] or [source]
        groupings = [np.unique(groups, return_inverse=True)[1] for groups in groupings]
        pairs, _rows = pairs.select(component[cells.left] == component[cells.right])
    sizes = rankings.tie_sizes
    start = _scores_of_pairs(pairs, component=component, ridge=settings.ridge)
    likelihood = RankingLikelihood(rankings, settings=settings, component=component, start=start, tie_sizes=sizes)
    fitted, _maximum, _covariance = estimate(likelihood, groupings=groupings, connectivity=connectivity)
    return replace(fitted, model="plackett-luce", ties="davidson-luce" if sizes else "none")


def _scores_of_pairs(pairs: Data, *, component: Groups, ridge: float) -> Floats:
    """Scores of the pairs as if they were independent, (n,): consistent without ties, and near enough to start from."""
    if not len(pairs.cells.left):
        return np.zeros(len(pairs.names))
    likelihood = PairLikelihood(pairs, settings=Settings(ridge=ridge), component=component)
    try:
        return maximise(likelihood, start=likelihood.start(), accuracy=0.1).point
    except NoMaximumError:
        return np.zeros(len(pairs.names))


def _drop_unseen(rankings: Rankings) -> Rankings:
    """Integers that stand in no ranking are no items."""
    n = len(rankings.names)
    seen = np.bincount(rankings.order.ravel(), minlength=n + 1)[:n] > 0
    if seen.all():
        return rankings
    code = np.append(np.cumsum(seen) - 1, seen.sum())
    names = tuple(name for name, is_seen in zip(rankings.names, seen, strict=True) if is_seen)
    return replace(rankings, names=names, order=code[rankings.order])


def _read(
    rankings: Any, *, tied: npt.ArrayLike | None, items: Sequence[Hashable] | None
) -> tuple[Integers, Bools, Names]:
    """Codes (K, N), n after the end; where tiers begin, (K, N); and the names."""
    if len(rankings) == 0:
        raise ValueError("There are no rankings.")
    kind = getattr(getattr(rankings, "dtype", None), "kind", "O")
    if kind in "iu":
        return _read_table(rankings, tied=tied, items=items)
    if kind != "O":
        raise ValueError(f"Rankings must be integers or lists of names, not {rankings.dtype}.")
    if tied is not None:
        raise ValueError("Lists of tiers say themselves what is tied: leave tied out.")
    tiers = [[tier if isinstance(tier, list | tuple) else [tier] for tier in ranking] for ranking in rankings]
    if any(not tier for ranking in tiers for tier in ranking):
        raise ValueError("A tier must have an item.")
    (codes,), names = encode_items([item for ranking in tiers for tier in ranking for item in tier], items=items)
    sizes = [sum(map(len, ranking)) for ranking in tiers]
    row, width = np.repeat(np.arange(len(tiers)), sizes), max(sizes)
    place = np.arange(len(codes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    order, opens = np.full((width, len(tiers)), len(names)), np.ones((width, len(tiers)), dtype=bool)
    order[place, row] = codes
    opens[place, row] = [k == 0 for ranking in tiers for tier in ranking for k in range(len(tier))]
    return order, opens, names


def _read_table(
    table: Integers, *, tied: npt.ArrayLike | None, items: Sequence[Hashable] | None
) -> tuple[Integers, Bools, Names]:
    if table.ndim != 2 or table.shape[1] < 2:
        raise ValueError(f"Rankings must have shape (N, K) with K of 2 or more, not {table.shape}.")
    order = np.ascontiguousarray(np.asarray(table).T)
    filled = order >= 0
    if order.min() < -1 or (filled[1:] & ~filled[:-1]).any():
        raise ValueError("Items must be integers of 0 or more, with -1 only after a ranking's last item.")
    if items is None and order.max() < SMALL and filled.all():
        names: Names = tuple(range(order.max() + 1))
    else:
        (codes,), names = encode_items(order[filled], items=items)
        order = np.full(order.shape, len(names))
        order[filled] = codes
    opens = np.ones(order.shape, dtype=bool)
    if tied is not None:
        given = np.asarray(tied, dtype=bool).T
        if given.shape != order.shape or given[0].any() or (given & ~filled).any():
            raise ValueError("tied must have the shape of the rankings, False for the first item and after the last.")
        opens = ~given
    return order, opens, names


def _read_ranked(ranked: npt.ArrayLike | None, *, order: Integers) -> Integers:
    if ranked is None:
        return np.full(order.shape[1], len(order))
    given = np.asarray(ranked)
    if given.shape != (order.shape[1],) or given.dtype.kind not in "iu" or given.min() < 0:
        raise ValueError(f"ranked must be {order.shape[1]} numbers of items, 0 or more.")
    return given.astype(np.intp)


def _check_ranked(rankings: Rankings) -> None:
    """Raises ValueError where a ranking's ranked items end in the middle of a tier."""
    cut = np.flatnonzero(rankings.ranked < rankings.lengths)
    if not rankings.opens[rankings.ranked[cut], cut].all():
        raise ValueError("The ranked items of a ranking end within a tie: rank all that are tied, or none of them.")
