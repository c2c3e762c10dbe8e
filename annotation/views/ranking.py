"""The ranking page, its history and amendments.

What an annotator's browser gets is positions (A, B, C …) and a lease token, nothing more: no ids, no sources. The
page is a plain form; `rank.js` asks the same addresses with `Accept: application/json` and gets the same answers in a
form it can use without leaving the page.
"""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotation.domain.assigning import LeaseUnknown, claim_slot, live_lease, renew_lease, skip_slate
from annotation.domain.ranking import RankingRefused, amend_ranking, submit_ranking
from annotation.forms.ranking import RankingForm, SkipForm, placements_from_tiers
from annotation.models import Lease, Membership
from annotation.queries import (
    RankingView,
    amendment_view,
    annotator_progress,
    last_ranking,
    latest_guidelines,
    my_rankings,
    ranking_view,
)
from annotation.rules import require_membership
from annotation.views.conversation import split_conversation
from annotation.views.paging import paginate

LETTERS = "ABCDEFGHI"
SLATES_WITH_KEYS_NAMED = 10


@never_cache
@login_required
@require_GET
def rank(request: HttpRequest, slug: str) -> HttpResponse:
    """The slate that the annotator holds, or a button that takes one."""
    membership = require_membership(request.user, slug, action="annotate")
    lease = live_lease(membership)
    if lease is None:
        return render(request, "annotation/rank_start.html", _page_context(membership))
    context = _page_context(membership) | _slate_context(membership, ranking_view(lease))
    return render(request, "annotation/rank.html", context)


@login_required
@require_POST
def rank_claim(request: HttpRequest, slug: str) -> HttpResponse:
    """Take the next slate."""
    membership = require_membership(request.user, slug, action="annotate")
    lease = claim_slot(membership)
    if _wants_json(request):
        return _slate_or_nothing(request, membership, lease)
    return redirect("rank", slug=slug)


@login_required
@require_POST
def rank_prefetch(request: HttpRequest, slug: str) -> HttpResponse:
    """The slate after the one named by `token`, as a part of a page; 204 where none is left."""
    membership = require_membership(request.user, slug, action="annotate")
    token = _require_lease(membership, request.POST.get("token", "")).token
    return _slate_or_nothing(request, membership, claim_slot(membership, beside=token))


@login_required
@require_POST
def rank_renew(request: HttpRequest, slug: str) -> JsonResponse:
    """Hold the slate for longer, since its annotator is at work; say whether it is still theirs."""
    membership = require_membership(request.user, slug, action="annotate")
    lease = _require_lease(membership, request.POST.get("token", ""))
    return JsonResponse({"held": renew_lease(membership, token=lease.token)})


@login_required
@require_POST
def rank_submit(request: HttpRequest, slug: str) -> HttpResponse:
    """Keep a ranking; a repeated click is answered like the first."""
    membership = require_membership(request.user, slug, action="annotate")
    view = ranking_view(_require_lease(membership, request.POST.get("token", "")))
    form = RankingForm(request.POST, size=len(view.responses))
    problems = _save(form, lambda **fields: submit_ranking(membership, **fields))
    if problems:
        return _refuse(request, membership, view, form=form, problems=problems)
    if _wants_json(request):
        return _acknowledge(membership)
    claim_slot(membership)
    messages.success(request, _("Saved ✓"))
    return redirect("rank", slug=slug)


@login_required
@require_POST
def rank_skip(request: HttpRequest, slug: str) -> HttpResponse:
    """Pass over a slate; it is not offered to this annotator again."""
    membership = require_membership(request.user, slug, action="annotate")
    lease = _require_lease(membership, request.POST.get("token", ""))
    form = SkipForm(request.POST)
    if not form.is_valid():
        problem = _("A reason may be 500 characters long; nothing was skipped.")
        if _wants_json(request):
            return JsonResponse({"problems": [problem]}, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        messages.error(request, problem)
        return redirect("rank", slug=slug)
    try:
        skip_slate(membership, token=lease.token, reason=form.cleaned_data["reason"])
    except LeaseUnknown as error:
        messages.error(request, str(error))
    if _wants_json(request):
        return _acknowledge(membership)
    claim_slot(membership)
    return redirect("rank", slug=slug)


@login_required
@require_POST
def rank_undo(request: HttpRequest, slug: str) -> HttpResponse:
    """Open the annotator's last ranking for amendment."""
    membership = require_membership(request.user, slug, action="annotate")
    ranking = last_ranking(membership)
    if ranking is None:
        messages.info(request, _("There is nothing to undo: you have not ranked a slate here yet."))
        return redirect("rank", slug=slug)
    return redirect("ranking_amend", slug=slug, pk=ranking.pk)


@never_cache
@login_required
@require_http_methods(["GET", "POST"])
def ranking_amend(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Show one of the annotator's own rankings and take a new version of it."""
    membership = require_membership(request.user, slug, action="annotate")
    ranking = get_object_or_404(my_rankings(membership), pk=pk)
    view = amendment_view(ranking)
    if request.method == "GET":
        context = _page_context(membership) | _slate_context(membership, view) | _amendment(membership, pk=pk)
        return render(request, "annotation/rank.html", context)
    form = RankingForm(request.POST, size=len(view.responses))
    problems = _save(form, lambda **fields: amend_ranking(membership, ranking=ranking, **fields))
    if problems:
        return _refuse(request, membership, view, form=form, problems=problems, amend=pk)
    if _wants_json(request):
        return _acknowledge(membership)
    messages.success(request, _("Amended ✓"))
    return redirect("rank", slug=slug)


@login_required
@require_GET
def history(request: HttpRequest, slug: str) -> HttpResponse:
    """The annotator's own rankings, newest first."""
    membership = require_membership(request.user, slug, action="annotate")
    page = paginate(request, my_rankings(membership).select_related("slate__prompt", "annotator"))
    rows = [
        {"ranking": ranking, "order": _order_in_letters(ranking), "prompt": _last_turn(ranking.slate.prompt)}
        for ranking in page
    ]
    context = _page_context(membership) | {"page": page, "rows": rows}
    return render(request, "annotation/history.html", context)


def _save(form: RankingForm, keep: Any) -> list[str]:
    """Hand a valid form to the domain; return what it or the form itself found wrong."""
    if not form.is_valid():
        return form.problems()
    try:
        keep(
            token=form.cleaned_data["token"],
            tiers=form.tiers(),
            all_bad=form.cleaned_data["all_bad"],
            rationale=form.cleaned_data["rationale"],
            active_ms=form.cleaned_data["active_ms"],
        )
    except RankingRefused as error:
        return [str(problem) for problem in error.problems]
    except LeaseUnknown as error:
        raise Http404(str(error)) from error
    return []


def _refuse(
    request: HttpRequest,
    membership: Membership,
    view: RankingView,
    *,
    form: RankingForm,
    problems: list[str],
    amend: int | None = None,
) -> HttpResponse:
    """Show the form again with everything that was entered, and what is wrong with it."""
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    if _wants_json(request):
        return JsonResponse({"problems": problems}, status=status)
    kept = replace(
        view,
        token=form.cleaned_data.get("token", view.token),
        all_bad=bool(form.cleaned_data.get("all_bad")),
        rationale=form.data.get("rationale", ""),
    )
    context = _page_context(membership) | _slate_context(membership, kept, placements=form.placements())
    if amend is not None:
        context |= _amendment(membership, pk=amend)
    context["problems"] = problems
    return render(request, "annotation/rank.html", context, status=status)


def _acknowledge(membership: Membership) -> JsonResponse:
    return JsonResponse({"saved": True, "progress": progress_text(annotator_progress(membership))})


def _slate_or_nothing(request: HttpRequest, membership: Membership, lease: Lease | None) -> HttpResponse:
    if lease is None:
        return HttpResponse(status=HTTPStatus.NO_CONTENT)
    context = {"membership": membership, "project": membership.project}
    context |= _slate_context(membership, ranking_view(lease))
    return render(request, "annotation/_slate.html", context)


def _require_lease(membership: Membership, token: str) -> Lease:
    """The annotator's own lease, live or lapsed (a late ranking is kept), or 404."""
    try:
        return get_object_or_404(Lease, token=UUID(token), annotator=membership)
    except ValueError:
        raise Http404("No such lease.") from None


def _wants_json(request: HttpRequest) -> bool:
    return request.headers.get("Accept", "").startswith("application/json")


def _page_context(membership: Membership) -> dict[str, Any]:
    """What the frame around a slate shows."""
    progress = annotator_progress(membership)
    return {
        "membership": membership,
        "project": membership.project,
        "section": "rank",
        "progress": progress,
        "progress_text": progress_text(progress),
        "guidelines": latest_guidelines(membership.project),
        "name_keys": my_rankings(membership)[:SLATES_WITH_KEYS_NAMED].count() < SLATES_WITH_KEYS_NAMED,
    }


def _slate_context(
    membership: Membership, view: RankingView, *, placements: list[int | None] | None = None
) -> dict[str, Any]:
    """One slate as the templates want it: letters, texts and tiers."""
    size = len(view.responses)
    if placements is None:
        placements = placements_from_tiers(view.tiers, size=size)
    responses = [
        {
            "letter": LETTERS[position],
            "field": f"tier_{position}",
            "text": text,
            "tier": placements[position],
            "tied": placements[position] is not None and placements.count(placements[position]) > 1,
        }
        for position, text in enumerate(view.responses)
    ]
    return {
        "slate": view,
        "size": size,
        "tier_numbers": range(1, size + 1),
        "conversation": split_conversation(view.prompt_messages),
        "responses": responses,
        "action": reverse("rank_submit", kwargs={"slug": membership.project.slug}),
    }


def _amendment(membership: Membership, *, pk: int) -> dict[str, Any]:
    """What makes the page an amendment: where the form goes, and where the browser goes after it."""
    slug = membership.project.slug
    return {
        "amending": True,
        "action": reverse("ranking_amend", kwargs={"slug": slug, "pk": pk}),
        "afterwards": reverse("rank", kwargs={"slug": slug}),
    }


def progress_text(progress: dict[str, Any]) -> str:
    """The annotator's day in a line: "14 today · median 48 s · 30 left"."""
    parts = [_("%(count)d today") % {"count": progress["today"]}]
    if progress["median_seconds"] is not None:
        parts.append(_("median %(seconds)d s") % {"seconds": round(progress["median_seconds"])})
    parts.append(_("%(count)d left") % {"count": progress["remaining"]})
    return " · ".join(parts)


def _order_in_letters(ranking: Any) -> str:
    """The ranking in the letters its annotator saw: "A = C › B"."""
    letters = {response: LETTERS[i] for i, response in enumerate(ranking.presented_order)}
    tiers = [" = ".join(sorted(letters.get(response, "?") for response in tier)) for tier in ranking.tiers]
    return " › ".join(tier for tier in tiers if tier)


def _last_turn(prompt: Any) -> str:
    return str(prompt.messages[-1]["content"]) if prompt.messages else ""
