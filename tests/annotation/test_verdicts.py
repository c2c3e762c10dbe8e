"""Verdicts beside judgements: what annotators may see once they have judged, and the conflicts with verifiers."""

from __future__ import annotations

import itertools

import pytest
from django.db import IntegrityError, connection, transaction
from django.test.utils import CaptureQueriesContext

from annotation.domain.assigning import claim_slot, skip_slate
from annotation.domain.judgement import Judgement
from annotation.domain.ranking import amend_ranking, submit_ranking
from annotation.domain.slating import SlatePlan, make_slates
from annotation.domain.tasks import Scale
from annotation.models import Membership, Project, Prompt, Ranking, Slate, Slot, Verdict
from annotation.statistics.comparisons import derive_comparisons
from annotation.verdicts import ShownVerdict, find_conflicts, read_conflicts, verdicts_after, verified_kinds
from tests.annotation.factories import make_member, make_project, make_slate, make_verdicts

pytestmark = pytest.mark.django_db


def rank(annotator: Membership, *, tiers: str, all_bad: bool = False) -> Ranking:
    """The annotator's next slate, by canonical places: "2=0>1>3" puts the third and the first response on top."""
    lease = claim_slot(annotator)
    assert lease is not None
    return submit_ranking(
        annotator,
        token=lease.token,
        judgement=Judgement(tiers=positions(lease.slot.slate, lease.presented_order, tiers), all_bad=all_bad),
    ).ranking


def positions(slate: Slate, order: list[int], tiers: str) -> list[list[int]]:
    """Places in canonical order as places on the screen."""
    ids = list(slate.places.order_by("position").values_list("response_id", flat=True))
    return [[order.index(ids[int(place)]) for place in tier.split("=")] for tier in tiers.split(">")]


def again(slate: Slate) -> Slate:
    """The same responses in a further slate."""
    responses = list(slate.responses.order_by("places__position"))
    plan = SlatePlan(prompt=slate.prompt, external_id=f"{slate.external_id}-again", responses=responses)
    return make_slates(slate.project, plans=[plan])[0]


def place_of(slate: Slate, response: int) -> int:
    return slate.places.get(response=response).position


def test_what_was_judged_has_verdicts_and_nothing_else_has():
    project = make_project()
    judged, other = make_slate(project), make_slate(project)
    for slate in (judged, other):
        make_verdicts(slate, passed="+-?-")
    ann = make_member(project)
    assert verdicts_after(ann, rankings=[]) == {}
    ranking = rank(ann, tiers="0>1>2>3")
    shown = verdicts_after(ann, rankings=[ranking])
    assert {place_of(ranking.slate, pk): verdict for pk, verdict in shown.items()} == {
        0: ShownVerdict(True, "found 6", 0.25),
        1: ShownVerdict(False, "found 7, expected 6", 0.25),
        3: ShownVerdict(False, "found 7, expected 6", 0.25),
    }


def test_somebody_elses_ranking_shows_nothing():
    project = make_project()
    make_verdicts(make_slate(project), passed="+-+-")
    ranking = rank(make_member(project), tiers="0>1>2>3")
    assert verdicts_after(make_member(project), rankings=[ranking]) == {}


def test_a_project_may_keep_verdicts_back():
    project = make_project(show_verdicts=False)
    make_verdicts(make_slate(project), passed="+-+-")
    ann = make_member(project)
    assert verdicts_after(ann, rankings=[rank(ann, tiers="0>1>2>3")]) == {}


def test_the_verdict_on_a_response_that_is_still_to_be_judged_elsewhere_is_held_back():
    """The same four responses stand in two slates: verdicts come after the second."""
    project = make_project()
    first = make_slate(project)
    again(first)
    make_verdicts(first, passed="+-?-")
    ann = make_member(project)
    ranking = rank(ann, tiers="0>1>2>3")
    held = verdicts_after(ann, rankings=[ranking])
    assert [(verdict.passed, verdict.reason) for verdict in held.values()] == [(None, "")] * 3
    rank(ann, tiers="0>1>2>3")
    shown = verdicts_after(ann, rankings=[ranking])
    assert [verdict.passed for verdict in shown.values()] == [True, False, False]


def test_a_slate_of_other_responses_to_the_prompt_holds_verdicts_back():
    """A reason may say what the right answer is."""
    project = make_project()
    first = make_slate(project)
    other = make_slate(project)
    other.prompt = first.prompt
    other.save()
    make_verdicts(first, passed="+-?-")
    ann = make_member(project)
    ranking = rank(ann, tiers="0>1>2>3")
    assert ranking.slate == first
    assert {verdict.passed for verdict in verdicts_after(ann, rankings=[ranking]).values()} == {None}
    rank(ann, tiers="0>1>2>3")
    shown = verdicts_after(ann, rankings=[ranking])
    assert [verdict.passed for verdict in shown.values()] == [True, False, False]


def test_a_slate_once_held_that_others_have_filled_holds_verdicts_back():
    """Its answer would be kept even now."""
    project = make_project(overlap=1)
    first = make_slate(project)
    again(first)
    make_verdicts(first, passed="+-?-")
    ann = make_member(project)
    ranking = rank(ann, tiers="0>1>2>3")
    lease = claim_slot(ann)
    assert lease is not None
    Slot.objects.filter(token=lease.token).update(state=Slot.State.FREE, annotator=None, token=None, deadline=None)
    rank(make_member(project), tiers="0>1>2>3")
    assert {verdict.passed for verdict in verdicts_after(ann, rankings=[ranking]).values()} == {None}


def test_a_skipped_slate_holds_nothing_back():
    project = make_project()
    first = make_slate(project)
    again(first)
    make_verdicts(first, passed="+-?-")
    ann = make_member(project)
    ranking = rank(ann, tiers="0>1>2>3")
    lease = claim_slot(ann)
    assert lease is not None
    skip_slate(ann, token=lease.token, reason="")
    assert [verdict.passed for verdict in verdicts_after(ann, rankings=[ranking]).values()] == [True, False, False]


def test_a_slate_that_others_have_filled_holds_nothing_back():
    project = make_project(overlap=1)
    first = make_slate(project)
    again(first)
    make_verdicts(first, passed="+-?-")
    ann = make_member(project)
    ranking = rank(ann, tiers="0>1>2>3")
    rank(make_member(project), tiers="0>1>2>3")
    assert [verdict.passed for verdict in verdicts_after(ann, rankings=[ranking]).values()] == [True, False, False]


def test_a_reason_that_quotes_where_a_response_is_from_is_masked():
    project = make_project()
    Project.objects.filter(pk=project.pk).update(mask_patterns=["I am Qwen"])
    project.refresh_from_db()
    make_verdicts(make_slate(project), passed="-???", reason="returned 'I am Qwen', expected 6")
    ann = make_member(project)
    (shown,) = verdicts_after(ann, rankings=[rank(ann, tiers="0>1>2>3")]).values()
    assert shown.reason == "returned '⟦masked 1⟧', expected 6"


def test_verdicts_on_many_rankings_cost_two_queries():
    project = make_project()
    ann = make_member(project)
    for _number in range(5):
        make_verdicts(make_slate(project), passed="+-+-")
    rankings = [rank(ann, tiers="0>1>2>3") for _number in range(5)]
    with CaptureQueriesContext(connection) as queries:
        assert len(verdicts_after(ann, rankings=rankings)) == 20
    assert len(queries) == 2


def test_a_response_has_one_verdict_with_a_reason_and_a_score_from_0_to_1():
    project = make_project()
    (verdict,) = make_verdicts(make_slate(project), passed="+???")
    other = make_slate(project).responses.first()
    wrong = [{"response_id": verdict.response_id}, {"score": 1.5}, {"reason": ""}]
    for change in wrong:
        fields = {"response_id": other.pk, "run_id": verdict.run_id, "kind": "math", "verifier_hash": "0" * 64}
        fields |= {"passed": True, "score": 1.0, "reason": "found 6", "seconds": 0.1, **change}
        with pytest.raises(IntegrityError), transaction.atomic():
            Verdict.objects.create(**fields)


@pytest.mark.parametrize(
    ("verdicts", "tiers", "pair", "pairs"),
    [
        ("-+??", "0>1>2>3", (0, 1), 1),  # the one that failed stands directly above
        ("?+?-", "3>2>1>0", (3, 1), 1),
        ("--++", "2>0>1>3", (0, 3), 2),  # the best passed; below it 0 and 1 are above 3
        ("--++", "0=1>2=3", (0, 2), 4),
        ("-+++", "1>2>0>3", (0, 3), 1),
    ],
)
def test_a_ranking_that_puts_a_failed_response_above_one_that_passed_is_a_conflict(verdicts, tiers, pair, pairs):
    project = make_project()
    slate = make_slate(project)
    make_verdicts(slate, passed=verdicts)
    ranking = rank(make_member(project), tiers=tiers)
    (found,) = read_conflicts(list(find_conflicts(project)))
    assert found.ranking == ranking
    assert (place_of(slate, found.failed.response_id), place_of(slate, found.passed.response_id)) == pair
    assert found.pairs == pairs


@pytest.mark.parametrize(
    ("verdicts", "tiers"),
    [
        ("+-??", "0>1>2>3"),  # as the verifier says
        ("-+??", "0=1>2>3"),  # a tie prefers neither
        ("----", "0>1>2>3"),
        ("++++", "0>1>2>3"),
        ("????", "0>1>2>3"),
        ("-?-?", "0>1>2>3"),  # what has no verdict cannot be in conflict
    ],
)
def test_whoever_agrees_with_the_verifier_or_ties_is_in_no_conflict(verdicts, tiers):
    project = make_project()
    make_verdicts(make_slate(project), passed=verdicts)
    rank(make_member(project), tiers=tiers)
    assert list(find_conflicts(project)) == []


def test_the_database_and_python_agree_on_every_conflict_of_three():
    """All 13 orders with ties of three responses, each under all 27 outcomes: the database finds what pairs say."""
    project = make_project(overlap=13, slate_size=3)
    orders = ["0>1>2", "0>2>1", "1>0>2", "1>2>0", "2>0>1", "2>1>0"]
    orders += ["0=1>2", "0=2>1", "1=2>0", "0>1=2", "1>0=2", "2>0=1", "0=1=2"]
    outcomes = ["".join(signs) for signs in itertools.product("+-?", repeat=3)]
    slate = make_slate(project, count=3)
    rankings = [rank(make_member(project), tiers=order) for order in orders]
    for outcome in outcomes:
        Verdict.objects.all().delete()
        passed = {v.response_id: v.passed for v in make_verdicts(slate, passed=outcome)}

        def conflicts(tiers: list[list[int]], passed: dict[int, bool] = passed) -> list[int]:
            pairs = derive_comparisons(tiers).strict
            return [better for better, worse in pairs if passed.get(better) is False and passed.get(worse)]

        expected = {ranking for ranking in rankings if conflicts(ranking.tiers)}
        assert set(find_conflicts(project)) == expected
        best = {ranking for ranking in rankings if set(conflicts(ranking.tiers)) & set(ranking.tiers[0])}
        assert set(find_conflicts(project, best=True)) == best


def test_only_the_current_version_of_a_ranking_counts():
    project = make_project()
    slate = make_slate(project)
    make_verdicts(slate, passed="-+??")
    ann = make_member(project)
    ranking = rank(ann, tiers="0>1>2>3")
    assert find_conflicts(project).get() == ranking
    better = Judgement(tiers=positions(slate, ranking.presented_order, "1>0>2>3"))
    amend_ranking(ann, ranking=ranking, judgement=better)
    assert not find_conflicts(project).exists()


def test_conflicts_are_narrowed_by_verifier_annotator_first_tier_and_words():
    project = make_project()
    ann, ben = make_member(project), make_member(project)
    top, low = make_slate(project), make_slate(project)
    make_verdicts(top, passed="-+??")
    first = rank(ann, tiers="0>1>2>3")
    make_verdicts(low, passed="-++?")
    second = rank(ben, tiers="1>0>2>3")
    Prompt.objects.filter(pk=low.prompt_id).update(verifier={"kind": "logic", "answer": "Yes"})
    assert list(find_conflicts(project)) == [second, first]
    assert list(find_conflicts(project, best=True)) == [first]
    assert list(find_conflicts(project, kind="logic")) == [second]
    assert list(find_conflicts(project, annotator=ann)) == [first]
    assert list(find_conflicts(project, text=top.prompt.messages[0]["content"])) == [first]
    assert list(find_conflicts(project, text="nothing of that kind")) == []


def test_conflicts_and_kinds_of_another_project_are_its_own():
    mine, other = make_project(), make_project()
    for project in (mine, other):
        make_verdicts(make_slate(project), passed="-+??")
    rank(make_member(other), tiers="0>1>2>3")
    assert (find_conflicts(mine).count(), find_conflicts(other).count()) == (0, 1)
    assert verified_kinds(mine) == ["math"]
    assert verified_kinds(make_project()) == []


@pytest.mark.parametrize(
    ("task", "size", "tiers"), [("best", 4, "0>1=2=3"), ("best-worst", 4, "0>2=3>1"), ("pairwise", 2, "0>1")]
)
def test_other_tasks_that_order_responses_have_conflicts_too(task, size, tiers):
    """The best one failed while another passed; of two, one that is much better."""
    project = make_project(kind=task, slate_size=size)
    slate = make_slate(project, count=size)
    make_verdicts(slate, passed="-+??"[:size])
    annotator = make_member(project)
    lease = claim_slot(annotator)
    assert lease is not None
    placed = positions(slate, lease.presented_order, tiers)
    said = Judgement(strength=-3 if placed[0] == [0] else 3) if task == "pairwise" else Judgement(tiers=placed)
    ranking = submit_ranking(annotator, token=lease.token, judgement=said).ranking
    assert find_conflicts(project, best=True).get() == ranking
    assert place_of(slate, read_conflicts([ranking])[0].failed.response_id) == 0


def test_ratings_are_no_order_and_conflict_with_nothing():
    project = make_project(kind="rating", scales=(Scale("Help", {0: "", 1: ""}),))
    make_verdicts(make_slate(project), passed="-+-+")
    annotator = make_member(project)
    lease = claim_slot(annotator)
    assert lease is not None
    rated = Judgement(ratings={"Help": {place: place % 2 for place in range(4)}})
    submit_ranking(annotator, token=lease.token, judgement=rated)
    assert not find_conflicts(project).exists()
