"""What the views of ranking read from a request in the same way."""

from __future__ import annotations

from uuid import UUID

from django.http import Http404, HttpRequest


def read_token(token: str) -> UUID:
    """The token of a form; 404 where it is none."""
    try:
        return UUID(token)
    except ValueError:
        raise Http404("No such lease.") from None


def wants_json(request: HttpRequest) -> bool:
    """Whether the page's script asks rather than a plain form."""
    return request.headers.get("Accept", "").startswith("application/json")
