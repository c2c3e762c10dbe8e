import math

import numpy as np
import pytest

from rewardmodel.evaluation.logistic import fit_logistic
from rewardmodel.metrics import sigmoid


def test_an_intercept_alone_is_the_log_odds_of_the_share() -> None:
    """3 of 4: ln 3. The model's error is 1 / sqrt(n p q); with n = 400, 1 / sqrt(75). The prior moves it by < 1e-3."""
    outcomes = np.asarray([1.0, 1.0, 1.0, 0.0] * 100)
    fit = fit_logistic(np.ones((400, 1)), outcomes=outcomes)
    assert fit.coefficients[0] == pytest.approx(math.log(3), abs=1e-3)
    assert fit.errors[0] == pytest.approx(1 / math.sqrt(75), rel=0.01)
    assert fit.log_loss == pytest.approx(-0.75 * math.log(0.75) - 0.25 * math.log(0.25), abs=1e-4)


def test_weights_are_repetitions() -> None:
    columns = np.asarray([[1.0, 0.3], [1.0, -1.0], [1.0, 2.0], [1.0, 0.0]])
    outcomes = np.asarray([1.0, 0.0, 1.0, 0.5])
    weights = np.asarray([3.0, 2.0, 1.0, 4.0])
    repeated = np.repeat(np.arange(4), weights.astype(int))
    weighed = fit_logistic(columns, outcomes=outcomes, weights=weights)
    spelled = fit_logistic(columns[repeated], outcomes=outcomes[repeated])
    assert weighed.coefficients == pytest.approx(spelled.coefficients)
    assert weighed.log_loss == pytest.approx(spelled.log_loss)


def test_clusters_of_copies_have_the_errors_of_one() -> None:
    """Each row four times over: four times the rows, and, told so, the same error as once (but for the prior)."""
    generator = np.random.default_rng(0)
    columns = generator.normal(size=(500, 2))
    outcomes = (generator.random(500) < sigmoid(columns @ [1.0, -0.5])).astype(float)
    once = fit_logistic(columns, outcomes=outcomes)
    copies = fit_logistic(
        np.repeat(columns, 4, axis=0), outcomes=np.repeat(outcomes, 4), clusters=np.repeat(np.arange(500), 4)
    )
    assert copies.errors == pytest.approx(once.errors, rel=0.01)


def test_the_interval_covers_the_coefficients() -> None:
    hits = 0
    for seed in range(200):
        generator = np.random.default_rng(seed)
        columns = generator.normal(size=(200, 2))
        outcomes = (generator.random(200) < sigmoid(columns @ [1.0, -0.5])).astype(float)
        low, high = fit_logistic(columns, outcomes=outcomes).interval(0)
        hits += low < 1.0 < high
    assert hits >= 180


def test_separated_outcomes_stay_finite() -> None:
    fit = fit_logistic(np.ones((50, 1)), outcomes=np.ones(50))
    assert 3 < fit.coefficients[0] < 20


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match="4 rows but outcomes of shape"):
        fit_logistic(np.ones((4, 1)), outcomes=np.ones(3))
