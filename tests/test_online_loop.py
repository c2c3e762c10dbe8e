"""PPO and RLOO from the form to the page that compares them, on a tiny model, by the real worker and its processes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from annotation.domain import collecting, runs
from annotation.domain.snapshots import freeze_snapshot
from annotation.models import Model, Run
from rewardmodel.compute import Compute
from rewardmodel.models import create_reward_model, load_tokenizer, save_model
from tests.annotation.factories import make_member, make_project, make_prompt
from tests.rewardmodel.tiny import build_tiny_model

pytestmark = pytest.mark.django_db

SETTINGS = {
    "max_length": 128, "response_tokens": 8, "batch_size": 8, "minibatches": 2, "ppo_epochs": 1, "max_steps": 3,
    "test_prompts": 6, "report_samples": 2, "sample_steps": 2, "gold_steps": 2, "learning_rate": "0.003",
    "tuning": "full", "temperature": 1, "seed": 0,
}  # fmt: skip


def build_judge(tiny: Path, directory: Path, *, seed: int) -> Path:
    """The tiny model with a head drawn at random: it tells responses apart, which is all that is needed here."""
    tokenizer = load_tokenizer(tiny)
    model = create_reward_model(tiny, tokenizer=tokenizer, compute=Compute(device="cpu", precision="fp32"), seed=seed)
    save_model(model, tokenizer=tokenizer, directory=directory)
    return directory


def test_ppo_and_rloo_go_from_the_form_to_the_page_that_compares_them(tmp_path: Path) -> None:
    project = make_project(slug="online")
    for number in range(30):
        make_prompt(project, text=f"the cat sat near some trees {number}")
    tiny = build_tiny_model(tmp_path / "tiny")
    policy = collecting.add_model(project, name="tiny", kind="policy", location=str(tiny))
    judges = [
        collecting.add_model(
            project, name=name, kind="reward", location=str(build_judge(tiny, tmp_path / name, seed=seed))
        )
        for seed, name in enumerate(("rm", "gold"))
    ]
    snapshot = freeze_snapshot(project, format="prompts", shares=(0.6, 0.0, 0.4))
    client = Client()
    engineer = make_member(project, role="engineer").user
    assert engineer is not None
    client.force_login(engineer)
    asked: dict[str, Any] = {"snapshot": snapshot.number, "base_model": policy.pk, "gold_model": judges[1].pk}

    def start(**fields: Any) -> None:
        answer = client.post("/projects/online/runs/new/", {**SETTINGS, **asked, **fields})
        assert answer.status_code == 302, answer.context["form"].errors

    start(method="ppo", reward_model=judges[0].pk, whiten_advantages="true")
    start(
        method="rloo",
        group_size=2,
        rewards="- {kind: model, model: rm}\n- {kind: length, free: 2, most: 8, weight: 0.5}",
    )
    call_command("work", drain=True)

    for run in Run.objects.order_by("number"):
        assert (run.state, run.error) == ("succeeded", "")
        assert [row["step"] for row in runs.run_metrics(run)] == [1, 2, 3]
        assert [row["step"] for row in runs.run_samples(run)] == [0, 0, 2, 2, 3, 3]
        assert [point["step"] for point in run.report["gold_curve"]] == [0, 2, 3]
        page = client.get(f"/projects/online/runs/{run.number}/")
        titles = [panel.title for panel in page.context["live"]["panels"]]
        assert titles[:5] == ["Score", "KL", "Length", "Entropy", "Clip fraction"]
        assert ("Explained variance" in titles) == (run.method == "ppo")
        assert (titles[-2:] == ["length", "model"]) == (run.method == "rloo")
        assert len(page.context["live"]["gold_curve"]) == 2
        assert f"{run.report['heldout']['score']:.3f}" in page.content.decode()
        client.post(f"/projects/online/runs/{run.number}/register/", {"name": f"after-{run.method}"})
    assert list(Model.objects.filter(kind="policy").values_list("name", flat=True).order_by("pk")) == [
        "tiny", "after-ppo", "after-rloo",
    ]  # fmt: skip
    page = client.get("/projects/online/runs/compare/")
    assert [one.run.method for one in page.context["compared"]] == ["ppo", "rloo"]
    assert page.context["differences"] == ["reward model"]
    assert [len(line.points) for line in page.context["frontiers"]] == [3, 3]
