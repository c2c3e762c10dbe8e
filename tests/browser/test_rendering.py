"""Rendered text in a real browser: the server counts its characters as the browser does; KaTeX comes when needed."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from playwright.sync_api import Page, expect

from annotation.domain.assigning import claim_slot
from annotation.domain.guidelines import mark_read
from annotation.models import Membership
from annotation.rendering import render_many
from tests.annotation.factories import make_member, make_project
from tests.browser.slates import make_slate_of
from tests.xss_corpus import PAYLOADS

OpenPage = Callable[..., Page]
RICH = """# Heading & <more>

Two\u00a0spaces  here,\ttab, `code  with   spaces`, &amp;lt; and $x < y$
second line

- one
  1. two

```python
\n\n    indented = "x"   # \u202e

```

| a | b |
|---|--:|
| \u00a0 | `|` |

> quoted \\[ \\frac{1}{2} \\]

    \n    indented code

\U0001d54f 👩\u200d🔬 e\u0301 نعم\r\nend"""
FIXTURES = [
    *(text for _name, text in PAYLOADS),
    RICH,
    "\n\n  leading and trailing \n\n",
    "```\n\nfirst line empty\n```",
    "a" * 70_000 + "\n <plain> & \u202e\r\nkept\n",
    "\n" + "b" * 70_000,
    "",
]


def test_the_server_counts_what_the_browser_shows(open_page: OpenPage) -> None:
    """textContent, character by character, whether the page was parsed whole or a piece was put into it."""
    page = open_page(make_member(make_project()).user)
    page.goto("/")
    rendered = render_many(FIXTURES)
    seen = page.evaluate(
        """pieces => pieces.map((html) => {
             const whole = new DOMParser().parseFromString(`<!doctype html><div class="md">${html}</div>`, "text/html");
             const piece = document.createElement("div");
             piece.innerHTML = html;
             return [whole.querySelector(".md").textContent, piece.textContent];
           })""",
        [str(one.html) for one in rendered],
    )
    assert seen == [[one.text, one.text] for one in rendered]


@pytest.fixture
def annotator() -> Membership:
    member = make_member(make_project(slug="browser", slate_size=2), name="ann")
    mark_read(member, version=1)
    return member


def test_formulas_and_copy_buttons_change_nothing_of_what_is_counted(
    open_page: OpenPage, annotator: Membership
) -> None:
    slate = make_slate_of(annotator.project, texts=[RICH, "$$a^2$$\n\n```js\nx\n```\n\nand \\(b\\)"])
    claim_slot(annotator)
    page = open_page(annotator.user)
    page.goto("/projects/browser/rank/")
    expect(page.locator(".response .math.typeset .katex")).to_have_count(4)
    expect(page.locator(".response .code-box .copy")).to_have_count(3)
    counted = page.evaluate(
        """async () => {
             const { textOf } = await import("/static/annotation/ranking/text.js");
             return [...document.querySelectorAll(".response .md")].map(textOf);
           }"""
    )
    texts = [response.text for response in slate.responses.all()]
    assert sorted(counted) == sorted(one.text for one in render_many(texts))


def test_a_code_block_is_copied_as_it_is_shown(open_page: OpenPage, annotator: Membership) -> None:
    make_slate_of(annotator.project, texts=["```python\ndef f():\n    pass\n```", "plain"])
    claim_slot(annotator)
    page = open_page(annotator.user, permissions=["clipboard-read", "clipboard-write"])
    page.goto("/projects/browser/rank/")
    page.get_by_role("button", name="Copy", exact=True).click()
    expect(page.locator(".copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == "def f():\n    pass"


def test_a_page_without_formulas_loads_nothing_for_them(open_page: OpenPage, annotator: Membership) -> None:
    make_slate_of(annotator.project, texts=["It costs $5 and $10.", "**No** formula."])
    claim_slot(annotator)
    page = open_page(annotator.user)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto("/projects/browser/rank/")
    expect(page.locator(".response.current")).to_have_count(1)
    page.wait_for_load_state("networkidle")
    assert [url for url in asked if "katex" in url or url.endswith("math.js")] == []
