"""Which items a comparison model can place beside each other.

Ford (1957, "Solution of a ranking problem from binary comparisons"): finite scores exist just where every item can be
reached from every other over wins, that is, where the graph of who beat whom is strongly connected. Otherwise its
strongly connected components can be scored each by itself, and nothing finite stands between them. A tie counts as a
win for both: no model of ties lets tied items drift apart without end.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array
from scipy.sparse.csgraph import connected_components, minimum_spanning_tree

Integers: TypeAlias = npt.NDArray[np.integer[Any]]
Edges: TypeAlias = Callable[[slice], tuple[Integers, Integers, Integers]]
"""Who was compared with whom in some of the rows: two items of each comparison, and the row."""

PIECE = 1 << 16


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


def find_linked(edges: Edges, *, rows: int, groupings: Sequence[Integers], n: int) -> npt.NDArray[np.bool_]:
    """Items that stay together, in each connected part the most of them, whichever one group is taken away, (n,).

    Where all that joins some items to others is of one group, nothing shows how far other groups would put them apart:
    an error that is taken from the spread between groups would be 0. `groupings`: codes of the N rows, (N,) each; the
    items have to stay together under every one.
    """
    part, kept = np.zeros(n, dtype=np.intp), np.zeros(n, dtype=np.intp)
    for groups in groupings:
        whole, labels = _split_by_group(edges, rows=rows, groups=groups, n=n)
        part = _refine(part, labels=whole)
        kept = _refine(kept, labels=labels)
    linked = np.zeros(n, dtype=bool)
    for number in range(part.max() + 1):
        labels, sizes = np.unique(kept[part == number], return_counts=True)
        if sizes.max() > 1 or sizes.sum() == 1:
            linked |= (kept == labels[sizes.argmax()]) & (part == number)
    return linked


def _split_by_group(
    edges: Edges, *, rows: int, groups: Integers, n: int
) -> tuple[npt.NDArray[np.intp], npt.NDArray[np.intp]]:
    """The connected parts of the items, and the finer parts that no single group holds together, (n,) numbers each."""
    first, several = np.full(n * n, -1), np.zeros(n * n, dtype=bool)
    for start in range(0, rows, PIECE):
        left, right, row = edges(slice(start, min(start + PIECE, rows)))
        pair, group = np.minimum(left, right).astype(np.intp) * n + np.maximum(left, right), groups[row]
        fresh = first[pair] < 0
        first[pair[fresh]] = group[fresh]
        several[pair[first[pair] != group]] = True
        labels = _parts_of(*np.divmod(np.flatnonzero(several), n), n=n)
        if labels.max() == 0:
            return labels, labels
    seen = np.flatnonzero(first >= 0)
    left, right = np.divmod(seen, n)
    whole = _parts_of(left, right, n=n)
    left, right, group = labels[left], labels[right], first[seen]
    while True:  # what two groups join is one
        apart = left != right
        left, right = np.minimum(left, right)[apart], np.maximum(left, right)[apart]
        left, right, group = np.unique(np.stack([left, right, group[apart]]), axis=1)
        again = (left[1:] == left[:-1]) & (right[1:] == right[:-1])
        if not again.any():
            break
        merged = _parts_of(left[1:][again], right[1:][again], n=labels.max() + 1)
        labels, left, right = merged[labels], merged[left], merged[right]
    size = int(labels.max()) + 1
    kept = np.zeros(size, dtype=np.intp)
    # A group that holds no edge of some spanning forest can go: the forest stays.
    order = csr_array((np.arange(1, len(left) + 1), (left, right)), shape=(size, size))
    forest = minimum_spanning_tree(order).data.astype(np.intp) - 1
    for taken in np.unique(group[forest]):
        rest = group != taken
        kept = _refine(kept, labels=_parts_of(left[rest], right[rest], n=size))
    return whole, kept[labels]


def _parts_of(left: Integers, right: Integers, *, n: int) -> npt.NDArray[np.intp]:
    """The connected part of each of n nodes, (n,), by the edges between them."""
    graph = csr_array((np.ones(len(left), dtype=np.int8), (left, right)), shape=(n, n))
    return np.asarray(connected_components(graph, directed=False)[1], dtype=np.intp)


def _refine(parts: npt.NDArray[np.intp], *, labels: npt.NDArray[np.intp]) -> npt.NDArray[np.intp]:
    """Numbers of what has both numbers in common."""
    return np.asarray(np.unique(parts * (labels.max() + 1) + labels, return_inverse=True)[1], dtype=np.intp)


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
