"""Counterbalanced orders: every position and every neighbour equally often."""

from __future__ import annotations

from collections import Counter
from itertools import pairwise

import pytest

from annotation.statistics.orders import draw_order, williams_design


def test_four_items_by_hand():
    """Williams's zigzag 0 1 3 2, shifted by 0 to 3."""
    assert williams_design(4) == [[0, 1, 3, 2], [1, 2, 0, 3], [2, 3, 1, 0], [3, 0, 2, 1]]


@pytest.mark.parametrize("k", range(2, 10))
def test_every_item_stands_everywhere_and_follows_every_other_equally_often(k):
    rows = williams_design(k)
    times = 1 if k % 2 == 0 else 2
    assert len(rows) == times * k
    places = Counter((item, position) for row in rows for position, item in enumerate(row))
    neighbours = Counter(pair for row in rows for pair in pairwise(row))
    assert set(places.values()) == {times}
    assert len(places) == k * k
    assert set(neighbours.values()) == {times}
    assert len(neighbours) == k * (k - 1)


def test_an_order_follows_from_seed_and_row_alone_and_seeds_deal_differently():
    items = list("abcdef")
    assert draw_order(items, seed=7, row=2) == draw_order(items, seed=7, row=2 + 6)
    assert len({tuple(draw_order(items, seed=seed, row=0)) for seed in range(50)}) > 40
    assert all(sorted(draw_order(items, seed=seed, row=seed)) == items for seed in range(20))


def test_no_item_has_no_design():
    with pytest.raises(ValueError, match="at least one"):
        williams_design(0)
