"""What RLOO, GRPO and online DPO compute of several responses to each prompt, as pure functions.

Responses of a prompt stand side by side, `group_size` of them: scores and rewards are (n,), n a multiple of it, in the
units of the reward model. Log-probabilities are in nats; of tokens (m,), one response after another, `lengths` (n,).

Not here: what these methods share with PPO (`ppo_losses`), and which of it each uses (`train.objectives`).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

# Standardised scores are divided by their standard deviation and this much more, as in TRL.
SMALL = 1e-4


def leave_one_out(rewards: torch.Tensor, *, group_size: int) -> torch.Tensor:
    """R_i - mean of R_j over the k - 1 others of its prompt (Ahmadian et al. 2024, RLOO, eq. 7). (n,) -> (n,)"""
    grouped = rewards.view(-1, group_size)
    others = (grouped.sum(1, keepdim=True) - grouped) / (group_size - 1)
    return (grouped - others).flatten()


def standardize_groups(scores: torch.Tensor, *, group_size: int, scale: bool = True) -> torch.Tensor:
    """(r_i - mean r) / std r over the responses of its prompt (Shao et al. 2024, GRPO, section 4.1.2), std with G - 1.

    scale false: r_i - mean r alone, which does not favour prompts whose scores lie close together (Liu et al. 2025,
    Dr. GRPO). Where all scores of a prompt are equal: 0. (n,) -> (n,)
    """
    grouped = scores.view(-1, group_size)
    centred = grouped - grouped.mean(1, keepdim=True)
    return (centred / (grouped.std(1, keepdim=True) + SMALL) if scale else centred).flatten()


def mark_extremes(scores: torch.Tensor, *, group_size: int) -> torch.Tensor:
    """1 at the best response of each prompt, -1 at the worst, 0 elsewhere and where all scores are equal; the first of
    equal ones. (n,) -> (n,)"""
    grouped = scores.view(-1, group_size)
    signs = torch.zeros_like(grouped)
    signs.scatter_(1, grouped.argmin(1, keepdim=True), -1.0)
    signs.scatter_(1, grouped.argmax(1, keepdim=True), 1.0)
    return torch.where(find_equal(scores, group_size=group_size)[:, None], 0.0, signs).flatten()


def find_equal(scores: torch.Tensor, *, group_size: int) -> torch.Tensor:
    """Whether all responses of a prompt have one score, (n,) -> (n / group_size,) bool."""
    grouped = scores.view(-1, group_size)
    return grouped.amax(1) == grouped.amin(1)


def sum_responses(tokens: torch.Tensor, *, lengths: torch.Tensor) -> torch.Tensor:
    """The sum over each response's tokens, (m,) -> (n,)."""
    return torch.segment_reduce(tokens, "sum", lengths=lengths)


def paired_loss(ratios: torch.Tensor, signs: torch.Tensor, *, group_size: int, beta: float) -> torch.Tensor:
    """-log sigmoid(beta (l_best - l_worst)) of each prompt with a best and a worst, 0 of others (Rafailov et al. 2023,
    eq. 7, on pairs as in Guo et al. 2024, OAIF). ratios: l = log pi - log pi_ref of responses, (n,); signs: those of
    `mark_extremes`. -> (n / group_size,)"""
    leads = (signs * ratios).view(-1, group_size).sum(1)
    paired = signs.view(-1, group_size).abs().sum(1) > 0
    return torch.where(paired, -F.logsigmoid(beta * leads), 0.0)
