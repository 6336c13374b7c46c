"""The one way into the audit log, and the check that nobody came by another."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from django.db import transaction
from django.utils import timezone

from cluster.ipvs.formats.document import canonical_json
from cluster.models import AuditEntry, AuditHead, Cluster

FIRST_HASH = "0" * 64
# Who acts without being a person; nobody may have such a name.
RESERVED_NAMES = frozenset({"anonymous", "panel", "first_admin", "raise_epoch"})
DIRECTOR_PREFIX = "director "


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something: a person with an address and a request, a program with the token of an account, or
    a part of the system by name."""

    name: str
    address: str = ""
    request_id: str = ""
    user_id: int | None = None
    token: str = ""


PANEL = Actor("panel")


def is_reserved(name: str) -> bool:
    """Whether the log uses this name, in whatever case, for a part of the system."""
    plain = " ".join(name.lower().split())
    return plain in RESERVED_NAMES or plain.startswith(DIRECTOR_PREFIX)


def record(
    action: str,
    target: object,
    *,
    by: Actor,
    cluster: Cluster | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    result: str = "done",
    reason: str = "",
) -> AuditEntry:
    """Append one entry, in the caller's transaction if it has one. Texts that are too long are cut: a log
    must not fail because of its content.

    The lock on the head keeps the chain without gaps, and everybody who writes wants it. So this is the last
    thing that an action does: it takes every other lock (clusters, then directors, then runs) and makes every
    other change before. Two actions that did otherwise could wait for each other for ever."""
    with transaction.atomic():
        head = AuditHead.objects.select_for_update().get(pk=1)
        entry = AuditEntry(
            sequence=head.sequence + 1,
            at=timezone.now(),
            actor=by.name[:150],
            address=by.address[:45],
            request_id=by.request_id[:32],
            action=action[:40],
            target=str(target)[:200],
            cluster=cluster.name if cluster else "",
            cluster_uuid=str(cluster.uuid) if cluster else "",
            before=before,
            after=after,
            result=result[:16],
            # The token first: it says who it was, and a long reason is cut.
            reason=(f"By the token {by.token}. {reason}".strip() if by.token else reason)[:400],
            previous_hash=head.hash,
        )
        entry.hash = chained_hash(entry)
        entry.save()
        head.sequence, head.hash = entry.sequence, entry.hash
        head.save()
    return entry


def chained_hash(entry: AuditEntry) -> str:
    """SHA-256 over the previous hash and every other column."""
    content = {
        field.attname: getattr(entry, field.attname)
        for field in AuditEntry._meta.concrete_fields
        if field.attname not in ("id", "hash")
    }
    content["at"] = entry.at.isoformat()
    return hashlib.sha256(entry.previous_hash.encode() + canonical_json(content)).hexdigest()


def first_broken(entries: Iterable[AuditEntry]) -> int | None:
    """The sequence number where a chain, oldest entry first, stops being what was written; None for an
    intact one. That its end was cut off is seen by comparing with AuditHead."""
    expected, before = 1, FIRST_HASH
    for entry in entries:
        if entry.sequence != expected or entry.previous_hash != before or entry.hash != chained_hash(entry):
            return expected
        expected, before = expected + 1, entry.hash
    return None


def verify() -> int | None:
    """Check the stored log; the first bad sequence number, or None."""
    broken = first_broken(AuditEntry.objects.order_by("sequence").iterator(chunk_size=2000))
    if broken is not None:
        return broken
    head = AuditHead.objects.get(pk=1)
    last = AuditEntry.objects.order_by("-sequence").first()
    intact = (head.sequence, head.hash) == ((last.sequence, last.hash) if last else (0, FIRST_HASH))
    return None if intact else head.sequence
