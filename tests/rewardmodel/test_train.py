"""Both trainers end to end on the tiny model: they learn, count, check, resume and stop."""

import json
import math
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rewardmodel.jobs import run_job
from rewardmodel.rundir import RunDir
from tests.rewardmodel.tiny import build_data, build_pairs, write_rows

MakeSpec = Callable[..., dict[str, Any]]


def test_a_reward_model_learns_the_word_that_decides_on_held_out_pairs(reward_run: RunDir) -> None:
    """Every chosen response holds the word; the figure is on prompts never trained on."""
    report = reward_run.read_report()
    assert report["heldout"]["n"] == 60
    assert report["heldout"]["accuracy"] >= 0.9
    assert report["heldout"]["interval"][0] > report["baselines"]["longer_wins"]["interval"][1]
    assert report["heldout"]["interval"][0] > report["baselines"]["untrained"]["accuracy"]
    assert report["heldout"]["log_loss"] < report["baselines"]["untrained"]["log_loss"]
    assert report["trained_on"] == {"pairs": 96, "prompts": 48, "steps": 60}


def test_a_finished_run_tells_its_whole_story(reward_run: RunDir) -> None:
    status = reward_run.read_status()
    assert (status["state"], status["phase"], status["step"], status["total_steps"]) == (
        "succeeded",
        "done",
        60,
        60,
    )
    steps = [row["step"] for row in reward_run.read_metrics()]
    assert steps == [1, *range(5, 61, 5)]
    provenance = json.loads(reward_run.provenance_file.read_text())
    assert sorted(provenance["data_sha256"]) == ["test", "train"]
    card = (reward_run.outputs / "model" / "README.md").read_text()
    rows = [line.split("|")[1].strip() for line in card.splitlines() if line.startswith("| ")]
    assert rows == ["", "---", "this model", "untrained", "the longer response wins"]
    assert "simulated" not in card


def test_a_policy_learns_by_dpo_on_held_out_pairs(dpo_run: RunDir) -> None:
    report = dpo_run.read_report()
    assert report["heldout"]["accuracy"] >= 0.9
    assert report["heldout"]["interval"][0] > report["baselines"]["untrained"]["interval"][1]
    assert report["baselines"]["untrained"]["log_loss"] == pytest.approx(math.log(2))
    assert report["heldout"]["log_loss"] < math.log(2)
    assert [sorted(sample) for sample in report["samples"]] == [["after", "before", "prompt"]] * 2


@pytest.mark.parametrize("method", ["reward", "dpo"])
def test_full_fine_tuning_ends_in_a_model_too(tmp_path: Path, make_spec: MakeSpec, method: str) -> None:
    spec = make_spec(method, tuning="full", max_steps=3, learning_rate=1e-3, precision="auto")
    run = RunDir(tmp_path).create(spec | ({"report_samples": 1} if method == "dpo" else {}))
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    assert (run.outputs / "model" / "model.safetensors").is_file()


def test_trl_trains_on_the_loss_and_the_scores_that_we_report(
    tmp_path: Path, make_spec: MakeSpec, tiny_data: Path
) -> None:
    """With test = train in one batch, TRL's first loss is the mean of -log sigmoid(r_c - r_r) over the very pairs whose
    log loss the untrained baseline reports: one template, one reading position, one loss."""
    data = {"train": str(tiny_data / "test.jsonl"), "test": str(tiny_data / "test.jsonl")}
    run = RunDir(tmp_path).create(make_spec("reward", data=data, batch_size=60, max_steps=1))
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    report = run.read_report()
    assert run.read_metrics()[0]["loss"] == pytest.approx(report["baselines"]["untrained"]["log_loss"], abs=1e-6)
    assert report["notes"] == ["30 prompts of the test split are in the training split too"]


def test_margins_in_the_data_enter_the_loss(tmp_path: Path, make_spec: MakeSpec) -> None:
    """A margin m moves the loss of a pair with reward difference near 0 to about log(1 + e^m): 2.127 for m = 2."""
    for split in ("train", "test"):
        write_rows(tmp_path / "data" / f"{split}.jsonl", [{**row, "margin": 2} for row in build_pairs(8)])
    run = RunDir(tmp_path / "run").create(make_spec("reward", data=str(tmp_path / "data"), max_steps=1))
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    assert run.read_metrics()[0]["loss"] == pytest.approx(math.log(1 + math.exp(2)), abs=0.05)


def test_simulated_annotators_are_named_in_report_and_card(tmp_path: Path, make_spec: MakeSpec) -> None:
    data = build_data(tmp_path / "data", train=8, test=4)
    (data / "manifest.json").write_text('{"simulated": true}')
    run = RunDir(tmp_path / "run").create(make_spec("reward", data="../data", max_steps=1))
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    assert run.read_report()["simulated"] is True
    card = (run.outputs / "model" / "README.md").read_text()
    assert "Trained on judgements of simulated annotators" in card


def test_dropped_pairs_are_in_the_report(tmp_path: Path, make_spec: MakeSpec) -> None:
    data = build_data(tmp_path / "data", train=8, test=4)
    long = {"prompt": "the cat", "chosen": "sat", "rejected": "fell " * 200}
    write_rows(data / "train.jsonl", [*build_pairs(8), long])
    run = RunDir(tmp_path / "run").create(make_spec("reward", data=str(data), max_steps=1))
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    assert run.read_report()["dropped"] == {
        "train": {"too_long": 1, "identical": 0},
        "test": {"too_long": 0, "identical": 0},
    }


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"max_length": 1000}, "max_length: 1000 tokens, but the model reads 256"),
        ({"max_length": 8}, "no usable pair is left; dropped 96 longer than max_length 8"),
        ({"data": "nowhere"}, "is not a directory"),
        ({"model": "no-such-model"}, "model: 'no-such-model' was not found"),
        ({"device": "cuda"}, "device: cuda was asked for"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_training(
    tmp_path: Path, make_spec: MakeSpec, changes: dict[str, Any], error: str
) -> None:
    import torch

    if changes.get("device") == "cuda" and torch.cuda.is_available():
        pytest.skip("this machine has a CUDA device")
    run = RunDir(tmp_path).create(make_spec("reward", **changes))
    assert run_job(run, show=False) == "bad input"
    assert error in run.read_status()["error"]
    assert run.read_metrics() == []


def test_a_loss_that_is_no_number_stops_the_run(tmp_path: Path) -> None:
    from types import SimpleNamespace

    from rewardmodel.progress import Progress
    from rewardmodel.train.common import RunReporter, TrainingError

    reporter = RunReporter(RunDir(tmp_path), progress=Progress(show=False))
    with pytest.raises(TrainingError, match="the loss is nan at step 3: lower learning_rate"):
        reporter.on_log(None, SimpleNamespace(global_step=3), None, logs={"loss": math.nan})


def test_what_breaks_by_our_own_fault_leaves_its_traceback(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any, **kwargs: Any) -> None:
        raise ValueError("a margin is not a finite number")

    monkeypatch.setattr("rewardmodel.train.reward.summarize_pairs", fail)
    run = RunDir(tmp_path / "run").create(make_spec("reward"))
    assert run_job(run, show=False) == "failed"
    assert run.read_status()["error"] == "ValueError: a margin is not a finite number"
    assert "Traceback" in (run.path / "error.log").read_text()


def test_a_finished_run_is_left_as_it_is(reward_run: RunDir) -> None:
    before = reward_run.status_file.read_text()
    assert run_job(reward_run, show=False) == "succeeded"
    assert reward_run.status_file.read_text() == before


@pytest.mark.parametrize("method", ["reward", "dpo"])
def test_a_killed_run_resumes_to_the_very_model_of_an_uninterrupted_one(
    tmp_path: Path, make_spec: MakeSpec, method: str
) -> None:
    """SIGKILL after the checkpoint of step 10, then a second start: weights and losses are equal to the last bit."""
    samples = {"report_samples": 0} if method == "dpo" else {}
    spec = make_spec(method, max_steps=60, save_steps=10, **samples)
    whole = RunDir(tmp_path / "whole").create(spec)
    assert run_job(whole, show=False) == "succeeded", whole.read_status()["error"]
    killed = RunDir(tmp_path / "killed").create(spec)
    process = start(killed)
    wait_for(killed.checkpoints / "checkpoint-10" / "manifest.json", process=process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert killed.read_status()["state"] == "running"
    assert run_job(killed, show=False) == "succeeded", killed.read_status()["error"]
    weights = [(run.outputs / "model" / "model.safetensors").read_bytes() for run in (whole, killed)]
    assert weights[0] == weights[1]
    losses = [[(row["step"], row["loss"]) for row in run.read_metrics()] for run in (whole, killed)]
    assert losses[0] == losses[1]


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_run_that_died_after_its_last_step_only_evaluates_again(
    tmp_path: Path, make_spec: MakeSpec, tuning: str
) -> None:
    run = RunDir(tmp_path / "run").create(make_spec("reward", max_steps=10, save_steps=4, tuning=tuning))
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    weights, metrics, report = (
        (run.outputs / "model" / "model.safetensors").read_bytes(),
        run.read_metrics(),
        run.read_report(),
    )
    run.write_status(state="running")
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    assert (run.outputs / "model" / "model.safetensors").read_bytes() == weights
    assert run.read_metrics() == metrics
    assert run.read_report() | {"seconds": 0} == report | {"seconds": 0}


def test_sigterm_leaves_a_checkpoint_and_the_state_cancelled(tmp_path: Path, make_spec: MakeSpec) -> None:
    run = RunDir(tmp_path).create(make_spec("reward", max_steps=2000, save_steps=2000))
    process = start(run)
    wait_for(run.metrics_file, process=process)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=60) == 4
    status = run.read_status()
    assert status["state"] == "cancelled"
    (checkpoint,) = run.checkpoints.glob("checkpoint-*")
    step = int(checkpoint.name.removeprefix("checkpoint-"))
    assert (checkpoint / "manifest.json").is_file()
    assert status["message"] == f"cancelled at step {step}; the checkpoint is kept"


def test_a_run_cancelled_while_queued_never_starts(tmp_path: Path, make_spec: MakeSpec) -> None:
    run = RunDir(tmp_path).create(make_spec("reward"))
    run.request_cancel()
    assert run_job(run, show=False) == "cancelled"
    assert run.read_status()["state"] == "cancelled"


def test_remains_of_a_killed_save_are_removed_and_a_changed_checkpoint_is_refused(tmp_path: Path) -> None:
    from rewardmodel.train.common import TrainingError, find_checkpoint, seal_checkpoint

    run = RunDir(tmp_path)
    for step in (10, 20):
        directory = run.checkpoints / f"checkpoint-{step}"
        directory.mkdir(parents=True)
        (directory / "optimizer.pt").write_bytes(b"state")
    seal_checkpoint(run.checkpoints / "checkpoint-10")
    assert find_checkpoint(run) == run.checkpoints / "checkpoint-10"
    assert not (run.checkpoints / "checkpoint-20").exists()
    (run.checkpoints / "checkpoint-10" / "optimizer.pt").write_bytes(b"evil")
    with pytest.raises(TrainingError, match=r"optimizer\.pt changed since it was saved"):
        find_checkpoint(run)


def test_data_that_changed_under_a_run_are_refused_on_resume(tmp_path: Path, make_spec: MakeSpec) -> None:
    data = build_data(tmp_path / "data", train=8, test=4)
    run = RunDir(tmp_path / "run").create(make_spec("reward", data=str(data), max_steps=1))
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    run.write_status(state="failed")
    write_rows(data / "train.jsonl", build_pairs(8, seed=9))
    assert run_job(run, show=False) == "bad input"
    assert run.read_status()["error"] == "data: train changed since this run began; start a new run"


def start(run: RunDir) -> "subprocess.Popen[bytes]":
    return subprocess.Popen(
        [sys.executable, "-m", "rewardmodel", "run", str(run.path)],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )


def wait_for(file: Path, *, process: "subprocess.Popen[bytes]", seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not file.exists():
        assert process.poll() is None, "the run ended too early"
        assert time.monotonic() < deadline, f"{file} did not appear"
        time.sleep(0.005)
