"""Model-written code against tests: assert statements, stdin and stdout, or calls of a function.

    {"kind": "code", "language": "python", "tests": [
        {"asserts": ["assert f(1) == 2", …], "setup": "import math", "entry_point": "f"},
        {"stdin_stdout": [{"stdin": "1 2\\n", "stdout": "3\\n"}, …]},
        {"entry_point": "f", "cases": [{"args": [1], "kwargs": {}, "expected": 2}, …]}]}

`setup` and the `entry_point` of asserts may be missing.

Expected results never enter the sandbox that the program runs in. What a call returns is compared here; asserts that
are more than `f(literals) == literal` run with their setup in a second sandbox, where the program's names are stand-ins
that ask it. So a program can claim a result, and cannot claim to have passed.

All tests of one entry share a run of the program and its time; each stdin has its own. After a test that runs out of
time no more are tried, and they count as failed. What passes is run once more: a program that passes only sometimes
does not pass. Left out: other languages, packages, and tests that hand the program functions or objects of their own.
"""

from __future__ import annotations

import ast
import builtins
import re
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rewardmodel.contract import SpecError
from rewardmodel.sandbox import Outcome, ProgramFault, Sandbox, Stopped, encode_value
from rewardmodel.verifiers.verdict import Verdict, shorten

LONGEST_RESPONSE = 200_000  # characters
SHOWN = 120  # characters of a value or a test in a reason
RUNS = 2
# Possessive: a line of marks that never ends is looked at once, not once for each way to divide it.
_FENCE = re.compile(
    r"^(?P<marks>`{3,}+|~{3,}+)[ \t]*+(?P<language>[\w+-]*+)[^\n]*+\n(?P<code>.*?)(?:^(?P=marks)|\Z)", re.M | re.S
)


# --- the spec ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One call and its result. `as_json`: the result was written in JSON, which knows no tuples."""

    name: str
    arguments: tuple[Any, ...]
    named: dict[str, Any]
    expected: Any
    as_json: bool = False

    def __str__(self) -> str:
        words = [_show(value) for value in self.arguments]
        return f"{self.name}({', '.join(words + [f'{name}={_show(value)}' for name, value in self.named.items()])})"


@dataclass(frozen=True)
class Cases:
    cases: tuple[Case, ...]

    def __len__(self) -> int:
        return len(self.cases)


@dataclass(frozen=True)
class Asserts:
    """`names` are the program's, `modules` the standard library's."""

    tests: tuple[str, ...]
    setup: str
    names: tuple[str, ...]
    modules: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.tests)


@dataclass(frozen=True)
class Exchanges:
    """Pairs of stdin and the stdout that is expected for it."""

    pairs: tuple[tuple[str, str], ...]

    def __len__(self) -> int:
        return len(self.pairs)


@dataclass(frozen=True)
class CodeSpec:
    tests: tuple[Cases | Asserts | Exchanges, ...]

    @property
    def total(self) -> int:
        return sum(len(group) for group in self.tests)


def parse_code_spec(mapping: Mapping[str, Any]) -> CodeSpec:
    """The spec of a row. Raises SpecError, naming the field."""
    _check_keys(mapping, known={"kind", "language", "tests"}, place="")
    if mapping.get("language", "python") != "python":
        raise SpecError(f"language: only python can be run, found {mapping['language']!r}")
    tests = _read_list(mapping, "tests", kind=Mapping, place="")
    return CodeSpec(tuple(_parse_tests(test, place=f"tests[{i}]") for i, test in enumerate(tests)))


def _parse_tests(test: Mapping[str, Any], *, place: str) -> Cases | Asserts | Exchanges:
    forms = [form for form in ("asserts", "stdin_stdout", "cases") if form in test]
    if len(forms) != 1:
        raise SpecError(
            f"{place}: expected one of asserts, stdin_stdout, cases; found {', '.join(map(str, test)) or 'none'}"
        )
    if forms == ["asserts"]:
        return _parse_asserts(test, place=place)
    return _parse_exchanges(test, place=place) if forms == ["stdin_stdout"] else _parse_cases(test, place=place)


def _parse_exchanges(test: Mapping[str, Any], *, place: str) -> Exchanges:
    _check_keys(test, known={"stdin_stdout"}, place=place)
    pairs = []
    for i, pair in enumerate(_read_list(test, "stdin_stdout", kind=Mapping, place=place)):
        here = f"{place}.stdin_stdout[{i}]"
        _check_keys(pair, known={"stdin", "stdout"}, place=here)
        pairs.append((_read_text(pair, "stdin", place=here, default=""), _read_text(pair, "stdout", place=here)))
    return Exchanges(tuple(pairs))


def _parse_cases(test: Mapping[str, Any], *, place: str) -> Cases:
    _check_keys(test, known={"entry_point", "cases"}, place=place)
    name = _read_name(test, place=place)
    cases = []
    for i, case in enumerate(_read_list(test, "cases", kind=Mapping, place=place)):
        here = f"{place}.cases[{i}]"
        _check_keys(case, known={"args", "kwargs", "expected"}, place=here)
        arguments, named = case.get("args", []), case.get("kwargs", {})
        if not isinstance(arguments, list | tuple) or not isinstance(named, Mapping):
            raise SpecError(f"{here}: args must be a list and kwargs a mapping")
        if "expected" not in case:
            raise SpecError(f"{here}.expected: missing")
        try:
            encode_value([list(arguments), dict(named)])
        except (TypeError, RecursionError) as error:
            raise SpecError(f"{here}: a program cannot be given these arguments: {error}") from None
        cases.append(Case(name, tuple(arguments), dict(named), case["expected"], as_json=True))
    return Cases(tuple(cases))


def _parse_asserts(test: Mapping[str, Any], *, place: str) -> Cases | Asserts:
    _check_keys(test, known={"asserts", "setup", "entry_point"}, place=place)
    sources = _read_list(test, "asserts", kind=str, place=place)
    trees = [_parse_python(source, place=f"{place}.asserts[{i}]") for i, source in enumerate(sources)]
    for i, tree in enumerate(trees):
        if not any(isinstance(node, ast.Assert) for node in ast.walk(tree)):
            raise SpecError(f"{place}.asserts[{i}]: asserts nothing: {shorten(sources[i], width=SHOWN)}")
    setup = _read_text(test, "setup", place=place, default="")
    names, modules = _find_names([_parse_python(setup, place=f"{place}.setup"), *trees])
    entry_point = _read_name(test, place=place) if "entry_point" in test else None
    names = _settle_names(names, trees=trees, entry_point=entry_point, place=place)
    cases = [] if setup.strip() else [_read_case(tree, names=names) for tree in trees]
    plain = tuple(case for case in cases if case is not None)
    if len(plain) == len(trees):
        return Cases(plain)
    return Asserts(tuple(sources), setup, tuple(sorted(names)), tuple(sorted(modules)))


def _find_names(trees: Sequence[ast.AST]) -> tuple[set[str], set[str]]:
    """The names that the tests take from elsewhere and that are not built in, and the modules of the standard library
    that they read attributes of (a program cannot put its own `math` in the place of that one)."""
    bound: set[str] = set()
    loaded: set[str] = set()
    bases: set[str] = set()
    for node in (node for tree in trees for node in ast.walk(tree)):
        if isinstance(node, ast.Name):
            (loaded if isinstance(node.ctx, ast.Load) else bound).add(node.id)
        elif isinstance(node, ast.arg):
            bound.add(node.arg)
        elif isinstance(node, ast.FunctionDef | ast.ClassDef | ast.AsyncFunctionDef):
            bound.add(node.name)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            bound |= {(alias.asname or alias.name).partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ExceptHandler) and node.name:
            bound.add(node.name)
        elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            bases.add(node.value.id)
    free = loaded - bound - set(dir(builtins))
    modules = free & bases & set(sys.stdlib_module_names)
    return free - modules, modules


def _settle_names(names: set[str], *, trees: Sequence[ast.AST], entry_point: str | None, place: str) -> set[str]:
    """The program's names. A built-in one, such as `sum`, is the program's only where that is beyond doubt: otherwise a
    program could bring its own `abs` or `all` to the tests."""
    called = {
        node.func.id
        for tree in trees
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    if entry_point is not None:
        if entry_point not in called | names:
            raise SpecError(f"{place}.entry_point: the asserts do not use {entry_point}")
        return names | {entry_point}
    if names:
        return names
    if len(called) == 1:
        return called
    raise SpecError(
        f"{place}: say by entry_point which name is the program's; "
        f"the asserts use {', '.join(sorted(called)) or 'none'}, all of them Python's own"
    )


def _read_case(tree: ast.Module, *, names: set[str]) -> Case | None:
    """The call and the result of `assert f(literals) == literal`; None for any other form."""
    match tree.body:
        case [
            ast.Assert(
                test=ast.Compare(left=ast.Call(func=ast.Name(id=name)) as call, ops=[ast.Eq()], comparators=[right])
            )
        ]:
            pass
        case _:
            return None
    if name not in names or any(keyword.arg is None for keyword in call.keywords):
        return None
    try:
        arguments = tuple([ast.literal_eval(argument) for argument in call.args])
        named = {str(keyword.arg): ast.literal_eval(keyword.value) for keyword in call.keywords}
        encode_value([arguments, named])
        return Case(name, arguments, named, ast.literal_eval(right))
    except (ValueError, TypeError, RecursionError):
        return None


def _parse_python(source: str, *, place: str) -> ast.Module:
    try:
        return ast.parse(source)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise SpecError(f"{place}: no Python: {error}") from None


def _at(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def _check_keys(mapping: Mapping[str, Any], *, known: set[str], place: str) -> None:
    for key in mapping:
        if key not in known:
            raise SpecError(f"{_at(place, key)}: unknown; known are {', '.join(sorted(known))}")


def _read_list(mapping: Mapping[str, Any], name: str, *, kind: type, place: str) -> list[Any]:
    items = mapping.get(name)
    if not isinstance(items, list | tuple) or not items or not all(isinstance(item, kind) for item in items):
        what = "texts" if kind is str else "mappings"
        raise SpecError(f"{_at(place, name)}: expected a list of {what}, found {_show(items)}")
    return list(items)


def _read_text(mapping: Mapping[str, Any], name: str, *, place: str, default: str | None = None) -> str:
    text = mapping.get(name, default)
    if not isinstance(text, str):
        raise SpecError(f"{_at(place, name)}: expected a text, found {_show(text)}")
    if any("\ud800" <= character <= "\udfff" for character in text):
        raise SpecError(f"{_at(place, name)}: holds half a surrogate pair, which is not text")
    return text


def _read_name(mapping: Mapping[str, Any], *, place: str) -> str:
    name = mapping.get("entry_point")
    if not isinstance(name, str) or not name.isidentifier():
        raise SpecError(f"{place}.entry_point: expected the name of a function, found {_show(name)}")
    return name


# --- the verdict ------------------------------------------------------------------------------------------------------


def verify_code(response: str, *, spec: CodeSpec, sandbox: Sandbox, runs: int = RUNS) -> Verdict:
    """Whether the response's code passes all tests, in each of `runs` runs; score: the share of tests passed.

    Raises SandboxUnavailable where there is nothing to run it in.
    """
    started = time.monotonic()
    total = spec.total
    code = extract_code(response)
    if code is None:
        long = len(response) > LONGEST_RESPONSE
        reason = f"longer than {LONGEST_RESPONSE:,} characters" if long else "the response holds no Python code"
        return Verdict(False, 0.0, reason, time.monotonic() - started)
    failed: list[str] = []
    passes = 0
    while passes < runs and not failed:
        failed = [reason for reason in _run_tests(code, spec=spec, sandbox=sandbox) if reason]
        passes += not failed
    passed = total - len(failed)
    reason = f"{passed} of {total} tests pass; {failed[0]}" if failed else f"all {total} tests pass"
    if failed and passes:
        reason = f"not deterministic: all tests passed, then {reason}"
    if not sandbox.isolated:
        reason += " (run without isolation)"
    return Verdict(not failed, passed / total, reason, time.monotonic() - started)


def extract_code(response: str) -> str | None:
    """The last fenced block of Python, else the last fenced block, else the whole response where it is Python."""
    if len(response) > LONGEST_RESPONSE:
        return None
    blocks = [(match["language"].lower(), match["code"]) for match in _FENCE.finditer(response.replace("\r\n", "\n"))]
    python = [code for language, code in blocks if language in {"python", "python3", "py"}]
    if blocks:
        return (python or [code for _language, code in blocks])[-1]
    try:
        return response if ast.parse(response).body else None
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return None


def _run_tests(code: str, *, spec: CodeSpec, sandbox: Sandbox) -> list[str]:
    """Of each test why it fails, empty where it passes. Where one runs out of time no more are tried: a program that
    hangs would take its time once for each."""
    reasons: list[str] = []
    for group in spec.tests:
        end = len(reasons) + len(group)
        try:
            for reason in _run_group(code, group, sandbox=sandbox):
                reasons.append(reason)
        except ProgramFault as fault:
            reasons += [f"the program does not load: {fault}"] * (end - len(reasons))
        except Stopped as stopped:
            hangs = stopped.ending == "timed out"
            reasons += [str(stopped)] * ((spec.total if hangs else end) - len(reasons))
            if hangs:
                break
    return reasons


def _run_group(code: str, group: Cases | Asserts | Exchanges, *, sandbox: Sandbox) -> Iterator[str]:
    """Of each test why it fails, empty where it passes. Raises Stopped or ProgramFault where the others cannot run."""
    if isinstance(group, Exchanges):
        for stdin, stdout in group.pairs:
            yield _run_exchange(code, stdin, stdout, sandbox=sandbox)
        return
    with sandbox.serve(code) as program:
        if isinstance(group, Cases):
            for case in group.cases:
                try:
                    value = program.call(case.name, case.arguments, **case.named)
                except ProgramFault as fault:
                    yield f"{case} raises {fault}"
                    continue
                yield _compare(value, case)
            return
        found = sandbox.judge(program, setup=group.setup, tests=group.tests, names=group.names, modules=group.modules)
        for test, reason in zip(group.tests, found, strict=False):
            yield f"{shorten(test, width=SHOWN)} {reason}" if reason else ""


def _compare(value: Any, case: Case) -> str:
    expected = case.expected
    try:
        if (_as_lists(value) == _as_lists(expected)) if case.as_json else (value == expected):
            return ""
    except RecursionError:
        pass
    return f"{case} returned {_show(value)}, expected {_show(expected)}"


def _as_lists(value: Any) -> Any:
    """Tuples as the lists that JSON makes of them."""
    if isinstance(value, list | tuple):
        return [_as_lists(item) for item in value]
    return {key: _as_lists(item) for key, item in value.items()} if isinstance(value, dict) else value


def _run_exchange(code: str, stdin: str, stdout: str, *, sandbox: Sandbox) -> str:
    outcome = sandbox.run(code, stdin=stdin)
    given = f"for stdin {_show(stdin)} the program"
    if outcome.ending == "timed out":
        raise Stopped(f"{given} timed out", ending=outcome.ending)
    if outcome.ending != "exited":
        return f"{given} {outcome.ending}"
    if outcome.exit_code:
        return f"{given} {_describe_failure(outcome)}"
    printed = outcome.stdout.decode(errors="replace")
    if _trim(printed) == _trim(stdout):
        return ""
    return f"{given} printed {_show(printed)}, expected {_show(stdout)}"


def _describe_failure(outcome: Outcome) -> str:
    last = outcome.stderr.decode(errors="replace").strip().splitlines()[-1:]
    return f"ended with code {outcome.exit_code}{f' ({shorten(last[0], width=SHOWN)})' if last else ''}"


def _trim(text: str) -> list[str]:
    """Lines without the spaces and empty lines at their ends."""
    return [line.rstrip() for line in text.rstrip().splitlines()]


def _show(value: Any) -> str:
    try:
        return shorten(repr(value), width=SHOWN)
    except (ValueError, RecursionError):  # an integer of thousands of digits
        return f"a {type(value).__name__} too large to show"
