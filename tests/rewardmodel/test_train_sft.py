"""SFT on the tiny model: TRL's own loss and labels, packing that changes nothing, validation, exact resumes."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from rewardmodel.chat import encode_examples
from rewardmodel.compute import Compute
from rewardmodel.contract import SFTSpec
from rewardmodel.data import read_examples
from rewardmodel.jobs import run_job
from rewardmodel.likelihood import count_learned, sum_log_probs
from rewardmodel.models import load_tokenizer
from rewardmodel.rundir import RunDir
from rewardmodel.train.examples import load_trained_policy
from rewardmodel.train.sft import build_dataset, check_packing
from tests.rewardmodel.tiny import build_examples, write_rows

MakeSpec = Callable[..., dict[str, Any]]
CPU = Compute(device="cpu", precision="fp32")


def train(directory: Path, spec: dict[str, Any]) -> RunDir:
    run = RunDir(directory).create(spec)
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    return run


def rows_of(run: RunDir) -> list[dict[str, Any]]:
    return [{**row, "time": 0} for row in run.read_metrics()]


def weights_of(run: RunDir) -> bytes:
    return (run.outputs / "model" / "model.safetensors").read_bytes()


@pytest.fixture(scope="module")
def sft_run(tmp_path_factory: pytest.TempPathFactory, make_spec: MakeSpec) -> RunDir:
    spec = make_spec("sft", tuning="full", epochs=4.0, report_samples=2, eval_steps=10)
    return train(tmp_path_factory.mktemp("sft"), spec)


def test_a_policy_learns_to_say_what_held_out_examples_say(sft_run: RunDir) -> None:
    report = sft_run.read_report()
    heldout, untrained = report["heldout"], report["baselines"]["untrained"]
    assert (heldout["split"], heldout["n"], heldout["n_prompts"]) == ("test", 40, 20)
    assert heldout["interval"][1] < untrained["interval"][0]
    assert heldout["perplexity"] == pytest.approx(math.exp(heldout["loss"]))
    assert heldout["gain"] == pytest.approx(untrained["loss"] - heldout["loss"])
    assert heldout["gain_interval"][0] > 0
    assert report["trained_on"] == {"rows": 64, "prompts": 32, "steps": 32}
    assert report["dropped"] == {"train": {"too_long": 0}, "validation": {"too_long": 0}, "test": {"too_long": 0}}
    assert [sorted(sample) for sample in report["samples"]] == [["after", "before", "prompt"]] * 2


def test_the_report_is_that_of_the_saved_model(sft_run: RunDir, make_spec: MakeSpec) -> None:
    """Transformers alone reads the saved model: minus the mean log-softmax over the completions is the loss."""
    from transformers import AutoModelForCausalLM

    directory = sft_run.outputs / "model"
    tokenizer = load_tokenizer(directory)
    model = AutoModelForCausalLM.from_pretrained(directory).eval()
    total, tokens = 0.0, 0
    for row in read_examples(Path(make_spec("sft")["data"]) / "test.jsonl"):
        prompt = tokenizer.apply_chat_template(row.messages[:1], add_generation_prompt=True, return_dict=False)
        ids = tokenizer.apply_chat_template(row.messages, return_dict=False)
        with torch.no_grad():
            log_probs = model(torch.tensor([ids])).logits[0].log_softmax(-1)
        total -= sum(log_probs[place - 1, ids[place]].item() for place in range(len(prompt), len(ids)))
        tokens += len(ids) - len(prompt)
    heldout = sft_run.read_report()["heldout"]
    assert heldout["tokens"] == tokens
    assert heldout["loss"] == pytest.approx(total / tokens, rel=1e-5)


def test_the_card_says_what_was_learned(sft_run: RunDir) -> None:
    card = (sft_run.outputs / "model" / "README.md").read_text()
    assert "Trained on 64 rows of 32 prompts, 32 steps." in card
    rows = [line.split("|")[1].strip() for line in card.splitlines() if line.startswith("|")]
    assert rows == ["", "---", "this model", "untrained"]


def test_memory_is_estimated_before_the_start(sft_run: RunDir) -> None:
    """107,000 parameters of 4 bytes, their gradients, and two moments: 4, 4 and 8 bytes each."""
    assert "of memory (weights 0 MiB, gradients and optimizer 1 MiB" in sft_run.read_status()["message"]
    assert sorted(sft_run.read_report()["memory_gib"]) == ["activations", "free", "gradients", "optimizer", "weights"]


def test_labels_and_loss_are_those_of_trl_on_the_same_rows(
    tmp_path: Path, make_spec: MakeSpec, tiny_model: Path
) -> None:
    """TRL 1.16's stock SFTTrainer on prompt and completion, one batch of 16: the same labels, the same first loss."""
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    rows = build_examples(16, seed=5)
    tokenizer = load_tokenizer(tiny_model)
    model = load_trained_policy(tiny_model, tokenizer=tokenizer, compute=CPU)
    trainer = SFTTrainer(
        model=model,
        args=SFTConfig(
            output_dir=str(tmp_path / "trl"), use_cpu=True, bf16=False, report_to=[], gradient_checkpointing=False
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    theirs = trainer.train_dataset
    data = {split: str(write_rows(tmp_path / f"{split}.jsonl", rows)) for split in ("train", "test")}
    found = encode_examples(tokenizer, examples=read_examples(data["train"]), max_length=128).rows
    ours = build_dataset(SFTSpec(data="-"), rows=found)
    assert ours["input_ids"][:] == theirs["input_ids"][:]
    assert ours["labels"][:] == theirs["labels"][:]
    loss = trainer.compute_loss(model, trainer.data_collator(list(theirs))).item()
    run = train(tmp_path / "run", make_spec("sft", data=data, batch_size=16, max_steps=1, report_samples=0))
    assert run.read_metrics()[0]["loss"] == pytest.approx(loss, rel=1e-6)
    assert run.read_report()["baselines"]["untrained"]["loss"] == pytest.approx(loss, rel=1e-5)


def test_packing_changes_no_loss(tmp_path: Path, make_spec: MakeSpec) -> None:
    """All 64 rows in one step, one by one and packed into rows of 128 tokens: equal losses at both steps."""
    losses = []
    for packing in ("none", "bfd"):
        spec = make_spec(
            "sft", tuning="full", packing=packing, batch_size=64, epochs=3.0, logging_steps=1, report_samples=0
        )
        run = train(tmp_path / packing, spec)
        losses.append([row["loss"] for row in run.read_metrics() if "loss" in row])
    assert len(losses[0]) == 3
    assert losses[1] == pytest.approx(losses[0], rel=1e-4)


def test_packing_keeps_every_token_and_wraps_no_conversation(tiny_model: Path, make_spec: MakeSpec) -> None:
    examples = read_examples(Path(make_spec("sft")["data"]) / "train.jsonl")
    rows = encode_examples(load_tokenizer(tiny_model), examples=examples, max_length=128).rows
    packed = build_dataset(SFTSpec(data="-", packing="bfd", max_length=128), rows=rows)
    assert len(packed) < len(rows) / 3
    pieces = []
    for line in packed:
        start = 0
        for length in line["seq_lengths"]:
            pieces.append((line["input_ids"][start : start + length], line["labels"][start : start + length]))
            start += length
    plain = build_dataset(SFTSpec(data="-"), rows=rows)
    assert sorted(pieces) == sorted(zip(plain["input_ids"][:], plain["labels"][:], strict=True))


def test_a_model_that_reads_packed_rows_otherwise_is_refused(tiny_model: Path, tmp_path: Path) -> None:
    tokenizer = load_tokenizer(tiny_model)
    model = load_trained_policy(tiny_model, tokenizer=tokenizer, compute=CPU)
    found = read_examples(write_rows(tmp_path / "rows.jsonl", build_examples(4)))
    rows = encode_examples(tokenizer, examples=found, max_length=64).rows
    check_packing(model, rows=rows)
    forward = model.forward
    model.forward = lambda **settings: forward(**{**settings, "position_ids": None})  # type: ignore[method-assign]
    with pytest.raises(ValueError, match="packing: LlamaForCausalLM reads packed conversations otherwise"):
        check_packing(model, rows=rows)


def test_without_assistant_only_every_token_counts(tmp_path: Path, make_spec: MakeSpec) -> None:
    """A row's tokens but the first, which follows nothing."""
    run = train(tmp_path, make_spec("sft", assistant_only=False, max_steps=1, report_samples=0))
    tokenizer = load_tokenizer(run.outputs / "model")
    rows = read_examples(Path(make_spec("sft")["data"]) / "test.jsonl")
    lengths = [len(tokenizer.apply_chat_template(row.messages, return_dict=False)) - 1 for row in rows]
    assert run.read_report()["heldout"]["tokens"] == sum(lengths)


@pytest.mark.parametrize("method", ["sft", "kto"])
@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_stopped_run_resumes_to_the_very_model_and_metrics_of_an_uninterrupted_one(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, method: str, tuning: str
) -> None:
    """Cancelled at its first checkpoint, then started again: losses, validation losses and weights to the last bit."""
    from rewardmodel.train.common import seal_checkpoint

    spec = make_spec(method, tuning=tuning, max_steps=12, save_steps=5, eval_steps=4, logging_steps=1, report_samples=0)
    whole = train(tmp_path / "whole", spec)
    stopped = RunDir(tmp_path / "stopped").create(spec)

    def cancel_after_five(directory: Path) -> None:
        seal_checkpoint(directory)
        stopped.request_cancel()

    monkeypatch.setattr("rewardmodel.train.common.seal_checkpoint", cancel_after_five)
    assert run_job(stopped, show=False) == "cancelled"
    monkeypatch.undo()
    assert stopped.read_status()["message"] == "cancelled at step 6; the checkpoint is kept"
    assert run_job(stopped, show=False) == "succeeded", stopped.read_status()["error"]
    assert rows_of(whole) == rows_of(stopped)
    assert [row["step"] for row in rows_of(whole) if "eval_loss" in row] == [4, 8, 12]
    assert weights_of(whole) == weights_of(stopped)
    assert whole.read_report() | {"seconds": 0, "memory_gib": 0} == stopped.read_report() | {
        "seconds": 0,
        "memory_gib": 0,
    }


def test_the_validation_loss_is_a_tokens_over_all_rows(tmp_path: Path, make_spec: MakeSpec, tiny_model: Path) -> None:
    """With a learning rate that moves nothing, it is that of the base model, whatever the batches."""
    run = train(
        tmp_path, make_spec("sft", learning_rate=1e-30, max_steps=1, batch_size=5, eval_steps=1, report_samples=0)
    )
    tokenizer = load_tokenizer(tiny_model)
    examples = read_examples(Path(make_spec("sft")["data"]) / "validation.jsonl")
    rows = encode_examples(tokenizer, examples=examples, max_length=128).rows
    model = load_trained_policy(tiny_model, tokenizer=tokenizer, compute=CPU)
    expected = -sum_log_probs(model, rows=rows, compute=CPU).sum() / count_learned(rows).sum()
    assert run.read_metrics()[-1]["eval_loss"] == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("method", ["sft", "kto"])
def test_training_stops_early_and_keeps_the_best_weights(tmp_path: Path, make_spec: MakeSpec, method: str) -> None:
    """A rate that overshoots: the run ends before its last step, and the saved model is that of the best validation."""
    from safetensors.torch import load_file

    spec = make_spec(
        method, tuning="full", learning_rate=0.03 if method == "sft" else 0.05, epochs=10.0, warmup_ratio=0.0,
        eval_steps=2, early_stopping_patience=2, report_samples=0
    )  # fmt: skip
    run = train(tmp_path, spec)
    losses = {row["step"]: row["eval_loss"] for row in run.read_metrics() if "eval_loss" in row}
    best = min(losses, key=lambda step: (losses[step], step))
    report = run.read_report()
    assert max(losses) == best + 4 < 80
    assert report["best_step"] == best
    assert report["trained_on"]["steps"] == best + 4
    assert report["notes"] == [
        f"training stopped at step {best + 4}; the weights are those of step {best}, the best validated"
    ]
    kept = load_file(run.checkpoints / f"checkpoint-{best}" / "model.safetensors")
    saved = load_file(run.outputs / "model" / "model.safetensors")
    assert sorted(saved) == sorted(kept)
    assert all(saved[name].equal(kept[name]) for name in saved)
    # A run that died after its last step stops at once, with the same weights.
    weights = weights_of(run)
    run.write_status(state="running")
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    assert weights_of(run) == weights
    assert run.read_report()["best_step"] == best


def test_the_best_step_and_the_end_of_patience_follow_from_the_history() -> None:
    """Losses 3, 2, 2, 4: the best is the first 2 (step 4), after which two were no better."""
    from rewardmodel.train.common import find_best, is_exhausted

    history = [{"step": 2 * i, "eval_loss": loss} for i, loss in enumerate([3.0, 2.0, 2.0, 4.0], start=1)]
    history.insert(0, {"step": 1, "loss": 9.0})
    assert find_best(history) == 4
    assert [is_exhausted(history, patience=patience) for patience in (None, 1, 2, 3)] == [False, True, True, False]
    assert not is_exhausted([], patience=1)


def test_activations_computed_again_change_no_loss(tmp_path: Path, make_spec: MakeSpec) -> None:
    losses = []
    for again in (False, True):
        spec = make_spec("sft", activation_checkpointing=again, max_steps=3, logging_steps=1, report_samples=0)
        losses.append([row["loss"] for row in train(tmp_path / str(again), spec).read_metrics() if "loss" in row])
    assert losses[1] == pytest.approx(losses[0], rel=1e-6)


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"max_length": 1000}, "max_length: 1000 tokens, but the model reads 256"),
        ({"max_length": 8}, "no usable row is left; dropped 64 longer than max_length 8"),
        ({"trackers": ["mlflow"]}, "trackers: the package mlflow is not installed; install it"),
    ],
)
@pytest.mark.parametrize("method", ["sft", "kto"])
def test_what_cannot_be_trained_is_refused_before_training(
    tmp_path: Path,
    make_spec: MakeSpec,
    monkeypatch: pytest.MonkeyPatch,
    method: str,
    changes: dict[str, Any],
    error: str,
) -> None:
    from importlib.util import find_spec

    monkeypatch.setattr("importlib.util.find_spec", lambda name: None if name == "mlflow" else find_spec(name))
    run = RunDir(tmp_path).create(make_spec(method, **changes))
    assert run_job(run, show=False) == "bad input", run.read_status()["error"]
    assert error in run.read_status()["error"]
    assert run.read_metrics() == []


def test_early_stopping_without_a_validation_split_is_refused(tmp_path: Path, make_spec: MakeSpec) -> None:
    """Also where its file is there and empty, as in a small snapshot."""
    for split in ("train", "test"):
        write_rows(tmp_path / "data" / f"{split}.jsonl", build_examples(4))
    write_rows(tmp_path / "data" / "validation.jsonl", [])
    spec = make_spec("sft", data=str(tmp_path / "data"), early_stopping_patience=1)
    run = RunDir(tmp_path / "run").create(spec)
    assert run_job(run, show=False) == "bad input"
    assert run.read_status()["error"].startswith("early_stopping_patience: there is no validation split")
    run = train(tmp_path / "without", spec | {"early_stopping_patience": None, "max_steps": 1, "report_samples": 0})
    assert sorted(run.read_report()["dropped"]) == ["test", "train"]
