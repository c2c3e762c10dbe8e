#!/usr/bin/env python
"""Train on preference pairs and print the held-out accuracy beside its baselines.

    benchmarks/heldout_pairs.py DIRECTORY [--method reward|dpo] [--seeds 0 1 2] [--check] [--set name=value …]

DIRECTORY holds train.jsonl and test.jsonl of rows {prompt, chosen, rejected}; any snapshot will do. With --check the
exit code is 1 unless, for every seed, the interval of the trained model lies above the accuracy of "longer wins".
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--method", choices=("reward", "dpo"), default="reward")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument(
        "--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the spec, as JSON values"
    )
    parser.add_argument("--check", action="store_true")
    arguments = parser.parse_args()
    settings = dict(read_setting(text) for text in arguments.set)
    spec = {"method": arguments.method, "data": str(arguments.directory.resolve()), **settings}
    reports = [train({**spec, "seed": seed}) for seed in arguments.seeds]
    print_table(reports)
    return int(arguments.check and not all(beats_length(report) for report in reports))


def read_setting(text: str) -> tuple[str, Any]:
    name, _, value = text.partition("=")
    try:
        return name, json.loads(value)
    except json.JSONDecodeError:
        return name, value


def train(spec: dict[str, Any]) -> dict[str, Any]:
    """Run `rewardmodel train` in a process of its own and return its report."""
    with tempfile.TemporaryDirectory() as folder:
        file, run = Path(folder) / "spec.json", Path(folder) / "run"
        file.write_text(json.dumps(spec))
        command = [sys.executable, "-m", "rewardmodel", "train", str(file), "--run-dir", str(run)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        return {"seed": spec["seed"], **json.loads((run / "report.json").read_text())}


def print_table(reports: list[dict[str, Any]]) -> None:
    first = reports[0]
    pairs = f"{first['trained_on']['pairs']} training pairs, {first['heldout']['n']} held-out pairs"
    print(f"{first['method']}, {first['base_model']}, {first['device']} {first['precision']}: {pairs}\n")
    print("| seed | trained | log loss | longer wins | untrained | seconds |")
    print("| --- | --- | --- | --- | --- | --- |")
    for report in reports:
        trained, baselines = report["heldout"], report["baselines"]
        cells = [
            show(trained), f"{trained['log_loss']:.3f}", show(baselines["longer_wins"]), show(baselines["untrained"]),
            f"{report['seconds']:.0f}",
        ]  # fmt: skip
        print(f"| {report['seed']} | {' | '.join(cells)} |")


def show(figure: dict[str, Any]) -> str:
    low, high = figure["interval"]
    return f"{figure['accuracy']:.3f} [{low:.3f}, {high:.3f}]"


def beats_length(report: dict[str, Any]) -> bool:
    return report["heldout"]["interval"][0] > report["baselines"]["longer_wins"]["accuracy"]


if __name__ == "__main__":
    sys.exit(main())
