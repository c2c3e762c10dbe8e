"""What surrounds a ranking while it is made: drafts, practice, and messages about a slate."""

from __future__ import annotations

from django.db import models

from annotation.models.project import Membership, Project
from annotation.models.slate import Slate


class Draft(models.Model):
    """What an annotator has entered and not yet submitted, as the fields of the form.

    `token` is the one under which it will be submitted: a lease's, or an amendment's. `revision` is the browser's
    count of changes; an older one never overwrites a newer.
    """

    annotator = models.ForeignKey(Membership, on_delete=models.PROTECT, related_name="drafts")
    token = models.UUIDField()
    fields = models.JSONField(default=dict)
    revision = models.PositiveBigIntegerField(default=0)
    saved_at = models.DateTimeField(auto_now=True)

    class Meta:
        ordering = ["-saved_at"]
        constraints = [models.UniqueConstraint(fields=["annotator", "token"], name="draft_once_a_token")]

    def __str__(self) -> str:
        return str(self.token)


class PracticeExample(models.Model):
    """A slate with an explained answer, to practise on. It stands by itself and enters no dataset.

    `messages` is a prompt, `responses` a list of 2 to 9 texts, `answer` a judgement in positions of that list:
    {"tiers", "strength", "ratings", "flags", "all_bad"} (see `annotation.domain.judgement`). `slate` is where it was
    copied from, if anywhere; that slate is offered to nobody for ranking any more.
    """

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="practice_examples")
    number = models.PositiveIntegerField()
    messages = models.JSONField()
    responses = models.JSONField()
    answer = models.JSONField()
    explanation = models.TextField()
    slate = models.ForeignKey(Slate, on_delete=models.PROTECT, null=True, blank=True, related_name="practice_examples")
    is_active = models.BooleanField(default=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["project", "number"]
        constraints = [
            models.UniqueConstraint(fields=["project", "number"], name="practice_number_once_a_project"),
            models.CheckConstraint(condition=~models.Q(explanation=""), name="practice_explained"),
        ]

    def __str__(self) -> str:
        return f"{self.project} practice {self.number}"


class PracticeAnswer(models.Model):
    """What an annotator said of a practice example; each try is kept, none is a ranking."""

    example = models.ForeignKey(PracticeExample, on_delete=models.PROTECT, related_name="answers")
    annotator = models.ForeignKey(Membership, on_delete=models.PROTECT, related_name="practice_answers")
    judgement = models.JSONField()
    agrees = models.BooleanField()
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return f"{self.example_id} by {self.annotator_id}"


class SlateMessage(models.Model):
    """A line of the talk between an annotator and the project's reviewers about one slate.

    The thread is the slate's and the annotator's; `author` is either the annotator or who answers. `seen_at` is when
    the other side first saw it.
    """

    slate = models.ForeignKey(Slate, on_delete=models.PROTECT, related_name="messages")
    annotator = models.ForeignKey(Membership, on_delete=models.PROTECT, related_name="threads")
    author = models.ForeignKey(Membership, on_delete=models.PROTECT, related_name="messages")
    text = models.TextField()
    seen_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        constraints = [models.CheckConstraint(condition=~models.Q(text=""), name="message_not_empty")]
        indexes = [models.Index(fields=["annotator", "slate"])]

    def __str__(self) -> str:
        return f"{self.author_id} about {self.slate_id}"
