"""What is done to many backends of a cluster at once."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from urllib.parse import urlencode

from django.http import HttpResponse, QueryDict
from django.shortcuts import redirect, render
from django.urls import reverse
from django.views.decorators.http import require_POST

from cluster import access
from cluster.actions import bulk
from cluster.audit import Actor
from cluster.drain_forms import BulkForm
from cluster.forms import WeightForm
from cluster.http import OperatorRequest, actor
from cluster.models import Backend, Cluster
from cluster.three_way import Opened, carried, sent_back
from cluster.views.clusters import detail_context

Contested = list[tuple[Backend, Opened[WeightForm]]]


@require_POST
def cluster_bulk(request: OperatorRequest, pk: int) -> HttpResponse:
    """Answers with what became of each backend; sent again, it does nothing twice."""
    cluster = access.get_cluster(request, pk, needs="operate")
    form = BulkForm(request.POST)
    if not form.is_valid() and form.lacks_reason_alone:
        # What was ticked goes along.
        context = {
            "cluster": cluster,
            "form": form,
            "backends": _backends(cluster, form.cleaned_data["chosen"]),
            "ticked": request.POST.getlist("backend"),
        }
        return render(request, "cluster/bulk_why.html", context)
    if not form.is_valid():
        context = detail_context(request, cluster) | {"bulk": form}
        return render(request, "cluster/cluster_detail.html", context)
    if form.cleaned_data["do"] == "plan":
        asked = urlencode([*form.why.items(), *(("backend", pk) for pk in form.cleaned_data["chosen"])])
        return redirect(f"{reverse('drain-new', args=[cluster.pk])}?{asked}")
    outcomes, contested = _carried_out(cluster, form, by=actor(request))
    done = sum(outcome.is_done for outcome in outcomes)
    context = {
        "cluster": cluster,
        "what": dict(BulkForm.ACTIONS)[form.cleaned_data["do"]],
        "outcomes": outcomes,
        "contested": contested,
        "weight": form.cleaned_data["weight"],
        "done": done,
        "refused": len(outcomes) - done,
        "is_draft": form.cleaned_data["do"] == "set-weight",
    }
    return render(request, "cluster/bulk_outcomes.html", context)


def _carried_out(cluster: Cluster, form: BulkForm, *, by: Actor) -> tuple[list[bulk.Outcome], Contested]:
    said = form.cleaned_data
    chosen = _backends(cluster, said["chosen"])
    if said["do"] == "set-weight":
        return _set_weights(cluster, form, chosen, by=by)
    carry_out = bulk.drain if said["do"] == "drain" else bulk.undrain
    return carry_out(cluster, chosen, **form.why, by=by), []


def _set_weights(
    cluster: Cluster, form: BulkForm, chosen: list[Backend], *, by: Actor
) -> tuple[list[bulk.Outcome], Contested]:
    """What became of those that nobody else touched, and the others, which are for the operator to decide."""
    outcomes: list[bulk.Outcome] = []
    contested: Contested = []
    while chosen:
        looked = [(backend, _opened(form, backend)) for backend in chosen]
        contested += [(backend, opened) for backend, opened in looked if not opened.may_save]
        free = {backend: opened.seen_version for backend, opened in looked if opened.may_save}
        versions = {backend.pk: version for backend, version in free.items()}
        tried = bulk.set_weights(
            list(free), seen_versions=versions, weight=form.cleaned_data["weight"], by=by
        )
        outcomes += [outcome for outcome in tried if not outcome.is_beaten]
        # Somebody may be faster still, between the look and the save.
        chosen = _backends(cluster, [outcome.backend.pk for outcome in tried if outcome.is_beaten])
    return outcomes, contested


def _opened(form: BulkForm, backend: Backend) -> Opened[WeightForm]:
    """The ticked row as a form of its own."""
    seen = form.cleaned_data["chosen"][backend.pk]
    sent = QueryDict(mutable=True)
    sent["version"], sent["weight"] = str(seen.version), str(form.cleaned_data["weight"])
    sent["opened"] = carried(seen.version, {"weight": [str(seen.weight)]})
    return sent_back(sent, backend, partial(WeightForm, initial=WeightForm.initial_of(backend)))


def _backends(cluster: Cluster, pks: Iterable[int]) -> list[Backend]:
    found = Backend.objects.filter(pk__in=pks, service__cluster=cluster).select_related("service__cluster")
    return list(found.order_by("service__address", "service__port", "address", "port"))
