r"""Where in a response its final answer stands, for the kinds math and logic.

The rule, in this order; of several of one form the last one counts, so that listing many answers does not help:

1. `<answer>…</answer>`, `\boxed{…}` and `#### …`: whichever stands last.
2. "answer is …", "answer: …", "answer = …" (also "final answer", also in bold): the rest of that line.
3. Nothing: what counts then is for each kind to say.
"""

from __future__ import annotations

import re

TAGS = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
HASHES = re.compile(r"####[ \t]*(\S[^\n]*)")
PHRASE = re.compile(r"\banswer\b[*_]*\s*(?:is\b|would be\b|[:=])[*_:=\s]*", re.IGNORECASE)
BOXED = re.compile(r"\\(?:boxed|fbox)\s*\{")


def find_marked(response: str) -> str | None:
    """The marked answer of a response, stripped; None where nothing is marked. It may be empty."""
    found = [(match.end(), match.group(1)) for match in (*TAGS.finditer(response), *HASHES.finditer(response))]
    found += _find_boxes(response)
    if found:
        return max(found)[1].strip()
    return _find_phrase(response)


def _find_boxes(response: str) -> list[tuple[int, str]]:
    """(end, content) of every box whose braces close; a box inside another is part of it."""
    found: list[tuple[int, str]] = []
    start = 0
    while match := BOXED.search(response, start):
        start = _close_brace(response, opened=match.end())
        if start == -1:
            break
        found.append((start, response[match.end() : start - 1]))
    return found


def _close_brace(text: str, *, opened: int) -> int:
    """The place after the brace that closes the one before `opened`; -1 where none does."""
    depth = 1
    for brace in re.finditer(r"\\.|[{}]", text[opened:], re.DOTALL):  # an escaped brace closes nothing
        depth += {"{": 1, "}": -1}.get(brace.group(), 0)
        if depth == 0:
            return opened + brace.end()
    return -1


def _find_phrase(response: str) -> str | None:
    """The rest of the line after the last "answer is", "answer:" or "answer ="."""
    phrases = list(PHRASE.finditer(response))
    return response[phrases[-1].end() :].split("\n", 1)[0].strip() if phrases else None


def last_line(text: str) -> str:
    """The last line that is not blank; "" where all are."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else ""
