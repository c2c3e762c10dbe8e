"""Runs: queueing, leasing, fencing, cancelling and collecting, on real run directories."""

from __future__ import annotations

import itertools
import json
import threading
from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.management import call_command
from django.db import connection
from django.utils import timezone

from annotation import queries, runner
from annotation.domain import collecting, runs
from annotation.domain.simulating import simulate_annotators
from annotation.domain.snapshots import freeze_snapshot, snapshot_directory
from annotation.forms.runs import trainable_snapshots
from annotation.models import Membership, Model, Prompt, Ranking, Response, Run, Score, Slate, Verdict
from rewardmodel.rundir import RunDir
from tests.annotation.factories import make_project, make_prompt, make_slate

pytestmark = pytest.mark.django_db


@pytest.fixture
def project():
    project = make_project()
    for _ in range(3):
        make_slate(project)
    return project


@pytest.fixture
def policy(project):
    return collecting.add_model(project, name="base", kind="policy", location="some/model")


@pytest.fixture
def snapshot(project):
    """Pairs of three prompts, some of them in either split that a training needs."""
    simulate_annotators(project, names=["simulated-1"], seed=0)
    return freeze_trainable(project, format="trl-preference")


def freeze_trainable(project, *, format):
    """A snapshot with rows in either split that a training needs."""
    for seed in itertools.count():
        snapshot = freeze_snapshot(project, format=format, split_seed=seed, shares=(0.5, 0.0, 0.5))
        if all(snapshot.manifest["counts"]["rows"][split] for split in ("train", "test")):
            return snapshot


def claim(run):
    claimed = runs.claim_run("worker-1")
    assert claimed == run
    return claimed


def end(run, *, state="succeeded", outputs=None, **status):
    """What the run's process would leave behind."""
    directory = RunDir(runs.prepare_run(run))
    for name, rows in (outputs or {}).items():
        (directory.outputs / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    directory.write_status(state=state, **status)
    return runs.finish_run(run, exit_code=0)


def asked_prompts(run):
    lines = (runs.run_directory(run) / "prompts.jsonl").read_text().splitlines()
    return [json.loads(line)["prompt_id"] for line in lines]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"method": "orpo", "settings": {}}, "Unknown method 'orpo'"),
        ({"method": "reward", "settings": {}}, "Choose the snapshot"),
        ({"method": "score", "settings": {}}, "Choose the reward model"),
        ({"method": "generate", "settings": {"n": 0}}, "n: "),
        ({"method": "generate", "settings": {"max_new_token": 5}}, "did you mean 'max_new_tokens'"),
        ({"method": "generate", "settings": {"prompt_count": 0}}, "prompt_count"),
        ({"method": "generate", "settings": {"mix": "yes"}}, "mix"),
        ({"method": "generate", "settings": {"split": "test"}}, "snapshot together with one of its splits"),
    ],
)
def test_what_cannot_run_is_refused_before_it_is_queued(project, request_, message):
    with pytest.raises(runs.RunRefused, match=message):
        runs.queue_run(project, **request_)
    assert not Run.objects.exists()


def test_a_snapshot_of_another_project_or_format_is_refused(project, policy, snapshot):
    with pytest.raises(runs.RunRefused, match="belong to this project"):
        runs.queue_run(make_project(), method="reward", settings={}, snapshot=snapshot)
    rankings = freeze_snapshot(project, format="rankings")
    with pytest.raises(runs.RunRefused, match="in the format rankings"):
        runs.queue_run(project, method="reward", settings={}, snapshot=rankings)
    with pytest.raises(runs.RunRefused, match="needs a reward"):
        runs.queue_run(project, method="score", settings={}, base_model=policy)


def test_a_loss_of_ratings_trains_on_ratings_and_no_other_does(project, snapshot):
    for slate in [make_slate(project) for _ in range(3)]:
        places = list(slate.places.values_list("response_id", flat=True))
        Ranking.objects.create(
            slate=slate,
            slot=slate.slots.get(),
            annotator=Membership.objects.get_or_create(project=project, name="w7", kind="imported", role="annotator")[
                0
            ],
            token=uuid4(),
            tiers=[[place] for place in places],
            ratings={"overall": {str(place): 3.0 for place in places}},
        )
    ratings = freeze_trainable(project, format="ratings")
    freeze_snapshot(project, format="rankings")
    with pytest.raises(runs.RunRefused, match="in the format ratings; reward runs train on trl-preference"):
        runs.queue_run(project, method="reward", settings={}, snapshot=ratings)
    with pytest.raises(runs.RunRefused, match="reward runs with loss ratings train on ratings"):
        runs.queue_run(project, method="reward", settings={"loss": "ratings"}, snapshot=snapshot)
    run = runs.queue_run(project, method="reward", settings={"loss": "ratings"}, snapshot=ratings)
    assert (run.spec["loss"], run.snapshot) == ("ratings", ratings)
    offered = trainable_snapshots(project, method="reward")
    assert {one.format for one in offered} == {"trl-preference", "ratings"}


@pytest.mark.parametrize(("method", "format"), [("sft", "sft"), ("kto", "trl-unpaired"), ("rejection", "prompts")])
def test_sft_and_kto_train_on_snapshots_of_their_own_format_and_make_policies(project, snapshot, method, format):
    split = snapshot.manifest["split"]
    own = freeze_snapshot(
        project, format=format, split_seed=split["seed"], shares=(0.5, 0.0, 0.5)
    )  # the prompts are parted as those of the pairs are
    with pytest.raises(runs.RunRefused, match=f"in the format trl-preference; {method} runs train on {format}"):
        runs.queue_run(project, method=method, settings={}, snapshot=snapshot)
    with pytest.raises(runs.RunRefused, match=f"in the format {format}; dpo runs train on trl-preference"):
        runs.queue_run(project, method="dpo", settings={}, snapshot=own)
    run = claim(runs.queue_run(project, method=method, settings={"max_steps": 3}, snapshot=own))
    spec = RunDir(runs.prepare_run(run)).read_spec()
    assert (spec["method"], spec["data"], spec["max_steps"]) == (method, str(snapshot_directory(own)), 3)
    ended = end(run)
    assert collecting.register_model(ended, name="made").kind == Model.Kind.POLICY


@pytest.fixture
def judges(project):
    """Two reward models of the registry."""
    return [collecting.add_model(project, name=name, kind="reward", location=f"some/{name}") for name in ("rm", "gold")]


@pytest.fixture
def prompts(project, snapshot):
    return freeze_trainable(project, format="prompts")


@pytest.mark.parametrize("method", runs.ONLINE)
def test_a_policy_is_trained_against_a_registered_reward_model_and_watched_by_another(
    project, policy, snapshot, prompts, judges, method
):
    rm, gold = judges
    asked = {"method": method, "base_model": policy, "reward_model": rm, "gold_model": gold, "settings": {}}
    with pytest.raises(runs.RunRefused, match=f"format trl-preference; {method} runs train on prompts"):
        runs.queue_run(project, **asked, snapshot=snapshot)
    run = claim(runs.queue_run(project, **asked, snapshot=prompts))
    spec = RunDir(runs.prepare_run(run)).read_spec()
    names = [spec[name] for name in ("method", "model", "data", "reward_model", "gold_model")]
    assert names == [method, "some/model", str(snapshot_directory(prompts)), "some/rm", "some/gold"]
    assert collecting.register_model(end(run), name="made").kind == Model.Kind.POLICY


@pytest.mark.parametrize("method", ["rejection", "check"])
def test_verifiers_of_rejection_and_check_runs_may_ask_for_a_reward_model(project, policy, prompts, judges, method):
    rm, gold = judges
    asked = {"method": method, "base_model": policy, "settings": {}, "snapshot": prompts}
    run = claim(runs.queue_run(project, **asked, reward_model=rm))
    assert (run.reward_model, RunDir(runs.prepare_run(run)).read_spec()["reward_model"]) == (rm, "some/rm")
    with pytest.raises(runs.RunRefused, match=f"^gold_model: {method} runs take none"):
        runs.queue_run(project, **asked, gold_model=gold)


@pytest.mark.parametrize("name", ["data", "examples", "prompts"])
def test_nobody_names_files_from_afar(project, policy, prompts, name):
    with pytest.raises(runs.RunRefused, match=f"^{name}: files are for the command line alone"):
        runs.queue_run(project, method="rejection", base_model=policy, settings={name: "/etc/passwd"}, snapshot=prompts)


def test_rewards_name_models_as_the_registry_does(project, prompts, judges):
    rewards = [
        {"kind": "model", "model": ["rm", "hub/other"]},
        {"kind": "length", "free": 8, "most": 16},
        {"kind": "model", "model": "gold", "name": "second"},
    ]
    run = claim(runs.queue_run(project, method="rloo", settings={"rewards": rewards}, snapshot=prompts))
    found = RunDir(runs.prepare_run(run)).read_spec()["rewards"]
    assert [term.get("model") for term in found] == [["some/rm", "hub/other"], None, "some/gold"]
    assert run.spec["rewards"] == rewards, "what was asked stays as it was written"


def test_judges_that_cannot_be_are_refused_and_the_message_begins_with_the_setting(project, policy, prompts, judges):
    rm, gold = judges
    foreign = collecting.add_model(make_project(), name="rm", kind="reward", location="x")
    term = {"kind": "model", "model": "rm"}
    for asked, message in [
        ({}, "^reward_model: required by method ppo"),
        ({"reward_model": policy}, "^reward_model: base is a policy; choose a reward model"),
        ({"reward_model": foreign}, "^reward_model: it must belong to this project"),
        ({"reward_model": rm, "settings": {"reward_model": "x"}}, "^reward_model: name it once"),
        ({"reward_model": rm, "gold_model": rm}, "^gold_model: rm is what the policy is trained against"),
        ({"gold_model": rm, "settings": {"rewards": [term], "value_model": "policy"}}, "^gold_model: rm is what"),
        ({"settings": {"rewards": [{"kind": "model", "model": "base"}]}}, "^rewards: base is a policy"),
        ({"settings": {"rewards": [{"kind": "modal"}]}}, r"^rewards\[0\].kind: unknown 'modal'"),
        ({"settings": {"rewards": "rm"}}, "^rewards: expected list"),
        ({"reward_model": rm, "settings": {"rewards": [term]}}, "^rewards: they stand in the place"),
        ({"method": "sft", "reward_model": rm}, "in the format prompts; sft runs"),
        ({"method": "generate", "snapshot": None, "gold_model": gold}, "^gold_model: generate runs take none"),
    ]:
        with pytest.raises(runs.RunRefused, match=message):
            runs.queue_run(project, **{"method": "ppo", "settings": {}, "snapshot": prompts, **asked})
    assert not Run.objects.exists()


def test_a_training_run_gets_a_spec_with_its_snapshot_and_hash(project, policy, snapshot):
    run = runs.queue_run(project, method="reward", settings={"epochs": 2.0}, snapshot=snapshot, base_model=policy)
    spec = RunDir(runs.prepare_run(claim(run))).read_spec()
    assert (spec["model"], spec["epochs"]) == ("some/model", 2.0)
    assert (spec["data"], spec["snapshot_sha256"]) == (str(snapshot_directory(snapshot)), snapshot.sha256)


def test_a_run_on_a_snapshot_that_was_changed_is_refused(project, snapshot):
    run = claim(runs.queue_run(project, method="reward", settings={}, snapshot=snapshot))
    (snapshot_directory(snapshot) / "train.jsonl").write_text("{}\n")
    with pytest.raises(runs.RunRefused, match="changed after it was frozen"):
        runs.prepare_run(run)


@pytest.mark.parametrize(("shares", "split"), [((1.0, 0.0, 0.0), "test"), ((0.0001, 0.0, 0.9999), "train")])
def test_a_snapshot_without_rows_to_train_or_test_on_is_refused_before_it_is_queued(project, snapshot, shares, split):
    empty = freeze_snapshot(project, format="trl-preference", shares=shares)
    with pytest.raises(runs.RunRefused, match=f"no rows in its {split} split"):
        runs.queue_run(project, method="reward", settings={}, snapshot=empty)


def test_a_run_cancelled_before_its_process_spoke_is_cancelled_and_not_failed(project, policy):
    run = claim(runs.queue_run(project, method="generate", settings={}, base_model=policy))
    runs.prepare_run(run)
    runs.cancel_run(run)
    assert (runs.finish_run(run, exit_code=-15).state, run.error) == ("cancelled", "")


def test_a_run_under_which_five_workers_fell_silent_is_failed(project, policy):
    run = runs.queue_run(project, method="generate", settings={}, base_model=policy)
    for _ in range(6):
        assert runs.claim_run("worker") == run
        Run.objects.update(deadline=timezone.now() - timedelta(seconds=1))
    assert runs.claim_run("worker") is None
    run.refresh_from_db()
    assert (run.state, run.attempt, run.crashes) == ("failed", 6, 5)
    assert "5 workers fell silent" in run.error


def test_text_that_no_database_holds_is_refused_or_replaced(project, policy):
    for text in ("a\0b", "a\ud800"):
        with pytest.raises(runs.RunRefused, match="cannot be stored"):
            runs.queue_run(project, method="generate", settings={"model": text})
    run = claim(runs.queue_run(project, method="generate", settings={}, base_model=policy))
    prompt = project.prompts.first()
    row = {"prompt_id": prompt.pk, "index": 0, "response": "a\0b", "finish_reason": "eos", "n_tokens": 1}
    assert end(run, outputs={"responses.jsonl": [row]}).state == "succeeded"
    assert run.responses.get().text == "a\ufffdb"


def test_runs_are_claimed_once_in_order(project, policy):
    first, second = (runs.queue_run(project, method="generate", settings={}, base_model=policy) for _ in range(2))
    assert (first.number, second.number) == (1, 2)
    assert [runs.claim_run("a"), runs.claim_run("b"), runs.claim_run("c")] == [first, second, None]


def test_a_silent_worker_loses_its_run_and_may_no_longer_write(project, policy):
    run = runs.queue_run(project, method="generate", settings={}, base_model=policy)
    zombie = claim(run)
    Run.objects.update(deadline=timezone.now() - timedelta(seconds=1))
    successor = runs.claim_run("worker-2")
    assert (zombie.attempt, successor.attempt) == (1, 2)
    assert runs.heartbeat_run(zombie) is False
    assert runs.release_run(zombie) is False
    assert runs.fail_run(zombie, error="from the dead").state == "running"
    assert runs.heartbeat_run(successor) is True


def test_a_released_run_is_queued_again_and_keeps_its_directory(project, policy):
    run = claim(runs.queue_run(project, method="generate", settings={}, base_model=policy))
    directory = RunDir(runs.prepare_run(run))
    directory.append_metrics({"step": 1, "loss": 0.5})
    assert runs.release_run(run)
    again = runs.claim_run("worker-2")
    runs.prepare_run(again)
    assert [row["loss"] for row in runs.run_metrics(again)] == [0.5]


def test_a_queued_run_is_cancelled_at_once_and_a_running_one_is_asked(project, policy):
    queued = runs.queue_run(project, method="generate", settings={}, base_model=policy)
    assert runs.cancel_run(queued).state == "cancelled"
    running = claim(runs.queue_run(project, method="generate", settings={}, base_model=policy))
    assert (runs.cancel_run(running).state, running.cancel_requested) == ("running", True)
    assert end(running, state="cancelled").state == "cancelled"
    assert runs.cancel_run(running).state == "cancelled"


def test_a_process_that_ends_without_a_word_is_a_failure_with_its_exit_code(project, policy):
    run = claim(runs.queue_run(project, method="generate", settings={}, base_model=policy))
    runs.prepare_run(run)
    finished = runs.finish_run(run, exit_code=-9)
    assert (finished.state, "exit code -9" in finished.error) == ("failed", True)


def test_generated_responses_become_slates_that_come_first(project, policy):
    run = claim(runs.queue_run(project, method="generate", settings={"n": 3, "prompt_count": 2}, base_model=policy))
    runs.prepare_run(run)
    asked = asked_prompts(run)
    rows = [
        {"prompt_id": str(prompt), "index": i, "response": f"New {i}", "finish_reason": "eos", "n_tokens": 3}
        for prompt in asked
        for i in range(3)
    ]
    assert end(run, outputs={"responses.jsonl": rows}).state == "succeeded"
    made = Response.objects.filter(run=run)
    assert (made.count(), set(made.values_list("source", "model"))) == (6, {("base", policy.pk)})
    slates = Slate.objects.filter(responses__run=run).distinct()
    assert [slate.responses.count() for slate in slates] == [3, 3]
    assert list(Slate.objects.all()[:2]) == list(slates)
    assert all(slate.slots.count() == project.overlap for slate in slates)


def test_mixing_puts_earlier_responses_beside_new_ones_and_equal_texts_once(project, policy):
    prompt = project.prompts.first()
    run = claim(runs.queue_run(project, method="generate", settings={"n": 3, "mix": True}, base_model=policy))
    old_text = prompt.responses.first().text
    rows = [
        {"prompt_id": prompt.pk, "index": i, "response": text, "finish_reason": "eos", "n_tokens": 3}
        for i, text in enumerate(["New", "New", old_text])
    ]
    end(run, outputs={"responses.jsonl": rows})
    (slate,) = Slate.objects.filter(responses__run=run).distinct()
    texts = [response.text for response in slate.responses.all()]
    assert len(texts) == len(set(texts)) == 4
    assert {"New", old_text} <= set(texts)


def test_the_prompts_of_a_split_are_those_of_the_snapshots_own_rows(project, policy):
    for _ in range(20):
        make_prompt(project)
    snapshot = freeze_snapshot(project, format="prompts", shares=(0.5, 0.1, 0.4))
    run = runs.queue_run(project, method="generate", settings={"split": "test"}, snapshot=snapshot, base_model=policy)
    runs.prepare_run(claim(run))
    asked = set(asked_prompts(run))
    with open(snapshot_directory(snapshot) / "test.jsonl") as file:
        assert asked == {json.loads(line)["prompt_id"] for line in file}


def test_outputs_that_do_not_fit_fail_the_run_and_store_nothing(project, policy):
    foreign = make_prompt(make_project())
    run = claim(runs.queue_run(project, method="generate", settings={}, base_model=policy))
    row = {"prompt_id": foreign.pk, "index": 0, "response": "x", "finish_reason": "eos", "n_tokens": 1}
    finished = end(run, outputs={"responses.jsonl": [row]})
    assert (finished.state, Response.objects.filter(run=run).count()) == ("failed", 0)
    assert "not of this project" in finished.error


def test_an_id_that_was_never_given_out_fails_the_run(project, policy):
    run = claim(runs.queue_run(project, method="generate", settings={}, base_model=policy))
    row = {"prompt_id": "p-1", "index": 0, "response": "x", "finish_reason": "eos", "n_tokens": 1}
    assert "never given out" in end(run, outputs={"responses.jsonl": [row]}).error


def make_trained_model(project, snapshot, *, method="reward", name="judge"):
    run = claim(runs.queue_run(project, method=method, settings={}, snapshot=snapshot))
    RunDir(runs.prepare_run(run)).write_report({"heldout": {"accuracy": 0.7}})
    end(run)
    return collecting.register_model(run, name=name)


def test_only_a_training_run_that_succeeded_is_registered_and_only_once(project, policy, snapshot):
    model = make_trained_model(project, snapshot)
    assert (model.kind, collecting.register_model(model.run, name="other")) == ("reward", model)
    assert collecting.model_location(model) == str(runner.model_directory(runs.run_directory(model.run)))
    queued = runs.queue_run(project, method="generate", settings={}, base_model=policy)
    with pytest.raises(collecting.CollectionRefused, match="succeeded"):
        collecting.register_model(queued, name="x")
    run = claim(queued)
    runs.fail_run(run, error="no")
    other = claim(runs.queue_run(project, method="dpo", settings={}, snapshot=snapshot))
    end(other)
    with pytest.raises(collecting.CollectionRefused, match="is taken"):
        collecting.register_model(other, name="judge")


def test_scores_are_stored_once_and_compare_two_policies_on_shared_prompts(project, policy, snapshot):
    """Old scores 0, new scores 1 on every shared prompt: difference 1, new better everywhere."""
    judge = make_trained_model(project, snapshot)
    aligned = make_trained_model(project, snapshot, method="dpo", name="aligned")
    Response.objects.update(model=policy)
    for prompt in project.prompts.all():
        Response.objects.create(prompt=prompt, external_id="new", text="New", source="aligned", model=aligned)
    run = claim(runs.queue_run(project, method="score", settings={}, base_model=judge))
    rows = [
        {"response_id": str(response.pk), "score": float(response.model_id == aligned.pk)}
        for response in Response.objects.all()
    ]
    assert end(run, outputs={"scores.jsonl": rows}).state == "succeeded"
    assert Score.objects.filter(model=judge).count() == len(rows)
    (comparison,) = queries.compare_policies(judge)
    assert (comparison["old"], comparison["new"]) == (policy, aligned)
    assert (comparison["prompts"], comparison["difference"], comparison["win_rate"]) == (3, 1.0, 1.0)
    again = claim(runs.queue_run(project, method="score", settings={}, base_model=judge))
    with pytest.raises(runs.RunRefused, match="nothing to do"):
        runs.prepare_run(again)


def test_a_score_that_is_not_a_number_fails_the_run(project, snapshot):
    judge = make_trained_model(project, snapshot)
    run = claim(runs.queue_run(project, method="score", settings={}, base_model=judge))
    rows = [{"response_id": Response.objects.first().pk, "score": float("nan")}]
    assert end(run, outputs={"scores.jsonl": rows}).state == "failed"
    assert not Score.objects.exists()


def test_a_name_stands_for_one_model(project, policy):
    assert collecting.add_model(project, name="base", kind="policy", location="some/model") == policy
    with pytest.raises(collecting.CollectionRefused, match="taken"):
        collecting.add_model(project, name="base", kind="policy", location="another")
    assert Model.objects.count() == 1


MATH = {"kind": "math", "answer": "6"}


def said_of(response, *, passed, reason="found 7, expected 6"):
    """A row of a verify run's outputs."""
    score = None if passed is None else float(passed)
    return {
        "response_id": str(response), "kind": "math", "passed": passed, "score": score, "reason": reason, "seconds": 0.5
    }  # fmt: skip


def test_verdicts_are_stored_once_for_responses_whose_prompt_has_a_verifier(project):
    """One of three prompts has a verifier; of its four responses three get a verdict, and the fourth is asked again."""
    with pytest.raises(runs.RunRefused, match="has a verifier"):
        runs.queue_run(project, method="verify", settings={})
    prompt = project.prompts.all()[1]
    Prompt.objects.filter(pk=prompt.pk).update(verifier=MATH)
    run = claim(runs.queue_run(project, method="verify", settings={}))
    directory = RunDir(runs.prepare_run(run))
    asked = [json.loads(line) for line in (directory.path / "responses.jsonl").read_text().splitlines()]
    ids = list(prompt.responses.values_list("pk", flat=True))
    assert [row["response_id"] for row in asked] == ids
    assert (asked[0]["verifier"], asked[0]["prompt"]) == (MATH, prompt.messages)
    assert directory.read_spec()["reward_model"] is None
    rows = [said_of(pk, passed=passed) for pk, passed in zip(ids, (True, False, False, None), strict=True)]
    assert end(run, outputs={"verdicts.jsonl": rows}).state == "succeeded"
    stored = Verdict.objects.order_by("response")
    assert [(v.response_id, v.passed, v.score) for v in stored] == [
        (ids[0], True, 1.0),
        (ids[1], False, 0.0),
        (ids[2], False, 0.0),
    ]
    assert {(v.run_id, v.kind, v.verifier_hash) for v in stored} == {(run.pk, "math", collecting.hash_verifier(MATH))}
    again = claim(runs.queue_run(project, method="verify", settings={}))
    directory = RunDir(runs.prepare_run(again))
    left = [json.loads(line)["response_id"] for line in (directory.path / "responses.jsonl").read_text().splitlines()]
    assert left == [ids[3]]


def test_a_verdict_that_nobody_asked_for_fails_the_run_and_stores_nothing(project):
    first, second = project.prompts.all()[:2]
    Prompt.objects.filter(pk=first.pk).update(verifier=MATH)
    run = claim(runs.queue_run(project, method="verify", settings={}))
    rows = [said_of(prompt.responses.first().pk, passed=True) for prompt in (first, second)]
    ended = end(run, outputs={"verdicts.jsonl": rows})
    assert (ended.state, Verdict.objects.count()) == ("failed", 0)
    assert "no verifier of this project asks for" in ended.error


def test_a_verification_may_be_given_a_reward_model_and_no_policy(project, policy, snapshot):
    Prompt.objects.filter(project=project).update(verifier=MATH)
    with pytest.raises(runs.RunRefused, match="starts from no model"):
        runs.queue_run(project, method="verify", settings={}, base_model=policy)
    with pytest.raises(runs.RunRefused, match="choose a reward model"):
        runs.queue_run(project, method="verify", settings={}, reward_model=policy)
    judge = make_trained_model(project, snapshot)
    with pytest.raises(runs.RunRefused, match="gold_model: verify runs take none"):
        runs.queue_run(project, method="verify", settings={}, gold_model=judge)
    run = claim(runs.queue_run(project, method="verify", settings={}, reward_model=judge))
    assert RunDir(runs.prepare_run(run)).read_spec()["reward_model"] == collecting.model_location(judge)


def test_a_verifier_has_one_hash_whatever_the_order_of_its_fields():
    assert collecting.hash_verifier({"kind": "math", "answer": "6"}) == collecting.hash_verifier(
        {"answer": "6", "kind": "math"}
    )
    assert collecting.hash_verifier(MATH) != collecting.hash_verifier({**MATH, "answer": "7"})


@pytest.mark.django_db(transaction=True)
def test_workers_racing_for_runs_never_take_one_twice():
    project = make_project()
    make_prompt(project)
    for _ in range(20):
        runs.queue_run(project, method="generate", settings={})
    taken: list[int] = []

    def work(name: str) -> None:
        try:
            misses = 0
            while misses < 5:
                run = runs.claim_run(name)
                if run is None:
                    misses += 1
                else:
                    taken.append(run.number)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=(f"w{i}",)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == list(range(1, 21))


@pytest.mark.parametrize("allowed", [False, True])
def test_a_worker_lets_code_run_without_isolation_only_where_it_was_told_so(project, policy, monkeypatch, allowed):
    """The process is told by its command line; nothing in the run's own settings could say so."""
    run = runs.queue_run(project, method="generate", base_model=policy, settings={})
    commands = []

    class Process:
        returncode = 1

        def __init__(self, command, **_settings):
            commands.append(command)

        def poll(self):
            return 1

    monkeypatch.setattr(runner.subprocess, "Popen", Process)
    call_command("work", *(["--unsafe-without-sandbox"] if allowed else []), drain=True)
    [command] = commands
    assert command[1:] == [
        "-m", "rewardmodel", "run", str(runs.run_directory(run)), *(["--unsafe-without-sandbox"] if allowed else [])
    ]  # fmt: skip


def test_what_a_model_wrote_into_its_report_is_stored_without_nul(project, snapshot):
    """PostgreSQL refuses it in JSON as in text: the run would end as failed."""
    run = claim(runs.queue_run(project, method="reward", settings={}, snapshot=snapshot))
    report = {"samples": [{"before": "a\0b", "after": "\\u0000"}], "seconds": 1.5, "notes": []}
    RunDir(runs.prepare_run(run)).write_report(report)
    ended = end(run, message="a\0")
    assert ended.report == report | {"samples": [{"before": "a\N{REPLACEMENT CHARACTER}b", "after": "\\u0000"}]}
    assert (ended.state, ended.status["message"]) == ("succeeded", "a\N{REPLACEMENT CHARACTER}")
