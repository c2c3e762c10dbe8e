"""How sure a reward model is of a score: a Gaussian over the weights of its linear head, kept beside the model.

Two ways lead to one, each as a matrix R whose product R R^T is the covariance of the head's weights:

- laplace.safetensors: the posterior after training (Daxberger et al. 2021, "Laplace Redux", last layer), R (d, d);
- ensemble.safetensors: the spread of heads trained on resampled prompts, R (d, members).

Only differences between responses are known from comparisons, so the standard deviation of one response's score is that
of its difference from the mean training response. Not here: how either is fitted (`train.heads`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

from rewardmodel.contract import InputError

KINDS = ("ensemble", "laplace")  # in the order in which they are preferred


@dataclass(frozen=True)
class Spread:
    """Covariance R R^T of a head's weights. root: R, (d, k); center: (d,), the mean state of training responses."""

    kind: str
    root: torch.Tensor
    center: torch.Tensor

    def std(self, states: torch.Tensor) -> torch.Tensor:
        """Standard deviation of the scores of some responses, from their last states: (n, d) -> (n,)."""
        return self.std_between(states, self.center)

    def std_between(self, one: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """Standard deviation of the lead of one response over another, both (n, d) -> (n,)."""
        kind = self.root.dtype
        return torch.linalg.vector_norm((one.to(kind) - other.to(kind)) @ self.root, dim=-1)

    def to(self, device: str) -> Spread:
        """The same on a device."""
        return Spread(self.kind, self.root.to(device), self.center.to(device))


def probability_better(lead: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """P(the first is better) where its lead is N(lead, std^2): sigmoid(lead / sqrt(1 + pi std^2 / 8)).

    The probit approximation to the integral of the sigmoid (MacKay 1992, "The evidence framework applied to
    classification networks", eq. 10).
    """
    return torch.sigmoid(lead / torch.sqrt(1 + math.pi / 8 * std.square()))


def save_spread(spread: Spread, *, directory: Path) -> None:
    """Write it beside a model, in float32."""
    tensors = {"root": spread.root.float().contiguous().cpu(), "center": spread.center.float().contiguous().cpu()}
    save_file(tensors, directory / f"{spread.kind}.safetensors")


def find_spread(directory: Path) -> Spread | None:
    """What stands beside a model, an ensemble's before Laplace's; None where there is none."""
    for kind in KINDS:
        file = directory / f"{kind}.safetensors"
        if file.is_file():
            tensors = load_file(file)
            if not {"root", "center"} <= tensors.keys():
                raise InputError(f"{file} holds no uncertainty of a reward model")
            return Spread(kind, tensors["root"], tensors["center"])
    return None
