import math

import numpy as np
import pytest

from rewardmodel.evaluation.length_control import (
    control_win_rate,
    describe_length_control,
    squash_lengths,
)
from rewardmodel.metrics import sigmoid


def ids(n: int) -> list[str]:
    return [str(i) for i in range(n)]


def test_balanced_accuracy_by_hand() -> None:
    """Longer chosen: 3 of 3 right. Shorter chosen: 1 of 2. Balanced (1 + 1/2) / 2 = 3/4; the equal pair is left out."""
    lengths = [(9, 1), (9, 1), (9, 1), (1, 9), (1, 9), (5, 5)]
    found = describe_length_control([1.0, 1.0, 1.0, 1.0, -1.0, -1.0], lengths=lengths, prompt_ids=ids(6))
    assert found["balanced"]["accuracy"] == 0.75
    assert (found["longer_chosen"]["n"], found["shorter_chosen"]["n"], found["equal"]) == (3, 2, 1)


def test_longer_wins_has_a_balanced_accuracy_of_one_half() -> None:
    generator = np.random.default_rng(0)
    lengths = [(int(a), int(b)) for a, b in generator.integers(1, 500, size=(300, 2))]
    margins = [float(a - b) for a, b in lengths]
    assert describe_length_control(margins, lengths=lengths, prompt_ids=ids(300))["balanced"]["accuracy"] == 0.5


def test_one_side_alone_has_no_balance() -> None:
    assert describe_length_control([1.0], lengths=[(3, 1)], prompt_ids=["a"])["balanced"] is None


def test_a_model_that_learned_length_alone_does_not_count_and_a_true_one_does() -> None:
    """Judgements follow quality and length. The true margin keeps its slope of 1 beside length; a margin that is
    length with noise has none."""
    generator = np.random.default_rng(3)
    n = 4000
    quality, length = generator.normal(size=n), generator.normal(size=n) * 100
    logits = quality + 1.5 * np.tanh(length / 100)
    sign = np.where(generator.random(n) < sigmoid(logits), 1, -1)
    lengths = [(round(1000 + d), 1000) for d in length * sign]
    true = describe_length_control(quality * sign, lengths=lengths, prompt_ids=ids(n))["regression"]
    assert true["margin_counts"]
    assert true["margin_interval"][0] < 1 < true["margin_interval"][1]
    assert true["length"] == pytest.approx(1.5, abs=0.2)
    noise = np.tanh(length / 100) + generator.normal(size=n)
    copied = describe_length_control(noise * sign, lengths=lengths, prompt_ids=ids(n))["regression"]
    assert not copied["margin_counts"]
    assert abs(copied["margin"]) < 0.1


def test_equal_lengths_leave_the_margin_alone() -> None:
    found = describe_length_control([1.0, -1.0, 2.0], lengths=[(4, 4)] * 3, prompt_ids=ids(3))["regression"]
    assert (found["length"], found["length_interval"]) == (None, None)
    assert found["margin"] > 0


def test_equal_scores_have_no_regression() -> None:
    assert describe_length_control([0.0, 0.0], lengths=[(4, 1), (1, 4)], prompt_ids=ids(2))["regression"] is None


def test_lengths_are_squashed_by_their_standard_deviation() -> None:
    """-2 and 2 have standard deviation 2: tanh(+-1)."""
    assert squash_lengths(np.asarray([-2.0, 2.0])) == pytest.approx([-math.tanh(1), math.tanh(1)])


def test_a_win_rate_bought_by_length_is_one_half_at_equal_lengths() -> None:
    """P(win) = sigmoid(2 tanh(d / sd)) with d around +sd: the raw rate is far above 1/2, the controlled one is not."""
    generator = np.random.default_rng(5)
    n = 4000
    differences = generator.normal(100, 100, n)
    wins = (generator.random(n) < sigmoid(2 * np.tanh(differences / differences.std()))).astype(float)
    found = control_win_rate(wins, differences=differences, prompt_ids=ids(n), weights=np.ones(n), draws=100)
    assert wins.mean() > 0.7
    assert found["interval"][0] < 0.5 < found["interval"][1]
    assert found["length"] == pytest.approx(2, abs=0.3)


def test_without_a_difference_in_length_the_controlled_rate_is_the_plain_one() -> None:
    """3 wins of 4, 100 times: 0.75 (the prior moves it by < 1e-3)."""
    wins = np.asarray([1.0, 1.0, 1.0, 0.0] * 100)
    found = control_win_rate(wins, differences=np.zeros(400), prompt_ids=ids(400), weights=np.ones(400), draws=50)
    assert found["win_rate"] == pytest.approx(0.75, abs=1e-3)
