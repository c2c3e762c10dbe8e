"""Rankings: what one annotator said of one slate."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from annotation.models.project import Guidelines, Membership
from annotation.models.slate import Slate, Slot


class Ranking(models.Model):
    """An immutable judgement; an amendment is a new row that supersedes it (a database trigger refuses updates).

    `tiers` is a list of lists of response ids, best first; responses in one list are tied. `presented_order` is the
    list of response ids from left to right as the annotator saw them, empty where it is not known (imports).
    `all_bad` says that no response was acceptable; it is a judgement beside the tiers, not a tie.
    """

    slate = models.ForeignKey(Slate, on_delete=models.PROTECT, related_name="rankings")
    slot = models.ForeignKey(Slot, on_delete=models.PROTECT, related_name="rankings")
    annotator = models.ForeignKey(Membership, on_delete=models.PROTECT, related_name="rankings")
    token = models.UUIDField(unique=True)
    supersedes = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="superseded_by"
    )
    tiers = models.JSONField()
    all_bad = models.BooleanField(default=False)
    presented_order = models.JSONField(default=list)
    strength = models.SmallIntegerField(null=True, blank=True)
    ratings = models.JSONField(null=True, blank=True)
    rationale = models.TextField(blank=True)
    active_ms = models.PositiveIntegerField(null=True, blank=True)
    guidelines = models.ForeignKey(Guidelines, on_delete=models.PROTECT, null=True, blank=True, related_name="rankings")
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["slot"], condition=Q(supersedes__isnull=True), name="ranking_first_once_a_slot"
            ),
            models.CheckConstraint(
                condition=Q(strength__isnull=True) | Q(strength__range=(-3, 3)), name="ranking_strength_range"
            ),
        ]
        indexes = [models.Index(fields=["annotator", "created_at"])]

    def __str__(self) -> str:
        return f"{self.slate_id} by {self.annotator_id}"
