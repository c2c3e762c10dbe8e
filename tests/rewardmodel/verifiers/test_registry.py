"""One protocol for all kinds: bounded, repeated, refused where a spec is wrong."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from rewardmodel.contract import InputError, SpecError
from rewardmodel.rundir import RunDir
from rewardmodel.verifiers.functions import allow_functions
from rewardmodel.verifiers.registry import Permissions, parse_verifier, settle_repeats, verify
from rewardmodel.verifiers.verdict import Verdict, failed, passed
from rewardmodel.verifiers.workers import NoAnswerError, WorkerPool

HERE = "tests.rewardmodel.verifiers.sample_functions"
ALLOWED = Permissions(
    functions=allow_functions(
        tuple(f"{name}={HERE}:{name}" for name in ("accept", "share", "count", "crash", "hang", "die", "nonsense"))
    )
)


@pytest.fixture(scope="module")
def pool() -> Iterator[WorkerPool]:
    with WorkerPool() as workers:
        yield workers


def call(pool: WorkerPool, name: str, response: str = "yes", **settings: Any) -> Verdict:
    return verify("?", response, {"kind": "python", "name": name, **settings}, permissions=ALLOWED, pool=pool)


@pytest.mark.parametrize(
    ("spec", "response"),
    [
        ({"kind": "math", "answer": "42"}, "#### 42"),
        ({"kind": "constraints", "instruction_ids": ["punctuation:no_comma"]}, "no comma"),
        ({"kind": "logic", "answer": "Yes"}, "Yes."),
    ],
)
def test_every_kind_answers_with_a_verdict(pool: WorkerPool, spec: dict[str, Any], response: str) -> None:
    good = verify("?", response, spec, pool=pool)
    assert (good.passed, good.score) == (True, 1.0)
    bad = verify("?", ",", spec, pool=pool)
    assert (bad.passed, bad.score) == (False, 0.0)
    assert bad.reason
    assert bad.seconds > 0


def test_without_a_pool_one_worker_is_shared() -> None:
    assert verify("?", "#### 1/2", {"kind": "math", "answer": 0.5}).passed


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        (3, "expected a mapping {kind, …}, got int"),
        ({}, "kind: missing"),
        ({"kind": "mth"}, "kind: unknown 'mth': did you mean 'math'?"),
        ({"kind": "math", "answer": 1, "repeats": 0}, "repeats: expected a whole number from 1 to 100, got 0"),
        ({"kind": "math", "answer": 1, "timeout": 0}, "timeout: must be above 0, got 0"),
        ({"kind": "reward", "threshold": 1}, "reward needs a reward model"),
        ({"kind": "code", "tests": []}, "tests: expected a list of mappings"),
    ],
)
def test_a_wrong_spec_is_an_error_and_no_verdict(spec: Any, message: str) -> None:
    with pytest.raises(InputError) as caught:
        parse_verifier(spec)
    assert message in str(caught.value)


@pytest.mark.parametrize(
    "spec",
    [
        {"kind": "python", "name": "os:system"},
        {"kind": "python", "name": f"{HERE}:accept"},
        {"kind": "python", "name": "accept", "target": f"{HERE}:accept"},
        {"kind": "python", "name": "other"},
    ],
)
def test_a_data_row_names_no_code(spec: dict[str, Any]) -> None:
    with pytest.raises(SpecError):
        parse_verifier(spec)
    with pytest.raises(SpecError):
        parse_verifier(spec, permissions=Permissions(functions={"mine": f"{HERE}:accept"}))


def test_only_installed_functions_go_by_their_name_alone() -> None:
    with pytest.raises(InputError, match=r"no verifier 'mine' is installed \(entry points preferee.verifiers\)"):
        allow_functions(("mine",))
    with pytest.raises(InputError, match="expected NAME=module:function"):
        allow_functions(("mine=os.system",))
    assert allow_functions(("mine=a.b:c",)) == {"mine": "a.b:c"}


def test_own_functions_say_yes_a_share_or_a_verdict(pool: WorkerPool) -> None:
    assert call(pool, "accept").passed
    assert not call(pool, "accept", "no").passed
    verdict = call(pool, "share", arguments={"share": 0.25})
    assert (verdict.passed, verdict.score, verdict.reason) == (False, 0.25, "share: 0.25")
    assert call(pool, "share", arguments={"share": 1}).passed


def test_crashes_deaths_and_nonsense_never_pass(pool: WorkerPool) -> None:
    for name, reason in (
        ("crash", "the python check failed: KeyError: 'x'"),
        ("nonsense", "returned 'maybe'"),
        ("die", "the python check crashed"),
    ):
        verdict = call(pool, name)
        assert (verdict.passed, verdict.score) == (False, 0.0)
        assert reason in verdict.reason
    assert call(pool, "accept").passed  # and the next one is checked as if nothing had been


def test_what_hangs_is_stopped(pool: WorkerPool) -> None:
    call(pool, "accept")
    started = time.monotonic()
    verdict = call(pool, "hang", timeout=0.2)
    assert (verdict.passed, verdict.reason) == (False, "the python check took longer than 0.2 s and was stopped")
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    ("spec", "response"),
    [
        ({"kind": "math", "answer": "x"}, r"\boxed{10^{9^{9^{9}}}+x}"),
        ({"kind": "constraints", "constraints": [{"type": "regex", "pattern": "^(a+)+$"}]}, "a" * 40 + "!"),
    ],
)
def test_hostile_inputs_of_our_own_kinds_are_stopped(pool: WorkerPool, spec: dict[str, Any], response: str) -> None:
    verdict = verify("?", response, {**spec, "timeout": 0.3}, pool=pool)
    assert not verdict.passed
    assert "took longer than 0.3 s" in verdict.reason or "crashed" in verdict.reason or "failed" in verdict.reason


def test_a_check_that_disagrees_with_itself_fails(pool: WorkerPool) -> None:
    """It accepts every second time."""
    verdict = call(pool, "count", repeats=2)
    assert not verdict.passed
    assert verdict.reason.startswith("disagrees with itself: 1 of 2 runs pass")
    assert call(pool, "accept", repeats=3).passed


def test_repeats_settle_on_what_all_say() -> None:
    assert settle_repeats([passed("a"), passed("b")]) == passed("a")
    assert settle_repeats([failed("a", score=0.5), failed("b", score=0.25)]).score == 0


def test_a_verdict_says_why_in_one_line() -> None:
    assert failed("a\nb").reason == "a b"
    assert len(failed("x" * 1000).reason) == 300
    with pytest.raises(ValueError, match="must say why"):
        failed(" ")
    with pytest.raises(ValueError, match="from 0 to 1"):
        failed("a", score=1.5)


def test_a_reason_holds_nothing_that_a_terminal_obeys_or_a_file_refuses() -> None:
    assert failed("é 漢 \x1b[2J \x9b \u202e \ud800 \0").reason == r"é 漢 \x1b[2J \x9b \u202e \ud800 \x00"


def test_a_verdict_is_a_yes_or_a_no() -> None:
    with pytest.raises(TypeError, match="passed: True or False, got 'no'"):
        Verdict("no", 0.0, "it says no")  # type: ignore[arg-type]


def test_a_worker_that_is_closed_starts_again() -> None:
    with WorkerPool() as pool:
        request = {"kind": "logic", "settings": {"answer": "Yes"}, "prompt": [], "response": "Yes"}
        assert pool.ask(request, seconds=5)["passed"]
        pool.close()
        assert pool.ask(request, seconds=5)["passed"]
        with pytest.raises(NoAnswerError, match="crashed"):
            pool.ask({**request, "kind": "python", "settings": {"name": "die", "target": f"{HERE}:die"}}, seconds=5)


def test_an_answer_that_was_not_waited_for_is_nobody_elses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl+C comes while a worker says that "Yes" is right; "No" is asked about next."""
    request = {"kind": "logic", "settings": {"answer": "Yes"}, "prompt": [], "response": "Yes"}
    with WorkerPool() as pool:
        pool.ask(request, seconds=5)

        def interrupt(*args: Any) -> bool:
            raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr("multiprocessing.connection.Connection.poll", interrupt)
            with pytest.raises(KeyboardInterrupt):
                pool.ask(request, seconds=5)
        assert not pool.ask({**request, "response": "No"}, seconds=5)["passed"]


def test_a_reward_model_judges_by_its_threshold(reward_run: RunDir) -> None:
    permissions = Permissions(reward_model=str(reward_run.outputs / "model"))
    low, high = (
        verify("the rain", "sat on", {"kind": "reward", "threshold": threshold}, permissions=permissions)
        for threshold in (-1e6, 1e6)
    )
    assert (low.passed, high.passed) == (True, False)
    assert "below 1e+06" in high.reason
