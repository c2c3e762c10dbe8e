"""A project's judgements as battles between items: which of them count, and what they say as arrays.

Items are the sources of responses, the models of the registry, or single responses. Slices narrow the judgements down
in the database, by what is stored: nothing is guessed from texts but their length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, get_args

import numpy as np
import numpy.typing as npt
from django.db.models import Avg, Exists, OuterRef, QuerySet, Subquery
from django.db.models.functions import Length
from django.utils.translation import gettext as _

from annotation.judgements import ITEM_NAMES, KINDS, By, Judgements, JudgementStream, compare
from annotation.models import Membership, Project, Ranking, Response, Slate, SlateResponse
from annotation.queries import TurnTexts
from annotation.statistics.comparisons import TASKS
from annotation.statistics.style import FEATURES, style_features

Array = npt.NDArray[Any]
Method = Literal["bradley-terry", "plackett-luce"]
Cluster = Literal["ranking", "annotator", "prompt", "annotator-prompt"]

OVERALL = "overall"
"""What the empty criterion is called where one is chosen."""
LENGTHS: dict[str, tuple[int, int]] = {"short": (0, 500), "medium": (500, 2000), "long": (2000, 1 << 31)}
"""Bands in characters, the upper bound excluded: of a conversation, or of a slate's responses on average."""
METADATA = ("category", "language")
"""What a prompt's metadata may name and a slice may ask for."""
SLICES = (*METADATA, "criterion", "guidelines", "annotators", "response-length", "prompt-length")
MOST_VALUES = 200
TEXTS = 5_000
"""Responses whose texts are held at once."""


class LeaderboardRefused(ValueError):
    """There is no leaderboard for what was asked; the message says why and what would help."""


@dataclass(frozen=True)
class Question:
    """What a leaderboard is asked: whom it ranks, by which model, over which judgements.

    `slices`: the value wanted by name, see `SLICES`; `cluster`: what could share a whim, a judgement by itself at
    least. None is the prompt, whose judgements are of the same responses, but a judgement where these responses are
    the items, or there is one prompt only. `ridge`: the precision of a prior that joins what is not comparable, 0 for
    none; `newest_slates`: only so many, the newest that were judged.
    """

    by: By = "source"
    method: Method = "bradley-terry"
    style_control: bool = False
    cluster: Cluster | None = None
    ridge: float = 0.0
    slices: Mapping[str, str] = field(default_factory=dict)
    newest_slates: int | None = None

    def __post_init__(self) -> None:
        for name, kind in (("by", By), ("method", Method), ("cluster", Cluster)):
            if name == "cluster" and self.cluster is None:
                continue
            if getattr(self, name) not in get_args(kind):
                raise ValueError(f"{name} must be one of {', '.join(get_args(kind))}.")
        if unknown := sorted(set(self.slices) - set(SLICES)):
            raise ValueError(f"Unknown slice {unknown[0]!r}; use one of {', '.join(SLICES)}.")
        if self.style_control and self.method == "plackett-luce":
            raise LeaderboardRefused(_("Style control needs Bradley–Terry: Plackett–Luce knows no covariates."))


@dataclass(frozen=True, eq=False)
class Battles:
    """N comparisons of different items; arrays (N,).

    `left`, `right`: codes into the stream's items; `outcomes`: 1 the left won, 0 the right, 1/2 a tie; `judgement`: the
    judgement's running number; `responses`: (N, 2) the ids of both, None where they were not asked for.
    """

    left: Array
    right: Array
    outcomes: Array
    judgement: Array
    responses: Array | None = None

    def __len__(self) -> int:
        return len(self.left)


@dataclass(frozen=True, eq=False)
class Orders:
    """M rankings of different items, as `plackett_luce.fit` takes them: (M, K) codes and ties, (M,) the rest."""

    order: Array
    tied: Array
    ranked: Array
    judgement: Array


@dataclass(frozen=True, eq=False)
class Field:
    """All that was read: battles, orders where they were asked for, and what else there is to say of the judgements.

    `ranking`, `annotator`, `prompt`, `slate`: ids by the judgement's running number, (R,). `among_same`: comparisons of
    an item with itself; `nameless`: comparisons of a response without a model; `repeated`: rankings in which an item
    stands twice, which have no order; `best_alone`: rankings by best and worst, of which an order keeps the best.
    """

    items: tuple[str, ...]
    battles: Battles
    orders: Orders | None
    ranking: Array
    annotator: Array
    prompt: Array
    slate: Array
    simulated: int
    criteria: tuple[str, ...]
    among_same: int
    nameless: int
    repeated: int
    best_alone: int


def slice_values(project: Project) -> dict[str, list[str]]:
    """The values that each slice can be asked for in this project; those of metadata that are texts, 200 at most."""
    prompts = project.prompts.order_by()
    slates = Slate.objects.filter(project=project).order_by()
    found: dict[str, list[str]] = {}
    for key in METADATA:
        values = prompts.values_list(f"metadata__{key}", flat=True).distinct()
        found[key] = sorted(value for value in values if isinstance(value, str) and value)[:MOST_VALUES]
    criteria = slates.values_list("criterion", flat=True).distinct()
    judging = project.memberships.filter(Exists(Ranking.objects.filter(annotator=OuterRef("pk"))))
    kinds = judging.order_by().values_list("kind", flat=True).distinct()
    in_force = project.guidelines.filter(Exists(Ranking.objects.filter(guidelines=OuterRef("pk"))))
    versions = in_force.order_by("version").values_list("version", flat=True)
    found["criterion"] = sorted({criterion or OVERALL for criterion in criteria})[:MOST_VALUES]
    found["guidelines"] = [str(version) for version in versions]
    found["annotators"] = [kind for kind in Membership.Kind.values if kind in set(kinds)]
    return found | {"response-length": list(LENGTHS), "prompt-length": list(LENGTHS)}


def narrow(slices: Mapping[str, str]) -> QuerySet[Ranking]:
    """The rankings that meet every slice; of which a `JudgementStream` reads the current ones."""
    rankings = Ranking.objects.all()
    for name, value in slices.items():
        if name in METADATA:
            rankings = rankings.filter(**{f"slate__prompt__metadata__{name}": value})
        elif name == "criterion":
            rankings = rankings.filter(slate__criterion__in=[value, ""] if value == OVERALL else [value])
        elif name == "guidelines":
            rankings = rankings.filter(guidelines__version=int(value))
        elif name == "annotators":
            rankings = rankings.filter(annotator__kind=value)
        elif name == "prompt-length":
            low, high = LENGTHS[value]
            length = Length(TurnTexts("slate__prompt__messages"))
            rankings = rankings.annotate(prompt_length=length).filter(prompt_length__gte=low, prompt_length__lt=high)
        else:
            low, high = LENGTHS[value]
            of_slate = SlateResponse.objects.filter(slate=OuterRef("slate")).order_by().values("slate")
            mean = Subquery(of_slate.annotate(mean=Avg(Length("response__text"))).values("mean"))
            rankings = rankings.annotate(length=mean).filter(length__gte=low, length__lt=high)
    return rankings


def read_field(project: Project, question: Question) -> Field:
    """Read the judgements in chunks and keep what the fits need: 16 bytes a comparison, twice that to control style."""
    stream = JudgementStream(
        project, rankings=narrow(question.slices), newest_slates=question.newest_slates, by=question.by
    )
    return read_stream(stream, with_responses=question.style_control, with_orders=question.method == "plackett-luce")


def read_stream(stream: JudgementStream, *, with_responses: bool = False, with_orders: bool = False) -> Field:
    """What the judgements of a stream say, in their order."""
    battles: list[Battles] = []
    orders: list[Orders] = []
    ids: dict[str, list[Array]] = {name: [] for name in ("ranking", "annotator", "prompt", "slate")}
    counts = dict.fromkeys(("simulated", "among_same", "nameless", "repeated", "best_alone"), 0)
    read, criteria = 0, set[int]()
    for chunk in stream:
        found, same, nameless = battles_of(chunk, before=read, with_responses=with_responses)
        battles.append(found)
        counts["among_same"] += same
        counts["nameless"] += nameless
        if with_orders:
            given, repeated, best_alone = orders_of(chunk, before=read)
            orders.append(given)
            counts["repeated"] += repeated
            counts["best_alone"] += best_alone
        for name, parts in ids.items():
            parts.append(getattr(chunk, name))
        counts["simulated"] += int((chunk.kind == KINDS.index(Membership.Kind.SIMULATED)).sum())
        criteria |= set(np.unique(chunk.criterion).tolist())
        read += len(chunk)
    nothing = [np.empty(0, dtype=np.int64)]
    return Field(
        items=stream.items,
        battles=_join(battles, with_responses=with_responses),
        orders=_join_orders(orders) if orders else None,
        criteria=tuple(sorted(stream.criteria[code] for code in criteria)),
        ranking=np.concatenate(ids["ranking"] or nothing),
        annotator=np.concatenate(ids["annotator"] or nothing),
        prompt=np.concatenate(ids["prompt"] or nothing),
        slate=np.concatenate(ids["slate"] or nothing),
        simulated=counts["simulated"],
        among_same=counts["among_same"],
        nameless=counts["nameless"],
        repeated=counts["repeated"],
        best_alone=counts["best_alone"],
    )


def battles_of(judgements: Judgements, *, before: int, with_responses: bool) -> tuple[Battles, int, int]:
    """The comparisons of different items, numbered from `before` on; how many were of the same, how many nameless."""
    compared = compare(judgements)
    named = (compared.left >= 0) & (compared.right >= 0)
    same = named & (compared.left == compared.right)
    keep = named & ~same
    pair = np.stack([compared.left_response[keep], compared.right_response[keep]], axis=1) if with_responses else None
    found = Battles(
        left=compared.left[keep],
        right=compared.right[keep],
        outcomes=compared.outcomes[keep].astype(np.float32),
        judgement=(compared.row[keep] + before).astype(np.int32),
        responses=pair,
    )
    return found, int(same.sum()), int((~named).sum())


def orders_of(judgements: Judgements, *, before: int) -> tuple[Orders, int, int]:
    """The rankings in which no item stands twice, best first; how many had one twice, how many kept the best alone."""
    tiers = np.where(judgements.items >= 0, judgements.tiers, 0).astype(np.int64)
    unplaced = np.iinfo(np.int64).max
    by_tier = np.argsort(np.where(tiers > 0, tiers, unplaced), axis=1, kind="stable")
    tier, item = (np.take_along_axis(table, by_tier, axis=1) for table in (tiers, judgements.items))
    item = np.where(tier > 0, item, -1)
    alike = np.sort(item, axis=1)
    repeated = ((alike[:, 1:] == alike[:, :-1]) & (alike[:, 1:] >= 0)).any(axis=1)
    keep = ~repeated & ((item >= 0).sum(axis=1) > 1)
    best = judgements.undistinguished & keep
    tied = np.zeros(tier.shape, dtype=bool)
    tied[:, 1:] = (tier[:, 1:] == tier[:, :-1]) & (tier[:, 1:] > 0) & ~best[:, None]
    first = (tier == tier[:, :1]).sum(axis=1)
    whole = (item >= 0).sum(axis=1)
    best &= first == 1
    keep &= ~judgements.undistinguished | best
    best_worst = judgements.task == TASKS.index("best-worst")
    return (
        Orders(
            order=item[keep].astype(np.int64),
            tied=tied[keep],
            ranked=np.where(best, 1, whole)[keep],
            judgement=np.flatnonzero(keep) + before,
        ),
        int(repeated.sum()),
        int((best & best_worst).sum()),
    )


def read_styles(project: Project, responses: Array) -> tuple[Array, Array]:
    """The responses' ids in ascending order, (R,), and their features, (R, 5), read some thousand texts at a time."""
    ids = np.unique(responses)
    texts = Response.objects.filter(prompt__project=project).order_by("pk").values_list("pk", "text")
    features = np.zeros((len(ids), len(FEATURES)), dtype=np.float32)
    for start in range(0, len(ids), TEXTS):
        part = ids[start : start + TEXTS]
        found = dict(texts.filter(pk__in=part.tolist()))
        features[start : start + len(part)] = style_features([found[int(pk)] for pk in part])
    return ids, features


def item_exists(project: Project, item: str, *, by: By) -> bool:
    """Whether some response of the project is of this item."""
    return _responses_of(project, item, by=by).exists()


@dataclass(frozen=True)
class Battle:
    """One comparison of two items: the ranking, the responses of both, 1, 1/2 or 0 for the first."""

    ranking: int
    first_response: int
    second_response: int
    outcome: float


def find_battles(project: Project, question: Question, *, first: str, second: str) -> list[Battle]:
    """The battles between two items, those of the newest slates first."""
    rankings = narrow(question.slices)
    for item in (first, second):
        responses = _responses_of(project, item, by=question.by)
        rankings = rankings.filter(
            Exists(SlateResponse.objects.filter(slate=OuterRef("slate"), response__in=responses))
        )
    stream = JudgementStream(project, rankings=rankings, newest_slates=question.newest_slates, by=question.by)
    read = read_stream(stream, with_responses=True)
    if not len(read.battles):
        return []
    battles, one, other = read.battles, read.items.index(first), read.items.index(second)
    assert battles.responses is not None  # they were asked for
    straight = (battles.left == one) & (battles.right == other)
    turned = (battles.left == other) & (battles.right == one)
    outcome = np.where(turned, 1 - battles.outcomes, battles.outcomes)
    sides = np.where(turned[:, None], battles.responses[:, ::-1], battles.responses)
    return [
        Battle(
            ranking=int(read.ranking[battles.judgement[at]]),
            first_response=int(sides[at, 0]),
            second_response=int(sides[at, 1]),
            outcome=float(outcome[at]),
        )
        for at in np.flatnonzero(straight | turned)[::-1]
    ]


def _responses_of(project: Project, item: str, *, by: By) -> QuerySet[Response]:
    return Response.objects.filter(prompt__project=project).alias(item=ITEM_NAMES[by]).filter(item=item)


def _join(parts: Sequence[Battles], *, with_responses: bool) -> Battles:
    if not parts:
        nothing = np.empty(0, dtype=np.int32)
        return Battles(nothing, nothing, nothing, nothing, np.empty((0, 2), dtype=np.int64))
    return Battles(
        left=np.concatenate([part.left for part in parts]),
        right=np.concatenate([part.right for part in parts]),
        outcomes=np.concatenate([part.outcomes for part in parts]),
        judgement=np.concatenate([part.judgement for part in parts]),
        responses=np.concatenate([part.responses for part in parts]) if with_responses else None,
    )


def _join_orders(parts: Sequence[Orders]) -> Orders:
    width = max(part.order.shape[1] for part in parts)

    def widen(table: Array, blank: Any) -> Array:
        wide = np.full((len(table), width), blank, dtype=table.dtype)
        wide[:, : table.shape[1]] = table
        return wide

    return Orders(
        order=np.concatenate([widen(part.order, -1) for part in parts]),
        tied=np.concatenate([widen(part.tied, False) for part in parts]),
        ranked=np.concatenate([part.ranked for part in parts]),
        judgement=np.concatenate([part.judgement for part in parts]),
    )
