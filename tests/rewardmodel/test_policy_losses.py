"""Losses of a policy, against values derived by hand."""

import math

import pytest
import torch

from rewardmodel.policy_losses import LOSSES, Settings, Sides

# Log-ratios 2 and -1 of completions of 4 and 2 tokens, beta = 1/2: leads of 3, half of it 1.5, and 1/2 + 1/2 a token.
SIDES = Sides(torch.tensor([2.0]), torch.tensor([-1.0]), torch.tensor([4]), torch.tensor([2]))


def log_sigmoid(x: float) -> float:
    return -math.log1p(math.exp(-x))


def sigmoid(x: float) -> float:
    return 1 / (1 + math.exp(-x))


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("sigmoid", {}, -log_sigmoid(1.5)),
        ("sigmoid", {"smoothing": 0.2}, -0.8 * log_sigmoid(1.5) - 0.2 * log_sigmoid(-1.5)),
        ("sigmoid", {"length_control": 0.25}, -log_sigmoid(1.5 + 0.25 * 2)),
        ("sigmoid_norm", {}, -log_sigmoid(0.5)),
        ("robust", {"smoothing": 0.2}, (-0.8 * log_sigmoid(1.5) + 0.2 * log_sigmoid(-1.5)) / 0.6),
        ("hinge", {}, 0.0),
        ("ipo", {}, (1 - 1 / (2 * 0.5)) ** 2),
        ("apo_zero", {}, 1 - sigmoid(1.0) + sigmoid(-0.5)),
        ("apo_down", {}, sigmoid(1.0) + 1 - sigmoid(1.5)),
        ("simpo", {"target_margin": 0.3}, -log_sigmoid(0.5 - 0.3)),
    ],
)
def test_values_by_hand(name: str, changes: dict[str, float], expected: float) -> None:
    loss = LOSSES[name](SIDES, Settings(beta=0.5, **changes))
    assert loss.tolist() == pytest.approx([expected], abs=1e-6)


def test_the_hinge_loses_what_is_missing_of_one() -> None:
    """beta (r_w - r_l) = 0.1 * 3 leaves 0.7."""
    assert LOSSES["hinge"](SIDES, Settings(beta=0.1)).tolist() == pytest.approx([0.7])


def test_the_robust_loss_is_unbiased_under_turned_labels() -> None:
    """(1 - e) l(w, l) + e l(l, w) = -log sigmoid(beta (r_w - r_l)), which is what it is for."""
    settings = Settings(beta=0.5, smoothing=0.2)
    turned = Sides(SIDES.worse, SIDES.better, SIDES.worse_lengths, SIDES.better_lengths)
    mean = 0.8 * LOSSES["robust"](SIDES, settings) + 0.2 * LOSSES["robust"](turned, settings)
    assert mean.tolist() == pytest.approx([-log_sigmoid(1.5)], abs=1e-6)
