"""People and their roles; only whoever administers everything sees these pages."""

from django.conf import settings
from django.contrib import messages
from django.contrib.auth.models import User
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from cluster import access
from cluster.actions import people
from cluster.actions.problems import Rejected
from cluster.forms import PersonForm, RoleForm
from cluster.http import OperatorRequest, actor


@require_GET
def person_list(request: OperatorRequest) -> HttpResponse:
    access.require(request, "administer", what="people")
    users = User.objects.order_by("username").prefetch_related("role_bindings__cluster")
    context = {"people": users, "second_factor_required": settings.SECOND_FACTOR_REQUIRED}
    return render(request, "cluster/person_list.html", context)


@require_http_methods(["GET", "POST"])
def person_new(request: OperatorRequest) -> HttpResponse:
    access.require(request, "administer", what="new person")
    form = PersonForm(request.POST or None)
    if form.is_valid():
        try:
            user, password = people.add_person(**form.cleaned_data, by=actor(request))
            return render(request, "cluster/person_password.html", {"person": user, "password": password})
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


@require_http_methods(["GET", "POST"])
def person_reset_password(request: OperatorRequest, pk: int) -> HttpResponse:
    access.require(request, "administer", what="reset a password")
    person = get_object_or_404(User, pk=pk)
    if request.method == "GET":
        return render(request, "cluster/person_reset.html", {"person": person})
    password = people.reset_password(person, by=actor(request))
    return render(request, "cluster/person_password.html", {"person": person, "password": password})
