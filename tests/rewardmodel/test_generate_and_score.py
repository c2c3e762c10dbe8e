"""The generate and score runs: rows, resuming, stopping."""

from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, get_peft_model

from rewardmodel.compute import Compute
from rewardmodel.generate import Sampling, generate_responses
from rewardmodel.jobs import run_job
from rewardmodel.models import load_policy, load_tokenizer
from rewardmodel.rundir import RunDir, read_json_lines
from tests.rewardmodel.tiny import WORDS, write_rows


@pytest.fixture
def prompts(tmp_path: Path) -> Path:
    rows = [{"prompt_id": f"p{i}", "prompt": [{"role": "user", "content": " ".join(WORDS[: i + 1])}]} for i in range(5)]
    return write_rows(tmp_path / "prompts.jsonl", rows)


def generate(path: Path, *, model: Path, **changes: object) -> RunDir:
    spec = {
        "method": "generate",
        "model": str(model),
        "prompts": "../prompts.jsonl",
        "n": 2,
        "max_new_tokens": 6,
        "batch_size": 3,
        "threads": 1,
        **changes,
    }
    return RunDir(path).create(spec)


def test_every_prompt_gets_n_responses_and_the_same_seed_the_same(
    tmp_path: Path, prompts: Path, tiny_model: Path
) -> None:
    rows = []
    for name, seed in (("a", 0), ("b", 0), ("c", 1)):
        run = generate(tmp_path / name, model=tiny_model, seed=seed)
        assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
        rows.append(read_json_lines(run.outputs / "responses.jsonl"))
    assert sorted((row["prompt_id"], row["index"]) for row in rows[0]) == [
        (f"p{i}", index) for i in range(5) for index in range(2)
    ]
    assert rows[0] == rows[1]
    assert rows[0] != rows[2]


def test_a_torn_generation_resumes_to_the_same_rows(tmp_path: Path, prompts: Path, tiny_model: Path) -> None:
    """4 rows of batches of 3 and half a fifth are left: the second batch is made again, its first row kept."""
    whole = generate(tmp_path / "whole", model=tiny_model)
    assert run_job(whole, show=False) == "succeeded", whole.read_status()["error"]
    expected = (whole.outputs / "responses.jsonl").read_bytes()
    torn = generate(tmp_path / "torn", model=tiny_model)
    lines = expected.splitlines(keepends=True)
    (torn.outputs / "responses.jsonl").write_bytes(b"".join(lines[:4]) + lines[4][:10])
    assert run_job(torn, show=False) == "succeeded", torn.read_status()["error"]
    assert (torn.outputs / "responses.jsonl").read_bytes() == expected
    assert torn.read_report()["responses"] == 10


def test_greedy_responses_do_not_depend_on_the_seed(tmp_path: Path, prompts: Path, tiny_model: Path) -> None:
    texts = []
    for seed in (0, 1):
        run = generate(tmp_path / str(seed), model=tiny_model, temperature=0, seed=seed, precision="fp32")
        assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
        texts.append([row["response"] for row in read_json_lines(run.outputs / "responses.jsonl")])
    assert texts[0] == texts[1]


def test_length_and_end_are_told_apart(tmp_path: Path, prompts: Path, tiny_model: Path) -> None:
    run = generate(tmp_path / "run", model=tiny_model)
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    for row in read_json_lines(run.outputs / "responses.jsonl"):
        assert 1 <= row["n_tokens"] <= 6
        assert row["finish_reason"] == "eos" or row["n_tokens"] == 6


def test_a_prompt_that_leaves_no_room_is_refused(tmp_path: Path, prompts: Path, tiny_model: Path) -> None:
    run = generate(tmp_path / "run", model=tiny_model, max_new_tokens=250)
    assert run_job(run, show=False) == "bad input"
    assert "exceed the 256 the model holds" in run.read_status()["error"]


def test_a_cancelled_generation_goes_on_when_started_again(tmp_path: Path, prompts: Path, tiny_model: Path) -> None:
    run = generate(tmp_path / "run", model=tiny_model)
    run.request_cancel()
    assert run_job(run, show=False) == "cancelled"
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    assert len(read_json_lines(run.outputs / "responses.jsonl")) == 10


def test_a_score_run_resumes_and_refuses_what_it_cannot_read(tmp_path: Path, reward_run: RunDir) -> None:
    rows = [{"response_id": f"r{i}", "prompt": "the cat", "response": " ".join(WORDS[:i])} for i in range(6)]
    rows.append({"response_id": "long", "prompt": "the cat", "response": "sat " * 300})
    write_rows(tmp_path / "rows.jsonl", rows)
    spec = {
        "method": "score",
        "model": str(reward_run.outputs / "model"),
        "data": str(tmp_path / "rows.jsonl"),
        "batch_size": 2,
        "threads": 1,
        "precision": "fp32",
    }
    whole = RunDir(tmp_path / "whole").create(spec)
    assert run_job(whole, show=False) == "succeeded", whole.read_status()["error"]
    scores = {row["response_id"]: row["score"] for row in read_json_lines(whole.outputs / "scores.jsonl")}
    assert sorted(scores) == ["long", "r0", "r1", "r2", "r3", "r4", "r5"]
    assert scores["long"] is None
    assert whole.read_report()["dropped"] == {"too_long": 1}
    torn = RunDir(tmp_path / "torn").create(spec)
    lines = (whole.outputs / "scores.jsonl").read_bytes().splitlines(keepends=True)
    (torn.outputs / "scores.jsonl").write_bytes(b"".join(lines[:3]) + b'{"resp')
    assert run_job(torn, show=False) == "succeeded", torn.read_status()["error"]
    again = {row["response_id"]: row["score"] for row in read_json_lines(torn.outputs / "scores.jsonl")}
    assert again == pytest.approx(scores, abs=1e-5)


@pytest.mark.parametrize("adapters", [False, True])
def test_a_models_own_generation_settings_do_not_change_what_is_drawn(tiny_model: Path, adapters: bool) -> None:
    """No token twice and a penalty on repetition, in the model's generation_config; it is still there afterwards."""
    compute = Compute(device="cpu", precision="fp32")
    tokenizer = load_tokenizer(tiny_model)
    model: Any = load_policy(tiny_model, tokenizer=tokenizer, compute=compute, dtype=torch.float32)
    if adapters:
        model = get_peft_model(model, LoraConfig(target_modules="all-linear", task_type="CAUSAL_LM"))
    found = []
    for settings in ({}, {"repetition_penalty": 9.0, "no_repeat_ngram_size": 1}):
        model.generation_config.update(**settings)
        found.append(
            generate_responses(
                model,
                tokenizer=tokenizer,
                prompts=[[{"role": "user", "content": word}] for word in WORDS[:6]],
                sampling=Sampling(max_new_tokens=24, temperature=0.7, top_p=1.0),
                compute=compute,
            )
        )
    assert found[0] == found[1]
    assert any(len(set(response.ids)) < len(response.ids) for response in found[0])
    assert model.generation_config.repetition_penalty == 9.0
