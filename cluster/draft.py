"""What the draft says otherwise than the newest revision, object by object, and who made it so."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

from cluster import desired
from cluster.approval import draft_edits
from cluster.ipvs.compare import ALL_DIRECTORS, Difference, compare
from cluster.models import AuditEntry, Cluster

# Of more edits than this without an apply that stays the oldest are passed over.
MOST_EDITS = 5000
# Edits of the whole draft: what they did to an object they tell of each, and the whole in one entry more.
_WHOLE = ("cluster.import", "draft.discard-all", "draft.roll-back")
# The reason of a backend's entry where the service's own tells what was done.
WITH_ITS_SERVICE = "with its service"
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
    # For what an older release wrote down of the whole alone.
    whole = [entry for entry in entries if entry.action in _WHOLE and not _what(entry)]
    by_service = defaultdict(list)
    for entry in entries:
        # Of a backend it is "192.0.2.11:80 of TCP 192.0.2.1:80".
        place = ALL_DIRECTORS if entry.action == "cluster.switches" else entry.target.rpartition(" of ")[2]
        by_service[place].append(entry)
    changes = []
    for one in found:
        place = str(one.service or ALL_DIRECTORS)
        mine = [entry for entry in by_service[place] if _is_about(one, entry)]
        changes.append(DraftChange(one, mine or whole))
    return changes


def draft_differences(cluster: Cluster) -> list[Difference]:
    return compare(desired.revision_said(cluster.revisions.first()), desired.draft_said(cluster))


def former_names(cluster: Cluster) -> dict[str, str]:
    """What services and backends that were removed from what is in force were called, by their target."""
    names: dict[str, str] = {}
    removed = draft_edits(cluster).filter(action__in=("service.remove", "backend.remove"))
    for entry in removed.order_by("sequence")[:MOST_EDITS]:
        names[entry.target] = str((entry.before or {}).get("name", ""))
    return names


def _what(entry: AuditEntry) -> str:
    """The noun of a difference, in an entry of draft.discard or of what writes the whole draft."""
    return str((entry.after or entry.before or {}).get("what", ""))


def _is_about(one: Difference, entry: AuditEntry) -> bool:
    """Of an edit of this service or of one of its backends, or of the switches."""
    if one.noun == "switches":
        return True
    if one.noun == "policy":
        return entry.action in _OF_POLICIES or _what(entry) == "policy"
    if entry.action in _OF_POLICIES or _what(entry) in ("policy", "check"):
        return False
    if entry.target == one.target:
        return True
    return one.noun == "service" and one.kind != "change" and not entry.reason.endswith(WITH_ITS_SERVICE)
