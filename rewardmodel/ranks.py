"""The processes of one run: which of them this is, and what they tell each other.

`accelerate launch` and `torchrun` start one process a device and tell each its rank. All of them read the same data and
plan the same steps; the first alone writes the run directory, decides and evaluates. A run in one process is the case
of size 1, in which nothing here does anything. What the processes share is small and goes through gloo on the CPU, so
that the GPUs need not wait for it; gradients go through NCCL.

Not here: how weights are divided (`train.sharding`). No torch is imported before it is needed.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from rewardmodel.contract import InputError

if TYPE_CHECKING:
    import torch

T = TypeVar("T")
# The first process evaluates while the others wait; a process that dies is the launcher's to notice.
PATIENCE = timedelta(hours=12)
BUCKET = 2**24  # elements of a gradient sent at once
TERMINATE_WITH_PARENT = 1  # PR_SET_PDEATHSIG of prctl(2)


@dataclass(frozen=True)
class Ranks:
    """One process among `size`; `local` counts on its own machine."""

    rank: int = 0
    size: int = 1
    local: int = 0

    @property
    def first(self) -> bool:
        """Whether this process writes and decides."""
        return self.rank == 0

    @property
    def several(self) -> bool:
        """Whether there are others."""
        return self.size > 1

    def from_first(self, make: Callable[[], T]) -> T:
        """What `make` gives in the first process, in all of them. The others wait for it."""
        if not self.several:
            return make()
        import torch.distributed as dist

        box = [make() if self.first else None]
        dist.broadcast_object_list(box, src=0, device=_cpu())
        return box[0]  # type: ignore[return-value]

    def gather(self, part: T) -> list[T]:
        """Every process's `part`, in the order of ranks, in all of them."""
        if not self.several:
            return [part]
        import torch.distributed as dist

        parts: list[Any] = [None] * self.size
        dist.all_gather_object(parts, part, group=_control_group())
        return parts

    @contextlib.contextmanager
    def first_ahead(self) -> Iterator[None]:
        """The block in the first process, then in the others, which find on the disk what it left there."""
        if not self.first:
            self.gather(None)
        try:
            yield
        finally:
            if self.first:
                self.gather(None)

    def sum(self, values: torch.Tensor) -> None:
        """Add up the tensors of all processes, in place."""
        if self.several:
            import torch.distributed as dist

            dist.all_reduce(values)

    def sum_gradients(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Add up the gradients of all processes, in place and in float32, many small ones in one message."""
        if not self.several:
            return
        import torch

        for parameter in parameters:
            if parameter.grad is None:
                parameter.grad = torch.zeros_like(parameter)
        for bucket in _fill_buckets([parameter.grad for parameter in parameters]):
            flat = torch.cat([gradient.flatten().float() for gradient in bucket])
            self.sum(flat)
            parts = flat.split([gradient.numel() for gradient in bucket])
            torch._foreach_copy_(bucket, [part.view_as(own) for part, own in zip(parts, bucket, strict=True)])

    def copy_from_first(self, parameters: Sequence[torch.nn.Parameter]) -> None:
        """Give all processes the first one's weights."""
        if self.several:
            import torch.distributed as dist

            for parameter in parameters:
                dist.broadcast(parameter.data, src=0)


_joined: list[Ranks] = []
_control_groups: list[Any] = []


def _fill_buckets(gradients: Sequence[Any]) -> Iterator[list[Any]]:
    bucket: list[Any] = []
    held = 0
    for gradient in gradients:
        if bucket and held + gradient.numel() > BUCKET:
            yield bucket
            bucket, held = [], 0
        bucket.append(gradient)
        held += gradient.numel()
    if bucket:
        yield bucket


def read_ranks(environment: Mapping[str, str] | None = None) -> Ranks:
    """What the launcher said of this process. Raises InputError for a launcher whose way we do not go."""
    said = os.environ if environment is None else environment
    size = int(said.get("WORLD_SIZE") or 1)
    if size == 1:
        return Ranks()
    if "RANK" not in said:
        raise InputError("WORLD_SIZE is set but RANK is not; start with accelerate launch or torchrun")
    return Ranks(rank=int(said["RANK"]), size=size, local=int(said.get("LOCAL_RANK") or 0))


def wants_sharding(environment: Mapping[str, str] | None = None) -> bool:
    """Whether accelerate was configured for FSDP. Raises InputError for what it can and our own loop cannot do."""
    said = os.environ if environment is None else environment
    if _is_true(said.get("ACCELERATE_USE_DEEPSPEED")):
        raise InputError(
            "this method trains in our own loop, which does not use DeepSpeed: start it with the configuration "
            "fsdp2.yaml, which divides weights and optimizer as ZeRO 3 does"
        )
    if not _is_true(said.get("ACCELERATE_USE_FSDP")):
        return False
    if _is_true(said.get("FSDP_OFFLOAD_PARAMS")):
        raise InputError("fsdp_offload_params: our own loop keeps weights on the GPUs; set it to false")
    return True


def refuse_sharding(environment: Mapping[str, str] | None = None) -> None:
    """Raise InputError where accelerate was configured to divide weights that TRL's trainers are to train."""
    said = os.environ if environment is None else environment
    divided = _is_true(said.get("ACCELERATE_USE_FSDP"))
    stage_3 = _is_true(said.get("ACCELERATE_USE_DEEPSPEED")) and said.get("ACCELERATE_DEEPSPEED_ZERO_STAGE") == "3"
    if divided or stage_3:
        raise InputError(
            "this method trains a whole model on every device: start it with the configuration data_parallel.yaml, and "
            "use tuning lora or activation_checkpointing where memory is short"
        )


def divides_weights(environment: Mapping[str, str] | None = None) -> bool:
    """Whether accelerate was configured for FSDP or for DeepSpeed, which divide what they train, or part of it."""
    said = os.environ if environment is None else environment
    return _is_true(said.get("ACCELERATE_USE_FSDP")) or _is_true(said.get("ACCELERATE_USE_DEEPSPEED"))


def _is_true(value: str | None) -> bool:
    return (value or "").lower() in ("true", "1", "yes")


@contextlib.contextmanager
def joined_ranks() -> Iterator[Ranks]:
    """This process among the others, connected; they part at the end. Alone, nothing happens."""
    ranks = read_ranks()
    if not ranks.several:
        yield ranks
        return
    end_with_launcher()
    import torch
    import torch.distributed as dist

    cuda = torch.cuda.is_available() and os.environ.get("ACCELERATE_USE_CPU", "").lower() != "true"
    if cuda:
        if ranks.local >= torch.cuda.device_count():
            raise InputError(f"{ranks.local + 1} processes or more on a machine of {torch.cuda.device_count()} GPUs")
        torch.cuda.set_device(ranks.local)
    dist.init_process_group(backend="cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=PATIENCE)
    _joined[:] = [ranks]
    try:
        yield ranks
    finally:
        part()


def current_ranks() -> Ranks:
    """This process among those it is connected to; alone where `joined_ranks` is not around it."""
    return _joined[0] if _joined else Ranks()


def part() -> None:
    """Let go of the other processes: what follows is done by each alone."""
    if _joined:
        import torch.distributed as dist

        dist.destroy_process_group()
        _joined.clear()
        _control_groups.clear()


def end_with_launcher() -> None:
    """Have the system end this process with its parent: a killed launcher leaves none behind that holds a GPU."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(TERMINATE_WITH_PARENT, signal.SIGKILL)


def _control_group() -> Any:
    """A group whose objects go through the CPU; made once, by all processes together."""
    import torch.distributed as dist

    if not _control_groups:
        _control_groups.append(dist.new_group(backend="gloo", timeout=PATIENCE))
    return _control_groups[0]


def _cpu() -> torch.device:
    import torch

    return torch.device("cpu")
