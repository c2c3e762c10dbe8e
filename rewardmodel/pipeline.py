"""Carry out a pipeline (`stages`) in a directory: one stage after the other, each an ordinary run, gates between them.

    pipeline.json    {state, message, stages: [{name, method, directory, state, sources, figure, gate}], updated_at}
    01-sft/          the first stage's run directory (`rundir`), and so on

Everything follows from the spec and these run directories. A pipeline that was stopped, or whose process died, goes on
when it is started again: finished stages are left as they are, the one that was not finished resumes from its
checkpoint, and every gate is judged again by the spec as it is now.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rewardmodel.contract import SpecError, parse_spec, spec_to_dict
from rewardmodel.jobs import EXIT_CODES, resolve_paths
from rewardmodel.rundir import RunDir, RunDirBusyError, RunDirError, write_json
from rewardmodel.stages import (
    Pipeline,
    Reference,
    Stage,
    Verdict,
    describe_verdict,
    headline,
    judge_gate,
    list_sources,
    map_references,
)

STATE_FILE = "pipeline.json"
EXIT_HELD = 5
BUSY = 3


def run_pipeline(
    pipeline: Pipeline, *, directory: Path, base: Path, carry_out: Callable[[RunDir], str]
) -> dict[str, Any]:
    """Run or resume a pipeline; the state that it ended with, as pipeline.json has it.

    base: where relative paths of the specs are looked for. carry_out: runs a directory, and returns the key of
    EXIT_CODES that it ended with. state is "succeeded", "failed", "cancelled", or "held": a gate does not hold.
    Raises RunDirBusyError where another process is at it, and, before anything is run, RunDirError where a stage was
    begun with other settings, or before a stage that it takes from.
    """
    with RunDir(directory).lock():
        runs = lay_out(pipeline, directory=directory)
        verdicts: dict[str, Verdict] = {}
        for stage in pipeline.stages:
            check_begun(runs[stage.name], stage=stage, runs=runs, base=base)
        for stage in pipeline.stages:
            open_stage(runs[stage.name], stage=stage, runs=runs, base=base)
            write_state(pipeline, runs=runs, verdicts=verdicts, state="running", message=f"stage {stage.name}")
            state, message = end_stage(runs[stage.name], stage=stage, outcome=carry_out(runs[stage.name]))
            if state == "succeeded" and stage.gate is not None:
                try:
                    verdicts[stage.name] = judge_gate(stage, reports=read_reports(runs))
                except SpecError as error:
                    state, message = "failed", str(error)
                else:
                    state, message = explain_verdict(stage, verdict=verdicts[stage.name])
            if state != "succeeded":
                return write_state(pipeline, runs=runs, verdicts=verdicts, state=state, message=message)
        return write_state(pipeline, runs=runs, verdicts=verdicts, state="succeeded", message=None)


def end_stage(run: RunDir, *, stage: Stage, outcome: str) -> tuple[str, str | None]:
    """The state in which a stage ended, and what there is to say of it."""
    if outcome == "succeeded":
        if not run.cancel_requested():
            return "succeeded", None
        run.clear_cancel()  # it came too late for this stage; the next one is not begun
        return "cancelled", f"stopped after stage {stage.name}"
    status = run.read_status()
    said = status["error"] or status["message"] or "its process ended without a word"
    return ("cancelled" if outcome == "cancelled" else "failed"), f"stage {stage.name}: {said}"


def run_in_process(run: RunDir, *, unsafe_code: bool) -> str:
    """Carry a directory out in a process of its own, whose memory is free again after it.

    unsafe_code: whether model-written code may run where nothing isolates it.
    """
    command = [sys.executable, "-m", "rewardmodel", "run", str(run.path)]
    command += ["--unsafe-without-sandbox"] if unsafe_code else []
    done = subprocess.run(command, stdout=subprocess.DEVNULL)
    if done.returncode == BUSY:
        raise RunDirBusyError(f"another process works on {run.path}")
    outcomes = {code: outcome for outcome, code in EXIT_CODES.items()}
    return outcomes.get(done.returncode, "failed")


def lay_out(pipeline: Pipeline, *, directory: Path) -> dict[str, RunDir]:
    """The run directory of each stage."""
    return {
        stage.name: RunDir(directory / f"{place:02}-{stage.name}") for place, stage in enumerate(pipeline.stages, 1)
    }


def open_stage(run: RunDir, *, stage: Stage, runs: dict[str, RunDir], base: Path) -> None:
    """Make the stage's run directory, or find the one that is there."""
    if run.spec_file.exists():
        run.clear_cancel()  # whoever starts the pipeline again wants it to go on
    else:
        run.create(write_spec(stage, runs=runs, base=base))


def write_spec(stage: Stage, *, runs: dict[str, RunDir], base: Path) -> dict[str, Any]:
    """What the stage's run is asked: its references are paths among the other stages' outputs."""

    def place(reference: Reference, field: str) -> str:
        outputs = runs[reference.stage].outputs
        return str((outputs / (reference.file or "model")).absolute())

    return spec_to_dict(resolve_paths(parse_spec(map_references(stage.spec, replace=place)), base=base))


def check_begun(run: RunDir, *, stage: Stage, runs: dict[str, RunDir], base: Path) -> None:
    """Raise RunDirError where a stage that has begun was asked something else, or is older than what it takes."""
    if not run.spec_file.exists():
        return
    spec, before = write_spec(stage, runs=runs, base=base), run.read_spec()
    changed = [name for name, value in json.loads(json.dumps(spec)).items() if before.get(name) != value]
    remedy = "choose another directory, or delete that one and those of the stages after it"
    if changed:
        raise RunDirError(
            f"stage {stage.name}: {run.path} was begun with other settings ({', '.join(changed)}); put them back, "
            f"{remedy}"
        )
    began = run.read_status()["started_at"]
    for source in list_sources(stage):
        made = runs[source]
        if began is not None and (not made.spec_file.exists() or (made.read_status()["started_at"] or 0) > began):
            raise RunDirError(f"stage {stage.name}: {run.path} was begun before stage {source} was run anew; {remedy}")


def read_reports(runs: dict[str, RunDir]) -> dict[str, dict[str, Any]]:
    """The reports of the stages that have one."""
    return {name: run.read_report() for name, run in runs.items() if run.report_file.exists()}


def explain_verdict(stage: Stage, *, verdict: Verdict) -> tuple[str, str | None]:
    """The state after a gate; where it does not hold, why, and what can be done."""
    if verdict.holds:
        return "succeeded", None
    return "held", (
        f"stage {stage.name}: its gate does not hold: {describe_verdict(verdict.to_dict())}. To go on, change the "
        "gate and start again; for another try at the stage change its settings in a new directory"
    )


def write_state(
    pipeline: Pipeline, *, runs: dict[str, RunDir], verdicts: dict[str, Verdict], state: str, message: str | None
) -> dict[str, Any]:
    """Replace pipeline.json; what it says."""
    reports = read_reports(runs)
    rows = []
    for stage in pipeline.stages:
        found = headline(stage.method, report=reports[stage.name]) if stage.name in reports else None
        rows.append(
            {
                "name": stage.name,
                "method": stage.method,
                "directory": runs[stage.name].path.name,
                "state": runs[stage.name].read_status()["state"] if runs[stage.name].path.exists() else "waiting",
                "sources": list_sources(stage),
                "figure": found and {"metric": found[0], "value": found[1], "interval": found[2]},
                "gate": verdicts[stage.name].to_dict() if stage.name in verdicts else None,
            }
        )
    told = {"state": state, "message": message, "stages": rows, "updated_at": time.time()}
    write_json(runs[pipeline.stages[0].name].path.parent / STATE_FILE, told)
    return told


def render_state(told: dict[str, Any]) -> str:
    """A line a stage: state, figure and gate."""
    lines = []
    for row in told["stages"]:
        line = f"{row['directory']:<24} {row['method']:<10} {row['state']}"
        if row["figure"]:
            low_high = row["figure"]["interval"]
            interval = f" ({low_high[0]:.4g} to {low_high[1]:.4g})" if low_high else ""
            line += f"  {row['figure']['metric']} {row['figure']['value']:.4g}{interval}"
        if row["gate"]:
            line += f"  gate: {describe_verdict(row['gate'])}"
        lines.append(line)
    return "\n".join(lines)
