"""The leaderboard: who is preferred over whom, its downloads, and the battles behind any cell. Never for annotators."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import StringIO
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET

from annotation.battles import Battle, LeaderboardRefused, find_battles
from annotation.forms.leaderboard import CLUSTERS, BattlesForm, LeaderboardForm
from annotation.leaderboard import Item, LeaderboardReport, Pair, make_leaderboard
from annotation.models import Membership, Project, Ranking, Response
from annotation.rules import require_membership
from annotation.views.conversation import split_conversation
from annotation.views.paging import paginate

NEWEST_SLATES = 20_000
"""The page looks at so many of the newest judged slates; the command reads all."""
MOST_PLOTTED = 50
MOST_IN_MATRIX = 20
MOST_PAIRS = 66
"""All pairs of twelve items; of more, the page shows neighbours."""
NAME_LETTERS = 20
ASKED = ("first", "second")
"""What is asked of battles alone."""

LEFT, RIGHT, WIDTH = 240, 640, 720
ROW_HEIGHT, TOP = 30, 30
FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
"""What a spreadsheet takes for the beginning of a formula."""


@dataclass(frozen=True)
class ItemRow:
    """An item as the page lists it; `place` runs through the whole list and names its column of the matrix."""

    place: int
    item: Item
    opens_component: bool


@dataclass(frozen=True)
class Cell:
    """What the row's item did against the column's; `met` is 0 where they never met."""

    name: str
    place: int
    rate: float
    met: int
    is_same: bool


@login_required
@require_GET
def leaderboard(request: HttpRequest, slug: str) -> HttpResponse:
    """The project's items ranked, with intervals, win matrix and p-values."""
    membership = require_membership(request.user, slug, action="review")
    form, report, refused = _answer(request, membership.project)
    context: dict[str, Any] = {
        "membership": membership,
        "project": membership.project,
        "section": "overview",
        "form": form,
        "report": report,
        "refused": refused,
        "newest_slates": NEWEST_SLATES,
    }
    if report is not None:
        context |= describe_report(report) | {"kept_query": form.kept_query(), "kept_fields": form.kept_fields()}
    return render(request, "annotation/leaderboard.html", context, status=200 if form.is_valid() else 422)


@login_required
@require_GET
def leaderboard_items(request: HttpRequest, slug: str) -> HttpResponse:
    """The items as CSV."""
    return _download(request, slug, name="items", kind="csv")


@login_required
@require_GET
def leaderboard_pairs(request: HttpRequest, slug: str) -> HttpResponse:
    """Every two items as CSV."""
    return _download(request, slug, name="pairs", kind="csv")


@login_required
@require_GET
def leaderboard_report(request: HttpRequest, slug: str) -> HttpResponse:
    """The whole report as JSON, as the command prints it."""
    return _download(request, slug, name="leaderboard", kind="json")


@login_required
@require_GET
def leaderboard_battles(request: HttpRequest, slug: str) -> HttpResponse:
    """The comparisons of two items, those of the newest slates first, fifty a page."""
    membership = require_membership(request.user, slug, action="review")
    form = BattlesForm(request.GET, project=membership.project)
    context: dict[str, Any] = {
        "membership": membership,
        "project": membership.project,
        "section": "overview",
        "form": form,
    }
    is_valid = form.is_valid()
    context |= {
        "kept_query": form.kept_query(),
        "board_query": form.kept_query(leave_out=ASKED),
        "kept_fields": form.kept_fields(leave_out=ASKED),
    }
    if is_valid:
        first, second = form.cleaned_data["first"], form.cleaned_data["second"]
        question = form.question(newest_slates=NEWEST_SLATES)
        battles = find_battles(membership.project, question, first=first, second=second)
        page = paginate(request, battles)
        outcomes = [battle.outcome for battle in battles]
        context |= {
            "first": first,
            "second": second,
            "page": page,
            "rows": list(read_battles(list(page.object_list))),
            "wins": outcomes.count(1.0),
            "ties": outcomes.count(0.5),
            "losses": outcomes.count(0.0),
        }
    return render(request, "annotation/leaderboard_battles.html", context, status=200 if is_valid else 422)


def describe_report(report: LeaderboardReport) -> dict[str, Any]:
    """What the page says of a report beside the report itself."""
    items = report.items
    rows = [
        ItemRow(at + 1, item, at > 0 and item.component != items[at - 1].component) for at, item in enumerate(items)
    ]
    all_pairs = len(report.pairs) <= MOST_PAIRS
    links = report.fit.connectivity
    names = style_names()
    apart = [] if links.is_connected else list(zip(links.members, range(len(links.members)), strict=True))
    return {
        "rows": rows,
        "is_cut": report.slates >= NEWEST_SLATES,
        "plots": [plot_items(part) for part in _components(rows[:MOST_PLOTTED])],
        "unplotted": max(len(rows) - MOST_PLOTTED, 0),
        "matrix": list(_matrix(report)) if len(items) <= MOST_IN_MATRIX else None,
        "most_in_matrix": MOST_IN_MATRIX,
        "pairs": report.pairs if all_pairs else list(_neighbours(report)),
        "all_pairs": all_pairs,
        "components": [
            {
                "names": ", ".join(map(str, members)),
                "size": len(members),
                "undefeated": number in links.undefeated,
                "winless": number in links.winless,
            }
            for members, number in apart[:MOST_PLOTTED]
        ],
        "errors_by": CLUSTERS[report.cluster],
        "thin": [f"{item.name} ({item.clusters})" for item in report.thin],
        "unknown": [item.name for item in report.unknown],
        "style_names": names,
        "style_constant": [names[feature] for feature in report.style_constant],
    }


def style_names() -> dict[str, str]:
    """The features of style in words."""
    return {
        "length": _("length in characters"),
        "headings": _("headings"),
        "bold": _("bold passages"),
        "lists": _("list items"),
        "code": _("code in blocks"),
    }


def plot_items(rows: Sequence[ItemRow]) -> dict[str, Any]:
    """Where dots and intervals stand, in points around 1000; the axis holds every interval."""
    bounds = [bound for row in rows for bound in (row.item.rating, *row.item.rating_interval) if math.isfinite(bound)]
    low, high = min(bounds), max(bounds)
    step = next(size for size in (25, 50, 100, 200, 250, 500, 1000, 10**9) if (high - low) / size <= 6)
    start, end = math.floor(low / step) * step, math.ceil(high / step) * step
    end = end if end > start else start + step

    def x(value: float) -> float:
        return round(LEFT + (value - start) / (end - start) * (RIGHT - LEFT), 1)

    bottom = TOP + ROW_HEIGHT * len(rows)
    return {
        "marks": [
            {
                "item": row.item,
                "name": _shorten(row.item.name),
                "y": (y := TOP + ROW_HEIGHT * at + ROW_HEIGHT // 2),
                "text_y": y + 5,
                "x": x(row.item.rating),
                "low": x(row.item.rating_interval[0]) if row.item.has_interval else None,
                "high": x(row.item.rating_interval[1]) if row.item.has_interval else None,
            }
            for at, row in enumerate(rows)
        ],
        "ticks": [{"x": x(tick), "label": f"{tick:.0f}"} for tick in range(start, end + 1, step)],
        "top": TOP,
        "bottom": bottom,
        "tick_y": TOP - 10,
        "label_x": LEFT - 16,
        "value_x": RIGHT + 14,
        "width": WIDTH,
        "height": bottom + 6,
    }


def read_battles(battles: Sequence[Battle]) -> Iterator[dict[str, Any]]:
    """A page of battles with their prompt, texts, annotator and day; three queries for any number."""
    rankings = Ranking.objects.select_related("slate__prompt", "annotator", "guidelines").in_bulk(
        [battle.ranking for battle in battles]
    )
    wanted = {pk for battle in battles for pk in (battle.first_response, battle.second_response)}
    texts = dict(Response.objects.filter(pk__in=wanted).values_list("pk", "text"))
    for battle in battles:
        ranking = rankings[battle.ranking]
        yield {
            "ranking": ranking,
            "prompt": ranking.slate.prompt,
            "last": split_conversation(ranking.slate.prompt.messages).last,
            "first": texts[battle.first_response],
            "second": texts[battle.second_response],
            "won": battle.outcome == 1,
            "lost": battle.outcome == 0,
            "is_simulated": ranking.annotator.kind == Membership.Kind.SIMULATED,
        }


def table_of_items(report: LeaderboardReport) -> Iterator[Sequence[Any]]:
    """The items as rows of a CSV, with their heading; every row says how many judgements are behind all of it."""
    yield (
        "rank", "rank_low", "rank_high", "name", "score", "low", "high", "rating", "rating_low", "rating_high",
        "component", "clusters", "comparisons",
        "wins", "ties", "losses", "win_rate", "judgements", "simulated_judgements",
    )  # fmt: skip
    for item in report.items:
        row = item.as_json()
        yield (
            row["rank"], *row["rank_band"], item.name, item.score, *item.interval, item.rating, *item.rating_interval,
            item.component, item.clusters, item.comparisons, item.wins, item.ties, item.losses, item.win_rate,
            report.judgements, report.simulated,
        )  # fmt: skip


def table_of_pairs(report: LeaderboardReport) -> Iterator[Sequence[Any]]:
    """The pairs as rows of a CSV, with their heading, and the same of judgements."""
    yield (
        "first", "second", "difference", "low", "high", "p_value", "p_holm", "judgements_needed", "wins", "ties",
        "losses", "judgements", "simulated_judgements",
    )  # fmt: skip
    for pair in report.pairs:
        yield (
            pair.first, pair.second, pair.difference, *pair.interval, pair.p_value, pair.p_holm, pair.needed, pair.wins,
            pair.ties, pair.losses, report.judgements, report.simulated,
        )  # fmt: skip


def write_csv(rows: Iterator[Sequence[Any]]) -> str:
    """Rows as CSV: nothing stands for what is not known, and no text can be taken for a formula."""
    out = StringIO()
    csv.writer(out).writerows([[_as_cell(value) for value in row] for row in rows])
    return out.getvalue()


def _as_cell(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else ""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_SIGNS) else value


def _answer(request: HttpRequest, project: Project) -> tuple[LeaderboardForm, LeaderboardReport | None, str]:
    """The form, what it asks answered, or why there is no answer."""
    form = LeaderboardForm(request.GET, project=project)
    if not form.is_valid():
        return form, None, ""
    try:
        return form, make_leaderboard(project, form.question(newest_slates=NEWEST_SLATES)), ""
    except LeaderboardRefused as error:
        return form, None, str(error)


def _download(request: HttpRequest, slug: str, *, name: str, kind: str) -> HttpResponse:
    membership = require_membership(request.user, slug, action="review")
    form, report, refused = _answer(request, membership.project)
    if report is None:
        problems = [refused] if refused else [str(error) for errors in form.errors.values() for error in errors]
        return HttpResponse("\n".join(problems), status=422, content_type="text/plain; charset=utf-8")
    if kind == "json":
        said = {"project": slug, "newest_slates": NEWEST_SLATES, **report.as_json()}
        text = json.dumps(said, ensure_ascii=False)
    else:
        text = write_csv(table_of_items(report) if name == "items" else table_of_pairs(report))
    content_type = "application/json" if kind == "json" else "text/csv; charset=utf-8"
    answer = HttpResponse(text, content_type=content_type)
    answer["Content-Disposition"] = f'attachment; filename="{slug}-{name}.{kind}"'
    return answer


def _components(rows: Sequence[ItemRow]) -> Iterator[list[ItemRow]]:
    """The scored rows of each comparable set."""
    for component in dict.fromkeys(row.item.component for row in rows):
        if part := [row for row in rows if row.item.component == component and row.item.is_scored]:
            yield part


def _matrix(report: LeaderboardReport) -> Iterator[tuple[int, Item, list[Cell]]]:
    """Rows of the win matrix in the order of the items."""
    met = report.counted.comparisons
    for a, item in enumerate(report.items):
        yield (
            a + 1,
            item,
            [
                Cell(other.name, b + 1, float(report.counted.rates[a, b]), round(met[a, b]), a == b)
                for b, other in enumerate(report.items)
            ],
        )


def _neighbours(report: LeaderboardReport) -> Iterator[Pair]:
    """The pairs of items that follow each other, as many as all pairs may be."""
    following = {(a.name, b.name) for a, b in zip(report.items, report.items[1:], strict=False)}
    found = [pair for pair in report.pairs if (pair.first, pair.second) in following]
    yield from found[:MOST_PAIRS]


def _shorten(name: str) -> str:
    return name if len(name) <= NAME_LETTERS else f"{name[: NAME_LETTERS - 1]}…"
