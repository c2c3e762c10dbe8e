"""Selection of checked attempts: what is kept and why the rest is not; pairs; pass@k."""

from __future__ import annotations

import math
from itertools import combinations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardmodel.selection import Attempt, balance_bands, pair_attempts, pass_at_k, pass_rates, select_attempts

TEXTS = ["one two three", "ONE  two three", "four five", "one two four", "six seven eight nine"]


def attempts_of(prompt: str, *, passed: str, texts: list[str] | None = None) -> list[Attempt]:
    """One attempt a letter: p passed, f failed, c passed but cut off."""
    texts = texts or [f"{prompt} text {number}" for number in range(len(passed))]
    return [
        Attempt(prompt, index, text, letter != "f", n_tokens=len(text.split()), finished=letter != "c")
        for index, (letter, text) in enumerate(zip(passed, texts, strict=True))
    ]


def indices(kept: tuple[Attempt, ...]) -> list[int]:
    return [attempt.index for attempt in kept]


def test_failed_unfinished_repeated_and_surplus_attempts_are_left_out_and_counted() -> None:
    """Of six: one failed, one cut off, the second says what the first says; three are left, of which two are wanted."""
    found = select_attempts(attempts_of("a", passed="ppfcpp", texts=[*TEXTS[:2], "x", "y", *TEXTS[2:4]]), per_prompt=2)
    assert indices(found.kept) == [4, 0]
    assert found.left_out == {"failed": 1, "unfinished": 1, "repeated": 1, "more than enough": 1}


@pytest.mark.parametrize(
    ("choice", "expected"),
    [("first", [0, 2]), ("shortest", [2, 0]), ("diverse", [2, 0])],
)
def test_choices(choice: str, expected: list[int]) -> None:
    """Shortest: 2 words, then 3. Diverse begins there; the first has nothing in common with it, nor have the others."""
    found = select_attempts(attempts_of("a", passed="ppppp", texts=TEXTS), per_prompt=2, choice=choice)
    assert indices(found.kept) == expected


def test_an_answer_that_is_given_again_keeps_its_first_place() -> None:
    own = attempts_of("p", passed="pppp", texts=["a b", "c d", "A  b", "e"])
    assert indices(select_attempts(own, per_prompt=9, choice="first").kept) == [0, 1, 3]
    assert indices(select_attempts(own, per_prompt=1, choice="first").kept) == [0]


def test_the_diverse_choice_passes_over_what_is_nearly_said() -> None:
    """From "a b" on: "a b c" shares two of three words with it, "d e f g" none."""
    own = attempts_of("p", passed="ppp", texts=["a b", "a b c", "d e f g"])
    assert indices(select_attempts(own, per_prompt=2, choice="diverse").kept) == [0, 2]
    assert indices(select_attempts(own, per_prompt=2, choice="shortest").kept) == [0, 1]


def test_the_probable_choice_counts_by_token() -> None:
    """-6 nats over 6 tokens is likelier a token than -4 over 2."""
    own = [Attempt("p", 0, "x y", True, n_tokens=2, log_prob=-4), Attempt("p", 1, "z", True, n_tokens=6, log_prob=-6)]
    assert indices(select_attempts(own, per_prompt=1, choice="probable").kept) == [1]
    with pytest.raises(ValueError, match="needs the log-probability"):
        select_attempts(attempts_of("p", passed="p"), per_prompt=1, choice="probable")


def test_what_is_too_easy_is_left_out() -> None:
    own = [*attempts_of("easy", passed="pppp"), *attempts_of("hard", passed="pfff")]
    found = select_attempts(own, per_prompt=4, too_easy=0.9)
    assert {attempt.prompt_id for attempt in found.kept} == {"hard"}
    assert found.left_out == {"too easy": 4, "failed": 3}


def test_balance_takes_no_more_of_a_band_than_the_median_has() -> None:
    """Hard: 1 row (rate 1/4), middling: 2 (2/4), easy: 8 (4/4 twice): the median is 2, so that 1 + 2 + 2 remain."""
    own = [*attempts_of("h", passed="pfff"), *attempts_of("m", passed="ppff"), *attempts_of("e", passed="pppp"),
           *attempts_of("f", passed="pppp")]  # fmt: skip
    found = select_attempts(own, per_prompt=4, balance=True)
    bands = ["easy" if one.prompt_id in "ef" else one.prompt_id for one in found.kept]
    assert bands == ["h", "m", "m", "easy", "easy"]
    assert found.left_out["balance"] == 6
    assert balance_bands([], rates={}, seed=0) == []


def test_pairs_use_a_failed_attempt_once_and_finished_ones_first() -> None:
    own = [
        *attempts_of("a", passed="ppf"),
        Attempt("a", 3, "cut", False, finished=False),
        *attempts_of("b", passed="p"),
    ]
    kept = select_attempts(own, per_prompt=4).kept
    pairs = pair_attempts(own, kept=kept)
    assert [(good.index, bad.index, good.prompt_id) for good, bad in pairs] == [(0, 2, "a"), (1, 3, "a")]


@given(st.integers(1, 8).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n), st.integers(1, n))))
def test_pass_at_k_is_the_share_of_draws_with_a_pass(given: tuple[int, int, int]) -> None:
    passed, tried, k = given
    draws = list(combinations([True] * passed + [False] * (tried - passed), k))
    assert math.isclose(
        pass_at_k(passed, tried=tried, k=k), sum(any(draw) for draw in draws) / len(draws), abs_tol=1e-12
    )


def test_bad_arguments() -> None:
    with pytest.raises(ValueError, match="Unknown choice 'longest'"):
        select_attempts([], per_prompt=1, choice="longest")
    with pytest.raises(ValueError, match="got 1 of 2, k = 3"):
        pass_at_k(1, tried=2, k=3)


def test_pass_rates() -> None:
    assert pass_rates(attempts_of("a", passed="pfff")) == {"a": 0.25}
