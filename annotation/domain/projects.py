"""Projects, guidelines and members."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Max

from annotation.domain.tasks import Scale, save_task, settings_of
from annotation.models import Guidelines, Membership, Project
from annotation.rendering import DEFAULT_PATTERNS


@transaction.atomic
def create_project(
    *,
    slug: str,
    name: str,
    description: str = "",
    task: str = Project.Task.RANKING,
    scales: Sequence[Scale] = (),
    slate_size: int = 4,
    overlap: int = 1,
    guidelines: str,
    owner: User | None = None,
) -> Project:
    """Create a project with its first guidelines; `owner` becomes its admin.

    Slates of a task that compares two have two responses, whatever `slate_size` says. Phrases by which models give
    themselves away are masked until an admin says otherwise. Raises TaskRefused as `save_task` does.
    """
    project = Project.objects.create(
        slug=slug,
        name=name,
        description=description,
        slate_size=slate_size,
        overlap=overlap,
        mask_patterns=list(DEFAULT_PATTERNS),
    )
    project = save_task(project, settings=replace(settings_of(project), kind=task, scales=tuple(scales)))
    Guidelines.objects.create(project=project, version=1, text=guidelines)
    if owner is not None:
        set_member(project, user=owner, role=Membership.Role.ADMIN)
    return project


@transaction.atomic
def publish_guidelines(project: Project, *, text: str) -> Guidelines:
    """Add the next version of the guidelines; the same text again changes nothing."""
    Project.objects.select_for_update().get(pk=project.pk)
    latest = project.guidelines.order_by("-version").first()
    if latest is not None and latest.text == text:
        return latest
    version = (project.guidelines.aggregate(Max("version"))["version__max"] or 0) + 1
    return Guidelines.objects.create(project=project, version=version, text=text)


def set_member(project: Project, *, user: User, role: str) -> Membership:
    """Give `user` this role in the project, replacing the one they had."""
    if role not in Membership.Role.values:
        raise ValueError(f"Unknown role {role!r}; use one of {', '.join(Membership.Role.values)}.")
    membership, _created = Membership.objects.update_or_create(
        project=project,
        user=user,
        defaults={"role": role, "name": user.get_username(), "kind": Membership.Kind.PERSON},
    )
    return membership


def simulated_annotator(project: Project, *, name: str) -> Membership:
    """The membership under which a simulated annotator's judgements stand; labelled wherever it shows."""
    membership, _created = Membership.objects.get_or_create(
        project=project,
        name=name,
        kind=Membership.Kind.SIMULATED,
        defaults={"role": Membership.Role.ANNOTATOR},
    )
    return membership
