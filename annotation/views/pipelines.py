"""Pipelines: start one, see how its stages stand, stop it, go on."""

from __future__ import annotations

import hashlib
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotation.domain.pipeline_templates import TEMPLATES, find_template
from annotation.domain.pipelines import (
    PipelineRefused,
    cancel_pipeline,
    outline_stages,
    resume_pipeline,
    stage_rows,
    start_pipeline,
)
from annotation.forms.pipelines import PipelineTemplateForm, PipelineTextForm, as_text, example_text
from annotation.models import Membership, Pipeline
from annotation.queries import pipeline_rows
from annotation.rules import require_membership
from annotation.views.paging import paginate
from annotation.views.pipeline_graph import StageView, draw_graph, view_stage

OWN = "own"
STATE = Pipeline.State


@login_required
@require_GET
def pipeline_list(request: HttpRequest, slug: str) -> HttpResponse:
    """The project's pipelines, newest first."""
    membership = require_membership(request.user, slug, action="train")
    context = {
        "membership": membership,
        "project": membership.project,
        "section": "runs",
        "page": paginate(request, pipeline_rows(membership.project).order_by("-number")),
    }
    return render(request, "annotation/pipeline_list.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def pipeline_new(request: HttpRequest, slug: str) -> HttpResponse:
    """Fill in a template, or write a pipeline of one's own, and start it."""
    membership = require_membership(request.user, slug, action="train")
    asked = request.POST if request.method == "POST" else request.GET
    key = asked.get("template", TEMPLATES[0].key)
    template = find_template(key)
    if template is None and key != OWN:
        raise Http404("No such template.")
    data = request.POST if request.method == "POST" else None
    form: PipelineTemplateForm | PipelineTextForm
    if template is not None:
        chosen = {f"snapshot_{format}": asked.get(f"snapshot_{format}") for format in template.formats}
        initial = {"base_model": asked.get("model"), **chosen}
        form = PipelineTemplateForm(data, template=template, project=membership.project, initial=initial)
    else:
        form = PipelineTextForm(data, initial={"text": example_text()})
    if data is None:
        return _render_form(request, membership, form, key=key)
    if form.is_valid() and "edit" in data and template is not None:
        text = {"name": form.cleaned_data["name"], "text": as_text(form.document())}
        return _render_form(request, membership, PipelineTextForm(initial=text), key=OWN)
    pipeline = _start(form, membership) if form.is_valid() else None
    if pipeline is None:
        return _render_form(request, membership, form, key=key, status=422)
    return redirect("pipeline_detail", slug=slug, number=pipeline.number)


@login_required
@require_GET
def pipeline_detail(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """One pipeline: its graph, each stage with state, figure, gate, run and model."""
    membership = require_membership(request.user, slug, action="train")
    pipeline = _require_pipeline(membership, number)
    context = _state_context(membership, pipeline) | {"section": "runs", "spec": as_text(pipeline.spec)}
    return render(request, "annotation/pipeline_detail.html", context)


@login_required
@require_GET
def pipeline_state(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """The part of the page that changes; polled while the pipeline runs."""
    membership = require_membership(request.user, slug, action="train")
    pipeline = _require_pipeline(membership, number)
    context = _state_context(membership, pipeline)
    if request.GET.get("seen") == context["fingerprint"] and pipeline.state == STATE.RUNNING:
        return HttpResponse(status=204)  # nothing to put in its place: whoever scrolled stays where they are
    response = render(request, "annotation/_pipeline_state.html", context)
    if pipeline.state != STATE.RUNNING and "HX-Request" in request.headers:
        response.headers["HX-Refresh"] = "true"  # it ended since the last poll: show what can be done now
    return response


@login_required
@require_POST
def pipeline_cancel(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """Stop the pipeline and its run."""
    membership = require_membership(request.user, slug, action="train")
    cancel_pipeline(_require_pipeline(membership, number))
    return redirect("pipeline_detail", slug=slug, number=number)


@login_required
@require_POST
def pipeline_resume(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """Go on, past a gate or with the run that ended early."""
    membership = require_membership(request.user, slug, action="train")
    try:
        resume_pipeline(_require_pipeline(membership, number), by=membership.user, past=request.POST.get("stage", ""))
    except PipelineRefused as error:
        messages.error(request, str(error))
    return redirect("pipeline_detail", slug=slug, number=number)


def _start(form: PipelineTemplateForm | PipelineTextForm, membership: Membership) -> Pipeline | None:
    """Start what the form describes; None, with the reason in the form, where it is refused."""
    try:
        return start_pipeline(
            membership.project,
            name=form.cleaned_data["name"],
            document=form.document(),
            created_by=membership.user,
        )
    except PipelineRefused as error:
        form.add_error("text" if isinstance(form, PipelineTextForm) else None, str(error))
        return None


def _render_form(
    request: HttpRequest,
    membership: Membership,
    form: PipelineTemplateForm | PipelineTextForm,
    *,
    key: str,
    status: int = 200,
) -> HttpResponse:
    context = {
        "membership": membership,
        "project": membership.project,
        "section": "runs",
        "form": form,
        "template": find_template(key),
        "key": key,
        "templates": TEMPLATES,
        "missing": getattr(form, "missing", []),
    }
    return render(request, "annotation/pipeline_new.html", context, status=status)


def _state_context(membership: Membership, pipeline: Pipeline) -> dict[str, Any]:
    outlines = outline_stages(pipeline)
    stages = [view_stage(row, outline=outlines[row.name], waiting=_("waits")) for row in stage_rows(pipeline)]
    shown = repr([pipeline.state, *((stage.state, stage.step, stage.gate, stage.model) for stage in stages)])
    return {
        "membership": membership,
        "project": membership.project,
        "pipeline": pipeline,
        "fingerprint": hashlib.sha256(shown.encode()).hexdigest()[:16],
        "stages": stages,
        "graph": draw_graph(stages),
        "active": pipeline.state == STATE.RUNNING,
        "held_at": next(filter(_holds_up, stages), None) if pipeline.state == STATE.HELD else None,
    }


def _holds_up(stage: StageView) -> bool:
    return stage.gate is not None and stage.gate.holds is False and not stage.gate.overruled_by


def _require_pipeline(membership: Membership, number: int) -> Pipeline:
    return get_object_or_404(Pipeline.objects.select_related("created_by"), project=membership.project, number=number)
