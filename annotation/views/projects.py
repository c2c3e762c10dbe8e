"""The projects a person is in, the project page, and its guidelines."""

from __future__ import annotations

from collections import Counter
from typing import Any

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.http import require_GET, require_http_methods

from annotation.agreement import measure_alpha
from annotation.domain.assigning import drafts_without_slot
from annotation.domain.projects import create_project, publish_guidelines
from annotation.domain.tasks import Task, TaskRefused, task_of
from annotation.forms.projects import GuidelinesForm, ProjectForm
from annotation.models import Guidelines, Membership, Project
from annotation.queries import annotator_progress, latest_guidelines, project_overview, responses_are_coming
from annotation.rules import can, projects_for_user, require_membership
from annotation.templatetags.plots import interval_rows
from annotation.verdicts import find_conflicts
from annotation.views.agreement import NEWEST_SLATES, RESAMPLES
from annotation.views.ranking import progress_text

STEP_ACTIONS = {
    "rank": "annotate",
    "import_data": "manage",
    "snapshot_list": "export",
    "run_list": "train",
    "model_list": "train",
}
"""The right that each next step needs; who lacks it reads the sentence without the button."""

TASK_SENTENCES = {
    Project.Task.RANKING: gettext_lazy("Annotators put the responses in order, best first; equal ones may be tied."),
    Project.Task.PAIRWISE: gettext_lazy("Annotators say on seven points which of two responses is better."),
    Project.Task.PAIRWISE_FORCED: gettext_lazy(
        "Annotators say which of two responses is better, and by how much; there is no tie."
    ),
    Project.Task.BEST: gettext_lazy("Annotators choose the best response."),
    Project.Task.BEST_WORST: gettext_lazy("Annotators choose the best and the worst response."),
    Project.Task.RATING: gettext_lazy("Annotators rate each response by itself; ratings never become an order."),
}


@login_required
@require_GET
def project_list(request: HttpRequest) -> HttpResponse:
    """The projects of which the user is a member."""
    memberships = Membership.objects.filter(
        user=request.user.pk, project__in=projects_for_user(request.user)
    ).select_related("project")
    listed = memberships.order_by("project__name")
    kept = Counter(drafts_without_slot(*listed).values_list("annotator", flat=True))
    return render(request, "annotation/project_list.html", {"memberships": listed, "kept": kept})


@login_required
@require_http_methods(["GET", "POST"])
def project_new(request: HttpRequest) -> HttpResponse:
    """Make a project; for staff."""
    if not request.user.is_staff:
        raise PermissionDenied(_("Only staff may make projects."))
    form = ProjectForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        try:
            project = create_project(**form.cleaned_data, owner=request.user)
            messages.success(request, _("The project stands. Import prompts next."))
            return redirect("project_detail", slug=project.slug)
        except TaskRefused as error:
            form.add_error(None, error.problems)
    return render(request, "annotation/project_new.html", {"form": form}, status=422 if form.errors else 200)


@login_required
@require_GET
def project_detail(request: HttpRequest, slug: str) -> HttpResponse:
    """Where the project stands. Annotators see their own part of it only."""
    membership = require_membership(request.user, slug, action="view")
    context: dict[str, Any] = {
        "membership": membership,
        "project": membership.project,
        "section": "overview",
        "guidelines": latest_guidelines(membership.project),
        "task_sentences": describe_task(task_of(membership.project)),
    }
    if not can(membership, "review"):
        progress = annotator_progress(membership)
        context |= {"progress": progress, "progress_text": progress_text(progress)}
        context["responses_coming"] = responses_are_coming(membership.project)
        return render(request, "annotation/project_annotator.html", context)
    overview = project_overview(membership.project)
    context |= {
        "overview": overview,
        "alpha": measure_alpha(membership.project, newest_slates=NEWEST_SLATES, resamples=RESAMPLES),
        "conflicts": find_conflicts(membership.project).count(),
        "circle": circle_stations(overview),
        "report_rows": interval_rows(overview["latest_report"]),
        "step_url": _step_url(membership, overview["next_step"]["url_name"]),
    }
    return render(request, "annotation/project_detail.html", context)


@login_required
@require_http_methods(["GET", "POST"])
def guidelines(request: HttpRequest, slug: str) -> HttpResponse:
    """Read the guidelines in any version, or what changed between two; admins publish the next one."""
    action = "manage" if request.method == "POST" else "view"
    membership = require_membership(request.user, slug, action=action)
    project = membership.project
    latest = latest_guidelines(project)
    form = GuidelinesForm(request.POST or None, initial={"text": latest.text if latest else ""})
    if request.method == "POST" and form.is_valid():
        published = publish_guidelines(project, text=form.cleaned_data["text"])
        messages.success(
            request, _("Version %(version)d is what annotators read now.") % {"version": published.version}
        )
        return redirect("guidelines", slug=slug)
    wanted, against = request.GET.get("version", ""), request.GET.get("against", "")
    shown = _require_version(project, wanted) if wanted else latest
    older = _require_version(project, against) if against else None
    context = {
        "membership": membership,
        "project": project,
        "section": "guidelines",
        "shown": shown,
        "against": older,
        "compare_from": older.version if older else max(shown.version - 1, 1) if shown else 1,
        "versions": project.guidelines.all(),
        "form": form,
    }
    return render(request, "annotation/guidelines.html", context, status=422 if form.errors else 200)


def describe_task(task: Task) -> list[str]:
    """What annotators are asked, in a sentence or three."""
    sentences = [str(TASK_SENTENCES[Project.Task(task.kind)])]
    if task.scales:
        scales = ", ".join(f"{scale.name} ({scale.low}–{scale.high})" for scale in task.scales)
        said = ngettext("There is a scale: %(scales)s.", "There are scales: %(scales)s.", len(task.scales))
        sentences.append(said % {"scales": scales})
    if task.rationale == Project.Rationale.REQUIRED:
        sentences.append(_("A reason is required."))
    return sentences


def circle_stations(overview: dict[str, Any]) -> list[dict[str, Any]]:
    """The eight stations of the circle with their numbers, in the order in which data flows."""
    numbers = {key: value for key, value in overview.items() if isinstance(value, int)}
    return [
        {"name": _("prompts"), "number": overview["prompts"], "note": "", "url_name": "prompt_list"},
        {
            "name": _("slates"),
            "number": overview["slates"],
            "note": _("%(slates_done)d done") % numbers,
            "url_name": "",
        },
        {
            "name": _("slots"),
            "number": overview["slots"],
            "note": _("%(slots_done)d done") % numbers,
            "url_name": "",
        },
        {
            "name": _("rankings"),
            "number": overview["rankings"],
            "note": _("by %(annotators)d annotators") % numbers,
            "url_name": "",
        },
        {"name": _("comparisons"), "number": overview["comparisons"], "note": _("derived"), "url_name": ""},
        {
            "name": _("snapshots"),
            "number": overview["snapshots"],
            "note": _("frozen"),
            "url_name": "snapshot_list",
        },
        {
            "name": _("runs"),
            "number": overview["runs"],
            "note": _("%(runs_active)d active") % numbers,
            "url_name": "run_list",
        },
        {
            "name": _("responses"),
            "number": overview["responses"],
            "note": _count_of_models(overview),
            "url_name": "model_list",
        },
    ]


def _require_version(project: Project, wanted: str) -> Guidelines:
    """The version of the guidelines that the address names, or 404."""
    if not wanted.isdecimal() or len(wanted) >= 10:
        raise Http404("No such version.")
    return get_object_or_404(project.guidelines, version=int(wanted))


def _count_of_models(overview: dict[str, Any]) -> str:
    models = ngettext("%(n)d model", "%(n)d models", overview["models"]) % {"n": overview["models"]}
    scores = ngettext("%(n)d score", "%(n)d scores", overview["scores"]) % {"n": overview["scores"]}
    return f"{models} · {scores}"


def _step_url(membership: Membership, url_name: str) -> str | None:
    if not can(membership, STEP_ACTIONS[url_name]):
        return None
    return reverse(url_name, kwargs={"slug": membership.project.slug})
