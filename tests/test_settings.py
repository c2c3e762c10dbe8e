"""Strict readers of the environment: a malformed value stops the start and names the variable."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.environment import read_bool, read_database, read_directory, read_int, read_list, read_secret_key
from config.sqlite import has_sound_wal, sqlite_options


def test_yes_and_no_words_are_read():
    assert [read_bool("X", default=False, env={"X": word}) for word in ("1", "TRUE", "yes", "on")] == [True] * 4
    assert [read_bool("X", default=True, env={"X": word}) for word in ("0", "false", "No", "off")] == [False] * 4
    assert read_bool("X", default=True, env={}) is True


@pytest.mark.parametrize(
    "read",
    [
        lambda env: read_bool("X", default=False, env=env),
        lambda env: read_int("X", default=1, minimum=1, maximum=9, env=env),
        lambda env: read_list("X", default=[], env={"X": f"{env['X']},,b"}),
        lambda env: read_database("X", default="sqlite:///x", env=env),
    ],
)
@pytest.mark.parametrize("value", ["maybe", "", "mysql://a/b", "10"])
def test_a_malformed_value_is_refused_by_name(read, value):
    with pytest.raises(ImproperlyConfigured, match=r"^X"):
        read({"X": value})


def test_databases_are_read_by_scheme():
    postgres = read_database("X", default="", env={"X": "postgres://ann:secret@db:5433/preferee"})
    assert (postgres["ENGINE"], postgres["HOST"], postgres["PORT"], postgres["NAME"]) == (
        "django.db.backends.postgresql",
        "db",
        5433,
        "preferee",
    )
    assert read_database("X", default="sqlite:////data/p.sqlite3", env={})["NAME"] == "/data/p.sqlite3"
    with pytest.raises(ImproperlyConfigured, match="names no database"):
        read_database("X", default="", env={"X": "postgres://ann@db:5432/"})


def test_a_directory_is_made_and_a_file_in_its_place_refused(tmp_path):
    assert read_directory("X", default=tmp_path / "a" / "b", env={}).is_dir()
    (tmp_path / "file").write_text("")
    with pytest.raises(ImproperlyConfigured, match="X="):
        read_directory("X", default=tmp_path, env={"X": str(tmp_path / "file")})


def test_a_secret_key_is_made_once_private_and_kept(tmp_path):
    first = read_secret_key("X", data_dir=tmp_path, env={})
    assert read_secret_key("X", data_dir=tmp_path, env={}) == first
    assert len(first) >= 50
    assert (tmp_path / "secret_key").stat().st_mode & 0o777 == 0o600
    with pytest.raises(ImproperlyConfigured, match="shorter than 32"):
        read_secret_key("X", data_dir=tmp_path, env={"X": "short"})


@pytest.mark.parametrize(
    ("version", "sound"),
    [
        ((3, 40, 1), False),
        ((3, 44, 6), True),
        ((3, 45, 0), False),
        ((3, 50, 7), True),
        ((3, 51, 2), False),
        ((3, 51, 3), True),
        ((3, 53, 4), True),
    ],
)
def test_wal_is_used_only_where_it_cannot_lose_commits(version, sound):
    assert has_sound_wal(version) is sound
    assert ("journal_mode=WAL" in str(sqlite_options(version)["init_command"])) is sound


def test_the_start_stops_with_a_message_and_no_default():
    environment = {**os.environ, "DEBUG": "perhaps"}
    result = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=Path(__file__).resolve().parents[1],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode != 0
    assert "DEBUG='perhaps' is not a yes-or-no value" in result.stderr
