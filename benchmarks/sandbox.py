"""Runs programs that try to get out of the sandbox, and measures what a check costs.

    .venv/bin/python benchmarks/sandbox.py [--check] [--mbpp TASKS.jsonl]

Prints one line a program of tests/escape_corpus.py; the time of a check where no sandbox waits (cold: one is started,
runs an empty program and ends) and where they are started ahead (amortised over 300 checks by two threads); and, with
--mbpp, how many references {reference, tests, setup} pass their own tests (mutants.py: how many broken ones do). With
--check it exits with 1 where a program got out or a goal is missed.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
COLD_SECONDS, AMORTISED_SECONDS, CHECKS_A_SECOND = 0.1, 0.015, 60.0
CHECKS, THREADS = 300, 2


def main() -> int:
    """Print the tables; 1 where something got out or a goal is missed."""
    from rewardmodel.sandbox import Limits, Sandbox
    from tests.escape_corpus import CORPUS, SECONDS, Canaries

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--mbpp", type=Path)
    options = parser.parse_args()
    escaped = 0
    with Canaries() as canaries, Sandbox(limits=Limits(seconds=SECONDS)) as sandbox:
        for escape in CORPUS:
            outcome = sandbox.run(canaries.fill_in(escape))
            way = canaries.check(outcome)
            escaped += bool(way)
            print(f"{escape.name:<28} {outcome.ending:<12} {outcome.seconds:6.2f} s  {way or 'contained'}")
    print(f"\n{len(CORPUS) - escaped} of {len(CORPUS)} programs contained")
    cold, amortised = measure_cold(), measure_amortised()
    rate = 1 / amortised
    print(f"cold check {cold * 1000:.0f} ms (goal {COLD_SECONDS * 1000:.0f})")
    print(f"amortised {amortised * 1000:.1f} ms (goal {AMORTISED_SECONDS * 1000:.0f}), {rate:.0f} checks/s (goal 60)")
    met = not escaped and cold <= COLD_SECONDS and amortised <= AMORTISED_SECONDS and rate >= CHECKS_A_SECOND
    if options.mbpp:
        met = check_references(options.mbpp) and met
    return 0 if met or not options.check else 1


def measure_cold() -> float:
    """Median seconds of an empty program in a sandbox opened for it."""
    from rewardmodel.sandbox.isolation import Limits, build_command, find_bubblewrap
    from rewardmodel.sandbox.worker import start_worker

    limits, bubblewrap = Limits(), find_bubblewrap()
    seconds = []
    for _ in range(20):
        started = time.perf_counter()
        worker = start_worker(build_command(bubblewrap=bubblewrap, limits=limits), limits=limits, isolated=True)
        worker.wait_until_ready()
        worker.give(json.dumps({"do": "run", "program": ""}).encode(), stdin=b"")
        worker.finish()
        worker.close()
        seconds.append(time.perf_counter() - started)
    return statistics.median(seconds)


def measure_amortised() -> float:
    """Seconds a check of many, where sandboxes are started ahead."""
    from rewardmodel.sandbox import Sandbox

    with Sandbox() as sandbox, ThreadPoolExecutor(THREADS) as threads:
        sandbox.run("")
        started = time.perf_counter()
        list(threads.map(sandbox.run, ["print(1)"] * CHECKS))
        return (time.perf_counter() - started) / CHECKS


def check_references(path: Path) -> bool:
    """Whether every reference passes its own tests; the others are named."""
    from rewardmodel.sandbox import Sandbox
    from rewardmodel.verifiers.code import parse_code_spec, verify_code

    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    passed, started = 0, time.perf_counter()
    with Sandbox() as sandbox:
        for row in rows:
            spec = parse_code_spec({"tests": [{"asserts": row["tests"], "setup": row["setup"]}]})
            verdict = verify_code(row["reference"], spec=spec, sandbox=sandbox)
            passed += verdict.passed
            if not verdict.passed:
                print(f"{row['id']}: {verdict.reason}")
    print(f"MBPP: {passed} of {len(rows)} references pass ({time.perf_counter() - started:.0f} s)")
    return passed == len(rows)


if __name__ == "__main__":
    raise SystemExit(main())
