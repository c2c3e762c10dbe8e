"""Log-probabilities of completions under a policy, read from the same rows and rectangles as rewards.

Only the tokens of completions go through the output layer, a part at a time: their logits (tokens x vocabulary floats)
never stand in memory together, and the backward pass computes them again. Where a model does more to its logits than
one linear layer does (scales or caps them), it is read padded and whole.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from rewardmodel.groups import Group
from rewardmodel.ppo_losses import entropy
from rewardmodel.reading import Gather, Rectangle, Row, find_parts, invert, read_states, send

# Logits that stand in memory at once; a float32 each, and about three of that size in a backward pass.
MOST_LOGITS = 2**28


@dataclass(frozen=True)
class Completions:
    """The tokens of the completions of some groups, one after another.

    places: (m,) where the state that foretells each token stands among all states. copies: (states, c) the inverse, -1
    for nowhere more. targets: (m,) the tokens. lengths: (responses,) tokens of each completion.
    """

    places: torch.Tensor
    copies: torch.Tensor
    targets: torch.Tensor
    lengths: torch.Tensor


def find_completions(groups: Sequence[Group], *, batch: Row | Rectangle, device: str) -> Completions:
    """Where the completions of the groups stand in what was built of them."""
    places, targets, lengths = [], [], []
    layout = iter(batch.layout)
    for group in groups:
        for ids in group.sequences:
            tokens = next(layout)
            places.append(tokens[group.prompt_length - 1 : -1])
            targets.append(np.asarray(ids[group.prompt_length :]))
            lengths.append(len(ids) - group.prompt_length)
    every = np.concatenate(places)
    return Completions(
        places=send(every, device=device),
        copies=send(invert(every, size=batch.ids.numel(), width=None), device=device),
        targets=send(np.concatenate(targets), device=device),
        lengths=send(np.asarray(lengths), device=device),
    )


def read_log_probs(model: Any, *, batch: Row | Rectangle, completions: Completions, plain: bool) -> torch.Tensor:
    """log pi(completion | prompt) of each response in nats, (responses,), float32, in the order of the groups.

    plain: the logits are one linear layer of the states (`has_plain_head`).
    """
    tokens, _ = read_token_log_probs(model, batch=batch, completions=completions, plain=plain)
    return torch.segment_reduce(tokens, "sum", lengths=completions.lengths)


def read_token_log_probs(
    model: Any,
    *,
    batch: Row | Rectangle,
    completions: Completions,
    plain: bool,
    temperature: float = 1.0,
    entropies: bool = False,
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """log pi of each token of the completions, (m,), and where asked for the entropy of what it was drawn from, (m,)
    without a gradient; both in nats, float32, of logits divided by `temperature`."""
    if plain:
        head = find_parts(model)[1]
        # (W h + b) / T = W (h / T) + b / T
        chosen = _choose(read_states(model, batch=batch), completions=completions) / temperature
        bias = None if head.bias is None else head.bias / temperature
        size = max(256, MOST_LOGITS // head.weight.shape[0])
        tokens = TokenLogProbs.apply(chosen, head.weight, bias, completions.targets, size)
        found = _read_entropies(chosen, weight=head.weight, bias=bias, size=size) if entropies else None
        return tokens, found
    assert isinstance(batch, Rectangle)
    logits = model(input_ids=batch.ids, attention_mask=batch.mask, use_cache=False).logits.flatten(0, 1)
    logits = logits[completions.places].float() / temperature
    tokens = logits.gather(1, completions.targets[:, None]).squeeze(1) - logits.logsumexp(1)
    return tokens, entropy(logits.detach()) if entropies else None


@torch.no_grad()
def _read_entropies(
    states: torch.Tensor, *, weight: torch.Tensor, bias: torch.Tensor | None, size: int
) -> torch.Tensor:
    """states: (m, hidden) -> (m,), `size` rows of logits at a time."""
    device = states.device.type
    kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
    parts = [entropy(_compute_logits(part, weight=weight, bias=bias, kind=kind)) for part in states.split(size)]
    return torch.cat(parts)


def _choose(states: torch.Tensor, *, completions: Completions) -> torch.Tensor:
    """The states that foretell the completions' tokens: (T, hidden) -> (m, hidden)."""
    return Gather.apply(states.unsqueeze(1), completions.places, completions.copies).squeeze(1)


def read_token_values(model: Any, *, batch: Row | Rectangle, completions: Completions) -> torch.Tensor:
    """A critic's value before each token of the completions, (m,), float32: its head on the states that foretell
    them."""
    chosen = _choose(read_states(model, batch=batch), completions=completions)
    return find_parts(model)[1](chosen).squeeze(-1).float()


def sum_log_probs(
    states: torch.Tensor, *, weight: torch.Tensor, bias: torch.Tensor | None, completions: Completions
) -> torch.Tensor:
    """log pi of each completion in nats, (responses,), float32, from all states (T, hidden) and the output layer."""
    chosen = _choose(states, completions=completions)
    size = max(256, MOST_LOGITS // weight.shape[0])
    tokens = TokenLogProbs.apply(chosen, weight, bias, completions.targets, size)
    return torch.segment_reduce(tokens, "sum", lengths=completions.lengths)


class TokenLogProbs(torch.autograd.Function):
    """log softmax(W h + b) at one token each, `size` rows of logits at a time."""

    @staticmethod
    def forward(
        ctx: Any,
        states: torch.Tensor,
        weight: torch.Tensor,
        bias: torch.Tensor | None,
        targets: torch.Tensor,
        size: int,
    ) -> torch.Tensor:
        """states: (m, hidden); weight: (vocabulary, hidden); targets: (m,) -> (m,) float32, nats."""
        device = states.device.type
        kind = torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else weight.dtype
        levels, said = [], []
        for part, own in zip(states.split(size), targets.split(size), strict=True):
            logits = _compute_logits(part, weight=weight, bias=bias, kind=kind)
            levels.append(logits.logsumexp(1))
            said.append(logits.gather(1, own[:, None]).squeeze(1))
        level = torch.cat(levels)
        ctx.save_for_backward(states, weight, bias, targets, level)
        ctx.size, ctx.kind = size, kind
        return torch.cat(said) - level

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> tuple[Any, ...]:
        """The gradient of a logit is (1 at the token) - softmax."""
        states, weight, bias, targets, level = ctx.saved_tensors
        of_states = torch.empty_like(states) if ctx.needs_input_grad[0] else None
        of_weight = torch.zeros_like(weight, dtype=torch.float32) if ctx.needs_input_grad[1] else None
        of_bias = torch.zeros_like(bias, dtype=torch.float32) if ctx.needs_input_grad[2] else None
        for start in range(0, len(states), ctx.size):
            part = slice(start, start + ctx.size)
            logits = _compute_logits(states[part], weight=weight, bias=bias, kind=ctx.kind)
            softmax = logits.sub_(level[part, None]).exp_()
            of_logits = softmax.mul_(-gradient[part, None].float())
            lines = torch.arange(len(of_logits), device=of_logits.device)
            of_logits[lines, targets[part]] += gradient[part].float()
            if of_bias is not None:
                of_bias += of_logits.sum(0)
            of_logits = of_logits.to(ctx.kind)
            if of_states is not None:
                of_states[part] = of_logits @ weight.to(ctx.kind)
            if of_weight is not None:
                of_weight += _multiply(of_logits.T, states[part].to(ctx.kind))
        return (
            of_states,
            None if of_weight is None else of_weight.to(weight.dtype),
            None if of_bias is None else of_bias.to(bias.dtype),
            None,
            None,
        )


def _compute_logits(
    states: torch.Tensor, *, weight: torch.Tensor, bias: torch.Tensor | None, kind: torch.dtype
) -> torch.Tensor:
    """(rows, vocabulary), float32."""
    logits = _multiply(states.to(kind), weight.to(kind).T)
    return logits if bias is None else logits.add_(bias.float())


def _multiply(left: torch.Tensor, right: torch.Tensor) -> torch.Tensor:
    """A matrix product in float32, whatever its factors are in: bfloat16 logits are off by hundredths of a nat."""
    if left.dtype != torch.float32 and left.device.type == "cuda":
        return torch.mm(left, right, out_dtype=torch.float32)
    return (left @ right).float()


@torch.no_grad()
def has_plain_head(model: Any) -> bool:
    """Whether a policy's logits are its output layer's product with the last states, and nothing more: tried out."""
    backbone, head = find_parts(model)
    if not isinstance(head, torch.nn.Linear):
        return False
    ids = torch.tensor([[1, 2, 3]], device=head.weight.device)
    plain = head(backbone(input_ids=ids, use_cache=False)[0])
    return bool(torch.allclose(plain.float(), model(input_ids=ids, use_cache=False).logits.float(), atol=1e-3))
