"""Imports prompts, responses, preferences and annotated items from files into a project.

Every row of every file is read and checked before the first is stored; each file is then stored in one transaction,
in batches, so that memory does not grow with the file. Importing a file again changes nothing: a row is known by its
id, or by its content where it has none, and an id that comes back with other content is refused. Prompts with the
same messages are one prompt, whatever their rows are called, so that a split by prompt cannot leak.

`import_readers` knows files, `import_formats` knows rows; docs/importing.md shows both to users.
"""

from __future__ import annotations

import sqlite3
import uuid
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from typing import Any, TypeVar

from django.db import IntegrityError, transaction
from django.db.models import Q

from annotation.domain.import_formats import (
    ALIASES_KEY,
    FORMATS,
    TOPICS_KEY,
    AnnotationRow,
    ArgumentRow,
    Kind,
    PairRow,
    PooledItemRow,
    PromptRow,
    ResponseRow,
    ResponsesRow,
    Row,
    detect_kind,
    hash_messages,
)
from annotation.domain.import_readers import ImportFile, ImportRefused, RawRow, RowRefused, read_rows
from annotation.domain.slating import open_slots
from annotation.domain.tasks import PAIR_KINDS
from annotation.models import Lease, Membership, Project, Prompt, Ranking, Response, Slate, SlateResponse, Slot

__all__ = ["FORMATS", "ImportCounts", "ImportFile", "ImportRefused", "hash_messages", "import_files"]

BATCH_ROWS = 1000
BATCH_BYTES = 32 * 1024 * 1024

SlateRow = TypeVar("SlateRow", ResponsesRow, PairRow)
Progress = Callable[[str, int], None]


@dataclass(frozen=True)
class ImportCounts:
    """What an import stored; `skipped` counts the rows that were there already."""

    prompts: int = 0
    responses: int = 0
    slates: int = 0
    rankings: int = 0
    skipped: int = 0

    def __add__(self, other: ImportCounts) -> ImportCounts:
        return ImportCounts(
            prompts=self.prompts + other.prompts,
            responses=self.responses + other.responses,
            slates=self.slates + other.slates,
            rankings=self.rankings + other.rankings,
            skipped=self.skipped + other.skipped,
        )


@dataclass(frozen=True)
class _Job:
    """One file on its way into a project."""

    project: Project
    file: ImportFile
    kind: Kind
    annotator_kind: str

    def refuse(self, line: int, field: str | None, reason: str) -> ImportRefused:
        return ImportRefused(file=self.file.name, line=line, field=field, reason=reason)

    def refuse_changed(self, line: int, field: str, row_id: str) -> ImportRefused:
        return self.refuse(line, field, f"the id {row_id!r} is already there with other content")


def import_files(
    project: Project,
    *,
    files: Sequence[ImportFile],
    format: str = "auto",
    dry_run: bool = False,
    annotator_kind: str = "imported",
    progress: Progress | None = None,
) -> ImportCounts:
    """Import the files in the order in which they refer to each other; return what was stored.

    `progress` is told a file's name and how many of its rows are done, after each batch. A dry run does it all and
    takes it back. Raises ImportRefused with file, line and field at the first thing that is wrong; nothing of any of
    the files is stored then.
    """
    if format not in FORMATS:
        raise ValueError(f"Unknown format {format!r}; use one of {', '.join(FORMATS)}.")
    if annotator_kind not in (Membership.Kind.IMPORTED, Membership.Kind.SIMULATED):
        raise ValueError(f"Unknown kind of annotator {annotator_kind!r}; use imported or simulated.")
    kinds = _detect_kinds(files, format=format)
    jobs = [_Job(project, file, kind, annotator_kind) for file, kind in zip(files, kinds, strict=True)]
    jobs.sort(key=lambda job: job.kind.rank)
    for job in jobs:
        _check_file(job)
    with transaction.atomic():
        counts = _store_files(jobs, progress)
        transaction.set_rollback(dry_run)
    return counts


def _detect_kinds(files: Sequence[ImportFile], *, format: str) -> list[Kind]:
    first_rows = [_read_first(file) for file in files]
    beside_pool = any({"argument_id", "response_ids"} & set(row.fields) for row in first_rows)
    kinds = []
    for file, row in zip(files, first_rows, strict=True):
        try:
            kinds.append(detect_kind(row, format=format, beside_pool=beside_pool))
        except RowRefused as error:
            raise ImportRefused(file=file.name, line=row.line, field=error.field, reason=error.reason) from None
    return kinds


def _read_first(file: ImportFile) -> RawRow:
    return next(read_rows(file))


def _parse_file(job: _Job) -> Iterator[tuple[Row, int]]:
    """Each row with about its size in memory."""
    for raw in read_rows(job.file):
        try:
            yield job.kind.parse(raw), raw.size
        except RowRefused as error:
            raise job.refuse(raw.line, error.field, error.reason) from None


def _check_file(job: _Job) -> None:
    """Read every row once without storing anything; refuse an id that comes twice."""
    with closing(_FirstLines()) as seen:
        for row, _size in _parse_file(job):
            _check_slate_size(job, row)
            key = _key_of(row)
            first = key and seen.put(key, row.line)
            if first:
                raise job.refuse(row.line, *_explain_twin(row, first))


def _check_slate_size(job: _Job, row: Row) -> None:
    """Where a project compares pairs, no slate may hold another number of responses."""
    if job.project.task not in PAIR_KINDS:
        return
    match row:
        case ResponsesRow():
            field, count = "responses", len(row.responses)
        case PooledItemRow():
            field, count = "response_ids", len(row.response_ids)
        case _:
            return
    if count != 2:
        reason = f"project {job.project.slug!r} compares two responses, so a slate has 2; this row has {count}"
        raise job.refuse(row.line, field, reason)


def _key_of(row: Row) -> tuple[str, ...] | None:
    """What may come once in a file; none for rows without an id, whose repetition is harmless."""
    match row:
        case PromptRow():
            return (row.id,) if row.id_field else None
        case ResponsesRow() | PairRow():
            return (row.prompt.id,) if row.prompt.id_field else None
        case ArgumentRow():
            return (row.topic, row.response.id)
        case PooledItemRow():
            return (row.id,)
        case AnnotationRow():
            return (row.item_id, row.criterion, row.annotator)


def _explain_twin(row: Row, first: int) -> tuple[str, str]:
    match row:
        case AnnotationRow():
            about = f", criterion {row.criterion!r}" if row.criterion else ""
            what = f"{row.annotator!r} has ranked item {row.item_id!r}{about} on line {first} already"
            return "annotator", what
        case ArgumentRow():
            return "argument_id", f"{row.response.id!r} was on line {first} already"
        case PooledItemRow():
            return "item_id", f"{row.id!r} was on line {first} already"
    prompt = row if isinstance(row, PromptRow) else row.prompt
    return prompt.id_field or "id", f"{prompt.id!r} was on line {first} already"


class _FirstLines:
    """On which line a key came first; a temporary file holds what memory should not."""

    def __init__(self) -> None:
        self._db = sqlite3.connect("")
        self._db.execute("PRAGMA journal_mode = OFF")
        self._db.execute("CREATE TABLE first (key TEXT PRIMARY KEY, line INTEGER) WITHOUT ROWID")

    def put(self, key: tuple[str, ...], line: int) -> int | None:
        """Note the key's line; return the earlier one where there was one."""
        text = "\x00".join(key)
        if self._db.execute("INSERT OR IGNORE INTO first VALUES (?, ?)", (text, line)).rowcount:
            return None
        found: int = self._db.execute("SELECT line FROM first WHERE key = ?", (text,)).fetchone()[0]
        return found

    def close(self) -> None:
        self._db.close()


def _store_files(jobs: Sequence[_Job], progress: Progress | None) -> ImportCounts:
    total = ImportCounts()
    for job in jobs:
        total += _store_file(job, progress)
    return total


def _store_file(job: _Job, progress: Progress | None) -> ImportCounts:
    store, counts, done = STORES[job.kind.name], ImportCounts(), 0
    try:
        with transaction.atomic():
            # One import a project at a time: two that bring the same prompt must not both create it.
            Project.objects.select_for_update(no_key=True).get(pk=job.project.pk)
            for batch in _batch_rows(_parse_file(job)):
                counts += store(job, batch)
                done += len(batch)
                if progress is not None:
                    progress(job.file.name, done)
    except IntegrityError as error:
        reason = f"an id in it clashes with one that is already there ({str(error).splitlines()[0]})"
        raise ImportRefused(file=job.file.name, reason=reason) from error
    return counts


def _batch_rows(rows: Iterable[tuple[Row, int]]) -> Iterator[list[Row]]:
    batch: list[Row] = []
    taken = 0
    for row, size in rows:
        batch.append(row)
        taken += size
        if len(batch) == BATCH_ROWS or taken >= BATCH_BYTES:
            yield batch
            batch, taken = [], 0
    if batch:
        yield batch


# Prompts


def _store_prompts(job: _Job, rows: Sequence[PromptRow]) -> ImportCounts:
    _prompts, created = _settle_prompts(job, rows, strict=True)
    return ImportCounts(prompts=created, skipped=len(rows) - created)


def _settle_prompts(job: _Job, rows: Sequence[PromptRow], *, strict: bool) -> tuple[dict[str, Prompt], int]:
    """Find or make the rows' prompts: by content hash, and how many are new.

    `strict` says that the row's id is the prompt's; other rows give their id to a slate, and may say more or other
    things about a prompt that is already there.
    """
    stored = Prompt.objects.filter(project=job.project).filter(
        Q(content_hash__in={row.content_hash for row in rows}) | Q(external_id__in={row.id for row in rows})
    )
    by_hash: dict[str, Prompt] = {}
    by_id: dict[str, Prompt] = {}
    for prompt in stored.order_by("pk"):
        by_hash.setdefault(prompt.content_hash, prompt)
        by_id[prompt.external_id] = prompt
    fresh, changed = [], {}
    for row in rows:
        named, prompt_or_none = by_id.get(row.id), by_hash.get(row.content_hash)
        if named is not None and named.content_hash != row.content_hash:
            raise job.refuse_changed(row.line, "prompt", row.id)
        if prompt_or_none is None:
            prompt = _build_prompt(job, row)
            by_hash[row.content_hash] = by_id[row.id] = prompt
            fresh.append(prompt)
        elif _add_to_prompt(job, prompt_or_none, row, strict=strict) and prompt_or_none.pk:
            changed[prompt_or_none.pk] = prompt_or_none
    Prompt.objects.bulk_create(fresh)
    Prompt.objects.bulk_update(changed.values(), ["metadata", "reference", "verifier"])
    return by_hash, len(fresh)


def _build_prompt(job: _Job, row: PromptRow) -> Prompt:
    return Prompt(
        project=job.project,
        external_id=row.id,
        messages=row.messages,
        content_hash=row.content_hash,
        metadata=row.metadata,
        reference=row.reference,
        verifier=row.verifier,
    )


def _add_to_prompt(job: _Job, prompt: Prompt, row: PromptRow, *, strict: bool) -> bool:
    """Note on a prompt that is there what a further row says of it; True where that is new."""
    is_own = strict and prompt.external_id == row.id
    changed = False
    for name in ("reference", "verifier"):
        said, known = getattr(row, name), getattr(prompt, name)
        if said is None or said == known:
            continue
        if is_own:
            raise job.refuse_changed(row.line, name, row.id)
        if known is not None:
            reason = f"the same prompt is already there as {prompt.external_id!r} with another {name}"
            raise job.refuse(row.line, name, reason)
        setattr(prompt, name, said)
        changed = True
    if is_own:
        if row.metadata != _own_metadata(prompt):
            raise job.refuse_changed(row.line, "metadata", row.id)
        return changed
    return _add_alias(job, prompt, row.line, row.id, row.metadata) or changed


def _own_metadata(prompt: Prompt) -> dict[str, Any]:
    return {name: value for name, value in prompt.metadata.items() if name not in (ALIASES_KEY, TOPICS_KEY)}


def _add_alias(job: _Job, prompt: Prompt, line: int, row_id: str, metadata: dict[str, Any]) -> bool:
    """Keep what the row `row_id` says beside the prompt's own metadata; True where that is new."""
    is_topic = job.kind.name == "topics"
    key = TOPICS_KEY if is_topic else ALIASES_KEY
    aliases = prompt.metadata.get(key, {})
    if row_id in aliases:
        if metadata and metadata != aliases[row_id]:
            raise job.refuse_changed(line, "metadata", row_id)
        return False
    if not is_topic and (not metadata or metadata == _own_metadata(prompt)):
        return False
    prompt.metadata = {**prompt.metadata, key: {**aliases, row_id: metadata}}
    return True


# Slates of responses, and pairs


@dataclass
class _Table:
    """A slate as it is in the database, with the responses in canonical order."""

    slate: Slate
    responses: list[Response] = field(default_factory=list)


def _find_tables(job: _Job, external_ids: Iterable[str]) -> dict[str, list[_Table]]:
    """The stored slates of these ids, the oldest of each first (an id has one for each criterion)."""
    slates = Slate.objects.filter(project=job.project, external_id__in=set(external_ids))
    # Locked, so that nobody takes a slot's number while an import hands them out.
    locked = slates.select_related("prompt").select_for_update(of=("self",)).order_by("pk")
    tables = {slate.pk: _Table(slate) for slate in locked}
    places = SlateResponse.objects.filter(slate__in=tables).select_related("response")
    for place in places.order_by("slate_id", "position"):
        tables[place.slate_id].responses.append(place.response)
    found = defaultdict(list)
    for table in tables.values():
        found[table.slate.external_id].append(table)
    return found


def _store_responses(job: _Job, rows: Sequence[ResponsesRow]) -> ImportCounts:
    fresh = _drop_known(job, rows)
    tables, counts = _make_tables(job, fresh)
    open_slots([table.slate for table in tables], count=job.project.overlap)
    return counts + ImportCounts(skipped=len(rows) - len(fresh))


def _store_pairs(job: _Job, rows: Sequence[PairRow]) -> ImportCounts:
    annotators = _find_annotators(job, {row.annotator for row in rows})
    fresh = _drop_known(job, rows)
    tables, counts = _make_tables(job, fresh)
    slots = Slot.objects.bulk_create(
        Slot(slate=table.slate, number=0, state=Slot.State.DONE, annotator=annotators[row.annotator])
        for table, row in zip(tables, fresh, strict=True)
    )
    rankings = Ranking.objects.bulk_create(
        Ranking(
            slate=table.slate,
            slot=slot,
            annotator=annotators[row.annotator],
            token=uuid.uuid4(),
            tiers=_tiers_of_pair(row, table),
            metadata=row.metadata,
        )
        for slot, table, row in zip(slots, tables, fresh, strict=True)
    )
    return counts + ImportCounts(rankings=len(rankings), skipped=len(rows) - len(fresh))


def _tiers_of_pair(row: PairRow, table: _Table) -> list[list[int]]:
    return [[table.responses[row.best].pk], [table.responses[1 - row.best].pk]]


def _drop_known(job: _Job, rows: Sequence[SlateRow]) -> list[SlateRow]:
    """The rows that are not there yet, each once; raises where one is there with other content."""
    tables = _find_tables(job, [row.prompt.id for row in rows])
    rankings = _find_rankings(tables) if job.kind.name == "preferences" else {}
    fresh: dict[str, SlateRow] = {}
    for row in rows:
        stored = tables.get(row.prompt.id)
        if stored is None:
            fresh.setdefault(row.prompt.id, row)
            continue
        if (changed := _find_change(job, stored[0], row)) is not None:
            raise job.refuse_changed(row.line, changed, row.prompt.id)
        if isinstance(row, PairRow):
            same = any(
                ranking.annotator.name == row.annotator
                and ranking.annotator.kind == job.annotator_kind
                and ranking.tiers == _tiers_of_pair(row, stored[0])
                and ranking.metadata == row.metadata
                for ranking in rankings.get(stored[0].slate.pk, [])
            )
            if not same:
                raise job.refuse_changed(row.line, "chosen", row.prompt.id)
    return list(fresh.values())


def _find_change(job: _Job, table: _Table, row: ResponsesRow | PairRow) -> str | None:
    """The field in which a row differs from what was stored of it; None where it is the same."""
    prompt = table.slate.prompt
    if prompt.content_hash != row.prompt.content_hash:
        return "prompt"
    for name in ("reference", "verifier"):
        said = getattr(row.prompt, name)
        if said is not None and said != getattr(prompt, name):
            return name
    known = prompt.metadata.get(ALIASES_KEY, {}).get(row.prompt.id, _own_metadata(prompt))
    if row.prompt.metadata and row.prompt.metadata != known:
        return "metadata"
    stored = tuple(ResponseRow(r.external_id, r.text, r.source, r.metadata) for r in table.responses)
    return None if stored == row.responses else "responses"


def _make_tables(job: _Job, rows: Sequence[ResponsesRow] | Sequence[PairRow]) -> tuple[list[_Table], ImportCounts]:
    """Make the rows' prompts, responses and slates, without slots."""
    prompts, created = _settle_prompts(job, [row.prompt for row in rows], strict=False)
    responses = iter(
        Response.objects.bulk_create(
            _build_response(prompts[row.prompt.content_hash], response) for row in rows for response in row.responses
        )
    )
    planned = [
        (row.prompt.id, prompts[row.prompt.content_hash], [next(responses) for _response in row.responses])
        for row in rows
    ]
    tables = _make_slates(job, planned)
    count = sum(len(table.responses) for table in tables)
    return tables, ImportCounts(prompts=created, responses=count, slates=len(tables))


def _build_response(prompt: Prompt, row: ResponseRow) -> Response:
    return Response(prompt=prompt, external_id=row.id, text=row.text, source=row.source, metadata=row.metadata)


def _make_slates(job: _Job, planned: Sequence[tuple[str, Prompt, list[Response]]]) -> list[_Table]:
    slates = Slate.objects.bulk_create(
        Slate(project=job.project, prompt=prompt, external_id=external_id)
        for external_id, prompt, _responses in planned
    )
    tables = [_Table(slate, responses) for slate, (_id, _prompt, responses) in zip(slates, planned, strict=True)]
    _place_responses(tables)
    return tables


def _place_responses(tables: Iterable[_Table]) -> None:
    SlateResponse.objects.bulk_create(
        SlateResponse(slate=table.slate, response=response, position=position)
        for table in tables
        for position, response in enumerate(table.responses)
    )


# Pools: topics, their arguments, and items that choose among these


def _find_topics(job: _Job, rows: Sequence[ArgumentRow] | Sequence[PooledItemRow]) -> dict[str, Prompt]:
    """The prompts of the rows' topics; a topic that shares another's prompt is known by its alias."""
    topics = {row.topic for row in rows}
    prompts = Prompt.objects.filter(project=job.project)
    found = {prompt.external_id: prompt for prompt in prompts.filter(external_id__in=topics)}
    if missing := topics - set(found):
        loaded = {prompt.pk: prompt for prompt in found.values()}  # one object a prompt, for what is added to it
        for prompt in prompts.filter(**{f"metadata__{TOPICS_KEY}__has_any_keys": sorted(missing)}):
            names = missing & set(prompt.metadata[TOPICS_KEY])
            found.update(dict.fromkeys(names, loaded.get(prompt.pk, prompt)))
    for row in rows:
        if row.topic not in found:
            reason = f"there is no topic {row.topic!r}; import topics.jsonl with this file"
            raise job.refuse(row.line, "topic", reason)
    return found


def _find_pool(topics: dict[str, Prompt], external_ids: Iterable[str]) -> dict[tuple[int, str], Response]:
    responses = Response.objects.filter(prompt__in=set(topics.values()), external_id__in=set(external_ids))
    return {(response.prompt_id, response.external_id): response for response in responses}


def _store_arguments(job: _Job, rows: Sequence[ArgumentRow]) -> ImportCounts:
    topics = _find_topics(job, rows)
    pool = _find_pool(topics, [row.response.id for row in rows])
    fresh = []
    for row in rows:
        stored = pool.get((topics[row.topic].pk, row.response.id))
        if stored is None:
            fresh.append(_build_response(topics[row.topic], row.response))
        elif (stored.text, stored.source, stored.metadata) != (
            row.response.text,
            row.response.source,
            row.response.metadata,
        ):
            raise job.refuse_changed(row.line, "argument_id", row.response.id)
    Response.objects.bulk_create(fresh)
    return ImportCounts(responses=len(fresh), skipped=len(rows) - len(fresh))


def _store_pooled_items(job: _Job, rows: Sequence[PooledItemRow]) -> ImportCounts:
    topics = _find_topics(job, rows)
    pool = _find_pool(topics, [response_id for row in rows for response_id in row.response_ids])
    stored = _find_tables(job, [row.id for row in rows])
    planned, changed = [], {}
    for row in rows:
        prompt = topics[row.topic]
        chosen = [_take_from_pool(job, pool, prompt, row, response_id) for response_id in row.response_ids]
        if row.id in stored:
            if [r.pk for r in stored[row.id][0].responses] != [r.pk for r in chosen]:
                raise job.refuse_changed(row.line, "response_ids", row.id)
        else:
            planned.append((row.id, prompt, chosen))
        if _add_alias(job, prompt, row.line, row.id, row.metadata):
            if row.id in stored:
                raise job.refuse_changed(row.line, "metadata", row.id)
            changed[prompt.pk] = prompt
    tables = _make_slates(job, planned)
    Prompt.objects.bulk_update(changed.values(), ["metadata"])
    open_slots([table.slate for table in tables], count=job.project.overlap)
    return ImportCounts(slates=len(tables), skipped=len(rows) - len(tables))


def _take_from_pool(
    job: _Job, pool: dict[tuple[int, str], Response], prompt: Prompt, row: PooledItemRow, response_id: str
) -> Response:
    try:
        return pool[prompt.pk, response_id]
    except KeyError:
        reason = f"topic {row.topic!r} has no argument {response_id!r}; import arguments.jsonl with this file"
        raise job.refuse(row.line, "response_ids", reason) from None


# Annotations


@dataclass
class _Seat:
    """What is known of a slate's slots while rankings are added to it."""

    table: _Table
    free: list[int] = field(default_factory=list)
    next_number: int = 0
    is_touched: bool = False
    has_person: bool = False
    rankings: dict[int, Ranking] = field(default_factory=dict)


def _store_annotations(job: _Job, rows: Sequence[AnnotationRow]) -> ImportCounts:
    annotators = _find_annotators(job, {row.annotator for row in rows})
    board = _Board(job, rows)
    fresh: list[tuple[_Seat, AnnotationRow, Ranking]] = []
    for row in rows:
        seat = board.find_seat(row)
        annotator = annotators[row.annotator]
        ranking = _build_judgement(row, seat.table, annotator)
        before = seat.rankings.get(annotator.pk)
        if before is None:
            seat.rankings[annotator.pk] = ranking
            fresh.append((seat, row, ranking))
        elif not _is_same_judgement(before, ranking):
            reason = f"{row.annotator!r} has another ranking of item {row.item_id!r} already"
            raise job.refuse(row.line, "ranks", reason)
    board.save([seat for seat, _row, _ranking in fresh])
    slots = [board.add_slot(seat, ranking.annotator) for seat, _row, ranking in fresh]
    Slot.objects.bulk_create(slots)
    for slot, (seat, _row, ranking) in zip(slots, fresh, strict=True):
        ranking.slot, ranking.slate = slot, seat.table.slate
    Ranking.objects.bulk_create(ranking for _seat, _row, ranking in fresh)
    return ImportCounts(slates=board.created, rankings=len(fresh), skipped=len(rows) - len(fresh))


class _Board:
    """The slates that a batch of annotations refers to, by item and criterion."""

    def __init__(self, job: _Job, rows: Sequence[AnnotationRow]) -> None:
        self._job = job
        self._new: list[_Seat] = []
        self._renamed: list[Slate] = []
        self._seats: dict[tuple[str, str], _Seat] = {}
        self._first: dict[str, _Seat] = {}
        tables = _find_tables(job, [row.item_id for row in rows])
        by_slate = {}
        for item, stored in tables.items():
            for table in stored:
                by_slate[table.slate.pk] = seat = _Seat(table)
                self._seats[item, table.slate.criterion] = seat
                self._first.setdefault(item, seat)
        self._load_slots(by_slate)
        for slate_id, rankings in _find_rankings(tables).items():
            seat = by_slate[slate_id]
            seat.rankings = {ranking.annotator_id: ranking for ranking in rankings}

    @property
    def created(self) -> int:
        return len(self._new)

    def _load_slots(self, seats: dict[int, _Seat]) -> None:
        slots = Slot.objects.filter(slate__in=seats).select_related("annotator").order_by("pk")
        # Locked: a slot that is dropped here must not be claimed in the same moment.
        loaded = list(slots.select_for_update(of=("self",)))
        leased = set(Lease.objects.filter(slot__slate__in=seats).values_list("slot_id", flat=True))
        for slot in loaded:
            seat = seats[slot.slate_id]
            seat.next_number = max(seat.next_number, slot.number + 1)
            if slot.state == Slot.State.FREE and slot.pk not in leased:
                seat.free.append(slot.pk)
            else:
                seat.is_touched = True
            if slot.annotator is not None and slot.annotator.kind == Membership.Kind.PERSON:
                seat.has_person = True

    def find_seat(self, row: AnnotationRow) -> _Seat:
        """The slate for the row's item and criterion, made where there is none yet."""
        first = self._first.get(row.item_id)
        if first is None:
            reason = f"there is no item {row.item_id!r}; import items.jsonl before or with this file"
            raise self._job.refuse(row.line, "item_id", reason)
        if len(row.ranks) != len(first.table.responses):
            count = len(first.table.responses)
            reason = f"item {row.item_id!r} has {count} responses, this row has {len(row.ranks)} ranks"
            raise self._job.refuse(row.line, "ranks", reason)
        key = (row.item_id, row.criterion)
        if key not in self._seats:
            blank = self._seats.get((row.item_id, ""))
            if blank is not None and not blank.is_touched:
                self._rename(blank, row.criterion)
            else:
                self._seats[key] = self._open_seat(first.table, row.criterion)
        seat = self._seats[key]
        seat.is_touched = True
        return seat

    def _rename(self, seat: _Seat, criterion: str) -> None:
        """An untouched slate of no criterion takes the first that is asked for."""
        slate = seat.table.slate
        del self._seats[slate.external_id, ""]
        slate.criterion = criterion
        self._seats[slate.external_id, criterion] = seat
        self._renamed.append(slate)

    def _open_seat(self, like: _Table, criterion: str) -> _Seat:
        slate = Slate(
            project=self._job.project,
            prompt_id=like.slate.prompt_id,
            external_id=like.slate.external_id,
            criterion=criterion,
            priority=like.slate.priority,
        )
        seat = _Seat(_Table(slate, like.responses))
        self._new.append(seat)
        return seat

    def save(self, ranked: Sequence[_Seat]) -> None:
        """Store new and renamed slates, and drop the free slots that imported rankings make needless."""
        Slate.objects.bulk_update(self._renamed, ["criterion"])
        Slate.objects.bulk_create(seat.table.slate for seat in self._new)
        _place_responses(seat.table for seat in self._new)
        dropped = []
        for seat in ranked:
            if seat.free and not seat.has_person:
                dropped.extend(seat.free)
                seat.free = []
        Slot.objects.filter(pk__in=dropped).delete()

    def add_slot(self, seat: _Seat, annotator: Membership) -> Slot:
        number = seat.next_number
        seat.next_number += 1
        return Slot(slate=seat.table.slate, number=number, state=Slot.State.DONE, annotator=annotator)


def _build_judgement(row: AnnotationRow, table: _Table, annotator: Membership) -> Ranking:
    ids = [response.pk for response in table.responses]
    tiers: dict[int, list[int]] = defaultdict(list)
    for rank, response_id in zip(row.ranks, ids, strict=True):
        tiers[rank].append(response_id)
    ratings = (
        None
        if row.ratings is None
        else {
            name: {str(response_id): value for response_id, value in zip(ids, values, strict=True)}
            for name, values in row.ratings.items()
        }
    )
    return Ranking(
        annotator=annotator,
        token=uuid.uuid4(),
        tiers=[sorted(tiers[rank]) for rank in sorted(tiers)],
        ratings=ratings,
        rationale=row.rationale,
        metadata=row.metadata,
    )


def _is_same_judgement(before: Ranking, ranking: Ranking) -> bool:
    names = ("tiers", "ratings", "rationale", "metadata")
    return all(getattr(before, name) == getattr(ranking, name) for name in names)


def _find_rankings(tables: dict[str, list[_Table]]) -> dict[int, list[Ranking]]:
    """The first versions of the stored rankings, by slate."""
    slate_ids = [table.slate.pk for stored in tables.values() for table in stored]
    rankings = Ranking.objects.filter(slate__in=slate_ids, supersedes__isnull=True)
    found = defaultdict(list)
    for ranking in rankings.select_related("annotator"):
        found[ranking.slate_id].append(ranking)
    return found


def _find_annotators(job: _Job, names: set[str]) -> dict[str, Membership]:
    """The memberships under which imported judgements stand, made where they are new."""
    members = Membership.objects.filter(project=job.project, kind=job.annotator_kind, name__in=names)
    found = {member.name: member for member in members}
    fresh = Membership.objects.bulk_create(
        Membership(project=job.project, name=name, kind=job.annotator_kind, role=Membership.Role.ANNOTATOR)
        for name in sorted(names - set(found))
    )
    return found | {member.name: member for member in fresh}


STORES: dict[str, Callable[[_Job, Any], ImportCounts]] = {
    "topics": _store_prompts,
    "arguments": _store_arguments,
    "prompts": _store_prompts,
    "responses": _store_responses,
    "pooled items": _store_pooled_items,
    "preferences": _store_pairs,
    "annotations": _store_annotations,
}
