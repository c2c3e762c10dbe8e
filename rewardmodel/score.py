"""Scores of a reward model: one function for training's evaluation, `evaluate`, `score` and the app's runs.

Conversations are rendered by `chat.encode_conversation` and read by `reading`, as they are in training.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from transformers import PreTrainedModel

from rewardmodel.chat import encode_conversation
from rewardmodel.compute import Compute, resolve_compute
from rewardmodel.contract import Message, ScoreSpec
from rewardmodel.data import ResponseItem, read_responses
from rewardmodel.models import load_reward_model, load_tokenizer, read_positions, resolve_model
from rewardmodel.progress import Progress
from rewardmodel.reading import build_rectangle, read_attributes, read_last, reward_of
from rewardmodel.rundir import RunDir, append_json_lines, read_json_lines
from rewardmodel.uncertainty import Spread, find_spread, probability_better


def load_scorer(
    model_name: str, *, device: str = "auto", precision: str = "auto", threads: int | None = None
) -> tuple[PreTrainedModel, Any, Compute]:
    """A reward model, its tokenizer and where it computes. Raises InputError for a model that is none."""
    directory = resolve_model(model_name)
    tokenizer = load_tokenizer(directory)
    compute = resolve_compute(device, precision=precision, threads=threads)
    return load_reward_model(directory, tokenizer=tokenizer, compute=compute), tokenizer, compute


def score_texts(
    model: Any,
    *,
    tokenizer: Any,
    conversations: Sequence[Sequence[Message]],
    compute: Compute,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> list[float | None]:
    """One score a conversation, in their order; None for one longer than the model reads."""
    sequences = [encode_conversation(tokenizer, messages=messages) for messages in conversations]
    limit = read_positions(model)
    readable = [i for i, ids in enumerate(sequences) if limit is None or len(ids) <= limit]
    values = score_ids(
        model,
        sequences=[sequences[i] for i in readable],
        compute=compute,
        batch_size=batch_size,
        progress=progress,
    )
    scores: list[float | None] = [None] * len(sequences)
    for i, value in zip(readable, values, strict=True):
        scores[i] = value
    return scores


def score_ids(
    model: Any,
    *,
    sequences: Sequence[Sequence[int]],
    compute: Compute,
    batch_size: int = 16,
    progress: Progress | None = None,
    phase: str = "scoring",
) -> list[float]:
    """One score a token sequence, in their order; equal sequences are read once."""
    unique = list(dict.fromkeys(tuple(ids) for ids in sequences))
    progress = progress or Progress(show=False)
    progress.start(phase, total=len(unique))
    known: dict[tuple[int, ...], float] = {}
    for places, _, values in iterate_states(model, sequences=unique, compute=compute, batch_size=batch_size):
        known.update({unique[i]: value for i, value in zip(places, values.tolist(), strict=True)})
        progress.advance(len(known))
        progress.check()
    return [known[tuple(ids)] for ids in sequences]


def iterate_states(
    model: Any, *, sequences: Sequence[Sequence[int]], compute: Compute, batch_size: int
) -> Iterator[tuple[list[int], torch.Tensor, torch.Tensor]]:
    """Batches of indices, last states (b, hidden) and scores (b,), float32. Sequences of like length go together:
    padding costs as much as text."""
    order = sorted(range(len(sequences)), key=lambda i: (len(sequences[i]), i))
    pad_id = model.config.get_text_config().pad_token_id
    model.eval()
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        batch = build_rectangle([sequences[i] for i in chosen], pad_id=pad_id, device=compute.device)
        with torch.inference_mode(), compute.autocast():
            last = read_last(model, batch=batch)
            rewards = reward_of(model, last)
        yield chosen, last.float(), rewards


def score_fully(
    model: Any,
    *,
    spread: Spread | None,
    prompts: Sequence[str],
    sequences: Sequence[Sequence[int]],
    compute: Compute,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> list[dict[str, Any]]:
    """Of each sequence its score, its attributes where the model has several, and with a spread std and beats_others.

    beats_others: the mean probability that it is better than another one of equal prompt, uncertainty integrated over;
    None where there is no other.
    """
    progress = progress or Progress(show=False)
    progress.start("scoring", total=len(sequences))
    scores: dict[int, float] = {}
    states: dict[int, torch.Tensor] = {}
    attributes: dict[int, dict[str, Any]] = {}
    for places, found, values in iterate_states(model, sequences=sequences, compute=compute, batch_size=batch_size):
        scores.update(zip(places, values.tolist(), strict=True))
        if spread is not None:
            states.update(zip(places, found.cpu(), strict=True))
        known = read_attributes(model, found)
        attributes.update(zip(places, ({"attributes": own} for own in known or []), strict=known is not None))
        progress.advance(len(scores))
        progress.check()
    rows = [{"score": scores[i], **attributes.get(i, {})} for i in range(len(sequences))]
    if spread is None:
        return rows
    stacked = torch.stack([states[i] for i in range(len(sequences))]) if states else torch.zeros(0, len(spread.center))
    said = _compare_within(stacked, torch.tensor([row["score"] for row in rows]), spread=spread, prompts=prompts)
    return [{**row, **more} for row, more in zip(rows, said, strict=True)]


def _compare_within(
    states: torch.Tensor, scores: torch.Tensor, *, spread: Spread, prompts: Sequence[str]
) -> list[dict[str, float | None]]:
    """{std, beats_others} of each response."""
    together: dict[str, list[int]] = {}
    for place, prompt in enumerate(prompts):
        together.setdefault(prompt, []).append(place)
    rows: list[dict[str, float | None]] = []
    for place, (prompt, std) in enumerate(zip(prompts, spread.std(states).tolist(), strict=True)):
        others = [other for other in together[prompt] if other != place]
        leads = scores[place] - scores[others]
        chances = probability_better(leads, spread.std_between(states[[place]], states[others]))
        rows.append({"std": std, "beats_others": float(chances.mean()) if others else None})
    return rows


def run_score(spec: ScoreSpec, *, run: RunDir, progress: Progress) -> dict[str, Any]:
    """Write outputs/scores.jsonl batch by batch (shorter texts first) and return the report.

    Rows already there are kept, so that a resumed run goes on where it stopped. Where the model knows its uncertainty,
    rows carry `std`.
    """
    progress.start("loading")
    items = read_responses(spec.data)
    model, tokenizer, compute = load_scorer(
        spec.model, device=spec.device, precision=spec.precision, threads=spec.threads
    )
    file = run.outputs / "scores.jsonl"
    done = {row["response_id"] for row in read_json_lines(file)}
    left = [item for item in items if item.response_id not in done]
    sequences = [encode_conversation(tokenizer, messages=[*item.prompt, *item.response]) for item in left]
    limit = read_positions(model)
    unreadable = [i for i, ids in enumerate(sequences) if limit is not None and len(ids) > limit]
    append_json_lines(file, [_refuse_row(left[i], tokens=len(sequences[i]), limit=limit) for i in unreadable])
    readable = sorted(set(range(len(left))) - set(unreadable))
    progress.start("scoring", total=len(items), step=len(done) + len(unreadable))
    spread = find_spread(resolve_model(spec.model))
    batches = iterate_states(
        model, sequences=[sequences[i] for i in readable], compute=compute, batch_size=spec.batch_size
    )
    written = len(done) + len(unreadable)
    for places, states, values in batches:
        ids = [left[readable[i]].response_id for i in places]
        rows = [{"response_id": name, "score": value} for name, value in zip(ids, values.tolist(), strict=True)]
        attributes = read_attributes(model, states)
        if attributes is not None:
            rows = [{**row, "attributes": own} for row, own in zip(rows, attributes, strict=True)]
        if spread is not None:
            stds = spread.std(states.cpu()).tolist()
            rows = [{**row, "std": std} for row, std in zip(rows, stds, strict=True)]
        append_json_lines(file, rows)
        written += len(places)
        progress.advance(written)
        progress.check()
    return _report_scores(spec, rows=read_json_lines(file), compute=compute)


def _refuse_row(item: ResponseItem, *, tokens: int, limit: int | None) -> dict[str, Any]:
    reason = f"{tokens} tokens; the model reads {limit}"
    return {"response_id": item.response_id, "score": None, "reason": reason}


def _report_scores(spec: ScoreSpec, *, rows: list[dict[str, Any]], compute: Compute) -> dict[str, Any]:
    scores = [row["score"] for row in rows if row["score"] is not None]
    return {
        "method": spec.method,
        "scored": len(scores),
        "dropped": {"too_long": len(rows) - len(scores)},
        "mean_score": sum(scores) / len(scores) if scores else None,
        "device": compute.device,
        "precision": compute.precision,
    }
