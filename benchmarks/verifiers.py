"""Measures the verifiers on data with known answers: what must pass does, what must fail does, and how fast.

    .venv/bin/python benchmarks/verifiers.py [--check] DIRECTORY

DIRECTORY holds gsm8k/*.jsonl {solution_raw, answer}, bbh_logic/tasks.jsonl {task, answer} and ifeval/tasks.jsonl
{instruction_ids, kwargs}. GSM8K: each reference in four forms must pass, four perturbed answers in three forms each
must fail. BBH: each target in three forms, and every other answer of its task. IFEval: every row must be read. All of
it goes through the workers, as in use. With --check it exits with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rewardmodel.contract import InputError
from rewardmodel.data import VerifiableItem
from rewardmodel.verifiers.registry import parse_verifier
from rewardmodel.verifiers.rows import verify_items

Case = tuple[str, dict[str, Any]]  # response, verifier


def main() -> int:
    """Verify, print a table, and say whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--check", action="store_true")
    options = parser.parse_args()
    gsm8k = [row for file in sorted((options.directory / "gsm8k").glob("*.jsonl")) for row in read(file)]
    logic = read(options.directory / "bbh_logic" / "tasks.jsonl")
    ifeval = read(options.directory / "ifeval" / "tasks.jsonl")
    print(f"{'cases':<28} {'pass':>7} {'of':>7} {'goal':>6} {'checks/s':>9}")
    is_met = [
        report("GSM8K references", list(list_references(gsm8k)), goal=True),
        report("GSM8K perturbed answers", list(list_perturbed(gsm8k)), goal=False),
        report("BBH targets", list(list_targets(logic)), goal=True),
        report("BBH other answers", list(list_others(logic)), goal=False),
    ]
    readable = sum(is_readable(row) for row in ifeval)
    print(f"{'IFEval rows read':<28} {readable:>7} {len(ifeval):>7} {'all':>6}")
    is_met.append(readable == len(ifeval))
    print(f"goals {'met' if all(is_met) else 'missed'}")
    return 0 if all(is_met) or not options.check else 1


def read(file: Path) -> list[dict[str, Any]]:
    """The rows of a JSONL file."""
    return [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]


def report(name: str, cases: list[Case], *, goal: bool) -> bool:
    """Verify some cases and print their line; whether all pass, or all fail, as the goal says."""
    items = [VerifiableItem([], response, parse_verifier(spec), {}) for response, spec in cases]
    started = time.perf_counter()
    verdicts = verify_items(items)
    speed = len(items) / (time.perf_counter() - started)
    count = sum(verdict.passed for verdict in verdicts)
    print(f"{name:<28} {count:>7} {len(items):>7} {'all' if goal else 'none':>6} {speed:>9.0f}")
    for (response, spec), verdict in zip(cases, verdicts, strict=True):
        if verdict.passed != goal:
            print(f"  {spec['answer']!r}: {response[-60:]!r}: {verdict.reason}", file=sys.stderr)
    return count == (len(items) if goal else 0)


def list_references(rows: list[dict[str, Any]]) -> Iterator[Case]:
    """The worked solution, and its number boxed, with separators and currency, and with a unit."""
    for row in rows:
        answer = row["answer"]
        for response in (
            row["solution_raw"],
            rf"So it is \boxed{{{answer}}}.",
            f"The answer is ${float(answer):,.2f}.",
            f"All in all that makes {answer} pieces.",
        ):
            yield response, {"kind": "math", "answer": answer}


def list_perturbed(rows: list[dict[str, Any]]) -> Iterator[Case]:
    """One more, ten times as much (and one), a half more, and the opposite; marked, boxed and plain."""
    for row in rows:
        value = float(row["answer"])
        way = row["solution_raw"].split("####")[0]
        for wrong in (value + 1, value * 10 + 1, value + 0.5, -value - 1):
            for response in (f"{way}#### {wrong:.10g}", rf"{way}\boxed{{{wrong:.1f}}}", f"{way}So it is {wrong:.1f}"):
                yield response, {"kind": "math", "answer": row["answer"]}


def list_targets(rows: list[dict[str, Any]]) -> Iterator[Case]:
    """The target bare, in a sentence, and on a line after some thoughts."""
    for row in rows:
        for form in ("{}", "The answer is {}.", "Let me think (A).\n{}"):
            yield form.format(row["answer"]), {"kind": "logic", "answer": row["answer"]}


def list_others(rows: list[dict[str, Any]]) -> Iterator[Case]:
    """Every other answer of the same task."""
    answers: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        answers[row["task"]].add(row["answer"])
    for row in rows:
        for wrong in sorted(answers[row["task"]] - {row["answer"]}):
            yield f"The answer is {wrong}.", {"kind": "logic", "answer": row["answer"]}


def is_readable(row: dict[str, Any]) -> bool:
    """Whether a row of IFEval is a valid spec; why not goes to stderr."""
    try:
        parse_verifier({"kind": "constraints", **{key: row[key] for key in ("instruction_ids", "kwargs")}})
    except InputError as error:
        print(f"  {row['id']}: {error}", file=sys.stderr)
        return False
    return True


if __name__ == "__main__":
    sys.exit(main())
