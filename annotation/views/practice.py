"""The practice round: a list of examples, each on the ranking page's own frame, and the explained answer after it.

What is entered here is no ranking and enters no dataset. The answer and its explanation are shown to those who have
tried, and to the admins who write the round.
"""

from __future__ import annotations

from contextlib import ExitStack
from dataclasses import asdict
from http import HTTPStatus
from typing import Any
from uuid import UUID, uuid5

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils.translation import gettext as _
from django.utils.translation import gettext_lazy, ngettext
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from annotation.domain.import_readers import ImportRefused
from annotation.domain.judgement import Judgement
from annotation.domain.practice import (
    PracticeRefused,
    add_example_from_ranking,
    answer_example,
    fits,
    next_example,
    practice_due,
    practice_order,
    remove_example,
    shown_texts,
)
from annotation.domain.practice_import import import_examples
from annotation.domain.tasks import Task, task_of
from annotation.forms.practice import ExplanationForm, PracticeUploadForm
from annotation.forms.ranking import RankingForm
from annotation.models import Membership, PracticeAnswer, PracticeExample, Project, Ranking
from annotation.queries import RankingView, annotator_progress, latest_guidelines
from annotation.rendering import render_many
from annotation.rules import can, require_membership
from annotation.views.asking import wants_json
from annotation.views.conversation import split_conversation
from annotation.views.importing import as_import_file
from annotation.views.ranking import progress_text, save_judgement, slate_context
from annotation.views.wording import letters_for, say_judgement

NAMESPACE = UUID("6f0e2f0c-5d53-4a8e-9c39-0d2b1c9b7d11")
"""Of the tokens that stand in practice forms where a lease's would; they name nothing."""
WHAT_COUNTS = {
    Project.Task.RANKING: gettext_lazy(
        "An answer agrees where it reverses no pair of the answer and tells its best and its worst apart."
    ),
    Project.Task.PAIRWISE: gettext_lazy("An answer agrees where it is on the same side, or equal where the answer is."),
    Project.Task.PAIRWISE_FORCED: gettext_lazy("An answer agrees where it is on the same side."),
    Project.Task.BEST: gettext_lazy("An answer agrees where the best response is the same."),
    Project.Task.BEST_WORST: gettext_lazy("An answer agrees where the best and the worst response are the same."),
    Project.Task.RATING: gettext_lazy("An answer agrees where every rating is within one point."),
}
"""The rules of `annotation.domain.practice`, for those who try."""


@never_cache
@login_required
@require_http_methods(["GET", "POST"])
def practice_list(request: HttpRequest, slug: str) -> HttpResponse:
    """The examples and how far one is; admins add a file of them."""
    membership = require_membership(request.user, slug, action="manage" if request.method == "POST" else "annotate")
    form = PracticeUploadForm(request.POST, request.FILES) if request.method == "POST" else PracticeUploadForm()
    refused = ""
    if request.method == "POST" and form.is_valid():
        try:
            with ExitStack() as stack:
                file = as_import_file(form.cleaned_data["upload"], stack)
                counts = import_examples(membership.project, file=file)
        except ImportRefused as error:
            refused = str(error)
        else:
            added = ngettext("%(n)d example added.", "%(n)d examples added.", counts.added) % {"n": counts.added}
            messages.success(request, added)
            if counts.skipped:
                was = ngettext("%(n)d was there already.", "%(n)d were there already.", counts.skipped)
                messages.info(request, was % {"n": counts.skipped})
            return redirect("practice_list", slug=slug)
    bad = bool(refused or form.errors)
    context = _list_context(membership) | {"form": form, "refused": refused}
    return render(request, "annotation/practice.html", context, status=422 if bad else 200)


@never_cache
@login_required
@require_GET
def practice_next(request: HttpRequest, slug: str) -> HttpResponse:
    """On to the first example that one has not tried; to the list where there is none."""
    membership = require_membership(request.user, slug, action="annotate")
    example = next_example(membership)
    if example is None:
        return redirect("practice_list", slug=slug)
    return redirect("practice_example", slug=slug, number=example.number)


@never_cache
@login_required
@require_http_methods(["GET", "POST"])
def practice_example(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """One example to try, in the frame of the ranking page; the try is kept, and its result comes next."""
    membership = require_membership(request.user, slug, action="annotate")
    example = _require_example(membership, number)
    task = task_of(membership.project)
    if not example.is_active or not fits(example, task=task):
        raise Http404("This example is not in the practice round any more.")
    view = _view_of(example, membership)
    if request.method == "GET":
        return render(request, "annotation/rank.html", _frame(membership, example=example, view=view))
    form = RankingForm(request.POST, task=task, sources=view.responses)

    def keep(judgement: Judgement, active_ms: int | None) -> None:
        answer_example(membership, example=example, judgement=judgement)

    problems = save_judgement(form, keep)
    result = reverse("practice_result", kwargs={"slug": slug, "number": number})
    if not problems and wants_json(request):
        progress = progress_text(annotator_progress(membership))
        return JsonResponse({"saved": True, "progress": progress, "next": result, "rest": False})
    if not problems:
        return redirect(result)
    status = HTTPStatus.UNPROCESSABLE_ENTITY
    if wants_json(request):
        return JsonResponse({"problems": problems}, status=status)
    entered = form.entered() | {"rationale": form.data.get("rationale", "")}
    context = _frame(membership, example=example, view=view, entered=entered) | {"problems": problems}
    return render(request, "annotation/rank.html", context, status=status)


@never_cache
@login_required
@require_GET
def practice_result(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """One's newest try beside the answer, in the letters of the screen, with the explanation."""
    membership = require_membership(request.user, slug, action="annotate")
    example = _require_example(membership, number)
    tried = PracticeAnswer.objects.filter(example=example, annotator=membership).order_by("-pk").first()
    if tried is None:
        return redirect("practice_example", slug=slug, number=number)
    task, order = task_of(membership.project), tried.judgement["order"]
    names = letters_for(order)
    explanation, *texts = render_many([example.explanation, *shown_texts(example, order=order)])
    following = next_example(membership, after=example.number)
    context = {
        "membership": membership,
        "project": membership.project,
        "section": "practice",
        "example": example,
        "tried": tried,
        "yours": _say(tried.judgement, names=names, task=task),
        "answer": _say(example.answer, names=names, task=task),
        "rationale": tried.judgement.get("rationale", ""),
        "conversation": split_conversation(example.messages),
        "responses": [{"letter": names[place], "rendered": text} for place, text in zip(order, texts, strict=True)],
        "explanation": explanation,
        "following": following,
        "what_counts": WHAT_COUNTS[Project.Task(task.kind)],
        "is_current": example.is_active and fits(example, task=task),
    }
    return render(request, "annotation/practice_result.html", context)


@login_required
@require_POST
def practice_remove(request: HttpRequest, slug: str, number: int) -> HttpResponse:
    """Take an example out of the round."""
    membership = require_membership(request.user, slug, action="manage")
    example = _require_example(membership, number)
    remove_example(example)
    messages.success(request, _("Example %(number)d is out of the round.") % {"number": number})
    return redirect("practice_list", slug=slug)


@login_required
@require_POST
def practice_add(request: HttpRequest, slug: str, pk: int) -> HttpResponse:
    """Copy a ranked slate into the round, with the explanation that was written beside the ranking."""
    membership = require_membership(request.user, slug, action="manage")
    rankings = Ranking.objects.filter(slate__project=membership.project, superseded_by__isnull=True)
    ranking = get_object_or_404(rankings.select_related("slate__prompt", "slate__project"), pk=pk)
    form = ExplanationForm(request.POST)
    try:
        if not form.is_valid():
            raise PracticeRefused("explanation", " ".join(map(str, form.errors["explanation"])))
        example = add_example_from_ranking(ranking, explanation=form.cleaned_data["explanation"])
    except PracticeRefused as error:
        messages.error(request, error.reason)
        return redirect("prompt_detail", slug=slug, pk=ranking.slate.prompt_id)
    messages.success(request, _("Practice example %(number)d stands.") % {"number": example.number})
    return redirect("practice_list", slug=slug)


def _list_context(membership: Membership) -> dict[str, Any]:
    """The examples that the member may try (admins: all that are in the round), each with their newest try."""
    task, manages = task_of(membership.project), can(membership, "manage")
    newest = {tried.example_id: tried for tried in PracticeAnswer.objects.filter(annotator=membership).order_by("pk")}
    rows = [
        {
            "example": example,
            "last": split_conversation(example.messages).last,
            "tried": newest.get(example.pk),
            "fits": fits(example, task=task),
        }
        for example in membership.project.practice_examples.filter(is_active=True).order_by("number")
    ]
    return {
        "membership": membership,
        "project": membership.project,
        "section": "practice",
        "rows": [row for row in rows if row["fits"] or manages],
        "due": practice_due(membership),
        "following": next_example(membership),
        "task": task,
    }


def _view_of(example: PracticeExample, membership: Membership) -> RankingView:
    order = practice_order(membership, example=example)
    return RankingView(
        token=uuid5(NAMESPACE, f"{membership.pk} {example.pk}"),
        prompt_messages=example.messages,
        responses=shown_texts(example, order=order),
    )


def _frame(
    membership: Membership, *, example: PracticeExample, view: RankingView, entered: dict[str, Any] | None = None
) -> dict[str, Any]:
    """The ranking page around an example: nothing is leased, fetched ahead, skipped or kept as a draft."""
    slug = membership.project.slug
    progress = annotator_progress(membership)
    action = reverse("practice_example", kwargs={"slug": slug, "number": example.number})
    return {
        "membership": membership,
        "project": membership.project,
        "section": "practice",
        "progress": progress,
        "progress_text": progress_text(progress),
        "guidelines": latest_guidelines(membership.project),
        "name_keys": True,
        "practising": True,
        "example": example,
        "next_url": reverse("practice_result", kwargs={"slug": slug, "number": example.number}),
        **slate_context(membership, view, entered=entered, action=action),
    }


def _say(stored: dict[str, Any], *, names: dict[int, str], task: Task) -> dict[str, Any]:
    places = range(len(names))
    return asdict(
        say_judgement(
            kind=task.kind,
            tiers=stored["tiers"],
            strength=stored["strength"],
            canonical=places,
            ratings=stored["ratings"],
            flags=stored["flags"],
            all_bad=stored["all_bad"],
            names=names,
            task=task,
        )
    )


def _require_example(membership: Membership, number: int) -> PracticeExample:
    return get_object_or_404(membership.project.practice_examples.select_related("project"), number=number)
