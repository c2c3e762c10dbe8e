"""What PPO computes of tokens' log-probabilities, values and rewards, as pure functions.

Responses are lines of rectangles (n, T): a token a column, `mask` (n, T) bool true where there is one; what stands
under a false mask is never read. Log-probabilities, entropies and KL are in nats, scores and rewards in the units of
the reward model, values in those of returns. Functions of single tokens take any shape and leave the mask to the mean.

Not here: reading log-probabilities (`log_probs`), sampling and the loop (`train.ppo`), groups (`group_losses`).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

# Whitened values are divided by their standard deviation and this much more.
SMALL = 1e-8
# The controller of Ziegler et al. (2019, section 2.2): its gain a step, and the bound of the error it sees.
GAIN, LARGEST_ERROR = 0.1, 0.2


def masked_mean(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The mean over the tokens that are there, a scalar; 0 where none is."""
    return torch.where(mask, values, 0.0).sum() / mask.sum().clamp_min(1)


def masked_variance(values: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """The population variance over the tokens that are there, a scalar."""
    return masked_mean((values - masked_mean(values, mask)) ** 2, mask)


def whiten(values: torch.Tensor, mask: torch.Tensor, *, shift: bool = True) -> torch.Tensor:
    """Values of variance 1, and of mean 0 unless shift is false, which keeps the mean; 0 under a false mask.

    Rewards keep their mean, advantages lose it (Huang et al. 2024, "The N implementation details of RLHF with PPO",
    after the code of Ziegler et al. 2019). (n, T) -> (n, T)
    """
    mean = masked_mean(values, mask)
    scaled = (values - mean) / (masked_variance(values, mask).sqrt() + SMALL)
    return torch.where(mask, scaled if shift else scaled + mean, 0.0)


def estimate_kl(log_probs: torch.Tensor, reference: torch.Tensor, *, estimator: str) -> torch.Tensor:
    """KL(pi || pi_ref) at each token, estimated from the token drawn from pi (Schulman 2020, "Approximating KL
    divergence").

    With l = log pi - log pi_ref: k1 = l, without bias; k2 = l^2 / 2, never negative, with bias, little noise;
    k3 = e^-l - 1 + l, never negative and without bias.
    """
    ratio = log_probs - reference
    if estimator == "k1":
        return ratio
    if estimator == "k2":
        return ratio**2 / 2
    if estimator == "k3":
        return torch.expm1(-ratio) + ratio
    raise ValueError(f"unknown KL estimator '{estimator}': known are k1, k2, k3")


def handle_missing_end(
    scores: torch.Tensor, ended: torch.Tensor, *, penalty: float = 0.0, replacement: float | None = None
) -> torch.Tensor:
    """Scores in which responses that did not end themselves cost `penalty`, or have the score `replacement` instead.

    The second is the "EOS trick" of Huang et al. (2024), with -1: what a reward model says of half a
    response means little. scores: (n,); ended: (n,) bool.
    """
    unfinished = scores - penalty if replacement is None else torch.full_like(scores, replacement)
    return torch.where(ended, scores, unfinished)


def shape_scores(
    scores: torch.Tensor,
    ended: torch.Tensor,
    *,
    clip: float | None = None,
    eos_penalty: float = 0.0,
    eos_score: float | None = None,
) -> torch.Tensor:
    """Scores within plus and minus clip, then with the missing end minded (`handle_missing_end`). (n,) -> (n,)"""
    if clip is not None:
        scores = scores.clamp(-clip, clip)
    return handle_missing_end(scores, ended, penalty=eos_penalty, replacement=eos_score)


def place_rewards(scores: torch.Tensor, penalties: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """A reward at each token: minus its penalty, and at a response's last token its score too (Ziegler et al. 2019,
    eq. 2). scores: (n,); penalties, mask: (n, T) -> (n, T)"""
    rewards = torch.where(mask, -penalties, 0.0)
    return rewards + torch.where(find_last_tokens(mask), scores[:, None], 0.0)


def find_last_tokens(mask: torch.Tensor) -> torch.Tensor:
    """Where each line's last token is, (n, T) bool; a line without tokens has none."""
    columns = torch.arange(mask.shape[1], device=mask.device).expand_as(mask)
    last = torch.where(mask, columns, -1).amax(dim=1, keepdim=True)
    return mask & (columns == last)


def estimate_advantages(
    rewards: torch.Tensor, values: torch.Tensor, mask: torch.Tensor, *, gamma: float, lam: float
) -> torch.Tensor:
    """A_t = sum_l (gamma lam)^l d_(t+l), d_t = r_t + gamma V(s_(t+1)) - V(s_t) (Schulman et al. 2016, GAE, eq. 16).

    V(s_t) is the value before token t. After a response's last token nothing follows, whether it ended itself or not:
    V is 0 there. Tokens of a line stand side by side, from any column on. (n, T) -> (n, T), 0 under a false mask.
    """
    advantages = torch.zeros_like(values)
    following_value = torch.zeros_like(values[:, 0])
    following = torch.zeros_like(values[:, 0])
    for place in reversed(range(values.shape[1])):
        here = mask[:, place]
        error = rewards[:, place] + gamma * following_value - values[:, place]
        following = torch.where(here, error + gamma * lam * following, 0.0)
        following_value = torch.where(here, values[:, place], 0.0)
        advantages[:, place] = following
    return advantages


def clipped_policy_loss(
    log_probs: torch.Tensor, old_log_probs: torch.Tensor, advantages: torch.Tensor, *, clip: float
) -> torch.Tensor:
    """-min(rho A, clip(rho, 1 - e, 1 + e) A) at each token, rho = pi / pi_old (Schulman et al. 2017, PPO, eq. 7)."""
    ratios = (log_probs - old_log_probs).exp()
    return torch.maximum(-advantages * ratios, -advantages * ratios.clamp(1 - clip, 1 + clip))


def is_clipped(ratios: torch.Tensor, advantages: torch.Tensor, *, clip: float) -> torch.Tensor:
    """Where the clipped side of eq. 7 is the smaller one, so that a token moves the policy no more; bool."""
    return ((ratios > 1 + clip) & (advantages > 0)) | ((ratios < 1 - clip) & (advantages < 0))


def clipped_value_loss(
    values: torch.Tensor, old_values: torch.Tensor, returns: torch.Tensor, *, clip: float | None
) -> torch.Tensor:
    """max((V - R)^2, (V_clip - R)^2) / 2 at each token, V_clip within `clip` of the value at the rollout (Huang et al.
    2024, after OpenAI's baselines). clip None: (V - R)^2 / 2."""
    plain = (values - returns) ** 2
    if clip is None:
        return plain / 2
    near = old_values + (values - old_values).clamp(-clip, clip)
    return torch.maximum(plain, (near - returns) ** 2) / 2


def entropy(logits: torch.Tensor) -> torch.Tensor:
    """-sum p log p of each row of logits, (..., vocabulary) -> (...)."""
    levels = logits.log_softmax(-1)
    return -(levels.exp() * levels).sum(-1)


def explained_variance(values: torch.Tensor, returns: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
    """1 - Var(R - V) / Var(R), a scalar: 1 for a critic that foretells returns, 0 for a constant one, below for a
    misleading one. Not finite where all returns are equal."""
    return 1 - masked_variance(returns - values, mask) / masked_variance(returns, mask)


def adapt_coefficient(coefficient: float, *, kl: float, target: float) -> float:
    """The next KL coefficient: b (1 + K e), e = KL / target - 1 within +-0.2, K = 0.1 (Ziegler et al. 2019, section
    2.2). kl, target: nats a response."""
    error = max(-LARGEST_ERROR, min(LARGEST_ERROR, kl / target - 1))
    return coefficient * (1 + GAIN * error)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How rewards and advantages come of a rollout. kl_coefficient: that of the KL in the reward, 0 where it is in the
    loss. The rest as in `contract.PPOSpec`."""

    gamma: float = 1.0
    lam: float = 0.95
    kl_coefficient: float = 0.05
    kl_estimator: str = "k1"
    reward_clip: float | None = None
    eos_penalty: float = 0.0
    eos_score: float | None = None
    whiten_rewards: bool = False
    whiten_advantages: bool = True


@dataclass(frozen=True)
class Targets:
    """What a rollout's update aims at, each (n, T): rewards, advantages (whitened where asked for) and returns."""

    rewards: torch.Tensor
    advantages: torch.Tensor
    returns: torch.Tensor


def set_targets(
    *,
    scores: torch.Tensor,
    ended: torch.Tensor,
    log_probs: torch.Tensor,
    reference: torch.Tensor,
    values: torch.Tensor,
    mask: torch.Tensor,
    settings: Settings,
) -> Targets:
    """Scores to rewards to advantages: clip the score, mind the missing end, take the KL off, whiten, GAE.

    scores: (n,); ended: (n,) bool; the others (n, T). Returns are advantages before whitening, plus values.
    """
    scores = shape_scores(
        scores,
        ended,
        clip=settings.reward_clip,
        eos_penalty=settings.eos_penalty,
        eos_score=settings.eos_score,
    )
    kl = estimate_kl(log_probs, reference, estimator=settings.kl_estimator)
    rewards = place_rewards(scores, settings.kl_coefficient * kl, mask)
    if settings.whiten_rewards:
        rewards = whiten(rewards, mask, shift=False)
    advantages = estimate_advantages(rewards, values, mask, gamma=settings.gamma, lam=settings.lam)
    returns = torch.where(mask, advantages + values, 0.0)
    if settings.whiten_advantages:
        advantages = whiten(advantages, mask)
    return Targets(rewards, advantages, returns)
