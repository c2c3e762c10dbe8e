"""The ranking page as a form: what it shows, what it stores, what it hides."""

from __future__ import annotations

import json
import re
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db.models import Value
from django.db.models.functions import Concat
from django.test import Client
from django.urls import reverse
from django.utils import timezone

from annotation.api.urls import urlpatterns as api_patterns
from annotation.domain.assigning import claim_slot, live_lease
from annotation.domain.projects import publish_guidelines
from annotation.domain.ranking import amendment_token
from annotation.models import Lease, Model, Project, Prompt, Ranking, Response, Run, Skip, Slate, Slot
from annotation.rules import ACTIONS
from annotation.views.ranking import progress_text
from tests.annotation.factories import make_member, make_project
from tests.views.conftest import World
from tests.views.test_access import CASES, NEEDS_A_LEASE, ROWS, address

JSON = {"Accept": "application/json"}


def url(world: World, name: str, **kwargs: object) -> str:
    return reverse(name, kwargs={"slug": world.project.slug} | kwargs)


@pytest.fixture
def lease(world: World) -> Lease:
    claimed = claim_slot(world.members["annotator"])
    assert claimed is not None
    return claimed


@pytest.fixture
def client(world: World) -> Client:
    return world.client("annotator")


def fields(lease: Lease, *tiers: int | str, **more: object) -> dict[str, object]:
    placed: dict[str, object] = {f"tier_{i}": tier for i, tier in enumerate(tiers)}
    return {"token": str(lease.token), **placed, **more}


def test_looking_takes_no_slate(world: World, client: Client) -> None:
    body = client.get(url(world, "rank")).content.decode()
    assert "Start ranking" in body
    assert live_lease(world.members["annotator"]) is None
    assert client.post(url(world, "rank_claim")).headers["Location"] == url(world, "rank")
    assert 'id="ranking"' in client.get(url(world, "rank")).content.decode()


def test_a_ranking_with_ties_is_stored_in_the_presented_order(world: World, client: Client, lease: Lease) -> None:
    """On screen A=2, B=1, C=2, D=4: tiers {B}, {A, C}, {D}; the empty tier 3 is closed up."""
    answer = client.post(url(world, "rank_submit"), fields(lease, 2, 1, 2, 4, rationale="B adds up.", active_ms=9000))
    assert answer.status_code == 302
    ranking = Ranking.objects.get(token=lease.token)
    a, b, c, d = lease.presented_order
    assert ranking.tiers == [[b], sorted([a, c]), [d]]
    assert (ranking.rationale, ranking.active_ms, ranking.all_bad) == ("B adds up.", 9000, False)
    assert live_lease(world.members["annotator"]) is not None  # the form goes on with the next slate


def test_what_is_missing_is_named_and_everything_entered_is_kept(world: World, client: Client, lease: Lease) -> None:
    answer = client.post(url(world, "rank_submit"), fields(lease, 1, "", 2, "", rationale="<b>kept</b>"))
    body = answer.content.decode()
    assert answer.status_code == 422
    assert "Responses B, D are not placed." in body
    assert "&lt;b&gt;kept&lt;/b&gt;" in body
    checked = re.findall(r'name="(tier_\d)" value="(\d?)" checked', body)
    assert checked == [("tier_0", "1"), ("tier_1", ""), ("tier_2", "2"), ("tier_3", "")]
    assert not Ranking.objects.filter(token=lease.token).exists()


def test_a_refused_plain_form_says_corrected_only_of_what_was_corrected_and_keeps_the_message_box(
    world: World, client: Client, lease: Lease
) -> None:
    """Without a script the form sends a correction of every response, with CR LF: here B's alone differs."""
    Response.objects.update(text="One.\nTwo.")
    corrections = {f"correction_{position}": "One.\r\nTwo." for position in range(4)}
    sent = fields(lease, 1, "", 2, "", **corrections | {"correction_1": "One.\r\nThree."})
    for route in (url(world, "rank_submit"), url(world, "ranking_amend", pk=world.ranking.pk)):
        answer = client.post(route, sent)
        body = answer.content.decode()
        assert answer.status_code == 422
        assert re.findall(r"data-corrected( hidden)?>", body) == [" hidden", "", " hidden", " hidden"]
        assert "Three." in body
        assert 'id="message-form"' in body


def test_a_page_with_nothing_to_rank_says_what_is_coming_and_offers_only_what_is_there(
    world: World, client: Client
) -> None:
    """The run in the fixture trains; a generation that is queued or running brings something to rank."""
    Slate.objects.all().update(project=make_project())
    nothing, coming = "Nothing is left for you to rank.", "Responses are being written."
    body = client.get(url(world, "rank")).content.decode()
    assert (nothing in body, coming in body, "See what you ranked" in body) == (True, False, True)
    assert "See what you ranked" not in world.client("reviewer").get(url(world, "rank")).content.decode()
    for state, is_coming in [("queued", True), ("running", True), ("succeeded", False), ("failed", False)]:
        Run.objects.update(method="generate", state=state, deadline=timezone.now())
        body = client.get(url(world, "rank")).content.decode()
        assert (nothing in body, coming in body) == (not is_coming, is_coming)
        overview = client.get(url(world, "project_detail")).content.decode()
        assert ("responses are being written" in overview) is is_coming


def test_a_system_turn_too_heavy_to_render_says_so(world: World, client: Client, lease: Lease) -> None:
    note = "Shown as plain text: it is too heavy to render."
    prompt = lease.slot.slate.prompt
    for content, times in [("Be brief.", 0), ("> " * 5000 + "x", 1)]:
        prompt.messages = [{"role": "system", "content": content}, {"role": "user", "content": "How many?"}]
        prompt.save()
        assert client.get(url(world, "rank")).content.decode().count(note) == times


def test_invisible_marks_in_scales_are_made_visible(world: World, client: Client, lease: Lease) -> None:
    Project.objects.update(scales=[{"name": "Tone\u202e", "points": {"1": "low\u202e", "2": "", "3": "high\u202e"}}])
    body = client.get(url(world, "rank")).content.decode()
    assert "\u202e" not in body
    for shown in ('data-name="Tone⟦RLO⟧"', 'title="low⟦RLO⟧"', "low⟦RLO⟧ – high⟦RLO⟧"):
        assert shown in body


def test_the_form_says_what_its_script_needs_to_check_an_answer_offline(
    world: World, client: Client, lease: Lease
) -> None:
    Project.objects.update(rationale="required", rationale_min=12)
    body = client.get(url(world, "rank")).content.decode()
    assert 'data-fewest="12"' in body
    assert 'data-all-bad-order="whole-or-none"' in body


def test_a_tier_that_is_no_tier_is_refused(world: World, client: Client, lease: Lease) -> None:
    assert client.post(url(world, "rank_submit"), fields(lease, 1, 2, 3, 77)).status_code == 422
    assert not Ranking.objects.filter(token=lease.token).exists()


def test_all_bad_needs_no_order(world: World, client: Client, lease: Lease) -> None:
    client.post(url(world, "rank_submit"), fields(lease, "", "", "", "", all_bad="on"))
    ranking = Ranking.objects.get(token=lease.token)
    assert (ranking.all_bad, ranking.tiers) == (True, [])


def test_a_double_click_is_answered_twice_and_stored_once(world: World, client: Client, lease: Lease) -> None:
    answers = [
        client.post(url(world, "rank_submit"), fields(lease, 1, 2, 3, 4), headers=JSON).json() for _click in range(2)
    ]
    kept = {"saved": True, "progress": answers[0]["progress"], "next": None, "rest": False}
    assert answers[0] == answers[1] == kept
    assert Ranking.objects.filter(token=lease.token).count() == 1


def test_refusals_and_progress_come_as_json_too(world: World, client: Client, lease: Lease) -> None:
    refused = client.post(url(world, "rank_submit"), fields(lease, 1, 2, 3, ""), headers=JSON)
    assert (refused.status_code, refused.json()) == (422, {"problems": ["Response D is not placed."]})
    saved = client.post(url(world, "rank_submit"), fields(lease, 1, 2, 3, 4, active_ms=43_000), headers=JSON)
    assert saved.json()["progress"] == "2 today · median 42 s · 1 left"  # 41 s in the fixture, 43 s here


@pytest.mark.parametrize("token", ["", "nonsense", "7c9e6679-7425-40de-944b-e07fc1f90ae7"])
def test_an_unknown_lease_is_not_found(world: World, client: Client, token: str) -> None:
    for name in ("rank_submit", "rank_skip", "rank_prefetch", "rank_renew"):
        assert client.post(url(world, name), {"token": token}).status_code == 404


def test_somebody_elses_lease_is_not_found(world: World, lease: Lease) -> None:
    other = world.client("reviewer")
    assert other.post(url(world, "rank_submit"), fields(lease, 1, 2, 3, 4)).status_code == 404
    assert not Ranking.objects.filter(token=lease.token).exists()


def test_the_next_slate_is_fetched_ahead_once(world: World, client: Client, lease: Lease) -> None:
    """Three slates, one ranked in the fixture, one on screen: one is left, and then none."""
    first = client.post(url(world, "rank_prefetch"), {"token": str(lease.token)})
    again = client.post(url(world, "rank_prefetch"), {"token": str(lease.token)})
    token = re.search(r'name="token" value="([^"]+)"', first.content.decode())
    assert token
    assert token[1] in again.content.decode()
    assert token[1] != str(lease.token)
    client.post(url(world, "rank_submit"), fields(lease, 1, 2, 3, 4), headers=JSON)
    assert client.post(url(world, "rank_prefetch"), {"token": token[1]}).status_code == 204


def test_a_skipped_slate_is_not_offered_again(world: World, client: Client, lease: Lease) -> None:
    client.post(url(world, "rank_skip"), {"token": str(lease.token), "reason": "not my language"})
    skip = Skip.objects.get()
    assert (skip.slate, skip.reason) == (lease.slot.slate, "not my language")
    following = live_lease(world.members["annotator"])
    assert following is not None
    assert following.slot.slate != lease.slot.slate


def test_a_reason_too_long_skips_nothing_and_is_said_in_either_form(world: World, client: Client, lease: Lease) -> None:
    data = {"token": str(lease.token), "reason": "x" * 501}
    said = "A reason may be 500 characters long; nothing was skipped."
    refused = client.post(url(world, "rank_skip"), data, headers=JSON)
    assert (refused.status_code, refused.json()) == (422, {"problems": [said]})
    assert said in client.post(url(world, "rank_skip"), data, follow=True).content.decode()
    assert not Skip.objects.exists()
    assert live_lease(world.members["annotator"]) == lease


def test_a_lease_is_held_for_longer_until_somebody_else_has_the_slate(
    world: World, client: Client, lease: Lease
) -> None:
    """One minute is left of the lease, which is renewed to the whole half hour; then it lapses and another takes it."""
    slot = Slot.objects.get(token=lease.token)
    Slot.objects.filter(pk=slot.pk).update(deadline=timezone.now() + timedelta(minutes=1))
    asked = {"token": str(lease.token)}
    assert client.post(url(world, "rank_renew"), asked).json() == {"held": True}
    deadline = Slot.objects.get(pk=slot.pk).deadline
    assert deadline is not None
    assert timedelta(minutes=29) < deadline - timezone.now() <= timedelta(minutes=30)

    taken = {"token": uuid4(), "annotator": world.members["reviewer"], "deadline": deadline}
    Slot.objects.filter(pk=slot.pk).update(**taken)
    assert client.post(url(world, "rank_renew"), asked).json() == {"held": False}
    assert Slot.objects.get(pk=slot.pk).token == taken["token"]
    assert world.client("reviewer").post(url(world, "rank_renew"), asked).status_code == 404


def keep_draft(world: World, client: Client, token: object, **fields: object) -> Any:
    data = {"token": str(token), "revision": "7", "fields": json.dumps(fields)}
    return client.post(url(world, "rank_draft"), data)


def test_a_draft_comes_back_in_the_form_after_signing_in_again(world: World, client: Client, lease: Lease) -> None:
    kept = keep_draft(
        world, client, lease.token, tier_0="3", tier_1="9", flag_2=["unsafe"], flag_3=["none such"], rationale="half"
    )
    assert kept.json() == {"saved": True}
    client.logout()
    assert keep_draft(world, client, lease.token, tier_0="1").status_code == 302
    body = world.client("annotator").get(url(world, "rank")).content.decode()
    chosen = re.findall(r'name="(tier_\d)" value="(\d)" checked', body)
    assert chosen == [("tier_0", "3")]  # what is no tier of this slate is left out
    assert re.findall(r'name="(flag_\d)" value="([^"]+)"[^>]* checked', body) == [("flag_2", "unsafe")]
    assert "half" in body


def test_a_draft_is_there_again_when_the_lease_has_lapsed_and_one_starts_anew(
    world: World, client: Client, lease: Lease
) -> None:
    keep_draft(world, client, lease.token, tier_0="3", rationale="half")
    Slot.objects.filter(token=lease.token).update(deadline=timezone.now() - timedelta(seconds=1))
    assert "Start ranking" in client.get(url(world, "rank")).content.decode()
    body = client.post(url(world, "rank_claim"), follow=True).content.decode()
    assert f'name="token" value="{lease.token}"' in body
    assert re.findall(r'name="(tier_\d)" value="(\d)" checked', body) == [("tier_0", "3")]
    assert "half" in body


def test_a_draft_whose_slate_went_to_others_is_offered_and_taken_all_the_same(
    world: World, client: Client, lease: Lease
) -> None:
    """Every slot is done by others: the start page opens the slate as it was left, and takes what is submitted."""
    keep_draft(world, client, lease.token, tier_0="3", rationale="half")
    kept = f"{url(world, 'rank')}?kept={lease.token}"
    assert kept not in client.get(url(world, "rank")).content.decode()
    Slot.objects.filter(token=lease.token).update(state=Slot.State.FREE, annotator=None, token=None, deadline=None)
    for slot in Slot.objects.filter(slate=lease.slot.slate, state=Slot.State.FREE):
        Slot.objects.filter(pk=slot.pk).update(state=Slot.State.DONE, annotator=make_member(slot.slate.project))
    start = client.get(url(world, "rank")).content.decode()
    assert kept in start
    assert f"Open “{str(lease.slot.slate.prompt.messages[-1]['content'])[:20]}" in start
    assert "1 slate begun earlier" in client.get(reverse("project_list")).content.decode()
    body = client.get(kept).content.decode()
    assert f'name="token" value="{lease.token}"' in body
    assert "half" in body
    assert kept not in body
    answer = client.post(url(world, "rank_submit"), fields(lease, 1, 2, 3, 4))
    assert answer.status_code == 302
    assert Slot.objects.get(token=lease.token).is_extra
    assert kept not in client.get(url(world, "rank")).content.decode()
    assert_goes_to_rank(client.get(kept), world=world)
    assert_goes_to_rank(world.client("reviewer").get(kept), world=world)
    assert "begun earlier" not in client.get(reverse("project_list")).content.decode()


def test_a_renewed_slate_is_still_the_one_to_come_back_to(world: World, client: Client, lease: Lease) -> None:
    """The slate fetched ahead is not renewed, so that its deadline is the nearer; what was begun comes first."""
    ahead = claim_slot(world.members["annotator"], beside=lease.token)
    assert ahead is not None
    client.post(url(world, "rank_renew"), {"token": str(lease.token)})
    assert f'name="token" value="{lease.token}"' in client.get(url(world, "rank")).content.decode()
    keep_draft(world, client, ahead.token, tier_0="3")
    assert f'name="token" value="{ahead.token}"' in client.get(url(world, "rank")).content.decode()


def assert_goes_to_rank(answer: Any, *, world: World) -> None:
    assert (answer.status_code, answer.url) == (302, url(world, "rank"))


def test_a_kept_draft_is_offered_beside_the_slate_that_is_held(world: World, client: Client, lease: Lease) -> None:
    """It stays on screen when the page is loaded again, and the held slate comes after it."""
    gone, held = lease, claim_slot(world.members["annotator"], beside=lease.token)
    assert held is not None
    keep_draft(world, client, gone.token, tier_0="3", rationale="half")
    Slot.objects.filter(token=gone.token).update(state=Slot.State.FREE, annotator=None, token=None, deadline=None)
    for slot in Slot.objects.filter(slate=gone.slot.slate, state=Slot.State.FREE):
        Slot.objects.filter(pk=slot.pk).update(state=Slot.State.DONE, annotator=make_member(slot.slate.project))
    kept = f"{url(world, 'rank')}?kept={gone.token}"
    body = client.get(url(world, "rank")).content.decode()
    assert f'name="token" value="{held.token}"' in body
    assert kept in body
    for _load in range(2):
        body = client.get(kept).content.decode()
        assert f'name="token" value="{gone.token}"' in body
        assert "half" in body
    assert client.post(url(world, "rank_submit"), fields(gone, 1, 2, 3, 4)).status_code == 302
    assert f'name="token" value="{held.token}"' in client.get(url(world, "rank")).content.decode()


def test_somebody_elses_draft_is_not_shown(world: World, client: Client, lease: Lease) -> None:
    keep_draft(world, world.client("reviewer"), lease.token, rationale="of the reviewer")
    assert "of the reviewer" not in client.get(url(world, "rank")).content.decode()


@pytest.mark.parametrize(
    "data",
    [
        {"fields": "[]", "revision": "1"},
        {"fields": "{", "revision": "1"},
        {"fields": "{}", "revision": "-1"},
        {"fields": "{}", "revision": "x"},
        {"fields": "[" * 100_000, "revision": "1"},
        {"fields": '{"rationale": "a\\u0000b"}', "revision": "1"},
        {},
    ],
)
def test_what_is_no_draft_is_refused(world: World, client: Client, lease: Lease, data: dict[str, str]) -> None:
    assert client.post(url(world, "rank_draft"), data | {"token": str(lease.token)}).status_code == 400
    assert client.post(url(world, "rank_draft"), data | {"token": "nonsense"}).status_code == 404


def test_a_draft_of_an_amendment_comes_back_too(world: World, client: Client) -> None:
    address = url(world, "ranking_amend", pk=world.ranking.pk)
    token = re.search(r'name="token" value="([^"]+)"', client.get(address).content.decode())
    assert token
    keep_draft(world, client, token[1], tier_0="4", tier_1="1", tier_2="1", tier_3="1")
    assert 'name="tier_0" value="4" checked' in client.get(address).content.decode()


def test_a_preview_is_rendered_like_a_response(world: World, client: Client) -> None:
    body = client.post(url(world, "rank_preview"), {"text": "**bold** <script>alert(1)</script>"}).content.decode()
    assert "<strong>bold</strong>" in body
    assert "<script" not in body


def test_guidelines_that_changed_come_before_the_next_slate(world: World, client: Client, lease: Lease) -> None:
    """The annotator has read version 1; version 2 is published while a slate is on screen."""
    client.post(url(world, "rank_claim"), {"guidelines": "1"})
    publish_guidelines(world.project, text="Rank by how short it is.")
    assert client.post(url(world, "rank_prefetch"), {"token": str(lease.token)}).status_code == 204
    said = client.post(url(world, "rank_submit"), fields(lease, 1, 2, 3, 4), headers=JSON).json()
    assert said["next"] == url(world, "rank")
    ranking = Ranking.objects.get(token=lease.token)
    assert ranking.guidelines is not None
    assert ranking.guidelines.version == 1  # what they had read when they judged
    assert client.post(url(world, "rank_claim"), headers=JSON).status_code == 204
    body = client.get(url(world, "rank")).content.decode()
    assert "What changed in version 2" in body
    assert 'name="token"' not in body
    assert client.post(url(world, "rank_claim"), {"guidelines": "2"}).status_code == 302
    assert 'id="ranking"' in client.get(url(world, "rank")).content.decode()
    assert client.post(url(world, "rank_claim"), {"guidelines": "77"}).status_code == 404
    assert client.post(url(world, "rank_claim"), {"guidelines": "x"}).status_code == 404


def test_a_break_is_offered_after_as_many_slates_as_the_project_says(
    world: World, client: Client, lease: Lease
) -> None:
    """One was ranked in the fixture: with a break after 2, this one is followed by it and the next is not."""
    Project.objects.update(break_after=2)
    assert client.post(url(world, "rank_submit"), fields(lease, 1, 2, 3, 4), headers=JSON).json()["rest"] is True
    following = claim_slot(world.members["annotator"])
    assert following is not None
    answer = client.post(url(world, "rank_submit"), fields(following, 1, 2, 3, 4), headers=JSON)
    assert answer.json()["rest"] is False


def test_undo_opens_the_last_ranking_for_amendment(world: World, client: Client) -> None:
    answer = client.post(url(world, "rank_undo"))
    assert answer.headers["Location"] == url(world, "ranking_amend", pk=world.ranking.pk)
    body = client.get(answer.headers["Location"]).content.decode()
    checked = re.findall(r'name="(tier_\d)" value="(\d?)" checked', body)
    assert checked == [("tier_0", "1"), ("tier_1", "2"), ("tier_2", "2"), ("tier_3", "3")]
    assert world.client("reviewer").post(url(world, "rank_undo")).headers["Location"] == url(world, "rank")


def test_an_amendment_supersedes_and_is_stored_once(world: World, client: Client) -> None:
    address = url(world, "ranking_amend", pk=world.ranking.pk)
    token = re.search(r'name="token" value="([^"]+)"', client.get(address).content.decode())
    assert token
    data = {"token": token[1], "tier_0": 4, "tier_1": 3, "tier_2": 2, "tier_3": 1}
    for _click in range(2):
        assert client.post(address, data).headers["Location"] == url(world, "rank")
        assert client.post(address, data, headers=JSON).json()["saved"] is True
    amended = Ranking.objects.get(token=UUID(token[1]))
    a, b, c, d = world.ranking.presented_order
    assert (amended.tiers, amended.supersedes) == ([[d], [c], [b], [a]], world.ranking)
    assert Ranking.objects.filter(annotator=world.members["annotator"]).count() == 2


def test_another_amendment_of_an_amended_version_is_refused_and_its_page_leads_to_the_current_one(
    world: World, client: Client
) -> None:
    address, tiers = url(world, "ranking_amend", pk=world.ranking.pk), [f"tier_{position}" for position in range(4)]
    client.post(address, dict(zip(tiers, [4, 3, 2, 1], strict=True)))
    said = "A newer version of this ranking exists already; open it first."
    other = client.post(address, dict(zip(tiers, [1, 1, 1, 1], strict=True)), headers=JSON)
    assert (other.status_code, other.json()) == (422, {"problems": [said]})
    current = Ranking.objects.get(supersedes=world.ranking)
    client.post(url(world, "ranking_amend", pk=current.pk), dict(zip(tiers, [1, 1, 1, 1], strict=True)))
    newest = Ranking.objects.get(supersedes=current)
    answer = client.get(address)
    assert (answer.status_code, answer.headers["Location"]) == (302, url(world, "ranking_amend", pk=newest.pk))
    assert world.client("admin").get(address).status_code == 404  # it is the annotator's alone


def test_a_ranking_too_old_to_amend_is_not_opened_and_the_page_says_why(world: World, client: Client) -> None:
    """A retry of an amendment that was stored in time is answered all the same."""
    address = url(world, "ranking_amend", pk=world.ranking.pk)
    data = {"tier_0": 4, "tier_1": 3, "tier_2": 2, "tier_3": 1}
    client.post(address, data)
    Project.objects.update(amend_minutes=0)
    said = "This ranking can no longer be amended: the project&#x27;s time for that is over."
    for answer in (client.post(url(world, "rank_undo"), follow=True), client.get(address, follow=True)):
        assert answer.redirect_chain[-1][0] == url(world, "history")
        body = answer.content.decode()
        assert said in body
        assert "final" in body
    assert client.post(address, data, headers=JSON).status_code == 200
    newest = Ranking.objects.get(supersedes=world.ranking)
    refused = client.post(url(world, "ranking_amend", pk=newest.pk), data | {"tier_0": 1}, headers=JSON)
    assert refused.status_code == 422


def test_an_incomplete_amendment_is_kept_on_the_page(world: World, client: Client) -> None:
    address = url(world, "ranking_amend", pk=world.ranking.pk)
    answer = client.post(address, {"tier_0": 1, "rationale": "half"})
    body = answer.content.decode()
    assert answer.status_code == 422
    assert str(amendment_token(world.ranking)) in body
    assert f'action="{address}"' in body
    assert "half" in body


def mark_sources(world: World) -> None:
    """Everything that could tell where a response came from becomes a string with "zqmark" in it."""
    Model.objects.update(name=Concat(Value("zqmark-model-"), "name"), location="zqmark-location")
    for response in Response.objects.all():
        mark = f"zqmark-{response.pk}"
        Response.objects.filter(pk=response.pk).update(
            source=f"{mark}-source", external_id=f"{mark}-id", text="same text", metadata={"by": f"{mark}-meta"},
            model=world.model, run=world.run,
        )  # fmt: skip
    for prompt in Prompt.objects.all():
        Prompt.objects.filter(pk=prompt.pk).update(external_id=f"zqmark-{prompt.pk}", metadata={"by": "zqmark"})
    Slate.objects.update(external_id=Concat(Value("zqmark-"), "external_id"))


def assert_blind(answer: Any, status: int, *, asked: str) -> None:
    """The expected answer, and no mark in its body, headers or cookies."""
    assert answer.status_code == status, asked
    assert "zqmark" not in answer.content.decode() + json.dumps(dict(answer.headers)) + str(answer.cookies), asked


def test_the_marks_are_seen_by_those_who_may(world: World, client: Client) -> None:
    """What the next tests look for would be found where it is shown."""
    mark_sources(world)
    reviewer, engineer = world.client("reviewer"), world.client("engineer")
    prompt = world.project.prompts.all()[0]
    assert "-source" in reviewer.get(url(world, "prompt_detail", pk=prompt.pk)).content.decode()
    assert "zqmark-model" in engineer.get(url(world, "model_list")).content.decode()


BARE_POSTS = {
    "rank_claim": 302, "rank_preview": 200, "rank_undo": 302, "ranking_amend": 422, "message_reply": 422,
    "message_seen": 302, "practice_example": 422, **dict.fromkeys(NEEDS_A_LEASE, 404),
}  # fmt: skip
"""What an annotator gets who sends no fields."""
LEADING_ON = {"practice_next", "practice_result"}
"""Pages that send an annotator on who has not practised yet."""


@pytest.mark.parametrize(("name", "method"), CASES)
def test_no_route_tells_an_annotator_a_source(
    world: World, client: Client, lease: Lease, name: str, method: str
) -> None:
    """Every route with every method it takes, allowed or not, and where it leads on to."""
    mark_sources(world)
    answer = getattr(client, method)(address(world, name))
    refused = "annotator" not in ACTIONS[ROWS[name].methods[method]]
    expected = BARE_POSTS[name] if method == "post" and not refused else 302 if name in LEADING_ON else 200
    assert_blind(answer, 403 if refused else expected, asked=f"{method} {name}")
    if answer.status_code == 302:
        assert_blind(client.get(answer.headers["Location"]), 200, asked=f"{method} {name}, and on")


def test_no_answer_to_ranking_tells_a_source(world: World, client: Client, lease: Lease) -> None:
    """From slate to slate, in both forms, with what is refused on the way: half rankings, amendments, skips."""
    mark_sources(world)
    token, amend = {"token": str(lease.token)}, url(world, "ranking_amend", pk=world.ranking.pk)
    half, whole, long = fields(lease, 1, "", "", ""), fields(lease, 1, 2, 3, 4), token | {"reason": "x" * 501}

    def ask(route: str, status: int, data: object = None, **headers: str) -> Any:
        answer = client.post(route, data, headers=headers) if data is not None else client.get(route)
        assert_blind(answer, status, asked=f"{route} {data} {headers}")
        return answer

    ask(reverse("project_list"), 200)
    ask(url(world, "rank"), 200)
    ask(url(world, "guidelines") + "?version=1", 200)
    ask(url(world, "guidelines") + "?version=9", 404)
    ask(url(world, "rank_claim"), 200, {}, **JSON)
    ahead = ask(url(world, "rank_prefetch"), 200, token).content.decode()
    ask(url(world, "rank_renew"), 200, token)
    for headers in ({}, JSON):
        ask(url(world, "rank_submit"), 422, half, **headers)
        ask(amend, 422, half, **headers)
    ask(url(world, "rank_skip"), 422, long, **JSON)
    ask(url(world, "rank_skip"), 302, long)
    ask(url(world, "rank"), 200)
    ask(url(world, "rank_submit"), 200, whole, **JSON)
    ask(url(world, "rank_submit"), 302, whole)
    following = re.findall(r'name="token" value="([^"]+)"', ahead)[0]
    ask(url(world, "rank_skip"), 200, {"token": following, "reason": "no"}, **JSON)
    ask(url(world, "rank_claim"), 204, {}, **JSON)
    ask(url(world, "rank_prefetch"), 204, token)
    ask(url(world, "rank"), 200)
    ask(ask(url(world, "rank_undo"), 302, {}).headers["Location"], 200)
    ask(amend, 200)
    ask(amend, 200, whole | {"token": str(uuid4())}, **JSON)
    ask(ask(amend, 302).headers["Location"], 200)
    ask(url(world, "history"), 200)
    ask(url(world, "project_detail"), 200)


def test_no_answer_of_the_api_tells_an_annotator_a_source(world: World, client: Client, lease: Lease) -> None:
    mark_sources(world)
    slug = {"slug": world.project.slug}
    run = slug | {"number": world.run.number}
    judged = {"token": str(lease.token), "tiers": [[0], [1, 2], [3]]}
    asked: list[tuple[str, dict[str, object], str, object, int]] = [
        ("api_projects", {}, "get", None, 200),
        ("api_projects", {}, "post", {}, 405),
        ("api_next_slate", slug, "get", None, 405),
        ("api_next_slate", slug, "post", {}, 200),
        ("api_rankings", slug, "get", None, 405),
        ("api_rankings", slug, "post", {}, 400),
        ("api_rankings", slug, "post", judged | {"token": str(uuid4())}, 404),
        ("api_rankings", slug, "post", judged | {"tiers": [[0]]}, 422),
        ("api_rankings", slug, "post", judged, 200),
        ("api_next_slate", slug, "post", {}, 200),
        ("api_advice", slug, "get", None, 403),
        ("api_advice", slug, "post", {}, 403),
        ("api_pipelines", slug, "get", None, 403),
        ("api_pipelines", slug, "post", {}, 403),
        ("api_pipeline", run, "get", None, 403),
        ("api_pipeline_cancel", run, "post", {}, 403),
        ("api_pipeline_resume", run, "post", {}, 403),
        ("api_runs", slug, "get", None, 403),
        ("api_runs", slug, "post", {}, 403),
        ("api_run", run, "get", None, 403),
        ("api_run", run, "post", {}, 405),
        ("api_run_cancel", run, "get", None, 405),
        ("api_run_cancel", run, "post", {}, 403),
    ]
    for name, kwargs, method, data, status in asked:
        answer = getattr(client, method)(reverse(name, kwargs=kwargs), data, content_type="application/json")
        assert_blind(answer, status, asked=f"{method} {name} {data}")
    assert {name for name, *_rest in asked} == {pattern.name for pattern in api_patterns}


def test_the_slate_carries_positions_and_a_token_and_no_ids(world: World, client: Client, lease: Lease) -> None:
    """All the numbers in its attributes are positions, tiers and the size; all its fields are known."""
    body = client.get(url(world, "rank")).content.decode()
    slate = body[body.index('id="ranking"') : body.index("</main>")]
    slate = re.sub(r'value="[^"]{32,}"', "", slate)  # the token and the csrf token
    numbers = {("size", "4"), ("draft-revision", "0"), ("fewest", "0")}
    numbers |= {("position", str(position)) for position in range(4)}
    assert set(re.findall(r'data-([a-z-]+)="(\d+)"', slate)) == numbers
    assert set(re.findall(r'name="([^"]+)"', slate)) == {
        "csrfmiddlewaretoken", "token", "active_ms", "all_bad", "rationale", "reason", "highlights", "text",
        *(f"{field}_{position}" for field in ("tier", "flag", "correction") for position in range(4)),
    }  # fmt: skip


def test_text_of_models_is_shown_as_text(world: World, client: Client, lease: Lease) -> None:
    Response.objects.update(text='<img src=x onerror="alert(1)"><div hx-get="/">')
    body = client.get(url(world, "rank")).content.decode()
    assert "<img" not in body
    assert "&lt;img src=x" in body


def test_no_page_asks_for_inline_code_or_style(world: World, client: Client, lease: Lease) -> None:
    admin = world.client("admin")
    pages = [client.get(url(world, "rank"))]
    pages += [admin.get(url(world, name)) for name in ("project_detail", "snapshot_list", "run_list", "run_new")]
    pages += [admin.get(url(world, name, number=1)) for name in ("snapshot_detail", "run_detail")]
    for page in pages:
        body = page.content.decode()
        assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\sstyle=|\son[a-z]+=", body)
        assert "default-src 'none'" in page.headers["Content-Security-Policy"]


def test_a_day_in_a_line() -> None:
    assert progress_text({"today": 14, "median_seconds": 47.6, "remaining": 3}) == "14 today · median 48 s · 3 left"
    assert progress_text({"today": 0, "median_seconds": None, "remaining": 3}) == "0 today · 3 left"
