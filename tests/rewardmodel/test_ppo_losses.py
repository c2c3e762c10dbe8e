"""PPO's arithmetic: values derived by hand, a naive implementation beside ours, and properties."""

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from rewardmodel.ppo_losses import (
    Settings,
    adapt_coefficient,
    clipped_policy_loss,
    clipped_value_loss,
    entropy,
    estimate_advantages,
    estimate_kl,
    explained_variance,
    find_last_tokens,
    handle_missing_end,
    is_clipped,
    masked_mean,
    masked_variance,
    place_rewards,
    set_targets,
    whiten,
)

WHOLE = torch.ones(1, 3, dtype=torch.bool)


def estimate_naively(
    rewards: list[float], values: list[float], *, gamma: float, lam: float
) -> tuple[list[float], list[float]]:
    """Advantages of one response by the double sum of eq. 16, and its discounted returns, in plain Python."""
    size = len(rewards)
    following = [*values[1:], 0.0]
    errors = [rewards[t] + gamma * following[t] - values[t] for t in range(size)]
    advantages = [sum((gamma * lam) ** k * errors[t + k] for k in range(size - t)) for t in range(size)]
    returns = [sum(gamma**k * rewards[t + k] for k in range(size - t)) for t in range(size)]
    return advantages, returns


@st.composite
def rollouts(draw: st.DrawFn) -> tuple[list[list[float]], list[list[float]], float, float]:
    """Rewards and values of one to four responses of one to six tokens, gamma and lambda."""
    numbers = st.floats(-3, 3, width=32)
    lengths = draw(st.lists(st.integers(1, 6), min_size=1, max_size=4))
    lines = [
        (draw(st.lists(numbers, min_size=n, max_size=n)), draw(st.lists(numbers, min_size=n, max_size=n)))
        for n in lengths
    ]
    unit = st.floats(0, 1, width=32)
    return [line[0] for line in lines], [line[1] for line in lines], draw(unit), draw(unit)


def pad(lines: list[list[float]], *, left: int = 0, right: int = 0, filling: float = 0.0) -> torch.Tensor:
    """(n, T): `left` columns of filling before, and at least `right` after the lines."""
    longest = max(len(line) for line in lines)
    rows = [[filling] * left + line + [filling] * (longest - len(line) + right) for line in lines]
    return torch.tensor(rows, dtype=torch.float64)


def test_advantages_by_hand() -> None:
    """Rewards 0, 0, 1; values 0.5, 0.5, 0.5; gamma 1, lambda 1/2. Errors: 0, 0, 0.5. A_3 = 0.5, A_2 = 0 + 0.25,
    A_1 = 0 + 0.125."""
    found = estimate_advantages(torch.tensor([[0.0, 0.0, 1.0]]), torch.full((1, 3), 0.5), WHOLE, gamma=1.0, lam=0.5)
    assert found.tolist() == [[0.125, 0.25, 0.5]]


def test_discounting_by_hand() -> None:
    """Rewards 1, 2; values 3, 4; gamma 1/2, lambda 1. d_2 = 2 - 4 = -2; d_1 = 1 + 2 - 3 = 0; A_1 = 0 - 1 = -1: the
    discounted return 1 + 2/2 = 2, minus 3."""
    found = estimate_advantages(
        torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0, 4.0]]), WHOLE[:, :2], gamma=0.5, lam=1.0
    )
    assert found.tolist() == [[-1.0, -2.0]]


@settings(max_examples=60, deadline=None)
@given(rollouts(), st.integers(0, 2), st.integers(0, 2))
def test_advantages_are_those_of_the_double_sum_wherever_the_padding_is(
    rollout: tuple[list[list[float]], list[list[float]], float, float], left: int, right: int
) -> None:
    rewards, values, gamma, lam = rollout
    mask = pad([[1.0] * len(line) for line in rewards], left=left, right=right) > 0
    where = {"left": left, "right": right, "filling": 1e6}
    found = estimate_advantages(pad(rewards, **where), pad(values, **where), mask, gamma=gamma, lam=lam)  # type: ignore[arg-type]
    for line, own, reward, value in zip(found, mask, rewards, values, strict=True):
        assert line[own].tolist() == pytest.approx(estimate_naively(reward, value, gamma=gamma, lam=lam)[0], abs=1e-9)
        assert line[~own].abs().sum() == 0


@settings(max_examples=60, deadline=None)
@given(rollouts())
def test_with_lambda_one_advantages_are_discounted_returns_minus_values(
    rollout: tuple[list[list[float]], list[list[float]], float, float],
) -> None:
    rewards, values, gamma, _ = rollout
    mask = pad([[1.0] * len(line) for line in rewards]) > 0
    found = estimate_advantages(pad(rewards), pad(values), mask, gamma=gamma, lam=1.0)
    for line, own, reward, value in zip(found, mask, rewards, values, strict=True):
        returns = estimate_naively(reward, value, gamma=gamma, lam=1.0)[1]
        assert line[own].tolist() == pytest.approx([r - v for r, v in zip(returns, value, strict=True)], abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(rollouts())
def test_whitened_values_have_mean_0_and_variance_1_under_the_mask(
    rollout: tuple[list[list[float]], list[list[float]], float, float],
) -> None:
    """Unless all are (almost) equal; without the shift the mean stays. The padding holds a million."""
    values = pad(rollout[0], right=1, filling=1e6)
    mask = pad([[1.0] * len(line) for line in rollout[0]], right=1) > 0
    mean = masked_mean(values, mask)
    if masked_variance(values, mask) < 1e-6:
        return
    for shift, expected in ((True, 0.0), (False, float(mean))):
        found = whiten(values, mask, shift=shift)
        assert float(found[mask].mean()) == pytest.approx(expected, abs=1e-6)
        assert float(found[mask].var(unbiased=False)) == pytest.approx(1.0, abs=1e-4)
        assert found[~mask].abs().sum() == 0


def test_equal_values_are_whitened_to_zero() -> None:
    assert whiten(torch.full((1, 3), 7.0), WHOLE).tolist() == [[0.0, 0.0, 0.0]]


def test_the_clipped_loss_by_hand() -> None:
    """clip 0.2, ratios 1.5, 1.5, 0.5, 0.5 with advantages 1, -1, 1, -1. min(1.5, 1.2) = 1.2; min(-1.5, -1.2) = -1.5;
    min(0.5, 0.8) = 0.5; min(-0.5, -0.8) = -0.8. The first and the last are held by the clip."""
    ratios = torch.tensor([1.5, 1.5, 0.5, 0.5])
    advantages = torch.tensor([1.0, -1.0, 1.0, -1.0])
    log_probs = ratios.log().requires_grad_()
    losses = clipped_policy_loss(log_probs, torch.zeros(4), advantages, clip=0.2)
    assert losses.tolist() == pytest.approx([-1.2, 1.5, -0.5, 0.8])
    losses.sum().backward()
    assert log_probs.grad is not None
    assert log_probs.grad.tolist() == pytest.approx([0.0, 1.5, -0.5, 0.0])
    assert is_clipped(ratios, advantages, clip=0.2).tolist() == [True, False, False, True]


@settings(max_examples=60, deadline=None)
@given(st.floats(-2, 2), st.floats(-2, 2), st.floats(-3, 3), st.floats(0.01, 0.9))
def test_the_clipped_loss_is_that_of_the_paper(new: float, old: float, advantage: float, clip: float) -> None:
    ratio = math.exp(new - old)
    expected = -min(ratio * advantage, max(1 - clip, min(1 + clip, ratio)) * advantage)
    tensors = [torch.tensor([value], dtype=torch.float64) for value in (new, old, advantage)]
    assert float(clipped_policy_loss(*tensors, clip=clip)) == pytest.approx(expected, abs=1e-9)


def test_the_clipped_value_loss_by_hand() -> None:
    """clip 0.2, old 0, return 1. V = 0.5: (0.5)^2 = 0.25 or, held at 0.2, 0.64: 0.32. V = -0.5: 2.25 against 1.44:
    1.125. V = 0.1 is within the clip: 0.405."""
    values, zero, one = torch.tensor([0.5, -0.5, 0.1]), torch.zeros(3), torch.ones(3)
    assert clipped_value_loss(values, zero, one, clip=0.2).tolist() == pytest.approx([0.32, 1.125, 0.405])
    assert clipped_value_loss(values, zero, one, clip=None).tolist() == pytest.approx([0.125, 1.125, 0.405])


def test_kl_estimators_by_hand() -> None:
    """l = ln 2: k1 0.6931, k2 0.2402, k3 1/2 - 1 + 0.6931 = 0.1931."""
    log_probs, reference = torch.tensor([math.log(0.5)]), torch.tensor([math.log(0.25)])
    found = {name: float(estimate_kl(log_probs, reference, estimator=name)) for name in ("k1", "k2", "k3")}
    assert found == pytest.approx({"k1": 0.693147, "k2": 0.240227, "k3": 0.193147}, abs=1e-6)
    with pytest.raises(ValueError, match="unknown KL estimator 'k4'"):
        estimate_kl(log_probs, reference, estimator="k4")


@settings(max_examples=60, deadline=None)
@given(st.lists(st.floats(-2, 2), min_size=4, max_size=4), st.lists(st.floats(-2, 2), min_size=4, max_size=4))
def test_k1_and_k3_are_the_kl_in_expectation_and_k2_and_k3_never_negative(
    ours: list[float], theirs: list[float]
) -> None:
    policy, reference = (torch.tensor(logits, dtype=torch.float64).log_softmax(0) for logits in (ours, theirs))
    exact = float((policy.exp() * (policy - reference)).sum())
    for name in ("k1", "k3"):
        assert float((policy.exp() * estimate_kl(policy, reference, estimator=name)).sum()) == pytest.approx(
            exact, abs=1e-9
        )
    for name in ("k2", "k3"):
        assert estimate_kl(policy, reference, estimator=name).min() >= -1e-12


def test_entropy_by_hand() -> None:
    """Half and half: ln 2; all on one: 0. A constant added to the logits changes nothing."""
    found = entropy(torch.tensor([[3.0, 3.0, -torch.inf], [100.0, 0.0, 0.0]]).nan_to_num(neginf=-1e4))
    assert found.tolist() == pytest.approx([math.log(2), 0.0], abs=1e-6)


def test_the_coefficient_rises_where_kl_is_above_its_target() -> None:
    """Ziegler's controller: error 0.1 -> times 1.01; 5 is held at 0.2 -> 1.02; -1 at -0.2 -> 0.98."""
    assert adapt_coefficient(0.5, kl=6.6, target=6.0) == pytest.approx(0.505)
    assert adapt_coefficient(0.5, kl=36.0, target=6.0) == pytest.approx(0.51)
    assert adapt_coefficient(0.5, kl=0.0, target=6.0) == pytest.approx(0.49)


def test_responses_without_an_end_cost_a_penalty_or_have_a_score_of_their_own() -> None:
    scores, ended = torch.tensor([2.0, 2.0]), torch.tensor([True, False])
    assert handle_missing_end(scores, ended).tolist() == [2.0, 2.0]
    assert handle_missing_end(scores, ended, penalty=0.5).tolist() == [2.0, 1.5]
    assert handle_missing_end(scores, ended, replacement=-1.0).tolist() == [2.0, -1.0]


def test_the_score_stands_at_the_last_token_wherever_the_padding_is() -> None:
    mask = torch.tensor([[True, True, False], [False, True, True], [False, False, False]])
    assert find_last_tokens(mask).tolist() == [[False, True, False], [False, False, True], [False, False, False]]
    found = place_rewards(torch.tensor([5.0, 7.0, 9.0]), torch.full((3, 3), 0.5), mask)
    assert found.tolist() == [[-0.5, 4.5, 0.0], [0.0, -0.5, 6.5], [0.0, 0.0, 0.0]]


def test_explained_variance_of_a_perfect_a_constant_and_a_misleading_critic() -> None:
    """Returns 1, 2, 3 of variance 2/3. Values 3, 2, 1 leave -2, 0, 2 of variance 8/3: 1 - 4."""
    returns = torch.tensor([[1.0, 2.0, 3.0]])
    assert float(explained_variance(returns, returns, WHOLE)) == 1.0
    assert float(explained_variance(torch.full((1, 3), 9.0), returns, WHOLE)) == 0.0
    assert float(explained_variance(returns.flip(1), returns, WHOLE)) == pytest.approx(-3.0)
    assert not math.isfinite(float(explained_variance(returns, torch.ones(1, 3), WHOLE)))


def test_targets_by_hand() -> None:
    """Scores 9 and 1, clipped to 2 and 1; the second did not end: -0.5. KL of 1 nat a token at coefficient 0.1.
    Rewards: -0.1, 1.9 and 0.4. Values 0, lambda 1: advantages and returns 1.8, 1.9 and 0.4."""
    mask = torch.tensor([[True, True], [True, False]])
    found = set_targets(
        scores=torch.tensor([9.0, 1.0]),
        ended=torch.tensor([True, False]),
        log_probs=torch.zeros(2, 2),
        reference=torch.full((2, 2), -1.0),
        values=torch.zeros(2, 2),
        mask=mask,
        settings=Settings(lam=1.0, kl_coefficient=0.1, reward_clip=2.0, eos_penalty=0.5, whiten_advantages=False),
    )
    assert found.rewards.flatten().tolist() == pytest.approx([-0.1, 1.9, 0.4, 0.0])
    assert found.advantages.flatten().tolist() == pytest.approx([1.8, 1.9, 0.4, 0.0])
    assert found.returns.tolist() == found.advantages.tolist()


def test_padding_and_batch_composition_change_no_target_unless_they_are_whitened_together() -> None:
    """Two responses side by side, alone, and with columns more on either side."""
    torch.manual_seed(0)
    mask = torch.tensor([[True, True, True], [True, False, False]])
    log_probs, reference, values = torch.randn(3, 2, 3, dtype=torch.float64)
    scores, ended = torch.tensor([1.0, -1.0], dtype=torch.float64), torch.tensor([True, False])
    plain = Settings(whiten_advantages=False)

    def find(rows: slice, left: int, right: int) -> torch.Tensor:
        wide = [
            torch.nn.functional.pad(part[rows], (left, right), value=99.0) for part in (log_probs, reference, values)
        ]
        seen = torch.nn.functional.pad(mask[rows], (left, right))
        made = set_targets(
            scores=scores[rows],
            ended=ended[rows],
            log_probs=wide[0],
            reference=wide[1],
            values=wide[2],
            mask=seen,
            settings=plain,
        )
        return torch.cat([made.advantages[seen], made.returns[seen], made.rewards[seen]])

    whole = find(slice(0, 2), 0, 0)
    assert torch.equal(find(slice(0, 2), 2, 3), whole)
    apart = [find(slice(0, 1), 0, 0).split(3), find(slice(1, 2), 1, 0).split(1)]
    assert torch.equal(torch.cat([torch.cat(both) for both in zip(*apart, strict=True)]), whole)
