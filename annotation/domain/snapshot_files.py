"""The files of a snapshot: rows as JSONL and Parquet, a manifest with every hash, and a dataset card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.parquet as pq
from django.utils import timezone

from annotation.domain.snapshot_filters import SnapshotFilters, filter_rankings
from annotation.domain.snapshot_rows import RANKING_FORMATS, SPLITS, Row, Tally, prompt_row, reference_row
from annotation.domain.snapshot_schemas import SCHEMAS, yaml_features
from annotation.models import Project, Prompt
from annotation.statistics.comparisons import DERIVATION

PARQUET_BATCH = 1000
PROMPT_FORMATS = {"prompts": prompt_row, "references": reference_row}
"""Formats of a row a prompt, which ask for no judgement."""
WITHOUT_REFERENCE = "prompts without a reference"


class SnapshotRefused(ValueError):
    """The snapshot cannot be made; the message says what to change."""


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


def split_of(content_hash: str, *, seed: int, shares: tuple[float, float, float]) -> str:
    """The split of a prompt, by hash of its content and the seed: equal prompts never part, order plays no role."""
    digest = hashlib.sha256(f"{seed}:{content_hash}".encode()).digest()
    point = int.from_bytes(digest[:8], "big") / 2**64
    if point < shares[2]:
        return "test"
    return "validation" if point < shares[2] + shares[1] else "train"


def write_files(
    directory: Path,
    *,
    project: Project,
    format: str,
    filters: SnapshotFilters,
    seed: int,
    shares: tuple[float, float, float],
) -> dict[str, Any]:
    """Write the files of a snapshot into an empty directory and return its manifest.

    Raises SnapshotRefused where no row would be in it.
    """
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
        raise SnapshotRefused(_why_empty(tally))
    manifest = _manifest(project, format=format, filters=filters, seed=seed, shares=shares, tally=tally)
    (directory / "README.md").write_text(dataset_card(project, manifest), encoding="utf-8")
    manifest["files"] = [
        {
            "path": path.relative_to(directory).as_posix(),
            "split": split,
            "rows": writer.rows,
            "bytes": path.stat().st_size,
            "sha256": sha256_of(path),
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
            "sha256": sha256_of(card),
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


def sha256_of(path: Path) -> str:
    """The file's SHA-256, as hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _rows(project: Project, *, format: str, filters: SnapshotFilters, tally: Tally) -> Iterator[tuple[Prompt, Row]]:
    if format in PROMPT_FORMATS:
        yield from _rows_of_prompts(project, format=format, filters=filters, tally=tally)
        return
    make_rows = RANKING_FORMATS[format]
    for ranking in filter_rankings(project, filters).iterator(chunk_size=500):
        tally.rankings += 1
        tally.simulated += ranking.annotator.kind == "simulated"
        tally.annotators.add(ranking.annotator_id)
        for row in make_rows(ranking, tally=tally):
            yield ranking.slate.prompt, row


def _rows_of_prompts(
    project: Project, *, format: str, filters: SnapshotFilters, tally: Tally
) -> Iterator[tuple[Prompt, Row]]:
    prompts = project.prompts.order_by("pk")
    if filters.categories:
        prompts = prompts.filter(metadata__category__in=filters.categories)
    for prompt in prompts.iterator(chunk_size=1000):
        if format == "references" and not (prompt.reference or "").strip():
            tally.dropped[WITHOUT_REFERENCE] += 1
        else:
            yield prompt, PROMPT_FORMATS[format](prompt)


def _why_empty(tally: Tally) -> str:
    dropped = {reason: count for reason, count in sorted(tally.dropped.items()) if count}
    if WITHOUT_REFERENCE in dropped:
        return f"Nothing to freeze: none of {dropped[WITHOUT_REFERENCE]} prompts has a reference, its right answer."
    said = (
        "Nothing to freeze: no judgement passes the filters and this format. "
        f"Looked at {tally.rankings} rankings; left out: {dropped or 'none'}."
    )
    if dropped.get("ratings without order"):
        return f"{said} Ratings are no preferences: freeze them in the format 'ratings'."
    return said


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
        "task": {"kind": project.task, "scales": project.scales, "flags": project.flags},
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
        f"`{json.dumps(manifest['filters'])}`.\n\n## What was asked\n\n{_asked(manifest['task'])}"
        f"\n## Left out\n\n{dropped}"
    )


def _asked(task: Mapping[str, Any]) -> str:
    """The kind of task now, and its scales with their anchors; what each row was asked stands in its column `task`."""
    lines = [f"- task: {task['kind']}"]
    for scale in task["scales"]:
        points = "; ".join(f"{point} {anchor}".rstrip() for point, anchor in scale["points"].items())
        lines.append(f"- scale {scale['name']}: {points}")
    return "\n".join(lines) + "\n"
