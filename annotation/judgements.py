"""Stored judgements as arrays, a chunk at a time: what the statistics read. Nothing here writes.

A million rankings pass through in seconds, and in the memory of a chunk and twelve bytes a response. The database
hands JSON over as text, and a chunk's text is read in one go. Rankings are asked for by some slates at a time, so that
no database sorts or holds them all. Ratings stand apart (`read_ratings`), since most projects have none.

    stream = JudgementStream(project)
    for judgements in stream:
        compared = compare(judgements)
        …  # compared.left and compared.right are codes into stream.items
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import islice
from typing import Any, Literal, TypeVar

import numpy as np
import numpy.typing as npt
from django.db.models import Exists, F, Func, Min, OuterRef, Q, QuerySet, TextField, Value
from django.db.models.functions import Cast, Concat

from annotation.models import Guidelines, Membership, Project, Ranking, Response, Slate, SlateResponse
from annotation.statistics.comparisons import TASKS, UNDISTINGUISHED
from annotation.statistics.rankings import judged_pairs

Array = npt.NDArray[Any]
Row = TypeVar("Row")
By = Literal["source", "model", "response"]
Rows = list[tuple[Any, ...]]
Slates = dict[int, tuple[int, int]]
"""The prompt and the code of the criterion of slates by id."""

KINDS = tuple(Membership.Kind.values)
CHUNK = 20_000
SLATES = 4_000
"""Slates a query: each is a parameter of it, of which SQLite takes 32,766."""

ITEM_NAMES: dict[By, F | Concat] = {
    "source": F("source"),
    "model": F("model__name"),
    "response": Concat("prompt__external_id", Value(" · "), "external_id"),
}
"""What names a response's item: whoever made it, or itself."""

TRUE = ("1", "true")
"""What a true value is as a text, by SQLite and by PostgreSQL."""
COLUMNS = (
    "pk", "slate_id", "annotator_id", "guidelines_id", "task", "is_all_bad", "strength", "said_at", "tiers_text",
    "order_text", "supersedes_id",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Judgements:
    """R current judgements, a row each, of K responses at most (more where chunks are joined).

    (R,): `ranking`, `slate`, `prompt`, `annotator` are ids; `kind` and `task` codes into `KINDS` and `TASKS`,
    `criterion` into the stream's `criteria`; `guidelines` the version, 0 where none was in force; `created`
    datetime64[s] in UTC; `strength` 0 to 3, -1 where none was asked for (its direction is that of the tiers).
    (R, K): `responses` are ids in ascending order, then -1; `items` the codes of their sources in the stream's `items`,
    or -1; `tiers` 1 = best, 0 where a response was not placed; `positions` 0 = leftmost on screen, -1 where that is not
    known.
    """

    ranking: Array
    slate: Array
    prompt: Array
    criterion: Array
    annotator: Array
    kind: Array
    guidelines: Array
    task: Array
    created: Array
    all_bad: Array
    strength: Array
    responses: Array
    items: Array
    tiers: Array
    positions: Array

    def __len__(self) -> int:
        return len(self.ranking)

    def take(self, where: npt.NDArray[np.bool_]) -> Judgements:
        """Those judgements where it is true, (R,)."""
        return Judgements(**{field.name: getattr(self, field.name)[where] for field in fields(self)})

    @property
    def undistinguished(self) -> npt.NDArray[np.bool_]:
        """Where the responses of one tier were merely not told apart, (R,)."""
        return np.isin(self.task, [TASKS.index(task) for task in UNDISTINGUISHED])


@dataclass(frozen=True, eq=False)
class Comparisons:
    """N comparisons derived from judgements; arrays (N,).

    `row`: which judgement; `left`, `right`: codes of the sources; `outcomes`: 1 the left won, 0 the right, 1/2 a tie;
    `shown`: 1 where the left stood before the right on screen, -1 after it, 0 not known; `left_response`,
    `right_response`: ids, left < right.
    """

    row: Array
    left: Array
    right: Array
    outcomes: npt.NDArray[np.float64]
    shown: Array
    left_response: Array
    right_response: Array


@dataclass(frozen=True, eq=False)
class Ratings:
    """N numbers given on one scale; arrays (N,) of ids and values."""

    slate: Array
    response: Array
    annotator: Array
    value: Array


class ToTheSecond(Func):
    """A time in UTC as numpy takes it: a text in SQLite, as it stands there; seconds since 1970 in PostgreSQL, where
    making a text of it takes longer."""

    template = "SUBSTR(%(expressions)s, 1, 19)"
    output_field = TextField()  # it passes through no function of Django's

    def as_postgresql(self, compiler: Any, connection: Any) -> Any:
        """The same for PostgreSQL."""
        return self.as_sql(compiler, connection, template="CAST(FLOOR(EXTRACT(EPOCH FROM %(expressions)s)) AS bigint)")


class JudgementStream:
    """A project's current judgements in chunks, slate by slate, in ascending order of slates and judgements.

    Current are those that no amendment superseded; `rankings` narrows them down. `newest_slates`: those of so many
    slates at most, the newest that were judged. `by`: what the items are, the responses' sources, the registry's models
    (-1 where no model is known) or the responses themselves. Without `with_items` none are read, and the `items` of a
    chunk are -1. Every pass reads the database anew.
    """

    def __init__(
        self,
        project: Project,
        *,
        rankings: QuerySet[Ranking] | None = None,
        newest_slates: int | None = None,
        chunk_size: int = CHUNK,
        with_items: bool = True,
        by: By = "source",
    ) -> None:
        self.project, self.newest_slates, self.by = project, newest_slates, by
        self.chunk_size, self.with_items = chunk_size, with_items
        self.rankings = Ranking.objects.all() if rankings is None else rankings
        self._criteria: dict[str, int] = {}

    @property
    def items(self) -> tuple[str, ...]:
        """The sources of the project's responses (or what `by` names instead), in alphabetical order."""
        return self._sources[0]

    @property
    def criteria(self) -> tuple[str, ...]:
        """The criteria met so far, in the order of their codes; "" is overall."""
        return tuple(self._criteria)

    def __iter__(self) -> Iterator[Judgements]:
        kinds = Membership.objects.filter(project=self.project).values_list("pk", "kind")
        kind_of = {member: KINDS.index(kind) for member, kind in kinds}
        version_of: dict[int | None, int] = {None: 0}
        version_of |= dict(Guidelines.objects.filter(project=self.project).values_list("pk", "version"))
        for rows, slates in self._rows():
            yield self._read(rows, slates=slates, kind_of=kind_of, version_of=version_of)

    def read_all(self) -> Judgements:
        """Everything at once: about 150 bytes a judgement of four responses."""
        return join(list(self))

    def _rows(self) -> Iterator[tuple[Rows, Slates]]:
        """Chunks of rankings, each with the prompt and the criterion of its slates.

        Superseded ones are left out here: PostgreSQL would look for their amendments among all rankings in every query.
        """
        rankings = self.rankings.annotate(
            tiers_text=Cast("tiers", TextField()),
            order_text=Cast("presented_order", TextField()),
            said_at=ToTheSecond("created_at"),
            is_all_bad=Cast("all_bad", TextField()),  # as a text it passes through no function of Django's
        ).values_list(*COLUMNS)
        for slates in _chunks(self._slates(), size=SLATES):
            about = {pk: (prompt, self._code_of(criterion)) for pk, prompt, criterion in slates}
            first, last = slates[0][0], slates[-1][0]
            is_dense = last - first < 2 * len(slates)  # few of other projects between: leaving those out is cheaper
            within = Q(slate__gte=first, slate__lte=last) if is_dense else Q(slate__in=list(about))
            amendments = Ranking.objects.filter(within, supersedes__isnull=False).order_by()
            superseded = set(amendments.values_list("supersedes_id", flat=True))
            for rows in self._pages(rankings.filter(within).order_by("slate_id", "pk")):
                superseded.update(row[-1] for row in rows)  # an amendment made meanwhile
                if own := [row for row in rows if row[1] in about and row[0] not in superseded]:
                    yield own, about

    def _pages(self, rankings: QuerySet[Ranking, tuple[Any, ...]]) -> Iterator[Rows]:
        """Rows by slate and id, so many at a time, each page from where the last one ended: PostgreSQL's cursors, which
        would hold as little, take a fifth longer."""
        later = Q()
        while rows := list(rankings.filter(later)[: self.chunk_size]):
            yield rows
            if len(rows) < self.chunk_size:
                return
            slate, pk = rows[-1][1], rows[-1][0]
            later = Q(slate__gt=slate) | Q(slate=slate, pk__gt=pk)

    def _slates(self) -> Iterable[tuple[int, int, str]]:
        """Id, prompt and criterion of each slate, in ascending order."""
        if self.newest_slates is not None:
            return reversed(self._judged().values_list("pk", "prompt_id", "criterion")[: self.newest_slates])
        slates = Slate.objects.filter(project=self.project).order_by("pk")
        return slates.values_list("pk", "prompt_id", "criterion").iterator(chunk_size=SLATES)

    def _judged(self) -> QuerySet[Slate]:
        """The slates that were judged, the newest first."""
        judged = Exists(Ranking.objects.filter(slate=OuterRef("pk")))
        return Slate.objects.filter(judged, project=self.project).order_by("-pk")

    def _first_response(self) -> int:
        """No response of the newest slates has a lower id; the sources of older ones need not be read."""
        if self.newest_slates is None:
            return 0
        newest = list(self._judged().values_list("pk", flat=True)[: self.newest_slates])
        first = SlateResponse.objects.filter(slate__project=self.project, slate__gte=min(newest, default=0))
        return first.aggregate(first=Min("response"))["first"] or 0

    def _code_of(self, criterion: str) -> int:
        return self._criteria.setdefault(criterion, len(self._criteria))

    def _read(
        self, rows: Rows, *, slates: Slates, kind_of: dict[int, int], version_of: dict[int | None, int]
    ) -> Judgements:
        pk, slate, annotator, guidelines, task, all_bad, strength, said_at, tiers, order, _old = zip(*rows, strict=True)
        responses, placed, positions = _read_places(tiers, orders=order)
        prompt, criterion = np.array([slates[key] for key in slate], dtype=np.int64).T
        task_code = {name: code for code, name in enumerate(TASKS)}
        return Judgements(
            ranking=np.array(pk, dtype=np.int64),
            slate=np.array(slate, dtype=np.int64),
            prompt=prompt,
            criterion=criterion.astype(np.int32),
            annotator=np.array(annotator, dtype=np.int64),
            kind=np.array([kind_of[key] for key in annotator], dtype=np.int8),
            guidelines=np.array([version_of[key] for key in guidelines], dtype=np.int32),
            task=np.array([task_code[name] for name in task], dtype=np.int8),
            created=np.array(said_at, dtype="datetime64[s]"),
            all_bad=np.isin(np.array(all_bad), TRUE),
            strength=np.array([-1 if degree is None else abs(degree) for degree in strength], dtype=np.int8),
            responses=responses,
            items=self._items_of(responses),
            tiers=placed,
            positions=positions,
        )

    def _items_of(self, responses: Array) -> Array:
        if not self.with_items:
            return np.full(responses.shape, -1, dtype=np.int32)
        _names, ids, codes = self._sources
        at = np.minimum(np.searchsorted(ids, responses), max(len(ids) - 1, 0))
        return np.where(responses >= 0, codes[at], -1).astype(np.int32) if len(ids) else np.full_like(responses, -1)

    @cached_property
    def _sources(self) -> tuple[tuple[str, ...], Array, Array]:
        """The items' names, and for each response by id the code of its item, -1 where it has none."""
        seen: dict[str, int] = {}
        ids: list[Array] = []
        codes: list[Array] = []
        found = (
            Response.objects.filter(prompt__project=self.project).order_by("pk").values_list("pk", ITEM_NAMES[self.by])
        )
        for chunk in _chunks(found.iterator(chunk_size=self.chunk_size), size=self.chunk_size):
            pk, source = zip(*chunk, strict=True)
            ids.append(np.array(pk, dtype=np.int64))
            numbered = (-1 if name is None else seen.setdefault(name, len(seen)) for name in source)
            codes.append(np.fromiter(numbered, np.int32, len(pk)))
        names = tuple(sorted(seen))
        place = {name: code for code, name in enumerate(names)}
        recoded = np.array([*(place[name] for name in seen), -1], dtype=np.int32)
        if not ids:
            return (), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int32)
        return names, np.concatenate(ids), recoded[np.concatenate(codes)]


def current_rankings() -> QuerySet[Ranking]:
    """The current versions of all rankings: those that no amendment supersedes.

    The subquery lets PostgreSQL see that nearly all are; a join to nothing makes it expect one row and plan for that.
    """
    amendments = Ranking.objects.filter(supersedes=OuterRef("pk"))
    return Ranking.objects.filter(~Exists(amendments))


def compare(judgements: Judgements) -> Comparisons:
    """The comparisons that the judgements hold, by the rule of `statistics.comparisons`."""
    pairs = judged_pairs(judgements.tiers, undistinguished=judgements.undistinguished)
    left, right = (pairs.ranking, pairs.left), (pairs.ranking, pairs.right)
    before, after = judgements.positions[left], judgements.positions[right]
    return Comparisons(
        row=pairs.ranking,
        left=judgements.items[left],
        right=judgements.items[right],
        outcomes=pairs.outcomes,
        shown=np.where((before < 0) | (after < 0), 0, np.sign(after - before)).astype(np.int8),
        left_response=judgements.responses[left],
        right_response=judgements.responses[right],
    )


def join(chunks: Sequence[Judgements]) -> Judgements:
    """Chunks as one, padded to the widest."""
    width = max((chunk.tiers.shape[1] for chunk in chunks), default=0)
    blank = {"responses": -1, "items": -1, "tiers": 0, "positions": -1}
    if not chunks:
        flat = {field.name: np.empty(0, dtype=np.int64) for field in fields(Judgements)}
        return Judgements(**flat | {name: np.empty((0, 0), dtype=np.int64) for name in blank})
    return Judgements(
        **{
            field.name: np.concatenate(
                [_pad(getattr(chunk, field.name), width=width, blank=blank.get(field.name)) for chunk in chunks]
            )
            for field in fields(Judgements)
        }
    )


def read_ratings(project: Project, *, rankings: QuerySet[Ranking] | None = None) -> dict[str, Ratings]:
    """The ratings of the project's current judgements (or of these `rankings`), by scale in alphabetical order."""
    narrowed = current_rankings() if rankings is None else rankings
    rated = narrowed.filter(slate__project=project).exclude(ratings__isnull=True).exclude(ratings={}).order_by("pk")
    found: dict[str, list[tuple[int, int, int, float]]] = {}
    for slate, annotator, ratings in rated.values_list("slate", "annotator", "ratings").iterator(chunk_size=CHUNK):
        for scale, values in (ratings or {}).items():
            given = found.setdefault(scale, [])
            given += [(slate, int(key), annotator, float(value)) for key, value in values.items() if value is not None]
    return {scale: _columns_of(given) for scale, given in sorted(found.items()) if given}


def _columns_of(given: list[tuple[int, int, int, float]]) -> Ratings:
    slate, response, annotator, value = zip(*given, strict=True)
    return Ratings(
        slate=np.array(slate, dtype=np.int64),
        response=np.array(response, dtype=np.int64),
        annotator=np.array(annotator, dtype=np.int64),
        value=np.array(value, dtype=float),
    )


def _read_places(tiers: Sequence[str], *, orders: Sequence[str]) -> tuple[Array, Array, Array]:
    """Responses, tiers and positions (R, K) of R rankings, from the JSON of their tiers and presented orders."""
    row, opened, ids = _read_ids(tiers)
    row_shown, _opened, ids_shown = _read_ids(orders)
    first = np.searchsorted(row_shown, np.arange(len(orders)))
    position = np.arange(len(row_shown)) - first[row_shown]
    widest = 1 << 46
    if max(ids.max(initial=0), ids_shown.max(initial=0)) >= widest or len(tiers) >= 1 << 17:
        raise ValueError("There are too many responses, or judgements at once, to be told apart.")
    keys, at = np.unique(np.concatenate([row * widest + ids, row_shown * widest + ids_shown]), return_inverse=True)
    of_row = keys // widest
    column = np.arange(len(keys)) - np.searchsorted(of_row, np.arange(len(tiers)))[of_row]
    shape = (len(tiers), int(column.max(initial=0)) + 1)
    responses = np.full(shape, -1, dtype=np.int64)
    placed, shown = np.zeros(shape, dtype=np.int8), np.full(shape, -1, dtype=np.int8)
    responses[of_row, column] = keys % widest
    placed[row, column[at[: len(row)]]] = opened - 1
    shown[row_shown, column[at[len(row) :]]] = position
    return responses, placed, shown


def _read_ids(texts: Sequence[str]) -> tuple[Array, Array, Array]:
    """The numbers in lists of whole numbers as JSON: in which text each stands, how many lists were opened, itself.

    Raises ValueError where anything but numbers and lists stands there.
    """
    text = "\n".join(texts)
    signs = np.frombuffer(text.encode(), dtype=np.uint8)
    digit = (signs >= ord("0")) & (signs <= ord("9"))
    opening, newline = signs == ord("["), signs == ord("\n")
    if not (digit | opening | newline | np.isin(signs, np.frombuffer(b"], ", dtype=np.uint8))).all():
        raise ValueError("A list of responses holds something else than their ids.")
    start = np.flatnonzero(digit & ~np.concatenate([[False], digit[:-1]]))
    row, opened = np.cumsum(newline)[start], np.cumsum(opening)
    before = np.concatenate([[0], opened[newline]])  # lists opened in the texts before
    ids = np.fromstring(text.translate({ord(sign): " " for sign in "[],\n"}), dtype=np.int64, sep=" ")
    return row, opened[start] - before[row], ids


def _chunks(rows: Iterable[Row], *, size: int) -> Iterator[list[Row]]:
    found = iter(rows)
    while chunk := list(islice(found, size)):
        yield chunk


def _pad(array: Array, *, width: int, blank: int | None) -> Array:
    if blank is None or array.shape[1] == width:
        return array
    padded = np.full((len(array), width), blank, dtype=array.dtype)
    padded[:, : array.shape[1]] = array
    return padded
