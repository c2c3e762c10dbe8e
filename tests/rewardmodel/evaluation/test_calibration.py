import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardmodel.evaluation.calibration import (
    assign_bins,
    calibration_error,
    describe_calibration,
    describe_temperature,
    fit_temperature,
    reliability_table,
)
from rewardmodel.metrics import brier_score, log_loss, sigmoid


def simulate(n: int, *, temperature: float = 1.0, seed: int = 0) -> tuple[np.ndarray, list[str]]:
    """Margins of n judgements made by the Bradley-Terry model; the model tells them `temperature` times too large."""
    generator = np.random.default_rng(seed)
    sizes = generator.normal(0, 1.5, n)
    chosen = generator.random(n) < sigmoid(sizes)
    return np.where(chosen, sizes, -sizes) * temperature, [str(i) for i in range(n)]


def test_brier_score_by_hand() -> None:
    """Margin 0: (1/2)^2 = 1/4. Margin ln 3: sigmoid 3/4, (1/4)^2 = 1/16. Mean 5/32."""
    assert brier_score([0.0, math.log(3)]) == pytest.approx(5 / 32)


def test_the_table_of_forty_pairs_has_two_bins_by_hand() -> None:
    """20 pairs at |margin| ln 3 (confidence 3/4), 15 of them right; 20 at ln 9 (9/10), 19 right.

    ECE = (20 |15/20 - 3/4| + 20 |19/20 - 9/10|) / 40 = 0.025."""
    small, large = math.log(3), math.log(9)
    margins = [small] * 15 + [-small] * 5 + [large] * 19 + [-large]
    rows = reliability_table(margins)
    assert [(row["n"], round(row["confidence"], 9), row["accuracy"]) for row in rows] == [
        (20, 0.75, 0.75),
        (20, 0.9, 0.95),
    ]
    assert calibration_error(margins, prompt_ids=[str(i) for i in range(40)])["ece"] == pytest.approx(0.025)


def test_equal_confidences_share_a_bin() -> None:
    assert assign_bins(np.full(100, 0.7)).tolist() == [0] * 100


@given(st.lists(st.floats(0.5, 1), min_size=1, max_size=300), st.randoms())
def test_bins_do_not_depend_on_the_order_and_rise_with_confidence(values: list[float], random: object) -> None:
    codes = assign_bins(np.asarray(values))
    order = np.argsort(values, kind="stable")
    assert (np.diff(codes[order]) >= 0).all()
    assert set(codes.tolist()) == set(range(codes.max() + 1))
    turned = assign_bins(np.asarray(values)[::-1])
    assert turned[::-1].tolist() == codes.tolist()


def test_a_calibrated_model_has_an_error_near_zero() -> None:
    margins, ids = simulate(20_000)
    found = calibration_error(margins, prompt_ids=ids)
    assert found["ece"] < 0.012
    assert found["rms_error"] < 0.01
    assert found["ece"] < found["ece_if_calibrated"]


def test_an_overconfident_model_shows_its_error_and_its_temperature() -> None:
    """Margins three times too large: temperature 3, and the cross-fitted log loss is that of the true margins."""
    margins, ids = simulate(6_000, temperature=3.0)
    found = describe_calibration(margins, prompt_ids=ids)
    assert found["ece"] > found["ece_if_calibrated"] + 0.05
    temperature = found["temperature"]
    assert temperature["value"] == pytest.approx(3.0, rel=0.1)
    assert temperature["interval"][0] < 3 < temperature["interval"][1]
    assert temperature["log_loss_after"] == pytest.approx(log_loss(margins / 3), abs=1e-3)
    assert temperature["log_loss_after"] < temperature["log_loss_before"]
    assert temperature["ece_after"] < 0.03


def test_the_interval_of_the_temperature_covers_it() -> None:
    """95 % nominal; 200 data sets leave 0.95 +- 0.03 (two standard errors)."""
    hits = 0
    for seed in range(200):
        margins, ids = simulate(300, temperature=2.0, seed=seed)
        _, (low, high) = fit_temperature(margins, prompt_ids=ids)
        hits += low is not None and low < 2 and (high is None or high > 2)
    assert hits >= 180


def test_the_interval_of_the_error_covers_it() -> None:
    """A model that always says 0.9 and is right in 0.7 of pairs has error 0.2. 95 % nominal, 90 of 100 asked."""
    hits = 0
    for seed in range(100):
        right = np.random.default_rng(seed).random(200) < 0.7
        margins = np.where(right, 1, -1) * math.log(9)
        low, high = calibration_error(margins, prompt_ids=[str(i) for i in range(200)])["ece_interval"]
        hits += low <= 0.2 <= high
    assert hits >= 90


def test_margins_that_point_the_wrong_way_have_no_temperature() -> None:
    margins = np.asarray([-1.0] * 30 + [0.5] * 10)
    found = describe_temperature(margins, prompt_ids=[str(i) for i in range(40)])
    assert (found["value"], found["log_loss_after"], found["ece_after"]) == (None, None, None)


def test_scores_that_are_all_equal_have_no_temperature_and_no_error() -> None:
    found = describe_calibration([0.0] * 30, prompt_ids=[str(i) for i in range(30)])
    assert found["temperature"]["value"] is None
    assert found["ece"] == 0


def test_one_prompt_alone_knows_no_interval_and_no_other_half() -> None:
    found = describe_calibration([1.0, -0.5, 2.0], prompt_ids=["a", "a", "a"])
    assert found["ece_interval"] is None
    assert found["temperature"]["log_loss_after"] is None
