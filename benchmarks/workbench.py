"""Measures the ranking page in a real browser: how soon the next slate is painted, what travels, how many keys.

    .venv/bin/python benchmarks/workbench.py [--check] [--slates 200] [--json]

Starts its own server (SQLite, hashed static files, two blocking threads) on a new data directory with one project of
slates of four responses of 300 words, and drives Chromium through it by keyboard. With --check it exits with 1 where a
goal is missed. A laptop that does nothing else gives steadier figures; none of them is a timed test.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import secrets
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import urlopen

from playwright.sync_api import Browser, Page, sync_playwright

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
from tests.browser.chromium import launch_chromium  # noqa: E402 (the path is set above)

WORDS = re.findall(
    r"\w+",
    "model answer because when water light simple reason people would number first second under example matter should "
    "three small large before after between change result explain slowly clear heat time part another question place",
)
RESPONSES, WORDS_A_RESPONSE, KEYBOARD_SLATES = 4, 300, 50
GOALS = {
    "submit_to_painted_median_ms": 100,
    "submit_to_painted_p95_ms": 200,
    "first_visit_kb": 120,
    "later_visit_kb": 30,
    "key_presses_a_response": 1.5,
    "layout_shift": 0,
    "largest_paint_ms": 1000,
}
WATCH = """
window.painted = [];
addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !event.ctrlKey) return;
  const [pressed, holder, before] = [event.timeStamp, document.getElementById("slate"), token()];
  const watch = new MutationObserver(() => {
    if (token() === before) return;
    watch.disconnect();
    requestAnimationFrame(() => setTimeout(() => window.painted.push(performance.now() - pressed)));
  });
  watch.observe(holder, { childList: true, subtree: true });
}, { capture: true });
function token() { return document.querySelector("#ranking [name=token]")?.value; }
"""
PAINTS = """
() => new Promise((resolve) => {
  let [shift, largest] = [0, 0];
  new PerformanceObserver((list) => list.getEntries().forEach((entry) => {
    if (!entry.hadRecentInput) shift += entry.value;
  })).observe({ type: "layout-shift", buffered: true });
  new PerformanceObserver((list) => list.getEntries().forEach((entry) => { largest = entry.startTime; }))
    .observe({ type: "largest-contentful-paint", buffered: true });
  setTimeout(() => resolve({ shift, largest }), 1000);
})
"""


def main() -> int:
    """Measure, print a table, and say whether the goals are met."""
    options = read_options()
    with (
        tempfile.TemporaryDirectory() as directory,
        serving(Path(directory), slates=options.slates) as (url, password),
        sync_playwright() as playwright,
    ):
        browser = launch_chromium(playwright)
        figures = {"slates": options.slates} | measure(browser, url=url, password=password, slates=options.slates)
        browser.close()
    missed = [name for name, goal in GOALS.items() if figures[name] > goal]
    if options.json:
        print(json.dumps(figures))
    else:
        print_table(figures)
    if missed and options.check:
        print(f"Goals missed: {', '.join(missed)}", file=sys.stderr)
        return 1
    return 0


def read_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="exit with 1 where a goal is missed")
    parser.add_argument("--slates", type=int, default=200, help="submissions that are timed")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(browser: Browser, *, url: str, password: str, slates: int) -> dict[str, Any]:
    """All figures, each from the page as an annotator uses it."""
    context = browser.new_context(base_url=url, viewport={"width": 1440, "height": 900})
    page = context.new_page()
    page.goto("/login/")
    page.fill("[name=username]", "ann")
    page.fill("[name=password]", password)
    page.click("main button")
    page.goto("/projects/bench/rank/")
    page.click("main button.primary")
    page.wait_for_selector("#tierbar .chip")
    figures = measure_transfer(page) | measure_paints(page)
    page.evaluate(WATCH)
    rng, keys = random.Random(0), 0
    for number in range(slates):
        pressed = rank_by_keyboard(page, rng=rng, done=number)
        keys += pressed if number < KEYBOARD_SLATES else 0
    times = sorted(page.evaluate("window.painted"))
    ranked = min(slates, KEYBOARD_SLATES)
    return figures | {
        "submit_to_painted_median_ms": round(statistics.median(times), 1),
        "submit_to_painted_p95_ms": round(times[int(0.95 * (len(times) - 1))], 1),
        "submit_to_painted_max_ms": round(times[-1], 1),
        "key_presses_a_response": round(keys / (ranked * RESPONSES), 3),
    }


def rank_by_keyboard(page: Page, *, rng: random.Random, done: int) -> int:
    """Rank the slate on screen in an order drawn by `rng`, with ties; return how many keys were pressed.

    Ctrl+Enter counts as two. A short wait stands for reading: the slate after this one is fetched meanwhile.
    """
    page.wait_for_timeout(150)
    tiers = [rng.randint(1, RESPONSES) for _response in range(RESPONSES)]
    for tier in tiers:
        page.keyboard.press(str(tier))
    page.keyboard.press("Control+Enter")
    page.wait_for_function("(done) => window.painted.length > done", arg=done)
    return len(tiers) + 2


def measure_transfer(page: Page) -> dict[str, float]:
    """Compressed kilobytes of the ranking page with an empty cache and again with a full one, fonts left out."""
    client = page.context.new_cdp_session(page)
    client.send("Network.enable")
    received: dict[str, float] = {}
    kinds: dict[str, str] = {}
    client.on("Network.responseReceived", lambda event: kinds.update({event["requestId"]: event["type"]}))
    client.on(
        "Network.loadingFinished", lambda event: received.update({event["requestId"]: event["encodedDataLength"]})
    )

    def visit() -> float:
        received.clear()
        page.reload(wait_until="networkidle")
        return round(sum(size for key, size in received.items() if kinds.get(key) != "Font") / 1000, 1)

    client.send("Network.clearBrowserCache")
    return {"first_visit_kb": visit(), "later_visit_kb": visit()}


def measure_paints(page: Page) -> dict[str, float]:
    """Cumulative layout shift of the page as it loads, and when its largest part was painted."""
    page.reload(wait_until="load")
    paints = page.evaluate(PAINTS)
    return {"layout_shift": round(paints["shift"], 4), "largest_paint_ms": round(paints["largest"])}


@contextmanager
def serving(directory: Path, *, slates: int) -> Iterator[tuple[str, str]]:
    """A server with the project in it; gives its address and the annotator's password."""
    password, port = secrets.token_urlsafe(9), free_port()
    environment = os.environ | {"DATA_DIR": str(directory), "STATIC_HASHED": "yes", "BENCH_PASSWORD": password}
    environment.pop("DATABASE_URL", None)
    for arguments in (["migrate", "-v", "0"], ["collectstatic", "--noinput", "-v", "0"]):
        subprocess.run([sys.executable, "manage.py", *arguments], cwd=ROOT, env=environment, check=True)
    rows = directory / "rows.jsonl"
    rows.write_text("\n".join(json.dumps(row) for row in make_rows(slates + 10)) + "\n", encoding="utf-8")
    import_rows = ["import_data", "--project", "bench", "--create", str(rows)]
    subprocess.run([sys.executable, "manage.py", *import_rows], cwd=ROOT, env=environment, check=True)
    subprocess.run([sys.executable, "manage.py", "shell", "-c", ADD_ANNOTATOR], cwd=ROOT, env=environment, check=True)
    address = ["--interface", "wsgi", "--host", "127.0.0.1", "--port", str(port), "--log-level", "warning"]
    command = [sys.executable, "-m", "granian", *address, "--workers", "1", "--blocking-threads", "2"]
    server = subprocess.Popen([*command, "config.wsgi:application"], cwd=ROOT, env=environment)
    try:
        wait_for(f"http://127.0.0.1:{port}/login/")
        yield f"http://127.0.0.1:{port}", password
    finally:
        server.terminate()
        server.wait(timeout=30)


ADD_ANNOTATOR = """
import os
from django.contrib.auth.models import User
from annotation.domain.projects import set_member
from annotation.models import Project
user = User.objects.create_user("ann", password=os.environ["BENCH_PASSWORD"])
set_member(Project.objects.get(slug="bench"), user=user, role="annotator")
"""


def make_rows(count: int) -> list[dict[str, Any]]:
    """Prompts with four responses of 300 words in paragraphs, drawn by a fixed seed."""
    rng = random.Random(0)
    return [
        {
            "id": f"q{number}",
            "prompt": f"Question {number}: " + " ".join(rng.choices(WORDS, k=30)),
            "responses": [
                "\n\n".join(" ".join(rng.choices(WORDS, k=60)) + "." for _part in range(WORDS_A_RESPONSE // 60))
                for _response in range(RESPONSES)
            ],
        }
        for number in range(count)
    ]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for(address: str) -> None:
    for _attempt in range(200):
        try:
            urlopen(address, timeout=2).close()
            return
        except (URLError, ConnectionError, TimeoutError):
            time.sleep(0.1)
    raise SystemExit(f"The server does not answer at {address}.")


def print_table(figures: dict[str, Any]) -> None:
    print(f"| figure ({figures['slates']} slates of {RESPONSES} × {WORDS_A_RESPONSE} words) | measured | goal |")
    print("| --- | ---: | ---: |")
    for name, value in figures.items():
        if name != "slates":
            print(f"| {name} | {value} | {GOALS.get(name, '–')} |")


if __name__ == "__main__":
    sys.exit(main())
