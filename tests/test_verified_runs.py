"""Runs that verifiers decide, asked for in the browser's form and carried out by the real worker on a tiny model."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from django.core.management import call_command
from django.test import Client

from annotation.domain import runs
from annotation.domain.assigning import claim_slot
from annotation.domain.judgement import Judgement
from annotation.domain.ranking import submit_ranking
from annotation.domain.snapshots import freeze_snapshot
from annotation.models import Membership, Model, Project, Run, Slate, Verdict
from tests.annotation.factories import make_member
from tests.rewardmodel.tiny import build_tiny_model

pytestmark = pytest.mark.django_db
PROMPTS = 14
HAS_A_VOWEL = {"kind": "constraints", "constraints": [{"type": "regex", "pattern": "[aeiou]"}]}


@pytest.fixture
def engineer(tmp_path: Path) -> Membership:
    """The engineer of a project whose prompts ask for a vowel; of their two responses the second has none."""
    rows = [
        {
            "id": f"p{number}",
            "prompt": f"Say a word with a vowel, number {number}.",
            "verifier": HAS_A_VOWEL,
            "responses": [
                {"id": "good", "source": "script", "text": f"apple {number}"},
                {"id": "bad", "source": "script", "text": f"rhythm {number}"},
            ],
        }
        for number in range(PROMPTS)
    ]
    file = tmp_path / "prompts.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    call_command("import_data", "--project", "vowels", "--create", str(file))
    return make_member(Project.objects.get(slug="vowels"), role="engineer")


@pytest.fixture
def client(engineer: Membership) -> Client:
    client = Client()
    assert engineer.user is not None
    client.force_login(engineer.user)
    return client


def carry_out(client: Client, **form: object) -> Run:
    """Ask for a run in the form and have the worker carry it out."""
    answer = client.post("/projects/vowels/runs/new/", form)
    assert answer.status_code == 302, answer.content.decode()
    call_command("work", drain=True)
    run = Run.objects.latest("pk")
    log = runs.run_directory(run) / "log.txt"
    assert run.state == "succeeded", (run.error, log.read_text() if log.exists() else "")
    return run


def test_a_rejection_run_goes_from_the_form_through_the_worker_into_the_registry(
    engineer: Membership, client: Client, tmp_path: Path
) -> None:
    """Two rounds on what a model of random weights happens to say; what it learns is tested in the library."""
    snapshot = freeze_snapshot(engineer.project, format="prompts", shares=(0.7, 0.0, 0.3))
    tiny = build_tiny_model(tmp_path / "tiny", positions=1024)
    run = carry_out(
        client,
        method="rejection",
        snapshot=snapshot.number,
        model=str(tiny),
        rounds=2,
        samples=4,
        max_samples=8,
        enough=1,
        response_tokens=64,
        tuning="full",
        epochs=1,
        seed=1,
    )
    assert (run.method, run.snapshot, run.created_by) == ("rejection", snapshot, engineer.user)
    assert run.report is not None
    rounds = run.report["rounds"]
    assert [row["round"] for row in rounds] == [1, 2]
    assert all(row["rows"] > 0 and 0 < row["acceptance"] <= 1 for row in rounds)
    split = snapshot.manifest["counts"]["rows"]["test"]
    assert run.report["heldout"]["n_prompts"] == split > 0
    page = client.get(f"/projects/vowels/runs/{run.number}/").content.decode()
    assert f"{run.report['heldout']['n_prompts']} held-out prompts pass their verifier" in page
    for row in rounds:
        assert f'<td class="r num">{row["attempts"]}</td>' in page
    registered = client.post(f"/projects/vowels/runs/{run.number}/register/", {"name": "says vowels"})
    assert registered.status_code == 302
    model = Model.objects.get(run=run)
    assert (model.name, model.kind) == ("says vowels", "policy")
    assert registered.headers["Location"] == f"/projects/vowels/models/{model.pk}/"
    assert "says vowels" in client.get("/projects/vowels/models/").content.decode()


def test_a_verify_run_goes_from_the_form_through_the_worker_to_the_annotator(client: Client) -> None:
    """Half of the responses pass; who then ranks one that failed first is told so afterwards, and queued as a
    conflict."""
    run = carry_out(client, method="verify")
    assert run.report is not None
    assert (run.report["passed"], run.report["verified"]) == (PROMPTS, 2 * PROMPTS)
    passed = Verdict.objects.filter(response__external_id__endswith="/good")
    assert set(Verdict.objects.filter(passed=True)) == set(passed)
    assert "14 passed, 14 failed" in client.get(f"/projects/vowels/runs/{run.number}/").content.decode()
    annotator, browser = make_member(run.project), Client()
    assert annotator.user is not None
    browser.force_login(annotator.user)
    lease = claim_slot(annotator)
    assert lease is not None
    slate = Slate.objects.get(slots__token=lease.token)
    bad = slate.responses.get(external_id__endswith="/bad").pk
    order = [lease.presented_order.index(bad), 1 - lease.presented_order.index(bad)]
    assert "verdict" not in browser.get("/projects/vowels/rank/").content.decode().lower()
    submit_ranking(annotator, token=lease.token, judgement=Judgement(tiers=[[place] for place in order]))
    history = browser.get("/projects/vowels/history/").content.decode()
    assert "Show verdicts" in history
    assert history.count('class="tag failed"') == history.count('class="tag passed"') == 1
    queue = client.get("/projects/vowels/conflicts/")
    assert [row["conflict"].failed.response_id for row in queue.context["rows"]] == [bad]
