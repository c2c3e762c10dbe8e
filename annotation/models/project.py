"""Projects, their versioned guidelines, and their members."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _


class Project(models.Model):
    """One annotation effort: guidelines, settings, members with roles."""

    slug = models.SlugField(_("short name"), max_length=60, unique=True)
    name = models.CharField(_("name"), max_length=120)
    description = models.TextField(_("description"), blank=True)
    slate_size = models.PositiveSmallIntegerField(_("responses a slate"), default=4)
    overlap = models.PositiveSmallIntegerField(_("annotators a slate"), default=1)
    lease_seconds = models.PositiveIntegerField(_("seconds a slate is held for an annotator"), default=1800)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name", "pk"]
        constraints = [
            models.CheckConstraint(condition=Q(slate_size__range=(2, 9)), name="project_slate_size_2_to_9"),
            models.CheckConstraint(condition=Q(overlap__range=(1, 100)), name="project_overlap_1_to_100"),
            models.CheckConstraint(condition=Q(lease_seconds__gte=1), name="project_lease_positive"),
        ]

    def __str__(self) -> str:
        return self.name


class Guidelines(models.Model):
    """One version of a project's guidelines; a change is a new version."""

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="guidelines")
    version = models.PositiveIntegerField()
    text = models.TextField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["project", "-version"]
        constraints = [
            models.UniqueConstraint(fields=["project", "version"], name="guidelines_version_once_a_project"),
            models.CheckConstraint(condition=Q(version__gte=1), name="guidelines_version_from_1"),
        ]

    def __str__(self) -> str:
        return f"{self.project} v{self.version}"


class Membership(models.Model):
    """A person's place in a project, or the name under which imported or simulated judgements stand."""

    class Role(models.TextChoices):
        ANNOTATOR = "annotator", _("annotator")
        REVIEWER = "reviewer", _("reviewer")
        ADMIN = "admin", _("admin")
        ENGINEER = "engineer", _("engineer")

    class Kind(models.TextChoices):
        PERSON = "person", _("person")
        IMPORTED = "imported", _("imported")
        SIMULATED = "simulated", _("simulated")

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="memberships")
    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.PROTECT, null=True, blank=True, related_name="memberships"
    )
    name = models.CharField(max_length=150)
    role = models.CharField(max_length=12, choices=Role)
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.PERSON)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["project", "name"]
        constraints = [
            models.UniqueConstraint(fields=["project", "name", "kind"], name="membership_name_once_a_project"),
            models.UniqueConstraint(fields=["project", "user"], name="membership_user_once_a_project"),
            models.CheckConstraint(
                condition=Q(kind="person", user__isnull=False) | (~Q(kind="person") & Q(user__isnull=True)),
                name="membership_person_has_user",
            ),
            models.CheckConstraint(
                condition=Q(role__in=["annotator", "reviewer", "admin", "engineer"]),
                name="membership_role_known",
            ),
            models.CheckConstraint(
                condition=Q(kind__in=["person", "imported", "simulated"]), name="membership_kind_known"
            ),
        ]

    def __str__(self) -> str:
        return self.name
