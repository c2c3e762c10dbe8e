"""Freezes a project's judgements into files: filtered, split by prompt, hashed, described, never changed.

Formats: `trl-preference` (pairs for TRL's reward and DPO trainers), `trl-unpaired` (single responses with a label, for
KTO), `rankings` (a row a ranking, with `group_id`), `ratings` (a row a rated response), `sft` (prompts with what to
imitate), `references` (prompts with their right answers, to imitate), `prompts` (prompt-only), `annotations` (a row a
judgement with all that was recorded, for people and scripts). Each is written as JSONL and Parquet;
`datasets.load_dataset` reads the directory, and its `parquet` folder, as it is.

What enters is decided in `snapshot_filters`, rows are made in `snapshot_rows`, their columns stand in
`snapshot_schemas`, and `snapshot_files` writes.
"""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from itertools import islice
from pathlib import Path

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Max
from django.utils.translation import gettext_lazy as _

from annotation.domain.snapshot_files import SnapshotRefused, content_sha256, sha256_of, split_of, write_files
from annotation.domain.snapshot_filters import EVERYTHING, SnapshotFilters, current_rankings, filter_rankings
from annotation.domain.snapshot_rows import SPLITS, Row
from annotation.domain.snapshot_schemas import SCHEMAS
from annotation.models import Project, Snapshot

__all__ = [
    "FORMATS",
    "SCHEMAS",
    "SPLITS",
    "SnapshotFilters",
    "SnapshotRefused",
    "content_sha256",
    "copy_snapshot",
    "current_rankings",
    "filter_rankings",
    "freeze_snapshot",
    "read_prompt_ids",
    "sample_rows",
    "snapshot_directory",
    "split_of",
    "verify_snapshot",
]

FORMATS = {
    "trl-preference": _("Preference pairs (TRL)"),
    "trl-unpaired": _("Good and bad responses (TRL unpaired)"),
    "rankings": _("Rankings with groups"),
    "ratings": _("Ratings of responses"),
    "sft": _("Supervised fine-tuning"),
    "references": _("Right answers (references)"),
    "prompts": _("Prompts only"),
    "annotations": _("Annotations"),
}


def freeze_snapshot(
    project: Project,
    *,
    format: str,
    filters: SnapshotFilters = EVERYTHING,
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
            project = Project.objects.select_for_update().get(pk=project.pk)
            number = (project.snapshots.aggregate(Max("number"))["number__max"] or 0) + 1
            manifest = write_files(
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
        if sha256_of(path) != entry["sha256"]:
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


def _check_request(format: str, *, shares: tuple[float, float, float], split_seed: int) -> None:
    if format not in FORMATS:
        raise SnapshotRefused(f"Unknown format {format!r}; use one of {', '.join(FORMATS)}.")
    if any(share < 0 for share in shares) or abs(sum(shares) - 1) > 1e-9 or shares[0] == 0:
        raise SnapshotRefused(f"The split shares {shares} must be at least 0, sum to 1, and leave some to train.")
    if split_seed < 0:
        raise SnapshotRefused("The split seed must be 0 or more.")
