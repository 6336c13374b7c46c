"""Directors: add to a cluster, remove from it, load a kernel module."""

from __future__ import annotations

import time

from django.db import transaction
from django.utils import timezone

from cluster import audit, jobs
from cluster.actions.problems import Rejected
from cluster.audit import Actor
from cluster.ipvs.rules import Problem
from cluster.models import Cluster, Director, Job


@transaction.atomic
def enrol_director(director: Director, cluster: Cluster, *, seen_fingerprint: str, by: Actor) -> Job | None:
    """Add a waiting director to a cluster. `seen_fingerprint` is what the operator compared with the machine;
    Rejected where the director announces another key by now. If the cluster has a revision, it is sent
    there at once and its job is returned."""
    if director.fingerprint != seen_fingerprint:
        text = f"{director} announces another key now: {director.fingerprint}. Compare it again."
        raise Rejected(Problem("", text))
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
    audit.record(
        "director.enrol", director, by=by, cluster=cluster, after={"fingerprint": director.fingerprint}
    )
    revision = cluster.revisions.first()
    if revision is None:
        return None
    reason = f"{director} joined {cluster}"
    return jobs.queue(
        kind=Job.Kind.APPLY, cluster=cluster, directors=[director], by=by, reason=reason, revision=revision
    )


@transaction.atomic
def release_director(director: Director, *, by: Actor) -> None:
    """Take a director out of its cluster. Its kernel goes on forwarding what it has."""
    cluster = director.cluster
    audit.record(
        "director.release", director, by=by, cluster=cluster, before={"fingerprint": director.fingerprint}
    )
    jobs.cancel_open_runs(director)
    director.cluster = None
    director.save(update_fields=["cluster"])


@transaction.atomic
def raise_epochs(*, by: Actor) -> list[Job]:
    """After a restored backup: directors refuse revisions lower than they have seen, unless the epoch is
    higher. Raises it for all and queues each cluster's newest revision; the jobs."""
    made = []
    for cluster in Cluster.objects.all():
        directors = list(cluster.directors.all())
        for director in directors:
            director.epoch = max(director.epoch + 1, int(time.time()))
            director.save(update_fields=["epoch"])
        audit.record("cluster.raise-epoch", cluster, by=by, cluster=cluster)
        if directors and (revision := cluster.revisions.first()):
            made.append(
                jobs.queue(
                    kind=Job.Kind.APPLY,
                    cluster=cluster,
                    directors=directors,
                    by=by,
                    reason="the panel was restored from a backup",
                    revision=revision,
                )
            )
    return made


@transaction.atomic
def load_module(director: Director, *, module: str, by: Actor) -> Job:
    """Queue the loading of one of the modules that the director has reported as loadable."""
    known = [entry["name"] for entry in director.facts.get("modules", []) if entry.get("state") == "loadable"]
    if director.cluster is None or module not in known:
        raise Rejected(Problem("", f"{module} is not among the modules that {director} can load."))
    job = jobs.queue(
        kind=Job.Kind.LOAD_MODULE, cluster=director.cluster, directors=[director], by=by, module=module
    )
    audit.record("director.load-module", f"{module} on {director}", by=by, cluster=director.cluster)
    return job
