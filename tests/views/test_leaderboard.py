"""The leaderboard's pages: what they say, what they refuse, their downloads, and that no annotator learns a source."""

from __future__ import annotations

import csv
import json
import re
from io import StringIO
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotation.domain.simulating import simulate_annotators
from annotation.models import Project, Response
from annotation.views import leaderboard as module
from tests.annotation.factories import make_project, make_slate
from tests.annotation.test_leaderboard import judge, judge_often, someone
from tests.views.conftest import ROLES, World

PAGES = ("leaderboard", "leaderboard_items", "leaderboard_pairs", "leaderboard_report", "leaderboard_battles")
CAN_SEE = {"reviewer", "admin", "engineer"}


def get(world: World, name: str = "leaderboard", *, role: str = "engineer", **asked: str) -> Any:
    return world.client(role).get(reverse(name, kwargs={"slug": world.project.slug}), asked)


@pytest.fixture
def board(world: World) -> Project:
    """The world with sources A, B and C that beat each other now and then, beside those it has."""
    for order in ("ABC", "ABC", "BCA", "CAB", "ACB"):
        judge(world.project, *order, metadata={"category": "maths" if order[0] == "A" else "prose"})
    return world.project


def main_of(answer: Any) -> str:
    return str(answer.content.decode().split("<main", 1)[1])


def test_before_anything_was_judged_it_says_so(world: World) -> None:
    empty = make_project(slug="empty")
    member = world.members["engineer"]
    empty.memberships.create(user=member.user, name="eva", role="engineer")
    answer = world.client("engineer").get(reverse("leaderboard", kwargs={"slug": empty.slug}))
    assert answer.status_code == 200
    assert "There are no judgements yet." in main_of(answer)
    download = world.client("engineer").get(reverse("leaderboard_items", kwargs={"slug": empty.slug}))
    assert (download.status_code, download.content.decode()) == (422, "There are no judgements yet.")


def test_the_page_says_what_the_report_says(world: World, board: Project) -> None:
    answer = get(world, model="bradley-terry")
    report, page = answer.context["report"], main_of(answer)
    assert {item.name for item in report.items} >= {"A", "B", "C"}
    for item in report.items:
        assert item.name in page
    assert f"{report.comparisons} comparisons in {report.judgements} judgements" in page
    assert page.count("<svg viewBox") == len(answer.context["plots"])
    assert "style=" not in page.replace("?style=", "")
    assert "<script" not in page


def test_every_cell_leads_to_the_battles_behind_it(world: World, board: Project) -> None:
    answer = get(world, category="maths")
    report = answer.context["report"]
    links = re.findall(r'href="([^"]+/battles/[^"]+)">([\d.]+) %</a>', main_of(answer))
    assert len(links) == 6  # three items, each against the two others
    for link, said in links:
        asked = parse_qs(urlsplit(link.replace("&amp;", "&")).query)
        assert asked["category"] == ["maths"]
        found = world.client("engineer").get(link.replace("&amp;", "&"))
        rows = found.context["rows"]
        a, b = (report.counted.items.index(asked[side][0]) for side in ("first", "second"))
        assert len(rows) == report.counted.comparisons[a, b] == 3
        share = sum(row["won"] + 0.5 * (not row["won"] and not row["lost"]) for row in rows) / len(rows)
        assert said == f"{100 * share:.1f}"
        for row in rows:
            assert reverse("prompt_detail", kwargs={"slug": board.slug, "pk": row["prompt"].pk}) in main_of(found)


def test_battles_come_fifty_a_page(world: World, board: Project) -> None:
    judge_often(board, "A", "B", times=60)
    first = get(world, "leaderboard_battles", first="A", second="B")
    assert (len(first.context["rows"]), first.context["page"].paginator.num_pages) == (50, 2)
    assert "Won 64, tied 0, lost 1." in main_of(first)
    assert "first=A&amp;second=B&amp;page=2" in main_of(first)
    assert len(get(world, "leaderboard_battles", first="A", second="B", page="2").context["rows"]) == 15


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({}, "The address names no two that were compared"),
        ({"first": "A"}, "The address names no two that were compared"),
        ({"first": "A", "second": "nobody"}, "Nothing here is called “nobody”"),
        ({"first": "A", "second": "A"}, "There are no battles of one with itself"),
        ({"first": "A", "second": "B", "cluster": "zz"}, "Errors by: Select a valid choice. zz is not one of"),
    ],
)
def test_battles_of_nobody_are_refused(world: World, board: Project, asked: dict[str, str], said: str) -> None:
    answer = get(world, "leaderboard_battles", **asked)
    assert answer.status_code == 422
    assert said in main_of(answer)


def test_a_misspelt_name_can_be_mended_and_the_slices_stay(world: World, board: Project) -> None:
    asked = {"first": "A", "second": "nobody", "response-length": "short", "style": "on"}
    body = main_of(get(world, "leaderboard_battles", **asked))
    assert '?response-length=short&amp;style=on&amp;"' in body
    assert '<input type="hidden" name="response-length" value="short">' in body
    assert 'name="second" value="nobody"' in body


def test_two_that_did_not_meet_have_no_battles(world: World, board: Project) -> None:
    answer = get(world, "leaderboard_battles", first="A", second="secret-source-0")
    assert answer.status_code == 200
    assert "These two did not meet" in main_of(answer)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"by": "colour"}, "colour is not one of the available choices"),
        ({"model": "elo"}, "elo is not one of the available choices"),
        ({"cluster": "x"}, "x is not one of the available choices"),
        ({"category": "cooking"}, "cooking is not one of the available choices"),
        ({"response-length": "huge"}, "huge is not one of the available choices"),
        ({"language": "fr"}, "This project has no slices by Language."),
        ({"model": "plackett-luce", "style": "on"}, "Style control needs Bradley–Terry"),
    ],
)
def test_what_the_project_has_not_is_refused(world: World, board: Project, asked: dict[str, str], said: str) -> None:
    for name in ("leaderboard", "leaderboard_items", "leaderboard_report"):
        answer = get(world, name, **asked)
        assert answer.status_code == 422, name
        assert said in answer.content.decode(), name


def test_a_slice_and_style_control_are_switches_of_the_page(world: World, board: Project) -> None:
    assert get(world, category="maths").context["report"].judgements == 3
    styled = get(world, style="on")
    assert styled.context["report"].question.style_control
    assert "What style is worth" in main_of(styled)
    assert "What style is worth" not in main_of(get(world))
    by_response = get(world, by="response").context["report"]
    assert len(by_response.items) == 15 + 8  # five slates of three and two of four were judged
    assert get(world, model="plackett-luce", cluster="prompt").context["report"].fit.model == "plackett-luce"


def test_who_is_apart_is_named_and_joined_on_request(world: World, board: Project) -> None:
    judge(board, "Z", "A")
    answer = get(world)
    assert "Not all are comparable" in main_of(answer)
    assert "not comparable" in main_of(answer)
    assert "never lost" in main_of(answer)
    joined = get(world, join="on")
    assert "A prior joins them" in main_of(joined)
    assert {item.component for item in joined.context["report"].items} == {0}


def test_ties_without_a_value_are_said_to_count_half(world: World) -> None:
    robot = someone(world.project)
    judge(world.project, "A", "B", annotator=robot, metadata={"category": "x"})
    judge(world.project, ("A", "B"), annotator=robot, metadata={"category": "x"})
    judge(world.project, "A", "B", metadata={"category": "y"})
    assert "A tie counts half a win for each" in main_of(get(world, category="x"))


def test_simulated_judgements_are_labelled_everywhere(world: World, board: Project) -> None:
    assert "simulated" not in main_of(get(world)).replace('value="simulated">simulated', "")
    simulate_annotators(world.project, names=["s1"], seed=0)
    page = main_of(get(world))
    assert "% of judgements simulated" in page
    assert "they say nothing about people" in page
    battles = get(world, "leaderboard_battles", first="secret-source-0", second="secret-source-1")
    assert '<span class="tag simulated">simulated</span>' in main_of(battles)


def test_the_downloads_are_the_report(world: World, board: Project) -> None:
    report = get(world).context["report"]
    answer = get(world, "leaderboard_report")
    assert answer["Content-Type"] == "application/json"
    assert answer["Content-Disposition"] == 'attachment; filename="circle-leaderboard.json"'
    assert json.loads(answer.content) == {
        "project": "circle", "newest_slates": module.NEWEST_SLATES, **json.loads(json.dumps(report.as_json())),
    }  # fmt: skip
    items = list(csv.DictReader(StringIO(get(world, "leaderboard_items").content.decode())))
    assert [row["name"] for row in items] == [item.name for item in report.items]
    assert [int(row["wins"]) for row in items] == [item.wins for item in report.items]
    assert {(row["judgements"], row["simulated_judgements"]) for row in items} == {
        (str(report.judgements), str(report.simulated))
    }
    assert float(items[0]["score"]) == pytest.approx(report.items[0].score)
    pairs = list(csv.DictReader(StringIO(get(world, "leaderboard_pairs", category="maths").content.decode())))
    assert {(row["first"], row["second"]) for row in pairs} <= {("A", "B"), ("A", "C"), ("B", "C"), ("C", "B")}


@pytest.mark.parametrize("name", ["=1+1", "+1", "-1", "@x", "\tx"])
def test_no_source_becomes_a_formula(world: World, board: Project, name: str) -> None:
    Response.objects.filter(source="A").update(source=name)
    assert Response.objects.filter(source=name).exists()
    rows = list(csv.DictReader(StringIO(get(world, "leaderboard_items").content.decode())))
    assert f"'{name}" in {row["name"] for row in rows}
    assert name not in {row["name"] for row in rows}


def test_a_source_cannot_break_the_page(world: World, board: Project) -> None:
    name = '"><script>alert(1)</script>&first=B\u202e'
    Response.objects.filter(source="A").update(source=name)
    answer = get(world, category="maths")
    assert "<script>alert" not in answer.content.decode()
    assert "\u202e" not in answer.content.decode()
    link = re.search(r'href="([^"]+/battles/[^"]+)"', main_of(answer))
    assert link is not None
    assert world.client("engineer").get(link[1].replace("&amp;", "&")).status_code == 200


@pytest.mark.parametrize("name", PAGES)
def test_annotators_learn_no_source(world: World, board: Project, name: str) -> None:
    for role in ROLES:
        answer = get(world, name, role=role, first="A", second="B")
        assert answer.status_code == (200 if role in CAN_SEE else 403), role
        if role not in CAN_SEE:
            assert "secret-source" not in answer.content.decode()
            assert not any(row in answer.content.decode() for row in (">A<", ">B<"))
    project_page = get(world, "project_detail", role="annotator").content.decode()
    assert reverse("leaderboard", kwargs={"slug": board.slug}) not in project_page
    assert reverse("leaderboard", kwargs={"slug": board.slug}) in get(world, "project_detail").content.decode()


def test_a_long_project_is_cut_and_says_so(world: World, board: Project, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "NEWEST_SLATES", 2)
    answer = get(world)
    assert answer.context["report"].slates == 2
    assert "These are the 2 newest judged slates" in main_of(answer)


def test_many_items_have_neighbours_and_no_matrix(world: World, board: Project, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "MOST_IN_MATRIX", 2)
    monkeypatch.setattr(module, "MOST_PAIRS", 1)
    monkeypatch.setattr(module, "MOST_PLOTTED", 2)
    answer = get(world, category="maths")
    assert answer.context["matrix"] is None
    assert "The matrix stands here for 2 or fewer" in main_of(answer)
    assert "1 more stands in the table" in main_of(answer)
    assert "Only neighbours stand here" in main_of(answer) or len(answer.context["report"].pairs) <= 1


def test_queries_of_the_battles_do_not_grow(world: World, board: Project) -> None:
    def count_queries() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert get(world, "leaderboard_battles", first="A", second="B").status_code == 200
        return len(queries)

    count_queries()
    before = count_queries()
    judge_often(board, "B", "A", times=8)
    make_slate(board)
    assert count_queries() == before


def test_a_setting_that_is_none_is_refused(world: World, board: Project) -> None:
    """The command's name for what the page calls `style`: an uncontrolled leaderboard in its place would mislead."""
    assert get(world, style="on").status_code == 200
    answer = get(world, style_control="on")
    assert answer.status_code == 422
    assert "Nothing here is called “style_control”." in answer.content.decode()
