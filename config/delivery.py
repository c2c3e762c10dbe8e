"""How pages and static files reach the browser: pages compressed, static files hashed and compressed beforehand.

Static files are hashed where `STATIC_HASHED=yes`: `manage.py collectstatic` writes each under a name that carries the
hash of its content, with what refers to it rewritten, so that browsers may keep it for ever. Elsewhere (development,
tests) they are served from their source as they are.
"""

from __future__ import annotations

import filecmp
from pathlib import Path

from django.conf import settings
from django.contrib.staticfiles.finders import get_finders
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.http.response import HttpResponseBase
from django.middleware.gzip import GZipMiddleware
from whitenoise.storage import CompressedManifestStaticFilesStorage


class PageCompression(GZipMiddleware):
    """Compresses pages and JSON; files that are handed out whole (snapshots) go as they are.

    Compression can betray a secret to who can both choose a part of a page and watch its length (BREACH, Gluck et al.
    2013). Here the secret in every page is the CSRF token, which Django masks anew in each; Django also adds up to 100
    random bytes to what it compresses; and the session's cookie, being SameSite=Lax, is not sent with what other sites
    have a browser fetch behind its user's back.
    """

    def process_response(self, request: HttpRequest, response: HttpResponseBase) -> HttpResponseBase:
        if response.streaming:
            return response
        return super().process_response(request, response)


class HashedStorage(CompressedManifestStaticFilesStorage):
    """Static files under hashed names, with the imports of JavaScript modules rewritten to them.

    Only our own modules are rewritten: packages ship files that nothing here loads, with imports that lead nowhere.
    Django takes a pass over all files for each step of a chain of imports, and cannot hash modules that import each
    other in a circle: `collectstatic` then says "Max post-process passes exceeded".
    """

    support_js_module_import_aggregation = True
    _js_module_import_aggregation_patterns = (
        "annotation/*.js",
        CompressedManifestStaticFilesStorage._js_module_import_aggregation_patterns[1],
    )
    max_post_process_passes = 20


def require_collected_files() -> None:
    """Raise ImproperlyConfigured where hashed files are to be served and are not there, or are of another version."""
    if not settings.STATIC_HASHED:
        return
    root = Path(settings.STATIC_ROOT)
    if not (root / HashedStorage.manifest_name).is_file():
        said = f"STATIC_HASHED=yes, but {root} holds no collected static files."
    elif changed := _changed_files(root):
        said = f"STATIC_HASHED=yes, but {root} holds other static files than this version has, such as {changed[0]}."
    else:
        return
    raise ImproperlyConfigured(f"{said} Run `manage.py collectstatic --noinput` with STATIC_HASHED=yes.")


def _changed_files(root: Path) -> list[str]:
    """The static files of this version whose copy in `root` is missing or differs."""
    return [
        path
        for finder in get_finders()
        for path, storage in finder.list([])
        if not (root / path).is_file() or not filecmp.cmp(storage.path(path), root / path, shallow=False)
    ]
