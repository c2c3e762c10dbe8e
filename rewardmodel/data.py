"""Reading and checking JSONL: preference pairs, rankings, prompts to answer, responses to score or to verify.

Every fault names file, line and field. Nothing is repaired: a row is as TRL's formats allow or it is refused.
Pairs may come as messages or as strings, with the prompt apart or (implicit) as the beginning both sides share.
Rankings (`contract.RankingRow`) give all their strict pairs; a file may hold both kinds of rows, and rows whose chosen
and rejected are lists of texts: each chosen one is before each rejected one.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from rewardmodel.contract import SPLITS, InputError, Message
from rewardmodel.rankings import comparisons_of

Verifier = TypeVar("Verifier")

ROLES = ("system", "developer", "user", "assistant", "tool")


class DataError(InputError):
    """A file or row that cannot be used; the message names file, line and field."""


@dataclass(frozen=True)
class Pair:
    """One comparison: `chosen` was preferred to `rejected` as the continuation of `prompt`, or tied with it.

    prompt_id groups the pairs of one prompt (a hash of it): they are not independent of each other. group_id groups
    those of one judgement. probability is that of `chosen` being the better one.
    """

    prompt: list[Message]
    chosen: list[Message]
    rejected: list[Message]
    prompt_id: str
    margin: float | None
    line: int
    weight: float = 1.0
    probability: float = 1.0
    tied: bool = False
    group_id: str = ""


@dataclass(frozen=True)
class Judgements:
    """The comparisons of a file, and what its rankings held beside them.

    dropped counts ties where they were not wanted ("tied"), and rankings without any order ("unordered").
    """

    pairs: list[Pair]
    dropped: dict[str, int]


@dataclass(frozen=True)
class Example:
    """One conversation to learn from. Its first n_context turns were given; of the rest, the assistant's are learned.

    prompt_id is a hash of what precedes the first learned turn. label says whether the response is one to give; None
    where nothing of the kind was said.
    """

    messages: list[Message]
    n_context: int
    prompt_id: str
    line: int
    label: bool | None = None

    @property
    def prompt(self) -> list[Message]:
        """The turns before the first one that is learned."""
        return self.messages[: self.learned[0]]

    @property
    def learned(self) -> list[int]:
        """Places of the turns that are learned."""
        return [
            place
            for place, message in enumerate(self.messages)
            if place >= self.n_context and message["role"] == "assistant"
        ]


@dataclass(frozen=True)
class PromptItem:
    """One prompt to answer."""

    prompt_id: str
    prompt: list[Message]
    row: dict[str, Any]


@dataclass(frozen=True)
class ResponseItem:
    """One response to score; `row` is the row as it was read."""

    response_id: str
    prompt: list[Message]
    response: list[Message]
    row: dict[str, Any]


@dataclass(frozen=True)
class VerifiableItem(Generic[Verifier]):
    """One response, and what verifies it; `row` is the row as it was read."""

    prompt: list[Message]
    response: str
    verifier: Verifier
    row: dict[str, Any]


@dataclass(frozen=True)
class VerifiablePrompt(Generic[Verifier]):
    """One prompt to attempt, and what verifies an attempt; `row` is the row as it was read."""

    prompt_id: str
    prompt: list[Message]
    verifier: Verifier
    row: dict[str, Any]


@dataclass(frozen=True)
class ProjectRow(Generic[Verifier]):
    """A row of any kind that a project has: a prompt, perhaps with a right answer and a verifier, or comparisons."""

    prompt: list[Message]
    answer: str | None
    verifier: Verifier | None
    pairs: list[Pair]


@dataclass(frozen=True)
class _Place:
    """Where a value was read, for messages."""

    file: Path
    line: int

    def fault(self, field: str, problem: str) -> DataError:
        return DataError(f"{self.file}, line {self.line}, {field}: {problem}")


def find_splits(data: str | Mapping[str, str]) -> dict[str, Path]:
    """The file of each split that is there; train and test must be. Raises DataError saying what is missing."""
    if isinstance(data, str):
        directory = Path(data)
        if not directory.is_dir():
            raise DataError(f"data: {directory} is not a directory (it should hold train.jsonl and test.jsonl)")
        files = {split: directory / f"{split}.jsonl" for split in SPLITS}
        files = {split: file for split, file in files.items() if file.exists() or split != "validation"}
    else:
        files = {split: Path(file) for split, file in data.items()}
    for split, file in files.items():
        if not file.is_file():
            raise DataError(f"data: {file} does not exist; the {split} split is needed")
    return files


def read_manifest(data: str | Mapping[str, str]) -> dict[str, Any]:
    """The snapshot's manifest.json beside the data; {} where there is none."""
    directories = {Path(data)} if isinstance(data, str) else {Path(file).parent for file in data.values()}
    for directory in sorted(directories):
        file = directory / "manifest.json"
        if file.is_file():
            try:
                manifest = json.loads(file.read_text(encoding="utf-8"))
            except ValueError as error:
                raise DataError(f"{file} is not valid JSON: {error}") from None
            if not isinstance(manifest, dict):
                raise DataError(f"{file} must hold a JSON object")
            return manifest
    return {}


def hash_file(path: Path) -> str:
    """SHA-256 of a file, as hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as handle:
        while block := handle.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def read_rows(path: str | Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number from 1, object) for every line that is not blank. Raises DataError at the first bad line."""
    file = Path(path)
    if not file.is_file():
        raise DataError(f"{file} does not exist or is not a file")
    with file.open("rb") as handle:
        for number, raw in enumerate(handle, start=1):
            if not raw.strip():
                continue
            try:
                row = json.loads(raw.decode("utf-8-sig" if number == 1 else "utf-8"))
            except (ValueError, RecursionError) as error:
                raise DataError(f"{file}, line {number}: not valid JSON in UTF-8: {error}") from None
            if not isinstance(row, dict):
                raise DataError(f"{file}, line {number}: expected an object, found {type(row).__name__}")
            yield number, row


def read_pairs(path: str | Path) -> list[Pair]:
    """The strict comparisons of a file, in its order. Raises DataError for a bad row, none, or some margins only."""
    pairs = read_judgements(path).pairs
    if not pairs:
        raise DataError(f"{path}: nothing in it was judged better than another")
    return pairs


def read_judgements(
    path: str | Path, *, margins: Mapping[str, float] | None = None, ties: bool = False, soft: bool = False
) -> Judgements:
    """The comparisons of a file, in its order; ties, and pairs of probability 1/2 unless soft, are only counted.

    A pair whose chosen side is the less probable one is turned round. margins: the lead that each strength asks for; a
    row that gives no strength asks for none. Raises DataError for a bad row, an empty file, a strength that the table
    leaves out, or where some rows only have a margin.
    """
    file = Path(path)
    pairs: list[Pair] = []
    dropped: Counter[str] = Counter()
    rows = 0
    for line, row in read_rows(file):
        rows += 1
        found = _parse_row(row, place=_Place(file, line), margins=margins)
        kept = [pair for pair in found if (ties or not pair.tied) and (soft or pair.probability != 0.5)]
        dropped["tied"] += len(found) - len(kept)
        dropped["unordered"] += not found
        # The pairs of one row share its weight: a ranking weighs what its row says, however many pairs it gives.
        pairs.extend(replace(pair, weight=pair.weight / len(kept)) for pair in kept)
    if not rows:
        raise DataError(f"{file} holds no rows")
    without = [pair for pair in pairs if pair.margin is None]
    if without and len(without) < len(pairs):
        # A missing margin is not a margin of 0: which one was meant is for the writer of the file to say.
        raise DataError(f"{file}, line {without[0].line}, margin: missing, though other rows have one")
    return Judgements(pairs, {reason: count for reason, count in dropped.items() if count})


def read_prompts(path: str | Path) -> list[PromptItem]:
    """The prompts of a file; a row without prompt_id is named after its line. Raises DataError for a repeated id."""
    file = Path(path)
    items: dict[str, PromptItem] = {}
    for line, row in read_rows(file):
        place = _Place(file, line)
        prompt_id = _read_identifier(row, field="prompt_id", default=f"line-{line}", place=place)
        if prompt_id in items:
            raise place.fault("prompt_id", f"{prompt_id!r} was used on an earlier line")
        prompt = parse_turns(row.get("prompt"), role="user", field="prompt", place=place)
        items[prompt_id] = PromptItem(prompt_id, prompt, row)
    if not items:
        raise DataError(f"{file} holds no rows")
    return list(items.values())


def read_responses(path: str | Path) -> list[ResponseItem]:
    """The responses of a file; a row without response_id is named by its line. Raises DataError for a repeated id."""
    file = Path(path)
    items: dict[str, ResponseItem] = {}
    for line, row in read_rows(file):
        place = _Place(file, line)
        response_id = _read_identifier(row, field="response_id", default=f"line-{line}", place=place)
        if response_id in items:
            raise place.fault("response_id", f"{response_id!r} was used on an earlier line")
        prompt = parse_turns(row.get("prompt"), role="user", field="prompt", place=place)
        response = parse_turns(row.get("response"), role="assistant", field="response", place=place)
        items[response_id] = ResponseItem(response_id, prompt, response, row)
    if not items:
        raise DataError(f"{file} holds no rows")
    return list(items.values())


def read_verifiable(path: str | Path, *, parse_verifier: Callable[[Any], Verifier]) -> list[VerifiableItem[Verifier]]:
    """The responses of a file with their verifiers. Raises DataError for a bad row or verifier, or an empty file."""
    file = Path(path)
    items = []
    for line, row in read_rows(file):
        place = _Place(file, line)
        prompt = parse_turns(row.get("prompt"), role="user", field="prompt", place=place)
        response = _read_response(row.get("response"), place=place)
        items.append(VerifiableItem(prompt, response, _read_verifier(row, parse=parse_verifier, place=place), row))
    if not items:
        raise DataError(f"{file} holds no rows")
    return items


def read_verifiable_prompts(
    path: str | Path, *, parse_verifier: Callable[[Any], Verifier]
) -> list[VerifiablePrompt[Verifier]]:
    """The prompts of a file with their verifiers. Raises DataError for a bad row or verifier, or a repeated id."""
    file = Path(path)
    return [
        VerifiablePrompt(
            item.prompt_id,
            item.prompt,
            _read_verifier(item.row, parse=parse_verifier, place=_Place(file, line)),
            item.row,
        )
        for item, (line, _row) in zip(read_prompts(file), read_rows(file), strict=True)
    ]


def read_project_rows(path: str | Path, *, parse_verifier: Callable[[Any], Verifier]) -> list[ProjectRow[Verifier]]:
    """The rows of a file: pairs, rankings, examples, labelled responses (a false one is no answer) or prompts, whose
    right answer may stand in `reference`. Raises DataError for a bad row or an empty file.
    """
    file = Path(path)
    rows = [_parse_project_row(row, place=_Place(file, line), parse=parse_verifier) for line, row in read_rows(file)]
    if not rows:
        raise DataError(f"{file} holds no rows")
    return rows


def _parse_project_row(row: dict[str, Any], *, place: _Place, parse: Callable[[Any], Verifier]) -> ProjectRow[Verifier]:
    if "chosen" in row or "ranks" in row:
        pairs = _parse_row(row, place=place, margins=None)
        prompt = pairs[0].prompt if pairs else parse_turns(row.get("prompt"), role="user", field="prompt", place=place)
        return ProjectRow(prompt, None, None, [pair for pair in pairs if not pair.tied])
    verifier = _read_verifier(row, parse=parse, place=place) if row.get("verifier") else None
    if {"messages", "completion", "response"} & row.keys():
        example = _parse_example(row, place=place)
        answer = text_of([example.messages[turn] for turn in example.learned])
        return ProjectRow(example.prompt, None if row.get("label") is False else answer, verifier, [])
    prompt = parse_turns(row.get("prompt"), role="user", field="prompt", place=place)
    reference = row.get("reference")
    if reference is not None and not isinstance(reference, str):
        raise place.fault("reference", f"expected a string, found {_show(reference)}")
    return ProjectRow(prompt, reference, verifier, [])


def _read_verifier(row: dict[str, Any], *, parse: Callable[[Any], Verifier], place: _Place) -> Verifier:
    try:
        return read_verifier(row.get("verifier"), parse=parse)
    except InputError as error:
        raise place.fault("verifier", str(error)) from None


def read_verifier(said: Any, *, parse: Callable[[Any], Verifier]) -> Verifier:
    """The verifier that a row names: a mapping, or one as JSON text, since snapshots keep it so.

    Raises InputError for none, for text that is not JSON, and as `parse` does.
    """
    if said is None or said == "":
        raise InputError("missing")
    try:
        return parse(json.loads(said) if isinstance(said, str) else said)
    except json.JSONDecodeError as error:
        raise InputError(f"is text, but not JSON: {error}") from None


def _read_response(value: Any, *, place: _Place) -> str:
    """The words of a response, which may be empty: a model that says nothing has answered too."""
    if value == "":
        return ""
    return text_of(parse_turns(value, role="assistant", field="response", place=place))


def read_examples(path: str | Path) -> list[Example]:
    """The conversations of a file to imitate, in its order. Raises DataError for a bad row or an empty file.

    A row holds `messages`, of which every assistant turn is learned, or `prompt` and `completion` (or `response`).
    """
    file = Path(path)
    examples = [_parse_example(row, place=_Place(file, line)) for line, row in read_rows(file)]
    if not examples:
        raise DataError(f"{file} holds no rows")
    return examples


def read_labelled(path: str | Path) -> list[Example]:
    """The labelled responses of a file: rows of prompt, completion (or response) and label.

    Raises DataError for a bad row, a label that is neither true nor false, or an empty file.
    """
    file = Path(path)
    examples = []
    for line, row in read_rows(file):
        place = _Place(file, line)
        if "label" not in row:
            raise place.fault("label", "missing")
        if not isinstance(row["label"], bool):
            raise place.fault("label", f"expected true or false, found {_show(row['label'])}")
        example = _parse_completion(row, place=place)
        if len(example.messages) > example.n_context + 1:
            raise place.fault("completion", "expected one turn of the assistant, which the label is about")
        examples.append(replace(example, label=row["label"]))
    if not examples:
        raise DataError(f"{file} holds no rows")
    return examples


def parse_turns(value: Any, *, role: str, field: str, place: _Place) -> list[Message]:
    """Messages from a list of messages, or from a string as one turn of `role`."""
    if value is None:
        raise place.fault(field, "missing")
    turns = [{"role": role, "content": value}] if isinstance(value, str) else value
    if not isinstance(turns, list) or not turns:
        raise place.fault(field, f"expected a string or a list of messages, found {_show(value)}")
    return [_parse_message(turn, field=f"{field}[{i}]", place=place) for i, turn in enumerate(turns)]


def text_of(messages: list[Message]) -> str:
    """The words of some turns, for lengths and displays."""
    return "\n".join(message["content"] for message in messages)


def _parse_message(turn: Any, *, field: str, place: _Place) -> Message:
    if not isinstance(turn, dict):
        raise place.fault(field, f"expected a message {{role, content}}, found {_show(turn)}")
    role, content = turn.get("role"), turn.get("content")
    if role not in ROLES:
        raise place.fault(f"{field}.role", f"expected one of {', '.join(ROLES)}, found {_show(role)}")
    if not isinstance(content, str):
        raise place.fault(f"{field}.content", f"expected a string, found {_show(content)}")
    try:
        content.encode("utf-8")
    except UnicodeEncodeError:
        raise place.fault(f"{field}.content", "holds half a surrogate pair, which is not text") from None
    return {"role": role, "content": content}


def _parse_example(row: dict[str, Any], *, place: _Place) -> Example:
    if "messages" not in row:
        return _parse_completion(row, place=place)
    if "prompt" in row or "completion" in row:
        raise place.fault("messages", "given beside prompt or completion; drop one of them")
    messages = parse_turns(row["messages"], role="user", field="messages", place=place)
    spoken = [number for number, message in enumerate(messages) if message["role"] == "assistant"]
    if not spoken:
        raise place.fault("messages", "holds no turn of the assistant, so there is nothing to learn")
    if spoken[0] == 0:
        raise place.fault("messages[0].role", "the assistant speaks first, so its turn answers nothing; drop the turn")
    return Example(messages, 0, _hash_prompt(messages[: spoken[0]]), place.line)


def _parse_completion(row: dict[str, Any], *, place: _Place) -> Example:
    if "completion" in row and "response" in row:
        raise place.fault("response", "given beside completion; drop one of them")
    field = "response" if "response" in row else "completion"
    prompt = parse_turns(row.get("prompt"), role="user", field="prompt", place=place)
    completion = parse_turns(row.get(field), role="assistant", field=field, place=place)
    if completion[0]["role"] != "assistant":
        raise place.fault(f"{field}[0].role", f"expected assistant, found {completion[0]['role']}")
    return Example([*prompt, *completion], len(prompt), _hash_prompt(prompt), place.line)


def _parse_row(row: dict[str, Any], *, place: _Place, margins: Mapping[str, float] | None) -> list[Pair]:
    margin = _settle_margin(row, place=place, margins=margins)
    weight = _read_number(row, field="weight", default=1.0, place=place)
    if weight < 0:
        raise place.fault("weight", f"expected at least 0, found {weight}")
    if "responses" in row:
        return _parse_ranking(row, place=place, margin=margin, weight=weight)
    if _is_list_of_texts(row.get("chosen")) or _is_list_of_texts(row.get("rejected")):
        return _parse_best_of(row, place=place, margin=margin, weight=weight)
    return [_parse_pair(row, place=place, margin=margin, weight=weight)]


def _parse_ranking(row: dict[str, Any], *, place: _Place, margin: float | None, weight: float) -> list[Pair]:
    """All comparisons of one ranking, strict ones first."""
    prompt = parse_turns(row.get("prompt"), role="user", field="prompt", place=place)
    responses = row["responses"]
    if not isinstance(responses, list) or len(responses) < 2:
        raise place.fault("responses", f"expected at least two responses, found {_show(responses)}")
    turns = [
        parse_turns(text, role="assistant", field=f"responses[{i}]", place=place) for i, text in enumerate(responses)
    ]
    ranks = row.get("ranks")
    if not isinstance(ranks, list) or any(isinstance(rank, bool) or not isinstance(rank, int) for rank in ranks):
        raise place.fault("ranks", f"expected a list of whole numbers, found {_show(ranks)}")
    if ranks and len(ranks) != len(responses):
        raise place.fault("ranks", f"{len(ranks)} ranks for {len(responses)} responses")
    strict, tied = comparisons_of(ranks, task=_read_task(row, place=place))
    strength_margin = margin if len(responses) == 2 or margin is None else 0.0  # a strength is said of two responses
    group_id = _read_group(row, place=place)
    return [
        Pair(
            prompt=prompt,
            chosen=turns[better],
            rejected=turns[worse],
            prompt_id=_hash_prompt(prompt),
            margin=strength_margin,
            line=place.line,
            weight=weight,
            tied=is_tie,
            group_id=group_id,
        )
        for pairs, is_tie in ((strict, False), (tied, True))
        for better, worse in pairs
    ]


def _parse_pair(row: dict[str, Any], *, place: _Place, margin: float | None, weight: float) -> Pair:
    for side in ("chosen", "rejected"):
        if row.get(side) is None:
            raise place.fault(side, "missing")
    if "prompt" not in row:
        row = {**row, **_split_common_prefix(row["chosen"], row["rejected"], place=place)}
    prompt = parse_turns(row["prompt"], role="user", field="prompt", place=place)
    probability = _read_number(row, field="p", default=1.0, place=place)
    if not 0 <= probability <= 1:
        raise place.fault("p", f"expected a probability from 0 to 1, found {probability}")
    sides = [parse_turns(row[side], role="assistant", field=side, place=place) for side in ("chosen", "rejected")]
    chosen, rejected = sides if probability >= 0.5 else reversed(sides)
    return Pair(
        prompt=prompt,
        chosen=chosen,
        rejected=rejected,
        prompt_id=_hash_prompt(prompt),
        margin=margin,
        line=place.line,
        weight=weight,
        probability=max(probability, 1 - probability),
        group_id=_read_group(row, place=place),
    )


def _parse_best_of(row: dict[str, Any], *, place: _Place, margin: float | None, weight: float) -> list[Pair]:
    """Every chosen text before every rejected one: rows in the shape of RewardBench 2. They share a group."""
    for side in ("chosen", "rejected"):
        if not _is_list_of_texts(row.get(side)):
            raise place.fault(side, f"expected a list of texts, as on the other side, found {_show(row.get(side))}")
    if "prompt" not in row:
        raise place.fault("prompt", "missing; rows of several responses need it")
    return [
        _parse_pair({**row, "chosen": chosen, "rejected": rejected}, place=place, margin=margin, weight=weight)
        for chosen in row["chosen"]
        for rejected in row["rejected"]
    ]


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and bool(value) and all(isinstance(text, str) for text in value)


def _read_group(row: dict[str, Any], *, place: _Place) -> str:
    """The judgement a row belongs to; a row that names none is one of its own."""
    known = {} if row.get("group_id") is None else row
    return _read_identifier(known, field="group_id", default=f"line-{place.line}", place=place)


def _read_task(row: dict[str, Any], *, place: _Place) -> str:
    task = row.get("task") or "ranking"
    if not isinstance(task, str):
        raise place.fault("task", f"expected a word, found {_show(task)}")
    return task


def _settle_margin(row: dict[str, Any], *, place: _Place, margins: Mapping[str, float] | None) -> float | None:
    """The row's own margin, or that of its strength in the table; never both."""
    margin = _read_margin(row.get("margin"), place=place)
    if margins is None:
        return margin
    if margin is not None:
        raise place.fault("margin", "given here, while the spec makes margins from strengths; drop one of them")
    strength = row.get("strength")
    if strength is None:
        return 0.0
    if isinstance(strength, bool) or not isinstance(strength, int):
        raise place.fault("strength", f"expected a whole number from 0 to 3, found {_show(strength)}")
    key = str(abs(strength))  # older snapshots gave the side as a sign; chosen and rejected say it already
    if key not in margins:
        raise place.fault("strength", f"{strength} is not in the spec's table of margins ({', '.join(margins)})")
    return margins[key]


def _split_common_prefix(chosen: Any, rejected: Any, *, place: _Place) -> dict[str, Any]:
    """Prompt, chosen and rejected of a row without a prompt, split where TRL's `extract_prompt` splits it."""
    if type(chosen) is not type(rejected) or not isinstance(chosen, str | list):
        raise place.fault("chosen", "without a prompt, chosen and rejected must both be lists of messages or strings")
    shared = 0
    while shared < min(len(chosen), len(rejected)) and chosen[shared] == rejected[shared]:
        shared += 1
    if shared == min(len(chosen), len(rejected)):
        raise place.fault(
            "chosen", "chosen and rejected do not differ, so the prompt cannot be told apart; add `prompt`"
        )
    if isinstance(chosen, str) and shared > 0 and chosen[shared - 1] == " ":
        shared -= 1  # a space belongs to the word it precedes
    if shared == 0:
        raise place.fault("prompt", "missing, and chosen and rejected share no beginning")
    return {"prompt": chosen[:shared], "chosen": chosen[shared:], "rejected": rejected[shared:]}


def _read_margin(value: Any, *, place: _Place) -> float | None:
    return None if value is None else _check_number(value, field="margin", place=place)


def _read_number(row: dict[str, Any], *, field: str, default: float, place: _Place) -> float:
    value = row.get(field)
    return default if value is None else _check_number(value, field=field, place=place)


def _check_number(value: Any, *, field: str, place: _Place) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise place.fault(field, f"expected a finite number, found {_show(value)}")
    return float(value)


def _read_identifier(row: dict[str, Any], *, field: str, default: str, place: _Place) -> str:
    value = row.get(field, default)
    if isinstance(value, bool) or not isinstance(value, str | int) or value == "":
        raise place.fault(field, f"expected a string, found {_show(value)}")
    return str(value)


def _hash_prompt(prompt: list[Message]) -> str:
    canonical = json.dumps(prompt, ensure_ascii=False, sort_keys=True)
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()[:16]


def _show(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
