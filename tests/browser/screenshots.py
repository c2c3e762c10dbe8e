"""Makes the screenshots of docs/screenshots from a running server, the demonstration's for instance:

    python tests/browser/screenshots.py --url http://localhost:8000 --password "$(cat var/demo_password)"

Ranking is shot as an annotator in --rank-project, the rest as an engineer in --project. With --all it shoots every
page in light and dark, on a desk and on a phone, in English and in Chinese, into --out, for looking at.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import Browser, Page, sync_playwright

sys.path.insert(0, str(Path(__file__).resolve().parent))
from chromium import launch_chromium

SIZES = {"light": (1440, 900), "dark": (1440, 900), "phone": (390, 844), "phone-dark": (390, 844)}
LANGUAGES = ["en", "zh-hans"]


def main() -> None:
    """Shoot the four pages of the README, or all of them."""
    options = read_options()
    options.out.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright:
        browser = launch_chromium(playwright)
        modes = [(mode, language) for mode in SIZES for language in LANGUAGES] if options.all else [("light", "en")]
        for mode, language in modes:
            name = mode if language == "en" else f"{mode}-{language}"
            with signed_in(browser, options, user=options.annotator, mode=mode, language=language) as page:
                shoot_ranking(page, options, mode=name)
            with signed_in(browser, options, user=options.engineer, mode=mode, language=language) as page:
                shoot_pages(page, options, mode=name)
        browser.close()


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="http://localhost:8000")
    parser.add_argument("--password", required=True)
    parser.add_argument("--annotator", default="ann")
    parser.add_argument("--engineer", default="eva")
    parser.add_argument("--project", default="simulated")
    parser.add_argument("--rank-project", default="assistant")
    parser.add_argument("--run", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("docs/screenshots"))
    parser.add_argument("--all", action="store_true")
    return parser.parse_args()


@contextmanager
def signed_in(browser: Browser, options: argparse.Namespace, *, user: str, mode: str, language: str) -> Iterator[Page]:
    width, height = SIZES[mode]
    context = browser.new_context(
        viewport={"width": width, "height": height},
        color_scheme="dark" if mode.endswith("dark") else "light",
        has_touch=mode.startswith("phone"),
    )
    context.add_cookies([{"name": "django_language", "value": language, "url": options.url}])
    page = context.new_page()
    page.on("console", lambda message: print(f"[{user} {mode}] {message.text}"))
    page.goto(f"{options.url}/login/")
    if options.all:
        save(page, options, name="login", mode=mode if language == "en" else f"{mode}-{language}")
    page.fill("[name=username]", user)
    page.fill("[name=password]", options.password)
    page.click("main button")
    yield page
    context.close()


def shoot_ranking(page: Page, options: argparse.Namespace, *, mode: str) -> None:
    """A slate half ranked: a tie at the top, one below, one not yet placed."""
    page.goto(f"{options.url}/projects/{options.rank_project}/rank/")
    pass_gate(page)
    page.wait_for_selector("#tierbar .chip")
    for key in ["0", "ArrowRight"] * 4 + ["1", "ArrowRight", "=", "2"]:
        page.keyboard.press(key)
    save(page, options, name="ranking", mode=mode)


def pass_gate(page: Page) -> None:
    """Read the guidelines and do the practice round, until a slate is on screen."""
    while page.locator("#ranking:not([data-practising])").count() == 0:
        if page.locator("#ranking").count() == 0:
            page.locator("main .primary").first.click()
            page.wait_for_load_state()
            continue
        page.wait_for_selector("#tierbar .chip")
        for _response in page.locator(".response").all():
            page.keyboard.press("1")
        page.keyboard.press("Control+Enter")
        page.wait_for_url("**/result/")


def shoot_pages(page: Page, options: argparse.Namespace, *, mode: str) -> None:
    base = f"{options.url}/projects/{options.project}"
    pages = {
        "project": f"{base}/",
        "snapshot": f"{base}/snapshots/1/",
        "run": f"{base}/runs/{options.run}/",
    }
    if options.all:
        names = ["data", "snapshots", "runs", "models", "guidelines", "runs/new"]
        pages |= {name.replace("/", "-"): f"{base}/{name}/" for name in names}
        pages["projects"] = f"{options.url}/"
    for name, address in pages.items():
        page.goto(address)
        page.wait_for_timeout(600)
        save(page, options, name=name, mode=mode)
    if options.all:
        page.goto(f"{base}/data/")
        if page.locator("td a").count():
            page.locator("td a").first.click()
            save(page, options, name="prompt", mode=mode)


def save(page: Page, options: argparse.Namespace, *, name: str, mode: str) -> None:
    name = re.sub(r"[^a-z-]", "", name)
    path = options.out / (f"{name}-{mode}.png" if options.all else f"{name}.png")
    page.screenshot(path=path)
    print(f"{path} {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main()
