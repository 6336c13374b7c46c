"""What is signed about the log: that an entry had its hash at a time, with a key outside of the database."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cache, lru_cache

from django.conf import settings

from cluster.wire.envelope import Refused, SigningKey, verify

KIND = "audit-checkpoint"
Envelope = dict[str, str]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The entry `sequence` had this hash; `at` is when it was signed, in ISO 8601."""

    sequence: int
    hash: str
    at: str

    @classmethod
    def of(cls, envelope: object, *, public: str) -> Checkpoint:
        """Refused unless the key signed it."""
        return _genuine(json.dumps(envelope, sort_keys=True), public)


@lru_cache(maxsize=64)  # each page of the log looks at the newest
def _genuine(envelope: str, public: str) -> Checkpoint:
    body = verify(json.loads(envelope), KIND, public=public)
    sequence, text, at = body.get("sequence"), body.get("hash"), body.get("at")
    if type(sequence) is not int or not isinstance(text, str) or not isinstance(at, str):
        raise Refused("The checkpoint does not say entry, hash and time.")
    return Checkpoint(sequence, text, at)


@cache
def signing_key() -> SigningKey:
    """The log's own key, outside of the database and other than the one that signs orders."""
    return SigningKey.load_or_create(settings.AUDIT_KEY_FILE)


def sign(sequence: int, hashed: str, now: datetime) -> Envelope:
    return signing_key().sign(KIND, asdict(Checkpoint(sequence, hashed, now.isoformat())))
