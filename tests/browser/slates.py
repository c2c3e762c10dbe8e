"""What the browser tests of the ranking page share: slates of given texts, the way to one, what is on screen."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

from playwright.sync_api import Page, expect

from annotation.domain.slating import SlatePlan, make_slates
from annotation.models import Membership, Project, Ranking, Response, Slate
from tests.annotation.factories import make_member, make_project, make_prompt, make_slate

OpenPage = Callable[..., Page]
SCALES = [
    {"name": "helpfulness", "points": {"0": "useless", "1": "", "2": "", "3": "", "4": "perfect"}},
    {"name": "correctness", "points": {"1": "", "2": "", "3": ""}},
]


def make_annotator(*, slates: int = 4, size: int = 4, **settings: Any) -> Membership:
    """An annotator in a project "browser" with slates to rank; `settings` are fields of the project."""
    project = make_project(slug="browser", slate_size=size)
    Project.objects.filter(pk=project.pk).update(**settings)
    project.refresh_from_db()
    for _number in range(slates):
        make_slate(project, count=size)
    return make_member(project, name="ann")


def make_slate_of(project: Project, *, texts: Sequence[str], prompt: str | None = None) -> Slate:
    """A slate whose responses have these texts."""
    asked = make_prompt(project, text=prompt)
    responses = [
        Response.objects.create(prompt=asked, external_id=f"r{index}", text=text, source="secret")
        for index, text in enumerate(texts)
    ]
    return make_slates(project, plans=[SlatePlan(prompt=asked, external_id=asked.external_id, responses=responses)])[0]


def start(open_page: OpenPage, annotator: Membership, **options: Any) -> Page:
    """The annotator's first slate on screen, its script at work if it has one."""
    page = open_page(annotator.user, **options)
    page.goto("/projects/browser/rank/")
    page.get_by_role("button", name="Start ranking").click()
    expect(page.locator("#ranking")).to_have_count(1)
    if options.get("java_script_enabled", True):
        expect(page.locator(".response.current")).to_have_attribute("data-letter", "A")
    return page


def press(page: Page, *keys: str) -> None:
    for key in keys:
        page.keyboard.press(key)


def submit(page: Page) -> str:
    """Press Ctrl+Enter and wait until the server has the ranking; returns its token."""
    token, _texts = on_screen(page)
    press(page, "Control+Enter")
    expect(page.locator(f"#ranking [name=token][value='{token}']")).to_have_count(0)
    return token


def on_screen(page: Page) -> tuple[str, list[str]]:
    """The token and the texts of the slate as they stand on screen, from A on."""
    token = page.locator("#ranking [name=token]").input_value()
    return token, page.locator(".reader > .md").all_inner_texts()


def bar(page: Page) -> str:
    """What the bar at the foot says."""
    return re.sub(r"\s+", " ", page.locator(".tierbar").first.inner_text()).strip()


def current(page: Page) -> str | None:
    """The letter of the response that keys speak of."""
    return page.locator(".response.current").get_attribute("data-letter")


def stored(token: str) -> Ranking:
    return Ranking.objects.get(token=token)


def texts_by_id(ranking: Ranking) -> dict[int, str]:
    return {response.pk: response.text for response in ranking.slate.responses.all()}


def texts_of(ranking: Ranking) -> list[set[str]]:
    """The texts in each tier, best first."""
    texts = texts_by_id(ranking)
    return [{texts[response_id] for response_id in tier} for tier in ranking.tiers]


def in_texts(ranking: Ranking, by_id: dict[str, Any]) -> dict[str, Any]:
    """What is stored by response id, by the response's text instead."""
    texts = texts_by_id(ranking)
    return {texts[int(response_id)]: value for response_id, value in by_id.items()}


def canonical_texts(ranking: Ranking) -> list[str]:
    """The slate's texts in the order in which strengths are stored."""
    return [place.response.text for place in ranking.slate.places.select_related("response").order_by("position")]
