import re
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewardmodel.data import DataError, Pair
from rewardmodel.evaluation.robustness import (
    add_markdown,
    choose_pairs,
    describe_variant,
    read_paraphrases,
    spread_whitespace,
    strip_markdown,
    transform_pair,
)

PAIR = Pair(
    prompt=[{"role": "system", "content": "s"}, {"role": "user", "content": "**u**"}],
    chosen=[{"role": "assistant", "content": "**a**"}],
    rejected=[{"role": "assistant", "content": "b"}],
    prompt_id="p",
    margin=None,
    line=7,
)


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("# Head\n\nBody", "Head\n\nBody"),
        ("**bold** and *slant* and __both__ and _one_", "bold and slant and both and one"),
        ("***both***", "both"),
        ("> - **`deep`**", "deep"),
        ("- one\n* two\n+ three\n1. four", "one\ntwo\nthree\n1. four"),
        ("- [x] done", "done"),
        ("> said\n> again", "said\nagain"),
        ("see [the page](https://x.y) and ![a picture](z.png)", "see the page and a picture"),
        ("use `x = 1` here", "use x = 1 here"),
        ("a\n\n---\n\nb", "a\n\n\nb"),
        ("```python\nx = a * b * c  # **not bold**\n```", "x = a * b * c  # **not bold**"),
        ("2 * 3 * 4 and snake_case_name and 5 > 3", "2 * 3 * 4 and snake_case_name and 5 > 3"),
    ],
)
def test_markdown_is_stripped(text: str, plain: str) -> None:
    assert strip_markdown(text) == plain


def test_markdown_is_added_without_a_word() -> None:
    assert add_markdown("First. Second! Third?\n\nAlone") == "**First.**\n- Second!\n- Third?\n\n**Alone**"


def test_what_has_markdown_or_is_code_stays_when_markdown_is_added() -> None:
    text = "# Head\n- item\n```\ncode. More code.\n```"
    assert add_markdown(text) == text


TEXTS = st.text(alphabet=st.sampled_from(list("ab .!?*_`#->\n[]()~1")), max_size=60)


@given(TEXTS)
def test_stripping_ends_and_adds_nothing(text: str) -> None:
    plain = strip_markdown(text)
    assert len(plain) <= len(text)


@given(st.lists(st.sampled_from(["One thing.", "And another!", "Why?", "plain words"]), max_size=6))
def test_adding_and_stripping_keeps_the_words(sentences: list[str]) -> None:
    text = " ".join(sentences)
    assert re.findall(r"\w+", strip_markdown(add_markdown(text))) == re.findall(r"\w+", text)


def test_white_space_changes_no_word() -> None:
    assert spread_whitespace("a\n\nb") == "a\n\n\nb\n"


def test_the_prompt_stays_as_the_person_wrote_it() -> None:
    changed = transform_pair(PAIR, transform=strip_markdown)
    assert (changed.prompt, changed.chosen[0]["content"]) == (PAIR.prompt, "a")


def test_paraphrases_reword_one_thing_at_a_time() -> None:
    row = {"paraphrases": {"chosen": ["A", "AA"], "rejected": ["B"], "prompt": ["U"]}}
    reworded = read_paraphrases(row, pair=PAIR, file="f")
    assert [(p.prompt[1]["content"], p.chosen[0]["content"], p.rejected[0]["content"]) for p in reworded] == [
        ("**u**", "A", "b"),
        ("**u**", "AA", "b"),
        ("**u**", "**a**", "B"),
        ("U", "**a**", "b"),
    ]


def test_paraphrases_of_a_row_that_was_turned_round_change_sides_with_it() -> None:
    """p below 1/2: what the row calls chosen is the pair's rejected response."""
    for p in (0.0, 0.2):
        reworded = read_paraphrases({"p": p, "paraphrases": {"chosen": ["B"]}}, pair=PAIR, file="f")
        assert [(pair.chosen, pair.rejected[0]["content"]) for pair in reworded] == [(PAIR.chosen, "B")]


def test_a_row_of_several_responses_cannot_have_paraphrases() -> None:
    for row in ({"responses": ["a", "b"]}, {"chosen": ["a"]}):
        with pytest.raises(DataError, match="line 7, paraphrases: only a row of one chosen and one rejected"):
            read_paraphrases({**row, "paraphrases": {"chosen": ["B"]}}, pair=PAIR, file="f")


@pytest.mark.parametrize(
    ("given_", "message"),
    [
        (["x"], "f, line 7, paraphrases: expected an object"),
        ({"chosn": ["x"]}, "f, line 7, paraphrases.chosn: unknown"),
        ({"chosen": "x"}, "f, line 7, paraphrases.chosen: expected a list of strings"),
        ({"chosen": [1]}, "f, line 7, paraphrases.chosen: expected a list of strings"),
    ],
)
def test_bad_paraphrases_name_file_line_and_field(given_: Any, message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_paraphrases({"paraphrases": given_}, pair=PAIR, file="f")


def test_a_variant_by_hand() -> None:
    """Margins 2, -1, 1 become 1, 1, 0: the second flips, the third ties (half): 1.5 of 3.

    Chosen shifts (-1, 1, 0) mean 0; rejected (0, -1, 1) mean 0. Easy, changed chosen against old rejected:
    1 > 0, 1 > 1 is a tie, 1 > 0: 2.5 of 3. Hard: 2 > 0, 0 > 0 is a tie, 1 > 1 is a tie: 2 of 3."""
    before = np.asarray([[2.0, 0.0], [0.0, 1.0], [1.0, 0.0]])
    after = np.asarray([[1.0, 0.0], [1.0, 0.0], [1.0, 1.0]])
    found = describe_variant(before, after=after)
    assert found["flips"] == pytest.approx(0.5)
    assert (found["chosen_shift"], found["rejected_shift"]) == (0, 0)
    assert (found["accuracy_before"], found["accuracy"]) == (pytest.approx(2 / 3), pytest.approx(2.5 / 3))
    assert (found["easy"], found["hard"]) == (pytest.approx(2.5 / 3), pytest.approx(2 / 3))


def test_the_same_pairs_are_looked_at_again() -> None:
    assert choose_pairs(3, most=5) == [0, 1, 2]
    assert choose_pairs(1000, most=5) == choose_pairs(1000, most=5)
    assert len(set(choose_pairs(1000, most=5))) == 5
