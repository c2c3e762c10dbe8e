"""Says a judgement in the names of its responses: "A = C › B", "A is much better", "best: B"."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from annotation.domain.judgement import LETTERS
from annotation.domain.tasks import Task
from annotation.models import Project, Ranking
from annotation.models.project import KNOWN_FLAGS

Kind = Project.Task
DEGREES = {
    3: gettext_lazy("%(name)s is much better"),
    2: gettext_lazy("%(name)s is better"),
    1: gettext_lazy("%(name)s is slightly better"),
    0: gettext_lazy("%(name)s is hardly better, or unsure"),
}
SHORT_DEGREES = {
    3: pgettext_lazy("degree", "much better"),
    2: pgettext_lazy("degree", "better"),
    1: pgettext_lazy("degree", "slightly better"),
    0: pgettext_lazy("degree", "hardly better, or unsure"),
}


@dataclass(frozen=True)
class Said:
    """A judgement in words. `ratings` and `flags` are (scale or flag, whom it says what of), in the task's order."""

    order: str
    all_bad: bool
    ratings: list[tuple[str, str]]
    flags: list[tuple[str, str]]


def say_judgement(
    *,
    kind: str,
    tiers: Sequence[Sequence[int]],
    strength: int | None,
    canonical: Sequence[int],
    ratings: Mapping[str, Mapping[Any, Any]] | None,
    flags: Mapping[Any, Sequence[str]],
    all_bad: bool,
    names: Mapping[int, str],
    task: Task,
) -> Said:
    """Say what was judged of responses by these names; `canonical` is the order by which a strength is signed.

    `kind` is the kind of task under which it was judged; `task` gives flags their labels. A response without a name
    is called "?".
    """

    def name(response: Any) -> str:
        return names.get(int(response), "?")

    labels = {key: str(label) for key, label in KNOWN_FLAGS.items()} | {flag.key: flag.label for flag in task.flags}
    flagged = sorted({key for keys in flags.values() for key in keys}, key=lambda key: (labels.get(key, key), key))
    return Said(
        order=_say_order(kind, [sorted(map(name, tier)) for tier in tiers], _better(strength, canonical, name)),
        all_bad=all_bad,
        ratings=[
            (scale, " · ".join(sorted(f"{name(response)} {value}" for response, value in values.items())))
            for scale, values in (ratings or {}).items()
        ],
        flags=[
            (labels.get(key, key), ", ".join(sorted(name(response) for response, keys in flags.items() if key in keys)))
            for key in flagged
        ],
    )


def say_ranking(ranking: Ranking, *, names: Mapping[int, str], canonical: Sequence[int], task: Task) -> Said:
    """Say a stored ranking; `canonical` is the order of its slate's responses."""
    return say_judgement(
        kind=ranking.task,
        tiers=ranking.tiers,
        strength=ranking.strength,
        canonical=canonical,
        ratings=ranking.ratings,
        flags=ranking.flags,
        all_bad=ranking.all_bad,
        names=names,
        task=task,
    )


def letters_for(order: Sequence[int]) -> dict[int, str]:
    """The letter under which each response stood on screen, from left to right."""
    return dict(zip(order, LETTERS, strict=False))


def _better(strength: int | None, canonical: Sequence[int], name: Any) -> tuple[int, str] | None:
    """(degree, who is better by the sign alone) of a strength, None where there is none."""
    if strength is None or len(canonical) < 2:
        return None
    return abs(strength), name(canonical[0] if strength < 0 else canonical[1]) if strength else ""


def _say_order(kind: str, tiers: list[list[str]], better: tuple[int, str] | None) -> str:
    tiers = [tier for tier in tiers if tier]
    if better is not None:
        degree, name = better
        if not name and len(tiers) != 2:
            return _("equal")
        return str(DEGREES[degree]) % {"name": name or tiers[0][0]}
    if kind == Kind.BEST and tiers:
        return _("best: %(best)s") % {"best": ", ".join(tiers[0])}
    if kind == Kind.BEST_WORST and len(tiers) > 1:
        return _("best: %(best)s, worst: %(worst)s") % {"best": ", ".join(tiers[0]), "worst": ", ".join(tiers[-1])}
    return " › ".join(" = ".join(tier) for tier in tiers)
