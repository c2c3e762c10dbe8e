"""Pairs of many rankings at once, as arrays for `bradley_terry.fit`.

`comparisons.derive_comparisons` is the rule, one ranking at a time; this is the same for a table of ranks. The six
pairs of a ranking of four are one judgement: cluster by `ranking`, or intervals come out too narrow.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

Integers: TypeAlias = npt.NDArray[np.integer[Any]]


@dataclass(frozen=True)
class Pairs:
    """M pairs: codes of both items, the outcome of the left (1, 1/2, 0), and the ranking they come from, (M,) each."""

    left: Integers
    right: Integers
    outcomes: npt.NDArray[np.float64]
    ranking: npt.NDArray[np.intp]


def pairs_of_tiers(ranks: npt.ArrayLike, *, items: npt.ArrayLike | None = None, equal_is_tie: bool = True) -> Pairs:
    """All pairs of N rankings of up to K items, ordered by ranking.

    ranks: (N, K) tiers, 1 or more, a lower one better, 0 where no item stands.
    items: (N, K) item codes; the column's number, if it is not given.
    equal_is_tie: whether items of one tier were judged equal; otherwise (best of n, best and worst) nothing was said of
        them and they give no pair.

    Raises ValueError for other shapes and negative ranks.
    """
    tiers = np.asarray(ranks)
    if tiers.ndim != 2 or tiers.dtype.kind not in "iu" or (tiers.size and tiers.min() < 0):
        raise ValueError("Ranks must be a table (N, K) of integers, 1 or more, and 0 where no item stands.")
    codes = np.broadcast_to(np.arange(tiers.shape[1]), tiers.shape) if items is None else np.asarray(items)
    if codes.shape != tiers.shape or codes.dtype.kind not in "iu":
        raise ValueError(f"Items must be integers of the shape of the ranks, {tiers.shape}.")
    first, second = np.triu_indices(tiers.shape[1], 1)
    left, right = tiers[:, first], tiers[:, second]
    judged = (left > 0) & (right > 0)
    if not equal_is_tie:
        judged &= left != right
    ranking, pair = np.nonzero(judged)
    outcomes = np.where(left < right, 1.0, np.where(left > right, 0.0, 0.5))
    return Pairs(
        left=codes[ranking, first[pair]],
        right=codes[ranking, second[pair]],
        outcomes=outcomes[ranking, pair],
        ranking=ranking,
    )
