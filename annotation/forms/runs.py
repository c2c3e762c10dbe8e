"""Forms that start runs and register models. The settings of a method come from the domain's description of it."""

from __future__ import annotations

from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from annotation.domain.runs import TRAINED_ON, form_fields, readable_formats
from annotation.models import Model, Project, Run, Snapshot

NEEDS_SNAPSHOT = tuple(Run.Method(method) for method in TRAINED_ON)
JUDGED_BY_REWARD_MODELS = (Run.Method.SCORE, Run.Method.VERIFY)
LABELS = {
    "loss": _("Loss"),
    "loss_type": _("Loss"),
    "label_smoothing": _("Label smoothing"),
    "tuning": _("Tuning"),
    "lora_rank": _("LoRA rank"),
    "learning_rate": _("Learning rate"),
    "epochs": _("Epochs"),
    "max_steps": _("Steps at most"),
    "batch_size": _("Batch size"),
    "gradient_accumulation": _("Gradient accumulation"),
    "max_length": _("Longest pair, tokens"),
    "early_stopping_patience": _("Early stopping: validations to wait"),
    "packing": _("Packing"),
    "seed": _("Seed"),
    "beta": _("Beta"),
    "n": _("Responses a prompt"),
    "max_new_tokens": _("Longest response, tokens"),
    "temperature": _("Temperature"),
    "rounds": _("Rounds"),
    "samples": _("Attempts at a time"),
    "max_samples": _("Attempts a prompt at most"),
    "enough": _("Enough accepted attempts"),
    "per_prompt": _("Learned of one prompt at most"),
    "choice": _("Which accepted attempts"),
    "start_from": _("Each round trains"),
    "response_tokens": _("Longest response, tokens"),
    "top_p": _("Top-p"),
}


class RunForm(forms.Form):
    """Snapshot, model and settings of one method; an empty setting keeps the default."""

    def __init__(self, *args: Any, method: str, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.method = method
        if method in NEEDS_SNAPSHOT:
            self.fields["snapshot"] = SnapshotChoice(trainable_snapshots(project, method=method), label=_("Snapshot"))
        self.fields["base_model"] = model_choice(project, method)
        if method not in JUDGED_BY_REWARD_MODELS:
            self.fields["model"] = forms.CharField(
                label=_("Or a model by name"),
                required=False,
                max_length=500,
                help_text=_("A hub id or a directory; empty: the embedded SmolLM2."),
            )
        if method == Run.Method.GENERATE:
            self._add_generate_fields()
        self.setting_names = [description.name for description in form_fields(method)]
        for description in form_fields(method):
            self.fields[description.name] = field_of(description)
        if method in (Run.Method.SFT, Run.Method.KTO):
            self.fields["max_length"].label = _("Longest row, tokens")
        if method == Run.Method.GENERATE:
            self.fields["n"].initial = project.slate_size  # as many as fill a slate

    def _add_generate_fields(self) -> None:
        self.fields["prompt_count"] = forms.IntegerField(
            label=_("Prompts"),
            required=False,
            min_value=1,
            help_text=_("Those with the fewest slates first; empty: all."),
        )
        self.fields["mix"] = forms.BooleanField(
            label=_("Put earlier responses of the prompt beside the new ones"), required=False
        )

    def settings(self) -> dict[str, Any]:
        """The settings that were filled in."""
        names = [*self.setting_names, "model", "prompt_count"]
        data = self.cleaned_data
        filled = {name: data[name] for name in names if data.get(name) not in (None, "")}
        return filled | ({"mix": True} if data.get("mix") else {})


class RegisterForm(forms.Form):
    """The name under which a run's model is registered."""

    name = forms.CharField(label=_("Name"), max_length=120)


class SnapshotChoice(forms.ModelChoiceField):
    """Snapshots by number, so that an address can name one."""

    def __init__(self, queryset: QuerySet[Snapshot], **kwargs: Any) -> None:
        super().__init__(queryset, to_field_name="number", empty_label=None, **kwargs)

    def label_from_instance(self, obj: Any) -> str:
        rows = sum(obj.manifest["counts"]["rows"].values())
        words = _("%(number)d · %(rows)d pairs · %(hash)s")
        if obj.format != "trl-preference":
            words = _("%(number)d · %(rows)d rows · %(hash)s")
        return str(words) % {
            "number": obj.number,
            "rows": rows,
            "hash": obj.sha256[:8],
        }


def trainable_snapshots(project: Project, *, method: str) -> QuerySet[Snapshot]:
    """The snapshots that a method can train on, newest first."""
    return project.snapshots.filter(format__in=readable_formats(method)).order_by("-number")


def model_choice(project: Project, method: str) -> forms.ModelChoiceField:
    """The field of the registered model: a scoring must have one, a verification may."""
    models, label = starting_models(project, method), _("Registered model")
    if method == Run.Method.SCORE:
        return forms.ModelChoiceField(models, label=label, empty_label=None)
    if method == Run.Method.VERIFY:
        said = _("For verifiers that ask for one; without it they give no verdict.")
        return forms.ModelChoiceField(
            models, label=_("Reward model"), required=False, empty_label=_("none"), help_text=said
        )
    return forms.ModelChoiceField(models, label=label, required=False, empty_label=_("none: the one named below"))


def starting_models(project: Project, method: str) -> QuerySet[Model]:
    """The registered models a run of this method may start from."""
    kind = Model.Kind.REWARD if method in JUDGED_BY_REWARD_MODELS else Model.Kind.POLICY
    return project.models.filter(kind=kind)


def field_of(description: Any) -> forms.Field:
    """The form field for one described setting."""
    common: dict[str, Any] = {
        "label": LABELS.get(description.name, description.name.replace("_", " ")),
        "help_text": _(description.help),  # its sentences are in run_helps
        "required": False,
        "initial": description.default,
    }
    if description.choices:
        return forms.ChoiceField(choices=[(choice, choice) for choice in description.choices], **common)
    kind = description.type.split(" or ")[0]
    limits = {"min_value": description.minimum, "max_value": description.maximum}
    if kind == "int":
        return forms.IntegerField(**limits, **common)
    if kind == "float":
        widget = forms.NumberInput(attrs={"step": "any"})
        return forms.FloatField(widget=widget, **limits, **common)
    if kind == "bool":
        return forms.BooleanField(**common)
    return forms.CharField(max_length=500, **common)
