"""Finds a chromium and starts it as everything here does: the system's, else Playwright's own."""

from __future__ import annotations

import shutil
from pathlib import Path

from playwright.sync_api import Browser, Error, Playwright

ARGUMENTS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
]


def launch_chromium(playwright: Playwright) -> Browser:
    """Start the browser. Raises LookupError, with what to install, where there is none."""
    system = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    own = Path(playwright.chromium.executable_path)
    if system is None and not own.exists():
        raise LookupError("No chromium: install Debian's, or run `playwright install chromium`.")
    try:
        return playwright.chromium.launch(executable_path=system or str(own), args=ARGUMENTS)
    except Error as error:
        raise LookupError(f"Chromium does not start: {error}") from error
