import json
from pathlib import Path

import pytest

from rewardmodel.data import (
    DataError,
    find_splits,
    read_judgements,
    read_manifest,
    read_pairs,
    read_prompts,
    read_responses,
)
from tests.rewardmodel.tiny import write_rows

PAIR = {"prompt": "p", "chosen": "c", "rejected": "r"}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not valid JSON in UTF-8"),
        ("[]", "line 2: expected an object, found list"),
        (json.dumps({**PAIR, "chosen": None}), "line 2, chosen: missing"),
        (
            json.dumps({**PAIR, "prompt": 3}),
            "line 2, prompt: expected a string or a list of messages, found 3",
        ),
        (
            json.dumps({**PAIR, "prompt": []}),
            r"line 2, prompt: expected a string or a list of messages, found \[\]",
        ),
        (json.dumps({**PAIR, "prompt": ["x"]}), r"line 2, prompt\[0\]: expected a message"),
        (
            json.dumps({**PAIR, "chosen": [{"role": "bot", "content": "x"}]}),
            r"line 2, chosen\[0\].role: expected one",
        ),
        (
            json.dumps({**PAIR, "chosen": [{"role": "user", "content": 1}]}),
            r"chosen\[0\].content: expected a string",
        ),
        (json.dumps({**PAIR, "chosen": "\ud800"}), r"line 2, chosen\[0\].content: holds half a surrogate"),
        (json.dumps({**PAIR, "margin": "1"}), "line 2, margin: expected a finite number, found '1'"),
        (
            '{"prompt": "p", "chosen": "c", "rejected": "r", "margin": NaN}',
            "line 2, margin: expected a finite",
        ),
        (json.dumps({**PAIR, "margin": 1}), "line 1, margin: missing, though other rows have one"),
        (
            json.dumps({"chosen": "a b", "rejected": "a b"}),
            "line 2, chosen: chosen and rejected do not differ",
        ),
        (
            json.dumps({"chosen": "a", "rejected": "b"}),
            "line 2, prompt: missing, and chosen and rejected share no",
        ),
        (json.dumps({"chosen": "a", "rejected": []}), "line 2, chosen: without a prompt"),
    ],
)
def test_a_bad_row_is_refused_naming_file_line_and_field(tmp_path: Path, line: str, message: str) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text(json.dumps(PAIR) + "\n" + line + "\n")
    with pytest.raises(DataError, match=message) as caught:
        read_pairs(file)
    assert str(file) in str(caught.value)


def test_strings_and_messages_give_the_same_pair(tmp_path: Path) -> None:
    messages = {
        "prompt": [{"role": "user", "content": "p"}],
        "chosen": [{"role": "assistant", "content": "c"}],
        "rejected": [{"role": "assistant", "content": "r"}],
    }
    implicit = {side: messages["prompt"] + messages[side] for side in ("chosen", "rejected")}
    pairs = read_pairs(write_rows(tmp_path / "pairs.jsonl", [PAIR, messages, implicit]))
    assert [(pair.prompt, pair.chosen, pair.rejected, pair.prompt_id) for pair in pairs[1:]] == [
        (pairs[0].prompt, pairs[0].chosen, pairs[0].rejected, pairs[0].prompt_id)
    ] * 2


def test_an_implicit_prompt_of_strings_ends_where_trl_ends_it(tmp_path: Path) -> None:
    """Blue and green skies share "The sky is " and TRL leaves the space to the answer."""
    row = {"chosen": "The sky is blue.", "rejected": "The sky is green."}
    (pair,) = read_pairs(write_rows(tmp_path / "pairs.jsonl", [row]))
    assert [turns[0]["content"] for turns in (pair.prompt, pair.chosen, pair.rejected)] == [
        "The sky is",
        " blue.",
        " green.",
    ]


def test_blank_lines_are_skipped_and_an_empty_file_is_refused(tmp_path: Path) -> None:
    file = tmp_path / "pairs.jsonl"
    file.write_text("\n" + json.dumps(PAIR) + "\n\n")
    assert [pair.line for pair in read_pairs(file)] == [2]
    file.write_text("\n")
    with pytest.raises(DataError, match="holds no rows"):
        read_pairs(file)


def test_a_repeated_id_is_refused(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "p.jsonl", [{"prompt_id": "a", "prompt": "x"}, {"prompt_id": "a", "prompt": "y"}])
    with pytest.raises(DataError, match="line 2, prompt_id: 'a' was used on an earlier line"):
        read_prompts(file)
    rows = [{"response_id": 1, "prompt": "x", "response": "y"}] * 2
    with pytest.raises(DataError, match="line 2, response_id: '1' was used on an earlier line"):
        read_responses(write_rows(tmp_path / "r.jsonl", rows))


def test_a_missing_split_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="is not a directory"):
        find_splits(str(tmp_path / "none"))
    write_rows(tmp_path / "train.jsonl", [PAIR])
    with pytest.raises(DataError, match=r"test\.jsonl does not exist; the test split is needed"):
        find_splits(str(tmp_path))


def test_the_manifest_beside_the_data_is_read(tmp_path: Path) -> None:
    assert read_manifest(str(tmp_path)) == {}
    (tmp_path / "manifest.json").write_text('{"simulated": true}')
    assert read_manifest(str(tmp_path)) == {"simulated": True}
    assert read_manifest({"train": str(tmp_path / "train.jsonl")}) == {"simulated": True}


RANKING = {"prompt": "p", "responses": ["a", "b", "c"], "ranks": [2, 1, 2]}


def sides(path: Path, **settings: bool) -> list[tuple[str, str]]:
    pairs = read_judgements(path, **settings).pairs  # type: ignore[arg-type]
    return [(pair.chosen[0]["content"], pair.rejected[0]["content"]) for pair in pairs]


def test_a_ranking_gives_its_strict_pairs_and_its_ties_are_counted_or_kept(tmp_path: Path) -> None:
    """b before a and c, which tie. The row's weight is divided among the pairs kept: 1/2, or 1/3 with the tie."""
    file = write_rows(tmp_path / "r.jsonl", [RANKING])
    found = read_judgements(file)
    assert sides(file) == [("b", "a"), ("b", "c")]
    assert ([pair.weight for pair in found.pairs], found.dropped) == ([0.5, 0.5], {"tied": 1})
    kept = read_judgements(file, ties=True)
    assert [(pair.tied, pair.weight) for pair in kept.pairs] == [(False, 1 / 3), (False, 1 / 3), (True, 1 / 3)]
    assert kept.dropped == {}


def test_pairs_and_rankings_share_a_file_and_read_pairs_takes_both(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "r.jsonl", [PAIR, RANKING])
    pairs = read_pairs(file)
    assert [pair.line for pair in pairs] == [1, 2, 2]
    assert len({pair.prompt_id for pair in pairs}) == 1
    assert [pair.group_id for pair in pairs] == ["line-1", "line-2", "line-2"]


def test_where_only_the_best_was_named_the_rest_was_not_judged(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "r.jsonl", [{**RANKING, "task": "best"}])
    assert sides(file, ties=True) == [("b", "a"), ("b", "c")]
    assert read_judgements(file).dropped == {}


def test_a_ranking_without_an_order_is_counted(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "r.jsonl", [{**RANKING, "ranks": []}])
    assert read_judgements(file).dropped == {"unordered": 1}
    with pytest.raises(DataError, match="nothing in it was judged better than another"):
        read_pairs(file)


def test_a_soft_label_below_a_half_turns_the_pair_and_a_half_is_no_test(tmp_path: Path) -> None:
    file = write_rows(tmp_path / "p.jsonl", [{**PAIR, "p": p} for p in (0.75, 0.25, 0.5)])
    soft = read_judgements(file, soft=True).pairs
    assert [pair.probability for pair in soft] == [0.75, 0.75, 0.5]
    assert sides(file) == [("c", "r"), ("r", "c")]
    assert read_judgements(file).dropped == {"tied": 1}


def test_margins_come_from_the_table_alone(tmp_path: Path) -> None:
    """Strength 2 asks for 0.5, -3 (an older snapshot's sign) for 1, none for 0; ranks never ask for any."""
    rows = [{**PAIR, "strength": 2}, {**PAIR, "strength": -3}, {**PAIR, "strength": None}, {**RANKING, "strength": 2}]
    table = {"2": 0.5, "3": 1.0}
    file = write_rows(tmp_path / "p.jsonl", rows)
    assert [pair.margin for pair in read_judgements(file, margins=table).pairs] == [0.5, 1.0, 0.0, 0.0, 0.0]
    assert {pair.margin for pair in read_judgements(file).pairs} == {None}
    with pytest.raises(DataError, match=r"line 1, strength: 2 is not in the spec's table of margins \(3\)"):
        read_judgements(file, margins={"3": 1.0})
    both = write_rows(tmp_path / "both.jsonl", [{**PAIR, "margin": 1, "strength": 2}])
    with pytest.raises(DataError, match="line 1, margin: given here, while the spec makes margins from strengths"):
        read_judgements(both, margins=table)


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ({**RANKING, "ranks": [1, 2]}, "line 1, ranks: 2 ranks for 3 responses"),
        ({**RANKING, "ranks": None}, "line 1, ranks: expected a list of whole numbers, found None"),
        ({**RANKING, "ranks": [1, 2, 2.5]}, "line 1, ranks: expected a list of whole numbers"),
        ({**RANKING, "responses": ["a"]}, "line 1, responses: expected at least two responses"),
        ({**RANKING, "responses": ["a", 3, "c"]}, r"line 1, responses\[1\]: expected a string"),
        ({**RANKING, "task": 1}, "line 1, task: expected a word, found 1"),
        ({**PAIR, "p": 1.5}, "line 1, p: expected a probability from 0 to 1, found 1.5"),
        ({**PAIR, "weight": -1}, "line 1, weight: expected at least 0, found -1.0"),
        ({**PAIR, "weight": "1"}, "line 1, weight: expected a finite number, found '1'"),
    ],
)
def test_a_bad_judgement_is_refused_naming_line_and_field(tmp_path: Path, row: dict[str, object], message: str) -> None:
    with pytest.raises(DataError, match=message):
        read_judgements(write_rows(tmp_path / "r.jsonl", [row]))
