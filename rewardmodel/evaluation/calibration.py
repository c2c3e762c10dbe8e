"""Whether sigmoid(margin) is the chance that the model is right, and which temperature makes it so.

The model's confidence in a pair is sigmoid(|margin|), from 0.5; it is right where the margin is above 0 (a tie: half).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rewardmodel.evaluation.logistic import fit_logistic
from rewardmodel.evaluation.resampling import bootstrap_by_prompt, encode_prompts
from rewardmodel.metrics import as_margins, correctness, log_loss, sigmoid, wilson_interval

BINS = 10
SMALLEST_BIN = 20


def describe_calibration(
    margins: Sequence[float] | np.ndarray, *, prompt_ids: Sequence[str], bins: int = BINS
) -> dict[str, Any]:
    """The reliability table, the calibration errors and the temperature, ready for JSON. margins: (n,)."""
    values = as_margins(margins)
    return {
        "bins": reliability_table(values, bins=bins),
        **calibration_error(values, prompt_ids=prompt_ids, bins=bins),
        "temperature": describe_temperature(values, prompt_ids=prompt_ids),
    }


def assign_bins(confidences: np.ndarray, *, bins: int = BINS) -> np.ndarray:
    """The bin of each confidence, (n,) int from 0: about equally many in each, at least 20, equal ones together."""
    n = len(confidences)
    wanted = max(1, min(bins, n // SMALLEST_BIN))
    ordered = np.sort(confidences)
    # A bin begins at the first of equal confidences, so that which pair came first in the file decides nothing.
    starts = np.unique(np.searchsorted(ordered, ordered[np.arange(wanted) * n // wanted]))
    return np.searchsorted(ordered[starts], confidences, side="right") - 1


def reliability_table(margins: Sequence[float] | np.ndarray, *, bins: int = BINS) -> list[dict[str, Any]]:
    """{n, low, high, confidence, accuracy, interval} of each bin, the least confident first. Wilson's intervals."""
    right = correctness(margins)
    confidences = sigmoid(np.abs(as_margins(margins)))
    codes = assign_bins(confidences, bins=bins)
    rows = []
    for code in np.unique(codes):
        own = codes == code
        rows.append(
            {
                "n": int(own.sum()),
                "low": float(confidences[own].min()),
                "high": float(confidences[own].max()),
                "confidence": float(confidences[own].mean()),
                "accuracy": float(right[own].mean()),
                "interval": list(wilson_interval(float(right[own].sum()), n=int(own.sum()))),
            }
        )
    return rows


def calibration_error(
    margins: Sequence[float] | np.ndarray, *, prompt_ids: Sequence[str], bins: int = BINS, seed: int = 0
) -> dict[str, Any]:
    """{ece, ece_interval, ece_if_calibrated, rms_error} of equal-mass bins.

    ece: sum over bins of |sum of (right - confidence)| / n (Naeini et al. 2015). Noise alone makes it positive, so:
    ece_if_calibrated is what 95 % of perfectly calibrated models with these confidences stay below (consistency
    resampling, Bröcker and Smith 2007; pairs taken as independent); ece_interval is the basic bootstrap interval by
    prompt, 2 ece - quantiles, cut at 0, which takes the bias away once; rms_error is the root of the debiased squared
    error (Kumar et al. 2019, section 5): each bin's squared gap less the variance of its mean.
    """
    right = correctness(margins)
    confidences = sigmoid(np.abs(as_margins(margins)))
    codes = assign_bins(confidences, bins=bins)
    gaps = right - confidences  # (n,)

    def error(weights: np.ndarray, of: np.ndarray = gaps) -> float:
        return float(np.abs(np.bincount(codes, weights=weights * of)).sum() / weights.sum())

    ece = error(np.ones(len(gaps)))
    drawn = bootstrap_by_prompt(error, prompt_ids=prompt_ids, seed=seed)
    interval = None
    if drawn is not None:
        low, high = np.percentile(drawn, [2.5, 97.5])
        interval = [max(0.0, 2 * ece - float(high)), max(0.0, 2 * ece - float(low))]
    generator = np.random.default_rng(seed)
    ones = np.ones(len(gaps))
    fair = [error(ones, (generator.random(len(gaps)) < confidences) - confidences) for _ in range(1000)]
    return {
        "ece": ece,
        "ece_interval": interval,
        "ece_if_calibrated": float(np.percentile(fair, 95)),
        "rms_error": _debiased_rms(gaps, codes=codes),
    }


def _debiased_rms(gaps: np.ndarray, *, codes: np.ndarray) -> float:
    total = 0.0
    for code in np.unique(codes):
        own = gaps[codes == code]
        noise = float(own.var(ddof=1)) / len(own) if len(own) > 1 else 0.0
        total += len(own) * (float(own.mean()) ** 2 - noise)
    return float(np.sqrt(max(0.0, total / len(gaps))))


def fit_temperature(margins: np.ndarray, *, prompt_ids: Sequence[str]) -> tuple[float | None, list[float | None]]:
    """The temperature T that minimises the log loss of sigmoid(margin / T) (Guo et al. 2017), with its 95 % interval.

    It is 1 / a for the coefficient a of a logistic regression on the margin without intercept; the interval is a's,
    by prompt, turned over (None: no bound). T is None where the margins point the wrong way or all are 0.
    """
    scale = float(np.sqrt(np.mean(margins**2)))
    if scale == 0:
        return None, [None, None]
    fit = fit_logistic(margins[:, None] / scale, outcomes=np.ones(len(margins)), clusters=encode_prompts(prompt_ids))
    low, high = (bound / scale for bound in fit.interval(0))
    slope = float(fit.coefficients[0]) / scale
    return (
        1 / slope if slope > 0 else None,
        [1 / high if high > 0 else None, 1 / low if low > 0 else None],
    )


def describe_temperature(margins: np.ndarray, *, prompt_ids: Sequence[str], seed: int = 0) -> dict[str, Any]:
    """{value, interval, log_loss_before, log_loss_after, ece_after}; the last two are cross-fitted, to be honest.

    The prompts are dealt into two halves; each half's margins are divided by the temperature of the other half.
    None where a half knows no temperature.
    """
    value, interval = fit_temperature(margins, prompt_ids=prompt_ids)
    codes = encode_prompts(prompt_ids)
    prompts = int(codes.max()) + 1
    halves = np.random.default_rng(seed).permutation(prompts)[codes] % 2  # (n,)
    cooled = np.full(len(margins), np.nan)
    for half in (0, 1):
        own = halves == half
        if own.all() or not own.any():
            break
        ids = [prompt_ids[i] for i in np.flatnonzero(~own).tolist()]
        temperature, _ = fit_temperature(margins[~own], prompt_ids=ids)
        cooled[own] = margins[own] / temperature if temperature else np.nan
    known = bool(np.isfinite(cooled).all())
    return {
        "value": value,
        "interval": interval,
        "log_loss_before": log_loss(margins),
        "log_loss_after": log_loss(cooled) if known else None,
        "ece_after": calibration_error(cooled, prompt_ids=prompt_ids)["ece"] if known else None,
    }
