"""What the trainings on single responses (SFT, KTO) share: their rows, validation, samples and reports."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import PreTrainedModel

from rewardmodel.chat import EncodedExamples, encode_examples
from rewardmodel.compute import Compute
from rewardmodel.contract import KTOSpec, Message, SFTSpec
from rewardmodel.data import DataError, Example, find_splits, hash_file, read_manifest
from rewardmodel.generate import Sampling, generate_responses
from rewardmodel.models import load_policy, read_positions
from rewardmodel.progress import Progress
from rewardmodel.ranks import current_ranks
from rewardmodel.rundir import RunDir
from rewardmodel.train.common import (
    count_steps,
    find_used_splits,
    lora_config,
    note_best_step,
    settle_eval_steps,
    training_arguments,
)
from rewardmodel.train.memory import Estimate, check_memory, estimate_memory

SAMPLE_TOKENS = 128

ExampleSpec = SFTSpec | KTOSpec


@dataclass(frozen=True, kw_only=True)
class ExampleData:
    """The encoded splits of a run and what is known of their files; validation is None where there is no such row."""

    train: EncodedExamples
    test: EncodedExamples
    validation: EncodedExamples | None
    sha256: dict[str, str]
    manifest: dict[str, Any]

    @property
    def longest(self) -> int:
        """Tokens of the longest training row."""
        return max(len(row.ids) for row in self.train.rows)


def read_example_splits(spec: ExampleSpec, *, read: Callable[[Path], list[Example]]) -> dict[str, list[Example]]:
    """Every split, checked before a model is loaded for it; an empty validation file is none.

    Raises DataError at the first fault, InputError where early stopping has no validation split.
    """
    return {name: read(file) for name, file in find_used_splits(spec).items()}


def encode_example_splits(
    spec: ExampleSpec, *, splits: dict[str, list[Example]], tokenizer: Any, learn: str
) -> ExampleData:
    """The rows that fit max_length. Raises DataError where a split has none left."""
    files = find_splits(spec.data)
    encoded = {}
    for name, examples in splits.items():
        try:
            encoded[name] = encode_examples(tokenizer, examples=examples, max_length=spec.max_length, learn=learn)
        except DataError as error:
            raise DataError(f"{files[name]}, {error}") from None
        if not encoded[name].rows:
            raise DataError(
                f"{files[name]}: no usable row is left; dropped {encoded[name].dropped['too_long']} longer than "
                f"max_length {spec.max_length}"
            )
    return ExampleData(
        train=encoded["train"],
        test=encoded["test"],
        validation=encoded.get("validation"),
        sha256={name: hash_file(file) for name, file in files.items()},
        manifest=read_manifest(spec.data),
    )


def load_trained_policy(directory: Path, *, tokenizer: Any, compute: Compute, packed: bool = False) -> PreTrainedModel:
    """A policy in float32: bfloat16 autocast goes over it, so that small updates are kept. packed: in 4 bits."""
    return load_policy(directory, tokenizer=tokenizer, compute=compute, dtype=torch.float32, packed=packed)


def keep_adapters_exact(trainer: Any) -> None:
    """Put adapters into float32 again: TRL puts those over packed weights into bfloat16, which loses small updates."""
    for parameter in trainer.model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def example_arguments(
    spec: ExampleSpec, *, run: RunDir, compute: Compute, n_rows: int, data: ExampleData
) -> dict[str, Any]:
    """Keyword arguments of TRL's configs, with the validation split's. n_rows: rows that batches are made of."""
    arguments = training_arguments(spec, run=run, compute=compute, n_rows=n_rows)
    if data.validation is not None:
        arguments |= {
            "eval_strategy": "steps",
            "eval_steps": settle_eval_steps(spec, steps=spec.max_steps or count_steps(spec, n_rows=n_rows)),
            "per_device_eval_batch_size": spec.batch_size,
        }
    if spec.early_stopping_patience is not None:
        arguments |= {"metric_for_best_model": "eval_loss", "greater_is_better": False}
    return arguments


def announce_memory(
    spec: ExampleSpec, *, model: PreTrainedModel, tokens: int, compute: Compute, run: RunDir, more: str = ""
) -> Estimate:
    """Say in status and log how much memory the training will want. Raises InputError where it cannot be had."""
    estimate = estimate_memory(
        model,
        compute=compute,
        trained=count_trained(spec, model=model),
        tokens=tokens,
        checkpointing=spec.activation_checkpointing,
    )
    check_memory(estimate)
    ranks = current_ranks()
    processes = f"{ranks.size} processes" if ranks.several else ""
    message = "; ".join(part for part in (estimate.describe(), more, processes) if part)
    if ranks.first:
        print(f"rewardmodel: {message}", file=sys.stderr)
    run.write_status(message=message)
    return estimate


def count_trained(spec: ExampleSpec, *, model: PreTrainedModel) -> int:
    """Parameters that are trained: all, or those of adapters on every linear layer but the head."""
    if lora_config(spec) is None:
        return sum(p.numel() for p in model.parameters())
    head = model.get_output_embeddings()
    linear = [part for part in model.modules() if isinstance(part, torch.nn.Linear) and part is not head]
    return sum(spec.lora_rank * (part.in_features + part.out_features) for part in linear)


def choose_prompts(data: ExampleData, *, n: int, model: PreTrainedModel) -> list[list[Message]]:
    """The first n held-out prompts that leave the model room to answer and end where an answer is wanted."""
    limit = read_positions(model) or 2**31
    chosen: dict[str, list[Message]] = {}
    for row in data.test.rows:
        prompt = row.example.prompt
        # A row's learned turns follow its prompt, so the whole row is an upper bound of the prompt's tokens.
        if prompt and len(row.ids) + SAMPLE_TOKENS <= limit:
            chosen.setdefault(row.example.prompt_id, prompt)
    return list(chosen.values())[:n]


def answer_prompts(
    model: PreTrainedModel,
    *,
    tokenizer: Any,
    prompts: list[list[Message]],
    compute: Compute,
    progress: Progress,
) -> list[str]:
    """Greedy answers, so that before and after differ by the training alone."""
    made = generate_responses(
        model,
        tokenizer=tokenizer,
        prompts=prompts,
        sampling=Sampling(temperature=0.0, max_new_tokens=SAMPLE_TOKENS, batch_size=4),
        compute=compute,
        progress=progress,
        phase="answering held-out prompts",
    )
    return [response.text for response in made]


def build_example_report(
    spec: ExampleSpec,
    *,
    data: ExampleData,
    compute: Compute,
    heldout: dict[str, Any],
    baselines: dict[str, Any],
    before: dict[str, Any],
    after: dict[str, Any],
    steps: int,
    best_step: int | None,
    estimate: Estimate,
    started: float,
) -> dict[str, Any]:
    """What report.json holds for a training on single responses."""
    known = {row.example.prompt_id for row in data.train.rows}
    shared = len(known & {row.example.prompt_id for row in data.test.rows})
    notes = [f"{shared} prompts of the test split are in the training split too"] if shared else []
    notes += note_best_step(best_step, steps=steps)
    splits = {"train": data.train, "validation": data.validation, "test": data.test}
    return {
        "method": spec.method,
        "base_model": spec.model,
        "heldout": {"split": "test", "n": len(data.test.rows), "n_prompts": data.test.n_prompts, **heldout},
        "baselines": baselines,
        "dropped": {name: split.dropped for name, split in splits.items() if split is not None},
        "trained_on": {"rows": len(data.train.rows), "prompts": data.train.n_prompts, "steps": steps},
        "best_step": best_step,
        "memory_gib": estimate.to_dict(),
        "simulated": data.manifest.get("simulated") is True,
        "seconds": round(time.time() - started, 1),
        "device": compute.device,
        "precision": compute.precision,
        "notes": notes,
        "samples": [
            {"prompt": prompt, "before": old, "after": new}
            for prompt, old, new in zip(before["prompts"], before["texts"], after["texts"], strict=True)
        ],
    }
