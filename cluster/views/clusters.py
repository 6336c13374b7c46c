"""Clusters: list, one, new, edit, remove, review and apply."""

from typing import Any

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods

from cluster import access
from cluster.actions import approvals, changes, clusters, rollouts, schedules
from cluster.actions.problems import Changed, Rejected
from cluster.apply_forms import HowForm
from cluster.approval import approval_of, changes_nothing, editors, open_change
from cluster.audit import Actor
from cluster.drain_forms import BulkForm
from cluster.draining import marks
from cluster.forms import ApplyForm, ClusterForm, ConfirmForm
from cluster.http import OperatorRequest, actor, poll, search_text
from cluster.models import Cluster
from cluster.overview import cluster_state, cluster_states
from cluster.review import review
from cluster.standing import outages
from cluster.switch_forms import NewClusterForm
from cluster.three_way import opened


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
    form = NewClusterForm(request.POST or None)
    if form.is_valid():
        try:
            cluster = clusters.create_cluster(**form.said(), by=actor(request))
            messages.success(request, f"{cluster} is there. Add its directors and services next.")
            return redirect("cluster-detail", cluster.pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    return render(request, "cluster/cluster_form.html", {"form": form})


@require_GET
def cluster_detail(request: OperatorRequest, pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, pk, needs="view")
    return render(request, "cluster/cluster_detail.html", detail_context(request, cluster))


def detail_context(request: OperatorRequest, cluster: Cluster) -> dict[str, Any]:
    """What templates/cluster/cluster_detail.html needs."""
    services = cluster.services.prefetch_related("backends")
    return {
        **_directors(request, cluster),
        "services": services,
        "marks": marks(cluster, services),
        "bulk": BulkForm(),
        "rollout": rollouts.waiting(cluster),
        "planned": rollouts.planned(cluster),
        "drift_count": cluster.drifts.open().count(),
        "jobs": cluster.jobs.prefetch_related("runs")[:5],
        "waiting": open_change(cluster),
    }


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
    }


@require_http_methods(["GET", "POST"])
def cluster_edit(request: OperatorRequest, pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, pk, needs="administer")
    initial = ClusterForm.initial_of(cluster)
    shown = opened(request, cluster, lambda data: ClusterForm(data, initial=initial))
    form = shown.form
    if shown.may_save and form.is_valid():
        try:
            clusters.edit_cluster(
                cluster,
                **form.said(),
                reason=form.cleaned_data["reason"],
                seen_version=shown.seen_version,
                by=actor(request),
            )
            messages.success(request, f"{cluster} is saved.")
            return redirect("cluster-detail", cluster.pk)
        except Changed:
            return cluster_edit(request, pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    return render(request, "cluster/cluster_form.html", {"form": form, "opened": shown, "cluster": cluster})


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
    """GET shows what would change (whoever may see the cluster); POST applies just that, now or later, or
    asks for its approval."""
    posts: access.Need = "edit" if "ask" in request.POST else "apply"
    cluster = access.get_cluster(request, pk, needs="view" if request.method == "GET" else posts)
    form = ApplyForm(request.POST or None, initial={"reason": search_text(request.GET.get("reason"))})
    how = HowForm(request.POST or None, cluster=cluster)
    # Both, so that each says what is wrong with it.
    if all([form.is_valid(), how.is_valid()]):
        try:
            if "ask" in request.POST:
                change = approvals.ask(cluster, **form.cleaned_data, by=actor(request))
                messages.success(request, "Asked. Whoever may approve sees it under Changes.")
                return redirect("change-detail", change.pk)
            return redirect(*_sent(cluster, form, how, by=actor(request)))
        except Rejected as rejected:
            # Each problem goes to the form that has its field.
            at_how = [one for one in rejected.problems if one.field in how.fields]
            how.add_problems(Rejected(*at_how))
            form.add_problems(Rejected(*(one for one in rejected.problems if one not in at_how)))
    context = {
        "cluster": cluster,
        "state": cluster_state(cluster),
        "review": review(cluster),
        "form": form,
        **_approval(cluster),
        "how": how,
        "rollout": rollouts.waiting(cluster),
        "planned": rollouts.planned(cluster),
    }
    return render(request, "cluster/cluster_review.html", context)


def _sent(cluster: Cluster, form: ApplyForm, how: HowForm, *, by: Actor) -> tuple[str, int]:
    """Applied or planned, as asked for; the page that tells what becomes of it."""
    said = form.cleaned_data | {"how": how.how, "by": by}
    if how.is_later:
        schedules.plan(cluster, **said | how.window)
        return "planned-list", cluster.pk
    return "job-detail", changes.apply(cluster, **said).pk


def _approval(cluster: Cluster) -> dict[str, Any]:
    """Whether the draft needs somebody's yes, and how far the request for it is."""
    change = open_change(cluster) if cluster.approvals else None
    return {
        "needs_approval": bool(cluster.approvals) and not changes_nothing(cluster),
        "approval": approval_of(change) if change else None,
        "editors": sorted(editors(cluster)),
    }
