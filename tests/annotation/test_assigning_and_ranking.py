"""Leases and rankings: exact overlap, nothing lost, nothing doubled, nobody else's."""

from __future__ import annotations

import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from annotation.domain.assigning import LeaseUnknown, claim_slot, live_lease, renew_lease, skip_slate
from annotation.domain.ranking import RankingRefused, amend_ranking, submit_ranking
from annotation.models import Lease, Ranking, Slot
from tests.annotation.factories import make_member, make_project, make_slate

pytestmark = pytest.mark.django_db


def let_lapse(lease: Lease) -> None:
    Slot.objects.filter(token=lease.token).update(deadline=timezone.now() - timedelta(seconds=1))


def test_a_claim_returns_the_live_lease_instead_of_a_second_one():
    project = make_project()
    make_slate(project), make_slate(project)
    annotator = make_member(project)
    assert claim_slot(annotator) == claim_slot(annotator) == live_lease(annotator)
    assert Slot.objects.filter(state="leased").count() == 1


def test_a_claim_beside_the_slate_on_screen_takes_the_next_one_and_no_third():
    project = make_project()
    for _ in range(3):
        make_slate(project)
    annotator = make_member(project)
    first = claim_slot(annotator)
    second = claim_slot(annotator, beside=first.token)
    assert second.slot.slate_id != first.slot.slate_id
    assert claim_slot(annotator, beside=first.token) == second
    assert Slot.objects.filter(state="leased").count() == 2


def test_overlap_is_exact_and_nobody_sits_twice_at_one_slate():
    project = make_project(overlap=2)
    slate = make_slate(project)
    annotators = [make_member(project) for _ in range(3)]
    leases = [claim_slot(annotator) for annotator in annotators]
    assert [lease is not None for lease in leases] == [True, True, False]
    submit_ranking(annotators[0], token=leases[0].token, tiers=[[0], [1], [2], [3]])
    assert claim_slot(annotators[0]) is None
    assert slate.slots.count() == 2


def test_a_lapsed_lease_goes_to_the_next_annotator():
    project = make_project()
    make_slate(project)
    late, quick = make_member(project), make_member(project)
    let_lapse(claim_slot(late))
    assert live_lease(late) is None
    assert claim_slot(quick) is not None


def test_tiers_on_screen_are_stored_as_the_response_ids_that_were_shown_there():
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    lease = claim_slot(annotator)
    a, b, c, d = lease.presented_order
    ranking = submit_ranking(annotator, token=lease.token, tiers=[[2], [0, 3], [1]], active_ms=1200).ranking
    assert ranking.tiers == [[c], sorted([a, d]), [b]]
    assert ranking.presented_order == [a, b, c, d]
    assert (ranking.active_ms, ranking.guidelines.version) == (1200, 1)


def test_presented_orders_differ_between_annotators_and_are_recorded_with_their_seed():
    project = make_project(overlap=20)
    make_slate(project)
    leases = [claim_slot(make_member(project)) for _ in range(20)]
    assert len({tuple(lease.presented_order) for lease in leases}) > 5
    assert len({lease.order_seed for lease in leases}) == 20


def test_submitting_twice_stores_once_and_answers_with_the_same_ranking():
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    lease = claim_slot(annotator)
    first = submit_ranking(annotator, token=lease.token, tiers=[[0], [1], [2], [3]])
    second = submit_ranking(annotator, token=lease.token, tiers=[[3], [1], [2], [0]])
    assert (first.created, second.created) == (True, False)
    assert first.ranking == second.ranking == Ranking.objects.get()


def test_a_late_submission_takes_its_slot_if_that_is_free():
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    lease = claim_slot(annotator)
    let_lapse(lease)
    submission = submit_ranking(annotator, token=lease.token, tiers=[[0, 1, 2, 3]])
    assert (submission.is_extra, Slot.objects.get().state) == (False, "done")


def test_a_late_submission_whose_slot_went_to_another_is_kept_as_an_extra():
    project = make_project()
    slate = make_slate(project)
    late, quick = make_member(project), make_member(project)
    lease = claim_slot(late)
    let_lapse(lease)
    other = claim_slot(quick)
    submit_ranking(quick, token=other.token, tiers=[[0], [1], [2], [3]])
    submission = submit_ranking(late, token=lease.token, tiers=[[0], [1], [2], [3]])
    assert submission.is_extra
    assert sorted(slate.slots.values_list("is_extra", flat=True)) == [False, True]


def test_a_late_submission_takes_any_free_slot_before_it_becomes_an_extra():
    """Overlap 2: the late one's slot went to another, the second slot is free, so the slate ends with 2 rankings."""
    project = make_project(overlap=2)
    slate = make_slate(project)
    late, quick = make_member(project), make_member(project)
    lease = claim_slot(late)
    let_lapse(lease)
    claim_slot(quick)
    assert not submit_ranking(late, token=lease.token, tiers=[[0], [1], [2], [3]]).is_extra
    assert sorted(slate.slots.values_list("state", flat=True)) == ["done", "leased"]


def test_a_renewed_lease_is_held_for_as_long_again_and_a_lost_one_is_not():
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    lease = claim_slot(annotator)
    soon = timezone.now() + timedelta(seconds=5)
    Slot.objects.update(deadline=soon)
    assert renew_lease(annotator, token=lease.token) is True
    assert Slot.objects.get().deadline > soon + timedelta(minutes=20)
    let_lapse(lease)
    claim_slot(make_member(project))
    assert renew_lease(annotator, token=lease.token) is False
    with pytest.raises(LeaseUnknown):
        renew_lease(make_member(project), token=lease.token)


def test_a_submission_under_a_lapsed_lease_settles_the_newer_lease_of_the_same_slate():
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    first = claim_slot(annotator)
    let_lapse(first)
    second = claim_slot(annotator)
    assert second.slot_id == first.slot_id
    assert second.token != first.token
    submission = submit_ranking(annotator, token=first.token, tiers=[[0], [1], [2], [3]])
    assert not submission.is_extra
    assert Slot.objects.get().state == "done"
    with pytest.raises(RankingRefused, match="ranked this slate already"):
        submit_ranking(annotator, token=second.token, tiers=[[0], [1], [2], [3]])


def test_an_incomplete_ranking_is_refused_and_says_which_response_is_missing():
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    lease = claim_slot(annotator)
    with pytest.raises(RankingRefused) as refusal:
        submit_ranking(annotator, token=lease.token, tiers=[[0], [2]])
    assert refusal.value.problems == ["Responses B, D are not placed."]
    assert not Ranking.objects.exists()


@pytest.mark.parametrize("tiers", [[[0], [0], [1], [2], [3]], [[0, 1, 2, 4]], [[], [0, 1, 2, 3]], [[-1, 0, 1, 2]]])
def test_inconsistent_tiers_are_refused(tiers):
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    lease = claim_slot(annotator)
    with pytest.raises(RankingRefused):
        submit_ranking(annotator, token=lease.token, tiers=tiers)


def test_all_bad_needs_no_order_but_keeps_one():
    project = make_project()
    make_slate(project), make_slate(project)
    annotator = make_member(project)
    unordered = submit_ranking(annotator, token=claim_slot(annotator).token, tiers=[], all_bad=True).ranking
    ordered = submit_ranking(annotator, token=claim_slot(annotator).token, tiers=[[0], [1, 2, 3]], all_bad=True).ranking
    assert (unordered.tiers, unordered.all_bad) == ([], True)
    assert (len(ordered.tiers), ordered.all_bad) == (2, True)


def test_nobody_submits_or_skips_under_anothers_lease():
    project = make_project()
    make_slate(project)
    owner, thief = make_member(project), make_member(project)
    lease = claim_slot(owner)
    with pytest.raises(LeaseUnknown):
        submit_ranking(thief, token=lease.token, tiers=[[0], [1], [2], [3]])
    with pytest.raises(LeaseUnknown):
        skip_slate(thief, token=lease.token, reason="")
    with pytest.raises(LeaseUnknown):
        submit_ranking(owner, token=uuid4(), tiers=[[0], [1], [2], [3]])


def test_a_skipped_slate_is_offered_to_others_but_not_again_to_whoever_skipped_it():
    project = make_project()
    make_slate(project)
    first, second = make_member(project), make_member(project)
    skip_slate(first, token=claim_slot(first).token, reason="not my language")
    assert claim_slot(first) is None
    assert claim_slot(second) is not None


def test_an_amendment_supersedes_and_leaves_the_older_version_untouched():
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    lease = claim_slot(annotator)
    first = submit_ranking(annotator, token=lease.token, tiers=[[0], [1], [2], [3]]).ranking
    token = uuid4()
    second = amend_ranking(annotator, ranking=first, token=token, tiers=[[3], [2], [1], [0]]).ranking
    again = amend_ranking(annotator, ranking=first, token=token, tiers=[[3], [2], [1], [0]])
    assert (again.created, again.ranking) == (False, second)
    first.refresh_from_db()
    assert first.tiers == [[pk] for pk in lease.presented_order]
    assert second.tiers == [[pk] for pk in reversed(lease.presented_order)]
    with pytest.raises(RankingRefused, match="newer version"):
        amend_ranking(annotator, ranking=first, token=uuid4(), tiers=[[0], [1], [2], [3]])
    with pytest.raises(RankingRefused, match="not yours"):
        amend_ranking(make_member(project), ranking=second, token=uuid4(), tiers=[[0], [1], [2], [3]])


def test_the_database_itself_refuses_to_change_a_ranking():
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    ranking = submit_ranking(annotator, token=claim_slot(annotator).token, tiers=[[0], [1], [2], [3]]).ranking
    with pytest.raises(DatabaseError, match="immutable"), transaction.atomic():
        Ranking.objects.filter(pk=ranking.pk).update(rationale="changed")
    ranking.refresh_from_db()
    assert ranking.rationale == ""


@pytest.mark.django_db(transaction=True)
def test_many_annotators_at_once_never_exceed_overlap_and_lose_nothing():
    """12 annotators, 10 slates, overlap 3: 30 slots, each submitted twice; exactly 30 rankings, 3 a slate."""
    project = make_project(overlap=3)
    slates = [make_slate(project) for _ in range(10)]
    annotators = [make_member(project) for _ in range(12)]
    errors: list[BaseException] = []

    def work(annotator) -> None:
        try:
            while lease := claim_slot(annotator):
                for _ in range(2):
                    submit_ranking(annotator, token=lease.token, tiers=[[0], [1], [2], [3]])
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(annotator,)) for annotator in annotators]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert [slate.rankings.count() for slate in slates] == [3] * 10
    assert Slot.objects.filter(is_extra=True).count() == 0


@pytest.mark.django_db(transaction=True)
def test_a_double_click_in_two_threads_answers_both_with_the_same_ranking():
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    token = claim_slot(annotator).token
    start = threading.Barrier(2)
    results: list[object] = []

    def submit() -> None:
        start.wait()
        try:
            results.append(submit_ranking(annotator, token=token, tiers=[[0], [1], [2], [3]]).ranking.pk)
        except BaseException as error:
            results.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=submit) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == [Ranking.objects.get().pk] * 2


@pytest.mark.django_db(transaction=True)
def test_two_tabs_that_claim_at_once_get_the_same_slate():
    project = make_project()
    for _ in range(4):
        make_slate(project)
    annotator = make_member(project)
    start, tokens = threading.Barrier(3), []

    def claim() -> None:
        start.wait()
        try:
            tokens.append(claim_slot(annotator).token)
        finally:
            connection.close()

    threads = [threading.Thread(target=claim) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(tokens) == 3
    assert len(set(tokens)) == 1
