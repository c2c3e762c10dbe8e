"""The other pages: import, snapshots, runs, models, guidelines, members, plots."""

from __future__ import annotations

import html
import json
import re
import shutil
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.template.loader import render_to_string
from django.urls import reverse
from django.utils import timezone

from annotation.domain.runs import run_directory
from annotation.domain.snapshots import freeze_snapshot, snapshot_directory
from annotation.forms.runs import RunForm
from annotation.models import (
    Membership,
    Model,
    Project,
    Prompt,
    Ranking,
    Response,
    Run,
    Slate,
    Slot,
    Snapshot,
)
from annotation.templatetags.plots import beats_baselines, interval_plot, interval_rows
from annotation.templatetags.preferee import duration, percent
from annotation.views.runs import log_tail, metric_names, metric_table
from tests.annotation.factories import make_user
from tests.views.conftest import HALVES, World

REPORT = {
    "heldout": {"n": 200, "n_prompts": 40, "accuracy": 0.71, "interval": [0.64, 0.77], "log_loss": 0.58,
                "interval_by_prompt": [0.62, 0.79]},
    "baselines": {
        "longer_wins": {"accuracy": 0.55, "interval": [0.48, 0.62]},
        "untrained": {"accuracy": 0.5, "interval": [0.43, 0.57]},
    },
    "dropped": {"train": {"too_long": 3}, "test": {}},
    "samples": [{"prompt": [{"role": "user", "content": "Why <b>?"}], "before": "old", "after": "new"}],
    "simulated": True,
}  # fmt: skip
SPLIT = {"split_seed": 0, "validation_percent": 10, "test_percent": 10}


def url(world: World, route: str, **kwargs: object) -> str:
    return reverse(route, kwargs={"slug": world.project.slug} | kwargs)


@pytest.fixture
def finished(world: World) -> Run:
    now = timezone.now()
    Run.objects.filter(pk=world.run.pk).update(
        state="succeeded", report=REPORT, started_at=now, finished_at=now, status={"versions": {"torch": "2.13"}}
    )
    directory = run_directory(world.run)
    directory.mkdir(parents=True)
    rows = [{"step": step, "time": 0, "loss": 1 / step, "epoch": 0.1} for step in range(1, 31)]
    (directory / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (directory / "log.txt").write_text("loading\nhalf\rwhole line\n")
    world.run.refresh_from_db()
    return world.run


def test_an_upload_is_counted_and_the_same_again_is_skipped(world: World) -> None:
    client = world.client("admin")
    text = b'{"id": "new-1", "prompt": "Why?"}\n{"id": "new-2", "prompt": "How?"}\n'
    counts = []
    for dry in ("on", "", ""):
        upload = SimpleUploadedFile("prompts.jsonl", text)
        data = {"uploads": [upload], "format": "auto"} | ({"dry_run": dry} if dry else {})
        answer = client.post(url(world, "import_data"), data)
        assert answer.status_code == 200
        counts.append((answer.context["counts"].prompts, world.project.prompts.count()))
    assert counts == [(2, 3), (2, 5), (0, 5)]


GOOD = b'{"id": "a", "prompt": "Why?", "responses": ["yes", "no"]}\n'
BAD_UPLOADS = {
    "malformed JSON": (
        "bad.jsonl", GOOD + b'\n{"id": "b", \n', "bad.jsonl, line 3: not valid JSON",
    ),
    "a missing field": (
        "bad.jsonl", GOOD + b'{"id": "b", "responses": ["yes", "no"]}\n',
        "bad.jsonl, line 2, field 'prompt': it is missing",
    ),
    "one response": (
        "bad.jsonl", GOOD + b'{"id": "b", "prompt": "How?", "responses": ["yes"]}\n',
        "bad.jsonl, line 2, field 'responses': a slate needs 2 to 9 responses, this row has 1",
    ),
    "an id twice": (
        "bad.jsonl", GOOD + b'\n' + GOOD.replace(b"Why", b"How"),
        "bad.jsonl, line 3, field 'id': 'a' was on line 1 already",
    ),
    "a line over 16 MiB": (
        "bad.jsonl", GOOD + b'{"id": "b", "prompt": "' + b"x" * (17 * 1024**2) + b'"}\n',
        "bad.jsonl, line 2: the line is longer than 16 MiB",
    ),
    "UTF-16": (
        "bad.jsonl", GOOD.decode().encode("utf-16"), "bad.jsonl: the file is UTF-16; save it as UTF-8",
    ),
    "nothing": ("bad.jsonl", b"", "bad.jsonl: the file is empty: it has no rows"),
    "no Parquet": ("bad.parquet", GOOD, "bad.parquet: this is not a Parquet file, though its name says so"),
}  # fmt: skip


@pytest.mark.parametrize("kind", BAD_UPLOADS)
def test_a_bad_file_is_refused_by_name_and_nothing_is_stored(world: World, kind: str) -> None:
    name, content, said = BAD_UPLOADS[kind]
    stored = (Prompt.objects, Response.objects, Slate.objects, Slot.objects, Ranking.objects)
    before = [rows.count() for rows in stored]
    uploads = [
        SimpleUploadedFile("good.jsonl", b'{"id": "fine", "prompt": "Who?"}\n'),
        SimpleUploadedFile(name, content),
    ]
    answer = world.client("admin").post(url(world, "import_data"), {"uploads": uploads, "format": "auto"})
    assert answer.status_code == 422
    assert said in html.unescape(answer.content.decode())
    assert "Nothing was imported." in answer.content.decode()
    assert [rows.count() for rows in stored] == before


def test_no_file_is_said_plainly(world: World) -> None:
    answer = world.client("admin").post(url(world, "import_data"), {"format": "auto"})
    assert answer.status_code == 422
    assert "This field is required." in answer.content.decode()


def test_freezing_leads_to_the_snapshot(world: World) -> None:
    world.project.prompts.update(metadata={"category": "b"})
    data = {
        "format": "rankings", "split_seed": 7, "validation_percent": 5, "test_percent": 30,
        "annotator_kinds": ["person"], "categories": "a, b ,",
    }  # fmt: skip
    answer = world.client("engineer").post(url(world, "snapshot_list"), data)
    snapshot = Snapshot.objects.get(number=2)
    assert answer.headers["Location"] == url(world, "snapshot_detail", number=2)
    assert (snapshot.format, snapshot.split_seed, snapshot.created_by) == (
        "rankings", 7, world.user("engineer"),
    )  # fmt: skip
    assert snapshot.filters["categories"] == ["a", "b"]
    assert snapshot.filters["annotator_kinds"] == ["person"]
    assert snapshot.manifest["split"]["shares"] == {"train": 0.65, "validation": 0.05, "test": 0.3}


@pytest.mark.parametrize(
    ("validation", "test", "said"),
    [
        ("60", "40", "Validation and test take every prompt; leave some for training."),
        ("90", "90", "Validation and test take every prompt; leave some for training."),
        ("91", "0", "Ensure this value is less than or equal to 90."),
        ("-1", "10", "Ensure this value is greater than or equal to 0."),
        ("9" * 5000, "10", "Enter a whole number."),
        ("10", "", "This field is required."),
    ],
)
def test_shares_that_leave_nothing_to_train_on_are_refused(world: World, validation: str, test: str, said: str) -> None:
    data = {"format": "rankings", "split_seed": 0, "validation_percent": validation, "test_percent": test}
    answer = world.client("engineer").post(url(world, "snapshot_list"), data)
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert Snapshot.objects.count() == 1


def test_ten_percent_each_are_held_out_unless_asked_otherwise(world: World) -> None:
    body = world.client("engineer").get(url(world, "snapshot_list")).content.decode()
    assert re.findall(r'name="(\w+_percent)" value="(\d+)"', body) == [
        ("validation_percent", "10"), ("test_percent", "10"),
    ]  # fmt: skip


def test_a_snapshot_without_rows_to_test_on_cannot_be_trained_on_and_says_why(world: World) -> None:
    client = world.client("engineer")
    freeze_snapshot(world.project, format="trl-preference", shares=(1.0, 0.0, 0.0))
    freeze_snapshot(world.project, format="rankings", shares=(1.0, 0.0, 0.0))
    whole, empty, other = [
        client.get(url(world, "snapshot_detail", number=number)).content.decode() for number in (1, 2, 3)
    ]
    note, button = "It cannot be trained on: no rows in", "Start a reward run"
    assert [(note in body, button in body) for body in (whole, empty, other)] == [
        (False, True), (True, False), (False, False),
    ]  # fmt: skip
    assert "no rows in test." in empty
    assert "other shares or another seed" in empty


def test_files_of_a_snapshot_are_handed_out_as_they_lie_there(world: World) -> None:
    address = url(world, "snapshot_file", number=1, name="train.jsonl")
    answer = world.client("engineer").get(address, headers={"accept-encoding": "gzip"})
    assert "Content-Encoding" not in answer.headers
    assert int(answer.headers["Content-Length"]) == len(b"".join(answer))


def test_a_snapshot_whose_files_are_lost_says_so(world: World) -> None:
    shutil.rmtree(snapshot_directory(world.snapshot))
    client = world.client("engineer")
    answer = client.get(url(world, "snapshot_detail", number=1))
    body = answer.content.decode()
    assert answer.status_code == 200
    assert "The files of this snapshot cannot be read." in body
    assert "no judgement passed its filters" not in body
    assert world.snapshot.sha256 in body
    assert client.get(url(world, "snapshot_file", number=1, name="train.jsonl")).status_code == 404


def test_filters_that_let_nothing_in_are_said_plainly(world: World) -> None:
    data = {"format": "rankings", "categories": "no such category"} | SPLIT
    answer = world.client("engineer").post(url(world, "snapshot_list"), data)
    assert answer.status_code == 422
    assert "Nothing to freeze" in answer.content.decode()


def test_dates_the_wrong_way_round_are_refused(world: World) -> None:
    data = {"format": "rankings", "since": "2026-02-01", "until": "2026-01-01"} | SPLIT
    answer = world.client("engineer").post(url(world, "snapshot_list"), data)
    assert answer.status_code == 422
    assert "nothing could be in between" in answer.content.decode()
    assert Snapshot.objects.count() == 1


def test_a_snapshot_shows_its_hash_and_gives_its_files_only(world: World) -> None:
    client = world.client("engineer")
    body = client.get(url(world, "snapshot_detail", number=1)).content.decode()
    assert world.snapshot.sha256 in body
    for entry in world.snapshot.manifest["files"]:
        answer = client.get(url(world, "snapshot_file", number=1, name=entry["path"]))
        assert len(b"".join(answer.streaming_content)) == entry["bytes"]  # type: ignore[attr-defined]
        assert answer.headers["Content-Disposition"].startswith("attachment")
    for name in ("../1/train.jsonl", "/etc/passwd", "train", "parquet"):
        assert client.get(f"/projects/circle/snapshots/1/files/{name}").status_code == 404


def test_starting_a_run_queues_what_was_filled_in(world: World) -> None:
    data = {"method": "dpo", "snapshot": 1, "tuning": "lora", "beta": "0.3", "max_steps": "5", "learning_rate": ""}
    answer = world.client("engineer").post(url(world, "run_new"), data)
    run = Run.objects.get(number=2)
    assert answer.headers["Location"] == url(world, "run_detail", number=2)
    assert (run.method, run.snapshot, run.spec) == (
        "dpo",
        world.snapshot,
        {"tuning": "lora", "beta": 0.3, "max_steps": 5},
    )


@pytest.mark.parametrize(
    ("method", "tunings"),
    [
        ("reward", ["lora", "qlora", "full", "head"]),
        ("sft", ["lora", "qlora", "full"]),
        ("dpo", ["lora", "qlora", "full"]),
        ("kto", ["lora", "qlora", "full"]),
        ("rejection", ["lora", "full"]),
    ],
)
def test_the_start_form_offers_the_tunings_of_its_method(world: World, method: str, tunings: list[str]) -> None:
    form: Any = RunForm(method=method, project=world.project)
    assert [value for value, _ in form.fields["tuning"].choices] == tunings


def test_the_start_form_is_filled_from_the_address(world: World) -> None:
    client = world.client("engineer")
    body = client.get(url(world, "run_new") + f"?method=dpo&snapshot=1&base_model={world.model.pk}").content.decode()
    assert 'name="method" value="dpo"' in body
    assert f'<option value="{world.model.pk}" selected>' in body
    assert client.get(url(world, "run_new") + "?method=nonsense").status_code == 404
    assert client.post(url(world, "run_new"), {"method": "nonsense"}).status_code == 404


@pytest.mark.parametrize(
    ("method", "format", "button"), [("sft", "sft", "Start an SFT run"), ("kto", "trl-unpaired", "Start a KTO run")]
)
def test_a_snapshot_offers_the_runs_of_its_format(world: World, method: str, format: str, button: str) -> None:
    client = world.client("engineer")
    split = world.snapshot.manifest["split"]
    asked = client.get(url(world, "run_new") + f"?method={method}").content.decode()
    assert "This needs a snapshot in the format" in asked
    freeze_snapshot(world.project, format=format, split_seed=split["seed"], shares=HALVES)
    body = client.get(url(world, "snapshot_detail", number=2)).content.decode()
    assert (button in body, "Start a DPO run" in body, "Start a reward run" in body) == (True, False, False)
    assert button not in client.get(url(world, "snapshot_detail", number=1)).content.decode()
    asked = client.get(url(world, "run_new") + f"?method={method}&snapshot=2").content.decode()
    assert "This needs a snapshot" not in asked
    assert "Longest row, tokens" in asked
    client.post(url(world, "run_new"), {"method": method, "snapshot": 2, "tuning": "lora", "max_steps": "5"})
    run = Run.objects.get(number=2)
    assert (run.method, run.snapshot.number if run.snapshot else None) == (method, 2)
    assert run.spec["max_steps"] == 5


def test_every_page_of_a_run_says_that_its_code_was_not_isolated(world: World, finished: Run) -> None:
    """The run's own, its state that is fetched alone, the lists and the snapshot it stands in, the model it made."""
    client = world.client("engineer")
    model = Model.objects.create(project=world.project, name="made", kind="policy", location="x", run=finished)
    pages = {
        "run": url(world, "run_detail", number=finished.number),
        "runs": url(world, "run_list"),
        "snapshot": url(world, "snapshot_detail", number=finished.snapshot.number),
        "models": url(world, "model_list"),
        "model": url(world, "model_detail", pk=model.pk),
    }
    state = url(world, "run_state", number=finished.number)

    def tagged() -> set[str]:
        found = {name for name, page in pages.items() if "without sandbox" in client.get(page).content.decode()}
        return found | ({"state"} if "ran without isolation" in client.get(state).content.decode() else set())

    assert tagged() == set()
    Run.objects.filter(pk=finished.pk).update(status={"isolated": False})
    assert tagged() == {*pages, "state"}


def test_the_page_of_an_sft_run_shows_its_loss_before_and_after(world: World, finished: Run) -> None:
    report = {
        "method": "sft",
        "heldout": {"n": 20, "n_prompts": 10, "tokens": 900, "loss": 1.5, "interval": [1.25, 1.75], "perplexity": 4.48,
                    "gain": 0.5, "gain_interval": [0.4, 0.6]},
        "baselines": {"untrained": {"loss": 2.0, "interval": [1.8, 2.2], "perplexity": 7.39}},
        "dropped": {"train": {"too_long": 0}},
    }  # fmt: skip
    Run.objects.filter(pk=finished.pk).update(method="sft", report=report)
    client = world.client("engineer")
    body = client.get(url(world, "run_detail", number=1)).content.decode()
    for said in (
        "1.500",
        "in 20 held-out rows (10 prompts, 900 tokens)",
        "95 % interval over prompts 1.250 – 1.750; perplexity 4.48",
        "Untrained: 2.000 (perplexity 7.39); the training took off 0.500 (0.400 – 0.600).",
    ):
        assert said in body
    listed = client.get(url(world, "run_list")).content.decode()
    assert "loss 1.500" in listed
    assert "150.0 %" not in listed


def test_the_page_of_a_kto_run_shows_its_area_beside_the_baselines(world: World, finished: Run) -> None:
    report = {
        "method": "kto",
        "heldout": {"n": 40, "n_prompts": 10, "auc": 0.71, "interval": [0.64, 0.77], "mean_log_ratio_desirable": 1.25,
                    "mean_log_ratio_undesirable": -0.5},
        "baselines": {"longer_wins": {"auc": 0.55, "interval": [0.48, 0.62]},
                      "untrained": {"auc": 0.5, "interval": [0.43, 0.57]}},
        "dropped": {"train": {"too_long": 0}},
    }  # fmt: skip
    Run.objects.filter(pk=finished.pk).update(method="kto", report=report)
    client = world.client("engineer")
    body = client.get(url(world, "run_detail", number=1)).content.decode()
    for said in (
        "71.0 %",
        "AUC on 40 held-out responses (10 prompts)",
        "good 1.250, bad -0.500",
        "For KTO these are areas under the curve",
        "reference&#x27;s own likelihood",
    ):
        assert said in body
    assert "log loss" not in body
    assert "AUC 71.0 %" in client.get(url(world, "run_list")).content.decode()


def test_the_page_of_a_rejection_run_shows_pass_at_k_of_every_round(world: World, finished: Run) -> None:
    start = {"n": 80, "n_prompts": 20, "pass_at_1": 0.1, "interval": [0.05, 0.15], "k": 4, "pass_at_k": 0.3}
    end = start | {"pass_at_1": 0.4, "interval": [0.31, 0.49], "pass_at_k": 0.6}
    rounds = [{"round": 1, "attempts": 160, "acceptance": 0.125, "rows": 37, **end}]
    report = {"method": "rejection", "heldout": end, "baselines": {"untrained": start}, "rounds": rounds}
    Run.objects.filter(pk=finished.pk).update(method="rejection", report=report)
    client = world.client("engineer")
    body = client.get(url(world, "run_detail", number=1)).content.decode()
    for said in (
        "of 80 sampled answers to 20 held-out prompts pass their verifier.",
        "95 % interval over prompts 31.0 % – 49.0 %; before: 10.0 %",
        "pass@4",
        ">160<",
        ">12.5 %<",
        ">37<",
    ):
        assert said in body
    assert "pass@1 40.0 %" in client.get(url(world, "run_list")).content.decode()
    form = client.get(url(world, "run_new"), {"method": "rejection"}).content.decode()
    assert 'name="max_samples"' in form
    assert "a verifier accepts" in form


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ({"method": "reward", "snapshot": 9}, "Select a valid choice"),
        ({"method": "reward", "snapshot": 1, "batch_size": "0"}, "greater than or equal to 1"),
        ({"method": "reward", "snapshot": 1, "learning_rate": "0"}, "must be above 0"),
        ({"method": "score"}, "This field is required."),
    ],
)
def test_a_run_that_cannot_be_is_refused_with_the_reason(world: World, data: dict[str, object], said: str) -> None:
    answer = world.client("engineer").post(url(world, "run_new"), data)
    assert answer.status_code == 422
    assert said in answer.content.decode()
    assert Run.objects.count() == 1


def test_responses_are_generated_from_the_page_of_a_policy(world: World) -> None:
    client = world.client("engineer")
    page = client.get(url(world, "model_detail", pk=world.model.pk)).content.decode()
    assert 'name="prompt_count"' in page
    assert 'name="n" value="4"' in page  # as many as fill a slate
    data = {"method": "generate", "base_model": world.model.pk, "prompt_count": 2, "n": 4, "mix": "on"}
    client.post(url(world, "run_new"), data)
    run = Run.objects.get(method="generate")
    assert run.base_model == world.model
    assert (run.spec["prompt_count"], run.spec["n"], run.spec["mix"]) == (2, 4, True)


def test_scoring_is_started_from_the_page_of_a_reward_model(world: World) -> None:
    scorer = Model.objects.create(project=world.project, name="rm", kind="reward", location="rm")
    client = world.client("engineer")
    assert "Score responses" in client.get(url(world, "model_detail", pk=scorer.pk)).content.decode()
    client.post(url(world, "run_new"), {"method": "score", "base_model": scorer.pk})
    assert Run.objects.get(method="score").base_model == scorer


def test_a_reward_models_page_sets_new_policies_beside_the_first(world: World) -> None:
    """Old responses score 0, new ones 1, on the one prompt that both answered: difference 1.000, better on 100 %."""
    scorer = Model.objects.create(project=world.project, name="rm", kind="reward", location="rm")
    aligned = Model.objects.create(project=world.project, name="aligned", kind="policy", location="x")
    prompt = world.project.prompts.all()[0]
    for value, model in ((0.0, world.model), (1.0, aligned)):
        response = prompt.responses.create(external_id=model.name, text=model.name, source=model.name, model=model)
        response.scores.create(model=scorer, value=value)
    body = world.client("engineer").get(url(world, "model_detail", pk=scorer.pk)).content.decode()
    assert "Reward of new responses beside the old" in body
    assert "1.000 … 1.000" in body
    assert ">aligned</a>" in body


def test_a_queued_run_is_polled_and_can_be_cancelled(world: World) -> None:
    client = world.client("engineer")
    body = client.get(url(world, "run_detail", number=1)).content.decode()
    assert 'hx-trigger="every 2s"' in body
    client.post(url(world, "run_cancel", number=1))
    assert Run.objects.get(number=1).state == "cancelled"
    state = client.get(url(world, "run_state", number=1), headers={"HX-Request": "true"})
    assert "hx-get" not in state.content.decode()
    assert state.headers["HX-Refresh"] == "true"


def test_a_finished_run_shows_its_figure_beside_the_baselines(world: World, finished: Run) -> None:
    body = world.client("engineer").get(url(world, "run_detail", number=1)).content.decode()
    for said in (
        "71.0 %",
        "longer wins",
        "untrained model",
        "Why &lt;b&gt;?",
        "train: too long 3",
        "torch",
        "whole line",
    ):
        assert said in body
    assert "learned from simulated judgements" in body
    assert "Register model" in body
    assert "hx-get" not in body


def test_the_page_of_a_dpo_run_says_what_its_accuracy_is_of(world: World, finished: Run) -> None:
    """The baseline is the reference's own likelihood, another quantity than the implicit reward: no comparing them."""
    sentence = "For DPO the accuracy is that of the implicit reward; whether answers got better is for people"
    compared = "Where the model&#x27;s bar reaches"
    client, address = world.client("engineer"), url(world, "run_detail", number=1)
    body = client.get(address).content.decode()
    assert ("untrained model" in body, sentence in body) == (True, False)
    Run.objects.filter(pk=finished.pk).update(method="dpo", report=REPORT | {"method": "dpo"})
    body = client.get(address).content.decode()
    assert ("untrained model" in body, sentence in body) == (False, True)
    assert "reference&#x27;s own likelihood: 50.0 %" in body
    assert compared not in body
    assert "lies above every baseline" not in body


def test_metrics_are_read_on_from_where_one_stopped(world: World, finished: Run) -> None:
    client = world.client("engineer")
    address = url(world, "run_metrics", number=1)
    assert len(client.get(address).json()["rows"]) == 30
    answer = client.get(address + "?after=28").json()
    assert ([row["step"] for row in answer["rows"]], answer["next"], answer["active"]) == ([29, 30], 30, False)
    assert client.get(address + "?after=-1").json()["next"] == 30


def test_registering_a_run_makes_a_model_once(world: World, finished: Run) -> None:
    client = world.client("engineer")
    for name in ("helper", "helper again"):
        answer = client.post(url(world, "run_register", number=1), {"name": name})
    model = Model.objects.get(run=finished)
    assert (model.name, model.kind) == ("helper", "reward")
    assert answer.headers["Location"] == url(world, "model_detail", pk=model.pk)
    body = client.get(answer.headers["Location"]).content.decode()
    assert "71.0 %" in body
    assert world.snapshot.sha256 in body


def test_a_run_that_has_no_model_registers_none(world: World) -> None:
    answer = world.client("engineer").post(url(world, "run_register", number=1), {"name": "too soon"}, follow=True)
    assert "Only a training run that succeeded" in answer.content.decode()
    assert world.client("engineer").post(url(world, "run_register", number=1), {"name": ""}).status_code == 302
    assert Model.objects.count() == 1


def test_the_project_page_answers_four_questions(world: World, finished: Run) -> None:
    body = world.client("engineer").get(url(world, "project_detail")).content.decode()
    for said in ("How much is done", "How far people agree", "What the model learned", "71.0 %", "What to do next"):
        assert said in body


def test_an_annotator_sees_their_own_part_of_the_project_only(world: World, finished: Run) -> None:
    body = world.client("annotator").get(url(world, "project_detail")).content.decode()
    assert "slates ranked by you" in body
    for hidden in ("What the model learned", "comparisons", "snapshots/", "71.0 %"):
        assert hidden not in body


def test_the_pace_of_an_annotator_is_said_in_their_language(world: World) -> None:
    client = world.client("annotator")
    assert ">41 s<" in client.get(url(world, "project_detail")).content.decode()
    client.cookies["django_language"] = "zh-hans"
    assert ">41 秒<" in client.get(url(world, "project_detail")).content.decode()


def test_the_share_of_simulated_judgements_is_shown(world: World) -> None:
    Membership.objects.filter(rankings__isnull=False).update(kind="simulated", user=None)
    body = world.client("engineer").get(url(world, "project_detail")).content.decode()
    assert "100 % of judgements simulated" in body


def test_publishing_guidelines_adds_a_version(world: World) -> None:
    client = world.client("admin")
    client.post(url(world, "guidelines"), {"text": "Judge **truth** first."})
    body = client.get(url(world, "guidelines")).content.decode()
    assert "<strong>truth</strong>" in body
    assert "Rank by how helpful" in client.get(url(world, "guidelines") + "?version=1").content.decode()
    for version in ("9", "9" * 5000, "-1", "one", "1.0"):
        assert client.get(url(world, "guidelines") + f"?version={version}").status_code == 404, version[:10]
    assert client.post(url(world, "guidelines"), {"text": ""}).status_code == 422


def test_an_admin_sets_the_role_of_an_existing_user(world: World) -> None:
    client = world.client("admin")
    user = make_user("newcomer")
    client.post(url(world, "member_list"), {"username": "newcomer", "role": "reviewer"})
    assert Membership.objects.get(user=user).role == "reviewer"
    answer = client.post(url(world, "member_list"), {"username": "nobody", "role": "reviewer"})
    assert answer.status_code == 422
    assert "no user named nobody" in answer.content.decode()


def test_staff_make_a_project_and_are_its_admin(world: World) -> None:
    client = world.client("admin")
    user = world.user("admin")
    user.is_staff = True
    user.save()
    data = {
        "name": "Second", "slug": "second", "task": "ranking", "slate_size": 3, "overlap": 2, "guidelines": "Be kind.",
    }  # fmt: skip
    assert client.post(reverse("project_new"), data).status_code == 302
    assert Membership.objects.get(project__slug="second").role == "admin"
    for slug in ("second", "new", "no spaces"):
        assert client.post(reverse("project_new"), data | {"slug": slug}).status_code == 422
    assert Project.objects.count() == 2


def test_signing_in_and_out(world: World) -> None:
    make_user("walker")
    client = world.client("")
    wrong = client.post(reverse("login"), {"username": "walker", "password": "wrong"})
    assert wrong.status_code == 200
    assert client.post(reverse("login"), {"username": "walker", "password": "correct horse"}).status_code == 302
    assert client.post(reverse("logout")).headers["Location"] == reverse("login")


def test_the_language_can_be_chosen(world: World) -> None:
    client = world.client("admin")
    client.post(reverse("set_language"), {"language": "zh-hans", "next": "/"})
    assert '<html lang="zh-hans">' in client.get("/").content.decode()


def test_what_is_not_there_is_said_plainly(world: World) -> None:
    answer = world.client("admin").get("/nowhere/")
    assert answer.status_code == 404
    assert "There is nothing at this address" in answer.content.decode()


def test_the_page_of_a_failure_needs_nothing_that_may_have_failed() -> None:
    assert "The server failed" in render_to_string("500.html")


def test_numbers_are_short() -> None:
    assert (percent(0.7312), percent(None), percent("")) == ("73.1 %", "–", "–")
    assert (duration(59.6), duration(75), duration(7260), duration(None)) == (
        "1 min 0 s",
        "1 min 15 s",
        "2 h 1 min",
        "–",
    )


def test_the_plot_starts_below_its_lowest_interval() -> None:
    """The axis runs from 0.4 (x=170) to 1 (x=640); 0.7 lies in the middle, at 405."""
    heldout: dict[str, Any] = {"accuracy": 0.7, "interval": [0.6, 0.8]}
    report = {"heldout": heldout, "baselines": {"longer_wins": {"accuracy": 0.5}}}
    rows = interval_rows(report)
    assert [mark["x"] for mark in interval_plot(rows)["marks"]] == [405.0, 248.3]
    heldout["interval"] = [0.31, 0.8]
    assert interval_plot(interval_rows(report))["ticks"][0]["label"] == "30 %"
    assert interval_rows(None) == interval_rows({}) == []


def test_the_model_beats_a_baseline_only_where_its_whole_interval_does() -> None:
    def rows(low: float, by_prompt: float) -> list[object]:
        heldout = {"accuracy": 0.7, "interval": [low, 0.8], "interval_by_prompt": [by_prompt, 0.85]}
        return interval_rows({"heldout": heldout, "baselines": {"longer_wins": {"accuracy": 0.6}}})  # type: ignore

    assert [beats_baselines(rows(*case)) for case in [(0.65, 0.62), (0.65, 0.58), (0.55, 0.62)]] == [  # type: ignore
        True, False, False,
    ]  # fmt: skip


def test_the_table_of_metrics_is_thinned_and_keeps_the_end() -> None:
    rows = [{"step": step, "time": 1.0, "loss": step / 10} for step in range(1, 101)]
    table = metric_table(rows)
    assert metric_names(rows) == ["loss"]
    assert len(table) <= 12
    assert table[-1] == [100, 10.0]
    assert metric_table([]) == []


def test_the_log_of_a_run_without_one_is_empty(world: World) -> None:
    assert log_tail(world.run) == ""
