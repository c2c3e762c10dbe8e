"""Each kind of task in a real browser: by keyboard, without JavaScript, and nothing for axe to find."""

from __future__ import annotations

from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from annotation.models import Ranking
from tests.browser.slates import (
    SCALES,
    OpenPage,
    bar,
    canonical_texts,
    current,
    in_texts,
    make_annotator,
    make_slate_of,
    on_screen,
    press,
    start,
    stored,
    submit,
    texts_of,
)

AXE = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
COLOURS = {"runOnly": ["color-contrast"]}
PAIR = {"size": 2, "task": "pairwise"}
FORCED = {"size": 2, "task": "pairwise-forced"}
KINDS: dict[str, dict[str, Any]] = {
    "ranking": {"rationale": "required", "rationale_min": 5},
    "ranking of nine": {"size": 9},
    "pairwise": PAIR,
    "forced choice": FORCED,
    "best": {"task": "best", "corrections": "best"},
    "best and worst": {"task": "best-worst"},
    "ratings": {"size": 3, "task": "rating", "scales": SCALES, "rationale": "none"},
    "ranking and ratings": {"size": 3, "scales": SCALES},
}


def choose(page: Page, name: str, value: str) -> None:
    """Press a radio, or what is seen of it where it is not itself to be seen."""
    radio = page.locator(f"[name={name}][value='{value}']")
    (radio.locator("+ span") if name.startswith("rating") else radio).click()


def strength_on_screen(ranking: Ranking, texts: list[str]) -> int | None:
    """The stored strength, turned to the screen: negative where what stood on the left is better."""
    if ranking.strength is None:
        return None
    return ranking.strength if canonical_texts(ranking) == texts else -ranking.strength


@pytest.mark.parametrize(
    ("asked", "key", "strength", "tiers"),
    [
        (PAIR, "1", -3, [[0], [1]]),
        (PAIR, "3", -1, [[0], [1]]),
        (PAIR, "4", 0, [[0, 1]]),
        (PAIR, "7", 3, [[1], [0]]),
        (FORCED, "1", -3, [[0], [1]]),
        (FORCED, "4", 0, [[0], [1]]),
        (FORCED, "5", 0, [[1], [0]]),
        (FORCED, "8", 3, [[1], [0]]),
    ],
)
def test_one_key_compares_two(
    open_page: OpenPage, asked: dict[str, Any], key: str, strength: int, tiers: list[list[int]]
) -> None:
    page = start(open_page, make_annotator(**asked))
    _token, texts = on_screen(page)
    expect(page.locator("#strip input:checked")).to_have_count(0)
    press(page, "5", "0", key)
    label = page.locator("#strip input:checked").get_attribute("data-label")
    expect(page.locator("#announcer")).to_have_text(label or "nothing")
    ranking = stored(submit(page))
    assert strength_on_screen(ranking, texts) == strength
    assert texts_of(ranking) == [{texts[position] for position in tier} for tier in tiers]


def test_a_pair_needs_an_answer_and_its_strip_takes_the_arrows_and_the_mouse(open_page: OpenPage) -> None:
    page = start(open_page, make_annotator(**PAIR))
    press(page, "9")
    expect(page.locator("#note")).to_have_text("There are 7 points.")
    press(page, "Control+Enter")
    expect(page.locator("#problems")).to_have_text("Say which response is better, and by how much.")
    page.locator("#strip label").nth(1).click()
    press(page, "ArrowRight")
    expect(page.locator("#strip input:checked")).to_have_attribute("value", "-1")
    assert current(page) == "A"
    token, texts = on_screen(page)
    submit(page)
    assert texts_of(stored(token)) == [{texts[0]}, {texts[1]}]


def test_best_of_all_takes_one_digit(open_page: OpenPage) -> None:
    page = start(open_page, make_annotator(task="best"))
    _token, texts = on_screen(page)
    press(page, "Control+Enter")
    expect(page.locator("#problems")).to_have_text("Choose the best response.")
    press(page, "4", "0", "2")
    assert bar(page) == "best B the rest A C D"
    assert current(page) == "B"
    expect(page.locator("#announcer")).to_have_text("Response B is the best.")
    assert texts_of(stored(submit(page))) == [{texts[1]}, {texts[0], texts[2], texts[3]}]


def test_best_and_worst_take_two_digits(open_page: OpenPage) -> None:
    page = start(open_page, make_annotator(task="best-worst"))
    _token, texts = on_screen(page)
    press(page, "3", "3")
    expect(page.locator("#note")).to_have_text("Response C is the best already; choose another as the worst.")
    press(page, "1", "2")
    expect(page.locator("#note")).to_have_text("Best and worst are chosen; 0 takes them back.")
    assert bar(page) == "best C worst A the rest B D"
    page.locator("#tierbar .chip", has_text="A").drag_to(page.locator("#tierbar .zone[data-tier='best']"))
    assert bar(page) == "best A worst the rest B C D"
    press(page, "4")
    assert texts_of(stored(submit(page))) == [{texts[0]}, {texts[1], texts[2]}, {texts[3]}]


def test_ratings_go_scale_by_scale_and_response_by_response(open_page: OpenPage) -> None:
    """Two scales, 0 to 4 and 1 to 3, of three responses: six digits."""
    page = start(open_page, make_annotator(size=3, task="rating", scales=SCALES))
    _token, texts = on_screen(page)
    focused = page.locator(":focus")
    expect(focused).to_have_attribute("name", "rating_0_0")
    press(page, "4")
    expect(page.locator("#announcer")).to_have_text("Response A, helpfulness: 4, perfect Now response A, correctness.")
    press(page, "4")
    expect(page.locator("#note")).to_have_text("correctness goes from 1 to 3.")
    press(page, "3", "0")
    assert current(page) == "B"
    press(page, "Control+Enter")
    expect(page.locator("#problems p")).to_have_text(
        ["helpfulness: not rated for C.", "correctness: not rated for B, C."]
    )
    expect(focused).to_have_attribute("name", "rating_1_1")
    press(page, "1", "2", "2")
    expect(page.locator("#scales .zone").first).to_contain_text("3/3")
    press(page, "Shift+ArrowUp")
    ranking = stored(submit(page))
    assert ranking.tiers == []
    assert ranking.ratings is not None
    assert in_texts(ranking, ranking.ratings["helpfulness"]) == {texts[0]: 4, texts[1]: 0, texts[2]: 2}
    assert in_texts(ranking, ranking.ratings["correctness"]) == {texts[0]: 3, texts[1]: 1, texts[2]: 3}


def test_scales_beside_a_ranking_come_after_the_placing(open_page: OpenPage) -> None:
    """Digits place while anything is not placed, then rate; r goes to the scales by hand, Escape leaves them."""
    page = start(open_page, make_annotator(size=3, scales=SCALES))
    _token, texts = on_screen(page)
    press(page, "r", "2", "Escape")
    expect(page.locator(":focus")).to_have_attribute("name", "tier_0")
    press(page, "1", "2", "1")
    expect(page.locator(":focus")).to_have_attribute("name", "rating_1_0")
    press(page, "1")
    expect(page.locator(":focus")).to_have_attribute("name", "rating_0_1")
    press(page, "3", "3", "4", "2")
    assert bar(page) == "1 A = C 2 B 3 not placed"
    ranking = stored(submit(page))
    assert texts_of(ranking) == [{texts[0], texts[2]}, {texts[1]}]
    assert ranking.ratings is not None
    assert in_texts(ranking, ranking.ratings["helpfulness"]) == {texts[0]: 2, texts[1]: 3, texts[2]: 4}
    assert in_texts(ranking, ranking.ratings["correctness"]) == {texts[0]: 1, texts[1]: 3, texts[2]: 2}


def test_scales_beside_a_pair_take_digits_only_while_they_have_the_focus(open_page: OpenPage) -> None:
    page = start(open_page, make_annotator(size=2, task="pairwise", scales=SCALES[1:]))
    press(page, "6")
    expect(page.locator(":focus")).to_have_attribute("name", "rating_0_0")
    press(page, "1", "2")
    expect(page.locator("#strip input:checked")).to_have_attribute("value", "2")
    press(page, "Escape", "2")
    expect(page.locator("#strip input:checked")).to_have_attribute("value", "-2")
    ranking = stored(submit(page))
    assert ranking.ratings is not None
    assert sorted(ranking.ratings["correctness"].values()) == [1, 2]


def test_all_bad_asks_for_no_order_and_a_reason_has_its_least_length(open_page: OpenPage) -> None:
    page = start(open_page, make_annotator(rationale="required", rationale_min=5))
    press(page, "x", "Control+Enter")
    expect(page.locator("#problems")).to_have_text("Give a reason of at least 5 characters.")
    page.locator("[name=rationale]").fill("None answers.")
    ranking = stored(submit(page))
    assert (ranking.all_bad, ranking.tiers, ranking.rationale) == (True, [], "None answers.")


def test_without_javascript_each_kind_is_a_form(open_page: OpenPage) -> None:
    annotator = make_annotator(slates=1, size=2, task="pairwise", scales=SCALES)
    page = start(open_page, annotator, java_script_enabled=False)
    token, texts = on_screen(page)
    choose(page, "strength", "-2")
    for position in (0, 1):
        choose(page, f"rating_0_{position}", str(position))
        choose(page, f"rating_1_{position}", "3")
    page.locator(".response[data-letter=B] .flags summary").click()
    page.locator("[name=flag_1][value=unsafe]").check()
    page.locator(".response[data-letter=B] .flags summary").click()
    page.locator(".response[data-letter=A] .correction summary").click()
    page.locator("[name=correction_0]").fill("Better, in *Markdown*.")
    page.locator("#submit").click()
    expect(page.locator("main")).to_contain_text("Nothing is left for you to rank.")
    ranking = stored(token)
    assert strength_on_screen(ranking, texts) == -2
    assert ranking.ratings is not None
    assert in_texts(ranking, ranking.ratings["helpfulness"]) == {texts[0]: 0, texts[1]: 1}
    assert in_texts(ranking, ranking.flags) == {texts[1]: ["unsafe"]}
    assert in_texts(ranking, ranking.corrections) == {texts[0]: "Better, in *Markdown*."}


@pytest.mark.parametrize(
    ("asked", "fields", "tiers"),
    [
        (FORCED, {"strength": "b0"}, [[1], [0]]),
        ({"task": "best"}, {"best": "2"}, [[2], [0, 1, 3]]),
        ({"task": "best-worst"}, {"best": "2", "worst": "0"}, [[2], [1, 3], [0]]),
        ({"size": 2, "task": "rating", "scales": SCALES[1:]}, {"rating_0_0": "1", "rating_0_1": "3"}, []),
    ],
)
def test_the_plain_form_says_the_same(
    open_page: OpenPage, asked: dict[str, Any], fields: dict[str, str], tiers: list[list[int]]
) -> None:
    page = start(open_page, make_annotator(slates=1, **asked), java_script_enabled=False)
    token, texts = on_screen(page)
    page.locator("#submit").click()
    expect(page.locator("#problems p").first).to_be_visible()
    for name, value in fields.items():
        choose(page, name, value)
    page.locator("#submit").click()
    expect(page.locator("main")).to_contain_text("Nothing is left for you to rank.")
    assert texts_of(stored(token)) == [{texts[position] for position in tier} for tier in tiers]


@pytest.mark.parametrize("kind", KINDS)
def test_axe_finds_nothing_wrong_with_any_kind(open_page: OpenPage, kind: str) -> None:
    """In light and in dark, where the colours are the only difference."""
    annotator = make_annotator(slates=0, **KINDS[kind])
    long = "A **long** one.\n\n| a | b |\n|--|--|\n| 1 | 2 |\n\n```python\nprint(1)\n```\n\n" * 8
    texts = [long, *(f"Answer {number}." for number in range(1, KINDS[kind].get("size", 4)))]
    make_slate_of(annotator.project, texts=texts, prompt="What is $x^2$?\n\n" * 9)
    page = start(open_page, annotator)

    def problems() -> list[Any]:
        found = Axe().run(page, options=AXE).response["violations"]
        page.emulate_media(color_scheme="dark")
        found += Axe().run(page, options=COLOURS).response["violations"]
        page.emulate_media(color_scheme="light")
        return [(one["id"], [node["html"][:140] for node in one["nodes"]][:3]) for one in found]

    assert problems() == []
    press(page, "1", "f", "1")
    assert problems() == []
    press(page, "Escape", "0", "Control+Enter")
    expect(page.locator("#problems")).to_be_visible()
    press(page, "m")
    assert problems() == []
    for key in "?ec":
        press(page, "Escape", key)
        page.wait_for_timeout(300)
        assert problems() == [], key


@pytest.mark.parametrize("kind", [kind for kind in KINDS if KINDS[kind].get("size", 4) <= 4])
def test_a_phone_takes_any_kind_by_tapping(open_page: OpenPage, kind: str) -> None:
    asked = KINDS[kind] | {"rationale": "optional"}
    page = start(open_page, make_annotator(**asked), viewport={"width": 390, "height": 844}, has_touch=True)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    boxes = [box.bounding_box() for box in page.locator(".response").all()]
    assert {round(box["width"]) for box in boxes if box} == {390}
    if asked.get("size", 4) == 2:
        page.locator("#strip label").first.tap()
    for article in page.locator(".response").all():
        article.scroll_into_view_if_needed()
        letter = article.get_attribute("data-letter")
        expect(page.locator(".response.current")).to_have_attribute("data-letter", letter or "")
        if article.locator(".tiers").count():
            which = 1 if kind == "best and worst" and letter == "B" else 0
            if letter in ("A", "B") or "ranking" in kind:
                article.locator(".tiers label").nth(which).tap()
        for scale in article.locator(".scale").all():
            scale.locator(".point").nth(1).tap()
    small = page.evaluate(
        """() => [...document.querySelectorAll("button, summary, .tiers label, .point, .strip label")]
          .filter((one) => one.checkVisibility() && !one.closest("dialog"))
          .map((one) => [one.outerHTML.slice(0, 90), one.getBoundingClientRect()])
          .filter(([, box]) => box.width < 24 || box.height < 24).map(([html]) => html)"""
    )
    assert small == []
    token, _texts = on_screen(page)
    page.locator("#submit").tap()
    expect(page.locator(f"#ranking [name=token][value='{token}']")).to_have_count(0)
    assert stored(token).task == asked.get("task", "ranking")
