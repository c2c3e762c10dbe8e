import math

import pytest

from rewardmodel.metrics import (
    area_under_curve,
    bootstrap_area_by_prompt,
    bootstrap_interval_by_prompt,
    bootstrap_ratio_by_prompt,
    log_loss,
    matched_interval,
    pairwise_accuracy,
    summarize_labels,
    summarize_longer_wins,
    summarize_losses,
    summarize_margins,
    wilson_interval,
)


def test_wilson_interval_of_eight_of_ten() -> None:
    """p = 0.8, n = 10, z = 1.96, z^2 = 3.8416: centre (0.8 + 0.19208) / 1.38416 = 0.716738,
    half 1.96 / 1.38416 * sqrt(0.016 + 0.009604) = 1.416022 * 0.160013 = 0.226581."""
    low, high = wilson_interval(8, n=10, z=1.96)
    assert low == pytest.approx(0.490157, abs=1e-5)
    assert high == pytest.approx(0.943319, abs=1e-5)


def test_wilson_interval_at_the_ends_stays_within_zero_and_one() -> None:
    """All of 10 with z = 2: centre (1 + 0.2) / 1.4 = 6/7, half 2 / 1.4 * sqrt(4 / 400) = 1/7."""
    assert wilson_interval(10, n=10, z=2) == pytest.approx((5 / 7, 1.0))
    assert wilson_interval(0, n=10, z=2) == pytest.approx((0.0, 2 / 7))


def test_a_tie_counts_as_half() -> None:
    """Right, wrong, tie, right: (1 + 0 + 0.5 + 1) / 4 = 0.625."""
    assert pairwise_accuracy([2.0, -1.0, 0.0, 0.1]) == 0.625


def test_log_loss_is_the_bradley_terry_loss() -> None:
    """Margin 0 costs ln 2; margin ln 3 gives sigmoid 3/4 and costs ln 4/3."""
    assert log_loss([0.0, math.log(3)]) == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)


def test_log_loss_of_a_large_margin_does_not_overflow() -> None:
    """-log sigmoid(-1000) is 1000 to within e^-1000."""
    assert log_loss([-1000.0]) == 1000.0


def test_bootstrap_draws_whole_prompts() -> None:
    """Two prompts, one all right and one all wrong: a draw of two prompts has accuracy 0, 1/2 or 1 with chances
    1/4, 1/2, 1/4, so the 2.5 % and 97.5 % points are 0 and 1, however many pairs each prompt has."""
    margins = [1.0] * 50 + [-1.0] * 50
    assert bootstrap_interval_by_prompt(margins, prompt_ids=["a"] * 50 + ["b"] * 50) == (0.0, 1.0)


def test_one_prompt_has_no_interval_over_prompts() -> None:
    assert bootstrap_interval_by_prompt([1.0, -1.0], prompt_ids=["a", "a"]) is None


def test_longer_wins_counts_equal_lengths_as_half() -> None:
    """Longer chosen, shorter chosen, equal: (1 + 0 + 0.5) / 3 = 0.5."""
    assert summarize_longer_wins([(5, 3), (2, 4), (7, 7)])["accuracy"] == 0.5


def test_a_summary_counts_pairs_and_prompts() -> None:
    figures = summarize_margins([1.0, 1.0, -1.0], prompt_ids=["a", "b", "b"])
    assert (figures["n"], figures["n_prompts"], figures["accuracy"]) == (3, 2, pytest.approx(2 / 3))


@pytest.mark.parametrize("margins", [[], [float("nan")], [float("inf")]])
def test_no_margins_or_no_numbers_are_refused(margins: list[float]) -> None:
    with pytest.raises(ValueError, match="margin"):
        pairwise_accuracy(margins)


def test_matched_interval_with_a_half_in_each_cell() -> None:
    """6 prompts without a difference: 8 with the halves, 1 discordant: 2 √1 / 8. 4 gained of 4: 6, difference 4/6, 5
    discordant: √(5 - 6 (4/6)²) / 6 = √(7/3) / 6. 3 gained and 1 lost of 14: 16, 2/16, √(5 - 1/4) / 16."""
    assert matched_interval(0, 0, n=6, z=2) == (-0.25, 0.25)
    assert matched_interval(4, 0, n=4, z=2) == pytest.approx((2 / 3 - (7 / 3) ** 0.5 / 3, 1.0))
    assert matched_interval(3, 1, n=14, z=2) == pytest.approx((1 / 8 - 4.75**0.5 / 8, 1 / 8 + 4.75**0.5 / 8))
    assert matched_interval(0, 4, n=4, z=2) == pytest.approx((-1.0, (7 / 3) ** 0.5 / 3 - 2 / 3))


def test_the_area_counts_pairs_of_a_true_and_a_false_row() -> None:
    """True 3 and 1, false 2 and 1: 3 > 2, 3 > 1, 1 < 2, 1 = 1: (1 + 1 + 0 + 0.5) / 4."""
    assert area_under_curve([3, 1, 2, 1], labels=[True, True, False, False]) == 0.625


def test_the_area_of_equal_scores_is_a_half() -> None:
    assert area_under_curve([1.0, 1.0, 1.0], labels=[True, False, False]) == 0.5


def test_the_area_needs_both_classes() -> None:
    with pytest.raises(ValueError, match="need both classes, got 2 true and 0 false"):
        area_under_curve([1, 2], labels=[True, True])


def test_the_interval_of_the_area_draws_whole_prompts() -> None:
    """Ten copies of one prompt's rows are ten prompts: wider than the rows alone would say, and around the area."""
    scores = [3.0, 1.0, 2.0, 1.5]
    labels = [True, True, False, False]
    prompts = [str(i) for i in range(10) for _ in scores]
    interval = bootstrap_area_by_prompt(scores * 10, labels=labels * 10, prompt_ids=prompts)
    assert interval == pytest.approx((0.5, 0.5))
    assert bootstrap_area_by_prompt(scores, labels=labels, prompt_ids=["one"] * 4) is None
    low, high = bootstrap_area_by_prompt(scores, labels=labels, prompt_ids=list("abcd")) or (0.5, 0.5)
    assert (low, high) == (0.0, 1.0)
    assert summarize_labels(scores, labels=labels, prompt_ids=["one"] * 4) == {"auc": 0.5, "interval": None}


def test_the_loss_of_a_token_is_over_all_rows_at_once() -> None:
    """Rows of 1 and 3 tokens that lose 3 and 1 nats: 4 / 4 = 1, where the mean of the rows' means would be 5/3."""
    figures = summarize_losses([-3.0, -1.0], tokens=[1, 3], prompt_ids=["a", "b"])
    assert (figures["loss"], figures["perplexity"]) == (1.0, math.e)
    assert figures["interval"] == pytest.approx([1 / 3, 3.0])


def test_the_interval_of_a_ratio_draws_whole_prompts() -> None:
    """Rows of one prompt stay together: two prompts of equal sums leave nothing to vary."""
    assert bootstrap_ratio_by_prompt([1, 5, 3, 3], [2, 2, 2, 2], prompt_ids=list("aabb")) == (1.5, 1.5)
    assert bootstrap_ratio_by_prompt([1, 5], [2, 2], prompt_ids=["a", "a"]) is None
