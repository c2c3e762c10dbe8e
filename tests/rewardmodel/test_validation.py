"""The validation split of reward models and DPO: figures as training goes on, early stopping, exact resumes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from rewardmodel.chat import encode_split
from rewardmodel.compute import Compute
from rewardmodel.contract import SpecError, parse_spec
from rewardmodel.data import read_pairs
from rewardmodel.evaluate import completion_log_probs, evaluate_reward_model
from rewardmodel.jobs import run_job
from rewardmodel.models import load_policy, load_tokenizer
from rewardmodel.rundir import RunDir
from rewardmodel.train.common import settle_eval_steps
from tests.rewardmodel.test_train_reward import build_rankings
from tests.rewardmodel.tiny import build_pairs, write_rows

MakeSpec = Callable[..., dict[str, Any]]
CPU = Compute(device="cpu", precision="fp32")


@pytest.fixture(scope="module")
def splits(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Pairs in three splits of different prompts; some held-out prompts have a ranking of four."""
    root = tmp_path_factory.mktemp("splits")
    for seed, (split, n) in enumerate({"train": 64, "validation": 22, "test": 24}.items()):
        rows = build_pairs(n, seed=seed)
        write_rows(root / f"{split}.jsonl", rows if split == "train" else [*rows, *build_rankings(3, seed=seed)])
    return {split: str(root / f"{split}.jsonl") for split in ("train", "validation", "test")}


def train(directory: Path, spec: dict[str, Any]) -> RunDir:
    run = RunDir(directory).create(spec)
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    return run


def rows_of(run: RunDir) -> list[dict[str, Any]]:
    return [{**row, "time": 0} for row in run.read_metrics()]


def weights_of(run: RunDir) -> bytes:
    return (run.outputs / "model" / "model.safetensors").read_bytes()


def find_held_out(run: RunDir) -> dict[int, float]:
    return {row["step"]: row["eval_loss"] for row in run.read_metrics() if "eval_loss" in row}


@pytest.mark.parametrize("packing", ["padded", "packed"])
def test_a_reward_models_validation_is_what_evaluate_says_of_the_saved_model(
    tmp_path: Path, make_spec: MakeSpec, splits: dict[str, str], packing: str
) -> None:
    """22 pairs and 3 rankings of 6 pairs: at steps 3 and 6, and at the last, 7; log loss and accuracy to 1e-6."""
    spec = make_spec(
        "reward", data=splits, tuning="full", max_steps=7, eval_steps=3, batch_tokens=200, packing=packing,
        learning_rate=1e-3
    )  # fmt: skip
    run = train(tmp_path, spec)
    assert list(find_held_out(run)) == [3, 6, 7]
    figures = evaluate_reward_model(str(run.outputs / "model"), data=splits["validation"], precision="fp32", threads=1)
    assert figures["n"] == 40
    last = run.read_metrics()[-1]
    assert last["eval_loss"] == pytest.approx(figures["log_loss"], abs=1e-6)
    assert last["eval_accuracy"] == pytest.approx(figures["accuracy"])
    report = run.read_report()
    assert report["best_step"] is None
    assert list(report["dropped"]) == ["train", "validation", "test"]


@pytest.mark.parametrize("loss_type", ["sigmoid", "ipo", "simpo"])
def test_a_policys_validation_is_its_own_loss_on_held_out_pairs(
    tmp_path: Path, make_spec: MakeSpec, splits: dict[str, str], tiny_model: Path, loss_type: str
) -> None:
    """Read apart in float32: -log sigmoid(0.1 d), (d a token - 1 / 0.2)^2, -log sigmoid(2 d a token - 1)."""
    spec = make_spec(
        "dpo", data=splits, tuning="full", max_steps=3, eval_steps=2, loss_type=loss_type, learning_rate=1e-3,
        report_samples=0
    )  # fmt: skip
    run = train(tmp_path, spec)
    assert list(find_held_out(run)) == [2, 3]
    tokenizer = load_tokenizer(tiny_model)
    pairs = encode_split(tokenizer, pairs=read_pairs(splits["validation"]), max_length=128).pairs
    found = [
        completion_log_probs(
            load_policy(path, tokenizer=tokenizer, compute=CPU, dtype=torch.float32), pairs=pairs, compute=CPU
        )
        for path in (run.outputs / "model", tiny_model)
    ]
    ratios = found[0] if loss_type == "simpo" else found[0] - found[1]
    per_token = ratios / np.array([[len(item.chosen_ids), len(item.rejected_ids)] for item in pairs])
    lead, normal = ratios[:, 0] - ratios[:, 1], per_token[:, 0] - per_token[:, 1]
    each = {
        "sigmoid": np.logaddexp(0, -0.1 * lead),
        "ipo": (normal - 1 / 0.2) ** 2,
        "simpo": np.logaddexp(0, -(2 * normal - 1)),
    }
    last = run.read_metrics()[-1]
    assert last["eval_loss"] == pytest.approx(each[loss_type].mean(), rel=1e-4)
    assert last["eval_accuracy"] == pytest.approx(np.mean(lead > 0))


STOPPING: dict[str, dict[str, Any]] = {
    "reward": {"learning_rate": 0.03, "tuning": "full", "eval_steps": 2, "epochs": 10.0},
    "dpo": {"learning_rate": 0.01, "tuning": "full", "eval_steps": 2, "epochs": 10.0, "beta": 1.0, "report_samples": 0},
}


@pytest.mark.parametrize("method", list(STOPPING))
def test_training_stops_early_and_keeps_the_best_weights(
    tmp_path: Path, make_spec: MakeSpec, splits: dict[str, str], method: str
) -> None:
    """A rate that overshoots; the test split, swapped for another, changes nothing of it."""
    spec = make_spec(method, data=splits, **STOPPING[method], warmup_ratio=0.0, save_steps=3, early_stopping_patience=2)
    run = train(tmp_path / "run", spec)
    losses = find_held_out(run)
    best = min(losses, key=lambda step: (losses[step], step))
    assert max(losses) == best + 4 < 80
    report = run.read_report()
    assert report["best_step"] == best
    assert report["trained_on"]["steps"] == best + 4
    assert report["notes"] == [
        f"training stopped at step {best + 4}; the weights are those of step {best}, the best validated"
    ]
    assert run.read_status()["step"] == best + 4
    kept = load_file(run.checkpoints / f"checkpoint-{best}" / "state.safetensors")
    saved = load_file(run.outputs / "model" / "model.safetensors")
    assert all(kept[f"weight/{name}"].equal(value) for name, value in saved.items())
    other = train(tmp_path / "other", spec | {"data": splits | {"test": splits["train"]}})
    assert rows_of(other) == rows_of(run)
    assert weights_of(other) == weights_of(run)
    # A run that died after its last step stops at once, with the same weights.
    run.write_status(state="running")
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    assert weights_of(run) == weights_of(other)
    assert run.read_report()["best_step"] == best


@pytest.mark.parametrize("method", list(STOPPING))
@pytest.mark.parametrize("cancelled_at", [3, 6])
def test_a_stopped_run_resumes_to_the_same_figures_and_the_same_end(
    tmp_path: Path,
    make_spec: MakeSpec,
    splits: dict[str, str],
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    cancelled_at: int,
) -> None:
    """Cancelled after one validation, or after three, of which the last was just then; equal to the last digit."""
    settings = STOPPING[method] | {"early_stopping_patience": 3, "save_steps": 3, "warmup_ratio": 0.0}
    spec = make_spec(method, data=splits, **settings | {"max_steps": 20})
    whole = train(tmp_path / "whole", spec)
    stopped = RunDir(tmp_path / "stopped").create(spec)

    monkeypatch.setattr("rewardmodel.train.loop._take_step", cancel_when(stopped, done=cancelled_at))
    assert run_job(stopped, show=False) == "cancelled"
    monkeypatch.undo()
    assert stopped.read_status()["message"] == f"cancelled at step {cancelled_at}; the checkpoint is kept"
    assert list(find_held_out(stopped)) == [step for step in (2, 4, 6) if step <= cancelled_at]
    assert run_job(stopped, show=False) == "succeeded", stopped.read_status()["error"]
    assert rows_of(whole) == rows_of(stopped)
    assert weights_of(whole) == weights_of(stopped)
    assert whole.read_report() | {"seconds": 0} == stopped.read_report() | {"seconds": 0}


def cancel_when(run: RunDir, *, done: int) -> Callable[[Any], None]:
    """A step of training, after which someone asks for a stop."""
    from rewardmodel.train.loop import _take_step

    def take(training: Any) -> None:
        _take_step(training)
        if training.done == done:
            run.request_cancel()

    return take


@pytest.mark.parametrize("changes", [{"method": "reward"}, {"method": "dpo"}, {"method": "reward", "loss": "ratings"}])
def test_early_stopping_without_a_validation_split_is_refused_before_training(
    tmp_path: Path, make_spec: MakeSpec, splits: dict[str, str], changes: dict[str, Any]
) -> None:
    """Also where its file is there and empty, as in a small snapshot."""
    for name, file in {"missing": None, "empty": write_rows(tmp_path / "validation.jsonl", [])}.items():
        data = {split: splits[split] for split in ("train", "test")} | ({"validation": str(file)} if file else {})
        run = RunDir(tmp_path / name).create(make_spec(**changes, data=data, early_stopping_patience=1))
        assert run_job(run, show=False) == "bad input"
        assert run.read_status()["error"].startswith("early_stopping_patience: there is no validation split")
        assert run.read_metrics() == []


def test_a_validation_split_without_a_strict_judgement_is_none_unless_it_is_to_be_watched(
    tmp_path: Path, make_spec: MakeSpec, splits: dict[str, str]
) -> None:
    ties = write_rows(tmp_path / "validation.jsonl", [{**row, "ranks": [1, 1, 1, 1]} for row in build_rankings(2)])
    spec = make_spec("reward", data=splits | {"validation": str(ties)}, max_steps=1)
    run = train(tmp_path / "unwatched", spec)
    assert find_held_out(run) == {}
    assert run.read_report()["dropped"]["validation"] == {"too_long": 0, "identical": 0, "tied": 12}
    run = RunDir(tmp_path / "watched").create(spec | {"early_stopping_patience": 1})
    assert run_job(run, show=False) == "bad input"
    assert "no usable pair is left" in run.read_status()["error"]


def test_ratings_are_validated_by_the_squared_error_a_rating(tmp_path: Path, make_spec: MakeSpec) -> None:
    """At a rate that moves nothing, the untrained outputs: errors over the known ratings, means and deviations of
    training taken off. One response has two scales, one has one."""
    from rewardmodel.chat import encode_conversation
    from rewardmodel.models import create_reward_model
    from rewardmodel.reading import build_rectangle, find_parts, read_last

    prompt = "the cat"
    rows = [
        {"prompt": prompt, "response": "one", "ratings": {"a": 1, "b": 0}},
        {"prompt": prompt, "response": "two", "ratings": {"a": 3, "b": 4}},
    ]
    held = [
        {"prompt": "on", "response": "a mat", "ratings": {"a": 3, "b": 6}},
        {"prompt": "on", "response": "rain", "ratings": {"a": 0}},
    ]
    files = {"train": rows, "validation": held, "test": rows}
    data = {split: str(write_rows(tmp_path / f"{split}.jsonl", lines)) for split, lines in files.items()}
    spec = make_spec("reward", data=data, loss="ratings", tuning="full", max_steps=2, learning_rate=1e-30)
    run = train(tmp_path / "run", spec | {"early_stopping_patience": 1, "eval_steps": 1})
    tokenizer = load_tokenizer(Path(spec["model"]))
    model = create_reward_model(Path(spec["model"]), tokenizer=tokenizer, compute=CPU, seed=0, outputs=2)
    turns = [
        [{"role": "user", "content": row["prompt"]}, {"role": "assistant", "content": row["response"]}] for row in held
    ]
    ids = [encode_conversation(tokenizer, messages=messages) for messages in turns]
    with torch.no_grad():
        out = find_parts(model)[1](read_last(model, batch=build_rectangle(ids, pad_id=0, device="cpu"))).tolist()
    # a: mean 2, deviation 1; b: mean 2, deviation 2.
    errors = [out[0][0] - 1, out[0][1] - 2, out[1][0] + 2]
    expected = sum(error**2 for error in errors) / 3
    assert list(find_held_out(run).values()) == pytest.approx([expected, expected], rel=1e-5)
    assert run.read_report()["best_step"] == 1


def test_steps_between_validations_are_a_hundred_or_a_tenth_of_a_longer_run() -> None:
    spec: Any = parse_spec({"method": "reward", "data": "-"})
    assert [settle_eval_steps(spec, steps=steps) for steps in (7, 1000, 1001, 25000)] == [100, 100, 101, 2500]
    chosen: Any = parse_spec({"method": "dpo", "data": "-", "eval_steps": 7})
    assert settle_eval_steps(chosen, steps=25000) == 7


def test_the_head_alone_has_nothing_to_stop() -> None:
    with pytest.raises(SpecError, match="early_stopping_patience: tuning head"):
        parse_spec({"method": "reward", "data": "-", "tuning": "head", "early_stopping_patience": 1})
