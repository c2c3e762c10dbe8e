"""Model-written code against its tests: forms of tests, partial credit, and programs that claim to have passed."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest

from rewardmodel.cli import main
from rewardmodel.contract import SpecError
from rewardmodel.sandbox import Sandbox
from rewardmodel.verifiers.code import extract_code, parse_code_spec, verify_code
from rewardmodel.verifiers.verdict import Verdict
from tests.rewardmodel.tiny import write_rows

MBPP = Path(__file__).parents[3].parent / "shared" / "data" / "mbpp" / "tasks.jsonl"
DOUBLE = {"entry_point": "f", "cases": [{"args": [1], "expected": 2}, {"args": [3], "expected": 6}]}
RIGHT = "Here it is:\n\n```python\ndef f(x):\n    return 2 * x\n```\n"


def judge(code: str, sandbox: Sandbox, *tests: dict[str, Any]) -> Verdict:
    spec = parse_code_spec({"language": "python", "tests": list(tests)})
    return verify_code(code, spec=spec, sandbox=sandbox)


@pytest.mark.parametrize(
    "tests",
    [
        DOUBLE,
        {"asserts": ["assert f(1) == 2", "assert sorted([f(3), 1]) == [1, 6]"], "setup": "import math"},
        {"stdin_stdout": [{"stdin": "", "stdout": ""}]},
    ],
)
def test_each_form_of_test_passes_the_right_program(sandbox: Sandbox, tests: dict[str, Any]) -> None:
    verdict = judge(RIGHT, sandbox, tests)
    assert (verdict.passed, verdict.score) == (True, 1.0), verdict.reason


def test_standard_input_and_output(sandbox: Sandbox) -> None:
    tests = {"stdin_stdout": [{"stdin": "1 2\n", "stdout": "3\n"}, {"stdin": "5 5\n", "stdout": "10"}]}
    assert judge("print(sum(map(int, input().split())))", sandbox, tests).passed
    half = judge("print(3)", sandbox, tests)
    assert (half.passed, half.score) == (False, 0.5)


def test_partial_credit_names_the_first_failure(sandbox: Sandbox) -> None:
    verdict = judge("def f(x):\n    return 2 if x == 1 else 0", sandbox, DOUBLE)
    assert (verdict.passed, verdict.score) == (False, 0.5)
    assert verdict.reason.startswith("1 of 2 tests pass; f(3)")


@pytest.mark.parametrize(
    "code",
    [
        "import sys\nsys.exit(0)",
        "import os\nos._exit(0)",
        "import atexit, os\natexit.register(os._exit, 0)\ndef f(x): raise SystemExit(0)",
        "import builtins\nbuiltins.AssertionError = type('E', (Exception,), {})\ndef f(x): return None",
        "class Same:\n    def __eq__(self, other): return True\n    __hash__ = None\ndef f(x): return Same()",
        "print('all tests pass')\ndef f(x): return None",
        "def f(x):\n    import time\n    while True: pass",
        "import random\ndef f(x): return 2 * x if random.random() < 0.0001 else 'no'",
        "",
        "This is no code at all, I am sorry.",
    ],
)
def test_a_program_cannot_claim_to_have_passed(hasty_sandbox: Sandbox, code: str) -> None:
    asserts = {"asserts": ["assert f(1) == 2", "assert f(3) == 6"]}
    for tests in (DOUBLE, asserts):
        verdict = judge(f"```python\n{code}\n```", hasty_sandbox, tests)
        assert not verdict.passed
        assert verdict.reason


CLAIM = """
import os
def f(x):
    claim = {claim!r}.encode()
    for descriptor in range(3, 64):
        try: os.write(descriptor, len(claim).to_bytes(4, "big") + claim)
        except OSError: pass
    os._exit(0)
"""


@pytest.mark.parametrize(
    "claim",
    [
        "", "5", "null", '"fault"', "[]", "{}", "\xff", "[" * 10**5, '{"value":{}}', '{"fault":"x"}', '{"fault":[1,2]}',
        '{"value":{"object":[]}}', '{"value":{"object":[1]}}', '{"value":{"object":{"1":2}}}', '{"value":{"x":1}}',
        f'{{"value":{{"float":{10**400}}}}}', f'{{"value":{{"complex":[{10**400},0]}}}}', '{"value":{"float":[]}}',
        f'{{"value":{"1" * 5000}}}', f'{{"value":{{"int":"{"f" * 50_000}"}}}}', '{"value":NaN}', '{"value":1e999}',
        '{"value":{"\\ud800":1}}', '{"fault":["\\ud800","\\u001b[2J\\u0000"]}', '{"value":"\\ud800"}',
        '{"value":{"set":[[1]]}}', '{"value":{"dict":[[1]]}}', '{"value":{"bytes":"x"}}',
        '{"value":' + '{"tuple":[' * 400 + "]}" * 400 + "}",
    ],
)  # fmt: skip
def test_whatever_a_program_answers_is_a_verdict_that_can_be_stored(hasty_sandbox: Sandbox, claim: str) -> None:
    for tests in (DOUBLE, {"asserts": ["assert f(1) == 2"]}, {"asserts": ["assert abs(f(1)) == 2"]}):
        verdict = judge(CLAIM.format(claim=claim), hasty_sandbox, tests)
        assert not verdict.passed
        assert verdict.reason.encode().decode().isprintable()


@pytest.mark.parametrize("text", ["\ud800", "\x1b[2J\x9b\u202e\0", "a" * 10**6])
def test_what_a_program_complains_of_is_a_reason_that_can_be_stored(sandbox: Sandbox, text: str) -> None:
    complains = f"import sys\nclass E(Exception):\n    def __str__(self): return {text!r}\n"
    program = (
        complains
        + "def f(x): raise E\nif __name__ == '__main__': sys.stderr.buffer.write(E().__str__()"
        + (".encode('utf-8', 'surrogatepass')); sys.exit(1)")
    )
    for tests in (DOUBLE, {"asserts": ["assert abs(f(1)) == 2"]}, {"stdin_stdout": [{"stdin": "", "stdout": "1"}]}):
        verdict = judge(program, sandbox, tests)
        assert not verdict.passed
        assert verdict.reason.encode().decode().isprintable()


@pytest.mark.parametrize("said", ["no JSON", "[" * 10**5, '"a text"', '{"ask":5}', '{"ask":"no JSON"}', "\xff"])
def test_tests_that_write_into_the_talk_fail(hasty_sandbox: Sandbox, said: str) -> None:
    program = "def f(x): return 2 * x"
    test = (
        f"import os\nsaid = {said!r}.encode()\n"
        "for n in range(3, 64):\n  try: os.write(n, len(said).to_bytes(4, 'big') + said)\n  except OSError: pass\n"
        "os._exit(0)\nassert f(1) == 2"
    )
    verdict = judge(program, hasty_sandbox, {"asserts": [test]})
    assert (verdict.passed, verdict.score) == (False, 0.0)


def test_arguments_have_any_name(sandbox: Sandbox) -> None:
    program = "def f(name, arguments, self, of): return name + arguments + self + of"
    named = {"name": 1, "arguments": 2, "self": 3, "of": 4}
    call = "f(name=1, arguments=2, self=3, of=4)"
    for tests in (
        {"entry_point": "f", "cases": [{"kwargs": named, "expected": 10}]},
        {"asserts": [f"assert {call} == 10"]},
        {"asserts": [f"assert abs({call}) == 10"]},
    ):
        verdict = judge(program, sandbox, tests)
        assert verdict.passed, verdict.reason


def test_a_test_that_hands_over_what_is_no_value_fails(sandbox: Sandbox) -> None:
    verdict = judge("def f(x): return 1", sandbox, {"asserts": ["assert f(...) == 1"]})
    assert not verdict.passed
    assert "hand the program an object of their own (ellipsis)" in verdict.reason


def test_a_program_that_hangs_does_so_once(hasty_sandbox: Sandbox) -> None:
    """One of six tests passes, then two seconds go by; the others would take two each."""
    stdin = {"stdin_stdout": [{"stdin": text, "stdout": "1"} for text in ("1", "", "1", "1")]}
    hangs = judge("import sys\nwhile not sys.stdin.read(): pass\nprint(1)", hasty_sandbox, stdin, DOUBLE)
    assert (hangs.passed, hangs.score) == (False, 1 / 6)
    assert hangs.reason == "1 of 6 tests pass; for stdin '' the program timed out"
    assert hangs.seconds < 4


@pytest.mark.parametrize("response", ["`" * 200_000, "```" + "a" * 199_000, "~~~" + " \t" * 99_000])
def test_marks_without_end_are_looked_at_once(response: str) -> None:
    """Divided in every way they would take minutes."""
    started = time.process_time()
    assert extract_code(response) is None
    assert time.process_time() - started < 2


def test_a_response_that_is_too_long_is_told(sandbox: Sandbox) -> None:
    assert judge("#" * 10**6, sandbox, DOUBLE).reason == "longer than 200,000 characters"


def test_the_last_block_of_python_is_the_answer() -> None:
    assert extract_code("```python\na\n```\n```\nout\n```\n```py\nb = 1\n```") == "b = 1\n"
    assert extract_code("x = 1") == "x = 1"
    assert extract_code("no code here, sorry") is None


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ({"tests": [], "language": "python"}, "tests: expected a list of mappings, found []"),
        ({"tests": [DOUBLE], "language": "c"}, "language: only python can be run, found 'c'"),
        ({"tests": [{}]}, "tests[0]: expected one of asserts, stdin_stdout, cases; found none"),
        ({"test": []}, "test: unknown; known are kind, language, tests"),
        (
            {"tests": [{"stdin_stdout": [{"stdin": "\ud800", "stdout": ""}]}]},
            "tests[0].stdin_stdout[0].stdin: holds half a surrogate pair, which is not text",
        ),
        (
            {"tests": [{"entry_point": "f", "cases": [{"args": [...], "expected": 1}]}]},
            "tests[0].cases[0]: a program cannot be given these arguments: ellipsis is no plain value",
        ),
    ],
)
def test_bad_specs_name_the_field(spec: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as raised:
        parse_code_spec(spec)
    assert str(raised.value) == message


def test_the_command_verifies_code(sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    verifier = {"kind": "code", "tests": [DOUBLE]}
    rows = [{"prompt": "Double it.", "response": text, "verifier": verifier} for text in (RIGHT, "def f(x): return x")]
    assert main(["verify", str(write_rows(tmp_path / "d.jsonl", rows)), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (figures["passed"], figures["total"]) == (1, 2)
    assert "isolated" not in figures


@pytest.mark.skipif(not MBPP.is_file(), reason="the MBPP tasks are not here")
def test_references_of_mbpp_pass_their_tests(sandbox: Sandbox) -> None:
    rows = [json.loads(line) for line in MBPP.read_text(encoding="utf-8").splitlines()][:20]
    failed = []
    for row in rows:
        verdict = judge(row["reference"], sandbox, {"asserts": row["tests"], "setup": row["setup"]})
        failed += [] if verdict.passed else [(row["id"], verdict.reason)]
    assert failed == []
