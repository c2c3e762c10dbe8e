"""The maker of mutants, and what the benchmark says of verifiers that let them through."""

from __future__ import annotations

import random
from typing import Any

import pytest

from benchmarks.mutants import (
    Finding,
    Inputs,
    Mutant,
    examine_task,
    find_differences,
    find_tested_calls,
    make_mutants,
    other_calls,
    perturb,
    report,
    usable_calls,
)
from rewardmodel.sandbox import Sandbox

SMALLER = "def smaller(a, b):\n    if a < b:\n        return a\n    return b"
TASK = {
    "id": "smaller",
    "reference": SMALLER,
    "setup": "",
    "tests": ["assert smaller(1, 2) == 1", "assert smaller(5, 3) == 3"],
}


def changed_lines(source: str) -> list[tuple[str, str]]:
    """What was done, and the one line that is not the source's."""
    return sorted(
        (mutant.change, line.strip())
        for mutant in make_mutants(source)
        for line, before in zip(mutant.source.splitlines(), source.splitlines(), strict=True)
        if line != before
    )


def test_every_change_of_a_small_function_is_made_once() -> None:
    """A comparison becomes two others, a condition its opposite, and either return gives way to nothing."""
    assert changed_lines(SMALLER) == [
        ("comparison", "if a <= b:"),
        ("comparison", "if a > b:"),
        ("condition", "if not a < b:"),
        ("statement", "pass"),
        ("statement", "pass"),
    ]


@pytest.mark.parametrize(
    ("line", "mutants"),
    [
        ("return x + 1", ["pass", "return x + 0", "return x + 2", "return x - 1"]),
        ("return x and y", ["pass", "return x or y"]),
        ("return f(x, y)", ["pass", "return f(y, x)"]),
        ("return 'no'", ["pass", "return 'nox'"]),
        ("return True", ["pass", "return False"]),
        ("x //= y", ["pass", "x *= y"]),
    ],
)
def test_a_line_becomes_these(line: str, mutants: list[str]) -> None:
    assert sorted(changed for _change, changed in changed_lines(f"def f(x, y):\n    {line}")) == mutants


def test_texts_that_stand_alone_stay() -> None:
    assert changed_lines('def f(x):\n    """Says x."""\n    return x') == [("statement", "pass")]


def test_the_tested_calls_are_those_of_the_asserts() -> None:
    row = {
        "reference": "def f(x):\n    return x\n",
        "tests": ["assert f([1, 2]) == [1, 2]", "assert max(f((3,))) == 3", "assert f(f(1)) == 1"],
    }
    assert find_tested_calls(row) == [("f", ([1, 2],)), ("f", ((3,),)), ("f", (1,))]


def test_other_calls_are_new_drawn_alike_by_a_seed_and_of_the_same_types() -> None:
    tested = [("f", (1, "ab")), ("f", (2, "cd"))]
    made = other_calls(tested, count=20, rng=random.Random(0))
    assert made == other_calls(tested, count=20, rng=random.Random(0))
    assert len(made) == len({repr(call) for call in made}) == 20
    assert not {repr(call) for call in made} & {repr(call) for call in tested}
    assert {tuple(map(type, arguments)) for _name, arguments in made} == {(int, str)}


@pytest.mark.parametrize("value", [True, 3, 1.5, "abc", [1, 2, 3], (1, "a"), {"a": [1]}, {1, 2}, [[1], [2]]])
def test_a_perturbed_value_keeps_its_type_and_leaves_the_original_alone(value: Any) -> None:
    before, rng = repr(value), random.Random(1)
    found = [perturb(value, rng=rng) for _try in range(20)]
    assert {type(one) for one in found} == {type(value)}
    assert any(one != value for one in found)
    assert repr(value) == before


def test_programs_are_compared_by_what_they_return(sandbox: Sandbox) -> None:
    calls = [("f", (1,)), ("f", (2,)), ("f", (3,)), ("f", (4,))]
    other = "def f(x):\n    if x == 2:\n        return 0\n    if x == 3:\n        raise ValueError\n    return float(x)"
    assert find_differences("def f(x): return x", other, calls=calls, sandbox=sandbox) == [False, True, True, False]


def test_a_program_that_does_not_come_back_differs_from_there_on(sandbox: Sandbox) -> None:
    calls = [("f", (1,)), ("f", (2,)), ("f", (3,))]
    other = "def f(x):\n    while x == 2: pass\n    return x"
    assert find_differences("def f(x): return x", other, calls=calls, sandbox=sandbox) == [False, True, True]


def test_only_inputs_to_which_the_reference_gives_one_answer_count(sandbox: Sandbox) -> None:
    """It fails at 1, never comes back from 2, is another every time at 3, and answers 4 and 5."""
    reference = (
        "def f(x):\n    if x == 1:\n        raise ValueError\n    while x == 2: pass\n"
        "    return object() if x == 3 else x"
    )
    calls = [("f", (x,)) for x in (1, 4, 3, 2, 0, 5)]
    usable = usable_calls(reference, calls=calls, sandbox=sandbox)
    assert usable == [(("f", (4,)), "4"), (("f", (5,)), "5")]  # 0 goes with 2, after which it came


def test_the_mutants_of_a_task_are_compared_and_verified(sandbox: Sandbox) -> None:
    """Of five mutants one is the reference in other words: a ≤ b takes the same of two equal ones."""
    findings = examine_task(TASK, seed=0, most=20, sandbox=sandbox)
    told = {
        (one.mutant.change, one.differs_tested or one.differs_more or one.differs_held_out, one.passes)
        for one in findings
    }
    assert told == {
        ("comparison", False, True),
        ("comparison", True, False),
        ("condition", True, False),
        ("statement", True, False),
    }
    assert len(findings) == 5
    assert all(one.differs_tested != one.passes for one in findings)


def finding(*, tested: bool, held_out: bool, passes: bool, passes_more: bool) -> Finding:
    inputs = Inputs(tested=[("f", (1,))], more=[], held_out=[("f", (2,))])
    return Finding(
        "t", Mutant("", "constant"), inputs, tested, False, held_out, passes, passes_more, reason="all 1 tests pass"
    )  # fmt: skip


CAUGHT = finding(tested=True, held_out=True, passes=False, passes_more=False)
INERT = finding(tested=False, held_out=False, passes=True, passes_more=True)
LATE = finding(tested=False, held_out=True, passes=True, passes_more=False)


@pytest.mark.parametrize(
    ("findings", "met"),
    [
        ([CAUGHT, INERT, LATE], True),
        ([CAUGHT, INERT, finding(tested=True, held_out=True, passes=True, passes_more=True)], False),
        ([CAUGHT, INERT, finding(tested=False, held_out=False, passes=False, passes_more=False)], False),
        ([CAUGHT], True),
        ([INERT], False),
        ([CAUGHT] * 99 + [INERT, finding(tested=False, held_out=True, passes=True, passes_more=True)], True),
        ([CAUGHT] * 98 + [INERT, finding(tested=False, held_out=True, passes=True, passes_more=True)], False),
    ],
)
def test_goals_are_met_where_all_changed_ones_fail_all_others_pass_and_99_of_100_fail_in_the_end(
    findings: list[Finding], met: bool
) -> None:
    """Of 99 caught and one that slips through, 99 % fail; of 98 and one, 98.99 %."""
    assert report(findings) is met
