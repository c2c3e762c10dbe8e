"""The 25 instruction types of IFEval and our own constraints; cases by hand from the published semantics."""

import json
from pathlib import Path
from typing import Any

import pytest

from rewardmodel.contract import SpecError
from rewardmodel.verifiers.constraints import check_constraints, parse_constraints
from rewardmodel.verifiers.instructions import (
    INSTRUCTIONS,
    follow_loosely,
    follow_strictly,
    parse_instruction,
)
from rewardmodel.verifiers.sentences import split_sentences, split_tokens

IFEVAL = Path(__file__).parents[3].parent / "shared" / "data" / "ifeval" / "tasks.jsonl"
ENGLISH = "the cat sat on the mat and looked at the people who were walking down the street"
GERMAN = "Die Katze sitzt auf der Matte und schaut den Leuten zu, die auf der Straße gehen."

# id, arguments, a response that follows, one that does not; several rows where the semantics have a quirk.
CASES: list[tuple[str, dict[str, Any], str, str]] = [
    ("keywords:existence", {"keywords": ["Cat", "dog"]}, "A cat and hotdogs", "A cat"),
    ("keywords:existence", {"keywords": ["c.t"]}, "cut", "coat"),  # a regular expression
    ("keywords:frequency", {"keyword": "cat", "frequency": 2, "relation": "at least"}, "Cat concat", "cat"),
    ("keywords:frequency", {"keyword": "cat", "frequency": 2, "relation": "less than"}, "cat", "cat cat"),
    ("keywords:forbidden_words", {"forbidden_words": ["cat"]}, "concatenate", "A CAT."),
    ("keywords:letter_frequency", {"letter": "T", "let_frequency": 2, "let_relation": "at least"}, "Tt", "t"),
    ("keywords:letter_frequency", {"letter": "#", "let_frequency": 1, "let_relation": "less than"}, "a", "# a"),
    ("language:response_language", {"language": "de"}, GERMAN, ENGLISH),
    ("language:response_language", {"language": "de"}, "12345", ENGLISH),  # no language to be told
    (
        "length_constraints:number_sentences",
        {"num_sentences": 3, "relation": "at least"},
        "Dr. Who came. He left! Did he?",
        "Dr. Who came. He left",
    ),
    (
        "length_constraints:number_sentences",
        {"num_sentences": 2, "relation": "less than"},
        "It is 3.5 e.g. now",
        "A. B! C?",
    ),
    ("length_constraints:number_words", {"num_words": 3, "relation": "at least"}, "I don't", "I do"),  # don, t
    ("length_constraints:number_words", {"num_words": 3, "relation": "less than"}, "well known", "well-known fact"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "a\n***\nb\n***", "a\n\nb"),
    ("length_constraints:number_paragraphs", {"num_paragraphs": 2}, "***\na *** b", "a\n***\n\n***\nb"),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "Then"},
        'First\n\n"then, it',
        "First\n\nAnd then",
    ),
    (
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 1, "first_word": "a"},
        "A b\n\nc",
        "a\n\nb\n\nc",
    ),
    (
        # Three blank lines make an empty paragraph: not counted, but the second one is it.
        "length_constraints:nth_paragraph_first_word",
        {"num_paragraphs": 2, "nth_paragraph": 2, "first_word": "b"},
        "a\n\nb\n\n",
        "a\n\n\n\nb",
    ),
    ("detectable_content:number_placeholders", {"num_placeholders": 2}, "[a] [b] [c]", "[a\n] [b]"),
    ("detectable_content:postscript", {"postscript_marker": "P.S."}, "Bye\np. s. more", "Bye PS more"),
    ("detectable_content:postscript", {"postscript_marker": "P.P.S"}, "P.P.S more", "P.S. more"),
    ("detectable_content:postscript", {"postscript_marker": "Note:"}, "see note: x", "see x"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 2}, "* a\n  - b", "* a\n- b\n* c"),
    ("detectable_format:number_bullet_lists", {"num_bullets": 1}, "**bold**\n* a", "** a"),
    ("detectable_format:constrained_response", {}, "Well. My answer is maybe.", "My answer is perhaps."),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 2}, "*a* and **b**", "*a* and ****"),
    ("detectable_format:number_highlighted_sections", {"num_highlights": 1}, "*a b*", "*a\nb*"),
    (
        "detectable_format:multiple_sections",
        {"section_spliter": "SECTION", "num_sections": 2},
        "SECTION 1 a\nSECTION2 b SECTION 3",
        "SECTION 1 a\nSection 2 b",
    ),
    ("detectable_format:json_format", {}, '```json\n{"a": [1]}\n```', "{a: 1}"),
    ("detectable_format:json_format", {}, "3", "```\n{}\n``` so"),
    ("detectable_format:title", {}, "<<a title>>\ntext", "<a title>"),
    ("detectable_format:title", {}, "<<<x>>>", "<< >>"),
    ("combination:two_responses", {}, "a******b", "a******a "),
    ("combination:two_responses", {}, "******a******b******", "a******\n******b"),
    ("combination:repeat_prompt", {"prompt_to_repeat": "Say hi. "}, " say HI. Hi!", "Sure: say hi."),
    ("startend:end_checker", {"end_phrase": "The end."}, 'And so "the END." ', "The end. Bye"),
    ("startend:quotation", {}, ' "a" and "b" ', '"a'),
    ("startend:quotation", {}, '""', '"'),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "at least"},
        "NASA says DON'T",  # NASA, DO, N'T
        "A cat says no",
    ),
    (
        "change_case:capital_word_frequency",
        {"capital_frequency": 2, "capital_relation": "less than"},
        "ALL-CAPS once",  # one word
        "I AM",
    ),
    ("change_case:english_capital", {}, ENGLISH.upper(), ENGLISH),
    ("change_case:english_capital", {}, f"{ENGLISH.upper()} 12!", GERMAN.upper()),
    ("change_case:english_lowercase", {}, ENGLISH, ENGLISH.capitalize()),
    ("punctuation:no_comma", {}, "a; b", "a, b"),
]


@pytest.mark.parametrize(("name", "arguments", "good", "bad"), CASES)
def test_what_follows_and_what_does_not(name: str, arguments: dict[str, Any], good: str, bad: str) -> None:
    instruction = parse_instruction(name, arguments=arguments)
    assert follow_strictly(good, instruction=instruction)
    assert not follow_strictly(bad, instruction=instruction)
    assert not follow_strictly(" \n", instruction=instruction)


def test_all_25_types_have_cases() -> None:
    assert {case[0] for case in CASES} == set(INSTRUCTIONS)
    assert len(INSTRUCTIONS) == 25


def test_loosely_a_line_of_talk_and_stars_are_forgiven() -> None:
    """Without the first line, the last, or both; and each of the four without stars."""
    quotation = parse_instruction("startend:quotation", arguments={})
    for response in ('Sure!\n"a"', '"a"\nBye', 'Sure!\n"a"\nBye', '*"a"*'):
        assert not follow_strictly(response, instruction=quotation)
        assert follow_loosely(response, instruction=quotation)
    assert not follow_loosely('Sure!\nReally!\n"a"', instruction=quotation)


def test_sentences_and_tokens() -> None:
    assert split_sentences("Mr. A. Smith paid $3.50 in the U.S. He left... Then? Yes!") == [
        "Mr. A. Smith paid $3.50 in the U.S.", "He left... Then?", "Yes!",
    ]  # fmt: skip
    assert split_tokens("DON'T GO, well-known.") == ["DO", "N'T", "GO", ",", "well-known", "."]


@pytest.mark.parametrize(
    ("constraint", "good", "bad"),
    [
        ({"type": "regex", "pattern": "^a+$", "match": "full"}, "aaa\n", "ab"),
        ({"type": "regex", "pattern": "B", "ignore_case": True}, "abc", "ac"),
        ({"type": "regex", "pattern": "sorry", "match": "absent"}, "fine", "so sorry"),
        ({"type": "json_schema", "schema": {"type": "object", "required": ["a"]}}, '```json\n{"a": 1}\n```', "{}"),
        ({"type": "json_schema", "schema": {}}, "3", "three"),
        ({"type": "json_schema", "schema": {"$defs": {"n": {"type": "number"}}, "$ref": "#/$defs/n"}}, "3", '"3"'),
        ({"type": "length", "unit": "characters", "at_most": 3}, "abc", "abcd"),
        ({"type": "length", "unit": "words", "at_least": 2, "at_most": 3}, "a b", "a"),
        ({"type": "length", "unit": "sentences", "at_least": 2}, "One. Two.", "One, two."),
        ({"type": "language", "language": "de"}, GERMAN, ENGLISH),
        ({"type": "language", "language": "de"}, GERMAN, "123"),
    ],
)  # fmt: skip
def test_our_own_constraints(constraint: dict[str, Any], good: str, bad: str) -> None:
    spec = parse_constraints({"constraints": [constraint]})
    assert check_constraints("", response=good, spec=spec).passed
    assert not check_constraints("", response=bad, spec=spec).passed


def test_a_schema_never_makes_us_fetch_anything() -> None:
    spec = parse_constraints({"constraints": [{"type": "json_schema", "schema": {"$ref": "http://127.0.0.1:9/x"}}]})
    verdict = check_constraints("", response="3", spec=spec)
    assert not verdict.passed
    assert "refers to what is not in it" in verdict.reason


def test_the_score_is_the_share_that_holds() -> None:
    """Of four, "no comma" and the two words hold; the title and the 50 words do not: 1/2."""
    spec = parse_constraints(
        {
            "instruction_ids": ["punctuation:no_comma", "detectable_format:title", "keywords:existence"],
            "kwargs": [{}, None, {"keywords": ["a", "b"], "num_words": None}],
            "constraints": [{"type": "length", "unit": "words", "at_least": 50}],
        }
    )
    verdict = check_constraints("", response="a b", spec=spec)
    assert (verdict.passed, verdict.score) == (False, 0.5)
    assert verdict.reason == (
        "2 of 4 missed: not followed: detectable_format:title; 2 words, at least 50 wanted"
    )  # fmt: skip


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({}, "nothing is asked for"),
        ({"instruction_ids": ["punctuation:no_coma"]}, r"instruction_ids\[0\]: .*did you mean 'punctuation:no_comma'"),
        ({"instruction_ids": ["startend:quotation"], "kwargs": []}, "kwargs: 0 for 1"),
        ({"instruction_ids": ["keywords:existence"]}, r"keywords: required by keywords:existence"),
        ({"instruction_ids": ["keywords:existence"], "kwargs": [{"keywords": ["("]}]}, "regular expression"),
        ({"instruction_ids": ["keywords:existence"], "kwargs": [{"keywords": [3]}]}, r"keywords\[0\]: expected a text"),
        ({"instruction_ids": ["punctuation:no_comma"], "kwargs": [{"x": 1}]}, "unknown 'x'"),
        ({"constraints": [{"type": "regexp"}]}, r"constraints\[0\]: type: .*did you mean 'regex'"),
        ({"constraints": [{"type": "json_schema", "schema": {"type": "objekt"}}]}, r"schema: \$.type"),
        ({"constraints": [{"type": "length", "unit": "words"}]}, "say at_least, at_most, or both"),
        ({"constraints": [{"type": "length", "unit": "words", "at_least": 2, "at_most": 1}]}, "at least at_least 2"),
        ({"constraints": [{"type": "language", "language": "german"}]}, "language: unknown 'german'"),
    ],
)
def test_a_wrong_spec_names_the_field(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_constraints(given)


@pytest.mark.skipif(not IFEVAL.exists(), reason="needs the shared data set ifeval")
def test_every_row_of_ifeval_is_read() -> None:
    rows = [json.loads(line) for line in IFEVAL.read_text(encoding="utf-8").splitlines()]
    specs = [parse_constraints({key: row[key] for key in ("instruction_ids", "kwargs")}) for row in rows]
    assert len(specs) == 200
    assert {instruction.id for spec in specs for instruction in spec.list_instructions()} == set(INSTRUCTIONS)
