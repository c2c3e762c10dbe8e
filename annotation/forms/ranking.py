"""The form of one slate: what a person enters of each task kind, by position on screen.

It knows positions only, so that nothing in it can tell where a response came from. Whether a judgement is complete is
the domain's question, not this form's.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotation.domain.judgement import CORRECTION_LIMIT, RATIONALE_LIMIT, Highlight, Judgement
from annotation.domain.tasks import CHOICE_KINDS, Task
from annotation.models import Project

LONGEST_ACTIVE_MS = 24 * 60 * 60 * 1000
HIGHLIGHTS_BYTES = 1_000_000
FORCED_STRENGTHS = {
    "a3": (-3, 0), "a2": (-2, 0), "a1": (-1, 0), "a0": (0, 0), "b0": (0, 1), "b1": (1, 1), "b2": (2, 1), "b3": (3, 1),
}  # fmt: skip
"""Of a forced choice: the value sent, the strength (negative where A is better), and the side that is better."""
PAIR_STRENGTHS = {str(strength): strength for strength in range(-3, 4)}
Entered = dict[str, Any]


class RankingForm(forms.Form):
    """Fields of the task over `sources`, the texts on screen from left to right (what a correction starts from)."""

    token = forms.UUIDField(required=False)
    active_ms = forms.IntegerField(required=False, min_value=0, max_value=LONGEST_ACTIVE_MS)
    all_bad = forms.BooleanField(required=False)
    rationale = forms.CharField(required=False, max_length=RATIONALE_LIMIT, strip=False)
    highlights = forms.CharField(required=False, max_length=HIGHLIGHTS_BYTES)

    def __init__(self, *args: Any, task: Task, sources: Sequence[str], **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.task, self.sources = task, sources
        positions = range(len(sources))
        if task.kind == Project.Task.RANKING:
            for position in positions:
                self.fields[f"tier_{position}"] = _choice(range(1, len(sources) + 1))
        if task.kind in CHOICE_KINDS:
            self.fields["best"] = _choice(positions)
        if task.kind == Project.Task.BEST_WORST:
            self.fields["worst"] = _choice(positions)
        if task.is_pair:
            self.fields["strength"] = forms.ChoiceField(choices=[(v, v) for v in strengths_of(task)], required=False)
        for number, scale in enumerate(task.scales):
            for position in positions:
                self.fields[f"rating_{number}_{position}"] = _choice(scale.points)
        for position in positions:
            self.fields[f"flag_{position}"] = forms.MultipleChoiceField(
                choices=[(flag.key, flag.label) for flag in task.flags], required=False
            )
            if task.corrections != Project.Corrections.NONE:
                self.fields[f"correction_{position}"] = forms.CharField(
                    required=False, max_length=CORRECTION_LIMIT, strip=False
                )

    def clean_rationale(self) -> str:
        return with_plain_newlines(self.cleaned_data["rationale"])

    def clean_highlights(self) -> list[Highlight]:
        """The browser's JSON list; anything that is not one is refused."""
        text = self.cleaned_data["highlights"]
        if not text:
            return []
        try:
            return [
                Highlight(
                    position=_whole(entry["position"]),
                    start=_whole(entry["start"]),
                    end=_whole(entry["end"]),
                    quote=str(entry["quote"]),
                    comment=str(entry.get("comment", "")),
                )
                for entry in json.loads(text)
            ]
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
            raise ValidationError(_("The highlights could not be read. Reload the page.")) from None

    def entered(self) -> Entered:
        """What was entered and can be shown again, by field; what is no valid value is left out, and so is a correction
        that says what the response says (the plain form sends one of every response)."""
        data = {name: value for name, value in self.cleaned_data.items() if value not in (None, "", [], False)}
        data.pop("token", None)
        corrected = {f"correction_{position}" for position in self._corrections()}
        return {name: value for name, value in data.items() if name in corrected or not name.startswith("correction_")}

    def judgement(self) -> Judgement:
        """The valid fields as a judgement, complete or not."""
        data, positions = self.cleaned_data, range(len(self.sources))
        tiers, strength = self._order()
        return Judgement(
            tiers=tiers,
            strength=strength,
            all_bad=data["all_bad"],
            ratings={
                scale.name: {
                    position: data[f"rating_{number}_{position}"]
                    for position in positions
                    if data.get(f"rating_{number}_{position}") is not None
                }
                for number, scale in enumerate(self.task.scales)
            },
            flags={position: data[f"flag_{position}"] for position in positions if data.get(f"flag_{position}")},
            highlights=data["highlights"],
            corrections=self._corrections(),
            rationale=data["rationale"],
        )

    def problems(self) -> list[str]:
        """What is wrong with the fields themselves, as sentences."""
        return [str(error) for errors in self.errors.values() for error in errors]

    def _order(self) -> tuple[list[list[int]], int | None]:
        data, size = self.cleaned_data, len(self.sources)
        if self.task.kind == Project.Task.RANKING:
            placements = [data.get(f"tier_{position}") for position in range(size)]
            numbers = sorted({number for number in placements if number is not None})
            return [[i for i, placed in enumerate(placements) if placed == number] for number in numbers], None
        if self.task.kind in CHOICE_KINDS:
            return _tiers_of_choice(data.get("best"), worst=data.get("worst"), size=size), None
        value = data.get("strength")
        if not self.task.is_pair or not value:
            return [], None
        if self.task.kind == Project.Task.PAIRWISE:
            return [], PAIR_STRENGTHS[value]
        strength, better = FORCED_STRENGTHS[value]
        return [[better], [1 - better]], strength

    def _corrections(self) -> dict[int, str]:
        corrections = {}
        for position, source in enumerate(self.sources):
            text = with_plain_newlines(self.cleaned_data.get(f"correction_{position}") or "")
            if f"correction_{position}" in self.data and text != with_plain_newlines(source):
                corrections[position] = text
        return corrections


class SkipForm(forms.Form):
    """Why a slate is passed over."""

    reason = forms.CharField(label=gettext_lazy("Reason"), required=False, max_length=500)


def entered_from(judgement: Judgement, *, task: Task) -> Entered:
    """The fields of the form that say what a judgement says."""
    entered: Entered = {"all_bad": judgement.all_bad, "rationale": judgement.rationale}
    if task.kind == Project.Task.RANKING:
        for number, tier in enumerate(judgement.tiers, start=1):
            entered |= {f"tier_{position}": number for position in tier}
    if task.kind in CHOICE_KINDS and judgement.tiers:
        entered["best"] = judgement.tiers[0][0]
        if task.kind == Project.Task.BEST_WORST:
            entered["worst"] = judgement.tiers[-1][0]
    if task.is_pair and judgement.strength is not None:
        better = judgement.tiers[0][0] if judgement.tiers else 0
        pair = (judgement.strength, better)
        values = FORCED_STRENGTHS.items()
        forced = task.kind == Project.Task.PAIRWISE_FORCED
        entered["strength"] = next(v for v, p in values if p == pair) if forced else str(judgement.strength)
    for number, scale in enumerate(task.scales):
        for position, value in judgement.ratings.get(scale.name, {}).items():
            entered[f"rating_{number}_{position}"] = value
    entered |= {f"flag_{position}": keys for position, keys in judgement.flags.items()}
    entered |= {f"correction_{position}": text for position, text in judgement.corrections.items()}
    entered["highlights"] = judgement.highlights
    return entered


def strengths_of(task: Task) -> Sequence[str]:
    """The values of a pair's strength from left to right, as the keys 1, 2, … choose them."""
    return list(FORCED_STRENGTHS if task.kind == Project.Task.PAIRWISE_FORCED else PAIR_STRENGTHS)


def side_and_degree(value: str) -> tuple[str, int]:
    """Of a strength's value: the letter of the better side ("" where neither is) and the degree, 0 to 3."""
    if value in FORCED_STRENGTHS:
        return value[0].upper(), int(value[1])
    strength = PAIR_STRENGTHS[value]
    return ("A" if strength < 0 else "B" if strength else ""), abs(strength)


def as_form_data(fields: Mapping[str, Any]) -> dict[str, Any]:
    """A draft's fields as a form takes them: text, and lists of text."""
    return {
        str(name): [str(item) for item in value] if isinstance(value, list) else str(value)
        for name, value in fields.items()
    }


def with_plain_newlines(text: str) -> str:
    """Browsers send a text area's line ends as CR LF."""
    return text.replace("\r\n", "\n").replace("\r", "\n")


def _choice(values: Any) -> forms.TypedChoiceField:
    """A whole number out of `values`, or nothing."""
    return forms.TypedChoiceField(
        choices=[("", "")] + [(value, str(value)) for value in values], coerce=int, empty_value=None, required=False
    )


def _tiers_of_choice(best: int | None, *, worst: int | None, size: int) -> list[list[int]]:
    """Best first, then what was not told apart, then worst; no tier is empty."""
    rest = [position for position in range(size) if position not in (best, worst)]
    chosen = [[best] if best is not None else [], rest, [worst] if worst is not None else []]
    return [tier for tier in chosen if tier] if best is not None or worst is not None else []


def _whole(value: Any) -> int:
    if type(value) is not int:
        raise TypeError("not a whole number")
    return value
