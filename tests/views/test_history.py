"""The annotator's history: filters, versions, what can still be amended, and what each kind of task says."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from annotation.domain.assigning import claim_slot
from annotation.domain.judgement import Judgement
from annotation.domain.ranking import amend_ranking, submit_ranking
from annotation.domain.tasks import task_of
from annotation.models import Membership, Project, Prompt, Ranking
from annotation.queries import may_amend, search_rankings
from annotation.views.wording import letters_for, say_judgement
from tests.annotation.factories import make_member, make_project, make_slate
from tests.views.conftest import World

WHOLE = Judgement(tiers=[[0], [1], [2], [3]])


def address(project: Project, **query: str) -> str:
    return reverse("history", kwargs={"slug": project.slug}, query=query or None)


@pytest.fixture
def client(world: World) -> Client:
    return world.client("annotator")


def judge(annotator: Membership, judgement: Judgement) -> Ranking:
    """The annotator's next slate, judged so."""
    lease = claim_slot(annotator)
    assert lease is not None
    return submit_ranking(annotator, token=lease.token, judgement=judgement).ranking


def shown(client: Client, project: Project, **query: str) -> list[Ranking]:
    answer = client.get(address(project, **query))
    assert answer.status_code == 200
    return [row["ranking"] for row in answer.context["rows"]]


def test_each_filter_finds_what_it_says_and_several_narrow_it(world: World, client: Client) -> None:
    annotator, project = world.members["annotator"], world.project
    plain = world.ranking
    bad = judge(annotator, Judgement(all_bad=True, rationale="All refuse."))
    flagged = judge(
        annotator, Judgement(tiers=WHOLE.tiers, flags={2: ["broken"]}, corrections={0: "Better."}, rationale="C ends.")
    )
    amended = amend_ranking(annotator, ranking=plain, judgement=WHOLE).ranking
    assert shown(client, project) == [amended, flagged, bad]
    assert shown(client, project, all_bad="on") == [bad]
    assert shown(client, project, flagged="on") == [flagged]
    assert shown(client, project, corrected="on") == [flagged]
    assert shown(client, project, reasoned="on") == [flagged, bad]
    assert shown(client, project, amended="on") == [amended]
    assert shown(client, project, reasoned="on", all_bad="on") == [bad]
    assert shown(client, project, amended="on", all_bad="on") == []


def test_days_are_both_included(world: World, client: Client) -> None:
    today = timezone.localdate(world.ranking.created_at)
    days = {name: str(today + timedelta(days=days)) for name, days in (("before", -1), ("today", 0), ("after", 1))}
    found = {
        (since, until): len(shown(client, world.project, since=days[since], until=days[until]))
        for since in days
        for until in days
        if days[since] <= days[until]
    }
    assert found == {
        ("before", "before"): 0, ("before", "today"): 1, ("before", "after"): 1,
        ("today", "today"): 1, ("today", "after"): 1, ("after", "after"): 0,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("words", "found"),
    [
        ("HOW MANY", True), ("绿茶", True), ("say \"yes\"", True), ("brief", True), ("line\nend", True),
        ("content", False), ("user", False), ("role", False), ("\\u7eff", False), ("100%", True), ("100_", False),
    ],
)  # fmt: skip
def test_words_are_sought_in_what_was_said_and_nothing_else(
    world: World, client: Client, words: str, found: bool
) -> None:
    messages = [
        {"role": "system", "content": "Be brief."},
        {"role": "user", "content": 'How many cups of 绿茶? Then say "yes".\nline\nend 100% sure'},
    ]
    Prompt.objects.filter(pk=world.ranking.slate.prompt_id).update(messages=messages)
    assert shown(client, world.project, text=words) == ([world.ranking] if found else [])


@pytest.mark.parametrize(
    "query",
    [{"since": "yesterday"}, {"since": "2026-02-30"}, {"text": "x" * 201},
     {"since": "2026-02-02", "until": "2026-02-01"}],
)  # fmt: skip
def test_a_filter_that_makes_no_sense_is_said_and_hides_nothing(
    world: World, client: Client, query: dict[str, str]
) -> None:
    answer = client.get(address(world.project, **query))
    assert answer.status_code == 422
    assert 'role="alert"' in answer.content.decode()
    assert len(answer.context["rows"]) == 1


def test_what_a_request_makes_up_reaches_no_query(world: World, client: Client) -> None:
    made_up = {"annotator": "2", "annotator__user__password__startswith": "p", "page": "x", "ordering": "token"}
    assert shown(client, world.project, **made_up) == [world.ranking]


def test_the_filters_stay_on_the_next_page(world: World, client: Client) -> None:
    annotator = world.members["annotator"]
    for _number in range(51):
        make_slate(world.project)
    for _number in range(52):
        judge(annotator, Judgement(tiers=WHOLE.tiers, rationale="why & how"))
    body = client.get(address(world.project, reasoned="on", text="Question")).content.decode()
    links = re.findall(r'href="(\?[^"]*page=2)"', body)
    assert links == ["?reasoned=on&amp;text=Question&amp;page=2"]
    second = client.get(address(world.project) + links[0].replace("&amp;", "&"))
    assert len(second.context["rows"]) == 2


def test_every_version_of_an_amended_ranking_is_there_newest_first(world: World, client: Client) -> None:
    annotator = world.members["annotator"]
    second = amend_ranking(annotator, ranking=world.ranking, judgement=WHOLE).ranking
    third = amend_ranking(
        annotator, ranking=second, judgement=Judgement(tiers=[[3], [0, 1, 2]], rationale="On <second> thought.")
    ).ranking
    answer = client.get(address(world.project))
    [row] = answer.context["rows"]
    assert (row["ranking"], row["said"].order) == (third, "D › A = B = C")
    assert [version["ranking"] for version in row["earlier"]] == [second, world.ranking]
    assert [version["said"].order for version in row["earlier"]] == ["A › B › C › D", "A › B = C › D"]
    body = answer.content.decode()
    assert "amended, 2 earlier versions" in body
    assert "On &lt;second&gt; thought." in body


def test_what_can_be_amended_follows_the_projects_window_from_the_first_version(world: World, client: Client) -> None:
    """A window of 10 minutes: 9 minutes after the first version it is open, 11 minutes after it, it is not."""
    annotator = world.members["annotator"]
    newest = amend_ranking(annotator, ranking=world.ranking, judgement=WHOLE).ranking
    link = reverse("ranking_amend", kwargs={"slug": world.project.slug, "pk": newest.pk})
    assert link in client.get(address(world.project)).content.decode()
    Project.objects.update(amend_minutes=10)
    newest = Ranking.objects.select_related("annotator__project").get(pk=newest.pk)
    first = world.ranking.created_at
    assert may_amend(newest, now=first + timedelta(minutes=9))
    assert not may_amend(newest, now=first + timedelta(minutes=11))
    assert link in client.get(address(world.project)).content.decode()
    Project.objects.update(amend_minutes=0)
    body = client.get(address(world.project)).content.decode()
    assert link not in body
    assert "final" in body


def test_somebody_elses_rankings_are_not_there(world: World, client: Client) -> None:
    assert {ranking.annotator for ranking in shown(client, world.project)} == {world.members["annotator"]}
    assert search_rankings(make_member(world.project)).count() == 0


def test_dates_are_in_the_readers_language(world: World, client: Client) -> None:
    client.cookies["django_language"] = "zh-hans"
    body = client.get(address(world.project)).content.decode()
    assert re.search(rf"{world.ranking.created_at.year}年\d+月\d+日", body)


SAID: list[tuple[str, dict[str, Any], str]] = [
    ("ranking", {"tiers": [[11, 13], [12]]}, "A = C › B"),
    ("ranking", {"tiers": [], "all_bad": True}, ""),
    ("pairwise", {"tiers": [[11], [12]], "strength": 3}, "A is much better"),
    ("pairwise", {"tiers": [[12], [11]], "strength": -1}, "B is slightly better"),
    ("pairwise", {"tiers": [[11, 12]], "strength": 0}, "equal"),
    ("pairwise-forced", {"tiers": [[12], [11]], "strength": 0}, "B is hardly better, or unsure"),
    ("pairwise-forced", {"tiers": [[11], [12]], "strength": 2}, "A is better"),
    ("pairwise", {"tiers": [[11], [12]], "strength": None}, "A › B"),
    ("best", {"tiers": [[12], [11, 13]]}, "best: B"),
    ("best-worst", {"tiers": [[13], [11], [12]]}, "best: C, worst: B"),
    ("rating", {"tiers": []}, ""),
]


@pytest.mark.django_db
@pytest.mark.parametrize(("kind", "judged", "order"), SAID)
def test_what_was_judged_is_said_in_letters(kind: str, judged: dict[str, Any], order: str) -> None:
    """Responses 12, 11, 13 in the slate; on screen 11, 12, 13: a negative strength says that 12, or B, is better."""
    said = say_judgement(
        **{"kind": kind, "strength": None, "all_bad": False, "ratings": None, "flags": {}} | judged,
        canonical=[12, 11, 13],
        names=letters_for([11, 12, 13]),
        task=task_of(make_project()),
    )
    assert (said.order, said.all_bad) == (order, judged.get("all_bad", False))


@pytest.mark.django_db
def test_ratings_and_flags_are_said_by_scale_and_by_flag() -> None:
    said = say_judgement(
        kind="rating", tiers=[], strength=None, all_bad=False, canonical=[12, 11],
        ratings={"helpful": {"12": 1, "11": 4}}, flags={"12": ["unsafe", "odd"], "11": ["unsafe"]},
        names=letters_for([11, 12]), task=task_of(make_project()),
    )  # fmt: skip
    assert said.ratings == [("helpful", "A 4 · B 1")]
    assert said.flags == [("odd", "B"), ("unsafe", "A, B")]


def test_the_query_count_does_not_grow_with_rankings_and_their_versions(world: World, client: Client) -> None:
    def count_queries() -> int:
        with CaptureQueriesContext(connection) as queries:
            client.get(address(world.project, text="Question", since="2020-01-01"))
        return len(queries)

    Project.objects.update(amend_minutes=10)
    count_queries()
    before = count_queries()
    annotator = world.members["annotator"]
    for _number in range(5):
        make_slate(world.project)
        amend_ranking(annotator, ranking=judge(annotator, WHOLE), judgement=Judgement(tiers=[[0, 1, 2, 3]]))
    assert count_queries() == before
