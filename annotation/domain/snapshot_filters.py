"""Which judgements enter a snapshot."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

from django.db.models import OuterRef, Prefetch, Q, QuerySet, Subquery

from annotation.models import Lease, Project, Ranking, SlateResponse


@dataclass(frozen=True)
class SnapshotFilters:
    """Which judgements enter: by day of judgement (UTC, inclusive), kind of annotator and prompt category.

    An empty tuple means all.
    """

    since: date | None = None
    until: date | None = None
    annotator_kinds: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {key: value.isoformat() if isinstance(value, date) else value for key, value in asdict(self).items()}


EVERYTHING = SnapshotFilters()


def current_rankings(project: Project) -> QuerySet[Ranking]:
    """The newest version of every ranking of the project."""
    return Ranking.objects.filter(slate__project=project, superseded_by__isnull=True)


def filter_rankings(project: Project, filters: SnapshotFilters) -> QuerySet[Ranking]:
    """The rankings that the filters let in, in a stable order; current at the end of `until`, or now without one.

    A judgement amended after `until` so enters as it stood then, and a snapshot of a past period stays the same. Each
    carries `order_seed` and `order_row`, by which the order was drawn in which it was shown (None for imports).
    """
    rankings = current_rankings(project)
    if filters.until:
        not_yet_superseded = Q(superseded_by__isnull=True) | Q(superseded_by__created_at__date__gt=filters.until)
        rankings = Ranking.objects.filter(not_yet_superseded, slate__project=project)
    if filters.since:
        rankings = rankings.filter(created_at__date__gte=filters.since)
    if filters.until:
        rankings = rankings.filter(created_at__date__lte=filters.until)
    if filters.annotator_kinds:
        rankings = rankings.filter(annotator__kind__in=filters.annotator_kinds)
    if filters.categories:
        rankings = rankings.filter(slate__prompt__metadata__category__in=filters.categories)
    # The first version at a slot bears the token of its lease; amendments keep its order under tokens of their own.
    first_token = Ranking.objects.filter(slot=OuterRef(OuterRef("slot")), supersedes__isnull=True).values("token")
    lease = Lease.objects.filter(token=Subquery(first_token[:1]))
    places = SlateResponse.objects.select_related("response").order_by("position")
    return (
        rankings.annotate(
            order_seed=Subquery(lease.values("order_seed")[:1]), order_row=Subquery(lease.values("slot__number")[:1])
        )
        .select_related("slate__prompt", "annotator", "guidelines")
        .prefetch_related(Prefetch("slate__places", queryset=places))
        .order_by("slate__prompt_id", "slate_id", "pk")
    )
