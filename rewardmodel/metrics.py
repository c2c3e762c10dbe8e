"""Figures of pairwise accuracy and their uncertainty, on plain arrays. No torch.

A margin is score(chosen) - score(rejected). A margin of exactly 0 is a tie and counts as half right, so that a model
that gives every text the same score has accuracy 0.5.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

Interval = tuple[float, float]


def pairwise_accuracy(margins: Sequence[float] | np.ndarray) -> float:
    """Share of margins above 0, ties half. margins: (n,), n >= 1. Raises ValueError for none or for NaN."""
    return float(np.mean(correctness(margins)))


def log_loss(margins: Sequence[float] | np.ndarray) -> float:
    """Mean of -log sigmoid(margin), in nats: the Bradley-Terry loss of the pairs. margins: (n,), n >= 1."""
    values = as_margins(margins)
    return float(np.mean(np.logaddexp(0.0, -values)))


def brier_score(margins: Sequence[float] | np.ndarray) -> float:
    """Mean of (1 - sigmoid(margin))^2 (Brier 1950), 0 to 1: a coin's is 0.25. margins: (n,), n >= 1."""
    return float(np.mean(sigmoid(-as_margins(margins)) ** 2))


def sigmoid(values: np.ndarray) -> np.ndarray:
    """1 / (1 + e^-x) of any shape, without overflow."""
    return np.exp(-np.logaddexp(0.0, -values))


def wilson_interval(successes: float, *, n: int, z: float = 1.959963984540054) -> Interval:
    """Wilson's score interval for a proportion (Wilson 1927), by default at 95 %.

    successes may be fractional (ties count half). Raises ValueError unless 0 <= successes <= n and n >= 1.
    """
    if n < 1 or not 0 <= successes <= n:
        raise ValueError(f"need 0 <= successes <= n and n >= 1, got {successes} of {n}")
    share = successes / n
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def bootstrap_interval_by_prompt(
    margins: Sequence[float] | np.ndarray, *, prompt_ids: Sequence[str], draws: int = 2000, seed: int = 0
) -> Interval | None:
    """95 % percentile interval of the accuracy when whole prompts are drawn again (cluster bootstrap).

    Pairs of one prompt share its difficulty, and those of one ranking share responses, so the interval over prompts
    is the honest one. margins, prompt_ids: (n,). None for fewer than two prompts: nothing can be said of others then.
    """
    correct = correctness(margins)
    if len(prompt_ids) != len(correct):
        raise ValueError(f"{len(correct)} margins but {len(prompt_ids)} prompt ids")
    codes = np.unique(np.asarray(prompt_ids), return_inverse=True)[1]
    right = np.bincount(codes, weights=correct)  # (prompts,)
    pairs = np.bincount(codes)  # (prompts,)
    if len(pairs) < 2:
        return None
    generator = np.random.default_rng(seed)
    accuracies = np.empty(draws)
    for draw in range(draws):
        drawn = generator.integers(0, len(pairs), size=len(pairs))
        accuracies[draw] = right[drawn].sum() / pairs[drawn].sum()
    low, high = np.percentile(accuracies, [2.5, 97.5])
    return float(low), float(high)


def summarize_margins(margins: Sequence[float] | np.ndarray, *, prompt_ids: Sequence[str]) -> dict[str, Any]:
    """{n, n_prompts, accuracy, interval, interval_by_prompt, log_loss} of some pairs, ready for JSON."""
    correct = correctness(margins)
    by_prompt = bootstrap_interval_by_prompt(margins, prompt_ids=prompt_ids)
    return {
        "n": len(correct),
        "n_prompts": len(set(prompt_ids)),
        "accuracy": pairwise_accuracy(margins),
        "interval": list(wilson_interval(float(correct.sum()), n=len(correct))),
        "interval_by_prompt": list(by_prompt) if by_prompt else None,
        "log_loss": log_loss(margins),
    }


def summarize_longer_wins(lengths: Sequence[tuple[int, int]]) -> dict[str, Any]:
    """{accuracy, interval} of calling the longer one better. lengths: (chosen, rejected) characters, equal half."""
    margins = [float(chosen - rejected) for chosen, rejected in lengths]
    successes = float(correctness(margins).sum())
    return {
        "accuracy": pairwise_accuracy(margins),
        "interval": list(wilson_interval(successes, n=len(margins))),
    }


def as_margins(margins: Sequence[float] | np.ndarray) -> np.ndarray:
    """Margins as an array, (n,). Raises ValueError for none, or for one that is no finite number."""
    values = np.asarray(margins, dtype=np.float64)
    if values.ndim != 1 or len(values) == 0:
        raise ValueError("need at least one margin")
    if not np.isfinite(values).all():
        raise ValueError("a margin is not a finite number")
    return values


def correctness(margins: Sequence[float] | np.ndarray) -> np.ndarray:
    """1 for a margin above 0, 0.5 for a tie, 0 below. (n,) -> (n,)"""
    return (np.sign(as_margins(margins)) + 1) / 2
