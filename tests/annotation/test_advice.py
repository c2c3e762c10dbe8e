"""Advice: what the advisor reads of a project, the job by a real worker, and the runs that follow it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command

from annotation.domain import collecting, runs
from annotation.domain.advice import advice_rows, newest_trainable, runs_to_start
from annotation.domain.assigning import claim_slot
from annotation.domain.judgement import Judgement
from annotation.domain.ranking import submit_ranking
from annotation.domain.simulating import simulate_annotators
from annotation.domain.snapshots import SnapshotRefused, freeze_snapshot, snapshot_directory
from annotation.models import Model, Project, Prompt, Run
from annotation.queries import advice_runs, given_advice
from tests.annotation.factories import make_member, make_project, make_prompt, make_slate
from tests.rewardmodel.tiny import build_tiny_model

pytestmark = pytest.mark.django_db
HALVES = (0.5, 0.0, 0.5)


def make_sums(project: Project, *, count: int, references: int) -> list[Prompt]:
    """Sums with verifiers, the first of them with their right answers."""
    prompts = [make_prompt(project, text=f"What is {i} + {i}?") for i in range(1, count + 1)]
    for i, prompt in enumerate(prompts, start=1):
        prompt.verifier = {"kind": "math", "answer": str(2 * i)}
        prompt.reference = str(2 * i) if i <= references else None
        prompt.save()
    return prompts


def work(run: Run) -> Run:
    call_command("work", drain=True)
    run.refresh_from_db()
    return run


def test_the_advisor_reads_prompts_comparisons_and_corrections_of_people_alone() -> None:
    """B is corrected and ranked above A: B ≻ A, edit ≻ B, and the edit as a right answer. What the simulated annotator
    judged is left out."""
    project = make_project(slate_size=2)
    slate = make_slate(project, count=2)
    slate.prompt.reference = "42"
    slate.prompt.save()
    member = make_member(project)
    lease = claim_slot(member)
    assert lease is not None
    judgement = Judgement(tiers=[[1], [0]], corrections={1: "Better."})
    better = slate.responses.get(pk=lease.presented_order[1]).text
    worse = slate.responses.get(pk=lease.presented_order[0]).text
    submit_ranking(member, token=lease.token, judgement=judgement)
    other = make_slate(project, count=2)
    simulate_annotators(project, names=["simulated-1"], seed=0)
    assert other.rankings.count() == 1

    def reply(text: str) -> list[dict[str, str]]:
        return [{"role": "assistant", "content": text}]

    asked = slate.prompt.messages
    assert list(advice_rows(project)) == [
        {"prompt": asked, "reference": "42", "verifier": None},
        {"prompt": other.prompt.messages, "reference": None, "verifier": None},
        {"prompt": asked, "chosen": reply(better), "rejected": reply(worse)},
        {"prompt": asked, "chosen": reply("Better."), "rejected": reply(better)},
        {"prompt": asked, "completion": reply("Better.")},
    ]


def test_a_worker_gives_advice_on_what_can_be_checked() -> None:
    """12 sums, 5 with their right answers: fewer than 10 labels, all checkable: RFT. Verifiers are tried on the 5, and
    on as many answers to other prompts; 5 of 5 leaves doubt (Wilson's lower bound 0.57 is below 0.9)."""
    project = make_project()
    make_sums(project, count=12, references=5)
    run = work(runs.queue_run(project, method="advise", settings={}))
    assert (run.state, run.error) == ("succeeded", "")
    assert run.report is not None
    said = run.report["advice"]
    assert (said["method"], said["certain"]) == ("rft", False)
    assert [(step["node"], step["answer"]) for step in said["path"]] == [("labels", "no"), ("unlabelled", "yes")]
    counted = {name: (one["count"], one["total"]) for name, one in said["evidence"].items() if isinstance(one, dict)}
    assert counted == {"checked": (12, 12), "references": (5, 5), "strangers": (0, 5), "agreement": (0, 0)}
    assert run.report["drawing"]["tree"]["answer"] == "no"
    assert given_advice(project).get() == run


def test_a_worker_tries_thinking_aloud_with_a_registered_model(tmp_path: Path) -> None:
    project = make_project()
    make_sums(project, count=12, references=12)
    policy = collecting.add_model(
        project, name="tiny", kind="policy", location=str(build_tiny_model(tmp_path / "tiny"))
    )
    settings = {"trial_prompts": 2, "max_new_tokens": 2, "threads": 1}
    run = work(runs.queue_run(project, method="advise", settings=settings, base_model=policy))
    assert (run.state, run.error) == ("succeeded", "")
    assert run.report is not None
    assert run.report["advice"]["evidence"]["trial"]["prompts"] == 2
    assert [step["node"] for step in run.report["advice"]["path"]] == ["labels", "plenty", "reasoning"]
    with pytest.raises(collecting.CollectionRefused, match="Only a training run"):
        collecting.register_model(run, name="advice")
    assert Model.objects.count() == 1


def test_a_verifier_that_is_none_fails_the_run_by_name() -> None:
    project = make_project()
    prompt = make_prompt(project)
    prompt.verifier = {"kind": "maths"}
    prompt.save()
    run = work(runs.queue_run(project, method="advise", settings={}))
    assert run.state == "failed"
    assert "project.jsonl, line 1, verifier: kind: unknown 'maths': did you mean 'math'?" in run.error
    assert not given_advice(project).exists()
    assert advice_runs(project).get() == run


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        ({"settings": {"many": 0}}, "many: must be at least 1, got 0"),
        ({"settings": {"checkable": 2}}, "checkable: must be at most 1, got 2"),
        ({"settings": {"mani": 5}}, "unknown 'mani': did you mean 'many'"),
        ({"settings": {"model": "some/model"}}, "needs 2 prompts with verifiers at least"),
    ],
)
def test_advice_that_cannot_be_given_is_refused_before_it_is_queued(request_: dict[str, Any], message: str) -> None:
    project = make_project()
    make_sums(project, count=1, references=1)
    with pytest.raises(runs.RunRefused, match=message):
        runs.queue_run(project, method="advise", **request_)
    with pytest.raises(runs.RunRefused, match="no prompts yet"):
        runs.queue_run(make_project(), method="advise", settings={})
    snapshot = freeze_snapshot(project, format="prompts")
    with pytest.raises(runs.RunRefused, match="name no snapshot"):
        runs.queue_run(project, method="advise", settings={}, snapshot=snapshot)
    assert not Run.objects.exists()


def test_a_snapshot_of_references_holds_right_answers_and_sft_learns_from_it() -> None:
    project = make_project()
    prompts = make_sums(project, count=12, references=8)
    seed = 0
    snapshot = freeze_snapshot(project, format="references", split_seed=seed, shares=HALVES)
    rows = [
        json.loads(line)
        for split in ("train", "test")
        for line in (snapshot_directory(snapshot) / f"{split}.jsonl").read_text().splitlines()
    ]
    assert sorted(rows, key=lambda row: row["prompt_id"]) == [
        {
            "prompt": prompt.messages,
            "completion": [{"role": "assistant", "content": prompt.reference}],
            "prompt_id": prompt.pk,
            "external_id": prompt.external_id,
        }
        for prompt in prompts[:8]
    ]
    assert snapshot.manifest["dropped"] == {"prompts without a reference": 4}
    run = runs.queue_run(project, method="sft", settings={}, snapshot=snapshot)
    assert run.snapshot == snapshot
    with pytest.raises(runs.RunRefused, match="in the format references; dpo runs train on trl-preference"):
        runs.queue_run(project, method="dpo", settings={}, snapshot=snapshot)


def test_a_project_without_references_has_none_to_freeze() -> None:
    project = make_project()
    make_sums(project, count=3, references=0)
    with pytest.raises(SnapshotRefused, match="none of 3 prompts has a reference, its right answer"):
        freeze_snapshot(project, format="references")


def test_what_is_advised_starts_on_the_newest_snapshot_that_can_be_trained_on() -> None:
    """A newer snapshot whose test split is empty is passed over."""
    project = make_project()
    make_sums(project, count=12, references=6)

    def starts(advised: str) -> list[tuple[str, str, int | None]]:
        found = runs_to_start(project, advised=advised)
        return [(one.method.value, one.format, one.snapshot.number if one.snapshot else None) for one in found]

    assert starts("rft") == [("rejection", "prompts", None)]
    good = freeze_snapshot(project, format="prompts", shares=HALVES)
    freeze_snapshot(project, format="prompts", shares=(1.0, 0.0, 0.0))
    assert newest_trainable(project, format="prompts") == good
    assert starts("rft") == [("rejection", "prompts", 1)]
    assert starts("sft") == [("sft", "references", None)]
    assert starts("rlhf") == [("dpo", "trl-preference", None), ("reward", "trl-preference", None)]
    collecting.add_model(project, name="judge", kind="reward", location="judge")
    assert starts("rlhf") == [("dpo", "trl-preference", None), ("ppo", "prompts", 1)]
    Prompt.objects.update(reference=None)
    assert starts("sft") == [("sft", "sft", None)]
