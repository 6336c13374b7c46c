"""Health policies: a service's, a backend's own check, and trying a check."""

from __future__ import annotations

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods, require_POST

from cluster import access, desired
from cluster.actions import policies
from cluster.actions.problems import Changed, Rejected
from cluster.http import OperatorRequest, actor
from cluster.ipvs.rules import Problem
from cluster.ipvs.traffic.checks import Check
from cluster.ipvs.traffic.policy import Policy
from cluster.ipvs.traffic.words import check_words
from cluster.load_run import LoadRun, load_run
from cluster.models import Backend, VirtualService
from cluster.policy_forms import CheckForm, OverrideForm, PolicyForm
from cluster.three_way import opened
from cluster.views.jobs import job_context


@require_http_methods(["GET", "POST"])
def service_health(request: OperatorRequest, pk: int) -> HttpResponse:
    """GET shows the policy in a form; POST saves it, tries its check, or shows what its load rule does."""
    service = access.get_service(request, pk, needs="edit")
    shown = opened(request, service, lambda data: _policy_form(request, service, data))
    form = shown.form
    context: dict[str, Any] = {"form": form, "opened": shown, "service": service, "cluster": service.cluster}
    # To try or to show saves nothing, so nobody can be in its way.
    saves = not {"try", "show"} & request.POST.keys()
    if not form.is_bound:
        context["loads"] = _running_loads(service, form.before)
    elif (shown.may_save or not saves) and form.is_valid():
        try:
            if "try" in request.POST:
                backends = service.backends.filter(check_override__isnull=True)
                context |= _tried(request, service, form.said_check(), list(backends))
            elif "show" in request.POST:
                context["loads"] = _shown_loads(form, service)
            else:
                _save_policy(request, service, form, seen_version=shown.seen_version)
                return redirect("service-detail", service.pk)
        except Changed:
            return service_health(request, pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    return render(request, "cluster/service_health.html", context)


@require_http_methods(["GET", "POST"])
def backend_health(request: OperatorRequest, pk: int) -> HttpResponse:
    backend = access.get_backend(request, pk, needs="edit")
    shown = opened(request, backend, lambda data: _override_form(request, backend, data))
    form = shown.form
    context: dict[str, Any] = {"form": form, "opened": shown, "backend": backend, "service": backend.service}
    of_service = desired.policy_value(backend.service).check
    context |= {"of_service": check_words(of_service) if of_service else ""}
    # A try saves nothing, so nobody can be in its way.
    if (shown.may_save or "try" in request.POST) and form.is_valid():
        try:
            if "try" in request.POST:
                check = form.said_check() or of_service
                context |= _tried(request, backend.service, check, [backend])
            else:
                _save_override(request, backend, form, seen_version=shown.seen_version)
                return redirect("service-detail", backend.service_id)
        except Changed:
            return backend_health(request, pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    return render(request, "cluster/backend_health.html", context)


@require_POST
def service_try(request: OperatorRequest, pk: int) -> HttpResponse:
    """Try the service's check as it is saved in the draft."""
    service = access.get_service(request, pk, needs="operate")
    check = desired.policy_value(service).check
    try:
        backends = list(service.backends.filter(check_override__isnull=True))
        job = policies.try_check(service, check, backends, is_administrator=False, by=actor(request))
        return redirect("job-detail", job.pk)
    except Rejected as rejected:
        messages.error(request, str(rejected))
        return redirect("service-detail", service.pk)


def _policy_form(request: OperatorRequest, service: VirtualService, data: Any) -> PolicyForm:
    return PolicyForm(
        data,
        initial={"version": service.version},
        before=desired.policy_value(service),
        service=desired.service_value(service),
        names={row.name: desired.backend_value(row).key for row in service.backends.all() if row.name},
        is_administrator=_is_administrator(request, service),
    )


def _running_loads(service: VirtualService, policy: Policy) -> LoadRun | None:
    try:
        return load_run(service.cluster, desired.service_value(service), policy)
    except Rejected:
        # What is saved fits its backends no more; the form says so as soon as somebody saves it.
        return None


def _shown_loads(form: PolicyForm, service: VirtualService) -> LoadRun:
    found = load_run(service.cluster, form.service, form.said(), tried=form.cleaned_data["load_tried"])
    if found is None:
        raise Rejected(Problem("load_source", "Choose whose word weights follow, to see what comes of it."))
    return found


def _override_form(request: OperatorRequest, backend: Backend, data: Any) -> OverrideForm:
    initial = CheckForm.initial_of_check(policies.override_of(backend)) | {"version": backend.version}
    is_administrator = _is_administrator(request, backend.service)
    return OverrideForm(data, initial=initial, is_administrator=is_administrator)


def _save_policy(
    request: OperatorRequest, service: VirtualService, form: PolicyForm, *, seen_version: int
) -> None:
    policies.set_policy(
        service,
        form.said(),
        seen_version=seen_version,
        is_administrator=_is_administrator(request, service),
        by=actor(request),
    )
    messages.success(request, f"The health policy of {service} is saved in the draft.")


def _save_override(
    request: OperatorRequest, backend: Backend, form: OverrideForm, *, seen_version: int
) -> None:
    policies.set_override(
        backend,
        form.said_check(),
        seen_version=seen_version,
        is_administrator=_is_administrator(request, backend.service),
        by=actor(request),
    )
    messages.success(request, f"The check of {backend} is saved in the draft.")


def _tried(
    request: OperatorRequest, service: VirtualService, check: Check | None, backends: list[Backend]
) -> dict[str, Any]:
    """The context of templates/cluster/_job_runs.html for a try of what the form says now."""
    access.require(request, "operate", service.cluster, what=f"try a check of {service}")
    job = policies.try_check(
        service,
        check,
        backends,
        is_administrator=_is_administrator(request, service),
        by=actor(request),
    )
    return job_context(request, job)


def _is_administrator(request: OperatorRequest, service: VirtualService) -> bool:
    return access.may(request.user, "administer", service.cluster)
