"""Leases and rankings: exact overlap, nothing lost, nothing doubled, nobody else's."""

from __future__ import annotations

import threading
from collections import Counter
from datetime import timedelta
from uuid import uuid4

import pytest
from django.db import DatabaseError, connection, transaction
from django.utils import timezone

from annotation.domain.assigning import LeaseUnknown, claim_slot, live_lease, renew_lease, skip_slate
from annotation.domain.drafts import find_draft, save_draft
from annotation.domain.judgement import Highlight, Judgement, RankingRefused
from annotation.domain.ranking import amend_ranking, judgement_of, submit_ranking
from annotation.models import Lease, Membership, Ranking, Response, Slate, Slot
from annotation.queries import ranking_view
from annotation.statistics.orders import draw_order
from tests.annotation.factories import make_member, make_project, make_slate

pytestmark = pytest.mark.django_db
STRICT = Judgement(tiers=[[0], [1], [2], [3]])


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
    submit_ranking(annotators[0], token=leases[0].token, judgement=STRICT)
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
    ranking = submit_ranking(
        annotator, token=lease.token, judgement=Judgement(tiers=[[2], [0, 3], [1]]), active_ms=1200
    ).ranking
    assert ranking.tiers == [[c], sorted([a, d]), [b]]
    assert ranking.presented_order == [a, b, c, d]
    assert (ranking.active_ms, ranking.guidelines.version) == (1200, 1)


def test_presented_orders_are_counterbalanced_over_the_slots_and_recorded_with_their_seed():
    """Eight annotators of one slate of four are two Williams designs: everybody stands everywhere twice."""
    project = make_project(overlap=8)
    slate = make_slate(project)
    leases = [claim_slot(make_member(project)) for _ in range(8)]
    places = Counter((pk, position) for lease in leases for position, pk in enumerate(lease.presented_order))
    assert set(places.values()) == {2}
    assert len(places) == 16
    assert len({lease.order_seed for lease in leases}) == 1
    canonical = [response.pk for response in slate.responses.order_by("places__position")]
    for lease in leases:
        assert lease.presented_order == draw_order(canonical, seed=lease.order_seed, row=lease.slot.number)


def test_presented_orders_differ_from_slate_to_slate():
    project = make_project()
    slates = [make_slate(project) for _ in range(40)]
    canonical = {s.pk: [r.pk for r in s.responses.order_by("places__position")] for s in slates}
    leases = [claim_slot(make_member(project)) for _ in slates]
    orders = {tuple(canonical[le.slot.slate_id].index(pk) for pk in le.presented_order) for le in leases}
    assert len(orders) > 10


def test_a_source_stands_on_either_side_equally_often():
    """200 pairs of the same two sources: the first stands left in 100 of them, give or take five standard errors."""
    project = make_project(slate_size=2)
    first = {make_slate(project, count=2).places.get(position=0).response_id for _ in range(200)}
    annotator = make_member(project)
    left = 0
    for _ in range(200):
        lease = claim_slot(annotator)
        left += lease.presented_order[0] in first
        submit_ranking(annotator, token=lease.token, judgement=Judgement(tiers=[[0], [1]]))
    assert 65 <= left <= 135


def test_submitting_twice_stores_once_and_answers_with_the_same_ranking():
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    lease = claim_slot(annotator)
    judgement = Judgement(tiers=[[0], [1], [2], [3]], flags={1: ["unsafe"]}, rationale="why")
    first = submit_ranking(annotator, token=lease.token, judgement=judgement, active_ms=10)
    second = submit_ranking(annotator, token=lease.token, judgement=judgement, active_ms=20)
    assert (first.created, second.created) == (True, False)
    assert first.ranking == second.ranking == Ranking.objects.get()


def test_another_answer_under_a_token_that_was_used_is_refused_not_acknowledged():
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    lease = claim_slot(annotator)
    first = submit_ranking(annotator, token=lease.token, judgement=STRICT).ranking
    with pytest.raises(RankingRefused, match="another answer to this slate already"):
        submit_ranking(annotator, token=lease.token, judgement=Judgement(tiers=[[3], [1], [2], [0]]))
    amend_ranking(annotator, ranking=first, judgement=Judgement(tiers=[[0, 1, 2, 3]]))
    with pytest.raises(RankingRefused, match="newer version"):
        amend_ranking(annotator, ranking=first, judgement=Judgement(tiers=[[3], [0, 1, 2]]))


def test_a_late_submission_takes_its_slot_if_that_is_free():
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    lease = claim_slot(annotator)
    let_lapse(lease)
    submission = submit_ranking(annotator, token=lease.token, judgement=Judgement(tiers=[[0, 1, 2, 3]]))
    assert (submission.is_extra, Slot.objects.get().state) == (False, "done")


def test_a_late_submission_whose_slot_went_to_another_is_kept_as_an_extra():
    project = make_project()
    slate = make_slate(project)
    late, quick = make_member(project), make_member(project)
    lease = claim_slot(late)
    let_lapse(lease)
    other = claim_slot(quick)
    submit_ranking(quick, token=other.token, judgement=STRICT)
    submission = submit_ranking(late, token=lease.token, judgement=STRICT)
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
    assert not submit_ranking(late, token=lease.token, judgement=STRICT).is_extra
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


def test_a_submission_under_an_older_lease_settles_the_newer_lease_of_the_same_slate():
    """Leases of one slate under two tokens were made before a lapsed one lived on; both are answered."""
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    first = claim_slot(annotator)
    second = Lease.objects.create(
        slot=first.slot, annotator=annotator, presented_order=first.presented_order, order_seed=first.order_seed
    )
    Slot.objects.update(token=second.token)
    submission = submit_ranking(annotator, token=first.token, judgement=STRICT)
    assert not submission.is_extra
    assert Slot.objects.get().state == "done"
    with pytest.raises(RankingRefused, match="ranked this slate already"):
        submit_ranking(annotator, token=second.token, judgement=STRICT)


def begin(annotator: Membership, *, lease: Lease) -> None:
    save_draft(annotator, token=lease.token, fields={"tier_0": "2"}, revision=1)


def test_a_lapsed_lease_that_nobody_took_lives_on_with_its_token_order_and_draft():
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    lease = claim_slot(annotator)
    begin(annotator, lease=lease)
    let_lapse(lease)
    again = claim_slot(annotator)
    assert (again, again.presented_order) == (lease, lease.presented_order)
    assert find_draft(annotator, token=again.token).fields == {"tier_0": "2"}
    assert Slot.objects.get(token=lease.token).deadline > timezone.now()
    assert Lease.objects.count() == 1


def test_where_the_slot_was_taken_the_lease_lives_on_at_another_slot_of_the_slate():
    """Overlap 2: the other annotator has the first slot and its order; the one who was late goes on at the second."""
    project = make_project(overlap=2)
    slate = make_slate(project)
    late, quick = make_member(project), make_member(project)
    lease = claim_slot(late)
    begin(late, lease=lease)
    let_lapse(lease)
    other = claim_slot(quick)
    again = claim_slot(late)
    assert (again, again.presented_order) == (lease, lease.presented_order)
    assert set(slate.slots.values_list("number", "token")) == {(0, other.token), (1, lease.token)}
    assert renew_lease(late, token=lease.token)
    canonical = [response.pk for response in slate.responses.order_by("places__position")]
    again = Lease.objects.get(pk=lease.pk)
    assert again.presented_order == draw_order(canonical, seed=again.order_seed, row=again.slot.number)
    for annotator, token in [(late, lease.token), (quick, other.token)]:
        assert not submit_ranking(annotator, token=token, judgement=STRICT).is_extra
    assert slate.slots.filter(state="done").count() == slate.slots.count() == 2


def test_a_lease_that_lives_on_at_another_slot_can_be_skipped():
    project = make_project(overlap=2)
    slate = make_slate(project)
    late, quick = make_member(project), make_member(project)
    lease = claim_slot(late)
    let_lapse(lease)
    claim_slot(quick)
    assert claim_slot(late) == lease
    skip_slate(late, token=lease.token, reason="")
    assert sorted(slate.slots.values_list("state", flat=True)) == ["free", "leased"]
    assert claim_slot(late) is None


def test_where_every_slot_was_taken_the_draft_waits_and_another_slate_comes():
    project = make_project()
    make_slate(project), make_slate(project)
    late, quick = make_member(project), make_member(project)
    lease = claim_slot(late)
    begin(late, lease=lease)
    let_lapse(lease)
    assert claim_slot(quick).slot.slate_id == lease.slot.slate_id
    assert claim_slot(late).slot.slate_id != lease.slot.slate_id
    assert submit_ranking(late, token=lease.token, judgement=STRICT).is_extra


def test_a_slate_with_a_draft_comes_before_one_that_was_merely_left_and_that_before_any_other():
    """Of three slates, A is left, B left with a draft, and C, which nobody has begun, is the most urgent."""
    project = make_project()
    for _ in range(2):
        make_slate(project)
    annotator = make_member(project)
    a = claim_slot(annotator)
    b = claim_slot(annotator, beside=a.token)
    begin(annotator, lease=b)
    let_lapse(a), let_lapse(b)
    Slate.objects.filter(pk=make_slate(project).pk).update(priority=9)
    assert claim_slot(annotator) == b
    assert claim_slot(annotator, beside=b.token) == a


def test_the_slate_on_screen_is_not_the_next_one_even_after_its_lease_has_lapsed():
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    lease = claim_slot(annotator)
    let_lapse(lease)
    assert claim_slot(annotator, beside=lease.token) is None
    assert claim_slot(annotator) == lease


def test_an_incomplete_ranking_is_refused_and_says_which_response_is_missing():
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    lease = claim_slot(annotator)
    with pytest.raises(RankingRefused) as refusal:
        submit_ranking(annotator, token=lease.token, judgement=Judgement(tiers=[[0], [2]]))
    assert refusal.value.problems == ["Responses B, D are not placed."]
    assert not Ranking.objects.exists()


@pytest.mark.parametrize("tiers", [[[0], [0], [1], [2], [3]], [[0, 1, 2, 4]], [[], [0, 1, 2, 3]], [[-1, 0, 1, 2]]])
def test_inconsistent_tiers_are_refused(tiers):
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    lease = claim_slot(annotator)
    with pytest.raises(RankingRefused):
        submit_ranking(annotator, token=lease.token, judgement=Judgement(tiers=tiers))


def test_all_bad_needs_no_order_but_keeps_one():
    project = make_project()
    make_slate(project), make_slate(project)
    annotator = make_member(project)
    unordered = submit_ranking(
        annotator, token=claim_slot(annotator).token, judgement=Judgement(tiers=[], all_bad=True)
    ).ranking
    ordered = submit_ranking(
        annotator, token=claim_slot(annotator).token, judgement=Judgement(tiers=[[0], [1, 2, 3]], all_bad=True)
    ).ranking
    assert (unordered.tiers, unordered.all_bad) == ([], True)
    assert (len(ordered.tiers), ordered.all_bad) == (2, True)


def test_nobody_submits_or_skips_under_anothers_lease():
    project = make_project()
    make_slate(project)
    owner, thief = make_member(project), make_member(project)
    lease = claim_slot(owner)
    with pytest.raises(LeaseUnknown):
        submit_ranking(thief, token=lease.token, judgement=STRICT)
    with pytest.raises(LeaseUnknown):
        skip_slate(thief, token=lease.token, reason="")
    with pytest.raises(LeaseUnknown):
        submit_ranking(owner, token=uuid4(), judgement=STRICT)


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
    first = submit_ranking(annotator, token=lease.token, judgement=STRICT).ranking
    second = amend_ranking(annotator, ranking=first, judgement=Judgement(tiers=[[3], [2], [1], [0]])).ranking
    again = amend_ranking(annotator, ranking=first, judgement=Judgement(tiers=[[3], [2], [1], [0]]))
    assert (again.created, again.ranking) == (False, second)
    first.refresh_from_db()
    assert first.tiers == [[pk] for pk in lease.presented_order]
    assert second.tiers == [[pk] for pk in reversed(lease.presented_order)]
    with pytest.raises(RankingRefused, match="not yours"):
        amend_ranking(make_member(project), ranking=second, judgement=STRICT)


def test_a_ranking_is_amended_within_the_projects_window_only():
    """Ten minutes from the first version on, whatever came between."""
    project = make_project()
    project.amend_minutes = 10
    project.save()
    make_slate(project)
    annotator = make_member(project)
    token = claim_slot(annotator).token
    first = submit_ranking(annotator, token=token, judgement=STRICT).ranking
    second = amend_ranking(annotator, ranking=first, judgement=Judgement(tiers=[[1], [0], [2], [3]])).ranking
    project.amend_minutes = 0
    project.save()
    second = Ranking.objects.get(pk=second.pk)
    with pytest.raises(RankingRefused, match="can no longer be amended"):
        amend_ranking(annotator, ranking=second, judgement=Judgement(tiers=[[2], [0], [1], [3]]))
    repeated = amend_ranking(annotator, ranking=first, judgement=Judgement(tiers=[[1], [0], [2], [3]]))
    assert repeated.ranking == second  # a late retry of what was kept is still answered


def test_everything_said_beside_the_order_is_stored_by_response_and_read_back_by_position():
    project = make_project()
    project.scales = [{"name": "Clarity", "points": {"1": "unclear", "2": "", "3": "clear"}}]
    project.save()
    slate = make_slate(project)
    annotator = make_member(project)
    lease = claim_slot(annotator)
    a, b, c, d = lease.presented_order
    text = slate.responses.get(pk=b).text
    judgement = Judgement(
        tiers=[[1], [0, 2, 3]],
        ratings={"Clarity": {0: 1, 1: 3, 2: 2, 3: 2}},
        flags={2: ["unsafe", "broken"]},
        highlights=[Highlight(position=1, start=0, end=6, quote=text[:6], comment="good")],
        corrections={1: f"{text} Indeed.", 0: slate.responses.get(pk=a).text},
        rationale="B is right.",
    )
    ranking = submit_ranking(annotator, token=lease.token, judgement=judgement).ranking
    ranking.refresh_from_db()
    assert ranking.ratings == {"Clarity": {str(a): 1, str(b): 3, str(c): 2, str(d): 2}}
    assert ranking.flags == {str(c): ["broken", "unsafe"]}
    assert ranking.highlights == [{"response": b, "start": 0, "end": 6, "quote": text[:6], "comment": "good"}]
    assert ranking.corrections == {str(b): f"{text} Indeed."}  # a text left as it was is no correction
    said = judgement_of(ranking)
    assert (said.tiers, said.ratings, said.rationale) == (judgement.tiers, judgement.ratings, "B is right.")
    assert (said.flags, said.highlights) == ({2: ["broken", "unsafe"]}, judgement.highlights)
    assert said.corrections == {1: f"{text} Indeed."}


def test_a_masked_name_is_put_back_into_a_correction_and_masked_again_on_amending():
    project = make_project()
    project.mask_patterns = ["As Qwen"]
    project.save()
    slate = make_slate(project, count=2)
    annotator = make_member(project)
    lease = claim_slot(annotator)
    response = slate.responses.get(pk=lease.presented_order[0])
    Response.objects.filter(pk=response.pk).update(text="As Qwen, I say yes.")
    shown = ranking_view(lease).responses[0]
    assert "Qwen" not in shown
    judgement = Judgement(tiers=[[0], [1]], corrections={0: shown.replace("yes", "no")})
    ranking = submit_ranking(annotator, token=lease.token, judgement=judgement).ranking
    assert ranking.corrections == {str(response.pk): "As Qwen, I say no."}
    assert judgement_of(ranking).corrections == {0: shown.replace("yes", "no")}


def test_a_mark_that_a_correction_repeats_shows_nobody_what_it_covers():
    project = make_project()
    project.mask_patterns = ["As Qwen"]
    project.save()
    make_slate(project, count=2)
    annotator = make_member(project)
    lease = claim_slot(annotator)
    Response.objects.filter(pk=lease.presented_order[0]).update(text="As Qwen, I say yes.")
    twice = "⟦masked 1⟧? ⟦masked 1⟧, I say no."
    judgement = Judgement(tiers=[[0], [1]], corrections={0: twice})
    ranking = submit_ranking(annotator, token=lease.token, judgement=judgement).ranking
    assert ranking.corrections == {str(lease.presented_order[0]): "As Qwen? As Qwen, I say no."}
    assert judgement_of(ranking).corrections == {0: twice}


def test_the_database_itself_refuses_to_change_a_ranking():
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    ranking = submit_ranking(annotator, token=claim_slot(annotator).token, judgement=STRICT).ranking
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
                    submit_ranking(annotator, token=lease.token, judgement=STRICT)
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
            results.append(submit_ranking(annotator, token=token, judgement=STRICT).ranking.pk)
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


@pytest.mark.django_db(transaction=True)
def test_a_lapsed_slot_that_its_annotator_and_others_claim_at_once_goes_to_one_of_them():
    project = make_project()
    make_slate(project)
    annotators = [make_member(project) for _ in range(4)]
    lease = claim_slot(annotators[0])
    begin(annotators[0], lease=lease)
    let_lapse(lease)
    start, given = threading.Barrier(4), []

    def claim(annotator) -> None:
        start.wait()
        try:
            given.append(claim_slot(annotator))
        finally:
            connection.close()

    threads = [threading.Thread(target=claim, args=(annotator,)) for annotator in annotators]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    [winner] = [lease for lease in given if lease is not None]
    assert len(given) == 4
    assert (Slot.objects.get().token, Slot.objects.get().annotator) == (winner.token, winner.annotator)
