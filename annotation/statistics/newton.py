"""Newton's method with step halving for concave functions (Boyd and Vandenberghe 2004, algorithm 9.5)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.linalg import lapack

Floats: TypeAlias = npt.NDArray[np.float64]

ITERATIONS, HALVINGS = 60, 30
STEP = 1e-5
"""The last step's largest entry: convergence is quadratic, so that what is left after it is of the order 1e-10."""


@dataclass(frozen=True)
class Evaluation:
    """A function at one point: its value (-inf outside of its domain), gradient (P,) and minus its Hessian (P, P)."""

    value: float
    gradient: Floats
    information: Floats


@dataclass(frozen=True)
class Maximum:
    """Where the maximum is, and how many steps it took."""

    point: Floats
    iterations: int


class NoMaximumError(ValueError):
    """The function has no finite maximum, or more than one; `point` is where the search stood."""

    def __init__(self, message: str, *, point: Floats) -> None:
        super().__init__(message)
        self.point = point


def maximise(function: Callable[[Floats], Evaluation], *, start: Floats, accuracy: float = STEP) -> Maximum:
    """The maximum of a concave function, shape (P,), from `start`.

    Stops after a step whose largest entry is at most `accuracy`. Raises NoMaximumError where the information is
    singular or the steps do not shrink: then some direction has no finite maximum.
    """
    point, there = start, function(start)
    for iteration in range(1, ITERATIONS + 1):
        _factor, step, failed = lapack.dposv(there.information, there.gradient)
        decrement = float(there.gradient @ step)
        if failed or not np.isfinite(decrement):
            break
        if float(np.abs(step).max()) <= accuracy:
            return Maximum(point=point + step, iterations=iteration)
        size, rounding = 1.0, 1e-12 * abs(there.value)
        for _halving in range(HALVINGS):
            candidate = function(point + size * step)
            if candidate.value >= there.value + 0.1 * size * decrement - rounding:
                break
            size /= 2
        point, there = point + size * step, candidate
    raise NoMaximumError("The likelihood has no single finite maximum.", point=point)


def invert(information: Floats) -> Floats | None:
    """The inverse of a positive definite matrix, None where it is not one."""
    factor, failed = lapack.dpotrf(information)
    if failed:
        return None
    inverse, _failed = lapack.dpotri(factor, overwrite_c=True)
    return np.asarray(np.triu(inverse) + np.triu(inverse, 1).T)
