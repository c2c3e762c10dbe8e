"""Pairs of tables of ranks, against the rule for one ranking."""

from __future__ import annotations

import numpy as np
import pytest

from annotation.statistics.comparisons import derive_comparisons, tiers_of
from annotation.statistics.pairs import pairs_of_tiers


def test_a_ranking_of_three_with_a_tie():
    pairs = pairs_of_tiers([[2, 1, 2]])
    assert pairs.left.tolist() == [0, 0, 1]
    assert pairs.right.tolist() == [1, 2, 2]
    assert pairs.outcomes.tolist() == [0, 0.5, 1]
    assert pairs.ranking.tolist() == [0, 0, 0]


@pytest.mark.parametrize("task", ["ranking", "best"])
def test_the_rule_of_a_single_ranking_holds_for_many(task):
    rng = np.random.default_rng(0)
    ranks = (
        rng.integers(1, 4, (60, 4))
        if task == "ranking"
        else np.where(np.arange(4) == rng.integers(0, 4, (60, 1)), 1, 2)
    )
    items = np.argsort(rng.random((60, 9)), axis=1)[:, :4]
    pairs = pairs_of_tiers(ranks, items=items, equal_is_tie=task == "ranking")
    assert (np.diff(pairs.ranking) >= 0).all()
    for number, row in enumerate(ranks):
        derived = derive_comparisons(
            [[int(items[number, k]) for k in tier] for tier in tiers_of(row.tolist())], task=task
        )
        here = pairs.ranking == number
        rows = list(zip(pairs.left[here], pairs.right[here], pairs.outcomes[here], strict=True))
        strict = {(int(a), int(b)) if outcome == 1 else (int(b), int(a)) for a, b, outcome in rows if outcome != 0.5}
        assert strict == set(derived.strict)
        assert {frozenset((int(a), int(b))) for a, b, outcome in rows if outcome == 0.5} == {
            frozenset(pair) for pair in derived.tied
        }


def test_places_without_an_item_give_no_pair():
    assert pairs_of_tiers([[1, 0, 2], [0, 0, 1]]).left.tolist() == [0]


def test_a_table_without_rankings_gives_no_pairs():
    assert len(pairs_of_tiers(np.empty((0, 4), dtype=int)).left) == 0


@pytest.mark.parametrize("ranks", [[1, 2], [[1.5, 2]], [[-1, 2]]])
def test_unreadable_ranks(ranks):
    with pytest.raises(ValueError, match="Ranks must be"):
        pairs_of_tiers(ranks)


def test_items_of_another_shape():
    with pytest.raises(ValueError, match="shape of the ranks"):
        pairs_of_tiers([[1, 2]], items=[[1, 2, 3]])
