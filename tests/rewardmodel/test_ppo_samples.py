"""What a run of PPO or its kin tells while it goes on: answers to the same prompts, warnings, and scores in pairs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rewardmodel.jobs import run_job
from rewardmodel.rundir import RunDir
from rewardmodel.train import memory, ppo
from rewardmodel.train.ppo_report import compare_scores
from tests.rewardmodel.test_train_ppo import finish, read_weights

MakePPO = Callable[..., dict[str, Any]]


def test_the_same_prompts_are_answered_as_the_training_goes_on(tmp_path: Path, make_ppo: MakePPO) -> None:
    """Of 5 steps every second: before the first, after 2 and 4, and at the end; the report's samples are among them."""
    run = finish(RunDir(tmp_path).create(make_ppo("rloo", group_size=2, max_steps=5, sample_steps=2)))
    rows = run.read_samples()
    assert [(row["step"], row["place"]) for row in rows] == [(step, place) for step in (0, 2, 4, 5) for place in (0, 1)]
    assert len({row["prompt"] for row in rows}) == 2
    first, last = rows[0], rows[-2]
    sample = run.read_report()["samples"][0]
    assert [sample["before"], sample["score_before"]] == [first["response"], first["score"]]
    assert [sample["after"], sample["score_after"]] == [last["response"], last["score"]]


def test_a_run_that_goes_on_answers_once_a_step_and_looking_changes_no_weight(
    tmp_path: Path, make_ppo: MakePPO, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_ppo(max_steps=3, sample_steps=1, save_steps=2)
    plain = finish(RunDir(tmp_path / "plain").create(make_ppo(max_steps=3, report_samples=0)))
    assert plain.read_samples() == []
    run = RunDir(tmp_path / "cut").create(spec)
    collect = ppo.PPOTraining.collect

    def stop(self: ppo.PPOTraining, **arguments: Any) -> None:
        if self.done == 2:
            run.request_cancel()
        collect(self, **arguments)

    with monkeypatch.context() as patch:
        patch.setattr(ppo.PPOTraining, "collect", stop)
        assert run_job(run, show=False) == "cancelled"
    assert [row["step"] for row in run.read_samples()] == [0, 0, 1, 1, 2, 2]
    finish(run)
    assert [row["step"] for row in run.read_samples()] == [0, 0, 1, 1, 2, 2, 3, 3]
    ours, theirs = read_weights(run), read_weights(plain)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


def test_what_goes_wrong_is_said_while_it_does(
    tmp_path: Path, make_ppo: MakePPO, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From the eighth row on; here of responses of at most 2 tokens, which nearly never end by themselves."""
    seen: list[Any] = []
    write = RunDir.write_status

    def watch(self: RunDir, **changes: Any) -> dict[str, Any]:
        if "warnings" in changes:
            seen.append((self.read_metrics()[-1]["step"], changes["warnings"]))
        return write(self, **changes)

    monkeypatch.setattr(RunDir, "write_status", watch)
    spec = make_ppo("rloo", group_size=2, max_steps=9, response_tokens=2, learning_rate=1e-5)
    run = finish(RunDir(tmp_path).create(spec))
    assert seen[0] == (1, [])
    assert seen[1][0] == 8
    assert any("ran into response_tokens (2)" in warning for warning in seen[1][1])
    assert run.read_status()["warnings"] == seen[-1][1]


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_run_that_cannot_fit_is_refused_before_it_answers_for_its_first_step(
    tmp_path: Path, make_ppo: MakePPO, monkeypatch: pytest.MonkeyPatch, tuning: str
) -> None:
    """On a machine with 1 MiB beside what the models hold, less than gradients and optimizer of two tiny models want in
    full (12 bytes for each of their 200,000 parameters), and more than those of their adapters of rank 1."""
    monkeypatch.setattr(memory, "find_free", lambda compute, *, held: held + 2**20)
    run = RunDir(tmp_path).create(make_ppo(tuning=tuning, max_steps=1, lora_rank=1))
    ended = run_job(run, show=False)
    if tuning == "full":
        assert (ended, run.read_metrics()) == ("bad input", [])
        assert "memory: weights, gradients and optimizer take about" in (run.read_status()["error"] or "")
    else:
        assert ended == "succeeded", run.read_status()["error"]
        found = run.read_report()["memory_gib"]
        assert set(found) == {"weights", "gradients", "optimizer", "activations", "free"}


def test_scores_are_compared_prompt_by_prompt() -> None:
    """Gains 2, 0, -1: mean 1/3; higher on one, equal on one, lower on one: (1 + 0.5 + 0) / 3 = 0.5."""
    found = compare_scores([0.0, 1.0, 1.0], after=[2.0, 1.0, 0.0], prompt_ids=["a", "b", "c"])
    assert (found["gain"], found["higher"]) == (pytest.approx(1 / 3), 0.5)
    assert found["gain_interval"][0] >= -1
    assert found["gain_interval"][1] <= 2
    assert 0 <= found["higher_interval"][0] <= 0.5 <= found["higher_interval"][1] <= 1
