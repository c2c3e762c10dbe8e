"""Logistic regression of a few columns, with errors that know the pairs of one prompt are not independent."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rewardmodel.metrics import sigmoid

# Standard deviation of the prior on each coefficient. It keeps the fit finite where outcomes are separated, and at
# hundreds of judgements that are not it moves nothing that shows.
PRIOR_SD = 10.0
Z = 1.959963984540054


@dataclass(frozen=True)
class LogisticFit:
    """coefficients: (f,); errors: (f,) their standard errors by prompt; log_loss: the mean, in nats."""

    coefficients: np.ndarray
    errors: np.ndarray
    log_loss: float

    def interval(self, column: int) -> tuple[float, float]:
        """Wald's 95 % interval of a coefficient."""
        half = Z * float(self.errors[column])
        return float(self.coefficients[column]) - half, float(self.coefficients[column]) + half


def fit_logistic(
    columns: np.ndarray,
    *,
    outcomes: np.ndarray,
    weights: np.ndarray | None = None,
    clusters: np.ndarray | None = None,
    steps: int = 100,
) -> LogisticFit:
    """P(outcome = 1) = sigmoid(columns @ coefficients), by Newton's method; no intercept unless a column is one.

    columns: (n, f), of spread about 1. outcomes: (n,) from 0 to 1, a tie 0.5. weights: (n,). clusters: (n,) int.
    The errors are the sandwich H^-1 (sum of g_c g_c') H^-1 over clusters c (Liang and Zeger 1986), c / (c - 1) of it.
    Raises ValueError for shapes that do not fit together.
    """
    n, width = columns.shape
    if outcomes.shape != (n,):
        raise ValueError(f"{n} rows but outcomes of shape {outcomes.shape}")
    weights = np.ones(n) if weights is None else weights
    ridge = np.eye(width) / PRIOR_SD**2
    beta = np.zeros(width)
    for _ in range(steps):
        chances = sigmoid(columns @ beta)
        slope = columns.T @ (weights * (outcomes - chances)) - ridge @ beta
        step = np.linalg.solve(_curvature(columns, chances=chances, weights=weights) + ridge, slope)
        # A log odds further off than this is where Newton's steps leave the region they are good in.
        beta = beta + step * min(1.0, 2.0 / max(1e-12, float(np.abs(step).max())))
        if np.abs(step).max() < 1e-9:
            break
    chances = sigmoid(columns @ beta)
    inverse = np.linalg.inv(_curvature(columns, chances=chances, weights=weights) + ridge)
    scores = columns * (weights * (outcomes - chances))[:, None]
    codes = np.arange(n) if clusters is None else clusters
    count = int(codes.max()) + 1
    summed = np.stack([np.bincount(codes, weights=scores[:, j], minlength=count) for j in range(width)], axis=1)
    spread = inverse @ (summed.T @ summed) @ inverse * (count / max(1, count - 1))
    logits = columns @ beta
    losses = np.logaddexp(0.0, logits) - outcomes * logits
    return LogisticFit(beta, np.sqrt(np.diag(spread)), float(weights @ losses / weights.sum()))


def _curvature(columns: np.ndarray, *, chances: np.ndarray, weights: np.ndarray) -> np.ndarray:
    return columns.T @ (columns * (weights * chances * (1 - chances))[:, None])
