import json
from pathlib import Path
from typing import Any

import pytest

from rewardmodel.data import DataError
from rewardmodel.evaluation.sections import (
    REWARD_BENCH,
    describe_sections,
    read_sections,
    score_row,
    settle_sections,
)

FILE = Path("f.jsonl")


def test_a_section_weighs_its_subsets_and_the_mean_does_not() -> None:
    """A: x 1 of 1 (weight 3), y 0 of 2 (weight 1): 3/4. B: z 1 of 2: 1/2. Mean 5/8."""
    found = describe_sections(
        [1, 0, 0, 1, 0],
        subsets=["x", "y", "y", "z", "z"],
        prompt_ids=list("abcde"),
        sections={"A": {"x": 3, "y": 1, "w": 1}, "B": {"z": None}},
    )
    assert [section["accuracy"] for section in found["sections"]] == [0.75, 0.5]
    assert (found["mean"], found["missing"]) == (0.625, ["w"])


def test_without_weights_a_section_is_the_accuracy_of_its_rows() -> None:
    found = describe_sections(
        [1, 0, 0], subsets=["x", "y", "y"], prompt_ids=list("abc"), sections={"A": {"x": None, "y": None}}
    )
    assert found["mean"] == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("chosen", "rejected", "right"),
    [([2.0], [1.0, 0.0, 1.5], 1), ([1.0], [1.0, 0.0, 0.5], 1 / 2), ([1.0], [1.0, 1.0, 1.0], 1 / 4), ([0.0], [1.0], 0)],
)
def test_best_of_four(chosen: list[float], rejected: list[float], right: float) -> None:
    assert score_row(chosen, rejected=rejected) == right


def test_the_lowest_of_several_right_answers_decides() -> None:
    assert score_row([3.0, 1.0], rejected=[2.0]) == 0


def test_subsets_of_reward_bench_get_its_sections_and_others_their_own() -> None:
    assert settle_sections(["hep-go", "donotanswer"], file=FILE) == REWARD_BENCH
    assert settle_sections(["Math", "Focus"], file=FILE) == {"Focus": {"Focus": None}, "Math": {"Math": None}}


def test_a_subset_without_a_section_is_refused() -> None:
    with pytest.raises(DataError, match=r"f\.jsonl, subset: 'mine' is in no section; give --sections"):
        settle_sections(["hep-go", "mine"], file=FILE)
    with pytest.raises(DataError, match="'mine' is in no section"):
        settle_sections(["mine"], given={"A": {"yours": None}}, file=FILE)


def test_sections_are_read_with_or_without_weights(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_text(json.dumps({"A": ["x"], "B": {"y": 2, "z": 1.5}}))
    assert read_sections(tmp_path / "s.json") == {"A": {"x": None}, "B": {"y": 2, "z": 1.5}}


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ([], "expected an object of sections"),
        ({"A": "x"}, "A: expected a list of subsets"),
        ({"A": {"x": 0}}, "A: expected a list of subsets, or subsets with weights above 0"),
        ({"A": ["x"], "B": ["x"]}, "B: 'x' stands in A too"),
    ],
)
def test_bad_sections_are_refused(tmp_path: Path, value: Any, message: str) -> None:
    (tmp_path / "s.json").write_text(json.dumps(value))
    with pytest.raises(DataError, match=message):
        read_sections(tmp_path / "s.json")
