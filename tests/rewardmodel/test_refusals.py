"""What every training method refuses before its first step, in words that name what to change."""

import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rewardmodel.jobs import run_job
from rewardmodel.rundir import RunDir
from tests.rewardmodel.tiny import build_examples, build_labelled, build_pairs, write_rows

MakeSpec = Callable[..., dict[str, Any]]
BUILD = {"reward": build_pairs, "sft": build_examples, "dpo": build_pairs, "kto": build_labelled}


@pytest.fixture(params=sorted(BUILD))
def method(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def copied_model(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "model"))


def change_json(file: Path, **changes: object) -> None:
    """Set keys of a JSON file; None takes one away."""
    value = {**json.loads(file.read_text()), **changes}
    file.write_text(json.dumps({key: each for key, each in value.items() if each is not None}))


def refuse(directory: Path, spec: dict[str, Any]) -> str:
    """The error of a run that ends as bad input before any step."""
    run = RunDir(directory / "run").create(spec)
    assert run_job(run, show=False) == "bad input", run.read_status()["error"]
    assert not run.metrics_file.exists()
    assert list(run.checkpoints.glob("checkpoint-*")) == []
    return str(run.read_status()["error"])


def test_weights_that_are_not_safetensors(copied_model: Path, tmp_path: Path, make_spec: MakeSpec, method: str) -> None:
    (copied_model / "model.safetensors").rename(copied_model / "pytorch_model.bin")
    error = refuse(tmp_path, make_spec(method, model=str(copied_model)))
    assert error == f"model: {copied_model} holds no *.safetensors; pickled weights are not loaded"


def test_a_model_that_asks_for_its_own_code(
    copied_model: Path, tmp_path: Path, make_spec: MakeSpec, method: str
) -> None:
    change_json(copied_model / "config.json", auto_map={"AutoModel": "evil.Model"})
    assert "brings its own code, which is never run" in refuse(tmp_path, make_spec(method, model=str(copied_model)))


def test_a_tokenizer_without_a_chat_template(
    copied_model: Path, tmp_path: Path, make_spec: MakeSpec, method: str
) -> None:
    (copied_model / "chat_template.jinja").unlink()
    error = refuse(tmp_path, make_spec(method, model=str(copied_model)))
    assert error == f"model: {copied_model} has no chat template; choose an instruction-tuned model"


def test_a_tokenizer_without_eos(copied_model: Path, tmp_path: Path, make_spec: MakeSpec, method: str) -> None:
    change_json(copied_model / "tokenizer_config.json", eos_token=None)
    error = refuse(tmp_path, make_spec(method, model=str(copied_model)))
    assert error == f"model: the tokenizer in {copied_model} has no eos token"


def test_a_tokenizer_without_pad_takes_a_token_set_aside(copied_model: Path) -> None:
    from rewardmodel.models import load_tokenizer

    change_json(copied_model / "tokenizer_config.json", pad_token=None)
    assert load_tokenizer(copied_model).pad_token == "<|endoftext|>"


def test_a_tokenizer_of_another_model(copied_model: Path, tmp_path: Path, make_spec: MakeSpec, method: str) -> None:
    """Forty tokens were added, and the embeddings left as they were."""
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(copied_model)
    known = len(tokenizer)
    tokenizer.add_tokens([f"<new-{i}>" for i in range(40)])
    tokenizer.save_pretrained(copied_model)
    error = refuse(tmp_path, make_spec(method, model=str(copied_model)))
    assert error.startswith(
        f"model: the tokenizer in {copied_model} has {known + 40} tokens, but the model knows {known}"
    )


def test_weights_that_are_no_numbers(copied_model: Path, tmp_path: Path, make_spec: MakeSpec, method: str) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(copied_model / "model.safetensors")
    weights["model.norm.weight"][0] = math.nan
    save_file(weights, copied_model / "model.safetensors", metadata={"format": "pt"})
    error = refuse(tmp_path, make_spec(method, model=str(copied_model)))
    assert (
        error
        == f"model: model.norm.weight in {copied_model} holds NaN or infinity; its training or its file went wrong"
    )


def test_sequences_beyond_the_models_positions(tmp_path: Path, make_spec: MakeSpec, method: str) -> None:
    error = refuse(tmp_path, make_spec(method, max_length=257))
    assert error == "max_length: 257 tokens, but the model reads 256; lower max_length"


@pytest.mark.parametrize("split", ["train", "test"])
def test_no_usable_row(tmp_path: Path, make_spec: MakeSpec, method: str, split: str) -> None:
    """Every row of the split is longer than max_length."""
    for name in ("train", "test"):
        rows = BUILD[method](4)
        if name == split:
            rows = [{**row, "prompt": "the " * 200} for row in rows]
        write_rows(tmp_path / "data" / f"{name}.jsonl", rows)
    error = refuse(tmp_path, make_spec(method, data=str(tmp_path / "data")))
    unit = "pair" if method in ("reward", "dpo") else "row"
    assert error.startswith(
        f"{tmp_path}/data/{split}.jsonl: no usable {unit} is left; dropped 4 longer than max_length"
    )


def test_an_empty_file(tmp_path: Path, make_spec: MakeSpec, method: str) -> None:
    write_rows(tmp_path / "data" / "train.jsonl", [])
    write_rows(tmp_path / "data" / "test.jsonl", BUILD[method](4))
    error = refuse(tmp_path, make_spec(method, data=str(tmp_path / "data")))
    assert error == f"{tmp_path}/data/train.jsonl holds no rows"


@pytest.mark.parametrize(
    ("methods", "change", "fault"),
    [
        (("reward", "dpo"), {"p": 1.5}, "p: expected a probability from 0 to 1, found 1.5"),
        (("reward", "dpo"), {"weight": -1}, "weight: expected at least 0, found -1.0"),
        (("kto",), {"label": 2}, "label: expected true or false, found 2"),
        (("sft",), {"completion": None}, "completion: missing"),
    ],
)
def test_a_label_out_of_range(
    tmp_path: Path, make_spec: MakeSpec, methods: tuple[str, ...], change: dict[str, Any], fault: str
) -> None:
    for method in methods:
        data = tmp_path / method / "data"
        write_rows(data / "train.jsonl", [BUILD[method](1)[0], {**BUILD[method](1)[0], **change}])
        write_rows(data / "test.jsonl", BUILD[method](4))
        error = refuse(tmp_path / method, make_spec(method, data=str(data)))
        assert error == f"{data}/train.jsonl, line 2, {fault}"
