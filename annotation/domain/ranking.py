"""Takes in what annotators say: submissions and amendments.

Submitting is idempotent on the lease token: a double click, a retry after a lost answer and a late queue all end in
one ranking. A late submission is never thrown away: it takes its slot if that is free, and an extra slot otherwise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any
from uuid import UUID, uuid5

from django.db import IntegrityError, transaction
from django.db.models import Max
from django.utils import timezone
from django.utils.translation import gettext as _

from annotation.domain.assigning import own_lease
from annotation.domain.guidelines import guidelines_for
from annotation.domain.judgement import Highlight, Judgement, RankingRefused, check_judgement, complete_tiers
from annotation.domain.tasks import task_of
from annotation.models import Draft, Lease, Membership, Ranking, Response, Slate, Slot
from annotation.queries import amendable_until, canonical_order, masked_texts
from annotation.rendering import remask, render_markdown, unmask


@dataclass(frozen=True)
class Submission:
    """`created` is False where this token had been submitted before; `is_extra` where it came too late."""

    ranking: Ranking
    created: bool
    is_extra: bool


def submit_ranking(
    annotator: Membership, *, token: UUID, judgement: Judgement, active_ms: int | None = None
) -> Submission:
    """Store the annotator's judgement of the slate that was leased under `token`.

    Raises LeaseUnknown for a token that is not theirs, RankingRefused for an incomplete or inconsistent judgement and
    for a token under which something else was submitted already.
    """
    lease = own_lease(annotator, token=token)
    order = lease.presented_order
    said = _said(judgement, annotator=annotator, slate=lease.slot.slate, order=order)
    before = _submission_of(token, said=said)
    if before is not None:
        return before
    try:
        with transaction.atomic():
            Slate.objects.select_for_update().get(pk=lease.slot.slate_id)
            before = _submission_of(token, said=said)
            if before is not None:
                return before
            slot = _settle_slot(lease)
            ranking = Ranking.objects.create(
                slate_id=slot.slate_id,
                slot=slot,
                annotator=annotator,
                token=token,
                presented_order=order,
                active_ms=active_ms,
                guidelines=guidelines_for(annotator),
                **said,
            )
            Draft.objects.filter(annotator=annotator, token=token).delete()
    except IntegrityError:
        # A twin of this request was quicker (unique token): answer as it did. Anything else is a real conflict.
        before = _submission_of(token, said=said)
        if before is None:
            raise
        return before
    return Submission(ranking=ranking, created=True, is_extra=slot.is_extra)


def amend_ranking(
    annotator: Membership, *, ranking: Ranking, judgement: Judgement, active_ms: int | None = None
) -> Submission:
    """Supersede the annotator's own current ranking by a new version; the older one stays as it was.

    The new version's token follows from the ranking (`amendment_token`), so that the amendment too is stored once.
    Raises RankingRefused where the ranking is somebody else's, has been superseded already, or is too old to amend.
    """
    if ranking.annotator_id != annotator.pk:
        raise RankingRefused([_("This ranking is not yours.")])
    token = amendment_token(ranking)
    order = ranking.presented_order or canonical_order(ranking.slate)
    said = _said(judgement, annotator=annotator, slate=ranking.slate, order=order)
    newer = _("A newer version of this ranking exists already; open it first.")
    before = _submission_of(token, said=said, otherwise=newer)
    if before is not None:
        return before
    until = amendable_until(ranking)
    if until is not None and until <= timezone.now():
        raise RankingRefused([_("This ranking can no longer be amended: the project's time for that is over.")])
    try:
        with transaction.atomic():
            amended = Ranking.objects.create(
                slate_id=ranking.slate_id,
                slot_id=ranking.slot_id,
                annotator=annotator,
                token=token,
                supersedes=ranking,
                presented_order=order,
                active_ms=active_ms,
                guidelines=guidelines_for(annotator),
                **said,
            )
            Draft.objects.filter(annotator=annotator, token=token).delete()
    except IntegrityError:
        before = _submission_of(token, said=said, otherwise=newer)
        if before is None:
            raise RankingRefused([newer]) from None
        return before
    return Submission(ranking=amended, created=True, is_extra=amended.slot.is_extra)


def amendment_token(ranking: Ranking) -> UUID:
    """The token under which the ranking's next version is submitted: a version has one successor at most."""
    return uuid5(ranking.token, "amendment")


def judgement_of(ranking: Ranking) -> Judgement:
    """A stored judgement in the positions in which its annotator saw the responses."""
    order = ranking.presented_order or canonical_order(ranking.slate)
    position = {response_id: index for index, response_id in enumerate(order)}
    covered = [masked.covered for masked in masked_texts(ranking.slate.project, order)] if ranking.corrections else []
    corrected = {position[int(key)]: text for key, text in ranking.corrections.items()}
    return Judgement(
        tiers=[sorted(position[response_id] for response_id in tier) for tier in ranking.tiers],
        all_bad=ranking.all_bad,
        strength=_turned(ranking.strength, slate=ranking.slate, order=order),
        ratings={
            name: {position[int(key)]: value for key, value in values.items()}
            for name, values in (ranking.ratings or {}).items()
        },
        flags={position[int(key)]: list(keys) for key, keys in ranking.flags.items()},
        highlights=[
            Highlight(
                position=position[entry["response"]],
                start=entry["start"],
                end=entry["end"],
                quote=entry["quote"],
                comment=entry["comment"],
            )
            for entry in ranking.highlights
        ],
        corrections={place: remask(text, covered=covered[place]) for place, text in corrected.items()},
        rationale=ranking.rationale,
    )


def _said(judgement: Judgement, *, annotator: Membership, slate: Slate, order: Sequence[int]) -> dict[str, Any]:
    """Check a judgement and turn its positions into the ids of the responses that stood there."""
    task = task_of(annotator.project)
    judgement = complete_tiers(judgement, task=task)
    masked = cache(lambda: masked_texts(annotator.project, order))

    def shown(position: int) -> str:
        return render_markdown(masked()[position].text).text

    check_judgement(judgement, task=task, count=len(order), shown=shown)
    return {
        "task": task.kind,
        "tiers": [sorted(order[position] for position in tier) for tier in judgement.tiers],
        "all_bad": judgement.all_bad,
        "strength": _turned(judgement.strength, slate=slate, order=order),
        "ratings": {
            name: {str(order[position]): value for position, value in sorted(values.items())}
            for name, values in judgement.ratings.items()
            if values
        }
        or None,
        "flags": {str(order[position]): sorted(keys) for position, keys in sorted(judgement.flags.items()) if keys},
        "highlights": [
            {
                "response": order[highlight.position],
                "start": highlight.start,
                "end": highlight.end,
                "quote": highlight.quote,
                "comment": highlight.comment,
            }
            for highlight in judgement.highlights
        ],
        "corrections": _corrections(judgement, order=order, masked=masked),
        "rationale": judgement.rationale,
    }


def _corrections(judgement: Judgement, *, order: Sequence[int], masked: Callable[[], list[Any]]) -> dict[str, str]:
    """Corrected texts by response id; what was masked in them is put back, and a text left as it was is none."""
    if not judgement.corrections:
        return {}
    texts = dict(Response.objects.filter(pk__in=order).values_list("pk", "text"))
    corrected = {
        order[position]: unmask(text, covered=masked()[position].covered)
        for position, text in sorted(judgement.corrections.items())
    }
    return {str(pk): text for pk, text in corrected.items() if text != texts[pk]}


def _turned(strength: int | None, *, slate: Slate, order: Sequence[int]) -> int | None:
    """Turn a strength between the sides of the screen and the slate's canonical order (the turn is its own inverse)."""
    if not strength:
        return strength
    return strength if canonical_order(slate)[0] == order[0] else -strength


def _settle_slot(lease: Lease) -> Slot:
    """Turn the slot that the annotator holds, or any free one, or else an extra one, into a done one (slate locked)."""
    slate = lease.slot.slate
    done = {"state": Slot.State.DONE, "annotator": lease.annotator, "token": lease.token, "deadline": None}
    # What the annotator holds of the slate, under this lease or under another: this submission is what it was for.
    mine = Slot.objects.filter(slate=slate, annotator=lease.annotator)
    if mine.filter(state=Slot.State.LEASED).update(**done):
        return mine.get()
    if mine.filter(state=Slot.State.DONE).exists():
        raise RankingRefused([_("You have ranked this slate already; open it in your history to amend it.")])
    free = Slot.objects.filter(slate=slate, state=Slot.State.FREE, is_extra=False)
    for slot_id in free.order_by("number").values_list("pk", flat=True):
        if free.filter(pk=slot_id).update(**done):
            return Slot.objects.get(pk=slot_id)
    last = slate.slots.aggregate(Max("number"))["number__max"] or 0
    return Slot.objects.create(slate=slate, number=last + 1, is_extra=True, **done)


def _submission_of(token: UUID, *, said: dict[str, Any], otherwise: str | None = None) -> Submission | None:
    """What was submitted under this token, if anything. Raises RankingRefused where it was something else."""
    ranking = Ranking.objects.select_related("slot").filter(token=token).first()
    if ranking is None:
        return None
    if any(getattr(ranking, name) != value for name, value in said.items()):
        problem = _("You have submitted another answer to this slate already; open it in your history to amend it.")
        raise RankingRefused([otherwise or problem])
    return Submission(ranking=ranking, created=False, is_extra=ranking.slot.is_extra)
