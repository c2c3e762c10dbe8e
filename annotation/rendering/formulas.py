r"""Mathematics in Markdown: $…$, $$…$$, \(…\), \[…\] and \begin{align}…\end{align} become math tokens.

Tokens carry the TeX as it was written; the browser typesets it (static/annotation/math.js). A dollar opens only where
no space follows and no letter or digit precedes, and closes only where no space precedes and no digit follows, so that
"$5 and $10" stays money. mdit-py-plugins' dollarmath is not used: it looks around the end of a paragraph that begins
with a dollar, and its blocks cannot follow a paragraph without an empty line.
"""

from __future__ import annotations

import re

from markdown_it import MarkdownIt
from markdown_it.ruler import RuleOptionsType
from markdown_it.rules_block import StateBlock
from markdown_it.rules_inline import StateInline

LONGEST_INLINE = 2_000
MOST_LINES = 200
_CLOSINGS = {"$$": "$$", r"\[": r"\]"}
_ENVIRONMENT = re.compile(
    r"\\begin\{((?:equation|align|alignat|gather|multline|split|cases|(?:[pbBvV]|small)?matrix|array)\*?)\}"
)
_DOLLAR = re.compile(r"(?<!\\)(?:\\\\)*\$")


def formulas(md: MarkdownIt) -> None:
    """Adds the rules; tokens are "math_inline" and "math_block", their `markup` is the opening delimiter."""
    md.inline.ruler.before("escape", "math_dollar", _dollar)
    md.inline.ruler.before("escape", "math_bracket", _bracket)
    interrupts: RuleOptionsType = {"alt": ["paragraph", "reference", "blockquote", "list"]}
    md.block.ruler.before("fence", "math_block", _block, interrupts)


def _dollar(state: StateInline, silent: bool) -> bool:
    source, start = state.src, state.pos
    if source[start] != "$" or (start > 0 and source[start - 1].isascii() and source[start - 1].isalnum()):
        return False
    fence = "$$" if source.startswith("$$", start) else "$"
    begin = start + len(fence)
    end = _closing_dollar(source, begin, fence=fence, limit=min(state.posMax, begin + LONGEST_INLINE))
    if end < 0:
        return False
    content, after = source[begin:end], source[end + len(fence) : end + len(fence) + 1]
    if not content.strip() or (fence == "$" and (content[0].isspace() or content[-1].isspace() or after.isdigit())):
        return False
    return _take(state, content, markup=fence, end=end + len(fence), silent=silent)


def _closing_dollar(source: str, begin: int, *, fence: str, limit: int) -> int:
    for match in _DOLLAR.finditer(source, begin, limit):
        position = match.end() - 1
        if source.startswith(fence, position):
            return position
    return -1


def _bracket(state: StateInline, silent: bool) -> bool:
    opening = state.src[state.pos : state.pos + 2]
    if opening not in (r"\(", r"\["):
        return False
    begin = state.pos + 2
    end = state.src.find(r"\)" if opening == r"\(" else r"\]", begin, min(state.posMax, begin + LONGEST_INLINE))
    if end < 0 or not state.src[begin:end].strip():
        return False
    return _take(state, state.src[begin:end], markup=opening, end=end + 2, silent=silent)


def _take(state: StateInline, content: str, *, markup: str, end: int, silent: bool) -> bool:
    if not silent:
        token = state.push("math_inline", "span", 0)
        token.content = content
        token.markup = markup
    state.pos = end
    return True


def _block(state: StateBlock, start_line: int, end_line: int, silent: bool) -> bool:
    """A formula that begins a line and ends one, with no empty line inside."""
    if state.is_code_block(start_line):
        return False
    begin = state.bMarks[start_line] + state.tShift[start_line]
    opening = state.src[begin : begin + 2]
    environment = _ENVIRONMENT.match(state.src, begin, state.eMarks[start_line])
    if environment:
        closing, keep = rf"\end{{{environment[1]}}}", True
    elif opening in _CLOSINGS:
        closing, keep = _CLOSINGS[opening], False
    else:
        return False
    lines: list[str] = []
    for line in range(start_line, min(end_line, start_line + MOST_LINES)):
        if line > start_line and (state.isEmpty(line) or state.sCount[line] < state.blkIndent):
            return False
        lines.append(state.getLines(line, line + 1, state.blkIndent, False).strip())
        ended = lines[-1].endswith(closing) and (line > start_line or len(lines[-1]) >= len(opening + closing))
        if not ended and closing in (lines[-1] if line > start_line else lines[-1][2:]):
            return False  # text goes on after the formula: a paragraph, whose own rules will find it
        if ended:
            return _take_block(state, lines, opening="" if keep else opening, closing=closing, silent=silent)
    return False


def _take_block(state: StateBlock, lines: list[str], *, opening: str, closing: str, silent: bool) -> bool:
    content = "\n".join(lines)
    if opening:
        content = content[len(opening) : -len(closing)]
    if not content.strip() or closing in content[: -len(closing)] or (opening and closing in content):
        return False
    if silent:
        return True
    first = state.line
    state.line = first + len(lines)
    token = state.push("math_block", "div", 0)
    token.block = True
    token.content = content
    token.markup = opening
    token.map = [first, state.line]
    return True
