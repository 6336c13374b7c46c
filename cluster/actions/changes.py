"""To the directors: apply the draft, apply again after a failure, carry out what is done at once."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from django.db import transaction
from django.utils import timezone

from cluster import audit, desired, jobs
from cluster.actions.approvals import close_applied, require_approval, reviewed_draft
from cluster.actions.problems import Rejected, lock_cluster, require_reason
from cluster.audit import Actor
from cluster.ipvs.formats.document import fingerprint, to_document
from cluster.ipvs.rules import Problem
from cluster.ipvs.state import Table
from cluster.ipvs.traffic import document as traffic_document
from cluster.ipvs.traffic.policy import Traffic
from cluster.models import ChangeRequest, Cluster, Director, Job, PlannedApply, Revision, Rollout, Run
from cluster.permissions import Need, right_of

# What a revision says that has no traffic document of its own.
_NO_TRAFFIC = traffic_document.to_document(Traffic())


@dataclass(frozen=True)
class How:
    """How a revision goes out: to be confirmed within so many minutes, or it goes back by itself, and earlier
    where backends in service or open connections fall by more percent; on the director `first` before the
    others. Empty is no condition."""

    confirm_min: int | None = None
    backends_percent: int | None = None
    connections_percent: int | None = None
    first: str = ""

    @property
    def waits(self) -> bool:
        """Whether the revision is not settled as soon as it is applied."""
        return self.confirm_min is not None or bool(self.first)


AT_ONCE = How()


@dataclass(frozen=True)
class Why:
    """What a revision is made for. `request` and `approved_by` tell of the change request, where it had to be
    approved."""

    reason: str
    ticket: str = ""
    request: int | None = None
    approved_by: list[str] = field(default_factory=list)


@transaction.atomic
def apply(
    cluster: Cluster, *, seen: str, reason: str, by: Actor, ticket: str = "", how: How = AT_ONCE
) -> Job:
    """Make a revision of the draft and queue it for every director of the cluster. A change that had to be
    approved keeps the reason and the ticket that it was approved with.

    `seen` is the print of the draft that the operator reviewed, policies and switches included; Rejected
    where the draft is another one now, where it breaks a rule, where an approval or the reason is missing,
    where there is no director, and while another revision waits."""
    # Two applies at once take turns, so that revisions are numbered without gaps.
    cluster = lock_cluster(cluster)
    table, traffic, why = reviewed(cluster, seen=seen, reason=reason, ticket=ticket)
    return put_out(cluster, table, traffic, why=why, by=by, how=how)


def reviewed(cluster: Cluster, *, seen: str, reason: str, ticket: str) -> tuple[Table, Traffic, Why]:
    """The draft as it was reviewed, and why it is to be applied. Rejected as `apply` says, for what does not
    depend on the moment. Within the caller's transaction, with the cluster locked."""
    table, traffic = reviewed_draft(cluster, seen=seen)
    approval = require_approval(cluster)
    why = Why(reason, ticket)
    if approval is not None:
        names = [answer.author_name for answer in approval.counted]
        why = Why(approval.change.reason, approval.change.ticket, approval.change.pk, names)
    require_reason(why.reason)
    if not cluster.directors.exists():
        raise Rejected(Problem("", f"{cluster} has no director yet. Add one first."))
    return table, traffic, why


def put_out(
    cluster: Cluster,
    table: Table,
    traffic: Traffic,
    *,
    why: Why,
    by: Actor,
    how: How = AT_ONCE,
    planned: PlannedApply | None = None,
) -> Job:
    """A revision of this content for every director, within the caller's transaction and with the cluster
    locked. Rejected as apply says, and where something is to be waited for that is in force already.
    `planned` is what it comes of."""
    directors, back = list(cluster.directors.all()), cluster.revisions.first()
    if not directors:
        raise Rejected(Problem("", f"{cluster} has no director yet. Add one first."))
    refuse_while_open(cluster)
    if how.first and how.first not in [director.name for director in directors]:
        raise Rejected(Problem("first", f"{how.first} is no director of {cluster} any more. Choose another."))
    if how.confirm_min is not None and (old := [one.name for one in directors if not one.goes_back]):
        text = f"The worker of {', '.join(old)} is of an older release and would not go back by itself."
        raise Rejected(Problem("confirm_min", f"{text} Update it first, or apply without a confirmation."))
    content = {
        "table": to_document(table),
        "traffic": traffic_document.to_document(traffic),
        "fingerprint": fingerprint(table),
    }
    revision = _revision_of(cluster, content, why=why, by=by)
    if how.waits and revision == back:
        text = (
            f"Revision {revision.number} says the same and is in force already, so there is nothing to wait"
        )
        raise Rejected(Problem("", f"{text} for. Apply it without a confirmation and to all directors."))
    change = ChangeRequest.objects.filter(pk=why.request).first() if why.request else None
    close_applied(cluster, change, revision, by=by, also_others=planned is None)
    job = _queue(cluster, directors, revision, reason=why.reason, by=by, first=how.first)
    after = {
        "revision": revision.number,
        "fingerprint": revision.fingerprint,
        "job": job.pk,
        "ticket": why.ticket,
        "request": why.request,
        "approved_by": why.approved_by,
    }
    if how.waits:
        within = timedelta(minutes=how.confirm_min) if how.confirm_min else None
        Rollout.objects.create(
            cluster=cluster,
            revision=revision,
            back=back,
            job=job,
            first=how.first,
            within_min=how.confirm_min,
            backends_percent=how.backends_percent,
            connections_percent=how.connections_percent,
            ends_at=timezone.now() + within if within else None,
        )
        after |= {"confirm_min": how.confirm_min, "first": how.first}
    if planned is not None:
        PlannedApply.objects.filter(pk=planned.pk).update(job=job)
        after["planned"] = planned.pk
    audit.record(
        "cluster.apply", job.title, by=by, about=job, cluster=cluster, after=after, reason=why.reason
    )
    return job


def refuse_while_open(cluster: Cluster) -> None:
    """Rejected while a revision of the cluster waits for its confirmation, or for its first director."""
    rollout = cluster.rollouts.waiting().select_related("revision").first()
    if rollout is not None:
        text = f"Revision {rollout.revision.number} is not settled yet. Confirm it or go back from it first."
        raise Rejected(Problem("", text))


def go_back_to(
    cluster: Cluster, back: Revision | None, *, reason: str, by: Actor, ticket: str = ""
) -> Job | None:
    """A new revision with the content of an old one, None for an empty table, and the drains and profiles of
    now, for every director; always a new number, because a director may have gone back from the newest.
    Within the caller's transaction, with the cluster locked. None where there is nobody to send to."""
    directors = list(cluster.directors.all())
    before = traffic_document.from_document(back.traffic or _NO_TRAFFIC) if back else Traffic()
    content = {
        "table": back.table if back else to_document(Table()),
        "traffic": traffic_document.to_document(desired.with_operations(before, cluster)),
        "fingerprint": back.fingerprint if back else fingerprint(Table()),
    }
    revision = _new_revision(cluster, content, why=Why(reason, ticket), by=by)
    return _queue(cluster, directors, revision, reason=reason, by=by) if directors else None


def carry_out(
    cluster: Cluster,
    *,
    reason: str,
    by: Actor,
    ticket: str = "",
    newcomer: Director | None = None,
    needs: Need = "operate",
) -> Job | None:
    """Send the drains and profiles of now to every director, with the newest revision's table and without the
    draft. Within the caller's transaction, with the cluster locked. None where there is nobody to send to, or
    nothing was applied yet: the first apply then carries them. `newcomer` gets it in any case. `needs` is the
    permission that `by` does it with.

    A trial goes on with the new revision, until the same moment. Rejected while a revision is on its first
    director alone: this would put it on all."""
    newest, directors = cluster.revisions.first(), list(cluster.directors.all())
    if newest is None:
        return None
    before = traffic_document.from_document(newest.traffic or _NO_TRAFFIC)
    traffic = traffic_document.to_document(desired.with_operations(before, cluster))
    content = {"table": newest.table, "traffic": traffic, "fingerprint": newest.fingerprint}
    revision = _revision_of(cluster, content, why=Why(reason, ticket), by=by)
    if revision == newest:
        directors = [newcomer] if newcomer else []
    if not directors:
        return None
    rollout = cluster.rollouts.waiting().first()
    if rollout is not None and (rollout.first or rollout.status != Rollout.Status.OPEN or rollout.is_late):
        text = f"Revision {newest.number} is being tried. Confirm it or go back from it first."
        raise Rejected(Problem("", text))
    if rollout is not None:
        rollout.revision = revision
        rollout.save(update_fields=["revision"])
    return _queue(cluster, directors, revision, reason=reason, by=by, needs=needs)


@transaction.atomic
def apply_again(job: Job, *, by: Actor) -> Job:
    """Queue the same work again for the directors where it did not succeed. Rejected for a revision that is
    no longer the newest, because directors refuse lower ones, and for the try of a check."""
    if job.kind == Job.Kind.PROBE:
        # Its check may go to an address that only an administrator may name.
        raise Rejected(Problem("", "A try is not repeated from here. Use Try now on the service's page."))
    # An apply at the same moment would else leave its directors on this older revision.
    newest = lock_cluster(job.cluster).revisions.first()
    if job.kind == Job.Kind.CONFIRM:
        raise Rejected(
            Problem("", "A confirmation is not repeated from here: the panel sends it again itself.")
        )
    refuse_while_open(job.cluster)
    if job.revision is not None and job.revision != newest:
        raise Rejected(Problem("", f"Revision {job.revision.number} is not the newest any more."))
    if job.kind == Job.Kind.ENFORCE and job.probe.get("enforce") != job.cluster.enforce:
        raise Rejected(Problem("", f"{job.cluster} was set otherwise since. Look at its page of drift."))
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
        probe=job.probe,
    )
    audit.record("job.again", again.title, by=by, about=again, cluster=job.cluster, after={"job": again.pk})
    return again


def _queue(
    cluster: Cluster,
    directors: list[Director],
    revision: Revision,
    *,
    reason: str,
    by: Actor,
    first: str = "",
    needs: Need = "apply",
) -> Job:
    return jobs.queue(
        kind=Job.Kind.APPLY,
        cluster=cluster,
        directors=directors,
        by=by,
        reason=reason,
        revision=revision,
        first=first,
        needs=needs,
    )


def _revision_of(cluster: Cluster, content: dict[str, Any], *, why: Why, by: Actor) -> Revision:
    """The newest revision where it says the same already, else a new one."""
    newest = cluster.revisions.first()
    if (
        newest is not None
        and newest.fingerprint == content["fingerprint"]
        and (newest.traffic or _NO_TRAFFIC) == content["traffic"]
    ):
        return newest
    return _new_revision(cluster, content, why=why, by=by)


def _new_revision(cluster: Cluster, content: dict[str, Any], *, why: Why, by: Actor) -> Revision:
    newest = cluster.revisions.first()
    return Revision.objects.create(
        cluster=cluster,
        number=newest.number + 1 if newest else 1,
        **content,
        author_id=by.user_id,
        author_name=by.name,
        reason=why.reason,
        ticket=why.ticket,
    )
