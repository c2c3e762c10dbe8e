"""A run of PPO or its kin as its process leaves it, made up, for the tests of pages."""

from __future__ import annotations

import json
from typing import Any

from django.utils import timezone

from annotation.domain.runs import run_directory
from annotation.models import Run

PROMPT = "Why is the sky <b>blue</b>?"


def row_of(step: int, *, critic: bool = True) -> dict[str, float]:
    """Metrics of a step: the score rises by 0.1 a step, the KL by 0.2."""
    row = {
        "step": step, "time": 0.0, "loss": 0.5 / step, "score": 0.1 * step, "score_std": 0.4, "kl": 0.2 * (step - 1),
        "entropy": 2.5 - 0.02 * step, "clip_fraction": 0.02, "response_tokens": 80.0 + step, "ended": 0.75,
    }  # fmt: skip
    return row | ({"explained_variance": 1 - 1 / step} if critic else {"equal_groups": 0.25})


def report_of(*, gain: float = 1.5, gold: bool = True, method: str = "ppo") -> dict[str, Any]:
    """A report whose held-out score rose from 0.25 by `gain`; the gold score from 0 by a third of it."""
    third = gain / 3
    judged = {
        "mean": third, "interval": [third - 0.2, third + 0.2], "gain": third,
        "gain_interval": [third - 0.1, third + 0.1], "higher": 0.625, "higher_interval": [0.5, 0.75],
    }  # fmt: skip
    heldout = {
        "split": "test", "n": 64, "n_prompts": 64, "score": 0.25 + gain, "interval": [gain, gain + 0.5],
        "tokens": 91.5, "ended": 0.75, "rewards": {}, "gold": judged if gold else None, "gain": gain,
        "gain_interval": [gain - 0.25, gain + 0.25], "higher": 0.8125, "higher_interval": [0.75, 0.875],
        "kl": {"per_response": 6.25, "per_response_interval": [5.5, 7.0]},
    }  # fmt: skip
    untrained = {"n": 64, "score": 0.25, "interval": [0.0, 0.5], "tokens": 80.5, "ended": 0.5, "gold": None}
    curve = [{"step": 0, "kl": 0.0, "score": 0.25, "gold": 0.0}, {"step": 20, "kl": 4.0, "score": 1.0, "gold": 0.6},
             {"step": 40, "kl": 6.25, "score": 0.25 + gain, "gold": gain / 3}]  # fmt: skip
    return {
        "method": method, "heldout": heldout, "baselines": {"untrained": untrained},
        "gold_curve": curve if gold else [], "notes": ["Responses became 1.4 times as long while their score rose."],
        "dropped": {"train": {"too_long": 2}, "test": {}}, "samples": [], "simulated": True,
    }  # fmt: skip


def add_rows(run: Run, steps: range, *, critic: bool = True) -> None:
    """Append metrics of those steps to the run's directory."""
    _append(run, "metrics.jsonl", [row_of(step, critic=critic) for step in steps])


def add_samples(run: Run, *steps: int) -> None:
    """Append answers of two prompts after those steps."""
    rows = [
        {
            "step": step,
            "place": place,
            "prompt": PROMPT if place == 0 else "Second?",
            "response": f"Answer {place} <i>at</i> {step}.",
            "score": step / 10,
            "tokens": 12 + step,
            "ended": place == 0,
        }
        for step in steps
        for place in (0, 1)
    ]
    _append(run, "samples.jsonl", rows)


def finish(run: Run, **report: Any) -> Run:
    """The run as it stands at its end, with 40 rows of metrics."""
    now = timezone.now()
    critic = run.method == "ppo"
    Run.objects.filter(pk=run.pk).update(
        state="succeeded", report=report_of(method=run.method, **report), started_at=now, finished_at=now
    )
    add_rows(run, range(1, 41), critic=critic)
    add_samples(run, 0, 10, 20, 30, 40)
    run.refresh_from_db()
    return run


def _append(run: Run, name: str, rows: list[dict[str, Any]]) -> None:
    directory = run_directory(run)
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / name).open("a", encoding="utf-8") as file:
        file.writelines(json.dumps(row) + "\n" for row in rows)
