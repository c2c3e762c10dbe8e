"""What templates need beyond Django: rights, tags, short numbers."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

from django import template
from django.utils.translation import gettext as _
from django.utils.translation import pgettext

from annotation.models import Membership
from annotation.rules import can

register = template.Library()


@register.filter
def may(membership: Membership | None, action: str) -> bool:
    """{% if membership|may:"train" %}."""
    return membership is not None and can(membership, action)


@register.filter
def percent(value: float | str | None) -> str:
    """0.7312 becomes "73.1 %", nothing (None, NaN, or what a template makes of it) becomes "–"."""
    return f"{value * 100:.1f} %" if isinstance(value, int | float) and math.isfinite(value) else "–"


@register.filter
def listed(values: Iterable[object]) -> str:
    """Names one after the other, as the language separates them."""
    return pgettext("between the members of a list", ", ").join(map(str, values))


@register.filter
def decimals(value: float | str | None, places: int = 3) -> str:
    """A number with a fixed count of decimals, "–" where there is none."""
    return f"{value:.{places}f}" if isinstance(value, int | float) and math.isfinite(value) else "–"


@register.filter
def chance(value: float) -> str:
    """A p-value: three decimals, "< 0.001" below, "–" where there is none."""
    if math.isnan(value):
        return "–"
    return "< 0.001" if value < 0.001 else f"{value:.3f}"


@register.filter
def significant(value: float) -> str:
    """Four significant digits: 0.00001234 becomes "1.234e-05", 0.693147 "0.6931"."""
    return f"{value:.4g}"


@register.filter
def share_of(part: int | None, whole: int | None) -> int:
    """A whole percentage, 0 of nothing."""
    return round(100 * (part or 0) / whole) if whole else 0


@register.filter
def duration(seconds: float | None) -> str:
    """75 becomes "1 min 15 s"."""
    if seconds is None:
        return "–"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return _("%(h)d h %(m)d min") % {"h": hours, "m": minutes}
    if minutes:
        return _("%(m)d min %(s)d s") % {"m": minutes, "s": rest}
    return _("%(s)d s") % {"s": rest}


@register.filter
def filesize_short(size: int) -> str:
    """1536 becomes "1.5 kB"."""
    if size < 1000:
        return f"{size} B"
    return f"{size / 1000:.1f} kB" if size < 1_000_000 else f"{size / 1_000_000:.1f} MB"


@register.filter
def message_text(messages: Any) -> str:
    """The text of a conversation's last turn; plain strings pass."""
    if isinstance(messages, str):
        return messages
    return str(messages[-1]["content"]) if messages else ""


@register.filter
def lookup(mapping: Any, key: Any) -> Any:
    """mapping[key], None where it is absent."""
    return mapping.get(key) if hasattr(mapping, "get") else None
