"""The practice round: what may be an example, what agrees with its answer, who is to practise, files of examples."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from annotation.domain.assigning import claim_slot
from annotation.domain.import_readers import ImportFile, ImportRefused
from annotation.domain.judgement import Judgement, RankingRefused
from annotation.domain.practice import (
    MOST_EXAMPLES,
    PracticeRefused,
    add_example,
    add_example_from_ranking,
    agrees,
    answer_example,
    examples_of,
    from_json,
    next_example,
    practice_due,
    practice_order,
    remove_example,
    shown_texts,
    turn,
)
from annotation.domain.practice_import import PracticeCounts, import_examples
from annotation.domain.ranking import submit_ranking
from annotation.domain.samples import create_assistant_project
from annotation.domain.tasks import task_of
from annotation.models import Membership, PracticeAnswer, PracticeExample, Project, Ranking, Slate
from tests.annotation.factories import make_member, make_project, make_slate

pytestmark = pytest.mark.django_db

ASKED = [{"role": "user", "content": "How many is 7 × 12 − 9?"}]
HELPFUL = {"name": "helpful", "points": {str(point): "" for point in range(5)}}


def project_of(task: str, *, scales: list[dict[str, Any]] | None = None) -> Project:
    project = make_project(slate_size=2 if task.startswith("pairwise") else 4)
    Project.objects.filter(pk=project.pk).update(task=task, scales=scales or [])
    project.refresh_from_db()
    return project


def add(project: Project, answer: Judgement, *, count: int = 3) -> PracticeExample:
    texts = [f"Text {number}" for number in range(count)]
    return add_example(project, messages=ASKED, responses=texts, answer=answer, explanation="The first adds up.")


def on_screen(judgement: Judgement, *, example: PracticeExample, annotator: Membership) -> Judgement:
    """A judgement in the example's own positions as this annotator would give it on screen."""
    order = practice_order(annotator, example=example)
    return turn(judgement, places=[order.index(place) for place in range(len(order))])


RANKED = Judgement(tiers=[[0], [1, 2], [3]])
RULES = [
    ("ranking", RANKED, Judgement(tiers=[[0], [1], [2], [3]]), True),  # a tie of the answer is told apart
    ("ranking", RANKED, Judgement(tiers=[[0, 1, 2], [3]]), True),  # a pair of the answer is tied
    ("ranking", RANKED, Judgement(tiers=[[0, 1, 2, 3]]), False),  # best and worst are not told apart
    ("ranking", RANKED, Judgement(tiers=[[1], [0], [2], [3]]), False),  # 0 before 1 is reversed
    ("ranking", RANKED, Judgement(tiers=[[0], [1, 2], [3]], all_bad=True), False),
    ("ranking", Judgement(tiers=[[0, 1]]), Judgement(tiers=[[1], [0]]), True),  # the answer orders nothing
    ("ranking", Judgement(all_bad=True), Judgement(all_bad=True), True),
    ("ranking", Judgement(all_bad=True), Judgement(tiers=[[0], [1]]), False),
    ("pairwise", Judgement(tiers=[[0], [1]], strength=-3), Judgement(tiers=[[0], [1]], strength=-1), True),
    ("pairwise", Judgement(tiers=[[0], [1]], strength=-3), Judgement(tiers=[[1], [0]], strength=1), False),
    ("pairwise", Judgement(tiers=[[0], [1]], strength=-1), Judgement(tiers=[[0, 1]], strength=0), False),
    ("pairwise", Judgement(tiers=[[0, 1]], strength=0), Judgement(tiers=[[0, 1]], strength=0), True),
    ("pairwise-forced", Judgement(tiers=[[1], [0]], strength=0), Judgement(tiers=[[1], [0]], strength=3), True),
    ("pairwise-forced", Judgement(tiers=[[1], [0]], strength=0), Judgement(tiers=[[0], [1]], strength=0), False),
    ("best", Judgement(tiers=[[0], [1, 2]]), Judgement(tiers=[[0], [1, 2]]), True),
    ("best", Judgement(tiers=[[0], [1, 2]]), Judgement(tiers=[[1], [0, 2]]), False),
    ("best-worst", Judgement(tiers=[[0], [1], [2]]), Judgement(tiers=[[0], [1], [2]]), True),
    ("best-worst", Judgement(tiers=[[0], [1], [2]]), Judgement(tiers=[[0], [2], [1]]), False),
    ("rating", Judgement(ratings={"helpful": {0: 3, 1: 0}}), Judgement(ratings={"helpful": {0: 4, 1: 1}}), True),
    ("rating", Judgement(ratings={"helpful": {0: 3, 1: 0}}), Judgement(ratings={"helpful": {0: 4, 1: 2}}), False),
    ("ranking", replace(RANKED, ratings={"helpful": {0: 4, 1: 2, 2: 2, 3: 0}}),
     replace(RANKED, ratings={"helpful": {0: 2, 1: 2, 2: 2, 3: 0}}), False),
    ("ranking", replace(RANKED, flags={3: ["unsafe"]}), replace(RANKED, rationale="D is unsafe."), True),
]  # fmt: skip


@pytest.mark.parametrize(("kind", "answer", "said", "expected"), RULES)
def test_when_a_try_agrees(kind: str, answer: Judgement, said: Judgement, expected: bool) -> None:
    task = task_of(project_of(kind, scales=[HELPFUL]))
    assert agrees(said, answer=answer, task=task) is expected


@pytest.mark.parametrize(
    ("kind", "answer", "count"),
    [
        ("ranking", Judgement(tiers=[[2], [0, 1]]), 3),
        ("pairwise", Judgement(strength=2), 2),
        ("pairwise", Judgement(strength=0), 2),
        ("pairwise-forced", Judgement(tiers=[[1], [0]], strength=0), 2),
        ("best", Judgement(tiers=[[2], [0, 1]]), 3),
        ("best-worst", Judgement(tiers=[[2], [0], [1]]), 3),
        ("rating", Judgement(ratings={"helpful": {0: 4, 1: 0, 2: 2}}), 3),
    ],
)
def test_the_answer_itself_agrees_in_whichever_order_it_is_shown(kind: str, answer: Judgement, count: int) -> None:
    project = project_of(kind, scales=[HELPFUL] if kind == "rating" else None)
    example = add(project, answer, count=count)
    orders = set()
    for _member in range(24):
        annotator = make_member(project)
        orders.add(tuple(practice_order(annotator, example=example)))
        right = on_screen(from_json(example.answer), example=example, annotator=annotator)
        tried = answer_example(annotator, example=example, judgement=right)
        assert tried.agrees
        assert from_json(tried.judgement) == from_json(example.answer)
        assert tried.judgement["order"] == practice_order(annotator, example=example)
    assert len(orders) > 1


def test_the_order_on_screen_is_drawn_anew_for_each_annotator_and_stays() -> None:
    project = make_project()
    example = add(project, RANKED, count=4)
    members = [make_member(project) for _number in range(12)]
    orders = [practice_order(member, example=example) for member in members]
    assert orders == [practice_order(member, example=example) for member in members]
    assert all(sorted(order) == [0, 1, 2, 3] for order in orders)
    assert len({tuple(order) for order in orders}) > 4
    for order in orders:
        assert shown_texts(example, order=order) == [f"Text {place}" for place in order]


def test_what_models_say_of_themselves_is_masked_in_practice_too() -> None:
    project = make_project()
    Project.objects.filter(pk=project.pk).update(mask_patterns=["As Qwen"])
    example = add_example(
        project, messages=ASKED, responses=["As Qwen, I say 75.", "84"], answer=Judgement(tiers=[[0], [1]]),
        explanation="It adds up.",
    )  # fmt: skip
    example.refresh_from_db()
    assert "Qwen" not in "".join(shown_texts(example, order=[0, 1]))


def test_an_incomplete_try_is_refused_as_a_ranking_would_be_and_nothing_is_kept() -> None:
    project = make_project()
    example, annotator = add(project, RANKED, count=4), make_member(project)
    with pytest.raises(RankingRefused) as refused:
        answer_example(annotator, example=example, judgement=Judgement(tiers=[[0], [1], [2]]))
    assert refused.value.problems == ["Response D is not placed."]
    assert not PracticeAnswer.objects.exists()


def test_a_newcomer_practises_until_every_example_was_tried_or_they_have_ranked() -> None:
    project = make_project(overlap=2)
    make_slate(project)
    newcomer, veteran = make_member(project), make_member(project)
    assert not practice_due(newcomer)
    examples = [add(project, Judgement(tiers=[[0], [1], [2]])) for _number in range(2)]
    assert (practice_due(newcomer), next_example(newcomer)) == (True, examples[0])
    for number, example in enumerate(examples):
        tiers = [[2], [1], [0]] if number else [[0], [1], [2]]  # right or wrong, it was tried
        answer_example(newcomer, example=example, judgement=Judgement(tiers=tiers))
        answer_example(newcomer, example=example, judgement=Judgement(tiers=tiers))
    assert (practice_due(newcomer), next_example(newcomer)) == (False, None)
    assert PracticeAnswer.objects.count() == 4

    lease = claim_slot(veteran)
    assert lease is not None
    assert practice_due(veteran)
    submit_ranking(veteran, token=lease.token, judgement=RANKED)
    assert not practice_due(veteran)
    assert next_example(veteran) == examples[0]  # it may be tried all the same


def test_the_next_example_is_the_one_after_and_then_those_passed_over() -> None:
    project = make_project()
    examples = [add(project, Judgement(tiers=[[0], [1], [2]])) for _number in range(3)]
    annotator = make_member(project)
    answer_example(annotator, example=examples[1], judgement=Judgement(tiers=[[0], [1], [2]]))
    assert next_example(annotator, after=2) == examples[2]
    answer_example(annotator, example=examples[2], judgement=Judgement(tiers=[[0], [1], [2]]))
    assert next_example(annotator, after=3) == examples[0]


def test_a_removed_example_is_out_of_the_round_and_its_number_is_not_given_again() -> None:
    project = make_project()
    first = add(project, Judgement(tiers=[[0], [1], [2]]))
    remove_example(first)
    assert examples_of(project) == []
    assert not practice_due(make_member(project))
    assert add(project, Judgement(tiers=[[0], [1], [2]])).number == 2


def test_an_example_that_does_not_fit_a_changed_task_rests_until_it_does() -> None:
    project = make_project()
    example = add(project, Judgement(tiers=[[0], [1, 2]], flags={1: ["broken"]}))
    for task, scales, fitting in [
        ("best", [], True), ("best-worst", [], False), ("rating", [HELPFUL], False), ("ranking", [HELPFUL], True),
    ]:  # fmt: skip
        Project.objects.filter(pk=project.pk).update(task=task, scales=scales, flags=[])
        assert examples_of(Project.objects.get(pk=project.pk)) == ([example] if fitting else []), task


@pytest.mark.parametrize(
    ("kind", "answer", "count", "field"),
    [
        ("ranking", Judgement(tiers=[[0], [1]]), 3, "tiers"),
        ("ranking", Judgement(tiers=[[0], [1], [1, 2]]), 3, "tiers"),
        ("ranking", Judgement(tiers=[[0], [], [1, 2]]), 3, "tiers"),
        ("ranking", Judgement(tiers=[[0], [1], [3]]), 3, "tiers"),
        ("ranking", Judgement(), 3, "tiers"),
        ("ranking", Judgement(tiers=[[0], [1]], strength=-1), 2, "strength"),
        ("ranking", Judgement(tiers=[[0]]), 1, "responses"),
        ("ranking", Judgement(tiers=[list(range(10))]), 10, "responses"),
        ("ranking", Judgement(tiers=[[0], [1]], ratings={"depth": {0: 1, 1: 1}}), 2, "ratings"),
        ("ranking", Judgement(tiers=[[0], [1]], ratings={"helpful": {0: 1}}), 2, "ratings"),
        ("ranking", Judgement(tiers=[[0], [1]], ratings={"helpful": {0: 1, 1: 5}}), 2, "ratings"),
        ("ranking", Judgement(tiers=[[0], [1]], flags={0: ["rude"]}), 2, "flags"),
        ("pairwise", Judgement(tiers=[[0], [1]]), 2, "strength"),
        ("pairwise", Judgement(tiers=[[1], [0]], strength=-2), 2, "strength"),
        ("pairwise", Judgement(strength=4), 2, "strength"),
        ("pairwise", Judgement(strength=-1), 3, "responses"),
        ("pairwise-forced", Judgement(strength=0), 2, "tiers"),
        ("best", Judgement(tiers=[[0, 1], [2]]), 3, "tiers"),
        ("best-worst", Judgement(tiers=[[0], [1, 2]]), 3, "tiers"),
        ("rating", Judgement(tiers=[[0], [1]]), 2, "ratings"),
    ],
)
def test_an_answer_that_does_not_fit_is_refused_by_field(kind: str, answer: Judgement, count: int, field: str) -> None:
    project = project_of(kind, scales=[HELPFUL])
    with pytest.raises(PracticeRefused) as refused:
        add(project, answer, count=count)
    assert refused.value.field == field
    assert not PracticeExample.objects.exists()


@pytest.mark.parametrize("explanation", ["", " \n", "x" * 20_001, "a\x00b"])
def test_an_answer_without_a_storable_explanation_is_refused(explanation: str) -> None:
    with pytest.raises(PracticeRefused) as refused:
        add_example(
            make_project(), messages=ASKED, responses=["a", "b"], answer=Judgement(tiers=[[0], [1]]),
            explanation=explanation,
        )  # fmt: skip
    assert refused.value.field == "explanation"


def ranked(slate: Slate, *, tiers: list[list[int]]) -> Ranking:
    """A ranking of the slate by somebody, in positions on their screen."""
    lease = claim_slot(make_member(slate.project))
    assert lease is not None
    assert lease.slot.slate == slate
    judgement = Judgement(tiers=tiers, flags={3: ["broken"]}, rationale="For myself alone.")
    return submit_ranking(lease.annotator, token=lease.token, judgement=judgement).ranking


def test_a_ranking_is_copied_with_its_answer_in_the_slates_own_order_and_the_slate_is_given_to_nobody() -> None:
    project = make_project(overlap=3)
    slate = make_slate(project)
    ranking = ranked(slate, tiers=[[0], [1, 2], [3]])
    example = add_example_from_ranking(ranking, explanation="A adds up.")
    texts = list(slate.responses.order_by("places__position").values_list("text", flat=True))
    shown = [slate.responses.get(pk=pk).text for pk in ranking.presented_order]
    assert example.responses == texts
    answer = from_json(example.answer)
    assert [[texts[place] for place in tier] for tier in answer.tiers] == [
        [shown[0]], sorted([shown[1], shown[2]], key=texts.index), [shown[3]],
    ]  # fmt: skip
    assert answer.flags == {texts.index(shown[3]): ["broken"]}
    assert (example.messages, example.slate, answer.rationale) == (slate.prompt.messages, slate, "")
    assert claim_slot(make_member(project)) is None


def test_a_slate_is_copied_once() -> None:
    ranking = ranked(make_slate(make_project(overlap=3)), tiers=[[0], [1, 2], [3]])
    example = add_example_from_ranking(ranking, explanation="A adds up.")
    with pytest.raises(PracticeRefused):
        add_example_from_ranking(ranking, explanation="Once more.")
    remove_example(example)
    assert add_example_from_ranking(ranking, explanation="Once more.").number == 2


def write(tmp_path: Path, *rows: Any) -> ImportFile:
    path = tmp_path / "practice.jsonl"
    path.write_text("".join(row if isinstance(row, str) else json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return ImportFile("practice.jsonl", path)


GOOD = {"prompt": "How many?", "responses": ["75", "84"], "tiers": [[0], [1]], "explanation": "**75** adds up."}


def test_a_file_of_examples_is_added_in_its_order_and_the_same_again_is_skipped(tmp_path: Path) -> None:
    project = project_of("ranking", scales=[HELPFUL])
    rows: list[Any] = [
        GOOD,
        GOOD | {"prompt": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Why?"}],
                "ratings": {"helpful": [4, 0]}, "flags": [[], ["unsafe", "broken"]]},
        GOOD | {"tiers": None, "all_bad": True},
    ]  # fmt: skip
    file = write(tmp_path, *rows)
    assert import_examples(project, file=file) == PracticeCounts(added=3, skipped=0)
    assert import_examples(project, file=file) == PracticeCounts(added=0, skipped=3)
    first, second, third = examples_of(project)
    assert [first.number, second.number, third.number] == [1, 2, 3]
    assert (first.messages, first.responses, first.explanation) == (
        [{"role": "user", "content": "How many?"}], ["75", "84"], "**75** adds up.",
    )  # fmt: skip
    assert from_json(second.answer) == Judgement(
        tiers=[[0], [1]], ratings={"helpful": {0: 4, 1: 0}}, flags={1: ["broken", "unsafe"]}
    )
    assert from_json(third.answer) == Judgement(all_bad=True)


def test_the_side_that_is_better_follows_from_the_strength(tmp_path: Path) -> None:
    project = project_of("pairwise")
    row = {name: value for name, value in GOOD.items() if name != "tiers"} | {"strength": 2}
    import_examples(project, file=write(tmp_path, row))
    assert from_json(examples_of(project)[0].answer) == Judgement(tiers=[[1], [0]], strength=2)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompt": None}, "field 'prompt': it is missing"),
        ({"prompt": [{"role": "assistant", "content": "Hi."}]}, "field 'prompt': the last turn must be the user's"),
        ({"responses": ["75"]}, "field 'responses': a slate needs 2 to 9 responses, this row has 1"),
        ({"responses": ["75", 84.5]}, "field 'responses': response 2 must be text or an object, not a number"),
        ({"tiers": None}, "field 'tiers': the answer is missing; give one of tiers"),
        ({"tiers": [0, 1]}, "field 'tiers': it must be a list of lists of positions"),
        ({"tiers": [["a"], ["b"]]}, "field 'tiers': a position is a whole number"),
        ({"tiers": [[0]]}, "field 'tiers': The answer is to place every response."),
        ({"strength": "2"}, "field 'strength': it must be a whole number from -3 to 3, not text"),
        ({"strength": 2}, "field 'strength': A strength runs from -3 to 3, in projects that compare two"),
        ({"ratings": {"helpful": [1]}}, "field 'ratings': 'helpful' must be a list of 2 whole numbers"),
        ({"ratings": {"depth": [1, 2]}}, "field 'ratings': This project has no scale named depth."),
        ({"flags": {"0": ["unsafe"]}}, "field 'flags': it must be a list of 2 lists of flags"),
        ({"flags": [["rude"], []]}, "field 'flags': A flag is not one of this project's."),
        ({"all_bad": 1}, "field 'all_bad': it must be true or false, not a number"),
        ({"explanation": None}, "field 'explanation': it is missing"),
        ({"explanation": "  "}, "field 'explanation': Explain the answer"),
        ({"why": "typo"}, "field 'why': an example has no such field"),
    ],
)
def test_a_bad_row_is_refused_by_line_and_field_and_nothing_of_the_file_is_stored(
    tmp_path: Path, change: dict[str, Any], said: str
) -> None:
    project = project_of("ranking", scales=[HELPFUL])
    file = write(tmp_path, GOOD, "\n", GOOD | {"prompt": "How many more?"} | change)
    with pytest.raises(ImportRefused) as refused:
        import_examples(project, file=file)
    assert str(refused.value).startswith("practice.jsonl, line 3, ")
    assert said in str(refused.value)
    assert not PracticeExample.objects.exists()


def test_a_practice_round_is_no_data_set(tmp_path: Path) -> None:
    project = make_project()
    rows = [GOOD | {"prompt": f"How many, {number}?"} for number in range(MOST_EXAMPLES + 1)]
    with pytest.raises(ImportRefused) as refused:
        import_examples(project, file=write(tmp_path, *rows))
    assert refused.value.line == MOST_EXAMPLES + 1
    import_examples(project, file=write(tmp_path, *rows[:-1]))
    with pytest.raises(PracticeRefused):
        add(project, Judgement(tiers=[[0], [1], [2]]))
    assert len(examples_of(project)) == MOST_EXAMPLES


def test_the_sample_project_has_four_examples_of_its_four_kinds_and_keeps_them_as_an_admin_left_them() -> None:
    project = create_assistant_project()
    examples = examples_of(project)
    assert [len(example.responses) for example in examples] == [4, 4, 4, 4]
    assert all(len(example.explanation) > 200 for example in examples)
    remove_example(examples[0])
    assert examples_of(create_assistant_project()) == examples[1:]
