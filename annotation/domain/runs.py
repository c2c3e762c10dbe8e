"""Runs: asked for by people, leased by workers, fenced by their attempt number.

The row owns the intent and the run directory the facts; `sync_run` copies facts to the row. Whoever holds the newest
attempt may write; a worker whose lease lapsed finds its writes refused and stops its process.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings as django_settings
from django.contrib.auth.models import User
from django.db import connection, transaction
from django.db.models import Count, F, Max, Q, QuerySet
from django.utils import timezone

from annotation import runner
from annotation.domain import collecting
from annotation.domain.advice import advice_rows
from annotation.domain.snapshots import (
    SPLITS,
    SnapshotRefused,
    read_prompt_ids,
    snapshot_directory,
    verify_snapshot,
)
from annotation.models import Model, Project, Response, Run, Snapshot

State = Run.State
ENDED = (State.SUCCEEDED, State.FAILED, State.CANCELLED)
RATINGS = "ratings"
"""A format of snapshots, and the loss of reward models that trains on it."""
TRAINED_ON = {
    "reward": "trl-preference",
    "sft": "sft",
    "dpo": "trl-preference",
    "kto": "trl-unpaired",
    "rejection": "prompts",
    "ppo": "prompts",
    "rloo": "prompts",
    "grpo": "prompts",
    "online-dpo": "prompts",
    "check": "prompts",
}
"""The format of the snapshots that each training method learns from, and on which policies are checked."""
ALSO_TRAINED_ON = {"reward": (RATINGS,), "sft": ("references",)}
"""Other formats that a method can learn from."""
ONLINE = ("ppo", "rloo", "grpo", "online-dpo")
"""The methods whose policy is rewarded for its own responses, by a reward model or several rewards."""
JUDGED_BY = {"reward_model": (*ONLINE, "rejection", "check", "verify"), "gold_model": ONLINE}
"""The methods that each of a run's reward models is for."""
FILES = ("data", "prompts", "examples")
"""Settings of the training library that name files, which nobody may choose from afar."""
PROMPT_LIMIT = 1_000_000
OWN_SETTINGS = {
    "generate": ("prompt_count", "mix", "split"),
    "score": (),
    "advise": (),
    "verify": (),
    **dict.fromkeys(TRAINED_ON, ()),
}
"""Settings of ours, beside those of the training library: how many prompts; whether new responses are put beside
earlier ones in the slates that follow; and, where a snapshot is named, of which of its splits the prompts are."""
TRIAL_PROMPTS = 2
"""Prompts with verifiers without which a model cannot be tried for an advice."""
PLACEHOLDER = "(made when the run starts)"
CRASH_LIMIT = 5
ERROR_LIMIT = 10_000


class RunRefused(ValueError):
    """The run cannot be queued; the message says what to change."""


form_fields = runner.form_fields
MORE_FIELDS = runner.MORE_FIELDS


@transaction.atomic
def queue_run(
    project: Project,
    *,
    method: str,
    settings: Mapping[str, Any],
    snapshot: Snapshot | None = None,
    base_model: Model | None = None,
    reward_model: Model | None = None,
    gold_model: Model | None = None,
    created_by: User | None = None,
) -> Run:
    """Queue a run after checking everything that can be checked now. Raises RunRefused.

    Without `base_model`, `settings["model"]` names what to load (the embedded model if absent too; an advice then goes
    without one). `reward_model` and `gold_model` are for the methods in JUDGED_BY; in `settings["rewards"]`, a term of
    kind model names reward models of the registry, directories or hub ids.
    """
    spec = check_run(
        project, method=method, settings=settings, snapshot=snapshot, base_model=base_model,
        reward_model=reward_model, gold_model=gold_model,
    )  # fmt: skip
    Project.objects.select_for_update().get(pk=project.pk)
    number = (project.runs.aggregate(Max("number"))["number__max"] or 0) + 1
    return Run.objects.create(
        project=project,
        number=number,
        method=method,
        spec=spec,
        snapshot=snapshot,
        base_model=base_model,
        reward_model=reward_model,
        gold_model=gold_model,
        created_by=created_by,
    )


def check_run(
    project: Project,
    *,
    method: str,
    settings: Mapping[str, Any],
    snapshot: Snapshot | None = None,
    base_model: Model | None = None,
    reward_model: Model | None = None,
    gold_model: Model | None = None,
) -> dict[str, Any]:
    """The spec of the run that `queue_run` would queue. Raises RunRefused where it would not."""
    if method not in Run.Method.values:
        raise RunRefused(f"Unknown method {method!r}; use one of {', '.join(Run.Method.values)}.")
    for name in FILES:
        if name in settings:
            raise RunRefused(f"{name}: files are for the command line alone; runs here read snapshots of the project.")
    loss = settings.get("loss") if method == Run.Method.REWARD else None
    _check_inputs(project, method=method, loss=loss, snapshot=snapshot, base_model=base_model)
    _check_judges(project, method=method, settings=settings, reward_model=reward_model, gold_model=gold_model)
    own = {key: settings[key] for key in OWN_SETTINGS[method] if key in settings}
    library = {key: value for key, value in settings.items() if key not in OWN_SETTINGS[method]}
    if method == Run.Method.GENERATE:
        own = {"prompt_count": None, "mix": False, "split": None} | own
        _check_prompt_choice(project, own=own, snapshot=snapshot)
    if method == Run.Method.ADVISE:
        _check_advisable(project, snapshot=snapshot, with_model=base_model is not None or "model" in library)
    if base_model is not None and "model" in library:
        raise RunRefused("Name the model once: as a registered model or in the settings.")
    try:
        inputs = _name_inputs(method, source=PLACEHOLDER, models=(base_model, reward_model, gold_model))
        runner.check_settings(method, settings={**library, **inputs})
    except runner.SettingsRefused as error:
        raise RunRefused(str(error)) from error
    return {**library, **own}


def run_directory(run: Run) -> Path:
    """Where the run's facts lie."""
    return Path(django_settings.DATA_DIR) / "runs" / run.project.slug / str(run.number)


def run_metrics(run: Run, *, after_line: int = 0) -> list[dict[str, Any]]:
    """The run's metric rows after the first `after_line`."""
    return runner.read_metrics(run_directory(run), after_line=after_line)


def run_samples(run: Run) -> list[dict[str, Any]]:
    """The policy's answers to the same few prompts as it was trained, in the order of their steps."""
    return runner.read_samples(run_directory(run))


def cancel_run(run: Run) -> Run:
    """Cancel: a queued run at once, a running one as soon as its worker has stopped it at a checkpoint."""
    queued = Run.objects.filter(pk=run.pk, state=State.QUEUED)
    if not queued.update(state=State.CANCELLED, cancel_requested=True, finished_at=timezone.now()):
        Run.objects.filter(pk=run.pk, state=State.RUNNING).update(cancel_requested=True)
    run.refresh_from_db()
    return run


def requeue_run(run: Run) -> Run:
    """Put a run that failed or was cancelled back into the queue; it resumes from its last checkpoint."""
    Run.objects.filter(pk=run.pk, state__in=(State.FAILED, State.CANCELLED)).update(
        state=State.QUEUED, cancel_requested=False, error="", crashes=0, finished_at=None, worker=""
    )
    run.refresh_from_db()
    return run


# --- the worker's side --------------------------------------------------------------------------------------------


def is_run_waiting() -> bool:
    """Whether a run could be claimed; asked by idle workers, since it takes no lock."""
    return _waiting_runs().exists()


def claim_run(worker: str) -> Run | None:
    """Lease the oldest queued run, or one whose worker fell silent; None where there is nothing to do.

    A run under which `CRASH_LIMIT` workers fell silent is failed instead of being leased once more.
    """
    now = timezone.now()
    waiting = _waiting_runs()
    with transaction.atomic():
        if connection.features.has_select_for_update_skip_locked:
            waiting = waiting.select_for_update(skip_locked=True)
        run = waiting.first()
        if run is None:
            return None
        if run.crashes >= CRASH_LIMIT:
            error = f"{run.crashes} workers fell silent while they worked on it; see its log and their memory."
            Run.objects.filter(pk=run.pk, state=run.state, attempt=run.attempt).update(
                state=State.FAILED, error=error, deadline=None, finished_at=now
            )
            return None
        claimed = Run.objects.filter(pk=run.pk, state=run.state, attempt=run.attempt).update(
            state=State.RUNNING,
            attempt=F("attempt") + 1,
            crashes=F("crashes") + (1 if run.state == State.RUNNING else 0),
            worker=worker,
            deadline=_next_deadline(),
            started_at=run.started_at or now,
        )
    related = ("project", "snapshot", "base_model", "reward_model", "gold_model")
    return Run.objects.select_related(*related).get(pk=run.pk) if claimed else None


def heartbeat_run(run: Run) -> bool:
    """Renew the lease and copy the run's facts; False where the lease went to somebody else or the run ended."""
    facts = runner.read_facts(run_directory(run))
    held = _held(run).update(deadline=_next_deadline(), status=facts.status)
    if held:
        run.refresh_from_db(fields=["cancel_requested", "status", "deadline"])
    return held == 1


def release_run(run: Run) -> bool:
    """Give a run back to the queue, to be resumed from its last checkpoint (the worker is shutting down)."""
    return _held(run).update(state=State.QUEUED, deadline=None, worker="") == 1


def prepare_run(run: Run) -> Path:
    """Make the run directory with its inputs, or find the one that is there; return it.

    Raises RunRefused where the inputs are gone or changed since the run was queued.
    """
    directory = run_directory(run)
    directory.mkdir(parents=True, exist_ok=True)
    if run.snapshot is not None:
        try:
            verify_snapshot(run.snapshot)
        except SnapshotRefused as error:
            raise RunRefused(str(error)) from error
    settings = {key: value for key, value in run.spec.items() if key not in OWN_SETTINGS[run.method]}
    if run.method == Run.Method.GENERATE:
        source = _write_rows(directory / "prompts.jsonl", rows=_prompt_rows(run))
    elif run.method == Run.Method.SCORE:
        source = _write_rows(directory / "responses.jsonl", rows=_response_rows(run))
    elif run.method == Run.Method.ADVISE:
        source = _write_rows(directory / "project.jsonl", rows=advice_rows(run.project))
    elif run.method == Run.Method.VERIFY:
        source = _write_rows(directory / "responses.jsonl", rows=_unverified_rows(run))
    else:
        assert run.snapshot is not None
        source = str(snapshot_directory(run.snapshot))
        settings["snapshot_sha256"] = run.snapshot.sha256
    if settings.get("rewards"):
        settings["rewards"] = _locate_terms(run.project, terms=settings["rewards"])
    models = (run.base_model, run.reward_model, run.gold_model)
    spec = {**settings, **_name_inputs(run.method, source=source, models=models)}
    try:
        runner.create_directory(directory, spec=runner.check_settings(run.method, settings=spec))
    except runner.SettingsRefused as error:
        raise RunRefused(str(error)) from error
    return directory


def finish_run(run: Run, *, exit_code: int) -> Run:
    """Write down how the run ended, and collect what it made in the same transaction."""
    facts = runner.read_facts(run_directory(run))
    state, error = facts.state, facts.error
    if state not in ENDED and run.cancel_requested:
        state, error = State.CANCELLED, ""  # stopped before it could say so itself
    elif state not in ENDED:
        state, error = (
            State.FAILED,
            f"The run's process ended with exit code {exit_code} and left no word; see its log.",
        )
    elif state == State.SUCCEEDED and run.method in collecting.COLLECTED:
        try:
            return _close(run, state=state, facts=facts, error="", collect=True)
        except collecting.CollectionRefused as refusal:
            state, error = State.FAILED, str(refusal)
    return _close(run, state=state, facts=facts, error=error, collect=False)


def cancel_claimed_run(run: Run) -> Run:
    """End a run that was cancelled before its process started."""
    return _close(run, state=State.CANCELLED, facts=None, error="", collect=False)


def fail_run(run: Run, *, error: str) -> Run:
    """Write down that the run could not start."""
    return _close(run, state=State.FAILED, facts=None, error=error, collect=False)


@transaction.atomic
def _close(run: Run, *, state: str, facts: runner.Facts | None, error: str, collect: bool) -> Run:
    error = error.replace("\0", "\N{REPLACEMENT CHARACTER}")[:ERROR_LIMIT]
    changes: dict[str, Any] = {
        "state": state,
        "error": error,
        "deadline": None,
        "finished_at": timezone.now(),
    }
    if facts is not None:
        changes |= {"status": facts.status, "report": facts.report}
    if collect:
        changes["collected_at"] = timezone.now()
    if _held(run).update(**changes) and collect:
        collecting.collect_run(run, directory=run_directory(run))
    run.refresh_from_db()
    return run


def _waiting_runs() -> QuerySet[Run]:
    lapsed = Q(state=State.RUNNING, deadline__lte=timezone.now())
    return Run.objects.filter(Q(state=State.QUEUED) | lapsed).order_by("pk")


def _held(run: Run) -> Any:
    return Run.objects.filter(pk=run.pk, state=State.RUNNING, attempt=run.attempt)


def _next_deadline() -> Any:
    return timezone.now() + timedelta(seconds=django_settings.WORKER_LEASE_SECONDS)


def _name_inputs(
    method: str, *, source: str, models: tuple[Model | None, Model | None, Model | None]
) -> dict[str, str]:
    """How a spec of this method names its input and its models: base model, reward model, gold model."""
    key = {"generate": "prompts"}.get(method, "data")
    named = zip(("model", "reward_model", "gold_model"), models, strict=True)
    return {key: source} | {name: collecting.model_location(model) for name, model in named if model is not None}


def _locate_terms(project: Project, *, terms: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """The rewards with what is to be loaded in place of the registered models' names."""
    known = {model.name: collecting.model_location(model) for model in _named_models(project, terms=terms)}

    def locate(names: Any) -> Any:
        return [known.get(name, name) for name in names] if isinstance(names, list) else known.get(names, names)

    return [{**term, "model": locate(term["model"])} if "model" in term else dict(term) for term in terms]


def _named_models(project: Project, *, terms: Any) -> list[Model]:
    """The registered models that rewards name; what is no list of mappings names none, and is refused elsewhere."""
    names: set[str] = set()
    for term in terms if isinstance(terms, list | tuple) else ():
        named = term.get("model") if isinstance(term, Mapping) else None
        names |= {name for name in (named if isinstance(named, list) else [named]) if isinstance(name, str)}
    return list(project.models.filter(name__in=names).order_by("pk"))


def readable_formats(method: str) -> tuple[str, ...]:
    """The snapshot formats that a method can train on, whatever its settings."""
    return (TRAINED_ON[method], *ALSO_TRAINED_ON.get(method, ()))


def _check_inputs(
    project: Project,
    *,
    method: str,
    loss: str | None,
    snapshot: Snapshot | None,
    base_model: Model | None,
) -> None:
    for part in (snapshot, base_model):
        if part is not None and part.project_id != project.pk:
            raise RunRefused("The snapshot and the model must belong to this project.")
    if method in TRAINED_ON:
        if snapshot is None:
            raise RunRefused("Choose the snapshot to train on.")
        wanted = (RATINGS,) if loss == RATINGS else tuple(one for one in readable_formats(method) if one != RATINGS)
        if snapshot.format not in wanted:
            named = f"{method} runs with loss {loss}" if loss else f"{method} runs"
            said = " or ".join(wanted)
            raise RunRefused(f"Snapshot {snapshot.number} is in the format {snapshot.format}; {named} train on {said}.")
        _check_splits(snapshot, needed=("test",) if method == Run.Method.CHECK else ("train", "test"))
    if method == Run.Method.VERIFY:
        _check_verification(project, base_model=base_model)
    needed = Model.Kind.REWARD if method == Run.Method.SCORE else Model.Kind.POLICY
    if method == Run.Method.SCORE and base_model is None:
        raise RunRefused("Choose the reward model that scores.")
    if base_model is not None and base_model.kind != needed:
        raise RunRefused(f"{base_model.name} is a {base_model.get_kind_display()}; this run needs a {needed}.")


def _check_verification(project: Project, *, base_model: Model | None) -> None:
    if not project.prompts.filter(verifier__isnull=False).exists():
        raise RunRefused("No prompt of the project has a verifier; import prompts that name one.")
    if base_model is not None:
        raise RunRefused("A verification starts from no model; reward_model is for verifiers that ask for one.")


def _check_judges(
    project: Project,
    *,
    method: str,
    settings: Mapping[str, Any],
    reward_model: Model | None,
    gold_model: Model | None,
) -> None:
    """The models that reward and watch a policy; messages begin with the setting that they are about."""
    for name, model in (("reward_model", reward_model), ("gold_model", gold_model)):
        if model is None:
            continue
        if method not in JUDGED_BY[name]:
            raise RunRefused(f"{name}: {method} runs take none; it is for {', '.join(JUDGED_BY[name])}.")
        if model.project_id != project.pk:
            raise RunRefused(f"{name}: it must belong to this project.")
        if name in settings:
            raise RunRefused(f"{name}: name it once, as a registered model or in the settings.")
        _require_reward_model(model, setting=name)
    named = _named_models(project, terms=settings.get("rewards")) if method in ONLINE else []
    for model in named:
        _require_reward_model(model, setting="rewards")
    if gold_model is not None and gold_model in (reward_model, *named):
        raise RunRefused(f"gold_model: {gold_model.name} is what the policy is trained against; choose another.")


def _require_reward_model(model: Model, *, setting: str) -> None:
    if model.kind != Model.Kind.REWARD:
        raise RunRefused(f"{setting}: {model.name} is a {model.get_kind_display()}; choose a reward model.")


def _check_splits(snapshot: Snapshot, *, needed: tuple[str, ...]) -> None:
    rows = snapshot.manifest["counts"]["rows"]
    for split in needed:
        if not rows[split]:
            raise RunRefused(
                f"Snapshot {snapshot.number} has no rows in its {split} split, which this run needs: {rows}. "
                "Have more prompts judged, or freeze another snapshot with other shares or another split seed."
            )


def _check_prompt_choice(project: Project, *, own: Mapping[str, Any], snapshot: Snapshot | None) -> None:
    count, split = own["prompt_count"], own["split"]
    if count is not None and (type(count) is not int or not 1 <= count <= PROMPT_LIMIT):
        raise RunRefused(f"prompt_count: {count!r} is not a whole number from 1 to {PROMPT_LIMIT}.")
    if type(own["mix"]) is not bool:
        raise RunRefused(f"mix: {own['mix']!r} is neither true nor false.")
    if (split is None) != (snapshot is None) or split not in (None, *SPLITS):
        raise RunRefused(f"Name a snapshot together with one of its splits ({', '.join(SPLITS)}), or neither.")
    if not project.prompts.exists():
        raise RunRefused("The project has no prompts yet; import some first.")


def _check_advisable(project: Project, *, snapshot: Snapshot | None, with_model: bool) -> None:
    if snapshot is not None:
        raise RunRefused("An advice reads the project as it is now; name no snapshot.")
    if not project.prompts.exists():
        raise RunRefused("The project has no prompts yet; import some first.")
    if with_model and project.prompts.filter(verifier__isnull=False).count() < TRIAL_PROMPTS:
        raise RunRefused(
            f"A trial of thinking aloud needs {TRIAL_PROMPTS} prompts with verifiers at least. Ask without a model, or "
            "import prompts with verifiers."
        )


def _prompt_rows(run: Run) -> Iterator[dict[str, Any]]:
    """The prompts to answer: those with the fewest slates first, so that a new batch reaches new prompts."""
    prompts = run.project.prompts.annotate(seen=Count("slates")).order_by("seen", "pk")
    wanted = read_prompt_ids(run.snapshot, split=run.spec["split"]) if run.snapshot is not None else None
    chosen = (prompt for prompt in prompts.iterator(chunk_size=1000) if wanted is None or prompt.pk in wanted)
    for prompt in islice(chosen, run.spec["prompt_count"]):
        yield {"prompt_id": prompt.pk, "prompt": prompt.messages}


def _response_rows(run: Run) -> Iterator[dict[str, Any]]:
    """The project's responses that this reward model has not scored."""
    responses = Response.objects.filter(prompt__project=run.project).exclude(scores__model=run.base_model)
    for response in responses.select_related("prompt").order_by("pk").iterator(chunk_size=1000):
        yield {"response_id": response.pk, "prompt": response.prompt.messages, "response": response.text}


def _unverified_rows(run: Run) -> Iterator[dict[str, Any]]:
    """The responses without a verdict whose prompts have a verifier."""
    asked = Response.objects.filter(prompt__project=run.project, prompt__verifier__isnull=False, verdict__isnull=True)
    for response in asked.select_related("prompt").order_by("pk").iterator(chunk_size=1000):
        yield {
            "response_id": response.pk,
            "prompt": response.prompt.messages,
            "response": response.text,
            "verifier": response.prompt.verifier,
        }


def _write_rows(path: Path, *, rows: Iterable[dict[str, Any]]) -> str:
    """Write the run's input once; a resumed run finds it as it was."""
    if not path.exists():
        partial = path.with_suffix(".partial")
        count = 0
        with open(partial, "w", encoding="utf-8") as file:
            for row in rows:
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
        if not count:
            partial.unlink()
            raise RunRefused("There is nothing to do: no prompt is left to answer, or no response to score or verify.")
        partial.rename(path)
    return str(path)
