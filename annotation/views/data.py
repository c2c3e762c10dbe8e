"""The project's prompts with what became of them: responses, sources, scores, judgements. Never for annotators."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.http import require_GET

from annotation.domain.tasks import Task, task_of
from annotation.models import Prompt, Ranking
from annotation.queries import prompt_detail as read_prompt_detail
from annotation.queries import prompt_rows
from annotation.rendering import render_many
from annotation.rules import require_membership
from annotation.views.conversation import split_conversation
from annotation.views.paging import paginate
from annotation.views.wording import Said, say_ranking


@dataclass(frozen=True)
class JudgementRow:
    """One ranking as the page lists it: what it says, and what is folded beneath.

    `ratings` is (scale, a value or None for each of `rated`), `highlights` (response, quote, comment), `corrections`
    (response, its text, the corrected text), `shown` the responses from left to right as the annotator saw them.
    """

    ranking: Ranking
    said: Said
    summary: str
    rated: list[str]
    ratings: list[tuple[str, list[Any]]]
    highlights: list[tuple[str, str, str]]
    corrections: list[tuple[str, str, str]]
    shown: list[str]


@login_required
@require_GET
def prompt_list(request: HttpRequest, slug: str) -> HttpResponse:
    """The project's prompts, fifty a page."""
    membership = require_membership(request.user, slug, action="review")
    context = {
        "membership": membership,
        "project": membership.project,
        "section": "data",
        "page": paginate(request, prompt_rows(membership.project)),
    }
    return render(request, "annotation/prompt_list.html", context)


@login_required
@require_GET
def prompt_detail(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """One prompt with its responses and what people said of them."""
    membership = require_membership(request.user, slug, action="review")
    try:
        detail = read_prompt_detail(membership.project, pk)
    except Prompt.DoesNotExist:
        raise Http404("No such prompt.") from None
    names = {response.pk: f"R{i}" for i, response in enumerate(detail["responses"], start=1)}
    texts = {response.pk: response.text for response in detail["responses"]}
    task = task_of(membership.project)
    context = {
        "membership": membership,
        "project": membership.project,
        "section": "data",
        "prompt": detail["prompt"],
        "conversation": split_conversation(detail["prompt"].messages),
        "responses": [
            {"name": names[response.pk], "response": response, "rendered": rendered}
            for response, rendered in zip(detail["responses"], render_many(list(texts.values())), strict=True)
        ],
        "judgements": [read_judgement(r, names=names, texts=texts, task=task) for r in detail["rankings"]],
    }
    return render(request, "annotation/prompt_detail.html", context)


def read_judgement(ranking: Ranking, *, names: Mapping[int, str], texts: Mapping[int, str], task: Task) -> JudgementRow:
    """Say a ranking in the names that the page gives to the prompt's responses."""
    canonical = [place.response_id for place in ranking.slate.places.all()]
    rated = [pk for pk in names if any(str(pk) in values for values in (ranking.ratings or {}).values())]
    return JudgementRow(
        ranking=ranking,
        said=say_ranking(ranking, names=names, canonical=canonical, task=task),
        summary=summarise(ranking),
        rated=[names[pk] for pk in rated],
        ratings=[
            (scale, [values.get(str(pk)) for pk in rated]) for scale, values in sorted((ranking.ratings or {}).items())
        ],
        highlights=[
            (names.get(entry["response"], "?"), entry["quote"], entry["comment"]) for entry in ranking.highlights
        ],
        corrections=[
            (names.get(int(pk), "?"), texts.get(int(pk), ""), text) for pk, text in ranking.corrections.items()
        ],
        shown=[names.get(pk, "?") for pk in ranking.presented_order],
    )


def summarise(ranking: Ranking) -> str:
    """What is folded beneath a judgement, counted: "2 scales · 1 flag · order shown"; "" where nothing is."""
    scales, flags = len(ranking.ratings or {}), sum(map(len, ranking.flags.values()))
    highlights, corrections = len(ranking.highlights), len(ranking.corrections)
    counted = [
        (scales, ngettext("%(n)d scale", "%(n)d scales", scales)),
        (flags, ngettext("%(n)d flag", "%(n)d flags", flags)),
        (highlights, ngettext("%(n)d highlight", "%(n)d highlights", highlights)),
        (corrections, ngettext("%(n)d correction", "%(n)d corrections", corrections)),
    ]
    parts = [said % {"n": count} for count, said in counted if count]
    return " · ".join(parts + ([_("order shown")] if ranking.presented_order else []))
