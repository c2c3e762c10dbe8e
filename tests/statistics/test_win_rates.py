"""Win rates: counts by hand, Wilson bounds as printed, and what holds for every table."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation.statistics.win_rates import win_rates

comparisons = st.lists(
    st.tuples(st.integers(0, 4), st.integers(0, 4), st.sampled_from([0, 0.5, 1])).filter(lambda row: row[0] != row[1]),
    min_size=1,
    max_size=60,
)


def test_wins_and_ties_by_hand():
    """a beat b twice, once from the right; they tied once: 2.5 of 3."""
    found = win_rates(["a", "b", "a", "c"], right=["b", "a", "b", "b"], outcomes=[1, 0, 0.5, 1])
    assert found.items == ("a", "b", "c")
    assert found.wins.tolist() == [[0, 2, 0], [0, 0, 0], [0, 1, 0]]
    assert found.ties.tolist() == [[0, 1, 0], [1, 0, 0], [0, 0, 0]]
    assert found.comparisons.tolist() == [[0, 3, 0], [3, 0, 1], [0, 1, 0]]
    assert found.rates[0, 1] == pytest.approx(2.5 / 3)
    assert math.isnan(found.rates[0, 2])
    assert found.overall() == pytest.approx([2.5 / 3, (0.5 / 3 + 0) / 2, 1])


@pytest.mark.parametrize(
    ("wins", "losses", "printed"),
    [(15, 133, (0.0624, 0.1605)), (0, 20, (0.0, 0.1611)), (1, 28, (0.0061, 0.1718))],
)
def test_wilson_bounds_as_printed(wins, losses, printed):
    """Newcombe 1998, "Two-sided confidence intervals for the single proportion", table I, method 3."""
    outcomes = [1] * wins + [0] * losses
    found = win_rates([0] * len(outcomes), right=[1] * len(outcomes), outcomes=outcomes)
    assert (round(found.lower[0, 1], 4), round(found.upper[0, 1], 4)) == printed


@settings(deadline=None, max_examples=60)
@given(rows=comparisons)
def test_the_table_is_antisymmetric(rows):
    left, right, outcomes = zip(*rows, strict=True)
    found = win_rates(left, right=right, outcomes=outcomes)
    assert found.rates + found.rates.T == pytest.approx(np.where(found.comparisons > 0, 1, math.nan), nan_ok=True)
    assert found.lower + found.upper.T == pytest.approx(np.where(found.comparisons > 0, 1, math.nan), nan_ok=True)
    assert found.comparisons.sum() == 2 * len(rows)
    turned = win_rates(right, right=left, outcomes=[1 - outcome for outcome in outcomes])
    assert turned.rates == pytest.approx(found.rates, nan_ok=True)


def test_a_weight_is_a_repetition():
    twice = win_rates([0, 0, 0], right=[1, 1, 1], outcomes=[1, 1, 0.5])
    weighed = win_rates([0, 0], right=[1, 1], outcomes=[1, 0.5], weights=[2, 1])
    assert weighed.lower == pytest.approx(twice.lower, nan_ok=True)
    assert weighed.wins.tolist() == twice.wins.tolist()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"left": [], "right": [], "outcomes": []}, "no comparisons"),
        ({"left": ["a"], "right": ["a"], "outcomes": [1]}, "with itself"),
        ({"left": ["a"], "right": ["b"], "outcomes": [0.7]}, "An outcome must be"),
        ({"left": ["a"], "right": ["b"], "outcomes": [math.nan]}, "An outcome must be"),
        ({"left": ["a"], "right": ["b", "c"], "outcomes": [1]}, "1 left and 2 right"),
        ({"left": ["a"], "right": ["b"], "outcomes": [1], "items": ["a"]}, "Unknown items"),
        ({"left": ["a"], "right": ["b"], "outcomes": [1], "weights": [-1]}, "not negative"),
        ({"left": ["a"], "right": ["b"], "outcomes": [1], "weights": [math.nan]}, "finite"),
        ({"left": ["a"], "right": ["b"], "outcomes": [1], "weights": [1, 2]}, "2 weights"),
        ({"left": ["a"], "right": ["b"], "outcomes": [1], "confidence": 95}, "between 0 and 1"),
    ],
)
def test_bad_input_is_refused_with_a_reason(arguments, said):
    with pytest.raises(ValueError, match=said):
        win_rates(arguments.pop("left"), **arguments)
