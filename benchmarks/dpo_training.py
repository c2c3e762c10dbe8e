#!/usr/bin/env python
"""DPO on one GPU: stock TRL DPOTrainer beside ours, on the same pairs, the reference's log-probabilities known.

    benchmarks/dpo_training.py DIRECTORY [--tokenizer DIR] [--only WORD …] [--seconds 15] [--check] [--smoke]

DIRECTORY, the models, `--smoke` and the columns are those of reward_training.py; tokens_per_s counts both
conversations of every pair whole. Both sides know the reference's log-probabilities before the clock starts (TRL's
`precompute_ref_log_probs`); what reading them takes is `reference_s`. With `--check` the exit code is 1 where ours is
less than 3 times as fast as TRL's best setting.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from reward_training import SHAPES, Bench, Case, Clock, emit, prepare, print_table, run_case, summarize
from transformers import LlamaConfig, LlamaForCausalLM

from rewardmodel.contract import DPOSpec
from rewardmodel.groups import plan_steps
from rewardmodel.progress import Progress
from rewardmodel.train.dpo import DPOTraining, read_reference
from rewardmodel.train.loop import measure_seconds, shrink_weights
from rewardmodel.train.settle import Settled

GOAL = 3.0


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--tokenizer", type=Path, help="a model's directory; unset: the embedded model's")
    parser.add_argument("--only", nargs="+", default=[], metavar="WORD")
    parser.add_argument("--seconds", type=float, default=15.0, help="time of each case, once warm")
    parser.add_argument("--limit", type=int, default=2000, help="rows read of train.jsonl")
    parser.add_argument("--smoke", action="store_true", help="a tiny model, a moment a case")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args(argv)
    bench = prepare(arguments)
    rows = [
        run_case(name, case=case, bench=bench)
        for name, case in list_cases(smoke=arguments.smoke)
        if all(word in name for word in arguments.only)
    ]
    print_table(rows)
    ours_best, stock_best = (
        max((row["pairs_per_s"] for row in rows if side in row["case"] and "error" not in row), default=None)
        for side in ("ours", "stock")
    )
    if ours_best is None or stock_best is None:
        return int(arguments.check)
    ratio = ours_best / stock_best
    print(f"{'met   ' if ratio >= GOAL else 'MISSED'} pairs/s over stock: {ratio:.2f} (goal {GOAL:g})")
    emit({"goal": "pairs/s over stock", "value": ratio, "met": ratio >= GOAL})
    return int(arguments.check and ratio < GOAL)


def list_cases(*, smoke: bool) -> list[tuple[str, Case]]:
    model = "tiny" if smoke else "llama-1.1b"
    row = 512 if smoke else 32768
    return [
        (f"{model} ours not compiled", ours(model, tokens=row // 2)),
        (f"{model} ours compiled", ours(model, tokens=row, compiled=True)),
        (f"{model} ours 64 pairs a step", ours(model, tokens=row, compiled=True, pairs=64)),
        (f"{model} stock 8 pairs", stock(model, weights="fp32", pairs=8, checkpointing=True)),
        (f"{model} stock 16 pairs bf16", stock(model, weights="bf16", pairs=16, checkpointing=True)),
        (f"{model} stock 32 pairs bf16", stock(model, weights="bf16", pairs=32, checkpointing=True)),
        (f"{model} stock 8 pairs not checkpointed", stock(model, weights="bf16", pairs=8, checkpointing=False)),
    ]


def build_policy(shape: str, *, bench: Bench, weights: str) -> Any:
    """Random weights, made on the device."""
    config = LlamaConfig(
        **SHAPES[shape], vocab_size=len(bench.tokenizer), max_position_embeddings=2048,
        pad_token_id=bench.tokenizer.pad_token_id, tie_word_embeddings=True, use_cache=False,
    )  # fmt: skip
    with torch.device(bench.compute.device):
        model = LlamaForCausalLM(config)
    return (model.to(torch.bfloat16) if weights == "bf16" else model).eval()


def ours(shape: str, *, tokens: int, pairs: int | None = None, compiled: bool = False) -> Case:
    """Ours with rows of `tokens`, in steps of one row (or of `pairs`)."""

    def case(bench: Bench) -> dict[str, Any]:
        on_gpu = bench.compute.device == "cuda"
        settled = Settled(True, "mixed" if on_gpu else "fp32", compiled and on_gpu, False, tokens, [])
        spec = DPOSpec(data="-", tuning="full", learning_rate=1e-6, batch_size=pairs or 1, max_steps=100_000)
        model = build_policy(shape, bench=bench, weights="fp32")
        if on_gpu:
            shrink_weights(model)
        pad_id = bench.tokenizer.pad_token_id
        started = time.perf_counter()
        reference = read_reference(
            model, spec=spec, settled=settled, compute=bench.compute, groups=bench.groups, pad_id=pad_id,
            progress=Progress(show=False),
        )  # fmt: skip
        reference_s = time.perf_counter() - started
        groups = [replace(group, reference=own) for group, own in zip(bench.groups, reference, strict=True)]
        steps = plan_steps(
            groups, pairs_a_step=pairs or 1, tokens_a_step=None if pairs else tokens, epochs=1, max_steps=20_000, seed=0
        )[: 40 if bench.smoke else 4000]
        started = time.perf_counter()
        training = DPOTraining(
            model, spec=spec, settled=settled, compute=bench.compute, groups=groups, steps=steps, pad_id=pad_id
        )
        start_s = time.perf_counter() - started + measure_seconds(training, steps=1)
        first_loss = training.read_log()["loss"]
        measure_seconds(training, steps=2)  # warm
        first, read, spent = training.done, training.tokens, 0.0
        while spent < bench.seconds and training.done + 4 <= len(steps):
            spent += measure_seconds(training, steps=4)
        done = [groups[index] for step in steps[first : training.done] for index in step]
        figures = summarize(
            spent, pairs=sum(item.pairs for item in done), start_s=start_s, model=model, bench=bench,
            texts=sum(item.separate_tokens for item in done), computed=training.tokens - read,
        )  # fmt: skip
        loss = training.read_log()["loss"]
        return {**figures, "reference_s": round(reference_s, 2), "first_loss": first_loss, "loss": loss}

    return case


def stock(shape: str, *, weights: str, pairs: int, checkpointing: bool) -> Case:
    """TRL's DPOTrainer on the same pairs, already token ids; weights "bf16", or else autocast over float32."""

    def case(bench: Bench) -> dict[str, Any]:
        from datasets import Dataset
        from transformers import TrainerCallback
        from trl import DPOConfig, DPOTrainer

        on_gpu = bench.compute.device == "cuda"
        rows = [
            {"prompt_ids": [*p.prompt_ids], "chosen_ids": [*p.chosen_ids], "rejected_ids": [*p.rejected_ids]}
            for p in bench.pairs
        ]
        count = 4 if bench.smoke else pairs
        model = build_policy(shape, bench=bench, weights=weights)
        clock = Clock(bench)

        class Timer(TrainerCallback):
            def on_train_begin(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                clock.start()

            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if clock.tick():
                    control.should_training_stop = True

        class Encoded(DPOTrainer):
            def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
                return dataset

        with tempfile.TemporaryDirectory() as folder:
            arguments = DPOConfig(
                output_dir=folder, per_device_train_batch_size=count, learning_rate=1e-6, max_steps=4000,
                max_length=None, precompute_ref_log_probs=True, precompute_ref_batch_size=count,
                gradient_checkpointing=checkpointing, bf16=on_gpu and weights != "bf16", use_cpu=not on_gpu,
                save_strategy="no", report_to=[], disable_tqdm=True, logging_strategy="no",
                dataloader_num_workers=0, seed=0,
            )  # fmt: skip
            started = time.perf_counter()
            trainer = Encoded(
                model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=bench.tokenizer,
                callbacks=[Timer()],
            )  # fmt: skip
            reference_s = time.perf_counter() - started
            trainer.train()
        total = sum(len(r["prompt_ids"]) * 2 + len(r["chosen_ids"]) + len(r["rejected_ids"]) for r in rows) / len(rows)
        done = clock.steps * count
        figures = summarize(
            clock.spent, pairs=done, start_s=clock.start_s, model=model, bench=bench, texts=int(done * total),
            computed=int(done * total),
        )  # fmt: skip
        return {**figures, "reference_s": round(reference_s, 2)}

    return case


if __name__ == "__main__":
    sys.exit(main())
