"""What may be said besides the order, in a real browser: flags, highlights, corrections, messages."""

from __future__ import annotations

import re

import pytest
from playwright.sync_api import Page, Route, expect

from annotation.domain.messages import answer, unread_for
from annotation.domain.projects import publish_guidelines
from annotation.models import Draft, Membership, PracticeExample, Ranking, SlateMessage
from annotation.rendering import render_markdown
from tests.annotation.factories import make_member
from tests.browser.slates import (
    OpenPage,
    current,
    in_texts,
    make_annotator,
    make_slate_of,
    on_screen,
    press,
    start,
    stored,
    submit,
)

MARKED = "Pack a 🧥 and **two litres** of water.\n\nThe energy is $E = mc^2$, as\nyou know:\n\n```\nprint(1)\n```\n"


@pytest.fixture
def annotator() -> Membership:
    return make_annotator()


def select(page: Page, first: str, last: str) -> None:
    """Select from where `first` begins to where `last` ends, as a person does with the mouse."""
    page.evaluate(
        """([first, last]) => {
          const find = (text) => {
            for (const md of document.querySelectorAll(".reader > .md")) {
              const walker = document.createTreeWalker(md, NodeFilter.SHOW_TEXT);
              for (let node; (node = walker.nextNode());) {
                if (node.data.includes(text)) return [node, node.data.indexOf(text)];
              }
            }
          };
          const [a, from] = find(first), [b, to] = find(last);
          const range = new Range();
          range.setStart(a, from);
          range.setEnd(b, to + last.length);
          getSelection().removeAllRanges();
          getSelection().addRange(range);
        }""",
        [first, last],
    )


def painted(page: Page) -> list[str]:
    return page.evaluate("[...(CSS.highlights.get('remarks') ?? [])].map(String)")


def test_flags_are_digits_in_their_box_and_are_stored_of_the_response(
    open_page: OpenPage, annotator: Membership
) -> None:
    page = start(open_page, annotator)
    _token, texts = on_screen(page)
    press(page, "ArrowRight", "f", "1", "3", "1", "2", "f")
    expect(page.locator(".flags[open]")).to_have_count(0)
    assert current(page) == "B"
    expect(page.locator(".response[data-letter=B] .tags")).to_have_text("broken or cut offwrong language")
    expect(page.locator("#announcer")).to_have_text("Response B: flagged as broken or cut off")
    page.locator(".response[data-letter=D] .letter").hover()
    page.locator(".response[data-letter=D] .flags summary").click()
    page.get_by_label("unsafe").last.check()
    page.locator(".turns").click()
    expect(page.locator(".flags[open]")).to_have_count(0)
    press(page, "ArrowLeft", "ArrowLeft", "ArrowLeft", "ArrowLeft")
    page.locator(".response[data-letter=A] .tiers label", has_text="1").click()
    press(page, "ArrowRight", "2", "3", "4")
    ranking = stored(submit(page))
    assert in_texts(ranking, ranking.flags) == {texts[1]: ["broken", "off-language"], texts[3]: ["unsafe"]}


def test_a_highlights_quote_is_the_displayed_text(open_page: OpenPage) -> None:
    """Over bold text, a formula, code and a character of two units; offsets are those of the server's own text."""
    annotator = make_annotator(slates=0)
    make_slate_of(annotator.project, texts=[MARKED, "Short."])
    page = start(open_page, annotator)
    expect(page.locator(".math .katex")).to_have_count(1)
    letter = page.locator(".response", has_text="litres").get_attribute("data-letter")

    select(page, "litres", "as")
    press(page, "h")
    page.keyboard.type("A formula is too much here.")
    press(page, "Enter")
    select(page, "print(1)", "print(1)")
    page.locator(f".response[data-letter={letter}] .letter").hover()
    page.locator(f".response[data-letter={letter}] [data-act=highlight]").click()
    page.get_by_role("button", name="Add highlight").click()
    marks = page.locator(f".response[data-letter={letter}] .marks li")
    expect(marks).to_have_count(2)
    expect(marks.first.locator(".comment")).to_have_text("A formula is too much here.")
    assert painted(page)[1] == "print(1)"
    expect(page.locator(".reader > .md mark")).to_have_count(0)  # the response itself is untouched

    page.reload()
    expect(marks).to_have_count(2)
    press(page, "1", "2")
    ranking = stored(submit_last(page))
    shown = render_markdown(MARKED).text
    quotes = [shown[one["start"] : one["end"]] for one in ranking.highlights]
    assert quotes == ["litres of water.\nThe energy is E = mc^2, as", "print(1)"]
    assert [one["quote"] for one in ranking.highlights] == quotes
    assert [one["comment"] for one in ranking.highlights] == ["A formula is too much here.", ""]
    assert {in_texts(ranking, {str(one["response"]): True}).popitem()[0] for one in ranking.highlights} == {MARKED}


def submit_last(page: Page) -> str:
    """Submit the last slate there is."""
    token, _texts = on_screen(page)
    press(page, "Control+Enter")
    expect(page.locator("main")).to_contain_text("Nothing is left for you to rank.")
    return token


def test_a_highlight_can_be_cancelled_and_removed_and_needs_a_selection(
    open_page: OpenPage, annotator: Membership
) -> None:
    page = start(open_page, annotator)
    press(page, "h")
    expect(page.locator("#note")).to_have_text("Select a passage of a response first, then highlight it.")
    select(page, "Answer 2", "Answer 2")
    press(page, "h")
    expect(page.locator("#highlighter blockquote")).to_have_text("Answer 2")
    press(page, "Escape")
    expect(page.locator(".marks li")).to_have_count(0)
    press(page, "h", "Enter")
    expect(page.locator(".marks li q")).to_have_text("Answer 2")
    assert painted(page) == ["Answer 2"]
    page.get_by_role("button", name="Remove the highlight “Answer 2”").click()
    expect(page.locator(".marks li")).to_have_count(0)
    assert painted(page) == []
    press(page, "1")
    assert stored_after_ranking(page) == []


def stored_after_ranking(page: Page) -> list[object]:
    for letter in "ABCD":
        page.locator(f".response[data-letter={letter}] .tiers label", has_text="1").click()
    return stored(submit(page)).highlights


def test_a_correction_is_written_previewed_and_stored(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    _token, texts = on_screen(page)
    press(page, "1", "2", "3", "4")
    editor, field = page.locator("#editor"), page.locator("#editor textarea")
    press(page, "e")
    expect(field).to_have_value(texts[3])
    page.get_by_role("tab", name="Changes").click()
    expect(page.locator("#editor-changes")).to_have_text("Nothing is changed yet.")
    page.get_by_role("tab", name="Text").click()
    field.fill(texts[3].replace("Answer", "**Reply**") + "\n\n| a | b |\n|--|--|\n| 1 | 2 |\n")
    page.get_by_role("tab", name="Preview").click()
    expect(page.locator("#editor-preview strong")).to_have_text("Reply")
    expect(page.locator("#editor-preview td")).to_have_text(["1", "2"])
    press(page, "ArrowRight")
    expect(page.locator("#editor-changes del")).to_have_text("Answer")
    expect(page.locator("#editor-changes ins").first).to_have_text("**Reply**")
    press(page, "Escape")
    expect(editor).to_contain_text("Press Escape once more")
    press(page, "Control+Enter")
    expect(editor).to_be_hidden()
    expect(page.locator("#problems")).to_be_hidden()
    expect(page.locator(".response[data-letter=D] [data-corrected]")).to_have_text("corrected")

    press(page, "ArrowRight", "e")
    field.fill("thrown away")
    press(page, "Escape", "Escape")
    expect(editor).to_be_hidden()
    press(page, "ArrowRight", "e")
    field.fill("taken back")
    page.get_by_role("button", name="Keep correction").click()
    expect(page.locator("[data-corrected]:visible")).to_have_count(2)
    press(page, "e")
    page.get_by_role("button", name="Take the correction back").click()
    expect(page.locator("[data-corrected]:visible")).to_have_count(1)
    ranking = stored(submit(page))
    text = texts[3].replace("Answer", "**Reply**") + "\n\n| a | b |\n|--|--|\n| 1 | 2 |\n"
    assert in_texts(ranking, ranking.corrections) == {texts[3]: text}


def test_only_the_best_is_corrected_where_the_project_wants_it_so(open_page: OpenPage) -> None:
    page = start(open_page, make_annotator(task="best", corrections="best"))
    _token, texts = on_screen(page)
    press(page, "e")
    expect(page.locator("#note")).to_have_text("Only the best response is corrected here. Say first which one it is.")
    press(page, "2", "e")
    page.locator("#editor textarea").fill("Better.")
    press(page, "Control+Enter", "3", "Control+Enter")
    expect(page.locator("#problems")).to_have_text(
        "Only the best response is corrected here; take back the correction of B."
    )
    press(page, "2")
    ranking = stored(submit(page))
    assert in_texts(ranking, ranking.corrections) == {texts[1]: "Better."}


def test_an_amendment_shows_what_was_said_and_changes_it(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    _token, texts = on_screen(page)
    press(page, "1", "2", "3", "4", "e")
    page.locator("#editor textarea").fill("A correction.")
    press(page, "Control+Enter", "f", "1", "Escape")
    select(page, "Answer 1", "Answer 1")
    press(page, "h", "Enter")
    token = submit(page)
    with page.expect_navigation():
        press(page, "u")
    expect(page.locator(".response.current")).to_have_count(1)
    expect(page.locator("[data-corrected]:visible")).to_have_count(1)
    expect(page.locator(".marks li q")).to_have_text("Answer 1")
    press(page, "ArrowLeft", "e")
    expect(page.locator("#editor textarea")).to_have_value("A correction.")
    page.get_by_role("button", name="Take the correction back").click()
    with page.expect_navigation():
        press(page, "Control+Enter")
    expect(page.locator(".response.current")).to_have_count(1)
    amended = stored(token).superseded_by
    assert (amended.corrections, len(amended.highlights)) == ({}, 1)
    assert in_texts(amended, amended.flags) == {texts[3]: ["unsafe"]}


def test_a_message_goes_to_the_reviewers_and_their_answer_is_seen(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    press(page, "m")
    page.keyboard.type("Is the last one cut off? 1 2 3")
    page.context.set_offline(True)
    press(page, "Control+Enter")
    expect(page.locator(".talk [data-trouble]")).to_have_text("Not sent: the server cannot be reached.")
    page.context.set_offline(False)
    press(page, "Control+Enter")
    expect(page.locator("#thread .line")).to_contain_text("Is the last one cut off? 1 2 3")
    expect(page.locator("#message-text")).to_have_value("")
    expect(page.locator("#message-text")).to_be_focused()
    message = SlateMessage.objects.get()
    assert message.text == "Is the last one cut off? 1 2 3"
    press(page, "Escape", "1")
    expect(page.locator(".talk")).not_to_have_attribute("open", "")

    reviewer = make_member(annotator.project, role="reviewer")
    answer(reviewer, slate=message.slate, annotator=annotator, text="It is; rank it as it stands.")
    page.reload()
    expect(page.locator(".talk summary .tag")).to_have_text("answered")
    page.locator(".talk summary").click()
    expect(page.locator("#thread .line").last).to_contain_text("It is; rank it as it stands.")


def test_a_break_is_offered_when_the_project_says_so_and_its_time_does_not_run(open_page: OpenPage) -> None:
    page = start(open_page, make_annotator(break_after=2))
    for _slate in range(2):
        expect(page.locator("#rest")).to_be_hidden()
        press(page, "1", "=", "=", "=")
        submit(page)
    expect(page.locator("#rest")).to_contain_text("You have ranked 2 slates since the last one.")
    page.wait_for_timeout(1500)
    press(page, "1", "Enter")
    expect(page.locator("#rest")).to_be_hidden()
    press(page, "1", "2", "3", "4")
    active = stored(submit(page)).active_ms
    assert active is not None
    assert active < 1500


def test_practice_is_ranked_by_keyboard_and_leaves_nothing_behind(open_page: OpenPage, annotator: Membership) -> None:
    """In the ranking page's own frame: refused like a ranking if incomplete, but no ranking, draft or outbox."""
    PracticeExample.objects.create(
        project=annotator.project,
        number=1,
        messages=[{"role": "user", "content": "Why?"}],
        responses=["Because.", "No.", "Perhaps."],
        answer={"tiers": [[0], [2], [1]], "strength": None, "ratings": {}, "flags": {}, "all_bad": False},
        explanation="The first one answers.",
    )
    page = open_page(annotator.user)
    page.goto("/projects/browser/practice/1/")
    expect(page.locator(".response.current")).to_have_count(1)
    expect(page.locator("#undo, #skip")).to_have_count(0)
    press(page, "1", "Control+Enter")
    expect(page.locator("#problems")).to_have_text("Responses B, C are not placed.")
    press(page, "2", "3")
    page.wait_for_timeout(700)
    assert page.evaluate("Object.keys(localStorage)") == []
    with page.expect_navigation():
        press(page, "Control+Enter")
    expect(page.locator("main")).to_contain_text("The first one answers.")
    assert not Ranking.objects.exists()
    assert not Draft.objects.exists()


def test_a_long_highlight_is_commented_at_once(open_page: OpenPage) -> None:
    """The passage is higher than its box, which the browser would otherwise give the focus to, since it scrolls."""
    annotator = make_annotator(slates=0)
    make_slate_of(annotator.project, texts=["Long. " + "A word and another. " * 400 + "End.", "Short."])
    page = start(open_page, annotator)
    select(page, "Long.", "End.")
    press(page, "h")
    expect(page.locator("#highlight-comment")).to_be_focused()
    page.keyboard.type("All of it.")
    press(page, "Enter")
    expect(page.locator(".marks .comment")).to_have_text("All of it.")


def test_a_late_answer_to_a_message_leaves_the_next_slate_alone(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    token, _texts = on_screen(page)
    held: list[Route] = []
    page.route(re.compile("/rank/message/"), lambda route: held.append(route))
    press(page, "1", "2", "3", "4", "m")
    page.keyboard.type("Sent late")
    press(page, "Control+Enter", "Escape")
    page.wait_for_function("document.activeElement.closest('.response') !== null")
    while not held:
        page.wait_for_timeout(20)
    press(page, "Control+Enter")
    expect(page.locator(f"#ranking [name=token][value='{token}']")).to_have_count(0)
    press(page, "m")
    page.keyboard.type("About the next one")
    with page.expect_response(re.compile("/rank/message/")):
        held[0].continue_()
    page.wait_for_timeout(200)
    expect(page.locator("#message-text")).to_have_value("About the next one")
    expect(page.locator("#thread .line")).to_have_count(0)
    assert SlateMessage.objects.get().text == "Sent late"


def test_what_is_typed_while_a_message_is_on_its_way_stays(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    held: list[Route] = []
    page.route(re.compile("/rank/message/"), lambda route: held.append(route))
    press(page, "m")
    page.keyboard.type("First.")
    press(page, "Control+Enter")
    page.keyboard.type(" Second.")
    while not held:
        page.wait_for_timeout(20)
    held[0].continue_()
    expect(page.locator("#thread .line")).to_contain_text("First.")
    expect(page.locator("#message-text")).to_have_value("Second.")


def test_an_answer_that_is_read_at_its_slate_is_new_no_more(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    press(page, "m")
    page.keyboard.type("Which one?")
    press(page, "Control+Enter")
    expect(page.locator("#thread .line")).to_have_count(1)
    reviewer = make_member(annotator.project, role="reviewer")
    answer(reviewer, slate=SlateMessage.objects.get().slate, annotator=annotator, text="The last one.")
    page.reload()
    expect(page.locator(".news")).to_have_text("1 new message")
    expect(page.locator(".talk summary .tag")).to_have_text("answered")
    press(page, "m")
    expect(page.locator("#thread .line").last).to_contain_text("The last one.")
    expect(page.locator(".news")).to_be_hidden()
    expect(page.locator(".talk summary .tag")).to_have_count(0)
    assert unread_for(annotator) == 0


def test_the_ring_of_the_message_field_is_whole(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    press(page, "m")
    room = page.evaluate(
        """() => {
          const field = document.getElementById("message-text").getBoundingClientRect();
          const box = document.getElementById("thread").getBoundingClientRect();
          return [field.left - box.left, box.right - field.right];
        }"""
    )
    assert min(room) >= 4


def test_practice_and_guidelines_end_on_their_next_action(open_page: OpenPage, annotator: Membership) -> None:
    """The one next action has the focus, nothing is scrolled past, and the space bar scrolls until it is in sight."""
    publish_guidelines(annotator.project, text="\n\n".join(f"Rule {number}." for number in range(90)))
    page = open_page(annotator.user)
    page.goto("/projects/browser/rank/")
    button = page.get_by_role("button", name="Start ranking")
    expect(button).to_be_focused()
    assert page.evaluate("scrollY") == 0
    press(page, "Space")
    page.wait_for_function("scrollY > 100")
    expect(page.locator("#ranking")).to_have_count(0)
    with page.expect_navigation():
        press(page, "Enter")
    expect(page.locator(".response.current")).to_have_count(1)
