"""Several reward models as one: the mean of their weights (WARM, Ramé et al. 2024), or their scores side by side.

`average_models` gives one plain model directory that costs no more to read than a member; it wants members trained from
the same base, with one head, since weights of unrelated models mean nothing added up. `score_together` reads every
member, whatever its architecture, and says how far they are apart. The members' shared base is not proven here: only
that shapes, settings and tokenizer are the same. Evaluate an average before using it.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rewardmodel.compute import Compute
from rewardmodel.contract import InputError, Message
from rewardmodel.data import hash_file
from rewardmodel.models import load_reward_model, load_tokenizer, resolve_model, save_model
from rewardmodel.progress import Progress
from rewardmodel.rundir import write_text
from rewardmodel.score import load_scorer, score_texts

# What a configuration says of its file rather than of the model.
PASSING = ("_name_or_path", "transformers_version", "dtype", "torch_dtype")


def average_models(names: Sequence[str], *, target: Path) -> Path:
    """Write the mean of the weights of some reward models, with equal shares and in float32, as a model directory.

    Raises InputError for fewer than two, one named twice, models on rated scales, or where settings, tokenizers or
    shapes differ, ModelError for what is no reward model.
    """
    directories = [resolve_model(name) for name in names]
    if len(directories) < 2:
        raise InputError("average: at least two reward models are needed")
    if len(set(directories)) < len(directories):
        raise InputError("average: a model is named twice")
    if target.exists():
        raise InputError(f"{target} exists already; choose another directory")
    first = directories[0]
    for directory in directories:
        _check_like(directory, first=first)
    compute = Compute(device="cpu", precision="fp32")
    tokenizer = load_tokenizer(first)
    model = load_reward_model(first, tokenizer=tokenizer, compute=compute)
    sums = {name: weights.double() for name, weights in model.state_dict().items()}
    for directory in directories[1:]:
        weights = load_reward_model(directory, tokenizer=tokenizer, compute=compute).state_dict()
        if {name: part.shape for name, part in weights.items()} != {name: part.shape for name, part in sums.items()}:
            raise InputError(f"{directory}: its weights are not shaped as those of {first}")
        for name, part in weights.items():
            sums[name] += part
    with torch.no_grad():
        for name, part in model.state_dict().items():
            part.copy_(sums[name] / len(directories))
    save_model(model, tokenizer=tokenizer, directory=target)
    write_text(target / "README.md", render_card(directories))
    return target


def _check_like(directory: Path, *, first: Path) -> None:
    config, other = _read_config(directory), _read_config(first)
    if "rated_attributes" in config:
        raise InputError(
            f"{directory}: learned rated scales in units of its own; only models of one reward are averaged"
        )
    differing = sorted(key for key in config.keys() | other.keys() if config.get(key) != other.get(key))
    if differing:
        raise InputError(f"{directory}: {', '.join(differing)} in config.json is not as in {first}")
    one, another = load_tokenizer(directory), load_tokenizer(first)
    if one.get_vocab() != another.get_vocab() or one.chat_template != another.chat_template:
        raise InputError(f"{directory}: its tokenizer or chat template is not that of {first}")


def _read_config(directory: Path) -> dict[str, Any]:
    config = json.loads((directory / "config.json").read_text(encoding="utf-8"))
    return {key: value for key, value in config.items() if key not in PASSING}


def render_card(directories: Sequence[Path]) -> str:
    """The card of an average: its members by the hashes of their weights."""
    lines = [
        "# Reward model (average of weights)",
        "",
        f"The mean of the weights of {len(directories)} reward models, each with the same share (WARM, Ramé et al. "
        "2024). Not evaluated yet: `rewardmodel evaluate --card` puts figures here.",
        "",
        "| member | file | SHA-256 |",
        "| --- | --- | --- |",
    ]
    for number, directory in enumerate(directories, start=1):
        lines += [f"| {number} | {file.name} | {hash_file(file)} |" for file in sorted(directory.glob("*.safetensors"))]
    return "\n".join([*lines, ""])


def score_together(
    names: Sequence[str],
    *,
    conversations: Sequence[list[Message]],
    device: str,
    precision: str,
    threads: int | None,
    batch_size: int,
    progress: Progress,
) -> list[dict[str, Any]]:
    """Of each conversation `scores`, one a model, their mean as `score`, and their spread as `std`.

    A model's scores are known up to a constant only, so `std` is the members' standard deviation (with n - 1) of the
    score's difference from the member's own mean over all conversations here. All three are None (scores: [])
    where a member cannot read the text. One model is in memory at a time. Raises InputError for a model named twice.
    """
    if len({resolve_model(name) for name in names}) < len(names):
        raise InputError("a model is named twice")
    columns = []
    for name in names:
        model, tokenizer, compute = load_scorer(name, device=device, precision=precision, threads=threads)
        columns.append(
            score_texts(
                model,
                tokenizer=tokenizer,
                conversations=conversations,
                compute=compute,
                batch_size=batch_size,
                progress=progress,
            )
        )
    readable = [place for place, line in enumerate(zip(*columns, strict=True)) if None not in line]
    scores = np.array([[column[place] for column in columns] for place in readable], dtype=np.float64)  # (n, models)
    rows: list[dict[str, Any]] = [{"score": None, "std": None, "scores": []} for _ in conversations]
    if readable:
        spread = (scores - scores.mean(0)).std(1, ddof=1)
        for place, line, std in zip(readable, scores, spread, strict=True):
            rows[place] = {"score": float(line.mean()), "std": float(std), "scores": line.tolist()}
    return rows
