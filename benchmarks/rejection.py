#!/usr/bin/env python
"""Rejection-sampling fine-tuning on sums that a verifier checks, beside SFT on right answers.

    benchmarks/rejection.py [--model MODEL] [--out DIR] [--quick] [--check] [--json]

Sums and differences of two numbers up to 20 ("What is 7 + 12?"), with other numbers in test than in training; their
answers are checked by kind math. Three policies from one model, each answering the same held-out questions, so that
differences are by question:

- start: the model as it is;
- sft: on the right answers to `references` of the questions, as many epochs as a round has;
- rft: three rounds over all training questions, with the same `references` mixed in; it sees no other right answers.

Beside them sft_all, SFT on as many references as rft learned rows in its last round, at most one a question: what those
answers would have been worth had somebody written them. The goals, with --check: pass@1 of rft is at least twice the
start's, and above sft's with its 95 % interval by question. Meant for one GPU; --quick is a rehearsal on a CPU, without
goals.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rewardmodel.contract import EMBEDDED_MODEL
from rewardmodel.evaluation.resampling import mean_interval
from rewardmodel.jobs import run_job
from rewardmodel.rundir import RunDir, read_json_lines, write_json_lines

FULL = {"train": 900, "test": 280, "references": 100}
QUICK = {"train": 24, "test": 12, "references": 8}
ROUNDS = {"rounds": 3, "samples": 8, "max_samples": 32, "enough": 4, "per_prompt": 4, "test_samples": 8, "pass_k": 8,
          "response_tokens": 48, "temperature": 0.7, "generation_batch_size": 2048, "batch_size": 32,
          "epochs": 3.0, "learning_rate": 5e-5, "tuning": "full", "save_steps": 100000,
          "tensorboard": False}  # fmt: skip
QUICK_ROUNDS = {"rounds": 1, "samples": 2, "max_samples": 4, "enough": 2, "test_samples": 2, "pass_k": 2,
                "response_tokens": 24, "generation_batch_size": 24, "batch_size": 8, "epochs": 1.0}  # fmt: skip
GOAL = 2.0
MOST = 20  # the largest number in a sum of two
SHOWN = "2 + 2 = 4. 10 - 3 = 7. 5 + 8 = 13."


def main(argv: Sequence[str] | None = None) -> int:
    """Train, print a table, and say whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED_MODEL)
    parser.add_argument(
        "--out", type=Path, help="a directory for the runs, gone on with if it is there; unset: a temporary one"
    )
    parser.add_argument("--quick", action="store_true", help="a few questions, one round, no goals")
    parser.add_argument("--check", action="store_true", help="exit with 1 where a goal is missed")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        figures = measure(options, directory=options.out or Path(folder))
    print_table(figures)
    goals = {
        f"rft at least {GOAL:g} times the start": figures["rft"]["pass_at_1"] >= GOAL * figures["start"]["pass_at_1"],
        "rft above sft": figures["rft_less_sft"]["interval"][0] > 0,
    }
    if not options.quick:
        for goal, met in goals.items():
            print(f"{'met   ' if met else 'MISSED'} {goal}")
    if options.json:
        print(json.dumps(figures | {"goals": goals}))
    return int(options.check and not options.quick and not all(goals.values()))


def measure(options: argparse.Namespace, *, directory: Path) -> dict[str, Any]:
    """Figures of all policies, and of how far rft is above sft."""
    sizes, rounds = (QUICK, ROUNDS | QUICK_ROUNDS) if options.quick else (FULL, ROUNDS)
    train, test = make_questions(sizes["train"], test=sizes["test"])
    data = directory / "data"
    write_json_lines(data / "train.jsonl", train)
    write_json_lines(data / "test.jsonl", test)
    references = [make_reference(row) for row in train]
    write_json_lines(directory / "references.jsonl", references[: sizes["references"]])
    spec = {"method": "rejection", "model": options.model, "data": str(data), "test_prompts": sizes["test"], **rounds}
    started = time.perf_counter()
    mixed = {"examples": str(directory / "references.jsonl"), "examples_ratio": 1000.0}
    rft = run(spec | mixed, directory=directory / "rft")
    report = rft.read_report()
    figures: dict[str, Any] = {
        "start": report["baselines"]["untrained"],
        "rft": report["heldout"] | {"rows": report["trained_on"]["rows"]},
        "rounds": report["rounds"],
        "rft_seconds": round(time.perf_counter() - started, 1),
    }
    last = read_json_lines(rft.path / "rounds" / str(rounds["rounds"]) / "heldout.jsonl")
    for name, count in (("sft", sizes["references"]), ("sft_all", report["trained_on"]["rows"])):
        rows = references[:count]
        policy = run_sft(options.model, rows=rows, rounds=rounds, directory=directory / name)
        answered, figures[name] = answer(policy, spec=spec, directory=directory / f"{name}-heldout")
        figures[name]["rows"] = len(rows)
        figures[f"rft_less_{name}"] = compare(last, answered)
    return figures


def run(spec: dict[str, Any], *, directory: Path) -> RunDir:
    """A finished run, begun or gone on with in its directory. Exits with its error where it fails."""
    made = RunDir(directory)
    if not directory.exists():
        made.create(spec)
    if run_job(made) != "succeeded":
        raise SystemExit(f"{directory.name}: {made.read_status()['error']}")
    return made


def run_sft(model: str, *, rows: list[dict[str, Any]], rounds: dict[str, Any], directory: Path) -> Path:
    """A policy trained on right answers, with the settings of a round. The loss on its own rows is not looked at."""
    write_json_lines(directory / "train.jsonl", rows)
    names = ("batch_size", "epochs", "learning_rate", "tuning", "save_steps", "tensorboard")
    data = {split: str(directory / "train.jsonl") for split in ("train", "test")}
    spec = {
        "method": "sft",
        "model": model,
        "data": data,
        "report_samples": 0,
        **{name: rounds[name] for name in names},
    }
    return run(spec, directory=directory / "run").outputs / "model"


def answer(policy: Path, *, spec: dict[str, Any], directory: Path) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    """A policy's answers to the held-out questions, drawn and summed up as a round's are, and their figures."""
    from rewardmodel.compute import resolve_compute
    from rewardmodel.contract import RejectionSpec, parse_spec
    from rewardmodel.models import load_tokenizer
    from rewardmodel.progress import Progress
    from rewardmodel.train.explore import Checkers
    from rewardmodel.train.rejection import Setting, answer_heldout, read_data
    from rewardmodel.verifiers.registry import NOTHING
    from rewardmodel.verifiers.workers import WorkerPool

    parsed = parse_spec(spec)
    assert isinstance(parsed, RejectionSpec)
    tokenizer = load_tokenizer(policy)
    with WorkerPool(2) as pool:
        setting = Setting(
            spec=parsed, run=RunDir(directory), progress=Progress(), compute=resolve_compute("auto", precision="auto"),
            tokenizer=tokenizer, base=policy, data=read_data(parsed, tokenizer=tokenizer, permissions=NOTHING),
            checkers=Checkers(pool=pool, workers=2, permissions=NOTHING),
        )  # fmt: skip
        figures = answer_heldout(setting, number=0)
    figures.pop("rates")
    return read_json_lines(directory / "rounds" / "0" / "heldout.jsonl"), figures


def compare(rows: list[dict[str, Any]], others: list[dict[str, Any]]) -> dict[str, Any]:
    """How much higher pass@1 of the first is, by question, with its 95 % interval."""
    rates = [share_passed(rows), share_passed(others)]
    gains = [rates[0][prompt] - rates[1][prompt] for prompt in rates[0]]
    return {"difference": sum(gains) / len(gains), "interval": mean_interval(gains, prompt_ids=list(rates[0]))}


def share_passed(rows: list[dict[str, Any]]) -> dict[str, float]:
    """pass@1 of each question."""
    passed: dict[str, list[bool]] = {}
    for row in rows:
        passed.setdefault(row["prompt_id"], []).append(row["passed"])
    return {prompt: sum(own) / len(own) for prompt, own in passed.items()}


def make_questions(train: int, *, test: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows {prompt_id, prompt, verifier, formula} of two splits, drawn by a fixed seed; no two numbers stand together
    in both, in whichever order or question."""
    generator = random.Random(0)
    pairs = [(a, b) for a in range(1, MOST + 1) for b in range(1, a + 1)]
    generator.shuffle(pairs)
    parted = len(pairs) // 4
    splits = []
    for name, count, own in (("test", test, pairs[:parted]), ("train", train, pairs[parted:])):
        rows = [row for a, b in own for row in list_questions(a, b)]
        if len(rows) < count:
            raise SystemExit(f"{name}: {count} questions wanted, there are {len(rows)}")
        chosen = generator.sample(rows, count)
        splits.append([{"prompt_id": f"{name}-{number}", **row} for number, row in enumerate(chosen)])
    return splits[1], splits[0]


def list_questions(a: int, b: int) -> list[dict[str, Any]]:
    """All questions about two numbers, of which a is not the smaller one."""
    asked = [(f"What is {x} + {y}?", f"{x} + {y}", x + y) for x, y in {(a, b), (b, a)}]
    asked += [(f"Calculate {x} + {y}.", f"{x} + {y}", x + y) for x, y in {(a, b), (b, a)}]
    asked += [(f"What is {a + b} - {b}?", f"{a + b} - {b}", a), (f"What is {a + b} - {a}?", f"{a + b} - {a}", b)]
    return [
        {"prompt": f"{SHOWN} {text}", "verifier": {"kind": "math", "answer": value}, "formula": formula}
        for text, formula, value in sorted(set(asked))
    ]


def make_reference(row: dict[str, Any]) -> dict[str, Any]:
    """A right answer to imitate."""
    return {"prompt": row["prompt"], "completion": f"{row['formula']} = {row['verifier']['answer']}"}


def print_table(figures: dict[str, Any]) -> None:
    """The policies, then the rounds."""
    print(f"{'policy':<10} {'rows':>6} {'pass@1':>7} {'interval':>15} {'pass@k':>7}")
    for name in ("start", "sft", "sft_all", "rft"):
        row = figures[name]
        low, high = row["interval"]
        between = f"{low:.3f} – {high:.3f}"
        print(f"{name:<10} {row.get('rows', 0):>6} {row['pass_at_1']:>7.3f} {between:>15} {row['pass_at_k']:>7.3f}")
    for row in figures["rounds"]:
        print(
            f"round {row['round']}: {row['attempts']} attempts, acceptance {row['acceptance']:.3f}, "
            f"{row['solved']} of {row['prompts']} questions solved, {row['rows']} rows, pass@1 {row['pass_at_1']:.3f}"
        )
    for name in ("sft", "sft_all"):
        row = figures[f"rft_less_{name}"]
        low, high = row["interval"]
        print(f"rft less {name}: {row['difference']:+.3f} ({low:+.3f} to {high:+.3f})")
    print(f"rft took {figures['rft_seconds']:.0f} s")


if __name__ == "__main__":
    sys.exit(main())
