"""The verify run: rows, resuming, what is refused."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rewardmodel import verify
from rewardmodel.jobs import run_job
from rewardmodel.rundir import RunDir, append_json_lines, read_json_lines
from rewardmodel.verifiers import registry
from rewardmodel.verifiers.verdict import passed
from tests.rewardmodel.tiny import write_rows

SIX = {"kind": "math", "answer": "6"}


def row(name: str, response: str, verifier: dict[str, Any]) -> dict[str, Any]:
    prompt = [{"role": "user", "content": "2 × 3?"}]
    return {"response_id": name, "prompt": prompt, "response": response, "verifier": verifier}


def start(directory: Path, *, rows: Sequence[dict[str, Any]], **settings: object) -> RunDir:
    write_rows(directory / "responses.jsonl", list(rows))
    spec = {"method": "verify", "data": "../responses.jsonl", "workers": 1, **settings}
    return RunDir(directory / "run").create(spec)


def test_every_response_gets_the_verdict_of_its_own_verifier(tmp_path: Path) -> None:
    """Two of three pass: 2/3, and by Wilson's formula at n = 3 from 20.8 % to 93.9 %."""
    run = start(
        tmp_path,
        rows=[
            row("a", "It is 6.", SIX),
            row("b", "It is 7.", SIX),
            row("c", "Yes", {"kind": "logic", "answer": "Yes"}),
        ],
    )
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    found = {one["response_id"]: one for one in read_json_lines(run.outputs / "verdicts.jsonl")}
    assert {name: (one["kind"], one["passed"], one["score"]) for name, one in found.items()} == {
        "a": ("math", True, 1.0),
        "b": ("math", False, 0.0),
        "c": ("logic", True, 1.0),
    }
    assert all(one["reason"] for one in found.values())
    report = run.read_report()
    assert report is not None
    assert (report["passed"], report["verified"]) == (2, 3)
    assert report["interval"] == pytest.approx([0.2077, 0.9385], abs=1e-4)
    assert report["by_kind"] == {"logic": {"passed": 1, "total": 1}, "math": {"passed": 1, "total": 2}}


def test_a_verifier_that_cannot_be_run_gives_no_verdict_and_says_why(tmp_path: Path) -> None:
    run = start(
        tmp_path,
        rows=[
            row("a", "It is 6.", SIX),
            row("b", "It is 6.", {"kind": "python", "name": "mine"}),
            row("c", "It is 6.", {"kind": "reward", "threshold": 0.5}),
            row("d", "It is 6.", {"kind": "math"}),
        ],
    )
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    found = {one["response_id"]: one for one in read_json_lines(run.outputs / "verdicts.jsonl")}
    assert {name: one["passed"] for name, one in found.items()} == {"a": True, "b": None, "c": None, "d": None}
    assert "mine" in found["b"]["reason"]
    assert "reward model" in found["c"]["reason"]
    assert "answer" in found["d"]["reason"]
    report = run.read_report()
    assert report is not None
    assert (report["verified"], report["dropped"]) == (1, {"verifier_refused": 3})
    assert len(report["notes"]) == 3


def test_where_nothing_is_verified_there_is_no_interval(tmp_path: Path) -> None:
    run = start(tmp_path, rows=[row("a", "It is 6.", {"kind": "math"})])
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    report = run.read_report()
    assert report is not None
    assert (report["verified"], report["interval"]) == (0, None)


def test_a_run_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of five rows two are there: the other three are verified, in batches of two."""
    monkeypatch.setattr(verify, "BATCH", 2)
    run = start(tmp_path, rows=[row(name, "It is 6.", SIX) for name in "abcde"])
    kept = {"response_id": "b", "kind": "math", "passed": False, "score": 0.0, "reason": "kept", "seconds": 0.0}
    append_json_lines(run.outputs / "verdicts.jsonl", [kept, {**kept, "response_id": "d"}])
    batches: list[int] = []
    verify_batch = verify.verify_batch

    def count(items: Any, **settings: Any) -> Any:
        batches.append(len(items))
        return verify_batch(items, **settings)

    monkeypatch.setattr(verify, "verify_batch", count)
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    found = [(one["response_id"], one["reason"] == "kept") for one in read_json_lines(run.outputs / "verdicts.jsonl")]
    assert found == [("b", True), ("d", True), ("a", False), ("c", False), ("e", False)]
    assert batches == [2, 1]


@pytest.mark.parametrize("names", [("a", "a"), ("a", "")])
def test_every_row_needs_an_id_of_its_own(tmp_path: Path, names: tuple[str, str]) -> None:
    run = start(tmp_path, rows=[row(name, "6", SIX) for name in names])
    assert run_job(run, show=False) == "bad input"
    assert "a response_id of its own" in run.read_status()["error"]


def test_code_is_not_run_where_nothing_isolates_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from rewardmodel.sandbox import SandboxUnavailable

    def refuse(*, unsafe: bool) -> None:
        raise SandboxUnavailable("install bubblewrap")

    monkeypatch.setattr(registry, "shared_sandbox", refuse)
    code = {"kind": "code", "tests": [{"asserts": ["assert f(1) == 2"]}]}
    run = start(tmp_path, rows=[row("a", "It is 6.", SIX), row("b", "def f(x): return x + 1", code)])
    assert run_job(run, show=False) == "bad input"
    assert "install bubblewrap" in run.read_status()["error"]
    assert not (run.outputs / "verdicts.jsonl").exists()


def test_code_that_was_run_without_isolation_is_said_to_have_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who starts the run allows it; where something isolates, nothing is said."""
    code = {"kind": "code", "tests": [{"asserts": ["assert f(1) == 2"]}]}
    program = "def f(x):\n    return x + 1"
    asked: list[bool] = []

    def find_none(verifiers: Any, *, unsafe: bool) -> bool:
        asked.append(unsafe)
        return not unsafe

    monkeypatch.setattr(verify, "require_sandbox", find_none)
    monkeypatch.setattr(verify, "verify_items", lambda items, **settings: [passed("all 1 tests pass") for _ in items])
    for unsafe in (True, False):
        run = start(tmp_path / str(unsafe), rows=[row("a", program, code)])
        assert run_job(run, show=False, unsafe_code=unsafe) == "succeeded", run.read_status()["error"]
        report = run.read_report()
        assert report is not None
        notes = ["model-written code ran without isolation"] if unsafe else []
        assert (run.read_status()["isolated"] is False, report["notes"]) == (unsafe, notes)
    assert asked == [True, False]
