"""Makes a person a member of a project, creating their account if it is new."""

from __future__ import annotations

import getpass
import sys
from typing import Any

from django.contrib.auth.models import User
from django.contrib.auth.password_validation import validate_password
from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotation.domain.projects import set_member
from annotation.models import Membership, Project


class Command(BaseCommand):
    help = "Give a person a role in a project; a new account gets its password from the prompt or standard input."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--user", required=True, metavar="NAME")
        parser.add_argument("--role", required=True, choices=Membership.Role.values)

    def handle(self, *args: Any, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise CommandError(f"There is no project {options['project']!r}.")
        user = User.objects.filter(username=options["user"]).first()
        if user is None:
            user = self.create_account(options["user"])
        set_member(project, user=user, role=options["role"])
        self.stdout.write(f"{user.username} is {options['role']} of {project.slug}.")

    def create_account(self, name: str) -> User:
        password = (
            getpass.getpass(f"Password for {name}: ") if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
        )
        user = User(username=name)
        try:
            user.clean_fields(exclude=["password"])
            validate_password(password, user)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from error
        user.set_password(password)
        user.save()
        return user
