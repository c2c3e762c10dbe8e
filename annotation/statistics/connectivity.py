"""Which items a comparison model can place beside each other.

Ford (1957, "Solution of a ranking problem from binary comparisons"): finite scores exist just where every item can be
reached from every other over wins, that is, where the graph of who beat whom is strongly connected. Otherwise its
strongly connected components can be scored each by itself, and nothing finite stands between them. A tie counts as a
win for both: no model of ties lets tied items drift apart without end.
"""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components

Integers: TypeAlias = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Connectivity:
    """Components of n items, largest first.

    `component`: the number of each item's component, (n,). `above`: pairs (a, b) of components with comparisons
    between them, every one of which a won. `group`: for each component the number of its group; between groups
    there are no comparisons at all.
    """

    items: tuple[Hashable, ...]
    component: npt.NDArray[np.intp]
    above: tuple[tuple[int, int], ...]
    group: tuple[int, ...]

    @property
    def is_connected(self) -> bool:
        """Whether all items can be compared with each other."""
        return len(self.group) == 1

    @cached_property
    def members(self) -> tuple[tuple[Hashable, ...], ...]:
        """The items of each component."""
        parts: list[list[Hashable]] = [[] for _component in self.group]
        for item, component in zip(self.items, self.component, strict=True):
            parts[component].append(item)
        return tuple(tuple(part) for part in parts)

    @property
    def undefeated(self) -> tuple[int, ...]:
        """Components that met others and never lost to any."""
        return tuple(sorted({a for a, _b in self.above} - {b for _a, b in self.above}))

    @property
    def winless(self) -> tuple[int, ...]:
        """Components that met others and never beat any."""
        return tuple(sorted({b for _a, b in self.above} - {a for a, _b in self.above}))

    @property
    def comparable(self) -> npt.NDArray[np.bool_]:
        """Whether two items can be compared, (n, n)."""
        return self.component[:, None] == self.component[None, :]


def connect(winners: Integers, *, losers: Integers, items: tuple[Hashable, ...]) -> Connectivity:
    """Components of the graph with an edge from `winners[e]` to `losers[e]`; repeated edges are fine."""
    n = len(items)
    if _is_strongly_connected(winners, losers=losers, n=n):
        return Connectivity(items=items, component=np.zeros(n, dtype=np.intp), above=(), group=(0,))
    graph = csr_array((np.ones(len(winners), dtype=np.int8), (winners, losers)), shape=(n, n))
    count, found = connected_components(graph, connection="strong")
    _groups, group_of_item = connected_components(graph, directed=False)
    first = np.full(count, n)
    np.minimum.at(first, found, np.arange(n))
    order = np.lexsort((first, -np.bincount(found, minlength=count)))
    component = np.empty(count, dtype=np.intp)
    component[order] = np.arange(count)
    component = component[found]
    between = component[winners] != component[losers]
    above = np.unique(np.stack([component[winners[between]], component[losers[between]]], axis=1), axis=0)
    return Connectivity(
        items=items,
        component=component,
        above=tuple((int(a), int(b)) for a, b in above),
        group=tuple(int(group_of_item[first[old]]) for old in order),
    )


def _is_strongly_connected(winners: Integers, *, losers: Integers, n: int) -> bool:
    """Whether item 0 reaches every item and is reached by every one; False too where a table of n x n is too large."""
    if n > 4096:
        return False
    beats = np.zeros((n, n), dtype=bool)
    beats[winners, losers] = True
    return _reaches_all(beats) and _reaches_all(beats.T)


def _reaches_all(beats: npt.NDArray[np.bool_]) -> bool:
    reached = np.zeros(len(beats), dtype=bool)
    reached[0], size = True, 0
    while size < (size := int(reached.sum())):
        reached |= beats[reached].any(axis=0)
    return size == len(beats)
