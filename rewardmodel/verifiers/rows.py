"""Verifying whole files: what `rewardmodel verify` does.

Everything is read and every verifier checked before the first response is; verdicts come in the order of the rows.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from rewardmodel.data import VerifiableItem, read_verifiable
from rewardmodel.metrics import wilson_interval
from rewardmodel.progress import Progress
from rewardmodel.verifiers.registry import (
    NOTHING,
    Permissions,
    Verifier,
    parse_verifier,
    require_sandbox,
    settle_repeats,
    verify,
)
from rewardmodel.verifiers.reward import check_rewards
from rewardmodel.verifiers.verdict import Verdict
from rewardmodel.verifiers.workers import WorkerPool

Item = VerifiableItem[Verifier]


def read_items(path: str | Path, *, permissions: Permissions = NOTHING) -> list[Item]:
    """The rows {prompt, response, verifier} of a file. Raises DataError naming file, line and field."""
    return read_verifiable(path, parse_verifier=lambda mapping: parse_verifier(mapping, permissions=permissions))


def verify_items(
    items: Sequence[Item],
    *,
    permissions: Permissions = NOTHING,
    workers: int | None = None,
    pool: WorkerPool | None = None,
    progress: Progress | None = None,
) -> list[Verdict]:
    """A verdict an item, in their order. workers: how many processes check; by default one a core. pool: processes to
    use, which stay, in place of new ones.

    Raises InputError for a reward model that is none, and where code can be isolated by nothing.
    """
    require_sandbox((item.verifier for item in items), unsafe=permissions.unsafe_code)
    progress = progress or Progress(show=False)
    by_model = [place for place, item in enumerate(items) if item.verifier.kind == "reward"]
    by_worker = [place for place, item in enumerate(items) if item.verifier.kind != "reward"]
    progress.start("verifying", total=len(items))
    verdicts = _check_by_model(items, places=by_model, model=permissions.reward_model or "")
    progress.advance(len(verdicts))
    size = max(1, min(workers or os.cpu_count() or 1, len(by_worker)))
    with contextlib.nullcontext(pool) if pool else WorkerPool(size) as pool, ThreadPoolExecutor(size) as threads:
        waiting = {
            threads.submit(verify, item.prompt, item.response, item.verifier, permissions=permissions, pool=pool): place
            for place, item in ((place, items[place]) for place in by_worker)
        }
        try:
            for done in as_completed(waiting):
                verdicts[waiting[done]] = done.result()
                progress.advance(len(verdicts))
                progress.check()
        finally:
            threads.shutdown(wait=False, cancel_futures=True)
    return [verdicts[place] for place in range(len(items))]


def _check_by_model(items: Sequence[Item], *, places: Sequence[int], model: str) -> dict[int, Verdict]:
    """Verdicts of the reward model by place: all responses together, as often as the most repeated one asks."""
    if not places:
        return {}
    runs = [
        check_rewards(
            [items[place].verifier.spec for place in places],
            prompts=[items[place].prompt for place in places],
            responses=[items[place].response for place in places],
            model=model,
        )
        for _ in range(max(items[place].verifier.repeats for place in places))
    ]
    return {
        place: settle_repeats([run[number] for run in runs[: items[place].verifier.repeats]])
        for number, place in enumerate(places)
    }


def summarize_verdicts(items: Sequence[Item], *, verdicts: Sequence[Verdict], seconds: float) -> dict[str, Any]:
    """{passed, total, interval, by_kind, seconds}; the interval is Wilson's, at 95 %."""
    kinds: dict[str, dict[str, int]] = {}
    for item, verdict in zip(items, verdicts, strict=True):
        counts = kinds.setdefault(item.verifier.kind, {"passed": 0, "total": 0})
        counts["passed"] += verdict.passed
        counts["total"] += 1
    count = sum(verdict.passed for verdict in verdicts)
    return {
        "passed": count,
        "total": len(verdicts),
        "interval": list(wilson_interval(count, n=len(verdicts))),
        "by_kind": dict(sorted(kinds.items())),
        "seconds": round(seconds, 3),
    }
