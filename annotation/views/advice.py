"""Which method fits the project's data: the newest advice with the way to it drawn, and asking anew.

Everything drawn stands in the report of a run of kind `advise`; no page walks the tree or runs a verifier.
"""

from __future__ import annotations

from itertools import pairwise
from typing import Any
from urllib.parse import urlencode

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.views.decorators.http import require_http_methods

from annotation.domain.advice import Start, runs_to_start
from annotation.domain.snapshots import FORMATS
from annotation.forms.runs import RunForm
from annotation.models import Project, Run
from annotation.queries import advice_runs, given_advice
from annotation.rules import require_membership
from annotation.views.advice_words import FIGURES, SHARES, say
from annotation.views.runs import ACTIVE, queue_from_form, state_context

EARLIER = 10
"""Earlier advice that the page lists."""


@login_required
@require_http_methods(["GET", "POST"])
def advice(request: HttpRequest, slug: str) -> HttpResponse:
    """The newest advice, or the one of `run`; or ask for one."""
    membership = require_membership(request.user, slug, action="train")
    form = RunForm(request.POST or None, method=Run.Method.ADVISE, project=membership.project)
    if request.method == "POST" and form.is_valid() and queue_from_form(form, membership) is not None:
        return redirect("advice", slug=slug)
    newest = advice_runs(membership.project).first()
    shown = _find_shown(membership.project, number=request.GET.get("run", ""))
    context = {
        "membership": membership,
        "project": membership.project,
        "section": "runs",
        "form": form,
        "given": describe_advice(shown) if shown else None,
        "shown": shown,
        "earlier": given_advice(membership.project)[:EARLIER],
    }
    if newest is not None and newest.state != Run.State.SUCCEEDED:
        context |= state_context(membership, newest)
    context["asking"] = newest is not None and newest.state in ACTIVE
    return render(request, "annotation/advice.html", context, status=422 if form.errors else 200)


def describe_advice(run: Run) -> dict[str, Any]:
    """What the page shows of an advice, in the reader's language."""
    assert run.report is not None
    said, drawing = run.report["advice"], run.report["drawing"]
    tree = describe_node(drawing["tree"], taken=True)
    return {
        "method": said["method"],
        "certain": said["certain"],
        "tree": tree,
        "way": list(way_through(tree)),
        "changes": [question for question in way_through(tree) if question["change"]],
        "notes": [say(note) for note in drawing["notes"]],
        "following": said["following"],
        "comparison": [{name: say({"text": text}) for name, text in row.items()} for row in drawing["comparison"]],
        "evidence": evidence_rows(said["evidence"]),
        "tried_at_most": run.report["data"]["tried_at_most"],
        "trial": said["evidence"]["trial"],
        "starts": [describe_start(start, advised=run) for start in runs_to_start(run.project, advised=said["method"])],
    }


def describe_node(node: dict[str, Any], *, taken: bool) -> dict[str, Any]:
    """A question of the drawing with its sentences said, and its branches: `passed` where the way goes past to the next
    one."""
    branches = []
    for branch in node["branches"]:
        below = {"node": describe_node(branch["node"], taken=branch["taken"])} if "node" in branch else {}
        branches.append({**branch, **below, "passed": False})
    for branch, later in pairwise(branches):
        branch["passed"] = later["taken"]
    return {
        "question": say({"text": node["question"]}),
        "turns": say(node["turns"]),
        "answer": node["answer"],
        "because": [say(sentence) for sentence in node["because"]],
        "certain": node["certain"],
        "change": say(node["change"]) if node["change"] else "",
        "taken": taken,
        "branches": branches,
    }


def way_through(node: dict[str, Any]) -> list[dict[str, Any]]:
    """The questions that were asked, from the first to the last."""
    below = [branch["node"] for branch in node["branches"] if branch["taken"] and "node" in branch]
    return [node, *(question for one in below for question in way_through(one))]


def evidence_rows(evidence: dict[str, Any]) -> list[dict[str, Any]]:
    """The counts, then the shares of which anything was counted: those of a sample (`drawn`) have an interval."""
    counts = [{"label": label, "number": evidence[name]} for name, label in FIGURES.items()]
    shares = [
        {"label": label, "share": evidence[name], "drawn": name != "checked"}
        for name, label in SHARES.items()
        if evidence[name]["total"]
    ]
    return counts + shares


def describe_start(start: Start, *, advised: Run) -> dict[str, Any]:
    """A run to start in one click, or the snapshot to freeze before it."""
    slug = advised.project.slug
    named = {"method": start.method, "format": FORMATS[start.format], "snapshot": start.snapshot}
    if start.snapshot is None:
        return named | {"url": f"{reverse('snapshot_list', args=[slug])}?{urlencode({'format': start.format})}"}
    settings = {"method": start.method.value, "snapshot": start.snapshot.number, **_tried_with(advised, start=start)}
    return named | {"url": f"{reverse('run_new', args=[slug])}?{urlencode(settings)}"}


def _tried_with(advised: Run, *, start: Start) -> dict[str, Any]:
    """What the trial was made with: the model, and for runs that let it answer, how long an answer may be."""
    if advised.base_model_id is not None:
        model = {"base_model": advised.base_model_id}
    elif "model" in advised.spec:
        model = {"model": advised.spec["model"]}
    else:
        return {}
    attempts = start.method in (Run.Method.REJECTION, Run.Method.PPO) and "max_new_tokens" in advised.spec
    return model | ({"response_tokens": advised.spec["max_new_tokens"]} if attempts else {})


def _find_shown(project: Project, *, number: str) -> Run | None:
    """The run whose advice is shown, or 404 where the address names another."""
    if not number:
        return given_advice(project).first()
    wanted = int(number) if number.isdecimal() and len(number) < 10 else 0
    return get_object_or_404(given_advice(project), number=wanted)
