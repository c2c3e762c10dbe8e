"""Puts responses together into slates and opens their slots."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from django.db import transaction

from annotation.domain.tasks import PAIR_KINDS
from annotation.models import Project, Prompt, Response, Slate, SlateResponse, Slot


@dataclass(frozen=True)
class SlatePlan:
    """A slate to be made: `responses` in canonical order, 2 to 9 of one prompt."""

    prompt: Prompt
    external_id: str
    responses: Sequence[Response]
    priority: int = 0


@transaction.atomic
def make_slates(project: Project, *, plans: Sequence[SlatePlan]) -> list[Slate]:
    """Make the planned slates with `project.overlap` free slots each.

    A slate whose external id exists already is left as it is, so that making slates again is harmless.
    Raises ValueError where a plan has fewer than 2 or more than 9 responses (or another number than 2, where pairs are
    compared), or one of another prompt.
    """
    for plan in plans:
        _check_plan(plan, project=project)
    known = set(
        Slate.objects.filter(
            project=project, external_id__in=[plan.external_id for plan in plans], criterion=""
        ).values_list("external_id", flat=True)
    )
    fresh = [plan for plan in plans if plan.external_id not in known]
    slates = Slate.objects.bulk_create(
        Slate(project=project, prompt=plan.prompt, external_id=plan.external_id, priority=plan.priority)
        for plan in fresh
    )
    SlateResponse.objects.bulk_create(
        SlateResponse(slate=slate, response=response, position=position)
        for slate, plan in zip(slates, fresh, strict=True)
        for position, response in enumerate(plan.responses)
    )
    open_slots(slates, count=project.overlap)
    return slates


def open_slots(slates: Sequence[Slate], *, count: int) -> None:
    """Open `count` free slots, numbered from 0, at slates that have none yet."""
    Slot.objects.bulk_create(Slot(slate=slate, number=number) for slate in slates for number in range(count))


def plan_slates(
    prompt: Prompt, *, responses: Sequence[Response], size: int, prefix: str, seed: int, priority: int = 0
) -> list[SlatePlan]:
    """Cut a prompt's responses into slates of at most `size`, at random by `seed`; none of a single response.

    The number of slates is the fewest possible and their sizes differ by at most one. Where slates are pairs and a
    response is left over, it meets one that has a place already: so every response is judged, and every slate is a
    pair.
    """
    if len(responses) < 2:
        return []
    order = list(responses)
    random.Random(f"{seed}:{prompt.pk}").shuffle(order)
    groups = -(-len(order) // size)
    if len(order) < 2 * groups:
        order.append(order[0])
    return [
        SlatePlan(
            prompt=prompt,
            external_id=f"{prefix}{prompt.pk}#{index}",
            responses=order[index::groups],
            priority=priority,
        )
        for index in range(groups)
    ]


def _check_plan(plan: SlatePlan, *, project: Project) -> None:
    if project.task in PAIR_KINDS and len(plan.responses) != 2:
        raise ValueError(
            f"Slate {plan.external_id!r} has {len(plan.responses)} responses; project {project.slug!r} compares two."
        )
    if not 2 <= len(plan.responses) <= 9:
        raise ValueError(f"Slate {plan.external_id!r} has {len(plan.responses)} responses; it needs 2 to 9.")
    if any(response.prompt_id != plan.prompt.pk for response in plan.responses):
        raise ValueError(f"Slate {plan.external_id!r} holds a response to another prompt.")
