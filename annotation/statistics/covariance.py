"""Matrices that the uncertainty of a fit is made of.

The sandwich H^-1 M H^-1 holds without the model being right and with dependent rows (Huber 1967; White 1982): H is the
information, M the sum over groups of u u', u the sum of the group's scores. Judgements of one ranking, one annotator or
one prompt belong together and must share a group. Two groupings are combined as M_1 + M_2 - M_12 (Cameron, Gelbach and
Miller 2011, "Robust inference with multiway clustering", equation 2.9), each term times G / (G - 1).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from annotation.statistics.counting import compiled

Integers: TypeAlias = npt.NDArray[np.integer[Any]]
Floats: TypeAlias = npt.NDArray[np.float64]


def laplacian_of(pairs: Floats) -> Floats:
    """The sum over pairs (i, j) of pairs[i, j] d d', (n, n), d being +1 at i and -1 at j."""
    total = -(pairs + pairs.T)
    total[np.diag_indices(len(total))] -= total.sum(axis=1)
    return total


def sum_outer_products(
    groups: Integers,
    *,
    columns: Integers,
    entries: Floats,
    size: int,
    place: Integers | None = None,
    weights: Floats | None = None,
) -> Floats:
    """The sum over groups of u u', (size, size), u the sum of the group's rows.

    `groups`: (N,) codes. Row r has `entries[p, k]` in column `columns[p, k]`, times `weights[r]`; p is `place[r]`, or r
    itself where that is not given, so that rows that are alike need to be written out only once.
    """
    place = np.arange(len(groups)) if place is None else place
    if loops := compiled(rows=len(groups)):
        given = np.empty(0) if weights is None else weights
        total = loops.sum_outer_products(groups, place, given, columns, entries, size)
        return np.asarray(total + total.T - np.diag(np.diag(total)))
    values = entries[place] if weights is None else entries[place] * weights[:, None]
    at = (np.repeat(groups, columns.shape[1]), columns[place].ravel())
    sums = csr_array((values.ravel(), at), shape=(int(groups.max()) + 1, size))
    return np.asarray((sums.T @ sums).todense())


def combine_groupings(
    groupings: Sequence[npt.NDArray[np.intp]], *, meat: Callable[[npt.NDArray[np.intp]], Floats]
) -> tuple[Floats, int]:
    """The middle of the sandwich for one or two groupings of the same rows, and the smaller number of groups.

    `meat` sums u u' over the groups of one grouping, given as dense codes, of two or more groups.
    """
    first, *others = groupings
    total, fewest = _scaled(first, meat=meat)
    for other in others:
        more, groups = _scaled(other, meat=meat)
        _pairs, both = np.unique(first * (int(other.max()) + 1) + other, return_inverse=True)
        total, fewest = total + more - _scaled(both, meat=meat)[0], min(fewest, groups)
    return total, fewest


def _scaled(groups: npt.NDArray[np.intp], *, meat: Callable[[npt.NDArray[np.intp]], Floats]) -> tuple[Floats, int]:
    count = int(groups.max()) + 1
    return count / (count - 1) * meat(groups), count


def clip_to_semidefinite(covariance: Floats) -> Floats:
    """The matrix with negative eigenvalues set to 0, as two groupings can leave a few (the same paper, section 2.3)."""
    values, vectors = np.linalg.eigh((covariance + covariance.T) / 2)
    return covariance if values[0] >= 0 else (vectors * np.maximum(values, 0)) @ vectors.T


def constants(component: npt.NDArray[np.intp]) -> Floats:
    """The projection on vectors that are constant on each component, (n, n)."""
    together = component[:, None] == component[None, :]
    return np.asarray(together / together.sum(axis=1)[:, None])


def ground(information: Floats, *, constants: Floats) -> Floats:
    """The information (P, P), in place, with something in the directions in which it has nothing.

    Without a prior, a constant added to all scores of a component changes nothing. These directions are filled to a
    typical size; they are orthogonal to all others, so that no step goes there and `centre` takes them out again.
    """
    items = information[: len(constants), : len(constants)]
    if len(items):
        items += constants * (np.trace(items) / len(items))
    return information


def centre(covariance: Floats, *, component: npt.NDArray[np.intp], known: npt.NDArray[np.bool_]) -> Floats:
    """Covariance (P, P) with its first n rows and columns less their mean over the known items of each component.

    component, known: (n,). A component without known items is left as it is.
    """
    n, sizes = len(component), np.maximum(np.bincount(component, weights=known), 1)
    mean = csr_array((known / sizes[component], (component, np.arange(n))), shape=(len(sizes), n))
    rows = covariance[:n] - (mean @ covariance[:n])[component]
    centred = np.concatenate([rows, covariance[n:]])
    centred[:, :n] -= (mean @ centred[:, :n].T).T[:, component]
    return centred
