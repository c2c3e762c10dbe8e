"""A bandit over tokens whose best policy under KL is known: PPO's own functions reach it."""

import torch

from rewardmodel.ppo_losses import Settings, clipped_policy_loss, clipped_value_loss, masked_mean, set_targets

TOKENS, BETA = 4, 0.5
ROLLOUT, STEPS, EPOCHS, CLIP = 2048, 150, 4, 0.2


def test_ppo_reaches_the_best_policy_of_a_bandit_over_tokens_within_two_hundredths() -> None:
    """Two tokens of four, a score for each of the 16 responses. Of E[r] - beta KL(pi || pi_ref) the maximum is pi* =
    pi_ref exp(r / beta) / Z (Ziegler et al. 2019, eq. 1), and the objective's value there beta log Z.

    A tabular policy and critic, KL in the reward, GAE, whitened advantages, clipped losses, Adam. Held: the objective
    within 2 % of the way from pi_ref to pi*, the total variation from pi* below 0.02 where pi_ref's is above 0.3.
    """
    torch.manual_seed(0)
    scores = torch.randn(TOKENS, TOKENS)
    reference = [torch.randn(TOKENS), torch.randn(TOKENS, TOKENS)]
    start = measure_chances(reference).log()
    best_value = BETA * torch.logsumexp((start + scores / BETA).flatten(), 0)
    best = (start + scores / BETA).flatten().softmax(0).view_as(scores)
    assert total_variation(start.exp(), best) > 0.3

    policy = [part.clone().requires_grad_() for part in reference]
    critic = [torch.zeros(1, requires_grad=True), torch.zeros(TOKENS, requires_grad=True)]
    adam = torch.optim.Adam([{"params": policy, "lr": 0.05}, {"params": critic, "lr": 0.05}])
    rates = torch.optim.lr_scheduler.LinearLR(adam, 1.0, 0.0, total_iters=STEPS)
    mask, ended = torch.ones(ROLLOUT, 2, dtype=torch.bool), torch.ones(ROLLOUT, dtype=torch.bool)
    for _ in range(STEPS):
        with torch.no_grad():
            drawn = torch.multinomial(measure_chances(policy).flatten(), ROLLOUT, replacement=True)
            first, second = drawn // TOKENS, drawn % TOKENS
            old = read_log_probs(policy, first, second)
            old_values = read_values(critic, first)
            targets = set_targets(
                scores=scores[first, second],
                ended=ended,
                log_probs=old,
                reference=read_log_probs(reference, first, second),
                values=old_values,
                mask=mask,
                settings=Settings(gamma=1.0, lam=0.95, kl_coefficient=BETA),
            )
        for _ in range(EPOCHS):
            for part in torch.randperm(ROLLOUT).chunk(4):
                log_probs = read_log_probs(policy, first[part], second[part])
                losses = clipped_policy_loss(log_probs, old[part], targets.advantages[part], clip=CLIP)
                values = read_values(critic, first[part])
                misses = clipped_value_loss(values, old_values[part], targets.returns[part], clip=CLIP)
                adam.zero_grad()
                (masked_mean(losses, mask[part]) + masked_mean(misses, mask[part])).backward()
                adam.step()
        rates.step()

    with torch.no_grad():
        chances = measure_chances(policy)
        value, before = (find_objective(own, scores=scores, start=start) for own in (chances, start.exp()))
    assert total_variation(chances, best) < 0.02
    assert (best_value - value) / (best_value - before) < 0.02


def measure_chances(policy: list[torch.Tensor]) -> torch.Tensor:
    """The chance of each response, (first, second)."""
    return policy[0].softmax(0)[:, None] * policy[1].softmax(1)


def read_log_probs(policy: list[torch.Tensor], first: torch.Tensor, second: torch.Tensor) -> torch.Tensor:
    """(n, 2)"""
    return torch.stack([policy[0].log_softmax(0)[first], policy[1].log_softmax(1)[first, second]], dim=1)


def read_values(critic: list[torch.Tensor], first: torch.Tensor) -> torch.Tensor:
    """Before each token, (n, 2)."""
    return torch.stack([critic[0].expand(len(first)), critic[1][first]], dim=1)


def find_objective(chances: torch.Tensor, *, scores: torch.Tensor, start: torch.Tensor) -> torch.Tensor:
    """E[r] - beta KL(pi || pi_ref), exactly."""
    return (chances * (scores - BETA * (chances.log() - start))).sum()


def total_variation(ours: torch.Tensor, theirs: torch.Tensor) -> float:
    return float((ours - theirs).abs().sum() / 2)
