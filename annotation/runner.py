"""The seam: the only module that imports rewardmodel, and of it only what needs the standard library alone: the
contract, the run directory, stages of pipelines and documents (which load PyYAML when they read one).

No web process imports torch through here; runs happen in `python -m rewardmodel`, a process of its own.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rewardmodel.contract import (
    EMBEDDED_MODEL,
    FieldDescription,
    SpecError,
    describe_fields,
    parse_spec,
    spec_to_dict,
)
from rewardmodel.documents import read_document, write_document
from rewardmodel.rundir import RunDir, RunDirError, read_json_lines
from rewardmodel.stages import (
    Pipeline,
    Reference,
    Stage,
    headline,
    judge_gate,
    list_sources,
    map_references,
    parse_pipeline,
)

__all__ = [
    "EMBEDDED_MODEL",
    "Facts",
    "FieldDescription",
    "Reference",
    "SettingsRefused",
    "Stage",
    "headline",
    "list_sources",
    "map_references",
    "write_document",
]

SECRET_VARIABLES = ("DATABASE_URL", "SECRET_KEY", "TEST_POSTGRES_URL")
OUTSIDE = ("snapshot", "model")
"""Heads of references that stand for what a project has, beside the stages of a pipeline."""
PR_SET_PDEATHSIG = 1
UNSAFE_CODE = "--unsafe-without-sandbox"
EXIT_BUSY = 3
"""Exit code of `rewardmodel run` where another process holds the directory."""
_TRAINING_FIELDS = (
    "tuning",
    "lora_rank",
    "learning_rate",
    "epochs",
    "max_steps",
    "batch_size",
    "gradient_accumulation",
    "max_length",
    "early_stopping_patience",
)
_KL_FIELDS = ("kl_coefficient", "target_kl")
_ONLINE_FIELDS = ("kl_budget", "epochs", "max_steps", "tuning", "learning_rate", "seed")
_MORE_ONLINE_FIELDS = (
    "ppo_epochs",
    "minibatches",
    "temperature",
    "max_length",
    "reward_clip",
    "eos_penalty",
    "eos_score",
    "lora_rank",
    "warmup_ratio",
    "adam_epsilon",
    "test_prompts",
    "report_samples",
    "sample_steps",
    "gold_steps",
    "save_steps",
    "generation_batch_size",
    "batch_tokens",
)
PERSON_FIELDS = {
    "reward": ("loss", "label_smoothing", *_TRAINING_FIELDS, "seed"),
    "sft": (*_TRAINING_FIELDS, "packing", "seed"),
    "dpo": ("loss_type", "beta", "label_smoothing", *_TRAINING_FIELDS, "seed"),
    "kto": ("beta", *_TRAINING_FIELDS, "seed"),
    "rejection": (
        "rounds",
        "samples",
        "max_samples",
        "enough",
        "per_prompt",
        "choice",
        "start_from",
        "response_tokens",
        "temperature",
        "tuning",
        "learning_rate",
        "epochs",
        "batch_size",
        "seed",
    ),
    "ppo": ("response_tokens", "batch_size", *_KL_FIELDS, *_ONLINE_FIELDS),
    "rloo": ("response_tokens", "batch_size", "group_size", *_KL_FIELDS, *_ONLINE_FIELDS),
    "grpo": ("response_tokens", "batch_size", "group_size", *_KL_FIELDS, *_ONLINE_FIELDS),
    "online-dpo": ("response_tokens", "batch_size", "group_size", "beta", *_ONLINE_FIELDS),
    "check": ("test_prompts", "test_samples", "pass_k", "response_tokens", "temperature", "top_p", "seed"),
    "generate": ("n", "max_new_tokens", "temperature", "top_p", "seed"),
    "score": ("batch_size",),
    "advise": ("trial_prompts", "max_new_tokens"),
    "verify": (),
}
"""The settings a person sees in the form; the rest keep their documented defaults."""
MORE_FIELDS = {
    "ppo": (
        "clip",
        "value_clip",
        "gamma",
        "lam",
        "kl_in",
        "kl_estimator",
        "whiten_advantages",
        "whiten_rewards",
        "value_model",
        "value_learning_rate",
        "value_warmup_steps",
        "save_critic",
        *_MORE_ONLINE_FIELDS,
    ),
    "rloo": ("clip", "normalize_advantages", *_MORE_ONLINE_FIELDS),
    "grpo": ("clip", "scale_advantages", "loss_mean", *_MORE_ONLINE_FIELDS),
    "online-dpo": _MORE_ONLINE_FIELDS,
    "advise": ("some", "few", "many", "checkable", "fooled", "preferences", "seed"),
}
"""Settings that the form keeps folded, because few runs need them."""


class SettingsRefused(ValueError):
    """Settings that the training library would not take; the message names the field."""


@dataclass(frozen=True)
class Facts:
    """What a run directory says of its run. `report` is None until the run has one."""

    state: str
    status: dict[str, Any]
    report: dict[str, Any] | None
    error: str


def check_settings(method: str, *, settings: Mapping[str, Any]) -> dict[str, Any]:
    """The full spec that these settings make, every default filled in. Raises SettingsRefused."""
    try:
        return spec_to_dict(parse_spec({"method": method, **settings}))
    except SpecError as error:
        raise SettingsRefused(str(error)) from error


def read_text(text: str) -> Any:
    """What a YAML or JSON text says. Raises SettingsRefused."""
    try:
        return read_document(text)
    except SpecError as error:
        raise SettingsRefused(str(error)) from error


def read_pipeline(document: Any) -> Pipeline:
    """The pipeline of a document, in which `@snapshot/3` and `@model/NAME` stand too. Raises SettingsRefused."""
    try:
        return parse_pipeline(document, outside=OUTSIDE)
    except SpecError as error:
        raise SettingsRefused(str(error)) from error


def judge_stage(stage: Stage, *, reports: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """What the stage's gate says of the reports so far. Raises SettingsRefused where the figure is not in them."""
    try:
        return judge_gate(stage, reports=reports).to_dict()
    except SpecError as error:
        raise SettingsRefused(str(error)) from error


def form_fields(method: str) -> list[FieldDescription]:
    """The settings of `method` that a person chooses in the browser, in the order of the form, folded ones last."""
    described = {description.name: description for description in describe_fields(method)}
    return [described[name] for name in (*PERSON_FIELDS[method], *MORE_FIELDS.get(method, ()))]


def create_directory(path: Path, *, spec: Mapping[str, Any]) -> None:
    """Make the run directory; one that is there already is a run to be resumed and stays as it is."""
    directory = RunDir(path)
    if not directory.spec_file.exists():
        directory.create(spec)
    directory.clear_cancel()


def read_facts(path: Path) -> Facts:
    """Read what the run directory says; a directory not made yet says "queued"."""
    directory = RunDir(path)
    status = directory.read_status()
    try:
        report = directory.read_report()
    except RunDirError:
        report = None
    return Facts(state=status["state"], status=_storable(status), report=_storable(report), error=status["error"] or "")


def _storable(value: Any) -> Any:
    """The value without NUL, which models may write and PostgreSQL does not store."""
    if isinstance(value, str):
        return value.replace("\0", "\N{REPLACEMENT CHARACTER}")
    if isinstance(value, dict):
        return {_storable(name): _storable(item) for name, item in value.items()}
    return [_storable(item) for item in value] if isinstance(value, list) else value


def read_metrics(path: Path, *, after_line: int = 0) -> list[dict[str, Any]]:
    """The metric rows after the first `after_line`; a torn last line is left out."""
    return RunDir(path).read_metrics(after_line=after_line)


def read_samples(path: Path) -> list[dict[str, Any]]:
    """The answers to the same few prompts over time; a torn last line is left out."""
    return RunDir(path).read_samples()


def read_rows(path: Path, *, name: str) -> list[dict[str, Any]]:
    """The rows of one of the run's JSONL outputs."""
    return read_json_lines(RunDir(path).outputs / name)


def model_directory(path: Path) -> Path:
    """Where a training run leaves its model."""
    return RunDir(path).outputs / "model"


def request_cancel(path: Path) -> None:
    """Ask the run's process to save a checkpoint and stop."""
    RunDir(path).request_cancel()


def start_process(path: Path, *, data_dir: Path, unsafe_code: bool = False) -> subprocess.Popen[bytes]:
    """Start the run in a process of its own, without the web's secrets; its output goes to log.txt.

    unsafe_code: whether model-written code may run where nothing isolates it.

    The process dies with the worker that started it, so that a run is never worked on twice.
    """
    environment = {key: value for key, value in os.environ.items() if key not in SECRET_VARIABLES}
    environment |= {"DATA_DIR": str(data_dir), "HF_HUB_DISABLE_TELEMETRY": "1", "PYTHONUNBUFFERED": "1"}
    with open(path / "log.txt", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "rewardmodel", "run", str(path), *([UNSAFE_CODE] if unsafe_code else [])],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            preexec_fn=_die_with_parent if sys.platform == "linux" else None,
        )


def _die_with_parent() -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
