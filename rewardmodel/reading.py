"""Reading rewards: the one place where a model's hidden states become rewards, in training, evaluation and serving.

A reward is the head's output at a conversation's last token that is no padding, which is where transformers' sequence
classifiers, TRL and servers read it. Two ways lead there and give the same numbers (tests hold them to 1e-5):

- padded: one conversation a line of a rectangle;
- packed: all conversations of some groups in one row without padding, positions beginning anew with each, and the
  beginning that a group's conversations share read once. A causal model's states of those tokens do not depend on what
  follows, so this is exact. Each stretch of the row attends to its own keys: a group's longest conversation to itself,
  the rest of another to the shared beginning and to itself. On a GPU that is one call of FlashAttention's
  variable-length kernel a layer, with the keys gathered; elsewhere a dense mask.

Models that attend otherwise (sliding windows) are read padded (`can_pack`). So are encoders (BERT and its kin), which
read in both directions and have a classification head of their own: their reward is its output, and their last state
is what its last linear layer is given.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from transformers import AttentionInterface

from rewardmodel.groups import Group

ATTENTION = "preferee_packed"


@dataclass(frozen=True)
class Rectangle:
    """Conversations padded on the right: ids and mask (n, longest).

    reads: (n,) the places of the last tokens, lines end to end. layout: for each conversation the places of its tokens.
    """

    ids: torch.Tensor
    mask: torch.Tensor
    reads: torch.Tensor
    layout: list[np.ndarray]


@dataclass(frozen=True)
class Row:
    """Conversations end to end.

    ids, positions: (1, T). reads: (n,) places of the last tokens. starts_q: (s + 1,) where each stretch of queries
    begins, int32; starts_k: the same in `keys`, (Tk,), which holds the places of the keys of all stretches. copies:
    (T, c) where in `keys` each place stands, -1 for nowhere more. longest: bound on the length of a stretch of keys.
    filled: tokens that are text; the rest of T fills up. layout: for each conversation the places of its tokens.
    """

    ids: torch.Tensor
    positions: torch.Tensor
    reads: torch.Tensor
    starts_q: torch.Tensor
    starts_k: torch.Tensor
    keys: torch.Tensor
    copies: torch.Tensor
    longest: int
    filled: int
    layout: list[np.ndarray]


def pad_right(sequences: Sequence[Sequence[int]], *, pad_id: int, device: str) -> tuple[torch.Tensor, torch.Tensor]:
    """Token ids and attention mask, both (batch, longest), int64."""
    longest = max(len(ids) for ids in sequences)
    ids = torch.full((len(sequences), longest), pad_id, dtype=torch.long)
    mask = torch.zeros((len(sequences), longest), dtype=torch.long)
    for row, sequence in enumerate(sequences):
        ids[row, : len(sequence)] = torch.tensor(sequence, dtype=torch.long)
        mask[row, : len(sequence)] = 1
    return ids.to(device), mask.to(device)


def batches_by_tokens(lengths: Sequence[int], *, batch_tokens: int) -> list[list[int]]:
    """Indices in batches whose padded size stays within batch_tokens (a longer one goes alone)."""
    batches: list[list[int]] = []
    for index in sorted(range(len(lengths)), key=lambda i: (lengths[i], i)):
        if batches and (len(batches[-1]) + 1) * lengths[index] <= batch_tokens:
            batches[-1].append(index)
        else:
            batches.append([index])
    return batches


def build_rectangle(sequences: Sequence[Sequence[int]], *, pad_id: int, device: str) -> Rectangle:
    """The conversations, one a line."""
    ids, mask = pad_right(sequences, pad_id=pad_id, device=device)
    layout = [line * ids.shape[1] + np.arange(len(sequence)) for line, sequence in enumerate(sequences)]
    reads = [own[find_last(part, pad_id=pad_id)] for own, part in zip(layout, sequences, strict=True)]
    return Rectangle(ids, mask, send(np.asarray(reads), device=device), layout)


def find_last(ids: Sequence[int], *, pad_id: int) -> int:
    """The place at which a conversation's reward is read: its last token that is not the padding token."""
    place = len(ids) - 1
    while place > 0 and ids[place] == pad_id:
        place -= 1
    return place


def build_row(
    groups: Sequence[Group],
    *,
    pad_id: int,
    device: str,
    share: bool = True,
    length: int | None = None,
    stretches: int | None = None,
    key_count: int | None = None,
    copy_count: int | None = None,
    longest: int | None = None,
) -> Row:
    """The conversations of some groups in one row, in their order.

    length, stretches, key_count, copy_count: fill up to these sizes, so that rows have one shape (for compiled code).
    longest: bound on a conversation's length; unset: the longest here.
    """
    parts: list[np.ndarray] = []
    positions: list[np.ndarray] = []
    keys: list[np.ndarray] = []
    sizes_q: list[int] = []
    layout: list[np.ndarray] = []
    start = 0
    for group in groups:
        places = [np.zeros(0, dtype=np.int64)] * len(group.sequences)
        shared = 0
        beginning = np.zeros(0, dtype=np.int64)
        # The longest is laid down whole, and its beginning serves the others: a stretch less, and fuller ones.
        for index in sorted(range(len(places)), key=lambda i: (-len(group.sequences[i]), i)):
            sequence = group.sequences[index]
            own = len(sequence) - shared
            parts.append(np.asarray(sequence[shared:]))
            positions.append(np.arange(shared, len(sequence)))
            keys.append(np.concatenate([beginning, np.arange(start, start + own)]))
            sizes_q.append(own)
            places[index] = keys[-1]
            if share and not shared:
                shared = group.shared
                beginning = np.arange(start, start + shared)
            start += own
        layout.extend(places)
    filled = start
    sequences = [ids for group in groups for ids in group.sequences]
    reads = [own[find_last(ids, pad_id=pad_id)] for own, ids in zip(layout, sequences, strict=True)]
    bound = longest or max(len(part) for part in keys)
    for size in _split(max(0, (length or start) - start), most=bound):
        parts.append(np.full(size, pad_id))
        positions.append(np.arange(size))
        keys.append(np.arange(start, start + size))
        sizes_q.append(size)
        start += size
    sizes_k = [len(part) for part in keys]
    spare = max(0, (stretches or len(sizes_q)) - len(sizes_q))
    every_key = np.concatenate(keys)
    unused = np.zeros(max(0, (key_count or 0) - len(every_key)), dtype=np.int64)
    return Row(
        ids=send(np.concatenate(parts)[None], device=device),
        positions=send(np.concatenate(positions)[None], device=device),
        reads=send(np.asarray(reads), device=device),
        starts_q=send(_starts(sizes_q, spare=spare), device=device),
        starts_k=send(_starts(sizes_k, spare=spare), device=device),
        keys=send(np.concatenate([every_key, unused]), device=device),
        copies=send(invert(every_key, size=start, width=copy_count), device=device),
        longest=bound,
        filled=filled,
        layout=layout,
    )


def invert(keys: np.ndarray, *, size: int, width: int | None) -> np.ndarray:
    """Where in `keys` each of `size` places stands: (size, the most often, or width), -1 for nowhere more."""
    counts = np.bincount(keys, minlength=size)
    order = np.argsort(keys, kind="stable")  # standing of equal keys in a row
    columns = np.arange(len(keys)) - np.repeat(np.cumsum(counts) - counts, counts)
    copies = np.full((size, max(width or 0, counts.max())), -1)
    copies[keys[order], columns] = order
    return copies


def _split(total: int, *, most: int) -> list[int]:
    whole, rest = divmod(total, most)
    return [most] * whole + ([rest] if rest else [])


def _starts(sizes: Sequence[int], *, spare: int) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(sizes), np.full(spare, sum(sizes))]).astype(np.int32)


def send(values: np.ndarray, *, device: str) -> torch.Tensor:
    """An array on the device; the host does not wait for the copy."""
    tensor = torch.from_numpy(values)
    return tensor.pin_memory().to(device, non_blocking=True) if device == "cuda" else tensor.to(device)


def read_rewards(model: Any, *, batch: Row | Rectangle, states: torch.Tensor | None = None) -> torch.Tensor:
    """One reward a conversation, (n,), float32, in the order they were built in. states: of `read_states`, if known."""
    last = read_last(model, batch=batch) if states is None else states[batch.reads]
    return reward_of(model, last)


def reward_of(model: Any, last: torch.Tensor) -> torch.Tensor:
    """Rewards from last states: (n, hidden) -> (n,), float32."""
    outputs = find_parts(model)[1](last).float()
    return outputs.squeeze(-1) if outputs.shape[-1] == 1 else weigh_attributes(model, outputs)


def describe_attributes(model: Any) -> dict[str, Any] | None:
    """{names, means, weights} of a model that was trained on ratings: an output is a rating less its mean."""
    return getattr(find_parts(model)[0].config, "rated_attributes", None)


def weigh_attributes(model: Any, outputs: torch.Tensor) -> torch.Tensor:
    """The score: the stated weighted sum of the expected ratings. (n, attributes) -> (n,)"""
    known = describe_attributes(model)
    if known is None:
        raise ValueError("a model of several outputs that does not say what they are")
    means, weights = (torch.tensor(known[key], device=outputs.device) for key in ("means", "weights"))
    return (outputs + means) @ weights


@torch.no_grad()
def read_attributes(model: Any, states: torch.Tensor) -> list[dict[str, float]] | None:
    """The rating a model expects on each of its scales, from last states (n, hidden); None where it has no scales."""
    known = describe_attributes(model)
    if known is None:
        return None
    outputs = find_parts(model)[1](states).float().cpu() + torch.tensor(known["means"])
    return [dict(zip(known["names"], line, strict=True)) for line in outputs.tolist()]


def read_last(model: Any, *, batch: Row | Rectangle) -> torch.Tensor:
    """What the head is given of each conversation, (n, hidden)."""
    if not is_encoder(model):
        return read_states(model, batch=batch)[batch.reads]
    if not isinstance(batch, Rectangle):
        raise ValueError("an encoder reads padded")
    kept: list[torch.Tensor] = []
    handle = find_parts(model)[1].register_forward_pre_hook(lambda module, inputs: kept.append(inputs[0]))
    try:
        find_inner(model).forward(input_ids=batch.ids, attention_mask=batch.mask)
    finally:
        handle.remove()
    return kept[0]


def read_states(model: Any, *, batch: Row | Rectangle) -> torch.Tensor:
    """The backbone's last state at every token, (T, hidden): those of a row, or of a rectangle's lines end to end."""
    backbone, _ = find_parts(model)
    if isinstance(batch, Rectangle):
        return backbone(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False)[0].flatten(0, 1)
    if batch.ids.device.type == "cuda":
        packed: dict[str, Any] = {
            "packed_starts_q": batch.starts_q,
            "packed_starts_k": batch.starts_k,
            "packed_keys": batch.keys,
            "packed_copies": batch.copies,
            "packed_longest": batch.longest,
        }
        with packed_attention(model):
            return backbone(input_ids=batch.ids, position_ids=batch.positions, use_cache=False, **packed)[0][0]
    mask = dense_mask(batch)
    return backbone(input_ids=batch.ids, position_ids=batch.positions, attention_mask=mask, use_cache=False)[0][0]


def dense_mask(batch: Row) -> torch.Tensor:
    """Which token sees which, (1, 1, T, T) bool: what the variable-length kernel computes from `starts` and `keys`.

    The queries of a stretch are the last of its keys, so that its i-th of q queries sees the first k - q + i + 1 of
    its k keys.
    """
    size = batch.ids.shape[1]
    mask = torch.zeros(size, size, dtype=torch.bool)
    starts_q, starts_k, keys = batch.starts_q.tolist(), batch.starts_k.tolist(), batch.keys.cpu()
    for i in range(len(starts_q) - 1):
        own = keys[starts_k[i] : starts_k[i + 1]]
        q, k = starts_q[i + 1] - starts_q[i], len(own)
        seen = torch.ones(q, k, dtype=torch.bool).tril(k - q)
        mask[starts_q[i] : starts_q[i + 1], own] = seen
    return mask[None, None].to(batch.ids.device)


def attend_packed(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    packed_starts_q: torch.Tensor,
    packed_starts_k: torch.Tensor,
    packed_keys: torch.Tensor,
    packed_copies: torch.Tensor,
    packed_longest: int,
    scaling: float | None = None,
    **kwargs: Any,
) -> tuple[torch.Tensor, None]:
    """FlashAttention of a row. query: (1, heads, T, d); key, value: (1, kv heads, T, d) -> (1, T, heads, d).

    torch's own kernel aligns its causal mask at the end of queries and keys, as `dense_mask` does (Dao 2023,
    FlashAttention-2, since 2.1), and lets several query heads share a key head.
    """
    # Autocast does not reach this operator: rotary embeddings leave queries and keys in float32.
    kind = torch.bfloat16 if query.dtype == torch.float32 else query.dtype
    query, key, value = (part[0].transpose(0, 1).to(kind) for part in (query, key, value))  # (T, heads, d)
    out = torch.ops.aten._flash_attention_forward(
        query.contiguous(),
        Gather.apply(key, packed_keys, packed_copies),
        Gather.apply(value, packed_keys, packed_copies),
        packed_starts_q,
        packed_starts_k,
        packed_longest,
        packed_longest,
        0.0,
        True,
        False,
        scale=scaling,
    )[0]
    return out.unsqueeze(0), None


class Gather(torch.autograd.Function):
    """values[keys], whose gradient gathers too: adding bfloat16 into one place from many at once is slow, and is never
    twice the same. Keys that only fill up get no gradient, where the kernel leaves what was in memory."""

    @staticmethod
    def forward(ctx: Any, values: torch.Tensor, keys: torch.Tensor, copies: torch.Tensor) -> torch.Tensor:
        """(T, heads, d) -> (Tk, heads, d)"""
        ctx.save_for_backward(copies)
        return values.index_select(0, keys)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, None, None]:
        """(Tk, heads, d) -> (T, heads, d)"""
        (copies,) = ctx.saved_tensors
        taken = gradient.index_select(0, copies.clamp_min(0).flatten()).unflatten(0, copies.shape)  # (T, c, heads, d)
        return taken.masked_fill((copies < 0)[:, :, None, None], 0.0).sum(1), None, None


AttentionInterface.register(ATTENTION, attend_packed)


@contextlib.contextmanager
def packed_attention(model: Any) -> Iterator[None]:
    """Packed attention for a forward pass, and for what its backward pass computes again; on a CPU nothing changes."""
    backbone, head = find_parts(model)
    config = backbone.config
    before = config._attn_implementation
    if next(head.parameters()).device.type == "cuda":
        config._attn_implementation = ATTENTION
    try:
        yield
    finally:
        config._attn_implementation = before


def find_parts(model: Any) -> tuple[Any, Any]:
    """The backbone and the head of a sequence classifier or a policy, under adapters or not."""
    inner = find_inner(model)
    if is_encoder(model):
        head = _find_last_layer(inner.classifier)
    else:
        head = inner.score if is_classifier(model) else inner.get_output_embeddings()
    return getattr(inner, inner.base_model_prefix), head


def find_inner(model: Any) -> Any:
    """The transformers model within adapters, or the model itself."""
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def _find_last_layer(classifier: Any) -> Any:
    """The linear layer that gives an encoder's logits; under adapters, that of the copy that is trained."""
    trained = getattr(classifier, "modules_to_save", None)
    module = next(iter(trained.values())) if trained else classifier
    return [layer for layer in module.modules() if isinstance(layer, torch.nn.Linear)][-1]


def is_classifier(model: Any) -> bool:
    """Whether a model gives rewards, under adapters or not; a policy gives logits."""
    return hasattr(find_inner(model), "score") or is_encoder(model)


def is_encoder(model: Any) -> bool:
    """Whether a model is a classifier with a head of its own, as BERT and its kin are."""
    inner = find_inner(model)
    return not hasattr(inner, "score") and isinstance(getattr(inner, "classifier", None), torch.nn.Module)


def find_blocks(model: Any) -> torch.nn.ModuleList:
    """The repeated layers of a backbone. Raises ValueError where it has none."""
    backbone, _ = find_parts(model)
    lists = [child for child in backbone.children() if isinstance(child, torch.nn.ModuleList)]
    if not lists:  # an encoder's stand one level below
        below = [module for child in backbone.children() for module in child.children()]
        lists = [module for module in below if isinstance(module, torch.nn.ModuleList)]
    if not lists:
        raise ValueError(f"{type(backbone).__name__} has no list of layers")
    return max(lists, key=len)


def can_pack(model: Any) -> str | None:
    """Why a model cannot be read packed; None if it can."""
    backbone, _ = find_parts(model)
    config = backbone.config
    if is_encoder(model):
        return f"{type(backbone).__name__} reads in both directions"
    if not getattr(backbone, "_supports_attention_backend", False):
        return f"{type(backbone).__name__} has an attention of its own"
    kinds = set(getattr(config, "layer_types", None) or ["full_attention"])
    if kinds != {"full_attention"} or getattr(config, "sliding_window", None):
        return f"{type(backbone).__name__} attends within a window"
    if getattr(config, "attn_logit_softcapping", None):
        return f"{type(backbone).__name__} caps its attention"
    return None
