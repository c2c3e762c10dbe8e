"""Losses of a reward model, as pure functions of rewards.

Every function takes reward differences d = r(x, better) - r(x, worse), shape (pairs,), and returns one loss a pair in
nats, shape (pairs,), unless it says otherwise; `weighted_mean` makes a scalar of them. The mean over all pairs of a
group whose responses were each read once is the K-wise loss of Ouyang et al. (2022, eq. 1): its gradient is that of
the same pairs read pair by pair, since every reward is the same function of its own response either way.

Not here: which pairs a ranking gives (`rankings`), and reading rewards.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def bradley_terry(
    differences: torch.Tensor, *, margins: torch.Tensor | None = None, probabilities: torch.Tensor | None = None
) -> torch.Tensor:
    """-p log sigmoid(d - m) - (1 - p) log sigmoid(-d - m) (Bradley & Terry 1952; Stiennon et al. 2020, eq. 1).

    m >= 0 is the lead that the better response should have (Touvron et al. 2023, Llama 2, eq. 2), 0 unless given.
    p is the probability that the response called better is so (soft labels), 1 unless given; each label is held to the
    same margin.
    """
    margins = torch.zeros_like(differences) if margins is None else margins
    losses = -F.logsigmoid(differences - margins)
    if probabilities is None:
        return losses
    return probabilities * losses - (1 - probabilities) * F.logsigmoid(-differences - margins)


def smooth_labels(probabilities: torch.Tensor, *, smoothing: float) -> torch.Tensor:
    """(1 - e) p + e (1 - p): every label is wrong with probability e (conservative BT; Mitchell 2023, cDPO)."""
    return (1 - smoothing) * probabilities + smoothing * (1 - probabilities)


def davidson(
    differences: torch.Tensor, *, tied: torch.Tensor, tie_strength: float, probabilities: torch.Tensor | None = None
) -> torch.Tensor:
    """Bradley-Terry with ties of Davidson (1970).

    P(better) = e^(d/2) / Z, P(worse) = e^(-d/2) / Z, P(tie) = v / Z with Z = e^(d/2) + e^(-d/2) + v, v = tie_strength.
    tied: (pairs,) bool. With v = 0 and no ties it is Bradley-Terry. A soft label p divides a pair between better and
    worse.
    """
    half = differences / 2
    level = torch.full_like(half, tie_strength).log()
    total = torch.logsumexp(torch.stack([half, -half, level]), dim=0)
    p = torch.ones_like(half) if probabilities is None else probabilities
    said = torch.where(tied, level, (2 * p - 1) * half)
    return total - said


def rao_kupper(
    differences: torch.Tensor, *, tied: torch.Tensor, tie_strength: float, probabilities: torch.Tensor | None = None
) -> torch.Tensor:
    """Bradley-Terry with ties of Rao & Kupper (1967): differences below log t are not perceived.

    P(better) = sigmoid(d - log t), P(worse) = sigmoid(-d - log t), P(tie) = (t^2 - 1) P(better) P(worse), where
    t = tie_strength >= 1. tied: (pairs,) bool. With t = 1 and no ties it is Bradley-Terry.
    """
    threshold = torch.full_like(differences, tie_strength).log()
    better = F.logsigmoid(differences - threshold)
    worse = F.logsigmoid(-differences - threshold)
    p = torch.ones_like(differences) if probabilities is None else probabilities
    # log(t^2 - 1) is -inf for t = 1, where a tie cannot happen; it must not touch the pairs that are not tied.
    level = torch.full_like(differences, max(tie_strength**2 - 1, 1e-12)).log() + better + worse
    return -torch.where(tied, level, p * better + (1 - p) * worse)


def tie_strength_of(loss: str, *, share: float) -> float:
    """The tie parameter at which two equal responses tie with probability `share` in [0, 1).

    Davidson: v / (2 + v) = s gives v = 2s / (1 - s). Rao-Kupper: (t - 1) / (t + 1) = s gives t = (1 + s) / (1 - s).
    """
    if not 0 <= share < 1:
        raise ValueError(f"the share of ties must be at least 0 and below 1, got {share}")
    return 2 * share / (1 - share) if loss == "davidson" else (1 + share) / (1 - share)


def plackett_luce(rewards: torch.Tensor, *, order: Sequence[int] | torch.Tensor) -> torch.Tensor:
    """-log P of one strict order, a scalar (Plackett 1975; Luce 1959; as a loss: Xia et al. 2008, ListMLE).

    rewards: (K,); order: indices, best first. The sum over places i of logsumexp(r_i, ..., r_K) - r_i. An order of two
    is Bradley-Terry.
    """
    ordered = rewards[torch.as_tensor(order, device=rewards.device)]
    remaining = torch.logcumsumexp(ordered.flip(0), dim=0).flip(0)  # (K,): over those not yet chosen
    return (remaining - ordered).sum()


def centring(better: torch.Tensor, worse: torch.Tensor) -> torch.Tensor:
    """(r_better + r_worse)^2, which fixes the rewards' free constant near 0 (Eisenstein et al. 2023)."""
    return (better + worse) ** 2


def length_correlation(differences: torch.Tensor, *, length_differences: torch.Tensor) -> torch.Tensor:
    """How far reward follows length over some pairs, a scalar in [0, 1].

    The correlation that ODIN penalises (Chen et al. 2024), squared, and taken over differences without their means, so
    that it does not matter which side of a pair is called better: (sum d l)^2 / (sum d^2 sum l^2), with l the
    difference in length. 0 where either is constantly 0.
    """
    lengths = length_differences.to(differences.dtype)
    scale = (differences**2).sum() * (lengths**2).sum()
    return (differences * lengths).sum() ** 2 / scale.clamp_min(torch.finfo(differences.dtype).tiny)


def weighted_mean(losses: torch.Tensor, *, weights: torch.Tensor) -> torch.Tensor:
    """sum w l / sum w, a scalar."""
    return (weights * losses).sum() / weights.sum()
