"""Losses against values derived by hand, and the K-wise gradient against pair-by-pair reading."""

import math
from itertools import combinations

import pytest
import torch

from rewardmodel.losses import (
    bradley_terry,
    centring,
    davidson,
    length_correlation,
    plackett_luce,
    rao_kupper,
    smooth_labels,
    tie_strength_of,
    weighted_mean,
)

LN2, LN3 = math.log(2), math.log(3)


def tensor(*values: float) -> torch.Tensor:
    return torch.tensor(values, dtype=torch.float64)


def test_bradley_terry_by_hand() -> None:
    """d = 0: -log 1/2 = ln 2. d = ln 3: -log(3/4) = ln 4 - ln 3. d = -ln 3: -log(1/4) = ln 4."""
    assert bradley_terry(tensor(0, LN3, -LN3)).tolist() == pytest.approx([LN2, 2 * LN2 - LN3, 2 * LN2])


def test_a_margin_is_taken_off_the_lead() -> None:
    """d = ln 3 with margin ln 3 is d = 0: ln 2."""
    assert bradley_terry(tensor(LN3), margins=tensor(LN3)).tolist() == pytest.approx([LN2])


def test_a_soft_label_divides_the_loss() -> None:
    """p = 3/4 at d = ln 3: 3/4 (ln 4 - ln 3) + 1/4 ln 4 = ln 4 - 3/4 ln 3, which is the least over d.
    With margin ln 3 the sides are d - m = 0 and -d - m = -ln 9: 3/4 ln 2 + 1/4 ln 10."""
    d, p = tensor(LN3).requires_grad_(), tensor(0.75)
    loss = bradley_terry(d, probabilities=p)
    loss.sum().backward()
    assert loss.item() == pytest.approx(2 * LN2 - 0.75 * LN3)
    assert d.grad is not None
    assert d.grad.item() == pytest.approx(0, abs=1e-12)
    held = bradley_terry(tensor(LN3), probabilities=p, margins=tensor(LN3))
    assert held.item() == pytest.approx(0.75 * LN2 + 0.25 * math.log(10))


def test_smoothing_moves_a_label_towards_a_half() -> None:
    """e = 0.1: 1 -> 0.9, 0 -> 0.1, 1/2 stays, 0.75 -> 0.675 + 0.025 = 0.7."""
    assert smooth_labels(tensor(1, 0, 0.5, 0.75), smoothing=0.1).tolist() == pytest.approx([0.9, 0.1, 0.5, 0.7])


def test_davidson_by_hand() -> None:
    """v = 1 at d = 0: all three have 1/3. v = 2 at d = 2 ln 2: Z = 2 + 1/2 + 2 = 9/2; better 4/9, tie 4/9."""
    level = davidson(tensor(0, 0), tied=torch.tensor([False, True]), tie_strength=1.0)
    assert level.tolist() == pytest.approx([LN3] * 2)
    both = davidson(tensor(2 * LN2, 2 * LN2), tied=torch.tensor([False, True]), tie_strength=2.0)
    assert both.tolist() == pytest.approx([math.log(9 / 4)] * 2)
    worse = davidson(tensor(2 * LN2), tied=torch.tensor([False]), tie_strength=2.0, probabilities=tensor(0))
    assert worse.tolist() == pytest.approx([math.log(9)])


def test_rao_kupper_by_hand() -> None:
    """t = 2. d = 0: better 1/(1 + 2) = 1/3, tie 3 * 1/9 = 1/3. d = ln 2: better 1/2, worse 1/5, tie 3/10."""
    tied = torch.tensor([False, True, False, True])
    losses = rao_kupper(tensor(0, 0, LN2, LN2), tied=tied, tie_strength=2.0)
    assert losses.tolist() == pytest.approx([LN3, LN3, LN2, math.log(10 / 3)])
    worse = rao_kupper(tensor(LN2), tied=torch.tensor([False]), tie_strength=2.0, probabilities=tensor(0))
    assert worse.tolist() == pytest.approx([math.log(5)])


@pytest.mark.parametrize(("loss", "neutral"), [(davidson, 0.0), (rao_kupper, 1.0)])
def test_without_ties_both_are_bradley_terry(loss, neutral) -> None:
    d = tensor(-1.5, 0, 2).requires_grad_()
    losses = loss(d, tied=torch.zeros(3, dtype=torch.bool), tie_strength=neutral)
    losses.sum().backward()
    assert losses.tolist() == pytest.approx(bradley_terry(d).tolist())
    assert torch.isfinite(d.grad).all()


@pytest.mark.parametrize("loss", [davidson, rao_kupper])
def test_better_worse_and_tie_make_one(loss) -> None:
    d, strength = tensor(0.7), 1.8
    said = [(False, 1.0), (False, 0.0), (True, 1.0)]
    shares = [
        math.exp(-loss(d, tied=torch.tensor([tied]), tie_strength=strength, probabilities=tensor(p)).item())
        for tied, p in said
    ]
    assert sum(shares) == pytest.approx(1)


@pytest.mark.parametrize(("name", "loss"), [("davidson", davidson), ("rao_kupper", rao_kupper)])
def test_the_tie_strength_gives_equal_responses_the_share_of_ties(name: str, loss) -> None:
    """s = 1/3: v = 2/3 / 2/3 = 1; t = 4/3 / 2/3 = 2."""
    strength = tie_strength_of(name, share=1 / 3)
    assert strength == pytest.approx({"davidson": 1, "rao_kupper": 2}[name])
    assert loss(tensor(0), tied=torch.tensor([True]), tie_strength=strength).item() == pytest.approx(LN3)
    with pytest.raises(ValueError, match="below 1, got 1"):
        tie_strength_of(name, share=1.0)


def test_plackett_luce_by_hand() -> None:
    """Worths 1, 2, 3 in the order 3, 2, 1: 3/6 * 2/3 * 1 = 1/3. Two items: Bradley-Terry."""
    rewards = tensor(0, LN2, LN3)
    assert plackett_luce(rewards, order=[2, 1, 0]).item() == pytest.approx(LN3)
    assert plackett_luce(rewards[:2], order=[1, 0]).item() == pytest.approx(bradley_terry(tensor(LN2)).item())


def test_plackett_luce_of_all_orders_makes_one() -> None:
    orders = [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]]
    assert sum(math.exp(-plackett_luce(tensor(0.3, -1, 2), order=o).item()) for o in orders) == pytest.approx(1)


def test_centring_is_the_squared_sum() -> None:
    assert centring(tensor(1, 2), tensor(-1, 1)).tolist() == [0, 9]


def test_length_correlation_by_hand() -> None:
    """d = (1, 0), l = (3, 4): (3)^2 / (1 * 25) = 0.36; turned sides change nothing; proportional differences give 1."""
    assert length_correlation(tensor(1, 0), length_differences=tensor(3, 4)).item() == pytest.approx(0.36)
    assert length_correlation(tensor(-1, 0), length_differences=tensor(-3, 4)).item() == pytest.approx(0.36)
    assert length_correlation(tensor(1, -2), length_differences=tensor(-2, 4)).item() == pytest.approx(1)


def test_no_difference_has_no_correlation_and_a_finite_gradient() -> None:
    d = torch.zeros(2, requires_grad=True)
    length_correlation(d, length_differences=torch.tensor([1.0, 2.0])).backward()
    assert d.grad is not None
    assert torch.isfinite(d.grad).all()


def test_weights_divide_by_their_sum() -> None:
    assert weighted_mean(tensor(1, 4), weights=tensor(3, 1)).item() == pytest.approx(7 / 4)


def test_the_k_wise_gradient_is_that_of_all_pairs_read_apart() -> None:
    """A linear reward of 9 responses: each read once against 36 pairs of separate readings (float32, 1e-5)."""
    torch.manual_seed(0)
    responses, weight = torch.randn(9, 16), torch.randn(16)
    once = weight.clone().requires_grad_()
    rewards = responses @ once
    better, worse = (torch.tensor(side) for side in zip(*combinations(range(9), 2), strict=True))
    bradley_terry(rewards[better] - rewards[worse]).mean().backward()
    apart = weight.clone().requires_grad_()
    for i, j in combinations(range(9), 2):
        (bradley_terry((responses[i] @ apart - responses[j] @ apart)[None])[0] / 36).backward()
    assert once.grad is not None
    assert torch.allclose(once.grad, apart.grad, atol=1e-5)  # type: ignore[arg-type]
