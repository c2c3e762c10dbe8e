"""`manage.py import_data --project SLUG FILE…`: import prompts, responses, preferences or annotated items."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError
from django.db import transaction

from annotation.domain.importing import FORMATS, ImportCounts, ImportFile, ImportRefused, import_files
from annotation.domain.projects import create_project
from annotation.models import Project

PROGRESS_ROWS = 10_000
GUIDELINES = "Rank the responses from best to worst. Responses that are equally good share a place."


class Command(BaseCommand):
    help = "Import prompts, responses, preferences or annotated items into a project (see docs/importing.md)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--create", action="store_true", help="make the project where there is none")
        parser.add_argument("--format", choices=FORMATS, default="auto")
        parser.add_argument("--dry-run", action="store_true", help="check and count only; store nothing")
        parser.add_argument("--json", action="store_true", help="end with one line of JSON: the counts")
        parser.add_argument("files", nargs="+", metavar="FILE")

    def handle(self, *args: Any, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        try:
            if project is not None:
                counts = self._import(project, options)
            elif options["create"]:
                counts = self._create_and_import(options)
            else:
                raise CommandError(f"There is no project {options['project']!r}; add --create to make it.")
        except ImportRefused as error:
            raise CommandError(str(error)) from error
        if options["json"]:
            self.stdout.write(json.dumps(asdict(counts)))
        else:
            self.stdout.write(describe_counts(counts, dry_run=options["dry_run"]))

    def _create_and_import(self, options: dict[str, Any]) -> ImportCounts:
        """Make the project and import in one transaction, so that a failed import leaves no empty project."""
        slug = options["project"]
        with transaction.atomic():
            try:
                Project(slug=slug, name=slug).clean_fields()
            except ValidationError as error:
                raise CommandError(f"{slug!r} cannot name a project: {' '.join(error.messages)}") from error
            project = create_project(slug=slug, name=slug, guidelines=GUIDELINES)
            counts = self._import(project, options)
            transaction.set_rollback(options["dry_run"])
        return counts

    def _import(self, project: Project, options: dict[str, Any]) -> ImportCounts:
        return import_files(
            project,
            files=name_files(options["files"]),
            format=options["format"],
            dry_run=options["dry_run"],
            progress=self._show_progress,
        )

    def _show_progress(self, name: str, rows: int) -> None:
        if rows % PROGRESS_ROWS == 0:
            self.stderr.write(f"{name}: {rows:,} rows", ending="\n")


def name_files(paths: Sequence[str]) -> list[ImportFile]:
    """Name each file by its last part, or in full where two files share that."""
    times = Counter(Path(path).name for path in paths)
    return [
        ImportFile(name=Path(path).name if times[Path(path).name] == 1 else path, path=Path(path)) for path in paths
    ]


def describe_counts(counts: ImportCounts, *, dry_run: bool) -> str:
    """One sentence for a person."""
    verb = "Would import" if dry_run else "Imported"
    return (
        f"{verb} {counts.prompts} prompts, {counts.responses} responses, {counts.slates} slates and "
        f"{counts.rankings} rankings; {counts.skipped} rows were there already."
    )
