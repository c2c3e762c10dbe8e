"""Several weighted rewards as a person writes them: a short list in YAML. What each may hold the training library says.

- {kind: model, model: helpful-1, weight: 1}
- {kind: length, free: 96, most: 128}
"""

from __future__ import annotations

from typing import Any

import yaml
from django import forms
from django.utils.translation import gettext_lazy as _

LONGEST = 4000
PLACEHOLDER = "- {kind: model, model: …}\n- {kind: length, free: 96, most: 128}"


class RewardsField(forms.CharField):
    """A list of mappings; None where nothing was written."""

    def __init__(self) -> None:
        super().__init__(
            label=_("Rewards in place of one reward model"),
            required=False,
            max_length=LONGEST,
            help_text=_(
                "A YAML list; kinds are model, verifier, length, format and python; models as in the registry."
            ),
            widget=forms.Textarea(attrs={"rows": 4, "spellcheck": "false", "placeholder": PLACEHOLDER}),
        )

    def clean(self, value: Any) -> Any:
        """The list. Raises ValidationError where the text is none."""
        text = super().clean(value)
        return read_rewards(text) if text else None


def read_rewards(text: str) -> list[dict[str, Any]]:
    """The mappings of a YAML list. Raises ValidationError saying what is wrong.

    References (&a, *a) are refused: a few lines of them unfold to gigabytes.
    """
    try:
        if any(isinstance(token, yaml.AnchorToken | yaml.AliasToken) for token in yaml.scan(text)):
            raise forms.ValidationError(_("Write each reward out; references (& and *) are not read."))
        rewards = yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        raise forms.ValidationError(_("Line %(line)d is not YAML: %(problem)s."), params={
            "line": line, "problem": error.problem or "",
        }) from None  # fmt: skip
    except (yaml.YAMLError, ValueError, RecursionError):
        raise forms.ValidationError(_("This is not YAML that can be read.")) from None
    if not isinstance(rewards, list) or not rewards or not all(isinstance(reward, dict) for reward in rewards):
        raise forms.ValidationError(_("Write a list: a line “- {kind: …}” for each reward."))
    return rewards
