"""Rankings as agreement data: which pairs count, in which direction, and what is missing."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from annotation.statistics.agreement import krippendorff_alpha, percent_agreement
from annotation.statistics.comparisons import derive_comparisons, pairwise_agreement, tiers_of
from annotation.statistics.rankings import exchange, judged_pairs, mid_ranks, preference_data, rank_data

NAN = math.nan


def data_of(tiers, *, responses=None, slates=None, annotators=None, undistinguished=None):
    tiers = np.asarray(tiers)
    return {
        "tiers": tiers,
        "undistinguished": np.asarray(undistinguished or [False] * len(tiers), dtype=bool),
        "responses": np.asarray(responses if responses is not None else [list(range(tiers.shape[1]))] * len(tiers)),
        "slates": np.asarray(slates or [1] * len(tiers)),
        "annotators": np.asarray(annotators or range(len(tiers))),
    }


def preferences(**arguments):
    return preference_data(arguments.pop("tiers"), **arguments)


def values_of(data):
    """{(unit, rater): value}."""
    triples = data.given
    values = data.values[triples.value].tolist()
    return dict(zip(zip(triples.unit.tolist(), triples.rater.tolist(), strict=True), values, strict=True))


def test_who_was_preferred_by_pair_and_annotator():
    """A over B = C; and C over B over A. Units AB, AC, BC."""
    data = preferences(**data_of([[1, 2, 2], [3, 2, 1]]))
    assert values_of(data) == {
        (0, 0): 1, (1, 0): 1, (2, 0): 0,
        (0, 1): -1, (1, 1): -1, (2, 1): -1,
    }  # fmt: skip
    assert data.clusters.tolist() == [0, 0, 0]


def test_what_was_not_told_apart_or_not_placed_is_missing():
    data = preferences(**data_of([[1, 2, 2], [1, 2, 0]], undistinguished=[True, False]))
    assert values_of(data) == {(0, 0): 1, (1, 0): 1, (0, 1): 1}


def test_a_pair_is_the_same_unit_wherever_it_stands_in_the_row():
    """The second annotator's row lists response 7 first, since response 5 was not placed and not shown."""
    one = preferences(**data_of([[1, 2, 3], [2, 1, 0]], responses=[[5, 7, 9], [7, 9, -1]]))
    assert values_of(one) == {(0, 0): 1, (1, 0): 1, (2, 0): 1, (2, 1): -1}
    turned = preferences(**data_of([[1, 2], [2, 1]], responses=[[5, 7], [7, 5]]))
    assert values_of(turned) == {(0, 0): 1, (0, 1): 1}


def test_slates_are_apart():
    data = preferences(**data_of([[1, 2], [1, 2]], slates=[4, 9]))
    assert data.n_units == 2
    assert data.clusters.tolist() == [0, 1]


def test_nothing_compared_gives_no_data():
    assert preferences(**data_of([[0, 0], [1, 0]])) is None
    empty = data_of(np.empty((0, 0), dtype=int), responses=np.empty((0, 0), dtype=int))
    assert preferences(**empty) is None
    assert rank_data(empty.pop("tiers"), **empty) is None


tier_tables = st.lists(st.lists(st.integers(1, 3), min_size=4, max_size=4), min_size=2, max_size=6)


@settings(deadline=None, max_examples=60)
@given(tables=st.lists(tier_tables, min_size=1, max_size=4), best_only=st.booleans())
def test_percent_agreement_is_that_of_the_project_page(tables, best_only):
    task = "best" if best_only else "ranking"
    rows = [[1 if tier == 1 else 2 for tier in row] if best_only else row for table in tables for row in table]
    slates = [number for number, table in enumerate(tables) for _row in table]
    agreeing = compared = 0
    for number in range(len(tables)):
        judged = [tiers_of(row) for row, slate in zip(rows, slates, strict=True) if slate == number]
        agree, total = pairwise_agreement(judged, tasks=[task] * len(judged))
        agreeing, compared = agreeing + agree, compared + total
    data = preferences(**data_of(rows, slates=slates, undistinguished=[best_only] * len(rows)))
    if data is None:
        assert compared == 0
    else:
        share = percent_agreement(data, resamples=0).value
        assert share == pytest.approx(agreeing / compared if compared else NAN, nan_ok=True)


@settings(deadline=None, max_examples=60)
@given(rows=tier_tables, best_only=st.booleans())
def test_pairs_follow_the_rule_for_one_ranking(rows, best_only):
    pairs = judged_pairs(np.array(rows), undistinguished=np.full(len(rows), best_only))
    for number, row in enumerate(rows):
        derived = derive_comparisons(tiers_of(row), task="best" if best_only else "ranking")
        here = pairs.ranking == number
        assert int((pairs.outcomes[here] == 0.5).sum()) == len(derived.tied)
        assert int((pairs.outcomes[here] != 0.5).sum()) == len(derived.strict)


def test_mid_ranks_by_hand():
    found = mid_ranks(np.array([[1, 2, 2, 3], [5, 0, 5, 1]]))
    assert found.tolist()[0] == [1, 2.5, 2.5, 4]
    assert [rank for rank in found[1] if not math.isnan(rank)] == [2.5, 2.5, 1]


def test_ranks_are_values_and_choices_of_the_best_give_none():
    arguments = data_of([[1, 2, 2], [3, 1, 2], [1, 2, 2]], undistinguished=[False, False, True])
    data = rank_data(arguments.pop("tiers"), **arguments)
    assert values_of(data) == {(0, 0): 1, (1, 0): 2.5, (2, 0): 2.5, (0, 1): 3, (1, 1): 1, (2, 1): 2}


def test_alpha_of_exchanged_pairs_does_not_depend_on_who_is_listed_first():
    """All prefer the first listed but for a few: nominal α is about 0, though 90 % of judgements are the same."""
    rng = np.random.default_rng(0)
    first_wins = rng.random((500, 2)) < 0.95
    tiers = np.where(first_wins.reshape(-1)[:, None], [1, 2], [2, 1])
    listed = {"slates": np.repeat(np.arange(500), 2).tolist(), "annotators": [0, 1] * 500}
    flipped = np.where((rng.random(500) < 0.5).repeat(2)[:, None], tiers[:, ::-1], tiers)
    one, other = (preferences(**data_of(table, **listed)) for table in (tiers, flipped))
    assert krippendorff_alpha(one, resamples=0).value == pytest.approx(0, abs=0.1)
    assert krippendorff_alpha(other, resamples=0).value == pytest.approx(0.8, abs=0.05)
    same = [krippendorff_alpha(exchange(data), resamples=0).value for data in (one, other)]
    assert same[0] == pytest.approx(same[1])
    assert same[0] == pytest.approx(0.8, abs=0.05)
