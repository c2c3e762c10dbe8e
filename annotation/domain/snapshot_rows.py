"""The rows of a snapshot: what one judgement, or one prompt, gives in each format, and what it leaves out.

Judgements are read as they are stored and derived here. Ratings never become an order; a correction is a text that
somebody wrote, so it stands beside the responses as one more example and as preferred to what it corrects.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from annotation.models import Prompt, Ranking, Response
from annotation.statistics.comparisons import derive_comparisons, ranks_of

SPLITS = ("train", "validation", "test")
Row = dict[str, Any]


@dataclass
class Tally:
    """What went into a snapshot and what stayed out, counted while rows are made."""

    rows: Counter[str] = field(default_factory=Counter)
    prompts: dict[str, set[int]] = field(default_factory=lambda: {split: set() for split in SPLITS})
    rankings: int = 0
    simulated: int = 0
    annotators: set[int] = field(default_factory=set)
    dropped: Counter[str] = field(default_factory=Counter)


def preference_rows(ranking: Ranking, *, tally: Tally) -> Iterator[Row]:
    """A row a strict pair, then a row a correction, preferred to what it corrects.

    The pairs of one ranking share `group_id` and weigh 1 together; a correction is a group of its own.
    """
    texts = {response.pk: response.text for response in responses_of(ranking)}
    derived = derive_comparisons(ranking.tiers, task=ranking.task)
    tally.dropped["ties"] += len(derived.tied)
    if not ranking.tiers:
        tally.dropped[_why_unordered(ranking)] += 1
    pairs = [(a, b) for a, b in derived.strict if texts[a] != texts[b]]
    tally.dropped["identical responses"] += len(derived.strict) - len(pairs)
    for better, worse in pairs:
        yield {
            "prompt": ranking.slate.prompt.messages,
            "chosen": _reply(texts[better]),
            "rejected": _reply(texts[worse]),
            **_provenance(ranking),
            "origin": "response",
            "chosen_id": better,
            "rejected_id": worse,
            "strength": None if ranking.strength is None else abs(ranking.strength),
            "weight": 1 / len(pairs),
        }
    for response_id, corrected in _corrections(ranking, tally=tally).items():
        yield {
            "prompt": ranking.slate.prompt.messages,
            "chosen": _reply(corrected),
            "rejected": _reply(texts[response_id]),
            **_provenance(ranking),
            "group_id": f"{_group(ranking)}/correction-{response_id}",
            "origin": "correction",
            "chosen_id": None,
            "rejected_id": response_id,
            "strength": None,
            "weight": 1.0,
        }


def unpaired_rows(ranking: Ranking, *, tally: Tally) -> Iterator[Row]:
    """A row a response with a label: false for all where all are bad; else true in the first tier, false in the last.

    What stands between, or in the one tier of an all-tied ranking, is neither and is dropped.
    """
    if not ranking.tiers and not ranking.all_bad:
        tally.dropped[_why_unordered(ranking)] += 1
        return
    best = set() if ranking.all_bad else set(ranking.tiers[0])
    worst = set(ranking.tiers[-1]) if ranking.tiers else set()
    for response in responses_of(ranking):
        if not ranking.all_bad and (response.pk in best) == (response.pk in worst):
            tally.dropped["neither best nor worst"] += 1
            continue
        yield {
            "prompt": ranking.slate.prompt.messages,
            "completion": _reply(response.text),
            "label": response.pk in best,
            **_provenance(ranking),
            "response_id": response.pk,
        }


def ranking_rows(ranking: Ranking, *, tally: Tally) -> Iterator[Row]:
    """One row a ranking: the K responses, their competition ranks (1 = best, equal = one tier; empty if unordered)."""
    responses = responses_of(ranking)
    ranks = ranks_of(ranking.tiers)
    yield {
        "prompt": ranking.slate.prompt.messages,
        "responses": [response.text for response in responses],
        "response_ids": [response.pk for response in responses],
        "ranks": [ranks[response.pk] for response in responses] if ranks else [],
        **_provenance(ranking),
        "rationale": ranking.rationale,
    }


def sft_rows(ranking: Ranking, *, tally: Tally) -> Iterator[Row]:
    """Examples to imitate: the best response, then every correction; the best response's takes its place.

    No response is the best where all are bad, where the best is tied, and where ratings gave no order.
    """
    corrections = _corrections(ranking, tally=tally)
    texts = {response.pk: response.text for response in responses_of(ranking)}
    examples = {response_id: ("correction", text) for response_id, text in corrections.items()}
    if ranking.all_bad:
        tally.dropped["all bad"] += 1
    elif not ranking.tiers:
        tally.dropped[_why_unordered(ranking)] += 1
    elif len(ranking.tiers[0]) != 1:
        tally.dropped["tied best"] += 1
    else:
        best = ranking.tiers[0][0]
        examples = {best: ("response", texts[best])} | examples
    for response_id, (origin, text) in examples.items():
        yield {
            "prompt": ranking.slate.prompt.messages,
            "completion": _reply(text),
            **_provenance(ranking),
            "origin": origin,
            "response_id": response_id,
        }


def rating_rows(ranking: Ranking, *, tally: Tally) -> Iterator[Row]:
    """A row a response that was rated: the scales' names and, in the same order, the numbers given."""
    if not ranking.ratings:
        tally.dropped["no ratings"] += 1
        return
    for response in responses_of(ranking):
        given = {scale: values.get(str(response.pk)) for scale, values in sorted(ranking.ratings.items())}
        given = {scale: value for scale, value in given.items() if value is not None}
        if not given:
            tally.dropped["responses without a rating"] += 1
            continue
        yield {
            "prompt": ranking.slate.prompt.messages,
            "completion": _reply(response.text),
            "scales": list(given),
            "values": [float(value) for value in given.values()],
            "flags": ranking.flags.get(str(response.pk), []),
            **_provenance(ranking),
            "response_id": response.pk,
        }


def annotation_rows(ranking: Ranking, *, tally: Tally) -> Iterator[Row]:
    """One row a judgement with everything that was recorded of it; sources stand beside the responses.

    What differs in shape from project to project travels as JSON text, keyed by response id. `strength` has its sign
    here: negative where the first of `responses` is better.
    """
    yield {
        **next(ranking_rows(ranking, tally=tally)),
        "sources": [response.source for response in responses_of(ranking)],
        "presented_order": ranking.presented_order,
        "order_seed": getattr(ranking, "order_seed", None),
        "order_row": getattr(ranking, "order_row", None),
        "active_ms": ranking.active_ms,
        "strength": ranking.strength,
        "ratings": _as_json(ranking.ratings or {}),
        "flags": _as_json(ranking.flags),
        "highlights": _as_json(ranking.highlights),
        "corrections": _as_json(ranking.corrections),
        "guidelines_version": ranking.guidelines.version if ranking.guidelines else None,
        "created_at": ranking.created_at.isoformat(),
        "metadata": _as_json(ranking.metadata),
    }


def prompt_row(prompt: Prompt) -> Row:
    """A prompt-only row; verifier and metadata travel as JSON text: their shape differs from prompt to prompt."""
    return {
        "prompt": prompt.messages,
        "prompt_id": prompt.pk,
        "external_id": prompt.external_id,
        "reference": prompt.reference,
        "verifier": None if prompt.verifier is None else _as_json(prompt.verifier),
        "metadata": _as_json(prompt.metadata),
    }


def reference_row(prompt: Prompt) -> Row:
    """A prompt with its right answer, to imitate."""
    return {
        "prompt": prompt.messages,
        "completion": _reply(prompt.reference or ""),
        "prompt_id": prompt.pk,
        "external_id": prompt.external_id,
    }


RANKING_FORMATS = {
    "trl-preference": preference_rows,
    "trl-unpaired": unpaired_rows,
    "rankings": ranking_rows,
    "ratings": rating_rows,
    "sft": sft_rows,
    "annotations": annotation_rows,
}


def responses_of(ranking: Ranking) -> list[Response]:
    """The slate's responses in canonical order, to which the sign of a strength refers."""
    return [place.response for place in ranking.slate.places.all()]


def _corrections(ranking: Ranking, *, tally: Tally) -> dict[int, str]:
    """The corrected texts by response, in canonical order; one that changes nothing is none."""
    texts = {response.pk: response.text for response in responses_of(ranking)}
    corrected = {pk: ranking.corrections[str(pk)] for pk in texts if str(pk) in ranking.corrections}
    changed = {pk: text for pk, text in corrected.items() if text != texts[pk]}
    tally.dropped["corrections that change nothing"] += len(corrected) - len(changed)
    return changed


def _why_unordered(ranking: Ranking) -> str:
    return "all bad without order" if ranking.all_bad else "ratings without order"


def _reply(text: str) -> list[dict[str, str]]:
    return [{"role": "assistant", "content": text}]


def _group(ranking: Ranking) -> str:
    return f"slate-{ranking.slate_id}/ranking-{ranking.pk}"


def _provenance(ranking: Ranking) -> Row:
    return {
        "prompt_id": ranking.slate.prompt_id,
        "group_id": _group(ranking),
        "task": ranking.task,
        "annotator": f"{ranking.annotator.kind}-{ranking.annotator_id}",
        "simulated": ranking.annotator.kind == "simulated",
        "all_bad": ranking.all_bad,
        "criterion": ranking.slate.criterion,
    }


def _as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, sort_keys=True)
