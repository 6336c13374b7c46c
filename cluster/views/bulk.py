"""What is done to many backends of a cluster at once."""

from __future__ import annotations

from urllib.parse import urlencode

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from cluster import access
from cluster.actions import bulk
from cluster.drain_forms import BulkForm
from cluster.http import OperatorRequest, actor
from cluster.models import Backend, Cluster


@require_POST
def cluster_bulk(request: OperatorRequest, pk: int) -> HttpResponse:
    """Answers with what became of each backend; sent again, it does nothing twice."""
    cluster = access.get_cluster(request, pk, needs="operate")
    form = BulkForm(request.POST)
    if not form.is_valid():
        for errors in form.errors.values():
            messages.error(request, " ".join(map(str, errors)))
        return redirect("cluster-detail", cluster.pk)
    if form.cleaned_data["do"] == "plan":
        asked = urlencode([("backend", pk) for pk in form.cleaned_data["chosen"]])
        return redirect(f"{reverse('drain-new', args=[cluster.pk])}?{asked}")
    outcomes = _carried_out(request, cluster, form)
    done = sum(outcome.is_done for outcome in outcomes)
    context = {
        "cluster": cluster,
        "what": dict(BulkForm.ACTIONS)[form.cleaned_data["do"]],
        "outcomes": outcomes,
        "done": done,
        "refused": len(outcomes) - done,
        "is_draft": form.cleaned_data["do"] == "set-weight",
    }
    return render(request, "cluster/bulk_outcomes.html", context)


def _carried_out(request: OperatorRequest, cluster: Cluster, form: BulkForm) -> list[bulk.Outcome]:
    said, by = form.cleaned_data, actor(request)
    found = Backend.objects.filter(pk__in=said["chosen"], service__cluster=cluster).select_related(
        "service__cluster"
    )
    chosen = list(found.order_by("service__address", "service__port", "address", "port"))
    if said["do"] == "set-weight":
        return bulk.set_weights(chosen, seen_versions=said["chosen"], weight=said["weight"], by=by)
    carry_out = bulk.drain if said["do"] == "drain" else bulk.undrain
    return carry_out(cluster, chosen, reason=said["reason"], by=by)
