"""Reads practice examples from JSONL: all of a file or, with file, line and field of the first fault, none.

A row is {"prompt": text or messages, "responses": [text, …], "explanation": Markdown} with an answer that the
project's task can be answered by, in positions of `responses` (0 is the first): "tiers": [[0], [1, 2]], "strength":
-3 … 3 (negative: the first is better), "ratings": {scale: [number, …]}, "flags": [[key, …], …], "all_bad": true.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from django.db import transaction

from annotation.domain.import_formats import parse_responses
from annotation.domain.import_readers import ImportFile, ImportRefused, RawRow, RowRefused, name_type, read_rows
from annotation.domain.judgement import Judgement, complete_tiers
from annotation.domain.practice import (
    MOST_EXAMPLES,
    NewExample,
    PracticeRefused,
    add_examples,
    as_json,
    check_example,
)
from annotation.domain.tasks import Task, task_of
from annotation.models import Project

PROMPT_FIELDS = ("prompt", "messages", "question", "system")
ANSWER_FIELDS = ("tiers", "strength", "ratings", "flags", "all_bad")
FIELDS = (*PROMPT_FIELDS, "responses", *ANSWER_FIELDS, "explanation")


@dataclass(frozen=True)
class PracticeCounts:
    """What an import stored; `skipped` counts the examples that were there already."""

    added: int
    skipped: int


@transaction.atomic
def import_examples(project: Project, *, file: ImportFile) -> PracticeCounts:
    """Add the file's examples in its order; the same again is skipped.

    Raises ImportRefused with file, line and field at the first thing that is wrong; nothing is stored then.
    """
    Project.objects.select_for_update().get(pk=project.pk)
    task = task_of(project)
    there = {
        _identity(stored.messages, stored.responses, stored.answer, stored.explanation)
        for stored in project.practice_examples.filter(is_active=True)
    }
    examples, skipped = [], 0
    for row in read_rows(file):
        try:
            example = parse_example(row, task=task)
            check_example(example, task=task)
        except (RowRefused, PracticeRefused) as error:
            raise ImportRefused(file=file.name, line=row.line, field=error.field, reason=error.reason) from None
        key = _identity(example.messages, example.responses, as_json(example.answer), example.explanation)
        if key in there:
            skipped += 1
            continue
        if len(there) == MOST_EXAMPLES:
            reason = f"a project has {MOST_EXAMPLES} practice examples at most; remove some first"
            raise ImportRefused(file=file.name, line=row.line, reason=reason)
        there.add(key)
        examples.append(example)
    return PracticeCounts(added=len(add_examples(project, examples=examples)), skipped=skipped)


def parse_example(row: RawRow, *, task: Task) -> NewExample:
    """One row as an example. Raises RowRefused with the field and the reason."""
    if strange := sorted(name for name, value in row.fields.items() if name not in FIELDS and value is not None):
        raise RowRefused(strange[0], f"an example has no such field; it has {', '.join(FIELDS)}")
    given = {name: row.fields.get(name) for name in ANSWER_FIELDS}
    if all(value is None for value in given.values()):
        raise RowRefused("tiers", f"the answer is missing; give one of {', '.join(ANSWER_FIELDS)}")
    explanation = row.fields.get("explanation")
    if not isinstance(explanation, str):
        raise RowRefused("explanation", _missing_or(explanation, wanted="text"))
    asked = {name: value for name, value in row.fields.items() if name in (*PROMPT_FIELDS, "responses")}
    slate = parse_responses(replace(row, fields=asked))
    count = len(slate.responses)
    answer = Judgement(
        tiers=_read_tiers(given["tiers"]),
        strength=_read_strength(given["strength"]),
        ratings=_read_ratings(given["ratings"], count=count),
        flags=_read_flags(given["flags"], count=count),
        all_bad=_read_bool(given["all_bad"]),
    )
    return NewExample(
        messages=slate.prompt.messages,
        responses=[response.text for response in slate.responses],
        answer=complete_tiers(answer, task=task),
        explanation=explanation.strip(),
    )


def _identity(messages: Any, responses: Any, answer: Any, explanation: str) -> str:
    return repr((messages, responses, sorted(answer.items()), explanation))


def _read_tiers(value: Any) -> list[list[int]]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(tier, list) for tier in value):
        raise RowRefused("tiers", "it must be a list of lists of positions, best first, such as [[0], [1, 2]]")
    if any(type(position) is not int for tier in value for position in tier):
        raise RowRefused("tiers", "a position is a whole number; 0 is the first response")
    return [sorted(tier) for tier in value]


def _read_strength(value: Any) -> int | None:
    if value is not None and type(value) is not int:
        raise RowRefused("strength", f"it must be a whole number from -3 to 3, not {name_type(value)}")
    return value


def _read_ratings(value: Any, *, count: int) -> dict[str, dict[int, int]]:
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise RowRefused("ratings", f"it must be an object of scales, not {name_type(value)}")
    for name, numbers in value.items():
        if not isinstance(numbers, list) or len(numbers) != count or any(type(n) is not int for n in numbers):
            raise RowRefused("ratings", f"{name!r} must be a list of {count} whole numbers, one for each response")
    return {name: dict(enumerate(numbers)) for name, numbers in value.items()}


def _read_flags(value: Any, *, count: int) -> dict[int, list[str]]:
    if value is None:
        return {}
    shape = isinstance(value, list) and len(value) == count and all(isinstance(keys, list) for keys in value)
    if not shape or any(not isinstance(key, str) for keys in value for key in keys):
        raise RowRefused("flags", f"it must be a list of {count} lists of flags, one for each response")
    return {position: sorted(set(keys)) for position, keys in enumerate(value) if keys}


def _read_bool(value: Any) -> bool:
    if value is not None and not isinstance(value, bool):
        raise RowRefused("all_bad", f"it must be true or false, not {name_type(value)}")
    return bool(value)


def _missing_or(value: Any, *, wanted: str) -> str:
    return "it is missing" if value is None else f"it must be {wanted}, not {name_type(value)}"
