"""Runs whose policy learns from its own responses: the form, the report while they train, runs side by side."""

from __future__ import annotations

import itertools
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from annotation.domain.snapshots import freeze_snapshot
from annotation.models import Model, Run, Snapshot
from annotation.templatetags.curves import Field, round_ticks, short
from annotation.training_report import frontier, panels, thin
from tests import online
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


# --- the report ---------------------------------------------------------------------------------------------------


@pytest.fixture
def run(world: World, judges: list[Model], asked: dict[str, Any]) -> Run:
    """A PPO run that trains: 12 steps of metrics, samples after 0 and 10."""
    world.client("engineer").post(url(world, "run_new"), asked | {"gold_model": judges[1].pk})
    run = Run.objects.get(method="ppo")
    later, status = timezone.now() + timedelta(minutes=5), {"step": 12, "total_steps": 40, "warnings": ["KL is far."]}
    Run.objects.filter(pk=run.pk).update(state="running", deadline=later, status=status)
    online.add_rows(run, range(1, 13))
    online.add_samples(run, 0, 10)
    run.refresh_from_db()
    return run


def test_a_run_that_trains_shows_curves_warnings_and_samples_and_asks_for_more(world: World, run: Run) -> None:
    """The last of 12 steps: score 1.2, KL 0.2 × 11 = 2.2, length 92; the critic explains 1 − 1/12 = 0.917."""
    body = world.client("engineer").get(url(world, "run_detail", number=run.number)).content.decode()
    for said in ("1.2 · step 12", "2.2 · step 12", "92 · step 12", "0.917 · step 12", "KL is far.", "after step 10"):
        assert said in body
    assert f"{url(world, 'run_live', number=run.number)}?seen=12-1" in body
    assert f"{url(world, 'run_samples', number=run.number)}?seen=4" in body
    assert "Why is the sky &lt;b&gt;blue&lt;/b&gt;?" in body
    assert "Answer 0 &lt;i&gt;at&lt;/i&gt; 10." in body
    assert "uPlot" not in body


def test_the_page_is_answered_with_what_is_new_or_with_nothing(world: World, run: Run) -> None:
    client = world.client("engineer")
    for route, seen in (("run_live", "12-1"), ("run_samples", "4")):
        assert client.get(url(world, route, number=run.number), {"seen": seen}).status_code == 204
    online.add_rows(run, range(13, 14))
    online.add_samples(run, 13)
    live = client.get(url(world, "run_live", number=run.number), {"seen": "12-1"}).content.decode()
    samples = client.get(url(world, "run_samples", number=run.number), {"seen": "4"}).content.decode()
    assert ("1.3 · step 13" in live, "after step 13" in samples) == (True, True)
    assert ("<html" in live, "<html" in samples) == (False, False)
    online.finish(run)
    ended = client.get(url(world, "run_live", number=run.number), {"seen": "12-1"})
    assert ended.status_code == 200
    assert "hx-get" not in ended.content.decode()


def test_only_runs_that_learn_from_their_own_responses_have_a_live_report(world: World) -> None:
    for route in ("run_live", "run_samples"):
        assert world.client("engineer").get(url(world, route, number=1)).status_code == 404


def test_a_run_before_its_first_step_says_what_will_stand_there(world: World, asked: dict[str, Any]) -> None:
    client = world.client("engineer")
    client.post(url(world, "run_new"), asked)
    body = client.get(url(world, "run_detail", number=2)).content.decode()
    assert "The first numbers come after the first step" in body
    assert "The held-out score, beside that of the untrained policy, will stand here" in body


def test_a_finished_run_shows_its_score_beside_the_untrained_policy_and_the_gold_curve(world: World, run: Run) -> None:
    """Over √KL, 0, 2 and 2.5, the score gained 0, 0.75 and 1.5, and the gold score 0, 0.6 and 0.5."""
    online.finish(run)
    client = world.client("engineer")
    page = client.get(url(world, "run_detail", number=run.number))
    body = page.content.decode()
    for said in (
        ">1.750<",
        "this policy: 1.750, 1.500 – 2.000. untrained policy: 0.250, 0.000 – 0.500.",
        "prompt by prompt: 1.500 (1.250 – 1.750); higher on 81.2 % of the prompts",
        "KL 6.25 nats a response (5.50 – 7.00)",
        "91.5 tokens an answer (before: 80.5); 75.0 % ended by themselves",
        "Gold score 0.500, gain 0.500 (0.400 – 0.600)",
        "Responses became 1.4 times as long",
        "learned from simulated judgements",
        "train: too long 2",
        "untrained",
        "after step 40",
    ):
        assert said in body, said
    assert "hx-get" not in body
    curve = page.context["live"]["gold_curve"]
    assert [line.name for line in curve] == ["trained by", "gold"]
    assert [line.points for line in curve] == [
        [(0.0, 0.0), (2.0, 0.75), (2.5, 1.5)], [(0.0, 0.0), (2.0, 0.6), (2.5, 0.5)],
    ]  # fmt: skip
    assert "score 1.750" in client.get(url(world, "run_list")).content.decode()
    assert ("reward model", "rm") in page.context["provenance"]


def test_a_reward_model_leads_to_a_run_against_it_and_names_the_runs_it_judged(world: World, run: Run) -> None:
    client = world.client("engineer")
    for name in ("rm", "gold"):
        judge = Model.objects.get(name=name)
        body = client.get(url(world, "model_detail", pk=judge.pk)).content.decode()
        address = f"?method=ppo&amp;reward_model={judge.pk}"
        assert address in body
        assert f">run {run.number}</a>" in body
    form = client.get(url(world, "run_new"), {"method": "ppo", "reward_model": judge.pk}).context["form"]
    assert form["reward_model"].value() == str(judge.pk)


def test_a_snapshot_of_prompts_leads_to_a_run_on_it(world: World) -> None:
    snapshot = freeze_prompts(world)
    client = world.client("engineer")
    body = client.get(url(world, "snapshot_detail", number=snapshot.number)).content.decode()
    assert f"?method=ppo&amp;snapshot={snapshot.number}" in body
    pairs = client.get(url(world, "snapshot_detail", number=1)).content.decode()
    assert "?method=ppo" not in pairs


def test_samples_of_many_steps_are_thinned_and_keep_both_ends() -> None:
    """Of 31 steps every fifth: 30 / 6 = 5 apart."""
    assert thin(list(range(0, 310, 10))) == [0, 50, 100, 150, 200, 250, 300]
    assert thin([0, 10]) == [0, 10]


def test_a_line_of_reward_against_kl_is_of_means_where_steps_are_many() -> None:
    """40 steps in 20 pairs: of steps 1 and 2 the KL is (0 + 0.2) / 2 and the score (0.1 + 0.2) / 2."""
    points = frontier([online.row_of(step) for step in range(1, 41)])
    assert len(points) == 20
    assert points[0] == (pytest.approx(0.1), pytest.approx(0.15))
    assert frontier([online.row_of(2)]) == [(0.2, 0.2)]
    assert frontier([]) == []


def test_each_of_several_rewards_has_a_curve_and_what_was_not_measured_has_none() -> None:
    rows = [{"step": step, "score": 1.0, "reward/length": -0.5} for step in (1, 2)]
    assert [panel.title for panel in panels(rows)] == ["Score", "length"]


def test_plots_lie_where_their_numbers_say() -> None:
    """Ticks of 0 … 1 in three parts are 0.5 apart (1, 2 or 5 times a power of ten, at least 1/3). A panel of 360 × 150
    has its field from 48 to 346 and from 10 to 126, so the middle is at 197, 68."""
    assert round_ticks([0, 1], count=3) == [0, 0.5, 1.0]
    assert round_ticks([0.013, 0.049], count=3) == [0, 0.02, 0.04, 0.06]
    assert round_ticks([7, 7], count=3) == [7]
    field = Field([(0, 0), (10, 1)], size=(360, 150))
    assert field.path([(0, 0), (5, 0.5), (10, 1)]) == "M48.0,126.0L197.0,68.0L346.0,10.0"
    assert [short(value) for value in (1234.5, 12.345, 0.01234, -0.5, 0)] == ["1234", "12.3", "0.0123", "-0.5", "0"]


# --- several runs -------------------------------------------------------------------------------------------------


@pytest.fixture
def finished(world: World, judges: list[Model], asked: dict[str, Any]) -> list[Run]:
    """A run of each method, all on one snapshot against one reward model; numbers 2 to 5."""
    client = world.client("engineer")
    for method in METHODS:
        client.post(url(world, "run_new"), asked | {"method": method, "gold_model": judges[1].pk})
    runs = list(world.project.runs.filter(method__in=METHODS).order_by("number"))
    return [online.finish(run, gain=1.5 - 0.3 * place) for place, run in enumerate(runs)]


def test_runs_of_different_methods_stand_side_by_side(world: World, finished: list[Run]) -> None:
    page = world.client("engineer").get(url(world, "run_compare"))
    assert [one.run for one in page.context["compared"]] == finished, "the newest four, where none was chosen"
    assert page.context["form"]["run"].value() == ["5", "4", "3", "2"]
    body = page.content.decode()
    for said in ("run 2, PPO", "run 5, online DPO", "1.250 – 1.750", "75.0 % – 87.5 %", "5.50 – 7.00", "before 80.5"):
        assert said in body
    assert [row.value for row in page.context["gains"]] == pytest.approx([1.5, 1.2, 0.9, 0.6])
    assert [row.value for row in page.context["gold_gains"]] == pytest.approx([0.5, 0.4, 0.3, 0.2])
    assert [line.name for line in page.context["frontiers"]][1] == "run 3, RLOO"
    assert page.context["differences"] == []
    assert "Win rate</th>" not in body


def test_chosen_runs_alone_are_compared_and_what_they_do_not_share_is_said(
    world: World, judges: list[Model], asked: dict[str, Any], finished: list[Run]
) -> None:
    client = world.client("engineer")
    client.post(url(world, "run_new"), asked | {"reward_model": judges[1].pk, "response_tokens": "64"})
    other = online.finish(world.project.runs.get(number=6), gold=False)
    page = client.get(url(world, "run_compare"), {"run": [2, other.number]})
    assert [one.run.number for one in page.context["compared"]] == [2, 6]
    assert page.context["differences"] == ["reward model", "longest response"]
    assert "These runs differ in: reward model, longest response." in page.content.decode()


def test_win_rates_are_those_of_a_judge_that_scored_the_models_responses(
    world: World, judges: list[Model], finished: list[Run]
) -> None:
    """Old responses score 0; the PPO model's score 1 on the one prompt that both answered: a win rate of 100 %."""
    aligned = Model.objects.create(project=world.project, name="aligned", kind="policy", location="x", run=finished[0])
    prompt = world.project.prompts.all()[0]
    for value, model in ((0.0, world.model), (1.0, aligned)):
        response = prompt.responses.create(external_id=model.name, text=model.name, source=model.name, model=model)
        response.scores.create(model=judges[1], value=value)
    for data in ({}, {"judge": judges[1].pk}):
        page = world.client("engineer").get(url(world, "run_compare"), data)
        assert page.context["judge"] == judges[1]
        assert [one.won and one.won["win_rate"] for one in page.context["compared"]] == [1.0, None, None, None]
        assert "gold gives the policy’s responses the higher mean score than those of base" in page.content.decode()


@pytest.mark.parametrize(
    ("query", "said"),
    [("run=99", "Select a valid choice"), ("run=1", "Select a valid choice"), ("judge=999", "Select a valid choice"),
     ("run=2&run=3&run=4&run=5&run=6&run=7&run=8", "Choose at most 6 runs; these are 7.")],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused(
    world: World, asked: dict[str, Any], finished: list[Run], query: str, said: str
) -> None:
    """Run 1 is a reward model's; the last asks for seven runs that are there."""
    client = world.client("engineer")
    for _number in range(3):
        client.post(url(world, "run_new"), asked)
    Run.objects.filter(number__gt=5).update(state="succeeded")
    answer = client.get(url(world, "run_compare") + "?" + query)
    assert answer.status_code == 422
    assert said in answer.content.decode()


def test_a_project_without_such_runs_says_what_will_stand_there(world: World) -> None:
    body = world.client("engineer").get(url(world, "run_compare")).content.decode()
    assert "will stand here side by side" in body


def test_comparing_costs_as_many_queries_with_more_runs(
    world: World, asked: dict[str, Any], judges: list[Model], finished: list[Run]
) -> None:
    client = world.client("engineer")
    address = url(world, "run_compare")

    def count_queries(*numbers: int) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(address, {"run": numbers}).status_code == 200
        return len(queries)

    count_queries(2)
    before = count_queries(2)
    for run in finished:
        Model.objects.create(project=world.project, name=f"m{run.number}", kind="policy", location="x", run=run)
    client.post(url(world, "run_new"), asked)
    assert count_queries(2, 3, 4, 5) == before


def test_the_page_of_a_run_costs_as_many_queries_with_more_steps(world: World, run: Run) -> None:
    client = world.client("engineer")

    def count_queries() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(url(world, "run_detail", number=run.number)).status_code == 200
        return len(queries)

    count_queries()
    before = count_queries()
    online.add_rows(run, range(13, 60))
    online.add_samples(run, 20, 30, 40)
    assert count_queries() == before
