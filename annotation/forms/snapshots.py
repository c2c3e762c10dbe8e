"""The form that freezes a snapshot."""

from __future__ import annotations

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotation.domain.snapshots import FORMATS, SnapshotFilters
from annotation.models import Membership

LARGEST_PERCENT = 90
"""Of one held-out split; below 100 together, so that something is left to train on."""


class SnapshotForm(forms.Form):
    """Format, split, and which judgements enter; nothing chosen means all."""

    format = forms.ChoiceField(label=gettext_lazy("Format"), choices=lambda: list(FORMATS.items()))
    split_seed = forms.IntegerField(
        label=gettext_lazy("Split seed"),
        min_value=0,
        max_value=2**31 - 1,
        initial=0,
        help_text=gettext_lazy("The same seed puts the same prompts into the same split."),
    )
    validation_percent = forms.IntegerField(
        label=gettext_lazy("Validation, percent of prompts"), min_value=0, max_value=LARGEST_PERCENT, initial=10
    )
    test_percent = forms.IntegerField(
        label=gettext_lazy("Test, percent of prompts"),
        min_value=0,
        max_value=LARGEST_PERCENT,
        initial=10,
        help_text=gettext_lazy("The rest is for training."),
    )
    since = forms.DateField(
        label=gettext_lazy("Judged since"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )
    until = forms.DateField(
        label=gettext_lazy("Judged until"), required=False, widget=forms.DateInput(attrs={"type": "date"})
    )
    annotator_kinds = forms.MultipleChoiceField(
        label=gettext_lazy("Judgements by"),
        choices=Membership.Kind.choices,
        required=False,
        widget=forms.CheckboxSelectMultiple,
    )
    categories = forms.CharField(
        label=gettext_lazy("Categories"),
        required=False,
        max_length=500,
        help_text=gettext_lazy("Separated by commas; empty means all."),
    )

    def clean_categories(self) -> tuple[str, ...]:
        return tuple(name.strip() for name in self.cleaned_data["categories"].split(",") if name.strip())

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        if data.get("since") and data.get("until") and data["since"] > data["until"]:
            raise ValidationError(_("“Judged since” lies after “judged until”; nothing could be in between."))
        if data.get("validation_percent", 0) + data.get("test_percent", 0) >= 100:
            raise ValidationError(_("Validation and test take every prompt; leave some for training."))
        return data

    def shares(self) -> tuple[float, float, float]:
        """The parts of train, validation and test."""
        validation, test = self.cleaned_data["validation_percent"], self.cleaned_data["test_percent"]
        return (100 - validation - test) / 100, validation / 100, test / 100

    def filters(self) -> SnapshotFilters:
        """The chosen filters as the domain wants them."""
        data = self.cleaned_data
        return SnapshotFilters(
            since=data["since"],
            until=data["until"],
            annotator_kinds=tuple(data["annotator_kinds"]),
            categories=data["categories"],
        )
