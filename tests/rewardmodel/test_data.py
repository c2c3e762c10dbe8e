import json
from pathlib import Path

import pytest

from rewardmodel.data import DataError, find_splits, read_manifest, read_pairs, read_prompts, read_responses
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
