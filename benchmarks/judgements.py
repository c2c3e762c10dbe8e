"""Measures how stored rankings become comparison arrays: seconds and memory, on SQLite and PostgreSQL.

    .venv/bin/python benchmarks/judgements.py [--check] [--rankings 1000000] [--postgres postgres://…]

Makes databases of its own, a file and one on the server of TEST_POSTGRES_URL (left out without one), with a small and a
large project of rankings of four responses, four annotators a slate, and drops them afterwards. Each reading is a
process of its own. With --check it exits with 1 where reading the large project takes longer than the goal or needs
more memory than the small one by more than what is kept of each response; below 400,000 rankings the small project
does not fill a chunk, and the comparison means nothing.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit
from uuid import uuid4

ROOT = Path(__file__).resolve().parent.parent
SECONDS = 10.0
BYTES_A_RESPONSE = 12
SLACK_MB = 24.0
SIZE = 4
SMALL = 20
"""The small project has this part of the large one's rankings."""

NUMBERS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < %(count)s)"
STATEMENTS = (
    ("slates", """
INSERT INTO annotation_prompt (id, external_id, messages, content_hash, metadata, created_at, project_id)
{numbers} SELECT %(first)s + i, 'p' || i, {json}, '', {object}, {time}, %(project)s FROM n"""),
    ("rankings", """
INSERT INTO annotation_response
    (id, external_id, text, source, source_kind, metadata, created_at, prompt_id)
{numbers} SELECT %(first)s * 4 + i, 'r' || i, 'An answer.', 'model ' || (i %% 200 * 79 %% 200), 'model', {object},
    {time}, %(first)s + (i - 1) / 4 + 1 FROM n"""),
    ("slates", """
INSERT INTO annotation_slate (id, external_id, criterion, priority, created_at, project_id, prompt_id)
{numbers} SELECT %(first)s + i, 's' || i, '', 0, {time}, %(project)s, %(first)s + i FROM n"""),
    ("rankings", """
INSERT INTO annotation_slot (id, number, state, is_extra, annotator_id, slate_id)
{numbers} SELECT %(first)s * 4 + i, (i - 1) %% 4, 'done', {no}, %(annotator)s + (i - 1) %% 4,
    %(first)s + (i - 1) / 4 + 1 FROM n"""),
    ("rankings", """
INSERT INTO annotation_ranking
    (id, token, tiers, all_bad, presented_order, flags, highlights, corrections, metadata, rationale, task, created_at,
     annotator_id, slate_id, slot_id)
{numbers}, drawn AS (
    SELECT i, %(first)s * 4 + (i - 1) / 4 * 4 + 1 AS base, (i * 7 + i / 4) %% 4 AS turn FROM n
), placed AS (
    SELECT i, base + turn AS a, base + (turn + 1) %% 4 AS b, base + (turn + 2) %% 4 AS c, base + (turn + 3) %% 4 AS d
    FROM drawn
)
SELECT %(first)s * 4 + i, {token},
    CAST('[[' || a || '], [' || b || CASE WHEN i %% 7 = 0 THEN ', ' ELSE '], [' END || c || '], [' || d || ']]'
         AS {json_type}),
    {no}, CAST('[' || c || ', ' || a || ', ' || d || ', ' || b || ']' AS {json_type}), {object}, {json}, {object},
    {object}, 'It says what was asked.', 'ranking', {time}, %(annotator)s + (i - 1) %% 4, %(first)s + (i - 1) / 4 + 1,
    %(first)s * 4 + i FROM placed"""),
)  # fmt: skip
WORDS = {
    "sqlite": {
        "json": "'[]'", "object": "'{}'", "json_type": "text", "no": "0", "time": "'2026-11-24 12:00:00'",
        "token": "lower(hex(randomblob(16)))",
    },
    "postgresql": {
        "json": "CAST('[]' AS jsonb)", "object": "CAST('{}' AS jsonb)", "json_type": "jsonb", "no": "false",
        "time": "CAST('2026-11-24 12:00:00+00' AS timestamptz)", "token": "gen_random_uuid()",
    },
}  # fmt: skip


def main() -> int:
    """Fill, measure, print a table, and say whether the goals are met."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--rankings", type=int, default=1_000_000)
    parser.add_argument("--postgres", default=os.environ.get("TEST_POSTGRES_URL", ""))
    parser.add_argument("--fill", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--read", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.fill:
        fill(options.fill)
        return 0
    if options.read:
        print(json.dumps(read(options.read)))
        return 0
    is_met = True
    print(f"{'database':<12} {'rankings':>10} {'comparisons':>12} {'seconds':>8} {'CPU s':>7} {'MB':>6}")
    for name, database in databases(options.postgres):
        with database as environment:
            run(["--fill", str(options.rankings)], environment=environment)
            found = {slug: run(["--read", slug], environment=environment) for slug in ("small", "large")}
        for figures in found.values():
            print(
                f"{name:<12} {figures['rankings']:>10,} {figures['comparisons']:>12,} {figures['seconds']:>8.1f} "
                f"{figures['cpu']:>7.1f} {figures['mb']:>6.0f}"
            )
        kept = BYTES_A_RESPONSE * options.rankings / 1e6
        is_met &= found["large"]["seconds"] <= SECONDS * options.rankings / 1e6
        is_met &= found["large"]["mb"] - found["small"]["mb"] <= kept + SLACK_MB
    goals = f"{SECONDS:.0f} s a million, {BYTES_A_RESPONSE} bytes a response beside the chunk"
    print(f"goals ({goals}) {'met' if is_met else 'missed'}")
    return 0 if is_met or not options.check else 1


def databases(postgres: str) -> Iterator[tuple[str, Any]]:
    """A name and a context that gives the environment of a new, migrated database."""
    yield "SQLite", new_database()
    if postgres:
        yield "PostgreSQL", new_database(postgres)


@contextmanager
def new_database(server: str = "") -> Iterator[dict[str, str]]:
    """The environment of a database that is there while the block lasts: a file, or one on this server."""
    with tempfile.TemporaryDirectory() as directory:
        environment = {**os.environ, "DATA_DIR": directory, "OPENBLAS_NUM_THREADS": "1"}
        environment.pop("DATABASE_URL", None)
        name = f"preferee_benchmark_{uuid4().hex[:8]}"
        if server:
            execute(server, f"CREATE DATABASE {name}")
            environment["DATABASE_URL"] = urlunsplit(urlsplit(server)._replace(path=f"/{name}"))
        try:
            command = [sys.executable, "manage.py", "migrate", "--verbosity", "0"]
            subprocess.run(command, cwd=ROOT, env=environment, check=True)
            yield environment
        finally:
            if server:
                execute(server, f"DROP DATABASE {name}")


def execute(server: str, statement: str) -> None:
    """Run one statement on a PostgreSQL server, outside of transactions."""
    import psycopg

    with psycopg.connect(server, autocommit=True) as connection:
        connection.execute(statement.encode())


def run(arguments: list[str], *, environment: dict[str, str]) -> dict[str, Any]:
    """This script as a process of its own; what it printed last."""
    command = [sys.executable, str(Path(__file__)), *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, check=True, stdout=subprocess.PIPE, text=True)
    lines = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(lines[-1]) if lines else {}
    return found


def set_up() -> None:
    """Django, in the environment of this process."""
    sys.path.insert(0, str(ROOT))
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")
    import django

    django.setup()


def fill(rankings: int) -> None:
    """A small and a large project, written by the database itself."""
    set_up()
    from django.db import connection

    from annotation.models import Membership, Project

    words = WORDS[connection.vendor]
    first = 0
    for slug, count in (("small", rankings // SMALL), ("large", rankings)):
        project = Project.objects.create(slug=slug, name=slug)
        members = [
            Membership.objects.create(project=project, name=f"annotator {number}", role="annotator", kind="imported")
            for number in range(SIZE)
        ]
        slates = count // SIZE
        counts = {"slates": slates, "rankings": slates * SIZE}
        with connection.cursor() as cursor:
            for what, statement in STATEMENTS:
                values = {"count": counts[what], "first": first, "project": project.pk, "annotator": members[0].pk}
                cursor.execute(statement.format(numbers=NUMBERS, **words), values)
        first += slates
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")


def read(slug: str) -> dict[str, Any]:
    """Read a project to the end, sources included, a chunk at a time."""
    set_up()
    from annotation.judgements import JudgementStream, compare
    from annotation.models import Project

    project = Project.objects.get(slug=slug)
    before, cpu, clock = peak_mb(), time.process_time(), time.perf_counter()
    stream = JudgementStream(project)
    rankings = comparisons = 0
    for judgements in stream:
        compared = compare(judgements)
        rankings, comparisons = rankings + len(judgements), comparisons + len(compared.row)
    return {
        "rankings": rankings,
        "comparisons": comparisons,
        "seconds": time.perf_counter() - clock,
        "cpu": time.process_time() - cpu,
        "mb": peak_mb() - before,
    }


def peak_mb() -> float:
    """The largest memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1e6 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    sys.exit(main())
