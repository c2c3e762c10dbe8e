"""Snapshots: what goes in, how it is split, and that it never changes."""

from __future__ import annotations

import io
import json
from datetime import timedelta
from uuid import uuid4

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from annotation.domain.assigning import claim_slot
from annotation.domain.judgement import Highlight, Judgement
from annotation.domain.ranking import amend_ranking, submit_ranking
from annotation.domain.simulating import simulate_annotators
from annotation.domain.snapshots import (
    FORMATS,
    SCHEMAS,
    SnapshotFilters,
    SnapshotRefused,
    freeze_snapshot,
    snapshot_directory,
    split_of,
    verify_snapshot,
)
from annotation.domain.tasks import Scale
from annotation.models import Membership, Ranking, Response, Slot, Snapshot
from annotation.statistics.orders import draw_order
from rewardmodel.data import read_pairs
from tests.annotation.factories import make_member, make_project, make_prompt, make_slate

pytestmark = pytest.mark.django_db
ALL_TRAIN = (1.0, 0.0, 0.0)
SCALES = (
    Scale("Help", {0: "no help", 1: "", 2: "", 3: "", 4: "all help"}),
    Scale("Tone", {1: "rude", 2: "", 3: "", 4: "", 5: "kind"}),
)


def rank(project, annotator, tiers=(), *, active_ms=None, **said):
    judgement = Judgement(tiers=[list(tier) for tier in tiers], **said)
    return submit_ranking(
        annotator, token=claim_slot(annotator).token, judgement=judgement, active_ms=active_ms
    ).ranking


def read_rows(snapshot, split="train"):
    path = snapshot_directory(snapshot) / f"{split}.jsonl"
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def text_of(response_id):
    return Response.objects.get(pk=response_id).text


def test_a_ranking_of_four_with_a_tie_gives_five_pairs_of_one_group_that_weigh_one_together():
    """C(4, 2) = 6 pairs, one of them tied: 5 rows, each of weight 1/5, and one tie counted as left out."""
    project = make_project()
    make_slate(project)
    ranking = rank(project, make_member(project), [[0], [1, 2], [3]])
    snapshot = freeze_snapshot(project, format="trl-preference", shares=ALL_TRAIN)
    rows = read_rows(snapshot)
    best, (_, _), worst = ranking.tiers[0][0], ranking.tiers[1], ranking.tiers[2][0]
    assert len(rows) == 5
    assert {row["group_id"] for row in rows} == {f"slate-{ranking.slate_id}/ranking-{ranking.pk}"}
    assert sum(row["weight"] for row in rows) == pytest.approx(1)
    assert sum(row["chosen_id"] == best for row in rows) == 3
    assert sum(row["rejected_id"] == worst for row in rows) == 3
    assert snapshot.manifest["dropped"] == {"ties": 1}


def test_best_of_four_gives_the_winner_against_the_rest_and_calls_nothing_a_tie():
    """K - 1 = 3 rows of weight 1/3; the three others were not told apart, so no tie is left out either."""
    project = make_project(kind="best")
    make_slate(project)
    ranking = rank(project, make_member(project), [[2], [0, 1, 3]])
    snapshot = freeze_snapshot(project, format="trl-preference", shares=ALL_TRAIN)
    rows = read_rows(snapshot)
    assert [row["chosen_id"] for row in rows] == ranking.tiers[0] * 3
    assert sorted(row["rejected_id"] for row in rows) == ranking.tiers[1]
    assert {(row["task"], row["origin"], row["strength"]) for row in rows} == {("best", "response", None)}
    assert [row["weight"] for row in rows] == [pytest.approx(1 / 3)] * 3
    assert snapshot.manifest["dropped"] == {}
    assert snapshot.manifest["derivation"] == "all-strict-pairs-v2"


def test_best_and_worst_of_four_gives_five_pairs():
    """2 K - 3 = 5: the best against three, two middle ones against the worst."""
    project = make_project(kind="best-worst")
    make_slate(project)
    rank(project, make_member(project), [[2], [0, 1], [3]])
    snapshot = freeze_snapshot(project, format="trl-preference", shares=ALL_TRAIN)
    assert snapshot.manifest["counts"]["rows"]["train"] == 5
    assert snapshot.manifest["dropped"] == {}


def test_strength_says_how_much_better_the_chosen_is_whichever_side_it_stood_on():
    """Strengths -3 and 2 on screen: 3 and 2 in the rows, chosen left and right. 0 is a tie and no pair."""
    project = make_project(kind="pairwise")
    for _ in range(3):
        make_slate(project, count=2)
    annotator = make_member(project)
    left, right, _tie = (rank(project, annotator, strength=strength) for strength in (-3, 2, 0))
    snapshot = freeze_snapshot(project, format="trl-preference", shares=ALL_TRAIN)
    assert [(row["chosen_id"], row["strength"], row["task"]) for row in read_rows(snapshot)] == [
        (left.presented_order[0], 3, "pairwise"),
        (right.presented_order[1], 2, "pairwise"),
    ]
    assert snapshot.manifest["dropped"] == {"ties": 1}


def test_the_weakest_degree_of_a_forced_choice_is_a_pair_of_strength_0():
    project = make_project(kind="pairwise-forced")
    make_slate(project, count=2)
    ranking = rank(project, make_member(project), [[1], [0]], strength=0)
    (row,) = read_rows(freeze_snapshot(project, format="trl-preference", shares=ALL_TRAIN))
    assert (row["chosen_id"], row["rejected_id"], row["strength"]) == (*ranking.presented_order[::-1], 0)


def test_a_correction_is_preferred_to_what_it_corrects_and_is_a_group_of_its_own():
    project = make_project()
    make_slate(project, count=2)
    ranking = rank(project, make_member(project), [[0], [1]], corrections={1: "Better, by hand."})
    corrected = ranking.presented_order[1]
    judged, edited = read_rows(freeze_snapshot(project, format="trl-preference", shares=ALL_TRAIN))
    assert (judged["origin"], judged["weight"]) == ("response", 1)
    assert edited["chosen"] == [{"role": "assistant", "content": "Better, by hand."}]
    assert edited["rejected"] == judged["rejected"]
    assert (edited["origin"], edited["chosen_id"], edited["rejected_id"]) == ("correction", None, corrected)
    assert (edited["weight"], edited["strength"]) == (1, None)
    assert edited["group_id"] == f"{judged['group_id']}/correction-{corrected}"


def test_corrections_are_examples_to_imitate_and_that_of_the_best_takes_its_place():
    project = make_project(overlap=2)
    make_slate(project)
    annotator, other = make_member(project), make_member(project)
    first = rank(project, annotator, [[0], [1, 2, 3]], corrections={0: "The best, improved.", 2: "C, improved."})
    second = rank(project, other, [[0], [1, 2, 3]], corrections={3: "D, improved."})
    rows = read_rows(freeze_snapshot(project, format="sft", shares=ALL_TRAIN))
    assert [(row["origin"], row["response_id"], row["completion"][0]["content"]) for row in rows] == [
        ("correction", first.presented_order[0], "The best, improved."),
        ("correction", first.presented_order[2], "C, improved."),
        ("response", second.presented_order[0], text_of(second.presented_order[0])),
        ("correction", second.presented_order[3], "D, improved."),
    ]


def test_what_was_corrected_stands_though_all_are_bad_or_the_best_is_tied():
    project = make_project()
    make_slate(project), make_slate(project)
    annotator = make_member(project)
    rank(project, annotator, all_bad=True, corrections={1: "Acceptable."})
    rank(project, annotator, [[0, 1], [2, 3]], corrections={0: "Clearly best."})
    snapshot = freeze_snapshot(project, format="sft", shares=ALL_TRAIN)
    assert [row["completion"][0]["content"] for row in read_rows(snapshot)] == ["Acceptable.", "Clearly best."]
    assert snapshot.manifest["dropped"] == {"all bad": 1, "tied best": 1}


def test_ratings_are_rows_of_responses_with_names_and_numbers_side_by_side():
    project = make_project(kind="rating", scales=SCALES)
    make_slate(project, count=2)
    ratings = {"Help": {0: 4, 1: 2}, "Tone": {0: 1, 1: 5}}
    ranking = rank(project, make_member(project), ratings=ratings, flags={1: ["unsafe"]})
    first, second = ranking.presented_order
    snapshot = freeze_snapshot(project, format="ratings", shares=ALL_TRAIN)
    rows = {row["response_id"]: row for row in read_rows(snapshot)}
    assert {pk: (row["scales"], row["values"], row["flags"]) for pk, row in rows.items()} == {
        first: (["Help", "Tone"], [4, 1], []),
        second: (["Help", "Tone"], [2, 5], ["unsafe"]),
    }
    assert {row["task"] for row in rows.values()} == {"rating"}
    assert snapshot.manifest["task"]["scales"][0] == {
        "name": "Help",
        "points": {"0": "no help", "1": "", "2": "", "3": "", "4": "all help"},
    }
    assert "- scale Help: 0 no help; 1; 2; 3; 4 all help" in (snapshot_directory(snapshot) / "README.md").read_text()


@pytest.mark.parametrize("format", ["trl-preference", "trl-unpaired", "sft"])
def test_ratings_never_become_preferences(format):
    project = make_project(kind="rating", scales=SCALES)
    make_slate(project, count=2)
    rank(project, make_member(project), ratings={"Help": {0: 4, 1: 0}, "Tone": {0: 5, 1: 1}})
    with pytest.raises(SnapshotRefused, match=r"'ratings without order': 1.* Ratings are no preferences: freeze them"):
        freeze_snapshot(project, format=format)


def test_ratings_beside_an_order_leave_the_order_alone():
    project = make_project(scales=SCALES[:1])
    make_slate(project, count=2)
    ranking = rank(project, make_member(project), [[1], [0]], ratings={"Help": {0: 4, 1: 0}})
    (row,) = read_rows(freeze_snapshot(project, format="trl-preference", shares=ALL_TRAIN))
    assert row["chosen_id"] == ranking.presented_order[1]


def test_imported_ratings_are_taken_as_they_are_and_gaps_left_out():
    """Ratings 40.5 and null: one row, one response without a rating."""
    project = make_project()
    slate = make_slate(project, count=2)
    first, second = slate.places.values_list("response_id", flat=True)
    Ranking.objects.create(
        slate=slate,
        slot=slate.slots.get(),
        annotator=Membership.objects.create(project=project, name="w7", kind="imported", role="annotator"),
        token=uuid4(),
        tiers=[[first], [second]],
        ratings={"overall": {str(first): 40.5, str(second): None}},
    )
    snapshot = freeze_snapshot(project, format="ratings", shares=ALL_TRAIN)
    assert [(row["response_id"], row["values"]) for row in read_rows(snapshot)] == [(first, [40.5])]
    assert snapshot.manifest["dropped"] == {"responses without a rating": 1}


def test_only_the_newest_version_of_a_ranking_enters():
    project = make_project()
    make_slate(project, count=2)
    annotator = make_member(project)
    first = rank(project, annotator, [[0], [1]])
    second = amend_ranking(annotator, ranking=first, judgement=Judgement(tiers=[[1], [0]])).ranking
    rows = read_rows(freeze_snapshot(project, format="trl-preference", shares=ALL_TRAIN))
    assert [row["chosen_id"] for row in rows] == [second.tiers[0][0]]


def test_sft_takes_the_single_best_and_counts_what_it_leaves_out():
    project = make_project()
    for _ in range(3):
        make_slate(project)
    annotator = make_member(project)
    best = rank(project, annotator, [[0], [1, 2, 3]])
    rank(project, annotator, [[0, 1], [2, 3]])
    rank(project, annotator, [], all_bad=True)
    snapshot = freeze_snapshot(project, format="sft", shares=ALL_TRAIN)
    assert [row["response_id"] for row in read_rows(snapshot)] == best.tiers[0]
    assert snapshot.manifest["dropped"] == {"all bad": 1, "tied best": 1}


def test_unpaired_labels_first_tier_good_last_tier_bad_and_everything_bad_where_all_are():
    """Tiers [[A], [B, C], [D]]: A true, D false, B and C neither. All bad, K = 4: four false rows."""
    project = make_project()
    make_slate(project), make_slate(project)
    annotator = make_member(project)
    rank(project, annotator, [[0], [1, 2], [3]])
    rank(project, annotator, [], all_bad=True)
    snapshot = freeze_snapshot(project, format="trl-unpaired", shares=ALL_TRAIN)
    assert sorted(row["label"] for row in read_rows(snapshot)) == [False] * 5 + [True]
    assert snapshot.manifest["dropped"] == {"neither best nor worst": 2}


def test_annotations_carry_everything_that_was_recorded():
    project = make_project(scales=SCALES)
    make_slate(project)
    annotator = make_member(project)
    ranking = rank(
        project,
        annotator,
        [[2], [0, 1, 3]],
        active_ms=900,
        rationale="C is right.",
        ratings={"Help": dict.fromkeys(range(4), 3), "Tone": dict.fromkeys(range(4), 2)},
        flags={0: ["unsafe", "broken"]},
        highlights=[Highlight(position=1, start=0, end=6, quote="Answer", comment="dull")],
        corrections={2: "Right, and short."},
    )
    order = ranking.presented_order
    (row,) = read_rows(freeze_snapshot(project, format="annotations", shares=ALL_TRAIN))
    assert row["presented_order"] == order
    assert (row["active_ms"], row["guidelines_version"], row["rationale"]) == (900, 1, "C is right.")
    assert row["ranks"][row["response_ids"].index(ranking.tiers[0][0])] == 1
    assert sorted(row["ranks"]) == [1, 2, 2, 2]
    assert json.loads(row["ratings"]) == {"Help": {str(pk): 3 for pk in order}, "Tone": {str(pk): 2 for pk in order}}
    assert json.loads(row["flags"]) == {str(order[0]): ["broken", "unsafe"]}
    assert json.loads(row["highlights"]) == [
        {"response": order[1], "start": 0, "end": 6, "quote": "Answer", "comment": "dull"}
    ]
    assert json.loads(row["corrections"]) == {str(order[2]): "Right, and short."}
    assert (row["task"], row["strength"]) == ("ranking", None)


def test_annotations_tell_by_which_seed_and_row_the_order_was_drawn_also_after_an_amendment():
    project = make_project(kind="pairwise", overlap=2)
    make_slate(project, count=2)
    first, second = make_member(project), make_member(project)
    ranking = rank(project, first, strength=-1)
    amend_ranking(first, ranking=ranking, judgement=Judgement(strength=3))
    rank(project, second, strength=-1)
    rows = read_rows(freeze_snapshot(project, format="annotations", shares=ALL_TRAIN))
    assert sorted(row["order_row"] for row in rows) == [0, 1]
    for row in rows:
        drawn = draw_order(row["response_ids"], seed=row["order_seed"], row=row["order_row"])
        assert row["presented_order"] == drawn
    # Negative: the first of the responses in the row is better.
    amended = next(row for row in rows if abs(row["strength"]) == 3)
    best = amended["presented_order"][1]
    assert amended["strength"] == (-3 if amended["response_ids"][0] == best else 3)


def test_prompts_are_split_by_content_whatever_their_order_and_never_leak():
    hashes = [f"{n:064x}" for n in range(4000)]
    shares = (0.8, 0.1, 0.1)
    splits = [split_of(h, seed=3, shares=shares) for h in hashes]
    assert splits == [split_of(h, seed=3, shares=shares) for h in hashes]
    assert splits != [split_of(h, seed=4, shares=shares) for h in hashes]
    # Binomial(4000, 0.1): mean 400, standard deviation 19; six of them are 114.
    assert abs(splits.count("test") - 400) < 114
    assert abs(splits.count("validation") - 400) < 114


def test_all_rows_of_a_prompt_stand_in_one_split():
    project = make_project(overlap=2)
    for _ in range(30):
        make_slate(project, count=2)
    simulate_annotators(project, names=["simulated-1", "simulated-2"], seed=0)
    snapshot = freeze_snapshot(project, format="rankings", shares=(0.5, 0.2, 0.3))
    seen = [{row["prompt_id"] for row in read_rows(snapshot, split)} for split in ("train", "validation", "test")]
    assert sum(len(ids) for ids in seen) == len(set.union(*seen)) == 30
    assert all(seen)


def test_freezing_twice_gives_the_same_hash_and_a_new_judgement_another():
    project = make_project()
    make_slate(project), make_slate(project)
    annotator = make_member(project)
    rank(project, annotator, [[0], [1], [2], [3]])
    first, second = (freeze_snapshot(project, format="rankings") for _ in range(2))
    rank(project, annotator, [[0], [1], [2], [3]])
    third = freeze_snapshot(project, format="rankings")
    assert (first.number, second.number) == (1, 2)
    assert first.sha256 == second.sha256 != third.sha256


def test_a_changed_file_is_noticed():
    project = make_project()
    make_slate(project)
    rank(project, make_member(project), [[0], [1], [2], [3]])
    snapshot = freeze_snapshot(project, format="rankings", shares=ALL_TRAIN)
    verify_snapshot(snapshot)
    path = snapshot_directory(snapshot) / "train.jsonl"
    path.write_text(path.read_text().replace("Answer", "Anders"))
    with pytest.raises(SnapshotRefused, match=r"train\.jsonl was changed"):
        verify_snapshot(snapshot)
    path.unlink()
    with pytest.raises(SnapshotRefused, match=r"lost its file train\.jsonl"):
        verify_snapshot(snapshot)


def test_filters_choose_by_kind_category_and_day():
    project = make_project(overlap=2)
    make_slate(project, metadata={"category": "safety"})
    make_slate(project, metadata={"category": "reasoning"})
    annotator = make_member(project)
    for _ in range(2):
        rank(project, annotator, [[0], [1], [2], [3]])
    simulate_annotators(project, names=["simulated-1"], seed=0)
    today = timezone.now().date()

    def rankings(**filters):
        snapshot = freeze_snapshot(project, format="rankings", filters=SnapshotFilters(**filters))
        return snapshot.manifest["counts"]["rankings"], snapshot.manifest["counts"]["simulated_rankings"]

    assert rankings() == (4, 2)
    assert rankings(annotator_kinds=("person",)) == (2, 0)
    assert rankings(categories=("safety",)) == (2, 1)
    assert rankings(since=today, until=today) == (4, 2)
    with pytest.raises(SnapshotRefused, match="Nothing to freeze"):
        rankings(since=today + timedelta(days=1))


def test_a_past_period_stays_the_same_when_a_judgement_is_amended_later(monkeypatch):
    project = make_project()
    make_slate(project, count=2)
    annotator = make_member(project)
    first = rank(project, annotator, [[0], [1]])
    today = timezone.now()
    monkeypatch.setattr(timezone, "now", lambda: today + timedelta(days=2))
    second = amend_ranking(annotator, ranking=first, judgement=Judgement(tiers=[[1], [0]])).ranking

    def chosen(until):
        filters = SnapshotFilters(until=until)
        (row,) = read_rows(freeze_snapshot(project, format="trl-preference", filters=filters, shares=ALL_TRAIN))
        return row["chosen_id"]

    assert chosen(today.date()) == first.tiers[0][0]
    assert chosen(today.date() + timedelta(days=2)) == chosen(None) == second.tiers[0][0]


def test_simulated_judgements_are_named_as_such_in_card_and_manifest():
    project = make_project()
    make_slate(project)
    simulate_annotators(project, names=["simulated-1"], seed=0)
    snapshot = freeze_snapshot(project, format="rankings")
    card = (snapshot_directory(snapshot) / "README.md").read_text()
    assert snapshot.manifest["simulated"] is True
    assert "1 of 1 rankings are by simulated annotators" in card


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"format": "csv"}, "Unknown format 'csv'"),
        ({"format": "rankings", "shares": (0.5, 0.5, 0.5)}, "sum to 1"),
        ({"format": "rankings", "shares": (0.0, 0.5, 0.5)}, "leave some to train"),
        ({"format": "rankings", "split_seed": -1}, "0 or more"),
        ({"format": "rankings"}, "Nothing to freeze"),
    ],
)
def test_what_cannot_be_frozen_leaves_nothing_behind(request_, message, data_dir):
    project = make_project()
    with pytest.raises(SnapshotRefused, match=message):
        freeze_snapshot(project, **request_)
    assert not Snapshot.objects.exists()
    assert [path for path in data_dir.rglob("*") if path.is_file()] == []


def judge_in_every_way(project):
    """Slates with all that can be said, with as little as can be, and with an imported judgement beside them."""
    rich, poor = make_member(project), make_member(project)
    ratings = {"Help": dict.fromkeys(range(4), 3), "Tone": dict.fromkeys(range(4), 2)}
    for number in range(12):
        said = {"flags": {0: ["unsafe"]}, "corrections": {1: "漢字\n"}, "rationale": "ok"} if number % 2 else {}
        rank(project, rich, [[0], [1, 2], [3]], ratings=ratings, **said)
        rank(project, poor, [], all_bad=True) if number % 3 else rank(project, poor, [[0, 1, 2, 3]], ratings=ratings)
    slate = project.slates.first()
    order = list(slate.places.values_list("response_id", flat=True))
    imported = Membership.objects.create(project=project, name="w7", kind="imported", role="annotator")
    slot = Slot.objects.create(slate=slate, number=9, state="done", annotator=imported)
    tiers = [[pk] for pk in order]
    Ranking.objects.create(slate=slate, slot=slot, annotator=imported, token=uuid4(), tiers=tiers)


@pytest.mark.parametrize("format", list(FORMATS))
def test_load_dataset_reads_every_format_as_it_is_and_parquet_says_the_same(format, tmp_path):
    datasets = pytest.importorskip("datasets")
    project = make_project(overlap=2, scales=SCALES)
    for _ in range(12):
        make_slate(project)
    prompt = make_prompt(project, text="Zeile 1\n\n  عربى 漢字 \u2028 end ")
    assert prompt.messages[0]["content"].endswith(" ")
    project.prompts.update(reference=" 漢字 \u2028 end ")
    judge_in_every_way(project)
    snapshot = freeze_snapshot(project, format=format, shares=(0.6, 0.2, 0.2))
    directory = snapshot_directory(snapshot)
    loaded = datasets.load_dataset(str(directory), cache_dir=str(tmp_path / "a"))
    parquet = datasets.load_dataset(str(directory / "parquet"), cache_dir=str(tmp_path / "b"))
    rows = snapshot.manifest["counts"]["rows"]
    assert {split: len(part) for split, part in loaded.items()} == {s: n for s, n in rows.items() if n}
    for split, part in loaded.items():
        assert part.column_names == SCHEMAS[format].names
        assert part.to_list() == parquet[split].to_list() == read_rows(snapshot, split)


def test_load_dataset_reads_an_empty_split_and_a_column_that_is_empty_in_one_split(tmp_path):
    """References in the test split only, and no validation split: types come from the card, not from the rows."""
    datasets = pytest.importorskip("datasets")
    project = make_project()
    shares = (0.6, 0.0, 0.4)
    for _ in range(12):
        prompt = make_prompt(project)
        in_test = split_of(prompt.content_hash, seed=0, shares=shares) == "test"
        project.prompts.filter(pk=prompt.pk).update(reference="Because." if in_test else None)
    directory = snapshot_directory(freeze_snapshot(project, format="prompts", shares=shares))
    for path, cache in ((directory, "a"), (directory / "parquet", "b")):
        loaded = datasets.load_dataset(str(path), cache_dir=str(tmp_path / cache))
        assert set(loaded) == {"train", "test"}
        assert set(loaded["train"]["reference"]) == {None}
        assert set(loaded["test"]["reference"]) == {"Because."}


@pytest.mark.parametrize("format", ["ratings", "trl-preference", "annotations"])
def test_load_dataset_reads_a_format_whose_splits_are_empty_but_one(format, tmp_path):
    datasets = pytest.importorskip("datasets")
    project = make_project(kind="best", scales=SCALES)
    make_slate(project)
    ratings = {"Help": dict.fromkeys(range(4), 3), "Tone": dict.fromkeys(range(4), 2)}
    rank(project, make_member(project), [[0], [1, 2, 3]], ratings=ratings)
    snapshot = freeze_snapshot(project, format=format, shares=ALL_TRAIN)
    loaded = datasets.load_dataset(str(snapshot_directory(snapshot)), cache_dir=str(tmp_path))
    assert list(loaded) == ["train"]
    assert loaded["train"].to_list() == read_rows(snapshot)


def test_the_training_library_reads_pairs_of_every_origin():
    """chosen_id is a number in some rows and null in others, and columns are there that the library does not know."""
    project = make_project(scales=SCALES, overlap=2)
    for _ in range(12):
        make_slate(project)
    judge_in_every_way(project)
    snapshot = freeze_snapshot(project, format="trl-preference", shares=ALL_TRAIN)
    rows = read_rows(snapshot)
    assert {row["origin"] for row in rows} == {"response", "correction"}
    pairs = read_pairs(snapshot_directory(snapshot) / "train.jsonl")
    assert [(pair.prompt, pair.chosen, pair.rejected) for pair in pairs] == [
        (row["prompt"], row["chosen"], row["rejected"]) for row in rows
    ]
    assert {pair.margin for pair in pairs} == {None}


def test_query_count_does_not_grow_with_rankings(django_assert_max_num_queries):
    project = make_project()
    for _ in range(40):
        make_slate(project)
    simulate_annotators(project, names=["simulated-1"], seed=0)
    with django_assert_max_num_queries(16):
        freeze_snapshot(project, format="annotations")


def test_the_command_exports_into_an_empty_directory_and_prints_the_manifest(tmp_path):
    project = make_project(slug="exported")
    make_slate(project)
    simulate_annotators(project, names=["simulated-1"], seed=0)
    out = io.StringIO()
    arguments = ["--project", "exported", "--format", "rankings", "--out", str(tmp_path / "out"), "--json"]
    call_command("export_snapshot", *arguments, stdout=out)
    manifest = json.loads(out.getvalue().splitlines()[-1])
    assert manifest["counts"]["rankings"] == 1
    assert {"train.jsonl", "validation.jsonl", "test.jsonl", "manifest.json", "README.md"} <= {
        path.name for path in (tmp_path / "out").iterdir()
    }
    with pytest.raises(CommandError, match="not an empty directory"):
        call_command("export_snapshot", *arguments)
    with pytest.raises(CommandError, match="no project 'nobody'"):
        call_command("export_snapshot", "--project", "nobody", *arguments[2:])
