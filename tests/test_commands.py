"""The commands that people start first, really started: the demonstration and the circle, on the tiny model."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
import requests

from tests.rewardmodel.tiny import build_tiny_model

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    environment = {**os.environ, "DATA_DIR": str(tmp_path / "var"), "PYTHONUNBUFFERED": "1"}
    environment.pop("DATABASE_URL", None)
    return environment


@pytest.fixture
def tiny_model(tmp_path: Path) -> str:
    return str(build_tiny_model(tmp_path / "tiny", positions=1024))


def free_port() -> int:
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def count_rows(data_dir: str) -> dict[str, int]:
    tables = ("project", "prompt", "response", "slate", "ranking", "membership", "run", "model")
    with closing(sqlite3.connect(f"{data_dir}/preferee.sqlite3")) as database:
        return {t: database.execute(f"SELECT count(*) FROM annotation_{t}").fetchone()[0] for t in tables}  # noqa: S608 (our own names)


def read_until(lines: Iterator[str], word: str) -> str:
    seen = ""
    for line in lines:
        seen += line
        if word in line:
            return seen
    raise AssertionError(f"the command ended without saying {word!r}:\n{seen}")


def test_the_demonstration_starts_serves_stops_and_starts_again_without_loss(environment, tiny_model):
    port, counts = free_port(), []
    for start in range(2):
        command = [sys.executable, "manage.py", "demo", "--port", str(port), "--model", tiny_model]
        demo = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True)
        assert demo.stdout is not None
        try:
            said = read_until(demo.stdout, "Ready.")
            assert said.startswith("Preparing the demonstration")
            assert ("first responses are being written" in said) == (start == 0)
            password = re.search(r"annotator +ann +(\S+)", said)[1]
            assert {"annotator", "reviewer", "admin", "engineer"} <= set(re.findall(r"^ +(\w+) ", said, re.MULTILINE))
            session = requests.Session()
            login = f"http://127.0.0.1:{port}/login/"
            session.get(login, timeout=10)
            fields = {"username": "ann", "password": password, "csrfmiddlewaretoken": session.cookies["csrftoken"]}
            page = session.post(login, fields, headers={"Referer": login}, timeout=10)
            assert "Everyday assistant" in page.text
            assert re.search(r"/static/annotation/app\.[0-9a-f]{12}\.css", page.text)
            counts.append(count_rows(environment["DATA_DIR"]))
        finally:
            demo.send_signal(signal.SIGINT)
            assert demo.wait(timeout=60) == 0
    assert counts[0] == counts[1]
    assert counts[0]["response"] == 160 * 4 + 16 * 4
    assert counts[0]["ranking"] == 160 * 3
    assert counts[0]["slate"] == 160 + 16


def test_the_circle_ends_with_its_report_as_json(environment, tiny_model):
    sizes = ["--prompts", "12", "--responses", "3", "--tokens", "6", "--reward-steps", "2", "--dpo-steps", "2"]
    command = [sys.executable, "manage.py", "circle", "--model", tiny_model, *sizes]
    result = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    report = json.loads(result.stdout.splitlines()[-1])
    assert report["simulated"] is True
    for part in ("reward_model", "dpo"):
        assert set(report[part]["baselines"]) == {"longer_wins", "untrained"}
        assert (Path(report[part]["model"]) / "model.safetensors").is_file()
    assert report["new_against_old"]["prompts"] == report["reward_model"]["held_out"]["n_prompts"]
    assert report["new_slates"] > 0
    assert report["rankings"] == 12
