"""Attempts at prompts that a program can check: sampled, verified and kept on disk, more of them where it is hard.

Attempts come in waves. A prompt is in the next wave while it has fewer accepted attempts than are enough and fewer
attempts than are allowed, so what is easy gets few and what is hard gets many. A wave follows from the attempts of the
waves before it, its batches from its prompts, and each batch has a seed of its own: an exploration that was stopped
goes on with the batches that are missing and ends with the attempts it would have had.

Several explorers (policies) and forms of a prompt take turns: of M explorers attempt i is made by the (i mod M)-th, and
the forms change each time all explorers had a turn.
"""

from __future__ import annotations

import functools
import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from rewardmodel.chat import encode_prompt, put_into
from rewardmodel.compute import Compute
from rewardmodel.contract import PLAIN_VARIANT, AttemptRow
from rewardmodel.data import VerifiableItem, VerifiablePrompt
from rewardmodel.generate import Job, Response, Sampling, generate_batch
from rewardmodel.progress import Progress
from rewardmodel.rundir import append_json_lines, read_json_lines
from rewardmodel.selection import normalise
from rewardmodel.verifiers.registry import Permissions, Verifier
from rewardmodel.verifiers.rows import verify_items
from rewardmodel.verifiers.workers import WorkerPool

Prompt = VerifiablePrompt[Verifier]


@dataclass(frozen=True, kw_only=True)
class Exploration:
    """How many attempts a prompt gets, and how they are drawn (sampling.n is not looked at).

    samples: attempts a wave. max_samples: attempts in all. enough: different accepted ones after which there are no
    more; None: there always are.
    """

    samples: int
    max_samples: int
    enough: int | None
    sampling: Sampling


@dataclass(frozen=True, kw_only=True)
class Explorer:
    """Who attempts: a policy, loaded when it has a turn, and its tokenizer."""

    load: Callable[[], Any]
    tokenizer: Any


@dataclass(frozen=True, kw_only=True)
class Checkers:
    """Who verifies: processes, how many at once, and what is allowed."""

    pool: WorkerPool
    workers: int
    permissions: Permissions


def explore_prompts(
    explorers: Sequence[Explorer],
    *,
    prompts: Sequence[Prompt],
    exploration: Exploration,
    checkers: Checkers,
    file: Path,
    compute: Compute,
    progress: Progress,
    phase: str,
    variants: Sequence[str] = (PLAIN_VARIANT,),
    observe: Callable[[dict[str, float]], None] = lambda figures: None,
) -> list[AttemptRow]:
    """All attempts at these prompts, in the order of prompts and attempts; those in `file` already are not made again.

    variants: forms of a prompt, with {prompt} where its last turn stands. Each batch is appended to the file as soon as
    it is verified, so that a crash loses one batch at most; `observe` gets {attempts, acceptance, tokens_per_second}
    then. Raises CancelledError after a batch, if asked to stop.
    """
    ways = len(explorers) * len(variants)

    @functools.cache
    def encode_way(place: int, way: int) -> tuple[int, ...]:
        asked = put_into(variants[way // len(explorers)], messages=prompts[place].prompt)
        return tuple(encode_prompt(explorers[way % len(explorers)].tokenizer, messages=asked))

    places = {prompt.prompt_id: place for place, prompt in enumerate(prompts)}
    known = cast("list[AttemptRow]", read_json_lines(file))
    made = {(places[row["prompt_id"]], row["index"]): row for row in known}
    for wave in range(math.ceil(exploration.max_samples / exploration.samples)):
        jobs = plan_wave(
            exploration,
            prompts=len(prompts),
            encode=lambda place, index: encode_way(place, index % ways),
            made=made,
            wave=wave,
        )
        batches = cut_batches(jobs, explorers=len(explorers), size=exploration.sampling.batch_size)
        sampling = replace(exploration.sampling, seed=seed_of_wave(exploration.sampling.seed, wave=wave))
        progress.start(phase, total=len(jobs), step=sum((job.prompt, job.index) in made for job in jobs))
        for number, (turn, batch) in enumerate(batches):
            if all((job.prompt, job.index) in made for job in batch):
                continue
            model = explorers[turn].load()
            began = time.monotonic()
            responses = generate_batch(
                model,
                tokenizer=explorers[turn].tokenizer,
                batch=batch,
                number=number,
                sampling=sampling,
                compute=compute,
            )
            generated = time.monotonic() - began
            rows = verify_responses(responses, prompts=prompts, checkers=checkers)
            # Of a batch that was only half written, the rest.
            new = {key: row for key, row in rows.items() if key not in made}
            append_json_lines(file, [dict(row) for row in new.values()])
            made |= new
            observe(
                {
                    "attempts": len(made),
                    "acceptance": sum(is_usable(row) for row in made.values()) / len(made),
                    "tokens_per_second": round(sum(r.n_tokens for r in responses) / max(generated, 1e-9), 1),
                    "seconds_verifying": round(time.monotonic() - began - generated, 3),
                }
            )
            progress.advance(sum((job.prompt, job.index) in made for job in jobs))
            progress.check()
    return [made[key] for key in sorted(made)]


def plan_wave(
    exploration: Exploration,
    *,
    prompts: int,
    encode: Callable[[int, int], tuple[int, ...]],
    made: dict[tuple[int, int], AttemptRow],
    wave: int,
) -> list[Job]:
    """The attempts of a wave, those already made included: prompts of like length beside each other.

    prompts: how many. encode: token ids of (place of the prompt, index). made: attempts by the same; later waves' are
    not looked at.
    """
    first = wave * exploration.samples
    last = min(first + exploration.samples, exploration.max_samples)
    accepted: dict[int, set[str]] = {}
    for (place, index), row in made.items():
        if index < first and is_usable(row):
            accepted.setdefault(place, set()).add(normalise(row["response"]))
    enough = math.inf if exploration.enough is None else exploration.enough
    wanted = [place for place in range(prompts) if len(accepted.get(place, ())) < enough]
    wanted.sort(key=lambda place: (len(encode(place, first)), place))
    return [Job(place, index, encode(place, index)) for place in wanted for index in range(first, last)]


def cut_batches(jobs: Sequence[Job], *, explorers: int, size: int) -> list[tuple[int, list[Job]]]:
    """Batches of a wave with whose turn each is, one explorer's after the other's, so that each is loaded once."""
    turns = [[job for job in jobs if job.index % explorers == turn] for turn in range(explorers)]
    return [(turn, own[start : start + size]) for turn, own in enumerate(turns) for start in range(0, len(own), size)]


def verify_responses(
    responses: Sequence[Response], *, prompts: Sequence[Prompt], checkers: Checkers
) -> dict[tuple[int, int], AttemptRow]:
    """The rows of some responses by (place of the prompt, index)."""
    items = [
        VerifiableItem(prompts[response.prompt].prompt, response.text, prompts[response.prompt].verifier, {})
        for response in responses
    ]
    verdicts = verify_items(items, permissions=checkers.permissions, workers=checkers.workers, pool=checkers.pool)
    return {
        (response.prompt, response.index): AttemptRow(
            prompt_id=prompts[response.prompt].prompt_id,
            index=response.index,
            response=response.text,
            finish_reason=response.finish_reason,
            n_tokens=response.n_tokens,
            passed=verdict.passed,
            score=verdict.score,
            reason=verdict.reason,
        )
        for response, verdict in zip(responses, verdicts, strict=True)
    }


def is_usable(row: AttemptRow) -> bool:
    """Whether an attempt passed and ended by itself."""
    return row["passed"] and row["finish_reason"] == "eos"


def seed_of_wave(seed: int, *, wave: int) -> int:
    """The seed of a wave's samples: neighbours give unrelated streams."""
    return int.from_bytes(hashlib.sha256(f"explore/{seed}/{wave}".encode()).digest()[:6], "big")
