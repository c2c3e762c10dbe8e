"""What tells PPO, RLOO, GRPO and online DPO apart: what they make of a rollout's scores, and the loss of its tokens.

Everything else (prompts, sampling, reading, steps, checkpoints, report) is one loop, `train.ppo`; the arithmetic is in
`ppo_losses` and `group_losses`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import torch

from rewardmodel.contract import GRPOSpec, OnlineDPOSpec, OnlineSpec, PPOSpec, RLOOSpec
from rewardmodel.group_losses import leave_one_out, mark_extremes, paired_loss, standardize_groups, sum_responses
from rewardmodel.ppo_losses import (
    Settings,
    Targets,
    clipped_policy_loss,
    estimate_kl,
    is_clipped,
    place_rewards,
    set_targets,
    shape_scores,
    whiten,
)
from rewardmodel.train.rollouts import Rollout


@dataclass(frozen=True, kw_only=True)
class Reading:
    """Responses of a minibatch, read again. log_probs (with their gradient), old (at the rollout), reference and
    advantages: (m,), token after token; lengths: (responses,)."""

    log_probs: torch.Tensor
    old: torch.Tensor
    reference: torch.Tensor
    advantages: torch.Tensor
    lengths: torch.Tensor


@dataclass(frozen=True)
class Losses:
    """Of some responses: losses, a number a token, response or prompt; clipped: (m,) bool, the tokens that move the
    policy no more."""

    each: torch.Tensor
    clipped: torch.Tensor


class Objective(Protocol):
    """A method. coefficient: how much the KL weighs, which may be adapted between steps."""

    coefficient: float

    def aim(self, rollout: Rollout, *, coefficient: float) -> Targets:
        """Rewards and advantages of a rollout, and returns where there is a critic."""

    def count(self, mask: torch.Tensor, advantages: torch.Tensor) -> int:
        """What a minibatch's sum of losses is divided by; both (responses, T)."""

    def measure(self, reading: Reading, *, coefficient: float) -> Losses:
        """The losses of some of a minibatch's prompts."""


def choose_objective(spec: OnlineSpec) -> Objective:
    """The objective of a spec's method."""
    if isinstance(spec, PPOSpec):
        return PPO(spec)
    if isinstance(spec, RLOOSpec):
        return RLOO(spec)
    if isinstance(spec, GRPOSpec):
        return GRPO(spec)
    assert isinstance(spec, OnlineDPOSpec)
    return OnlineDPO(spec)


class PPO:
    """Clipped token losses, advantages by GAE from a critic (Schulman et al. 2017)."""

    def __init__(self, spec: PPOSpec) -> None:
        self.spec, self.coefficient = spec, spec.kl_coefficient

    def aim(self, rollout: Rollout, *, coefficient: float) -> Targets:
        """As `ppo_losses.set_targets` says."""
        spec = self.spec
        return set_targets(
            scores=rollout.scores,
            ended=rollout.ended,
            log_probs=rollout.log_probs,
            reference=rollout.reference,
            values=rollout.values,
            mask=rollout.mask,
            settings=Settings(
                gamma=spec.gamma,
                lam=spec.lam,
                kl_coefficient=coefficient if spec.kl_in == "reward" else 0.0,
                kl_estimator=spec.kl_estimator or "k1",
                reward_clip=spec.reward_clip,
                eos_penalty=spec.eos_penalty,
                eos_score=spec.eos_score,
                whiten_rewards=spec.whiten_rewards,
                whiten_advantages=spec.whiten_advantages,
            ),
        )

    def count(self, mask: torch.Tensor, advantages: torch.Tensor) -> int:
        """Tokens."""
        return int(mask.sum())

    def measure(self, reading: Reading, *, coefficient: float) -> Losses:
        """A loss a token."""
        losses = clipped_policy_loss(reading.log_probs, reading.old, reading.advantages, clip=self.spec.clip)
        if self.spec.kl_in == "loss":
            estimator = self.spec.kl_estimator or "k2"
            losses = losses + coefficient * estimate_kl(reading.log_probs, reading.reference, estimator=estimator)
        return Losses(losses, _find_clipped(reading, clip=self.spec.clip))


class RLOO:
    """Whole responses as actions: the KL in their reward, the others' mean as baseline (Ahmadian et al. 2024).

    The ratio is that of responses, clipped as in TRL; in the paper's one pass it is 1, and the gradient REINFORCE's.
    """

    def __init__(self, spec: RLOOSpec) -> None:
        self.spec, self.coefficient = spec, spec.kl_coefficient

    def aim(self, rollout: Rollout, *, coefficient: float) -> Targets:
        """A response's advantage at each of its tokens."""
        kl = estimate_kl(rollout.log_probs, rollout.reference, estimator="k1")
        rewards = place_rewards(_shape(rollout, spec=self.spec), coefficient * kl, rollout.mask)
        advantages = leave_one_out(rewards.sum(1), group_size=self.spec.group_size)
        if self.spec.normalize_advantages:
            advantages = whiten(advantages, torch.ones_like(advantages, dtype=torch.bool))
        return _aim_at(rewards, advantages, mask=rollout.mask)

    def count(self, mask: torch.Tensor, advantages: torch.Tensor) -> int:
        """Responses."""
        return len(mask)

    def measure(self, reading: Reading, *, coefficient: float) -> Losses:
        """A loss a response."""
        said, old = (sum_responses(own, lengths=reading.lengths) for own in (reading.log_probs, reading.old))
        advantages = reading.advantages[reading.lengths.cumsum(0) - 1]
        held = is_clipped((said - old).exp(), advantages, clip=self.spec.clip).repeat_interleave(reading.lengths)
        return Losses(clipped_policy_loss(said, old, advantages, clip=self.spec.clip), held)


class GRPO:
    """Clipped token losses with the KL (k3) in them, scores standardised within a prompt (Shao et al. 2024, eq. 3)."""

    def __init__(self, spec: GRPOSpec) -> None:
        self.spec, self.coefficient = spec, spec.kl_coefficient

    def aim(self, rollout: Rollout, *, coefficient: float) -> Targets:
        """A response's advantage at each of its tokens."""
        scores = _shape(rollout, spec=self.spec)
        rewards = place_rewards(scores, torch.zeros_like(rollout.log_probs), rollout.mask)
        advantages = standardize_groups(scores, group_size=self.spec.group_size, scale=self.spec.scale_advantages)
        return _aim_at(rewards, advantages, mask=rollout.mask)

    def count(self, mask: torch.Tensor, advantages: torch.Tensor) -> int:
        """Responses, or tokens, as loss_mean says."""
        return len(mask) if self.spec.loss_mean == "response" else int(mask.sum())

    def measure(self, reading: Reading, *, coefficient: float) -> Losses:
        """A loss a token; of a mean over responses, divided by the length of its own."""
        losses = clipped_policy_loss(reading.log_probs, reading.old, reading.advantages, clip=self.spec.clip)
        losses = losses + coefficient * estimate_kl(reading.log_probs, reading.reference, estimator="k3")
        if self.spec.loss_mean == "response":
            losses = losses / reading.lengths.repeat_interleave(reading.lengths)
        return Losses(losses, _find_clipped(reading, clip=self.spec.clip))


class OnlineDPO:
    """DPO on the best and the worst response of each prompt (Guo et al. 2024); a prompt of equal scores teaches
    nothing. Its advantages are the signs of the two."""

    def __init__(self, spec: OnlineDPOSpec) -> None:
        self.spec, self.coefficient = spec, spec.beta

    def aim(self, rollout: Rollout, *, coefficient: float) -> Targets:
        """1 at each token of the best, -1 of the worst."""
        scores = _shape(rollout, spec=self.spec)
        rewards = place_rewards(scores, torch.zeros_like(rollout.log_probs), rollout.mask)
        return _aim_at(rewards, mark_extremes(scores, group_size=self.spec.group_size), mask=rollout.mask)

    def count(self, mask: torch.Tensor, advantages: torch.Tensor) -> int:
        """Pairs; 1 where there is none."""
        return max(1, int((advantages[:, 0] > 0).sum()))

    def measure(self, reading: Reading, *, coefficient: float) -> Losses:
        """A loss a prompt."""
        ratios = sum_responses(reading.log_probs - reading.reference, lengths=reading.lengths)
        signs = reading.advantages[reading.lengths.cumsum(0) - 1]
        losses = paired_loss(ratios, signs, group_size=self.spec.group_size, beta=coefficient)
        return Losses(losses, torch.zeros_like(reading.old, dtype=torch.bool))


def _shape(rollout: Rollout, *, spec: OnlineSpec) -> torch.Tensor:
    return shape_scores(
        rollout.scores,
        rollout.ended,
        clip=spec.reward_clip,
        eos_penalty=spec.eos_penalty,
        eos_score=spec.eos_score,
    )


def _aim_at(rewards: torch.Tensor, advantages: torch.Tensor, *, mask: torch.Tensor) -> Targets:
    """advantages: (n,), of whole responses. There is no critic, so returns are 0."""
    return Targets(rewards, torch.where(mask, advantages[:, None], 0.0), torch.zeros_like(rewards))


@torch.no_grad()
def _find_clipped(reading: Reading, *, clip: float) -> torch.Tensor:
    return is_clipped((reading.log_probs - reading.old).exp(), reading.advantages, clip=clip)
