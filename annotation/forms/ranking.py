"""The form of one slate: a tier (or none) for each position on screen, all-bad, and a reason.

It knows positions only, so that nothing in it can tell where a response came from. Whether every response is placed
is the domain's question, not this form's.
"""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

LONGEST_ACTIVE_MS = 24 * 60 * 60 * 1000


class RankingForm(forms.Form):
    """Fields tier_0 … tier_{size-1}; an empty tier means "not placed"."""

    token = forms.UUIDField(widget=forms.HiddenInput)
    active_ms = forms.IntegerField(required=False, min_value=0, max_value=LONGEST_ACTIVE_MS, widget=forms.HiddenInput)
    all_bad = forms.BooleanField(required=False)
    rationale = forms.CharField(required=False, max_length=20_000)

    def __init__(self, *args: Any, size: int, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.size = size
        for position in range(size):
            self.fields[f"tier_{position}"] = forms.TypedChoiceField(
                choices=[("", "")] + [(number, str(number)) for number in range(1, size + 1)],
                coerce=int,
                empty_value=None,
                required=False,
            )

    def placements(self) -> list[int | None]:
        """The tier number of each position, None where it is not placed or was not a tier."""
        return [self.cleaned_data.get(f"tier_{position}") for position in range(self.size)]

    def tiers(self) -> list[list[int]]:
        """Positions by tier, best first; empty tiers are closed up."""
        placements = self.placements()
        numbers = sorted({number for number in placements if number is not None})
        return [[i for i, placed in enumerate(placements) if placed == number] for number in numbers]

    def problems(self) -> list[str]:
        """What is wrong with the fields themselves, as sentences."""
        return [str(error) for errors in self.errors.values() for error in errors]


class SkipForm(forms.Form):
    """Why a slate is passed over."""

    token = forms.UUIDField(widget=forms.HiddenInput)
    reason = forms.CharField(label=_("Reason"), required=False, max_length=500)


def placements_from_tiers(tiers: list[list[int]], *, size: int) -> list[int | None]:
    """The tier number of each position: [[2], [0, 1]] of 4 is [2, 2, 1, None]."""
    placed = {position: number for number, tier in enumerate(tiers, start=1) for position in tier}
    return [placed.get(position) for position in range(size)]
