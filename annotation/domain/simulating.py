"""Lets simulated annotators rank a project's open slates through the same door as people: claim, judge, submit."""

from __future__ import annotations

import random
from collections.abc import Callable

from django.db.models import Count

from annotation.domain.assigning import claim_slot
from annotation.domain.projects import simulated_annotator
from annotation.domain.ranking import submit_ranking
from annotation.models import Project, Response, Slot
from annotation.statistics.simulation import simulate_ranking, utility

ALL_BAD_BELOW = -3.0


def simulate_annotators(
    project: Project,
    *,
    names: list[str],
    seed: int,
    noise: float = 0.3,
    progress: Callable[[int, int], None] | None = None,
) -> int:
    """Have each named simulated annotator rank every slate that is open to it; returns the number of rankings."""
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
                tiers=simulate_ranking(utilities, rng=rng, noise=noise),
                all_bad=max(utilities) < ALL_BAD_BELOW,
            )
            made += 1
            if progress is not None:
                progress(made, total)
    return made
