"""What the draft says otherwise than the newest revision, object by object, and who made it so."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from cluster import desired
from cluster.approval import draft_edits
from cluster.ipvs.compare import Difference, compare
from cluster.models import AuditEntry, Cluster

# Of more edits than this without an apply that stays the oldest are passed over.
MOST_EDITS = 5000
# Edits of the whole draft: they tell who, where none tells of the object itself.
_WHOLE = ("cluster.import", "draft.discard-all", "draft.roll-back")
_OF_POLICIES = ("service.set-policy", "backend.set-check")


@dataclass(frozen=True)
class DraftChange:
    """One object, and the entries of the audit log that tell how it came to this, newest first."""

    difference: Difference
    edits: list[AuditEntry]


def draft_changes(cluster: Cluster) -> list[DraftChange]:
    """Every object of the draft that differs from the newest revision."""
    found = draft_differences(cluster)
    entries = list(draft_edits(cluster)[:MOST_EDITS]) if found else []
    whole = [entry for entry in entries if entry.action in _WHOLE]
    by_service = defaultdict(list)
    for entry in entries:
        # Of a backend it is "192.0.2.11:80 of TCP 192.0.2.1:80".
        by_service[entry.target.rpartition(" of ")[2]].append(entry)
    changes = []
    for one in found:
        mine = [entry for entry in by_service[_service_of(one, cluster)] if _is_about(one, entry)]
        changes.append(DraftChange(one, mine or whole))
    return changes


def draft_differences(cluster: Cluster) -> list[Difference]:
    return compare(desired.revision_said(cluster.revisions.first()), desired.draft_said(cluster))


def former_names(cluster: Cluster) -> dict[str, str]:
    """What services and backends that were removed from what is in force were called, by their target."""
    names: dict[str, str] = {}
    removed = draft_edits(cluster).filter(action__in=("service.remove", "backend.remove"))
    for entry in removed.order_by("sequence")[:MOST_EDITS]:
        before = entry.before or {}
        names[entry.target] = str(before.get("name", ""))
        for backend, name in before.get("backend_names", {}).items():
            names[f"{backend} of {entry.target}"] = str(name)
    return names


def _service_of(one: Difference, cluster: Cluster) -> str:
    """As the audit log names it; the switches are the cluster's."""
    return str(one.service or cluster)


def _is_about(one: Difference, entry: AuditEntry) -> bool:
    """Of an edit of this service or of one of its backends."""
    if one.noun == "switches" or entry.action == "cluster.switches":
        return one.noun == "switches" and entry.action == "cluster.switches"
    if one.noun == "policy" or entry.action in _OF_POLICIES:
        return one.noun == "policy" and entry.action in (*_OF_POLICIES, "draft.discard")
    return entry.target == one.target or (one.noun == "service" and one.kind != "change")
