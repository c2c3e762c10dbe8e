"""Forms of a project: making it, its guidelines, its members."""

from __future__ import annotations

from typing import Any

from django import forms
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotation.forms.tasks import ScalesField
from annotation.models import Membership, Project

RESERVED_SLUGS = {"new"}
GUIDELINES_LIMIT = 100_000


class ProjectForm(forms.Form):
    """What a new project needs."""

    name = forms.CharField(label=gettext_lazy("Name"), max_length=120)
    slug = forms.SlugField(
        label=gettext_lazy("Short name"),
        max_length=60,
        help_text=gettext_lazy("Part of the address: letters, digits, hyphens. It does not change later."),
    )
    description = forms.CharField(
        label=gettext_lazy("Description"), required=False, widget=forms.Textarea(attrs={"rows": 2})
    )
    task = forms.ChoiceField(
        label=gettext_lazy("Kind of task"),
        choices=Project.Task.choices,
        initial=Project.Task.RANKING,
        help_text=gettext_lazy("What annotators do with a slate. It does not change once somebody has judged."),
    )
    scales = ScalesField(rows=3)
    slate_size = forms.IntegerField(
        label=gettext_lazy("Responses a slate"),
        min_value=2,
        max_value=9,
        initial=4,
        help_text=gettext_lazy("Comparisons of two always have two."),
    )
    overlap = forms.IntegerField(label=gettext_lazy("Annotators a slate"), min_value=1, max_value=100, initial=1)
    guidelines = forms.CharField(
        label=gettext_lazy("Guidelines"),
        max_length=GUIDELINES_LIMIT,
        widget=forms.Textarea(attrs={"rows": 12}),
        help_text=gettext_lazy("What “better” means here. Headings (#), lists (-) and **bold** are shown as such."),
    )

    def clean(self) -> dict[str, Any]:
        data = self.cleaned_data
        if data.get("task") == Project.Task.RATING and "scales" in data and not data["scales"]:
            self.add_error("scales", _("Ratings need at least one scale."))
        return data

    def clean_slug(self) -> str:
        slug: str = self.cleaned_data["slug"]
        if slug in RESERVED_SLUGS or Project.objects.filter(slug=slug).exists():
            raise ValidationError(_("The short name %(slug)s is taken; choose another."), params={"slug": slug})
        return slug


class GuidelinesForm(forms.Form):
    """The text of the next version."""

    text = forms.CharField(
        label=gettext_lazy("Text"), max_length=GUIDELINES_LIMIT, widget=forms.Textarea(attrs={"rows": 24})
    )


class MemberForm(forms.Form):
    """An existing user's role."""

    username = forms.CharField(label=gettext_lazy("User name"), max_length=150)
    role = forms.ChoiceField(label=gettext_lazy("Role"), choices=Membership.Role.choices)

    def clean_username(self) -> User:
        name = self.cleaned_data["username"]
        user = User.objects.filter(username=name).first()
        if user is None:
            raise ValidationError(_("There is no user named %(name)s on this server."), params={"name": name})
        return user
