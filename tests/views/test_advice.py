"""The page of advice: every way drawn rightly, runs in one click, asking anew; and the same through the API."""

from __future__ import annotations

import html
import re
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from rest_framework.test import APIClient

from annotation.domain.runs import queue_run
from annotation.domain.snapshots import freeze_snapshot
from annotation.models import Project, Prompt, Run
from rewardmodel.advisor import Evidence, Share, advise, draw
from tests.rewardmodel.test_advisor import CHECKABLE, EVERY_WAY, HELPS
from tests.views.conftest import HALVES, World

RFT = Evidence(prompts=400, **CHECKABLE)


def url(world: World, query: str = "") -> str:
    return reverse("advice", kwargs={"slug": world.project.slug}) + query


def report_on(evidence: Evidence) -> dict[str, Any]:
    """What a run of kind advise reports of this evidence."""
    advice = advise(evidence)
    return {
        "method": "advise",
        "data": {"rows": 400, "sha256": "0" * 64, "tried_at_most": 500},
        "model": None,
        "advice": advice.to_dict(),
        "drawing": draw(advice),
    }


def give_advice(project: Project, evidence: Evidence, **request: Any) -> Run:
    """A run for advice that found this evidence."""
    run = queue_run(project, method="advise", settings={}, **request)
    now = timezone.now()
    Run.objects.filter(pk=run.pk).update(state="succeeded", report=report_on(evidence), started_at=now, finished_at=now)
    run.refresh_from_db()
    return run


def read(world: World, query: str = "") -> str:
    answer = world.client("engineer").get(url(world, query))
    assert answer.status_code == 200
    return html.unescape(answer.content.decode())


def text_of(fragment: str) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", fragment).split())


@EVERY_WAY
def test_every_way_is_said_and_drawn(world: World, known: dict[str, Any], method: str, path: list[str]) -> None:
    """The way as a sentence; in the drawing a taken branch a step, one taken end, and the questions beside it muted."""
    evidence = Evidence(prompts=400, **known)
    give_advice(world.project, evidence)
    page = read(world)
    steps = advise(evidence).path
    way = re.search(r'<p class="way">(.*?)</p>', page, re.DOTALL)
    assert way is not None
    said = " ".join(f"{step.question} {step.answer} →" for step in steps)
    assert text_of(way[1]) == f"{said} {method.upper()}"
    assert re.search(r'<p class="figure huge">(\w+)</p>', page)[1] == method.upper()  # type: ignore[index]
    drawn = page[page.index('<div class="decision"') : page.index("What it rests on")]
    assert len(re.findall(r'class="branch taken[^"]*"', drawn)) == len(path)
    ends = re.findall(r'<p class="end">(.*?)</p>', drawn, re.DOTALL)
    assert sorted(map(text_of, ends)) == sorted([f"{method.upper()} advised", *others(method)])
    assert len(re.findall(r'class="asked"', drawn)) == len(path)
    assert len(re.findall(r'class="asked unasked"', drawn)) == 6 - len(path)
    for step in steps:
        for sentence in step.because:
            assert str(sentence) in drawn
    assert "yes above 100,000 rows" in drawn


def others(method: str) -> list[str]:
    """The seven ends of the tree without one of the advised method."""
    ends = ["RFT", "RFT", "RLHF", "SFT", "SFT", "SFT", "SFT"]
    ends.remove(method.upper())
    return ends


def test_the_page_says_what_it_rests_on_and_what_would_change_it(world: World) -> None:
    """30 of 40 is 75 %, Wilson's interval 59.8 % to 85.8 %. All prompts were counted, so that their share has none."""
    found = Evidence(prompts=400, labelled=4, preferences=20, checked=Share(380, 400), agreement=Share(30, 40))
    give_advice(world.project, found)
    page = read(world)
    rows = [text_of(row) for row in re.findall(r"<tr[^>]*>(.*?)</tr>", page, re.DOTALL)]
    assert "prompts 400 –" in rows
    assert "comparisons by people 20 –" in rows
    assert "prompts with a verifier 380 of 400 –" in rows
    assert "pairs judged more than once on which all agree 30 of 40 59.8 % – 85.8 %" in rows
    assert not [row for row in rows if row.startswith("right answers that their verifier accepts")]
    assert "right answers to try the verifiers on" in page
    assert "6 more rows with right answers would count as labels" in page
    assert "Not certain" in page
    assert page.count('<span class="tag">not certain</span>') == 1


def test_a_trial_stands_among_the_evidence(world: World) -> None:
    give_advice(world.project, Evidence(prompts=400, labelled=50, trial=HELPS, preferences=600, **CHECKABLE))
    rows = [text_of(row) for row in re.findall(r"<tr[^>]*>(.*?)</tr>", read(world), re.DOTALL)]
    assert "right more often thinking aloud, on 64 prompts 31.2 % 20.0 % – 42.0 %" in rows
    assert "Afterwards: RLHF" in text_of(read(world))


def test_without_advice_the_page_says_what_will_stand_there(world: World) -> None:
    page = read(world)
    assert "The advice will stand here" in page
    assert "Ask for advice" in page
    assert '<div class="decision"' not in page


def test_one_click_fills_the_form_of_a_run(world: World) -> None:
    """The snapshot, the model that was tried, and how long its answers may be."""
    Prompt.objects.update(verifier={"kind": "math", "answer": "1"})
    freeze_snapshot(world.project, format="prompts", split_seed=split_of_world(world), shares=HALVES)
    run = give_advice(world.project, RFT, base_model=world.model)
    Run.objects.filter(pk=run.pk).update(spec={"max_new_tokens": 99})
    link = button(read(world))
    assert link[1] == "Fill in a run: rejection sampling, snapshot 2"
    assert parse_qs(urlsplit(link[0]).query) == {
        "method": ["rejection"], "snapshot": ["2"], "base_model": [str(world.model.pk)], "response_tokens": ["99"],
    }  # fmt: skip
    form = world.client("engineer").get(link[0]).content.decode()
    assert re.search(r'name="response_tokens" value="99"', form)
    assert f'<option value="{world.model.pk}" selected>' in form
    assert '<option value="2" selected>' in form


def split_of_world(world: World) -> int:
    return int(world.snapshot.manifest["split"]["seed"])


def button(page: str) -> tuple[str, str]:
    """Address and words of the first button in the row of runs to start."""
    found = re.search(r'<a class="button primary" href="([^"]+)">(.*?)</a>', page[page.index('class="acts-row"') :])
    assert found is not None
    return found[1], found[2]


def test_where_the_snapshot_is_missing_the_link_makes_one(world: World) -> None:
    Prompt.objects.update(reference="42")
    give_advice(world.project, Evidence(prompts=400, labelled=50))
    link, words = button(read(world))
    assert (link, words) == (
        "/projects/circle/snapshots/?format=references", "Freeze a snapshot first: Right answers (references)",
    )  # fmt: skip
    assert '<option value="references" selected>' in world.client("engineer").get(link).content.decode()


def test_rlhf_begins_with_dpo_or_a_reward_model_on_pairs(world: World) -> None:
    give_advice(world.project, Evidence(prompts=3, preferences=12))
    page = read(world)
    links = [parse_qs(urlsplit(link).query) for link in re.findall(r'href="([^"]*runs/new/[^"]*)"', page)]
    assert links == [{"method": ["dpo"], "snapshot": ["1"]}, {"method": ["reward"], "snapshot": ["1"]}]
    assert "There are 12 comparisons; a reward model needs 500 or more." in page


def test_asking_queues_a_run_and_the_page_waits_for_it(world: World) -> None:
    client = world.client("engineer")
    answer = client.post(url(world), {"some": "5", "checkable": "0.8", "many": ""})
    assert (answer.status_code, answer.headers["Location"]) == (302, url(world))
    run = Run.objects.get(method="advise")
    assert (run.state, run.spec, run.created_by) == ("queued", {"some": 5, "checkable": 0.8}, world.user("engineer"))
    page = read(world)
    assert f'hx-get="/projects/circle/runs/{run.number}/state/"' in page
    assert "Ask for advice" not in page


def test_what_cannot_be_asked_is_said_in_the_form(world: World) -> None:
    answer = world.client("engineer").post(url(world), {"model": "some/model"})
    assert answer.status_code == 422
    assert "A trial of thinking aloud needs 2 prompts with verifiers at least." in answer.content.decode()
    assert world.client("engineer").post(url(world), {"checkable": "3"}).status_code == 422
    assert not Run.objects.filter(method="advise").exists()


def test_a_failed_request_is_shown_above_the_advice_that_stands(world: World) -> None:
    give_advice(world.project, RFT)
    failed = queue_run(world.project, method="advise", settings={})
    Run.objects.filter(pk=failed.pk).update(state="failed", error="No sandbox <here>.")
    page = read(world)
    assert page.index("No sandbox <here>.") < page.index('<p class="figure huge">RFT</p>')
    assert "Ask anew" in page


def test_earlier_advice_is_listed_and_can_be_read(world: World) -> None:
    first, second = give_advice(world.project, RFT), give_advice(world.project, Evidence(prompts=3))
    assert '<p class="figure huge">RLHF</p>' in read(world)
    assert f"?run={first.number}" in read(world)
    assert '<p class="figure huge">RFT</p>' in read(world, f"?run={first.number}")
    assert '<p class="figure huge">RLHF</p>' in read(world, f"?run={second.number}")


@pytest.mark.parametrize("number", ["1", "999999", "nonsense", "-1", "9" * 30])
def test_a_run_that_gave_no_advice_is_not_found(world: World, number: str) -> None:
    """Run 1 is a training."""
    assert world.client("engineer").get(url(world, f"?run={number}")).status_code == 404


def test_the_page_of_the_run_leads_to_its_advice_and_registers_no_model(world: World) -> None:
    run = give_advice(world.project, RFT)
    page = world.client("engineer").get(reverse("run_detail", args=["circle", run.number])).content.decode()
    assert f'href="/projects/circle/advice/?run={run.number}"' in page
    assert "Register model" not in page
    assert "Which method fits?" in world.client("engineer").get(reverse("run_list", args=["circle"])).content.decode()


def test_only_who_may_train_is_led_to_the_advice(world: World) -> None:
    address = reverse("project_detail", args=["circle"])
    assert url(world) in world.client("engineer").get(address).content.decode()
    assert url(world) not in world.client("reviewer").get(address).content.decode()


def test_the_query_count_does_not_grow_with_advice_models_or_snapshots(world: World) -> None:
    give_advice(world.project, RFT)
    give_advice(world.project, RFT)
    client = world.client("engineer")

    def count_queries() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(url(world)).status_code == 200
        return len(queries)

    count_queries()
    before = count_queries()
    for _number in range(4):
        give_advice(world.project, RFT, created_by=world.user("engineer"))
        freeze_snapshot(world.project, format="rankings")
    assert count_queries() == before


def test_the_api_gives_the_newest_advice_and_takes_requests(world: World) -> None:
    client = APIClient()
    client.force_authenticate(world.user("engineer"))
    address = "/api/v1/projects/circle/advice/"
    assert client.get(address).status_code == 404
    give_advice(world.project, Evidence(prompts=3))
    newest = give_advice(world.project, RFT)
    asked = client.post(address, {"settings": {"few": 7}}, format="json")
    assert (asked.status_code, asked.json()["method"], asked.json()["spec"]) == (201, "advise", {"few": 7})
    said = client.get(address).json()
    assert (said["number"], said["report"]["advice"]["method"]) == (newest.number, "rft")
    assert said["report"]["drawing"] == report_on(RFT)["drawing"]
    refused = client.post(address, {"settings": {"few": 0}}, format="json")
    assert (refused.status_code, refused.json()) == (422, {"problems": ["few: must be at least 1, got 0"]})
    with_policy = client.post(address, {"base_model": "base"}, format="json")
    assert "needs 2 prompts with verifiers" in with_policy.json()["problems"][0]
    assert client.post(address, {"base_model": "nobody"}, format="json").status_code == 404
    assert client.post(address, {"settings": 5}, format="json").status_code == 400
