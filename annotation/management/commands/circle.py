"""Runs the whole circle without a browser and prints its report; the last line is the report as JSON.

prompts → responses → slates → simulated rankings → snapshot → reward model → DPO → new responses → new slates.
The annotators are simulated (a stated rule with noise): the figures show that the circle runs and learns that rule,
and say nothing about people. Every training figure is on held-out prompts.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotation import queries, runner
from annotation.domain import collecting, runs, samples, simulating, snapshots
from annotation.management.console import child_processes, follow_run
from annotation.models import Model, Project, Run, Slate
from annotation.statistics.simulation import RULE

SHARES = (0.7, 0.0, 0.3)
# A few dozen steps have to suffice in ten minutes on two cores, so the rates are higher than the library's defaults.
REWARD_RATE, DPO_RATE = 5e-4, 2e-4


class Command(BaseCommand):
    help = "Run the whole circle headless: simulated annotators, snapshot, reward model, DPO, new slates."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--model", default=runner.EMBEDDED_MODEL, help="Any model transformers can load.")
        parser.add_argument("--prompts", type=int, default=80, help="At most 160.")
        parser.add_argument("--responses", type=int, default=4, help="Responses a prompt, 2 to 9.")
        parser.add_argument("--tokens", type=int, default=48, help="Longest response.")
        parser.add_argument("--reward-steps", type=int, default=44)
        parser.add_argument("--dpo-steps", type=int, default=18)
        parser.add_argument("--max-length", type=int, default=256)
        parser.add_argument("--seed", type=int, default=0)

    def handle(self, *args: Any, **options: Any) -> None:
        call_command("migrate", verbosity=0)
        self.seconds: dict[str, float] = {}
        slug = f"circle-{time.strftime('%Y%m%d-%H%M%S')}"
        project = samples.create_question_project(
            slug=slug, name=f"Circle {slug[7:]} (simulated)", count=options["prompts"]
        )
        with child_processes() as self.children:
            self.children.start("manage.py", "work")
            report = self.go_round(project, **options)
        report["seconds"] = {name: round(value, 1) for name, value in self.seconds.items()}
        self.print_report(report)
        self.stdout.write(json.dumps(report, ensure_ascii=False))

    def go_round(
        self,
        project: Project,
        *,
        model: str,
        responses: int,
        tokens: int,
        reward_steps: int,
        dpo_steps: int,
        max_length: int,
        seed: int,
        **_options: Any,
    ) -> dict[str, Any]:
        base = collecting.add_model(project, name="base", kind=Model.Kind.POLICY, location=model)
        sampling = {"n": responses, "max_new_tokens": tokens, "seed": seed}
        training = {"seed": seed, "max_length": max_length, "logging_steps": 1}

        self.see_through(
            "base policy answers",
            project,
            method="generate",
            base_model=base,
            settings=sampling,
        )
        with self.timed("simulated annotator ranks"):
            simulating.simulate_annotators(project, names=["simulated-1"], seed=seed)
        with self.timed("snapshot"):
            snapshot = snapshots.freeze_snapshot(project, format="trl-preference", split_seed=seed, shares=SHARES)
        reward_run = self.see_through(
            "reward model trains",
            project,
            method="reward",
            base_model=base,
            snapshot=snapshot,
            settings={**training, "max_steps": reward_steps, "learning_rate": REWARD_RATE},
        )
        reward_model = collecting.register_model(reward_run, name="reward model")
        dpo_run = self.see_through(
            "DPO trains",
            project,
            method="dpo",
            base_model=base,
            snapshot=snapshot,
            settings={**training, "max_steps": dpo_steps, "learning_rate": DPO_RATE, "report_samples": 2},
        )
        policy = collecting.register_model(dpo_run, name="aligned")
        answers = self.see_through(
            "aligned policy answers held-out prompts",
            project,
            method="generate",
            base_model=policy,
            snapshot=snapshot,
            settings={**sampling, "seed": seed + 1, "split": "test", "mix": True},
        )
        self.see_through("reward model scores", project, method="score", base_model=reward_model, settings={})
        (comparison,) = queries.compare_policies(reward_model)
        return {
            "project": project.slug,
            "simulated": True,
            "rule": RULE,
            "model": model,
            "rankings": queries.project_overview(project)["rankings"],
            "snapshot": {
                "sha256": snapshot.sha256,
                "rows": snapshot.manifest["counts"]["rows"],
                "directory": str(snapshots.snapshot_directory(snapshot)),
            },
            "reward_model": self.summary(reward_run),
            "dpo": self.summary(dpo_run),
            "new_against_old": {**comparison, "old": base.name, "new": policy.name},
            "new_slates": Slate.objects.filter(project=project, responses__run=answers).distinct().count(),
        }

    def see_through(self, label: str, project: Project, *, method: str, **request: Any) -> Run:
        """Queue a run and follow it to its end."""
        with self.timed(label):
            try:
                run = runs.queue_run(project, method=method, **request)
            except runs.RunRefused as error:
                raise CommandError(f"{label}: {error}") from error
            return follow_run(run, label=label, children=self.children)

    @contextmanager
    def timed(self, label: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[label] = time.monotonic() - start
        self.stdout.write(f"{label}: {self.seconds[label]:.1f} s")

    def summary(self, run: Run) -> dict[str, Any]:
        assert run.report is not None
        return {
            "held_out": run.report["heldout"],
            "baselines": run.report["baselines"],
            "run_directory": str(runs.run_directory(run)),
            "model": str(runner.model_directory(runs.run_directory(run))),
        }

    def print_report(self, report: dict[str, Any]) -> None:
        write = self.stdout.write
        write(f"\nThe circle, once round, on {report['model']} (simulated annotators: {report['rankings']} rankings)\n")
        parts = (("reward_model", "Reward model", "untrained"), ("dpo", "DPO policy, implicit reward", "reference"))
        for name, title, untrained in parts:
            part = report[name]
            held_out = part["held_out"]
            write(f"\n{title}: accuracy on {held_out['n']} held-out pairs of {held_out['n_prompts']} prompts")
            write(f"  trained      {show_accuracy(part['held_out'])}")
            write(f"  longer wins  {show_accuracy(part['baselines']['longer_wins'])}")
            write(f"  {untrained}    {show_accuracy(part['baselines']['untrained'])}")
            write(f"  {part['run_directory']}")
        new = report["new_against_old"]
        write(f"\nReward of new responses beside the old, on {new['prompts']} held-out prompts")
        write(
            f"  old {new['old_mean']:+.3f}   new {new['new_mean']:+.3f}   difference {new['difference']:+.3f} "
            f"[{new['interval'][0]:+.3f}, {new['interval'][1]:+.3f}]   new better on {new['win_rate']:.0%} of prompts"
        )
        write(f"\n{report['new_slates']} new slates wait to be ranked in project {report['project']}.")
        write(f"Snapshot: {report['snapshot']['directory']}")
        write(f"Seconds: {sum(self.seconds.values()):.0f} in all\n")


def show_accuracy(figure: dict[str, Any]) -> str:
    low, high = figure["interval"]
    return f"{figure['accuracy']:.3f} [{low:.3f}, {high:.3f}]"
