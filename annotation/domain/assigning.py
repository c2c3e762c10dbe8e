"""Gives annotators their places: leases on slots, exact overlap, nobody twice at one slate.

A claim picks a candidate (skipping locked rows where the database can) and then makes a conditional UPDATE whose row
count decides; SQLite and PostgreSQL so give the same promise. Expiry is judged at the next claim, by nobody else.

Who comes back to a slate finds it as they left it: a lapsed lease lives on under its token and in its order, at its
own slot or, where that has gone to somebody else, at another of the same slate, and comes before slates not begun.
A lease's `slot` is where its order was drawn and never changes; which slot it holds is said by the slot's token.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from uuid import UUID, uuid4

from django.db import IntegrityError, connection, transaction
from django.db.models import Case, Exists, OuterRef, Q, QuerySet, Subquery, When
from django.utils import timezone

from annotation.models import Draft, Lease, Membership, PracticeExample, Skip, Slot
from annotation.queries import canonical_order
from annotation.statistics.orders import draw_order

CLAIM_TRIES = 20
LIVE_LEASES = 2
"""The slate on screen, and the next one, fetched ahead."""


class LeaseUnknown(ValueError):
    """The token names no lease of this annotator."""


def live_slots(annotator: Membership, *, now: datetime | None = None) -> QuerySet[Slot]:
    """The slots that the annotator holds at this moment: where something was entered first, then as they were leased.

    Deadlines say nothing of the order: the slate on screen is renewed, the one fetched ahead is not.
    """
    held = Slot.objects.filter(annotator=annotator, state=Slot.State.LEASED, deadline__gt=now or timezone.now())
    begun = Draft.objects.filter(annotator=annotator, token=OuterRef("token"))
    leased = Lease.objects.filter(token=OuterRef("token")).values("created_at")
    return held.order_by(Exists(begun).desc(), Subquery(leased), "pk")


def live_lease(annotator: Membership, *, beside: UUID | None = None) -> Lease | None:
    """The live lease that the annotator works at, other than `beside`, if any; only reads."""
    slot = live_slots(annotator).exclude(token=beside).first()
    return _lease_with_slate(slot.token) if slot is not None and slot.token is not None else None


def claim_slot(annotator: Membership, *, beside: UUID | None = None) -> Lease | None:
    """Return a live lease of the annotator, or claim a slot; None where nothing is left for them.

    `beside` is the token of the slate on screen: the lease returned is then another one, for fetching ahead.
    """
    held = live_lease(annotator, beside=beside)
    if held is not None:
        return held
    for _attempt in range(CLAIM_TRIES):
        try:
            with transaction.atomic():
                # One claim of an annotator at a time: two tabs at once get the same slate.
                Membership.objects.select_for_update().get(pk=annotator.pk)
                held = live_lease(annotator, beside=beside)
                if held is not None:
                    return held
                if beside is not None and live_slots(annotator).count() >= LIVE_LEASES:
                    return None
                slot = _next_candidate(annotator, beside=beside)
                if slot is None:
                    return None
                lease = _take(slot, annotator=annotator)
        except IntegrityError:  # another window of the same annotator was quicker at this slate
            continue
        if lease is not None:
            return _lease_with_slate(lease.token)
    return None


def renew_lease(annotator: Membership, *, token: UUID) -> bool:
    """Hold the slot for as long again, since the annotator is at work; False where it is no longer theirs.

    Raises LeaseUnknown for a token that is not theirs.
    """
    lease = own_lease(annotator, token=token)
    held = Slot.objects.filter(token=lease.token, state=Slot.State.LEASED)
    return held.update(deadline=_deadline(annotator)) == 1


def skip_slate(annotator: Membership, *, token: UUID, reason: str) -> None:
    """Give the slot back and do not offer this slate to the annotator again; a second skip changes nothing."""
    with transaction.atomic():
        lease = own_lease(annotator, token=token)
        Skip.objects.get_or_create(slate_id=lease.slot.slate_id, annotator=annotator, defaults={"reason": reason[:500]})
        release_slot(lease)


def release_slot(lease: Lease) -> bool:
    """Free the slot that a lease holds, if it still holds one; say whether it did."""
    freed = Slot.objects.filter(token=lease.token, state=Slot.State.LEASED).update(
        state=Slot.State.FREE, annotator=None, token=None, deadline=None
    )
    return freed == 1


def own_lease(annotator: Membership, *, token: UUID) -> Lease:
    """The annotator's lease of this token, live or lapsed. Raises LeaseUnknown for anybody else's."""
    lease = (
        Lease.objects.select_related("slot__slate__prompt", "slot__slate__project")
        .filter(token=token, annotator=annotator)
        .first()
    )
    if lease is None:
        raise LeaseUnknown("This slate was not given to you, or its link is damaged. Ask for the next one.")
    return lease


def order_seed(slate_id: int) -> int:
    """The slate's seed of presentation: with a slot's number it gives the order, counterbalanced over the slots."""
    return int.from_bytes(hashlib.sha256(f"presented order of slate {slate_id}".encode()).digest()[:6])


def _next_candidate(annotator: Membership, *, beside: UUID | None) -> Slot | None:
    """A slot to take: at a slate that the annotator has begun, one with a draft first; or else in the project's order.

    The slate of `beside` is on screen and no candidate, even where its lease has lapsed.
    """
    taken = Slot.objects.filter(slate=OuterRef("slate"), annotator=annotator).exclude(state=Slot.State.LEASED)
    skipped = Skip.objects.filter(slate=OuterRef("slate"), annotator=annotator)
    practised = PracticeExample.objects.filter(slate=OuterRef("slate"))
    now, order = timezone.now(), ("-slate__priority", "slate_id", "number")
    held = Slot.objects.filter(slate=OuterRef("slate"), annotator=annotator, state=Slot.State.LEASED, deadline__gt=now)
    candidates = (
        Slot.objects.filter(slate__project=annotator.project_id, is_extra=False)
        .filter(Q(state=Slot.State.FREE) | Q(state=Slot.State.LEASED, deadline__lte=now))
        .filter(~Exists(taken), ~Exists(held), ~Exists(skipped), ~Exists(practised))
        .order_by(*order)
    )
    if beside is not None:
        candidates = candidates.exclude(slate__in=Lease.objects.filter(token=beside).values("slot__slate"))
    if connection.features.has_select_for_update_skip_locked:
        candidates = candidates.select_for_update(skip_locked=True, of=("self",))
    drafted = list(_drafted_leases(annotator).values_list("slot__slate", flat=True))
    lapsed = Slot.objects.filter(annotator=annotator, state=Slot.State.LEASED, deadline__lte=now)
    begun = {*drafted, *lapsed.values_list("slate", flat=True)}
    if begun:
        with_draft, own = When(slate__in=drafted, then=0), When(annotator=annotator, then=0)
        first = candidates.filter(slate__in=begun).order_by(Case(with_draft, default=1), Case(own, default=1), *order)
        slot = first.first()
        if slot is not None:
            return slot
    return candidates.first()


def _drafted_leases(*annotators: Membership) -> QuerySet[Lease]:
    """The annotators' leases under which something was entered and not submitted."""
    drafts = Draft.objects.filter(annotator__in=annotators)
    return Lease.objects.filter(annotator__in=annotators, token__in=drafts.values("token"))


def drafts_without_slot(*annotators: Membership) -> QuerySet[Lease]:
    """The annotators' leases with a draft whose slate has gone to others; submitted, it is kept as an extra."""
    own = Slot.objects.filter(slate=OuterRef("slot__slate"), annotator=OuterRef("annotator"))
    skipped = Skip.objects.filter(slate=OuterRef("slot__slate"), annotator=OuterRef("annotator"))
    free = Slot.objects.filter(slate=OuterRef("slot__slate"), is_extra=False).filter(
        Q(state=Slot.State.FREE) | Q(state=Slot.State.LEASED, deadline__lte=timezone.now())
    )
    return _drafted_leases(*annotators).filter(~Exists(own), ~Exists(skipped), ~Exists(free))


def _take(slot: Slot, *, annotator: Membership) -> Lease | None:
    """Take the slot by compare-and-set on the state in which it was read; None if somebody was quicker."""
    lease = _earlier_lease(slot, annotator=annotator)
    token = lease.token if lease is not None else uuid4()
    # A lapsed lease of their own at this slate stands in the way of unique (slate, annotator): let it go first.
    Slot.objects.filter(slate=slot.slate_id, annotator=annotator, state=Slot.State.LEASED).exclude(pk=slot.pk).filter(
        deadline__lte=timezone.now()
    ).update(state=Slot.State.FREE, annotator=None, token=None, deadline=None)
    unchanged = Slot.objects.filter(Q(token=slot.token) if slot.token else Q(token__isnull=True), pk=slot.pk)
    if (
        unchanged.exclude(state=Slot.State.DONE).update(
            state=Slot.State.LEASED, annotator=annotator, token=token, deadline=_deadline(annotator)
        )
        != 1
    ):
        return None
    if lease is not None:
        return lease
    seed = order_seed(slot.slate_id)
    order = draw_order(canonical_order(slot.slate), seed=seed, row=slot.number)
    return Lease.objects.create(token=token, slot=slot, annotator=annotator, presented_order=order, order_seed=seed)


def _earlier_lease(slot: Slot, *, annotator: Membership) -> Lease | None:
    """Under what the annotator had this slate before, if they had it: where there is a draft, or else most lately."""
    earlier = Lease.objects.filter(annotator=annotator, slot__slate=slot.slate_id).order_by("-created_at")
    return earlier.filter(pk__in=_drafted_leases(annotator)).first() or earlier.first()


def _deadline(annotator: Membership) -> datetime:
    return timezone.now() + timedelta(seconds=annotator.project.lease_seconds)


def _lease_with_slate(token: UUID) -> Lease:
    return Lease.objects.select_related("slot__slate__prompt", "slot__slate__project").get(token=token)
