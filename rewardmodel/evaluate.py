"""Held-out figures: computed pair by pair from our own scores, never from averages of batch averages.

A reward model's margin is r(x, chosen) - r(x, rejected). A policy's is its implicit reward's (Rafailov et al. 2023,
eq. 5): beta * [log pi/pi_ref (chosen|x) - log pi/pi_ref (rejected|x)], log-probabilities summed over the completion.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from rewardmodel.chat import EncodedPair, EncodedSplit, encode_split
from rewardmodel.compute import Compute
from rewardmodel.data import DataError, Judgements, read_judgements, text_of
from rewardmodel.metrics import summarize_longer_wins, summarize_margins
from rewardmodel.models import read_positions
from rewardmodel.progress import Progress
from rewardmodel.reading import batches_by_tokens, pad_right
from rewardmodel.score import load_scorer, score_ids

# The ids of a prompt and of its completion.
TokenText = tuple[Sequence[int], Sequence[int]]


def evaluate_reward_model(
    model_name: str,
    *,
    data: str | Path,
    device: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    batch_size: int = 16,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Figures of a reward model on a file of pairs, with the baseline and what was dropped, ready for JSON.

    Raises InputError for a model that is none or a file without a usable pair.
    """
    judgements = read_heldout(data)
    model, tokenizer, compute = load_scorer(model_name, device=device, precision=precision, threads=threads)
    longest = read_positions(model) or 2**31
    split = encode_split(tokenizer, pairs=judgements.pairs, max_length=longest, dropped=judgements.dropped)
    if not split.pairs:
        raise DataError(f"{data}: no usable pair; dropped {split.dropped}")
    margins = reward_margins(model, pairs=split.pairs, compute=compute, batch_size=batch_size, progress=progress)
    return {
        **summarize_pairs(margins, pairs=split.pairs),
        "baselines": {"longer_wins": longer_wins(split.pairs)},
        "dropped": split.dropped,
        "device": compute.device,
        "precision": compute.precision,
    }


def read_heldout(data: str | Path) -> Judgements:
    """The strict comparisons of a file, and how many rows said nothing strict. Raises DataError where none did."""
    judgements = read_judgements(data)
    if not judgements.pairs:
        raise DataError(f"{data}: nothing in it was judged better than another")
    return judgements


def reward_margins(
    model: Any,
    *,
    pairs: Sequence[EncodedPair],
    compute: Compute,
    batch_size: int = 16,
    progress: Progress | None = None,
    phase: str = "evaluating",
) -> list[float]:
    """score(chosen) - score(rejected) of each pair. A response in several pairs is read once."""
    scores = reward_scores(model, pairs=pairs, compute=compute, batch_size=batch_size, progress=progress, phase=phase)
    return (scores[:, 0] - scores[:, 1]).tolist()


def reward_scores(
    model: Any,
    *,
    pairs: Sequence[EncodedPair],
    compute: Compute,
    batch_size: int = 16,
    progress: Progress | None = None,
    phase: str = "evaluating",
) -> np.ndarray:
    """The scores of each pair's responses, (pairs, 2), chosen then rejected; one in several pairs is read once."""
    sequences = [pair.prompt_ids + pair.chosen_ids for pair in pairs]
    sequences += [pair.prompt_ids + pair.rejected_ids for pair in pairs]
    scores = score_ids(
        model, sequences=sequences, compute=compute, batch_size=batch_size, progress=progress, phase=phase
    )
    return np.asarray(scores, dtype=np.float64).reshape(2, len(pairs)).T


def completion_log_probs(
    model: Any,
    *,
    pairs: Sequence[EncodedPair],
    compute: Compute,
    batch_tokens: int = 2048,
    progress: Progress | None = None,
    phase: str = "evaluating",
) -> np.ndarray:
    """log pi(completion | prompt), summed over the completion's tokens, in nats: (pairs, 2), chosen then rejected.

    A response in several pairs is read once. Always in float32: bfloat16 logits are off by several hundredths a token,
    and log-ratios are small differences. batch_tokens bounds a batch with its padding, since its logits take
    tokens x vocabulary floats.
    """
    sides = [(tuple(pair.prompt_ids), tuple(pair.chosen_ids)) for pair in pairs]
    sides += [(tuple(pair.prompt_ids), tuple(pair.rejected_ids)) for pair in pairs]
    places = {side: place for place, side in enumerate(dict.fromkeys(sides))}
    texts = list(places)
    progress = progress or Progress(show=False)
    progress.start(phase, total=len(texts))
    sums = np.zeros(len(texts))
    done = 0
    for batch in batches_by_tokens([len(prompt) + len(end) for prompt, end in texts], batch_tokens=batch_tokens):
        sums[batch] = _sum_log_probs(model, texts=[texts[i] for i in batch], compute=compute)
        done += len(batch)
        progress.advance(done)
        progress.check()
    by_side = sums[[places[side] for side in sides]]
    return np.stack([by_side[: len(pairs)], by_side[len(pairs) :]], axis=1)


def _sum_log_probs(model: Any, *, texts: Sequence[TokenText], compute: Compute) -> list[float]:
    ids, mask, in_completion = _pad_texts(model, texts=texts, compute=compute)
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()  # (batch, T-1, vocabulary)
    targets = ids[:, 1:]
    chosen = logits.gather(2, targets.unsqueeze(2)).squeeze(2) - logits.logsumexp(2)  # (batch, T-1)
    return torch.where(in_completion, chosen, 0.0).sum(1).tolist()


def _pad_texts(
    model: Any, *, texts: Sequence[TokenText], compute: Compute
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Ids and mask, (batch, T), and where the next token belongs to the completion, (batch, T-1) bool."""
    pad_id = model.config.get_text_config().pad_token_id
    ids, mask = pad_right([[*prompt, *end] for prompt, end in texts], pad_id=pad_id or 0, device=compute.device)
    positions = torch.arange(1, ids.shape[1], device=ids.device)
    starts = torch.tensor([len(prompt) for prompt, _ in texts], device=ids.device)
    return ids, mask, (positions >= starts.unsqueeze(1)) & mask[:, 1:].bool()


def compare_distributions(
    policy: Any,
    *,
    reference: Any,
    texts: Sequence[TokenText],
    compute: Compute,
    batch_tokens: int = 512,
    progress: Progress | None = None,
    phase: str = "comparing with the reference",
) -> np.ndarray:
    """How a policy departs from a reference along its own completions: (texts, 3), in nats, summed over tokens.

    Columns: log pi/pi_ref of the completion; the sum over its positions of KL(pi(.|y<t) || pi_ref(.|y<t)), whose mean
    over the policy's samples is the same KL with less noise (Amini et al. 2025, the Rao-Blackwell estimator); the sum
    of the policy's entropies. Both models read the same ids, in float32.
    """
    progress = progress or Progress(show=False)
    progress.start(phase, total=len(texts))
    sums = np.zeros((len(texts), 3))
    done = 0
    for batch in batches_by_tokens([len(prompt) + len(end) for prompt, end in texts], batch_tokens=batch_tokens):
        ids, mask, in_completion = _pad_texts(policy, texts=[texts[i] for i in batch], compute=compute)
        with torch.inference_mode():
            ours, theirs = (
                model(input_ids=ids, attention_mask=mask).logits[:, :-1].float().log_softmax(2)
                for model in (policy, reference)
            )  # (batch, T-1, vocabulary)
            chances = ours.exp()
            ratios = (ours - theirs).gather(2, ids[:, 1:].unsqueeze(2)).squeeze(2)
            columns = torch.stack([ratios, (chances * (ours - theirs)).sum(2), -(chances * ours).sum(2)], dim=2)
            sums[batch] = torch.where(in_completion.unsqueeze(2), columns, 0.0).sum(1).double().cpu().numpy()
        done += len(batch)
        progress.advance(done)
        progress.check()
    return sums


def summarize_pairs(margins: Sequence[float] | np.ndarray, *, pairs: Sequence[EncodedPair]) -> dict[str, Any]:
    """The figures of `metrics.summarize_margins` for encoded pairs."""
    return summarize_margins(margins, prompt_ids=[encoded.pair.prompt_id for encoded in pairs])


def longer_wins(pairs: Sequence[EncodedPair]) -> dict[str, Any]:
    """The baseline that knows nothing but length, in characters of the response."""
    return summarize_longer_wins([(len(text_of(item.pair.chosen)), len(text_of(item.pair.rejected))) for item in pairs])


def count_shared_prompts(train: EncodedSplit, *, test: EncodedSplit) -> int:
    """How many prompts of the test split are in the training split too: such figures are not held-out."""
    return len({item.pair.prompt_id for item in train.pairs} & {item.pair.prompt_id for item in test.pairs})
