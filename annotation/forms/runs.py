"""Forms that start runs and register models. The settings of a method come from the domain's description of it."""

from __future__ import annotations

import re
from typing import Any

from django import forms
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from annotation.domain.runs import JUDGED_BY, MORE_FIELDS, ONLINE, TRAINED_ON, form_fields, readable_formats
from annotation.forms.rewards import RewardsField
from annotation.models import Model, Project, Run, Snapshot

NEEDS_SNAPSHOT = tuple(Run.Method(method) for method in TRAINED_ON)
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
    "trial_prompts": _("Prompts of the trial"),
    "some": _("Labels: rows at least"),
    "few": _("Shown reasoning: enough rows"),
    "many": _("Plenty: rows above"),
    "checkable": _("Checkable: share at least"),
    "fooled": _("Wrong answers accepted: share at most"),
    "preferences": _("Comparisons at least"),
    "group_size": _("Responses to each prompt"),
    "kl_coefficient": _("KL coefficient"),
    "target_kl": _("KL to aim at, nats a response"),
    "kl_budget": _("KL budget, nats a response"),
    "ppo_epochs": _("Passes over a rollout"),
    "minibatches": _("Minibatches a pass"),
    "reward_clip": _("Clip scores at"),
    "eos_penalty": _("Penalty without an end"),
    "eos_score": _("Score without an end"),
    "warmup_ratio": _("Share of warm-up"),
    "adam_epsilon": _("Epsilon of AdamW"),
    "test_prompts": _("Held-out prompts"),
    "test_samples": _("Answers a prompt"),
    "pass_k": _("k of pass@k"),
    "report_samples": _("Prompts with samples"),
    "sample_steps": _("Steps between samples"),
    "gold_steps": _("Steps between gold scores"),
    "save_steps": _("Steps between checkpoints"),
    "generation_batch_size": _("Responses generated at once"),
    "batch_tokens": _("Tokens read at once"),
    "clip": _("Clip of ratios"),
    "value_clip": _("Clip of values"),
    "gamma": _("Discount (gamma)"),
    "lam": _("Lambda of GAE"),
    "kl_in": _("Where the KL counts"),
    "kl_estimator": _("Estimator of the KL"),
    "whiten_advantages": _("Whiten advantages"),
    "whiten_rewards": _("Whiten rewards"),
    "value_model": _("Critic begins as"),
    "value_learning_rate": _("Learning rate of the critic"),
    "value_warmup_steps": _("Steps of the critic alone"),
    "save_critic": _("Save the critic"),
    "normalize_advantages": _("Normalise advantages"),
    "scale_advantages": _("Divide by the group's deviation"),
    "loss_mean": _("Mean of the loss over"),
}
UNSET = "–"
YES, NO = "true", "false"


class RunForm(forms.Form):
    """Snapshot, model and settings of one method; an empty setting keeps the default."""

    def __init__(self, *args: Any, method: str, project: Project, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.method = method
        if method in NEEDS_SNAPSHOT:
            self.fields["snapshot"] = SnapshotChoice(trainable_snapshots(project, method=method), label=_("Snapshot"))
        if method != Run.Method.VERIFY:
            self._add_model_fields(project)
        if method in JUDGED_BY["reward_model"] and method not in ONLINE:
            self.fields["reward_model"] = forms.ModelChoiceField(
                reward_models(project),
                label=_("Reward model"),
                required=False,
                empty_label=_("none"),
                help_text=_("For verifiers that ask for one; without it they give no verdict, or are refused."),
            )
        if method == Run.Method.GENERATE:
            self._add_generate_fields()
        if method in ONLINE:
            self._add_judge_fields(project)
        self.setting_names = [description.name for description in form_fields(method)]
        for description in form_fields(method):
            self.fields[description.name] = field_of(description)
        if method in (Run.Method.SFT, Run.Method.KTO):
            self.fields["max_length"].label = _("Longest row, tokens")
        if method == Run.Method.ADVISE:
            self.fields["model"].help_text = _(
                "A hub id, a directory, or smollm2-135m-instruct; with neither, thinking aloud is not tried."
            )
        if method in ONLINE:
            self.fields["max_length"].label = _("Prompt and response at most, tokens")
            self.fields["batch_size"].label = _("Responses a step")
        if method == Run.Method.GENERATE:
            self.fields["n"].initial = project.slate_size  # as many as fill a slate

    def _add_model_fields(self, project: Project) -> None:
        self.fields["base_model"] = forms.ModelChoiceField(
            starting_models(project, self.method),
            label=_("Registered model"),
            required=self.method == Run.Method.SCORE,
            empty_label=None if self.method == Run.Method.SCORE else _("none: the one named below"),
        )
        if self.method != Run.Method.SCORE:
            self.fields["model"] = forms.CharField(
                label=_("Or a model by name"),
                required=False,
                max_length=500,
                help_text=_("A hub id or a directory; empty: the embedded SmolLM2."),
            )

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

    def _add_judge_fields(self, project: Project) -> None:
        judges = reward_models(project)
        self.fields["reward_model"] = forms.ModelChoiceField(
            judges,
            label=_("Reward model"),
            required=False,
            empty_label=_("none: rewards under “More settings”"),
            initial=judges.order_by("-pk").first(),
            help_text=_("Frozen; the policy is trained against it."),
        )
        self.fields["gold_model"] = forms.ModelChoiceField(
            judges,
            label=_("Gold model"),
            required=False,
            empty_label=_("none"),
            help_text=_("Never trained against; its scores tell when the policy only finds the reward model's faults."),
        )
        self.fields["rewards"] = RewardsField()

    def main_fields(self) -> list[forms.BoundField]:
        """What always shows, in order."""
        return [field for field in self.visible_fields() if not self._is_folded(field)]

    def folded_fields(self) -> list[forms.BoundField]:
        """What few runs need."""
        return [field for field in self.visible_fields() if self._is_folded(field)]

    def has_folded_errors(self) -> bool:
        """Whether something that is folded has to be mended."""
        return any(field.errors for field in self.folded_fields())

    def _is_folded(self, field: forms.BoundField) -> bool:
        return field.name == "rewards" or field.name in MORE_FIELDS.get(self.method, ())

    def refuse(self, message: str) -> None:
        """Put what the domain said beside the field that it begins with, or above all of them."""
        named = re.match(r"(\w+)\S*: ", message)
        self.add_error(named[1] if named and named[1] in self.fields else None, message)

    def settings(self) -> dict[str, Any]:
        """The settings that were filled in."""
        names = [*self.setting_names, "model", "prompt_count", "rewards"]
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


def reward_models(project: Project) -> QuerySet[Model]:
    """The registered models that can reward a policy."""
    return project.models.filter(kind=Model.Kind.REWARD)


def starting_models(project: Project, method: str) -> QuerySet[Model]:
    """The registered models a run of this method may start from."""
    kind = Model.Kind.REWARD if method == Run.Method.SCORE else Model.Kind.POLICY
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
        unset = [("", UNSET)] if description.default is None else []
        return forms.ChoiceField(choices=[*unset, *((choice, choice) for choice in description.choices)], **common)
    kind = description.type.split(" or ")[0]
    limits = {"min_value": description.minimum, "max_value": description.maximum}
    if kind == "int":
        return forms.IntegerField(**limits, **common)
    if kind == "float":
        widget = forms.NumberInput(attrs={"step": "any"})
        return forms.FloatField(widget=widget, **limits, **common)
    if kind == "bool":
        return _switch(common)
    return forms.CharField(max_length=500, **common)


def _switch(common: dict[str, Any]) -> forms.Field:
    """Yes or no; unlike a box that may be ticked, left out it keeps the default."""
    return forms.TypedChoiceField(
        choices=[(YES, _("yes")), (NO, _("no"))],
        coerce=lambda said: said == YES,
        empty_value=None,
        **common | {"initial": YES if common["initial"] else NO},
    )
