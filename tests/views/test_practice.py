"""The practice round as pages, and the gate before ranking: guidelines to read, practice to do."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.management import CommandError, call_command
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from annotation.domain.assigning import claim_slot, skip_slate
from annotation.domain.judgement import Judgement
from annotation.domain.practice import add_example, examples_of, practice_order, remove_example
from annotation.domain.projects import publish_guidelines
from annotation.models import GuidelinesReading, PracticeAnswer, PracticeExample, Project, Ranking
from tests.annotation.factories import make_member
from tests.views.conftest import World

JSON = {"Accept": "application/json"}
TEXTS = ["It is 75.", "It is 84.", "About <b>80</b>."]


def url(world: World, name: str, **kwargs: object) -> str:
    return reverse(name, kwargs={"slug": world.project.slug} | kwargs)


@pytest.fixture
def newcomer(world: World) -> Client:
    """A reviewer who has ranked nothing yet."""
    return world.client("reviewer")


def add(world: World, *, explanation: str = "**75** adds up.") -> PracticeExample:
    return add_example(
        world.project,
        messages=[{"role": "user", "content": "How many is 7 × 12 − 9?"}],
        responses=TEXTS,
        answer=Judgement(tiers=[[0], [1, 2]]),
        explanation=explanation,
    )


def fields(world: World, example: PracticeExample, *tiers: int) -> dict[str, int]:
    """The form in which the example's own first response has the first of these tiers, and so on."""
    order = practice_order(world.members["reviewer"], example=example)
    return {f"tier_{order.index(place)}": tier for place, tier in enumerate(tiers)}


def test_an_example_is_shown_in_the_frame_of_a_slate_without_its_answer(world: World, newcomer: Client) -> None:
    add(world)
    body = newcomer.get(url(world, "practice_example", number=1)).content.decode()
    assert 'id="ranking"' in body
    assert f'action="{url(world, "practice_example", number=1)}"' in body
    assert "It is 75." in body
    assert "adds up" not in body
    assert not re.search(r'name="tier_\d" value="\d" checked', body)
    assert "skip-form" not in body


def test_a_try_is_kept_and_leads_to_the_explained_answer(world: World, newcomer: Client) -> None:
    example = add(world)
    answer = newcomer.post(url(world, "practice_example", number=1), fields(world, example, 1, 2, 2))
    result = url(world, "practice_result", number=1)
    assert answer.headers["Location"] == result
    body = newcomer.get(result).content.decode()
    assert "Your answer agrees" in body
    assert "<strong>75</strong> adds up." in body
    assert "<b>80</b>" not in body
    assert "Go to ranking" in body
    assert not Ranking.objects.filter(annotator=world.members["reviewer"]).exists()


def test_your_answer_and_the_answer_are_said_in_the_letters_of_the_screen(world: World, newcomer: Client) -> None:
    example = add(world)
    newcomer.post(url(world, "practice_example", number=1), fields(world, example, 2, 1, 2))
    answer = newcomer.get(url(world, "practice_result", number=1))
    order = practice_order(world.members["reviewer"], example=example)
    first, second, third = ("ABC"[order.index(place)] for place in range(3))
    assert answer.context["yours"]["order"] == f"{second} › {' = '.join(sorted([first, third]))}"
    assert answer.context["answer"]["order"] == f"{first} › {' = '.join(sorted([second, third]))}"
    assert "Your answer differs" in answer.content.decode()


def test_the_script_is_sent_on_to_the_result(world: World, newcomer: Client) -> None:
    example = add(world)
    address = url(world, "practice_example", number=1)
    refused = newcomer.post(address, fields(world, example, 1), headers=JSON)
    assert (refused.status_code, len(refused.json()["problems"])) == (422, 1)
    said = newcomer.post(address, fields(world, example, 1, 2, 2), headers=JSON).json()
    assert (said["saved"], said["next"], said["rest"]) == (True, url(world, "practice_result", number=1), False)


def test_an_incomplete_try_is_kept_on_the_page(world: World, newcomer: Client) -> None:
    example = add(world)
    data = fields(world, example, 1, 2) | {"rationale": "half"}
    answer = newcomer.post(url(world, "practice_example", number=1), data)
    assert answer.status_code == 422
    assert "is not placed." in answer.content.decode()
    assert "half" in answer.content.decode()
    assert not PracticeAnswer.objects.exists()


def test_the_answer_is_not_shown_to_who_has_not_tried(world: World, newcomer: Client) -> None:
    add(world)
    answer = newcomer.get(url(world, "practice_result", number=1))
    assert answer.headers["Location"] == url(world, "practice_example", number=1)
    for page in ("practice_list", "practice_example"):
        kwargs = {} if page == "practice_list" else {"number": 1}
        assert "adds up" not in newcomer.get(url(world, page, **kwargs)).content.decode()


def test_the_result_leads_to_the_next_example_until_all_are_tried(world: World, newcomer: Client) -> None:
    first, second = add(world), add(world)
    newcomer.post(url(world, "practice_example", number=1), fields(world, first, 1, 2, 2))
    body = newcomer.get(url(world, "practice_result", number=1)).content.decode()
    assert f'href="{url(world, "practice_example", number=2)}"' in body
    assert newcomer.get(url(world, "practice_next")).headers["Location"] == url(world, "practice_example", number=2)
    newcomer.post(url(world, "practice_example", number=2), fields(world, second, 1, 2, 2))
    assert "Go to ranking" in newcomer.get(url(world, "practice_result", number=2)).content.decode()
    assert newcomer.get(url(world, "practice_next")).headers["Location"] == url(world, "practice_list")


def test_a_removed_example_is_gone_and_ones_own_result_stays(world: World, newcomer: Client) -> None:
    example = add(world)
    newcomer.post(url(world, "practice_example", number=1), fields(world, example, 1, 2, 2))
    world.client("admin").post(url(world, "practice_remove", number=1))
    assert newcomer.get(url(world, "practice_example", number=1)).status_code == 404
    assert newcomer.post(url(world, "practice_example", number=1)).status_code == 404
    body = newcomer.get(url(world, "practice_result", number=1)).content.decode()
    assert "adds up" in body
    assert "Try again" not in body
    assert examples_of(world.project) == []


def upload(rows: list[Any]) -> dict[str, SimpleUploadedFile]:
    content = "".join(json.dumps(row) + "\n" for row in rows).encode()
    return {"upload": SimpleUploadedFile("practice.jsonl", content)}


GOOD = {"prompt": "How many?", "responses": ["75", "84"], "tiers": [[0], [1]], "explanation": "75 adds up."}


def test_an_admin_adds_a_file_of_examples_all_or_none(world: World) -> None:
    admin = world.client("admin")
    assert admin.post(url(world, "practice_list"), upload([GOOD])).status_code == 302
    body = admin.post(url(world, "practice_list"), upload([GOOD | {"prompt": "And now?"}, GOOD | {"tiers": [[0]]}]))
    assert body.status_code == 422
    assert "practice.jsonl, line 2, field &#x27;tiers&#x27;: The answer is to place every response." in (
        body.content.decode()
    )
    assert admin.post(url(world, "practice_list"), {}).status_code == 422
    assert [example.number for example in examples_of(world.project)] == [1]


def test_the_command_adds_a_file_and_names_what_is_wrong(world: World, tmp_path: Any, capsys: Any) -> None:
    path = tmp_path / "practice.jsonl"
    path.write_text(json.dumps(GOOD) + "\n")
    call_command("import_practice", str(path), project=world.project.slug, json=True)
    assert json.loads(capsys.readouterr().out) == {"added": 1, "skipped": 0}
    call_command("import_practice", str(path), project=world.project.slug)
    assert capsys.readouterr().out == "Added 0 practice examples; 1 were there already.\n"
    path.write_text('{"prompt": "Why?"}')
    with pytest.raises(CommandError, match="line 1, field 'tiers': the answer is missing"):
        call_command("import_practice", str(path), project=world.project.slug)
    with pytest.raises(CommandError, match="There is no project 'nowhere'"):
        call_command("import_practice", str(path), project="nowhere")


def test_an_admin_uses_a_ranking_as_an_example_from_the_page_of_its_prompt(world: World) -> None:
    admin, address = world.client("admin"), url(world, "practice_add", pk=world.ranking.pk)
    page = url(world, "prompt_detail", pk=world.ranking.slate.prompt_id)
    assert address in admin.get(page).content.decode()
    assert "practice/" not in world.client("reviewer").get(page).content.decode().split("<main")[1]
    assert admin.post(address, {"explanation": " "}).headers["Location"] == page
    assert admin.post(address, {"explanation": "A adds up."}).headers["Location"] == url(world, "practice_list")
    [example] = examples_of(world.project)
    assert (example.slate, example.explanation) == (world.ranking.slate, "A adds up.")
    assert "already" in admin.post(address, {"explanation": "Again."}, follow=True).content.decode()


def test_the_gate_shows_a_newcomer_the_guidelines_whole_then_practice_then_slates(
    world: World, newcomer: Client
) -> None:
    example, rank = add(world), url(world, "rank")
    body = newcomer.get(rank).content.decode()
    assert "Rank by how helpful the response is." in body
    assert 'name="guidelines" value="1"' in body
    assert "Start practising" in body
    newcomer.post(url(world, "rank_claim"), {"guidelines": "1"})
    body = newcomer.get(rank).content.decode()
    assert "Practise first" in body
    assert url(world, "practice_next") in body
    assert newcomer.post(url(world, "rank_claim"), headers=JSON).status_code == 204
    newcomer.post(url(world, "practice_example", number=1), fields(world, example, 2, 1, 1))
    assert "Start ranking" in newcomer.get(rank).content.decode()
    newcomer.post(url(world, "rank_claim"))
    assert 'id="ranking"' in newcomer.get(rank).content.decode()


def test_the_gate_shows_who_read_an_older_version_what_changed(world: World, newcomer: Client) -> None:
    newcomer.post(url(world, "rank_claim"), {"guidelines": "1"})
    publish_guidelines(world.project, text="Rank by how helpful and how <kind> the response is.")
    body = newcomer.get(url(world, "rank")).content.decode()
    assert "What changed in version 2" in body
    added = re.search(r"<ins>(.*?)</ins>", body, flags=re.DOTALL)
    assert added is not None
    assert re.sub(r"<span.*?</span>", "", added[1]).strip() == "and how &lt;kind&gt;"
    assert "I have read it, go on" in body
    newcomer.post(url(world, "rank_claim"), {"guidelines": "2"})
    assert set(GuidelinesReading.objects.values_list("guidelines__version", flat=True)) == {1, 2}
    assert 'id="ranking"' in newcomer.get(url(world, "rank")).content.decode()


def test_looking_at_the_gate_reads_nothing(world: World, newcomer: Client) -> None:
    newcomer.get(url(world, "rank"))
    newcomer.get(url(world, "guidelines"))
    assert not GuidelinesReading.objects.exists()


def test_who_has_nothing_to_rank_is_not_asked_to_practise(world: World) -> None:
    add(world)
    member = make_member(world.project)
    while (lease := claim_slot(member)) is not None:
        skip_slate(member, token=lease.token, reason="")
    client = Client()
    assert member.user is not None
    client.force_login(member.user)
    body = client.get(url(world, "rank")).content.decode()
    assert "Nothing is left for you to rank." in body
    assert "Practise first" not in body


def test_any_two_versions_of_the_guidelines_can_be_compared(world: World, newcomer: Client) -> None:
    publish_guidelines(world.project, text="Rank by how short the response is.")
    publish_guidelines(world.project, text="Rank by how true the response is.")
    address = url(world, "guidelines")
    body = newcomer.get(f"{address}?version=3&against=1").content.decode()
    assert "What changed from version 1 to version 3" in body
    passages = re.findall(r"<(ins|del)><span[^>]*>[^<]*</span>(.*?)<span", body)
    assert passages == [("del", "helpful"), ("ins", "true")]
    assert "The two texts are the same." in newcomer.get(f"{address}?version=2&against=2").content.decode()
    for query in ("version=3&against=9", "version=3&against=x", "against=-1"):
        assert newcomer.get(f"{address}?{query}").status_code == 404, query


def test_the_query_count_of_the_round_does_not_grow_with_its_examples(world: World, newcomer: Client) -> None:
    def count_queries() -> int:
        with CaptureQueriesContext(connection) as queries:
            newcomer.get(url(world, "practice_list"))
        return len(queries)

    newcomer.post(url(world, "practice_example", number=1), fields(world, add(world), 1, 2, 2))
    count_queries()
    before = count_queries()
    for _number in range(5):
        example = add(world)
        newcomer.post(url(world, "practice_example", number=example.number), fields(world, example, 1, 2, 2))
    remove_example(add(world))
    assert count_queries() == before


def test_an_example_that_does_not_fit_the_task_is_named_to_admins_only(world: World, newcomer: Client) -> None:
    add(world)
    Project.objects.update(task="best-worst")
    assert "does not fit the task" in world.client("admin").get(url(world, "practice_list")).content.decode()
    assert "does not fit the task" not in newcomer.get(url(world, "practice_list")).content.decode()
    assert newcomer.get(url(world, "practice_example", number=1)).status_code == 404
