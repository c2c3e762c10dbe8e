"""Reads that several rooms share. Nothing here writes."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Avg, Count, Func, Prefetch, Q, QuerySet, TextField
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.models import (
    Guidelines,
    Lease,
    Membership,
    Model,
    Pipeline,
    Project,
    Prompt,
    Ranking,
    Response,
    Run,
    Score,
    Slate,
    Slot,
)
from annotation.rendering import Masked, mask
from annotation.statistics.comparisons import derive_comparisons, pairwise_agreement
from annotation.statistics.differences import paired_difference

OVERVIEW_RANKINGS = 5000
"""Agreement and comparisons on the project page look at this many of the newest rankings."""


@dataclass(frozen=True)
class RankingView:
    """What an annotator sees of a slate: masked texts in presented order. No id, no source."""

    token: UUID
    prompt_messages: list[dict[str, str]]
    responses: list[str]


def ranking_view(lease: Lease) -> RankingView:
    """The blinded slate of a lease."""
    slate = lease.slot.slate
    return RankingView(
        token=lease.token,
        prompt_messages=slate.prompt.messages,
        responses=[masked.text for masked in masked_texts(slate.project, lease.presented_order)],
    )


def amendment_view(ranking: Ranking, *, token: UUID) -> RankingView:
    """The blinded slate of a ranking as it was judged, in the order in which it was shown."""
    order = ranking.presented_order or canonical_order(ranking.slate)
    return RankingView(
        token=token,
        prompt_messages=ranking.slate.prompt.messages,
        responses=[masked.text for masked in masked_texts(ranking.slate.project, order)],
    )


def masked_texts(project: Project, order: Sequence[int]) -> list[Masked]:
    """The texts of these responses as annotators may see them: self-identifications masked."""
    texts = dict(Response.objects.filter(pk__in=order).values_list("pk", "text"))
    return [mask(texts[response_id], patterns=project.mask_patterns) for response_id in order]


def canonical_order(slate: Slate) -> list[int]:
    """The ids of the slate's responses in their canonical order, which no annotator sees."""
    return list(slate.places.order_by("position").values_list("response_id", flat=True))


def amendable_until(ranking: Ranking, *, first: Ranking | None = None) -> datetime | None:
    """When the project's time to amend this ranking ends; None where it never does.

    It runs from the `first` version, which is looked up unless it is given.
    """
    minutes = ranking.annotator.project.amend_minutes
    if minutes is None:
        return None
    first = first or Ranking.objects.filter(slot=ranking.slot_id, supersedes__isnull=True).earliest("pk")
    return first.created_at + timedelta(minutes=minutes)


def may_amend(ranking: Ranking, *, first: Ranking | None = None, now: datetime | None = None) -> bool:
    """Whether the project's time to amend this ranking still runs."""
    until = amendable_until(ranking, first=first)
    return until is None or (now or timezone.now()) < until


def own_rankings(annotator: Membership) -> QuerySet[Ranking]:
    """The annotator's own rankings in every version, newest first."""
    own = Ranking.objects.filter(annotator=annotator)
    return own.select_related("slate__prompt", "guidelines").order_by("-created_at", "-pk")


def my_rankings(annotator: Membership) -> QuerySet[Ranking]:
    """The current versions of the annotator's own rankings, newest first."""
    return own_rankings(annotator).filter(superseded_by__isnull=True)


class TurnTexts(Func):
    """The texts of a conversation's turns, one below the other, so that a search meets nothing but what was said."""

    output_field = TextField()
    template = "(SELECT string_agg(turn ->> 'content', E'\\n') FROM jsonb_array_elements(%(expressions)s) AS turn)"
    on_sqlite = (
        "(SELECT group_concat(json_extract(turn.value, '$.content'), char(10)) FROM json_each(%(expressions)s) AS turn)"
    )

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        """The same in SQLite's words."""
        return self.as_sql(compiler, connection, template=self.on_sqlite, **extra)


def search_rankings(
    annotator: Membership,
    *,
    since: date | None = None,
    until: date | None = None,
    text: str = "",
    all_bad: bool = False,
    flagged: bool = False,
    corrected: bool = False,
    reasoned: bool = False,
    amended: bool = False,
) -> QuerySet[Ranking]:
    """The annotator's own rankings that meet every filter that is set; both days are included."""
    rankings = my_rankings(annotator)
    if since is not None:
        rankings = rankings.filter(created_at__gte=_midnight(since))
    if until is not None:
        rankings = rankings.filter(created_at__lt=_midnight(until + timedelta(days=1)))
    if text:
        rankings = rankings.annotate(said=TurnTexts("slate__prompt__messages")).filter(said__icontains=text)
    if all_bad:
        rankings = rankings.filter(all_bad=True)
    if flagged:
        rankings = rankings.exclude(flags={})
    if corrected:
        rankings = rankings.exclude(corrections={})
    if reasoned:
        rankings = rankings.exclude(rationale="")
    if amended:
        rankings = rankings.filter(supersedes__isnull=False)
    return rankings


def earlier_versions(rankings: Iterable[Ranking]) -> dict[int, list[Ranking]]:
    """What these rankings superseded, by the ranking's id, newest first; one query."""
    current = {ranking.slot_id: ranking for ranking in rankings}
    found: dict[int, list[Ranking]] = {ranking.pk: [] for ranking in current.values()}
    older = Ranking.objects.filter(slot__in=current, superseded_by__isnull=False)
    for version in older.select_related("guidelines").order_by("-pk"):
        found[current[version.slot_id].pk].append(version)
    return found


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
        .exclude(practice_examples__isnull=False)
    )
    return {
        "today": today.count(),
        "median_seconds": statistics.median(times) / 1000 if times else None,
        "remaining": remaining.distinct().count(),
    }


def latest_guidelines(project: Project) -> Guidelines | None:
    """The newest version of the project's guidelines."""
    return project.guidelines.order_by("-version").first()


def responses_are_coming(project: Project) -> bool:
    """Whether a model is about to write responses for the project, or is writing them."""
    waiting = [Run.State.QUEUED, Run.State.RUNNING]
    return project.runs.filter(method=Run.Method.GENERATE, state__in=waiting).exists()


def advice_runs(project: Project) -> QuerySet[Run]:
    """The project's requests for advice, newest first."""
    runs = project.runs.filter(method=Run.Method.ADVISE).order_by("-number")
    return runs.select_related("project", "base_model", "created_by")


def given_advice(project: Project) -> QuerySet[Run]:
    """The requests that were answered, newest first: each report holds an advice."""
    return advice_runs(project).filter(state=Run.State.SUCCEEDED, report__isnull=False)


def project_overview(project: Project) -> dict[str, Any]:
    """The project page's numbers. Comparisons and agreement are over the newest rankings (`OVERVIEW_RANKINGS`)."""
    rankings = Ranking.objects.filter(slate__project=project, superseded_by__isnull=True)
    offered = Slot.objects.filter(slate__project=project, is_extra=False, slate__practice_examples__isnull=True)
    slots = offered.aggregate(all=Count("pk"), done=Count("pk", filter=Q(state=Slot.State.DONE)))
    slates = Slate.objects.filter(project=project)
    unfinished = Q(slots__state__in=[Slot.State.FREE, Slot.State.LEASED], slots__is_extra=False)
    waiting = slates.filter(unfinished, practice_examples__isnull=True).distinct()
    by_slate: dict[int, list[tuple[Any, str]]] = defaultdict(list)
    for slate, tiers, task in rankings.order_by("-pk").values_list("slate", "tiers", "task")[:OVERVIEW_RANKINGS]:
        by_slate[slate].append((tiers, task))
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
        "comparisons": sum(
            len(derive_comparisons(tiers, task=task).strict) for judged in by_slate.values() for tiers, task in judged
        ),
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


def pipeline_rows(project: Project) -> QuerySet[Pipeline]:
    """The project's pipelines with how many stages each has, and how many of them are done."""
    done = Q(stages__run__state=Run.State.SUCCEEDED)
    return project.pipelines.select_related("created_by").annotate(
        n_stages=Count("stages"), n_done=Count("stages", filter=done)
    )


def prompt_detail(project: Project, pk: int) -> dict[str, Any]:
    """A prompt with its responses (sources, scores, verdicts) and current rankings. Raises Prompt.DoesNotExist."""
    prompt = project.prompts.get(pk=pk)
    scores = Prefetch("scores", queryset=Score.objects.select_related("model").order_by("model_id"))
    rankings = (
        Ranking.objects.filter(slate__prompt=prompt, superseded_by__isnull=True)
        .select_related("annotator", "slate")
        .prefetch_related("slate__places")
        .order_by("pk")
    )
    return {
        "prompt": prompt,
        "responses": list(prompt.responses.select_related("model", "run", "verdict__run").prefetch_related(scores)),
        "rankings": list(rankings),
    }


def compare_policies(reward_model: Model, *, of: Iterable[Model] | None = None) -> list[dict[str, Any]]:
    """Every scored policy beside the first one registered, by mean reward on the prompts that both answered.

    Each row names `old` and `new` (policies) beside `prompts`, the means `old_mean` and `new_mean`, their `difference`
    with its bootstrap `interval` by prompt, and `win_rate`, the share of prompts with a higher mean reward, with its
    `win_rate_interval`. Policies that share no scored prompt with the first are left out. of: these alone, beside the
    first one, since intervals take time.
    """
    means: dict[int, dict[int, float]] = defaultdict(dict)
    scored = Score.objects.filter(model=reward_model, response__model__isnull=False)
    for row in scored.values("response__model", "response__prompt").annotate(mean=Avg("value")).order_by():
        means[row["response__model"]][row["response__prompt"]] = row["mean"]
    policies = list(Model.objects.filter(pk__in=means).order_by("pk"))
    compared = []
    wanted = set(policies if of is None else of)
    for policy in filter(wanted.__contains__, policies[1:]):
        first = means[policies[0].pk]
        shared = sorted(first.keys() & means[policy.pk].keys())
        if shared:
            difference = paired_difference([first[p] for p in shared], new=[means[policy.pk][p] for p in shared])
            compared.append({"old": policies[0], "new": policy, **difference})
    return compared


def _midnight(day: date) -> datetime:
    return datetime.combine(day, time.min, tzinfo=timezone.get_current_timezone())


def _agreement(by_slate: dict[int, list[tuple[Any, str]]]) -> dict[str, Any] | None:
    agreeing = compared = 0
    for judged in by_slate.values():
        agree, total = pairwise_agreement([tiers for tiers, _task in judged], tasks=[task for _tiers, task in judged])
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
