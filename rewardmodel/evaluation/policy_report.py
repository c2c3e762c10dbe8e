"""A policy's evaluation as one page of HTML, from the figures and samples alone."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from rewardmodel.evaluation import page
from rewardmodel.evaluation.page import Markup, interval, number
from rewardmodel.evaluation.policies import SAMPLES, shorten_sample


def render_policy_report(figures: Mapping[str, Any], *, samples: Sequence[dict[str, Any]]) -> str:
    """The page. figures, samples: as `policies.examine_policy` gives them."""
    sampling = figures["sampling"]
    body: list[Any] = [
        page.heading(f"Policy {figures['policy']}", level=1),
        page.paragraph(
            f"Beside {figures['reference']}, judged by {figures['reward_model']}: {figures['n']} responses to each of "
            f"{figures['prompts']} prompts from {figures['data']} (SHA-256 {figures['data_sha256'][:12]}…), "
            f"temperature {sampling['temperature']:g}, top_p {sampling['top_p']:g}, at most "
            f"{sampling['max_new_tokens']} tokens, seed {sampling['seed']}; {figures['unread']} responses too long for "
            f"the judge. Computed on {figures['device']} in {figures['precision']}.",
            kind="muted",
        ),
        *(page.paragraph(warning, kind="warning") for warning in figures["warnings"]),
        _headline(figures),
        page.paragraph(
            "Win rate: how often the reward model scores the policy's response above the reference's, a tie half, "
            "every prompt counting once. Length-controlled: the same at equal lengths, by logistic regression after "
            "Dubois et al. (2024). All intervals are 95 %, by drawing prompts again. A reward model is no person: have "
            "people compare the two before believing a win rate."
        ),
        *_table(figures),
        page.heading("Samples"),
        *_samples(samples),
    ]
    return page.render_page(f"Policy {figures['policy']}", body=body)


def _headline(figures: Mapping[str, Any]) -> Markup:
    controlled, length, divergence = figures["length_controlled"], figures["length"], figures["kl"]
    items = [
        ("Win rate", number(figures["win_rate"]), interval(figures["interval"])),
        ("Length-controlled", number(controlled["win_rate"]), interval(controlled["interval"])),
        ("Tokens, policy / reference", number(length["ratio"], digits=2), interval(length["interval"], digits=2)),
    ]
    if divergence:
        bounds = interval(divergence["per_response_interval"], digits=2)
        items.append(("KL a response (nats)", number(divergence["per_response"], digits=2), bounds))
    return page.figures(items)


def _table(figures: Mapping[str, Any]) -> Iterator[Markup]:
    length, diversity, scores = figures["length"], figures["diversity"], figures["mean_score"]
    rows: list[tuple[Any, ...]] = [
        ("mean score", *(number(scores[side], digits=2) for side in ("policy", "reference"))),
        ("mean tokens", *(number(length[side], digits=1) for side in ("policy", "reference"))),
        ("share at the token limit", *(number(length["at_limit"][side]) for side in ("policy", "reference"))),
    ]
    names = {"distinct_1": "distinct words", "distinct_2": "distinct pairs of words", "self_bleu": "self-BLEU"}
    for key, name in names.items():
        rows.append((name, *(number(diversity[side][key]) for side in ("policy", "reference"))))
    yield page.table(("", "policy", "reference"), rows, label="Both models", kinds="-nn")
    yield page.paragraph(
        "Distinct words fall, and self-BLEU rises towards 1, where the responses to one prompt grow alike; both depend "
        "on length, so read them beside it.",
        kind="muted",
    )
    found = figures["kl"]
    if found:
        yield page.paragraph(
            f"KL from the reference: {number(found['per_response'], digits=2)} nats a response "
            f"({interval(found['per_response_interval'], digits=2)}), {number(found['per_token'])} a token, from the "
            "exact divergence at each position of the policy's samples; by the samples' log-ratios alone "
            f"{number(found['sampled'], digits=2)} ({interval(found['sampled_interval'], digits=2)}). The policy's "
            f"entropy is {number(found['entropy_per_token'])} nats a token."
        )
    controlled = figures["length_controlled"]
    yield page.paragraph(
        f"A much longer response gains {number(controlled['length'], digits=2)} "
        f"({interval(controlled['length_interval'], digits=2)}) in log odds of winning."
    )


def _samples(samples: Sequence[dict[str, Any]]) -> Iterator[Markup]:
    first = [shorten_sample(sample) for sample in samples if sample["index"] == 0][:SAMPLES]
    rows = [
        (
            sample["prompt"],
            sample["reference"],
            sample["policy"],
            number(sample["reference_score"], digits=2),
            number(sample["policy_score"], digits=2),
        )
        for sample in first
    ]
    head = ("prompt", "reference", "policy", "score of reference", "of policy")
    yield page.table(head, rows, label="Samples", kinds="tttnn")
