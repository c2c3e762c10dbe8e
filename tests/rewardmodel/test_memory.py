"""The memory estimate: parts counted by hand, refusal of what cannot fit, and the words where memory ran out."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from rewardmodel.compute import Compute
from rewardmodel.contract import InputError, SFTSpec
from rewardmodel.models import load_tokenizer
from rewardmodel.train.examples import count_trained, load_trained_policy
from rewardmodel.train.memory import (
    GIB,
    Estimate,
    TrainingError,
    check_memory,
    estimate_memory,
    estimate_models,
    raise_shortage,
)

CPU = Compute(device="cpu", precision="fp32")


def test_full_training_holds_sixteen_bytes_a_parameter(tiny_model: Path) -> None:
    model = load_trained_policy(tiny_model, tokenizer=load_tokenizer(tiny_model), compute=CPU)
    parameters = sum(p.numel() for p in model.parameters())
    trained = count_trained(SFTSpec(data="-", tuning="full"), model=model)
    assert trained == parameters
    estimate = estimate_memory(model, compute=CPU, trained=trained, tokens=100, checkpointing=False)
    assert estimate.state == 16 * parameters
    assert (
        estimate_memory(model, compute=CPU, trained=trained, tokens=200, checkpointing=False).activations
        == 2 * estimate.activations
    )


def test_adapters_are_counted_before_they_are_made(tiny_model: Path) -> None:
    """What peft makes of the same settings has as many parameters."""
    from peft import get_peft_model

    from rewardmodel.train.common import lora_config

    spec = SFTSpec(data="-", lora_rank=3)
    model = load_trained_policy(tiny_model, tokenizer=load_tokenizer(tiny_model), compute=CPU)
    counted = count_trained(spec, model=model)
    config = lora_config(spec)
    assert config is not None
    adapted = get_peft_model(model, config)
    assert counted == sum(p.numel() for p in adapted.parameters() if p.requires_grad)


def test_an_estimate_says_its_parts_and_whether_they_fit() -> None:
    estimate = Estimate(weights=GIB, gradients=GIB, optimizer=2 * GIB, activations=GIB / 64, free=4.5 * GIB)
    parts = "weights 1.0 GiB, gradients and optimizer 3.0 GiB, activations 16 MiB"
    assert estimate.describe() == f"about 4.0 GiB of memory ({parts}); 4.5 GiB are free"
    check_memory(estimate)
    tight = Estimate(weights=GIB, gradients=GIB, optimizer=2 * GIB, activations=GIB, free=4.5 * GIB)
    assert tight.describe().endswith("4.5 GiB are free, which may not suffice")
    check_memory(tight)
    with pytest.raises(InputError, match=r"memory: weights, gradients and optimizer take about 4\.0 GiB, but 3\.0 GiB"):
        check_memory(Estimate(weights=GIB, gradients=GIB, optimizer=2 * GIB, activations=0, free=3 * GIB))


def test_several_models_are_weights_all_and_gradients_where_they_learn(tiny_model: Path) -> None:
    """16 bytes a parameter of the two that learn, 4 of the frozen one; one is read at a time, so activations are those
    of a single model."""
    models = [load_trained_policy(tiny_model, tokenizer=load_tokenizer(tiny_model), compute=CPU) for _ in range(3)]
    models[2].requires_grad_(False)
    parameters = sum(p.numel() for p in models[0].parameters())
    estimate = estimate_models(models, compute=CPU, tokens=100)
    assert estimate.state == (16 + 16 + 4) * parameters
    alone = estimate_memory(models[0], compute=CPU, trained=parameters, tokens=100, checkpointing=False)
    assert estimate.activations == alone.activations


@pytest.mark.parametrize(
    ("error", "where"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nmore"), "out of GPU memory"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate"), "out of memory"),
    ],
)
def test_where_memory_ran_out_the_error_says_what_to_change(error: Exception, where: str) -> None:
    trainer = SimpleNamespace(args=SimpleNamespace(per_device_train_batch_size=8), state=SimpleNamespace(global_step=3))
    with pytest.raises(TrainingError) as caught:
        raise_shortage(error, trainer=trainer)
    assert str(caught.value).startswith(f"{where} at step 4 with batch_size 8: lower batch_size and raise")
    with pytest.raises(RuntimeError, match="something else"):
        raise_shortage(RuntimeError("something else"), trainer=trainer)
