"""The chain: what the hash of an entry covers, and where a log stops being what was written.

An entry is walked as its line: the columns by name, the time as text. A line of the export is the same as
JSON, and deploy/audit_verify_export.py, which knows nothing of this tree, checks it in the same way."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from django.db.models import QuerySet

from cluster.models import AuditEntry, AuditHead

FIRST_HASH = "0" * 64
BATCH = 2000

_FIRST_FORMAT = (
    *("sequence", "at", "actor", "address", "request_id", "action", "target", "cluster", "cluster_uuid"),
    *("before", "after", "result", "reason", "previous_hash"),
)
_SECOND_FORMAT = (*_FIRST_FORMAT, "format", "role", "session", "object_kind", "object_id")
# What the hash covers, by the entry's format. A format never changes: a new column makes a new one.
COVERED = {1: _FIRST_FORMAT, 2: _SECOND_FORMAT}
FORMAT = max(COVERED)
COLUMNS = (*COVERED[FORMAT], "hash")
# Old entries have these columns as well, and nobody vouches for what stands there.
UNCOVERED = {
    number: [name for name in COLUMNS[:-1] if name not in names] for number, names in COVERED.items()
}

Line = dict[str, Any]
encode = json.JSONEncoder(
    sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False, check_circular=False
).encode


@dataclass(frozen=True, slots=True)
class Broken:
    """Where a chain stops being what was written, and how one sees it. With `until` it is one of the entries
    up to there that is wrong, and which cannot be told."""

    sequence: int
    why: str
    until: int = 0

    def __str__(self) -> str:
        return f"#{self.sequence}: {self.why}"


@dataclass(frozen=True, slots=True)
class Walked:
    """How far a chain was good: its last good entry, and what is wrong with the next."""

    sequence: int
    hash: str
    broken: Broken | None


def as_line(entry: AuditEntry) -> Line:
    line = {name: getattr(entry, name) for name in COLUMNS}
    line["at"] = entry.at.isoformat()
    return line


def lines(
    entries: QuerySet[AuditEntry] | None = None, *, after: int = 0, through: int | None = None
) -> Iterator[Line]:
    """The stored entries, all or those chosen, in their order, a batch at a time: the log only grows, so that
    with an upper end many short questions see the same as one long transaction, which would hold up the
    database."""
    at = COLUMNS.index("at")
    # A plain loop over plain tuples: a million models would take four times as long.
    chosen = AuditEntry.objects.all() if entries is None else entries
    rows = chosen.order_by("sequence").values_list(*COLUMNS)
    if through is not None:
        rows = rows.filter(sequence__lte=through)
    while batch := list(rows.filter(sequence__gt=after)[:BATCH]):
        for row in batch:
            line = dict(zip(COLUMNS, row, strict=True))
            line["at"] = row[at].isoformat()
            yield line
        after = line["sequence"]


def chained_hash(line: Line) -> str:
    """SHA-256 over the hash before and what the entry's format covers, as canonical JSON."""
    content = {name: line[name] for name in COVERED[line["format"]]}
    return hashlib.sha256((line["previous_hash"] + encode(content)).encode()).hexdigest()


def walk(chain: Iterable[Line], *, after: int = 0, before: str = FIRST_HASH) -> Walked:
    """Go on from entry `after`, whose hash is `before`, to the first entry that cannot follow, or to the end.
    That the end was cut off is seen by comparing with the head, and with checkpoints."""
    for line in chain:
        if why := _fault(line, after + 1, before):
            return Walked(after, before, Broken(after + 1, why))
        after, before = after + 1, line["hash"]
    return Walked(after, before, None)


def first_broken(chain: Iterable[Line], *, after: int = 0, before: str = FIRST_HASH) -> Broken | None:
    """The first entry that cannot follow entry `after`, whose hash is `before`; None for an intact chain."""
    return walk(chain, after=after, before=before).broken


def verify(*, after: int = 0, before: str = FIRST_HASH, head: AuditHead | None = None) -> Broken | None:
    """Check the stored log from its begin, or from an entry that is known to be good, to its head, of now or
    as it was read before."""
    head = head or AuditHead.objects.get(pk=1)
    if after < head.sealed_sequence:
        after, before = head.sealed_sequence, head.sealed_hash
    broken = first_broken(lines(after=after, through=head.sequence), after=after, before=before)
    return broken or _end_broken(head)


def _fault(line: Line, expected: int, before: str) -> str:
    if line["sequence"] != expected:
        return f"It is missing; #{line['sequence']} comes instead."
    if line["previous_hash"] != before:
        return "It does not follow the entry before it."
    if line["format"] not in COVERED:
        return f"Its format {line['format']} is not known."
    if line["hash"] != chained_hash(line):
        return "It does not have the content that it was written with."
    if any(line[name] for name in UNCOVERED[line["format"]] if name != "format"):
        return "It has a value where entries of its format have none."
    return ""


def _end_broken(head: AuditHead) -> Broken | None:
    last = AuditEntry.objects.order_by("-sequence").filter(sequence__lte=head.sequence).first()
    end = (last.sequence, last.hash) if last else (head.sealed_sequence, head.sealed_hash)
    if (head.sequence, head.hash) != end:
        return Broken(end[0] + 1, f"The log ends before it; its head says #{head.sequence}.")
    beyond = AuditEntry.objects.filter(sequence__gt=head.sequence).order_by("sequence").first()
    return _beyond(beyond, head) if beyond else None


def _beyond(entry: AuditEntry, head: AuditHead) -> Broken | None:
    """An entry after the head is one that was written meanwhile, unless the head has stayed."""
    if AuditHead.objects.get(pk=1).sequence > head.sequence:
        return None
    return Broken(entry.sequence, f"It comes after the head, which says #{head.sequence}.")
