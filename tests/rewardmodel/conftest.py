"""Shared runs on a tiny model: built once a session, so that the folder stays fast."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from rewardmodel.rundir import RunDir
from rewardmodel.sandbox import Limits, Sandbox, SandboxUnavailable
from tests.rewardmodel.tiny import build_data, build_examples, build_labelled, build_tiny_model, write_rows

os.environ["HF_HUB_OFFLINE"] = "1"


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "real_model: needs the embedded SmolLM2 model (its package, and half a minute)")


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_tiny_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def tiny_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build_data(tmp_path_factory.mktemp("tiny-data"), train=96, test=60)


@pytest.fixture(scope="session")
def tiny_rows(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """By method, rows of single responses in three splits of different prompts."""
    root = tmp_path_factory.mktemp("tiny-rows")
    for method, build in (("sft", build_examples), ("kto", build_labelled)):
        for seed, (split, n) in enumerate({"train": 64, "validation": 24, "test": 40}.items()):
            write_rows(root / method / f"{split}.jsonl", build(n, seed=seed))
    return {"sft": root / "sft", "kto": root / "kto"}


@pytest.fixture(scope="session")
def make_spec(tiny_model: Path, tiny_data: Path, tiny_rows: dict[str, Path]) -> Callable[..., dict[str, Any]]:
    """A spec of any training method that a tiny model learns from in a second or two."""

    def make(method: str, **changes: Any) -> dict[str, Any]:
        common = {
            "method": method,
            "model": str(tiny_model),
            "data": str(tiny_rows.get(method, tiny_data)),
            "max_length": 128,
            "threads": 1,
            "precision": "fp32",
            "save_steps": 20,
            "learning_rate": 1e-2 if method == "reward" else 5e-3,
            "epochs": 5.0 if method == "reward" else 2.0,
        }
        return {**common, **changes}

    return make


@pytest.fixture(scope="session")
def reward_run(tmp_path_factory: pytest.TempPathFactory, make_spec: Callable[..., dict[str, Any]]) -> RunDir:
    """A finished LoRA reward run."""
    from rewardmodel.jobs import run_job

    run = RunDir(tmp_path_factory.mktemp("runs") / "reward").create(make_spec("reward"))
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    return run


@pytest.fixture(scope="session")
def make_ppo(tiny_model: Path, tiny_data: Path, reward_run: RunDir) -> Callable[..., dict[str, Any]]:
    """A spec of PPO or its kin that a tiny model learns from in a few seconds."""

    def make(method: str = "ppo", **changes: Any) -> dict[str, Any]:
        critic = {"value_learning_rate": 3e-3} if method == "ppo" else {}
        return {
            "method": method,
            "model": str(tiny_model),
            "data": str(tiny_data),
            "reward_model": str(reward_run.outputs / "model"),
            "max_length": 64,
            "response_tokens": 8,
            "batch_size": 8,
            "minibatches": 2,
            "ppo_epochs": 2,
            "test_prompts": 16,
            "report_samples": 2,
            "max_steps": 3,
            "learning_rate": 3e-3,
            **critic,
            "threads": 1,
            "precision": "fp32",
            "tensorboard": False,
            **changes,
        }

    return make


@pytest.fixture(scope="session")
def dpo_run(tmp_path_factory: pytest.TempPathFactory, make_spec: Callable[..., dict[str, Any]]) -> RunDir:
    """A finished LoRA DPO run."""
    from rewardmodel.jobs import run_job

    run = RunDir(tmp_path_factory.mktemp("runs") / "dpo").create(make_spec("dpo", report_samples=2))
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    return run


@pytest.fixture(scope="session")
def sandbox() -> Iterator[Sandbox]:
    """Isolated; where nothing isolates the tests are skipped, or fail where REQUIRE_SANDBOX=1."""
    with _open_sandbox(Limits()) as made:
        yield made


@pytest.fixture(scope="session")
def hasty_sandbox() -> Iterator[Sandbox]:
    """Gives a program two seconds."""
    with _open_sandbox(Limits(seconds=2.0)) as made:
        yield made


@pytest.fixture
def no_bubblewrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A PATH without it, and no sandbox that an earlier test opened."""
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr("rewardmodel.verifiers.registry._sandboxes", {})


def _open_sandbox(limits: Limits) -> Sandbox:
    try:
        return Sandbox(limits=limits)
    except SandboxUnavailable as error:
        if os.environ.get("REQUIRE_SANDBOX") == "1":
            pytest.fail(str(error))
        pytest.skip(str(error))
