"""What directors say of drift: rows and the log; and the three ways in which a page shows each thing."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from django.utils import timezone

from cluster import audit, desired
from cluster.ipvs.drift import Value, in_words
from cluster.ipvs.formats.document import canonical_json, from_document
from cluster.ipvs.state import Table
from cluster.models import Backend, Cluster, Director, Drift, Revision, VirtualService
from cluster.seen import print_of
from cluster.wire import envelope
from cluster.wire.drifted import (
    Drifted,
    DriftTold,
    label,
    place_to_document,
    thing_in,
    value_in,
    value_to_document,
)
from cluster.wire.messages import Report

DraftRow = VirtualService | Backend

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Shown:
    """One thing in words: what it should be now, what the last applied revision says, what it is, and what
    the draft says where that is something else than was applied. `seen` and `seen_draft` are what a button
    beside it carries: the prints of this, and of the draft's row."""

    row: Drift
    wanted: str
    applied: str
    actual: str
    draft: str
    seen: str
    seen_draft: str


def note(director: Director, report: Report) -> None:
    """Rows for what is wrong now, an end for what is not any more, and an entry in the log for each, within
    the caller's transaction. A report from before the director joined its present cluster says nothing."""
    cluster = director.cluster
    if cluster is None or report.epoch != director.epoch:
        return
    try:
        told = DriftTold.from_payload(report.payload)
    except envelope.Refused as refusal:
        logger.warning("report unreadable, director=%s error=%s", director, refusal)
        return
    Director.objects.filter(pk=director.pk).update(untold_drift=told.more)
    known = {row.label: row for row in director.drifts.filter(gone_at=None)}
    healed = {label(one.thing)[:200] for one in told.healed}
    entries: list[tuple[str, str, dict[str, Any]]] = []
    for one in told.objects:
        name = label(one.thing)[:200]
        row = known.pop(name, None)
        if row is None:
            row = Drift(cluster=cluster, director=director, label=name, place=place_to_document(one.thing))
            entries.append(("drift.found", name, _said(one)))
        if one.fought and not row.fought:
            entries.append(("drift.fought", name, _said(one)))
        _take(row, cluster, one)
    entries += [("drift.healed", label(one.thing), _said(one)) for one in told.healed]
    for name, row in known.items() if not told.more else ():
        row.gone_at, row.healed = timezone.now(), name in healed
        row.save(update_fields=["gone_at", "healed"])
        entries.append(("drift.gone", name, {"before": row.actual, "after": row.wanted}))
    about = desired.spoken_of(cluster.pk, {name for _, name, _ in entries}) if entries else {}
    audit.record_all(
        [
            audit.entry(
                action,
                f"{name} on {director}",
                by=audit.director_actor(director.name),
                about=about.get(name),
                cluster=cluster,
                **_sides(said),
            )
            for action, name, said in entries
        ]
    )


def shown(cluster: Cluster) -> list[Shown]:
    """The open drift of the cluster."""
    rows = list(cluster.drifts.open().select_related("director"))
    numbers = {row.director.applied_revision for row in rows}
    applied = {
        revision.number: from_document(revision.table)
        for revision in Revision.objects.filter(cluster=cluster, number__in=numbers)
    }
    draft = desired.spoken_of(cluster.pk, {row.label for row in rows}) if rows else {}
    return [
        _shown(row, applied.get(row.director.applied_revision, Table()), draft.get(row.label)) for row in rows
    ]


def seen_of(row: Drift) -> str:
    """Differs where the thing drifted otherwise, or is to be another one."""
    return hashlib.sha256(canonical_json([row.pk, row.wanted, row.actual])).hexdigest()


def seen_draft_of(row: Drift, draft: DraftRow | None) -> str:
    """Differs whenever somebody has edited what adopting this would write: of a service that is gone from the
    kernel its backends as well."""
    is_header = isinstance(draft, VirtualService) and row.actual is not None
    return print_of(draft, with_backends=not is_header)


def value(row: Drift, side: str) -> Value:
    """`wanted` or `actual` of a row."""
    return value_in(getattr(row, side), thing_in(row.place))


def _shown(row: Drift, table: Table, draft: DraftRow | None) -> Shown:
    key, backend = thing_in(row.place)
    service = table.by_key.get(key)
    held: Value = service
    if backend is not None and service is not None:
        held = next((one for one in service.backends if one.key == backend), None)
    wanted, applied, actual = map(in_words, (value(row, "wanted"), held, value(row, "actual")))
    drafted = _drafted(draft)
    said = "" if drafted == applied else drafted + (f", by {draft.changed_by}" if draft else "")
    return Shown(row, wanted, applied, actual, said, seen_of(row), seen_draft_of(row, draft))


def _drafted(draft: DraftRow | None) -> str:
    if isinstance(draft, Backend):
        return in_words(desired.backend_value(draft))
    return in_words(desired.service_value(draft, with_backends=False) if draft else None)


def _take(row: Drift, cluster: Cluster, one: Drifted) -> None:
    row.cluster, row.fought = cluster, one.fought
    row.wanted, row.actual = value_to_document(one.wanted), value_to_document(one.actual)
    row.right_at, row.wrong_at = (datetime.fromtimestamp(at, UTC) for at in (one.right_at, one.wrong_at))
    row.save()


def _said(one: Drifted) -> dict[str, Any]:
    window = {"right_at": one.right_at, "wrong_at": one.wrong_at}
    sides = {"before": value_to_document(one.wanted), "after": value_to_document(one.actual)}
    return sides | {"window": window}


def _sides(said: dict[str, Any]) -> dict[str, Any]:
    """As the log holds them: what should be before, what is after, and when it happened."""
    before, after = (said[side] or {"absent": True} for side in ("before", "after"))
    return {"before": before, "after": after | said.get("window", {})}
