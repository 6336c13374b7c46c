"""Directors: add to a cluster, remove from it, load a kernel module."""

from __future__ import annotations

import time

from django.db import transaction
from django.utils import timezone

from cluster import audit, jobs
from cluster.actions import changes, rollouts
from cluster.actions.problems import Rejected, because, lock_cluster, ticketed
from cluster.audit import Actor
from cluster.ipvs.rules import Problem
from cluster.models import Cluster, Director, Job, Revision


@transaction.atomic
def enrol_director(
    director: Director,
    cluster: Cluster,
    *,
    seen_fingerprint: str,
    by: Actor,
    reason: str = "",
    ticket: str = "",
) -> Job | None:
    """Add a waiting director to a cluster. `seen_fingerprint` is what the operator compared with the machine;
    Rejected where the director announces another key by now. If the cluster has a revision, it is sent
    there at once and its job is returned."""
    if director.fingerprint != seen_fingerprint:
        text = f"{director} announces another key now: {director.fingerprint}. Compare it again."
        raise Rejected(Problem("", text))
    cluster = lock_cluster(cluster)
    # Seconds are enough: an epoch only has to be higher than any that the director has seen.
    # The key is in the filter, because a hello may have changed it since the fingerprints were compared.
    waiting = Director.objects.filter(pk=director.pk, cluster=None, public_key=director.public_key)
    enrolled = waiting.update(
        cluster=cluster,
        epoch=max(director.epoch + 1, int(time.time())),
        enrolled_at=timezone.now(),
        applied_revision=0,
        applied_at=None,
    )
    if not enrolled:
        raise Rejected(
            Problem("", f"{director} belongs to a cluster already, or announces another key now. Look again.")
        )
    director.refresh_from_db()
    job = changes.carry_out(
        cluster,
        reason=because(f"{director} joined {cluster}", reason),
        ticket=ticket,
        by=by,
        newcomer=director,
        needs="administer",
    )
    after = {"fingerprint": director.fingerprint} | ticketed(ticket)
    audit.record("director.enrol", director, by=by, cluster=cluster, after=after, reason=reason)
    return job


@transaction.atomic
def release_director(director: Director, *, by: Actor, reason: str = "", ticket: str = "") -> None:
    """Take a director out of its cluster. Its kernel goes on forwarding what it has. Rejected where it is in
    none, or was moved meanwhile."""
    cluster = lock_cluster(director.cluster) if director.cluster else None
    # First the director and then its runs, in the order of a report that comes in at the same moment.
    if not cluster or not Director.objects.filter(pk=director.pk, cluster=cluster).update(cluster=None):
        raise Rejected(Problem("", f"{director} is not in this cluster any more. Look again."))
    director.cluster = None
    jobs.cancel_open_runs(director)
    # Where the others vote, it does not any more.
    told = because(f"{director} left {cluster}", reason)
    changes.carry_out(cluster, reason=told, ticket=ticket, by=by, needs="administer")
    before, after = {"fingerprint": director.fingerprint}, ticketed(ticket) or None
    audit.record(
        "director.release", director, by=by, cluster=cluster, before=before, after=after, reason=reason
    )


@transaction.atomic
def raise_epochs(*, by: Actor) -> list[Job]:
    """After a restored backup: directors refuse revisions lower than they have seen, unless the epoch is
    higher. Raises it for all and queues each cluster's newest revision, or what was in force before one that
    still waited to be confirmed or for its first director; the jobs."""
    made, gone_back = [], []
    # All of them before the first entry in the audit log, whose lock comes last.
    clusters = list(Cluster.objects.select_for_update(no_key=True).order_by("pk"))
    for cluster in clusters:
        directors = list(cluster.directors.all())
        for director in directors:
            director.epoch = max(director.epoch + 1, int(time.time()))
            director.save(update_fields=["epoch"])
        reason = "the panel was restored from a backup"
        if directors and (waiting := rollouts.waiting(cluster)):
            gone_back.append((waiting, rollouts.take_back(waiting, by=by, cause=reason)))
        elif directors and (revision := cluster.revisions.first()):
            made.append(_send(revision, directors, reason=reason, by=by))
    for rollout, job in gone_back:
        rollouts.record_going_back(rollout, job, by=by, cause=reason)
        made += [job] if job else []
    for cluster in clusters:
        audit.record("cluster.raise-epoch", cluster, by=by, cluster=cluster)
    return made


@transaction.atomic
def load_module(director: Director, *, module: str, by: Actor) -> Job:
    """Queue the loading of one of the modules that the director has reported as loadable."""
    known = [entry["name"] for entry in director.facts.get("modules", []) if entry.get("state") == "loadable"]
    if director.cluster is None or module not in known:
        raise Rejected(Problem("", f"{module} is not among the modules that {director} can load."))
    job = jobs.queue(
        kind=Job.Kind.LOAD_MODULE,
        cluster=director.cluster,
        directors=[director],
        by=by,
        module=module,
        needs="operate",
    )
    audit.record(
        "director.load-module", f"{module} on {director}", by=by, about=director, cluster=director.cluster
    )
    return job


def _send(revision: Revision, directors: list[Director], *, reason: str, by: Actor) -> Job:
    return jobs.queue(
        kind=Job.Kind.APPLY,
        cluster=revision.cluster,
        directors=directors,
        by=by,
        reason=reason,
        revision=revision,
    )
