"""Ranks a project's sources or models by what people prefer, with intervals."""

from __future__ import annotations

import json
import math
from argparse import ArgumentTypeError
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, get_args

from django.core.management.base import BaseCommand, CommandError, CommandParser

from annotation.battles import SLICES, Cluster, LeaderboardRefused, Method, Question, slice_values
from annotation.judgements import By
from annotation.leaderboard import Item, LeaderboardReport, make_leaderboard
from annotation.models import Project

CLOSEST = 10
"""The table without --json names so many pairs of neighbours."""


def parse_slice(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or name not in SLICES:
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE with a name of {', '.join(SLICES)}")
    return name, value


def parse_precision(text: str) -> float:
    try:
        precision = float(text)
    except ValueError:
        precision = math.nan
    if not 0 <= precision < math.inf:
        raise ArgumentTypeError(f"{text!r} is not a number of 0 or more")
    return precision


class Command(BaseCommand):
    help = "Rank a project's sources or models by what people prefer: scores, intervals, rank bands, p-values."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("--project", required=True, metavar="SLUG")
        parser.add_argument("--by", choices=get_args(By), default="source", help="What is ranked.")
        parser.add_argument("--model", choices=get_args(Method), default="bradley-terry")
        parser.add_argument("--style-control", action="store_true", help="Take off what length and Markdown are worth.")
        parser.add_argument(
            "--cluster", choices=get_args(Cluster),
            help="What could share a whim; by default the prompt, or the ranking where single responses are ranked or "
            "there is one prompt.",
        )  # fmt: skip
        parser.add_argument(
            "--slice", action="append", default=[], type=parse_slice, metavar="NAME=VALUE",
            help=f"Only judgements of this slice; one of each: {', '.join(SLICES)}.",
        )  # fmt: skip
        parser.add_argument(
            "--ridge", type=parse_precision, default=0.0, help="Precision of a prior that makes all items comparable."
        )
        parser.add_argument("--json", action="store_true", help="Print one JSON line.")

    def handle(self, *args: Any, **options: Any) -> None:
        project = Project.objects.filter(slug=options["project"]).first()
        if project is None:
            raise CommandError(f"There is no project {options['project']!r}.")
        try:
            question = Question(
                by=options["by"],
                method=options["model"],
                style_control=options["style_control"],
                cluster=options["cluster"],
                ridge=options["ridge"],
                slices=read_slices(project, options["slice"]),
            )
            report = make_leaderboard(project, question)
        except LeaderboardRefused as error:
            raise CommandError(str(error)) from None
        if options["json"]:
            self.stdout.write(json.dumps({"project": project.slug, **report.as_json()}, ensure_ascii=False))
            return
        for line in say_report(report):
            self.stdout.write(line)


def read_slices(project: Project, wanted: Sequence[tuple[str, str]]) -> Mapping[str, str]:
    """The slices asked for. Raises CommandError where the project has no such value, or one is asked for twice."""
    known = slice_values(project) if wanted else {}
    for name, value in wanted:
        if value not in known[name]:
            there_are = f"; there are {', '.join(known[name])}" if known[name] else ""
            raise CommandError(f"There is no {name} {value!r} in this project{there_are}.")
    if len(dict(wanted)) < len(wanted):
        raise CommandError("Every slice can be asked for once.")
    return dict(wanted)


def say_report(report: LeaderboardReport) -> Iterator[str]:
    """The report as lines to read."""
    simulated = f", {report.simulated} of them simulated" if report.simulated else ""
    yield (
        f"{report.comparisons} comparisons in {report.judgements} judgements{simulated}, by {report.annotators} "
        f"annotators of {report.slates} slates; {report.fit.model}, ties {report.fit.ties}, errors by "
        f"{report.cluster} ({report.fit.clusters})"
    )
    yield from say_warnings(report)
    width = max(4, *(len(item.name) for item in report.items))
    headings = f"{'score':>6}  {'95 % interval':>16}  {'points':>6}  {'won':>6}  n"
    yield f"{'rank':>4}  {'band':>7}  {'item':<{width}}  {headings}"
    for at, item in enumerate(report.items):
        if at and item.component != report.items[at - 1].component:
            yield ""
        yield say_item(item, width=width)
    for effect in report.style:
        low, high = effect.interval
        yield (
            f"style: {effect.feature:<10} {effect.value:+.3f}  ({low:+.3f} to {high:+.3f}), "
            f"differs in {effect.differs_in} comparisons"
        )
    place = {item.name: at for at, item in enumerate(report.items)}
    neighbours = [pair for pair in report.pairs if place[pair.second] == place[pair.first] + 1]
    for pair in neighbours[:CLOSEST]:
        needed = {0: "enough judgements", None: "no number of judgements can be named"}.get(
            pair.needed, f"about {pair.needed} more judgements to tell"
        )
        chance = "–" if math.isnan(pair.p_holm) else f"{pair.p_holm:.3g}"
        yield f"{pair.first} over {pair.second}: p = {chance} (Holm), {needed}"


def say_warnings(report: LeaderboardReport) -> Iterator[str]:
    """What a reader must know before the figures."""
    if report.ties_refused:
        yield f"Ties count half a win each. Davidson's model of ties does not fit: {report.ties_refused}"
    if report.few_clusters and report.fit.clusters > 1:
        yield f"Only {report.fit.clusters} independent groups: intervals are too narrow."
    if report.thin:
        thin = ", ".join(f"{item.name} ({item.clusters})" for item in report.thin)
        yield f"Compared in few groups, so that their own intervals are too narrow: {thin}"
    if report.is_one_prompt:
        yield "All judgements are of one prompt: nothing here says how the items would do with others."
    if report.counts_repeats:
        yield "Several judgements of one prompt count as independent, though they are of the same responses."
    if report.unknown:
        unknown = ", ".join(item.name for item in report.unknown)
        yield f"No interval, since one group alone joins them to the others, or all judgements are alike: {unknown}"
    if report.style_by_prior:
        yield (
            "What style is worth rests on a prior: the judgements alone leave some feature without a value, since it "
            "decides every judgement in which it differs, or goes along with another."
        )
    if len(report.criteria) > 1:
        yield f"Judgements by {len(report.criteria)} criteria are put together; --slice criterion=… takes one."
    if not report.is_connected:
        links = report.fit.connectivity
        yield "Not all items are comparable" + (": a prior joins them." if report.fit.joined else ".")
        for number, members in enumerate(links.members):
            state = "undefeated, " * (number in links.undefeated) + "never won, " * (number in links.winless)
            yield f"  {number + 1}: {state}{', '.join(map(str, members))}"


def say_item(item: Item, *, width: int) -> str:
    """One row of the table."""
    name, won, n = f"{item.name:<{width}}", f"{item.win_rate * 100:.1f} %", item.comparisons
    if not item.is_scored:
        return f"{'–':>4}  {'–':>7}  {name}  {'–':>6}  {'not comparable':>16}  {'–':>6}  {won:>6}  {n}"
    low, high = item.interval
    band = f"{item.band[0]:.0f}–{item.band[1]:.0f}"
    interval = "–" if not item.has_interval else f"{low:+.2f} to {high:+.2f}"
    return (
        f"{item.rank:>4.0f}  {band:>7}  {name}  {item.score:+6.2f}  {interval:>16}  {item.rating:6.0f}  {won:>6}  {n}"
    )
