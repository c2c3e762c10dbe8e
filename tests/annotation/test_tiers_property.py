"""Whatever the order shown: what the annotator saw in which tier is what is stored, through amendments too.

Numbers of responses, presented orders, tiers with gaps and ties, and chains of amendments are drawn by Hypothesis and
go in as the browser's form sends them. A store that kept every ranking as 1, 2, 3 would fail at once.
"""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from annotation.domain.assigning import claim_slot
from annotation.domain.ranking import amend_ranking, judgement_of, submit_ranking
from annotation.domain.tasks import Task, task_of
from annotation.forms.ranking import RankingForm, entered_from, strengths_of
from annotation.models import Membership, Project, Ranking, Response
from tests.annotation.factories import make_member, make_project, make_slate

pytestmark = pytest.mark.django_db
RELAXED = settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@st.composite
def placements(draw: st.DrawFn, *, size: int) -> list[int]:
    """A tier number for each position: ties, gaps and any order."""
    return draw(st.lists(st.integers(1, size), min_size=size, max_size=size))


@st.composite
def sittings(draw: st.DrawFn) -> tuple[int, int, list[list[int]]]:
    """K, which of the slate's slots is taken (and so the presented order), and 1 to 4 versions of the ranking."""
    size = draw(st.integers(2, 9))
    versions = draw(st.lists(placements(size=size), min_size=1, max_size=4))
    return size, draw(st.integers(0, 3)), versions


def shown_texts(order: list[int]) -> list[str]:
    texts = dict(Response.objects.filter(pk__in=order).values_list("pk", "text"))
    return [texts[pk] for pk in order]


def filled(task: Task, *, texts: list[str], fields: dict[str, Any]) -> RankingForm:
    form = RankingForm(fields, task=task, sources=texts)
    assert form.is_valid(), form.errors
    return form


def tiers_seen(texts: list[str], *, placed: list[int]) -> list[set[str]]:
    """What the annotator saw: the texts of each tier, best first."""
    return [
        {text for text, tier in zip(texts, placed, strict=True) if tier == number} for number in sorted(set(placed))
    ]


def tiers_stored(ranking: Ranking) -> list[set[str]]:
    texts = {response.pk: response.text for response in ranking.slate.responses.all()}
    return [{texts[pk] for pk in tier} for tier in ranking.tiers]


def annotator_at(project: Project, *, slot: int) -> Membership:
    """An annotator whose claim will be the slot of that number."""
    for _earlier in range(slot):
        claim_slot(make_member(project))
    return make_member(project)


@given(sitting=sittings())
@RELAXED
def test_the_tiers_seen_are_the_tiers_stored(sitting: tuple[int, int, list[list[int]]]) -> None:
    size, slot, versions = sitting
    project = make_project(overlap=4, slate_size=size)
    make_slate(project, count=size)
    annotator, task = annotator_at(project, slot=slot), task_of(project)
    lease = claim_slot(annotator)
    assert lease is not None
    texts = shown_texts(lease.presented_order)
    ranking: Ranking | None = None
    for placed in versions:
        fields = {f"tier_{position}": str(tier) for position, tier in enumerate(placed)}
        judgement = filled(task, texts=texts, fields=fields).judgement()
        if ranking is None:
            ranking = submit_ranking(annotator, token=lease.token, judgement=judgement).ranking
        else:
            ranking = amend_ranking(annotator, ranking=ranking, judgement=judgement).ranking
        ranking.refresh_from_db()
        assert tiers_stored(ranking) == tiers_seen(texts, placed=placed)
        assert ranking.presented_order == lease.presented_order
        again = entered_from(judgement_of(ranking), task=task)
        assert tiers_seen(texts, placed=[again[f"tier_{i}"] for i in range(size)]) == tiers_stored(ranking)
    kept = Ranking.objects.filter(slot=lease.slot).order_by("pk")
    assert [tiers_stored(version) for version in kept] == [tiers_seen(texts, placed=placed) for placed in versions]


@given(kind=st.sampled_from(["pairwise", "pairwise-forced"]), slot=st.integers(0, 1), data=st.data())
@RELAXED
def test_the_side_seen_as_better_is_the_response_stored_as_better(kind: str, slot: int, data: st.DataObject) -> None:
    """The strength is stored on the slate's own order: its sign turns with the screen, its size never changes."""
    project = make_project(overlap=4, slate_size=2)
    project.task = kind
    project.save()
    slate = make_slate(project, count=2)
    annotator, task = annotator_at(project, slot=slot), task_of(project)
    lease = claim_slot(annotator)
    assert lease is not None
    value = data.draw(st.sampled_from(strengths_of(task)))
    texts = shown_texts(lease.presented_order)
    form = filled(task, texts=texts, fields={"strength": value})
    ranking = submit_ranking(annotator, token=lease.token, judgement=form.judgement()).ranking
    size = int(value[1]) if kind == "pairwise-forced" else abs(int(value))
    left_is_better = value.startswith(("a", "-"))
    tied = value == "0"
    expected = [set(texts)] if tied else [{texts[0]}, {texts[1]}] if left_is_better else [{texts[1]}, {texts[0]}]
    assert tiers_stored(ranking) == expected
    first = slate.places.get(position=0).response.text
    assert ranking.strength is not None
    assert abs(ranking.strength) == size
    if size:
        assert (ranking.strength < 0) == (expected[0] == {first})
    assert entered_from(judgement_of(ranking), task=task)["strength"] == value


@given(size=st.integers(3, 9), slot=st.integers(0, 3), data=st.data())
@RELAXED
def test_the_best_and_worst_seen_are_the_best_and_worst_stored(size: int, slot: int, data: st.DataObject) -> None:
    project = make_project(overlap=4, slate_size=size)
    project.task = "best-worst"
    project.save()
    make_slate(project, count=size)
    annotator, task = annotator_at(project, slot=slot), task_of(project)
    lease = claim_slot(annotator)
    assert lease is not None
    best, worst = data.draw(st.permutations(range(size)))[:2]
    texts = shown_texts(lease.presented_order)
    form = filled(task, texts=texts, fields={"best": str(best), "worst": str(worst)})
    ranking = submit_ranking(annotator, token=lease.token, judgement=form.judgement()).ranking
    assert tiers_stored(ranking) == [{texts[best]}, set(texts) - {texts[best], texts[worst]}, {texts[worst]}]
    again = entered_from(judgement_of(ranking), task=task)
    assert (again["best"], again["worst"]) == (best, worst)
