"""To the directors: apply the draft, apply again after a failure, carry out what is done at once."""

from __future__ import annotations

from typing import Any

from django.db import transaction

from cluster import audit, desired, jobs
from cluster.actions.problems import Rejected, lock_cluster
from cluster.audit import Actor
from cluster.ipvs.formats.document import fingerprint, to_document
from cluster.ipvs.rules import Problem, table_problems
from cluster.ipvs.traffic import document as traffic_document
from cluster.ipvs.traffic.policy import Traffic
from cluster.ipvs.traffic.rules import traffic_problems
from cluster.models import Cluster, Director, Job, Revision, Run

# What a revision says that has no traffic document of its own.
_NO_TRAFFIC = traffic_document.to_document(Traffic())


@transaction.atomic
def apply(cluster: Cluster, *, seen: str, reason: str, by: Actor) -> Job:
    """Make a revision of the draft and queue it for every director of the cluster.

    `seen` is the print of the draft that the operator reviewed, policies included; Rejected where
    the draft is another one now, where it breaks a rule, and where there is no director."""
    # Two applies at once take turns, so that revisions are numbered without gaps.
    cluster = lock_cluster(cluster)
    table, traffic = desired.draft_table(cluster), desired.draft_traffic(cluster)
    if desired.draft_print(table, traffic.policies) != seen:
        text = "The draft has changed since you opened this review. Look at it again before you apply."
        raise Rejected(Problem("", text))
    if problems := [*table_problems(table), *traffic_problems(table, traffic)]:
        raise Rejected(*(Problem("", f"{key}: {problem.text}") for key, problem in problems))
    directors = list(cluster.directors.all())
    if not directors:
        raise Rejected(Problem("", f"{cluster} has no director yet. Add one first."))
    content = {
        "table": to_document(table),
        "traffic": traffic_document.to_document(traffic),
        "fingerprint": fingerprint(table),
    }
    revision = _revision_of(cluster, content, reason=reason, by=by)
    job = jobs.queue(
        kind=Job.Kind.APPLY, cluster=cluster, directors=directors, by=by, reason=reason, revision=revision
    )
    audit.record(
        "cluster.apply",
        job.title,
        by=by,
        about=job,
        cluster=cluster,
        after={"revision": revision.number, "fingerprint": revision.fingerprint, "job": job.pk},
        reason=reason,
    )
    return job


def carry_out(cluster: Cluster, *, reason: str, by: Actor, newcomer: Director | None = None) -> Job | None:
    """Send the drains and profiles of now to every director, with the newest revision's table and without the
    draft. Within the caller's transaction, with the cluster locked. None where there is nobody to send to, or
    nothing was applied yet: the first apply then carries them. `newcomer` gets it in any case."""
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
        kind=Job.Kind.APPLY, cluster=cluster, directors=directors, by=by, reason=reason, revision=revision
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
    )
    audit.record("job.again", again.title, by=by, about=again, cluster=job.cluster, after={"job": again.pk})
    return again


def _revision_of(cluster: Cluster, content: dict[str, Any], *, reason: str, by: Actor) -> Revision:
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
    )
