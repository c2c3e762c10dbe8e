"""Projects, their versioned guidelines, and their members."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

KNOWN_FLAGS = {
    "unsafe": _("unsafe"),
    "broken": _("broken or cut off"),
    "off-language": _("wrong language"),
    "self-identifies": _("says which model it is"),
}
"""Acceptability flags with a name in the interface's languages; a project may add its own."""


def default_flags() -> list[dict[str, str]]:
    """The flags of a new project: the known ones, under their own names."""
    return [{"key": key, "label": ""} for key in KNOWN_FLAGS]


class Project(models.Model):
    """One annotation effort: guidelines, settings, members with roles.

    What annotators are asked is the task: its kind, and what may be said beside it. `scales` is a list of
    {"name": str, "points": {"0": str, …}}, the points being consecutive whole numbers with the anchors' texts (empty
    where a point has none); `flags` a list of {"key": str, "label": str}, a known key's label being empty;
    `mask_patterns` a list of phrases that are masked in responses before anybody ranks them. `show_verdicts` says
    whether annotators may see what verifiers said of the responses of a slate that they have ranked.
    `annotation.domain.tasks` reads and writes them.
    """

    class Task(models.TextChoices):
        RANKING = "ranking", _("full ranking with ties")
        PAIRWISE = "pairwise", _("two responses, seven points")
        PAIRWISE_FORCED = "pairwise-forced", _("two responses, forced choice in four degrees")
        BEST = "best", _("best of all")
        BEST_WORST = "best-worst", _("best and worst")
        RATING = "rating", _("ratings on scales")

    class Rationale(models.TextChoices):
        NONE = "none", _("not asked")
        OPTIONAL = "optional", _("optional")
        REQUIRED = "required", _("required")

    class Corrections(models.TextChoices):
        NONE = "none", _("none")
        BEST = "best", _("of the best response")
        ANY = "any", _("of any response")

    slug = models.SlugField(_("short name"), max_length=60, unique=True)
    name = models.CharField(_("name"), max_length=120)
    description = models.TextField(_("description"), blank=True)
    slate_size = models.PositiveSmallIntegerField(_("responses a slate"), default=4)
    overlap = models.PositiveSmallIntegerField(_("annotators a slate"), default=1)
    lease_seconds = models.PositiveIntegerField(_("seconds a slate is held for an annotator"), default=1800)
    task = models.CharField(_("task"), max_length=16, choices=Task, default=Task.RANKING)
    scales = models.JSONField(_("scales"), default=list, blank=True)
    flags = models.JSONField(_("flags"), default=default_flags, blank=True)
    rationale = models.CharField(_("reason"), max_length=8, choices=Rationale, default=Rationale.OPTIONAL)
    rationale_min = models.PositiveIntegerField(_("fewest characters of a reason"), default=1)
    highlights = models.BooleanField(_("highlights with comments"), default=True)
    corrections = models.CharField(_("corrections"), max_length=4, choices=Corrections, default=Corrections.ANY)
    mask_patterns = models.JSONField(_("masked phrases"), default=list, blank=True)
    show_verdicts = models.BooleanField(_("verdicts after judging"), default=True)
    amend_minutes = models.PositiveIntegerField(_("minutes in which a ranking may be amended"), null=True, blank=True)
    break_after = models.PositiveSmallIntegerField(_("slates after which a break is offered"), null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["name", "pk"]
        constraints = [
            models.CheckConstraint(condition=Q(slate_size__range=(2, 9)), name="project_slate_size_2_to_9"),
            models.CheckConstraint(condition=Q(overlap__range=(1, 100)), name="project_overlap_1_to_100"),
            models.CheckConstraint(condition=Q(lease_seconds__gte=1), name="project_lease_positive"),
            models.CheckConstraint(
                condition=Q(task__in=["ranking", "pairwise", "pairwise-forced", "best", "best-worst", "rating"]),
                name="project_task_known",
            ),
            models.CheckConstraint(
                condition=~Q(task__in=["pairwise", "pairwise-forced"]) | Q(slate_size=2), name="project_pairs_are_two"
            ),
            models.CheckConstraint(
                condition=Q(rationale__in=["none", "optional", "required"]), name="project_rationale_known"
            ),
            models.CheckConstraint(
                condition=Q(corrections__in=["none", "best", "any"]), name="project_corrections_known"
            ),
            models.CheckConstraint(
                condition=Q(rationale_min__range=(1, 20_000)), name="project_rationale_min_1_to_20000"
            ),
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


class GuidelinesReading(models.Model):
    """That a member has read a version of the guidelines."""

    membership = models.ForeignKey("annotation.Membership", on_delete=models.PROTECT, related_name="readings")
    guidelines = models.ForeignKey(Guidelines, on_delete=models.PROTECT, related_name="readings")
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["membership", "guidelines"], name="reading_once_a_version")]

    def __str__(self) -> str:
        return f"{self.membership_id} read {self.guidelines_id}"


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
