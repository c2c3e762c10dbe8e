"""How a comparison ends, given the odds eta of its left against its right: three models of ties.

Each function takes eta (M,), the tie parameter and the sums (3, M) of losses, ties and wins, and returns their log
likelihood with its first derivatives by outcome and minus its second derivatives by cell.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
from scipy.special import expit

Floats: TypeAlias = npt.NDArray[np.float64]
LOSS, TIE, WIN = 0, 1, 2
TINY = 1e-300


@dataclass(frozen=True)
class Terms:
    """`by_eta`, `by_tie`: derivative of one loss, tie, win, (3, M). `ee`, `et`, `tt`: information, weighted, (M,)."""

    value: float
    by_eta: Floats
    by_tie: Floats
    ee: Floats
    et: Floats
    tt: Floats


def half(eta: Floats, *, tie: float, sums: Floats) -> Terms:
    """A tie is half a win and half a loss of the plain model."""
    p, none = expit(eta), np.zeros(1)
    count, losses = sums[LOSS] + sums[TIE] + sums[WIN], sums[LOSS] + sums[TIE] / 2
    return Terms(
        value=float(count @ np.log(np.maximum(p, TINY)) - losses @ eta),
        by_eta=np.stack([-p, 0.5 - p, 1 - p]),
        by_tie=np.zeros((3, 1)),
        ee=count * (p - p * p),
        et=none,
        tt=none,
    )


def davidson(eta: Floats, *, tie: float, sums: Floats) -> Terms:
    """P(win) : P(tie) : P(loss) = e^(eta/2) : nu : e^(-eta/2), nu = e^tie (Davidson 1970, equation 2.2).

    An exponential family in (wins - losses) / 2 and ties; the information is their covariance.
    """
    half_eta = eta / 2
    largest = np.maximum(np.abs(half_eta), tie)
    up, even, down = (np.exp(part - largest) for part in (half_eta, tie, -half_eta))
    total = up + even + down
    win, draw, loss = up / total, even / total, down / total
    mean = (win - loss) / 2
    count = sums.sum(axis=0)
    return Terms(
        value=float(((sums[WIN] - sums[LOSS]) @ half_eta) + tie * sums[TIE].sum() - count @ (largest + np.log(total))),
        by_eta=np.stack([-0.5 - mean, -mean, 0.5 - mean]),
        by_tie=np.stack([-draw, 1 - draw, -draw]),
        ee=count * ((win + loss) / 4 - mean**2),
        et=-count * mean * draw,
        tt=count * draw * (1 - draw),
    )


def rao_kupper(eta: Floats, *, tie: float, sums: Floats) -> Terms:
    """P(win) = 1 / (1 + theta e^-eta), P(loss) = 1 / (1 + theta e^eta), theta = e^tie > 1 (Rao and Kupper 1967).

    P(tie) = (theta^2 - 1) P(win) P(loss), so that a tie counts as a win, a loss, and a term of theta alone.
    """
    if tie <= 0:
        nothing = np.zeros((3, len(eta)))
        return Terms(-math.inf, by_eta=nothing, by_tie=nothing, ee=nothing[0], et=nothing[0], tt=nothing[0])
    win, loss = expit(eta - tie), expit(-eta - tie)
    wins, losses, ties = sums[WIN] + sums[TIE], sums[LOSS] + sums[TIE], sums[TIE]
    spread = math.expm1(2 * tie)
    value = wins @ np.log(np.maximum(win, TINY)) + losses @ np.log(np.maximum(loss, TINY))
    won, lost = wins * win * (1 - win), losses * loss * (1 - loss)
    slope = 2 * (spread + 1) / spread
    return Terms(
        value=float(value + ties.sum() * math.log(spread)),
        by_eta=np.stack([loss - 1, loss - win, 1 - win]),
        by_tie=np.stack([loss - 1, slope - 2 + win + loss, win - 1]),
        ee=won + lost,
        et=lost - won,
        tt=won + lost + ties * 4 * (spread + 1) / spread**2,
    )


MODELS = {"half": half, "davidson": davidson, "rao-kupper": rao_kupper}


def starting_tie(ties: str, *, share: float) -> float:
    """The tie parameter that explains a `share` of ties among items of equal worth."""
    if ties == "davidson":
        return math.log(2 * share / (1 - share))
    return math.log((1 + share) / (1 - share))
