"""Code with Pygments' classes, for the languages of a list; a language is never guessed."""

from __future__ import annotations

import html
from collections.abc import Iterator
from itertools import pairwise

from pygments.lexer import Lexer
from pygments.lexers import get_lexer_by_name
from pygments.token import Comment, Error, Generic, Keyword, Literal, Name, Number, Operator, String, Token, _TokenType

from annotation.rendering.masks import MARK

LONGEST_CODE = 30_000
"""Characters of one block above which it stays uncoloured; lexers read 170 to 1,500 of usual code in a millisecond."""

_ALIASES = {
    "python": "python py python3 py3 ipython",
    "pycon": "pycon",
    "javascript": "javascript js node jsx mjs",
    "typescript": "typescript ts tsx",
    "java": "java",
    "c": "c h",
    "cpp": "cpp c++ cc cxx hpp",
    "csharp": "csharp c# cs",
    "go": "go golang",
    "rust": "rust rs",
    "ruby": "ruby rb",
    "php": "php",
    "swift": "swift",
    "kotlin": "kotlin kt",
    "scala": "scala",
    "dart": "dart",
    "r": "r rscript",
    "julia": "julia jl",
    "matlab": "matlab octave",
    "haskell": "haskell hs",
    "elixir": "elixir ex",
    "clojure": "clojure clj",
    "lua": "lua",
    "perl": "perl pl",
    "sql": "sql sqlite",
    "postgresql": "postgresql postgres",
    "mysql": "mysql",
    "bash": "bash sh shell zsh",
    "console": "console shell-session terminal",
    "powershell": "powershell ps1",
    "batch": "batch bat",
    "html": "html",
    "xml": "xml svg",
    "css": "css",
    "scss": "scss",
    "json": "json jsonl json5",
    "yaml": "yaml yml",
    "toml": "toml",
    "ini": "ini cfg",
    "docker": "docker dockerfile",
    "make": "make makefile",
    "nginx": "nginx",
    "graphql": "graphql",
    "protobuf": "protobuf proto",
    "diff": "diff patch",
    "latex": "latex tex",
    "markdown": "markdown md",
}
LANGUAGES = {alias: language for language, aliases in _ALIASES.items() for alias in aliases.split()}

_CLASSES = {
    Comment: "c",
    Keyword: "k",
    Keyword.Constant: "m",
    Operator.Word: "k",
    String: "s",
    Number: "m",
    Literal: "m",
    Name.Function: "nf",
    Name.Class: "nf",
    Name.Tag: "k",
    Name.Attribute: "na",
    Name.Decorator: "na",
    Name.Builtin: "nb",
    Name.Exception: "nb",
    Name.Constant: "m",
    Name.Namespace: "nb",
    Generic.Inserted: "gi",
    Generic.Deleted: "gd",
    Generic.Heading: "k",
    Generic.Subheading: "k",
    Generic.Prompt: "c",
    Generic.Output: "go",
    Error: "",
    Token: "",
}
"""Pygments' types onto nine classes, which app.css colours; the nearest ancestor decides."""
CLASSES = frozenset(filter(None, _CLASSES.values()))


def language_of(info: str) -> str:
    """The language that a fence's info string names, "" where the list does not have it."""
    words = info.strip().lower().split(maxsplit=1)
    return LANGUAGES.get(words[0].strip("{}.").split(",")[0], "") if words else ""


def highlight(code: str, *, language: str) -> str:
    """The code escaped, with spans of `CLASSES`; a mark of a masked phrase stays in one piece."""
    if not language or len(code) > LONGEST_CODE:
        return html.escape(code)
    tokens = list(_lexer(language).get_tokens_unprocessed(code))
    if "".join(value for _index, _kind, value in tokens) != code:
        return html.escape(code)
    marks = [match.span() for match in MARK.finditer(code)]
    pieces: list[tuple[str, str]] = []
    position = 0
    for _index, kind, value in tokens:
        for text, is_mark in _around_marks(value, position, marks):
            name = "" if is_mark else _class_of(kind)
            if pieces and pieces[-1][0] == name:
                pieces[-1] = (name, pieces[-1][1] + text)
            else:
                pieces.append((name, text))
        position += len(value)
    return "".join(
        f'<span class="{name}">{html.escape(text)}</span>' if name else html.escape(text) for name, text in pieces
    )


def _lexer(language: str) -> Lexer:
    options = {"startinline": True} if language == "php" else {}
    return get_lexer_by_name(language, stripnl=False, ensurenl=False, **options)


def _class_of(kind: _TokenType) -> str:
    while kind not in _CLASSES:
        kind = kind.parent
    return _CLASSES[kind]


def _around_marks(value: str, position: int, marks: list[tuple[int, int]]) -> Iterator[tuple[str, bool]]:
    """A token's text cut where marks begin and end."""
    end = position + len(value)
    cuts = sorted({position, end, *(cut for mark in marks for cut in mark if position < cut < end)})
    for start, stop in pairwise(cuts):
        is_mark = any(mark[0] <= start < mark[1] for mark in marks)
        yield value[start - position : stop - position], is_mark
