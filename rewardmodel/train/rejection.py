"""Rejection-sampling fine-tuning: the policy attempts prompts, a verifier checks, and what passed is imitated.

A round samples attempts (`explore`), selects from those that passed (`selection`), trains on them (`sft`, in a run
directory of its own) and answers held-out prompts. The next round samples from the policy so made. What is trained is
the model of the beginning each time (STaR, Zelikman et al. 2022; ReST-EM, Singh et al. 2023) or the last round's.

    rounds/0/heldout.jsonl     answers of the model of the beginning to held-out prompts
    rounds/N/attempts.jsonl    the attempts of round N, each with its verdict
    rounds/N/train.jsonl       what round N learned from
    rounds/N/sft/              its training
    rounds/N/heldout.jsonl     answers of its policy to held-out prompts
    outputs/accepted.jsonl     what the last round learned from of its attempts
    outputs/pairs.jsonl        accepted before rejected attempts, as DPO reads them
    outputs/model/             the last round's policy

Everything follows from the spec and what lies in the directory: a run that was stopped goes on in its round.
"""

from __future__ import annotations

import functools
import gc
import os
import random
import shutil
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rewardmodel.card import write_card
from rewardmodel.chat import EncodedExamples, encode_example, encode_examples
from rewardmodel.compute import Compute, resolve_compute, seed_everything
from rewardmodel.contract import (
    PLAIN_VARIANT,
    AttemptRow,
    CheckSpec,
    InputError,
    Message,
    RejectionSpec,
    SFTSpec,
    spec_to_dict,
)
from rewardmodel.data import (
    Example,
    find_splits,
    hash_file,
    read_examples,
    read_manifest,
    read_verifiable_prompts,
    text_of,
)
from rewardmodel.evaluation.resampling import mean_interval
from rewardmodel.generate import Sampling
from rewardmodel.likelihood import sum_log_probs
from rewardmodel.models import load_policy, load_tokenizer, read_positions, resolve_model
from rewardmodel.progress import Progress
from rewardmodel.rundir import (
    RunDir,
    note_where_not_isolated,
    read_json,
    read_json_lines,
    warn_where_not_isolated,
    write_json_lines,
)
from rewardmodel.selection import Attempt, Selection, pair_attempts, pass_at_k, select_attempts
from rewardmodel.trackers import find_trackers
from rewardmodel.train.common import (
    hash_weights,
    keep_prompts,
    read_trained_steps,
    recall,
    record_provenance,
)
from rewardmodel.train.examples import ExampleData
from rewardmodel.train.explore import Checkers, Exploration, Explorer, Prompt, explore_prompts, is_usable
from rewardmodel.train.sft import train_on_rows
from rewardmodel.verifiers.registry import Permissions, parse_verifier, require_sandbox
from rewardmodel.verifiers.workers import WorkerPool


@dataclass(frozen=True, kw_only=True)
class RejectionData:
    """The usable prompts of both splits, rows to imitate beside them, what was dropped, what is known of the files."""

    train: list[Prompt]
    test: list[Prompt]
    examples: list[Example]
    dropped: dict[str, dict[str, int]]
    sha256: dict[str, str]
    manifest: dict[str, Any]


class RoundRun(RunDir):
    """The directory of one round's training, which stops when the run that it is part of is asked to."""

    def __init__(self, path: Path, *, whole: RunDir) -> None:
        super().__init__(path)
        self.whole = whole

    def cancel_requested(self) -> bool:
        """Whether someone asked the whole run to stop."""
        return self.whole.cancel_requested()


@dataclass(kw_only=True)
class Setting:
    """What all rounds share. The policy loaded last is kept: one model answers held-out prompts and then explores.

    others: the directories of the other explorers, with their tokenizers.
    """

    spec: RejectionSpec
    run: RunDir
    progress: Progress
    compute: Compute
    tokenizer: Any
    base: Path
    data: RejectionData
    checkers: Checkers
    others: dict[Path, Any] = field(default_factory=dict)
    loaded: dict[Path, Any] = field(default_factory=dict)

    def explorers(self, number: int) -> list[Explorer]:
        """Who attempts in a round: the policy of the round before, and the others."""
        directory = self.made_by(number - 1)
        who = [(directory, self.tokenizer), *self.others.items()]
        return [Explorer(load=functools.partial(self.policy, one), tokenizer=own) for one, own in who]

    def policy(self, directory: Path) -> Any:
        """A policy to sample from."""
        if directory not in self.loaded:
            self.forget()
            tokenizer = self.others.get(directory, self.tokenizer)
            self.loaded[directory] = load_policy(
                directory, tokenizer=tokenizer, compute=self.compute, dtype=self.compute.weights_dtype
            )
        return self.loaded[directory]

    def forget(self) -> None:
        """Let go of the policy, before another one is loaded."""
        self.loaded.clear()
        gc.collect()
        if self.compute.device == "cuda":
            torch.cuda.empty_cache()

    def round_directory(self, number: int) -> Path:
        """Where a round's files lie."""
        return self.run.path / "rounds" / str(number)

    def made_by(self, number: int) -> Path:
        """The policy of a round; 0: that of the beginning."""
        return self.base if number == 0 else self.round_directory(number) / "sft" / "outputs" / "model"


def run_rejection(spec: RejectionSpec, *, run: RunDir, progress: Progress, unsafe_code: bool = False) -> dict[str, Any]:
    """All rounds; saves outputs/ and returns the report, whose figures are those of the last round's policy.

    Raises InputError before any sampling for data, verifiers or a model that cannot be used, and for code to be run
    where nothing isolates it, unless that is allowed; after a round's sampling, where not one attempt was accepted.
    """
    started = run.read_status()["started_at"]
    progress.start("loading")
    find_trackers(spec, run=run)
    compute = resolve_compute(spec.device, precision=spec.precision, threads=spec.threads)
    permissions = Permissions(reward_model=spec.reward_model, unsafe_code=unsafe_code)
    base = resolve_model(spec.model)
    tokenizer = load_tokenizer(base)
    others = {directory: load_tokenizer(directory) for directory in map(resolve_model, spec.explorers)}
    data = read_data(spec, tokenizer=tokenizer, permissions=permissions)
    verifiers = [prompt.verifier for prompt in (*data.train, *data.test)]
    warn_where_not_isolated(run, isolated=require_sandbox(verifiers, unsafe=unsafe_code))
    provenance = record_provenance(spec, run=run, data=data, model=base, compute=compute)
    workers = spec.workers or os.cpu_count() or 1
    with WorkerPool(workers) as pool:
        checkers = Checkers(pool=pool, workers=workers, permissions=permissions)
        setting = Setting(
            spec=spec, run=run, progress=progress, compute=compute, tokenizer=tokenizer, base=base, data=data,
            checkers=checkers, others=others,
        )  # fmt: skip
        check_room(setting)
        answer_heldout(setting, number=0)
        rounds = [run_round(setting, number=number) for number in range(1, spec.rounds + 1)]
    progress.start("saving")
    target = run.outputs / "model"
    shutil.copytree(setting.made_by(spec.rounds), target, dirs_exist_ok=True)
    write_outputs(setting)
    report = build_report(setting, rounds=rounds, started=started)
    write_card(target, report=report, provenance=provenance)
    return report


def read_data(spec: RejectionSpec, *, tokenizer: Any, permissions: Permissions) -> RejectionData:
    """The prompts that leave room for a response, each once, and the rows to imitate.

    Raises DataError for a row without a verifier or with a wrong one, and where a split has no prompt left.
    """
    files = find_splits(spec.data)
    kept: dict[str, list[Prompt]] = {}
    dropped: dict[str, dict[str, int]] = {}
    for split in ("train", "test"):
        found = read_verifiable_prompts(
            files[split], parse_verifier=lambda mapping: parse_verifier(mapping, permissions=permissions)
        )
        asked = spec.variants if split == "train" else (PLAIN_VARIANT,)
        kept[split], dropped[split] = keep_prompts(
            spec, prompts=found, tokenizer=tokenizer, file=files[split], variants=asked
        )
    sha256 = {split: hash_file(files[split]) for split in ("train", "test")}
    for place, name in enumerate(spec.explorers, start=1):
        sha256.update({f"explorers/{place}/{file}": value for file, value in hash_weights(resolve_model(name)).items()})
    examples = read_examples(spec.examples) if spec.examples else []
    if spec.examples:
        sha256["examples"] = hash_file(Path(spec.examples))
    return RejectionData(
        train=kept["train"],
        test=kept["test"][: spec.test_prompts],
        examples=examples,
        dropped=dropped,
        sha256=sha256,
        manifest=read_manifest(spec.data),
    )


def check_room(setting: Setting) -> None:
    """Raise InputError where max_length is more than a model holds, the policy's last, which stays loaded."""
    for directory in [*setting.others, setting.base]:
        limit = read_positions(setting.policy(directory))
        if limit is not None and setting.spec.max_length > limit:
            raise InputError(f"max_length: {setting.spec.max_length} is more than the {limit} tokens {directory} holds")


def run_round(setting: Setting, *, number: int) -> dict[str, Any]:
    """One round; what the report says of it. What is done already is not done again."""
    spec, run = setting.spec, setting.run
    run.write_status(message=f"round {number} of {spec.rounds}")
    began = time.monotonic()
    explored = recall(run, name=f"explored-{number}", make=lambda: explore(setting, number=number))
    attempts = read_attempts(setting, number=number)
    selection = select(setting, attempts=attempts)
    if not selection.kept:
        raise InputError(
            f"round {number}: of {len(attempts)} attempts at {len(setting.data.train)} prompts none can be learned "
            f"from ({describe_left_out(selection)}); raise max_samples or response_tokens, take easier prompts or a "
            "stronger model, or begin with SFT on right answers"
        )
    trained = recall(run, name=f"trained-{number}", make=lambda: train(setting, number=number, selection=selection))
    shutil.rmtree(setting.round_directory(number) / "sft" / "checkpoints", ignore_errors=True)
    figures = answer_heldout(setting, number=number)
    summary = {
        "round": number,
        **explored,
        "kept": len(selection.kept),
        "left_out": selection.left_out,
        **trained,
        **{name: figures[name] for name in ("pass_at_1", "interval", "pass_at_k", "pass_at_k_interval")},
    }
    if not any(row.get("round") == number and "pass_at_1" in row for row in run.read_metrics()):
        numbers = {name: summary[name] for name in ("acceptance", "kept", "pass_at_1", "pass_at_k")}
        observe(run, number=number, figures={**numbers, "seconds": round(time.monotonic() - began, 1)})
    return summary


def explore(setting: Setting, *, number: int) -> dict[str, Any]:
    """Sample and verify the attempts of a round, from the policy of the round before; their counts."""
    spec = setting.spec
    file = setting.round_directory(number) / "attempts.jsonl"
    rows = explore_prompts(
        setting.explorers(number),
        prompts=setting.data.train,
        variants=spec.variants,
        exploration=Exploration(
            samples=spec.samples,
            max_samples=spec.max_samples,
            enough=spec.enough,
            sampling=read_sampling(spec, stream=f"round {number}"),
        ),
        checkers=setting.checkers,
        file=file,
        compute=setting.compute,
        progress=setting.progress,
        phase=f"round {number}: exploring",
        observe=lambda figures: observe(setting.run, number=number, figures=figures),
    )
    passed = [row for row in rows if row["passed"]]
    return {
        "attempts": len(rows),
        "passed": len(passed),
        "acceptance": sum(map(is_usable, rows)) / len(rows),
        "ways": count_ways(spec, rows=rows),
        "unfinished": sum(row["finish_reason"] != "eos" for row in rows),
        "solved": len({row["prompt_id"] for row in passed}),
        "prompts": len(setting.data.train),
        "log_probs": rate_attempts(setting, number=number, rows=passed) if spec.choice == "probable" else None,
    }


def count_ways(spec: RejectionSpec, *, rows: Sequence[AttemptRow]) -> list[dict[str, Any]]:
    """Attempts and their acceptance by explorer ("policy": the one that is trained) and form; [] where there is one."""
    names = ["policy", *spec.explorers]
    ways = [(form, name) for form in spec.variants for name in names]
    if len(ways) == 1:
        return []
    usable: list[list[bool]] = [[] for _way in ways]
    for row in rows:
        usable[row["index"] % len(ways)].append(is_usable(row))
    return [
        {"explorer": name, "variant": form, "attempts": len(own), "acceptance": sum(own) / len(own) if own else None}
        for (form, name), own in zip(ways, usable, strict=True)
    ]


def rate_attempts(setting: Setting, *, number: int, rows: Sequence[AttemptRow]) -> list[list[Any]]:
    """[prompt_id, index, log-probability in nats] of some attempts, as answers to their plain prompts, under the policy
    of the round before."""
    prompts = {prompt.prompt_id: prompt for prompt in setting.data.train}
    encoded = [
        encode_example(setting.tokenizer, example=_example(prompts[row["prompt_id"]], text=row["response"]))
        for row in rows
    ]
    sums = sum_log_probs(
        setting.policy(setting.made_by(number - 1)), rows=encoded, compute=setting.compute, progress=setting.progress,
        phase=f"round {number}: rating attempts",
    )  # fmt: skip
    return [[row["prompt_id"], row["index"], value] for row, value in zip(rows, sums.tolist(), strict=True)]


def read_attempts(setting: Setting, *, number: int) -> list[Attempt]:
    """The attempts that a round learns from: its own, or those of all rounds so far, counted on through the rounds."""
    first = 1 if setting.spec.accumulate else number
    found = []
    for earlier in range(first, number + 1):
        kept = read_json(setting.run.checkpoints / f"explored-{earlier}.json")["log_probs"] or []
        log_probs = {(prompt_id, index): value for prompt_id, index, value in kept}
        for row in read_json_lines(setting.round_directory(earlier) / "attempts.jsonl"):
            found.append(
                Attempt(
                    prompt_id=row["prompt_id"],
                    index=(earlier - 1) * setting.spec.max_samples + row["index"],
                    text=row["response"],
                    passed=row["passed"],
                    score=row["score"],
                    n_tokens=row["n_tokens"],
                    finished=row["finish_reason"] == "eos",
                    log_prob=log_probs.get((row["prompt_id"], row["index"])),
                )
            )
    order = {prompt.prompt_id: place for place, prompt in enumerate(setting.data.train)}
    return sorted(found, key=lambda attempt: (order[attempt.prompt_id], attempt.index))


def select(setting: Setting, *, attempts: Sequence[Attempt]) -> Selection:
    """What is learned from. Shares of passed attempts favour no prompt, but where sampling stops at enough accepted
    ones they are a little too high."""
    spec = setting.spec
    return select_attempts(
        attempts,
        per_prompt=spec.per_prompt,
        choice=spec.choice,
        balance=spec.balance,
        too_easy=spec.too_easy,
        seed=spec.seed,
    )


def describe_left_out(selection: Selection) -> str:
    """The counts of what was left out, in words."""
    return ", ".join(f"{count} {reason}" for reason, count in selection.left_out.items())


def train(setting: Setting, *, number: int, selection: Selection) -> dict[str, Any]:
    """Train a round's policy on the accepted attempts, with rows to imitate among them; rows, steps and last loss."""
    spec = setting.spec
    directory = setting.round_directory(number)
    prompts = {prompt.prompt_id: prompt for prompt in setting.data.train}
    accepted = [_example(prompts[attempt.prompt_id], text=attempt.text) for attempt in selection.kept]
    mixed = draw_examples(setting, number=number, accepted=len(accepted))
    encoded = encode_examples(setting.tokenizer, examples=[*accepted, *mixed], max_length=spec.max_length)
    if not encoded.rows:
        raise InputError(
            f"round {number}: every accepted attempt is longer than max_length {spec.max_length}; raise it"
        )
    write_json_lines(
        directory / "train.jsonl",
        [{"prompt": one.messages[: one.n_context], "completion": one.messages[one.n_context :]}
         for one in [*accepted, *mixed]],
    )  # fmt: skip
    inner = read_sft_spec(setting, number=number)
    sub = RoundRun(directory / "sft", whole=setting.run)
    if not sub.spec_file.exists():
        sub.create(spec_to_dict(inner))
    setting.forget()
    seed_everything(spec.seed)
    train_on_rows(
        inner,
        base=setting.base if spec.start_from == "base" else setting.made_by(number - 1),
        tokenizer=setting.tokenizer,
        data=ExampleData(
            train=encoded, test=EncodedExamples([], {"too_long": 0}), validation=None, sha256={}, manifest={}
        ),
        compute=setting.compute,
        reader=setting.compute,
        run=sub,
        progress=setting.progress,
        measure=lambda model, *, phase: {},
        target=sub.outputs / "model",
    )
    losses = [row["loss"] for row in sub.read_metrics() if "loss" in row]
    return {
        "rows": len(encoded.rows),
        "mixed": len(mixed),
        "too_long": encoded.dropped["too_long"],
        "steps": read_trained_steps(sub),
        "loss": losses[-1],
    }


def read_sft_spec(setting: Setting, *, number: int) -> SFTSpec:
    """The spec of a round's training. Its held-out figures are those of the whole run, so it names no rows of its own
    to test on but the prompts."""
    spec = setting.spec
    shared = {one.name for one in fields(SFTSpec)} & {one.name for one in fields(RejectionSpec)}
    values = {name: getattr(spec, name) for name in shared - {"data", "report_samples"}}
    first = setting.base if spec.start_from == "base" else setting.made_by(number - 1)
    return SFTSpec(
        **{
            **values,
            "model": str(first),
            "data": {
                "train": str(setting.round_directory(number) / "train.jsonl"),
                "test": str(find_splits(spec.data)["test"]),
            },
            "report_samples": 0,
        }
    )


def draw_examples(setting: Setting, *, number: int, accepted: int) -> list[Example]:
    """The rows to imitate that a round learns beside its accepted attempts: all where there are no more."""
    spec, examples = setting.spec, setting.data.examples
    wanted = min(round(spec.examples_ratio * accepted), len(examples))
    return random.Random(f"{spec.seed}/{number}").sample(examples, wanted)


def answer_heldout(setting: Setting, *, number: int) -> dict[str, Any]:
    """pass@1 and pass@k of a round's policy on held-out prompts, with intervals over prompts."""
    spec = setting.spec
    prompts = setting.data.test
    file = setting.round_directory(number) / "heldout.jsonl"
    rows = read_json_lines(file)
    if len(rows) < len(prompts) * spec.test_samples:
        explore_prompts(
            setting.explorers(number + 1)[:1],
            prompts=prompts,
            exploration=Exploration(
                samples=spec.test_samples,
                max_samples=spec.test_samples,
                enough=None,
                sampling=read_sampling(spec, stream="heldout"),
            ),
            checkers=setting.checkers,
            file=file,
            compute=setting.compute,
            progress=setting.progress,
            phase=f"round {number}: answering held-out prompts" if number else "answering held-out prompts",
        )
        rows = read_json_lines(file)
    return summarize_answers(rows, prompts=prompts, k=spec.pass_k)


def summarize_answers(rows: Sequence[dict[str, Any]], *, prompts: Sequence[Prompt], k: int) -> dict[str, Any]:
    """pass@1 and pass@k (Chen et al. 2021), means over prompts with 95 % intervals over prompts drawn again.

    rates, pass_k: of each prompt, in their order; not for the report.
    """
    passed = {prompt.prompt_id: [0, 0] for prompt in prompts}
    for row in rows:
        passed[row["prompt_id"]][0] += row["passed"]
        passed[row["prompt_id"]][1] += 1
    names = list(passed)
    rates = [count / tried for count, tried in passed.values()]
    any_of = [pass_at_k(count, tried=tried, k=k) for count, tried in passed.values()]
    return {
        "n": len(rows),
        "n_prompts": len(prompts),
        "pass_at_1": float(np.mean(rates)),
        "interval": mean_interval(rates, prompt_ids=names),
        "k": k,
        "pass_at_k": float(np.mean(any_of)),
        "pass_at_k_interval": mean_interval(any_of, prompt_ids=names),
        "tokens": float(np.mean([row["n_tokens"] for row in rows])),
        "ended": float(np.mean([row["finish_reason"] == "eos" for row in rows])),
        "rates": rates,
    }


def read_sampling(spec: RejectionSpec | CheckSpec, *, stream: str) -> Sampling:
    """How attempts are drawn; each stream has samples of its own."""
    return Sampling(
        max_new_tokens=spec.response_tokens,
        temperature=spec.temperature,
        top_p=spec.top_p,
        batch_size=spec.generation_batch_size,
        seed=random.Random(f"{spec.seed}/{stream}").getrandbits(40),
    )


def observe(run: RunDir, *, number: int, figures: dict[str, Any]) -> None:
    """A row of the run's metrics; its steps count the rows."""
    rows = run.read_metrics()
    run.append_metrics({"step": (rows[-1]["step"] if rows else 0) + 1, "round": number, **figures})


def write_outputs(setting: Setting) -> None:
    """accepted.jsonl and pairs.jsonl of the last round."""
    attempts = read_attempts(setting, number=setting.spec.rounds)
    kept = select(setting, attempts=attempts).kept
    prompts = {prompt.prompt_id: prompt.prompt for prompt in setting.data.train}
    most = setting.spec.max_samples
    write_json_lines(
        setting.run.outputs / "accepted.jsonl",
        [
            {
                "prompt_id": one.prompt_id,
                "prompt": prompts[one.prompt_id],
                "completion": _say(one.text),
                "round": one.index // most + 1,
                "index": one.index % most,
                "score": one.score,
            }
            for one in kept
        ],
    )
    write_json_lines(
        setting.run.outputs / "pairs.jsonl",
        [
            {"prompt": prompts[right.prompt_id], "chosen": _say(right.text), "rejected": _say(wrong.text)}
            for right, wrong in pair_attempts(attempts, kept=kept, seed=setting.spec.seed)
        ],
    )


def build_report(setting: Setting, *, rounds: list[dict[str, Any]], started: float) -> dict[str, Any]:
    """What report.json holds."""
    spec, data = setting.spec, setting.data
    before, after = (answer_heldout(setting, number=number) for number in (0, spec.rounds))
    gains = np.asarray(after.pop("rates")) - np.asarray(before.pop("rates"))
    shared = len({text_of(one.prompt) for one in data.train} & {text_of(one.prompt) for one in data.test})
    notes = [f"{shared} prompts of the test split are in the training split too"] if shared else []
    notes += note_where_not_isolated(setting.run)
    return {
        "method": spec.method,
        "base_model": spec.model,
        "heldout": {
            "split": "test",
            **after,
            "gain": float(gains.mean()),
            "gain_interval": mean_interval(gains, prompt_ids=[prompt.prompt_id for prompt in data.test]),
        },
        "baselines": {"untrained": before},
        "rounds": [{name: value for name, value in row.items() if name != "log_probs"} for row in rounds],
        "pairs": len(read_json_lines(setting.run.outputs / "pairs.jsonl")),
        "dropped": data.dropped,
        "trained_on": {
            "rows": rounds[-1]["rows"],
            "prompts": rounds[-1]["solved"],
            "steps": sum(row["steps"] for row in rounds),
        },
        "simulated": data.manifest.get("simulated") is True,
        "seconds": round(time.time() - started, 1),
        "device": setting.compute.device,
        "precision": setting.compute.precision,
        "notes": notes,
        "samples": list_samples(setting),
    }


def list_samples(setting: Setting) -> list[dict[str, Any]]:
    """The first answers to the first held-out prompts, before and after."""
    first = [
        {row["prompt_id"]: row for row in reversed(read_json_lines(setting.round_directory(number) / "heldout.jsonl"))}
        for number in (0, setting.spec.rounds)
    ]
    return [
        {
            "prompt": prompt.prompt,
            "before": first[0][prompt.prompt_id]["response"],
            "after": first[1][prompt.prompt_id]["response"],
            "passed_before": first[0][prompt.prompt_id]["passed"],
            "passed_after": first[1][prompt.prompt_id]["passed"],
        }
        for prompt in setting.data.test[: setting.spec.report_samples]
    ]


def _example(prompt: Prompt, *, text: str) -> Example:
    return Example([*prompt.prompt, *_say(text)], len(prompt.prompt), prompt.prompt_id, 0)


def _say(text: str) -> list[Message]:
    return [{"role": "assistant", "content": text}]
