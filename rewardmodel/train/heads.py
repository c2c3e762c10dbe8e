"""The linear head alone: fitted on the states of a model that stays as it is, and how sure one may be of it.

The objective is L(w) = sum over pairs of weight x loss + prior/2 |s w|^2, where s is each state coordinate's standard
deviation over the training responses: a Gaussian prior on the weights of standardised states. It is convex for all
losses but with `length_penalty`, and is minimised whole by L-BFGS in float64; no step size, no epochs.

Unless it is given, the prior is the one of a grid under which the data are likeliest (MacKay 1992; Daxberger et al.
2021, eq. 7): log p(D) = -loss - prior/2 |s w|^2 + d/2 log prior - 1/2 log det(H + prior), with H the loss's curvature.
The same H gives the posterior over the weights, whether they were fitted here or with the rest of the model.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch

from rewardmodel.compute import Compute
from rewardmodel.contract import RewardSpec
from rewardmodel.groups import Group
from rewardmodel.train.reward import RewardTraining, sum_orders
from rewardmodel.train.settle import CPU_TOKENS, Settled
from rewardmodel.uncertainty import Spread

# Priors tried, as multiples of the number of coordinates: at 1 a typical response's reward has a variance of 1.
GRID = tuple(10.0 ** (k / 2) for k in range(6, -9, -1))
MOST_ROUNDS = 500


@dataclass(frozen=True)
class Solution:
    """A head of standardised states, and what led to it."""

    weights: torch.Tensor
    prior: float
    loss: float
    evidence: float
    rounds: int


class HeadProblem:
    """Groups, and the states of their responses (n, d) in the groups' order."""

    def __init__(self, spec: RewardSpec, *, groups: Sequence[Group], states: torch.Tensor) -> None:
        self.spec, self.groups = spec, groups
        self.center = states.double().mean(0)
        scale = states.double().std(0)
        self.scale = torch.where(scale > 1e-9, scale, torch.ones_like(scale))
        self.states = (states.double() - self.center) / self.scale
        settled = Settled(False, "fp32", False, False, CPU_TOKENS, [])
        self._training = RewardTraining(
            torch.nn.Identity(),
            spec=spec,
            settled=settled,
            compute=Compute(device="cpu", precision="fp32"),
            groups=groups,
            steps=[],
            pad_id=0,
            optimize=False,
        )
        self._table = self._training._tabulate(groups)
        self._total = self._training._weigh(groups)
        self._pairs = sum(group.pairs for group in groups)

    @property
    def width(self) -> int:
        """How many weights there are."""
        return self.states.shape[1]

    def lose(self, weights: torch.Tensor) -> torch.Tensor:
        """The loss that training has, times the weight of all pairs: -log p(D | w)."""
        rewards = self.states @ weights
        loss, _ = self._training._lose(
            rewards, table=self._table, groups=self.groups, total=self._total, pairs=self._pairs
        )
        return self._total * loss

    def accuracy(self, weights: torch.Tensor) -> float:
        """Share of training pairs that are the right way round; a tie in the data counts half."""
        rewards = self.states @ weights
        leads = rewards[self._table.sides[:, 0]] - rewards[self._table.sides[:, 1]]
        return float(torch.where(self._table.tied, 0.5, (leads.sign() + 1) / 2).mean())

    def mean_loss(self, loss: float) -> float:
        """A loss as training's metrics have it."""
        return loss / self._total

    def curve(self, weights: torch.Tensor) -> torch.Tensor:
        """H, (d, d): second derivatives of the pairs' (or orders') losses, without centring and length penalty."""
        rewards = self.states @ weights
        if self.spec.loss == "plackett-luce":
            return self._curve_orders(rewards)
        first, second = self._table.sides.unbind(1)
        leads = (rewards[first] - rewards[second]).requires_grad_()
        loss = (self._table.weights * self._training._lose_pairs(leads, table=self._table)).sum()
        (slope,) = torch.autograd.grad(loss, leads, create_graph=True)
        (bend,) = torch.autograd.grad(slope.sum(), leads)
        total = torch.zeros(self.width, self.width, dtype=torch.float64)
        for part in torch.arange(len(leads)).split(4096):
            difference = self.states[first[part]] - self.states[second[part]]
            total += (difference * bend[part, None].clamp_min(0)).T @ difference
        return total

    def _curve_orders(self, rewards: torch.Tensor) -> torch.Tensor:
        total = torch.zeros(self.width, self.width, dtype=torch.float64)
        start = 0
        for group in self.groups:
            place = slice(start, start + len(group.sequences))
            start = place.stop
            bend = torch.autograd.functional.hessian(_lose_orders_of(group, equal=self._training.equal), rewards[place])
            total += self.states[place].T @ bend @ self.states[place]
        return total

    def resample(self, *, seed: str) -> HeadProblem:
        """As many prompts, drawn with replacement; states stay standardised as they were."""
        draw = random.Random(seed).choices(range(len(self.groups)), k=len(self.groups))
        starts = [0]
        for group in self.groups:
            starts.append(starts[-1] + len(group.sequences))
        rows = [row for i in draw for row in range(starts[i], starts[i + 1])]
        other = HeadProblem(self.spec, groups=[self.groups[i] for i in draw], states=self.states[rows])
        other.states = self.states[rows]
        return other

    def unscale(self, weights: torch.Tensor) -> torch.Tensor:
        """The head's weights for states as they come."""
        return weights / self.scale

    def rescale(self, weights: torch.Tensor) -> torch.Tensor:
        """The other way."""
        return weights.double() * self.scale


def _lose_orders_of(group: Group, *, equal: bool) -> Callable[[torch.Tensor], torch.Tensor]:
    return lambda rewards: sum_orders(rewards, groups=[group], equal=equal)


def solve(problem: HeadProblem, *, prior: float, start: torch.Tensor | None = None) -> tuple[torch.Tensor, float, int]:
    """The weights that minimise the objective, their loss without the prior's part, and the rounds it took."""
    weights = (torch.zeros(problem.width, dtype=torch.float64) if start is None else start.clone()).requires_grad_()
    rounds = 0

    def evaluate() -> torch.Tensor:
        nonlocal rounds
        rounds += 1
        search.zero_grad()
        objective = problem.lose(weights) + prior / 2 * weights.square().sum()
        objective.backward()
        return objective

    search = torch.optim.LBFGS(
        [weights],
        max_iter=MOST_ROUNDS,
        max_eval=2 * MOST_ROUNDS,
        tolerance_grad=1e-7,
        tolerance_change=1e-12,
        history_size=50,
        line_search_fn="strong_wolfe",
    )
    search.step(evaluate)
    found = weights.detach()
    with torch.no_grad():
        return found, float(problem.lose(found)), rounds


def weigh_evidence(problem: HeadProblem, *, weights: torch.Tensor, loss: float, prior: float) -> float:
    """log p(D | prior) by Laplace's method at the minimum."""
    return _evidence(torch.linalg.eigvalsh(problem.curve(weights)), weights=weights, loss=loss, prior=prior)


def _evidence(eigenvalues: torch.Tensor, *, weights: torch.Tensor, loss: float, prior: float) -> float:
    volume = math.log(prior) * len(eigenvalues) - float((eigenvalues.clamp_min(0) + prior).log().sum())
    return -loss - prior / 2 * float(weights.square().sum()) + volume / 2


def fit_head(
    problem: HeadProblem, *, prior: float | None, report: Callable[[Solution], None] = lambda solution: None
) -> Solution:
    """The head under a given prior, or under the likeliest of the grid: from the strongest on, each from the last."""
    best: Solution | None = None
    start: torch.Tensor | None = None
    for tried in [prior] if prior is not None else [problem.width * step for step in GRID]:
        start, loss, rounds = solve(problem, prior=tried, start=start)
        evidence = weigh_evidence(problem, weights=start, loss=loss, prior=tried)
        solution = Solution(start, tried, loss, evidence, rounds)
        report(solution)
        if best is None or solution.evidence > best.evidence:
            best = solution
        elif solution.evidence < best.evidence - 10:
            break  # it has one peak; weaker priors only take longer
    assert best is not None
    return best


def fit_laplace(problem: HeadProblem, *, weights: torch.Tensor, prior: float | None) -> tuple[Spread, float]:
    """The posterior around a head (weights of states as they come), and the prior it was given or found likeliest."""
    scaled = problem.rescale(weights)
    curvature = problem.curve(scaled)
    eigenvalues, vectors = torch.linalg.eigh(curvature)
    if prior is None:
        with torch.no_grad():
            loss = float(problem.lose(scaled))
        steps = [problem.width * 10.0 ** (k / 10) for k in range(-60, 61)]
        prior = max(steps, key=lambda step: _evidence(eigenvalues, weights=scaled, loss=loss, prior=step))
    root = vectors / (eigenvalues.clamp_min(0) + prior).sqrt() / problem.scale[:, None]
    return Spread("laplace", root, problem.center), prior


def fit_ensemble(problem: HeadProblem, *, solution: Solution, members: int, seed: int) -> Spread:
    """Heads of the same prior on prompts drawn again (bootstrap): their spread around their mean."""
    heads = [
        solve(problem.resample(seed=f"{seed}/{member}"), prior=solution.prior, start=solution.weights)[0]
        for member in range(members)
    ]
    found = torch.stack([problem.unscale(head) for head in heads])  # (members, d)
    return Spread("ensemble", (found - found.mean(0)).T / math.sqrt(members - 1), problem.center)
