"""Final answers found, and compared with references; hand-derived."""

import json
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardmodel.contract import SpecError
from rewardmodel.verifiers.answers import find_marked
from rewardmodel.verifiers.math import check_math, parse_math
from rewardmodel.verifiers.plain_numbers import find_last_number, read_number

GSM8K = Path(__file__).parents[3].parent / "shared" / "data" / "gsm8k" / "test.jsonl"


def passes(answer: object, response: str) -> bool:
    return check_math("", response=response, spec=parse_math({"answer": answer})).passed


@pytest.mark.parametrize(
    ("response", "marked"),
    [
        ("#### 42", "42"),
        ("7 #### 41\n#### 42\nbye", "42"),
        (r"\boxed{\frac{1}{2}} then #### 3", "3"),
        (r"#### 3, rather \boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{never closed", None),
        ("<answer> 5 </answer>", "5"),
        ("The answer is 5.\nBye.", "5."),
        ("**Answer:** 5", "5"),
        ("answer = 1, no: the final answer is: **6**", "6**"),
        ("I answer briefly", None),
        ("", None),
    ],
)
def test_the_last_marked_answer_counts(response: str, marked: str | None) -> None:
    assert find_marked(response) == marked


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1,234.50", Fraction(2469, 2)),
        ("$1,234", Fraction(1234)),
        (r"\$40.00", Fraction(40)),
        ("-$5", Fraction(-5)),
        ("−5", Fraction(-5)),
        ("1 234 567", Fraction(1234567)),
        ("1{,}000", Fraction(1000)),
        ("3/4", Fraction(3, 4)),
        ("1 1/2", Fraction(3, 2)),
        (r"\frac{3}{4}", Fraction(3, 4)),
        ("-2.5e-1", Fraction(-1, 4)),
        (".5", Fraction(1, 2)),
        ("**18**", Fraction(18)),
        ("18 dollars per day", Fraction(18)),
        ("5km", Fraction(5)),
        (r"$12\text{ apples}$", Fraction(12)),
        ("12.", Fraction(12)),
    ],
)
def test_plain_numbers_are_read_exactly(text: str, value: Fraction) -> None:
    number = read_number(text)
    assert number is not None
    assert (number.value, number.is_percent) == (value, False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        "2x",
        "2xy",
        "7x3",
        "2 pi",
        "3 and a half",
        "5k",
        "5 million",
        "12:30",
        "2 + 3",
        "5*4",
        "1/0",
        "5 or 6",
        "3 or 4",
        "1.2.3",
        "9" * 300,
        "1e99999999",
    ],
)
def test_what_is_no_plain_number_is_not_guessed(text: str) -> None:
    assert read_number(text) is None


@given(
    st.integers(-(10**12), 10**12), st.sampled_from(["{:,}", "${:,}", "{} apples", "**{:,}**.", r"\${:,}", "{:,}.00"])
)
def test_whole_numbers_come_back_from_every_dress(value: int, dress: str) -> None:
    number = read_number(dress.format(value))
    assert number is not None
    assert number.value == value
    assert passes(str(value), f"So it is {dress.format(value)}")
    assert not passes(str(value), f"So it is {dress.format(value + 1)}")


@given(st.decimals(allow_nan=False, allow_infinity=False, places=3, min_value=-(10**6), max_value=10**6))
def test_decimals_come_back(value: object) -> None:
    number = read_number(f"{value:,}")
    assert number is not None
    assert number.value == Fraction(str(value))


def test_the_last_number_takes_its_fraction_and_percent_along() -> None:
    assert find_last_number("first 2, then 3 / 4.") == "3 / 4"
    assert find_last_number("2 + 3 = 5, and 40 percent") == "40 %"
    assert find_last_number("x=5") == "5"
    assert find_last_number("none") is None


@pytest.mark.parametrize(
    ("answer", "response"),
    [
        ("18", "She makes 9 * 2 = $18 every day."),
        ("18", "The answer is 18 dollars, which leaves 4."),
        (18, "the answer is 9*2 = 18"),
        ("0.5", "50%"),
        ("50", "50%"),
        ("50%", "0.5"),
        ("1/3", "0.333333"),
        ("10^6", "1,000,000"),
        ("x^2+2x+1", "The answer is $(x+1)^2$."),
        (r"\sqrt{8}", r"\boxed{2\sqrt{2}}"),
        ("(1,2)", r"\boxed{(1, 2)}"),
        ("4", r"\boxed{x=4}"),
        ("red", "The answer is Red."),
        ("It is 2 * 3.\n#### 6", "6"),
        (r"\{1,2\}", r"\boxed{\{2,1\}}"),
    ],
)
def test_equal_answers_pass(answer: object, response: str) -> None:
    assert passes(answer, response)


@pytest.mark.parametrize(
    ("answer", "response"),
    [
        ("5", r"\boxed{5} or \boxed{6}"),
        ("2", "2x"),
        ("2", r"it is $\frac{1}{2}$"),
        ("54", "He has 20 (5*4)."),
        ("5000", "5k"),
        ("50%", "0.5%"),
        ("3", "-3"),
        ("red", "der"),
        ("12:30", "12:45"),
        ("x", "y"),
        ("3", r"\boxed{}"),
        ("3", ""),
        ("3", "#### " + "3" * 2000),
    ],
)
def test_other_answers_fail(answer: str, response: str) -> None:
    assert not passes(answer, response)


def test_decimals_say_how_exactly() -> None:
    spec = parse_math({"answer": "3.14159", "decimals": 2})
    assert check_math("", response="3.14", spec=spec).passed
    assert not check_math("", response="3.15", spec=spec).passed


def test_a_wrong_spec_names_the_field() -> None:
    with pytest.raises(SpecError, match=r"unknown 'answr': did you mean 'answer'"):
        parse_math({"answr": 3})
    with pytest.raises(SpecError, match=r"answer: expected str or int or float, got list"):
        parse_math({"answer": [3]})


@pytest.mark.skipif(not GSM8K.exists(), reason="needs the shared data set gsm8k")
def test_references_of_gsm8k_pass_and_perturbed_ones_fail() -> None:
    rows = [json.loads(line) for line in GSM8K.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 200
    assert all(passes(row["answer"], row["solution_raw"]) for row in rows)
    wrong = [row["solution_raw"].split("####")[0] + f"#### {int(row['answer']) + 1}" for row in rows]
    assert not any(passes(row["answer"], response) for row, response in zip(rows, wrong, strict=True))
