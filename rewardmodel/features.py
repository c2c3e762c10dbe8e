"""The last states of responses under a model that is not trained further: what a linear head reads.

They are read as scores are (`score`), and kept in a cache by the hash of weights and texts, some hundred at a time, so
that a second run starts at once and a stopped one goes on.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from rewardmodel.compute import Compute
from rewardmodel.models import models_directory
from rewardmodel.progress import Progress
from rewardmodel.score import iterate_states

SLAB = 128  # responses a file of the cache


def recall_states(
    model: Any,
    *,
    sequences: Sequence[Sequence[int]],
    weights: Mapping[str, str],
    compute: Compute,
    progress: Progress,
) -> torch.Tensor:
    """The last state of each sequence, (n, d), float32, on the CPU. weights: hashes of the model's files."""
    order = sorted(range(len(sequences)), key=lambda i: (len(sequences[i]), i))
    progress.start("reading features", total=len(order))
    states: dict[int, torch.Tensor] = {}
    for start in range(0, len(order), SLAB):
        slab = order[start : start + SLAB]
        part = _recall_slab(model, sequences=[sequences[i] for i in slab], weights=weights, compute=compute)
        states.update(zip(slab, part, strict=True))
        progress.advance(len(states))
        progress.check()
    return torch.stack([states[i] for i in range(len(sequences))])


def read_all(model: Any, *, sequences: Sequence[Sequence[int]], compute: Compute, progress: Progress) -> torch.Tensor:
    """The same without a cache."""
    progress.start("reading features", total=len(sequences))
    states: dict[int, torch.Tensor] = {}
    for places, found, _ in iterate_states(model, sequences=sequences, compute=compute, batch_size=32):
        states.update(zip(places, found.cpu(), strict=True))
        progress.advance(len(states))
        progress.check()
    return torch.stack([states[i] for i in range(len(sequences))])


def _recall_slab(
    model: Any, *, sequences: Sequence[Sequence[int]], weights: Mapping[str, str], compute: Compute
) -> torch.Tensor:
    way = [compute.device, compute.precision]
    texts = [list(ids) for ids in sequences]
    key = hashlib.sha256(json.dumps([dict(weights), way, texts], sort_keys=True).encode()).hexdigest()
    file = models_directory() / "features" / f"{key}.safetensors"
    if not file.is_file():
        found: dict[int, torch.Tensor] = {}
        for places, states, _ in iterate_states(model, sequences=sequences, compute=compute, batch_size=32):
            found.update(zip(places, states.cpu(), strict=True))
        _write(file, torch.stack([found[i] for i in range(len(sequences))]))
    return load_file(file)["states"]


def _write(file: Path, states: torch.Tensor) -> None:
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_suffix(".unfinished")
    save_file({"states": states}, unfinished)
    unfinished.replace(file)
