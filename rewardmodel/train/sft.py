"""Train a policy to say what good examples say, over TRL's SFTTrainer.

Rows are token ids before TRL sees them, with a label for every token that is learned (`chat.encode_example`), so that a
chat template is applied in one place only. The validation loss is a token's, over all rows at once: TRL's is a mean of
batch means. LoRA updates are merged at the end, so the result is a plain transformers directory. Several processes hold
the whole model each and share out every step (`ranks`); the first alone measures and writes.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel
from trl import SFTConfig, SFTTrainer, pack_dataset

from rewardmodel.card import write_card
from rewardmodel.chat import EncodedExample
from rewardmodel.compute import Compute, resolve_compute, seed_everything
from rewardmodel.contract import InputError, SFTSpec
from rewardmodel.data import read_examples
from rewardmodel.likelihood import count_learned, sum_log_probs
from rewardmodel.metrics import bootstrap_ratio_by_prompt, summarize_losses
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

IGNORED = -100  # the label of a token that is not learned


class EncodedSFTTrainer(SFTTrainer):
    """SFTTrainer on rows that are token ids already, with a validation loss of our own."""

    def __init__(self, *args: Any, validate: Callable[[Any], float], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.validate = validate

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset

    def evaluate(self, *args: Any, **kwargs: Any) -> dict[str, float]:
        """Log and return the validation loss."""
        model: Any = self.model
        model.eval()  # the next training step sets it to train again
        metrics = {"eval_loss": self.validate(model)}
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def run_sft(spec: SFTSpec, *, run: RunDir, progress: Progress) -> dict[str, Any]:
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
    splits = read_example_splits(spec, read=read_examples)
    base = resolve_model(spec.model)
    reader = choose_reader(spec, base=base, compute=compute)
    tokenizer = load_tokenizer(base)
    learn = "assistant" if spec.assistant_only else "all"
    data = encode_example_splits(spec, splits=splits, tokenizer=tokenizer, learn=learn)
    provenance = record_provenance(spec, run=run, data=data, model=base, compute=compute)

    def measure(model: PreTrainedModel, *, phase: str) -> dict[str, Any]:
        """Log-probabilities and answers of one model, as JSON."""
        prompts = choose_prompts(data, n=spec.report_samples, model=model)
        log_probs = sum_log_probs(model, rows=data.test.rows, compute=reader, progress=progress, phase=phase)
        texts = answer_prompts(model, tokenizer=tokenizer, prompts=prompts, compute=reader, progress=progress)
        return {"log_probs": log_probs.tolist(), "prompts": prompts, "texts": texts}

    target = run.outputs / "model"
    before, best_step, estimate = train_on_rows(
        spec,
        base=base,
        tokenizer=tokenizer,
        data=data,
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
        heldout=summarize_examples(data, before=before, after=after),
        baselines={"untrained": _summarize(data, log_probs=before["log_probs"])},
        before=before,
        after=after,
        steps=read_trained_steps(run),
        best_step=best_step,
        estimate=estimate,
        started=started,
    )
    report["notes"] += note_qlora(spec, reader=reader, compute=compute)
    if not any(tokenizer.eos_token_id in _labels(row) for row in data.train.rows):
        report["notes"].append("no row teaches the token that ends a turn; the model may not learn to stop")
    write_card(target, report=report, provenance=provenance)
    return report


def train_on_rows(
    spec: SFTSpec,
    *,
    base: Path,
    tokenizer: Any,
    data: ExampleData,
    compute: Compute,
    reader: Compute,
    run: RunDir,
    progress: Progress,
    measure: Measure,
    target: Path,
) -> tuple[dict[str, Any], int | None, Estimate]:
    """Train and save into `target`; what `measure` says of the untrained model, the best step, and the memory."""

    def load(*, packed: bool, compute: Compute) -> PreTrainedModel:
        return load_trained_policy(base, tokenizer=tokenizer, compute=compute, packed=packed)

    model = load(packed=spec.tuning == "qlora", compute=compute)
    check_positions(model, max_length=spec.max_length)
    dataset = build_dataset(spec, rows=data.train.rows)
    if spec.packing == "bfd":
        check_packing(model, rows=data.train.rows)
    longest = max(len(ids) for ids in dataset["input_ids"])
    estimate = announce_memory(spec, model=model, tokens=spec.batch_size * longest, compute=compute, run=run)
    before = recall(
        run,
        name="untrained",
        make=lambda: measure(find_untrained(model, load=load, reader=reader), phase="measuring the untrained model"),
    )
    arguments = example_arguments(spec, run=run, compute=compute, n_rows=len(dataset), data=data)
    held = data.validation.rows if data.validation is not None else []
    trainer = EncodedSFTTrainer(
        model=model,
        args=SFTConfig(
            **arguments,
            packing=spec.packing != "none",
            packing_strategy="bfd",
            shuffle_dataset=False,
            average_tokens_across_devices=current_ranks().several,
        ),
        train_dataset=dataset,
        eval_dataset=build_dataset(spec, rows=held) if held else None,
        processing_class=tokenizer,
        peft_config=lora_config(spec),
        validate=lambda trained: validation_loss(trained, rows=held, compute=compute),
    )
    keep_adapters_exact(trainer)
    fit(trainer, run=run, progress=progress, patience=spec.early_stopping_patience)
    best_step = None if spec.early_stopping_patience is None else find_best(trainer.state.log_history)
    progress.start("saving")
    if current_ranks().first:
        whole = merge_adapters(trainer.model, load_whole=lambda: load(packed=False, compute=MAIN_MEMORY))
        save_model(whole, tokenizer=tokenizer, directory=target)
    return before, best_step, estimate


def build_dataset(spec: SFTSpec, *, rows: list[EncodedExample]) -> Dataset:
    """The rows that SFTTrainer trains on, packed where asked for."""
    dataset = Dataset.from_dict({"input_ids": [row.ids for row in rows], "labels": [_labels(row) for row in rows]})
    return pack_dataset(dataset, spec.max_length, "bfd") if spec.packing == "bfd" else dataset


def validation_loss(model: Any, *, rows: list[EncodedExample], compute: Compute) -> float:
    """Loss a learned token over all rows, in nats. Every process reads its share of them."""
    ranks = current_ranks()
    own = rows[ranks.rank :: ranks.size]
    sums = ranks.gather(float(sum_log_probs(model, rows=own, compute=compute).sum()))
    return -sum(sums) / float(count_learned(rows).sum())


def check_packing(model: PreTrainedModel, *, rows: list[EncodedExample]) -> None:
    """Raise InputError where the model reads a conversation otherwise when another one precedes it in the row.

    Tried, not looked up: two training rows are read one by one and packed, and every logit compared.
    """
    first, second = rows[0].ids, rows[-1].ids
    device = next(model.parameters()).device

    def read(ids: list[int], places: list[int]) -> torch.Tensor:
        """(tokens, vocabulary), read as TRL reads packed rows: positions and no mask."""
        tensors = {
            "input_ids": torch.tensor([ids], device=device),
            "position_ids": torch.tensor([places], device=device),
        }
        return model(**tensors, use_cache=False).logits[0]

    with torch.inference_mode():
        packed = read([*first, *second], [*range(len(first)), *range(len(second))])
        alone = read(second, [*range(len(second))])
    difference = (packed[len(first) :] - alone).abs().max().item()
    if difference > 1e-3 * max(1.0, alone.abs().max().item()):
        raise InputError(f"packing: {type(model).__name__} reads packed conversations otherwise; use packing none")


def summarize_examples(data: ExampleData, *, before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """Loss of the trained model, and how much of the untrained one's it took away, with intervals over prompts."""
    gains = np.asarray(after["log_probs"]) - np.asarray(before["log_probs"])  # (rows,)
    tokens = count_learned(data.test.rows)
    interval = bootstrap_ratio_by_prompt(gains, tokens, prompt_ids=_prompt_ids(data))
    return {
        **_summarize(data, log_probs=after["log_probs"]),
        "tokens": int(tokens.sum()),
        "gain": float(gains.sum() / tokens.sum()),
        "gain_interval": list(interval) if interval else None,
    }


def _summarize(data: ExampleData, *, log_probs: list[float]) -> dict[str, Any]:
    return summarize_losses(log_probs, tokens=count_learned(data.test.rows), prompt_ids=_prompt_ids(data))


def _prompt_ids(data: ExampleData) -> list[str]:
    return [row.example.prompt_id for row in data.test.rows]


def _labels(row: EncodedExample) -> list[int]:
    return [token if learned else IGNORED for token, learned in zip(row.ids, row.learned, strict=True)]
