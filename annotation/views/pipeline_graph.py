"""What a pipeline's page draws: its stages as boxes in columns, arrows from what each takes, figures, gates.

Geometry here, colours in the CSS, as in `templatetags.plots`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from annotation.domain.pipelines import Outline
from annotation.models import Model, PipelineStage, Run
from annotation.templatetags.preferee import percent, significant

BOX_WIDTH, BOX_HEIGHT, GAP_X, GAP_Y, EDGE = 184, 76, 48, 20, 6
SHARES = ("accuracy", "auc", "pass@1", "pass@k")
NAME_LETTERS = 20


@dataclass(frozen=True)
class Figure:
    """A number of a report in words."""

    metric: str
    value: str
    low: str | None
    high: str | None


@dataclass(frozen=True)
class GateView:
    """A gate: what it wants, and what came of it (`holds` is None before it is judged)."""

    metric: str
    sign: str
    bound: str | None
    against: str | None
    tolerance: str | None
    judge_by: str
    holds: bool | None
    figure: Figure | None
    note_counts: str
    overruled_by: str | None


@dataclass(frozen=True)
class StageView:
    """A stage as the page shows it."""

    position: int
    name: str
    method: str
    state: str
    state_word: str
    run: Run | None
    model: Model | None
    sources: tuple[str, ...]
    data: str
    figure: Figure | None
    gate: GateView | None
    step: int | None
    total_steps: int | None

    @property
    def short_name(self) -> str:
        """The name as it fits into a box."""
        return self.name if len(self.name) <= NAME_LETTERS else f"{self.name[: NAME_LETTERS - 1]}…"


@dataclass(frozen=True)
class Box:
    """A stage at its place."""

    stage: StageView
    x: int
    y: int

    @property
    def lines(self) -> tuple[int, int, int]:
        """Where its three lines of text stand."""
        return self.y + 22, self.y + 42, self.y + 62

    @property
    def text_x(self) -> int:
        """Where they begin."""
        return self.x + 12


@dataclass(frozen=True)
class Graph:
    """All of it, and its size."""

    boxes: list[Box]
    arrows: list[str] = field(default_factory=list)
    width: int = 0
    height: int = 0
    box_width: int = BOX_WIDTH
    box_height: int = BOX_HEIGHT


def view_stage(row: PipelineStage, *, outline: Outline, waiting: str) -> StageView:
    """One stage from its row, its run and what the pipeline's spec says of it. waiting: the word before it begins."""
    run = row.run
    status = (run.status if run is not None else None) or {}
    found = outline.headline(run.report) if run is not None and run.report else None
    return StageView(
        position=row.position,
        name=row.name,
        method=str(Run.Method(outline.method).label),
        state=run.state if run is not None else "waiting",
        state_word=str(run.get_state_display()) if run is not None else waiting,
        run=run,
        model=getattr(run, "registered_model", None),
        sources=outline.sources,
        data=outline.data,
        figure=show_figure(*found) if found else None,
        gate=view_gate(row, outline=outline) if outline.gate else None,
        step=status.get("step") if run is not None and run.state == Run.State.RUNNING else None,
        total_steps=status.get("total_steps"),
    )


def view_gate(row: PipelineStage, *, outline: Outline) -> GateView:
    """The gate of a stage, with its verdict where there is one."""
    asked, verdict = outline.gate or {}, row.verdict
    bound = verdict["bound"] if verdict else asked.get("at_least", asked.get("at_most"))
    metric = str(asked["metric"])
    named = asked.get("not_below") or asked.get("not_above")
    return GateView(
        metric=metric,
        sign="≥" if "at_least" in asked or "not_below" in asked else "≤",
        bound=None if bound is None else show_number(metric, bound),
        against=named.removeprefix("@") if named else None,
        tolerance=show_number(metric, asked["tolerance"]) if asked.get("tolerance") else None,
        judge_by=asked.get("judge_by", "figure"),
        holds=verdict["holds"] if verdict else None,
        figure=show_figure(metric, verdict["value"], verdict["interval"]) if verdict else None,
        note_counts=verdict["note"] if verdict else "",
        overruled_by=row.overruled_by.get_username() if row.overruled_by else None,
    )


def show_figure(metric: str, value: float, interval: Any) -> Figure:
    """A figure in words."""
    low, high = (show_number(metric, end) for end in interval) if interval else (None, None)
    return Figure(metric=metric, value=show_number(metric, value), low=low, high=high)


def show_number(metric: str, value: float) -> str:
    """A share in percent, anything else with four digits."""
    return percent(float(value)) if metric in SHARES else significant(float(value))


def draw_graph(stages: list[StageView]) -> Graph:
    """Columns by how far a stage is from those that take nothing; within a column in the order of the pipeline."""
    column: dict[str, int] = {}
    rows: dict[int, int] = {}
    boxes: dict[str, Box] = {}
    for stage in stages:
        column[stage.name] = 1 + max((column[source] for source in stage.sources), default=-1)
        place = rows.get(column[stage.name], 0)
        rows[column[stage.name]] = place + 1
        boxes[stage.name] = Box(
            stage=stage,
            x=EDGE + column[stage.name] * (BOX_WIDTH + GAP_X),
            y=EDGE + place * (BOX_HEIGHT + GAP_Y),
        )
    arrows = [draw_arrow(boxes[source], boxes[stage.name]) for stage in stages for source in stage.sources]
    return Graph(
        boxes=list(boxes.values()),
        arrows=arrows,
        width=max(box.x for box in boxes.values()) + BOX_WIDTH + EDGE,
        height=max(box.y for box in boxes.values()) + BOX_HEIGHT + EDGE,
    )


def draw_arrow(source: Box, target: Box) -> str:
    """The path from the middle of one box's right side to the middle of the other's left side."""
    x1, y1 = source.x + BOX_WIDTH, source.y + BOX_HEIGHT // 2
    x2, y2 = target.x - 7, target.y + BOX_HEIGHT // 2
    bend = GAP_X // 2
    return f"M{x1} {y1} C{x1 + bend} {y1} {x2 - bend} {y2} {x2} {y2}"
