"""What is left of the accuracy when length cannot help.

Two ways, which fail differently: accuracy with the pairs in which the shorter and the longer response was chosen
counting alike, and a regression in which the margin has to tell more than the difference in length does.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rewardmodel.evaluation.logistic import fit_logistic
from rewardmodel.evaluation.resampling import bootstrap_by_prompt, encode_prompts, percentile_interval
from rewardmodel.metrics import as_margins, correctness, wilson_interval


def describe_length_control(
    margins: Sequence[float] | np.ndarray, *, lengths: Sequence[tuple[int, int]], prompt_ids: Sequence[str]
) -> dict[str, Any]:
    """{shorter_chosen, longer_chosen, equal, balanced, regression}, ready for JSON. lengths: (chosen, rejected)."""
    differences = np.asarray([chosen - rejected for chosen, rejected in lengths], dtype=float)
    values = as_margins(margins)
    return {
        "shorter_chosen": _summarize(values[differences < 0]),
        "longer_chosen": _summarize(values[differences > 0]),
        "equal": int((differences == 0).sum()),
        "balanced": balance_accuracy(values, differences=differences, prompt_ids=prompt_ids),
        "regression": regress_on_margin(values, differences=differences, prompt_ids=prompt_ids),
    }


def balance_accuracy(
    margins: np.ndarray, *, differences: np.ndarray, prompt_ids: Sequence[str]
) -> dict[str, Any] | None:
    """{accuracy, interval}: the mean of the accuracies where the shorter and where the longer response was chosen.

    "Longer wins" has exactly 0.5 of it. Equal lengths are left out; None where one side is missing.
    differences: (n,) characters, chosen - rejected. The interval is by prompt.
    """
    right = correctness(margins)
    shorter, longer = (differences < 0).astype(float), (differences > 0).astype(float)
    if not shorter.any() or not longer.any():
        return None

    def balanced(weights: np.ndarray) -> float:
        sides = [(weights @ (right * side), weights @ side) for side in (shorter, longer)]
        return float(np.mean([hits / count if count else np.nan for hits, count in sides]))

    interval = percentile_interval(bootstrap_by_prompt(balanced, prompt_ids=prompt_ids))
    return {"accuracy": balanced(np.ones(len(right))), "interval": interval}


def squash_lengths(differences: np.ndarray) -> np.ndarray:
    """tanh(difference / its standard deviation), (n,): the length term of Dubois et al. (2024), equation 2."""
    spread = float(differences.std())
    return np.tanh(differences / spread) if spread else np.zeros(len(differences))


def regress_on_margin(
    margins: np.ndarray, *, differences: np.ndarray, prompt_ids: Sequence[str]
) -> dict[str, Any] | None:
    """P(chosen was chosen) = sigmoid(b margin + c tanh(length difference / sd)), after Dubois et al. (2024).

    {margin, margin_interval, length, length_interval, margin_counts, log_loss}. Swapping a pair turns every term's
    sign, so there is no intercept, and it does not matter which response stands first. b = 1 is a calibrated model
    whose margins need no help of length; c is the log odds that a much longer response gains at equal margins.
    margin_counts: b's interval (by prompt) lies above 0. None where all margins are 0.
    """
    scale = float(np.sqrt(np.mean(margins**2)))
    if scale == 0:
        return None
    # The spread is that of differences with either response first, whose mean is 0.
    mirrored = squash_lengths(np.concatenate([differences, -differences]))[: len(differences)]
    columns = np.stack([margins / scale, mirrored], axis=1)
    if not mirrored.any():
        columns = columns[:, :1]
    fit = fit_logistic(columns, outcomes=np.ones(len(margins)), clusters=encode_prompts(prompt_ids))
    low, high = (bound / scale for bound in fit.interval(0))
    has_length = columns.shape[1] == 2
    return {
        "margin": float(fit.coefficients[0]) / scale,
        "margin_interval": [low, high],
        "length": float(fit.coefficients[1]) if has_length else None,
        "length_interval": list(fit.interval(1)) if has_length else None,
        "margin_counts": low > 0,
        "log_loss": fit.log_loss,
    }


def control_win_rate(
    wins: np.ndarray, *, differences: np.ndarray, prompt_ids: Sequence[str], weights: np.ndarray, draws: int = 500
) -> dict[str, Any]:
    """{win_rate, interval, length, length_interval}: the win rate at equal lengths.

    P(win) = sigmoid(a + c tanh(length difference / sd)); the length-controlled win rate is sigmoid(a), the length term
    set to 0 (Dubois et al. 2024, equation 4, without their term for the difficulty of an instruction).
    wins: (n,) 1, 0.5 or 0 of each comparison; differences: (n,) characters, ours - theirs; weights: (n,), so that each
    prompt counts once. The interval draws prompts again and fits again.
    """
    columns = np.stack([np.ones(len(wins)), squash_lengths(differences)], axis=1)

    def fit(drawn: np.ndarray) -> np.ndarray:
        return fit_logistic(columns, outcomes=wins, weights=weights * drawn).coefficients

    intercept, slope = fit(np.ones(len(wins)))
    drawn = bootstrap_by_prompt(fit, prompt_ids=prompt_ids, draws=draws)
    bounds = percentile_interval(None if drawn is None else 1 / (1 + np.exp(-drawn[:, 0])))
    return {
        "win_rate": float(1 / (1 + np.exp(-intercept))),
        "interval": bounds,
        "length": float(slope),
        "length_interval": percentile_interval(None if drawn is None else drawn[:, 1]),
    }


def _summarize(margins: np.ndarray) -> dict[str, Any]:
    if not len(margins):
        return {"n": 0, "accuracy": None, "interval": None}
    right = correctness(margins)
    interval = wilson_interval(float(right.sum()), n=len(right))
    return {"n": len(right), "accuracy": float(right.mean()), "interval": list(interval)}
