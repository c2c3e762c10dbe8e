"""From messages to token ids: the one place where a chat template is applied.

Training, evaluation and serving read a reward at the last token of what `encode_conversation` gives: the template's
own text, to its last character. TRL, and servers that render a conversation by its template, read it there too.
A reward model read at another token than it was trained on loses much of its accuracy (0.90 -> 0.67 was measured).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from jinja2.exceptions import TemplateError

from rewardmodel.contract import Message
from rewardmodel.data import DataError, Pair


@dataclass(frozen=True)
class EncodedPair:
    """A pair as token ids. prompt + chosen and prompt + rejected are whole conversations."""

    pair: Pair
    prompt_ids: list[int]
    chosen_ids: list[int]
    rejected_ids: list[int]

    @property
    def length(self) -> int:
        """Tokens of the longer conversation."""
        return len(self.prompt_ids) + max(len(self.chosen_ids), len(self.rejected_ids))


@dataclass(frozen=True)
class EncodedSplit:
    """The usable pairs of a split, and how many were dropped, by reason ("too_long", "identical", …)."""

    pairs: list[EncodedPair]
    dropped: dict[str, int]

    @property
    def n_prompts(self) -> int:
        """Different prompts among the usable pairs."""
        return len({encoded.pair.prompt_id for encoded in self.pairs})


def encode_conversation(tokenizer: Any, *, messages: Sequence[Message]) -> list[int]:
    """Token ids of a finished conversation. Raises DataError where the template refuses it."""
    return _apply_template(tokenizer, messages=messages, add_generation_prompt=False)


def encode_prompt(tokenizer: Any, *, messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation up to where the assistant begins to speak."""
    return _apply_template(tokenizer, messages=messages, add_generation_prompt=True)


def encode_pair(tokenizer: Any, *, pair: Pair) -> EncodedPair:
    """A pair as token ids; the completions begin where prompt and conversations part, as in TRL's DPOTrainer."""
    return _Encoder(tokenizer).encode(pair)


class _Encoder:
    """Encodes pairs, each prompt and each response once: a response of a ranking of K is in K - 1 pairs."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.known: dict[tuple[str, ...], list[int]] = {}

    def encode(self, pair: Pair) -> EncodedPair:
        prompt = self._look_up((pair.prompt_id,), messages=pair.prompt, whole=False)
        chosen, rejected = (
            self._look_up(
                (pair.prompt_id, *(turn["role"] + turn["content"] for turn in side)),
                messages=[*pair.prompt, *side],
                whole=True,
            )
            for side in (pair.chosen, pair.rejected)
        )
        shared = min(_common_length(prompt, chosen), _common_length(prompt, rejected))
        return EncodedPair(pair, prompt[:shared], chosen[shared:], rejected[shared:])

    def _look_up(self, key: tuple[str, ...], *, messages: Sequence[Message], whole: bool) -> list[int]:
        if key not in self.known:
            encode = encode_conversation if whole else encode_prompt
            self.known[key] = encode(self.tokenizer, messages=messages)
        return self.known[key]


def encode_split(
    tokenizer: Any, *, pairs: Sequence[Pair], max_length: int, dropped: Mapping[str, int] | None = None
) -> EncodedSplit:
    """All pairs that fit. Longer ones are dropped whole: cutting one side would change what was compared.

    Pairs whose two sides read the same are dropped as well: nothing can be learned from them or tested by them.
    dropped: what was left out before.
    """
    encoder = _Encoder(tokenizer)
    kept: list[EncodedPair] = []
    counts = {"too_long": 0, "identical": 0, **(dropped or {})}
    for pair in pairs:
        try:
            encoded = encoder.encode(pair)
        except DataError as error:
            raise DataError(f"line {pair.line}: {error}") from None
        if encoded.chosen_ids == encoded.rejected_ids:
            counts["identical"] += 1
        elif encoded.length > max_length:
            counts["too_long"] += 1
        else:
            kept.append(encoded)
    return EncodedSplit(kept, counts)


def _apply_template(tokenizer: Any, *, messages: Sequence[Message], add_generation_prompt: bool) -> list[int]:
    try:
        ids = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=add_generation_prompt, tokenize=True, return_dict=False
        )
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise DataError(f"the model's chat template refuses turns of {roles}: {error}") from None
    return list(ids)


def _common_length(first: list[int], second: list[int]) -> int:
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(first, second, strict=False)))
