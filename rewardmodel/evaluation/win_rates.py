"""How often a policy's responses are scored above the reference's, and how long both are. Arrays only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from rewardmodel.evaluation.length_control import control_win_rate
from rewardmodel.evaluation.resampling import bootstrap_by_prompt, percentile_interval
from rewardmodel.metrics import correctness


@dataclass(frozen=True)
class Comparisons:
    """Every response of the policy against every one of the reference, prompt by prompt.

    wins: (c,) 1, 0.5 for equal scores, 0. differences: (c,) characters, policy - reference. weights: (c,), those of a
    prompt sum to 1. prompt_ids: (c,).
    """

    wins: np.ndarray
    differences: np.ndarray
    weights: np.ndarray
    prompt_ids: list[str]


def cross_responses(
    scores: Sequence[Sequence[float]],
    *,
    reference_scores: Sequence[Sequence[float]],
    lengths: Sequence[Sequence[int]],
    reference_lengths: Sequence[Sequence[int]],
    prompt_ids: Sequence[str],
) -> Comparisons:
    """All comparisons within each prompt. scores, lengths: a sequence a prompt, a value a response.

    All n x m of a prompt, not n of them, since that has the same mean and less noise (the Mann-Whitney statistic). A
    prompt without a score on either side gives none.
    """
    wins, differences, weights, ids = [], [], [], []
    for ours, theirs, long, their_long, prompt_id in zip(
        scores, reference_scores, lengths, reference_lengths, prompt_ids, strict=True
    ):
        size = len(ours) * len(theirs)
        if not size:
            continue
        wins.append(correctness(np.subtract.outer(np.asarray(ours), np.asarray(theirs)).ravel()))
        differences.append(np.subtract.outer(np.asarray(long), np.asarray(their_long)).ravel().astype(float))
        weights.append(np.full(size, 1 / size))
        ids += [prompt_id] * size
    if not ids:
        raise ValueError("no prompt has a scored response of both models")
    return Comparisons(np.concatenate(wins), np.concatenate(differences), np.concatenate(weights), ids)


def describe_wins(comparisons: Comparisons) -> dict[str, Any]:
    """{prompts, win_rate, interval, length_controlled}; a prompt counts once, a tie half; intervals by prompt."""

    def rate(drawn: np.ndarray) -> float:
        mass = comparisons.weights * drawn
        return float(mass @ comparisons.wins / mass.sum())

    return {
        "prompts": len(set(comparisons.prompt_ids)),
        "win_rate": rate(np.ones(len(comparisons.wins))),
        "interval": percentile_interval(bootstrap_by_prompt(rate, prompt_ids=comparisons.prompt_ids)),
        "length_controlled": control_win_rate(
            comparisons.wins,
            differences=comparisons.differences,
            prompt_ids=comparisons.prompt_ids,
            weights=comparisons.weights,
        ),
    }


def describe_lengths(tokens: np.ndarray, *, reference_tokens: np.ndarray, prompt_ids: Sequence[str]) -> dict[str, Any]:
    """{policy, reference, ratio, interval}: mean tokens of a response, and how they relate.

    tokens, reference_tokens: (prompts,) the mean of each prompt's responses. The ratio is one of means; its interval
    draws prompts again, with both models' lengths together.
    """

    def ratio(drawn: np.ndarray) -> float:
        return float(drawn @ tokens / (drawn @ reference_tokens))

    return {
        "policy": float(tokens.mean()),
        "reference": float(reference_tokens.mean()),
        "ratio": ratio(np.ones(len(tokens))),
        "interval": percentile_interval(bootstrap_by_prompt(ratio, prompt_ids=prompt_ids)),
    }
