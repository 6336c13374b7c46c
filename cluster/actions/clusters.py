"""Clusters: create, edit, remove."""

from __future__ import annotations

import uuid

from django.db import transaction

from cluster import audit
from cluster.actions.problems import Rejected, judged_again, lock_cluster, save_if_unchanged, values
from cluster.audit import Actor
from cluster.ipvs.rules import Problem
from cluster.models import Cluster

NAMES = ("name", "description", "approvals", "ticket_url")


@transaction.atomic
def create_cluster(
    *, name: str, description: str, by: Actor, approvals: int = 0, ticket_url: str = ""
) -> Cluster:
    """Make an empty cluster."""
    _refuse_taken_name(name)
    with judged_again(lambda: _refuse_taken_name(name)):
        cluster = Cluster.objects.create(
            uuid=uuid.uuid4(),
            name=name,
            description=description,
            approvals=approvals,
            ticket_url=ticket_url,
            changed_by=by.name,
        )
    audit.record("cluster.create", cluster, by=by, cluster=cluster, after=values(cluster, NAMES))
    return cluster


@transaction.atomic
def edit_cluster(
    cluster: Cluster,
    *,
    name: str,
    description: str,
    seen_version: int,
    by: Actor,
    approvals: int = 0,
    ticket_url: str = "",
    reason: str = "",
) -> None:
    """Change the settings; the directors never see one. Rejected where somebody was faster.

    Who lowers `approvals` lets changes pass that fewer others looked at: that is the way in an emergency, and
    it needs a reason."""
    cluster = lock_cluster(cluster)
    _refuse_taken_name(name, except_for=cluster)
    before = values(cluster, NAMES)
    if approvals < cluster.approvals and not reason.strip():
        text = "Say why fewer people than before have to approve a change. It is kept in the audit log."
        raise Rejected(Problem("reason", text))
    cluster.name, cluster.description = name, description
    cluster.approvals, cluster.ticket_url = approvals, ticket_url
    with judged_again(lambda: _refuse_taken_name(name, except_for=cluster)):
        save_if_unchanged(cluster, seen_version=seen_version, names=NAMES, by=by.name)
    after = values(cluster, NAMES)
    audit.record("cluster.edit", cluster, by=by, cluster=cluster, before=before, after=after, reason=reason)


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
