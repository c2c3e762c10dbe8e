"""What an annotator looks for among their own rankings."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy


class DayInput(forms.DateInput):
    """A day as browsers send it."""

    input_type = "date"

    def __init__(self) -> None:
        super().__init__(format="%Y-%m-%d")


class HistoryForm(forms.Form):
    """Filters of the history; every one that is set narrows it further."""

    since = forms.DateField(label=gettext_lazy("From"), required=False, widget=DayInput(), input_formats=["%Y-%m-%d"])
    until = forms.DateField(label=gettext_lazy("To"), required=False, widget=DayInput(), input_formats=["%Y-%m-%d"])
    text = forms.CharField(
        label=gettext_lazy("Words in the prompt"),
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={"type": "search"}),
    )
    all_bad = forms.BooleanField(label=gettext_lazy("all bad"), required=False)
    flagged = forms.BooleanField(label=gettext_lazy("flagged"), required=False)
    corrected = forms.BooleanField(label=gettext_lazy("corrected"), required=False)
    reasoned = forms.BooleanField(label=gettext_lazy("with a reason"), required=False)
    amended = forms.BooleanField(label=gettext_lazy("amended"), required=False)

    def clean(self) -> dict[str, Any]:
        data: dict[str, Any] = super().clean() or {}
        since, until = data.get("since"), data.get("until")
        if since and until and since > until:
            raise ValidationError(_("The first day is after the last; nothing could be in between."))
        return data

    @property
    def narrows(self) -> bool:
        """Whether a valid filter is set."""
        return any(self.cleaned_data.values()) if self.is_bound and self.is_valid() else False
