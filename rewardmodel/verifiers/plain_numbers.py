"""Plain numbers as people and models write them: 1,234.50, $18, -3/4, 1 1/2, 2.5e-3, 40 %, 12 apples.

A number is read exactly, as a fraction; a currency or unit beside it is dropped. What is no plain number (12:30, 2x,
5k, 2 + 3) is not guessed at: None.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

CURRENCIES = "$€£¥₹₩₽¢"
# Words behind a number that make it another one, and so are no units.
NO_UNITS = frozenset(
    (
        "k", "bn", "thousand", "thousands", "million", "millions", "billion", "billions", "hundred", "dozen",
        "point", "and", "or", "to", "plus", "minus", "times", "over", "divided", "squared", "cubed", "mod",
        "pi", "sqrt", "sin", "cos", "tan", "log", "exp",
    )
)  # fmt: skip
# Units that are short, or stand directly behind the number; other letters there are rather variables.
SHORT_UNITS = frozenset(
    (
        "m", "cm", "mm", "km", "ft", "in", "g", "kg", "mg", "lb", "lbs", "oz", "s", "ms", "min", "h", "hr",
        "hrs", "l", "L", "ml", "mL", "V", "W", "A", "J", "N", "mph", "km/h", "m/s", "°", "°C", "°F", "am", "pm",
        "st", "nd", "rd", "th",
    )
)  # fmt: skip
DIGITS = r"(?:\d{1,3}(?:,\d{2,3})*,\d{3}|\d{1,3}(?:[ ]\d{3})+|\d+)(?:\.\d*)?|\.\d+"
NUMBER = re.compile(
    rf"""
    (?P<sign>[-+]?)\s*[{CURRENCIES}]?\s*(?P<inner>-?)
    (?: (?:(?P<whole>\d+)\s+)?(?P<top>\d{{1,30}})\s*/\s*(?P<bottom>\d{{1,30}})
      | (?P<decimal>{DIGITS})(?P<exponent>[eE][-+]?\d{{1,3}})?
    )
    (?:\s*[{CURRENCIES}])?
    (?P<percent>\s*%|\s*(?:percent|per\scent)\b)?
    (?P<unit>\s*[A-Za-z°][A-Za-z/-]*[23²³]?(?:\s+[A-Za-z][A-Za-z-]*){{0,3}})?
    """,
    re.VERBOSE,
)
SPACES = re.compile(r"\\[,;:! ]|~|[\u00a0\u2009\u202f]")
FRACTION = re.compile(r"\\[dt]?frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}|\\[dt]?frac\s*(\d)\s*(\d)(?!\d)")
CLOSING = re.compile(r"[.,;:!?)\]}\"'$]+$")
TEXT = re.compile(r"\\(?:text|mathrm|textbf|mathbf|mbox)\s*\{([^{}]*)\}")
# Markdown's, around words: a star between two numbers or with space on both sides is multiplication.
EMPHASIS = re.compile(r"(?:^|(?<=\s))[*_`]+(?=\S)|(?<=\S)[*_`]+(?=[\s.,;:!?]|$)")


@dataclass(frozen=True)
class PlainNumber:
    """A number, and whether it was written with a percent sign: 40 % has value 40."""

    value: Fraction
    is_percent: bool = False

    def equals(self, other: PlainNumber, *, decimals: int) -> bool:
        """Whether both say the same number; where only one has a percent sign, it may mean 40 or 0.4."""
        if self.is_percent == other.is_percent:
            return is_close(self.value, other.value, decimals=decimals)
        percent, plain = (self.value, other.value) if self.is_percent else (other.value, self.value)
        return any(is_close(reading, plain, decimals=decimals) for reading in (percent, percent / 100))


def is_close(first: Fraction, second: Fraction, *, decimals: int) -> bool:
    """Whether two numbers are equal; one that is not whole needs only be so to within half of the last decimal."""
    if first.denominator == second.denominator == 1:
        return first == second
    return abs(first - second) <= Fraction(1, 2 * 10**decimals)


def read_number(text: str) -> PlainNumber | None:
    """The number that the whole text says; None where it says more, less or something else."""
    match = NUMBER.fullmatch(tidy_number(text))
    if match is None or len(text) > 200 or not _is_unit(match["unit"]):
        return None
    negative = (match["sign"] == "-") != (match["inner"] == "-")
    if match["top"] is not None:
        if int(match["bottom"]) == 0:
            return None
        value = Fraction(int(match["whole"] or 0)) + Fraction(int(match["top"]), int(match["bottom"]))
    else:
        value = Fraction(re.sub(r"[, ]", "", match["decimal"]).rstrip(".") + (match["exponent"] or ""))
    return PlainNumber(-value if negative else value, match["percent"] is not None)


def tidy_number(text: str) -> str:
    """The text without what LaTeX, Markdown and typography put around numbers."""
    text = text.replace("−", "-").replace("{,}", ",").replace("\\$", "$").replace("\\%", "%").replace("\\!", "")
    text = re.sub(r"(?<=\d)\\,(?=\d)", "", text)
    text = FRACTION.sub(lambda match: f" {match[1] or match[3]}/{match[2] or match[4]}", SPACES.sub(" ", text))
    text = TEXT.sub(r" \1 ", text).replace("\\(", " ").replace("\\)", " ").replace("\\[", " ").replace("\\]", " ")
    text = EMPHASIS.sub("", text).strip().rstrip(".,;!").strip()
    if len(text) > 2 and text.startswith("$") and text.endswith("$"):
        text = text.strip("$").strip()
    return re.sub(r"^([-+])\s+(?=/|\d)", r"\1", text)


def find_last_number(text: str) -> str | None:
    """The last piece of a text that holds a digit, with what belongs to it: the other half of a fraction, a percent
    sign. It need not be a plain number. None where there is no digit."""
    tidy = tidy_number(text)
    pieces = list(re.finditer(r"\S*\d\S*", tidy))
    if not pieces:
        return None
    end = pieces[-1].end()
    fraction = re.search(rf"(?<![\w.])-?[{CURRENCIES}]?(?:\d+\s+)?\d+\s*/\s*\d+$", CLOSING.sub("", tidy[:end]))
    piece = fraction.group() if fraction else pieces[-1].group().split("=")[-1]
    percent = re.match(r"\s?(?:%|percent\b|per cent\b)", tidy[end:])
    return piece.strip("()[]{}\"',;:!?").rstrip(".$") + (" %" if percent else "")


def _is_unit(unit: str | None) -> bool:
    """Whether what follows a number can be its unit."""
    if unit is None:
        return True
    first = unit.split()[0]
    if first.rstrip("23²³") in SHORT_UNITS:
        return True
    return (
        unit[0].isspace()
        and first.replace("-", "").replace("/", "").isalpha()
        and len(first) > 2
        and first.lower() not in NO_UNITS
    )
