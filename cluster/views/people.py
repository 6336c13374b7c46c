"""People and their roles; only whoever administers everything sees these pages."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from cluster import access
from cluster.actions import one_time_links, people, sessions
from cluster.actions.problems import Rejected
from cluster.forms import PersonForm, ResetForm, RoleForm
from cluster.http import OperatorRequest, actor


@require_GET
def person_list(request: OperatorRequest) -> HttpResponse:
    access.require(request, "administer", what="people")
    users = User.objects.order_by("username").select_related("one_time_link")
    users = users.prefetch_related("role_bindings__cluster")
    context = {"people": users, "now": timezone.now()}
    context["second_factor_required"] = settings.SECOND_FACTOR_REQUIRED
    return render(request, "cluster/person_list.html", context)


@require_http_methods(["GET", "POST"])
def person_new(request: OperatorRequest) -> HttpResponse:
    access.require(request, "administer", what="new person")
    form = PersonForm(request.POST or None)
    if form.is_valid():
        try:
            user, token = people.add_person(**form.cleaned_data, by=actor(request))
            return _show_link(request, user, token)
        except Rejected as rejected:
            form.add_problems(rejected)
    return render(request, "cluster/person_form.html", {"form": form})


@require_http_methods(["GET", "POST"])
def person_set_role(request: OperatorRequest, pk: int) -> HttpResponse:
    access.require(request, "administer", what="set a role")
    person = get_object_or_404(User, pk=pk)
    binding = person.role_bindings.first()
    initial = {"role": binding.role, "cluster": binding.cluster} if binding else {}
    form = RoleForm(request.POST or None, initial=initial)
    if form.is_valid():
        try:
            people.set_role(person, **form.cleaned_data, by=actor(request))
            messages.success(request, f"{person} has a new role, from the next click on.")
            return redirect("person-list")
        except Rejected as rejected:
            form.add_error(None, str(rejected))
    return render(request, "cluster/person_form.html", {"form": form, "person": person})


@require_POST
def person_set_active(request: OperatorRequest, pk: int) -> HttpResponse:
    access.require(request, "administer", what="close or reopen an account")
    person = get_object_or_404(User, pk=pk)
    try:
        people.set_active(person, active=request.POST.get("active") == "1", by=actor(request))
        messages.success(request, f"The account {person} is {'open' if person.is_active else 'closed'}.")
    except Rejected as rejected:
        messages.error(request, str(rejected))
    return redirect("person-list")


@require_POST
def person_end_sessions(request: OperatorRequest, pk: int) -> HttpResponse:
    access.require(request, "administer", what="end sessions")
    person = get_object_or_404(User, pk=pk)
    ended = sessions.end_all(person, by=actor(request))
    said = "One session" if ended == 1 else f"{ended} sessions"
    messages.success(request, f"{said} of {person} ended. They may sign in again.")
    return redirect("person-list")


@require_http_methods(["GET", "POST"])
def person_reset_password(request: OperatorRequest, pk: int) -> HttpResponse:
    access.require(request, "administer", what="reset a password")
    person = get_object_or_404(User, pk=pk)
    form = ResetForm(request.POST if request.method == "POST" else None)
    if not form.is_valid():
        return render(request, "cluster/person_reset.html", {"person": person, "form": form})
    token = one_time_links.reset_password(person, by=actor(request), **form.cleaned_data)
    return _show_link(request, person, token)


def _show_link(request: OperatorRequest, person: User, token: str) -> HttpResponse:
    """Once: the panel keeps a digest alone."""
    url = request.build_absolute_uri(reverse("one-time-link", args=[token]))
    return render(request, "cluster/person_link.html", {"person": person, "url": url})
