"""What the page of a run shows whose policy learns from its own responses (PPO, RLOO, GRPO, online DPO), as numbers.

The figures are the run directory's: rows of metrics a step, samples of the same prompts over time, the report at the
end. Here they are only chosen and named; the geometry of the plots is in `templatetags/curves.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotation.domain.runs import ONLINE, run_metrics, run_samples
from annotation.models import Run

MOST_STEPS = 7
"""Columns of the table of samples, the first and the last step among them."""
MOST_MEANS = 20
"""Points of a line of score against KL; steps are noisy, and their means are not."""
PANELS: dict[str, tuple[Promise | str, Promise]] = {
    "score": (gettext_lazy("Score"), gettext_lazy("mean reward of a step's responses, before the KL")),
    "kl": ("KL", gettext_lazy("nats a response from the policy of the beginning")),
    "response_tokens": (gettext_lazy("Length"), gettext_lazy("tokens a response")),
    "entropy": (gettext_lazy("Entropy"), gettext_lazy("nats a token; low: it says nearly the same each time")),
    "clip_fraction": (gettext_lazy("Clip fraction"), gettext_lazy("share of tokens whose ratio the clip held back")),
    "explained_variance": (
        gettext_lazy("Explained variance"),
        gettext_lazy("of the returns by the critic: 1 is all, below 0 worse than a constant"),
    ),
    "ended": (gettext_lazy("Ended by itself"), gettext_lazy("share of responses that were not cut off")),
    "equal_groups": (
        gettext_lazy("Prompts that taught nothing"),
        gettext_lazy("share whose responses all had one score"),
    ),
    "heldout_score": (gettext_lazy("Held-out score"), gettext_lazy("by what it is trained against")),
    "gold_score": (gettext_lazy("Gold score"), gettext_lazy("of the same answers, by the model it never sees")),
}
"""The curves, in order: what a row of metrics calls them, their title, and what they are."""
TERM = "reward/"
"""What the names of single rewards begin with in the metrics."""


@dataclass(frozen=True)
class Panel:
    """One curve: its points are (step, value)."""

    title: str
    note: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class Series:
    """Points (x, y) in the order of the training, under one name."""

    name: str
    points: list[tuple[float, float]]


@dataclass(frozen=True)
class ScoreRow:
    """A mean score with its interval."""

    name: str
    value: float
    low: float
    high: float
    is_main: bool


@dataclass(frozen=True)
class SampleTable:
    """Answers to the same prompts over time: a line a prompt, a column a step; None where there is no answer."""

    steps: list[int]
    lines: list[tuple[str, list[Mapping[str, Any] | None]]]


def is_online(run: Run) -> bool:
    """Whether the run's policy learns from its own responses."""
    return run.method in ONLINE


def describe_live(run: Run) -> dict[str, Any]:
    """What the page shows while the run goes on, and afterwards. `seen` changes whenever any of it does."""
    rows = run_metrics(run)
    warnings = (run.status or {}).get("warnings") or []
    return {
        "panels": panels(rows),
        "frontier": [Series("", frontier(rows))] if rows else [],
        "gold_curve": gold_curve(run.report),
        "warnings": warnings if run.report is None else run.report.get("notes", []),
        "seen": f"{len(rows)}-{len(warnings)}",
    }


def describe_samples(run: Run) -> dict[str, Any]:
    """The table of samples; `seen` changes whenever it does."""
    rows = run_samples(run)
    return {"samples": sample_table(rows) if rows else None, "seen": str(len(rows))}


def panels(rows: Sequence[Mapping[str, Any]]) -> list[Panel]:
    """A curve for every known figure that the rows hold, and for each of several rewards."""
    named = {name: (str(title), str(note)) for name, (title, note) in PANELS.items()}
    terms = sorted({name for row in rows for name in row if name.startswith(TERM)})
    named |= {name: (name.removeprefix(TERM), _("one of the rewards, before its weight")) for name in terms}
    drawn = [Panel(title, note, _points(rows, name=name)) for name, (title, note) in named.items()]
    return [panel for panel in drawn if panel.points]


def _points(rows: Iterable[Mapping[str, Any]], *, name: str) -> list[tuple[float, float]]:
    return [(row["step"], row[name]) for row in rows if isinstance(row.get(name), int | float)]


def frontier(rows: Iterable[Mapping[str, Any]]) -> list[tuple[float, float]]:
    """Score against KL in nats a response, in the order of the steps; of many, the means of neighbouring ones."""
    points = [(row["kl"], row["score"]) for row in rows if "kl" in row and "score" in row]
    size = math.ceil(len(points) / MOST_MEANS) or 1
    parts = [points[place : place + size] for place in range(0, len(points), size)]
    return [(fmean(x for x, _ in part), fmean(y for _, y in part)) for part in parts]


def gold_curve(report: Mapping[str, Any] | None) -> list[Series]:
    """How far held-out score and gold score rose above their beginning, over the square root of the KL (Gao et al.
    2022, fig. 1). Nothing without a gold model."""
    curve = (report or {}).get("gold_curve") or []

    def rise(name: str) -> list[tuple[float, float]]:
        return [(max(point["kl"], 0.0) ** 0.5, point[name] - curve[0][name]) for point in curve]

    return [Series(_("trained by"), rise("score")), Series(_("gold"), rise("gold"))] if curve else []


def score_rows(report: Mapping[str, Any] | None) -> list[ScoreRow]:
    """The held-out score of the trained policy, then of the untrained one."""
    if not report or not report.get("heldout"):
        return []
    untrained = (report.get("baselines") or {}).get("untrained")
    rows = [score_row(_("this policy"), report["heldout"], is_main=True)]
    return [*rows, score_row(_("untrained policy"), untrained)] if untrained else rows


def score_row(name: str, figures: Mapping[str, Any], *, is_main: bool = False) -> ScoreRow:
    """A mean score of a report (`score`, of the gold model `mean`) with its interval."""
    value = figures["score"] if "score" in figures else figures["mean"]
    low, high = figures.get("interval") or (value, value)
    return ScoreRow(name, value, low, high, is_main)


def sample_table(rows: Sequence[Mapping[str, Any]]) -> SampleTable:
    """The samples of a run; of many steps those that are spread over it."""
    steps = thin(sorted({row["step"] for row in rows}))
    prompts = {row["place"]: row["prompt"] for row in rows}
    found = {(row["place"], row["step"]): row for row in rows}
    return SampleTable(
        steps, [(prompts[place], [found.get((place, step)) for step in steps]) for place in sorted(prompts)]
    )


def thin(steps: list[int]) -> list[int]:
    """At most MOST_STEPS of them, evenly spread, first and last included."""
    if len(steps) <= MOST_STEPS:
        return steps
    last = len(steps) - 1
    return [steps[round(i * last / (MOST_STEPS - 1))] for i in range(MOST_STEPS)]
