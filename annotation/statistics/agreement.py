"""How far raters agree: beyond chance, in percent, in order; each with a bootstrap interval over units.

`krippendorff_alpha`, `percent_agreement`, `cohen_kappa` and `fleiss_kappa` read `ReliabilityData`, or a table with a
row a unit and a column a rater. The measures of order (Kendall's τ-b and W, intransitivity) are made in `concordance`
and named here too. Formulas, sources and when to read which: docs/statistics.md.

Where a measure is not defined (nobody judged twice, nothing varies) its value is NaN and `undefined` says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt

from annotation.statistics.concordance import (
    concordance_by_slate,
    intransitivity_rate,
    kendall_tau_b,
    kendall_w,
)
from annotation.statistics.reliability import Agreement, ReliabilityData, as_reliability_data
from annotation.statistics.resampling import (
    CONFIDENCE,
    NOWHERE,
    RESAMPLES,
    Sampling,
    bootstrap_units,
    draw_weights,
    percentile_interval,
)

__all__ = [
    "Agreement",
    "ReliabilityData",
    "cohen_kappa",
    "concordance_by_slate",
    "fleiss_kappa",
    "intransitivity_rate",
    "kendall_tau_b",
    "kendall_w",
    "krippendorff_alpha",
    "percent_agreement",
]

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]
Level = Literal["nominal", "ordinal", "interval", "ratio"]
Weighting = Literal["none", "linear", "quadratic"]

FEW_VALUES = 32
"""Up to so many distinct values, α is computed from V x V coincidences; beyond, from sums by unit."""
MOST_CATEGORIES = 1024
"""More cannot be categories: a kappa over them would be a mistake, and its table would not fit."""

NO_PAIR = "No unit has two values."
NO_SHARED_UNIT = "The two have no unit in common."
NO_VARIATION = "All values are the same, so that chance alone would agree."


def krippendorff_alpha(
    data: ReliabilityData | npt.ArrayLike,
    *,
    level: Level = "nominal",
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Krippendorff's α for any number of raters, missing values and four levels of measurement.

    α = 1 - D_o / D_e over coincidences of values within units (Krippendorff 2018, "Content Analysis", chapter 12).
    Raises ValueError on an unknown level, on texts where numbers are needed, and on negative values of a ratio.
    """
    data = as_reliability_data(data)
    sampling = Sampling(resamples=resamples, seed=seed, confidence=confidence)
    if level not in get_args(Level):
        raise ValueError(f"Unknown level {level!r}; use one of {', '.join(get_args(Level))}.")
    if level != "nominal" and not data.is_numeric:
        raise ValueError(f"Texts have no {level} level; give numbers, or use nominal.")
    if level == "ratio" and len(data.values) and data.values.min() < 0:
        raise ValueError("Values on a ratio scale cannot be negative.")
    found = _Coincidences(data, level=level) if len(data.values) <= FEW_VALUES else _Sums(data, level=level)
    value = found.alpha() if found.n_units else math.nan
    undefined = "" if math.isfinite(value) else NO_VARIATION if found.n_units else NO_PAIR
    interval = NOWHERE if undefined or not resamples else found.interval(sampling=sampling)
    return Agreement(value, interval, confidence, found.n_units, data.n_raters, found.n_values, undefined)


def percent_agreement(
    data: ReliabilityData | npt.ArrayLike,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """The share of pairs of values of one unit that are equal, over all units; not corrected for chance."""
    data = as_reliability_data(data)
    unit, _code, count = data.entries
    per_unit = np.bincount(unit, weights=count, minlength=data.n_units).astype(np.int64)
    agreeing = np.bincount(unit, weights=count * (count - 1) // 2, minlength=data.n_units).astype(np.int64)
    return _measure(
        data,
        units=np.stack([agreeing, per_unit * (per_unit - 1) // 2], axis=1),
        per_unit=per_unit,
        rows_of=lambda units: units.astype(float),
        statistic=lambda sums: _divide(sums[:, 0], sums[:, 1]),
        sampling=Sampling(resamples=resamples, seed=seed, confidence=confidence),
    )


def fleiss_kappa(
    data: ReliabilityData | npt.ArrayLike,
    *,
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Fleiss' κ of many raters on categories (Fleiss 1971).

    Units may have different numbers of values: each unit then counts alike, in agreement and in the shares of the
    categories (Gwet 2014, "Handbook of Inter-Rater Reliability", chapter 2), which is Fleiss' where the numbers are
    equal. Units with a single value are left out.
    """
    data = as_reliability_data(data)
    _require_categories(data)

    def rows_of(counts: npt.NDArray[Any]) -> Floats:
        m = counts.sum(axis=1).astype(float)
        agreeing = (np.einsum("uv,uv->u", counts, counts) - m) / (m * (m - 1))
        return np.column_stack([np.ones(len(m)), agreeing, counts / m[:, None]])

    def kappa(sums: Floats) -> Floats:
        means = sums[:, 1:] / sums[:, :1]
        chance = (means[:, 1:] ** 2).sum(axis=1)
        return _divide(means[:, 0] - chance, _zero_if_tiny(1 - chance))

    return _measure(
        data,
        units=data.counts,
        per_unit=data.counts.sum(axis=1),
        rows_of=rows_of,
        statistic=kappa,
        sampling=Sampling(resamples=resamples, seed=seed, confidence=confidence),
    )


def cohen_kappa(
    data: ReliabilityData | npt.ArrayLike,
    *,
    raters: tuple[int, int] | None = None,
    weights: Weighting = "none",
    confidence: float = CONFIDENCE,
    resamples: int = RESAMPLES,
    seed: int = 0,
) -> Agreement:
    """Cohen's κ of two raters over the units that both judged (Cohen 1960); weighted by distance (Cohen 1968).

    `raters`: which two, where there are more. `weights`: disagreements count alike ("none"), by the distance of the
    values ("linear") or by its square. Raises ValueError unless there are two raters, and on texts with a distance.
    """
    data = as_reliability_data(data)
    sampling = Sampling(resamples=resamples, seed=seed, confidence=confidence)
    _require_categories(data)
    penalties = _penalties(data, weights=weights)
    unit, codes = _codes_of_two(data if raters is None else data.of_raters(*raters))
    v = len(data.values)

    def rows_of(codes: npt.NDArray[Any]) -> Floats:
        first, second = codes.T
        return np.column_stack([penalties[first, second], np.eye(v)[first], np.eye(v)[second]])

    def kappa(sums: Floats) -> Floats:
        observed, first, second = sums[:, 0], sums[:, 1 : v + 1], sums[:, v + 1 :]
        return 1 - _divide(observed * first.sum(axis=1), np.einsum("bi,ij,bj->b", first, penalties, second))

    value = float(kappa(rows_of(codes).sum(axis=0)[None])[0]) if len(unit) else math.nan
    undefined = "" if math.isfinite(value) else NO_VARIATION if len(unit) else NO_SHARED_UNIT
    interval = NOWHERE
    if not undefined:
        clusters = None if data.clusters is None else data.clusters[unit]
        interval = bootstrap_units(codes, clusters=clusters, rows_of=rows_of, statistic=kappa, sampling=sampling)
    return Agreement(value, interval, confidence, len(unit), 2, 2 * len(unit), undefined)


class _Coincidences:
    """α from coincidences: o_ck sums, over units of m values, their ordered pairs of values c, k over m - 1."""

    def __init__(self, data: ReliabilityData, *, level: Level) -> None:
        self.level = level
        self.values = data.values.astype(float) if data.is_numeric else np.arange(len(data.values), dtype=float)
        counts = data.counts.astype(float)
        m = counts @ np.ones(len(self.values))
        is_pairable = m >= 2
        self.n_units, self.n_values = int(is_pairable.sum()), int(m[is_pairable].sum())
        self.counts, self.m, self.clusters = counts, m, data.clusters
        if self.n_units < len(m):
            self.counts, self.m = counts[is_pairable], m[is_pairable]
            self.clusters = None if data.clusters is None else data.clusters[is_pairable]

    def alpha(self) -> float:
        shares = self.counts * (1 / (self.m - 1))[:, None]
        coincidences = self.counts.T @ shares
        np.fill_diagonal(coincidences, coincidences.diagonal() - shares.sum(axis=0))
        return float(self._alphas(coincidences[None])[0])

    def interval(self, *, sampling: Sampling) -> tuple[float, float]:
        v = len(self.values)
        low, high = np.triu_indices(v)

        def rows_of(counts: npt.NDArray[Any]) -> Floats:
            pairs = counts[:, low] * counts[:, high].astype(float)
            pairs[:, low == high] -= counts
            return pairs / (counts.sum(axis=1) - 1.0)[:, None]

        def statistic(sums: Floats) -> Floats:
            coincidences = np.empty((len(sums), v, v))
            coincidences[:, low, high] = sums
            coincidences[:, high, low] = sums
            return self._alphas(coincidences)

        return bootstrap_units(
            self.counts, clusters=self.clusters, rows_of=rows_of, statistic=statistic, sampling=sampling
        )

    def _alphas(self, coincidences: Floats) -> Floats:
        """α (b,) of coincidences (b, V, V)."""
        marginals = coincidences.sum(axis=2)
        total = marginals.sum(axis=1)
        distances = self._distances(marginals)
        observed = np.einsum("bvw,bvw->b", coincidences, distances)
        expected = np.einsum("bv,bvw,bw->b", marginals, distances, marginals)
        return 1 - (total - 1) * _divide(observed, expected)

    def _distances(self, marginals: Floats) -> Floats:
        """δ² between values, (b, V, V) or (1, V, V)."""
        if self.level == "nominal":
            return np.broadcast_to(1 - np.eye(len(self.values)), (len(marginals), *[len(self.values)] * 2))
        if self.level == "ordinal":
            places = np.cumsum(marginals, axis=1) - marginals / 2  # mean ranks: δ is how many values lie between
        else:
            places = np.broadcast_to(self.values, marginals.shape)
        differences: Floats = places[:, :, None] - places[:, None, :]
        if self.level == "ratio":
            differences = _divide(differences, places[:, :, None] + places[:, None, :], otherwise=0.0)
        return differences**2


class _Sums:
    """α from sums by unit, for many distinct values: squared distances need no table of values.

    Within a unit, Σ_{c,k} n_c n_k (x_c - x_k)² = 2 (m Σ n x² - (Σ n x)²); ordinal distances are those of mean ranks.
    """

    def __init__(self, data: ReliabilityData, *, level: Level) -> None:
        self.level, self.clusters = level, data.clusters
        unit, code, count = data.entries
        self.m: Floats = np.bincount(unit, weights=count, minlength=data.n_units).astype(float)
        is_used = self.m[unit] >= 2
        self.unit, self.code = unit[is_used], code[is_used]
        self.count: Floats = count[is_used].astype(float)
        self.m[self.m < 2] = 0
        self.n_units, self.n_values = int((self.m > 0).sum()), int(self.m.sum())
        self.values = data.values.astype(float) if data.is_numeric else np.arange(len(data.values), dtype=float)
        if level != "ratio" and len(self.values):
            self.values = self.values - self.values.mean()
        self.within = None if level == "ordinal" else self._within(self.values)

    def alpha(self) -> float:
        return self._alpha(np.ones(len(self.m)))

    def interval(self, *, sampling: Sampling) -> tuple[float, float]:
        groups = np.arange(len(self.m)) if self.clusters is None else self.clusters
        labels, cluster = np.unique(groups[self.m > 0], return_inverse=True)
        if len(labels) < 2:
            return NOWHERE
        of_unit, values = np.zeros(len(self.m)), []
        for drawn in draw_weights(len(labels), sampling=sampling):
            for weights in drawn:
                of_unit[self.m > 0] = weights[cluster]
                values.append(self._alpha(of_unit))
        return percentile_interval(np.array(values), sampling=sampling)

    def _alpha(self, weights: Floats) -> float:
        """α where unit u stands weights[u] times."""
        marginals: Floats = np.bincount(
            self.code, weights=self.count * weights[self.unit], minlength=len(self.values)
        ).astype(float)
        places, within = self.values, self.within
        if within is None:
            places = np.cumsum(marginals) - (marginals + marginals.sum()) / 2
            within = self._within(places)
        expected = self._expected(marginals, places=places)
        return float(1 - (marginals.sum() - 1) * (weights @ within) / expected) if expected > 0 else math.nan

    def _within(self, places: Floats) -> Floats:
        """Σ n_c n_k δ²_ck / (m - 1) of each unit, (U,)."""
        if self.level == "nominal":
            found = self.m**2 - np.bincount(self.unit, weights=self.count**2, minlength=len(self.m))
        elif self.level == "ratio":
            found = self._ratios_within()
        else:
            at = places[self.code]
            first = np.bincount(self.unit, weights=self.count * at, minlength=len(self.m))
            second = np.bincount(self.unit, weights=self.count * at**2, minlength=len(self.m))
            found = 2 * (self.m * second - first**2)
        return found / np.maximum(self.m - 1, 1)

    def _ratios_within(self) -> Floats:
        """Entries of a unit stand side by side: its pairs are met at lag 1, 2, … until no unit is that long."""
        found = np.zeros(len(self.m))
        for lag in range(1, len(self.unit)):
            at = np.flatnonzero(self.unit[lag:] == self.unit[:-lag])
            if not len(at):
                break
            low, high = self.values[self.code[at]], self.values[self.code[at + lag]]
            pairs = 2 * self.count[at] * self.count[at + lag] * ((high - low) / (high + low)) ** 2
            found += np.bincount(self.unit[at], weights=pairs, minlength=len(found))
        return found

    def _expected(self, marginals: Floats, *, places: Floats) -> float:
        """Σ n_c n_k δ²_ck over all values."""
        total = marginals.sum()
        if self.level == "nominal":
            return float(total**2 - (marginals**2).sum())
        if self.level != "ratio":
            return float(2 * (total * (marginals @ places**2) - (marginals @ places) ** 2))
        found, piece = 0.0, max(1, (1 << 20) // len(places))
        for start in range(0, len(places), piece):
            some = places[start : start + piece, None]
            ratios = _divide(some - places, some + places, otherwise=0.0)
            found += float(marginals[start : start + piece] @ ratios**2 @ marginals)
        return found


def _measure(
    data: ReliabilityData,
    *,
    units: npt.NDArray[Any],
    per_unit: npt.NDArray[Any],
    rows_of: Callable[[npt.NDArray[Any]], Floats],
    statistic: Callable[[Floats], Floats],
    sampling: Sampling,
) -> Agreement:
    """A measure that is a function of sums over units of the rows (U, F) that `rows_of` makes of `units` (U, G)."""
    is_pairable = per_unit >= 2
    units, n_values = units[is_pairable], int(per_unit[is_pairable].sum())
    value = float(statistic(rows_of(units).sum(axis=0)[None])[0]) if len(units) else math.nan
    undefined = "" if math.isfinite(value) else NO_VARIATION if len(units) else NO_PAIR
    interval = NOWHERE
    if not undefined:
        clusters = None if data.clusters is None else data.clusters[is_pairable]
        interval = bootstrap_units(units, clusters=clusters, rows_of=rows_of, statistic=statistic, sampling=sampling)
    return Agreement(value, interval, sampling.confidence, len(units), data.n_raters, n_values, undefined)


def _penalties(data: ReliabilityData, *, weights: Weighting) -> Floats:
    """What each disagreement costs, (V, V)."""
    if weights not in get_args(Weighting):
        raise ValueError(f"Unknown weights {weights!r}; use one of {', '.join(get_args(Weighting))}.")
    if weights == "none":
        return 1 - np.eye(len(data.values))
    if not data.is_numeric:
        raise ValueError("Texts have no distance; give numbers, or no weights.")
    values = data.values.astype(float)
    distances: Floats = np.abs(values[:, None] - values)
    return distances if weights == "linear" else distances**2


def _codes_of_two(data: ReliabilityData) -> tuple[Codes, Codes]:
    """The units (U,) that both raters judged, and the codes (U, 2) of what they said."""
    triples = data.given
    if data.n_raters != 2:
        raise ValueError(f"Cohen's kappa is about two raters, and there are {data.n_raters}; say which two.")
    given = np.full((data.n_units, 2), -1, dtype=np.intp)
    given[triples.unit, triples.rater] = triples.value
    unit = np.flatnonzero((given >= 0).all(axis=1))
    return unit, given[unit]


def _require_categories(data: ReliabilityData) -> None:
    if len(data.values) > MOST_CATEGORIES:
        raise ValueError(f"There are {len(data.values)} different values; kappa is about a few categories.")


def _divide(above: Floats, below: Floats, *, otherwise: float = math.nan) -> Floats:
    """Quotients, `otherwise` where nothing stands below."""
    shape = np.broadcast_shapes(np.shape(above), np.shape(below))
    return np.divide(above, below, out=np.full(shape, otherwise), where=np.asarray(below) != 0)


def _zero_if_tiny(differences: Floats) -> Floats:
    """What rounding has left of 1 - 1 is nothing."""
    return np.where(np.abs(differences) < 1e-12, 0.0, differences)
