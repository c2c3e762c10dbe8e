"""Bootstrap over prompts: whole prompts are drawn again, with all that was judged of them.

A statistic is a function of weights: how often each pair stands in the sample. So nothing is copied.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

DRAWS = 1000
QUANTILES = (2.5, 97.5)


def encode_prompts(prompt_ids: Sequence[str]) -> np.ndarray:
    """Prompts as numbers from 0: (n,) -> (n,) int."""
    return np.unique(np.asarray(prompt_ids, dtype=str), return_inverse=True)[1]


def bootstrap_by_prompt(
    statistic: Callable[[np.ndarray], float | np.ndarray],
    *,
    prompt_ids: Sequence[str],
    draws: int = DRAWS,
    seed: int = 0,
) -> np.ndarray | None:
    """The statistic in `draws` samples: (draws, …). None for fewer than two prompts.

    statistic: weights (n,) of the pairs, whole numbers that sum to the pairs drawn -> a number or an array.
    A cluster bootstrap: as many prompts as there are, with replacement (Efron and Tibshirani 1993, chapter 8).
    """
    codes = encode_prompts(prompt_ids)
    prompts = int(codes.max(initial=-1)) + 1
    if prompts < 2:
        return None
    generator = np.random.default_rng(seed)
    values = []
    for _ in range(draws):
        drawn = generator.integers(0, prompts, size=prompts)
        values.append(statistic(np.bincount(drawn, minlength=prompts)[codes].astype(float)))
    return np.asarray(values)


def percentile_interval(values: np.ndarray | None) -> list[float] | None:
    """The middle 95 % of (draws,) values; None where there are none or too few are defined.

    NaN marks a sample in which the statistic is not defined; more than one in twenty of those, and no interval is told.
    """
    if values is None:
        return None
    known = values[np.isfinite(values)]
    if len(known) < 0.95 * len(values):
        return None
    low, high = np.percentile(known, QUANTILES)
    return [float(low), float(high)]


def mean_interval(values: Sequence[float] | np.ndarray, *, prompt_ids: Sequence[str]) -> list[float] | None:
    """95 % interval of the mean of (n,) values when prompts are drawn again."""
    array = np.asarray(values, dtype=float)
    return percentile_interval(
        bootstrap_by_prompt(lambda weights: float(weights @ array / weights.sum()), prompt_ids=prompt_ids)
    )
