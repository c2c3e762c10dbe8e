"""Pairs gathered by prompt, so that each response is read once for all of its pairs, and cut into steps.

A group is what one prompt's judgements said: its different responses as token ids, and the pairs among them as edges.
`plan_steps` says which groups make an optimizer step, `plan_rows` which of those are read at once. Both are plain
functions of seed and lengths, so that a resumed run meets the same steps. No torch.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile

from rewardmodel.chat import EncodedPair
from rewardmodel.rankings import strict_order
from rewardmodel.token_cache import Ids


@dataclass(frozen=True)
class Edge:
    """One comparison between two responses of a group, by index; `better` is just the first of them where tied."""

    better: int
    worse: int
    weight: float = 1.0
    probability: float = 1.0
    margin: float = 0.0
    tied: bool = False


@dataclass(frozen=True)
class Group:
    """The responses of one prompt, each a whole conversation, and what was said of them.

    shared: how many tokens all of them begin with; fewer than the shortest has, so each keeps a token of its own.
    orders: strict orders (indices, best first), each with its weight; filled for Plackett-Luce alone.
    reference: log pi_ref of each completion (what follows prompt_length) in nats; filled for policies alone.
    """

    prompt_id: str
    sequences: Sequence[Sequence[int]]
    prompt_length: int
    shared: int
    edges: list[Edge]
    orders: list[tuple[list[int], float]]
    reference: list[float] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Tokens to read when the shared beginning is read once."""
        return self.shared + sum(len(ids) - self.shared for ids in self.sequences)

    @property
    def separate_tokens(self) -> int:
        """Tokens to read when every response is read with its prompt."""
        return sum(len(ids) for ids in self.sequences)

    @property
    def pairs(self) -> int:
        """How many comparisons the group holds."""
        return len(self.edges)


def gather_groups(pairs: Sequence[EncodedPair], *, most_tokens: int | None = None) -> list[Group]:
    """One group a prompt, in the order of the pairs; a prompt of more tokens than most_tokens gives several."""
    by_prompt: dict[str, list[EncodedPair]] = {}
    for pair in pairs:
        by_prompt.setdefault(pair.pair.prompt_id, []).append(pair)
    return [group for together in by_prompt.values() for group in _build_groups(together, most_tokens=most_tokens)]


def gather_single_pairs(pairs: Sequence[EncodedPair]) -> list[Group]:
    """Every pair a group of its own, as if prompts had nothing in common: what `gather_groups` is measured against."""
    return [_build_group([pair]) for pair in pairs]


def keep_orders(groups: Sequence[Group], *, pairs: Sequence[EncodedPair]) -> tuple[list[Group], int]:
    """The groups whose judgements gave strict orders, with them; and how many judgements gave none.

    A judgement (`group_id`) gives an order where it compared all of its responses and tied none.
    """
    kept, dropped = [], 0
    by_prompt: dict[str, dict[str, list[EncodedPair]]] = {}
    for pair in pairs:
        by_prompt.setdefault(pair.pair.prompt_id, {}).setdefault(pair.pair.group_id, []).append(pair)
    for group in groups:
        places = {tuple(ids): place for place, ids in enumerate(group.sequences)}
        orders: list[tuple[list[int], float]] = []
        for judgement in by_prompt[group.prompt_id].values():
            order = _read_order(judgement, places=places)
            if order is None:
                dropped += 1
            else:
                orders.append((order, sum(item.pair.weight for item in judgement)))
        if orders:
            kept.append(replace(group, orders=orders))
    return kept, dropped


def _read_order(judgement: Sequence[EncodedPair], *, places: dict[tuple[int, ...], int]) -> list[int] | None:
    named = [[places[tuple(ids)] for ids in _sides(item)] for item in judgement]
    members = sorted({place for sides in named for place in sides})
    local = [(members.index(better), members.index(worse)) for better, worse in named]
    if any(item.pair.tied or item.pair.probability != 1 for item in judgement):
        return None
    order = strict_order(len(members), pairs=local)
    return None if order is None else [members[place] for place in order]


def _build_groups(pairs: list[EncodedPair], *, most_tokens: int | None) -> list[Group]:
    group = _build_group(pairs)
    if most_tokens is None or group.separate_tokens <= most_tokens or len(pairs) == 1:
        return [group]
    half = len(pairs) // 2
    return [
        *_build_groups(pairs[:half], most_tokens=most_tokens),
        *_build_groups(pairs[half:], most_tokens=most_tokens),
    ]


def _build_group(pairs: Sequence[EncodedPair]) -> Group:
    places: dict[tuple[int, ...], int] = {}
    sequences: list[Ids] = []
    edges = []
    for item in pairs:
        indices = []
        for ids in _sides(item):
            indices.append(places.setdefault(tuple(ids), len(places)))
            if len(places) > len(sequences):
                sequences.append(ids)
        better, worse = indices
        pair = item.pair
        edges.append(Edge(better, worse, pair.weight, pair.probability, pair.margin or 0.0, pair.tied))
    return Group(
        prompt_id=pairs[0].pair.prompt_id,
        sequences=sequences,
        prompt_length=min(len(item.prompt_ids) for item in pairs),
        shared=shared_length(sequences),
        edges=edges,
        orders=[],
    )


def _sides(item: EncodedPair) -> tuple[Ids, Ids]:
    return item.prompt_ids + item.chosen_ids, item.prompt_ids + item.rejected_ids


def shared_length(sequences: Sequence[Sequence[int]]) -> int:
    """How many tokens all begin with; fewer than the shortest has."""
    if len(sequences) < 2:
        return 0
    # Of all sequences, the least and the greatest part first.
    low, high = min(sequences, key=tuple), max(sequences, key=tuple)
    same = sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(low, high, strict=False)))
    return min(same, min(len(ids) for ids in sequences) - 1)


def plan_steps(
    groups: Sequence[Group],
    *,
    pairs_a_step: int,
    epochs: float,
    max_steps: int | None,
    seed: int,
    tokens_a_step: int | None = None,
    shared: bool = True,
) -> list[list[int]]:
    """The groups of every optimizer step, by index: each epoch in an order of its own, seeded.

    A step takes groups while their pairs stay within pairs_a_step (or their tokens within tokens_a_step, counted with
    shared beginnings once or not), and at least one; the last step of an epoch may be short. A fraction of an epoch is
    that share of its steps. max_steps overrides epochs.
    """
    sizes = [group.pairs for group in groups]
    if tokens_a_step:
        sizes = [group.tokens if shared else group.separate_tokens for group in groups]
    steps: list[list[int]] = []
    epoch = 0
    while (len(steps) < max_steps) if max_steps else (epoch < epochs):
        made = _plan_epoch(sizes, most=tokens_a_step or pairs_a_step, seed=f"{seed}/{epoch}")
        if not max_steps and epochs - epoch < 1:
            made = made[: max(1, math.ceil((epochs - epoch) * len(made)))]
        steps.extend(made)
        epoch += 1
    return steps[:max_steps] if max_steps else steps


def _plan_epoch(sizes: Sequence[int], *, most: int, seed: str) -> list[list[int]]:
    order = list(range(len(sizes)))
    random.Random(seed).shuffle(order)
    steps: list[list[int]] = []
    room = 0
    for index in order:
        if not steps or sizes[index] > room:
            steps.append([])
            room = most
        steps[-1].append(index)
        room -= sizes[index]
    return steps


def share_out(sizes: Sequence[int], *, parts: int) -> list[list[int]]:
    """Indices into `sizes` in so many parts of about equal sums: the largest first, each to the part with least."""
    shares: list[list[int]] = [[] for _ in range(parts)]
    loads = [0] * parts
    for index in sorted(range(len(sizes)), key=lambda i: (-sizes[i], i)):
        part = min(range(parts), key=lambda i: (loads[i], i))
        shares[part].append(index)
        loads[part] += sizes[index]
    return [sorted(share) for share in shares]


def plan_rows(groups: Sequence[Group], *, tokens: int, packed: bool, share: bool) -> list[list[int]]:
    """Which groups are read at once, by index into `groups`, so that each reading stays within `tokens`.

    packed: tokens as they are; else those of a rectangle with padding. A group that is larger goes alone. The longest
    go first, each into the emptiest reading that has room, so that readings are about as full as each other.
    """
    sizes = [group.tokens if share and packed else group.separate_tokens for group in groups]
    if not packed:
        return _plan_rectangles(groups, tokens=tokens)
    least = max(1, math.ceil(sum(sizes) / tokens))
    rows: list[list[int]] = [[] for _ in range(least)]
    loads = [0] * least
    for index in sorted(range(len(groups)), key=lambda i: (-sizes[i], i)):
        row = min(range(len(rows)), key=lambda i: loads[i])
        if rows[row] and loads[row] + sizes[index] > tokens:
            rows.append([])
            loads.append(0)
            row = len(rows) - 1
        rows[row].append(index)
        loads[row] += sizes[index]
    return [sorted(row) for row in rows if row]


def _plan_rectangles(groups: Sequence[Group], *, tokens: int) -> list[list[int]]:
    """Groups of like length together: padding costs as much as text."""
    longest = [max(len(ids) for ids in group.sequences) for group in groups]
    rows: list[list[int]] = []
    count = 0
    for index in sorted(range(len(groups)), key=lambda i: (longest[i], i)):
        more = len(groups[index].sequences)
        if not rows or (count + more) * longest[index] > tokens:
            rows.append([])
            count = 0
        rows[-1].append(index)
        count += more
    return [sorted(row) for row in rows]
