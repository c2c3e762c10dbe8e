"""The main pages in a real browser: nothing that axe finds wrong, nothing that the policy stops, live curves."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urljoin

import pytest
from axe_playwright_python.sync_playwright import Axe
from django.conf import settings
from django.contrib.auth.models import User
from django.utils import timezone
from playwright.sync_api import Page, expect

from annotation.domain.assigning import claim_slot
from annotation.domain.judgement import Judgement
from annotation.domain.messages import answer, ask
from annotation.domain.pipelines import advance_waiting, start_pipeline
from annotation.domain.practice import add_example, answer_example
from annotation.domain.projects import publish_guidelines
from annotation.domain.runs import queue_run, run_directory
from annotation.domain.snapshots import freeze_snapshot
from annotation.models import Membership, Model, Ranking, Run, Snapshot
from rewardmodel.advisor import Evidence
from tests import online
from tests.annotation.factories import make_member, make_project, make_slate, make_verdicts
from tests.rewardmodel.test_advisor import CHECKABLE, HELPS
from tests.views.conftest import HALVES, freeze_trainable, rank_next
from tests.views.test_advice import give_advice
from tests.views.test_pages import REPORT

OpenPage = Callable[..., Page]
# heading-order and region speak of taste on pages as small as ours; everything that blocks a person stays on.
AXE = {"runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]}
COLOURS = {"runOnly": ["color-contrast"]}
ENGINEER_PAGES = [
    "", "guidelines/", "data/", "snapshots/", "snapshots/1/", "runs/", "runs/1/", "runs/new/?method=dpo",
    "runs/2/", "runs/new/?method=ppo", "runs/compare/", "runs/compare/?run=1",
    "models/", "models/1/", "runs/new/?method=verify", "conflicts/", "conflicts/?best=on&kind=math", "agreement/",
    "leaderboard/", "leaderboard/?style=on&join=on",
    "pipelines/", "pipelines/1/", "pipelines/new/", "pipelines/new/?template=own",
    "leaderboard/?model=nonsense", "leaderboard/battles/?first=secret-source-0&second=secret-source-1",
    "advice/", "runs/3/", "runs/new/?method=advise",
]  # fmt: skip
ADMIN_PAGES = [
    "members/", "import/", "rank/", "history/", "settings/", "messages/", "guidelines/?version=2&against=1",
    "practice/", "practice/1/", "practice/1/result/", "/", "/projects/new/",
]  # fmt: skip


@pytest.fixture
def people() -> dict[str, Membership]:
    """A project with judgements (one against a verifier), snapshots, finished runs, models; its people by role."""
    project = make_project(slug="browser", overlap=3)
    for _number in range(3):
        make_slate(project)
    members = {role: make_member(project, role=role) for role in ("annotator", "admin", "engineer")}
    for role in ("annotator", "admin", "admin"):
        rank_next(members[role])
    lease = claim_slot(members["admin"])
    assert lease is not None
    ask(members["admin"], lease_token=lease.token, text="Do sources count?")
    two = Judgement(tiers=[[0], [1]])
    asked = [{"role": "user", "content": "6 × 7?"}]
    example = add_example(project, messages=asked, responses=["42", "41"], answer=two, explanation="42 is right.")
    answer_example(members["admin"], example=example, judgement=two)
    publish_guidelines(project, text="Rank by how **correct** the response is.")
    snapshot = freeze_trainable(project)
    finish(queue_run(project, method="reward", settings={}, snapshot=snapshot))
    prompts = freeze_snapshot(project, format="prompts", split_seed=snapshot.split_seed, shares=HALVES)
    judge = Model.objects.create(project=project, pk=2, name="judge", kind="reward", location="judge")
    online.finish(queue_run(project, method="ppo", settings={}, snapshot=prompts, reward_model=judge))
    give_advice(project, Evidence(prompts=400, labelled=50, worked=50, trial=HELPS, **CHECKABLE))
    ranking = Ranking.objects.get(annotator=members["annotator"])
    places = ranking.slate.places.order_by("position").values_list("response_id", flat=True)
    make_verdicts(ranking.slate, passed="".join("-" if pk in ranking.tiers[0] else "+" for pk in places))
    start_pipeline(project, name="Two", document=two_stages(snapshot))
    Model.objects.create(project=project, pk=1, name="base", kind="policy", location="smollm2-135m-instruct")
    return members


def two_stages(snapshot: Snapshot) -> dict[str, Any]:
    """A pipeline of two DPO runs with a gate between them."""
    data = f"@snapshot/{snapshot.number}"
    gate = {"metric": "accuracy", "at_least": 0.5}
    return {
        "stages": [
            {"name": "first", "spec": {"method": "dpo", "data": data}, "gate": gate},
            {"name": "second", "spec": {"method": "dpo", "model": "@first", "data": data}},
        ]
    }


def finish(run: Run) -> None:
    now = timezone.now()
    Run.objects.filter(pk=run.pk).update(state="succeeded", report=REPORT, started_at=now, finished_at=now)
    add_metrics(run, range(1, 41))


def add_metrics(run: Run, steps: range) -> None:
    directory = run_directory(run)
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / "metrics.jsonl").open("a") as file:
        for step in steps:
            file.write(json.dumps({"step": step, "time": 0.0, "loss": 1 / step, "accuracy": 0.5 + step / 100}) + "\n")


@pytest.mark.parametrize("language", ["en", "zh-hans"])
def test_axe_finds_nothing_wrong(open_page: OpenPage, people: dict[str, Membership], language: str) -> None:
    """On every page, in light and dark: the one for signing in, the gates before ranking and an amendment are there."""
    ranking = Ranking.objects.filter(annotator=people["annotator"]).get()
    User.objects.update(is_staff=True)
    pages = [(people["engineer"], ENGINEER_PAGES), (people["admin"], ADMIN_PAGES), (people["annotator"], ["", "rank/"])]
    pages += [
        (people["annotator"], [f"rankings/{ranking.pk}/amend/"]),
        (make_member(people["admin"].project), ["rank/"]),
    ]
    found = []
    for member, addresses in pages:
        page = open_page(member.user)
        use_language(page, language)
        for address in addresses:
            page.goto(urljoin("/projects/browser/", address))
            assert page.locator("html").get_attribute("lang") == language
            found += [(address, *problem) for problem in problems_of(page)]
    page.context.clear_cookies(name=settings.SESSION_COOKIE_NAME)
    page.goto("/login/")
    expect(page.locator("[name=password]")).to_be_visible()
    assert [*found, *problems_of(page)] == []


def test_axe_finds_nothing_wrong_with_verdicts_that_are_unfolded(
    open_page: OpenPage, people: dict[str, Membership]
) -> None:
    """In My rankings, and in the box of an amendment."""
    ranking = Ranking.objects.filter(annotator=people["annotator"]).get()
    page = open_page(people["annotator"].user)
    found = []
    for address in ("history/", f"rankings/{ranking.pk}/amend/"):
        page.goto(urljoin("/projects/browser/", address))
        expect(page.locator(".verdicts")).to_be_hidden()
        page.get_by_text("Show verdicts").click()
        expect(page.locator(".verdicts")).to_be_visible()
        expect(page.locator(".verdicts .tag.failed")).to_have_count(1)
        found += problems_of(page)
    assert found == []


def test_axe_finds_nothing_wrong_with_what_a_form_refuses(
    open_page: OpenPage, people: dict[str, Membership], tmp_path: Path
) -> None:
    """An import that names file, line and field; a project without a name; battles of nobody."""
    User.objects.update(is_staff=True)
    broken = tmp_path / "broken.jsonl"
    broken.write_text('{"prompt": 7}\n{"prompt"\n')
    page = open_page(people["admin"].user)
    page.goto("/projects/browser/import/")
    page.locator("[type=file]").set_input_files(broken)
    page.locator("main form button").first.click()
    expect(page.locator("main")).to_contain_text("broken.jsonl")
    found = problems_of(page)
    page.goto("/projects/new/")
    page.locator("[name=name]").evaluate("(field) => { field.form.noValidate = true; }")
    page.locator("main form button").last.click()
    expect(page.locator("main .error").first).to_be_visible()
    found += problems_of(page)
    page.goto("/projects/browser/leaderboard/battles/?first=secret-source-0&second=nobody")
    expect(page.locator("[name=second]")).to_have_value("nobody")
    assert [*found, *problems_of(page)] == []


def problems_of(page: Page) -> list[tuple[str, list[str]]]:
    """What axe finds: its name, and where. In dark the colours are the only difference."""
    violations = Axe().run(page, options=AXE).response["violations"]
    page.emulate_media(color_scheme="dark")
    violations += Axe().run(page, options=COLOURS).response["violations"]
    page.emulate_media(color_scheme="light")
    return [(one["id"], [node["html"][:120] for node in one["nodes"]][:3]) for one in violations]


def use_language(page: Page, language: str) -> None:
    address = page.context.cookies()[0]["domain"]
    page.context.add_cookies(
        [{"name": settings.LANGUAGE_COOKIE_NAME, "value": language, "domain": address, "path": "/"}]
    )


def test_curves_grow_while_the_run_goes_on(open_page: OpenPage, people: dict[str, Membership]) -> None:
    snapshot = people["engineer"].project.snapshots.get(format="trl-preference")
    run = queue_run(people["engineer"].project, method="reward", settings={}, snapshot=snapshot)
    page = open_page(people["engineer"].user)
    page.goto(f"/projects/browser/runs/{run.number}/")
    expect(page.locator("#curves")).to_have_text("The first numbers come after a few steps.")
    later = timezone.now() + timedelta(minutes=5)
    status = {"phase": "training", "step": 7, "total_steps": 40, "eta_seconds": 75}
    Run.objects.filter(pk=run.pk).update(state="running", deadline=later, status=status)
    add_metrics(run, range(1, 8))
    expect(page.locator("#curves canvas")).to_have_count(2)
    expect(page.locator(".curve-title").first).to_contain_text("step 7")
    expect(page.locator("#run-state")).to_contain_text("step 7 of 40")
    expect(page.locator("#run-state")).to_contain_text("1 min 15 s left")
    finish(run)
    expect(page.locator(".figure.huge")).to_have_text("71.0 %")


def test_a_pipelines_page_follows_its_stages(open_page: OpenPage, people: dict[str, Membership]) -> None:
    pipeline = people["engineer"].project.pipelines.get()
    page = open_page(people["engineer"].user)
    page.goto("/projects/browser/pipelines/1/")
    expect(page.locator(".graph .box.queued .name")).to_have_text("1 · first")
    expect(page.locator(".graph .box.waiting .name")).to_have_text("2 · second")
    expect(page.locator(".graph .arrow")).to_have_count(1)
    for name in ("first", "second"):
        run = pipeline.stages.get(name=name).run
        assert run is not None
        finish(run)
        advance_waiting()
        expect(page.locator(".graph .box.succeeded .name")).to_have_count(1 if name == "first" else 2)
    expect(page.locator("#pipeline-state > .state-line .state")).to_have_text("succeeded")
    expect(page.get_by_role("link", name="pipeline-1-second")).to_be_visible()
    page.locator(".graph a").first.click()
    expect(page.locator(".row-note a")).to_have_text("pipeline 1")


def test_the_report_of_a_policy_that_learns_from_its_own_responses_grows_while_it_does(
    open_page: OpenPage, people: dict[str, Membership]
) -> None:
    """And a table that was scrolled stays where it is until there is a new sample."""
    project = people["engineer"].project
    judge, prompts = project.models.get(name="judge"), project.snapshots.get(format="prompts")
    run = queue_run(project, method="rloo", settings={}, snapshot=prompts, reward_model=judge)
    page = open_page(people["engineer"].user, viewport={"width": 390, "height": 844})
    page.goto(f"/projects/browser/runs/{run.number}/")
    live = page.locator("#run-live")
    expect(live).to_contain_text("The first numbers come after the first step")
    later = timezone.now() + timedelta(minutes=5)
    Run.objects.filter(pk=run.pk).update(state="running", deadline=later, status={"warnings": ["KL is far."]})
    online.add_rows(run, range(1, 3), critic=False)
    online.add_samples(run, 0, 1)
    expect(live.locator(".curve-title").first).to_contain_text("0.2 · step 2")
    expect(live.locator(".notice")).to_have_text("KL is far.")
    expect(page.locator("#run-samples")).to_contain_text("Answer 1 <i>at</i> 1.")
    page.locator("#run-samples .scroller").evaluate("(one) => { one.scrollLeft = 100; }")
    online.add_rows(run, range(3, 5), critic=False)
    expect(live.locator(".curve-title").first).to_contain_text("0.4 · step 4")
    page.wait_for_timeout(5500)
    assert page.locator("#run-samples .scroller").evaluate("(one) => one.scrollLeft") == 100
    online.finish(run)
    expect(page.locator(".figure.huge")).to_have_text("1.750")
    expect(page.locator("#run-samples")).to_contain_text("after step 40")


def test_a_phone_needs_no_sideways_scrolling_and_shows_the_section(
    open_page: OpenPage, people: dict[str, Membership]
) -> None:
    page = open_page(people["engineer"].user, viewport={"width": 390, "height": 844})
    for address in [*ENGINEER_PAGES, "models/"]:
        page.goto(f"/projects/browser/{address}")
        assert page.evaluate("document.documentElement.scrollWidth") <= 390, address
    section = page.locator(".sections [aria-current]").bounding_box()
    assert section is not None
    assert section["x"] + section["width"] <= 390


def test_a_field_whose_size_was_changed_by_hand_is_sent_under_the_policy(
    open_page: OpenPage, people: dict[str, Membership]
) -> None:
    """htmx would copy the style of the old field to the new one, which the policy stops; the console stays empty."""
    page = open_page(people["admin"].user)
    complaints: list[str] = []
    page.on("console", lambda message: complaints.append(message.text))
    page.goto("/projects/browser/messages/")
    field = page.locator(".discussion textarea")
    field.evaluate("(one) => { one.style.height = '140px'; }")
    field.fill("And dates?")
    page.locator(".discussion-acts button").first.click()
    expect(page.locator(".discussion .done")).to_have_text("Sent.")
    page.wait_for_timeout(200)
    assert [text for text in complaints if "Content Security Policy" in text] == []


def test_a_phone_has_the_language_and_the_whole_line_above_a_slate(
    open_page: OpenPage, people: dict[str, Membership]
) -> None:
    """With new messages the figures and what is saved stand on a line of their own; tabs say that there are more."""
    page = open_page(people["engineer"].user, viewport={"width": 390, "height": 844})
    page.goto("/projects/browser/")
    page.locator(".language button").click()
    expect(page.locator("html")).to_have_attribute("lang", "zh-hans")
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    page.locator(".language button").click()
    expect(page.locator("html")).to_have_attribute("lang", "en")
    member = people["annotator"]
    lease = claim_slot(member)
    assert lease is not None
    ask(member, lease_token=lease.token, text="Why?")
    answer(people["admin"], slate=lease.slot.slate, annotator=member, text="So.")
    page = open_page(member.user, viewport={"width": 390, "height": 844})
    page.goto("/projects/browser/rank/")
    expect(page.locator(".news")).to_be_visible()
    page.locator(".response.current .tiers label").first.click()
    expect(page.locator("#draft")).to_have_text("draft saved")
    cut = page.locator(".rank-top > *").evaluate_all(
        """all => all.filter((one) => one.checkVisibility() && one.textContent.trim())
          .filter((one) => one.getBoundingClientRect().right > innerWidth || one.scrollWidth > one.clientWidth + 1)
          .map((one) => one.outerHTML)"""
    )
    assert cut == []
    expect(page.locator("#draft")).to_be_visible()
