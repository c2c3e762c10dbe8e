import json
import os
import threading
from pathlib import Path

import pytest

from rewardmodel.rundir import (
    RunDir,
    RunDirBusyError,
    RunDirError,
    append_json_line,
    append_json_lines,
    read_json_lines,
    write_json,
    write_json_lines,
)


def test_a_new_directory_holds_the_spec_and_is_queued(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "run").create({"method": "reward"})
    assert run.read_spec() == {"method": "reward"}
    assert run.read_status()["state"] == "queued"
    with pytest.raises(RunDirError, match=r"spec\.json exists already"):
        run.create({"method": "dpo"})


def test_status_changes_only_what_is_named(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.write_status(state="running", step=3)
    run.write_status(step=4)
    status = run.read_status()
    assert (status["state"], status["step"], status["error"]) == ("running", 4, None)


def test_an_unknown_status_field_or_state_is_refused(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    with pytest.raises(ValueError, match="status has no field 'stat'"):
        run.write_status(stat="running")
    with pytest.raises(ValueError, match="state must be one of"):
        run.write_status(state="done")


def test_readers_never_see_half_a_file(tmp_path: Path) -> None:
    """A writer replaces the file 200 times between two sizes while a reader reads: each read is one of the two."""
    file = tmp_path / "run" / "status.json"
    short, long = {"value": "a"}, {"value": "b" * 50_000}
    write_json(file, short)
    writer = threading.Thread(target=lambda: [write_json(file, value) for _ in range(100) for value in (short, long)])
    writer.start()
    seen = []
    while writer.is_alive():
        seen.append(json.loads(file.read_text()))
    writer.join()
    assert [value for value in seen if value not in (short, long)] == []
    assert os.listdir(file.parent) == ["status.json"]


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    file = tmp_path / "run" / "report.json"
    write_json(file, {"loss": 1.0})
    with pytest.raises(ValueError, match="not JSON compliant"):
        write_json(file, {"loss": float("nan")})
    assert json.loads(file.read_text()) == {"loss": 1.0}
    assert os.listdir(file.parent) == ["report.json"]


def test_a_torn_last_line_is_not_read_and_is_cut_by_the_next_append(tmp_path: Path) -> None:
    file = tmp_path / "rows.jsonl"
    append_json_line(file, {"step": 1})
    with file.open("a") as handle:
        handle.write('{"step": 2, "lo')
    assert read_json_lines(file) == [{"step": 1}]
    append_json_line(file, {"step": 3})
    assert file.read_text() == '{"step": 1}\n{"step": 3}\n'


def test_metrics_are_read_from_a_line_on_and_dropped_after_a_step(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    for step in (5, 10, 15):
        run.append_metrics({"step": step, "loss": 1.0 / step})
    assert [row["step"] for row in run.read_metrics(after_line=1)] == [10, 15]
    run.drop_metrics_after(10)
    assert [row["step"] for row in run.read_metrics()] == [5, 10]


def test_a_cancel_request_is_seen_and_can_be_withdrawn(tmp_path: Path) -> None:
    run = RunDir(tmp_path)
    run.request_cancel()
    assert run.cancel_requested()
    run.clear_cancel()
    assert not run.cancel_requested()


def test_two_processes_cannot_hold_one_directory(tmp_path: Path) -> None:
    with (
        RunDir(tmp_path).lock(),
        pytest.raises(RunDirBusyError, match="another process"),
        RunDir(tmp_path).lock(),
    ):
        pass


def test_a_broken_spec_names_its_file(tmp_path: Path) -> None:
    (tmp_path / "spec.json").write_text("{")
    with pytest.raises(RunDirError, match=r"spec\.json is not valid JSON"):
        RunDir(tmp_path).read_spec()


def test_rows_with_half_a_surrogate_pair_are_written_and_read_as_they_were(tmp_path: Path) -> None:
    rows = [{"text": "\ud800 é"}, {"text": "\0\x1b\u2028"}, {"text": "漢"}]
    write_json_lines(tmp_path / "whole.jsonl", rows)
    append_json_lines(tmp_path / "grown.jsonl", rows[:1])
    append_json_lines(tmp_path / "grown.jsonl", rows[1:])
    for name in ("whole.jsonl", "grown.jsonl"):
        assert read_json_lines(tmp_path / name) == rows
        assert "漢".encode() in (tmp_path / name).read_bytes()
