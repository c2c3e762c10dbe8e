"""A project's task: what may be set, what stays once somebody has judged, and slates that fit pairs."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest

from annotation.domain.assigning import claim_slot
from annotation.domain.importing import ImportFile, ImportRefused, import_files
from annotation.domain.judgement import Judgement
from annotation.domain.projects import create_project
from annotation.domain.ranking import submit_ranking
from annotation.domain.simulating import SimulationRefused, simulate_annotators
from annotation.domain.slating import SlatePlan, make_slates, plan_slates
from annotation.domain.tasks import (
    Flag,
    Scale,
    TaskRefused,
    question_is_settled,
    save_task,
    settings_of,
    task_of,
)
from annotation.models import Project, Slate
from annotation.rendering import DEFAULT_PATTERNS
from tests.annotation.factories import make_member, make_project, make_prompt, make_responses, make_slate

pytestmark = pytest.mark.django_db
HELP = Scale("Helpfulness", {0: "not helpful", 1: "", 2: "fully helpful"})


def change(project, **settings):
    return save_task(project, settings=replace(settings_of(project), **settings))


def problems_of(project, **settings):
    with pytest.raises(TaskRefused) as refused:
        change(project, **settings)
    assert settings_of(Project.objects.get(pk=project.pk)) == settings_of(project)
    return refused.value.problems


def judge(project, *, by=None, **said):
    annotator = by or make_member(project)
    return submit_ranking(annotator, token=claim_slot(annotator).token, judgement=Judgement(**said)).ranking


def write_rows(tmp_path, rows):
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return ImportFile("rows.jsonl", path)


def test_what_is_saved_is_what_is_read():
    project = make_project()
    settings = replace(
        settings_of(project),
        kind="best-worst",
        scales=(HELP, Scale("Tone", {1: "", 2: "", 3: "kind"})),
        flags=(Flag("unsafe", ""), Flag("no-sources", "names no source")),
        rationale="required",
        rationale_min=20,
        highlights=False,
        corrections="best",
        mask_patterns=("I am Qwen",),
        show_verdicts=False,
        amend_minutes=30,
        break_after=25,
        lease_seconds=600,
        slate_size=5,
        overlap=3,
    )
    saved = save_task(project, settings=settings)
    assert settings_of(saved) == settings_of(Project.objects.get(pk=project.pk)) == settings
    assert [flag.label for flag in task_of(saved).flags] == ["unsafe", "names no source"]


def test_a_new_project_masks_what_models_say_of_themselves_and_asks_for_full_rankings():
    project = make_project()
    assert tuple(project.mask_patterns) == DEFAULT_PATTERNS
    assert (project.task, project.slate_size) == ("ranking", 4)


@pytest.mark.parametrize("kind", ["pairwise", "pairwise-forced"])
def test_a_kind_that_compares_two_makes_slates_of_two(kind):
    made = create_project(slug="pairs", name="Pairs", task=kind, slate_size=6, guidelines="g")
    changed = change(make_project(slate_size=6), kind=kind)
    assert (made.slate_size, changed.slate_size) == (2, 2)


def test_a_new_project_of_ratings_needs_scales_and_is_not_made_without():
    with pytest.raises(TaskRefused, match="at least one scale"):
        create_project(slug="rated", name="Rated", task="rating", guidelines="g")
    assert not Project.objects.exists()
    assert create_project(slug="rated", name="Rated", task="rating", scales=[HELP], guidelines="g").task == "rating"


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"kind": "elo"}, "Choose the kind of task from the list."),
        ({"kind": "rating", "scales": ()}, "Ratings need at least one scale."),
        ({"kind": "rating", "scales": (HELP,), "corrections": "best"}, "Ratings name no best response: ask for"),
        ({"scales": (Scale("", {0: "", 1: ""}),)}, "Give the scale a name"),
        ({"scales": (Scale("a:b", {0: "", 1: ""}),)}, "without a colon"),
        ({"scales": (Scale("Help", {3: ""}),)}, "at least two points"),
        ({"scales": (Scale("Help", {0: "", 11: ""}),)}, "its highest 10 or less"),
        ({"scales": (Scale("Help", {-1: "", 0: ""}),)}, "its lowest is 0 or more"),
        ({"scales": (Scale("Help", {0: "", 2: ""}),)}, "consecutive whole numbers"),
        ({"scales": (Scale("Help", {0: "a;b", 1: ""}),)}, "no semicolon"),
        ({"scales": (Scale("Help", {0: "a\x00", 1: ""}),)}, "cannot be stored"),
        ({"scales": (HELP, replace(HELP, name="helpfulness"))}, "Two scales are called “Helpfulness”"),
        ({"scales": tuple(replace(HELP, name=f"S{n}") for n in range(13))}, "There may be 12 scales at most."),
        ({"flags": (Flag("Un safe", ""),)}, "letters a to z, digits and hyphens"),
        ({"flags": (Flag("dull", ""),)}, "“dull” is no known flag (unsafe, broken, off-language, self-identifies)"),
        ({"flags": (Flag("dull", "x" * 81),)}, "at most 80 characters"),
        ({"flags": (Flag("unsafe", ""), Flag("unsafe", "risky"))}, "The flag “unsafe” stands there twice"),
        ({"mask_patterns": ("***",)}, "“***” has no word in it."),
        ({"mask_patterns": ("x" * 201,)}, "is longer than 200 characters."),
        ({"mask_patterns": ("word",) * 201}, "There may be 200 masked phrases at most."),
        ({"rationale": "maybe"}, "Choose from the lists"),
        ({"rationale_min": 0}, "Fewest characters of a reason: choose a number from 1 to 20000."),
        ({"amend_minutes": -1}, "Minutes to amend: choose a number from 0"),
        ({"break_after": 0}, "Slates before a break: choose a number from 1 to 1000."),
        ({"lease_seconds": 5}, "Seconds a slate is held: choose a number from 60"),
        ({"slate_size": 10}, "Responses a slate: choose a number from 2 to 9."),
        ({"overlap": 0}, "Annotators a slate: choose a number from 1 to 100."),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence_and_nothing_is_changed(chosen, said):
    (problem,) = problems_of(make_project(), **chosen)
    assert said in problem


def test_every_problem_is_said_at_once():
    assert len(problems_of(make_project(), kind="rating", overlap=0, flags=(Flag("dull", ""),))) == 3


def test_once_a_person_has_judged_the_question_stays_and_the_rest_may_change():
    project = change(make_project(), scales=(HELP,))
    make_slate(project)
    ratings = {"Helpfulness": dict.fromkeys(range(4), 1)}
    judge(project, tiers=[[0], [1], [2], [3]], ratings=ratings)
    stays = "A new question is a new project."
    for settings in (
        {"kind": "best"},
        {"scales": ()},
        {"scales": (replace(HELP, name="Help"),)},
        {"scales": (Scale("Helpfulness", {0: "", 1: "", 2: "", 3: ""}),)},
        {"scales": (HELP, replace(HELP, name="Tone"))},
    ):
        (problem,) = problems_of(project, **settings)
        assert stays in problem
    reworded = replace(HELP, points={0: "useless", 1: "so-so", 2: "useful"})
    saved = change(project, scales=(reworded,), flags=(), rationale="required", slate_size=3, overlap=2)
    assert task_of(saved).scales == (reworded,)
    assert (saved.slate_size, saved.overlap, saved.rationale) == (3, 2, "required")


def test_a_simulated_judgement_settles_the_question_and_an_import_does_not(tmp_path):
    project = make_project()
    pairs = [{"prompt": "Why?", "chosen": "Because.", "rejected": "No."}]
    for kind in ("imported", "simulated"):
        rows = [row | {"annotator": kind, "id": kind} for row in pairs]
        import_files(project, files=[write_rows(tmp_path, rows)], annotator_kind=kind)
    assert not question_is_settled(project)
    project = change(change(project, kind="best"), kind="ranking")
    make_slate(project)
    simulate_annotators(project, names=["simulated-1"], seed=0)
    assert question_is_settled(project)


def test_practice_examples_hold_the_question_until_they_are_out_of_practice():
    project = make_project()
    example = project.practice_examples.create(
        number=1, messages=[], responses=["a", "b"], answer={"tiers": [[0], [1]]}, explanation="A is right."
    )
    (problem,) = problems_of(project, kind="best")
    assert "Take them out of practice first" in problem
    example.is_active = False
    example.save()
    assert change(project, kind="best").task == "best"


def test_pairs_are_refused_where_slates_of_another_size_are():
    project = make_project()
    make_slate(project, count=2)
    assert change(project, kind="pairwise").task == "pairwise"
    project = change(project, kind="ranking")
    make_slate(project, count=3), make_slate(project, count=4)
    (problem,) = problems_of(project, kind="pairwise-forced")
    assert problem == "2 slates do not have two responses; pairs need a project of their own."


def test_a_project_of_pairs_gets_no_slate_of_three():
    project = make_project(kind="pairwise")
    prompt = make_prompt(project)
    plan = SlatePlan(prompt=prompt, external_id="three", responses=make_responses(prompt, count=3))
    with pytest.raises(ValueError, match=r"Slate 'three' has 3 responses; project .* compares two"):
        make_slates(project, plans=[plan])
    assert not Slate.objects.exists()


@pytest.mark.parametrize(
    ("count", "size", "sizes"), [(4, 2, [2, 2]), (3, 2, [2, 2]), (7, 2, [2] * 4), (5, 4, [3, 2]), (7, 3, [3, 2, 2])]
)
def test_slates_are_never_larger_than_asked_and_every_response_has_a_place(count, size, sizes):
    """Three responses in pairs: two pairs, one response in both."""
    prompt = make_prompt(make_project())
    responses = make_responses(prompt, count=count)
    plans = plan_slates(prompt, responses=responses, size=size, prefix="p", seed=0)
    assert [len(plan.responses) for plan in plans] == sizes
    assert all(len(set(plan.responses)) == len(plan.responses) for plan in plans)
    assert {response for plan in plans for response in plan.responses} == set(responses)


@pytest.mark.parametrize(
    ("rows", "said"),
    [
        (
            [{"prompt": "Why?", "responses": ["a", "b"]}, {"prompt": "How?", "responses": ["a", "b", "c"]}],
            "rows.jsonl, line 2, field 'responses': project 'pairs' compares two responses, so a slate has 2; "
            "this row has 3",
        ),
        (
            [{"item_id": "i", "topic": "t", "response_ids": ["a", "b", "c", "d"]}],
            "rows.jsonl, line 1, field 'response_ids': project 'pairs' compares two responses, so a slate has 2; "
            "this row has 4",
        ),
    ],
)
def test_an_import_into_a_project_of_pairs_refuses_rows_of_more(tmp_path, rows, said):
    project = make_project(slug="pairs", kind="pairwise")
    with pytest.raises(ImportRefused) as refused:
        import_files(project, files=[write_rows(tmp_path, rows)])
    assert str(refused.value) == said
    assert not Slate.objects.exists()


def test_pairs_are_imported_into_a_project_of_pairs(tmp_path):
    project = make_project(kind="pairwise")
    pairs = [{"prompt": "Why?", "chosen": "Because.", "rejected": "No."}]
    assert import_files(project, files=[write_rows(tmp_path, pairs)]).rankings == 1


@pytest.mark.parametrize(
    ("chosen", "said"),
    [
        ({"kind": "pairwise"}, "full rankings only; project 'p' asks for 'pairwise'"),
        ({"kind": "rating", "scales": (HELP,)}, "asks for 'rating'"),
        ({"scales": (HELP,)}, "no ratings and no reasons, which project 'p' requires"),
        ({"rationale": "required"}, "no ratings and no reasons, which project 'p' requires"),
    ],
)
def test_simulated_annotators_refuse_what_they_cannot_say(chosen, said):
    project = make_project(slug="p", **chosen)
    make_slate(project, count=2)
    with pytest.raises(SimulationRefused, match=said):
        simulate_annotators(project, names=["simulated-1"], seed=0)
