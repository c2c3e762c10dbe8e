"""The compiled loops and their twins in numpy, and the ways of adding up, agree."""

from __future__ import annotations

import sys
from types import ModuleType

import numpy as np
import pytest
from numpy.testing import assert_allclose

from annotation.statistics import (
    bradley_terry,
    counting,
    covariance,
    pair_likelihood,
    plackett_luce,
    ranking_likelihood,
)

ROWS, ITEMS = 3000, 30


@pytest.fixture(params=["numba", "numpy"])
def loops(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ModuleType | None:
    """Compiled loops for any number of rows, or none."""
    found = None
    if request.param == "numba":
        pytest.importorskip("numba", reason="numba is optional (pip install preferee[fast])")
        from annotation.statistics import loops as found
    for module in (counting, covariance, pair_likelihood, ranking_likelihood):
        monkeypatch.setattr(module, "compiled", lambda *, rows: found)
    return found


@pytest.fixture
def rows() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    left = rng.integers(0, ITEMS, ROWS)
    return left, (left + rng.integers(1, ITEMS, ROWS)) % ITEMS, rng.choice([0, 0.5, 1], ROWS)


def count(left: np.ndarray, *, right: np.ndarray, outcomes: np.ndarray, n: int) -> counting.Cells | None:
    return counting.count_cells(left, right=right, outcomes=counting.Outcomes(outcomes), n=n, ordered=False)


@pytest.mark.parametrize("dtype", [np.int8, np.int32, np.int64, np.uint16])
def test_counts_by_level(loops, rows, dtype):
    left, right, outcomes = rows
    expected = np.zeros((3, ITEMS, ITEMS))
    np.add.at(expected, ((2 * outcomes).astype(int), left, right), 1)
    arguments = {"right": right.astype(dtype), "outcomes": counting.Outcomes(outcomes), "n": ITEMS}
    for ordered, table in ((True, expected), (False, np.triu(expected + expected[::-1].transpose(0, 2, 1)))):
        cells = counting.count_cells(left.astype(dtype), ordered=ordered, **arguments)
        assert (np.stack([cells.left, cells.right]) == np.nonzero(table.sum(axis=0))).all()
        assert (cells.sums == table[:, cells.left, cells.right]).all()


@pytest.mark.parametrize("code", [-1, ITEMS, 10**6])
def test_a_code_out_of_range_is_noticed(loops, rows, code):
    left, right, outcomes = rows
    right[-1] = code
    assert count(left, right=right, outcomes=outcomes, n=ITEMS) is None


def test_identifiers_that_the_first_rows_do_not_show(loops, rows, monkeypatch):
    left, right, outcomes = rows
    order = np.argsort(np.maximum(left, right), kind="stable")
    whole = bradley_terry.fit(left, right, outcomes)
    monkeypatch.setattr(bradley_terry, "PIECE", 500)
    late = bradley_terry.fit(left[order], right[order], outcomes[order])
    assert_allclose(late.scores, whole.scores, atol=1e-12)


@pytest.mark.parametrize("outcome", [0.25, -0.5, 1.5, np.nan, np.inf])
def test_an_outcome_that_is_no_level_is_noticed(loops, rows, outcome):
    left, right, outcomes = rows
    outcomes[-1] = outcome
    assert count(left, right=right, outcomes=outcomes, n=ITEMS) is None


@pytest.mark.parametrize("outcomes", [np.array([True, False]), np.array([1, 0], dtype=np.int8)])
def test_outcomes_may_be_truths_or_integers(loops, outcomes):
    cells = count(np.array([0, 1]), right=np.array([1, 0]), outcomes=outcomes, n=2)
    assert (cells.left.tolist(), cells.right.tolist()) == ([0], [1])
    assert cells.sums.tolist() == [[0], [0], [2]]


@pytest.mark.parametrize("in_order", [True, False])
def test_outer_products_by_group(loops, in_order):
    rng = np.random.default_rng(1)
    groups, columns, entries = rng.integers(0, 200, 1000), rng.integers(0, 9, (1000, 3)), rng.normal(size=(1000, 3))
    groups = np.sort(groups) if in_order else groups
    sums = np.zeros((200, 9))
    for k in range(3):
        np.add.at(sums, (groups, columns[:, k]), entries[:, k])
    found = covariance.sum_outer_products(groups, columns=columns, entries=entries, size=9)
    assert_allclose(found, sums.T @ sums, atol=1e-10)


def test_fits_of_comparisons_and_of_rankings(loops, rows):
    """Both paths against figures of the other, held by the first run of the parametrised pair: recomputed here."""
    left, right, outcomes = rows
    clusters = np.random.default_rng(2).integers(0, 400, ROWS)
    rng = np.random.default_rng(3)
    table = np.argsort(rng.random((500, ITEMS)), axis=1)[:, :5]
    table[:100, 4] = -1
    weights = rng.uniform(0.5, 2, 500)
    here = [
        bradley_terry.fit(left, right, outcomes, clusters=clusters),
        plackett_luce.fit(table, weights=weights, clusters=np.arange(500) // 3),
        plackett_luce.fit(table, ranked=np.full(500, 3)),
    ]
    with pytest.MonkeyPatch.context() as patch:
        for module in (counting, covariance, pair_likelihood, ranking_likelihood):
            patch.setattr(module, "compiled", lambda *, rows: None)
        plain = [
            bradley_terry.fit(left, right, outcomes, clusters=clusters),
            plackett_luce.fit(table, weights=weights, clusters=np.arange(500) // 3),
            plackett_luce.fit(table, ranked=np.full(500, 3)),
        ]
    for one, other in zip(here, plain, strict=True):
        assert_allclose(one.scores, other.scores, atol=1e-9)
        assert_allclose(one.covariance, other.covariance, atol=1e-9)
        assert_allclose(one.log_likelihood, other.log_likelihood, rtol=1e-10)


def test_a_table_and_sorted_pairs_add_up_alike(rows, monkeypatch):
    """Among many items a table of n x n would be empty; the way around it gives the same cells."""
    left, right, outcomes = rows
    weights = np.random.default_rng(4).uniform(0, 2, ROWS)
    for ordered in (True, False):
        for given in (None, weights):
            arguments = {
                "right": right,
                "outcomes": counting.Outcomes(outcomes),
                "weights": given,
                "n": ITEMS,
                "ordered": ordered,
            }
            table_rows, table = counting.place_rows(left, **arguments)
            with monkeypatch.context() as patch:
                patch.setattr(counting, "SMALL_TABLE", -(10**6))
                sorted_rows, by_sorting = counting.place_rows(left, **arguments)
            assert (table_rows.place == sorted_rows.place).all()
            for name in ("left", "right", "sums", "squares"):
                assert_allclose(getattr(table, name), getattr(by_sorting, name), atol=1e-12)


def test_numba_is_not_imported_for_a_page_of_comparisons():
    """A web process pays nothing for what only millions of rows repay."""
    import subprocess

    code = (
        "import sys, numpy as np; from annotation.statistics import bradley_terry, plackett_luce;"
        "bradley_terry.fit([0, 1], [1, 0], clusters=[0, 1]); plackett_luce.fit([[0, 1], [1, 0]]);"
        "print('numba' in sys.modules, 'pandas' in sys.modules, 'django' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False", "False"]
