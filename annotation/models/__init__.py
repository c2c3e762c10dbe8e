"""Tables and constraints, one module a subject. Writes go through `annotation.domain`."""

from annotation.models.pipeline import Pipeline, PipelineStage
from annotation.models.project import Guidelines, GuidelinesReading, Membership, Project
from annotation.models.prompt import Prompt, Response
from annotation.models.ranking import Ranking
from annotation.models.slate import Lease, Skip, Slate, SlateResponse, Slot
from annotation.models.snapshot import Snapshot
from annotation.models.training import Model, Run, Score, Verdict
from annotation.models.workbench import Draft, PracticeAnswer, PracticeExample, SlateMessage

__all__ = [
    "Draft",
    "Guidelines",
    "GuidelinesReading",
    "Lease",
    "Membership",
    "Model",
    "Pipeline",
    "PipelineStage",
    "PracticeAnswer",
    "PracticeExample",
    "Project",
    "Prompt",
    "Ranking",
    "Response",
    "Run",
    "Score",
    "Skip",
    "Slate",
    "SlateMessage",
    "SlateResponse",
    "Slot",
    "Snapshot",
    "Verdict",
]
