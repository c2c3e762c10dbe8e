"""What PPO and its kin learn from: prompts in a planned order, and a step's responses with all that was read of them.

A rollout is plain tensors, so that a checkpoint in the middle of a step keeps it. Not here: what is learned from it.
"""

from __future__ import annotations

import hashlib
import math
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

import torch

from rewardmodel.contract import OnlineSpec
from rewardmodel.data import PromptItem, find_splits, hash_file, read_manifest, read_prompts
from rewardmodel.groups import Group
from rewardmodel.progress import Progress
from rewardmodel.train.common import keep_prompts


@dataclass(frozen=True, kw_only=True)
class PromptData:
    """The usable prompts of both splits, how many were dropped, and what is known of their files."""

    train: list[PromptItem]
    test: list[PromptItem]
    dropped: dict[str, dict[str, int]]
    sha256: dict[str, str]
    manifest: dict[str, Any]


def read_prompt_splits(spec: OnlineSpec, *, tokenizer: Any) -> PromptData:
    """The prompts that leave room for a response, each once. Raises DataError where a split has none left."""
    files = find_splits(spec.data)
    kept: dict[str, list[PromptItem]] = {}
    dropped: dict[str, dict[str, int]] = {}
    for split in ("train", "test"):
        found = read_prompts(files[split])
        kept[split], dropped[split] = keep_prompts(spec, prompts=found, tokenizer=tokenizer, file=files[split])
    return PromptData(
        train=kept["train"],
        test=kept["test"][: spec.test_prompts],
        dropped=dropped,
        sha256={split: hash_file(files[split]) for split in ("train", "test")},
        manifest=read_manifest(spec.data),
    )


def count_rollouts(spec: OnlineSpec, *, prompts: int) -> int:
    """The steps of a run."""
    return spec.max_steps or math.ceil(spec.epochs * prompts / spec.prompts_a_step)


def choose_prompts(spec: OnlineSpec, *, prompts: int, step: int) -> list[int]:
    """The prompts of a step, by place: the next of an endless row of passes, each in an order of its own, seeded."""
    first = step * spec.prompts_a_step
    orders: dict[int, list[int]] = {}
    chosen = []
    for place in range(first, first + spec.prompts_a_step):
        epoch, within = divmod(place, prompts)
        if epoch not in orders:
            orders[epoch] = list(range(prompts))
            random.Random(f"{spec.seed}/{epoch}").shuffle(orders[epoch])
        chosen.append(orders[epoch][within])
    return chosen


def split_rollout(spec: OnlineSpec, *, size: int, step: int, part: int) -> list[int]:
    """The prompts (of `size`) of a step's part-th minibatch, counted through its passes, each in an own order."""
    epoch, place = divmod(part, spec.minibatches)
    order = list(range(size))
    random.Random(f"{spec.seed}/{step}/{epoch}").shuffle(order)
    return sorted(order[place :: spec.minibatches])


def seed_of_step(seed: int, *, step: int) -> int:
    """The seed of a step's samples: neighbours give unrelated streams."""
    return int.from_bytes(hashlib.sha256(f"ppo/{seed}/{step}".encode()).digest()[:6], "big")


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """n responses of at most T tokens, on the device.

    ids: all conversations end to end, (tokens,); prompt_lengths, lengths: (n,) tokens of each prompt and response.
    ended: (n,) bool, by the model itself. scores: (n,). mask: (n, T). log_probs, reference: (n, T) of policy and
    reference, in nats; entropies: (n, T) of the policy; values: (n, T) of the critic before each token, 0 where there
    is none. parts: (n, terms) of each reward before its weight. Responses to one prompt stand side by side.
    """

    ids: torch.Tensor
    prompt_lengths: torch.Tensor
    lengths: torch.Tensor
    ended: torch.Tensor
    scores: torch.Tensor
    parts: torch.Tensor
    mask: torch.Tensor
    log_probs: torch.Tensor
    entropies: torch.Tensor
    reference: torch.Tensor
    values: torch.Tensor

    def pack(self) -> dict[str, torch.Tensor]:
        """The tensors by name, for a checkpoint."""
        return {item.name: getattr(self, item.name).contiguous() for item in fields(self)}

    @classmethod
    def unpack(cls, packed: Mapping[str, torch.Tensor]) -> Rollout:
        """The rollout that `pack` gave."""
        return cls(**{item.name: packed[item.name] for item in fields(cls)})

    def to_groups(self, *, group_size: int) -> list[Group]:
        """The conversations as they are read, by prompt."""
        sizes = (self.prompt_lengths + self.lengths).tolist()
        lines = [part.tolist() for part in self.ids.split(sizes)]
        return build_groups(lines, prompt_lengths=self.prompt_lengths.tolist(), group_size=group_size)


def build_groups(sequences: Sequence[list[int]], *, prompt_lengths: Sequence[int], group_size: int = 1) -> list[Group]:
    """Conversations by prompt, group_size side by side; packed, a prompt is read once for all of its responses."""
    return [
        Group(
            prompt_id=str(place),
            sequences=sequences[place : place + group_size],
            prompt_length=prompt_lengths[place],
            shared=prompt_lengths[place] if group_size > 1 else 0,
            edges=[],
            orders=[],
        )
        for place in range(0, len(sequences), group_size)
    ]


def spread(tokens: torch.Tensor, *, mask: torch.Tensor) -> torch.Tensor:
    """Values of tokens line after line, (m,), as the rectangle of their mask, (n, T), 0 elsewhere."""
    out = torch.zeros(mask.shape, dtype=tokens.dtype, device=tokens.device)
    out[mask] = tokens
    return out


def mask_lengths(lengths: torch.Tensor) -> torch.Tensor:
    """(n,) -> (n, longest) bool, true where there is a token."""
    return torch.arange(int(lengths.max()), device=lengths.device)[None] < lengths[:, None]


class Watch(Progress):
    """Lets a phase within a step be cancelled, without saying in the status that it is one."""

    def __init__(self, progress: Progress) -> None:
        super().__init__(show=False)
        self._own = progress

    def start(self, phase: str, *, total: int = 0, step: int = 0) -> None:
        """Check alone."""
        self.check()

    def advance(self, step: int) -> None:
        """Nothing to say."""

    def check(self) -> None:
        """Raise CancelledError if someone asked the run to stop."""
        self._own.check()
