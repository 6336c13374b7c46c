"""What is signed about the log: that an entry had its hash at a time, with a key outside of the database."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache, lru_cache
from typing import Any

from django.conf import settings

from cluster.audit.chain import FIRST_HASH
from cluster.models import AuditHead
from cluster.wire.envelope import Refused, SigningKey, fingerprint, verify

KIND = "audit-checkpoint"
# That everything up to an entry lies in a signed file, and may be missing in the database.
SEAL = "audit-seal"
# How far the log has come, between two checkpoints.
MARK = "audit-mark"
Envelope = dict[str, str]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The entry `sequence` had this hash; `at` is when it was signed, in ISO 8601. Of a mark, `since` is the
    entry that it has followed the log from."""

    sequence: int
    hash: str
    at: str
    since: int = 0

    @classmethod
    def of(cls, envelope: object, *, public: str, kind: str = KIND) -> Checkpoint:
        """Refused unless the key signed it, as one of this kind."""
        return _genuine(json.dumps(envelope, sort_keys=True), public, kind)


@lru_cache(maxsize=64)  # each page of the log looks at the newest
def _genuine(envelope: str, public: str, kind: str) -> Checkpoint:
    body = verify(json.loads(envelope), kind, public=public)
    sequence, text, at, since = (body.get(name) for name in ("sequence", "hash", "at", "since"))
    if type(sequence) is not int or not isinstance(text, str) or not isinstance(at, str):
        raise Refused("The checkpoint does not say entry, hash and time.")
    return Checkpoint(sequence, text, at, since if type(since) is int else 0)


@cache
def signing_key() -> SigningKey:
    """The log's own key, outside of the database and other than the one that signs orders."""
    return SigningKey.load_or_create(settings.AUDIT_KEY_FILE)


def our_key() -> str:
    """The fingerprint by which envelopes, and rows with them, name our key."""
    return fingerprint(signing_key().public)


def judge_seal(head: AuditHead, *, public: str) -> None:
    """Refused where the log does not begin with its first entry, and this key has not signed that what was
    before is sealed. All that was signed about sealed entries is passed over, so it must not be anybody's to
    say."""
    if not head.sealed_sequence and head.sealed_hash == FIRST_HASH:
        return
    said = Checkpoint.of(head.seal, public=public, kind=SEAL)
    if (said.sequence, said.hash) != (head.sealed_sequence, head.sealed_hash):
        raise Refused(f"What was sealed ends with #{said.sequence}.")


def sign(sequence: int, hashed: str, now: datetime, *, kind: str = KIND, **more: int) -> Envelope:
    said: dict[str, Any] = asdict(Checkpoint(sequence, hashed, now.isoformat(), **more))
    if not more:
        del said["since"]
    return signing_key().sign(kind, said)
