"""Where a training's numbers go beside metrics.jsonl: TensorBoard always (unless told not to), others by name.

TRL's trainers take the names from `find_trackers` and report by transformers' integrations; our own loop opens a
`Board`. A tracker signs in and finds its server by its own environment variables; nothing here keeps a key.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
from collections.abc import Callable, Mapping
from typing import Any, Protocol

from rewardmodel.contract import InputError
from rewardmodel.rundir import RunDir

PROJECT = "rewardmodel"
WAYS_OUT = {"tensorboard": "install it, or set tensorboard: false"}


class Tracked(Protocol):
    """The part of a training spec that names its trackers."""

    @property
    def tensorboard(self) -> bool: ...

    @property
    def trackers(self) -> str | tuple[str, ...]: ...


def find_trackers(spec: Tracked, *, run: RunDir) -> list[str]:
    """The trackers of a run, by name. Raises InputError for one that is not installed."""
    names = [*(["tensorboard"] if spec.tensorboard else []), *spec.trackers]
    for name in names:
        if importlib.util.find_spec(name) is None:
            field = "tensorboard" if name == "tensorboard" else "trackers"
            way_out = WAYS_OUT.get(name, f"install it (pip install {name}), or leave it out")
            raise InputError(f"{field}: the package {name} is not installed; {way_out}")
    os.environ["TENSORBOARD_LOGGING_DIR"] = str(run.path / "tensorboard")
    os.environ.setdefault("WANDB_DIR", str(run.path))
    os.environ.setdefault("WANDB_PROJECT", PROJECT)
    os.environ.setdefault("MLFLOW_EXPERIMENT_NAME", PROJECT)
    return names


def name_run(run: RunDir) -> str:
    """What a tracker calls the run: the name of its directory."""
    return run.path.resolve().name


def open_board(spec: Tracked, *, run: RunDir) -> Board | None:
    """A board on every tracker of the run; None where there is none. Raises InputError for one not installed."""
    names = find_trackers(spec, run=run)
    return Board([OPENERS[name](run) for name in names]) if names else None


Send = Callable[[dict[str, float], int], Any]
Close = Callable[[], Any]


class Board:
    """Numbers by step, sent to every tracker of a run."""

    def __init__(self, trackers: list[tuple[Send, Close]]) -> None:
        self._trackers = trackers

    def add(self, numbers: Mapping[str, float], *, step: int) -> None:
        """Send the numbers of a training step, or held-out ones ("eval_loss" as eval/loss)."""
        named = {
            f"eval/{name.removeprefix('eval_')}" if name.startswith("eval_") else f"train/{name}": value
            for name, value in numbers.items()
        }
        for send, _ in self._trackers:
            send(named, step)

    def close(self) -> None:
        """Let go of every tracker."""
        for _, close in self._trackers:
            close()


def _open_tensorboard(run: RunDir) -> tuple[Send, Close]:
    from torch.utils.tensorboard import SummaryWriter

    writer = SummaryWriter(str(run.path / "tensorboard"))

    def send(numbers: dict[str, float], step: int) -> None:
        for name, value in numbers.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    return send, writer.close


def _open_wandb(run: RunDir) -> tuple[Send, Close]:
    wandb: Any = importlib.import_module("wandb")
    session = wandb.init(name=name_run(run), dir=str(run.path), project=os.environ["WANDB_PROJECT"])
    return lambda numbers, step: session.log(numbers, step=step), session.finish


def _open_mlflow(run: RunDir) -> tuple[Send, Close]:
    mlflow: Any = importlib.import_module("mlflow")
    mlflow.set_experiment(os.environ["MLFLOW_EXPERIMENT_NAME"])
    mlflow.start_run(run_name=name_run(run))
    return lambda numbers, step: mlflow.log_metrics(numbers, step=step), mlflow.end_run


def _open_trackio(run: RunDir) -> tuple[Send, Close]:
    trackio: Any = importlib.import_module("trackio")
    trackio.init(project=PROJECT, name=name_run(run), resume="allow")
    return lambda numbers, step: trackio.log(numbers, step=step), trackio.finish


OPENERS: dict[str, Callable[[RunDir], tuple[Send, Close]]] = {
    "tensorboard": _open_tensorboard,
    "wandb": _open_wandb,
    "mlflow": _open_mlflow,
    "trackio": _open_trackio,
}
