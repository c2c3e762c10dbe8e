"""Takes in what annotators say: submissions and amendments.

Submitting is idempotent on the lease token: a double click, a retry after a lost answer and a late queue all end in
one ranking. A late submission is never thrown away: it takes its slot if that is free, and an extra slot otherwise.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from uuid import UUID

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotation.domain.assigning import own_lease
from annotation.models import Lease, Membership, Ranking, Slate, Slot
from annotation.models.project import Guidelines

RATIONALE_LIMIT = 20_000
LETTERS = "ABCDEFGHI"


class RankingRefused(ValueError):
    """The judgement is not complete or not consistent; `problems` say why, ready to be shown."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Submission:
    """`created` is False where this token had been submitted before; `is_extra` where it came too late."""

    ranking: Ranking
    created: bool
    is_extra: bool


def submit_ranking(
    annotator: Membership,
    *,
    token: UUID,
    tiers: Sequence[Sequence[int]],
    all_bad: bool = False,
    rationale: str = "",
    active_ms: int | None = None,
) -> Submission:
    """Store the annotator's ranking of the slate that was leased under `token`.

    `tiers` hold 0-based positions on screen, best first; positions in one tier are tied.
    Raises LeaseUnknown for a token that is not theirs, RankingRefused for an incomplete or inconsistent judgement.
    """
    lease = own_lease(annotator, token=token)
    before = _submission_of(token)
    if before is not None:
        return before
    check_judgement(tiers, count=len(lease.presented_order), all_bad=all_bad, rationale=rationale)
    try:
        with transaction.atomic():
            Slate.objects.select_for_update().get(pk=lease.slot.slate_id)
            before = _submission_of(token)
            if before is not None:
                return before
            slot = _settle_slot(lease)
            ranking = Ranking.objects.create(
                slate_id=slot.slate_id,
                slot=slot,
                annotator=annotator,
                token=token,
                tiers=_to_ids(tiers, order=lease.presented_order),
                all_bad=all_bad,
                presented_order=lease.presented_order,
                rationale=rationale,
                active_ms=active_ms,
                guidelines=_current_guidelines(annotator),
            )
    except IntegrityError:
        # A twin of this request was quicker (unique token): answer as it did. Anything else is a real conflict.
        before = _submission_of(token)
        if before is None:
            raise
        return before
    return Submission(ranking=ranking, created=True, is_extra=slot.is_extra)


def amend_ranking(
    annotator: Membership,
    *,
    ranking: Ranking,
    token: UUID,
    tiers: Sequence[Sequence[int]],
    all_bad: bool = False,
    rationale: str = "",
    active_ms: int | None = None,
) -> Submission:
    """Supersede the annotator's own current ranking by a new version; the older one stays as it was.

    `token` is drawn when the form is made, so that the amendment too is stored once.
    Raises RankingRefused where the ranking is somebody else's or has been superseded already.
    """
    before = _submission_of(token)
    if before is not None and before.ranking.annotator_id == annotator.pk:
        return before
    order = ranking.presented_order or _canonical_order(ranking.slate)
    if ranking.annotator_id != annotator.pk:
        raise RankingRefused([_("This ranking is not yours.")])
    check_judgement(tiers, count=len(order), all_bad=all_bad, rationale=rationale)
    try:
        with transaction.atomic():
            amended = Ranking.objects.create(
                slate_id=ranking.slate_id,
                slot_id=ranking.slot_id,
                annotator=annotator,
                token=token,
                supersedes=ranking,
                tiers=_to_ids(tiers, order=order),
                all_bad=all_bad,
                presented_order=order,
                rationale=rationale,
                active_ms=active_ms,
                guidelines=_current_guidelines(annotator),
            )
    except IntegrityError:
        before = _submission_of(token)
        if before is None or before.ranking.annotator_id != annotator.pk:
            raise RankingRefused([_("A newer version of this ranking exists already; open it first.")]) from None
        return before
    return Submission(ranking=amended, created=True, is_extra=amended.slot.is_extra)


def check_judgement(tiers: Sequence[Sequence[int]], *, count: int, all_bad: bool, rationale: str) -> None:
    """Raise RankingRefused unless every one of `count` positions is placed once (none need be under "all bad")."""
    placed = [position for tier in tiers for position in tier]
    problems = []
    if any(position not in range(count) for position in placed) or any(not tier for tier in tiers):
        problems.append(_("The tiers do not fit this slate. Reload the page."))
    elif len(set(placed)) != len(placed):
        problems.append(_("A response stands in two tiers."))
    elif len(placed) < count and not (all_bad and not placed):
        missing = [LETTERS[position] for position in range(count) if position not in placed]
        problems.append(
            ngettext("Response %(letters)s is not placed.", "Responses %(letters)s are not placed.", len(missing))
            % {"letters": ", ".join(missing)}
        )
    if len(rationale) > RATIONALE_LIMIT:
        problems.append(_("The reason is longer than %(limit)d characters.") % {"limit": RATIONALE_LIMIT})
    if "\x00" in rationale:
        problems.append(_("The reason holds a NUL character, which cannot be stored."))
    if problems:
        raise RankingRefused(problems)


def _settle_slot(lease: Lease) -> Slot:
    """Turn the lease's slot into a done one, or any free one, or open an extra slot where none is (slate locked)."""
    slate = lease.slot.slate
    done = {"state": Slot.State.DONE, "annotator": lease.annotator, "token": lease.token, "deadline": None}
    won = Slot.objects.filter(pk=lease.slot_id, state=Slot.State.LEASED, token=lease.token).update(**done)
    if not won:
        # The annotator may hold a newer lease at the same slate; this submission is what that one was for.
        mine = Slot.objects.filter(slate=slate, annotator=lease.annotator)
        won_newer = mine.filter(state=Slot.State.LEASED).update(**done)
        if won_newer:
            return mine.get()
        if mine.filter(state=Slot.State.DONE).exists():
            raise RankingRefused([_("You have ranked this slate already; open it in your history to amend it.")])
        free = Slot.objects.filter(slate=slate, state=Slot.State.FREE, is_extra=False)
        for slot_id in free.order_by("number").values_list("pk", flat=True):
            if free.filter(pk=slot_id).update(**done):
                return Slot.objects.get(pk=slot_id)
    if won:
        return Slot.objects.get(pk=lease.slot_id)
    last = slate.slots.aggregate(Max("number"))["number__max"] or 0
    return Slot.objects.create(slate=slate, number=last + 1, is_extra=True, **done)


def _submission_of(token: UUID) -> Submission | None:
    ranking = Ranking.objects.select_related("slot").filter(token=token).first()
    if ranking is None:
        return None
    return Submission(ranking=ranking, created=False, is_extra=ranking.slot.is_extra)


def _to_ids(tiers: Sequence[Sequence[int]], *, order: Sequence[int]) -> list[list[int]]:
    return [sorted(order[position] for position in tier) for tier in tiers]


def _canonical_order(slate: Slate) -> list[int]:
    return list(slate.places.order_by("position").values_list("response_id", flat=True))


def _current_guidelines(annotator: Membership) -> Guidelines | None:
    return Guidelines.objects.filter(project=annotator.project_id).order_by("-version").first()
