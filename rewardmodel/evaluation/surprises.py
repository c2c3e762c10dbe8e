"""The judgements a model finds least likely: where to look first for a slip of an annotator, or a gap of the model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from rewardmodel.data import Pair, text_of
from rewardmodel.metrics import as_margins, sigmoid

SHOWN = 50
LONGEST = 400


def list_surprises(
    margins: Sequence[float] | np.ndarray,
    *,
    pairs: Sequence[Pair],
    temperature: float | None = None,
    most: int = SHOWN,
) -> list[dict[str, Any]]:
    """{prompt_id, line, group_id, margin, probability, prompt, chosen, rejected}, the least likely first.

    Only judgements that the model calls wrong. probability: sigmoid(margin / temperature), that of the judgement as it
    was given. Texts are cut to 400 characters, the end of a prompt kept, where its question stands.
    """
    values = as_margins(margins)
    chances = sigmoid(values / (temperature or 1.0))
    order = [int(i) for i in np.argsort(values, kind="stable") if values[i] < 0][:most]
    return [
        {
            "prompt_id": pairs[i].prompt_id,
            "line": pairs[i].line,
            "group_id": pairs[i].group_id,
            "margin": float(values[i]),
            "probability": float(chances[i]),
            "prompt": shorten(text_of(pairs[i].prompt), keep="end"),
            "chosen": shorten(text_of(pairs[i].chosen)),
            "rejected": shorten(text_of(pairs[i].rejected)),
        }
        for i in order
    ]


def shorten(text: str, *, longest: int = LONGEST, keep: str = "start") -> str:
    """At most `longest` characters of a text, with "…" where the rest was."""
    if len(text) <= longest:
        return text
    return text[: longest - 1] + "…" if keep == "start" else "…" + text[-(longest - 1) :]
