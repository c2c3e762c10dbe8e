"""An annotator's own rankings: what they said, what it was before they amended it, and what can still be amended."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from annotation.domain.tasks import Task, task_of
from annotation.forms.history import HistoryForm
from annotation.models import Ranking
from annotation.queries import amendable_until, annotator_progress, earlier_versions, may_amend, search_rankings
from annotation.rules import require_membership
from annotation.views.conversation import split_conversation
from annotation.views.paging import kept_query, paginate
from annotation.views.ranking import progress_text
from annotation.views.verdicts import verdicts_of
from annotation.views.wording import letters_for, say_ranking


@never_cache
@login_required
@require_GET
def history(request: HttpRequest, slug: str) -> HttpResponse:
    """The annotator's own rankings, newest first, narrowed by what the address asks for."""
    membership = require_membership(request.user, slug, action="annotate")
    task = task_of(membership.project)
    form = HistoryForm(request.GET or None)
    wanted = form.cleaned_data if form.is_bound and form.is_valid() else {}
    found = search_rankings(membership, **_filters(wanted))
    page = paginate(request, found.select_related("annotator__project").prefetch_related("slate__places"))
    earlier = earlier_versions(page)
    verdicts = verdicts_of(membership, rankings=list(page))
    context = {
        "membership": membership,
        "project": membership.project,
        "section": "history",
        "form": form,
        "narrows": form.is_bound and form.is_valid() and any(wanted.values()),
        "page": page,
        "rows": [
            _as_row(ranking, earlier=earlier[ranking.pk], task=task) | {"verdicts": verdicts.get(ranking.pk, [])}
            for ranking in page
        ],
        "progress_text": progress_text(annotator_progress(membership)),
        "kept_query": kept_query(request),
    }
    return render(request, "annotation/history.html", context, status=422 if form.errors else 200)


def _filters(wanted: dict[str, Any]) -> dict[str, Any]:
    """The valid fields by the names of `search_rankings`: no name that a request makes up gets through."""
    names = ("since", "until", "text", "all_bad", "flagged", "corrected", "reasoned", "amended")
    return {name: wanted[name] for name in names if wanted.get(name)}


def _as_row(ranking: Ranking, *, earlier: list[Ranking], task: Task) -> dict[str, Any]:
    canonical = [place.response_id for place in ranking.slate.places.all()]
    names = letters_for(ranking.presented_order or canonical)
    first = earlier[-1] if earlier else ranking

    def say(version: Ranking) -> dict[str, Any]:
        return {
            "ranking": version,
            "said": say_ranking(version, names=names, canonical=canonical, task=task),
            "corrected": sorted(names[int(key)] for key in version.corrections if int(key) in names),
        }

    return {
        **say(ranking),
        "last": split_conversation(ranking.slate.prompt.messages).last,
        "seconds": None if ranking.active_ms is None else ranking.active_ms / 1000,
        "amendable": may_amend(ranking, first=first),
        "until": amendable_until(ranking, first=first),
        "earlier": [say(version) for version in earlier],
    }
