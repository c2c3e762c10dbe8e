"""Pipelines written by us, to start from: what people choose is filled in, everything else keeps its default."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

BASE = "(the model to start from)"
RAISES_PASSES = {"metric": "pass@1", "not_below": "start", "judge_by": "part-of-interval"}
BEATS_CHANCE = {"metric": "accuracy", "at_least": 0.5, "judge_by": "whole-interval"}


@dataclass(frozen=True)
class Template:
    """A pipeline to fill in. stages: name, spec and gate, where `data` is a format of snapshots."""

    key: str
    title: str
    about: Promise
    stages: tuple[dict[str, Any], ...]

    @property
    def formats(self) -> tuple[str, ...]:
        """The formats of the snapshots that it needs, in the order of its stages."""
        return tuple(dict.fromkeys(stage["spec"]["data"] for stage in self.stages))


TEMPLATES = (
    Template(
        key="sft-rft-reward-dpo",
        title="SFT → RFT → reward → DPO",
        about=_(
            "Form first, by examples; then what a program can check; then what people prefer. "
            "At the end the answers are checked again: they must not clearly have become worse."
        ),
        stages=(
            {
                "name": "sft",
                "spec": {"method": "sft", "model": BASE, "data": "sft"},
                "gate": {"metric": "loss", "not_above": "start"},
            },
            {
                "name": "rft",
                "spec": {"method": "rejection", "model": "@sft", "data": "prompts"},
                "gate": RAISES_PASSES,
            },
            {
                "name": "reward",
                "spec": {"method": "reward", "model": BASE, "data": "trl-preference"},
                "gate": BEATS_CHANCE,
            },
            {"name": "dpo", "spec": {"method": "dpo", "model": "@rft", "data": "trl-preference"}},
            {
                "name": "check",
                "spec": {"method": "check", "model": "@dpo", "data": "prompts"},
                "gate": {"metric": "pass@1", "not_below": "@rft", "judge_by": "part-of-interval"},
            },
        ),
    ),
    Template(
        key="reward-ppo",
        title="reward → PPO",
        about=_(
            "A reward model learns what people prefer, and a policy is trained against it, if it tells better from "
            "worse more often than chance."
        ),
        stages=(
            {
                "name": "reward",
                "spec": {"method": "reward", "model": BASE, "data": "trl-preference"},
                "gate": BEATS_CHANCE,
            },
            {
                "name": "ppo",
                "spec": {"method": "ppo", "model": BASE, "reward_model": "@reward", "data": "prompts"},
                "gate": {"metric": "score", "not_below": "start"},
            },
        ),
    ),
    Template(
        key="sft-dpo",
        title="SFT → DPO",
        about=_("What people found best is imitated first; then the policy learns what they preferred to what."),
        stages=(
            {
                "name": "sft",
                "spec": {"method": "sft", "model": BASE, "data": "sft"},
                "gate": {"metric": "loss", "not_above": "start"},
            },
            {"name": "dpo", "spec": {"method": "dpo", "model": "@sft", "data": "trl-preference"}},
        ),
    ),
)


def find_template(key: str) -> Template | None:
    """The template of that key."""
    return next((template for template in TEMPLATES if template.key == key), None)


def fill_template(template: Template, *, snapshots: Mapping[str, int], model: str | None) -> dict[str, Any]:
    """The document of a pipeline. snapshots: their numbers, by format. model: what stages start from; None: theirs."""
    stages = []
    for stage in template.stages:
        spec = {**stage["spec"], "data": f"@snapshot/{snapshots[stage['spec']['data']]}"}
        if spec["model"] == BASE:
            spec |= {"model": model}
        filled = {key: value for key, value in spec.items() if value is not None}
        stages.append({**stage, "spec": filled})
    return {"stages": stages}
