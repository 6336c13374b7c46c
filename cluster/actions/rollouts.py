"""Revisions that are not settled yet: confirm one, go back from it, and what follows by itself."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db import transaction
from django.db.models import OuterRef, Q, QuerySet, Subquery
from django.utils import timezone

from cluster import audit, jobs
from cluster.actions import changes
from cluster.actions.problems import Rejected, because, lock_cluster, require_reason, ticketed
from cluster.audit import PANEL, Actor
from cluster.ipvs.rules import Problem
from cluster.models import Cluster, Job, PlannedApply, Revision, Rollout, Run

# Directors go back by their own clocks and say so; where none does, the panel stops waiting.
REPORTS_COME_WITHIN = timedelta(seconds=30)
_FAILED = frozenset({"partial", "refused", "failed", "reverted", "superseded", "cancelled"})


def waiting(cluster: Cluster) -> Rollout | None:
    """The revision of the cluster that is not settled yet."""
    rows = cluster.rollouts.waiting()
    return rows.select_related("cluster", "revision", "back", "job").first()


def of(job: Job) -> Rollout | None:
    """What became of the job's revision, where it had to wait."""
    rows = Rollout.objects.filter(Q(job=job) | Q(revision=job.revision_id) if job.revision_id else Q(job=job))
    return rows.select_related("cluster", "revision", "back", "job").first()


def planned(cluster: Cluster) -> QuerySet[PlannedApply]:
    """What is to be applied to the cluster later, the next first."""
    return cluster.planned_applies.filter(status=PlannedApply.Status.PLANNED)


@transaction.atomic
def confirm(rollout: Rollout, *, by: Actor) -> None:
    """The revision stays: its directors are told, and those that were held get it. Rejected where it is
    settled already, where its time is over, and where no director has it yet."""
    row = _open(rollout)
    if row.is_late:
        raise Rejected(Problem("", f"{row} was to be confirmed before. Its directors go back now."))
    runs = Run.objects.filter(job__revision=row.revision, job__kind=Job.Kind.APPLY)
    if not runs.filter(status=Run.Status.APPLIED).exists():
        raise Rejected(Problem("", f"No director has {row} yet, so there is nothing to confirm."))
    _end(row, Rollout.Status.SETTLED, by=by, cause="")
    told = [run.director for run in runs.exclude(sends=0).select_related("director") if run.director]
    if row.ends_at is not None:
        job = jobs.queue(
            kind=Job.Kind.CONFIRM,
            cluster=row.cluster,
            directors={one.pk: one for one in told if one.cluster_id == row.cluster_id}.values(),
            by=by,
            revision=row.revision,
        )
        after = {"revision": row.revision.number, "job": job.pk}
    else:
        after = {"revision": row.revision.number}
    jobs.release(row.job)
    audit.record("rollout.confirm", str(row), by=by, about=row.job, cluster=row.cluster, after=after)


def choose_to_go_back(rollout: Rollout, *, reason: str, by: Actor, ticket: str = "") -> Job | None:
    """As `go_back`, because somebody wants it. Rejected without a reason as well."""
    require_reason(reason)
    return go_back(rollout, by=by, cause=f"{by.name} chose to go back: {reason}", ticket=ticket)


@transaction.atomic
def go_back(rollout: Rollout, *, by: Actor, cause: str = "", ticket: str = "") -> Job | None:
    """Every director gets what was in force before, as a new revision. Rejected where it is settled."""
    row = _open(rollout, also=Rollout.Status.GOING_BACK)
    cause = cause or row.cause or f"{by.name} chose to go back"
    job = take_back(row, by=by, cause=cause, ticket=ticket)
    record_going_back(row, job, by=by, cause=cause, ticket=ticket)
    return job


def take_back(row: Rollout, *, by: Actor, cause: str, ticket: str = "") -> Job | None:
    """End a locked rollout and give every director what was in force before; the entry in the audit log is
    its caller's last thing: `record_going_back`."""
    _end(row, Rollout.Status.WENT_BACK, by=by, cause=cause)
    reason = because(f"back from revision {row.revision.number}", cause)
    return changes.go_back_to(row.cluster, row.back, reason=reason, ticket=ticket, by=by)


def record_going_back(row: Rollout, job: Job | None, *, by: Actor, cause: str, ticket: str = "") -> None:
    audit.record(
        "rollout.go-back",
        str(row),
        by=by,
        about=row.job,
        cluster=row.cluster,
        before={"revision": row.revision.number},
        after={
            "revision": job.revision.number if job and job.revision else None,
            "content": row.back_words,
            **ticketed(ticket),
        },
        reason=cause,
    )


def settle() -> None:
    """The sweep's round: go on where a first director is done, go back where one has, or where the time is
    over and nobody says so. Each in a transaction of its own; one that somebody else was faster with is
    theirs."""
    now = timezone.now()
    waiting = Rollout.objects.waiting()
    for rollout in waiting.select_related("cluster", "revision", "job"):
        try:
            _settle_one(rollout, now - REPORTS_COME_WITHIN)
        except Rejected:
            continue
    for cluster, name in _left_behind():
        _draw_after(cluster, name)


def _settle_one(rollout: Rollout, late: datetime) -> None:
    if rollout.status == Rollout.Status.GOING_BACK:
        go_back(rollout, by=PANEL)
    elif rollout.ends_at is not None and rollout.ends_at <= late:
        go_back(rollout, by=PANEL, cause="nobody confirmed it in time")
    elif rollout.first:
        run = Run.objects.filter(job__revision=rollout.revision, director_name=rollout.first).last()
        if run is None or run.status in _FAILED:
            said = str(run.report.get("text", "")) if run else "it left the cluster"
            go_back(rollout, by=PANEL, cause=f"{rollout.first}: {said or (run and run.status)}"[:500])
        elif run.status == Run.Status.APPLIED and rollout.ends_at is None:
            _go_on(rollout)


@transaction.atomic
def _go_on(rollout: Rollout) -> None:
    row = _open(rollout)
    _end(row, Rollout.Status.SETTLED, by=PANEL, cause="")
    jobs.release(row.job)
    after = {"revision": row.revision.number, "first": row.first}
    audit.record("rollout.go-on", str(row), by=PANEL, about=row.job, cluster=row.cluster, after=after)


def _left_behind() -> list[tuple[Cluster, str]]:
    """The clusters whose newest revision is settled, though a director went back from it: it was told too
    late."""
    newest = Revision.objects.filter(cluster=OuterRef("job__cluster")).order_by("-number").values("pk")[:1]
    went = Run.objects.filter(status=Run.Status.REVERTED, job__revision=Subquery(newest))
    behind = went.filter(job__revision__rollouts__status=Rollout.Status.SETTLED, director__isnull=False)
    return [(run.job.cluster, run.director_name) for run in behind.select_related("job__cluster")]


@transaction.atomic
def _draw_after(cluster: Cluster, name: str) -> None:
    """The same content under a new number, because the director takes the old one no more."""
    cluster = lock_cluster(cluster)
    newest = cluster.revisions.first()
    went = Run.objects.filter(job__revision=newest, status=Run.Status.REVERTED)
    if newest is None or not went.exists() or cluster.rollouts.waiting().exists():
        # Two that were left behind are drawn at once.
        return
    reason = f"revision {newest.number} is confirmed, and {name} went back from it"
    job = changes.go_back_to(cluster, newest, reason=reason, by=PANEL)
    if job is not None:
        audit.record("rollout.repeat", job.title, by=PANEL, about=job, cluster=cluster, reason=reason)


def _open(rollout: Rollout, *, also: str = "") -> Rollout:
    """The row as it is now, locked as its cluster is: a director's report may be about to end it. Rejected
    where it is settled."""
    cluster = lock_cluster(rollout.cluster)
    rows = Rollout.objects.filter(pk=rollout.pk, status__in=[Rollout.Status.OPEN, also])
    rows = rows.select_for_update(of=("self",), no_key=True)
    row = rows.select_related("revision", "back", "job").first()
    if row is None:
        raise Rejected(Problem("", f"{rollout} is settled already. Nothing was done."))
    row.cluster = cluster
    return row


def _end(row: Rollout, status: str, *, by: Actor, cause: str) -> None:
    row.status, row.cause, row.ended_by, row.ended_at = status, cause[:500], by.name[:150], timezone.now()
    row.save(update_fields=["status", "cause", "ended_by", "ended_at"])
