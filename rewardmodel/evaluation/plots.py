"""Plots as inline SVG, drawn here: no script, no library, colours from the page's style sheet.

A plot is about 360 units wide, the width of a phone, so that its letters are as large there as on a desk.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rewardmodel.evaluation.page import Markup, text

WIDTH = 360
LEFT, RIGHT, TOP, BOTTOM = 36, 12, 10, 34


def draw_reliability(bins: Sequence[Mapping[str, Any]]) -> Markup:
    """Accuracy over confidence of each bin with its interval, and the diagonal of a calibrated model."""
    height = 300
    floor = min(0.5, int(min((row["interval"][0] for row in bins), default=0.5) * 10) / 10)

    def x(value: float) -> float:
        return LEFT + (value - 0.5) / 0.5 * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (1 - value) / (1 - floor) * (height - TOP - BOTTOM)

    ticks = [tick / 10 for tick in range(round(floor * 10), 11) if floor >= 0.4 or tick % 2 == 0]
    parts = [_line(x(0.5), y(tick), x(1), y(tick), "axis") for tick in ticks]
    parts += [_text(LEFT - 6, y(tick) + 4, f"{tick:g}", anchor="end") for tick in ticks]
    parts += [_text(x(v), height - BOTTOM + 16, f"{v:g}") for v in (0.5, 0.6, 0.7, 0.8, 0.9, 1)]
    parts.append(_line(x(0.5), y(0.5), x(1), y(1), "guide"))
    for row in bins:
        low, high = row["interval"]
        parts.append(_line(x(row["confidence"]), y(low), x(row["confidence"]), y(high), "whisker"))
        parts.append(_dot(x(row["confidence"]), y(row["accuracy"])))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, height - 4, "model's confidence"))
    points = ", ".join(f"{row['accuracy']:.2f} at confidence {row['confidence']:.2f}" for row in bins)
    return _svg(parts, height=height, label=f"Accuracy by confidence: {points}")


def draw_histogram(edges: Sequence[float], *, counts: Sequence[int], label: str) -> Markup:
    """How many values fall between edges, (b + 1,) edges for (b,) counts; those up to 0 in another colour."""
    height = 240
    low, high = edges[0], edges[-1]
    top = max(max(counts), 1)

    def x(value: float) -> float:
        return LEFT + (value - low) / ((high - low) or 1.0) * (WIDTH - LEFT - RIGHT)

    def y(value: float) -> float:
        return TOP + (1 - value / top) * (height - TOP - BOTTOM)

    parts = [_line(LEFT, y(0), WIDTH - RIGHT, y(0), "axis"), _text(LEFT - 6, y(top) + 4, str(top), anchor="end")]
    for start, end, count in zip(edges[:-1], edges[1:], counts, strict=True):
        kind = "bar" if end > 0 else "bar other"
        wide, tall = max(0.5, x(end) - x(start) - 0.6), y(0) - y(count)
        parts.append(
            f'<rect class="{kind}" x="{x(start):.1f}" y="{y(count):.1f}" width="{wide:.1f}" height="{tall:.1f}"/>'
        )
    ticks = {low, high, 0.0} if low < 0 < high else {low, high}
    # A tick that would stand on another is left out.
    ticks -= {end for end in (low, high) if end != 0 and low < 0 < high and abs(x(end) - x(0)) < 40}
    for tick in sorted(ticks):
        anchor = "start" if tick == low != 0 else "end" if tick == high != 0 else "middle"
        parts.append(_text(x(tick), height - BOTTOM + 16, _tick(tick), anchor=anchor))
    parts.append(_text((LEFT + WIDTH - RIGHT) / 2, height - 4, label))
    shown = ", ".join(f"{count} from {start:.2f}" for start, count in zip(edges, counts, strict=False) if count)
    return _svg(parts, height=height, label=f"{label}: {shown}")


def draw_accuracies(rows: Sequence[Mapping[str, Any]], *, overall: float) -> Markup:
    """A dot and its interval for each {label, n, accuracy, interval}, over the guide of the overall accuracy."""
    step = 34
    height = TOP + step * len(rows) + 22
    bounds = [value for row in rows for value in row["interval"]]
    low = min(0.4, int(min(bounds, default=0.4) * 10) / 10)

    def x(value: float) -> float:
        return 14 + (value - low) / (1 - low) * (WIDTH - 28)

    bottom = height - 20
    ticks = [tick / 10 for tick in range(round(low * 10), 11) if tick % 2 == 0]
    parts = [_line(x(tick), TOP, x(tick), bottom, "axis") for tick in ticks]
    parts += [_text(x(tick), height - 6, f"{tick:g}") for tick in ticks]
    parts.append(_line(x(overall), TOP, x(overall), bottom, "guide"))
    for place, row in enumerate(rows):
        middle = TOP + step * place + 25
        name = str(row["label"])
        parts.append(_text(8, middle - 11, name if len(name) <= 38 else name[:37] + "…", anchor="start"))
        parts.append(_text(WIDTH - 12, middle - 11, f"n {row['n']}", anchor="end", kind="quiet"))
        parts.append(_line(x(row["interval"][0]), middle, x(row["interval"][1]), middle, "whisker"))
        parts.append(_dot(x(row["accuracy"]), middle))
    shown = ", ".join(f"{row['label']} {row['accuracy']:.2f}" for row in rows)
    return _svg(parts, height=height, label=f"Accuracy by slice: {shown}; all {overall:.2f}")


def _svg(parts: Sequence[str], *, height: float, label: str) -> Markup:
    return Markup(f'<svg viewBox="0 0 {WIDTH} {height}" role="img" aria-label="{text(label)}">{"".join(parts)}</svg>')


def _line(x1: float, y1: float, x2: float, y2: float, kind: str) -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _dot(x: float, y: float) -> str:
    return f'<circle class="dot" cx="{x:.1f}" cy="{y:.1f}" r="4"/>'


def _text(x: float, y: float, value: str, *, anchor: str = "middle", kind: str = "") -> str:
    style = f' class="{kind}"' if kind else ""
    return f'<text{style} x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}">{text(value)}</text>'


def _tick(value: float) -> str:
    return f"{value:.2g}".replace("-", "−")
