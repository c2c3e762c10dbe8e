"""Components of who beat whom, against graphs drawn by hand and scipy's on random ones."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

from annotation.statistics import connectivity
from annotation.statistics.connectivity import connect, find_linked


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


NODES = 7
rows_of_groups = st.lists(
    st.tuples(st.integers(0, NODES - 1), st.integers(0, NODES - 1), st.integers(0, 4)).filter(lambda e: e[0] != e[1]),
    min_size=1, max_size=25,
)  # fmt: skip


@settings(max_examples=300, deadline=None)
@given(rows_of_groups)
def test_what_stays_together_without_any_one_group_as_if_each_were_taken_away(rows):
    left, right, group = np.array(rows).T

    def parts_of(keep: np.ndarray) -> np.ndarray:
        graph = csr_array((np.ones(keep.sum()), (left[keep], right[keep])), shape=(NODES, NODES))
        labels = connected_components(graph, directed=False)[1]
        return labels[:, None] == labels

    everything = parts_of(np.ones(len(rows), dtype=bool))
    together = everything.copy()
    for taken in set(group.tolist()):
        together &= parts_of(group != taken)
    found = find_linked(
        lambda piece: (left[piece], right[piece], np.arange(len(rows))[piece]),
        rows=len(rows), groupings=[group], n=NODES,
    )  # fmt: skip
    for item in range(NODES):
        part = np.flatnonzero(everything[item])
        largest = max(int(together[other].sum()) for other in part)
        mine = int(together[item].sum())
        assert not (found[item] and mine < largest)
        assert found[part].sum() == (largest if largest > 1 or len(part) == 1 else 0)
