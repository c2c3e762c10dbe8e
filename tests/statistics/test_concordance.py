"""Kendall's measures and circular triads, against printed values and by hand."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from annotation.statistics.agreement import concordance_by_slate, intransitivity_rate, kendall_tau_b, kendall_w

NAN = math.nan

KENDALL_TIED = np.array(
    [
        [1, 4.5, 2, 4.5, 3, 7.5, 6, 9, 7.5, 10],
        [2.5, 1, 2.5, 4.5, 4.5, 8, 9, 6.5, 10, 6.5],
        [2, 1, 4.5, 4.5, 4.5, 4.5, 8, 8, 8, 10],
    ]
).T
"""Kendall 1948, "Rank Correlation Methods", section 6.8: ten items, three rankings with ties; W = 0.828."""


def test_kendalls_w_with_ties_as_printed():
    found = kendall_w(KENDALL_TIED)
    assert round(found.value, 3) == 0.828
    assert (found.n_units, found.n_raters, found.n_values) == (10, 3, 30)
    assert found.interval[0] <= found.value <= found.interval[1]


def test_any_numbers_in_the_same_order_give_the_same_w():
    assert kendall_w(KENDALL_TIED**3, resamples=0).value == pytest.approx(kendall_w(KENDALL_TIED, resamples=0).value)


def test_w_without_ties_by_hand():
    """Rank sums 2, 5, 5 of rankings 123 and 132: S = 4 + 1 + 1 = 6 about 4; W = 12 · 6 / (4 · 24) = 0.75."""
    assert kendall_w([[1, 1], [2, 3], [3, 2]], resamples=0).value == pytest.approx(0.75)
    assert kendall_w([[1, 1], [2, 2], [3, 3]]).value == pytest.approx(1)
    assert kendall_w([[1, 3], [2, 2], [3, 1]]).value == pytest.approx(0)


def test_tau_b_with_ties_by_hand():
    """Ten pairs. The first ties two (12, 12 and 2, 2), the second one of these (1, 1): 2 of the 8 others agree.

    τ-b = (2 - 6) / √((10 - 2) (10 - 1)) = -0.4714.
    """
    found = kendall_tau_b([12, 2, 1, 12, 2], second=[1, 4, 7, 1, 0])
    assert round(found.value, 4) == -0.4714
    assert (found.n_units, found.n_values) == (5, 10)


def test_tau_b_over_more_items_than_are_taken_at_once():
    """For permutations without ties τ = 1 - 4 · inversions / (n (n - 1))."""
    order = np.random.default_rng(2).permutation(700)
    inversions = sum(int((order[:i] > order[i]).sum()) for i in range(700))
    found = kendall_tau_b(np.arange(700), second=order, resamples=50)
    assert found.value == pytest.approx(1 - 4 * inversions / (700 * 699))
    assert found.interval[0] < 0 < found.interval[1]


def test_the_interval_of_tau_b_is_that_of_drawing_items():
    """Weights are repetitions: a sample of items drawn by hand has the value that its weights give."""
    from annotation.statistics.concordance import _tau_b, _w

    ranks = np.random.default_rng(0).integers(0, 5, (9, 2)).astype(float)
    drawn = np.array([0, 0, 3, 4, 4, 4, 6, 7, 8])
    weights = np.bincount(drawn, minlength=9)[None].astype(float)
    by_hand = kendall_tau_b(ranks[drawn, 0], second=ranks[drawn, 1], resamples=0).value
    assert _tau_b(ranks, weights=weights)[0] == pytest.approx(by_hand)
    assert _w(ranks, weights=weights)[0] == pytest.approx(kendall_w(ranks[drawn], resamples=0).value)


@settings(deadline=None, max_examples=50)
@given(ranks=arrays.arrays(np.int64, (6, 2), elements=st.integers(0, 3)))
def test_turning_one_ranking_round_turns_tau_b_round(ranks):
    tau = kendall_tau_b(ranks[:, 0], second=ranks[:, 1], resamples=0).value
    assert kendall_tau_b(-ranks[:, 0], second=ranks[:, 1], resamples=0).value == pytest.approx(-tau, nan_ok=True)
    assert kendall_tau_b(ranks[:, 1], second=ranks[:, 0], resamples=0).value == pytest.approx(tau, nan_ok=True)


@settings(deadline=None, max_examples=50)
@given(
    ranks=arrays.arrays(np.float64, st.tuples(st.integers(2, 9), st.just(4)), elements=st.integers(1, 4)),
    seed=st.integers(0, 9),
)
def test_by_slate_is_the_mean_of_what_each_slate_is_alone(ranks, seed):
    slates = np.random.default_rng(seed).integers(0, 3, len(ranks))
    found = concordance_by_slate(ranks, slates=slates, resamples=0)
    taus, ws = [], []
    for slate in range(3):
        here = ranks[slates == slate]
        pairs = [kendall_tau_b(a, second=b, resamples=0).value for a, b in itertools.combinations(here, 2)]
        if not all(math.isnan(tau) for tau in pairs):
            taus.append(np.nanmean(pairs))
        if len(here) > 1:
            ws.append(kendall_w(here.T, resamples=0).value)
    ws = [w for w in ws if not math.isnan(w)]
    assert found.tau_b.value == pytest.approx(np.mean(taus) if taus else NAN, nan_ok=True, abs=1e-9)
    assert found.w.value == pytest.approx(np.mean(ws) if ws else NAN, nan_ok=True, abs=1e-9)
    assert (found.tau_b.n_units, found.w.n_units) == (len(taus), len(ws))


def test_incomplete_rankings_and_smaller_slates():
    """Slate 1 has three items; the ranking of two of them is left out. Slate 2 has two. Slate 3 was judged once."""
    ranks = [[1, 2, 3, NAN], [1, 2, 3, NAN], [2, 1, NAN, NAN], [1, 2, NAN, NAN], [2, 1, NAN, NAN], [1, 2, 3, 4]]
    found = concordance_by_slate(ranks, slates=[1, 1, 1, 2, 2, 3])
    assert found.tau_b.value == pytest.approx(0)  # 1 and -1
    assert found.w.value == pytest.approx(0.5)  # 1 and 0
    assert (found.tau_b.n_units, found.tau_b.n_values) == (2, 4)
    alone = concordance_by_slate([[1, 2]], slates=[1])
    assert math.isnan(alone.tau_b.value)
    assert "No slate has two" in alone.tau_b.undefined


def rate(pairs: str, **more: object) -> object:
    """`pairs` such as "ab bc ca": who beat whom; "a=b" a tie."""
    sides = [(pair[0], pair[-1], 0.5 if "=" in pair else 1.0) for pair in pairs.split()]
    left, right, outcomes = zip(*sides, strict=True)
    return intransitivity_rate(left, right=right, outcomes=outcomes, **more)


def test_a_circle_is_cyclic_and_an_order_is_not():
    assert rate("ab bc ca").value == 1
    assert rate("ab bc ac").value == 0
    both = rate("ab bc ca xy yz xz")
    assert (both.value, both.n_units, both.n_values) == (0.5, 2, 6)


def test_ties_and_pairs_not_met_decide_no_triple():
    for pairs in ("ab bc c=a", "ab bc", "ab bc ca ac"):
        found = rate(pairs)
        assert math.isnan(found.value)
        assert found.undefined == "No three items were all compared with each other."


def test_the_majority_decides():
    assert rate("ab ab ba bc ca").value == 1
    assert rate("ba ba ab bc ca").value == 0


def test_groups_are_apart_and_are_what_is_drawn():
    """Alone each prompt is a circle; together their pairs cancel out."""
    pairs, groups = "ab bc ca ba cb ac", [1, 1, 1, 2, 2, 2]
    found = rate(pairs, groups=groups)
    assert (found.value, found.interval) == (1, (1, 1))
    assert math.isnan(rate(pairs).value)
    mixed = rate("ab bc ca ab bc ac", groups=groups)
    assert (mixed.value, mixed.interval) == (0.5, (0, 1))


@pytest.mark.parametrize("n", [4, 6, 11])
def test_circular_triads_of_kendall_and_babington_smith(n):
    """In a complete tournament d = n (n - 1) (2 n - 1) / 12 - Σ a² / 2, a the wins of each item."""
    left, right = np.triu_indices(n, 1)
    outcomes = np.random.default_rng(n).integers(0, 2, len(left))
    wins = np.bincount(left, weights=outcomes, minlength=n) + np.bincount(right, weights=1 - outcomes, minlength=n)
    cyclic = n * (n - 1) * (2 * n - 1) / 12 - (wins**2).sum() / 2
    found = intransitivity_rate(left, right=right, outcomes=outcomes)
    assert found.n_units == math.comb(n, 3)
    assert found.value == pytest.approx(cyclic / math.comb(n, 3))
    assert found.interval[0] <= found.value <= found.interval[1]


def test_coins_make_a_quarter_of_triples_cyclic():
    left, right = np.triu_indices(60, 1)
    outcomes = np.random.default_rng(0).integers(0, 2, len(left))
    assert intransitivity_rate(left, right=right, outcomes=outcomes, resamples=0).value == pytest.approx(0.25, abs=0.01)


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: kendall_tau_b([1, 2], second=[1]), "rank the same items"),
        (lambda: kendall_tau_b([1, NAN], second=[1, 2]), "A rank is missing"),
        (lambda: kendall_tau_b([], second=[]), "rank the same items"),
        (lambda: kendall_tau_b(["a"], second=["b"]), "must be numbers"),
        (lambda: kendall_w([[1], [2]]), "two raters or more"),
        (lambda: concordance_by_slate([1, 2], slates=[1]), "must be a table"),
        (lambda: concordance_by_slate([[1, 2]], slates=[1, 2]), "label for each of 1"),
        (lambda: intransitivity_rate([], right=[], outcomes=[]), "no comparisons"),
        (lambda: intransitivity_rate(["a"], right=["a"], outcomes=[1]), "with itself"),
        (lambda: intransitivity_rate(["a"], right=["b"], outcomes=[2]), "between 0"),
        (lambda: intransitivity_rate(["a"], right=["b"], outcomes=[NAN]), "between 0"),
        (lambda: intransitivity_rate(["a"], right=["b"], outcomes=[1, 0]), "2 outcomes"),
        (lambda: intransitivity_rate(["a"], right=["b"], outcomes=[1], items=["a"]), "Unknown items"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, said):
    with pytest.raises(ValueError, match=said):
        call()
