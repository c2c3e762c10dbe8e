"""Pipelines of a project: what is refused, how they move on and are held, resumed, cancelled. Runs end by pretence."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest

from annotation.domain import collecting, pipelines, runs
from annotation.domain.snapshots import freeze_snapshot
from annotation.models import Model, Pipeline, PipelineStage, Project, Run, Snapshot
from rewardmodel.rundir import RunDir
from tests.annotation.factories import make_member, make_project
from tests.views.conftest import World

pytestmark = pytest.mark.django_db


@pytest.fixture
def prompts(world: World) -> Snapshot:
    """Prompts, some in either split."""
    for seed in itertools.count():
        snapshot = freeze_snapshot(world.project, format="prompts", split_seed=seed, shares=(0.5, 0.0, 0.5))
        if all(snapshot.manifest["counts"]["rows"][split] for split in ("train", "test")):
            return snapshot
    raise AssertionError


@pytest.fixture
def project(world: World) -> Project:
    Run.objects.all().delete()
    return world.project


def two_stages(snapshot: Snapshot, *, gate: dict[str, Any] | None = None) -> dict[str, Any]:
    first = {"name": "first", "spec": {"method": "dpo", "model": "@model/base", "data": f"@snapshot/{snapshot.number}"}}
    if gate is not None:
        first["gate"] = gate
    second = {"name": "second", "spec": {"method": "dpo", "model": "@first", "data": f"@snapshot/{snapshot.number}"}}
    return {"stages": [first, second]}


def end(run: Run, *, state: str = "succeeded", accuracy: float = 0.7, error: str | None = None) -> Run:
    """What the run's process and its worker would leave behind."""
    claimed = runs.claim_run("worker-1")
    assert claimed == run
    directory = RunDir(runs.prepare_run(claimed))
    held = {"accuracy": accuracy, "interval": [accuracy - 0.1, accuracy + 0.1], "n_prompts": 9}
    untrained = {"accuracy": 0.5, "interval": [0.4, 0.6]}
    if state == "succeeded":
        directory.write_report({"heldout": held, "baselines": {"untrained": untrained}})
    directory.write_status(state=state, error=error)
    return runs.finish_run(claimed, exit_code=0)


def stage_run(pipeline: Pipeline, name: str) -> Run | None:
    return pipeline.stages.get(name=name).run


def test_a_stage_begins_when_the_one_before_it_has_ended_and_starts_from_its_model(project, world):
    user = world.user("engineer")
    document = two_stages(world.snapshot, gate={"metric": "accuracy", "at_least": 0.5})
    pipeline = pipelines.start_pipeline(project, name="Two", document=document, created_by=user)
    first = stage_run(pipeline, "first")
    assert (pipeline.state, pipeline.number, first.state, first.base_model) == ("running", 1, "queued", world.model)
    assert (first.created_by, first.snapshot) == (user, world.snapshot)
    assert stage_run(pipeline, "second") is None
    pipelines.advance_waiting()
    assert Run.objects.count() == 1
    end(first)
    pipelines.advance_waiting()
    second = stage_run(pipeline, "second")
    made = Model.objects.get(run=first)
    assert (made.name, made.kind, second.base_model) == ("pipeline-1-first", "policy", made)
    verdict = pipeline.stages.get(name="first").verdict
    assert (verdict["holds"], verdict["value"], verdict["bound"], verdict["interval"]) == (
        True, 0.7, 0.5, pytest.approx([0.6, 0.8])
    )  # fmt: skip
    end(second)
    pipelines.advance_waiting()
    pipeline.refresh_from_db()
    assert (pipeline.state, pipeline.error) == ("succeeded", "")
    assert Model.objects.filter(name="pipeline-1-second", run=second).exists()


def test_advancing_again_does_nothing_twice(project, world):
    pipeline = pipelines.start_pipeline(project, name="Two", document=two_stages(world.snapshot))
    end(stage_run(pipeline, "first"))
    for _number in range(3):
        pipelines.advance_pipeline(pipeline)
        pipelines.advance_waiting()
    assert (Run.objects.count(), Model.objects.exclude(run=None).count()) == (2, 1)


def test_a_reward_model_reaches_ppo_and_a_checks_verifiers(project, world, prompts):
    """The reward stage's model is the row of the registry of both."""
    data = f"@snapshot/{prompts.number}"
    reward = {"name": "reward", "spec": {"method": "reward", "data": f"@snapshot/{world.snapshot.number}"}}
    ppo = {"name": "ppo", "spec": {"method": "ppo", "reward_model": "@reward", "data": data}}
    check = {"name": "check", "spec": {"method": "check", "model": "@ppo", "reward_model": "@reward", "data": data}}
    terms = [{"kind": "model", "model": ["@reward"]}, {"kind": "length", "free": 5, "most": 9}]
    rloo = {"name": "rloo", "spec": {"method": "rloo", "rewards": terms, "data": data}}
    pipeline = pipelines.start_pipeline(project, name="All", document={"stages": [reward, ppo, check, rloo]})
    made = {}
    for name in ("reward", "ppo", "check"):
        end(stage_run(pipeline, name))
        pipelines.advance_waiting()
        made[name] = Model.objects.filter(run=stage_run(pipeline, name)).first()
    assert made["check"] is None
    assert stage_run(pipeline, "ppo").reward_model == made["reward"]
    assert stage_run(pipeline, "check").base_model == made["ppo"]
    assert stage_run(pipeline, "check").reward_model == made["reward"]
    assert stage_run(pipeline, "rloo").spec["rewards"][0]["model"] == [made["reward"].name]
    end(stage_run(pipeline, "rloo"))
    spec = RunDir(runs.run_directory(stage_run(pipeline, "rloo"))).read_spec()
    assert spec["rewards"][0]["model"] == [collecting.model_location(made["reward"])]


def test_a_gate_that_does_not_hold_stops_it_until_somebody_goes_on(project, world):
    gate = {"metric": "accuracy", "at_least": 0.75}
    pipeline = pipelines.start_pipeline(project, name="Two", document=two_stages(world.snapshot, gate=gate))
    end(stage_run(pipeline, "first"))
    pipelines.advance_waiting()
    pipeline.refresh_from_db()
    assert (pipeline.state, Run.objects.count()) == ("held", 1)
    assert Model.objects.filter(name="pipeline-1-first").exists()
    pipelines.advance_waiting()
    assert Run.objects.count() == 1
    with pytest.raises(pipelines.PipelineRefused, match="The gate of stage first holds it"):
        pipelines.resume_pipeline(pipeline, by=world.user("admin"), past="second")
    pipeline = pipelines.resume_pipeline(pipeline, by=world.user("admin"), past="first")
    row = pipeline.stages.get(name="first")
    assert (pipeline.state, row.overruled_by, row.verdict["holds"]) == ("running", world.user("admin"), False)
    assert stage_run(pipeline, "second").state == "queued"


def test_a_failed_run_fails_the_pipeline_and_going_on_resumes_that_run(project, world):
    pipeline = pipelines.start_pipeline(project, name="Two", document=two_stages(world.snapshot))
    run = end(stage_run(pipeline, "first"), state="failed", error="out of memory")
    pipelines.advance_waiting()
    pipeline.refresh_from_db()
    assert (pipeline.state, pipeline.error) == ("failed", f"stage first: run {run.number}: out of memory")
    pipelines.resume_pipeline(pipeline, by=None)
    run.refresh_from_db()
    assert (run.state, run.error, Run.objects.count()) == ("queued", "", 1)
    end(run)
    pipelines.advance_waiting()
    assert stage_run(pipeline, "second").state == "queued"


def test_cancelling_stops_the_run_under_way_and_begins_no_other(project, world):
    pipeline = pipelines.start_pipeline(project, name="Two", document=two_stages(world.snapshot))
    pipeline = pipelines.cancel_pipeline(pipeline)
    pipelines.advance_waiting()
    assert (pipeline.state, stage_run(pipeline, "first").state, Run.objects.count()) == ("cancelled", "cancelled", 1)
    pipeline = pipelines.resume_pipeline(pipeline, by=None)
    assert (pipeline.state, stage_run(pipeline, "first").state) == ("running", "queued")


def test_a_run_cancelled_by_itself_cancels_its_pipeline(project, world):
    pipeline = pipelines.start_pipeline(project, name="Two", document=two_stages(world.snapshot))
    runs.cancel_run(stage_run(pipeline, "first"))
    pipelines.advance_waiting()
    pipeline.refresh_from_db()
    assert pipeline.state == "cancelled"


def test_going_on_waits_for_a_run_that_is_still_stopping(project, world):
    pipeline = pipelines.start_pipeline(project, name="Two", document=two_stages(world.snapshot))
    runs.claim_run("worker-1")
    pipelines.cancel_pipeline(pipeline)
    with pytest.raises(pipelines.PipelineRefused, match="is still stopping"):
        pipelines.resume_pipeline(pipeline, by=None)
    running = pipelines.start_pipeline(project, name="Other", document=two_stages(world.snapshot))
    with pytest.raises(pipelines.PipelineRefused, match="Only a pipeline that is held"):
        pipelines.resume_pipeline(running, by=None)


def test_a_gate_without_its_figure_fails_the_pipeline_with_a_reason(project, world):
    gate = {"metric": "heldout.acuracy", "at_least": 0.5}
    pipeline = pipelines.start_pipeline(project, name="Two", document=two_stages(world.snapshot, gate=gate))
    end(stage_run(pipeline, "first"))
    pipelines.advance_waiting()
    pipeline.refresh_from_db()
    assert (pipeline.state, pipeline.error) == (
        "failed",
        "stage first: the report of stage first has no number at heldout.acuracy; its gate cannot be judged",
    )


def test_a_pipeline_that_cannot_go_on_holds_up_no_other(project, world, monkeypatch):
    broken = pipelines.start_pipeline(project, name="Broken", document=two_stages(world.snapshot))
    end(stage_run(broken, "first"))
    sound = pipelines.start_pipeline(project, name="Sound", document=two_stages(world.snapshot))
    end(stage_run(sound, "first"))
    Pipeline.objects.filter(pk=broken.pk).update(spec={"stages": "gone"})
    pipelines.advance_waiting()
    broken.refresh_from_db()
    assert broken.state == "failed"
    assert broken.error.startswith("It could not go on: SettingsRefused: stages: expected a list")
    assert stage_run(sound, "second").state == "queued"


def test_a_models_name_that_is_taken_gets_its_run_beside_it(project, world):
    Model.objects.create(project=project, name="pipeline-1-first", kind="policy", location="x")
    pipeline = pipelines.start_pipeline(project, name="Two", document=two_stages(world.snapshot))
    run = end(stage_run(pipeline, "first"))
    pipelines.advance_waiting()
    assert Model.objects.get(run=run).name == f"pipeline-1-first-run-{run.number}"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"method": "dpo"}, "stage last: spec.data: required by method dpo"),
        ({"method": "dpo", "data": "pairs"}, "stage last: spec.data: 'pairs' is no snapshot of this project; name one"),
        ({"method": "dpo", "data": "@snapshot/99"}, "'@snapshot/99' is no snapshot of this project; name one, as"),
        ({"method": "dpo", "data": "@snapshot/x"}, "is no snapshot of this project"),
        ({"method": "sft", "data": "@snapshot/1"}, "stage last: Snapshot 1 is in the format trl-preference; sft runs"),
        ({"method": "dpo", "data": "@snapshot/1", "model": "@model/none"}, "spec.model: 'none' is no registered model"),
        ({"method": "dpo", "data": "@snapshot/1", "model": "@snapshot/1"}, "is a snapshot, but a model is wanted"),
        ({"method": "dpo", "data": "@snapshot/1", "model": "@base"}, "spec.model: @base is no earlier stage"),
        ({"method": "dpo", "data": "@snapshot/1", "epoch": 2}, "stage last: spec: unknown 'epoch': did you mean"),
        ({"method": "generate", "prompts": "@snapshot/1"}, "spec.method: generate is for runs of its own"),
        (
            {"method": "ppo", "data": "@snapshot/2", "reward_model": "@model/base"},
            "stage last: reward_model: base is a policy; choose a reward model.",
        ),
        (
            {"method": "rejection", "data": "@snapshot/2", "examples": "@model/base"},
            "stage last: spec.examples: @model/base: files of stages are for the command line alone",
        ),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_before_anything_is_queued(project, world, prompts, spec, message):
    with pytest.raises(pipelines.PipelineRefused) as caught:
        pipelines.start_pipeline(project, name="x", document={"stages": [{"name": "last", "spec": spec}]})
    assert message in str(caught.value)
    assert (Pipeline.objects.count(), PipelineStage.objects.count(), Run.objects.count()) == (0, 0, 0)


def test_a_snapshot_and_a_model_of_another_project_are_not_found(project, world):
    other = make_project()
    make_member(other, role="engineer")
    with pytest.raises(pipelines.PipelineRefused, match="is no snapshot of this project; name one, and freeze one"):
        pipelines.start_pipeline(other, name="x", document=two_stages(world.snapshot))


def test_text_is_read_as_yaml_within_bounds(project):
    assert pipelines.read_text('stages: [{name: a, spec: {model: "@x"}}]') == {
        "stages": [{"name": "a", "spec": {"model": "@x"}}]
    }
    with pytest.raises(pipelines.PipelineRefused, match="more than 50000 characters"):
        pipelines.read_text("a" * 50_001)
    with pytest.raises(pipelines.PipelineRefused, match="aliases"):
        pipelines.read_text("a: &b [x]\nc: [*b, *b]")
    with pytest.raises(pipelines.PipelineRefused, match="name of 1 to 120"):
        pipelines.start_pipeline(project, name=" ", document={})
    document = json.loads(json.dumps({"stages": [{"name": "a", "spec": {"method": "sft", "data": "@snapshot/1"}}]}))
    assert pipelines.read_text(pipelines.write_text(document)) == document
