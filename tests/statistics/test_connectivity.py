"""Components of who beat whom, against graphs drawn by hand and scipy's on random ones."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from annotation.statistics import connectivity
from annotation.statistics.connectivity import connect


def connect_edges(edges: str, *, items: str) -> connectivity.Connectivity:
    winners, losers = zip(*((items.index(a), items.index(b)) for a, b in edges.split()), strict=True)
    return connect(np.array(winners), losers=np.array(losers), items=tuple(items))


def test_a_circle_is_one_component():
    assert connect_edges("ab bc cd da", items="abcd").is_connected


def test_a_chain_has_a_component_for_each_item():
    found = connect_edges("ab bc", items="abc")
    assert found.members == (("a",), ("b",), ("c",))
    assert found.above == ((0, 1), (1, 2))
    assert found.undefeated == (0,)
    assert found.winless == (2,)
    assert found.group == (0, 0, 0)


def test_the_largest_component_comes_first_and_the_rest_by_first_item():
    found = connect_edges("za bc cd db dz xy yx", items="abcdxyz")
    assert found.members == (("b", "c", "d"), ("x", "y"), ("a",), ("z",))
    assert found.above == ((0, 3), (3, 2))
    assert found.undefeated == (0,)
    assert found.winless == (2,)
    assert found.group[1] not in (found.group[0], found.group[2])
    assert found.comparable.sum() == 9 + 4 + 1 + 1


@pytest.mark.parametrize("edges", [3, 8, 15, 30])
def test_the_quick_look_agrees_with_the_thorough_one(edges):
    rng = np.random.default_rng(edges)
    for _graph in range(50):
        winners, losers = rng.integers(0, 7, (2, edges))
        graph = csr_array((np.ones(edges), (winners, losers)), shape=(7, 7))
        count, labels = connected_components(graph, connection="strong")
        found = connect(winners, losers=losers, items=tuple(range(7)))
        assert len(found.members) == count
        assert (found.comparable == (labels[:, None] == labels)).all()
