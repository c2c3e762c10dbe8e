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


@njit(cache=True, nogil=True)
def tally(left: Integers, right: Integers, outcomes: npt.NDArray[Any], n: int) -> tuple[bool, npt.NDArray[np.int64]]:
    """Counts by (left, right, 2 * outcome), (3, n, n); False where an outcome is none of 0, 1/2, 1."""
    counts = np.zeros((3, n, n), dtype=np.int64)
    for row in range(left.size):
        doubled = outcomes[row] * 2
        level = int(doubled)
        if level != doubled or level < 0 or level > 2:
            return False, counts
        counts[level, left[row], right[row]] += 1
    return True, counts


@njit(cache=True, nogil=True)
def add_outer_products(
    order: Integers, groups: Integers, columns: Integers, entries: Floats, total: Floats, width: int
) -> None:
    """Add u u' to `total` (P, P) for each group, u the sum of its rows; `order` sorts the rows by `groups`.

    Row r has entries[r, k] in column columns[r, k], k < width. Of u_i u_j and u_j u_i only one is added.
    """
    sums = np.zeros(total.shape[0])
    touched = np.empty(total.shape[0], dtype=np.int64)
    seen = np.zeros(total.shape[0], dtype=np.bool_)
    at, rows = 0, order.size
    while at < rows:
        group, met = groups[order[at]], 0
        while at < rows and groups[order[at]] == group:
            row = order[at]
            for k in range(width):
                column = columns[row, k]
                if not seen[column]:
                    seen[column] = True
                    touched[met] = column
                    met += 1
                sums[column] += entries[row, k]
            at += 1
        for a in range(met):
            for b in range(a + 1):
                total[touched[a], touched[b]] += sums[touched[a]] * sums[touched[b]]
        for a in range(met):
            sums[touched[a]] = 0.0
            seen[touched[a]] = False
