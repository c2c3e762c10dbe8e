"""Understands rows: says which format a file has and turns each raw row into a checked, typed one.

Pure: no database. A row that is not understood raises RowRefused with the field and a reason a person can act on;
nothing becomes a default silently. Text is kept byte for byte.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from annotation.domain.import_readers import RawRow, RowRefused, name_type, parse_json_cell

FORMATS = ("auto", "prompts", "responses", "preferences", "annotated-items")
ACCEPTED = """accepted are rows with
  prompts: prompt (or messages, question), optionally id, system, metadata, reference, verifier
  responses: a prompt and responses (a list of 2 to 9), or in CSV the columns prompt, response_1, response_2, …
  preferences: chosen and rejected, with or without a prompt
  annotated-items: item_id with prompt and responses, or with topic and response_ids; item_id, annotator and ranks;
    argument_id, topic and text; topic, name and prompt"""

ID_LIMIT = 200
NAME_LIMIT = 150
CRITERION_LIMIT = 100
MOST_RESPONSES = 9
DEFAULT_SOURCE = "import"
DEFAULT_ANNOTATOR = "imported"
PROMPT_FIELDS = ("prompt", "messages", "question")
ID_FIELDS = ("id", "item_id")
RESPONSE_ID_FIELDS = ("id", "response_id")
TEXT_FIELDS = ("text", "content")
SOURCE_FIELDS = ("source", "system", "model")
CSV_RESPONSE = re.compile(r"response_([1-9]\d?)")
CSV_SOURCE = re.compile(r"(?:source|system|model)_([1-9]\d?)")
ALIASES_KEY = "import_rows"
"""In a prompt's metadata: the further fields of rows that share the prompt under another id."""

TOPICS_KEY = "import_topics"
"""The same for topics, by whose name arguments find their prompt."""
LITERAL_KEY = "text_was"
"""In a response's metadata: the JSON type of a text that did not come as text."""

Messages = list[dict[str, str]]


@dataclass(frozen=True)
class PromptRow:
    """A prompt; `id` is the row's, from its `id_field`, or made from its content where it has none (None)."""

    line: int
    id: str
    id_field: str | None
    messages: Messages
    content_hash: str
    reference: str | None = None
    verifier: dict[str, Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ResponseRow:
    """A response; `id` is unique among the responses of its prompt."""

    id: str
    text: str
    source: str
    metadata: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class ResponsesRow:
    """A prompt with the 2 to 9 responses of one slate."""

    prompt: PromptRow
    responses: tuple[ResponseRow, ...]

    @property
    def line(self) -> int:
        return self.prompt.line


@dataclass(frozen=True)
class PairRow:
    """A prompt with two responses, of which `responses[best]` was chosen.

    The responses stand in the order of their hashes: were the chosen one always first, the order would tell, and
    agreement would be counted on a constant.
    """

    prompt: PromptRow
    responses: tuple[ResponseRow, ...]
    best: int
    annotator: str
    metadata: dict[str, Any]

    @property
    def line(self) -> int:
        return self.prompt.line


@dataclass(frozen=True)
class ArgumentRow:
    """A response of a pool: it answers its topic's prompt and appears in many items."""

    line: int
    topic: str
    response: ResponseRow


@dataclass(frozen=True)
class PooledItemRow:
    """A slate over responses of its topic's pool."""

    line: int
    id: str
    topic: str
    response_ids: tuple[str, ...]
    metadata: dict[str, Any]


@dataclass(frozen=True)
class AnnotationRow:
    """One annotator's ranks for the responses of one item, in the item's order; 1 is best, equal is a tie."""

    line: int
    item_id: str
    annotator: str
    criterion: str
    ranks: tuple[int, ...]
    ratings: dict[str, list[int | float | None]] | None
    rationale: str
    metadata: dict[str, Any]


Row = PromptRow | ResponsesRow | PairRow | ArgumentRow | PooledItemRow | AnnotationRow


@dataclass(frozen=True)
class Kind:
    """What one file holds. `rank` is its place in the order of a call: what others refer to comes first."""

    name: str
    formats: tuple[str, ...]
    rank: int
    parse: Callable[[RawRow], Row]


def detect_kind(row: RawRow, *, format: str, beside_pool: bool = False) -> Kind:
    """Tell a file's kind from its first row, within `format` unless that is "auto".

    `beside_pool` says that the same call brings arguments or items that refer to topics. Raises RowRefused where
    the fields fit no kind, or two.
    """
    if format in KINDS:
        return KINDS[format]
    name = _name_kind(set(row.fields), beside_pool=beside_pool or format == "annotated-items")
    if name == "ambiguous":
        raise RowRefused(
            None,
            "rows of topic and prompt alone may be topics or prompts: import topics together with their arguments, "
            "or choose the format prompts or annotated-items",
        )
    if name is None or (format != "auto" and format not in KINDS[name].formats):
        found = ", ".join(sorted(row.fields)) or "none"
        wanted = "a known format" if format == "auto" else f"the format {format}"
        raise RowRefused(None, f"the fields ({found[:300]}) are not those of {wanted}; {ACCEPTED}")
    return KINDS[name]


def _name_kind(names: set[str], *, beside_pool: bool) -> str | None:
    if {"chosen", "rejected"} <= names:
        return "preferences"
    if "ranks" in names:
        return "annotations"
    if "argument_id" in names:
        return "arguments"
    if "response_ids" in names:
        return "pooled items"
    if "responses" in names or "response_1" in names:
        return "responses"
    if {"topic", "prompt"} <= names <= {"topic", "name", "prompt"}:
        return "topics" if beside_pool else "ambiguous"
    return "prompts" if names & set(PROMPT_FIELDS) else None


def parse_prompt(row: RawRow) -> PromptRow:
    """A row of a prompts file."""
    for name in ("responses", "response_1", "chosen", "rejected", "ranks", "response_ids"):
        if row.fields.get(name) is not None:
            raise RowRefused(name, "the file is read as prompts, but this row has more; choose the format it has")
    fields = _read_fields(row)
    row_id = _take_row_id(fields)
    return _make_prompt(row.line, fields, row_id=row_id)


def parse_topic(row: RawRow) -> PromptRow:
    """A row {topic, name, prompt}: the prompt that the arguments of the topic answer."""
    fields = _read_fields(row)
    topic = _need_id(fields, "topic")
    return _make_prompt(row.line, fields, row_id=("topic", topic))


def parse_responses(row: RawRow) -> ResponsesRow:
    """A prompt with a list `responses`, or with the columns response_1, response_2, …"""
    fields = _read_fields(row)
    row_id = _take_row_id(fields)
    given = _take_responses(fields)
    if not 2 <= len(given) <= MOST_RESPONSES:
        raise RowRefused("responses", f"a slate needs 2 to {MOST_RESPONSES} responses, this row has {len(given)}")
    parsed = [_parse_response(value, number) for number, value in enumerate(given, 1)]
    twin = _find_twin([response.id for response in parsed])
    if twin is not None:
        raise RowRefused("responses", f"two responses have the id {twin!r}")
    content = [[r.id, r.text, r.source, r.metadata] for r in parsed]
    prompt = _make_prompt(row.line, fields, row_id=row_id, content=content)
    return ResponsesRow(prompt=prompt, responses=_prefix_ids(prompt.id, parsed))


def parse_preference(row: RawRow) -> PairRow:
    """A chosen and a rejected response as in TRL: explicit or implicit prompt, text or conversations, or HH-RLHF."""
    fields = _read_fields(row)
    row_id = _take_row_id(fields)
    annotator = _take_name(fields, "annotator", default=DEFAULT_ANNOTATOR)
    messages, chosen, rejected = _split_pair(fields)
    sources = [_take_pair_source(fields, side) for side in ("chosen", "rejected")]
    of_prompt = {name: fields.pop(name) for name in PAIR_PROMPT_FIELDS if fields.get(name) is not None}
    metadata = {name: value for name, value in fields.items() if value is not None}
    content = [annotator, chosen, rejected, sources, metadata]
    prompt = _make_prompt(row.line, {**of_prompt, "prompt": messages}, row_id=row_id, content=content)
    pair = [(chosen, sources[0]), (rejected, sources[1])]
    order = sorted((0, 1), key=lambda side: hashlib.sha256(pair[side][0].encode()).digest())
    replies = [ResponseRow(id=str(n), text=pair[i][0], source=pair[i][1]) for n, i in enumerate(order, 1)]
    return PairRow(
        prompt=prompt,
        responses=_prefix_ids(prompt.id, replies),
        best=order.index(0),
        annotator=annotator,
        metadata=metadata,
    )


PAIR_PROMPT_FIELDS = ("system", "metadata", "category", "reference", "verifier")


def parse_argument(row: RawRow) -> ArgumentRow:
    """A row {argument_id, topic, text}."""
    fields = _read_fields(row)
    argument, topic = _need_id(fields, "argument_id"), _need_id(fields, "topic")
    source = _take_source(fields, SOURCE_FIELDS)
    text = _need_text(fields, "text")
    response = ResponseRow(id=argument, text=text, source=source, metadata=_take_metadata(fields))
    return ArgumentRow(line=row.line, topic=topic, response=response)


def parse_pooled_item(row: RawRow) -> PooledItemRow:
    """A row {item_id, topic, response_ids}."""
    fields = _read_fields(row)
    item, topic = _need_id(fields, "item_id"), _need_id(fields, "topic")
    ids = fields.pop("response_ids", None)
    if not isinstance(ids, list) or not all(isinstance(value, str) for value in ids):
        raise RowRefused("response_ids", "it must be a list of ids (text)")
    if not 2 <= len(ids) <= MOST_RESPONSES:
        reason = f"a slate needs 2 to {MOST_RESPONSES} responses, this row has {len(ids)}"
        raise RowRefused("response_ids", reason)
    if (twin := _find_twin(ids)) is not None:
        raise RowRefused("response_ids", f"it names {twin!r} twice")
    metadata = _take_metadata(fields)
    return PooledItemRow(line=row.line, id=item, topic=topic, response_ids=tuple(ids), metadata=metadata)


def parse_annotation(row: RawRow) -> AnnotationRow:
    """A row {item_id, annotator, ranks, criterion?, rationale?, ratings?, …}; the rest becomes metadata."""
    fields = _read_fields(row)
    item = _need_id(fields, "item_id")
    annotator = _take_name(fields, "annotator", default=None)
    criterion = _take_text(fields, "criterion") or ""
    if len(criterion) > CRITERION_LIMIT:
        raise RowRefused("criterion", f"it is longer than {CRITERION_LIMIT} characters")
    ranks = _parse_ranks(fields.pop("ranks", None))
    ratings = _parse_ratings(fields.pop("ratings", None), criterion=criterion, count=len(ranks))
    rationale = _take_text(fields, "rationale") or ""
    metadata = {**({"criterion": criterion} if criterion else {}), **_take_metadata(fields)}
    return AnnotationRow(
        line=row.line,
        item_id=item,
        annotator=annotator,
        criterion=criterion,
        ranks=ranks,
        ratings=ratings,
        rationale=rationale,
        metadata=metadata,
    )


KINDS = {
    kind.name: kind
    for kind in (
        Kind("topics", ("annotated-items",), 0, parse_topic),
        Kind("arguments", ("annotated-items",), 1, parse_argument),
        Kind("prompts", ("prompts",), 2, parse_prompt),
        Kind("responses", ("responses", "annotated-items"), 2, parse_responses),
        Kind("pooled items", ("annotated-items",), 2, parse_pooled_item),
        Kind("preferences", ("preferences",), 2, parse_preference),
        Kind("annotations", ("annotated-items",), 3, parse_annotation),
    )
}


def _read_fields(row: RawRow) -> dict[str, Any]:
    """A copy of the row's fields, in which the structured cells of a CSV file are read as JSON."""
    fields = dict(row.fields)
    if not row.is_csv:
        return fields
    for name, cell in row.fields.items():
        if cell is None:
            continue
        if name in JSON_CELLS:
            fields[name] = parse_json_cell(name, cell)
        elif name in MESSAGE_CELLS and cell.lstrip().startswith("["):
            fields[name] = _read_message_cell(name, cell)
    return fields


JSON_CELLS = ("messages", "responses", "response_ids", "ranks", "ratings", "metadata", "verifier")
MESSAGE_CELLS = ("prompt", "question", "chosen", "rejected")


def _read_message_cell(name: str, cell: str) -> Any:
    """Messages where the cell holds a JSON list of them; the text itself otherwise."""
    try:
        value = parse_json_cell(name, cell)
    except RowRefused:
        return cell
    is_messages = isinstance(value, list) and value and all(isinstance(m, dict) and "role" in m for m in value)
    return value if is_messages else cell


def hash_messages(messages: Sequence[Any]) -> str:
    """The identity of a prompt: SHA-256 of the canonical JSON of its messages."""
    return _hash_json(list(messages))


def check_messages(name: str, value: Any) -> Messages:
    """Check a list of {role, content}: known roles, text only, a system message only at the start."""
    if not isinstance(value, list) or not value:
        raise RowRefused(name, f"it must be text or a list of messages, not {_name_shape(value)}")
    return [_check_message(name, number, message) for number, message in enumerate(value, 1)]


def _check_message(name: str, number: int, message: Any) -> dict[str, str]:
    if not isinstance(message, dict):
        raise RowRefused(name, f"message {number} must be an object of role and content, not {name_type(message)}")
    known = {key: value for key, value in message.items() if value is not None}
    if strange := sorted(set(known) - {"role", "content"}):
        raise RowRefused(name, f"message {number} has {strange[0]!r}; a message has role and content only")
    role, content = known.get("role"), known.get("content")
    if role not in ("system", "user", "assistant", "tool"):
        shown = repr(role) if isinstance(role, str) else name_type(role)
        raise RowRefused(name, f"the role of message {number} is {shown}, not system, user, assistant or tool")
    if not isinstance(content, str):
        raise RowRefused(name, f"the content of message {number} must be text, not {name_type(content)}")
    if role == "system" and number > 1:
        raise RowRefused(name, f"message {number} is a system message, which may only come first")
    return {"role": role, "content": content}


def _make_prompt(
    line: int, fields: dict[str, Any], *, row_id: tuple[str, str] | None, content: Any = None
) -> PromptRow:
    """Take the prompt's fields out of `fields` and keep the others as metadata.

    Where the row has no id, its `content` beside the prompt is part of its identity.
    """
    messages = _take_messages(fields)
    reference = _take_text(fields, "reference")
    verifier = _take_json(fields, "verifier")
    if verifier is not None and not (isinstance(verifier, dict) and isinstance(verifier.get("kind"), str)):
        raise RowRefused("verifier", 'it must be an object with a "kind", such as {"kind": "math", "answer": "4"}')
    metadata = _take_metadata(fields)
    if kept := sorted({ALIASES_KEY, TOPICS_KEY} & set(metadata)):
        raise RowRefused(kept[0], "this name is kept for the importer")
    return PromptRow(
        line=line,
        id=row_id[1] if row_id else _hash_json([messages, reference, verifier, metadata, content]),
        id_field=row_id[0] if row_id else None,
        messages=messages,
        content_hash=hash_messages(messages),
        reference=reference,
        verifier=verifier,
        metadata=metadata,
    )


def _take_messages(fields: dict[str, Any]) -> Messages:
    name = next((name for name in PROMPT_FIELDS if fields.get(name) is not None), None)
    if name is None:
        raise RowRefused("prompt", "it is missing")
    value = _read_prompt_text(fields.pop(name))
    messages = [{"role": "user", "content": value}] if isinstance(value, str) else check_messages(name, value)
    system = _take_text(fields, "system")
    if system is not None:
        if messages[0]["role"] == "system":
            raise RowRefused("system", "the messages have a system message already")
        messages = [{"role": "system", "content": system}, *messages]
    if messages[-1]["role"] not in ("user", "tool"):
        last = messages[-1]["role"]
        raise RowRefused(name, f"the last turn must be the user's, where a response is wanted; it is the {last}'s")
    if not any(message["content"].strip() for message in messages if message["role"] != "system"):
        raise RowRefused(name, "it is empty")
    return messages


def _read_prompt_text(value: Any) -> Any:
    """Turn a prompt in HH-RLHF's style into messages and leave others alone.

    Such a prompt ends in the mark of the reply that is wanted, which is no turn yet.
    """
    if not isinstance(value, str) or not value.startswith(DIALOGUE_START):
        return value
    messages = parse_dialogue(value)
    return messages[:-1] if messages[-1] == {"role": "assistant", "content": ""} else messages


DIALOGUE_START = "\n\nHuman:"
DIALOGUE_TURN = re.compile(r"\n\n(Human|Assistant): ?")


def parse_dialogue(text: str) -> Messages:
    """Read "\\n\\nHuman: …\\n\\nAssistant: …"; each turn is kept exactly, without the mark and its one space."""
    marks = list(DIALOGUE_TURN.finditer(text))
    ends = [mark.start() for mark in marks[1:]] + [len(text)]
    roles = {"Human": "user", "Assistant": "assistant"}
    return [{"role": roles[mark[1]], "content": text[mark.end() : end]} for mark, end in zip(marks, ends, strict=True)]


def _split_pair(fields: dict[str, Any]) -> tuple[Messages | str, str, str]:
    """Take prompt, chosen reply and rejected reply out of a preference row."""
    sides: list[Messages | str] = []
    for name in ("chosen", "rejected"):
        value = fields.pop(name, None)
        if value is None:
            raise RowRefused(name, "it is missing")
        if isinstance(value, str) and value.startswith(DIALOGUE_START):
            value = parse_dialogue(value)
        sides.append(value if isinstance(value, str) else check_messages(name, value))
    explicit = next((name for name in PROMPT_FIELDS if fields.get(name) is not None), None)
    if explicit is not None:
        prompt = _read_prompt_text(fields.pop(explicit))
        return _split_explicit(explicit, prompt, *sides)
    match sides:
        case [str() as chosen, str() as rejected]:
            return _split_shared_text(chosen, rejected)
        case [list() as chosen, list() as rejected]:
            return _split_shared_messages(chosen, rejected)
    raise RowRefused("rejected", MIXED_SIDES)


MIXED_SIDES = "chosen and rejected must both be text or both be messages"


def _split_shared_messages(chosen: Messages, rejected: Messages) -> tuple[Messages, str, str]:
    """The prompt is what both conversations hold before their last reply."""
    context = _check_last_reply("chosen", chosen)
    if _check_last_reply("rejected", rejected) != context:
        raise RowRefused("rejected", "chosen and rejected differ before the last reply, so they share no prompt")
    if not context:
        raise RowRefused("prompt", "it is missing, and chosen and rejected do not start with it")
    return context, chosen[-1]["content"], rejected[-1]["content"]


def _split_explicit(
    name: str, prompt: Any, chosen: Messages | str, rejected: Messages | str
) -> tuple[Messages, str, str]:
    """The prompt stands on its own; conversations may repeat it before the reply."""
    messages = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else check_messages(name, prompt)
    if isinstance(chosen, str) and isinstance(rejected, str):
        # After "\n\nAssistant:" comes one space, which belongs to the mark.
        if not isinstance(prompt, str) and chosen[:1] == rejected[:1] == " ":
            chosen, rejected = chosen[1:], rejected[1:]
        return messages, chosen, rejected
    if isinstance(chosen, str) or isinstance(rejected, str):
        raise RowRefused("rejected", MIXED_SIDES)
    for side, turns in (("chosen", chosen), ("rejected", rejected)):
        if (context := _check_last_reply(side, turns)) and context != messages:
            raise RowRefused(side, "its messages before the reply are not those of the prompt")
    return messages, chosen[-1]["content"], rejected[-1]["content"]


def _check_last_reply(name: str, messages: Messages) -> Messages:
    """Return the messages before the reply; the last one must be the reply."""
    if messages[-1]["role"] != "assistant":
        raise RowRefused(name, f"the last message must be the assistant's; it is the {messages[-1]['role']}'s")
    return messages[:-1]


def _split_shared_text(chosen: str, rejected: str) -> tuple[str, str, str]:
    """The prompt is what both texts start with, up to the last white space, which begins the replies (as in TRL)."""
    shorter = min(len(chosen), len(rejected))
    shared = next((index for index in range(shorter) if chosen[index] != rejected[index]), shorter)
    words = re.match(r"(?s).*\S(?=\s)", chosen[:shared])
    cut = words.end() if words else 0
    if cut == 0 or chosen == rejected:
        raise RowRefused("prompt", "it is missing, and chosen and rejected do not start with the same words")
    return chosen[:cut], chosen[cut:], rejected[cut:]


def _take_responses(fields: dict[str, Any]) -> list[Any]:
    if fields.get("responses") is not None:
        given = fields.pop("responses")
        if not isinstance(given, list):
            raise RowRefused("responses", f"it must be a list, not {name_type(given)}")
        return given
    columns = [match for name in fields if (match := CSV_RESPONSE.fullmatch(name))]
    if not columns:
        raise RowRefused("responses", "it is missing")
    numbers = sorted(int(match[1]) for match in columns if fields[match[0]] is not None)
    given = []
    for number in numbers:
        text = _need_text(fields, f"response_{number}")
        source = _take_source(fields, tuple(f"{name}_{number}" for name in SOURCE_FIELDS))
        given.append({"text": text, "source": source})
    for name in list(fields):
        if (match := CSV_SOURCE.fullmatch(name)) and fields[name] is not None:
            raise RowRefused(name, f"there is no response_{match[1]} in this row")
    return given


def _parse_response(value: Any, number: int) -> ResponseRow:
    """One element of `responses`: text, or an object with the text and where it came from."""
    if isinstance(value, str):
        return ResponseRow(id=str(number), text=value, source=DEFAULT_SOURCE)
    if not isinstance(value, dict):
        raise RowRefused("responses", f"response {number} must be text or an object, not {name_type(value)}")
    fields = dict(value)
    try:
        role = fields.pop("role", None)
        if role not in (None, "assistant"):
            raise RowRefused("role", "it must be assistant")
        name = next((name for name in TEXT_FIELDS if fields.get(name) is not None), "text")
        # A reply such as "true" or "42" comes as a boolean or a number from tools that guess types (PandaLM's test
        # set has six). It is kept as spelled in the file, and marked; a fraction's spelling would be lost.
        literal = fields[name] if type(fields.get(name)) in (bool, int) else None
        if literal is not None:
            fields[name] = json.dumps(literal)
        text = _need_text(fields, name)
        given = _take_id(fields, RESPONSE_ID_FIELDS)
        source = _take_source(fields, SOURCE_FIELDS)
        metadata = _take_metadata(fields)
        if literal is not None:
            metadata[LITERAL_KEY] = "boolean" if isinstance(literal, bool) else "number"
    except RowRefused as error:
        raise RowRefused("responses", f"{error.field} of response {number}: {error.reason}") from None
    return ResponseRow(id=given or str(number), text=text, source=source, metadata=metadata)


def _prefix_ids(row_id: str, responses: Sequence[ResponseRow]) -> tuple[ResponseRow, ...]:
    """Make response ids unique under a prompt that several rows may share."""
    prefixed = []
    for response in responses:
        full = f"{row_id}/{response.id}"
        if len(full) > ID_LIMIT:
            raise RowRefused("id", f"row id and response id together are longer than {ID_LIMIT - 1} characters")
        prefixed.append(ResponseRow(full, response.text, response.source, response.metadata))
    return tuple(prefixed)


def _parse_ranks(value: Any) -> tuple[int, ...]:
    if value is None:
        raise RowRefused("ranks", "it is missing")
    if not isinstance(value, list):
        raise RowRefused("ranks", f"it must be a list of positive whole numbers, not {name_type(value)}")
    for rank in value:
        if type(rank) is not int or rank < 1:
            shown = json.dumps(rank)[:40]
            raise RowRefused("ranks", f"it must be a list of positive whole numbers (1 is best); {shown} is not")
    return tuple(value)


def _parse_ratings(value: Any, *, criterion: str, count: int) -> dict[str, list[int | float | None]] | None:
    """Ratings by criterion, each a number or null for every response, in the item's order."""
    if value is None:
        return None
    table = value if isinstance(value, dict) else {criterion or "overall": value}
    for name, numbers in table.items():
        if not isinstance(numbers, list) or len(numbers) != count:
            raise RowRefused("ratings", f"{name!r} must be a list of {count} numbers, one for each response")
        if any(type(number) not in (int, float, type(None)) for number in numbers):
            raise RowRefused("ratings", f"{name!r} holds something that is not a number")
    return table


def _take_pair_source(fields: dict[str, Any], side: str) -> str:
    return _take_source(fields, (f"{side}_source", f"{side}_model", f"{side}_system"))


def _take_source(fields: dict[str, Any], names: Sequence[str]) -> str:
    """The first of the names that is given; where none is, the response came by this import."""
    for name in names:
        if (source := _take_text(fields, name)) is not None:
            if not source.strip():
                raise RowRefused(name, "it is empty")
            if len(source) > ID_LIMIT:
                raise RowRefused(name, f"it is longer than {ID_LIMIT} characters")
            return source
    return DEFAULT_SOURCE


def _take_name(fields: dict[str, Any], name: str, *, default: str | None) -> str:
    value = fields.pop(name, None)
    value = str(value) if type(value) is int else value
    if value is None and default is not None:
        return default
    if not isinstance(value, str) or not value.strip():
        reason = "it is missing" if value is None else f"it must be a name, not {_name_shape(value)}"
        raise RowRefused(name, reason)
    if len(value) > NAME_LIMIT:
        raise RowRefused(name, f"it is longer than {NAME_LIMIT} characters")
    return value


def _take_id(fields: dict[str, Any], names: Sequence[str]) -> str | None:
    """The first of the names that is given, as text; the others stay."""
    name = next((name for name in names if fields.get(name) is not None), None)
    if name is None:
        return None
    value = fields.pop(name)
    if type(value) is int:
        value = str(value)
    if not isinstance(value, str) or not value.strip():
        raise RowRefused(name, f"it must be text or a whole number, not {_name_shape(value)}")
    if len(value) > ID_LIMIT:
        raise RowRefused(name, f"it is longer than {ID_LIMIT} characters")
    return value


def _take_row_id(fields: dict[str, Any]) -> tuple[str, str] | None:
    """Which field names the row, and its id."""
    name = next((name for name in ID_FIELDS if fields.get(name) is not None), None)
    return None if name is None else (name, _need_id(fields, name))


def _need_id(fields: dict[str, Any], name: str) -> str:
    value = _take_id(fields, (name,))
    if value is None:
        raise RowRefused(name, "it is missing")
    return value


def _take_text(fields: dict[str, Any], name: str) -> str | None:
    value = fields.pop(name, None)
    if value is not None and not isinstance(value, str):
        raise RowRefused(name, f"it must be text, not {name_type(value)}")
    return value


def _need_text(fields: dict[str, Any], name: str) -> str:
    value = _take_text(fields, name)
    if value is None:
        raise RowRefused(name, "it is missing")
    return value


def _take_json(fields: dict[str, Any], name: str) -> Any:
    """An object whose shape differs from row to row; our own exports, and Parquet, hold it as JSON text."""
    value = fields.pop(name, None)
    return parse_json_cell(name, value) if isinstance(value, str) else value


def _take_metadata(fields: dict[str, Any]) -> dict[str, Any]:
    """The object `metadata` with all fields that are left; absent ones go."""
    metadata = _take_json(fields, "metadata")
    if metadata is None:
        metadata = {}
    if not isinstance(metadata, dict):
        raise RowRefused("metadata", f"it must be an object, not {name_type(metadata)}")
    extra = {name: value for name, value in fields.items() if value is not None}
    if both := sorted(set(metadata) & set(extra)):
        raise RowRefused(both[0], "it stands both in metadata and beside it")
    return {**metadata, **extra}


def _find_twin(values: Sequence[str]) -> str | None:
    return next((value for index, value in enumerate(values) if value in values[:index]), None)


def _name_shape(value: Any) -> str:
    return "empty" if value in ("", []) or (isinstance(value, str) and not value.strip()) else name_type(value)


def _hash_json(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()
