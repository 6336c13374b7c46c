"""What the draft says otherwise than the newest revision, object by object, and who made it so."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cluster import desired
from cluster.approval import draft_edits
from cluster.ipvs.compare import Difference, compare
from cluster.models import AuditEntry, Cluster

# Of more edits than this without an apply the oldest are passed over.
MOST_EDITS = 5000


@dataclass(frozen=True)
class DraftChange:
    """One object, and the entries of the audit log that tell how it came to this, newest first."""

    difference: Difference
    edits: list[AuditEntry]


def draft_changes(cluster: Cluster) -> list[DraftChange]:
    """Every object of the draft that differs from the newest revision."""
    found = draft_differences(cluster)
    entries = list(draft_edits(cluster)[:MOST_EDITS]) if found else []
    return [DraftChange(one, list(_about(one, entries))) for one in found]


def draft_differences(cluster: Cluster) -> list[Difference]:
    return compare(desired.revision_said(cluster.revisions.first()), desired.draft_said(cluster))


def former_names(cluster: Cluster) -> dict[str, str]:
    """What services and backends that were removed since the last apply were called, by their target."""
    names: dict[str, str] = {}
    removed = draft_edits(cluster).filter(action__in=("service.remove", "backend.remove"))
    for entry in removed.order_by("sequence")[:MOST_EDITS]:
        before = entry.before or {}
        names[entry.target] = str(before.get("name", ""))
        for backend, name in before.get("backend_names", {}).items():
            names[f"{backend} of {entry.target}"] = str(name)
    return names


def _about(one: Difference, entries: Iterable[AuditEntry]) -> Iterable[AuditEntry]:
    """The edits of this object; where there is none, those of the whole draft, as an import is."""
    mine = [entry for entry in entries if _is_about(one, entry)]
    whole = ("cluster.import", "draft.discard-all", "draft.roll-back")
    return mine or [entry for entry in entries if entry.action in whole]


def _is_about(one: Difference, entry: AuditEntry) -> bool:
    within = f" of {one.service}"
    if one.noun == "policy":
        mine = entry.target == str(one.service) or entry.target.endswith(within)
        return mine and entry.action in ("service.set-policy", "backend.set-check", "draft.discard")
    if entry.action in ("service.set-policy", "backend.set-check"):
        return False
    if one.noun == "service" and one.kind != "change":
        return entry.target == str(one.service) or entry.target.endswith(within)
    return entry.target == one.target
