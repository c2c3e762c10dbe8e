"""Runs of several processes: the same losses, gradients and weights as one process has, on gloo and CPU."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file

from rewardmodel.contract import InputError, RewardSpec
from rewardmodel.groups import share_out
from rewardmodel.jobs import run_job
from rewardmodel.ranks import Ranks, read_ranks, refuse_sharding, wants_sharding
from rewardmodel.rundir import ObservedRun, RunDir
from tests.rewardmodel.several import ROOT, build_training, find_port, run_in_processes
from tests.rewardmodel.test_train_reward import build_rankings
from tests.rewardmodel.tiny import build_pairs, write_rows

MakeSpec = Callable[..., dict[str, Any]]
CONFIGURATIONS = ROOT / "rewardmodel" / "configs"


def test_the_largest_go_first_each_to_the_part_with_least() -> None:
    """7 | 5; then 4 to the 5, 3 to the 7, and 1 to the 9: 10 and 10."""
    assert share_out([1, 5, 7, 3, 4], parts=2) == [[2, 3], [0, 1, 4]]
    assert share_out([4, 2], parts=1) == [[0, 1]]
    assert share_out([4], parts=2) == [[0], []]


def test_the_launcher_says_which_process_this_is() -> None:
    assert read_ranks({}) == Ranks()
    assert read_ranks({"WORLD_SIZE": "4", "RANK": "3", "LOCAL_RANK": "1"}) == Ranks(rank=3, size=4, local=1)
    with pytest.raises(InputError, match="RANK is not"):
        read_ranks({"WORLD_SIZE": "4"})


def test_accelerate_configured_for_fsdp_divides_the_weights_and_for_deepspeed_is_refused() -> None:
    assert wants_sharding({}) is False
    assert wants_sharding({"ACCELERATE_USE_FSDP": "true"}) is True
    with pytest.raises(InputError, match=r"fsdp2\.yaml"):
        wants_sharding({"ACCELERATE_USE_DEEPSPEED": "true"})
    with pytest.raises(InputError, match="fsdp_offload_params"):
        wants_sharding({"ACCELERATE_USE_FSDP": "true", "FSDP_OFFLOAD_PARAMS": "true"})


def test_one_process_cannot_divide_weights(tmp_path: Path, make_spec: MakeSpec) -> None:
    run = RunDir(tmp_path).create(make_spec("reward", sharding="full"))
    assert run_job(run, show=False) == "bad input"
    assert "accelerate launch" in run.read_status()["error"]


def test_other_processes_write_nothing_into_the_directory(tmp_path: Path) -> None:
    run = RunDir(tmp_path).create({"method": "reward"})
    before = {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()}
    seen = ObservedRun(tmp_path)
    seen.write_status(state="failed")
    seen.append_metrics({"step": 1})
    seen.write_report({})
    seen.write_provenance({})
    seen.drop_metrics_after(0)
    run.request_cancel()
    assert seen.cancel_requested() is False
    run.clear_cancel()
    assert {file.name: file.read_bytes() for file in tmp_path.iterdir() if file.is_file()} == before


@pytest.mark.parametrize("packed", [False, True])
def test_loss_and_gradient_of_two_processes_are_those_of_one(tmp_path: Path, tiny_model: Path, packed: bool) -> None:
    """Five rankings of unlike size in readings of 300 tokens: data-parallel, and with weights divided."""
    rows = [*build_rankings(3), *build_rankings(2, size=9, seed=1)]
    data = write_rows(tmp_path / "train.jsonl", rows)
    arguments = {"model": str(tiny_model), "data": str(data), "packed": packed, "out": str(tmp_path)}
    alone = build_training(arguments, processes=1, sharded=False)
    alone.optimizer.step = lambda rate: torch.tensor(0.0)
    alone.take_step()
    expected = {name: p.grad for name, p in alone.model.named_parameters()}
    loss = alone.read_log()["loss"]
    run_in_processes("tests.rewardmodel.several:keep_gradients", size=2, arguments=arguments)
    for name in ("whole", "divided"):
        found = load_file(tmp_path / f"{name}.safetensors")
        assert found.pop("loss").item() == pytest.approx(loss, abs=1e-6)
        assert found.keys() == expected.keys()
        assert all(torch.allclose(found[key], expected[key], atol=1e-6) for key in found), name


WATCH = {"eval_steps": 1, "early_stopping_patience": 2, "warmup_ratio": 0.0}
CASES: dict[str, dict[str, Any]] = {
    "reward": {"method": "reward", "tuning": "full"},
    "reward-divided": {"method": "reward", "tuning": "full", "sharding": "full", "packing": "packed"},
    "reward-lora-divided": {"method": "reward", "sharding": "full", "batch_tokens": 200},
    "dpo": {"method": "dpo", "tuning": "full"},
    "dpo-divided": {"method": "dpo", "tuning": "full", "sharding": "full", "batch_tokens": 200},
    "reward-validated": {"method": "reward", "tuning": "full", **WATCH},
    "reward-validated-divided": {"method": "reward", "sharding": "full", "batch_tokens": 200, **WATCH},
    "dpo-validated-divided": {"method": "dpo", "tuning": "full", "sharding": "full", "batch_tokens": 200, **WATCH},
    "stopped": {"method": "reward", "tuning": "full"},
    "stopped-divided": {"method": "reward", "tuning": "full", "sharding": "full", "eval_steps": 1},
}


@pytest.fixture(scope="module")
def twice(
    tmp_path_factory: pytest.TempPathFactory, make_spec: MakeSpec, tiny_data: Path
) -> dict[str, dict[str, RunDir]]:
    """Each case by two processes and by one; the stopped ones were stopped at step 4 and went on, the divided one in
    one process and undivided."""
    where = tmp_path_factory.mktemp("twice")
    turned = [row | {"chosen": row["rejected"], "rejected": row["chosen"]} for row in build_pairs(14, seed=7)]
    held = write_rows(where / "validation.jsonl", [*turned, *build_rankings(1, seed=7)])
    data = {split: str(tiny_data / f"{split}.jsonl") for split in ("train", "test")} | {"validation": str(held)}
    runs: dict[str, dict[str, RunDir]] = {"two": {}, "one": {}}
    todo = []
    for name, case in CASES.items():
        rate = {"learning_rate": 1e-3} if case["method"] == "reward" else {"learning_rate": 1e-4, "report_samples": 1}
        common = {"max_steps": 6, "logging_steps": 1, "save_steps": 4, **rate, **case}
        if "eval_steps" in case:
            common["data"] = data
        for count in ("two", "one"):
            spec = make_spec(**(common if count == "two" else {**common, "sharding": "auto"}))
            runs[count][name] = RunDir(where / f"{name}-{count}").create(spec)
        row = {"directory": str(runs["two"][name].path), "outcome": "succeeded"}
        if name.startswith("stopped"):
            todo.append({**row, "outcome": "cancelled", "cancel_at": 4, "port": find_port()})
        if name != "stopped-divided":
            todo.append({**row, "port": find_port()})
    run_in_processes("tests.rewardmodel.several:train", size=2, arguments=todo)
    went_on = runs["two"]["stopped-divided"]
    spec = went_on.read_spec()
    went_on.spec_file.unlink()
    RunDir(went_on.path).create({**spec, "sharding": "auto"})
    went_on.write_status(state="cancelled")
    for run in [*runs["one"].values(), went_on]:
        assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    return runs


@pytest.mark.parametrize("name", list(CASES))
def test_two_processes_train_as_one_does(twice: dict[str, dict[str, RunDir]], name: str) -> None:
    """Every metric of every step (losses and norms to 1e-5) and the saved weights (to 1e-5, from updates of 1e-3)."""
    two, one = twice["two"][name], twice["one"][name]
    ours, theirs = two.read_metrics(), one.read_metrics()
    assert [row["step"] for row in ours] == [row["step"] for row in theirs]
    for mine, other in zip(ours, theirs, strict=True):
        assert {**mine, "time": 0} == pytest.approx({**other, "time": 0}, abs=2e-5, rel=1e-5)
    weights = [load_file(run.outputs / "model" / "model.safetensors") for run in (two, one)]
    assert weights[0].keys() == weights[1].keys()
    for key in weights[0]:
        assert torch.allclose(weights[0][key], weights[1][key], atol=1e-5), key
    assert two.read_report()["heldout"]["n"] == one.read_report()["heldout"]["n"]
    assert two.read_report()["settled"]["processes"] == (1 if name == "stopped-divided" else 2)


def test_a_stopped_run_goes_on_with_any_number_of_processes(twice: dict[str, dict[str, RunDir]]) -> None:
    for name in ("stopped", "stopped-divided"):
        run = twice["two"][name]
        assert run.read_status()["state"] == "succeeded"
        assert sorted(file.name for file in run.checkpoints.glob("checkpoint-*")) == ["checkpoint-5", "checkpoint-6"]


@pytest.mark.parametrize("name", ["data_parallel", "fsdp2", "zero2"])
def test_the_shipped_configurations_are_ones_that_accelerate_reads(name: str) -> None:
    from accelerate.commands.config.config_args import load_config_from_file

    loaded: Any = load_config_from_file(str(CONFIGURATIONS / f"{name}.yaml"))
    kinds = {"data_parallel": "MULTI_GPU", "fsdp2": "FSDP", "zero2": "DEEPSPEED"}
    assert loaded.distributed_type == kinds[name]
    assert yaml.safe_load((CONFIGURATIONS / f"{name}.yaml").read_text())["num_machines"] == 1


def test_accelerate_launches_a_run_and_leaves_no_process_when_it_is_killed(tmp_path: Path, make_spec: MakeSpec) -> None:
    """fsdp2.yaml in two processes: the weights are divided; SIGKILL to the launcher ends them too."""
    spec = make_spec("reward", tuning="full", max_steps=100000, save_steps=100000)
    file = tmp_path / "spec.yaml"
    file.write_text(yaml.safe_dump(spec))
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGURATIONS / "fsdp2.yaml")),
        *("--num_processes", "2", "--main_process_port", str(find_port())),
        *("-m", "rewardmodel", "train", str(file), "--run-dir", str(tmp_path / "run")),
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    with (tmp_path / "log").open("w") as log:
        launcher = subprocess.Popen(command, env=environment, cwd=ROOT, stdout=log, stderr=log)
    try:
        run = RunDir(tmp_path / "run")
        deadline = time.monotonic() + 240
        while not run.read_metrics() and time.monotonic() < deadline and launcher.poll() is None:
            time.sleep(0.5)
        assert run.read_metrics(), (tmp_path / "log").read_text()
        assert "2 processes, weights and optimizer divided among them" in run.read_status()["message"]
        own = find_processes(str(tmp_path / "run"))
        assert len(own - {launcher.pid}) == 2
    finally:
        launcher.send_signal(signal.SIGKILL)
        launcher.wait()
    deadline = time.monotonic() + 20
    while find_processes(str(tmp_path / "run")) and time.monotonic() < deadline:
        time.sleep(0.2)
    assert find_processes(str(tmp_path / "run")) == set()


def find_processes(word: str) -> set[int]:
    """Those of which the command line holds a word."""
    found = set()
    for directory in Path("/proc").glob("[0-9]*"):
        try:
            line = (directory / "cmdline").read_bytes()
        except OSError:
            continue
        if word.encode() in line:
            found.add(int(directory.name))
    return found


def test_a_configuration_for_deepspeed_is_refused_by_our_own_loop(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    run = RunDir(tmp_path).create(make_spec("reward"))
    assert run_job(run, show=False) == "bad input"
    assert "fsdp2.yaml" in run.read_status()["error"]
    assert RewardSpec(data="-").sharding == "auto"


def test_two_processes_stop_early_where_one_does(twice: dict[str, dict[str, RunDir]]) -> None:
    """Most held-out judgements are turned round, so that learning makes them less likely from the start."""
    for name in ("reward-validated", "reward-validated-divided", "dpo-validated-divided"):
        reports = [twice[count][name].read_report() for count in ("two", "one")]
        assert reports[0]["best_step"] == reports[1]["best_step"]
        assert reports[0]["trained_on"]["steps"] == reports[1]["trained_on"]["steps"] < 6


TRL_CASES = {f"{method}-{tuning}": (method, tuning) for method in ("sft", "kto") for tuning in ("full", "lora")}


@pytest.fixture(scope="module")
def over_trl(tmp_path_factory: pytest.TempPathFactory, make_spec: MakeSpec) -> dict[str, dict[str, RunDir]]:
    """SFT and KTO by one process with 8 rows a step, and by two with 4 each; the latter also stopped at step 4 and
    started again, which a single process was refused."""
    where = tmp_path_factory.mktemp("over-trl")
    runs: dict[str, dict[str, RunDir]] = {"one": {}, "two": {}, "stopped": {}}
    first, then = [], []
    for name, (method, tuning) in TRL_CASES.items():
        changes = {"epochs": 1.0, "logging_steps": 1, "save_steps": 4, "eval_steps": 3, "report_samples": 1}
        spec = make_spec(method, tuning=tuning, **changes)
        for kind in runs:
            size = 8 if kind == "one" else 4
            runs[kind][name] = RunDir(where / f"{name}-{kind}").create({**spec, "batch_size": size})
        row = {"directory": str(runs["stopped"][name].path)}
        first.append({**row, "outcome": "cancelled", "cancel_at": 4, "port": find_port()})
        then.append({**row, "outcome": "succeeded", "port": find_port()})
        then.append({"directory": str(runs["two"][name].path), "outcome": "succeeded", "port": find_port()})
    run_in_processes("tests.rewardmodel.several:train", size=2, arguments=first)
    for run in runs["stopped"].values():
        assert run.read_status()["message"] == "cancelled at step 5; the checkpoint is kept"
        assert run_job(run, show=False) == "bad input"
        assert "begun with 2 processes, and is now started with 1" in run.read_status()["error"]
    run_in_processes("tests.rewardmodel.several:train", size=2, arguments=then)
    for run in runs["one"].values():
        assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    return runs


@pytest.mark.parametrize("name", list(TRL_CASES))
def test_over_trl_two_processes_train_as_one_does_on_as_many_rows_a_step(
    over_trl: dict[str, dict[str, RunDir]], name: str
) -> None:
    """Losses, validation losses and gradients of all eight steps to 1e-5, weights to 1e-4, from updates of 5e-3."""
    two, one = over_trl["two"][name], over_trl["one"][name]
    columns = ("step", "loss", "eval_loss", "grad_norm", "learning_rate", "kl")
    rows = [[{key: row[key] for key in columns if key in row} for row in run.read_metrics()] for run in (two, one)]
    assert len(rows[0]) == 11
    for ours, theirs in zip(*rows, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5, rel=1e-5)
    weights = [load_file(run.outputs / "model" / "model.safetensors") for run in (two, one)]
    assert all(torch.allclose(weights[0][key], weights[1][key], atol=1e-4) for key in weights[1])
    reports = [run.read_report() for run in (two, one)]
    assert reports[0]["trained_on"] == reports[1]["trained_on"]
    assert "; 2 processes" in two.read_status()["message"]


@pytest.mark.parametrize("name", list(TRL_CASES))
def test_over_trl_a_run_of_two_processes_stops_together_and_goes_on_to_the_same_end(
    over_trl: dict[str, dict[str, RunDir]], name: str
) -> None:
    """Both see the request after step 5; from its checkpoint they come to the metrics and weights of the whole run."""
    stopped, whole = over_trl["stopped"][name], over_trl["two"][name]
    rows = [[{**row, "time": 0} for row in run.read_metrics()] for run in (stopped, whole)]
    assert rows[0] == rows[1]
    weights = [(run.outputs / "model" / "model.safetensors").read_bytes() for run in (stopped, whole)]
    assert weights[0] == weights[1]


def test_under_zero_2_two_processes_train_as_one_does(
    over_trl: dict[str, dict[str, RunDir]], tmp_path: Path, make_spec: MakeSpec
) -> None:
    pytest.importorskip("deepspeed", reason="DeepSpeed is not installed")
    one = over_trl["one"]["sft-full"]
    spec = json.loads((one.path / "spec.json").read_text())
    file = tmp_path / "spec.json"
    file.write_text(json.dumps({**spec, "batch_size": 4}))
    command = [
        *(sys.executable, "-m", "accelerate.commands.launch", "--config_file", str(CONFIGURATIONS / "zero2.yaml")),
        *("--num_processes", "2", "--main_process_port", str(find_port())),
        *("-m", "rewardmodel", "train", str(file), "--run-dir", str(tmp_path / "run")),
    ]
    path = os.pathsep.join([str(ROOT), *filter(None, sys.path)])
    environment = {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "DS_ACCELERATOR": "cpu"}
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    two = RunDir(tmp_path / "run")
    for ours, theirs in zip(two.read_metrics(), one.read_metrics(), strict=True):
        for key in {"loss", "eval_loss", "grad_norm"} & set(theirs):
            assert ours[key] == pytest.approx(theirs[key], abs=1e-5, rel=1e-5)
    weights = [load_file(run.outputs / "model" / "model.safetensors") for run in (two, one)]
    assert all(torch.allclose(weights[0][key], weights[1][key], atol=1e-4) for key in weights[1])


def test_divided_weights_are_refused_by_methods_over_trl(
    tmp_path: Path, make_spec: MakeSpec, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_sharding({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "2"})
    with pytest.raises(InputError, match=r"data_parallel\.yaml"):
        refuse_sharding({"ACCELERATE_USE_DEEPSPEED": "true", "ACCELERATE_DEEPSPEED_ZERO_STAGE": "3"})
    monkeypatch.setenv("ACCELERATE_USE_FSDP", "true")
    for method in ("sft", "kto"):
        run = RunDir(tmp_path / method).create(make_spec(method))
        assert run_job(run, show=False) == "bad input"
        assert "trains a whole model on every device" in run.read_status()["error"]
