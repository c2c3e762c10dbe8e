"""Train a policy on single responses labelled good or bad (KTO, Ethayarajh et al. 2024) over TRL's KTOTrainer.

Rows are token ids before TRL sees them. They are shuffled once, by the seed: TRL reads them in this order in every
epoch, since the KL term of a batch is estimated from its own prompts and completions paired otherwise. The reference is
the model before the first step: the base without its adapter (LoRA), or log-probabilities computed beforehand (full).
LoRA updates are merged at the end, so the result is a plain transformers directory. Several processes hold the whole
model each and share out every step (`ranks`); completions are paired within the batches of all of them together. The
first process alone measures and writes.
"""

from __future__ import annotations

import gc
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Dataset, load_from_disk
from transformers import PreTrainedModel
from trl import KTOConfig, KTOTrainer

from rewardmodel.card import write_card
from rewardmodel.chat import EncodedExample
from rewardmodel.compute import Compute, resolve_compute, seed_everything
from rewardmodel.contract import KTOSpec
from rewardmodel.data import DataError, read_labelled, text_of
from rewardmodel.likelihood import sum_log_probs
from rewardmodel.metrics import summarize_labels
from rewardmodel.models import load_tokenizer, merge_adapters, resolve_model, save_model
from rewardmodel.progress import Progress
from rewardmodel.ranks import current_ranks, part, refuse_sharding
from rewardmodel.rundir import RunDir
from rewardmodel.trackers import find_trackers
from rewardmodel.train.common import (
    Measure,
    check_positions,
    find_best,
    fit,
    lora_config,
    read_trained_steps,
    recall,
    record_provenance,
)
from rewardmodel.train.examples import (
    ExampleData,
    announce_memory,
    answer_prompts,
    build_example_report,
    choose_prompts,
    encode_example_splits,
    example_arguments,
    keep_adapters_exact,
    load_trained_policy,
    read_example_splits,
)
from rewardmodel.train.memory import Estimate
from rewardmodel.train.qlora import MAIN_MEMORY, check_qlora, choose_reader, find_untrained, note_qlora

# The paper's eq. 8: desirable_weight x desirable rows over undesirable_weight x undesirable rows.
LEAST_RATIO, LARGEST_RATIO = 1.0, 4 / 3


class EncodedKTOTrainer(KTOTrainer):
    """KTOTrainer on rows that are token ids already."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset


def run_kto(spec: KTOSpec, *, run: RunDir, progress: Progress) -> dict[str, Any]:
    """Train, save outputs/model and return the report, whose figures are those of the saved model.

    Raises InputError before any training for data or a model that cannot be used, CancelledError when asked to stop.
    """
    ranks = current_ranks()
    started = run.read_status()["started_at"]
    progress.start("loading")
    refuse_sharding()
    find_trackers(spec, run=run)
    check_qlora(spec)
    compute = resolve_compute(spec.device, precision=spec.precision, threads=spec.threads)
    seed_everything(spec.seed)
    splits = read_example_splits(spec, read=read_labelled)
    base = resolve_model(spec.model)
    reader = choose_reader(spec, base=base, compute=compute)
    tokenizer = load_tokenizer(base)
    data = encode_example_splits(spec, splits=splits, tokenizer=tokenizer, learn="completion")
    for name, rows in (("train", data.train.rows), ("test", data.test.rows)):
        check_classes(rows, split=name)
    provenance = record_provenance(spec, run=run, data=data, model=base, compute=compute)

    def measure(model: PreTrainedModel, *, phase: str) -> dict[str, Any]:
        """Log-probabilities and answers of one model, as JSON."""
        prompts = choose_prompts(data, n=spec.report_samples, model=model)
        log_probs = sum_log_probs(model, rows=data.test.rows, compute=reader, progress=progress, phase=phase)
        texts = answer_prompts(model, tokenizer=tokenizer, prompts=prompts, compute=reader, progress=progress)
        return {"log_probs": log_probs.tolist(), "prompts": prompts, "texts": texts}

    weights = settle_weights(spec, labels=_labels(data.train.rows))
    target = run.outputs / "model"
    before, best_step, estimate = _train(
        spec,
        base=base,
        tokenizer=tokenizer,
        data=data,
        weights=weights,
        compute=compute,
        reader=reader,
        run=run,
        progress=progress,
        measure=measure,
        target=target,
    )
    part()
    if not ranks.first:
        return {}
    gc.collect()  # the trainer's optimizer and model, before another model is loaded
    after = measure(load_trained_policy(target, tokenizer=tokenizer, compute=reader), phase="evaluating")
    report = build_example_report(
        spec,
        data=data,
        compute=compute,
        heldout=summarize_rewards(spec, rows=data.test.rows, before=before, after=after),
        baselines={
            "longer_wins": _summarize([len(text_of(_response(row))) for row in data.test.rows], rows=data.test.rows),
            "untrained": _summarize(before["log_probs"], rows=data.test.rows),
        },
        before=before,
        after=after,
        steps=read_trained_steps(run),
        best_step=best_step,
        estimate=estimate,
        started=started,
    )
    report["notes"] += note_qlora(spec, reader=reader, compute=compute)
    report["weights"] = {"desirable": weights[0], "undesirable": weights[1]}
    write_card(target, report=report, provenance=provenance)
    return report


def _train(
    spec: KTOSpec,
    *,
    base: Path,
    tokenizer: Any,
    data: ExampleData,
    weights: tuple[float, float],
    compute: Compute,
    reader: Compute,
    run: RunDir,
    progress: Progress,
    measure: Measure,
    target: Path,
) -> tuple[dict[str, Any], int | None, Estimate]:
    """Train and save into `target`; what `measure` says of the reference, the best step, and the memory."""

    def load(*, packed: bool, compute: Compute) -> PreTrainedModel:
        return load_trained_policy(base, tokenizer=tokenizer, compute=compute, packed=packed)

    model = load(packed=spec.tuning == "qlora", compute=compute)
    check_positions(model, max_length=spec.max_length)
    estimate = announce_memory(
        spec,
        model=model,
        tokens=spec.batch_size * data.longest,
        compute=compute,
        run=run,
        more=describe_weights(weights, labels=_labels(data.train.rows)),
    )
    before = recall(
        run,
        name="untrained",
        make=lambda: measure(find_untrained(model, load=load, reader=reader), phase="measuring the reference"),
    )
    rows = random.Random(spec.seed).sample(data.train.rows, len(data.train.rows))
    together = spec.batch_size * current_ranks().size

    def share(dataset: Dataset, *, name: str) -> Dataset:
        return share_dataset(dataset, directory=run.checkpoints / f"{name}-by-{together}")

    held = data.validation.rows if data.validation is not None else []
    trainer = EncodedKTOTrainer(
        model=model,
        args=KTOConfig(
            **example_arguments(spec, run=run, compute=compute, n_rows=len(rows), data=data),
            beta=spec.beta,
            desirable_weight=weights[0],
            undesirable_weight=weights[1],
            precompute_ref_log_probs=spec.tuning == "full",
        ),
        train_dataset=share(build_dataset(rows, batch_size=together), name="train"),
        eval_dataset=share(build_dataset(held, batch_size=together), name="validation") if held else None,
        processing_class=tokenizer,
        peft_config=lora_config(spec),
    )
    keep_adapters_exact(trainer)
    fit(trainer, run=run, progress=progress, patience=spec.early_stopping_patience)
    best_step = None if spec.early_stopping_patience is None else find_best(trainer.state.log_history)
    progress.start("saving")
    if current_ranks().first:
        whole = merge_adapters(trainer.model, load_whole=lambda: load(packed=False, compute=MAIN_MEMORY))
        save_model(whole, tokenizer=tokenizer, directory=target)
    return before, best_step, estimate


def check_classes(rows: Sequence[EncodedExample], *, split: str) -> None:
    """Raise DataError where a split holds rows of one label only."""
    labels = _labels(rows)
    if len(set(labels)) < 2:
        missing = "false" if labels[0] else "true"
        raise DataError(
            f"data: all {len(labels)} usable rows of the {split} split are labelled {str(labels[0]).lower()}; KTO "
            f"needs some labelled {missing} too (to imitate good responses alone, use method sft)"
        )


def settle_weights(spec: KTOSpec, *, labels: Sequence[bool]) -> tuple[float, float]:
    """Weights of desirable and undesirable rows, whose weighted numbers are to stand in a ratio of 1 to 4/3.

    What was given is kept. Of what was left out, as little is changed from 1 as brings the ratio there.
    """
    ratio = sum(labels) / (len(labels) - sum(labels))
    desirable, undesirable = spec.desirable_weight, spec.undesirable_weight
    if desirable is not None and undesirable is not None:
        return desirable, undesirable
    if desirable is None and undesirable is None:
        return max(1.0, LEAST_RATIO / ratio), max(1.0, ratio / LARGEST_RATIO)
    if undesirable is None:
        given = ratio * (desirable or 1.0)
        return desirable or 1.0, given / min(max(given, LEAST_RATIO), LARGEST_RATIO)
    given = ratio / undesirable
    return min(max(given, LEAST_RATIO), LARGEST_RATIO) / given, undesirable


def describe_weights(weights: tuple[float, float], *, labels: Sequence[bool]) -> str:
    """One line for status and log: what was picked, of what."""
    desirable, undesirable = sum(labels), len(labels) - sum(labels)
    ratio = weights[0] * desirable / (weights[1] * undesirable)
    return (
        f"{desirable} desirable rows of weight {weights[0]:.3g} and {undesirable} undesirable of {weights[1]:.3g}, "
        f"a ratio of {ratio:.2f}"
    )


def build_dataset(rows: Sequence[EncodedExample], *, batch_size: int) -> Dataset:
    """The rows that KTOTrainer reads, each with the completion of its neighbour in the batch for the KL term.

    As in TRL, completions move on by one within a batch. A last batch of a single row takes the one before it: its own
    would say nothing of the KL divergence.
    """
    completions = [row.ids[row.start :] for row in rows]
    others = []
    for place in range(len(rows)):
        first = place - place % batch_size
        size = min(batch_size, len(rows) - first)
        others.append(completions[place - 1 if size == 1 else first + (place - first - 1) % size])
    return Dataset.from_dict(
        {
            "prompt_ids": [row.ids[: row.start] for row in rows],
            "completion_ids": completions,
            "KL_completion_ids": others,
            "label": _labels(rows),
        }
    )


def share_dataset(dataset: Dataset, *, directory: Path) -> Dataset:
    """The dataset as all processes read it from one place: TRL keeps the reference's log-probabilities beside it."""
    ranks = current_ranks()
    if not ranks.several:
        return dataset

    def save() -> None:
        if not directory.is_dir():
            unfinished = directory.with_name(f".{directory.name}")
            dataset.save_to_disk(unfinished)
            unfinished.rename(directory)

    ranks.from_first(save)
    return load_from_disk(directory)


def summarize_rewards(
    spec: KTOSpec, *, rows: Sequence[EncodedExample], before: dict[str, Any], after: dict[str, Any]
) -> dict[str, Any]:
    """How well the implicit reward beta x log pi/pi_ref tells the classes apart, and its mean log-ratios, in nats."""
    ratios = np.asarray(after["log_probs"]) - np.asarray(before["log_probs"])  # (rows,)
    labels = np.asarray(_labels(rows))
    return {
        **_summarize(spec.beta * ratios, rows=rows),
        "n_desirable": int(labels.sum()),
        "n_undesirable": int((~labels).sum()),
        "mean_log_ratio_desirable": float(ratios[labels].mean()),
        "mean_log_ratio_undesirable": float(ratios[~labels].mean()),
    }


def _summarize(scores: Sequence[float] | np.ndarray, *, rows: Sequence[EncodedExample]) -> dict[str, Any]:
    return summarize_labels(scores, labels=_labels(rows), prompt_ids=[row.example.prompt_id for row in rows])


def _labels(rows: Sequence[EncodedExample]) -> list[bool]:
    return [row.example.label is True for row in rows]


def _response(row: EncodedExample) -> list[Any]:
    return row.example.messages[row.example.n_context :]
