"""Elo: one update by hand, and what random orders take out."""

from __future__ import annotations

import numpy as np
import pytest

from annotation.statistics.elo import elo


def simulate(rows: int, *, seed: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Five items, each 100 points above the one before."""
    rng = np.random.default_rng(seed)
    left = rng.integers(0, 5, rows)
    right = (left + rng.integers(1, 5, rows)) % 5
    chance = 1 / (1 + 10 ** ((right - left) * 100 / 400))
    return left, right, (rng.random(rows) < chance).astype(float)


def test_two_updates_by_hand():
    """Equals meet: E = 1/2, a gains 16. Then a, 32 points up, ties with b: E = 1 / (1 + 10^(-32/400)) = 0.5459."""
    found = elo(["a", "a"], right=["b", "b"], outcomes=[1, 0.5], k=32)
    assert found.items == ("a", "b")
    assert found.online == pytest.approx([1016 - 32 * 0.0459, 984 + 32 * 0.0459], abs=0.01)
    assert found.comparisons.tolist() == [2, 2]


def test_ratings_sum_to_where_they_started():
    left, right, outcomes = simulate(500, seed=0)
    found = elo(left, right=right, outcomes=outcomes, start=1500)
    assert found.ratings.sum() == pytest.approx(5 * 1500)
    assert found.online.sum() == pytest.approx(5 * 1500)


def test_the_mean_over_orders_does_not_depend_on_the_order_given():
    left, right, outcomes = simulate(400, seed=1)
    found = elo(left, right=right, outcomes=outcomes, orders=400)
    back = elo(left[::-1], right=right[::-1], outcomes=outcomes[::-1], orders=400, seed=1)
    error = found.spread.max() * np.sqrt(2 / 400)
    assert np.abs(found.ratings - back.ratings).max() < 5 * error
    assert np.abs(found.online - back.online).max() > 5 * error


def test_differences_are_those_of_the_model_that_made_the_data():
    left, right, outcomes = simulate(20_000, seed=2)
    found = elo(left, right=right, outcomes=outcomes, orders=10)
    assert np.diff(found.ratings) == pytest.approx([100] * 4, abs=25)


def test_the_seed_decides_and_few_orders_at_once_change_nothing(monkeypatch):
    left, right, outcomes = simulate(300, seed=3)
    one, same, other = (elo(left, right=right, outcomes=outcomes, seed=seed) for seed in (4, 4, 5))
    assert one.ratings.tolist() == same.ratings.tolist() != other.ratings.tolist()
    monkeypatch.setattr("annotation.statistics.elo.ORDERS_AT_ONCE", 900)
    assert elo(left, right=right, outcomes=outcomes, seed=4).ratings == pytest.approx(one.ratings)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"left": [], "right": [], "outcomes": []}, "no comparisons"),
        ({"left": ["a"], "right": ["a"], "outcomes": [1]}, "with itself"),
        ({"left": ["a"], "right": ["b"], "outcomes": [3]}, "An outcome must be"),
        ({"left": ["a"], "right": ["b"], "outcomes": [1], "k": 0}, "must be positive"),
        ({"left": ["a"], "right": ["b"], "outcomes": [1], "orders": 0}, "an order at least"),
    ],
)
def test_bad_input_is_refused_with_a_reason(arguments, said):
    with pytest.raises(ValueError, match=said):
        elo(arguments.pop("left"), **arguments)
