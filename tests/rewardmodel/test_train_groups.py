"""RLOO, GRPO and online DPO end to end on tiny models, and beside TRL's trainers."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from rewardmodel.jobs import run_job
from rewardmodel.progress import Progress
from rewardmodel.rundir import RunDir
from rewardmodel.train import ppo
from rewardmodel.train.ppo import PPOTraining
from rewardmodel.train.ppo_report import warn_of_training
from tests.rewardmodel.test_train_ppo import GOOD, finish, prepare, read_weights

MakePPO = Callable[..., dict[str, Any]]
METHODS = ("rloo", "grpo", "online-dpo")


@pytest.mark.parametrize("method", METHODS)
def test_the_score_on_held_out_prompts_rises(tmp_path: Path, make_ppo: MakePPO, method: str) -> None:
    """Against a reward model that likes one word; the gain's interval is above 0, without a critic in the metrics."""
    spec = make_ppo(method, tuning="full", max_steps=16, batch_size=64, group_size=4, test_prompts=30, ppo_epochs=2)
    run = finish(RunDir(tmp_path).create({**spec, "learning_rate": 1e-2}))
    report = run.read_report()
    assert report["heldout"]["gain_interval"][0] > 0
    assert report["method"] == method
    assert report["trained_on"] == {"responses": 1024, "prompts": 48, "steps": 16}
    rows = run.read_metrics()
    assert [row["step"] for row in rows] == list(range(1, 17))
    assert all(0 <= row["equal_groups"] < 1 for row in rows)
    assert not {"explained_variance", "value_loss"} & set(rows[0])
    assert not list(run.checkpoints.glob("*/critic.safetensors"))


@pytest.mark.parametrize("method", METHODS)
def test_a_run_cancelled_within_a_step_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, make_ppo: MakePPO, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    spec = make_ppo(method, group_size=2)
    whole = finish(RunDir(tmp_path / "whole").create(spec))
    run = RunDir(tmp_path / "cut").create(spec)
    learn = ppo.PPOTraining.learn

    def stop(self: PPOTraining) -> None:
        learn(self)
        if self.done == 1 and self.part == 3:
            run.request_cancel()

    with monkeypatch.context() as patch:
        patch.setattr(ppo.PPOTraining, "learn", stop)
        assert run_job(run, show=False) == "cancelled"
    finish(run)
    ours, theirs = read_weights(run), read_weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)


@pytest.mark.parametrize("method", METHODS)
def test_packed_with_prompts_read_once_gives_the_gradient_of_padded(make_ppo: MakePPO, method: str) -> None:
    """In parts of 90 tokens too, which hold one prompt's four responses."""
    found = []
    for changes in ({}, {"batch_tokens": 90}, {"packing": "packed"}):
        training = begin(make_ppo(method, tuning="full", group_size=4, minibatches=1, **changes))
        found.append(read_gradient(training))
    assert float(found[0].abs().max()) > 1e-3
    assert all(torch.allclose(found[0], other, atol=1e-5) for other in found[1:])


def test_the_gradient_of_online_dpo_is_that_of_the_naive_loss(make_ppo: MakePPO) -> None:
    """-log sigmoid(beta (best - worst)) by transformers' own logits, the mean over prompts with unequal scores."""
    training = begin(make_ppo("online-dpo", tuning="full", group_size=3, batch_size=9, minibatches=1))
    rollout = training.rollout
    assert rollout is not None
    leads = []
    for place, group in enumerate(training.groups):
        scores = rollout.scores[3 * place : 3 * place + 3].tolist()
        ratios = []
        for ids in group.sequences:
            levels = [m(input_ids=torch.tensor([ids])).logits[0].log_softmax(1) for m in both(training)]
            ratios.append(
                sum((levels[0][t - 1, ids[t]] - levels[1][t - 1, ids[t]]) for t in range(group.prompt_length, len(ids)))
            )
        if max(scores) > min(scores):
            leads.append(ratios[scores.index(max(scores))] - ratios[scores.index(min(scores))])
    loss = -F.logsigmoid(0.1 * torch.stack(leads)).mean()  # type: ignore[arg-type]
    loss.backward()
    expected = gather_gradient(training)
    assert torch.allclose(read_gradient(training), expected, atol=1e-5)


@pytest.mark.parametrize("method", ["rloo", "grpo", "grpo by token"])
def test_advantages_and_gradients_are_those_of_trl(tmp_path: Path, make_ppo: MakePPO, method: str) -> None:
    """TRL's trainer on the same responses and scores, its policy moved from the reference before the rollout and again
    before the loss, so that KL and ratios count."""
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer, RLOOConfig, RLOOTrainer

    name = method.split()[0]
    changes = {"loss_mean": "token"} if "token" in method else {}
    spec = make_ppo(name, tuning="full", group_size=4, minibatches=1, kl_coefficient=0.3, **changes)
    training = begin(spec)
    rollout, targets = training.rollout, training.targets
    assert rollout is not None
    assert targets is not None
    answers = [ids[group.prompt_length :] for group in training.groups for ids in group.sequences]
    size = len(answers)
    trainer_class, config = (RLOOTrainer, RLOOConfig) if name == "rloo" else (GRPOTrainer, GRPOConfig)
    own: dict[str, Any] = {}
    if name == "grpo":  # the correction is none of the paper's
        own = {"loss_type": "bnpo" if "token" in method else "grpo", "use_bias_correction_kl": False}
    trainer = trainer_class(
        model=training.policy,
        reward_funcs=lambda completions, **more: rollout.scores.tolist(),
        args=config(
            output_dir=str(tmp_path), per_device_train_batch_size=size, num_generations=4, num_iterations=2, beta=0.3,
            epsilon=0.2, max_completion_length=8, report_to=[], use_cpu=True, bf16=False, **own,
        ),
        train_dataset=Dataset.from_list([{"prompt": "the cat"}] * size),
        processing_class=training.tokenizer,
    )  # fmt: skip
    turn = answers if name == "rloo" else (answers, None)
    trainer._generate_single_turn = lambda *args, **more: turn
    prompts = [ids[: group.prompt_length] for group in training.groups for ids in group.sequences]
    trainer._tokenize_prompts = lambda texts: (prompts, None, {})
    trainer.current_gradient_accumulation_steps = 1
    inputs = trainer._generate_and_score_completions([{"prompt": "the cat"}] * size)
    assert targets.advantages[:, 0].tolist() == pytest.approx(inputs["advantages"].tolist(), abs=1e-4)
    shift(training, seed=2)
    training.policy.zero_grad()
    trainer._compute_loss(training.policy, inputs).backward()
    expected = gather_gradient(training)
    assert float(expected.abs().max()) > 1e-3
    assert torch.allclose(read_gradient(training), expected, atol=2e-5)


def test_prompts_that_teach_nothing_are_said_so(make_ppo: MakePPO) -> None:
    from rewardmodel.contract import GRPOSpec

    rows = [{**GOOD, "equal_groups": 0.75}]
    found = warn_of_training(rows, spec=GRPOSpec(data="d", reward_model="r"))
    assert found[0].startswith("At 75% of the prompts at the end all responses had the same score")


def begin(spec: dict[str, Any]) -> PPOTraining:
    """A training with a rollout at hand, by a policy that is not its reference any more."""
    training = prepare(spec)
    shift(training, seed=1)
    training.collect(progress=Progress(show=False))
    return training


def shift(training: PPOTraining, *, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for weight in training.policy.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)


def both(training: PPOTraining) -> tuple[Any, Any]:
    return training.policy, training.reference


def gather_gradient(training: PPOTraining) -> torch.Tensor:
    gradient = torch.cat([p.grad.flatten() for p in training.policy.parameters()])
    training.policy.zero_grad()
    return gradient


def read_gradient(training: PPOTraining) -> torch.Tensor:
    """Of the policy, by `learn`."""
    found: list[torch.Tensor] = []

    def keep(rate: float) -> torch.Tensor:
        found.append(gather_gradient(training))
        return torch.tensor(0.0)

    training.actor.step = keep  # type: ignore[method-assign]
    training.policy.zero_grad()
    training.learn()
    return found[0]
