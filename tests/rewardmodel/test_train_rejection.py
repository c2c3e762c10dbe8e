"""Rejection sampling on the tiny model: a verifier's word is learned, attempts follow the plan, exact resumes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from rewardmodel import jobs
from rewardmodel.contract import SpecError, parse_spec
from rewardmodel.data import read_examples, read_judgements
from rewardmodel.generate import Job
from rewardmodel.jobs import run_job
from rewardmodel.rundir import RunDir, note_where_not_isolated, read_json_lines
from rewardmodel.train import explore, rejection
from rewardmodel.train.explore import Exploration, cut_batches, plan_wave
from rewardmodel.train.rejection import Sampling
from tests.rewardmodel.tiny import GOOD_WORD, build_pairs, write_rows

MakeSpec = Callable[..., dict[str, Any]]
VERIFIER = {"kind": "constraints", "constraints": [{"type": "regex", "pattern": GOOD_WORD}]}


class Crash(BaseException):
    """The process dies."""


@pytest.fixture(scope="module")
def talker(tmp_path_factory: pytest.TempPathFactory, make_spec: MakeSpec) -> Path:
    """A tiny policy that ends its answers and says the good word in about half of them."""
    directory = tmp_path_factory.mktemp("talker")
    for split, seed in (("train", 1), ("test", 2)):
        pairs = build_pairs(96, seed=seed)
        rows = [
            {"prompt": pair["prompt"], "completion": pair[side]} for pair in pairs for side in ("chosen", "rejected")
        ]
        write_rows(directory / "data" / f"{split}.jsonl", rows)
    spec = make_spec("sft", data=str(directory / "data"), tuning="full", epochs=4.0, report_samples=0)
    run = RunDir(directory / "run").create(spec)
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    return run.outputs / "model"


@pytest.fixture(scope="module")
def make_rejection(talker: Path, tmp_path_factory: pytest.TempPathFactory, make_spec: MakeSpec) -> MakeSpec:
    directory = tmp_path_factory.mktemp("prompts")
    for split, n, seed in (("train", 24, 1), ("test", 20, 2)):
        rows = [
            {"prompt_id": f"{split}-{number}", "prompt": pair["prompt"], "verifier": VERIFIER}
            for number, pair in enumerate(build_pairs(n, seed=seed, pairs_a_prompt=1))
        ]
        write_rows(directory / f"{split}.jsonl", rows)

    def make(**changes: Any) -> dict[str, Any]:
        settings = {
            "model": str(talker), "data": str(directory), "tuning": "full", "learning_rate": 5e-3, "epochs": 3.0,
            "rounds": 2, "samples": 2, "max_samples": 6, "enough": 2, "per_prompt": 2, "response_tokens": 24,
            "generation_batch_size": 16, "test_samples": 4, "pass_k": 2, "workers": 1, "report_samples": 2,
            "tensorboard": False, "save_steps": 3,
        }  # fmt: skip
        return make_spec("rejection", **{**settings, **changes})

    return make


@pytest.fixture(scope="module")
def rejection_run(make_rejection: MakeSpec, tmp_path_factory: pytest.TempPathFactory) -> RunDir:
    run = RunDir(tmp_path_factory.mktemp("rejection") / "run").create(make_rejection())
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    return run


def attempts_of(run: RunDir, number: int) -> list[dict[str, Any]]:
    return read_json_lines(run.path / "rounds" / str(number) / "attempts.jsonl")


def made(run: RunDir) -> dict[str, bytes]:
    """All files of a run whose content does not tell the time."""
    names = ["model/model.safetensors", "accepted.jsonl", "pairs.jsonl"]
    files = {name: (run.outputs / name).read_bytes() for name in names}
    for number in (1, 2):
        for name in ("attempts.jsonl", "train.jsonl", "heldout.jsonl"):
            files[f"{number}/{name}"] = (run.path / "rounds" / str(number) / name).read_bytes()
    return files


def test_held_out_prompts_are_answered_right_more_often(rejection_run: RunDir) -> None:
    report = rejection_run.read_report()
    heldout, untrained = report["heldout"], report["baselines"]["untrained"]
    assert (heldout["n"], heldout["n_prompts"], heldout["k"]) == (80, 20, 2)
    assert 0.2 < untrained["pass_at_1"] < 0.8 < heldout["pass_at_1"]
    assert heldout["gain"] == pytest.approx(heldout["pass_at_1"] - untrained["pass_at_1"])
    assert heldout["gain_interval"][0] > 0
    assert heldout["pass_at_k"] >= heldout["pass_at_1"]
    rows = read_json_lines(rejection_run.path / "rounds" / "2" / "heldout.jsonl")
    assert heldout["pass_at_1"] == pytest.approx(sum(GOOD_WORD in row["response"] for row in rows) / 80)
    assert [row["round"] for row in report["rounds"]] == [1, 2]
    assert report["rounds"][1]["acceptance"] > report["rounds"][0]["acceptance"]
    assert [row["pass_at_1"] for row in report["rounds"]][-1] == heldout["pass_at_1"]


def test_what_is_easy_gets_few_attempts_and_what_is_hard_many(rejection_run: RunDir) -> None:
    rows = attempts_of(rejection_run, 1)
    assert len(rows) == rejection_run.read_report()["rounds"][0]["attempts"]
    assert {(row["prompt_id"], row["index"]) for row in rows}.__len__() == len(rows)
    for prompt_id in {row["prompt_id"] for row in rows}:
        own = sorted((row for row in rows if row["prompt_id"] == prompt_id), key=lambda row: row["index"])
        assert [row["index"] for row in own] == list(range(len(own)))
        for wave in range(2, len(own) + 1, 2):
            usable = {row["response"] for row in own[:wave] if row["passed"] and row["finish_reason"] == "eos"}
            assert (len(usable) >= 2 or wave == 6) == (wave == len(own))


def test_only_different_accepted_attempts_are_learned_and_pairs_are_what_dpo_reads(rejection_run: RunDir) -> None:
    accepted = read_json_lines(rejection_run.outputs / "accepted.jsonl")
    assert all(GOOD_WORD in row["completion"][0]["content"] for row in accepted)
    assert max(sum(row["prompt_id"] == one["prompt_id"] for row in accepted) for one in accepted) <= 2
    texts = [(row["prompt_id"], row["completion"][0]["content"]) for row in accepted]
    assert len(set(texts)) == len(texts) == rejection_run.read_report()["rounds"][-1]["kept"]
    by_place = {
        (number, row["prompt_id"], row["index"]): row["response"]
        for number in (1, 2)
        for row in attempts_of(rejection_run, number)
    }
    for row in accepted:
        assert by_place[row["round"], row["prompt_id"], row["index"]] == row["completion"][0]["content"]
    pairs = read_judgements(rejection_run.outputs / "pairs.jsonl").pairs
    assert len(pairs) == rejection_run.read_report()["pairs"] > 0
    assert all(
        GOOD_WORD in pair.chosen[0]["content"] and GOOD_WORD not in pair.rejected[0]["content"] for pair in pairs
    )


def test_metrics_tell_acceptance_and_speed_and_the_card_what_was_measured(rejection_run: RunDir) -> None:
    rows = rejection_run.read_metrics()
    assert [row["step"] for row in rows] == list(range(1, len(rows) + 1))
    assert all(row["tokens_per_second"] > 0 and 0 <= row["acceptance"] <= 1 for row in rows if "attempts" in row)
    for told in rejection_run.read_report()["rounds"]:
        made = attempts_of(rejection_run, told["round"])
        accepted = [row for row in made if row["passed"] and row["finish_reason"] == "eos"]
        last = [row for row in rows if row["round"] == told["round"] and "attempts" in row][-1]
        assert told["acceptance"] == last["acceptance"] == len(accepted) / len(made)
    assert [row["round"] for row in rows if "pass_at_1" in row] == [1, 2]
    card = (rejection_run.outputs / "model" / "README.md").read_text()
    assert "rejection-sampling fine-tuning" in card
    assert "pass_at_1" in card


@pytest.mark.parametrize("where", ["half a batch", "training"])
def test_a_run_that_died_in_a_round_ends_as_it_would_have(
    where: str, rejection_run: RunDir, make_rejection: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path / "run").create(make_rejection())
    calls = {"batches": 0, "sampled": 0}
    generate = explore.generate_batch

    def count(*args: Any, batch: list[Job], **kwargs: Any) -> Any:
        calls["batches"] += 1
        calls["sampled"] += len(batch)
        return generate(*args, batch=batch, **kwargs)

    monkeypatch.setattr(explore, "generate_batch", count)
    with monkeypatch.context() as patch:
        if where == "training":

            def die(*args: Any, **kwargs: Any) -> Any:
                raise Crash

            patch.setattr("rewardmodel.train.sft.save_model", die)
        else:

            def die_late(path: Path, rows: list[dict[str, Any]]) -> None:
                if calls["batches"] == 7:
                    append(path, rows[:5])
                    with path.open("a") as file:
                        file.write(json.dumps(rows[5])[:20])
                    raise Crash
                append(path, rows)

            append = explore.append_json_lines
            patch.setattr(explore, "append_json_lines", die_late)
        with pytest.raises(Crash):
            run_job(run, show=False)
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    assert made(run) == made(rejection_run)
    kept = [row for number in (0, 1, 2) for name in ("attempts", "heldout")
            for row in read_json_lines(run.path / "rounds" / str(number) / f"{name}.jsonl")]  # fmt: skip
    lost = calls["sampled"] - len(kept)
    assert lost == 0 if where == "training" else 0 < lost <= 16


@pytest.mark.parametrize("lost", ["the record of a training", "half of the held-out answers", "the outputs"])
def test_what_a_dying_run_left_at_its_end_is_made_again_as_it_was(
    lost: str, rejection_run: RunDir, tmp_path: Path
) -> None:
    """A finished run without what came after the moment of its death."""
    run = RunDir(Path(shutil.copytree(rejection_run.path, tmp_path / "run")))
    run.report_file.unlink()
    run.write_status(state="running")
    for name in ("accepted.jsonl", "pairs.jsonl", "model/model.safetensors"):
        (run.outputs / name).unlink()
    if lost != "the outputs":
        answers = run.path / "rounds" / "2" / "heldout.jsonl"
        answers.write_bytes(b"".join(answers.read_bytes().splitlines(keepends=True)[:21])[:-9])
    if lost == "the record of a training":
        answers.unlink()
        (run.checkpoints / "trained-2.json").unlink()
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    assert made(run) == made(rejection_run)
    before, after = rejection_run.read_report(), run.read_report()
    assert {**after, "seconds": 0} == {**before, "seconds": 0}


def test_a_cancelled_run_stops_after_its_batch(
    make_rejection: MakeSpec, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = RunDir(tmp_path / "run").create(make_rejection())
    observe = rejection.observe

    def cancel(run: RunDir, **kwargs: Any) -> None:
        observe(run, **kwargs)
        run.request_cancel()

    with monkeypatch.context() as patch:
        patch.setattr(rejection, "observe", cancel)
        assert run_job(run, show=False) == "cancelled"
    assert len(attempts_of(run, 1)) == 16


def test_examples_are_mixed_in_and_the_last_policy_can_be_trained_on(make_rejection: MakeSpec, tmp_path: Path) -> None:
    rows = [{"prompt": pair["prompt"], "completion": pair["chosen"]} for pair in build_pairs(400, seed=9)]
    examples = write_rows(tmp_path / "examples.jsonl", rows)
    changes = {"start_from": "last", "accumulate": False, "choice": "probable", "balance": True, "tuning": "lora"}
    run = RunDir(tmp_path / "run").create(make_rejection(examples=str(examples), examples_ratio=1.0, **changes))
    assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    last = run.read_report()["rounds"][-1]
    assert last["mixed"] == last["kept"]
    learned = read_examples(run.path / "rounds" / "2" / "train.jsonl")
    assert len(learned) == last["rows"] == 2 * last["kept"]
    assert json.loads((run.path / "rounds" / "2" / "sft" / "spec.json").read_text())["model"].endswith(
        "rounds/1/sft/outputs/model"
    )


def test_a_wave_holds_the_prompts_without_enough_accepted_attempts() -> None:
    """Prompt 0 has two different accepted attempts, 1 has twice the same, 2 none, and 3 one that was cut off."""

    def row(text: str, *, passed: bool = True, end: str = "eos") -> Any:
        return {"response": text, "passed": passed, "finish_reason": end}

    made = {(0, 0): row("a"), (0, 1): row("b"), (1, 0): row("a"), (1, 1): row(" A"), (2, 0): row("x", passed=False),
            (2, 1): row("y", passed=False), (3, 0): row("a"), (3, 1): row("b", end="length")}  # fmt: skip
    plan = Exploration(samples=2, max_samples=3, enough=2, sampling=Sampling())
    encoded = [(1,), (1, 2, 3), (1, 2), (1, 2, 3, 4)]

    def encode(place: int, index: int) -> tuple[int, ...]:
        return encoded[place]

    jobs = plan_wave(plan, prompts=4, encode=encode, made=made, wave=1)
    assert [(job.prompt, job.index) for job in jobs] == [(2, 2), (1, 2), (3, 2)]
    assert len(plan_wave(plan, prompts=4, encode=encode, made={}, wave=0)) == 8


def test_each_explorer_has_its_batches_one_after_the_other() -> None:
    jobs = [Job(place, index, (1,)) for place in (5, 3) for index in range(4)]
    batches = cut_batches(jobs, explorers=2, size=3)
    assert [(turn, [(job.prompt, job.index) for job in batch]) for turn, batch in batches] == [
        (0, [(5, 0), (5, 2), (3, 0)]), (0, [(3, 2)]), (1, [(5, 1), (5, 3), (3, 1)]), (1, [(3, 3)]),
    ]  # fmt: skip


def test_explorers_and_forms_of_a_prompt_take_turns_and_the_plain_prompt_is_learned(
    make_rejection: MakeSpec, tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The untrained model, which never ends an answer with the good word, and a form with two more words: attempt i is
    made by policy, model, policy, model, in the plain form twice and then in the other."""
    asked: dict[tuple[int, int], tuple[str, str]] = {}
    generate, explore_round = explore.generate_batch, rejection.explore
    exploring = False

    def note(model: Any, *, tokenizer: Any, batch: list[Job], **settings: Any) -> Any:
        if exploring:
            asked.update({(job.prompt, job.index): (model.name_or_path, tokenizer.decode(job.ids)) for job in batch})
        return generate(model, tokenizer=tokenizer, batch=batch, **settings)

    def follow(setting: rejection.Setting, *, number: int) -> dict[str, Any]:
        nonlocal exploring
        exploring = True
        found = explore_round(setting, number=number)
        exploring = False
        return found

    spec = make_rejection(
        explorers=[str(tiny_model)], variants=["{prompt}", "near near {prompt}"], samples=4, max_samples=4, rounds=1
    )
    run = RunDir(tmp_path / "run").create(spec)
    with monkeypatch.context() as patch:
        patch.setattr(rejection, "explore", follow)
        patch.setattr(explore, "generate_batch", note)
        assert run_job(run, show=False) == "succeeded", run.read_status()["error"]
    assert len(asked) == 96
    for (_place, index), (name, text) in asked.items():
        assert (name == str(tiny_model)) is (index % 2 == 1)
        assert ("near near" in text) is (index % 4 >= 2)
    (told,) = run.read_report()["rounds"]
    assert [(way["explorer"], way["variant"], way["attempts"]) for way in told["ways"]] == [
        ("policy", "{prompt}", 24), (str(tiny_model), "{prompt}", 24),
        ("policy", "near near {prompt}", 24), (str(tiny_model), "near near {prompt}", 24),
    ]  # fmt: skip
    assert told["ways"][0]["acceptance"] > told["ways"][1]["acceptance"]
    learned = read_examples(run.path / "rounds" / "1" / "train.jsonl")
    assert not any("near near" in turn["content"] for row in learned for turn in row.messages[: row.n_context])
    kept = json.loads((run.path / "provenance.json").read_text())["data_sha256"]
    assert any(name.startswith("explorers/1/") for name in kept)


def test_what_cannot_run_is_refused_with_what_to_do(make_rejection: MakeSpec, tmp_path: Path) -> None:
    def fail(name: str, **changes: Any) -> str:
        run = RunDir(tmp_path / name).create(make_rejection(**changes))
        assert run_job(run, show=False) == "bad input"
        return str(run.read_status()["error"])

    def data(name: str, verifier: Any) -> str:
        for split in ("train", "test"):
            pair = build_pairs(1, seed=len(split))[0]
            write_rows(tmp_path / name / f"{split}.jsonl", [{"prompt": pair["prompt"], "verifier": verifier}])
        return str(tmp_path / name)

    assert "train.jsonl, line 1, verifier: missing" in fail("a", data=data("none", None))
    assert "did you mean 'math'" in fail("b", data=data("typo", {"kind": "maths", "answer": "4"}))
    assert "reward" in fail("c", data=data("reward", {"kind": "reward", "threshold": 0}))
    impossible = {"kind": "constraints", "constraints": [{"type": "regex", "pattern": "unheard-of"}]}
    assert "round 1: of 6 attempts at 1 prompts none can be learned from" in fail("d", data=data("hard", impossible))


@pytest.mark.usefixtures("no_bubblewrap")
def test_without_bubblewrap_code_runs_only_where_the_operator_says_so_and_the_run_says_it_for_good(
    make_rejection: MakeSpec, tmp_path: Path
) -> None:
    code = {"kind": "code", "tests": [{"asserts": ["assert f(1) == 2"]}]}
    for split in ("train", "test"):
        pair = build_pairs(1, seed=len(split))[0]
        write_rows(tmp_path / "data" / f"{split}.jsonl", [{"prompt": pair["prompt"], "verifier": code}])
    run = RunDir(tmp_path / "run").create(make_rejection(data=str(tmp_path / "data")))
    for unsafe, error, isolated in (
        (False, "apt-get install bubblewrap", None),
        (True, "of 6 attempts at 1 prompts none can be learned from", False),
        (False, "apt-get install bubblewrap", False),
    ):
        assert run_job(run, show=False, unsafe_code=unsafe) == "bad input"
        status = run.read_status()
        assert error in status["error"]
        assert status["isolated"] is isolated
    assert note_where_not_isolated(run) == ["model-written code ran without isolation"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_samples": 2, "samples": 4}, "max_samples: 2 are fewer than samples 4"),
        ({"pass_k": 9, "test_samples": 4}, "pass_k: 9 is more than test_samples 4"),
        ({"response_tokens": 64, "max_length": 64}, "response_tokens: 64 leave no room"),
        ({"variants": ["Think."]}, "variants: every one needs {prompt}"),
        ({"variants": []}, "variants: every one needs {prompt}"),
        ({"explorers": [3]}, "explorers: expected a list of texts, got 3"),
        ({"choice": "shorter"}, "did you mean 'shortest'"),
        ({"per_promt": 2}, "did you mean 'per_prompt'"),
    ],
)
def test_settings_that_contradict_each_other_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        parse_spec({"method": "rejection", "data": "somewhere", **changes})


def test_files_are_looked_for_beside_the_run(tmp_path: Path) -> None:
    spec = jobs.resolve_paths(parse_spec({"method": "rejection", "data": "d", "examples": "e.jsonl"}), base=tmp_path)
    assert (spec.data, spec.examples) == (str(tmp_path / "d"), str(tmp_path / "e.jsonl"))  # type: ignore[union-attr]
