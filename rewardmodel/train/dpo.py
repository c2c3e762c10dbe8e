"""Train a policy by direct preference optimisation (Rafailov et al. 2023) over TRL's DPOTrainer.

The reference is the model before the first step: the base without its adapter (LoRA), or log-probabilities computed
beforehand (full). LoRA updates are merged at the end, so the result is a plain transformers directory.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import Dataset
from transformers import PreTrainedModel
from trl import DPOConfig, DPOTrainer

from rewardmodel.card import write_card
from rewardmodel.compute import Compute, resolve_compute, seed_everything
from rewardmodel.contract import DPOSpec, Message
from rewardmodel.evaluate import completion_log_probs, summarize_pairs
from rewardmodel.generate import Sampling, generate_responses
from rewardmodel.models import load_policy, load_tokenizer, merge_adapters, resolve_model, save_model
from rewardmodel.progress import Progress
from rewardmodel.rundir import RunDir
from rewardmodel.train.common import (
    Measure,
    TrainingData,
    build_report,
    check_positions,
    encode_splits,
    fit,
    lora_config,
    read_splits,
    read_trained_steps,
    recall,
    record_provenance,
    to_dataset,
    training_arguments,
)

SAMPLE_TOKENS = 128


class EncodedDPOTrainer(DPOTrainer):
    """DPOTrainer on rows that are token ids already, so that a chat template is applied in one place only."""

    def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
        return dataset


def run_dpo(spec: DPOSpec, *, run: RunDir, progress: Progress) -> dict[str, Any]:
    """Train, save outputs/model and return the report, whose figures are those of the saved model.

    Raises InputError before any training for data or a model that cannot be used, CancelledError when asked to stop.
    """
    started = run.read_status()["started_at"]
    progress.start("loading")
    compute = resolve_compute(spec.device, precision=spec.precision, threads=spec.threads)
    seed_everything(spec.seed)
    splits = read_splits(spec)
    base = resolve_model(spec.model)
    tokenizer = load_tokenizer(base)
    data = encode_splits(spec, splits=splits, tokenizer=tokenizer)
    provenance = record_provenance(spec, run=run, data=data, model=base, compute=compute)

    def measure(model: PreTrainedModel, *, phase: str) -> dict[str, Any]:
        """Log-probabilities and answers of one model, as JSON."""
        prompts = choose_sample_prompts(data, n=spec.report_samples, model=model)
        log_probs = completion_log_probs(model, pairs=data.test.pairs, compute=compute, progress=progress, phase=phase)
        texts = answer(model, tokenizer=tokenizer, prompts=prompts, compute=compute, progress=progress)
        return {"log_probs": log_probs.tolist(), "prompts": prompts, "texts": texts}

    target = run.outputs / "model"
    before = _train(
        spec,
        base=base,
        tokenizer=tokenizer,
        data=data,
        compute=compute,
        run=run,
        progress=progress,
        measure=measure,
        target=target,
    )
    gc.collect()  # the trainer's optimizer and model, before another model is loaded
    after = measure(_load(target, tokenizer=tokenizer, compute=compute), phase="evaluating")
    report = build_report(
        spec,
        data=data,
        compute=compute,
        heldout=summarize_policy(spec, data=data, before=before, after=after),
        untrained=summarize_reference(data, before=before),
        steps=read_trained_steps(run),
        started=started,
    )
    report["samples"] = [
        {"prompt": prompt, "before": old, "after": new}
        for prompt, old, new in zip(before["prompts"], before["texts"], after["texts"], strict=True)
    ]
    write_card(target, report=report, provenance=provenance)
    return report


def _train(
    spec: DPOSpec,
    *,
    base: Path,
    tokenizer: Any,
    data: TrainingData,
    compute: Compute,
    run: RunDir,
    progress: Progress,
    measure: Measure,
    target: Path,
) -> dict[str, Any]:
    """Train and save into `target`; returns what `measure` says of the model before its first step: the reference."""
    model = _load(base, tokenizer=tokenizer, compute=compute)
    check_positions(model, max_length=spec.max_length)
    before = recall(run, name="untrained", make=lambda: measure(model, phase="measuring the reference"))
    arguments = training_arguments(spec, run=run, compute=compute, n_pairs=len(data.train.pairs))
    trainer = EncodedDPOTrainer(
        model=model,
        args=DPOConfig(
            **arguments,
            beta=spec.beta,
            loss_type=[spec.loss_type],
            label_smoothing=0.1 if spec.loss_type == "robust" else 0.0,  # as the Robust DPO paper has it
            precompute_ref_log_probs=spec.tuning == "full",
        ),
        train_dataset=to_dataset(data.train.pairs),
        processing_class=tokenizer,
        peft_config=lora_config(spec),
    )
    fit(trainer, run=run, progress=progress)
    progress.start("saving")
    save_model(merge_adapters(trainer.model), tokenizer=tokenizer, directory=target)
    return before


def _load(directory: Path, *, tokenizer: Any, compute: Compute) -> PreTrainedModel:
    """A policy in float32: bfloat16 autocast goes over it, so that small updates are kept."""
    return load_policy(directory, tokenizer=tokenizer, compute=compute, dtype=torch.float32)


def summarize_policy(
    spec: DPOSpec, *, data: TrainingData, before: dict[str, Any], after: dict[str, Any]
) -> dict[str, Any]:
    """Figures of the implicit reward, and how far the policy moved: mean log pi/pi_ref, in nats a response."""
    ratios = np.asarray(after["log_probs"]) - np.asarray(before["log_probs"])  # (pairs, 2)
    margins = spec.beta * (ratios[:, 0] - ratios[:, 1])
    return {
        **summarize_pairs(margins.tolist(), pairs=data.test.pairs),
        "mean_log_ratio_chosen": float(ratios[:, 0].mean()),
        "mean_log_ratio_rejected": float(ratios[:, 1].mean()),
    }


def summarize_reference(data: TrainingData, *, before: dict[str, Any]) -> dict[str, Any]:
    """How often the reference itself finds the chosen response likelier, by summed log-probability.

    log_loss is that of the implicit reward before the first step: every margin is 0, and the loss ln 2.
    """
    log_probs = np.asarray(before["log_probs"])
    figures = summarize_pairs((log_probs[:, 0] - log_probs[:, 1]).tolist(), pairs=data.test.pairs)
    return {**figures, "log_loss": float(np.log(2.0))}


def choose_sample_prompts(data: TrainingData, *, n: int, model: PreTrainedModel) -> list[list[Message]]:
    """The first n held-out prompts that leave the model room to answer."""
    limit = model.config.get_text_config().max_position_embeddings
    chosen: dict[str, list[Message]] = {}
    for item in data.test.pairs:
        # Two tokens a prompt may be shared with the completion; ten are a safe allowance for the turn's beginning.
        if len(item.prompt_ids) + 10 + SAMPLE_TOKENS <= limit:
            chosen.setdefault(item.pair.prompt_id, item.pair.prompt)
    return list(chosen.values())[:n]


def answer(
    model: PreTrainedModel,
    *,
    tokenizer: Any,
    prompts: list[list[Message]],
    compute: Compute,
    progress: Progress,
) -> list[str]:
    """Greedy answers, so that before and after differ by the training alone."""
    sampling = Sampling(temperature=0.0, max_new_tokens=SAMPLE_TOKENS, batch_size=4)
    made = generate_responses(
        model,
        tokenizer=tokenizer,
        prompts=prompts,
        sampling=sampling,
        compute=compute,
        progress=progress,
        phase="answering held-out prompts",
    )
    return [response.text for response in made]
