"""What the specs of all kinds share, and how a mapping becomes one."""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

from rewardmodel.contract import InputError, SpecError, build_settings, check_settings, setting


@dataclass(frozen=True, kw_only=True)
class CheckSpec:
    """A check that runs in a worker for at most `timeout` seconds of wall clock."""

    kind: ClassVar[str]

    timeout: float = setting(5.0, above=0, maximum=600, help="Seconds after which the check is stopped, and failed.")

    def __post_init__(self) -> None:
        check_settings(self)


AnySpec = TypeVar("AnySpec", bound=CheckSpec)


def parse_settings(kind: type[AnySpec], *, settings: Mapping[str, Any]) -> AnySpec:
    """The spec of one kind. Raises SpecError naming the field for whatever is unknown, missing or of a wrong type."""
    return build_settings(kind, settings=settings, owner=f"kind {kind.kind}")


def check_texts(field: str, values: tuple[Any, ...]) -> None:
    """Raise SpecError unless every value is a text that is not empty."""
    for place, value in enumerate(values):
        if not isinstance(value, str) or not value.strip():
            raise SpecError(f"{field}[{place}]: expected a text that is not empty, got {value!r}")


def require_library(module: str, *, package: str, purpose: str) -> None:
    """Raise InputError saying what to install where a library is missing; it is imported only in the worker."""
    if importlib.util.find_spec(module) is None:
        raise InputError(f"{purpose} needs the package {package}, which is not installed: pip install {package}")
