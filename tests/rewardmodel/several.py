"""Start a few processes as a launcher does, each of which calls the same function of a test module with its rank set.

run_in_processes("tests.rewardmodel.several:train", size=2, arguments={...})
"""

from __future__ import annotations

import importlib
import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def run_in_processes(name: str, *, size: int, arguments: Any) -> None:
    """Call module:function(arguments) in `size` connected processes; raises with their output where one fails."""
    environment = {
        **os.environ,
        "WORLD_SIZE": str(size),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(find_port()),
        "PYTHONPATH": os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]),
        "OMP_NUM_THREADS": "1",
        "GLOO_SOCKET_IFNAME": "lo",
        "CUDA_VISIBLE_DEVICES": "",
    }
    command = [sys.executable, "-m", "tests.rewardmodel.several", name, json.dumps(arguments)]
    processes = [
        subprocess.Popen(
            command,
            env={**environment, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
        )
        for rank in range(size)
    ]
    try:
        outputs = [process.communicate(timeout=400)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0] * size, "\n".join(outputs)


def find_port() -> int:
    """A port that is free now."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


def train(runs: list[dict[str, Any]]) -> None:
    """Carry out specs in their directories, one after another: rows {directory, port, outcome, cancel_at?}."""
    from rewardmodel.jobs import run_job
    from rewardmodel.ranks import joined_ranks
    from rewardmodel.rundir import ObservedRun, RunDir
    from rewardmodel.train import common, loop

    seal = loop.seal_checkpoint
    for row in runs:
        os.environ["MASTER_PORT"] = str(row["port"])
        with joined_ranks() as ranks:
            run = RunDir(row["directory"]) if ranks.first else ObservedRun(row["directory"])

            def stop(directory: Path, run: RunDir = run, at: int = row.get("cancel_at", 0)) -> None:
                seal(directory)
                if directory.name == f"checkpoint-{at}":
                    run.request_cancel()

            loop.seal_checkpoint = common.seal_checkpoint = stop
            outcome = run_job(run, show=False)
            assert outcome == row["outcome"], (outcome, run.read_status())


def keep_gradients(arguments: dict[str, Any]) -> None:
    """Loss and whole gradient of one step of a reward model, with weights divided or not, into files."""
    import torch
    from safetensors.torch import save_file

    from rewardmodel.ranks import joined_ranks
    from rewardmodel.train.sharding import join

    with joined_ranks() as ranks:
        for sharded in (False, True):
            training = build_training(arguments, processes=ranks.size, sharded=sharded)
            kept: dict[str, torch.Tensor] = {}

            def keep(rate: float, training: Any = training, kept: dict[str, torch.Tensor] = kept) -> torch.Tensor:
                named = zip(training.optimizer.names, training.optimizer.parameters, strict=True)
                kept.update({name: join(p.grad) for name, p in named})
                return torch.tensor(0.0)

            training.optimizer.step = keep
            training.take_step()
            kept["loss"] = torch.tensor(training.read_log()["loss"])
            if ranks.first:
                save_file(kept, Path(arguments["out"]) / f"{'divided' if sharded else 'whole'}.safetensors")


def build_training(arguments: dict[str, Any], *, processes: int, sharded: bool) -> Any:
    """One step over all groups of a file, in small readings."""
    from rewardmodel.chat import encode_split
    from rewardmodel.compute import Compute
    from rewardmodel.contract import RewardSpec
    from rewardmodel.data import read_judgements
    from rewardmodel.groups import gather_groups
    from rewardmodel.models import create_reward_model, load_tokenizer
    from rewardmodel.train.reward import RewardTraining
    from rewardmodel.train.settle import Settled

    model, compute = Path(arguments["model"]), Compute(device="cpu", precision="fp32")
    tokenizer = load_tokenizer(model)
    pairs = encode_split(tokenizer, pairs=read_judgements(arguments["data"]).pairs, max_length=256).pairs
    groups = gather_groups(pairs)
    return RewardTraining(
        create_reward_model(model, tokenizer=tokenizer, compute=compute, seed=0),
        spec=RewardSpec(data="-", tuning="full"),
        settled=Settled(arguments["packed"], "fp32", False, False, 300, [], processes, sharded),
        compute=compute,
        groups=groups,
        steps=[list(range(len(groups)))],
        pad_id=0,
    )


if __name__ == "__main__":
    module, function = sys.argv[1].split(":")
    getattr(importlib.import_module(module), function)(json.loads(sys.argv[2]))
