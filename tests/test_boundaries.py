"""The walls of the house, and that the tests themselves are not quietly skipped."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.db import connection

ROOT = Path(__file__).resolve().parents[1]


def run_python(code: str) -> str:
    environment = {**os.environ, "DJANGO_SETTINGS_MODULE": "config.settings"}
    return subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, check=True, capture_output=True, text=True
    ).stdout.strip()


def test_import_contracts_hold():
    linter = Path(sys.executable).with_name("lint-imports")
    result = subprocess.run([linter, "--no-cache"], cwd=ROOT, capture_output=True, text=True)
    assert result.returncode == 0, result.stdout


def test_no_web_process_imports_torch():
    code = """
import sys, config.wsgi
from django.urls import get_resolver
get_resolver().url_patterns
import annotation.management.commands.work
print(sorted({"torch", "transformers", "trl"} & set(sys.modules)))
"""
    assert run_python(code) == "[]"


def test_the_library_works_without_django():
    code = "import sys, rewardmodel.cli; print(any(name.startswith('django') for name in sys.modules))"
    assert run_python(code) == "False"


def test_nothing_is_loaded_that_could_run_code_from_a_model():
    """No pickle, no torch.load without weights_only, no trust_remote_code=True anywhere in the product."""
    # Rendered Markdown, after the sanitiser.
    allowed = ["annotation/rendering/renderer.py: mark_safe("]
    forbidden = ("import pickle", "trust_remote_code=True", "weights_only=False", "mark_safe(", "|safe")
    found = [
        f"{path.relative_to(ROOT)}: {word}"
        for room in ("annotation", "rewardmodel", "config", "templates")
        for path in (ROOT / room).rglob("*")
        if path.suffix in {".py", ".html"}
        for word in forbidden
        if word in path.read_text(encoding="utf-8")
    ]
    assert found == allowed


@pytest.mark.skipif("REQUIRE_POSTGRES" not in os.environ, reason="only where PostgreSQL must be tested")
def test_postgresql_is_not_forgotten():
    assert os.environ.get("TEST_POSTGRES_URL", "").startswith("postgres")


@pytest.mark.django_db
def test_sqlite_runs_as_the_settings_promise():
    if connection.vendor != "sqlite":
        pytest.skip("this run is on PostgreSQL")
    with connection.cursor() as cursor:
        pragmas = {name: cursor.execute(f"PRAGMA {name}").fetchone()[0] for name in ("synchronous", "foreign_keys")}
        journal = cursor.execute("PRAGMA journal_mode").fetchone()[0]
    version = connection.Database.sqlite_version_info
    sound = version >= (3, 51, 3) or version[:2] in {(3, 44), (3, 50)}
    assert pragmas == {"synchronous": 2, "foreign_keys": 1}
    assert journal == ("wal" if sound else "truncate")
