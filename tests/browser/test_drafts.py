"""Drafts in a real browser: nothing that was entered and not yet submitted is lost, whatever goes away meanwhile."""

from __future__ import annotations

import json
from typing import Any

import pytest
from django.contrib.sessions.models import Session
from playwright.sync_api import Page, expect

from annotation.models import Draft, Membership, Ranking, SlateMessage, Slot
from tests.annotation.factories import make_member
from tests.browser.slates import OpenPage, bar, make_annotator, on_screen, press, start, stored, submit, texts_of


@pytest.fixture
def annotator() -> Membership:
    return make_annotator()


def sign_in(page: Page) -> None:
    page.locator("[name=username]").fill("ann")
    page.locator("[name=password]").fill("correct horse")
    page.locator("main button").click()
    expect(page.locator(".response.current")).to_have_count(1)


def local_draft(page: Page) -> dict[str, Any]:
    """The one copy that this browser keeps."""
    return page.evaluate(
        """() => JSON.parse(Object.entries(localStorage).find(([key]) => key.startsWith("preferee-draft-"))[1])"""
    )


def test_what_is_entered_is_kept_on_the_server_half_a_second_later(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    token, _texts = on_screen(page)
    press(page, "2", "1", "f", "2", "Escape")
    page.locator("[name=rationale]").fill("B names the source.")
    expect(page.locator("#draft")).to_have_text("draft saved")
    fields = Draft.objects.get(token=token).fields
    assert [fields[f"tier_{position}"] for position in range(4)] == ["2", "1", "", ""]
    assert (fields["flag_2"], fields["rationale"]) == (["broken"], "B names the source.")
    assert "correction_0" not in fields


def test_another_browser_goes_on_with_the_draft(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    press(page, "2", "1", "f", "2", "Escape", "x")
    page.locator("[name=rationale]").fill("kept")
    expect(page.locator("#draft")).to_have_text("draft saved")
    other = open_page(annotator.user)
    other.goto("/projects/browser/rank/")
    assert bar(other) == "1 B 2 A 3 4 not placed C D"
    assert other.locator("[name=flag_2]:checked").get_attribute("value") == "broken"
    assert other.locator("[name=all_bad]").is_checked()
    expect(other.locator("[name=rationale]")).to_have_value("kept")


def test_after_an_expired_session_and_signing_in_again_the_draft_is_there(
    open_page: OpenPage, annotator: Membership
) -> None:
    """What was entered while the session was gone never reached the server; this browser kept it."""
    page = start(open_page, annotator)
    token, texts = on_screen(page)
    press(page, "1", "2")
    expect(page.locator("#draft")).to_have_text("draft saved")
    Session.objects.all().delete()
    press(page, "3")
    page.locator("[name=rationale]").fill("entered while signed out")
    expect(page.locator("#draft")).to_have_text("draft kept in this browser")
    page.goto("/projects/browser/rank/")
    sign_in(page)
    assert on_screen(page)[0] == token
    assert bar(page) == "1 A 2 B 3 C 4 not placed D"
    expect(page.locator("[name=rationale]")).to_have_value("entered while signed out")
    expect(page.locator("#draft")).to_have_text("draft saved")
    press(page, "4")  # the first that is not placed has the focus
    submit(page)
    assert texts_of(stored(token)) == [{texts[0]}, {texts[1]}, {texts[2]}, {texts[3]}]
    assert not Draft.objects.filter(token=token).exists()


def test_the_newer_of_two_copies_wins(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    token, _texts = on_screen(page)
    press(page, "1")
    expect(page.locator("#draft")).to_have_text("draft saved")
    draft = Draft.objects.get(token=token)
    newer = {**draft.fields, "tier_0": "4", "tier_1": "1"}
    Draft.objects.filter(pk=draft.pk).update(fields=newer, revision=draft.revision + 5)
    page.reload()
    assert bar(page) == "1 B 2 3 4 A not placed C D"
    kept = local_draft(page)
    assert kept["revision"] == draft.revision
    page.evaluate(
        """([token, kept]) => localStorage.setItem(`preferee-draft-${token}`, kept)""",
        [token, json.dumps(kept | {"revision": draft.revision + 9})],
    )
    page.reload()
    assert bar(page) == "1 A 2 3 4 not placed B C D"


def test_a_closed_tab_and_a_lost_network_lose_nothing(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    page.context.set_offline(True)
    press(page, "1", "=", "e")
    page.locator("#editor textarea").fill("A correction.")
    press(page, "Control+Enter")
    expect(page.locator("#draft")).to_have_text("draft kept in this browser")
    assert not Draft.objects.exists()
    page.context.set_offline(False)
    again = page.context.new_page()
    page.close()
    again.goto("/projects/browser/rank/")
    assert bar(again) == "1 A = B 2 3 4 not placed C D"
    expect(again.locator(".response[data-letter=C] [data-corrected]")).to_be_visible()
    expect(again.locator("[name=correction_2]")).to_have_value("A correction.")
    press(again, "ArrowRight", "ArrowRight", "2")
    expect(again.locator("#draft")).to_have_text("draft saved")
    assert Draft.objects.get().fields["correction_2"] == "A correction."


def test_active_time_goes_on_where_the_draft_left_it(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    page.wait_for_timeout(1200)
    press(page, "1")
    expect(page.locator("#draft")).to_have_text("draft saved")
    page.reload()
    press(page, "ArrowRight", "2", "3", "4")
    active = stored(submit(page)).active_ms
    assert active is not None
    assert 1200 <= active < 20_000


def test_submitted_and_old_copies_are_forgotten(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    page.evaluate(
        """() => {
          localStorage.setItem("preferee-draft-old", JSON.stringify({revision: Date.now() - 15 * 86400e3, fields: {}}));
          localStorage.setItem("preferee-draft-new", JSON.stringify({revision: Date.now() - 13 * 86400e3, fields: {}}));
        }"""
    )
    page.reload()
    press(page, "1", "2", "3", "4")
    submit(page)
    keys = page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('preferee-draft-'))")
    assert keys == ["preferee-draft-new"]


def test_a_browser_whose_clock_is_behind_keeps_its_draft_over_the_others(
    open_page: OpenPage, annotator: Membership
) -> None:
    """The other's copy is numbered an hour ahead; what is entered after it counts all the same."""
    ahead = open_page(annotator.user)
    ahead.add_init_script("const now = Date.now; Date.now = () => now() + 3_600_000;")
    ahead.goto("/projects/browser/rank/")
    ahead.get_by_role("button", name="Start ranking").click()
    expect(ahead.locator(".response.current")).to_have_count(1)
    token, _texts = on_screen(ahead)
    press(ahead, "1", "2")
    expect(ahead.locator("#draft")).to_have_text("draft saved")
    page = open_page(annotator.user)
    page.goto("/projects/browser/rank/")
    assert bar(page) == "1 A 2 B 3 4 not placed C D"
    press(page, "4")
    expect(page.locator("#draft")).to_have_text("draft saved")
    assert Draft.objects.get(token=token).fields["tier_2"] == "4"
    press(ahead, "3")  # the other browser goes on as well, on what it has
    expect(ahead.locator("#draft")).to_have_text("draft saved")
    press(page, "3")
    expect(page.locator("#draft")).to_have_text("draft saved")
    page.reload()
    assert bar(page).startswith("1 A 2 B 3 D 4 C")
    assert Draft.objects.get(token=token).fields["tier_3"] == "3"


def test_begun_slates_that_went_to_others_fit_a_phone(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    token, _texts = on_screen(page)
    press(page, "1")
    expect(page.locator("#draft")).to_have_text("draft saved")
    slate = Slot.objects.get(token=token).slate
    slate.prompt.messages = [{"role": "user", "content": "How do I get " + "very " * 20 + "far?"}]
    slate.prompt.save()
    Slot.objects.filter(annotator=annotator).update(state="free", annotator=None, token=None, deadline=None)
    for slot in Slot.objects.filter(slate=slate):
        Slot.objects.filter(pk=slot.pk).update(state="done", annotator=make_member(slate.project))
    phone = open_page(annotator.user, viewport={"width": 390, "height": 844})
    phone.goto("/projects/browser/rank/")
    expect(phone.get_by_role("link", name="Open “How do I get")).to_be_visible()
    assert phone.evaluate("document.documentElement.scrollWidth") <= 390


def test_a_correction_that_was_begun_is_there_again_after_a_closed_tab(
    open_page: OpenPage, annotator: Membership
) -> None:
    page = start(open_page, annotator)
    press(page, "ArrowRight", "e")
    page.locator("#editor textarea").fill("Half a correction")
    again = page.context.new_page()
    page.close()
    again.goto("/projects/browser/rank/")
    expect(again.locator("#note")).to_have_text("A correction of B was begun and not kept; e opens it again.")
    press(again, "ArrowRight", "e")
    expect(again.locator("#editor textarea")).to_have_value("Half a correction")
    expect(again.locator("#editor [data-begun]")).to_be_visible()
    press(again, "Escape")
    expect(again.locator("#editor")).to_contain_text("Press Escape once more")
    again.get_by_role("tab", name="Preview").click()
    expect(again.locator("#editor")).not_to_contain_text("Press Escape once more")
    again.get_by_role("button", name="Cancel").click()
    expect(again.locator("#editor")).to_contain_text("Press Cancel once more")
    press(again, "Control+Enter")
    expect(again.locator("[name=correction_1]")).to_have_value("Half a correction")
    expect(again.locator("#draft")).to_have_text("draft saved")
    press(again, "e")
    again.locator("#editor textarea").fill("Thrown away")
    for _time in range(2):
        again.get_by_role("button", name="Cancel").click()
    expect(again.locator("#editor")).to_be_hidden()
    press(again, "e")
    expect(again.locator("#editor textarea")).to_have_value("Half a correction")
    assert again.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('preferee-text-'))") == []


def test_a_correction_that_was_begun_is_asked_about_before_the_slate_goes(
    open_page: OpenPage, annotator: Membership
) -> None:
    page = start(open_page, annotator)
    press(page, "ArrowRight", "e")
    page.locator("#editor textarea").fill("Half a correction")
    page.reload()
    press(page, "1", "2", "3", "4", "Control+Enter")
    expect(page.locator("#problems")).to_have_text(
        "A correction of B was begun and not kept; e opens it again. Submit once more to go on without it."
    )
    assert not Ranking.objects.exists()
    press(page, "Control+Enter")
    expect(page.locator("#problems")).to_be_hidden()
    expect(page.locator("#saved")).to_contain_text("saved")
    assert Ranking.objects.count() == 1


def test_a_message_that_is_not_sent_is_kept_and_asked_about(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    press(page, "m")
    page.keyboard.type("Is B cut off")
    press(page, "Escape")
    expect(page.locator(".talk [data-unsent]")).to_be_visible()
    page.reload()
    expect(page.locator(".talk [data-unsent]")).to_be_visible()
    press(page, "m")
    expect(page.locator("#message-text")).to_have_value("Is B cut off")
    page.keyboard.press("End")
    page.keyboard.type("?")
    press(page, "Escape", "1", "2", "3", "4")
    token, _texts = on_screen(page)
    press(page, "Control+Enter")
    expect(page.locator("#unsent")).to_contain_text("Your message was not sent")
    expect(page.locator("#unsent blockquote")).to_have_text("Is B cut off?")
    assert stored(token)  # the slate is not held up
    assert not SlateMessage.objects.exists()
    press(page, "Escape")
    expect(page.locator(f"#ranking [name=token][value='{token}']")).to_have_count(0)
    expect(page.locator("#message-text")).to_have_value("")
    with page.expect_navigation():
        press(page, "u")
    expect(page.locator(".response.current")).to_have_count(1)
    expect(page.locator("#message-text")).to_have_value("Is B cut off?")
    press(page, "Control+Enter")
    expect(page.locator("#unsent")).to_be_visible()
    press(page, "Enter")
    expect(page.locator(".rank-top .tag")).to_have_count(0)
    assert SlateMessage.objects.get().text == "Is B cut off?"
    assert page.evaluate("Object.keys(localStorage).filter((key) => key.startsWith('preferee-text-'))") == []


def test_a_message_without_a_network_waits_in_its_box(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    page.wait_for_load_state("networkidle")
    token, _texts = on_screen(page)
    press(page, "m")
    page.keyboard.type("Why?")
    press(page, "Escape", "1", "2", "3", "4")
    page.context.set_offline(True)
    press(page, "Control+Enter")
    expect(page.locator(f"#ranking [name=token][value='{token}']")).to_have_count(0)
    expect(page.locator("#note")).to_have_text("Your message was not sent; it is kept, and undo opens it again.")
    press(page, "u")
    expect(page.locator("#message-text")).to_have_value("Why?")
    page.context.set_offline(False)


def test_leaving_is_held_up_where_this_browser_keeps_nothing(open_page: OpenPage, annotator: Membership) -> None:
    """With storage switched off, an open correction and an unsent message would be lost with the page."""
    page = open_page(annotator.user)
    page.add_init_script("Storage.prototype.setItem = () => { throw new Error('full'); };")
    page.goto("/projects/browser/rank/")
    page.get_by_role("button", name="Start ranking").click()
    expect(page.locator(".response.current")).to_have_count(1)
    press(page, "m")
    page.keyboard.type("Why?")
    asked: list[str] = []
    page.on("dialog", lambda dialog: (asked.append(dialog.type), dialog.accept()))
    page.reload()
    assert asked == ["beforeunload"]
    expect(page.locator(".response.current")).to_have_count(1)
    press(page, "e")
    page.locator("#editor textarea").fill("Begun")
    page.reload()
    assert asked == ["beforeunload"] * 2
