"""Snapshots: frozen, hashed exports of a project's judgements."""

from __future__ import annotations

from django.conf import settings
from django.db import models

from annotation.models.project import Project


class Snapshot(models.Model):
    """One frozen dataset. Its files lie in DATA_DIR/snapshots/<project>/<number> and never change."""

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="snapshots")
    number = models.PositiveIntegerField()
    format = models.CharField(max_length=30)
    filters = models.JSONField(default=dict)
    split_seed = models.PositiveIntegerField(default=0)
    manifest = models.JSONField()
    sha256 = models.CharField(max_length=64)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["project", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="snapshot_number_once_a_project"),
        ]

    def __str__(self) -> str:
        return f"{self.project.slug}/{self.number}"
