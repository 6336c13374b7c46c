"""Applies that are planned: reviewed now, sent when their hour has come, and cancelled until then."""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime, timedelta
from typing import Any

from django.db import transaction
from django.db.models import QuerySet
from django.utils import timezone

from cluster import audit, desired
from cluster.actions import changes
from cluster.actions.approvals import shortfall
from cluster.actions.changes import How, Why
from cluster.actions.problems import Rejected, lock_cluster
from cluster.audit import PANEL, Actor
from cluster.ipvs.formats.document import fingerprint, from_document, to_document
from cluster.ipvs.rules import Problem
from cluster.ipvs.traffic.document import VERSION as TRAFFIC_VERSION
from cluster.ipvs.traffic.document import from_document as traffic_from_document
from cluster.ipvs.traffic.document import policies_to_document
from cluster.models import AuditEntry, Cluster, PlannedApply

# Without a window: so late and no later, where the panel was down or another revision waited.
LATE_AT_MOST = timedelta(hours=1)
LATEST = timedelta(days=366)


@transaction.atomic
def plan(
    cluster: Cluster,
    *,
    seen: str,
    reason: str,
    by: Actor,
    how: How,
    ticket: str = "",
    begins_at: datetime | None,
    ends_at: datetime | None,
) -> PlannedApply:
    """Keep the reviewed draft and apply just that at `begins_at`, or in the window from there, or from now,
    to `ends_at`. What has to be approved is so before it is planned, and still when it goes out. Rejected as
    an apply is, and where the times cannot be."""
    cluster = lock_cluster(cluster)
    table, traffic, why = changes.reviewed(cluster, seen=seen, reason=reason, ticket=ticket)
    now = timezone.now()
    begins = begins_at or now
    ends = ends_at or begins + LATE_AT_MOST
    if begins_at is not None and begins_at <= now:
        raise Rejected(Problem("begins_at", "That moment is over. Choose a later one, or leave it empty."))
    if ends <= max(begins, now):
        raise Rejected(Problem("ends_at", "The window ends before it begins. Choose a later end."))
    if begins > now + LATEST:
        raise Rejected(Problem("begins_at", "That is more than a year ahead. Choose an earlier moment."))
    row = PlannedApply.objects.create(
        cluster=cluster,
        table=to_document(table),
        policies=policies_to_document(traffic.policies),
        switches=dict(traffic.switches),
        fingerprint=fingerprint(table),
        **_base(cluster),
        how=asdict(how),
        why=asdict(why),
        begins_at=begins,
        ends_at=ends,
        author_id=by.user_id,
        author_name=by.name,
        reason=why.reason,
    )
    after = {"fingerprint": row.fingerprint, "begins_at": str(begins), "ends_at": str(ends)} | row.how
    audit.record("apply.plan", row, by=by, cluster=cluster, after=after, reason=why.reason)
    return row


@transaction.atomic
def cancel(row: PlannedApply, *, by: Actor) -> None:
    """It does not go out. Rejected where it did, or was cancelled already."""
    lock_cluster(row.cluster)
    _end(row, PlannedApply.Status.CANCELLED, by=by, cause=f"cancelled by {by.name}")
    audit.record("apply.cancel", row, by=by, cluster=row.cluster)


def due() -> QuerySet[PlannedApply]:
    """Those whose hour has come."""
    rows = PlannedApply.objects.filter(status=PlannedApply.Status.PLANNED, begins_at__lte=timezone.now())
    return rows.select_related("cluster", "author")


def go_out(row: PlannedApply, *, refusal: str) -> None:
    """Apply what was reviewed, unless there is a `refusal`; while another revision waits it waits too, as
    long as its window lasts. What cannot be applied ends as refused, with its cause in the log."""
    try:
        with transaction.atomic():
            cluster = lock_cluster(row.cluster)
            if cause := refusal or _obstacle(cluster, row):
                raise Rejected(Problem("", cause))
            if cluster.rollouts.waiting().exists():
                return
            _apply(cluster, row)
    except Rejected as rejected:
        _refuse(row, str(rejected))


def _apply(cluster: Cluster, row: PlannedApply) -> None:
    by = _planner(row)
    said = {"version": TRAFFIC_VERSION, "policies": row.policies, "switches": row.switches}
    said |= {"drains": [], "profiles": []}
    traffic = desired.with_operations(traffic_from_document(said), cluster)
    _end(row, PlannedApply.Status.DONE, by=by, cause="")
    table = from_document(row.table)
    # Its own entry in the log is the last thing that it does.
    changes.put_out(cluster, table, traffic, why=Why(**row.why), by=by, how=How(**row.how), planned=row)


def _planner(row: PlannedApply) -> Actor:
    """Who planned it, as the log has it: with role, session and request. That part of it may be dropped."""
    planned = AuditEntry.objects.filter(
        action="apply.plan", object_kind="plannedapply", object_id=str(row.pk), result="done"
    ).first()
    if planned is None:
        return Actor(row.author_name, user_id=row.author_id)
    return Actor(
        row.author_name, planned.address, planned.request_id, row.author_id, planned.role, planned.session
    )


def _obstacle(cluster: Cluster, row: PlannedApply) -> str:
    if timezone.now() > row.ends_at:
        return "its window is over, and it could not go out before"
    base = _base(cluster)
    if any(getattr(row, name) != value for name, value in base.items()):
        newest = cluster.revisions.first()
        what = f"revision {newest.number} was applied" if newest else "the cluster was emptied"
        return f"{what} after it was reviewed, and this would undo a part of that"
    why = Why(**row.why)
    if all(getattr(row, name.removeprefix("base_")) == value for name, value in base.items()):
        # What is in force already needs nobody's approval.
        return ""
    return shortfall(cluster, request=why.request, approved_by=why.approved_by)


@transaction.atomic
def _refuse(row: PlannedApply, cause: str) -> None:
    try:
        _end(row, PlannedApply.Status.REFUSED, by=PANEL, cause=cause)
    except Rejected:
        # Somebody has cancelled it at this very moment.
        return
    audit.record("apply.refuse", row, by=PANEL, cluster=row.cluster, result="refused", reason=cause)


def _end(row: PlannedApply, status: str, *, by: Actor, cause: str) -> None:
    """Once: of two who end it at the same moment, one is Rejected."""
    ended = {"cause": cause[:500], "ended_by": by.name[:150], "ended_at": timezone.now()}
    rows = PlannedApply.objects.filter(pk=row.pk, status=PlannedApply.Status.PLANNED)
    if not rows.update(status=status, **ended):
        raise Rejected(Problem("", f"{row} is over already. Nothing was done."))


def _base(cluster: Cluster) -> dict[str, Any]:
    """What is applied now, drains and profiles apart: those come and go meanwhile."""
    newest = cluster.revisions.first()
    said = newest.traffic if newest else {}
    return {
        "base_fingerprint": newest.fingerprint if newest else "",
        "base_policies": said.get("policies", []),
        "base_switches": said.get("switches", {}),
    }
