"""The talk about one slate between its annotator and the project's reviewers: asked while ranking, answered in place.

A thread is the slate's and the annotator's; nobody else but those who may answer sees it. It is open while something
that its annotator wrote has not been seen: answering marks it seen, and so does saying that no answer is needed.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import Count, F, Max, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.domain.assigning import own_lease
from annotation.domain.judgement import is_storable
from annotation.models import Membership, Project, Slate, SlateMessage
from annotation.rules import can

TEXT_LIMIT = 5_000
THREAD_LIMIT = 200


class MessageRefused(ValueError):
    """The message cannot be kept; says why, ready to be shown."""


@dataclass(frozen=True)
class Thread:
    """What was said about one slate by and to one annotator, oldest first."""

    slate: Slate
    annotator: Membership
    messages: list[SlateMessage]
    is_open: bool

    @property
    def newest(self) -> SlateMessage:
        """The last line of the talk."""
        return self.messages[-1]

    @property
    def asked_at(self) -> datetime:
        """When it began."""
        return self.messages[0].created_at

    @property
    def is_answered(self) -> bool:
        """Whether the last word is a reviewer's."""
        return self.newest.author_id != self.annotator.pk

    @property
    def has_news(self) -> bool:
        """Whether its annotator has an answer that they have not seen."""
        return any(message.seen_at is None and message.author_id != self.annotator.pk for message in self.messages)


def ask(annotator: Membership, *, lease_token: UUID, text: str) -> SlateMessage:
    """Write to the reviewers about the slate that was leased under this token, live or lapsed.

    Raises LeaseUnknown for a token that is not theirs, MessageRefused for a text that cannot be kept.
    """
    lease = own_lease(annotator, token=lease_token)
    return _write(annotator, slate=lease.slot.slate, annotator=annotator, text=text)


def reply(annotator: Membership, *, slate: Slate, text: str) -> SlateMessage:
    """Go on with a talk of one's own. Raises MessageRefused where there is none, or for a text that cannot be kept."""
    if not SlateMessage.objects.filter(slate=slate, annotator=annotator).exists():
        raise MessageRefused(_("You have not asked anything about this slate."))
    return _write(annotator, slate=slate, annotator=annotator, text=text)


def answer(reviewer: Membership, *, slate: Slate, annotator: Membership, text: str) -> SlateMessage:
    """Answer an annotator, whose lines count as seen from now on.

    Raises MessageRefused where nothing was asked, where one would answer oneself, or for a text that cannot be kept.
    """
    if reviewer.pk == annotator.pk:
        raise MessageRefused(_("This is your own question; somebody else answers it."))
    if not SlateMessage.objects.filter(slate=slate, annotator=annotator).exists():
        raise MessageRefused(_("Nothing was asked about this slate."))
    return _write(reviewer, slate=slate, annotator=annotator, text=text)


def mark_seen(member: Membership, *, slate: Slate, annotator: Membership) -> int:
    """Note that the other side's lines have been seen; return how many were new."""
    thread = SlateMessage.objects.filter(slate=slate, annotator=annotator, seen_at__isnull=True)
    own = Q(author=annotator)
    return thread.filter(~own if member.pk == annotator.pk else own).update(seen_at=timezone.now())


def unread_for(member: Membership) -> int:
    """How many lines wait for this member: answers to their own questions, and questions where they may answer."""
    mine = Q(annotator=member.pk) & ~Q(author=member.pk)
    if can(member, "answer"):
        mine |= Q(annotator__project=member.project_id, author=F("annotator")) & ~Q(annotator=member.pk)
    return SlateMessage.objects.filter(mine, seen_at__isnull=True).count()


def thread_of(annotator: Membership, *, slate: Slate | int) -> list[SlateMessage]:
    """What this annotator and the reviewers have said about a slate, oldest first."""
    return list(SlateMessage.objects.filter(annotator=annotator, slate=slate).select_related("author").order_by("pk"))


def thread_keys(project: Project, *, annotator: Membership | None = None) -> QuerySet[SlateMessage, Any]:
    """One row a thread ({"slate", "annotator", "newest", "unseen"}), open ones first, then by their newest line.

    `annotator` narrows it to that member's own; for them, open means that an answer is new.
    """
    asked = Q(author=F("annotator"))
    threads = SlateMessage.objects.filter(annotator__project=project)
    if annotator is not None:
        threads, asked = threads.filter(annotator=annotator), ~asked
    return (
        threads.values("slate", "annotator")
        .annotate(newest=Max("pk"), unseen=Count("pk", filter=asked & Q(seen_at__isnull=True)))
        .annotate(is_open=Q(unseen__gt=0))
        .order_by("-is_open", "-newest")
    )


def threads(project: Project, *, annotator: Membership | None = None) -> list[Thread]:
    """The project's threads, open ones first; `annotator` narrows it to that member's own."""
    return load_threads(thread_keys(project, annotator=annotator))


def load_threads(keys: Iterable[Any]) -> list[Thread]:
    """The threads of rows of `thread_keys`, in their order, in one query."""
    rows = list(keys)
    lines: dict[tuple[int, int], list[SlateMessage]] = {(row["slate"], row["annotator"]): [] for row in rows}
    found = SlateMessage.objects.filter(
        slate__in={row["slate"] for row in rows}, annotator__in={row["annotator"] for row in rows}
    )
    for message in found.select_related("author", "annotator", "slate__prompt").order_by("pk"):
        if (message.slate_id, message.annotator_id) in lines:
            lines[message.slate_id, message.annotator_id].append(message)
    return [
        Thread(
            slate=messages[0].slate,
            annotator=messages[0].annotator,
            messages=messages,
            is_open=any(m.seen_at is None and m.author_id == m.annotator_id for m in messages),
        )
        for messages in lines.values()
        if messages
    ]


def _write(author: Membership, *, slate: Slate, annotator: Membership, text: str) -> SlateMessage:
    text = text.replace("\r\n", "\n").strip()
    if not text:
        raise MessageRefused(_("The message is empty."))
    if len(text) > TEXT_LIMIT:
        raise MessageRefused(_("The message is longer than %(limit)d characters.") % {"limit": TEXT_LIMIT})
    if not is_storable(text):
        raise MessageRefused(_("The message holds characters that cannot be stored."))
    with transaction.atomic():
        Slate.objects.select_for_update().get(pk=slate.pk)
        said = SlateMessage.objects.filter(slate=slate, annotator=annotator)
        last = said.order_by("-pk").first()
        if last is not None and (last.author_id, last.text) == (author.pk, text):
            return last  # a double click, or a retry after a lost answer
        if said.count() >= THREAD_LIMIT:
            raise MessageRefused(_("This talk has %(limit)d messages; no more fit.") % {"limit": THREAD_LIMIT})
        message = SlateMessage.objects.create(slate=slate, annotator=annotator, author=author, text=text)
        mark_seen(author, slate=slate, annotator=annotator)
    return message
