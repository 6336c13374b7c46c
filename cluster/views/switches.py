"""The kernel switches of a cluster's directors: see them, and set them in the draft."""

from __future__ import annotations

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_http_methods

from cluster import access
from cluster.actions import clusters
from cluster.actions.problems import Changed, Rejected
from cluster.http import OperatorRequest, actor
from cluster.overview import cluster_state
from cluster.switch_forms import SwitchesForm
from cluster.three_way import opened


@require_http_methods(["GET", "POST"])
def cluster_switches(request: OperatorRequest, pk: int) -> HttpResponse:
    """GET shows them to whoever may see the cluster; POST is for its administrators."""
    cluster = access.get_cluster(request, pk, needs="view" if request.method == "GET" else "administer")
    shown = opened(request, cluster, lambda data: SwitchesForm(data, cluster=cluster))
    form = shown.form
    if shown.may_save and form.is_valid():
        try:
            clusters.set_switches(cluster, form.said(), seen_version=shown.seen_version, by=actor(request))
            messages.success(
                request, "The draft has the switches. Review and apply to set them on the directors."
            )
            return redirect("cluster-review", cluster.pk)
        except Changed:
            return cluster_switches(request, pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    context = {
        "cluster": cluster,
        "form": form,
        "opened": shown,
        "directors": cluster_state(cluster).directors,
    }
    return render(request, "cluster/cluster_switches.html", context)
