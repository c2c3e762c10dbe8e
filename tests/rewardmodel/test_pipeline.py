"""Pipelines in directories: SFT → RFT → reward → DPO on the tiny model, gates, and going on after a stop or a crash."""

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rewardmodel.cli import main
from rewardmodel.jobs import run_job
from rewardmodel.pipeline import render_state, run_pipeline
from rewardmodel.rundir import RunDir, RunDirBusyError, RunDirError, read_json, read_json_lines, write_json
from rewardmodel.stages import Pipeline, parse_pipeline
from tests.rewardmodel.tiny import GOOD_WORD, build_pairs, write_rows

MakeSpec = Callable[..., dict[str, Any]]
VERIFIER = {"kind": "constraints", "constraints": [{"type": "regex", "pattern": GOOD_WORD}]}


class Crash(BaseException):
    """The process dies."""


def run_quietly(run: RunDir) -> str:
    return run_job(run, show=False)


@pytest.fixture(scope="module")
def spec(tmp_path_factory: pytest.TempPathFactory, make_spec: MakeSpec, tiny_data: Path) -> dict[str, Any]:
    """A policy learns to end its answers, then to say the good word where a verifier looks, then as DPO from the
    attempts of the stage before; a reward model learns beside them, and the last stage checks what came of it."""
    root = tmp_path_factory.mktemp("pipeline-data")
    for split, seed in (("train", 1), ("test", 2)):
        pairs = build_pairs(96, seed=seed)
        both = [{"prompt": p["prompt"], "completion": p[side]} for p in pairs for side in ("chosen", "rejected")]
        write_rows(root / "answers" / f"{split}.jsonl", both)
        prompts = build_pairs(20, seed=seed, pairs_a_prompt=1)
        write_rows(root / "sums" / f"{split}.jsonl", [{"prompt": p["prompt"], "verifier": VERIFIER} for p in prompts])
    attempts = {"test_samples": 4, "pass_k": 2, "response_tokens": 24, "workers": 1}
    rft = make_spec(
        "rejection", model="@sft", data=str(root / "sums"), tuning="full", rounds=1, samples=4, max_samples=4,
        enough=None, epochs=3.0, report_samples=0, tensorboard=False, **attempts,
    )  # fmt: skip
    pairs_of_attempts = {"train": "@rft/pairs.jsonl", "test": str(tiny_data / "test.jsonl")}
    check = {"method": "check", "model": "@dpo", "data": str(root / "sums"), "max_length": 128, "threads": 1,
             "precision": "fp32", **attempts}  # fmt: skip
    sft = make_spec("sft", data=str(root / "answers"), tuning="full", epochs=4.0, report_samples=0)
    return {
        "stages": [
            {"name": "sft", "spec": sft, "gate": {"metric": "loss", "not_above": "start"}},
            {"name": "rft", "spec": rft, "gate": {"metric": "pass@1", "not_below": "start"}},
            {"name": "reward", "spec": make_spec("reward"), "gate": {"metric": "accuracy", "at_least": 0.6}},
            {"name": "dpo", "spec": make_spec("dpo", model="@rft", data=pairs_of_attempts, report_samples=0)},
            {"name": "check", "spec": check, "gate": {"metric": "pass@1", "not_below": "@rft", "tolerance": 0.2}},
        ]
    }


@pytest.fixture(scope="module")
def whole(spec: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("pipelines") / "whole"
    told = run_pipeline(parse_pipeline(spec), directory=directory, base=Path.cwd(), carry_out=run_quietly)
    assert told["state"] == "succeeded", told["message"]
    return directory


def test_sft_rft_reward_and_dpo_run_one_after_the_other_on_each_others_models(whole: Path) -> None:
    told = read_json(whole / "pipeline.json")
    assert [row["directory"] for row in told["stages"]] == ["01-sft", "02-rft", "03-reward", "04-dpo", "05-check"]
    assert [row["state"] for row in told["stages"]] == ["succeeded"] * 5
    assert [row["sources"] for row in told["stages"]] == [[], ["sft"], [], ["rft"], ["dpo"]]
    assert [row["figure"]["metric"] for row in told["stages"]] == ["loss", "pass@1", "accuracy", "accuracy", "pass@1"]
    assert [row["gate"] and row["gate"]["holds"] for row in told["stages"]] == [True, True, True, None, True]
    runs = {row["name"]: RunDir(whole / row["directory"]) for row in told["stages"]}
    dpo = runs["dpo"].read_spec()
    assert (dpo["model"], dpo["data"]["train"]) == (
        str(runs["rft"].outputs / "model"), str(runs["rft"].outputs / "pairs.jsonl")
    )  # fmt: skip
    rft = runs["rft"].read_report()
    gate = told["stages"][1]["gate"]
    assert (gate["value"], gate["bound"]) == (
        rft["heldout"]["pass_at_1"], rft["baselines"]["untrained"]["pass_at_1"]
    )  # fmt: skip
    assert gate["value"] > gate["bound"]
    last = told["stages"][4]["gate"]
    assert (last["bound"], last["against"]) == (rft["heldout"]["pass_at_1"], "rft")
    assert "pass@1" in render_state(told).splitlines()[4]


def test_a_check_measures_what_a_rejection_run_says_of_the_same_model(
    whole: Path, spec: dict[str, Any], tmp_path: Path
) -> None:
    """The model that stage rft made, checked with its settings and seed: the very answers of its last round."""
    settings = {**spec["stages"][4]["spec"], "model": str(whole / "02-rft" / "outputs" / "model")}
    run = RunDir(tmp_path / "check").create(settings)
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    report, rft = run.read_report(), RunDir(whole / "02-rft").read_report()
    for name in ("pass_at_1", "interval", "pass_at_k", "n", "n_prompts"):
        assert report["heldout"][name] == rft["heldout"][name], name
    answers = read_json_lines(run.outputs / "answers.jsonl")
    assert answers == read_json_lines(whole / "02-rft" / "rounds" / "1" / "heldout.jsonl")
    assert report["heldout"]["pass_at_1"] == pytest.approx(sum(GOOD_WORD in row["response"] for row in answers) / 80)


def test_a_finished_pipeline_is_left_as_it_is(whole: Path, spec: dict[str, Any]) -> None:
    weights = whole / "04-dpo" / "outputs" / "model" / "model.safetensors"
    before = weights.stat().st_mtime_ns
    told = run_pipeline(parse_pipeline(spec), directory=whole, base=Path.cwd(), carry_out=run_quietly)
    assert (told["state"], weights.stat().st_mtime_ns) == ("succeeded", before)


def test_a_stage_begun_with_other_settings_is_not_mixed_with_new_ones(whole: Path, spec: dict[str, Any]) -> None:
    changed = json.loads(json.dumps(spec))
    changed["stages"][1]["spec"]["samples"] = 3
    with pytest.raises(RunDirError, match=r"stage rft: .*02-rft was begun with other settings \(samples\)"):
        run_pipeline(parse_pipeline(changed), directory=whole, base=Path.cwd(), carry_out=run_quietly)


class Pretended:
    """Runs that end at once with a report of one's own: how often each was carried out, and how it ended."""

    def __init__(self, **accuracies: float) -> None:
        self.accuracies = accuracies
        self.calls: list[str] = []

    def __call__(self, run: RunDir) -> str:
        name = run.path.name[3:]
        self.calls.append(name)
        report = {"heldout": {"accuracy": self.accuracies[name], "interval": [0.1, 0.9]}, "baselines": {}}
        run.write_report(report)
        run.write_status(state="succeeded")
        return "succeeded"


def chain(*, gate: dict[str, Any] | None = None) -> Pipeline:
    first = {"name": "first", "spec": {"method": "dpo", "data": "pairs"}}
    second = {"name": "second", "spec": {"method": "dpo", "model": "@first", "data": "pairs"},
              "gate": gate or {"metric": "accuracy", "not_below": "@first"}}  # fmt: skip
    third = {"name": "third", "spec": {"method": "dpo", "model": "@second", "data": "pairs"}}
    return parse_pipeline({"stages": [first, second, third]})


def test_a_gate_that_does_not_hold_stops_the_pipeline_and_another_gate_lets_it_go_on(tmp_path: Path) -> None:
    pretended = Pretended(first=0.7, second=0.6, third=0.8)
    told = run_pipeline(chain(), directory=tmp_path, base=tmp_path, carry_out=pretended)
    assert (told["state"], pretended.calls) == ("held", ["first", "second"])
    assert told["message"] == (
        "stage second: its gate does not hold: accuracy 0.6 (0.1 to 0.9), wanted at least 0.7 of stage first: does not "
        "hold. To go on, change the gate and start again; for another try at the stage change its settings in a new "
        "directory"
    )
    assert [row["state"] for row in told["stages"]] == ["succeeded", "succeeded", "waiting"]
    assert read_json(tmp_path / "pipeline.json")["state"] == "held"
    looser = chain(gate={"metric": "accuracy", "not_below": "@first", "tolerance": 0.15})
    told = run_pipeline(looser, directory=tmp_path, base=tmp_path, carry_out=pretended)
    assert (told["state"], pretended.calls[-1]) == ("succeeded", "third")
    assert RunDir(tmp_path / "03-third").read_spec()["model"] == str(tmp_path / "02-second" / "outputs" / "model")


def test_a_gate_without_its_figure_fails_the_pipeline_with_the_place(tmp_path: Path) -> None:
    gate = {"metric": "heldout.acuracy", "at_least": 0.5}
    told = run_pipeline(chain(gate=gate), directory=tmp_path, base=tmp_path, carry_out=Pretended(first=1, second=1))
    assert (told["state"], told["message"]) == (
        "failed", "the report of stage second has no number at heldout.acuracy; its gate cannot be judged"
    )  # fmt: skip


def test_a_pipeline_that_died_between_stages_goes_on_with_the_next(tmp_path: Path) -> None:
    pretended = Pretended(first=0.7, second=0.7, third=0.8)

    def die_before_second(run: RunDir) -> str:
        if run.path.name == "02-second":
            raise Crash
        return pretended(run)

    with pytest.raises(Crash):
        run_pipeline(chain(), directory=tmp_path, base=tmp_path, carry_out=die_before_second)
    assert read_json(tmp_path / "pipeline.json")["state"] == "running"
    told = run_pipeline(chain(), directory=tmp_path, base=tmp_path, carry_out=pretended)
    assert (told["state"], pretended.calls) == ("succeeded", ["first", "first", "second", "third"])


def test_what_was_begun_otherwise_is_refused_before_any_stage_runs(tmp_path: Path) -> None:
    """The third stage with other settings, then with a second stage that was run again after it."""
    pretended = Pretended(first=0.7, second=0.7, third=0.8)
    assert run_pipeline(chain(), directory=tmp_path, base=tmp_path, carry_out=pretended)["state"] == "succeeded"
    for started, name in enumerate(("01-first", "02-second", "03-third"), start=100):
        RunDir(tmp_path / name).write_status(started_at=started)
    third = RunDir(tmp_path / "03-third")
    asked = third.read_spec()
    write_json(third.spec_file, {**asked, "beta": 0.7})
    with pytest.raises(RunDirError, match=r"stage third: .* was begun with other settings \(beta\)"):
        run_pipeline(chain(), directory=tmp_path, base=tmp_path, carry_out=pretended)
    write_json(third.spec_file, asked)
    RunDir(tmp_path / "02-second").write_status(started_at=200)
    with pytest.raises(RunDirError, match=r"stage third: .* was begun before stage second was run anew"):
        run_pipeline(chain(), directory=tmp_path, base=tmp_path, carry_out=pretended)
    assert pretended.calls == ["first", "second", "third"]
    assert read_json(tmp_path / "pipeline.json")["state"] == "succeeded"


def test_a_request_to_stop_that_a_stage_no_longer_heard_stops_before_the_next(tmp_path: Path) -> None:
    pretended = Pretended(first=0.7, second=0.7, third=0.8)

    def ask_late(run: RunDir) -> str:
        run.request_cancel()
        return pretended(run)

    told = run_pipeline(chain(), directory=tmp_path, base=tmp_path, carry_out=ask_late)
    assert (told["state"], told["message"]) == ("cancelled", "stopped after stage first")
    assert run_pipeline(chain(), directory=tmp_path, base=tmp_path, carry_out=pretended)["state"] == "succeeded"


def test_a_stage_that_fails_is_named_and_tried_again_by_the_next_start(tmp_path: Path) -> None:
    def fail(run: RunDir) -> str:
        run.write_status(state="failed", error="data: pairs is not a directory")
        return "bad input"

    told = run_pipeline(chain(), directory=tmp_path, base=tmp_path, carry_out=fail)
    assert (told["state"], told["message"]) == ("failed", "stage first: data: pairs is not a directory")
    pretended = Pretended(first=0.7, second=0.7, third=0.8)
    assert run_pipeline(chain(), directory=tmp_path, base=tmp_path, carry_out=pretended)["state"] == "succeeded"


def test_one_process_at_a_time_works_on_a_pipeline(tmp_path: Path) -> None:
    def begin_again(run: RunDir) -> str:
        run_pipeline(chain(), directory=tmp_path, base=tmp_path, carry_out=run_quietly)
        raise AssertionError

    with pytest.raises(RunDirBusyError):
        run_pipeline(chain(), directory=tmp_path, base=tmp_path, carry_out=begin_again)


def test_a_pipeline_killed_within_a_stage_resumes_it_from_its_checkpoint(make_spec: MakeSpec, tmp_path: Path) -> None:
    """Killed with its child after step 12 of the second stage, whose checkpoints come every five: no step twice."""
    first = make_spec("dpo", max_steps=2, report_samples=0)
    second = make_spec("dpo", model="@first", max_steps=40, save_steps=5, logging_steps=1, report_samples=0)
    file = tmp_path / "pipeline.yaml"
    file.write_text(json.dumps({"stages": [{"name": "first", "spec": first}, {"name": "second", "spec": second}]}))
    directory = tmp_path / "whole"
    command = [sys.executable, "-m", "rewardmodel", "pipeline", str(file), "--dir", str(directory), "--json"]
    run = RunDir(directory / "02-second")
    process = subprocess.Popen(command, start_new_session=True, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while max([row["step"] for row in run.read_metrics()], default=0) < 12:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.02)
    subprocess.run(["kill", "-9", "--", f"-{process.pid}"], check=True)
    process.wait()
    killed_at = time.time()
    assert run.read_status()["state"] == "running"
    done = subprocess.run(command, capture_output=True, text=True)
    told = json.loads(done.stdout.splitlines()[-1])
    assert (done.returncode, told["state"]) == (0, "succeeded"), done.stderr
    rows = [row for row in run.read_metrics() if "loss" in row]
    assert [row["step"] for row in rows] == list(range(1, 41))
    assert rows[4]["time"] < killed_at < rows[-1]["time"]


def test_the_command_ends_with_5_where_a_gate_does_not_hold_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pretended = Pretended(only=0.5)
    monkeypatch.setattr("rewardmodel.pipeline.run_in_process", lambda run, *, unsafe_code: pretended(run))
    gate = {"metric": "accuracy", "at_least": 0.6}
    file = tmp_path / "pipeline.yaml"
    stage = {"name": "only", "spec": {"method": "dpo", "data": "pairs"}, "gate": gate}
    file.write_text(json.dumps({"stages": [stage]}))
    assert main(["pipeline", str(file), "--dir", str(tmp_path / "out")]) == 5
    told = capsys.readouterr()
    said = "accuracy 0.5 (0.1 to 0.9), wanted at least 0.6: does not hold"
    assert " ".join(told.out.split()) == f"01-only dpo succeeded accuracy 0.5 (0.1 to 0.9) gate: {said}"
    assert "rewardmodel: held: stage only: its gate does not hold" in told.err


def test_the_command_names_what_is_wrong_and_ends_with_its_code(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "pipeline.yaml"
    file.write_text("stages: [{name: a, spec: {method: sft, data: x, epoch: 1}}]")
    assert main(["pipeline", str(file), "--dir", str(tmp_path / "out")]) == 2
    assert "pipeline.yaml: stage a: spec: unknown 'epoch': did you mean 'epochs'?" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
