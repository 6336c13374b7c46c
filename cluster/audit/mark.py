"""The mark: how far the log has come, signed in a file of its own.

Checkpoints come every few minutes. That somebody cut off what came since, in the database alone, is told by
the mark, which follows each transaction that wrote an entry. Where the panel's processes run on several
machines, each has a mark of its own, for what was written there."""

from __future__ import annotations

import fcntl
import json
import logging
import os
from pathlib import Path

from django.conf import settings
from django.utils import timezone

from cluster.audit import signed
from cluster.audit.chain import lines, walk
from cluster.audit.signed import MARK, Checkpoint, Envelope
from cluster.models import AuditEntry, AuditHead
from cluster.wire.envelope import Refused

logger = logging.getLogger(__name__)

# Half a second.
MOST_WALKED = 20_000


def path() -> Path:
    """Beside the checkpoints, so that both are kept out of the database by one setting."""
    file: Path = settings.AUDIT_CHECKPOINT_FILE
    return file.with_name(f"{file.name}.mark")


def move(sequence: int, hashed: str, *, after: int, before: str) -> None:
    """The log has come to this entry, by entries that one transaction wrote after the one `after`, whose hash
    is `before`. Other processes move the mark too, and
    not in the order of entries: it never goes back. Nor does it leave an entry that is not in the log any
    more, or new ones would hide that others are gone. A file that cannot be written is logged: the entry is
    there."""
    try:
        descriptor = os.open(path(), os.O_RDWR | os.O_CREAT, 0o640)
        with open(descriptor, "rb+") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            held = _genuine(_read(file.read()))
            if held is not None and not _goes_on(held, after, before):
                return
            since = held.since if held is not None else sequence
            text = json.dumps(signed.sign(sequence, hashed, timezone.now(), kind=MARK, since=since))
            file.seek(0)
            file.truncate()
            file.write(text.encode())
    except OSError as error:
        logger.error("audit mark not moved, entry=%d error=%s", sequence, error)


def read() -> Envelope | None:
    """What the mark says, which may be forged; None where nothing was written, or a crash tore it."""
    try:
        with path().open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH)
            return _read(file.read())
    except OSError:
        return None


def follows_from() -> int | None:
    """The entry from which on the mark has followed the log; None without one that our key has signed. One
    that was removed, and made anew by the next entry, does not follow from the first."""
    held = _genuine(read())
    return held.since if held is not None else None


def _read(content: bytes) -> Envelope | None:
    try:
        said = json.loads(content)
    except ValueError:  # what is no UTF-8 is such as well
        return None
    return said if isinstance(said, dict) else None


def _genuine(envelope: Envelope | None) -> Checkpoint | None:
    """None for one that our key has not signed: it is written over."""
    try:
        return Checkpoint.of(envelope, public=signed.signing_key().public, kind=MARK)
    except Refused:
        return None


def _goes_on(held: Checkpoint, after: int, before: str) -> bool:
    """Whether the chain leads from what the mark holds to the entry `after` of this hash. What others wrote
    between is read; where that is very much, checkpoints tell of it."""
    if held.sequence >= after:
        return (held.sequence, held.hash) == (after, before)
    head = AuditHead.objects.get(pk=1)
    begin = held.sequence, held.hash
    if held.sequence < head.sealed_sequence:
        try:
            signed.judge_seal(head, public=signed.signing_key().public)
        except Refused:
            return False
        begin = head.sealed_sequence, head.sealed_hash
    if after - begin[0] > MOST_WALKED:
        stored = AuditEntry.objects.filter(sequence=begin[0]).values_list("hash", flat=True).first()
        return (stored or head.sealed_hash) == begin[1]
    walked = walk(lines(after=begin[0], through=after), after=begin[0], before=begin[1])
    return walked.broken is None and (walked.sequence, walked.hash) == (after, before)
