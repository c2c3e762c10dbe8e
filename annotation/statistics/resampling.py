"""Bootstrap by cluster: whole items are drawn again, with everything that was said of them.

What a statistic needs of a cluster is a row of sums, so that drawing clusters is weighing rows. Clusters with equal
rows are drawn together, which makes the cost one of distinct rows and not of clusters.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Codes = npt.NDArray[np.intp]

RESAMPLES = 1000
CONFIDENCE = 0.95
NOWHERE = (float("nan"), float("nan"))
"""The interval of what is not defined or was not asked for."""

PIECE = 1 << 22
"""Weights held at once: 32 MB."""


@dataclass(frozen=True)
class Sampling:
    """How a bootstrap is done: `resamples` samples (0: no interval) from `seed`, the middle `confidence` of them.

    Raises ValueError where that cannot be.
    """

    resamples: int = RESAMPLES
    seed: int = 0
    confidence: float = CONFIDENCE

    def __post_init__(self) -> None:
        if self.resamples < 0:
            raise ValueError(f"There cannot be {self.resamples} resamples.")
        if not 0 < self.confidence < 1:
            raise ValueError(f"The confidence must lie between 0 and 1, not be {self.confidence}.")


def draw_weights(rows: int, *, multiplicity: Codes | None = None, sampling: Sampling) -> Iterator[Floats]:
    """Weights (b, P) of P distinct rows in the bootstrap samples, some samples at a time.

    `multiplicity` (P,) says how many clusters have each row, one each without it. A sample draws as many clusters as
    there are, with replacement, so that its weights sum to their number (Efron and Tibshirani 1993, chapter 6).
    """
    rng = np.random.default_rng(sampling.seed)
    clusters = rows if multiplicity is None else int(multiplicity.sum())
    most = max(1, PIECE // max(rows, 1))
    for start in range(0, sampling.resamples, most):
        samples = min(most, sampling.resamples - start)
        if multiplicity is not None and 4 * rows <= clusters:
            yield rng.multinomial(clusters, multiplicity / clusters, size=samples).astype(float)
            continue
        row_of = None if multiplicity is None else np.repeat(np.arange(rows), multiplicity)
        weights = np.empty((samples, rows))
        for sample in range(samples):
            drawn = rng.integers(clusters, size=clusters)
            weights[sample] = np.bincount(drawn if row_of is None else row_of[drawn], minlength=rows)
        yield weights


def bootstrap_sums(
    rows: Floats, *, multiplicity: Codes | None = None, statistic: Callable[[Floats], Floats], sampling: Sampling
) -> tuple[float, float]:
    """Percentile interval of a statistic of sums over clusters.

    `rows`: (P, F), a cluster a row, or a kind of cluster with its `multiplicity`; `statistic` turns sums (b, F) into
    values (b,), NaN where it is not defined. See `percentile_interval`; a single cluster has no interval.
    """
    clusters = len(rows) if multiplicity is None else int(multiplicity.sum())
    if clusters < 2 or not sampling.resamples:
        return NOWHERE
    drawn = draw_weights(len(rows), multiplicity=multiplicity, sampling=sampling)
    return percentile_interval(np.concatenate([statistic(weights @ rows) for weights in drawn]), sampling=sampling)


def bootstrap_units(
    units: npt.NDArray[Any],
    *,
    clusters: Codes | None,
    rows_of: Callable[[npt.NDArray[Any]], Floats],
    statistic: Callable[[Floats], Floats],
    sampling: Sampling,
) -> tuple[float, float]:
    """The same from units (U, G) of non-negative integers, of which `rows_of` makes the rows (U, F) to be summed.

    `clusters` (U,) says which units are drawn together; without it each is drawn by itself.
    """
    if not sampling.resamples:
        return NOWHERE
    if clusters is None:
        kinds, multiplicity = collapse(units)
        return bootstrap_sums(rows_of(kinds), multiplicity=multiplicity, statistic=statistic, sampling=sampling)
    _labels, cluster = np.unique(clusters, return_inverse=True)
    rows = [np.bincount(cluster, weights=column) for column in rows_of(units).T]
    return bootstrap_sums(np.stack(rows, axis=1), statistic=statistic, sampling=sampling)


def percentile_interval(values: Floats, *, sampling: Sampling) -> tuple[float, float]:
    """The middle of bootstrap values; `NOWHERE` where less than half of them are defined."""
    defined = values[np.isfinite(values)]
    if not len(defined) or 2 * len(defined) < len(values):
        return NOWHERE
    tail = (1 - sampling.confidence) / 2
    low, high = np.quantile(defined, [tail, 1 - tail])
    return float(low), float(high)


def collapse(units: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], Codes]:
    """Distinct rows of non-negative integers (P, G) and how often each stands there (P,)."""
    width = units.shape[1]
    base = int(units.max(initial=0)) + 1
    if base**width < 1 << 62:
        place = base ** np.arange(width, dtype=np.int64)
        keys, counts = np.unique(units.astype(np.int64, copy=False) @ place, return_counts=True)
        return (keys[:, None] // place) % base, counts
    distinct, counts = np.unique(units, axis=0, return_counts=True)
    return distinct, counts
