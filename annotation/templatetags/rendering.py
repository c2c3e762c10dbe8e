"""Untrusted text in templates: {% load rendering %}."""

from __future__ import annotations

from django import template
from django.utils.safestring import SafeString

from annotation.rendering import render_markdown, show_controls

register = template.Library()


@register.filter
def markdown(text: str | None) -> SafeString:
    """Markdown as safe HTML: <div class="md" dir="auto">{{ text|markdown }}</div>, without a space inside the div."""
    return render_markdown(str(text or "")).html


@register.filter
def visible(text: str | None) -> str:
    """Plain text with bidirectional and other unseen characters as "⟦RLO⟧"; for names, titles and attributes."""
    return show_controls(str(text or ""))
