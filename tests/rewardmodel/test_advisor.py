"""The advisor's tree: every branch, what is certain, what would change it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import fields, replace
from typing import Any

import pytest

from rewardmodel.advisor import COMPARISON, METHODS, ROOT, TREE, Evidence, Share, Thresholds, Trial, advise, draw
from rewardmodel.contract import AdviseSpec, SpecError

CHECKABLE = {"checked": Share(400, 400), "references": Share(390, 400), "strangers": Share(2, 400)}
HELPS = Trial(prompts=64, direct=10, aloud=30, gain=0.3125, interval=(0.2, 0.42))
HARMS = Trial(prompts=64, direct=30, aloud=10, gain=-0.3125, interval=(-0.42, -0.2))
NEVER = Trial(prompts=6, direct=0, aloud=0, gain=0.0, interval=(-0.245, 0.245))
BARELY = Trial(prompts=64, direct=10, aloud=12, gain=0.03125, interval=(-0.05, 0.11))


EVERY_WAY = pytest.mark.parametrize(
    ("known", "method", "path"),
    [
        (CHECKABLE, "rft", ["labels no", "unlabelled yes"]),
        ({"checked": Share(10, 400)}, "rlhf", ["labels no", "unlabelled no"]),
        ({"labelled": 100_001}, "sft", ["labels yes", "plenty yes"]),
        ({"labelled": 50, "trial": HARMS}, "sft", ["labels yes", "plenty no", "reasoning no"]),
        ({"labelled": 5000}, "sft", ["labels yes", "plenty no", "reasoning no"]),
        (
            {"labelled": 5000, "worked": 100, "trial": HELPS, **CHECKABLE},
            "sft",
            ["labels yes", "plenty no", "reasoning yes", "worked yes"],
        ),
        (
            {"labelled": 50, "worked": 50, "trial": HELPS, **CHECKABLE},
            "rft",
            ["labels yes", "plenty no", "reasoning yes", "worked no", "checkable yes"],
        ),
        (
            {"labelled": 50, "worked": 50, "trial": HELPS, "checked": Share(0, 400)},
            "sft",
            ["labels yes", "plenty no", "reasoning yes", "worked no", "checkable no"],
        ),
    ],
)


@EVERY_WAY
def test_every_way_through_the_tree(known: dict[str, Any], method: str, path: list[str]) -> None:
    advice = advise(Evidence(prompts=400, **known))
    assert (advice.method, [f"{step.node} {step.answer}" for step in advice.path]) == (method, path)


@EVERY_WAY
def test_the_drawing_marks_the_way_and_shows_the_rest(known: dict[str, Any], method: str, path: list[str]) -> None:
    """Of 12 branches (two a question) those on the way are marked; questions beside it have no answer, but a threshold.
    A drawing is JSON."""
    drawing = draw(advise(Evidence(prompts=400, **known)))
    assert json.loads(json.dumps(drawing)) == drawing
    questions = list(questions_of(drawing["tree"]))
    taken = [
        f"{node['name']} {branch['answer']}" for node in questions for branch in node["branches"] if branch["taken"]
    ]
    assert taken == path
    assert sum(len(node["branches"]) for node in questions) == 12
    ends = [branch for node in questions for branch in node["branches"] if "method" in branch]
    assert [branch["method"] for branch in ends if branch["taken"]] == [method]
    asked = [step.split()[0] for step in path]
    assert [node["name"] for node in questions if node["answer"]] == asked
    assert [node["name"] for node in questions if node["because"]] == asked
    assert all(node["turns"]["text"] for node in questions)


def questions_of(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    yield node
    for branch in node["branches"]:
        if "node" in branch:
            yield from questions_of(branch["node"])


def test_the_drawing_says_where_answers_turn() -> None:
    drawing = draw(advise(Evidence(prompts=400), thresholds=Thresholds(some=3, checkable=0.85, fooled=0.02)))
    root = drawing["tree"]
    assert root["turns"] == {"text": "yes from %(some)s rows on", "values": {"some": "3"}}
    unlabelled = next(branch["node"] for branch in root["branches"] if branch["taken"])
    assert unlabelled["turns"]["values"] == {"checkable": "85 %", "fooled": "2 %"}


def test_the_ways_above_are_all_there_are() -> None:
    """Each node but the first is reached, so is each method, and six questions have seven ends."""
    ends = [end for question in TREE.values() for end in (question.yes, question.no)]
    assert set(ends) == (set(TREE) - {ROOT}) | set(METHODS)
    assert sum(end in METHODS for end in ends) == len(TREE) + 1 == 7
    assert [row["method"] for row in COMPARISON] == list(METHODS)


@pytest.mark.parametrize(
    ("known", "certain", "change"),
    [
        (CHECKABLE, True, ""),
        ({"checked": Share(400, 400)}, False, "right answers to try the verifiers on"),
        ({**CHECKABLE, "references": Share(19, 20)}, False, "more right answers to try the verifiers on"),
        ({**CHECKABLE, "strangers": Share(0, 20)}, False, "more right answers to try the verifiers on"),
        ({**CHECKABLE, "strangers": Share(200, 400)}, True,
         "a verifier for more of the prompts, or one that tells right from wrong more often"),
        ({"labelled": 50, "trial": BARELY}, False, "a trial on more prompts"),
        ({"labelled": 50, "trial": NEVER}, False,
         "a trial with a model that is right now and then, or with longer answers"),
        ({"labelled": 50}, False, "a trial of thinking aloud with a model, on prompts with verifiers"),
    ],
)  # fmt: skip
def test_what_is_doubtful_says_what_would_settle_it(known: dict[str, Any], certain: bool, change: str) -> None:
    """References 19 of 20: Wilson's interval is 0.76 to 0.99, on both sides of 0.9."""
    advice = advise(Evidence(prompts=400, **known))
    doubted = next((step for step in advice.path if not step.certain), advice.path[-1])
    assert (advice.certain, str(doubted.change or "")) == (certain, change)


def test_a_verifier_that_accepts_strangers_is_none() -> None:
    fooled = advise(Evidence(prompts=400, **{**CHECKABLE, "strangers": Share(200, 400)}))
    assert fooled.method == "rlhf"
    assert fooled.path[-1].to_dict()["because"] == (
        "400 of 400 prompts carry a verifier; verifiers accept 390 of 400 right answers; "
        "they accept 200 of 400 answers to other prompts"
    )


def test_what_follows_and_what_is_missing() -> None:
    plenty = Evidence(prompts=200_000, labelled=150_000, preferences=500, **CHECKABLE)
    assert advise(plenty).following == ("rft", "rlhf")
    assert advise(replace(plenty, preferences=499)).following == ("rft",)
    assert advise(replace(plenty, preferences=499, strangers=Share(400, 400))).following == ()
    people = advise(Evidence(preferences=120, agreement=Share(30, 40)))
    assert people.method == "rlhf"
    assert people.to_dict()["notes"] == [
        "There are 120 comparisons; a reward model needs 500 or more. Have people rank responses first.",
        "People agree on 30 of 40 pairs judged more than once (75 %, 60 % to 86 %); "
        "no reward model can agree with them more often.",
    ]
    assert advise(Evidence(prompts=50, labelled=12)).to_dict()["notes"] == [
        "12 rows teach a form at most; more right answers would help first.",
    ]


def test_thresholds_move_the_answers() -> None:
    evidence = Evidence(prompts=400, labelled=300)
    assert advise(evidence, thresholds=Thresholds.parse({"many": 200})).path[-1].node == "plenty"
    assert advise(evidence, thresholds=Thresholds(some=301)).method == "rlhf"


def test_a_spec_has_the_same_thresholds() -> None:
    spec = AdviseSpec(data="d")
    assert Thresholds(**{item.name: getattr(spec, item.name) for item in fields(Thresholds)}) == Thresholds()


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mny": 5}, "threshold unknown 'mny': did you mean 'many'?"),
        ({"many": 0}, "many: must be at least 1, got 0"),
        ({"many": 1.5}, "many: expected a whole number, got 1.5"),
        ({"fooled": True}, "fooled: expected a number, got True"),
        ({"fooled": 1.2}, "fooled: must lie between 0 and 1, got 1.2"),
    ],
)
def test_bad_thresholds_are_refused(given: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError) as raised:
        Thresholds.parse(given)
    assert str(raised.value) == message


def test_nothing_to_go_by() -> None:
    with pytest.raises(SpecError, match="there are no prompts, answers or preferences to go by"):
        advise(Evidence())


def test_the_json_carries_shares_with_their_intervals() -> None:
    found = advise(Evidence(prompts=4, checked=Share(1, 4))).to_dict()
    assert found["evidence"]["checked"] == {"count": 1, "total": 4, "value": 0.25, "interval": [
        pytest.approx(0.0456, abs=1e-4), pytest.approx(0.6994, abs=1e-4)]}  # fmt: skip
    assert found["thresholds"]["many"] == 100_000
    assert found["path"][0]["because"] == "0 of 4 prompts have a right answer that can be used"
