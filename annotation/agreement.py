"""How far a project's annotators agree: the measures of `statistics.agreement` over its stored judgements.

How judgements become agreement data is said in docs/statistics.md. In short: each pair of responses of a slate is a
unit and its value who was preferred (-1, 0, 1), missing where it was not judged; ranks count within slates; ratings
count by scale. Intervals come from drawing whole slates.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import combinations
from typing import Any, TypedDict

import numpy as np
import numpy.typing as npt

from annotation.judgements import (
    KINDS,
    Comparisons,
    Judgements,
    JudgementStream,
    Ratings,
    compare,
    current_rankings,
    read_ratings,
)
from annotation.models import Membership, Project
from annotation.statistics.agreement import (
    Agreement,
    Level,
    ReliabilityData,
    cohen_kappa,
    concordance_by_slate,
    fleiss_kappa,
    intransitivity_rate,
    krippendorff_alpha,
    percent_agreement,
)
from annotation.statistics.rankings import exchange, mid_ranks, preference_data, rank_data
from annotation.statistics.resampling import RESAMPLES

Array = npt.NDArray[Any]

PREFERENCE_LEVELS: tuple[Level, ...] = ("nominal", "ordinal", "interval")
RATING_LEVELS: tuple[Level, ...] = ("nominal", "ordinal", "interval", "ratio")
MOST_ANNOTATORS = 8
"""Annotators are compared two by two up to so many, those with the most judgements."""


class Sampled(TypedDict):
    """How intervals are drawn."""

    resamples: int
    seed: int


@dataclass(frozen=True)
class AnnotatorPair:
    """Two annotators beside each other: Cohen's κ of their preferences, and how often these were the same."""

    first: str
    second: str
    kappa: Agreement
    percent: Agreement


@dataclass(frozen=True)
class AgreementReport:
    """What the measures say. A measure without data is absent, or None.

    `alpha`: of preferences by level, of nominal preferences in which neither response of a pair comes first
    ("exchangeable"), and of "ranks" within slates; `ratings`: by scale and level; `criteria`: nominal
    α of preferences by criterion, where there are several. `slates_shared` have judgements of two annotators;
    `annotators_left_out` are in no pair of `pairs`.
    """

    rankings: int
    simulated: int
    annotators: int
    slates: int
    slates_shared: int
    alpha: Mapping[str, Agreement]
    percent: Agreement | None
    fleiss: Agreement | None
    tau_b: Agreement | None
    w: Agreement | None
    cycles_of_majority: Agreement | None
    cycles_of_annotators: Agreement | None
    ratings: Mapping[str, Mapping[str, Agreement]]
    criteria: Mapping[str, Agreement]
    pairs: tuple[AnnotatorPair, ...]
    annotators_left_out: int

    def as_json(self) -> dict[str, Any]:
        """The report as the command prints it."""
        return {
            "rankings": self.rankings,
            "simulated": self.simulated,
            "annotators": self.annotators,
            "slates": self.slates,
            "slates_shared": self.slates_shared,
            "krippendorff_alpha": _json_of(self.alpha),
            "percent_agreement": _json_or_none(self.percent),
            "fleiss_kappa": _json_or_none(self.fleiss),
            "cohen_kappa": {
                "pairs": [
                    {
                        "annotators": [pair.first, pair.second],
                        **pair.kappa.as_json(),
                        "percent_agreement": pair.percent.as_json()["value"],
                    }
                    for pair in self.pairs
                ],
                "annotators_left_out": self.annotators_left_out,
            },
            "kendall_tau_b": _json_or_none(self.tau_b),
            "kendall_w": _json_or_none(self.w),
            "intransitivity": {
                "majority": _json_or_none(self.cycles_of_majority),
                "within_annotator": _json_or_none(self.cycles_of_annotators),
            },
            "ratings": {scale: _json_of(levels) for scale, levels in self.ratings.items()},
            "criteria": _json_of(self.criteria),
        }


def measure_agreement(
    project: Project,
    *,
    kinds: Sequence[str] = (),
    newest_slates: int | None = None,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> AgreementReport:
    """Measure agreement over the project's current judgements.

    `kinds`: of annotators that count (see `Membership.Kind`), all if empty; `newest_slates`: only the newest that were
    judged. The queries do not grow with the judgements of some thousand slates.
    """
    how = Sampled(resamples=resamples, seed=seed)
    rankings = current_rankings()
    if kinds:
        rankings = rankings.filter(annotator__kind__in=kinds)
    stream = JudgementStream(project, rankings=rankings, newest_slates=newest_slates, with_items=False)
    judgements = stream.read_all()
    compared, preferences = compare(judgements), read_preferences(judgements)
    if newest_slates is not None and len(judgements):
        rankings = rankings.filter(slate__gte=int(judgements.slate.min()))
    ratings = read_ratings(project, rankings=rankings)
    slates, judged = np.unique(judgements.slate, return_counts=True)
    pairs, left_out = _compare_annotators(
        preferences, annotators=judgements.annotator[np.unique(compared.row)], project=project, how=how
    )
    orders = _measure_orders(judgements, compared=compared, how=how)
    return AgreementReport(
        rankings=len(judgements),
        simulated=int((judgements.kind == KINDS.index(Membership.Kind.SIMULATED)).sum()),
        annotators=len(np.unique(judgements.annotator)),
        slates=len(slates),
        slates_shared=int((judged > 1).sum()),
        alpha=_measure_alphas(preferences, judgements=judgements, how=how),
        percent=percent_agreement(preferences, **how) if preferences else None,
        fleiss=fleiss_kappa(preferences, **how) if preferences else None,
        tau_b=orders.get("tau_b"),
        w=orders.get("w"),
        cycles_of_majority=orders.get("cycles_of_majority"),
        cycles_of_annotators=orders.get("cycles_of_annotators"),
        ratings={scale: _measure_ratings(given, how=how) for scale, given in ratings.items()},
        criteria=_measure_criteria(judgements, names=stream.criteria, how=how),
        pairs=pairs,
        annotators_left_out=left_out,
    )


def measure_alpha(project: Project, *, newest_slates: int, resamples: int = RESAMPLES) -> Agreement | None:
    """Exchangeable α of preferences alone, for a page that says one figure; None where nothing was compared."""
    stream = JudgementStream(project, newest_slates=newest_slates, with_items=False)
    preferences = read_preferences(stream.read_all())
    return _measure_exchangeable(preferences, how=Sampled(resamples=resamples, seed=0)) if preferences else None


def read_preferences(judgements: Judgements) -> ReliabilityData | None:
    """Who preferred what, as `statistics.rankings.preference_data` says; None where nothing was compared."""
    return preference_data(
        judgements.tiers,
        undistinguished=judgements.undistinguished,
        responses=judgements.responses,
        slates=judgements.slate,
        annotators=judgements.annotator,
    )


def _measure_alphas(
    preferences: ReliabilityData | None, *, judgements: Judgements, how: Sampled
) -> dict[str, Agreement]:
    found: dict[str, Agreement] = {}
    if preferences:
        found |= {level: krippendorff_alpha(preferences, level=level, **how) for level in PREFERENCE_LEVELS}
        found["exchangeable"] = _measure_exchangeable(preferences, how=how)
    ranks = rank_data(
        judgements.tiers,
        undistinguished=judgements.undistinguished,
        responses=judgements.responses,
        slates=judgements.slate,
        annotators=judgements.annotator,
    )
    return found | ({"ranks": krippendorff_alpha(ranks, level="ordinal", **how)} if ranks else {})


def _measure_exchangeable(preferences: ReliabilityData, *, how: Sampled) -> Agreement:
    """Nominal α with every unit beside its mirror image; the counts are those of the units as they are."""
    twice, once = krippendorff_alpha(exchange(preferences), **how), krippendorff_alpha(preferences, resamples=0)
    return replace(twice, n_units=once.n_units, n_values=once.n_values, n_raters=once.n_raters)


def _measure_orders(judgements: Judgements, *, compared: Comparisons, how: Sampled) -> dict[str, Agreement]:
    """Kendall's measures by slate, and how often preferences run in a circle; nothing where nothing was compared."""
    if not len(compared.row):
        return {}
    ranks = mid_ranks(np.where(judgements.undistinguished[:, None], 0, judgements.tiers))
    concordance = concordance_by_slate(ranks, slates=judgements.slate, **how)
    question = judgements.prompt * (int(judgements.criterion.max()) + 1) + judgements.criterion
    found = {
        "tau_b": concordance.tau_b,
        "w": concordance.w,
        "cycles_of_majority": intransitivity_rate(
            compared.left_response,
            right=compared.right_response,
            outcomes=compared.outcomes,
            groups=question[compared.row],
            **how,
        ),
    }
    of_two = ((judgements.tiers > 0).sum(axis=1) == 2)[compared.row]  # a single ranking of three cannot be cyclic
    if of_two.any():
        _questions, asked = np.unique(question, return_inverse=True)
        whose = asked * (int(judgements.annotator.max()) + 1) + judgements.annotator
        found["cycles_of_annotators"] = intransitivity_rate(
            compared.left_response[of_two],
            right=compared.right_response[of_two],
            outcomes=compared.outcomes[of_two],
            groups=whose[compared.row][of_two],
            **how,
        )
    return found


def _measure_ratings(given: Ratings, *, how: Sampled) -> dict[str, Agreement]:
    """α of one scale: each response of a slate is a unit."""
    _pairs, unit = np.unique(np.stack([given.slate, given.response]), axis=1, return_inverse=True)
    data = ReliabilityData.from_triples(unit, raters=given.annotator, values=given.value, clusters=given.slate)
    levels = [level for level in RATING_LEVELS if level != "ratio" or given.value.min() >= 0]
    return {level: krippendorff_alpha(data, level=level, **how) for level in levels}


def _measure_criteria(judgements: Judgements, *, names: Sequence[str], how: Sampled) -> dict[str, Agreement]:
    """Nominal α by criterion, where slates were judged by several."""
    found: dict[str, Agreement] = {}
    for code in np.unique(judgements.criterion) if len(names) > 1 else ():
        preferences = read_preferences(judgements.take(judgements.criterion == code))
        if preferences:
            found[names[code]] = krippendorff_alpha(preferences, **how)
    return dict(sorted(found.items()))


def _compare_annotators(
    data: ReliabilityData | None, *, annotators: Array, project: Project, how: Sampled
) -> tuple[tuple[AnnotatorPair, ...], int]:
    """Annotators two by two, where they share a unit, and how many were left out. `annotators`: one a judgement."""
    if data is None:
        return (), 0
    ids, counts = np.unique(annotators, return_counts=True)  # the data number raters in this order
    most = np.argsort(-counts, kind="stable")[:MOST_ANNOTATORS]
    found = dict(Membership.objects.filter(project=project, pk__in=ids[most].tolist()).values_list("pk", "name"))
    names = {int(at): found[int(ids[at])] for at in most}
    pairs = []
    for first, second in combinations(sorted(names, key=names.__getitem__), 2):
        two = data.of_raters(first, second)
        kappa = cohen_kappa(two, **how)
        if kappa.n_units:
            pairs.append(AnnotatorPair(names[first], names[second], kappa, percent_agreement(two, **how)))
    return tuple(pairs), len(ids) - len(most)


def _json_or_none(measure: Agreement | None) -> dict[str, Any] | None:
    return measure.as_json() if measure else None


def _json_of(measures: Mapping[str, Agreement]) -> dict[str, Any]:
    return {name: measure.as_json() for name, measure in measures.items()}
