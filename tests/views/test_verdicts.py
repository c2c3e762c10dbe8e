"""Verdicts on the pages: nothing before judging, chips after it, and the queue of conflicts."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotation.domain.assigning import claim_slot
from annotation.domain.judgement import Judgement
from annotation.domain.practice import add_example_from_ranking
from annotation.domain.ranking import amend_ranking, submit_ranking
from annotation.models import Lease, Membership, Project, Prompt, Ranking, Run, Slate, Verdict
from tests.annotation.factories import make_slate, make_verdicts
from tests.views.conftest import World

JSON = {"Accept": "application/json"}


def url(world: World, name: str, **kwargs: object) -> str:
    return reverse(name, kwargs={"slug": world.project.slug} | kwargs)


@pytest.fixture
def client(world: World) -> Client:
    return world.client("annotator")


@pytest.fixture
def verdicts(world: World) -> None:
    """On all responses: the first of each slate failed, the second passed, and so on; each reason is one of its own."""
    for slate in world.project.slates.all():
        make_verdicts(slate, passed="-+-+")
    for verdict in Verdict.objects.all():
        Verdict.objects.filter(pk=verdict.pk).update(reason=f"zqverdict-{verdict.response_id}-")


@pytest.fixture
def lease(world: World) -> Lease:
    claimed = claim_slot(world.members["annotator"])
    assert claimed is not None
    return claimed


def marks(text: str) -> list[int]:
    """The responses whose verdicts stand in a text, in its order."""
    return [int(pk) for pk in re.findall(r"zqverdict-(\d+)-", text)]


def rank_against(annotator: Membership, *, project: Project) -> Ranking:
    """A fresh slate whose first response failed and is put above the others, which passed."""
    make_verdicts(make_slate(project), passed="-+++")
    lease = claim_slot(annotator)
    assert lease is not None
    first = lease.slot.slate.places.get(position=0).response_id
    rest = [position for position, pk in enumerate(lease.presented_order) if pk != first]
    judgement = Judgement(tiers=[[lease.presented_order.index(first)], rest])
    return submit_ranking(annotator, token=lease.token, judgement=judgement).ranking


def finish_slates(world: World) -> None:
    """Have the annotator rank what is left, so that the next claim is a fresh slate."""
    while (lease := claim_slot(world.members["annotator"])) is not None:
        judgement = Judgement(tiers=[[0, 1, 2, 3]])
        submit_ranking(world.members["annotator"], token=lease.token, judgement=judgement)


def test_nothing_that_is_sent_before_judging_holds_a_verdict(
    world: World, client: Client, lease: Lease, verdicts: None
) -> None:
    """Page, claim, prefetch, refusals, drafts, renewals and the API; one slate has been judged, and two have not."""
    token = {"token": str(lease.token)}
    half = token | {"tier_0": 1}
    draft = token | {"fields": json.dumps({"tier_0": "1"}), "revision": 1}
    slug = {"slug": world.project.slug}
    api = {"content_type": "application/json"}
    answers: list[Any] = [
        client.get(url(world, "rank")),
        client.post(url(world, "rank_claim"), headers=JSON),
        client.post(url(world, "rank_prefetch"), token),
        client.post(url(world, "rank_submit"), half),
        client.post(url(world, "rank_submit"), half, headers=JSON),
        client.post(url(world, "rank_draft"), draft),
        client.post(url(world, "rank_renew"), token),
        client.post(url(world, "rank_preview"), {"text": "6"}),
        client.post(url(world, "rank_skip"), token | {"reason": "x" * 501}, headers=JSON),
        client.get(url(world, "project_detail")),
        client.get(url(world, "message_list")),
        client.get(url(world, "practice_list")),
        client.post(reverse("api_next_slate", kwargs=slug), {}, **api),
        client.post(reverse("api_rankings", kwargs=slug), token | {"tiers": [[0]]}, **api),
    ]
    assert [answer.status_code for answer in answers] == [
        200, 200, 200, 422, 422, 200, 200, 200, 422, 200, 200, 200, 200, 422
    ]  # fmt: skip
    for number, answer in enumerate(answers):
        sent = answer.content.decode() + json.dumps(dict(answer.headers)) + str(answer.cookies)
        assert "zqverdict" not in sent, number
        assert "Show verdicts" not in sent, number
        assert "verdict" not in sent.lower(), number


def test_the_history_shows_verdicts_on_what_was_judged_alone_by_the_letters_of_the_screen(
    world: World, client: Client, lease: Lease, verdicts: None
) -> None:
    body = client.get(url(world, "history")).content.decode()
    assert marks(body) == world.ranking.presented_order
    shown = re.findall(r'<span class="letter num">(\w)</span>\s*<span class="tag (\w+)">', body)
    passed = dict(Verdict.objects.values_list("response", "passed"))
    signs = ["passed" if passed[pk] else "failed" for pk in world.ranking.presented_order]
    assert shown == list(zip("ABCD", signs, strict=True))
    assert sorted(signs) == ["failed", "failed", "passed", "passed"]


def test_an_amendment_shows_verdicts_when_it_is_opened_and_when_it_is_refused(
    world: World, client: Client, verdicts: None
) -> None:
    page = url(world, "ranking_amend", pk=world.ranking.pk)
    opened = client.get(page)
    refused = client.post(page, {"tier_0": 1})
    assert (opened.status_code, refused.status_code) == (200, 422)
    for answer in (opened, refused):
        body = answer.content.decode()
        assert marks(body) == world.ranking.presented_order
        assert body.count("Show verdicts") == 1
        folded = body[body.index('<details class="box judged">') :]
        assert marks(folded[: folded.index("</details>")]) == world.ranking.presented_order


def test_a_project_that_keeps_verdicts_back_shows_annotators_none(world: World, client: Client, verdicts: None) -> None:
    Project.objects.update(show_verdicts=False)
    for name, kwargs in (("history", {}), ("ranking_amend", {"pk": world.ranking.pk})):
        answer = client.get(url(world, name, **kwargs))
        assert answer.status_code == 200
        assert "zqverdict" not in answer.content.decode()
        assert "Show verdicts" not in answer.content.decode()
    prompt = world.ranking.slate.prompt
    assert "zqverdict" in world.client("reviewer").get(url(world, "prompt_detail", pk=prompt.pk)).content.decode()


def test_practice_on_a_judged_slate_shows_no_verdict(world: World, client: Client, verdicts: None) -> None:
    example = add_example_from_ranking(world.ranking, explanation="Because.")
    body = client.get(url(world, "practice_example", number=example.number)).content.decode()
    assert 'id="ranking"' in body
    assert "verdict" not in body.lower()


def test_the_history_costs_the_same_with_more_verdicts(world: World, client: Client, verdicts: None) -> None:
    def count_queries() -> int:
        with CaptureQueriesContext(connection) as queries:
            client.get(url(world, "history"))
        return len(queries)

    count_queries()
    before = count_queries()
    finish_slates(world)
    assert len(marks(client.get(url(world, "history")).content.decode())) == 12
    assert count_queries() == before


def test_the_page_of_a_prompt_says_verdicts_with_their_run(world: World, verdicts: None) -> None:
    prompt = world.ranking.slate.prompt
    body = world.client("reviewer").get(url(world, "prompt_detail", pk=prompt.pk)).content.decode()
    assert sorted(marks(body)) == sorted(world.ranking.presented_order)
    assert body.count('class="tag passed"') == body.count('class="tag failed"') == 2
    assert f'href="{url(world, "run_detail", number=1000)}"' in body
    assert f'<li id="ranking-{world.ranking.pk}">' in body


def test_a_conflict_names_both_responses_their_verdicts_and_who_ranked(world: World) -> None:
    finish_slates(world)
    annotator = world.members["annotator"]
    ranking = rank_against(annotator, project=world.project)
    answer = world.client("reviewer").get(url(world, "conflict_list"))
    body = answer.content.decode()
    (row,) = answer.context["rows"]
    assert row["ranking"] == ranking
    first, second = ranking.slate.responses.order_by("places__position")[:2]
    prompt = url(world, "prompt_detail", pk=ranking.slate.prompt_id)
    for said in (
        ranking.slate.prompt.messages[0]["content"],
        first.text,
        row["conflict"].passed.response.text,
        "found 7, expected 6",
        "found 6",
        f"{annotator.name}",
        f'href="{prompt}#ranking-{ranking.pk}"',
        "2 further pairs",
    ):
        assert said in body, said
    assert row["conflict"].failed.response == first
    assert second in {row["conflict"].passed.response, *ranking.slate.responses.all()}
    assert body.index("found 7, expected 6") < body.index("found 6</span>")


def test_the_queue_and_the_project_page_cost_the_same_with_more_conflicts(world: World) -> None:
    finish_slates(world)
    annotator, client = world.members["annotator"], world.client("reviewer")
    rank_against(annotator, project=world.project)

    def count_queries(name: str) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert client.get(url(world, name)).status_code == 200
        return len(queries)

    names = ("conflict_list", "project_detail")
    first = [count_queries(name) for name in names]
    before = [count_queries(name) for name in names]
    for _number in range(5):
        rank_against(annotator, project=world.project)
    assert len(client.get(url(world, "conflict_list")).context["rows"]) == 6
    assert [count_queries(name) for name in names] == before <= first


def test_conflicts_are_counted_on_the_project_page_and_gone_when_they_are_amended(world: World) -> None:
    finish_slates(world)
    client = world.client("reviewer")
    assert "against a verifier" not in client.get(url(world, "project_detail")).content.decode()
    annotator = world.members["annotator"]
    ranking = rank_against(annotator, project=world.project)
    rank_against(annotator, project=world.project)
    assert "2 judgements against a verifier" in client.get(url(world, "project_detail")).content.decode()
    amend_ranking(annotator, ranking=ranking, judgement=Judgement(tiers=[[0, 1, 2, 3]]))
    assert "1 judgement against a verifier" in client.get(url(world, "project_detail")).content.decode()


def test_the_filters_narrow_the_queue_and_stay_on_the_next_page(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("annotation.views.paging.ROWS_A_PAGE", 1)
    finish_slates(world)
    annotator = world.members["annotator"]
    first, second = (rank_against(annotator, project=world.project) for _number in range(2))
    client, page = world.client("reviewer"), url(world, "conflict_list")

    def found(**query: object) -> list[Ranking]:
        return [row["ranking"] for row in client.get(page, query).context["rows"]]

    assert (found(), found(page=2)) == ([second], [first])
    assert found(kind="math", best="on", annotator=annotator.pk) == [second]
    assert found(text=first.slate.prompt.messages[0]["content"]) == [first]
    assert found(text="nothing of that kind") == []
    body = client.get(page, {"kind": "math"}).content.decode()
    assert 'href="?kind=math&amp;page=2"' in body
    assert "No conflict meets all of these." in client.get(page, {"text": "zq"}).content.decode()


@pytest.mark.parametrize("query", [{"kind": "nonsense"}, {"annotator": "999999"}, {"text": "x" * 201}])
def test_a_filter_that_the_project_has_not_is_refused(world: World, query: dict[str, str]) -> None:
    answer = world.client("reviewer").get(url(world, "conflict_list"), query)
    assert answer.status_code == 422
    assert "rows" in answer.context


def test_an_empty_queue_says_what_will_stand_there_and_how_to_get_it(world: World) -> None:
    said = "Judgements against a verifier will stand here"
    assert said in world.client("reviewer").get(url(world, "conflict_list")).content.decode()
    offered = f'href="{url(world, "run_new")}?method=verify"'
    assert offered in world.client("admin").get(url(world, "conflict_list")).content.decode()
    assert offered not in world.client("reviewer").get(url(world, "conflict_list")).content.decode()


def test_a_verification_is_started_in_the_form_and_its_page_says_what_it_found(world: World) -> None:
    client = world.client("engineer")
    refused = client.post(url(world, "run_new"), {"method": "verify"})
    assert refused.status_code == 422
    assert "No prompt of the project has a verifier" in refused.content.decode()
    Prompt.objects.update(verifier={"kind": "math", "answer": "6"})
    form = client.get(url(world, "run_new"), {"method": "verify"}).content.decode()
    assert "Checks by program every response that has no verdict yet" in form
    assert 'name="reward_model"' in form
    assert 'name="model"' not in form
    assert 'name="base_model"' not in form
    assert client.post(url(world, "run_new"), {"method": "verify"}).status_code == 302
    run = Run.objects.get(method="verify")
    report = {"method": "verify", "passed": 1, "verified": 3, "notes": ["A verifier cannot be run here: zq"]}
    Run.objects.filter(pk=run.pk).update(state="succeeded", report=report)
    make_verdicts(Slate.objects.first(), passed="+--?")
    Verdict.objects.update(run=run)
    body = client.get(url(world, "run_detail", number=run.number)).content.decode()
    assert "1 passed, 2 failed" in body
    assert "A verifier cannot be run here: zq" in body
    assert "Register model" not in body
