"""Exact answers: how they are found, in which form, and what is no answer."""

import json
from collections import defaultdict
from pathlib import Path
from typing import Any

import pytest

from rewardmodel.contract import InputError, SpecError
from rewardmodel.verifiers.gym import is_harmless
from rewardmodel.verifiers.logic import check_logic, derive_form, parse_logic

BBH = Path(__file__).parents[3].parent / "shared" / "data" / "bbh_logic" / "tasks.jsonl"


def passes(response: str, **settings: Any) -> bool:
    return check_logic("", response=response, spec=parse_logic(settings)).passed


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        ("(B)", "choice"), ("B", "choice"), ("Yes", "yes_no"), ("True", "true_false"), (True, "true_false"),
        ("invalid", "valid_invalid"), ("9", "number"), (9, "number"), ("a b", "words"), (("a",), "words"),
        ("red", "text"),
    ],
)  # fmt: skip
def test_an_answer_tells_its_form(answer: Any, form: str) -> None:
    assert derive_form(answer) == form


@pytest.mark.parametrize(
    "response",
    [
        "(B)", "B", "b", "B.", "**B**", "B) red", "option B", "red", r"\boxed{B}", "The answer is (B) red.",
        "(A) is wrong.\nSo: (B)",
    ],
)  # fmt: skip
def test_a_choice_by_letter_or_by_its_words(response: str) -> None:
    assert passes(response, answer="(B)", options=["blue", "red"])


@pytest.mark.parametrize("response", ["", "(A)", "(A) or (B)", "A bee", "The answer is (A).\n(B)", "Because", "blue"])
def test_another_choice_or_two_of_them_fail(response: str) -> None:
    assert not passes(response, answer="(B)", options=["blue", "red"])


def test_one_of_two_words_from_the_last_line_or_else_the_first() -> None:
    assert passes("Yes, because no one knows.\nThe end", answer="Yes") is False  # the first line says both
    assert passes("Yes, as told.\nThe end", answer="Yes")
    assert passes("No wonder.\nYes", answer="Yes")
    assert not passes("Yes and no", answer="Yes")
    assert not passes("Not", answer="No")
    assert passes("The argument is invalid.", answer="invalid")
    assert not passes("The argument is invalid.", answer="valid")


def test_words_must_be_in_order_and_count_by_place() -> None:
    """Two of three places right: 2/3; all three and one too many: 3/4."""
    spec = parse_logic({"answer": "ant bee cat"})
    assert check_logic("", response="Sorted:\n1. ant\n2. bee\n3. cat", spec=spec).passed
    assert check_logic("", response="Here you are:\nant, bee, cat", spec=spec).passed
    assert check_logic("", response="bee ant cat", spec=spec).score == pytest.approx(1 / 3)
    assert check_logic("", response="ant bee cow", spec=spec).score == pytest.approx(2 / 3)
    longer = check_logic("", response="#### ant bee cat dog", spec=spec)
    assert (longer.passed, longer.score) == (False, 3 / 4)
    assert check_logic("", response="", spec=spec).score == 0


def test_numbers_are_compared_as_numbers() -> None:
    assert passes("I count 1 + 8 = 9.", answer="9")
    assert passes("9.0", answer=9)
    assert not passes("19", answer="9")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "answer: required"),
        ({"answer": "maybe", "form": "yes_no"}, "form yes_no needs yes or no, got 'maybe'"),
        ({"answer": "x", "form": "number"}, "needs a plain number"),
        ({"answer": "(C)", "options": ["a", "b"]}, "letter or the text of an option"),
        ({"answer": "a", "form": "words", "dataset": "x"}, "only form reasoning_gym"),
        ({"answer": "a", "form": "wrds"}, "did you mean 'words'"),
        ({"form": "reasoning_gym", "dataset": "os.path", "entry": {}}, "name of a task"),
        ({"form": "reasoning_gym", "dataset": "x", "entry": {}, "answer": "1"}, "has its answer in entry"),
    ],
)
def test_a_wrong_spec_names_the_field(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message.replace("(", r"\(")):
        parse_logic(given)


def test_reasoning_gym_is_asked_for_by_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(InputError, match="pip install reasoning-gym"):
        parse_logic({"form": "reasoning_gym", "dataset": "chain_sum", "entry": {"answer": "3"}})


def test_reasoning_gym_checks_its_own_tasks() -> None:
    gym = pytest.importorskip("reasoning_gym")
    entry = gym.create_dataset("chain_sum", size=1, seed=1)[0]
    settings = {"form": "reasoning_gym", "dataset": "chain_sum", "entry": entry}
    assert passes(f"<answer>{entry['answer']}</answer>", **settings)
    assert not passes("<answer>no</answer>", **settings)


@pytest.mark.parametrize(
    "answer", ["3*x**2 + sin(x)", "[[1, 2], [3, 4]]", "(1 + 2.5) / 3", "True & x", "crave", "_ Q", "['52.2']", "0x5b"]
)
def test_formulas_may_be_evaluated(answer: str) -> None:
    assert is_harmless(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "__import__",
        "open('x')",
        "().__class__",
        "eval(chr(1))",
        "a.b",
        "1" * 3000,
        "exit()",
        "import os",
        "'%s' % __name__",
    ],
)
def test_code_is_never_evaluated(answer: str) -> None:
    assert not is_harmless(answer)


@pytest.mark.skipif(not BBH.exists(), reason="needs the shared data set bbh_logic")
def test_big_bench_hard_is_exact() -> None:
    rows = [json.loads(line) for line in BBH.read_text(encoding="utf-8").splitlines()]
    assert len(rows) == 360
    answers = defaultdict(set)
    for row in rows:
        answers[row["task"]].add(row["answer"])
    for row in rows:
        assert passes(row["answer"], answer=row["answer"])
        assert passes(f"Let me think.\nThe answer is {row['answer']}.", answer=row["answer"])
        for wrong in answers[row["task"]] - {row["answer"]}:
            assert not passes(wrong, answer=row["answer"])
