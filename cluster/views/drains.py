"""Drains: list, one and its live part, begin, change the end, cut, undrain."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils import timezone
from django.views.decorators.http import require_GET, require_http_methods
from django_htmx.http import HttpResponseStopPolling

from cluster import access, desired, live, standing, trails
from cluster.actions import drains
from cluster.actions.problems import Changed, Rejected
from cluster.drain_forms import DrainEndForm, DrainForm
from cluster.draining import drain_states
from cluster.fields import ReasonForm
from cluster.http import OperatorRequest, actor, not_modified, page_number, page_of, poll, search_text
from cluster.ipvs.state import canonical_address
from cluster.ipvs.traffic.policy import Target
from cluster.models import Backend, Cluster, Drain
from cluster.three_way import opened


@require_GET
def drain_list(request: OperatorRequest, pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, pk, needs="view")
    wanted, answers = cluster.drains.wanted(), live.read(cluster.directors.all())
    states = drain_states(cluster, wanted, answers)
    past, pager = page_of(request, cluster.drains.exclude(pk__in=[state.row.pk for state in states]))
    context = {
        "cluster": cluster,
        "now": [state for state in states if state.status != "planned"],
        "planned": [state for state in reversed(states) if state.status == "planned"],
        "past": drain_states(cluster, past, live.Live(True)),
        **pager,
    }
    return render(request, "cluster/drain_list.html", context)


@require_http_methods(["GET", "POST"])
def drain_new(request: OperatorRequest, pk: int) -> HttpResponse:
    """What is to be drained stands in the address: `?service=`, `?backend=` (several), `?address=`; what was
    said of why already does too."""
    cluster = access.get_cluster(request, pk, needs="operate")
    targets = _asked_for(request, cluster)
    why = {name: request.GET.get(name, "") for name in ReasonForm.base_fields}
    form = DrainForm(request.POST or None, initial=why)
    if form.is_valid():
        try:
            drain = drains.drain(cluster, targets, **form.said(), by=actor(request))
            return redirect("drain-detail", drain.pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    return render(request, "cluster/drain_form.html", _before(cluster, targets) | {"form": form})


@require_GET
def drain_detail(request: OperatorRequest, pk: int) -> HttpResponse:
    drain = access.get_drain(request, pk, needs="view")
    return render(request, "cluster/drain_detail.html", _context(request, drain))


@poll
@require_GET
def drain_live(request: OperatorRequest, pk: int) -> HttpResponse:
    """204 while nothing has changed; 286, which ends the polling, when the drain is over."""
    drain = access.get_drain(request, pk, needs="view")
    context = _context(request, drain)
    if not context["redis_is_up"]:
        return HttpResponse(status=503)
    if request.GET.get("stamp") == context["stamp"]:
        return not_modified()
    response = render(request, "cluster/_drain_parts.html", context)
    return HttpResponseStopPolling(response.content) if context["state"].is_over else response


@require_http_methods(["GET", "POST"])
def drain_edit(request: OperatorRequest, pk: int) -> HttpResponse:
    drain = access.get_drain(request, pk, needs="operate")
    initial = DrainEndForm.initial_of(drain)
    shown = opened(request, drain, lambda data: DrainEndForm(data, initial=initial))
    form = shown.form
    if shown.may_save and form.is_valid():
        said = {"seen_version": shown.seen_version, "ends_at": form.cleaned_data["ends_at"], **form.why}
        try:
            drains.change_end(drain, cut_at=form.cut_at(drain.begins_at), **said, by=actor(request))
            messages.success(request, f"The end of {drain} is changed.")
            return redirect("drain-detail", drain.pk)
        except Changed:
            return drain_edit(request, pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    context = {"form": form, "opened": shown, "drain": drain, "cluster": drain.cluster}
    context["utc_now"] = timezone.now()
    return render(request, "cluster/drain_edit.html", context)


@require_http_methods(["GET", "POST"])
def drain_cut(request: OperatorRequest, pk: int) -> HttpResponse:
    drain = access.get_drain(request, pk, needs="operate")
    form = ReasonForm(request.POST or None)
    if form.is_valid():
        try:
            drains.cut_now(drain, **form.why, by=actor(request))
            messages.success(request, f"{drain} is cut: its backends leave the directors' tables.")
            return redirect("drain-detail", drain.pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    return render(request, "cluster/drain_cut.html", _context(request, drain) | {"form": form})


@require_http_methods(["GET", "POST"])
def drain_undrain(request: OperatorRequest, pk: int) -> HttpResponse:
    drain = access.get_drain(request, pk, needs="operate")
    form = ReasonForm(request.POST or None)
    if form.is_valid():
        try:
            drains.undrain(drain, **form.why, by=actor(request))
            messages.success(
                request, f"{drain} is ended: what it held comes back, by the ramp of each service."
            )
            return redirect("drain-detail", drain.pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    return render(request, "cluster/drain_undrain.html", _context(request, drain) | {"form": form})


def _asked_for(request: OperatorRequest, cluster: Cluster) -> list[Target]:
    """What the address names and the cluster has."""
    targets = []
    if service := cluster.services.filter(pk=page_number(request.GET.get("service"))).first():
        targets.append(Target(desired.service_value(service, with_backends=False).key))
    pks = [page_number(text.partition(":")[0]) for text in request.GET.getlist("backend")]
    for backend in Backend.objects.filter(pk__in=pks, service__cluster=cluster).select_related("service"):
        key = desired.service_value(backend.service, with_backends=False).key
        place = desired.backend_value(backend).key
        targets.append(Target(key, place.address, place.port))
    if address := search_text(request.GET.get("address")):
        try:
            targets.append(Target(address=canonical_address(address)))
        except ValueError:
            messages.error(request, "The host is not an IP address. Choose one from the cluster's page.")
    return targets


def _before(cluster: Cluster, targets: list[Target]) -> dict[str, Any]:
    """What would be drained, and what that leaves behind."""
    table, answers = standing.ordered(cluster).table, live.read(cluster.directors.all())
    places = drains.covered(table, targets)
    rows = {row.label: row for row in live.rows(answers)}
    return {
        "cluster": cluster,
        "targets": targets,
        "places": [_place_row(table, place, rows) for place in places],
        "alone": list(drains.stranded(cluster, places, drains.known_standings(cluster)).values()),
        "taken": list(
            dict.fromkeys(
                text for one in targets for text in drains.refusals(cluster, table, one, at=timezone.now())
            )
        ),
        "utc_now": timezone.now(),
    }


def _place_row(table: Any, place: Any, rows: dict[str, live.Row]) -> dict[str, Any]:
    key, backend = place
    service = table.by_key[key]
    weight = next(one.weight for one in service.backends if one.key == backend)
    row = rows.get(str(key))
    counted = row.backends.get(str(backend)) if row else None
    return {"service": key, "backend": backend, "weight": weight, "row": counted, "held": service.persistence}


def _context(request: OperatorRequest, drain: Drain) -> dict[str, Any]:
    answers = live.read(drain.cluster.directors.all())
    state = drain_states(drain.cluster, [drain], answers)[0]
    now = [trails.point(state)] if state.is_counted and not state.is_over else []
    trail = [*drain.trail, *now]
    stamp = f"{answers.stamp}.{state.status}.{drain.ends_at}.{drain.cut_at}"
    return {
        "drain": drain,
        "cluster": drain.cluster,
        "state": state,
        "stamp": stamp,
        "points": trails.corners(trail),
        "most": max((left for _, left in trail), default=state.left),
        "counted_since": datetime.fromtimestamp(trail[0][0], UTC) if trail else None,
        "redis_is_up": answers.redis_is_up,
        "at": min((one.at for one in answers.counted if one.at), default=None),
        "stale_after": live.STALE_AFTER_S,
        "live_url": reverse("drain-live", args=[drain.pk]),
    }
