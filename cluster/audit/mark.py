"""The mark: how far the log has come, signed in a file of its own.

Checkpoints come every few minutes. Whoever cuts off what came since, in the database alone, is told by the
mark, which follows each transaction that wrote an entry."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from cluster.audit import signed
from cluster.audit.signed import Checkpoint, Envelope
from cluster.models import AuditEntry
from cluster.wire.envelope import Refused

logger = logging.getLogger(__name__)


def path() -> Path:
    """Beside the checkpoints, so that both are kept out of the database by one setting."""
    file: Path = settings.AUDIT_CHECKPOINT_FILE
    return file.with_name(f"{file.name}.mark")


def move(sequence: int, hashed: str, *, previous_hash: str) -> None:
    """The log has come to this entry, after one of `previous_hash`. Other processes move the mark too, and
    not in the order of entries: it never goes back. Nor does it leave an entry that is not in the log any
    more, or new ones would hide that others are gone. A file that cannot be written is logged: the entry is
    there."""
    try:
        descriptor = os.open(path(), os.O_RDWR | os.O_CREAT, 0o640)
        with open(descriptor, "r+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            held = _genuine(_read(file.read()))
            if held is not None and not _goes_on(held, sequence, previous_hash):
                return
            text = json.dumps(signed.sign(sequence, hashed, timezone.now()))
            file.seek(0)
            file.truncate()
            file.write(text)
    except OSError as error:
        logger.error("audit mark not moved, entry=%d error=%s", sequence, error)


def read() -> Envelope | None:
    """What the mark says, which may be forged; None where nothing was written, or a crash tore it."""
    try:
        with path().open() as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return _read(file.read())
    except OSError:
        return None


def _read(text: str) -> Envelope | None:
    try:
        said = json.loads(text)
    except ValueError:
        return None
    return said if isinstance(said, dict) else None


def _genuine(envelope: Envelope | None) -> Checkpoint | None:
    """None for one that our key has not signed: it is written over."""
    try:
        return Checkpoint.of(envelope, public=signed.signing_key().public)
    except Refused:
        return None


def _goes_on(held: Checkpoint, sequence: int, previous_hash: str) -> bool:
    if held.sequence >= sequence:
        return False
    if held.sequence == sequence - 1:
        return held.hash == previous_hash
    stored = AuditEntry.objects.filter(sequence=held.sequence).values_list("hash", flat=True).first()
    # One that is missing breaks the chain itself, unless it was sealed.
    return stored in (None, held.hash)
