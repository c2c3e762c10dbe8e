import numpy as np
import pytest
from scipy import stats

from rewardmodel.evaluation.comparison import compare_margins, mcnemar_p


def test_mid_p_by_hand() -> None:
    """1 against 5: n = 6, P(X <= 1) = 7/64, P(X = 1) = 6/64; 2 * 7/64 - 6/64 = 1/8. 0 against 5: 1/32. Equal: 1."""
    assert mcnemar_p(1, 5) == pytest.approx(1 / 8)
    assert mcnemar_p(5, 0) == pytest.approx(1 / 32)
    assert mcnemar_p(4, 4) == pytest.approx(1.0)
    assert mcnemar_p(0, 0) == 1.0


@pytest.mark.parametrize(("first", "second"), [(3, 9), (40, 60), (1200, 1300)])
def test_mid_p_agrees_with_the_binomial_distribution(first: int, second: int) -> None:
    n, few = first + second, min(first, second)
    expected = 2 * stats.binom.cdf(few, n, 0.5) - stats.binom.pmf(few, n, 0.5)
    assert mcnemar_p(first, second) == pytest.approx(expected, rel=1e-6)


def test_a_comparison_counts_who_is_right_alone() -> None:
    """First right alone: 1; second right alone: 2; the tied pair enters the accuracy (half) and no test.

    Accuracies (1 + 0 + 0 + 1 + 1/2) / 5 = 1/2 and (0 + 1 + 1 + 1 + 1) / 5 = 4/5."""
    found = compare_margins([1.0, -1, -1, 1, 0], second=[-1.0, 1, 1, 1, 1], prompt_ids=list("abcde"))
    assert found["mcnemar"] == {"only_first": 1, "only_second": 2, "tied": 1, "p": pytest.approx(0.625)}
    assert found["accuracy"] == [0.5, 0.8]
    assert found["accuracy_difference"] == pytest.approx(-0.3)


def test_a_model_beside_itself_does_not_differ() -> None:
    margins = np.random.default_rng(0).normal(size=50)
    found = compare_margins(margins, second=margins, prompt_ids=[str(i) for i in range(50)])
    assert found["accuracy_interval"] == [0.0, 0.0]
    assert found["log_loss_interval"] == [0.0, 0.0]
    assert found["mcnemar"]["p"] == 1.0


def test_the_interval_of_the_difference_covers_it_where_prompts_have_several_pairs() -> None:
    """Two models right in 0.7 and 0.6 of prompts, with all three pairs of a prompt alike: difference 0.1."""
    hits = 0
    for seed in range(100):
        generator = np.random.default_rng(seed)
        first, second = (np.repeat(np.where(generator.random(80) < p, 1.0, -1.0), 3) for p in (0.7, 0.6))
        low, high = compare_margins(first, second=second, prompt_ids=[str(i // 3) for i in range(240)])[
            "accuracy_interval"
        ]
        hits += low <= 0.1 <= high
    assert hits >= 89


def test_different_numbers_of_pairs_are_refused() -> None:
    with pytest.raises(ValueError, match="2 margins of one model but 1"):
        compare_margins([1.0, 2.0], second=[1.0], prompt_ids=["a", "b"])
