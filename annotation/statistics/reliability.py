"""Reliability data: what raters said of units, the common form that measures of agreement read; and what they return.

A value may be missing anywhere. Three ways in: a table, long triples, or counts of values by unit where nobody knows
who gave which.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from annotation.statistics.codes import Labels, encode_groups

Codes = npt.NDArray[np.intp]

SHORT_RANGE = 4096
"""Whole numbers that span less are coded by a table; others are sorted."""


@dataclass(frozen=True)
class Agreement:
    """A measure with its percentile bootstrap interval at level `confidence`.

    `n_units` and `n_values` count what the measure could use; `n_raters` is None where raters are not told apart. A
    value that is not defined is NaN, and `undefined` says why.
    """

    value: float
    interval: tuple[float, float]
    confidence: float
    n_units: int
    n_raters: int | None
    n_values: int
    undefined: str = ""

    def as_json(self) -> dict[str, Any]:
        """The same with null for what is not defined."""
        return {
            "value": _or_none(self.value),
            "interval": [_or_none(bound) for bound in self.interval],
            "confidence": self.confidence,
            "n_units": self.n_units,
            "n_raters": self.n_raters,
            "n_values": self.n_values,
            **({"undefined": self.undefined} if self.undefined else {}),
        }


@dataclass(frozen=True)
class Triples:
    """N values, one a row: whose unit, by which rater, which value; codes (N,)."""

    unit: Codes
    rater: Codes
    value: Codes


@dataclass(frozen=True, eq=False)
class ReliabilityData:
    """What U units were given by R raters, in terms of V distinct values in ascending order.

    One of three is there: `table` (U, R) of codes of values, -1 where one is missing; `triples`; or `tally` (U, V), how
    often each unit was given each value, with raters unknown. `clusters` (U,) says which units belong together and are
    drawn together by a bootstrap; without it each is drawn by itself.
    """

    values: npt.NDArray[Any]
    n_units: int
    n_raters: int | None
    table: Codes | None = None
    triples: Triples | None = None
    tally: npt.NDArray[Any] | None = None
    clusters: Codes | None = None

    @classmethod
    def from_table(
        cls, table: npt.ArrayLike, *, missing: float | str | None = None, clusters: Labels | None = None
    ) -> ReliabilityData:
        """A row a unit, a column a rater. NaN and None are missing values, and so is `missing` (say -1) if given.

        Raises ValueError on other shapes, infinite numbers and a cluster for another number of units.
        """
        array = _as_table(table)
        units, raters = array.shape
        code, values = encode_values(array.ravel(), missing=missing)
        return cls(values, units, raters, table=code.reshape(array.shape), clusters=_clusters_of(clusters, units=units))

    @classmethod
    def from_triples(
        cls, units: Labels, *, raters: Labels, values: npt.ArrayLike, clusters: Labels | None = None
    ) -> ReliabilityData:
        """A row a value: which unit, which rater, which value. `clusters` has a label a row too, one for each unit.

        NaN and None are missing values. Raises ValueError on other shapes, infinite numbers, a rater who gave a unit
        two values, and a unit in two clusters.
        """
        array = np.asarray(values)
        if array.ndim != 1 or not len(array):
            raise ValueError("There must be values, in one dimension.")
        unit, n_units = encode_groups(units, rows=len(array))
        rater, n_raters = encode_groups(raters, rows=len(array))
        key = unit * n_raters + rater
        if len(np.unique(key)) < len(key):
            raise ValueError("A rater gave a unit two values; keep one of them.")
        grouped = None
        if clusters is not None:
            by_row, _number = encode_groups(clusters, rows=len(array))
            grouped = np.zeros(n_units, dtype=np.intp)
            grouped[unit] = by_row
            if (grouped[unit] != by_row).any():
                raise ValueError("A unit stands in two clusters.")
        code, distinct = encode_values(array)
        triples = _drop_missing(Triples(unit, rater, code))
        return cls(distinct, n_units, n_raters, triples=triples, clusters=grouped)

    @classmethod
    def from_counts(
        cls, counts: npt.ArrayLike, *, values: npt.ArrayLike | None = None, clusters: Labels | None = None
    ) -> ReliabilityData:
        """How many raters gave each unit (row) each value (column); `values` are 0, 1, … unless they are named.

        Raises ValueError on other shapes, negative or broken counts, and values that do not ascend.
        """
        array = np.asarray(counts)
        if array.ndim != 2 or not array.size:
            raise ValueError("Counts must be a table: a row a unit, a column a value.")
        if array.dtype.kind not in "iub":
            if array.dtype.kind != "f" or not (np.isfinite(array) & (array == np.floor(array))).all():
                raise ValueError("Counts must be whole numbers.")
            array = array.astype(np.int64)
        if array.min() < 0:
            raise ValueError("Counts must not be negative.")
        named = np.arange(array.shape[1]) if values is None else np.asarray(values)
        if named.shape != (array.shape[1],):
            raise ValueError(f"There are {array.shape[1]} columns of counts and {named.size} values.")
        if named.dtype.kind in "iuf" and not (np.isfinite(named).all() and (np.diff(named) > 0).all()):
            raise ValueError("Values must ascend.")
        return cls(named, len(array), None, tally=array, clusters=_clusters_of(clusters, units=len(array)))

    @cached_property
    def counts(self) -> npt.NDArray[Any]:
        """How many raters gave each unit each value, (U, V)."""
        v = len(self.values)
        if self.tally is not None:
            return self.tally
        if self.table is not None:
            gaps = int(self.table.min() < 0)  # a column in front for what is missing
            key = self.table + (np.arange(self.n_units) * (v + gaps) + gaps)[:, None]
            counted = np.bincount(key.ravel(), minlength=self.n_units * (v + gaps))
            return counted.reshape(self.n_units, v + gaps)[:, gaps:]
        given = self.given
        return np.bincount(given.unit * v + given.value, minlength=self.n_units * v).reshape(self.n_units, v)

    @cached_property
    def entries(self) -> tuple[Codes, Codes, npt.NDArray[Any]]:
        """The counts that are not zero, by unit and then by value: unit, value, count."""
        if self.tally is not None:
            unit, value = np.nonzero(self.tally)
            return unit, value, self.tally[unit, value]
        given = self.given
        key, count = np.unique(given.unit * len(self.values) + given.value, return_counts=True)
        return key // len(self.values), key % len(self.values), count

    @cached_property
    def given(self) -> Triples:
        """Who gave which value. Raises ValueError where only counts are known."""
        if self.triples is not None:
            return self.triples
        if self.table is None:
            raise ValueError("Counts do not tell who gave which value; that needs a table or triples.")
        units, raters = self.table.shape
        unit, rater = np.repeat(np.arange(units), raters), np.tile(np.arange(raters), units)
        return _drop_missing(Triples(unit, rater, self.table.ravel()))

    def of_raters(self, *raters: int) -> ReliabilityData:
        """What these raters alone said, renumbered in this order. Raises ValueError for others than there are."""
        if len(set(raters)) < len(raters) or not all(0 <= rater < (self.n_raters or 0) for rater in raters):
            raise ValueError(f"{raters} are not {len(raters)} of the {self.n_raters} raters, who are counted from 0.")
        number = np.full(self.n_raters or 0, -1)
        number[list(raters)] = np.arange(len(raters))
        rater = number[self.given.rater]
        kept = rater >= 0
        triples = Triples(self.given.unit[kept], rater[kept], self.given.value[kept])
        return ReliabilityData(self.values, self.n_units, len(raters), triples=triples, clusters=self.clusters)

    @property
    def is_numeric(self) -> bool:
        """Whether the values are numbers."""
        return self.values.dtype.kind in "iufb"


def as_reliability_data(data: ReliabilityData | npt.ArrayLike) -> ReliabilityData:
    """Reliability data as they are; anything else is taken as a table."""
    return data if isinstance(data, ReliabilityData) else ReliabilityData.from_table(data)


def encode_values(values: npt.NDArray[Any], *, missing: float | str | None = None) -> tuple[Codes, npt.NDArray[Any]]:
    """Codes (N,), -1 where a value is missing, and the distinct values in ascending order.

    Raises ValueError on infinite numbers and on values of several kinds.
    """
    if values.dtype.kind == "O":
        values = _without_objects(values)
    kind = values.dtype.kind
    if kind not in "iufbU":
        raise ValueError("Values must be numbers or texts.")
    is_missing = np.isnan(values) if kind == "f" else (values == "") if kind == "U" else None
    if missing is not None:
        also = values == missing
        is_missing = also if is_missing is None else is_missing | also
    if is_missing is not None and not is_missing.any():
        is_missing = None
    given = values if is_missing is None else values[~is_missing]
    if kind == "f" and np.isinf(given).any():
        raise ValueError("Values must be finite.")
    code, distinct = _code(given)
    if is_missing is None:
        return code, distinct
    placed = np.full(len(values), -1, dtype=np.intp)
    placed[~is_missing] = code
    return placed, distinct


def _code(given: npt.NDArray[Any]) -> tuple[Codes, npt.NDArray[Any]]:
    """Codes and distinct values; whole numbers of a short range need no sorting."""
    if given.dtype.kind in "iuf" and len(given):
        low = given.min()
        if float(given.max()) - float(low) < SHORT_RANGE:
            place = (given - low).astype(np.intp)
            if given.dtype.kind != "f" or (place + low == given).all():
                present = np.bincount(place) > 0
                distinct = (np.flatnonzero(present) + low).astype(given.dtype)
                return (place if present.all() else (np.cumsum(present) - 1)[place]), distinct
    distinct, code = np.unique(given, return_inverse=True)
    return code, distinct


def _as_table(table: npt.ArrayLike) -> npt.NDArray[Any]:
    try:
        array = np.asarray(table)
    except ValueError as error:
        raise ValueError("Every unit must have a value, or a gap, for every rater.") from error
    if array.ndim != 2 or not array.size:
        raise ValueError("Values must be a table: a row a unit, a column a rater.")
    return array


def _without_objects(values: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Numbers, or texts, with None as gaps."""
    try:
        return values.astype(float)
    except (TypeError, ValueError):
        if not all(value is None or isinstance(value, str) for value in values):
            raise ValueError("Values must be numbers or texts, and not both.") from None
        return np.array(["" if value is None else value for value in values])


def _drop_missing(triples: Triples) -> Triples:
    if not len(triples.value) or triples.value.min() >= 0:
        return triples
    kept = triples.value >= 0
    return Triples(triples.unit[kept], triples.rater[kept], triples.value[kept])


def _clusters_of(clusters: Labels | None, *, units: int) -> Codes | None:
    return None if clusters is None else encode_groups(clusters, rows=units)[0]


def _or_none(number: float) -> float | None:
    return number if math.isfinite(number) else None
