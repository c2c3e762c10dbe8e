"""Whether a preference survives a change of form: Markdown taken off or put on, white space, given paraphrases.

The words stay, so a model that judges them should keep its preference. Our transformations are plain rules on text and
always give the same. Paraphrases are not made here: they come with the data, in a row's `paraphrases`,
{"chosen": [text, …], "rejected": [text, …], "prompt": [text, …]}, each key optional; one of the prompt takes the place
of its last user turn.

Order needs no such test: a reward is read from one response at a time, so a pair turned round has exactly the negated
margin by construction. `reward_models` scores some pairs again, turned round and in other batches: what differs is
rounding.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from rewardmodel.contract import Message
from rewardmodel.data import DataError, Pair
from rewardmodel.metrics import correctness, wilson_interval

FENCE = re.compile(r"^\s*(```|~~~)")
LINE_MARKS = re.compile(r"^(\s*)(?:#{1,6}\s+|>\s?|[-*+]\s+(?!\[[ xX]\])|[-*+]\s+\[[ xX]\]\s+)")
RULE = re.compile(r"^\s*([-*_])(\s*\1){2,}\s*$")
LINK = re.compile(r"!?\[([^\]\n]*)\]\([^)\n]*\)")
MARKS = (
    re.compile(r"(\*\*|__)(?=\S)(.+?)(?<=\S)\1"),
    re.compile(r"(?<![\w*])(\*)(?=[^\s*])([^*\n]+?)(?<=[^\s*])\*(?![\w*])"),
    re.compile(r"(?<![\w_])(_)(?=[^\s_])([^_\n]+?)(?<=[^\s_])_(?![\w_])"),
    re.compile(r"(`+)([^`\n]+?)\1(?!`)"),
)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[^\s])")


@dataclass(frozen=True)
class Variant:
    """One changed form of a pair: `name` says how, `place` which pair of the file's it is, `pair` how it reads."""

    name: str
    place: int
    pair: Pair


def strip_markdown(text: str) -> str:
    """The text without headings, emphasis, bullets, quotes, links' addresses, rules and fences; code stays as it is.

    Numbers of lists and tables stay: they are words to a reader.
    """
    lines: list[str] = []
    in_code = False
    for line in text.split("\n"):
        if FENCE.match(line):
            in_code = not in_code
        elif in_code:
            lines.append(line)
        elif not RULE.match(line):
            lines.append(_strip_line(line))
    return "\n".join(lines)


def _strip_line(line: str) -> str:
    """A line of prose without its marks, however deep they stand in each other."""
    while True:
        plain = LINK.sub(r"\1", LINE_MARKS.sub(r"\1", line))
        for marks in MARKS:
            plain = marks.sub(r"\2", plain)
        if plain == line:
            return line
        line = plain


def add_markdown(text: str) -> str:
    """The text with marks and no other words: each paragraph's first sentence bold, its further ones as bullets.

    Lines that carry Markdown already, and code, stay as they are.
    """
    lines: list[str] = []
    in_code = False
    for line in text.split("\n"):
        if FENCE.match(line):
            in_code = not in_code
        if in_code or not line.strip() or strip_markdown(line) != line:
            lines.append(line)
            continue
        first, *rest = SENTENCE_END.split(line.strip())
        lines.append(f"**{first}**")
        lines.extend(f"- {sentence}" for sentence in rest)
    return "\n".join(lines)


def spread_whitespace(text: str) -> str:
    """The text with blank lines doubled and a line break at its end."""
    return text.replace("\n\n", "\n\n\n") + "\n"


TRANSFORMATIONS: dict[str, Callable[[str], str]] = {
    "Markdown stripped": strip_markdown,
    "Markdown added": add_markdown,
    "white space": spread_whitespace,
}


def transform_pair(pair: Pair, *, transform: Callable[[str], str]) -> Pair:
    """The pair with both responses changed; the prompt is what the person wrote and stays."""
    return replace(pair, chosen=_transform(pair.chosen, transform), rejected=_transform(pair.rejected, transform))


def read_paraphrases(row: dict[str, Any], *, pair: Pair, file: str | Path) -> list[Pair]:
    """The pair in every given wording. Raises DataError naming file, line and field."""
    given = row.get("paraphrases")
    if given is None:
        return []
    where = f"{file}, line {pair.line}, paraphrases"
    if "responses" in row or (isinstance(row.get("chosen"), list) and isinstance(row["chosen"][0], str)):
        raise DataError(f"{where}: only a row of one chosen and one rejected response can have them")
    if not isinstance(given, dict):
        raise DataError(f"{where}: expected an object with chosen, rejected or prompt, found {given!r:.60}")
    # A row whose `p` lies below 1/2 was turned round when it was read.
    probability = row.get("p")
    was_turned = probability is not None and probability < 0.5
    sides = {"chosen": "rejected", "rejected": "chosen"} if was_turned else {}
    pairs = []
    for key, texts in given.items():
        if key not in ("chosen", "rejected", "prompt"):
            raise DataError(f"{where}.{key}: unknown; known are chosen, rejected, prompt")
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise DataError(f"{where}.{key}: expected a list of strings, found {texts!r:.60}")
        pairs += [_reword(pair, key=sides.get(key) or key, text=text) for text in texts]
    return pairs


def _reword(pair: Pair, *, key: str, text: str) -> Pair:
    if key == "chosen":
        return replace(pair, chosen=[{"role": "assistant", "content": text}])
    if key == "rejected":
        return replace(pair, rejected=[{"role": "assistant", "content": text}])
    turns = list(pair.prompt)
    last = max((i for i, turn in enumerate(turns) if turn["role"] == "user"), default=len(turns) - 1)
    turns[last] = {"role": turns[last]["role"], "content": text}
    # Another prompt has another id, by which encoders remember what they have read.
    return replace(pair, prompt=turns, prompt_id=f"{pair.prompt_id}/{text}")


def describe_variant(before: np.ndarray, *, after: np.ndarray) -> dict[str, Any]:
    """{n, flips, flips_interval, chosen_shift, rejected_shift, accuracy_before, accuracy, easy, hard}.

    before, after: (n, 2) scores of the chosen and the rejected response as they were and in the other form.
    flips: share of pairs whose preferred side changed (to or from a tie: half), Wilson's interval. The shifts are mean
    differences of score. hard: accuracy where the rejected response alone has the other form; easy: where the chosen
    one alone has it (after RM-Bench, Liu et al. 2024, where a style stands against substance).
    """
    was, now = correctness(before[:, 0] - before[:, 1]), correctness(after[:, 0] - after[:, 1])
    flips = np.abs(now - was)
    return {
        "n": len(before),
        "flips": float(flips.mean()),
        "flips_interval": list(wilson_interval(float(flips.sum()), n=len(flips))),
        "chosen_shift": float((after[:, 0] - before[:, 0]).mean()),
        "rejected_shift": float((after[:, 1] - before[:, 1]).mean()),
        "accuracy_before": float(was.mean()),
        "accuracy": float(now.mean()),
        "easy": float(correctness(after[:, 0] - before[:, 1]).mean()),
        "hard": float(correctness(before[:, 0] - after[:, 1]).mean()),
    }


def choose_pairs(n: int, *, most: int, seed: int = 0) -> list[int]:
    """Which of n pairs are looked at again: all, or `most` of them drawn without replacement, in their order."""
    if n <= most:
        return list(range(n))
    return sorted(int(i) for i in np.random.default_rng(seed).choice(n, size=most, replace=False))


def _transform(turns: Sequence[Message], transform: Callable[[str], str]) -> list[Message]:
    return [
        {
            "role": turn["role"],
            "content": transform(turn["content"]) if turn["role"] == "assistant" else turn["content"],
        }
        for turn in turns
    ]
