"""Clusters: create, edit, remove."""

from __future__ import annotations

import uuid
from collections.abc import Mapping

from django.db import transaction

from cluster import audit
from cluster.actions.problems import Rejected, judged_again, lock_cluster, values
from cluster.audit import Actor
from cluster.ipvs.rules import Problem
from cluster.ipvs.tuning import switch_problems
from cluster.models import Cluster

NAMES = ("name", "description")
_NO_SWITCHES: Mapping[str, str] = {}


@transaction.atomic
def create_cluster(
    *, name: str, description: str, switches: Mapping[str, str] = _NO_SWITCHES, by: Actor
) -> Cluster:
    """Make an empty cluster. `switches` are what its directors are to have below net.ipv4.vs."""
    _refuse_taken_name(name)
    _refuse_odd_switches(switches)
    with judged_again(lambda: _refuse_taken_name(name)):
        cluster = Cluster.objects.create(
            uuid=uuid.uuid4(), name=name, description=description, switches=dict(switches)
        )
    after = values(cluster, NAMES) | ({"switches": cluster.switches} if switches else {})
    audit.record("cluster.create", cluster, by=by, cluster=cluster, after=after)
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
def set_switches(
    cluster: Cluster, wanted: Mapping[str, str], *, seen: Mapping[str, str], by: Actor
) -> Cluster:
    """Say in the draft which switches below net.ipv4.vs its directors are to have, by name; each keeps what
    is not named. Rejected where one would not be taken, and where somebody changed those that were `seen`."""
    cluster = lock_cluster(cluster)
    if cluster.switches != seen:
        text = (
            "Somebody has changed the switches since you opened this form. Nothing was saved; open it again."
        )
        raise Rejected(Problem("", text))
    # What a newer panel has set is not known here, and stays.
    _refuse_odd_switches({name: value for name, value in wanted.items() if seen.get(name) != value})
    if wanted == seen:
        return cluster
    cluster.switches = dict(wanted)
    cluster.save(update_fields=["switches"])
    audit.record(
        "cluster.switches",
        cluster,
        by=by,
        cluster=cluster,
        before={"switches": dict(seen)},
        after={"switches": cluster.switches},
    )
    return cluster


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


def _refuse_odd_switches(wanted: Mapping[str, str]) -> None:
    if problems := switch_problems(wanted):
        raise Rejected(*(Problem(name, text) for name, text in problems.items()))


def _refuse_taken_name(name: str, *, except_for: Cluster | None = None) -> None:
    taken = Cluster.objects.filter(name__iexact=name)
    if except_for is not None:
        taken = taken.exclude(pk=except_for.pk)
    if taken.exists():
        raise Rejected(Problem("name", f"There is a cluster named {name} already. Choose another name."))
