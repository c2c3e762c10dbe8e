"""Drafts: the newest is kept, nobody else's is touched, and none outlives its submission."""

from __future__ import annotations

from uuid import uuid4

import pytest

from annotation.domain.assigning import claim_slot
from annotation.domain.drafts import DraftRefused, find_draft, save_draft
from annotation.domain.judgement import Judgement
from annotation.domain.ranking import amend_ranking, amendment_token, submit_ranking
from annotation.models import Draft
from tests.annotation.factories import make_member, make_project, make_slate

pytestmark = pytest.mark.django_db


def test_a_newer_revision_replaces_an_older_one_and_never_the_other_way_round():
    annotator, token = make_member(make_project()), uuid4()
    assert save_draft(annotator, token=token, fields={"tier_0": "1"}, revision=5)
    assert save_draft(annotator, token=token, fields={"tier_0": "2"}, revision=7)
    assert not save_draft(annotator, token=token, fields={"tier_0": "3"}, revision=6)
    assert not save_draft(annotator, token=token, fields={"tier_0": "3"}, revision=7)
    draft = find_draft(annotator, token=token)
    assert (draft.fields, draft.revision) == ({"tier_0": "2"}, 7)


def test_a_draft_is_its_annotators_own_even_under_the_same_token():
    project, token = make_project(), uuid4()
    first, second = make_member(project), make_member(project)
    save_draft(first, token=token, fields={"rationale": "mine"}, revision=1)
    assert find_draft(second, token=token) is None
    save_draft(second, token=token, fields={"rationale": "theirs"}, revision=2)
    assert find_draft(first, token=token).fields == {"rationale": "mine"}


def test_submitting_ends_the_draft_and_a_late_autosave_does_not_bring_it_back():
    project = make_project()
    make_slate(project)
    annotator = make_member(project)
    token = claim_slot(annotator).token
    save_draft(annotator, token=token, fields={"tier_0": "1"}, revision=1)
    ranking = submit_ranking(annotator, token=token, judgement=Judgement(tiers=[[0, 1, 2, 3]])).ranking
    assert not save_draft(annotator, token=token, fields={"tier_0": "1"}, revision=2)
    again = amendment_token(ranking)
    assert save_draft(annotator, token=again, fields={"tier_0": "2"}, revision=3)
    amend_ranking(annotator, ranking=ranking, judgement=Judgement(tiers=[[1], [0, 2, 3]]))
    assert not Draft.objects.exists()


@pytest.mark.parametrize(
    "fields",
    [
        {"rationale": "a\x00b"},
        {"rationale": "a\ud800b"},
        {"na\x00me": "x"},
        {"flag_0": ["ok", "a\x00b"]},
        {"rationale": "x" * 3_000_001},
        {f"f{number}": "" for number in range(1_001)},
    ],
    ids=["NUL", "surrogate", "NUL in a name", "NUL in a list", "too large", "too many"],
)
def test_what_cannot_be_stored_is_refused(fields):
    annotator = make_member(make_project())
    with pytest.raises(DraftRefused):
        save_draft(annotator, token=uuid4(), fields=fields, revision=1)
    assert not Draft.objects.exists()
