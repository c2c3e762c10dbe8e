"""What a response looks like rather than says: its length and its Markdown, as numbers for `style_differences`.

As LMArena's style control counts them (Li, Angelopoulos and Chiang 2024, "Does style matter?"): headings, bold and list
items outside of code blocks. Length is in characters, which every language has, and code is added.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

FEATURES = ("length", "headings", "bold", "lists", "code")

FENCED = re.compile(r"^ {0,3}(```|~~~).*?(?:^ {0,3}\1|\Z)", re.DOTALL | re.MULTILINE)
HEADING = re.compile(r"^ {0,3}#{1,6} ", re.MULTILINE)
BOLD = re.compile(r"\*\*[^*\n]+\*\*|__[^_\n]+__")
LISTED = re.compile(r"^[ \t]*(?:[-*+]|\d{1,9}[.)])[ \t]", re.MULTILINE)


def features_of(text: str) -> tuple[int, int, int, int, int]:
    """Characters, headings, bold passages, list items, and characters within code blocks."""
    prose = FENCED.sub("", text)
    marked = len(HEADING.findall(prose)), len(BOLD.findall(prose)), len(LISTED.findall(prose))
    return len(text), *marked, len(text) - len(prose)


def style_features(texts: Sequence[str]) -> npt.NDArray[np.float32]:
    """Features (N, 5) of N texts, a column for each of `FEATURES`."""
    return np.array([features_of(text) for text in texts], dtype=np.float32).reshape(len(texts), len(FEATURES))
