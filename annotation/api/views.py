"""The JSON API: the same domain functions as the pages, behind the same gate."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from django.contrib.auth.models import AnonymousUser, User
from django.shortcuts import get_object_or_404
from rest_framework import status
from rest_framework.decorators import api_view
from rest_framework.request import Request
from rest_framework.response import Response as Answer

from annotation import queries
from annotation.api.serializers import (
    AdviceRequestSerializer,
    PipelineRequestSerializer,
    PipelineSerializer,
    RunRequestSerializer,
    RunSerializer,
    SubmissionSerializer,
    describe_pipeline,
)
from annotation.domain import pipelines, runs
from annotation.domain.assigning import LeaseUnknown, claim_slot
from annotation.domain.guidelines import has_changes_to_read
from annotation.domain.judgement import RankingRefused
from annotation.domain.practice import practice_due
from annotation.domain.ranking import submit_ranking
from annotation.domain.tasks import task_of
from annotation.models import Membership, Project, Run
from annotation.rules import require_membership


def find_membership(request: Request, slug: str, *, action: str) -> Membership:
    user: User | AnonymousUser = request.user
    return require_membership(user, slug, action=action)


@api_view(["GET"])
def projects(request: Request) -> Answer:
    """The caller's projects with their role in each."""
    assert isinstance(request.user, User)  # IsAuthenticated stands in front of every view
    memberships = Membership.objects.filter(user=request.user).select_related("project").order_by("project__name")
    rows = [{"slug": m.project.slug, "name": m.project.name, "role": m.role} for m in memberships]
    return Answer(rows)


@api_view(["POST"])
def next_slate(request: Request, slug: str) -> Answer:
    """Lease the caller's next slate: the task, the conversation and the responses in the order drawn for them.

    Responses are masked like on the page, and nothing tells where one came from. 409 while guidelines that changed
    are unread or practice is to be done, which happens in the browser.
    """
    annotator = find_membership(request, slug, action="annotate")
    if has_changes_to_read(annotator) or practice_due(annotator):
        said = "Read the guidelines that changed, or finish the practice round, in the browser first."
        return Answer({"detail": said}, status=status.HTTP_409_CONFLICT)
    lease = claim_slot(annotator)
    if lease is None:
        return Answer(status=status.HTTP_204_NO_CONTENT)
    view = queries.ranking_view(lease)
    task = asdict(task_of(annotator.project))
    slate = {"token": view.token, "prompt": view.prompt_messages, "responses": view.responses}
    return Answer(slate | {"task": task})


@api_view(["POST"])
def rankings(request: Request, slug: str) -> Answer:
    """Submit a ranking under its lease token; the same token again gets the same answer."""
    annotator = find_membership(request, slug, action="annotate")
    serializer = SubmissionSerializer(data=request.data)
    serializer.is_valid(raise_exception=True)
    try:
        submission = submit_ranking(
            annotator,
            token=serializer.validated_data["token"],
            judgement=serializer.judgement(),
            active_ms=serializer.validated_data["active_ms"],
        )
    except LeaseUnknown as error:
        return Answer({"detail": str(error)}, status=status.HTTP_404_NOT_FOUND)
    except RankingRefused as error:
        return Answer({"problems": error.problems}, status=status.HTTP_422_UNPROCESSABLE_ENTITY)
    return Answer({"ranking": submission.ranking.pk, "is_extra": submission.is_extra})


@api_view(["GET", "POST"])
def run_list(request: Request, slug: str) -> Answer:
    """The project's runs, newest first; or queue one."""
    membership = find_membership(request, slug, action="train")
    if request.method == "POST":
        serializer = RunRequestSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        return _queue_run(serializer.validated_data, membership=membership)
    return Answer(RunSerializer(membership.project.runs.all()[:100], many=True).data)


@api_view(["GET"])
def run_detail(request: Request, slug: str, number: int) -> Answer:
    """One run: state, status, report."""
    project = find_membership(request, slug, action="train").project
    return Answer(RunSerializer(get_object_or_404(project.runs, number=number)).data)


@api_view(["POST"])
def run_cancel(request: Request, slug: str, number: int) -> Answer:
    """Cancel a run."""
    project = find_membership(request, slug, action="train").project
    return Answer(RunSerializer(runs.cancel_run(get_object_or_404(project.runs, number=number))).data)


@api_view(["GET", "POST"])
def pipeline_list(request: Request, slug: str) -> Answer:
    """The project's pipelines, newest first; or start one."""
    membership = find_membership(request, slug, action="train")
    if request.method == "POST":
        return _start_pipeline(request, membership=membership)
    return Answer(PipelineSerializer(membership.project.pipelines.all()[:100], many=True).data)


@api_view(["GET"])
def pipeline_detail(request: Request, slug: str, number: int) -> Answer:
    """One pipeline with its stages."""
    project = find_membership(request, slug, action="train").project
    return Answer(describe_pipeline(get_object_or_404(project.pipelines, number=number)))


@api_view(["POST"])
def pipeline_cancel(request: Request, slug: str, number: int) -> Answer:
    """Stop a pipeline and its run."""
    project = find_membership(request, slug, action="train").project
    pipeline = pipelines.cancel_pipeline(get_object_or_404(project.pipelines, number=number))
    return Answer(describe_pipeline(pipeline))


@api_view(["POST"])
def pipeline_resume(request: Request, slug: str, number: int) -> Answer:
    """Go on, past the gate of {"stage"} that does not hold, or with the run that ended early."""
    membership = find_membership(request, slug, action="train")
    pipeline = get_object_or_404(membership.project.pipelines, number=number)
    try:
        past = request.data.get("stage", "") if isinstance(request.data, dict) else ""
        pipeline = pipelines.resume_pipeline(pipeline, by=membership.user, past=past)
    except pipelines.PipelineRefused as error:
        return Answer({"problems": [str(error)]}, status=status.HTTP_422_UNPROCESSABLE_ENTITY)
    return Answer(describe_pipeline(pipeline))


def _start_pipeline(request: Request, *, membership: Membership) -> Answer:
    serializer = PipelineRequestSerializer(data=request.data)
    serializer.is_valid(raise_exception=True)
    asked: dict[str, Any] = serializer.validated_data
    try:
        pipeline = pipelines.start_pipeline(
            membership.project, name=asked["name"], document=asked["spec"], created_by=membership.user
        )
    except pipelines.PipelineRefused as error:
        return Answer({"problems": [str(error)]}, status=status.HTTP_422_UNPROCESSABLE_ENTITY)
    return Answer(describe_pipeline(pipeline), status=status.HTTP_201_CREATED)


@api_view(["GET", "POST"])
def advice(request: Request, slug: str) -> Answer:
    """The run whose report holds the newest advice, 404 where none was given yet; or ask for one."""
    membership = find_membership(request, slug, action="train")
    if request.method == "POST":
        serializer = AdviceRequestSerializer(data=request.data)
        serializer.is_valid(raise_exception=True)
        asked = {**serializer.validated_data, "method": Run.Method.ADVISE, "snapshot": None}
        return _queue_run(asked, membership=membership)
    given = queries.given_advice(membership.project).first()
    if given is None:
        said = "No advice was given yet; POST here to ask for one."
        return Answer({"detail": said}, status=status.HTTP_404_NOT_FOUND)
    return Answer(RunSerializer(given).data)


def _queue_run(asked: dict[str, Any], *, membership: Membership) -> Answer:
    project: Project = membership.project
    snapshot = get_object_or_404(project.snapshots, number=asked["snapshot"]) if asked["snapshot"] else None
    models = {
        name: get_object_or_404(project.models, name=asked[name]) if asked.get(name) else None
        for name in ("base_model", "reward_model", "gold_model")
    }
    try:
        run = runs.queue_run(
            project,
            method=asked["method"],
            settings=asked["settings"],
            snapshot=snapshot,
            **models,
            created_by=membership.user,
        )
    except runs.RunRefused as error:
        return Answer({"problems": [str(error)]}, status=status.HTTP_422_UNPROCESSABLE_ENTITY)
    return Answer(RunSerializer(run).data, status=status.HTTP_201_CREATED)
