"""What a response says of its own origin, covered before anybody ranks it.

A pattern is a phrase: upper and lower case are one, words are whole, and what Markdown puts between or around words
("I am **Qwen**") does not hide it. `*` stands for up to 40 characters of one line that end no sentence; at the end of
a pattern it is what a name is lengthened by ("Qwen*" finds "Qwen2.5-72B" and not "Qwenty"), or, after a space, the rest
of the clause.
"I am" also finds "I'm". Masks are put into the source text, before it is rendered, as "⟦masked 1⟧": what is shown,
quoted and corrected bears the same marks, `unmask` puts the covered words back by number, and `remask` covers them
again.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

from django.utils.translation import gettext as _

MOST_PATTERNS = 200
LONGEST_PATTERN = 200

MARK = re.compile(r"⟦masked (\d{1,6})⟧")

# Scripts that put no spaces between words have no word edges to look for: Thai, Lao, Khmer, Chinese, Japanese, Korean.
_UNSPACED = "\u0e00-\u0eff\u1780-\u17ff\u2e80-\ua4cf\uac00-\ud7ff\uf900-\ufaff\U00020000-\U0003ffff"
_WORD_CHAR = rf"[^\W_{_UNSPACED}]"
_BETWEEN = r"[\s*_`~\"'“”‘’]{1,6}"
_WITHIN = r"(?:[^\n.!?。！？]|\.(?=\w))"
_CLAUSE = r"(?:[^\n.!?。！？,;:()，；：（）]|\.(?=\w))"
_REACH = "{0,40}"
_LENGTHENED = rf"(?!(?<=[^\W\d_])[^\W\d_{_UNSPACED}])(?:[^\W_{_UNSPACED}]|-|\.(?=\w)){_REACH}"
_MARKUP = re.compile(r"[*_`~]+")


@dataclass(frozen=True)
class Masked:
    """A text with marks, and what each of them covers: "⟦masked 1⟧" stands for covered[0]."""

    text: str
    covered: tuple[str, ...]


@dataclass(frozen=True)
class _Phrase:
    needle: str
    """A word that every match holds: looking for it first is what makes two hundred patterns cheap."""

    regex: re.Pattern[str]


def mask(text: str, *, patterns: Sequence[str]) -> Masked:
    """The text with what the patterns find replaced by numbered marks; matches that overlap are covered by one.

    A mark that stands in the text already is covered itself, so that `unmask` always gives back the text.
    Raises ValueError as `check_patterns` does.
    """
    lowered = _lower(text)
    spans = [match.span() for match in MARK.finditer(text)]
    for phrase in _compile(tuple(patterns)):
        if phrase.needle in lowered:
            spans += [_with_markup(lowered, match.span()) for match in phrase.regex.finditer(lowered)]
    merged: list[list[int]] = []
    for start, end in sorted(span for span in spans if span[1] > span[0]):
        if merged and start < merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], end)
        else:
            merged.append([start, end])
    pieces, covered, done = [], [], 0
    for start, end in merged:
        covered.append(text[start:end])
        pieces += [text[done:start], f"⟦masked {len(covered)}⟧"]
        done = end
    return Masked(text="".join([*pieces, text[done:]]), covered=tuple(covered))


def unmask(text: str, *, covered: Sequence[str]) -> str:
    """The text with every mark replaced by what it covers; a number that covers nothing stays as it is."""

    def put_back(match: re.Match[str]) -> str:
        number = int(match[1])
        return covered[number - 1] if 1 <= number <= len(covered) else match[0]

    return MARK.sub(put_back, text)


def remask(text: str, *, covered: Sequence[str]) -> str:
    """A text that `unmask` gave, with all that was covered covered again; `unmask` gives the same text back.

    Every phrase is covered wherever it stands, the longest at a place; of equal ones each takes the next mark, and the
    last mark serves the rest.
    """
    numbers: dict[str, list[int]] = {}
    for number, phrase in enumerate(covered, start=1):
        numbers.setdefault(phrase, []).append(number)
    if not numbers:
        return text

    def cover(match: re.Match[str]) -> str:
        left = numbers[match[0]]
        return f"⟦masked {left.pop(0) if len(left) > 1 else left[0]}⟧"

    return re.sub("|".join(map(re.escape, sorted(numbers, key=len, reverse=True))), cover, text)


def check_patterns(patterns: Sequence[str]) -> None:
    """Raises ValueError, with a sentence that names the pattern, where one cannot be used."""
    if len(patterns) > MOST_PATTERNS:
        raise ValueError(_("There are more than %(most)s phrases to mask.") % {"most": MOST_PATTERNS})
    for pattern in patterns:
        shown = {"pattern": pattern[:40], "most": LONGEST_PATTERN}
        if len(pattern) > LONGEST_PATTERN:
            raise ValueError(_("“%(pattern)s…” is longer than %(most)s characters.") % shown)
        if not re.search(r"\w", pattern):
            raise ValueError(_("“%(pattern)s” has no word in it.") % shown)
        if pattern.lstrip().startswith("*"):
            raise ValueError(_("“%(pattern)s” begins with *: a phrase begins with a word.") % shown)


@lru_cache(maxsize=64)
def _compile(patterns: tuple[str, ...]) -> tuple[_Phrase, ...]:
    check_patterns(patterns)
    return tuple(_phrase(pattern) for pattern in dict.fromkeys(_lower(pattern).strip() for pattern in patterns))


def _phrase(pattern: str) -> _Phrase:
    """Atomic groups: after a `*` the nearest continuation is taken and never reconsidered: time stays linear."""
    first, *others = re.split(r"\*+", pattern)
    regex = _edge(first.lstrip()[0], before=True) + _words(first)
    for index, part in enumerate(others):
        joined = not (first if index == 0 else others[index - 1])[-1:].isspace()
        if part.strip():
            regex += (
                rf"(?>{_WITHIN}{_REACH}?{'' if part[0] != ' ' else _edge(part.lstrip()[0], before=True)}{_words(part)})"
            )
        elif index == len(others) - 1:
            regex += (_LENGTHENED if joined else rf"{_CLAUSE}{_REACH}") + rf"(?!{_WORD_CHAR})"
    if not pattern.endswith("*"):
        regex += _edge(pattern[-1], before=False)
    return _Phrase(needle=max(re.findall(r"[^\s*'’]+", pattern), key=len), regex=re.compile(regex))


def _words(part: str) -> str:
    literal = _BETWEEN.join(re.sub("['’]", "['’]", re.escape(word)) for word in part.split())
    return re.sub(rf"^i{re.escape(_BETWEEN)}am\b", lambda _match: rf"i(?:{_BETWEEN}am|['’]m)", literal)


def _edge(char: str, *, before: bool) -> str:
    """That a word begins (or ends) here, where the script has edges."""
    if not re.match(_WORD_CHAR, char):
        return ""
    return rf"(?<!{_WORD_CHAR})" if before else rf"(?!{_WORD_CHAR})"


def _lower(text: str) -> str:
    """Lower case without a change of length: U+0130 alone would become two characters."""
    return text.replace("\u0130", "i").lower()


def _with_markup(text: str, span: tuple[int, int]) -> tuple[int, int]:
    """The span without spaces at its end, and with the closing ** of an emphasis that began inside it."""
    start, end = span
    while end > start and text[end - 1].isspace():
        end -= 1
    for opened in reversed(_MARKUP.findall(text, start, end)):
        if text.startswith(opened[::-1], end):
            end += len(opened)
    return start, end


_MODELS = (
    "ChatGPT*", "GPT-*", "Claude*", "Gemini*", "Bard", "Gemma*", "Llama*", "Qwen*", "QwQ*", "DeepSeek*", "Mistral*",
    "Mixtral*", "Le Chat", "Grok*", "Phi-*", "Copilot", "Kimi*", "Moonshot*", "GLM-*", "ChatGLM*", "ERNIE*", "Doubao*",
    "Hunyuan*", "MiniMax*", "Baichuan*", "InternLM*", "Yi-*", "Command R*", "Falcon*", "Vicuna*", "OLMo*", "SmolLM*",
    "Nemotron*", "Granite*",
)  # fmt: skip
_LABS = (
    "OpenAI", "Anthropic", "Google DeepMind", "DeepMind", "Meta AI", "Alibaba*", "Mistral AI", "DeepSeek*", "xAI",
    "Moonshot AI", "Zhipu*", "Baidu", "ByteDance", "Tencent", "01.AI", "Cohere", "Hugging Face", "Stability AI",
    "Inflection AI", "the Allen Institute for AI", "LMSYS",
)  # fmt: skip
_COMPANIES = ("Google", "Meta", "Microsoft", "Amazon", "Apple", "NVIDIA", "IBM")
_SPOKEN = ("ChatGPT*", "Claude*", "Gemini*", "Qwen*", "DeepSeek*", "Kimi*")
"""Names in Latin letters that also stand in Chinese sentences, with a space before them or without."""
_CHINESE_MODELS = ("通义千问", "千问", "文心一言", "豆包", "智谱清言", "混元", "讯飞星火", "百川", "月之暗面", "书生")
_CHINESE_LABS = (
    "阿里云", "阿里巴巴", "通义实验室", "深度求索", "百度", "字节跳动", "智谱", "腾讯", "月之暗面", "科大讯飞",
    "百川智能",
)  # fmt: skip

DEFAULT_PATTERNS: tuple[str, ...] = (
    *(f"I am {name}" for name in _MODELS),
    *(f"As {name}" for name in _MODELS),
    *(f"This is {name}" for name in _SPOKEN),
    *(f"我是{name}" for name in (*_MODELS[:4], *_MODELS[6:8], "DeepSeek*", "Kimi*", *_CHINESE_MODELS)),
    *(f"我是 {name}" for name in _SPOKEN),
    *(f"{says}{name}" for says in ("我叫", "我叫 ") for name in _SPOKEN[:5]),
    *(f"我叫{name}" for name in _CHINESE_MODELS[:4]),
    *(f"by {lab}" for lab in _LABS),
    *(f"{verb} by {company}" for verb in ("developed", "trained", "created") for company in _COMPANIES),
    *(f"由{lab}" for lab in (*_CHINESE_LABS, "OpenAI", "Anthropic")),
    *(f"my name is {name}" for name in ("ChatGPT", "Claude", "Gemini", "Qwen", "DeepSeek", "Grok", "Kimi")),
    "As an AI language model developed by *",
    "As an AI assistant developed by *",
    "large language model trained by *",
    "large language model created by *",
    "large language model developed by *",
    "large language model built by *",
)
"""How the well-known models name themselves and their makers; a project takes this list and changes it."""
