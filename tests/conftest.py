"""What every test shares: a data directory of its own, and no network."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.utils import translation

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("GOMP_SPINCOUNT", "1000")  # test processes share the cores; see rewardmodel/cli.py
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: Any) -> Path:
    """Snapshots, runs and uploads of a test go to its own directory."""
    path = tmp_path / "data"
    path.mkdir()
    settings.DATA_DIR = path
    settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
    return path


@pytest.fixture(autouse=True)
def english() -> Iterator[None]:
    """The language that a request of an earlier test left active in this thread is none of ours."""
    with translation.override("en"):
        yield


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest tests first, so that no process is left alone with one at the end."""
    items.sort(key=lambda item: "real_model" not in item.keywords)
