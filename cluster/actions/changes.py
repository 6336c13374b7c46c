"""To the directors: apply the draft, apply again after a failure, carry out what is done at once."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from cluster import audit, desired, jobs
from cluster.actions.approvals import NEEDS_REASON, close_applied, require_approval, reviewed_draft
from cluster.actions.problems import Rejected, lock_cluster
from cluster.audit import Actor
from cluster.ipvs.formats.document import fingerprint, to_document
from cluster.ipvs.rules import Problem
from cluster.ipvs.traffic import document as traffic_document
from cluster.ipvs.traffic.policy import Traffic
from cluster.models import Cluster, Director, Job, Revision, Run
from cluster.permissions import Need, right_of

# What a revision says that has no traffic document of its own.
_NO_TRAFFIC = traffic_document.to_document(Traffic())


@transaction.atomic
def apply(cluster: Cluster, *, seen: str, reason: str, by: Actor, ticket: str = "") -> Job:
    """Make a revision of the draft and queue it for every director of the cluster. A change that had to be
    approved keeps the reason and the ticket that it was approved with.

    `seen` is the print of the draft that the operator reviewed, policies and switches included; Rejected
    where the draft is another one now, where it breaks a rule, where an approval or the reason is missing,
    and where there is no director."""
    # Two applies at once take turns, so that revisions are numbered without gaps.
    cluster = lock_cluster(cluster)
    table, traffic = reviewed_draft(cluster, seen=seen)
    approval = require_approval(cluster)
    if approval is not None:
        reason, ticket = approval.change.reason, approval.change.ticket
    if not reason.strip():
        raise Rejected(Problem("reason", NEEDS_REASON))
    directors = list(cluster.directors.all())
    if not directors:
        raise Rejected(Problem("", f"{cluster} has no director yet. Add one first."))
    content = {
        "table": to_document(table),
        "traffic": traffic_document.to_document(traffic),
        "fingerprint": fingerprint(table),
    }
    revision = _revision_of(cluster, content, reason=reason, ticket=ticket, by=by)
    close_applied(cluster, approval, revision, by=by)
    job = jobs.queue(
        kind=Job.Kind.APPLY, cluster=cluster, directors=directors, by=by, reason=reason, revision=revision
    )
    audit.record(
        "cluster.apply",
        job.title,
        by=by,
        cluster=cluster,
        after={
            "revision": revision.number,
            "fingerprint": revision.fingerprint,
            "job": job.pk,
            "ticket": ticket,
            "request": approval.change.pk if approval else None,
            "approved_by": [answer.author_name for answer in approval.counted] if approval else [],
        },
        reason=reason,
    )
    return job


def carry_out(
    cluster: Cluster, *, reason: str, by: Actor, newcomer: Director | None = None, needs: Need = "operate"
) -> Job | None:
    """Send the drains and profiles of now to every director, with the newest revision's table and without the
    draft. Within the caller's transaction, with the cluster locked. None where there is nobody to send to, or
    nothing was applied yet: the first apply then carries them. `newcomer` gets it in any case. `needs` is the
    permission that `by` does it with."""
    newest, directors = cluster.revisions.first(), list(cluster.directors.all())
    if newest is None:
        return None
    before = traffic_document.from_document(newest.traffic or _NO_TRAFFIC)
    traffic = traffic_document.to_document(desired.with_operations(before, cluster))
    content = {"table": newest.table, "traffic": traffic, "fingerprint": newest.fingerprint}
    revision = _revision_of(cluster, content, reason=reason, by=by)
    if revision == newest:
        directors = [newcomer] if newcomer else []
    if not directors:
        return None
    return jobs.queue(
        kind=Job.Kind.APPLY,
        cluster=cluster,
        directors=directors,
        by=by,
        reason=reason,
        revision=revision,
        needs=needs,
    )


@transaction.atomic
def apply_again(job: Job, *, by: Actor) -> Job:
    """Queue the same work again for the directors where it did not succeed. Rejected for a revision that is
    no longer the newest, because directors refuse lower ones, and for the try of a check."""
    if job.kind == Job.Kind.PROBE:
        # Its check may go to an address that only an administrator may name.
        raise Rejected(Problem("", "A try is not repeated from here. Use Try now on the service's page."))
    # An apply at the same moment would else leave its directors on this older revision.
    newest = lock_cluster(job.cluster).revisions.first()
    if job.revision is not None and job.revision != newest:
        raise Rejected(Problem("", f"Revision {job.revision.number} is not the newest any more."))
    runs = job.runs.filter(director__cluster=job.cluster).exclude(status=Run.Status.APPLIED)
    directors = [run.director for run in runs.select_related("director") if run.director and run.is_over]
    if not directors:
        raise Rejected(Problem("", "No director of this job needs another try."))
    again = jobs.queue(
        kind=Job.Kind(job.kind),
        cluster=job.cluster,
        directors=directors,
        by=by,
        reason=f"again after job {job.pk}",
        revision=job.revision,
        module=job.module,
        needs=right_of(job),
    )
    audit.record("job.again", again.title, by=by, cluster=job.cluster, after={"job": again.pk})
    return again


def _revision_of(
    cluster: Cluster, content: dict[str, Any], *, reason: str, by: Actor, ticket: str = ""
) -> Revision:
    """The newest revision where it says the same already, else a new one."""
    newest = cluster.revisions.first()
    if (
        newest is not None
        and newest.fingerprint == content["fingerprint"]
        and (newest.traffic or _NO_TRAFFIC) == content["traffic"]
    ):
        return newest
    return Revision.objects.create(
        cluster=cluster,
        number=newest.number + 1 if newest else 1,
        **content,
        author_id=by.user_id,
        author_name=by.name,
        reason=reason,
        ticket=ticket,
    )
