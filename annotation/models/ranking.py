"""Rankings: what one annotator said of one slate."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from annotation.models.project import Guidelines, Membership, Project
from annotation.models.slate import Slate, Slot


class Ranking(models.Model):
    """An immutable judgement; an amendment is a new row that supersedes it (a database trigger refuses updates).

    `task` is the kind of task under which it was given. `tiers` is a list of lists of response ids, best first;
    responses in one list are tied, but under "best" and "best-worst" merely not told apart. Ratings alone have none.
    `strength` runs from -3 (the slate's first response is much better) to 3 (its second is), in canonical order and
    never in that of the screen; under "pairwise-forced" 0 is the weakest degree, and the tiers say of which side.
    `ratings` is {scale: {response id: number}}, `flags` {response id: [flag key, …]}, `corrections` {response id:
    text}, `highlights` a list of {"response", "start", "end", "quote", "comment"} whose offsets count code points of
    the response's text as it was shown (see `annotation.rendering`). `presented_order` is the list of response ids
    from left to right as the annotator saw them, empty where it is not known (imports). `all_bad` says that no
    response was acceptable; it is a judgement beside the tiers, not a tie.
    """

    slate = models.ForeignKey(Slate, on_delete=models.PROTECT, related_name="rankings")
    slot = models.ForeignKey(Slot, on_delete=models.PROTECT, related_name="rankings")
    annotator = models.ForeignKey(Membership, on_delete=models.PROTECT, related_name="rankings")
    token = models.UUIDField(unique=True)
    supersedes = models.OneToOneField(
        "self", on_delete=models.PROTECT, null=True, blank=True, related_name="superseded_by"
    )
    task = models.CharField(max_length=16, choices=Project.Task, default=Project.Task.RANKING)
    tiers = models.JSONField()
    all_bad = models.BooleanField(default=False)
    presented_order = models.JSONField(default=list)
    strength = models.SmallIntegerField(null=True, blank=True)
    ratings = models.JSONField(null=True, blank=True)
    flags = models.JSONField(default=dict, blank=True)
    highlights = models.JSONField(default=list, blank=True)
    corrections = models.JSONField(default=dict, blank=True)
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
            models.CheckConstraint(
                condition=Q(task__in=["ranking", "pairwise", "pairwise-forced", "best", "best-worst", "rating"]),
                name="ranking_task_known",
            ),
        ]
        indexes = [models.Index(fields=["annotator", "created_at"])]

    def __str__(self) -> str:
        return f"{self.slate_id} by {self.annotator_id}"
