"""The loop of training on groups of responses: what reward models and policies share.

A step's groups are cut into rows that fit the device (`plan_rows`), each row is read once, forward and back, and the
optimizer moves the weights. A method says what it reads of a row and what it loses (`Training._read`, `_weigh`). Losses
are divided by the weight of the whole step, so that it does not matter how a step is cut, nor among how many processes
(`ranks`): their gradients are added up.

Dropout is off (models stay in evaluation mode), so a step depends on weights and data alone and a resumed run goes on
exactly. Where there is a validation split it is read in the same way every eval_steps and after the last step
(`Training.validate`); checkpoints keep what was found, so that a resumed run stops early where it would have stopped.
Not here: what is lost.
"""

from __future__ import annotations

import contextlib
import functools
import json
import math
import shutil
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import torch
from safetensors.torch import load_file, save_file
from torch.utils.checkpoint import checkpoint

from rewardmodel.chat import EncodedPair
from rewardmodel.compute import Compute
from rewardmodel.contract import DPOSpec, RewardSpec
from rewardmodel.groups import Group, gather_groups, plan_rows, plan_steps, share_out
from rewardmodel.progress import CancelledError, Progress
from rewardmodel.quantization import is_packed
from rewardmodel.ranks import current_ranks
from rewardmodel.reading import (
    Rectangle,
    Row,
    build_rectangle,
    build_row,
    find_blocks,
    find_parts,
    is_classifier,
    packed_attention,
)
from rewardmodel.rundir import RunDir, write_json
from rewardmodel.trackers import open_board
from rewardmodel.train.common import (
    TrainingError,
    find_best,
    find_checkpoint,
    is_exhausted,
    log_metrics,
    log_validation,
    read_step,
    seal_checkpoint,
    settle_eval_steps,
)
from rewardmodel.train.settle import Settled, settle
from rewardmodel.train.sharding import (
    divide_like,
    gather_weights,
    is_divided,
    join,
    leave_divided,
    local_part,
    read_sharded,
    shard,
)

KEPT_CHECKPOINTS = 2
LARGEST_NORM = 1.0
# Compiled code knows one shape; rows are filled up to a multiple of this, which matrix units like.
STEP_OF_LENGTH = 128

LoopSpec = RewardSpec | DPOSpec


def keep_weighty(spec: LoopSpec, *, pairs: Sequence[EncodedPair]) -> list[EncodedPair]:
    """The pairs that count."""
    return [item for item in pairs if item.pair.weight > 0 or spec.pair_weights == "equal"]


def gather_held(pairs: Sequence[EncodedPair], *, settled: Settled) -> list[Group]:
    """The groups of the validation split, none larger than what is read at once; every pair counts 1."""
    return gather_groups(pairs, most_tokens=settled.batch_tokens)


def count_epochs(spec: LoopSpec, *, groups: Sequence[Group]) -> float:
    """About how many passes max_steps are."""
    if spec.step_tokens:
        return (spec.max_steps or 0) * spec.step_tokens / sum(group.tokens for group in groups)
    pairs = sum(group.pairs for group in groups)
    return (spec.max_steps or 0) * spec.batch_size * spec.gradient_accumulation / pairs


def plan_training(
    spec: LoopSpec, *, model: Any, compute: Compute, groups: Sequence[Group], pairs: Sequence[EncodedPair], run: RunDir
) -> tuple[Settled, list[Group], list[list[int]]]:
    """How the run computes, its groups (cut where they are larger than what is read at once) and its steps.

    Says in the status what was chosen. Raises InputError where what was asked for cannot be had.
    """
    epochs = spec.epochs if spec.max_steps is None else count_epochs(spec, groups=groups)
    # Free memory differs from GPU to GPU, and all must plan the same.
    settled = current_ranks().from_first(
        lambda: settle(spec, model=model, compute=compute, groups=groups, epochs=epochs)
    )
    whole = isinstance(spec, RewardSpec) and spec.loss in ("plackett-luce", "ratings")  # an order is not cut
    parts = groups if whole else _split_large(spec, groups=groups, pairs=pairs, settled=settled)
    steps = plan_steps(
        parts,
        pairs_a_step=spec.batch_size * spec.gradient_accumulation,
        tokens_a_step=spec.step_tokens,
        shared=settled.packed,
        epochs=spec.epochs,
        max_steps=spec.max_steps,
        seed=spec.seed,
    )
    if current_ranks().first:
        print(f"rewardmodel: {settled.describe()}", file=sys.stderr)
    run.write_status(message=settled.describe())
    return settled, list(parts), steps


def _split_large(
    spec: LoopSpec, *, groups: Sequence[Group], pairs: Sequence[EncodedPair], settled: Settled
) -> list[Group]:
    parts: list[Group] = []
    for group in groups:
        size = group.tokens if settled.packed else len(group.sequences) * max(len(ids) for ids in group.sequences)
        if size <= settled.batch_tokens:
            parts.append(group)
        else:
            own = [item for item in pairs if item.pair.prompt_id == group.prompt_id]
            parts += gather_groups(keep_weighty(spec, pairs=own), most_tokens=settled.batch_tokens)
    return parts


@dataclass(frozen=True)
class Shape:
    """One shape for all rows of a run, so that compiled code meets no other."""

    length: int
    stretches: int
    key_count: int
    copy_count: int


class Training:
    """A model, its optimizer and the steps ahead; `take_step` does one, `read_log` tells of those since the last."""

    TALLIES: ClassVar[tuple[str, ...]] = ("loss", "pairs")
    """What `_read` counts, summed over the rows of a step."""
    FIGURES: ClassVar[tuple[str, ...]] = ("loss", "accuracy")
    """What `_judge` sums over held-out pairs."""

    def __init__(
        self,
        model: Any,
        *,
        spec: LoopSpec,
        settled: Settled,
        compute: Compute,
        groups: Sequence[Group],
        steps: Sequence[Sequence[int]],
        pad_id: int,
        share: bool = True,
        optimize: bool = True,
        held: Sequence[Group] = (),
    ) -> None:
        """optimize: False to read only. held: the groups of the validation split."""
        self.model, self.spec, self.settled, self.compute = model, spec, settled, compute
        self.groups, self.steps, self.pad_id, self.share, self.held = groups, steps, pad_id, share, held
        self.equal = spec.pair_weights == "equal"
        self.longest = max(len(ids) for group in [*groups, *held] for ids in group.sequences)
        self.ranks = current_ranks()
        if settled.weights != "fp32" and not (settled.sharded and settled.weights == "mixed"):
            shrink_weights(model)
        if optimize:
            self.ranks.copy_from_first([parameter for parameter in model.parameters() if parameter.requires_grad])
            if settled.sharded:
                shard(model, weights=settled.weights, device=compute.device, processes=settled.processes)
            mixed = settled.weights == "mixed"
            self.optimizer = Optimizer(model, mixed=mixed, learning_rate=spec.learning_rate or 0.0)
        self.shape = self._find_shape() if settled.compiled and settled.packed else None
        if settled.compiled or settled.checkpointing:
            prepare_blocks(
                model,
                compiled=settled.compiled,
                dynamic=self.shape is None,
                checkpointing=settled.checkpointing,
            )
        self.done = 0
        self.history: list[dict[str, Any]] = []  # of the validation split: {step, eval_loss, ...}
        self.tokens = 0  # read so far, without filling
        self.tallies = self._new_tallies()
        self.tallied_steps = 0

    def _new_tallies(self) -> torch.Tensor:
        return torch.zeros(len(self.TALLIES) + 1, dtype=torch.float64, device=self.compute.device)  # and the norm

    def take_step(self) -> None:
        """Read the next step's groups, and move the weights."""
        chosen = [self.groups[index] for index in self.steps[self.done]]
        total = self._weigh(chosen)
        pairs = sum(group.pairs for group in chosen)
        read = read_sharded(self.model, self._read) if self.settled.sharded else self._read
        sums = torch.zeros_like(self.tallies[:-1])
        for row in self._cut(chosen):
            together = [chosen[index] for index in row]
            with packed_attention(self.model) if self.settled.packed else contextlib.nullcontext():
                loss, tallies = read(together, total=total, pairs=pairs)
                loss.backward()
            sums += torch.stack([tallies[name].detach().double() for name in self.TALLIES])
        if self.settled.sharded:
            self._fill_up(chosen, read=read)
        else:
            self.ranks.sum_gradients(self.optimizer.parameters)
        self.ranks.sum(sums)
        self.tallies[:-1] += sums
        norm = self.optimizer.step(self._rate())
        self.tallies[-1] = norm
        self.tokens += sum(self._count_tokens(group) for group in chosen)
        self.done += 1
        self.tallied_steps += 1

    def _fill_up(self, chosen: Sequence[Group], *, read: Any) -> None:
        """Read something for nothing as often as other processes read more: each reading, all gather the weights."""
        for smallest in self._list_idle(chosen):
            with packed_attention(self.model) if self.settled.packed else contextlib.nullcontext():
                loss, _ = read([smallest], total=1.0, pairs=1)
                (0.0 * loss).backward()

    def _list_idle(self, chosen: Sequence[Group]) -> list[Group]:
        """What this process may read for nothing while others still read: a smallest group, as often as it takes."""
        counts = [len(rows) for rows in self._plan(chosen)]
        return [min(chosen, key=self._count_tokens)] * (max(counts) - counts[self.ranks.rank])

    @torch.no_grad()
    def validate(self) -> dict[str, float]:
        """Means over the pairs of the validation split, as the weights are now: {eval_loss, ...}.

        It is read as a step is, without gradients, shared out among the processes.
        """
        judge = read_sharded(self.model, self._judge) if self.settled.sharded else self._judge
        sums = torch.zeros(len(self.FIGURES) + 1, dtype=torch.float64, device=self.compute.device)
        readings = [[self.held[index] for index in row] for row in self._cut(self.held)]
        with packed_attention(self.model) if self.settled.packed else contextlib.nullcontext():
            for together in readings:
                count, figures = judge(together)
                sums += torch.stack([torch.full_like(sums[0], count), *(figures[n].double() for n in self.FIGURES)])
            if self.settled.sharded:
                for smallest in self._list_idle(self.held):
                    judge([smallest])
                leave_divided(self.model)
        self.ranks.sum(sums)
        total, *values = sums.tolist()
        return {f"eval_{name}": value / total for name, value in zip(self.FIGURES, values, strict=True)}

    def _judge(self, groups: Sequence[Group]) -> tuple[int, dict[str, torch.Tensor]]:
        """How many held-out pairs some groups have, and the sums of FIGURES over them."""
        raise NotImplementedError

    def _read(self, groups: Sequence[Group], *, total: float, pairs: int) -> tuple[torch.Tensor, dict[str, Any]]:
        """What some of a step's groups add to its loss, and to each of the tallies. total: what `_weigh` said of the
        step; pairs: how many it has."""
        raise NotImplementedError

    def _summarize(self, tallies: Mapping[str, float]) -> dict[str, float]:
        """The method's own columns of metrics.jsonl, from tallies of several steps; "loss" comes of itself."""
        raise NotImplementedError

    def _weigh(self, groups: Sequence[Group]) -> float:
        """What a step's loss is divided by: the weight of its pairs."""
        return math.fsum(1.0 if self.equal else edge.weight for group in groups for edge in group.edges)

    def autocast(self) -> contextlib.AbstractContextManager[object]:
        """The context of reading. Weights that are bfloat16 already need no autocast, which would keep the residual
        stream in float32."""
        return self.compute.autocast() if self.settled.weights == "fp32" else contextlib.nullcontext()

    def build(self, groups: Sequence[Group]) -> Row | Rectangle:
        """Some groups as they are read: a row, filled up to the shape that compiled code knows, or a rectangle."""
        if not self.settled.packed:
            sequences = [ids for group in groups for ids in group.sequences]
            return build_rectangle(sequences, pad_id=self.pad_id, device=self.compute.device)
        size = sum(self._size(group) for group in groups)
        cuda = self.compute.device == "cuda"
        return build_row(
            groups,
            pad_id=self.pad_id,
            device=self.compute.device,
            share=self.share,
            length=self.shape.length if self.shape else (round_up(size) if cuda else None),
            stretches=self.shape.stretches if self.shape else None,
            key_count=self.shape.key_count if self.shape else None,
            copy_count=self.shape.copy_count if self.shape else None,
            longest=self.longest,
        )

    def _cut(self, chosen: Sequence[Group]) -> list[list[int]]:
        """What this process reads at once of a step's groups, by index into them."""
        return self._plan(chosen)[self.ranks.rank]

    def _plan(self, chosen: Sequence[Group]) -> list[list[list[int]]]:
        """The same for every process."""
        plans = []
        for own in share_out([self._count_tokens(group) for group in chosen], parts=self.ranks.size):
            rows = plan_rows(
                [chosen[index] for index in own],
                tokens=self.settled.batch_tokens,
                packed=self.settled.packed,
                share=self.share,
            )
            plans.append([[own[place] for place in row] for row in rows])
        return plans

    def _count_tokens(self, group: Group) -> int:
        """Tokens to read, without filling."""
        return self._size(group) if self.settled.packed else group.separate_tokens

    def _rate(self) -> float:
        """Up in a line over the warm-up, then down in a line to 0."""
        warm = math.ceil(self.spec.warmup_ratio * len(self.steps))
        share = (self.done + 1) / warm if self.done < warm else (len(self.steps) - self.done) / (len(self.steps) - warm)
        return share * (self.spec.learning_rate or 0.0)

    def _find_shape(self) -> Shape | None:
        """One shape for all rows; None where filling up to it would waste more than a tenth."""
        sizes, stretches, copies = [], 1, 1
        held = [list(self.held)] if self.held else []
        for chosen in [*([self.groups[index] for index in step] for step in self.steps), *held]:
            for row in self._cut(chosen):
                together = [chosen[index] for index in row]
                tokens = sum(self._size(group) for group in together)
                again = sum(group.separate_tokens - self._size(group) for group in together)
                sizes.append((tokens, tokens + again))
                stretches = max(stretches, sum(len(group.sequences) for group in together))
                copies = max([copies, *(len(group.sequences) for group in together)])
        if not sizes:
            return None
        length = round_up(max(tokens for tokens, _ in sizes))
        if sum(tokens for tokens, _ in sizes) < 0.9 * length * len(sizes):
            return None
        filling = max(length - tokens for tokens, _ in sizes)
        return Shape(
            length=length,
            stretches=stretches + 1 + filling // self.longest,
            key_count=round_up(max(length - tokens + keys for tokens, keys in sizes)),
            copy_count=copies,
        )

    def _size(self, group: Group) -> int:
        return group.tokens if self.share else group.separate_tokens

    def read_log(self) -> dict[str, float]:
        """What happened since the last call, for metrics.jsonl; the tallies begin anew."""
        *sums, norm = self.tallies.tolist()
        tallies = dict(zip(self.TALLIES, sums, strict=True))
        row = {
            "loss": tallies["loss"] / self.tallied_steps,
            **self._summarize(tallies),
            "grad_norm": norm,
            "learning_rate": self.optimizer.rate,
            "tokens": float(self.tokens),
        }
        self.tallies = self._new_tallies()
        self.tallied_steps = 0
        return row

    def save(self, directory: Path) -> None:
        """Everything a resumed run needs, as safetensors and JSON: the same however many processes there are.

        All of them take part, and the first writes.
        """
        packed = self.optimizer.pack()
        if not self.ranks.first:
            return
        directory.mkdir(parents=True, exist_ok=True)
        save_file(packed, directory / "state.safetensors")
        state = {
            "done": self.done,
            "tokens": self.tokens,
            "tallies": self.tallies.tolist(),
            "tallied_steps": self.tallied_steps,
            "history": self.history,
        }
        write_json(directory / "state.json", state)

    def load(self, directory: Path) -> None:
        """Go on from a checkpoint."""
        state = json.loads((directory / "state.json").read_text(encoding="utf-8"))
        self.done, self.tokens, self.tallied_steps = state["done"], state["tokens"], state["tallied_steps"]
        self.history = state.get("history", [])
        self.tallies = torch.tensor(state["tallies"], dtype=torch.float64, device=self.compute.device)
        device = "cpu" if self.settled.sharded else self.compute.device
        self.optimizer.unpack(load_file(directory / "state.safetensors", device=device), step=self.done)

    def finish(self) -> None:
        """Leave the model in float32, with what the optimizer knew of its weights. Divided weights come together, in
        the first process alone."""
        for block in find_blocks(self.model):
            block.__dict__.pop("forward", None)  # what prepare_blocks put over the class's
        if self.settled.sharded:
            gather_weights(self.model, keep=self.ranks.first)
            return
        for parameter, master in zip(self.optimizer.parameters, self.optimizer.masters, strict=True):
            parameter.data = master.detach().float()
        self.model.float()


def round_up(size: int) -> int:
    """The length to which a row of so many tokens is filled on a GPU."""
    return -(-size // STEP_OF_LENGTH) * STEP_OF_LENGTH


class Optimizer:
    """AdamW without weight decay, gradients clipped to norm 1 (the defaults of transformers' Trainer).

    mixed: the model computes in bfloat16, and float32 masters take the updates, which bfloat16's 8 bits would lose.
    """

    def __init__(self, model: Any, *, mixed: bool, learning_rate: float, epsilon: float = 1e-8) -> None:
        named = [(name, parameter) for name, parameter in model.named_parameters() if parameter.requires_grad]
        self.names = [name for name, _ in named]
        self.parameters = [parameter for _, parameter in named]
        self.masters = [
            parameter.detach().float().clone() if mixed and parameter.dtype != torch.float32 else parameter
            for parameter in self.parameters
        ]
        self.rate = learning_rate
        fused = self.parameters[0].device.type == "cuda"
        self.adam = torch.optim.AdamW(self.masters, lr=learning_rate, eps=epsilon, weight_decay=0.0, fused=fused)

    def step(self, rate: float) -> torch.Tensor:
        """Move the weights, forget the gradients, and return their norm."""
        self.rate = rate
        for group in self.adam.param_groups:
            group["lr"] = rate
        gradients = [p.grad if p.grad is not None else torch.zeros_like(p) for p in self.parameters]
        norms = torch._foreach_norm([local_part(gradient) for gradient in gradients], 2, dtype=torch.float32)
        norm = torch.linalg.vector_norm(torch.stack(list(norms)))
        if is_divided(gradients[0]):
            square = norm.square()
            current_ranks().sum(square)
            norm = square.sqrt()
        for parameter in self.parameters:
            parameter.grad = None
        for master, gradient in zip(self.masters, gradients, strict=True):
            master.grad = gradient.to(master.dtype)
        del gradients
        moves = [local_part(master.grad) for master in self.masters]
        torch._foreach_mul_(moves, (LARGEST_NORM / (norm + 1e-6)).clamp(max=1.0))
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
        """Weights and both moments by name, whole, for a checkpoint."""
        packed = {}
        for name, master in zip(self.names, self.masters, strict=True):
            packed[f"weight/{name}"] = join(master.detach())
            for key in ("exp_avg", "exp_avg_sq"):
                packed[f"{key}/{name}"] = join(self.adam.state[master][key])
        return packed

    def unpack(self, packed: dict[str, torch.Tensor], *, step: int) -> None:
        """The state after `step` steps, as `pack` gave it."""
        for name, parameter, master in zip(self.names, self.parameters, self.masters, strict=True):
            master.data.copy_(divide_like(packed[f"weight/{name}"], like=master))
            where = parameter.device if self.adam.defaults["fused"] else "cpu"
            self.adam.state[master] = {
                "step": torch.tensor(float(step), dtype=torch.float32, device=where),
                "exp_avg": divide_like(packed[f"exp_avg/{name}"], like=master),
                "exp_avg_sq": divide_like(packed[f"exp_avg_sq/{name}"], like=master),
            }
        self._copy_back()


def shrink_weights(model: Any) -> None:
    """Put every parameter but a reward head's into bfloat16; buffers (rotary frequencies) keep their float32, and
    weights packed into 4 bits their packing."""
    _, head = find_parts(model)
    kept = {id(parameter) for parameter in head.parameters()} if is_classifier(model) else set()
    for parameter in model.parameters():
        if id(parameter) not in kept and not is_packed(parameter):
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


def train_to_the_end(training: Training, *, spec: LoopSpec, run: RunDir, progress: Progress) -> int | None:
    """From the last complete checkpoint, if any, to the last step, or to where validation has not got better for long
    enough; the weights are then those of the best validation, and its step is returned.

    Raises CancelledError after saving, if asked to.
    """
    ranks = training.ranks
    found = ranks.from_first(lambda: find_checkpoint(run))
    run.drop_metrics_after(read_step(found) if found else 0)
    if found:
        training.load(found)
    total, patience = len(training.steps), spec.early_stopping_patience
    every = settle_eval_steps(spec, steps=total)
    progress.start("training", total=total, step=training.done)
    board: Any = open_board(spec, run=run) if ranks.first else None
    while training.done < total and not is_exhausted(training.history, patience=patience):
        _take_step(training)
        done = training.done
        progress.advance(done)
        if done in (1, total) or done % spec.logging_steps == 0:
            numbers = training.read_log()
            log_metrics(run, step=done, numbers=numbers)
            if board:
                board.add(numbers, step=done)
        if training.held and (done == total or done % every == 0):
            _validate(training, run=run, board=board)
        better = patience is not None and bool(training.history) and find_best(training.history) == done
        ended = done == total or is_exhausted(training.history, patience=patience)
        cancelled = ranks.from_first(run.cancel_requested)
        if ended or better or done % spec.save_steps == 0 or cancelled:
            save_checkpoint(training, run=run)
        if cancelled and not ended:
            raise CancelledError(f"cancelled at step {done}; the checkpoint is kept")
    if board:
        board.close()
    if patience is None:
        return None
    best = find_best(training.history)
    if best != training.done:
        training.load(run.checkpoints / f"checkpoint-{best}")
    return best


def _validate(training: Training, *, run: RunDir, board: Any) -> None:
    """Add a row to the history, to metrics.jsonl and to the trackers; the status says what is going on."""
    run.write_status(phase="validating")
    numbers = training.validate()
    training.history.append({"step": training.done, **numbers})
    log_validation(run, step=training.done, numbers=numbers)
    if board:
        board.add(numbers, step=training.done)
    run.write_status(phase="training")


def _take_step(training: Training) -> None:
    try:
        training.take_step()
    except torch.OutOfMemoryError as error:
        raise TrainingError(
            f"out of GPU memory at step {training.done + 1}, reading {training.settled.batch_tokens} tokens at once: "
            "lower batch_tokens, set activation_checkpointing, or use tuning lora or qlora "
            f"({str(error).splitlines()[0]})"
        ) from None


def save_checkpoint(training: Training, *, run: RunDir) -> None:
    """Write and seal checkpoints/checkpoint-STEP, and remove the oldest beyond those kept; the best validated stays
    where it will be wanted."""
    directory = run.checkpoints / f"checkpoint-{training.done}"
    if training.ranks.first:
        shutil.rmtree(directory, ignore_errors=True)
    training.save(directory)
    if not training.ranks.first:
        return
    seal_checkpoint(directory)
    found = sorted(run.checkpoints.glob("checkpoint-*"), key=read_step, reverse=True)
    stopping = training.spec.early_stopping_patience is not None and training.history
    best = find_best(training.history) if stopping else None
    for old in found[KEPT_CHECKPOINTS:]:
        if read_step(old) != best:
            shutil.rmtree(old)


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
