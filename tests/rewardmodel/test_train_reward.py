"""The reward model's own loop: the same loss as TRL's trainer, the same gradient however it is read, exact resumes."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from rewardmodel.chat import encode_split
from rewardmodel.compute import Compute
from rewardmodel.contract import RewardSpec
from rewardmodel.data import read_judgements
from rewardmodel.groups import Edge, Group, gather_groups, gather_single_pairs
from rewardmodel.jobs import run_job
from rewardmodel.models import create_reward_model, load_tokenizer
from rewardmodel.reading import build_rectangle, read_rewards
from rewardmodel.rundir import RunDir
from rewardmodel.train.common import seal_checkpoint
from rewardmodel.train.reward import RewardTraining, settle_tie_strength
from rewardmodel.train.settle import Settled, count_flops, settle
from tests.rewardmodel.tiny import GOOD_WORD, WORDS, build_data, build_pairs, write_rows

MakeSpec = Callable[..., dict[str, Any]]
CPU = Compute(device="cpu", precision="fp32")


def load_model(directory: Path) -> Any:
    return create_reward_model(directory, tokenizer=load_tokenizer(directory), compute=CPU, seed=0)


def build_rankings(n: int, *, size: int = 4, seed: int = 0) -> list[dict[str, Any]]:
    """n rankings of responses that hold GOOD_WORD 0 to size - 1 times, the more the better."""
    import random

    generator = random.Random(seed)
    rows = []
    for number in range(n):
        order = generator.sample(range(size), size)
        texts = [" ".join([GOOD_WORD] * count + generator.choices(WORDS, k=size - count)) for count in order]
        ranks = [size - count for count in order]
        prompt = [{"role": "user", "content": f"{number} {' '.join(generator.choices(WORDS, k=5))}"}]
        rows.append({"prompt": prompt, "responses": texts, "ranks": ranks, "group_id": f"ranking-{number}"})
    return rows


def read_groups(path: Path, *, model: Path, **settings: Any) -> list[Group]:
    found = read_judgements(path, **settings)
    return gather_groups(encode_split(load_tokenizer(model), pairs=found.pairs, max_length=256).pairs)


def train_once(
    directory: Path,
    groups: Sequence[Group],
    *,
    packed: bool = False,
    tokens: int = 10**6,
    share: bool = True,
    **spec: Any,
) -> tuple[float, torch.Tensor]:
    """Loss and gradient of one step over all groups."""
    model = load_model(directory)
    training = RewardTraining(
        model,
        spec=RewardSpec(data="-", tuning="full", **spec),
        settled=Settled(packed, "fp32", False, False, tokens, []),
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


@pytest.fixture(scope="module")
def rankings(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rankings of 4 and of 9 responses, with ties among some."""
    rows = [*build_rankings(3), *build_rankings(2, size=9, seed=1)]
    rows[0]["ranks"] = [1, 2, 2, 4]
    return write_rows(tmp_path_factory.mktemp("rankings") / "train.jsonl", rows)


def test_the_loss_and_gradient_are_those_of_trl_on_the_same_batch(tmp_path: Path, tiny_model: Path) -> None:
    """TRL 1.16's stock RewardTrainer, one batch of 16 pairs with margins and centring: equal to 1e-5."""
    from datasets import Dataset
    from trl import RewardConfig, RewardTrainer

    file = write_rows(tmp_path / "p.jsonl", [{**row, "margin": i / 8} for i, row in enumerate(build_pairs(16))])
    tokenizer = load_tokenizer(tiny_model)
    pairs = encode_split(tokenizer, pairs=read_judgements(file).pairs, max_length=256).pairs
    model = load_model(tiny_model)
    rows = [
        {
            "chosen_ids": [*item.prompt_ids, *item.chosen_ids],
            "rejected_ids": [*item.prompt_ids, *item.rejected_ids],
            "margin": item.pair.margin,
        }
        for item in pairs
    ]
    trainer = RewardTrainer(
        model=model,
        args=RewardConfig(
            output_dir=str(tmp_path), use_cpu=True, bf16=False, report_to=[], center_rewards_coefficient=0.01
        ),
        train_dataset=Dataset.from_list(rows),
        processing_class=tokenizer,
    )
    theirs = trainer.compute_loss(model, trainer.data_collator(rows))
    theirs.backward()
    gradient = torch.cat([p.grad.flatten() for p in model.parameters() if p.grad is not None])
    for packed in (False, True):
        loss, ours = train_once(tiny_model, gather_groups(pairs), packed=packed, center_rewards_coefficient=0.01)
        assert loss == pytest.approx(theirs.item(), abs=1e-5)
        assert torch.allclose(ours, gradient, atol=1e-5)


@pytest.mark.parametrize("packed", [False, True])
def test_a_group_read_once_has_the_gradient_of_all_its_pairs_read_apart(
    tiny_model: Path, rankings: Path, packed: bool
) -> None:
    """InstructGPT's K-wise loss for K = 4 and 9: each response once against every pair's two, padded (to 1e-5)."""
    groups = read_groups(rankings, model=tiny_model)
    found = read_judgements(rankings)
    single = gather_single_pairs(encode_split(load_tokenizer(tiny_model), pairs=found.pairs, max_length=256).pairs)
    assert [group.pairs for group in groups] == [5, 6, 6, 36, 36]
    assert {len(group.sequences) for group in single} == {2}
    once = train_once(tiny_model, groups, packed=packed)
    apart = train_once(tiny_model, single)
    assert once[0] == pytest.approx(apart[0], abs=1e-5)
    assert torch.allclose(once[1], apart[1], atol=1e-5)


@pytest.mark.parametrize(
    "spec",
    [
        {},
        {"label_smoothing": 0.1, "center_rewards_coefficient": 0.02},
        {"loss": "davidson"},
        {"loss": "rao-kupper", "tie_strength": 1.5},
        {"pair_weights": "equal"},
    ],
)
def test_it_does_not_matter_how_a_step_is_cut_packed_or_shared(
    tiny_model: Path, rankings: Path, spec: dict[str, Any]
) -> None:
    """All at once and padded against packed rows of at most 300 tokens, prompts shared or not."""
    groups = read_groups(rankings, model=tiny_model, ties="loss" in spec)
    whole = train_once(tiny_model, groups, **spec)
    for share in (True, False):
        parts = train_once(tiny_model, groups, packed=True, tokens=300, share=share, **spec)
        assert parts[0] == pytest.approx(whole[0], abs=1e-5)
        assert torch.allclose(parts[1], whole[1], atol=1e-5)


def test_a_ranking_weighs_one_however_many_pairs_it_gives(tiny_model: Path, tmp_path: Path) -> None:
    """A ranking of 2 and one of 4: rows: (l + mean of 6) / 2; equal: (l + sum of 6) / 7, from rewards read apart."""
    rows = [*build_rankings(1, size=2), *build_rankings(1, size=4, seed=5)]
    groups = read_groups(write_rows(tmp_path / "r.jsonl", rows), model=tiny_model)
    model = load_model(tiny_model)
    each = []
    for group in groups:
        rewards = read_rewards(model, batch=build_rectangle(group.sequences, pad_id=0, device="cpu")).tolist()
        each.append([math.log1p(math.exp(rewards[e.worse] - rewards[e.better])) for e in group.edges])
    by_row = (each[0][0] + sum(each[1]) / 6) / 2
    by_pair = (each[0][0] + sum(each[1])) / 7
    assert train_once(tiny_model, groups)[0] == pytest.approx(by_row, abs=1e-6)
    assert train_once(tiny_model, groups, pair_weights="equal")[0] == pytest.approx(by_pair, abs=1e-6)


def test_the_length_penalty_takes_off_the_correlation_within_pairs(tiny_model: Path, rankings: Path) -> None:
    """The difference that a coefficient of 1 makes lies in [0, 1] and is the correlation of the rewards read apart."""
    groups = read_groups(rankings, model=tiny_model)
    model = load_model(tiny_model)
    leads, longer = [], []
    for group in groups:
        rewards = read_rewards(model, batch=build_rectangle(group.sequences, pad_id=0, device="cpu")).tolist()
        leads += [rewards[e.better] - rewards[e.worse] for e in group.edges]
        longer += [len(group.sequences[e.better]) - len(group.sequences[e.worse]) for e in group.edges]
    products = sum(d * n for d, n in zip(leads, longer, strict=True))
    expected = products**2 / (sum(d * d for d in leads) * sum(n * n for n in longer))
    with_penalty = train_once(tiny_model, groups, length_penalty=1.0)[0]
    assert with_penalty - train_once(tiny_model, groups)[0] == pytest.approx(expected, abs=1e-5)


def test_the_tie_strength_comes_from_the_share_of_ties() -> None:
    """One tie in four pairs: Davidson 2/4 / 3/4 = 2/3, Rao-Kupper 5/4 / 3/4 = 5/3."""
    edges = [Edge(0, 1, tied=True), Edge(0, 2), Edge(1, 2), Edge(0, 3)]
    group = Group("p", [[1], [2], [3], [4]], 0, 0, edges, [])
    found = [
        settle_tie_strength(RewardSpec(data="-", loss=loss), groups=[group]) for loss in ("davidson", "rao-kupper")
    ]
    assert found == pytest.approx([2 / 3, 5 / 3])


@pytest.mark.parametrize("loss", ["bradley-terry", "davidson", "rao-kupper", "plackett-luce"])
def test_a_reward_model_learns_from_rankings(tmp_path: Path, make_spec: MakeSpec, loss: str) -> None:
    """More of the word is better, on prompts never seen; every loss orders the held-out rankings."""
    for split, n in (("train", 24), ("test", 12)):
        write_rows(tmp_path / "data" / f"{split}.jsonl", build_rankings(n, seed=len(split)))
    run = RunDir(tmp_path / "run").create(
        make_spec("reward", data=str(tmp_path / "data"), loss=loss, tuning="full", learning_rate=3e-3, epochs=6.0)
    )
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    report = run.read_report()
    assert report["heldout"]["n"] == 72
    assert report["heldout"]["accuracy"] >= 0.85
    assert report["trained_on"]["pairs"] == 144


def test_what_a_run_chose_for_itself_is_in_status_and_report(reward_run: RunDir) -> None:
    settled = reward_run.read_report()["settled"]
    assert settled == {
        "packed": False,
        "weights": "fp32",
        "compiled": False,
        "checkpointing": False,
        "batch_tokens": 4096,
        "reasons": [],
        "processes": 1,
        "sharded": False,
    }
    assert reward_run.read_status()["message"] == "padded, fp32 weights, not compiled, 4096 tokens at once"


@pytest.mark.parametrize("changes", [{"packing": "packed"}, {"batch_tokens": 200}, {"activation_checkpointing": True}])
def test_another_way_to_read_ends_in_the_same_model(
    tmp_path: Path, make_spec: MakeSpec, changes: dict[str, Any]
) -> None:
    """Ten steps packed, in small parts, or with activations computed again: losses as in plain padded reading."""
    losses = []
    for name, more in (("plain", {}), ("other", changes)):
        spec = make_spec("reward", tuning="full", max_steps=10, logging_steps=1, learning_rate=1e-3, **more)
        run = RunDir(tmp_path / name).create(spec)
        assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
        losses.append([row["loss"] for row in run.read_metrics()])
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)


def test_a_checkpoint_between_two_logs_changes_no_metric(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cancelled after step 8 of 12 (logged at 1, 5, 10, 12), then started again: metrics equal to the last digit."""
    spec = make_spec("reward", max_steps=12, save_steps=7, tuning="full", learning_rate=1e-3)
    whole = RunDir(tmp_path / "whole").create(spec)
    assert run_job(whole, show=False) == "succeeded"
    stopped = RunDir(tmp_path / "stopped").create(spec)

    def cancel_after_seven(directory: Path) -> None:
        seal_checkpoint(directory)
        stopped.request_cancel()

    monkeypatch.setattr("rewardmodel.train.loop.seal_checkpoint", cancel_after_seven)
    assert run_job(stopped, show=False) == "cancelled"
    monkeypatch.undo()
    assert stopped.read_status()["message"] == "cancelled at step 8; the checkpoint is kept"
    assert run_job(stopped, show=False) == "succeeded", stopped.read_status()["error"]
    rows = [[{**row, "time": 0} for row in run.read_metrics()] for run in (whole, stopped)]
    assert rows[0] == rows[1]
    weights = [(run.outputs / "model" / "model.safetensors").read_bytes() for run in (whole, stopped)]
    assert weights[0] == weights[1]


def test_bfloat16_weights_keep_masters_that_small_updates_reach(tiny_model: Path) -> None:
    """One step at 1e-5 moves every master by about that, which bfloat16 would round away; finish brings them back."""
    model = load_model(tiny_model)
    before = {name: p.detach().clone() for name, p in model.named_parameters()}
    group = Group("p", [[5, 6, 7], [5, 8]], 1, 1, [Edge(0, 1)], [])
    training = RewardTraining(
        model,
        spec=RewardSpec(data="-", tuning="full", learning_rate=1e-5, warmup_ratio=0),
        settled=Settled(False, "mixed", False, False, 100, []),
        compute=CPU,
        groups=[group],
        steps=[[0]],
        pad_id=0,
    )
    assert {p.dtype for p in model.model.parameters()} == {torch.bfloat16}
    assert model.score.weight.dtype == torch.float32
    training.take_step()
    training.finish()
    moved = (model.model.norm.weight - before["model.norm.weight"]).abs()
    assert model.model.norm.weight.dtype == torch.float32
    assert 0.9e-5 < moved.max() < 1.1e-5


def test_tensorboard_gets_what_metrics_get(tmp_path: Path, make_spec: MakeSpec) -> None:
    run = RunDir(tmp_path).create(make_spec("reward", max_steps=2, tensorboard=True))
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    assert len(list((tmp_path / "tensorboard").glob("events*"))) == 1


@pytest.mark.parametrize(
    ("changes", "rows", "error"),
    [
        ({"loss": "plackett-luce"}, {"ranks": [1, 1, 3, 4]}, "nothing is left to train on with loss plackett-luce"),
        ({"loss": "davidson"}, {"ranks": [1, 1, 1, 1]}, "every training pair is tied"),
        ({}, {"ranks": [1, 1, 1, 1]}, "no usable pair is left; dropped 0 longer than max_length 128 and 0 with two"),
        ({}, {"ranks": []}, "24 unordered"),
        ({}, {"weight": 0}, "nothing is left to train on"),
        ({"weights_dtype": "bf16"}, {}, "weights_dtype: bf16 needs precision bf16"),
    ],
)
def test_rankings_that_teach_nothing_are_refused_before_training(
    tmp_path: Path, make_spec: MakeSpec, changes: dict[str, Any], rows: dict[str, Any], error: str
) -> None:
    write_rows(tmp_path / "data" / "train.jsonl", [{**row, **rows} for row in build_rankings(24)])
    write_rows(tmp_path / "data" / "test.jsonl", build_rankings(4, seed=3))
    run = RunDir(tmp_path / "run").create(make_spec("reward", data=str(tmp_path / "data"), **changes))
    assert run_job(run, show=False) == "bad input", run.read_status()["error"]
    assert error in run.read_status()["error"]


def test_a_model_that_cannot_be_packed_is_refused_or_read_padded(tiny_model: Path) -> None:
    from rewardmodel.contract import InputError

    model = load_model(tiny_model)
    model.model.config.sliding_window = 64
    group = Group("p", [[5, 6], [5, 7]], 1, 1, [Edge(0, 1)], [])
    spec = RewardSpec(data="-", tuning="full")
    assert settle(spec, model=model, compute=CPU, groups=[group], epochs=1).packed is False
    with pytest.raises(InputError, match="packing: LlamaModel attends within a window; use padded"):
        settle(replace(spec, packing="packed"), model=model, compute=CPU, groups=[group], epochs=1)


def test_operations_count_the_layers_weights_six_times_a_token(tiny_model: Path) -> None:
    """A layer: q, o 64 x 64; k, v 64 x 32; gate, up, down 64 x 128; two norms of 64: 36,992. Two layers, 10 tokens."""
    layer = 2 * 64 * 64 + 2 * 64 * 32 + 3 * 64 * 128 + 2 * 64
    assert count_flops(load_model(tiny_model), tokens=10) == 6 * 2 * layer * 10


def test_the_benchmark_runs_on_a_tiny_model(
    tmp_path: Path, tiny_model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every case gives figures, and packed rewards and gradients agree with padded ones."""
    from benchmarks.reward_training import main

    build_data(tmp_path, train=8, test=2)
    assert main([str(tmp_path), "--tokenizer", str(tiny_model), "--smoke"]) == 0
    rows = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"')]
    cases = [row for row in rows if "case" in row]
    assert [row for row in cases if "error" in row] == []
    assert cases[1]["cpu packed float32: gradients"] < 1e-5
    assert {row["goal"] for row in rows if "goal" in row} == {"groups of 4 over pairs", "groups of 9 over pairs"}


@pytest.mark.parametrize("checkpointing", [False, True])
def test_compiled_blocks_compute_the_same_and_the_saved_model_is_plain(
    tiny_model: Path, rankings: Path, monkeypatch: pytest.MonkeyPatch, checkpointing: bool
) -> None:
    """With a compiler that only traces (no code is generated here): one graph for both layers, the same gradient."""
    import torch._dynamo

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **settings: real(function, backend="aot_eager", **settings))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    groups = read_groups(rankings, model=tiny_model)
    plain = train_once(tiny_model, groups, packed=True)
    model = load_model(tiny_model)
    training = RewardTraining(
        model,
        spec=RewardSpec(data="-", tuning="full", learning_rate=1e-3),
        settled=Settled(True, "fp32", True, checkpointing, 10**6, []),
        compute=CPU,
        groups=groups,
        steps=[list(range(len(groups)))],
        pad_id=0,
    )
    training.take_step()
    assert training.read_log()["loss"] == pytest.approx(plain[0], abs=1e-6)
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == 1
    training.finish()
    assert [vars(block).get("forward") for block in model.model.layers] == [None, None]
    torch._dynamo.reset()


def test_the_text_loss_is_that_of_the_language_model_on_better_responses(tiny_model: Path, tmp_path: Path) -> None:
    """What a weight of 1 adds: the mean over pairs of -log pi(chosen) a token, read from the language model itself."""
    from rewardmodel.evaluate import completion_log_probs
    from rewardmodel.models import load_policy

    file = write_rows(tmp_path / "p.jsonl", build_pairs(6, pairs_a_prompt=1))
    tokenizer = load_tokenizer(tiny_model)
    pairs = encode_split(tokenizer, pairs=read_judgements(file).pairs, max_length=256).pairs
    policy = load_policy(tiny_model, tokenizer=tokenizer, compute=CPU, dtype=torch.float32)
    said = completion_log_probs(policy, pairs=pairs, compute=CPU)[:, 0]
    expected = -sum(value / len(pair.chosen_ids) for value, pair in zip(said, pairs, strict=True)) / 6
    groups = gather_groups(pairs)
    plain = train_once(tiny_model, groups)[0]
    for packed, tokens in ((False, 10**6), (True, 300)):
        loss = train_once(tiny_model, groups, packed=packed, tokens=tokens, text_weight=1.0)[0]
        assert loss - plain == pytest.approx(expected, abs=1e-4)
