"""How often each item beat each other, with Wilson intervals: what is seen before any model is believed."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import Any

import numpy as np
import numpy.typing as npt

from annotation.statistics.codes import Labels, encode_items

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class WinRates:
    """Tables (n, n) over `items`, the row against the column.

    `wins` and `ties` are counts (or sums of weights); `rates` = (wins + ties / 2) / comparisons, NaN where the two
    never met; `lower` and `upper` are Wilson bounds. rates + rates' = 1, and lower + upper' = 1.
    """

    items: tuple[Hashable, ...]
    wins: Floats
    ties: Floats
    rates: Floats
    lower: Floats
    upper: Floats
    confidence: float

    @property
    def comparisons(self) -> Floats:
        """How often the two met, (n, n)."""
        return self.wins + self.wins.T + self.ties

    def overall(self) -> Floats:
        """Each item's mean rate over the opponents that it met, each counting alike, (n,); NaN where there are none.

        It depends on who the opponents were; the score of a model does not.
        """
        met = np.isfinite(self.rates)
        number = met.sum(axis=1)
        total = np.where(met, self.rates, 0.0).sum(axis=1)
        return np.divide(total, number, out=np.full(len(self.items), math.nan), where=number > 0)


def win_rates(
    left: Labels,
    *,
    right: Labels,
    outcomes: npt.ArrayLike,
    items: Sequence[Hashable] | None = None,
    weights: npt.ArrayLike | None = None,
    confidence: float = 0.95,
) -> WinRates:
    """Count comparisons of `left[r]` with `right[r]`: 1 where the left won, 0 where the right did, 1/2 for a tie.

    `weights`: how often each row counts. Intervals are Wilson's (1927, "Probable inference, the law of succession, and
    statistical inference") for the comparisons of a pair as independent trials, a tie being half a win; several pairs
    of one ranking are not independent of each other, though each pair's own are. Raises ValueError on unreadable data,
    an item compared with itself, and other outcomes.
    """
    if not 0 < confidence < 1:
        raise ValueError(f"The confidence must lie between 0 and 1, not be {confidence}.")
    (one, other), names = encode_items(left, right, items=items)
    score = read_outcomes(outcomes, rows=len(one), other_rows=len(other))
    counted = _read_weights(weights, rows=len(one))
    if (one == other).any():
        raise ValueError("An item is compared with itself.")
    n = len(names)
    place = one.astype(np.intp) * n + other
    wins, ties, losses = (_count(place, where=score == result, weights=counted, n=n) for result in (1.0, 0.5, 0.0))
    wins, ties = wins + losses.T, ties + ties.T
    rates, lower, upper = _wilson(wins + ties / 2, trials=wins + wins.T + ties, confidence=confidence)
    return WinRates(tuple(names), wins, ties, rates, lower, upper, confidence)


def read_outcomes(outcomes: npt.ArrayLike, *, rows: int, other_rows: int) -> Floats:
    """Outcomes (N,) of N comparisons, each 0, 1/2 or 1. Raises ValueError on other numbers and on different lengths."""
    score = np.asarray(outcomes, dtype=float)
    if score.ndim != 1 or not len(score) == rows == other_rows:
        raise ValueError(f"There are {rows} left and {other_rows} right items, and {score.size} outcomes.")
    if not rows:
        raise ValueError("There are no comparisons.")
    if not np.isin(score, (0.0, 0.5, 1.0)).all():
        raise ValueError("An outcome must be 1 (the left won), 0 (the right won) or 1/2 (a tie).")
    return score


def _read_weights(weights: npt.ArrayLike | None, *, rows: int) -> Floats | None:
    if weights is None:
        return None
    read = np.asarray(weights, dtype=float)
    if read.shape != (rows,):
        raise ValueError(f"There are {rows} comparisons and {read.size} weights.")
    if not np.isfinite(read).all() or read.min() < 0:
        raise ValueError("Weights must be finite and not negative.")
    return read


def _count(place: npt.NDArray[Any], *, where: npt.NDArray[Any], weights: Floats | None, n: int) -> Floats:
    counted = np.bincount(place[where], weights=None if weights is None else weights[where], minlength=n * n)
    return counted.astype(float).reshape(n, n)


def _wilson(successes: Floats, *, trials: Floats, confidence: float) -> tuple[Floats, Floats, Floats]:
    """Shares with their Wilson bounds, NaN where there were no trials."""
    z = NormalDist().inv_cdf((1 + confidence) / 2)
    n = np.where(trials > 0, trials, math.nan)
    share = successes / n
    centre = (share + z**2 / (2 * n)) / (1 + z**2 / n)
    margin = z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2)) / (1 + z**2 / n)
    return share, np.maximum(centre - margin, 0.0), np.minimum(centre + margin, 1.0)
