"""Bradley–Terry fits, against published figures, closed forms, and what must not change them."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from numpy.testing import assert_allclose
from scipy.sparse import csr_array

from annotation.statistics import bradley_terry, plackett_luce
from annotation.statistics.fits import ELO, Fit
from annotation.statistics.pairs import pairs_of_tiers

DATA = Path(__file__).parents[2].parent / "shared" / "data"
BRANDS = 6
PUDDING = (
    # Davidson 1970, example 2: brands i and j, how often i was preferred, j was, and neither.
    (1, 2, 19, 22, 16), (1, 3, 16, 19, 12), (2, 3, 19, 19, 10), (1, 4, 18, 23, 13), (2, 4, 23, 19, 9),
    (3, 4, 19, 20, 15), (1, 5, 13, 19, 18), (2, 5, 16, 20, 12), (3, 5, 16, 15, 17), (4, 5, 17, 14, 16),
    (1, 6, 18, 21, 12), (2, 6, 22, 20, 12), (3, 6, 13, 18, 10), (4, 6, 14, 19, 18), (5, 6, 11, 21, 12),
)  # fmt: skip


def pudding_tables() -> tuple[np.ndarray, np.ndarray]:
    wins, ties = np.zeros((BRANDS, BRANDS)), np.zeros((BRANDS, BRANDS))
    for i, j, won, lost, even in PUDDING:
        wins[i - 1, j - 1], wins[j - 1, i - 1], ties[i - 1, j - 1] = won, lost, even
    return wins, ties


def draw(n: int, *, rows: int, seed: int, ties: float = 0.2) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Comparisons of n items of standard normal scores."""
    rng = np.random.default_rng(seed)
    scores = rng.normal(size=n)
    left = rng.integers(0, n, rows)
    right = (left + rng.integers(1, n, rows)) % n
    won = rng.random(rows) < 1 / (1 + np.exp(scores[right] - scores[left]))
    return left, right, np.where(rng.random(rows) < ties, 0.5, won)


def likelihood_of(fit: Fit, *, left: np.ndarray, right: np.ndarray, outcomes: np.ndarray) -> Callable:
    """The log likelihood of a fit with a position, written out row by row, as a function of scores and effects."""
    names = [effect.name for effect in fit.effects]

    def value(point: np.ndarray) -> float:
        effects = dict(zip(names, point[len(fit.items) :], strict=True))
        eta = point[left] - point[right] + effects["position"]
        if fit.ties == "half":
            p = 1 / (1 + np.exp(-eta))
            return (outcomes * np.log(p) + (1 - outcomes) * np.log(1 - p)).sum()
        if fit.ties == "davidson":
            parts = np.stack([-eta / 2, np.full(len(eta), effects["tie"]), eta / 2])
            chosen = parts[(2 * outcomes).astype(int), np.arange(len(eta))]
            return (chosen - np.log(np.exp(parts).sum(axis=0))).sum()
        win, loss = (1 / (1 + np.exp(effects["tie"] + sign * eta)) for sign in (-1, 1))
        return np.log(np.where(outcomes == 1, win, np.where(outcomes == 0, loss, 1 - win - loss))).sum()

    return value


def four_points(value: Callable, point: np.ndarray, a: np.ndarray, b: np.ndarray) -> float:
    return value(point + a + b) - value(point + a - b) - value(point - a + b) + value(point - a - b)


class TestPublished:
    def test_davidsons_puddings(self):
        """Worths and the prevalence of ties of Davidson 1970, example 2, and standard errors as the vignette of R's
        PlackettLuce prints them. Both stopped after 7 iterations, 2e-4 short of the maximum in one log-worth."""
        wins, ties = pudding_tables()
        fit = bradley_terry.fit_wins(wins, tied=ties, ties="davidson", covariance="model")
        worths = np.exp(fit.scores) / np.exp(fit.scores).sum()
        assert_allclose(worths, [0.1388, 0.1730, 0.1617, 0.1654, 0.1587, 0.2024], atol=6e-5)
        assert_allclose(math.exp(fit.effect("tie").value), 0.7468, atol=5e-5)
        assert_allclose(
            fit.standard_errors, [0.121949, 0.121818, 0.126823, 0.122003, 0.127054, 0.126594], atol=5e-7
        )  # fmt: skip
        assert_allclose(fit.effect("tie").standard_error, 0.082499, atol=5e-7)
        against_first = fit.anchored(0)
        assert_allclose(against_first.scores, [0, 0.2202, 0.1530, 0.1753, 0.1339, 0.3771], atol=2e-4)
        assert_allclose(against_first.standard_errors, [0, 0.1872, 0.1935, 0.1882, 0.1927, 0.1924], atol=5e-5)
        assert_allclose(-2 * fit.log_likelihood, 1619.4, atol=0.05)

    def test_the_puddings_do_not_differ(self):
        """Davidson finds no difference among them: every rank is possible for every brand."""
        wins, ties = pudding_tables()
        fit = bradley_terry.fit_wins(wins, tied=ties, ties="davidson")
        assert fit.rank_bands().tolist() == [[1, 6]] * 6


class TestClosedForms:
    def test_three_wins_of_four(self):
        """s_a - s_b = log 3; information n p q = 3/4 gives a variance of 4/3; the sandwich's middle is
        3 (1/4)^2 + (3/4)^2 = 3/4, so that it is the same but for N / (N - 1) = 4/3."""
        fit = bradley_terry.fit(["a"] * 4, ["b"] * 4, [1, 1, 0, 1], covariance="model")
        assert_allclose(fit.differences[0, 1], math.log(3), rtol=1e-9)
        assert_allclose(fit.difference_errors[0, 1], math.sqrt(4 / 3), rtol=1e-9)
        robust = bradley_terry.fit(["a"] * 4, ["b"] * 4, [1, 1, 0, 1])
        assert_allclose(robust.difference_errors[0, 1] ** 2, (4 / 3) ** 2, rtol=1e-9)
        assert_allclose(robust.win_probabilities(), [[0.5, 0.75], [0.25, 0.5]], rtol=1e-9)

    def test_half_a_win_for_a_tie(self):
        """5 wins, 2 losses, 3 ties: (5 + 1.5) / (2 + 1.5) are the odds."""
        fit = bradley_terry.fit([0] * 10, [1] * 10, [1] * 5 + [0] * 2 + [0.5] * 3)
        assert_allclose(fit.differences[0, 1], math.log(6.5 / 3.5), rtol=1e-9)

    def test_davidson_of_two(self):
        """worth ratio w / l and nu = t / sqrt(w l) reproduce the three shares exactly."""
        fit = bradley_terry.fit([0] * 10, [1] * 10, [1] * 5 + [0] * 2 + [0.5] * 3, ties="davidson")
        assert_allclose(fit.differences[0, 1], math.log(5 / 2), rtol=1e-9)
        assert_allclose(math.exp(fit.effect("tie").value), 3 / math.sqrt(10), rtol=1e-9)
        win, tie = fit.outcome_probabilities()
        assert_allclose([win[0, 1], win[1, 0], tie[0, 1]], [0.5, 0.2, 0.3], rtol=1e-9)

    def test_rao_kupper_of_two(self):
        """theta e^-d = (n - w) / w and theta e^d = (n - l) / l."""
        fit = bradley_terry.fit([0] * 10, [1] * 10, [1] * 5 + [0] * 2 + [0.5] * 3, ties="rao-kupper")
        assert_allclose(math.exp(2 * fit.effect("tie").value), (5 / 5) * (8 / 2), rtol=1e-9)
        assert_allclose(fit.differences[0, 1], math.log((8 / 2) / (5 / 5)) / 2, rtol=1e-9)
        win, tie = fit.outcome_probabilities()
        assert_allclose([win[0, 1], win[1, 0], tie[0, 1]], [0.5, 0.2, 0.3], rtol=1e-9)

    def test_what_the_first_position_is_worth(self):
        """a first: 8 of 10; b first: 4 of 10. d + h = logit 0.8, -d + h = logit 0.4."""
        left, right = ["a"] * 10 + ["b"] * 10, ["b"] * 10 + ["a"] * 10
        fit = bradley_terry.fit(left, right, [1] * 8 + [0] * 2 + [1] * 4 + [0] * 6, position=True)
        assert_allclose(fit.effect("position").value, (math.log(4) + math.log(2 / 3)) / 2, rtol=1e-9)
        assert_allclose(fit.differences[0, 1], (math.log(4) - math.log(2 / 3)) / 2, rtol=1e-9)

    def test_a_soft_label_is_a_share_of_a_win(self):
        fit = bradley_terry.fit(["a", "a"], ["b", "b"], [0.9, 0.6])
        assert_allclose(fit.win_probabilities()[0, 1], 0.75, rtol=1e-9)

    def test_a_ridge_pulls_a_single_win_to_a_finite_score(self):
        """With s_a = -s_b = x the gradient is 1 - p - ridge x = 0: at ridge 0.5, x solves 1 / (1 + e^2x) = x / 2."""
        fit = bradley_terry.fit(["a"], ["b"], ridge=0.5)
        x = fit.score("a")
        assert_allclose(1 / (1 + math.exp(2 * x)), x / 2, rtol=1e-8)
        assert_allclose(fit.score("b"), -x)
        assert fit.comparable.all()

    def test_points_of_the_familiar_scale(self):
        """Odds of 10 are 400 points."""
        fit = bradley_terry.fit([0] * 11, [1] * 11, [1] * 10 + [0])
        ratings = fit.ratings(centre=1500)
        assert_allclose(ratings.ratings, [1700, 1300])
        assert_allclose(ratings.upper - ratings.ratings, 1.959964 * ELO * fit.standard_errors, rtol=1e-6)


@pytest.mark.parametrize("ties", ["half", "davidson", "rao-kupper"])
class TestMaximum:
    def test_the_gradient_is_zero_at_the_fit(self, ties):
        """Central differences of the likelihood, written out, at the fitted parameters."""
        left, right, outcomes = draw(5, rows=400, seed=1)
        fit = bradley_terry.fit(left, right, outcomes, ties=ties, position=True)
        point = np.concatenate([fit.scores, [effect.value for effect in fit.effects]])
        value = likelihood_of(fit, left=left, right=right, outcomes=outcomes)
        steps = np.eye(len(point)) * 1e-5
        gradient = [(value(point + step) - value(point - step)) / 2e-5 for step in steps]
        assert_allclose(gradient, 0, atol=2e-5)
        assert_allclose(fit.log_likelihood, value(point), rtol=1e-10)

    def test_the_model_covariance_is_the_inverse_of_minus_the_second_derivatives(self, ties):
        """Second differences of the likelihood, written out, and the pseudo-inverse: that is what mean 0 leaves."""
        left, right, outcomes = draw(4, rows=500, seed=2)
        fit = bradley_terry.fit(left, right, outcomes, ties=ties, position=True, covariance="model")
        point = np.concatenate([fit.scores, [effect.value for effect in fit.effects]])
        value = likelihood_of(fit, left=left, right=right, outcomes=outcomes)
        steps = np.eye(len(point)) * 1e-3
        second = np.array([[four_points(value, point, a, b) for a in steps] for b in steps]) / 4e-6
        inverse = np.linalg.pinv(-second, rcond=1e-5)
        assert_allclose(fit.covariance, inverse[:4, :4], atol=1e-6)
        errors = [effect.standard_error for effect in fit.effects]
        assert_allclose(errors, np.sqrt(np.diag(inverse)[4:]), rtol=1e-4)

    def test_order_names_and_sides_do_not_matter(self, ties):
        left, right, outcomes = draw(6, rows=500, seed=3)
        fit = bradley_terry.fit(left, right, outcomes, ties=ties)
        shuffled = np.random.default_rng(0).permutation(len(left))
        again = bradley_terry.fit(left[shuffled], right[shuffled], outcomes[shuffled], ties=ties)
        assert_allclose(again.scores, fit.scores, atol=1e-9)
        turned = bradley_terry.fit(right, left, 1 - outcomes, ties=ties)
        assert_allclose(turned.scores, fit.scores, atol=1e-9)
        assert_allclose(turned.covariance, fit.covariance, atol=1e-9)
        renamed = np.array(["f", "e", "d", "c", "b", "a"])
        named = bradley_terry.fit(renamed[left].tolist(), renamed[right].tolist(), outcomes, ties=ties)
        assert named.items == ("a", "b", "c", "d", "e", "f")
        assert_allclose(named.scores[::-1], fit.scores, atol=1e-9)

    def test_a_weight_of_three_is_three_rows(self, ties):
        """The scores agree; so do the errors once the copies share a cluster."""
        left, right, outcomes = draw(4, rows=120, seed=4)
        times = np.random.default_rng(5).integers(0, 4, len(left))
        cluster = np.arange(len(left))
        weighted = bradley_terry.fit(left, right, outcomes, weights=times, ties=ties, clusters=cluster)
        many = [np.repeat(part, times) for part in (left, right, outcomes, cluster)]
        repeated = bradley_terry.fit(*many[:3], ties=ties, clusters=many[3])
        assert_allclose(weighted.scores, repeated.scores, atol=1e-9)
        present = len(np.unique(many[3]))
        small = (len(left) / (len(left) - 1)) / (present / (present - 1))
        assert_allclose(weighted.covariance, repeated.covariance * small, atol=1e-9)

    def test_the_same_from_tables_strings_columns_and_rows(self, ties):
        left, right, outcomes = draw(7, rows=900, seed=6)
        fit = bradley_terry.fit(left, right, outcomes, ties=ties)
        wins, even = np.zeros((7, 7)), np.zeros((7, 7))
        np.add.at(wins, (left, right), outcomes == 1)
        np.add.at(wins, (right, left), outcomes == 0)
        np.add.at(even, (left, right), outcomes == 0.5)
        names = [f"model {k}" for k in range(7)]
        text = [[names[k] for k in side] for side in (left, right)]
        words = [{1.0: "model_a", 0.0: "model_b", 0.5: "tie"}[outcome] for outcome in outcomes]
        labels = {"model_a": 1, "model_b": 0, "tie": 0.5, "tie (bothbad)": 0.5}
        others = [
            bradley_terry.fit_wins(wins, tied=even, ties=ties),
            bradley_terry.fit_wins(csr_array(wins), tied=csr_array(even), ties=ties),
            bradley_terry.fit(*text, words, labels=labels, ties=ties),
            bradley_terry.fit(*(pa.array(side) for side in text), pa.array(words), labels=labels, ties=ties),
            bradley_terry.fit(*(pa.array(side).dictionary_encode() for side in text), outcomes, ties=ties),
            bradley_terry.fit(*(np.array(side, dtype=object) for side in text), outcomes, ties=ties),
            bradley_terry.fit(*[[(7, k) for k in side] for side in (left, right)], outcomes, ties=ties),
            bradley_terry.fit(left, right, outcomes, ties=ties, clusters=np.arange(900)),
            bradley_terry.fit(left, right, outcomes, ties=ties, weights=np.ones(900)),
            bradley_terry.fit(left, right, outcomes, ties=ties, covariates=np.zeros((900, 0))),
            bradley_terry.fit(left * 10**9, right * 10**9, outcomes, ties=ties),
        ]
        for other in others:
            assert_allclose(other.scores, fit.scores, atol=1e-9)
            assert_allclose(other.covariance, fit.covariance, atol=1e-9)
            assert other.rows == 900


class TestUncertainty:
    def test_clusters_of_single_rows_are_the_plain_sandwich(self):
        left, right, outcomes = draw(5, rows=300, seed=7)
        for extra in ({}, {"position": True}, {"ties": "davidson", "position": True}):
            plain = bradley_terry.fit(left, right, outcomes, **extra)
            single = bradley_terry.fit(left, right, outcomes, clusters=np.arange(300)[::-1], **extra)
            assert_allclose(single.covariance, plain.covariance, atol=1e-10)
            for one, other in zip(single.effects, plain.effects, strict=True):
                assert_allclose(one.standard_error, other.standard_error, rtol=1e-8)

    def test_clusters_against_a_sandwich_written_out(self):
        """H^+ (sum u u') H^+ with G / (G - 1), from the definition."""
        left, right, outcomes = draw(4, rows=200, seed=8)
        cluster = np.random.default_rng(0).integers(0, 30, 200)
        fit = bradley_terry.fit(left, right, outcomes, clusters=[f"annotator {k}" for k in cluster])
        p = 1 / (1 + np.exp(fit.scores[right] - fit.scores[left]))
        design = np.eye(4)[left] - np.eye(4)[right]
        information = design.T @ (design * (p * (1 - p))[:, None])
        scores = np.zeros((30, 4))
        np.add.at(scores, cluster, design * (outcomes - p)[:, None])
        inverse = np.linalg.pinv(information)
        assert_allclose(fit.covariance, inverse @ (scores.T @ scores) @ inverse * 30 / 29, rtol=1e-7)
        assert fit.clusters == 30

    def test_one_group_says_nothing_of_errors(self):
        """Of all judgements, or of those of one component: a sum of residuals is 0 there, which is no certainty."""
        fit = bradley_terry.fit(["a", "b", "a"], ["b", "a", "b"], ties="davidson", clusters=["x", "x", "x"])
        assert fit.clusters == 1
        assert np.isnan(fit.intervals()).all()
        sides = (["a", "b", "a", "c", "d", "c"], ["b", "a", "b", "d", "c", "d"])
        fit = bradley_terry.fit(*sides, clusters=["x", "x", "y", "y", "y", "y"])
        assert np.isfinite(fit.intervals()[:2]).all()
        assert np.isnan(fit.intervals()[2:]).all()
        assert np.isnan(fit.p_values()[2, 3])
        assert fit.rank_bands()[2:].tolist() == [[1, 2], [1, 2]]
        assert np.isnan(bradley_terry.fit(["a", "b"], ["b", "a"], 0.5).difference_errors).all()
        rankings = plackett_luce.fit([["c", "d"], ["d", "c"]], clusters=[1, 1])
        assert np.isnan(rankings.standard_errors).all()

    @pytest.mark.parametrize("options", [{}, {"ridge": 1.0}, {"ties": "davidson"}])
    def test_what_one_group_joins_to_the_rest_has_no_known_error(self, options):
        """Of 40 groups one alone has E and F, against A and each other: its scores add up to 0 along that cut.

        The errors of the others are those of a fit without E and F.
        """
        rng = np.random.default_rng(2)
        left = np.tile(["a", "b", "c"], 40)
        right = np.tile(["b", "c", "a"], 40)
        won, group = np.where(rng.random(120) < 0.2, 0.5, rng.random(120) < 0.6), np.repeat(np.arange(40), 3)
        new = (["e", "a", "e", "f", "e", "f"], ["a", "e", "a", "e", "f", "e"], [1, 1, 0.5, 1, 1, 0.5])
        sides = [np.concatenate([old, more]) for old, more in zip((left, right, won), new, strict=True)]
        fit = bradley_terry.fit(*sides, clusters=np.concatenate([group, np.full(6, 7)]), **options)
        assert np.isfinite(fit.scores).all()
        assert np.isnan(fit.standard_errors).tolist() == [False, False, False, True, True]
        assert np.isnan(fit.p_values()[3:]).all()
        assert fit.rank_bands()[3:].tolist() == [[1, 5], [1, 5]]
        without = bradley_terry.fit(left, right, won, clusters=group, **options)
        if not options.get("ridge"):
            assert_allclose(fit.scores[:3].sum(), 0, atol=1e-9)
            assert_allclose(fit.difference_errors[:3, :3], without.difference_errors, rtol=0.2)

    def test_what_one_of_two_groupings_alone_joins_has_no_known_error(self):
        """C and D were judged by one annotator, on twenty prompts: annotators' spread says nothing of them."""
        left = ["a", "b", "a"] * 20 + ["c", "d", "c"] * 20
        right = ["b", "a", "b"] * 20 + ["d", "c", "d"] * 20
        annotator = np.concatenate([np.arange(60) % 4, np.full(60, 0)])
        prompt = np.repeat(np.arange(40), 3)
        won = np.random.default_rng(4).random(120) < 0.6
        fit = bradley_terry.fit(left, right, won, clusters=(annotator, prompt))
        assert np.isnan(fit.standard_errors).tolist() == [False, False, True, True]

    def test_effects_that_no_two_groups_show_have_no_known_error(self):
        left, right, outcomes = draw(3, rows=300, seed=5, ties=0.0)
        groups, style = np.arange(300) // 3, np.zeros((300, 1))
        style[:3, 0] = [1, -1, 1]
        outcomes[:3] = [1, 1, 0]
        fit = bradley_terry.fit(left, right, outcomes, covariates=style, clusters=groups)
        assert math.isnan(fit.effect("covariate 1").standard_error)
        assert np.isfinite(fit.standard_errors).all()

    def test_an_item_whose_judgements_are_all_alike_has_no_known_error(self):
        """E ties with A three times, in three groups: that no two differ is no certainty."""
        left, right, outcomes = draw(3, rows=60, seed=6)
        fit = bradley_terry.fit(
            [*left, 3, 3, 3], [*right, 0, 0, 0], [*outcomes, 0.5, 0.5, 0.5], clusters=[*range(60), 60, 61, 62]
        )
        assert np.isnan(fit.standard_errors).tolist() == [False, False, False, True]

    def test_bootstrap_intervals_are_unknown_where_errors_are(self):
        fit = bradley_terry.fit(["a", "b", "a"], ["b", "a", "b"], clusters=[1, 1, 1], bootstrap=20)
        assert np.isnan(fit.intervals(method="bootstrap")).all()

    def test_the_scale_of_weights_decides_nothing(self):
        left, right, outcomes = draw(4, rows=80, seed=9)
        plain = bradley_terry.fit(left, right, outcomes, weights=np.ones(80), clusters=np.arange(80) // 2)
        light = bradley_terry.fit(left, right, outcomes, weights=np.full(80, 1e-9), clusters=np.arange(80) // 2)
        assert_allclose(light.covariance, plain.covariance, rtol=1e-5)

    def test_what_rests_on_a_prior_is_as_uncertain_as_the_prior(self):
        """Two islands of two even items, precision 1: their means differ by 0, with the variance 1/2 + 1/2 of priors.

        A covariate that differs in nothing but one row of a thousand is mostly its prior, of variance 1.
        """
        fit = bradley_terry.fit(400 * ["a", "b", "c", "d"], 400 * ["b", "a", "d", "c"], ridge=1.0)
        between = np.array([1, 1, -1, -1]) / 2
        assert_allclose(between @ fit.covariance @ between, 1.0, rtol=1e-6)
        left, right, outcomes = draw(3, rows=1000, seed=3)
        seldom = np.zeros((1000, 1))
        seldom[0] = 1.0
        fit = bradley_terry.fit(left, right, outcomes, covariates=seldom, covariate_ridge=1.0)
        assert 0.8 < fit.effect("covariate 1").standard_error < 1.05

    def test_two_groupings_are_added_less_their_intersection(self):
        left, right, outcomes = draw(4, rows=400, seed=9)
        rng = np.random.default_rng(1)
        one, two = rng.integers(0, 40, 400), rng.integers(0, 50, 400)
        parts = [
            bradley_terry.fit(left, right, outcomes, clusters=grouping).covariance
            for grouping in (one, two, one * 50 + two)
        ]
        both = bradley_terry.fit(left, right, outcomes, clusters=(one, two))
        assert_allclose(both.covariance, parts[0] + parts[1] - parts[2], atol=1e-10)
        assert both.clusters == 40

    def test_two_groupings_of_two_rows_are_two(self):
        fit = bradley_terry.fit(list("ab"), list("ba"), clusters=([1, 2], [5, 6]))
        assert fit.clusters == 2

    def test_bootstrap_samples_spread_as_the_sandwich_says(self):
        left, right, outcomes = draw(5, rows=2000, seed=10)
        cluster = np.arange(2000) // 5
        for extra in ({}, {"clusters": cluster}, {"weights": np.full(2000, 2.0)}, {"ties": "davidson"}):
            fit = bradley_terry.fit(left, right, outcomes, bootstrap=400, seed=1, **extra)
            assert fit.samples.shape == (400, 5)
            assert_allclose(fit.samples.std(axis=0), fit.standard_errors, rtol=0.15)
            assert_allclose(fit.intervals(method="bootstrap"), fit.intervals(), atol=0.04)
        again = bradley_terry.fit(left, right, outcomes, bootstrap=400, seed=1, ties="davidson")
        assert (again.samples == fit.samples).all()

    def test_no_bootstrap_sample_falls_apart(self):
        """One loss ties the best item to the rest; resampled rows would lose it in a third of the samples."""
        fit = bradley_terry.fit(list("aaaab") + list("bcbc"), list("bccba") + list("cbcb"), bootstrap=200)
        assert np.isfinite(fit.samples).all()


class TestCovariates:
    def test_style_is_taken_off_the_scores(self):
        """The longer reply wins by the length's effect; without control "long" looks better than it is."""
        rng = np.random.default_rng(11)
        left, right = rng.integers(0, 3, 20000), rng.integers(0, 3, 20000)
        left, right = left[left != right], right[left != right]
        length = rng.lognormal(5 + 0.5 * np.arange(3)[np.stack([left, right])], 0.5)
        style = bradley_terry.style_differences(length[0][:, None], right=length[1][:, None])
        assert_allclose((style**2).mean(), 1)
        won = rng.random(len(left)) < 1 / (1 + np.exp(-0.8 * style[:, 0]))
        fit = bradley_terry.fit(left, right, won, covariates=style, covariate_names=["length"])
        assert abs(fit.effect("length").value - 0.8) < 3 * fit.effect("length").standard_error
        assert (np.abs(fit.scores) < 3.5 * fit.standard_errors).all()
        naive = bradley_terry.fit(left, right, won)
        assert naive.score(2) > 5 * naive.standard_errors[2]
        turned = bradley_terry.fit(right, left, ~won, covariates=-style, covariate_names=["length"])
        assert_allclose(turned.scores, fit.scores, atol=1e-9)

    def test_standardising_as_lmarena_does(self):
        left, right = np.array([[2.0], [3.0], [1.0]]), np.array([[2.0], [1.0], [3.0]])
        assert bradley_terry.style_differences(left, right=right, standardise="none").ravel().tolist() == [0, 0.5, -0.5]
        z = bradley_terry.style_differences(left + np.eye(3, 1), right=right, standardise="z")
        assert_allclose([z.mean(), z.std()], [0, 1], atol=1e-12)

    def test_a_position_by_row_is_the_same_effect(self):
        left, right, outcomes = draw(4, rows=600, seed=12)
        fit = bradley_terry.fit(left, right, outcomes, position=True)
        by_row = bradley_terry.fit(left, right, outcomes, position=np.ones(600))
        half_turned = np.random.default_rng(0).random(600) < 0.5
        sides = np.where(half_turned, right, left), np.where(half_turned, left, right)
        turned = bradley_terry.fit(
            *sides, np.where(half_turned, 1 - outcomes, outcomes), position=np.where(half_turned, -1, 1)
        )
        for other in (by_row, turned):
            assert_allclose(other.scores, fit.scores, atol=1e-9)
            assert_allclose(other.effect("position").value, fit.effect("position").value, atol=1e-9)
            assert_allclose(other.standard_errors, fit.standard_errors, atol=1e-9)

    def test_contexts_give_scores_of_their_own(self):
        """b beats a in code and loses elsewhere; a weak prior leaves each context its own odds."""
        rows = [("a", "b", 0)] * 30 + [("a", "b", 1)] * 10 + [("a", "b", 1)] * 30 + [("a", "b", 0)] * 10
        left, right, outcomes = zip(*rows, strict=True)
        code = np.repeat([1.0, 0.0], 40)[:, None]
        fit = bradley_terry.fit(
            left, right, outcomes, contexts=code, context_names=["code"], context_ridge=1e-6, clusters=range(80)
        )
        assert_allclose(fit.differences[0, 1], math.log(3), rtol=1e-4)
        (code_scores,) = fit.contexts
        assert_allclose(code_scores.scores[0] - code_scores.scores[1], -math.log(3), rtol=1e-4)
        strong = bradley_terry.fit(left, right, outcomes, contexts=code, context_ridge=1e6)
        assert_allclose(strong.differences[0, 1], 0, atol=1e-3)

    def test_an_effect_that_decides_everything_is_refused(self):
        with pytest.raises(ValueError, match="no finite value to 'position'"):
            bradley_terry.fit(["a", "b", "a"], ["b", "a", "b"], position=True)
        covariates = np.array([[1.0], [1.0], [-1.0], [-1.0]])
        with pytest.raises(ValueError, match="'same as a'"):
            bradley_terry.fit(
                list("aabb"), list("bbaa"), [1, 0, 1, 1], covariates=covariates, covariate_names=["same as a"]
            )


class TestConnectivity:
    def test_an_undefeated_item_is_not_comparable_and_changes_nothing_below(self):
        left, right = list("zzz") + list("abca"), list("abc") + list("bcac")
        fit = bradley_terry.fit(left, right, [1, 1, 1, 1, 1, 1, 0.5])
        without = bradley_terry.fit(left[3:], right[3:], [1, 1, 1, 0.5])
        assert math.isnan(fit.score("z"))
        assert_allclose(fit.scores[:3], without.scores, atol=1e-9)
        assert_allclose(fit.covariance[:3, :3], without.covariance, atol=1e-9)
        assert fit.connectivity.members == (("a", "b", "c"), ("z",))
        assert fit.connectivity.undefeated == (1,)
        assert fit.connectivity.winless == (0,)
        assert np.isnan(fit.win_probabilities()[3]).tolist() == [True, True, True, True]
        assert np.isnan(fit.p_values()[3]).all()
        assert fit.rank_bands()[3].tolist() != fit.rank_bands()[0].tolist()
        assert np.isnan(fit.rank_bands()[3]).all()

    def test_two_islands_are_scored_apart(self):
        fit = bradley_terry.fit([0, 1, 2, 3, 3], [1, 0, 3, 2, 2], [1, 1, 1, 1, 1], bootstrap=3)
        assert fit.connectivity.members == ((0, 1), (2, 3))
        assert fit.connectivity.group == (0, 1)
        assert fit.connectivity.above == ()
        assert_allclose(fit.scores, [0, 0, -math.log(2) / 2, math.log(2) / 2], atol=1e-9)
        assert_allclose(fit.samples.sum(axis=1), 0, atol=1e-9)
        assert np.isnan(fit.covariance[0, 2])
        assert np.isnan(fit.differences[1, 3])
        assert fit.anchored(2).scores.tolist()[:3] == [0, 0, 0]

    def test_a_ridge_joins_islands_if_asked(self):
        fit = bradley_terry.fit([0, 1, 2, 3, 3], [1, 0, 3, 2, 2], ridge=0.1)
        assert np.isfinite(fit.scores).all()
        assert np.isfinite(fit.covariance).all()
        assert len(fit.connectivity.members) == 2

    def test_nothing_comparable_is_said_and_not_guessed(self):
        fit = bradley_terry.fit(["a", "a"], ["b", "c"], clusters=[1, 2])
        assert np.isnan(fit.scores).all()
        assert np.isnan(fit.intervals()).all()
        assert len(fit.connectivity.members) == 3

    @pytest.mark.parametrize("ties", ["davidson", "rao-kupper"])
    def test_more_ties_than_wins_around_every_circle_leave_scores_without_a_value(self, ties):
        """a beats b, b ties with c, c ties with a: distances and ties could grow together for ever, and the search must
        not stop where rounding makes the likelihood flat."""
        with pytest.raises(ValueError, match="no finite value to 'tie'"):
            bradley_terry.fit(list("abc"), list("bca"), [1, 0.5, 0.5], ties=ties)
        assert bradley_terry.fit(list("abc"), list("bca"), [1, 0.5, 0.5]).connectivity.is_connected
        rows = [0, 4, 4, 3], [1, 1, 3, 1], [0.5, 0.5, 0.5, 1]
        with pytest.raises(ValueError, match="no finite value to 'tie'"):
            bradley_terry.fit(*rows, ties=ties, weights=[1, 1, 2.5, 1])

    def test_an_item_that_was_never_compared_stays_listed(self):
        fit = bradley_terry.fit([0, 1], [1, 0], items=["a", "b", "c"])
        assert math.isnan(fit.score("c"))
        assert bradley_terry.fit([0, 5], [5, 0]).items == (0, 5)


class TestBadInput:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ((["a", "b"], ["a", "a"]), "'a' is compared with itself"),
            (([], []), "at least one"),
            ((["a"], ["b", "c"]), "equal length"),
            ((["a", None], ["b", "c"]), "missing"),
            (([0.5, 1.0], [1.0, 2.0]), "integers or names"),
            ((np.array([0.5, 1.0]), np.array([1.0, 2.0])), "integers or names"),
            (([[0, 1]], [[1, 0]]), "one dimension|integers or names"),
            ((np.zeros((2, 2), dtype=int), np.ones((2, 2), dtype=int)), "one dimension"),
            ((["a", "b"], [1, 2]), "throughout, or nowhere"),
            ((["a"], ["b"], [math.nan]), "between 0"),
            ((["a"], ["b"], [2]), "between 0"),
            ((["a"], ["b"], [1, 0]), r"shape \(1,\)"),
            ((["a"], ["b"], ["won"]), "labels"),
        ],
    )
    def test_unreadable_comparisons(self, arguments, message):
        with pytest.raises(ValueError, match=message):
            bradley_terry.fit(*arguments)

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            ({"weights": [1, math.nan]}, "finite"),
            ({"weights": [1, -1]}, "0 or more"),
            ({"weights": [0, 0]}, "Every weight is 0"),
            ({"weights": [1]}, "2 finite"),
            ({"items": ["a"]}, "Unknown items: 'b'"),
            ({"items": ["a", "b", "a"]}, "only once"),
            ({"ties": "glicko"}, "Unknown ties"),
            ({"ridge": -1}, "ridge must be"),
            ({"ridge": math.nan}, "ridge must be"),
            ({"covariance": "hc3"}, "Unknown covariance"),
            ({"clusters": [1]}, "2 rows"),
            ({"clusters": ([1, 2], [1, 2], [1, 2])}, "One grouping or two"),
            ({"position": [1, 2]}, "Positions"),
            ({"covariates": [1, 2]}, "finite table"),
            ({"covariates": [[1], [math.inf]]}, "finite table"),
            ({"covariates": [[1], [2]], "covariate_names": ["tie"]}, "name of its own"),
            ({"labels": {"won": 1}}, "No value is given"),
            ({"labels": {1: math.nan}}, "labels must turn"),
            ({"labels": {1: 3}}, "labels must turn"),
            ({"reference": "c"}, "Unknown item 'c'"),
        ],
    )
    def test_unreadable_options(self, options, message):
        with pytest.raises(ValueError, match=message):
            bradley_terry.fit(["a", "b"], ["b", "a"], [1, 1], **options)

    def test_only_ties_and_soft_labels_where_ties_have_a_model(self):
        with pytest.raises(ValueError, match="Every comparison is a tie"):
            bradley_terry.fit(["a"], ["b"], 0.5, ties="davidson")
        with pytest.raises(ValueError, match="soft labels need ties='half'"):
            bradley_terry.fit(["a"], ["b"], [0.7], ties="davidson")

    def test_one_item_and_codes_beyond_the_items(self):
        with pytest.raises(ValueError, match="compared with itself"):
            bradley_terry.fit([0], [0])
        with pytest.raises(ValueError, match="Unknown item 2: there are 2 items"):
            bradley_terry.fit([0], [2], items=["a", "b"])
        with pytest.raises(ValueError, match="Unknown item -1"):
            bradley_terry.fit([0], [-1], items=["a", "b"])

    @pytest.mark.parametrize(
        "table", [[[0, 1]], [[0, -1], [1, 0]], [[0, math.nan], [1, 0]], [[1, 1], [1, 0]], [[0, 0]] * 2]
    )
    def test_unreadable_tables(self, table):
        with pytest.raises(ValueError, match=r"square|finite|itself|no comparisons"):
            bradley_terry.fit_wins(table)


class TestCoverage:
    """Rankings of 4 of 8 items, exploded into pairs; 95 % intervals of differences over 600 data sets."""

    def test_clustered_intervals_cover_and_independent_ones_do_not(self):
        rng, items, covered, naive = np.random.default_rng(12), 8, [], []
        truth = rng.normal(size=items)
        truth -= truth.mean()
        for _data_set in range(600):
            shown = np.argsort(rng.random((250, items)), axis=1)[:, :4]
            ranks = np.argsort(np.argsort(-(truth[shown] + rng.gumbel(size=shown.shape)), axis=1), axis=1) + 1
            pairs = pairs_of_tiers(ranks, items=shown)
            rows = pairs.left, pairs.right, pairs.outcomes
            covered.append(covers(bradley_terry.fit(*rows, clusters=pairs.ranking), truth=truth))
            naive.append(covers(bradley_terry.fit(*rows), truth=truth))
        assert 0.93 <= np.mean(covered) <= 0.97
        assert np.mean(naive) < 0.90


def covers(fit: Fit, *, truth: np.ndarray) -> np.ndarray:
    bounds = fit.intervals()
    return (bounds[:, 0] <= truth) & (truth <= bounds[:, 1])


class TestRealData:
    def rows(self, folder: str, name: str) -> list[dict]:
        path = DATA / folder / f"{name}.jsonl"
        if not path.exists():
            pytest.skip(f"the prepared data is not there: {path}")
        return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]

    def test_pandalm_by_system_with_ties_and_annotators(self):
        """Five models, three annotators, the same prompt in several pairs: 2,997 judgements, 326 of them ties."""
        systems = {
            row["item_id"]: [response["system"] for response in row["responses"]]
            for row in self.rows("pandalm_pairs", "items")
        }
        judged = self.rows("pandalm_pairs", "annotations")
        left, right = zip(*(systems[row["item_id"]] for row in judged), strict=True)
        outcomes = [{-1: 1, 0: 0.5, 1: 0}[int(np.sign(row["ranks"][0] - row["ranks"][1]))] for row in judged]
        items = [row["item_id"] for row in judged]
        assert outcomes.count(0.5) == 326
        fits = {
            ties: bradley_terry.fit(left, right, outcomes, ties=ties, clusters=items)
            for ties in ("half", "davidson", "rao-kupper")
        }
        assert {fit.rows for fit in fits.values()} == {2997}
        assert {fit.clusters for fit in fits.values()} == {999}
        assert {tuple(np.argsort(fit.scores)) for fit in fits.values()} == {tuple(np.argsort(fits["half"].scores))}
        independent = bradley_terry.fit(left, right, outcomes)
        assert (fits["half"].standard_errors > 1.3 * independent.standard_errors).all()

    def test_convincing_arguments_of_eight_topics_are_eight_islands_or_more(self):
        """Nothing was compared across the eight topic files, and the upstream scores run downwards within them."""
        pairs = {row["item_id"]: row["response_ids"] for row in self.rows("ukp_convarg", "items")}
        judged = self.rows("ukp_convarg", "annotations")
        ranks = np.array([row["ranks"] for row in judged])
        left, right = zip(*(pairs[row["item_id"]] for row in judged), strict=True)
        outcomes = np.where(ranks[:, 0] < ranks[:, 1], 1.0, np.where(ranks[:, 0] > ranks[:, 1], 0.0, 0.5))
        annotators = [row["annotator"] for row in judged]
        fit = bradley_terry.fit(left, right, outcomes, clusters=(annotators, [row["item_id"] for row in judged]))
        assert len(set(fit.connectivity.group)) == 8
        topics = {frozenset(str(name).split("/")[0] for name in part) for part in fit.connectivity.members}
        assert all(len(topic) == 1 for topic in topics)
        assert (outcomes == 0.5).sum() == 4274
        upstream = {row["argument_id"]: row["rank_score"] for row in self.rows("ukp_convarg", "rank_scores")}
        agreement = []
        for part in (part for part in fit.connectivity.members if len(part) > 5):
            order = np.argsort([fit.score(name) for name in part])
            theirs = np.argsort(np.argsort([upstream[name] for name in part]))
            agreement.append(np.corrcoef(np.arange(len(part)), theirs[order])[0, 1])
        assert len(agreement) == 8
        assert max(agreement) < -0.6
        assert np.mean(agreement) < -0.85


def test_rankings_of_two_are_comparisons():
    """Plackett–Luce with K = 2 is Bradley–Terry, with ties Davidson's."""
    left, right, outcomes = draw(5, rows=600, seed=13)
    swap = outcomes == 0
    table = np.stack([np.where(swap, right, left), np.where(swap, left, right)], axis=1)
    tied = np.stack([np.zeros(600, dtype=bool), outcomes == 0.5], axis=1)
    pairs = bradley_terry.fit(left, right, outcomes, ties="davidson")
    rankings = plackett_luce.fit(table, tied=tied)
    assert_allclose(rankings.scores, pairs.scores, atol=1e-8)
    assert_allclose(rankings.covariance, pairs.covariance, atol=1e-8)
    assert_allclose(rankings.effect("tie").value, pairs.effect("tie").value, atol=1e-8)
    strict = outcomes != 0.5
    assert_allclose(
        plackett_luce.fit(table[strict]).covariance,
        bradley_terry.fit(left[strict], right[strict], outcomes[strict]).covariance,
        atol=1e-8,
    )
