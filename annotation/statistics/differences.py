"""Paired differences with a bootstrap interval."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

RESAMPLES = 2000


def paired_difference(old: Sequence[float], *, new: Sequence[float], seed: int = 0) -> dict[str, Any]:
    """Compare two figures of the same n units (prompts).

    Returns means, their difference new - old with a 95 % percentile bootstrap interval over units (Efron and
    Tibshirani 1993, chapter 13), and the share of units on which new is higher (equal counts half), with its interval.
    Raises ValueError unless both have the same length of at least 1.
    """
    if len(old) != len(new) or not old:
        raise ValueError("Both sides need the same units, at least one.")
    differences = [b - a for a, b in zip(old, new, strict=True)]
    n, rng = len(differences), random.Random(seed)
    wins = [(d > 0) + 0.5 * (d == 0) for d in differences]

    def interval(values: list[float]) -> list[float]:
        resampled = sorted(sum(rng.choices(values, k=n)) / n for _ in range(RESAMPLES))
        return [resampled[round(0.025 * RESAMPLES)], resampled[round(0.975 * RESAMPLES) - 1]]

    return {
        "prompts": n,
        "old_mean": sum(old) / n,
        "new_mean": sum(new) / n,
        "difference": sum(differences) / n,
        "interval": interval(differences),
        "win_rate": sum(wins) / n,
        "win_rate_interval": interval(wins),
    }
