"""What a verifier says of one response."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Verdict:
    """passed: all that was asked is there. score: the share of it, 0 to 1. reason: one line, never empty."""

    passed: bool
    score: float
    reason: str
    seconds: float = 0.0

    def __post_init__(self) -> None:
        if not isinstance(self.passed, bool):
            raise TypeError(f"passed: True or False, got {self.passed!r}")
        if not 0 <= self.score <= 1:
            raise ValueError(f"score: a share from 0 to 1, got {self.score}")
        # Reasons quote responses, and one line stays one line.
        object.__setattr__(self, "reason", shorten(self.reason, width=300))
        if not self.reason:
            raise ValueError("reason: must say why")


def passed(reason: str) -> Verdict:
    """All of it is there."""
    return Verdict(True, 1.0, reason)


def failed(reason: str, *, score: float = 0.0) -> Verdict:
    """Not all of it is there."""
    return Verdict(False, score, reason)


def shorten(text: str, *, width: int = 60) -> str:
    """The text on one line, cut at `width` characters. What does not print is spelled out: a terminal would obey it, a
    database or a file in UTF-8 may not take it."""
    line = spell_out(" ".join(text.split()))
    return line if len(line) <= width else f"{line[: width - 1]}…"


def spell_out(text: str) -> str:
    r"""The text with escapes such as \x1b for control characters, direction marks and halves of surrogate pairs."""
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)
