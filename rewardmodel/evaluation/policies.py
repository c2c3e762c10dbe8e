"""A policy beside its reference: win rate by a held-out reward model, KL, length, diversity, samples.

Both answer the same prompts with the same settings. By default they sample at temperature 1 without a cut, so that the
samples are the policy's own and their mean log-ratio estimates KL(policy || reference); other settings are said so.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rewardmodel.chat import encode_prompt
from rewardmodel.compute import Compute, resolve_compute
from rewardmodel.contract import InputError, Message
from rewardmodel.data import DataError, PromptItem, hash_file, read_prompts, text_of
from rewardmodel.evaluate import compare_distributions
from rewardmodel.evaluation.diversity import distinct_share, self_bleu
from rewardmodel.evaluation.provenance import warn_of_reward_model
from rewardmodel.evaluation.resampling import mean_interval
from rewardmodel.evaluation.surprises import shorten
from rewardmodel.evaluation.win_rates import cross_responses, describe_lengths, describe_wins
from rewardmodel.generate import Response, Sampling, generate_responses
from rewardmodel.models import load_policy, load_tokenizer, resolve_model
from rewardmodel.progress import Progress
from rewardmodel.score import load_scorer, score_texts

SAMPLES = 50


@dataclass(frozen=True)
class PolicyExamination:
    """figures: ready for JSON. samples: {prompt_id, prompt, policy, reference, scores …}, one a prompt and index."""

    figures: dict[str, Any]
    samples: list[dict[str, Any]]


@dataclass(frozen=True)
class _Answers:
    """One model's responses to every prompt: `by_prompt[i]` are those to the i-th, `scores` the judge's."""

    by_prompt: list[list[Response]]
    scores: list[list[float | None]]


def examine_policy(
    policy: str,
    *,
    prompts: str | Path,
    reference: str,
    reward_model: str,
    sampling: Sampling,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    score_batch_size: int = 16,
    progress: Progress | None = None,
) -> PolicyExamination:
    """Answer the prompts with both models, score the answers, and describe what sets the policy apart.

    Raises InputError for a model that is none of its kind or a file without prompts.
    """
    items = read_prompts(prompts)
    if sampling.temperature == 0 and sampling.n > 1:
        raise InputError("n: greedy responses are all the same; use n 1 or a temperature above 0")
    compute = resolve_compute(device, precision=precision, threads=threads)
    answers, divergence = _answer(
        policy, reference=reference, items=items, sampling=sampling, compute=compute, progress=progress
    )
    gc.collect()  # the policies, before the judge is loaded
    ours, theirs = _score(
        answers,
        items=items,
        reward_model=reward_model,
        where={"device": device, "precision": precision, "threads": threads},
        batch_size=score_batch_size,
        progress=progress,
    )
    prompt_ids = [item.prompt_id for item in items]
    figures = {
        "policy": policy,
        "reference": reference,
        "reward_model": reward_model,
        "data": Path(prompts).name,
        "data_sha256": hash_file(Path(prompts)),
        "prompts": len(items),
        "n": sampling.n,
        "sampling": {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_new_tokens": sampling.max_new_tokens,
            "seed": sampling.seed,
        },
        **_compare_scores(ours, theirs=theirs, prompt_ids=prompt_ids),
        "kl": divergence,
        "length": _compare_lengths(ours, theirs=theirs, prompt_ids=prompt_ids),
        "diversity": {name: _describe_diversity(side) for name, side in (("policy", ours), ("reference", theirs))},
        "device": compute.device,
        "precision": compute.precision,
        "warnings": [
            *warn_of_reward_model(policy, reward_model=reward_model),
            *_warn_of_sampling(sampling, divergence=divergence),
        ],
    }
    return PolicyExamination(figures, _list_samples(ours, theirs=theirs, items=items))


def _answer(
    policy: str,
    *,
    reference: str,
    items: Sequence[PromptItem],
    sampling: Sampling,
    compute: Compute,
    progress: Progress | None,
) -> tuple[list[list[list[Response]]], dict[str, Any] | None]:
    """The responses of both, policy first, and how the policy's samples depart from the reference."""
    models, tokenizers, answers = [], [], []
    for name, phase in ((policy, "answering: policy"), (reference, "answering: reference")):
        directory = resolve_model(name)
        tokenizer = load_tokenizer(directory)
        # Float32 weights: the log-probabilities are differences of near numbers. Generation runs under autocast.
        model = load_policy(directory, tokenizer=tokenizer, compute=compute, dtype=torch.float32)
        responses = generate_responses(
            model,
            tokenizer=tokenizer,
            prompts=[item.prompt for item in items],
            sampling=sampling,
            compute=compute,
            progress=progress,
            phase=phase,
        )
        by_prompt: list[list[Response]] = [[] for _ in items]
        for response in responses:
            by_prompt[response.prompt].append(response)
        models.append(model)
        tokenizers.append(tokenizer)
        answers.append(by_prompt)
    if not _read_alike(tokenizers, prompt=items[0].prompt):
        return answers, None
    return answers, _measure_divergence(
        models, answers=answers[0], items=items, sampling=sampling, compute=compute, progress=progress
    )


def _read_alike(tokenizers: Sequence[Any], *, prompt: Sequence[Message]) -> bool:
    """Whether two tokenizers have one vocabulary and template, so that the models' chances are of the same things."""
    ours, theirs = tokenizers
    return ours.get_vocab() == theirs.get_vocab() and encode_prompt(ours, messages=prompt) == encode_prompt(
        theirs, messages=prompt
    )


def _measure_divergence(
    models: Sequence[Any],
    *,
    answers: Sequence[Sequence[Response]],
    items: Sequence[PromptItem],
    sampling: Sampling,
    compute: Compute,
    progress: Progress | None,
) -> dict[str, Any]:
    """KL(policy || reference) a response and a token, and the policy's entropy a token, in nats, over its own samples.

    per_response sums the exact KL of each position along the samples; sampled is the plain mean of log-ratios, which
    has the same mean and more noise. Per token: the ratio of means, of KL and of tokens. Intervals by prompt.
    """
    responses = [response for own in answers for response in own]
    sums = compare_distributions(
        models[0],
        reference=models[1],
        texts=[(response.prompt_ids, response.ids) for response in responses],
        compute=compute,
        progress=progress,
    )
    ids = [items[response.prompt].prompt_id for response in responses]
    tokens = np.asarray([response.n_tokens for response in responses], dtype=float)
    return {
        "per_response": float(sums[:, 1].mean()),
        "per_response_interval": mean_interval(sums[:, 1], prompt_ids=ids),
        "sampled": float(sums[:, 0].mean()),
        "sampled_interval": mean_interval(sums[:, 0], prompt_ids=ids),
        "per_token": float(sums[:, 1].sum() / tokens.sum()),
        "entropy_per_token": float(sums[:, 2].sum() / tokens.sum()),
        "own_samples": sampling.temperature == 1 and sampling.top_p == 1,
    }


def _score(
    answers: Sequence[list[list[Response]]],
    *,
    items: Sequence[PromptItem],
    reward_model: str,
    where: dict[str, Any],
    batch_size: int,
    progress: Progress | None,
) -> tuple[_Answers, _Answers]:
    model, tokenizer, compute = load_scorer(reward_model, **where)
    flat = [response for side in answers for own in side for response in own]
    scores = score_texts(
        model,
        tokenizer=tokenizer,
        conversations=[
            [*items[response.prompt].prompt, {"role": "assistant", "content": response.text}] for response in flat
        ],
        compute=compute,
        batch_size=batch_size,
        progress=progress,
    )
    left = iter(scores)
    ours, theirs = (_Answers(side, [[next(left) for _ in own] for own in side]) for side in answers)
    return ours, theirs


def _compare_scores(ours: _Answers, *, theirs: _Answers, prompt_ids: Sequence[str]) -> dict[str, Any]:
    """The win rates, mean scores and how many responses the judge could not read."""
    known = [_keep_scored(side) for side in (ours, theirs)]
    scores = [[[score for score, _ in own] for own in side] for side in known]
    lengths = [[[length for _, length in own] for own in side] for side in known]
    try:
        comparisons = cross_responses(
            scores[0],
            reference_scores=scores[1],
            lengths=lengths[0],
            reference_lengths=lengths[1],
            prompt_ids=prompt_ids,
        )
    except ValueError:
        raise DataError("the reward model can read no prompt with responses of both models") from None
    flat = [[score for own in side for score in own] for side in scores]
    return {
        **describe_wins(comparisons),
        "mean_score": {"policy": float(np.mean(flat[0])), "reference": float(np.mean(flat[1]))},
        "unread": sum(score is None for side in (ours, theirs) for own in side.scores for score in own),
    }


def _keep_scored(side: _Answers) -> list[list[tuple[float, int]]]:
    """(score, characters) of each response that has a score, prompt by prompt."""
    return [
        [(score, len(response.text)) for response, score in zip(own, scores, strict=True) if score is not None]
        for own, scores in zip(side.by_prompt, side.scores, strict=True)
    ]


def _compare_lengths(ours: _Answers, *, theirs: _Answers, prompt_ids: Sequence[str]) -> dict[str, Any]:
    means = [
        np.asarray([np.mean([response.n_tokens for response in own]) for own in side.by_prompt])
        for side in (ours, theirs)
    ]
    limits = [
        float(np.mean([response.finish_reason == "length" for own in side.by_prompt for response in own]))
        for side in (ours, theirs)
    ]
    return {
        **describe_lengths(means[0], reference_tokens=means[1], prompt_ids=prompt_ids),
        "at_limit": {"policy": limits[0], "reference": limits[1]},
    }


def _describe_diversity(side: _Answers) -> dict[str, Any]:
    """Means over prompts of distinct-1, distinct-2 and self-BLEU among a prompt's responses."""
    texts = [[response.text for response in own] for own in side.by_prompt]
    return {
        "distinct_1": _mean([distinct_share(own, n=1) for own in texts]),
        "distinct_2": _mean([distinct_share(own, n=2) for own in texts]),
        "self_bleu": _mean([self_bleu(own) for own in texts]),
    }


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return float(np.mean(known)) if known else None


def _warn_of_sampling(sampling: Sampling, *, divergence: dict[str, Any] | None) -> list[str]:
    if divergence is None:
        return ["The two models read text differently (vocabulary or chat template), so there is no KL between them."]
    if not divergence["own_samples"]:
        return [
            f"Samples were drawn at temperature {sampling.temperature:g} and top_p {sampling.top_p:g}, not from the "
            "policy itself: the KL is taken along those samples, and is not KL(policy || reference)."
        ]
    return []


def _list_samples(ours: _Answers, *, theirs: _Answers, items: Sequence[PromptItem]) -> list[dict[str, Any]]:
    """Row by row both answers with their scores, whole; `shorten_sample` cuts one for a page."""
    return [
        {
            "prompt_id": item.prompt_id,
            "index": index,
            "prompt": text_of(item.prompt),
            "reference": theirs.by_prompt[place][index].text,
            "policy": ours.by_prompt[place][index].text,
            "reference_score": theirs.scores[place][index],
            "policy_score": ours.scores[place][index],
        }
        for place, item in enumerate(items)
        for index in range(len(ours.by_prompt[place]))
    ]


def shorten_sample(sample: dict[str, Any]) -> dict[str, Any]:
    """A sample with its texts cut to 400 characters."""
    short = {key: shorten(sample[key]) for key in ("reference", "policy")}
    return {**sample, **short, "prompt": shorten(sample["prompt"], keep="end")}
