"""The model card: README.md beside the weights, written from the report and the provenance alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from rewardmodel.rundir import write_text

KINDS = {
    "reward": "Reward model",
    "sft": "Policy (supervised fine-tuning)",
    "dpo": "Policy (direct preference optimisation)",
    "kto": "Policy (Kahneman-Tversky optimisation)",
    "rejection": "Policy (rejection-sampling fine-tuning)",
    "ppo": "Policy (proximal policy optimisation)",
    "rloo": "Policy (REINFORCE leave-one-out)",
    "grpo": "Policy (group relative policy optimisation)",
    "online-dpo": "Policy (online direct preference optimisation)",
}
ONLINE = ("ppo", "rloo", "grpo", "online-dpo")
UNITS = {
    "reward": "pairs",
    "sft": "rows",
    "dpo": "pairs",
    "kto": "rows",
    "rejection": "rows",
    **dict.fromkeys(ONLINE, "responses"),
}
SOURCES = {"sft": "examples", "kto": "labelled responses", "rejection": "prompts", **dict.fromkeys(ONLINE, "prompts")}
ROWS = {"this": "this model", "untrained": "untrained", "longer_wins": "the longer response wins"}
REASONS = {
    "too_long": "too long",
    "identical": "with two equal sides",
    "unordered": "rankings without an order",
    "without_order": "judgements without one strict order",
    "weightless": "of weight 0",
}
EXPLANATIONS = {
    "reward": (
        "A reward is read at the last token of the conversation as the tokenizer's chat template renders it, without "
        "a generation prompt. Rewards order responses to one prompt; across prompts they are not comparable."
    ),
    "sft": (
        "Loss is that of a token the assistant says, in nats, over all held-out rows at once; perplexity is its "
        "exponential. The interval is over prompts drawn again (95 %)."
    ),
    "kto": (
        "AUC is the probability that a held-out response labelled true has a higher implicit reward, "
        "log(policy / reference) summed over the response, than one labelled false. Intervals are over prompts drawn "
        "again (95 %). The untrained row ranks responses by the reference's own log-probability."
    ),
    "rejection": (
        "pass@1 is the chance that one sampled answer to a held-out prompt passes its verifier; pass@k, that at least "
        "one of k does (Chen et al. 2021). Intervals are over prompts drawn again (95 %). A verifier sees what it "
        "checks and nothing else."
    ),
    **dict.fromkeys(
        ONLINE,
        "Score is the mean that the reward model of the training gives to one response a held-out prompt; tokens is "
        "the mean length. Intervals are over prompts drawn again (95 %). A policy trained against a reward model finds "
        "its faults too: judge it by another one, and by people.",
    ),
    "dpo": (
        "Accuracy is that of the implicit reward, beta x log(policy / reference) summed over the response. "
        "The untrained row says how often the reference itself found the chosen response likelier."
    ),
}


def write_card(directory: Path, *, report: dict[str, Any], provenance: dict[str, Any]) -> None:
    """Write README.md into a model's directory."""
    write_text(directory / "README.md", render_card(report, provenance=provenance))


def render_card(report: dict[str, Any], *, provenance: dict[str, Any]) -> str:
    """The card as Markdown."""
    if "attributes" in report["heldout"]:
        return _render_ratings_card(report, provenance=provenance)
    heldout = report["heldout"]
    trained = report["trained_on"]
    method = report["method"]
    unit = UNITS[method]
    parts = [
        f"# {KINDS[method]} from {report['base_model']}",
        _describe_source(report),
        f"Trained on {trained[unit]} {unit} of {trained['prompts']} prompts, {trained['steps']} steps.",
        f"## Held-out: {heldout['n']} {unit} of {heldout['n_prompts']} prompts ({heldout['split']} split)",
        _render_figures(report),
        EXPLANATIONS[method],
        _render_dropped(report),
        *report["notes"],
        "## Data",
        _render_list({**provenance["data_sha256"], "snapshot": provenance["snapshot_sha256"] or "not given"}),
        "## Spec",
        f"```json\n{json.dumps(provenance['spec'], ensure_ascii=False, indent=1)}\n```",
        "## Made with",
        _render_list({**provenance["versions"], **provenance["machine"]}),
    ]
    return "\n\n".join(parts) + "\n"


def _render_ratings_card(report: dict[str, Any], *, provenance: dict[str, Any]) -> str:
    trained, heldout, weights = report["trained_on"], report["heldout"], report["attribute_weights"]
    lines = ["| scale | n | R² | interval | Spearman | interval |", "| --- | --- | --- | --- | --- | --- |"]
    for name, row in heldout["attributes"].items():
        r2, rank = (f"{row[key]:.3f}" if row[key] is not None else "–" for key in ("r2", "spearman"))
        within = [_render_interval(row[f"{key}_interval"]) for key in ("r2", "spearman")]
        lines.append(f"| {name} | {row['n']} | {r2} | {within[0]} | {rank} | {within[1]} |")
    parts = [
        f"# Reward model of named scales from {report['base_model']}",
        _describe_source(report),
        f"Trained on {trained['responses']} rated responses to {trained['prompts']} prompts, {trained['steps']} steps.",
        f"## Held-out: {heldout['n']} responses to {heldout['n_prompts']} prompts ({heldout['split']} split)",
        "\n".join(lines),
        "Intervals are 95 %, by drawing prompts again. An output of the head is a rating less its training mean "
        "(`rated_attributes` in the configuration). The score is the sum of expected ratings, each times its weight: "
        + ", ".join(f"{name} {weight:g}" for name, weight in weights.items())
        + ".",
        *report["notes"],
        "## Data",
        _render_list({**provenance["data_sha256"], "snapshot": provenance["snapshot_sha256"] or "not given"}),
        "## Spec",
        f"```json\n{json.dumps(provenance['spec'], ensure_ascii=False, indent=1)}\n```",
        "## Made with",
        _render_list({**provenance["versions"], **provenance["machine"]}),
    ]
    return "\n\n".join(parts) + "\n"


def _describe_source(report: dict[str, Any]) -> str:
    if report["simulated"]:
        return "**Trained on judgements of simulated annotators**: its figures say nothing about people's preferences."
    return f"Trained on the {SOURCES.get(report['method'], 'judgements')} of the snapshot named below."


def _render_figures(report: dict[str, Any]) -> str:
    """The held-out table of the method."""
    if report["method"] == "sft":
        return _render_columns(report, columns=("loss", "perplexity"))
    if report["method"] == "kto":
        return _render_columns(report, columns=("auc",))
    if report["method"] == "rejection":
        return _render_columns(report, columns=("pass_at_1", "pass_at_k"))
    if report["method"] in ONLINE:
        return _render_columns(report, columns=("score", "tokens"))
    return (
        f"{_render_table(report)}\n\n"
        "Intervals are 95 %: Wilson's, and by drawing prompts again (pairs of one prompt are not independent). "
        "A tie counts as half."
    )


def _render_columns(report: dict[str, Any], *, columns: tuple[str, ...]) -> str:
    """A table of figures whose one interval is that of the first."""
    found = {"this": report["heldout"], **report["baselines"]}
    first, *others = columns
    lines = [f"| | {first} | interval | {' | '.join([*others, ''])}".rstrip(), "| --- " * (len(columns) + 2) + "|"]
    for key in ROWS:
        if key in found:
            row = found[key]
            cells = [
                ROWS[key],
                f"{row[first]:.3f}",
                _render_interval(row["interval"]),
                *(f"{row[c]:.3f}" for c in others),
            ]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _render_table(report: dict[str, Any]) -> str:
    rows = {
        "this model": report["heldout"],
        "untrained": report["baselines"]["untrained"],
        "the longer response wins": report["baselines"]["longer_wins"],
    }
    lines = ["| | accuracy | interval | by prompt | log loss |", "| --- | --- | --- | --- | --- |"]
    for name, row in rows.items():
        loss = f"{row['log_loss']:.3f}" if "log_loss" in row else "–"
        by_prompt = _render_interval(row.get("interval_by_prompt"))
        lines.append(f"| {name} | {row['accuracy']:.3f} | {_render_interval(row['interval'])} | {by_prompt} | {loss} |")
    return "\n".join(lines)


def _render_interval(interval: list[float] | None) -> str:
    return f"{interval[0]:.3f} – {interval[1]:.3f}" if interval else "–"


def _render_dropped(report: dict[str, Any]) -> str:
    counts = [
        f"{split}: " + ", ".join(f"{count} {REASONS.get(reason, reason)}" for reason, count in dropped.items())
        for split, dropped in report["dropped"].items()
    ]
    return f"Dropped {UNITS[report['method']]} – {'; '.join(counts)}."


def _render_list(values: dict[str, Any]) -> str:
    return "\n".join(f"- {name}: {value}" for name, value in values.items())
