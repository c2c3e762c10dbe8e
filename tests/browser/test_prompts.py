"""A prompt's page and the settings in a real browser: formulas, folds, axe, phone width, and no JavaScript."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from annotation.domain.assigning import claim_slot
from annotation.domain.judgement import Judgement
from annotation.domain.ranking import submit_ranking
from annotation.domain.tasks import Scale, settings_of
from annotation.models import Membership, Project, Response
from tests.annotation.factories import make_member, make_project, make_slate
from tests.browser.test_pages import AXE

OpenPage = Callable[..., Page]
TEXT = "The law $pV = nRT$:\n\n| step | time |\n| --- | ---: |\n| mix | 5 |\n\n```python\nprint('rise')\n```\n"
SCALES = (Scale("Help", {0: "no help", 1: "", 2: "all help"}),)


@pytest.fixture
def admin() -> Membership:
    """The admin of a project in which one slate was judged in every way."""
    project = make_project(slug="browser", scales=SCALES)
    slate = make_slate(project)
    Response.objects.filter(slates=slate).update(text=TEXT)
    annotator = make_member(project)
    lease = claim_slot(annotator)
    assert lease is not None
    judgement = Judgement(
        tiers=[[0], [1, 2], [3]],
        ratings={"Help": dict.fromkeys(range(4), 1)},
        flags={2: ["unsafe"]},
        corrections={0: TEXT.replace("law", "gas law")},
        rationale="Because.",
    )
    submit_ranking(annotator, token=lease.token, judgement=judgement)
    return make_member(project, role="admin")


def address_of(project: Project) -> str:
    return f"/projects/browser/data/{project.prompts.get().pk}/"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_axe_finds_nothing_wrong_with_everything_unfolded(open_page: OpenPage, admin: Membership, scheme: str) -> None:
    page = open_page(admin.user, color_scheme=scheme)
    for address in (address_of(admin.project), "/projects/browser/settings/"):
        page.goto(address)
        page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
        results = Axe().run(page, options=AXE)
        assert [(entry["id"], [node["html"][:120] for node in entry["nodes"]][:3])
                for entry in results.response["violations"]] == [], address  # fmt: skip


def test_formulas_are_typeset_and_what_was_said_beside_the_order_is_folded(
    open_page: OpenPage, admin: Membership
) -> None:
    page = open_page(admin.user)
    page.goto(address_of(admin.project))
    expect(page.locator(".answer .math.typeset .katex")).to_have_count(4)
    said = page.locator(".judgements li")
    expect(said.locator(".facts")).to_be_hidden()
    said.get_by_text("1 scale · 1 flag · 1 correction · order shown").click()
    expect(said.locator(".facts")).to_be_visible()
    expect(said.locator("ins")).to_contain_text("gas")


def test_a_phone_needs_no_sideways_scrolling(open_page: OpenPage, admin: Membership) -> None:
    page = open_page(admin.user, viewport={"width": 390, "height": 844})
    for address in (address_of(admin.project), "/projects/browser/settings/"):
        page.goto(address)
        page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, address


def test_settings_are_changed_without_javascript(open_page: OpenPage, admin: Membership) -> None:
    page = open_page(admin.user, java_script_enabled=False)
    page.goto("/projects/browser/settings/")
    expect(page.get_by_label("Kind of task")).to_be_disabled()
    page.get_by_label("Flags").fill("unsafe\nno sources")
    page.get_by_role("button", name="Save settings").click()
    expect(page.get_by_role("alert")).to_contain_text("Line 2: A flag's key is made of the letters a to z")
    expect(page.get_by_label("Flags")).to_have_value("unsafe\nno sources")
    page.get_by_label("Flags").fill("unsafe\nno-sources: names no source")
    page.get_by_label("Minutes in which a ranking may be amended").fill("30")
    page.get_by_role("button", name="Save settings").click()
    expect(page.get_by_role("status")).to_contain_text("The settings are saved.")
    saved = settings_of(Project.objects.get(slug="browser"))
    assert ([flag.key for flag in saved.flags], saved.amend_minutes) == (["unsafe", "no-sources"], 30)
