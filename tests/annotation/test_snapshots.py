"""Snapshots: what goes in, how it is split, and that it never changes."""

from __future__ import annotations

import io
import json
from datetime import timedelta

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from annotation.domain.assigning import claim_slot
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
from annotation.models import Snapshot
from tests.annotation.factories import make_member, make_project, make_prompt, make_slate

pytestmark = pytest.mark.django_db
ALL_TRAIN = (1.0, 0.0, 0.0)


def rank(project, annotator, tiers, **extra):
    return submit_ranking(annotator, token=claim_slot(annotator).token, tiers=tiers, **extra).ranking


def read_rows(snapshot, split="train"):
    path = snapshot_directory(snapshot) / f"{split}.jsonl"
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


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


def test_only_the_newest_version_of_a_ranking_enters():
    project = make_project()
    make_slate(project, count=2)
    annotator = make_member(project)
    first = rank(project, annotator, [[0], [1]])
    second = amend_ranking(annotator, ranking=first, token="0" * 32, tiers=[[1], [0]]).ranking
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


def test_annotations_carry_presented_order_time_and_guidelines_version():
    project = make_project()
    make_slate(project)
    ranking = rank(project, make_member(project), [[2], [0, 1, 3]], active_ms=900, rationale="C is right.")
    (row,) = read_rows(freeze_snapshot(project, format="annotations", shares=ALL_TRAIN))
    assert row["presented_order"] == ranking.presented_order
    assert (row["active_ms"], row["guidelines_version"], row["rationale"]) == (900, 1, "C is right.")
    assert row["ranks"][row["response_ids"].index(ranking.tiers[0][0])] == 1
    assert sorted(row["ranks"]) == [1, 2, 2, 2]


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
    second = amend_ranking(annotator, ranking=first, token="1" * 32, tiers=[[1], [0]]).ranking

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


@pytest.mark.parametrize("format", list(FORMATS))
def test_load_dataset_reads_every_format_as_it_is_and_parquet_says_the_same(format, tmp_path):
    datasets = pytest.importorskip("datasets")
    project = make_project()
    for _ in range(12):
        make_slate(project)
    prompt = make_prompt(project, text="Zeile 1\n\n  عربى 漢字 \u2028 end ")
    assert prompt.messages[0]["content"].endswith(" ")
    simulate_annotators(project, names=["simulated-1"], seed=0)
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
