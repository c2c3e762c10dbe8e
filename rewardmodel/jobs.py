"""Carry out the spec in a run directory: what `train` and `run` do, and what the app's worker starts."""

from __future__ import annotations

import sys
import time
import traceback
import warnings
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from rewardmodel.contract import (
    EMBEDDED_MODEL,
    AdviseSpec,
    CheckSpec,
    DPOSpec,
    GenerateSpec,
    InputError,
    KTOSpec,
    OnlineSpec,
    RejectionSpec,
    RewardSpec,
    ScoreSpec,
    SFTSpec,
    Spec,
    VerifySpec,
    parse_spec,
)
from rewardmodel.progress import CancelledError, Progress
from rewardmodel.ranks import current_ranks
from rewardmodel.rundir import RunDir, write_text

# A launcher stops all processes once one has failed; the first should have time to say why.
PATIENCE = 3.0
EXIT_CODES = {"succeeded": 0, "failed": 1, "bad input": 2, "cancelled": 4}


def run_job(run: RunDir, *, show: bool = True, unsafe_code: bool = False) -> str:
    """Run or resume the job of a directory; returns the key of EXIT_CODES it ended with.

    unsafe_code: whether model-written code may run where nothing isolates it; no spec can say so.

    The status says so too ("bad input" is state "failed"), with the error's text; the traceback goes to error.log.
    A directory that already succeeded is left as it is. A cancelled one goes on, unless asked to stop again.
    Raises RunDirBusyError where another process holds the directory, RunDirError where it holds no spec.

    Of several processes (`ranks`) the first does all this, and the others take part in what it does.
    """
    if not current_ranks().first:
        return _take_part(run, unsafe_code=unsafe_code)
    with run.lock():
        status = run.read_status()
        if status["state"] == "succeeded":
            return "succeeded"
        if status["state"] == "cancelled":
            run.clear_cancel()  # that request was met; whoever starts the run again wants it to go on
        run.read_spec()
        run.write_status(state="running", started_at=status["started_at"] or time.time(), message=None, error=None)
        try:
            with Progress(run, show=show) as progress:
                report = _carry_out(run, progress=progress, unsafe_code=unsafe_code)
            run.write_report(report)
            steps = report.get("trained_on", {}).get("steps", run.read_status()["total_steps"])
            run.write_status(state="succeeded", phase="done", step=steps, total_steps=steps, eta_seconds=0)
            return "succeeded"
        except CancelledError as stopped:
            run.write_status(state="cancelled", message=str(stopped), eta_seconds=None)
            return "cancelled"
        except InputError as error:
            run.write_status(state="failed", error=str(error), eta_seconds=None)
            return "bad input"
        except Exception as error:
            write_text(run.path / "error.log", traceback.format_exc())
            run.write_status(state="failed", error=f"{type(error).__name__}: {error}", eta_seconds=None)
            return "failed"


def _take_part(run: RunDir, *, unsafe_code: bool) -> str:
    if run.read_status()["state"] == "succeeded":
        return "succeeded"
    try:
        _carry_out(run, progress=Progress(run, show=False), unsafe_code=unsafe_code)
        return "succeeded"
    except CancelledError:
        return "cancelled"
    except InputError:
        time.sleep(PATIENCE)
        return "bad input"
    except Exception:
        print(traceback.format_exc(), file=sys.stderr)
        time.sleep(PATIENCE)
        return "failed"


def _carry_out(run: RunDir, *, progress: Progress, unsafe_code: bool) -> dict[str, Any]:
    progress.start("starting")
    spec = resolve_paths(parse_spec(run.read_spec()), base=run.path)
    one_process = GenerateSpec | ScoreSpec | VerifySpec | RejectionSpec | CheckSpec | AdviseSpec
    if current_ranks().several and isinstance(spec, one_process):
        raise InputError(f"method {spec.method} runs in one process; start it without accelerate launch")
    # TRL and transformers rename settings in every release; the old names are the ones both our versions know.
    warnings.simplefilter("ignore", FutureWarning)
    # Imported only now: a bad spec should be refused in a moment, not after torch's seconds.
    from rewardmodel.compute import list_versions

    run.write_status(versions=list_versions())
    for directory in (run.checkpoints, run.outputs):
        directory.mkdir(parents=True, exist_ok=True)
    if isinstance(spec, RewardSpec):
        from rewardmodel.train.reward import run_reward

        return run_reward(spec, run=run, progress=progress)
    if isinstance(spec, SFTSpec):
        from rewardmodel.train.sft import run_sft

        return run_sft(spec, run=run, progress=progress)
    if isinstance(spec, DPOSpec):
        from rewardmodel.train.dpo import run_dpo

        return run_dpo(spec, run=run, progress=progress)
    if isinstance(spec, KTOSpec):
        from rewardmodel.train.kto import run_kto

        return run_kto(spec, run=run, progress=progress)
    if isinstance(spec, RejectionSpec):
        from rewardmodel.train.rejection import run_rejection

        return run_rejection(spec, run=run, progress=progress, unsafe_code=unsafe_code)
    if isinstance(spec, OnlineSpec):
        from rewardmodel.train.ppo import run_ppo

        return run_ppo(spec, run=run, progress=progress, unsafe_code=unsafe_code)
    if isinstance(spec, CheckSpec):
        from rewardmodel.train.check import run_check

        return run_check(spec, run=run, progress=progress, unsafe_code=unsafe_code)
    if isinstance(spec, GenerateSpec):
        from rewardmodel.generate import run_generate

        return run_generate(spec, run=run, progress=progress)
    if isinstance(spec, AdviseSpec):
        from rewardmodel.evidence import run_advise

        return run_advise(spec, progress=progress)
    if isinstance(spec, VerifySpec):
        from rewardmodel.verify import run_verify

        return run_verify(spec, run=run, progress=progress, unsafe_code=unsafe_code)
    from rewardmodel.score import run_score

    return run_score(spec, run=run, progress=progress)


def resolve_paths(spec: Spec, *, base: Path) -> Spec:
    """The spec with its files as absolute paths; relative ones are looked for under `base`."""
    changes: dict[str, Any] = {}
    if not isinstance(spec, VerifySpec) and spec.model is not None:
        changes["model"] = _resolve_model_path(spec.model, base=base)
    if isinstance(spec, OnlineSpec):
        for name in ("reward_model", "gold_model"):
            if getattr(spec, name) is not None:
                changes[name] = _resolve_model_path(getattr(spec, name), base=base)
        changes["rewards"] = tuple(_resolve_term(term, base=base) for term in spec.rewards)
    if isinstance(spec, RejectionSpec | CheckSpec | VerifySpec) and spec.reward_model is not None:
        changes["reward_model"] = _resolve_model_path(spec.reward_model, base=base)
    if isinstance(spec, RejectionSpec):
        changes["explorers"] = tuple(_resolve_model_path(name, base=base) for name in spec.explorers)
    for name in ("data", "prompts", "examples"):
        value = getattr(spec, name, None)
        if isinstance(value, Mapping):
            changes[name] = {split: str(base / file) for split, file in value.items()}
        elif value is not None:
            changes[name] = str(base / value)
    return replace(spec, **changes)


def _resolve_term(term: dict[str, Any], *, base: Path) -> dict[str, Any]:
    if "model" not in term:
        return term
    names = term["model"]
    if isinstance(names, str):
        return {**term, "model": _resolve_model_path(names, base=base)}
    return {**term, "model": [_resolve_model_path(name, base=base) for name in names]}


def _resolve_model_path(name: str, *, base: Path) -> str:
    """A directory under `base`, or the name as it is: it may be the embedded model or a hub id."""
    if name == EMBEDDED_MODEL or name.startswith("~"):
        return name
    path = base / name
    return str(path) if path.is_dir() else name
