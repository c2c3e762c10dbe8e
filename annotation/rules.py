"""Who may do what: the one gate in front of every project.

A stranger to a project gets 404, so that nothing tells whether it exists; a member without the right gets 403.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404

from annotation.models import Membership, Project

if TYPE_CHECKING:
    from django.contrib.auth.models import AnonymousUser, User

Role = Membership.Role
ACTIONS: dict[str, frozenset[str]] = {
    "view": frozenset(Role.values),
    "annotate": frozenset({Role.ANNOTATOR, Role.REVIEWER, Role.ADMIN}),
    "review": frozenset({Role.REVIEWER, Role.ADMIN, Role.ENGINEER}),
    "answer": frozenset({Role.REVIEWER, Role.ADMIN}),
    "manage": frozenset({Role.ADMIN}),
    "export": frozenset({Role.ADMIN, Role.ENGINEER}),
    "train": frozenset({Role.ADMIN, Role.ENGINEER}),
}
"""view: the project page and guidelines. annotate: rank. review: see prompts, responses and their sources.
answer: read and answer what annotators ask about slates.
manage: import data, publish guidelines, choose members. export: freeze and download snapshots. train: runs, models."""


def projects_for_user(user: User | AnonymousUser) -> QuerySet[Project]:
    """The projects of which `user` is a member; the root of every scoped queryset."""
    if not user.is_authenticated:
        return Project.objects.none()
    return Project.objects.filter(memberships__user=user)


def require_membership(user: User | AnonymousUser, slug: str, *, action: str) -> Membership:
    """Return the user's membership in the project if it allows `action`.

    Raises Http404 for strangers, PermissionDenied for members whose role does not allow it.
    """
    allowed = ACTIONS[action]
    membership = (
        Membership.objects.select_related("project", "user").filter(user=user, project__slug=slug).first()
        if user.is_authenticated
        else None
    )
    if membership is None:
        raise Http404("No such project.")
    if membership.role not in allowed:
        raise PermissionDenied(f"This needs the right to {action}; you are {membership.get_role_display()} here.")
    return membership


def can(membership: Membership, action: str) -> bool:
    """Say whether the membership's role allows `action`."""
    return membership.role in ACTIONS[action]
