"""Messages about slates: asked on the ranking page, answered in place on a page of their own.

An annotator sees their own threads only, without any source; who may answer sees all of the project's. A thread is
addressed by any of its messages. Looking marks nothing as seen (a question never writes): answering does, and a button.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.db.models import Q
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_POST

from annotation.domain.assigning import LeaseUnknown, own_lease
from annotation.domain.messages import (
    TEXT_LIMIT,
    MessageRefused,
    Thread,
    answer,
    ask,
    load_threads,
    mark_seen,
    reply,
    thread_keys,
    thread_of,
)
from annotation.models import Lease, Membership, Ranking, Slate, SlateMessage
from annotation.rules import can, require_membership
from annotation.views.asking import read_token
from annotation.views.conversation import split_conversation
from annotation.views.paging import paginate


@login_required
@require_POST
def rank_message(request: HttpRequest, slug: str) -> HttpResponse:
    """Ask the reviewers about the slate on screen; the page's script gets the talk as a part of the page."""
    membership = require_membership(request.user, slug, action="annotate")
    try:
        lease = own_lease(membership, token=read_token(request.POST.get("token", "")))
    except LeaseUnknown as error:
        raise Http404(str(error)) from error
    slate, text, problem = lease.slot.slate, request.POST.get("text", ""), ""
    try:
        ask(membership, lease_token=lease.token, text=text)
    except MessageRefused as error:
        problem = str(error)
    if _is_navigation(request):
        if problem:
            messages.error(request, problem)
        else:
            messages.success(request, _("Your message is sent."))
        return redirect(_slate_address(membership, slate))
    context = {"membership": membership, "project": membership.project, **thread_context(membership, slate)}
    context |= {"thread_problem": problem, "thread_text": text[:TEXT_LIMIT] if problem else ""}
    status = HTTPStatus.UNPROCESSABLE_ENTITY if problem else HTTPStatus.OK
    return render(request, "annotation/_thread.html", context, status=status)


@never_cache
@login_required
@require_GET
def message_list(request: HttpRequest, slug: str) -> HttpResponse:
    """The talks about slates: all of the project's for who answers, one's own for annotators."""
    membership = require_membership(request.user, slug, action="annotate")
    return _show_list(request, membership)


@login_required
@require_POST
def message_reply(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Add a line to a thread: an answer to somebody else's, a further question in one's own."""
    membership, thread = _require_thread(request, slug=slug, pk=pk)
    text = request.POST.get("text", "")
    try:
        if thread.annotator == membership:
            reply(membership, slate=thread.slate, text=text)
        else:
            answer(membership, slate=thread.slate, annotator=thread.annotator, text=text)
    except MessageRefused as error:
        refused = {"pk": thread.messages[0].pk, "problem": str(error), "text": text[:TEXT_LIMIT]}
        if _by_htmx(request):
            return _show_thread(request, membership, pk=pk, refused=refused)
        return _show_list(request, membership, refused=refused)
    if _by_htmx(request):
        return _show_thread(request, membership, pk=pk, done=_("Sent."))
    messages.success(request, _("Your message is sent."))
    return redirect("message_list", slug=slug)


@login_required
@require_POST
def message_seen(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Say that a thread was read and nothing need be answered."""
    membership, thread = _require_thread(request, slug=slug, pk=pk)
    mark_seen(membership, slate=thread.slate, annotator=thread.annotator)
    if _by_htmx(request):
        return _show_thread(request, membership, pk=pk, done=_("Marked as read."))
    return redirect("message_list", slug=slug)


def thread_context(membership: Membership, slate: Slate) -> dict[str, Any]:
    """What the ranking page shows of the member's talk about a slate.

    `thread_token` names the slate in the form; it is that of the lease under which they were given it. At
    `thread_seen_url` one says that what is new in it was read.
    """
    lease = Lease.objects.filter(annotator=membership, slot__slate=slate).order_by("-created_at").first()
    slug, said = membership.project.slug, thread_of(membership, slate=slate)
    lines = [_as_line(message, membership) for message in said]
    has_news = any(line["is_new"] for line in lines)
    return {
        "thread": lines,
        "thread_seen_url": reverse("message_seen", kwargs={"slug": slug, "pk": said[-1].pk}) if has_news else "",
        "thread_url": reverse("rank_message", kwargs={"slug": slug}) if lease else "",
        "thread_token": lease.token if lease else "",
    }


def _as_line(message: SlateMessage, reader: Membership) -> dict[str, Any]:
    return {
        "mine": message.author_id == reader.pk,
        "author": message.author.name,
        "text": message.text,
        "when": message.created_at,
        "is_new": message.seen_at is None and message.author_id != reader.pk,
    }


def _as_row(thread: Thread, reader: Membership) -> dict[str, Any]:
    """A thread as the page shows it; `waits` says that something in it is new to the reader."""
    mine = thread.annotator == reader
    return {
        "thread": thread,
        "pk": thread.messages[0].pk,
        "mine": mine,
        "waits": thread.has_news if mine else thread.is_open,
        "last": split_conversation(thread.slate.prompt.messages).last,
        "lines": [_as_line(message, reader) for message in thread.messages],
    }


def _show_list(request: HttpRequest, membership: Membership, *, refused: dict[str, Any] | None = None) -> HttpResponse:
    own = None if can(membership, "answer") else membership
    page = paginate(request, thread_keys(membership.project, annotator=own))
    context = {
        "membership": membership,
        "project": membership.project,
        "section": "messages",
        "page": page,
        "rows": [_as_row(thread, membership) for thread in load_threads(page)],
        "refused": refused,
        "text_limit": TEXT_LIMIT,
    }
    status = HTTPStatus.UNPROCESSABLE_ENTITY if refused else HTTPStatus.OK
    return render(request, "annotation/messages.html", context, status=status)


def _show_thread(
    request: HttpRequest, membership: Membership, *, pk: int, done: str = "", refused: dict[str, Any] | None = None
) -> HttpResponse:
    """One thread as it is now, for htmx to put in the place of what it was; a refusal too, since htmx drops errors."""
    _membership, thread = _require_thread(request, slug=membership.project.slug, pk=pk)
    context = {
        "membership": membership,
        "project": membership.project,
        "row": _as_row(thread, membership),
        "done": done,
        "refused": refused,
        "text_limit": TEXT_LIMIT,
    }
    return render(request, "annotation/_message_thread.html", context)


def _require_thread(request: HttpRequest, *, slug: str, pk: int) -> tuple[Membership, Thread]:
    """The member and the thread of this message; 404 unless it is their own or they may answer."""
    membership = require_membership(request.user, slug, action="annotate")
    seen = Q(annotator__project=membership.project) if can(membership, "answer") else Q(annotator=membership)
    message = get_object_or_404(SlateMessage, seen, pk=pk)
    keys = [{"slate": message.slate_id, "annotator": message.annotator_id}]
    return membership, load_threads(keys)[0]


def _slate_address(membership: Membership, slate: Slate) -> str:
    """Where the member has this slate before them: their ranking of it, or the ranking page."""
    slug = membership.project.slug
    ranking = Ranking.objects.filter(annotator=membership, slate=slate, superseded_by__isnull=True).first()
    if ranking is not None:
        return reverse("ranking_amend", kwargs={"slug": slug, "pk": ranking.pk})
    return reverse("rank", kwargs={"slug": slug})


def _is_navigation(request: HttpRequest) -> bool:
    """Whether a page is wanted rather than a part of one: a form was sent, not a script's request."""
    if _by_htmx(request) or request.headers.get("Sec-Fetch-Dest") == "empty":
        return False
    accepted = request.headers.get("Accept", "")
    return not accepted or "text/html" in accepted


def _by_htmx(request: HttpRequest) -> bool:
    return request.headers.get("HX-Request") == "true"
