# ruff: noqa: E501 (the tables of faults read best with a fault a line)
"""Importing: each format in, each fault refused with its place and nothing stored, and nothing stored twice."""

from __future__ import annotations

import csv
import gzip
import io
import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotation.domain import import_readers, importing
from annotation.domain.importing import ImportCounts, ImportFile, ImportRefused, hash_messages, import_files
from annotation.domain.projects import create_project
from annotation.models import (
    Guidelines,
    Membership,
    Project,
    Prompt,
    Ranking,
    Response,
    Slate,
    SlateResponse,
    Slot,
)

pytestmark = pytest.mark.django_db


@pytest.fixture
def project() -> Project:
    return create_project(slug="p", name="P", guidelines="Be fair.", overlap=2)


@pytest.fixture
def put(tmp_path: Path):
    """Write a file from rows (JSONL), text or bytes, and name it."""

    def write(name: str, content: Any) -> ImportFile:
        if isinstance(content, list):
            content = "".join(json.dumps(row) + "\n" for row in content)
        data = content.encode() if isinstance(content, str) else content
        path = tmp_path / name
        path.write_bytes(data)
        return ImportFile(name, path)

    return write


def count_rows() -> dict[str, int]:
    tables = (Prompt, Response, Slate, SlateResponse, Slot, Ranking, Membership)
    return {table.__name__: table.objects.count() for table in tables}


def turns_of(prompt: Prompt) -> list[tuple[str, str]]:
    return [(message["role"], message["content"]) for message in prompt.messages]


def texts_by_tier(ranking: Ranking) -> list[list[str]]:
    texts = dict(Response.objects.values_list("pk", "text"))
    return [[texts[pk] for pk in tier] for tier in ranking.tiers]


TWO = [{"text": "one", "source": "a"}, {"text": "two", "source": "b"}]
ITEM = {"item_id": "i1", "prompt": "Say.", "responses": [*TWO, {"text": "three", "source": "c"}]}
TOPICS = [{"topic": "t", "name": "n", "prompt": "Why?"}]
ARGUMENTS = [{"argument_id": f"a{n}", "topic": "t", "text": f"Because {n}."} for n in (1, 2, 3)]
POOLED = [
    {"item_id": "i1", "topic": "t", "response_ids": ["a1", "a2"]},
    {"item_id": "i2", "topic": "t", "response_ids": ["a3", "a1"]},
]


# Prompts


def test_prompts_keep_their_text_byte_for_byte(project, put):
    rows = [
        {"id": 7, "prompt": "  One \r\n\u2028 ", "reference": " r ", "verifier": {"kind": "math", "answer": "4"}},
        {"question": "Two", "system": " Be brief. ", "metadata": {"category": "x"}, "level": 3, "none": None},
        {
            "id": "m",
            "messages": [
                {"role": "user", "content": "a"},
                {"role": "assistant", "content": ""},
                {"role": "user", "content": "\tb\n"},
            ],
        },
    ]
    counts = import_files(project, files=[put("p.jsonl", rows)])
    assert counts == ImportCounts(prompts=3)
    first, second, third = Prompt.objects.order_by("pk")
    assert (first.external_id, turns_of(first)) == ("7", [("user", "  One \r\n\u2028 ")])
    assert (first.reference, first.verifier, first.metadata) == (" r ", {"kind": "math", "answer": "4"}, {})
    assert turns_of(second) == [("system", " Be brief. "), ("user", "Two")]
    assert (len(second.external_id), second.metadata) == (64, {"category": "x", "level": 3})
    assert turns_of(third) == [("user", "a"), ("assistant", ""), ("user", "\tb\n")]
    assert third.content_hash == hash_messages(third.messages)


def test_rows_of_one_prompt_share_it_under_any_id(project, put):
    rows = [
        {"id": "a", "prompt": "Same", "group": 1},
        {"id": "b", "messages": [{"role": "user", "content": "Same"}], "reference": "r", "group": 2},
        {"id": "c", "prompt": "Same"},
    ]
    assert import_files(project, files=[put("p.jsonl", rows)]) == ImportCounts(prompts=1, skipped=2)
    prompt = Prompt.objects.get()
    assert (prompt.external_id, prompt.reference) == ("a", "r")
    assert prompt.metadata == {"group": 1, "import_rows": {"b": {"group": 2}}}
    assert import_files(project, files=[put("p.jsonl", rows)]) == ImportCounts(skipped=3)
    assert Prompt.objects.get().metadata == prompt.metadata


def test_responses_of_rows_that_share_a_prompt_stay_apart(project, put):
    rows = [{"item_id": name, "prompt": "Same", "responses": ["x", "y"]} for name in ("a", "b")]
    counts = import_files(project, files=[put("r.jsonl", rows)])
    assert counts == ImportCounts(prompts=1, responses=4, slates=2)
    ids = list(Response.objects.order_by("pk").values_list("external_id", flat=True))
    assert ids == ["a/1", "a/2", "b/1", "b/2"]


# Responses


def test_responses_make_one_slate_with_the_projects_overlap_of_free_slots(project, put):
    rows = [
        {"id": "r", "prompt": "Q", "responses": [
            "plain", {"response_id": "x", "text": "", "system": "m1", "lang": "en"},
            {"content": "c", "role": "assistant", "model": "m2", "metadata": {"t": 0.5}}, {"text": True},
        ]},
    ]  # fmt: skip
    counts = import_files(project, files=[put("r.jsonl", rows)])
    assert counts == ImportCounts(prompts=1, responses=4, slates=1)
    stored = Response.objects.order_by("pk").values_list("external_id", "text", "source", "metadata")
    assert list(stored) == [
        ("r/1", "plain", "import", {}),
        ("r/x", "", "m1", {"lang": "en"}),
        ("r/3", "c", "m2", {"t": 0.5}),
        ("r/4", "true", "import", {"text_was": "boolean"}),
    ]
    slate = Slate.objects.get()
    assert (slate.external_id, slate.criterion) == ("r", "")
    assert list(slate.places.values_list("position", "response__external_id")) == [
        (0, "r/1"), (1, "r/x"), (2, "r/3"), (3, "r/4"),
    ]  # fmt: skip
    assert list(slate.slots.values_list("number", "state")) == [(0, "free"), (1, "free")]


def test_csv_columns_become_responses(project, put):
    text = (
        "id,prompt,response_1,source_1,response_2,response_3,note\r\n"
        '1,"Say ""hi""\nplease",Hi,m1,"Hi,\r\nthere",,x\r\n\r\n'
        '2,"[{""role"": ""user"", ""content"": ""Q""}]",A,,B,C,\r\n'
    )
    counts = import_files(project, files=[put("r.csv", "\ufeff" + text)])
    assert counts == ImportCounts(prompts=2, responses=5, slates=2)
    first, second = Prompt.objects.order_by("pk")
    assert (turns_of(first), first.metadata) == ([("user", 'Say "hi"\nplease')], {"note": "x"})
    assert list(first.responses.values_list("text", "source")) == [("Hi", "m1"), ("Hi,\r\nthere", "import")]
    assert (turns_of(second), second.metadata) == ([("user", "Q")], {})


def test_a_csv_cell_may_hold_the_responses_as_json(project, put):
    stream = io.StringIO()
    csv.writer(stream).writerows([["prompt", "responses"], ["Q", json.dumps(TWO)]])
    counts = import_files(project, files=[put("r.csv", stream.getvalue())])
    assert counts == ImportCounts(prompts=1, responses=2, slates=1)
    assert list(Response.objects.values_list("source", flat=True)) == ["a", "b"]


@pytest.mark.parametrize("format", ["jsonl", "json", "parquet", "jsonl.gz", "json.gz", "no extension"])
def test_every_container_gives_the_same_rows(project, put, format, tmp_path):
    rows = [{"id": str(n), "prompt": f"Q{n} é漢😀", "responses": TWO, "extra": n} for n in range(300)]
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in rows).encode()
    array = json.dumps(rows, ensure_ascii=False, indent=1).encode()
    if format == "parquet":
        path = tmp_path / "r.parquet"
        pq.write_table(pa.Table.from_pylist(rows), path, row_group_size=70)
        file = ImportFile("r.parquet", path)
    else:
        data = array if "json" in format.split(".") else lines
        file = put(
            "rows" if format == "no extension" else f"r.{format}",
            gzip.compress(data) if format.endswith("gz") else data,
        )
    assert import_files(project, files=[file]) == ImportCounts(prompts=300, responses=600, slates=300)
    prompts = [(p.external_id, p.messages[0]["content"], p.metadata) for p in Prompt.objects.order_by("pk")]
    assert prompts == [(str(n), f"Q{n} é漢😀", {"extra": n}) for n in range(300)]


def test_an_array_is_read_in_small_windows_to_the_same_rows(project, put, monkeypatch):
    monkeypatch.setattr(import_readers, "CHUNK", 7)
    rows = [{"prompt": f'Q{n} é漢😀 \\"' * 9, "n": [1, 2.5, {"a": [True, None]}]} for n in range(20)]
    import_files(project, files=[put("p.json", json.dumps(rows, ensure_ascii=False, indent=2) + "\n \n")])
    stored = [(p.messages[0]["content"], p.metadata["n"]) for p in Prompt.objects.order_by("pk")]
    assert stored == [(row["prompt"], row["n"]) for row in rows]


# Preferences


def message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


@pytest.mark.parametrize(
    ("row", "turns", "chosen", "rejected"),
    [
        ({"prompt": "Q", "chosen": " A", "rejected": "B"}, [("user", "Q")], " A", "B"),
        (
            {"prompt": [message("user", "Q ")], "chosen": [message("assistant", " A")],
             "rejected": [message("assistant", "B\n")]},
            [("user", "Q ")], " A", "B\n",
        ),
        (
            {"prompt": "Q", "chosen": [message("user", "Q"), message("assistant", "A")],
             "rejected": [message("user", "Q"), message("assistant", "B")]},
            [("user", "Q")], "A", "B",
        ),
        (
            {"chosen": [message("system", "S"), message("user", "Q"), message("assistant", "A")],
             "rejected": [message("system", "S"), message("user", "Q"), message("assistant", "B")]},
            [("system", "S"), ("user", "Q")], "A", "B",
        ),
        (
            {"chosen": "The sky is blue.", "rejected": "The sky is black."},
            [("user", "The sky is")], " blue.", " black.",
        ),
        (
            {"chosen": "\n\nHuman: Hi \n\nAssistant:  Yes\n\n?\n\nHuman: \n\nAssistant: A ",
             "rejected": "\n\nHuman: Hi \n\nAssistant:  Yes\n\n?\n\nHuman: \n\nAssistant:"},
            [("user", "Hi "), ("assistant", " Yes\n\n?"), ("user", "")], "A ", "",
        ),
        (
            {"prompt": "\n\nHuman: Q\n\nAssistant:", "chosen": " A", "rejected": " B"},
            [("user", "Q")], "A", "B",
        ),
    ],
    ids=["text", "messages", "prompt repeated", "implicit messages", "implicit text", "hh", "hh with prompt"],
)  # fmt: skip
def test_pairs_become_a_ranking_of_two(project, put, row, turns, chosen, rejected):
    counts = import_files(project, files=[put("p.jsonl", [row])])
    assert counts == ImportCounts(prompts=1, responses=2, slates=1, rankings=1)
    ranking = Ranking.objects.get()
    assert turns_of(Prompt.objects.get()) == turns
    assert texts_by_tier(ranking) == [[chosen], [rejected]]
    assert (ranking.presented_order, ranking.guidelines, ranking.all_bad) == ([], None, False)
    slot = Slot.objects.get()
    assert (slot.state, slot.annotator, slot.number) == ("done", ranking.annotator, 0)
    member = Membership.objects.get()
    assert (member.name, member.kind, member.role, member.user) == ("imported", "imported", "annotator", None)


def test_a_pair_keeps_who_chose_where_from_and_what_else_was_said(project, put):
    row = {
        "id": "x", "prompt": "Q", "chosen": "A", "rejected": "B", "annotator": 12, "chosen_model": "m1",
        "rejected_source": "m2", "score_chosen": 0.5, "turns": 1, "metadata": {"category": "c"}, "reference": "R",
    }  # fmt: skip
    import_files(project, files=[put("p.jsonl", [row])], annotator_kind="simulated")
    ranking = Ranking.objects.select_related("annotator").get()
    assert (ranking.annotator.name, ranking.annotator.kind) == ("12", "simulated")
    assert ranking.metadata == {"score_chosen": 0.5, "turns": 1}
    assert dict(Response.objects.values_list("text", "source")) == {"A": "m1", "B": "m2"}
    prompt = Prompt.objects.get()
    assert (prompt.metadata, prompt.reference) == ({"category": "c"}, "R")


def test_the_place_of_a_response_does_not_tell_that_it_was_chosen(project, put):
    rows = [{"prompt": f"Q{n}", "chosen": f"A{n}", "rejected": f"B{n}"} for n in range(40)]
    import_files(project, files=[put("p.jsonl", rows)])
    first = {place.slate_id: place.response_id for place in SlateResponse.objects.filter(position=0)}
    chosen_first = sum(ranking.tiers[0][0] == first[ranking.slate_id] for ranking in Ranking.objects.all())
    assert 5 < chosen_first < 35


# Annotated items


def test_annotations_fill_one_slot_a_ranking_and_leave_none_free(project, put):
    annotations = [
        {"item_id": "i1", "annotator": "x", "ranks": [2, 1, 2], "rationale": " why ", "hit_seconds": 9},
        {"item_id": "i1", "annotator": "y", "ranks": [1, 1, 3], "ratings": [5, None, 1.5]},
        {"item_id": "i1", "annotator": "z", "ranks": [1, 2, 3]},
    ]
    files = [put("annotations.jsonl", annotations), put("items.jsonl", [ITEM])]
    counts = import_files(project, files=files)
    assert counts == ImportCounts(prompts=1, responses=3, slates=1, rankings=3)
    x, y, z = Ranking.objects.order_by("pk")
    assert texts_by_tier(x) == [["two"], ["one", "three"]]
    assert (x.rationale, x.metadata, x.ratings) == (" why ", {"hit_seconds": 9}, None)
    assert texts_by_tier(y) == [["one", "two"], ["three"]]
    one, two, three = (str(pk) for pk in Response.objects.order_by("pk").values_list("pk", flat=True))
    assert y.ratings == {"overall": {one: 5, two: None, three: 1.5}}
    assert texts_by_tier(z) == [["one"], ["two"], ["three"]]
    assert set(Slot.objects.values_list("state", "annotator__name")) == {("done", n) for n in "xyz"}
    assert import_files(project, files=files) == ImportCounts(skipped=4)


def test_annotations_may_come_later_and_leave_a_persons_slate_open(project, put):
    import_files(project, files=[put("items.jsonl", [ITEM])])
    user = User.objects.create_user("u")
    person = Membership.objects.create(project=project, user=user, name="u", role="annotator")
    Slot.objects.filter(number=0).update(state="done", annotator=person)
    rows = [{"item_id": "i1", "annotator": "x", "ranks": [1, 2, 3]}]
    assert import_files(project, files=[put("a.jsonl", rows)]) == ImportCounts(rankings=1)
    states = list(Slot.objects.values_list("number", "state", "annotator__name"))
    assert states == [(0, "done", "u"), (1, "free", None), (2, "done", "x")]


def test_each_criterion_has_a_slate_and_the_first_takes_the_untouched_one(project, put):
    annotations = [
        {"item_id": "i1", "annotator": "x", "criterion": criterion, "ranks": [1, 2, 3], "ratings": [3, 2, 1]}
        for criterion in ("quality", "style")
    ]
    files = [put("items.jsonl", [ITEM]), put("annotations.jsonl", annotations)]
    assert import_files(project, files=files) == ImportCounts(prompts=1, responses=3, slates=2, rankings=2)
    slates = list(Slate.objects.order_by("pk"))
    assert [(slate.external_id, slate.criterion) for slate in slates] == [("i1", "quality"), ("i1", "style")]
    assert [list(slate.places.values_list("response", flat=True)) for slate in slates] == [
        list(Response.objects.order_by("pk").values_list("pk", flat=True))
    ] * 2
    assert [ranking.metadata for ranking in Ranking.objects.all()] == [
        {"criterion": "quality"}, {"criterion": "style"},
    ]  # fmt: skip
    assert [list(ranking.ratings or {}) for ranking in Ranking.objects.order_by("pk")] == [["quality"], ["style"]]
    more = [{"item_id": "i1", "annotator": "x", "ranks": [3, 2, 1]}]
    assert import_files(project, files=[put("more.jsonl", more)]) == ImportCounts(slates=1, rankings=1)
    assert import_files(project, files=files) == ImportCounts(skipped=3)


def test_a_pool_of_arguments_makes_a_prompt_a_topic_and_a_slate_an_item(project, put):
    annotations = [{"item_id": "i2", "annotator": "x", "ranks": [2, 1]}]
    files = [
        put("annotations.jsonl", annotations), put("items.jsonl", POOLED),
        put("arguments.jsonl", ARGUMENTS), put("topics.jsonl", TOPICS),
    ]  # fmt: skip
    counts = import_files(project, files=files)
    assert counts == ImportCounts(prompts=1, responses=3, slates=2, rankings=1)
    prompt = Prompt.objects.get()
    assert (prompt.external_id, prompt.metadata) == ("t", {"name": "n"})
    assert list(prompt.responses.values_list("external_id", flat=True)) == ["a1", "a2", "a3"]
    places = Slate.objects.get(external_id="i2").places.values_list("response__external_id", flat=True)
    assert list(places) == ["a3", "a1"]
    assert texts_by_tier(Ranking.objects.get()) == [["Because 1."], ["Because 3."]]
    assert import_files(project, files=files) == ImportCounts(skipped=7)


def test_two_topics_with_the_same_prompt_share_it(project, put):
    topics = [{"topic": name, "name": name, "prompt": "Why?"} for name in ("t", "u")]
    arguments = [{"argument_id": f"{t}{n}", "topic": t, "text": "x"} for t in "tu" for n in (1, 2)]
    items = [{"item_id": t, "topic": t, "response_ids": [f"{t}1", f"{t}2"], "part": 1} for t in "tu"]
    files = [put("i.jsonl", items), put("a.jsonl", arguments), put("t.jsonl", topics)]
    assert import_files(project, files=files) == ImportCounts(prompts=1, responses=4, slates=2, skipped=1)
    assert import_files(project, files=files) == ImportCounts(skipped=8)


# Importing again


PAIR = {"id": "x", "prompt": "Q", "chosen": "A", "rejected": "B", "n": 1}
RESPONSES = {"id": "x", "prompt": "Q", "responses": TWO, "n": 1}
PROMPT = {"id": "x", "prompt": "Q", "reference": "r", "n": 1}


@pytest.mark.parametrize(
    ("row", "change", "field"),
    [
        (PROMPT, {"prompt": "other"}, "prompt"),
        (PROMPT, {"reference": "other"}, "reference"),
        (PROMPT, {"n": 2}, "metadata"),
        (RESPONSES, {"prompt": "other"}, "prompt"),
        (RESPONSES, {"responses": TWO[::-1]}, "responses"),
        (RESPONSES, {"n": 2}, "metadata"),
        (PAIR, {"prompt": "other"}, "prompt"),
        (PAIR, {"chosen": "other"}, "responses"),
        (PAIR, {"chosen": "B", "rejected": "A"}, "chosen"),
        (PAIR, {"annotator": "other"}, "chosen"),
        (PAIR, {"n": 2}, "chosen"),
    ],
)
def test_an_id_that_comes_back_is_skipped_or_refused(project, put, row, change, field):
    import_files(project, files=[put("a.jsonl", [row])])
    before = count_rows()
    assert import_files(project, files=[put("a.jsonl", [row])]) == ImportCounts(skipped=1)
    with pytest.raises(ImportRefused) as refused:
        import_files(project, files=[put("b.jsonl", [{**row, "id": "new"}, {**row, **change}])])
    assert str(refused.value) == f"b.jsonl, line 2, field '{field}': the id 'x' is already there with other content"
    assert count_rows() == before


def test_rows_without_an_id_are_known_by_their_content(project, put):
    row = {"prompt": "Q", "chosen": "A", "rejected": "B"}
    file = put("p.jsonl", [row, {**row, "chosen": "C"}, row])
    counts = import_files(project, files=[file])
    assert counts == ImportCounts(prompts=1, responses=4, slates=2, rankings=2, skipped=1)
    assert import_files(project, files=[file]) == ImportCounts(skipped=3)


def test_another_ranking_of_the_same_annotator_is_refused(project, put):
    import_files(project, files=[
        put("i.jsonl", [ITEM]), put("a.jsonl", [{"item_id": "i1", "annotator": "x", "ranks": [1, 2, 3]}]),
    ])  # fmt: skip
    with pytest.raises(ImportRefused) as refused:
        import_files(project, files=[put("b.jsonl", [{"item_id": "i1", "annotator": "x", "ranks": [3, 2, 1]}])])
    assert str(refused.value) == ("b.jsonl, line 1, field 'ranks': 'x' has another ranking of item 'i1' already")


def test_a_dry_run_counts_and_stores_nothing(project, put):
    files = [
        put("i.jsonl", [ITEM]), put("a.jsonl", [{"item_id": "i1", "annotator": "x", "ranks": [1, 2, 3]}]),
    ]  # fmt: skip
    before = count_rows()
    expected = ImportCounts(prompts=1, responses=3, slates=1, rankings=1)
    assert import_files(project, files=files, dry_run=True) == expected
    assert count_rows() == before


def test_the_same_file_in_two_projects_is_stored_in_both(project, put):
    other = create_project(slug="q", name="Q", guidelines="g")
    file = put("p.jsonl", [PAIR])
    assert import_files(project, files=[file]) == import_files(other, files=[file])


# One transaction a file, in batches


def test_a_late_fault_in_one_file_leaves_nothing_of_any_file(project, put, monkeypatch):
    monkeypatch.setattr(importing, "BATCH_ROWS", 2)
    items = [{**ITEM, "item_id": f"i{n}"} for n in range(6)]
    annotations = [{"item_id": f"i{n}", "annotator": "x", "ranks": [1, 2, 3]} for n in range(6)]
    annotations.append({"item_id": "nobody", "annotator": "x", "ranks": [1, 2, 3]})
    with pytest.raises(ImportRefused) as refused:
        import_files(project, files=[put("items.jsonl", items), put("annotations.jsonl", annotations)])
    assert str(refused.value) == (
        "annotations.jsonl, line 7, field 'item_id': there is no item 'nobody'; "
        "import items.jsonl before or with this file"
    )
    assert set(count_rows().values()) == {0}


def test_a_fault_in_the_shape_of_any_file_stores_nothing_of_the_others(project, put):
    annotations = [{"item_id": "i1", "annotator": "x", "ranks": [1, "2", 3]}]
    before = count_rows()
    with pytest.raises(ImportRefused):
        import_files(project, files=[put("items.jsonl", [ITEM]), put("annotations.jsonl", annotations)])
    assert count_rows() == before


def test_progress_is_told_after_each_batch(project, put, monkeypatch):
    monkeypatch.setattr(importing, "BATCH_ROWS", 2)
    told: list[tuple[str, int]] = []
    rows = [{"prompt": f"Q{n}"} for n in range(5)]
    import_files(project, files=[put("p.jsonl", rows)], progress=lambda name, rows: told.append((name, rows)))
    assert told == [("p.jsonl", 2), ("p.jsonl", 4), ("p.jsonl", 5)]


def test_batches_are_bounded_in_bytes_too(project, put, monkeypatch):
    monkeypatch.setattr(importing, "BATCH_BYTES", 100)
    told: list[int] = []
    rows = [{"prompt": f"{n}" * 120} for n in range(3)]
    import_files(project, files=[put("p.jsonl", rows)], progress=lambda _name, rows: told.append(rows))
    assert told == [1, 2, 3]


def make_files(put, shape: str, count: int) -> list[ImportFile]:
    numbers = range(count)
    match shape:
        case "prompts":
            return [put("p.jsonl", [{"id": n, "prompt": f"Q{n}"} for n in numbers])]
        case "responses":
            return [put("r.jsonl", [{"id": n, "prompt": f"Q{n}", "responses": TWO} for n in numbers])]
        case "preferences":
            rows = [{"id": n, "prompt": f"Q{n}", "chosen": "A", "rejected": "B", "annotator": f"x{n}"} for n in numbers]
            return [put("p.jsonl", rows)]
        case "pool":
            items = [{"item_id": n, "topic": "t", "response_ids": ["a1", "a2"]} for n in numbers]
            return [put("t.jsonl", TOPICS), put("a.jsonl", ARGUMENTS), put("i.jsonl", items)]
    items = [{**ITEM, "item_id": str(n)} for n in numbers]
    marks = [{"item_id": str(n), "annotator": f"x{n}", "ranks": [1, 2, 3]} for n in numbers]
    return [put("i.jsonl", items), put("a.jsonl", marks)]


@pytest.mark.parametrize("shape", ["prompts", "responses", "preferences", "pool", "annotations"])
@pytest.mark.parametrize("again", [False, True], ids=["first time", "again"])
def test_queries_do_not_grow_with_the_rows_of_a_batch(put, shape, again):
    """SQLite takes 999 parameters a statement, so 60 rows stay within one INSERT of each table."""
    taken = []
    for count in (10, 60):
        project = create_project(slug=f"p{count}", name="P", guidelines="g", overlap=1)
        files = make_files(put, shape, count)
        if again:
            import_files(project, files=files)
        with CaptureQueriesContext(connection) as queries:
            import_files(project, files=files)
        taken.append(len(queries))
    assert taken[1] <= taken[0] + 8


# Faults of files


def deep(levels: int) -> str:
    return "[" * levels + "]" * levels


GOOD = '{"prompt": "Q"}\n'
NO_JSON = "not valid JSON: "


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", "", "a.jsonl: the file is empty: it has no rows"),
        ("a.jsonl", " \n\n", "a.jsonl: the file is empty: it has no rows"),
        ("a.json", "[]", "a.json: the file is empty: it has no rows"),
        ("a.csv", "prompt\n", "a.csv: the file is empty: it has no rows"),
        ("a.jsonl", GOOD + "{", f"a.jsonl, line 2: {NO_JSON}Expecting property name enclosed in double quotes (column 2)"),
        ("a.jsonl", GOOD + "[1]\n", "a.jsonl, line 2: the row is a list, not an object with named fields"),
        ("a.jsonl", GOOD + "\n" + '{"prompt": "\x00"}', f"a.jsonl, line 3: {NO_JSON}Invalid control character at (column 13)"),
        ("a.jsonl", '{"prompt": "\\u0000"}', "a.jsonl, line 1, field 'prompt': it holds a NUL character, which cannot be stored"),
        ("a.jsonl", '{"prompt": "x", "e": ["\\ud83d"]}', "a.jsonl, line 1, field 'e': it holds half of a surrogate pair (U+D83D), which is no character"),
        ("a.jsonl", '{"prompt": "x", "e": {"\\ud83d": 1}}', "a.jsonl, line 1, field 'e': it holds half of a surrogate pair (U+D83D), which is no character"),
        ("a.jsonl", '{"prompt": "x", "\\ud83d": 1}', "a.jsonl, line 1, field '\\ud83d': its name holds half of a surrogate pair (U+D83D), which is no character"),
        ("a.jsonl", '{"prompt": "x", "e": NaN}', "a.jsonl, line 1: NaN is no JSON; leave the value out or use null"),
        ("a.jsonl", '{"prompt": "x", "e": -Infinity}', "a.jsonl, line 1: -Infinity is no JSON; leave the value out or use null"),
        ("a.jsonl", '{"prompt": "x", "e": [1e999]}', "a.jsonl, line 1, field 'e': NaN and Infinity cannot be stored; leave the value out or use null"),
        ("a.jsonl", '{"prompt": "x", "prompt": "y"}', "a.jsonl, line 1: the name 'prompt' is given twice in one object"),
        ("a.jsonl", '{"prompt": "x", "e": ' + deep(51) + "}", "a.jsonl, line 1, field 'e': it is nested deeper than 50"),
        ("a.jsonl", '{"prompt": "x", "e": ' + deep(100_000) + "}", "a.jsonl, line 1: it is nested deeper than 50"),
        ("a.json", '[{"prompt": "x", "e": ' + deep(100_000) + "}]", "a.json, line 1: it is nested deeper than 50"),
        ("a.jsonl", GOOD.encode() + b'{"prompt": "\xe9"}', "a.jsonl, line 2: not UTF-8 (byte 13 of the line is 0xe9)"),
        ("a.json", b'[{"prompt": "x"},\n{"prompt": "\xe9"}]', "a.json, line 2: not UTF-8 (byte 0xe9)"),
        ("a.csv", b"prompt\nx\n\xe9\n", "a.csv, line 3: not UTF-8 (byte 1 of the line is 0xe9)"),
        ("a.jsonl", GOOD.encode("utf-16"), "a.jsonl: the file is UTF-16; save it as UTF-8"),
        ("a.csv", "prompt\n".encode("utf-32"), "a.csv: the file is UTF-32; save it as UTF-8"),
        ("a.json", '[{"prompt": "x"},\n{"prompt": }]', f"a.json, line 2: {NO_JSON}Expecting value"),
        ("a.json", '[{"prompt": "x"}\n', f"a.json, line 2: {NO_JSON}expected ',', the file ends"),
        ("a.json", '[{"prompt": "x"} {"prompt": "y"}]', f"a.json, line 1: {NO_JSON}expected ',', found '{{'"),
        ("a.json", '[{"prompt": "x"},]', f"a.json, line 1: {NO_JSON}a comma before the end of the array"),
        ("a.json", '[{"prompt": "x"}]\nx', f"a.json, line 2: {NO_JSON}there is more after the end of the array"),
        ("a.json", '[{"prompt": "x"}, 7]', "a.json, line 1: the row is a number, not an object with named fields"),
        ("a.json", '[{"prompt": "x', f"a.json, line 1: {NO_JSON}Unterminated string starting at"),
        ("a.gz", b"plain", "a.gz: this is not a gzip file, though its name says so"),
        ("a.jsonl.gz", gzip.compress(GOOD.encode() * 99, mtime=0)[:-9], "a.jsonl.gz: the gzip data is damaged: Compressed file ended before the end-of-stream marker was reached"),
        ("a.parquet", b"plain text", "a.parquet: this is not a Parquet file, though its name says so"),
        ("a.txt", b"plain text", "a.txt: its kind is not known; use .jsonl, .json, .csv or .parquet (the text kinds also with .gz)"),
        ("a.csv", "prompt,prompt\nx,y\n", "a.csv, line 1: the header names the column 'prompt' twice"),
        ("a.csv", "prompt,\nx,y\n", "a.csv, line 1: a column of the header has no name"),
        ("a.csv", "prompt,b\nx,y\n\nx\n", "a.csv, line 4: the row has 1 cells, the header has 2 columns"),
        ("a.csv", 'prompt\n"x"y\n', "a.csv, line 2: not valid CSV: ',' expected after '\"'"),
        ("a.csv", 'prompt\nok\n"x\n', "a.csv, line 3: not valid CSV: unexpected end of data"),
        ("a.csv", "prompt\nx\x00\n", "a.csv, line 2, field 'prompt': it holds a NUL character, which cannot be stored"),
        ("a.csv", "prompt,metadata\nx,{\n", "a.csv, line 2, field 'metadata': the cell is not valid JSON: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"),
        ("a.csv", 'prompt,metadata\nx,{"a": NaN}\n', "a.csv, line 2, field 'metadata': NaN is no JSON; leave the value out or use null"),
    ],
)  # fmt: skip
def test_a_broken_file_is_refused_with_its_place(project, put, name, content, message):
    before = count_rows()
    with pytest.raises(ImportRefused) as refused:
        import_files(project, files=[put(name, content)], format="prompts")
    assert str(refused.value) == message
    assert count_rows() == before


def test_lines_rows_and_elements_over_16_mib_are_refused(project, put, monkeypatch):
    monkeypatch.setattr(import_readers, "ROW_LIMIT", 100_000)
    long = json.dumps({"prompt": "x" * 200_000})
    texts = {
        "a.jsonl": (GOOD + long, "a.jsonl, line 2: the line is longer than 16 MiB"),
        "a.json": (f"[{long}]", "a.json, line 1: the element is longer than 16 MiB"),
        "a.csv": ("prompt\n" + '"' + "x\n" * 90_000, "a.csv, line 2: the row is longer than 16 MiB; is a quote left open?"),
    }  # fmt: skip
    for name, (text, message) in texts.items():
        with pytest.raises(ImportRefused) as refused:
            import_files(project, files=[put(name, text)])
        assert str(refused.value) == message


def test_a_line_of_50_mb_is_never_held_whole(put):
    import tracemalloc

    file = put("a.jsonl", b'{"prompt": "' + b"x" * 50_000_000 + b'"}')
    tracemalloc.start()
    try:
        with pytest.raises(ImportRefused, match="longer than 16 MiB"):
            list(import_readers.read_rows(file))
        _now, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 40_000_000


def test_gzip_bombs_are_refused(project, put, monkeypatch):
    row = b'{"prompt": "x"' + b" " * 8_000_000 + b"}\n"
    bomb = put("a.jsonl.gz", gzip.compress(row * 10))
    with pytest.raises(ImportRefused) as refused:
        list(import_readers.read_rows(bomb))
    assert str(refused.value) == "a.jsonl.gz: it unpacks to more than 1000 times its size"
    monkeypatch.setattr(import_readers, "UNPACKED_LIMIT", 1_000_000)
    with pytest.raises(ImportRefused, match="it unpacks to more than 0 GiB"):
        list(import_readers.read_rows(bomb))


def test_a_missing_file_and_a_folder_are_refused(project, tmp_path):
    for path, reason in ((tmp_path / "none.jsonl", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ImportRefused) as refused:
            import_files(project, files=[ImportFile("a.jsonl", path)])
        assert str(refused.value) == f"a.jsonl: cannot be read: {reason}"


def test_parquet_faults_name_the_row(project, tmp_path):
    def write(columns: dict[str, Any]) -> ImportFile:
        pq.write_table(pa.table(columns), tmp_path / "a.parquet")
        return ImportFile("a.parquet", tmp_path / "a.parquet")

    faults = {
        "a.parquet, line 2, field 'prompt': it holds binary data, which JSON does not know": {
            "question": ["x", "y"], "prompt": pa.array([None, b"x"]),
        },
        "a.parquet, line 2, field 's': NaN and Infinity cannot be stored; leave the value out or use null": {
            "prompt": ["x", "y"], "s": [1.0, float("nan")],
        },
        "a.parquet, line 1, field 'prompt': it must be text or a list of messages, not a number": {"prompt": [1]},
        "a.parquet: the file is empty: it has no rows": {"prompt": pa.array([], pa.string())},
    }  # fmt: skip
    for message, columns in faults.items():
        with pytest.raises(ImportRefused) as refused:
            import_files(project, files=[write(columns)])
        assert str(refused.value) == message
    (tmp_path / "a.parquet").write_bytes(b"PAR1" + b"x" * 40)
    with pytest.raises(ImportRefused, match=r"^a\.parquet: not a readable Parquet file: "):
        import_files(project, files=[ImportFile("a.parquet", tmp_path / "a.parquet")])


# Faults of rows

USER = [message("user", "Q")]


@pytest.mark.parametrize(
    ("row", "field", "reason"),
    [
        ({"prompt": ""}, "prompt", "it is empty"),
        ({"prompt": " \n"}, "prompt", "it is empty"),
        ({"prompt": None}, "prompt", "it is missing"),
        ({"prompt": 5}, "prompt", "it must be text or a list of messages, not a number"),
        ({"prompt": []}, "prompt", "it must be text or a list of messages, not empty"),
        ({"prompt": ["x"]}, "prompt", "message 1 must be an object of role and content, not text"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "messages", "the role of message 1 is 'bot', not system, user, assistant or tool"),
        ({"messages": [{"content": "x"}]}, "messages", "the role of message 1 is null, not system, user, assistant or tool"),
        ({"messages": [{"from": "human", "value": "x"}]}, "messages", "message 1 has 'from'; a message has role and content only"),
        ({"messages": [message("user", "x") | {"content": ["x"]}]}, "messages", "the content of message 1 must be text, not a list"),
        ({"messages": [*USER, message("system", "x")]}, "messages", "message 2 is a system message, which may only come first"),
        ({"messages": [*USER, message("assistant", "x")]}, "messages", "the last turn must be the user's, where a response is wanted; it is the assistant's"),
        ({"messages": [message("system", "x")]}, "messages", "the last turn must be the user's, where a response is wanted; it is the system's"),
        ({"messages": [message("system", "x"), *USER], "system": "y"}, "system", "the messages have a system message already"),
        ({"prompt": "x", "system": 1}, "system", "it must be text, not a number"),
        ({"prompt": "x", "id": True}, "id", "it must be text or a whole number, not true or false"),
        ({"prompt": "x", "id": ""}, "id", "it must be text or a whole number, not empty"),
        ({"prompt": "x", "id": "i" * 201}, "id", "it is longer than 200 characters"),
        ({"prompt": "x", "metadata": [1]}, "metadata", "it must be an object, not a list"),
        ({"prompt": "x", "metadata": {"a": 1}, "a": 2}, "a", "it stands both in metadata and beside it"),
        ({"prompt": "x", "import_rows": {}}, "import_rows", "this name is kept for the importer"),
        ({"prompt": "x", "verifier": "math"}, "verifier", "the cell is not valid JSON: Expecting value: line 1 column 1 (char 0)"),
        ({"prompt": "x", "verifier": {"answer": 4}}, "verifier", 'it must be an object with a "kind", such as {"kind": "math", "answer": "4"}'),
        ({"prompt": "x", "reference": 4}, "reference", "it must be text, not a number"),
        ({"prompt": "x", "responses": ["a"]}, "responses", "a slate needs 2 to 9 responses, this row has 1"),
        ({"prompt": "x", "responses": []}, "responses", "a slate needs 2 to 9 responses, this row has 0"),
        ({"prompt": "x", "responses": ["a"] * 10}, "responses", "a slate needs 2 to 9 responses, this row has 10"),
        ({"prompt": "x", "responses": None}, "responses", "it is missing"),
        ({"prompt": "x", "responses": "ab"}, "responses", "it must be a list, not text"),
        ({"prompt": "x", "responses": ["a", 1]}, "responses", "response 2 must be text or an object, not a number"),
        ({"prompt": "x", "responses": ["a", {}]}, "responses", "text of response 2: it is missing"),
        ({"prompt": "x", "responses": ["a", {"text": 1.5}]}, "responses", "text of response 2: it must be text, not a number"),
        ({"prompt": "x", "responses": ["a", {"text": "b", "source": " "}]}, "responses", "source of response 2: it is empty"),
        ({"prompt": "x", "responses": ["a", {"text": "b", "source": "s" * 201}]}, "responses", "source of response 2: it is longer than 200 characters"),
        ({"prompt": "x", "responses": ["a", {"text": "b", "role": "user"}]}, "responses", "role of response 2: it must be assistant"),
        ({"prompt": "x", "responses": [{"id": "k", "text": "a"}, {"id": "k", "text": "b"}]}, "responses", "two responses have the id 'k'"),
        ({"id": "i" * 199, "prompt": "x", "responses": ["a", "b"]}, "id", "row id and response id together are longer than 199 characters"),
        ({"prompt": "x", "chosen": "a", "rejected": None}, "rejected", "it is missing"),
        ({"prompt": "x", "chosen": "a", "rejected": 1}, "rejected", "it must be text or a list of messages, not a number"),
        ({"prompt": "x", "chosen": "a", "rejected": [message("assistant", "b")]}, "rejected", "chosen and rejected must both be text or both be messages"),
        ({"prompt": "x", "chosen": USER, "rejected": USER}, "chosen", "the last message must be the assistant's; it is the user's"),
        ({"prompt": "x", "chosen": [*USER, message("assistant", "a")], "rejected": [message("assistant", "b")]}, "chosen", "its messages before the reply are not those of the prompt"),
        ({"chosen": "abc", "rejected": "xyz"}, "prompt", "it is missing, and chosen and rejected do not start with the same words"),
        ({"chosen": "a b", "rejected": "a b"}, "prompt", "it is missing, and chosen and rejected do not start with the same words"),
        ({"chosen": [message("assistant", "a")], "rejected": [message("assistant", "b")]}, "prompt", "it is missing, and chosen and rejected do not start with it"),
        ({"chosen": [*USER, message("assistant", "a")], "rejected": [message("user", "R"), message("assistant", "a")]}, "rejected", "chosen and rejected differ before the last reply, so they share no prompt"),
        ({"prompt": "x", "chosen": "a", "rejected": "b", "annotator": ""}, "annotator", "it must be a name, not empty"),
        ({"prompt": "x", "chosen": "a", "rejected": "b", "annotator": "n" * 151}, "annotator", "it is longer than 150 characters"),
        ({"item_id": "i", "topic": "t", "response_ids": ["a"]}, "response_ids", "a slate needs 2 to 9 responses, this row has 1"),
        ({"item_id": "i", "topic": "t", "response_ids": ["a", "a"]}, "response_ids", "it names 'a' twice"),
        ({"item_id": "i", "topic": "t", "response_ids": ["a", 2]}, "response_ids", "it must be a list of ids (text)"),
        ({"item_id": "i", "topic": "t", "response_ids": ["a", "b"]}, "topic", "there is no topic 't'; import topics.jsonl with this file"),
        ({"argument_id": "a", "topic": "t", "text": "x"}, "topic", "there is no topic 't'; import topics.jsonl with this file"),
        ({"argument_id": "a", "topic": "t"}, "text", "it is missing"),
        ({"item_id": "i", "ranks": [1, 2, 3]}, "annotator", "it is missing"),
        ({"annotator": "x", "ranks": [1, 2, 3]}, "item_id", "it is missing"),
        ({"item_id": "i", "annotator": "x", "ranks": "1,2"}, "ranks", "it must be a list of positive whole numbers, not text"),
        ({"item_id": "i", "annotator": "x", "ranks": None}, "ranks", "it is missing"),
        ({"item_id": "i", "annotator": "x", "ranks": [1, 0]}, "ranks", "it must be a list of positive whole numbers (1 is best); 0 is not"),
        ({"item_id": "i", "annotator": "x", "ranks": [1, True]}, "ranks", "it must be a list of positive whole numbers (1 is best); true is not"),
        ({"item_id": "i", "annotator": "x", "ranks": [1, 1.0]}, "ranks", "it must be a list of positive whole numbers (1 is best); 1.0 is not"),
        ({"item_id": "i", "annotator": "x", "ranks": [1, 2], "ratings": [1]}, "ratings", "'overall' must be a list of 2 numbers, one for each response"),
        ({"item_id": "i", "annotator": "x", "ranks": [1, 2], "ratings": {"c": [1, True]}}, "ratings", "'c' holds something that is not a number"),
        ({"item_id": "i", "annotator": "x", "ranks": [1, 2], "rationale": 1}, "rationale", "it must be text, not a number"),
        ({"item_id": "i", "annotator": "x", "ranks": [1, 2], "criterion": "c" * 101}, "criterion", "it is longer than 100 characters"),
    ],
)  # fmt: skip
def test_a_bad_row_is_refused_with_its_field(project, put, row, field, reason):
    before = count_rows()
    with pytest.raises(ImportRefused) as refused:
        import_files(project, files=[put("a.jsonl", [row])])
    assert str(refused.value) == f"a.jsonl, line 1, field '{field}': {reason}"
    assert (refused.value.file, refused.value.line, refused.value.field) == ("a.jsonl", 1, field)
    assert count_rows() == before


@pytest.mark.parametrize(
    ("rows", "field", "reason"),
    [
        ([{"id": 1, "prompt": "x"}, {"id": "1", "prompt": "x"}], "id", "'1' was on line 1 already"),
        ([ITEM, ITEM], "item_id", "'i1' was on line 1 already"),
        ([PAIR, PAIR], "id", "'x' was on line 1 already"),
        ([POOLED[0], POOLED[0]], "item_id", "'i1' was on line 1 already"),
        ([ARGUMENTS[0], ARGUMENTS[0]], "argument_id", "'a1' was on line 1 already"),
        ([{"item_id": "i1", "annotator": "x", "ranks": [1, 2]}, {"item_id": "i1", "annotator": "x", "ranks": [2, 1]}], "annotator", "'x' has ranked item 'i1' on line 1 already"),
        ([{"item_id": "i1", "annotator": "x", "criterion": "c", "ranks": [1, 2]}] * 2, "annotator", "'x' has ranked item 'i1', criterion 'c' on line 1 already"),
        ([{"prompt": "x"}, {"prompt": "y", "responses": ["a", "b"]}], "responses", "the file is read as prompts, but this row has more; choose the format it has"),
    ],
)  # fmt: skip
def test_rows_that_do_not_go_together_are_refused(project, put, rows, field, reason):
    before = count_rows()
    with pytest.raises(ImportRefused) as refused:
        import_files(project, files=[put("a.jsonl", rows)])
    assert str(refused.value) == f"a.jsonl, line 2, field '{field}': {reason}"
    assert count_rows() == before


def test_a_row_that_does_not_fit_what_is_stored_is_refused(project, put):
    files = [put("t.jsonl", TOPICS), put("g.jsonl", ARGUMENTS), put("i.jsonl", POOLED)]
    import_files(project, files=files)
    faults = [
        ({"item_id": "i1", "annotator": "x", "ranks": [1, 2, 3]}, "field 'ranks': item 'i1' has 2 responses, this row has 3 ranks"),
        ({"item_id": "z", "annotator": "x", "ranks": [1, 2]}, "field 'item_id': there is no item 'z'; import items.jsonl before or with this file"),
        ({"item_id": "i9", "topic": "t", "response_ids": ["a1", "zz"]}, "field 'response_ids': topic 't' has no argument 'zz'; import arguments.jsonl with this file"),
        ({"item_id": "i1", "topic": "t", "response_ids": ["a2", "a1"]}, "field 'response_ids': the id 'i1' is already there with other content"),
        ({"argument_id": "a1", "topic": "t", "text": "other"}, "field 'argument_id': the id 'a1' is already there with other content"),
        ({"id": "k", "prompt": "Why?", "reference": "r"}, None),
        ({"id": "l", "prompt": "Why?", "reference": "s"}, "field 'reference': the same prompt is already there as 't' with another reference"),
    ]  # fmt: skip
    for row, message in faults:
        if message is None:
            import_files(project, files=[put("a.jsonl", [row])])
            continue
        with pytest.raises(ImportRefused) as refused:
            import_files(project, files=[put("a.jsonl", [row])])
        assert str(refused.value) == f"a.jsonl, line 1, {message}"


def test_an_unknown_shape_lists_what_is_accepted(project, put):
    with pytest.raises(ImportRefused) as refused:
        import_files(project, files=[put("gold.jsonl", [{"item_id": "i", "gold": None}])])
    assert str(refused.value).startswith(
        "gold.jsonl, line 1: the fields (gold, item_id) are not those of a known format; accepted are rows with\n"
        "  prompts: prompt (or messages, question), optionally id, system, metadata, reference, verifier\n"
    )
    with pytest.raises(ImportRefused, match="are not those of the format annotated-items; accepted are"):
        import_files(project, files=[put("p.jsonl", [PAIR])], format="annotated-items")
    with pytest.raises(ImportRefused, match=r"^t\.jsonl, line 1: rows of topic and prompt alone may be topics or"):
        import_files(project, files=[put("t.jsonl", TOPICS)])
    assert import_files(project, files=[put("t.jsonl", TOPICS)], format="annotated-items").prompts == 1
    with pytest.raises(ValueError, match="Unknown format 'xml'; use one of auto, prompts"):
        import_files(project, files=[put("t.jsonl", TOPICS)], format="xml")
    with pytest.raises(ValueError, match="Unknown kind of annotator 'person'"):
        import_files(project, files=[put("t.jsonl", TOPICS)], annotator_kind="person")


# The command


def run(*args: str) -> str:
    out = io.StringIO()
    call_command("import_data", *args, stdout=out, stderr=io.StringIO())
    return out.getvalue()


def test_the_command_makes_the_project_and_ends_in_json(put):
    path = str(put("p.jsonl", [PAIR]).path)
    last = run("--project", "new", "--create", "--json", path).splitlines()[-1]
    assert json.loads(last) == {"prompts": 1, "responses": 2, "slates": 1, "rankings": 1, "skipped": 0}
    project = Project.objects.get()
    assert (project.slug, project.name) == ("new", "new")
    assert Guidelines.objects.get().version == 1
    again = run("--project", "new", "--create", path)
    assert again == ("Imported 0 prompts, 0 responses, 0 slates and 0 rankings; 1 rows were there already.\n")


def test_the_command_leaves_no_project_behind_a_failed_or_dry_import(put):
    bad = str(put("bad.jsonl", [PAIR, {**PAIR, "id": "y", "chosen": 1}]).path)
    good = str(put("good.jsonl", [PAIR]).path)
    with pytest.raises(CommandError) as failed:
        run("--project", "new", "--create", good, bad)
    assert str(failed.value) == (
        "bad.jsonl, line 2, field 'chosen': it must be text or a list of messages, not a number"
    )
    assert failed.value.returncode == 1
    assert run("--project", "new", "--create", "--dry-run", good).startswith("Would import 1 prompts")
    with pytest.raises(CommandError, match=r"^There is no project 'new'; add --create to make it\.$"):
        run("--project", "new", good)
    with pytest.raises(CommandError, match="'no slug!' cannot name a project"):
        run("--project", "no slug!", "--create", good)
    assert not Project.objects.exists()
    assert count_rows()["Prompt"] == 0


def test_files_of_the_same_name_are_told_apart_in_messages(put, tmp_path):
    paths = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        paths.append(str(put(f"{folder}/p.jsonl", [PAIR] if folder == "a" else [{"x": 1}]).path))
    with pytest.raises(CommandError) as failed:
        run("--project", "new", "--create", *paths)
    assert str(failed.value).startswith(f"{paths[1]}, line 1: ")


def test_counts_have_the_names_of_the_contract():
    assert list(asdict(ImportCounts())) == ["prompts", "responses", "slates", "rankings", "skipped"]
