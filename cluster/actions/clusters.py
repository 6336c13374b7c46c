"""Clusters: create, edit, remove."""

from __future__ import annotations

import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields

from django.db import transaction

from cluster import audit
from cluster.actions.drafts import MOST_LINES
from cluster.actions.histories import Draft, draft_of, entries
from cluster.actions.problems import Rejected, judged_again, lock_cluster, save_if_unchanged, values
from cluster.audit import Actor
from cluster.ipvs.compare import Said
from cluster.ipvs.formats.document import from_document
from cluster.ipvs.formats.ipvsadm import save
from cluster.ipvs.rules import Problem
from cluster.ipvs.state import Table
from cluster.ipvs.tuning import switch_problems
from cluster.models import Cluster, Revision

NAMES = ("name", "description", "approvals", "ticket_url")
_NO_SWITCHES: Mapping[str, str] = {}


@dataclass(frozen=True)
class Conditions:
    """When a revision goes back by itself; the columns of Cluster with the same names."""

    confirm_min: int | None
    backends_percent: int | None
    connections_percent: int | None


CONDITIONS = tuple(field.name for field in fields(Conditions))


@transaction.atomic
def create_cluster(
    *,
    name: str,
    description: str,
    by: Actor,
    switches: Mapping[str, str] = _NO_SWITCHES,
    approvals: int = 0,
    ticket_url: str = "",
) -> Cluster:
    """Make an empty cluster. `switches` are what its directors are to have below net.ipv4.vs."""
    _refuse_taken_name(name)
    _refuse_odd_switches(switches)
    with judged_again(lambda: _refuse_taken_name(name)):
        cluster = Cluster.objects.create(
            uuid=uuid.uuid4(),
            name=name,
            description=description,
            switches=dict(switches),
            approvals=approvals,
            ticket_url=ticket_url,
            changed_by=by.name,
        )
    after = values(cluster, NAMES) | ({"switches": cluster.switches} if switches else {})
    audit.record("cluster.create", cluster, by=by, cluster=cluster, after=after)
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
def set_switches(cluster: Cluster, wanted: Mapping[str, str], *, seen_version: int, by: Actor) -> Cluster:
    """Say in the draft which switches below net.ipv4.vs its directors are to have, by name; each keeps what
    is not named. Rejected where one would not be taken, and where somebody was faster."""
    cluster = lock_cluster(cluster)
    before = cluster.switches
    # What a newer panel has set is not known here, and stays.
    _refuse_odd_switches({name: value for name, value in wanted.items() if before.get(name) != value})
    if wanted == before:
        return cluster
    cluster.switches = dict(wanted)
    save_if_unchanged(cluster, seen_version=seen_version, names=("switches",), by=by.name)
    audit.record(
        "cluster.switches",
        cluster,
        by=by,
        cluster=cluster,
        before={"switches": before},
        after={"switches": cluster.switches},
    )
    return cluster


@transaction.atomic
def set_conditions(cluster: Cluster, said: Conditions, *, seen_version: int, by: Actor) -> None:
    """What the form of an apply begins with; the directors never see it. Rejected where somebody was
    faster."""
    cluster = lock_cluster(cluster)
    before = values(cluster, CONDITIONS)
    for name, value in asdict(said).items():
        setattr(cluster, name, value)
    save_if_unchanged(cluster, seen_version=seen_version, names=CONDITIONS, by=by.name)
    after = values(cluster, CONDITIONS)
    audit.record("cluster.set-conditions", cluster, by=by, cluster=cluster, before=before, after=after)


@transaction.atomic
def remove_cluster(cluster: Cluster, *, by: Actor) -> None:
    """Remove the cluster from the panel, and its revisions with it; the log keeps the newest one's table. Its
    directors keep forwarding what they have; Rejected while it still has any, because nobody would look after
    their tables."""
    # A director may be joining at this very moment.
    cluster = lock_cluster(cluster)
    if cluster.directors.exists():
        raise Rejected(Problem("", f"{cluster} still has directors. Remove them from it first."))
    before = values(cluster, NAMES)
    if newest := cluster.revisions.first():
        lines = save(from_document(newest.table))[:MOST_LINES]
        before |= {"revision": newest.number, "table": lines}
    nothing = Draft(Said(Table(), {}, cluster.switches), {})
    said = entries("cluster.remove", draft_of(cluster), nothing, by=by, cluster=cluster)
    said.append(audit.entry("cluster.remove", cluster, by=by, cluster=cluster, before=before))
    revisions = Revision.objects.filter(cluster_id=cluster.pk).only("pk")
    cluster.delete()
    # In this order: while their cluster is there, the database refuses to delete them.
    revisions.delete()
    audit.record_all(said)


def _refuse_odd_switches(wanted: Mapping[str, str]) -> None:
    if problems := switch_problems(wanted):
        raise Rejected(*(Problem(name, text) for name, text in problems.items()))


def _refuse_taken_name(name: str, *, except_for: Cluster | None = None) -> None:
    taken = Cluster.objects.filter(name__iexact=name)
    if except_for is not None:
        taken = taken.exclude(pk=except_for.pk)
    if taken.exists():
        raise Rejected(Problem("name", f"There is a cluster named {name} already. Choose another name."))
