"""Sampling on a GPU without waiting for Python: the kernels of one token are recorded once and replayed for the rest.

A small model's token is some thousand short kernels, and `generate` asks for each of them anew; recorded as a CUDA
graph over a cache of fixed size they follow each other without a gap. `open_sampler` says which model to draw from: in
bfloat16 one whose weights are bfloat16, since autocast would cast all of them for every token. Models whose cache is no
plain one (sliding windows, states), and CPUs, keep transformers' `generate`. Not here: prompts, batches, seeds.
"""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import StaticCache, TopPLogitsWarper
from transformers.cache_utils import StaticLayer

from rewardmodel.compute import Compute
from rewardmodel.reading import find_inner

CHECK_EVERY = 16
"""Tokens between two looks at whether all responses have ended: looking waits for the GPU."""

EVEN = 64
"""Caches are as long as a multiple of this: attention would copy a mask of another length, in every layer."""

Choose = Callable[[torch.Tensor], torch.Tensor]


def can_record(model: Any, *, compute: Compute) -> bool:
    """Whether `draw_tokens` draws from this model, and not `generate`."""
    inner = find_inner(model)
    if compute.device != "cuda" or not getattr(inner, "_can_compile_fullgraph", False):
        return False
    if "position_ids" not in inspect.signature(type(inner).forward).parameters or _is_special(inner):
        return False
    return all(type(layer) is StaticLayer for layer in StaticCache(config=inner.config, max_cache_len=1).layers)


def _is_special(model: Any) -> bool:
    """Weights that are packed, or positions that are no plain rotations: neither can be copied, or not recorded."""
    config = model.config.get_text_config()
    rope = getattr(config, "rope_parameters", None) or {}
    packed = any(not parameter.is_floating_point() for parameter in model.parameters())
    return packed or getattr(config, "alibi", False) or rope.get("rope_type") in ("dynamic", "longrope")


def open_sampler(model: Any, *, compute: Compute) -> Any:
    """The model to draw from: itself, or a copy in the precision of sampling where that is quicker.

    The copy shares nothing with the model and does not follow it.
    """
    if not can_record(model, compute=compute):
        return model
    inner = find_inner(model)
    is_plain = inner is model and not any("forward" in vars(module) for module in inner.modules())
    if is_plain and all(parameter.dtype == compute.weights_dtype for parameter in model.parameters()):
        return model
    return copy_weights(model, dtype=compute.weights_dtype)


def copy_weights(model: Any, *, dtype: torch.dtype) -> Any:
    """A copy with weights of this type, LoRA updates written into them; buffers keep their type."""
    inner = find_inner(model)
    with torch.no_grad():
        updates = _find_updates(inner)
        # What deepcopy finds in its memo it takes as copied already.
        memo: dict[int, Any] = {}
        for parameter in inner.parameters():
            whole = sum(updates.get(id(parameter), []), parameter.detach())
            memo[id(parameter)] = torch.nn.Parameter(whole.to(dtype, copy=True), requires_grad=False)
    twin = copy.deepcopy(inner, memo)
    for module in twin.modules():
        module.__dict__.pop("forward", None)  # a compiled one, which would read the weights of the model
        if hasattr(module, "get_delta_weight"):
            module._disable_adapters = True
    return twin.eval()


def _find_updates(model: Any) -> dict[int, list[torch.Tensor]]:
    """The LoRA updates of each weight that has some and whose adapters are on, by its id."""
    found: dict[int, list[torch.Tensor]] = {}
    for module in model.modules():
        if hasattr(module, "get_delta_weight") and not module.disable_adapters:
            updates = [module.get_delta_weight(name) for name in module.active_adapters]
            found[id(module.get_base_layer().weight)] = updates
    return found


@torch.inference_mode()
def draw_tokens(
    model: Any,
    *,
    ids: torch.Tensor,
    mask: torch.Tensor,
    count: int,
    choose: Choose,
    stops: Sequence[int],
    pad_id: int,
    record: bool = True,
) -> torch.Tensor:
    """At most `count` tokens after each prompt, (batch, count); after a stop token there is padding.

    ids, mask: prompts padded on the left, (batch, longest). choose: logits (batch, vocabulary) in float32 to a token of
    each row, (batch,). record: replay one token's kernels for the others; without it the same is computed call by call.
    """
    batch, longest = ids.shape
    length = -(-(longest + count) // EVEN) * EVEN
    cache = StaticCache(config=model.config, max_cache_len=length)
    # Tokens that are still to come are hidden by causality alone.
    seen = torch.cat([mask, mask.new_ones(batch, length - longest)], dim=1)
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    logits = model(
        input_ids=ids, attention_mask=mask, position_ids=positions, past_key_values=cache, use_cache=True,
        logits_to_keep=1,
    ).logits  # fmt: skip
    step = Step(model, cache=cache, seen=seen, positions=positions[:, -1:] + 1)
    ends = torch.tensor(list(stops), device=ids.device)
    drawn = torch.full((batch, count), pad_id, dtype=ids.dtype, device=ids.device)
    ended = torch.zeros(batch, dtype=torch.bool, device=ids.device)
    for place in range(count):
        chosen = choose(logits[:, -1].float()).masked_fill(ended, pad_id)
        drawn[:, place] = chosen
        ended |= torch.isin(chosen, ends)
        if place == count - 1 or (place % CHECK_EVERY == CHECK_EVERY - 1 and bool(ended.all())):
            break
        if record and place == 1:  # the first call, which sets up libraries, cannot be recorded
            step.record()
        logits = step(chosen)
    return drawn


class Step:
    """Logits of the next token of each row, (batch, 1, vocabulary), given the last one."""

    def __init__(self, model: Any, *, cache: StaticCache, seen: torch.Tensor, positions: torch.Tensor) -> None:
        self.model, self.cache, self.seen = model, cache, seen
        self.positions = positions.clone()
        self.last = torch.zeros_like(self.positions)
        self.graph: torch.cuda.CUDAGraph | None = None
        self.logits: torch.Tensor | None = None

    def __call__(self, chosen: torch.Tensor) -> torch.Tensor:
        self.last.copy_(chosen[:, None])
        if self.graph is None:
            return self._compute()
        self.graph.replay()
        assert self.logits is not None
        return self.logits

    def record(self) -> None:
        """Record what a call computes, without computing it."""
        # torch.cuda.graph() would collect garbage and empty the allocator's cache, which takes as long as many tokens.
        graph, stream = torch.cuda.CUDAGraph(), torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            graph.capture_begin()
            self.logits = self._compute()
            graph.capture_end()
        torch.cuda.current_stream().wait_stream(stream)
        self.graph = graph

    def _compute(self) -> torch.Tensor:
        logits: torch.Tensor = self.model(
            input_ids=self.last, attention_mask=self.seen, position_ids=self.positions, past_key_values=self.cache,
            use_cache=True,
        ).logits  # fmt: skip
        self.positions.add_(1)
        return logits


def release_recordings() -> None:
    """Give the memory of recordings back to the device, which would keep that of each batch."""
    torch.cuda.empty_cache()


def make_choice(*, temperature: float, top_p: float) -> Choose:
    """How a token is chosen: temperature 0 the likeliest, else one drawn from the nucleus of `top_p`."""
    if temperature == 0:
        return lambda logits: logits.argmax(dim=-1)
    nucleus = TopPLogitsWarper(top_p=top_p) if top_p < 1 else None

    def draw(logits: torch.Tensor) -> torch.Tensor:
        scaled = logits / temperature
        if nucleus is not None:
            scaled = nucleus(None, scaled)
        return torch.multinomial(scaled.softmax(dim=-1), 1).squeeze(1)

    return draw
