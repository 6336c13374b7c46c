"""People and service accounts, and what each may do. Whoever may audit everywhere reads these pages; who
administers everything changes things there."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from cluster import access, audit
from cluster.actions import one_time_links, people, roles, sessions, tokens
from cluster.actions.problems import Rejected
from cluster.http import OperatorRequest, actor
from cluster.models import Cluster, RoleBinding
from cluster.people_forms import PersonForm, ResetForm, RoleForm, ServiceAccountForm, TokenForm
from cluster.permissions import PERMISSIONS, grants_of_user


@require_GET
def person_list(request: OperatorRequest) -> HttpResponse:
    access.require(request, "audit", what="people")
    users = (
        User.objects.order_by("username")
        .select_related("service_account", "one_time_link")
        .prefetch_related(
            "role_bindings__cluster",
            "role_bindings__custom",
            "groups__role_bindings__cluster",
            "groups__role_bindings__custom",
        )
    )
    shown = {
        "people": [user for user in users if not hasattr(user, "service_account")],
        "programs": [user for user in users if hasattr(user, "service_account")],
        "now": timezone.now(),
        "second_factor_required": settings.SECOND_FACTOR_REQUIRED,
    }
    return render(request, "cluster/person_list.html", shown)


@require_GET
def person_detail(request: OperatorRequest, pk: int) -> HttpResponse:
    access.require(request, "audit", what="a person")
    person = get_object_or_404(User.objects.select_related("service_account", "one_time_link"), pk=pk)
    context = {
        "person": person,
        "is_program": hasattr(person, "service_account"),
        "bindings": person.role_bindings.select_related("cluster", "custom"),
        "groups": person.groups.order_by("name").prefetch_related(
            "role_bindings__cluster", "role_bindings__custom"
        ),
        "tokens": person.api_tokens.select_related("cluster"),
        "rights": _rights(person),
        "now": timezone.now(),
    }
    return render(request, "cluster/person_detail.html", context)


@require_http_methods(["GET", "POST"])
def person_new(request: OperatorRequest) -> HttpResponse:
    access.require(request, "administer", what="new person")
    form = PersonForm(request.POST or None)
    if form.is_valid():
        try:
            with noted(request):
                user, token = people.add_person(**form.cleaned_data, by=actor(request))
            return _show_link(request, user, token)
        except Rejected as rejected:
            form.add_problems(rejected)
    return render(request, "cluster/person_form.html", {"form": form, "submit": "Add, and show the link"})


@require_http_methods(["GET", "POST"])
def service_account_new(request: OperatorRequest) -> HttpResponse:
    access.require(request, "administer", what="new service account")
    form = ServiceAccountForm(request.POST or None)
    if form.is_valid():
        try:
            user = tokens.add_service_account(**form.cleaned_data, by=actor(request))
            messages.success(request, f"{user} is made. Give it a role, then a token.")
            return redirect("person-detail", user.pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    context = {"form": form, "title": "Add service account", "submit": "Add"}
    return render(request, "cluster/person_form.html", context)


@require_http_methods(["GET", "POST"])
def person_give_role(request: OperatorRequest, pk: int) -> HttpResponse:
    access.require(request, "administer", what="give a role")
    person = get_object_or_404(User, pk=pk)
    form = RoleForm(request.POST or None)
    if form.is_valid():
        try:
            with noted(request):
                roles.give_role(person, **form.cleaned_data, by=actor(request))
            messages.success(request, f"{person} has the role from the next click on.")
            return redirect("person-detail", person.pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    context = {"form": form, "person": person, "title": f"Role for {person}", "submit": "Give the role"}
    return render(request, "cluster/person_form.html", context)


@require_POST
def binding_take(request: OperatorRequest, pk: int) -> HttpResponse:
    """Take a role from a person or a group."""
    access.require(request, "administer", what="take a role")
    bindings = RoleBinding.objects.select_related("user", "group", "cluster", "custom")
    binding = get_object_or_404(bindings, pk=pk)
    try:
        with noted(request):
            roles.take_role(binding, by=actor(request))
        messages.success(request, f"Taken: {binding}. It is gone from the next click on.")
    except Rejected as rejected:
        messages.error(request, str(rejected))
    if binding.group_id:
        return redirect("group-detail", binding.group_id)
    return redirect("person-detail", binding.user_id)


@require_POST
def person_set_active(request: OperatorRequest, pk: int) -> HttpResponse:
    access.require(request, "administer", what="close or reopen an account")
    person = get_object_or_404(User, pk=pk)
    try:
        with noted(request):
            people.set_active(person, active=request.POST.get("active") == "1", by=actor(request))
        messages.success(request, f"The account {person} is {'open' if person.is_active else 'closed'}.")
    except Rejected as rejected:
        messages.error(request, str(rejected))
    return redirect("person-detail", person.pk)


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
    try:
        with noted(request):
            token = one_time_links.reset_password(person, by=actor(request), **form.cleaned_data)
    except Rejected as rejected:
        messages.error(request, str(rejected))
        return redirect("person-detail", person.pk)
    return _show_link(request, person, token)


@require_http_methods(["GET", "POST"])
def person_token_new(request: OperatorRequest, pk: int) -> HttpResponse:
    """A token for a service account. People make their own."""
    access.require(request, "administer", what="make a token for a service account")
    owner = get_object_or_404(User, pk=pk, service_account__isnull=False)
    return token_form(request, owner, back="person-detail")


@require_POST
def person_token_revoke(request: OperatorRequest, pk: int, token_pk: int) -> HttpResponse:
    access.require(request, "administer", what="revoke a token")
    owner = get_object_or_404(User, pk=pk)
    tokens.revoke_token(owner, token_pk, by=actor(request))
    messages.success(request, "The token is revoked.")
    return redirect("person-detail", owner.pk)


def _rights(person: User) -> list[tuple[str, list[str]]]:
    """What all roles together come to: for all clusters, and where there is more in one."""
    grants = grants_of_user(person)
    places = {one.cluster_id for one in grants.given if one.cluster_id}
    rights = [("All clusters", grants.at(None))] if grants.at(None) else []
    rights += [
        (str(one), grants.at(one.pk)) for one in Cluster.objects.filter(pk__in=places).order_by("name")
    ]
    return [(place, [name for name in PERMISSIONS if name in held]) for place, held in rights]


@contextmanager
def noted(request: OperatorRequest) -> Iterator[None]:
    """Around an action: whoever reaches for more than they have is in the log, as at every other refusal."""
    try:
        yield
    except roles.Beyond as refusal:
        what = f"{request.method} {request.path}"
        reason = str(refusal)
        audit.record("access.refused", what, by=actor(request), result="refused", reason=reason)
        raise


def token_form(request: OperatorRequest, owner: User, *, back: str) -> HttpResponse:
    """The page that makes a token, and the one that shows it once; also for one's own account."""
    form = TokenForm(request.POST or None, owner=owner)
    context = {"owner": owner, "back": back, "form": form}
    if form.is_valid():
        try:
            with noted(request):
                text = tokens.create_token(owner, **form.cleaned_data, by=actor(request))
            context |= {"token": text, "name": form.cleaned_data["name"]}
            return render(request, "cluster/token_created.html", context)
        except Rejected as rejected:
            form.add_problems(rejected)
    return render(request, "cluster/token_form.html", context)


def _show_link(request: OperatorRequest, person: User, token: str) -> HttpResponse:
    """Once: the panel keeps a digest alone."""
    url = request.build_absolute_uri(reverse("one-time-link", args=[token]))
    return render(request, "cluster/person_link.html", {"person": person, "url": url})
