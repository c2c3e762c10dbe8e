r"""Kind `math`: is the final answer of a response equal to the reference?

    {"kind": "math", "answer": "1/2"}

Where the final answer stands is told in `answers`; where nothing is marked, it is the last number (the reference is a
number), or the last formula or else the last line (it is not). Two plain numbers are compared exactly; everything else
is compared by math-verify (sympy): forms that are equal count as equal. Left out: the way to the answer, and units.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from rewardmodel.contract import setting
from rewardmodel.verifiers.answers import find_marked, last_line
from rewardmodel.verifiers.plain_numbers import find_last_number, read_number, tidy_number
from rewardmodel.verifiers.specs import CheckSpec, parse_settings, require_library
from rewardmodel.verifiers.verdict import Verdict, failed, passed, shorten

FORMULA = re.compile(r"\$\$(.+?)\$\$|\$([^$\n]+)\$|\\\((.+?)\\\)|\\\[(.+?)\\\]", re.DOTALL)
CLAUSE_END = re.compile(r"\.\s|,\s+(?=[A-Za-z])|\b(?:because|since|so)\b")
# Longer ones are no answers, and sympy's time grows with them.
LONGEST = 1000


@dataclass(frozen=True, kw_only=True)
class MathSpec(CheckSpec):
    """What math asks for."""

    kind: ClassVar[str] = "math"

    answer: str | int | float = setting(help="A number, a formula in LaTeX, or a solution with its answer marked.")
    decimals: int = setting(6, minimum=0, maximum=15, help="Decimals that count where a number is not whole.")

    @property
    def reference(self) -> str:
        """The answer as text, taken out of a worked solution."""
        text = str(self.answer)
        marked = find_marked(text)
        return text.strip() if marked is None else marked


def parse_math(settings: Mapping[str, Any]) -> MathSpec:
    """The spec in a mapping. Raises SpecError naming the field, InputError where math-verify is not installed."""
    require_library("math_verify", package="math-verify", purpose="kind math")
    return parse_settings(MathSpec, settings=settings)


def prepare_math() -> None:
    """Import what the first check needs, and let it build its grammar."""
    logging.getLogger("math_verify").setLevel(logging.CRITICAL)
    is_equal_formula("\\frac{1}{2}+x", "x+0.5", decimals=6)


def check_math(prompt: Any, *, response: str, spec: MathSpec) -> Verdict:
    """Whether the final answer is equal to the reference."""
    reference = spec.reference
    said = find_final(response, reference=reference)
    if not said:
        return failed("no final answer found")
    if len(said) > LONGEST or len(reference) > LONGEST:
        return failed(f"the final answer is longer than {LONGEST} characters")
    if is_equal(said, reference=reference, decimals=spec.decimals):
        return passed(f"{shorten(said)} equals {shorten(reference)}")
    return failed(f"{shorten(said)} is not {shorten(reference)}")


def find_final(response: str, *, reference: str) -> str | None:
    """The final answer of a response: marked, or by the rule of this module."""
    marked = find_marked(response)
    if marked is not None:
        return marked
    if read_number(reference) is not None:
        return response if read_number(response) is not None else find_last_number(response)
    formulas = FORMULA.findall(response)
    return next(filter(None, formulas[-1])).strip() if formulas else last_line(response)


def is_equal(said: str, *, reference: str, decimals: int) -> bool:
    """Whether what was said is equal to the reference: as numbers, as words, or as formulas."""
    said = choose_reading(said, reference=reference)
    numbers = read_number(said), read_number(reference)
    if numbers[0] is not None and numbers[1] is not None:
        return numbers[0].equals(numbers[1], decimals=decimals)
    words = [tidy_number(text).casefold() for text in (said, reference)]
    if words[0] == words[1]:
        return True
    # "red" is a word; as a formula it would be r·e·d, equal to "der".
    if re.fullmatch(r"[^\W\d_]{3,}(?:[\s-][^\W\d_]+)*", words[1]):
        return False
    return is_equal_formula(reference, said, decimals=decimals)


def choose_reading(said: str, *, reference: str) -> str:
    """The part of a final answer that is compared: all of it, its first clause, or what stands behind the last "=" of
    that, whichever is a plain number; else the clause, or for a number its last number."""
    clause = CLAUSE_END.split(said)[0].strip()
    for reading in (said, clause, clause.split("=")[-1]):
        if read_number(reading) is not None:
            return reading
    if read_number(reference) is None or re.search(r"[\\^{}()=+*]", clause):
        return clause
    return find_last_number(clause) or clause


def is_equal_formula(reference: str, said: str, *, decimals: int) -> bool:
    """Whether math-verify finds two formulas equal; what it cannot read is equal to nothing."""
    from math_verify import verify

    return bool(verify(_parse(reference), _parse(said), float_rounding=decimals, timeout_seconds=None))


@lru_cache(maxsize=256)
def _parse(formula: str) -> list[Any]:
    """A formula as sympy reads it: at most one expression, and no text that stands for one."""
    from math_verify import LatexExtractionConfig, parse

    bare = formula.strip().strip("$").strip()
    found = parse(f"${bare}$", extraction_config=[LatexExtractionConfig()], parsing_timeout=None)
    return [item for item in found if not isinstance(item, str)]
