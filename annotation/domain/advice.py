"""What the advisor reads of a project, and the run that an advice leads to.

A right answer is a prompt's reference, or a correction that somebody wrote. A response that was ranked first is none:
it is better than others, and may still be wrong. Judgements of simulated annotators are left out, since they say
nothing about people.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from annotation.domain.snapshot_filters import SnapshotFilters, filter_rankings
from annotation.domain.snapshot_rows import Row, Tally, preference_rows, prompt_row, sft_rows
from annotation.models import Membership, Model, Project, Run, Snapshot

Method = Run.Method
BY_PEOPLE = SnapshotFilters(annotator_kinds=(Membership.Kind.PERSON, Membership.Kind.IMPORTED))
READ = ("prompt", "reference", "verifier", "completion", "chosen", "rejected")
"""The columns of a project's rows that the advisor reads; nothing else of people leaves the database for it."""


@dataclass(frozen=True)
class Start:
    """A run that would follow an advice: its method, the format it trains on, and the newest snapshot that it could
    start from (None where one is yet to be frozen)."""

    method: Run.Method
    format: str
    snapshot: Snapshot | None


def advice_rows(project: Project) -> Iterator[Row]:
    """The prompts, then what people preferred and wrote, as rows that the advisor reads."""
    for prompt in project.prompts.order_by("pk").iterator(chunk_size=1000):
        yield _only_read(prompt_row(prompt))
    tally = Tally()
    for ranking in filter_rankings(project, BY_PEOPLE).iterator(chunk_size=500):
        yield from map(_only_read, preference_rows(ranking, tally=tally))
        yield from (_only_read(row) for row in sft_rows(ranking, tally=tally) if row["origin"] == "correction")


def runs_to_start(project: Project, *, advised: str) -> list[Start]:
    """The runs by which the advised method ("sft", "rft" or "rlhf") is begun, the nearest first.

    RLHF goes by DPO, or by a reward model and then, once one is registered, by PPO.
    """
    if advised == "sft":
        has_references = project.prompts.filter(reference__isnull=False).exclude(reference="").exists()
        choices = [(Method.SFT, "references" if has_references else "sft")]
    elif advised == "rft":
        choices = [(Method.REJECTION, "prompts")]
    else:
        has_judge = project.models.filter(kind=Model.Kind.REWARD).exists()
        then = (Method.PPO, "prompts") if has_judge else (Method.REWARD, "trl-preference")
        choices = [(Method.DPO, "trl-preference"), then]
    return [Start(method, format, newest_trainable(project, format=format)) for method, format in choices]


def newest_trainable(project: Project, *, format: str) -> Snapshot | None:
    """The newest snapshot of a format with rows to learn from and rows to be measured on."""
    filled = {f"manifest__counts__rows__{split}__gt": 0 for split in ("train", "test")}
    return project.snapshots.filter(format=format, **filled).order_by("-number").first()


def _only_read(row: Row) -> dict[str, Any]:
    return {name: row[name] for name in READ if name in row}
