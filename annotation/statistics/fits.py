"""What a fit of scores says, and how sure it is: intervals, differences, p-values, ranks with bands, win probabilities.

Scores are log-worths: natural logarithms, so that a difference d means odds of e^d. Only differences within a
component mean anything; between components nothing is comparable, and every figure across them is NaN.
"""

from __future__ import annotations

import math
from collections.abc import Hashable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import erfc, ndtri

from annotation.statistics.connectivity import Connectivity

Floats: TypeAlias = npt.NDArray[np.float64]

ELO = 400 / math.log(10)
"""Points of the familiar scale in one unit of log-worth: 400 points are odds of 10."""


@dataclass(frozen=True)
class Effect:
    """A parameter that is no item's: of the position, of a covariate, of ties. NaN where no error was asked for."""

    name: str
    value: float
    standard_error: float


@dataclass(frozen=True)
class ContextScores:
    """The items' scores within one context, (n,) each."""

    name: str
    scores: Floats
    standard_errors: Floats


@dataclass(frozen=True)
class Ratings:
    """Scores on a scale of points, (n,) each, with their interval."""

    items: tuple[Hashable, ...]
    ratings: Floats
    lower: Floats
    upper: Floats


@dataclass(frozen=True)
class Fit:
    """Scores of n items, as a model saw them.

    `scores`: (n,) log-worths, mean 0 over the items of each component whose errors are known, or 0 at `reference`; NaN
    where an item is in a component by itself. `covariance`: (n, n), NaN across components and for items that one group
    of judgements alone joins to the others, None where it was not asked for. `samples`: (B, n) scores of bootstrap
    samples. `contexts`: the scores within each context by name. `rows`, `clusters`: how many comparisons or rankings
    went in, and how many independent groups of them the errors count on.
    """

    model: str
    ties: str
    items: tuple[Hashable, ...]
    scores: Floats
    covariance: Floats | None
    effects: tuple[Effect, ...]
    connectivity: Connectivity
    rows: float
    clusters: int
    log_likelihood: float
    iterations: int
    reference: Hashable | None = None
    samples: Floats | None = None
    contexts: tuple[ContextScores, ...] = ()
    joined: bool = False
    """Whether a prior (ridge) joins all components, so that every two items are comparable."""

    @property
    def component(self) -> npt.NDArray[np.intp]:
        """The number of each item's comparable set, (n,)."""
        return np.zeros(len(self.items), dtype=np.intp) if self.joined else self.connectivity.component

    @property
    def comparable(self) -> npt.NDArray[np.bool_]:
        """Whether something is said of the two items together, (n, n)."""
        return self.component[:, None] == self.component[None, :]

    def with_scores(self, scores: Floats, *, covariance: Floats | None) -> Fit:
        """The fit with these scores, (n,), and their covariance, (n, n): centred, and NaN where nothing is known.

        Each component is centred over its items whose variance is known (not NaN), or over all where there is none or
        no covariance. Samples of the others are NaN.
        """
        component, size = self.component, np.bincount(self.component)[self.component]
        known = np.ones(len(scores), dtype=bool) if covariance is None else ~np.isnan(np.diag(covariance))
        counted = known | (np.bincount(component, weights=known)[component] == 0)
        sizes = np.bincount(component, weights=counted)

        def centred(values: Floats) -> Floats:
            means = np.bincount(component, weights=values * counted) / sizes
            return np.where(size > 1, values - means[component], np.nan)

        together = (size > 1)[:, None] & self.comparable
        return replace(
            self,
            scores=centred(scores),
            covariance=None if covariance is None else np.where(together, covariance, np.nan),
            samples=None if self.samples is None else np.where(known, np.stack([*map(centred, self.samples)]), np.nan),
        )

    def score(self, item: Hashable) -> float:
        """The score of one item. Raises ValueError for an unknown one."""
        return float(self.scores[self.index(item)])

    def effect(self, name: str) -> Effect:
        """An effect by name. Raises ValueError for an unknown one."""
        for effect in self.effects:
            if effect.name == name:
                return effect
        raise ValueError(f"There is no effect {name!r}; there are {[effect.name for effect in self.effects]}.")

    def index(self, item: Hashable) -> int:
        """Where an item stands in `items`. Raises ValueError for an unknown one."""
        try:
            return self.items.index(item)
        except ValueError:
            raise ValueError(f"Unknown item {item!r}.") from None

    @property
    def standard_errors(self) -> Floats:
        """Of the scores, (n,). They depend on the anchor; compare items by `difference_errors`."""
        return np.sqrt(np.maximum(np.diag(self._covariance), 0.0))

    def intervals(self, *, level: float = 0.95, method: Literal["normal", "bootstrap"] = "normal") -> Floats:
        """Lower and upper bound of each score, (n, 2): normal, or percentiles of the bootstrap samples."""
        if method == "bootstrap":
            if self.samples is None:
                raise ValueError("This fit has no bootstrap samples; ask for them with bootstrap=….")
            return np.quantile(self.samples, [(1 - level) / 2, (1 + level) / 2], axis=0).T
        margin = ndtri((1 + _share(level)) / 2) * self.standard_errors
        return np.stack([self.scores - margin, self.scores + margin], axis=1)

    def ratings(self, *, level: float = 0.95, centre: float = 1000.0, points: float = ELO) -> Ratings:
        """Scores and intervals as points around `centre`, `points` to a unit of log-worth."""
        bounds = self.intervals(level=level)
        lower, upper = (centre + points * bounds[:, side] for side in (0, 1))
        return Ratings(items=self.items, ratings=centre + points * self.scores, lower=lower, upper=upper)

    def anchored(self, reference: Hashable) -> Fit:
        """The same fit with the score of `reference` at 0, in its component; other components keep their mean."""
        at = self.index(reference)
        here = self.component == self.component[at]
        scores = self.scores - np.where(here, self.scores[at], 0.0)
        covariance = self.covariance
        if covariance is not None:
            column = np.where(here, covariance[:, at], 0.0)
            shift = np.where(here[:, None] & here[None, :], covariance[at, at], 0.0)
            covariance = covariance - column[:, None] * here - column[None, :] * here[:, None] + shift
        samples = None if self.samples is None else self.samples - np.where(here, self.samples[:, [at]], 0.0)
        return replace(self, scores=scores, covariance=covariance, samples=samples, reference=reference)

    @cached_property
    def differences(self) -> Floats:
        """Score of the row's item less that of the column's, (n, n)."""
        return np.where(self.comparable, self.scores[:, None] - self.scores[None, :], np.nan)

    @cached_property
    def difference_errors(self) -> Floats:
        """Standard errors of the differences, (n, n)."""
        variance = np.diag(self._covariance)
        return np.sqrt(np.maximum(variance[:, None] + variance[None, :] - 2 * self._covariance, 0.0))

    def p_values(self, *, correction: Literal["holm", "none"] = "holm") -> Floats:
        """Two-sided p-values of equal scores for every two items, (n, n), NaN on the diagonal.

        Under "holm" they are adjusted for all comparable pairs (Holm 1979, "A simple sequentially rejective multiple
        test procedure").
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            single = erfc(np.abs(self.differences / self.difference_errors) / math.sqrt(2))
        np.fill_diagonal(single, np.nan)
        if correction == "none":
            return single
        if correction != "holm":
            raise ValueError(f"Unknown correction {correction!r}; use holm or none.")
        upper = np.triu_indices(len(self.items), 1)
        values = single[upper]
        tested = np.flatnonzero(~np.isnan(values))
        order = tested[np.argsort(values[tested], kind="stable")]
        steps = values[order] * np.arange(len(order), 0, -1)
        values[order] = np.minimum(np.maximum.accumulate(steps), 1.0)
        single[upper] = values
        single.T[upper] = values
        return single

    def ranks(self) -> Floats:
        """Place of each item in its component by score, (n,), 1 is best; NaN where it is alone in it."""
        above = np.where(self.comparable, self.scores[None, :] > self.scores[:, None], False).sum(axis=1)
        return np.where(np.isnan(self.scores), np.nan, 1.0 + above)

    def rank_bands(
        self,
        *,
        level: float = 0.95,
        method: Literal["max-t", "bonferroni", "holm"] = "max-t",
        draws: int = 2000,
        seed: int = 0,
    ) -> Floats:
        """Lowest and highest rank of each item in its component, (n, 2), that hold for all items at once.

        An item is placed below those that are surely better and above those that are surely worse, by simultaneous
        tests of all pairs (Mogstad, Romano, Shaikh and Wilhelm 2024, "Inference for ranks with applications to
        mobility across neighbourhoods and academic achievement across countries", section 3). "max-t" takes the
        critical value from the joint distribution of the largest difference, simulated in `draws` draws; the
        others from Bonferroni's and Holm's inequalities.
        """
        if method == "holm":
            sure = self.p_values(correction="holm") < 1 - _share(level)
        elif method == "bonferroni":
            pairs = np.array([(size := int(n)) * (size - 1) / 2 for n in self._sizes])
            critical = ndtri(1 - (1 - _share(level)) / 2 / np.maximum(pairs, 1))
            sure = np.abs(self.differences) > critical[:, None] * self.difference_errors
        elif method == "max-t":
            critical = self._largest_t(level=_share(level), draws=draws, seed=seed)
            sure = np.abs(self.differences) > critical[:, None] * self.difference_errors
        else:
            raise ValueError(f"Unknown method {method!r}; use max-t, bonferroni or holm.")
        better = (sure & (self.differences < 0)).sum(axis=1)
        worse = (sure & (self.differences > 0)).sum(axis=1)
        bands = np.stack([1.0 + better, self._sizes - worse], axis=1)
        return np.where(np.isnan(self.scores)[:, None], np.nan, bands)

    def win_probabilities(self) -> Floats:
        """Expected outcome of the row's item against the column's, a tie counting half, (n, n).

        At no position and equal covariates. P + P' = 1, and 1/2 on the diagonal.
        """
        win, tie = self.outcome_probabilities()
        return win + tie / 2

    def outcome_probabilities(self) -> tuple[Floats, Floats]:
        """Probabilities that the row's item beats the column's, and that they tie, (n, n) each."""
        difference = self.differences
        if self.ties == "rao-kupper":
            width = self.effect("tie").value if self.has_tie_effect else 0.0
            win = 1 / (1 + np.exp(width - difference))
            return win, np.maximum(1 - win - win.T, 0.0)
        prevalence = math.exp(self.effect("tie").value) if self.has_tie_effect else 0.0
        up, down = np.exp(difference / 2), np.exp(-difference / 2)
        total = up + down + prevalence
        return up / total, prevalence / total

    @property
    def has_tie_effect(self) -> bool:
        """Whether a tie of two has a parameter of its own here."""
        return any(effect.name == "tie" for effect in self.effects)

    @property
    def _covariance(self) -> Floats:
        if self.covariance is None:
            raise ValueError("This fit was made without a covariance.")
        return self.covariance

    @property
    def _sizes(self) -> npt.NDArray[np.intp]:
        """How many items each item's component has, (n,)."""
        return np.bincount(self.component)[self.component]

    def _largest_t(self, *, level: float, draws: int, seed: int) -> Floats:
        """For each item: the quantile of the largest |t| of a difference within its component, (n,)."""
        critical, rng = np.full(len(self.items), np.inf), np.random.default_rng(seed)
        for component in np.unique(self.component):
            here = np.flatnonzero(self.component == component)
            here = here[~np.isnan(np.diag(self._covariance)[here])]
            if len(here) < 2:
                continue
            values, vectors = np.linalg.eigh(self._covariance[np.ix_(here, here)])
            root = vectors * np.sqrt(np.maximum(values, 0.0))
            a, b = np.triu_indices(len(here), 1)
            errors = self.difference_errors[here[a], here[b]]
            a, b, errors = a[errors > 0], b[errors > 0], errors[errors > 0]
            largest = np.empty(draws)
            for draw in range(draws):
                z = root @ rng.standard_normal(len(here))
                largest[draw] = np.abs((z[a] - z[b]) / errors).max(initial=0.0)
            critical[here] = np.quantile(largest, level)
        return critical


def _share(level: float) -> float:
    if not 0 < level < 1:
        raise ValueError(f"A level lies between 0 and 1, not {level}.")
    return level
