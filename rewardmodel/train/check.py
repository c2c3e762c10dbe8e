"""Whether a policy's answers to held-out prompts pass: pass@1 and pass@k, as rejection sampling measures them.

The answers are drawn as `rejection` draws its held-out ones: with equal settings, data and seed, the figures of a
model here are those that a rejection run says of it. Answers are appended to outputs/answers.jsonl as they are
verified; a run that was stopped goes on with those that are missing.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewardmodel.compute import resolve_compute
from rewardmodel.contract import CheckSpec, InputError
from rewardmodel.data import DataError, hash_file, read_manifest, read_verifiable_prompts
from rewardmodel.models import load_policy, load_tokenizer, read_positions, resolve_model
from rewardmodel.progress import Progress
from rewardmodel.rundir import RunDir, note_where_not_isolated, warn_where_not_isolated
from rewardmodel.train.common import (
    keep_prompts,
    record_provenance,
)
from rewardmodel.train.explore import Checkers, Exploration, Explorer, Prompt, explore_prompts
from rewardmodel.train.rejection import read_sampling, summarize_answers
from rewardmodel.verifiers.registry import Permissions, parse_verifier, require_sandbox
from rewardmodel.verifiers.workers import WorkerPool


@dataclass(frozen=True, kw_only=True)
class CheckData:
    """The held-out prompts, what was dropped, what is known of their file."""

    test: list[Prompt]
    dropped: dict[str, dict[str, int]]
    sha256: dict[str, str]
    manifest: dict[str, Any]


def run_check(spec: CheckSpec, *, run: RunDir, progress: Progress, unsafe_code: bool = False) -> dict[str, Any]:
    """Answer, verify, and return the report.

    Raises InputError for data, verifiers or a model that cannot be used, and for code where nothing isolates it, unless
    that is allowed.
    """
    started = run.read_status()["started_at"]
    progress.start("loading")
    compute = resolve_compute(spec.device, precision=spec.precision, threads=spec.threads)
    permissions = Permissions(reward_model=spec.reward_model, unsafe_code=unsafe_code)
    base = resolve_model(spec.model)
    tokenizer = load_tokenizer(base)
    data = read_data(spec, tokenizer=tokenizer, permissions=permissions)
    isolated = require_sandbox((prompt.verifier for prompt in data.test), unsafe=unsafe_code)
    warn_where_not_isolated(run, isolated=isolated)
    record_provenance(spec, run=run, data=data, model=base, compute=compute)
    model = load_policy(base, tokenizer=tokenizer, compute=compute, dtype=compute.weights_dtype)
    limit = read_positions(model)
    if limit is not None and spec.max_length > limit:
        raise InputError(f"max_length: {spec.max_length} is more than the {limit} tokens that the model holds")
    workers = spec.workers or os.cpu_count() or 1
    with WorkerPool(workers) as pool:
        rows = explore_prompts(
            [Explorer(load=lambda: model, tokenizer=tokenizer)],
            prompts=data.test,
            exploration=Exploration(
                samples=spec.test_samples,
                max_samples=spec.test_samples,
                enough=None,
                sampling=read_sampling(spec, stream="heldout"),
            ),
            checkers=Checkers(pool=pool, workers=workers, permissions=permissions),
            file=run.outputs / "answers.jsonl",
            compute=compute,
            progress=progress,
            phase="answering held-out prompts",
        )
    heldout = summarize_answers([dict(row) for row in rows], prompts=data.test, k=spec.pass_k)
    del heldout["rates"]
    return {
        "method": spec.method,
        "base_model": spec.model,
        "heldout": {"split": "test", **heldout},
        "dropped": data.dropped,
        "simulated": data.manifest.get("simulated") is True,
        "seconds": round(time.time() - started, 1),
        "device": compute.device,
        "precision": compute.precision,
        "notes": note_where_not_isolated(run),
    }


def read_data(spec: CheckSpec, *, tokenizer: Any, permissions: Permissions) -> CheckData:
    """The held-out prompts that leave room for an answer, each once. Raises DataError."""
    file = Path(spec.data) / "test.jsonl" if isinstance(spec.data, str) else Path(spec.data["test"])
    if not file.is_file():
        raise DataError(f"data: {file} does not exist; the test split is needed")
    found = read_verifiable_prompts(
        file, parse_verifier=lambda mapping: parse_verifier(mapping, permissions=permissions)
    )
    kept, dropped = keep_prompts(spec, prompts=found, tokenizer=tokenizer, file=file)
    return CheckData(
        test=kept[: spec.test_prompts],
        dropped={"test": dropped},
        sha256={"test": hash_file(file)},
        manifest=read_manifest(spec.data),
    )
