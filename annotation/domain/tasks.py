"""What annotators are asked: the kind of task, and what may be said beside it."""

from __future__ import annotations

from dataclasses import dataclass

from annotation.models import Project
from annotation.models.project import KNOWN_FLAGS

PAIR_KINDS = (Project.Task.PAIRWISE, Project.Task.PAIRWISE_FORCED)
CHOICE_KINDS = (Project.Task.BEST, Project.Task.BEST_WORST)


@dataclass(frozen=True)
class Scale:
    """A named scale of consecutive whole numbers; `points` maps each to its anchor, "" where it has none."""

    name: str
    points: dict[int, str]


@dataclass(frozen=True)
class Flag:
    """An acceptability flag: the key that is stored and the label that is shown."""

    key: str
    label: str


@dataclass(frozen=True)
class Task:
    """One project's task, read once."""

    kind: str
    scales: tuple[Scale, ...]
    flags: tuple[Flag, ...]
    rationale: str
    rationale_min: int
    highlights: bool
    corrections: str

    @property
    def is_pair(self) -> bool:
        """Whether two responses are compared by strength."""
        return self.kind in PAIR_KINDS

    @property
    def orders(self) -> bool:
        """Whether the responses are ordered at all; ratings alone never become an order."""
        return self.kind != Project.Task.RATING


def task_of(project: Project) -> Task:
    """The project's task; known flags carry their name in the language of the moment."""
    return Task(
        kind=project.task,
        scales=tuple(
            Scale(name=scale["name"], points={int(point): anchor for point, anchor in scale["points"].items()})
            for scale in project.scales
        ),
        flags=tuple(
            Flag(key=flag["key"], label=flag["label"] or str(KNOWN_FLAGS.get(flag["key"], flag["key"])))
            for flag in project.flags
        ),
        rationale=project.rationale,
        rationale_min=project.rationale_min,
        highlights=project.highlights,
        corrections=project.corrections,
    )
