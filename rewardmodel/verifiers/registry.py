"""The kinds of verifiers, and `verify`: one protocol for all of them.

    verify(prompt, "#### 42", {"kind": "math", "answer": "42"}) -> Verdict(passed=True, score=1.0, …)

A spec is a mapping with `kind`, what that kind asks for, and optionally `repeats`: so many runs of the same check must
agree. A checker that crashes, hangs, or disagrees with itself is a verdict that does not pass, and says so. A spec that
is wrong raises `SpecError` instead: it says nothing of the response.

What a data row may not decide by itself (which code runs, which model is loaded) is in `Permissions`.
"""

from __future__ import annotations

import atexit
import dataclasses
import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from rewardmodel.contract import Message, SpecError, name_nearest
from rewardmodel.sandbox import Sandbox, SandboxUnavailable
from rewardmodel.verifiers.code import parse_code_spec, verify_code
from rewardmodel.verifiers.constraints import check_constraints, parse_constraints, prepare_constraints
from rewardmodel.verifiers.functions import check_function, load_call, parse_function
from rewardmodel.verifiers.logic import check_logic, parse_logic, prepare_logic
from rewardmodel.verifiers.math import check_math, parse_math, prepare_math
from rewardmodel.verifiers.reward import check_rewards, parse_reward
from rewardmodel.verifiers.verdict import Verdict, failed
from rewardmodel.verifiers.workers import NoAnswerError, WorkerPool, shared_pool

MOST_REPEATS = 100


@dataclass(frozen=True, kw_only=True)
class Permissions:
    """What the one who runs the checks allows: functions by name (`allow_functions`), a reward model, and whether
    model-written code may run where nothing isolates it."""

    functions: Mapping[str, str] = field(default_factory=dict)
    reward_model: str | None = None
    unsafe_code: bool = False


NOTHING = Permissions()


@dataclass(frozen=True, kw_only=True)
class Kind:
    """How a kind is checked in a worker: the spec from what a row says, the same there, the check, its preparation."""

    ask: Callable[[Mapping[str, Any], Permissions], Any]
    parse: Callable[[Mapping[str, Any]], Any]
    check: Callable[..., Verdict]
    prepare: Callable[[], None] = lambda: None


@dataclass(frozen=True)
class Verifier:
    """A checked spec: ready to run."""

    kind: str
    spec: Any
    repeats: int = 1


def _worker_kind(
    parse: Callable[[Mapping[str, Any]], Any], *, check: Callable[..., Verdict], prepare: Callable[[], None]
) -> Kind:
    return Kind(ask=lambda settings, permissions: parse(settings), parse=parse, check=check, prepare=prepare)


# Checked in a worker. `reward` and `code` are not: one needs a model, the other has a sandbox of its own.
WORKER_KINDS = {
    "math": _worker_kind(parse_math, check=check_math, prepare=prepare_math),
    "constraints": _worker_kind(parse_constraints, check=check_constraints, prepare=prepare_constraints),
    "logic": _worker_kind(parse_logic, check=check_logic, prepare=prepare_logic),
    "python": Kind(
        ask=lambda settings, permissions: parse_function(settings, allowed=permissions.functions),
        parse=load_call,
        check=check_function,
    ),
}
KINDS = ("math", "code", "constraints", "logic", "reward", "python")


def find_kind(name: str) -> Kind:
    """The kind of that name, for workers."""
    return WORKER_KINDS[name]


def parse_verifier(mapping: Any, *, permissions: Permissions = NOTHING) -> Verifier:
    """The verifier a mapping describes. Raises SpecError naming the field, InputError for what is not installed."""
    if not isinstance(mapping, Mapping):
        raise SpecError(f"expected a mapping {{kind, …}}, got {type(mapping).__name__}")
    kind = mapping.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise SpecError(f"kind: {name_nearest(str(kind), KINDS)}" if "kind" in mapping else "kind: missing")
    settings = {key: value for key, value in mapping.items() if key not in ("kind", "repeats")}
    return Verifier(kind, _parse_kind(kind, settings=settings, permissions=permissions), _read_repeats(mapping))


def _parse_kind(kind: str, *, settings: Mapping[str, Any], permissions: Permissions) -> Any:
    if kind == "code":
        return parse_code_spec(settings)
    if kind == "reward":
        return parse_reward(settings, model=permissions.reward_model)
    return WORKER_KINDS[kind].ask(settings, permissions)


def _read_repeats(mapping: Mapping[str, Any]) -> int:
    repeats = mapping.get("repeats", 1)
    if isinstance(repeats, bool) or not isinstance(repeats, int) or not 1 <= repeats <= MOST_REPEATS:
        raise SpecError(f"repeats: expected a whole number from 1 to {MOST_REPEATS}, got {repeats!r}")
    return repeats


def verify(
    prompt: str | list[Message],
    response: str,
    spec: Mapping[str, Any] | Verifier,
    *,
    permissions: Permissions = NOTHING,
    pool: WorkerPool | None = None,
) -> Verdict:
    """What the verifier of that spec says of a response.

    pool: workers to use; by default one that is shared and stays. Raises SpecError for a spec that is wrong, and
    SandboxUnavailable for code where nothing isolates it.
    """
    verifier = spec if isinstance(spec, Verifier) else parse_verifier(spec, permissions=permissions)
    turns = [Message(role="user", content=prompt)] if isinstance(prompt, str) else prompt
    started = time.perf_counter()
    verdicts = [
        _check_once(turns, response=response, verifier=verifier, permissions=permissions, pool=pool)
        for _ in range(verifier.repeats)
    ]
    return dataclasses.replace(settle_repeats(verdicts), seconds=time.perf_counter() - started)


_lock = threading.Lock()
_sandboxes: dict[bool, Sandbox] = {}


def shared_sandbox(*, unsafe: bool) -> Sandbox:
    """The sandboxes of this process, started when first needed. unsafe: plain processes where nothing isolates; without
    it that raises SandboxUnavailable."""
    with _lock:
        if unsafe not in _sandboxes:
            _sandboxes[unsafe] = _open_sandbox(unsafe=unsafe)
            atexit.register(_sandboxes[unsafe].close)
        return _sandboxes[unsafe]


def _open_sandbox(*, unsafe: bool) -> Sandbox:
    try:
        return Sandbox()
    except SandboxUnavailable:
        if not unsafe:
            raise
        return Sandbox(unsafe=True)


def require_sandbox(verifiers: Iterable[Verifier], *, unsafe: bool = False) -> bool:
    """Whether all code among them will be isolated, asked before anything is checked. Raises SandboxUnavailable where
    it cannot be, unless that is allowed (`unsafe`)."""
    return not any(verifier.kind == "code" for verifier in verifiers) or shared_sandbox(unsafe=unsafe).isolated


def settle_repeats(verdicts: list[Verdict]) -> Verdict:
    """The one verdict of several runs of a check: theirs where they agree, where they do not one that fails."""
    if len({(verdict.passed, verdict.score) for verdict in verdicts}) == 1:
        return verdicts[0]
    said = sum(verdict.passed for verdict in verdicts)
    return failed(f"disagrees with itself: {said} of {len(verdicts)} runs pass; once: {verdicts[0].reason}")


def _check_once(
    prompt: list[Message], *, response: str, verifier: Verifier, permissions: Permissions, pool: WorkerPool | None
) -> Verdict:
    if verifier.kind == "code":
        return verify_code(response, spec=verifier.spec, sandbox=shared_sandbox(unsafe=permissions.unsafe_code))
    if verifier.kind == "reward":
        model = permissions.reward_model or ""
        return check_rewards([verifier.spec], prompts=[prompt], responses=[response], model=model)[0]
    request = {
        "kind": verifier.kind,
        "settings": dataclasses.asdict(verifier.spec),
        "prompt": prompt,
        "response": response,
    }
    try:
        answer = (pool or shared_pool()).ask(request, seconds=verifier.spec.timeout)
    except NoAnswerError as error:
        return failed(f"the {verifier.kind} check {error}")
    if "crashed" in answer:
        return failed(f"the {verifier.kind} check failed: {answer['crashed']}")
    return Verdict(answer["passed"], answer["score"], answer["reason"])
