"""The ranking page and amendments.

What an annotator's browser gets is positions (A, B, C …) and a lease token, nothing more: no ids, no sources. The
page is a plain form; `rank.js` asks the same addresses with `Accept: application/json` and gets the same answers in a
form it can use without leaving the page.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse, QueryDict
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotation.domain.assigning import (
    LeaseUnknown,
    claim_slot,
    drafts_without_slot,
    live_lease,
    renew_lease,
    skip_slate,
)
from annotation.domain.drafts import DraftRefused, find_draft, save_draft
from annotation.domain.guidelines import has_changes_to_read, mark_read, unread_change
from annotation.domain.judgement import LETTERS, Judgement, RankingRefused
from annotation.domain.practice import practice_due
from annotation.domain.ranking import amend_ranking, amendment_token, judgement_of, submit_ranking
from annotation.domain.tasks import Task, task_of
from annotation.forms.ranking import (
    Entered,
    RankingForm,
    SkipForm,
    as_form_data,
    entered_from,
    side_and_degree,
    strengths_of,
    with_plain_newlines,
)
from annotation.models import Lease, Membership, Ranking, Slate
from annotation.queries import (
    RankingView,
    amendment_view,
    annotator_progress,
    last_ranking,
    latest_guidelines,
    may_amend,
    my_rankings,
    own_rankings,
    ranking_view,
    responses_are_coming,
)
from annotation.rendering import render_many, render_markdown
from annotation.rules import require_membership
from annotation.views.asking import read_token, wants_json
from annotation.views.conversation import split_conversation
from annotation.views.messages import thread_context
from annotation.views.verdicts import verdicts_of
from annotation.views.wording import DEGREES, SHORT_DEGREES

SLATES_WITH_KEYS_NAMED = 10
LONGEST_PREVIEW = 200_000
Keep = Callable[[Judgement, int | None], Any]


@never_cache
@login_required
@require_GET
def rank(request: HttpRequest, slug: str) -> HttpResponse:
    """The slate that the annotator holds; or what comes before one: guidelines to read, practice, a button.

    `kept` is the token of a slate that they had begun and that has gone to others: it may be submitted all the same.
    """
    membership = require_membership(request.user, slug, action="annotate")
    if request.GET.get("kept"):
        begun = drafts_without_slot(membership).filter(token=read_token(request.GET["kept"])).first()
        if begun is None:
            return redirect("rank", slug=slug)
        context = _page_context(membership, shown=begun) | _leased_slate(membership, begun)
        return render(request, "annotation/rank.html", context)
    lease = live_lease(membership)
    if lease is None or _has_to_wait(membership):
        context = _page_context(membership) | {
            "change": unread_change(membership),
            "practice_due": practice_due(membership),
            "responses_coming": responses_are_coming(membership.project),
            "has_ranked": my_rankings(membership).exists(),
        }
        return render(request, "annotation/rank_start.html", context)
    return render(request, "annotation/rank.html", _page_context(membership) | _leased_slate(membership, lease))


@login_required
@require_POST
def rank_claim(request: HttpRequest, slug: str) -> HttpResponse:
    """Take the next slate; `guidelines` says which version was read before it."""
    membership = require_membership(request.user, slug, action="annotate")
    version = request.POST.get("guidelines", "")
    if version:
        try:
            mark_read(membership, version=int(version))
        except ValueError:  # GuidelinesUnknown is one
            raise Http404("No such version of the guidelines.") from None
    lease = None if _has_to_wait(membership) else claim_slot(membership)
    if wants_json(request):
        return _slate_or_nothing(request, membership, lease)
    return redirect("practice_next" if lease is None and practice_due(membership) else "rank", slug=slug)


@login_required
@require_POST
def rank_prefetch(request: HttpRequest, slug: str) -> HttpResponse:
    """The slate after the one named by `token`, as a part of a page; 204 where none is left or may come now."""
    membership = require_membership(request.user, slug, action="annotate")
    token = _require_lease(membership, request.POST.get("token", "")).token
    lease = None if _has_to_wait(membership) else claim_slot(membership, beside=token)
    return _slate_or_nothing(request, membership, lease)


@login_required
@require_POST
def rank_renew(request: HttpRequest, slug: str) -> JsonResponse:
    """Hold the slate for longer, since its annotator is at work; say whether it is still theirs."""
    membership = require_membership(request.user, slug, action="annotate")
    lease = _require_lease(membership, request.POST.get("token", ""))
    return JsonResponse({"held": renew_lease(membership, token=lease.token)})


@login_required
@require_POST
def rank_draft(request: HttpRequest, slug: str) -> JsonResponse:
    """Keep what has been entered so far."""
    membership = require_membership(request.user, slug, action="annotate")
    token = read_token(request.POST.get("token", ""))
    try:
        fields = json.loads(request.POST.get("fields", ""))
        revision = int(request.POST.get("revision", ""))
        if not isinstance(fields, dict) or not 0 <= revision < 2**62:
            raise ValueError("not a draft")
        saved = save_draft(membership, token=token, fields=as_form_data(fields), revision=revision)
    except (ValueError, RecursionError) as error:
        said = str(error) if isinstance(error, DraftRefused) else "Send token, revision and fields (a JSON object)."
        return JsonResponse({"detail": said}, status=HTTPStatus.BAD_REQUEST)
    if saved:
        return JsonResponse({"saved": True})
    newer = find_draft(membership, token=token)
    return JsonResponse({"saved": False, "revision": newer.revision if newer else 0})


@login_required
@require_POST
def rank_preview(request: HttpRequest, slug: str) -> HttpResponse:
    """A correction as it would be shown."""
    require_membership(request.user, slug, action="annotate")
    text = with_plain_newlines(request.POST.get("text", ""))[:LONGEST_PREVIEW]
    return render(request, "annotation/_preview.html", {"rendered": render_markdown(text)})


@login_required
@require_POST
def rank_submit(request: HttpRequest, slug: str) -> HttpResponse:
    """Keep a ranking; a repeated click is answered like the first."""
    membership = require_membership(request.user, slug, action="annotate")
    lease = _require_lease(membership, request.POST.get("token", ""))
    view = ranking_view(lease)
    form = RankingForm(request.POST, task=task_of(membership.project), sources=view.responses)

    def keep(judgement: Judgement, active_ms: int | None) -> None:
        submit_ranking(membership, token=view.token, judgement=judgement, active_ms=active_ms)

    problems = save_judgement(form, keep)
    if problems:
        return _refuse(request, membership, view, form=form, problems=problems, slate=lease.slot.slate)
    if wants_json(request):
        return _acknowledge(membership)
    if not _has_to_wait(membership):
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
        if wants_json(request):
            return JsonResponse({"problems": [problem]}, status=HTTPStatus.UNPROCESSABLE_ENTITY)
        messages.error(request, problem)
        return redirect("rank", slug=slug)
    try:
        skip_slate(membership, token=lease.token, reason=form.cleaned_data["reason"])
    except LeaseUnknown as error:
        messages.error(request, str(error))
    if wants_json(request):
        return _acknowledge(membership)
    if not _has_to_wait(membership):
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
    """Show one of the annotator's own rankings and take a new version of it; a repeated click is answered as before.

    The page of a version that was amended leads to the current one; that of one too old to amend, to My rankings.
    """
    membership = require_membership(request.user, slug, action="annotate")
    ranking = get_object_or_404(own_rankings(membership), pk=pk)
    view, task = amendment_view(ranking, token=amendment_token(ranking)), task_of(membership.project)
    if request.method == "GET":
        current = my_rankings(membership).get(slot=ranking.slot_id)
        if current != ranking:
            return redirect("ranking_amend", slug=slug, pk=current.pk)
        if not may_amend(ranking):
            messages.info(request, _("This ranking can no longer be amended: the project's time for that is over."))
            return redirect("history", slug=slug)
        said = entered_from(judgement_of(ranking), task=task)
        context = _page_context(membership) | _drafted_slate(membership, view, entered=said)
        return render(request, "annotation/rank.html", context | _amendment(membership, ranking=ranking))
    form = RankingForm(request.POST, task=task, sources=view.responses)

    def keep(judgement: Judgement, active_ms: int | None) -> None:
        amend_ranking(membership, ranking=ranking, judgement=judgement, active_ms=active_ms)

    problems = save_judgement(form, keep)
    if problems:
        return _refuse(request, membership, view, form=form, problems=problems, slate=ranking.slate, amended=ranking)
    messages.success(request, _("Amended ✓"))
    if wants_json(request):
        return _acknowledge(membership, next_url=reverse("rank", kwargs={"slug": slug}))
    return redirect("rank", slug=slug)


def save_judgement(form: RankingForm, keep: Keep) -> list[str]:
    """Hand a valid form's judgement and active time to `keep`; return what it or the form itself found wrong."""
    if not form.is_valid():
        return form.problems()
    try:
        keep(form.judgement(), form.cleaned_data["active_ms"])
    except RankingRefused as error:
        return [str(problem) for problem in error.problems]
    except LeaseUnknown as error:
        raise Http404(str(error)) from error
    return []


def slate_context(
    membership: Membership, view: RankingView, *, entered: Entered | None = None, action: str = ""
) -> dict[str, Any]:
    """One slate as the templates want it: rendered texts, and what has been entered by field."""
    entered, task, size = entered or {}, task_of(membership.project), len(view.responses)
    rendered = render_many([*view.responses, *(str(message["content"]) for message in view.prompt_messages)])
    tiers = [entered.get(f"tier_{position}") for position in range(size)]
    responses = [
        {
            "letter": LETTERS[position],
            "position": position,
            "field": f"tier_{position}",
            "html": rendered[position].html,
            "is_plain": rendered[position].is_plain,
            "source": text,
            "tier": tiers[position],
            "tied": tiers[position] is not None and tiers.count(tiers[position]) > 1,
            "is_best": entered.get("best") == position,
            "is_worst": entered.get("worst") == position,
            "flags": set(entered.get(f"flag_{position}", [])),
            "ratings": [
                {"index": i, "scale": scale, "field": name, "value": entered.get(name)}
                for i, scale in enumerate(task.scales)
                for name in [f"rating_{i}_{position}"]
            ],
            "correction": entered.get(f"correction_{position}", ""),
        }
        for position, text in enumerate(view.responses)
    ]
    return {
        "slate": view,
        "task": task,
        "size": size,
        "tier_numbers": range(1, size + 1),
        "conversation": split_conversation(view.prompt_messages),
        "responses": responses,
        "strengths": strength_options(task, chosen=entered.get("strength")) if task.is_pair else [],
        "all_bad": bool(entered.get("all_bad")),
        "rationale": entered.get("rationale", ""),
        "active_ms": entered.get("active_ms", ""),
        "highlights_json": json.dumps([asdict(highlight) for highlight in entered.get("highlights", [])]),
        "action": action or reverse("rank_submit", kwargs={"slug": membership.project.slug}),
    }


def strength_options(task: Task, *, chosen: str | None) -> list[dict[str, Any]]:
    """The points of a pair's scale from left to right, with what each says and the key that chooses it."""
    options = []
    for key, value in enumerate(strengths_of(task), start=1):
        side, degree = side_and_degree(value)
        label = DEGREES[degree] % {"name": side} if side else _("equal")
        short = SHORT_DEGREES[degree] if side else _("equal")
        options.append({"value": value, "label": label, "short": short, "key": key, "checked": chosen == value})
    return options


def _leased_slate(membership: Membership, lease: Lease) -> dict[str, Any]:
    """The context of a leased slate, with the annotator's draft and the talk about it."""
    return _drafted_slate(membership, ranking_view(lease)) | thread_context(membership, lease.slot.slate)


def _drafted_slate(membership: Membership, view: RankingView, *, entered: Entered | None = None) -> dict[str, Any]:
    """The context of a slate with what the annotator's draft holds of valid fields, or else what `entered` says."""
    draft = find_draft(membership, token=view.token)
    if draft is not None:
        form = RankingForm(_as_query(draft.fields), task=task_of(membership.project), sources=view.responses)
        form.is_valid()
        entered = form.entered()
    return slate_context(membership, view, entered=entered) | {"draft_revision": draft.revision if draft else 0}


def _as_query(fields: dict[str, Any]) -> QueryDict:
    data = QueryDict(mutable=True)
    for name, value in fields.items():
        data.setlist(name, value if isinstance(value, list) else [value])
    return data


def _refuse(
    request: HttpRequest,
    membership: Membership,
    view: RankingView,
    *,
    form: RankingForm,
    problems: list[str],
    slate: Slate,
    amended: Ranking | None = None,
) -> HttpResponse:
    """Show the form again with everything that was entered, and what is wrong with it."""
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    if wants_json(request):
        return JsonResponse({"problems": problems}, status=status)
    entered = form.entered() | {"rationale": form.data.get("rationale", "")}
    context = _page_context(membership) | slate_context(membership, view, entered=entered)
    context |= thread_context(membership, slate)
    if amended is not None:
        context |= _amendment(membership, ranking=amended)
    context["problems"] = problems
    return render(request, "annotation/rank.html", context, status=status)


def _acknowledge(membership: Membership, *, next_url: str | None = None) -> JsonResponse:
    """That it is saved; `next` is where the browser goes instead of to the next slate; `rest` offers a break."""
    progress, pause = annotator_progress(membership), membership.project.break_after
    if next_url is None and _has_to_wait(membership):
        next_url = reverse("rank", kwargs={"slug": membership.project.slug})
    rest = bool(pause and progress["today"] and progress["today"] % pause == 0)
    return JsonResponse({"saved": True, "progress": progress_text(progress), "next": next_url, "rest": rest})


def _has_to_wait(membership: Membership) -> bool:
    """Whether something comes before the next slate: guidelines that changed, or practice."""
    return has_changes_to_read(membership) or practice_due(membership)


def _slate_or_nothing(request: HttpRequest, membership: Membership, lease: Lease | None) -> HttpResponse:
    if lease is None:
        return HttpResponse(status=HTTPStatus.NO_CONTENT)
    context = {"membership": membership, "project": membership.project}
    return render(request, "annotation/_slate.html", context | _leased_slate(membership, lease))


def _require_lease(membership: Membership, token: str) -> Lease:
    """The annotator's own lease, live or lapsed (a late ranking is kept), or 404."""
    leases = Lease.objects.select_related("slot__slate__prompt", "slot__slate__project")
    return get_object_or_404(leases, token=read_token(token), annotator=membership)


def _page_context(membership: Membership, *, shown: Lease | None = None) -> dict[str, Any]:
    """What the frame around a slate shows; `shown` is the kept slate within it."""
    progress = annotator_progress(membership)
    kept = drafts_without_slot(membership).select_related("slot__slate__prompt")
    return {
        "kept": [
            (lease.token, split_conversation(lease.slot.slate.prompt.messages).last) for lease in kept if lease != shown
        ],
        "membership": membership,
        "project": membership.project,
        "section": "rank",
        "progress": progress,
        "progress_text": progress_text(progress),
        "guidelines": latest_guidelines(membership.project),
        "name_keys": my_rankings(membership)[:SLATES_WITH_KEYS_NAMED].count() < SLATES_WITH_KEYS_NAMED,
    }


def _amendment(membership: Membership, *, ranking: Ranking) -> dict[str, Any]:
    """What makes the page an amendment: where the form goes, and where the browser goes after it."""
    slug = membership.project.slug
    return {
        "amending": True,
        "action": reverse("ranking_amend", kwargs={"slug": slug, "pk": ranking.pk}),
        "next_url": reverse("rank", kwargs={"slug": slug}),
        "verdicts": verdicts_of(membership, rankings=[ranking]).get(ranking.pk, []),
        **thread_context(membership, ranking.slate),
    }


def progress_text(progress: dict[str, Any]) -> str:
    """The annotator's day in a line: "14 today · median 48 s · 30 left"."""
    parts = [ngettext("%(count)d today", "%(count)d today", progress["today"]) % {"count": progress["today"]}]
    if progress["median_seconds"] is not None:
        parts.append(_("median %(seconds)d s") % {"seconds": round(progress["median_seconds"])})
    parts.append(_("%(count)d left") % {"count": progress["remaining"]})
    return " · ".join(parts)
