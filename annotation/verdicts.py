"""What verifiers said of responses beside what people said: verdicts on what was judged, and where the two part ways.

Verdicts reach annotators through `verdicts_after` alone, which takes rankings: what was not judged has none to show.
Here is no word on who is right; a conflict may be a careless judgement, a verifier that asks for the wrong thing, or a
response that is right and bad. Nothing here writes.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

from django.db.models import BooleanField, Func, Q, QuerySet

from annotation.models import Membership, Project, Ranking, Slate, SlateResponse, Slot, Verdict
from annotation.queries import TurnTexts
from annotation.rendering import mask
from annotation.statistics.comparisons import derive_comparisons


@dataclass(frozen=True)
class ShownVerdict:
    """A verdict as an annotator may see it: self-identifications in its reason are masked.

    `passed` is None, and the reason empty, where it is held back: a slate of the same prompt is still theirs to judge,
    and a reason may say what the right answer is.
    """

    passed: bool | None
    reason: str
    seconds: float


@dataclass(frozen=True)
class Conflict:
    """A ranking that puts a response that failed above one that passed: the first such pair, and how many there are."""

    ranking: Ranking
    failed: Verdict
    passed: Verdict
    pairs: int


def verdicts_after(annotator: Membership, *, rankings: Iterable[Ranking]) -> dict[int, ShownVerdict]:
    """By response, the verdicts on what these rankings of the annotator judged; none where the project keeps them back.

    Two queries, however many rankings.
    """
    project = annotator.project
    own = [ranking for ranking in rankings if ranking.annotator_id == annotator.pk]
    if not project.show_verdicts or not own:
        return {}
    judged = SlateResponse.objects.filter(slate__in={ranking.slate_id for ranking in own})
    found = Verdict.objects.filter(response__in=judged.values("response")).select_related("response")
    held_back = _still_to_judge(annotator, prompts={verdict.response.prompt_id for verdict in found})
    return {
        verdict.response_id: ShownVerdict(None, "", 0.0)
        if verdict.response.prompt_id in held_back
        else ShownVerdict(verdict.passed, mask(verdict.reason, patterns=project.mask_patterns).text, verdict.seconds)
        for verdict in found
    }


def _still_to_judge(annotator: Membership, *, prompts: Collection[int]) -> set[int]:
    """Those of the prompts of which there is a slate that the annotator has not judged and may still judge: one with
    room, or one that they once held, whose answer would be kept even now."""
    open_slates = Slate.objects.filter(
        Q(slots__state__in=[Slot.State.FREE, Slot.State.LEASED]) | Q(slots__leases__annotator=annotator),
        prompt__in=prompts,
    )
    elsewhere = open_slates.exclude(rankings__annotator=annotator).exclude(skips__annotator=annotator)
    return set(elsewhere.exclude(practice_examples__isnull=False).values_list("prompt_id", flat=True))


class RanksFailedHigher(Func):
    """Whether tiers put a response that failed its verifier above one that passed; `best`: in the first tier."""

    output_field = BooleanField()
    template = (
        "EXISTS (SELECT 1 FROM jsonb_array_elements(%(expressions)s) WITH ORDINALITY AS higher(responses, place)"
        " CROSS JOIN LATERAL jsonb_array_elements(higher.responses) AS above(id)"
        " JOIN annotation_verdict AS failed ON failed.response_id = above.id::bigint AND NOT failed.passed"
        " CROSS JOIN LATERAL jsonb_array_elements(%(expressions)s) WITH ORDINALITY AS later(responses, place)"
        " CROSS JOIN LATERAL jsonb_array_elements(later.responses) AS below(id)"
        " JOIN annotation_verdict AS sound ON sound.response_id = below.id::bigint AND sound.passed"
        " WHERE later.place > higher.place AND higher.place %(which)s 1)"
    )
    on_sqlite = (
        "EXISTS (SELECT 1 FROM json_each(%(expressions)s) AS higher, json_each(higher.value) AS above"
        " JOIN annotation_verdict AS failed ON failed.response_id = above.value AND NOT failed.passed,"
        " json_each(%(expressions)s) AS later, json_each(later.value) AS below"
        " JOIN annotation_verdict AS sound ON sound.response_id = below.value AND sound.passed"
        " WHERE later.key > higher.key AND higher.key %(which)s 0)"
    )

    def __init__(self, tiers: str, *, best: bool) -> None:
        super().__init__(tiers, which="=" if best else ">=")

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        """The same in SQLite's words, which count tiers from 0."""
        return self.as_sql(compiler, connection, template=self.on_sqlite, **extra)


def find_conflicts(
    project: Project, *, kind: str = "", annotator: Membership | None = None, best: bool = False, text: str = ""
) -> QuerySet[Ranking]:
    """The current rankings that put a response that failed above one that passed, newest first.

    `kind` is that of the verifier; `best`: the one that failed was in the first tier; `text` stands in the prompt.
    """
    rankings = Ranking.objects.filter(
        slate__project=project, superseded_by__isnull=True, slate__prompt__verifier__isnull=False
    )
    if kind:
        rankings = rankings.filter(slate__prompt__verifier__kind=kind)
    if annotator is not None:
        rankings = rankings.filter(annotator=annotator)
    if text:
        rankings = rankings.annotate(said=TurnTexts("slate__prompt__messages")).filter(said__icontains=text)
    found = rankings.annotate(conflicts=RanksFailedHigher("tiers", best=best)).filter(conflicts=True)
    return found.order_by("-created_at", "-pk")


def read_conflicts(rankings: Sequence[Ranking]) -> list[Conflict]:
    """What `find_conflicts` found, each with its first pair; one query for any number."""
    ids = {pk for ranking in rankings for tier in ranking.tiers for pk in tier}
    verdicts = {
        verdict.response_id: verdict
        for verdict in Verdict.objects.filter(response__in=ids).select_related("response", "run")
    }
    conflicts = []
    for ranking in rankings:
        pairs = [
            (verdicts[better], verdicts[worse])
            for better, worse in derive_comparisons(ranking.tiers, task=ranking.task).strict
            if better in verdicts and worse in verdicts and not verdicts[better].passed and verdicts[worse].passed
        ]
        conflicts.append(Conflict(ranking=ranking, failed=pairs[0][0], passed=pairs[0][1], pairs=len(pairs)))
    return conflicts


def verified_kinds(project: Project) -> list[str]:
    """The kinds of verifiers that gave verdicts in the project."""
    kinds = Verdict.objects.filter(response__prompt__project=project).order_by("kind")
    return list(kinds.values_list("kind", flat=True).distinct())
