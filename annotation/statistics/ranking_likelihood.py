"""The likelihood of rankings. `plackett_luce` reads the data for it.

A ranking is a series of choices: the first tier out of all its items, the second out of those that are left, and so on
(Luce 1959, "Individual choice behavior"; Plackett 1975, "The analysis of permutations"). Arrays have the positions
first, (K, N), so that every step runs over N contiguous numbers; the item n fills up short rankings and has no worth.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from annotation.statistics.codes import Names
from annotation.statistics.counting import TIE, WIN, Cells, add_at, compiled, fold
from annotation.statistics.covariance import combine_groupings, constants, ground, laplacian_of, sum_outer_products
from annotation.statistics.estimation import Options
from annotation.statistics.newton import Evaluation

Integers: TypeAlias = npt.NDArray[np.integer[Any]]
Bools: TypeAlias = npt.NDArray[np.bool_]
Floats: TypeAlias = npt.NDArray[np.float64]
Groups: TypeAlias = npt.NDArray[np.intp]

PIECE = 1 << 18
"""Pairs of positions that are worked on at once."""
MOST_SUBSETS = 4096
"""Ways to choose a tier that are written out; more than that are refused."""


@dataclass(frozen=True)
class Rankings:
    """N rankings of up to K items each.

    `order`: (K, N) item codes, best first, n where a ranking has ended. `opens`: (K, N) whether a tier begins here.
    `ranked`: (N,) how many first positions were ranked; what comes after was only left over, in no order.
    `weights`: (N,), or None where each counts once.
    """

    names: Names
    order: Integers
    opens: Bools
    ranked: Integers
    weights: Floats | None

    @property
    def lengths(self) -> Integers:
        """How many items each ranking has, (N,)."""
        return np.asarray((self.order < len(self.names)).sum(axis=0))

    @cached_property
    def tier(self) -> Integers:
        """The number of each position's tier, (K, N), from 1."""
        return np.cumsum(self.opens, axis=0)

    @property
    def tie_sizes(self) -> tuple[int, ...]:
        """How many items were tied in any tier that was ranked, in ascending order."""
        found, run = set(), np.zeros(self.order.shape[1], dtype=np.intp)
        if self.opens.all():
            return ()
        for at, opens in enumerate(self.opens):
            found |= set(np.unique(run[opens]))
            run = np.where(opens, 1, run + 1) * ((at < self.ranked) & (self.order[at] < len(self.names)))
        return tuple(int(size) for size in sorted(found | set(np.unique(run))) if size > 1)

    def pieces(self) -> Iterator[slice]:
        """Slices of the rankings such that a piece has about PIECE pairs of positions, or fills its table of pairs."""
        pairs, n = max(math.comb(len(self.order), 2), 1), len(self.names) + 1
        step = max(PIECE, n * n // 4) // pairs + 1
        return (slice(start, start + step) for start in range(0, self.order.shape[1], step))

    def pairs(self) -> Cells:
        """Who stands above whom, and who is tied, over all rankings, added up by pair."""
        n = len(self.names) + 1
        above, below = np.triu_indices(len(self.order), 1)
        table, has_ties = np.zeros((3, n * n)), not self.opens.all()
        plain = not has_ties and self.weights is None and bool((self.ranked == len(self.order)).all())
        for piece in self.pieces():
            order = self.order[:, piece].astype(np.intp)
            key = order[above] * n + order[below]
            if plain:
                table[WIN] += add_at(key.ravel(), weights=None, size=n * n)
                continue
            counts = np.where(above[:, None] < self.ranked[piece], 1.0, 0.0)
            counts = counts if self.weights is None else counts * self.weights[piece]
            tied = (
                self.tier[above][:, piece] == self.tier[below][:, piece]
                if has_ties
                else np.zeros(key.shape, dtype=bool)
            )
            for level, chosen in ((WIN, ~tied), (TIE, tied)):
                table[level] += add_at(key.ravel(), weights=(counts * chosen).ravel(), size=n * n)
        return fold(table.reshape(3, n, n)[:, :-1, :-1], ordered=False)

    def split(self, component: Groups) -> tuple[Rankings, Groups]:
        """The rankings cut up so that each is of items of one component, and which ranking each part comes from.

        In the limit of components infinitely far apart, a choice is made among the items of one of them alone. Parts
        that say nothing, of one item or without one that was ranked, are left out.
        """
        n, width = len(self.names), len(self.order)
        place, row = np.nonzero(self.order < n)
        item, tier = self.order[place, row], self.tier[place, row]
        at = np.lexsort((place, component[item], row))
        place, row, item, tier = place[at], row[at], item[at], tier[at]
        part_of = np.cumsum(np.concatenate([[0], (np.diff(row) != 0) | (np.diff(component[item]) != 0)]))
        size, ranked = np.bincount(part_of), np.bincount(part_of, weights=place < self.ranked[row]).astype(np.intp)
        new_place = np.arange(len(item)) - (np.cumsum(size) - size)[part_of]
        order, opens = np.full((width, len(size)), n), np.ones((width, len(size)), dtype=bool)
        order[new_place, part_of] = item
        opens[new_place, part_of] = (new_place == 0) | np.concatenate([[True], np.diff(tier) != 0])
        source, kept = row[np.cumsum(size) - size], (size > 1) & (ranked > 0)
        parts = replace(self, order=order, opens=opens, ranked=ranked, weights=self._weights_of(source))
        return parts.select(kept), source[kept]

    def select(self, kept: Bools) -> Rankings:
        """The rankings that are `kept`, (N,)."""
        weights = None if self.weights is None else self.weights[kept]
        return replace(
            self, order=self.order[:, kept], opens=self.opens[:, kept], ranked=self.ranked[kept], weights=weights
        )

    def _weights_of(self, rows: Groups) -> Floats | None:
        return None if self.weights is None else self.weights[rows]


def add_along(table: Floats) -> Floats:
    """Running sums over positions, (K, m); `np.cumsum` goes down each column by itself, several times slower."""
    sums = table.copy()
    for before, here in itertools.pairwise(sums):
        here += before
    return sums


@dataclass(frozen=True)
class Choices:
    """m choices of a tier of any size among A items that are left.

    `rows`: (m,) their rankings. `at`: the position at which they stand. `items`: (A, m), the tier first. `size`: (m,)
    how many were chosen. `subsets`: (S, A) every tier that might have been, as the share 1 / k that each of its k items
    has in it. `orders`: (S, T) which tie parameter each has. `chosen`: (m,) the subset that was.
    """

    rows: Groups
    at: int
    items: Integers
    size: Integers
    subsets: Floats
    orders: Floats
    chosen: Groups


class RankingLikelihood:
    """The penalised log likelihood of rankings: n log-worths, then a parameter for each size of ties that was seen.

    Without ties P(ranking) is the product over choices of worth / worth of all that are left. With ties, a tier S of k
    items has f(S) = delta_k (product of worths)^(1/k), delta_1 = 1, in the place of its worth: Davidson–Luce (Firth,
    Kosmidis and Turner 2019, "Davidson-Luce model for multi-item choice with ties"; Turner, van Etten, Firth and
    Kosmidis 2020, "Modelling rankings in R: the PlackettLuce package", section 2.1). The effects are log delta_k.
    """

    def __init__(
        self, rankings: Rankings, *, settings: Options, component: Groups, start: Floats, tie_sizes: Sequence[int]
    ) -> None:
        self.rankings, self.settings, self.component, self.names = rankings, settings, component, rankings.names
        self.n, self.count = len(rankings.names), rankings.order.shape[1]
        self.total_weight = self.count if rankings.weights is None else float(rankings.weights.sum())
        self.effects_at, self.tie_sizes = self.n, tuple(tie_sizes)
        self.effect_names = tuple("tie" if size == 2 else f"tie of {size}" for size in self.tie_sizes)
        self.penalty = np.concatenate([np.full(self.n, settings.ridge), np.zeros(len(self.tie_sizes))])
        self.constants = constants(component) if settings.ridge == 0 else np.zeros((0, 0))
        self._start = np.concatenate([start, np.full(len(self.tie_sizes), -1.0)])

    def start(self) -> Floats:
        """The scores that the pairs alone give, and few ties."""
        return self._start

    def __call__(self, point: Floats, *, factors: Floats | None = None) -> Evaluation:
        """Value, gradient and information at a point, every ranking's weight times its factor, (N,)."""
        weights = self.rankings.weights
        if factors is not None:
            weights = factors if weights is None else weights * factors
        sweep = self._sweep_tied if self.tie_sizes else self._sweep
        value, gradient, information = sweep(point, weights=weights)
        information[np.diag_indices(len(point))] += self.penalty
        return Evaluation(
            value=value - float(self.penalty @ point**2) / 2,
            gradient=gradient - self.penalty * point,
            information=ground(information, constants=self.constants),
        )

    def meat(self, point: Floats) -> Floats:
        """The sum of u u' over rankings, u being a ranking's score, (P, P)."""
        scores = self.scores(point)
        if self.tie_sizes:
            return self._outer(np.arange(self.count), entries=scores)
        above, below = np.triu_indices(len(scores), 1)
        pairs = np.zeros((self.n + 1) ** 2)
        for piece in self.rankings.pieces():
            u, key = scores[:, piece], self._keys(piece, above=above, below=below)
            pairs += add_at(key, weights=-(u[above] * u[below]).ravel(), size=len(pairs))
        return laplacian_of(pairs.reshape(self.n + 1, -1)[:-1, :-1])

    def clustered_meat(self, point: Floats, *, groupings: Sequence[Groups]) -> tuple[Floats, int]:
        """The same with the rankings of a group added first, and the number of groups."""
        entries = self.scores(point)
        return combine_groupings(groupings, meat=lambda groups: self._outer(groups, entries=entries))

    def edges(self, rows: slice) -> tuple[Integers, Integers, Integers]:
        """Who follows whom in some of the rankings, which joins all that a ranking compares; and the ranking."""
        order = self.rankings.order[:, rows]
        above, below = order[:-1], order[1:]
        row = np.broadcast_to(np.arange(rows.start, rows.stop), above.shape)
        both = below < self.n
        return above[both], below[both], row[both]

    def resampled(self, rng: np.random.Generator, *, groups: Groups | None) -> Callable[[Floats], Evaluation]:
        """The likelihood with an exponential weight on every group, or on every ranking."""
        given = np.arange(self.count) if groups is None else groups
        factors = rng.standard_exponential(int(given.max()) + 1)[given]
        return lambda point: self(point, factors=factors)

    def scores(self, point: Floats) -> Floats:
        """Each ranking's derivative by the worths at its positions, then by the tie parameters, (K + T, N)."""
        width = len(self.rankings.order)
        found = np.zeros((width + len(self.tie_sizes), self.count))
        if self.tie_sizes:
            for choices in self.choices:
                likely = self._likely(choices, point=point)
                by_item, by_tie = self._choice_scores(choices, likely=likely)
                found[choices.at : choices.at + len(by_item), choices.rows] += by_item
                found[width:, choices.rows] += by_tie
        else:
            worth = self._worth(point)
            for piece in self.rankings.pieces():
                found[:, piece] = self._piece(piece, worth=worth)[0]
        return found if self.rankings.weights is None else found * self.rankings.weights

    def _outer(self, groups: Groups, *, entries: Floats) -> Floats:
        """Outer products of scores (K + T, N); the filling item n gives its place to the tie parameters."""
        ties = np.arange(len(self.tie_sizes))[:, None] + self.n + 1
        columns = np.concatenate([self.rankings.order, np.broadcast_to(ties, (len(ties), self.count))])
        size = self.n + 1 + len(ties)
        total = sum_outer_products(groups, columns=columns.T, entries=entries.T, size=size)
        return np.delete(np.delete(total, self.n, axis=0), self.n, axis=1)

    def _keys(self, piece: slice, *, above: Integers, below: Integers) -> Groups:
        """Where the pairs of positions of some rankings stand in a table of (n + 1) x (n + 1) items, flat."""
        order = self.rankings.order[:, piece].astype(np.intp)
        return np.asarray(order[above] * (self.n + 1) + order[below]).ravel()

    def _worth(self, point: Floats) -> Floats:
        """Worths by item, the best 1, and 0 for the filling item, (n + 1,)."""
        scores = point[: self.n]
        return np.append(np.exp(np.maximum(scores - scores.max(), -300)), 0.0)

    def _piece(self, piece: slice, *, worth: Floats) -> tuple[Floats, Floats, Floats, Floats]:
        """Of some rankings without ties: scores by position, worths, worths that are left, and sums of their squares.

        With worths g and what is left at each choice D_t, the derivative by the score at position a is
        [a chooses] - g_a sum_(t <= a) 1 / D_t, and minus the second one by those at a < b is
        -g_a g_b sum_(t <= a) 1 / D_t^2; all (K, m).
        """
        at = worth[self.rankings.order[:, piece]]
        left = add_along(at[::-1])[::-1]
        chooses = self._chooses[:, piece]
        inverse = np.divide(chooses, left, out=np.zeros_like(at), where=chooses)
        return chooses - at * add_along(inverse), at, left, add_along(inverse * inverse)

    @cached_property
    def _chooses(self) -> Bools:
        """Whether a choice among two items or more is made at the position, (K, N)."""
        position = np.arange(len(self.rankings.order))[:, None]
        return (position < self.rankings.ranked) & (position < self.rankings.lengths - 1)

    def _sweep(self, point: Floats, *, weights: Floats | None) -> tuple[float, Floats, Floats]:
        """Value, gradient and information without ties."""
        n, worth, order = self.n + 1, self._worth(point), self.rankings.order
        value, gradient, pairs = 0.0, np.zeros(n), np.zeros(n * n)
        if loops := compiled(rows=order.size):
            given = np.ones(self.count) if weights is None else weights
            value = loops.sweep_rankings(order, self._chooses, worth, given, gradient, pairs.reshape(n, n))
            return value, gradient[:-1], laplacian_of(pairs.reshape(n, n)[:-1, :-1])
        above, below = np.triu_indices(len(order), 1)
        for piece in self.rankings.pieces():
            chooses = self._chooses[:, piece]
            by_position, at, left, squares = self._piece(piece, worth=worth)
            gains = np.log(np.divide(at, left, out=np.ones_like(at), where=chooses))
            if weights is not None:
                gains, by_position, squares = (part * weights[piece] for part in (gains, by_position, squares))
            value += float(gains.sum())
            gradient += np.bincount(order[:, piece].ravel(), weights=by_position.ravel(), minlength=n)
            shared, key = at[above] * at[below] * squares[above], self._keys(piece, above=above, below=below)
            pairs += add_at(key, weights=shared.ravel(), size=n * n)
        return value, gradient[:-1], laplacian_of(pairs.reshape(n, n)[:-1, :-1])

    @cached_property
    def choices(self) -> list[Choices]:
        """All choices among two items or more, by position and by how many are left."""
        found, lengths = [], self.rankings.lengths
        for at in range(len(self.rankings.order) - 1):
            chooses = self.rankings.opens[at] & (at < self.rankings.ranked) & (at < lengths - 1)
            for left in np.unique(lengths[chooses] - at):
                rows = np.flatnonzero(chooses & (lengths - at == left))
                found.append(self._gather(rows, at=at, left=int(left)))
        return found

    def _gather(self, rows: Groups, *, at: int, left: int) -> Choices:
        sizes = [size for size in (1, *self.tie_sizes) if size <= left]
        if sum(math.comb(left, size) for size in sizes) > MOST_SUBSETS:
            raise ValueError(f"Ties of {sizes[-1]} among {left} items can be chosen in too many ways.")
        members = [chosen for size in sizes for chosen in itertools.combinations(range(left), size)]
        subsets, orders = np.zeros((len(members), left)), np.zeros((len(members), len(self.tie_sizes)))
        first: dict[int, int] = {}
        for number, chosen in enumerate(members):
            subsets[number, chosen] = 1 / len(chosen)
            first.setdefault(len(chosen), number)
            if len(chosen) > 1:
                orders[number, self.tie_sizes.index(len(chosen))] = 1
        tier = self.rankings.tier[at:, rows]
        size = (tier[:left] == tier[0]).sum(axis=0)
        return Choices(
            rows=rows,
            at=at,
            items=self.rankings.order[at : at + left, rows],
            size=size,
            subsets=subsets,
            orders=orders,
            chosen=np.array([first.get(k, 0) for k in range(left + 1)])[size],
        )

    def _likely(self, choices: Choices, *, point: Floats) -> Floats:
        """The probability of every subset, (S, m)."""
        logits = choices.subsets @ point[: self.n][choices.items] + (choices.orders @ point[self.n :])[:, None]
        logits -= logits.max(axis=0)
        likely = np.exp(logits)
        return np.asarray(likely / likely.sum(axis=0))

    def _choice_scores(self, choices: Choices, *, likely: Floats) -> tuple[Floats, Floats]:
        """What was chosen less what was expected: shares of items (A, m) and tie sizes (T, m)."""
        by_item = choices.subsets[choices.chosen].T - choices.subsets.T @ likely
        return by_item, choices.orders[choices.chosen].T - choices.orders.T @ likely

    def _sweep_tied(self, point: Floats, *, weights: Floats | None) -> tuple[float, Floats, Floats]:
        """Value, gradient and information with ties: each choice is a multinomial, its information a covariance."""
        n, ties = self.n, len(self.tie_sizes)
        value, gradient, pairs = 0.0, np.zeros(n + ties), np.zeros(n * n)
        information = np.zeros((n + ties, n + ties))
        for choices in self.choices:
            likely, given = self._likely(choices, point=point), 1.0 if weights is None else weights[choices.rows]
            value += float((given * np.log(likely[choices.chosen, np.arange(len(choices.rows))])).sum())
            by_item, by_tie = self._choice_scores(choices, likely=likely)
            items = choices.items.ravel()
            gradient[:n] += add_at(items, weights=(given * by_item).ravel(), size=n)
            gradient[n:] += (given * by_tie).sum(axis=1)
            shares, sizes = choices.subsets.T @ likely, choices.orders.T @ likely
            a, b = np.triu_indices(len(choices.items), 1)
            together = (choices.subsets[:, a] * choices.subsets[:, b]).T @ likely - shares[a] * shares[b]
            key = choices.items[a] * n + choices.items[b]
            pairs += add_at(key.ravel(), weights=(-given * together).ravel(), size=n * n)
            for k in range(ties):
                mixed = (choices.subsets * choices.orders[:, [k]]).T @ likely - shares * sizes[k]
                information[n + k, :n] += add_at(items, weights=(given * mixed).ravel(), size=n)
            information[n:, n:] += np.diag((given * sizes).sum(axis=1)) - (given * sizes) @ sizes.T
        information[:n, n:] = information[n:, :n].T
        information[:n, :n] = laplacian_of(pairs.reshape(n, n))
        return value, gradient, information
