"""Breaks correct programs by one line each and counts how many of the broken ones the verifier of code refuses.

    .venv/bin/python benchmarks/mutants.py TASKS.jsonl [--check] [--seed N] [--mutants N] [--tasks N]

TASKS.jsonl has rows {id, reference, tests, setup} (MBPP). A mutant is the reference with one line changed: a
comparison, an operator, a constant, a condition, the order of two arguments, or one statement taken out; --mutants of
them a task are drawn by --seed.

Whether a mutant behaves otherwise is found without the verifier: both programs are called on the same inputs in one
process of the sandbox, and what they return is compared by ==. The tested inputs are the calls in the asserts. The
others are made from them: one argument exchanged with that of another call, or changed a little and kept of its type;
only those count on which the reference returns a value within a quarter of a second, twice the same. Of up to
160 of them a task a quarter is held out, that is never tested; the others become further asserts, with what the
reference returned.

Four figures, three of them goals: mutants that behave otherwise on a tested input must fail, all of them; mutants that
do not must pass, all of them; with the further asserts, 99 % of those that behave otherwise on a tested or held-out
input must fail. How many of those the task's own asserts let through says how thorough these are, not the verifier.
With --check the script exits with 1 where a goal is missed.
"""

from __future__ import annotations

import argparse
import ast
import copy
import json
import random
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from rewardmodel.metrics import wilson_interval  # noqa: E402 (found from the root)
from rewardmodel.sandbox import Limits, Sandbox  # noqa: E402
from rewardmodel.verifiers.code import CodeSpec, parse_code_spec, verify_code  # noqa: E402

SECONDS, CALL_SECONDS, THREADS = 3.0, 0.25, 2
MADE_CALLS, HELD_OUT_EVERY, TRIES_A_PIECE = 160, 4, 20
GOAL = 0.99

Call = tuple[str, tuple[Any, ...]]
"""A function's name and the arguments it is called with."""

COMPARISONS: dict[type[ast.cmpop], tuple[type[ast.cmpop], ...]] = {
    ast.Lt: (ast.LtE, ast.Gt),
    ast.LtE: (ast.Lt, ast.Gt),
    ast.Gt: (ast.GtE, ast.Lt),
    ast.GtE: (ast.Gt, ast.Lt),
    ast.Eq: (ast.NotEq,),
    ast.NotEq: (ast.Eq,),
    ast.In: (ast.NotIn,),
    ast.NotIn: (ast.In,),
    ast.Is: (ast.IsNot,),
    ast.IsNot: (ast.Is,),
}
OPERATORS: dict[type[ast.operator], type[ast.operator]] = {
    ast.Add: ast.Sub,
    ast.Sub: ast.Add,
    ast.Mult: ast.Add,
    ast.Div: ast.Mult,
    ast.FloorDiv: ast.Mult,
    ast.Mod: ast.FloorDiv,
    ast.Pow: ast.Mult,
    ast.BitAnd: ast.BitOr,
    ast.BitOr: ast.BitAnd,
    ast.BitXor: ast.BitAnd,
    ast.LShift: ast.RShift,
    ast.RShift: ast.LShift,
}
REMOVABLE = (ast.Assign, ast.AugAssign, ast.Expr, ast.Return, ast.Break, ast.Continue)


# --- mutants ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mutant:
    """A program, and what was done to the reference for it."""

    source: str
    change: str


def make_mutants(source: str) -> list[Mutant]:
    """Every mutant of a program, each different from it (as it is written without comments) in exactly one line."""
    plain = ast.unparse(ast.parse(source))
    found: dict[str, Mutant] = {}
    for place in _places(ast.parse(plain)):
        for number in range(len(list(_changes(_node_at(ast.parse(plain), place))))):
            tree = ast.parse(plain)
            change, apply = list(_changes(_node_at(tree, place)))[number]
            apply()
            text = ast.unparse(ast.fix_missing_locations(tree))
            if _lines_changed(plain, text) == 1:
                found.setdefault(text, Mutant(text, change))
    return list(found.values())


def _places(tree: ast.AST) -> list[int]:
    """Where nodes stand that can be changed; texts that stand alone say nothing to Python."""
    nodes = list(ast.walk(tree))
    notes = {id(node.value) for node in nodes if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)}
    return [place for place, node in enumerate(nodes) if id(node) not in notes]


def _node_at(tree: ast.AST, place: int) -> ast.AST:
    return next(node for number, node in enumerate(ast.walk(tree)) if number == place)


def _lines_changed(before: str, after: str) -> int:
    """How many lines differ; 0 where the count of lines does, too: what was taken out was more than a line."""
    old, new = before.splitlines(), after.splitlines()
    return sum(a != b for a, b in zip(old, new, strict=True)) if len(old) == len(new) else 0


def _changes(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """What can be done to one node: its name, and a function that does it in place."""
    if isinstance(node, ast.Compare):
        for place, operator in enumerate(node.ops):
            for other in COMPARISONS[type(operator)]:
                yield "comparison", _setter(node.ops, place, other())
    elif isinstance(node, ast.BinOp | ast.AugAssign) and type(node.op) in OPERATORS:
        yield "operator", _setter(node, "op", OPERATORS[type(node.op)]())
    elif isinstance(node, ast.BoolOp):
        yield "and/or", _setter(node, "op", ast.Or() if isinstance(node.op, ast.And) else ast.And())
    elif isinstance(node, ast.Constant):
        yield from _changes_of_constant(node)
    elif isinstance(node, ast.If | ast.While | ast.IfExp):
        yield "condition", _setter(node, "test", ast.UnaryOp(op=ast.Not(), operand=node.test))
    elif isinstance(node, ast.Call) and len(node.args) > 1:
        for place in range(len(node.args) - 1):
            swapped = [*node.args[:place], node.args[place + 1], node.args[place], *node.args[place + 2 :]]
            yield "arguments", _setter(node, "args", swapped)
    yield from _removals(node)


def _changes_of_constant(node: ast.Constant) -> Iterator[tuple[str, Any]]:
    if isinstance(node.value, bool):
        yield "constant", _setter(node, "value", not node.value)
    elif isinstance(node.value, int | float):
        for step in (1, -1):
            yield "constant", _setter(node, "value", node.value + step)
    elif isinstance(node.value, str):
        yield "constant", _setter(node, "value", f"{node.value}x")


def _removals(node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Each simple statement of a block gives way to `pass`; texts that stand alone say nothing and stay."""
    for field in ("body", "orelse", "finalbody"):
        block = getattr(node, field, None)
        for place, statement in enumerate(block if isinstance(block, list) else ()):
            is_text = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
            if isinstance(statement, REMOVABLE) and not is_text:
                yield "statement", _setter(block, place, ast.Pass())


def _setter(owner: Any, key: Any, value: Any) -> Any:
    if isinstance(owner, list):
        return lambda: owner.__setitem__(key, value)
    return lambda: setattr(owner, key, value)


# --- inputs -----------------------------------------------------------------------------------------------------------


def find_tested_calls(row: dict[str, Any]) -> list[Call]:
    """The calls of the reference's functions in the asserts whose arguments are literals."""
    names = {node.name for node in ast.parse(row["reference"]).body if isinstance(node, ast.FunctionDef)}
    calls: dict[str, Call] = {}
    for node in (node for test in row["tests"] for node in ast.walk(ast.parse(test))):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in names:
            try:
                call = (node.func.id, tuple(ast.literal_eval(argument) for argument in node.args))
            except ValueError:
                continue
            if not node.keywords:
                calls.setdefault(repr(call), call)
    return list(calls.values())


def other_calls(calls: Sequence[Call], *, count: int, rng: random.Random) -> list[Call]:
    """Up to `count` calls like these, none of them among these."""
    known = {repr(call) for call in calls}
    made: list[Call] = []
    for _try in range(count * TRIES_A_PIECE):
        name, arguments = rng.choice(calls)
        if not arguments or len(made) == count:
            break
        changed = list(copy.deepcopy(arguments))
        place = rng.randrange(len(changed))
        donors = [other for other_name, other in calls if other_name == name and len(other) == len(arguments)]
        exchange = len(changed) > 1 and rng.random() < 0.2
        changed[place] = copy.deepcopy(rng.choice(donors)[place]) if exchange else perturb(changed[place], rng=rng)
        call = (name, tuple(changed))
        if repr(call) not in known:
            known.add(repr(call))
            made.append(call)
    return made


def perturb(value: Any, *, rng: random.Random) -> Any:
    """A value of the same type that is a little different, or the same where there is none."""
    if isinstance(value, bool):
        return not value
    if isinstance(value, int):
        return value + rng.choice((-10, -2, -1, 1, 2, 10))
    if isinstance(value, float):
        return value + rng.choice((-1.0, -0.5, 0.5, 1.0))
    if isinstance(value, str):
        return "".join(_perturb_sequence(list(value), rng=rng, fresh=rng.choice("aZ 7_,")))
    if isinstance(value, list | tuple):
        return type(value)(_perturb_sequence(list(value), rng=rng))
    if isinstance(value, dict) and value:
        key = rng.choice(list(value))
        return {**value, key: perturb(value[key], rng=rng)}
    if isinstance(value, set) and value:
        return value - {rng.choice(sorted(value, key=repr))}
    return value


def _perturb_sequence(items: list[Any], *, rng: random.Random, fresh: Any = None) -> list[Any]:
    """One item dropped, doubled, exchanged with another or changed, or all turned around."""
    if not items:
        return items
    place, other = rng.randrange(len(items)), rng.randrange(len(items))
    way = rng.choice(("drop", "double", "exchange", "change", "change", "reverse"))
    if way == "drop":
        return items[:place] + items[place + 1 :]
    if way == "double":
        return [*items[:place], copy.deepcopy(items[place]), *items[place:]]
    if way == "reverse":
        return items[::-1]
    if way == "exchange":
        items[place], items[other] = items[other], items[place]
    else:
        items[place] = fresh if fresh is not None else perturb(items[place], rng=rng)
    return items


# --- behaviour --------------------------------------------------------------------------------------------------------

COMPARE = """
import contextlib, copy, io, random, signal, sys

def stop(number, frame):
    raise TimeoutError

def load(source):
    names = {"__name__": "program"}
    with contextlib.redirect_stdout(io.StringIO()):
        exec(compile(source, "program", "exec"), names)
    return names

def call(names, name, arguments):
    random.seed(0)
    arguments = copy.deepcopy(arguments)
    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            return "returns", names[name](*arguments)
    except BaseException as fault:
        return "raises", type(fault).__name__
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)

def equal(first, second):
    try:
        return first[0] == second[0] and bool(first[1] == second[1])
    except Exception:
        return False

signal.signal(signal.SIGVTALRM, stop)
reference = load(FIRST)
try:
    other = load(SECOND)
except BaseException:
    other = {}
for name, arguments in CALLS:
    wanted, found = call(reference, name, arguments), call(other, name, arguments)
    same = wanted[0] == "returns" and equal(wanted, found)
    print(repr([same, repr(wanted[1]) if same else ""]), flush=True)
    if found == ("raises", "TimeoutError"):
        break
"""


def compare_programs(reference: str, other: str, *, calls: Sequence[Call], sandbox: Sandbox) -> list[tuple[bool, str]]:
    """Of each call whether the other program returns what the reference does, and that value as it is written.

    Ends early where the other one does not come back from a call.
    """
    head = f"LIMIT, FIRST, SECOND, CALLS = {CALL_SECONDS!r}, {reference!r}, {other!r}, {list(calls)!r}\n"
    outcome = sandbox.run(head + COMPARE)
    return [ast.literal_eval(line) for line in outcome.stdout.decode().splitlines()]


def find_differences(reference: str, other: str, *, calls: Sequence[Call], sandbox: Sandbox) -> list[bool]:
    """Of each call whether the other program behaves otherwise; what it does not get to, it does otherwise."""
    told = compare_programs(reference, other, calls=calls, sandbox=sandbox)
    return [not same for same, _value in told] + [True] * (len(calls) - len(told))


def usable_calls(reference: str, *, calls: Sequence[Call], sandbox: Sandbox) -> list[tuple[Call, str]]:
    """The calls to which the reference returns the same value twice, in time, with that value as a literal."""
    usable, left = [], list(calls)
    while left:
        told = compare_programs(reference, reference, calls=left, sandbox=sandbox)
        usable += [
            (call, value) for call, (same, value) in zip(left, told, strict=False) if same and _is_literal(value)
        ]
        left = left[len(told) + 1 :]
    return usable


def _is_literal(text: str) -> bool:
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return False
    return bool(value == value) and len(text) < 10_000


# --- figures ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Inputs:
    """The calls on which programs are compared: the asserts' own, those that become further asserts, those held out."""

    tested: list[Call]
    more: list[tuple[Call, str]]
    held_out: list[Call]

    @property
    def calls(self) -> list[Call]:
        """All of them."""
        return [*self.tested, *(call for call, _value in self.more), *self.held_out]


@dataclass(frozen=True)
class Finding:
    """What is known of a mutant: whether it behaves otherwise, by inputs, and whether its checks pass."""

    task: str
    mutant: Mutant
    inputs: Inputs
    differs_tested: bool
    differs_more: bool
    differs_held_out: bool
    passes: bool
    passes_more: bool
    reason: str


def examine_task(row: dict[str, Any], *, seed: int, most: int, sandbox: Sandbox) -> list[Finding]:
    """Up to `most` mutants of a task's reference, each compared and verified; none where nothing can be called."""
    inputs = find_inputs(row, rng=random.Random(f"{seed}/{row['id']}/inputs"), sandbox=sandbox)
    if not inputs.tested:
        return []
    own = {"asserts": row["tests"], "setup": row["setup"]}
    further = [{"asserts": [_write_assert(call, value) for call, value in inputs.more]}] if inputs.more else []
    specs = (parse_code_spec({"tests": [own]}), parse_code_spec({"tests": [own, *further]}))
    mutants = make_mutants(row["reference"])
    drawn = random.Random(f"{seed}/{row['id']}/mutants").sample(mutants, min(most, len(mutants)))
    return [examine_mutant(mutant, row=row, inputs=inputs, specs=specs, sandbox=sandbox) for mutant in drawn]


def find_inputs(row: dict[str, Any], *, rng: random.Random, sandbox: Sandbox) -> Inputs:
    """The calls of a task's asserts, and others that its reference answers."""
    tested = find_tested_calls(row)
    made = other_calls(tested, count=MADE_CALLS, rng=rng) if tested else []
    usable = usable_calls(row["reference"], calls=made, sandbox=sandbox)
    more = [pair for place, pair in enumerate(usable) if place % HELD_OUT_EVERY]
    return Inputs(tested=tested, more=more, held_out=[call for call, _value in usable[::HELD_OUT_EVERY]])


def examine_mutant(
    mutant: Mutant, *, row: dict[str, Any], inputs: Inputs, specs: tuple[CodeSpec, CodeSpec], sandbox: Sandbox
) -> Finding:
    """Compare a mutant with its reference, and verify it by the own asserts and by these with the further ones."""
    told = find_differences(row["reference"], mutant.source, calls=inputs.calls, sandbox=sandbox)
    tested, more = len(inputs.tested), len(inputs.tested) + len(inputs.more)
    own, both = specs
    verdict = verify_code(mutant.source, spec=own, sandbox=sandbox)
    return Finding(
        task=row["id"],
        mutant=mutant,
        inputs=inputs,
        differs_tested=any(told[:tested]),
        differs_more=any(told[tested:more]),
        differs_held_out=any(told[more:]),
        passes=verdict.passed,
        passes_more=verdict.passed and verify_code(mutant.source, spec=both, sandbox=sandbox).passed,
        reason=verdict.reason,
    )


def _write_assert(call: Call, value: str) -> str:
    name, arguments = call
    return f"assert {name}({', '.join(map(repr, arguments))}) == {value}"


def report(findings: Sequence[Finding]) -> bool:
    """Print the figures and what misses a goal; whether all goals are met."""
    changed = [one for one in findings if one.differs_tested]
    alike = [one for one in findings if not one.differs_tested]
    broken = [one for one in findings if one.differs_tested or one.differs_held_out]
    inert = sum(not (one.differs_tested or one.differs_more or one.differs_held_out) for one in findings)
    by_task = {one.task: one.inputs for one in findings}.values()
    tested, more, held_out = (
        sum(len(part) for part in parts) / len(by_task)
        for parts in zip(*((inputs.tested, inputs.more, inputs.held_out) for inputs in by_task), strict=True)
    )
    print(f"{len(findings)} mutants of {len(by_task)} references; {inert} behave like theirs on every input")
    print(f"inputs a reference: {tested:.1f} tested, {more:.1f} in further asserts, {held_out:.1f} held out")
    print(f"{'mutants that behave …':<46} {'fail':>6} {'of':>6}  goal")
    met = [
        _print_line("otherwise on a tested input", failed=sum(not one.passes for one in changed), of=changed, goal=1.0),
        _print_line("alike on the tested inputs", failed=sum(not one.passes for one in alike), of=alike, goal=0.0),
    ]
    _print_line("otherwise on a tested or held-out input", failed=sum(not one.passes for one in broken), of=broken)
    name = "the same, with further asserts"
    met.append(_print_line(name, failed=sum(not one.passes_more for one in broken), of=broken, goal=GOAL))
    for one in (one for one in findings if one.passes == one.differs_tested):
        print(f"  {one.task}, {one.mutant.change}: {one.reason}", file=sys.stderr)
    return all(met)


def _print_line(name: str, *, failed: int, of: Sequence[Finding], goal: float | None = None) -> bool:
    """Print how many fail and whether that is at least the goal (none, where it is 0); of nothing, nothing is met."""
    if not of:
        print(f"{name:<46} {0:>6} {0:>6}")
        return goal in (None, 0.0)
    low, high = wilson_interval(failed, n=len(of))
    share = failed / len(of)
    told = {None: "", 0.0: "none", 1.0: "all"}.get(goal, f"≥ {goal or 0:.0%}")
    print(f"{name:<46} {failed:>6} {len(of):>6}  {told:<6} {share:.1%} ({low:.1%} to {high:.1%})")
    return goal is None or (failed == 0 if goal == 0.0 else share >= goal)


def examine_file(path: Path, *, seed: int = 0, most: int = 20, tasks: int | None = None) -> bool:
    """Examine a file's tasks, print the figures, and say whether the goals are met."""
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()][:tasks]
    with Sandbox(limits=Limits(seconds=SECONDS)) as sandbox, ThreadPoolExecutor(THREADS) as threads:
        found = threads.map(lambda row: examine_task(row, seed=seed, most=most, sandbox=sandbox), rows)
        return report([one for task in found for one in task])


def main() -> int:
    """Print the figures; 1 where a goal is missed and --check asks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks_file", metavar="TASKS.jsonl", type=Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--mutants", type=int, default=20, help="of each task at most")
    parser.add_argument("--tasks", type=int, help="the first so many")
    options = parser.parse_args()
    is_met = examine_file(options.tasks_file, seed=options.seed, most=options.mutants, tasks=options.tasks)
    print(f"goals {'met' if is_met else 'missed'}")
    return 0 if is_met or not options.check else 1


if __name__ == "__main__":
    raise SystemExit(main())
