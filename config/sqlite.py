"""Chooses an SQLite library that keeps acknowledged work.

SQLite 3.7.0 to 3.51.2 can lose commits in WAL mode when a checkpoint and a writer meet (the "WAL-reset" bug; fixed
in 3.51.3, and in 3.44.6 and 3.50.7). Where the interpreter carries such a library and `pysqlite3` carries a newer
one, the newer one takes its place; where neither is sound, the journal is TRUNCATE, which is slower and safe.
"""

from __future__ import annotations

import importlib
import sqlite3
import sys


def has_sound_wal(version: tuple[int, ...]) -> bool:
    """Say whether this SQLite version is free of the WAL-reset bug."""
    if version >= (3, 51, 3):
        return True
    return any(version[:2] == fixed[:2] and version >= fixed for fixed in ((3, 44, 6), (3, 50, 7)))


def install_sound_sqlite() -> tuple[int, ...]:
    """Put `pysqlite3` in the place of `sqlite3` where it is sounder; return the version now in use.

    Call before Django's SQLite backend is imported.
    """
    if not has_sound_wal(sqlite3.sqlite_version_info):
        try:
            newer = importlib.import_module("pysqlite3")
        except ImportError:
            return sqlite3.sqlite_version_info
        if has_sound_wal(newer.sqlite_version_info):
            sys.modules["sqlite3"] = newer
            return tuple(newer.sqlite_version_info)
    return sqlite3.sqlite_version_info


def sqlite_options(version: tuple[int, ...]) -> dict[str, object]:
    """Connection options under which concurrent annotators neither lose work nor meet "database is locked"."""
    journal = "WAL" if has_sound_wal(version) else "TRUNCATE"
    return {
        "timeout": 20,
        "transaction_mode": "IMMEDIATE",
        "init_command": f"PRAGMA journal_mode={journal}; PRAGMA synchronous=FULL; PRAGMA foreign_keys=ON;",
    }
