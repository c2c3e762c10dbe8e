"""How far orders agree: Kendall's τ-b and W with ties, and how far comparisons are in no order at all.

Everything here rests on the signs s_ij = sign(r_i - r_j) of a ranking r: a tie is a sign of 0, τ-b is the cosine of
two rankings' signs, and the deviation of an item's mid-rank from the middle is half the sum of its signs, so that ties
are corrected for by construction. Weights on items (a bootstrap's) carry over.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from annotation.statistics.codes import Labels, encode_groups, encode_items
from annotation.statistics.reliability import Agreement
from annotation.statistics.resampling import (
    CONFIDENCE,
    NOWHERE,
    RESAMPLES,
    Sampling,
    bootstrap_sums,
    draw_weights,
    percentile_interval,
)

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

ROWS_AT_ONCE = 256
ALL_TIED = "Everything is tied."
NO_PAIR_OF_RANKINGS = "No slate has two complete rankings that order it."
NO_TRIPLE = "No three items were all compared with each other."


@dataclass(frozen=True)
class Concordance:
    """Rankings of the same slates: τ-b averaged over pairs of annotators, W over annotators, both then over slates."""

    tau_b: Agreement
    w: Agreement


def kendall_tau_b(
    first: npt.ArrayLike,
    *,
    second: npt.ArrayLike,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Kendall's τ-b of two rankings of n items, ties corrected (Kendall 1945), with an interval over items.

    Costs n² for the value and resamples · n² for the interval. Raises ValueError on different lengths and on NaN.
    """
    ranks = _ranks_of([first, second]).T
    sampling = Sampling(resamples=resamples, seed=seed, confidence=confidence)
    value = float(_tau_b(ranks, weights=np.ones((1, len(ranks))))[0])
    interval = NOWHERE
    if math.isfinite(value) and len(ranks) > 1:
        drawn = [_tau_b(ranks, weights=weights) for weights in draw_weights(len(ranks), sampling=sampling)]
        interval = percentile_interval(np.concatenate(drawn), sampling=sampling) if drawn else NOWHERE
    undefined = "" if math.isfinite(value) else ALL_TIED
    return Agreement(value, interval, confidence, len(ranks), 2, 2 * len(ranks), undefined)


def kendall_w(
    ranks: npt.ArrayLike, *, confidence: float = CONFIDENCE, resamples: int = RESAMPLES, seed: int = 0
) -> Agreement:
    """Kendall's coefficient of concordance W, ties corrected (Kendall and Babington Smith 1939; Kendall 1948).

    `ranks`: a row an item, a column a rater, without gaps; any numbers that order the items will do. W is 1 where all
    raters give one order and 0 where their rank sums are equal. The interval is over items. Raises ValueError on gaps
    and unless there are two raters.
    """
    table = _ranks_of(ranks)
    if table.shape[1] < 2:
        raise ValueError("Concordance is about two raters or more.")
    sampling = Sampling(resamples=resamples, seed=seed, confidence=confidence)
    value = float(_w(table, weights=np.ones((1, len(table))))[0])
    interval = NOWHERE
    if math.isfinite(value) and len(table) > 1:
        drawn = [_w(table, weights=weights) for weights in draw_weights(len(table), sampling=sampling)]
        interval = percentile_interval(np.concatenate(drawn), sampling=sampling) if drawn else NOWHERE
    undefined = "" if math.isfinite(value) else ALL_TIED
    items, raters = table.shape
    return Agreement(value, interval, confidence, items, raters, table.size, undefined)


def concordance_by_slate(
    ranks: npt.ArrayLike,
    *,
    slates: Labels,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Concordance:
    """τ-b and W within slates, each averaged over the slates that have two rankings; intervals over slates.

    `ranks`: (R, K), a ranking a row, NaN where an item was not ranked or the slate is smaller; equal ranks are ties.
    A ranking counts where it is complete, that is, ranks as many items as the slate's fullest. A ranking that ties
    everything has no τ-b with another, and a slate in which all do has no W: they are left out. A slate's mean τ-b over
    m rankings with unit sign vectors u is (|Σ u|² - m) / (m (m - 1)).
    """
    sampling = Sampling(resamples=resamples, seed=seed, confidence=confidence)
    table = np.asarray(ranks, dtype=float)
    if table.ndim != 2 or not table.size:
        raise ValueError("Ranks must be a table: a row a ranking, a column an item.")
    slate, n_slates = encode_groups(slates, rows=len(table))
    placed = np.isfinite(table).sum(axis=1)
    fullest = np.zeros(n_slates, dtype=np.intp)
    np.maximum.at(fullest, slate, placed)
    is_complete = (placed == fullest[slate]) & (placed >= 2)
    table, slate = table[is_complete], slate[is_complete]

    left, right = np.triu_indices(table.shape[1], 1)
    signs = np.nan_to_num(np.sign(table[:, left] - table[:, right]))
    lengths = np.sqrt((signs**2).sum(axis=1))
    orders = lengths > 0
    unit = signs[orders] / lengths[orders, None]
    m = np.bincount(slate[orders], minlength=n_slates)
    tau = _mean_cosines(_sum_by(slate[orders], rows=unit, n_groups=n_slates), m=m)

    deviations = np.zeros_like(table)
    for pair, (i, j) in enumerate(zip(left, right, strict=True)):
        deviations[:, i] += signs[:, pair] / 2
        deviations[:, j] -= signs[:, pair] / 2
    raters = np.bincount(slate, minlength=n_slates)
    within = raters * np.bincount(slate, weights=(deviations**2).sum(axis=1), minlength=n_slates)
    between = (_sum_by(slate, rows=deviations, n_groups=n_slates) ** 2).sum(axis=1)
    w = np.divide(between, within, out=np.full(n_slates, math.nan), where=(raters > 1) & (within > 0))
    return Concordance(
        tau_b=_mean_over_slates(tau, n_values=m, sampling=sampling),
        w=_mean_over_slates(w, n_values=raters, sampling=sampling),
    )


def intransitivity_rate(
    left: Labels,
    *,
    right: Labels,
    outcomes: npt.ArrayLike,
    groups: Labels | None = None,
    items: Sequence[Hashable] | None = None,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """The share of cyclic triples (A over B, B over C, C over A) among triples whose three pairs were all decided.

    Circular triads after Kendall and Babington Smith (1940), in tournaments that may be incomplete. `outcomes`: 1, 1/2
    or 0 for the left; a pair is decided by the majority of its comparisons within a group (a prompt, or a prompt and an
    annotator), and undecided where they balance. A coin would make a quarter of triples cyclic. The interval is over
    groups; over items where there is a single group. `n_units` counts triples, `n_values` comparisons.
    """
    sampling = Sampling(resamples=resamples, seed=seed, confidence=confidence)
    score = np.asarray(outcomes, dtype=float)
    (one, other), names = encode_items(left, right, items=items)
    if not len(one) == len(other) == len(score):
        raise ValueError(f"There are {len(one)} left, {len(other)} right items and {len(score)} outcomes.")
    if not len(score):
        raise ValueError("There are no comparisons.")
    if not np.isfinite(score).all() or score.min() < 0 or score.max() > 1:
        raise ValueError("Outcomes must lie between 0 (the right won) and 1 (the left won).")
    if (one == other).any():
        raise ValueError("An item is compared with itself.")
    group, n_groups = np.zeros(len(score), dtype=np.intp), 1
    if groups is not None:
        group, n_groups = encode_groups(groups, rows=len(score))
    wins = _majorities(score, one=one, other=other, group=group, n_groups=n_groups, n_items=len(names))
    cyclic, triples = _count_triads(wins, n_groups=n_groups)
    total = triples.sum()
    value = float(cyclic.sum() / total) if total else math.nan
    interval = NOWHERE
    if total and n_groups > 1:
        used = triples > 0
        interval = bootstrap_sums(
            np.stack([cyclic[used], triples[used]], axis=1),
            statistic=lambda sums: sums[:, 0] / sums[:, 1],
            sampling=sampling,
        )
    elif total:
        interval = _interval_over_items(wins, sampling=sampling)
    return Agreement(value, interval, confidence, round(total), None, len(score), "" if total else NO_TRIPLE)


def _ranks_of(ranks: Any) -> Floats:
    try:
        table = np.asarray(ranks, dtype=float)
    except ValueError as error:
        raise ValueError("Rankings must be numbers, and rank the same items.") from error
    if table.ndim != 2 or not table.size:
        raise ValueError("Rankings must be numbers, and rank the same items.")
    if np.isnan(table).any():
        raise ValueError("A rank is missing; leave out items that not everybody ranked.")
    return table


def _tau_b(ranks: Floats, *, weights: Floats) -> Floats:
    """τ-b (b,) of the two columns of `ranks` (n, 2), item i standing weights[b, i] times. A block of rows at a time."""
    sums = np.zeros((3, len(weights)))
    for start in range(0, len(ranks), ROWS_AT_ONCE):
        some = slice(start, start + ROWS_AT_ONCE)
        one, other = (np.sign(ranks[some, None, k] - ranks[None, :, k]) for k in (0, 1))
        for k, products in enumerate((one * other, one * one, other * other)):
            sums[k] += np.einsum("bi,bi->b", weights[:, some], weights @ products.T)
    return np.divide(
        sums[0], np.sqrt(sums[1] * sums[2]), out=np.full(len(weights), math.nan), where=(sums[1] > 0) & (sums[2] > 0)
    )


def _w(ranks: Floats, *, weights: Floats) -> Floats:
    """W (b,) of `ranks` (n, m): Σ_i w_i (Σ_j d_ij)² / (m Σ_i w_i Σ_j d_ij²), d the deviations of mid-ranks."""
    total = np.zeros_like(weights)
    squares = np.zeros(len(weights))
    for column in ranks.T:
        _values, code = np.unique(column, return_inverse=True)
        tied = np.stack([np.bincount(code, weights=row) for row in weights])  # (b, distinct ranks)
        places = np.cumsum(tied, axis=1) - (tied + tied.sum(axis=1, keepdims=True)) / 2
        deviations = places[:, code]
        total += deviations
        squares += (weights * deviations**2).sum(axis=1)
    within = ranks.shape[1] * squares
    return np.divide((weights * total**2).sum(axis=1), within, out=np.full(len(weights), math.nan), where=within > 0)


def _sum_by(group: Codes, *, rows: Floats, n_groups: int) -> Floats:
    """Sums (G, F) of rows (R, F) by group (R,)."""
    return np.stack([np.bincount(group, weights=column, minlength=n_groups) for column in rows.T], axis=1)


def _mean_cosines(sums: Floats, *, m: Codes) -> Floats:
    """The mean cosine of each two of m unit vectors whose sums (G, F) are given; NaN where there are not two."""
    squares = (sums**2).sum(axis=1)
    return np.divide(squares - m, m * (m - 1.0), out=np.full(len(m), math.nan), where=m > 1)


def _mean_over_slates(values: Floats, *, n_values: Codes, sampling: Sampling) -> Agreement:
    """The mean of what is defined; `n_units` counts slates, `n_values` rankings."""
    defined = np.isfinite(values)
    if not defined.any():
        return Agreement(math.nan, NOWHERE, sampling.confidence, 0, None, 0, NO_PAIR_OF_RANKINGS)
    kinds, multiplicity = np.unique(np.round(values[defined], 12), return_counts=True)
    rows = np.stack([kinds, np.ones(len(kinds))], axis=1)
    interval = bootstrap_sums(
        rows, multiplicity=multiplicity, statistic=lambda sums: sums[:, 0] / sums[:, 1], sampling=sampling
    )
    value = float(values[defined].mean())
    return Agreement(value, interval, sampling.confidence, int(defined.sum()), None, int(n_values[defined].sum()))


@dataclass(frozen=True)
class _Wins:
    """Decided pairs by group: `winner` beat `loser`, items numbered 0 … size - 1 within their group."""

    group: Codes
    winner: Codes
    loser: Codes
    size: Codes


def _majorities(
    score: Floats,
    *,
    one: npt.NDArray[Any],
    other: npt.NDArray[Any],
    group: Codes,
    n_groups: int,
    n_items: int,
) -> _Wins:
    place = np.concatenate([group, group]) * n_items + np.concatenate([one, other])
    present, local = np.unique(place, return_inverse=True)
    size = np.bincount(present // n_items, minlength=n_groups)
    local = local - (np.cumsum(size) - size)[np.concatenate([group, group])]
    one, other = local[: len(score)], local[len(score) :]
    most = int(size.max())
    key = (group * most + np.minimum(one, other)) * most + np.maximum(one, other)
    pairs, pair = np.unique(key, return_inverse=True)
    margin = np.bincount(pair, weights=np.where(one < other, 2 * score - 1, 1 - 2 * score))
    margin[np.abs(margin) < 1e-9] = 0.0
    pairs, margin = pairs[margin != 0], margin[margin != 0]
    low, high = pairs // most % most, pairs % most
    return _Wins(
        group=pairs // most**2,
        winner=np.where(margin > 0, low, high),
        loser=np.where(margin > 0, high, low),
        size=size,
    )


def _count_triads(wins: _Wins, *, n_groups: int) -> tuple[Floats, Floats]:
    """Cyclic and decided triples of each group: tr A³ / 3 and tr (A + A')³ / 6, groups of one size at once."""
    cyclic, triples = np.zeros(n_groups), np.zeros(n_groups)
    for size in np.unique(wins.size[wins.size > 2]):
        groups = np.flatnonzero(wins.size == size)
        most = max(1, (1 << 22) // int(size) ** 2)
        for start in range(0, len(groups), most):
            some = groups[start : start + most]
            beats = _tables(wins, groups=some, size=int(size), n_groups=n_groups)
            cyclic[some] = np.einsum("gij,gji->g", beats @ beats, beats) / 3
            met = beats + beats.transpose(0, 2, 1)
            triples[some] = np.einsum("gij,gji->g", met @ met, met) / 6
    return np.round(cyclic), np.round(triples)


def _tables(wins: _Wins, *, groups: Codes, size: int, n_groups: int) -> Floats:
    """Who beat whom, (G, size, size)."""
    place = np.full(n_groups, -1)
    place[groups] = np.arange(len(groups))
    at = place[wins.group]
    beats = np.zeros((len(groups), size, size))
    beats[at[at >= 0], wins.winner[at >= 0], wins.loser[at >= 0]] = 1
    return beats


def _interval_over_items(wins: _Wins, *, sampling: Sampling) -> tuple[float, float]:
    """Items drawn again with all their comparisons: the triples of a sample are weighed by the product of weights."""
    size = int(wins.size[0])
    beats = _tables(wins, groups=np.array([0]), size=size, n_groups=1)[0]
    met = beats + beats.T
    shares = []
    for drawn in draw_weights(size, sampling=sampling):
        for weights in drawn:
            triples = _trace_of_cube(met * weights)
            shares.append(2 * _trace_of_cube(beats * weights) / triples if triples else math.nan)
    return percentile_interval(np.array(shares), sampling=sampling)


def _trace_of_cube(table: Floats) -> float:
    return float(np.einsum("ij,ji->", table @ table, table))
