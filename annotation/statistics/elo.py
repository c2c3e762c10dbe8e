"""Elo ratings, the familiar display. Not an estimate to decide by: for that there is `bradley_terry`.

Elo's update depends on the order in which comparisons arrive, and its last steps weigh most. Averaged over random
orders the order is gone; what remains is a noisy cousin of Bradley–Terry scores without an interval.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from annotation.statistics.codes import Labels, encode_items
from annotation.statistics.win_rates import read_outcomes

Floats = npt.NDArray[np.float64]

ORDERS_AT_ONCE = 1 << 24
"""Steps of all orders held at once: 64 MB."""


@dataclass(frozen=True, eq=False)
class EloRatings:
    """Ratings of n items, (n,) each.

    `ratings`: the mean over random orders; `spread`: the standard deviation over orders, which says how much the order
    decides and nothing about sampling; `online`: in the order given; `comparisons`: how many each item was in.
    """

    items: tuple[Hashable, ...]
    ratings: Floats
    spread: Floats
    online: Floats
    comparisons: npt.NDArray[np.intp]


def elo(
    left: Labels,
    *,
    right: Labels,
    outcomes: npt.ArrayLike,
    items: Sequence[Hashable] | None = None,
    k: float = 4.0,
    scale: float = 400.0,
    start: float = 1000.0,
    orders: int = 20,
    seed: int = 0,
) -> EloRatings:
    """Rate items by comparisons of `left[r]` with `right[r]` (1 the left won, 0 the right, 1/2 a tie), in that order.

    After each, both ratings move by k (outcome - E), E = 1 / (1 + 10^((R_right - R_left) / scale)) (Elo 1978, "The
    Rating of Chessplayers, Past and Present", section 1.6). `orders` random orders are drawn from `seed`. The default
    of k is that of LMArena's first leaderboards (FastChat's notebook). Time grows with comparisons, one step after the
    other. Raises ValueError on unreadable data and an item compared with itself.
    """
    if not (k > 0 and scale > 0 and orders >= 1):
        raise ValueError("k and the scale must be positive, and there must be an order at least.")
    (one, other), names = encode_items(left, right, items=items)
    score = read_outcomes(outcomes, rows=len(one), other_rows=len(other))
    if (one == other).any():
        raise ValueError("An item is compared with itself.")
    sides = np.stack([one, other]).astype(np.intp)
    rng, rows = np.random.default_rng(seed), len(score)
    held = max(1, ORDERS_AT_ONCE // rows)
    rated = []
    for first in range(0, orders, held):
        drawn = np.stack([rng.permutation(rows) for _order in range(first, min(orders, first + held))])
        rated.append(_play(drawn, sides=sides, score=score, n=len(names), k=k, scale=scale))
    found = np.concatenate(rated)
    given = np.arange(rows)[None]
    return EloRatings(
        items=tuple(names),
        ratings=start + found.mean(axis=0),
        spread=found.std(axis=0),
        online=start + _play(given, sides=sides, score=score, n=len(names), k=k, scale=scale)[0],
        comparisons=np.bincount(sides.ravel(), minlength=len(names)),
    )


def _play(
    orders: npt.NDArray[np.intp], *, sides: npt.NDArray[np.intp], score: Floats, n: int, k: float, scale: float
) -> Floats:
    """Ratings (P, n) after P orders (P, N) of the comparisons, all orders step by step side by side."""
    ratings, row = np.zeros((len(orders), n)), np.arange(len(orders))
    for step in np.ascontiguousarray(orders.T):
        one, other = sides[0, step], sides[1, step]
        expected = 1 / (1 + 10 ** ((ratings[row, other] - ratings[row, one]) / scale))
        change = k * (score[step] - expected)
        ratings[row, one] += change
        ratings[row, other] -= change
    return ratings
