"""Verdicts of verifiers: what annotators see of them once they have judged, and the queue of conflicts with people."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotation.forms.conflicts import ConflictForm
from annotation.models import Membership, Ranking
from annotation.rules import require_membership
from annotation.verdicts import Conflict, ShownVerdict, find_conflicts, read_conflicts, verdicts_after
from annotation.views.conversation import split_conversation
from annotation.views.paging import kept_query, paginate
from annotation.views.wording import letters_for


@dataclass(frozen=True)
class NamedVerdict:
    """A verdict under the letter that its response had on the annotator's screen."""

    letter: str
    verdict: ShownVerdict


@login_required
@require_GET
def conflict_list(request: HttpRequest, slug: str) -> HttpResponse:
    """Judgements that put a response that failed its verifier above one that passed, narrowed by the address."""
    membership = require_membership(request.user, slug, action="review")
    form = ConflictForm(request.GET or None, project=membership.project)
    wanted = form.cleaned_data if form.is_bound and form.is_valid() else {}
    found = find_conflicts(membership.project, **{name: value for name, value in wanted.items() if value})
    page = paginate(request, found.select_related("annotator", "slate__prompt", "guidelines"))
    context = {
        "membership": membership,
        "project": membership.project,
        "section": "data",
        "form": form,
        "narrows": any(wanted.values()),
        "page": page,
        "rows": [_as_row(conflict) for conflict in read_conflicts(list(page))],
        "kept_query": kept_query(request),
    }
    return render(request, "annotation/conflicts.html", context, status=422 if form.errors else 200)


def verdicts_of(membership: Membership, *, rankings: Sequence[Ranking]) -> dict[int, list[NamedVerdict]]:
    """By ranking, what verifiers said of the responses that the member judged in it, from left to right."""
    found = verdicts_after(membership, rankings=rankings)
    if not found:
        return {}
    named = {}
    for ranking in rankings:
        order = ranking.presented_order or [place.response_id for place in ranking.slate.places.all()]
        letters = letters_for(order)
        named[ranking.pk] = [NamedVerdict(letters[pk], found[pk]) for pk in order if pk in found]
    return named


def _as_row(conflict: Conflict) -> dict[str, Any]:
    prompt = conflict.ranking.slate.prompt
    return {
        "conflict": conflict,
        "ranking": conflict.ranking,
        "prompt": prompt,
        "last": split_conversation(prompt.messages).last,
        "sides": [conflict.failed, conflict.passed],
        "more": conflict.pairs - 1,
    }
