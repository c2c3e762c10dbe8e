"""Leaderboards against numbers derived by hand, from stored judgements: the report and `manage.py leaderboard`."""

from __future__ import annotations

import json
import math
from io import StringIO
from pathlib import Path
from uuid import uuid4

import numpy as np
import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from django.test.utils import CaptureQueriesContext

from annotation.battles import LeaderboardRefused, Question, find_battles, slice_values
from annotation.domain.importing import ImportFile, import_files
from annotation.domain.projects import create_project, publish_guidelines
from annotation.leaderboard import make_leaderboard
from annotation.models import Guidelines, Membership, Model, Project, Prompt, Ranking, Response, Slate, Slot
from annotation.statistics.stopping import separate_by_scores
from tests.annotation.factories import make_project, make_prompt

DATA = Path(__file__).parents[2].parent / "shared" / "data"

pytestmark = pytest.mark.django_db
needs_data = pytest.mark.skipif(not DATA.is_dir(), reason=f"the prepared data is not there: {DATA}")


def judge(
    project: Project,
    *tiers: str | tuple[str, ...],
    annotator: Membership | None = None,
    task: str = "ranking",
    texts: dict[str, str] | None = None,
    criterion: str = "",
    metadata: dict[str, str] | None = None,
    guidelines: Guidelines | None = None,
    models: dict[str, Model] | None = None,
    prompt: Prompt | None = None,
) -> Ranking:
    """A slate with one response of each source named in the tiers, best first, and the ranking that says so."""
    prompt = prompt or make_prompt(project, metadata=metadata)
    placed = [[tier] if isinstance(tier, str) else list(tier) for tier in tiers]
    sources = sorted(source for tier in placed for source in tier)
    responses = {
        source: Response.objects.create(
            prompt=prompt, external_id=f"{source}-{uuid4().hex[:8]}", source=source,
            text=(texts or {}).get(source, "An answer."), model=(models or {}).get(source),
        )
        for source in sources
    }  # fmt: skip
    slate = Slate.objects.create(project=project, prompt=prompt, external_id=uuid4().hex, criterion=criterion)
    for position, source in enumerate(sources):
        slate.places.create(response=responses[source], position=position)
    annotator = annotator or someone(project)
    slot = Slot.objects.create(slate=slate, number=0, state="done", annotator=annotator)
    return Ranking.objects.create(
        slate=slate, slot=slot, annotator=annotator, token=uuid4(), task=task, guidelines=guidelines,
        tiers=[[responses[source].pk for source in tier] for tier in placed],
    )  # fmt: skip


def someone(project: Project, *, kind: str = "imported", name: str = "w1") -> Membership:
    return Membership.objects.get_or_create(project=project, name=name, role="annotator", kind=kind)[0]


def judge_often(project: Project, *tiers: str | tuple[str, ...], times: int, **said) -> None:
    for _time in range(times):
        judge(project, *tiers, **said)


def run(project: Project, *arguments: str) -> str:
    out = StringIO()
    call_command("leaderboard", "--project", project.slug, *arguments, stdout=out)
    return out.getvalue()


def run_json(project: Project, *arguments: str) -> dict:
    return json.loads(run(project, "--json", *arguments).splitlines()[-1])


@pytest.fixture
def three_to_one(db) -> Project:
    """A beat B three times, B beat A once."""
    project = make_project()
    judge_often(project, "A", "B", times=3)
    judge(project, "B", "A")
    return project


class TestByHand:
    def test_the_contract_of_two_items(self, three_to_one):
        """Odds 3 : 1, so scores ± ln 3 / 2 = ± 0.5493; ratings 1000 ± 400 log10(3) / 2 = 1000 ± 95.42.

        The information of the difference is n p q = 4 · 3/4 · 1/4 = 3/4, the middle of the sandwich is
        3 (1/4)² + (3/4)² = 3/4, times 4/3: the variance is (4/3)² · 3/4 · 4/3 = 16/9, the error 4/3. A score's is
        half of it, 2/3. z = ln 3 / (4/3) = 0.8240, p = 0.4100; one pair, so that Holm changes nothing.
        """
        found = run_json(three_to_one)
        assert [(item["name"], item["rank"], item["rank_band"]) for item in found["items"]] == [
            ("A", 1, [1, 2]),
            ("B", 2, [1, 2]),
        ]
        first = found["items"][0]
        half = math.log(3) / 2
        assert first["score"] == pytest.approx(half)
        assert first["interval"] == pytest.approx([half - 1.95996 * 2 / 3, half + 1.95996 * 2 / 3], abs=1e-4)
        assert first["rating"] == pytest.approx(1000 + 400 * math.log10(3) / 2)
        assert {key: first[key] for key in ("comparisons", "wins", "ties", "losses", "win_rate")} == {
            "comparisons": 4, "wins": 3, "ties": 0, "losses": 1, "win_rate": 0.75,
        }  # fmt: skip
        assert found["matrix"] == {
            "items": ["A", "B"], "wins": [[0, 3], [1, 0]], "ties": [[0, 0], [0, 0]],
            "rates": [[None, 0.75], [0.25, None]],
        }  # fmt: skip
        (pair,) = found["pairwise"]
        assert (pair["items"], pair["wins"], pair["losses"]) == (["A", "B"], 3, 1)
        assert pair["difference"] == pytest.approx(math.log(3))
        assert pair["p_value"] == pair["p_holm"] == pytest.approx(0.4100, abs=1e-4)
        assert {key: found[key] for key in ("judgements", "comparisons", "clusters", "few_clusters", "connected")} == {
            "judgements": 4, "comparisons": 4, "clusters": 4, "few_clusters": True, "connected": True,
        }  # fmt: skip

    def test_davidsons_ties_of_two_items(self):
        """8 wins, 4 ties, 2 losses: the difference is ln(8 / 2), a tie's parameter changes nothing of it."""
        project = make_project()
        judge_often(project, "A", "B", times=8)
        judge_often(project, ("A", "B"), times=4)
        judge_often(project, "B", "A", times=2)
        found = run_json(project)
        assert found["ties"] == {"model": "davidson", "fallback": None}
        assert found["pairwise"][0]["difference"] == pytest.approx(math.log(4))
        assert found["matrix"]["rates"][0][1] == pytest.approx(10 / 14)

    def test_ties_without_a_value_count_half_and_that_is_said(self):
        """One win and one tie: Davidson's parameters both run away. As half wins 3/2 : 1/2, the difference is ln 3."""
        project = make_project()
        judge(project, "A", "B")
        judge(project, ("A", "B"))
        found = run_json(project)
        assert found["ties"]["model"] == "half"
        assert "no finite value" in found["ties"]["fallback"]
        assert found["pairwise"][0]["difference"] == pytest.approx(math.log(3))
        assert "Ties count half a win each" in run(project)

    def test_nothing_but_ties_is_no_difference(self):
        """Half wins alone: equal scores, and as all are alike, no error is known and no p-value named."""
        project = make_project()
        judge_often(project, ("A", "B"), times=3)
        found = run_json(project)
        assert "Every comparison is a tie" in found["ties"]["fallback"]
        assert [item["score"] for item in found["items"]] == pytest.approx([0, 0], abs=1e-9)
        assert [item["rank_band"] for item in found["items"]] == [[1, 2], [1, 2]]
        assert found["pairwise"][0]["judgements_needed"] is None
        assert "A over B" in run(project)

    def test_plackett_luce_of_pairs_is_bradley_terry(self, three_to_one):
        one, other = (run_json(three_to_one, "--model", model) for model in ("bradley-terry", "plackett-luce"))
        for mine, theirs in zip(one["items"], other["items"], strict=True):
            assert theirs["score"] == pytest.approx(mine["score"], abs=1e-6)
            assert theirs["interval"] == pytest.approx(mine["interval"], abs=1e-6)

    def test_best_of_three_is_two_comparisons_and_one_choice(self):
        """A is best 3 times, B twice, C once: Plackett–Luce gives worths 3 : 2 : 1."""
        project = make_project()
        for best, times in (("A", 3), ("B", 2), ("C", 1)):
            rest = tuple(sorted(set("ABC") - {best}))
            judge_often(project, best, rest, times=times, task="best")
        found = run_json(project, "--model", "plackett-luce")
        scores = {item["name"]: item["score"] for item in found["items"]}
        assert scores["A"] - scores["C"] == pytest.approx(math.log(3), abs=1e-6)
        assert scores["B"] - scores["C"] == pytest.approx(math.log(2), abs=1e-6)
        assert found["comparisons"] == 12

    def test_best_and_worst_keeps_the_best_in_an_order_and_says_so(self):
        project = make_project()
        for order in ("ABCD", "BACD", "CABD", "DABC"):
            judge(project, order[0], tuple(order[1:3]), order[3], task="best-worst")
        found = run_json(project, "--model", "plackett-luce")
        assert found["left_out"]["rankings_read_by_their_best"] == 4
        assert [item["score"] for item in found["items"]] == pytest.approx([0, 0, 0, 0], abs=1e-6)
        assert run_json(project)["left_out"]["rankings_read_by_their_best"] == 0

    def test_how_many_more_judgements_would_do(self, three_to_one):
        """The number is the one at which the always valid test first separates a difference that stays as it is."""
        report = make_leaderboard(three_to_one, Question())
        (pair,) = report.pairs
        error = float(report.fit.difference_errors[0, 1])
        assert pair.needed is not None

        def is_enough(more: int) -> bool:
            shrunk = error * math.sqrt(4 / (4 + more))
            return separate_by_scores(pair.difference, standard_error=shrunk).separated

        assert is_enough(pair.needed)
        assert not is_enough(pair.needed - 2)


class TestWhatCannotBeCompared:
    def test_an_undefeated_item_has_no_score_and_is_named(self, three_to_one):
        judge_often(three_to_one, "Z", "A", times=3)
        found = run_json(three_to_one)
        assert found["connected"] is False
        assert [(part["items"], part["undefeated"], part["winless"]) for part in found["components"]] == [
            (["A", "B"], False, True),
            (["Z"], True, False),
        ]
        last = found["items"][-1]
        assert (last["name"], last["score"], last["interval"], last["rank"]) == ("Z", None, [None, None], None)
        assert [pair["items"] for pair in found["pairwise"]] == [["A", "B"]]
        said = run(three_to_one)
        assert "not comparable" in said
        assert "undefeated, Z" in said

    def test_a_ridge_joins_and_the_components_are_named_all_the_same(self, three_to_one):
        judge_often(three_to_one, "Z", "A", times=3)
        found = run_json(three_to_one, "--ridge", "1")
        assert [item["name"] for item in found["items"]] == ["Z", "A", "B"]
        assert all(math.isfinite(item["score"]) for item in found["items"])
        assert len(found["components"]) == 2
        assert "a prior joins them" in run(three_to_one, "--ridge", "1")

    def test_two_islands_have_ranks_of_their_own(self, three_to_one):
        judge_often(three_to_one, "X", "Y", times=2)
        judge(three_to_one, "Y", "X")
        found = run_json(three_to_one)
        assert [(item["name"], item["rank"]) for item in found["items"]] == [("A", 1), ("B", 2), ("X", 1), ("Y", 2)]
        assert len({part["group"] for part in found["components"]}) == 2

    @pytest.mark.parametrize(
        ("judged", "arguments", "said"),
        [
            ([], [], "There are no judgements yet"),
            ([("A", "A2")], ["--by", "model"], "No two models of the registry were compared"),
            ([("A", "B")], ["--slice", "criterion=taste"], "There is no criterion 'taste' in this project; there are"),
            ([("A", "B")], ["--slice", "category=code"], "There is no category 'code' in this project"),
            ([("A", "B")], ["--slice", "colour=red"], "is not NAME=VALUE"),
            ([("A", "B")], ["--ridge", "-1"], "not a number of 0 or more"),
            ([("A", "B")], ["--cluster", "moon"], "invalid choice"),
            ([("A", "B")], ["--model", "plackett-luce", "--style-control"], "Style control needs Bradley–Terry"),
            ([("A", "B")], ["--slice", "prompt-length=long"], "No judgement meets these slices"),
        ],
    )
    def test_what_cannot_be_is_refused_with_a_reason(self, judged, arguments, said):
        project = make_project(slug="p")
        for tiers in judged:
            judge(project, *tiers)
            judge(project, *tiers[::-1])
        with pytest.raises(CommandError, match=said):
            call_command("leaderboard", "--project", "p", *arguments)

    def test_an_unknown_project_and_a_single_item_are_refused(self):
        with pytest.raises(CommandError, match="There is no project 'nowhere'"):
            call_command("leaderboard", "--project", "nowhere")
        project = make_project(slug="p")
        judge(project, "A", "B")
        Response.objects.filter(source="B").update(source="A")
        with pytest.raises(CommandError, match="All compared responses come from one source"):
            call_command("leaderboard", "--project", "p")
        assert len(run_json(project, "--by", "response")["items"]) == 2


class TestWhichJudgementsCount:
    def test_slices_by_what_is_stored(self):
        """In each slice A beats B twice and loses once; elsewhere it only loses."""
        project = make_project()
        old, new = project.guidelines.get(), publish_guidelines(project, text="Be brief.")
        robot = someone(project, kind="simulated", name="s1")
        long = {"A": "x" * 600, "B": "y" * 900}
        slices = {
            "category=maths": {"metadata": {"category": "maths", "language": "en"}},
            "language=fr": {"metadata": {"language": "fr"}},
            "criterion=taste": {"criterion": "taste"},
            f"guidelines={new.version}": {"guidelines": new},
            "annotators=simulated": {"annotator": robot},
            "response-length=medium": {"texts": long},
            "prompt-length=medium": {"prompt": make_prompt(project, text="How? " * 120)},
        }
        for said in slices.values():
            judge_often(project, "A", "B", times=2, **said)
            judge(project, "B", "A", **said)
        judge_often(project, "B", "A", times=20, guidelines=old)
        for name in slices:
            found = run_json(project, "--slice", name)
            assert (found["judgements"], found["slices"]) == (3, dict([name.split("=")])), name
            assert found["pairwise"][0]["difference"] == pytest.approx(math.log(2)), name
        whole = run_json(project)
        assert (whole["judgements"], whole["items"][0]["name"]) == (41, "B")
        assert whole["criteria"] == ["", "taste"]
        assert run_json(project, "--slice", "criterion=overall")["judgements"] == 38
        assert slice_values(project)["category"] == ["maths"]
        two = ["--slice", "category=maths", "--slice", "language=en"]
        assert run_json(project, *two)["judgements"] == 3

    def test_simulated_judgements_are_counted_and_said(self, three_to_one):
        judge_often(three_to_one, "B", "A", times=2, annotator=someone(three_to_one, kind="simulated", name="s1"))
        assert run_json(three_to_one)["simulated"] == 2
        assert "6 judgements, 2 of them simulated" in run(three_to_one)

    def test_amended_judgements_do_not_count(self, three_to_one):
        wrong = Ranking.objects.filter(slate__project=three_to_one).last()
        Ranking.objects.create(
            slate=wrong.slate, slot=wrong.slot, annotator=wrong.annotator, token=uuid4(), supersedes=wrong,
            tiers=wrong.tiers[::-1],
        )  # fmt: skip
        found = run_json(three_to_one)
        assert (found["judgements"], found["items"][0]["wins"]) == (4, 4)

    def test_models_of_the_registry_and_what_has_none(self):
        project = make_project()
        models = {
            source: Model.objects.create(project=project, name=f"policy {source}", kind="policy", location="x")
            for source in "AB"
        }
        judge_often(project, "A", "B", "person", times=2, models=models)
        judge(project, "B", "A", "person", models=models)
        found = run_json(project, "--by", "model")
        assert [item["name"] for item in found["items"]] == ["policy A", "policy B"]
        assert found["left_out"]["comparisons_without_model"] == 6
        assert [item["name"] for item in run_json(project)["items"]] == ["A", "B", "person"]

    def test_a_source_beside_itself_gives_no_comparison_and_no_order(self):
        project = make_project()
        for order in ("ABC", "BAC", "CAB", "BCA"):
            judge(project, *order)
        odd = judge(project, "A", "B", "D")
        Response.objects.filter(places__slate=odd.slate, source="D").update(source="A")
        found = run_json(project)
        assert found["left_out"]["comparisons_of_one_item"] == 1
        assert found["comparisons"] == 14
        assert run_json(project, "--model", "plackett-luce")["left_out"]["rankings_with_an_item_twice"] == 1

    def test_sources_without_a_comparison_are_named(self, three_to_one):
        Response.objects.create(prompt=make_prompt(three_to_one), external_id="r", text="Alone.", source="lonely")
        assert run_json(three_to_one)["left_out"]["items_without_comparison"] == ["lonely"]

    def test_errors_by_annotator_are_wider_where_one_always_says_the_same(self):
        project = make_project()
        for number in range(40):
            tiers = ("A", "B") if number % 4 else ("B", "A")
            judge_often(project, *tiers, times=5, annotator=someone(project, name=f"w{number}"))
        by_ranking, by_annotator = (run_json(project, "--cluster", name) for name in ("ranking", "annotator"))
        assert (by_ranking["clusters"], by_annotator["clusters"]) == (200, 40)

        def width(found):
            low, high = found["items"][0]["interval"]
            return high - low

        assert width(by_annotator) / width(by_ranking) == pytest.approx(math.sqrt(5), rel=0.02)
        both = run_json(project, "--cluster", "annotator-prompt")
        assert both["clusters"] == 40


class TestGroups:
    def test_judgements_of_one_prompt_are_one_group_unless_asked_otherwise(self):
        """Ten annotators say the same of each prompt: as one group each, errors are the root of ten times as wide."""
        project = make_project()
        for winner, loser in 30 * [("A", "B")] + 10 * [("B", "A")]:
            prompt = make_prompt(project)
            for number in range(10):
                judge(project, winner, loser, prompt=prompt, annotator=someone(project, name=f"w{number}"))
        usual, apart = run_json(project), run_json(project, "--cluster", "ranking")
        assert (usual["cluster"], usual["clusters"], apart["clusters"]) == ("prompt", 40, 400)

        def width(found: dict) -> float:
            low, high = found["pairwise"][0]["interval"]
            return high - low

        exact = math.sqrt(10 * (40 / 39) / (400 / 399))
        assert width(usual) / width(apart) == pytest.approx(exact)
        assert "count as independent" in run(project, "--cluster", "ranking")
        assert "count as independent" not in run(project)

    def test_one_prompt_is_no_sample_of_prompts_and_that_is_said(self):
        project = make_project()
        prompt = make_prompt(project)
        for winner, loser in [("A", "B"), ("A", "B"), ("B", "A")]:
            judge(project, winner, loser, prompt=prompt)
        found = run_json(project)
        assert (found["cluster"], found["clusters"]) == ("ranking", 3)
        assert "All judgements are of one prompt" in run(project)

    def test_an_error_that_rests_on_one_group_is_unknown(self):
        """C and D were judged by one annotator only: by annotator nothing shows how others would judge them."""
        project = make_project()
        for number in range(3):
            annotator = someone(project, name=f"w{number}")
            judge_often(project, "A", "B", times=2 + number, annotator=annotator)
            judge(project, "B", "A", annotator=annotator)
        judge_often(project, "C", "D", times=3, annotator=annotator)
        judge(project, "D", "C", annotator=annotator)
        found = run_json(project, "--cluster", "annotator")
        items = {item["name"]: item for item in found["items"]}
        assert None not in items["A"]["interval"]
        assert items["C"]["score"] == pytest.approx(math.log(3) / 2)
        assert (items["C"]["interval"], items["C"]["rank_band"]) == ([None, None], [1, 2])
        pair = next(pair for pair in found["pairwise"] if pair["items"] == ["C", "D"])
        assert (pair["p_value"], pair["p_holm"], pair["judgements_needed"]) == (None, None, None)
        assert "or all judgements are alike: C, D" in run(project, "--cluster", "annotator")

    def test_an_item_of_one_prompt_has_no_interval_and_one_of_few_is_named(self):
        """E was judged ten times on one prompt, F on four: E's error is unknown, F's too small, others' hold."""
        project = make_project()
        for number in range(40):
            judge(project, *(("A", "B") if number % 3 else ("B", "A")))
        for rival, prompts in (("E", 1), ("F", 4)):
            for number in range(prompts):
                prompt = make_prompt(project)
                for again in range(10):
                    tiers = (rival, "A") if (again + number) % 3 else ("A", rival)
                    judge(project, *tiers, prompt=prompt, annotator=someone(project, name=f"w{again}"))
        found = run_json(project)
        items = {item["name"]: item for item in found["items"]}
        assert {name: item["clusters"] for name, item in items.items()} == {"A": 45, "B": 40, "E": 1, "F": 4}
        assert [name for name, item in items.items() if item["interval"] == [None, None]] == ["E"]
        pairs = {frozenset(pair["items"]): pair for pair in found["pairwise"]}
        assert pairs[frozenset("AE")]["p_value"] is None
        assert pairs[frozenset("AB")]["p_value"] is not None
        said = run(project)
        assert "or all judgements are alike: E" in said
        assert "their own intervals are too narrow: F (4)" in said

    def test_prompts_without_a_comparison_are_no_groups(self):
        """One prompt has A against B; in five others A stands beside itself."""
        project = make_project()
        prompt = make_prompt(project)
        for winner, loser in [("A", "B"), ("A", "B"), ("B", "A")]:
            judge(project, winner, loser, prompt=prompt)
        for _number in range(5):
            ranking = judge(project, "A", "B")
            Response.objects.filter(slates=ranking.slate, source="B").update(source="A")
        found = run_json(project)
        assert (found["cluster"], found["clusters"]) == ("ranking", 3)
        assert "All judgements are of one prompt" in run(project)


class TestStyle:
    def test_what_length_is_worth_is_taken_off(self):
        """The longer response wins 3 of 4, and A is the longer in 3 of 4 battles: the source itself is worth nothing.

        With a = +1 where the left is longer (a relative difference of one size, so its root mean square is that size)
        and no effect of the source, the odds of the longer are 3: its effect is ln 3.
        """
        project = make_project()
        short, long = "x" * 100, "y" * 300
        for longer, times in (("A", 6), ("B", 2)):
            other = "B" if longer == "A" else "A"
            texts = {longer: long, other: short}
            judge_often(project, longer, other, times=3 * times, texts=texts)
            judge_often(project, other, longer, times=times, texts=texts)
        plain, controlled = run_json(project), run_json(project, "--style-control")
        assert plain["items"][0]["name"] == "A"
        assert plain["pairwise"][0]["difference"] > 0.4
        assert controlled["pairwise"][0]["difference"] == pytest.approx(0, abs=1e-6)
        (effect,) = controlled["style"]
        assert (effect["feature"], effect["value"]) == ("length", pytest.approx(math.log(3)))
        assert controlled["style_constant"] == ["headings", "bold", "lists", "code"]
        assert controlled["style_by_prior"] is False
        assert "style: length" in run(project, "--style-control")

    def test_a_feature_that_decides_everything_rests_on_a_prior_and_that_is_said(self):
        project = make_project()
        heading = {"A": "# Answer\nIt is so.", "B": "It is so, indeed."}
        judge_often(project, "A", "B", times=4, texts=heading)
        judge_often(project, "A", "B", times=2)
        judge_often(project, "B", "A", times=2)
        found = run_json(project, "--style-control")
        assert found["style_by_prior"] is True
        assert {effect["feature"]: effect["differs_in"] for effect in found["style"]} == {"length": 4, "headings": 4}
        assert all(effect["interval"][1] - effect["interval"][0] > 1 for effect in found["style"])
        assert "rests on a prior" in run(project, "--style-control")
        assert found["ties"]["fallback"] is None
        assert all(math.isfinite(effect["value"]) for effect in found["style"])


class TestBattles:
    def test_battles_are_those_of_the_matrix(self):
        project = make_project()
        judge(project, "A", ("B", "C"))
        judge(project, "B", "A")
        judge(project, "C", "B")
        counted = make_leaderboard(project, Question()).counted
        for first in "ABC":
            for second in set("ABC") - {first}:
                found = [battle.outcome for battle in find_battles(project, Question(), first=first, second=second)]
                a, b = counted.items.index(first), counted.items.index(second)
                assert found.count(1.0) == counted.wins[a, b]
                assert found.count(0.5) == counted.ties[a, b]
                assert found.count(0.0) == counted.wins[b, a]
        newest = find_battles(project, Question(), first="B", second="A")[0]
        assert Response.objects.get(pk=newest.first_response).source == "B"
        assert newest.outcome == 1

    def test_queries_do_not_grow(self, three_to_one):
        def count_queries() -> int:
            with CaptureQueriesContext(connection) as queries:
                make_leaderboard(three_to_one, Question(style_control=True, slices={"annotators": "imported"}))
            return len(queries)

        before = count_queries()
        judge_often(three_to_one, "C", "B", "A", times=5)
        judge_often(three_to_one, "A", "B", "C", times=5)
        assert count_queries() == before

    def test_unknown_questions_are_refused(self):
        with pytest.raises(ValueError, match="by must be one of source, model, response"):
            Question(by="colour")
        with pytest.raises(ValueError, match="Unknown slice 'colour'"):
            Question(slices={"colour": "red"})
        with pytest.raises(LeaderboardRefused):
            make_leaderboard(make_project(), Question(slices={"guidelines": "7"}))


def import_real(folder: str, *names: str) -> Project:
    project = create_project(slug=f"p-{uuid4().hex[:6]}", name=folder, guidelines="Be fair.")
    import_files(project, files=[ImportFile(f"{name}.jsonl", DATA / folder / f"{name}.jsonl") for name in names])
    return project


@needs_data
def test_pandalm_is_fitted_as_it_is():
    """llama-7b before bloom-7b and pythia-6.9b, opt-7b, and cerebras-gpt last; 326 of 2,997 judgements are ties.

    They are of 170 prompts: as independent judgements they would tell the last two apart, which they do not.
    """
    project = import_real("pandalm_pairs", "annotations", "items")
    found = run_json(project)
    names = [item["name"] for item in found["items"]]
    assert (names[0], names[3:]) == ("llama-7b", ["opt-7b", "cerebras-gpt-6.7B"])
    assert set(names[1:3]) == {"pythia-6.9b", "bloom-7b"}
    assert np.sum(found["matrix"]["ties"]) == 2 * 326
    assert found["connected"]
    by_ranking = run_json(project, "--cluster", "ranking")
    assert (found["clusters"], by_ranking["clusters"]) == (170, 2997)
    last, last_by_ranking = (answer["pairwise"][-1]["p_holm"] for answer in (found, by_ranking))
    assert (round(last, 2), round(last_by_ranking, 6)) == (0.17, 0.000014)
    style = run_json(project, "--style-control")["style"]
    assert style[0]["feature"] == "length"
    assert style[0]["interval"][0] > 0
    seldom = min(style, key=lambda effect: effect["differs_in"])
    assert seldom["differs_in"] < 10
    assert seldom["interval"][0] < 0 < seldom["interval"][1]


@needs_data
def test_ukp_arguments_are_eight_groups_that_never_met():
    found = run_json(import_real("ukp_convarg", "annotations", "items", "arguments", "topics"), "--by", "response")
    assert len(found["items"]) == 248
    assert len({part["group"] for part in found["components"]}) == 8
    assert found["matrix"] is None
    assert all(item["score"] is not None for item in found["items"] if item["component"] < 8)
