"""Train a Bradley-Terry reward model over TRL's RewardTrainer.

Loss of a pair: -log sigmoid(r(x, chosen) - r(x, rejected) - margin), margin 0 where the data give none
(Stiennon et al. 2020, eq. 1). LoRA updates are merged at the end, so the result is a plain transformers directory.
Not here: ties, soft labels, several responses a forward pass.
"""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

from transformers import PreTrainedModel
from trl import RewardConfig, RewardTrainer

from rewardmodel.card import write_card
from rewardmodel.compute import Compute, resolve_compute, seed_everything
from rewardmodel.contract import RewardSpec
from rewardmodel.evaluate import reward_margins, summarize_pairs
from rewardmodel.models import (
    create_reward_model,
    load_reward_model,
    load_tokenizer,
    merge_adapters,
    resolve_model,
    save_model,
)
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


def run_reward(spec: RewardSpec, *, run: RunDir, progress: Progress) -> dict[str, Any]:
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
        margins = reward_margins(model, pairs=data.test.pairs, compute=compute, progress=progress, phase=phase)
        return summarize_pairs(margins, pairs=data.test.pairs)

    target = run.outputs / "model"
    untrained = _train(
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
    trained = load_reward_model(target, tokenizer=tokenizer, compute=compute)
    report = build_report(
        spec,
        data=data,
        compute=compute,
        heldout=measure(trained, phase="evaluating"),
        untrained=untrained,
        steps=read_trained_steps(run),
        started=started,
    )
    write_card(target, report=report, provenance=provenance)
    return report


def _train(
    spec: RewardSpec,
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
    """Train and save into `target`; returns what `measure` says of the model before its first step."""
    model = create_reward_model(base, tokenizer=tokenizer, compute=compute, seed=spec.seed)
    check_positions(model, max_length=spec.max_length)
    untrained = recall(run, name="untrained", make=lambda: measure(model, phase="measuring the untrained model"))
    arguments = training_arguments(spec, run=run, compute=compute, n_pairs=len(data.train.pairs))
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(**arguments, center_rewards_coefficient=spec.center_rewards_coefficient),
        train_dataset=to_dataset(data.train.pairs, whole=True),
        processing_class=tokenizer,
        peft_config=lora_config(spec),
    )
    fit(trainer, run=run, progress=progress)
    progress.start("saving")
    save_model(merge_adapters(trainer.model), tokenizer=tokenizer, directory=target)
    return untrained
