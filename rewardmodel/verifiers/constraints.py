"""Kind `constraints`: does a response keep to what was asked of its form?

    {"kind": "constraints", "instruction_ids": ["punctuation:no_comma"], "kwargs": [{}]}
    {"kind": "constraints", "constraints": [{"type": "length", "unit": "words", "at_most": 50}]}

`instruction_ids` and `kwargs` are rows of IFEval as they are (`instructions`), strict or loose; `constraints` are ours:
regex, json_schema, length, language. The score is the share of them that holds; passed is all. Left out: whether the
response is any good.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rewardmodel.contract import SpecError, build_settings, check_settings, name_nearest, setting
from rewardmodel.verifiers.instructions import (
    Instruction,
    describe_instruction,
    follow_loosely,
    follow_strictly,
    parse_instruction,
    strip_fence,
)
from rewardmodel.verifiers.languages import LANGUAGES, detect_language
from rewardmodel.verifiers.sentences import count_words, split_sentences
from rewardmodel.verifiers.specs import CheckSpec, parse_settings, require_library
from rewardmodel.verifiers.verdict import Verdict, failed, passed, shorten

COUNTS = {"characters": len, "words": count_words, "sentences": lambda text: len(split_sentences(text))}


@dataclass(frozen=True, kw_only=True)
class Constraint:
    """One thing to hold. `find_fault` says what does not; None where it holds."""

    type: ClassVar[str]

    def __post_init__(self) -> None:
        check_settings(self)

    def find_fault(self, response: str) -> str | None:
        raise NotImplementedError


@dataclass(frozen=True, kw_only=True)
class Regex(Constraint):
    """A regular expression is found in the response (`search`), fits all of it (`full`), or is not there (`absent`)."""

    type: ClassVar[str] = "regex"
    pattern: str = setting(help="A regular expression of Python.")
    match: str = setting("search", choices=("search", "full", "absent"), help="search, full or absent.")
    ignore_case: bool = setting(False, help="Whether small and capital letters are the same.")

    def __post_init__(self) -> None:
        super().__post_init__()
        try:
            re.compile(self.pattern)
        except re.error as error:
            raise SpecError(f"pattern: {self.pattern!r} is no regular expression: {error}") from None

    def find_fault(self, response: str) -> str | None:
        expression = re.compile(self.pattern, re.IGNORECASE if self.ignore_case else 0)
        found = expression.fullmatch(response.strip()) if self.match == "full" else expression.search(response)
        if (found is None) == (self.match == "absent"):
            return None
        return f"/{shorten(self.pattern)}/ was found" if found else f"/{shorten(self.pattern)}/ does not match"


@dataclass(frozen=True, kw_only=True)
class JsonSchema(Constraint):
    """The response is JSON, in a code fence or not, and valid by a schema."""

    type: ClassVar[str] = "json_schema"
    schema: dict[str, Any] = setting(help="A JSON Schema; it may not refer to other addresses.")  # noqa: RUF009

    def __post_init__(self) -> None:
        super().__post_init__()
        from jsonschema import SchemaError
        from jsonschema.validators import validator_for

        try:
            validator_for(self.schema).check_schema(self.schema)
        except SchemaError as error:
            raise SpecError(f"schema: {error.json_path}: {error.message}") from None

    def find_fault(self, response: str) -> str | None:
        from jsonschema.validators import validator_for
        from referencing.exceptions import Unresolvable
        from referencing.jsonschema import SchemaRegistry

        try:
            value = json.loads(strip_fence(response))
        except (ValueError, RecursionError) as error:
            return f"not JSON: {error}"
        try:
            # A registry of its own: without one, jsonschema fetches whatever address a schema refers to.
            errors = list(validator_for(self.schema)(self.schema, registry=SchemaRegistry()).iter_errors(value))
        except Unresolvable as error:
            return f"the schema refers to what is not in it: {error}"
        return f"{errors[0].json_path}: {shorten(errors[0].message, width=120)}" if errors else None


@dataclass(frozen=True, kw_only=True)
class Length(Constraint):
    """So many characters, words or sentences."""

    type: ClassVar[str] = "length"
    unit: str = setting(choices=tuple(COUNTS), help="characters, words or sentences.")
    at_least: int | None = setting(None, minimum=0, help="The fewest.")
    at_most: int | None = setting(None, minimum=0, help="The most.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.at_least is None and self.at_most is None:
            raise SpecError("at_least: say at_least, at_most, or both")
        if self.at_least is not None and self.at_most is not None and self.at_least > self.at_most:
            raise SpecError(f"at_most: must be at least at_least {self.at_least}, got {self.at_most}")

    def find_fault(self, response: str) -> str | None:
        count = COUNTS[self.unit](response)
        if self.at_least is not None and count < self.at_least:
            return f"{count} {self.unit}, at least {self.at_least} wanted"
        if self.at_most is not None and count > self.at_most:
            return f"{count} {self.unit}, at most {self.at_most} wanted"
        return None


@dataclass(frozen=True, kw_only=True)
class Language(Constraint):
    """In one language. Unlike IFEval's instruction, a text that gives no sign of any is not."""

    type: ClassVar[str] = "language"
    language: str = setting(choices=LANGUAGES, help="ISO 639-1 code.")

    def find_fault(self, response: str) -> str | None:
        found = detect_language(response)
        return None if found == self.language else f"language {found or 'unknown'}, {self.language} wanted"


CONSTRAINTS: dict[str, type[Constraint]] = {kind.type: kind for kind in Constraint.__subclasses__()}


@dataclass(frozen=True, kw_only=True)
class ConstraintsSpec(CheckSpec):
    """What constraints asks for; what it asks is checked when it is made."""

    kind: ClassVar[str] = "constraints"

    instruction_ids: tuple[Any, ...] = setting((), help="Instructions of IFEval by their ids.")
    kwargs: tuple[Any, ...] | None = setting(None, help="Their arguments, in the same order; unset: none has any.")
    constraints: tuple[Any, ...] = setting((), help="Mappings {type: regex | json_schema | length | language, …}.")
    mode: str = setting("strict", choices=("strict", "loose"), help="How IFEval's instructions are checked.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.instruction_ids and not self.constraints:
            raise SpecError("instruction_ids: nothing is asked for; give instruction_ids, constraints, or both")
        if self.kwargs is not None and len(self.kwargs) != len(self.instruction_ids):
            raise SpecError(f"kwargs: {len(self.kwargs)} for {len(self.instruction_ids)} instruction_ids")
        self.list_instructions()
        self.list_constraints()

    def list_instructions(self) -> list[Instruction]:
        """The instructions. Raises SpecError naming the one that is wrong."""
        found = []
        for place, (name, arguments) in enumerate(
            zip(self.instruction_ids, self.kwargs or ({},) * len(self.instruction_ids), strict=True)
        ):
            if not isinstance(name, str) or not isinstance(arguments, Mapping | None):
                raise SpecError(f"instruction_ids[{place}]: expected an id and a mapping, got {name!r}, {arguments!r}")
            try:
                found.append(parse_instruction(name, arguments=arguments or {}))
            except SpecError as error:
                raise SpecError(f"instruction_ids[{place}]: {error}") from None
        return found

    def list_constraints(self) -> list[Constraint]:
        """The constraints. Raises SpecError naming the one that is wrong."""
        found = []
        for place, mapping in enumerate(self.constraints):
            try:
                found.append(parse_constraint(mapping))
            except SpecError as error:
                raise SpecError(f"constraints[{place}]: {error}") from None
        return found


def parse_constraint(mapping: Any) -> Constraint:
    """The constraint a mapping describes. Raises SpecError naming the field."""
    if not isinstance(mapping, Mapping):
        raise SpecError(f"expected a mapping {{type, …}}, got {mapping!r}")
    name = mapping.get("type")
    if not isinstance(name, str) or name not in CONSTRAINTS:
        raise SpecError(f"type: {name_nearest(str(name), tuple(CONSTRAINTS))}")
    settings = {key: value for key, value in mapping.items() if key != "type"}
    return build_settings(CONSTRAINTS[name], settings=settings, owner=f"type {name}")


def parse_constraints(settings: Mapping[str, Any]) -> ConstraintsSpec:
    """The spec in a mapping. Raises SpecError naming the field, InputError where a library is not installed."""
    for package in ("nltk", "langdetect", "jsonschema"):
        require_library(package, package=package, purpose="kind constraints")
    return parse_settings(ConstraintsSpec, settings=settings)


def prepare_constraints() -> None:
    """Load the splitter of sentences and the profiles of languages."""
    split_sentences("Once.")
    detect_language("once upon a time")


def check_constraints(prompt: Any, *, response: str, spec: ConstraintsSpec) -> Verdict:
    """Which of the instructions and constraints hold."""
    follow = follow_strictly if spec.mode == "strict" else follow_loosely
    faults: list[str | None] = [
        None if follow(response, instruction=instruction) else f"not followed: {describe_instruction(instruction)}"
        for instruction in spec.list_instructions()
    ]
    faults += [constraint.find_fault(response) for constraint in spec.list_constraints()]
    missed = [fault for fault in faults if fault is not None]
    if not missed:
        return passed(f"all {len(faults)} hold")
    return failed(f"{len(missed)} of {len(faults)} missed: {'; '.join(missed)}", score=1 - len(missed) / len(faults))
