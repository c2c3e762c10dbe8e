"""DPO in our own loop: TRL's loss and gradient on the same batch, however it is read, and a reference read once."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from rewardmodel import log_probs
from rewardmodel.chat import EncodedPair, encode_split
from rewardmodel.compute import Compute
from rewardmodel.contract import DPOSpec, SpecError, parse_spec
from rewardmodel.data import read_judgements
from rewardmodel.evaluate import completion_log_probs
from rewardmodel.groups import Group, gather_groups, gather_single_pairs
from rewardmodel.jobs import run_job
from rewardmodel.log_probs import TokenLogProbs, has_plain_head
from rewardmodel.models import load_policy, load_tokenizer
from rewardmodel.progress import Progress
from rewardmodel.rundir import RunDir
from rewardmodel.train.dpo import DPOTraining, read_reference
from rewardmodel.train.settle import Settled, settle
from tests.rewardmodel.test_train_reward import build_rankings
from tests.rewardmodel.tiny import build_pairs, build_tiny_model, write_rows

MakeSpec = Callable[..., dict[str, Any]]
CPU = Compute(device="cpu", precision="fp32")
PADDED = Settled(False, "fp32", False, False, 10**6, [])
PACKED = Settled(True, "fp32", False, False, 300, [])


def load_model(directory: Path) -> Any:
    return load_policy(directory, tokenizer=load_tokenizer(directory), compute=CPU, dtype=torch.float32)


def read_encoded(rows: Sequence[dict[str, Any]], *, model: Path, folder: Path) -> list[EncodedPair]:
    found = read_judgements(write_rows(folder / "rows.jsonl", rows))
    return encode_split(load_tokenizer(model), pairs=found.pairs, max_length=256).pairs


@pytest.fixture(scope="module")
def reference_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Another tiny model with the same tokenizer: ratios between the two are not 0."""
    return build_tiny_model(tmp_path_factory.mktemp("reference") / "model", seed=7)


def add_reference(groups: Sequence[Group], *, model: Path, settled: Settled = PADDED) -> list[Group]:
    from dataclasses import replace

    spec = DPOSpec(data="-", tuning="full")
    found = read_reference(
        load_model(model),
        spec=spec,
        settled=settled,
        compute=CPU,
        groups=groups,
        pad_id=0,
        progress=Progress(show=False),
    )
    return [replace(group, reference=values) for group, values in zip(groups, found, strict=True)]


def train_once(
    model: Any, groups: Sequence[Group], *, settled: Settled = PADDED, share: bool = True, **spec: Any
) -> tuple[float, torch.Tensor]:
    """Loss and gradient of one step over all groups."""
    training = DPOTraining(
        model,
        spec=DPOSpec(data="-", tuning="full", **spec),
        settled=settled,
        compute=CPU,
        groups=groups,
        steps=[list(range(len(groups)))],
        pad_id=0,
        share=share,
    )
    gradients: list[torch.Tensor] = []

    def keep(rate: float) -> torch.Tensor:
        gradients.append(torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None]))
        return torch.tensor(0.0)

    training.optimizer.step = keep  # type: ignore[method-assign]
    training.take_step()
    return training.read_log()["loss"], gradients[0]


@pytest.mark.parametrize(
    ("loss_type", "changes"),
    [
        ("sigmoid", {}),
        ("hinge", {"beta": 0.7}),
        ("ipo", {}),
        ("robust", {"label_smoothing": 0.2}),
        ("apo_zero", {}),
        ("apo_down", {}),
        ("sigmoid_norm", {"beta": 2.0}),
    ],
)
def test_the_loss_and_gradient_are_those_of_trl_on_the_same_batch(
    tmp_path: Path, tiny_model: Path, reference_model: Path, loss_type: str, changes: dict[str, Any]
) -> None:
    """TRL 1.16's stock DPOTrainer with a reference model, one batch of 8 pairs: equal to 1e-5, padded and packed."""
    from datasets import Dataset
    from trl import DPOConfig, DPOTrainer

    pairs = read_encoded(build_pairs(8), model=tiny_model, folder=tmp_path)

    class Encoded(DPOTrainer):
        def _prepare_dataset(self, dataset: Dataset, *args: Any, **kwargs: Any) -> Dataset:
            return dataset

    rows = [
        {"prompt_ids": [*p.prompt_ids], "chosen_ids": [*p.chosen_ids], "rejected_ids": [*p.rejected_ids]} for p in pairs
    ]
    spec = DPOSpec(data="-", loss_type=loss_type, **changes)
    model = load_model(tiny_model)
    trainer = Encoded(
        model=model,
        ref_model=load_model(reference_model),
        args=DPOConfig(
            output_dir=str(tmp_path),
            use_cpu=True,
            bf16=False,
            report_to=[],
            max_length=None,
            loss_type=[loss_type],
            beta=spec.beta,
            label_smoothing=spec.label_smoothing,
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=load_tokenizer(tiny_model),
    )
    theirs = trainer.compute_loss(model, trainer.data_collator(rows))
    theirs.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    for settled in (PADDED, PACKED):
        groups = add_reference(gather_groups(pairs), model=reference_model, settled=settled)
        loss, ours = train_once(load_model(tiny_model), groups, settled=settled, loss_type=loss_type, **changes)
        assert loss == pytest.approx(theirs.item(), abs=1e-5)
        assert torch.allclose(ours, gradient, atol=1e-5)


@pytest.mark.parametrize("loss_type", ["sigmoid", "simpo"])
def test_a_ranking_read_once_has_the_gradient_of_its_pairs_read_apart(
    tmp_path: Path, tiny_model: Path, reference_model: Path, loss_type: str
) -> None:
    """Rankings of 4 and 9, packed in rows of 300 tokens with shared prompts or not, against pairs, padded."""
    rows = [*build_rankings(3), *build_rankings(1, size=9, seed=1)]
    pairs = read_encoded(rows, model=tiny_model, folder=tmp_path)
    make = (
        gather_groups
        if loss_type == "simpo"
        else lambda found: add_reference(gather_groups(found), model=reference_model)
    )
    single = gather_single_pairs(pairs)
    single = single if loss_type == "simpo" else add_reference(single, model=reference_model)
    apart = train_once(load_model(tiny_model), single, loss_type=loss_type)
    for settled, share in ((PADDED, True), (PACKED, True), (PACKED, False)):
        once = train_once(load_model(tiny_model), make(pairs), settled=settled, share=share, loss_type=loss_type)
        assert once[0] == pytest.approx(apart[0], abs=1e-5)
        assert torch.allclose(once[1], apart[1], atol=1e-5)


def test_the_reference_is_what_evaluation_reads(tmp_path: Path, tiny_model: Path) -> None:
    """Log-probabilities of training's reading, padded and packed, are those of `completion_log_probs`."""
    pairs = read_encoded(build_pairs(6, pairs_a_prompt=1), model=tiny_model, folder=tmp_path)
    expected = completion_log_probs(load_model(tiny_model), pairs=pairs, compute=CPU)
    for settled in (PADDED, PACKED):
        groups = add_reference(gather_groups(pairs), model=tiny_model, settled=settled)
        assert [value for group in groups for value in group.reference] == pytest.approx(
            expected.flatten().tolist(), abs=1e-4
        )


def test_logits_in_parts_are_those_at_once() -> None:
    """log softmax at a token, with a bias, and its gradients, against torch's own; parts of 3 of 10 rows."""
    torch.manual_seed(0)
    states, weight, bias = torch.randn(10, 4), torch.randn(7, 4), torch.randn(7)
    targets = torch.randint(7, (10,))
    scale = torch.randn(10)
    results = []
    for way in ("parts", "whole"):
        parts = [value.clone().requires_grad_() for value in (states, weight, bias)]
        if way == "parts":
            found = TokenLogProbs.apply(*parts, targets, 3)
        else:
            logits = torch.nn.functional.linear(*parts)
            found = logits.log_softmax(1).gather(1, targets[:, None]).squeeze(1)
        (found * scale).sum().backward()
        results.append([found.detach(), *(value.grad for value in parts)])
    for ours, theirs in zip(*results, strict=True):
        assert torch.allclose(ours, theirs, atol=1e-6)


def test_a_second_run_on_the_same_data_reads_no_reference(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The cache answers to weights and texts: the same run again does not read, other texts do."""
    monkeypatch.setenv("DATA_DIR", str(tmp_path / "var"))
    read: list[int] = []

    def count(*args: Any, groups: Sequence[Group], **kwargs: Any) -> list[list[float]]:
        read.append(len(groups))
        return read_reference(*args, groups=groups, **kwargs)

    monkeypatch.setattr("rewardmodel.train.dpo.read_reference", count)
    spec = make_spec("dpo", max_steps=2, report_samples=0, logging_steps=1)
    runs = [RunDir(tmp_path / name).create(spec) for name in ("first", "second")]
    for run in runs:
        assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    assert read == [48]
    assert runs[0].read_metrics()[1]["loss"] == runs[1].read_metrics()[1]["loss"]
    other = write_rows(tmp_path / "data" / "train.jsonl", build_pairs(8, seed=9)).parent
    write_rows(other / "test.jsonl", build_pairs(4, seed=10))
    run = RunDir(tmp_path / "third").create({**spec, "data": str(other)})
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    assert read == [48, 4]


@pytest.mark.parametrize("loss_type", ["sigmoid_norm", "simpo"])
def test_other_losses_learn_too(tmp_path: Path, make_spec: MakeSpec, loss_type: str) -> None:
    spec = make_spec("dpo", loss_type=loss_type, report_samples=0, beta=2.0, epochs=3.0)
    run = RunDir(tmp_path).create(spec)
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    assert run.read_report()["heldout"]["accuracy"] >= 0.85


def test_a_model_that_scales_its_logits_is_read_whole(tmp_path: Path, tiny_model: Path, reference_model: Path) -> None:
    """A head that caps its logits, as Gemma 2's does: found out, read padded, never packed; the values are its own."""
    model = load_model(tiny_model)
    assert has_plain_head(model)
    plain = model.forward

    def capped(*args: Any, **kwargs: Any) -> Any:
        out = plain(*args, **kwargs)
        out.logits = torch.tanh(out.logits / 2) * 2
        return out

    model.forward = capped
    assert not has_plain_head(model)
    pairs = read_encoded(build_pairs(2, pairs_a_prompt=1), model=tiny_model, folder=tmp_path)
    groups = gather_groups(pairs)
    with pytest.raises(ValueError, match="packing: LlamaForCausalLM scales or caps its logits; use padded"):
        settle(DPOSpec(data="-", packing="packed"), model=model, compute=CPU, groups=groups, epochs=1)
    spec = DPOSpec(data="-", tuning="full")
    found = read_reference(
        model, spec=spec, settled=PADDED, compute=CPU, groups=groups, pad_id=0, progress=Progress(show=False)
    )
    expected = completion_log_probs(model, pairs=pairs, compute=CPU)
    assert [value for values in found for value in values] == pytest.approx(expected.flatten().tolist(), abs=1e-4)


def test_the_size_of_a_part_follows_the_vocabulary() -> None:
    """A quarter of a GiB of logits: 5,461 rows of SmolLM2's 49,152, never fewer than 256."""
    assert log_probs.MOST_LOGITS // 49152 == 5461


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"loss_type": "ipo", "label_smoothing": 0.1}, "label_smoothing: loss_type ipo knows none"),
        ({"target_margin": 1.0}, "target_margin: loss_type sigmoid has none; use simpo"),
        ({"loss_type": "simpo", "length_control": 0.1}, "length_control: loss_type simpo has none; use sigmoid"),
    ],
)
def test_settings_that_a_loss_does_not_know_are_refused(changes: dict[str, Any], error: str) -> None:
    with pytest.raises(SpecError, match=error):
        parse_spec({"method": "dpo", "data": "-", **changes})
