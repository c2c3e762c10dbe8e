"""Where a run computes, and in which precision.

Weights are float32 in training and scoring; "bf16" means bfloat16 autocast over them, which keeps the optimiser's
small updates (pure bfloat16 weights barely learned). Generation alone may hold its weights in bfloat16.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import os
import platform
import random
from dataclasses import dataclass

import numpy as np
import torch

from rewardmodel.contract import InputError

LIBRARIES = (
    "torch",
    "transformers",
    "trl",
    "peft",
    "bitsandbytes",
    "accelerate",
    "datasets",
    "tokenizers",
    "safetensors",
    "numpy",
)


class ComputeError(InputError):
    """A device or precision this machine does not have."""


@dataclass(frozen=True, kw_only=True)
class Compute:
    """A device ("cpu" or "cuda") and a precision ("fp32" or "bf16"), both settled."""

    device: str
    precision: str

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The context of a forward pass in this precision."""
        return torch.autocast(self.device, dtype=torch.bfloat16, enabled=self.precision == "bf16")

    @property
    def weights_dtype(self) -> torch.dtype:
        """The dtype of weights that are only read, as in generation."""
        return torch.bfloat16 if self.precision == "bf16" else torch.float32


def resolve_compute(device: str, *, precision: str, threads: int | None = None) -> Compute:
    """What "auto" means on this machine; also sets torch's CPU threads. Raises ComputeError for what is not there."""
    if threads is not None:
        torch.set_num_threads(threads)
    has_cuda = torch.cuda.is_available()
    if device == "cuda" and not has_cuda:
        raise ComputeError("device: cuda was asked for, but torch finds no CUDA device here")
    chosen = "cuda" if device == "cuda" or (device == "auto" and has_cuda) else "cpu"
    fast = _computes_bf16(chosen)
    if precision == "bf16" and chosen == "cuda" and not fast:
        raise ComputeError("precision: this GPU does not compute bfloat16; use fp32")
    settled = ("bf16" if fast else "fp32") if precision == "auto" else precision
    return Compute(device=chosen, precision=settled)


def _computes_bf16(device: str) -> bool:
    if device == "cuda":
        return torch.cuda.is_bf16_supported()
    # A private name of torch: where a release has moved it, float32 is slower and right.
    probe = getattr(torch.cpu, "_is_avx512_bf16_supported", None)
    return bool(probe()) if probe is not None else False


def seed_everything(seed: int) -> None:
    """Seed Python, numpy and torch (CPU and CUDA)."""
    random.seed(seed)
    np.random.seed(seed % 2**32)
    torch.manual_seed(seed)


def list_versions() -> dict[str, str]:
    """Versions of Python and of every library that computes, for status and provenance."""
    versions = {"python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            versions[name] = importlib.metadata.version(name)
    return versions


def describe_machine(compute: Compute) -> dict[str, object]:
    """The machine of a run, for provenance: nothing in it names a host or a person."""
    machine: dict[str, object] = {
        "device": compute.device,
        "precision": compute.precision,
        "threads": torch.get_num_threads(),
        "cores": os.cpu_count(),
        "system": f"{platform.system()} {platform.machine()}",
    }
    if compute.device == "cuda":
        machine["gpu"] = torch.cuda.get_device_name()
    return machine
