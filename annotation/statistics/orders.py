"""Counterbalanced orders of presentation.

A Williams design has every item at every position equally often and every item right after every other equally often
(Williams 1949, "Experimental designs balanced for the estimation of residual effects of treatments"), so that neither
position nor neighbour favours a response once a slate has as many annotators as the design has rows.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


def williams_design(k: int) -> list[list[int]]:
    """The rows of a Williams design for `k` items (1 or more), as lists of item numbers from left to right.

    k rows where k is even, 2 k where it is odd (a design of k rows does not exist then). Raises ValueError for k < 1.
    """
    if k < 1:
        raise ValueError("A design needs at least one item.")
    zigzag = [(i + 1) // 2 if i % 2 else -(i // 2) % k for i in range(k)]
    rows = [[(number + shift) % k for number in zigzag] for shift in range(k)]
    return rows if k % 2 == 0 else rows + [row[::-1] for row in rows]


def draw_order(items: Sequence[Item], *, seed: int, row: int) -> list[Item]:
    """Row `row` (taken modulo the number of rows) of a Williams design whose items are dealt at random by `seed`."""
    dealt = list(items)
    random.Random(seed).shuffle(dealt)
    design = williams_design(len(dealt))
    return [dealt[number] for number in design[row % len(design)]]
