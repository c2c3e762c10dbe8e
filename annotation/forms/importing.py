"""The upload form: several files, their format, and whether to try only."""

from __future__ import annotations

from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotation.domain.importing import FORMATS

LABELS = {
    "auto": gettext_lazy("find out from the file"),
    "prompts": gettext_lazy("prompts"),
    "responses": gettext_lazy("prompts with responses"),
    "preferences": gettext_lazy("chosen and rejected pairs"),
    "annotated-items": gettext_lazy("items with annotations"),
}


class SeveralFilesInput(forms.ClearableFileInput):
    """A file input that takes more than one file."""

    allow_multiple_selected = True


class SeveralFilesField(forms.FileField):
    """A list of uploaded files, at least one."""

    def clean(self, data: Any, initial: Any = None) -> list[UploadedFile]:
        files = data if isinstance(data, list | tuple) else [data]
        return [super(SeveralFilesField, self).clean(file, initial) for file in files or [None]]


def format_choices() -> list[tuple[str, str]]:
    """The formats the importer knows, with what a person calls them."""
    return [(name, str(LABELS.get(name, name))) for name in FORMATS]


class ImportForm(forms.Form):
    """What to import and how."""

    uploads = SeveralFilesField(
        label=gettext_lazy("Files"),
        widget=SeveralFilesInput,
        allow_empty_file=True,
        help_text=gettext_lazy("JSONL, JSON, CSV or Parquet; .gz too. Items and annotations go together."),
    )
    format = forms.ChoiceField(label=gettext_lazy("Format"), choices=format_choices, initial="auto")
    dry_run = forms.BooleanField(label=gettext_lazy("Try only: count and check, store nothing"), required=False)

    def clean_uploads(self) -> list[UploadedFile]:
        files: list[UploadedFile] = self.cleaned_data["uploads"]
        if sum(file.size or 0 for file in files) > settings.UPLOAD_MAX_BYTES:
            limit = settings.UPLOAD_MAX_BYTES // 1024**2
            raise ValidationError(
                _("The files are larger than %(limit)d MB together; import them on the server with manage.py."),
                params={"limit": limit},
            )
        return files
