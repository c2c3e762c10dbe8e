"""Runs: start one, watch it, cancel it, read its report, register its model."""

from __future__ import annotations

import json
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotation.domain.collecting import COLLECTED, MAKE_NO_MODEL, CollectionRefused, register_model
from annotation.domain.runs import ONLINE, TRAINED_ON, RunRefused, cancel_run, queue_run, run_directory, run_metrics
from annotation.domain.snapshots import FORMATS
from annotation.forms.runs import NEEDS_SNAPSHOT, RegisterForm, RunForm, reward_models, trainable_snapshots
from annotation.models import Membership, Run, Slate
from annotation.queries import pipeline_rows
from annotation.rules import require_membership
from annotation.templatetags.plots import beats_baselines, interval_rows
from annotation.training_report import describe_live, describe_samples, is_online, score_rows
from annotation.views.paging import paginate

ACTIVE = (Run.State.QUEUED, Run.State.RUNNING)
METRIC_LINES = 5000
"""Rows of metrics in one answer; the page asks on from where it stopped."""
LOG_TAIL_BYTES = 8_000
TABLE_ROWS = 12
NEWEST_PIPELINES = 5


@login_required
@require_GET
def run_list(request: HttpRequest, slug: str) -> HttpResponse:
    """The project's runs, newest first, and what can be started."""
    membership = require_membership(request.user, slug, action="train")
    runs = membership.project.runs.select_related("snapshot", "base_model", "created_by").order_by("-number")
    context = {
        "membership": membership,
        "project": membership.project,
        "section": "runs",
        "page": paginate(request, runs),
        "pipelines": pipeline_rows(membership.project).order_by("-number")[:NEWEST_PIPELINES]
        if "page" not in request.GET
        else [],
        "trainable": trainable_snapshots(membership.project, method=Run.Method.REWARD).exists(),
    }
    return render(request, "annotation/run_list.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def run_new(request: HttpRequest, slug: str) -> HttpResponse:
    """Choose the settings of a run and queue it; the address may fill fields in by their names."""
    membership = require_membership(request.user, slug, action="train")
    asked = request.POST if request.method == "POST" else request.GET
    method = asked.get("method", Run.Method.REWARD)
    if method not in Run.Method.values:
        raise Http404("No such method.")
    if request.method == "GET":
        form = RunForm(method=method, project=membership.project, initial=asked.dict())
        return _render_run_form(request, membership, form)
    form = RunForm(request.POST, method=method, project=membership.project)
    run = queue_from_form(form, membership) if form.is_valid() else None
    if run is None:
        return _render_run_form(request, membership, form, status=422)
    return redirect("run_detail", slug=slug, number=run.number)


@login_required
@require_GET
def run_detail(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """One run: how it stands, what it learned, how it got there, what it was asked."""
    membership = require_membership(request.user, slug, action="train")
    run = require_run(membership, number)
    rows = run_metrics(run)
    report_rows = interval_rows(run.report)
    context = state_context(membership, run) | {
        "section": "runs",
        "report_rows": report_rows,
        "main_clear": beats_baselines(report_rows),
        "snapshot_run": run.method in NEEDS_SNAPSHOT,
        "online": is_online(run),
        "made": what_it_made(run),
        "dropped": dropped_counts(run.report),
        "metrics_count": len(rows),
        "metric_names": metric_names(rows),
        "metric_rows": metric_table(rows),
        "spec": json.dumps(run.spec, indent=1, ensure_ascii=False),
        "provenance": [line for line in lineage(run) if line[1]],
        "log_tail": log_tail(run),
        "register_form": RegisterForm(initial={"name": f"{run.method}-{run.number}"}),
        "model": getattr(run, "registered_model", None),
        "stage": getattr(run, "stage", None),
        "makes_model": run.method not in MAKE_NO_MODEL,
    }
    if is_online(run):
        context |= {"live": describe_live(run), "sampled": describe_samples(run), "score_rows": score_rows(run.report)}
    return render(request, "annotation/run_detail.html", context)


@login_required
@require_GET
def run_state(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """The line that says how the run stands; the page polls it while the run is active."""
    membership = require_membership(request.user, slug, action="train")
    run = require_run(membership, number)
    response = render(request, "annotation/_run_state.html", state_context(membership, run))
    if run.state not in ACTIVE and "HX-Request" in request.headers:
        response.headers["HX-Refresh"] = "true"  # it ended since the last poll: show the report
    return response


@login_required
@require_GET
def run_metrics_json(request: HttpRequest, slug: str, number: int) -> JsonResponse:
    """The rows of metrics after the first `after`, and whether more may come."""
    membership = require_membership(request.user, slug, action="train")
    run = require_run(membership, number)
    asked = request.GET.get("after", "0")
    after = int(asked) if asked.isdecimal() and len(asked) < 10 else 0
    rows = run_metrics(run, after_line=after)[:METRIC_LINES]
    return JsonResponse({"rows": rows, "next": after + len(rows), "active": run.state in ACTIVE})


@login_required
@require_POST
def run_cancel(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """Ask the run to stop."""
    membership = require_membership(request.user, slug, action="train")
    run = cancel_run(require_run(membership, number))
    if run.state in ACTIVE:
        messages.info(request, _("The run stops at its next checkpoint."))
    return redirect("run_detail", slug=slug, number=number)


@login_required
@require_POST
def run_register(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """Put the run's model into the registry."""
    membership = require_membership(request.user, slug, action="train")
    run = require_run(membership, number)
    form = RegisterForm(request.POST)
    if not form.is_valid():
        messages.error(request, _("Give the model a name of 1 to 120 characters."))
        return redirect("run_detail", slug=slug, number=number)
    try:
        model = register_model(run, name=form.cleaned_data["name"])
    except CollectionRefused as error:
        messages.error(request, str(error))
        return redirect("run_detail", slug=slug, number=number)
    return redirect("model_detail", slug=slug, pk=model.pk)


def what_it_made(run: Run) -> dict[str, Any] | None:
    """What a finished generation, scoring or verification left in the project."""
    if run.state != Run.State.SUCCEEDED or run.method not in COLLECTED:
        return None
    if run.method == Run.Method.GENERATE:
        note = _("in %(slates)d new slates, which come first for annotators") % {
            "slates": Slate.objects.filter(responses__run=run).distinct().count()
        }
        return {"label": _("Responses"), "number": run.responses.count(), "note": note}
    if run.method == Run.Method.VERIFY:
        passed, count = run.verdicts.filter(passed=True).count(), run.verdicts.count()
        note = _("%(passed)d passed, %(failed)d failed") % {"passed": passed, "failed": count - passed}
        return {"label": _("Verdicts"), "number": count, "note": note}
    scored = run.base_model.scores.count() if run.base_model else 0
    return {"label": _("Scores"), "number": scored, "note": _("responses of the project scored by this model")}


def dropped_counts(report: dict[str, Any] | None) -> list[tuple[str, int]]:
    """What the training left out, flat: [("train: too long", 3)]."""
    flat: list[tuple[str, int]] = []
    for name, value in ((report or {}).get("dropped") or {}).items():
        if isinstance(value, dict):
            flat += [(f"{name}: {reason.replace('_', ' ')}", count) for reason, count in value.items() if count]
        elif value:
            flat.append((name.replace("_", " "), value))
    return flat


def metric_names(rows: list[dict[str, Any]]) -> list[str]:
    """The names of the numbers in the metrics, in order of appearance, without step and time."""
    names: dict[str, None] = {}
    for row in rows:
        names |= {key: None for key, value in row.items() if isinstance(value, int | float)}
    return [name for name in names if name not in ("step", "time")]


def metric_table(rows: list[dict[str, Any]]) -> list[list[Any]]:
    """About a dozen rows spread over the run, the last included, for reading without a chart."""
    names = metric_names(rows)
    stride = max(1, -(-len(rows) // TABLE_ROWS))
    kept = [row for i, row in enumerate(rows) if (len(rows) - 1 - i) % stride == 0]
    return [[row.get("step"), *(row.get(name) for name in names)] for row in kept]


def lineage(run: Run) -> list[tuple[str, str]]:
    """Where the run came from, as name and value."""
    snapshot = run.snapshot
    return [
        (_("snapshot"), f"{snapshot.number} · {snapshot.format} · sha256 {snapshot.sha256}" if snapshot else ""),
        (_("started from"), run.base_model.name if run.base_model else str(run.spec.get("model", ""))),
        (_("reward model"), run.reward_model.name if run.reward_model else ""),
        (_("gold model"), run.gold_model.name if run.gold_model else ""),
        (_("asked by"), run.created_by.get_username() if run.created_by else ""),
        (_("asked at"), run.created_at.strftime("%Y-%m-%d %H:%M:%S UTC")),
        (_("worker"), run.worker),
        (_("attempt"), str(run.attempt) if run.attempt else ""),
        *((str(name), str(value)) for name, value in ((run.status or {}).get("versions") or {}).items()),
    ]


def log_tail(run: Run) -> str:
    """The last lines of the run's own log."""
    path = run_directory(run) / "log.txt"
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - LOG_TAIL_BYTES))
        text = file.read().decode("utf-8", errors="replace")
    lines = [line.rsplit("\r", 1)[-1] for line in text.rstrip().split("\n")]  # progress bars overwrite their line
    return "\n".join(lines[1:] if size > LOG_TAIL_BYTES else lines)


def queue_from_form(form: RunForm, membership: Membership) -> Run | None:
    """Queue the run the form describes; None, with the reason in the form, where it is refused."""
    try:
        return queue_run(
            membership.project,
            method=form.method,
            settings=form.settings(),
            snapshot=form.cleaned_data.get("snapshot"),
            base_model=form.cleaned_data.get("base_model"),
            reward_model=form.cleaned_data.get("reward_model"),
            gold_model=form.cleaned_data.get("gold_model"),
            created_by=membership.user,
        )
    except RunRefused as error:
        form.refuse(str(error))
        return None


def _render_run_form(request: HttpRequest, membership: Membership, form: RunForm, *, status: int = 200) -> HttpResponse:
    method = Run.Method(form.method)
    context = {
        "membership": membership,
        "project": membership.project,
        "section": "runs",
        "form": form,
        "method": method,
        "methods": Run.Method,
        "lacks_snapshot": method in NEEDS_SNAPSHOT
        and not trainable_snapshots(membership.project, method=method).exists(),
        "wanted_format": FORMATS.get(TRAINED_ON.get(method, "")),
        "lacks_reward_model": method in ONLINE and not reward_models(membership.project).exists(),
    }
    return render(request, "annotation/run_new.html", context, status=status)


def state_context(membership: Membership, run: Run) -> dict[str, Any]:
    """What the line that says how a run stands is made of."""
    status = run.status or {}
    step, total = status.get("step"), status.get("total_steps")
    return {
        "membership": membership,
        "project": membership.project,
        "run": run,
        "status": status,
        "active": run.state in ACTIVE,
        "part": step / total if step is not None and total else None,
        "took": (run.finished_at - run.started_at).total_seconds() if run.finished_at and run.started_at else None,
    }


def require_run(membership: Membership, number: int) -> Run:
    """The project's run of that number, or 404."""
    related = ("project", "snapshot", "base_model", "reward_model", "gold_model", "created_by", "registered_model")
    runs = Run.objects.select_related(*related)
    runs = runs.select_related("stage__pipeline")
    return get_object_or_404(runs, project=membership.project, number=number)
