"""How responses are read in a real browser: rendered, whole, beside each other; nothing moves under the reader."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, expect

from annotation.models import Membership
from tests.browser.slates import OpenPage, current, make_annotator, make_slate_of, press, start, submit

RICH = """# Packing

A **short** list with `code`, a formula $E = mc^2$ and a table:

| item | weight |
|:--|--:|
| jacket | 340 g |

```python
def total(items):
    return sum(items)
```

$$ \\frac{a}{b} $$
"""
ARABIC = "هذه قائمة قصيرة لرحلة يوم واحد:\n\n- سترة مطر\n- ماء\n- خريطة"
CHINESE = "春天到山里走一天，带这些就够了：雨衣、两升水、地图。早点出发，并告诉别人你去哪里。"
LONG = "\n\n".join(f"Paragraph {number} of a very long response. " + "Word by word. " * 30 for number in range(100))


@pytest.fixture
def annotator() -> Membership:
    return make_annotator(slates=0)


def letter_of(page: Page, text: str) -> str:
    """The letter of the response that holds this text."""
    return page.locator(".response", has_text=text).first.get_attribute("data-letter") or ""


def go_to(page: Page, letter: str) -> None:
    while current(page) != letter:
        press(page, "ArrowRight")


def test_markdown_code_and_formulas_are_rendered_and_code_is_copied(open_page: OpenPage, annotator: Membership) -> None:
    make_slate_of(annotator.project, texts=[RICH, ARABIC, CHINESE, "Plain."], prompt="What is $x^2$?")
    page = start(open_page, annotator, permissions=["clipboard-read", "clipboard-write"])
    rich = page.locator(".response", has_text="Packing")
    expect(rich.locator("strong")).to_have_text("short")
    expect(rich.locator("td").first).to_have_text("jacket")
    expect(rich.locator(".math .katex")).to_have_count(2)
    expect(page.locator(".prompt .math .katex")).to_have_count(1)
    expect(rich.locator("pre.code span").first).to_be_visible()
    rich.locator(".reader").click(position={"x": 5, "y": 5})
    rich.locator("pre.code").hover()
    rich.get_by_role("button", name="Copy", exact=True).click()
    assert page.evaluate("navigator.clipboard.readText()") == "def total(items):\n    return sum(items)"
    direction = "(one) => getComputedStyle(one).direction"
    assert page.locator(".reader > .md li", has_text="سترة").evaluate(direction) == "rtl"
    assert page.locator(".reader > .md p", has_text="雨衣").evaluate(direction) == "ltr"


def test_without_formulas_and_code_nothing_is_loaded_for_them(open_page: OpenPage, annotator: Membership) -> None:
    make_slate_of(annotator.project, texts=["One.", "Two.", "**Three**.", "Four."])
    page = start(open_page, annotator)
    loaded: list[str] = []
    page.on("request", lambda request: loaded.append(request.url))
    page.reload()
    page.wait_for_load_state("networkidle")
    assert [url for url in loaded if "katex" in url or "math.js" in url or "jsdiff" in url] == []
    assert {url.split("/")[2] for url in loaded} == {page.url.split("/")[2]}


def test_the_end_of_a_very_long_response_is_reached_by_keys(open_page: OpenPage, annotator: Membership) -> None:
    make_slate_of(annotator.project, texts=[LONG, "A short one.", "Another.", "A third."])
    page = start(open_page, annotator)
    go_to(page, letter_of(page, "Paragraph 0 "))
    last = page.locator(".response.current .md p").last
    expect(last).not_to_be_in_viewport()
    for _step in range(400):
        press(page, "ArrowDown")
        if last.evaluate(
            "(one) => one.getBoundingClientRect().bottom <= one.closest('.reader').getBoundingClientRect().bottom"
        ):
            break
    expect(last).to_be_in_viewport()
    expect(page.locator(".prompt.folded")).to_have_count(1)
    press(page, "p")
    expect(page.locator(".prompt.folded")).to_have_count(0)


def test_a_text_too_heavy_to_render_is_plain_and_says_so(open_page: OpenPage, annotator: Membership) -> None:
    heavy = "**heavy** " * 8000
    make_slate_of(annotator.project, texts=[heavy, "Light.", "Lighter.", "Lightest."])
    page = start(open_page, annotator)
    article = page.locator(".response", has_text="heavy")
    expect(article.locator(".plain-note")).to_have_text("Shown as plain text: it is too heavy to render.")
    expect(article.locator(".md")).to_contain_text("**heavy** **heavy**")
    expect(page.locator(".plain-note")).to_have_count(1)


def test_up_to_three_stand_in_equal_columns_and_four_in_a_grid(open_page: OpenPage, annotator: Membership) -> None:
    make_slate_of(annotator.project, texts=[LONG, "Short.", RICH])
    make_slate_of(annotator.project, texts=[LONG, "Short.", RICH, CHINESE])
    page = start(open_page, annotator)

    def boxes() -> list[tuple[int, int, int]]:
        found = [one.bounding_box() for one in page.locator(".response").all()]
        return [(round(box["x"]), round(box["y"]), round(box["width"])) for box in found if box]

    for columns in (3, 2):
        places = boxes()
        assert len({x for x, _y, _width in places}) == columns
        assert len({y for _x, y, _width in places}) == (1 if columns == 3 else 2)
        widths = [width for _x, _y, width in places]
        assert max(widths) - min(widths) <= 1
        press(page, *"1234"[: len(places)])
        if columns == 3:
            submit(page)


def test_two_are_compared_word_by_word(open_page: OpenPage, annotator: Membership) -> None:
    texts = [
        "Take a **map** and two litres of water. Energy is $E = mc^2$.",
        "Take a **map** and one litre of water. Energy is $E = mc^3$.",
        "Take a **map** and two litres of water. Energy is $E = mc^2$. ",
        LONG,
    ]
    make_slate_of(annotator.project, texts=texts)
    page = start(open_page, annotator)
    expect(page.locator(".math .katex").first).to_be_visible()
    letters = {
        number: page.locator(".response", has_text=start_of).first.get_attribute("data-letter")
        for number, start_of in ((1, "one litre"), (3, "Paragraph 0 "))
    }
    go_to(page, letters[1] or "")
    press(page, "c")
    dialog = page.locator("#compare")
    for _step in range(3):
        if letters[3] not in (dialog.locator("h2").inner_text())[-1:]:
            break
        press(page, "ArrowRight")
    expect(dialog.locator("[data-told]")).to_have_text("Marked words stand on one side only.")
    left, right = dialog.locator("[data-side]").all()
    expect(left.locator("mark")).to_have_text(["one litre"])
    expect(right.locator("mark")).to_have_text(["two litres"])
    expect(left.locator(".math.marked .katex")).to_have_count(1)
    expect(left.locator("strong")).to_have_text("map")
    press(page, "1", "x", "Control+Enter")
    while not dialog.locator("h2").inner_text().endswith(letters[3] or "?"):
        press(page, "ArrowLeft")
        page.wait_for_timeout(50)
    expect(dialog.locator("[data-told]")).to_have_text("The two texts differ too much to mark the words.")
    press(page, "Escape")
    expect(dialog).to_be_hidden()
    assert current(page) == letters[1]
    expect(page.locator("#tierbar")).to_contain_text("not placed")
    expect(page.locator("mark")).to_have_count(0)
    expect(page.locator("#problems")).to_be_hidden()


def test_the_same_text_twice_is_said(open_page: OpenPage, annotator: Membership) -> None:
    make_slate_of(annotator.project, texts=["Alike.", "Alike."])
    page = start(open_page, annotator)
    page.locator(".response.current [data-act=compare]").click()
    expect(page.locator("#compare [data-told]")).to_have_text("Both say the same, word for word.")


WATCH_SHIFTS = """() => {
  window.shifts = [];
  new PerformanceObserver((list) => window.shifts.push(...list.getEntries().map((one) => one.value)))
    .observe({type: "layout-shift", buffered: true});
}"""


def test_nothing_moves_while_a_slate_comes_and_when_the_next_one_does(
    open_page: OpenPage, annotator: Membership
) -> None:
    """By the browser's own count of layout shifts, from the first paint on: none, but that formulas of the first slate
    are typeset where they stand, so that words behind them move a little.
    """
    for _number in range(3):
        make_slate_of(annotator.project, texts=[RICH, LONG, ARABIC, CHINESE])
    page = start(open_page, annotator)
    page.reload()
    page.evaluate(WATCH_SHIFTS)
    page.wait_for_load_state("networkidle")
    page.wait_for_timeout(300)
    assert page.evaluate("window.shifts.reduce((sum, one) => sum + one, 0)") < 0.001
    page.evaluate("window.shifts = []")
    frame = page.locator(".foot").bounding_box()
    press(page, "1", "2", "3", "4")
    assert page.locator(".foot").bounding_box() == frame
    submit(page)
    page.wait_for_timeout(300)
    assert page.locator(".foot").bounding_box() == frame
    assert page.evaluate("window.shifts") == []


@pytest.mark.parametrize("size", [2, 9])
def test_a_response_that_goes_on_below_says_so_until_its_end(
    open_page: OpenPage, annotator: Membership, size: int
) -> None:
    make_slate_of(annotator.project, texts=[LONG, *(f"Short {number}." for number in range(1, size))])
    page = start(open_page, annotator)
    long = page.locator(".response", has_text="Paragraph 0 ")
    expect(page.locator(".response.more")).to_have_count(1)
    expect(long).to_have_class(re.compile(r"\bmore\b"))
    long.locator(".reader").evaluate("(one) => one.scrollTo(0, one.scrollHeight)")
    expect(page.locator(".response.more")).to_have_count(0)


def test_nine_responses_have_room_under_a_long_prompt(open_page: OpenPage, annotator: Membership) -> None:
    make_slate_of(annotator.project, texts=[f"{number} {LONG}" for number in range(9)], prompt=LONG)
    page = start(open_page, annotator, viewport={"width": 1366, "height": 800})
    heights = page.locator(".reader").evaluate_all("all => all.map((one) => one.clientHeight)")
    assert min(heights) >= 4 * 26, heights
    expect(page.locator(".prompt.more")).to_have_count(1)


@pytest.mark.parametrize("size", [3, 5, 6])
def test_keys_beneath_a_response_are_never_cut(open_page: OpenPage, annotator: Membership, size: int) -> None:
    """What does not fit in the line is left out as a whole; "all keys" always fits."""
    make_slate_of(annotator.project, texts=[f"Answer {number}." for number in range(size)])
    page = start(open_page, annotator, viewport={"width": 1280, "height": 800})
    seen = page.locator(".response.current .hint").evaluate(
        """(hint) => {
          const box = hint.getBoundingClientRect();
          return [...hint.children].map((one) => [one.innerText, one.getBoundingClientRect()])
            .filter(([, at]) => at.top < box.top + 18).map(([text, at]) => [text, at.right <= box.right]);
        }"""
    )
    assert all(whole for _text, whole in seen)
    assert "? all keys" in [" ".join(text.split()) for text, _whole in seen]
    if size == 5:
        page.evaluate("document.querySelector('.responses').style.setProperty('--paper', 'red')")
        colour = "(one) => getComputedStyle(one, '::after').backgroundColor"
        assert page.locator(".responses").evaluate(colour) == "rgb(255, 0, 0)"
