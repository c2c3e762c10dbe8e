"""Pipelines: runs that take each other's models, with gates between them."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from annotation.models.project import Project
from annotation.models.training import Run


class Pipeline(models.Model):
    """Stages in order, as their spec says. The row moves on when the run of its stage has ended."""

    class State(models.TextChoices):
        RUNNING = "running", _("running")
        HELD = "held", _("held at a gate")
        SUCCEEDED = "succeeded", _("succeeded")
        FAILED = "failed", _("failed")
        CANCELLED = "cancelled", _("cancelled")

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="pipelines")
    number = models.PositiveIntegerField()
    name = models.CharField(max_length=120)
    spec = models.JSONField()
    state = models.CharField(max_length=12, choices=State, default=State.RUNNING)
    error = models.TextField(blank=True)
    created_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )
    created_at = models.DateTimeField(auto_now_add=True)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        ordering = ["project", "-number"]
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="pipeline_number_once_a_project"),
            models.CheckConstraint(
                condition=Q(state__in=["running", "held", "succeeded", "failed", "cancelled"]),
                name="pipeline_state_known",
            ),
        ]
        indexes = [models.Index(fields=["state"])]

    def __str__(self) -> str:
        return f"{self.project.slug} pipeline {self.number}"


class PipelineStage(models.Model):
    """One stage: its run, once what it takes is there, and what its gate said of it.

    `overruled_by` went on past a gate that does not hold.
    """

    pipeline = models.ForeignKey(Pipeline, on_delete=models.CASCADE, related_name="stages")
    position = models.PositiveSmallIntegerField()
    name = models.CharField(max_length=40)
    run = models.OneToOneField(Run, on_delete=models.PROTECT, null=True, blank=True, related_name="stage")
    verdict = models.JSONField(null=True, blank=True)
    overruled_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="+"
    )

    class Meta:
        ordering = ["pipeline", "position"]
        constraints = [
            models.UniqueConstraint(fields=["pipeline", "position"], name="stage_position_once_a_pipeline"),
            models.UniqueConstraint(fields=["pipeline", "name"], name="stage_name_once_a_pipeline"),
        ]

    def __str__(self) -> str:
        return self.name
