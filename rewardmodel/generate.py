"""Responses of a policy: sampled or greedy, in batches of like length, reproducible and resumable.

The batches follow from the prompts and settings alone, and each has a seed of its own; so a resumed run makes the
batches that are missing exactly as they would have been made.
"""

from __future__ import annotations

import contextlib
import hashlib
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import GenerationConfig, PreTrainedModel

from rewardmodel.chat import encode_prompt
from rewardmodel.compute import Compute, resolve_compute
from rewardmodel.contract import GenerateSpec, Message
from rewardmodel.data import DataError, PromptItem, read_prompts
from rewardmodel.decoding import can_record, draw_tokens, make_choice, open_sampler, release_recordings
from rewardmodel.models import load_policy, load_tokenizer, read_positions, resolve_model
from rewardmodel.progress import Progress
from rewardmodel.reading import find_inner
from rewardmodel.rundir import RunDir, append_json_lines, read_json_lines


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """How responses are drawn. temperature 0 is greedy."""

    n: int = 1
    max_new_tokens: int = 128
    temperature: float = 0.9
    top_p: float = 0.95
    batch_size: int = 8
    seed: int = 0


@dataclass(frozen=True)
class Job:
    """One response to make: which prompt (by position), which of its n, and the prompt's token ids."""

    prompt: int
    index: int
    ids: tuple[int, ...]


@dataclass(frozen=True)
class Response:
    """One response made. finish_reason is "eos" where the model ended it, "length" where the limit did.

    prompt_ids, ids: the tokens of the prompt and those drawn, n_tokens of them with the end; no part of a row.
    """

    prompt: int
    index: int
    text: str
    finish_reason: str
    n_tokens: int
    prompt_ids: tuple[int, ...]
    ids: tuple[int, ...]

    def to_row(self, *, prompt_id: str) -> dict[str, Any]:
        """The row of responses.jsonl."""
        return {
            "prompt_id": prompt_id,
            "index": self.index,
            "response": self.text,
            "finish_reason": self.finish_reason,
            "n_tokens": self.n_tokens,
        }


def load_generator(spec: GenerateSpec) -> tuple[PreTrainedModel, Any, Compute]:
    """The policy of a spec, its tokenizer and where it computes. Raises InputError for a model that is none."""
    directory = resolve_model(spec.model)
    tokenizer = load_tokenizer(directory)
    compute = resolve_compute(spec.device, precision=spec.precision, threads=spec.threads)
    model = load_policy(directory, tokenizer=tokenizer, compute=compute, dtype=compute.weights_dtype)
    return model, tokenizer, compute


def read_sampling(spec: GenerateSpec) -> Sampling:
    """The settings of a spec that shape its responses."""
    return Sampling(
        n=spec.n,
        max_new_tokens=spec.max_new_tokens,
        temperature=spec.temperature,
        top_p=spec.top_p,
        batch_size=spec.batch_size,
        seed=spec.seed,
    )


def generate_responses(
    model: Any,
    *,
    tokenizer: Any,
    prompts: Sequence[Sequence[Message]],
    sampling: Sampling,
    compute: Compute,
    progress: Progress | None = None,
    phase: str = "generating",
) -> list[Response]:
    """n responses a prompt, ordered by prompt and index. Raises DataError for a prompt the model cannot hold."""
    batches = _plan_batches(model, tokenizer=tokenizer, prompts=prompts, sampling=sampling)
    sampler = open_sampler(model, compute=compute)
    progress = progress or Progress(show=False)
    progress.start(phase, total=len(batches))
    made: list[Response] = []
    for number, batch in enumerate(batches):
        made += generate_batch(
            sampler, tokenizer=tokenizer, batch=batch, number=number, sampling=sampling, compute=compute
        )
        progress.advance(number + 1)
        progress.check()
    if can_record(sampler, compute=compute):
        release_recordings()
    return sorted(made, key=lambda response: (response.prompt, response.index))


def run_generate(spec: GenerateSpec, *, run: RunDir, progress: Progress) -> dict[str, Any]:
    """Write outputs/responses.jsonl batch by batch and return the report; rows already there are not made again."""
    progress.start("loading")
    items = read_prompts(spec.prompts)
    model, tokenizer, compute = load_generator(spec)
    sampling = read_sampling(spec)
    for step, total, responses in _generate_missing(
        model, tokenizer=tokenizer, items=items, sampling=sampling, compute=compute, run=run
    ):
        if step == 0:
            progress.start("generating", total=total)
        progress.advance(step)
        progress.check()
        if responses:
            run.append_metrics({"step": step, **responses})
    rows = read_json_lines(run.outputs / "responses.jsonl")
    return _report_responses(spec, rows=rows, prompts=len(items), compute=compute)


def _generate_missing(
    model: Any,
    *,
    tokenizer: Any,
    items: Sequence[PromptItem],
    sampling: Sampling,
    compute: Compute,
    run: RunDir,
) -> Iterator[tuple[int, int, dict[str, float]]]:
    """Make the batches with missing rows, yielding (batches done, batches, speed) after each."""
    file = run.outputs / "responses.jsonl"
    done = {(row["prompt_id"], row["index"]) for row in read_json_lines(file)}
    prompts = [item.prompt for item in items]
    batches = _plan_batches(model, tokenizer=tokenizer, prompts=prompts, sampling=sampling)
    yield 0, len(batches), {}
    for number, batch in enumerate(batches):
        keys = [(items[job.prompt].prompt_id, job.index) for job in batch]
        if all(key in done for key in keys):
            yield number + 1, len(batches), {}
            continue
        began = time.monotonic()
        made = generate_batch(
            model, tokenizer=tokenizer, batch=batch, number=number, sampling=sampling, compute=compute
        )
        speed = sum(response.n_tokens for response in made) / max(time.monotonic() - began, 1e-9)
        rows = [response.to_row(prompt_id=items[response.prompt].prompt_id) for response in made]
        append_json_lines(file, [row for row in rows if (row["prompt_id"], row["index"]) not in done])
        yield number + 1, len(batches), {"tokens_per_second": round(speed, 1)}


def _plan_batches(
    model: Any, *, tokenizer: Any, prompts: Sequence[Sequence[Message]], sampling: Sampling
) -> list[list[Job]]:
    """Every response to make, in batches of prompts of like length."""
    encoded = [tuple(encode_prompt(tokenizer, messages=messages)) for messages in prompts]
    limit = read_positions(model)
    for number, ids in enumerate(encoded, start=1):
        if limit is not None and len(ids) + sampling.max_new_tokens > limit:
            raise DataError(
                f"prompt {number}: {len(ids)} tokens and {sampling.max_new_tokens} new ones exceed "
                f"the {limit} the model holds; shorten the prompt or lower max_new_tokens"
            )
    order = sorted(range(len(encoded)), key=lambda i: (len(encoded[i]), i))
    jobs = [Job(i, index, encoded[i]) for i in order for index in range(sampling.n)]
    return [jobs[i : i + sampling.batch_size] for i in range(0, len(jobs), sampling.batch_size)]


def generate_batch(
    model: Any, *, tokenizer: Any, batch: list[Job], number: int, sampling: Sampling, compute: Compute
) -> list[Response]:
    """The responses of some jobs, in their order; they follow from the batch, `number` and the sampling's seed."""
    longest = max(len(job.ids) for job in batch)
    pad_id = tokenizer.pad_token_id
    # Prompts are padded on the left, so that every response begins at the same position.
    ids = torch.tensor([[pad_id] * (longest - len(job.ids)) + list(job.ids) for job in batch])
    mask = torch.tensor([[0] * (longest - len(job.ids)) + [1] * len(job.ids) for job in batch])
    stops = _stop_ids(model, tokenizer=tokenizer)
    torch.manual_seed(_batch_seed(sampling.seed, number=number))
    asked, known = ids.to(compute.device), mask.to(compute.device)
    if can_record(model, compute=compute):
        choose = make_choice(temperature=sampling.temperature, top_p=sampling.top_p)
        new = draw_tokens(
            model, ids=asked, mask=known, count=sampling.max_new_tokens, choose=choose, stops=stops, pad_id=pad_id
        )  # (batch, new)
    else:
        with torch.inference_mode(), compute.autocast(), _plain_settings(model):
            settings = _configure(sampling, pad_id=pad_id, stops=stops)
            new = model.generate(input_ids=asked, attention_mask=known, generation_config=settings)[:, longest:]
    return [
        _read_response(job, new=row, tokenizer=tokenizer, stops=stops)
        for job, row in zip(batch, new.tolist(), strict=True)
    ]


@contextlib.contextmanager
def _plain_settings(model: Any) -> Iterator[None]:
    """Meanwhile the model's own generation settings (a repetition penalty, top_k, forbidden words) do not count:
    transformers fills in from them whatever `_configure` leaves open, and what is drawn would not be the policy's."""
    inner = find_inner(model)
    own = inner.generation_config
    inner.generation_config = GenerationConfig()
    try:
        yield
    finally:
        inner.generation_config = own


def _configure(sampling: Sampling, *, pad_id: int, stops: list[int]) -> GenerationConfig:
    drawn = {"do_sample": True, "temperature": sampling.temperature, "top_p": sampling.top_p, "top_k": 0}
    return GenerationConfig(
        max_new_tokens=sampling.max_new_tokens,
        pad_token_id=pad_id,
        eos_token_id=stops,
        **(drawn if sampling.temperature > 0 else {"do_sample": False}),
    )


def _read_response(job: Job, *, new: list[int], tokenizer: Any, stops: list[int]) -> Response:
    end = next((i for i, token in enumerate(new) if token in stops), None)
    n_tokens = len(new) if end is None else end + 1
    text = tokenizer.decode(new[:end], skip_special_tokens=True)
    return Response(
        prompt=job.prompt,
        index=job.index,
        text=text,
        finish_reason="length" if end is None else "eos",
        n_tokens=n_tokens,
        prompt_ids=job.ids,
        ids=tuple(new[:n_tokens]),
    )


def _stop_ids(model: Any, *, tokenizer: Any) -> list[int]:
    named = model.generation_config.eos_token_id
    listed = named if isinstance(named, list) else [named] if named is not None else []
    return sorted({tokenizer.eos_token_id, *listed})


def _batch_seed(seed: int, *, number: int) -> int:
    """A seed for one batch: neighbours of (seed, number) give unrelated streams."""
    digest = hashlib.sha256(f"{seed}:{number}".encode()).digest()
    return int.from_bytes(digest[:8], "big") >> 1


def _report_responses(
    spec: GenerateSpec, *, rows: list[dict[str, Any]], prompts: int, compute: Compute
) -> dict[str, Any]:
    tokens = sum(row["n_tokens"] for row in rows)
    return {
        "method": spec.method,
        "prompts": prompts,
        "responses": len(rows),
        "finished": sum(row["finish_reason"] == "eos" for row in rows),
        "mean_tokens": tokens / len(rows),
        "device": compute.device,
        "precision": compute.precision,
    }
