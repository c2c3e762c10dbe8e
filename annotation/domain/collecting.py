"""Brings a run's results back: models into the registry, scores and verdicts to responses, new responses into new
slates.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from pathlib import Path
from typing import Any

from django.conf import settings
from django.db import transaction

from annotation import runner
from annotation.domain.slating import make_slates, plan_slates
from annotation.models import Model, Project, Prompt, Response, Run, Score, Verdict

COLLECTED = (Run.Method.GENERATE, Run.Method.SCORE, Run.Method.VERIFY)
"""What leaves rows to be stored."""
MAKE_NO_MODEL = (*COLLECTED, Run.Method.ADVISE, Run.Method.CHECK)
NAME_LIMIT, LOCATION_LIMIT = 120, 500
NEWEST_FIRST = 10
"""Priority of slates of new responses: they come before what was waiting."""


class CollectionRefused(ValueError):
    """What the run left behind does not fit what was asked; nothing of it was stored."""


def add_model(project: Project, *, name: str, kind: str, location: str) -> Model:
    """Register a model that was not made here: the embedded one, a hub id, or a path. The same again is harmless."""
    if not name or len(name) > NAME_LIMIT or len(location) > LOCATION_LIMIT:
        raise CollectionRefused(f"A model's name has 1 to {NAME_LIMIT} characters, its place at most {LOCATION_LIMIT}.")
    model, _created = Model.objects.get_or_create(
        project=project, name=name, defaults={"kind": kind, "location": location}
    )
    if (model.kind, model.location) != (kind, location):
        raise CollectionRefused(f"The name {name!r} is taken in this project by another model.")
    return model


@transaction.atomic
def register_model(run: Run, *, name: str) -> Model:
    """Register the model that a finished training run made; registering it again gives the same entry."""
    existing = Model.objects.filter(run=run).first()
    if existing is not None:
        return existing
    if run.state != Run.State.SUCCEEDED or run.method in MAKE_NO_MODEL:
        raise CollectionRefused("Only a training run that succeeded has a model to register.")
    name = name.strip()
    if not name or len(name) > NAME_LIMIT:
        raise CollectionRefused(f"Give the model a name of 1 to {NAME_LIMIT} characters.")
    if Model.objects.filter(project=run.project, name=name).exists():
        raise CollectionRefused(f"The name {name!r} is taken in this project; choose another.")
    location = runner.model_directory(Path("runs") / run.project.slug / str(run.number))
    kind = Model.Kind.REWARD if run.method == Run.Method.REWARD else Model.Kind.POLICY
    return Model.objects.create(project=run.project, name=name, kind=kind, location=str(location), run=run)


def model_location(model: Model) -> str:
    """What the training library is to load: an absolute path for models made here, the name as given otherwise."""
    return str(Path(settings.DATA_DIR) / model.location) if model.run_id is not None else model.location


def collect_run(run: Run, *, directory: Path) -> None:
    """Store what a generation, scoring or verification made; the caller holds the transaction and the lease."""
    if run.method == Run.Method.SCORE:
        _collect_scores(run, rows=runner.read_rows(directory, name="scores.jsonl"))
    elif run.method == Run.Method.VERIFY:
        _collect_verdicts(run, rows=runner.read_rows(directory, name="verdicts.jsonl"))
    else:
        _collect_responses(run, rows=runner.read_rows(directory, name="responses.jsonl"))


def as_key(value: Any) -> int:
    """A row's id as the primary key that went out with the inputs; the training library hands ids back as text."""
    try:
        return int(value)
    except (TypeError, ValueError):
        raise CollectionRefused(f"The run's outputs hold the id {value!r}, which was never given out.") from None


def _collect_scores(run: Run, *, rows: list[dict[str, Any]]) -> None:
    known = set(Response.objects.filter(prompt__project=run.project).values_list("pk", flat=True))
    # The library gives no score, with a reason, to what is longer than the model reads; that stays unscored.
    values = {as_key(row["response_id"]): row["score"] for row in rows if row["score"] is not None}
    for key, value in values.items():
        if key not in known or not math.isfinite(value):
            raise CollectionRefused(f"The run's outputs hold a score that cannot be stored: {key}: {value}.")
    assert run.base_model is not None
    Score.objects.bulk_create(
        [Score(response_id=key, model=run.base_model, value=value) for key, value in values.items()],
        ignore_conflicts=True,
        batch_size=1000,
    )


def _collect_verdicts(run: Run, *, rows: list[dict[str, Any]]) -> None:
    asked = Response.objects.filter(prompt__project=run.project, prompt__verifier__isnull=False)
    prompts = dict(asked.values_list("pk", "prompt_id"))
    verifiers = Prompt.objects.filter(project=run.project, verifier__isnull=False).values_list("pk", "verifier")
    hashes = {pk: hash_verifier(verifier) for pk, verifier in verifiers.iterator(chunk_size=1000)}
    # The library gives no verdict, with a reason, where the verifier cannot be run; that stays unverified.
    said = {as_key(row["response_id"]): row for row in rows if row["passed"] is not None}
    if not said.keys() <= prompts.keys():
        raise CollectionRefused("The run's outputs hold verdicts that no verifier of this project asks for.")
    Verdict.objects.bulk_create(
        [
            Verdict(
                response_id=key,
                run=run,
                kind=row["kind"],
                verifier_hash=hashes[prompts[key]],
                passed=row["passed"],
                score=row["score"],
                reason=row["reason"].replace("\0", "\N{REPLACEMENT CHARACTER}"),  # PostgreSQL stores no NUL
                seconds=row["seconds"],
            )
            for key, row in said.items()
        ],
        ignore_conflicts=True,
        batch_size=1000,
    )


def hash_verifier(verifier: Any) -> str:
    """SHA-256 of a verifier, whatever the order of its fields."""
    return hashlib.sha256(json.dumps(verifier, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def _collect_responses(run: Run, *, rows: list[dict[str, Any]]) -> None:
    by_prompt: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for row in rows:
        by_prompt[as_key(row["prompt_id"])].append(row)
    prompts = Prompt.objects.filter(project=run.project).in_bulk(by_prompt)
    if len(prompts) != len(by_prompt):
        raise CollectionRefused("The run's outputs answer prompts that are not of this project.")
    source = run.base_model.name if run.base_model else run.spec.get("model", runner.EMBEDDED_MODEL)
    made = Response.objects.bulk_create(
        [
            Response(
                prompt_id=prompt_id,
                external_id=f"run-{run.number}/{row['index']}",
                text=row["response"].replace("\0", "\N{REPLACEMENT CHARACTER}"),  # PostgreSQL stores no NUL
                source=source,
                source_kind=Response.SourceKind.MODEL,
                model=run.base_model,
                run=run,
                metadata={"finish_reason": row["finish_reason"], "n_tokens": row["n_tokens"]},
            )
            for prompt_id, answers in by_prompt.items()
            for row in answers
        ],
        batch_size=500,
    )
    _slate_responses(run, prompts=prompts, made=made)


def _slate_responses(run: Run, *, prompts: dict[int, Prompt], made: list[Response]) -> None:
    """Put the new responses into slates, beside earlier ones where the run asked for it; texts differ in a slate."""
    fresh: dict[int, dict[str, Response]] = defaultdict(dict)
    for response in made:
        fresh[response.prompt_id].setdefault(response.text, response)
    earlier: dict[int, dict[str, Response]] = defaultdict(dict)
    if run.spec.get("mix"):
        for response in Response.objects.filter(prompt__in=prompts).exclude(run=run).order_by("-pk"):
            if response.text not in fresh[response.prompt_id]:
                earlier[response.prompt_id].setdefault(response.text, response)
    plans = []
    for prompt_id, prompt in prompts.items():
        new = list(fresh[prompt_id].values())
        room = max(0, run.project.slate_size - len(new))
        chosen = new + list(earlier[prompt_id].values())[:room]
        plans += plan_slates(
            prompt,
            responses=chosen,
            size=run.project.slate_size,
            prefix=f"run-{run.number}/",
            seed=run.number,
            priority=NEWEST_FIRST,
        )
    make_slates(run.project, plans=plans)
