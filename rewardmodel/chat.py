"""From messages to token ids: the one place where a chat template is applied.

Training, evaluation and serving read a reward at the last token of what `encode_conversation` gives: the template's
own text, to its last character. TRL, and servers that render a conversation by its template, read it there too.
A reward model read at another token than it was trained on loses much of its accuracy (0.90 -> 0.67 was measured).
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import takewhile
from typing import Any

from jinja2.exceptions import TemplateError

from rewardmodel.contract import PLAIN_VARIANT, Message
from rewardmodel.data import DataError, Example, Pair
from rewardmodel.token_cache import Ids, keep_tokens, locate_tokens, read_tokens

GENERATION_TAG = re.compile(r"\{%-?\s*generation\s*-?%\}")


@dataclass(frozen=True)
class EncodedPair:
    """A pair as token ids. prompt + chosen and prompt + rejected are whole conversations."""

    pair: Pair
    prompt_ids: Ids
    chosen_ids: Ids
    rejected_ids: Ids

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


@dataclass(frozen=True)
class EncodedExample:
    """An example as token ids; `learned` says for each whether it is one that the assistant is to say."""

    example: Example
    ids: list[int]
    learned: list[bool]

    @property
    def start(self) -> int:
        """Place of the first learned token."""
        return self.learned.index(True)

    @property
    def n_learned(self) -> int:
        """Learned tokens."""
        return sum(self.learned)


@dataclass(frozen=True)
class EncodedExamples:
    """The usable examples of a split, and how many were dropped, by reason."""

    rows: list[EncodedExample]
    dropped: dict[str, int]

    @property
    def n_prompts(self) -> int:
        """Different prompts among the usable examples."""
        return len({row.example.prompt_id for row in self.rows})


def encode_conversation(tokenizer: Any, *, messages: Sequence[Message]) -> list[int]:
    """Token ids of a finished conversation. Raises DataError where the template refuses it."""
    return _apply_template(tokenizer, messages=messages, add_generation_prompt=False)


def encode_prompt(tokenizer: Any, *, messages: Sequence[Message]) -> list[int]:
    """Token ids of a conversation up to where the assistant begins to speak."""
    return _apply_template(tokenizer, messages=messages, add_generation_prompt=True)


def put_into(variant: str, *, messages: Sequence[Message]) -> list[Message]:
    """The conversation with its last turn in another form: in `variant`, {prompt} stands for the turn as it is."""
    *before, last = messages
    return [*before, {"role": last["role"], "content": variant.replace(PLAIN_VARIANT, last["content"])}]


def encode_pair(tokenizer: Any, *, pair: Pair) -> EncodedPair:
    """A pair as token ids; the completions begin where prompt and conversations part, as in TRL's DPOTrainer."""
    return _Encoder(tokenizer).encode(pair)


class _Encoder:
    """Encodes pairs, each prompt and each response once: a response of a ranking of K is in K - 1 pairs."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.known: dict[tuple[str, ...], Ids] = {}

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

    def _look_up(self, key: tuple[str, ...], *, messages: Sequence[Message], whole: bool) -> Ids:
        if key not in self.known:
            encode = encode_conversation if whole else encode_prompt
            self.known[key] = array("i", encode(self.tokenizer, messages=messages))
        return self.known[key]


def encode_split(
    tokenizer: Any, *, pairs: Sequence[Pair], max_length: int, dropped: Mapping[str, int] | None = None
) -> EncodedSplit:
    """All pairs that fit. Longer ones are dropped whole: cutting one side would change what was compared.

    Pairs whose two sides read the same are dropped as well: nothing can be learned from them or tested by them.
    dropped: what was left out before. The ids of many pairs are kept on disk and found there again (`token_cache`).
    """
    kept: list[EncodedPair] = []
    counts = {"too_long": 0, "identical": 0, **(dropped or {})}
    for encoded in _encode_pairs(tokenizer, pairs=pairs):
        if encoded.chosen_ids == encoded.rejected_ids:
            counts["identical"] += 1
        elif encoded.length > max_length:
            counts["too_long"] += 1
        else:
            kept.append(encoded)
    return EncodedSplit(kept, counts)


def _encode_pairs(tokenizer: Any, *, pairs: Sequence[Pair]) -> list[EncodedPair]:
    file = locate_tokens(tokenizer, pairs=pairs)
    known = file and read_tokens(file, count=len(pairs))
    if known:
        return [EncodedPair(pair, *ids) for pair, ids in zip(pairs, known, strict=True)]
    encoder, encoded = _Encoder(tokenizer), []
    for pair in pairs:
        try:
            encoded.append(encoder.encode(pair))
        except DataError as error:
            raise DataError(f"line {pair.line}: {error}") from None
    if file:
        keep_tokens(file, encoded=[(item.prompt_ids, item.chosen_ids, item.rejected_ids) for item in encoded])
    return encoded


def encode_examples(
    tokenizer: Any, *, examples: Sequence[Example], max_length: int, learn: str = "assistant"
) -> EncodedExamples:
    """All examples that fit; longer ones are dropped whole and counted. Raises DataError naming the line."""
    kept = []
    too_long = 0
    for example in examples:
        try:
            encoded = encode_example(tokenizer, example=example, learn=learn)
        except DataError as error:
            raise DataError(f"line {example.line}: {error}") from None
        if len(encoded.ids) > max_length:
            too_long += 1
        else:
            kept.append(encoded)
    return EncodedExamples(kept, {"too_long": too_long})


def encode_example(tokenizer: Any, *, example: Example, learn: str = "assistant") -> EncodedExample:
    """A conversation as token ids, and which of them are learned: all ("all"), all from where the first learned turn
    begins ("completion"), or what the assistant is to say ("assistant").

    Of the assistant's turns a template with `{% generation %}` tags says itself where they are. For others, a turn is
    what the conversation up to its end has more than the conversation up to where the assistant begins to speak: as in
    TRL's prompt-completion rows, it ends with all that the template writes after it. Raises DataError for a template
    that writes a turn otherwise once another follows, since the two could not be told apart.
    """
    ids = encode_conversation(tokenizer, messages=example.messages)
    if learn == "all":
        return EncodedExample(example, ids, [True] * len(ids))
    if learn == "completion":
        start = _find_boundary(tokenizer, example=example, ids=ids, turns=example.learned[0], speaking=True)
        return EncodedExample(example, ids, [place >= start for place in range(len(ids))])
    if GENERATION_TAG.search(str(tokenizer.chat_template)):
        learned = _read_template_masks(tokenizer, example=example)
    else:
        learned = [False] * len(ids)
        for place in example.learned:
            start = _find_boundary(tokenizer, example=example, ids=ids, turns=place, speaking=True)
            end = _find_boundary(tokenizer, example=example, ids=ids, turns=place + 1, speaking=False)
            learned[start:end] = [True] * (end - start)
    if not any(learned):
        raise DataError("the model's chat template leaves no token of the assistant's turns to learn")
    return EncodedExample(example, ids, learned)


def _read_template_masks(tokenizer: Any, *, example: Example) -> list[bool]:
    """The template's own marks; those of turns that were given are taken back."""
    marked = tokenizer.apply_chat_template(
        list(example.messages), tokenize=True, return_dict=True, return_assistant_tokens_mask=True
    )
    learned = [bool(mark) for mark in marked["assistant_masks"]]
    if example.n_context:
        start = _find_boundary(
            tokenizer, example=example, ids=list(marked["input_ids"]), turns=example.learned[0], speaking=True
        )
        learned[:start] = [False] * start
    return learned


def _find_boundary(tokenizer: Any, *, example: Example, ids: list[int], turns: int, speaking: bool) -> int:
    """Where in `ids` the first `turns` turns end, or (speaking) where the assistant begins to speak after them.

    Compared as text; a token that spans the boundary belongs to what follows, as in `encode_pair`.
    """
    messages = example.messages[:turns]
    beginning = _apply_template(tokenizer, messages=messages, add_generation_prompt=speaking)
    if beginning == ids[: len(beginning)]:
        return len(beginning)
    texts = [
        tokenizer.apply_chat_template(list(part), add_generation_prompt=prompt, tokenize=False)
        for part, prompt in ((messages, speaking), (example.messages, False))
    ]
    if not texts[1].startswith(texts[0]):
        raise DataError(
            f"the model's chat template writes turns 1 to {turns} otherwise once more follows, so the assistant's "
            "tokens cannot be told apart; use one answer a row (prompt, completion), assistant_only: false, or a model "
            "whose template has {% generation %} tags"
        )
    return _common_length(beginning, ids)


def _apply_template(tokenizer: Any, *, messages: Sequence[Message], add_generation_prompt: bool) -> list[int]:
    try:
        ids = tokenizer.apply_chat_template(
            list(messages), add_generation_prompt=add_generation_prompt, tokenize=True, return_dict=False
        )
    except TemplateError as error:
        roles = ", ".join(message["role"] for message in messages)
        raise DataError(f"the model's chat template refuses turns of {roles}: {error}") from None
    return list(ids)


def _common_length(first: Sequence[int], second: Sequence[int]) -> int:
    return sum(1 for _ in takewhile(lambda both: both[0] == both[1], zip(first, second, strict=False)))
