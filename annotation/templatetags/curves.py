"""Server-made line plots of runs: a figure over the steps, reward against KL, mean scores with intervals.

Geometry here, colours in the CSS. Coordinates leave as text, so that no language turns their points into commas.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from django import template

from annotation.training_report import Panel, ScoreRow, Series

register = template.Library()

MOST_POINTS = 200
PANEL = (360, 150)
FRONTIER = (560, 320)
LEFT, RIGHT, TOP, BOTTOM = 48, 14, 10, 24
"""Margins around the field in which lines are drawn."""
NAMES = 20
"""Room above and below a field for the names of its axes."""
SCORE_LEFT, SCORE_RIGHT, SCORE_WIDTH = 200, 640, 720
ROW_HEIGHT, SCORE_TOP = 40, 30


class Field:
    """Where numbers lie in a plot of width × height: x to the right, y upwards, with round ticks on both."""

    def __init__(self, points: Sequence[tuple[float, float]], *, size: tuple[int, int], names: int = 0) -> None:
        """names: room for the names of both axes."""
        self.width, self.height = size
        self.top, self.bottom = TOP + names, self.height - BOTTOM - names
        self.x_ticks = round_ticks([x for x, _ in points], count=4)
        self.y_ticks = round_ticks([y for _, y in points], count=3)
        self.left, self.right = min(x for x, _ in points), max(x for x, _ in points)
        ys = [*(y for _, y in points), *self.y_ticks]
        self.low, self.high = min(ys), max(ys)

    def x(self, value: float) -> str:
        """The place of a number on the horizontal axis; where all are equal, the middle."""
        span = self.width - LEFT - RIGHT
        part = (value - self.left) / (self.right - self.left) if self.right > self.left else 0.5
        return f"{LEFT + part * span:.1f}"

    def y(self, value: float) -> str:
        """The place of a number on the vertical axis, whose zero is at the top."""
        part = (value - self.low) / (self.high - self.low) if self.high > self.low else 0.5
        return f"{self.bottom - part * (self.bottom - self.top):.1f}"

    def path(self, points: Sequence[tuple[float, float]]) -> str:
        """The line through the points, as an SVG path."""
        return "M" + "L".join(f"{self.x(x)},{self.y(y)}" for x, y in points)

    def axes(self) -> dict[str, Any]:
        """What every plot's template needs: grid lines and the words beside them."""
        return {
            "width": self.width,
            "height": self.height,
            "left": LEFT,
            "end": self.width - RIGHT,
            "tick_x": LEFT - 8,
            "tick_y": self.bottom + BOTTOM - 6,
            "x_ticks": [(self.x(tick), short(tick)) for tick in self.x_ticks if self.left <= tick <= self.right],
            "y_ticks": [(self.y(tick), short(tick)) for tick in self.y_ticks],
        }


@register.inclusion_tag("annotation/_curve.html")
def curve(panel: Panel) -> dict[str, Any]:
    """A figure over the steps, its last value beside the title."""
    points = thin_points(panel.points)
    field = Field(points, size=PANEL)
    first, last = panel.points[0], panel.points[-1]
    return field.axes() | {
        "panel": panel,
        "path": field.path(points),
        "last": (field.x(last[0]), field.y(last[1])),
        "first_value": short(first[1]),
        "last_value": short(last[1]),
        "last_step": short(last[0]),
    }


@register.inclusion_tag("annotation/_frontier.html")
def frontier_plot(series: Sequence[Series], x_name: str, y_name: str) -> dict[str, Any]:
    """Lines through points in the order of the training, each with its name at the end; the beginnings are rings."""
    lines = [Series(one.name, thin_points(one.points)) for one in series if one.points]
    field = Field([point for one in lines for point in one.points], size=FRONTIER, names=NAMES)
    return field.axes() | {
        "x_name": x_name,
        "y_name": y_name,
        "name_y": TOP + 2,
        "x_name_y": field.height - 4,
        "lines": [_draw_line(one, place=place, field=field) for place, one in enumerate(lines, start=1)],
    }


def _draw_line(series: Series, *, place: int, field: Field) -> dict[str, Any]:
    (first_x, first_y), (last_x, last_y) = series.points[0], series.points[-1]
    return {
        "name": series.name,
        "place": place,
        "path": field.path(series.points),
        "first": (field.x(first_x), field.y(first_y)),
        "last": (field.x(last_x), field.y(last_y)),
        "said": (short(first_y), short(first_x), short(last_y), short(last_x)),
    }


@register.inclusion_tag("annotation/_score_plot.html")
def score_plot(rows: Sequence[ScoreRow], is_gain: bool = False) -> dict[str, Any]:
    """Mean scores as dots on their intervals. Their axis begins where they do, for scores have no zero that means
    anything; that of gains has a line at 0."""
    bounds = [bound for row in rows for bound in (row.low, row.high)] + ([0.0] if is_gain else [])
    ticks = round_ticks(bounds, count=4)
    low, high = min(*bounds, *ticks), max(*bounds, *ticks)

    def x(value: float) -> str:
        part = (value - low) / (high - low) if high > low else 0.5
        return f"{SCORE_LEFT + part * (SCORE_RIGHT - SCORE_LEFT):.1f}"

    def mark(row: ScoreRow, y: int) -> dict[str, Any]:
        return {"row": row, "y": y, "text_y": y + 5, "x": x(row.value), "low": x(row.low), "high": x(row.high)}

    bottom = SCORE_TOP + ROW_HEIGHT * len(rows)
    return {
        "marks": [mark(row, SCORE_TOP + ROW_HEIGHT * i + ROW_HEIGHT // 2) for i, row in enumerate(rows)],
        "ticks": [(x(tick), short(tick), is_gain and tick == 0) for tick in ticks],
        "top": SCORE_TOP,
        "bottom": bottom,
        "tick_y": SCORE_TOP - 10,
        "label_x": SCORE_LEFT - 16,
        "value_x": SCORE_RIGHT + 14,
        "width": SCORE_WIDTH,
        "height": bottom + 6,
    }


def round_ticks(values: Sequence[float], *, count: int) -> list[float]:
    """About `count` round numbers (1, 2 or 5 times a power of ten apart) that enclose the values."""
    low, high = min(values), max(values)
    if low == high:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= rough)
    first, last = math.floor(low / step), math.ceil(high / step)
    return [round(number * step, 12) for number in range(first, last + 1)]


def thin_points(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """At most MOST_POINTS of them, evenly spread, first and last included."""
    if len(points) <= MOST_POINTS:
        return list(points)
    last = len(points) - 1
    return [points[round(i * last / (MOST_POINTS - 1))] for i in range(MOST_POINTS)]


def short(value: float) -> str:
    """Three significant digits without needless zeros: 0.0312, 12.4, 1250."""
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"
