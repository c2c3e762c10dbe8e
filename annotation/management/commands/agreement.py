"""Says how far a project's annotators agree, with intervals."""

from __future__ import annotations

import json
from argparse import ArgumentTypeError
from collections.abc import Iterator
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotation.agreement import AgreementReport, measure_agreement
from annotation.models import Membership, Project
from annotation.statistics.agreement import Agreement
from annotation.statistics.resampling import RESAMPLES


def parse_count(text: str) -> int:
    if not text.isdecimal():
        raise ArgumentTypeError(f"{text!r} is not a whole number")
    return int(text)


class Command(BaseCommand):
    help = "Measure how far a project's annotators agree: Krippendorff's alpha, kappas, Kendall's tau-b and W, cycles."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--annotator-kind", action="append", default=[], choices=Membership.Kind.values)
        parser.add_argument(
            "--resamples", type=parse_count, default=RESAMPLES, help="Bootstrap samples by slate; 0 for no intervals."
        )
        parser.add_argument("--seed", type=parse_count, default=0, help="Of the bootstrap.")
        parser.add_argument("--json", action="store_true", help="Print one JSON line.")

    def handle(self, *args: Any, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise CommandError(f"There is no project {options['project']!r}.")
        report = measure_agreement(
            project, kinds=options["annotator_kind"], resamples=options["resamples"], seed=options["seed"]
        )
        if options["json"]:
            self.stdout.write(json.dumps({"project": project.slug, **report.as_json()}, ensure_ascii=False))
            return
        simulated = f", {report.simulated} of them simulated" if report.simulated else ""
        self.stdout.write(
            f"{report.rankings} judgements{simulated}, by {report.annotators} annotators of {report.slates} slates, "
            f"{report.slates_shared} of which two or more judged"
        )
        for name, measure in measures_of(report):
            self.stdout.write(f"{name:<44} {say_measure(measure)}")


def measures_of(report: AgreementReport) -> Iterator[tuple[str, Agreement]]:
    """Every measure of a report that there is, under the name by which it is printed."""
    named: list[tuple[str, Agreement | None]] = [
        *((f"Krippendorff's alpha, {level}", measure) for level, measure in report.alpha.items()),
        ("percent agreement", report.percent),
        ("Fleiss' kappa", report.fleiss),
        ("Kendall's tau-b within slates", report.tau_b),
        ("Kendall's W within slates", report.w),
        ("cyclic triples, by majority", report.cycles_of_majority),
        ("cyclic triples, by annotator", report.cycles_of_annotators),
    ]
    named += [
        (f"ratings, {scale}: alpha, {level}", measure)
        for scale, levels in report.ratings.items()
        for level, measure in levels.items()
    ]
    named += [
        (f"criterion {criterion or 'overall'}: alpha, nominal", measure)
        for criterion, measure in report.criteria.items()
    ]
    named += [(f"{pair.first} and {pair.second}: Cohen's kappa", pair.kappa) for pair in report.pairs]
    return ((name, measure) for name, measure in named if measure is not None)


def say_measure(measure: Agreement) -> str:
    """The value with its interval and what it rests on."""
    if measure.undefined:
        return f"not defined: {measure.undefined}"
    low, high = measure.interval
    interval = f"{low:.3f} to {high:.3f}" if low == low else "no interval"
    return f"{measure.value:.3f}  ({interval}; {measure.n_units} units, {measure.n_values} values)"
