"""The page of one prompt: what every kind of judgement says, in the names that the page gives to the responses."""

from __future__ import annotations

import re
from typing import Any

import pytest
from django.test import Client
from django.urls import reverse

from annotation.domain.assigning import claim_slot
from annotation.domain.judgement import Highlight, Judgement
from annotation.domain.ranking import submit_ranking
from annotation.domain.tasks import Scale
from annotation.models import Membership, Project, Ranking
from tests.annotation.factories import make_member, make_project, make_slate, make_user

pytestmark = pytest.mark.django_db
SCALES = (Scale("Help", {0: "no help", 1: "", 2: "all help"}),)


def judge(project: Project, *, by: Membership | None = None, **said: Any) -> Ranking:
    """A judgement whose positions are those of the canonical order, which is that of the names R1, R2, …"""
    annotator = by or make_member(project)
    lease = claim_slot(annotator)
    assert lease is not None
    place = {index: lease.presented_order.index(pk) for index, pk in enumerate(sorted(lease.presented_order))}
    turned = dict(said)
    for name in ("flags", "corrections"):
        if name in said:
            turned[name] = {place[index]: value for index, value in said[name].items()}
    if "tiers" in said:
        turned["tiers"] = [[place[index] for index in tier] for tier in said["tiers"]]
    if "ratings" in said:
        turned["ratings"] = {
            scale: {place[index]: value for index, value in values.items()} for scale, values in said["ratings"].items()
        }
    if "strength" in said and place[0] == 1:
        turned["strength"] = -said["strength"]
    if "highlight" in turned:
        index, start, end, quote, comment = turned.pop("highlight")
        turned["highlights"] = [Highlight(place[index], start, end, quote, comment)]
    return submit_ranking(annotator, token=lease.token, judgement=Judgement(**turned)).ranking


def page_of(project: Project) -> str:
    client = Client()
    reviewer = make_member(project, role="reviewer")
    assert reviewer.user is not None
    client.force_login(reviewer.user)
    address = reverse("prompt_detail", kwargs={"slug": project.slug, "pk": project.prompts.get().pk})
    answer = client.get(address)
    assert answer.status_code == 200
    return re.sub(r"\s+", " ", answer.content.decode())


@pytest.mark.parametrize(
    ("kind", "size", "said", "shown"),
    [
        ("ranking", 4, {"tiers": [[1], [0, 2], [3]]}, "R2 › R1 = R3 › R4"),
        ("best", 3, {"tiers": [[2], [0, 1]]}, "best: R3"),
        ("best-worst", 3, {"tiers": [[2], [0], [1]]}, "best: R3, worst: R2"),
        ("pairwise", 2, {"strength": 3}, "R2 is much better"),
        ("pairwise", 2, {"strength": -1}, "R1 is slightly better"),
        ("pairwise", 2, {"strength": 0}, "equal"),
        ("pairwise-forced", 2, {"strength": -2}, "R1 is better"),
        ("pairwise-forced", 2, {"tiers": [[1], [0]], "strength": 0}, "R2 is hardly better, or unsure"),
    ],
)
def test_every_kind_of_judgement_is_said_in_words(kind, size, said, shown):
    project = make_project(kind=kind)
    make_slate(project, count=size)
    judge(project, **said)
    assert f'<span class="num">{shown}</span>' in page_of(project)


def test_ratings_stand_in_a_table_beneath_the_name_of_the_task():
    project = make_project(kind="rating", scales=SCALES)
    make_slate(project, count=2)
    judge(project, ratings={"Help": {0: 2, 1: 0}})
    body = page_of(project)
    assert "<span>ratings on scales</span>" in body
    assert "1 scale · order shown" in body
    row = re.search(r'<td dir="auto">Help</td>(.*?)</tr>', body)
    assert row is not None
    assert re.findall(r"<td[^>]*>(\d)</td>", row[1]) == ["2", "0"]


def test_flags_highlights_corrections_and_the_order_shown_are_folded_beneath():
    project = make_project()
    slate = make_slate(project, count=2)
    first = slate.places.get(position=0).response.text
    ranking = judge(
        project,
        tiers=[[0], [1]],
        flags={1: ["unsafe", "broken"]},
        highlight=(0, 0, 6, "Answer", "Dull."),
        corrections={0: first.replace("Answer", "Reply")},
        rationale="First is fine.",
    )
    body = page_of(project)
    assert "2 flags · 1 highlight · 1 correction · order shown" in body
    assert re.search(r"<details class=\"fold small\">(?! open)", body)
    assert '<dt dir="auto">unsafe</dt> <dd>R2</dd>' in body
    assert '<mark class="text" dir="auto">Answer</mark> <p class="text" dir="auto">Dull.</p>' in body
    assert "correction of R1" in body
    assert [re.sub("<.*?>", "", part) for part in re.findall(r"<(?:del|ins)>.*?</(?:del|ins)>", body)] == [
        "[removed] Answer [end of what was removed]",
        "[added] Reply [end of what was added]",
    ]
    names = {pk: f"R{number}" for number, pk in enumerate(sorted(ranking.presented_order), start=1)}
    assert f'<dd class="num">{" · ".join(names[pk] for pk in ranking.presented_order)}</dd>' in body


def test_all_bad_is_said_with_and_without_an_order():
    project = make_project(overlap=2)
    make_slate(project, count=2)
    judge(project, all_bad=True)
    judge(project, all_bad=True, tiers=[[0], [1]])
    body = page_of(project)
    assert body.count('<span class="tag">all bad</span>') == 2
    assert body.count('<span class="num">R1 › R2</span>') == 1


def test_a_judgement_of_a_flag_and_scale_that_are_no_more_is_still_shown():
    project = make_project(scales=SCALES)
    make_slate(project, count=2)
    ratings = {"Help": {0: 1, 1: 1}}
    judge(project, tiers=[[0], [1]], ratings=ratings, flags={0: ["unsafe"]})
    Project.objects.update(flags=[], scales=[])
    body = page_of(project)
    assert '<dt dir="auto">unsafe</dt> <dd>R1</dd>' in body
    assert '<td dir="auto">Help</td>' in body


def test_texts_are_rendered_and_what_is_plain_shows_what_cannot_be_seen():
    project = make_project()
    slate = make_slate(project, count=2)
    place = slate.places.get(position=0)
    place.response.text = "**bold** <script>alert(1)</script>"
    place.response.source = "model\u202etxt"
    place.response.save()
    user = make_user("ann\u202e")
    annotator = Membership.objects.create(project=project, user=user, name="ann\u202e", role="annotator")
    judge(project, by=annotator, tiers=[[0], [1]], rationale="because\u2066 of it")
    body = page_of(project)
    assert "<strong>bold</strong>" in body
    assert "<script>alert" not in body
    assert "\u202e" not in body
    assert "\u2066" not in body
    assert "because⟦LRI⟧ of it" in body
    assert "model⟦RLO⟧txt" in body
