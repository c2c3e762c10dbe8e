"""Stopping early: the error rate under constant looking, the power, and one case by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import norm

from annotation.statistics.stopping import (
    first_separation,
    growth_needed,
    judgements_needed,
    separate_by_counts,
    separate_by_scores,
)


def test_evidence_by_hand():
    """Six wins of six under a uniform mixture: (1 / 7) / (1 / 64) = 64 / 7 = 9.14; seven: 128 / 8 = 16; eight: 28.4."""
    assert separate_by_counts(6, losses=0).p_value == pytest.approx(7 / 64)
    assert separate_by_counts(7, losses=0).p_value == pytest.approx(1 / 16)
    assert not separate_by_counts(7, losses=0).separated
    eight = separate_by_counts(8, losses=0)
    assert (eight.separated, eight.better, eight.more) == (True, "a", 0)
    assert first_separation([1] * 10) == 8
    assert separate_by_counts(0, losses=8).better == "b"


def test_looking_after_every_judgement_errs_no_more_often_than_alpha():
    """2,000 pairs of equals, looked at after each of 2,000 judgements: at most 5 %; the usual test errs often."""
    rng = np.random.default_rng(0)
    judged = (rng.random((2000, 2000)) < 0.5).astype(float)
    erred = np.mean([first_separation(row) is not None for row in judged])
    assert erred < 0.05
    wins, n = judged.cumsum(axis=1), np.arange(1, 2001)
    looked = np.abs(wins - n / 2) / np.sqrt(n / 4) > norm.ppf(0.975)
    assert looked.any(axis=1).mean() > 0.3


def test_looking_at_scores_after_every_judgement_errs_no_more_often_than_alpha():
    """Log-odds with their standard error, from the 40th judgement on."""
    rng = np.random.default_rng(1)
    erred = 0
    for _pair in range(500):
        wins = np.cumsum(rng.random(800) < 0.5)
        for n in range(40, 801, 5):
            won, lost = int(wins[n - 1]), n - int(wins[n - 1])
            if separate_by_scores(math.log(won / lost), standard_error=math.sqrt(1 / won + 1 / lost)).separated:
                erred += 1
                break
    assert erred / 500 < 0.05


def test_a_difference_is_found_about_when_it_was_foretold():
    """A wins 60 %: all of 300 pairs are separated, the median within half of `judgements_needed`."""
    rng = np.random.default_rng(2)
    found = [first_separation((rng.random(3000) < 0.6).astype(float)) for _pair in range(300)]
    assert all(found)
    assert 0.5 < np.median([n for n in found if n]) / judgements_needed(0.6) < 1.5


def test_the_interval_covers_at_all_times():
    rng = np.random.default_rng(3)
    missed = 0
    for _pair in range(200):
        wins = np.cumsum(rng.random(300) < 0.7)
        bounds = [separate_by_counts(int(wins[n]), losses=n + 1 - int(wins[n])).interval for n in range(0, 300, 10)]
        missed += not all(low <= 0.7 <= high for low, high in bounds)
    assert missed / 200 <= 0.05


@pytest.mark.parametrize(("wins", "losses"), [(0, 0), (3, 0), (40, 60), (61, 39), (500, 400)])
def test_separated_is_where_the_interval_leaves_out_a_half(wins, losses):
    found = separate_by_counts(wins, losses=losses)
    low, high = found.interval
    assert low <= wins / max(wins + losses, 1) <= high or (wins, losses) == (0, 0)
    assert found.separated == (not low <= 0.5 <= high) == (found.p_value <= 0.05)
    turned = separate_by_counts(losses, losses=wins)
    assert turned.interval == pytest.approx((1 - high, 1 - low), abs=1e-9)


def test_scores_separated_are_where_the_interval_leaves_out_zero():
    for difference in np.linspace(-1, 1, 21):
        found = separate_by_scores(difference, standard_error=0.1)
        low, high = found.interval
        assert found.separated == (not low <= 0 <= high) == (found.p_value <= 0.05)
        assert found.better == (None if not found.separated else "a" if difference > 0 else "b")


def test_so_many_times_the_judgements_are_just_enough():
    """With g times as many judgements the error is 1 / √g of what it is; just below that the two are not separated."""
    differences, errors = np.array([0.2, 0.2, 1.0, 0.0, np.nan]), np.array([0.1, 0.15, 0.1, 0.1, 0.1])
    found = growth_needed(differences, standard_errors=errors, pairs=3)
    for difference, error, growth in zip(differences[:2], errors[:2], found[:2], strict=True):
        for factor, separated in ((1.001, True), (0.999, False)):
            shrunk = error / math.sqrt(growth * factor)
            assert separate_by_scores(difference, standard_error=shrunk, pairs=3).separated == separated
    assert found[1] / found[0] == pytest.approx(1.5**2)
    assert found[2] == 1
    assert np.isnan(found[3:]).all()


def test_many_pairs_share_the_level():
    assert separate_by_counts(8, losses=0).separated
    one_of_ten = separate_by_counts(8, losses=0, pairs=10)
    assert not one_of_ten.separated
    assert one_of_ten.p_value == pytest.approx(10 * 9 / 256)
    assert judgements_needed(0.6, pairs=10) > judgements_needed(0.6)


def test_how_many_more_counts_ties_as_they_come():
    """A third of the judgements are ties: half as many again must be asked for."""
    plain = separate_by_counts(30, losses=20).more
    tied = separate_by_counts(30, losses=20, ties=25).more
    assert plain == judgements_needed(0.6) - 50
    assert tied == math.ceil(plain * 1.5)
    assert separate_by_counts(20, losses=20).more is None
    assert judgements_needed(0.5) is None


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: separate_by_counts(-1, losses=0), "must not be negative"),
        (lambda: separate_by_counts(1, losses=0, alpha=5), "between 0 and 1"),
        (lambda: separate_by_counts(1, losses=0, pairs=0), "by a pair at least"),
        (lambda: separate_by_counts(1, losses=0, prior=0), "prior must be positive"),
        (lambda: separate_by_scores(1, standard_error=0), "must be positive"),
        (lambda: separate_by_scores(math.nan, standard_error=1), "finite"),
        (lambda: judgements_needed(1.2), "share must lie"),
        (lambda: first_separation([0.2]), "An outcome must be"),
    ],
)
def test_bad_input_is_refused_with_a_reason(call, said):
    with pytest.raises(ValueError, match=said):
        call()
