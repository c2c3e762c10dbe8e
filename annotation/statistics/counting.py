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
    except ImportError:
        return None
    return loops


def count_levels(left: Integers, *, right: Integers, outcomes: npt.NDArray[Any], n: int) -> Floats | None:
    """How often each (left, right) ended in a loss, tie, win: (3, n, n). None where an outcome is none of 0, 1/2, 1.

    Codes must be below `n`: nobody looks again.
    """
    if loops := compiled(rows=len(left)):
        known, counts = loops.tally(left, right, outcomes, n)
        return counts.astype(float) if known else None
    counts = np.zeros(3 * n * n, dtype=np.int64)
    for start in range(0, len(left), PIECE):
        piece = slice(start, start + PIECE)
        key = levels_of(outcomes[piece])
        if key is None:
            return None
        for codes in (left, right):
            key *= n
            key += codes[piece]
        counts += np.bincount(key, minlength=len(counts))
    return counts.reshape(3, n, n).astype(float)


def levels_of(outcomes: npt.NDArray[Any]) -> npt.NDArray[np.intp] | None:
    """0, 1, 2 for loss, tie, win, shape (N,); None where an outcome is none of 0, 1/2, 1."""
    doubled = outcomes * 2
    with np.errstate(invalid="ignore"):
        level = doubled.astype(np.intp)
    return level if level.min() >= 0 and level.max() <= 2 and (level == doubled).all() else None


def fold(table: Floats, *, squares: Floats | None = None, ordered: bool) -> Cells:
    """The cells of a table (3, n, n), `squares` being the table of squared weights where it is not the same.

    Unless `ordered`, (b, a) is turned round and added to (a, b), a < b.
    """
    turned = table if ordered else np.triu(table + table[::-1].transpose(0, 2, 1))
    left, right = np.nonzero(turned.sum(axis=0))
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
    left: Integers, *, right: Integers, level: Integers, weights: Floats | None, n: int, ordered: bool
) -> tuple[Rows, Cells]:
    """Rows and the cells that they fall into; unless `ordered`, a row with left > right is turned round."""
    squares = None if weights is None else weights * weights
    key = (level * n + left) * n + right
    if 3 * n * n > SMALL_TABLE + len(key):
        return _place_sparse_rows(key, weights=weights, squares=squares, n=n, ordered=ordered)
    table, squared = (_add(key, weights=values, size=3 * n * n) for values in (weights, squares))
    shape = (3, n, n)
    cells = fold(
        table.reshape(shape), squares=None if weights is None else squared.reshape(shape), ordered=ordered
    )  # fmt: skip
    lookup, places = np.zeros(shape, dtype=np.intp), np.arange(cells.sums.size).reshape(3, -1)
    if not ordered:
        lookup[:, cells.right, cells.left] = places[::-1]
    lookup[:, cells.left, cells.right] = places
    return Rows(place=lookup.ravel()[key], weights=weights), cells


def _place_sparse_rows(
    key: npt.NDArray[np.intp], *, weights: Floats | None, squares: Floats | None, n: int, ordered: bool
) -> tuple[Rows, Cells]:
    """The same among so many items that a table of n x n would be mostly empty."""
    level, left, right = key // (n * n), key // n % n, key % n
    if not ordered:
        level = np.where(left > right, 2 - level, level)
        left, right = np.minimum(left, right), np.maximum(left, right)
    pairs, cell = np.unique(left * n + right, return_inverse=True)
    place, size = level * len(pairs) + cell, 3 * len(pairs)
    sums, squared = (_add(place, weights=values, size=size).reshape(3, -1) for values in (weights, squares))
    return Rows(place=place, weights=weights), Cells(pairs // n, right=pairs % n, sums=sums, squares=squared)


def _add(places: npt.NDArray[np.intp], *, weights: Floats | None, size: int) -> Floats:
    return np.bincount(places, weights=weights, minlength=size).astype(float, copy=False)
