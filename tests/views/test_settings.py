"""The settings page: lists one a line, errors that name the line, and what stays once somebody has judged."""

from __future__ import annotations

import re

import pytest
from django.test import Client
from django.urls import reverse

from annotation.domain.assigning import claim_slot
from annotation.domain.judgement import Judgement, RankingRefused
from annotation.domain.ranking import submit_ranking
from annotation.domain.tasks import Flag, Scale, settings_of
from annotation.forms.tasks import TaskForm, read_flag, read_scale, write_flag, write_scale
from annotation.models import Membership, Project
from annotation.rendering import DEFAULT_PATTERNS
from tests.annotation.factories import make_member, make_project, make_slate

FILLED = {
    "kind": "best-worst",
    "scales": "Helpfulness: 0 not helpful; 2 partly; 4 fully helpful\r\n\r\nTone: 1; 3 kind\r\n",
    "slate_size": 5,
    "overlap": 2,
    "rationale": "required",
    "rationale_min": 20,
    "flags": "unsafe\nno-sources: names no source",
    "highlights": "on",
    "corrections": "best",
    "mask_patterns": "I am Qwen\ndeveloped by *",
    "amend_minutes": "",
    "break_after": 25,
    "lease_seconds": 600,
}


@pytest.fixture
def project(db: None) -> Project:
    return make_project(slug="p")


def client_of(project: Project, *, role: str = "admin") -> Client:
    client = Client()
    user = make_member(project, role=role).user
    assert user is not None
    client.force_login(user)
    return client


def address(project: Project) -> str:
    return reverse("project_settings", kwargs={"slug": project.slug})


def errors_of(field: str, text: str) -> list[str]:
    form = TaskForm(FILLED | {field: text}, settled=False)
    assert not form.is_valid()
    assert set(form.errors) == {field}
    return [str(error) for error in form.errors[field]]


@pytest.mark.parametrize(
    ("line", "scale"),
    [
        (
            "Helpfulness: 0 not helpful; 2 partly; 4 fully helpful",
            Scale("Helpfulness", {0: "not helpful", 1: "", 2: "partly", 3: "", 4: "fully helpful"}),
        ),
        ("Tone: 1; 3", Scale("Tone", {1: "", 2: "", 3: ""})),
        ("Depth: 0 a: b; 1", Scale("Depth", {0: "a: b", 1: ""})),
    ],
)
def test_a_scale_is_read_from_its_line_and_written_back(line, scale):
    assert read_scale(line) == scale
    assert write_scale(scale) == line


def test_a_line_typed_with_chinese_punctuation_is_read_alike():
    assert read_scale("语气：1 粗鲁；3 友善") == Scale("语气", {1: "粗鲁", 2: "", 3: "友善"})
    assert read_flag("无来源：没有来源") == Flag("无来源", "没有来源")


@pytest.mark.parametrize(
    ("line", "flag"), [("unsafe", Flag("unsafe", "")), ("dull: says: nothing", Flag("dull", "says: nothing"))]
)
def test_a_flag_is_read_from_its_line_and_written_back(line, flag):
    assert read_flag(line) == flag
    assert write_flag(flag) == line


def test_errors_name_the_line_and_what_to_do():
    """Lines are counted as they stand in the field, empty ones too."""
    text = "\nHelp 0 bad; 4 good\nTone: bad; good\n\nDepth: 4; 0\nWidth: 0; 11\nA: 0; 1\na: 0; 1\n: 0; 1"
    assert errors_of("scales", text) == [
        "Line 2: Put a colon between the scale's name and its points.",
        "Line 3: Begin each point with its number, and put semicolons between the points.",
        "Line 5: Let the points rise from left to right, each number once.",
        "Line 6: A scale has at least two points; its lowest is 0 or more, its highest 10 or less.",
        "Line 8: “a” stands on an earlier line already; keep one.",
        "Line 9: Give the scale a name of 1 to 60 characters without a colon.",
    ]
    assert errors_of("flags", "unsafe\ndull\nBad Key: x\nunsafe: twice") == [
        "Line 2: “dull” is no known flag (unsafe, broken, off-language, self-identifies): write a label for annotators "
        "behind it, after a colon.",
        "Line 3: A flag's key is made of the letters a to z, digits and hyphens, at most 40 of them.",
        "Line 4: “unsafe” stands on an earlier line already; keep one.",
    ]
    assert errors_of("mask_patterns", "I am Qwen\n***") == ["Line 2: “***” has no word in it."]
    assert errors_of("scales", "\n".join(f"S{n}: 0; 1" for n in range(13))) == ["There are more than 12; remove some."]


def test_settings_are_saved_and_shown_as_they_were_typed(project):
    client = client_of(project)
    assert client.post(address(project), FILLED).status_code == 302
    saved = settings_of(Project.objects.get())
    assert saved.scales == (
        Scale("Helpfulness", {0: "not helpful", 1: "", 2: "partly", 3: "", 4: "fully helpful"}),
        Scale("Tone", {1: "", 2: "", 3: "kind"}),
    )
    assert saved.flags == (Flag("unsafe", ""), Flag("no-sources", "names no source"))
    assert saved.mask_patterns == ("I am Qwen", "developed by *")
    assert saved.show_verdicts is False
    assert (saved.kind, saved.slate_size, saved.overlap) == ("best-worst", 5, 2)
    assert (saved.rationale, saved.rationale_min, saved.corrections, saved.highlights) == ("required", 20, "best", True)
    assert (saved.amend_minutes, saved.break_after, saved.lease_seconds) == (None, 25, 600)
    body = client.get(address(project)).content.decode()
    assert "Helpfulness: 0 not helpful; 2 partly; 4 fully helpful\nTone: 1; 3 kind</textarea>" in body
    assert "unsafe\nno-sources: names no source</textarea>" in body
    assert "The settings are saved." in body


def test_a_wrong_line_keeps_what_was_typed_and_changes_nothing(project):
    before = settings_of(project)
    answer = client_of(project).post(address(project), FILLED | {"scales": "Help 0; 4"})
    assert answer.status_code == 422
    body = answer.content.decode()
    assert "Line 1: Put a colon between the scale" in body
    assert "Help 0; 4</textarea>" in body
    assert settings_of(Project.objects.get()) == before


def test_pairs_where_slates_are_larger_are_refused_in_place(project):
    make_slate(project, count=4)
    answer = client_of(project).post(address(project), FILLED | {"kind": "pairwise"})
    assert answer.status_code == 422
    assert "1 slate does not have two responses" in answer.content.decode()


def test_once_somebody_has_judged_the_kind_cannot_be_chosen_and_the_page_says_why(world):
    client = world.client("admin")
    body = client.get(address(world.project)).content.decode()
    assert "A new question is a new project." in body
    assert re.search(r'<select name="kind"[^>]* disabled', body)
    answer = client.post(address(world.project), FILLED | {"scales": ""})
    assert answer.status_code == 302
    world.project.refresh_from_db()
    assert (world.project.task, world.project.overlap) == ("ranking", 2)
    refused = client.post(address(world.project), FILLED)
    assert refused.status_code == 422
    assert "People have judged here, so the kind of task and the scales stay." in refused.content.decode()


def test_admins_find_the_settings_and_annotators_do_not(world):
    links = {role: address(world.project) in world.client(role).get("/projects/circle/").content.decode()
             for role in ("admin", "annotator", "reviewer", "engineer")}  # fmt: skip
    assert links == {"admin": True, "annotator": False, "reviewer": False, "engineer": False}


@pytest.mark.django_db
@pytest.mark.parametrize("role", ["annotator", "admin"])
def test_the_project_page_says_what_is_asked(role):
    scales = (Scale("Help", {0: "", 1: "", 2: ""}), Scale("Tone", {1: "", 2: ""}))
    project = make_project(slug="asked", kind="best", scales=scales, rationale="required")
    body = client_of(project, role=role).get("/projects/asked/").content.decode()
    said = "Annotators choose the best response. There are scales: Help (0–2), Tone (1–2). A reason is required."
    assert said in body


def test_the_settings_say_that_every_response_is_rated_and_so_it_is(db):
    project = make_project(slug="rated", kind="ranking", scales=[Scale("Help", {0: "", 1: "", 2: ""})], slate_size=2)
    make_slate(project, count=2)
    said = "Every response is rated on every scale, beside an order too"
    assert said in client_of(project, role="admin").get("/projects/rated/settings/").content.decode()
    annotator = make_member(project)
    lease = claim_slot(annotator)
    with pytest.raises(RankingRefused, match="Help: not rated for B"):
        submit_ranking(annotator, token=lease.token, judgement=Judgement(tiers=[[0], [1]], ratings={"Help": {0: 1}}))


def test_a_new_project_is_made_with_its_kind(world):
    client = world.client("admin")
    user = world.user("admin")
    user.is_staff = True
    user.save()
    data = {"name": "Pairs", "slug": "pairs", "task": "pairwise", "slate_size": 4, "overlap": 1, "guidelines": "g"}
    assert client.post(reverse("project_new"), data).status_code == 302
    made = Project.objects.get(slug="pairs")
    assert (made.task, made.slate_size, tuple(made.mask_patterns)) == ("pairwise", 2, DEFAULT_PATTERNS)
    refused = client.post(reverse("project_new"), data | {"slug": "rated", "task": "rating"})
    assert refused.status_code == 422
    assert "Ratings need at least one scale." in refused.content.decode()
    assert not Membership.objects.filter(project__slug="rated").exists()
    rated = data | {"slug": "rated", "task": "rating", "scales": "Help: 0; 4"}
    assert client.post(reverse("project_new"), rated).status_code == 302
