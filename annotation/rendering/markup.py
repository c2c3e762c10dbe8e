"""Untrusted Markdown to HTML that can stand in a page: pure functions, run in the child process (see child.py).

Nothing of a text is left out of sight: raw HTML, images and links elsewhere than http, https and mailto stand there as
they were written; reference definitions are not taken out; a table with a row longer than its head stays text; lists
nested deeper than `DEEPEST` are refused. What the Markdown library makes is cleaned again by nh3, whose allow-list is
the one that counts; then characters that cannot be seen are marked, and so are masks (see masks.py).

Directions are computed here, not left to dir="auto": it skips descendants that have a direction of their own, so that
a list or quotation around Arabic paragraphs would be laid out from the left.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Sequence
from typing import Any

import nh3
from markdown_it import MarkdownIt
from markdown_it.renderer import RendererHTML
from markdown_it.rules_block import StateBlock
from markdown_it.rules_block import table as table_of_cells
from markdown_it.rules_block.table import escapedSplit
from markdown_it.rules_core import StateCore
from markdown_it.token import Token

from annotation.rendering.controls import BIDI, as_displayed, mark_controls
from annotation.rendering.formulas import formulas
from annotation.rendering.highlighting import CLASSES, LANGUAGES, highlight, language_of
from annotation.rendering.masks import MARK

LONGEST_HTML = 1_000_000
"""Characters of HTML above which a text counts as too heavy."""
GROWTH, GROWTH_FROM = 20, 20_000
"""How many times its text an HTML may be as long, from `GROWTH_FROM` characters on."""
DEEPEST = 40
"""Blocks inside blocks; a list is two of them."""

TAGS = frozenset(
    ["a", "blockquote", "br", "code", "div", "em", "h3", "h4", "h5", "h6", "hr", "li", "ol", "p", "pre", "s", "span"],
).union(["strong", "table", "tbody", "td", "th", "thead", "tr", "ul"])
ALIGNMENTS = frozenset({"left", "center", "right"})
ALLOWED_CLASSES = {
    "div": {"math", "block", "table"},
    "span": {"math", "block", "image", *CLASSES},
    "pre": {"code"},
    "code": {f"language-{language}" for language in LANGUAGES.values()},
    "th": set(ALIGNMENTS),
    "td": set(ALIGNMENTS),
}
DIRECTED = frozenset(["blockquote", "div", "h3", "h4", "h5", "h6", "ol", "p", "pre", "span", "table", "td", "th", "ul"])
ATTRIBUTES = {"a": {"href"}, "ol": {"start"}}
SCHEMES = frozenset({"http", "https", "mailto"})
REL = "noopener noreferrer nofollow"

_ADDRESS = re.compile(r"(?:https?://|mailto:)[^\s]", re.IGNORECASE)
_TAG_OR_TEXT = re.compile(r"(<[^>\"]*(?:\"[^\"]*\"[^>\"]*)*>)")


class TooHeavy(Exception):
    """The text is nested too deeply or grows too large; it is shown as plain text."""


def render(text: str) -> tuple[str, str]:
    """The HTML of a text and its textContent. Raises TooHeavy."""
    text = as_displayed(text)
    made = _markdown.render(text).rstrip("\n")
    _check_growth(made, text=text)
    finished = "".join(_finish(piece) for piece in _TAG_OR_TEXT.split(_cleaner.clean(made)))
    _check_growth(finished, text=text)
    return finished, text_content(finished)


def text_content(made: str) -> str:
    """What a browser's textContent of HTML from `render` gives: nh3 writes these four references and no others."""
    text = _TAG_OR_TEXT.sub("", made)
    for reference, char in (("&nbsp;", "\xa0"), ("&lt;", "<"), ("&gt;", ">"), ("&amp;", "&")):
        text = text.replace(reference, char)
    return text


def _check_growth(made: str, *, text: str) -> None:
    if len(made) > LONGEST_HTML or len(made) > max(GROWTH_FROM, GROWTH * len(text)):
        raise TooHeavy(f"{len(text)} characters became {len(made)}")


def _finish(piece: str) -> str:
    if piece.startswith("<"):
        return piece
    return MARK.sub(lambda match: f'<span class="mask">{match[0]}</span>', mark_controls(piece))


class _Parser(MarkdownIt):
    """CommonMark with tables and strikethrough, without HTML, images, references and links to anywhere else."""

    def validateLink(self, url: str) -> bool:
        """Only absolute addresses: a relative one would be an address of ours."""
        return bool(_ADDRESS.match(url))


class _Renderer(RendererHTML):
    """HTML of the tokens that are not as in the library."""

    def fence(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """Code with colours; the info string is used for the language and for nothing else."""
        language = language_of(tokens[idx].info)
        name = f' class="language-{language}"' if language else ""
        code = highlight(tokens[idx].content, language=language)
        return f'<pre class="code" dir="ltr"><code{name}>{code}</code></pre>\n'

    def code_block(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """Indented code."""
        return f'<pre class="code" dir="ltr"><code>{html.escape(tokens[idx].content)}</code></pre>\n'

    def image(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """An image is never fetched: its description and its address as text."""
        alt = self.renderInlineAsText(tokens[idx].children or [], options, env)
        shown = f"{alt} ({tokens[idx].attrGet('src')})" if alt else f"({tokens[idx].attrGet('src')})"
        return f'<span class="image">{html.escape(shown)}</span>'

    def math_inline(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A formula within a paragraph, displayed on a line of its own where its delimiters say so."""
        block = " block" if tokens[idx].markup in ("$$", r"\[") else ""
        return f'<span class="math{block}" dir="ltr">{html.escape(tokens[idx].content.strip())}</span>'

    def math_block(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """A formula between paragraphs."""
        return f'<div class="math block" dir="ltr">{html.escape(tokens[idx].content.strip())}</div>\n'

    def table_open(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """In a wrapper that scrolls."""
        return f'<div class="table">{self.renderToken(tokens, idx, options, env)}'

    def table_close(self, tokens: Sequence[Token], idx: int, options: Any, env: Any) -> str:
        """And its end."""
        return "</table></div>\n"


def _whole_table(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    """A table, unless a row has more cells than the head: they would be dropped."""
    count, line, parent = len(state.tokens), state.line, state.parentType
    if not table_of_cells(state, start, end, silent):
        return False
    if silent:
        return True
    columns = sum(token.type == "th_open" for token in state.tokens[count:])
    for row in range(start + 2, state.line):
        cells = escapedSplit(state.src[state.bMarks[row] + state.tShift[row] : state.eMarks[row]].strip())
        if len(cells) - (cells[0] == "") - (len(cells) > 1 and cells[-1] == "") > columns:
            del state.tokens[count:]
            state.line, state.parentType = line, parent
            return False
    return True


def _shape(state: StateCore) -> None:
    """Headings below those of the page, alignment as a class, links that open elsewhere, directions."""
    open_blocks: list[Token] = []
    for token in state.tokens:
        if token.type.startswith("heading"):
            token.tag = f"h{min(int(token.tag[1]) + 2, 6)}"
        if "style" in token.attrs:
            token.attrs = {"class": str(token.attrs["style"]).removeprefix("text-align:")}
        if token.nesting == 1:
            open_blocks.append(token)
        elif token.nesting == -1:
            open_blocks.pop()
        elif token.type == "inline":
            _direct(open_blocks, token)
            _shape_links(token)


def _direct(open_blocks: list[Token], inline: Token) -> None:
    """The first text with a direction decides for every block around it that has none yet."""
    waiting = [block for block in open_blocks if block.tag in DIRECTED and "dir" not in block.attrs]
    if waiting and (direction := _direction(inline.children or [])):
        for block in waiting:
            block.attrs["dir"] = direction


def _direction(children: Sequence[Token]) -> str:
    for child in children:
        if child.type in ("text", "code_inline", "image"):
            for char in child.content:
                kind = unicodedata.bidirectional(char) if char not in BIDI else ""
                if kind in ("L", "R", "AL"):
                    return "ltr" if kind == "L" else "rtl"
    return ""


def _shape_links(inline: Token) -> None:
    for child in inline.children or []:
        if child.type == "link_open":
            child.attrs = {"href": child.attrs["href"]}


def _make_parser() -> MarkdownIt:
    parser = _Parser(
        "commonmark", {"html": False, "breaks": True, "xhtmlOut": False, "maxNesting": DEEPEST}, renderer_cls=_Renderer
    )
    parser.enable(["table", "strikethrough"])
    parser.disable(["html_block", "html_inline", "reference"])
    parser.block.ruler.at("table", _whole_table, {"alt": ["paragraph", "reference"]})
    formulas(parser)
    parser.core.ruler.push("shape", _shape)

    tokenize = parser.block.tokenize

    def tokenize_or_refuse(state: StateBlock, startLine: int, endLine: int) -> None:
        if state.level >= DEEPEST:  # here the library drops what is left
            raise TooHeavy(f"nested deeper than {DEEPEST} blocks")
        tokenize(state, startLine, endLine)

    parser.block.tokenize = tokenize_or_refuse  # type: ignore[method-assign]
    return parser


_markdown = _make_parser()
_cleaner = nh3.Cleaner(
    tags=set(TAGS),
    attributes={tag: set(names) for tag, names in ATTRIBUTES.items()},
    allowed_classes=ALLOWED_CLASSES,
    tag_attribute_values={tag: {"dir": {"ltr", "rtl"}} for tag in DIRECTED},
    set_tag_attribute_values={"a": {"target": "_blank"}},
    url_schemes=set(SCHEMES),
    url_relative="deny",
    link_rel=REL,
    strip_comments=True,
)
