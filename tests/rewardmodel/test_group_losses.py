"""What is computed of several responses to a prompt: values derived by hand."""

import math

import pytest
import torch

from rewardmodel.group_losses import (
    find_equal,
    leave_one_out,
    mark_extremes,
    paired_loss,
    standardize_groups,
    sum_responses,
)

SCORES = torch.tensor([1.0, 2.0, 6.0, 4.0, 4.0, 4.0])  # of two prompts, three each


def test_the_baseline_of_a_response_is_the_mean_of_its_prompts_others() -> None:
    """1 - (2 + 6) / 2 = -3; 2 - 7 / 2 = -1.5; 6 - 3 / 2 = 4.5; equal scores give 0."""
    assert leave_one_out(SCORES, group_size=3).tolist() == [-3.0, -1.5, 4.5, 0.0, 0.0, 0.0]


def test_scores_are_standardised_within_a_prompt() -> None:
    """Mean 3, sample variance (4 + 1 + 9) / 2 = 7."""
    std = math.sqrt(7) + 1e-4
    expected = [-2 / std, -1 / std, 3 / std, 0.0, 0.0, 0.0]
    assert standardize_groups(SCORES, group_size=3).tolist() == pytest.approx(expected)
    assert standardize_groups(SCORES, group_size=3, scale=False).tolist() == [-2.0, -1.0, 3.0, 0.0, 0.0, 0.0]


def test_the_best_and_the_worst_are_marked_and_equal_scores_are_not() -> None:
    assert mark_extremes(SCORES, group_size=3).tolist() == [-1.0, 0.0, 1.0, 0.0, 0.0, 0.0]
    assert mark_extremes(torch.tensor([2.0, 2.0, 1.0, 1.0]), group_size=4).tolist() == [1.0, 0.0, -1.0, 0.0]
    assert find_equal(SCORES, group_size=3).tolist() == [False, True]


def test_the_loss_of_a_pair_is_that_of_dpo() -> None:
    """Log-ratios 0.5 of the worst, 2 of the best, beta 0.1: -log sigmoid(0.15); no pair, no loss."""
    ratios = torch.tensor([0.5, 9.0, 2.0, 1.0, 2.0, 3.0], requires_grad=True)
    losses = paired_loss(ratios, mark_extremes(SCORES, group_size=3), group_size=3, beta=0.1)
    assert losses.tolist() == pytest.approx([math.log(1 + math.exp(-0.15)), 0.0])
    losses.sum().backward()
    slope = 0.1 / (1 + math.exp(0.15))
    assert ratios.grad is not None
    assert ratios.grad.tolist() == pytest.approx([slope, 0.0, -slope, 0.0, 0.0, 0.0])


def test_tokens_are_summed_by_response() -> None:
    tokens = torch.tensor([1.0, 2.0, 3.0, 4.0])
    assert sum_responses(tokens, lengths=torch.tensor([1, 3])).tolist() == [1.0, 9.0]
