"""The upload page: files in, counts or the exact error out."""

from __future__ import annotations

import tempfile
from contextlib import ExitStack
from pathlib import Path

from django.contrib.auth.decorators import login_required
from django.core.files.uploadedfile import UploadedFile
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_http_methods

from annotation.domain.importing import ImportFile, ImportRefused, import_files
from annotation.forms.importing import ImportForm
from annotation.rules import require_membership


@login_required
@require_http_methods(["GET", "POST"])
def import_data(request: HttpRequest, slug: str) -> HttpResponse:
    """Import uploaded files, or say in which file, line and field they cannot be."""
    membership = require_membership(request.user, slug, action="manage")
    form = ImportForm(request.POST or None, request.FILES or None) if request.method == "POST" else ImportForm()
    context = {"membership": membership, "project": membership.project, "section": "import", "form": form}
    if request.method == "POST" and form.is_valid():
        try:
            with ExitStack() as stack:
                files = [as_import_file(file, stack) for file in form.cleaned_data["uploads"]]
                context["counts"] = import_files(
                    membership.project,
                    files=files,
                    format=form.cleaned_data["format"],
                    dry_run=form.cleaned_data["dry_run"],
                )
        except ImportRefused as error:
            context["refused"] = str(error)
    bad = bool(form.errors) or "refused" in context
    return render(request, "annotation/import.html", context, status=422 if bad else 200)


def as_import_file(upload: UploadedFile, stack: ExitStack) -> ImportFile:
    """The upload as a file on disk; small uploads live in memory until here."""
    name = upload.name or "upload"
    if hasattr(upload, "temporary_file_path"):
        return ImportFile(name=name, path=Path(upload.temporary_file_path()))
    copy = stack.enter_context(tempfile.NamedTemporaryFile(prefix="import-"))  # noqa: SIM115 (the stack closes it)
    for chunk in upload.chunks():
        copy.write(chunk)
    copy.flush()
    return ImportFile(name=name, path=Path(copy.name))
