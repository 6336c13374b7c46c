"""The one way into the audit log: an entry, or many under one lock."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import transaction
from django.db.models import Model
from django.utils import timezone

from cluster.audit import mark
from cluster.audit.chain import FORMAT, as_line, chained_hash
from cluster.ipvs.formats.document import canonical_json
from cluster.models import AuditEntry, AuditHead, Cluster

# Who acts without being a person; nobody may have such a name.
RESERVED_NAMES = frozenset(
    {"anonymous", "panel", "first_admin", "raise_epoch", "audit_seal", "audit_drop", "audit_verify"}
)
DIRECTOR_PREFIX = "director "
# What operators call a record, where that is not the name of its model.
_KINDS = {"virtualservice": "service", "user": "person", "weightprofile": "profile", "apitoken": "token"}
# From here on Python writes a float with an exponent, and PostgreSQL keeps it as the integer that it is.
_FLOATS_ARE_INTEGERS_FROM = 1e16


@dataclass(frozen=True, slots=True)
class Actor:
    """Who does something: a person with an address and a request, a program with the token of an account, or
    a part of the system by name. `role` is the one by which it may; `session` is a fingerprint of the session
    or token, never the thing itself; `token` is that one's name."""

    name: str
    address: str = ""
    request_id: str = ""
    user_id: int | None = None
    role: str = ""
    session: str = ""
    token: str = ""


PANEL = Actor("panel")


def director_actor(name: str, request_id: str = "") -> Actor:
    """The director of this name, for what it did by itself or because of a request."""
    return Actor(f"director {name}", request_id=request_id)


def is_reserved(name: str) -> bool:
    """Whether the log uses this name, in whatever case, for a part of the system."""
    plain = " ".join(name.lower().split())
    return plain in RESERVED_NAMES or plain.startswith(DIRECTOR_PREFIX)


def object_of(record: Model) -> tuple[str, str]:
    """The kind and the id under which the log knows a record. A cluster's uuid is what a removed one still
    has."""
    name = str(record._meta.model_name)
    return _KINDS.get(name, name), str(record.uuid if isinstance(record, Cluster) else record.pk or "")


def record(
    action: str,
    target: object,
    *,
    by: Actor,
    about: Model | None = None,
    cluster: Cluster | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    result: str = "done",
    reason: str = "",
) -> AuditEntry:
    """Append one entry, in the caller's transaction if it has one. `about` is the record whose history it
    belongs to, where `target` is only its description. Texts that are too long are cut: a log must not fail
    because of its content.

    The lock on the head keeps the chain without gaps, and everybody who writes wants it. So this is the last
    thing that an action does: it takes every other lock (clusters, then directors, then runs) and makes every
    other change before. Two actions that did otherwise could wait for each other for ever."""
    said = entry(
        action,
        target,
        by=by,
        about=about,
        cluster=cluster,
        before=before,
        after=after,
        result=result,
        reason=reason,
    )
    record_all([said])
    return said


def entry(
    action: str,
    target: object,
    *,
    by: Actor,
    about: Model | None = None,
    cluster: Cluster | None = None,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
    result: str = "done",
    reason: str = "",
) -> AuditEntry:
    """An entry as `record` describes it, without its place in the chain: for `record_all`."""
    about = about or (target if isinstance(target, Model) else None)
    kind, pk = object_of(about) if about is not None else ("", "")
    return AuditEntry(
        format=FORMAT,
        actor=_text(by.name, 150),
        role=_text(by.role, 40),
        session=_text(by.session, 24),
        address=_text(by.address, 45),
        request_id=_text(by.request_id, 32),
        action=_text(action, 40),
        target=_text(str(target), 200),
        object_kind=_text(kind, 16),
        object_id=_text(pk, 40),
        cluster=cluster.name if cluster else "",
        cluster_uuid=str(cluster.uuid) if cluster else "",
        before=_values(before),
        after=_values(after),
        result=_text(result, 16),
        # The token first: it says who it was, and a long reason is cut.
        reason=_text(f"By the token {by.token}. {reason}".strip() if by.token else reason, 400),
    )


def record_all(entries: Sequence[AuditEntry]) -> None:
    """Append them in this order, as `record` does one, and as the last thing of an action. The head is locked
    once, and all that does not depend on it was done before."""
    if not entries:
        return
    # A savepoint of its own would be two more questions to the database, while everybody waits for the head.
    with transaction.atomic(savepoint=False):
        head = AuditHead.objects.select_for_update().get(pk=1)
        sequence, before, at = head.sequence, head.hash, timezone.now()
        for said in entries:
            sequence += 1
            said.sequence, said.at, said.previous_hash = sequence, at, before
            said.hash = before = chained_hash(as_line(said))
        AuditEntry.objects.bulk_create(entries)
        AuditHead.objects.filter(pk=1).update(sequence=sequence, hash=before)
        moved = partial(mark.move, sequence, before, after=head.sequence, before=head.hash)
        # Robust: what is done is done, and whoever did it must not be told otherwise.
        transaction.on_commit(moved, robust=True)


def _text(text: str, most: int) -> str:
    """What every database keeps as it is: no NUL, no half of a character."""
    return text[:most].encode(errors="replace").decode().replace("\0", "\N{REPLACEMENT CHARACTER}")


def _values(said: dict[str, Any] | None) -> dict[str, Any] | None:
    """The values as they come back from either database, or the hash would not fit what is read."""
    if said is None:
        return None
    text = json.dumps(said, allow_nan=False).replace("\\u0000", "\\ufffd")
    if "\\ud" in text:
        text = json.dumps(json.loads(text), ensure_ascii=False).encode(errors="replace").decode()
    values: dict[str, Any] = json.loads(canonical_json(json.loads(text)), parse_float=_number)
    return values


def _number(text: str) -> float | int:
    value = float(text)
    # `or` for a zero with a sign, which PostgreSQL does not keep.
    return int(value) if abs(value) >= _FLOATS_ARE_INTEGERS_FROM else value or 0.0
