"""Revisions that wait: confirm, go back; planned applies: list, cancel; what applies begin with."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_http_methods, require_POST
from django_htmx.http import HttpResponseStopPolling

from cluster import access
from cluster.actions import clusters, rollouts, schedules
from cluster.actions.problems import Changed, Rejected
from cluster.apply_forms import ClusterConditionsForm
from cluster.fields import ReasonForm
from cluster.http import OperatorRequest, actor, page_of, poll
from cluster.models import PlannedApply
from cluster.three_way import opened


@poll
@require_GET
def rollout_live(request: OperatorRequest, pk: int) -> HttpResponse:
    """The countdown; 286, which ends the polling, when it is settled."""
    rollout = access.get_rollout(request, pk, needs="view")
    context = {
        "rollout": rollout,
        "cluster": rollout.cluster,
    }
    response = render(request, "cluster/_rollout.html", context)
    return response if rollout.is_waiting else HttpResponseStopPolling(response.content)


@require_POST
def rollout_confirm(request: OperatorRequest, pk: int) -> HttpResponse:
    rollout = access.get_rollout(request, pk, needs="apply")
    try:
        rollouts.confirm(rollout, by=actor(request))
        messages.success(request, f"{rollout} is confirmed and stays.")
    except Rejected as rejected:
        messages.error(request, str(rejected))
    return redirect("job-detail", rollout.job_id)


@require_http_methods(["GET", "POST"])
def rollout_go_back(request: OperatorRequest, pk: int) -> HttpResponse:
    rollout = access.get_rollout(request, pk, needs="apply")
    form = ReasonForm(request.POST or None)
    if form.is_valid():
        try:
            job = rollouts.choose_to_go_back(rollout, **form.why, by=actor(request))
            return redirect("job-detail", job.pk if job else rollout.job_id)
        except Rejected as rejected:
            messages.error(request, str(rejected))
        return redirect("job-detail", rollout.job_id)
    context = {"rollout": rollout, "cluster": rollout.cluster, "form": form}
    return render(request, "cluster/rollout_go_back.html", context)


@require_GET
def planned_list(request: OperatorRequest, pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, pk, needs="view")
    over = cluster.planned_applies.exclude(status=PlannedApply.Status.PLANNED)
    past, pager = page_of(request, over.select_related("job"))
    context = {"cluster": cluster, "planned": rollouts.planned(cluster), "past": past, **pager}
    return render(request, "cluster/planned_list.html", context)


@require_POST
def planned_cancel(request: OperatorRequest, pk: int) -> HttpResponse:
    planned = access.get_planned(request, pk, needs="apply")
    try:
        schedules.cancel(planned, by=actor(request))
        messages.success(request, f"{planned} is cancelled.")
    except Rejected as rejected:
        messages.error(request, str(rejected))
    return redirect("planned-list", planned.cluster_id)


@require_http_methods(["GET", "POST"])
def change_settings(request: OperatorRequest, pk: int) -> HttpResponse:
    cluster = access.get_cluster(request, pk, needs="administer")
    initial = ClusterConditionsForm.initial_of(cluster)
    shown = opened(request, cluster, lambda data: ClusterConditionsForm(data, initial=initial))
    form = shown.form
    if shown.may_save and form.is_valid():
        try:
            clusters.set_conditions(cluster, form.said(), seen_version=shown.seen_version, by=actor(request))
            messages.success(request, f"Applies to {cluster} begin with this from now on.")
            return redirect("cluster-review", cluster.pk)
        except Changed:
            return change_settings(request, pk)
        except Rejected as rejected:
            form.add_problems(rejected)
    context = {"form": form, "opened": shown, "cluster": cluster}
    return render(request, "cluster/change_settings.html", context)
