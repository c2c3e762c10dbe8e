"""What the API reads and says: explicit fields only."""

from __future__ import annotations

from typing import Any

from rest_framework import serializers

from annotation.domain.judgement import HIGHLIGHTS_LIMIT, RATIONALE_LIMIT, Highlight, Judgement
from annotation.domain.pipelines import NAME_LIMIT, outline_stages, stage_rows
from annotation.models import Pipeline, Run


class HighlightSerializer(serializers.Serializer[Any]):
    """A passage of a response, in code points of its shown text."""

    position = serializers.IntegerField(min_value=0, max_value=8)
    start = serializers.IntegerField(min_value=0)
    end = serializers.IntegerField(min_value=0)
    quote = serializers.CharField(trim_whitespace=False)
    comment = serializers.CharField(default="", allow_blank=True, trim_whitespace=False)


class SubmissionSerializer(serializers.Serializer[Any]):
    """A judgement by 0-based positions of the responses as they were given.

    `tiers`: positions, best first. `strength`: -3 (the first is much better) to 3 (the second is). `ratings`: for each
    scale a number for every position, in order. `flags`: for every position a list of keys. `corrections`: texts by
    position.
    """

    token = serializers.UUIDField()
    tiers = serializers.ListField(
        child=serializers.ListField(child=serializers.IntegerField(min_value=0, max_value=8), max_length=9),
        max_length=9,
        default=list,
    )
    strength = serializers.IntegerField(default=None, allow_null=True, min_value=-3, max_value=3)
    ratings = serializers.DictField(
        child=serializers.ListField(child=serializers.IntegerField(allow_null=True), max_length=9), default=dict
    )
    flags = serializers.ListField(
        child=serializers.ListField(child=serializers.CharField(max_length=100), max_length=100),
        max_length=9,
        default=list,
    )
    highlights = serializers.ListField(child=HighlightSerializer(), max_length=HIGHLIGHTS_LIMIT, default=list)
    corrections = serializers.DictField(child=serializers.CharField(trim_whitespace=False), default=dict)
    all_bad = serializers.BooleanField(default=False)
    rationale = serializers.CharField(default="", allow_blank=True, max_length=RATIONALE_LIMIT, trim_whitespace=False)
    active_ms = serializers.IntegerField(default=None, allow_null=True, min_value=0, max_value=2**31 - 1)

    def validate_corrections(self, value: dict[str, str]) -> dict[int, str]:
        """Positions arrive as JSON keys, which are text."""
        if not all(key in tuple("012345678") for key in value):
            raise serializers.ValidationError("Name responses by their position, 0 to 8.")
        return {int(key): text for key, text in value.items()}

    def judgement(self) -> Judgement:
        """The validated submission as the domain takes it."""
        data = self.validated_data
        return Judgement(
            tiers=data["tiers"],
            all_bad=data["all_bad"],
            strength=data["strength"],
            ratings={
                scale: {position: value for position, value in enumerate(values) if value is not None}
                for scale, values in data["ratings"].items()
            },
            flags={position: keys for position, keys in enumerate(data["flags"]) if keys},
            highlights=[Highlight(**entry) for entry in data["highlights"]],
            corrections=data["corrections"],
            rationale=data["rationale"],
        )


class RunRequestSerializer(serializers.Serializer[Any]):
    """A run to be queued: the snapshot's number and the models' names within the project."""

    method = serializers.ChoiceField(choices=Run.Method.choices)
    settings = serializers.DictField(default=dict)
    snapshot = serializers.IntegerField(default=None, allow_null=True, min_value=1)
    base_model = serializers.CharField(default=None, allow_null=True, max_length=120)
    reward_model = serializers.CharField(default=None, allow_null=True, max_length=120)
    gold_model = serializers.CharField(default=None, allow_null=True, max_length=120)


class AdviceRequestSerializer(serializers.Serializer[Any]):
    """Thresholds and the like by name, and a registered policy by which thinking aloud is tried."""

    settings = serializers.DictField(default=dict)
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


class PipelineRequestSerializer(serializers.Serializer[Any]):
    """A pipeline to be started: its name, and its stages as on the command line, with `@snapshot/3` as data."""

    name = serializers.CharField(max_length=NAME_LIMIT)
    spec = serializers.DictField()


class PipelineSerializer(serializers.ModelSerializer[Pipeline]):
    """A pipeline without its stages."""

    class Meta:
        model = Pipeline
        fields = ("number", "name", "state", "error", "created_at", "finished_at")
        read_only_fields = fields


def describe_pipeline(pipeline: Pipeline) -> dict[str, Any]:
    """A pipeline with its spec and its stages: run, model, figure and verdict of each, null where not yet there."""
    outlines = outline_stages(pipeline)
    stages = []
    for row in stage_rows(pipeline):
        outline, run = outlines[row.name], row.run
        found = outline.headline(run.report) if run is not None and run.report else None
        model = getattr(run, "registered_model", None)
        stages.append(
            {
                "name": row.name,
                "method": outline.method,
                "sources": list(outline.sources),
                "run": run.number if run is not None else None,
                "state": run.state if run is not None else "waiting",
                "model": model.name if model is not None else None,
                "figure": {"metric": found[0], "value": found[1], "interval": found[2]} if found else None,
                "verdict": row.verdict,
                "overruled_by": row.overruled_by.get_username() if row.overruled_by else None,
            }
        )
    return {**PipelineSerializer(pipeline).data, "spec": pipeline.spec, "stages": stages}
