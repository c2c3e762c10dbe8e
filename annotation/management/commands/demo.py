"""Starts the demonstration: sample projects, people to log in as, web server and worker, first responses.

Everything is kept in DATA_DIR; starting again finds it there and loses nothing.
"""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from django.conf import settings
from django.contrib.auth.models import User
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser
from tqdm import tqdm

from annotation import runner
from annotation.domain import collecting, projects, runs, samples
from annotation.management.console import Children, child_processes, follow_run
from annotation.models import Membership, Model, Project, Run

ROLES = {"ann": "annotator", "ben": "annotator", "rita": "reviewer", "ada": "admin", "eva": "engineer"}
FIRST_BATCH = {"prompt_count": 16, "n": 4, "max_new_tokens": 96, "seed": 0}
PASSWORD_FILE = "demo_password"
STATIC_HASHED = {"STATIC_HASHED": "yes"}


class Command(BaseCommand):
    help = "Start the demonstration on this machine."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--port", type=int, default=8000)
        parser.add_argument("--model", default=runner.EMBEDDED_MODEL, help="Any model transformers can load.")
        parser.add_argument("--prepare-only", action="store_true", help="Make the samples, start nothing.")

    def handle(self, *args: Any, port: int, model: str, prepare_only: bool, **options: Any) -> None:
        self.say("Preparing the demonstration: database, sample projects, web pages …")
        call_command("migrate", verbosity=0)
        password = self.read_password()
        people = self.create_people(password)
        for project in self.create_projects(model):
            self.add_people(project, people)
        if prepare_only:
            return
        try:
            with child_processes() as children:
                self.start_servers(children, port=port)
                self.print_logins(port, password=password)
                try:
                    self.follow_first_batch(children)
                    self.say("\nReady.")
                except CommandError as error:
                    self.stderr.write(f"{error}\nThe site runs; `make demo` tries the first responses again.")
                self.say("Stop with Ctrl+C; `make demo` goes on where it was.")
                while True:
                    children.require_alive()
                    time.sleep(0.5)
        except KeyboardInterrupt:
            self.stdout.write("Stopped.")

    def read_password(self) -> str:
        """The demonstration's password: made at the first start, kept in DATA_DIR, readable by its owner only."""
        path = Path(settings.DATA_DIR) / PASSWORD_FILE
        if not path.exists():
            with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
                file.write(secrets.token_urlsafe(9))
        return path.read_text().strip()

    def create_people(self, password: str) -> list[User]:
        people = []
        for name, role in ROLES.items():
            user, created = User.objects.get_or_create(username=name, defaults={"is_staff": role == "admin"})
            if created:
                user.set_password(password)
                user.save()
            people.append(user)
        return people

    def create_projects(self, model: str) -> list[Project]:
        assistant = samples.create_assistant_project()
        with tqdm(desc="Simulated judgements", disable=None) as bar:

            def show(done: int, total: int) -> None:
                bar.total = total
                bar.update(done - bar.n)

            simulated = samples.create_simulated_project(progress=show)
        for project in (assistant, simulated):
            collecting.add_model(project, name=model, kind=Model.Kind.POLICY, location=model)
        has_active_run = assistant.runs.filter(state__in=[Run.State.QUEUED, Run.State.RUNNING]).exists()
        if not assistant.slates.exists() and not has_active_run:
            base = assistant.models.get(name=model)
            runs.queue_run(assistant, method="generate", settings=FIRST_BATCH, base_model=base)
        return [assistant, simulated]

    def add_people(self, project: Project, people: list[User]) -> None:
        for user in people:
            if not Membership.objects.filter(project=project, user=user).exists():
                projects.set_member(project, user=user, role=ROLES[user.username])

    def collect_static_files(self) -> None:
        """Write the hashed and compressed static files, as an operator would."""
        command = [sys.executable, "manage.py", "collectstatic", "--noinput", "--verbosity", "0"]
        if subprocess.run(command, env={**os.environ, **STATIC_HASHED}).returncode != 0:
            raise CommandError("The static files could not be collected; see the messages above.")

    def start_servers(self, children: Children, *, port: int) -> None:
        self.collect_static_files()
        address = ["--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port)]
        size = ["--workers", "1", "--blocking-threads", "4", "--log-level", "warning"]
        server = children.start("-m", "granian", *address, *size, "config.wsgi:application", variables=STATIC_HASHED)
        children.start("manage.py", "work")
        page = f"http://127.0.0.1:{port}/login/"
        for _attempt in range(120):
            if server.poll() is not None:
                raise CommandError(f"The web server did not start. Is port {port} taken? Try PORT=8001.")
            try:
                urlopen(page, timeout=2).close()
                return
            except (URLError, ConnectionError, TimeoutError):
                time.sleep(0.25)
        raise CommandError(f"The web server does not answer at {page}.")

    def print_logins(self, port: int, *, password: str) -> None:
        self.stdout.write(f"\nPreferee runs at http://127.0.0.1:{port}/  Log in as:\n\n")
        for name, role in ROLES.items():
            self.stdout.write(f"  {role:<10} {name:<5} {password}")
        self.stdout.write("")
        if self.first_batch() is not None:
            self.stdout.write(
                "The first responses are being written, which takes about 2 minutes; until then there is nothing to\n"
                "rank in Everyday assistant. A line here says when they are there.\n"
            )
        self.stdout.flush()

    def say(self, line: str) -> None:
        """A line that is seen at once, through a pipe too."""
        self.stdout.write(line)
        self.stdout.flush()

    def first_batch(self) -> Run | None:
        """The generation whose responses are the first to be ranked, while it is queued or running."""
        active = Run.objects.filter(state__in=[Run.State.QUEUED, Run.State.RUNNING])
        return active.filter(project__slug=samples.ASSISTANT_SLUG, method="generate").order_by("number").first()

    def follow_first_batch(self, children: Children) -> None:
        """Show how far the first generation is; the site can be used meanwhile."""
        run = self.first_batch()
        if run is not None:
            follow_run(run, label="First responses", children=children)
