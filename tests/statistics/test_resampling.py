"""Drawing clusters by weight is drawing clusters."""

from __future__ import annotations

import math

import numpy as np
import pytest

from annotation.statistics.resampling import (
    NOWHERE,
    Sampling,
    bootstrap_sums,
    bootstrap_units,
    collapse,
    draw_weights,
    percentile_interval,
)


@pytest.mark.parametrize("multiplicity", [None, np.array([1, 2, 3, 1]), np.array([50, 20, 20, 10])])
def test_weights_are_counts_of_draws_with_replacement(multiplicity):
    clusters = 4 if multiplicity is None else int(multiplicity.sum())
    weights = np.concatenate(list(draw_weights(4, multiplicity=multiplicity, sampling=Sampling(resamples=4000))))
    assert weights.shape == (4000, 4)
    assert (weights.sum(axis=1) == clusters).all()
    share = np.full(4, 0.25) if multiplicity is None else multiplicity / clusters
    assert weights.mean(axis=0) == pytest.approx(clusters * share, abs=5 * math.sqrt(clusters / 4000))
    assert weights.var(axis=0) == pytest.approx(clusters * share * (1 - share), rel=0.15)


def test_the_mean_of_a_sample_has_the_error_that_theory_gives_it():
    """Standard error of the mean σ / √n; the interval is ± 1.96 of it."""
    values = np.random.default_rng(0).normal(size=400)
    rows = np.stack([values, np.ones(400)], axis=1)
    low, high = bootstrap_sums(
        rows, statistic=lambda sums: sums[:, 0] / sums[:, 1], sampling=Sampling(resamples=4000, seed=1)
    )
    margin = 1.96 * values.std() / 20
    assert (low, high) == pytest.approx((values.mean() - margin, values.mean() + margin), abs=0.1 * margin)


def test_one_cluster_or_no_samples_give_no_interval():
    one = bootstrap_sums(np.ones((1, 1)), statistic=lambda sums: sums[:, 0], sampling=Sampling())
    none = bootstrap_sums(np.ones((5, 1)), statistic=lambda sums: sums[:, 0], sampling=Sampling(resamples=0))
    assert one is NOWHERE
    assert none is NOWHERE


def test_mostly_undefined_values_give_no_interval():
    assert percentile_interval(np.array([1, math.nan, math.nan]), sampling=Sampling()) is NOWHERE
    assert percentile_interval(np.array([1, 1, math.nan]), sampling=Sampling()) == (1, 1)


@pytest.mark.parametrize("scale", [1, 10**9])
def test_equal_rows_are_collapsed(scale):
    rows = np.array([[0, 2, 1], [3, 0, 0], [0, 2, 1], [3, 0, 1]]) * scale
    distinct, counts = collapse(rows)
    found = {tuple(row): count for row, count in zip(distinct.tolist(), counts.tolist(), strict=True)}
    assert found == {(0, 2 * scale, scale): 2, (3 * scale, 0, 0): 1, (3 * scale, 0, scale): 1}


def test_units_of_one_cluster_are_drawn_together():
    """Two clusters of opposite values: a sample has 0, half or all of the ones."""
    seen: set[float] = set()

    def note(sums: np.ndarray) -> np.ndarray:
        seen.update((sums[:, 0] / 2).tolist())
        return sums[:, 0]

    units = np.array([[1], [1], [0], [0]])
    bootstrap_units(
        units,
        clusters=np.array([7, 7, 9, 9]),
        rows_of=lambda rows: rows.astype(float),
        statistic=note,
        sampling=Sampling(resamples=50),
    )
    assert seen == {0, 1, 2}


@pytest.mark.parametrize("wrong", [{"resamples": -1}, {"confidence": 0}, {"confidence": 1}])
def test_sampling_that_cannot_be_is_refused(wrong):
    with pytest.raises(ValueError, match=r"cannot be|must lie"):
        Sampling(**wrong)
