"""Token ids kept on disk: the same as encoded anew, for the same texts, tokenizer and template alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rewardmodel import chat, token_cache
from rewardmodel.chat import EncodedSplit, encode_split
from rewardmodel.data import Pair, read_pairs
from rewardmodel.jobs import run_job
from rewardmodel.models import load_tokenizer
from rewardmodel.rundir import RunDir, read_json_lines
from rewardmodel.token_cache import locate_tokens

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
        lambda file: np.save(file, np.load(file) ^ (np.arange(len(np.load(file)), dtype=np.int32) == 2000)),
        lambda file: np.save(file, np.append(np.load(file)[:-1], np.int32(7))),
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


def test_the_file_of_other_pairs_is_never_believed(tiny_model: Path, pairs: list[Pair], kept: Path) -> None:
    """As many pairs, and whole: only its name tells."""
    tokenizer = load_tokenizer(tiny_model)
    first = encode_split(tokenizer, pairs=pairs, max_length=64)
    (file,) = kept.iterdir()
    turned = [replace(pair, chosen=pair.rejected, rejected=pair.chosen) for pair in pairs]
    encode_split(tokenizer, pairs=turned, max_length=64)
    (other,) = set(kept.iterdir()) - {file}
    other.replace(file)
    assert encode_split(tokenizer, pairs=pairs, max_length=64) == first


def test_a_template_that_writes_the_day_is_read_on_that_day_alone(
    tiny_model: Path, pairs: list[Pair], monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = load_tokenizer(tiny_model)
    monkeypatch.setattr(token_cache, "FEWEST", 1)

    def locate(day: date) -> Path | None:
        monkeypatch.setattr(token_cache, "date", type("Day", (), {"today": staticmethod(lambda: day)}))
        return locate_tokens(tokenizer, pairs=pairs)

    assert locate(date(2026, 1, 1)) == locate(date(2026, 1, 2))
    tokenizer.chat_template = "{{ strftime_now('%d') }}" + tokenizer.chat_template
    assert locate(date(2026, 1, 1)) == locate(date(2026, 1, 1)) != locate(date(2026, 1, 2))


@pytest.mark.parametrize("method", ["reward", "dpo"])
def test_a_run_from_the_files_has_the_metrics_and_the_report_of_the_first(
    tmp_path: Path, make_spec: Callable[..., dict[str, Any]], kept: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    spec = make_spec(method, max_steps=4, **({"report_samples": 0} if method == "dpo" else {}))
    found = []
    for name in ("first", "second"):
        run = RunDir(tmp_path / name).create(spec)
        assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
        report = {key: value for key, value in run.read_report().items() if key != "seconds"}
        metrics = [{**row, "time": None} for row in read_json_lines(run.metrics_file)]
        found.append((metrics, report))
        forbid_encoding(monkeypatch)
    assert len(found[0][0]) > 1
    assert found[0] == found[1]


def test_few_pairs_are_not_kept(
    tiny_model: Path, pairs: list[Pair], kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(token_cache, "FEWEST", len(pairs) + 1)
    encode_split(load_tokenizer(tiny_model), pairs=pairs, max_length=64)
    assert not kept.exists()
