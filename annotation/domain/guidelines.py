"""Who has read which version of a project's guidelines, and what a person is to read next.

Publishing is in `annotation.domain.projects`; what changed between two versions is told by
`annotation.domain.changes`.
"""

from __future__ import annotations

from annotation.models import Guidelines, GuidelinesReading, Membership


class GuidelinesUnknown(ValueError):
    """The project's guidelines have no such version."""


def mark_read(membership: Membership, *, version: int) -> bool:
    """Note that the member has read this version; say whether that is new. A second time changes nothing.

    Raises GuidelinesUnknown for a version that the project does not have.
    """
    guidelines = Guidelines.objects.filter(project=membership.project_id, version=version).first()
    if guidelines is None:
        raise GuidelinesUnknown(f"The guidelines have no version {version}. Reload the page.")
    _reading, created = GuidelinesReading.objects.get_or_create(membership=membership, guidelines=guidelines)
    return created


def newest_read(membership: Membership) -> Guidelines | None:
    """The newest version that the member has read, None where they never read any."""
    return Guidelines.objects.filter(readings__membership=membership).order_by("-version").first()


def unread_change(membership: Membership) -> tuple[Guidelines | None, Guidelines] | None:
    """What the member is to read: (the newest version they have read, or None, the project's newest).

    None where they have read the newest, and where the project has no guidelines.
    """
    newest = Guidelines.objects.filter(project=membership.project_id).order_by("-version").first()
    if newest is None:
        return None
    read = newest_read(membership)
    return None if read == newest else (read, newest)


def has_changes_to_read(membership: Membership) -> bool:
    """Whether the guidelines have changed since the member last read them; newcomers read them where they start."""
    change = unread_change(membership)
    return change is not None and change[0] is not None


def guidelines_for(annotator: Membership) -> Guidelines | None:
    """The version under which the annotator judges: the newest they have read, or the project's newest if none.

    Programs and imported names read nothing: what they say stands under what was in force.
    """
    read = newest_read(annotator)
    return read or Guidelines.objects.filter(project=annotator.project_id).order_by("-version").first()
