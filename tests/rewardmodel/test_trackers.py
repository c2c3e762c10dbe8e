"""Trackers by name: TensorBoard unless told not to, others where they are installed."""

import sys
from collections.abc import Callable
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest

from rewardmodel.contract import InputError, RewardSpec, SFTSpec
from rewardmodel.jobs import run_job
from rewardmodel.rundir import RunDir
from rewardmodel.trackers import find_trackers, open_board

MakeSpec = Callable[..., dict[str, Any]]


class Recorder(ModuleType):
    """A tracker's package that remembers what it was told."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.__spec__ = ModuleSpec(name, None)
        self.seen: list[Any] = []

    def init(self, **settings: Any) -> Any:
        self.seen.append(("init", settings["name"], settings["project"]))
        return SimpleNamespace(log=self.log, finish=self.finish)

    def set_experiment(self, name: str) -> None:
        self.seen.append(("experiment", name))

    def start_run(self, run_name: str) -> None:
        self.seen.append(("run", run_name))

    def log(self, numbers: dict[str, float], step: int) -> None:
        self.seen.append((step, sorted(numbers)))

    def finish(self) -> None:
        self.seen.append("end")

    log_metrics, end_run = log, finish


def test_tensorboard_is_on_unless_switched_off(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    assert find_trackers(SFTSpec(data="-"), run=run) == ["tensorboard"]
    assert find_trackers(SFTSpec(data="-", tensorboard=False), run=run) == []
    assert open_board(SFTSpec(data="-", tensorboard=False), run=run) is None


@pytest.mark.parametrize("name", ["wandb", "mlflow", "trackio"])
@pytest.mark.parametrize("method", ["reward", "sft", "kto"])
def test_a_tracker_that_is_not_installed_is_said_before_anything_is_read(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, name: str, method: str
) -> None:
    from importlib.util import find_spec

    monkeypatch.setattr("importlib.util.find_spec", lambda asked: None if asked == name else find_spec(asked))
    run = RunDir(tmp_path).create(make_spec(method, trackers=name, data="nowhere"))
    assert run_job(run, show=False) == "bad input"
    assert run.read_status()["error"] == (
        f"trackers: the package {name} is not installed; install it (pip install {name}), or leave it out"
    )


def test_a_missing_tensorboard_is_said_with_the_way_out(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="tensorboard is not installed; install it, or set tensorboard: false"):
        find_trackers(RewardSpec(data="-"), run=RunDir(tmp_path))


@pytest.mark.parametrize(
    ("name", "begin"),
    [
        ("wandb", [("init", "run-7", "rewardmodel")]),
        ("mlflow", [("experiment", "rewardmodel"), ("run", "run-7")]),
        ("trackio", [("init", "run-7", "rewardmodel")]),
    ],
)
def test_our_own_loop_tells_a_named_tracker_what_metrics_get(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, name: str, begin: list[Any]
) -> None:
    recorder = Recorder(name)
    monkeypatch.setitem(sys.modules, name, recorder)
    spec = make_spec("reward", max_steps=2, logging_steps=1, trackers=[name])
    run = RunDir(tmp_path / "run-7").create(spec)
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    names = [sorted(f"train/{key}" for key in row if key not in ("step", "time")) for row in run.read_metrics()]
    assert recorder.seen == [*begin, (1, names[0]), (2, names[1]), "end"]
    assert len(list((run.path / "tensorboard").glob("events*"))) == 1


@pytest.mark.parametrize("method", ["reward", "sft", "kto"])
def test_every_training_writes_tensorboard_events(tmp_path: Path, make_spec: MakeSpec, method: str) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    samples = {} if method == "reward" else {"report_samples": 0}
    run = RunDir(tmp_path).create(make_spec(method, max_steps=2, logging_steps=1, **samples))
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    losses = [row["loss"] for row in run.read_metrics() if "loss" in row]
    assert [event.value for event in events.Scalars("train/loss")] == pytest.approx(losses)
