"""From a likelihood to a fit: its maximum, the covariance of what was found, bootstrap samples.

What a model has to bring is written down in `Likelihood`; comparisons and rankings both do.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

from annotation.statistics.codes import Names, show_names
from annotation.statistics.connectivity import Connectivity, find_linked
from annotation.statistics.covariance import centre, clip_to_semidefinite
from annotation.statistics.fits import Effect, Fit
from annotation.statistics.newton import Evaluation, Maximum, NoMaximumError, invert, maximise

Floats: TypeAlias = npt.NDArray[np.float64]
Groups: TypeAlias = npt.NDArray[np.intp]
Integers: TypeAlias = npt.NDArray[np.integer[Any]]
Covariance: TypeAlias = Literal["robust", "model", "none"]

BOOTSTRAP_STEP = 1e-3
"""Newton's last step in a bootstrap sample: what is left after it, of the order 1e-6, is far below the spread."""
FLAT = 1e13
"""Variance of a score in units of n / total weight beyond which the likelihood is flat but for rounding."""
UNVARIED = 1e-6
"""Share of the information that the groups' scores must vary by; below, no two groups were seen to differ at all."""
INSEPARABLE = 1e10
"""How much an effect's variance may be inflated by the others before it counts as one that cannot be told."""


@dataclass(frozen=True)
class Options:
    """What every fit can be asked; the fields are arguments of `bradley_terry.fit` and `plackett_luce.fit`."""

    ridge: float = 0.0
    covariance: Covariance = "robust"
    bootstrap: int = 0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.covariance not in ("robust", "model", "none"):
            raise ValueError(f"Unknown covariance {self.covariance!r}; use robust, model or none.")
        if self.bootstrap < 0:
            raise ValueError(f"bootstrap must be a number of samples, not {self.bootstrap}.")
        check_precisions(ridge=self.ridge)


def check_precisions(**precisions: float) -> None:
    """Raises ValueError for a prior precision that is none."""
    for name, precision in precisions.items():
        if not 0 <= precision < math.inf:
            raise ValueError(f"{name} must be a finite number of 0 or more, not {precision}.")


class Likelihood(Protocol):
    """A penalised log likelihood of P parameters: n scores, others from `effects_at` on."""

    n: int
    names: Names
    count: int
    total_weight: float
    effects_at: int
    effect_names: tuple[str, ...]
    penalty: Floats
    component: npt.NDArray[np.intp]

    @property
    def settings(self) -> Options:
        """What was asked."""

    def __call__(self, point: Floats) -> Evaluation:
        """Value, gradient and information at a point."""

    def start(self) -> Floats:
        """Where to begin."""

    def meat(self, point: Floats) -> Floats:
        """The sum of u u' over the rows, u being a row's score, (P, P)."""

    def clustered_meat(self, point: Floats, *, groupings: Sequence[Groups]) -> tuple[Floats, int]:
        """The same with rows added by group first, and the number of groups."""

    def edges(self, rows: slice) -> tuple[Integers, Integers, Integers]:
        """Who was compared with whom in some of the rows: two items of each comparison, and the row."""

    def resampled(self, rng: np.random.Generator, *, groups: Groups | None) -> Callable[[Floats], Evaluation]:
        """The likelihood of a bootstrap sample, drawn by group or by row."""


def estimate(
    likelihood: Likelihood, *, groupings: Sequence[Groups], connectivity: Connectivity
) -> tuple[Fit, Maximum | None, Floats | None]:
    """The fit, where its maximum lies, and the covariance of all parameters, (P, P).

    Where no two items are comparable there is no maximum, and every score is NaN.
    """
    n, settings = likelihood.n, likelihood.settings
    nothing = Fit(
        model="", ties="", items=likelihood.names, scores=np.full(n, np.nan),
        covariance=None if settings.covariance == "none" else np.full((n, n), np.nan), effects=(),
        connectivity=connectivity, joined=settings.ridge > 0, rows=likelihood.count, clusters=0, log_likelihood=0.0,
        iterations=0,
    )  # fmt: skip
    if np.bincount(likelihood.component).max() < 2:
        return nothing, None, None
    maximum = find_maximum(likelihood)
    there = likelihood(maximum.point)
    covariance, clusters = covariance_of(likelihood, point=maximum.point, there=there, groupings=groupings)
    fitted = replace(
        nothing,
        clusters=clusters,
        log_likelihood=there.value + float(likelihood.penalty @ maximum.point**2) / 2,
        iterations=maximum.iterations,
        effects=effects_of(likelihood, point=maximum.point, covariance=covariance),
        samples=draw_samples(likelihood, maximum=maximum, groupings=groupings) if settings.bootstrap else None,
    )
    scored = fitted.with_scores(maximum.point[:n], covariance=None if covariance is None else covariance[:n, :n])
    return scored, maximum, covariance


def find_maximum(likelihood: Likelihood) -> Maximum:
    """Scores and effects. Raises ValueError where the data leave some effect without a finite value."""
    try:
        return maximise(likelihood, start=likelihood.start())
    except NoMaximumError:
        raise _without_end(likelihood) from None


def _without_end(likelihood: Likelihood) -> ValueError:
    named = show_names(likelihood.effect_names) if likelihood.effect_names else "the scores"
    return ValueError(
        f"These data give no finite value to {named}: something decides every judgement, or is the same as "
        "something else. Leave it out, or give a ridge."
    )


def covariance_of(
    likelihood: Likelihood, *, point: Floats, there: Evaluation, groupings: Sequence[Groups]
) -> tuple[Floats | None, int]:
    """Covariance of all parameters, (P, P), scores centred by component; and how many groups it counts on.

    In the sandwich a prior counts as one more observation, with the variance that it has by itself. What the spread
    between groups cannot say is NaN, never 0: rows and columns of items that one group alone joins to the others of
    their component (`find_linked`), and of items and effects in which no two groups differ. Scores are centred over the
    others. Raises ValueError for effects that are combinations of others, and where scores ran off so far that the
    likelihood is flat there.
    """
    kind, rows, names = likelihood.settings.covariance, likelihood.count, likelihood.effect_names
    if kind == "none" and not names:
        return None, 0
    inverse, n = invert(there.information), likelihood.n
    if inverse is None or np.diag(inverse)[:n].max() * likelihood.total_weight / n > FLAT:
        raise _without_end(likelihood)
    inflation = (np.diag(inverse) * np.diag(there.information))[likelihood.effects_at :]
    if inseparable := [name for name, factor in zip(names, inflation, strict=True) if factor > INSEPARABLE]:
        raise ValueError(f"The data cannot tell {show_names(inseparable)} from the scores and the other effects.")
    if kind == "none":
        return None, 0
    if kind == "model":
        return centre(inverse, component=likelihood.component, known=np.ones(n, dtype=bool)), rows
    clusters = rows
    linked = np.ones(n, dtype=bool)
    if groupings:
        if any(int(groups.max()) < 1 for groups in groupings):
            return np.full_like(inverse, np.nan), 1
        linked = find_linked(likelihood.edges, rows=rows, groupings=groupings, n=n)
        meat, clusters = likelihood.clustered_meat(point, groupings=groupings)
    else:
        meat = likelihood.meat(point) * (rows / max(rows - 1, 1))
    meat[np.diag_indices(len(meat))] += likelihood.penalty
    covariance = inverse @ meat @ inverse
    covariance = clip_to_semidefinite(covariance) if len(groupings) > 1 else covariance
    # A row of weight w has w² in the meat and w in the information.
    least = UNVARIED * likelihood.total_weight / max(rows, 1)
    known = np.diag(meat) > least * np.diag(there.information)
    known[:n] &= linked
    known[:n] &= np.bincount(likelihood.component, weights=known[:n])[likelihood.component] > 1
    covariance = centre(covariance, component=likelihood.component, known=known[:n])
    covariance[~known] = covariance[:, ~known] = np.nan
    return covariance, clusters


def effects_of(likelihood: Likelihood, *, point: Floats, covariance: Floats | None) -> tuple[Effect, ...]:
    """The effects by name, with their standard errors."""
    at = likelihood.effects_at
    errors = np.full(len(point), np.nan) if covariance is None else np.sqrt(np.maximum(np.diag(covariance), 0))
    return tuple(
        Effect(name=name, value=float(value), standard_error=float(error))
        for name, value, error in zip(likelihood.effect_names, point[at:], errors[at:], strict=True)
    )


def draw_samples(likelihood: Likelihood, *, maximum: Maximum, groupings: Sequence[Groups]) -> Floats:
    """Scores of bootstrap samples, (B, n), drawn by the first grouping."""
    rng, groups = np.random.default_rng(likelihood.settings.seed), groupings[0] if groupings else None
    samples = np.empty((likelihood.settings.bootstrap, likelihood.n))
    for sample in samples:
        try:
            drawn = maximise(likelihood.resampled(rng, groups=groups), start=maximum.point, accuracy=BOOTSTRAP_STEP)
        except NoMaximumError:
            raise ValueError(
                "A bootstrap sample has no finite maximum: there are too few rows for a bootstrap."
            ) from None
        sample[:] = drawn.point[: likelihood.n]
    return samples
