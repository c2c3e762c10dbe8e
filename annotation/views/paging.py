"""Fifty rows a page, everywhere the same."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from django.core.paginator import Page, Paginator
from django.db.models import QuerySet
from django.http import HttpRequest

ROWS_A_PAGE = 50


def kept_query(request: HttpRequest) -> str:
    """The filters of the address without its page, to go before "page=" in links."""
    query = request.GET.copy()
    query.pop("page", None)
    return f"{query.urlencode()}&" if query else ""


def paginate(request: HttpRequest, rows: QuerySet[Any] | Sequence[Any]) -> Page[Any]:
    """The page named by ?page=; the first where it names none, the last where it is past the end."""
    return Paginator(rows, ROWS_A_PAGE).get_page(request.GET.get("page"))
