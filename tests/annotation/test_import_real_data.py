"""Real judgements: each of the prepared data sets comes in whole, and only once.

The counts are those that the README beside each data set states.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.db.models import Count

from annotation.domain.importing import ImportCounts, ImportFile, import_files
from annotation.domain.projects import create_project
from annotation.domain.snapshots import SPLITS, freeze_snapshot, snapshot_directory
from annotation.models import Membership, Project, Prompt, Ranking, Response, Slate, Slot

DATA = Path(__file__).parents[2].parent / "shared" / "data"

pytestmark = [
    pytest.mark.django_db,
    pytest.mark.skipif(not DATA.is_dir(), reason=f"the prepared data is not there: {DATA}"),
]


@pytest.fixture
def project() -> Project:
    return create_project(slug="p", name="P", guidelines="Be fair.")


def files_of(folder: str, *names: str) -> list[ImportFile]:
    return [ImportFile(f"{name}.jsonl", DATA / folder / f"{name}.jsonl") for name in names]


def rows_of(folder: str, name: str) -> list[dict]:
    with (DATA / folder / f"{name}.jsonl").open(encoding="utf-8") as lines:
        return [json.loads(line) for line in lines]


def count_ties() -> int:
    """Rankings in which two responses share a tier."""
    return sum(any(len(tier) > 1 for tier in tiers) for tiers in Ranking.objects.values_list("tiers", flat=True))


def no_slot_is_free() -> bool:
    return not Slot.objects.exclude(state="done").exists() and Slot.objects.count() == Ranking.objects.count()


def test_hh_helpful_keeps_every_turn_byte_for_byte(project):
    counts = import_files(project, files=files_of("hh_helpful", "train", "test"))
    assert counts == ImportCounts(prompts=2500, responses=5000, slates=2500, rankings=2500)
    prompts = dict(Prompt.objects.values_list("external_id", "messages"))
    texts = dict(Response.objects.values_list("pk", "text"))
    tiers = dict(Ranking.objects.values_list("slate__external_id", "tiers"))
    for row in rows_of("hh_helpful", "train") + rows_of("hh_helpful", "test"):
        assert prompts[row["id"]] == row["prompt"]
        assert [[texts[pk] for pk in tier] for tier in tiers[row["id"]]] == [
            [row["chosen"][0]["content"]], [row["rejected"][0]["content"]],
        ]  # fmt: skip
    assert no_slot_is_free()
    assert import_files(project, files=files_of("hh_helpful", "train", "test")) == ImportCounts(skipped=2500)


def test_hh_helpful_survives_to_the_exported_snapshot_byte_for_byte(project):
    import_files(project, files=files_of("hh_helpful", "train", "test"))
    snapshot = freeze_snapshot(project, format="trl-preference")
    exported = [
        line
        for split in SPLITS
        for line in (snapshot_directory(snapshot) / f"{split}.jsonl").read_text(encoding="utf-8").split("\n")[:-1]
    ]
    fields = ("prompt", "chosen", "rejected")
    rows = rows_of("hh_helpful", "train") + rows_of("hh_helpful", "test")
    assert sum(len(row["prompt"]) > 1 for row in rows) > 1000
    assert sorted(json.dumps([json.loads(line)[name] for name in fields]) for line in exported) == sorted(
        json.dumps([row[name] for name in fields]) for row in rows
    )
    assert snapshot.manifest["dropped"] == {}


def test_pandalm_has_its_ties_and_shares_prompts(project):
    files = files_of("pandalm_pairs", "annotations", "items")
    counts = import_files(project, files=files)
    assert counts == ImportCounts(prompts=170, responses=1998, slates=999, rankings=2997)
    assert count_ties() == 326
    assert no_slot_is_free()
    assert set(Slate.objects.annotate(n=Count("rankings")).values_list("n", flat=True)) == {3}
    assert Response.objects.filter(metadata__text_was="boolean", text="true").count() == 6
    assert import_files(project, files=files) == ImportCounts(skipped=999 + 2997)


def test_rankme_has_a_slate_for_each_criterion(project):
    files = files_of("rankme_k3", "items", "annotations")
    counts = import_files(project, files=files)
    assert counts == ImportCounts(prompts=100, responses=300, slates=300, rankings=900)
    assert count_ties() == 772
    assert no_slot_is_free()
    by_criterion = Slate.objects.values_list("criterion").annotate(n=Count("rankings")).order_by("criterion")
    assert list(by_criterion) == [("informativeness", 300), ("naturalness", 300), ("quality", 300)]
    assert import_files(project, files=files) == ImportCounts(skipped=1000)


def test_squality_has_full_rankings_and_ratings(project):
    files = files_of("squality_k3", "items", "annotations")
    counts = import_files(project, files=files)
    assert counts == ImportCounts(prompts=76, responses=300, slates=100, rankings=300)
    assert count_ties() == 0
    assert Membership.objects.count() == 4
    human_first = 0
    sources = dict(Response.objects.values_list("pk", "source"))
    for tiers in Ranking.objects.values_list("tiers", flat=True):
        human_first += "human" in sources[tiers[0][0]]
    assert human_first == 294
    assert set(Ranking.objects.values_list("ratings", flat=True)[0] or {}) == {"overall", "correctness", "selection"}
    assert import_files(project, files=files) == ImportCounts(skipped=400)


def test_ukp_has_a_prompt_a_topic_and_a_slot_a_judgement(project):
    files = files_of("ukp_convarg", "annotations", "items", "arguments", "topics")
    counts = import_files(project, files=files)
    assert counts == ImportCounts(prompts=8, responses=248, slates=3775, rankings=18835)
    assert count_ties() == 4274
    assert Membership.objects.count() == 2753
    assert no_slot_is_free()


@pytest.mark.parametrize(
    ("folder", "name", "count"),
    [("gsm8k", "test", 200), ("mbpp", "tasks", 200), ("ifeval", "tasks", 200), ("bbh_logic", "tasks", 360)],
)
def test_task_files_are_prompts(project, folder, name, count):
    counts = import_files(project, files=files_of(folder, name))
    assert (counts.prompts + counts.skipped, counts.responses) == (count, 0)
