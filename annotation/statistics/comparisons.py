"""Comparisons derived from rankings: a versioned pure function, never stored as truth.

Leaves out: who judged and when; callers carry that beside the pairs.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Generic, TypeVar

DERIVATION = "all-strict-pairs-v2"
"""Name of the rule below, written into every snapshot that used it. v1 knew full rankings only."""

TASKS = ("ranking", "pairwise", "pairwise-forced", "best", "best-worst", "rating")
UNDISTINGUISHED = ("best", "best-worst")
"""Tasks under which responses of one tier were merely not told apart; under the others they were judged equal."""

Item = TypeVar("Item", bound=Hashable)


@dataclass(frozen=True)
class Comparisons(Generic[Item]):
    """`strict`: (better, worse) pairs. `tied`: unordered pairs judged equal."""

    strict: tuple[tuple[Item, Item], ...]
    tied: tuple[tuple[Item, Item], ...]


def derive_comparisons(tiers: Sequence[Sequence[Item]], *, task: str = "ranking") -> Comparisons[Item]:
    """Derive the pairs of one ranking that its annotator judged.

    `tiers`: K distinct items in tiers, best first. An item beats every item of a later tier (Ouyang et al. 2022,
    section 3.4: all pairs of a ranking). Items of one tier are tied, so that K (K - 1) / 2 pairs come out in all;
    under "best" and "best-worst" nothing was said of them, and there are K - 1 pairs (the winner against the rest)
    or 2 K - 3. Raises ValueError on an unknown task, an empty tier or an item that stands twice.
    """
    if task not in TASKS:
        raise ValueError(f"Unknown task {task!r}; use one of {', '.join(TASKS)}.")
    items = [item for tier in tiers for item in tier]
    if any(not tier for tier in tiers) or len(set(items)) != len(items):
        raise ValueError("Tiers must be non-empty and every item must stand in exactly one of them.")
    strict = tuple((better, worse) for upper, lower in combinations(tiers, 2) for better in upper for worse in lower)
    if task in UNDISTINGUISHED:
        return Comparisons(strict=strict, tied=())
    return Comparisons(strict=strict, tied=tuple(pair for tier in tiers for pair in combinations(tier, 2)))


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


def pairwise_agreement(
    rankings: Sequence[Sequence[Sequence[Item]]], *, tasks: Sequence[str] | None = None
) -> tuple[int, int]:
    """Count agreeing and compared pairs of annotators over pairs of items of one slate.

    `rankings`: the tiers of several annotators over the same items; `tasks`: under which task each was given, full
    rankings where it is not said. For each two annotators and each pair of items that both judged (see
    `derive_comparisons`), they agree where both order it alike or both tie it. Returns (agreeing, compared); percent
    agreement is their quotient, uncorrected for chance. Raises ValueError as `derive_comparisons` does.
    """
    given = tasks if tasks is not None else ["ranking"] * len(rankings)
    judged = [_judged_pairs(tiers, task=task) for tiers, task in zip(rankings, given, strict=True)]
    agreeing = compared = 0
    for first, second in combinations(judged, 2):
        shared = first.keys() & second.keys()
        compared += len(shared)
        agreeing += sum(first[pair] == second[pair] for pair in shared)
    return agreeing, compared


def _judged_pairs(tiers: Sequence[Sequence[Item]], *, task: str) -> dict[frozenset[Item], Item | None]:
    """The better item of every pair that was judged, None where both are equal."""
    derived = derive_comparisons(tiers, task=task)
    better: dict[frozenset[Item], Item | None] = {frozenset(pair): pair[0] for pair in derived.strict}
    return better | {frozenset(pair): None for pair in derived.tied}
