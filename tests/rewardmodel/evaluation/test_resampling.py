import numpy as np

from rewardmodel.evaluation.resampling import bootstrap_by_prompt, mean_interval, percentile_interval
from rewardmodel.metrics import bootstrap_interval_by_prompt


def test_whole_prompts_are_drawn() -> None:
    """Two prompts of 1 and 3 pairs: each weight is one of its prompt's, and both weights sum to 2 draws."""
    drawn = bootstrap_by_prompt(lambda weights: weights, prompt_ids=["a", "b", "b", "b"], draws=200)
    assert drawn is not None
    assert (drawn[:, 1:] == drawn[:, 1:2]).all()
    assert (drawn[:, 0] + drawn[:, 1] == 2).all()


def test_it_agrees_with_the_bootstrap_of_accuracy() -> None:
    """Both are percentiles of the same distribution, drawn apart."""
    generator = np.random.default_rng(1)
    margins = generator.normal(0.5, 1, 400)
    ids = [str(i // 2) for i in range(400)]
    other = bootstrap_interval_by_prompt(margins, prompt_ids=ids)
    assert other is not None
    np.testing.assert_allclose(mean_interval(margins > 0, prompt_ids=ids), other, atol=0.01)


def test_one_prompt_has_no_interval() -> None:
    assert bootstrap_by_prompt(lambda weights: 1.0, prompt_ids=["a", "a"]) is None
    assert percentile_interval(None) is None


def test_a_statistic_that_is_often_undefined_has_no_interval() -> None:
    values = np.arange(100, dtype=float)
    values[:4] = np.nan
    assert percentile_interval(values) is not None
    values[:6] = np.nan
    assert percentile_interval(values) is None
