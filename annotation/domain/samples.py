"""The sample projects that the product ships: one to rank in, one whose judgements are simulated.

Both can be made again and again: what is there stays as it is.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from django.db import transaction

from annotation.domain.importing import ImportFile, import_files
from annotation.domain.practice_import import import_examples
from annotation.domain.projects import create_project
from annotation.domain.simulating import simulate_annotators
from annotation.domain.slating import SlatePlan, make_slates
from annotation.models import Project, Prompt, Response

SAMPLES = Path(__file__).resolve().parent.parent / "samples"
ASSISTANT_SLUG = "assistant"
SIMULATED_SLUG = "simulated"
SIMULATED_NAMES = ["simulated-1", "simulated-2", "simulated-3"]
SHORT_ANSWERS = "Answer in one or two short sentences."
FILLER_BEFORE = "Great question! I am happy to help you with this one."
FILLER_AFTER = "I hope this helps. Feel free to ask me anything else at any time."


def create_assistant_project(*, slug: str = ASSISTANT_SLUG, name: str = "Everyday assistant") -> Project:
    """The sample project for people: prompts in four categories, guidelines, a practice round, no responses yet."""
    project = Project.objects.filter(slug=slug).first()
    if project is None:
        project = create_project(
            slug=slug,
            name=name,
            description="Sample project: helpfulness, reasoning, rewriting and safety.",
            guidelines=(SAMPLES / "assistant.guidelines.md").read_text(encoding="utf-8"),
        )
    import_files(project, files=[ImportFile("assistant.jsonl", SAMPLES / "assistant.jsonl")], format="prompts")
    if not project.practice_examples.exists():
        import_examples(project, file=ImportFile("assistant.practice.jsonl", SAMPLES / "assistant.practice.jsonl"))
    return project


def create_simulated_project(*, progress: Callable[[int, int], None] | None = None) -> Project:
    """The sample project for training: scripted variants of written answers, ranked by simulated annotators."""
    project = Project.objects.filter(slug=SIMULATED_SLUG).first()
    if project is None:
        project = create_project(
            slug=SIMULATED_SLUG,
            name="Simulated judgements",
            description="Sample project: scripted responses, ranked by simulated annotators. No evidence about people.",
            overlap=len(SIMULATED_NAMES),
            guidelines=(SAMPLES / "simulated.guidelines.md").read_text(encoding="utf-8"),
        )
    _add_scripted_responses(project)
    simulate_annotators(project, names=SIMULATED_NAMES, seed=0, progress=progress)
    return project


@transaction.atomic
def create_question_project(*, slug: str, name: str, count: int) -> Project:
    """A project of the first `count` written questions alone, to be answered by a model in a sentence or two."""
    project = create_project(
        slug=slug, name=name, guidelines=(SAMPLES / "simulated.guidelines.md").read_text(encoding="utf-8")
    )
    with tempfile.NamedTemporaryFile("w", suffix=".jsonl", encoding="utf-8") as file:
        for row in read_questions()[:count]:
            asked = {"id": row["id"], "system": SHORT_ANSWERS, "prompt": row["question"], "metadata": row["metadata"]}
            file.write(json.dumps(asked, ensure_ascii=False) + "\n")
        file.flush()
        import_files(project, files=[ImportFile("questions.jsonl", Path(file.name))], format="prompts")
    return project


def read_questions() -> list[dict[str, Any]]:
    """The written questions and answers of the simulated project."""
    with open(SAMPLES / "simulated.jsonl", encoding="utf-8") as file:
        return [json.loads(line) for line in file]


def scripted_variants(answer: str, *, other: str) -> dict[str, str]:
    """Four responses by script: the answer as written, padded, cut off in mid-sentence, and another's answer."""
    words = answer.split()
    return {
        "as written": answer,
        "padded": f"{FILLER_BEFORE} {answer} {FILLER_AFTER}",
        "cut off": " ".join(words[: max(3, len(words) * 3 // 5)]).rstrip(".,;:"),
        "off topic": other,
    }


@transaction.atomic
def _add_scripted_responses(project: Project) -> None:
    questions = read_questions()
    if project.prompts.count() == len(questions):
        return
    import_files(project, files=[ImportFile("simulated.jsonl", SAMPLES / "simulated.jsonl")], format="prompts")
    prompts = {prompt.external_id: prompt for prompt in project.prompts.all()}
    others = questions[1:] + questions[:1]
    plans = []
    for row, other in zip(questions, others, strict=True):
        prompt = prompts[row["id"]]
        responses = _create_responses(prompt, scripted_variants(row["answer"], other=other["answer"]).items())
        plans.append(SlatePlan(prompt=prompt, external_id=row["id"], responses=responses))
    make_slates(project, plans=plans)


def _create_responses(prompt: Prompt, variants: Iterable[tuple[str, str]]) -> list[Response]:
    return Response.objects.bulk_create(
        Response(
            prompt=prompt,
            external_id=name,
            text=text,
            source=f"script: {name}",
            source_kind=Response.SourceKind.SCRIPT,
        )
        for name, text in variants
    )
