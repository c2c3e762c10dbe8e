"""Three ways into the same reliability data, and what is refused on each."""

from __future__ import annotations

import math

import numpy as np
import pytest

from annotation.statistics.reliability import ReliabilityData, encode_values

NAN = math.nan
TABLE = np.array([[3.0, 1.0, NAN], [1.0, NAN, 1.0], [NAN, 2.5, 2.5]])
COUNTS = [[1, 0, 1], [2, 0, 0], [0, 2, 0]]
"""Of the values 1, 2.5 and 3, by unit."""


def from_triples(table: np.ndarray, **more: object) -> ReliabilityData:
    unit, rater = np.nonzero(~np.isnan(table))
    names = np.array(["anna", "ben", "cy"])[rater]
    return ReliabilityData.from_triples(unit, raters=names, values=table[unit, rater], **more)


def test_a_table_and_its_triples_are_the_same_data():
    for data in (ReliabilityData.from_table(TABLE), from_triples(TABLE)):
        assert data.values.tolist() == [1, 2.5, 3]
        assert (data.n_units, data.n_raters) == (3, 3)
        assert data.counts.tolist() == COUNTS
        unit, value, count = data.entries
        assert list(zip(unit.tolist(), value.tolist(), count.tolist(), strict=True)) == [
            (0, 0, 1), (0, 2, 1), (1, 0, 2), (2, 1, 2),
        ]  # fmt: skip


def test_counts_are_the_data_without_raters():
    data = ReliabilityData.from_counts(COUNTS, values=[1, 2.5, 3])
    assert data.counts.tolist() == COUNTS
    assert [part.tolist() for part in data.entries] == [[0, 0, 1, 2], [0, 2, 0, 1], [1, 1, 2, 2]]
    assert data.n_raters is None
    with pytest.raises(ValueError, match="who gave which value"):
        _given = data.given


def test_a_code_can_stand_for_what_is_missing_and_else_it_is_a_value():
    table = [[-1, 0, 1], [0, -1, -1]]
    assert ReliabilityData.from_table(table, missing=-1).counts.tolist() == [[1, 1], [1, 0]]
    assert ReliabilityData.from_table(table).counts.tolist() == [[1, 1, 1], [2, 1, 0]]


def test_none_and_empty_texts_are_missing():
    assert ReliabilityData.from_table([[1, None], [2, 2]]).counts.tolist() == [[1, 0], [0, 2]]
    data = ReliabilityData.from_table([["b", None], ["a", "b"], ["", "a"]])
    assert data.values.tolist() == ["a", "b"]
    assert data.counts.tolist() == [[0, 1], [1, 1], [1, 0]]
    assert not data.is_numeric


def test_raters_can_be_taken_out_and_are_renumbered():
    data = from_triples(TABLE).of_raters(2, 0)
    given = sorted(zip(data.given.unit.tolist(), data.given.rater.tolist(), data.given.value.tolist(), strict=True))
    assert given == [(0, 1, 2), (1, 0, 0), (1, 1, 0), (2, 0, 1)]
    assert (data.n_units, data.n_raters) == (3, 2)


def test_large_and_scattered_numbers_are_coded_by_sorting():
    code, values = encode_values(np.array([10**15, -(10**15), 7, 10**15]))
    assert values.tolist() == [-(10**15), 7, 10**15]
    assert code.tolist() == [2, 0, 1, 2]


def test_clusters_follow_their_units():
    assert ReliabilityData.from_table(TABLE, clusters=["x", "y", "x"]).clusters.tolist() == [0, 1, 0]
    unit, _rater = np.nonzero(~np.isnan(TABLE))
    data = from_triples(TABLE, clusters=np.array(["x", "y", "x"])[unit])
    assert data.clusters.tolist() == [0, 1, 0]


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: ReliabilityData.from_table([]), "must be a table"),
        (lambda: ReliabilityData.from_table([1, 2]), "must be a table"),
        (lambda: ReliabilityData.from_table([[1, 2], [1]]), "a value, or a gap"),
        (lambda: ReliabilityData.from_table([[1, math.inf]]), "finite"),
        (lambda: ReliabilityData.from_table([[1, {}]]), "numbers or texts"),
        (lambda: ReliabilityData.from_table([[1j, 2]]), "numbers or texts"),
        (lambda: ReliabilityData.from_table([[1, 2]], clusters=[1, 2]), "label for each of 1"),
        (lambda: ReliabilityData.from_triples([], raters=[], values=[]), "There must be values"),
        (lambda: ReliabilityData.from_triples([1, 1], raters=[7, 7], values=[1, 2]), "two values"),
        (lambda: ReliabilityData.from_triples([1, 1], raters=[7], values=[1, 2]), "label for each of 2"),
        (lambda: ReliabilityData.from_triples([1, 1], raters=[7, 8], values=[1, 2], clusters=[0, 1]), "two clusters"),
        (lambda: ReliabilityData.from_counts([[1, -1]]), "negative"),
        (lambda: ReliabilityData.from_counts([[1.5, 1]]), "whole numbers"),
        (lambda: ReliabilityData.from_counts([1, 1]), "must be a table"),
        (lambda: ReliabilityData.from_counts([[1, 1]], values=[1]), "2 columns of counts and 1 values"),
        (lambda: ReliabilityData.from_counts([[1, 1]], values=[2, 1]), "ascend"),
        (lambda: ReliabilityData.from_table([[1, 2]]).of_raters(0, 0), "counted from 0"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, said):
    with pytest.raises(ValueError, match=said):
        call()
