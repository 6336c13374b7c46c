"""What the draft says otherwise than the newest revision, object by object, and who made it so."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass, replace

from django.db.models import Model
from django.db.models.fields.json import KT

from cluster import desired
from cluster.approval import draft_edits
from cluster.ipvs.compare import ALL_DIRECTORS, Difference, compare
from cluster.models import AuditEntry, Backend, Cluster, VirtualService

# Of more edits than this without an apply that stays the oldest are passed over.
MOST_EDITS = 5000
# A table of so many backends that was removed at once comes back as it was.
MOST_REMOVALS = 100_000
# Edits of the whole draft: what they did to an object they tell of each, and the whole in one entry more.
_WHOLE = ("cluster.import", "draft.discard-all", "draft.roll-back")
_REMOVALS = ("service.remove", "backend.remove", "draft.discard", *_WHOLE)
_MODELS: dict[str, type[Model]] = {"service": VirtualService, "backend": Backend}
# The reason of a backend's entry where the service's own tells what was done.
WITH_ITS_SERVICE = "with its service"
_OF_POLICIES = ("service.set-policy", "backend.set-check")


@dataclass(frozen=True)
class DraftChange:
    """One object, and the entries of the audit log that tell how it came to this, newest first."""

    difference: Difference
    edits: list[AuditEntry]


@dataclass(frozen=True, slots=True)
class Former:
    """A service or backend that was removed: the id that it had, None where that is another row's now, its
    name, and its version, which goes on: a form that was opened before must not fit again."""

    pk: int | None = None
    name: str = ""
    version: int = 0


def draft_changes(cluster: Cluster) -> list[DraftChange]:
    """Every object of the draft that differs from the newest revision."""
    found = draft_differences(cluster)
    entries = list(draft_edits(cluster)[:MOST_EDITS]) if found else []
    # For what lies beyond MOST_EDITS, and what an older release wrote down of the whole alone.
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


def former(cluster: Cluster, targets: Collection[str]) -> dict[str, Former]:
    """What the audit log knows of those of these targets that were removed from the draft, whenever that was:
    the newest MOST_REMOVALS of the cluster are looked at."""
    if not targets:
        return {}
    removed = AuditEntry.objects.filter(cluster_uuid=str(cluster.uuid), action__in=_REMOVALS, result="done")
    # What an entry tells the removal of has nothing after it.
    removed = removed.filter(after__isnull=True, object_kind__in=_MODELS).order_by("-sequence")
    said = removed.values_list(
        "target", "object_kind", "object_id", KT("before__name"), KT("before__version")
    )
    found: dict[str, Former] = {}
    ids: dict[str, dict[int, str]] = {kind: {} for kind in _MODELS}
    for target, kind, pk, name, version in said[:MOST_REMOVALS]:
        if target in targets and target not in found:
            found[target] = Former(None, name or "", int(version or 0))
            if pk.isdecimal():
                # Who had two addresses one after the other comes back at the last.
                ids[kind].setdefault(int(pk), target)
    for kind, model in _MODELS.items():
        taken = model._default_manager.only("pk").in_bulk(ids[kind])
        for pk, target in ids[kind].items():
            if pk not in taken:
                found[target] = replace(found[target], pk=pk)
    return found


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
