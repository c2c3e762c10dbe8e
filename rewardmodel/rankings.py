"""What a ranking says in pairs, and what pairs say in an order. No torch, no files."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

# Judged best (and worst) only: what these tasks leave level was not compared.
PARTIAL_TASKS = ("best", "best-worst")


def comparisons_of(
    ranks: Sequence[int], *, task: str = "ranking"
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(strict, tied) pairs of indices that ranks give: 1 is best, strict pairs stand (better, worse).

    All C(K, 2) pairs (Ouyang et al. 2022, section 3.5), strict or tied. Where only the best (and the worst) were
    named, equal ranks were not judged: they give nothing.
    """
    strict, tied = [], []
    for i, j in combinations(range(len(ranks)), 2):
        if ranks[i] == ranks[j]:
            tied.append((i, j))
        else:
            strict.append((i, j) if ranks[i] < ranks[j] else (j, i))
    return strict, [] if task in PARTIAL_TASKS else tied


def strict_order(n: int, *, pairs: Sequence[tuple[int, int]]) -> list[int] | None:
    """The one order of n items in which all n (n - 1) / 2 of them were compared, best first; None if it is not given.

    pairs: (better, worse). A tie, a gap or a cycle leaves no such order.
    """
    if len(set(pairs)) != n * (n - 1) // 2 or len({frozenset(pair) for pair in pairs}) != len(set(pairs)):
        return None
    wins = [0] * n
    for better, _ in set(pairs):
        wins[better] += 1
    order = sorted(range(n), key=lambda item: -wins[item])
    return order if [wins[item] for item in order] == list(range(n - 1, -1, -1)) else None
