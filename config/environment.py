"""Strict readers of environment variables.

Each reader either returns a value or raises `ImproperlyConfigured` with the name of the variable, what it held and
what it may hold. Nothing malformed becomes a default: a typing error stops the start.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import environ
from django.core.exceptions import ImproperlyConfigured
from django.utils.crypto import get_random_string

TRUE_WORDS = ("1", "true", "yes", "on")
FALSE_WORDS = ("0", "false", "no", "off")
DATABASE_ENGINES = {
    "sqlite": "django.db.backends.sqlite3",
    "postgres": "django.db.backends.postgresql",
    "postgresql": "django.db.backends.postgresql",
}


def read_bool(name: str, *, default: bool, env: Mapping[str, str] = os.environ) -> bool:
    """Read a yes-or-no variable; anything but the eight accepted words is refused."""
    raw = env.get(name)
    if raw is None:
        return default
    word = raw.strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    accepted = ", ".join((*TRUE_WORDS, *FALSE_WORDS))
    raise ImproperlyConfigured(f"{name}={raw!r} is not a yes-or-no value; use one of {accepted}.")


def read_int(name: str, *, default: int, minimum: int, maximum: int, env: Mapping[str, str] = os.environ) -> int:
    """Read a whole number within [minimum, maximum]."""
    raw = env.get(name)
    if raw is None:
        return default
    try:
        number = int(raw)
    except ValueError:
        number = minimum - 1
    if not minimum <= number <= maximum:
        raise ImproperlyConfigured(f"{name}={raw!r} is not a whole number from {minimum} to {maximum}.")
    return number


def read_list(name: str, *, default: list[str], env: Mapping[str, str] = os.environ) -> list[str]:
    """Read a comma-separated list; empty entries are refused."""
    raw = env.get(name)
    if raw is None:
        return default
    entries = [entry.strip() for entry in raw.split(",")]
    if any(not entry for entry in entries):
        raise ImproperlyConfigured(f"{name}={raw!r} has an empty entry; write it as a,b,c without spare commas.")
    return entries


def read_directory(name: str, *, default: Path, env: Mapping[str, str] = os.environ) -> Path:
    """Read a directory and make it if it is absent; a file of that name is refused."""
    raw = env.get(name)
    if raw is not None and not raw.strip():
        raise ImproperlyConfigured(f"{name} is set but empty; name a directory or unset it.")
    path = Path(raw).expanduser() if raw is not None else default
    path = path.resolve()
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ImproperlyConfigured(f"{name}={str(path)!r} cannot be used as a directory: {error}.") from error
    return path


def read_database(name: str, *, default: str, env: Mapping[str, str] = os.environ) -> dict[str, Any]:
    """Read a database address such as `postgres://user:password@host:5432/name` or `sqlite:///file`."""
    raw = env.get(name, default)
    scheme, separator, rest = raw.partition("://")
    if scheme not in DATABASE_ENGINES or not separator or not rest:
        raise ImproperlyConfigured(
            f"{name} must look like sqlite:///path/to/file or postgres://user:password@host:5432/name; "
            f"its scheme is {scheme!r}."
        )
    try:
        config = dict(environ.Env.db_url_config(raw))
    except (ValueError, environ.ImproperlyConfigured) as error:
        raise ImproperlyConfigured(f"{name} could not be read as a database address: {error}.") from error
    if not config.get("NAME"):
        raise ImproperlyConfigured(f"{name} names no database; end it with /name.")
    config["ENGINE"] = DATABASE_ENGINES[scheme]
    return config


def read_secret_key(name: str, *, data_dir: Path, env: Mapping[str, str] = os.environ) -> str:
    """Read the secret key, or keep one made at the first start in `data_dir/secret_key` (mode 600)."""
    raw = env.get(name)
    if raw is not None:
        if len(raw) < 32:
            raise ImproperlyConfigured(f"{name} is shorter than 32 characters; unset it to have one made.")
        return raw
    path = data_dir / "secret_key"
    if not path.exists():
        descriptor, own = tempfile.mkstemp(dir=data_dir, prefix=".secret_key-")  # mode 600
        with os.fdopen(descriptor, "w") as file:
            file.write(get_random_string(64))
        with suppress(FileExistsError):  # another process was quicker: its key holds
            os.link(own, path)
        os.unlink(own)
    key = path.read_text().strip()
    if len(key) < 32:
        raise ImproperlyConfigured(f"{path} holds no usable secret key; delete it to have a new one made.")
    return key
