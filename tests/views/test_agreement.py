"""The page of agreement: what it says with and without shared slates, and that it costs the same with more."""

from __future__ import annotations

from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotation.domain.simulating import simulate_annotators
from annotation.views import agreement as module
from tests.annotation.factories import make_member, make_project, make_slate
from tests.views.conftest import World, rank_next


def get(world: World, name: str = "agreement") -> Any:
    return world.client("reviewer").get(reverse(name, kwargs={"slug": world.project.slug}))


def test_before_two_have_judged_a_slate_it_says_what_will_stand_here(world: World) -> None:
    alone = make_project(slug="alone")
    reviewer = make_member(alone, role="reviewer")
    assert reviewer.user is not None
    make_slate(alone)
    rank_next(reviewer)
    client = world.client("")
    client.force_login(reviewer.user)
    page = client.get(reverse("agreement", kwargs={"slug": "alone"})).content.decode()
    assert "0 of 1 slates were judged by two or more" in page
    assert "once two annotators have judged the same slate" in page
    assert "<svg viewBox" not in page.split("<main", 1)[1]


def test_the_measures_stand_with_their_intervals(world: World) -> None:
    rank_next(world.members["reviewer"])
    answer = get(world)
    names = [row.name for row in answer.context["rows"]]
    alphas = ["α, exchangeable", "α, nominal", "α, ordinal", "α of ranks"]
    assert names == [*alphas, "Fleiss' κ", "Kendall's τ-b", "Kendall's W"]
    assert [row.is_main for row in answer.context["rows"]] == [True] + [False] * 6
    alpha = answer.context["report"].alpha["exchangeable"]
    page = answer.content.decode()
    assert "because annotators cannot know which response is listed first" in page
    assert f'<p class="figure">{alpha.value:.2f}</p>' in page
    assert f"over {alpha.n_units} pairs of responses" in page
    assert "simulated" not in page


def test_the_project_page_says_alpha_and_leads_here(world: World) -> None:
    rank_next(world.members["reviewer"])
    page, report = get(world, "project_detail").content.decode(), get(world).context["report"]
    alpha = report.alpha["exchangeable"]
    assert f"Krippendorff's α {alpha.value:.2f} (" in page
    assert reverse("agreement", kwargs={"slug": world.project.slug}) in page


def test_simulated_judgements_are_labelled(world: World) -> None:
    simulate_annotators(world.project, names=["s1"], seed=0)
    page = get(world).content.decode()
    assert "% of judgements simulated" in page
    assert "they say nothing about people" in page


def test_queries_do_not_grow_with_slates_and_judgements(world: World) -> None:
    def count_queries() -> int:
        with CaptureQueriesContext(connection) as queries:
            assert get(world).status_code == 200
        return len(queries)

    rank_next(world.members["reviewer"])
    count_queries()
    before = count_queries()
    for _slate in range(4):
        make_slate(world.project)
    simulate_annotators(world.project, names=["s1", "s2"], seed=0)
    assert count_queries() == before


def test_a_long_project_is_cut_and_says_so(world: World, monkeypatch: Any) -> None:
    monkeypatch.setattr(module, "NEWEST_SLATES", 1)
    page = get(world).content.decode()
    assert "These are the 1 newest judged slates" in page
