"""Simulated annotators: a stated rule and stated noise, for samples, tests and rehearsals.

They are no evidence about people. Whatever they judge is labelled as simulated wherever it shows.
"""

from __future__ import annotations

import math
import random
import re
from collections.abc import Sequence
from itertools import pairwise

RULE = (
    "Prefers responses that end properly, speak of what was asked, run to about 25 words, do not repeat themselves "
    "and carry no filler; adds Gumbel noise to each response and ties what it can hardly tell apart."
)
IDEAL_WORDS = 25
FILLERS = ("great question", "as an ai", "i'm happy to", "i am happy to", "hope this helps", "feel free to", "sure")
STOP_WORDS = frozenset(
    re.findall(
        r"\w+",
        "a about an and are as at be by can do does for from give how i if in is it me my of on or please should so "
        "that the this to was what when where which who why will with would write you your",
    )
)


def utility(prompt: str, *, response: str) -> float:
    """The rule's value of a response to the prompt's last turn; higher is better, roughly within [-6, 5.5]."""
    words = re.findall(r"\w+", response.lower())
    if not words:
        return -6.0
    asked = set(re.findall(r"\w+", prompt.lower())) - STOP_WORDS
    relevance = len(asked & set(words)) / max(1, min(len(asked), 8))
    trigrams = [tuple(words[i : i + 3]) for i in range(len(words) - 2)]
    repetition = 1 - len(set(trigrams)) / len(trigrams) if trigrams else 0.0
    is_complete = response.rstrip().endswith((".", "!", "?", ")", "`", "。", '"'))
    filler = sum(phrase in response.lower() for phrase in FILLERS)
    length_penalty = min(2.0, abs(math.log(len(words) / IDEAL_WORDS)))
    return 2.5 * is_complete + 3.0 * min(1.0, relevance) - 4.0 * repetition - min(1.5, 0.5 * filler) - length_penalty


def simulate_ranking(
    utilities: Sequence[float], *, rng: random.Random, noise: float = 0.3, tie_width: float = 0.1
) -> list[list[int]]:
    """Rank K utilities as a noisy judge would; returns tiers of indices, best first.

    Each utility gets Gumbel noise of scale `noise` (so that strict orders follow Plackett–Luce with worths
    exp(u / noise); Yellott 1977); neighbours closer than `tie_width` after that are tied.
    """
    noisy = [u - noise * math.log(-math.log(rng.random() or 1e-12)) for u in utilities]
    order = sorted(range(len(noisy)), key=lambda i: -noisy[i])
    tiers = [[order[0]]]
    for before, here in pairwise(order):
        if noisy[before] - noisy[here] < tie_width:
            tiers[-1].append(here)
        else:
            tiers.append([here])
    return tiers
