"""Messages about slates as pages: who sees which thread, answering in place, and the fragment of the ranking page."""

from __future__ import annotations

import re

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotation.domain.assigning import claim_slot, skip_slate
from annotation.domain.messages import answer, ask, thread_of
from annotation.models import Membership, SlateMessage
from tests.annotation.factories import make_member, make_project, make_slate
from tests.views.conftest import World

FORM = {"Accept": "text/html,application/xhtml+xml"}
SCRIPT = {"Accept": "application/json"}
HTMX = {"HX-Request": "true"}


def url(world: World, name: str, **kwargs: object) -> str:
    return reverse(name, kwargs={"slug": world.project.slug} | kwargs)


@pytest.fixture
def asked(world: World) -> SlateMessage:
    """What the annotator asked about the slate that they ranked."""
    return ask(world.members["annotator"], lease_token=world.ranking.token, text="Is <b>B</b> cut off?")


def as_member(membership: Membership) -> Client:
    client = Client()
    assert membership.user is not None
    client.force_login(membership.user)
    return client


def unread(client: Client, world: World) -> str:
    body = client.get(url(world, "guidelines")).content.decode()
    found = re.search(r'<span id="unread">(.*?)</span></a>', body, flags=re.DOTALL)
    assert found is not None
    return "".join(re.findall(r"\d+", found[1]))


def test_a_question_from_the_ranking_page_is_kept_and_the_page_comes_back(world: World) -> None:
    lease = claim_slot(world.members["annotator"])
    assert lease is not None
    data = {"token": str(lease.token), "text": "May I search the web?"}
    answer = world.client("annotator").post(url(world, "rank_message"), data, headers=FORM)
    assert answer.headers["Location"] == url(world, "rank")
    message = SlateMessage.objects.get()
    assert (message.slate, message.text) == (lease.slot.slate, "May I search the web?")


def test_asked_while_amending_one_comes_back_to_the_amendment(world: World) -> None:
    data = {"token": str(world.ranking.token), "text": "I was wrong; may I?"}
    answer = world.client("annotator").post(url(world, "rank_message"), data, headers=FORM)
    assert answer.headers["Location"] == url(world, "ranking_amend", pk=world.ranking.pk)


@pytest.mark.parametrize("headers", [SCRIPT, HTMX, {"Accept": "*/*"}, FORM | {"Sec-Fetch-Dest": "empty"}])
def test_a_script_gets_the_talk_as_a_part_of_the_page(world: World, headers: dict[str, str]) -> None:
    data = {"token": str(world.ranking.token), "text": "Is <b>B</b> cut off?"}
    answer = world.client("annotator").post(url(world, "rank_message"), data, headers=headers)
    body = answer.content.decode()
    assert answer.status_code == 200
    assert "<html" not in body
    assert "Is &lt;b&gt;B&lt;/b&gt; cut off?" in body
    assert answer.context["thread_token"] == world.ranking.token


def test_a_message_that_cannot_be_kept_is_said_in_either_form(world: World) -> None:
    client, data = world.client("annotator"), {"token": str(world.ranking.token), "text": "x" * 5001}
    said = "The message is longer than 5000 characters."
    refused = client.post(url(world, "rank_message"), data, headers=SCRIPT)
    assert refused.status_code == 422
    assert said in refused.content.decode()
    assert "x" * 5000 in refused.content.decode()
    assert said in client.post(url(world, "rank_message"), data, headers=FORM, follow=True).content.decode()
    assert not SlateMessage.objects.exists()


@pytest.mark.parametrize("token", ["", "nonsense", "7c9e6679-7425-40de-944b-e07fc1f90ae7"])
def test_one_cannot_ask_about_a_slate_that_one_was_not_given(world: World, token: str) -> None:
    data = {"token": token or str(world.ranking.token), "text": "Whose is it?"}
    assert world.client("reviewer").post(url(world, "rank_message"), data).status_code == 404
    assert not SlateMessage.objects.exists()


def test_a_reviewer_answers_in_place_and_the_annotator_reads_and_replies(world: World, asked: SlateMessage) -> None:
    annotator, reviewer = world.client("annotator"), world.client("reviewer")
    body = reviewer.get(url(world, "message_list")).content.decode()
    assert "Is &lt;b&gt;B&lt;/b&gt; cut off?" in body
    assert url(world, "prompt_detail", pk=asked.slate.prompt_id) in body
    assert world.members["annotator"].name in body
    assert (unread(reviewer, world), unread(annotator, world)) == ("1", "")

    answer = reviewer.post(url(world, "message_reply", pk=asked.pk), {"text": "Yes: flag it."})
    assert answer.headers["Location"] == url(world, "message_list")
    assert (unread(reviewer, world), unread(annotator, world)) == ("", "1")

    body = annotator.get(url(world, "message_list")).content.decode()
    assert "Yes: flag it." in body
    assert "new answer" in body
    assert "/data/" not in body
    annotator.post(url(world, "message_seen", pk=asked.pk))
    assert unread(annotator, world) == ""
    annotator.post(url(world, "message_reply", pk=asked.pk), {"text": "Thanks."})
    assert [m.text for m in thread_of(world.members["annotator"], slate=asked.slate)][1:] == [
        "Yes: flag it.",
        "Thanks.",
    ]


def test_looking_marks_nothing_as_read(world: World, asked: SlateMessage) -> None:
    reviewer = world.client("reviewer")
    for _look in range(2):
        assert 'class="discussion waits"' in reviewer.get(url(world, "message_list")).content.decode()
    asked.refresh_from_db()
    assert asked.seen_at is None


def test_htmx_gets_the_thread_alone_with_the_count_beside_it(world: World, asked: SlateMessage) -> None:
    reviewer, address = world.client("reviewer"), url(world, "message_reply", pk=asked.pk)
    refused = reviewer.post(address, {"text": " "}, headers=HTMX)
    assert refused.status_code == 200  # htmx would drop an error
    assert "The message is empty." in refused.content.decode()
    body = reviewer.post(address, {"text": "Yes."}, headers=HTMX).content.decode()
    assert "<html" not in body
    assert 'id="unread" hx-swap-oob="true"' in body
    assert "Yes." in body
    assert 'role="status"' in reviewer.post(url(world, "message_seen", pk=asked.pk), headers=HTMX).content.decode()


def test_an_answer_that_cannot_be_kept_is_kept_in_its_form(world: World, asked: SlateMessage) -> None:
    answer = world.client("reviewer").post(url(world, "message_reply", pk=asked.pk), {"text": "y" * 5001})
    body = answer.content.decode()
    assert answer.status_code == 422
    assert "The message is longer than 5000 characters." in body
    assert "y" * 5000 in body
    assert SlateMessage.objects.count() == 1


def test_nobody_but_who_may_answer_sees_others_threads(world: World, asked: SlateMessage) -> None:
    """Another annotator has an empty page and 404 at the thread; an engineer has no messages at all."""
    other = as_member(make_member(world.project))
    body = other.get(url(world, "message_list")).content.decode()
    assert "Your questions will stand here." in body
    for name in ("message_reply", "message_seen"):
        assert other.post(url(world, name, pk=asked.pk), {"text": "Me too."}).status_code == 404
    assert world.client("engineer").get(url(world, "message_list")).status_code == 403
    assert world.client("admin").post(url(world, "message_reply", pk=asked.pk), {"text": "Yes."}).status_code == 302
    assert SlateMessage.objects.count() == 2


def test_a_thread_of_another_project_is_not_found(world: World, asked: SlateMessage) -> None:
    stranger = make_member(make_project(), role="admin")
    address = reverse("message_reply", kwargs={"slug": stranger.project.slug, "pk": asked.pk})
    assert as_member(stranger).post(address, {"text": "Hello"}).status_code == 404


def test_a_reviewer_who_asked_waits_for_somebody_else(world: World) -> None:
    reviewer = world.members["reviewer"]
    lease = claim_slot(reviewer)
    assert lease is not None
    own = ask(reviewer, lease_token=lease.token, text="What do the others think?")
    client = world.client("reviewer")
    body = client.get(url(world, "message_list")).content.decode()
    assert "waits for an answer" in body
    assert "Mark as read" not in body
    client.post(url(world, "message_reply", pk=own.pk), {"text": "I mean B."})
    assert [(m.text, m.author) for m in thread_of(reviewer, slate=lease.slot.slate)][1:] == [("I mean B.", reviewer)]


def test_invisible_marks_in_messages_are_made_visible(world: World) -> None:
    ask(world.members["annotator"], lease_token=world.ranking.token, text="a\u202eb")
    body = world.client("reviewer").get(url(world, "message_list")).content.decode()
    assert "\u202e" not in body
    assert "RLO" in body


def test_invisible_marks_in_a_reviewers_name_are_made_visible_on_the_ranking_page(
    world: World, asked: SlateMessage
) -> None:
    Membership.objects.filter(pk=world.members["reviewer"].pk).update(name="ri\u202eta")
    answer(world.members["reviewer"], slate=asked.slate, annotator=world.members["annotator"], text="It is.")
    address = url(world, "ranking_amend", pk=world.ranking.pk)
    body = world.client("annotator").get(address).content.decode()
    assert "ri⟦RLO⟧ta" in body
    assert "\u202e" not in body


def test_the_query_count_does_not_grow_with_threads_and_lines(world: World, asked: SlateMessage) -> None:
    reviewer = world.client("reviewer")

    def count_queries() -> int:
        with CaptureQueriesContext(connection) as queries:
            reviewer.get(url(world, "message_list"))
        return len(queries)

    count_queries()
    before = count_queries()
    for _number in range(4):
        member = make_member(world.project)
        make_slate(world.project)
        lease = claim_slot(member)
        assert lease is not None
        ask(member, lease_token=lease.token, text="One.")
        ask(member, lease_token=lease.token, text="Two.")
        skip_slate(member, token=lease.token, reason="")
    assert count_queries() == before
