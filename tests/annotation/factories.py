"""Small worlds for tests, made through the domain."""

from __future__ import annotations

import hashlib
import itertools
import json
from dataclasses import replace
from typing import Any

from django.contrib.auth.models import User

from annotation.domain.collecting import hash_verifier
from annotation.domain.projects import create_project, set_member
from annotation.domain.slating import SlatePlan, make_slates
from annotation.domain.tasks import save_task, settings_of
from annotation.models import Membership, Project, Prompt, Response, Run, Slate, Verdict

counter = itertools.count(1)


def make_project(*, overlap: int = 1, slate_size: int = 4, slug: str | None = None, **settings: Any) -> Project:
    """A project of full rankings, or of what `settings` say (fields of TaskSettings)."""
    number = next(counter)
    project = create_project(
        slug=slug or f"project-{number}",
        name=f"Project {number}",
        overlap=overlap,
        slate_size=slate_size,
        guidelines="Rank by how helpful the response is.",
    )
    return save_task(project, settings=replace(settings_of(project), **settings)) if settings else project


def make_user(name: str | None = None, *, is_staff: bool = False) -> User:
    return User.objects.create_user(name or f"user-{next(counter)}", password="correct horse", is_staff=is_staff)


def make_member(project: Project, *, role: str = "annotator", name: str | None = None) -> Membership:
    return set_member(project, user=make_user(name), role=role)


def make_prompt(project: Project, *, text: str | None = None, metadata: dict[str, str] | None = None) -> Prompt:
    number = next(counter)
    messages = [{"role": "user", "content": text or f"Question {number}?"}]
    return Prompt.objects.create(
        project=project,
        external_id=f"prompt-{number}",
        messages=messages,
        content_hash=hashlib.sha256(json.dumps(messages).encode()).hexdigest(),
        metadata=metadata or {},
    )


def make_responses(prompt: Prompt, *, count: int = 4) -> list[Response]:
    return [
        Response.objects.create(
            prompt=prompt,
            external_id=f"response-{index}",
            text=f"Answer {index} to {prompt.external_id}.",
            source=f"secret-source-{index}",
        )
        for index in range(count)
    ]


def make_slate(project: Project, *, count: int = 4, metadata: dict[str, str] | None = None) -> Slate:
    prompt = make_prompt(project, metadata=metadata)
    plan = SlatePlan(prompt=prompt, external_id=prompt.external_id, responses=make_responses(prompt, count=count))
    return make_slates(project, plans=[plan])[0]


def make_verdicts(slate: Slate, *, passed: str, reason: str = "found 7, expected 6") -> list[Verdict]:
    """Verdicts on a slate's responses in canonical order: "+-?" is passed, failed, none."""
    verifier = {"kind": "math", "answer": "6"}
    Prompt.objects.filter(pk=slate.prompt_id).update(verifier=verifier)
    run, _created = Run.objects.get_or_create(
        project=slate.project, number=1000, method="verify", state="succeeded", spec={}
    )
    return [
        Verdict.objects.create(
            response=place.response,
            run=run,
            kind="math",
            verifier_hash=hash_verifier(verifier),
            passed=sign == "+",
            score=float(sign == "+"),
            reason=reason if sign == "-" else "found 6",
            seconds=0.25,
        )
        for place, sign in zip(slate.places.order_by("position"), passed, strict=True)
        if sign != "?"
    ]
