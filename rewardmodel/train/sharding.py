"""Weights, gradients and optimizer divided among processes: PyTorch's FSDP2 (Zhao et al. 2023, "PyTorch FSDP").

Every block of a model is gathered when it is read and let go afterwards; what stands outside the blocks stays gathered
through a reading. A parameter is a DTensor, of which each process holds a part of the first dimension. Gradients are
summed, not averaged: losses are divided by the weight of the whole step already.
"""

from __future__ import annotations

import types
from typing import Any

import torch
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor

from rewardmodel.reading import find_blocks, find_parts, is_classifier


def shard(model: Any, *, weights: str, device: str, processes: int) -> None:
    """Divide a model. weights: "mixed" reads float32 weights in bfloat16; others are read as they are.

    A reward head is read in float32 always.
    """
    mixed = weights == "mixed"
    if mixed:
        model.float()
    policy = MixedPrecisionPolicy(torch.bfloat16, torch.float32) if mixed else MixedPrecisionPolicy()
    mesh = init_device_mesh(device, (processes,))
    if is_classifier(model):
        fully_shard(find_parts(model)[1], mesh=mesh)
    for block in find_blocks(model):
        fully_shard(block, mesh=mesh, mp_policy=policy)
    fully_shard(model, mesh=mesh, mp_policy=policy)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo knows no other
    model.read_sharded = types.MethodType(_call, model)
    register_fsdp_forward_method(model, "read_sharded")


def _call(model: Any, function: Any, *args: Any, **kwargs: Any) -> Any:
    return function(*args, **kwargs)


def read_sharded(model: Any, function: Any) -> Any:
    """The function as one that reads a divided model: weights outside the blocks are gathered before it begins."""
    return lambda *args, **kwargs: model.read_sharded(function, *args, **kwargs)


def leave_divided(model: Any) -> None:
    """Let go of what a reading without a gradient left gathered: what stands outside the blocks."""
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.reshard()


def gather_weights(model: Any, *, keep: bool) -> None:
    """Put all weights together again, float32, on the CPU, in the processes that keep them: a plain model, to save.

    All processes take part.
    """
    wholes: dict[int, torch.nn.Parameter] = {}  # a parameter may stand in two places
    for module in list(model.modules()):
        for name, parameter in list(module._parameters.items()):
            if not isinstance(parameter, DTensor):
                continue
            if id(parameter) not in wholes:
                whole = parameter.full_tensor().detach()
                kept = whole.float().cpu() if keep else torch.empty(0)
                wholes[id(parameter)] = torch.nn.Parameter(kept, requires_grad=parameter.requires_grad)
            module._parameters[name] = wholes[id(parameter)]
        if isinstance(module, FSDPModule):
            plain: Any = next(kind for kind in type(module).__mro__[1:] if not issubclass(kind, FSDPModule))
            module.__class__ = plain
    model.__dict__.pop("read_sharded")
    if keep:
        model.to("cpu").float()


def is_divided(tensor: torch.Tensor) -> bool:
    """Whether processes hold parts of it."""
    return isinstance(tensor, DTensor)


def local_part(tensor: Any) -> torch.Tensor:
    """What this process holds of it."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def join(tensor: torch.Tensor) -> torch.Tensor:
    """The whole of it; divided ones come together on the CPU, and all processes take part."""
    return tensor.full_tensor().cpu() if isinstance(tensor, DTensor) else tensor.contiguous()


def divide_like(whole: torch.Tensor, *, like: torch.Tensor) -> torch.Tensor:
    """A whole tensor, which all processes have, divided as another is; as it is where the other is whole."""
    if not isinstance(like, DTensor):
        return whole
    return distribute_tensor(whole, like.device_mesh, like.placements, src_data_rank=None)
