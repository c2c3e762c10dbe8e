"""Token ids kept on disk: the same as encoded anew, for the same texts, tokenizer and template alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from rewardmodel import chat, token_cache
from rewardmodel.chat import EncodedSplit, encode_split
from rewardmodel.data import Pair, read_pairs
from rewardmodel.models import load_tokenizer

Encode = Callable[..., EncodedSplit]


@pytest.fixture
def pairs(tiny_data: Path) -> list[Pair]:
    return read_pairs(tiny_data / "train.jsonl")


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DATA_DIR", str(tmp_path))
    monkeypatch.setattr(token_cache, "FEWEST", 1)
    return tmp_path / "tokens"


def forbid_encoding(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_args: object, **_options: object) -> None:
        raise AssertionError("encoded anew")

    monkeypatch.setattr(chat, "_apply_template", refuse)


def test_what_is_read_is_what_was_encoded(
    tiny_model: Path, pairs: list[Pair], kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Limits are applied after reading: one file serves them all."""
    tokenizer = load_tokenizer(tiny_model)
    first = encode_split(tokenizer, pairs=pairs, max_length=64)
    assert len(list(kept.iterdir())) == 1
    short = encode_split(tokenizer, pairs=pairs, max_length=12)
    forbid_encoding(monkeypatch)
    assert encode_split(tokenizer, pairs=pairs, max_length=64) == first
    assert encode_split(tokenizer, pairs=pairs, max_length=12) == short
    assert short.dropped["too_long"] > first.dropped["too_long"]


def test_other_texts_and_templates_are_encoded_anew(tiny_model: Path, pairs: list[Pair], kept: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    encode_split(tokenizer, pairs=pairs, max_length=64)
    turned = [replace(pairs[0], chosen=pairs[0].rejected, rejected=pairs[0].chosen), *pairs[1:]]
    found = encode_split(tokenizer, pairs=turned, max_length=64)
    assert found.pairs[0].chosen_ids == encode_split(tokenizer, pairs=pairs, max_length=64).pairs[0].rejected_ids
    tokenizer.chat_template = tokenizer.chat_template.replace("<|im_start|>", "<|im_start|>x")
    assert encode_split(tokenizer, pairs=pairs, max_length=64).pairs[0].prompt_ids != found.pairs[0].prompt_ids
    assert len(list(kept.iterdir())) == 3


@pytest.mark.parametrize(
    "damage",
    [
        lambda file: file.write_bytes(file.read_bytes()[:-8]),
        lambda file: file.write_bytes(b"not an array"),
        lambda file: file.write_bytes(b""),
        lambda file: np.save(file, np.load(file) + 100_000),
        lambda file: np.save(file, np.load(file).astype(np.int64)),
        lambda file: np.save(file, np.load(file)[:5]),
        lambda file: np.save(file, np.array(["x"], dtype=object), allow_pickle=True),
    ],
)
def test_a_damaged_file_is_never_believed(
    tiny_model: Path, pairs: list[Pair], kept: Path, damage: Callable[[Path], None]
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    first = encode_split(tokenizer, pairs=pairs, max_length=64)
    (file,) = kept.iterdir()
    whole = file.read_bytes()
    damage(file)
    assert encode_split(tokenizer, pairs=pairs, max_length=64) == first
    assert file.read_bytes() == whole


def test_few_pairs_are_not_kept(
    tiny_model: Path, pairs: list[Pair], kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_cache, "FEWEST", len(pairs) + 1)
    encode_split(load_tokenizer(tiny_model), pairs=pairs, max_length=64)
    assert not kept.exists()
