#!/usr/bin/env python
"""Held-out accuracy of reward models: stock TRL beside ours, and recipes chosen by cross-validation.

    benchmarks/reward_quality.py DIRECTORY [--model M] [--seeds 0 1 2] [--choose [RECIPE …]] [--only WORD …]
        [--limit N] [--check]

DIRECTORY holds train.jsonl and test.jsonl of rows {prompt, chosen, rejected}. Both sides train all weights on the same
pairs from the same head, one epoch of 16 pairs a step at 2e-5, and are read by the same function. With `--choose`,
recipes are first compared by 5-fold cross-validation over the prompts of the training file; the test file is read once,
by what was chosen. Without, the recipe is the one that was chosen so (`RECIPE`). "averaged" is one model, the mean of
the weights of all seeds' (Rame et al. 2024, WARM), "together" the mean of their rewards.

Every result is one JSON line as soon as it is known. With `--check` the exit code is 1 unless ours lies within the
interval of stock's accuracy, pooled over the seeds, and the recipe reaches 0.66.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rewardmodel.chat import EncodedPair, encode_split
from rewardmodel.compute import Compute, resolve_compute, seed_everything
from rewardmodel.contract import EMBEDDED_MODEL, RewardSpec
from rewardmodel.data import read_pairs
from rewardmodel.evaluate import longer_wins, reward_margins, summarize_pairs
from rewardmodel.groups import gather_groups, plan_steps
from rewardmodel.models import create_reward_model, load_tokenizer, resolve_model
from rewardmodel.progress import Progress
from rewardmodel.train.reward import RewardTraining
from rewardmodel.train.settle import Settled

PLAIN: dict[str, Any] = {"learning_rate": 2e-5, "epochs": 1.0, "batch_size": 16}
RECIPES: dict[str, dict[str, Any]] = {
    "plain": {},
    "5e-5": {"learning_rate": 5e-5},
    "5e-5, two epochs": {"learning_rate": 5e-5, "epochs": 2.0},
    "5e-5, text 0.1": {"learning_rate": 5e-5, "text_weight": 0.1},
    "5e-5, text 1, two epochs": {"learning_rate": 5e-5, "epochs": 2.0, "text_weight": 1.0},
    "1e-4, text 1, two epochs": {"learning_rate": 1e-4, "epochs": 2.0, "text_weight": 1.0},
    "1e-4": {"learning_rate": 1e-4},
    "32 pairs, 1e-4, text 0.1": {"batch_size": 32, "learning_rate": 1e-4, "text_weight": 0.1},
    "32 pairs, 1e-4, text 1": {"batch_size": 32, "learning_rate": 1e-4, "text_weight": 1.0},
    "32 pairs, 1e-4, text 1, two epochs": {"batch_size": 32, "learning_rate": 1e-4, "epochs": 2.0, "text_weight": 1.0},
    "32 pairs, 5e-5, text 1, three epochs": {
        "batch_size": 32,
        "learning_rate": 5e-5,
        "epochs": 3.0,
        "text_weight": 1.0,
    },
}
RECIPE = "32 pairs, 1e-4, text 1, two epochs"
FOLDS = 5
GOAL = 0.66


@dataclass(frozen=True)
class Bench:
    """What every training needs."""

    base: Path
    tokenizer: Any
    compute: Compute

    def measure(self, model: Any, *, pairs: Sequence[EncodedPair]) -> np.ndarray:
        """score(chosen) - score(rejected) of each pair, (pairs,)."""
        quiet = Progress(show=False)
        return np.asarray(reward_margins(model, pairs=pairs, compute=self.compute, batch_size=64, progress=quiet))

    def create(self) -> Any:
        """The model with the same new head each time: only the order of the pairs differs between seeds."""
        return create_reward_model(self.base, tokenizer=self.tokenizer, compute=self.compute, seed=0)


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--model", default=EMBEDDED_MODEL)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--choose", nargs="*", choices=RECIPES, help="cross-validate these recipes first, or all")
    parser.add_argument("--only", nargs="+", default=["stock", "ours", "recipe"], choices=("stock", "ours", "recipe"))
    parser.add_argument("--limit", type=int, help="rows read of each file")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args(argv)
    compute = resolve_compute("auto", precision="auto")
    base = resolve_model(arguments.model)
    tokenizer = load_tokenizer(base)
    bench = Bench(base, tokenizer, compute)
    train, test = (
        encode_split(tokenizer, pairs=read_pairs(arguments.directory / f"{name}.jsonl"), max_length=1024).pairs[
            : arguments.limit
        ]
        for name in ("train", "test")
    )
    recipe = (
        RECIPE if arguments.choose is None else choose(train, recipes=arguments.choose or list(RECIPES), bench=bench)
    )
    emit({"longer wins": longer_wins(test), "train": len(train), "test": len(test), "device": compute.device})
    rows = []
    ways = {"stock": None, "ours": PLAIN, "recipe": PLAIN | RECIPES[recipe]}
    for side in arguments.only:
        rows += measure_side(side, settings=ways[side], train=train, test=test, seeds=arguments.seeds, bench=bench)
    print_table(rows, recipe=recipe)
    return int(arguments.check and not reaches(rows))


def choose(train: Sequence[EncodedPair], *, recipes: Sequence[str], bench: Bench) -> str:
    """Of these, the recipe of the lowest cross-validated log loss among those near the best accuracy."""
    folds = np.array([int(hashlib.sha256(p.pair.prompt_id.encode()).hexdigest(), 16) % FOLDS for p in train])
    found = {}
    for name in recipes:
        margins = np.zeros(len(train))
        started = time.time()
        for fold in range(FOLDS):
            rows = [pair for pair, own in zip(train, folds, strict=True) if own != fold]
            held = [pair for pair, own in zip(train, folds, strict=True) if own == fold]
            model = train_ours(rows, settings=PLAIN | RECIPES[name], seed=fold, bench=bench)
            margins[folds == fold] = bench.measure(model, pairs=held)
        accuracy, loss = float(np.mean(margins > 0)), float(np.mean(np.logaddexp(0, -margins)))
        found[name] = (accuracy, loss)
        seconds = round(time.time() - started)
        emit({"cross-validated": name, "accuracy": accuracy, "log_loss": loss, "n": len(train), "seconds": seconds})
    best = max(accuracy for accuracy, _ in found.values())
    error = (best * (1 - best) / len(train)) ** 0.5
    near = [name for name, (accuracy, _) in found.items() if accuracy >= best - error / 2]
    chosen = min(near, key=lambda name: found[name][1])
    emit({"chosen": chosen})
    return chosen


def measure_side(
    side: str,
    *,
    settings: dict[str, Any] | None,
    train: Sequence[EncodedPair],
    test: Sequence[EncodedPair],
    seeds: Sequence[int],
    bench: Bench,
) -> list[dict[str, Any]]:
    """The figures of each seed, and for the recipe those of all seeds together. settings None: stock TRL."""
    rows, margins = [], []
    mean: dict[str, torch.Tensor] = {}
    for seed in seeds:
        started = time.time()
        if settings is None:
            model = train_stock(train, seed=seed, bench=bench)
        else:
            model = train_ours(train, settings=settings, seed=seed, bench=bench)
        seconds = time.time() - started
        margins.append(bench.measure(model, pairs=test))
        rows.append(describe(side, str(seed), margins[-1], test=test, seconds=seconds))
        if side == "recipe":
            state = model.state_dict()
            mean = {name: mean.get(name, 0) + value.detach() / len(seeds) for name, value in state.items()}
    if side == "recipe" and len(seeds) > 1:
        model.load_state_dict(mean)
        rows.append(describe(side, "averaged", bench.measure(model, pairs=test), test=test, seconds=0.0))
        rows.append(describe(side, "together", np.mean(margins, axis=0), test=test, seconds=0.0))
    return rows


def describe(
    side: str, seed: str, margins: np.ndarray, *, test: Sequence[EncodedPair], seconds: float
) -> dict[str, Any]:
    row = {"side": side, "seed": seed, **summarize_pairs(margins.tolist(), pairs=test), "seconds": round(seconds, 1)}
    emit(row)
    return row


def train_ours(pairs: Sequence[EncodedPair], *, settings: dict[str, Any], seed: int, bench: Bench) -> Any:
    """A reward model by our loop: packed in bfloat16 on a GPU, padded on a CPU."""
    spec = RewardSpec(data="-", tuning="full", seed=seed, **settings)
    seed_everything(seed)
    model = bench.create()
    groups = gather_groups(pairs)
    steps = plan_steps(groups, pairs_a_step=spec.batch_size, epochs=spec.epochs, max_steps=None, seed=seed)
    fast = bench.compute.device == "cuda" and bench.compute.precision == "bf16"
    settled = Settled(fast, "mixed" if fast else "fp32", False, False, 32768 if fast else 4096, [])
    pad_id = bench.tokenizer.pad_token_id
    training = RewardTraining(
        model, spec=spec, settled=settled, compute=bench.compute, groups=groups, steps=steps, pad_id=pad_id
    )
    for _ in steps:
        training.take_step()
    training.finish()
    return model


def train_stock(pairs: Sequence[EncodedPair], *, seed: int, bench: Bench) -> Any:
    """A reward model by TRL's RewardTrainer, autocast over float32, its defaults beyond `PLAIN`."""
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    rows = [
        {"chosen_ids": [*pair.prompt_ids, *pair.chosen_ids], "rejected_ids": [*pair.prompt_ids, *pair.rejected_ids]}
        for pair in pairs
    ]
    model = bench.create()
    with tempfile.TemporaryDirectory() as folder:
        trainer = RewardTrainer(
            model=model,
            args=RewardConfig(
                output_dir=folder, per_device_train_batch_size=PLAIN["batch_size"], num_train_epochs=PLAIN["epochs"],
                learning_rate=PLAIN["learning_rate"], max_length=None, bf16=bench.compute.precision == "bf16",
                use_cpu=bench.compute.device == "cpu", save_strategy="no", report_to=[], disable_tqdm=True,
                logging_strategy="no", seed=seed, warmup_steps=0.05,
            ),
            train_dataset=Dataset.from_list(rows), processing_class=bench.tokenizer,
        )  # fmt: skip
        trainer.train()
    return model.eval()


def print_table(rows: Sequence[dict[str, Any]], *, recipe: str) -> None:
    print(f"\nrecipe: {recipe}\n\n| side | seed | accuracy | log loss | seconds |\n| --- | --- | --- | --- | --- |")
    for row in rows:
        low, high = row["interval"]
        accuracy = f"{row['accuracy']:.3f} [{low:.3f}, {high:.3f}]"
        print(f"| {row['side']} | {row['seed']} | {accuracy} | {row['log_loss']:.3f} | {row['seconds']:.0f} |")


def reaches(rows: Sequence[dict[str, Any]]) -> bool:
    """Whether ours is within stock's pooled interval or above, and the recipe's averaged model reaches the goal."""
    stock, ours, recipe = ([row for row in rows if row["side"] == side] for side in ("stock", "ours", "recipe"))
    if not (stock and ours and recipe):
        return False
    lowest = min(row["interval"][0] for row in stock)
    within = np.mean([row["accuracy"] for row in ours]) >= lowest
    return bool(within and max(row["accuracy"] for row in recipe) >= GOAL)


def emit(row: dict[str, Any]) -> None:
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    sys.exit(main())
