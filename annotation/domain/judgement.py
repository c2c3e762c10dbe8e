"""A judgement as an annotator gives it, in positions on screen, and what makes it complete.

Positions become response ids only when a judgement is stored (`annotation.domain.ranking`), so that nothing on the way
can mix up who was shown where.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace

from django.utils.translation import gettext as _
from django.utils.translation import ngettext

from annotation.domain.tasks import Task
from annotation.models import Project

Kind = Project.Task
RATIONALE_LIMIT = 20_000
COMMENT_LIMIT = 2_000
CORRECTION_LIMIT = 200_000
HIGHLIGHTS_LIMIT = 100
LETTERS = "ABCDEFGHI"


class RankingRefused(ValueError):
    """The judgement is not complete or not consistent; `problems` say why, ready to be shown."""

    def __init__(self, problems: list[str]) -> None:
        super().__init__(" ".join(problems))
        self.problems = problems


@dataclass(frozen=True)
class Highlight:
    """A remark on a passage: code points [start, end) of the shown text of the response at `position`."""

    position: int
    start: int
    end: int
    quote: str
    comment: str = ""


@dataclass(frozen=True)
class Judgement:
    """What was said of one slate. Positions are 0-based, from left to right as shown.

    `strength` is negative where the first (left) response is better. `ratings` is {scale: {position: number}}.
    """

    tiers: list[list[int]] = field(default_factory=list)
    all_bad: bool = False
    strength: int | None = None
    ratings: dict[str, dict[int, int]] = field(default_factory=dict)
    flags: dict[int, list[str]] = field(default_factory=dict)
    highlights: list[Highlight] = field(default_factory=list)
    corrections: dict[int, str] = field(default_factory=dict)
    rationale: str = ""


def complete_tiers(judgement: Judgement, *, task: Task) -> Judgement:
    """Give a comparison by strength the tiers that follow from it; other judgements stay as they are."""
    if not task.is_pair or judgement.strength is None or judgement.tiers:
        return judgement
    if judgement.strength == 0:
        tiers = [[0, 1]] if task.kind == Kind.PAIRWISE else []
    else:
        tiers = [[0], [1]] if judgement.strength < 0 else [[1], [0]]
    return replace(judgement, tiers=tiers)


def check_judgement(judgement: Judgement, *, task: Task, count: int, shown: Callable[[int], str]) -> None:
    """Raise RankingRefused unless the judgement says what the task asks of `count` responses, and nothing else.

    `shown(position)` is the text of a response as it was displayed; it is asked for where there are highlights only.
    Under "all bad" nothing need be ordered or rated.
    """
    problems = [
        *_problems_of_positions(judgement, count=count),
        *(_problems_of_order(judgement, task=task, count=count) if _is_sound(judgement, count=count) else []),
        *_problems_of_ratings(judgement, task=task, count=count),
        *_problems_of_flags(judgement, task=task),
        *_problems_of_corrections(judgement, task=task),
        *_problems_of_rationale(judgement, task=task),
    ]
    if not problems:
        problems += _problems_of_highlights(judgement, task=task, shown=shown)
    if problems:
        raise RankingRefused(problems)


def letters_of(positions: Iterable[int]) -> str:
    """ "A, C" for the positions 0 and 2."""
    return ", ".join(LETTERS[position] for position in sorted(positions))


def is_storable(text: str) -> bool:
    """Whether every database takes the text: no NUL, no lone surrogate."""
    return "\x00" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def _is_sound(judgement: Judgement, *, count: int) -> bool:
    placed = [position for tier in judgement.tiers for position in tier]
    return all(judgement.tiers) and set(placed) <= set(range(count)) and len(set(placed)) == len(placed)


def _problems_of_positions(judgement: Judgement, *, count: int) -> list[str]:
    named = {
        *(position for tier in judgement.tiers for position in tier),
        *(position for values in judgement.ratings.values() for position in values),
        *judgement.flags,
        *judgement.corrections,
        *(highlight.position for highlight in judgement.highlights),
    }
    if not named <= set(range(count)) or not all(judgement.tiers):
        return [_("The answer does not fit this slate. Reload the page.")]
    if not _is_sound(judgement, count=count):
        return [_("A response stands in two tiers.")]
    return []


def _problems_of_order(judgement: Judgement, *, task: Task, count: int) -> list[str]:
    tiers, strength = judgement.tiers, judgement.strength
    if judgement.all_bad and not tiers and strength is None:
        return []
    if strength is not None and not task.is_pair:
        return [_("This project does not ask how much better a response is.")]
    if task.kind == Kind.RATING:
        return [_("This project asks for ratings, not for an order.")] if tiers else []
    if task.is_pair:
        return _problems_of_pair(tiers, strength=strength, forced=task.kind == Kind.PAIRWISE_FORCED)
    placed = {position for tier in tiers for position in tier}
    if task.kind == Kind.BEST:
        whole = len(placed) == count and len(tiers) == 2 and len(tiers[0]) == 1
        return [] if whole else [_("Choose the best response.")]
    if task.kind == Kind.BEST_WORST:
        ends = len(tiers) == (2 if count == 2 else 3) and len(tiers[0]) == len(tiers[-1]) == 1
        return [] if ends and len(placed) == count else [_("Choose the best and the worst response.")]
    missing = [position for position in range(count) if position not in placed]
    if not missing:
        return []
    return [
        ngettext("Response %(letters)s is not placed.", "Responses %(letters)s are not placed.", len(missing))
        % {"letters": letters_of(missing)}
    ]


def _problems_of_pair(tiers: list[list[int]], *, strength: int | None, forced: bool) -> list[str]:
    if strength is None:
        return [_("Say which response is better, and by how much.")]
    if strength not in range(-3, 4):
        return [_("The answer does not fit this slate. Reload the page.")]
    if strength == 0:
        expected = [[[0], [1]], [[1], [0]]] if forced else [[[0, 1]], [[1, 0]]]
    else:
        expected = [[[0], [1]]] if strength < 0 else [[[1], [0]]]
    return [] if tiers in expected else [_("The order and its strength contradict each other.")]


def _problems_of_ratings(judgement: Judgement, *, task: Task, count: int) -> list[str]:
    scales = {scale.name: scale for scale in task.scales}
    problems = []
    if any(
        name not in scales or any(value not in scales[name].points for value in values.values())
        for name, values in judgement.ratings.items()
    ):
        problems.append(_("A rating is not on its scale. Reload the page."))
    if judgement.all_bad:
        return problems
    for name in scales:
        missing = [position for position in range(count) if position not in judgement.ratings.get(name, {})]
        if missing:
            problems.append(
                _("%(scale)s: not rated for %(letters)s.") % {"scale": name, "letters": letters_of(missing)}
            )
    return problems


def _problems_of_flags(judgement: Judgement, *, task: Task) -> list[str]:
    known = {flag.key for flag in task.flags}
    if any(key not in known for keys in judgement.flags.values() for key in keys):
        return [_("A flag is not one of this project's. Reload the page.")]
    return []


def _problems_of_corrections(judgement: Judgement, *, task: Task) -> list[str]:
    if not judgement.corrections:
        return []
    if task.corrections == Project.Corrections.NONE:
        return [_("This project does not ask for corrections.")]
    problems = []
    if task.corrections == Project.Corrections.BEST:
        best = set(judgement.tiers[0]) if judgement.tiers else set()
        others = [position for position in judgement.corrections if position not in best]
        if others:
            problems.append(
                _("Only the best response is corrected here; take back the correction of %(letters)s.")
                % {"letters": letters_of(others)}
            )
    for position, text in sorted(judgement.corrections.items()):
        place = {"letter": LETTERS[position], "limit": CORRECTION_LIMIT}
        if not text.strip():
            problems.append(_("The correction of %(letter)s is empty.") % place)
        elif len(text) > CORRECTION_LIMIT:
            problems.append(_("The correction of %(letter)s is longer than %(limit)d characters.") % place)
        elif not is_storable(text):
            problems.append(_("The correction of %(letter)s holds characters that cannot be stored.") % place)
    return problems


def _problems_of_rationale(judgement: Judgement, *, task: Task) -> list[str]:
    rationale, problems = judgement.rationale, []
    if rationale and task.rationale == Project.Rationale.NONE:
        problems.append(_("This project does not ask for a reason."))
    if task.rationale == Project.Rationale.REQUIRED and len(rationale.strip()) < task.rationale_min:
        problems.append(
            ngettext(
                "Give a reason of at least %(count)d character.",
                "Give a reason of at least %(count)d characters.",
                task.rationale_min,
            )
            % {"count": task.rationale_min}
        )
    if len(rationale) > RATIONALE_LIMIT:
        problems.append(_("The reason is longer than %(limit)d characters.") % {"limit": RATIONALE_LIMIT})
    if not is_storable(rationale):
        problems.append(_("The reason holds characters that cannot be stored."))
    return problems


def _problems_of_highlights(judgement: Judgement, *, task: Task, shown: Callable[[int], str]) -> list[str]:
    if not judgement.highlights:
        return []
    if not task.highlights:
        return [_("This project does not ask for highlights.")]
    if len(judgement.highlights) > HIGHLIGHTS_LIMIT:
        return [_("There are more than %(limit)d highlights.") % {"limit": HIGHLIGHTS_LIMIT}]
    for highlight in judgement.highlights:
        if len(highlight.comment) > COMMENT_LIMIT:
            return [_("A comment is longer than %(limit)d characters.") % {"limit": COMMENT_LIMIT}]
        if not is_storable(highlight.comment):
            return [_("A comment holds characters that cannot be stored.")]
        text = shown(highlight.position)
        is_passage = 0 <= highlight.start < highlight.end <= len(text)
        if not is_passage or text[highlight.start : highlight.end] != highlight.quote:
            return [
                _("A highlight of %(letter)s does not fit the text. Remove it and mark it again.")
                % {"letter": LETTERS[highlight.position]}
            ]
    return []
