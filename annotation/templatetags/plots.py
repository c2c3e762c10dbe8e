"""Server-made plots: accuracies as dots on their intervals. Geometry here, colours in the CSS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from django import template
from django.utils.translation import gettext as _

register = template.Library()

LEFT, RIGHT, WIDTH = 170, 640, 720
ROW_HEIGHT, TOP = 40, 30
LOWEST = 0.4
"""Where the axis starts unless a row lies below: half of it would be empty otherwise."""


@dataclass(frozen=True)
class IntervalRow:
    """One accuracy with its interval."""

    name: str
    value: float
    low: float
    high: float
    is_main: bool
    by_prompt: tuple[float, float] | None = None


def interval_rows(report: dict[str, Any] | None) -> list[IntervalRow]:
    """The held-out accuracy of a report, then its baselines; rows without an accuracy (or KTO's area) are left out.

    The row "untrained" of DPO and KTO is how often the reference finds the chosen response likelier: another quantity
    than the implicit reward, which is zero for every response until something was learned.
    """
    if not report or not report.get("heldout"):
        return []
    baselines = report.get("baselines") or {}
    named = [(_("this model"), report["heldout"], True)]
    untrained = _("reference's own likelihood") if report.get("method") in ("dpo", "kto") else _("untrained model")
    labels = {"longer_wins": _("longer wins"), "untrained": untrained}
    named += [(labels.get(key, key.replace("_", " ")), row, False) for key, row in baselines.items()]
    return [
        _row(name, row, is_main=is_main)
        for name, row, is_main in named
        if isinstance(row, dict) and _value(row) is not None
    ]


def _value(figures: dict[str, Any]) -> float | None:
    """An accuracy, or the area that KTO reports: both are 0.5 for a model that knows nothing."""
    return figures.get("accuracy", figures.get("auc"))


def _row(name: str, figures: dict[str, Any], *, is_main: bool) -> IntervalRow:
    value = _value(figures) or 0.0
    low, high = figures.get("interval") or [value] * 2
    by_prompt = figures.get("interval_by_prompt")
    return IntervalRow(
        name=name,
        value=value,
        low=low,
        high=high,
        is_main=is_main,
        by_prompt=(by_prompt[0], by_prompt[1]) if by_prompt else None,
    )


def beats_baselines(rows: list[IntervalRow]) -> bool:
    """Whether the model's lower bound, over whole prompts where known, lies above every baseline's accuracy."""
    main = [row for row in rows if row.is_main]
    others = [row.value for row in rows if not row.is_main]
    if not main or not others:
        return False
    lowest = min(main[0].low, main[0].by_prompt[0] if main[0].by_prompt else 1)
    return lowest > max(others)


@register.inclusion_tag("annotation/_interval_plot.html")
def interval_plot(rows: list[IntervalRow]) -> dict[str, Any]:
    """A dot-and-interval plot of accuracies, with a line at chance."""
    start = min([LOWEST] + [int(min(row.low, *(row.by_prompt or [1])) * 10) / 10 for row in rows])

    def x(value: float) -> float:
        return round(LEFT + (min(max(value, start), 1) - start) / (1 - start) * (RIGHT - LEFT), 1)

    ticks = [tenth / 10 for tenth in range(round(start * 10), 11)]
    bottom = TOP + ROW_HEIGHT * len(rows)
    return {
        "rows": rows,
        "marks": [_mark(row, x=x, y=TOP + ROW_HEIGHT * i + ROW_HEIGHT // 2) for i, row in enumerate(rows)],
        "ticks": [{"x": x(tick), "label": f"{tick * 100:.0f} %", "is_chance": tick == 0.5} for tick in ticks],
        "top": TOP,
        "bottom": bottom,
        "tick_y": TOP - 10,
        "label_x": LEFT - 16,
        "value_x": RIGHT + 14,
        "width": WIDTH,
        "height": bottom + 6,
    }


def _mark(row: IntervalRow, *, x: Callable[[float], float], y: int) -> dict[str, Any]:
    mark = {"row": row, "y": y, "text_y": y + 5, "x": x(row.value), "low": x(row.low), "high": x(row.high)}
    if row.by_prompt:
        mark |= {"has_outer": True, "outer_low": x(row.by_prompt[0]), "outer_high": x(row.by_prompt[1])}
    return mark
