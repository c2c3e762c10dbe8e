"""The command line: exit codes, files and the last line of stdout."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rewardmodel.cli import main
from rewardmodel.rundir import RunDir, read_json_lines
from tests.rewardmodel.tiny import build_pairs, write_rows

MakeSpec = Callable[..., dict[str, Any]]


def test_train_reads_yaml_and_leaves_a_succeeded_run(
    tmp_path: Path, make_spec: MakeSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    """1e-2 is a number here, though YAML 1.1 takes it for a string."""
    settings = make_spec("reward", max_steps=2)
    settings.pop("learning_rate")
    lines = [f"{key}: {value}" for key, value in settings.items()]
    (tmp_path / "spec.yaml").write_text("\n".join([*lines, "learning_rate: 1e-2"]))
    assert main(["train", str(tmp_path / "spec.yaml"), "--run-dir", str(tmp_path / "run")]) == 0
    run = RunDir(tmp_path / "run")
    assert run.read_status()["state"] == "succeeded"
    assert run.read_spec()["learning_rate"] == 0.01
    assert json.loads(capsys.readouterr().out) == run.read_report()
    assert main(["run", str(tmp_path / "run")]) == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("method: reward\ndta: x\n", "unknown 'dta': did you mean 'data'? (method reward)"),
        ("method: [", "is not valid YAML or JSON"),
        ("method: reward\ndata: nowhere\n", "is not a directory"),
    ],
)
def test_a_bad_spec_or_data_exits_2_with_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, message: str
) -> None:
    (tmp_path / "spec.yaml").write_text(text)
    assert main(["train", str(tmp_path / "spec.yaml"), "--run-dir", str(tmp_path / "run")]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_a_bad_data_row_is_named_in_message_and_status(
    tmp_path: Path, make_spec: MakeSpec, capsys: pytest.CaptureFixture[str]
) -> None:
    write_rows(tmp_path / "data" / "train.jsonl", [{"prompt": "x", "chosen": "y"}])
    write_rows(tmp_path / "data" / "test.jsonl", build_pairs(2))
    RunDir(tmp_path / "run").create(make_spec("reward", data="../data"))
    assert main(["run", str(tmp_path / "run")]) == 2
    assert "train.jsonl, line 1, rejected: missing" in capsys.readouterr().err
    status = RunDir(tmp_path / "run").read_status()
    assert status["state"] == "failed"
    assert status["error"].endswith("train.jsonl, line 1, rejected: missing")


def test_run_without_a_spec_exits_2(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", str(tmp_path / "none")]) == 2
    assert "spec.json does not exist" in capsys.readouterr().err


def test_a_directory_at_work_is_left_alone(tmp_path: Path, make_spec: MakeSpec) -> None:
    run = RunDir(tmp_path).create(make_spec("reward"))
    with run.lock():
        assert main(["run", str(tmp_path)]) == 3
    assert run.read_status()["state"] == "queued"


def test_evaluate_and_score_agree_with_the_report_of_training(
    tmp_path: Path, reward_run: RunDir, tiny_data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Three roads to one figure: the run's report, `evaluate`, and the differences of `score`."""
    model, test = str(reward_run.outputs / "model"), tiny_data / "test.jsonl"
    assert main(["evaluate", model, str(test), "--json", "--precision", "fp32"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    heldout = reward_run.read_report()["heldout"]
    assert {key: figures[key] for key in ("n", "n_prompts", "accuracy", "interval", "interval_by_prompt")} == {
        key: heldout[key] for key in ("n", "n_prompts", "accuracy", "interval", "interval_by_prompt")
    }
    assert figures["log_loss"] == pytest.approx(heldout["log_loss"], abs=1e-6)
    assert figures["baselines"]["longer_wins"] == reward_run.read_report()["baselines"]["longer_wins"]

    rows = read_json_lines(test)
    texts = [{"prompt": row["prompt"], "response": row[side]} for row in rows for side in ("chosen", "rejected")]
    write_rows(tmp_path / "texts.jsonl", texts)
    arguments = [
        str(tmp_path / "texts.jsonl"),
        "--out",
        str(tmp_path / "scores.jsonl"),
        "--precision",
        "fp32",
    ]
    assert main(["score", model, *arguments]) == 0
    scores = [row["score"] for row in read_json_lines(tmp_path / "scores.jsonl")]
    right = sum(chosen > rejected for chosen, rejected in zip(scores[::2], scores[1::2], strict=True))
    assert right / len(rows) == heldout["accuracy"]


def test_score_keeps_the_other_keys_and_gives_null_to_what_is_too_long(
    tmp_path: Path, reward_run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"id": 7, "prompt": "the cat", "response": "sat"},
        {"id": 8, "prompt": "the cat", "response": "sat " * 300},
    ]
    write_rows(tmp_path / "texts.jsonl", rows)
    model, out = str(reward_run.outputs / "model"), tmp_path / "scores.jsonl"
    assert main(["score", model, str(tmp_path / "texts.jsonl"), "--out", str(out)]) == 0
    scored = read_json_lines(out)
    assert [row["id"] for row in scored] == [7, 8]
    assert [row["score"] is None for row in scored] == [False, True]
    assert "1 of 2 are longer than the model reads" in capsys.readouterr().err


def test_evaluate_refuses_a_policy(tiny_model: Path, tiny_data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["evaluate", str(tiny_model), str(tiny_data / "test.jsonl"), "--json"]) == 2
    assert "is not a reward model" in capsys.readouterr().err


def test_generate_writes_n_rows_a_prompt_in_order(tmp_path: Path, tiny_model: Path) -> None:
    write_rows(tmp_path / "prompts.jsonl", [{"prompt": "the cat sat on a mat", "tag": 1}, {"prompt": "rain"}])
    arguments = [str(tmp_path / "prompts.jsonl"), "--out", str(tmp_path / "out.jsonl"), "--n", "2"]
    assert main(["generate", str(tiny_model), *arguments, "--max-new-tokens", "5"]) == 0
    rows = read_json_lines(tmp_path / "out.jsonl")
    assert [(row["prompt_id"], row["index"]) for row in rows] == [
        ("line-1", 0),
        ("line-1", 1),
        ("line-2", 0),
        ("line-2", 1),
    ]
    assert rows[0]["tag"] == 1
    assert {row["finish_reason"] for row in rows} <= {"eos", "length"}


def test_generate_refuses_a_setting_out_of_range(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(tmp_path / "none.jsonl"), "--out", str(tmp_path / "out.jsonl"), "--n", "0"]
    assert main(["generate", str(tiny_model), *arguments]) == 2
    assert "n: must be at least 1, got 0" in capsys.readouterr().err
