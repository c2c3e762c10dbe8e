"""Loops over millions of rows, compiled by numba. Every one has a twin in numpy, and the tests hold them equal.

numba is optional (the extra `fast`) and slow to import, so that nothing imports this module but `counting.compiled`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from numba import njit

Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.integer[Any]]
FEW = 16
"""Entries of a group up to which multiplying them all is cheaper than finding those of the same column."""


@njit(cache=True, nogil=True)
def tally(
    left: Integers,
    right: Integers,
    outcomes: npt.NDArray[Any],
    scale: int,
    n: int,
    counts: Integers,
    keys: npt.NDArray[np.intp],
) -> bool:
    """Count by (left, right, level) in `counts`, (n * n * 3), and write into `keys` where each row was counted, unless
    that is empty. False where outcome times scale is no level 0, 1, 2, or a code none of 0 … n - 1.

    Unsigned integers spare the check for places counted from the end.
    """
    items, keeps = np.uint64(n), len(keys) > 0
    for row in range(left.size):
        doubled = outcomes[row] * scale
        level, a, b = np.int64(doubled), np.uint64(left[row]), np.uint64(right[row])
        if level != doubled or np.uint64(level) > np.uint64(2) or a >= items or b >= items:
            return False
        key = (a * items + b) * np.uint64(3) + np.uint64(level)
        counts[key] += 1
        if keeps:
            keys[row] = key
    return True


@njit(cache=True, nogil=True)
def fold_counts(counts: Integers) -> tuple[Integers, Integers, Floats]:
    """`counting.fold` of counts (n, n, 3), unordered: left (M,), right (M,) and sums (3, M), the right not below."""
    items, cells = len(counts), 0
    for a in range(items):
        for b in range(a, items):
            cells += bool(counts[a, b].any() or counts[b, a].any())
    left, right, sums = np.empty(cells, dtype=np.intp), np.empty(cells, dtype=np.intp), np.empty((3, cells))
    cell = 0
    for a in range(items):
        for b in range(a, items):
            if counts[a, b].any() or counts[b, a].any():
                left[cell], right[cell] = a, b
                for level in range(3):
                    sums[level, cell] = counts[a, b, level] + counts[b, a, 2 - level]
                cell += 1
    return left, right, sums


@njit(cache=True, nogil=True)
def spread(
    left: Integers, right: Integers, slopes: Floats, curves: Floats, gradient: Floats, laplacian: Floats
) -> None:
    """Add a cell's slope to `gradient` (n,) at its left, take it off at its right; and its curve times d d' to
    `laplacian` (n, n), d being +1 at the left and -1 at the right.
    """
    for cell in range(len(left)):
        a, b, slope, curve = np.uint64(left[cell]), np.uint64(right[cell]), slopes[cell], curves[cell]
        gradient[a] += slope
        gradient[b] -= slope
        laplacian[a, b] -= curve
        laplacian[b, a] -= curve
        laplacian[a, a] += curve
        laplacian[b, b] += curve


@njit(cache=True, nogil=True)
def sum_outer_products(
    groups: Integers, place: Integers, weights: Floats, columns: Integers, entries: Floats, size: int
) -> Floats:
    """The sum over groups of u u', (size, size), one triangle of it or the other; u is the sum of a group's rows.

    Row r has weights[r] entries[place[r], k] in column columns[place[r], k]; no weights are weights of 1.
    """
    for row in range(1, len(groups)):
        if groups[row] < groups[row - 1]:
            return sum_in_order(*order_rows(groups, place, weights), columns, entries, size)
    return sum_in_order(groups, place, weights, columns, entries, size)


@njit(cache=True, nogil=True)
def order_rows(groups: Integers, place: Integers, weights: Floats) -> tuple[Integers, Integers, Floats]:
    """Groups, places and weights in ascending order of the groups, by counting."""
    ends = np.zeros(groups.max() + 2, dtype=np.int64)
    for group in groups:
        ends[np.uint64(group + 1)] += 1
    ends = np.cumsum(ends)
    places, factors = np.empty(len(place), dtype=np.uint32), np.empty(len(weights))
    for row in range(len(groups)):
        group = np.uint64(groups[row])
        places[np.uint64(ends[group])] = place[row]
        if len(factors):
            factors[np.uint64(ends[group])] = weights[row]
        ends[group] += 1
    in_order, at = np.empty(len(groups), dtype=np.uint32), 0
    for group in range(len(ends) - 1):
        while at < ends[group]:
            in_order[at] = group
            at += 1
    return in_order, places, factors


@njit(cache=True, nogil=True)
def sum_in_order(
    groups: Integers, place: Integers, weights: Floats, columns: Integers, entries: Floats, size: int
) -> Floats:
    """`sum_outer_products` of rows in ascending order of the groups.

    A few entries are multiplied as they stand; of many, those in the same column are added up first.
    """
    total, diagonal, sums = np.zeros((size, size)), np.zeros(size), np.zeros(size)
    touched, seen = np.empty(max(size, FEW), dtype=np.uint64), np.zeros(size, dtype=np.bool_)
    few, width, at, rows = np.empty(FEW), columns.shape[1], 0, len(groups)
    while at < rows:
        begin, group, met = at, groups[at], 0
        while at < rows and groups[at] == group:
            at += 1
        if (at - begin) * width <= FEW:
            for r in range(begin, at):
                row, weight = np.uint64(place[r]), weights[r] if len(weights) else 1.0
                for k in range(width):
                    touched[met], few[met] = columns[row, k], weight * entries[row, k]
                    met += 1
            for a in range(met):
                row_of, scale = total[touched[a]], few[a]
                diagonal[touched[a]] += scale * scale
                for b in range(a):
                    row_of[touched[b]] += scale * few[b]
            continue
        for r in range(begin, at):
            row, weight = np.uint64(place[r]), weights[r] if len(weights) else 1.0
            for k in range(width):
                column = np.uint64(columns[row, k])
                if not seen[column]:
                    seen[column] = True
                    touched[met] = column
                    met += 1
                sums[column] += weight * entries[row, k]
        for a in range(met):
            row_of, scale = total[touched[a]], sums[touched[a]]
            diagonal[touched[a]] += scale * scale
            for b in range(a):
                row_of[touched[b]] += scale * sums[touched[b]]
        for a in range(met):
            sums[touched[a]] = 0.0
            seen[touched[a]] = False
    for a in range(size):
        total[a, a] = 2 * total[a, a] + diagonal[a]
    return total


@njit(cache=True, nogil=True)
def sweep_rankings(
    order: Integers,
    chooses: npt.NDArray[np.bool_],
    worth: Floats,
    weights: Floats,
    gradient: Floats,
    pairs: Floats,
) -> float:
    """Log likelihood of rankings without ties; adds to `gradient` (n + 1,) and, a above b, to `pairs` (n + 1, n + 1).

    `order`, `chooses`: (K, N). The formulas stand in `RankingLikelihood._piece`.
    """
    width, count = order.shape
    at, left, value = np.empty(width), np.empty(width), 0.0
    for row in range(count):
        rest = 0.0
        for k in range(width - 1, -1, -1):
            at[k] = worth[order[k, row]]
            rest += at[k]
            left[k] = rest
        inverses, squares = 0.0, 0.0
        for a in range(width):
            item = order[a, row]
            if chooses[a, row]:
                value += weights[row] * np.log(at[a] / left[a])
                gradient[item] += weights[row]
                inverses += 1 / left[a]
                squares += 1 / (left[a] * left[a])
            gradient[item] -= weights[row] * at[a] * inverses
            for b in range(a + 1, width):
                pairs[item, order[b, row]] += weights[row] * at[a] * at[b] * squares
    return value
