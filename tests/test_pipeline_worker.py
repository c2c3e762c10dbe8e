"""A real worker drives a pipeline on the tiny model: the reward stage, its gate, then PPO from its model."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from annotation.domain import collecting, pipelines, runs
from annotation.domain.simulating import simulate_annotators
from annotation.domain.snapshots import freeze_snapshot
from annotation.models import Model, Project, Snapshot
from tests.annotation.factories import make_project, make_slate
from tests.rewardmodel.tiny import build_tiny_model

pytestmark = pytest.mark.django_db


def freeze(project: Project, *, format: str) -> Snapshot:
    for seed in itertools.count():
        snapshot = freeze_snapshot(project, format=format, split_seed=seed, shares=(0.6, 0.0, 0.4))
        if all(snapshot.manifest["counts"]["rows"][split] >= 2 for split in ("train", "test")):
            return snapshot
    raise AssertionError


def test_a_worker_drives_reward_and_ppo_and_registers_what_each_made(tmp_path: Path) -> None:
    project = make_project()
    for _number in range(8):
        make_slate(project)
    simulate_annotators(project, names=["simulated-1"], seed=0)
    pairs, prompts = (freeze(project, format=format) for format in ("trl-preference", "prompts"))
    base = collecting.add_model(project, name="base", kind="policy", location=str(build_tiny_model(tmp_path / "tiny")))
    common: dict[str, Any] = {
        "model": "@model/base", "max_steps": 2, "max_length": 128, "tensorboard": False, "threads": 1,
    }  # fmt: skip
    reward = {"method": "reward", "data": f"@snapshot/{pairs.number}", "tuning": "full", **common}
    ppo = {
        "method": "ppo", "data": f"@snapshot/{prompts.number}", "reward_model": "@reward", "batch_size": 4,
        "minibatches": 2, "ppo_epochs": 1, "response_tokens": 6, "test_prompts": 2, "report_samples": 1, **common,
    }  # fmt: skip
    document = {
        "stages": [
            {"name": "reward", "spec": reward, "gate": {"metric": "accuracy", "at_least": 0.0}},
            {"name": "ppo", "spec": ppo, "gate": {"metric": "kl", "at_most": 1000}},
        ]
    }
    pipeline = pipelines.start_pipeline(project, name="reward → PPO", document=document)
    call_command("work", drain=True)
    pipeline.refresh_from_db()
    rows = {row.name: row for row in pipeline.stages.select_related("run")}
    logs = [runs.run_directory(row.run) / "log.txt" for row in rows.values() if row.run]
    assert pipeline.state == "succeeded", (pipeline.error, [log.read_text()[-2000:] for log in logs if log.exists()])
    judge, policy = (Model.objects.get(run=rows[name].run) for name in ("reward", "ppo"))
    assert (judge.kind, policy.kind) == ("reward", "policy")
    run = rows["ppo"].run
    assert run is not None
    assert (run.base_model, run.reward_model, run.snapshot) == (base, judge, prompts)
    verdicts = [rows[name].verdict or {} for name in ("reward", "ppo")]
    assert [(verdict["metric"], verdict["holds"]) for verdict in verdicts] == [("accuracy", True), ("kl", True)]
