"""Clusters: create, edit, remove."""

from __future__ import annotations

import uuid

from django.db import transaction

from cluster import audit
from cluster.actions.problems import Rejected, judged_again, lock_cluster, values
from cluster.audit import Actor
from cluster.ipvs.rules import Problem
from cluster.models import Cluster

NAMES = ("name", "description")
CONDITIONS = ("confirm_min", "backends_percent", "connections_percent")


@transaction.atomic
def create_cluster(*, name: str, description: str, by: Actor) -> Cluster:
    """Make an empty cluster."""
    _refuse_taken_name(name)
    with judged_again(lambda: _refuse_taken_name(name)):
        cluster = Cluster.objects.create(uuid=uuid.uuid4(), name=name, description=description)
    audit.record("cluster.create", cluster, by=by, cluster=cluster, after=values(cluster, NAMES))
    return cluster


@transaction.atomic
def edit_cluster(cluster: Cluster, *, name: str, description: str, by: Actor) -> None:
    """Change name and description; the directors never see either."""
    _refuse_taken_name(name, except_for=cluster)
    before = values(cluster, NAMES)
    cluster.name, cluster.description = name, description
    with judged_again(lambda: _refuse_taken_name(name, except_for=cluster)):
        cluster.save(update_fields=NAMES)
    audit.record("cluster.edit", cluster, by=by, cluster=cluster, before=before, after=values(cluster, NAMES))


@transaction.atomic
def set_conditions(
    cluster: Cluster,
    *,
    confirm_min: int | None,
    backends_percent: int | None,
    connections_percent: int | None,
    by: Actor,
) -> None:
    """What the form of an apply begins with; the directors never see it."""
    before = values(cluster, CONDITIONS)
    cluster.confirm_min, cluster.backends_percent = confirm_min, backends_percent
    cluster.connections_percent = connections_percent
    cluster.save(update_fields=CONDITIONS)
    after = values(cluster, CONDITIONS)
    audit.record("cluster.set-conditions", cluster, by=by, cluster=cluster, before=before, after=after)


@transaction.atomic
def remove_cluster(cluster: Cluster, *, by: Actor) -> None:
    """Remove the cluster from the panel. Its directors keep forwarding what they have; Rejected while it
    still has any, because nobody would look after their tables."""
    # A director may be joining at this very moment.
    lock_cluster(cluster)
    if cluster.directors.exists():
        raise Rejected(Problem("", f"{cluster} still has directors. Remove them from it first."))
    cluster.delete()
    audit.record("cluster.remove", cluster, by=by, cluster=cluster, before=values(cluster, NAMES))


def _refuse_taken_name(name: str, *, except_for: Cluster | None = None) -> None:
    taken = Cluster.objects.filter(name__iexact=name)
    if except_for is not None:
        taken = taken.exclude(pk=except_for.pk)
    if taken.exists():
        raise Rejected(Problem("name", f"There is a cluster named {name} already. Choose another name."))
