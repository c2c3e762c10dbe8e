"""What each kind of task takes and refuses, by itself: no database, positions only."""

from __future__ import annotations

from dataclasses import replace

import pytest

from annotation.domain.judgement import Highlight, Judgement, RankingRefused, check_judgement, complete_tiers
from annotation.domain.tasks import Flag, Scale, Task

RANKING = Task(
    kind="ranking",
    scales=(),
    flags=(Flag("unsafe", "unsafe"),),
    rationale="optional",
    rationale_min=1,
    highlights=True,
    corrections="any",
)
HELPFUL = Scale(name="Helpfulness", points={0: "not", 1: "", 2: "fully"})
CLEAR = Scale(name="Clarity", points={1: "unclear", 2: "clear"})


def problems(judgement: Judgement, *, task: Task = RANKING, count: int = 3, shown: str = "some text") -> list[str]:
    try:
        check_judgement(complete_tiers(judgement, task=task), task=task, count=count, shown=lambda _position: shown)
    except RankingRefused as refusal:
        return refusal.problems
    return []


def of_kind(kind: str, **more: object) -> Task:
    return replace(RANKING, kind=kind, **more)  # type: ignore[arg-type]


MISSING_PAIR = "Say which response is better, and by how much."
NO_STRENGTH = "This project does not ask how much better a response is."
CONTRADICTION = "The order and its strength contradict each other."
NOT_FITTING = "The answer does not fit this slate. Reload the page."


@pytest.mark.parametrize(
    ("kind", "judgement", "expected"),
    [
        ("ranking", Judgement(tiers=[[2], [0, 1]]), []),
        ("ranking", Judgement(tiers=[[2]]), ["Responses A, B are not placed."]),
        ("ranking", Judgement(tiers=[[2], [0]]), ["Response B is not placed."]),
        ("ranking", Judgement(), ["Responses A, B, C are not placed."]),
        ("ranking", Judgement(all_bad=True), []),
        ("ranking", Judgement(tiers=[[2]], all_bad=True), ["Responses A, B are not placed."]),
        ("ranking", Judgement(tiers=[[0], [1, 0], [2]]), ["A response stands in two tiers."]),
        ("ranking", Judgement(tiers=[[0, 1, 3]]), [NOT_FITTING]),
        ("ranking", Judgement(tiers=[[0, 1, 2], []]), [NOT_FITTING]),
        ("ranking", Judgement(tiers=[[0], [1], [2]], strength=1), [NO_STRENGTH]),
        ("best", Judgement(tiers=[[1], [0, 2]]), []),
        ("best", Judgement(tiers=[[1], [0], [2]]), ["Choose the best response."]),
        ("best", Judgement(tiers=[[0, 1], [2]]), ["Choose the best response."]),
        ("best", Judgement(), ["Choose the best response."]),
        ("best", Judgement(all_bad=True), []),
        ("best-worst", Judgement(tiers=[[1], [0], [2]]), []),
        ("best-worst", Judgement(tiers=[[1], [0, 2]]), ["Choose the best and the worst response."]),
        ("best-worst", Judgement(tiers=[[1], [0]]), ["Choose the best and the worst response."]),
        ("rating", Judgement(), []),
        ("rating", Judgement(tiers=[[0], [1], [2]]), ["This project asks for ratings, not for an order."]),
    ],
)  # fmt: skip
def test_three_responses(kind: str, judgement: Judgement, expected: list[str]) -> None:
    assert problems(judgement, task=of_kind(kind)) == expected


@pytest.mark.parametrize(
    ("kind", "judgement", "expected"),
    [
        ("pairwise", Judgement(strength=-3), []),
        ("pairwise", Judgement(strength=0), []),
        ("pairwise", Judgement(strength=2, tiers=[[1], [0]]), []),
        ("pairwise", Judgement(strength=2, tiers=[[0], [1]]), [CONTRADICTION]),
        ("pairwise", Judgement(strength=0, tiers=[[0], [1]]), [CONTRADICTION]),
        ("pairwise", Judgement(strength=4), [NOT_FITTING]),
        ("pairwise", Judgement(), [MISSING_PAIR]),
        ("pairwise", Judgement(tiers=[[0], [1]]), [MISSING_PAIR]),
        ("pairwise", Judgement(all_bad=True), []),
        ("pairwise-forced", Judgement(strength=0, tiers=[[1], [0]]), []),
        ("pairwise-forced", Judgement(strength=-1), []),
        ("pairwise-forced", Judgement(strength=0), [CONTRADICTION]),
        ("pairwise-forced", Judgement(strength=0, tiers=[[0, 1]]), [CONTRADICTION]),
        ("pairwise-forced", Judgement(), [MISSING_PAIR]),
    ],
)  # fmt: skip
def test_two_responses(kind: str, judgement: Judgement, expected: list[str]) -> None:
    assert problems(judgement, task=of_kind(kind), count=2) == expected


def test_a_strength_gives_the_tiers_that_follow_from_it() -> None:
    """Negative is for the left one; nothing but a seven-point 0 is a tie."""
    pair, forced = of_kind("pairwise"), of_kind("pairwise-forced")
    tiers = {s: complete_tiers(Judgement(strength=s), task=pair).tiers for s in (-3, -1, 0, 2)}
    assert tiers == {-3: [[0], [1]], -1: [[0], [1]], 0: [[0, 1]], 2: [[1], [0]]}
    assert complete_tiers(Judgement(strength=0), task=forced).tiers == []
    assert complete_tiers(Judgement(strength=1), task=forced).tiers == [[1], [0]]


def test_every_scale_is_asked_of_every_response_beside_any_kind() -> None:
    task = of_kind("ranking", scales=(HELPFUL, CLEAR))
    ordered = Judgement(tiers=[[0], [1], [2]], ratings={"Helpfulness": {0: 2, 2: 0}, "Clarity": {0: 1, 1: 2, 2: 2}})
    assert problems(ordered, task=task) == ["Helpfulness: not rated for B."]
    assert problems(Judgement(all_bad=True), task=task) == []
    off = replace(ordered, ratings={"Helpfulness": {0: 2, 1: 3, 2: 0}, "Clarity": {0: 1, 1: 1, 2: 1}})
    assert problems(off, task=task) == ["A rating is not on its scale. Reload the page."]
    unknown = replace(ordered, ratings=ordered.ratings | {"Taste": {0: 1}})
    assert "A rating is not on its scale. Reload the page." in problems(unknown, task=task)


def test_a_reason_is_asked_for_as_the_project_says() -> None:
    ranked = Judgement(tiers=[[0, 1, 2]])
    required = replace(RANKING, rationale="required", rationale_min=10)
    assert problems(replace(ranked, rationale="short"), task=required) == ["Give a reason of at least 10 characters."]
    assert problems(replace(ranked, rationale=" " * 20), task=required) == ["Give a reason of at least 10 characters."]
    assert problems(replace(ranked, rationale="long enough"), task=required) == []
    none = replace(RANKING, rationale="none")
    assert problems(replace(ranked, rationale="why"), task=none) == ["This project does not ask for a reason."]
    assert problems(replace(ranked, rationale="x" * 20_001)) == ["The reason is longer than 20000 characters."]
    for unstorable in ("a\x00b", "a\ud800b"):
        said = ["The reason holds characters that cannot be stored."]
        assert problems(replace(ranked, rationale=unstorable)) == said


def test_only_the_projects_flags_exist() -> None:
    ranked = Judgement(tiers=[[0, 1, 2]])
    assert problems(replace(ranked, flags={1: ["unsafe"]})) == []
    assert problems(replace(ranked, flags={1: ["rude"]})) == ["A flag is not one of this project's. Reload the page."]
    assert problems(replace(ranked, flags={3: ["unsafe"]})) == [NOT_FITTING]


def test_corrections_are_of_what_the_project_lets_be_corrected() -> None:
    ranked = Judgement(tiers=[[2], [0, 1]], corrections={2: "better", 0: "also"})
    assert problems(ranked) == []
    best = replace(RANKING, corrections="best")
    assert problems(ranked, task=best) == ["Only the best response is corrected here; take back the correction of A."]
    none = replace(RANKING, corrections="none")
    assert problems(ranked, task=none) == ["This project does not ask for corrections."]
    assert problems(replace(ranked, corrections={0: " \n"})) == ["The correction of A is empty."]
    said = ["The correction of B is longer than 200000 characters."]
    assert problems(replace(ranked, corrections={1: "x" * 200_001})) == said


@pytest.mark.parametrize(
    ("highlight", "fits"),
    [
        (Highlight(0, 5, 9, "text"), True),
        (Highlight(0, 0, 9, "some text", "all of it"), True),
        (Highlight(0, 5, 9, "Text"), False),
        (Highlight(0, 5, 5, ""), False),
        (Highlight(0, 5, 10, "text"), False),
        (Highlight(0, -4, 9, "text"), False),
    ],
)
def test_a_highlight_quotes_what_stands_there(highlight: Highlight, fits: bool) -> None:
    said = ["A highlight of A does not fit the text. Remove it and mark it again."]
    assert problems(Judgement(tiers=[[0, 1, 2]], highlights=[highlight])) == ([] if fits else said)


def test_highlights_count_code_points_and_stay_in_bounds() -> None:
    ranked, shown = Judgement(tiers=[[0, 1, 2]]), "a \N{GRINNING FACE} b"
    assert problems(replace(ranked, highlights=[Highlight(1, 2, 3, "\N{GRINNING FACE}")]), shown=shown) == []
    many = [Highlight(0, 0, 4, "some")] * 101
    assert problems(replace(ranked, highlights=many)) == ["There are more than 100 highlights."]
    said = ["This project does not ask for highlights."]
    assert problems(replace(ranked, highlights=many[:1]), task=replace(RANKING, highlights=False)) == said
    long = [Highlight(0, 0, 4, "some", "x" * 2_001)]
    assert problems(replace(ranked, highlights=long)) == ["A comment is longer than 2000 characters."]
