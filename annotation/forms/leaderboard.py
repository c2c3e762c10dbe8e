"""What a leaderboard is asked: a form that takes nothing but what the project has."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

from django import forms
from django.core.exceptions import ValidationError
from django.utils.functional import Promise
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, pgettext_lazy

from annotation.battles import LENGTHS, SLICES, LeaderboardRefused, Question, item_exists, slice_values
from annotation.models import Membership, Project

BY = {
    "source": gettext_lazy("sources"),
    "model": gettext_lazy("models of the registry"),
    "response": gettext_lazy("single responses"),
}
METHODS = {"bradley-terry": "Bradley–Terry", "plackett-luce": "Plackett–Luce"}
CLUSTERS = {
    "ranking": gettext_lazy("ranking"),
    "annotator": gettext_lazy("annotator"),
    "prompt": gettext_lazy("prompt"),
    "annotator-prompt": gettext_lazy("annotator and prompt"),
}
SLICE_NAMES = {
    "category": gettext_lazy("Category"),
    "language": gettext_lazy("Language"),
    "criterion": gettext_lazy("Criterion"),
    "guidelines": gettext_lazy("Guidelines"),
    "annotators": gettext_lazy("Annotators"),
    "response-length": gettext_lazy("Length of responses"),
    "prompt-length": gettext_lazy("Length of prompts"),
}
BANDS = {
    "short": gettext_lazy("under %(high)d characters"),
    "medium": gettext_lazy("%(low)d to %(high)d characters"),
    "long": gettext_lazy("from %(low)d characters on"),
}
PRIOR = 1.0
"""Precision of the prior that joins what is not comparable, where the page is asked for one."""


class LeaderboardForm(forms.Form):
    """What is ranked, how, and over which judgements; nothing set is everything by Bradley–Terry.

    A slice that the project has no choice of is no field.
    """

    by = forms.ChoiceField(
        label=pgettext_lazy("what a leaderboard is of", "Rank"), choices=list(BY.items()), required=False
    )
    model = forms.ChoiceField(label=gettext_lazy("Model"), choices=list(METHODS.items()), required=False)
    cluster = forms.ChoiceField(
        label=gettext_lazy("Errors by"), choices=[("", gettext_lazy("as usual")), *CLUSTERS.items()], required=False
    )
    style = forms.BooleanField(label=gettext_lazy("control style"), required=False)
    join = forms.BooleanField(label=gettext_lazy("join by a prior"), required=False)

    def __init__(self, data: Any, *, project: Project) -> None:
        super().__init__(data)
        self.project = project
        for name, values in slice_values(project).items():
            if len(values) > 1:
                choices = [("", _("all")), *((value, _say_value(name, value)) for value in values)]
                self.fields[name] = forms.ChoiceField(label=SLICE_NAMES[name], choices=choices, required=False)
        self.order_fields(["by", "model", "cluster", *SLICES, "style", "join"])

    def clean(self) -> dict[str, Any]:
        """Refuse what goes with nothing: slices of something that the project has not, style without Bradley–Terry."""
        data: dict[str, Any] = super().clean() or {}
        for name in self.data:
            if name not in self.fields and name not in (*SLICES, "first", "second", "page"):
                raise ValidationError(_("Nothing here is called “%(name)s”.") % {"name": name[:100]})
        for name in SLICES:
            if name not in self.fields and self.data.get(name):
                raise ValidationError(_("This project has no slices by %(name)s.") % {"name": SLICE_NAMES[name]})
        if not self.errors:
            try:
                self.question(newest_slates=None)
            except LeaderboardRefused as error:
                raise ValidationError(str(error)) from None
        return data

    def question(self, *, newest_slates: int | None) -> Question:
        """What the valid form asks."""
        given = self.cleaned_data
        return Question(
            by=given["by"] or "source",
            method=given["model"] or "bradley-terry",
            cluster=given["cluster"] or None,
            style_control=given["style"],
            ridge=PRIOR if given["join"] else 0.0,
            slices={name: given[name] for name in SLICES if given.get(name)},
            newest_slates=newest_slates,
        )

    def kept_query(self, *, leave_out: Iterable[str] = ()) -> str:
        """What the valid form asks as part of an address, "" where it asks nothing; ends with "&" otherwise."""
        given = self.kept_fields(leave_out=leave_out)
        return f"{urlencode(given)}&" * bool(given)

    def kept_fields(self, *, leave_out: Iterable[str] = ()) -> list[tuple[str, str]]:
        """The same as names and values."""
        given = self.cleaned_data.items()
        return [(name, "on" if value is True else value) for name, value in given if value and name not in leave_out]


class BattlesForm(LeaderboardForm):
    """The same with the two items whose battles are wanted."""

    first = forms.CharField(max_length=500, strip=False)
    second = forms.CharField(max_length=500, strip=False)

    def clean(self) -> dict[str, Any]:
        """Refuse items that the project has not, and one twice."""
        data = super().clean()
        names = [data[name] for name in ("first", "second") if data.get(name)]
        for name in names:
            if not item_exists(self.project, name, by=data.get("by") or "source"):
                raise ValidationError(_("Nothing here is called “%(name)s”.") % {"name": name})
        if len(names) == 2 and names[0] == names[1]:
            raise ValidationError(_("There are no battles of one with itself."))
        return data


def _say_value(name: str, value: str) -> str | Promise:
    if name in ("response-length", "prompt-length"):
        low, high = LENGTHS[value]
        return BANDS[value] % {"low": low, "high": high}
    if name == "guidelines":
        return _("version %(version)s") % {"version": value}
    return Membership.Kind(value).label if name == "annotators" else value
