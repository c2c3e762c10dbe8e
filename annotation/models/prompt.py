"""Prompts and their responses."""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from annotation.models.project import Project


class Prompt(models.Model):
    """A conversation that ends where a response is wanted.

    `messages` is a list of {"role": "system" | "user" | "assistant", "content": str}, kept as imported.
    """

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="prompts")
    external_id = models.CharField(max_length=200)
    messages = models.JSONField()
    content_hash = models.CharField(max_length=64)
    metadata = models.JSONField(default=dict, blank=True)
    reference = models.TextField(null=True, blank=True)
    verifier = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["project", "external_id"], name="prompt_external_id_once_a_project"),
        ]
        indexes = [models.Index(fields=["project", "content_hash"])]

    def __str__(self) -> str:
        return self.external_id


class Response(models.Model):
    """One candidate reply to a prompt. Its source is never shown to an annotator."""

    class SourceKind(models.TextChoices):
        MODEL = "model", _("model")
        PERSON = "person", _("person")
        IMPORT = "import", _("import")
        SCRIPT = "script", _("script")

    prompt = models.ForeignKey(Prompt, on_delete=models.PROTECT, related_name="responses")
    external_id = models.CharField(max_length=200)
    text = models.TextField()
    source = models.CharField(max_length=200)
    source_kind = models.CharField(max_length=12, choices=SourceKind, default=SourceKind.IMPORT)
    model = models.ForeignKey(
        "annotation.Model", on_delete=models.PROTECT, null=True, blank=True, related_name="responses"
    )
    run = models.ForeignKey("annotation.Run", on_delete=models.PROTECT, null=True, blank=True, related_name="responses")
    metadata = models.JSONField(default=dict, blank=True)
    created_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        ordering = ["pk"]
        constraints = [
            models.UniqueConstraint(fields=["prompt", "external_id"], name="response_external_id_once_a_prompt"),
            models.CheckConstraint(condition=~models.Q(source=""), name="response_source_named"),
            models.CheckConstraint(
                condition=models.Q(source_kind__in=["model", "person", "import", "script"]),
                name="response_source_kind_known",
            ),
        ]
        indexes = [models.Index(fields=["source"])]

    def __str__(self) -> str:
        return self.external_id
