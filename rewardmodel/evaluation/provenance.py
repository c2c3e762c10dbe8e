"""What the run that made a model says of its data and of the models it learned from, where that is known.

A model of ours lies in RUN/outputs/model; another's run is not known, and then nothing is said.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rewardmodel.data import hash_file
from rewardmodel.models import resolve_model
from rewardmodel.rundir import RunDirError, read_json


def read_run(model_name: str) -> dict[str, Any]:
    """{"spec": …, "provenance": …} of the run that made a model; {} where it did not come from one."""
    outputs = resolve_model(model_name).parent
    found: dict[str, Any] = {}
    if outputs.name == "outputs":
        for name in ("spec", "provenance"):
            try:
                found[name] = read_json(outputs.parent / f"{name}.json")
            except (RunDirError, OSError, ValueError):
                continue
    return found


def warn_of_training_data(model_name: str, *, data: Path) -> list[str]:
    """A sentence where the file is one that the model was trained on: such figures are not held-out."""
    hashes = read_run(model_name).get("provenance", {}).get("data_sha256", {})
    if hashes.get("train") == hash_file(data):
        return [f"{data.name} is the file this model was trained on: these figures are not held-out."]
    return []


def warn_of_reward_model(policy: str, *, reward_model: str) -> list[str]:
    """Sentences where the policy's run names the reward model, or both learned from the same judgements.

    A policy finds the faults of the reward model it is trained against (Gao et al. 2023), so that its win rate by that
    model says little.
    """
    run = read_run(policy)
    base = Path(policy).expanduser().resolve().parent.parent
    judge = resolve_model(reward_model)
    warnings = []
    for key, value in run.get("spec", {}).items():
        if "reward" in key and isinstance(value, str) and _is_same_model(value, base=base, other=judge):
            warnings.append(
                f"The policy was trained against this reward model ({key} in its run's spec): its win rate is not "
                "held-out. Judge it by a reward model trained on other judgements."
            )
    ours, theirs = (
        item.get("provenance", {}).get("data_sha256", {}).get("train") for item in (run, read_run(reward_model))
    )
    if ours and ours == theirs:
        warnings.append(
            "The policy and the reward model were trained on the same judgements: agreement between them says less "
            "than agreement with a reward model of other data."
        )
    return warnings


def _is_same_model(name: str, *, base: Path, other: Path) -> bool:
    paths = [Path(name).expanduser(), base / name]
    if any(path.is_dir() and path.resolve() == other for path in paths):
        return True
    weights = {hash_file(file) for file in other.glob("*.safetensors")}
    copies = {hash_file(file) for path in paths if path.is_dir() for file in path.glob("*.safetensors")}
    return bool(weights & copies)
