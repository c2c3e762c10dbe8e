"""Slates, the slots that annotators take at them, and the leases under which they work."""

from __future__ import annotations

import uuid

from django.db import models
from django.db.models import Q
from django.utils.translation import gettext_lazy as _

from annotation.models.project import Membership, Project
from annotation.models.prompt import Prompt, Response


class Slate(models.Model):
    """The K responses of one prompt that are shown together.

    `criterion` names what is judged where data comes with several criteria; empty means overall.
    """

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="slates")
    prompt = models.ForeignKey(Prompt, on_delete=models.PROTECT, related_name="slates")
    external_id = models.CharField(max_length=200)
    criterion = models.CharField(max_length=100, blank=True)
    responses: models.ManyToManyField[Response, SlateResponse] = models.ManyToManyField(
        Response, through="SlateResponse", related_name="slates"
    )
    priority = models.IntegerField(default=0)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["-priority", "pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["project", "external_id", "criterion"], name="slate_external_id_once_a_project"
            ),
        ]

    def __str__(self) -> str:
        return self.external_id


class SlateResponse(models.Model):
    """A response's place in a slate; `position` is canonical and never what an annotator sees."""

    slate = models.ForeignKey(Slate, on_delete=models.PROTECT, related_name="places")
    response = models.ForeignKey(Response, on_delete=models.PROTECT, related_name="places")
    position = models.PositiveSmallIntegerField()

    class Meta:
        ordering = ["slate", "position"]
        constraints = [
            models.UniqueConstraint(fields=["slate", "position"], name="slate_position_once"),
            models.UniqueConstraint(fields=["slate", "response"], name="slate_response_once"),
            models.CheckConstraint(condition=Q(position__lt=9), name="slate_at_most_9_responses"),
        ]

    def __str__(self) -> str:
        return f"{self.slate_id}/{self.position}"


class Slot(models.Model):
    """One annotator's place at a slate.

    free → leased → done; a lapsed or skipped lease makes it claimable again. `extra` slots hold late rankings that
    came after their slot had gone to somebody else.
    """

    class State(models.TextChoices):
        FREE = "free", _("free")
        LEASED = "leased", _("leased")
        DONE = "done", _("done")

    slate = models.ForeignKey(Slate, on_delete=models.PROTECT, related_name="slots")
    number = models.PositiveSmallIntegerField()
    state = models.CharField(max_length=8, choices=State, default=State.FREE)
    annotator = models.ForeignKey(Membership, on_delete=models.PROTECT, null=True, blank=True, related_name="slots")
    token = models.UUIDField(null=True, blank=True, unique=True)
    deadline = models.DateTimeField(null=True, blank=True)
    is_extra = models.BooleanField(default=False)

    class Meta:
        ordering = ["slate", "number"]
        constraints = [
            models.UniqueConstraint(fields=["slate", "number"], name="slot_number_once_a_slate"),
            models.UniqueConstraint(fields=["slate", "annotator"], name="slot_annotator_once_a_slate"),
            models.CheckConstraint(
                condition=Q(state="free", annotator__isnull=True, token__isnull=True, deadline__isnull=True)
                | Q(state="leased", annotator__isnull=False, token__isnull=False, deadline__isnull=False)
                | Q(state="done", annotator__isnull=False),
                name="slot_state_consistent",
            ),
        ]
        indexes = [models.Index(fields=["state", "deadline"]), models.Index(fields=["annotator", "state"])]

    def __str__(self) -> str:
        return f"{self.slate_id}#{self.number} {self.state}"


class Lease(models.Model):
    """What one annotator was shown and in which order: the record a late submission is judged by. It never changes.

    `slot` is the one by whose number the order was drawn; the slot that bears the token is the one that is held.
    """

    token = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    slot = models.ForeignKey(Slot, on_delete=models.PROTECT, related_name="leases")
    annotator = models.ForeignKey(Membership, on_delete=models.PROTECT, related_name="leases")
    presented_order = models.JSONField()
    order_seed = models.BigIntegerField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["created_at"]

    def __str__(self) -> str:
        return str(self.token)


class Skip(models.Model):
    """An annotator's refusal of a slate, with a reason; it is not offered to them again."""

    slate = models.ForeignKey(Slate, on_delete=models.PROTECT, related_name="skips")
    annotator = models.ForeignKey(Membership, on_delete=models.PROTECT, related_name="skips")
    reason = models.CharField(max_length=500, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        constraints = [models.UniqueConstraint(fields=["slate", "annotator"], name="skip_once_a_slate")]

    def __str__(self) -> str:
        return f"{self.slate_id} by {self.annotator_id}"
