"""Train a reward model on groups of responses.

Every response of a prompt is read once and serves all of its pairs (Ouyang et al. 2022, section 3.5); the losses are
those of `losses`, divided by the weight of the whole step, so that it does not matter how a step is cut to fit the
device. The loop is our own: TRL's RewardTrainer reads every pair's two conversations padded, knows neither groups,
ties, weights nor soft labels, and stays as an oracle in the tests. What it computes on pairs, this computes (1e-5).

Dropout is off (models stay in evaluation mode), so a step depends on weights and data alone and a resumed run goes on
exactly. LoRA updates are merged at the end: the result is a plain transformers directory in float32.
Not here: several devices.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import json
import math
import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch.utils.checkpoint import checkpoint
from transformers import PreTrainedModel

from rewardmodel import losses
from rewardmodel.card import write_card
from rewardmodel.chat import EncodedPair
from rewardmodel.compute import Compute, resolve_compute, seed_everything
from rewardmodel.contract import TIE_LOSSES, RewardSpec
from rewardmodel.data import DataError
from rewardmodel.evaluate import reward_margins, summarize_pairs
from rewardmodel.groups import Group, gather_groups, keep_orders, plan_rows, plan_steps
from rewardmodel.models import (
    create_reward_model,
    load_reward_model,
    load_tokenizer,
    merge_adapters,
    resolve_model,
    save_model,
)
from rewardmodel.progress import CancelledError, Progress
from rewardmodel.reading import (
    Row,
    build_rectangle,
    build_row,
    find_blocks,
    find_parts,
    packed_attention,
    read_rectangle,
    read_row,
    send,
)
from rewardmodel.rundir import RunDir, write_json
from rewardmodel.train.common import (
    Measure,
    TrainingData,
    TrainingError,
    build_report,
    check_positions,
    encode_splits,
    find_checkpoint,
    find_trackers,
    log_metrics,
    lora_config,
    read_splits,
    read_step,
    read_trained_steps,
    recall,
    record_provenance,
    seal_checkpoint,
)
from rewardmodel.train.settle import Settled, settle

KEPT_CHECKPOINTS = 2
LARGEST_NORM = 1.0
# Compiled code knows one shape; rows are filled up to a multiple of this, which matrix units like.
STEP_OF_LENGTH = 128


def run_reward(spec: RewardSpec, *, run: RunDir, progress: Progress) -> dict[str, Any]:
    """Train, save outputs/model and return the report, whose figures are those of the saved model.

    Raises InputError before any training for data or a model that cannot be used, CancelledError when asked to stop.
    """
    started = run.read_status()["started_at"]
    progress.start("loading")
    find_trackers(spec, run=run)
    compute = resolve_compute(spec.device, precision=spec.precision, threads=spec.threads)
    seed_everything(spec.seed)
    splits = read_splits(spec)
    base = resolve_model(spec.model)
    tokenizer = load_tokenizer(base)
    data = encode_splits(spec, splits=splits, tokenizer=tokenizer)
    provenance = record_provenance(spec, run=run, data=data, model=base, compute=compute)

    def measure(model: PreTrainedModel, *, phase: str) -> dict[str, Any]:
        margins = reward_margins(model, pairs=data.test.pairs, compute=compute, progress=progress, phase=phase)
        return summarize_pairs(margins, pairs=data.test.pairs)

    target = run.outputs / "model"
    untrained, settled = _train(
        spec,
        base=base,
        tokenizer=tokenizer,
        data=data,
        compute=compute,
        run=run,
        progress=progress,
        measure=measure,
        target=target,
    )
    gc.collect()  # the optimizer and the model, before another model is loaded
    trained = load_reward_model(target, tokenizer=tokenizer, compute=compute)
    report = build_report(
        spec,
        data=data,
        compute=compute,
        heldout=measure(trained, phase="evaluating"),
        untrained=untrained,
        steps=read_trained_steps(run),
        started=started,
    )
    report["loss"] = spec.loss
    report["settled"] = settled.to_dict()
    write_card(target, report=report, provenance=provenance)
    return report


def _train(
    spec: RewardSpec,
    *,
    base: Path,
    tokenizer: Any,
    data: TrainingData,
    compute: Compute,
    run: RunDir,
    progress: Progress,
    measure: Measure,
    target: Path,
) -> tuple[dict[str, Any], Settled]:
    """Train and save into `target`; what `measure` says of the model before its first step; and the settings."""
    model: Any = create_reward_model(base, tokenizer=tokenizer, compute=compute, seed=spec.seed)
    check_positions(model, max_length=spec.max_length)
    untrained = recall(run, name="untrained", make=lambda: measure(model, phase="measuring the untrained model"))
    adapters = lora_config(spec)
    if adapters is not None:
        from peft import get_peft_model

        model = get_peft_model(model, adapters)
    model.eval()
    groups = prepare_groups(spec, data=data)
    epochs = spec.epochs if spec.max_steps is None else count_epochs(spec, groups=groups)
    settled = settle(spec, model=model, compute=compute, groups=groups, epochs=epochs)
    groups = [part for group in groups for part in _split_group(group, data=data, settled=settled, spec=spec)]
    steps = plan_steps(
        groups,
        pairs_a_step=spec.batch_size * spec.gradient_accumulation,
        tokens_a_step=spec.step_tokens,
        shared=settled.packed,
        epochs=spec.epochs,
        max_steps=spec.max_steps,
        seed=spec.seed,
    )
    print(f"rewardmodel: {settled.describe()}", file=sys.stderr)
    run.write_status(message=settled.describe())
    training = Training(
        model, spec=spec, settled=settled, compute=compute, groups=groups, steps=steps, pad_id=tokenizer.pad_token_id
    )
    train_to_the_end(training, spec=spec, run=run, progress=progress)
    progress.start("saving")
    training.finish()
    save_model(merge_adapters(model), tokenizer=tokenizer, directory=target)
    return untrained, settled


def prepare_groups(spec: RewardSpec, *, data: TrainingData) -> list[Group]:
    """The training groups; judgements that Plackett-Luce cannot use are counted as dropped.

    Raises DataError where none is left, or where every pair weighs nothing.
    """
    pairs = keep_weighty(spec, pairs=data.train.pairs)
    if len(pairs) < len(data.train.pairs):
        data.train.dropped["weightless"] = len(data.train.pairs) - len(pairs)
    groups = gather_groups(pairs)
    if spec.loss == "plackett-luce":
        groups, without = keep_orders(groups, pairs=pairs)
        if without:
            data.train.dropped["without_order"] = without
    if not groups:
        raise DataError(f"data: nothing is left to train on with loss {spec.loss}; dropped {data.train.dropped}")
    return groups


def keep_weighty(spec: RewardSpec, *, pairs: Sequence[EncodedPair]) -> list[EncodedPair]:
    """The pairs that count."""
    return [item for item in pairs if item.pair.weight > 0 or spec.pair_weights == "equal"]


def count_epochs(spec: RewardSpec, *, groups: Sequence[Group]) -> float:
    """About how many passes max_steps are."""
    if spec.step_tokens:
        return (spec.max_steps or 0) * spec.step_tokens / sum(group.tokens for group in groups)
    pairs = sum(group.pairs for group in groups)
    return (spec.max_steps or 0) * spec.batch_size * spec.gradient_accumulation / pairs


def _split_group(group: Group, *, data: TrainingData, settled: Settled, spec: RewardSpec) -> list[Group]:
    """The group, or parts of it where it is larger than what is read at once (an order stays whole)."""
    size = group.tokens if settled.packed else len(group.sequences) * max(len(ids) for ids in group.sequences)
    if size <= settled.batch_tokens or spec.loss == "plackett-luce":
        return [group]
    pairs = [item for item in data.train.pairs if item.pair.prompt_id == group.prompt_id]
    return gather_groups(keep_weighty(spec, pairs=pairs), most_tokens=settled.batch_tokens)


@dataclass(frozen=True)
class Shape:
    """One shape for all rows of a run, so that compiled code meets no other."""

    length: int
    stretches: int
    key_count: int
    copy_count: int


@dataclass(frozen=True)
class Table:
    """The pairs of some groups: sides (pairs, 2) are places among all rewards, the rest (pairs,)."""

    sides: torch.Tensor
    weights: torch.Tensor
    probabilities: torch.Tensor
    margins: torch.Tensor
    tied: torch.Tensor
    length_differences: torch.Tensor


class Training:
    """A model, its optimizer and the steps ahead; `take_step` does one, `read_log` tells of those since the last."""

    def __init__(
        self,
        model: Any,
        *,
        spec: RewardSpec,
        settled: Settled,
        compute: Compute,
        groups: Sequence[Group],
        steps: Sequence[Sequence[int]],
        pad_id: int,
        share: bool = True,
    ) -> None:
        self.model, self.spec, self.settled, self.compute = model, spec, settled, compute
        self.groups, self.steps, self.pad_id, self.share = groups, steps, pad_id, share
        self.equal = spec.pair_weights == "equal"
        self.longest = max(len(ids) for group in groups for ids in group.sequences)
        self.tie_strength = settle_tie_strength(spec, groups=groups)
        if settled.weights != "fp32":
            shrink_weights(model)
        self.optimizer = Optimizer(model, mixed=settled.weights == "mixed", learning_rate=spec.learning_rate or 0.0)
        self.shape = self._find_shape() if settled.compiled and settled.packed else None
        if settled.compiled or settled.checkpointing:
            prepare_blocks(
                model,
                compiled=settled.compiled,
                dynamic=self.shape is None,
                checkpointing=settled.checkpointing,
            )
        self.done = 0
        self.tokens = 0  # read so far, without filling
        self.tallies = torch.zeros(6, dtype=torch.float64, device=compute.device)
        self.tallied_steps = 0

    def take_step(self) -> None:
        """Read the next step's groups, and move the weights."""
        chosen = [self.groups[index] for index in self.steps[self.done]]
        total = self._weigh(chosen)
        pairs = sum(group.pairs for group in chosen)
        for row in self._cut(chosen):
            together = [chosen[index] for index in row]
            with packed_attention(self.model) if self.settled.packed else contextlib.nullcontext():
                loss, tallies = self._read(together, total=total, pairs=pairs)
                loss.backward()
            self.tallies += tallies
        norm = self.optimizer.step(self._rate())
        self.tallies[5] = norm
        self.done += 1
        self.tallied_steps += 1

    def _cut(self, chosen: Sequence[Group]) -> list[list[int]]:
        return plan_rows(chosen, tokens=self.settled.batch_tokens, packed=self.settled.packed, share=self.share)

    def _read(self, groups: Sequence[Group], *, total: float, pairs: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Loss of some of a step's groups, and tallies: loss, right pairs, pairs, leads, pairs x mean reward, 0."""
        table = self._tabulate(groups)  # sent ahead: a copy between the passes would make the device wait
        # Weights that are bfloat16 already need no autocast, which would keep the residual stream in float32.
        with self.compute.autocast() if self.settled.weights == "fp32" else contextlib.nullcontext():
            rewards = self.read_rewards(groups)
        loss, differences = self._lose(rewards, table=table, groups=groups, total=total, pairs=pairs)
        with torch.no_grad():
            right = torch.where(table.tied, 0.5, (differences.sign() + 1) / 2).sum()
            count = torch.full_like(loss, len(differences))
            parts = [loss.detach(), right, count, differences.sum(), rewards.mean() * count, torch.zeros_like(loss)]
            tallies = torch.stack([part.double() for part in parts])
        return loss, tallies

    def read_rewards(self, groups: Sequence[Group]) -> torch.Tensor:
        """One reward a response, in the order of the groups, float32."""
        if self.settled.packed:
            row = self.build(groups)
            self.tokens += row.filled
            return read_row(self.model, batch=row)
        sequences = [ids for group in groups for ids in group.sequences]
        self.tokens += sum(len(ids) for ids in sequences)
        return read_rectangle(
            self.model, batch=build_rectangle(sequences, pad_id=self.pad_id, device=self.compute.device)
        )

    def build(self, groups: Sequence[Group]) -> Row:
        """The row of some groups, filled up to the shape that compiled code knows."""
        size = sum(self._size(group) for group in groups)
        cuda = self.compute.device == "cuda"
        return build_row(
            groups,
            pad_id=self.pad_id,
            device=self.compute.device,
            share=self.share,
            length=self.shape.length if self.shape else (_round_up(size) if cuda else None),
            stretches=self.shape.stretches if self.shape else None,
            key_count=self.shape.key_count if self.shape else None,
            copy_count=self.shape.copy_count if self.shape else None,
            longest=self.longest,
        )

    def _tabulate(self, groups: Sequence[Group]) -> Table:
        lines: list[tuple[float, ...]] = []
        start = 0
        for group in groups:
            lengths = [len(ids) for ids in group.sequences]
            for edge in group.edges:
                weight = 1.0 if self.equal else edge.weight
                longer = lengths[edge.better] - lengths[edge.worse]
                sides = (start + edge.better, start + edge.worse)
                lines.append((*sides, weight, edge.probability, edge.margin, edge.tied, longer))
            start += len(group.sequences)
        values = send(np.asarray(lines, dtype=np.float64), device=self.compute.device)  # (pairs, 7)
        numbers = values[:, 2:].float()
        weights, probabilities, margins, tied, longer_by = numbers.unbind(1)
        return Table(values[:, :2].long(), weights, probabilities, margins, tied.bool(), longer_by)

    def _lose(
        self, rewards: torch.Tensor, *, table: Table, groups: Sequence[Group], total: float, pairs: int
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """This reading's share of the step's loss, and the leads of its pairs."""
        better, worse = rewards[table.sides[:, 0]], rewards[table.sides[:, 1]]
        differences = better - worse
        orders = self.spec.loss == "plackett-luce"
        if orders:
            loss = sum_orders(rewards, groups=groups, equal=self.equal) / total
        else:
            loss = (table.weights * self._lose_pairs(differences, table=table)).sum() / total
        if self.spec.center_rewards_coefficient:
            centre = losses.centring(better, worse)
            mean = centre.sum() / pairs if orders else (table.weights * centre).sum() / total
            loss = loss + self.spec.center_rewards_coefficient * mean
        if self.spec.length_penalty:
            # A correlation is no sum over pairs: it is taken within what is read at once.
            follows = losses.length_correlation(differences, length_differences=table.length_differences)
            loss = loss + self.spec.length_penalty * follows * (len(differences) / pairs)
        return loss, differences.detach()

    def _lose_pairs(self, differences: torch.Tensor, *, table: Table) -> torch.Tensor:
        soft = losses.smooth_labels(table.probabilities, smoothing=self.spec.label_smoothing)
        tied = table.tied
        if self.spec.loss == "davidson":
            return losses.davidson(differences, tied=tied, tie_strength=self.tie_strength, probabilities=soft)
        if self.spec.loss == "rao-kupper":
            return losses.rao_kupper(differences, tied=tied, tie_strength=self.tie_strength, probabilities=soft)
        return losses.bradley_terry(differences, margins=table.margins, probabilities=soft)

    def _weigh(self, groups: Sequence[Group]) -> float:
        if self.spec.loss == "plackett-luce":
            return math.fsum(1.0 if self.equal else weight for group in groups for _, weight in group.orders)
        return math.fsum(1.0 if self.equal else edge.weight for group in groups for edge in group.edges)

    def _rate(self) -> float:
        """Up in a line over the warm-up, then down in a line to 0."""
        warm = math.ceil(self.spec.warmup_ratio * len(self.steps))
        share = (self.done + 1) / warm if self.done < warm else (len(self.steps) - self.done) / (len(self.steps) - warm)
        return share * (self.spec.learning_rate or 0.0)

    def _find_shape(self) -> Shape | None:
        """One shape for all rows; None where filling up to it would waste more than a tenth."""
        sizes, stretches, copies = [], 1, 1
        for step in self.steps:
            chosen = [self.groups[index] for index in step]
            for row in self._cut(chosen):
                together = [chosen[index] for index in row]
                tokens = sum(self._size(group) for group in together)
                again = sum(group.separate_tokens - self._size(group) for group in together)
                sizes.append((tokens, tokens + again))
                stretches = max(stretches, sum(len(group.sequences) for group in together))
                copies = max([copies, *(len(group.sequences) for group in together)])
        length = _round_up(max(tokens for tokens, _ in sizes))
        if sum(tokens for tokens, _ in sizes) < 0.9 * length * len(sizes):
            return None
        filling = max(length - tokens for tokens, _ in sizes)
        return Shape(
            length=length,
            stretches=stretches + 1 + filling // self.longest,
            key_count=_round_up(max(length - tokens + keys for tokens, keys in sizes)),
            copy_count=copies,
        )

    def _size(self, group: Group) -> int:
        return group.tokens if self.share else group.separate_tokens

    def read_log(self) -> dict[str, float]:
        """What happened since the last call, for metrics.jsonl; the tallies begin anew."""
        loss, right, pairs, leads, rewards, norm = self.tallies.tolist()
        row = {
            "loss": loss / self.tallied_steps,
            "accuracy": right / pairs,
            "margin": leads / pairs,
            "mean_reward": rewards / pairs,
            "grad_norm": norm,
            "learning_rate": self.optimizer.rate,
            "tokens": float(self.tokens),
        }
        self.tallies = torch.zeros_like(self.tallies)
        self.tallied_steps = 0
        return row

    def save(self, directory: Path) -> None:
        """Everything a resumed run needs, as safetensors and JSON."""
        directory.mkdir(parents=True, exist_ok=True)
        save_file(self.optimizer.pack(), directory / "state.safetensors")
        state = {
            "done": self.done,
            "tokens": self.tokens,
            "tallies": self.tallies.tolist(),
            "tallied_steps": self.tallied_steps,
        }
        write_json(directory / "state.json", state)

    def load(self, directory: Path) -> None:
        """Go on from a checkpoint."""
        state = json.loads((directory / "state.json").read_text(encoding="utf-8"))
        self.done, self.tokens, self.tallied_steps = state["done"], state["tokens"], state["tallied_steps"]
        self.tallies = torch.tensor(state["tallies"], dtype=torch.float64, device=self.compute.device)
        self.optimizer.unpack(load_file(directory / "state.safetensors", device=self.compute.device), step=self.done)

    def finish(self) -> None:
        """Leave the model in float32, with what the optimizer knew of its weights."""
        for parameter, master in zip(self.optimizer.parameters, self.optimizer.masters, strict=True):
            parameter.data = master.detach().float()
        self.model.float()
        for block in find_blocks(self.model):
            block.__dict__.pop("forward", None)  # what prepare_blocks put over the class's


def _round_up(size: int) -> int:
    return -(-size // STEP_OF_LENGTH) * STEP_OF_LENGTH


def sum_orders(rewards: torch.Tensor, *, groups: Sequence[Group], equal: bool) -> torch.Tensor:
    """The weighted Plackett-Luce losses of all orders of some groups, a scalar."""
    total = rewards.new_zeros(())
    start = 0
    for group in groups:
        own = rewards[start : start + len(group.sequences)]
        for order, weight in group.orders:
            total = total + (1.0 if equal else weight) * losses.plackett_luce(own, order=order)
        start += len(group.sequences)
    return total


def settle_tie_strength(spec: RewardSpec, *, groups: Sequence[Group]) -> float:
    """The spec's, or that at which equal responses tie as often as the training pairs do."""
    if spec.loss not in TIE_LOSSES:
        return 0.0
    if spec.tie_strength is not None:
        return spec.tie_strength
    edges = [edge for group in groups for edge in group.edges]
    share = sum(edge.tied for edge in edges) / len(edges)
    if share == 1:
        raise DataError("data: every training pair is tied; nothing can be learned from that")
    return losses.tie_strength_of(spec.loss, share=share)


class Optimizer:
    """AdamW without weight decay, gradients clipped to norm 1 (the defaults of transformers' Trainer).

    mixed: the model computes in bfloat16, and float32 masters take the updates, which bfloat16's 8 bits would lose.
    """

    def __init__(self, model: Any, *, mixed: bool, learning_rate: float) -> None:
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        self.names = [name for name, _ in named]
        self.parameters = [parameter for _, parameter in named]
        self.masters = [
            parameter.detach().float().clone() if mixed and parameter.dtype != torch.float32 else parameter
            for parameter in self.parameters
        ]
        self.rate = learning_rate
        fused = self.parameters[0].device.type == "cuda"
        self.adam = torch.optim.AdamW(self.masters, lr=learning_rate, weight_decay=0.0, fused=fused)

    def step(self, rate: float) -> torch.Tensor:
        """Move the weights, forget the gradients, and return their norm."""
        self.rate = rate
        for group in self.adam.param_groups:
            group["lr"] = rate
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        norms = torch._foreach_norm(gradients, 2, dtype=torch.float32)
        norm = torch.linalg.vector_norm(torch.stack(list(norms)))
        for parameter in self.parameters:
            parameter.grad = None
        for master, gradient in zip(self.masters, gradients, strict=True):
            master.grad = gradient.to(master.dtype)
        del gradients
        torch._foreach_mul_([master.grad for master in self.masters], (LARGEST_NORM / (norm + 1e-6)).clamp(max=1.0))
        self.adam.step()
        for master in self.masters:
            master.grad = None
        self._copy_back()
        return norm.detach()

    def _copy_back(self) -> None:
        apart = [(p.data, m.data) for p, m in zip(self.parameters, self.masters, strict=True) if p is not m]
        if apart:
            torch._foreach_copy_([own for own, _ in apart], [master for _, master in apart])

    def pack(self) -> dict[str, torch.Tensor]:
        """Weights and both moments by name, for a checkpoint."""
        packed = {}
        for name, master in zip(self.names, self.masters, strict=True):
            packed[f"weight/{name}"] = master.detach().contiguous()
            for key in ("exp_avg", "exp_avg_sq"):
                packed[f"{key}/{name}"] = self.adam.state[master][key].contiguous()
        return packed

    def unpack(self, packed: dict[str, torch.Tensor], *, step: int) -> None:
        """The state after `step` steps, as `pack` gave it."""
        for name, parameter, master in zip(self.names, self.parameters, self.masters, strict=True):
            master.data.copy_(packed[f"weight/{name}"])
            where = parameter.device if self.adam.defaults["fused"] else "cpu"
            self.adam.state[master] = {
                "step": torch.tensor(float(step), dtype=torch.float32, device=where),
                "exp_avg": packed[f"exp_avg/{name}"],
                "exp_avg_sq": packed[f"exp_avg_sq/{name}"],
            }
        self._copy_back()


def shrink_weights(model: Any) -> None:
    """Put every parameter but the head's into bfloat16; buffers (rotary frequencies) keep their float32."""
    _, head = find_parts(model)
    kept = {id(parameter) for parameter in head.parameters()}
    for parameter in model.parameters():
        if id(parameter) not in kept:
            parameter.data = parameter.data.to(torch.bfloat16)


def prepare_blocks(model: Any, *, compiled: bool, dynamic: bool, checkpointing: bool) -> None:
    """Compile the repeated layer, or let it forget its activations and compute them again for the gradient, or both.

    All layers share their code, so it is compiled once, not once a layer.
    """
    for block in find_blocks(model):
        forward = torch.compile(block.forward, dynamic=dynamic) if compiled else block.forward
        block.forward = functools.partial(_compute_again, forward) if checkpointing else forward


def _compute_again(forward: Any, *args: Any, **kwargs: Any) -> Any:
    return checkpoint(forward, *args, use_reentrant=False, preserve_rng_state=False, **kwargs)


def train_to_the_end(training: Training, *, spec: RewardSpec, run: RunDir, progress: Progress) -> None:
    """From the last complete checkpoint, if any, to the last step. Raises CancelledError after saving, if asked to."""
    found = find_checkpoint(run)
    run.drop_metrics_after(read_step(found) if found else 0)
    if found:
        training.load(found)
    total = len(training.steps)
    progress.start("training", total=total, step=training.done)
    board = _open_board(spec, run=run)
    while training.done < total:
        _take_step(training)
        done = training.done
        progress.advance(done)
        cancelled = run.cancel_requested()
        if done in (1, total) or done % spec.logging_steps == 0:
            numbers = training.read_log()
            log_metrics(run, step=done, numbers=numbers)
            for name, value in numbers.items() if board else ():
                board.add_scalar(f"train/{name}", value, done)
        if done == total or done % spec.save_steps == 0 or cancelled:
            save_checkpoint(training, run=run)
        if cancelled and done < total:
            raise CancelledError(f"cancelled at step {done}; the checkpoint is kept")
    if board:
        board.close()


def _take_step(training: Training) -> None:
    try:
        training.take_step()
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"out of GPU memory at step {training.done + 1}, reading {training.settled.batch_tokens} tokens at once: "
            f"lower batch_tokens, set activation_checkpointing, or use tuning lora ({str(error).splitlines()[0]})"
        ) from None


def save_checkpoint(training: Training, *, run: RunDir) -> None:
    """Write and seal checkpoints/checkpoint-STEP, and remove the oldest beyond those kept."""
    directory = run.checkpoints / f"checkpoint-{training.done}"
    shutil.rmtree(directory, ignore_errors=True)
    training.save(directory)
    seal_checkpoint(directory)
    found = sorted(run.checkpoints.glob("checkpoint-*"), key=read_step, reverse=True)
    for old in found[KEPT_CHECKPOINTS:]:
        shutil.rmtree(old)


def _open_board(spec: RewardSpec, *, run: RunDir) -> Any:
    if not spec.tensorboard:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(run.path / "tensorboard"))


def measure_seconds(training: Training, *, steps: int) -> float:
    """Wall seconds of the next steps, for benchmarks."""
    if training.compute.device == "cuda":
        torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(steps):
        training.take_step()
    if training.compute.device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started
