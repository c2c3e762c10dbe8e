"""Token ids of preference pairs, kept on disk: encoding a hundred thousand pairs takes minutes, reading them a second.

A file is named by the SHA-256 of all that its ids depend on: the tokenizer, its chat template, and every pair's text.
It holds one array of int32, memory-mapped when it is read: three lengths a pair (prompt, chosen, rejected), then the
ids.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from rewardmodel.data import Pair

Ids: TypeAlias = "array[int]"
"""Token ids in four bytes each; a list of ints takes thirty-six."""
FORMAT = "pairs 1"
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
    digest = hashlib.sha256()
    for part in (FORMAT, described.to_str(), str(tokenizer.chat_template), repr(tokenizer.special_tokens_map)):
        digest.update(part.encode() + b"\0")
    for pair in pairs:
        digest.update(json.dumps([pair.prompt, pair.chosen, pair.rejected]).encode() + b"\n")
    return tokens_directory() / f"{digest.hexdigest()}.npy"


def read_tokens(file: Path, *, count: int, vocabulary: int) -> list[tuple[Ids, Ids, Ids]] | None:
    """Prompt, chosen and rejected of each of `count` pairs; None where the file is not there, or not whole."""
    try:
        table = np.load(file, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    if table.dtype != np.int32 or table.ndim != 1 or len(table) < 3 * count:
        return None
    lengths, ids = table[: 3 * count].astype(np.int64), table[3 * count :]
    if (lengths < 0).any() or lengths.sum() != len(ids) or not _are_tokens(ids, vocabulary=vocabulary):
        return None
    ends = np.cumsum(lengths).tolist()
    parts = [_as_ids(ids[start:end]) for start, end in zip([0, *ends], ends, strict=False)]
    return list(zip(parts[::3], parts[1::3], parts[2::3], strict=True))


def keep_tokens(file: Path, *, encoded: Sequence[tuple[Ids, Ids, Ids]]) -> None:
    """Write the file, whole or not at all."""
    parts = [part for triple in encoded for part in triple]
    table = np.concatenate([np.array([len(part) for part in parts], dtype=np.int32), *map(np.asarray, parts)])
    file.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.stem}.")
    try:
        with os.fdopen(handle, "wb") as unfinished:
            np.save(unfinished, table.astype(np.int32, copy=False), allow_pickle=False)
        Path(name).replace(file)
    finally:
        Path(name).unlink(missing_ok=True)


def _are_tokens(ids: npt.NDArray[np.int32], *, vocabulary: int) -> bool:
    return not len(ids) or (int(ids.min()) >= 0 and int(ids.max()) < vocabulary)


def _as_ids(part: npt.NDArray[np.int32]) -> Ids:
    found = array("i")
    found.frombytes(part.tobytes())
    return found
