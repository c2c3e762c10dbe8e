"""Kind `python`: a function of one's own.

    {"kind": "python", "name": "no_apology", "arguments": {"limit": 2}}

The function is called as `function(prompt, response, **arguments)` in a worker and returns True or False, a share from
0 to 1 (1 passes), or a Verdict. A data row can only name it. What the name stands for, and that it may run at all, is
said by who runs the command: `NAME`, an installed entry point of the group `preferee.verifiers`, or
`NAME=module:function`.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from importlib.metadata import entry_points
from typing import Any, ClassVar

from rewardmodel.contract import InputError, SpecError, name_nearest, setting
from rewardmodel.verifiers.specs import CheckSpec, parse_settings
from rewardmodel.verifiers.verdict import Verdict, failed, passed

GROUP = "preferee.verifiers"
TARGET = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_]\w*")


@dataclass(frozen=True, kw_only=True)
class FunctionSpec(CheckSpec):
    """What a data row may say."""

    kind: ClassVar[str] = "python"

    name: str = setting(help="The verifier's name, which the command allows.")
    arguments: dict[str, Any] | None = setting(None, help="Passed on to the function.")  # noqa: RUF009


@dataclass(frozen=True, kw_only=True)
class FunctionCall(FunctionSpec):
    """The same with the function behind the name, as `allow_functions` found it."""

    target: str = setting(help="module:function")


def allow_functions(names: tuple[str, ...]) -> dict[str, str]:
    """name -> module:function of what the operator allows. Raises InputError for one that is not installed."""
    installed = {point.name: point.value for point in entry_points(group=GROUP)}
    allowed = {}
    for given in names:
        name, equals, target = given.partition("=")
        if not equals and name not in installed:
            known = f": {name_nearest(name, tuple(installed))}" if installed else ""
            raise InputError(
                f"no verifier {name!r} is installed (entry points {GROUP}){known}; or NAME=module:function"
            )
        target = target if equals else installed[name]
        if not TARGET.fullmatch(target):
            raise InputError(f"{given}: expected NAME=module:function")
        allowed[name] = target
    return allowed


def parse_function(settings: Mapping[str, Any], *, allowed: Mapping[str, str]) -> FunctionCall:
    """The call a data row asks for. Raises SpecError for a name that the operator did not allow."""
    spec = parse_settings(FunctionSpec, settings=settings)
    if spec.name not in allowed:
        said = f"allowed are {', '.join(allowed)}" if allowed else "none is allowed here"
        raise SpecError(f"name: {spec.name!r} may not run: {said} (--allow-python)")
    return FunctionCall(**{**vars(spec), "target": allowed[spec.name]})


def load_call(settings: Mapping[str, Any]) -> FunctionCall:
    """The call as the worker is sent it."""
    return FunctionCall(**settings)


def check_function(prompt: Any, *, response: str, spec: FunctionCall) -> Verdict:
    """What the function says. Raises whatever it raises, and TypeError for an answer that is none."""
    said = _import_function(spec.target)(prompt, response, **(spec.arguments or {}))
    if isinstance(said, Verdict):
        return said
    if isinstance(said, bool):
        return passed(f"{spec.name} accepts it") if said else failed(f"{spec.name} rejects it")
    if isinstance(said, int | float) and 0 <= said <= 1:
        score = float(said)
        return passed(f"{spec.name} scores it 1") if score == 1 else failed(f"{spec.name}: {score:g}", score=score)
    raise TypeError(f"{spec.name} returned {said!r}; expected True, False, a number from 0 to 1, or a Verdict")


@lru_cache(maxsize=64)
def _import_function(target: str) -> Any:
    module, name = target.split(":")
    return getattr(importlib.import_module(module), name)
