"""Names to codes and back, by every way in."""

from __future__ import annotations

import sys

import numpy as np
import pyarrow as pa
import pytest

from annotation.statistics.codes import encode_groups, encode_items, weights_of

WORDS = ["b", "a", "c", "a"]


@pytest.mark.parametrize(
    "column",
    [WORDS, np.array(WORDS), np.array(WORDS, dtype=object), pa.array(WORDS), pa.chunked_array([WORDS[:1], WORDS[1:]])],
)
def test_names_are_sorted_whatever_holds_them(column):
    (codes,), names = encode_items(column)
    assert names == ("a", "b", "c")
    assert codes.tolist() == [1, 0, 2, 0]


def test_a_column_of_a_data_frame():
    pandas = pytest.importorskip("pandas", reason="pandas is no dependency")
    for dtype in ("str", "object", "category"):
        (codes,), names = encode_items(pandas.Series(WORDS, dtype=dtype))
        assert (codes.tolist(), names) == ([1, 0, 2, 0], ("a", "b", "c"))


def test_without_arrow(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (codes,), names = encode_items(WORDS)
    assert (codes.tolist(), names) == ([1, 0, 2, 0], ("a", "b", "c"))


def test_given_items_keep_their_order_and_may_be_unseen():
    (codes,), names = encode_items(WORDS, items=["x", "c", "b", "a"])
    assert names == ("x", "c", "b", "a")
    assert codes.tolist() == [2, 3, 1, 3]


def test_names_that_cannot_be_sorted_keep_the_order_of_appearance():
    (codes,), names = encode_items([("b", 1), "a", ("b", 1)])
    assert (codes.tolist(), names) == ([0, 1, 0], (("b", 1), "a"))


def test_large_identifiers_are_packed():
    (left, right), names = encode_items(np.array([10**12, 7]), np.array([-5, 10**12]))
    assert names == (-5, 7, 10**12)
    assert (left.tolist(), right.tolist()) == ([2, 1], [0, 2])


@pytest.mark.parametrize("labels", [[5, 900, 5, 7], ["p5", "p900", "p5", "p7"], np.array([0, 2, 0, 1])])
def test_groups_are_dense(labels):
    groups, count = encode_groups(labels, rows=4)
    assert count == 3
    assert groups[0] == groups[2]
    assert sorted(set(groups.tolist())) == [0, 1, 2]


def test_weights_by_annotator():
    assert weights_of(["ann", "bob", "ann"], table={"ann": 2, "bob": 0.5, "eve": 1}).tolist() == [2, 0.5, 2]
    assert weights_of([3, 4, 3], table={3: 2, 4: 0.5}).tolist() == [2, 0.5, 2]
    for column in (pa.array(["ann", "bob", "ann"]), pa.array(["ann", "bob", "ann"]).dictionary_encode()):
        assert weights_of(column, table={"ann": 2, "bob": 0.5, "eve": 1}).tolist() == [2, 0.5, 2]
        with pytest.raises(ValueError, match="No value is given for 'bob'"):
            weights_of(column, table={"ann": 1, "eve": 2})
    with pytest.raises(ValueError, match="1 labels are missing"):
        weights_of(pa.array(["ann", None]), table={"ann": 1})
    with pytest.raises(ValueError, match="No value is given for 'bob'"):
        weights_of(["ann", "bob"], table={"ann": 1})
