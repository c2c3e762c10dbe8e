"""Which of a model's checked attempts to learn from: rejection sampling's second half. Pure functions, no torch.

An attempt that passed its verifier and ended by itself may be learned from; of each prompt a few are kept, so that what
is easy does not crowd out what is hard (Yuan et al. 2023, "Scaling relationship on learning mathematical reasoning",
section 3.3; Singh et al. 2023, "Beyond human data", who keep ten a prompt at most).
"""

from __future__ import annotations

import math
import random
import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from rewardmodel.contract import ATTEMPT_CHOICES as CHOICES

BANDS = ((0.0, 1 / 3), (1 / 3, 2 / 3), (2 / 3, 1.0))
"""Hard, middling and easy: prompts by the share of their attempts that passed, above the first bound to the second."""


@dataclass(frozen=True)
class Attempt:
    """One response of a model to a prompt, and what its verifier said. log_prob: of the whole response, in nats."""

    prompt_id: str
    index: int
    text: str
    passed: bool
    score: float = 0.0
    n_tokens: int = 0
    finished: bool = True
    log_prob: float | None = None


@dataclass(frozen=True)
class Selection:
    """What was kept, in the order of the prompts, and what was left out, by reason."""

    kept: tuple[Attempt, ...]
    left_out: dict[str, int]


def select_attempts(
    attempts: Sequence[Attempt],
    *,
    per_prompt: int,
    choice: str = "shortest",
    balance: bool = False,
    too_easy: float = 1.0,
    seed: int = 0,
) -> Selection:
    """Up to `per_prompt` attempts of each prompt that passed, ended and differ.

    choice: "shortest" by tokens; "diverse", each as unlike those before as can be, from the shortest on; "probable" by
    the log-probability of a token; "first" as they came. too_easy: prompts of which a greater share passed are left
    out (1: none). balance: of the bands of difficulty that have any, each gives as many rows as the median one has, if
    it has so many (drawn by seed). Raises ValueError for an unknown choice or attempts without log-probabilities.
    """
    if choice not in CHOICES:
        raise ValueError(f"Unknown choice {choice!r}; use one of {', '.join(CHOICES)}.")
    left_out: dict[str, int] = defaultdict(int)
    kept: list[Attempt] = []
    rates = pass_rates(attempts)
    for prompt_id, own in by_prompt(attempts).items():
        usable = []
        for attempt in own:
            reason = "failed" if not attempt.passed else "unfinished" if not attempt.finished else ""
            if reason:
                left_out[reason] += 1
            else:
                usable.append(attempt)
        firsts: dict[str, Attempt] = {}
        for attempt in usable:
            firsts.setdefault(normalise(attempt.text), attempt)
        distinct = list(firsts.values())
        left_out["repeated"] += len(usable) - len(distinct)
        if rates[prompt_id] > too_easy:
            left_out["too easy"] += len(distinct)
            continue
        chosen = _choose(distinct, n=per_prompt, choice=choice)
        left_out["more than enough"] += len(distinct) - len(chosen)
        kept += chosen
    if balance:
        balanced = balance_bands(kept, rates=rates, seed=seed)
        left_out["balance"] += len(kept) - len(balanced)
        kept = balanced
    return Selection(tuple(kept), {reason: count for reason, count in left_out.items() if count})


def pair_attempts(
    attempts: Sequence[Attempt], *, kept: Sequence[Attempt], seed: int = 0
) -> list[tuple[Attempt, Attempt]]:
    """(accepted, rejected) pairs for DPO: each kept attempt with a different one of its prompt that failed, while there
    are any; the failed ones that ended by themselves first, so that being cut off is not what is learned."""
    generator = random.Random(seed)
    failed: dict[str, list[Attempt]] = {}
    for prompt_id, own in by_prompt(attempts).items():
        wrong = list({normalise(one.text): one for one in own if not one.passed}.values())
        generator.shuffle(wrong)
        failed[prompt_id] = sorted(wrong, key=lambda one: not one.finished)
    return [(one, failed[one.prompt_id].pop(0)) for one in kept if failed.get(one.prompt_id)]


def by_prompt(attempts: Sequence[Attempt]) -> dict[str, list[Attempt]]:
    """The attempts of each prompt, in their order."""
    groups: dict[str, list[Attempt]] = {}
    for attempt in attempts:
        groups.setdefault(attempt.prompt_id, []).append(attempt)
    return groups


def pass_rates(attempts: Sequence[Attempt]) -> dict[str, float]:
    """The share of each prompt's attempts that passed."""
    return {prompt: sum(one.passed for one in own) / len(own) for prompt, own in by_prompt(attempts).items()}


def pass_at_k(passed: int, *, tried: int, k: int) -> float:
    """The chance that of k attempts at least one passes, without bias (Chen et al. 2021, "Evaluating large language
    models trained on code", equation 1): 1 - C(n - c, k) / C(n, k). Raises ValueError unless 1 <= k <= tried.
    """
    if not 0 <= passed <= tried or not 1 <= k <= tried:
        raise ValueError(f"need 0 <= passed <= tried and 1 <= k <= tried, got {passed} of {tried}, k = {k}")
    return 1.0 - math.comb(tried - passed, k) / math.comb(tried, k)


def balance_bands(kept: Sequence[Attempt], *, rates: dict[str, float], seed: int) -> list[Attempt]:
    """At most as many attempts of each band of difficulty as the median of the bands that have any; in their order."""
    bands: dict[int, list[int]] = defaultdict(list)
    for place, attempt in enumerate(kept):
        bands[_band_of(rates[attempt.prompt_id])].append(place)
    if not bands:
        return []
    sizes = sorted(len(places) for places in bands.values())
    most = sizes[(len(sizes) - 1) // 2]
    generator = random.Random(seed)
    chosen = [place for _band, places in sorted(bands.items()) for place in _draw(places, n=most, generator=generator)]
    return [kept[place] for place in sorted(chosen)]


def normalise(text: str) -> str:
    """Words without case and space around them: two texts that differ in nothing else are the same answer."""
    return " ".join(text.split()).casefold()


def unlikeness(one: frozenset[str], other: frozenset[str]) -> float:
    """1 - |both| / |either| of two sets of words (Jaccard 1901)."""
    return 1.0 - len(one & other) / len(one | other) if one or other else 0.0


def _choose(attempts: list[Attempt], *, n: int, choice: str) -> list[Attempt]:
    if choice == "first":
        return attempts[:n]
    if choice == "probable":
        if any(attempt.log_prob is None for attempt in attempts):
            raise ValueError("choice 'probable' needs the log-probability of every attempt")
        return sorted(attempts, key=lambda one: -(one.log_prob or 0.0) / max(one.n_tokens, 1))[:n]
    shortest = sorted(attempts, key=lambda one: (one.n_tokens, one.index))
    return shortest[:n] if choice == "shortest" else _spread(shortest, n=n)


def _spread(attempts: list[Attempt], *, n: int) -> list[Attempt]:
    """Greedily the one farthest from all that were chosen, from the first on (Gonzalez 1985)."""
    words = [frozenset(re.findall(r"\w+", attempt.text.casefold())) for attempt in attempts]
    chosen = [0] if attempts and n else []
    while len(chosen) < min(n, len(attempts)):
        rest = [place for place in range(len(attempts)) if place not in chosen]
        chosen.append(max(rest, key=lambda place: min(unlikeness(words[place], words[other]) for other in chosen)))
    return [attempts[place] for place in chosen]


def _band_of(rate: float) -> int:
    return next(number for number, (_low, high) in enumerate(BANDS) if rate <= high or number == len(BANDS) - 1)


def _draw(places: list[int], *, n: int, generator: random.Random) -> list[int]:
    return places if len(places) <= n else generator.sample(places, n)
