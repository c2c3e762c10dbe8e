"""PPO end to end on tiny models: it follows its reward model, resumes exactly, stops when asked, says what it saw."""

import json
from collections.abc import Callable
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from rewardmodel.compute import Compute
from rewardmodel.contract import OnlineSpec, PPOSpec, parse_spec
from rewardmodel.data import read_prompts
from rewardmodel.generate import Sampling, generate_responses
from rewardmodel.jobs import run_job
from rewardmodel.models import load_policy, load_tokenizer
from rewardmodel.progress import Progress
from rewardmodel.rundir import RunDir
from rewardmodel.score import load_scorer
from rewardmodel.train import ppo, rewards
from rewardmodel.train.ppo import PPOTraining, prepare_models
from rewardmodel.train.ppo_report import warn_of_training
from rewardmodel.train.rewards import Rewards
from rewardmodel.train.rollouts import choose_prompts, split_rollout
from tests.rewardmodel.tiny import build_tiny_model, write_rows

CPU = Compute(device="cpu", precision="fp32")
MakePPO = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def sft_policy(tmp_path_factory: pytest.TempPathFactory, make_spec: Callable[..., dict[str, Any]]) -> Path:
    """The tiny model after it imitated the better responses for a while."""
    run = RunDir(tmp_path_factory.mktemp("sft")).create(
        make_spec("sft", tuning="full", epochs=12.0, learning_rate=1e-2, report_samples=0, tensorboard=False)
    )
    return finish(run).outputs / "model"


def prepare(spec: dict[str, Any]) -> PPOTraining:
    """A training that has not begun."""
    parsed = parse_spec(spec)
    assert isinstance(parsed, OnlineSpec)
    base = Path(parsed.model)
    tokenizer = load_tokenizer(base)
    policy = load_policy(base, tokenizer=tokenizer, compute=CPU, dtype=torch.float32)
    torch.manual_seed(0)
    models = prepare_models(parsed, policy=policy, base=base, tokenizer=tokenizer, compute=CPU)
    prompts = read_prompts(Path(parsed.data) / "train.jsonl")  # type: ignore[arg-type]
    return PPOTraining(
        *models,
        spec=parsed,
        compute=CPU,
        tokenizer=tokenizer,
        prompts=prompts,
        rewards=Rewards(parsed, items={"train": prompts}),
    )


def read_weights(run: RunDir) -> dict[str, torch.Tensor]:
    return load_file(run.outputs / "model" / "model.safetensors")


def finish(run: RunDir) -> RunDir:
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    return run


@pytest.mark.parametrize("tuning", ["full", "lora"])
def test_the_score_on_held_out_prompts_rises(tmp_path: Path, make_ppo: MakePPO, sft_policy: Path, tuning: str) -> None:
    """Against a reward model that likes one word; the gain's interval is above 0, and every step is told. Adapters
    leave the output layer alone, so they begin from a policy that says words already."""
    spec = make_ppo(
        tuning=tuning,
        max_steps=20,
        batch_size=64,
        kl_coefficient=0.01,
        test_prompts=30,
        learning_rate=1e-2,
        ppo_epochs=4,
    )
    if tuning == "lora":
        spec["model"] = str(sft_policy)
    run = finish(RunDir(tmp_path).create(spec))
    report = run.read_report()
    assert report["heldout"]["gain_interval"][0] > 0
    assert report["heldout"]["score"] > report["baselines"]["untrained"]["score"]
    assert report["heldout"]["kl"]["per_response"] > 0
    assert report["trained_on"] == {"responses": 1280, "prompts": 48, "steps": 20}
    rows = run.read_metrics()
    assert [row["step"] for row in rows] == list(range(1, 21))
    assert rows[0]["kl"] == pytest.approx(0, abs=1e-5)
    assert (run.outputs / "model" / "README.md").read_text().startswith("# Policy (proximal policy optimisation)")


@pytest.mark.parametrize("tuning", ["lora", "full"])
def test_a_learning_rate_of_zero_changes_nothing(tmp_path: Path, make_ppo: MakePPO, tuning: str) -> None:
    spec = make_ppo(tuning=tuning, learning_rate=0, value_learning_rate=0)
    run = finish(RunDir(tmp_path).create(spec))
    before = load_file(Path(spec["model"]) / "model.safetensors")
    after = read_weights(run)
    assert sorted(before) == sorted(after)
    assert all(torch.equal(before[name], after[name]) for name in before)
    report = run.read_report()
    assert report["heldout"]["gain"] == 0
    assert report["heldout"]["kl"]["per_response"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize("packing", ["padded", "packed"])
def test_log_probabilities_of_generation_are_those_of_training(make_ppo: MakePPO, packing: str) -> None:
    """At temperature 0.7, prompts of different lengths padded on the left: transformers' own scores of the tokens it
    drew, with its cache, beside ours, padded on the right or packed."""
    training = prepare(make_ppo(temperature=0.7, packing=packing))
    prompts = [
        [{"role": "user", "content": text}] for text in ("the cat", "a mat and one red bird near some trees", "rain")
    ]
    responses = generate_responses(
        training.policy,
        tokenizer=training.tokenizer,
        prompts=prompts,  # type: ignore[arg-type]
        sampling=Sampling(max_new_tokens=8, temperature=0.7, top_p=1.0, batch_size=3),
        compute=CPU,
    )
    rollout = training.read_rollout(
        [[*response.prompt_ids, *response.ids] for response in responses],
        prompt_lengths=[len(response.prompt_ids) for response in responses],
        ended=[True] * 3,
        scores=[0.0] * 3,
    )
    for place, response in enumerate(responses):
        cache, ids, said = None, list(response.prompt_ids), []
        for token in response.ids:
            with torch.no_grad():
                out = training.policy(input_ids=torch.tensor([ids]), past_key_values=cache, use_cache=True)
            said.append(float((out.logits[0, -1] / 0.7).log_softmax(0)[token]))
            cache, ids = out.past_key_values, [token]
        assert rollout.log_probs[place][rollout.mask[place]].tolist() == pytest.approx(said, abs=1e-4)
        chances = (out.logits[0, -1] / 0.7).softmax(0)
        entropy = float(-(chances * chances.log()).sum())
        assert float(rollout.entropies[place][rollout.mask[place]][-1]) == pytest.approx(entropy, abs=1e-4)
    assert torch.allclose(rollout.reference, rollout.log_probs, atol=1e-5)


def test_batch_composition_and_the_way_of_reading_change_no_number_and_no_gradient(make_ppo: MakePPO) -> None:
    """One rollout read at once, in parts of 60 tokens, and packed: log-probabilities, values, gradients."""
    first = prepare(make_ppo(tuning="full"))
    first.collect(progress=Progress(show=False))
    rollout = first.rollout
    assert rollout is not None
    weights = []
    for changes in ({}, {"batch_tokens": 60}, {"packing": "packed"}):
        training = prepare(make_ppo(tuning="full", **changes))
        training.collect(progress=Progress(show=False))
        again = training.rollout
        assert again is not None
        for name in ("log_probs", "reference", "values", "entropies"):
            assert torch.allclose(getattr(again, name), getattr(rollout, name), atol=1e-5)
        gradients: list[torch.Tensor] = []
        for optimizer in (training.actor, training.teacher):

            def keep(rate: float, own: Any = optimizer, kept: list[torch.Tensor] = gradients) -> torch.Tensor:
                kept.append(torch.cat([p.grad.flatten() for p in own.parameters if p.grad is not None]))
                return torch.tensor(0.0)

            optimizer.step = keep  # type: ignore[method-assign]
        training.learn()
        weights.append(torch.cat(gradients))
    assert all(torch.allclose(weights[0], other, atol=1e-5) for other in weights[1:])


def test_compiled_layers_compute_the_same(make_ppo: MakePPO, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a compiler that only traces: a rollout's numbers and the weights after a step, of policy and critic."""
    import torch._dynamo

    real = torch.compile
    monkeypatch.setattr(torch, "compile", lambda function, **settings: real(function, backend="aot_eager", **settings))
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    learned = []
    for compiled in ("off", "on"):
        training = prepare(make_ppo(tuning="full", packing="packed", compile=compiled))
        for _step in range(2):  # the second rollout is read by compiled layers too
            training.collect(progress=Progress(show=False))
            while not training.is_learned:
                training.learn()
            figures = training.finish_step()
        weights = [parameter.detach().flatten() for model in (training.policy, training.critic)
                   for parameter in model.parameters()]  # fmt: skip
        learned.append((figures["kl"], figures["value_loss"], torch.cat(weights)))
        assert (torch._dynamo.utils.counters["stats"]["unique_graphs"] > 0) is (compiled == "on")
    assert learned[1][:2] == pytest.approx(learned[0][:2], abs=1e-5)
    assert torch.allclose(learned[0][2], learned[1][2], atol=1e-4)
    torch._dynamo.reset()


@pytest.mark.parametrize(("tuning", "packed", "expected"), [("full", True, True), ("lora", True, False),
                                                            ("full", False, False)])  # fmt: skip
def test_layers_are_compiled_where_a_gpu_wins_back_the_time(
    make_ppo: MakePPO, monkeypatch: pytest.MonkeyPatch, tuning: str, packed: bool, expected: bool
) -> None:
    monkeypatch.setattr(ppo, "estimate_saving", lambda model, *, tokens: tokens / 1000)
    spec = parse_spec(make_ppo(tuning=tuning))
    assert isinstance(spec, OnlineSpec)
    gpu = Compute(device="cuda", precision="bf16")
    assert ppo.settle_compiling(spec, model=None, tokens=31_000, packed=packed, compute=gpu) is expected
    assert not ppo.settle_compiling(spec, model=None, tokens=29_000, packed=packed, compute=gpu)
    assert not ppo.settle_compiling(spec, model=None, tokens=31_000, packed=packed, compute=CPU)


def test_the_first_gradient_is_that_of_the_naive_loss(make_ppo: MakePPO) -> None:
    """Ratios are 1 before the first move: the policy's gradient is that of -A log pi, by transformers' own logits."""
    training = prepare(make_ppo(tuning="full", minibatches=1))
    training.collect(progress=Progress(show=False))
    rollout, targets = training.rollout, training.targets
    assert rollout is not None
    assert targets is not None
    loss = torch.zeros(())
    for place, group in enumerate(training.groups):
        ids = torch.tensor([group.sequences[0]])
        levels = training.policy(input_ids=ids).logits[0, group.prompt_length - 1 : -1].log_softmax(1)
        said = levels.gather(1, ids[0, group.prompt_length :, None]).squeeze(1)
        loss = loss - (said * targets.advantages[place][: len(said)]).sum()
    (loss / rollout.mask.sum()).backward()
    expected = [p.grad.clone() for p in training.policy.parameters()]
    training.policy.zero_grad()
    gradients: list[torch.Tensor] = []

    def keep(rate: float) -> torch.Tensor:
        gradients.extend(p.grad.clone() for p in training.policy.parameters())
        return torch.tensor(0.0)

    training.actor.step = keep  # type: ignore[method-assign]
    training.learn()
    assert all(torch.allclose(ours, theirs, atol=1e-5) for ours, theirs in zip(gradients, expected, strict=True))


@pytest.mark.parametrize("place", ["between steps", "within a step", "while generating"])
def test_a_resumed_run_ends_with_the_weights_of_an_uninterrupted_one(
    tmp_path: Path, make_ppo: MakePPO, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    """Bit for bit, at one thread; metrics too."""
    spec = make_ppo(save_steps=2 if place == "between steps" else 10, target_kl=1.0)
    whole = finish(RunDir(tmp_path / "whole").create(spec))
    run = RunDir(tmp_path / "cut").create(spec)
    with monkeypatch.context() as patch:
        if place == "between steps":
            broken = ppo.PPOTraining.collect

            def fail(self: PPOTraining, *, progress: Progress) -> None:
                if self.done == 2:
                    raise RuntimeError("the machine died")
                broken(self, progress=progress)

            patch.setattr(ppo.PPOTraining, "collect", fail)
            assert run_job(run, show=False) == "failed"
        elif place == "within a step":
            learn = ppo.PPOTraining.learn

            def stop(self: PPOTraining) -> None:
                learn(self)
                if self.done == 1 and self.part == 3:
                    run.request_cancel()

            patch.setattr(ppo.PPOTraining, "learn", stop)
            assert run_job(run, show=False) == "cancelled"
            assert run.read_status()["message"] == "cancelled in step 2; the checkpoint keeps its rollout"
            assert (run.checkpoints / "checkpoint-1" / "rollout.safetensors").is_file()
        else:
            generate = ppo.generate_responses

            def cancel(*args: Any, **kwargs: Any) -> Any:
                if run.read_metrics():
                    run.request_cancel()
                return generate(*args, **kwargs)

            patch.setattr(ppo, "generate_responses", cancel)
            assert run_job(run, show=False) == "cancelled"
            assert [item.name for item in run.checkpoints.glob("checkpoint-*")] == ["checkpoint-1"]
    if place == "between steps":
        run.write_status(state="running")
    finish(run)
    ours, theirs = read_weights(run), read_weights(whole)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    plain = [[{k: v for k, v in row.items() if k != "time"} for row in each.read_metrics()] for each in (run, whole)]
    assert plain[0] == plain[1]


def test_training_stops_at_the_kl_budget_and_the_coefficient_is_adapted(tmp_path: Path, make_ppo: MakePPO) -> None:
    spec = make_ppo(max_steps=20, kl_budget=0.2, target_kl=0.01, kl_coefficient=0.01, batch_size=16)
    run = finish(RunDir(tmp_path).create(spec))
    report = run.read_report()
    steps = report["trained_on"]["steps"]
    assert 1 < steps < 20
    assert report["stopped"].startswith(f"stopped after {steps} steps: KL ")
    coefficients = [row["kl_coefficient"] for row in run.read_metrics()]
    assert coefficients[1] == pytest.approx(0.01 * 0.98)  # the first rollout's KL is 0, below the target


def test_kl_in_the_loss_and_a_critic_from_the_policy_train_too(tmp_path: Path, make_ppo: MakePPO) -> None:
    spec = make_ppo(kl_in="loss", value_model="policy", whiten_rewards=True, eos_penalty=1.0, value_clip=None)
    run = finish(RunDir(tmp_path).create(spec))
    rows = run.read_metrics()
    assert len(rows) == 3
    assert rows[0]["score"] - rows[0]["reward"] != 0  # whitened, with the penalty taken off


def test_prompts_that_leave_no_room_are_dropped_and_repeated_ones_counted(tmp_path: Path, make_ppo: MakePPO) -> None:
    data = tmp_path / "data"
    rows = [{"prompt": "the cat"}, {"prompt": "a mat"}, {"prompt": "the cat"}, {"prompt": "bird " * 60}]
    for split in ("train", "test"):
        write_rows(data / f"{split}.jsonl", rows)
    run = finish(RunDir(tmp_path / "run").create(make_ppo(data=str(data), max_steps=1)))
    report = run.read_report()
    assert report["dropped"] == {split: {"too_long": 1, "repeated": 1} for split in ("train", "test")}
    assert report["notes"][0] == "2 prompts of the test split are in the training split too"


def break_judge(reward_model: str, *, target: Path, value: float) -> str:
    """A copy of a reward model whose head holds one value everywhere."""
    from transformers import AutoModelForSequenceClassification

    model = AutoModelForSequenceClassification.from_pretrained(reward_model)
    with torch.no_grad():
        model.score.weight.fill_(value)
    model.save_pretrained(target)
    load_tokenizer(Path(reward_model)).save_pretrained(target)
    return str(target)


def test_a_reward_model_that_says_the_same_to_everything_is_refused(tmp_path: Path, make_ppo: MakePPO) -> None:
    judge = break_judge(make_ppo()["reward_model"], target=tmp_path / "judge", value=0.0)
    run = RunDir(tmp_path / "run").create(make_ppo(reward_model=judge))
    assert run_job(run, show=False) == "bad input"
    assert "reward_model: it gave all 16 held-out responses the score 0" in run.read_status()["error"]


def test_a_reward_model_of_nan_is_refused(tmp_path: Path, make_ppo: MakePPO) -> None:
    judge = break_judge(make_ppo()["reward_model"], target=tmp_path / "judge", value=float("nan"))
    run = RunDir(tmp_path / "run").create(make_ppo(reward_model=judge))
    assert run_job(run, show=False) == "bad input"
    assert "holds NaN or infinity" in run.read_status()["error"]


def test_a_score_that_is_no_number_ends_the_training_with_a_reason(
    tmp_path: Path, make_ppo: MakePPO, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        rewards, "score_texts", lambda *args, conversations, **rest: [float("nan")] * len(conversations)
    )
    run = RunDir(tmp_path).create(make_ppo())
    assert run_job(run, show=False) == "failed"
    assert "the reward model scored a response nan" in run.read_status()["error"]


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"max_length": 1000}, "max_length: 1000 tokens, but the reward model reads 256"),
        ({"max_length": 12}, "every prompt is longer than max_length 12 less response_tokens 8"),
        ({"reward_model": "no-such-model"}, "model: 'no-such-model' was not found"),
    ],
)
def test_what_cannot_be_trained_is_refused_before_training(
    tmp_path: Path, make_ppo: MakePPO, changes: dict[str, Any], error: str
) -> None:
    run = RunDir(tmp_path).create(make_ppo(**changes))
    assert run_job(run, show=False) == "bad input"
    assert error in run.read_status()["error"]


def test_a_policy_is_no_reward_model_and_one_without_chat_template_is_refused(
    tmp_path: Path, make_ppo: MakePPO
) -> None:
    run = RunDir(tmp_path / "policy").create(make_ppo(reward_model=make_ppo()["model"]))
    assert run_job(run, show=False) == "bad input"
    assert "is not a reward model" in run.read_status()["error"]
    bare = build_tiny_model(tmp_path / "bare")
    config = json.loads((bare / "tokenizer_config.json").read_text())
    config.pop("chat_template", None)
    (bare / "tokenizer_config.json").write_text(json.dumps(config))
    (bare / "chat_template.jinja").unlink(missing_ok=True)
    run = RunDir(tmp_path / "run").create(make_ppo(model=str(bare)))
    assert run_job(run, show=False) == "bad input"
    assert "has no chat template" in run.read_status()["error"]


def test_prompts_come_once_a_pass_and_minibatches_cover_a_rollout_once_an_epoch() -> None:
    spec = PPOSpec(data="d", reward_model="r", batch_size=4, minibatches=3)
    stream = [place for step in range(5) for place in choose_prompts(spec, prompts=10, step=step)]
    assert sorted(stream[:10]) == sorted(stream[10:]) == list(range(10))
    assert stream[:10] != stream[10:]
    parts = [split_rollout(spec, size=10, step=2, part=part) for part in range(6)]
    assert sorted(chain(*parts[:3])) == sorted(chain(*parts[3:])) == list(range(10))
    assert parts[:3] != parts[3:]


GOOD = {
    "score": 0.0, "score_std": 1.0, "kl": 1.0, "response_tokens": 50.0, "explained_variance": 0.5, "entropy": 2.0,
    "ended": 1.0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("last", "words"),
    [
        ({}, []),
        ({"score": 1.0, "response_tokens": 100.0}, ["Responses became 2.0 times as long while their score rose"]),
        ({"kl": 30.0}, ["KL is 30.0 nats a response at the end (above 20)"]),
        ({"explained_variance": -0.5}, ["The critic foretells returns worse than a constant"]),
        ({"score_std": 0.0}, ["In 1 of 2 rollouts all responses had the same score"]),
        ({"entropy": 0.1}, ["Entropy fell from 2.00 to 0.10"]),
        ({"ended": 0.25}, ["75% of the responses at the end ran into response_tokens"]),
    ],
)
def test_a_training_that_went_wrong_is_said_so_in_plain_words(last: dict[str, float], words: list[str]) -> None:
    found = warn_of_training([GOOD, {**GOOD, **last}], spec=PPOSpec(data="d", reward_model="r"))
    assert [text[: len(word)] for text, word in zip(found, words, strict=True)] == words


def test_a_target_says_what_is_far() -> None:
    spec = replace(PPOSpec(data="d", reward_model="r"), target_kl=5.0)
    assert "above 10" in warn_of_training([{**GOOD, "kl": 11.0}], spec=spec)[0]


def test_the_policy_stays_while_the_critic_warms_up_and_the_critic_is_saved_where_asked(
    tmp_path: Path, make_ppo: MakePPO
) -> None:
    """Two steps, both of them of warming up: the policy's weights are its reference's, the critic's are not the reward
    model's, and the critic loads as a reward model."""
    spec = make_ppo(tuning="full", max_steps=2, value_warmup_steps=2, save_critic=True, adam_epsilon=1e-5)
    run = finish(RunDir(tmp_path).create(spec))
    before = load_file(Path(spec["model"]) / "model.safetensors")
    after = read_weights(run)
    assert all(torch.equal(before[name], after[name]) for name in before)
    critic, tokenizer, _ = load_scorer(str(run.outputs / "critic"), precision="fp32")
    judge, _, _ = load_scorer(spec["reward_model"], precision="fp32")
    ours, theirs = critic.state_dict(), judge.state_dict()
    assert sorted(ours) == sorted(theirs)
    assert any(not torch.equal(ours[name], theirs[name]) for name in theirs)
    assert tokenizer.chat_template


def test_epsilon_reaches_adam(make_ppo: MakePPO) -> None:
    training = prepare(make_ppo(adam_epsilon=1e-5))
    assert training.teacher is not None
    assert [own.adam.defaults["eps"] for own in (training.actor, training.teacher)] == [1e-5, 1e-5]
