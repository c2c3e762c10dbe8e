"""Freezes a snapshot of a project and copies its files into a directory."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotation.domain.snapshots import FORMATS, SnapshotFilters, SnapshotRefused, copy_snapshot, freeze_snapshot
from annotation.models import Membership, Project


def parse_day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not a day like 2026-11-23") from None


def parse_shares(text: str) -> tuple[float, float, float]:
    try:
        train, validation, test = (float(part) for part in text.split(","))
    except ValueError:
        raise ArgumentTypeError(f"{text!r} is not three shares like 0.8,0.1,0.1") from None
    return train, validation, test


class Command(BaseCommand):
    help = "Freeze a snapshot and copy its files (JSONL, Parquet, manifest, dataset card) into a directory."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--format", required=True, choices=list(FORMATS))
        parser.add_argument("--out", required=True, type=Path, help="An absent or empty directory.")
        parser.add_argument("--since", type=parse_day, help="First day of judgement (UTC).")
        parser.add_argument("--until", type=parse_day, help="Last day of judgement (UTC).")
        parser.add_argument("--annotator-kind", action="append", default=[], choices=Membership.Kind.values)
        parser.add_argument("--category", action="append", default=[], help="Only prompts of this category.")
        parser.add_argument("--split-seed", type=int, default=0)
        parser.add_argument(
            "--shares", type=parse_shares, default=(0.8, 0.1, 0.1), help="train,validation,test (default 0.8,0.1,0.1)"
        )
        parser.add_argument("--json", action="store_true", help="Print the manifest as one JSON line at the end.")

    def handle(self, *args: Any, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise CommandError(f"There is no project {options['project']!r}.")
        out: Path = options["out"]
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise CommandError(f"{out} is not an empty directory; name another one.")
        filters = SnapshotFilters(
            since=options["since"],
            until=options["until"],
            annotator_kinds=tuple(options["annotator_kind"]),
            categories=tuple(options["category"]),
        )
        try:
            snapshot = freeze_snapshot(
                project,
                format=options["format"],
                filters=filters,
                split_seed=options["split_seed"],
                shares=options["shares"],
            )
            copy_snapshot(snapshot, out=out)
        except SnapshotRefused as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps({"snapshot": snapshot.number, **snapshot.manifest}, ensure_ascii=False))
        else:
            rows = ", ".join(f"{split} {count}" for split, count in snapshot.manifest["counts"]["rows"].items())
            self.stdout.write(f"Snapshot {snapshot.number} ({rows}) lies in {out}; sha256 {snapshot.sha256}")
