"""When judgements are enough to separate A from B, however often one looks.

A p-value of fixed size is wrong under such looking. These stay right at any time of stopping: mixture sequential
probability ratios are martingales where A and B are equal, and Ville's inequality bounds the chance that one ever
reaches 1/α by α (Robbins 1970, "Statistical methods related to the law of the iterated logarithm"; Johari, Koomen,
Pekelis and Walsh 2022, "Always valid inference").

`separate_by_counts` reads judgements of A against B and is exact; `separate_by_scores` reads scores of a fit that
connects them through others and holds asymptotically (Waudby-Smith, Arbour, Sinha, Kennedy and Ramdas 2024,
"Time-uniform central limit theory and asymptotic confidence sequences").
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.special import betaln

Floats = npt.NDArray[np.float64]

ALPHA = 0.05
MOST_JUDGEMENTS = 10**9
MOST_GROWTH = 1000


@dataclass(frozen=True)
class Separation:
    """Whether A and B are told apart at level α: then `better` is "a" or "b".

    `p_value` holds at whatever moment one stops; `interval` covers the truth at all times together with probability
    1 - α: of the chance that A wins (ties aside), or of the difference of scores. `more`: about how many more
    judgements would do if things go on as they went; 0 where they are separated, None where no number can be named.
    """

    separated: bool
    better: str | None
    p_value: float
    interval: tuple[float, float]
    more: int | None


def separate_by_counts(
    wins: int, *, losses: int, ties: int = 0, alpha: float = ALPHA, pairs: int = 1, prior: float = 1.0
) -> Separation:
    """Test whether A, who won `wins` of the judgements against B, is as likely to win as to lose.

    Ties say nothing of which is better and only cost judgements. The chance of winning has a Beta(prior, prior) mixture
    under the alternative. `pairs`: how many pairs are tested, each at α / pairs (Bonferroni). Judgements must be
    independent: several by one annotator, or of one prompt, need `separate_by_scores` with clustered errors. Raises
    ValueError on negative counts, and unless 0 < alpha < 1.
    """
    level = _level(alpha, pairs=pairs)
    if min(wins, losses, ties) < 0 or not prior > 0:
        raise ValueError("Counts must not be negative, and the prior must be positive.")
    evidence = float(_log_ratios(np.array([wins]), losses=np.array([losses]), prior=prior)[0])
    separated = evidence >= -math.log(level)
    return Separation(
        separated=separated,
        better=("a" if wins > losses else "b") if separated else None,
        p_value=min(1.0, pairs * math.exp(-max(evidence, 0.0))),
        interval=_interval_of_share(wins, losses=losses, level=level, prior=prior),
        more=0 if separated else _more_judgements(wins, losses=losses, ties=ties, level=level, prior=prior),
    )


def first_separation(
    outcomes: npt.ArrayLike, *, alpha: float = ALPHA, pairs: int = 1, prior: float = 1.0
) -> int | None:
    """After how many judgements (1 A won, 0 B did, 1/2 a tie) A and B were first separated; None if never."""
    score = np.asarray(outcomes, dtype=float)
    if score.ndim != 1 or not np.isin(score, (0.0, 0.5, 1.0)).all():
        raise ValueError("An outcome must be 1 (A won), 0 (B won) or 1/2 (a tie).")
    ratios = _log_ratios(np.cumsum(score == 1), losses=np.cumsum(score == 0), prior=prior)
    crossed = np.flatnonzero(ratios >= -math.log(_level(alpha, pairs=pairs)))
    return int(crossed[0]) + 1 if len(crossed) else None


def judgements_needed(share: float, *, alpha: float = ALPHA, pairs: int = 1, prior: float = 1.0) -> int | None:
    """About how many judgements without ties separate A from B where A wins this share of them; None for a half.

    The number at which the evidence of exactly that share reaches 1/α.
    """
    if not 0 <= share <= 1:
        raise ValueError(f"A share must lie between 0 and 1, not be {share}.")
    level = _level(alpha, pairs=pairs)

    def suffices(n: int) -> bool:
        ratios = _log_ratios(np.array([n * share]), losses=np.array([n * (1 - share)]), prior=prior)
        return bool(ratios[0] >= -math.log(level))

    high = 1
    while not suffices(high):
        high *= 2
        if high > MOST_JUDGEMENTS:
            return None
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if suffices(middle) else (middle, high)
    return high


def separate_by_scores(
    difference: float, *, standard_error: float, alpha: float = ALPHA, pairs: int = 1, scale: float = 0.5
) -> Separation:
    """Test whether two scores are equal, from their `difference` a - b and its standard error so far.

    The mixture over the difference is normal with standard deviation `scale` (in log-worths, the size of difference
    that is found soonest). Asymptotic: give it a fit of some dozens of judgements a pair or more, with errors clustered
    as the judgements are. `more` is not known here. Raises ValueError unless the error and the scale are positive.
    """
    level = _level(alpha, pairs=pairs)
    if not (standard_error > 0 and scale > 0 and math.isfinite(difference) and math.isfinite(standard_error)):
        raise ValueError("The standard error and the scale must be positive, and the difference finite.")
    spread = (scale / standard_error) ** 2
    evidence = spread / (1 + spread) * (difference / standard_error) ** 2 / 2 - math.log1p(spread) / 2
    margin = standard_error * math.sqrt((1 + spread) / spread * (math.log1p(spread) - 2 * math.log(level)))
    separated = evidence >= -math.log(level)
    return Separation(
        separated=separated,
        better=("a" if difference > 0 else "b") if separated else None,
        p_value=min(1.0, pairs * math.exp(-max(evidence, 0.0))),
        interval=(difference - margin, difference + margin),
        more=0 if separated else None,
    )


def growth_needed(
    differences: npt.ArrayLike,
    *,
    standard_errors: npt.ArrayLike,
    alpha: float = ALPHA,
    pairs: int = 1,
    scale: float = 0.5,
) -> Floats:
    """How many times the judgements so far would separate each two scores, by the rule of `separate_by_scores`.

    If differences stay as they are, and errors shrink as the root of the number. 1 where the two are separated already,
    NaN where more than a thousand times as many would be needed, or one of both numbers is not known. Any shape.
    """
    level = _level(alpha, pairs=pairs)
    difference, error = np.broadcast_arrays(np.asarray(differences, float), np.asarray(standard_errors, float))
    with np.errstate(divide="ignore", invalid="ignore"):
        spread, squared = (scale / error) ** 2, (difference / error) ** 2

    def suffices(growth: Floats) -> npt.NDArray[np.bool_]:
        r = spread * growth
        with np.errstate(invalid="ignore"):
            return r / (1 + r) * squared * growth / 2 - np.log1p(r) / 2 >= -math.log(level)

    low, high = np.ones(difference.shape), np.full(difference.shape, float(MOST_GROWTH))
    reachable, now = suffices(high), suffices(low)
    for _step in range(50):
        middle = np.sqrt(low * high)
        enough = suffices(middle)
        low, high = np.where(enough, low, middle), np.where(enough, middle, high)
    return np.where(now, 1.0, np.where(reachable, high, np.nan))


def _log_ratios(wins: npt.NDArray[np.generic], *, losses: npt.NDArray[np.generic], prior: float) -> Floats:
    """log of ∫ p^wins (1 - p)^losses dBeta(prior, prior) over 1/2^(wins + losses)."""
    won, lost = np.asarray(wins, dtype=float), np.asarray(losses, dtype=float)
    ratios: Floats = betaln(prior + won, prior + lost) - betaln(prior, prior) + (won + lost) * math.log(2)
    return ratios


def _interval_of_share(wins: int, *, losses: int, level: float, prior: float) -> tuple[float, float]:
    """The chances p that the mixture has not refuted: B(prior + w, prior + l) / B(prior, prior) < p^w (1 - p)^l / α."""
    mixed = float(betaln(prior + wins, prior + losses) - betaln(prior, prior)) + math.log(level)
    if not wins + losses:
        return 0.0, 1.0

    def is_refuted(p: float) -> bool:
        return (wins * math.log(p) if wins else 0.0) + (losses * math.log1p(-p) if losses else 0.0) <= mixed

    share = wins / (wins + losses)
    return _edge(0.0, inside=share, is_refuted=is_refuted), _edge(1.0, inside=share, is_refuted=is_refuted)


def _edge(outside: float, *, inside: float, is_refuted: Callable[[float], bool]) -> float:
    """Where refuted turns into not refuted, between the end of the range and the share observed."""
    if inside == outside:
        return outside
    for _step in range(60):
        middle = (outside + inside) / 2
        outside, inside = (middle, inside) if is_refuted(middle) else (outside, middle)
    return outside


def _more_judgements(wins: int, *, losses: int, ties: int, level: float, prior: float) -> int | None:
    """Judgements still to come if the shares stay as they are, ties included."""
    if wins == losses:
        return None
    n = wins + losses
    needed = judgements_needed(wins / n, alpha=level, prior=prior)
    if needed is None:
        return None
    return max(1, math.ceil((needed - n) * (n + ties) / n))


def _level(alpha: float, *, pairs: int) -> float:
    if not 0 < alpha < 1 or pairs < 1:
        raise ValueError(
            f"The level must lie between 0 and 1 and be shared by a pair at least, not {alpha} by {pairs}."
        )
    return alpha / pairs
