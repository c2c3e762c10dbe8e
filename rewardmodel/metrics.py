"""Figures of held-out rows and pairs and their uncertainty, on plain arrays. No torch.

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


def matched_interval(gained: int, lost: int, *, n: int, z: float = 1.959963984540054) -> Interval:
    """Interval of (gained - lost) / n, by default at 95 %, where n prompts were tried in two ways: `gained` passed in
    the second alone, `lost` in the first alone.

    Agresti and Min (2005), "Simple improved confidence intervals for comparing matched proportions": a half is added to
    each of the four cells, so that a few prompts without any difference do not look like certainty.
    """
    total = n + 2
    difference = (gained - lost) / total
    spread = z * math.sqrt(gained + lost + 1 - total * difference**2) / total
    return max(difference - spread, -1.0), min(difference + spread, 1.0)


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


def bootstrap_ratio_by_prompt(
    tops: Sequence[float] | np.ndarray,
    bottoms: Sequence[float] | np.ndarray,
    *,
    prompt_ids: Sequence[str],
    draws: int = 2000,
    seed: int = 0,
) -> Interval | None:
    """95 % percentile interval of sum(tops) / sum(bottoms) when whole prompts are drawn again. All (n,).

    With a loss summed over a row's tokens above and their number below it is that of the loss a token. None for fewer
    than two prompts.
    """
    codes = np.unique(np.asarray(prompt_ids), return_inverse=True)[1]
    above = np.bincount(codes, weights=np.asarray(tops, dtype=np.float64))  # (prompts,)
    below = np.bincount(codes, weights=np.asarray(bottoms, dtype=np.float64))  # (prompts,)
    if len(above) < 2:
        return None
    generator = np.random.default_rng(seed)
    ratios = np.empty(draws)
    for draw in range(draws):
        drawn = generator.integers(0, len(above), size=len(above))
        ratios[draw] = above[drawn].sum() / below[drawn].sum()
    low, high = np.percentile(ratios, [2.5, 97.5])
    return float(low), float(high)


def area_under_curve(scores: Sequence[float] | np.ndarray, *, labels: Sequence[bool] | np.ndarray) -> float:
    """P(a random true row scores above a random false one), equal scores half (Mann and Whitney 1947). Both (n,).

    Raises ValueError where a class is missing.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    n_true = int(truth.sum())
    n_false = len(truth) - n_true
    if not n_true or not n_false:
        raise ValueError(f"need both classes, got {n_true} true and {n_false} false")
    _, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    ranks = (np.cumsum(counts) - (counts - 1) / 2)[places]  # mean rank of equal scores, from 1
    return float((ranks[truth].sum() - n_true * (n_true + 1) / 2) / (n_true * n_false))


def bootstrap_area_by_prompt(
    scores: Sequence[float] | np.ndarray,
    *,
    labels: Sequence[bool] | np.ndarray,
    prompt_ids: Sequence[str],
    draws: int = 1000,
    seed: int = 0,
) -> Interval | None:
    """95 % percentile interval of the area when whole prompts are drawn again; draws without both classes are drawn
    anew. All (n,). None for fewer than two prompts.
    """
    values, truth = np.asarray(scores, dtype=np.float64), np.asarray(labels, dtype=bool)
    codes = np.unique(np.asarray(prompt_ids), return_inverse=True)[1]
    rows = [np.flatnonzero(codes == code) for code in range(codes.max() + 1)]
    if len(rows) < 2:
        return None
    generator = np.random.default_rng(seed)
    areas: list[float] = []
    while len(areas) < draws:
        drawn = np.concatenate([rows[i] for i in generator.integers(0, len(rows), size=len(rows))])
        if 0 < truth[drawn].sum() < len(drawn):
            areas.append(area_under_curve(values[drawn], labels=truth[drawn]))
    low, high = np.percentile(areas, [2.5, 97.5])
    return float(low), float(high)


def summarize_labels(
    scores: Sequence[float] | np.ndarray, *, labels: Sequence[bool] | np.ndarray, prompt_ids: Sequence[str]
) -> dict[str, Any]:
    """{auc, interval}: how well the scores tell true rows from false ones, with the interval over whole prompts."""
    interval = bootstrap_area_by_prompt(scores, labels=labels, prompt_ids=prompt_ids)
    return {"auc": area_under_curve(scores, labels=labels), "interval": list(interval) if interval else None}


def summarize_losses(
    log_probs: Sequence[float] | np.ndarray, *, tokens: Sequence[int] | np.ndarray, prompt_ids: Sequence[str]
) -> dict[str, Any]:
    """{loss, interval, perplexity} of a token, in nats, from each row's summed log-probability and tokens. All (n,)."""
    losses, counts = -np.asarray(log_probs, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    loss = float(losses.sum() / counts.sum())
    interval = bootstrap_ratio_by_prompt(losses, counts, prompt_ids=prompt_ids)
    return {"loss": loss, "interval": list(interval) if interval else None, "perplexity": math.exp(min(loss, 700.0))}


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
