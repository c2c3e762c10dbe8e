"""Forms that start pipelines: from a template, or from a text of one's own."""

from __future__ import annotations

from typing import Any

from django import forms
from django.utils.translation import gettext_lazy as _

from annotation.domain.pipeline_templates import TEMPLATES, Template, fill_template
from annotation.domain.pipelines import NAME_LIMIT, TEXT_LIMIT, PipelineRefused, read_text, write_text
from annotation.domain.snapshots import FORMATS
from annotation.forms.runs import SnapshotChoice, starting_models
from annotation.models import Project, Run


class PipelineTemplateForm(forms.Form):
    """Name, model to start from, and a snapshot of each format that the template's stages need."""

    name = forms.CharField(label=_("Name"), max_length=NAME_LIMIT)

    def __init__(self, *args: Any, template: Template, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.template = template
        self.fields["name"].initial = template.title
        self.fields["base_model"] = forms.ModelChoiceField(
            starting_models(project, Run.Method.SFT),
            label=_("Registered model"),
            required=False,
            empty_label=_("none: the one named below"),
        )
        self.fields["model"] = forms.CharField(
            label=_("Or a model by name"),
            required=False,
            max_length=500,
            help_text=_("A hub id or a directory; empty: the embedded SmolLM2."),
        )
        self.missing: list[str] = []
        for format in template.formats:
            snapshots = project.snapshots.filter(format=format).order_by("-number")
            label = _("Snapshot: %(format)s") % {"format": FORMATS[format]}
            self.fields[f"snapshot_{format}"] = SnapshotChoice(snapshots, label=label)
            if not snapshots.exists():
                self.missing.append(str(FORMATS[format]))

    def clean(self) -> dict[str, Any]:
        """One model at most."""
        cleaned: dict[str, Any] = super().clean() or self.cleaned_data
        if cleaned.get("base_model") and cleaned.get("model"):
            self.add_error("model", _("Name the model once: as a registered model or here."))
        if (cleaned.get("model") or "").startswith("@"):
            self.add_error("model", _("A hub id or a directory does not begin with @."))
        return cleaned

    def document(self) -> dict[str, Any]:
        """The pipeline that was asked for."""
        base_model = self.cleaned_data["base_model"]
        return fill_template(
            self.template,
            snapshots={format: self.cleaned_data[f"snapshot_{format}"].number for format in self.template.formats},
            model=f"@model/{base_model.name}" if base_model else self.cleaned_data["model"] or None,
        )


class PipelineTextForm(forms.Form):
    """A pipeline in one's own words."""

    name = forms.CharField(label=_("Name"), max_length=NAME_LIMIT)
    text = forms.CharField(
        label=_("Stages (YAML or JSON)"),
        max_length=TEXT_LIMIT,
        widget=forms.Textarea(attrs={"rows": 24, "spellcheck": "false", "class": "code"}),
        help_text=_(
            'Quote references: "@snapshot/3" is snapshot 3, "@model/NAME" a registered model, "@sft" the model of '
            "the stage sft."
        ),
    )

    def clean_text(self) -> Any:
        """The document; what is wrong with its syntax is said at the field."""
        try:
            return read_text(self.cleaned_data["text"])
        except PipelineRefused as error:
            raise forms.ValidationError(str(error)) from error

    def document(self) -> Any:
        """The pipeline that was written."""
        return self.cleaned_data["text"]


def example_text() -> str:
    """What a text of one's own may look like: the last template, as if its snapshots were the first ones."""
    template = TEMPLATES[-1]
    numbers = {format: number for number, format in enumerate(template.formats, start=1)}
    return as_text(fill_template(template, snapshots=numbers, model=None))


def as_text(document: dict[str, Any]) -> str:
    """The document as people edit it."""
    return write_text(document)
