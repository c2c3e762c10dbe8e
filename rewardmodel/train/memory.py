"""How much memory a training will want, said before it starts, and what to change where it did not suffice.

An estimate from the model's shape (docs/training.md says how near it comes). A training is refused beforehand only
where the weights, gradients and optimizer alone cannot fit: activations are known to within about a third.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import torch

from rewardmodel.compute import Compute
from rewardmodel.contract import InputError
from rewardmodel.quantization import count_bytes, count_weights, largest_unpacked

GIB = 2**30


class TrainingError(RuntimeError):
    """Training went wrong in a way that more steps would not mend."""


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """Bytes. `free` is None where the machine does not say."""

    weights: float
    gradients: float
    optimizer: float
    activations: float
    free: float | None

    @property
    def state(self) -> float:
        """What is there however small the batch."""
        return self.weights + self.gradients + self.optimizer

    def describe(self) -> str:
        """One line for status and log."""
        total = self.state + self.activations
        parts = (
            f"weights {_show(self.weights)}, gradients and optimizer {_show(self.gradients + self.optimizer)}, "
            f"activations {_show(self.activations)}"
        )
        free = "" if self.free is None else f"; {_show(self.free)} are free"
        tight = ", which may not suffice" if self.free is not None and total > self.free else ""
        return f"about {_show(total)} of memory ({parts}){free}{tight}"

    def to_dict(self) -> dict[str, float | None]:
        """For the report, in GiB."""
        values = {
            "weights": self.weights,
            "gradients": self.gradients,
            "optimizer": self.optimizer,
            "activations": self.activations,
            "free": self.free,
        }
        return {name: None if value is None else round(value / GIB, 2) for name, value in values.items()}


def estimate_memory(
    model: Any, *, compute: Compute, trained: int, tokens: int, checkpointing: bool, reference: bool = False
) -> Estimate:
    """What training wants beside what is held now. trained: trained parameters; tokens: read at once, with padding.

    Weights are float32 where they are not packed into 4 bits, and so are gradients and Adam's two moments; the largest
    packed layer stands unpacked beside them. reference: a second model is read before training.
    """
    parameters = sum(count_weights(p) for p in model.parameters())
    held = count_bytes(model, each=4.0)
    unpacked = largest_unpacked(model, each=compute.weights_dtype.itemsize)
    added = trained if trained < parameters else 0  # adapters come on top
    config = model.config.get_text_config()
    hidden, layers = config.hidden_size, config.num_hidden_layers
    inner = getattr(config, "intermediate_size", None) or 4 * hidden
    exact = compute.precision == "fp32"
    # Of every layer, what the backward pass needs: under autocast the residual stream alone is float32.
    block = (72 if exact else 52) * hidden + (16 if exact else 8) * inner
    token = 8 * hidden * layers + 2 * block if checkpointing else block * layers
    return Estimate(
        weights=held + unpacked + 4.0 * added,
        gradients=4.0 * trained,
        optimizer=8.0 * trained,
        activations=float(tokens * token),
        free=find_free(compute, held=held),
    )


def estimate_models(models: Sequence[Any], *, compute: Compute, tokens: int) -> Estimate:
    """What training several models takes, which are loaded with their adapters; frozen ones are weights alone.

    The first is the policy, of which on a GPU a copy in bfloat16 draws the responses; what that keeps of them is not
    counted. tokens: read at once by one of them after the other, so that activations are of the one with the most.
    """
    trained = [sum(p.numel() for p in model.parameters() if p.requires_grad) for model in models]
    weights = sum(count_bytes(model, each=4.0) for model in models)
    copied = 2.0 * sum(p.numel() for p in models[0].parameters()) if compute.device == "cuda" else 0.0
    activations = [
        estimate_memory(model, compute=compute, trained=count, tokens=tokens, checkpointing=False).activations
        for model, count in zip(models, trained, strict=True)
        if count
    ]
    return Estimate(
        weights=weights + copied,
        gradients=4.0 * sum(trained),
        optimizer=8.0 * sum(trained),
        activations=max(activations),
        free=find_free(compute, held=weights),
    )


def check_memory(estimate: Estimate, *, smaller: str = "lora or qlora") -> None:
    """Raise InputError where the model alone cannot be trained in the memory that is free.

    smaller: the tunings that need less.
    """
    if estimate.free is not None and estimate.state > estimate.free:
        raise InputError(
            f"memory: weights, gradients and optimizer take about {estimate.state / GIB:.1f} GiB, but "
            f"{estimate.free / GIB:.1f} GiB are free: use tuning {smaller}, a smaller model or a larger machine"
        )


def raise_shortage(error: Exception, *, trainer: Any) -> NoReturn:
    """Raise TrainingError saying what to change where memory ran out; any other error again as it is."""
    words = str(error)
    if not isinstance(error, torch.OutOfMemoryError) and "not enough memory" not in words:
        raise error
    where = "GPU memory" if isinstance(error, torch.OutOfMemoryError) else "memory"
    arguments = trainer.args
    raise TrainingError(
        f"out of {where} at step {trainer.state.global_step + 1} with batch_size "
        f"{arguments.per_device_train_batch_size}: lower batch_size and raise gradient_accumulation, lower max_length, "
        f"set activation_checkpointing, or use tuning lora or qlora ({words.splitlines()[0]})"
    ) from None


def find_free(compute: Compute, *, held: float) -> float | None:
    """Free bytes of the device, with those that the model holds already; None where the system does not say."""
    if compute.device == "cuda":
        return torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated() + held
    try:
        lines = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines())
        available = int(lines["MemAvailable"].split()[0]) * 1024.0
    except (OSError, KeyError, ValueError):
        return None
    return min(available, _find_group_limit()) + held


def _show(size: float) -> str:
    return f"{size / GIB:.1f} GiB" if size >= GIB / 10 else f"{size / 2**20:.0f} MiB"


def _find_group_limit() -> float:
    """What a container may still take."""
    group = Path("/sys/fs/cgroup")
    try:
        most, taken = (int((group / name).read_text()) for name in ("memory.max", "memory.current"))
    except (OSError, ValueError):
        return float("inf")
    return float(max(most - taken, 0))
