"""Train a policy on its own responses against a reward model: PPO (Schulman et al. 2017; Ziegler et al. 2019), RLOO,
GRPO and online DPO.

A step is a rollout and what is learned from it. The policy answers a batch of prompts; the frozen reward model scores
the answers through `score.score_texts`, as everywhere; policy, reference and, for PPO, critic are read at every token;
advantages follow; and for some passes of minibatches, policy and critic move. What tells the methods apart is in
`objectives`, the arithmetic in `ppo_losses` and `group_losses`, prompts and rollouts in `rollouts`, held-out figures
and warnings in `ppo_report`.

The loop is our own (docs/LOG.md says why). The reference is the policy before the first step: with LoRA the policy
without its adapters, else a frozen copy. Dropout is off and every random choice follows from seed and step, so a
resumed run goes on exactly, from between steps or from within one: its checkpoint keeps the rollout. Not here: several
devices, a trunk that policy and critic share, a vLLM server for the rollouts.
"""

from __future__ import annotations

import contextlib
import gc
import json
import math
import shutil
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from rewardmodel.card import write_card
from rewardmodel.compute import Compute, resolve_compute, seed_everything
from rewardmodel.contract import InputError, ModelTerm, OnlineSpec, PenalizedSpec, PPOSpec
from rewardmodel.data import PromptItem
from rewardmodel.generate import Sampling, generate_responses
from rewardmodel.group_losses import find_equal
from rewardmodel.groups import Group, plan_rows
from rewardmodel.log_probs import Completions, find_completions, has_plain_head, read_token_log_probs, read_token_values
from rewardmodel.models import (
    ModelError,
    create_reward_model,
    load_policy,
    load_reward_model,
    load_tokenizer,
    merge_adapters,
    resolve_model,
    save_model,
)
from rewardmodel.ppo_losses import (
    Targets,
    adapt_coefficient,
    clipped_value_loss,
    estimate_kl,
    explained_variance,
    masked_mean,
)
from rewardmodel.progress import CancelledError, Progress
from rewardmodel.reading import Rectangle, Row, build_rectangle, build_row, can_pack, packed_attention
from rewardmodel.rundir import RunDir, warn_where_not_isolated, write_json
from rewardmodel.trackers import find_trackers, open_board
from rewardmodel.train.common import (
    Measure,
    check_positions,
    find_checkpoint,
    log_metrics,
    lora_config,
    read_step,
    recall,
    record_provenance,
    seal_checkpoint,
)
from rewardmodel.train.loop import KEPT_CHECKPOINTS, Optimizer, prepare_blocks, round_up
from rewardmodel.train.memory import Estimate, check_memory, estimate_models
from rewardmodel.train.objectives import Reading, choose_objective
from rewardmodel.train.ppo_report import build_ppo_report, measure_policy, record_samples, warn_of_training
from rewardmodel.train.rewards import Rewards, hash_models, open_judge
from rewardmodel.train.rollouts import (
    PromptData,
    Rollout,
    Watch,
    build_groups,
    choose_prompts,
    count_rollouts,
    mask_lengths,
    read_prompt_splits,
    seed_of_step,
    split_rollout,
    spread,
)
from rewardmodel.train.settle import estimate_saving

MOST_TOKENS = {"cpu": 4096, "cuda": 16384}
COMPILE_SECONDS = 30.0
"""What compiling for rows of many lengths, with and without gradients, took for SmolLM2-135M on one H200, and some."""
ENOUGH_ROWS = 8  # of metrics, before warnings are given while the training goes on: quarters of two steps


@dataclass(frozen=True)
class Facts:
    """How a training went: whole steps, why it ended early ("" where it did not), how rows were read, and the memory
    that was expected, in GiB."""

    steps: int
    stopped: str
    packed: bool
    compiled: bool
    memory: dict[str, float | None]


ReadTokens = Callable[[Row | Rectangle, Completions], Sequence[torch.Tensor]]
Sample = Callable[[Any, int], None]
"""Has a policy answer the report's prompts after so many steps, and keeps the answers."""


def run_ppo(spec: OnlineSpec, *, run: RunDir, progress: Progress, unsafe_code: bool = False) -> dict[str, Any]:
    """Train, save outputs/model and return the report, whose figures are those of the saved model.

    Raises InputError before any training for data or models that cannot be used, CancelledError when asked to stop.
    """
    started = run.read_status()["started_at"]
    progress.start("loading")
    find_trackers(spec, run=run)
    compute = resolve_compute(spec.device, precision=spec.precision, threads=spec.threads)
    seed_everything(spec.seed)
    base = resolve_model(spec.model)
    tokenizer = load_tokenizer(base)
    data = read_prompt_splits(spec, tokenizer=tokenizer)
    data.sha256.update(hash_models(spec))
    provenance = record_provenance(spec, run=run, data=data, model=base, compute=compute)
    rewards = Rewards(spec, items={"train": data.train, "test": data.test}, unsafe_code=unsafe_code)
    warn_where_not_isolated(run, isolated=rewards.isolated)
    gold = None if spec.gold_model is None else open_judge(spec.gold_model, spec=spec)
    target = run.outputs / "model"
    shown = data.test[: spec.report_samples]

    def measure(model: Any, *, phase: str) -> dict[str, Any]:
        return measure_policy(
            spec, model=model, tokenizer=tokenizer, items=data.test, rewards=rewards, gold=gold, compute=compute,
            progress=progress, phase=phase,
        )  # fmt: skip

    def sample(model: Any, step: int) -> None:
        answers = measure_policy(
            spec, model=model, tokenizer=tokenizer, items=shown, rewards=rewards, gold=None, compute=compute,
            progress=progress, phase="answering the report's prompts",
        )  # fmt: skip
        record_samples(run, step=step, items=shown, answers=answers)

    before, facts = _train(
        spec,
        base=base,
        tokenizer=tokenizer,
        data=data,
        rewards=rewards,
        compute=compute,
        run=run,
        progress=progress,
        measure=measure,
        sample=sample,
        target=target,
    )
    gc.collect()  # the optimizers and models, before others are loaded
    trained = _load(target, tokenizer=tokenizer, compute=compute)
    after = measure(trained, phase="answering after the training")
    record_samples(run, step=facts.steps, items=shown, answers=after)
    report = build_ppo_report(
        spec,
        run=run,
        data=data,
        compute=compute,
        before=before,
        after=after,
        models=(trained, _load(base, tokenizer=tokenizer, compute=compute)),
        steps=facts.steps,
        stopped=facts.stopped,
        started=started,
        progress=progress,
    )
    report["settled"] = {"packed": facts.packed, "compiled": facts.compiled}
    report["memory_gib"] = facts.memory
    write_card(target, report=report, provenance=provenance)
    return report


def _train(
    spec: OnlineSpec,
    *,
    base: Path,
    tokenizer: Any,
    data: PromptData,
    rewards: Rewards,
    compute: Compute,
    run: RunDir,
    progress: Progress,
    measure: Measure,
    sample: Sample,
    target: Path,
) -> tuple[dict[str, Any], Facts]:
    """Train and save into `target`; what `measure` says of the policy before its first step, and how it went."""
    policy = _load(base, tokenizer=tokenizer, compute=compute)
    check_positions(policy, max_length=spec.max_length)
    before = recall(run, name="untrained", make=lambda: measure(policy, phase="answering before the training"))
    record_samples(run, step=0, items=data.test[: spec.report_samples], answers=before)
    named = "rewards" if spec.rewards else "reward_model"
    if len(set(before["texts"])) > 1 and len(set(before["scores"])) == 1:
        raise InputError(
            f"{named}: it gave all {len(before['scores'])} held-out responses the score {before['scores'][0]:g}; "
            "there is nothing to learn from it"
        )
    training = PPOTraining(
        *prepare_models(spec, policy=policy, base=base, tokenizer=tokenizer, compute=compute),
        spec=spec,
        compute=compute,
        tokenizer=tokenizer,
        prompts=data.train,
        rewards=rewards,
    )
    estimate = training.estimate()
    check_memory(estimate, smaller="lora")
    message = f"{training.describe()}; {estimate.describe()}"
    print(f"rewardmodel: {message}", file=sys.stderr)
    run.write_status(message=message)
    train_by_rollouts(training, run=run, progress=progress, measure=measure, sample=sample)
    progress.start("saving")
    save_model(merge_adapters(training.policy), tokenizer=tokenizer, directory=target)
    if isinstance(spec, PPOSpec) and spec.save_critic:
        save_model(merge_adapters(training.critic), tokenizer=tokenizer, directory=run.outputs / "critic")
    return before, Facts(training.done, training.stopped, training.packed, bool(training.compiled), estimate.to_dict())


def prepare_models(
    spec: OnlineSpec, *, policy: Any, base: Path, tokenizer: Any, compute: Compute
) -> tuple[Any, Any | None, Any | None]:
    """Policy and critic (PPO's alone), with adapters where asked for, and the reference: None where it is the policy
    without them.

    Raises ModelError where the critic would read another vocabulary than the policy's.
    """
    critic: Any | None = None
    if isinstance(spec, PPOSpec):
        critic = _create_critic(spec, base=base, tokenizer=tokenizer, compute=compute)
        check_positions(critic, max_length=spec.max_length)
    adapters, critic_adapters = lora_config(spec), lora_config(spec, critic=True)
    if adapters is None or critic_adapters is None:
        reference = _load(base, tokenizer=tokenizer, compute=compute).requires_grad_(False)
        return policy, critic, reference
    from peft import get_peft_model

    return get_peft_model(policy, adapters), critic and get_peft_model(critic, critic_adapters), None


def _create_critic(spec: PPOSpec, *, base: Path, tokenizer: Any, compute: Compute) -> Any:
    if spec.value_model == "reward":
        judge = resolve_model(next(term.models[0] for term in spec.terms if isinstance(term, ModelTerm)))
        if load_tokenizer(judge).get_vocab() != tokenizer.get_vocab():
            raise ModelError(
                "value_model: the reward model has another vocabulary than the policy, so a critic that begins as the "
                "reward model cannot read the policy's tokens; use value_model policy"
            )
        return load_reward_model(judge, tokenizer=tokenizer, compute=compute)
    return create_reward_model(base, tokenizer=tokenizer, compute=compute, seed=spec.seed)


class PPOTraining:
    """Policy, critic and their optimizers. A step is `collect`, then `learn` until `is_learned`, then `finish_step`."""

    def __init__(
        self,
        policy: Any,
        critic: Any | None,
        reference: Any | None,
        *,
        spec: OnlineSpec,
        compute: Compute,
        tokenizer: Any,
        prompts: Sequence[PromptItem],
        rewards: Rewards,
    ) -> None:
        """critic: None where the method has none. reference: None where it is the policy without its adapters."""
        self.policy, self.critic, self.reference = policy.eval(), critic and critic.eval(), reference
        self.objective = choose_objective(spec)
        self.spec, self.compute, self.tokenizer, self.prompts, self.rewards = spec, compute, tokenizer, prompts, rewards
        self.packed = settle_packing(spec, models=[policy] if critic is None else [policy, critic], compute=compute)
        self.plain = has_plain_head(policy)
        self.batch_tokens = spec.batch_tokens or MOST_TOKENS[compute.device]
        self.actor = Optimizer(policy, mixed=False, learning_rate=spec.learning_rate or 0.0, epsilon=spec.adam_epsilon)
        self.teacher = None
        if isinstance(spec, PPOSpec):
            self.teacher = Optimizer(
                critic, mixed=False, learning_rate=spec.value_learning_rate or 0.0, epsilon=spec.adam_epsilon
            )
        self.total = count_rollouts(spec, prompts=len(prompts))
        self.coefficient = self.objective.coefficient
        self.compiled: bool | None = None  # not settled before the first rollout says how long conversations are
        self.done = 0  # whole steps
        self.moves = 0  # of the weights, in all
        self.part = 0  # minibatches learned of the rollout at hand
        self.tokens = 0  # generated so far
        self.stopped = ""  # why the training ended early
        self.examined: dict[str, float] = {}  # of held-out prompts, before the step at hand
        self.rollout: Rollout | None = None
        self.targets: Targets | None = None
        self.groups: list[Group] = []
        self.tallies = dict.fromkeys(("policy_loss", "value_loss", "clipped", "moved", "grad_norm", "value_norm"), 0.0)

    def describe(self) -> str:
        """One line for status and log."""
        return (
            f"{self.total} rollouts of {self.spec.batch_size} responses, "
            f"{'packed' if self.packed else 'padded'}, {self.batch_tokens} tokens at once"
        )

    def estimate(self) -> Estimate:
        """The memory that learning will want."""
        models = [model for model in (self.policy, self.critic, self.reference) if model is not None]
        most = self.spec.batch_size // self.spec.minibatches * self.spec.max_length
        return estimate_models(models, compute=self.compute, tokens=min(self.batch_tokens, most))

    @property
    def is_learned(self) -> bool:
        """Whether every minibatch of the rollout at hand had its turn."""
        return self.part >= self.spec.ppo_epochs * self.spec.minibatches

    def collect(self, *, progress: Progress) -> None:
        """Answer the step's prompts and read the answers. Raises CancelledError, with nothing changed."""
        chosen = choose_prompts(self.spec, prompts=len(self.prompts), step=self.done)
        asked = [self.prompts[place] for place in chosen]
        watch = Watch(progress)
        responses = generate_responses(
            self.policy,
            tokenizer=self.tokenizer,
            prompts=[item.prompt for item in asked],
            sampling=Sampling(
                n=self.spec.group_size,
                max_new_tokens=self.spec.response_tokens,
                temperature=self.spec.temperature,
                top_p=1.0,
                batch_size=self.spec.generation_batch_size,
                seed=seed_of_step(self.spec.seed, step=self.done),
            ),
            compute=self.compute,
            progress=watch,
        )
        rewarded = self.rewards([asked[response.prompt] for response in responses], responses)
        watch.check()
        sequences = [[*response.prompt_ids, *response.ids] for response in responses]
        prompt_lengths = [len(response.prompt_ids) for response in responses]
        self.rollout = self.read_rollout(
            sequences,
            prompt_lengths=prompt_lengths,
            ended=[response.finish_reason == "eos" for response in responses],
            scores=rewarded.total,
            parts=list(zip(*rewarded.parts.values(), strict=True)),
        )
        self.tokens += sum(response.n_tokens for response in responses)
        self._aim()

    def read_rollout(
        self,
        sequences: Sequence[list[int]],
        *,
        prompt_lengths: Sequence[int],
        ended: Sequence[bool],
        scores: Sequence[float],
        parts: Sequence[Sequence[float]] | None = None,
        group_size: int | None = None,
    ) -> Rollout:
        """What policy, reference and critic say of each token of some conversations' ends. parts: of each score, where
        it has several. group_size: the spec's where nothing is said."""
        size = group_size or self.spec.group_size
        groups = build_groups(sequences, prompt_lengths=prompt_lengths, group_size=size)
        device = self.compute.device
        lengths = torch.tensor([len(ids) for ids in sequences], device=device)
        lengths -= torch.tensor(prompt_lengths, device=device)
        mask = mask_lengths(lengths)

        def read_policy(batch: Row | Rectangle, completions: Completions) -> Sequence[torch.Tensor]:
            log_probs, entropies = read_token_log_probs(
                self.policy, batch=batch, completions=completions, plain=self.plain,
                temperature=self.spec.temperature, entropies=True,
            )  # fmt: skip
            assert entropies is not None
            return log_probs, entropies

        def read_reference(batch: Row | Rectangle, completions: Completions) -> Sequence[torch.Tensor]:
            model = self.policy if self.reference is None else self.reference
            with model.disable_adapter() if self.reference is None else contextlib.nullcontext():
                return [
                    read_token_log_probs(
                        model, batch=batch, completions=completions, plain=self.plain, temperature=self.spec.temperature
                    )[0]
                ]

        def read_critic(batch: Row | Rectangle, completions: Completions) -> Sequence[torch.Tensor]:
            return [read_token_values(self.critic, batch=batch, completions=completions)]

        log_probs, entropies = self._read_all(groups, read=read_policy, model=self.policy)
        (reference,) = self._read_all(groups, read=read_reference, model=self.reference or self.policy)
        values = torch.zeros_like(log_probs)
        if self.critic is not None:
            (values,) = self._read_all(groups, read=read_critic, model=self.critic)
        return Rollout(
            ids=torch.tensor([token for ids in sequences for token in ids], device=device),
            prompt_lengths=torch.tensor(prompt_lengths, device=device),
            lengths=lengths,
            ended=torch.tensor(ended, device=device),
            scores=torch.tensor(scores, dtype=torch.float32, device=device),
            parts=torch.tensor(parts or [[score] for score in scores], dtype=torch.float32, device=device),
            mask=mask,
            log_probs=spread(log_probs, mask=mask),
            entropies=spread(entropies, mask=mask),
            reference=spread(reference, mask=mask),
            values=spread(values, mask=mask),
        )

    def _read_all(self, groups: Sequence[Group], *, read: ReadTokens, model: Any) -> list[torch.Tensor]:
        """What `read` gives for the tokens of all groups, in their order, each (tokens,), without gradients."""
        size = len(groups[0].sequences)
        found: list[list[torch.Tensor]] = [[] for _ in range(len(groups) * size)]
        for row in self._cut(groups):
            batch, completions = self._build([groups[place] for place in row])
            with torch.no_grad(), self.compute.autocast(), self._attention(model):
                columns = read(batch, completions)
            parts = zip(*(column.split(completions.lengths.tolist()) for column in columns), strict=True)
            for place, own in zip(find_responses(row, group_size=size), parts, strict=True):
                found[place] = list(own)
        return [torch.cat(column) for column in zip(*found, strict=True)]

    def _aim(self) -> None:
        """Advantages and returns of the rollout at hand, which follow from it and the KL coefficient."""
        assert self.rollout is not None
        if self.compiled is None:
            self.compiled = self._compile_where_it_pays(self.rollout)
        self.groups = self.rollout.to_groups(group_size=self.spec.group_size)
        self.targets = self.objective.aim(self.rollout, coefficient=self.coefficient)

    def _compile_where_it_pays(self, rollout: Rollout) -> bool:
        """Compile the layers of all models, judged by the steps ahead being as long as this one; whether it did."""
        models = [model for model in (self.policy, self.critic) if model is not None]
        # Reading forward alone, as policy, critic and reference are for the rollout, is a third of the work.
        passes = self.spec.ppo_epochs * len(models) + (len(models) + 1) / 3
        tokens = passes * rollout.ids.numel() * (self.total - self.done)
        if not settle_compiling(self.spec, model=self.policy, tokens=tokens, packed=self.packed, compute=self.compute):
            return False
        self._compile()
        return True

    def _compile(self) -> None:
        for model in (self.policy, self.critic, self.reference):
            if model is not None:
                prepare_blocks(model, compiled=True, dynamic=True, checkpointing=False)

    def learn(self) -> None:
        """Read the next minibatch of the rollout at hand, forward and back, and move policy and critic."""
        chosen = split_rollout(self.spec, size=len(self.groups), step=self.done, part=self.part)
        rollout, targets = self._at_hand()
        places = find_responses(chosen, group_size=self.spec.group_size)
        tokens = int(rollout.mask[places].sum())
        count = self.objective.count(rollout.mask[places], targets.advantages[places])
        for row in self._cut([self.groups[place] for place in chosen]):
            self._learn_from([chosen[place] for place in row], count=count, tokens=tokens)
        rate = self._rate()
        waits = isinstance(self.spec, PPOSpec) and self.done < self.spec.value_warmup_steps
        self.tallies["grad_norm"] += float(self.actor.step(0.0 if waits else rate * (self.spec.learning_rate or 0.0)))
        if self.teacher is not None and isinstance(self.spec, PPOSpec):
            self.tallies["value_norm"] += float(self.teacher.step(rate * (self.spec.value_learning_rate or 0.0)))
        self.part += 1
        self.moves += 1

    def _learn_from(self, chosen: Sequence[int], *, count: int, tokens: int) -> None:
        """Gradients of some groups of a minibatch of `tokens` tokens, whose losses are divided by `count`."""
        rollout, targets = self._at_hand()
        spec = self.spec
        places = find_responses(chosen, group_size=spec.group_size)
        batch, completions = self._build([self.groups[place] for place in chosen])
        seen = rollout.mask[places]

        def take(values: torch.Tensor) -> torch.Tensor:
            return values[places][seen]  # (tokens,), in the order in which they are read

        old = take(rollout.log_probs)
        with self.compute.autocast(), self._attention(self.policy):
            log_probs, _ = read_token_log_probs(
                self.policy, batch=batch, completions=completions, plain=self.plain, temperature=spec.temperature
            )
            reading = Reading(
                log_probs=log_probs,
                old=old,
                reference=take(rollout.reference),
                advantages=take(targets.advantages),
                lengths=completions.lengths,
            )
            losses = self.objective.measure(reading, coefficient=self.coefficient)
            (losses.each.sum() / count).backward()
        self.tallies["policy_loss"] += float(losses.each.detach().sum()) / count
        self.tallies["clipped"] += float(losses.clipped.sum()) / tokens
        self.tallies["moved"] += float(estimate_kl(old, log_probs.detach(), estimator="k3").sum()) / tokens
        if isinstance(spec, PPOSpec):
            with self.compute.autocast(), self._attention(self.critic):
                values = read_token_values(self.critic, batch=batch, completions=completions)
                misses = clipped_value_loss(values, take(rollout.values), take(targets.returns), clip=spec.value_clip)
                (misses.sum() / tokens).backward()
            self.tallies["value_loss"] += float(misses.detach().sum()) / tokens

    def _at_hand(self) -> tuple[Rollout, Targets]:
        assert self.rollout is not None
        assert self.targets is not None
        return self.rollout, self.targets

    def finish_step(self) -> dict[str, float]:
        """Close the step; what happened in it, for metrics.jsonl."""
        row = self._describe_step()
        if isinstance(self.spec, PenalizedSpec) and self.spec.target_kl is not None:
            self.coefficient = adapt_coefficient(self.coefficient, kl=row["kl"], target=self.spec.target_kl)
        row |= self.examined
        self.examined = {}
        self.done += 1
        self._drop_rollout()
        return row

    def examine(self, measure: Measure, *, progress: Progress) -> None:
        """Keep for the next row the held-out scores of the policy before its step, by the rewards and by the gold
        model, and its KL in nats a response (k1). Raises CancelledError."""
        answers = measure(self.policy, phase="answering for the gold model")
        progress.start("training", total=self.total, step=self.done)
        lines = list(zip(answers["prompt_ids"], answers["ids"], strict=True))
        rollout = self.read_rollout(
            [[*prompt, *ids] for prompt, ids in lines],
            prompt_lengths=[len(prompt) for prompt, _ in lines],
            ended=answers["ended"],
            scores=answers["scores"],
            group_size=1,
        )
        self.examined = {
            "heldout_score": float(rollout.scores.mean()),
            "gold_score": sum(answers["gold"]) / len(answers["gold"]),
            "heldout_kl": float((rollout.log_probs - rollout.reference).sum(1).mean()),
        }

    def stop_early(self) -> bool:
        """Leave the rollout at hand and end the training where it is beyond the KL budget."""
        budget, kl = self.spec.kl_budget, self.measure_kl()
        if budget is None or kl <= budget:
            return False
        self.stopped = f"stopped after {self.done} steps: KL {kl:.2f} nats a response is above kl_budget {budget:g}"
        self._drop_rollout()
        return True

    def _drop_rollout(self) -> None:
        self.rollout, self.targets, self.groups, self.part = None, None, [], 0
        self.tallies = dict.fromkeys(self.tallies, 0.0)

    def measure_kl(self) -> float:
        """KL(policy || reference) in nats a response, estimated without bias (k1) from the rollout at hand."""
        rollout = self.rollout
        assert rollout is not None
        return float((rollout.log_probs - rollout.reference).sum(1).mean())

    def _describe_step(self) -> dict[str, float]:
        rollout, targets = self._at_hand()
        mask, parts = rollout.mask, max(self.part, 1)
        means = {name: value / parts for name, value in self.tallies.items()}
        lengths = rollout.lengths.double()
        row = {
            "loss": means["policy_loss"] + means["value_loss"],
            "policy_loss": means["policy_loss"],
            "score": float(rollout.scores.mean()),
            "score_std": float(rollout.scores.std(unbiased=False)),
            "reward": float(targets.rewards.sum(1).mean()),
            "kl": self.measure_kl(),
            "kl_coefficient": self.coefficient,
            "entropy": float(masked_mean(rollout.entropies, mask)),
            "clip_fraction": means["clipped"],
            "policy_moved": means["moved"],
            "response_tokens": float(lengths.mean()),
            "ended": float(rollout.ended.double().mean()),
            "grad_norm": means["grad_norm"],
            "learning_rate": self.actor.rate,
            "tokens": float(self.tokens),
        }
        if self.critic is not None:
            row["value_loss"] = means["value_loss"]
            row["value_grad_norm"] = means["value_norm"]
            row["explained_variance"] = float(explained_variance(rollout.values, targets.returns, mask))
        if self.spec.rewards:
            names = [f"reward/{term.title}" for term in self.spec.terms]
            row.update(zip(names, rollout.parts.mean(0).tolist(), strict=True))
        if self.spec.group_size > 1:
            row["equal_groups"] = float(find_equal(rollout.scores, group_size=self.spec.group_size).double().mean())
        return row

    def _rate(self) -> float:
        """The share of the peak rate: up in a line over the warm-up, then down in a line to 0, a step at a time."""
        warm = math.ceil(self.spec.warmup_ratio * self.total)
        if self.done < warm:
            return (self.done + 1) / warm
        return (self.total - self.done) / max(1, self.total - warm)

    def _cut(self, groups: Sequence[Group]) -> list[list[int]]:
        return plan_rows(groups, tokens=self.batch_tokens, packed=self.packed, share=True)

    def _build(self, groups: Sequence[Group]) -> tuple[Row | Rectangle, Completions]:
        pad_id, device = self.tokenizer.pad_token_id, self.compute.device
        batch: Row | Rectangle
        if self.packed:
            size = sum(group.tokens for group in groups)
            # Compiled code that has met one length of its multiples takes the others too.
            batch = build_row(groups, pad_id=pad_id, device=device, length=round_up(size) if device == "cuda" else None)
        else:
            sequences = [ids for group in groups for ids in group.sequences]
            batch = build_rectangle(sequences, pad_id=pad_id, device=device)
        return batch, find_completions(groups, batch=batch, device=device)

    def _attention(self, model: Any) -> contextlib.AbstractContextManager[None]:
        return packed_attention(model) if self.packed else contextlib.nullcontext()

    def save(self, directory: Path) -> None:
        """Everything a resumed run needs, as safetensors and JSON; within a step, its rollout too."""
        directory.mkdir(parents=True, exist_ok=True)
        save_file(self.actor.pack(), directory / "policy.safetensors")
        if self.teacher is not None:
            save_file(self.teacher.pack(), directory / "critic.safetensors")
        if self.rollout is not None:
            save_file(self.rollout.pack(), directory / "rollout.safetensors")
        names = ("done", "moves", "part", "tokens", "coefficient", "stopped", "tallies", "examined", "compiled")
        write_json(directory / "state.json", {name: getattr(self, name) for name in names})

    def load(self, directory: Path) -> None:
        """Go on from a checkpoint."""
        for name, value in json.loads((directory / "state.json").read_text(encoding="utf-8")).items():
            setattr(self, name, value)
        if self.compiled:
            self._compile()
        device = self.compute.device
        self.actor.unpack(load_file(directory / "policy.safetensors", device=device), step=self.moves)
        if self.teacher is not None:
            self.teacher.unpack(load_file(directory / "critic.safetensors", device=device), step=self.moves)
        kept = directory / "rollout.safetensors"
        if kept.is_file():
            self.rollout = Rollout.unpack(load_file(kept, device=device))
            self._aim()


def find_responses(groups: Sequence[int], *, group_size: int) -> list[int]:
    """The places of the groups' responses in a rollout."""
    return [group * group_size + index for group in groups for index in range(group_size)]


def settle_packing(spec: OnlineSpec, *, models: Sequence[Any], compute: Compute) -> bool:
    """Whether rows are read packed. Raises InputError where that was asked for and cannot be had."""
    if spec.packing == "padded":
        return False
    obstacle = next((found for found in map(can_pack, models) if found), None)
    if obstacle is None and not has_plain_head(models[0]):
        obstacle = f"{type(models[0]).__name__} scales or caps its logits"
    if spec.packing == "auto":
        return compute.device == "cuda" and compute.precision == "bf16" and obstacle is None
    if obstacle:
        raise InputError(f"packing: {obstacle}; use padded")
    if compute.device == "cuda" and compute.precision != "bf16":
        raise InputError("packing: FlashAttention computes in bf16 only; set precision bf16, or packing padded")
    return True


def settle_compiling(spec: OnlineSpec, *, model: Any, tokens: float, packed: bool, compute: Compute) -> bool:
    """Whether layers are compiled, for reading so many tokens forward and back."""
    if spec.compile != "auto":
        return spec.compile == "on"
    if compute.device != "cuda" or not packed or spec.tuning != "full":  # adapters have not been measured compiled
        return False
    return estimate_saving(model, tokens=tokens) > COMPILE_SECONDS


def train_by_rollouts(
    training: PPOTraining, *, run: RunDir, progress: Progress, measure: Measure, sample: Sample
) -> None:
    """From the last complete checkpoint, if any, to the last step or the KL budget.

    Raises CancelledError after saving, if asked to: within a step the checkpoint keeps the rollout.
    """
    spec = training.spec
    found = find_checkpoint(run)
    run.drop_metrics_after(read_step(found) if found else 0)
    if found:
        training.load(found)
    progress.start("training", total=training.total, step=training.done)
    board = open_board(spec, run=run)
    logged, warned = run.read_metrics(), None
    while training.done < training.total and not training.stopped:
        if training.rollout is None:
            try:
                _look(training, measure=measure, sample=sample, progress=progress)
                training.collect(progress=progress)
            except CancelledError:
                if training.done:
                    save_rollouts(training, run=run)
                raise
            if training.stop_early():
                break
        while not training.is_learned:
            _learn(training)
            if run.cancel_requested():
                save_rollouts(training, run=run)
                raise CancelledError(f"cancelled in step {training.done + 1}; the checkpoint keeps its rollout")
        row = training.finish_step()
        done = training.done
        progress.advance(done)
        if done in (1, training.total) or done % spec.logging_steps == 0 or "gold_score" in row:
            log_metrics(run, step=done, numbers=row)
            logged.append(row)
            if board:
                board.add(row, step=done)
            warnings = warn_of_training(logged, spec=spec) if len(logged) >= ENOUGH_ROWS else []
            if warnings != warned:
                run.write_status(warnings=warnings)
                warned = warnings
        if done % spec.save_steps == 0:
            save_rollouts(training, run=run)
    save_rollouts(training, run=run)
    if board:
        board.close()


def _look(training: PPOTraining, *, measure: Measure, sample: Sample, progress: Progress) -> None:
    """What is asked of the policy between steps: answers to the report's prompts, the gold model's scores."""
    spec, done = training.spec, training.done
    if not done:
        return
    if spec.report_samples and done % spec.sample_steps == 0:
        sample(training.policy, done)
        progress.start("training", total=training.total, step=done)
    if spec.gold_model is not None and done % spec.gold_steps == 0:
        training.examine(measure, progress=progress)


def _learn(training: PPOTraining) -> None:
    try:
        training.learn()
    except torch.OutOfMemoryError as error:
        raise InputError(
            f"out of GPU memory at step {training.done + 1}, reading {training.batch_tokens} tokens at once: lower "
            f"batch_tokens, or use tuning lora ({str(error).splitlines()[0]})"
        ) from None


def save_rollouts(training: PPOTraining, *, run: RunDir) -> None:
    """Write and seal checkpoints/checkpoint-STEP (of whole steps), and remove the oldest beyond those kept."""
    directory = run.checkpoints / f"checkpoint-{training.done}"
    shutil.rmtree(directory, ignore_errors=True)
    training.save(directory)
    seal_checkpoint(directory)
    found = sorted(run.checkpoints.glob("checkpoint-*"), key=read_step, reverse=True)
    for old in found[KEPT_CHECKPOINTS:]:
        shutil.rmtree(old)


def _load(directory: Path, *, tokenizer: Any, compute: Compute) -> Any:
    """A policy in float32: bfloat16 autocast goes over it, so that small updates are kept."""
    return load_policy(directory, tokenizer=tokenizer, compute=compute, dtype=torch.float32)
