"""Token ids of preference pairs, kept on disk: encoding a hundred thousand pairs takes minutes, reading them a second.

A file is named by the SHA-256 of all that its ids depend on: the tokenizer, its chat template, the versions of the
libraries that apply them, and every pair's text. It holds one array of int32, memory-mapped when it is read: the
SHA-256 of its name and of what follows (8), three lengths a pair (prompt, chosen, rejected), then the ids. A file that
does not match its own hash is never read: the pairs are encoded again.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import os
import tempfile
from array import array
from collections.abc import Sequence
from datetime import date
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rewardmodel.data import Pair

Ids: TypeAlias = "array[int]"
"""Token ids in four bytes each; a list of ints takes thirty-six."""
FORMAT = "pairs 2"
LIBRARIES = ("transformers", "tokenizers", "jinja2")
HASH = 8
"""int32s of a SHA-256."""
FEWEST = 1000
"""Fewer pairs are encoded in a second or two, and are not kept."""


def tokens_directory() -> Path:
    """Where token ids are kept: $DATA_DIR/tokens, by default ./var/tokens. It may be deleted at any time."""
    return Path(os.environ.get("DATA_DIR") or "var").resolve() / "tokens"


def locate_tokens(tokenizer: Any, *, pairs: Sequence[Pair]) -> Path | None:
    """The file of these pairs' ids, there or not; None where there are too few to keep, or the tokenizer has no
    description to be told by."""
    described = getattr(tokenizer, "backend_tokenizer", None)
    if len(pairs) < FEWEST or described is None:
        return None
    template = str(tokenizer.chat_template)
    today = date.today().isoformat() if "strftime_now" in template else ""  # a template may write the day
    versions = [importlib.metadata.version(name) for name in LIBRARIES]
    digest = hashlib.sha256()
    for part in (FORMAT, *versions, today, described.to_str(), template, repr(tokenizer.special_tokens_map)):
        digest.update(part.encode() + b"\0")
    for pair in pairs:
        digest.update(json.dumps([pair.prompt, pair.chosen, pair.rejected]).encode() + b"\n")
    return tokens_directory() / f"{digest.hexdigest()}.npy"


def read_tokens(file: Path, *, count: int) -> list[tuple[Ids, Ids, Ids]] | None:
    """Prompt, chosen and rejected of each of `count` pairs; None where the file is not there, or not as written."""
    try:
        table = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if table.dtype != np.int32 or table.ndim != 1 or len(table) < HASH + 3 * count:
        return None
    if not np.array_equal(table[:HASH], _hash(table[HASH:], name=file.name)):
        return None
    lengths, ids = table[HASH : HASH + 3 * count].astype(np.int64), table[HASH + 3 * count :]
    parts = [_as_ids(ids[start:end]) for start, end in pairwise([0, *np.cumsum(lengths).tolist()])]
    return list(zip(parts[::3], parts[1::3], parts[2::3], strict=True))


def keep_tokens(file: Path, *, encoded: Sequence[tuple[Ids, Ids, Ids]]) -> None:
    """Write the file, whole or not at all."""
    parts = [part for triple in encoded for part in triple]
    lengths = np.array([len(part) for part in parts], dtype=np.int32)
    table = np.concatenate([np.zeros(HASH, dtype=np.int32), lengths, *map(np.asarray, parts)], dtype=np.int32)
    table[:HASH] = _hash(table[HASH:], name=file.name)
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.stem}.")
    try:
        with os.fdopen(handle, "wb") as unfinished:
            np.save(unfinished, table, allow_pickle=False)
        Path(name).replace(file)
    finally:
        Path(name).unlink(missing_ok=True)


def _hash(content: npt.NDArray[np.int32], *, name: str) -> npt.NDArray[np.int32]:
    digest = hashlib.sha256(name.encode())
    digest.update(content.data)
    return np.frombuffer(digest.digest(), dtype=np.int32)


def _as_ids(part: npt.NDArray[np.int32]) -> Ids:
    found = array("i")
    found.frombytes(part.tobytes())
    return found
