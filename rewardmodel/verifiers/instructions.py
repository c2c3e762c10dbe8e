r"""The 25 instruction types of IFEval (Zhou et al. 2023, arXiv 2311.07911), each a frozen dataclass with its arguments.

Ids, arguments and meaning are those of the published evaluation, with its quirks, so that figures compare:

- keywords, section splitters and unknown postscript markers are regular expressions; keywords match inside words;
- a text whose language cannot be told counts as in the language;
- bullets are counted exactly, sections, highlights and placeholders at least;
- the n-th paragraph is counted with blank ones, the number of paragraphs without.

Two things differ. A missing argument is refused (there it is drawn at random), and sentences are split without a
trained model (`sentences`).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar

from rewardmodel.contract import SpecError, build_settings, check_settings, name_nearest, setting
from rewardmodel.verifiers.languages import LANGUAGES, detect_language
from rewardmodel.verifiers.sentences import count_words, split_sentences, split_tokens
from rewardmodel.verifiers.specs import check_texts

RELATIONS = ("less than", "at least")
CONSTRAINED_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
JSON_FENCES = ("```json", "```Json", "```JSON", "```")


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """One thing a response should do. `follows` never sees a blank response: that follows nothing."""

    id: ClassVar[str]

    def __post_init__(self) -> None:
        check_settings(self)

    def follows(self, response: str) -> bool:
        """Whether the response does it."""
        raise NotImplementedError


def _relation(*, of: str) -> Any:
    return setting(choices=RELATIONS, help=f"less than, or at least, so many {of}.")


def _count(*, of: str) -> Any:
    return setting(minimum=0, help=f"How many {of}.")


def _holds(count: int, *, relation: str, limit: int) -> bool:
    return count < limit if relation == "less than" else count >= limit


def _check_pattern(field: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise SpecError(f"{field}: {pattern!r} is read as a regular expression, and is none: {error}") from None


@dataclass(frozen=True, kw_only=True)
class KeywordsExist(Instruction):
    """Every keyword is found."""

    id: ClassVar[str] = "keywords:existence"
    keywords: tuple[str, ...] = setting(help="Regular expressions, each found somewhere, whatever the case.")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_keywords("keywords", self.keywords)

    def follows(self, response: str) -> bool:
        return all(re.search(word, response, re.IGNORECASE) for word in self.keywords)


def _check_keywords(field: str, words: tuple[str, ...]) -> None:
    if not words:
        raise SpecError(f"{field}: must name at least one word")
    check_texts(field, words)
    for word in words:
        _check_pattern(field, word)


@dataclass(frozen=True, kw_only=True)
class KeywordFrequency(Instruction):
    """A keyword is found so often."""

    id: ClassVar[str] = "keywords:frequency"
    keyword: str = setting(help="A regular expression.")
    frequency: int = _count(of="times")
    relation: str = _relation(of="times")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_pattern("keyword", self.keyword)

    def follows(self, response: str) -> bool:
        found = re.findall(self.keyword.strip(), response, re.IGNORECASE)
        return _holds(len(found), relation=self.relation, limit=self.frequency)


@dataclass(frozen=True, kw_only=True)
class ForbiddenWords(Instruction):
    """None of the words is found, as a whole word."""

    id: ClassVar[str] = "keywords:forbidden_words"
    forbidden_words: tuple[str, ...] = setting(help="Regular expressions, none of them found as a whole word.")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_keywords("forbidden_words", self.forbidden_words)

    def follows(self, response: str) -> bool:
        return not any(re.search(rf"\b{word}\b", response, re.IGNORECASE) for word in self.forbidden_words)


@dataclass(frozen=True, kw_only=True)
class LetterFrequency(Instruction):
    """A letter, or another character, is found so often, whatever its case."""

    id: ClassVar[str] = "keywords:letter_frequency"
    letter: str = setting(help="One character.")
    let_frequency: int = _count(of="times")
    let_relation: str = _relation(of="times")

    def __post_init__(self) -> None:
        super().__post_init__()
        if len(self.letter) != 1:
            raise SpecError(f"letter: expected one character, got {self.letter!r}")

    def follows(self, response: str) -> bool:
        count = response.lower().count(self.letter.lower())
        return _holds(count, relation=self.let_relation, limit=self.let_frequency)


@dataclass(frozen=True, kw_only=True)
class ResponseLanguage(Instruction):
    """All of it is in one language."""

    id: ClassVar[str] = "language:response_language"
    language: str = setting(choices=LANGUAGES, help="ISO 639-1 code.")

    def follows(self, response: str) -> bool:
        return detect_language(response) in (self.language, None)


@dataclass(frozen=True, kw_only=True)
class NumberOfSentences(Instruction):
    """So many sentences."""

    id: ClassVar[str] = "length_constraints:number_sentences"
    num_sentences: int = _count(of="sentences")
    relation: str = _relation(of="sentences")

    def follows(self, response: str) -> bool:
        return _holds(len(split_sentences(response)), relation=self.relation, limit=self.num_sentences)


@dataclass(frozen=True, kw_only=True)
class NumberOfWords(Instruction):
    """So many words."""

    id: ClassVar[str] = "length_constraints:number_words"
    num_words: int = _count(of="words")
    relation: str = _relation(of="words")

    def follows(self, response: str) -> bool:
        return _holds(count_words(response), relation=self.relation, limit=self.num_words)


@dataclass(frozen=True, kw_only=True)
class NumberOfParagraphs(Instruction):
    """Exactly so many paragraphs between lines of ***; blank ones only before the first and after the last."""

    id: ClassVar[str] = "length_constraints:number_paragraphs"
    num_paragraphs: int = _count(of="paragraphs")

    def follows(self, response: str) -> bool:
        parts = [part.strip() for part in re.split(r"\s?\*\*\*\s?", response)]
        if not all(parts[1:-1]):
            return False
        return len(parts) - (not parts[0]) - (not parts[-1]) == self.num_paragraphs


@dataclass(frozen=True, kw_only=True)
class NthParagraphFirstWord(Instruction):
    """Exactly so many paragraphs between blank lines, and the n-th begins with a word."""

    id: ClassVar[str] = "length_constraints:nth_paragraph_first_word"
    num_paragraphs: int = setting(minimum=1, help="How many paragraphs.")
    nth_paragraph: int = setting(minimum=1, help="Which one, from 1.")
    first_word: str = setting(help="Its first word, whatever the case.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.nth_paragraph > self.num_paragraphs:
            raise SpecError(f"nth_paragraph: there are only {self.num_paragraphs} paragraphs, got {self.nth_paragraph}")

    def follows(self, response: str) -> bool:
        parts = response.split("\n\n")
        count = sum(bool(part.strip()) for part in parts)
        words = parts[self.nth_paragraph - 1].split() if self.nth_paragraph <= count else []
        if not words:
            return False
        bare = words[0].lstrip("'").lstrip('"')
        return count == self.num_paragraphs and re.split(r"[.,?!'\"]", bare)[0].lower() == self.first_word.lower()


@dataclass(frozen=True, kw_only=True)
class NumberOfPlaceholders(Instruction):
    """At least so many [placeholders]."""

    id: ClassVar[str] = "detectable_content:number_placeholders"
    num_placeholders: int = _count(of="placeholders, at least")

    def follows(self, response: str) -> bool:
        return len(re.findall(r"\[.*?\]", response)) >= self.num_placeholders


@dataclass(frozen=True, kw_only=True)
class Postscript(Instruction):
    """There is a postscript, anywhere and in either case."""

    id: ClassVar[str] = "detectable_content:postscript"
    postscript_marker: str = setting(help="P.S., P.P.S, or a regular expression.")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_pattern("postscript_marker", self.postscript_marker.strip().lower())

    def follows(self, response: str) -> bool:
        marker = self.postscript_marker.strip()
        known = {"P.S.": r"p\.\s?s\.", "P.P.S": r"p\.\s?p\.\s?s"}
        return re.search(known.get(marker, marker.lower()), response.lower(), re.MULTILINE) is not None


@dataclass(frozen=True, kw_only=True)
class BulletLists(Instruction):
    """Exactly so many lines that begin with a star (and only one) or a hyphen."""

    id: ClassVar[str] = "detectable_format:number_bullet_lists"
    num_bullets: int = _count(of="bullets, exactly")

    def follows(self, response: str) -> bool:
        stars = re.findall(r"^\s*\*[^*].*$", response, re.MULTILINE)
        hyphens = re.findall(r"^\s*-.*$", response, re.MULTILINE)
        return len(stars) + len(hyphens) == self.num_bullets


@dataclass(frozen=True, kw_only=True)
class ConstrainedResponse(Instruction):
    """One of the three answers stands somewhere in it."""

    id: ClassVar[str] = "detectable_format:constrained_response"

    def follows(self, response: str) -> bool:
        return any(answer in response for answer in CONSTRAINED_ANSWERS)


@dataclass(frozen=True, kw_only=True)
class HighlightedSections(Instruction):
    """At least so many *highlights*, on one line each; **bold** ones count too."""

    id: ClassVar[str] = "detectable_format:number_highlighted_sections"
    num_highlights: int = _count(of="highlights, at least")

    def follows(self, response: str) -> bool:
        single = [text for text in re.findall(r"\*[^\n*]*\*", response) if text.strip("*").strip()]
        double = [text for text in re.findall(r"\*\*([^\n*]*)\*\*", response) if text.strip()]
        return len(single) + len(double) >= self.num_highlights


@dataclass(frozen=True, kw_only=True)
class MultipleSections(Instruction):
    """At least so many sections, each begun by the splitter and a number."""

    id: ClassVar[str] = "detectable_format:multiple_sections"
    section_spliter: str = setting(help="What begins a section, before its number: a regular expression.")
    num_sections: int = _count(of="sections, at least")

    def __post_init__(self) -> None:
        super().__post_init__()
        _check_pattern("section_spliter", self.section_spliter.strip())

    def follows(self, response: str) -> bool:
        # A splitter with groups of its own would add them to what re.split gives; the published count has them too.
        return len(re.split(rf"\s?{self.section_spliter.strip()}\s?\d+\s?", response)) - 1 >= self.num_sections


@dataclass(frozen=True, kw_only=True)
class JsonFormat(Instruction):
    """All of it is JSON, in a code fence or not."""

    id: ClassVar[str] = "detectable_format:json_format"

    def follows(self, response: str) -> bool:
        try:
            json.loads(strip_fence(response))
        except (ValueError, RecursionError):
            return False
        return True


def strip_fence(response: str) -> str:
    """A response without the code fence around it."""
    text = response.strip()
    for fence in JSON_FENCES:
        text = text.removeprefix(fence)
    return text.removesuffix("```").strip()


@dataclass(frozen=True, kw_only=True)
class Title(Instruction):
    """There is a <<title>> on one line."""

    id: ClassVar[str] = "detectable_format:title"

    def follows(self, response: str) -> bool:
        return any(title.lstrip("<").rstrip(">").strip() for title in re.findall(r"<<[^\n]+>>", response))


@dataclass(frozen=True, kw_only=True)
class TwoResponses(Instruction):
    """Two different answers with six stars between them."""

    id: ClassVar[str] = "combination:two_responses"

    def follows(self, response: str) -> bool:
        parts = [part.strip() for part in response.split("******")]
        if not all(parts[1:-1]):
            return False
        answers = [part for part in parts if part]
        return len(answers) == 2 and answers[0] != answers[1]


@dataclass(frozen=True, kw_only=True)
class RepeatPrompt(Instruction):
    """It begins with the request, word for word, whatever the case."""

    id: ClassVar[str] = "combination:repeat_prompt"
    prompt_to_repeat: str = setting(help="The request.")

    def follows(self, response: str) -> bool:
        return response.strip().lower().startswith(self.prompt_to_repeat.strip().lower())


@dataclass(frozen=True, kw_only=True)
class EndPhrase(Instruction):
    """It ends with a phrase, whatever the case; quotation marks around it are left aside."""

    id: ClassVar[str] = "startend:end_checker"
    end_phrase: str = setting(help="The last words.")

    def follows(self, response: str) -> bool:
        return response.strip().strip('"').lower().endswith(self.end_phrase.strip().lower())


@dataclass(frozen=True, kw_only=True)
class Quotation(Instruction):
    """All of it stands in double quotation marks."""

    id: ClassVar[str] = "startend:quotation"

    def follows(self, response: str) -> bool:
        text = response.strip()
        return len(text) > 1 and text[0] == text[-1] == '"'


@dataclass(frozen=True, kw_only=True)
class CapitalWordFrequency(Instruction):
    """So many words in capitals."""

    id: ClassVar[str] = "change_case:capital_word_frequency"
    capital_frequency: int = _count(of="words")
    capital_relation: str = _relation(of="words")

    def follows(self, response: str) -> bool:
        capitals = sum(token.isupper() for token in split_tokens(response))
        return _holds(capitals, relation=self.capital_relation, limit=self.capital_frequency)


@dataclass(frozen=True, kw_only=True)
class EnglishCapital(Instruction):
    """English, and no small letter."""

    id: ClassVar[str] = "change_case:english_capital"

    def follows(self, response: str) -> bool:
        return response.isupper() and detect_language(response) in ("en", None)


@dataclass(frozen=True, kw_only=True)
class EnglishLowercase(Instruction):
    """English, and no capital."""

    id: ClassVar[str] = "change_case:english_lowercase"

    def follows(self, response: str) -> bool:
        return response.islower() and detect_language(response) in ("en", None)


@dataclass(frozen=True, kw_only=True)
class NoComma(Instruction):
    """No comma."""

    id: ClassVar[str] = "punctuation:no_comma"

    def follows(self, response: str) -> bool:
        return "," not in response


INSTRUCTIONS: dict[str, type[Instruction]] = {kind.id: kind for kind in Instruction.__subclasses__()}


def parse_instruction(name: str, *, arguments: Mapping[str, Any]) -> Instruction:
    """The instruction of that id with these arguments; null ones count as not given.

    Raises SpecError for an unknown id, and as `build_settings` does.
    """
    if name not in INSTRUCTIONS:
        raise SpecError(name_nearest(name, tuple(INSTRUCTIONS)))
    # The data set as published on the hub gives every row the arguments of all types, null where they are not its own.
    given = {key: value for key, value in arguments.items() if value is not None}
    return build_settings(INSTRUCTIONS[name], settings=given, owner=name)


def follow_strictly(response: str, *, instruction: Instruction) -> bool:
    """Strict accuracy, as published: the response as it is."""
    return bool(response.strip()) and instruction.follows(response)


def follow_loosely(response: str, *, instruction: Instruction) -> bool:
    """Loose accuracy, as published: also without its first line, its last, or both, each also without stars."""
    lines = response.split("\n")
    parts = ["\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1])]
    whole = [response, *parts]
    forms = [*whole, *(part.replace("*", "") for part in whole)]
    return any(follow_strictly(form, instruction=instruction) for form in forms)


def describe_instruction(instruction: Instruction) -> str:
    """The id with its arguments, for reasons."""
    arguments = ", ".join(f"{item.name} {getattr(instruction, item.name)!r}" for item in fields(instruction))
    return f"{instruction.id} ({arguments})" if arguments else instruction.id
