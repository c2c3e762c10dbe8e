"""The talk about a slate: who may say what, what waits for whom, and what is refused."""

from __future__ import annotations

from uuid import uuid4

import pytest

from annotation.domain.assigning import LeaseUnknown, claim_slot, skip_slate
from annotation.domain.messages import (
    TEXT_LIMIT,
    THREAD_LIMIT,
    MessageRefused,
    answer,
    ask,
    mark_seen,
    reply,
    thread_of,
    threads,
    unread_for,
)
from annotation.models import Lease, Membership, Project, SlateMessage
from tests.annotation.factories import make_member, make_project, make_slate

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    project = make_project(overlap=2)
    for _slate in range(2):
        make_slate(project)
    return project


@pytest.fixture
def annotator(project: Project) -> Membership:
    return make_member(project)


@pytest.fixture
def reviewer(project: Project) -> Membership:
    return make_member(project, role="reviewer")


@pytest.fixture
def lease(annotator: Membership) -> Lease:
    claimed = claim_slot(annotator)
    assert claimed is not None
    return claimed


def test_a_question_waits_for_the_reviewers_until_one_answers_and_the_answer_for_who_asked(
    annotator: Membership, reviewer: Membership, lease: Lease
) -> None:
    slate, admin = lease.slot.slate, make_member(annotator.project, role="admin")
    asked = ask(annotator, lease_token=lease.token, text=" Is B cut off?\r\nOr meant so? ")
    assert (asked.text, asked.slate, asked.annotator, asked.author) == (
        "Is B cut off?\nOr meant so?", slate, annotator, annotator,
    )  # fmt: skip
    assert [unread_for(member) for member in (annotator, reviewer, admin)] == [0, 1, 1]
    answer(reviewer, slate=slate, annotator=annotator, text="Cut off; flag it.")
    assert [unread_for(member) for member in (annotator, reviewer, admin)] == [1, 0, 0]
    reply(annotator, slate=slate, text="Thanks.")
    assert [unread_for(member) for member in (annotator, reviewer, admin)] == [0, 1, 1]
    assert mark_seen(admin, slate=slate, annotator=annotator) == 1
    assert [unread_for(member) for member in (annotator, reviewer, admin)] == [0, 0, 0]
    assert [message.author for message in thread_of(annotator, slate=slate)] == [annotator, reviewer, annotator]


def test_open_threads_come_first_and_an_annotator_has_their_own_only(project: Project, reviewer: Membership) -> None:
    first, second = make_member(project), make_member(project)
    for member in (first, second):
        for _slate in range(2):
            lease = claim_slot(member)
            assert lease is not None
            ask(member, lease_token=lease.token, text=f"{member.name} asks.")
            skip_slate(member, token=lease.token, reason="")
    newest_first = threads(project)
    assert [thread.annotator for thread in newest_first] == [second, second, first, first]
    assert all(thread.is_open and not thread.is_answered for thread in newest_first)
    done = newest_first[0]
    answer(reviewer, slate=done.slate, annotator=second, text="Yes.")
    assert [(thread.annotator, thread.is_open) for thread in threads(project)] == [
        (second, True), (first, True), (first, True), (second, False),
    ]  # fmt: skip
    own = threads(project, annotator=second)
    assert [(thread.annotator, thread.has_news, thread.is_answered) for thread in own] == [
        (second, True, True), (second, False, False),
    ]  # fmt: skip


def test_threads_of_another_project_are_none_of_ours(annotator: Membership, lease: Lease) -> None:
    ask(annotator, lease_token=lease.token, text="Hello?")
    stranger = make_member(make_project(), role="reviewer")
    assert (threads(stranger.project), unread_for(stranger)) == ([], 0)


@pytest.mark.parametrize("text", ["", " \r\n\t", "x" * (TEXT_LIMIT + 1), "a\x00b", "half \ud800"])
def test_a_text_that_cannot_be_kept_is_refused_by_everybody(
    annotator: Membership, reviewer: Membership, lease: Lease, text: str
) -> None:
    slate = lease.slot.slate
    with pytest.raises(MessageRefused):
        ask(annotator, lease_token=lease.token, text=text)
    ask(annotator, lease_token=lease.token, text="x" * TEXT_LIMIT)
    with pytest.raises(MessageRefused):
        reply(annotator, slate=slate, text=text)
    with pytest.raises(MessageRefused):
        answer(reviewer, slate=slate, annotator=annotator, text=text)
    assert SlateMessage.objects.count() == 1


def test_one_asks_about_a_slate_that_one_was_given(annotator: Membership, reviewer: Membership, lease: Lease) -> None:
    for token in (lease.token, uuid4()):
        with pytest.raises(LeaseUnknown):
            ask(reviewer, lease_token=token, text="Whose is it?")
    with pytest.raises(MessageRefused):
        reply(annotator, slate=lease.slot.slate, text="Before I asked.")
    with pytest.raises(MessageRefused):
        answer(reviewer, slate=lease.slot.slate, annotator=annotator, text="Unasked.")
    assert not SlateMessage.objects.exists()


def test_nobody_answers_themselves(project: Project, reviewer: Membership) -> None:
    lease = claim_slot(reviewer)
    assert lease is not None
    ask(reviewer, lease_token=lease.token, text="What do the others think?")
    with pytest.raises(MessageRefused):
        answer(reviewer, slate=lease.slot.slate, annotator=reviewer, text="I agree with myself.")
    assert unread_for(reviewer) == 0
    assert unread_for(make_member(project, role="admin")) == 1


def test_a_double_click_is_kept_once_and_the_same_words_later_again(
    annotator: Membership, reviewer: Membership, lease: Lease
) -> None:
    first, again = (ask(annotator, lease_token=lease.token, text="Is B cut off?") for _click in range(2))
    assert first == again
    answer(reviewer, slate=lease.slot.slate, annotator=annotator, text="Yes.")
    assert ask(annotator, lease_token=lease.token, text="Is B cut off?") != first
    assert SlateMessage.objects.count() == 3


def test_a_talk_ends_somewhere(annotator: Membership, lease: Lease) -> None:
    slate = lease.slot.slate
    SlateMessage.objects.bulk_create(
        SlateMessage(slate=slate, annotator=annotator, author=annotator, text=str(number))
        for number in range(THREAD_LIMIT)
    )
    with pytest.raises(MessageRefused):
        ask(annotator, lease_token=lease.token, text="One more.")
