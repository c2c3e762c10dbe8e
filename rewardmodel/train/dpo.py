"""Train a policy on groups of responses by direct preference optimisation (Rafailov et al. 2023) and its kin.

The reference is the model before the first step. Its log-probabilities are read once, with the very code and rounding
that training reads with, and kept in a cache by the hash of weights and texts: a second run on the same data starts at
once. Every response is read once for all of its pairs. The losses are those of `policy_losses`; the loop is our own,
since TRL's DPOTrainer pads, reads each pair's prompt twice and computes logits of prompts; it stays as an oracle in the
tests. LoRA updates are merged at the end, so the result is a plain transformers directory. Several processes share out
every step and the reading of the reference (`ranks`); the first alone measures and writes.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import PreTrainedModel

from rewardmodel.card import write_card
from rewardmodel.compute import Compute, resolve_compute, seed_everything
from rewardmodel.contract import DPOSpec, Message
from rewardmodel.data import DataError
from rewardmodel.evaluate import completion_log_probs, summarize_pairs
from rewardmodel.generate import Sampling, generate_responses
from rewardmodel.groups import Group, gather_groups, plan_rows
from rewardmodel.log_probs import find_completions, has_plain_head, read_log_probs
from rewardmodel.models import (
    load_policy,
    load_tokenizer,
    merge_adapters,
    models_directory,
    resolve_model,
    save_model,
)
from rewardmodel.policy_losses import LOSSES, Settings, Sides
from rewardmodel.progress import Progress
from rewardmodel.ranks import current_ranks, part
from rewardmodel.reading import packed_attention, send
from rewardmodel.rundir import RunDir, read_json, write_json
from rewardmodel.trackers import find_trackers
from rewardmodel.train.common import (
    Measure,
    TrainingData,
    build_report,
    check_positions,
    encode_splits,
    lora_config,
    read_splits,
    read_trained_steps,
    recall,
    record_provenance,
)
from rewardmodel.train.loop import (
    Training,
    gather_held,
    keep_weighty,
    plan_training,
    shrink_weights,
    train_to_the_end,
)
from rewardmodel.train.qlora import MAIN_MEMORY, check_qlora, choose_reader, find_untrained, note_qlora
from rewardmodel.train.settle import Settled

SAMPLE_TOKENS = 128


def run_dpo(spec: DPOSpec, *, run: RunDir, progress: Progress) -> dict[str, Any]:
    """Train, save outputs/model and return the report, whose figures are those of the saved model.

    Raises InputError before any training for data or a model that cannot be used, CancelledError when asked to stop.
    """
    ranks = current_ranks()
    started = run.read_status()["started_at"]
    progress.start("loading")
    find_trackers(spec, run=run)
    check_qlora(spec)
    compute = resolve_compute(spec.device, precision=spec.precision, threads=spec.threads)
    seed_everything(spec.seed)
    splits = read_splits(spec)
    base = resolve_model(spec.model)
    reader = choose_reader(spec, base=base, compute=compute)
    tokenizer = load_tokenizer(base)
    data = encode_splits(spec, splits=splits, tokenizer=tokenizer)
    provenance = record_provenance(spec, run=run, data=data, model=base, compute=compute)

    def measure(model: PreTrainedModel, *, phase: str) -> dict[str, Any]:
        """Log-probabilities and answers of one model, as JSON."""
        prompts = choose_sample_prompts(data, n=spec.report_samples, model=model)
        log_probs = completion_log_probs(model, pairs=data.test.pairs, compute=reader, progress=progress, phase=phase)
        texts = answer(model, tokenizer=tokenizer, prompts=prompts, compute=reader, progress=progress)
        return {"log_probs": log_probs.tolist(), "prompts": prompts, "texts": texts}

    target = run.outputs / "model"
    before, best_step, settled = _train(
        spec,
        base=base,
        tokenizer=tokenizer,
        data=data,
        weights=provenance["base_model"]["weights_sha256"],
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
    gc.collect()  # the optimizer and the model, before another model is loaded
    after = measure(_load(target, tokenizer=tokenizer, compute=reader), phase="evaluating")
    report = build_report(
        spec,
        data=data,
        compute=compute,
        heldout=summarize_policy(spec, data=data, before=before, after=after),
        untrained=summarize_reference(data, before=before),
        steps=read_trained_steps(run),
        best_step=best_step,
        started=started,
    )
    report["loss"] = spec.loss_type
    report["settled"] = settled.to_dict()
    report["notes"] += note_qlora(spec, reader=reader, compute=compute)
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
    weights: dict[str, str],
    compute: Compute,
    reader: Compute,
    run: RunDir,
    progress: Progress,
    measure: Measure,
    target: Path,
) -> tuple[dict[str, Any], int | None, Settled]:
    """Train and save into `target`; what `measure` says of the model before its first step (the reference), the best
    step, and the settings. weights: hashes of the base model's files."""

    def load(*, packed: bool, compute: Compute) -> Any:
        return _load(base, tokenizer=tokenizer, compute=compute, packed=packed)

    model = load(packed=spec.tuning == "qlora", compute=compute)
    check_positions(model, max_length=spec.max_length)
    before = recall(
        run,
        name="untrained",
        make=lambda: measure(find_untrained(model, load=load, reader=reader), phase="measuring the reference"),
    )
    adapters = lora_config(spec)
    if adapters is not None:
        from peft import get_peft_model

        model = get_peft_model(model, adapters)
    model.eval()
    groups = prepare_groups(spec, data=data)
    settled, groups, steps = plan_training(
        spec, model=model, compute=compute, groups=groups, pairs=data.train.pairs, run=run
    )
    held = gather_held(data.held, settled=settled)
    if spec.loss_type != "simpo":
        if settled.weights != "fp32":
            shrink_weights(model)  # the reference rounds as the policy does
        with contextlib.nullcontext() if adapters is None else model.disable_adapter():
            groups, held = [
                recall_reference(
                    model,
                    spec=spec,
                    settled=settled,
                    compute=compute,
                    groups=wanted,
                    pad_id=tokenizer.pad_token_id,
                    weights=weights,
                    progress=progress,
                )
                for wanted in (groups, held)
            ]
    training = DPOTraining(
        model,
        spec=spec,
        settled=settled,
        compute=compute,
        groups=groups,
        steps=steps,
        pad_id=tokenizer.pad_token_id,
        held=held,
    )
    best_step = train_to_the_end(training, spec=spec, run=run, progress=progress)
    progress.start("saving")
    training.finish()
    if training.ranks.first:
        whole = merge_adapters(model, load_whole=lambda: load(packed=False, compute=MAIN_MEMORY))
        save_model(whole, tokenizer=tokenizer, directory=target)
    return before, best_step, settled


def prepare_groups(spec: DPOSpec, *, data: TrainingData) -> list[Group]:
    """The training groups. Raises DataError where every pair weighs nothing."""
    pairs = keep_weighty(spec, pairs=data.train.pairs)
    if len(pairs) < len(data.train.pairs):
        data.train.dropped["weightless"] = len(data.train.pairs) - len(pairs)
    if not pairs:
        raise DataError(f"data: every training pair weighs nothing; dropped {data.train.dropped}")
    return gather_groups(pairs)


class DPOTraining(Training):
    """Training of a policy. The groups carry the reference's log-probabilities, or none for simpo."""

    TALLIES = ("loss", "pairs", "right", "leads", "better", "worse")
    spec: DPOSpec

    def __init__(self, model: Any, *, spec: DPOSpec, settled: Settled, **settings: Any) -> None:
        # Packed rows are settled for plain heads alone.
        self.plain = settled.packed or has_plain_head(model)
        self.lose = LOSSES[spec.loss_type]
        self.settings = Settings(
            beta=spec.beta or 0.0,
            smoothing=spec.label_smoothing or 0.0,
            target_margin=spec.target_margin or 0.0,
            length_control=spec.length_control,
        )
        super().__init__(model, spec=spec, settled=settled, **settings)

    def _read(self, groups: Sequence[Group], *, total: float, pairs: int) -> tuple[torch.Tensor, dict[str, Any]]:
        sides, weights = self._read_sides(groups)
        loss = (weights * self.lose(sides, self.settings)).sum() / total
        with torch.no_grad():
            leads = sides.better - sides.worse
            count = torch.full_like(loss, len(leads))
        tallies = {
            "loss": loss, "pairs": count, "right": ((leads.sign() + 1) / 2).sum(),
            "leads": self.settings.beta * leads.sum(), "better": sides.better.sum(), "worse": sides.worse.sum(),
        }  # fmt: skip
        return loss, tallies

    def _summarize(self, tallies: Mapping[str, float]) -> dict[str, float]:
        pairs = tallies["pairs"]
        return {
            "accuracy": tallies["right"] / pairs,
            "margin": tallies["leads"] / pairs,
            "log_ratio_chosen": tallies["better"] / pairs,
            "log_ratio_rejected": tallies["worse"] / pairs,
        }

    def _judge(self, groups: Sequence[Group]) -> tuple[int, dict[str, torch.Tensor]]:
        """The loss that is trained on, every pair counted once, and the accuracy of the implicit reward."""
        sides, _ = self._read_sides(groups)
        right = ((sides.better - sides.worse).sign() + 1) / 2
        return len(right), {"loss": self.lose(sides, self.settings).double().sum(), "accuracy": right.sum()}

    def _read_sides(self, groups: Sequence[Group]) -> tuple[Sides, torch.Tensor]:
        """Both sides of some groups' pairs, and the pairs' weights, (pairs,)."""
        places, weights, reference = self._tabulate(groups)  # sent ahead
        log_probs, lengths = self.read_log_probs(groups)
        ratios = log_probs - reference
        better, worse = places.unbind(1)
        return Sides(ratios[better], ratios[worse], lengths[better], lengths[worse]), weights

    def read_log_probs(self, groups: Sequence[Group]) -> tuple[torch.Tensor, torch.Tensor]:
        """log pi of each completion in nats and its length in tokens, both (responses,), in the order of the groups."""
        batch = self.build(groups)
        completions = find_completions(groups, batch=batch, device=self.compute.device)
        with self.autocast():
            found = read_log_probs(self.model, batch=batch, completions=completions, plain=self.plain)
        return found, completions.lengths

    def _tabulate(self, groups: Sequence[Group]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Places of both sides (pairs, 2), weights (pairs,), and the reference's log-probabilities (responses,)."""
        lines, start = [], 0
        for group in groups:
            for edge in group.edges:
                lines.append((start + edge.better, start + edge.worse, 1.0 if self.equal else edge.weight))
            start += len(group.sequences)
        known = [value for group in groups for value in group.reference or [0.0] * len(group.sequences)]
        values = send(np.asarray(lines, dtype=np.float64), device=self.compute.device)
        reference = send(np.asarray(known, dtype=np.float32), device=self.compute.device)
        return values[:, :2].long(), values[:, 2].float(), reference


def recall_reference(
    model: Any,
    *,
    spec: DPOSpec,
    settled: Settled,
    compute: Compute,
    groups: Sequence[Group],
    pad_id: int,
    weights: Mapping[str, str],
    progress: Progress,
) -> list[Group]:
    """The groups with the log-probabilities of the model as it is, from the cache where they are known.

    weights: hashes of the model's files.
    """
    way = [settled.packed, settled.weights, compute.device, compute.precision]
    if spec.tuning == "qlora":
        way.append("nf4")
    texts = [[group.prompt_length, [list(ids) for ids in group.sequences]] for group in groups]
    key = hashlib.sha256(json.dumps([dict(weights), way, texts], sort_keys=True).encode()).hexdigest()
    if not groups:
        return []
    file = models_directory() / "reference-log-probs" / f"{key}.json"
    ranks = current_ranks()
    if not ranks.from_first(file.is_file):
        found = read_reference(
            model, spec=spec, settled=settled, compute=compute, groups=groups, pad_id=pad_id, progress=progress
        )
        if ranks.first:
            file.parent.mkdir(parents=True, exist_ok=True)
            write_json(file, {"log_probs": found})
    known = ranks.from_first(lambda: read_json(file))["log_probs"]
    return [replace(group, reference=values) for group, values in zip(groups, known, strict=True)]


def read_reference(
    model: Any,
    *,
    spec: DPOSpec,
    settled: Settled,
    compute: Compute,
    groups: Sequence[Group],
    pad_id: int,
    progress: Progress,
) -> list[list[float]]:
    """log pi of every completion of every group, in nats, read as training reads it (but never compiled)."""
    plain = replace(settled, compiled=False, checkpointing=False, sharded=False)
    reader = DPOTraining(
        model, spec=spec, settled=plain, compute=compute, groups=groups, steps=[], pad_id=pad_id, optimize=False
    )
    ranks = current_ranks()
    found: dict[int, list[float]] = {}
    progress.start("reading the reference", total=len(groups))
    order = sorted(range(len(groups)), key=lambda i: -groups[i].tokens)  # padding is least among like lengths
    done = 0
    for start in range(0, len(order), 256):
        slab = order[start : start + 256][ranks.rank :: ranks.size]
        for row in plan_rows([groups[i] for i in slab], tokens=plain.batch_tokens, packed=plain.packed, share=True):
            together = [slab[place] for place in row]
            with torch.no_grad(), packed_attention(model) if plain.packed else torch.no_grad():
                values = reader.read_log_probs([groups[i] for i in together])[0].tolist()
            for index in together:
                size = len(groups[index].sequences)
                found[index], values = values[:size], values[size:]
            done += len(together) * ranks.size
            progress.advance(min(done, len(groups)))
            progress.check()
    everything = {index: values for part in ranks.gather(found) for index, values in part.items()}
    return [everything[index] for index in range(len(groups))]


def _load(directory: Path, *, tokenizer: Any, compute: Compute, packed: bool = False) -> PreTrainedModel:
    """A policy in float32: bfloat16 autocast goes over it, so that small updates are kept."""
    return load_policy(directory, tokenizer=tokenizer, compute=compute, dtype=torch.float32, packed=packed)


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
