"""What people and models wrote, shown: Markdown as HTML that can do no harm, masks, and characters made visible."""

from annotation.rendering.controls import show_controls
from annotation.rendering.masks import DEFAULT_PATTERNS, MARK, Masked, check_patterns, mask, remask, unmask
from annotation.rendering.renderer import Rendered, RenderingUnavailable, render_many, render_markdown

__all__ = [
    "DEFAULT_PATTERNS",
    "MARK",
    "Masked",
    "Rendered",
    "RenderingUnavailable",
    "check_patterns",
    "mask",
    "remask",
    "render_many",
    "render_markdown",
    "show_controls",
    "unmask",
]
