"""The sample projects: whole, made once, and good for the walk that the README describes."""

from __future__ import annotations

from collections import Counter

import pytest

from annotation.domain import runs
from annotation.domain.samples import create_assistant_project, create_simulated_project
from annotation.domain.simulating import simulate_annotators
from annotation.domain.slating import SlatePlan, make_slates
from annotation.domain.snapshots import freeze_snapshot
from annotation.management.commands.demo import FIRST_BATCH
from tests.annotation.factories import make_responses

pytestmark = pytest.mark.django_db


def test_the_assistant_project_has_prompts_of_four_kinds_and_guidelines_and_is_made_once():
    project = create_assistant_project()
    assert create_assistant_project() == project
    kinds = Counter(prompt.metadata["category"] for prompt in project.prompts.all())
    assert kinds == {"helpfulness": 14, "reasoning": 14, "rewriting": 14, "safety": 14}
    assert all(prompt.reference for prompt in project.prompts.all())
    assert project.guidelines.get().version == 1


def test_the_first_batch_once_ranked_makes_a_snapshot_that_can_be_trained_on():
    """Default format, shares and seed: what a person does who follows the README."""
    project = create_assistant_project()
    prompts = project.prompts.order_by("pk")[: FIRST_BATCH["prompt_count"]]
    plans = [
        SlatePlan(prompt=prompt, external_id=prompt.external_id, responses=make_responses(prompt)) for prompt in prompts
    ]
    make_slates(project, plans=plans)
    simulate_annotators(project, names=["simulated-1"], seed=0, noise=0.5)
    snapshot = freeze_snapshot(project, format="trl-preference")
    assert runs.queue_run(project, method="reward", settings={}, snapshot=snapshot).state == "queued"


def test_the_simulated_project_is_labelled_complete_and_made_once():
    project = create_simulated_project()
    assert create_simulated_project() == project
    rankings = [ranking for slate in project.slates.all() for ranking in slate.rankings.all()]
    assert len(rankings) == 160 * 3
    assert set(project.memberships.values_list("kind", flat=True)) == {"simulated"}
    assert freeze_snapshot(project, format="trl-preference").manifest["simulated"] is True
