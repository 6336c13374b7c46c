"""Drift: what somebody else changed on the directors of a cluster; adopt, revert, enforce."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST

from cluster import access, drifts
from cluster.actions import drifts as actions
from cluster.actions.problems import Rejected
from cluster.fields import ReasonForm
from cluster.http import OperatorRequest, actor, poll
from cluster.models import Cluster

MOST_PAST = 50


@require_GET
def drift_list(request: OperatorRequest, pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, pk, needs="view")
    return render(request, "cluster/drift_list.html", _context(cluster))


@poll
@require_GET
def drift_table(request: OperatorRequest, pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, pk, needs="view")
    return render(request, "cluster/_drift_table.html", _context(cluster))


def _context(cluster: Cluster) -> dict[str, Any]:
    past = cluster.drifts.exclude(gone_at=None).order_by("-gone_at").select_related("director")
    return {
        "cluster": cluster,
        "drifts": drifts.shown(cluster),
        "untold": cluster.directors.filter(untold_drift__gt=0),
        "past": past[:MOST_PAST],
    }


@require_POST
def drift_adopt(request: OperatorRequest, pk: int) -> HttpResponse:
    drift = access.get_drift(request, pk, needs="edit")
    try:
        seen = {name: request.POST.get(name, "") for name in ("seen", "seen_draft")}
        actions.adopt(drift, **seen, by=actor(request))
        text = f"The draft says of {drift.label} what {drift.director} has. Review and apply it."
        messages.success(request, text)
    except Rejected as rejected:
        messages.error(request, str(rejected))
    return redirect("drift-list", drift.cluster_id)


@require_http_methods(["GET", "POST"])
def drift_revert(request: OperatorRequest, pk: int) -> HttpResponse:
    drift = access.get_drift(request, pk, needs="apply")
    form = ReasonForm(request.POST or None)
    if form.is_valid():
        try:
            seen = request.POST.get("seen", "")
            return redirect("job-detail", actions.revert(drift, seen=seen, **form.why, by=actor(request)).pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    part = next((one for one in drifts.shown(drift.cluster) if one.row == drift), None)
    if part is None:
        messages.success(request, f"{drift.label} on {drift.director} is as it should be again.")
        return redirect("drift-list", drift.cluster_id)
    context = {"cluster": drift.cluster, "part": part, "form": form}
    return render(request, "cluster/drift_revert.html", context)


@require_http_methods(["GET", "POST"])
def cluster_enforce(request: OperatorRequest, pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, pk, needs="administer")
    form = ReasonForm(request.POST or None)
    if form.is_valid():
        enforce = request.POST.get("enforce") == "1"
        try:
            actions.set_enforcing(cluster, enforce=enforce, **form.why, by=actor(request))
            said = "put right by themselves" if enforce else "leave"
            messages.success(request, f"The directors of {cluster} {said} what somebody else changes.")
            return redirect("drift-list", cluster.pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    return render(request, "cluster/cluster_enforce.html", {"cluster": cluster, "form": form})
