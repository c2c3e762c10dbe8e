"""Reads that several rooms share. Nothing here writes."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, time
from typing import Any
from uuid import UUID, uuid4

from django.db.models import Avg, Count, Prefetch, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.models import (
    Guidelines,
    Lease,
    Membership,
    Model,
    Project,
    Prompt,
    Ranking,
    Response,
    Run,
    Score,
    Slate,
    Slot,
)
from annotation.statistics.comparisons import derive_comparisons, pairwise_agreement
from annotation.statistics.differences import paired_difference

OVERVIEW_RANKINGS = 5000
"""Agreement and comparisons on the project page look at this many of the newest rankings."""


@dataclass(frozen=True)
class RankingView:
    """What an annotator sees of a slate: texts in presented order, and positions in tiers. No id, no source."""

    token: UUID
    prompt_messages: list[dict[str, str]]
    responses: list[str]
    tiers: list[list[int]]
    all_bad: bool
    rationale: str


def ranking_view(lease: Lease) -> RankingView:
    """The blinded slate of a lease, unranked."""
    return RankingView(
        token=lease.token,
        prompt_messages=lease.slot.slate.prompt.messages,
        responses=_texts_in_order(lease.presented_order),
        tiers=[],
        all_bad=False,
        rationale="",
    )


def amendment_view(ranking: Ranking) -> RankingView:
    """The blinded slate of a ranking as it was judged, in the order in which it was shown, under a fresh token."""
    order = ranking.presented_order or list(
        ranking.slate.places.order_by("position").values_list("response_id", flat=True)
    )
    position = {response_id: index for index, response_id in enumerate(order)}
    return RankingView(
        token=uuid4(),
        prompt_messages=ranking.slate.prompt.messages,
        responses=_texts_in_order(order),
        tiers=[sorted(position[response_id] for response_id in tier) for tier in ranking.tiers],
        all_bad=ranking.all_bad,
        rationale=ranking.rationale,
    )


def my_rankings(annotator: Membership) -> QuerySet[Ranking]:
    """The current versions of the annotator's own rankings, newest first."""
    return (
        Ranking.objects.filter(annotator=annotator, superseded_by__isnull=True)
        .select_related("slate__prompt", "guidelines")
        .order_by("-created_at", "-pk")
    )


def last_ranking(annotator: Membership) -> Ranking | None:
    """The annotator's newest ranking, in its current version."""
    return my_rankings(annotator).first()


def annotator_progress(annotator: Membership, *, now: datetime | None = None) -> dict[str, Any]:
    """Slates ranked today, median seconds over today's, and slates still open to this annotator."""
    start = datetime.combine((now or timezone.now()).date(), time.min, tzinfo=timezone.get_current_timezone())
    today = Ranking.objects.filter(annotator=annotator, supersedes__isnull=True, created_at__gte=start)
    times = [ms for ms in today.values_list("active_ms", flat=True) if ms is not None]
    open_slots = Q(slots__state=Slot.State.FREE) | Q(
        slots__state=Slot.State.LEASED, slots__deadline__lte=now or timezone.now()
    )
    own = Q(slots__annotator=annotator, slots__state=Slot.State.LEASED)
    remaining = (
        Slate.objects.filter(Q(project=annotator.project_id) & (open_slots | own))
        .exclude(slots__in=Slot.objects.filter(annotator=annotator, state=Slot.State.DONE))
        .exclude(skips__annotator=annotator)
    )
    return {
        "today": today.count(),
        "median_seconds": statistics.median(times) / 1000 if times else None,
        "remaining": remaining.distinct().count(),
    }


def latest_guidelines(project: Project) -> Guidelines | None:
    """The newest version of the project's guidelines."""
    return project.guidelines.order_by("-version").first()


def project_overview(project: Project) -> dict[str, Any]:
    """The project page's numbers. Comparisons and agreement are over the newest rankings (`OVERVIEW_RANKINGS`)."""
    rankings = Ranking.objects.filter(slate__project=project, superseded_by__isnull=True)
    slots = Slot.objects.filter(slate__project=project, is_extra=False).aggregate(
        all=Count("pk"), done=Count("pk", filter=Q(state=Slot.State.DONE))
    )
    slates = Slate.objects.filter(project=project)
    waiting = slates.filter(Q(slots__state__in=[Slot.State.FREE, Slot.State.LEASED], slots__is_extra=False)).distinct()
    by_slate: dict[int, list[Any]] = defaultdict(list)
    for slate, tiers in rankings.order_by("-pk").values_list("slate", "tiers")[:OVERVIEW_RANKINGS]:
        by_slate[slate].append(tiers)
    counts = rankings.aggregate(
        all=Count("pk"),
        simulated=Count("pk", filter=Q(annotator__kind=Membership.Kind.SIMULATED)),
        annotators=Count("annotator", distinct=True),
    )
    n_slates = slates.count()
    overview = {
        "prompts": project.prompts.count(),
        "responses": Response.objects.filter(prompt__project=project).count(),
        "slates": n_slates,
        "slates_done": n_slates - waiting.count(),
        "slots": slots["all"],
        "slots_done": slots["done"],
        "rankings": counts["all"],
        "rankings_simulated": counts["simulated"],
        "annotators": counts["annotators"],
        "comparisons": sum(len(derive_comparisons(t).strict) for tiers in by_slate.values() for t in tiers),
        "pairwise_agreement": _agreement(by_slate),
        "snapshots": project.snapshots.count(),
        "runs": project.runs.count(),
        "runs_active": project.runs.filter(state__in=[Run.State.QUEUED, Run.State.RUNNING]).count(),
        "models": project.models.count(),
        "scores": Score.objects.filter(response__prompt__project=project).count(),
        "latest_report": _latest_report(project),
    }
    return overview | {"next_step": _next_step(project, overview)}


def prompt_rows(project: Project) -> QuerySet[Prompt]:
    """The project's prompts with how many responses and rankings each has."""
    return project.prompts.annotate(
        n_responses=Count("responses", distinct=True),
        n_rankings=Count("slates__rankings", filter=Q(slates__rankings__superseded_by__isnull=True), distinct=True),
    ).order_by("pk")


def prompt_detail(project: Project, pk: int) -> dict[str, Any]:
    """A prompt with its responses (sources, scores) and current rankings. Raises Prompt.DoesNotExist."""
    prompt = project.prompts.get(pk=pk)
    scores = Prefetch("scores", queryset=Score.objects.select_related("model").order_by("model_id"))
    rankings = (
        Ranking.objects.filter(slate__prompt=prompt, superseded_by__isnull=True)
        .select_related("annotator", "slate")
        .order_by("pk")
    )
    return {
        "prompt": prompt,
        "responses": list(prompt.responses.select_related("model", "run").prefetch_related(scores)),
        "rankings": list(rankings),
    }


def compare_policies(reward_model: Model) -> list[dict[str, Any]]:
    """Every scored policy beside the first one registered, by mean reward on the prompts that both answered.

    Each row names `old` and `new` (policies) beside `prompts`, the means `old_mean` and `new_mean`, their `difference`
    with its bootstrap `interval` by prompt, and `win_rate`, the share of prompts with a higher mean reward. Policies
    that share no scored prompt with the first are left out.
    """
    means: dict[int, dict[int, float]] = defaultdict(dict)
    scored = Score.objects.filter(model=reward_model, response__model__isnull=False)
    for row in scored.values("response__model", "response__prompt").annotate(mean=Avg("value")).order_by():
        means[row["response__model"]][row["response__prompt"]] = row["mean"]
    policies = list(Model.objects.filter(pk__in=means).order_by("pk"))
    compared = []
    for policy in policies[1:]:
        first = means[policies[0].pk]
        shared = sorted(first.keys() & means[policy.pk].keys())
        if shared:
            difference = paired_difference([first[p] for p in shared], new=[means[policy.pk][p] for p in shared])
            compared.append({"old": policies[0], "new": policy, **difference})
    return compared


def _texts_in_order(order: Sequence[int]) -> list[str]:
    texts = dict(Response.objects.filter(pk__in=order).values_list("pk", "text"))
    return [texts[response_id] for response_id in order]


def _agreement(by_slate: dict[int, list[Any]]) -> dict[str, Any] | None:
    agreeing = compared = 0
    for rankings in by_slate.values():
        agree, total = pairwise_agreement(rankings)
        agreeing, compared = agreeing + agree, compared + total
    return {"value": agreeing / compared, "n": compared} if compared else None


def _latest_report(project: Project) -> dict[str, Any] | None:
    run = (
        project.runs.filter(state=Run.State.SUCCEEDED, method__in=[Run.Method.REWARD, Run.Method.DPO])
        .exclude(report=None)
        .order_by("-number")
        .first()
    )
    return {"run": run, **run.report} if run is not None and run.report else None


def _next_step(project: Project, overview: dict[str, Any]) -> dict[str, str]:
    """The one thing to do next: text, URL name and button label."""
    if not overview["prompts"]:
        return {"text": _("Bring in prompts."), "url_name": "import_data", "label": _("Import data")}
    if not overview["slates"]:
        text = _("The prompts have no responses to compare yet.")
        return {"text": text, "url_name": "model_list", "label": _("Generate responses")}
    if overview["rankings"] < 20 and overview["slots_done"] < overview["slots"]:
        return {"text": _("People can rank now."), "url_name": "rank", "label": _("Start ranking")}
    newest = Ranking.objects.filter(slate__project=project).order_by("-created_at").first()
    snapshot = project.snapshots.order_by("-number").first()
    if snapshot is None or (newest is not None and newest.created_at > snapshot.created_at):
        text = _("There are judgements in no snapshot yet.")
        return {"text": text, "url_name": "snapshot_list", "label": _("Freeze snapshot")}
    if not overview["runs"]:
        text = _("A snapshot is ready to train on.")
        return {"text": text, "url_name": "run_list", "label": _("Start run")}
    if overview["slots_done"] < overview["slots"]:
        return {"text": _("New slates wait for people."), "url_name": "rank", "label": _("Start ranking")}
    text = _("Have the newest model answer, so that people can compare it.")
    return {"text": text, "url_name": "model_list", "label": _("Generate responses")}
