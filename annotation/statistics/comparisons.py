"""Comparisons derived from rankings: a versioned pure function, never stored as truth.

Leaves out: who judged and when; callers carry that beside the pairs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Generic, TypeVar

DERIVATION = "all-strict-pairs-v1"
"""Name of the rule below, written into every snapshot that used it."""

Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True)
class Comparisons(Generic[Item]):
    """`strict`: (better, worse) pairs. `tied`: unordered pairs judged equal."""

    strict: tuple[tuple[Item, Item], ...]
    tied: tuple[tuple[Item, Item], ...]


def derive_comparisons(tiers: Sequence[Sequence[Item]]) -> Comparisons[Item]:
    """Derive all C(K, 2) pairs of one ranking.

    `tiers`: K distinct items in tiers, best first. Items of one tier are tied; an item beats every item of a later
    tier (Ouyang et al. 2022, section 3.4: all pairs of a ranking). The result has K (K - 1) / 2 pairs in all.
    Raises ValueError on an empty tier or an item that stands twice.
    """
    items = [item for tier in tiers for item in tier]
    if any(not tier for tier in tiers) or len(set(items)) != len(items):
        raise ValueError("Tiers must be non-empty and every item must stand in exactly one of them.")
    strict = tuple((better, worse) for upper, lower in combinations(tiers, 2) for better in upper for worse in lower)
    tied = tuple(pair for tier in tiers for pair in combinations(tier, 2))
    return Comparisons(strict=strict, tied=tied)


def ranks_of(tiers: Sequence[Sequence[Item]]) -> dict[Item, int]:
    """Competition ranks, 1 = best: items of one tier share the rank 1 + number of items in better tiers."""
    ranks: dict[Item, int] = {}
    placed = 0
    for tier in tiers:
        ranks.update(dict.fromkeys(tier, placed + 1))
        placed += len(tier)
    return ranks


def tiers_of(ranks: Sequence[int]) -> list[list[int]]:
    """Turn ranks by index into tiers of indices, best first; equal ranks are tied."""
    return [[i for i, rank in enumerate(ranks) if rank == value] for value in sorted(set(ranks))]


def pairwise_agreement(rankings: Sequence[Sequence[Sequence[Item]]]) -> tuple[int, int]:
    """Count agreeing and compared pairs of annotators over pairs of items of one slate.

    `rankings`: the tiers of several annotators over the same items. For each two annotators and each pair of items,
    they agree where both order it alike or both tie it. Returns (agreeing, compared); percent agreement is their
    quotient, uncorrected for chance.
    """
    agreeing = compared = 0
    for first, second in combinations([ranks_of(tiers) for tiers in rankings], 2):
        for a, b in combinations(sorted(first.keys() & second.keys(), key=repr), 2):
            compared += 1
            agreeing += _order(first, a, b) == _order(second, a, b)
    return agreeing, compared


def _order(ranks: dict[Item, int], a: Item, b: Item) -> int:
    return (ranks[a] > ranks[b]) - (ranks[a] < ranks[b])
