"""Verdicts on the responses of a file, as a run: each response is checked by the verifier of its row.

    {"method": "verify", "data": "responses.jsonl"}

Model-written code runs in the sandbox, unless who starts the run allows it without one (`unsafe_code`), and functions
of one's own (kind `python`) are for the command line, where somebody allows them by name. A row whose verifier cannot
be run here gets no verdict, and says why; the others are verified all the same. Not here: the checks themselves
(`verifiers`), and `rewardmodel verify`, which verifies a file at once (`verifiers.rows`).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rewardmodel.contract import InputError, VerifySpec
from rewardmodel.data import VerifiableItem, read_verifiable
from rewardmodel.metrics import wilson_interval
from rewardmodel.progress import Progress
from rewardmodel.rundir import RunDir, append_json_lines, read_json_lines
from rewardmodel.train.common import note_where_not_isolated, warn_where_not_isolated
from rewardmodel.verifiers.registry import Permissions, Verifier, parse_verifier, require_sandbox
from rewardmodel.verifiers.rows import verify_items
from rewardmodel.verifiers.verdict import Verdict
from rewardmodel.verifiers.workers import WorkerPool

BATCH = 64
"""Responses between two writes: what a killed run has to check again at most."""
REASONS_SHOWN = 5


@dataclass(frozen=True)
class Refused:
    """A verifier that cannot be run here, and why."""

    reason: str


Item = VerifiableItem[Verifier | Refused]


def run_verify(spec: VerifySpec, *, run: RunDir, progress: Progress, unsafe_code: bool = False) -> dict[str, Any]:
    """Write outputs/verdicts.jsonl batch by batch and return the report.

    Rows already there are kept, so that a resumed run goes on where it stopped. Raises InputError for a file that is
    none, and SandboxUnavailable, before anything is checked, where code is to be run and nothing isolates it, unless
    `unsafe_code` allows that; status and report then say so.
    """
    progress.start("loading")
    permissions = Permissions(reward_model=spec.reward_model, unsafe_code=unsafe_code)
    items = read_items(spec.data, permissions=permissions)
    file = run.outputs / "verdicts.jsonl"
    done = {row["response_id"] for row in read_json_lines(file)}
    left = [item for item in items if str(item.row["response_id"]) not in done]
    verifiers = [item.verifier for item in left if isinstance(item.verifier, Verifier)]
    warn_where_not_isolated(run, isolated=require_sandbox(verifiers, unsafe=unsafe_code))
    progress.start("verifying", total=len(items), step=len(items) - len(left))
    size = spec.workers or os.cpu_count() or 1
    with WorkerPool(size) as pool:
        for start in range(0, len(left), BATCH):
            batch = left[start : start + BATCH]
            verdicts = verify_batch(batch, permissions=permissions, workers=size, pool=pool)
            append_json_lines(file, [write_row(item, found) for item, found in zip(batch, verdicts, strict=True)])
            progress.advance(len(items) - len(left) + start + len(batch))
            progress.check()
    report = report_verdicts(read_json_lines(file))
    return {**report, "notes": [*report["notes"], *note_where_not_isolated(run)]}


def read_items(path: str, *, permissions: Permissions) -> list[Item]:
    """The rows of a file. Raises DataError for a bad row, one without a verifier, or an id that stands twice."""

    def parse(mapping: Any) -> Verifier | Refused:
        try:
            return parse_verifier(mapping, permissions=permissions)
        except InputError as error:
            return Refused(str(error))

    items = read_verifiable(path, parse_verifier=parse)
    names = [str(item.row.get("response_id", "")) for item in items]
    if "" in names or len(set(names)) != len(names):
        raise InputError(f"{path}: every row needs a response_id of its own")
    return items


def verify_batch(
    items: Sequence[Item], *, permissions: Permissions, workers: int, pool: WorkerPool
) -> list[Verdict | Refused]:
    """What is said of each item, in their order."""
    runnable = [
        VerifiableItem(item.prompt, item.response, item.verifier, item.row)
        for item in items
        if isinstance(item.verifier, Verifier)
    ]
    verdicts = iter(verify_items(runnable, permissions=permissions, workers=workers, pool=pool))
    return [item.verifier if isinstance(item.verifier, Refused) else next(verdicts) for item in items]


def write_row(item: Item, found: Verdict | Refused) -> dict[str, Any]:
    """A row of verdicts.jsonl."""
    name = str(item.row["response_id"])
    if isinstance(found, Refused) or isinstance(item.verifier, Refused):
        return {
            "response_id": name, "kind": "", "passed": None, "score": None, "reason": found.reason, "seconds": 0.0
        }  # fmt: skip
    return {
        "response_id": name,
        "kind": item.verifier.kind,
        "passed": found.passed,
        "score": found.score,
        "reason": found.reason,
        "seconds": round(found.seconds, 4),
    }


def report_verdicts(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """{passed, verified, interval, by_kind, dropped, notes}; the interval is Wilson's, at 95 %."""
    verified = [row for row in rows if row["passed"] is not None]
    kinds: dict[str, dict[str, int]] = {}
    for row in verified:
        counts = kinds.setdefault(row["kind"], {"passed": 0, "total": 0})
        counts["passed"] += row["passed"]
        counts["total"] += 1
    passed = sum(row["passed"] for row in verified)
    refused = sorted({row["reason"] for row in rows if row["passed"] is None})
    return {
        "method": "verify",
        "passed": passed,
        "verified": len(verified),
        "interval": list(wilson_interval(passed, n=len(verified))) if verified else None,
        "by_kind": dict(sorted(kinds.items())),
        "dropped": {"verifier_refused": len(rows) - len(verified)},
        "notes": [f"A verifier cannot be run here: {reason}" for reason in refused[:REASONS_SHOWN]],
    }
