"""Reward models of named scales: reading ratings, the masked squared error, figures by hand, and a whole run."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rewardmodel.compute import Compute
from rewardmodel.contract import RewardSpec, SpecError, parse_spec
from rewardmodel.data import DataError
from rewardmodel.jobs import run_job
from rewardmodel.models import create_reward_model, load_tokenizer
from rewardmodel.ratings import Rated, find_scales, r_squared, read_ratings, settle_weights, spearman, summarize_ratings
from rewardmodel.rundir import RunDir, read_json_lines
from rewardmodel.train.common import seal_checkpoint
from rewardmodel.train.ratings import RatingsTraining, encode_rated, gather_rated
from rewardmodel.train.settle import Settled
from tests.rewardmodel.tiny import GOOD_WORD, WORDS, write_rows

MakeSpec = Callable[..., dict[str, Any]]
CPU = Compute(device="cpu", precision="fp32")


def build_rated(n: int, *, seed: int) -> list[dict[str, Any]]:
    """Two responses a prompt: good is how often GOOD_WORD stands in it; calm is 4 less that, and often missing."""
    generator = random.Random(seed)
    rows = []
    prompt = ""
    for number in range(n):
        if number % 2 == 0:
            prompt = f"{seed} {number} {' '.join(generator.choices(WORDS, k=3))}"
        count = generator.randrange(5)
        words = [GOOD_WORD] * count + generator.choices(WORDS, k=5 - count)
        ratings = {"good": float(count)} if number % 3 else {"good": float(count), "calm": 10.0 * (4 - count)}
        rows.append({"prompt": prompt, "response": " ".join(words), "ratings": ratings})
    return rows


def test_rows_of_either_kind_are_read_and_those_of_one_text_averaged(tmp_path: Path) -> None:
    """2 and 4 of one text make 3; a scale that is null or absent is not rated."""
    rows = [
        {"prompt": "p", "response": "a", "ratings": {"good": 2, "calm": None}},
        {"prompt": "p", "response": "a", "scales": ["good", "calm"], "values": [4, 1], "flags": []},
        {"prompt": "q", "response": "a", "scales": ["calm"], "values": [5.5]},
    ]
    found = read_ratings(write_rows(tmp_path / "r.jsonl", rows))
    assert [one.ratings for one in found] == [{"good": 3.0, "calm": 1.0}, {"calm": 5.5}]
    scales = find_scales([*found, Rated([], [], "r", {"good": 5.0})])
    assert scales.names == ["good", "calm"]
    assert scales.means.tolist() == [4.0, 3.25]
    assert scales.standardize({"good": 5.0})[0] == 1.0
    assert math.isnan(scales.standardize({"good": 5.0})[1])


@pytest.mark.parametrize(
    ("row", "error"),
    [
        ({"response": "a", "ratings": {"good": 1}}, "line 1, prompt: missing"),
        ({"prompt": "p", "response": "a"}, "line 1, ratings: missing"),
        ({"prompt": "p", "response": "a", "ratings": {"good": None}}, "no scale is rated"),
        ({"prompt": "p", "response": "a", "ratings": {"good": "5"}}, r"ratings\.good: expected a finite number"),
        ({"prompt": "p", "response": "a", "scales": ["good"], "values": []}, "as many `values`"),
    ],
)
def test_a_bad_row_is_named(tmp_path: Path, row: dict[str, Any], error: str) -> None:
    with pytest.raises(DataError, match=error):
        read_ratings(write_rows(tmp_path / "r.jsonl", [row]))


def test_a_scale_on_which_all_agree_and_an_unknown_weight_are_refused() -> None:
    with pytest.raises(DataError, match="every training rating of 'good' is 3"):
        find_scales([Rated([], [], "p", {"good": 3.0}), Rated([], [], "q", {"good": 3.0})])
    with pytest.raises(DataError, match="did you mean 'helpful'"):
        settle_weights({"helpfull": 1.0}, names=["helpful", "calm"])
    assert settle_weights(None, names=["helpful", "calm"]) == [0.5, 0.5]
    assert settle_weights({"calm": -1.0}, names=["helpful", "calm"]) == [0.0, -1.0]


def test_the_figures_by_hand() -> None:
    """Truth 1, 2, 3 and said 1, 2, 2: R^2 = 1 - 1/2; ranks 1, 2.5, 2.5 against 1, 2, 3: 1.5 / sqrt(1.5 * 2) = 0.866."""
    said, truth = np.array([1.0, 2.0, 2.0]), np.array([1.0, 2.0, 3.0])
    assert r_squared(said, truth=truth) == pytest.approx(0.5)
    assert spearman(said, truth) == pytest.approx(1.5 / math.sqrt(3.0))
    assert math.isnan(r_squared(said, truth=np.ones(3)))
    rated = [Rated([], [], f"p{i}", {"good": float(i)}) for i in range(30)]
    figures = summarize_ratings(np.arange(30.0)[:, None] + 1, rated=rated, names=["good"])["good"]
    assert figures["spearman"] == pytest.approx(1.0)
    assert figures["spearman_interval"] == pytest.approx([1.0, 1.0])
    assert figures["r2"] == pytest.approx(1 - 30 / sum((i - 14.5) ** 2 for i in range(30)))
    assert figures["r2_interval"][0] < figures["r2"] < figures["r2_interval"][1]
    assert figures["mean_absolute_error"] == pytest.approx(1.0)


@pytest.mark.parametrize("packed", [False, True])
def test_the_loss_is_the_mean_square_over_ratings_that_are_there(
    tmp_path: Path, tiny_model: Path, packed: bool
) -> None:
    """Against outputs of the plain model, one conversation at a time, at once and in readings of 100 tokens."""
    rated = read_ratings(write_rows(tmp_path / "r.jsonl", build_rated(10, seed=0)))
    scales = find_scales(rated)
    tokenizer = load_tokenizer(tiny_model)
    model: Any = create_reward_model(tiny_model, tokenizer=tokenizer, compute=CPU, seed=0, outputs=2)
    encoded = encode_rated(tokenizer, rated=rated, max_length=256, name="r")
    errors = []
    for one, ids in zip(rated, encoded.sequences, strict=True):
        with torch.no_grad():
            output = model(input_ids=torch.tensor([ids])).logits[0].tolist()
        wanted = scales.standardize(one.ratings)
        errors += [(o - w) ** 2 for o, w in zip(output, wanted, strict=True) if not math.isnan(w)]
    groups = gather_rated(encoded, scales=scales)
    assert sum(group.pairs for group in groups) == 10
    for tokens in (10**6, 100):
        training = RatingsTraining(
            model,
            spec=RewardSpec(data="-", tuning="full", loss="ratings"),
            settled=Settled(packed, "fp32", False, False, tokens, []),
            compute=CPU,
            groups=groups,
            steps=[list(range(len(groups)))],
            pad_id=0,
        )
        training.optimizer.step = lambda rate: torch.tensor(0.0)  # type: ignore[method-assign]
        training.take_step()
        assert training.read_log()["loss"] == pytest.approx(sum(errors) / len(errors), abs=1e-5)


@pytest.fixture(scope="module")
def ratings_run(tmp_path_factory: pytest.TempPathFactory, make_spec: MakeSpec) -> RunDir:
    where = tmp_path_factory.mktemp("ratings")
    for split, n in (("train", 120), ("test", 60)):
        write_rows(where / "data" / f"{split}.jsonl", build_rated(n, seed=n))
    spec = make_spec(
        "reward",
        data=str(where / "data"),
        loss="ratings",
        learning_rate=1e-2,
        attribute_weights={"good": 1, "calm": -0.1},
    )
    run = RunDir(where / "run").create(spec)
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    return run


def test_a_model_learns_its_scales_and_says_so_in_the_ratings_units(ratings_run: RunDir) -> None:
    report = ratings_run.read_report()
    figures = report["heldout"]["attributes"]
    assert figures["good"]["n"] == 60
    assert figures["calm"]["n"] == 20
    assert figures["good"]["r2"] > 0.7
    assert figures["calm"]["spearman"] > 0.7
    assert report["attribute_weights"] == {"good": 1.0, "calm": -0.1}
    config = json.loads((ratings_run.outputs / "model" / "config.json").read_text())
    assert config["id2label"] == {"0": "good", "1": "calm"} or config["id2label"] == {"0": "calm", "1": "good"}
    card = (ratings_run.outputs / "model" / "README.md").read_text()
    assert "| good | 60 |" in card
    assert "good 1, calm -0.1" in card or "calm -0.1, good 1" in card


def test_its_score_is_the_stated_sum_everywhere(tmp_path: Path, ratings_run: RunDir) -> None:
    """good - calm/10, in a scoring run and on the command line; pairs are evaluated by it."""
    from rewardmodel.cli import main
    from rewardmodel.evaluate import evaluate_reward_model

    model = str(ratings_run.outputs / "model")
    rows = [{"response_id": str(i), "prompt": "a b", "response": " ".join([GOOD_WORD] * i + ["cat"])} for i in range(4)]
    data = write_rows(tmp_path / "rows.jsonl", rows)
    run = RunDir(tmp_path / "run").create({"method": "score", "model": model, "data": str(data), "precision": "fp32"})
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    scored = read_json_lines(run.outputs / "scores.jsonl")
    assert main(["score", model, str(data), "--precision", "fp32", "--out", str(tmp_path / "out.jsonl")]) == 0
    for row in [*scored, *read_json_lines(tmp_path / "out.jsonl")]:
        assert row["score"] == pytest.approx(row["attributes"]["good"] - row["attributes"]["calm"] / 10, abs=1e-4)
    pairs = [{"prompt": "a b", "chosen": f"{GOOD_WORD} {GOOD_WORD} cat", "rejected": "the cat sat"}]
    figures = evaluate_reward_model(model, data=write_rows(tmp_path / "p.jsonl", pairs), precision="fp32")
    assert figures["accuracy"] == 1.0


def test_a_stopped_ratings_run_goes_on_to_the_same_model(
    tmp_path: Path, ratings_run: RunDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Stopped at step 4 of 6."""
    spec = {**ratings_run.read_spec(), "max_steps": 6, "save_steps": 3, "tuning": "full"}
    whole, stopped = (RunDir(tmp_path / name).create(spec) for name in ("whole", "stopped"))
    assert run_job(whole, show=False) == "succeeded", whole.read_status()["error"]

    def cancel(directory: Path) -> None:
        seal_checkpoint(directory)
        stopped.request_cancel()

    monkeypatch.setattr("rewardmodel.train.loop.seal_checkpoint", cancel)
    assert run_job(stopped, show=False) == "cancelled"
    monkeypatch.undo()
    assert stopped.read_status()["message"] == "cancelled at step 4; the checkpoint is kept"
    assert run_job(stopped, show=False) == "succeeded", stopped.read_status()["error"]
    files = [run.outputs / "model" / "model.safetensors" for run in (whole, stopped)]
    assert files[0].read_bytes() == files[1].read_bytes()


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"loss": "ratings", "tuning": "head"}, "loss: ratings trains with tuning lora, qlora or full"),
        ({"loss": "ratings", "label_smoothing": 0.1}, "label_smoothing: loss ratings has no pairs"),
        ({"loss": "ratings", "laplace": "on"}, "laplace: is for losses of comparisons"),
        ({"loss": "ratings", "attribute_weights": {"a": "b"}}, r"attribute_weights\.a: expected a finite number"),
        ({"attribute_weights": {"a": 1}}, "attribute_weights: is for loss ratings"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(SpecError, match=error):
        parse_spec({"method": "reward", "data": "-", **changes})
