"""A project's settings: what annotators are asked, and how the work flows."""

from __future__ import annotations

from dataclasses import fields

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from annotation.domain.tasks import TaskRefused, question_is_settled, save_task, settings_of
from annotation.forms.tasks import TaskForm
from annotation.models import Project
from annotation.rendering import DEFAULT_PATTERNS
from annotation.rules import require_membership

SECTIONS = {
    "question": ("kind", "scales", "slate_size", "overlap"),
    "beside": ("rationale", "rationale_min", "corrections", "highlights", "flags"),
    "blinding": ("mask_patterns", "show_verdicts"),
    "flow": ("amend_minutes", "break_after", "lease_seconds"),
}
"""The fields of the form by the part of the page in which they stand."""


@login_required
@require_http_methods(["GET", "POST"])
def project_settings(request: HttpRequest, slug: str) -> HttpResponse:
    """Show the settings and change them."""
    membership = require_membership(request.user, slug, action="manage")
    project = membership.project
    settled = question_is_settled(project)
    form = TaskForm(request.POST or None, settled=settled, initial=_initial(project))
    if request.method == "POST" and form.is_valid():
        try:
            save_task(project, settings=form.settings())
            messages.success(request, _("The settings are saved. They hold from the next slate on."))
            return redirect("project_settings", slug=slug)
        except TaskRefused as error:
            form.add_error(None, error.problems)
    context = {
        "membership": membership,
        "project": project,
        "section": "settings",
        "form": form,
        "sections": {name: [form[field] for field in names] for name, names in SECTIONS.items()},
        "settled": settled,
        "default_patterns": DEFAULT_PATTERNS,
    }
    return render(request, "annotation/settings.html", context, status=422 if form.errors else 200)


def _initial(project: Project) -> dict[str, object]:
    settings = settings_of(project)
    return {field.name: getattr(settings, field.name) for field in fields(settings)}
