"""A reward model's evaluation as a section of its card, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rewardmodel.evaluation.page import interval, number
from rewardmodel.rundir import write_text

BEGIN, END = "<!-- evaluation: begin -->", "<!-- evaluation: end -->"


def render_section(figures: Mapping[str, Any]) -> str:
    """The section between its marks. figures: as `reward_models.examine_reward_model` gives them."""
    calibration, length = figures["calibration"], figures["length"]
    temperature, regression = calibration["temperature"], length["regression"]
    rows = [
        ("accuracy", number(figures["accuracy"]), interval(figures["interval_by_prompt"] or figures["interval"])),
        *_longer_wins(figures),
        ("log loss", number(figures["log_loss"]), "–"),
        ("Brier score", number(figures["brier"]), "–"),
        ("calibration error", number(calibration["ece"]), interval(calibration["ece_interval"])),
        ("temperature", number(temperature["value"], digits=2), interval(temperature["interval"], digits=2)),
    ]
    if length["balanced"]:
        rows.insert(1, ("accuracy, length balanced", *_told(length["balanced"])))
    if regression:
        rows.append(("log odds a unit of margin, length known", *_slope(regression)))
    if figures.get("sections", {}).get("mean") is not None:
        found = figures["sections"]
        rows.append(("mean over sections", number(found["mean"]), interval(found["interval"])))
    for form in (figures["robustness"] or {"forms": []})["forms"]:
        if form["n"]:
            rows.append((f"flips: {form['name']}", number(form["flips"]), interval(form["flips_interval"])))
    parts = [
        BEGIN,
        f"## Evaluation: {figures['n']} pairs of {figures['n_prompts']} prompts",
        *(f"**{warning}**" for warning in figures["warnings"]),
        "\n".join(
            [
                "| | | 95 % interval |",
                "| --- | --- | --- |",
                *(f"| {' | '.join(row)} |" for row in rows),
            ]
        ),
        f"Data: {_code(figures['data'])}, SHA-256 {figures['data_sha256']}.",
        END,
    ]
    return "\n\n".join(parts) + "\n"


def write_section(card: Path, *, figures: Mapping[str, Any]) -> None:
    """Put the section at the end of a model's card, in the place of an older one."""
    before = card.read_text(encoding="utf-8") if card.is_file() else ""
    start, end = before.find(BEGIN), before.find(END)
    if 0 <= start < end:
        before = before[:start] + before[end + len(END) :].lstrip("\n")
    write_text(card, (before.rstrip("\n") + "\n\n" if before.strip() else "") + render_section(figures))


def _longer_wins(figures: Mapping[str, Any]) -> list[tuple[str, str, str]]:
    found = figures["baselines"]["longer_wins"]
    return [("the longer response wins", number(found["accuracy"]), interval(found["interval"]))]


def _told(found: Mapping[str, Any]) -> tuple[str, str]:
    return number(found["accuracy"]), interval(found["interval"])


def _slope(regression: Mapping[str, Any]) -> tuple[str, str]:
    return number(regression["margin"], digits=2), interval(regression["margin_interval"], digits=2)


def _code(value: str) -> str:
    """A name as code; one with a back quote cannot end it early."""
    return f"`{value.replace('`', '')}`"
