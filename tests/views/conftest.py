"""A project with everything in it, one member of each role, and a client for each."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
from django.contrib.auth.models import User
from django.test import Client

from annotation.domain.assigning import claim_slot
from annotation.domain.judgement import Judgement
from annotation.domain.ranking import submit_ranking
from annotation.domain.runs import queue_run
from annotation.domain.snapshots import freeze_snapshot, split_of
from annotation.models import Membership, Model, Project, Ranking, Run, Snapshot
from tests.annotation.factories import make_member, make_project, make_slate, make_user

ROLES = ("annotator", "reviewer", "admin", "engineer")
HALVES = (0.5, 0.0, 0.5)


@dataclass
class World:
    """What the tests of the views look at."""

    project: Project
    members: dict[str, Membership]
    ranking: Ranking
    snapshot: Snapshot
    run: Run
    model: Model

    def user(self, role: str) -> User:
        """The person behind a role."""
        user = self.members[role].user
        assert user is not None
        return user

    def client(self, who: str) -> Client:
        """A client signed in as a member of that role, as a "stranger", or as nobody ("")."""
        client = Client()
        if who == "stranger":
            client.force_login(make_user())
        elif who:
            client.force_login(self.user(who))
        return client


def freeze_trainable(project: Project) -> Snapshot:
    """Preference pairs with rows to train on and rows to test on, under the first seed that parts the prompts so."""
    judged = project.prompts.filter(slates__rankings__isnull=False).values_list("content_hash", flat=True)
    seed = next(
        seed
        for seed in itertools.count()
        if {split_of(h, seed=seed, shares=HALVES) for h in judged} >= {"train", "test"}
    )
    return freeze_snapshot(project, format="trl-preference", split_seed=seed, shares=HALVES)


def rank_next(annotator: Membership) -> Ranking:
    """The annotator's next slate, ranked A, then B and C together, then D, in 41 s."""
    lease = claim_slot(annotator)
    assert lease is not None
    judgement = Judgement(tiers=[[0], [1, 2], [3]])
    return submit_ranking(annotator, token=lease.token, judgement=judgement, active_ms=41_000).ranking


@pytest.fixture
def world(db: None) -> World:
    """Three slates, one ranked by the annotator and two by the admin; a snapshot, a queued run on it, and a policy."""
    project = make_project(slug="circle", overlap=3)
    members = {role: make_member(project, role=role) for role in ROLES}
    for _number in range(3):
        make_slate(project)
    ranking = rank_next(members["annotator"])
    for _slate in range(2):
        rank_next(members["admin"])
    snapshot = freeze_trainable(project)
    return World(
        project=project,
        members=members,
        ranking=ranking,
        snapshot=snapshot,
        run=queue_run(project, method="reward", settings={"max_steps": 2}, snapshot=snapshot),
        model=Model.objects.create(project=project, name="base", kind="policy", location="smollm2-135m-instruct"),
    )
