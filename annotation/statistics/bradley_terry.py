"""Bradley–Terry scores from comparisons, with ties, position, covariates, contexts and honest errors.

P(left beats right) = e^eta / (1 + e^eta), where eta = s_left - s_right + position + covariates · beta (Bradley and
Terry 1952, "Rank analysis of incomplete block designs"). Comparisons are added up by pair, and Newton's method works on
the pairs. Items that Ford's condition keeps apart are scored in sets of their own (see `connectivity`); only a prior,
asked for by `ridge`, puts finite numbers between them.

    fitted = fit(["a", "a", "b", "c"], ["b", "c", "c", "a"], [1, 0.5, 1, 1])
    fitted.scores, fitted.intervals(), fitted.rank_bands(), fitted.win_probabilities()
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from scipy.sparse import coo_array, issparse

from annotation.statistics.codes import (
    Floats,
    Integers,
    Labels,
    Names,
    encode_columns,
    pack_identifiers,
    range_of,
    read_groupings,
    read_weights,
    sort_names,
    weights_of,
)
from annotation.statistics.counting import (
    LOSS,
    PIECE,
    TIE,
    WIN,
    Cells,
    Outcomes,
    count_cells,
    is_table_worth,
    place_rows,
)
from annotation.statistics.estimation import Covariance
from annotation.statistics.fits import Fit
from annotation.statistics.pair_likelihood import Data, Design, Settings, Ties, fit_data, no_design


def fit(
    left: Labels,
    right: Labels,
    outcomes: Labels | float = 1.0,
    *,
    labels: Mapping[Any, float] | None = None,
    items: Sequence[Hashable] | None = None,
    weights: npt.ArrayLike | None = None,
    ties: Ties = "half",
    position: bool | npt.ArrayLike = False,
    covariates: npt.ArrayLike | None = None,
    covariate_names: Sequence[str] | None = None,
    covariate_ridge: float = 0.0,
    contexts: npt.ArrayLike | None = None,
    context_names: Sequence[str] | None = None,
    context_ridge: float = 1.0,
    ridge: float = 0.0,
    clusters: Labels | tuple[Labels, Labels] | None = None,
    covariance: Covariance = "robust",
    bootstrap: int = 0,
    seed: int = 0,
    reference: Hashable | None = None,
) -> Fit:
    """Fit N comparisons, of `left[r]` with `right[r]`.

    left, right: (N,) names, or integers (see `codes.encode_items`).
    outcomes: (N,) 1 where the left won, 0 where the right did, 1/2 for a tie; or one number for all; or names that
        `labels` turns into these. Under ties="half" anything between 0 and 1 is a soft label.
    weights: (N,) importance, 0 or more. A row of weight 2 counts twice in the scores, once in the errors.
    ties: "half" counts half a win for each; "davidson" (1970) and "rao-kupper" (1967) give ties a parameter, the
        effect "tie" (see `tie_models`).
    position: True where the left was shown first and that may be worth something: the effect "position"; or (N,)
        +1, -1, 0 where the left was shown first, the right was, or neither.
    covariates: (N, p) features of the left less those of the right (see `style_differences`): effects by name.
    contexts: (N, c) features of the comparison (1 in the context, 0 outside); an item's score may deviate by context,
        with the prior precision `context_ridge`.
    ridge, covariate_ridge: prior precisions of scores and covariates, 0 for none. A ridge joins all items.
    clusters: (N,) the group (ranking, annotator, prompt) within which judgements may depend on each other, or two such
        groupings as a tuple. By default every comparison stands for itself.
    covariance: "robust" (sandwich), "model" (inverse information, for independent rows of the very model) or "none".
    bootstrap: how many samples to draw, by the first grouping, with exponential weights, so that no sample falls apart
        (Xu, Gotwalt, Hong, King and Meeker 2020, "Applications of the fractional-random-weight bootstrap").
    reference: the item at 0; otherwise the mean of each component is.

    Raises ValueError for unreadable data, fewer than two items, an item compared with itself, and effects that these
    data cannot tell.
    """
    settings = Settings(
        ties=ties, ridge=ridge, covariate_ridge=covariate_ridge, context_ridge=context_ridge, covariance=covariance,
        bootstrap=bootstrap, seed=seed,
    )  # fmt: skip
    (first, second), names = encode_columns(left, right, items=items)
    rows = len(first)
    if rows == 0 or len(second) != rows:
        raise ValueError(f"Comparisons need two sides of equal length, at least one, not {rows} and {len(second)}.")
    results = _read_outcomes(outcomes, labels=labels, rows=rows)
    importance = None if weights is None else read_weights(weights, rows=rows)
    groupings = read_groupings(clusters, rows=rows)
    columns = _read_position(position, rows=rows)
    columns |= _read_features(covariates, names=covariate_names, rows=rows, what="covariate")
    features = _read_features(contexts, names=context_names, rows=rows, what="context")
    design = Design(
        effects=np.stack(list(columns.values()), axis=1) if columns else np.empty((rows, 0)),
        names=tuple(columns),
        penalties=tuple(0.0 if name == "position" else covariate_ridge for name in columns),
        contexts=np.stack(list(features.values()), axis=1) if features else np.empty((rows, 0)),
        context_names=tuple(features),
    )
    add_up = _keep_rows if set(columns) - {"position"} or features or np.ndim(position) else _add_up
    data = add_up(
        first, second=second, outcomes=results, names=names, weights=importance, design=design, ties=ties,
        with_rows=bool(groupings) or (bootstrap > 0 and importance is not None),
    )  # fmt: skip
    _check(data)
    fitted = fit_data(data if items is not None else _tidy_names(data), groupings=groupings, settings=settings)
    return fitted if reference is None else fitted.anchored(reference)


def fit_wins(
    wins: Any,
    *,
    tied: Any = None,
    items: Sequence[Hashable] | None = None,
    ties: Ties = "half",
    ridge: float = 0.0,
    covariance: Covariance = "robust",
    bootstrap: int = 0,
    seed: int = 0,
    reference: Hashable | None = None,
) -> Fit:
    """Fit a table of counts: `wins[i, j]` is how often i beat j, (n, n), dense or scipy.sparse.

    `tied[i, j]` + `tied[j, i]` is how often they tied. Every count is a comparison that stands for itself; otherwise
    as `fit`. Raises ValueError for tables that are not square, negative or not finite, and as `fit` does.
    """
    settings = Settings(ties=ties, ridge=ridge, covariance=covariance, bootstrap=bootstrap, seed=seed)
    won, even = _read_table(wins, what="wins"), None if tied is None else _read_table(tied, what="tied")
    n = won.shape[0]
    names = tuple(range(n)) if items is None else tuple(items)
    if len(names) != n or (even is not None and even.shape[0] != n):
        raise ValueError("wins, tied and items must be of the same items.")
    parts = [(won, WIN)] if even is None else [(won, WIN), (even, TIE)]
    counts = np.concatenate([part.data for part, _level in parts])
    if not counts.any():
        raise ValueError("There are no comparisons.")
    placed = place_rows(
        np.concatenate([part.row for part, _level in parts]),
        right=np.concatenate([part.col for part, _level in parts]),
        outcomes=Outcomes(np.concatenate([np.full(part.nnz, level) for part, level in parts]), scale=1),
        weights=counts,
        n=n,
        ordered=False,
    )
    assert placed is not None  # the levels are ours
    cells = placed[1]
    count = round(float(counts.sum()))
    cells = replace(cells, squares=cells.sums)
    data = Data(names, cells=cells, design=no_design(len(cells.left)), rows=None, count=count)
    _check(data)
    fitted = fit_data(data, groupings=[], settings=settings)
    return fitted if reference is None else fitted.anchored(reference)


def style_differences(
    left: npt.ArrayLike,
    *,
    right: npt.ArrayLike,
    relative: bool = True,
    standardise: Literal["scale", "z", "none"] = "scale",
) -> Floats:
    """Covariates (N, p) that control for style, from features (N, p) of both sides: tokens, headings, lists, code.

    relative: (left - right) / (left + right), 0 where both are 0, as LMArena's style control has it. standardise:
    "scale" divides by the root mean square, so that changing sides changes the sign alone; "z", as LMArena does, also
    takes off the mean, which is right only where the sides were drawn at random. Raises ValueError on other shapes and
    values that are not finite.
    """
    first, second = np.asarray(left, dtype=float), np.asarray(right, dtype=float)
    if first.ndim != 2 or first.shape != second.shape or not np.isfinite(first + second).all():
        raise ValueError("Features must be two finite tables of the same shape (N, p).")
    difference, total = first - second, first + second
    if relative:
        difference = np.divide(difference, total, out=np.zeros_like(difference), where=total != 0)
    if standardise == "none":
        return difference
    if standardise == "z":
        difference = difference - difference.mean(axis=0)
    elif standardise != "scale":
        raise ValueError(f"Unknown standardise {standardise!r}; use scale, z or none.")
    spread = np.sqrt((difference**2).mean(axis=0))
    return difference / np.where(spread == 0, 1.0, spread)


def _add_up(
    left: Integers, *, second: Integers, outcomes: Outcomes, names: Names | None, weights: Floats | None,
    design: Design, ties: str, with_rows: bool,
) -> Data:  # fmt: skip
    """Rows that differ in nothing but their items and outcomes, added up by pair."""
    ordered, count, rows = bool(design.names), len(left), None
    by_table = weights is None and not with_rows

    def count_among(n: int) -> Cells | None:
        is_worth = by_table and n > 0 and is_table_worth(n, rows=count)
        return count_cells(left, right=second, outcomes=outcomes, n=n, ordered=ordered) if is_worth else None

    cells = None
    if names is None:  # the first rows show most identifiers: one look less at millions if they show all
        guess = range_of(left[:PIECE], second[:PIECE])[1] + 1
        if (cells := count_among(guess)) is not None:
            names = tuple(range(guess))
        else:
            (left, second), names = pack_identifiers([left, second])
    cells = count_among(len(names)) if cells is None else cells
    if cells is None and (
        placed := place_rows(left, right=second, outcomes=outcomes, weights=weights, n=len(names), ordered=ordered)
    ):
        rows, cells = placed
    if cells is None:
        return _keep_rows(
            left, second=second, outcomes=outcomes, names=names, weights=weights, design=design, ties=ties,
            with_rows=True,
        )  # fmt: skip
    effects, contexts = np.ones((len(cells.left), len(design.names))), np.empty((len(cells.left), 0))
    design = replace(design, effects=effects, contexts=contexts)
    return Data(names, cells=cells, design=design, rows=rows if with_rows else None, count=count)


def _keep_rows(
    left: Integers, *, second: Integers, outcomes: Outcomes, names: Names | None, weights: Floats | None,
    design: Design, ties: str, with_rows: bool,
) -> Data:  # fmt: skip
    """Every row a cell by itself: rows with features of their own, or soft labels."""
    if names is None:
        (left, second), names = pack_identifiers([left, second])
    level, given = outcomes.levels(), np.ones(len(left)) if weights is None else weights
    sums = np.zeros((3, len(left)))
    if level is not None:
        sums[level, np.arange(len(left))] = given
    else:
        share = outcomes.values * (outcomes.scale / 2)
        if not ((share >= 0) & (share <= 1)).all():
            raise ValueError("Outcomes must lie between 0 (the right won) and 1 (the left did), and none be missing.")
        if ties != "half":
            raise ValueError(f"Under ties={ties!r} outcomes must be 0, 1/2 or 1; soft labels need ties='half'.")
        sums[WIN], sums[LOSS] = given * share, given * (1 - share)
    cells = Cells(left=left.astype(np.intp), right=second.astype(np.intp), sums=sums, squares=None)
    return Data(names, cells=cells, design=design, rows=None, count=len(left))


def _tidy_names(data: Data) -> Data:
    """The names in order, without the integers that were no item of any comparison."""
    cells = data.cells
    seen = np.zeros(len(data.names), dtype=bool)
    seen[cells.left], seen[cells.right] = True, True
    is_identified = isinstance(data.names[0], int)
    names = sort_names(
        name for name, is_seen in zip(data.names, seen, strict=True) if is_seen or not is_identified
    )  # fmt: skip
    if names == data.names:
        return data
    place = {name: code for code, name in enumerate(names)}
    code = np.array([place.get(name, 0) for name in data.names])
    return replace(data, names=names, cells=replace(cells, left=code[cells.left], right=code[cells.right]))


def _check(data: Data) -> None:
    """Raises ValueError where an item meets itself, nobody counts, or there is one item only."""
    same = np.flatnonzero(data.cells.left == data.cells.right)
    if len(same):
        raise ValueError(f"{data.names[data.cells.left[same[0]]]!r} is compared with itself.")
    if len(data.names) < 2:
        raise ValueError("A comparison needs at least two items.")
    if not data.cells.sums.any():
        raise ValueError("Every weight is 0.")


def _read_outcomes(outcomes: Any, *, labels: Mapping[Any, float] | None, rows: int) -> Outcomes:
    if labels is not None:
        if not all(0 <= value <= 1 for value in labels.values()):
            raise ValueError("labels must turn names into outcomes between 0 (the right won) and 1 (the left did).")
        levels = {name: round(2 * value) for name, value in labels.items()}
        if all(levels[name] == 2 * value for name, value in labels.items()):
            return Outcomes(_of_length(weights_of(outcomes, table=levels, kind=np.int8), rows=rows), scale=1)
        outcomes = weights_of(outcomes, table=labels)
    if np.ndim(outcomes) == 0:
        return Outcomes(np.full(rows, float(outcomes)))
    results = np.asarray(outcomes)
    if results.dtype.kind not in "iufb":
        raise ValueError("Outcomes must be numbers, or names that labels turns into numbers.")
    return Outcomes(_of_length(results, rows=rows))


def _of_length(outcomes: npt.NDArray[Any], *, rows: int) -> npt.NDArray[Any]:
    if outcomes.shape != (rows,):
        raise ValueError(f"Outcomes must have shape ({rows},), not {outcomes.shape}.")
    return outcomes


def _read_position(position: bool | npt.ArrayLike, *, rows: int) -> dict[str, Floats]:
    if position is False:
        return {}
    if position is True:
        return {"position": np.empty(rows)}
    given = np.asarray(position, dtype=float)
    if given.shape != (rows,) or not np.isin(given, (-1, 0, 1)).all():
        raise ValueError(f"Positions must be {rows} numbers, each 1, -1 or 0.")
    return {"position": given}


def _read_features(
    features: npt.ArrayLike | None, *, names: Sequence[str] | None, rows: int, what: str
) -> dict[str, Floats]:
    if features is None:
        return {}
    table = np.asarray(features, dtype=float)
    if table.ndim != 2 or len(table) != rows or not np.isfinite(table).all():
        raise ValueError(f"A {what} must be a column of a finite table with {rows} rows.")
    named = [f"{what} {k}" for k in range(1, table.shape[1] + 1)] if names is None else list(names)
    if len(set(named)) != table.shape[1] or {"position", "tie"} & set(named):
        raise ValueError(f"Every {what} needs a name of its own, other than position and tie.")
    return dict(zip(named, table.T, strict=True))


def _read_table(table: Any, *, what: str) -> coo_array:
    read = coo_array(table if issparse(table) else np.asarray(table, dtype=float))
    if read.ndim != 2 or read.shape[0] != read.shape[1]:
        raise ValueError(f"{what} must be a square table.")
    if not np.isfinite(read.data).all() or (read.data < 0).any():
        raise ValueError(f"{what} must hold finite counts of 0 or more.")
    return read
