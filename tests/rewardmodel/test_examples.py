"""Which tokens are learned: of a completion, of conversations of several turns, by either kind of template."""

from pathlib import Path
from typing import Any

import pytest

from rewardmodel.chat import encode_example, encode_examples
from rewardmodel.data import DataError, read_examples, read_labelled
from rewardmodel.models import load_tokenizer
from tests.rewardmodel.tiny import TEMPLATE, write_rows

TAGGED = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}"
    "{% if message['role'] == 'assistant' %}{% generation %}{{ message['content'] + '<|im_end|>' }}{% endgeneration %}"
    "{% else %}{{ message['content'] + '<|im_end|>' }}{% endif %}{{ '\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
# As some templates do with thoughts: what the assistant said before its last turn is written in short.
FORGETFUL = TEMPLATE.replace(
    "message['content']", "(message['content'] if loop.last or message['role'] == 'user' else 'cut')"
)
TALK = [
    {"role": "system", "content": "a mat"},
    {"role": "user", "content": "the cat"},
    {"role": "assistant", "content": "sat"},
    {"role": "user", "content": "and"},
    {"role": "assistant", "content": "fell softly"},
    {"role": "user", "content": "rain"},
]


def learn(directory: Path, row: dict[str, Any], *, tmp_path: Path, template: str = TEMPLATE, mode: str = "assistant"):
    """The text of each stretch of learned tokens, and the whole."""
    tokenizer = load_tokenizer(directory)
    tokenizer.chat_template = template
    (example,) = read_examples(write_rows(tmp_path / "rows.jsonl", [row]))
    encoded = encode_example(tokenizer, example=example, learn=mode)
    stretches: list[list[int]] = []
    for place, (token, learned) in enumerate(zip(encoded.ids, encoded.learned, strict=True)):
        if learned and (place == 0 or not encoded.learned[place - 1]):
            stretches.append([])
        if learned:
            stretches[-1].append(token)
    return [tokenizer.decode(stretch) for stretch in stretches], tokenizer.decode(encoded.ids)


def test_every_turn_of_the_assistant_is_learned_to_its_end_and_nothing_else(tiny_model: Path, tmp_path: Path) -> None:
    learned, whole = learn(tiny_model, {"messages": TALK}, tmp_path=tmp_path)
    assert learned == ["sat<|im_end|>\n", "fell softly<|im_end|>\n"]
    assert whole == (
        "<|im_start|>system\na mat<|im_end|>\n"
        "<|im_start|>user\nthe cat<|im_end|>\n<|im_start|>assistant\nsat<|im_end|>\n"
        "<|im_start|>user\nand<|im_end|>\n<|im_start|>assistant\nfell softly<|im_end|>\n"
        "<|im_start|>user\nrain<|im_end|>\n"
    )


def test_a_template_with_generation_tags_says_itself_what_is_learned(tiny_model: Path, tmp_path: Path) -> None:
    learned, _ = learn(tiny_model, {"messages": TALK}, tmp_path=tmp_path, template=TAGGED)
    assert learned == ["sat<|im_end|>", "fell softly<|im_end|>"]


@pytest.mark.parametrize(("template", "end"), [(TEMPLATE, "<|im_end|>\n"), (TAGGED, "<|im_end|>")])
@pytest.mark.parametrize("field", ["completion", "response"])
def test_of_a_prompt_and_a_completion_only_the_completion_is_learned(
    tiny_model: Path, tmp_path: Path, template: str, end: str, field: str
) -> None:
    """Also where the prompt holds a turn of the assistant."""
    row = {"prompt": TALK[:4], field: "fell softly"}
    learned, whole = learn(tiny_model, row, tmp_path=tmp_path, template=template)
    assert learned == [f"fell softly{end}"]
    assert whole.endswith("<|im_start|>assistant\nfell softly<|im_end|>\n")


def test_every_token_is_learned_where_asked_for(tiny_model: Path, tmp_path: Path) -> None:
    learned, whole = learn(tiny_model, {"messages": TALK}, tmp_path=tmp_path, mode="all")
    assert learned == [whole]


def test_a_labelled_completion_is_judged_to_the_last_token(tiny_model: Path, tmp_path: Path) -> None:
    learned, _ = learn(tiny_model, {"prompt": "the", "completion": "cat"}, tmp_path=tmp_path, mode="completion")
    assert learned == ["cat<|im_end|>\n"]


def test_a_template_that_rewrites_earlier_turns_is_refused_naming_the_line(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    tokenizer.chat_template = FORGETFUL
    examples = read_examples(write_rows(tmp_path / "rows.jsonl", [{"prompt": "the", "completion": "cat"}]))
    assert len(encode_examples(tokenizer, examples=examples, max_length=64).rows) == 1
    examples = read_examples(write_rows(tmp_path / "rows.jsonl", [{"messages": TALK[1:5]}]))
    with pytest.raises(DataError, match="line 1: the model's chat template writes turns 1 to 2 otherwise once more"):
        encode_examples(tokenizer, examples=examples, max_length=64)


def test_a_token_that_spans_the_boundary_belongs_to_the_completion(tiny_model: Path, tmp_path: Path) -> None:
    """Where the template ends in a space before the answer, "␣cat" is one token of the whole and none of the prompt."""
    template = (
        "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + '<|im_end|>' }}{% endfor %}"
        "{% if add_generation_prompt %}{{ 'assistant: ' }}{% endif %}"
    )
    learned, whole = learn(tiny_model, {"prompt": "the", "completion": "cat"}, tmp_path=tmp_path, template=template)
    assert (learned, whole) == ([" cat<|im_end|>"], "user: the<|im_end|>assistant: cat<|im_end|>")


def test_what_is_too_long_is_dropped_whole_and_counted(tiny_model: Path, tmp_path: Path) -> None:
    rows = [{"prompt": "the", "completion": "cat"}, {"prompt": "the", "completion": "cat " * 100}]
    found = read_examples(write_rows(tmp_path / "rows.jsonl", rows))
    split = encode_examples(load_tokenizer(tiny_model), examples=found, max_length=64)
    assert [row.example.line for row in split.rows] == [1]
    assert split.dropped == {"too_long": 1}


@pytest.mark.parametrize(
    ("row", "fault"),
    [
        ({"messages": [{"role": "user", "content": "the"}]}, "messages: holds no turn of the assistant"),
        ({"messages": TALK, "prompt": "the"}, "messages: given beside prompt or completion"),
        ({"messages": [TALK[2], TALK[1]]}, "messages[0].role: the assistant speaks first"),
        ({"messages": [{"role": "bot", "content": "the"}]}, "messages[0].role: expected one of"),
        ({"prompt": "the"}, "completion: missing"),
        ({"completion": "the"}, "prompt: missing"),
        ({"prompt": "the", "completion": "a", "response": "b"}, "response: given beside completion"),
        ({"prompt": "the", "completion": [TALK[1]]}, "completion[0].role: expected assistant, found user"),
        ({"prompt": "the", "completion": 3}, "completion: expected a string or a list of messages, found 3"),
    ],
)
def test_a_bad_example_is_refused_naming_line_and_field(tmp_path: Path, row: dict[str, Any], fault: str) -> None:
    file = write_rows(tmp_path / "rows.jsonl", [{"prompt": "the", "completion": "cat"}, row])
    with pytest.raises(DataError) as caught:
        read_examples(file)
    assert str(caught.value).startswith(f"{file}, line 2, {fault}")


@pytest.mark.parametrize(
    ("change", "fault"),
    [
        ({"label": 1}, "label: expected true or false, found 1"),
        ({"label": "true"}, "label: expected true or false, found 'true'"),
        ({"label": None}, "label: expected true or false, found None"),
        ({"label": 0.5}, "label: expected true or false, found 0.5"),
        ({}, "label: missing"),
        ({"label": True, "completion": [TALK[2], TALK[3], TALK[4]]}, "completion: expected one turn of the assistant"),
    ],
)
def test_a_label_out_of_range_is_refused_naming_line_and_field(
    tmp_path: Path, change: dict[str, Any], fault: str
) -> None:
    row = {"prompt": "the", "completion": "cat"}
    file = write_rows(tmp_path / "rows.jsonl", [{**row, "label": False}, {**row, **change}])
    with pytest.raises(DataError) as caught:
        read_labelled(file)
    assert str(caught.value).startswith(f"{file}, line 2, {fault}")
