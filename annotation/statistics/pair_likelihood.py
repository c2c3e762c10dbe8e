"""The likelihood of comparisons, its maximum, and what stands around it. `bradley_terry` reads the data for it.

Parameters stand in one vector: n scores, n deviations for each of c contexts, q effects, and the tie parameter where
there is one. Cells are few (pairs) or many (rows with features of their own); the algebra is the same.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from annotation.statistics.codes import Names
from annotation.statistics.connectivity import Connectivity, connect
from annotation.statistics.counting import LOSS, TIE, WIN, Cells, Rows, add_at, compiled
from annotation.statistics.covariance import combine_groupings, constants, ground, laplacian_of, sum_outer_products
from annotation.statistics.estimation import Options, check_precisions, estimate
from annotation.statistics.fits import ContextScores, Fit
from annotation.statistics.newton import Evaluation
from annotation.statistics.tie_models import MODELS, TieModel, starting_tie

Integers: TypeAlias = npt.NDArray[np.integer[Any]]
Floats: TypeAlias = npt.NDArray[np.float64]
Groups: TypeAlias = npt.NDArray[np.intp]
Ties: TypeAlias = Literal["half", "davidson", "rao-kupper"]


@dataclass(frozen=True)
class Settings(Options):
    """How to fit comparisons; the fields are arguments of `bradley_terry.fit`."""

    ties: Ties = "half"
    covariate_ridge: float = 0.0
    context_ridge: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.ties not in MODELS:
            raise ValueError(f"Unknown ties {self.ties!r}; use one of {', '.join(MODELS)}.")
        check_precisions(covariate_ridge=self.covariate_ridge, context_ridge=self.context_ridge)


@dataclass(frozen=True)
class Design:
    """What acts on M cells beside their items: `effects` (M, q) columns, `contexts` (M, c) features, by name."""

    effects: Floats
    names: tuple[str, ...]
    penalties: tuple[float, ...]
    contexts: Floats
    context_names: tuple[str, ...]


def no_design(cells: int) -> Design:
    """The design of cells with nothing but their items."""
    return Design(effects=np.empty((cells, 0)), names=(), penalties=(), contexts=np.empty((cells, 0)), context_names=())


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

    def reweighted(self, factors: Floats) -> Floats:
        """The cells' sums, (3, M), with each row's weight times its factor, (N,)."""
        if self.rows is None:
            return self.cells.sums * factors
        weights = factors if self.rows.weights is None else self.rows.weights * factors
        return add_at(self.rows.place, weights=weights, size=self.cells.sums.size).reshape(3, -1)

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


class PairLikelihood:
    """The penalised log likelihood of the cells, as a function of one vector of P parameters."""

    def __init__(self, data: Data, *, settings: Settings, component: npt.NDArray[np.intp]) -> None:
        self.data, self.settings, self.component = data, settings, component
        self.names, self.count, self.total_weight = data.names, data.count, float(data.cells.sums.sum())
        self.left, self.right, self.sums = data.cells.left, data.cells.right, data.cells.sums
        design, self.n = data.design, len(data.names)
        self.pair = self.left * self.n + self.right
        self.factors = [np.ones(1), *design.contexts.T]
        self.effects_at = self.n * len(self.factors)
        ties = float(self.sums[TIE].sum())
        self.has_tie = settings.ties != "half" and ties > 0
        self.model_of = MODELS[settings.ties if self.has_tie else "half"]
        self.model = self.model_of(self.sums)
        self.tie_share = ties / float(self.sums.sum()) if ties else 0.0
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
        losses, even, wins = self.sums
        won, met = self._table((wins - losses) / 2), self._table(losses + even + wins)
        lead, games = won.sum(axis=1) - won.sum(axis=0), met.sum(axis=1) + met.sum(axis=0)
        logits = 2 * np.arctanh(2 * lead / (games + 1))
        spread = min(float(logits.var()) * math.pi / 8, 0.75)
        point[: self.n] = (logits - logits.mean()) / math.sqrt(1 - spread)
        if self.has_tie:
            point[-1] = starting_tie(self.settings.ties, share=self.tie_share)
        return point

    def __call__(self, point: Floats) -> Evaluation:
        """Value, gradient and information at a point."""
        return self.evaluate(point, model=self.model)

    def evaluate(self, point: Floats, *, model: TieModel) -> Evaluation:
        """The same for a model of ties that was made of other sums."""
        terms = model.terms(self.eta(point), tie=self.tie(point))
        if len(point) == self.n and (loops := compiled(rows=self.count)):
            gradient, information = np.zeros(self.n), np.zeros((self.n, self.n))
            loops.spread(self.left, self.right, terms.by_eta, terms.ee, gradient, information)
        else:
            gradient = self.collect(terms.by_eta, by_tie=terms.by_tie)
            information = self.quadratic(terms.ee, et=terms.et, tt=terms.tt)
        information[np.diag_indices(len(point))] += self.penalty
        return Evaluation(
            value=terms.value - float(self.penalty @ point**2) / 2,
            gradient=gradient - self.penalty * point,
            information=ground(information, constants=self.constants),
        )

    def eta(self, point: Floats) -> Floats:
        """Log odds of the cells' left against their right, (M,)."""
        scores = point[: self.effects_at].reshape(-1, self.n)
        eta = scores[0].take(self.left) - scores[0].take(self.right)
        for factor, deviations in zip(self.factors[1:], scores[1:], strict=True):
            eta += factor * (deviations[self.left] - deviations[self.right])
        effects = self.data.design.effects
        return eta + effects @ point[self.effects_at :][: effects.shape[1]] if effects.shape[1] else eta

    def tie(self, point: Floats) -> float:
        """The tie parameter at a point, 0 where there is none."""
        return float(point[-1]) if self.has_tie else 0.0

    def collect(self, by_eta: Floats, *, by_tie: float) -> Floats:
        """A derivative by parameters, (P,), from derivatives by eta, (M,), and by the tie parameter."""
        parts = [self._by_item(factor * by_eta) for factor in self.factors]
        return np.concatenate([*parts, self.data.design.effects.T @ by_eta, [by_tie] * self.has_tie])

    def quadratic(self, ee: Floats, *, et: Floats, tt: Floats) -> Floats:
        """The sum over cells of x x', weighted: (P, P), x being the derivative of (eta, tie) by the parameters."""
        n, at, columns = self.n, self.effects_at, self.data.design.effects
        if not self.has_tie and len(self.penalty) == n:
            return laplacian_of(self._table(ee))
        total = np.zeros((len(self.penalty), len(self.penalty)))
        for a, first in enumerate(self.factors):
            block = slice(a * n, (a + 1) * n)
            for b, second in enumerate(self.factors[: a + 1]):
                total[block, b * n : (b + 1) * n] = laplacian_of(self._table(first * second * ee))
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
        by_eta, by_tie = self.model.by_outcome(self.eta(point), tie=self.tie(point))
        squares = self.data.cells.squares
        if squares is None:
            eta, tie = (self.sums * by_eta).sum(axis=0), (self.sums * by_tie).sum(axis=0)
            return self.quadratic(eta**2, et=eta * tie, tt=tie**2)
        return self.quadratic(
            (squares * by_eta**2).sum(axis=0),
            et=(squares * by_eta * by_tie).sum(axis=0),
            tt=(squares * by_tie**2).sum(axis=0),
        )

    def clustered_meat(self, point: Floats, *, groupings: Sequence[Groups]) -> tuple[Floats, int]:
        """The same with the rows of a group added before they are squared, and the number of groups."""
        rows, cells = self.data.rows, len(self.left)
        by_eta, by_tie = self.model.by_outcome(self.eta(point), tie=self.tie(point))
        if rows is None:
            by_eta, by_tie = (self.sums * by_eta).sum(axis=0), (self.sums * by_tie).sum(axis=0)
        cell = np.arange(cells) if rows is None else np.tile(np.arange(cells), 3)
        by_eta, by_tie = by_eta.ravel(), by_tie.ravel()
        items = 2 * len(self.factors)
        columns = np.empty((len(cell), items + len(self.effect_names)), dtype=np.int32)
        entries = np.empty(columns.shape)
        for a, factor in enumerate(self.factors):
            entries[:, 2 * a] = by_eta if a == 0 else by_eta * factor[cell]
            entries[:, 2 * a + 1] = -entries[:, 2 * a]
            columns[:, 2 * a], columns[:, 2 * a + 1] = self.left[cell] + a * self.n, self.right[cell] + a * self.n
        columns[:, items:] = self.effects_at + np.arange(len(self.effect_names))
        for k, column in enumerate(self.data.design.effects.T, start=items):
            entries[:, k] = by_eta * column[cell]
        if self.has_tie:
            entries[:, -1] = by_tie
        place, weights = (None, None) if rows is None else (rows.place, rows.weights)

        def meat(groups: Groups) -> Floats:
            return sum_outer_products(
                groups, columns=columns, entries=entries, size=len(point), place=place, weights=weights
            )

        return combine_groupings(groupings, meat=meat)

    def edges(self, rows: slice) -> tuple[Integers, Integers, Integers]:
        """Who was compared with whom in some of the rows: two items of each comparison, and the row."""
        row = np.arange(rows.start, rows.stop)
        cell = row if self.data.rows is None else self.data.rows.place[rows] % len(self.left)
        return self.left[cell], self.right[cell], row

    def resampled(self, rng: np.random.Generator, *, groups: Groups | None) -> Callable[[Floats], Evaluation]:
        """The likelihood with an exponential weight on every group, or on every row.

        A sum of m such weights has a gamma distribution of shape m, so that counts need no rows.
        """
        data = self.data
        if groups is not None:
            sums = data.reweighted(rng.standard_exponential(int(groups.max()) + 1)[groups])
        elif data.rows is not None or data.cells.squares is None:
            sums = data.reweighted(rng.standard_exponential(data.count))
        else:
            sums = rng.standard_gamma(data.cells.sums)
        model = self.model_of(sums)
        return lambda point: self.evaluate(point, model=model)

    def _table(self, values: Floats) -> Floats:
        """Values of cells, (M,), added up in a table of pairs, (n, n)."""
        return add_at(self.pair, weights=values, size=self.n**2).reshape(self.n, self.n)

    def _by_item(self, values: Floats) -> Floats:
        """What each item is given where it is the left, less what it is given where it is the right, (n,)."""
        table = self._table(values)
        return np.asarray(table.sum(axis=1) - table.sum(axis=0))


def fit_data(data: Data, *, groupings: Sequence[Groups], settings: Settings) -> Fit:
    """Fit comparisons that were read and added up; `groupings`: none, one or two codings of the N rows."""
    connectivity, joined = connect_cells(data), settings.ridge > 0
    component = np.zeros(len(data.names), dtype=np.intp) if joined else connectivity.component
    if not joined and not connectivity.is_connected:
        data, kept = data.select(component[data.cells.left] == component[data.cells.right])
        groupings = [np.unique(groups[kept], return_inverse=True)[1] for groups in groupings]
    likelihood = PairLikelihood(data, settings=settings, component=component)
    fitted, maximum, covariance = estimate(likelihood, groupings=groupings, connectivity=connectivity)
    contexts = () if maximum is None else contexts_of(likelihood, point=maximum.point, covariance=covariance)
    return replace(fitted, model="bradley-terry", ties=settings.ties, contexts=contexts)


def connect_cells(data: Data) -> Connectivity:
    """Who beat whom, directly or over others; a tie beats both ways."""
    cells = data.cells
    up, down = cells.sums[WIN] + cells.sums[TIE] > 0, cells.sums[LOSS] + cells.sums[TIE] > 0
    winners = np.concatenate([cells.left[up], cells.right[down]])
    losers = np.concatenate([cells.right[up], cells.left[down]])
    return connect(winners, losers=losers, items=data.names)


def contexts_of(likelihood: PairLikelihood, *, point: Floats, covariance: Floats | None) -> tuple[ContextScores, ...]:
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
