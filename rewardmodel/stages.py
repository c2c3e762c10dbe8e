"""Pipelines as people write them: stages that take each other's models and files, and gates between them.

    stages:
      - name: sft
        spec: {method: sft, data: data/answers}
      - name: rft
        spec: {method: rejection, model: "@sft", data: data/sums}
        gate: {metric: pass@1, not_below: start}
      - name: reward
        spec: {method: reward, data: data/pairs}
      - name: ppo
        spec: {method: ppo, model: "@rft", reward_model: "@reward", data: data/prompts}

`@sft` is the model that stage sft makes, `@rft/pairs.jsonl` a file among its outputs. A gate reads a figure of its
stage's report; where it does not hold, the pipeline stops there. Standard library only: the app reads this module too.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from rewardmodel.contract import (
    SpecError,
    build_settings,
    check_settings,
    is_plain_text,
    name_nearest,
    parse_spec,
    setting,
)

START = "start"
STAGES_LIMIT = 30
NAME = re.compile(r"[a-z][a-z0-9-]{0,39}")
PATH = re.compile(r"[A-Za-z0-9_@-]+(\.[A-Za-z0-9_@-]+)+")
BOUNDS = ("at_least", "at_most", "not_below", "not_above")
MODEL_FIELDS = ("model", "reward_model", "gold_model")
FILE_FIELDS = ("data", "prompts", "examples")
REWARD_FIELDS = ("reward_model", "gold_model")
MODELLESS = ("generate", "score", "check")
FILES = {
    "rejection": ("accepted.jsonl", "pairs.jsonl"),
    "generate": ("responses.jsonl",),
    "score": ("scores.jsonl",),
    "check": ("answers.jsonl",),
}
"""By method, the files that a finished run leaves among its outputs."""
_ANSWERS = {"pass@1": "heldout.pass_at_1", "pass@k": "heldout.pass_at_k"}
_ONLINE = {"score": "heldout.score", "gain": "heldout.gain", "kl": "heldout.kl.per_response"}
FIGURES: dict[str, dict[str, str]] = {
    "reward": {"accuracy": "heldout.accuracy", "log_loss": "heldout.log_loss"},
    "sft": {"loss": "heldout.loss", "gain": "heldout.gain"},
    "dpo": {"accuracy": "heldout.accuracy", "log_loss": "heldout.log_loss"},
    "kto": {"auc": "heldout.auc"},
    "rejection": {**_ANSWERS, "gain": "heldout.gain"},
    "check": _ANSWERS,
    **dict.fromkeys(("ppo", "rloo", "grpo", "online-dpo"), _ONLINE),
    "generate": {},
    "score": {},
}
"""By method, the figures of its report that a gate may name in one word; the first is the one to look at."""
AT_START: dict[str, tuple[str, ...]] = {
    "reward": ("accuracy", "log_loss"),
    "sft": ("loss",),
    "rejection": tuple(_ANSWERS),
    **dict.fromkeys(("ppo", "rloo", "grpo", "online-dpo"), ("score",)),
}
"""By method, those that its report also has of the model before the stage, measured in the same way. (DPO and KTO
measure their reference otherwise than what they trained.)"""
OWN_UNITS = ("gain", "score")
"""Figures that mean something else in reports of another method."""


@dataclass(frozen=True)
class Reference:
    """`@stage` (its model; `file` is empty) or `@stage/file`."""

    stage: str
    file: str

    def __str__(self) -> str:
        return f"@{self.stage}/{self.file}" if self.file else f"@{self.stage}"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """When a pipeline goes on: a figure of the stage's report, and the one bound that it is held to."""

    metric: str = setting(help="A figure of the stage's report: accuracy, pass@1, …, or its path: heldout.log_loss.")
    at_least: float | None = setting(None, help="A number that the figure reaches.")
    at_most: float | None = setting(None, help="A number that the figure does not pass.")
    not_below: str | None = setting(None, help='"start", the model before this stage; or the stage to compare, "@sft".')
    not_above: str | None = setting(None, help="The same for figures that should be low, as a loss.")
    tolerance: float = setting(0.0, minimum=0, help="By how much the bound may be missed.")
    judge_by: str = setting(
        "figure",
        choices=("figure", "whole-interval", "part-of-interval"),
        help="What keeps to the bound: the figure itself, all of its 95 % interval, or some of it.",
    )

    def __post_init__(self) -> None:
        check_settings(self)
        given = [name for name in BOUNDS if getattr(self, name) is not None]
        if len(given) != 1:
            found = f"got {' and '.join(given)}" if given else "got none"
            raise SpecError(f"{BOUNDS[0]}: a gate has one bound of {', '.join(BOUNDS)}; {found}")

    @property
    def bound(self) -> str:
        """Which of BOUNDS it has."""
        return next(name for name in BOUNDS if getattr(self, name) is not None)

    @property
    def upwards(self) -> bool:
        """Whether more is better."""
        return self.bound in ("at_least", "not_below")

    @property
    def against(self) -> str | None:
        """What the figure is compared with: "start" or a stage's name; None where the bound is a number."""
        named = self.not_below or self.not_above
        return named.removeprefix("@") if named is not None else None


@dataclass(frozen=True)
class Stage:
    """One run of a pipeline. spec: as it was written, its references unresolved."""

    name: str
    spec: dict[str, Any]
    gate: Gate | None

    @property
    def method(self) -> str:
        """The method of its spec."""
        return str(self.spec["method"])

    @property
    def metric_path(self) -> str:
        """The path of the gate's metric in the stage's report."""
        assert self.gate is not None
        return FIGURES[self.method].get(self.gate.metric, self.gate.metric)


@dataclass(frozen=True)
class Pipeline:
    """Its stages, each of which may name only earlier ones."""

    stages: tuple[Stage, ...]


@dataclass(frozen=True)
class Verdict:
    """What a gate said. bound: the number that the figure was held to, before the tolerance."""

    holds: bool
    metric: str
    value: float
    interval: tuple[float, float] | None
    direction: str
    bound: float
    against: str | None
    tolerance: float
    judge_by: str
    note: str

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return asdict(self)


def parse_pipeline(mapping: Any, *, outside: tuple[str, ...] = ()) -> Pipeline:
    """The pipeline that a mapping describes, every setting of every stage checked.

    outside: heads of references that the caller resolves itself, as "snapshot" in `@snapshot/3`.
    Raises SpecError naming stage and field.
    """
    _check_keys(mapping, known=("stages",), needed=("stages",), owner="pipeline")
    entries = mapping["stages"]
    if not isinstance(entries, list) or not 1 <= len(entries) <= STAGES_LIMIT:
        raise SpecError(f"stages: expected a list of 1 to {STAGES_LIMIT} stages")
    stages: dict[str, Stage] = {}
    for place, entry in enumerate(entries):
        stage = _parse_stage(entry, place=place, earlier=stages, outside=outside)
        stages[stage.name] = stage
    return Pipeline(stages=tuple(stages.values()))


def map_references(spec: Mapping[str, Any], *, replace: Callable[[Reference, str], Any]) -> dict[str, Any]:
    """The spec with what `replace` makes of each reference and the field that it stands in, as "data.train"."""
    changed = dict(spec)
    for name in (*MODEL_FIELDS, *FILE_FIELDS):
        if name in changed:
            changed[name] = _replace_in(changed[name], field=name, replace=replace)
    if isinstance(changed.get("rewards"), list | tuple):
        changed["rewards"] = [
            {**term, "model": _replace_in(term["model"], field=f"rewards[{place}].model", replace=replace)}
            if isinstance(term, Mapping) and "model" in term
            else term
            for place, term in enumerate(changed["rewards"])
        ]
    return changed


def list_sources(stage: Stage) -> list[str]:
    """The names of the stages whose models and files this one takes, each once."""
    found: dict[str, None] = {}
    map_references(stage.spec, replace=lambda reference, field: found.setdefault(reference.stage))
    return list(found)


def judge_gate(stage: Stage, *, reports: Mapping[str, Mapping[str, Any]]) -> Verdict:
    """What the stage's gate says of its report. reports: by stage, of this one and those before.

    Raises SpecError where a report does not have the figure.
    """
    gate = stage.gate
    assert gate is not None
    path = stage.metric_path
    value = _read_figure(reports[stage.name], path=path, stage=stage.name)
    interval = _read_interval(reports[stage.name], path=path)
    bound, note = _find_bound(stage, reports=reports)
    holds = _keeps(gate, value=value, interval=interval, bound=bound)
    if gate.judge_by != "figure" and interval is None:
        raise SpecError(f"stage {stage.name}: gate.judge_by: the report has no interval of {gate.metric}; use figure")
    return Verdict(
        holds=holds, metric=gate.metric, value=value, interval=interval,
        direction="at least" if gate.upwards else "at most", bound=bound, against=gate.against,
        tolerance=gate.tolerance, judge_by=gate.judge_by, note=note,
    )  # fmt: skip


def describe_verdict(verdict: Mapping[str, Any]) -> str:
    """A sentence: the figure, its interval, the bound, and whether it was kept."""
    low_high = verdict["interval"]
    interval = f" ({low_high[0]:.4g} to {low_high[1]:.4g})" if low_high else ""
    against = {None: "", START: " of the start"}.get(verdict["against"], f" of stage {verdict['against']}")
    slack = f", tolerance {verdict['tolerance']:.4g}" if verdict["tolerance"] else ""
    said = "holds" if verdict["holds"] else "does not hold"
    judged = "" if verdict["judge_by"] == "figure" else f", judged by {verdict['judge_by'].replace('-', ' ')}"
    note = f"; {verdict['note']}" if verdict["note"] else ""
    return (
        f"{verdict['metric']} {verdict['value']:.4g}{interval}, wanted {verdict['direction']} "
        f"{verdict['bound']:.4g}{against}{slack}{judged}: {said}{note}"
    )


def headline(method: str, *, report: Mapping[str, Any]) -> tuple[str, float, tuple[float, float] | None] | None:
    """The figure to look at in a report: its word, value and interval; None where the report has none."""
    for word, path in FIGURES.get(method, {}).items():
        value = _follow(report, path=path)
        return None if value is None else (word, value, _read_interval(report, path=path))
    return None


def _parse_stage(entry: Any, *, place: int, earlier: Mapping[str, Stage], outside: tuple[str, ...]) -> Stage:
    _check_keys(entry, known=("name", "spec", "gate"), needed=("name", "spec"), owner=f"stages[{place}]")
    name = entry["name"]
    if not isinstance(name, str) or not NAME.fullmatch(name):
        raise SpecError(f"stages[{place}].name: expected small letters, digits and hyphens, 40 at most, got {name!r}")
    if name in earlier:
        raise SpecError(f"stages[{place}].name: {name!r} is taken by an earlier stage")
    if name in (START, *outside):
        raise SpecError(f"stages[{place}].name: {name!r} has a meaning of its own; choose another")
    try:
        spec = _check_spec(entry["spec"], earlier=earlier, outside=outside)
    except SpecError as error:
        raise SpecError(f"stage {name}: {_name_place('spec', error)}") from None
    stage = Stage(name=name, spec=spec, gate=None)
    if entry.get("gate") is None:
        return stage
    try:
        return Stage(name=name, spec=spec, gate=_parse_gate(entry["gate"], stage=stage, earlier=earlier))
    except SpecError as error:
        raise SpecError(f"stage {name}: {_name_place('gate', error)}") from None


def _name_place(part: str, error: SpecError) -> str:
    """An error of the contract, which begins with its field, if it has one, as one of this part of a stage."""
    text = str(error)
    return f"{part}.{text}" if re.match(r"[a-z_]+[^ ]*: ", text) else f"{part}: {text}"


def _check_spec(spec: Any, *, earlier: Mapping[str, Stage], outside: tuple[str, ...]) -> dict[str, Any]:
    """The spec as it was written, once it would be taken with every reference resolved."""

    if not isinstance(spec, Mapping):
        raise SpecError(f"expected a mapping of settings, got {type(spec).__name__}")
    method = spec.get("method")
    if not isinstance(method, str) or method not in FIGURES:
        raise SpecError(f"method: {name_nearest(str(method), tuple(FIGURES))}")

    def fill(reference: Reference, field: str) -> str:
        if reference.stage not in outside:
            stage = earlier.get(reference.stage)
            if stage is None:
                known = name_nearest(reference.stage, tuple(earlier)) if earlier else "this is the first stage"
                raise SpecError(f"{field}: {reference} is no earlier stage: {known}")
            check = _check_file if field.split(".")[0] in FILE_FIELDS else _check_model
            check(reference, stage=stage, field=field, method=str(method))
        return "resolved"

    parse_spec(map_references(spec, replace=fill))
    return dict(spec)


def _check_file(reference: Reference, *, stage: Stage, field: str, method: str) -> None:
    files = FILES.get(stage.method, ())
    if reference.file not in files:
        found = f"its files are {', '.join(files)}" if files else f"a stage of method {stage.method} leaves no data"
        raise SpecError(f"{field}: {reference} is no file of stage {stage.name}; {found}")
    if field == "data" and method != "score":
        raise SpecError(f'{field}: {reference} is one file; name splits, as {{train: "{reference}", test: FILE}}')


def _check_model(reference: Reference, *, stage: Stage, field: str, method: str) -> None:
    if reference.file or stage.method in MODELLESS:
        raise SpecError(f"{field}: {reference} is no model; name a stage that trains one, as @NAME")
    wants_reward = field in REWARD_FIELDS or field.startswith("rewards") or method == "score"
    is_reward = stage.method == "reward"
    if is_reward != wants_reward:
        made, wanted = ("reward model", "policy") if is_reward else ("policy", "reward model")
        raise SpecError(f"{field}: {reference} is a {made}, but a {wanted} is wanted")


def _parse_gate(mapping: Any, *, stage: Stage, earlier: Mapping[str, Stage]) -> Gate:
    if not isinstance(mapping, Mapping):
        raise SpecError(f"expected a mapping of settings, got {type(mapping).__name__}")
    gate = build_settings(Gate, settings=mapping, owner="gate")
    figures = FIGURES[stage.method]
    if not PATH.fullmatch(gate.metric) and gate.metric not in figures:
        raise SpecError(f"metric: {name_nearest(gate.metric, tuple(figures))}" if figures else _no_figures(stage))
    named = gate.not_below or gate.not_above
    if named is None:
        return gate
    if named == START:
        _check_start(gate, stage=stage)
        return gate
    if not named.startswith("@") or gate.against not in earlier:
        known = ", ".join(f"@{name}" for name in earlier)
        raise SpecError(f"{gate.bound}: {named!r} is no earlier stage; known are {START}{known and ', '}{known}")
    method = earlier[str(gate.against)].method
    if gate.metric in OWN_UNITS and method != stage.method:
        raise SpecError(f"{gate.bound}: {gate.metric} of method {stage.method} is another quantity than of {method}")
    other = FIGURES[method]
    if gate.metric in figures and other.get(gate.metric) is None:
        raise SpecError(f"{gate.bound}: stage {gate.against} has no {gate.metric}; it has {', '.join(other) or 'none'}")
    return gate


def _check_start(gate: Gate, *, stage: Stage) -> None:
    known = AT_START.get(stage.method, ())
    if stage.spec.get("loss") == "ratings":
        known = ()
    if gate.metric in known or (known and gate.metric.startswith("heldout.")):
        return
    found = f"it has {', '.join(known)}" if known else "compare with a number or with an earlier stage"
    raise SpecError(f"{gate.bound}: the report has no {gate.metric} of the model before the stage; {found}")


def _no_figures(stage: Stage) -> str:
    return f"metric: a stage of method {stage.method} measures nothing; put the gate at another"


def _check_keys(mapping: Any, *, known: tuple[str, ...], needed: tuple[str, ...], owner: str) -> None:
    if not isinstance(mapping, Mapping):
        raise SpecError(f"{owner}: expected a mapping with {', '.join(known)}, got {type(mapping).__name__}")
    for key in mapping:
        if key not in known:
            raise SpecError(f"{owner}: {name_nearest(str(key), known)}")
    for key in needed:
        if key not in mapping:
            raise SpecError(f"{owner}: {key} is missing")


def _replace_in(value: Any, *, field: str, replace: Callable[[Reference, str], Any]) -> Any:
    if isinstance(value, str) and value.startswith("@"):
        if not is_plain_text(value):
            raise SpecError(f"{field}: {value!r} holds a character that cannot be stored (NUL or half of a pair)")
        head, _slash, file = value.removeprefix("@").partition("/")
        return replace(Reference(stage=head, file=file), field)
    if isinstance(value, Mapping):
        return {key: _replace_in(part, field=f"{field}.{key}", replace=replace) for key, part in value.items()}
    if isinstance(value, list | tuple):
        return [_replace_in(part, field=field, replace=replace) for part in value]
    return value


def _find_bound(stage: Stage, *, reports: Mapping[str, Mapping[str, Any]]) -> tuple[float, str]:
    """The number that the figure is held to, and what a reader should know of the comparison."""
    gate, path = stage.gate, stage.metric_path
    assert gate is not None
    if gate.against is None:
        return float(getattr(gate, gate.bound)), ""
    if gate.against == START:
        before = path.replace("heldout.", "baselines.untrained.", 1)
        return _read_figure(reports[stage.name], path=before, stage=stage.name), ""
    own, other = reports[stage.name], reports[gate.against]
    counts = [_follow(report, path="heldout.n_prompts") for report in (own, other)]
    differ = None not in counts and counts[0] != counts[1]
    note = f"the two were measured on {counts[0]:.0f} and {counts[1]:.0f} prompts" if differ else ""
    return _read_figure(other, path=path, stage=gate.against), note


def _keeps(gate: Gate, *, value: float, interval: tuple[float, float] | None, bound: float) -> bool:
    low, high = interval or (value, value)
    judged = {
        "figure": value,
        "whole-interval": low if gate.upwards else high,
        "part-of-interval": high if gate.upwards else low,
    }[gate.judge_by]
    return judged >= bound - gate.tolerance if gate.upwards else judged <= bound + gate.tolerance


def _read_figure(report: Mapping[str, Any], *, path: str, stage: str) -> float:
    value = _follow(report, path=path)
    if value is None:
        raise SpecError(f"the report of stage {stage} has no number at {path}; its gate cannot be judged")
    return value


def _follow(report: Any, *, path: str) -> float | None:
    for part in path.split("."):
        report = report.get(part) if isinstance(report, Mapping) else None
    is_number = isinstance(report, int | float) and not isinstance(report, bool) and math.isfinite(report)
    return float(report) if is_number else None


def _read_interval(report: Any, *, path: str) -> tuple[float, float] | None:
    """The 95 % interval of a figure: over whole prompts where the report has it so.

    `interval` beside a figure is that of the one to look at; any other's is called after it.
    """
    room, _dot, name = path.rpartition(".")
    for part in room.split("."):
        report = report.get(part) if isinstance(report, Mapping) else None
    if not isinstance(report, Mapping):
        return None
    names = [f"{name}_interval"]
    if path in {next(iter(figures.values())) for figures in FIGURES.values() if figures}:
        names += ["interval_by_prompt", "interval"]
    for candidate in names:
        found = report.get(candidate)
        if isinstance(found, list | tuple) and len(found) == 2:
            return float(found[0]), float(found[1])
    return None
