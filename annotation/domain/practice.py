"""The practice round: slates with explained answers, on which a newcomer tries the task before anything counts.

An example stands by itself and enters no dataset. Its answer is kept in positions of its own list of responses; on
screen the order is drawn anew for each annotator, from the annotator and the example, so that asking never writes.

When a try agrees (`agrees`), by kind of task:
  ranking        no pair that the answer orders is reversed, and its best and its worst are told apart
  two responses  the same side, or equal where the answer is
  best, worst    the same best, and the same worst where it is asked
  ratings        every value within one point of the answer's, beside any kind
"All bad" agrees with "all bad" alone. Flags, reasons, highlights and corrections are shown and do not count.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from django.db import transaction
from django.db.models import Max
from django.utils.translation import gettext as _

from annotation.domain.judgement import Judgement, check_judgement, complete_tiers, is_storable
from annotation.domain.tasks import CHOICE_KINDS, Task, task_of
from annotation.models import Membership, PracticeAnswer, PracticeExample, Project, Ranking, Slate
from annotation.queries import canonical_order
from annotation.rendering import mask, render_markdown

Kind = Project.Task
MOST_EXAMPLES = 100
MOST_RESPONSES = 9
EXPLANATION_LIMIT = 20_000
RATING_TOLERANCE = 1


class PracticeRefused(ValueError):
    """This cannot be a practice example; `field` names what is wrong, and the message says why, ready to be shown."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(reason)
        self.field, self.reason = field, reason


@dataclass(frozen=True)
class NewExample:
    """An example that is not stored yet. `answer` is a judgement in positions of `responses`."""

    messages: list[dict[str, str]]
    responses: list[str]
    answer: Judgement
    explanation: str
    slate: Slate | None = field(default=None, compare=False)


def add_example(
    project: Project,
    *,
    messages: list[dict[str, str]],
    responses: list[str],
    answer: Judgement,
    explanation: str,
    slate: Slate | None = None,
) -> PracticeExample:
    """Add a practice example. `slate` is where it was copied from; nobody is given that slate any more.

    Raises PracticeRefused where the answer does not fit the project's task.
    """
    example = NewExample(messages=messages, responses=responses, answer=answer, explanation=explanation, slate=slate)
    return add_examples(project, examples=[example])[0]


@transaction.atomic
def add_examples(project: Project, *, examples: Sequence[NewExample]) -> list[PracticeExample]:
    """Add all of them or, where one is refused (PracticeRefused), none."""
    Project.objects.select_for_update().get(pk=project.pk)
    if project.practice_examples.filter(is_active=True).count() + len(examples) > MOST_EXAMPLES:
        reason = _("A project has %(limit)d practice examples at most; remove some first.") % {"limit": MOST_EXAMPLES}
        raise PracticeRefused("", reason)
    task, last = task_of(project), project.practice_examples.aggregate(Max("number"))["number__max"] or 0
    rows = []
    for number, example in enumerate(examples, start=last + 1):
        answer = complete_tiers(example.answer, task=task)
        check_example(replace(example, answer=answer), task=task)
        rows.append(
            PracticeExample(
                project=project,
                number=number,
                messages=example.messages,
                responses=example.responses,
                answer=as_json(answer),
                explanation=example.explanation.strip(),
                slate=example.slate,
            )
        )
    return PracticeExample.objects.bulk_create(rows)


def add_example_from_ranking(ranking: Ranking, *, explanation: str) -> PracticeExample:
    """Copy a ranked slate into practice, the ranking being the answer.

    Raises PracticeRefused where the slate is an example already, and where the ranking does not fit the task now.
    """
    slate = ranking.slate
    if slate.practice_examples.filter(is_active=True).exists():
        raise PracticeRefused("", _("This slate is a practice example already."))
    order = canonical_order(slate)
    position = {response_id: place for place, response_id in enumerate(order)}
    texts = dict(slate.responses.values_list("pk", "text"))
    answer = Judgement(
        tiers=[sorted(position[response_id] for response_id in tier) for tier in ranking.tiers],
        all_bad=ranking.all_bad,
        strength=ranking.strength,
        ratings={
            name: {position[int(key)]: value for key, value in values.items() if type(value) is int}
            for name, values in (ranking.ratings or {}).items()
        },
        flags={position[int(key)]: list(keys) for key, keys in ranking.flags.items()},
    )
    return add_example(
        slate.project,
        messages=slate.prompt.messages,
        responses=[texts[response_id] for response_id in order],
        answer=_within(answer, task=task_of(slate.project), count=len(order)),
        explanation=explanation,
        slate=slate,
    )


def remove_example(example: PracticeExample) -> None:
    """Take an example out of the round; the tries at it stay."""
    PracticeExample.objects.filter(pk=example.pk).update(is_active=False)


def examples_of(project: Project) -> list[PracticeExample]:
    """The examples of the round: the active ones that fit the project's task as it is now."""
    task = task_of(project)
    return [e for e in project.practice_examples.filter(is_active=True).order_by("number") if fits(e, task=task)]


def next_example(annotator: Membership, *, after: int = 0) -> PracticeExample | None:
    """The annotator's first example that they have not tried; those numbered above `after` come first."""
    answered = set(PracticeAnswer.objects.filter(annotator=annotator).values_list("example", flat=True))
    waiting = [example for example in examples_of(annotator.project) if example.pk not in answered]
    return next((example for example in waiting if example.number > after), waiting[0] if waiting else None)


def practice_due(annotator: Membership) -> bool:
    """Whether the annotator is to practise first: they have ranked nothing yet, and an example waits for them."""
    if Ranking.objects.filter(annotator=annotator).exists():
        return False
    return next_example(annotator) is not None


def answer_example(annotator: Membership, *, example: PracticeExample, judgement: Judgement) -> PracticeAnswer:
    """Keep a try, whose positions are those on screen (`practice_order`), and whether it agrees with the answer.

    Raises RankingRefused for an incomplete or inconsistent judgement, exactly as ranking would.
    """
    task, order = task_of(annotator.project), practice_order(annotator, example=example)
    judgement = complete_tiers(judgement, task=task)
    texts = shown_texts(example, order=order)
    check_judgement(
        judgement, task=task, count=len(order), shown=lambda position: render_markdown(texts[position]).text
    )
    said = turn(judgement, places=order)
    return PracticeAnswer.objects.create(
        example=example,
        annotator=annotator,
        judgement={**as_json(said), "rationale": judgement.rationale, "order": order},
        agrees=agrees(said, answer=from_json(example.answer), task=task),
    )


def practice_order(annotator: Membership, *, example: PracticeExample) -> list[int]:
    """Which of the example's responses stands where, from left to right; always the same for this annotator."""
    order = list(range(len(example.responses)))
    random.Random(f"practice {annotator.pk} {example.pk}").shuffle(order)
    return order


def shown_texts(example: PracticeExample, *, order: Sequence[int]) -> list[str]:
    """The responses from left to right as an annotator may see them: self-identifications masked."""
    patterns = example.project.mask_patterns
    return [mask(example.responses[place], patterns=patterns).text for place in order]


def turn(judgement: Judgement, *, places: Sequence[int]) -> Judgement:
    """The same judgement with position i called places[i]; highlights and corrections are left out."""
    return Judgement(
        tiers=[sorted(places[position] for position in tier) for tier in judgement.tiers],
        all_bad=judgement.all_bad,
        strength=-judgement.strength if judgement.strength and places[0] != 0 else judgement.strength,
        ratings={
            name: {places[position]: value for position, value in values.items()}
            for name, values in judgement.ratings.items()
        },
        flags={places[position]: keys for position, keys in judgement.flags.items()},
        rationale=judgement.rationale,
    )


def agrees(judgement: Judgement, *, answer: Judgement, task: Task) -> bool:
    """Whether a try agrees with the answer, both in the same positions (the rules stand at the top)."""
    if judgement.all_bad or answer.all_bad:
        return judgement.all_bad and answer.all_bad
    if task.is_pair:
        same_order = judgement.tiers == answer.tiers
    elif task.kind in CHOICE_KINDS:
        ends = (0, -1) if task.kind == Kind.BEST_WORST else (0,)
        same_order = all(judgement.tiers[end] == answer.tiers[end] for end in ends)
    else:
        same_order = not task.orders or _keeps_order(judgement.tiers, answer=answer.tiers)
    return same_order and all(
        abs(judgement.ratings.get(scale.name, {}).get(position, value) - value) <= RATING_TOLERANCE
        for scale in task.scales
        for position, value in answer.ratings.get(scale.name, {}).items()
    )


def fits(example: PracticeExample, *, task: Task) -> bool:
    """Whether an example's answer says what the task asks; the task may have changed since it was written."""
    answer = _within(from_json(example.answer), task=task, count=len(example.responses))
    try:
        check_example(NewExample(example.messages, example.responses, answer, example.explanation), task=task)
    except PracticeRefused:
        return False
    return True


def check_example(example: NewExample, *, task: Task) -> None:
    """Raise PracticeRefused unless the example can be shown and its answer says what the task asks."""
    answer, count = example.answer, len(example.responses)
    if not 2 <= count <= MOST_RESPONSES:
        raise PracticeRefused("responses", _("A slate has 2 to %(most)d responses.") % {"most": MOST_RESPONSES})
    if task.is_pair and count != 2:
        raise PracticeRefused("responses", _("This project compares two responses; the example has another number."))
    explanation = example.explanation.strip()
    if not explanation:
        raise PracticeRefused("explanation", _("Explain the answer; it is what people learn from."))
    if len(explanation) > EXPLANATION_LIMIT:
        limit = {"limit": EXPLANATION_LIMIT}
        raise PracticeRefused("explanation", _("The explanation is longer than %(limit)d characters.") % limit)
    if not is_storable(explanation):
        raise PracticeRefused("explanation", _("The explanation holds characters that cannot be stored."))
    _check_order(answer, task=task, count=count)
    _check_ratings(answer, task=task, count=count)
    known = {flag.key for flag in task.flags}
    if not {key for keys in answer.flags.values() for key in keys} <= known:
        raise PracticeRefused("flags", _("A flag is not one of this project's."))


def as_json(answer: Judgement) -> dict[str, Any]:
    """What is stored of an answer; the keys of JSON objects are text."""
    return {
        "tiers": answer.tiers,
        "strength": answer.strength,
        "ratings": {
            name: {str(position): value for position, value in sorted(values.items())}
            for name, values in answer.ratings.items()
        },
        "flags": {str(position): sorted(keys) for position, keys in sorted(answer.flags.items()) if keys},
        "all_bad": answer.all_bad,
    }


def from_json(stored: dict[str, Any]) -> Judgement:
    """The judgement that `as_json` stored."""
    return Judgement(
        tiers=stored["tiers"],
        strength=stored["strength"],
        ratings={
            name: {int(position): value for position, value in values.items()}
            for name, values in stored["ratings"].items()
        },
        flags={int(position): keys for position, keys in stored["flags"].items()},
        all_bad=stored["all_bad"],
        rationale=stored.get("rationale", ""),
    )


def _check_order(answer: Judgement, *, task: Task, count: int) -> None:
    tiers, placed = answer.tiers, [position for tier in answer.tiers for position in tier]
    if not all(tiers) or len(set(placed)) != len(placed) or not set(placed) <= set(range(count)):
        raise PracticeRefused("tiers", _("The tiers do not fit the responses; each stands in one tier."))
    if answer.strength is not None and (not task.is_pair or answer.strength not in range(-3, 4)):
        raise PracticeRefused("strength", _("A strength runs from -3 to 3, in projects that compare two responses."))
    if not task.orders or (answer.all_bad and not tiers):
        return
    if task.is_pair and answer.strength is None:
        raise PracticeRefused("strength", _("The answer is to say how much better which response is."))
    if len(placed) != count:
        raise PracticeRefused("tiers", _("The answer is to place every response."))
    if task.is_pair and answer.strength and (tiers[0] == [0]) != (answer.strength < 0):
        raise PracticeRefused("strength", _("The order and its strength contradict each other."))
    if task.kind in CHOICE_KINDS and (len(tiers[0]) != 1 or len(tiers) < 2):
        raise PracticeRefused("tiers", _("The answer is to have one best response."))
    if task.kind == Kind.BEST_WORST and len(tiers[-1]) != 1:
        raise PracticeRefused("tiers", _("The answer is to have one worst response."))


def _check_ratings(answer: Judgement, *, task: Task, count: int) -> None:
    scales = {scale.name: scale for scale in task.scales}
    for name, values in answer.ratings.items():
        if name not in scales:
            raise PracticeRefused("ratings", _("This project has no scale named %(name)s.") % {"name": name})
        if set(values) != set(range(count)) or not set(values.values()) <= set(scales[name].points):
            reason = _("The ratings of %(name)s are to be one point of the scale for each response.")
            raise PracticeRefused("ratings", reason % {"name": name})
    if task.kind == Kind.RATING and not answer.ratings and not answer.all_bad:
        raise PracticeRefused("ratings", _("The answer is to rate every response on at least one scale."))


def _within(answer: Judgement, *, task: Task, count: int) -> Judgement:
    """Leave out of a copied answer what the task does not ask (any more): half rated scales, unknown flags."""
    points = {scale.name: set(scale.points) for scale in task.scales}
    known = {flag.key for flag in task.flags}
    return replace(
        answer,
        strength=answer.strength if task.is_pair else None,
        ratings={
            name: values
            for name, values in answer.ratings.items()
            if name in points and len(values) == count and set(values.values()) <= points[name]
        },
        flags={position: [key for key in keys if key in known] for position, keys in answer.flags.items()},
    )


def _keeps_order(tiers: Sequence[Iterable[int]], *, answer: Sequence[Sequence[int]]) -> bool:
    """Whether no strict pair of the answer is reversed, and its first and its last tier are told apart."""
    rank = {position: number for number, tier in enumerate(tiers) for position in tier}
    numbered = list(enumerate(answer))
    kept = all(
        rank[better] <= rank[worse]
        for number, tier in numbered
        for later, other in numbered
        if number < later
        for better in tier
        for worse in other
    )
    return kept and (len(answer) < 2 or all(rank[best] < rank[worst] for best in answer[0] for worst in answer[-1]))
