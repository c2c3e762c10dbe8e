"""Runs that made policies, side by side: what each gained, what it paid in KL, and whether others agree.

Figures are those of the runs' reports and of `queries.compare_policies`; nothing is measured here.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.utils.translation import gettext as _

from annotation.domain.runs import form_fields, run_metrics
from annotation.models import Run
from annotation.training_report import ScoreRow, Series, frontier, is_online

JUDGED_BY = ("reward_model", "rewards")
"""The settings that say what rewards a policy where no registered model does."""


@dataclass(frozen=True)
class Compared:
    """A run as the comparison lists it: its report's figures, and its win rate where its responses were scored."""

    run: Run
    name: str
    heldout: Mapping[str, Any] | None
    untrained: Mapping[str, Any]
    won: Mapping[str, Any] | None


def compare_runs(runs: Sequence[Run], *, won: Mapping[int, Mapping[str, Any]]) -> list[Compared]:
    """The runs' figures side by side. won: by registered model, how its responses did (`queries.compare_policies`)."""
    return [
        Compared(
            run=run,
            name=_("run %(number)d, %(method)s") % {"number": run.number, "method": run.get_method_display()},
            heldout=(run.report or {}).get("heldout") if is_online(run) else None,
            untrained=((run.report or {}).get("baselines") or {}).get("untrained") or {},
            won=won.get(run.registered_model.pk) if hasattr(run, "registered_model") else None,
        )
        for run in runs
    ]


def gain_rows(compared: Iterable[Compared], *, by_gold: bool = False) -> list[ScoreRow]:
    """What each run's held-out score, or its gold score, gained over the untrained policy."""
    rows = []
    for one in compared:
        figures = (one.heldout or {}).get("gold") if by_gold else one.heldout
        if figures and "gain" in figures:
            low, high = figures["gain_interval"] or (figures["gain"],) * 2
            rows.append(ScoreRow(one.name, figures["gain"], low, high, is_main=True))
    return rows


def frontiers(compared: Iterable[Compared]) -> list[Series]:
    """The lines of score against KL, for the runs that have one."""
    lines = [Series(one.name, frontier(run_metrics(one.run))) for one in compared if is_online(one.run)]
    return [line for line in lines if line.points]


def list_differences(compared: Iterable[Compared]) -> list[str]:
    """What the runs do not share that their scores depend on: then those say nothing about the methods."""
    runs = [one.run for one in compared if one.heldout]
    asked: dict[str, list[Any]] = {
        _("reward model"): [run.reward_model_id or repr([run.spec.get(name) for name in JUDGED_BY]) for run in runs],
        _("snapshot"): [run.snapshot_id for run in runs],
        _("model they begin from"): [run.base_model_id or run.spec.get("model") for run in runs],
        _("longest response"): [_setting(run, name="response_tokens") for run in runs],
        _("held-out prompts"): [(run.report or {})["heldout"].get("n_prompts") for run in runs],
    }
    return [name for name, values in asked.items() if len(set(values)) > 1]


def _setting(run: Run, *, name: str) -> Any:
    """A run's setting, whether it was chosen or left at its default."""
    defaults = {description.name: description.default for description in form_fields(run.method)}
    return run.spec.get(name, defaults[name])
