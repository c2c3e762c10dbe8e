"""Two reward models on the same pairs: which is right more often, and whether that could be chance."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from rewardmodel.evaluation.resampling import bootstrap_by_prompt, percentile_interval
from rewardmodel.metrics import as_margins, correctness, log_loss, pairwise_accuracy


def mcnemar_p(only_first: int, only_second: int) -> float:
    """Two-sided mid-p value of McNemar's exact test (Fagerland, Lydersen and Laake 2013).

    only_first, only_second: pairs that one model alone has right. Under equal accuracy the smaller of them is
    binomial(n, 1/2); the mid-p value counts half of the chance of what was seen. 1 where no pair tells them apart.
    """
    n, few = only_first + only_second, min(only_first, only_second)
    if n == 0:
        return 1.0
    # In whole numbers, since 2^n overflows a float beyond a thousand pairs: 2 P(X <= few) - P(X = few).
    ways = 2 * sum(math.comb(n, k) for k in range(few)) + math.comb(n, few)
    return min(1.0, math.exp(math.log(ways) - n * math.log(2)))


def compare_margins(
    first: Sequence[float] | np.ndarray, *, second: Sequence[float] | np.ndarray, prompt_ids: Sequence[str]
) -> dict[str, Any]:
    """The differences first - second in accuracy and log loss, with intervals by prompt, and McNemar's test.

    first, second: (n,) margins of the two models on the same pairs. McNemar's test leaves out pairs that a model
    scores equal (`tied`) and takes pairs as independent; where prompts have several pairs, read the intervals, whose
    bootstrap draws prompts with both models' figures together.
    """
    ours, theirs = correctness(first), correctness(second)
    if len(ours) != len(theirs):
        raise ValueError(f"{len(ours)} margins of one model but {len(theirs)} of the other")
    losses = np.logaddexp(0.0, -as_margins(first)) - np.logaddexp(0.0, -as_margins(second))
    columns = np.stack([ours - theirs, losses], axis=1)  # (n, 2)
    drawn = bootstrap_by_prompt(lambda weights: weights @ columns / weights.sum(), prompt_ids=prompt_ids)
    told = (ours != 0.5) & (theirs != 0.5)
    only_first = int((told & (ours > theirs)).sum())
    only_second = int((told & (ours < theirs)).sum())
    return {
        "n": len(ours),
        "accuracy": [pairwise_accuracy(first), pairwise_accuracy(second)],
        "accuracy_difference": float(columns[:, 0].mean()),
        "accuracy_interval": percentile_interval(None if drawn is None else drawn[:, 0]),
        "log_loss": [log_loss(first), log_loss(second)],
        "log_loss_difference": float(columns[:, 1].mean()),
        "log_loss_interval": percentile_interval(None if drawn is None else drawn[:, 1]),
        "mcnemar": {
            "only_first": only_first,
            "only_second": only_second,
            "tied": int((~told).sum()),
            "p": mcnemar_p(only_first, only_second),
        },
    }
