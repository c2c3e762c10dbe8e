"""Runs whose policy learns from its own responses: the form, the report while they train, runs side by side."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from django.urls import reverse

from annotation.domain.snapshots import freeze_snapshot
from annotation.models import Model, Run, Snapshot
from tests.views.conftest import HALVES, World

METHODS = ("ppo", "rloo", "grpo", "online-dpo")


def url(world: World, route: str, **kwargs: object) -> str:
    return reverse(route, kwargs={"slug": world.project.slug} | kwargs)


def freeze_prompts(world: World) -> Snapshot:
    """Prompts in either split that a training needs."""
    for seed in itertools.count():
        snapshot = freeze_snapshot(world.project, format="prompts", split_seed=seed, shares=HALVES)
        rows = snapshot.manifest["counts"]["rows"]
        if rows["train"] and rows["test"]:
            return snapshot
    raise AssertionError


@pytest.fixture
def judges(world: World) -> list[Model]:
    return [
        Model.objects.create(project=world.project, name=name, kind="reward", location=name) for name in ("rm", "gold")
    ]


@pytest.fixture
def asked(world: World, judges: list[Model]) -> dict[str, Any]:
    """What a form sends that was filled in with what is needed alone."""
    snapshot = freeze_prompts(world)
    return {"method": "ppo", "snapshot": snapshot.number, "base_model": world.model.pk, "reward_model": judges[0].pk}


@pytest.mark.parametrize("method", METHODS)
def test_a_run_is_started_from_its_form_with_the_defaults_of_its_method(
    world: World, judges: list[Model], asked: dict[str, Any], method: str
) -> None:
    client = world.client("engineer")
    body = client.get(url(world, "run_new"), {"method": method}).content.decode()
    for field in ("snapshot", "base_model", "reward_model", "gold_model", "rewards", "response_tokens", "temperature"):
        assert f'name="{field}"' in body
    assert ('name="value_clip"' in body) == (method == "ppo")
    assert ('name="group_size"' in body) == (method != "ppo")
    answer = client.post(url(world, "run_new"), asked | {"method": method, "gold_model": judges[1].pk})
    run = world.project.runs.get(method=method)
    assert answer.headers["Location"] == url(world, "run_detail", number=run.number)
    assert (run.base_model, run.reward_model, run.gold_model) == (world.model, *judges)
    assert run.spec == {}, "what was left empty keeps the default"


def test_what_the_form_shows_first_is_what_it_sends_unless_changed(world: World, asked: dict[str, Any]) -> None:
    """Everything as the page shows it, one setting changed: the library's own defaults, as values."""
    client = world.client("engineer")
    form = client.get(url(world, "run_new"), {"method": "ppo"}).context["form"]
    shown = {field.name: field.initial for field in form.visible_fields() if field.initial is not None}
    client.post(url(world, "run_new"), shown | asked | {"whiten_rewards": "true", "kl_estimator": "", "target_kl": "6"})
    spec = Run.objects.get(method="ppo").spec
    found = {name: spec[name] for name in ("batch_size", "whiten_advantages", "whiten_rewards", "lam", "target_kl")}
    assert found == {
        "batch_size": 32, "whiten_advantages": True, "whiten_rewards": True, "lam": 0.95, "target_kl": 6.0,
    }  # fmt: skip
    assert "kl_estimator" not in spec


def test_settings_that_few_need_are_folded_until_one_is_wrong(world: World, asked: dict[str, Any]) -> None:
    client = world.client("engineer")
    page = client.get(url(world, "run_new"), {"method": "grpo"})
    folded = [field.name for field in page.context["form"].folded_fields()]
    assert (folded[0], "scale_advantages" in folded, "kl_coefficient" in folded) == ("rewards", True, False)
    assert '<details class="fold wide">' in page.content.decode()
    answer = client.post(url(world, "run_new"), asked | {"method": "grpo", "clip": "2"})
    assert answer.status_code == 422
    assert '<details class="fold wide" open>' in answer.content.decode()


REWARDS = """
- {kind: model, model: rm}
- kind: length
  free: 96
  most: 128
"""


def test_several_rewards_are_written_in_yaml(world: World, asked: dict[str, Any]) -> None:
    client = world.client("engineer")
    client.post(url(world, "run_new"), asked | {"reward_model": "", "rewards": REWARDS})
    run = Run.objects.get(method="ppo")
    assert run.reward_model is None
    assert run.spec["rewards"] == [{"kind": "model", "model": "rm"}, {"kind": "length", "free": 96, "most": 128}]


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"reward_model": ""}, "reward_model", "required by method ppo"),
        ({"reward_model": "999"}, "reward_model", "Select a valid choice"),
        ({"snapshot": "1"}, "snapshot", "Select a valid choice"),  # preference pairs
        ({"batch_size": "3", "minibatches": "4"}, "minibatches", "4 parts of 3 prompts"),
        ({"response_tokens": "2000"}, "response_tokens", "leave no room for a prompt"),
        ({"kl_in": "loss", "kl_estimator": "k1"}, "kl_estimator", "has a gradient of mean 0"),
        ({"kl_coefficient": "0", "target_kl": "6"}, "target_kl", "begin above it"),
        ({"rewards": REWARDS}, "rewards", "they stand in the place of reward_model"),
        ({"rewards": "- {kind: length"}, "rewards", "Line 1 is not YAML"),
        ({"rewards": "kind: length"}, "rewards", "Write a list"),
        ({"rewards": "- &a {kind: verifier}\n- *a"}, "rewards", "references"),
        ({"rewards": "[" * 3000}, "rewards", "not YAML"),
        ({"rewards": "- " + "9" * 3990}, "rewards", "Write a list"),
        ({"rewards": "- {kind: length, free: 9, most: 3}", "reward_model": ""}, "rewards", "set it above free"),
        ({"rewards": "- {kind: model, model: 2020-01-01}", "reward_model": ""}, "rewards", "expected str"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_refused_beside_its_field(
    world: World, asked: dict[str, Any], changes: dict[str, str], field: str, said: str
) -> None:
    answer = world.client("engineer").post(url(world, "run_new"), asked | changes)
    assert answer.status_code == 422
    errors = answer.context["form"].errors
    assert list(errors) == [field]
    assert said in errors[field][0]
    assert not Run.objects.filter(method="ppo").exists()


def test_a_project_without_reward_model_or_prompts_says_what_is_missing(world: World) -> None:
    body = world.client("engineer").get(url(world, "run_new"), {"method": "ppo"}).content.decode()
    assert "The project has no reward model yet" in body
    assert "This needs a snapshot in the format “Prompts only”." in body
