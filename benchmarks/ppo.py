#!/usr/bin/env python
"""PPO on real preferences: does the policy get better by a judge that it was never trained against, and how fast.

    benchmarks/ppo.py DIRECTORY --out DIR [--only STAGE …] [--model M] [--quick] [--check] [--set NAME=VALUE …]
        [--peer-python PYTHON]

DIRECTORY holds train.jsonl and test.jsonl of rows {prompt, chosen, rejected}. Stages, each kept in DIR and not done
twice: `sft` on the chosen responses; `reward`, a reward model of one half of the training prompts; `judge`, another
of the other half, with another seed; `ppo` from the SFT policy against the reward model; `rloo`, `grpo` and
`online-dpo` as that, with as many answers and moves; `dpo` on the reward model's half; `table`, the win rate of each
over the SFT policy on test prompts, by the judge; `best`, that of the best of 16 answers by the reward model;
`speed`, answers a second and memory of PPO beside TRL's RLOOTrainer at the same batch.

`--peer-python` names a Python with TRL 1.12, the last with PPO, whose PPOTrainer `speed` then measures too.

`--set` changes settings of PPO. With `--check` the exit code is 1 unless PPO wins 65 % with an interval above 50 %, at
15 nats or less, with answers at most 1.3 times as long, and takes no longer an answer than RLOO. `--quick` does all of
it in minutes on a CPU, with too little data to learn anything.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import json
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rewardmodel.compute import resolve_compute
from rewardmodel.contract import EMBEDDED_MODEL, PPOSpec, parse_spec
from rewardmodel.data import read_prompts, read_rows
from rewardmodel.evaluation.policies import examine_policy
from rewardmodel.evaluation.resampling import mean_interval
from rewardmodel.generate import Sampling, generate_responses
from rewardmodel.jobs import run_job
from rewardmodel.models import load_policy, load_tokenizer
from rewardmodel.rundir import RunDir, read_json_lines, write_json_lines
from rewardmodel.train.rewards import open_judge

RIVALS: dict[str, dict[str, Any]] = {
    "rloo": {"group_size": 4, "kl_coefficient": 0.03},
    "grpo": {"group_size": 8},
    "online-dpo": {"group_size": 4},
}
STAGES = ("sft", "reward", "judge", "ppo", *RIVALS, "dpo", "table", "best", "speed")
TOKENS = 128
BEST_OF = 16
REWARD = {"tuning": "full", "batch_size": 32, "learning_rate": 1e-4, "epochs": 2.0, "text_weight": 1.0}
ONLINE = {
    "tuning": "full", "batch_size": 128, "minibatches": 4, "ppo_epochs": 2, "max_steps": 48, "learning_rate": 1e-5,
    "kl_budget": 13.0, "generation_batch_size": 128, "save_steps": 1000,
}  # fmt: skip
PPO = {"value_learning_rate": 2e-5, "kl_coefficient": 0.03}
GOALS = {"win_rate": 0.65, "lower": 0.5, "nats": 15.0, "length": 1.3}


class Bench:
    """The directory of results, and how much of everything is done."""

    def __init__(self, directory: Path, *, out: Path, model: str, quick: bool, changes: Mapping[str, Any]) -> None:
        self.out, self.model, self.quick, self.changes = out, model, quick, changes
        self.test_prompts, self.samples = (6, 1) if quick else (250, 2)
        self.tokens = 24 if quick else TOKENS
        self.length = 256 if quick else 1024
        out.mkdir(parents=True, exist_ok=True)
        rows = {name: [row for _line, row in read_rows(directory / f"{name}.jsonl")] for name in ("train", "test")}
        if quick:
            rows = {name: [row for row in part if len(str(row["prompt"])) < 300][:24] for name, part in rows.items()}
        halves = [[row for row in rows["train"] if half_of(row) == half] for half in (0, 1)]
        self.files = {
            "sft": write_rows(out / "sft.jsonl", [{"messages": [*r["prompt"], *r["chosen"]]} for r in rows["train"]]),
            "sft test": write_rows(
                out / "sft-test.jsonl", [{"messages": [*r["prompt"], *r["chosen"]]} for r in rows["test"]]
            ),
            "reward": write_rows(out / "half-0.jsonl", halves[0]),
            "judge": write_rows(out / "half-1.jsonl", halves[1]),
            "test": write_rows(out / "test.jsonl", rows["test"]),
            "prompts": write_rows(out / "prompts.jsonl", [{"prompt": row["prompt"]} for row in rows["train"]]),
            "test prompts": write_rows(
                out / "test-prompts.jsonl",
                [{"prompt_id": row["id"], "prompt": row["prompt"]} for row in rows["test"][: self.test_prompts]],
            ),
        }

    def model_of(self, stage: str) -> str:
        return str(self.out / stage / "outputs" / "model")

    def train(self, stage: str, **settings: Any) -> dict[str, Any]:
        """The report of a run, begun or gone on with in its directory. Exits where it fails."""
        run = RunDir(self.out / stage)
        if not run.path.exists():
            few = {"epochs": 1.0, "max_steps": 2, "batch_size": 4} if self.quick else {}
            if self.quick and "group_size" in settings:
                few |= {"batch_size": 8, "minibatches": 1}
            run.create({"max_length": self.length, **settings, **few})
        started = time.perf_counter()
        if run_job(run, show=False) != "succeeded":
            sys.exit(f"{stage}: {run.read_status()['error']}")
        gc.collect()
        report = run.read_report()
        emit({"stage": stage, "seconds": round(time.perf_counter() - started, 1), "heldout": report["heldout"]})
        return report

    def ppo_settings(self) -> dict[str, Any]:
        return {**self.online_settings("ppo"), **PPO, **self.changes}

    def online_settings(self, method: str) -> dict[str, Any]:
        return {
            "method": method, "model": self.model_of("sft"), "reward_model": self.model_of("reward"),
            "data": {"train": self.files["prompts"], "test": self.files["test prompts"]},
            "response_tokens": self.tokens, "max_length": self.length, "report_samples": 0,
            "test_prompts": min(64, self.test_prompts), **ONLINE,
        }  # fmt: skip


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--only", nargs="+", choices=STAGES, default=STAGES)
    parser.add_argument("--model", default=EMBEDDED_MODEL)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of PPO, as JSON values")
    parser.add_argument("--peer-python", help="a Python that has trl 1.12")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args(argv)
    changes = {name: json.loads(value) for name, _, value in (text.partition("=") for text in arguments.set)}
    bench = Bench(arguments.directory, out=arguments.out, model=arguments.model, quick=arguments.quick, changes=changes)
    for stage in arguments.only:
        run_stage(stage, bench=bench, peer=arguments.peer_python)
    met = print_results(arguments.out)
    return int(arguments.check and not met)


def run_stage(stage: str, *, bench: Bench, peer: str | None) -> None:
    files = bench.files
    pairs = {"train": files["judge" if stage == "judge" else "reward"], "test": files["test"]}
    if stage == "sft":
        data = {"train": files["sft"], "test": files["sft test"]}
        bench.train("sft", method="sft", model=bench.model, data=data, tuning="full", batch_size=16, report_samples=0)
    elif stage in ("reward", "judge"):
        seed = int(stage == "judge")
        bench.train(stage, method="reward", model=bench.model, data=pairs, seed=seed, **REWARD)
    elif stage == "ppo":
        bench.train("ppo", **bench.ppo_settings())
    elif stage in RIVALS:
        bench.train(stage, **bench.online_settings(stage), **RIVALS[stage])
    elif stage == "dpo":
        bench.train("dpo", method="dpo", model=bench.model_of("sft"), data=pairs, tuning="full", report_samples=0)
    elif stage == "table":
        for name in ("ppo", *RIVALS, "dpo"):
            if (bench.out / name / "outputs").exists():
                keep(compare(name, bench=bench), bench=bench)
    elif stage == "best":
        keep(compare_best(bench), bench=bench)
    else:
        sides = [measure_ppo(bench), measure_rloo(bench)]
        write_json_lines(bench.out / "speed.jsonl", [*sides, *([measure_peer(bench, python=peer)] if peer else [])])


def keep(row: dict[str, Any], *, bench: Bench) -> None:
    """The row in the table, in place of an older one of its name."""
    emit(row)
    file = bench.out / "table.jsonl"
    others = [old for old in read_json_lines(file) if old["policy"] != row["policy"]]
    write_json_lines(file, [*others, row])


def compare(stage: str, *, bench: Bench) -> dict[str, Any]:
    """A policy beside the SFT policy, by the judge."""
    found = examine_policy(
        bench.model_of(stage),
        prompts=bench.files["test prompts"],
        reference=bench.model_of("sft"),
        reward_model=bench.model_of("judge"),
        sampling=sampling(bench, n=bench.samples),
    ).figures
    return {
        "policy": stage, "win_rate": found["win_rate"], "interval": found["interval"],
        "nats": found["kl"]["per_response"], "length": found["length"]["ratio"],
        "length_controlled": found["length_controlled"],
    }  # fmt: skip


def compare_best(bench: Bench) -> dict[str, Any]:
    """The best of 16 answers of the SFT policy by the reward model, beside one more answer, by the judge.

    KL: log n - (n - 1) / n at most (Stiennon et al. 2020).
    """
    items = read_prompts(bench.files["test prompts"])
    compute = resolve_compute("auto", precision="auto")
    tokenizer = load_tokenizer(Path(bench.model_of("sft")))
    policy = load_policy(Path(bench.model_of("sft")), tokenizer=tokenizer, compute=compute, dtype=torch.float32)
    n = 3 if bench.quick else BEST_OF
    prompts = [item.prompt for item in items]
    responses = generate_responses(
        policy, tokenizer=tokenizer, prompts=prompts, sampling=sampling(bench, n=n + 1), compute=compute
    )
    del policy
    answers = np.array([response.text for response in responses], dtype=object).reshape(len(items), n + 1)
    lengths = np.array([response.n_tokens for response in responses]).reshape(len(items), n + 1)
    spec = read_ppo_spec(bench)
    score = open_judge(bench.model_of("reward"), spec=spec)
    repeated = [prompt for prompt in prompts for _answer in range(n)]
    best = np.reshape(score(repeated, answers[:, :n].ravel().tolist()), (len(items), n)).argmax(axis=1)
    judge = open_judge(bench.model_of("judge"), spec=spec)
    chosen = answers[np.arange(len(items)), best].tolist()
    theirs = answers[:, n].tolist()
    ours, other = np.asarray(judge(prompts, chosen)), np.asarray(judge(prompts, theirs))
    wins = (ours > other) + 0.5 * (ours == other)
    return {
        "policy": f"best of {n}", "win_rate": float(wins.mean()),
        "interval": mean_interval(wins, prompt_ids=[item.prompt_id for item in items]),
        "nats": float(np.log(n) - (n - 1) / n),
        "length": float(lengths[np.arange(len(items)), best].mean() / lengths[:, n].mean()), "length_controlled": None,
    }  # fmt: skip


def measure_ppo(bench: Bench) -> dict[str, Any]:
    """Answers a second of the steps after the first, generation, reading and learning together, and peak memory."""
    steps = 3 if bench.quick else 7
    reset_memory()
    bench.train("speed-ppo", **bench.ppo_settings() | {"max_steps": steps, "test_prompts": 2})
    rows = RunDir(bench.out / "speed-ppo").read_metrics()
    size = read_ppo_spec(bench).batch_size if not bench.quick else 4
    seconds = (rows[-1]["time"] - rows[0]["time"]) / (len(rows) - 1)
    return {"side": "ours, PPO", "answers_a_second": size / seconds, "gib": peak_memory()}


def measure_rloo(bench: Bench) -> dict[str, Any]:
    """The same of TRL's RLOOTrainer: no critic, one pass over the answers."""
    from datasets import Dataset
    from transformers import TrainerCallback
    from trl import RLOOConfig, RLOOTrainer

    spec = read_ppo_spec(bench)
    size, steps = (4, 3) if bench.quick else (spec.batch_size, 7)
    compute = resolve_compute("auto", precision="auto")
    tokenizer = load_tokenizer(Path(bench.model_of("sft")))
    reset_memory()
    judge = open_judge(bench.model_of("reward"), spec=spec)
    policy = load_policy(Path(bench.model_of("sft")), tokenizer=tokenizer, compute=compute, dtype=torch.float32)

    def reward(prompts: list[Any], completions: list[Any], **_more: Any) -> list[float]:
        return [float(value) for value in judge(prompts, [answer[0]["content"] for answer in completions])]

    marks: list[float] = []

    class Clock(TrainerCallback):
        def on_step_end(self, *_arguments: Any, **_more: Any) -> None:
            marks.append(time.perf_counter())

    rows = [{"prompt": item.prompt} for item in read_prompts(bench.files["prompts"])]
    trainer = RLOOTrainer(
        model=policy,
        reward_funcs=reward,
        args=RLOOConfig(
            output_dir=str(bench.out / "speed-rloo"), per_device_train_batch_size=size, num_generations=2,
            max_completion_length=bench.tokens, max_steps=steps, learning_rate=float(spec.learning_rate or 0),
            bf16=compute.precision == "bf16", use_cpu=compute.device == "cpu", save_strategy="no", report_to=[],
            logging_strategy="no", disable_tqdm=True,
        ),
        train_dataset=Dataset.from_list([row for row in rows if len(str(row["prompt"])) < 2000]),
        processing_class=tokenizer,
        callbacks=[Clock()],
    )  # fmt: skip
    trainer.train()
    return {
        "side": "TRL's RLOOTrainer",
        "answers_a_second": size * (len(marks) - 1) / (marks[-1] - marks[0]),
        "gib": peak_memory(),
    }


def measure_peer(bench: Bench, *, python: str) -> dict[str, Any]:
    """The same of the PPOTrainer of another environment's TRL, in a process of its own."""
    reset_memory()
    spec = read_ppo_spec(bench)
    size, steps = (4, 3) if bench.quick else (spec.batch_size, 4)  # a step takes it half a minute
    script = Path(__file__).with_name("ppo_peer.py")
    models = [bench.model_of("sft"), bench.model_of("reward")]
    settings = [bench.files["prompts"], str(size), str(bench.tokens), str(steps), str(spec.learning_rate)]
    done = subprocess.run([python, str(script), *models, *settings], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"--peer-python {python}: {done.stderr[-2000:]}")
    row: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return row


def read_ppo_spec(bench: Bench, **changes: Any) -> PPOSpec:
    spec = parse_spec({**bench.ppo_settings(), **changes})
    assert isinstance(spec, PPOSpec)  # its method says so
    return spec


def sampling(bench: Bench, *, n: int) -> Sampling:
    return Sampling(n=n, max_new_tokens=bench.tokens, temperature=1.0, top_p=1.0, batch_size=125, seed=7)


def print_results(out: Path) -> bool:
    """The tables of what was done so far; whether all goals are met."""
    table, speed = (read_json_lines(out / f"{name}.jsonl") for name in ("table", "speed"))
    if table:
        print("\n| policy | win rate over SFT, by the judge | nats | length | at equal length |")
        print("| --- | --- | ---: | ---: | --- |")
        for row in table:
            low, high = row["interval"]
            controlled = row["length_controlled"]
            even = f"{controlled['win_rate']:.3f}" if controlled else "–"
            rate = f"{row['win_rate']:.3f} [{low:.3f}, {high:.3f}]"
            print(f"| {row['policy']} | {rate} | {row['nats']:.1f} | {row['length']:.2f} | {even} |")
    if speed:
        print("\n| side | answers a second | peak GiB |\n| --- | ---: | ---: |")
        for row in speed:
            print(f"| {row['side']} | {row['answers_a_second']:.1f} | {row['gib']:.1f} |")
    ppo = next((row for row in table if row["policy"] == "ppo"), None)
    if ppo is None or not speed:
        return False
    learned = ppo["win_rate"] >= GOALS["win_rate"] and ppo["interval"][0] > GOALS["lower"]
    near = ppo["nats"] <= GOALS["nats"] and ppo["length"] <= GOALS["length"]
    return bool(learned and near and speed[0]["answers_a_second"] >= speed[1]["answers_a_second"])


def half_of(row: Mapping[str, Any]) -> int:
    """Which half a prompt belongs to, by its text."""
    return hashlib.sha256(json.dumps(row["prompt"]).encode()).digest()[0] % 2


def reset_memory() -> None:
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def peak_memory() -> float:
    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else float("nan")


def write_rows(file: Path, rows: Sequence[Mapping[str, Any]]) -> str:
    write_json_lines(file, rows)
    return str(file)


def emit(row: Mapping[str, Any]) -> None:
    print(json.dumps(row), flush=True)


if __name__ == "__main__":
    sys.exit(main())
