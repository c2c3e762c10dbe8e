"""Pages and API of pipelines: templates, text of one's own, the graph with figures and gates, going on."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from rest_framework.test import APIClient

from annotation.domain import pipelines, runs
from annotation.domain.pipeline_templates import TEMPLATES
from annotation.domain.snapshots import freeze_snapshot
from annotation.models import Model, Pipeline, PipelineStage, Project, Run, Snapshot
from annotation.views.pipeline_graph import StageView, draw_graph
from tests.views.conftest import HALVES, World


def url(world: World, route: str, **kwargs: object) -> str:
    return reverse(route, kwargs={"slug": world.project.slug} | kwargs)


def freeze(project: Project, *, format: str) -> Snapshot:
    """A snapshot with rows in either split that a training needs."""
    for seed in itertools.count():
        snapshot = freeze_snapshot(project, format=format, split_seed=seed, shares=HALVES)
        rows = snapshot.manifest["counts"]["rows"]
        if rows["train"] and rows["test"]:
            return snapshot
    raise AssertionError


@pytest.fixture
def snapshots(world: World) -> dict[str, Snapshot]:
    """One of each format that templates need."""
    return {"trl-preference": world.snapshot} | {
        name: freeze(world.project, format=name) for name in ("sft", "prompts")
    }


def document(snapshot: Snapshot, *, gate: dict[str, Any] | None = None) -> dict[str, Any]:
    data = f"@snapshot/{snapshot.number}"
    first: dict[str, Any] = {"name": "first", "spec": {"method": "dpo", "data": data}}
    if gate is not None:
        first["gate"] = gate
    return {"stages": [first, {"name": "second", "spec": {"method": "dpo", "model": "@first", "data": data}}]}


def finish(run: Run | None, *, accuracy: float) -> None:
    """As the worker writes it down, without a run directory."""
    assert run is not None
    held = {"accuracy": accuracy, "interval": [accuracy - 0.05, accuracy + 0.05], "n": 40, "n_prompts": 20}
    report = {"method": "dpo", "heldout": held, "baselines": {"untrained": {"accuracy": 0.5, "interval": [0.4, 0.6]}}}
    Run.objects.filter(pk=run.pk).update(state="succeeded", report=report)
    pipelines.advance_waiting()


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda template: template.key)
def test_a_template_is_started_with_a_model_and_its_snapshots(
    world: World, snapshots: dict[str, Snapshot], template: Any
) -> None:
    client = world.client("engineer")
    chosen = {f"snapshot_{name}": snapshots[name].number for name in template.formats}
    page = client.get(url(world, "pipeline_new"), {"template": template.key, "model": world.model.pk, **chosen})
    assert page.status_code == 200
    for number in chosen.values():
        assert f'<option value="{number}" selected>' in page.content.decode()
    asked = {"template": template.key, "name": "Mine", "base_model": world.model.pk, **chosen}
    answer = client.post(url(world, "pipeline_new"), asked)
    pipeline = Pipeline.objects.get()
    assert answer.headers["Location"] == url(world, "pipeline_detail", number=pipeline.number)
    assert (pipeline.name, pipeline.created_by) == ("Mine", world.user("engineer"))
    assert [row.name for row in pipeline.stages.all()] == [stage["name"] for stage in template.stages]
    first = pipeline.stages.get(position=1).run
    assert first is not None
    assert (first.base_model, first.state) == (world.model, "queued")
    assert client.get(answer.headers["Location"]).status_code == 200


def test_a_template_may_be_edited_as_text_before_it_starts(world: World, snapshots: dict[str, Snapshot]) -> None:
    client = world.client("engineer")
    chosen = {f"snapshot_{name}": snapshots[name].number for name in TEMPLATES[1].formats}
    asked = {"template": TEMPLATES[1].key, "name": "Mine", "model": "hub/small", "edit": "1", **chosen}
    page = client.post(url(world, "pipeline_new"), asked)
    text = page.context["form"].initial["text"]
    assert not Pipeline.objects.exists()
    assert "reward_model: '@reward'" in text
    assert "model: hub/small" in text
    changed = text.replace("method: ppo\n", "method: ppo\n    batch_size: 16\n")
    answer = client.post(url(world, "pipeline_new"), {"template": "own", "name": "Mine", "text": changed})
    assert answer.status_code == 302, answer.context["form"].errors
    assert Pipeline.objects.get().spec["stages"][1]["spec"]["batch_size"] == 16


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("stages: [", "not valid YAML or JSON"),
        ("model: @sft", "write references in quotes"),
        ("a: 1", "pipeline: unknown &#x27;a&#x27;"),
        ("stages: [{name: x, spec: {method: dpo, data: '@snapshot/9', epochs: 0}}]", "stage x: spec.epochs: must be"),
        ("stages: [{name: x, spec: {method: dpo, data: '@snapshot/9'}}]", "is no snapshot of this project"),
    ],
)
def test_a_wrong_text_comes_back_with_what_is_wrong_at_its_field(world: World, text: str, message: str) -> None:
    answer = world.client("engineer").post(
        url(world, "pipeline_new"), {"template": "own", "name": "Mine", "text": text}
    )
    assert answer.status_code == 422
    assert message in answer.content.decode()
    assert list(answer.context["form"].errors) == ["text"]
    assert answer.context["form"]["text"].value() == text
    assert not Pipeline.objects.exists()


def test_a_template_without_its_snapshots_says_which_to_freeze(world: World) -> None:
    page = world.client("engineer").get(url(world, "pipeline_new")).content.decode()
    assert page.count("This needs a snapshot in the format") == 2
    assert "“Supervised fine-tuning”" in page
    assert "“Prompts only”" in page
    assert world.client("engineer").get(url(world, "pipeline_new"), {"template": "none"}).status_code == 404


def test_two_models_or_a_reference_for_one_are_refused_at_their_field(
    world: World, snapshots: dict[str, Snapshot]
) -> None:
    chosen = {f"snapshot_{name}": snapshots[name].number for name in TEMPLATES[2].formats}
    asked = {"template": TEMPLATES[2].key, "name": "x", "base_model": world.model.pk, **chosen}
    client = world.client("engineer")
    for model in ("hub/small", "@sft"):
        answer = client.post(url(world, "pipeline_new"), asked | {"model": model})
        assert (answer.status_code, list(answer.context["form"].errors)) == (422, ["model"])


def test_the_page_shows_each_stage_with_state_figure_gate_run_and_model(world: World) -> None:
    gate = {"metric": "accuracy", "at_least": 0.5, "judge_by": "whole-interval", "tolerance": 0.01}
    pipeline = pipelines.start_pipeline(world.project, name="Two", document=document(world.snapshot, gate=gate))
    client = world.client("engineer")
    before = client.get(url(world, "pipeline_detail", number=1)).context["stages"]
    assert [(stage.state, stage.gate and stage.gate.holds) for stage in before] == [("queued", None), ("waiting", None)]
    first = pipeline.stages.get(name="first").run
    assert first is not None
    finish(first, accuracy=0.75)
    page = client.get(url(world, "pipeline_detail", number=1))
    stage = page.context["stages"][0]
    assert (stage.figure.metric, stage.figure.value, stage.figure.low, stage.figure.high) == (
        "accuracy", "75.0 %", "70.0 %", "80.0 %"
    )  # fmt: skip
    assert (stage.gate.holds, stage.gate.sign, stage.gate.bound, stage.gate.tolerance) == (True, "≥", "50.0 %", "1.0 %")
    text = " ".join(page.content.decode().split())
    assert ", tolerance 1.0 %" in text
    assert "by the whole interval" in text
    model = Model.objects.get(run=first)
    assert f'<a href="{url(world, "model_detail", pk=model.pk)}">pipeline-1-first</a>' in text
    assert f'href="{url(world, "run_detail", number=first.number)}"' in text
    run_page = client.get(url(world, "run_detail", number=first.number)).content.decode()
    assert url(world, "pipeline_detail", number=1) in run_page


def test_a_held_pipeline_says_where_and_an_engineer_goes_on_by_name(world: World) -> None:
    gate = {"metric": "accuracy", "at_least": 0.9}
    pipeline = pipelines.start_pipeline(world.project, name="Two", document=document(world.snapshot, gate=gate))
    finish(pipeline.stages.get(name="first").run, accuracy=0.75)
    client = world.client("engineer")
    page = client.get(url(world, "pipeline_detail", number=1)).content.decode()
    assert "The gate of stage first does not hold." in page
    assert "Go on in spite of the gate" in page
    assert '<input type="hidden" name="stage" value="first">' in page
    stale = client.post(url(world, "pipeline_resume", number=1), {"stage": "second"}, follow=True).content.decode()
    assert "The gate of stage first holds it" in stale
    answer = client.post(url(world, "pipeline_resume", number=1), {"stage": "first"})
    page = client.get(answer.headers["Location"]).content.decode()
    name = world.user("engineer").get_username()
    assert f"{name} went on in spite of it" in page
    assert PipelineStage.objects.get(name="second").run is not None


def test_a_pipeline_held_again_says_at_which_gate(world: World) -> None:
    gate = {"metric": "accuracy", "at_least": 0.9}
    held_twice = document(world.snapshot, gate=gate)
    held_twice["stages"][1]["gate"] = gate
    pipeline = pipelines.start_pipeline(world.project, name="Two", document=held_twice)
    client = world.client("engineer")
    for name in ("first", "second"):
        finish(pipeline.stages.get(name=name).run, accuracy=0.75)
        page = client.get(url(world, "pipeline_detail", number=1)).content.decode()
        assert f"The gate of stage {name} does not hold." in page
        client.post(url(world, "pipeline_resume", number=1), {"stage": name})
    pipeline.refresh_from_db()
    assert pipeline.state == "succeeded"


def test_cancelling_and_going_on_are_buttons(world: World) -> None:
    pipelines.start_pipeline(world.project, name="Two", document=document(world.snapshot))
    client = world.client("engineer")
    assert "Cancel pipeline" in client.get(url(world, "pipeline_detail", number=1)).content.decode()
    client.post(url(world, "pipeline_cancel", number=1))
    pipeline = Pipeline.objects.get()
    assert pipeline.state == "cancelled"
    page = client.get(url(world, "pipeline_detail", number=1)).content.decode()
    assert "Cancel pipeline" not in page
    client.post(url(world, "pipeline_resume", number=1))
    pipeline.refresh_from_db()
    assert pipeline.state == "running"
    again = client.post(url(world, "pipeline_resume", number=1), follow=True).content.decode()
    assert "Only a pipeline that is held, failed or was cancelled can go on." in again


def test_a_poll_answers_nothing_until_something_changed_and_has_the_page_reloaded_at_the_end(world: World) -> None:
    pipeline = pipelines.start_pipeline(world.project, name="Two", document=document(world.snapshot))
    client = world.client("engineer")
    state = url(world, "pipeline_state", number=1)
    seen = client.get(state).context["fingerprint"]
    assert client.get(state, {"seen": seen}).status_code == 204
    finish(pipeline.stages.get(name="first").run, accuracy=0.75)
    changed = client.get(state, {"seen": seen}, headers={"HX-Request": "true"})
    assert (changed.status_code, "HX-Refresh" in changed.headers) == (200, False)
    finish(pipeline.stages.get(name="second").run, accuracy=0.75)
    ended = client.get(state, {"seen": changed.context["fingerprint"]}, headers={"HX-Request": "true"})
    assert (ended.status_code, ended.headers["HX-Refresh"]) == (200, "true")


def test_the_page_costs_the_same_however_many_stages_there_are(world: World) -> None:
    def count_queries(number: int) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert world_client.get(url(world, "pipeline_detail", number=number)).status_code == 200
        return len(queries)

    world_client = world.client("engineer")
    short = pipelines.start_pipeline(world.project, name="Short", document=document(world.snapshot))
    long = document(world.snapshot)
    long["stages"] += [{**long["stages"][1], "name": f"more-{number}"} for number in range(6)]
    longer = pipelines.start_pipeline(world.project, name="Long", document=long)
    for pipeline in (short, longer):
        for row in pipeline.stages.all():
            row.refresh_from_db()
            finish(row.run, accuracy=0.7)
    assert count_queries(longer.number) == count_queries(short.number)


def test_boxes_stand_in_columns_by_what_they_take_and_no_two_share_a_place() -> None:
    """sft, reward take nothing; rft takes sft; ppo takes rft and reward: columns 0, 0, 1, 2 and arrows in order."""

    def stage(position: int, name: str, *sources: str) -> StageView:
        return StageView(
            position=position, name=name, method="", state="waiting", state_word="", run=None, model=None,
            sources=sources, data="", figure=None, gate=None, step=None, total_steps=None,
        )  # fmt: skip

    stages = [stage(1, "sft"), stage(2, "rft", "sft"), stage(3, "reward"), stage(4, "ppo", "rft", "reward")]
    graph = draw_graph(stages)
    at = {box.stage.name: (box.x, box.y) for box in graph.boxes}
    assert at == {"sft": (6, 6), "rft": (238, 6), "reward": (6, 102), "ppo": (470, 6)}
    assert (graph.width, graph.height) == (470 + 184 + 6, 102 + 76 + 6)
    assert graph.arrows == [
        "M190 44 C214 44 207 44 231 44",
        "M422 44 C446 44 439 44 463 44",
        "M190 140 C214 140 439 44 463 44",
    ]


def test_the_api_starts_reads_cancels_and_goes_on(world: World) -> None:
    client = APIClient()
    client.force_authenticate(world.user("engineer"))
    base = f"/api/v1/projects/{world.project.slug}/pipelines/"
    wrong = client.post(base, {"name": "x", "spec": {"stages": []}}, format="json")
    assert (wrong.status_code, wrong.json()) == (422, {"problems": ["stages: expected a list of 1 to 30 stages"]})
    gate = {"metric": "accuracy", "at_least": 0.9}
    made = client.post(base, {"name": "Two", "spec": document(world.snapshot, gate=gate)}, format="json")
    assert made.status_code == 201
    finish(runs.Run.objects.get(number=made.json()["stages"][0]["run"]), accuracy=0.75)
    told = client.get(f"{base}1/").json()
    assert (told["state"], told["name"]) == ("held", "Two")
    first, second = told["stages"]
    assert (first["figure"], first["model"], first["verdict"]["holds"]) == (
        {"metric": "accuracy", "value": 0.75, "interval": [0.7, 0.8]}, "pipeline-1-first", False
    )  # fmt: skip
    assert (second["state"], second["run"], second["sources"]) == ("waiting", None, ["first"])
    assert client.post(f"{base}1/resume/").status_code == 422
    resumed = client.post(f"{base}1/resume/", {"stage": "first"}, format="json").json()
    name = world.user("engineer").get_username()
    assert (resumed["state"], resumed["stages"][0]["overruled_by"]) == ("running", name)
    assert client.post(f"{base}1/resume/").status_code == 422
    assert client.post(f"{base}1/cancel/").json()["state"] == "cancelled"
    assert [row["number"] for row in client.get(base).json()] == [1]
    assert client.get(f"{base}9/").status_code == 404
