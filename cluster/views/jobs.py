"""Jobs: list, one, its live part, and another try."""

from django.contrib import messages
from django.http import HttpResponse
from django.shortcuts import redirect, render
from django.views.decorators.http import require_GET, require_POST
from django_htmx.http import HttpResponseStopPolling

from cluster import access, live
from cluster.actions import changes, rollouts
from cluster.actions.problems import Rejected
from cluster.http import OperatorRequest, actor, not_modified, page_of, poll
from cluster.models import Job, Run
from cluster.permissions import right_of


@require_GET
def job_list(request: OperatorRequest) -> HttpResponse:
    jobs = Job.objects.filter(cluster__in=access.visible_clusters(request.user))
    shown, pager = page_of(request, jobs.select_related("cluster", "revision").prefetch_related("runs"))
    return render(request, "cluster/job_list.html", {"jobs": shown, **pager})


@require_GET
def job_detail(request: OperatorRequest, pk: int) -> HttpResponse:
    job = access.get_job(request, pk, needs="view")
    return render(request, "cluster/job_detail.html", job_context(request, job))


@poll
@require_GET
def job_live(request: OperatorRequest, pk: int) -> HttpResponse:
    """204 while nothing has changed; 286, which ends the polling, when all is over and nothing waits."""
    job = access.get_job(request, pk, needs="view")
    context = job_context(request, job)
    if context["is_over"]:
        response = render(request, "cluster/_job_runs.html", context)
        return HttpResponseStopPolling(response.content)
    if request.GET.get("stamp") == context["stamp"]:
        return not_modified()
    return render(request, "cluster/_job_runs.html", context)


@require_POST
def job_again(request: OperatorRequest, pk: int) -> HttpResponse:
    job = access.get_job(request, pk, needs="view")
    access.require(request, right_of(job), job.cluster, what="try a job again")
    try:
        again = changes.apply_again(job, by=actor(request))
        return redirect("job-detail", again.pk)
    except Rejected as rejected:
        messages.error(request, str(rejected))
        return redirect("job-detail", job.pk)


def job_context(request: OperatorRequest, job: Job) -> dict[str, object]:
    runs = list(job.runs.select_related("director"))
    answers = live.read([run.director for run in runs if run.director])
    there = {one.director.pk for one in answers.directors if not one.is_stale}
    # A try verifies nothing.
    labels = {str(Run.Status.APPLIED): "answered"} if job.kind == Job.Kind.PROBE else {}
    shown = [
        {
            "run": run,
            "status": (status := _shown_status(run, there, answers.redis_is_up)),
            "label": labels.get(status, ""),
        }
        for run in runs
    ]
    rollout = rollouts.of(job)
    # Applied is not the end of what may still go back.
    is_waiting = rollout is not None and rollout.is_waiting
    return {
        "job": job,
        "needs": right_of(job),
        "rollout": rollout,
        "cluster": job.cluster,
        "runs": shown,
        "redis_is_up": answers.redis_is_up,
        "is_over": all(run.is_over for run in runs) and not is_waiting,
        "has_failed": any(run.status in ("failed", "partial", "refused", "cancelled") for run in runs),
        "stamp": "-".join(f"{run.pk}.{part['status']}" for run, part in zip(runs, shown, strict=True)),
    }


def _shown_status(run: Run, there: set[int], redis_is_up: bool) -> str:
    """`waiting` where the order can't be heard now: nobody should watch a spinner for that."""
    unheard = run.status in (Run.Status.QUEUED, Run.Status.SENT, Run.Status.UNKNOWN)
    return "waiting" if unheard and redis_is_up and run.director_id not in there else run.status
