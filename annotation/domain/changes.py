"""What changed between two texts, as a person wants to read it: by line first, then by word within changed lines.

Pure, and bounded: difflib takes time with the square of its input, so where the changed part is longer than
`MOST_LINES` lines or `MOST_WORDS` words, it is shown as one removal and one addition instead.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from typing import Literal

MOST_LINES = 1000
MOST_WORDS = 1000
CONTEXT_LINES = 2
"""How many unchanged lines stay open beside a change; longer unchanged parts are folded."""
LEAST_LIKENESS = 0.4
"""Below it, two passages are one removed and one added: words that they share by chance would only confuse."""

WORDS = re.compile(r"\s+|[^\W\d_]+|\d+|[^\w\s]|_")
# Scripts without spaces would be one long "word" a sentence.
UNSPACED = re.compile(r"[\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]")

Kind = Literal["same", "folded", "removed", "added"]


@dataclass(frozen=True)
class Change:
    """A passage of the newer text, or one that was taken out; "folded" is a long unchanged one."""

    kind: Kind
    text: str

    @property
    def lines(self) -> int:
        """How many lines it holds."""
        return len(self.text.splitlines())


def compare_texts(old: str, *, new: str) -> list[Change]:
    """The passages of both texts in order. The texts of all but "added" make the old one, of all but "removed" the new.

    Line ends are compared as line feeds.
    """
    before, after = _lines(old), _lines(new)
    changes: list[Change] = []
    for kind, removed, added in _align(before, after, most=MOST_LINES):
        if kind == "equal":
            changes.append(Change("same", "".join(removed)))
        else:
            changes += _compare_words("".join(removed), "".join(added))
    return _fold(_join(changes))


def _lines(text: str) -> list[str]:
    return text.replace("\r\n", "\n").replace("\r", "\n").splitlines(keepends=True)


def _words(text: str) -> list[str]:
    words: list[str] = []
    for word in WORDS.findall(text):
        words += word if UNSPACED.search(word) else [word]
    return words


def _align(before: Sequence[str], after: Sequence[str], *, most: int) -> list[tuple[str, Sequence[str], Sequence[str]]]:
    """("equal" | "replace" | …, part of before, part of after) in order; one replacement beyond `most` parts.

    What both begin and end with is set aside first, so that a small change in a long text stays small.
    """
    shortest = min(len(before), len(after))
    head = next((i for i in range(shortest) if before[i] != after[i]), shortest)
    rest = shortest - head
    tail = next((i for i in range(rest) if before[-1 - i] != after[-1 - i]), rest)
    old, new = before[head : len(before) - tail], after[head : len(after) - tail]
    parts: list[tuple[str, Sequence[str], Sequence[str]]] = [("equal", before[:head], after[:head])] if head else []
    if max(len(old), len(new)) > most:
        parts.append(("replace", old, new))
    else:
        # Junk by popularity (autojunk) is what keeps difflib quick on texts of one line repeated.
        matcher = SequenceMatcher(None, old, new)
        parts += [(tag, old[i:j], new[k:m]) for tag, i, j, k, m in matcher.get_opcodes()]
    if tail:
        parts.append(("equal", before[len(before) - tail :], after[len(after) - tail :]))
    return parts


def _compare_words(removed: str, added: str) -> list[Change]:
    whole = [Change("removed", removed), Change("added", added)]
    if not removed or not added:
        return whole
    before, after = _words(removed), _words(added)
    if max(len(before), len(after)) > MOST_WORDS or _likeness(before, after) < LEAST_LIKENESS:
        return whole
    changes: list[Change] = []
    for kind, old, new in _align(before, after, most=MOST_WORDS):
        if kind == "equal":
            changes.append(Change("same", "".join(old)))
        else:
            changes += [Change("removed", "".join(old)), Change("added", "".join(new))]
    return changes


def _likeness(before: Sequence[str], after: Sequence[str]) -> float:
    """An upper bound of the share of words (white space aside) that both have; cheap."""
    old, new = ([word for word in words if not word.isspace()] for words in (before, after))
    return SequenceMatcher(None, old, new).quick_ratio()


def _join(changes: Sequence[Change]) -> list[Change]:
    """Put neighbours of one kind together, each removal before its addition; empty passages go.

    A space between two changes counts as changed too: two words exchanged read better than two exchanges.
    """
    joined: list[Change] = []
    removed = added = ""
    for index, change in enumerate(changes):
        ends = index + 1 == len(changes) or changes[index + 1].kind == "same"
        is_gap = (removed or added) and change.text.isspace() and "\n" not in change.text and not ends
        if change.kind == "same" and not is_gap:
            joined += [Change("removed", removed), Change("added", added), change]
            removed = added = ""
            continue
        removed += change.text if change.kind != "added" else ""
        added += change.text if change.kind != "removed" else ""
    joined += [Change("removed", removed), Change("added", added)]
    return _merge_same([change for change in joined if change.text])


def _merge_same(changes: Sequence[Change]) -> list[Change]:
    merged: list[Change] = []
    for change in changes:
        if merged and merged[-1].kind == change.kind:
            merged[-1] = Change(change.kind, merged[-1].text + change.text)
        else:
            merged.append(change)
    return merged


def _fold(changes: Sequence[Change]) -> list[Change]:
    """Fold what is far from every change."""
    folded: list[Change] = []
    for index, change in enumerate(changes):
        lines = change.text.splitlines(keepends=True)
        first = CONTEXT_LINES if index > 0 else 0
        last = CONTEXT_LINES if index < len(changes) - 1 else 0
        if index > 0 and not changes[index - 1].text.endswith("\n"):
            first += 1  # the first of the lines is the rest of the changed one
        if change.kind != "same" or len(lines) - first - last < 3:
            folded.append(change)
            continue
        middle = len(lines) - last
        parts: list[tuple[Kind, list[str]]] = [
            ("same", lines[:first]), ("folded", lines[first:middle]), ("same", lines[middle:]),
        ]  # fmt: skip
        folded += [Change(kind, "".join(part)) for kind, part in parts if part]
    return folded
