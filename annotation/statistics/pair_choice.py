"""Which two items to compare next: where a judgement is expected to teach most.

A comparison of i with j adds w d d' to the information about the scores, d = e_i - e_j, w = E[p (1 - p)], the
expectation being over what is not known of the difference (Lindley 1956, "On a measure of the information provided by
an experiment"; Glickman and Jensen 2005, "Adaptive paired comparison designs"). By the matrix determinant lemma and
Sherman–Morrison, with v the variance of the difference and Σ the covariance of the scores,

    "information"   1/2 log(1 + w v)                nats about all scores (D-optimal)
    "variance"      w |Σ d|² / (1 + w v)            off the sum of the variances (A-optimal)
    "difference"    w (c' Σ d)² / (1 + w v)         off the variance of one difference, c = e_a - e_b
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]
Goal = Literal["information", "variance", "difference"]

NODES, NODE_WEIGHTS = np.polynomial.hermite_e.hermegauss(15)
NODE_WEIGHTS = NODE_WEIGHTS / NODE_WEIGHTS.sum()


@dataclass(frozen=True)
class PairChoice:
    """Two items by number, and what comparing them is expected to gain; infinite where it joins what was apart."""

    left: int
    right: int
    gain: float


def expected_gains(
    scores: npt.ArrayLike,
    *,
    covariance: npt.ArrayLike,
    goal: Goal = "information",
    difference: tuple[int, int] | None = None,
) -> Floats:
    """What one more comparison of each two items is expected to gain, (n, n); -inf on the diagonal.

    `scores` (n,) are log-worths and `covariance` (n, n) theirs, as a Bradley–Terry fit gives them; NaN between items
    that no chain of comparisons joins, for which the gain is infinite. `difference`: the a and b of that goal. Raises
    ValueError on other shapes, unknown goals, and a goal "difference" without its two items.
    """
    s, cov = _read(scores, covariance=covariance)
    return _gains(s, cov, goal=goal, contrast=_read_contrast(goal, difference=difference, n=len(s)))


def choose_pairs(
    scores: npt.ArrayLike,
    *,
    covariance: npt.ArrayLike,
    count: int = 1,
    goal: Goal = "information",
    difference: tuple[int, int] | None = None,
    allowed: npt.ArrayLike | None = None,
) -> list[PairChoice]:
    """The `count` comparisons to ask for next, best first; the same two items may come again.

    Greedy: after each choice the covariance is that after one such comparison, so that a batch does not ask the same
    thing many times over. `allowed` (n, n) says which pairs can be asked. Fewer come back where no pair is left that
    gains anything. Raises ValueError as `expected_gains` does.
    """
    s, cov = _read(scores, covariance=covariance)
    contrast = _read_contrast(goal, difference=difference, n=len(s))
    may = np.ones((len(s), len(s)), dtype=bool) if allowed is None else np.asarray(allowed, dtype=bool)
    if may.shape != cov.shape:
        raise ValueError(f"`allowed` must be a table of {len(s)} by {len(s)}.")
    part = _parts(cov)
    chosen: list[PairChoice] = []
    while len(chosen) < count:
        gains = _gains(s, cov, goal=goal, contrast=contrast)
        gains[np.isinf(gains) & (part[:, None] == part)] = -math.inf  # joined by a choice before this one
        gains[~(may | may.T)] = -math.inf
        once = np.where(np.triu(np.ones(cov.shape, dtype=bool), 1), gains, -math.inf)
        left, right = (int(at) for at in np.unravel_index(np.argmax(once), cov.shape))
        gain = float(gains[left, right])
        if not gain > 0:
            break
        chosen.append(PairChoice(left, right, gain))
        if math.isinf(gain):
            part = np.where(part == part[right], part[left], part)
        else:
            cov = _after(cov, left=left, right=right, information=_information(s, cov)[left, right])
    return chosen


def _gains(scores: Floats, covariance: Floats, *, goal: Goal, contrast: Floats) -> Floats:
    v = _variances(covariance)
    w = _information(scores, covariance)
    known = np.nan_to_num(covariance)
    if goal == "information":
        gains = np.log1p(w * v) / 2
    elif goal == "variance":
        gains = w * _variances(known @ known) / (1 + w * v)
    else:
        toward = known @ contrast
        gains = w * (toward[:, None] - toward) ** 2 / (1 + w * v)
    gains = np.where(np.isfinite(v), gains, math.inf)
    np.fill_diagonal(gains, -math.inf)
    return gains


def _information(scores: Floats, covariance: Floats) -> Floats:
    """E[p (1 - p)] for each two items, (n, n), their difference being normal; by Gauss–Hermite quadrature."""
    difference = scores[:, None] - scores
    deviation = np.sqrt(np.maximum(_variances(covariance), 0))
    found = np.zeros_like(difference)
    for node, weight in zip(NODES, NODE_WEIGHTS, strict=True):
        found += weight / (4 * np.cosh((difference + node * deviation) / 2) ** 2)  # p (1 - p) = 1 / (4 cosh²(x / 2))
    return found


def _variances(covariance: Floats) -> Floats:
    """Of the difference of each two items, (n, n)."""
    diagonal = np.diag(covariance)
    return diagonal[:, None] + diagonal - 2 * covariance


def _after(covariance: Floats, *, left: int, right: int, information: float) -> Floats:
    """The covariance after one more comparison."""
    toward = covariance[:, left] - covariance[:, right]
    change = information * np.outer(toward, toward) / (1 + information * (toward[left] - toward[right]))
    return covariance - np.nan_to_num(change)


def _parts(covariance: Floats) -> npt.NDArray[np.intp]:
    """For each item the first of those that it can be compared with, (n,)."""
    comparable = np.isfinite(covariance) | np.eye(len(covariance), dtype=bool)
    return np.argmax(comparable, axis=1)


def _read(scores: npt.ArrayLike, *, covariance: npt.ArrayLike) -> tuple[Floats, Floats]:
    s, cov = np.asarray(scores, dtype=float), np.asarray(covariance, dtype=float)
    if s.ndim != 1 or len(s) < 2:
        raise ValueError("There must be scores of two items at least.")
    if cov.shape != (len(s), len(s)):
        raise ValueError(f"The covariance of {len(s)} scores must be a table of {len(s)} by {len(s)}.")
    if np.isinf(s).any() or np.isinf(cov).any():
        raise ValueError("Scores and covariance must be finite, or NaN where nothing is known.")
    return s, cov


def _read_contrast(goal: Goal, *, difference: tuple[int, int] | None, n: int) -> Floats:
    if goal not in get_args(Goal):
        raise ValueError(f"Unknown goal {goal!r}; use one of {', '.join(get_args(Goal))}.")
    contrast = np.zeros(n)
    if goal == "difference":
        if difference is None or difference[0] == difference[1] or not all(0 <= item < n for item in difference):
            raise ValueError(f"The goal is a difference of two of {n} items; say which.")
        contrast[difference[0]], contrast[difference[1]] = 1.0, -1.0
    return contrast
