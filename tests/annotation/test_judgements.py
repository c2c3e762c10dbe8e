"""Stored judgements as arrays: what stands in the database, no more and no less, however it is cut into chunks."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from uuid import uuid4

import numpy as np
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotation import judgements as module
from annotation.domain.assigning import claim_slot
from annotation.domain.judgement import Judgement
from annotation.domain.ranking import amend_ranking, submit_ranking
from annotation.domain.simulating import simulate_annotators
from annotation.judgements import KINDS, Judgements, JudgementStream, compare, current_rankings, join, read_ratings
from annotation.models import Membership, Ranking, Response, Slot
from annotation.statistics.comparisons import TASKS, derive_comparisons
from tests.annotation.factories import make_member, make_project, make_slate

pytestmark = pytest.mark.django_db


def rank(annotator, tiers, **said):
    return submit_ranking(
        annotator, token=claim_slot(annotator).token, judgement=Judgement(tiers=tiers, **said)
    ).ranking


def store(slate, annotator, **said):
    """A ranking as imports and older versions may have left it: straight into the table."""
    slot = Slot.objects.create(
        slate=slate, number=100 + Slot.objects.count(), state=Slot.State.DONE, annotator=annotator, is_extra=True
    )
    values = {"slate": slate, "slot": slot, "annotator": annotator, "token": uuid4(), "tiers": []}
    return Ranking.objects.create(**values | said)


def responses_of(slate):
    return list(slate.places.order_by("position").values_list("response_id", flat=True))


def read(project, **options):
    return JudgementStream(project, **options).read_all()


def rows_of(judgements):
    """Every judgement as a dict of plain values, lists without their padding."""
    widths = (judgements.responses >= 0).sum(axis=1).tolist()
    return [
        {
            field.name: (value[row][: widths[row]] if value.ndim == 2 else value[row]).tolist()
            for field in fields(Judgements)
            for value in [getattr(judgements, field.name)]
        }
        for row in range(len(judgements))
    ]


def test_a_ranking_comes_out_as_it_was_given():
    project = make_project()
    slate = make_slate(project)
    annotator = make_member(project)
    ranking = rank(annotator, [[2], [0, 3], [1]])
    stream = JudgementStream(project)
    (row,) = rows_of(stream.read_all())
    ids = sorted(responses_of(slate))
    tier_of = {pk: number for number, tier in enumerate(ranking.tiers, start=1) for pk in tier}
    assert row == {
        "ranking": ranking.pk,
        "slate": slate.pk,
        "prompt": slate.prompt_id,
        "criterion": 0,
        "annotator": annotator.pk,
        "kind": KINDS.index("person"),
        "guidelines": 1,
        "task": TASKS.index("ranking"),
        "created": ranking.created_at.replace(tzinfo=None, microsecond=0),
        "all_bad": False,
        "strength": -1,
        "responses": ids,
        "items": [0, 1, 2, 3],
        "tiers": [tier_of[pk] for pk in ids],
        "positions": [ranking.presented_order.index(pk) for pk in ids],
    }
    assert stream.items == ("secret-source-0", "secret-source-1", "secret-source-2", "secret-source-3")
    assert stream.criteria == ("",)


def test_only_the_current_version_counts_and_only_of_this_project():
    project, other = make_project(), make_project()
    for _slate in range(2):
        make_slate(project)
        make_slate(other)
    annotator, stranger = make_member(project), make_member(other)
    first = rank(annotator, [[0], [1], [2], [3]])
    second = rank(annotator, [[0], [1], [2], [3]])
    rank(stranger, [[0], [1], [2], [3]])
    amended = amend_ranking(annotator, ranking=first, judgement=Judgement(tiers=[[3], [2], [1], [0]])).ranking
    assert sorted(read(project).ranking.tolist()) == [second.pk, amended.pk]


def test_slates_far_apart_are_found_as_well(monkeypatch):
    """More than half of the slates between the first and the last belong to others."""
    project, other = make_project(), make_project()
    slates = []
    for _slate in range(3):
        slates.append(make_slate(project))
        for _other in range(5):
            make_slate(other)
    annotator, stranger = make_member(project), make_member(other)
    for _slate in range(3):
        rank(annotator, [[0], [1], [2], [3]])
        rank(stranger, [[0], [1], [2], [3]])
    assert read(project).slate.tolist() == [slate.pk for slate in slates]
    monkeypatch.setattr(module, "SLATES", 2)
    assert read(project).slate.tolist() == [slate.pk for slate in slates]


def test_what_imports_leave_out_is_not_invented():
    """No presented order, no guidelines, a response not placed, ratings without order, a criterion, three responses."""
    project = make_project(overlap=1)
    small, large = make_slate(project, count=3), make_slate(project, count=5)
    type(small).objects.filter(pk=small.pk).update(criterion="tone")
    imported = Membership.objects.create(project=project, name="w1", role="annotator", kind="imported")
    a, b, c = responses_of(small)
    store(small, imported, tiers=[[b], [a]])
    store(large, imported, task="rating", ratings={"help": {str(a): 3}}, presented_order=responses_of(large)[::-1])
    stream = JudgementStream(project)
    first, second = rows_of(stream.read_all())
    assert (first["responses"], first["tiers"], first["positions"]) == ([a, b], [2, 1], [-1, -1])
    assert (first["guidelines"], first["kind"]) == (0, KINDS.index("imported"))
    assert (second["tiers"], second["positions"]) == ([0] * 5, [4, 3, 2, 1, 0])
    assert [stream.criteria[row["criterion"]] for row in (first, second)] == ["tone", ""]
    assert c not in first["responses"]


def test_strength_is_a_degree_and_all_bad_may_have_no_order():
    project = make_project(slate_size=2, kind="pairwise", overlap=2)
    make_slate(project, count=2)
    rank(make_member(project), [], strength=-3)
    rank(make_member(project), [], all_bad=True)
    strong, bad = rows_of(read(project))
    assert (strong["strength"], sorted(strong["tiers"])) == (3, [1, 2])
    assert (bad["strength"], bad["tiers"], bad["all_bad"]) == (-1, [0, 0], True)


def test_chunks_and_their_size_change_nothing(monkeypatch):
    project = make_project(overlap=3)
    for count in (4, 2, 5, 3, 4, 2):
        make_slate(project, count=count)
    simulate_annotators(project, names=["s1", "s2", "s3"], seed=1)
    whole = read(project)
    assert len(whole) == 18
    monkeypatch.setattr(module, "SLATES", 2)
    for size in (1, 4, 100):
        chunks = list(JudgementStream(project, chunk_size=size))
        assert max(map(len, chunks)) <= size
        assert rows_of(join(chunks)) == rows_of(whole)


def test_comparisons_are_those_of_the_rule_for_one_ranking():
    project = make_project(overlap=2)
    for count in (4, 3, 2):
        make_slate(project, count=count)
    simulate_annotators(project, names=["s1", "s2"], seed=5)
    stream = JudgementStream(project)
    judgements = stream.read_all()
    found = compare(judgements)
    sources = dict(Response.objects.values_list("pk", "source"))
    for row, pk in enumerate(judgements.ranking.tolist()):
        ranking = Ranking.objects.get(pk=pk)
        derived = derive_comparisons(ranking.tiers, task=ranking.task)
        here = found.row == row
        pairs = list(
            zip(
                found.left_response[here].tolist(),
                found.right_response[here].tolist(),
                found.outcomes[here].tolist(),
                found.shown[here].tolist(),
                [stream.items[code] for code in found.left[here]],
                strict=True,
            )
        )
        assert {(a, b) if won == 1 else (b, a) for a, b, won, _shown, _item in pairs if won != 0.5} == set(
            derived.strict
        )
        assert {frozenset((a, b)) for a, b, won, _shown, _item in pairs if won == 0.5} == {
            frozenset(pair) for pair in derived.tied
        }
        order = ranking.presented_order
        assert [shown for *_pair, shown, _item in pairs] == [
            1 if order.index(a) < order.index(b) else -1 for a, b, *_rest in pairs
        ]
        assert [item for *_pair, item in pairs] == [sources[a] for a, *_rest in pairs]


def test_the_best_of_four_is_compared_with_the_rest_alone():
    project = make_project(kind="best")
    make_slate(project)
    rank(make_member(project), [[1], [0, 2, 3]])
    assert len(compare(read(project)).row) == 3


def test_the_newest_judged_slates_come_whole():
    project = make_project(overlap=2)
    slates = [make_slate(project) for _slate in range(4)]
    for _annotator in range(2):
        annotator = make_member(project)
        for _slate in range(3):
            rank(annotator, [[0], [1], [2], [3]])
    newest = read(project, newest_slates=2)
    assert newest.slate.tolist() == [slates[1].pk] * 2 + [slates[2].pk] * 2


def test_a_project_without_judgements_gives_none():
    project = make_project()
    make_slate(project)
    judgements = read(project)
    assert (len(judgements), len(compare(judgements).row)) == (0, 0)
    assert read_ratings(project) == {}


def test_narrowed_by_kind_of_annotator():
    project = make_project(overlap=2)
    make_slate(project)
    rank(make_member(project), [[0], [1], [2], [3]])
    simulate_annotators(project, names=["s1"], seed=1)
    people = current_rankings().filter(annotator__kind="person")
    assert read(project, rankings=people).kind.tolist() == [KINDS.index("person")]
    assert len(read(project)) == 2


def test_queries_do_not_grow_with_the_judgements():
    project = make_project(overlap=2)

    def count_queries() -> int:
        for _slate in range(3):
            make_slate(project)
        simulate_annotators(project, names=["s1", "s2"], seed=1)
        with CaptureQueriesContext(connection) as queries:
            compare(read(project))
        return len(queries)

    assert count_queries() == count_queries() == 6


def test_days_are_utc():
    project = make_project()
    make_slate(project)
    ranking = rank(make_member(project), [[0], [1], [2], [3]])
    assert read(project).created[0] == np.datetime64(ranking.created_at.astimezone(UTC).replace(tzinfo=None), "s")
    assert abs(read(project).created[0].item() - datetime.now(UTC).replace(tzinfo=None)).total_seconds() < 60


def test_ratings_by_scale():
    project = make_project()
    slate = make_slate(project, count=2)
    imported = Membership.objects.create(project=project, name="w1", role="annotator", kind="imported")
    a, b = responses_of(slate)
    store(slate, imported, ratings={"tone": {str(a): 4, str(b): None}, "help": {str(a): 1.5, str(b): 2}})
    found = read_ratings(project)
    assert list(found) == ["help", "tone"]
    assert found["help"].value.tolist() == [1.5, 2]
    assert (found["tone"].response.tolist(), found["tone"].annotator.tolist()) == ([a], [imported.pk])


@pytest.mark.parametrize("text", ['[["a"]]', "[[1.5]]", "[[-3]]", "{}"])
def test_a_list_of_something_else_is_refused(text):
    with pytest.raises(ValueError, match="something else than their ids"):
        module._read_ids([text])
