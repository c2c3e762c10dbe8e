"""Pipelines: runs that take each other's models, started one after the other as the gates between them let them.

The row owns the intent. `advance_pipeline` looks at the runs and does what is due: it queues the next stage's run,
registers a finished stage's model, judges its gate, ends the pipeline. It may be called at any time and any number of
times; a worker does so before it looks for work, so that what a crash left undone is done by whoever comes next.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from django.contrib.auth.models import User
from django.db import InterfaceError, OperationalError, transaction
from django.db.models import Max
from django.utils import timezone

from annotation import runner
from annotation.domain import collecting, runs
from annotation.models import Model, Pipeline, PipelineStage, Project, Run, Snapshot

logger = logging.getLogger(__name__)
State = Pipeline.State
ACTIVE = (Run.State.QUEUED, Run.State.RUNNING)
NAME_LIMIT = 120
TEXT_LIMIT = 50_000
JUDGES = ("reward_model", "gold_model")


class PipelineRefused(ValueError):
    """The pipeline cannot be started; the message names stage and field."""


def read_text(text: str) -> Any:
    """The document that a person wrote. Raises PipelineRefused."""
    if len(text) > TEXT_LIMIT:
        raise PipelineRefused(f"The text has more than {TEXT_LIMIT} characters.")
    try:
        return runner.read_text(text)
    except runner.SettingsRefused as error:
        raise PipelineRefused(str(error)) from error


write_text = runner.write_document


@transaction.atomic
def start_pipeline(project: Project, *, name: str, document: Any, created_by: User | None = None) -> Pipeline:
    """Start a pipeline after checking every stage; its first run is queued. Raises PipelineRefused."""
    name = name.strip()
    if not name or len(name) > NAME_LIMIT:
        raise PipelineRefused(f"Give the pipeline a name of 1 to {NAME_LIMIT} characters.")
    stages = check_document(project, document=document)
    Project.objects.select_for_update().get(pk=project.pk)
    pipeline = Pipeline.objects.create(
        project=project,
        number=(project.pipelines.aggregate(Max("number"))["number__max"] or 0) + 1,
        name=name,
        spec=document,
        created_by=created_by,
    )
    PipelineStage.objects.bulk_create(
        PipelineStage(pipeline=pipeline, position=position, name=stage.name)
        for position, stage in enumerate(stages, start=1)
    )
    return advance_pipeline(pipeline)


def check_document(project: Project, *, document: Any) -> tuple[runner.Stage, ...]:
    """The stages of a document, each of which could run here. Raises PipelineRefused."""
    try:
        stages = runner.read_pipeline(document).stages
    except runner.SettingsRefused as error:
        raise PipelineRefused(str(error)) from error
    for stage in stages:
        try:
            runs.check_run(project, **_read_request(project, stage=stage, made=None))
        except runs.RunRefused as error:
            raise PipelineRefused(f"stage {stage.name}: {error}") from error
    return stages


@transaction.atomic
def advance_pipeline(pipeline: Pipeline) -> Pipeline:
    """Do what is due: register, judge, queue the next run, or end the pipeline. Calling it again is harmless."""
    locked = Pipeline.objects.select_for_update(of=("self",)).select_related("project", "created_by")
    pipeline = locked.get(pk=pipeline.pk)
    if pipeline.state != State.RUNNING:
        return pipeline
    specs = runner.read_pipeline(pipeline.spec).stages
    rows = list(pipeline.stages.select_related("run__registered_model", "run__project").order_by("position"))
    done: dict[str, PipelineStage] = {}
    for spec, row in zip(specs, rows, strict=True):
        try:
            state = _advance_stage(pipeline, spec=spec, row=row, done=done)
        except (runs.RunRefused, collecting.CollectionRefused, runner.SettingsRefused) as error:
            return _end(pipeline, state=State.FAILED, error=f"stage {spec.name}: {error}")
        if state is None:
            return pipeline
        if state != State.SUCCEEDED:
            return _end(pipeline, state=state, error=_why(row) if state == State.FAILED else "")
        done[spec.name] = row
    return _end(pipeline, state=State.SUCCEEDED, error="")


def advance_waiting() -> None:
    """Advance every pipeline that waits for no run. One that cannot be advanced fails, and holds up no other."""
    waiting = Pipeline.objects.filter(state=State.RUNNING).exclude(stages__run__state__in=ACTIVE)
    for pipeline in waiting.order_by("pk"):
        try:
            advance_pipeline(pipeline)
        except (OperationalError, InterfaceError):
            raise
        except Exception as error:
            logger.exception("%s could not be advanced", pipeline)
            Pipeline.objects.filter(pk=pipeline.pk, state=State.RUNNING).update(
                state=State.FAILED, error=f"It could not go on: {type(error).__name__}: {error}"[: runs.ERROR_LIMIT],
                finished_at=timezone.now(),
            )  # fmt: skip


@transaction.atomic
def cancel_pipeline(pipeline: Pipeline) -> Pipeline:
    """Stop: no stage is begun any more, and the run under way is cancelled."""
    pipeline = Pipeline.objects.select_for_update().get(pk=pipeline.pk)
    if pipeline.state in (State.RUNNING, State.HELD):
        _end(pipeline, state=State.CANCELLED, error="")
        for row in pipeline.stages.filter(run__state__in=ACTIVE).select_related("run"):
            assert row.run is not None
            runs.cancel_run(row.run)
    return pipeline


@transaction.atomic
def resume_pipeline(pipeline: Pipeline, *, by: User | None, past: str = "") -> Pipeline:
    """Go on: past the gate of stage `past`, which does not hold (`by` answers for it), or with the run that failed or
    was cancelled. Raises PipelineRefused, also where another gate is the one that holds the pipeline by now."""
    pipeline = Pipeline.objects.select_for_update().get(pk=pipeline.pk)
    if pipeline.state not in (State.HELD, State.FAILED, State.CANCELLED):
        raise PipelineRefused("Only a pipeline that is held, failed or was cancelled can go on.")
    for row in pipeline.stages.select_related("run"):
        if pipeline.state == State.HELD and row.verdict and not row.verdict["holds"] and row.overruled_by is None:
            if row.name != past:
                raise PipelineRefused(f"The gate of stage {row.name} holds it: to go on past that one, name the stage.")
            row.overruled_by = by
            row.save(update_fields=["overruled_by"])
        if row.run is not None and row.run.state == Run.State.RUNNING:
            raise PipelineRefused(f"Run {row.run.number} is still stopping; go on when it has.")
        if row.run is not None:
            runs.requeue_run(row.run)
    pipeline.state, pipeline.error, pipeline.finished_at = State.RUNNING, "", None
    pipeline.save(update_fields=["state", "error", "finished_at"])
    return advance_pipeline(pipeline)


def _advance_stage(
    pipeline: Pipeline, *, spec: runner.Stage, row: PipelineStage, done: Mapping[str, PipelineStage]
) -> str | None:
    """How the stage stands: a state of pipelines, SUCCEEDED where the next one may begin, None while it runs."""
    if row.run is None:
        made = {name: _made_model(other) for name, other in done.items()}
        request = _read_request(pipeline.project, stage=spec, made=made)
        row.run = runs.queue_run(pipeline.project, **request, created_by=pipeline.created_by)
        row.save(update_fields=["run"])
    if row.run.state in ACTIVE:
        return None
    if row.run.state != Run.State.SUCCEEDED:
        return State.CANCELLED if row.run.state == Run.State.CANCELLED else State.FAILED
    if row.run.method not in collecting.MAKE_NO_MODEL and not hasattr(row.run, "registered_model"):
        collecting.register_model(row.run, name=_choose_name(pipeline, row=row))
    if spec.gate is not None and row.verdict is None:
        reports = {name: _report_of(other) for name, other in {**done, spec.name: row}.items()}
        row.verdict = runner.judge_stage(spec, reports=reports)
        row.save(update_fields=["verdict"])
    held = row.verdict is not None and not row.verdict["holds"] and row.overruled_by_id is None
    return State.HELD if held else State.SUCCEEDED


def _end(pipeline: Pipeline, *, state: str, error: str) -> Pipeline:
    pipeline.state, pipeline.error = state, error[: runs.ERROR_LIMIT]
    pipeline.finished_at = timezone.now()
    pipeline.save(update_fields=["state", "error", "finished_at"])
    return pipeline


def _why(row: PipelineStage) -> str:
    assert row.run is not None
    return f"stage {row.name}: run {row.run.number}: {row.run.error}"


def _report_of(row: PipelineStage) -> dict[str, Any]:
    return (row.run.report if row.run is not None else None) or {}


def _made_model(row: PipelineStage) -> Model | None:
    return Model.objects.filter(run=row.run).first()


def _choose_name(pipeline: Pipeline, *, row: PipelineStage) -> str:
    """The name of a stage's model in the registry: somebody may have taken the plain one."""
    assert row.run is not None
    name = f"pipeline-{pipeline.number}-{row.name}"
    taken = Model.objects.filter(project=pipeline.project, name=name).exists()
    return f"{name}-run-{row.run.number}" if taken else name


# --- what a stage asks, as a run is asked -------------------------------------------------------------------------


def _read_request(project: Project, *, stage: runner.Stage, made: Mapping[str, Model | None] | None) -> dict[str, Any]:
    """The arguments of `queue_run` for a stage. made: models of finished stages; None before any has begun, when what
    stages will make is checked as far as it can be. Raises RunRefused naming the field."""
    settings = dict(stage.spec)
    method = settings.pop("method")
    if method not in runs.TRAINED_ON:
        raise runs.RunRefused(f"spec.method: {method} is for runs of its own; a stage trains or checks")
    request: dict[str, Any] = {"method": method, "snapshot": _read_snapshot(project, named=settings.pop("data", None))}
    judges = tuple(name for name in JUDGES if method in runs.JUDGED_BY[name])
    for field, key in (("model", "base_model"), *((name, name) for name in judges)):
        found = _find_model(project, named=settings.get(field), field=field, made=made)
        if isinstance(found, Model):
            request[key] = found
            del settings[field]
        elif found is not None:
            settings[field] = found
    request["settings"] = runner.map_references(settings, replace=_reader(project, made=made))
    return request


def _read_snapshot(project: Project, *, named: Any) -> Snapshot:
    text = named.removeprefix("@snapshot/") if isinstance(named, str) and named.startswith("@snapshot/") else ""
    number = int(text) if text.isascii() and text.isdecimal() and len(text) < 10 else 0
    snapshot = project.snapshots.filter(number=number).first()
    if snapshot is None:
        newest = project.snapshots.order_by("-number").first()
        hint = f"as @snapshot/{newest.number}" if newest else "and freeze one first"
        raise runs.RunRefused(f"spec.data: {named!r} is no snapshot of this project; name one, {hint}")
    return snapshot


def _find_model(project: Project, *, named: Any, field: str, made: Mapping[str, Model | None] | None) -> Any:
    """The registered model behind a reference; what is no reference, as it is; PLACEHOLDER for one yet to be made."""
    if not isinstance(named, str) or not named.startswith("@"):
        return named
    head, _slash, name = named.removeprefix("@").partition("/")
    if head == "model":
        model = project.models.filter(name=name).first()
        if model is None:
            raise runs.RunRefused(f"spec.{field}: {name!r} is no registered model of this project")
        return model
    if head == "snapshot":
        raise runs.RunRefused(f"spec.{field}: {named} is a snapshot, but a model is wanted")
    return runs.PLACEHOLDER if made is None else made[head]


def _reader(project: Project, *, made: Mapping[str, Model | None] | None) -> Callable[[runner.Reference, str], str]:
    """What stands in settings for references: in rewards a registered model's name, elsewhere its place."""

    def read(reference: runner.Reference, field: str) -> str:
        if not field.startswith("rewards") and field not in JUDGES:
            raise runs.RunRefused(f"spec.{field}: {reference}: files of stages are for the command line alone")
        found = _find_model(project, named=str(reference), field=field, made=made)
        if not isinstance(found, Model):
            return str(found)
        if found.kind != Model.Kind.REWARD:
            raise runs.RunRefused(f"spec.{field}: {found.name} is a policy, but a reward model is wanted")
        return found.name if field.startswith("rewards") else collecting.model_location(found)

    return read


# --- for pages and the API ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Outline:
    """What the spec says of a stage: its method, the stages it takes from, its data, its gate as it was written."""

    name: str
    method: str
    sources: tuple[str, ...]
    data: str
    gate: dict[str, Any] | None

    def headline(self, report: Mapping[str, Any]) -> tuple[str, float, tuple[float, float] | None] | None:
        """The figure of its report to look at: word, value, 95 % interval."""
        return runner.headline(self.method, report=report)


def outline_stages(pipeline: Pipeline) -> dict[str, Outline]:
    """What the spec says of each stage, by name; also of one that today's library would no longer take."""
    outlines = {}
    for entry in pipeline.spec["stages"]:
        stage = runner.Stage(name=entry["name"], spec=entry["spec"], gate=None)
        outlines[stage.name] = Outline(
            name=stage.name,
            method=stage.method,
            sources=tuple(source for source in runner.list_sources(stage) if source not in runner.OUTSIDE),
            data=str(stage.spec.get("data", "")).removeprefix("@"),
            gate=entry.get("gate"),
        )
    return outlines


def stage_rows(pipeline: Pipeline) -> list[PipelineStage]:
    """The stages with their runs, models and who went on past a gate, in order."""
    related = ("run__registered_model", "run__snapshot", "overruled_by")
    return list(pipeline.stages.select_related(*related).order_by("position"))
