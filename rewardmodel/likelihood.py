"""How likely a policy finds what examples say: summed log-probabilities of their learned tokens.

Always in float32: bfloat16 logits are off by several hundredths a token, and differences of sums are what is reported.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from rewardmodel.chat import EncodedExample
from rewardmodel.compute import Compute
from rewardmodel.progress import Progress
from rewardmodel.reading import batches_by_tokens, pad_right


def sum_log_probs(
    model: Any,
    *,
    rows: Sequence[EncodedExample],
    compute: Compute,
    batch_tokens: int = 2048,
    progress: Progress | None = None,
    phase: str = "evaluating",
) -> np.ndarray:
    """Sum over each row's learned tokens of log pi(token | all before it), in nats: (rows,).

    The first token of a conversation follows nothing and does not count. batch_tokens bounds a batch with its padding.
    """
    progress = progress or Progress(show=False)
    progress.start(phase, total=len(rows))
    sums = np.zeros(len(rows))
    done = 0
    for batch in batches_by_tokens([len(row.ids) for row in rows], batch_tokens=batch_tokens):
        sums[batch] = _read_batch(model, rows=[rows[i] for i in batch], compute=compute)
        done += len(batch)
        progress.advance(done)
        progress.check()
    return sums


def count_learned(rows: Sequence[EncodedExample]) -> np.ndarray:
    """Learned tokens of each row that have a probability: (rows,)."""
    return np.array([sum(row.learned[1:]) for row in rows])


def _read_batch(model: Any, *, rows: Sequence[EncodedExample], compute: Compute) -> list[float]:
    pad_id = model.config.get_text_config().pad_token_id
    ids, mask = pad_right([row.ids for row in rows], pad_id=pad_id or 0, device=compute.device)
    learned, _ = pad_right([[int(each) for each in row.learned] for row in rows], pad_id=0, device=compute.device)
    counts = learned[:, 1:].bool()  # (batch, T-1)
    with torch.inference_mode():
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1][counts].float()  # (learned, vocabulary)
    chosen = logits.gather(1, ids[:, 1:][counts].unsqueeze(1)).squeeze(1) - logits.logsumexp(1)  # (learned,)
    each = torch.zeros(counts.shape, device=ids.device).masked_scatter(counts, chosen)
    return each.double().sum(1).tolist()
