"""The registry: policies and reward models, where each came from, and what can be done with it."""

from __future__ import annotations

from django.contrib.auth.decorators import login_required
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.views.decorators.http import require_GET

from annotation.forms.runs import RunForm
from annotation.models import Model, Run
from annotation.queries import compare_policies
from annotation.rules import require_membership
from annotation.templatetags.plots import interval_rows
from annotation.views.paging import paginate
from annotation.views.runs import lineage


@login_required
@require_GET
def model_list(request: HttpRequest, slug: str) -> HttpResponse:
    """The project's models, newest first."""
    membership = require_membership(request.user, slug, action="train")
    models = membership.project.models.select_related("run").annotate(
        n_scores=Count("scores", distinct=True), n_responses=Count("responses", distinct=True)
    )
    context = {
        "membership": membership,
        "project": membership.project,
        "section": "models",
        "page": paginate(request, models.order_by("-created_at", "-pk")),
    }
    return render(request, "annotation/model_list.html", context)


@login_required
@require_GET
def model_detail(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """One model: lineage, report, and the runs it can be the start of."""
    membership = require_membership(request.user, slug, action="train")
    related = ("snapshot", "base_model", "reward_model", "gold_model", "created_by", "project")
    models = Model.objects.select_related(*(f"run__{name}" for name in related))
    model = get_object_or_404(models, project=membership.project, pk=pk)
    is_policy = model.kind == Model.Kind.POLICY
    context = {
        "membership": membership,
        "project": membership.project,
        "section": "models",
        "model": model,
        "is_policy": is_policy,
        "provenance": [line for line in lineage(model.run) if line[1]] if model.run else [],
        "report_rows": interval_rows(model.run.report if model.run else None),
        "n_scores": model.scores.count(),
        "n_responses": model.responses.count(),
        "runs": used_by(model)[:20],
    }
    if is_policy:
        context["generate_form"] = RunForm(
            method=Run.Method.GENERATE, project=membership.project, initial={"base_model": model.pk}
        )
    else:
        context["comparisons"] = compare_policies(model)
    return render(request, "annotation/model_detail.html", context)


def used_by(model: Model) -> QuerySet[Run]:
    """The runs that begin from a model, are rewarded by it, or are watched by it, newest first."""
    return Run.objects.filter(Q(base_model=model) | Q(reward_model=model) | Q(gold_model=model)).order_by("-number")
