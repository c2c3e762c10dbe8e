"""The API: the same promises as the pages, and nothing that tells an annotator where a response came from."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from annotation.api import urls
from annotation.domain import runs
from annotation.domain.collecting import add_model
from annotation.domain.guidelines import mark_read
from annotation.domain.projects import publish_guidelines
from annotation.domain.snapshots import freeze_snapshot
from annotation.models import Pipeline, Project, Ranking, Run
from tests.annotation.factories import make_member, make_project, make_slate, make_user

pytestmark = pytest.mark.django_db

# route name: method, roles that may, body
ROUTES = {
    "api_projects": ("get", {"annotator", "reviewer", "admin", "engineer"}),
    "api_next_slate": ("post", {"annotator", "reviewer", "admin"}),
    "api_rankings": ("post", {"annotator", "reviewer", "admin"}),
    "api_runs": ("get", {"admin", "engineer"}),
    "api_run": ("get", {"admin", "engineer"}),
    "api_run_cancel": ("post", {"admin", "engineer"}),
    "api_pipelines": ("get", {"admin", "engineer"}),
    "api_pipeline": ("get", {"admin", "engineer"}),
    "api_pipeline_cancel": ("post", {"admin", "engineer"}),
    "api_pipeline_resume": ("post", {"admin", "engineer"}),
    "api_advice": ("get", {"admin", "engineer"}),
}


@pytest.fixture
def project():
    project = make_project(slug="apiproject", overlap=9)
    make_slate(project)
    runs.queue_run(project, method="generate", settings={})
    Pipeline.objects.create(project=project, number=1, name="Empty", spec={"stages": []}, state="succeeded")
    return project


def address(name: str, *, slug: str = "apiproject") -> str:
    route = next(pattern for pattern in urls.urlpatterns if pattern.name == name)
    return "/api/v1/" + str(route.pattern).replace("<slug:slug>", slug).replace("<int:number>", "1")


def client_of(user) -> APIClient:
    client = APIClient()
    client.force_authenticate(user)
    return client


def test_every_route_has_a_row():
    assert set(ROUTES) == {pattern.name for pattern in urls.urlpatterns}


@pytest.mark.parametrize("name", ROUTES)
def test_strangers_find_nothing_and_the_wrong_role_or_method_is_refused(name, project):
    method, allowed = ROUTES[name]
    assert getattr(APIClient(), method)(address(name)).status_code == 403
    if name != "api_projects":
        assert getattr(client_of(make_user()), method)(address(name)).status_code == 404
    for role in ("annotator", "reviewer", "admin", "engineer"):
        status = getattr(client_of(make_member(project, role=role).user), method)(
            address(name), {}, format="json"
        ).status_code
        assert (status == 403) == (role not in allowed), (role, status)
    assert client_of(make_member(project, role="admin").user).delete(address(name)).status_code == 405


def test_a_write_from_another_site_without_token_is_refused(project):
    member = make_member(project)
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(member.user)
    assert client.post(address("api_next_slate")).status_code == 403


def test_a_slate_is_ranked_through_the_api_and_its_sources_stay_hidden(project):
    client = client_of(make_member(project).user)
    answer = client.post(address("api_next_slate"))
    slate = answer.json()
    assert set(slate) == {"token", "prompt", "responses", "task"}
    assert (slate["task"]["kind"], slate["task"]["scales"]) == ("ranking", [])
    assert b"secret-source" not in answer.content
    assert not any("secret-source" in f"{key}{value}" for key, value in answer.headers.items())
    body = {"token": slate["token"], "tiers": [[3], [0, 1], [2]], "active_ms": 1500}
    first, second = (client.post(address("api_rankings"), body, format="json") for _ in range(2))
    assert (first.status_code, second.json()) == (200, first.json())
    ranking = Ranking.objects.get()
    assert ranking.tiers[0] == [ranking.presented_order[3]]


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"tiers": [[0]]}, 422),
        ({"tiers": "x"}, 400),
        ({"tiers": [[99]]}, 400),
        ({"token": "nonsense"}, 400),
        ({"token": "00000000-0000-0000-0000-000000000000"}, 404),
        ({"active_ms": -1}, 400),
    ],
)
def test_bad_submissions_are_refused_and_nothing_is_stored(project, change, status):
    client = client_of(make_member(project).user)
    token = client.post(address("api_next_slate")).json()["token"]
    body = {"token": token, "tiers": [[0], [1], [2], [3]]} | change
    assert client.post(address("api_rankings"), body, format="json").status_code == status
    assert not Ranking.objects.exists()


def test_everything_beside_the_order_goes_through_the_api_by_position(project):
    project.scales = [{"name": "Clarity", "points": {"0": "unclear", "1": "clear"}}]
    project.save()
    client = client_of(make_member(project).user)
    slate = client.post(address("api_next_slate")).json()
    text = slate["responses"][2]
    body = {
        "token": slate["token"],
        "tiers": [[2], [0, 1, 3]],
        "ratings": {"Clarity": [0, 1, 1, 0]},
        "flags": [[], ["unsafe"]],
        "highlights": [{"position": 2, "start": 0, "end": 6, "quote": text[:6], "comment": "well begun"}],
        "corrections": {"2": f"{text} More."},
        "rationale": "C is best.",
    }
    assert client.post(address("api_rankings"), body, format="json").status_code == 200
    ranking = Ranking.objects.get()
    a, b, c, d = ranking.presented_order
    assert ranking.ratings == {"Clarity": {str(a): 0, str(b): 1, str(c): 1, str(d): 0}}
    assert (ranking.flags, ranking.corrections) == ({str(b): ["unsafe"]}, {str(c): f"{text} More."})
    assert ranking.highlights[0]["response"] == c
    wrong = body | {"token": slate["token"], "corrections": {"x": "?"}}
    assert client.post(address("api_rankings"), wrong, format="json").status_code == 400


def test_a_comparison_is_sent_as_a_strength(project):
    """Positive is for the second as given, whatever its place in the slate."""
    Project.objects.filter(pk=project.pk).update(task="pairwise", slate_size=2)
    slate_of_two = make_slate(project, count=2)
    project.slates.exclude(pk=slate_of_two.pk).update(priority=-1)
    client = client_of(make_member(project).user)
    token = client.post(address("api_next_slate")).json()["token"]
    body = {"token": token, "strength": 2}
    assert client.post(address("api_rankings"), body, format="json").status_code == 200
    ranking = Ranking.objects.get()
    left, right = ranking.presented_order
    canonical = slate_of_two.places.get(position=0).response_id
    assert (ranking.tiers, ranking.strength) == ([[right], [left]], 2 if canonical == left else -2)


def test_guidelines_that_changed_come_before_the_next_slate(project):
    member = make_member(project)
    client = client_of(member.user)
    mark_read(member, version=1)
    assert client.post(address("api_next_slate")).status_code == 200
    publish_guidelines(project, text="Rank by how short it is.")
    assert client.post(address("api_next_slate")).status_code == 409


def test_an_engineer_queues_watches_and_cancels_a_run(project):
    client = client_of(make_member(project, role="engineer").user)
    made = client.post(address("api_runs"), {"method": "generate", "settings": {"n": 2}}, format="json")
    assert (made.status_code, made.json()["state"], made.json()["spec"]["n"]) == (201, "queued", 2)
    refused = client.post(address("api_runs"), {"method": "reward"}, format="json")
    assert (refused.status_code, refused.json()) == (422, {"problems": ["Choose the snapshot to train on."]})
    assert client.post(address("api_run_cancel")).json()["state"] == "cancelled"
    assert client.get(address("api_run")).json()["state"] == "cancelled"
    assert client.get(address("api_run").replace("/1/", "/77/")).status_code == 404


def test_a_policy_is_trained_against_models_named_as_in_the_registry(project):
    """Of other methods than these, a reward model is refused with the setting's name; a name that is none, 404."""
    for _ in range(9):
        make_slate(project)
    snapshot = freeze_snapshot(project, format="prompts", shares=(0.5, 0.0, 0.5))
    for name, kind in (("base", "policy"), ("rm", "reward"), ("gold", "reward")):
        add_model(project, name=name, kind=kind, location=f"some/{name}")
    client = client_of(make_member(project, role="engineer").user)
    asked = {
        "method": "grpo",
        "snapshot": snapshot.number,
        "base_model": "base",
        "reward_model": "rm",
        "gold_model": "gold",
    }
    answer = client.post(address("api_runs"), asked | {"settings": {"group_size": 4}}, format="json")
    assert answer.status_code == 201
    run = Run.objects.get(number=answer.data["number"])
    assert (run.base_model.name, run.reward_model.name, run.gold_model.name) == ("base", "rm", "gold")
    refused = client.post(address("api_runs"), asked | {"reward_model": "base"}, format="json")
    assert (refused.status_code, refused.data["problems"]) == (
        422, ["reward_model: base is a policy; choose a reward model."],
    )  # fmt: skip
    assert client.post(address("api_runs"), asked | {"reward_model": "none"}, format="json").status_code == 404
