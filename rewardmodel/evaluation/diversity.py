"""How much a policy's responses to one prompt differ: distinct n-grams and self-BLEU, over words."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Sequence

WORDS = re.compile(r"\w+|[^\w\s]")


def split_words(text: str) -> list[str]:
    """Words and marks of a text, in lower case."""
    return WORDS.findall(text.lower())


def distinct_share(texts: Sequence[str], *, n: int) -> float | None:
    """Different n-grams over all n-grams of some texts, 0 to 1 (Li et al. 2016, distinct-n). None where none has n.

    It falls with the number of words, so compare only texts of like number and length.
    """
    grams = [gram for text in texts for gram in _grams(split_words(text), n=n)]
    return len(set(grams)) / len(grams) if grams else None


def self_bleu(texts: Sequence[str], *, longest: int = 4) -> float | None:
    """Mean BLEU of each text against the others, 0 to 1 (Zhu et al. 2018): 1 where all are equal. None for one text.

    BLEU of a sentence: the geometric mean of clipped n-gram precisions up to `longest`, one added to matches and to
    counts beyond single words (Lin and Och 2004), times the brevity penalty against the text nearest in length
    (Papineni et al. 2002). A text with no words has 0, beside another without words 1.
    """
    if len(texts) < 2:
        return None
    words = [split_words(text) for text in texts]
    counts = [[Counter(_grams(each, n=n)) for n in range(1, longest + 1)] for each in words]
    total = 0.0
    for i, own in enumerate(words):
        others = [j for j in range(len(words)) if j != i]
        if not own:
            total += sum(not words[j] for j in others) / len(others)
            continue
        logs = 0.0
        for n in range(longest):
            most: Counter[tuple[str, ...]] = Counter()
            for j in others:
                most |= counts[j][n]
            hits = sum(min(count, most[gram]) for gram, count in counts[i][n].items())
            more = 1 if n else 0
            size = counts[i][n].total() + more
            logs += math.log((hits + more) / size) if hits + more else -math.inf
        nearest = min((len(words[j]) for j in others), key=lambda size: (abs(size - len(own)), size))
        brevity = min(0.0, 1 - nearest / len(own))
        total += math.exp(logs / longest + brevity)
    return total / len(words)


def _grams(words: Sequence[str], *, n: int) -> list[tuple[str, ...]]:
    return [tuple(words[i : i + n]) for i in range(len(words) - n + 1)]
