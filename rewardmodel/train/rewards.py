"""What a policy is rewarded by: the weighted sum of a spec's terms, each reported by itself.

Terms are reward models (several of one term: their mean less a spread), the verifiers of the prompts' rows, a limit of
length, a form, and functions of one's own. A term that gives no number for a response ends the run with a reason.
Not here: what is made of the sums (`ppo_losses`), and the checks of verifiers (`verifiers`).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

import numpy as np

from rewardmodel.contract import (
    FormatTerm,
    InputError,
    LengthTerm,
    Message,
    ModelTerm,
    OnlineSpec,
    PythonTerm,
    RewardTerm,
    VerifierTerm,
    name_nearest,
)
from rewardmodel.data import DataError, PromptItem, read_verifier
from rewardmodel.generate import Response
from rewardmodel.models import ModelError, read_positions, resolve_model
from rewardmodel.score import load_scorer, score_texts
from rewardmodel.train.common import hash_weights
from rewardmodel.train.memory import TrainingError
from rewardmodel.verifiers.registry import Permissions, Verifier, parse_verifier, require_sandbox, verify
from rewardmodel.verifiers.workers import WorkerPool

SCORED_AT_ONCE = {"cpu": 16, "cuda": 64}
GROUP = "preferee.rewards"

Judge = Callable[[Sequence[Sequence[Message]], Sequence[str]], list[float | None]]
"""A reward model: the scores of some prompts' responses (texts); None for one that it cannot read."""
Measure = Callable[[Sequence[PromptItem], Sequence[Response]], list[float]]
"""A term: its value of each response to some prompts, side by side."""


@dataclass(frozen=True)
class Rewarded:
    """The weighted sum of each response, and by term its values before their weight, each (n,)."""

    total: list[float]
    parts: dict[str, list[float]]


class Rewards:
    """A spec's terms, opened."""

    def __init__(
        self, spec: OnlineSpec, *, items: Mapping[str, Sequence[PromptItem]], unsafe_code: bool = False
    ) -> None:
        """items: the prompts of each split, whose rows hold what verifiers check. unsafe_code: whether model-written
        code may run where nothing isolates it; `isolated` then says whether all of it is isolated all the same.

        Raises InputError for a model, a function, or a row's verifier that is none, and where code cannot be isolated.
        """
        self.terms = spec.terms
        self.isolated = True
        self._measures = [self._open(term, spec=spec, items=items, unsafe_code=unsafe_code) for term in self.terms]

    def _open(
        self,
        term: RewardTerm,
        *,
        spec: OnlineSpec,
        items: Mapping[str, Sequence[PromptItem]],
        unsafe_code: bool,
    ) -> Measure:
        if not isinstance(term, VerifierTerm):
            return open_term(term, spec=spec)
        parsed = {id(item): _read_verifier(item, split=split) for split, part in items.items() for item in part}
        self.isolated = require_sandbox(parsed.values(), unsafe=unsafe_code)
        return _open_verifiers(parsed, permissions=Permissions(unsafe_code=unsafe_code))

    def __call__(self, items: Sequence[PromptItem], responses: Sequence[Response]) -> Rewarded:
        """The rewards of responses, each to the prompt beside it. Raises TrainingError where there is none."""
        parts = {}
        for term, measure in zip(self.terms, self._measures, strict=True):
            values = measure(items, responses)
            _check_values(values, term=term, n=len(responses))
            parts[term.title] = values
        total = sum(term.weight * np.asarray(parts[term.title]) for term in self.terms)
        return Rewarded(np.asarray(total).tolist(), parts)


def open_term(term: RewardTerm, *, spec: OnlineSpec) -> Measure:
    """A term as a function; that of verifiers needs the rows. Raises InputError where it cannot be had."""
    if isinstance(term, ModelTerm):
        return _open_models(term, spec=spec)
    if isinstance(term, LengthTerm):
        return lambda _items, responses: [punish_length(r.n_tokens, free=term.free, most=term.most) for r in responses]
    if isinstance(term, FormatTerm):
        pattern = re.compile(term.pattern, re.DOTALL)
        return lambda _items, responses: [float(pattern.fullmatch(r.text.strip()) is not None) for r in responses]
    assert isinstance(term, PythonTerm)
    return _open_function(term)


def open_judge(model_name: str, *, spec: OnlineSpec) -> Judge:
    """A frozen reward model. Raises InputError for one that is none or that reads fewer tokens than max_length."""
    model, tokenizer, compute = load_scorer(
        model_name, device=spec.device, precision=spec.precision, threads=spec.threads
    )
    limit = read_positions(model)
    if limit is not None and limit < spec.max_length:
        raise ModelError(f"max_length: {spec.max_length} tokens, but the reward model reads {limit}; lower max_length")

    def score(prompts: Sequence[Sequence[Message]], texts: Sequence[str]) -> list[float | None]:
        conversations: list[list[Message]] = [
            [*prompt, {"role": "assistant", "content": text}] for prompt, text in zip(prompts, texts, strict=True)
        ]
        return score_texts(
            model,
            tokenizer=tokenizer,
            conversations=conversations,
            compute=compute,
            batch_size=SCORED_AT_ONCE[compute.device],
        )

    return score


def read_scores(judge: Judge, *, items: Sequence[PromptItem], responses: Sequence[Response]) -> list[float]:
    """A reward model's scores, all of them numbers. Raises TrainingError for a response that has none, or NaN."""
    scores = judge([item.prompt for item in items], [response.text for response in responses])
    for score, response in zip(scores, responses, strict=True):
        if score is None:
            raise TrainingError(
                f"the reward model cannot read a prompt of {len(response.prompt_ids)} tokens with its response of "
                f"{response.n_tokens}; lower max_length"
            )
        if not math.isfinite(score):
            raise TrainingError(
                f"the reward model scored a response {score}; its weights or its precision are at fault: score some "
                "responses with it (rewardmodel score), or use precision fp32"
            )
    return [score for score in scores if score is not None]


def _open_models(term: ModelTerm, *, spec: OnlineSpec) -> Measure:
    judges = [open_judge(name, spec=spec) for name in term.models]

    def measure(items: Sequence[PromptItem], responses: Sequence[Response]) -> list[float]:
        each = np.array([read_scores(judge, items=items, responses=responses) for judge in judges])  # (models, n)
        return (each.mean(axis=0) - term.spread * each.std(axis=0)).tolist()

    return measure


def _open_verifiers(parsed: Mapping[int, Verifier], *, permissions: Permissions) -> Measure:
    """The score, 0 to 1, of each row's own `verifier`. parsed: by the id of the row."""
    size = min(os.cpu_count() or 1, 8)
    pool = WorkerPool(size)

    def check(item: PromptItem, response: Response) -> float:
        return verify(item.prompt, response.text, parsed[id(item)], permissions=permissions, pool=pool).score

    def measure(items: Sequence[PromptItem], responses: Sequence[Response]) -> list[float]:
        with ThreadPoolExecutor(size) as threads:
            return list(threads.map(check, items, responses))

    return measure


def _read_verifier(item: PromptItem, *, split: str) -> Verifier:
    place = f"data ({split}), prompt {item.prompt_id}: verifier"
    if item.row.get("verifier") is None:
        raise DataError(f"{place}: missing; rewards of kind verifier need one in every row")
    try:
        return read_verifier(item.row["verifier"], parse=parse_verifier)
    except InputError as error:
        raise DataError(f"{place}: {error}") from None


def punish_length(tokens: int, *, free: int, most: int) -> float:
    """0 up to `free` tokens, then down in a line to -1 at `most` and beyond (Yu et al. 2025, DAPO, eq. 13)."""
    return -min(1.0, max(0.0, (tokens - free) / (most - free)))


def _open_function(term: PythonTerm) -> Measure:
    installed = {point.name: point for point in entry_points(group=GROUP)}
    if term.function not in installed:
        known = f": {name_nearest(term.function, tuple(installed))}" if installed else ""
        raise InputError(f"rewards: no function {term.function!r} is installed (entry points {GROUP}){known}")
    function = installed[term.function].load()

    def measure(items: Sequence[PromptItem], responses: Sequence[Response]) -> list[float]:
        prompts, rows = [item.prompt for item in items], [item.row for item in items]
        return [float(value) for value in function(prompts, [response.text for response in responses], rows)]

    return measure


def _check_values(values: Sequence[float], *, term: RewardTerm, n: int) -> None:
    if len(values) != n:
        raise TrainingError(f"reward {term.title}: {len(values)} values of {n} responses")
    for value in values:
        if not math.isfinite(value):
            raise TrainingError(f"reward {term.title}: gave a response {value}")


def hash_models(spec: OnlineSpec) -> dict[str, str]:
    """SHA-256 of the weight files of a spec's reward models, the gold one among them."""
    names = [("reward_model", name) for term in spec.terms if isinstance(term, ModelTerm) for name in term.models]
    if spec.gold_model is not None:
        names.append(("gold_model", spec.gold_model))
    found: dict[str, str] = {}
    for place, (kind, name) in enumerate(names):
        prefix = kind if place == 0 or kind == "gold_model" else f"{kind}/{place}"
        directory: Path = resolve_model(name)
        found.update({f"{prefix}/{file}": value for file, value in hash_weights(directory).items()})
    return found
