#!/usr/bin/env python
"""What it costs to turn preference pairs into tokens: the first time, and again, when the ids are kept on disk.

    benchmarks/encoding.py DIRECTORY [--pairs 100000] [--model M]

DIRECTORY holds train.jsonl of rows {prompt, chosen, rejected}, which are repeated, with prompts numbered, until there
are enough. Each time is a process of its own; memory is the most that it held, less what it held before reading.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from itertools import cycle, islice, pairwise
from pathlib import Path

from rewardmodel.chat import encode_split
from rewardmodel.contract import EMBEDDED_MODEL
from rewardmodel.data import read_pairs
from rewardmodel.groups import gather_groups
from rewardmodel.models import load_tokenizer, models_directory, resolve_model

GIB = 1 << 20  # in KiB, as Linux counts


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", type=Path)
    parser.add_argument("--pairs", type=int, default=100_000)
    parser.add_argument("--model", default=EMBEDDED_MODEL)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    model = resolve_model(arguments.model)
    if arguments.measure:
        print(json.dumps(measure(arguments.measure, model=model)))
        return 0
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "pairs.jsonl"
        write_rows(arguments.directory / "train.jsonl", file=file, count=arguments.pairs)
        print(f"{arguments.pairs} pairs, {file.stat().st_size / 2**20:.0f} MiB of JSONL, {model.name}\n")
        print("| | reading s | tokens s | grouping s | million ids | peak GiB |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        (Path(folder) / "models").symlink_to(models_directory())
        for name in ("first", "again"):
            command = [
                sys.executable,
                __file__,
                str(arguments.directory),
                "--model",
                str(model),
                "--measure",
                str(file),
            ]
            environment = {**os.environ, "DATA_DIR": folder}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            found = json.loads(done.stdout.splitlines()[-1])
            print(
                f"| {name} | {found['reading']:.1f} | {found['tokens']:.1f} | {found['grouping']:.1f} | "
                f"{found['ids'] / 1e6:.1f} | {found['memory']:.2f} |",
                flush=True,
            )
    return 0


def write_rows(source: Path, *, file: Path, count: int) -> None:
    rows = [json.loads(line) for line in source.read_text(encoding="utf-8").splitlines()]
    with file.open("w", encoding="utf-8") as out:
        for number, row in enumerate(islice(cycle(rows), count)):
            first, *others = row["prompt"]
            numbered = [{**first, "content": f"{number}. {first['content']}"}, *others]
            out.write(json.dumps({**row, "prompt": numbered}, ensure_ascii=False) + "\n")


def measure(file: Path, *, model: Path) -> dict[str, float]:
    tokenizer = load_tokenizer(model)
    before = peak()
    marks = [time.perf_counter()]
    pairs = read_pairs(file)
    marks.append(time.perf_counter())
    split = encode_split(tokenizer, pairs=pairs, max_length=1024)
    marks.append(time.perf_counter())
    groups = gather_groups(split.pairs)
    marks.append(time.perf_counter())
    reading, tokens, grouping = (end - start for start, end in pairwise(marks))
    ids = sum(group.separate_tokens for group in groups)
    return {"reading": reading, "tokens": tokens, "grouping": grouping, "ids": ids, "memory": (peak() - before) / GIB}


def peak() -> float:
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)


if __name__ == "__main__":
    sys.exit(main())
