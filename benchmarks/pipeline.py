#!/usr/bin/env python
"""A whole pipeline on a real model: SFT → RFT → reward → DPO → check, on sums that a verifier checks.

    benchmarks/pipeline.py [--model MODEL] [--dir DIR] [--quick] [--json]

The questions are those of rejection.py. SFT imitates some right answers, RFT learns from its own that pass, a reward
model from right answers before wrong ones, DPO from RFT's attempts that passed before those that did not, and the last
stage answers the held-out questions again. The spec is written to DIR/pipeline.yaml and carried out by the command
line; started again with the same DIR it goes on where it was. Ends with its exit code: 5 where a gate does not hold.
--quick: few questions and steps, for a CPU.
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rejection import make_questions, make_reference

from rewardmodel.cli import main as run_command
from rewardmodel.contract import EMBEDDED_MODEL
from rewardmodel.documents import write_document
from rewardmodel.rundir import write_json_lines, write_text

FULL = {"train": 600, "test": 200, "references": 200}
QUICK = {"train": 12, "test": 8, "references": 12}


def main(argv: Sequence[str] | None = None) -> int:
    """Write data and spec, and carry the pipeline out."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default=EMBEDDED_MODEL)
    parser.add_argument("--dir", type=Path, help="a new directory, or one to go on in; unset: a temporary one")
    parser.add_argument("--quick", action="store_true", help="few questions and steps")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")
    options = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        directory = (options.dir or Path(folder)).absolute()
        write_data(directory / "data", sizes=QUICK if options.quick else FULL)
        spec = build_spec(options.model, data=directory / "data", quick=options.quick)
        write_text(directory / "pipeline.yaml", write_document(spec))
        asked = ["pipeline", str(directory / "pipeline.yaml"), "--dir", str(directory / "stages")]
        return run_command([*asked, *(["--json"] if options.json else [])])


def write_data(directory: Path, *, sizes: dict[str, int]) -> None:
    """Questions with verifiers, right answers to some of them, and right answers before wrong ones."""
    for split, rows in zip(("train", "test"), make_questions(sizes["train"], test=sizes["test"]), strict=True):
        references = [make_reference(row) for row in rows]
        write_json_lines(directory / "questions" / f"{split}.jsonl", rows)
        write_json_lines(directory / "answers" / f"{split}.jsonl", references[: sizes["references"]])
        write_json_lines(directory / "pairs" / f"{split}.jsonl", [make_pair(row, seed=split) for row in rows])


def make_pair(row: dict[str, Any], *, seed: str) -> dict[str, Any]:
    """The right answer before one that is wrong by 1 to 3."""
    right = row["verifier"]["answer"]
    wrong = right + random.Random(f"{seed}/{row['prompt_id']}").choice([-3, -2, -1, 1, 2, 3])
    chosen, rejected = (f"{row['formula']} = {value}" for value in (right, wrong))
    return {"prompt": row["prompt"], "chosen": chosen, "rejected": rejected}


def build_spec(model: str, *, data: Path, quick: bool) -> dict[str, Any]:
    """The pipeline. Its gates let pass what is not clearly worse than before."""
    few = {"max_steps": 3, "batch_size": 4} if quick else {"batch_size": 8}
    common = {"max_length": 128, "tensorboard": False, **few}
    drawn = {"response_tokens": 16, "temperature": 0.7, "test_samples": 4, "pass_k": 4}
    rounds = {"rounds": 1, "samples": 4, "max_samples": 4} if quick else {"rounds": 2, "samples": 8, "max_samples": 16}
    pairs = {"train": "@rft/pairs.jsonl", "test": str(data / "pairs" / "test.jsonl")}
    questions = str(data / "questions")
    no_worse = {"metric": "pass@1", "judge_by": "part-of-interval"}
    sft = {"method": "sft", "model": model, "data": str(data / "answers"), "report_samples": 0, **common}
    rft = {"method": "rejection", "model": "@sft", "data": questions, "report_samples": 0, **common, **rounds, **drawn}
    reward = {"method": "reward", "model": model, "data": str(data / "pairs"), **common}
    dpo = {"method": "dpo", "model": "@rft", "data": pairs, "report_samples": 0, **common}
    check = {"method": "check", "model": "@dpo", "data": questions, "max_length": 128, **drawn}
    accuracy = {"metric": "accuracy", "at_least": 0.5, "judge_by": "part-of-interval"}
    return {
        "stages": [
            {"name": "sft", "spec": sft, "gate": {"metric": "loss", "not_above": "start"}},
            {"name": "rft", "spec": rft, "gate": no_worse | {"not_below": "start"}},
            {"name": "reward", "spec": reward, "gate": accuracy},
            {"name": "dpo", "spec": dpo},
            {"name": "check", "spec": check, "gate": no_worse | {"not_below": "@rft"}},
        ]
    }


if __name__ == "__main__":
    sys.exit(main())
