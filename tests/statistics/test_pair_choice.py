"""Which pair to ask for next: the formulas against refitting, and that asking so beats asking at random."""

from __future__ import annotations

import math

import numpy as np
import pytest

from annotation.statistics.pair_choice import choose_pairs, expected_gains


def covariance_of(information: np.ndarray) -> np.ndarray:
    """Of centred scores: the pseudo-inverse of the Laplacian."""
    return np.linalg.pinv(information, hermitian=True)


def information_of(counts: np.ndarray) -> np.ndarray:
    """Of `counts` comparisons between each two items of equal worth, each worth 1/4."""
    weights = (counts + counts.T) / 4
    return np.diag(weights.sum(axis=1)) - weights


RNG = np.random.default_rng(0)
COUNTS = np.triu(RNG.integers(20, 60, (6, 6)), 1).astype(float)
COVARIANCE = covariance_of(information_of(COUNTS))
SCORES = np.zeros(6)


def after(left: int, right: int) -> np.ndarray:
    """The covariance after one more comparison, from the whole information."""
    more = COUNTS.copy()
    more[left, right] += 1
    return covariance_of(information_of(more))


def log_volume(covariance: np.ndarray) -> float:
    """Half the log of the product of the non-zero eigenvalues: the entropy of the scores but for a constant."""
    return float(np.log(np.linalg.eigvalsh(covariance)[1:]).sum() / 2)


def test_gains_are_what_one_more_comparison_does():
    """The gains take p (1 - p) a little below 1/4, for what is not known of the difference: 2 % here."""
    information = expected_gains(SCORES, covariance=COVARIANCE)
    variance = expected_gains(SCORES, covariance=COVARIANCE, goal="variance")
    between = expected_gains(SCORES, covariance=COVARIANCE, goal="difference", difference=(1, 4))
    contrast = np.array([0, 1, 0, 0, -1, 0])
    for left, right in ((0, 1), (1, 4), (2, 5)):
        later = after(left, right)
        assert information[left, right] == pytest.approx(log_volume(COVARIANCE) - log_volume(later), rel=0.03)
        assert variance[left, right] == pytest.approx(np.trace(COVARIANCE) - np.trace(later), rel=0.03)
        reduced = contrast @ COVARIANCE @ contrast - contrast @ later @ contrast
        assert between[left, right] == pytest.approx(reduced, rel=0.03, abs=1e-7)
    for gains in (information, variance, between):
        assert gains == pytest.approx(gains.T)
        assert (np.diag(gains) == -math.inf).all()


def test_a_pair_hardly_ever_compared_is_asked_before_one_often_compared():
    counts = np.triu(np.full((4, 4), 50.0), 1)
    counts[0, :] = [0, 2, 2, 2]
    chosen = choose_pairs(np.zeros(4), covariance=covariance_of(information_of(counts)))[0]
    assert chosen.left == 0


def test_equals_are_asked_before_the_unequal():
    """Of items known equally well, the two nearest: p (1 - p) is largest there."""
    covariance = 0.05 * (np.eye(3) - 1 / 3)
    chosen = choose_pairs([0, 0.2, 3], covariance=covariance)[0]
    assert (chosen.left, chosen.right) == (0, 1)


def test_the_difference_of_two_is_best_learned_from_them():
    chosen = choose_pairs(SCORES, covariance=COVARIANCE, goal="difference", difference=(2, 5))[0]
    assert (chosen.left, chosen.right) == (2, 5)


def test_a_batch_does_not_ask_the_same_over_and_over():
    covariance = np.eye(6) - 1 / 6
    chosen = choose_pairs(np.zeros(6), covariance=covariance, count=3)
    assert {item for choice in chosen for item in (choice.left, choice.right)} == set(range(6))
    assert [choice.gain for choice in chosen] == sorted((choice.gain for choice in chosen), reverse=True)


def test_what_is_apart_is_joined_first_and_once():
    """Items 0, 1 and items 2, 3 never met, nor did 4 meet anybody."""
    covariance = np.full((5, 5), math.nan)
    covariance[:2, :2] = [[0.1, -0.1], [-0.1, 0.1]]
    covariance[2:4, 2:4] = [[0.2, -0.2], [-0.2, 0.2]]
    scores = [0.1, -0.1, 0.2, -0.2, math.nan]
    chosen = choose_pairs(scores, covariance=covariance, count=4)
    assert [choice.gain for choice in chosen[:2]] == [math.inf, math.inf]
    joined = [{choice.left, choice.right} for choice in chosen[:2]]
    assert any(4 in pair for pair in joined)
    assert [(choice.left, choice.right) for choice in chosen[2:]] == [(2, 3), (2, 3)]


def test_only_allowed_pairs_are_asked_and_fewer_come_back_where_there_are_none():
    allowed = np.zeros((6, 6), dtype=bool)
    allowed[4, 3] = True
    chosen = choose_pairs(SCORES, covariance=COVARIANCE, count=2, allowed=allowed)
    assert [(choice.left, choice.right) for choice in chosen] == [(3, 4), (3, 4)]
    assert choose_pairs(SCORES, covariance=COVARIANCE, allowed=np.zeros((6, 6))) == []


def test_chosen_pairs_teach_more_than_random_ones():
    """From a chain of 12 items, 60 comparisons more: chosen greedily they leave less volume than ten random draws."""
    chain = np.diag(np.full(11, 4.0), 1)
    start = covariance_of(information_of(chain))
    chosen = chain.copy()
    for choice in choose_pairs(np.zeros(12), covariance=start, count=60):
        chosen[choice.left, choice.right] += 1
    asked = log_volume(covariance_of(information_of(chosen)))
    for seed in range(10):
        rng, drawn = np.random.default_rng(seed), chain.copy()
        for _comparison in range(60):
            left, right = sorted(rng.choice(12, 2, replace=False))
            drawn[left, right] += 1
        assert asked < log_volume(covariance_of(information_of(drawn)))


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"covariance": [[1]]}, "two items at least"),
        ({"scores": [0, 0], "covariance": [[1]]}, "2 by 2"),
        ({"scores": [0, math.inf], "covariance": np.eye(2)}, "finite"),
        ({"scores": [0, 0], "covariance": np.eye(2), "goal": "glory"}, "Unknown goal"),
        ({"scores": [0, 0], "covariance": np.eye(2), "goal": "difference"}, "say which"),
        ({"scores": [0, 0], "covariance": np.eye(2), "goal": "difference", "difference": (0, 2)}, "say which"),
        ({"scores": [0, 0], "covariance": np.eye(2), "allowed": [True]}, "2 by 2"),
    ],
)
def test_bad_input_is_refused_with_a_reason(arguments, said):
    with pytest.raises(ValueError, match=said):
        choose_pairs(arguments.pop("scores", [0]), **arguments)
