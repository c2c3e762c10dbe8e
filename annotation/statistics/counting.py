"""Comparisons added up by pair, in cache-sized pieces: what a million rows cost is decided here.

A cell is what is known of one (left, right): the summed weights of its losses, ties and wins of the left. Scores need
no more than that.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from functools import cache
from types import ModuleType
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from annotation.statistics.codes import range_of

Integers: TypeAlias = npt.NDArray[np.integer[Any]]
Floats: TypeAlias = npt.NDArray[np.float64]

LOSS, TIE, WIN = 0, 1, 2
"""Rows of a cell's sums: twice the outcome of the left."""

PIECE, SMALL_TABLE = 1 << 17, 1 << 20
WORTH_COMPILING = 500_000
"""Rows from which numba's loops repay the import of numba; below that they serve where it is imported already."""


@dataclass(frozen=True)
class Cells:
    """M cells. `sums`: (3, M) weights of losses, ties, wins; `squares`: (3, M) squared weights, row by row.

    `squares` is None where every cell is a single row.
    """

    left: Integers
    right: Integers
    sums: Floats
    squares: Floats | None


def compiled(*, rows: int) -> ModuleType | None:
    """The compiled loops, where numba is installed and there are rows enough for it."""
    if rows < WORTH_COMPILING and "annotation.statistics.loops" not in sys.modules:
        return None
    return _import_loops()


@cache
def _import_loops() -> ModuleType | None:
    try:
        from annotation.statistics import loops
    except (ImportError, RuntimeError):  # not installed, made for another numpy, or nowhere to keep what it compiles
        return None
    return loops


@dataclass(frozen=True)
class Outcomes:
    """N outcomes: `values` times `scale` is twice the outcome of the left, 0, 1, 2 for a loss, a tie, a win."""

    values: npt.NDArray[Any]
    scale: int = 2

    def levels(self, rows: slice = slice(None)) -> npt.NDArray[np.intp] | None:
        """0, 1, 2 for loss, tie, win of some rows; None where an outcome is none of 0, 1/2, 1."""
        doubled = self.values[rows] * self.scale
        with np.errstate(invalid="ignore"):
            level = doubled.astype(np.intp)
        return level if level.min() >= 0 and level.max() <= 2 and (level == doubled).all() else None


def count_cells(left: Integers, *, right: Integers, outcomes: Outcomes, n: int, ordered: bool) -> Cells | None:
    """The cells of rows that count once each, added up in a table; `ordered` as in `fold`.

    None where an outcome is none of 0, 1/2, 1, or a code none of 0 … n - 1.
    """
    counts = _tally(left, right=right, outcomes=outcomes, n=n, keys=np.empty(0, dtype=np.intp))
    if counts is None:
        return None
    if ordered or not (loops := compiled(rows=len(left))):
        return fold(_planes(counts, n=n), ordered=ordered)
    first, second, sums = loops.fold_counts(counts.reshape(n, n, 3))
    return Cells(left=first, right=second, sums=sums, squares=sums)


def _tally(
    left: Integers, *, right: Integers, outcomes: Outcomes, n: int, keys: npt.NDArray[np.intp]
) -> Integers | None:
    """How often each (left, right) ended in a loss, tie, win: a flat table (n, n, 3); and, in `keys` (N,) unless it is
    empty, where each row stands in it. None as in `count_cells`.
    """
    loops = compiled(rows=len(left))
    kind = np.dtype(np.uint32 if len(left) < 2**32 else np.uint64)  # half as large a table: more of it in the cache
    counts: Integers = np.zeros(3 * n * n, dtype=kind)
    if loops is not None:
        known = loops.tally(left, right, outcomes.values, outcomes.scale, n, counts, keys)
        return counts if known else None
    for start in range(0, len(left), PIECE):
        rows = slice(start, start + PIECE)
        level, sides = outcomes.levels(rows), (left[rows], right[rows])
        lowest, highest = range_of(*sides)
        if level is None or lowest < 0 or highest >= n:
            return None
        key = sides[0].astype(np.intp)
        key *= n
        key += sides[1]
        key *= 3
        key += level
        counts += np.bincount(key, minlength=len(counts)).astype(kind)
        if len(keys):
            keys[rows] = key
    return counts


def _planes(counts: npt.NDArray[Any], *, n: int) -> Floats:
    """A flat table (n, n, 3) as (3, n, n)."""
    return counts.reshape(n, n, 3).transpose(2, 0, 1).astype(float, order="C")


def is_table_worth(n: int, *, rows: int) -> bool:
    """Whether a table of n x n pairs is small beside the rows, or small at all."""
    return 3 * n * n <= SMALL_TABLE + rows


def fold(table: Floats, *, squares: Floats | None = None, ordered: bool) -> Cells:
    """The cells of a table (3, n, n), `squares` being the table of squared weights where it is not the same.

    Unless `ordered`, (b, a) is turned round and added to (a, b), a < b.
    """
    turned = table if ordered else np.triu(table + table[::-1].transpose(0, 2, 1))
    left, right = np.nonzero(turned[LOSS] + turned[TIE] + turned[WIN])
    sums = turned[:, left, right]
    if squares is None:
        return Cells(left=left, right=right, sums=sums, squares=sums)
    turned = squares if ordered else np.triu(squares + squares[::-1].transpose(0, 2, 1))
    return Cells(left=left, right=right, sums=sums, squares=turned[:, left, right])


@dataclass(frozen=True)
class Rows:
    """N rows behind M cells: row r adds its weight, 1 where there are none, to entry `place[r]` of the sums (3 * M)."""

    place: npt.NDArray[np.intp]
    weights: Floats | None


def place_rows(
    left: Integers, *, right: Integers, outcomes: Outcomes, weights: Floats | None, n: int, ordered: bool
) -> tuple[Rows, Cells] | None:
    """Rows and the cells that they fall into; unless `ordered`, a row with left > right is turned round.

    None as in `count_cells`.
    """
    if not is_table_worth(n, rows=len(left)):
        return _place_among_many(left, right=right, outcomes=outcomes, weights=weights, n=n, ordered=ordered)
    key = np.empty(len(left), dtype=np.intp)
    counts = _tally(left, right=right, outcomes=outcomes, n=n, keys=key)
    if counts is None:
        return None
    table, squared = _planes(counts, n=n), None
    if weights is not None:
        table, squared = (_planes(add_at(key, weights=part, size=3 * n * n), n=n) for part in (weights, weights**2))
    cells = fold(table, squares=squared, ordered=ordered)
    lookup, places = np.zeros((n, n, 3), dtype=np.intp), np.arange(cells.sums.size).reshape(3, -1).T
    if not ordered:
        lookup[cells.right, cells.left] = places[:, ::-1]
    lookup[cells.left, cells.right] = places
    return Rows(place=lookup.ravel().take(key), weights=weights), cells


def _place_among_many(
    left: Integers, *, right: Integers, outcomes: Outcomes, weights: Floats | None, n: int, ordered: bool
) -> tuple[Rows, Cells] | None:
    """The same among so many items that a table of n x n would be mostly empty: by sorting the pairs."""
    level, (lowest, highest) = outcomes.levels(), range_of(left, right)
    if level is None or lowest < 0 or highest >= n:
        return None
    if not ordered:
        level = np.where(left > right, 2 - level, level)
        left, right = np.minimum(left, right), np.maximum(left, right)
    pairs, cell = np.unique(left.astype(np.intp) * n + right, return_inverse=True)
    place, size = level * len(pairs) + cell, 3 * len(pairs)
    squares = None if weights is None else weights**2
    sums, squared = (add_at(place, weights=part, size=size).reshape(3, -1) for part in (weights, squares))
    return Rows(place=place, weights=weights), Cells(pairs // n, right=pairs % n, sums=sums, squares=squared)


def add_at(places: Integers, *, weights: Floats | None, size: int) -> Floats:
    """The weights, 1 each where there are none, added up by place: (size,)."""
    return np.asarray(np.bincount(places, weights=weights, minlength=size), dtype=float)
