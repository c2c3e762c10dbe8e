"""The form of a project's settings. Lists are text areas with one entry a line, so that it works without JavaScript.

The notation is read here, and every fault names its line; what an entry may be is said by `annotation.domain.tasks`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Generic, TypeVar

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotation.domain.tasks import (
    BREAK_LIMIT,
    LEASE_LIMITS,
    MINUTES_LIMIT,
    MOST_FLAGS,
    MOST_SCALES,
    RATIONALE_MIN_LIMIT,
    Flag,
    Scale,
    TaskSettings,
    problem_of_flag,
    problem_of_phrase,
    problem_of_scale,
)
from annotation.models import Project
from annotation.rendering.masks import MOST_PATTERNS

Entry = TypeVar("Entry")
COLON, SEMICOLON = re.compile("[:：]"), re.compile("[;；]")
LONGEST_LIST = 100_000
"""Characters of a text area."""
POINT = re.compile(r"(\d{1,3})(?:\s+(.*))?")


def read_scale(line: str) -> Scale:
    """ "Helpfulness: 0 not helpful; 2 partly; 4" as a scale from 0 to 4. Raises ValueError with a sentence."""
    name, *rest = COLON.split(line, maxsplit=1)
    if not rest:
        raise ValueError(_("Put a colon between the scale's name and its points."))
    anchors: dict[int, str] = {}
    for part in SEMICOLON.split(rest[0]):
        point = POINT.fullmatch(part.strip())
        if point is None:
            raise ValueError(_("Begin each point with its number, and put semicolons between the points."))
        number = int(point[1])
        if anchors and number <= max(anchors):
            raise ValueError(_("Let the points rise from left to right, each number once."))
        anchors[number] = point[2] or ""
    points = range(min(anchors), max(anchors) + 1)
    return Scale(name=name.strip(), points={number: anchors.get(number, "") for number in points})


def write_scale(scale: Scale) -> str:
    """A scale in the notation of `read_scale`: its ends, and the points that have an anchor."""
    shown = [point for point in sorted(scale.points) if scale.points[point] or point in (scale.low, scale.high)]
    return f"{scale.name}: " + "; ".join(f"{point} {scale.points[point]}".rstrip() for point in shown)


def read_flag(line: str) -> Flag:
    """ "unsafe" or "no-sources: names no source"."""
    key, *label = COLON.split(line, maxsplit=1)
    return Flag(key=key.strip(), label=label[0].strip() if label else "")


def write_flag(flag: Flag) -> str:
    """A flag in the notation of `read_flag`."""
    return f"{flag.key}: {flag.label}" if flag.label else flag.key


class ListField(forms.CharField, Generic[Entry]):
    """A text area whose lines are entries; empty lines count for nothing.

    `read` turns a line into an entry and `write` back; `problem_of` says what is wrong with an entry; two entries of
    one `key` are refused.
    """

    def __init__(
        self,
        *,
        read: Callable[[str], Entry],
        write: Callable[[Entry], str],
        problem_of: Callable[[Entry], str],
        key: Callable[[Entry], str],
        most: int,
        rows: int,
        **kwargs: Any,
    ) -> None:
        # Not stripped: the number of a line is what the reader of an error counts.
        widget = forms.Textarea(attrs={"rows": rows, "spellcheck": "false"})
        super().__init__(required=False, strip=False, max_length=LONGEST_LIST, widget=widget, **kwargs)
        self.read, self.write, self.problem_of, self.key, self.most = read, write, problem_of, key, most

    def clean(self, value: Any) -> tuple[Entry, ...]:
        lines = super().clean(value).replace("\r\n", "\n").replace("\r", "\n").split("\n")
        problems: list[str] = []
        entries: dict[str, Entry] = {}
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                entry = self.read(line.strip())
            except ValueError as error:
                problems.append(_line_problem(number, str(error)))
                continue
            problem = self.problem_of(entry)
            key = self.key(entry).casefold()
            if not problem and key in entries:
                problem = _("“%(name)s” stands on an earlier line already; keep one.") % {"name": self.key(entry)}
            if problem:
                problems.append(_line_problem(number, problem))
            entries[key] = entry
        if len(entries) > self.most:
            problems.append(_("There are more than %(limit)d; remove some.") % {"limit": self.most})
        if problems:
            raise ValidationError(problems)
        return tuple(entries.values())

    def prepare_value(self, value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
        return "\n".join(self.write(entry) for entry in value)


class ScalesField(ListField[Scale]):
    """Scales in the notation of `read_scale`."""

    def __init__(self, *, rows: int) -> None:
        super().__init__(
            label=gettext_lazy("Scales"),
            read=read_scale,
            write=write_scale,
            problem_of=problem_of_scale,
            key=lambda scale: scale.name,
            most=MOST_SCALES,
            rows=rows,
            help_text=gettext_lazy(
                "One a line: name, colon, points with their anchors between semicolons, as in "
                "“Helpfulness: 0 not helpful; 2 partly; 4 fully helpful”. The first and the last number are the ends. "
                "Every response is rated on every scale, beside an order too; ratings on scales need at least one."
            ),
        )


class TaskForm(forms.Form):
    """All settings of a project's task. The kind of a project that was judged in cannot be chosen any more."""

    kind = forms.ChoiceField(label=gettext_lazy("Kind of task"), choices=Project.Task.choices)
    scales = ScalesField(rows=4)
    slate_size = forms.IntegerField(
        label=gettext_lazy("Responses a slate"),
        min_value=2,
        max_value=9,
        help_text=gettext_lazy("For slates made from now on; comparisons of two always have two."),
    )
    overlap = forms.IntegerField(
        label=gettext_lazy("Annotators a slate"),
        min_value=1,
        max_value=100,
        help_text=gettext_lazy("For slates made from now on."),
    )
    rationale = forms.ChoiceField(label=gettext_lazy("Reason"), choices=Project.Rationale.choices)
    rationale_min = forms.IntegerField(
        label=gettext_lazy("Fewest characters of a reason"),
        min_value=1,
        max_value=RATIONALE_MIN_LIMIT,
        help_text=gettext_lazy("Where a reason is required."),
    )
    flags = ListField[Flag](
        label=gettext_lazy("Flags"),
        read=read_flag,
        write=write_flag,
        problem_of=problem_of_flag,
        key=lambda flag: flag.key,
        most=MOST_FLAGS,
        rows=5,
        help_text=gettext_lazy(
            "One a line: unsafe, broken, off-language, self-identifies, or a key and a label of your own, as in "
            "“no-sources: names no source”."
        ),
    )
    highlights = forms.BooleanField(label=gettext_lazy("Passages may be highlighted and commented on"), required=False)
    corrections = forms.ChoiceField(label=gettext_lazy("Corrections"), choices=Project.Corrections.choices)
    mask_patterns = ListField[str](
        label=gettext_lazy("Masked phrases"),
        read=str,
        write=str,
        problem_of=problem_of_phrase,
        key=str,
        most=MOST_PATTERNS,
        rows=8,
        help_text=gettext_lazy(
            "One a line. What they find in a response is covered before anybody ranks it, visibly so. Upper and lower "
            "case are one; * stands for a few words, as in “developed by *”."
        ),
    )
    show_verdicts = forms.BooleanField(
        label=gettext_lazy("Annotators may see verdicts once they have ranked"),
        required=False,
        help_text=gettext_lazy("What verifiers said of the responses of a slate, in My rankings; never before."),
    )
    amend_minutes = forms.IntegerField(
        label=gettext_lazy("Minutes in which a ranking may be amended"),
        required=False,
        min_value=0,
        max_value=MINUTES_LIMIT,
        help_text=gettext_lazy("Empty: always."),
    )
    break_after = forms.IntegerField(
        label=gettext_lazy("Slates after which a break is offered"),
        required=False,
        min_value=1,
        max_value=BREAK_LIMIT,
        help_text=gettext_lazy("Empty: never."),
    )
    lease_seconds = forms.IntegerField(
        label=gettext_lazy("Seconds a slate is held for an annotator"),
        min_value=LEASE_LIMITS[0],
        max_value=LEASE_LIMITS[1],
        help_text=gettext_lazy("After so long without a sign of work it goes to somebody else."),
    )

    def __init__(self, *args: Any, settled: bool, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.fields["kind"].disabled = settled

    def settings(self) -> TaskSettings:
        """The settings that were chosen."""
        return TaskSettings(**self.cleaned_data)


def _line_problem(number: int, problem: str) -> str:
    return _("Line %(number)d: %(problem)s") % {"number": number, "problem": problem}
