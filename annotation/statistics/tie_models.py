"""How a comparison ends, given the log odds eta of its left against its right: three models of ties.

Each is made of the sums (3, M) of losses, ties and wins of M cells, and says at eta (M,) and at a tie parameter what
their log likelihood is, with its first derivatives and minus its second ones.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
import numpy.typing as npt

Floats: TypeAlias = npt.NDArray[np.float64]
LOSS, TIE, WIN = 0, 1, 2
TINY = 1e-300


@dataclass(frozen=True)
class Terms:
    """Log likelihood; its derivatives by eta, (M,), and by the tie parameter; information of both, (M,) or (1,)."""

    value: float
    by_eta: Floats
    by_tie: float
    ee: Floats
    et: Floats
    tt: Floats


class TieModel(Protocol):
    """A model of ties, made of sums."""

    def __init__(self, sums: Floats) -> None: ...

    def terms(self, eta: Floats, *, tie: float) -> Terms:
        """All cells at once."""

    def by_outcome(self, eta: Floats, *, tie: float) -> tuple[Floats, Floats]:
        """Derivatives of a single loss, tie and win by eta and by the tie parameter, (3, M) each."""


class Half:
    """A tie is half a win and half a loss of the plain model."""

    def __init__(self, sums: Floats) -> None:
        self.count, self.wins = sums[LOSS] + sums[TIE] + sums[WIN], sums[WIN] + sums[TIE] / 2

    def terms(self, eta: Floats, *, tie: float) -> Terms:
        p, none = chance(eta), np.zeros(1)
        value = self.count @ np.log(np.maximum(p, TINY)) - (self.count - self.wins) @ eta
        expected = self.count * p
        return Terms(float(value), self.wins - expected, 0.0, ee=expected * (1 - p), et=none, tt=none)

    def by_outcome(self, eta: Floats, *, tie: float) -> tuple[Floats, Floats]:
        p = chance(eta)
        return np.stack([-p, 0.5 - p, 1 - p]), np.zeros((3, len(p)))


class Davidson:
    """P(win) : P(tie) : P(loss) = e^(eta/2) : nu : e^(-eta/2), nu = e^tie (Davidson 1970, equation 2.2).

    An exponential family in (wins - losses) / 2 and ties; the information is their covariance.
    """

    def __init__(self, sums: Floats) -> None:
        self.count, self.lead, self.ties = sums[LOSS] + sums[TIE] + sums[WIN], (sums[WIN] - sums[LOSS]) / 2, sums[TIE]

    def terms(self, eta: Floats, *, tie: float) -> Terms:
        spread, draw, mean, total = self._chances(eta, tie=tie)
        value = self.lead @ eta + tie * self.ties.sum() - self.count @ total
        return Terms(
            value=float(value),
            by_eta=self.lead - self.count * mean,
            by_tie=float((self.ties - self.count * draw).sum()),
            ee=self.count * (spread / 4 - mean * mean),
            et=-self.count * mean * draw,
            tt=self.count * draw * (1 - draw),
        )

    def by_outcome(self, eta: Floats, *, tie: float) -> tuple[Floats, Floats]:
        _spread, draw, mean, _total = self._chances(eta, tie=tie)
        return np.stack([-0.5 - mean, -mean, 0.5 - mean]), np.stack([-draw, 1 - draw, -draw])

    def _chances(self, eta: Floats, *, tie: float) -> tuple[Floats, Floats, Floats, Floats]:
        """P(win) + P(loss), P(tie), (P(win) - P(loss)) / 2, and the logarithm of what they were divided by."""
        half = eta / 2
        largest = np.maximum(np.abs(half), tie)
        win, draw, loss = np.exp(half - largest), np.exp(tie - largest), np.exp(-half - largest)
        total = win + draw + loss
        return (win + loss) / total, draw / total, (win - loss) / total / 2, largest + np.log(total)


class RaoKupper:
    """P(win) = 1 / (1 + theta e^-eta), P(loss) = 1 / (1 + theta e^eta), theta = e^tie > 1 (Rao and Kupper 1967).

    P(tie) = (theta^2 - 1) P(win) P(loss), so that a tie counts as a win, a loss, and a term of theta alone.
    """

    def __init__(self, sums: Floats) -> None:
        self.wins, self.losses, self.ties = sums[WIN] + sums[TIE], sums[LOSS] + sums[TIE], sums[TIE]

    def terms(self, eta: Floats, *, tie: float) -> Terms:
        if tie <= 0:
            nothing = np.zeros_like(eta)
            return Terms(-math.inf, nothing, 0.0, ee=nothing, et=nothing, tt=nothing)
        win, loss = chance(eta - tie), chance(-eta - tie)
        missed, lost = self.wins * (1 - win), self.losses * (1 - loss)
        rest, ties = -math.expm1(-2 * tie), float(self.ties.sum())  # theta^2 - 1 = e^(2 tie) rest
        value = self.wins @ np.log(np.maximum(win, TINY)) + self.losses @ np.log(np.maximum(loss, TINY))
        up, down = missed * win, lost * loss
        return Terms(
            value=float(value) + ties * (2 * tie + math.log(rest)),
            by_eta=missed - lost,
            by_tie=2 * ties / rest - float((missed + lost).sum()),
            ee=up + down,
            et=down - up,
            tt=up + down + self.ties * 4 * (1 - rest) / rest**2,
        )

    def by_outcome(self, eta: Floats, *, tie: float) -> tuple[Floats, Floats]:
        win, loss = chance(eta - tie), chance(-eta - tie)
        slope = -2 / math.expm1(-2 * tie)
        return np.stack([loss - 1, loss - win, 1 - win]), np.stack([loss - 1, slope - 2 + win + loss, win - 1])


MODELS: dict[str, type[TieModel]] = {"half": Half, "davidson": Davidson, "rao-kupper": RaoKupper}


def chance(eta: Floats) -> Floats:
    """1 / (1 + e^-eta), (M,), several times faster than `scipy.special.expit`."""
    return np.asarray(1 / (1 + np.exp(np.minimum(-eta, 700))))


def starting_tie(ties: str, *, share: float) -> float:
    """The tie parameter that explains a `share` of ties among items of equal worth."""
    if ties == "davidson":
        return math.log(2 * share / (1 - share))
    return math.log((1 + share) / (1 - share))
