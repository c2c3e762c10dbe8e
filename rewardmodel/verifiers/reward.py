"""Kind `reward`: does a reward model give the response at least a threshold?

    {"kind": "reward", "threshold": 0.5}

Which reward model is said by who runs the command, never by a data row. It runs in this process: a model is loaded once
and reads many responses at a time. A threshold holds for one model only; its scores have no unit of their own.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, ClassVar

from rewardmodel.contract import Message, SpecError, setting
from rewardmodel.verifiers.specs import CheckSpec, parse_settings
from rewardmodel.verifiers.verdict import Verdict, failed, passed


@dataclass(frozen=True, kw_only=True)
class RewardCheckSpec(CheckSpec):
    """What reward asks for."""

    kind: ClassVar[str] = "reward"

    threshold: float = setting(help="The lowest score that passes.")


def parse_reward(settings: Mapping[str, Any], *, model: str | None) -> RewardCheckSpec:
    """The spec in a mapping. Raises SpecError naming the field, or where no reward model was named."""
    if model is None:
        raise SpecError("kind: reward needs a reward model, which this command was not given (--reward-model MODEL)")
    return parse_settings(RewardCheckSpec, settings=settings)


def check_rewards(
    specs: Sequence[RewardCheckSpec], *, prompts: Sequence[list[Message]], responses: Sequence[str], model: str
) -> list[Verdict]:
    """A verdict a response, each against its own threshold. Raises InputError for a model that is none."""
    from rewardmodel.score import score_texts

    started = time.perf_counter()
    network, tokenizer, compute = _load_scorer(model)
    conversations = [
        [*prompt, Message(role="assistant", content=response)]
        for prompt, response in zip(prompts, responses, strict=True)
    ]
    scores = score_texts(network, tokenizer=tokenizer, conversations=conversations, compute=compute)
    seconds = (time.perf_counter() - started) / max(len(specs), 1)
    return [_judge(score, spec=spec, seconds=seconds) for score, spec in zip(scores, specs, strict=True)]


def _judge(score: float | None, *, spec: RewardCheckSpec, seconds: float) -> Verdict:
    if score is None:
        verdict = failed("longer than the reward model reads")
    elif score >= spec.threshold:
        verdict = passed(f"score {score:.4g}, at least {spec.threshold:g}")
    else:
        verdict = failed(f"score {score:.4g}, below {spec.threshold:g}")
    return Verdict(verdict.passed, verdict.score, verdict.reason, seconds)


@lru_cache(maxsize=1)
def _load_scorer(model: str) -> tuple[Any, Any, Any]:
    from rewardmodel.score import load_scorer

    return load_scorer(model)
