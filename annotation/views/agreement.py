"""How far annotators agree, measured: the page behind the figure on the project page."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from annotation.agreement import RATING_LEVELS, AgreementReport, measure_agreement
from annotation.rules import require_membership
from annotation.statistics.agreement import Agreement

NEWEST_SLATES = 2000
"""The page looks at so many of the newest judged slates; the command reads all."""
RESAMPLES = 500

TENTATIVE, FIRM = 0.667, 0.8
"""Krippendorff's bounds: below the first no conclusion should rest on the data, from the second on it may."""
ODDLY_FAR = 0.05
"""From this difference on, the page says that the order in which responses are listed sways nominal α."""

LEFT, RIGHT, WIDTH = 170, 640, 720
ROW_HEIGHT, TOP = 36, 30


@dataclass(frozen=True)
class MeasureRow:
    """A measure as a row: its name, what it says, whether it is the one to read first, what its units are."""

    name: str
    note: str
    measure: Agreement
    units: str
    is_main: bool = False

    @property
    def has_interval(self) -> bool:
        """Whether its bounds are known."""
        return math.isfinite(self.measure.interval[0])


@login_required
@require_GET
def agreement(request: HttpRequest, slug: str) -> HttpResponse:
    """The measures with their intervals: of preferences, ratings, criteria, and annotators two by two."""
    membership = require_membership(request.user, slug, action="review")
    report = measure_agreement(membership.project, newest_slates=NEWEST_SLATES, resamples=RESAMPLES)
    rows = measure_rows(report)
    context = {
        "membership": membership,
        "project": membership.project,
        "section": "overview",
        "report": report,
        "is_cut": report.slates >= NEWEST_SLATES,
        "newest_slates": NEWEST_SLATES,
        "alpha": report.alpha.get("exchangeable"),
        "rows": rows,
        "plot": plot_measures([row for row in rows if not row.measure.undefined]),
        "order_sways": _order_sways(report),
        "rating_headings": [_("α, nominal"), _("α, ordinal"), _("α, interval"), _("α, ratio")],
        "ratings": [
            (scale, [levels.get(level) for level in RATING_LEVELS]) for scale, levels in report.ratings.items()
        ],
        "criteria": report.criteria.items(),
    }
    return render(request, "annotation/agreement.html", context)


def measure_rows(report: AgreementReport) -> list[MeasureRow]:
    """The measures that correct for chance, or have a zero of their own, in the order in which they are read."""
    pairs, slates, responses = _("pairs of responses"), _("slates"), _("responses in slates")
    alpha = report.alpha
    said: list[tuple[str, str, Agreement | None, str]] = [
        (
            _("α, exchangeable"),
            _("Krippendorff's α of who was preferred, beyond what chance gives that knows no order of the responses."),
            alpha.get("exchangeable"),
            pairs,
        ),
        (
            _("α, nominal"),
            _("The same, with chance knowing which of the listed responses mostly wins."),
            alpha.get("nominal"),
            pairs,
        ),
        (
            _("α, ordinal"),
            _("Nominal, with a tie lying between the two preferences."),
            alpha.get("ordinal"),
            pairs,
        ),
        (
            _("α of ranks"),
            _("Ranks within slates: one place off counts less than three."),
            alpha.get("ranks"),
            responses,
        ),
        (
            _("Fleiss' κ"),
            _("As α, nominal, for readers used to κ; without its correction for few judgements."),
            report.fleiss,
            pairs,
        ),
        (
            _("Kendall's τ-b"),
            _("Of two annotators of a slate: pairs in the same order less pairs in opposite order, ties corrected."),
            report.tau_b,
            slates,
        ),
        (
            _("Kendall's W"),
            _("Of all annotators of a slate: 1 where they give one order, 0 where their orders cancel out."),
            report.w,
            slates,
        ),
    ]
    return [
        MeasureRow(name=name, note=note, measure=measure, units=units, is_main=number == 0)
        for number, (name, note, measure, units) in enumerate(said)
        if measure is not None
    ]


def plot_measures(rows: Sequence[MeasureRow]) -> dict[str, Any]:
    """Where dots, intervals and Krippendorff's bounds stand; the axis runs from 0, or the lowest bound, to 1."""
    lows = [row.measure.interval[0] if row.has_interval else row.measure.value for row in rows]
    start = math.floor(min([0.0, *lows]) * 10) / 10

    def x(value: float) -> float:
        return round(LEFT + (min(max(value, start), 1) - start) / (1 - start) * (RIGHT - LEFT), 1)

    fifths = [fifth / 5 for fifth in range(math.ceil(start * 5), 6)]
    bottom = TOP + ROW_HEIGHT * len(rows)
    return {
        "marks": [_mark(row, x=x, y=TOP + ROW_HEIGHT * i + ROW_HEIGHT // 2) for i, row in enumerate(rows)],
        "ticks": [{"x": x(fifth), "label": f"{fifth:.1f}"} for fifth in fifths],
        "bounds": [x(TENTATIVE), x(FIRM)],
        "top": TOP,
        "bottom": bottom,
        "tick_y": TOP - 10,
        "label_x": LEFT - 16,
        "value_x": RIGHT + 14,
        "width": WIDTH,
        "height": bottom + 6,
    }


def _mark(row: MeasureRow, *, x: Callable[[float], float], y: int) -> dict[str, Any]:
    low, high = row.measure.interval if row.has_interval else (row.measure.value, row.measure.value)
    return {"row": row, "y": y, "text_y": y + 5, "x": x(row.measure.value), "low": x(low), "high": x(high)}


def _order_sways(report: AgreementReport) -> bool:
    """Whether nominal α is far from what it is where neither response comes first."""
    listed, exchangeable = report.alpha.get("nominal"), report.alpha.get("exchangeable")
    if listed is None or exchangeable is None:
        return False
    return abs(listed.value - exchangeable.value) >= ODDLY_FAR
