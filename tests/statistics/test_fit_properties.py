"""What holds of every fit, over any comparisons: ties, weights, islands, undefeated items."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from annotation.statistics import bradley_terry, plackett_luce
from annotation.statistics.fits import Fit

ITEMS = 5
OUTCOMES = (0.0, 0.5, 1.0)

pairs = st.tuples(st.integers(0, ITEMS - 1), st.integers(1, ITEMS - 1)).map(lambda at: (at[0], (at[0] + at[1]) % ITEMS))
comparisons = st.lists(st.tuples(pairs, st.sampled_from(OUTCOMES)), min_size=1, max_size=30)
ridges = st.sampled_from([0.0, 0.3])
quick = settings(max_examples=60, deadline=None)


def columns(rows: list) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    left, right = np.array([pair for pair, _outcome in rows]).T
    return left, right, np.array([outcome for _pair, outcome in rows])


def fit(rows: list, **options) -> Fit:
    left, right, outcomes = columns(rows)
    return bradley_terry.fit(left, right, outcomes, items=range(ITEMS), **options)


def assert_same(one: Fit, *, other: Fit) -> None:
    assert_allclose(one.scores, other.scores, atol=1e-7)
    assert_allclose(one.covariance, other.covariance, rtol=1e-5, atol=1e-7)


@quick
@given(comparisons, ridges)
def test_the_gradient_is_zero_at_the_fit(rows, ridge):
    """Each item's wins are those expected of it, within what the judgements make comparable."""
    found = fit(rows, ridge=ridge)
    left, right, outcomes = columns(rows)
    together = found.component[left] == found.component[right]
    left, right, outcomes = left[together], right[together], outcomes[together]
    residual = outcomes - 1 / (1 + np.exp(found.scores[right] - found.scores[left]))
    gradient = np.bincount(left, residual, minlength=ITEMS) - np.bincount(right, residual, minlength=ITEMS)
    assert_allclose(gradient - ridge * np.nan_to_num(found.scores), 0, atol=1e-6)


@quick
@given(comparisons, ridges, st.permutations(range(ITEMS)), st.randoms(use_true_random=False))
def test_names_sides_and_order_do_not_matter(rows, ridge, names, random):
    """Items renamed, sides changed and rows shuffled: the same scores and errors, under the new names."""
    name = np.array(names)
    turned = [
        ((names[b], names[a]), 1 - outcome) if random.random() < 0.5 else ((names[a], names[b]), outcome)
        for (a, b), outcome in rows
    ]
    random.shuffle(turned)
    one, other = fit(rows, ridge=ridge), fit(turned, ridge=ridge)
    assert_allclose(other.scores[name], one.scores, atol=1e-7)
    assert_allclose(other.covariance[np.ix_(name, name)], one.covariance, rtol=1e-5, atol=1e-7)


@quick
@given(st.lists(st.tuples(pairs, st.sampled_from(OUTCOMES), st.integers(1, 3)), min_size=1, max_size=20), ridges)
def test_a_row_repeated_in_one_cluster_is_a_row_of_that_weight(rows, ridge):
    once = [(pair, outcome) for pair, outcome, _times in rows]
    often = [(pair, outcome) for pair, outcome, times in rows for _time in range(times)]
    groups = [number for number, (_pair, _outcome, times) in enumerate(rows) for _time in range(times)]
    weights = [float(times) for _pair, _outcome, times in rows]
    weighted = fit(once, weights=weights, clusters=list(range(len(once))), ridge=ridge)
    assert_same(fit(often, clusters=groups, ridge=ridge), other=weighted)


@quick
@given(comparisons, st.booleans())
def test_rankings_of_two_are_comparisons(rows, has_ties):
    """Plackett–Luce of K = 2 is Bradley–Terry, with ties Davidson's; where one has no value, nor has the other."""
    rows = rows if has_ties else [(pair, outcome) for pair, outcome in rows if outcome != 0.5]
    if not rows:
        return
    left, right, outcomes = columns(rows)
    order = np.where((outcomes == 0)[:, None], np.stack([right, left], axis=1), np.stack([left, right], axis=1))
    tied = np.stack([np.zeros(len(rows), dtype=bool), outcomes == 0.5], axis=1)
    try:
        one = fit(rows, ties="davidson")
    except ValueError:
        with pytest.raises(ValueError, match=r"finite value|Every comparison is a tie"):
            plackett_luce.fit(order, tied=tied, items=range(ITEMS))
        return
    assert_same(plackett_luce.fit(order, tied=tied, items=range(ITEMS)), other=one)


@quick
@given(comparisons, ridges)
def test_win_probabilities_are_antisymmetric(rows, ridge):
    chances = fit(rows, ridge=ridge).win_probabilities()
    assert_allclose((chances + chances.T)[~np.isnan(chances)], 1)
    assert (np.isnan(chances) == np.isnan(chances.T)).all()
