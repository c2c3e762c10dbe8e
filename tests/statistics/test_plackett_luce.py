"""Plackett–Luce fits, against published figures, the R package, closed forms, and what must not change them."""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_allclose

from annotation.statistics import plackett_luce
from annotation.statistics.fits import Fit

NASCAR = os.environ.get("NASCAR_2002", "")
LOSERS = {83, 84, 85, 86}
"""Drivers 84 to 87 finished last in every race they were in."""


def draw(n: int, *, rows: int, of: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Scores of n items, and rankings of some of them."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n)
    shown = np.argsort(rng.random((rows, n)), axis=1)[:, :of]
    order = np.argsort(-(scores[shown] + rng.gumbel(size=shown.shape)), axis=1)
    return scores - scores.mean(), np.take_along_axis(shown, order, axis=1)


def tie_some(table: np.ndarray, *, seed: int, share: float = 0.2) -> np.ndarray:
    tied = np.random.default_rng(seed).random(table.shape) < share
    tied[:, 0] = False
    return tied


def log_likelihood(tiers: list[list[int]], *, worths: np.ndarray, delta: dict[int, float]) -> float:
    """Davidson–Luce, from its definition: sums over all subsets of what is left, of every size that has a delta."""
    total, left = 0.0, [item for tier in tiers for item in tier]

    def f(chosen: tuple[int, ...] | list[int]) -> float:
        return delta[len(chosen)] * math.prod(worths[item] for item in chosen) ** (1 / len(chosen))

    for tier in tiers:
        ways = (subset for size in delta if size <= len(left) for subset in itertools.combinations(left, size))
        total += math.log(f(tier) / sum(f(subset) for subset in ways))
        left = [item for item in left if item not in tier]
    return total


def tiers_of(row: np.ndarray, *, tied: np.ndarray) -> list[list[int]]:
    tiers: list[list[int]] = []
    for item, with_last in zip(row.tolist(), tied.tolist(), strict=True):
        if with_last:
            tiers[-1].append(item)
        else:
            tiers.append([item])
    return tiers


class TestPublished:
    @pytest.mark.skipif(not NASCAR, reason="NASCAR_2002 names no file of 36 lines of driver numbers, 1 to 87")
    def test_hunters_races(self):
        """Hunter (2004, table 2) as the vignette of R's PlackettLuce reprints it: log-worths of the three best and the
        three worst drivers by average place, the first driver at 0, without the four who always came in last."""
        table = np.loadtxt(Path(NASCAR), dtype=int) - 1
        assert table.shape == (36, 43)
        fit = plackett_luce.fit(table, reference=0)
        assert [len(part) for part in fit.connectivity.members] == [83, 1, 1, 1, 1]
        assert {item for part in fit.connectivity.members[1:] for item in part} == LOSERS
        places = np.full((36, 87), np.nan)
        np.put_along_axis(places, table, np.arange(1, 44)[None, :].repeat(36, axis=0), axis=1)
        average = np.nanmean(places[:, :83], axis=0)
        best, worst = np.argsort(average, kind="stable")[:3], np.argsort(average, kind="stable")[-3:]
        assert_allclose(fit.scores[best], [4.15, 3.62, 2.08], atol=0.005)
        assert_allclose(fit.scores[worst], [0.03, -0.31, -0.15], atol=0.005)
        assert_allclose(fit.log_likelihood, -4191.0972846, atol=1e-6)

    def test_ties_of_three_and_four_as_in_r(self):
        """The rankings of PlackettLuce's own tests (test-ties.R), npseudo = 0; figures of R's package, 9 digits."""
        apple, banana, orange, pear = "apple", "banana", "orange", "pear"
        rankings = [
            [apple, banana], [banana, orange, pear, apple], [[banana, orange, pear], apple], [apple, banana, orange],
            [banana, apple, orange], [apple, pear, orange], [[apple, banana, orange, pear]],
        ]  # fmt: skip
        fit = plackett_luce.fit(rankings, covariance="model")
        assert_allclose(fit.scores, [0.316410880, 0.768377655, -1.083087797, -0.001700738], atol=2e-7)
        assert_allclose(fit.standard_errors, [0.57081687, 0.72888229, 0.78721309, 0.73894086], atol=5e-8)
        assert [effect.name for effect in fit.effects] == ["tie of 3", "tie of 4"]
        assert_allclose([effect.value for effect in fit.effects], [-0.782398648, 1.215584863], atol=2e-7)
        assert_allclose([effect.standard_error for effect in fit.effects], [1.14269813, 1.28799287], atol=5e-7)
        assert_allclose(fit.log_likelihood, -13.1634355476, atol=1e-9)


class TestClosedForms:
    def test_six_orders_of_three(self):
        """Every order once: all worths are equal; the log likelihood is -6 log 6. A single ranking has
        scores (2/3, 1/6, -5/6) at a first, b second, c third."""
        fit = plackett_luce.fit([list(order) for order in itertools.permutations("abc")])
        assert_allclose(fit.scores, 0, atol=1e-12)
        assert_allclose(fit.log_likelihood, -6 * math.log(6))

    def test_two_of_three_and_one_turned(self):
        """a > b three times, b > a once: log 3, whatever else is not compared with them."""
        fit = plackett_luce.fit([["a", "b"]] * 3 + [["b", "a"]])
        assert_allclose(fit.differences[0, 1], math.log(3), rtol=1e-9)
        assert_allclose(fit.difference_errors[0, 1], 4 / 3, rtol=1e-9)

    def test_the_best_of_three_says_nothing_of_the_others(self):
        """a chosen 6 times, b 3, c 1: worths 6 : 3 : 1, and no order of the two that are left."""
        rows = [["a", "b", "c"]] * 6 + [["b", "a", "c"]] * 3 + [["c", "a", "b"]]
        fit = plackett_luce.fit(rows, ranked=[1] * 10)
        assert_allclose(np.exp(fit.differences[:, 2]), [6, 3, 1], rtol=1e-8)
        assert_allclose(fit.log_likelihood, 6 * math.log(0.6) + 3 * math.log(0.3) + math.log(0.1))


class TestMaximum:
    def test_the_gradient_is_zero_and_the_covariance_the_inverse_of_the_second_derivatives(self):
        """Against the definition, with ties of two, rankings of two to four, some of them ranked in part."""
        _truth, table = draw(5, rows=60, of=4, seed=1)
        tied = tie_some(table, seed=2) & (np.arange(4) < 2)
        table[:20, 3], table[:10, 2] = -1, -1
        ranked = np.where(np.arange(60) % 3 == 0, 2, 4)
        weights = np.random.default_rng(3).uniform(0.5, 2, 60)
        fit = plackett_luce.fit(table, tied=tied, ranked=ranked, weights=weights, covariance="model")
        rows = [tiers_of(row[row >= 0], tied=tie[row >= 0]) for row, tie in zip(table, tied, strict=True)]

        def value(point: np.ndarray) -> float:
            total = 0.0
            for tiers, count, weight in zip(rows, ranked, weights, strict=True):
                whole = log_likelihood(tiers, worths=np.exp(point[:5]), delta={1: 1.0, 2: math.exp(point[5])})
                placed = list(itertools.accumulate(map(len, tiers)))
                rest = [tier for tier, end in zip(tiers, placed, strict=True) if end > count]
                if rest:
                    whole -= log_likelihood(rest, worths=np.exp(point[:5]), delta={1: 1.0, 2: math.exp(point[5])})
                total += weight * whole
            return total

        point = np.append(fit.scores, fit.effect("tie").value)
        steps = np.eye(6) * 1e-3
        gradient = [(value(point + step) - value(point - step)) / 2e-3 for step in steps]
        assert_allclose(gradient, 0, atol=1e-4)
        assert_allclose(fit.log_likelihood, value(point), rtol=1e-10)
        second = np.array(
            [
                [
                    value(point + a + b) - value(point + a - b) - value(point - a + b) + value(point - a - b)
                    for a in steps
                ]
                for b in steps
            ]
        )
        inverse = np.linalg.pinv(-second / 4e-6, rcond=1e-5)
        assert_allclose(fit.covariance, inverse[:5, :5], atol=2e-6)
        assert_allclose(fit.effect("tie").standard_error ** 2, inverse[5, 5], rtol=1e-4)

    @pytest.mark.parametrize("has_ties", [False, True])
    def test_order_names_and_form_do_not_matter(self, has_ties):
        _truth, table = draw(6, rows=300, of=4, seed=4)
        tied = tie_some(table, seed=5) if has_ties else np.zeros(table.shape, dtype=bool)
        fit = plackett_luce.fit(table, tied=tied)
        shuffled = np.random.default_rng(0).permutation(len(table))
        names = np.array(list("fedcba"))
        wide = np.pad(table, ((0, 0), (0, 2)), constant_values=-1)
        lists = [
            [[str(names[item]) for item in tier] for tier in tiers_of(row, tied=tie)]
            for row, tie in zip(table, tied, strict=True)
        ]
        backwards = [[tier[::-1] for tier in tiers] for tiers in lists]
        others = [
            plackett_luce.fit(table[shuffled], tied=tied[shuffled]),
            plackett_luce.fit(wide, tied=np.pad(tied, ((0, 0), (0, 2)))),
            plackett_luce.fit(table, tied=tied, weights=np.ones(300)),
            plackett_luce.fit(table, tied=tied, clusters=np.arange(300)),
            plackett_luce.fit(table.astype(np.int8), tied=tied, ranked=np.full(300, 4)),
            plackett_luce.fit(table * 10**6, tied=tied),
        ]
        for other in others:
            assert_allclose(other.scores, fit.scores, atol=1e-8)
            assert_allclose(other.covariance, fit.covariance * cluster_factor(other, fit), atol=1e-8)
        for named in (plackett_luce.fit(lists), plackett_luce.fit(backwards)):
            assert named.items == tuple("abcdef")
            assert_allclose(named.scores[::-1], fit.scores, atol=1e-8)

    @pytest.mark.parametrize("has_ties", [False, True])
    def test_a_weight_of_three_is_three_rankings(self, has_ties):
        _truth, table = draw(5, rows=80, of=3, seed=6)
        tied = tie_some(table, seed=7) if has_ties else np.zeros(table.shape, dtype=bool)
        times, cluster = np.random.default_rng(8).integers(1, 4, 80), np.arange(80)
        weighted = plackett_luce.fit(table, tied=tied, weights=times, clusters=cluster)
        many = [np.repeat(part, times, axis=0) for part in (table, tied, cluster)]
        repeated = plackett_luce.fit(many[0], tied=many[1], clusters=many[2])
        assert_allclose(weighted.scores, repeated.scores, atol=1e-9)
        assert_allclose(weighted.covariance, repeated.covariance, atol=1e-9)

    def test_bootstrap_samples_spread_as_the_sandwich_says(self):
        _truth, table = draw(5, rows=500, of=3, seed=9)
        tied = tie_some(table, seed=10)
        for extra in ({}, {"tied": tied}, {"clusters": np.arange(500) // 4}):
            fit = plackett_luce.fit(table, bootstrap=300, **extra)
            assert_allclose(fit.samples.std(axis=0), fit.standard_errors, rtol=0.15)


class TestConnectivity:
    def test_a_loser_is_left_out_as_in_the_limit(self):
        """d is always last: nothing finite can be said of it, and the others are as without it."""
        _truth, table = draw(3, rows=40, of=3, seed=11)
        with_loser = np.concatenate([table, np.full((40, 1), 3)], axis=1)
        fit, without = plackett_luce.fit(with_loser), plackett_luce.fit(table)
        assert fit.connectivity.members == ((0, 1, 2), (3,))
        assert fit.connectivity.winless == (1,)
        assert_allclose(fit.scores[:3], without.scores, atol=1e-9)
        assert_allclose(fit.covariance[:3, :3], without.covariance, atol=1e-9)
        assert math.isnan(fit.score(3))
        heavy = plackett_luce.fit(with_loser, ridge=1e-7)
        assert_allclose(heavy.differences[:3, :3], without.differences, atol=1e-3)
        assert np.isfinite(heavy.scores).all()

    def test_two_layers_in_every_ranking_are_two_sets(self):
        """{a, b} always stand above {c, d}; within each the shares are 2 : 1, whatever the other one did."""
        rankings = [list("abcd"), list("abdc"), list("badc")]
        fit = plackett_luce.fit(rankings, ridge=0)
        assert fit.connectivity.members == (("a", "b"), ("c", "d"))
        assert fit.connectivity.above == ((0, 1),)
        assert_allclose(fit.differences[0, 1], math.log(2), rtol=1e-9)
        assert_allclose(fit.differences[3, 2], math.log(2), rtol=1e-9)
        assert math.isnan(fit.differences[0, 2])
        assert fit.clusters == 3

    def test_a_tie_joins_what_it_ties(self):
        """c beat a once and tied with it; a and b each beat the other. With more wins than ties around some circle
        there is a finite maximum."""
        fit = plackett_luce.fit([["a", "b"], ["b", "a"], ["c", "a"], [["a", "c"]]])
        assert fit.connectivity.is_connected
        assert fit.score("c") > fit.score("a")

    def test_a_win_and_a_tie_leave_the_ties_without_a_value(self):
        """Half wins and half ties are reached in the limit only, of a far better item and as many more ties."""
        with pytest.raises(ValueError, match="no finite value to 'tie'"):
            plackett_luce.fit([["a", "b"], [["a", "b"]]])
        assert plackett_luce.fit([["a", "b"], [["a", "b"]]], ridge=0.1).score("a") > 0


class TestBadInput:
    @pytest.mark.parametrize(
        ("rankings", "message"),
        [
            ([], "no rankings"),
            ([["a", "b", "a"]], "'a' stands twice"),
            (np.array([[0, 1, 0]]), "0 stands twice"),
            ([["a"]], "No ranking says anything"),
            ([["a", []]], "A tier must have an item"),
            ([["a", None]], "missing"),
            (np.array([[0.5, 1]]), "integers or lists"),
            (np.array([0, 1]), "shape"),
            (np.array([[0], [1]]), "shape"),
            (np.array([[0, -1, 1]]), "only after a ranking's last item"),
            (np.array([[0, -2]]), "only after a ranking's last item"),
        ],
    )
    def test_unreadable_rankings(self, rankings, message):
        with pytest.raises(ValueError, match=message):
            plackett_luce.fit(rankings)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"weights": [1, -1]}, "0 or more"),
            ({"weights": [math.nan, 1]}, "finite"),
            ({"weights": [0, 0]}, "Every weight is 0"),
            ({"items": ["a", "b"]}, "Unknown item 2"),
            ({"ranked": [1]}, "2 numbers"),
            ({"ranked": [1, -1]}, "0 or more"),
            ({"tied": [[True, False, False]] * 2}, "False for the first"),
            ({"tied": [[False, True]] * 2}, "shape"),
            ({"ridge": -0.1}, "ridge"),
            ({"bootstrap": -1}, "bootstrap"),
            ({"reference": 7}, "Unknown item 7"),
        ],
    )
    def test_unreadable_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            plackett_luce.fit(np.array([[0, 1, 2], [2, 1, 0]]), **options)

    def test_ties_that_can_be_chosen_in_too_many_ways(self):
        with pytest.raises(ValueError, match="too many ways"):
            plackett_luce.fit([[list(range(12)), *range(12, 30)], list(range(29, -1, -1))])

    def test_a_top_that_ends_within_a_tie(self):
        with pytest.raises(ValueError, match="within a tie"):
            plackett_luce.fit(np.array([[0, 1, 2]]), tied=[[False, True, False]], ranked=[1])


def test_clustered_intervals_cover():
    """Rankings of 4 of 8 items by annotators who differ; 95 % intervals over 300 data sets."""
    covered, truth = [], draw(8, rows=1, of=4, seed=20)[0]
    rng = np.random.default_rng(21)
    for _data_set in range(300):
        shown = np.argsort(rng.random((250, 8)), axis=1)[:, :4]
        order = np.argsort(-(truth[shown] + rng.gumbel(size=shown.shape)), axis=1)
        fit = plackett_luce.fit(np.take_along_axis(shown, order, axis=1))
        bounds = fit.intervals()
        covered.append((bounds[:, 0] <= truth) & (truth <= bounds[:, 1]))
    assert 0.93 <= np.mean(covered) <= 0.97


def cluster_factor(one: Fit, other: Fit) -> float:
    return (one.clusters / (one.clusters - 1)) / (other.clusters / (other.clusters - 1))
