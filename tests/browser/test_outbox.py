"""Rankings that cannot be sent at once: kept, shown, and sent exactly once when the server is there again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from django.contrib.sessions.models import Session
from playwright.sync_api import Page, Route, expect

from annotation.domain.judgement import Judgement
from annotation.domain.practice import add_example
from annotation.models import Membership, Project, Ranking
from tests.browser.slates import OpenPage, bar, make_annotator, on_screen, press, stored, submit, texts_of
from tests.browser.test_drafts import sign_in

SUBMIT = re.compile("/rank/submit/")


@pytest.fixture
def annotator() -> Membership:
    return make_annotator(slates=5)


def start_with_next(open_page: OpenPage, annotator: Membership) -> Page:
    """The first slate on screen, the second fetched ahead."""
    page = open_page(annotator.user)
    page.goto("/projects/browser/rank/")
    with page.expect_response(re.compile("/rank/prefetch/")):
        page.get_by_role("button", name="Start ranking").click()
    page.wait_for_load_state("networkidle")
    return page


@contextmanager
def offline(page: Page) -> Iterator[None]:
    page.context.set_offline(True)
    yield
    page.context.set_offline(False)


def count_sent(page: Page) -> list[str]:
    """Grows with every ranking that reaches the server."""
    sent: list[str] = []
    page.on("response", lambda response: sent.append(response.url) if SUBMIT.search(response.url) else None)
    return sent


def test_offline_it_waits_one_goes_on_and_it_is_sent_once(open_page: OpenPage, annotator: Membership) -> None:
    page = start_with_next(open_page, annotator)
    sent = count_sent(page)
    token, texts = on_screen(page)
    with offline(page):
        press(page, "1", "=", "3", "2", "Control+Enter")
        expect(page.locator("#outbox")).to_contain_text("1 ranking waits to be sent.")
        expect(page.locator("#outbox")).to_contain_text("The server cannot be reached")
        following, later = on_screen(page)
        assert following != token
        press(page, "4", "3", "2", "1")
        assert bar(page) == "1 D 2 C 3 B 4 A not placed"
        assert not Ranking.objects.exists()
    expect(page.locator("#outbox")).to_be_hidden()
    expect(page.locator("#progress")).to_contain_text("1 today")
    assert texts_of(stored(token)) == [{texts[0], texts[1]}, {texts[3]}, {texts[2]}]
    assert bar(page) == "1 D 2 C 3 B 4 A not placed"
    submit(page)
    assert texts_of(stored(following)) == [{texts} for texts in reversed(later)]
    assert on_screen(page)[0] not in (token, following)
    assert len(sent) == 2


def test_two_wait_and_both_arrive_in_any_tab(open_page: OpenPage, annotator: Membership) -> None:
    """The tab is closed with both in the outbox; the next one sends them, and a second beside it sends none twice."""
    page = start_with_next(open_page, annotator)
    tokens = []
    with offline(page):
        for count in (1, 2):
            tokens.append(on_screen(page)[0])
            press(page, "1", "2", "3", "4", "Control+Enter")
            said = "1 ranking waits to be sent." if count == 1 else "2 rankings wait to be sent."
            expect(page.locator("#outbox")).to_contain_text(said)
        # Nothing is fetched ahead any more: the second one stays on the screen.
        assert on_screen(page)[0] == tokens[1]
        context = page.context
        page.close()
    first, second = context.new_page(), context.new_page()
    first.goto("/projects/browser/rank/")
    second.goto("/projects/browser/rank/")
    for tab in (first, second):
        expect(tab.locator("#outbox")).to_be_hidden()
        tab.wait_for_load_state("networkidle")
    assert sorted(str(ranking.token) for ranking in Ranking.objects.all()) == sorted(tokens)


def test_without_a_next_slate_it_waits_on_the_screen_and_goes_on_by_itself(
    open_page: OpenPage, annotator: Membership
) -> None:
    page = open_page(annotator.user)
    page.route(re.compile("/rank/prefetch/"), lambda route: route.abort())
    page.goto("/projects/browser/rank/")
    page.get_by_role("button", name="Start ranking").click()
    expect(page.locator(".response.current")).to_have_count(1)
    token, texts = on_screen(page)
    with offline(page):
        press(page, "1", "2", "3", "4", "Control+Enter")
        expect(page.locator("#outbox")).to_contain_text("1 ranking waits")
        assert on_screen(page)[0] == token
        press(page, "2", "Control+Enter")  # a change of mind about D replaces what waits
        expect(page.locator("#outbox")).to_contain_text("1 ranking waits")
    expect(page.locator(f"#ranking [name=token][value='{token}']")).to_have_count(0)
    assert texts_of(stored(token)) == [{texts[0]}, {texts[1], texts[3]}, {texts[2]}]
    assert Ranking.objects.count() == 1


def test_a_server_in_trouble_is_tried_again(open_page: OpenPage, annotator: Membership) -> None:
    page = start_with_next(open_page, annotator)
    token, _texts = on_screen(page)
    answers = iter([503, 502])

    def sometimes(route: Route) -> None:
        status = next(answers, None)
        route.fulfill(status=status) if status else route.continue_()

    page.route(SUBMIT, sometimes)
    press(page, "1", "2", "3", "4", "Control+Enter")
    expect(page.locator("#outbox")).to_contain_text("The server answered with error 503.")
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#outbox")).to_contain_text("The server answered with error 502.")
    expect(page.locator("#outbox")).to_be_hidden()  # the third time is by itself, after a few seconds
    assert Ranking.objects.get().token == stored(token).token


def test_a_lost_answer_is_no_second_ranking(open_page: OpenPage, annotator: Membership) -> None:
    """The ranking arrives, the answer does not: it is sent again, and the server knows it by its token."""
    page = start_with_next(open_page, annotator)
    token, _texts = on_screen(page)
    lost: list[bool] = []

    def lose_the_answer(route: Route) -> None:
        if lost:
            return route.continue_()
        lost.append(True)
        route.fetch()
        route.abort()

    page.route(SUBMIT, lose_the_answer)
    press(page, "1", "2", "3", "4", "Control+Enter")
    expect(page.locator("#outbox")).to_contain_text("1 ranking waits")
    assert Ranking.objects.count() == 1
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#outbox")).to_be_hidden()
    assert [str(ranking.token) for ranking in Ranking.objects.all()] == [token]


def test_a_lost_session_offers_to_sign_in_and_then_it_is_sent(open_page: OpenPage, annotator: Membership) -> None:
    page = start_with_next(open_page, annotator)
    token, texts = on_screen(page)
    Session.objects.all().delete()
    press(page, "4", "3", "2", "1", "Control+Enter")
    expect(page.locator("#outbox")).to_contain_text("You are signed out.")
    page.locator("#outbox").get_by_role("link", name="Sign in").click()
    sign_in(page)
    expect(page.locator("#progress")).to_contain_text("1 today")
    expect(page.locator("#outbox")).to_be_hidden()
    assert texts_of(stored(token)) == [{text} for text in reversed(texts)]
    expect(page.locator(f"#ranking [name=token][value='{token}']")).to_have_count(0)


def test_one_that_the_server_refuses_later_is_opened_mended_and_sent(
    open_page: OpenPage, annotator: Membership
) -> None:
    """While it waits the project begins to ask for a reason."""
    page = start_with_next(open_page, annotator)
    token, texts = on_screen(page)
    with offline(page):
        press(page, "2", "1", "3", "4", "Control+Enter")
        expect(page.locator("#outbox")).to_contain_text("1 ranking waits")
        following, _texts = on_screen(page)
        press(page, "1")
        Project.objects.update(rationale="required", rationale_min=3)
    expect(page.locator("#outbox")).to_contain_text("Give a reason of at least 3 characters.")
    page.get_by_role("button", name="Throw it away").click()
    page.get_by_role("button", name="Keep it").click()
    page.get_by_role("button", name="Open it").click()
    expect(page.locator("#outbox")).to_be_hidden()
    assert on_screen(page) == (token, texts)
    assert bar(page) == "1 B 2 A 3 C 4 D not placed"
    page.locator("[name=rationale]").fill("B is right.")
    submit(page)
    assert texts_of(stored(token)) == [{texts[1]}, {texts[0]}, {texts[2]}, {texts[3]}]
    assert on_screen(page)[0] == following
    assert bar(page).startswith("1 A")  # what had been begun there


def test_a_refused_one_can_be_thrown_away(open_page: OpenPage, annotator: Membership) -> None:
    page = start_with_next(open_page, annotator)
    page.route(SUBMIT, lambda route: route.fulfill(status=503))
    press(page, "2", "1", "3", "4", "Control+Enter")
    expect(page.locator("#outbox")).to_contain_text("error 503")
    page.unroute(SUBMIT)
    page.route(SUBMIT, lambda route: route.fulfill(status=404))
    page.get_by_role("button", name="Retry").click()
    expect(page.locator("#outbox")).to_contain_text("error 404")
    page.locator("#outbox").get_by_role("button", name="Throw it away").click()
    page.locator("#drop-it").get_by_role("button", name="Throw it away").click()
    expect(page.locator("#outbox")).to_be_hidden()
    page.unroute(SUBMIT)
    page.reload()
    expect(page.locator("#outbox")).to_be_hidden()
    assert not Ranking.objects.exists()


def test_undo_takes_back_what_still_waits(open_page: OpenPage, annotator: Membership) -> None:
    page = start_with_next(open_page, annotator)
    token, texts = on_screen(page)
    with offline(page):
        press(page, "2", "1", "3", "4", "Control+Enter")
        expect(page.locator("#outbox")).to_contain_text("1 ranking waits")
        following, _texts = on_screen(page)
        press(page, "u")
        expect(page.locator("#outbox")).to_be_hidden()
        assert on_screen(page) == (token, texts)
        assert bar(page) == "1 B 2 A 3 C 4 D not placed"
        press(page, "1")
    assert not Ranking.objects.exists()
    submit(page)
    assert texts_of(stored(token)) == [{texts[0], texts[1]}, {texts[2]}, {texts[3]}]
    assert on_screen(page)[0] == following


def test_an_incomplete_one_does_not_wait_but_stays_a_draft(open_page: OpenPage, annotator: Membership) -> None:
    page = start_with_next(open_page, annotator)
    token, _texts = on_screen(page)
    with offline(page):
        press(page, "1", "2", "Control+Enter")
        expect(page.locator("#problems")).to_contain_text("something is missing still for C, D")
        expect(page.locator("#outbox")).to_be_hidden()
        assert on_screen(page)[0] == token


def test_another_persons_rankings_are_left_alone(open_page: OpenPage, annotator: Membership) -> None:
    page = start_with_next(open_page, annotator)
    page.evaluate(
        """(home) => localStorage.setItem("preferee-outbox-1", JSON.stringify(
          {token: "1", url: "/nowhere/", fields: [], at: 1, state: "waiting", who: "somebody else", home}))""",
        "/projects/browser/rank/",
    )
    requests: list[str] = []
    page.on("request", lambda request: requests.append(request.url))
    page.reload()
    page.wait_for_load_state("networkidle")
    expect(page.locator("#outbox")).to_be_hidden()
    assert [url for url in requests if "/nowhere/" in url] == []
    assert page.evaluate("localStorage.getItem('preferee-outbox-1') !== null")


def test_offline_what_is_missing_is_named_at_once(open_page: OpenPage) -> None:
    """A reason that is too short, and an order begun and not ended under "all bad"; an empty order under it will do."""
    page = start_with_next(open_page, make_annotator(slates=3, rationale="required", rationale_min=5))
    token, _texts = on_screen(page)
    problems = page.locator("#problems p")
    with offline(page):
        press(page, "x", "1", "2", "Control+Enter")
        expect(problems).to_have_text([re.compile("missing still for C, D"), re.compile("at least 5 characters")])
        expect(page.locator(".response.missing")).to_have_count(2)
        press(page, "3", "4", "Control+Enter")
        expect(problems).to_have_text([re.compile("at least 5 characters")])
        expect(page.locator("[name=rationale]")).to_be_focused()
        expect(page.locator("#outbox")).to_be_hidden()
        page.keyboard.type("All of them are wrong.")
        press(page, "Escape", "ArrowRight", *["0", "ArrowRight"] * 4, "Control+Enter")
        expect(page.locator("#outbox")).to_contain_text("1 ranking waits")
        assert on_screen(page)[0] != token
    expect(page.locator("#outbox")).to_be_hidden()
    assert (stored(token).all_bad, stored(token).tiers) == (True, [])


def test_offline_it_says_whether_one_can_go_on(open_page: OpenPage) -> None:
    page = start_with_next(open_page, make_annotator(slates=2))
    with offline(page):
        press(page, "1", "2", "3", "4", "Control+Enter")
        expect(page.locator("#outbox")).to_contain_text("You can go on.")
        press(page, "1", "2", "3", "4", "Control+Enter")
        expect(page.locator("#outbox")).to_contain_text("2 rankings wait")
        expect(page.locator("#outbox")).to_contain_text("No further slate is at hand; this one stays until then.")
        expect(page.locator("#outbox")).not_to_contain_text("You can go on.")
    expect(page.locator("main")).to_contain_text("Nothing is left for you to rank.")


def test_undo_on_a_practice_page_brings_no_slate_into_it(open_page: OpenPage, annotator: Membership) -> None:
    page = start_with_next(open_page, annotator)
    add_example(
        annotator.project,
        messages=[{"role": "user", "content": "Why?"}],
        responses=["Because.", "No.", "Perhaps.", "So."],
        answer=Judgement(tiers=[[0], [1], [2], [3]]),
        explanation="The first one answers.",
    )
    page.route(SUBMIT, lambda route: route.abort())
    press(page, "1", "2", "3", "4", "Control+Enter")
    expect(page.locator("#outbox")).to_contain_text("1 ranking waits")
    page.goto("/projects/browser/practice/1/")
    expect(page.locator(".response.current")).to_have_count(1)
    token, _texts = on_screen(page)
    press(page, "u")
    expect(page.locator("#outbox")).to_contain_text("1 ranking waits")
    assert on_screen(page)[0] == token


def test_an_amendment_whose_answer_was_lost_is_sent_again_and_done(open_page: OpenPage, annotator: Membership) -> None:
    """The second time the server says the same as the first time."""
    page = start_with_next(open_page, annotator)
    token, texts = on_screen(page)
    press(page, "1", "2", "3", "4")
    submit(page)
    with page.expect_navigation():
        press(page, "u")
    expect(page.locator(".response.current")).to_have_count(1)
    posted: list[int] = []

    def lose_the_answer(route: Route) -> None:
        if route.request.method == "GET" or posted:
            return route.continue_()
        posted.append(route.fetch().status)
        route.abort()

    page.route(re.compile("/amend/"), lose_the_answer)
    press(page, "4", "Control+Enter")
    expect(page.locator("#outbox")).to_contain_text("1 ranking waits")
    assert Ranking.objects.count() == 2
    page.get_by_role("button", name="Retry").click()
    expect(page.locator(".rank-top .tag")).to_have_count(0)
    expect(page.locator("#outbox")).to_be_hidden()
    assert texts_of(stored(token).superseded_by) == [{texts[1]}, {texts[2]}, {texts[0], texts[3]}]
    assert Ranking.objects.count() == 2
