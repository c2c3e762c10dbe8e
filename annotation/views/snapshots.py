"""Snapshots: freeze one, read what is in it, take its files."""

from __future__ import annotations

import json
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import FileResponse, Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from annotation.domain.runs import TRAINED_ON, readable_formats
from annotation.domain.snapshots import (
    FORMATS,
    SPLITS,
    SnapshotRefused,
    freeze_snapshot,
    sample_rows,
    snapshot_directory,
)
from annotation.forms.snapshots import SnapshotForm
from annotation.models import Run, Snapshot
from annotation.rules import require_membership
from annotation.views.paging import paginate


@login_required
@require_http_methods(["GET", "POST"])
def snapshot_list(request: HttpRequest, slug: str) -> HttpResponse:
    """The project's snapshots, and a form that freezes the next one; the address may choose its format."""
    membership = require_membership(request.user, slug, action="export")
    form = SnapshotForm(request.POST or None, initial={"format": request.GET.get("format")})
    if request.method == "POST" and form.is_valid():
        try:
            snapshot = freeze_snapshot(
                membership.project,
                format=form.cleaned_data["format"],
                filters=form.filters(),
                split_seed=form.cleaned_data["split_seed"],
                shares=form.shares(),
                created_by=membership.user,
            )
            return redirect("snapshot_detail", slug=slug, number=snapshot.number)
        except SnapshotRefused as error:
            form.add_error(None, str(error))
    snapshots = membership.project.snapshots.select_related("created_by").order_by("-number")
    context = {
        "membership": membership,
        "project": membership.project,
        "section": "snapshots",
        "form": form,
        "page": paginate(request, snapshots),
        "formats": FORMATS,
    }
    return render(request, "annotation/snapshot_list.html", context, status=422 if form.errors else 200)


@login_required
@require_GET
def snapshot_detail(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """What one snapshot holds: hash, counts by split, what was left out, files, a few rows."""
    membership = require_membership(request.user, slug, action="export")
    snapshot = _require_snapshot(membership.project.pk, number)
    manifest = snapshot.manifest
    methods = [Run.Method(method) for method in TRAINED_ON if snapshot.format in readable_formats(method)]
    trainable = bool(methods)
    empty = empty_splits(manifest) if trainable else []
    samples, lost = _first_rows(snapshot)
    context = {
        "membership": membership,
        "project": membership.project,
        "section": "snapshots",
        "snapshot": snapshot,
        "manifest": manifest,
        "format_label": FORMATS.get(snapshot.format, snapshot.format),
        "filters": _filter_sentences(snapshot.filters),
        "splits": split_table(manifest),
        "samples": samples,
        "lost": lost,
        "methods": [] if empty else methods,
        "empty_splits": empty,
        "runs": snapshot.runs.order_by("-number"),
    }
    return render(request, "annotation/snapshot_detail.html", context)


@login_required
@require_GET
def snapshot_file(request: HttpRequest, slug: str, number: int, name: str) -> FileResponse:
    """One of the files that the manifest names; nothing else can be asked for."""
    membership = require_membership(request.user, slug, action="export")
    snapshot = _require_snapshot(membership.project.pk, number)
    known = {entry["path"] for entry in snapshot.manifest["files"]} | {"manifest.json"}
    path = snapshot_directory(snapshot) / name
    if name not in known or not path.is_file():
        raise Http404("The snapshot has no such file.")
    download = f"{snapshot.project.slug}-{snapshot.number}-{name.replace('/', '-')}"
    return FileResponse(path.open("rb"), as_attachment=True, filename=download, content_type="application/octet-stream")


def split_table(manifest: dict[str, Any]) -> list[dict[str, Any]]:
    """Rows and prompts of each split with the share of all rows."""
    counts = manifest["counts"]
    total = sum(counts["rows"].values())
    return [
        {
            "name": split,
            "rows": counts["rows"][split],
            "prompts": counts["prompts"][split],
            "share": counts["rows"][split] / total if total else 0,
        }
        for split in SPLITS
    ]


def empty_splits(manifest: dict[str, Any]) -> list[str]:
    """The splits without rows among those that a training needs: train to learn from, test to be measured on."""
    return [split for split in ("train", "test") if not manifest["counts"]["rows"][split]]


def _first_rows(snapshot: Snapshot) -> tuple[list[dict[str, Any]], str]:
    """A few rows to look at; none, and why, where the files are lost."""
    try:
        return [_sample(row) for row in sample_rows(snapshot)], ""
    except SnapshotRefused as error:
        return [], str(error)


def _sample(row: dict[str, Any]) -> dict[str, Any]:
    """A row as prompt and texts where it has them, and as JSON."""
    texts = [(key, row[key]) for key in ("prompt", "chosen", "rejected", "completion") if row.get(key)]
    return {"texts": texts, "json": json.dumps(row, ensure_ascii=False, indent=1)}


def _filter_sentences(filters: dict[str, Any]) -> list[tuple[str, str]]:
    return [
        (key.replace("_", " "), ", ".join(value) if isinstance(value, list | tuple) else str(value))
        for key, value in filters.items()
        if value
    ]


def _require_snapshot(project_id: int, number: int) -> Snapshot:
    snapshots = Snapshot.objects.select_related("project", "created_by")
    return get_object_or_404(snapshots, project=project_id, number=number)
