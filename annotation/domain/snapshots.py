"""Freezes a project's judgements into files: filtered, split by prompt, hashed, described, never changed.

Formats: `trl-preference` (pairs for TRL's reward and DPO trainers), `trl-unpaired` (single responses with a label, for
KTO), `rankings` (a row a ranking, with `group_id`), `sft` (prompt and best response), `prompts` (prompt-only),
`annotations` (a row a judgement, for people and scripts).
Each is written as JSONL and Parquet; `datasets.load_dataset` reads the directory, and its `parquet` folder, as it is.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from itertools import islice
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Max, Q, QuerySet
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from annotation.models import Project, Prompt, Ranking, Snapshot
from annotation.statistics.comparisons import DERIVATION, derive_comparisons, ranks_of

FORMATS = {
    "trl-preference": _("Preference pairs (TRL)"),
    "trl-unpaired": _("Good and bad responses (TRL unpaired)"),
    "rankings": _("Rankings with groups"),
    "sft": _("Supervised fine-tuning"),
    "prompts": _("Prompts only"),
    "annotations": _("Annotations"),
}
SPLITS = ("train", "validation", "test")
PARQUET_BATCH = 1000
DTYPES = {"string": "string", "int64": "int64", "bool": "bool", "double": "float64"}
"""Arrow's names of the columns' types, and those of `datasets`."""
Row = dict[str, Any]


class SnapshotRefused(ValueError):
    """The snapshot cannot be made; the message says what to change."""


@dataclass(frozen=True)
class SnapshotFilters:
    """Which judgements enter: by day of judgement (UTC, inclusive), kind of annotator and prompt category.

    An empty tuple means all.
    """

    since: date | None = None
    until: date | None = None
    annotator_kinds: tuple[str, ...] = ()
    categories: tuple[str, ...] = ()

    def as_json(self) -> dict[str, Any]:
        return {key: value.isoformat() if isinstance(value, date) else value for key, value in asdict(self).items()}


@dataclass
class Tally:
    """What went into a snapshot and what stayed out, counted while rows are made."""

    rows: Counter[str] = field(default_factory=Counter)
    prompts: dict[str, set[int]] = field(default_factory=lambda: {split: set() for split in SPLITS})
    rankings: int = 0
    simulated: int = 0
    annotators: set[int] = field(default_factory=set)
    dropped: Counter[str] = field(default_factory=Counter)


def split_of(content_hash: str, *, seed: int, shares: tuple[float, float, float]) -> str:
    """The split of a prompt, by hash of its content and the seed: equal prompts never part, order plays no role."""
    digest = hashlib.sha256(f"{seed}:{content_hash}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64
    if point < shares[2]:
        return "test"
    return "validation" if point < shares[2] + shares[1] else "train"


def freeze_snapshot(
    project: Project,
    *,
    format: str,
    filters: SnapshotFilters = SnapshotFilters(),
    split_seed: int = 0,
    shares: tuple[float, float, float] = (0.8, 0.1, 0.1),
    created_by: User | None = None,
) -> Snapshot:
    """Write the snapshot's files into DATA_DIR/snapshots and register them; all of it or nothing."""
    _check_request(format, shares=shares, split_seed=split_seed)
    root = settings.DATA_DIR / "snapshots" / project.slug
    root.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(prefix=".staging-", dir=root))
    try:
        with transaction.atomic():
            Project.objects.select_for_update().get(pk=project.pk)
            number = (project.snapshots.aggregate(Max("number"))["number__max"] or 0) + 1
            manifest = _write_files(
                staging, project=project, format=format, filters=filters, seed=split_seed, shares=shares
            )
            snapshot = Snapshot.objects.create(
                project=project,
                number=number,
                format=format,
                filters=filters.as_json(),
                split_seed=split_seed,
                manifest=manifest,
                sha256=manifest["sha256"],
                created_by=created_by,
            )
            target = snapshot_directory(snapshot)
            if target.exists():  # left over by a crash between rename and commit: no row points at it
                shutil.rmtree(target)
            os.replace(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return snapshot


def snapshot_directory(snapshot: Snapshot) -> Path:
    """Where the snapshot's files lie."""
    return Path(settings.DATA_DIR) / "snapshots" / snapshot.project.slug / str(snapshot.number)


def verify_snapshot(snapshot: Snapshot) -> None:
    """Raise SnapshotRefused if a file is missing or no longer has the hash under which it was frozen."""
    directory = snapshot_directory(snapshot)
    for entry in snapshot.manifest["files"]:
        path = directory / entry["path"]
        if not path.is_file():
            raise SnapshotRefused(f"Snapshot {snapshot} has lost its file {entry['path']}.")
        if _sha256_of(path) != entry["sha256"]:
            raise SnapshotRefused(f"Snapshot {snapshot}: {entry['path']} was changed after it was frozen.")


def copy_snapshot(snapshot: Snapshot, *, out: Path) -> None:
    """Copy a snapshot's files into `out`, which must be absent or empty."""
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise SnapshotRefused(f"{out} is not an empty directory; name another one.")
    verify_snapshot(snapshot)
    shutil.copytree(snapshot_directory(snapshot), out, dirs_exist_ok=True)


def sample_rows(snapshot: Snapshot, *, limit: int = 3) -> list[Row]:
    """The first rows of the largest split, for a look. Raises SnapshotRefused where the file is lost."""
    counts = snapshot.manifest["counts"]["rows"]
    split = max(SPLITS, key=lambda name: counts[name])
    try:
        with open(snapshot_directory(snapshot) / f"{split}.jsonl", encoding="utf-8") as file:
            return [json.loads(line) for line in islice(file, limit)]
    except FileNotFoundError:
        raise SnapshotRefused(f"Snapshot {snapshot} has lost its file {split}.jsonl.") from None


def read_prompt_ids(snapshot: Snapshot, *, split: str) -> set[int]:
    """The prompts whose rows stand in this split of the snapshot."""
    with open(snapshot_directory(snapshot) / f"{split}.jsonl", encoding="utf-8") as file:
        return {json.loads(line)["prompt_id"] for line in file}


def current_rankings(project: Project) -> QuerySet[Ranking]:
    """The newest version of every ranking of the project."""
    return Ranking.objects.filter(slate__project=project, superseded_by__isnull=True)


def filter_rankings(project: Project, filters: SnapshotFilters) -> QuerySet[Ranking]:
    """The rankings that the filters let in, in a stable order; current at the end of `until`, or now without one.

    A judgement amended after `until` so enters as it stood then, and a snapshot of a past period stays the same.
    """
    rankings = current_rankings(project)
    if filters.until:
        not_yet_superseded = Q(superseded_by__isnull=True) | Q(superseded_by__created_at__date__gt=filters.until)
        rankings = Ranking.objects.filter(not_yet_superseded, slate__project=project)
    if filters.since:
        rankings = rankings.filter(created_at__date__gte=filters.since)
    if filters.until:
        rankings = rankings.filter(created_at__date__lte=filters.until)
    if filters.annotator_kinds:
        rankings = rankings.filter(annotator__kind__in=filters.annotator_kinds)
    if filters.categories:
        rankings = rankings.filter(slate__prompt__metadata__category__in=filters.categories)
    return (
        rankings.select_related("slate__prompt", "annotator", "guidelines")
        .prefetch_related("slate__responses")
        .order_by("slate__prompt_id", "slate_id", "pk")
    )


# --- rows, one generator a format -----------------------------------------------------------------------------


def preference_rows(ranking: Ranking, *, tally: Tally) -> Iterator[Row]:
    """One row a strict pair; the pairs of one ranking share `group_id` and weigh 1 together."""
    texts = {response.pk: response.text for response in ranking.slate.responses.all()}
    derived = derive_comparisons(ranking.tiers)
    tally.dropped["ties"] += len(derived.tied)
    if not ranking.tiers:
        tally.dropped["all bad without order"] += 1
    pairs = [(a, b) for a, b in derived.strict if texts[a] != texts[b]]
    tally.dropped["identical responses"] += len(derived.strict) - len(pairs)
    for better, worse in pairs:
        yield {
            "prompt": ranking.slate.prompt.messages,
            "chosen": [{"role": "assistant", "content": texts[better]}],
            "rejected": [{"role": "assistant", "content": texts[worse]}],
            **_provenance(ranking),
            "chosen_id": better,
            "rejected_id": worse,
            "strength": ranking.strength,
            "weight": 1 / len(pairs),
        }


def unpaired_rows(ranking: Ranking, *, tally: Tally) -> Iterator[Row]:
    """A row a response with a label: false for all where all are bad; else true in the first tier, false in the last.

    What stands between, or in the one tier of an all-tied ranking, is neither and is dropped.
    """
    best = set() if ranking.all_bad else set(ranking.tiers[0])
    worst = set(ranking.tiers[-1]) if ranking.tiers else set()
    for response in ranking.slate.responses.all():
        if not ranking.all_bad and (response.pk in best) == (response.pk in worst):
            tally.dropped["neither best nor worst"] += 1
            continue
        yield {
            "prompt": ranking.slate.prompt.messages,
            "completion": [{"role": "assistant", "content": response.text}],
            "label": response.pk in best,
            **_provenance(ranking),
            "response_id": response.pk,
        }


def ranking_rows(ranking: Ranking, *, tally: Tally) -> Iterator[Row]:
    """One row a ranking: the K responses, their competition ranks (1 = best, equal = tie; empty if unordered)."""
    responses = list(ranking.slate.responses.all())
    ranks = ranks_of(ranking.tiers)
    yield {
        "prompt": ranking.slate.prompt.messages,
        "responses": [response.text for response in responses],
        "response_ids": [response.pk for response in responses],
        "ranks": [ranks[response.pk] for response in responses] if ranks else [],
        **_provenance(ranking),
        "rationale": ranking.rationale,
    }


def sft_rows(ranking: Ranking, *, tally: Tally) -> Iterator[Row]:
    """The best response of a ranking as an example to imitate; none where all are bad or the best is tied."""
    if ranking.all_bad or len(ranking.tiers[0]) != 1:
        tally.dropped["all bad" if ranking.all_bad else "tied best"] += 1
        return
    best = next(r for r in ranking.slate.responses.all() if r.pk == ranking.tiers[0][0])
    yield {
        "prompt": ranking.slate.prompt.messages,
        "completion": [{"role": "assistant", "content": best.text}],
        **_provenance(ranking),
        "response_id": best.pk,
    }


def annotation_rows(ranking: Ranking, *, tally: Tally) -> Iterator[Row]:
    """One row a judgement with everything that was recorded of it; sources stand beside the responses."""
    responses = list(ranking.slate.responses.all())
    yield {
        **next(ranking_rows(ranking, tally=tally)),
        "sources": [response.source for response in responses],
        "presented_order": ranking.presented_order,
        "active_ms": ranking.active_ms,
        "strength": ranking.strength,
        "guidelines_version": ranking.guidelines.version if ranking.guidelines else None,
        "created_at": ranking.created_at.isoformat(),
        "metadata": json.dumps(ranking.metadata, ensure_ascii=False, sort_keys=True),
    }


def prompt_row(prompt: Prompt) -> Row:
    """A prompt-only row; metadata travels as JSON text, since its shape differs from prompt to prompt."""
    return {
        "prompt": prompt.messages,
        "prompt_id": prompt.pk,
        "external_id": prompt.external_id,
        "reference": prompt.reference,
        "metadata": json.dumps(prompt.metadata, ensure_ascii=False, sort_keys=True),
    }


RANKING_FORMATS = {
    "trl-preference": preference_rows,
    "trl-unpaired": unpaired_rows,
    "rankings": ranking_rows,
    "sft": sft_rows,
    "annotations": annotation_rows,
}


def _provenance(ranking: Ranking) -> Row:
    return {
        "prompt_id": ranking.slate.prompt_id,
        "group_id": f"slate-{ranking.slate_id}/ranking-{ranking.pk}",
        "annotator": f"{ranking.annotator.kind}-{ranking.annotator_id}",
        "simulated": ranking.annotator.kind == "simulated",
        "all_bad": ranking.all_bad,
        "criterion": ranking.slate.criterion,
    }


# --- schemas: fixed, so that an empty split and a full one have the same columns -------------------------------

_MESSAGES = pa.list_(pa.struct([("role", pa.string()), ("content", pa.string())]))
_PROVENANCE = [
    ("prompt_id", pa.int64()),
    ("group_id", pa.string()),
    ("annotator", pa.string()),
    ("simulated", pa.bool_()),
    ("all_bad", pa.bool_()),
    ("criterion", pa.string()),
]
_RANKING = [
    ("prompt", _MESSAGES),
    ("responses", pa.list_(pa.string())),
    ("response_ids", pa.list_(pa.int64())),
    ("ranks", pa.list_(pa.int64())),
    *_PROVENANCE,
    ("rationale", pa.string()),
]
SCHEMAS: dict[str, pa.Schema] = {
    "trl-preference": pa.schema(
        [
            ("prompt", _MESSAGES),
            ("chosen", _MESSAGES),
            ("rejected", _MESSAGES),
            *_PROVENANCE,
            ("chosen_id", pa.int64()),
            ("rejected_id", pa.int64()),
            ("strength", pa.int64()),
            ("weight", pa.float64()),
        ]
    ),
    "trl-unpaired": pa.schema(
        [
            ("prompt", _MESSAGES),
            ("completion", _MESSAGES),
            ("label", pa.bool_()),
            *_PROVENANCE,
            ("response_id", pa.int64()),
        ]
    ),
    "rankings": pa.schema(_RANKING),
    "sft": pa.schema([("prompt", _MESSAGES), ("completion", _MESSAGES), *_PROVENANCE, ("response_id", pa.int64())]),
    "annotations": pa.schema(
        [
            *_RANKING,
            ("sources", pa.list_(pa.string())),
            ("presented_order", pa.list_(pa.int64())),
            ("active_ms", pa.int64()),
            ("strength", pa.int64()),
            ("guidelines_version", pa.int64()),
            ("created_at", pa.string()),
            ("metadata", pa.string()),
        ]
    ),
    "prompts": pa.schema(
        [
            ("prompt", _MESSAGES),
            ("prompt_id", pa.int64()),
            ("external_id", pa.string()),
            ("reference", pa.string()),
            ("metadata", pa.string()),
        ]
    ),
}


# --- writing ---------------------------------------------------------------------------------------------------


class SplitWriter:
    """Writes one split as JSONL and Parquet side by side, in constant memory."""

    def __init__(self, directory: Path, *, split: str, schema: pa.Schema) -> None:
        (directory / "parquet").mkdir(exist_ok=True)
        self.paths = [directory / f"{split}.jsonl", directory / "parquet" / f"{split}.parquet"]
        self.schema, self.rows, self.batch = schema, 0, list[Row]()
        self.jsonl: IO[str] = open(self.paths[0], "w", encoding="utf-8", newline="\n")  # noqa: SIM115 (closed by close)
        self.parquet = pq.ParquetWriter(self.paths[1], schema, compression="zstd")

    def write(self, row: Row) -> None:
        self.jsonl.write(json.dumps(row, ensure_ascii=False, allow_nan=False) + "\n")
        self.batch.append(row)
        self.rows += 1
        if len(self.batch) >= PARQUET_BATCH:
            self._flush()

    def close(self) -> None:
        self._flush()
        self.parquet.close()
        self.jsonl.close()
        if not self.rows:  # `datasets` refuses a Parquet split without rows
            self.paths.pop().unlink()

    def _flush(self) -> None:
        if self.batch:
            self.parquet.write_table(pa.Table.from_pylist(self.batch, schema=self.schema))
            self.batch.clear()


def _write_files(
    directory: Path,
    *,
    project: Project,
    format: str,
    filters: SnapshotFilters,
    seed: int,
    shares: tuple[float, float, float],
) -> dict[str, Any]:
    tally = Tally()
    writers = {split: SplitWriter(directory, split=split, schema=SCHEMAS[format]) for split in SPLITS}
    try:
        for prompt, row in _rows(project, format=format, filters=filters, tally=tally):
            split = split_of(prompt.content_hash, seed=seed, shares=shares)
            writers[split].write(row)
            tally.rows[split] += 1
            tally.prompts[split].add(prompt.pk)
    finally:
        for writer in writers.values():
            writer.close()
    if not tally.rows:
        raise SnapshotRefused(
            "Nothing to freeze: no judgement passes the filters and this format. "
            f"Looked at {tally.rankings} rankings; left out: {dict(tally.dropped) or 'none'}."
        )
    manifest = _manifest(project, format=format, filters=filters, seed=seed, shares=shares, tally=tally)
    (directory / "README.md").write_text(dataset_card(project, manifest), encoding="utf-8")
    manifest["files"] = [
        {
            "path": path.relative_to(directory).as_posix(),
            "split": split,
            "rows": writer.rows,
            "bytes": path.stat().st_size,
            "sha256": _sha256_of(path),
        }
        for split, writer in writers.items()
        for path in writer.paths
    ]
    card = directory / "README.md"
    manifest["files"].append(
        {
            "path": "README.md",
            "split": None,
            "rows": None,
            "bytes": card.stat().st_size,
            "sha256": _sha256_of(card),
        }
    )
    manifest["sha256"] = content_sha256(manifest)
    text = json.dumps(manifest, ensure_ascii=False, indent=2, sort_keys=True)
    (directory / "manifest.json").write_text(text + "\n", encoding="utf-8")
    return manifest


def content_sha256(manifest: Mapping[str, Any]) -> str:
    """The snapshot's hash: of the names and hashes of its JSONL files, so that equal judgements hash alike."""
    lines = sorted(f"{f['sha256']}  {f['path']}" for f in manifest["files"] if f["path"].endswith(".jsonl"))
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def _rows(project: Project, *, format: str, filters: SnapshotFilters, tally: Tally) -> Iterator[tuple[Prompt, Row]]:
    if format == "prompts":
        prompts = project.prompts.order_by("pk")
        if filters.categories:
            prompts = prompts.filter(metadata__category__in=filters.categories)
        for prompt in prompts.iterator(chunk_size=1000):
            yield prompt, prompt_row(prompt)
        return
    make_rows = RANKING_FORMATS[format]
    for ranking in filter_rankings(project, filters).iterator(chunk_size=500):
        tally.rankings += 1
        tally.simulated += ranking.annotator.kind == "simulated"
        tally.annotators.add(ranking.annotator_id)
        for row in make_rows(ranking, tally=tally):
            yield ranking.slate.prompt, row


def _manifest(
    project: Project,
    *,
    format: str,
    filters: SnapshotFilters,
    seed: int,
    shares: tuple[float, float, float],
    tally: Tally,
) -> dict[str, Any]:
    return {
        "project": project.slug,
        "format": format,
        "derivation": DERIVATION,
        "filters": filters.as_json(),
        "split": {
            "by": "prompt content hash",
            "seed": seed,
            "shares": dict(zip(SPLITS, shares, strict=True)),
        },
        "counts": {
            "rows": {split: tally.rows[split] for split in SPLITS},
            "prompts": {split: len(tally.prompts[split]) for split in SPLITS},
            "rankings": tally.rankings,
            "annotators": len(tally.annotators),
            "simulated_rankings": tally.simulated,
        },
        "dropped": {reason: count for reason, count in sorted(tally.dropped.items()) if count},
        "simulated": tally.simulated > 0,
        "created_at": timezone.now().isoformat(timespec="seconds"),
    }


def dataset_card(project: Project, manifest: Mapping[str, Any]) -> str:
    """The README.md of a snapshot; its YAML head tells `datasets` which file is which split."""
    counts = manifest["counts"]
    filled = [split for split in SPLITS if counts["rows"][split]]
    jsonl = "".join(f"  - split: {split}\n    path: {split}.jsonl\n" for split in filled)
    table = "".join(f"| {s} | {counts['rows'][s]} | {counts['prompts'][s]} |\n" for s in SPLITS)
    dropped = "".join(f"- {reason}: {count}\n" for reason, count in manifest["dropped"].items()) or "- nothing\n"
    warning = ""
    if manifest["simulated"]:
        warning = (
            f"**{counts['simulated_rankings']} of {counts['rankings']} rankings are by simulated annotators** "
            "(programs with a stated rule). They are no evidence about what people prefer.\n\n"
        )
    return (
        f"---\nconfigs:\n- config_name: default\n  data_files:\n{jsonl}"
        f"dataset_info:\n  features:\n{yaml_features(SCHEMAS[manifest['format']])}---\n\n"
        f"# {project.name}: {manifest['format']}\n\n{warning}"
        f"Frozen on {manifest['created_at']} from the project `{project.slug}` by Preferee. "
        f"{counts['rankings']} rankings by {counts['annotators']} annotators.\n\n"
        f"| split | rows | prompts |\n| --- | ---: | ---: |\n{table}\n"
        f"Split by prompt: sha256 of the seed ({manifest['split']['seed']}) and the prompt's content; no prompt "
        f"stands in two splits. Pairs derived by `{manifest['derivation']}`. Filters: "
        f"`{json.dumps(manifest['filters'])}`.\n\n## Left out\n\n{dropped}"
    )


def yaml_features(schema: pa.Schema) -> str:
    """The columns as the card's YAML head states them, so that a column empty in one split has its type in all."""
    lines = []
    for field_ in schema:
        if not pa.types.is_list(field_.type):
            lines.append(f"  - name: {field_.name}\n    dtype: {DTYPES[str(field_.type)]}\n")
        elif pa.types.is_struct(field_.type.value_type):
            parts = "".join(
                f"    - name: {part.name}\n      dtype: {DTYPES[str(part.type)]}\n" for part in field_.type.value_type
            )
            lines.append(f"  - name: {field_.name}\n    list:\n{parts}")
        else:
            lines.append(f"  - name: {field_.name}\n    list: {DTYPES[str(field_.type.value_type)]}\n")
    return "".join(lines)


def _check_request(format: str, *, shares: tuple[float, float, float], split_seed: int) -> None:
    if format not in FORMATS:
        raise SnapshotRefused(f"Unknown format {format!r}; use one of {', '.join(FORMATS)}.")
    if any(share < 0 for share in shares) or abs(sum(shares) - 1) > 1e-9 or shares[0] == 0:
        raise SnapshotRefused(f"The split shares {shares} must be at least 0, sum to 1, and leave some to train.")
    if split_seed < 0:
        raise SnapshotRefused("The split seed must be 0 or more.")


def _sha256_of(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
