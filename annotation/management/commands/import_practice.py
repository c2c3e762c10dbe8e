"""`manage.py import_practice --project SLUG FILE`: add explained examples to a project's practice round."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from dataclasses import asdict
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from annotation.domain.import_readers import ImportFile, ImportRefused
from annotation.domain.practice_import import import_examples
from annotation.models import Project


class Command(BaseCommand):
    help = "Add practice examples with explained answers to a project (JSONL, an example a line)."

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--json", action="store_true", help="end with one line of JSON: the counts")
        parser.add_argument("file", metavar="FILE")

    def handle(self, *args: Any, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise CommandError(f"There is no project {options['project']!r}.")
        path = Path(options["file"])
        try:
            counts = import_examples(project, file=ImportFile(path.name, path))
        except ImportRefused as error:
            raise CommandError(f"{error}; nothing was added.") from error
        if options["json"]:
            self.stdout.write(json.dumps(asdict(counts)))
        else:
            self.stdout.write(f"Added {counts.added} practice examples; {counts.skipped} were there already.")
