"""Ratings of single responses on named scales: reading them, and how well predictions follow them.

A row is {prompt, response, ratings: {name: number}}, or a row of the snapshot format `ratings` ({prompt, response,
scales: [name], values: [number]}). A scale may be missing from a row. Rows of one text are averaged scale by scale.
Figures are R^2 and Spearman's rank correlation on held-out responses, with intervals by drawing prompts again.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rewardmodel.contract import Message
from rewardmodel.data import DataError, _hash_prompt, _Place, parse_turns, read_rows

DRAWS = 1000


@dataclass(frozen=True)
class Rated:
    """One response and its ratings, scale by scale."""

    prompt: list[Message]
    response: list[Message]
    prompt_id: str
    ratings: dict[str, float]


@dataclass(frozen=True)
class Scales:
    """The attributes of a model in the order of its outputs, with mean and deviation of their training ratings."""

    names: list[str]
    means: np.ndarray
    deviations: np.ndarray

    def standardize(self, ratings: Mapping[str, float]) -> list[float]:
        """(rating - mean) / deviation of every attribute; NaN where it was not rated."""
        return [
            (ratings[name] - mean) / deviation if name in ratings else math.nan
            for name, mean, deviation in zip(self.names, self.means, self.deviations, strict=True)
        ]


def read_ratings(path: str | Path) -> list[Rated]:
    """The rated responses of a file, those of one text averaged. Raises DataError at the first fault."""
    file = Path(path)
    found: dict[tuple[str, str], tuple[Rated, dict[str, list[float]]]] = {}
    for line, row in read_rows(file):
        place = _Place(file, line)
        prompt = parse_turns(row.get("prompt"), role="user", field="prompt", place=place)
        response = parse_turns(row.get("response"), role="assistant", field="response", place=place)
        own = _read_scales(row, place=place)
        prompt_id = _hash_prompt(prompt)
        rated = Rated(prompt, response, prompt_id, {})
        _, known = found.setdefault((prompt_id, _hash_prompt(response)), (rated, {}))
        for name, value in own.items():
            known.setdefault(name, []).append(value)
    if not found:
        raise DataError(f"{file} holds no rows")
    return [
        Rated(one.prompt, one.response, one.prompt_id, {name: math.fsum(v) / len(v) for name, v in known.items()})
        for one, known in found.values()
    ]


def _read_scales(row: Mapping[str, Any], *, place: _Place) -> dict[str, float]:
    if "ratings" in row:
        given = row["ratings"]
        if not isinstance(given, dict):
            raise place.fault("ratings", "expected a mapping scale -> number")
    else:
        names, values = row.get("scales"), row.get("values")
        if not isinstance(names, list) or not isinstance(values, list) or len(names) != len(values):
            raise place.fault("ratings", "missing (or `scales` and as many `values`)")
        given = dict(zip(names, values, strict=True))
    known = {str(name): value for name, value in given.items() if value is not None}
    if not known:
        raise place.fault("ratings", "no scale is rated")
    for name, value in known.items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise place.fault(f"ratings.{name}", f"expected a finite number, found {value!r}")
    return {name: float(value) for name, value in known.items()}


def find_scales(rated: Sequence[Rated]) -> Scales:
    """The attributes of training rows. Raises DataError for one on which all agree."""
    names = list(dict.fromkeys(name for one in rated for name in one.ratings))
    columns = [np.array([one.ratings[name] for one in rated if name in one.ratings]) for name in names]
    for name, column in zip(names, columns, strict=True):
        if column.std() == 0:
            raise DataError(f"data: every training rating of {name!r} is {column[0]:g}; nothing can be learned of it")
    return Scales(names, np.array([c.mean() for c in columns]), np.array([c.std() for c in columns]))


def settle_weights(given: Mapping[str, float] | None, *, names: Sequence[str]) -> list[float]:
    """The weight of each attribute in the score: as given (0 for one not named), or the same for all, summing to 1."""
    if given is None:
        return [1 / len(names)] * len(names)
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
            hint = f"did you mean {near[0]!r}?" if near else f"the data rate {', '.join(names)}"
            raise DataError(f"attribute_weights: unknown {name!r}: {hint}")
    return [float(given.get(name, 0.0)) for name in names]


def summarize_ratings(
    predictions: np.ndarray, *, rated: Sequence[Rated], names: Sequence[str]
) -> dict[str, dict[str, Any]]:
    """Of each attribute {n, r2, r2_interval, spearman, spearman_interval, mean_absolute_error}.

    predictions: (n, names), in the units of the ratings. r2 is against the test ratings' own mean; None where all are
    equal.
    """
    prompts = [one.prompt_id for one in rated]
    figures = {}
    for column, name in enumerate(names):
        places = [i for i, one in enumerate(rated) if name in one.ratings]
        truth = np.array([rated[i].ratings[name] for i in places])
        said = predictions[places, column]
        groups = _group([prompts[i] for i in places])
        figures[name] = {
            "n": len(places),
            "r2": _finite(r_squared(said, truth=truth)),
            "r2_interval": _draw(said, truth, groups, figure=lambda s, t: r_squared(s, truth=t)),
            "spearman": _finite(spearman(said, truth)),
            "spearman_interval": _draw(said, truth, groups, figure=spearman),
            "mean_absolute_error": _finite(float(np.abs(said - truth).mean()) if places else math.nan),
        }
    return figures


def r_squared(said: np.ndarray, *, truth: np.ndarray) -> float:
    """1 - sum (t - s)^2 / sum (t - mean t)^2; NaN where the truth does not vary."""
    spread = float(((truth - truth.mean()) ** 2).sum()) if len(truth) else 0.0
    return 1 - float(((truth - said) ** 2).sum()) / spread if spread > 0 else math.nan


def spearman(one: np.ndarray, other: np.ndarray) -> float:
    """Pearson's correlation of mid-ranks; NaN where either does not vary."""
    if len(one) < 2:
        return math.nan
    a, b = _rank(one), _rank(other)
    a, b = a - a.mean(), b - b.mean()
    norm = math.sqrt(float((a**2).sum() * (b**2).sum()))
    return float((a * b).sum()) / norm if norm > 0 else math.nan


def _rank(values: np.ndarray) -> np.ndarray:
    """Ranks from 1, equal values sharing the mean of theirs."""
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    return (ends - (counts - 1) / 2)[inverse]


def _group(prompts: Sequence[str]) -> list[np.ndarray]:
    places: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        places.setdefault(prompt, []).append(place)
    return [np.array(own) for own in places.values()]


def _draw(said: np.ndarray, truth: np.ndarray, groups: Sequence[np.ndarray], *, figure: Any) -> list[float] | None:
    """95 % interval of a figure by drawing prompts with replacement; None for fewer than two prompts."""
    if len(groups) < 2:
        return None
    generator = np.random.default_rng(0)
    found = []
    for _ in range(DRAWS):
        rows = np.concatenate([groups[i] for i in generator.integers(len(groups), size=len(groups))])
        value = figure(said[rows], truth[rows])
        if math.isfinite(value):
            found.append(value)
    return [float(bound) for bound in np.quantile(found, [0.025, 0.975])] if len(found) >= DRAWS / 2 else None


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
