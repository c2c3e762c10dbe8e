"""What the annotator's pages need in templates: unread messages, and what changed between two texts."""

from __future__ import annotations

from typing import Any

from django import template

from annotation.domain.changes import compare_texts
from annotation.domain.messages import unread_for
from annotation.models import Membership

register = template.Library()


@register.filter
def unread_messages(membership: Membership) -> int:
    """How many messages wait for this member; one query."""
    return unread_for(membership)


@register.inclusion_tag("annotation/_changes.html")
def text_changes(old: str, new: str) -> dict[str, Any]:
    """What changed from one text to another, with long unchanged passages folded."""
    changes = compare_texts(old, new=new)
    return {"changes": changes, "is_same": all(change.kind in ("same", "folded") for change in changes)}
