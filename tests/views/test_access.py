"""Every route, by table: the signed-out are sent to sign in, strangers get 404, wrong roles 403, wrong methods 405,
wrong ids 404. A route without a row fails.
"""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from django.urls import URLPattern, URLResolver, reverse

from annotation.domain.judgement import Judgement
from annotation.domain.messages import ask
from annotation.domain.pipelines import start_pipeline
from annotation.domain.practice import add_example
from annotation.models import Pipeline, PracticeExample, Run, SlateMessage
from annotation.rules import ACTIONS
from annotation.urls import project_patterns, urlpatterns
from tests.views.conftest import ROLES, World


@dataclass(frozen=True)
class Row:
    """What a route demands: the methods it takes and the right each needs; which of its parts can be wrong."""

    methods: dict[str, str]
    part: str | None = None


ROWS = {
    "project_detail": Row({"get": "view"}),
    "guidelines": Row({"get": "view", "post": "manage"}),
    "member_list": Row({"get": "manage", "post": "manage"}),
    "project_settings": Row({"get": "manage", "post": "manage"}),
    "import_data": Row({"get": "manage", "post": "manage"}),
    "rank": Row({"get": "annotate"}),
    "rank_claim": Row({"post": "annotate"}),
    "rank_submit": Row({"post": "annotate"}),
    "rank_skip": Row({"post": "annotate"}),
    "rank_prefetch": Row({"post": "annotate"}),
    "rank_renew": Row({"post": "annotate"}),
    "rank_draft": Row({"post": "annotate"}),
    "rank_preview": Row({"post": "annotate"}),
    "rank_undo": Row({"post": "annotate"}),
    "ranking_amend": Row({"get": "annotate", "post": "annotate"}, part="pk"),
    "rank_message": Row({"post": "annotate"}),
    "history": Row({"get": "annotate"}),
    "message_list": Row({"get": "annotate"}),
    "message_reply": Row({"post": "annotate"}, part="pk"),
    "message_seen": Row({"post": "annotate"}, part="pk"),
    "practice_list": Row({"get": "annotate", "post": "manage"}),
    "practice_next": Row({"get": "annotate"}),
    "practice_example": Row({"get": "annotate", "post": "annotate"}, part="number"),
    "practice_result": Row({"get": "annotate"}, part="number"),
    "practice_remove": Row({"post": "manage"}, part="number"),
    "practice_add": Row({"post": "manage"}, part="pk"),
    "agreement": Row({"get": "review"}),
    "leaderboard": Row({"get": "review"}),
    "leaderboard_items": Row({"get": "review"}),
    "leaderboard_pairs": Row({"get": "review"}),
    "leaderboard_report": Row({"get": "review"}),
    "leaderboard_battles": Row({"get": "review"}),
    "prompt_list": Row({"get": "review"}),
    "prompt_detail": Row({"get": "review"}, part="pk"),
    "conflict_list": Row({"get": "review"}),
    "snapshot_list": Row({"get": "export", "post": "export"}),
    "snapshot_detail": Row({"get": "export"}, part="number"),
    "snapshot_file": Row({"get": "export"}, part="name"),
    "run_list": Row({"get": "train"}),
    "run_new": Row({"get": "train", "post": "train"}),
    "run_compare": Row({"get": "train"}),
    "run_detail": Row({"get": "train"}, part="number"),
    "run_state": Row({"get": "train"}, part="number"),
    "run_live": Row({"get": "train"}, part="number"),
    "run_samples": Row({"get": "train"}, part="number"),
    "run_metrics": Row({"get": "train"}, part="number"),
    "run_cancel": Row({"post": "train"}, part="number"),
    "run_register": Row({"post": "train"}, part="number"),
    "pipeline_list": Row({"get": "train"}),
    "pipeline_new": Row({"get": "train", "post": "train"}),
    "pipeline_detail": Row({"get": "train"}, part="number"),
    "pipeline_state": Row({"get": "train"}, part="number"),
    "pipeline_cancel": Row({"post": "train"}, part="number"),
    "pipeline_resume": Row({"post": "train"}, part="number"),
    "advice": Row({"get": "train", "post": "train"}),
    "model_list": Row({"get": "train"}),
    "model_detail": Row({"get": "train"}, part="pk"),
}
OUTSIDE = {"project_list", "login", "logout", "set_language", "project_new"}
NEEDS_A_LEASE = {"rank_submit", "rank_skip", "rank_prefetch", "rank_renew", "rank_draft", "rank_message"}
WRONG = {"pk": 999_999, "number": 999_999, "name": "../manifest.json"}
CASES = [(name, method) for name, row in ROWS.items() for method in row.methods]


def names_of(patterns: list[URLPattern | URLResolver]) -> set[str | None]:
    return {pattern.name for pattern in patterns if isinstance(pattern, URLPattern)}


def question_of(world: World) -> SlateMessage:
    """What the annotator asked about the slate that they ranked."""
    asked = SlateMessage.objects.filter(annotator=world.members["annotator"]).first()
    return asked or ask(world.members["annotator"], lease_token=world.ranking.token, text="Is B cut off?")


def pipeline_of(world: World) -> Pipeline:
    """The project's first pipeline."""
    pipeline = world.project.pipelines.first()
    if pipeline is not None:
        return pipeline
    stage = {"name": "dpo", "spec": {"method": "dpo", "data": f"@snapshot/{world.snapshot.number}"}}
    return start_pipeline(world.project, name="One", document={"stages": [stage]})


def example_of(world: World) -> PracticeExample:
    """The project's first practice example."""
    example = world.project.practice_examples.first()
    if example is not None:
        return example
    asked, answer = [{"role": "user", "content": "How many?"}], Judgement(tiers=[[0], [1]])
    return add_example(
        world.project, messages=asked, responses=["75", "84"], answer=answer, explanation="**75** adds up."
    )


def online_run_of(world: World) -> Run:
    """A run whose policy learns from its own responses."""
    return Run.objects.get_or_create(project=world.project, number=2, method="ppo", spec={})[0]


def address(world: World, route: str, **wrong: object) -> str:
    kwargs: dict[str, object] = {"slug": world.project.slug}
    if route in ("ranking_amend", "practice_add"):
        kwargs["pk"] = world.ranking.pk
    elif route in ("message_reply", "message_seen"):
        kwargs["pk"] = question_of(world).pk
    elif ROWS[route].part == "number" and route.startswith("practice_"):
        kwargs["number"] = example_of(world).number
    elif route == "prompt_detail":
        kwargs["pk"] = world.project.prompts.all()[0].pk
    elif route == "model_detail":
        kwargs["pk"] = world.model.pk
    elif route.startswith("snapshot_") and route != "snapshot_list":
        kwargs["number"] = world.snapshot.number
    elif ROWS[route].part == "number" and route.startswith("pipeline_"):
        kwargs["number"] = pipeline_of(world).number
    elif route in ("run_live", "run_samples"):
        kwargs["number"] = online_run_of(world).number
    elif ROWS[route].part == "number":
        kwargs["number"] = world.run.number
    if route == "snapshot_file":
        kwargs["name"] = "train.jsonl"
    return reverse(route, kwargs=kwargs | wrong)


def test_every_route_has_a_row() -> None:
    assert names_of(project_patterns) == set(ROWS)
    assert names_of(urlpatterns) == OUTSIDE


@pytest.mark.parametrize(("name", "method"), CASES)
def test_the_signed_out_are_sent_to_sign_in(world: World, name: str, method: str) -> None:
    answer = getattr(world.client(""), method)(address(world, name))
    assert answer.status_code == 302
    assert answer.headers["Location"].startswith(reverse("login"))


@pytest.mark.parametrize(("name", "method"), CASES)
def test_a_stranger_learns_nothing(world: World, name: str, method: str) -> None:
    assert getattr(world.client("stranger"), method)(address(world, name)).status_code == 404


@pytest.mark.parametrize(("name", "method"), CASES)
def test_the_wrong_role_is_refused_and_the_right_one_is_not(world: World, name: str, method: str) -> None:
    allowed = ACTIONS[ROWS[name].methods[method]]
    for role in ROLES:
        status = getattr(world.client(role), method)(address(world, name)).status_code
        if role not in allowed:
            assert status == 403, role
        elif name in NEEDS_A_LEASE or (name == "ranking_amend" and role != "annotator"):
            assert status == 404, role  # no lease was named, or the ranking is somebody else's
        else:
            assert status in (200, 302, 422), role


@pytest.mark.parametrize("name", ROWS)
def test_the_wrong_method_is_refused(world: World, name: str) -> None:
    client = world.client("admin")
    for method in {"get", "post", "put", "delete"} - set(ROWS[name].methods):
        assert getattr(client, method)(address(world, name)).status_code == 405, method


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row.part])
def test_a_wrong_id_is_not_found(world: World, name: str) -> None:
    part = ROWS[name].part or ""
    for method in ROWS[name].methods:
        answer = getattr(world.client("admin"), method)(address(world, name, **{part: WRONG[part]}))
        assert answer.status_code == 404


def test_a_project_of_one_is_closed_to_the_admin_of_another(world: World) -> None:
    from tests.annotation.factories import make_member, make_project

    other = make_member(make_project(), role="admin")
    assert other.user is not None
    client = world.client("")
    client.force_login(other.user)
    for name, method in CASES:
        assert getattr(client, method)(address(world, name)).status_code == 404, name


def test_only_staff_make_projects(world: World) -> None:
    client = world.client("admin")
    assert client.get(reverse("project_new")).status_code == 403
    user = world.user("admin")
    user.is_staff = True
    user.save()
    assert client.get(reverse("project_new")).status_code == 200
    assert client.delete(reverse("project_new")).status_code == 405


def test_the_list_of_projects_is_ones_own(world: World) -> None:
    assert "circle" not in world.client("stranger").get(reverse("project_list")).content.decode()
    assert "/projects/circle/" in world.client("annotator").get(reverse("project_list")).content.decode()
    assert world.client("").get(reverse("project_list")).status_code == 302
    assert world.client("admin").post(reverse("project_list")).status_code == 405
    assert world.client("admin").get(reverse("logout")).status_code == 405
    assert world.client("").put(reverse("login")).status_code == 405


@pytest.mark.parametrize(("name", "method"), [case for case in CASES if case[1] == "post"])
def test_a_form_without_its_csrf_token_is_refused(world: World, name: str, method: str) -> None:
    from django.test import Client

    client = Client(enforce_csrf_checks=True)
    user = world.user("admin")
    client.force_login(user)
    assert client.post(address(world, name)).status_code == 403
