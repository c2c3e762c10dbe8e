"""QLoRA on the tiny model: what is packed and learned, the exact merge, exact resumes, memory, and what is refused."""

from __future__ import annotations

import importlib.util
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rewardmodel import quantization
from rewardmodel.chat import encode_split
from rewardmodel.compute import Compute
from rewardmodel.contract import DPOSpec, InputError, RewardSpec, SFTSpec, SpecError, parse_spec, spec_to_dict
from rewardmodel.data import read_judgements
from rewardmodel.evaluate import reward_margins
from rewardmodel.groups import Group, gather_groups
from rewardmodel.jobs import run_job
from rewardmodel.models import create_reward_model, load_policy, load_reward_model, load_tokenizer
from rewardmodel.progress import Progress
from rewardmodel.quantization import count_bytes, count_weights, is_packed, largest_unpacked, merge_into, packed_bytes
from rewardmodel.rundir import RunDir
from rewardmodel.train.common import find_checkpoint, lora_config, seal_checkpoint
from rewardmodel.train.dpo import read_reference
from rewardmodel.train.examples import count_trained
from rewardmodel.train.loop import shrink_weights
from rewardmodel.train.memory import estimate_memory
from rewardmodel.train.qlora import MAIN_MEMORY, choose_reader, count_saved_weights
from rewardmodel.train.reward import RewardTraining
from rewardmodel.train.settle import Settled, count_flops, estimate_bytes
from tests.rewardmodel.several import find_port, run_in_processes
from tests.rewardmodel.test_encoders import build_encoder
from tests.rewardmodel.tiny import build_pairs, write_rows

MakeSpec = Callable[..., dict[str, Any]]
CPU = Compute(device="cpu", precision="fp32")
METHODS = ("reward", "dpo", "sft", "kto")
LAYERS = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")

needs_library = pytest.mark.skipif(
    importlib.util.find_spec("bitsandbytes") is None,
    reason="bitsandbytes is not installed (pip install 'preferee[qlora]')",
)


def load(directory: Path, *, packed: bool, policy: bool = False) -> Any:
    tokenizer = load_tokenizer(directory)
    if policy:
        return load_policy(directory, tokenizer=tokenizer, compute=CPU, dtype=torch.float32, packed=packed)
    return create_reward_model(directory, tokenizer=tokenizer, compute=CPU, seed=0, packed=packed)


def adapt(model: Any) -> Any:
    """Adapters whose B is not 0, as after some steps: the same in every model of these layers."""
    from peft import get_peft_model

    adapters = lora_config(RewardSpec(data="-", tuning="qlora"))
    assert adapters is not None
    adapted = get_peft_model(model, adapters).eval()
    generator = torch.Generator().manual_seed(1)
    for name, parameter in sorted(adapted.named_parameters()):
        if "lora_" in name:
            parameter.data = 0.1 * torch.randn(parameter.shape, generator=generator)
    return adapted


def train(directory: Path, spec: dict[str, Any]) -> RunDir:
    run = RunDir(directory).create(spec)
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    return run


def read_groups(folder: Path, *, model: Path) -> list[Group]:
    data = write_rows(folder / "pairs.jsonl", build_pairs(6))
    return gather_groups(encode_split(load_tokenizer(model), pairs=read_judgements(data).pairs, max_length=128).pairs)


def unpack(model: Any) -> dict[str, torch.Tensor]:
    """The numbers that packed weights stand for, by name."""
    from bitsandbytes.functional import dequantize_4bit

    return {name: dequantize_4bit(p.data, p.quant_state) for name, p in model.named_parameters() if is_packed(p)}


@needs_library
@pytest.mark.parametrize("policy", [True, False])
def test_every_linear_layer_but_the_head_is_packed_and_the_rest_is_as_it_was(tiny_model: Path, policy: bool) -> None:
    model, whole = load(tiny_model, packed=True, policy=policy), load(tiny_model, packed=False, policy=policy)
    packed = {name for name, parameter in model.named_parameters() if is_packed(parameter)}
    assert {name.split(".")[-2] for name in packed} == set(LAYERS)
    assert len(packed) == 2 * len(LAYERS)
    own = dict(whole.named_parameters())
    for name, parameter in model.named_parameters():
        assert count_weights(parameter) == own[name].numel()
        if name not in packed:
            assert torch.equal(parameter, own[name]), name
    for name, numbers in unpack(model).items():
        assert 0.05 < ((numbers - own[name]).norm() / own[name].norm()).item() < 0.15, name


@needs_library
@pytest.mark.parametrize("rows", ["padded", "packed"])
def test_loss_and_gradient_are_those_of_adapters_over_the_unpacked_numbers_and_reach_nothing_else(
    tmp_path: Path, tiny_model: Path, rows: str
) -> None:
    """Against LoRA over full weights that hold the rounded numbers. Everything was read without a gradient before:
    on some CPUs bitsandbytes would lay weights out anew then, and lose the gradient."""
    groups = read_groups(tmp_path, model=tiny_model)
    model = adapt(load(tiny_model, packed=True))
    rounded = load(tiny_model, packed=False)
    rounded.load_state_dict(unpack(load(tiny_model, packed=True)), strict=False)
    before = {name: p.detach().clone() for name, p in model.named_parameters() if is_packed(p)}
    steps = {}
    for name, one in (("packed", model), ("rounded", adapt(rounded))):
        training = RewardTraining(
            one,
            spec=RewardSpec(data="-", tuning="qlora"),
            settled=Settled(rows == "packed", "fp32", False, False, 300, []),
            compute=CPU,
            groups=groups,
            steps=[list(range(len(groups)))],
            pad_id=0,
        )
        with torch.no_grad():
            training.read_rewards(groups)
        training.optimizer.step = lambda rate: torch.tensor(0.0)  # type: ignore[method-assign]
        training.take_step()
        gradients = {key: p.grad for key, p in one.named_parameters() if p.grad is not None}
        steps[name] = (training.read_log()["loss"], gradients)
    (loss, gradients), (other_loss, others) = steps["packed"], steps["rounded"]
    assert loss == pytest.approx(other_loss, abs=1e-6)
    assert gradients.keys() == others.keys()
    assert {key.split(".")[-2] if "lora_" not in key else "lora" for key in gradients} == {"lora", "default"}
    assert len(gradients) == 2 * 2 * len(LAYERS) + 1  # A and B of every layer, and the head
    for key, gradient in gradients.items():
        assert gradient.abs().max() > 0, key
        assert torch.allclose(gradient, others[key], atol=1e-5, rtol=1e-4), key
    assert all(torch.equal(p, before[name]) for name, p in model.named_parameters() if name in before)


@pytest.fixture(scope="module")
def reward_qlora(tmp_path_factory: pytest.TempPathFactory, make_spec: MakeSpec) -> RunDir:
    return train(tmp_path_factory.mktemp("qlora"), make_spec("reward", tuning="qlora"))


@needs_library
def test_the_saved_model_is_the_base_plus_ba_times_the_scale_to_the_last_bit(
    reward_qlora: RunDir, tiny_model: Path
) -> None:
    """W + (32 / 16) B A from the last checkpoint, the head as it was trained, everything else as in the base."""
    saved, base = (
        load_file(reward_qlora.outputs / "model" / "model.safetensors"),
        load_file(tiny_model / "model.safetensors"),
    )
    checkpoint = find_checkpoint(reward_qlora)
    assert checkpoint is not None
    learned = {
        key.removeprefix("weight/base_model.model."): value
        for key, value in load_file(checkpoint / "state.safetensors").items()
        if key.startswith("weight/")
    }
    assert set(saved) == {*base, "score.weight"}
    assert torch.equal(saved["score.weight"], learned["score.modules_to_save.default.weight"])
    for key, value in base.items():
        stem = key.removesuffix(".weight")
        if stem.split(".")[-1] in LAYERS:
            a, b = learned[f"{stem}.lora_A.default.weight"], learned[f"{stem}.lora_B.default.weight"]
            assert torch.equal(saved[key], value + b @ a * 2.0), key
            assert not torch.equal(saved[key], value)
        else:
            assert torch.equal(saved[key], value), key


@needs_library
def test_the_saved_model_scores_like_the_adapters_over_packed_weights(
    reward_qlora: RunDir, tiny_model: Path, tiny_data: Path
) -> None:
    """They differ by the rounding to 4 bits, which the saved model is free of: leads of about 11 differ by less than
    0.02. The report's figures are the saved model's."""
    checkpoint = find_checkpoint(reward_qlora)
    assert checkpoint is not None
    learned = load_file(checkpoint / "state.safetensors")
    model = adapt(load(tiny_model, packed=True))
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            parameter.data.copy_(learned[f"weight/{name}"])
    tokenizer = load_tokenizer(tiny_model)
    judged = read_judgements(tiny_data / "test.jsonl").pairs
    pairs = encode_split(tokenizer, pairs=judged, max_length=128).pairs
    saved = load_reward_model(reward_qlora.outputs / "model", tokenizer=tokenizer, compute=CPU)
    trained, merged = (torch.tensor(reward_margins(one, pairs=pairs, compute=CPU)) for one in (model, saved))
    assert merged.mean() > 5
    assert 0 < (trained - merged).abs().max() < 0.02
    report = reward_qlora.read_report()
    assert report["heldout"]["log_loss"] == pytest.approx(torch.nn.functional.softplus(-merged).mean().item(), rel=1e-5)
    assert report["notes"] == [
        "the adapters were trained over weights in 4 bits (NF4) and merged into the full ones; the held-out figures "
        "are those of the saved, full model"
    ]


@needs_library
def test_nothing_of_the_saved_model_asks_for_the_library(reward_qlora: RunDir) -> None:
    directory = reward_qlora.outputs / "model"
    assert "quantization_config" not in json.loads((directory / "config.json").read_text())
    assert {value.dtype for value in load_file(directory / "model.safetensors").values()} == {torch.float32}
    assert reward_qlora.read_report()["baselines"]["untrained"]["log_loss"] == pytest.approx(math.log(2), abs=1e-2)


@needs_library
@pytest.mark.parametrize("kind", ["bert", "gpt2"])
def test_layers_of_other_shapes_are_merged_the_right_way_round(tmp_path: Path, tiny_model: Path, kind: str) -> None:
    """BERT's classifier is trained whole; GPT-2 keeps its weights transposed. Base plus adapters, packed and merged,
    differ by the rounding alone: less than a tenth of what the adapters change."""
    directory = build_encoder(tmp_path / kind, kind=kind) if kind == "bert" else build_gpt2(tmp_path, like=tiny_model)
    ids = torch.arange(5, 25)[None]
    with torch.no_grad():
        plain = load(directory, packed=False)(input_ids=ids).logits
        adapted = adapt(load(directory, packed=True))
        trained = adapted(input_ids=ids).logits
        merged = merge_into(load(directory, packed=False), trained=adapted)(input_ids=ids).logits
    assert (merged - trained).abs().max() < 0.1 * (merged - plain).abs().max()


def build_gpt2(folder: Path, *, like: Path) -> Path:
    from transformers import GPT2Config, GPT2LMHeadModel

    tokenizer = load_tokenizer(like)
    torch.manual_seed(0)
    shape = {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 256, "pad_token_id": tokenizer.pad_token_id}
    GPT2LMHeadModel(GPT2Config(vocab_size=len(tokenizer), **shape)).save_pretrained(folder / "gpt2")
    tokenizer.save_pretrained(folder / "gpt2")
    return folder / "gpt2"


@needs_library
@pytest.mark.parametrize("method", METHODS)
def test_a_stopped_run_resumes_to_the_very_model_and_metrics_of_an_uninterrupted_one(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    samples = {} if method == "reward" else {"report_samples": 0}
    spec = make_spec(method, tuning="qlora", max_steps=8, save_steps=4, logging_steps=1, tensorboard=False, **samples)
    whole = train(tmp_path / "whole", spec)
    stopped = RunDir(tmp_path / "stopped").create(spec)

    def stop(directory: Path) -> None:
        seal_checkpoint(directory)
        stopped.request_cancel()

    monkeypatch.setattr("rewardmodel.train.common.seal_checkpoint", stop)
    monkeypatch.setattr("rewardmodel.train.loop.seal_checkpoint", stop)
    assert run_job(stopped, show=False) == "cancelled"
    monkeypatch.undo()
    assert run_job(stopped, show=False) == "succeeded", stopped.read_status()["error"]
    weights = [(run.outputs / "model" / "model.safetensors").read_bytes() for run in (whole, stopped)]
    assert weights[0] == weights[1]
    rows = [[{**row, "time": 0} for row in run.read_metrics()] for run in (whole, stopped)]
    assert rows[0] == rows[1]
    assert whole.read_report()["heldout"] == stopped.read_report()["heldout"]


@needs_library
def test_adapters_that_trl_trains_stay_in_float32(tmp_path: Path, make_spec: MakeSpec) -> None:
    """TRL puts them into bfloat16, where an update of 1e-3 of a weight is lost: float32 has numbers between."""
    run = train(tmp_path, make_spec("sft", tuning="qlora", max_steps=4, report_samples=0, tensorboard=False))
    checkpoint = find_checkpoint(run)
    assert checkpoint is not None
    learned = load_file(checkpoint / "adapter_model.safetensors")
    assert {value.dtype for value in learned.values()} == {torch.float32}
    assert all(not torch.equal(value, value.bfloat16().float()) for value in learned.values())


@needs_library
def test_the_reference_of_dpo_is_the_packed_base_without_its_adapters(
    tmp_path: Path, tiny_model: Path, make_spec: MakeSpec
) -> None:
    """At the first step policy and reference are the same numbers, so the loss is ln 2 and the norm is not 0."""
    groups = read_groups(tmp_path, model=tiny_model)
    model = adapt_policy(load(tiny_model, packed=True, policy=True))
    values = {}
    for name, one in (("off", model), ("base", load(tiny_model, packed=True, policy=True))):
        with model.disable_adapter():
            values[name] = read_reference(
                one,
                spec=DPOSpec(data="-", tuning="qlora"),
                settled=Settled(False, "fp32", False, False, 300, []),
                compute=CPU,
                groups=groups,
                pad_id=0,
                progress=Progress(show=False),
            )
    assert values["off"] == values["base"]
    run = train(tmp_path / "run", make_spec("dpo", tuning="qlora", max_steps=1, report_samples=0, logging_steps=1))
    (first,) = run.read_metrics()
    assert first["loss"] == pytest.approx(math.log(2), abs=1e-6)
    assert first["grad_norm"] > 0


def adapt_policy(model: Any) -> Any:
    from peft import get_peft_model

    adapters = lora_config(SFTSpec(data="-", tuning="qlora"))
    assert adapters is not None
    adapted = get_peft_model(model, adapters).eval()
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.ones_(parameter)
    return adapted


@needs_library
def test_weights_in_bfloat16_leave_the_packed_ones_packed(tiny_model: Path) -> None:
    model = load(tiny_model, packed=True)
    before = unpack(model)
    shrink_weights(model)
    after = unpack(model)
    assert all(torch.equal(after[name], before[name]) for name in before)
    kinds = {name: p.dtype for name, p in model.named_parameters() if not is_packed(p)}
    assert kinds.pop("score.weight") == torch.float32
    assert set(kinds.values()) == {torch.bfloat16}


@needs_library
def test_memory_counts_packed_weights_with_their_constants_and_the_rest_whole(tiny_model: Path) -> None:
    """The query layer: 64 x 64 weights at half a byte, 2048; a constant a block of 64 in one byte, 64; of these a
    float32 a block of 256, 4, and their mean, 4; two tables of 256 and of 16 float32, 1024 and 64: 3208 in all.
    In a large layer the tables are nothing, and a weight takes 1/2 + 1/64 + 4/16384 = 0.516 bytes."""
    policy, whole = load(tiny_model, packed=True, policy=True), load(tiny_model, packed=False, policy=True)
    packed = {name: p for name, p in policy.named_parameters() if is_packed(p)}
    assert packed_bytes(packed["model.layers.0.self_attn.q_proj.weight"]) == 3208
    tables = 1024 + 64 + 4
    blocks = sum(p.numel() * 2 / 64 + 4 * math.ceil(p.numel() * 2 / 64 / 256) for p in packed.values())
    expected = sum(p.numel() for p in packed.values()) + blocks + len(packed) * tables
    rest = sum(p.numel() for name, p in whole.named_parameters() if name not in packed)
    assert count_bytes(policy, each=4) == expected + 4 * rest
    assert largest_unpacked(policy, each=4) == 4 * 64 * 128
    assert largest_unpacked(whole, each=4) == 0
    trained = count_trained(SFTSpec(data="-", tuning="qlora"), model=policy)
    assert trained == count_trained(SFTSpec(data="-", tuning="lora"), model=whole)
    estimate = estimate_memory(policy, compute=CPU, trained=trained, tokens=1, checkpointing=False)
    assert estimate.weights == expected + 4 * rest + 4 * 64 * 128 + 4 * trained
    assert (estimate.gradients, estimate.optimizer) == (4 * trained, 8 * trained)


@needs_library
def test_what_our_own_loop_counts_on_follows_the_same_sizes(tiny_model: Path) -> None:
    """Adapters and head at 16 bytes, what is frozen as it is held; operations are those of the weights, not bytes."""
    model, whole = adapt(load(tiny_model, packed=True)), adapt(load(tiny_model, packed=False))
    trained = sum(p.numel() for p in model.parameters() if p.requires_grad)
    state, _ = estimate_bytes(model, weights="fp32", checkpointing=False, compiled=False)
    assert state == 16 * trained + count_bytes(model, each=4) - 4 * trained + 4 * 64 * 128
    small, _ = estimate_bytes(model, weights="bf16", checkpointing=False, compiled=False)
    assert small == 8 * trained + count_bytes(model, each=2) - 2 * trained + 2 * 64 * 128
    assert count_flops(model, tokens=10) == count_flops(whole, tokens=10)


def test_held_out_rows_are_read_on_the_cpu_where_the_whole_model_does_not_fit_the_gpu(
    tiny_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    weights = count_saved_weights(tiny_model)
    assert weights == sum(p.numel() for p in load(tiny_model, packed=False, policy=True).parameters())
    gpu = Compute(device="cuda", precision="bf16")
    free = {"cuda": 1.2 * 4 * weights + 1.2 * 2.6 * weights, "cpu": 1.2 * 4 * weights}
    monkeypatch.setattr("rewardmodel.train.qlora.find_free", lambda compute, *, held: free[compute.device])
    spec = RewardSpec(data="-", tuning="qlora")
    assert choose_reader(spec, base=tiny_model, compute=gpu) == gpu
    free["cuda"] -= 1
    assert choose_reader(spec, base=tiny_model, compute=gpu) == MAIN_MEMORY
    assert choose_reader(RewardSpec(data="-", tuning="lora"), base=tiny_model, compute=gpu) == gpu
    free["cpu"] -= 1
    with pytest.raises(InputError, match="qlora merges into the whole model in main memory"):
        choose_reader(spec, base=tiny_model, compute=gpu)


@pytest.mark.parametrize("method", METHODS)
def test_without_the_library_the_run_says_what_to_install(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    monkeypatch.setattr(quantization, "LIBRARY", "no_such_library")
    run = RunDir(tmp_path).create(make_spec(method, tuning="qlora"))
    assert run_job(run, show=False) == "bad input"
    assert run.read_status()["error"] == (
        "tuning: qlora needs no_such_library, which is not installed: pip install 'preferee[qlora]', or use tuning lora"
    )


@needs_library
@pytest.mark.parametrize("variable", ["ACCELERATE_USE_FSDP", "ACCELERATE_USE_DEEPSPEED"])
@pytest.mark.parametrize("method", ["reward", "sft"])
def test_launchers_that_divide_weights_are_refused(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch, method: str, variable: str
) -> None:
    monkeypatch.setenv(variable, "true")
    run = RunDir(tmp_path).create(make_spec(method, tuning="qlora"))
    assert run_job(run, show=False) == "bad input"
    assert "data_parallel.yaml" in run.read_status()["error"]


@needs_library
def test_a_model_that_is_quantized_already_is_refused(tmp_path: Path, tiny_model: Path, make_spec: MakeSpec) -> None:
    directory = tmp_path / "model"
    load(tiny_model, packed=True, policy=True).save_pretrained(directory)
    load_tokenizer(tiny_model).save_pretrained(directory)
    run = RunDir(tmp_path / "run").create(make_spec("reward", model=str(directory), tuning="qlora"))
    assert run_job(run, show=False) == "bad input"
    assert "is quantized already" in run.read_status()["error"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "reward", "compile": "on"}, "compile: qlora computes with packed weights"),
        ({"method": "dpo", "sharding": "full"}, "sharding: qlora trains a whole copy on every device"),
        ({"method": "reward", "weights_dtype": "mixed"}, "weights_dtype: mixed is for tuning full; with qlora"),
        ({"method": "rejection"}, "tuning: unknown 'qlora': did you mean 'lora'?"),
        ({"method": "ppo", "reward_model": "m"}, "tuning: unknown 'qlora': did you mean 'lora'?"),
        ({"method": "reward", "ensemble": 4}, "ensemble: members are heads; set tuning head"),
    ],
)
def test_settings_that_make_no_sense_with_it_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_spec({"data": "d", "tuning": "qlora", **changes})


@pytest.mark.parametrize("method", METHODS)
def test_the_learning_rate_left_out_is_that_of_lora(method: str) -> None:
    lora, qlora = (spec_to_dict(parse_spec({"method": method, "data": "d", "tuning": t})) for t in ("lora", "qlora"))
    assert qlora["learning_rate"] == lora["learning_rate"] > 0


@needs_library
def test_adapters_of_another_model_are_not_merged(tiny_model: Path) -> None:
    shallow = load(tiny_model, packed=False)
    shallow.model.layers = shallow.model.layers[:1]
    with pytest.raises(ValueError, match=r"adapters and base differ in \['base_model.model.model.layers.1"):
        merge_into(shallow, trained=adapt(load(tiny_model, packed=True)))


@needs_library
def test_named_scales_are_learned_over_packed_weights_too(tmp_path: Path, make_spec: MakeSpec) -> None:
    rows = [
        {"prompt": row["prompt"], "response": row[side][0]["content"], "ratings": {"thanks": value}}
        for row in build_pairs(24)
        for side, value in (("chosen", 5), ("rejected", 1))
    ]
    for split, part in (("train", rows[:32]), ("test", rows[32:])):
        write_rows(tmp_path / "data" / f"{split}.jsonl", part)
    run = train(
        tmp_path / "run",
        make_spec("reward", data=str(tmp_path / "data"), loss="ratings", tuning="qlora", epochs=8.0, tensorboard=False),
    )
    assert run.read_report()["heldout"]["attributes"]["thanks"]["spearman"] > 0.8
    assert "quantization_config" not in json.loads((run.outputs / "model" / "config.json").read_text())


@needs_library
def test_two_processes_train_as_one_does(tmp_path: Path, make_spec: MakeSpec) -> None:
    """A reward model's step is shared out; of SFT, two processes with 4 rows each make a step of 8."""
    common = {"tuning": "qlora", "max_steps": 4, "logging_steps": 1, "tensorboard": False, "learning_rate": 1e-3}
    own = {"reward": {}, "sft": {"report_samples": 0}}
    one = {method: train(tmp_path / f"{method}-one", make_spec(method, **common, **own[method])) for method in own}
    two = {
        method: RunDir(tmp_path / f"{method}-two").create(
            make_spec(method, **common, **own[method], batch_size=8 if method == "reward" else 4)
        )
        for method in own
    }
    rows = [{"directory": str(run.path), "outcome": "succeeded", "port": find_port()} for run in two.values()]
    run_in_processes("tests.rewardmodel.several:train", size=2, arguments=rows)
    for method in own:
        losses = [[row["loss"] for row in runs[method].read_metrics() if "loss" in row] for runs in (one, two)]
        assert losses[0] == pytest.approx(losses[1], abs=2e-5)
        weights = [load_file(runs[method].outputs / "model" / "model.safetensors") for runs in (one, two)]
        assert weights[0].keys() == weights[1].keys()
        assert all(torch.allclose(weights[0][key], weights[1][key], atol=1e-4) for key in weights[0])
