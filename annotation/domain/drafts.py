"""Keeps what an annotator has entered and not yet submitted, so that another browser or another day goes on with it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.db import transaction

from annotation.domain.judgement import is_storable
from annotation.models import Draft, Membership, Ranking

LARGEST_DRAFT = 3_000_000
"""Characters in all; nine corrections of the longest response fit."""
MOST_FIELDS = 1_000


class DraftRefused(ValueError):
    """What was sent is no draft of a form."""


@transaction.atomic
def save_draft(annotator: Membership, *, token: UUID, fields: Mapping[str, Any], revision: int) -> bool:
    """Keep `fields` under the token; False where a newer revision is kept already or the answer has been submitted.

    Raises DraftRefused where the fields are too many or too large, or hold what cannot be stored.
    """
    values = [item for value in fields.values() for item in (value if isinstance(value, list) else [value])]
    texts = [*map(str, values), *map(str, fields)]
    if sum(map(len, texts)) > LARGEST_DRAFT or len(texts) > MOST_FIELDS or not all(map(is_storable, texts)):
        raise DraftRefused("The draft is too large, or holds characters that cannot be stored.")
    Membership.objects.select_for_update().get(pk=annotator.pk)
    if Ranking.objects.filter(token=token).exists():
        return False
    draft, created = Draft.objects.get_or_create(
        annotator=annotator, token=token, defaults={"fields": fields, "revision": revision}
    )
    if created:
        return True
    if draft.revision >= revision:
        return False
    draft.fields, draft.revision = dict(fields), revision
    draft.save()
    return True


def find_draft(annotator: Membership, *, token: UUID) -> Draft | None:
    """The annotator's draft under this token."""
    return Draft.objects.filter(annotator=annotator, token=token).first()
