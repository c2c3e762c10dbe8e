"""Runs whose policy learns from its own responses: what their page asks for while they go on, and several compared."""

from __future__ import annotations

from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_GET

from annotation.forms.run_compare import CompareForm
from annotation.models import Model, Run
from annotation.queries import compare_policies
from annotation.rules import require_membership
from annotation.run_comparison import compare_runs, frontiers, gain_rows, list_differences
from annotation.training_report import describe_live, describe_samples, is_online
from annotation.views.runs import ACTIVE, require_run


@login_required
@require_GET
def run_live(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """Warnings and curves; 204 where the page has seen all of it."""
    run = _require_online(request, slug, number)
    return _answer(request, run, name="live", found=describe_live(run))


@login_required
@require_GET
def run_samples(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """Answers to the same prompts over time; 204 where the page has seen all of them."""
    run = _require_online(request, slug, number)
    return _answer(request, run, name="sampled", found=describe_samples(run))


def _require_online(request: HttpRequest, slug: str, number: int) -> Run:
    run = require_run(require_membership(request.user, slug, action="train"), number)
    if not is_online(run):
        raise Http404("This run has no policy that learns from its own responses.")
    return run


def _answer(request: HttpRequest, run: Run, *, name: str, found: dict[str, Any]) -> HttpResponse:
    active = run.state in ACTIVE
    if active and request.GET.get("seen") == found["seen"]:
        return HttpResponse(status=204)  # htmx leaves the page as it is, scrolled to where it was
    template = {"live": "annotation/_run_live.html", "sampled": "annotation/_run_samples.html"}[name]
    return render(request, template, {"project": run.project, "run": run, "active": active, name: found})


@login_required
@require_GET
def run_compare(request: HttpRequest, slug: str) -> HttpResponse:
    """Runs of different methods beside each other: scores, gold scores, KL, length and win rates, with intervals."""
    membership = require_membership(request.user, slug, action="train")
    form = CompareForm(request.GET, project=membership.project)
    context: dict[str, Any] = {
        "membership": membership,
        "project": membership.project,
        "section": "runs",
        "form": form,
    }
    if not form.is_valid():
        return render(request, "annotation/run_compare.html", context, status=422)
    judge = form.judge()
    chosen = form.chosen()
    made = Model.objects.filter(run__in=chosen)
    judged = compare_policies(judge, of=made) if judge is not None else []
    compared = compare_runs(chosen, won={row["new"].pk: row for row in judged})
    context |= {
        "compared": compared,
        "gains": gain_rows(compared),
        "gold_gains": gain_rows(compared, by_gold=True),
        "frontiers": frontiers(compared),
        "differences": list_differences(compared),
        "judge": judge,
        "old": judged[0]["old"] if judged else None,
    }
    return render(request, "annotation/run_compare.html", context)
