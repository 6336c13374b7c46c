"""Backends: new, edit, weight, remove."""

from functools import partial

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from cluster import access
from cluster.actions import backends
from cluster.actions.problems import Changed, Rejected
from cluster.forms import BackendForm, WeightForm
from cluster.http import OperatorRequest, actor
from cluster.models import Backend
from cluster.three_way import opened
from cluster.views.asking import asked_again


@require_http_methods(["GET", "POST"])
def backend_new(request: OperatorRequest, service_pk: int) -> HttpResponse:
    service = access.get_service(request, service_pk, needs="edit")
    last = service.backends.last()
    initial = {"port": service.port, "forwarding": last.forwarding if last else "masquerade", "weight": 1}
    form = BackendForm(request.POST or None, initial=initial)
    if form.is_valid():
        try:
            backend = backends.add_backend(service, form.said(), by=actor(request))
            messages.success(request, f"{backend} is in the draft.")
            return redirect("backend-new" if "another" in request.POST else "service-detail", service.pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    return render(request, "cluster/backend_form.html", {"form": form, "service": service})


@require_http_methods(["GET", "POST"])
def backend_edit(request: OperatorRequest, pk: int) -> HttpResponse:
    backend = access.get_backend(request, pk, needs="edit")
    initial = BackendForm.initial_of(backend)
    shown = opened(request, backend, lambda data: BackendForm(data, initial=initial))
    form = shown.form
    if shown.may_save and form.is_valid():
        try:
            backends.edit_backend(backend, form.said(), seen_version=shown.seen_version, by=actor(request))
            messages.success(request, f"{backend} is saved in the draft.")
            return redirect("service-detail", backend.service_id)
        except Changed:
            return backend_edit(request, pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    context = {"form": form, "opened": shown, "service": backend.service}
    context["backend"] = get_object_or_404(Backend, pk=pk)
    return render(request, "cluster/backend_form.html", context)


@require_POST
def backend_set_weight(request: OperatorRequest, pk: int) -> HttpResponse:
    backend = access.get_backend(request, pk, needs="operate")
    before = backend.weight
    shown = opened(request, backend, partial(WeightForm, initial=WeightForm.initial_of(backend)))
    form = shown.form
    if shown.may_save and form.is_valid():
        weight = form.cleaned_data["weight"]
        try:
            backends.set_weight(backend, seen_version=shown.seen_version, weight=weight, by=actor(request))
            messages.success(request, f"The weight of {backend} is {weight} in the draft; it was {before}.")
            return redirect("service-detail", backend.service_id)
        except Changed:
            return backend_set_weight(request, pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    context = {"form": form, "opened": shown, "service": backend.service, "backend": backend}
    return render(request, "cluster/backend_weight.html", context)


@require_http_methods(["GET", "POST"])
def backend_remove(request: OperatorRequest, pk: int) -> HttpResponse:
    backend = access.get_backend(request, pk, needs="edit")
    again = asked_again(request, backend)
    if request.method == "POST" and not again.is_changed:
        try:
            backends.remove_backend(backend, seen=again.sent, by=actor(request))
            text = f"{backend} is out of the draft. Review and apply to take it off the directors."
            messages.success(request, text)
        except Changed:
            return backend_remove(request, pk)
        except Rejected as rejected:
            messages.error(request, str(rejected))
        return redirect("service-detail", backend.service_id)
    context = {"backend": backend, "again": again, "service": backend.service}
    return render(request, "cluster/backend_remove.html", context)
