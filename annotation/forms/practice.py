"""Forms of the practice round, for those who write it."""

from __future__ import annotations

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy

from annotation.domain.practice import EXPLANATION_LIMIT

LARGEST_UPLOAD = 16 * 1024 * 1024


class PracticeUploadForm(forms.Form):
    """A file of examples."""

    upload = forms.FileField(
        label=gettext_lazy("File"),
        allow_empty_file=True,
        help_text=gettext_lazy(
            "JSONL, one example a line: prompt, responses, answer (tiers, strength, ratings or all_bad), explanation."
        ),
    )

    def clean_upload(self) -> UploadedFile:
        upload: UploadedFile = self.cleaned_data["upload"]
        if (upload.size or 0) > min(LARGEST_UPLOAD, settings.UPLOAD_MAX_BYTES):
            limit = {"limit": LARGEST_UPLOAD // 1024**2}
            raise ValidationError(_("The file is larger than %(limit)d MB; a practice round is short."), params=limit)
        return upload


class ExplanationForm(forms.Form):
    """Why an answer is the right one."""

    explanation = forms.CharField(
        label=gettext_lazy("Explanation"),
        max_length=EXPLANATION_LIMIT,
        widget=forms.Textarea(attrs={"rows": 4}),
        help_text=gettext_lazy(
            "Shown after the answer; Markdown. Say which difference decides, in the words of the guidelines."
        ),
    )
