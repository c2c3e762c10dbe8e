import math

import pytest

from rewardmodel.data import Pair
from rewardmodel.evaluation.surprises import list_surprises, shorten


def pair(line: int, *, chosen: str = "c") -> Pair:
    return Pair(
        prompt=[{"role": "user", "content": "q" * 500 + "?"}],
        chosen=[{"role": "assistant", "content": chosen}],
        rejected=[{"role": "assistant", "content": "r"}],
        prompt_id=f"p{line}",
        margin=None,
        line=line,
    )


def test_the_least_likely_judgement_comes_first_and_right_ones_do_not() -> None:
    """sigmoid(-ln 9) = 1/10; at temperature 2, sigmoid(-ln 3) = 1/4."""
    pairs = [pair(1), pair(2), pair(3), pair(4)]
    rows = list_surprises([-1.0, 2.0, -math.log(9), 0.0], pairs=pairs)
    assert [row["line"] for row in rows] == [3, 1]
    assert rows[0]["probability"] == pytest.approx(0.1)
    assert list_surprises([-math.log(9)], pairs=[pair(1)], temperature=2)[0]["probability"] == pytest.approx(0.25)


def test_long_texts_are_cut_and_the_question_kept() -> None:
    row = list_surprises([-1.0], pairs=[pair(1, chosen="x" * 1000)])[0]
    assert len(row["chosen"]) == len(row["prompt"]) == 400
    assert row["chosen"].endswith("x…")
    assert row["prompt"].endswith("q?")


def test_a_short_text_stays() -> None:
    assert shorten("abc", longest=3) == "abc"
    assert shorten("abcd", longest=3) == "ab…"
