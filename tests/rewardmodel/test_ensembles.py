"""Several reward models as one: averages of weights, and scores side by side."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from rewardmodel.cli import main
from rewardmodel.compute import Compute
from rewardmodel.models import create_reward_model, load_tokenizer, save_model
from rewardmodel.rundir import read_json, read_json_lines, write_json
from tests.rewardmodel.tiny import build_tiny_model, write_rows


@pytest.fixture(scope="module")
def members(tiny_model: Path, tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Reward models of one base whose heads differ."""
    root = tmp_path_factory.mktemp("members")
    tokenizer = load_tokenizer(tiny_model)
    for seed in range(3):
        model = create_reward_model(
            tiny_model, tokenizer=tokenizer, compute=Compute(device="cpu", precision="fp32"), seed=seed
        )
        save_model(model, tokenizer=tokenizer, directory=root / str(seed))
    return [str(root / str(seed)) for seed in range(3)]


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    words = ["the cat sat", "some green trees", "rain fell", "the " * 400]
    return write_rows(tmp_path / "rows.jsonl", [{"prompt": "a", "response": text} for text in words])


def score(tmp_path: Path, *arguments: str) -> list[dict[str, object]]:
    out = tmp_path / "scores.jsonl"
    assert main(["score", *arguments, "--out", str(out), "--device", "cpu"]) == 0
    return read_json_lines(out)


def test_an_average_is_the_mean_of_all_weights_and_a_plain_model(
    tmp_path: Path, members: list[str], rows: Path
) -> None:
    """The members differ in their heads alone, so the average's score is the mean of theirs."""
    assert main(["average", *members, "-o", str(tmp_path / "average")]) == 0
    parts = [load_file(Path(name) / "model.safetensors") for name in members]
    for name, found in load_file(tmp_path / "average" / "model.safetensors").items():
        torch.testing.assert_close(found, torch.stack([part[name] for part in parts]).mean(0))
    together = score(tmp_path, members[0], str(rows), "--with", members[1], "--with", members[2])
    averaged = score(tmp_path, str(tmp_path / "average"), str(rows))
    assert [row["score"] for row in averaged[:3]] == pytest.approx([row["score"] for row in together[:3]], abs=1e-6)
    assert "| 3 | model.safetensors |" in (tmp_path / "average" / "README.md").read_text(encoding="utf-8")


def test_scores_by_several_have_their_mean_and_spread(tmp_path: Path, members: list[str], rows: Path) -> None:
    """Two members, scores a and b of each text: std is |(a - mean a) - (b - mean b)| / sqrt 2."""
    first, second = (score(tmp_path, name, str(rows)) for name in members[:2])
    together = score(tmp_path, members[0], str(rows), "--with", members[1])
    pairs = [(one["score"], other["score"]) for one, other in zip(first[:3], second[:3], strict=True)]
    assert [row["scores"] for row in together[:3]] == [pytest.approx(pair) for pair in pairs]
    leads = [one - other for one, other in pairs]
    centre = sum(leads) / 3
    assert [row["std"] for row in together[:3]] == pytest.approx([abs(lead - centre) / 2**0.5 for lead in leads])
    assert [row["score"] for row in together[:3]] == pytest.approx([sum(pair) / 2 for pair in pairs])
    assert {name: together[3][name] for name in ("score", "std", "scores")} == {
        "score": None, "std": None, "scores": []
    }  # fmt: skip


def test_what_cannot_be_averaged_is_refused(
    tmp_path: Path, members: list[str], tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = Path(members[2])
    changed = tmp_path / "changed"
    changed.mkdir()
    for file in other.iterdir():
        (changed / file.name).write_bytes(file.read_bytes())
    write_json(changed / "config.json", {**read_json(other / "config.json"), "rope_theta": 7.0})
    template = tmp_path / "template"
    template.mkdir()
    for file in other.iterdir():
        (template / file.name).write_bytes(file.read_bytes())
    (template / "chat_template.jinja").write_text("{{ messages }}", encoding="utf-8")
    cases = [
        ([members[0]], "at least two"),
        ([members[0], members[0]], "named twice"),
        ([members[0], str(changed)], "rope_theta in config.json"),
        ([members[0], str(template)], "its tokenizer or chat template"),
        ([str(build_tiny_model(tmp_path / "policy")), str(tiny_model)], "is not a reward model"),
    ]
    for names, said in cases:
        assert main(["average", *names, "-o", str(tmp_path / "average")]) == 2
        assert said in capsys.readouterr().err
    assert not (tmp_path / "average").exists()
    (tmp_path / "there").mkdir()
    assert main(["average", *members, "-o", str(tmp_path / "there")]) == 2


def test_a_model_is_not_counted_twice(
    tmp_path: Path, members: list[str], rows: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["score", members[0], str(rows), "--with", members[0], "--out", str(tmp_path / "scores.jsonl")]
    assert main(arguments) == 2
    assert "named twice" in capsys.readouterr().err
