"""The API: the same promises as the pages, and nothing that tells an annotator where a response came from."""

from __future__ import annotations

import pytest
from rest_framework.test import APIClient

from annotation.api import urls
from annotation.domain import runs
from annotation.models import Ranking
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
}


@pytest.fixture
def project():
    project = make_project(slug="apiproject", overlap=9)
    make_slate(project)
    runs.queue_run(project, method="generate", settings={})
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
    assert set(slate) == {"token", "prompt", "responses"}
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


def test_an_engineer_queues_watches_and_cancels_a_run(project):
    client = client_of(make_member(project, role="engineer").user)
    made = client.post(address("api_runs"), {"method": "generate", "settings": {"n": 2}}, format="json")
    assert (made.status_code, made.json()["state"], made.json()["spec"]["n"]) == (201, "queued", 2)
    refused = client.post(address("api_runs"), {"method": "reward"}, format="json")
    assert (refused.status_code, refused.json()) == (422, {"problems": ["Choose the snapshot to train on."]})
    assert client.post(address("api_run_cancel")).json()["state"] == "cancelled"
    assert client.get(address("api_run")).json()["state"] == "cancelled"
    assert client.get(address("api_run").replace("/1/", "/77/")).status_code == 404
