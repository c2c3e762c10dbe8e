"""How a conversation is laid out: the last turn in full, what came before folded, the system turn in a line."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from django.utils.safestring import SafeString
from django.utils.translation import gettext_lazy as _

from annotation.rendering import render_markdown

SPEAKERS = {"system": _("System"), "user": _("User"), "assistant": _("Assistant")}


@dataclass(frozen=True)
class Turn:
    """One message with the name of who speaks."""

    role: str
    speaker: str
    text: str

    @property
    def html(self) -> SafeString:
        """The text rendered from Markdown."""
        return render_markdown(self.text).html

    @property
    def is_plain(self) -> bool:
        """Whether the text was too heavy to render and is shown as it stands."""
        return render_markdown(self.text).is_plain


@dataclass(frozen=True)
class Conversation:
    """A prompt's turns, split for reading."""

    system: list[Turn]
    earlier: list[Turn]
    last: Turn | None


def split_conversation(messages: list[dict[str, Any]]) -> Conversation:
    """Take system turns out, and set the last of the others apart."""
    turns = [
        Turn(
            role=message["role"],
            speaker=str(SPEAKERS.get(message["role"], message["role"])),
            text=message["content"],
        )
        for message in messages
    ]
    spoken = [turn for turn in turns if turn.role != "system"]
    return Conversation(
        system=[turn for turn in turns if turn.role == "system"],
        earlier=spoken[:-1],
        last=spoken[-1] if spoken else None,
    )
