"""Ranks, differences and p-values of a fit, against figures derived by hand."""

from __future__ import annotations

import math

import numpy as np
import pytest
from numpy.testing import assert_allclose

from annotation.statistics.connectivity import Connectivity
from annotation.statistics.fits import Fit


def fit_of(scores: list[float], *, variances: list[float], component: list[int] | None = None) -> Fit:
    """A fit of independent scores, as an orchard of its own would give."""
    parts = np.zeros(len(scores), dtype=np.intp) if component is None else np.array(component)
    covariance = np.where(parts[:, None] == parts, np.diag(variances), np.nan)
    return Fit(
        model="bradley-terry", ties="half", items=tuple("abcdefgh"[: len(scores)]), scores=np.array(scores),
        covariance=covariance, effects=(), rows=10, clusters=10, log_likelihood=0.0, iterations=1,
        connectivity=Connectivity(tuple("abcdefgh"[: len(scores)]), parts, (), tuple(range(parts.max() + 1))),
    )  # fmt: skip


class TestDifferences:
    def test_errors_and_p_values(self):
        """Variances 1 and 3: the difference 3.92 has error 2 and t = 1.96, p = 0.05."""
        fit = fit_of([3.919928, 0.0], variances=[1, 3])
        assert_allclose(fit.difference_errors[0, 1], 2)
        assert_allclose(fit.p_values(correction="none")[0, 1], 0.05, rtol=1e-5)
        assert_allclose(fit.intervals()[0], [3.919928 - 1.959964, 3.919928 + 1.959964], rtol=1e-6)

    def test_holms_correction(self):
        """Single p-values of three pairs times 3, 2 and 1, never falling: 0.01, 0.02, 0.03 become 0.03, 0.04, 0.04."""
        fit = fit_of([0, 0, 0], variances=[1, 1, 1])
        t = [2.5758293, 2.3263479, 2.1700904]
        differences = np.array([[0, t[0], t[1]], [-t[0], 0, t[2]], [-t[1], -t[2], 0]]) * math.sqrt(2)
        fit.__dict__["differences"] = differences
        assert_allclose(fit.p_values(correction="none")[0, 1:], [0.01, 0.02], rtol=1e-5)
        adjusted = fit.p_values()
        assert_allclose([adjusted[0, 1], adjusted[0, 2], adjusted[1, 2]], [0.03, 0.04, 0.04], rtol=1e-5)
        assert_allclose(adjusted, adjusted.T)

    def test_anchoring_moves_scores_and_no_difference(self):
        rng = np.random.default_rng(0)
        root = rng.normal(size=(4, 4))
        fit = fit_of([1.0, 2.0, 4.0, 9.0], variances=[1] * 4)
        fit = Fit(**{**fit.__dict__, "covariance": root @ root.T})
        moved = fit.anchored("c")
        assert moved.scores.tolist() == [-3, -2, 0, 5]
        assert moved.reference == "c"
        assert_allclose(moved.standard_errors[2], 0, atol=1e-7)
        assert_allclose(moved.difference_errors, fit.difference_errors, atol=1e-7)
        assert_allclose(moved.standard_errors[0], fit.difference_errors[0, 2], rtol=1e-7)


class TestRanks:
    def test_bands_by_hand(self):
        """Scores 10, 9.9, 0 with errors 0.1: the first two cannot be told apart, the third is surely last."""
        fit = fit_of([10, 9.9, 0], variances=[0.01] * 3)
        for method in ("max-t", "bonferroni", "holm"):
            assert fit.rank_bands(method=method).tolist() == [[1, 2], [1, 2], [3, 3]]
        assert fit.ranks().tolist() == [1, 2, 3]

    def test_bonferroni_counts_all_pairs(self):
        """Three pairs at 5 %: the critical t is 2.394; 2.3 is not enough, 2.5 is."""
        for t, band in ((2.3, [1, 3]), (2.5, [1, 1])):
            fit = fit_of([t * math.sqrt(2), 0, 0], variances=[1] * 3)
            assert fit.rank_bands(method="bonferroni")[0].tolist() == band

    def test_the_joint_distribution_is_tukeys_for_equal_independent_scores(self):
        """The studentized range of 3 at 5 % is 3.314 (infinitely many degrees of freedom), over root 2: 2.344."""
        fit = fit_of([0, 0, 0], variances=[1] * 3)
        critical = fit._largest_t(level=0.95, draws=40000, seed=1)
        assert_allclose(critical, 3.314 / math.sqrt(2), rtol=0.01)

    def test_bands_hold_for_all_items_at_once(self):
        """Six equal items: in 95 % of the draws every band holds all of 1 … 6."""
        rng = np.random.default_rng(2)
        whole = [
            bool((fit_of(list(rng.normal(size=6)), variances=[1] * 6).rank_bands(draws=400) == [1, 6]).all())
            for _draw in range(200)
        ]
        assert 0.91 <= np.mean(whole) <= 0.985

    def test_components_are_ranked_by_themselves(self):
        fit = fit_of([5, 0, 3, 0], variances=[0.01] * 4, component=[0, 0, 1, 1])
        assert fit.ranks().tolist() == [1, 2, 1, 2]
        assert fit.rank_bands().tolist() == [[1, 1], [2, 2], [1, 1], [2, 2]]


class TestProbabilities:
    def test_the_win_matrix_is_antisymmetric(self):
        fit = fit_of([1.0, 0.2, -1.2], variances=[1] * 3)
        chances = fit.win_probabilities()
        assert_allclose(chances + chances.T, 1)
        assert_allclose(np.diag(chances), 0.5)
        assert_allclose(chances[0, 1], 1 / (1 + math.exp(-0.8)))


class TestRefusals:
    def test_what_was_not_asked_for_is_not_there(self):
        fit = Fit(**{**fit_of([0, 1], variances=[1, 1]).__dict__, "covariance": None})
        with pytest.raises(ValueError, match="without a covariance"):
            fit.intervals()
        with pytest.raises(ValueError, match="no bootstrap samples"):
            fit.intervals(method="bootstrap")
        with pytest.raises(ValueError, match="Unknown item 'x'"):
            fit.score("x")
        with pytest.raises(ValueError, match="no effect 'tie'"):
            fit.effect("tie")

    @pytest.mark.parametrize("level", [0, 1, 95])
    def test_levels(self, level):
        with pytest.raises(ValueError, match="between 0 and 1"):
            fit_of([0, 1], variances=[1, 1]).intervals(level=level)

    def test_unknown_methods(self):
        fit = fit_of([0, 1], variances=[1, 1])
        with pytest.raises(ValueError, match="Unknown method"):
            fit.rank_bands(method="tukey")
        with pytest.raises(ValueError, match="Unknown correction"):
            fit.p_values(correction="fdr")
