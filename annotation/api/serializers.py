"""What the API reads and says: explicit fields only."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from annotation.models import Run


class SubmissionSerializer(serializers.Serializer[Any]):
    """A judgement: `tiers` hold 0-based positions of the responses as they were given, best first."""

    token = serializers.UUIDField()
    tiers = serializers.ListField(
        child=serializers.ListField(child=serializers.IntegerField(min_value=0, max_value=8), max_length=9),
        max_length=9,
    )
    all_bad = serializers.BooleanField(default=False)
    rationale = serializers.CharField(default="", allow_blank=True, max_length=20_000, trim_whitespace=False)
    active_ms = serializers.IntegerField(default=None, allow_null=True, min_value=0, max_value=2**31 - 1)


class RunRequestSerializer(serializers.Serializer[Any]):
    """A run to be queued: numbers of the snapshot and model within the project."""

    method = serializers.ChoiceField(choices=Run.Method.choices)
    settings = serializers.DictField(default=dict)
    snapshot = serializers.IntegerField(default=None, allow_null=True, min_value=1)
    base_model = serializers.CharField(default=None, allow_null=True, max_length=120)


class RunSerializer(serializers.ModelSerializer[Run]):
    """A run as its engineers see it."""

    class Meta:
        model = Run
        fields = (
            "number",
            "method",
            "state",
            "spec",
            "status",
            "report",
            "error",
            "attempt",
            "cancel_requested",
            "created_at",
            "started_at",
            "finished_at",
        )
        read_only_fields = fields
