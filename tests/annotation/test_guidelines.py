"""Which version of the guidelines was read, and what changed between two texts."""

from __future__ import annotations

import random
import time

import pytest

from annotation.domain.changes import LEAST_LIKENESS, MOST_LINES, Change, compare_texts
from annotation.domain.guidelines import GuidelinesUnknown, guidelines_for, mark_read, unread_change
from annotation.domain.projects import publish_guidelines
from annotation.models import GuidelinesReading
from tests.annotation.factories import make_member, make_project


@pytest.mark.django_db
def test_a_newcomer_is_to_read_the_newest_version_whole() -> None:
    project = make_project()
    newest = publish_guidelines(project, text="Truth first.")
    member = make_member(project)
    assert unread_change(member) == (None, newest)
    assert guidelines_for(member) == newest


@pytest.mark.django_db
def test_who_has_read_the_newest_has_nothing_to_read() -> None:
    member = make_member(make_project())
    assert mark_read(member, version=1) is True
    assert unread_change(member) is None


@pytest.mark.django_db
def test_a_new_version_is_a_change_from_the_newest_one_read_and_until_then_one_judges_under_that() -> None:
    project = make_project()
    member = make_member(project)
    mark_read(member, version=1)
    publish_guidelines(project, text="Truth first.")
    third = publish_guidelines(project, text="Kindness first.")
    first = project.guidelines.get(version=1)
    assert unread_change(member) == (first, third)
    assert guidelines_for(member) == first
    mark_read(member, version=3)
    assert (unread_change(member), guidelines_for(member)) == (None, third)


@pytest.mark.django_db
def test_reading_twice_and_reading_an_older_one_again_change_nothing() -> None:
    project = make_project()
    publish_guidelines(project, text="Truth first.")
    member = make_member(project)
    assert [mark_read(member, version=version) for version in (2, 2, 1, 1)] == [True, False, True, False]
    assert unread_change(member) is None
    assert GuidelinesReading.objects.count() == 2


@pytest.mark.django_db
@pytest.mark.parametrize("version", [0, 2, -1, 10**30])
def test_a_version_that_is_not_there_cannot_be_read(version: int) -> None:
    member = make_member(make_project())
    with pytest.raises(GuidelinesUnknown):
        mark_read(member, version=version)
    assert not GuidelinesReading.objects.exists()


@pytest.mark.django_db
def test_a_project_without_guidelines_has_nothing_to_read() -> None:
    project = make_project()
    project.guidelines.all().delete()
    member = make_member(project)
    assert (unread_change(member), guidelines_for(member)) == (None, None)


def marked(old: str, new: str) -> str:
    """The changes in a line: "a [-b-]{+c+}", folded passages as "…"."""
    signs = {"same": "{}", "folded": "…", "removed": "[-{}-]", "added": "{{+{}+}}"}
    return "".join(signs[change.kind].format(change.text) for change in compare_texts(old, new=new))


def test_within_a_line_words_are_compared() -> None:
    assert marked("Facts and sums are right.\n", "Facts, quotations and sums are right.\n") == (
        "Facts{+, quotations+} and sums are right.\n"
    )


def test_neighbouring_words_change_together() -> None:
    assert marked("The quick brown fox", "The slow red fox") == "The [-quick brown-]{+slow red+} fox"


def test_scripts_without_spaces_are_compared_by_character() -> None:
    assert marked("先看事实是否正确。", "先看事实和引文是否正确。") == "先看事实{+和引文+}是否正确。"


def test_lines_with_little_in_common_are_exchanged_whole() -> None:
    old, new = "Be kind to people.\n", "Cite your source, name its year.\n"
    assert marked(old, new) == f"[-{old}-]{{+{new}+}}"
    assert 0 < LEAST_LIKENESS < 1


def test_what_is_far_from_every_change_is_folded_and_two_lines_beside_it_stay() -> None:
    lines = [f"line {number}\n" for number in range(20)]
    changes = compare_texts("".join(lines), new="".join([*lines[:10], "new line of ours\n", *lines[10:]]))
    assert [(change.kind, change.lines) for change in changes] == [
        ("folded", 8), ("same", 2), ("added", 1), ("same", 2), ("folded", 8),
    ]  # fmt: skip


def test_the_same_text_has_no_change_and_line_ends_do_not_count() -> None:
    assert compare_texts("a\r\nb\r\n", new="a\nb\n") == [Change("same", "a\nb\n")]
    assert compare_texts("", new="") == []
    assert compare_texts("", new="a") == [Change("added", "a")]
    assert compare_texts("a", new="") == [Change("removed", "a")]


def random_text(draw: random.Random) -> str:
    words = ["a", "b", "the", "好", ".", "\n", "\n\n", " ", "x" * 9, "\u2028", "\t"]
    return "".join(draw.choice(words) for _word in range(draw.randrange(60)))


def test_nothing_is_lost_of_either_text() -> None:
    draw = random.Random(3)
    for _round in range(500):
        old, new = random_text(draw), random_text(draw)
        changes = compare_texts(old, new=new)
        assert "".join(change.text for change in changes if change.kind != "added") == old
        assert "".join(change.text for change in changes if change.kind != "removed") == new
        assert all(change.text for change in changes)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("a\n" * 50_000, "b\n" + "a\n" * 40_000 + "c\n"),
        ("ab " * 33_000, "ba " * 33_000),
        ("\n".join(map(str, range(MOST_LINES))), "\n".join(map(str, range(MOST_LINES, 0, -1)))),
        ("".join(f"{n} {'a b ' * 400}\n" for n in range(60)), "".join(f"{n} {'b a c ' * 300}\n" for n in range(60))),
    ],
)
def test_long_texts_are_compared_in_bounded_time(old: str, new: str) -> None:
    """Each takes well under a tenth of a second; difflib alone would take minutes for the first."""
    start = time.process_time()
    changes = compare_texts(old, new=new)
    assert time.process_time() - start < 3
    assert "".join(change.text for change in changes if change.kind != "added") == old
