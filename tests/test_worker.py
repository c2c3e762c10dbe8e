"""Real workers and processes: a killed worker's run is resumed, a cancelled one stops, a stopped worker gives back."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import pytest
from django.db import connection

from annotation.domain import runs
from annotation.domain.simulating import simulate_annotators
from annotation.domain.snapshots import freeze_snapshot
from annotation.models import Run
from tests.annotation.factories import make_project, make_slate
from tests.rewardmodel.tiny import build_tiny_model

ROOT = Path(__file__).resolve().parents[1]
pytestmark = pytest.mark.django_db(transaction=True)


def database_url() -> str:
    """The address of the test database, for a process of its own."""
    name = str(connection.settings_dict["NAME"])
    if connection.vendor == "sqlite":
        return f"sqlite:///{name}"
    return urlunsplit(urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{name}"))


@pytest.fixture
def start_worker(data_dir: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    workers: list[subprocess.Popen[bytes]] = []

    def start(*arguments: str) -> subprocess.Popen[bytes]:
        environment = {
            **os.environ,
            "DATABASE_URL": database_url(),
            "DATA_DIR": str(data_dir),
            "WORKER_LEASE_SECONDS": "3",
        }
        worker = subprocess.Popen([sys.executable, "manage.py", "work", *arguments], cwd=ROOT, env=environment)
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        if worker.poll() is None:
            worker.kill()
        worker.wait()


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """A reward run on the tiny model that takes a few seconds of steps and saves every tenth."""
    project = make_project()
    for _ in range(24):
        make_slate(project)
    simulate_annotators(project, names=["simulated-1"], seed=0)
    snapshot = freeze_snapshot(project, format="trl-preference", shares=(0.7, 0.0, 0.3))
    settings = {
        "model": str(build_tiny_model(tmp_path / "tiny")), "tuning": "full", "max_steps": 150, "batch_size": 4,
        "save_steps": 10, "logging_steps": 1, "max_length": 256, "threads": 1,
    }  # fmt: skip
    return runs.queue_run(project, method="reward", settings=settings, snapshot=snapshot)


def wait_for(condition: Callable[[], bool], *, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.1)


def steps_done(run: Run) -> int:
    metrics = runs.run_metrics(run)
    return metrics[-1]["step"] if metrics else 0


def has_process(run: Run) -> bool:
    return subprocess.run(["pgrep", "-f", str(runs.run_directory(run))], capture_output=True).returncode == 0


def test_a_killed_workers_run_is_resumed_by_the_next_one(run, start_worker):
    first = start_worker()
    wait_for(lambda: steps_done(run) >= 25)
    first.send_signal(signal.SIGKILL)
    first.wait()
    killed_at = time.time()
    wait_for(lambda: not has_process(run), seconds=10)
    reached = steps_done(run)
    assert Run.objects.get(pk=run.pk).state == "running"
    start_worker()
    wait_for(lambda: Run.objects.get(pk=run.pk).state == "succeeded")
    run.refresh_from_db()
    rows = [row for row in runs.run_metrics(run) if "loss" in row]
    steps = [row["step"] for row in rows]
    assert run.attempt == 2
    assert run.report["heldout"]["n"] > 0
    assert reached < 150
    assert steps == list(range(1, 151)), "a step was lost or recorded twice"
    assert rows[9]["time"] < killed_at, "it began again instead of resuming"


def test_a_cancelled_run_stops_and_says_so(run, start_worker):
    start_worker()
    wait_for(lambda: steps_done(run) >= 5)
    runs.cancel_run(run)
    wait_for(lambda: Run.objects.get(pk=run.pk).state == "cancelled", seconds=60)
    assert steps_done(run) < 150
    assert not has_process(run)


def test_a_stopped_worker_gives_its_run_back_and_another_finishes_it(run, start_worker):
    worker = start_worker()
    wait_for(lambda: steps_done(run) >= 15)
    worker.terminate()
    assert worker.wait(timeout=60) == 0
    run.refresh_from_db()
    assert (run.state, run.attempt) == ("queued", 1)
    assert any((runs.run_directory(run) / "checkpoints").iterdir())
    start_worker("--drain").wait(timeout=120)
    run.refresh_from_db()
    assert (run.state, run.attempt) == ("succeeded", 2)
