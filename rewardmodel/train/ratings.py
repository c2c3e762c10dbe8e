"""Train a reward model of named scales on rated responses, as HelpSteer2 has them (Wang et al. 2024).

One output a scale, by squared error on ratings less their training mean over their training deviation; a scale that a
response was not rated on does not count. At the end the deviations are written into the head, so that an output is a
rating less its mean; the means, and the weights by which the scales make one score, stand in the configuration. Steps,
checkpoints and several processes are those of `loop`.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from rewardmodel.card import write_card
from rewardmodel.chat import EncodedSplit, encode_conversation
from rewardmodel.compute import Compute, resolve_compute, seed_everything
from rewardmodel.contract import RewardSpec
from rewardmodel.data import DataError, hash_file, read_manifest
from rewardmodel.features import read_all
from rewardmodel.groups import Group, shared_length
from rewardmodel.models import (
    create_reward_model,
    load_reward_model,
    load_tokenizer,
    merge_adapters,
    note_template,
    resolve_model,
    save_model,
)
from rewardmodel.progress import Progress
from rewardmodel.ranks import current_ranks, part
from rewardmodel.ratings import Rated, Scales, find_scales, read_ratings, settle_weights, summarize_ratings
from rewardmodel.reading import find_parts, read_attributes, read_last, send
from rewardmodel.rundir import RunDir
from rewardmodel.train.common import (
    TrainingData,
    check_positions,
    find_trackers,
    find_used_splits,
    lora_config,
    note_best_step,
    read_trained_steps,
    record_provenance,
)
from rewardmodel.train.loop import Training, plan_training, train_to_the_end
from rewardmodel.train.qlora import MAIN_MEMORY, check_qlora, choose_reader, note_qlora
from rewardmodel.train.settle import Settled

MOST_RESPONSES = 8  # of one prompt that are read together


@dataclass(frozen=True)
class RatedGroup(Group):
    """Responses to one prompt with their standardised ratings, NaN where there is none: (responses, scales)."""

    targets: list[list[float]] = field(default_factory=list)

    @property
    def pairs(self) -> int:
        """What counts towards a step: its responses."""
        return len(self.sequences)


@dataclass(frozen=True)
class Encoded:
    """The responses of a split that fit, with their token ids, and how many did not."""

    rated: list[Rated]
    sequences: list[list[int]]
    dropped: dict[str, int]


def run_ratings(spec: RewardSpec, *, run: RunDir, progress: Progress) -> dict[str, Any]:
    """Train, save outputs/model and return the report, whose figures are those of the saved model.

    Raises InputError before any training for data or a model that cannot be used, CancelledError when asked to stop.
    """
    ranks = current_ranks()
    started = run.read_status()["started_at"] or time.time()
    progress.start("loading")
    find_trackers(spec, run=run)
    check_qlora(spec)
    compute = resolve_compute(spec.device, precision=spec.precision, threads=spec.threads)
    seed_everything(spec.seed)
    files = find_used_splits(spec)
    read = {name: read_ratings(file) for name, file in files.items()}
    base = resolve_model(spec.model)
    reader = choose_reader(spec, base=base, compute=compute)
    tokenizer = load_tokenizer(base)
    splits = {
        name: encode_rated(tokenizer, rated=rated, max_length=spec.max_length, name=str(files[name]))
        for name, rated in read.items()
    }
    scales = find_scales(splits["train"].rated)
    weights = settle_weights(spec.attribute_weights, names=scales.names)
    data = TrainingData(
        train=EncodedSplit([], splits["train"].dropped),
        test=EncodedSplit([], splits["test"].dropped),
        sha256={name: hash_file(file) for name, file in files.items()},
        manifest=read_manifest(spec.data),
    )
    provenance = record_provenance(spec, run=run, data=data, model=base, compute=compute)

    def load(*, packed: bool, compute: Compute) -> Any:
        return create_reward_model(
            base, tokenizer=tokenizer, compute=compute, seed=spec.seed, outputs=len(scales.names), packed=packed
        )

    settled, best_step, model = _train(
        spec, load=load, splits=splits, scales=scales, compute=compute, run=run, progress=progress
    )
    target = run.outputs / "model"
    if ranks.first:
        write_scales(model, scales=scales, weights=weights)
        save_model(model, tokenizer=tokenizer, directory=target)
    part()
    if not ranks.first:
        return {}
    del model
    gc.collect()
    trained = load_reward_model(target, tokenizer=tokenizer, compute=reader)
    steps = read_trained_steps(run)
    report = {
        "method": spec.method,
        "loss": spec.loss,
        "base_model": spec.model,
        "heldout": measure(trained, encoded=splits["test"], scales=scales, compute=reader, progress=progress),
        "attribute_weights": dict(zip(scales.names, weights, strict=True)),
        "dropped": {name: split.dropped for name, split in splits.items()},
        "trained_on": {
            "responses": len(splits["train"].rated),
            "prompts": len({one.prompt_id for one in splits["train"].rated}),
            "steps": steps,
        },
        "best_step": best_step,
        "simulated": data.manifest.get("simulated") is True,
        "seconds": round(time.time() - started, 1),
        "device": compute.device,
        "precision": compute.precision,
        "settled": settled.to_dict(),
        "notes": [
            *list_notes(splits, scales=scales),
            *note_template(tokenizer),
            *note_best_step(best_step, steps=steps),
            *note_qlora(spec, reader=reader, compute=compute),
        ],
    }
    write_card(target, report=report, provenance=provenance)
    return report


def _train(
    spec: RewardSpec,
    *,
    load: Callable[..., Any],
    splits: Mapping[str, Encoded],
    scales: Scales,
    compute: Compute,
    run: RunDir,
    progress: Progress,
) -> tuple[Settled, int | None, Any]:
    model = load(packed=spec.tuning == "qlora", compute=compute)
    check_positions(model, max_length=spec.max_length)
    adapters = lora_config(spec)
    if adapters is not None:
        from peft import get_peft_model

        model = get_peft_model(model, adapters)
    model.eval()
    settled, groups, steps = plan_training(
        spec, model=model, compute=compute, groups=gather_rated(splits["train"], scales=scales), pairs=[], run=run
    )
    pad_id = find_parts(model)[0].config.pad_token_id
    held = gather_rated(splits["validation"], scales=scales) if "validation" in splits else []
    if held and np.isnan(list_targets(held)).all():
        raise DataError("data: no response of the validation split is rated on a scale of the training split")
    training = RatingsTraining(
        model,
        spec=spec,
        settled=settled,
        compute=compute,
        groups=groups,
        steps=steps,
        pad_id=pad_id,
        held=held,
    )
    best_step = train_to_the_end(training, spec=spec, run=run, progress=progress)
    progress.start("saving")
    training.finish()
    if current_ranks().first:
        model = merge_adapters(model, load_whole=lambda: load(packed=False, compute=MAIN_MEMORY))
    return settled, best_step, model


def encode_rated(tokenizer: Any, *, rated: Sequence[Rated], max_length: int, name: str) -> Encoded:
    """The responses that fit max_length. Raises DataError where none is left."""
    kept, sequences = [], []
    for one in rated:
        ids = encode_conversation(tokenizer, messages=[*one.prompt, *one.response])
        if len(ids) <= max_length:
            kept.append(one)
            sequences.append(ids)
    dropped = len(rated) - len(kept)
    if not kept:
        raise DataError(f"{name}: no usable response is left; dropped {dropped} longer than max_length {max_length}")
    return Encoded(kept, sequences, {"too_long": dropped})


def gather_rated(encoded: Encoded, *, scales: Scales) -> list[Group]:
    """Groups of one prompt's responses, not too many together."""
    by_prompt: dict[str, list[int]] = {}
    for place, one in enumerate(encoded.rated):
        by_prompt.setdefault(one.prompt_id, []).append(place)
    groups: list[Group] = []
    for prompt_id, places in by_prompt.items():
        for start in range(0, len(places), MOST_RESPONSES):
            own = places[start : start + MOST_RESPONSES]
            sequences = [encoded.sequences[i] for i in own]
            shared = shared_length(sequences)
            targets = [scales.standardize(encoded.rated[i].ratings) for i in own]
            groups.append(RatedGroup(prompt_id, sequences, shared, shared, [], [], targets=targets))
    return groups


class RatingsTraining(Training):
    """Training by squared error. "loss" in the metrics is about the share of variance that is not explained."""

    TALLIES = ("loss", "pairs")
    FIGURES = ("loss",)
    spec: RewardSpec

    def _read(self, groups: Sequence[Group], *, total: float, pairs: int) -> tuple[torch.Tensor, dict[str, Any]]:
        errors = self._read_errors(groups)
        loss = errors.square().sum() / total
        return loss, {"loss": loss, "pairs": torch.full_like(loss, len(errors))}

    def _judge(self, groups: Sequence[Group]) -> tuple[int, dict[str, torch.Tensor]]:
        """The mean over ratings of the squared error."""
        return int((~np.isnan(list_targets(groups))).sum()), {"loss": self._read_errors(groups).square().sum()}

    def _read_errors(self, groups: Sequence[Group]) -> torch.Tensor:
        """(responses, scales), 0 where there is no rating."""
        targets = send(list_targets(groups).astype(np.float32), device=self.compute.device)
        batch = self.build(groups)
        with self.autocast():
            outputs = find_parts(self.model)[1](read_last(self.model, batch=batch)).float()
        return torch.where(~targets.isnan(), outputs - torch.nan_to_num(targets), 0.0)

    def _weigh(self, groups: Sequence[Group]) -> float:
        """How many ratings a step holds."""
        return max(1.0, float((~np.isnan(list_targets(groups))).sum()))

    def _summarize(self, tallies: Mapping[str, float]) -> dict[str, float]:
        return {}


def list_targets(groups: Sequence[Group]) -> np.ndarray:
    """(responses, scales), NaN where there is no rating."""
    return np.array([line for group in groups if isinstance(group, RatedGroup) for line in group.targets])


@torch.no_grad()
def write_scales(model: Any, *, scales: Scales, weights: Sequence[float]) -> None:
    """Have the outputs in the ratings' units, and the configuration say what they are."""
    head = find_parts(model)[1]
    head.weight.mul_(torch.tensor(scales.deviations, dtype=head.weight.dtype, device=head.weight.device)[:, None])
    model.config.id2label = dict(enumerate(scales.names))
    model.config.label2id = {name: i for i, name in enumerate(scales.names)}
    model.config.rated_attributes = {
        "names": scales.names,
        "means": scales.means.tolist(),
        "weights": list(weights),
    }


def measure(model: Any, *, encoded: Encoded, scales: Scales, compute: Compute, progress: Progress) -> dict[str, Any]:
    """Held-out figures scale by scale."""
    states = read_all(model, sequences=encoded.sequences, compute=compute, progress=progress)
    said = read_attributes(model, states.to(compute.device)) or []
    predictions = np.array([[line[name] for name in scales.names] for line in said])
    return {
        "split": "test",
        "n": len(encoded.rated),
        "n_prompts": len({one.prompt_id for one in encoded.rated}),
        "attributes": summarize_ratings(predictions, rated=encoded.rated, names=scales.names),
    }


def list_notes(splits: Mapping[str, Encoded], *, scales: Scales) -> list[str]:
    """What a reader of the figures should know."""
    shared = {one.prompt_id for one in splits["train"].rated} & {one.prompt_id for one in splits["test"].rated}
    notes = [f"{len(shared)} prompts of the test split are in the training split too"] if shared else []
    unknown = sorted({name for one in splits["test"].rated for name in one.ratings} - set(scales.names))
    if unknown:
        notes.append(f"The test split also rates {', '.join(unknown)}, which no training row does")
    return notes
