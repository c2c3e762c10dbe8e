"""What annotators are asked: the kind of task, and what may be said beside it.

A project's task is read by `task_of` and written by `save_task`. Once somebody has judged, the question itself (kind,
scales) stays: a new question is a new project.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from django.db import transaction
from django.db.models import Count
from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotation.models import Membership, Project, Ranking
from annotation.models.project import KNOWN_FLAGS
from annotation.rendering import check_patterns
from annotation.rendering.masks import MOST_PATTERNS

PAIR_KINDS = (Project.Task.PAIRWISE, Project.Task.PAIRWISE_FORCED)
CHOICE_KINDS = (Project.Task.BEST, Project.Task.BEST_WORST)

MOST_SCALES = 12
MOST_FLAGS = 12
HIGHEST_POINT = 10
NAME_LIMIT, LABEL_LIMIT = 60, 80
RATIONALE_MIN_LIMIT = 20_000
MINUTES_LIMIT = 60 * 24 * 366
BREAK_LIMIT = 1000
LEASE_LIMITS = (60, 60 * 60 * 24 * 7)
"""Seconds: shorter than a minute nobody can read; a week later the slate is better given to somebody else."""

FLAG_KEY = re.compile(r"[a-z0-9]+(?:-[a-z0-9]+)*")
KEY_LIMIT = 40


class TaskRefused(ValueError):
    """The project's task cannot be so; `problems` say why and what to do, ready to be shown."""

    def __init__(self, problems: Sequence[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = list(problems)


@dataclass(frozen=True)
class Scale:
    """A named scale of consecutive whole numbers; `points` maps each to its anchor, "" where it has none."""

    name: str
    points: dict[int, str]

    @property
    def low(self) -> int:
        """The lowest point."""
        return min(self.points)

    @property
    def high(self) -> int:
        """The highest point."""
        return max(self.points)


@dataclass(frozen=True)
class Flag:
    """An acceptability flag: the key that is stored and the label that is shown.

    In `TaskSettings` a known key's label may be "": it is then shown under its own name, in the reader's language.
    """

    key: str
    label: str


@dataclass(frozen=True)
class Task:
    """One project's task, read once."""

    kind: str
    scales: tuple[Scale, ...]
    flags: tuple[Flag, ...]
    rationale: str
    rationale_min: int
    highlights: bool
    corrections: str

    @property
    def is_pair(self) -> bool:
        """Whether two responses are compared by strength."""
        return self.kind in PAIR_KINDS

    @property
    def orders(self) -> bool:
        """Whether the responses are ordered at all; ratings alone never become an order."""
        return self.kind != Project.Task.RATING


@dataclass(frozen=True)
class TaskSettings:
    """All that an admin chooses about a project's task, as it is stored.

    `amend_minutes` None: a ranking may be amended for ever; `break_after` None: no break is offered. `slate_size` and
    `overlap` hold for slates made from now on.
    """

    kind: str
    scales: tuple[Scale, ...]
    flags: tuple[Flag, ...]
    rationale: str
    rationale_min: int
    highlights: bool
    corrections: str
    mask_patterns: tuple[str, ...]
    show_verdicts: bool
    amend_minutes: int | None
    break_after: int | None
    lease_seconds: int
    slate_size: int
    overlap: int


def task_of(project: Project) -> Task:
    """The project's task; known flags carry their name in the language of the moment."""
    return Task(
        kind=project.task,
        scales=_scales_of(project),
        flags=tuple(
            Flag(key=flag["key"], label=flag["label"] or str(KNOWN_FLAGS.get(flag["key"], flag["key"])))
            for flag in project.flags
        ),
        rationale=project.rationale,
        rationale_min=project.rationale_min,
        highlights=project.highlights,
        corrections=project.corrections,
    )


def settings_of(project: Project) -> TaskSettings:
    """What is stored of the project's task; change it with `dataclasses.replace` and hand it to `save_task`."""
    return TaskSettings(
        kind=project.task,
        scales=_scales_of(project),
        flags=tuple(Flag(key=flag["key"], label=flag["label"]) for flag in project.flags),
        rationale=project.rationale,
        rationale_min=project.rationale_min,
        highlights=project.highlights,
        corrections=project.corrections,
        mask_patterns=tuple(project.mask_patterns),
        show_verdicts=project.show_verdicts,
        amend_minutes=project.amend_minutes,
        break_after=project.break_after,
        lease_seconds=project.lease_seconds,
        slate_size=project.slate_size,
        overlap=project.overlap,
    )


@transaction.atomic
def save_task(project: Project, *, settings: TaskSettings) -> Project:
    """Store the settings and return the project as it is then; a pair kind makes slates of two.

    Raises TaskRefused with every problem where a setting is not possible, where the kind, or the scales' names and
    ranges, would change after somebody has judged, and where a pair kind meets slates of another size.
    """
    locked = Project.objects.select_for_update().get(pk=project.pk)
    problems = _problems_of_settings(settings) or _problems_of_change(locked, settings)
    if problems:
        raise TaskRefused(problems)
    locked.task = settings.kind
    locked.scales = [
        {"name": scale.name, "points": {str(point): anchor for point, anchor in sorted(scale.points.items())}}
        for scale in settings.scales
    ]
    locked.flags = [{"key": flag.key, "label": flag.label} for flag in settings.flags]
    locked.rationale, locked.rationale_min = settings.rationale, settings.rationale_min
    locked.highlights, locked.corrections = settings.highlights, settings.corrections
    locked.mask_patterns, locked.show_verdicts = list(settings.mask_patterns), settings.show_verdicts
    locked.amend_minutes, locked.break_after = settings.amend_minutes, settings.break_after
    locked.lease_seconds, locked.overlap = settings.lease_seconds, settings.overlap
    locked.slate_size = slate_size_of(settings.kind, wanted=settings.slate_size)
    locked.save()
    return locked


def slate_size_of(kind: str, *, wanted: int) -> int:
    """How many responses a slate of this kind has: two where two are compared, as many as wanted elsewhere."""
    return 2 if kind in PAIR_KINDS else wanted


def question_is_settled(project: Project) -> bool:
    """Whether a person or a simulated annotator has judged here.

    Imports answer questions of their own and do not count: they were shown to nobody here, and have no presented order.
    """
    kinds = (Membership.Kind.PERSON, Membership.Kind.SIMULATED)
    judged = Ranking.objects.filter(slate__project=project, annotator__kind__in=kinds)
    return judged.exclude(presented_order=[]).exists()


def problem_of_scale(scale: Scale) -> str:
    """What is wrong with a scale, as a sentence; "" where nothing is."""
    points = sorted(scale.points)
    if not scale.name or len(scale.name) > NAME_LIMIT or re.search(r"[:：\n\r]", scale.name):
        return _("Give the scale a name of 1 to %(limit)d characters without a colon.") % {"limit": NAME_LIMIT}
    if len(points) < 2 or points[0] < 0 or points[-1] > HIGHEST_POINT:
        return _("A scale has at least two points; its lowest is 0 or more, its highest %(limit)d or less.") % {
            "limit": HIGHEST_POINT
        }
    if points != list(range(points[0], points[-1] + 1)):
        return _("A scale's points are consecutive whole numbers.")
    if any(len(anchor) > LABEL_LIMIT or re.search(r"[;；\n\r]", anchor) for anchor in scale.points.values()):
        return _("An anchor has at most %(limit)d characters and no semicolon.") % {"limit": LABEL_LIMIT}
    return "" if _is_storable(scale.name, *scale.points.values()) else _unstorable()


def problem_of_flag(flag: Flag) -> str:
    """What is wrong with a flag, as a sentence; "" where nothing is."""
    if not FLAG_KEY.fullmatch(flag.key) or len(flag.key) > KEY_LIMIT:
        return _("A flag's key is made of the letters a to z, digits and hyphens, at most %(limit)d of them.") % {
            "limit": KEY_LIMIT
        }
    if not flag.label and flag.key not in KNOWN_FLAGS:
        return _("“%(key)s” is no known flag (%(known)s): write a label for annotators behind it, after a colon.") % {
            "key": flag.key,
            "known": ", ".join(KNOWN_FLAGS),
        }
    if len(flag.label) > LABEL_LIMIT or re.search(r"[\n\r]", flag.label):
        return _("A flag's label has at most %(limit)d characters.") % {"limit": LABEL_LIMIT}
    return "" if _is_storable(flag.label) else _unstorable()


def problem_of_phrase(phrase: str) -> str:
    """What is wrong with a masked phrase, as a sentence; "" where nothing is."""
    if re.search(r"[\n\r]", phrase):
        return _("A masked phrase is one line.")
    try:
        check_patterns([phrase])
    except ValueError as error:
        return str(error)
    return "" if _is_storable(phrase) else _unstorable()


def _problems_of_settings(settings: TaskSettings) -> list[str]:
    """What cannot be, whatever the project."""
    problems = [problem_of_scale(scale) for scale in settings.scales]
    problems += [problem_of_flag(flag) for flag in settings.flags]
    problems += [problem_of_phrase(phrase) for phrase in settings.mask_patterns]
    problems += _problems_of_lists(settings)
    if settings.kind not in Project.Task.values:
        problems.append(_("Choose the kind of task from the list."))
    elif settings.kind == Project.Task.RATING and not settings.scales:
        problems.append(_("Ratings need at least one scale."))
    if settings.rationale not in Project.Rationale.values or settings.corrections not in Project.Corrections.values:
        problems.append(_("Choose from the lists what is asked for reasons and corrections."))
    if settings.kind == Project.Task.RATING and settings.corrections == Project.Corrections.BEST:
        problems.append(_("Ratings name no best response: ask for corrections of any response, or of none."))
    problems += _problems_of_numbers(settings)
    return [problem for problem in problems if problem]


def _problems_of_lists(settings: TaskSettings) -> list[str]:
    problems = []
    limits = [
        (settings.scales, MOST_SCALES, _("There may be %(limit)d scales at most.")),
        (settings.flags, MOST_FLAGS, _("There may be %(limit)d flags at most.")),
        (settings.mask_patterns, MOST_PATTERNS, _("There may be %(limit)d masked phrases at most.")),
    ]
    problems += [said % {"limit": most} for entries, most, said in limits if len(entries) > most]
    for name in _repeated(scale.name for scale in settings.scales):
        problems.append(_("Two scales are called “%(name)s”; give each its own name.") % {"name": name})
    for key in _repeated(flag.key for flag in settings.flags):
        problems.append(_("The flag “%(key)s” stands there twice; remove one.") % {"key": key})
    return problems


def _problems_of_numbers(settings: TaskSettings) -> list[str]:
    named = [
        (_("Fewest characters of a reason"), settings.rationale_min, 1, RATIONALE_MIN_LIMIT),
        (_("Minutes to amend"), settings.amend_minutes, 0, MINUTES_LIMIT),
        (_("Slates before a break"), settings.break_after, 1, BREAK_LIMIT),
        (_("Seconds a slate is held"), settings.lease_seconds, *LEASE_LIMITS),
        (_("Responses a slate"), settings.slate_size, 2, 9),
        (_("Annotators a slate"), settings.overlap, 1, 100),
    ]
    said = _("%(name)s: choose a number from %(low)d to %(high)d.")
    return [
        said % {"name": name, "low": low, "high": high}
        for name, value, low, high in named
        if value is not None and not low <= value <= high
    ]


def _problems_of_change(project: Project, settings: TaskSettings) -> list[str]:
    """What cannot be any more, given what the project holds."""
    problems = []
    asked = (project.task, _ranges(_scales_of(project)))
    asks = (settings.kind, _ranges(settings.scales))
    if asked != asks and question_is_settled(project):
        problems.append(
            _("People have judged here, so the kind of task and the scales stay. A new question is a new project.")
        )
    elif asked != asks and project.practice_examples.filter(is_active=True).exists():
        problems.append(
            _("The practice examples answer the present question. Take them out of practice first, then change it.")
        )
    if settings.kind in PAIR_KINDS:
        others = project.slates.annotate(size=Count("places")).exclude(size=2).count()
        if others:
            said = ngettext(
                "%(count)d slate does not have two responses; pairs need a project of their own.",
                "%(count)d slates do not have two responses; pairs need a project of their own.",
                others,
            )
            problems.append(said % {"count": others})
    return problems


def _repeated(names: Iterable[str]) -> list[str]:
    """The names that come more than once, in whichever case."""
    given = list(names)
    counts = Counter(name.casefold() for name in given)
    return [name for name in dict.fromkeys(given) if counts.pop(name.casefold(), 1) > 1]


def _ranges(scales: Sequence[Scale]) -> dict[str, tuple[int, ...]]:
    return {scale.name: tuple(sorted(scale.points)) for scale in scales}


def _scales_of(project: Project) -> tuple[Scale, ...]:
    return tuple(
        Scale(name=scale["name"], points={int(point): anchor for point, anchor in scale["points"].items()})
        for scale in project.scales
    )


def _unstorable() -> str:
    return _("It holds characters that cannot be stored.")


def _is_storable(*texts: str) -> bool:
    return not any("\x00" in text or re.search("[\ud800-\udfff]", text) for text in texts)
