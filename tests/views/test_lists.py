"""Lists: their query count does not grow with their rows."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotation.domain.assigning import claim_slot
from annotation.domain.judgement import Judgement
from annotation.domain.pipelines import start_pipeline
from annotation.domain.ranking import submit_ranking
from annotation.domain.runs import queue_run
from annotation.domain.snapshots import freeze_snapshot
from annotation.models import Model
from tests.annotation.factories import make_member, make_slate
from tests.views.conftest import World


def more_prompts(world: World) -> None:
    for _number in range(5):
        make_slate(world.project)


def more_rankings(world: World) -> None:
    more_prompts(world)
    annotator = world.members["annotator"]
    for _number in range(5):
        lease = claim_slot(annotator)
        assert lease is not None
        submit_ranking(annotator, token=lease.token, judgement=Judgement(tiers=[[0], [1], [2], [3]]))


def more_members(world: World) -> None:
    for _number in range(5):
        make_member(world.project)


def more_snapshots(world: World) -> None:
    for _number in range(3):
        freeze_snapshot(world.project, format="prompts", created_by=world.user("admin"))


def more_runs(world: World) -> None:
    user = world.user("engineer")
    for _number in range(5):
        queue_run(world.project, method="reward", settings={}, snapshot=world.snapshot, created_by=user)
    more_pipelines(world)


def more_pipelines(world: World) -> None:
    stage = {"name": "dpo", "spec": {"method": "dpo", "data": f"@snapshot/{world.snapshot.number}"}}
    for number in range(5):
        start_pipeline(
            world.project,
            name=f"p{number}",
            document={"stages": [stage, {**stage, "name": "second"}]},
            created_by=world.user("engineer"),
        )


def more_models(world: World) -> None:
    for number in range(5):
        Model.objects.create(project=world.project, name=f"m{number}", kind="policy", location=f"m{number}")


LISTS: dict[str, tuple[str, Callable[[World], None]]] = {
    "prompt_list": ("reviewer", more_prompts),
    "history": ("annotator", more_rankings),
    "member_list": ("admin", more_members),
    "snapshot_list": ("engineer", more_snapshots),
    "run_list": ("engineer", more_runs),
    "model_list": ("engineer", more_models),
    "project_detail": ("reviewer", more_rankings),
    "leaderboard": ("reviewer", more_rankings),
    "leaderboard_report": ("reviewer", more_rankings),
}


@pytest.mark.parametrize("name", LISTS)
def test_the_query_count_does_not_grow_with_the_rows(world: World, name: str) -> None:
    role, grow = LISTS[name]
    client = world.client(role)

    def count_queries() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(reverse(name, kwargs={"slug": world.project.slug})).status_code == 200
        return len(queries)

    count_queries()
    before = count_queries()
    grow(world)
    assert count_queries() == before


def test_the_query_count_of_pipelines_does_not_grow_with_them(world: World) -> None:
    """Begun with some, as the world has none."""
    client = world.client("engineer")
    address = reverse("pipeline_list", kwargs={"slug": world.project.slug})

    def count_queries() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(address).status_code == 200
        return len(queries)

    more_pipelines(world)
    before = count_queries()
    more_pipelines(world)
    assert count_queries() == before


def test_the_page_of_a_prompt_costs_the_same_with_more_responses_and_rankings(world: World) -> None:
    prompt = world.project.prompts.all()[0]
    client = world.client("reviewer")
    address = reverse("prompt_detail", kwargs={"slug": world.project.slug, "pk": prompt.pk})

    def count_queries() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(address).status_code == 200
        return len(queries)

    before = count_queries()
    for role in ("reviewer", "admin"):
        lease = claim_slot(world.members[role])
        assert lease is not None
        submit_ranking(world.members[role], token=lease.token, judgement=Judgement(tiers=[[0], [1], [2], [3]]))
    assert count_queries() == before


def test_fifty_rows_a_page(world: World) -> None:
    for _number in range(50):
        make_slate(world.project)
    client = world.client("reviewer")
    address = reverse("prompt_list", kwargs={"slug": world.project.slug})
    first, second = client.get(address).context["page"], client.get(address + "?page=2").context["page"]
    assert (len(first), len(second)) == (50, 3)
    assert client.get(address + "?page=nonsense").status_code == 200
