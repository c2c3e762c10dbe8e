"""What is looked for among the conflicts of people and verifiers."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotation.models import Membership, Project
from annotation.verdicts import verified_kinds


class ConflictForm(forms.Form):
    """Filters of the list of conflicts; every one that is set narrows it further."""

    text = forms.CharField(
        label=gettext_lazy("Words in the prompt"),
        required=False,
        max_length=200,
        widget=forms.TextInput(attrs={"type": "search"}),
    )
    best = forms.BooleanField(label=gettext_lazy("the best one failed"), required=False)

    def __init__(self, data: Any, *, project: Project) -> None:
        super().__init__(data)
        kinds = [("", _("all")), *((kind, kind) for kind in verified_kinds(project))]
        self.fields["kind"] = forms.ChoiceField(label=_("Verifier"), choices=kinds, required=False)
        judges = Membership.objects.filter(project=project, rankings__isnull=False).distinct().order_by("name")
        self.fields["annotator"] = forms.ModelChoiceField(judges, label=_("By"), required=False, empty_label=_("all"))
        self.order_fields(["text", "kind", "annotator", "best"])
