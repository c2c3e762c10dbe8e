"""The likelihood of comparisons, its maximum, and what stands around it. `bradley_terry` reads the data for it.

Parameters stand in one vector: n scores, n deviations for each of c contexts, q effects, and the tie parameter where
there is one. Cells are few (pairs) or many (rows with features of their own); the algebra is the same.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from annotation.statistics.codes import Names, show_names
from annotation.statistics.connectivity import Connectivity, connect
from annotation.statistics.counting import LOSS, TIE, WIN, Cells, Rows
from annotation.statistics.covariance import (
    centre,
    clip_to_semidefinite,
    combine_groupings,
    constants,
    laplacian,
    sum_outer_products,
)
from annotation.statistics.fits import ContextScores, Effect, Fit
from annotation.statistics.newton import Evaluation, Maximum, NoMaximumError, invert, maximise
from annotation.statistics.tie_models import MODELS, Terms, starting_tie

Integers: TypeAlias = npt.NDArray[np.integer[Any]]
Floats: TypeAlias = npt.NDArray[np.float64]
Groups: TypeAlias = npt.NDArray[np.intp]
Ties: TypeAlias = Literal["half", "davidson", "rao-kupper"]
Covariance: TypeAlias = Literal["robust", "model", "none"]

BOOTSTRAP_STEP = 1e-4
"""Newton's last step in a bootstrap sample: what is left after it, of the order 1e-8, is far below the spread."""
INSEPARABLE = 1e10
"""How much an effect's variance may be inflated by the others before it counts as one that cannot be told."""


@dataclass(frozen=True)
class Settings:
    """How to fit; the fields are arguments of `bradley_terry.fit`."""

    ties: Ties = "half"
    ridge: float = 0.0
    covariate_ridge: float = 0.0
    context_ridge: float = 1.0
    covariance: Covariance = "robust"
    bootstrap: int = 0
    seed: int = 0
    reference: Hashable | None = None

    def __post_init__(self) -> None:
        if self.ties not in MODELS:
            raise ValueError(f"Unknown ties {self.ties!r}; use one of {', '.join(MODELS)}.")
        if self.covariance not in ("robust", "model", "none"):
            raise ValueError(f"Unknown covariance {self.covariance!r}; use robust, model or none.")
        for name in ("ridge", "covariate_ridge", "context_ridge"):
            if not 0 <= getattr(self, name) < math.inf:
                raise ValueError(f"{name} must be a number of 0 or more, not {getattr(self, name)}.")


@dataclass(frozen=True)
class Design:
    """What acts on M cells beside their items: `effects` (M, q) columns, `contexts` (M, c) features, by name."""

    effects: Floats
    names: tuple[str, ...]
    penalties: tuple[float, ...]
    contexts: Floats
    context_names: tuple[str, ...]


@dataclass(frozen=True)
class Data:
    """Comparisons added up to M cells, and the N rows behind them where somebody asks for rows.

    `rows` is None where nobody does, or where every cell is a row by itself.
    """

    names: Names
    cells: Cells
    design: Design
    rows: Rows | None
    count: int

    @property
    def cell_of_row(self) -> Integers:
        """The cell of each row, (N,)."""
        cells = len(self.cells.left)
        return np.arange(cells) if self.rows is None else self.rows.place % cells

    def scores_of_rows(self, by_outcome: Floats) -> Floats:
        """Each row's derivative, (N,), from the derivatives of its cell by outcome, (3, M)."""
        if self.rows is None:
            return np.asarray((self.cells.sums * by_outcome).sum(axis=0))
        scores = np.broadcast_to(by_outcome, self.cells.sums.shape).ravel()[self.rows.place]
        return scores if self.rows.weights is None else scores * self.rows.weights

    def reweighted(self, factors: Floats) -> Floats:
        """The cells' sums, (3, M), with each row's weight times its factor, (N,)."""
        if self.rows is None:
            return self.cells.sums * factors
        weights = factors if self.rows.weights is None else self.rows.weights * factors
        return np.bincount(self.rows.place, weights=weights, minlength=self.cells.sums.size).reshape(3, -1)

    def select(self, kept: npt.NDArray[np.bool_]) -> tuple[Data, npt.NDArray[np.bool_]]:
        """The data in the cells that are `kept` (M,), and which rows are in them, (N,)."""
        cells, rows = self.cells, self.rows
        kept_rows = kept if rows is None else kept[self.cell_of_row]
        squares = None if cells.squares is None else cells.squares[:, kept]
        fewer = Cells(left=cells.left[kept], right=cells.right[kept], sums=cells.sums[:, kept], squares=squares)
        if rows is not None:
            level, cell = np.divmod(rows.place[kept_rows], len(kept))
            place = level * len(fewer.left) + (np.cumsum(kept) - 1)[cell]
            rows = Rows(place=place, weights=None if rows.weights is None else rows.weights[kept_rows])
        design = replace(self.design, effects=self.design.effects[kept], contexts=self.design.contexts[kept])
        count = int(kept_rows.sum()) if rows is not None or squares is None else round(float(fewer.sums.sum()))
        return replace(self, cells=fewer, rows=rows, design=design, count=count), kept_rows


class Likelihood:
    """The penalised log likelihood of the cells, as a function of one vector of P parameters."""

    def __init__(self, data: Data, *, settings: Settings, component: npt.NDArray[np.intp]) -> None:
        self.data, self.settings, self.component = data, settings, component
        self.left, self.right, self.sums = data.cells.left, data.cells.right, data.cells.sums
        design, self.n = data.design, len(data.names)
        self.factors = [np.ones(1), *design.contexts.T]
        self.effects_at = self.n * len(self.factors)
        ties = float(self.sums[TIE].sum())
        self.has_tie = settings.ties != "half" and ties > 0
        self.terms_of = MODELS[settings.ties if self.has_tie else "half"]
        self.tie_share = ties / float(self.sums.sum())
        if self.has_tie and self.tie_share == 1:
            raise ValueError("Every comparison is a tie: their parameter has no finite value.")
        self.effect_names = (*design.names, *(["tie"] if self.has_tie else []))
        self.constants = constants(component) if settings.ridge == 0 else np.zeros((0, 0))
        self.penalty = np.concatenate(
            [
                np.full(self.n, settings.ridge),
                np.full(self.n * design.contexts.shape[1], settings.context_ridge),
                design.penalties,
                np.zeros(int(self.has_tie)),
            ]
        )

    def start(self) -> Floats:
        """Scores as if every item had met all others, no effects, and the tie parameter of equal items.

        Against others of variance v an item's logit of wins is about its score over sqrt(1 + pi v / 8).
        """
        point = np.zeros(len(self.penalty))
        won = self._by_item((self.sums[WIN] - self.sums[LOSS]) / 2)
        met = self._met(self.sums.sum(axis=0))
        logits = 2 * np.arctanh(2 * won / (met + 1))
        spread = min(float(logits.var()) * math.pi / 8, 0.75)
        point[: self.n] = (logits - logits.mean()) / math.sqrt(1 - spread)
        if self.has_tie:
            point[-1] = starting_tie(self.settings.ties, share=self.tie_share)
        return point

    def terms(self, point: Floats, *, sums: Floats) -> Terms:
        """The tie model's terms at a point."""
        scores = point[: self.effects_at].reshape(-1, self.n)
        eta = sum(factor * (s[self.left] - s[self.right]) for factor, s in zip(self.factors, scores, strict=True))
        effects = self.data.design.effects
        if effects.shape[1]:
            eta = eta + effects @ point[self.effects_at : self.effects_at + effects.shape[1]]
        return self.terms_of(np.asarray(eta), tie=point[-1] if self.has_tie else 0.0, sums=sums)

    def __call__(self, point: Floats, *, sums: Floats | None = None) -> Evaluation:
        """Value, gradient and information at a point; `sums` (3, M) stand in for those of the data."""
        sums = self.sums if sums is None else sums
        terms = self.terms(point, sums=sums)
        by_tie = float((sums * terms.by_tie).sum()) if self.has_tie else 0.0
        gradient = self.collect(np.einsum("km,km->m", sums, terms.by_eta), by_tie=by_tie)
        information = self.quadratic(terms.ee, et=terms.et, tt=terms.tt)
        information[np.diag_indices(len(point))] += self.penalty
        return Evaluation(
            value=terms.value - float(self.penalty @ point**2) / 2,
            gradient=gradient - self.penalty * point,
            information=self._ground(information),
        )

    def collect(self, by_eta: Floats, *, by_tie: float) -> Floats:
        """A derivative by parameters, (P,), from derivatives by eta, (M,), and by the tie parameter."""
        parts = [self._by_item(factor * by_eta) for factor in self.factors]
        return np.concatenate([*parts, self.data.design.effects.T @ by_eta, [by_tie] * self.has_tie])

    def quadratic(self, ee: Floats, *, et: Floats, tt: Floats) -> Floats:
        """The sum over cells of x x', weighted: (P, P), x being the derivative of (eta, tie) by the parameters."""
        n, at, columns = self.n, self.effects_at, self.data.design.effects
        if not self.has_tie and len(self.penalty) == n:
            return laplacian(self.left, right=self.right, weights=ee, n=n)
        total = np.zeros((len(self.penalty), len(self.penalty)))
        for a, first in enumerate(self.factors):
            block = slice(a * n, (a + 1) * n)
            for b, second in enumerate(self.factors[: a + 1]):
                weights = first * second * ee
                total[block, b * n : (b + 1) * n] = laplacian(self.left, right=self.right, weights=weights, n=n)
            for k, column in enumerate(columns.T):
                total[at + k, block] = self._by_item(first * ee * column)
            if self.has_tie:
                total[-1, block] = self._by_item(first * et)
        effects = slice(at, at + columns.shape[1])
        total[effects, effects] = columns.T @ (ee[:, None] * columns)
        if self.has_tie:
            total[-1, effects] = columns.T @ et
            total[-1, -1] = tt.sum()
        return np.tril(total) + np.tril(total, -1).T

    def meat(self, point: Floats) -> Floats:
        """The sum of u u' over single rows, u being a row's score, (P, P)."""
        terms, squares = self.terms(point, sums=self.sums), self.data.cells.squares
        if squares is None:
            eta, tie = self.data.scores_of_rows(terms.by_eta), self.data.scores_of_rows(terms.by_tie)
            return self.quadratic(eta**2, et=eta * tie, tt=tie**2)
        return self.quadratic(
            (squares * terms.by_eta**2).sum(axis=0),
            et=(squares * terms.by_eta * terms.by_tie).sum(axis=0),
            tt=(squares * terms.by_tie**2).sum(axis=0),
        )

    def clustered_meat(self, point: Floats, *, groupings: Sequence[Groups]) -> tuple[Floats, int]:
        """The same with the rows of a group added before they are squared, and the number of groups."""
        terms, cell = self.terms(point, sums=self.sums), self.data.cell_of_row
        by_eta = self.data.scores_of_rows(terms.by_eta)
        columns: list[Integers] = []
        entries: list[Floats] = []
        for a, factor in enumerate(self.factors):
            scaled = by_eta * (factor if len(factor) == 1 else factor[cell])
            columns += [self.left[cell] + a * self.n, self.right[cell] + a * self.n]
            entries += [scaled, -scaled]
        for k, column in enumerate(self.data.design.effects.T):
            columns.append(np.full(len(cell), self.effects_at + k))
            entries.append(by_eta * column[cell])
        if self.has_tie:
            columns.append(np.full(len(cell), len(point) - 1))
            entries.append(self.data.scores_of_rows(terms.by_tie))
        places, values = np.stack(columns, axis=1), np.stack(entries, axis=1)
        return combine_groupings(
            groupings,
            meat=lambda groups: sum_outer_products(groups, columns=places, entries=values, size=len(point)),
        )

    def _by_item(self, values: Floats) -> Floats:
        up = np.bincount(self.left, weights=values, minlength=self.n)
        return np.asarray(up - np.bincount(self.right, weights=values, minlength=self.n))

    def _met(self, values: Floats) -> Floats:
        both = np.concatenate([self.left, self.right])
        return np.bincount(both, weights=np.concatenate([values, values]), minlength=self.n)

    def _ground(self, information: Floats) -> Floats:
        """Without a ridge, a constant added to a component changes nothing: fill that direction in, to a typical size.

        It is orthogonal to all else, so that no step goes there and centring removes it from the inverse.
        """
        if self.settings.ridge == 0:
            items = information[: self.n, : self.n]
            items += self.constants * (np.trace(items) / self.n)
        return information


def fit_data(data: Data, *, groupings: Sequence[Groups], settings: Settings) -> Fit:
    """Fit comparisons that were read and added up; `groupings`: none, one or two codings of the N rows."""
    connectivity, joined = connect_cells(data), settings.ridge > 0
    component = np.zeros(len(data.names), dtype=np.intp) if joined else connectivity.component
    if not joined and not connectivity.is_connected:
        data, kept = data.select(component[data.cells.left] == component[data.cells.right])
        groupings = [np.unique(groups[kept], return_inverse=True)[1] for groups in groupings]
    unfitted = Fit(
        model="bradley-terry", ties=settings.ties, items=data.names, scores=np.full(len(data.names), np.nan),
        covariance=None, effects=(), connectivity=connectivity, joined=joined, rows=data.count, clusters=0,
        log_likelihood=0.0, iterations=0,
    )  # fmt: skip
    if not len(data.cells.left):
        nothing = np.full((len(data.names), len(data.names)), np.nan)
        return replace(unfitted, covariance=None if settings.covariance == "none" else nothing)
    likelihood = Likelihood(data, settings=settings, component=component)
    maximum = find_maximum(likelihood)
    covariance, clusters = covariance_of(likelihood, maximum=maximum, groupings=groupings)
    fitted = replace(
        unfitted,
        clusters=clusters,
        log_likelihood=maximum.there.value + float(likelihood.penalty @ maximum.point**2) / 2,
        iterations=maximum.iterations,
        effects=effects_of(likelihood, point=maximum.point, covariance=covariance),
        contexts=contexts_of(likelihood, point=maximum.point, covariance=covariance),
        samples=draw_samples(likelihood, maximum=maximum, groupings=groupings) if settings.bootstrap else None,
    )
    n = likelihood.n
    return fitted.with_scores(maximum.point[:n], covariance=None if covariance is None else covariance[:n, :n])


def connect_cells(data: Data) -> Connectivity:
    """Who beat whom, directly or over others; a tie beats both ways."""
    cells = data.cells
    up, down = cells.sums[WIN] + cells.sums[TIE] > 0, cells.sums[LOSS] + cells.sums[TIE] > 0
    winners = np.concatenate([cells.left[up], cells.right[down]])
    losers = np.concatenate([cells.right[up], cells.left[down]])
    return connect(winners, losers=losers, items=data.names)


def find_maximum(likelihood: Likelihood) -> Maximum:
    """Scores and effects. Raises ValueError where the data leave some effect without a finite value."""
    try:
        return maximise(likelihood, start=likelihood.start())
    except NoMaximumError as error:
        named = show_names(likelihood.effect_names) if likelihood.effect_names else "the scores"
        raise ValueError(
            f"These data give no finite value to {named}: something decides every comparison, or is the same as "
            "something else. Leave it out, or give a ridge."
        ) from error


def covariance_of(
    likelihood: Likelihood, *, maximum: Maximum, groupings: Sequence[Groups]
) -> tuple[Floats | None, int]:
    """Covariance of all parameters, (P, P), scores centred by component; and how many groups it counts on."""
    data, kind = likelihood.data, likelihood.settings.covariance
    inverse = invert(maximum.there.information)
    variances, extra = np.diag(inverse) * np.diag(maximum.there.information), slice(likelihood.effects_at, None)
    if inseparable := [
        name for name, inflation in zip(likelihood.effect_names, variances[extra], strict=True) if inflation > INSEPARABLE
    ]:
        raise ValueError(f"The data cannot tell {show_names(inseparable)} from the scores and the other effects.")
    if kind == "none":
        return None, 0
    if kind == "model":
        clusters = data.count
    elif groupings:
        meat, clusters = likelihood.clustered_meat(maximum.point, groupings=groupings)
        inverse = inverse @ meat @ inverse
        inverse = clip_to_semidefinite(inverse) if len(groupings) > 1 else inverse
    else:
        clusters = data.count
        inverse = inverse @ likelihood.meat(maximum.point) @ inverse * (clusters / max(clusters - 1, 1))
    return centre(inverse, component=likelihood.component), clusters


def effects_of(likelihood: Likelihood, *, point: Floats, covariance: Floats | None) -> tuple[Effect, ...]:
    """The effects by name, with their standard errors."""
    at = likelihood.effects_at
    errors = np.full(len(point), np.nan) if covariance is None else np.sqrt(np.maximum(np.diag(covariance), 0))
    return tuple(
        Effect(name=name, value=float(value), standard_error=float(error))
        for name, value, error in zip(likelihood.effect_names, point[at:], errors[at:], strict=True)
    )


def contexts_of(likelihood: Likelihood, *, point: Floats, covariance: Floats | None) -> tuple[ContextScores, ...]:
    """Each item's score within each context: its own plus the deviation there."""
    n, found = likelihood.n, []
    for k, name in enumerate(likelihood.data.design.context_names, start=1):
        block = slice(k * n, (k + 1) * n)
        errors = np.full(n, np.nan)
        if covariance is not None:
            parts = (covariance[:n, :n], covariance[block, block], 2 * covariance[:n, block])
            errors = np.sqrt(np.maximum(sum(np.diag(part) for part in parts), 0))
        found.append(ContextScores(name=name, scores=point[:n] + point[block], standard_errors=errors))
    return tuple(found)


def draw_samples(likelihood: Likelihood, *, maximum: Maximum, groupings: Sequence[Groups]) -> Floats:
    """Scores of bootstrap samples, (B, n): every group, or every row, gets an exponential weight.

    A sum of m such weights has a gamma distribution of shape m, so that counts need no rows.
    """
    data, rng = likelihood.data, np.random.default_rng(likelihood.settings.seed)
    samples = np.empty((likelihood.settings.bootstrap, likelihood.n))
    for number in range(len(samples)):
        if groupings:
            sums = data.reweighted(rng.standard_exponential(int(groupings[0].max()) + 1)[groupings[0]])
        elif data.rows is not None or data.cells.squares is None:
            sums = data.reweighted(rng.standard_exponential(data.count))
        else:
            sums = rng.standard_gamma(data.cells.sums)
        drawn = maximise(
            lambda point, sums=sums: likelihood(point, sums=sums), start=maximum.point, accuracy=BOOTSTRAP_STEP
        )
        samples[number] = drawn.point[: likelihood.n]
    return samples
