"""Lets simulated annotators rank a project's open slates through the same door as people: claim, judge, submit."""

from __future__ import annotations

import random
from collections.abc import Callable

from django.db.models import Count

from annotation.domain.assigning import claim_slot
from annotation.domain.judgement import Judgement
from annotation.domain.projects import simulated_annotator
from annotation.domain.ranking import submit_ranking
from annotation.domain.tasks import task_of
from annotation.models import Project, Response, Slot
from annotation.statistics.simulation import simulate_ranking, utility

ALL_BAD_BELOW = -3.0


class SimulationRefused(ValueError):
    """The project asks for what a simulated annotator cannot say."""


def simulate_annotators(
    project: Project,
    *,
    names: list[str],
    seed: int,
    noise: float = 0.3,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Have each named simulated annotator rank every slate that is open to it; returns the number of rankings.

    Raises SimulationRefused where the project asks for anything but full rankings, or for ratings or reasons as well.
    """
    _check_task(project)
    open_slots = Slot.objects.filter(slate__project=project, state=Slot.State.FREE)
    total = open_slots.aggregate(n=Count("pk"))["n"]
    made = 0
    annotators = [(simulated_annotator(project, name=name), random.Random(f"{seed}:{name}")) for name in names]
    while annotators:
        for annotator, rng in list(annotators):
            lease = claim_slot(annotator)
            if lease is None:
                annotators.remove((annotator, rng))
                continue
            texts = dict(Response.objects.filter(pk__in=lease.presented_order).values_list("pk", "text"))
            asked = lease.slot.slate.prompt.messages[-1]["content"]
            utilities = [utility(asked, response=texts[response_id]) for response_id in lease.presented_order]
            submit_ranking(
                annotator,
                token=lease.token,
                judgement=Judgement(
                    tiers=simulate_ranking(utilities, rng=rng, noise=noise), all_bad=max(utilities) < ALL_BAD_BELOW
                ),
            )
            made += 1
            if progress is not None:
                progress(made, total)
    return made


def _check_task(project: Project) -> None:
    task = task_of(project)
    if task.kind != Project.Task.RANKING:
        raise SimulationRefused(
            f"Simulated annotators give full rankings only; project {project.slug!r} asks for {task.kind!r}."
        )
    if task.scales or task.rationale == Project.Rationale.REQUIRED:
        raise SimulationRefused(
            f"Simulated annotators give no ratings and no reasons, which project {project.slug!r} requires."
        )
