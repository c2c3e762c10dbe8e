"""The project's prompts with what became of them: responses, sources, scores, rankings. Never for annotators."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotation.models import Prompt
from annotation.queries import prompt_detail as read_prompt_detail
from annotation.queries import prompt_rows
from annotation.rules import require_membership
from annotation.views.conversation import split_conversation
from annotation.views.paging import paginate


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
    context = {
        "membership": membership,
        "project": membership.project,
        "section": "data",
        "prompt": detail["prompt"],
        "conversation": split_conversation(detail["prompt"].messages),
        "responses": [{"name": names[r.pk], "response": r} for r in detail["responses"]],
        "rankings": [
            {
                "ranking": ranking,
                "order": " › ".join(" = ".join(names.get(pk, "?") for pk in tier) for tier in ranking.tiers if tier),
            }
            for ranking in detail["rankings"]
        ],
    }
    return render(request, "annotation/prompt_detail.html", context)
