"""Who is preferred over whom, and how surely: a project's items scored, ranked and compared two by two.

`battles` reads the judgements, `statistics` fits them; this puts the question and says what came out, once, for the
command, the page and the downloads. What the figures mean is said in docs/statistics.md.

    report = make_leaderboard(project, Question(by="source"))
    report.items, report.pairs, report.as_json()
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import product
from typing import Any

import numpy as np
import numpy.typing as npt
from django.utils.translation import gettext as _

from annotation.battles import Array, Cluster, Field, LeaderboardRefused, Question, read_field, read_styles
from annotation.models import Project
from annotation.statistics import bradley_terry, plackett_luce
from annotation.statistics.fits import ELO, Fit
from annotation.statistics.pair_likelihood import Ties
from annotation.statistics.stopping import growth_needed
from annotation.statistics.style import FEATURES
from annotation.statistics.win_rates import WinRates, win_rates

Floats = npt.NDArray[np.float64]

TIES: tuple[Ties, ...] = ("davidson", "half")
"""Models of ties in the order in which they are tried."""
CENTRE = 1000.0
ALPHA = 0.05
FEW_CLUSTERS = 30
"""Below so many clusters sandwich intervals are too narrow."""
THIN = 10
"""An item in fewer clusters has an interval that is too narrow, however many there are in all: of 3, nominal 95 %
intervals hold the truth in three quarters of cases, of 10 in 91 %."""
MOST_ITEMS = 3000
"""The algebra is dense: more are refused."""
STYLE_PRIOR = 1.0
"""Precision of the prior on what style is worth, where the judgements alone leave it without a finite value."""
MOST_IN_TABLES = 200
"""Up to so many items there is a matrix, and all pairs are compared; beyond, those that met."""


@dataclass(frozen=True)
class Item:
    """One item of the leaderboard. NaN where nothing is said of it.

    `score`: log-worth around the mean of its component; `rating`: the same in points around 1000, 400 being odds of 10;
    `rank` and `band`, the lowest and highest rank at 95 % for all items at once, are within its `component`.
    `clusters`: in how many of the groups that errors are taken by it was compared.
    """

    name: str
    score: float
    interval: tuple[float, float]
    rating: float
    rating_interval: tuple[float, float]
    rank: float
    band: tuple[float, float]
    component: int
    clusters: int
    comparisons: int
    wins: int
    ties: int
    losses: int

    @property
    def is_scored(self) -> bool:
        """Whether anything is comparable with it."""
        return math.isfinite(self.score)

    @property
    def has_interval(self) -> bool:
        """Whether anything is known of its error."""
        return math.isfinite(self.interval[0])

    @property
    def win_rate(self) -> float:
        """The share of its comparisons that it won, a tie counting half."""
        return (self.wins + self.ties / 2) / self.comparisons

    def as_json(self) -> dict[str, Any]:
        """The item as the command prints it."""
        return {
            "name": self.name,
            "score": _number(self.score),
            "interval": _numbers(self.interval),
            "rating": _number(self.rating),
            "rating_interval": _numbers(self.rating_interval),
            "rank": _whole(self.rank),
            "rank_band": [_whole(rank) for rank in self.band],
            "component": self.component,
            "clusters": self.clusters,
            "comparisons": self.comparisons,
            "wins": self.wins,
            "ties": self.ties,
            "losses": self.losses,
            "win_rate": self.win_rate,
        }


@dataclass(frozen=True)
class Pair:
    """Two items beside each other, `first` being ranked before `second`.

    `difference` of scores with its interval; `p_value` by itself, `p_holm` adjusted for all pairs; `needed`: about how
    many more judgements like these would separate the two at 5 %, however often one looks: 0 where these do, None where
    no number can be named. `wins`, `ties`, `losses`: of `first`, where the two met.
    """

    first: str
    second: str
    difference: float
    interval: tuple[float, float]
    p_value: float
    p_holm: float
    needed: int | None
    wins: int
    ties: int
    losses: int

    @property
    def met(self) -> int:
        """How often the two were compared."""
        return self.wins + self.ties + self.losses

    def as_json(self) -> dict[str, Any]:
        """The pair as the command prints it."""
        return {
            "items": [self.first, self.second],
            "difference": _number(self.difference),
            "interval": _numbers(self.interval),
            "p_value": _number(self.p_value),
            "p_holm": _number(self.p_holm),
            "judgements_needed": self.needed,
            "wins": self.wins,
            "ties": self.ties,
            "losses": self.losses,
        }


@dataclass(frozen=True)
class StyleEffect:
    """What one feature of style is worth: log odds for one root mean square of its relative difference.

    `differs_in`: in how many comparisons it differs at all.
    """

    feature: str
    value: float
    interval: tuple[float, float]
    differs_in: int

    def as_json(self) -> dict[str, Any]:
        """The effect as the command prints it."""
        return {
            "feature": self.feature,
            "value": _number(self.value),
            "interval": _numbers(self.interval),
            "differs_in": self.differs_in,
        }


@dataclass(frozen=True, eq=False)
class Style:
    """Differences of style, (N, p), None where nothing differs; what they are of, and in how many rows each differs.

    `constant`: the features that never differ.
    """

    differences: Floats | None = None
    features: tuple[str, ...] = ()
    differs_in: tuple[int, ...] = ()
    constant: tuple[str, ...] = ()


@dataclass(frozen=True)
class Fallback:
    """What had to be put in place of the model that was asked for, see `LeaderboardReport`."""

    ties_refused: str = ""
    style_by_prior: bool = False


@dataclass(frozen=True, eq=False)
class LeaderboardReport:
    """What a leaderboard says. Items stand best first, by component; `counted` is the win matrix in their order.

    `cluster`: what the errors are by. `ties_refused`: why ties have no parameter of their own here, "" where they have,
    or there are none. `uncompared`: items of the project without a comparison among these judgements.
    `style_constant`: features in which no two responses differ; `style_by_prior`: whether what style is worth rests on
    a prior, since the judgements alone leave some of it without a value.
    """

    question: Question
    fit: Fit
    items: tuple[Item, ...]
    counted: WinRates
    cluster: Cluster
    judgements: int
    simulated: int
    annotators: int
    prompts: int
    compared_prompts: int
    slates: int
    criteria: tuple[str, ...]
    ties_refused: str
    style: tuple[StyleEffect, ...]
    style_constant: tuple[str, ...]
    style_by_prior: bool
    uncompared: tuple[str, ...]
    among_same: int
    nameless: int
    repeated: int
    best_alone: int

    @property
    def comparisons(self) -> int:
        """How many comparisons of different items there were."""
        return round(float(self.counted.comparisons.sum()) / 2)

    @property
    def is_connected(self) -> bool:
        """Whether the judgements alone make every two items comparable."""
        return self.fit.connectivity.is_connected

    @property
    def few_clusters(self) -> bool:
        """Whether there are too few clusters for the intervals to be trusted."""
        return self.fit.clusters < FEW_CLUSTERS

    @property
    def thin(self) -> tuple[Item, ...]:
        """Items in so few clusters that their own intervals are too narrow; none where all are."""
        if self.few_clusters:
            return ()
        return tuple(item for item in self.items if item.has_interval and item.clusters < THIN)

    @property
    def unknown(self) -> tuple[Item, ...]:
        """Items with a score and no interval: one group alone joins them to the others, or all judgements are alike."""
        return tuple(item for item in self.items if item.is_scored and not item.has_interval)

    @property
    def is_one_prompt(self) -> bool:
        """Whether the errors are silent on other prompts, which the items would meet."""
        return self.compared_prompts == 1 and not self.is_by_response

    @property
    def counts_repeats(self) -> bool:
        """Whether judgements of one prompt count as independent, though they are of the same responses."""
        return self.cluster == "ranking" and 1 < self.compared_prompts < self.judgements and not self.is_by_response

    @property
    def is_by_response(self) -> bool:
        """Whether single responses compete, within their prompts."""
        return self.question.by == "response"

    @property
    def pairs_cut(self) -> bool:
        """Whether there are too many items for a matrix and all pairs."""
        return len(self.items) > MOST_IN_TABLES

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """Every two comparable items, in the order of ranks."""
        fit, n = self.fit, len(self.items)
        needed = growth_needed(
            fit.differences, standard_errors=fit.difference_errors, alpha=ALPHA, pairs=max(n * (n - 1) // 2, 1)
        )
        more = np.ceil((needed - 1) * self.judgements)
        single, holm = fit.p_values(correction="none"), fit.p_values()
        margin = 1.96 * fit.difference_errors
        wins, ties, met = self.counted.wins, self.counted.ties, self.counted.comparisons > 0
        listed = np.triu(fit.comparable & np.isfinite(fit.differences), 1)
        found = []
        for a, b in np.argwhere(listed & met if self.pairs_cut else listed).tolist():
            difference = float(fit.differences[a, b])
            found.append(
                Pair(
                    first=self.items[a].name,
                    second=self.items[b].name,
                    difference=difference,
                    interval=(difference - float(margin[a, b]), difference + float(margin[a, b])),
                    p_value=float(single[a, b]),
                    p_holm=float(holm[a, b]),
                    needed=None if math.isnan(more[a, b]) else int(more[a, b]),
                    wins=round(wins[a, b]),
                    ties=round(ties[a, b]),
                    losses=round(wins[b, a]),
                )
            )
        return tuple(found)

    def as_json(self) -> dict[str, Any]:
        """The report as the command prints it and the page hands it out."""
        question, links = self.question, self.fit.connectivity
        return {
            "by": question.by,
            "model": question.method,
            "style_control": question.style_control,
            "cluster": self.cluster,
            "ridge": question.ridge,
            "slices": dict(question.slices),
            "judgements": self.judgements,
            "simulated": self.simulated,
            "annotators": self.annotators,
            "prompts": self.prompts,
            "slates": self.slates,
            "criteria": list(self.criteria),
            "comparisons": self.comparisons,
            "clusters": self.fit.clusters,
            "few_clusters": self.few_clusters,
            "ties": {"model": self.fit.ties, "fallback": self.ties_refused or None},
            "items": [item.as_json() for item in self.items],
            "connected": links.is_connected,
            "components": [
                {
                    "items": list(members),
                    "undefeated": number in links.undefeated,
                    "winless": number in links.winless,
                    "group": group,
                }
                for number, (members, group) in enumerate(zip(links.members, links.group, strict=True))
            ],
            "matrix": None if self.pairs_cut else self._matrix(),
            "pairwise": [pair.as_json() for pair in self.pairs],
            "style": [effect.as_json() for effect in self.style],
            "style_constant": list(self.style_constant),
            "style_by_prior": self.style_by_prior,
            "left_out": {
                "items_without_comparison": list(self.uncompared),
                "comparisons_of_one_item": self.among_same,
                "comparisons_without_model": self.nameless,
                "rankings_with_an_item_twice": self.repeated,
                "rankings_read_by_their_best": self.best_alone,
            },
        }

    def _matrix(self) -> dict[str, Any]:
        """Wins and ties of the row against the column, and the rates, where a tie is half a win."""
        return {
            "items": [item.name for item in self.items],
            "wins": self.counted.wins.astype(int).tolist(),
            "ties": self.counted.ties.astype(int).tolist(),
            "rates": [_numbers(row) for row in self.counted.rates],
        }


def make_leaderboard(project: Project, question: Question) -> LeaderboardReport:
    """Read the project's current judgements, fit them and say what came out.

    Raises LeaderboardRefused, with what would help, where there are no comparisons of two items, or the fit asks for
    more than the judgements say.
    """
    field = read_field(project, question)
    _require_two(field, question=question)
    seen = np.unique(np.concatenate([np.unique(field.battles.left), np.unique(field.battles.right)]))
    names = tuple(field.items[code] for code in seen)
    if len(names) > MOST_ITEMS:
        raise LeaderboardRefused(
            _("%(n)d items are too many for one leaderboard; narrow it down by a slice.") % {"n": len(names)}
        )
    place = np.full(len(field.items) + 1, -1, dtype=np.int32)
    place[seen] = np.arange(len(seen), dtype=np.int32)
    field = replace(
        field, battles=replace(field.battles, left=place[field.battles.left], right=place[field.battles.right])
    )
    style = _control_style(project, field, question=question)
    compared_prompts = _count_compared_prompts(field)
    is_alone = question.by == "response" or compared_prompts < 2
    cluster: Cluster = question.cluster or ("ranking" if is_alone else "prompt")
    if question.method == "plackett-luce":
        fit, fallback = _fit_orders(field, question=question, names=names, place=place, cluster=cluster), Fallback()
    else:
        fit, fallback = _fit_battles(field, question=question, names=names, style=style, cluster=cluster)
    clusters = _count_clusters(field, cluster=cluster, items=len(names))
    counted = win_rates(field.battles.left, right=field.battles.right, outcomes=field.battles.outcomes, items=names)
    scores: list[float] = fit.scores.tolist()
    order = sorted(range(len(names)), key=lambda at: (int(fit.component[at]), *_best_first(scores[at]), names[at]))
    fit, counted = _reorder(fit, order), _reorder_counts(counted, order)
    return LeaderboardReport(
        question=question,
        fit=fit,
        items=tuple(_items_of(fit, counted=counted, clusters=clusters[order])),
        counted=counted,
        cluster=cluster,
        judgements=len(field.ranking),
        simulated=field.simulated,
        annotators=len(np.unique(field.annotator)),
        prompts=len(np.unique(field.prompt)),
        compared_prompts=compared_prompts,
        slates=len(np.unique(field.slate)),
        criteria=field.criteria,
        ties_refused=fallback.ties_refused,
        style=tuple(_effects_of(fit, style=style)),
        style_constant=style.constant,
        style_by_prior=fallback.style_by_prior,
        uncompared=tuple(sorted(set(field.items) - set(names))),
        among_same=field.among_same,
        nameless=field.nameless,
        repeated=field.repeated,
        best_alone=field.best_alone,
    )


def _require_two(field: Field, *, question: Question) -> None:
    if len(field.battles):
        return
    if not len(field.ranking) and question.slices:
        raise LeaderboardRefused(_("No judgement meets these slices. Take one away."))
    if not len(field.ranking):
        raise LeaderboardRefused(_("There are no judgements yet."))
    if question.by == "model" and field.nameless:
        raise LeaderboardRefused(
            _("No two models of the registry were compared: most responses come from elsewhere. Rank sources instead.")
        )
    if field.among_same:
        raise LeaderboardRefused(
            _("All compared responses come from one source: there is no second. Rank single responses instead.")
        )
    raise LeaderboardRefused(_("The judgements hold no comparisons: ratings alone never become an order."))


def _control_style(project: Project, field: Field, *, question: Question) -> Style:
    responses = field.battles.responses
    if not question.style_control or responses is None:
        return Style()
    ids, features = read_styles(project, responses)
    left, right = (features[np.searchsorted(ids, responses[:, side])] for side in (0, 1))
    differences = bradley_terry.style_differences(left, right=right)
    differs = np.count_nonzero(differences, axis=0)
    told = tuple(name for name, rows in zip(FEATURES, differs, strict=True) if rows)
    constant = tuple(name for name in FEATURES if name not in told)
    if not told:
        return Style(constant=constant)
    return Style(
        differences[:, differs > 0], features=told, differs_in=tuple(differs[differs > 0].tolist()), constant=constant
    )


def _count_compared_prompts(field: Field) -> int:
    compared = np.zeros(len(field.prompt), dtype=bool)
    compared[field.battles.judgement] = True
    return len(np.unique(field.prompt[compared]))


def _count_clusters(field: Field, *, cluster: Cluster, items: int) -> npt.NDArray[np.intp]:
    """In how many clusters each item was compared, (n,); of two groupings the fewer."""
    groupings = _clusters(field, judgement=field.battles.judgement, cluster=cluster)
    counts = []
    for groups in groupings if isinstance(groupings, tuple) else (groupings,):
        code = np.unique(groups, return_inverse=True)[1].astype(np.int64) * items
        met = np.unique(np.concatenate([code + field.battles.left, code + field.battles.right]))
        counts.append(np.bincount(met % items, minlength=items))
    return np.min(counts, axis=0)


def _fit_battles(
    field: Field, *, question: Question, names: Sequence[str], style: Style, cluster: Cluster
) -> tuple[Fit, Fallback]:
    """Bradley–Terry with Davidson's ties.

    Where these judgements leave something without a finite value, first what style is worth gets a prior, then ties
    count half a win each.
    """
    battles, reason = field.battles, ""
    clusters = _clusters(field, judgement=battles.judgement, cluster=cluster)
    precisions = (0.0,) if style.differences is None else (0.0, STYLE_PRIOR)
    for ties, precision in product(TIES, precisions):
        try:
            fit = bradley_terry.fit(
                battles.left, battles.right, battles.outcomes, items=names, ties=ties, ridge=question.ridge,
                covariates=style.differences, covariate_names=style.features, covariate_ridge=precision,
                clusters=clusters,
            )  # fmt: skip
        except ValueError as error:
            reason = str(error)
        else:
            return fit, Fallback(reason if ties == "half" else "", style_by_prior=precision > 0)
    raise _refusal(reason)


def _fit_orders(field: Field, *, question: Question, names: Sequence[str], place: Array, cluster: Cluster) -> Fit:
    """Plackett–Luce of the rankings in which every item stands once."""
    orders = field.orders
    if orders is None or not len(orders.order):
        raise LeaderboardRefused(_("No ranking has an order of different items. Bradley–Terry reads the pairs."))
    try:
        return plackett_luce.fit(
            place[orders.order], tied=orders.tied, ranked=orders.ranked, items=names, ridge=question.ridge,
            clusters=_clusters(field, judgement=orders.judgement, cluster=cluster),
        )  # fmt: skip
    except ValueError as error:
        raise _refusal(str(error)) from None


def _refusal(reason: str) -> LeaderboardRefused:
    return LeaderboardRefused(_("These judgements cannot be fitted so. %(reason)s") % {"reason": reason})


def _clusters(field: Field, *, judgement: Array, cluster: Cluster) -> Any:
    if cluster == "ranking":
        return judgement
    if cluster == "annotator-prompt":
        return field.annotator[judgement], field.prompt[judgement]
    return (field.annotator if cluster == "annotator" else field.prompt)[judgement]


def _reorder(fit: Fit, order: Sequence[int]) -> Fit:
    """The fit with its items in this order. Components keep their numbers."""
    at = np.array(order)
    items = tuple(fit.items[k] for k in order)
    links = replace(fit.connectivity, items=items, component=fit.connectivity.component[at])
    covariance = None if fit.covariance is None else fit.covariance[np.ix_(at, at)]
    return replace(fit, items=items, scores=fit.scores[at], covariance=covariance, connectivity=links)


def _reorder_counts(counted: WinRates, order: Sequence[int]) -> WinRates:
    at = np.ix_(order, order)
    return replace(
        counted,
        items=tuple(counted.items[k] for k in order),
        **{name: getattr(counted, name)[at] for name in ("wins", "ties", "rates", "lower", "upper")},
    )


def _items_of(fit: Fit, *, counted: WinRates, clusters: npt.NDArray[np.intp]) -> Iterator[Item]:
    intervals, ranks, bands = fit.intervals(), fit.ranks(), fit.rank_bands()
    wins, ties, losses = counted.wins.sum(axis=1), counted.ties.sum(axis=1), counted.wins.sum(axis=0)
    for at, name in enumerate(fit.items):
        low, high = (float(bound) for bound in intervals[at])
        yield Item(
            name=str(name),
            score=float(fit.scores[at]),
            interval=(low, high),
            rating=CENTRE + ELO * float(fit.scores[at]),
            rating_interval=(CENTRE + ELO * low, CENTRE + ELO * high),
            rank=float(ranks[at]),
            band=(float(bands[at, 0]), float(bands[at, 1])),
            component=int(fit.component[at]),
            clusters=int(clusters[at]),
            comparisons=round(wins[at] + ties[at] + losses[at]),
            wins=round(wins[at]),
            ties=round(ties[at]),
            losses=round(losses[at]),
        )


def _effects_of(fit: Fit, *, style: Style) -> Iterator[StyleEffect]:
    differs_in = dict(zip(style.features, style.differs_in, strict=True))
    for effect in fit.effects:
        if effect.name in differs_in:
            margin = 1.96 * effect.standard_error
            interval = (effect.value - margin, effect.value + margin)
            yield StyleEffect(effect.name, effect.value, interval, differs_in=differs_in[effect.name])


def _best_first(score: float) -> tuple[bool, float]:
    return math.isnan(score), 0.0 if math.isnan(score) else -score


def _number(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _numbers(values: Sequence[float] | Floats) -> list[float | None]:
    return [_number(value) for value in values]


def _whole(value: float) -> int | None:
    return round(value) if math.isfinite(value) else None
