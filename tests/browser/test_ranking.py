"""The ranking page in a real browser: by keyboard, by drag, without JavaScript, on a phone."""

from __future__ import annotations

import re
from datetime import timedelta

import pytest
from django.utils import timezone
from playwright.sync_api import expect

from annotation.domain.assigning import claim_slot, live_slots
from annotation.models import Lease, Membership, Ranking, Skip, Slot
from tests.annotation.factories import make_member
from tests.browser.slates import (
    OpenPage,
    bar,
    current,
    make_annotator,
    on_screen,
    press,
    start,
    stored,
    submit,
    texts_of,
)


@pytest.fixture
def annotator() -> Membership:
    return make_annotator()


def test_three_slates_by_keyboard_alone(open_page: OpenPage, annotator: Membership) -> None:
    """What is pressed on positions is stored of the texts that stood there, in three different orders."""
    page = open_page(annotator.user)
    page.goto("/projects/browser/rank/")
    page.get_by_role("button", name="Start ranking").focus()
    press(page, "Enter")
    expect(page.locator("#tierbar .chip")).to_have_count(4)

    seen = []
    plans = [
        (["1", "2", "3", "4"], [[0], [1], [2], [3]]),
        (["2", "=", "1", "=", "ArrowLeft", "3"], [[3], [0, 1], [2]]),
        (["ArrowLeft", "1", "ArrowRight", "2", "3", "4", "0", "="], [[3], [1], [2, 0]]),
    ]
    for keys, tiers in plans:
        token, texts = on_screen(page)
        press(page, *keys, "Control+Enter")
        expect(page.locator(f"#ranking [name=token][value='{token}']")).to_have_count(0)
        expect(page.locator("#saved")).to_have_text("saved ✓")
        assert texts_of(stored(token)) == [{texts[i] for i in tier} for tier in tiers]
        seen.append((token, texts))

    expect(page.locator("#progress")).to_contain_text("3 today")
    canonical = {str(lease.token): list(lease.slot.slate.responses.order_by("places__position")) for lease in leases()}
    assert any(texts != [response.text for response in canonical[token]] for token, texts in seen)
    assert all(stored(token).active_ms is not None for token, _texts in seen)


def leases() -> list[Lease]:
    return list(Lease.objects.select_related("slot__slate"))


def test_a_drag_places_ties_and_takes_out(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    token, texts = on_screen(page)

    def drag(letter: str, tier: int) -> None:
        chip = page.locator("#tierbar .chip", has_text=letter)
        chip.drag_to(page.locator(f"#tierbar .zone[data-tier='{tier}']"))

    for letter, tier in (("B", 1), ("A", 2), ("D", 1), ("C", 3)):
        drag(letter, tier)
    assert bar(page) == "1 B = D 2 A 3 C 4 not placed"
    drag("C", 0)
    assert bar(page) == "1 B = D 2 A 3 4 not placed C"
    page.locator(".response[data-letter=C] .tiers label", has_text="4").click()
    page.locator("#submit").click()
    expect(page.locator("#saved")).to_have_text("saved ✓")
    assert texts_of(stored(token)) == [{texts[1], texts[3]}, {texts[0]}, {texts[2]}]


def test_without_javascript_it_is_a_form(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator, java_script_enabled=False)
    token, texts = on_screen(page)
    for position, tier in enumerate((2, 1, 1)):
        page.locator(f"[name=tier_{position}][value='{tier}']").check(force=True)
    page.locator("[name=rationale]").fill("C and B are right.")
    page.locator("#submit").click()
    expect(page.locator("#problems")).to_have_text("Response D is not placed.")
    expect(page.locator("[name=rationale]")).to_have_value("C and B are right.")
    page.locator("[name=tier_3][value='4']").check(force=True)
    page.locator("#submit").click()
    expect(page.locator("#saved")).to_contain_text("Saved ✓")
    assert texts_of(stored(token)) == [{texts[1], texts[2]}, {texts[0]}, {texts[3]}]

    page.locator("#skip summary").click()
    page.locator("#skip-reason").fill("not my subject")
    page.get_by_role("button", name="Skip this slate").click()
    expect(page.locator("#ranking")).to_be_visible()
    assert Skip.objects.get().reason == "not my subject"


def test_undo_amends_the_last_ranking_and_comes_back(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    token, texts = on_screen(page)
    press(page, "1", "2", "3", "4")
    submit(page)
    following, _texts = on_screen(page)
    press(page, "1")
    with page.expect_navigation():
        press(page, "u")
    expect(page.locator(".rank-top .tag")).to_have_text("amending")
    assert on_screen(page)[1] == texts
    assert bar(page) == "1 A 2 B 3 C 4 D not placed"
    press(page, "4", "ArrowLeft", "1", "Control+Enter")
    expect(page.locator(".rank-top .tag")).to_have_count(0)
    amended = Ranking.objects.get(supersedes__token=token)
    assert texts_of(amended) == [{texts[3]}, {texts[1]}, {texts[2]}, {texts[0]}]
    assert on_screen(page)[0] == following
    assert bar(page).startswith("1 A")  # what had been begun on the next slate is still there


def test_a_double_submit_is_one_ranking(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    token, _texts = on_screen(page)
    press(page, "1", "2", "3", "4")
    page.evaluate("() => { const b = document.getElementById('submit'); b.click(); b.click(); }")
    expect(page.locator("#saved")).to_have_text("saved ✓")
    page.wait_for_load_state("networkidle")
    assert Ranking.objects.filter(token=token).count() == 1
    assert Ranking.objects.count() == 1


def test_a_digit_moves_on_to_what_is_not_placed_and_placing_again_stays(
    open_page: OpenPage, annotator: Membership
) -> None:
    """Four digits and Ctrl+Enter rank four responses: five presses, six keys, so at most 1.5 a response."""
    page = start(open_page, annotator)
    said = page.locator("#announcer")
    press(page, "1")
    expect(said).to_have_text("Response A: tier 1 Now response B.")
    assert current(page) == "B"
    press(page, "=")
    expect(said).to_have_text("Response B: tier 1, tied with A Now response C.")
    press(page, "ArrowLeft", "2")
    expect(said).to_have_text("Response B: tier 2")
    assert current(page) == "B"  # it had been placed: the focus stays
    press(page, "ArrowRight", "ArrowRight", "3")
    assert current(page) == "C"
    press(page, "3")
    assert current(page) == "C"  # nothing is left to go on to
    assert bar(page) == "1 A 2 B 3 C = D 4 not placed"
    page.locator(".response[data-letter=A] .tiers label", has_text="4").click()
    assert current(page) == "A"  # a hand on the mouse is not led away
    expect(said).to_have_text("Response A: tier 4")


def test_keys_do_what_they_say_and_stay_out_of_text_fields(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    token, _texts = on_screen(page)
    press(page, "1", "ArrowLeft", "Control+Enter")
    expect(page.locator("#problems")).to_have_text("Responses B, C, D are not placed.")
    expect(page.locator(".response.missing")).to_have_count(3)
    assert current(page) == "B"
    press(page, "7")
    expect(page.locator("#note")).to_have_text("There are 4 tiers.")
    press(page, "=", "Backspace", "Delete")
    assert bar(page) == "1 A = B 2 3 4 not placed C D"
    assert current(page) == "C"

    press(page, "Enter")
    expect(page.locator(".response:visible")).to_have_count(1)
    expect(page.locator(".response:visible")).to_have_attribute("data-letter", "C")
    press(page, "ArrowRight")
    expect(page.locator(".response:visible")).to_have_attribute("data-letter", "D")
    press(page, "Escape")
    expect(page.locator(".response:visible")).to_have_count(4)

    press(page, "?")
    expect(page.locator("#keys")).to_be_visible()
    press(page, "Escape", "g")
    expect(page.locator("#guidelines")).to_be_visible()
    press(page, "2", "x", "s", "Control+Enter")
    press(page, "Escape")
    expect(page.locator("#guidelines")).to_be_hidden()
    expect(page.locator(".responses")).to_be_visible()
    assert current(page) == "D"

    page.locator("[name=rationale]").focus()
    page.keyboard.type("1x=s?ug0cefhm")
    expect(page.locator("[name=rationale]")).to_have_value("1x=s?ug0cefhm")
    assert bar(page) == "1 A = B 2 3 4 not placed C D"
    assert not page.locator("[name=all_bad]").is_checked()
    press(page, "Escape", "x")
    assert page.locator("[name=all_bad]").is_checked()
    press(page, "x", "s")
    page.keyboard.type("too long")
    press(page, "Enter")
    expect(page.locator(f"#ranking [name=token][value='{token}']")).to_have_count(0)
    assert Skip.objects.get().reason == "too long"
    assert not Ranking.objects.exists()


def test_every_key_has_a_control_and_single_keys_can_be_switched_off(
    open_page: OpenPage, annotator: Membership
) -> None:
    page = start(open_page, annotator)
    press(page, "1")
    for act in ("tie", "flag", "highlight", "edit", "compare", "alone", "fold", "undo", "guidelines", "keys"):
        where = ".flags summary" if act == "flag" else f"[data-act={act}]"
        expect(
            page.locator(f".response.current {where}, .prompt {where}, .foot {where}, .rank-top {where}")
        ).to_be_visible()
    page.locator(".response.current [data-act=tie]").click()
    assert bar(page) == "1 A = B 2 3 4 not placed C D"
    page.locator("#open-keys").click()
    page.locator("#keys-on").uncheck()
    press(page, "Escape")
    page.reload()
    page.locator(".response[data-letter=C] .reader").click()
    press(page, "2", "x", "s")
    assert bar(page) == "1 A = B 2 3 4 not placed C D"
    expect(page.locator("#skip")).not_to_have_attribute("open", "")
    expect(page.locator("kbd.with-keys:visible")).to_have_count(0)


def test_a_slate_is_skipped_with_a_reason(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    token, _texts = on_screen(page)
    press(page, "s")
    page.keyboard.type("not my subject")
    page.keyboard.press("Enter")
    expect(page.locator("#saved")).to_have_text("skipped ✓")
    assert on_screen(page)[0] != token
    assert Skip.objects.get().reason == "not my subject"


def test_the_end_is_said_and_idle_time_does_not_count(open_page: OpenPage, annotator: Membership) -> None:
    page = open_page(annotator.user)
    page.clock.install()
    page.goto("/projects/browser/rank/")
    page.get_by_role("button", name="Start ranking").click()
    expect(page.locator("#tierbar .chip")).to_have_count(4)
    token, _texts = on_screen(page)
    press(page, "1", "2")
    page.clock.fast_forward(10 * 60_000)  # ten minutes away: one minute of them counts
    press(page, "3", "4")
    assert submit(page) == token
    expect(page.locator("#saved")).to_have_text("saved ✓")
    active = stored(token).active_ms
    assert active is not None
    assert 60_000 <= active < 75_000
    for _slate in range(3):
        press(page, "1", "=", "=", "=")
        submit(page)
    expect(page.locator("main")).to_contain_text("Nothing is left for you to rank.")
    assert Ranking.objects.count() == 4


def test_a_slate_at_work_is_held_and_a_lost_one_is_said(open_page: OpenPage, annotator: Membership) -> None:
    """Every four minutes of work the lease is renewed; idle ones let it lapse; where another took it, that is said."""
    page = open_page(annotator.user)
    renewals: list[str] = []
    page.on("request", lambda request: renewals.append(request.url) if "/rank/renew/" in request.url else None)
    page.clock.install()
    page.goto("/projects/browser/rank/")
    page.get_by_role("button", name="Start ranking").click()
    expect(page.locator("#tierbar .chip")).to_have_count(4)
    token, _texts = on_screen(page)
    slot = Slot.objects.get(token=token)

    def lapse() -> None:
        Slot.objects.filter(pk=slot.pk).update(deadline=timezone.now() - timedelta(seconds=1))

    def is_held() -> bool:
        return Slot.objects.get(pk=slot.pk).deadline > timezone.now()  # type: ignore[operator]

    def work_for_four_minutes() -> None:
        """In steps, so that a renewal on its way is not given up for taking so long."""
        page.clock.run_for(150_000)
        press(page, "ArrowRight", "ArrowLeft")
        before = len(renewals)
        with page.expect_response(re.compile("/rank/renew/")):
            while len(renewals) == before:
                page.clock.run_for(10_000)

    lapse()
    work_for_four_minutes()
    assert is_held()
    lapse()
    page.clock.run_for(9 * 60_000)
    assert len(renewals) == 1
    assert not is_held()

    other = claim_slot(make_member(annotator.project))
    assert other is not None
    assert other.slot == slot
    work_for_four_minutes()
    expect(page.locator("#lapsed")).to_contain_text("may have gone to somebody else")
    press(page, "1", "2", "3", "4", "Control+Enter")
    expect(page.locator("#saved")).to_have_text("saved ✓")
    assert stored(token).slot.is_extra
    expect(page.locator("#lapsed")).to_be_hidden()


def test_a_slate_fetched_ahead_is_held_anew_when_it_is_shown(open_page: OpenPage, annotator: Membership) -> None:
    """It lapsed while the one before it was read: shown, it is theirs again, and what comes after is another one."""
    page = open_page(annotator.user)
    with page.expect_response(re.compile("/rank/prefetch/")):
        page.goto("/projects/browser/rank/")
        page.get_by_role("button", name="Start ranking").click()
    ahead = live_slots(annotator).last()
    assert ahead is not None
    Slot.objects.filter(pk=ahead.pk).update(deadline=timezone.now() - timedelta(seconds=1))
    with page.expect_response(re.compile("/rank/prefetch/")):
        press(page, "1", "2", "3", "4", "Control+Enter")
    expect(page.locator(f"#ranking [name=token][value='{ahead.token}']")).to_have_count(1)
    assert [slot.slate_id == ahead.slate_id for slot in live_slots(annotator)] == [True, False]


def test_on_a_phone_one_response_fills_the_screen(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator, viewport={"width": 390, "height": 844}, has_touch=True)
    token, texts = on_screen(page)
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert {round(box.bounding_box()["width"]) for box in page.locator(".response").all()} == {390}  # type: ignore[index]
    expect(page.locator("#tierbar")).to_be_in_viewport()
    for letter, tier in zip("ABCD", (1, 2, 3, 3), strict=True):
        page.locator(f".response[data-letter={letter}] .tiers label", has_text=str(tier)).tap()
    page.locator("#submit").tap()
    expect(page.locator("#saved")).to_have_text("saved ✓")
    assert texts_of(stored(token)) == [{texts[0]}, {texts[1]}, {texts[2], texts[3]}]


def test_a_key_that_is_held_down_acts_once_and_only_arrows_go_on(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    token, _texts = on_screen(page)

    def hold(key: str) -> None:
        for _repeat in range(4):
            page.keyboard.down(key)
        page.keyboard.up(key)

    for key in ("1", "=", "x"):
        hold(key)
    assert bar(page) == "1 A = B 2 3 4 not placed C D"
    assert page.locator("[name=all_bad]").is_checked()
    hold("m")
    expect(page.locator("#message-text")).to_have_value("")
    press(page, "Escape")
    hold("c")
    expect(page.locator("#compare")).to_be_visible()
    press(page, "Escape", "x", "2", "3")
    assert current(page) == "D"
    hold("ArrowLeft")
    assert current(page) == "D"  # four steps, once round
    page.keyboard.down("Control")
    hold("Enter")
    page.keyboard.up("Control")
    expect(page.locator(f"#ranking [name=token][value='{token}']")).to_have_count(0)
    page.wait_for_load_state("networkidle")
    expect(page.locator("#problems")).to_be_hidden()
    assert Ranking.objects.count() == 1


def test_caps_lock_changes_nothing_and_a_key_closes_what_it_opened(open_page: OpenPage, annotator: Membership) -> None:
    page = start(open_page, annotator)
    with_caps_lock = """(key) => document.activeElement.dispatchEvent(
      new KeyboardEvent("keydown", {key, bubbles: true, cancelable: true}))"""
    page.evaluate(with_caps_lock, "X")
    assert page.locator("[name=all_bad]").is_checked()
    page.evaluate(with_caps_lock, "C")
    expect(page.locator("#compare")).to_be_visible()
    press(page, "Control+c")  # copies; it is no c
    expect(page.locator("#compare")).to_be_visible()
    page.evaluate(with_caps_lock, "C")
    expect(page.locator("#compare")).to_be_hidden()
    for key, dialog in (("g", "#guidelines"), ("?", "#keys")):
        press(page, key)
        expect(page.locator(dialog)).to_be_visible()
        press(page, key)
        expect(page.locator(dialog)).to_be_hidden()
    assert current(page) == "A"


def test_without_single_keys_the_arrows_move_and_rank_only_in_a_row_of_tiers(
    open_page: OpenPage, annotator: Membership
) -> None:
    page = start(open_page, annotator)
    press(page, "?")
    page.locator("#keys-on").uncheck()
    press(page, "Escape")
    page.reload()
    expect(page.locator(".response.current")).to_have_count(1)
    press(page, "ArrowRight", "ArrowRight", "ArrowLeft", "3", "ArrowDown")
    assert current(page) == "B"
    assert bar(page) == "1 2 3 4 not placed A B C D"
    page.locator(".response[data-letter=B] .tiers input:checked").focus()
    press(page, "ArrowRight")  # round from "–" to the first tier
    assert bar(page) == "1 B 2 3 4 not placed A C D"
    assert current(page) == "B"


def test_an_amendment_is_confirmed_on_the_page_that_follows(open_page: OpenPage) -> None:
    page = start(open_page, make_annotator(slates=2))
    press(page, "1", "2", "3", "4")
    submit(page)
    with page.expect_navigation():
        press(page, "u")
    expect(page.locator(".response.current")).to_have_count(1)
    press(page, "1")
    with page.expect_navigation():
        press(page, "Control+Enter")
    expect(page.locator("#saved")).to_have_text("Amended ✓")
