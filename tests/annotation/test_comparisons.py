"""Pure functions over rankings, against numbers derived by hand."""

from __future__ import annotations

import random

import pytest

from annotation.statistics.comparisons import derive_comparisons, pairwise_agreement, ranks_of, tiers_of
from annotation.statistics.differences import paired_difference
from annotation.statistics.simulation import simulate_ranking, utility


def test_a_full_ranking_of_three_gives_all_three_pairs():
    derived = derive_comparisons([["a"], ["b"], ["c"]])
    assert set(derived.strict) == {("a", "b"), ("a", "c"), ("b", "c")}
    assert derived.tied == ()


def test_tied_items_give_no_strict_pair_among_themselves():
    derived = derive_comparisons([["a", "b"], ["c"]])
    assert set(derived.strict) == {("a", "c"), ("b", "c")}
    assert derived.tied == (("a", "b"),)


def test_best_of_four_gives_the_winner_against_the_rest_and_no_ties():
    """K - 1 = 3 pairs; b, c and d were not told apart, which is no judgement that they are equal."""
    derived = derive_comparisons([["a"], ["b", "c", "d"]], task="best")
    assert set(derived.strict) == {("a", "b"), ("a", "c"), ("a", "d")}
    assert derived.tied == ()


def test_best_and_worst_of_four_gives_five_pairs():
    """2 K - 3 = 5: a against b, c, d, and b and c against d. Nothing between b and c."""
    derived = derive_comparisons([["a"], ["b", "c"], ["d"]], task="best-worst")
    assert set(derived.strict) == {("a", "b"), ("a", "c"), ("a", "d"), ("b", "d"), ("c", "d")}
    assert derived.tied == ()


@pytest.mark.parametrize("task", ["pairwise", "pairwise-forced", "ranking"])
def test_two_in_one_tier_are_equal_where_equality_could_be_said(task):
    assert derive_comparisons([["a", "b"]], task=task).tied == (("a", "b"),)


def test_ratings_give_no_pair_and_an_unknown_task_is_refused():
    assert derive_comparisons([], task="rating") == derive_comparisons([])
    with pytest.raises(ValueError, match="Unknown task 'best-of-n'"):
        derive_comparisons([["a"], ["b"]], task="best-of-n")


@pytest.mark.parametrize("tiers", [[["a"], ["a"]], [["a"], []]])
def test_inconsistent_tiers_are_refused(tiers):
    with pytest.raises(ValueError, match="exactly one"):
        derive_comparisons(tiers)


def test_ranks_are_competition_ranks_and_turn_back_into_tiers():
    assert ranks_of([[0, 2], [1], [3]]) == {0: 1, 2: 1, 1: 3, 3: 4}
    assert tiers_of([1, 3, 1, 4]) == [[0, 2], [1], [3]]


def test_agreement_counts_pairs_of_annotators_over_pairs_of_items():
    """a>b>c against a>c>b: of the pairs ab, ac, bc two are ordered alike. Against a=b>c: ac and bc; and ac."""
    first, second, third = [["a"], ["b"], ["c"]], [["a"], ["c"], ["b"]], [["a", "b"], ["c"]]
    assert pairwise_agreement([first, second]) == (2, 3)
    assert pairwise_agreement([first, second, third]) == (2 + 2 + 1, 9)


def test_agreement_compares_only_pairs_that_both_judged():
    """Best of a, b, c: a, and b. The first judged ab and ac, the second ab and bc: one pair, on which they differ.

    Against the full ranking a > b > c the first agrees on both of its pairs; the second on bc only, of ab and bc.
    """
    first, second, full = [["a"], ["b", "c"]], [["b"], ["a", "c"]], [["a"], ["b"], ["c"]]
    assert pairwise_agreement([first, second], tasks=["best", "best"]) == (0, 1)
    assert pairwise_agreement([first, full], tasks=["best", "ranking"]) == (2, 2)
    assert pairwise_agreement([second, full], tasks=["best", "ranking"]) == (1, 2)
    assert pairwise_agreement([[], full], tasks=["rating", "ranking"]) == (0, 0)


def test_a_paired_difference_has_its_mean_and_an_interval_around_it():
    """Differences 1, 1, 1, 3: mean 1.5; every resample lies in [1, 3]; new is higher everywhere. Of 40 units, half up:
    1.96 √(0.25 / 40) = 0.155 to either side."""
    result = paired_difference([0, 1, 2, 3], new=[1, 2, 3, 6])
    assert (result["old_mean"], result["new_mean"], result["difference"], result["win_rate"]) == (1.5, 3.0, 1.5, 1.0)
    low, high = result["interval"]
    assert 1 <= low < 1.5 < high <= 3
    assert (result["win_rate"], result["win_rate_interval"]) == (1, [1, 1])
    mixed = paired_difference([0] * 40, new=[1] * 20 + [-1] * 20)
    low, high = mixed["win_rate_interval"]
    assert (low, mixed["win_rate"], high) == pytest.approx((0.345, 0.5, 0.655), abs=0.03)
    with pytest.raises(ValueError, match="same units"):
        paired_difference([1.0], new=[])


def test_without_noise_the_simulated_annotator_ranks_by_utility_and_ties_equals():
    tiers = simulate_ranking([1.0, 3.0, 1.0, 2.0], rng=random.Random(0), noise=0.0)
    assert [sorted(tier) for tier in tiers] == [[1], [3], [0, 2]]


def test_the_simulated_rule_prefers_a_complete_answer_to_the_question():
    question = "Why does bread dough rise?"
    good = "Yeast in the dough feeds on sugar and makes gas, and the gas lets bread dough rise before it is baked."
    assert utility(question, response=good) > utility(question, response=good[:60])
    assert utility(question, response=good) > utility(question, response="Great question! " + good)
    assert utility(question, response=good) > utility(question, response="Paris is the capital of France.")
    assert utility(question, response=good) > utility(question, response="dough " * 30)
