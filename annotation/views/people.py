"""Who is in the project, and in which role."""

from __future__ import annotations

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect, render
from django.utils.translation import gettext as _
from django.views.decorators.http import require_http_methods

from annotation.domain.projects import set_member
from annotation.forms.projects import MemberForm
from annotation.rules import require_membership
from annotation.views.paging import paginate


@login_required
@require_http_methods(["GET", "POST"])
def member_list(request: HttpRequest, slug: str) -> HttpResponse:
    """List the members and give a user a role."""
    membership = require_membership(request.user, slug, action="manage")
    form = MemberForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        member = set_member(membership.project, user=form.cleaned_data["username"], role=form.cleaned_data["role"])
        said = {"name": member.name, "role": member.get_role_display()}
        messages.success(request, _("%(name)s is %(role)s here now.") % said)
        return redirect("member_list", slug=slug)
    context = {
        "membership": membership,
        "project": membership.project,
        "section": "members",
        "form": form,
        "page": paginate(request, membership.project.memberships.order_by("kind", "name")),
    }
    return render(request, "annotation/members.html", context, status=422 if form.errors else 200)
