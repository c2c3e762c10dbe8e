"""What a PPO run says of itself: held-out scores before and after, KL, lengths, samples, and warnings in plain words.

The scores are those of the reward model that was trained against, so they say how far the policy followed it, not how
good it became; `evaluate-policy` with another reward model, and people, say that.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from rewardmodel.compute import Compute
from rewardmodel.contract import OnlineSpec, PenalizedSpec
from rewardmodel.data import PromptItem, text_of
from rewardmodel.evaluate import compare_distributions
from rewardmodel.evaluation.resampling import mean_interval
from rewardmodel.generate import Sampling, generate_responses
from rewardmodel.progress import Progress
from rewardmodel.rundir import RunDir, note_where_not_isolated
from rewardmodel.train.rewards import Judge, Rewards, read_scores
from rewardmodel.train.rollouts import PromptData, seed_of_step

LONGER = 1.3  # times the length at which a growth is worth a word
FAR = 20.0  # nats a response that are far from the reference, where no target says what is
IDLE = 0.5  # of the prompts may teach nothing before it is said
LOW = 0.3  # of the entropy at the beginning


def measure_policy(
    spec: OnlineSpec,
    *,
    model: Any,
    tokenizer: Any,
    items: Sequence[PromptItem],
    rewards: Rewards,
    gold: Judge | None,
    compute: Compute,
    progress: Progress,
    phase: str,
) -> dict[str, Any]:
    """One sampled answer to each held-out prompt, with its score, as JSON. The seed is the same before and after."""
    prompts = [item.prompt for item in items]
    responses = generate_responses(
        model,
        tokenizer=tokenizer,
        prompts=prompts,
        sampling=Sampling(
            max_new_tokens=spec.response_tokens,
            temperature=spec.temperature,
            top_p=1.0,
            batch_size=spec.generation_batch_size,
            seed=seed_of_step(spec.seed, step=-1),
        ),
        compute=compute,
        progress=progress,
        phase=phase,
    )
    rewarded = rewards(items, responses)
    return {
        "texts": [response.text for response in responses],
        "scores": rewarded.total,
        "parts": rewarded.parts,
        "gold": None if gold is None else read_scores(gold, items=items, responses=responses),
        "tokens": [response.n_tokens for response in responses],
        "ended": [response.finish_reason == "eos" for response in responses],
        "prompt_ids": [list(response.prompt_ids) for response in responses],
        "ids": [list(response.ids) for response in responses],
    }


def build_ppo_report(
    spec: OnlineSpec,
    *,
    run: RunDir,
    data: PromptData,
    compute: Compute,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    models: tuple[Any, Any],
    steps: int,
    stopped: str,
    started: float,
    progress: Progress,
) -> dict[str, Any]:
    """What report.json holds. models: the trained policy and its reference."""
    names = [item.prompt_id for item in data.test]
    rows = run.read_metrics()
    heldout = {
        "split": "test",
        **summarize_answers(after, prompt_ids=names),
        **compare_scores(before["scores"], after=after["scores"], prompt_ids=names),
        "kl": measure_divergence(spec, models=models, answers=after, names=names, compute=compute, progress=progress),
    }
    if before["gold"] is not None:
        heldout["gold"] |= compare_scores(before["gold"], after=after["gold"], prompt_ids=names)
    curve = trace_gold(rows, before=before, after=after, steps=steps, kl=heldout["kl"]["per_response"])
    warnings = [*warn_of_training(rows, spec=spec), *warn_of_gold(curve)]
    return {
        "method": spec.method,
        "base_model": spec.model,
        "reward_model": spec.reward_model,
        "rewards": list(spec.rewards),
        "gold_model": spec.gold_model,
        "gold_curve": curve,
        "heldout": heldout,
        "baselines": {"untrained": summarize_answers(before, prompt_ids=names)},
        "dropped": data.dropped,
        "trained_on": {"responses": steps * spec.batch_size, "prompts": len(data.train), "steps": steps},
        "stopped": stopped or None,
        "warnings": warnings,
        "simulated": data.manifest.get("simulated") is True,
        "seconds": round(time.time() - started, 1),
        "device": compute.device,
        "precision": compute.precision,
        "notes": [*_list_notes(data, stopped=stopped), *note_where_not_isolated(run), *warnings],
        "samples": list_samples(data.test, before=before, after=after, n=spec.report_samples),
    }


def _list_notes(data: PromptData, *, stopped: str) -> list[str]:
    shared = len({repr(item.prompt) for item in data.train} & {repr(item.prompt) for item in data.test})
    notes = [f"{shared} prompts of the test split are in the training split too"] if shared else []
    return [*notes, *([stopped] if stopped else [])]


def summarize_answers(answers: Mapping[str, Any], *, prompt_ids: Sequence[str]) -> dict[str, Any]:
    """Mean score with its interval over prompts, mean length, and the share that ended by itself."""
    return {
        "n": len(answers["scores"]),
        "n_prompts": len(prompt_ids),
        "score": float(np.mean(answers["scores"])),
        "interval": mean_interval(answers["scores"], prompt_ids=prompt_ids),
        "tokens": float(np.mean(answers["tokens"])),
        "ended": float(np.mean(answers["ended"])),
        "rewards": {name: summarize_scores(values, prompt_ids=prompt_ids) for name, values in answers["parts"].items()},
        "gold": None if answers["gold"] is None else summarize_scores(answers["gold"], prompt_ids=prompt_ids),
    }


def compare_scores(before: Sequence[float], *, after: Sequence[float], prompt_ids: Sequence[str]) -> dict[str, Any]:
    """What the training changed, prompt by prompt: the mean gain, and how often the answer afterwards scores higher
    (equal scores count half), each with its interval over prompts."""
    gains = np.asarray(after) - np.asarray(before)
    wins = (np.sign(gains) + 1) / 2
    return {
        "gain": float(gains.mean()),
        "gain_interval": mean_interval(gains, prompt_ids=prompt_ids),
        "higher": float(wins.mean()),
        "higher_interval": mean_interval(wins, prompt_ids=prompt_ids),
    }


def summarize_scores(scores: Sequence[float], *, prompt_ids: Sequence[str]) -> dict[str, Any]:
    """A mean with its interval over prompts."""
    return {"mean": float(np.mean(scores)), "interval": mean_interval(scores, prompt_ids=prompt_ids)}


def trace_gold(
    rows: Sequence[Mapping[str, float]], *, before: Mapping[str, Any], after: Mapping[str, Any], steps: int, kl: float
) -> list[dict[str, float]]:
    """Held-out score and gold score by KL from the reference, nats a response, from the start to the end: the curve of
    Gao et al. (2022, fig. 1), whose abscissa is the square root of the KL. Empty without a gold model."""
    if before["gold"] is None:
        return []

    def describe(answers: Mapping[str, Any], *, step: int, kl: float) -> dict[str, float]:
        return {"step": step, "kl": kl, "score": mean(answers["scores"]), "gold": mean(answers["gold"])}

    def mean(values: Sequence[float]) -> float:
        return float(np.mean(values))

    between = [
        {"step": row["step"] - 1, "kl": row["heldout_kl"], "score": row["heldout_score"], "gold": row["gold_score"]}
        for row in rows
        if "gold_score" in row
    ]
    return [describe(before, step=0, kl=0.0), *between, describe(after, step=steps, kl=kl)]


def warn_of_gold(curve: Sequence[Mapping[str, float]]) -> list[str]:
    """A sentence where the gold score was higher earlier while the score that is trained by went on to rise."""
    if not curve:
        return []
    best, last = max(curve, key=lambda point: point["gold"]), curve[-1]
    if best is last or last["gold"] >= best["gold"] or last["score"] <= best["score"]:
        return []
    return [
        f"The gold model's score was highest after {best['step']:g} steps ({best['gold']:.3f} at {best['kl']:.1f} "
        f"nats) and is {last['gold']:.3f} at the end, while the score that was trained by rose from "
        f"{best['score']:.3f} to {last['score']:.3f}: the policy found the reward model's faults. Stop at that KL "
        "(kl_budget), or raise the KL's weight."
    ]


def measure_divergence(
    spec: OnlineSpec,
    *,
    models: tuple[Any, Any],
    answers: Mapping[str, Any],
    names: Sequence[str],
    compute: Compute,
    progress: Progress,
) -> dict[str, Any]:
    """KL(policy || reference) a response in nats along the held-out answers, exact at each position, and entropy."""
    texts = [(tuple(p), tuple(r)) for p, r in zip(answers["prompt_ids"], answers["ids"], strict=True)]
    sums = compare_distributions(models[0], reference=models[1], texts=texts, compute=compute, progress=progress)
    return {
        "per_response": float(sums[:, 1].mean()),
        "per_response_interval": mean_interval(sums[:, 1], prompt_ids=names),
        "entropy_per_token": float(sums[:, 2].sum() / sum(answers["tokens"])),
        "own_samples": spec.temperature == 1,
    }


def list_samples(
    items: Sequence[PromptItem], *, before: Mapping[str, Any], after: Mapping[str, Any], n: int
) -> list[dict[str, Any]]:
    """The first n held-out prompts with both answers and their scores."""
    return [
        {
            "prompt": items[i].prompt,
            "prompt_text": text_of(items[i].prompt),
            "before": before["texts"][i],
            "after": after["texts"][i],
            "score_before": before["scores"][i],
            "score_after": after["scores"][i],
        }
        for i in range(min(n, len(items)))
    ]


def record_samples(run: RunDir, *, step: int, items: Sequence[PromptItem], answers: Mapping[str, Any]) -> None:
    """Keep the answers to the first held-out prompts after `step` steps, each time the same ones; once a step."""
    if any(row["step"] == step for row in run.read_samples()):
        return
    rows = [
        {
            "step": step,
            "place": place,
            "prompt": text_of(item.prompt),
            "response": answers["texts"][place],
            "score": answers["scores"][place],
            "tokens": answers["tokens"][place],
            "ended": answers["ended"][place],
        }
        for place, item in enumerate(items)
    ]
    run.append_samples(rows)


def warn_of_training(rows: Sequence[Mapping[str, float]], *, spec: OnlineSpec) -> list[str]:
    """What in a run's metrics points at a training that went wrong, a sentence each."""
    if not rows:
        return []
    quarter = max(1, len(rows) // 4)
    early, late = rows[:quarter], rows[-quarter:]

    def mean(name: str, part: Sequence[Mapping[str, float]]) -> float:
        known = [row[name] for row in part if name in row]
        return float(np.mean(known)) if known else float("nan")

    found = []
    equal = sum(row["score_std"] == 0 for row in rows)
    if equal:
        found.append(
            f"In {equal} of {len(rows)} rollouts all responses had the same score, so only the KL was learned from: "
            "look whether the reward model tells responses apart, or the policy says the same to everything."
        )
    idle = mean("equal_groups", late)
    if idle > IDLE:
        found.append(
            f"At {idle:.0%} of the prompts at the end all responses had the same score, so nothing was learned from "
            "them: raise group_size or temperature, or take prompts that are neither too easy nor too hard."
        )
    grown = mean("response_tokens", late) / mean("response_tokens", early)
    if grown > LONGER and mean("score", late) > mean("score", early):
        found.append(
            f"Responses became {grown:.1f} times as long while their score rose: the policy may have learned that the "
            "reward model likes length. Compare at equal lengths (evaluate-policy), or train the reward model with "
            "length_penalty."
        )
    target = spec.target_kl if isinstance(spec, PenalizedSpec) else None
    kl, far = rows[-1]["kl"], 2 * target if target else FAR
    if kl > far:
        found.append(
            f"KL is {kl:.1f} nats a response at the end (above {far:g}): the policy is far from its reference, where "
            "the reward model knows little. Raise kl_coefficient, lower learning_rate, or set kl_budget."
        )
    explained = mean("explained_variance", late)
    if explained < 0:
        found.append(
            f"The critic foretells returns worse than a constant would (explained variance {explained:.2f} at the "
            "end): advantages are noise. Raise value_learning_rate or batch_size, or lower learning_rate."
        )
    if mean("entropy", late) < LOW * mean("entropy", early):
        found.append(
            f"Entropy fell from {mean('entropy', early):.2f} to {mean('entropy', late):.2f} nats a token: the policy "
            "says nearly the same each time. Raise kl_coefficient or lower learning_rate."
        )
    if mean("ended", late) < 0.5:
        found.append(
            f"{1 - mean('ended', late):.0%} of the responses at the end ran into response_tokens "
            f"({spec.response_tokens}) and were scored as they stood: raise it, or set eos_penalty."
        )
    return found
