"""Clusters: list, one, new, edit, remove, review and apply, revisions."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from cluster import access
from cluster.actions import changes, clusters, rollouts, schedules
from cluster.actions.problems import Rejected
from cluster.apply_forms import HowForm
from cluster.audit import Actor
from cluster.drain_forms import BulkForm
from cluster.draining import marks
from cluster.forms import ApplyForm, ClusterForm, ConfirmForm
from cluster.http import OperatorRequest, actor, poll
from cluster.ipvs.formats.document import from_document
from cluster.ipvs.formats.ipvsadm import save
from cluster.ipvs.traffic.document import from_document as traffic_from_document
from cluster.ipvs.traffic.words import policy_words
from cluster.models import Cluster
from cluster.overview import cluster_state, cluster_states
from cluster.review import review
from cluster.standing import outages


@require_GET
def cluster_list(request: OperatorRequest) -> HttpResponse:
    return render(request, "cluster/cluster_list.html", clusters_context(request))


@poll
@require_GET
def cluster_table(request: OperatorRequest) -> HttpResponse:
    return render(request, "cluster/_cluster_table.html", clusters_context(request))


def clusters_context(request: OperatorRequest) -> dict[str, Any]:
    """What templates/cluster/_cluster_table.html needs."""
    states = cluster_states(access.visible_clusters(request.user))
    heard = [part.one for state in states for part in state.directors]
    return {"clusters": states, "outages": outages([state.cluster for state in states], heard)}


@require_http_methods(["GET", "POST"])
def cluster_new(request: OperatorRequest) -> HttpResponse:
    access.require(request, "administer", what="new cluster")
    form = ClusterForm(request.POST or None)
    if form.is_valid():
        try:
            cluster = clusters.create_cluster(**form.cleaned_data, by=actor(request))
            messages.success(request, f"{cluster} is there. Add its directors and services next.")
            return redirect("cluster-detail", cluster.pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    return render(request, "cluster/cluster_form.html", {"form": form})


@require_GET
def cluster_detail(request: OperatorRequest, pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, pk, needs="view")
    services = cluster.services.prefetch_related("backends")
    context = {
        **_directors(request, cluster),
        "services": services,
        "marks": marks(cluster, services),
        "bulk_actions": BulkForm.ACTIONS,
        "rollout": rollouts.waiting(cluster),
        "planned": rollouts.planned(cluster),
        "drift_count": cluster.drifts.open().count(),
        "jobs": cluster.jobs.prefetch_related("runs")[:5],
        "may_operate": access.may(request.user, "operate", cluster),
    }
    return render(request, "cluster/cluster_detail.html", context)


@poll
@require_GET
def cluster_directors(request: OperatorRequest, pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, pk, needs="view")
    return render(request, "cluster/_cluster_directors.html", _directors(request, cluster))


def _directors(request: OperatorRequest, cluster: Cluster) -> dict[str, Any]:
    state = cluster_state(cluster)
    return {
        "cluster": cluster,
        "state": state,
        "outages": outages([cluster], [part.one for part in state.directors]),
        "may_administer": access.may(request.user, "administer", cluster),
    }


@require_http_methods(["GET", "POST"])
def cluster_edit(request: OperatorRequest, pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, pk, needs="administer")
    initial = {"name": cluster.name, "description": cluster.description}
    form = ClusterForm(request.POST or None, initial=initial)
    if form.is_valid():
        try:
            clusters.edit_cluster(cluster, **form.cleaned_data, by=actor(request))
            messages.success(request, f"{cluster} is saved.")
            return redirect("cluster-detail", cluster.pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    return render(request, "cluster/cluster_form.html", {"form": form, "cluster": cluster})


@require_http_methods(["GET", "POST"])
def cluster_remove(request: OperatorRequest, pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, pk, needs="administer")
    form = ConfirmForm(request.POST or None, expected=cluster.name)
    if form.is_valid():
        try:
            clusters.remove_cluster(cluster, by=actor(request))
            messages.success(request, f"{cluster.name} is removed from the panel.")
            return redirect("cluster-list")
        except Rejected as rejected:
            form.add_error(None, str(rejected))
    return render(request, "cluster/cluster_remove.html", {"form": form, "cluster": cluster})


@require_http_methods(["GET", "POST"])
def cluster_review(request: OperatorRequest, pk: int) -> HttpResponse:
    """GET shows what would change (whoever may see the cluster); POST applies just that."""
    cluster = access.get_cluster(request, pk, needs="view" if request.method == "GET" else "operate")
    form = ApplyForm(request.POST or None)
    how = HowForm(request.POST or None, cluster=cluster)
    # Both, so that each says what is wrong with it.
    if all([form.is_valid(), how.is_valid()]):
        try:
            return redirect(*_sent(cluster, form, how, by=actor(request)))
        except Rejected as rejected:
            how.add_problems(rejected)
    context = {
        "cluster": cluster,
        "state": cluster_state(cluster),
        "review": review(cluster),
        "form": form,
        "how": how,
        "rollout": rollouts.waiting(cluster),
        "planned": rollouts.planned(cluster),
        "may_operate": access.may(request.user, "operate", cluster),
        "may_administer": access.may(request.user, "administer", cluster),
    }
    return render(request, "cluster/cluster_review.html", context)


def _sent(cluster: Cluster, form: ApplyForm, how: HowForm, *, by: Actor) -> tuple[str, int]:
    """Applied or planned, as asked for; the page that tells what becomes of it."""
    said = form.cleaned_data | {"how": how.how, "by": by}
    if how.is_later:
        schedules.plan(cluster, **said | how.window)
        return "planned-list", cluster.pk
    return "job-detail", changes.apply(cluster, **said).pk


@require_GET
def revision_list(request: OperatorRequest, pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, pk, needs="view")
    revisions = cluster.revisions.defer("table")[:100]
    return render(request, "cluster/revision_list.html", {"cluster": cluster, "revisions": revisions})


@require_GET
def revision_detail(request: OperatorRequest, pk: int, number: int) -> HttpResponse:
    revision = access.get_revision(request, pk, number)
    lines = save(from_document(revision.table))
    policies = traffic_from_document(revision.traffic).policies if revision.traffic else {}
    context = {
        "cluster": revision.cluster,
        "revision": revision,
        "lines": "\n".join(lines),
        "policies": [(str(key), policy_words(policy)) for key, policy in policies.items()],
    }
    return render(request, "cluster/revision_detail.html", context)
