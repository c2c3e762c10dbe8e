"""Which runs stand side by side, and whose scores of new responses are their win rates."""

from __future__ import annotations

from django import forms
from django.db.models import Exists, OuterRef, QuerySet
from django.http import QueryDict
from django.utils.translation import gettext_lazy as _

from annotation.domain.runs import ONLINE
from annotation.forms.runs import reward_models
from annotation.models import Model, Project, Run, Score

MOST_RUNS = 6
"""As many lines as have a colour of their own."""
MOST_CHOICES = 50
FIRST_RUNS = 4
"""Newest runs that are compared where nobody chose any."""
POLICY_METHODS = (Run.Method.SFT, Run.Method.DPO, Run.Method.KTO, Run.Method.REJECTION, *map(Run.Method, ONLINE))


class CompareForm(forms.Form):
    """The runs, and the judge; where no run was named, the newest that learned from their own responses."""

    def __init__(self, asked: QueryDict, *, project: Project) -> None:
        self.offered = list(comparable_runs(project)[:MOST_CHOICES])
        if "run" not in asked:
            asked = asked.copy()
            newest = [run.number for run in self.offered if run.method in ONLINE][:FIRST_RUNS]
            asked.setlist("run", [str(number) for number in newest])
        super().__init__(asked)
        self.fields["run"] = forms.TypedMultipleChoiceField(
            choices=[(run.number, f"{run.number} · {run.get_method_display()}") for run in self.offered],
            coerce=int,
            label=_("Runs"),
            required=False,
            widget=forms.CheckboxSelectMultiple,
        )
        self.fields["judge"] = forms.ModelChoiceField(
            reward_models(project).order_by("-pk"),
            label=_("Win rates by"),
            required=False,
            empty_label=_("the newest that scored new responses"),
        )
        self.project = project

    def clean_run(self) -> list[int]:
        """The numbers of the runs. Raises ValidationError for more than have a colour."""
        numbers: list[int] = self.cleaned_data["run"]
        if len(numbers) > MOST_RUNS:
            raise forms.ValidationError(
                _("Choose at most %(most)d runs; these are %(count)d."),
                params={"most": MOST_RUNS, "count": len(numbers)},
            )
        return numbers

    def chosen(self) -> list[Run]:
        """The runs in the order of their numbers."""
        numbers: list[int] = self.cleaned_data["run"]
        return sorted((run for run in self.offered if run.number in numbers), key=lambda run: run.number)

    def judge(self) -> Model | None:
        """The reward model whose scores are the win rates; None where none scored a model's responses."""
        named: Model | None = self.cleaned_data.get("judge")
        scored = Score.objects.filter(model=OuterRef("pk"), response__model__isnull=False)
        return named or reward_models(self.project).filter(Exists(scored)).order_by("-pk").first()


def comparable_runs(project: Project) -> QuerySet[Run]:
    """The runs that made a policy or are about to, newest first."""
    runs = project.runs.filter(method__in=POLICY_METHODS, state__in=[Run.State.SUCCEEDED, Run.State.RUNNING])
    related = ("project", "snapshot", "base_model", "reward_model", "gold_model", "registered_model")
    return runs.select_related(*related).order_by("-number")
