"""KTO on the tiny model: TRL's own rows and loss, the paper's formula, balanced weights, what is refused."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from rewardmodel.chat import EncodedExample, encode_examples
from rewardmodel.compute import Compute
from rewardmodel.contract import KTOSpec
from rewardmodel.data import read_labelled
from rewardmodel.jobs import run_job
from rewardmodel.likelihood import sum_log_probs
from rewardmodel.models import load_tokenizer
from rewardmodel.rundir import RunDir
from rewardmodel.train.examples import load_trained_policy
from rewardmodel.train.kto import EncodedKTOTrainer, build_dataset, describe_weights, settle_weights
from tests.rewardmodel.tiny import build_labelled, write_rows

MakeSpec = Callable[..., dict[str, Any]]
CPU = Compute(device="cpu", precision="fp32")


def encode(directory: Path, rows: list[dict[str, Any]], *, tmp_path: Path) -> list[EncodedExample]:
    found = read_labelled(write_rows(tmp_path / "labelled.jsonl", rows))
    return encode_examples(load_tokenizer(directory), examples=found, max_length=128, learn="completion").rows


def settings(directory: Path, **changes: Any) -> dict[str, Any]:
    common = {"output_dir": str(directory), "use_cpu": True, "bf16": False, "report_to": []}
    return {**common, "gradient_checkpointing": False, "per_device_train_batch_size": 8, **changes}


@pytest.fixture(scope="module")
def kto_run(tmp_path_factory: pytest.TempPathFactory, make_spec: MakeSpec) -> RunDir:
    run = RunDir(tmp_path_factory.mktemp("kto")).create(make_spec("kto", epochs=6.0, report_samples=2))
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    return run


def test_a_policy_learns_the_word_that_decides_from_labels(kto_run: RunDir) -> None:
    report = kto_run.read_report()
    heldout, baselines = report["heldout"], report["baselines"]
    assert (heldout["n"], heldout["n_prompts"], heldout["n_desirable"], heldout["n_undesirable"]) == (40, 10, 20, 20)
    assert heldout["interval"][0] > max(baselines["longer_wins"]["auc"], baselines["untrained"]["auc"])
    assert heldout["mean_log_ratio_desirable"] > heldout["mean_log_ratio_undesirable"]
    assert report["weights"] == {"desirable": 1.0, "undesirable": 1.0}
    assert report["trained_on"] == {"rows": 64, "prompts": 16, "steps": 48}
    assert [sorted(sample) for sample in report["samples"]] == [["after", "before", "prompt"]] * 2


def test_the_status_and_the_card_say_what_was_picked_and_learned(kto_run: RunDir) -> None:
    message = kto_run.read_status()["message"]
    assert message.endswith("32 desirable rows of weight 1 and 32 undesirable of 1, a ratio of 1.00")
    card = (kto_run.outputs / "model" / "README.md").read_text()
    rows = [line.split("|")[1].strip() for line in card.splitlines() if line.startswith("|")]
    assert rows == ["", "---", "this model", "untrained", "the longer response wins"]


def test_the_log_ratios_are_those_of_the_saved_model(kto_run: RunDir, tiny_model: Path, make_spec: MakeSpec) -> None:
    rows = read_labelled(Path(make_spec("kto")["data"]) / "test.jsonl")
    tokenizer = load_tokenizer(tiny_model)
    encoded = encode_examples(tokenizer, examples=rows, max_length=128, learn="completion").rows
    sums = [
        sum_log_probs(load_trained_policy(directory, tokenizer=tokenizer, compute=CPU), rows=encoded, compute=CPU)
        for directory in (kto_run.outputs / "model", tiny_model)
    ]
    ratios = sums[0] - sums[1]
    labels = np.array([row.label for row in rows])
    heldout = kto_run.read_report()["heldout"]
    assert heldout["mean_log_ratio_desirable"] == pytest.approx(ratios[labels].mean(), abs=1e-4)
    assert heldout["mean_log_ratio_undesirable"] == pytest.approx(ratios[~labels].mean(), abs=1e-4)
    pairs = [(a > b) + (a == b) / 2 for a in ratios[labels] for b in ratios[~labels]]
    assert heldout["auc"] == pytest.approx(np.mean(pairs), abs=1e-6)


def test_rows_are_those_that_trl_makes_of_the_same_text(tiny_model: Path, tmp_path: Path) -> None:
    """Stock KTOTrainer 1.16 on prompt, completion and label: equal columns, the KL term's neighbours among them."""
    from datasets import Dataset
    from trl import KTOConfig, KTOTrainer

    rows = build_labelled(20, seed=3)
    tokenizer = load_tokenizer(tiny_model)
    model = load_trained_policy(tiny_model, tokenizer=tokenizer, compute=CPU)
    theirs = KTOTrainer(
        model=model,
        args=KTOConfig(**settings(tmp_path), precompute_ref_log_probs=True),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    ).train_dataset
    ours = build_dataset(encode(tiny_model, rows, tmp_path=tmp_path), batch_size=8)
    for column in ours.column_names:
        assert ours[column][:] == theirs[column][:], column


def test_a_last_batch_of_one_row_takes_its_neighbour_for_the_kl_term(tiny_model: Path, tmp_path: Path) -> None:
    rows = encode(tiny_model, build_labelled(5), tmp_path=tmp_path)
    made = build_dataset(rows, batch_size=4)
    completions = made["completion_ids"][:]
    assert made["KL_completion_ids"][:] == [completions[i] for i in (3, 0, 1, 2, 3)]


def test_the_loss_is_the_papers_from_our_own_log_probabilities(tiny_model: Path, tmp_path: Path) -> None:
    """Ethayarajh et al. 2024, eqs. 7 and 8, of a policy that moved away from its reference by noise: with ratios r,
    z = max(0, mean of the mismatched pairs' r), the mean of 2 (1 - sigmoid(b (r - z))) where true and of
    1 - sigmoid(b (z - r)) where false."""
    from trl import KTOConfig

    rows = encode(tiny_model, build_labelled(8, seed=4), tmp_path=tmp_path)
    dataset = build_dataset(rows, batch_size=8)
    tokenizer = load_tokenizer(tiny_model)
    policy, reference = (load_trained_policy(tiny_model, tokenizer=tokenizer, compute=CPU) for _ in range(2))
    beta = 0.5
    trainer = EncodedKTOTrainer(
        model=policy,
        args=KTOConfig(**settings(tmp_path), beta=beta, desirable_weight=2.0, precompute_ref_log_probs=True),
        train_dataset=dataset,
        processing_class=tokenizer,
    )
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter += 0.05 * torch.randn(parameter.shape, generator=generator)
    theirs = trainer.compute_loss(policy, trainer.data_collator(list(trainer.train_dataset))).item()

    def ratios(examples: Sequence[EncodedExample]) -> np.ndarray:
        sums = [sum_log_probs(model, rows=examples, compute=CPU) for model in (policy, reference)]
        return sums[0] - sums[1]

    mismatched = [
        EncodedExample(row.example, prompt + other, [False] * len(prompt) + [True] * len(other))
        for row, prompt, other in zip(rows, dataset["prompt_ids"], dataset["KL_completion_ids"], strict=True)
    ]
    z = max(0.0, ratios(mismatched).mean())
    labels = np.array(dataset["label"])
    signs = np.where(labels, 1.0, -1.0)
    values = 1 / (1 + np.exp(-beta * signs * (ratios(rows) - z)))
    assert theirs == pytest.approx(np.mean(np.where(labels, 2.0, 1.0) * (1 - values)), abs=1e-5)
    assert np.abs(ratios(rows)).max() > 0.1


def test_before_the_first_step_every_row_loses_half_its_weight(tmp_path: Path, make_spec: MakeSpec) -> None:
    """Ratios are 0, and so is z: 4 rows of weight 3 and 4 of weight 1 lose (4 * 3/2 + 4 * 1/2) / 8 = 1."""
    rows = build_labelled(8)
    data = {split: str(write_rows(tmp_path / f"{split}.jsonl", rows)) for split in ("train", "test")}
    spec = make_spec("kto", data=data, desirable_weight=3.0, undesirable_weight=1.0, max_steps=1, report_samples=0)
    run = RunDir(tmp_path / "run").create(spec)
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    assert run.read_metrics()[0]["loss"] == pytest.approx(1.0, abs=1e-6)
    assert json.loads((run.checkpoints / "untrained.json").read_text())["texts"] == []


@pytest.mark.parametrize(
    ("given", "true", "false", "weights", "ratio"),
    [
        ((None, None), 10, 10, (1, 1), 1.0),
        ((None, None), 12, 10, (1, 1), 1.2),
        ((None, None), 10, 40, (4, 1), 1.0),
        ((None, None), 40, 10, (1, 3), 4 / 3),
        ((2.0, None), 10, 10, (2, 1.5), 4 / 3),
        ((0.5, None), 10, 10, (0.5, 0.5), 1.0),
        ((None, 2.0), 10, 10, (2, 2), 1.0),
        ((None, 1.0), 30, 10, (4 / 9, 1), 4 / 3),
        ((5.0, 7.0), 10, 10, (5, 7), 5 / 7),
    ],
)
def test_weights_left_out_bring_the_classes_into_the_papers_range(
    given: tuple[float | None, float | None], true: int, false: int, weights: tuple[float, float], ratio: float
) -> None:
    """Eq. 8: desirable weight x rows over undesirable weight x rows within [1, 4/3], what was given kept as it is."""
    spec = KTOSpec(data="-", desirable_weight=given[0], undesirable_weight=given[1])
    labels = [True] * true + [False] * false
    found = settle_weights(spec, labels=labels)
    assert found == pytest.approx(weights)
    assert describe_weights(found, labels=labels).endswith(f"a ratio of {ratio:.2f}")


@pytest.mark.parametrize("split", ["train", "test"])
@pytest.mark.parametrize("label", [True, False])
def test_a_split_of_one_class_is_refused_before_training(
    tmp_path: Path, make_spec: MakeSpec, split: str, label: bool
) -> None:
    for name in ("train", "test"):
        rows = build_labelled(8)
        write_rows(
            tmp_path / "data" / f"{name}.jsonl", [{**row, "label": label} for row in rows] if name == split else rows
        )
    run = RunDir(tmp_path / "run").create(make_spec("kto", data=str(tmp_path / "data")))
    assert run_job(run, show=False) == "bad input"
    word = str(label).lower()
    assert run.read_status()["error"].startswith(f"data: all 8 usable rows of the {split} split are labelled {word}")
    assert not run.metrics_file.exists()


def test_pairs_are_refused_naming_line_and_field(tmp_path: Path, make_spec: MakeSpec, tiny_data: Path) -> None:
    run = RunDir(tmp_path).create(make_spec("kto", data=str(tiny_data)))
    assert run_job(run, show=False) == "bad input"
    assert run.read_status()["error"] == f"{tiny_data}/train.jsonl, line 1, label: missing"
