"""Kind `logic`: is the final answer exactly the one that is right?

    {"kind": "logic", "answer": "(B)"}
    {"kind": "logic", "form": "reasoning_gym", "dataset": "chain_sum", "entry": {"question": …, "answer": …, …}}

Where the final answer stands is told in `answers`. Where nothing is marked it is looked for in the last line, then in
the first; a line that names two different options answers nothing. Where the spec names no form, the answer tells it
(`derive_form`). Left out: answers put in other words, and the way to them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from rewardmodel.contract import SpecError, setting
from rewardmodel.verifiers.answers import find_marked, last_line
from rewardmodel.verifiers.gym import score_entry
from rewardmodel.verifiers.plain_numbers import find_last_number, read_number
from rewardmodel.verifiers.specs import CheckSpec, check_texts, parse_settings, require_library
from rewardmodel.verifiers.verdict import Verdict, failed, passed, shorten

WORD_PAIRS = {"yes_no": ("yes", "no"), "true_false": ("true", "false"), "valid_invalid": ("valid", "invalid")}
FORMS = ("choice", *WORD_PAIRS, "number", "words", "text", "reasoning_gym")
IN_BRACKETS = re.compile(r"\(([A-Za-z])\)")
NAMED = re.compile(r"\b(?:option|choice|answer)\s+([A-Z])\b", re.IGNORECASE)
ALONE = re.compile(r"[*_\"']*([A-Za-z])(?:[.:)](?=\W|$).*|\W*)", re.DOTALL)
LIST_MARK = re.compile(r"^\s*(?:[-*•]|\d{1,3}[.)])\s+")


@dataclass(frozen=True, kw_only=True)
class LogicSpec(CheckSpec):
    """What logic asks for."""

    kind: ClassVar[str] = "logic"

    answer: str | bool | int | float | tuple[str, ...] | None = setting(None, help="The right answer; a list of words.")
    form: str | None = setting(None, choices=FORMS, help="What kind of answer; unset: what the answer looks like.")
    options: tuple[Any, ...] = setting((), help="Texts of the options (A), (B), …: form choice.")
    dataset: str | None = setting(None, help="A task of reasoning-gym: form reasoning_gym.")
    entry: dict[str, Any] | None = setting(None, help="Its {question, answer, metadata}: form reasoning_gym.")  # noqa: RUF009
    threshold: float = setting(1.0, above=0, maximum=1, help="Score from which reasoning_gym's checker passes.")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.form == "reasoning_gym":
            self._check_gym()
            return
        if self.dataset is not None or self.entry is not None:
            raise SpecError("dataset: only form reasoning_gym takes dataset and entry")
        if self.answer is None or self.answer == ():
            raise SpecError("answer: required by kind logic: the right answer")
        check_texts("options", self.options)
        if isinstance(self.answer, tuple):
            check_texts("answer", self.answer)
        self._check_answer()

    @property
    def text(self) -> str:
        """The answer as text."""
        return " ".join(self.answer) if isinstance(self.answer, tuple) else str(self.answer).strip()

    @property
    def settled_form(self) -> str:
        """The form, derived where none is named."""
        return self.form or derive_form(self.answer, options=self.options)

    def _check_gym(self) -> None:
        if self.answer is not None:
            raise SpecError("answer: form reasoning_gym has its answer in entry; drop this one")
        if self.dataset is None or not re.fullmatch(r"[A-Za-z0-9_]+", self.dataset):
            raise SpecError(f"dataset: expected the name of a task of reasoning-gym, got {self.dataset!r}")
        if self.entry is None or not isinstance(self.entry.get("answer", ""), str | None):
            raise SpecError("entry: expected the task's {question, answer, metadata}")
        require_library("reasoning_gym", package="reasoning-gym", purpose="form reasoning_gym")

    def _check_answer(self) -> None:
        form = self.settled_form
        if form in WORD_PAIRS and self.text.lower() not in WORD_PAIRS[form]:
            raise SpecError(f"answer: form {form} needs {' or '.join(WORD_PAIRS[form])}, got {self.text!r}")
        if form == "number" and read_number(self.text) is None:
            raise SpecError(f"answer: form number needs a plain number, got {self.text!r}")
        if form == "choice":
            letter = _letter_of(self.text, options=self.options)
            if letter is None or (self.options and ord(letter) - ord("A") >= len(self.options)):
                raise SpecError(f"answer: expected the letter or the text of an option, got {self.text!r}")


def derive_form(answer: Any, *, options: tuple[str, ...] = ()) -> str:
    """The form of an answer: (B) or B is a choice, Yes, True and Valid are one of two words, digits a number, several
    words a list in order, anything else a text."""
    if isinstance(answer, tuple):
        return "words"
    text = str(answer).strip()
    if options or re.fullmatch(r"\([A-Za-z]\)|[A-Z]", text):
        return "choice"
    for form, words in WORD_PAIRS.items():
        if text.lower() in words:
            return form
    if read_number(text) is not None and not re.search(r"[A-Za-z]", text):
        return "number"
    return "words" if len(text.split()) > 1 else "text"


def parse_logic(settings: Mapping[str, Any]) -> LogicSpec:
    """The spec in a mapping. Raises SpecError naming the field, InputError where reasoning-gym is not installed."""
    return parse_settings(LogicSpec, settings=settings)


def prepare_logic() -> None:
    """Nothing is needed before; reasoning-gym is imported by its first check."""


def check_logic(prompt: Any, *, response: str, spec: LogicSpec) -> Verdict:
    """Whether the final answer is the right one."""
    form = spec.settled_form
    if form == "reasoning_gym":
        score, reason = score_entry(response, dataset=spec.dataset or "", entry=spec.entry or {})
        return passed(reason) if score >= spec.threshold else failed(reason, score=score)
    if form == "words":
        return _check_words(response, wanted=split_words(spec.text))
    said = find_option(response, form=form, options=spec.options)
    if said is None:
        return failed("no final answer found, or more than one")
    wanted = read_option(spec.text, form=form, options=spec.options)
    if said == wanted:
        return passed(f"answered {shorten(str(said))}")
    return failed(f"answered {shorten(str(said))}, not {shorten(str(wanted))}")


def find_option(response: str, *, form: str, options: tuple[str, ...]) -> Any:
    """The one answer of that form in a response; None where there is none, or several."""
    marked = find_marked(response)
    if marked is not None:
        return read_option(marked, form=form, options=options)
    if form == "number":
        return read_option(response, form=form, options=options)
    lines = [line.strip() for line in response.splitlines() if line.strip()]
    for line in dict.fromkeys([*lines[-1:], *lines[:1]]):
        said = read_option(line, form=form, options=options)
        if said is not None:
            return said
    return None


def read_option(text: str, *, form: str, options: tuple[str, ...]) -> Any:
    """What a piece of text answers, in a form that can be compared."""
    if form == "choice":
        return _letter_of(text, options=options)
    if form == "number":
        number = read_number(text) or read_number(find_last_number(text) or "")
        return number and number.value
    if form in WORD_PAIRS:
        found = {word for word in re.findall(r"[a-z]+", text.lower()) if word in WORD_PAIRS[form]}
        return found.pop() if len(found) == 1 else None
    return _tidy(text) or None


def _letter_of(text: str, *, options: tuple[str, ...]) -> str | None:
    """The letter of the one option that a text names: (B), B, "option B", or the option's own words."""
    for place, option in enumerate(options):
        if _tidy(text) == _tidy(option):
            return chr(ord("A") + place)
    alone = ALONE.fullmatch(text.strip())
    letters = {letter.upper() for pattern in (IN_BRACKETS, NAMED) for letter in pattern.findall(text)}
    if not letters and alone:
        letters = {alone[1].upper()}
    return letters.pop() if len(letters) == 1 else None


def _check_words(response: str, *, wanted: list[str]) -> Verdict:
    """The words in order; the score is the share of places that are right."""
    said = find_words(response, count=len(wanted))
    if said == wanted:
        return passed(f"all {len(wanted)} words in order")
    right = sum(first == second for first, second in zip(said, wanted, strict=False))
    score = min(right / max(len(wanted), len(said)), 1 - 1 / (2 * len(wanted)))
    return failed(f"{right} of {len(wanted)} places right: {shorten(' '.join(said)) or 'no words'}", score=score)


def find_words(response: str, *, count: int) -> list[str]:
    """The list in a response: what is marked; else all of it where it has that many words; else the last line, or the
    last lines of one word each."""
    marked = find_marked(response)
    if marked:
        return split_words(marked)
    if len(split_words(response)) == count:
        return split_words(response)
    lines = [split_words(line) for line in response.splitlines() if line.strip()]
    if lines and len(lines[-1]) == 1:
        return [word for line in lines[-count:] for word in line]
    return split_words(last_line(response))


def split_words(text: str) -> list[str]:
    """The words of a list, small; commas, bullets and numbering are no part of them."""
    bare = [LIST_MARK.sub("", line) for line in text.splitlines()]
    words = [word.strip('.,;:*"`').lower() for word in re.split(r"[\s,]+", " ".join(bare))]
    return [word for word in words if word]


def _tidy(text: str) -> str:
    return " ".join(text.split()).strip(" .,;:!*_\"'`").casefold()
