"""Losses of a policy on preferences, as pure functions of log-probabilities.

A policy's log-ratio is log pi(y|x) - log pi_ref(y|x), summed over the tokens of a completion, in nats. `better` and
`worse` are those of the two sides, (pairs,), and every loss is one a pair, (pairs,). Where a loss has a name in TRL, it
is that loss (tests hold them to TRL's).

Not here: reading log-probabilities (`log_probs`), and the reference (`train.dpo`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F


@dataclass(frozen=True)
class Sides:
    """Both sides of some pairs: log-ratios in nats and lengths of completions in tokens, each (pairs,)."""

    better: torch.Tensor
    worse: torch.Tensor
    better_lengths: torch.Tensor
    worse_lengths: torch.Tensor

    def per_token(self) -> torch.Tensor:
        """The lead of the better side in nats a token: each log-ratio divided by its length."""
        return self.better / self.better_lengths.clamp_min(1) - self.worse / self.worse_lengths.clamp_min(1)


@dataclass(frozen=True)
class Settings:
    """beta: strength of the pull towards the reference. smoothing: probability that a label is the wrong way round.
    target_margin: the lead that SimPO asks for, in its own units. length_control: R-DPO's alpha, a token."""

    beta: float
    smoothing: float = 0.0
    target_margin: float = 0.0
    length_control: float = 0.0


def smoothed(leads: torch.Tensor, *, smoothing: float) -> torch.Tensor:
    """-(1 - e) log sigmoid(d) - e log sigmoid(-d): every label is wrong with probability e (cDPO, Mitchell 2023)."""
    return -(1 - smoothing) * F.logsigmoid(leads) - smoothing * F.logsigmoid(-leads)


def sigmoid(sides: Sides, settings: Settings) -> torch.Tensor:
    """-log sigmoid(beta (r_w - r_l)) (Rafailov et al. 2023, eq. 7).

    length_control adds alpha (|y_w| - |y_l|) inside, which takes length out of what is learned (R-DPO, Park et al.
    2024, eq. 9).
    """
    leads = settings.beta * (sides.better - sides.worse)
    longer = sides.better_lengths - sides.worse_lengths
    return smoothed(leads + settings.length_control * longer, smoothing=settings.smoothing)


def sigmoid_norm(sides: Sides, settings: Settings) -> torch.Tensor:
    """The same of log-ratios a token: long completions no longer count more."""
    return smoothed(settings.beta * sides.per_token(), smoothing=settings.smoothing)


def robust(sides: Sides, settings: Settings) -> torch.Tensor:
    """The loss whose mean under labels turned round with probability e is DPO's own (Chowdhury et al. 2024, eq. 12)."""
    leads = settings.beta * (sides.better - sides.worse)
    e = settings.smoothing
    return (-(1 - e) * F.logsigmoid(leads) + e * F.logsigmoid(-leads)) / (1 - 2 * e)


def hinge(sides: Sides, settings: Settings) -> torch.Tensor:
    """max(0, 1 - beta (r_w - r_l)) (Zhao et al. 2023, SLiC; Liu et al. 2023, RSO)."""
    return torch.relu(1 - settings.beta * (sides.better - sides.worse))


def ipo(sides: Sides, settings: Settings) -> torch.Tensor:
    """(h - 1 / (2 beta))^2, h the lead in log-ratio a token (Azar et al. 2023, eq. 17, as its authors compute it)."""
    return (sides.per_token() - 1 / (2 * settings.beta)) ** 2


def apo_zero(sides: Sides, settings: Settings) -> torch.Tensor:
    """1 - sigmoid(beta r_w) + sigmoid(beta r_l): for chosen responses better than the policy's (D'Oosterlinck et al.
    2024, eq. 7)."""
    return 1 - torch.sigmoid(settings.beta * sides.better) + torch.sigmoid(settings.beta * sides.worse)


def apo_down(sides: Sides, settings: Settings) -> torch.Tensor:
    """sigmoid(beta r_w) + 1 - sigmoid(beta (r_w - r_l)): for chosen responses worse than the policy's (the same, eq.
    8)."""
    leads = settings.beta * (sides.better - sides.worse)
    return torch.sigmoid(settings.beta * sides.better) + 1 - torch.sigmoid(leads)


def simpo(sides: Sides, settings: Settings) -> torch.Tensor:
    """-log sigmoid(beta (log pi_w / |y_w| - log pi_l / |y_l|) - gamma), without a reference: the sides hold plain
    log-probabilities (Meng et al. 2024, eq. 6)."""
    return smoothed(settings.beta * sides.per_token() - settings.target_margin, smoothing=settings.smoothing)


LOSSES: dict[str, Callable[[Sides, Settings], torch.Tensor]] = {
    "sigmoid": sigmoid,
    "hinge": hinge,
    "ipo": ipo,
    "robust": robust,
    "apo_zero": apo_zero,
    "apo_down": apo_down,
    "sigmoid_norm": sigmoid_norm,
    "simpo": simpo,
}
