"""`rewardmodel verify` from the command line."""

import json
from pathlib import Path
from typing import Any

import pytest

from rewardmodel.cli import main
from rewardmodel.metrics import wilson_interval
from rewardmodel.rundir import RunDir, read_json_lines
from tests.rewardmodel.tiny import write_rows

ROWS: list[dict[str, Any]] = [
    {"prompt": "6 × 7?", "response": "#### 42", "verifier": {"kind": "math", "answer": "42"}, "id": "a"},
    {"prompt": "6 × 7?", "response": "", "verifier": {"kind": "math", "answer": "42"}},
    {
        "prompt": [{"role": "user", "content": "Is it?"}],
        "response": [{"role": "assistant", "content": "Yes."}],
        "verifier": {"kind": "logic", "answer": "Yes"},
    },
]


def test_the_last_line_counts_and_the_rows_get_their_verdicts(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_rows(tmp_path / "d.jsonl", ROWS), tmp_path / "out.jsonl"
    assert main(["verify", str(data), "--json", "--out", str(out), "--workers", "2"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert figures.pop("seconds") > 0
    assert figures == {
        "passed": 2,
        "total": 3,
        "interval": list(wilson_interval(2, n=3)),
        "by_kind": {"logic": {"passed": 1, "total": 1}, "math": {"passed": 1, "total": 2}},
    }
    rows = read_json_lines(out)
    assert [{key: row[key] for key in row if key != "verdict"} for row in rows] == ROWS
    assert [(row["verdict"]["passed"], row["verdict"]["score"], row["verdict"]["reason"]) for row in rows] == [
        (True, 1.0, "42 equals 42"),
        (False, 0.0, "no final answer found"),
        (True, 1.0, "answered yes"),
    ]


CODE = {"kind": "code", "tests": [{"asserts": ["assert f(1) == 2"]}]}


@pytest.mark.usefixtures("no_bubblewrap")
def test_without_bubblewrap_code_is_refused_unless_the_operator_says_so(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"prompt": "Double it.", "response": "def f(x): return 2 * x", "verifier": CODE}
    command = ["verify", str(write_rows(tmp_path / "d.jsonl", [row])), "--json", "--out", str(tmp_path / "out.jsonl")]
    assert main(command) == 2
    assert "apt-get install bubblewrap" in capsys.readouterr().err
    assert not (tmp_path / "out.jsonl").exists()
    assert main([*command, "--unsafe-without-sandbox"]) == 0
    said = capsys.readouterr()
    figures = json.loads(said.out.splitlines()[-1])
    assert (figures["passed"], figures["isolated"]) == (1, False)
    assert "code was run without isolation" in said.err
    [found] = read_json_lines(tmp_path / "out.jsonl")
    assert found["verdict"]["reason"] == "all 1 tests pass (run without isolation)"


@pytest.mark.usefixtures("sandbox")
def test_what_may_run_without_isolation_is_isolated_where_it_can_be(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    row = {"prompt": "Double it.", "response": "def f(x): return 2 * x", "verifier": CODE}
    data = write_rows(tmp_path / "d.jsonl", [row])
    assert main(["verify", str(data), "--json", "--unsafe-without-sandbox"]) == 0
    said = capsys.readouterr()
    assert "isolated" not in json.loads(said.out.splitlines()[-1])
    assert "without isolation" not in said.err


def test_without_json_people_read_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["verify", str(write_rows(tmp_path / "d.jsonl", ROWS))]) == 0
    assert capsys.readouterr().out.splitlines() == ["2 of 3 pass (0.208 to 0.939)", "logic: 1 of 1", "math: 1 of 2"]


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({"response": "x", "verifier": {"kind": "math", "answer": 1}}, "line 4, prompt: missing"),
        ({"prompt": "x", "verifier": {"kind": "math", "answer": 1}}, "line 4, response: missing"),
        ({"prompt": "x", "response": "x"}, "line 4, verifier: missing"),
        ({"prompt": "x", "response": "x", "verifier": {"kind": "math", "answr": 1}}, "verifier: unknown 'answr'"),
        ({"prompt": "x", "response": "x", "verifier": {"kind": "python", "name": "os"}}, "'os' may not run"),
        ({"prompt": "x", "response": "x", "verifier": {"kind": "code"}}, "tests: expected a list of mappings"),
    ],
)  # fmt: skip
def test_a_bad_row_stops_all_before_anything_is_verified(
    tmp_path: Path, row: dict[str, Any], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    data, out = write_rows(tmp_path / "d.jsonl", [*ROWS, row]), tmp_path / "out.jsonl"
    assert main(["verify", str(data), "--json", "--out", str(out)]) == 2
    said = capsys.readouterr()
    assert f"{data}, line 4" in said.err
    assert message in said.err
    assert said.out == ""
    assert not out.exists()


def test_empty_files_and_no_workers_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    empty = tmp_path / "d.jsonl"
    empty.write_text("")
    assert main(["verify", str(empty)]) == 2
    assert main(["verify", str(empty), "--workers", "0"]) == 2
    assert main(["verify", str(tmp_path / "none.jsonl")]) == 2
    assert "--workers: must be at least 1" in capsys.readouterr().err


def test_the_operator_allows_a_function_and_names_the_reward_model(
    tmp_path: Path, reward_run: RunDir, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [
        {"prompt": "the cat", "response": "yes", "verifier": {"kind": "python", "name": "mine"}},
        {"prompt": "the cat", "response": "sat", "verifier": {"kind": "reward", "threshold": 1e6, "repeats": 2}},
        {"prompt": "the cat", "response": "sat", "verifier": {"kind": "reward", "threshold": -1e6}},
    ]
    arguments = ["verify", str(write_rows(tmp_path / "d.jsonl", rows)), "--json"]
    allowed = ["--allow-python", "mine=tests.rewardmodel.verifiers.sample_functions:accept"]
    assert main([*arguments, *allowed, "--reward-model", str(reward_run.outputs / "model")]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["by_kind"] == {
        "python": {"passed": 1, "total": 1},
        "reward": {"passed": 1, "total": 2},
    }
    assert main([*arguments, *allowed]) == 2
    assert "--reward-model" in capsys.readouterr().err
