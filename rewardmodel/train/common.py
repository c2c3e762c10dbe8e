"""What the trainers share: checked data, checkpoints that can be trusted, reports; and what TRL's (SFT, KTO) need."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import torch
from transformers import PreTrainedModel, PrinterCallback, TrainerCallback, TrainerState

from rewardmodel.chat import EncodedPair, EncodedSplit, encode_prompt, encode_split, put_into
from rewardmodel.compute import Compute, describe_machine, list_versions
from rewardmodel.contract import (
    PLAIN_VARIANT,
    TIE_LOSSES,
    CheckSpec,
    DPOSpec,
    InputError,
    KTOSpec,
    Message,
    OnlineSpec,
    RejectionSpec,
    RewardSpec,
    SFTSpec,
    spec_to_dict,
)
from rewardmodel.data import DataError, Judgements, find_splits, hash_file, read_judgements, read_manifest
from rewardmodel.evaluate import count_shared_prompts, longer_wins
from rewardmodel.models import ModelError, read_positions
from rewardmodel.progress import CancelledError, Progress
from rewardmodel.ranks import current_ranks
from rewardmodel.rundir import RunDir, read_json, write_json
from rewardmodel.trackers import PROJECT, find_trackers, name_run
from rewardmodel.train.memory import TrainingError, raise_shortage

if TYPE_CHECKING:  # seconds of import that a reward model's training has no use for
    from peft import LoraConfig

MANIFEST = "manifest.json"

# Where nothing is said: steps between validations, or the most validations of a run, whichever is less work.
EVAL_STEPS, EVALUATIONS = 100, 10

ValidatedSpec = RewardSpec | SFTSpec | DPOSpec | KTOSpec
TrainingSpec = ValidatedSpec | RejectionSpec | OnlineSpec


class Measure(Protocol):
    """Held-out figures of a model, as JSON; `phase` names the work in the status."""

    def __call__(self, model: PreTrainedModel, *, phase: str) -> dict[str, Any]: ...


@dataclass(frozen=True, kw_only=True)
class TrainingData:
    """The encoded splits of a run and what is known of their files."""

    train: EncodedSplit
    test: EncodedSplit
    sha256: dict[str, str]
    manifest: dict[str, Any]
    validation: EncodedSplit | None = None

    @property
    def held(self) -> list[EncodedPair]:
        """The usable pairs of the validation split; none where there is no such split."""
        return self.validation.pairs if self.validation is not None else []

    @property
    def dropped(self) -> dict[str, dict[str, int]]:
        """What was left out of each split, by reason."""
        splits = {"train": self.train, "validation": self.validation, "test": self.test}
        return {name: split.dropped for name, split in splits.items() if split is not None}


def find_used_splits(spec: ValidatedSpec) -> dict[str, Path]:
    """The file of each split that is there; an empty validation file is none.

    Raises InputError where early stopping has no validation split.
    """
    files = find_splits(spec.data)
    if "validation" in files and not files["validation"].read_bytes().strip():
        del files["validation"]
    if spec.early_stopping_patience is not None and "validation" not in files:
        raise InputError("early_stopping_patience: there is no validation split to watch; add one, or leave it unset")
    return files


def read_splits(spec: RewardSpec | DPOSpec) -> dict[str, Judgements]:
    """Every split, checked before a model is loaded for it. Raises DataError at the first fault.

    Ties and soft labels are for the training of reward models; what is validated or tested was judged better by
    someone.
    """
    files = find_used_splits(spec)
    margins = spec.margins if isinstance(spec, RewardSpec) else None
    wanted = isinstance(spec, RewardSpec)
    ties = isinstance(spec, RewardSpec) and spec.loss in TIE_LOSSES
    train = read_judgements(files.pop("train"), margins=margins, ties=ties, soft=wanted)
    return {"train": train, **{name: read_judgements(file, margins=margins) for name, file in files.items()}}


def encode_splits(spec: RewardSpec | DPOSpec, *, splits: dict[str, Judgements], tokenizer: Any) -> TrainingData:
    """The pairs that fit max_length. Raises DataError where train or test has none left, or a validation split that
    early stopping is to watch."""
    files = find_splits(spec.data)
    encoded = {}
    for name, found in splits.items():
        try:
            with current_ranks().first_ahead():
                encoded[name] = encode_split(
                    tokenizer, pairs=found.pairs, max_length=spec.max_length, dropped=found.dropped
                )
        except DataError as error:
            raise DataError(f"{files[name]}, {error}") from None
        needed = name != "validation" or spec.early_stopping_patience is not None
        if needed and not encoded[name].pairs:
            counts = {**encoded[name].dropped}
            first = (
                f"dropped {counts.pop('too_long')} longer than max_length {spec.max_length} and "
                f"{counts.pop('identical')} with two equal sides"
            )
            others = "".join(f", {count} {reason}" for reason, count in counts.items())
            raise DataError(f"{files[name]}: no usable pair is left; {first}{others}")
    return TrainingData(
        train=encoded["train"],
        test=encoded["test"],
        sha256={name: hash_file(file) for name, file in files.items()},
        manifest=read_manifest(spec.data),
        validation=encoded.get("validation"),
    )


class Asking(Protocol):
    """Something with a prompt."""

    @property
    def prompt(self) -> list[Message]:
        """What is asked."""


Asked = TypeVar("Asked", bound=Asking)


def keep_prompts(
    spec: RejectionSpec | OnlineSpec | CheckSpec,
    *,
    prompts: Sequence[Asked],
    tokenizer: Any,
    file: Path,
    variants: Sequence[str] = (PLAIN_VARIANT,),
) -> tuple[list[Asked], dict[str, int]]:
    """The prompts of a file that leave room for a response, each once, and how many were dropped, by reason.

    variants: the forms in which they are asked, all of which must leave room. Raises DataError naming the file where
    none is left.
    """

    def measure(asked: Asked) -> int:
        forms = (put_into(variant, messages=asked.prompt) for variant in variants)
        return max(len(encode_prompt(tokenizer, messages=form)) for form in forms)

    kept: dict[str, Asked] = {}
    dropped = {"too_long": 0, "repeated": 0}
    for asked in prompts:
        key = json.dumps(asked.prompt, sort_keys=True)
        if key in kept:
            dropped["repeated"] += 1
        elif measure(asked) + spec.response_tokens > spec.max_length:
            dropped["too_long"] += 1
        else:
            kept[key] = asked
    if not kept:
        raise DataError(
            f"{file}: every prompt is longer than max_length {spec.max_length} less response_tokens "
            f"{spec.response_tokens}; raise the one or lower the other"
        )
    return list(kept.values()), dropped


def check_positions(model: PreTrainedModel, *, max_length: int) -> None:
    """Raise ModelError where the model cannot read max_length tokens."""
    limit = read_positions(model)
    if limit is not None and max_length > limit:
        raise ModelError(f"max_length: {max_length} tokens, but the model reads {limit}; lower max_length")


class Traced(Protocol):
    """Training data whose files are known."""

    @property
    def sha256(self) -> dict[str, str]: ...

    @property
    def manifest(self) -> dict[str, Any]: ...


def record_provenance(
    spec: TrainingSpec | CheckSpec, *, run: RunDir, data: Traced, model: Path, compute: Compute
) -> dict[str, Any]:
    """Write provenance.json, and return it. Raises DataError where a resumed run's data are no longer the same."""
    if run.provenance_file.exists():
        before = read_json(run.provenance_file)["data_sha256"]
        changed = sorted(name for name in before if before[name] != data.sha256.get(name))
        if changed:
            raise DataError(f"data: {', '.join(changed)} changed since this run began; start a new run")
    provenance = {
        "spec": spec_to_dict(spec),
        "base_model": {"name": spec.model, "weights_sha256": hash_weights(model)},
        "data_sha256": data.sha256,
        "snapshot_sha256": spec.snapshot_sha256,
        "manifest": data.manifest,
        "versions": list_versions(),
        "machine": describe_machine(compute),
    }
    run.write_provenance(provenance)
    return provenance


def hash_weights(directory: Path) -> dict[str, str]:
    """SHA-256 of each weight file of a model."""
    return {file.name: hash_file(file) for file in sorted(directory.glob("*.safetensors"))}


def recall(run: RunDir, *, name: str, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `make` gave the first time, kept in checkpoints/, so that a resumed run need not compute it again."""
    file = run.checkpoints / f"{name}.json"

    def look() -> dict[str, Any]:
        if not file.exists():
            write_json(file, make())
        return read_json(file)

    return current_ranks().from_first(look)


def training_arguments(spec: SFTSpec | KTOSpec, *, run: RunDir, compute: Compute, n_rows: int) -> dict[str, Any]:
    """Keyword arguments of TRL's configs."""
    steps = spec.max_steps or count_steps(spec, n_rows=n_rows)
    return {
        "output_dir": str(run.checkpoints),
        "per_device_train_batch_size": spec.batch_size,
        "gradient_accumulation_steps": spec.gradient_accumulation,
        "learning_rate": spec.learning_rate,
        "num_train_epochs": spec.epochs,
        "max_steps": spec.max_steps or -1,
        "warmup_steps": math.ceil(spec.warmup_ratio * steps),
        "max_length": None,  # pairs that do not fit were dropped and counted before; nothing is ever cut
        "logging_steps": spec.logging_steps,
        "logging_first_step": True,
        "logging_nan_inf_filter": False,  # the default hides a NaN loss behind the last good one
        "save_strategy": "steps",
        "save_steps": spec.save_steps,
        "save_total_limit": 2,
        "seed": spec.seed,
        "use_cpu": compute.device == "cpu",
        "bf16": compute.precision == "bf16",
        "gradient_checkpointing": spec.activation_checkpointing,
        "dataloader_pin_memory": compute.device == "cuda",
        "disable_tqdm": True,
        "report_to": find_trackers(spec, run=run),
        "run_name": name_run(run),
        "project": PROJECT,
    }


def count_steps(spec: SFTSpec | KTOSpec, *, n_rows: int) -> int:
    """Optimizer steps of the epochs asked for; the last batch of an epoch may be short. Every process has a batch."""
    batches = math.ceil(n_rows / (spec.batch_size * current_ranks().size))
    return math.ceil(spec.epochs * max(1, math.ceil(batches / spec.gradient_accumulation)))


def settle_eval_steps(spec: ValidatedSpec, *, steps: int) -> int:
    """Steps between validations; what was left open keeps them from taking longer than the training."""
    return spec.eval_steps or max(EVAL_STEPS, math.ceil(steps / EVALUATIONS))


def lora_config(spec: TrainingSpec, *, critic: bool = False) -> LoraConfig | None:
    """Adapters on every linear layer but the head; None for full fine-tuning. critic: those of PPO's critic.

    A reward adapter without SEQ_CLS would leave its new head untrained; DPO cannot train an adapter on lm_head.
    """
    if spec.tuning == "full":
        return None
    from peft import LoraConfig

    reward = spec.method == "reward" or critic
    return LoraConfig(
        r=spec.lora_rank,
        lora_alpha=spec.lora_alpha,
        lora_dropout=0.0,
        target_modules="all-linear",
        task_type="SEQ_CLS" if reward else "CAUSAL_LM",
        modules_to_save=["score"] if reward else None,
    )


def fit(trainer: Any, *, run: RunDir, progress: Progress, patience: int | None = None) -> None:
    """Train from the last complete checkpoint, if any, to the end. Raises CancelledError after saving, if asked to.

    patience: how many validation losses without a better one end the training; the weights are then those of the best.
    """
    reporter = RunReporter(run, progress=progress, patience=patience)
    trainer.remove_callback(PrinterCallback)
    trainer.add_callback(reporter)
    _train_on(trainer, run=run, reporter=reporter)
    current_ranks().gather(None)  # the first may still be writing the last checkpoint
    if patience is not None:
        best = find_best(trainer.state.log_history)
        if best != trainer.state.global_step:
            trainer._load_from_checkpoint(str(run.checkpoints / f"checkpoint-{best}"))


def _train_on(trainer: Any, *, run: RunDir, reporter: RunReporter) -> None:
    checkpoint = current_ranks().from_first(lambda: find_checkpoint(run))
    if checkpoint:
        _check_processes(checkpoint)
    run.drop_metrics_after(read_step(checkpoint) if checkpoint else 0)
    if checkpoint and _is_last(checkpoint, patience=reporter.patience):
        # Resuming there would take one step more than was asked for; transformers checks only after a step.
        trainer._load_from_checkpoint(str(checkpoint))
        trainer.state = TrainerState.load_from_json(str(checkpoint / "trainer_state.json"))
        return
    try:
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
    except (torch.OutOfMemoryError, RuntimeError) as error:
        raise_shortage(error, trainer=trainer)
    if reporter.cancelled:
        raise CancelledError(f"cancelled at step {trainer.state.global_step}; the checkpoint is kept")


def _check_processes(checkpoint: Path) -> None:
    """Raise InputError where other processes than these wrote a checkpoint: their steps were of another size."""
    before = len(list(checkpoint.glob("rng_state_*.pth"))) or 1
    now = current_ranks().size
    if before != now:
        raise InputError(f"this run was begun with {before} processes, and is now started with {now}; start {before}")


def _is_last(checkpoint: Path, *, patience: int | None = None) -> bool:
    """Whether training had ended with this checkpoint."""
    state = json.loads((checkpoint / "trainer_state.json").read_text(encoding="utf-8"))
    return state["global_step"] >= state["max_steps"] or is_exhausted(state["log_history"], patience=patience)


def find_best(history: Sequence[Mapping[str, Any]]) -> int:
    """The step of the lowest validation loss in a trainer's history, the first of equal ones."""
    losses = [(row["eval_loss"], row["step"]) for row in history if "eval_loss" in row]
    if not losses:
        raise TrainingError("training ended before its first validation loss")
    return min(losses)[1]


def is_exhausted(history: Sequence[Mapping[str, Any]], *, patience: int | None) -> bool:
    """Whether so many validation losses in a row were no better than the best before them.

    It follows from the history alone, which checkpoints keep, so that a resumed run stops where it would have stopped.
    """
    losses = [row["eval_loss"] for row in history if "eval_loss" in row]
    return patience is not None and bool(losses) and len(losses) - 1 - losses.index(min(losses)) >= patience


class RunReporter(TrainerCallback):
    """Writes metrics and status, seals checkpoints, stops at the end of a step when asked to.

    Of several processes the first writes and decides (`ranks`), and all of them stop at the same step.
    """

    def __init__(self, run: RunDir, *, progress: Progress, patience: int | None = None) -> None:
        self.run = run
        self.progress = progress
        self.patience = patience
        self.cancelled = False

    def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Enter the phase with the steps already done."""
        self.progress.start("training", total=state.max_steps, step=state.global_step)

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Save and stop where someone asked to; the last step is always in the metrics."""
        self.progress.advance(state.global_step)
        if state.global_step >= state.max_steps:
            control.should_log = True
        if current_ranks().from_first(self.run.cancel_requested):
            self.cancelled = True
            control.should_save = True
            control.should_training_stop = True

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any] | None = None, **kwargs: Any) -> None:
        """One row of metrics.jsonl. Raises TrainingError for a loss that is no number."""
        logs = logs or {}
        numbers = {key: float(value) for key, value in logs.items() if isinstance(value, int | float)}
        numbers.pop("num_tokens", None)  # TRL counts those of this process alone: a resumed run would begin at 0
        if "loss" in logs:
            log_metrics(self.run, step=state.global_step, numbers=numbers)
        elif "eval_loss" in logs:
            log_validation(self.run, step=state.global_step, numbers={"eval_loss": numbers["eval_loss"]})
        # else it is the summary at the end of training, which the report says better

    def on_evaluate(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Keep the best weights, and stop where they have not got better for long enough."""
        if self.patience is None:
            return
        if find_best(state.log_history) == state.global_step:
            control.should_save = True
        if is_exhausted(state.log_history, patience=self.patience):
            control.should_save = True
            control.should_training_stop = True

    def on_save(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        """Seal the checkpoint just written, once every process has written its part of it."""
        ranks = current_ranks()
        ranks.gather(None)
        if ranks.first:
            seal_checkpoint(self.run.checkpoints / f"checkpoint-{state.global_step}")


def log_metrics(run: RunDir, *, step: int, numbers: dict[str, float]) -> None:
    """One row of metrics.jsonl. Raises TrainingError for a loss that is no number."""
    if not math.isfinite(numbers["loss"]):
        raise TrainingError(f"the loss is {numbers['loss']} at step {step}: lower learning_rate, or use fp32")
    finite = {key: value for key, value in numbers.items() if math.isfinite(value)}
    run.append_metrics({"step": step, **finite})


def log_validation(run: RunDir, *, step: int, numbers: Mapping[str, float]) -> None:
    """One row of held-out figures in metrics.jsonl. Raises TrainingError for a loss that is no number."""
    if not math.isfinite(numbers["eval_loss"]):
        raise TrainingError(f"the validation loss is {numbers['eval_loss']} at step {step}")
    run.append_metrics({"step": step, **numbers})


def seal_checkpoint(directory: Path) -> None:
    """Write the manifest of a checkpoint's files, last of all: without one a checkpoint counts as incomplete."""
    files = sorted(file for file in directory.rglob("*") if file.is_file() and file.name != MANIFEST)
    write_json(directory / MANIFEST, {str(file.relative_to(directory)): hash_file(file) for file in files})


def find_checkpoint(run: RunDir) -> Path | None:
    """The last complete checkpoint; remains of a killed save are removed.

    Raises TrainingError where a complete one was changed since: its optimizer state would be loaded blindly.
    """
    found = sorted(run.checkpoints.glob("checkpoint-*"), key=read_step, reverse=True)
    complete = [directory for directory in found if (directory / MANIFEST).is_file()]
    for directory in set(found) - set(complete):
        shutil.rmtree(directory)
    if not complete:
        return None
    for name, digest in read_json(complete[0] / MANIFEST).items():
        file = complete[0] / name
        if not file.is_file() or hash_file(file) != digest:
            raise TrainingError(f"{file} changed since it was saved; delete {complete[0].name} to resume before it")
    return complete[0]


def read_step(checkpoint: Path) -> int:
    """The step in a checkpoint's name."""
    return int(checkpoint.name.removeprefix("checkpoint-"))


def build_report(
    spec: RewardSpec | DPOSpec,
    *,
    data: TrainingData,
    compute: Compute,
    heldout: dict[str, Any],
    untrained: dict[str, Any],
    steps: int,
    best_step: int | None,
    started: float,
) -> dict[str, Any]:
    """What report.json holds for both training methods."""
    shared = count_shared_prompts(data.train, test=data.test)
    notes = [f"{shared} prompts of the test split are in the training split too"] if shared else []
    if spec.method == "dpo" and data.train.pairs[0].pair.margin is not None:
        notes.append("DPO does not use the margins of the data")
    notes += note_best_step(best_step, steps=steps)
    return {
        "method": spec.method,
        "base_model": spec.model,
        "heldout": {"split": "test", **heldout},
        "baselines": {"longer_wins": longer_wins(data.test.pairs), "untrained": untrained},
        "dropped": data.dropped,
        "trained_on": {"pairs": len(data.train.pairs), "prompts": data.train.n_prompts, "steps": steps},
        "best_step": best_step,
        "simulated": data.manifest.get("simulated") is True,
        "seconds": round(time.time() - started, 1),
        "device": compute.device,
        "precision": compute.precision,
        "notes": notes,
    }


def note_best_step(best_step: int | None, *, steps: int) -> list[str]:
    """A sentence for the report where the weights are not those of the last step."""
    if best_step is None or best_step == steps:
        return []
    return [f"training stopped at step {steps}; the weights are those of step {best_step}, the best validated"]


def read_trained_steps(run: RunDir) -> int:
    """Optimizer steps of the finished training, from its last checkpoint."""
    checkpoint = find_checkpoint(run)
    if checkpoint is None:
        raise TrainingError("training ended without a checkpoint")
    return read_step(checkpoint)
