#!/usr/bin/env python
"""Reward-model training on one GPU: stock TRL RewardTrainer beside ours, on the same pairs.

    benchmarks/reward_training.py DIRECTORY [--tokenizer DIR] [--only WORD …] [--seconds 20] [--check] [--smoke]

DIRECTORY holds train.jsonl of rows {prompt, chosen, rejected} (HH-RLHF's, say). Models are random weights in the shapes
of SmolLM2-135M and of a 1.1B Llama (22 layers of 2,048, 4 key heads), which is all that speed depends on; the tokenizer
is that of the embedded model unless a directory is named. Every case is printed as one JSON line as soon as it is
known, so that a killed run keeps its figures; a table follows at the end. `--only` picks cases by words in their names.
`--smoke` runs all of it in seconds on a tiny model, on whatever device there is. With `--check` the exit code is 1
where a goal of issue 4 is missed.

What the columns say: pairs_per_s, warm, over at least `--seconds`; tokens_per_s counts the tokens of both
conversations of every pair, whether or not a shared prompt was read once, so that both sides count the same text;
peak_share is 6 x weights of the layers x tokens really computed / time / the peak that the maker states; start_s is
from the built model to the end of the first step, compilation included; peak_gib is torch's.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch._dynamo
from transformers import LlamaConfig, LlamaForSequenceClassification

from rewardmodel.chat import EncodedPair, encode_split
from rewardmodel.compute import Compute, resolve_compute, seed_everything
from rewardmodel.contract import EMBEDDED_MODEL, RewardSpec
from rewardmodel.data import read_pairs
from rewardmodel.groups import Edge, Group, gather_groups, plan_steps
from rewardmodel.models import load_tokenizer, prepare_classifier, resolve_model
from rewardmodel.reading import packed_attention
from rewardmodel.train.loop import measure_seconds
from rewardmodel.train.reward import RewardTraining
from rewardmodel.train.settle import Settled, count_flops, find_peak

SHAPES: dict[str, dict[str, Any]] = {
    "smollm2-135m": {
        "hidden_size": 576, "intermediate_size": 1536, "num_hidden_layers": 30, "num_attention_heads": 9,
        "num_key_value_heads": 3,
    },
    "llama-1.1b": {
        "hidden_size": 2048, "intermediate_size": 5632, "num_hidden_layers": 22, "num_attention_heads": 32,
        "num_key_value_heads": 4,
    },
    "tiny": {
        "hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 4,
        "num_key_value_heads": 2,
    },
}  # fmt: skip
MAX_LENGTH = 1024
# Issue 4: name of the goal -> least ratio (most, for memory and the break-even).
GOALS = {
    "llama-1.1b pairs/s over stock": 10.0,
    "llama-1.1b share of the peak": 0.5,
    "llama-1.1b ahead of stock from pair": 300.0,
    "smollm2-135m pairs/s over stock": 15.0,
    "groups of 4 over pairs": 2.5,
    "groups of 9 over pairs": 6.0,
    "llama-1.1b memory over stock": 0.7,
}
AT_MOST = ("llama-1.1b ahead of stock from pair", "llama-1.1b memory over stock")


@dataclass(frozen=True)
class Bench:
    """What every case needs."""

    pairs: list[EncodedPair]
    groups: list[Group]
    tokenizer: Any
    compute: Compute
    seconds: float
    smoke: bool


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
    rows = []
    for name, case in list_cases(smoke=arguments.smoke):
        if all(word in name for word in arguments.only):
            rows.append(run_case(name, case=case, bench=bench))
    reached = compare(rows)
    print_table(rows)
    missed = 0
    for name, value in reached.items():
        met = value <= GOALS[name] if name in AT_MOST else value >= GOALS[name]
        missed += not met
        print(f"{'met   ' if met else 'MISSED'} {name}: {value:.2f} (goal {GOALS[name]:g})")
        emit({"goal": name, "value": value, "met": met})
    return int(arguments.check and missed > 0)


def prepare(arguments: argparse.Namespace) -> Bench:
    compute = resolve_compute("auto", precision="auto")
    tokenizer = load_tokenizer(arguments.tokenizer or resolve_model(EMBEDDED_MODEL))
    pairs = read_pairs(arguments.directory / "train.jsonl")[: 16 if arguments.smoke else arguments.limit]
    started = time.perf_counter()
    split = encode_split(tokenizer, pairs=pairs, max_length=256 if arguments.smoke else MAX_LENGTH)
    groups = gather_groups(split.pairs)
    texts = sum(group.separate_tokens for group in groups)
    emit(
        {
            "case": "data", "pairs": len(split.pairs), "dropped": split.dropped,
            "tokens_a_pair": texts / len(split.pairs),
            "tokens_a_pair_shared": sum(group.tokens for group in groups) / len(split.pairs),
            "encode_s": time.perf_counter() - started,
            "device": torch.cuda.get_device_name() if compute.device == "cuda" else "cpu", "torch": torch.__version__,
        }
    )  # fmt: skip
    seconds = 0.2 if arguments.smoke else arguments.seconds
    return Bench(split.pairs, groups, tokenizer, compute, seconds, arguments.smoke)


Case = Callable[[Bench], dict[str, Any]]


def list_cases(*, smoke: bool) -> list[tuple[str, Case]]:
    """Name and function of every case, the most telling first."""
    cases: list[tuple[str, Case]] = [("agreement", measure_agreement)]
    for model in ["tiny"] if smoke else ["llama-1.1b", "smollm2-135m"]:
        small = model != "llama-1.1b"
        row = {"tiny": 512, "smollm2-135m": 65536, "llama-1.1b": 32768}[model]
        plain = {"weights": "mixed" if small else "bf16", "pairs": 24 if small else 12, "checkpointing": False}
        cases += [
            (f"{model} ours not compiled", ours(model, tokens=row // 2)),
            (f"{model} ours compiled", ours(model, tokens=row, compiled=True)),
            (f"{model} stock 16 pairs", stock(model, weights="fp32", pairs=16, checkpointing=True)),
            (f"{model} stock 64 pairs", stock(model, weights="fp32", pairs=64, checkpointing=True)),
            (f"{model} stock not checkpointed", stock(model, **plain)),
            (f"{model} stock memory", stock(model, weights="bf16", pairs=32, checkpointing=True)),
            (f"{model} ours memory", ours(model, tokens=row, pairs=32, weights="bf16", checkpointing=True)),
            (f"{model} ours 64 pairs a step", ours(model, tokens=row, pairs=64, compiled=True)),
            (f"{model} ours compiled, checkpointed", ours(model, tokens=row, compiled=True, checkpointing=True)),
            (f"{model} ours prompts apart", ours(model, tokens=row, compiled=True, share=False)),
        ]
        for size in (4, 9):
            cases += [
                (f"{model} groups of {size} in pairs", ours(model, tokens=row // 2, group=size, apart=True)),
                (f"{model} groups of {size} at once", ours(model, tokens=row // 2, group=size)),
            ]
    return cases


def run_case(name: str, *, case: Case, bench: Bench) -> dict[str, Any]:
    """The case's figures, or why there are none; printed at once."""
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    gc.collect()
    if bench.compute.device == "cuda":
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    seed_everything(0)
    started = time.perf_counter()
    try:
        figures = case(bench)
    except Exception as error:
        figures = {"error": f"{type(error).__name__}: {error}"[:600]}
    row = {"case": name, **figures, "case_s": round(time.perf_counter() - started, 1)}
    emit(row)
    return row


def build_model(shape: str, *, bench: Bench, weights: str, stock: bool = False) -> Any:
    """Random weights, made on the device; stock as transformers has it, ours with the head that computes in float32."""
    config = LlamaConfig(
        **SHAPES[shape], vocab_size=len(bench.tokenizer), max_position_embeddings=2048, num_labels=1,
        pad_token_id=bench.tokenizer.pad_token_id, tie_word_embeddings=True, use_cache=False,
    )  # fmt: skip
    with torch.device(bench.compute.device):
        model = LlamaForSequenceClassification(config)
    if stock and weights == "bf16":
        model = model.to(torch.bfloat16)
    return model if stock else prepare_classifier(model, tokenizer=bench.tokenizer).eval()


def ours(
    shape: str,
    *,
    tokens: int,
    pairs: int | None = None,
    weights: str = "mixed",
    compiled: bool = False,
    checkpointing: bool = False,
    share: bool = True,
    group: int | None = None,
    apart: bool = False,
) -> Case:
    """Ours with rows of `tokens`, in steps of one row (or of `pairs`). group: groups of so many responses; apart: the
    same comparisons, each a group of its own."""

    def case(bench: Bench) -> dict[str, Any]:
        on_gpu = bench.compute.device == "cuda"
        settled = Settled(True, weights if on_gpu else "fp32", compiled and on_gpu, checkpointing, tokens, [])
        groups = bench.groups if group is None else make_groups(bench.groups, size=group)
        groups = [part for item in groups for part in take_apart(item)] if apart else groups
        spec = RewardSpec(data="-", tuning="full", learning_rate=1e-6, batch_size=pairs or 1, max_steps=100_000)
        steps = plan_steps(
            groups, pairs_a_step=pairs or 1, tokens_a_step=None if pairs else tokens, shared=share, epochs=1,
            max_steps=20_000, seed=0,
        )[: 40 if bench.smoke else 4000]  # fmt: skip
        model = build_model(shape, bench=bench, weights=weights)
        started = time.perf_counter()
        training = RewardTraining(
            model, spec=spec, settled=settled, compute=bench.compute, groups=groups, steps=steps,
            pad_id=bench.tokenizer.pad_token_id, share=share,
        )  # fmt: skip
        start_s = time.perf_counter() - started + measure_seconds(training, steps=1)
        measure_seconds(training, steps=2)  # warm
        first, read, spent = training.done, training.tokens, 0.0
        while spent < bench.seconds and training.done + 4 <= len(steps):
            spent += measure_seconds(training, steps=4)
        done = [groups[index] for step in steps[first : training.done] for index in step]
        figures = summarize(
            spent, pairs=sum(item.pairs for item in done), start_s=start_s, model=model, bench=bench,
            texts=sum(item.separate_tokens for item in done), computed=training.tokens - read,
        )  # fmt: skip
        shape_of_rows: dict[str, Any] = {}
        if compiled:
            graphs = torch._dynamo.utils.counters["stats"].get("unique_graphs", 0)
            shape_of_rows = {"row": training.shape.length if training.shape else None, "graphs": graphs}
        return {**figures, **shape_of_rows, "loss": training.read_log()["loss"]}

    return case


def make_groups(groups: Sequence[Group], *, size: int) -> list[Group]:
    """Groups of `size` responses of natural lengths to natural prompts, ranked at random: the ends of other pairs."""
    ends = [ids[group.shared :] for group in groups for ids in group.sequences]
    made = []
    for number, group in enumerate(groups):
        prompt = group.sequences[0][: group.shared]
        chosen = [ends[(number * size + i) % len(ends)] for i in range(size)]
        sequences = [prompt + end for end in chosen if len(prompt) + len(end) <= MAX_LENGTH]
        edges = [Edge(i, j) for i in range(len(sequences)) for j in range(i + 1, len(sequences))]
        if len(sequences) == size:
            made.append(replace(group, sequences=sequences, edges=edges))
    return made


def take_apart(group: Group) -> list[Group]:
    """Each comparison of a group as a group of two."""
    return [
        replace(group, sequences=[group.sequences[e.better], group.sequences[e.worse]], edges=[Edge(0, 1)])
        for e in group.edges
    ]


def stock(shape: str, *, weights: str, pairs: int, checkpointing: bool) -> Case:
    """TRL's RewardTrainer on the same pairs, already token ids; weights "bf16", or else autocast over float32."""

    def case(bench: Bench) -> dict[str, Any]:
        from datasets import Dataset
        from transformers import TrainerCallback
        from trl import RewardConfig, RewardTrainer

        on_gpu = bench.compute.device == "cuda"
        rows = [
            {"chosen_ids": [*p.prompt_ids, *p.chosen_ids], "rejected_ids": [*p.prompt_ids, *p.rejected_ids]}
            for p in bench.pairs
        ]
        count = 4 if bench.smoke else pairs
        model = build_model(shape, bench=bench, weights=weights, stock=True)
        clock = Clock(bench)

        class Timer(TrainerCallback):
            def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
                if clock.tick():
                    control.should_training_stop = True

        with tempfile.TemporaryDirectory() as folder:
            arguments = RewardConfig(
                output_dir=folder, per_device_train_batch_size=count, learning_rate=1e-6, max_steps=4000,
                max_length=None,
                gradient_checkpointing=checkpointing, bf16=on_gpu and weights != "bf16", use_cpu=not on_gpu,
                save_strategy="no", report_to=[], disable_tqdm=True, logging_strategy="no",
                dataloader_num_workers=0, seed=0,
            )  # fmt: skip
            clock.start()
            trainer = RewardTrainer(
                model=model, args=arguments, train_dataset=Dataset.from_list(rows), processing_class=bench.tokenizer,
                callbacks=[Timer()],
            )  # fmt: skip
            trainer.train()
        total = sum(len(row["chosen_ids"]) + len(row["rejected_ids"]) for row in rows) / len(rows)
        done = clock.steps * count
        return summarize(
            clock.spent, pairs=done, start_s=clock.start_s, model=model, bench=bench, texts=int(done * total),
            computed=int(done * total),
        )  # fmt: skip

    return case


class Clock:
    """Times a trainer we do not drive: the first step is the start, two more warm it up."""

    def __init__(self, bench: Bench) -> None:
        self.bench = bench
        self.ticks = self.steps = 0
        self.started = self.start_s = self.spent = self.warm = 0.0

    def start(self) -> None:
        self.started = self._now()

    def tick(self) -> bool:
        """A step ended; True once enough were timed."""
        self.ticks += 1
        if self.ticks not in (1, 3) and self.ticks % 4 != 3:
            return False
        now = self._now()
        if self.ticks == 1:
            self.start_s = now - self.started
        elif self.ticks == 3:
            self.warm = now
        else:
            self.steps, self.spent = self.ticks - 3, now - self.warm
        return self.spent >= self.bench.seconds

    def _now(self) -> float:
        if self.bench.compute.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter()


def summarize(
    seconds: float, *, pairs: int, start_s: float, model: Any, bench: Bench, texts: int, computed: int
) -> dict[str, Any]:
    figures: dict[str, Any] = {
        "pairs_per_s": pairs / seconds,
        "tokens_per_s": texts / seconds,
        "computed_tokens_per_s": computed / seconds,
        "start_s": start_s,
        "timed_s": seconds,
    }
    if bench.compute.device == "cuda":
        figures["peak_share"] = count_flops(model, tokens=computed) / seconds / find_peak()
        figures["peak_gib"] = torch.cuda.max_memory_allocated() / 2**30
    return {name: round(value, 4) for name, value in figures.items()}


def measure_agreement(bench: Bench) -> dict[str, Any]:
    """Rewards and gradients of packed groups against padded conversations, both in float32 on a CPU, and on a GPU in
    bfloat16 against that (relative error of rewards about their mean, and of the gradients as one vector)."""
    groups = make_groups(bench.groups, size=4)[:2] + bench.groups[:4]
    reference = read_all(groups, bench=bench, packed=False, exact=True)
    figures: dict[str, Any] = {}
    ways = [("cpu packed float32", True, True)]
    if bench.compute.device == "cuda":
        ways += [("gpu packed bf16", True, False), ("gpu padded bf16", False, False)]
    for name, packed, exact in ways:
        rewards, gradient = read_all(groups, bench=bench, packed=packed, exact=exact)
        spread = (reference[0] - reference[0].mean()).norm()
        figures[f"{name}: rewards"] = float((rewards - reference[0]).norm() / spread)
        figures[f"{name}: gradients"] = float((gradient - reference[1]).norm() / reference[1].norm())
    return figures


def read_all(groups: Sequence[Group], *, bench: Bench, packed: bool, exact: bool) -> tuple[torch.Tensor, torch.Tensor]:
    compute = Compute(device="cpu", precision="fp32") if exact else bench.compute
    seed_everything(0)
    apart = replace(bench, compute=Compute(device="cpu", precision="fp32"))
    model = build_model("tiny", bench=apart, weights="fp32").to(compute.device)
    settled = Settled(packed, "fp32", False, False, 10**6, [])
    spec = RewardSpec(data="-", tuning="full")
    training = RewardTraining(
        model, spec=spec, settled=settled, compute=compute, groups=groups, steps=[list(range(len(groups)))],
        pad_id=bench.tokenizer.pad_token_id,
    )  # fmt: skip
    with packed_attention(model) if packed else contextlib.nullcontext():
        with compute.autocast():
            rewards = training.read_rewards(groups)
        weights = torch.linspace(-1, 1, len(rewards), device=rewards.device)
        (rewards * weights).sum().backward()
    gradient = torch.cat([p.grad.flatten().float().cpu() for p in model.parameters() if p.grad is not None])
    return rewards.detach().cpu(), gradient


def compare(rows: Sequence[dict[str, Any]]) -> dict[str, float]:
    """What was reached of each goal whose cases ran."""
    by_name = {row["case"]: row for row in rows if "error" not in row}
    reached: dict[str, float] = {}
    for model in SHAPES:
        mine = [by_name[name] for name in (f"{model} ours compiled", f"{model} ours not compiled") if name in by_name]
        theirs = [row for name, row in by_name.items() if name.startswith(f"{model} stock")]
        if mine and theirs:
            best, stock_best = (max(side, key=lambda row: row["pairs_per_s"]) for side in (mine, theirs))
            reached[f"{model} pairs/s over stock"] = best["pairs_per_s"] / stock_best["pairs_per_s"]
            reached[f"{model} ahead of stock from pair"] = min(break_even(row, stock_best) for row in mine)
            reached[f"{model} share of the peak"] = max(row.get("peak_share", 0.0) for row in mine)
        for size in (4, 9):
            pair = [by_name.get(f"{model} groups of {size} {way}") for way in ("at once", "in pairs")]
            if pair[0] and pair[1]:
                ratio = pair[0]["pairs_per_s"] / pair[1]["pairs_per_s"]
                name = f"groups of {size} over pairs"
                reached[name] = min(ratio, reached.get(name, ratio))
        memory = [by_name.get(f"{model} {side} memory", {}).get("peak_gib") for side in ("ours", "stock")]
        if memory[0] and memory[1]:
            reached[f"{model} memory over stock"] = memory[0] / memory[1]
    return {name: value for name, value in reached.items() if name in GOALS}


def break_even(mine: dict[str, Any], theirs: dict[str, Any]) -> float:
    """The pair from which ours is ahead, starts included; infinite where it never is."""
    gain = 1 / theirs["pairs_per_s"] - 1 / mine["pairs_per_s"]
    late = mine["start_s"] - theirs["start_s"]
    return max(0.0, late / gain) if gain > 0 else float("inf")


def print_table(rows: Sequence[dict[str, Any]]) -> None:
    print("\n| case | pairs/s | tokens/s | of peak | peak GiB | start s |\n| --- | --- | --- | --- | --- | --- |")
    for row in rows:
        if "pairs_per_s" in row:
            share = f"{row['peak_share']:.1%}" if "peak_share" in row else "–"
            memory = f"{row['peak_gib']:.1f}" if "peak_gib" in row else "–"
            print(
                f"| {row['case']} | {row['pairs_per_s']:,.1f} | {row['tokens_per_s']:,.0f} | {share} | {memory} | "
                f"{row['start_s']:.1f} |"
            )
        elif "error" in row:
            print(f"| {row['case']} | {row['error'][:80]} | | | | |")


def emit(row: dict[str, Any]) -> None:
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    sys.exit(main())
