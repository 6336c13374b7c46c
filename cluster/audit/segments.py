"""Retention: a part of the log goes into a signed file, and then out of the database, never an entry alone.

The chain then begins at the seal: the head keeps the last entry's number and hash, so that the next one is
still seen to follow it, and the file can always be checked to end there."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.db import connection, transaction
from django.utils import timezone

from cluster.audit import export
from cluster.audit.chain import Line, Walked, lines, walk
from cluster.audit.checkpoints import disagreement, misfiled, newest, unsealed
from cluster.audit.entries import Actor, record
from cluster.audit.signed import SEAL, our_key, sign, signing_key
from cluster.models import AuditCheckpoint, AuditEntry, AuditHead
from cluster.wire.envelope import Refused, verify

OWNER = Actor("audit_drop")


class SegmentError(Exception):
    """Nothing was written or removed; the text is a sentence."""


@dataclass(frozen=True, slots=True)
class Segment:
    """The entries after `first` and up to `last`, whose hash is `hash`; `sha256` is that of the file."""

    after: int
    last: int
    hash: str
    sha256: str


def seal(path: Path, *, through: int) -> Segment:
    """Write the entries from the log's begin through this one into a new file, signed at its end. Nothing is
    removed."""
    head, signed = AuditHead.objects.get(pk=1), newest()
    if through <= head.sealed_sequence:
        raise SegmentError(f"Everything up to #{head.sealed_sequence} is sealed already.")
    if wrong := head.broken or unsealed(head) or (signed and misfiled(signed)):
        raise SegmentError(f"The log is not what was written: {wrong} Run audit_verify.")
    if signed is None or through > signed.sequence:
        up_to = f"#{signed.sequence}" if signed else "nothing"
        raise SegmentError(f"Only what a checkpoint vouches for is sealed, and that is {up_to} so far.")
    begin = Walked(head.sealed_sequence, head.sealed_hash, None)
    walked = walk(lines(through=through), after=begin.sequence, before=begin.hash)
    if walked.broken or walked.sequence != through:
        raise SegmentError(f"The log is not what was written, from entry {walked.broken or through}")
    checkpoints = AuditCheckpoint.objects.filter(sequence__gt=begin.sequence, sequence__lte=through)
    ours = checkpoints.filter(key=our_key()).values_list("envelope", flat=True)
    if broken := disagreement(ours):
        raise SegmentError(f"The log is not what was written, from entry {broken}")
    pieces = export.as_json_lines(
        lines(through=through),
        by="audit_seal",
        at=timezone.now(),
        after=begin,
        checkpoints=checkpoints.order_by("sequence").values_list("envelope", flat=True).iterator(500),
    )
    sha256 = _write(path, pieces)
    after = {"after": begin.sequence, "through": through, "hash": walked.hash, "sha256": sha256}
    record("audit.seal", path.name, by=Actor("audit_seal"), after=after)
    return Segment(begin.sequence, through, walked.hash, sha256)


def drop(path: Path) -> Segment:
    """Remove from the database what a sealed file holds, after the file was read as a whole and found to be
    the begin of this very log. It needs the rights of the table's owner, whom the triggers obey."""
    segment = read(path)
    with transaction.atomic():
        head = AuditHead.objects.select_for_update().get(pk=1)
        if wrong := head.broken or unsealed(head):
            raise SegmentError(f"The log is not what was written: {wrong} Run audit_verify.")
        if segment.after != head.sealed_sequence:
            text = f"The file begins after #{segment.after}, and the log after #{head.sealed_sequence}."
            raise SegmentError(text)
        stored = AuditEntry.objects.filter(sequence=segment.last).values_list("hash", flat=True).first()
        if stored != segment.hash:
            raise SegmentError(f"The file's last entry, #{segment.last}, is not the one of this log.")
        with _without_triggers():
            AuditEntry.objects.filter(sequence__lte=segment.last)._raw_delete(using=connection.alias)
        AuditHead.objects.filter(pk=1).update(
            sealed_sequence=segment.last,
            sealed_hash=segment.hash,
            seal=sign(segment.last, segment.hash, timezone.now(), kind=SEAL),
        )
        after = {"after": segment.after, "through": segment.last, "sha256": segment.sha256}
        record("audit.drop", path.name, by=OWNER, after=after)
    return segment


def read(path: Path) -> Segment:
    """What a sealed file holds; SegmentError unless it is whole, a chain, and signed by this panel."""
    digest, whole, begin, end = hashlib.sha256(), hashlib.sha256(), None, None

    def entries() -> Iterator[Line]:
        nonlocal begin, end
        with path.open(encoding="utf-8") as file:
            for text in file:
                whole.update(text.encode())
                line = json.loads(text)
                match line.get("kind"):
                    case "end":
                        end = line
                        continue
                    case export.KIND:
                        begin = line.get("after")
                    case None:
                        yield line
                digest.update(text.encode())

    try:
        chain = entries()
        first = next(chain, None)
        if first is None or not isinstance(begin, dict):
            raise SegmentError(f"{path} is no sealed part of the log.")
        after, before = int(begin["sequence"]), str(begin["hash"])
        walked = walk(_with(first, chain), after=after, before=before)
        if walked.broken:
            raise SegmentError(f"{path} is not what was written, from entry {walked.broken}")
        # Read on to the end, which the walk has only reached where the last line was asked for.
        for _ in chain:
            raise SegmentError(f"{path} has an entry too many.")
        said = verify((end or {}).get("envelope"), export.KIND, public=signing_key().public)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise SegmentError(f"{path} cannot be read: {error}") from None
    except Refused as refusal:
        raise SegmentError(f"{path} is not signed at its end: {refusal}") from None
    if said != {"entries": walked.sequence - after, "sha256": digest.hexdigest()}:
        raise SegmentError(f"{path} is not what was signed at its end.")
    return Segment(after, walked.sequence, walked.hash, whole.hexdigest())


def _with(first: Line, rest: Iterator[Line]) -> Iterator[Line]:
    yield first
    yield from rest


def _write(path: Path, pieces: Iterator[str]) -> str:
    """The SHA-256 of a new file; one that is there already is never written over."""
    whole = hashlib.sha256()
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o440)
        with open(descriptor, "w", encoding="utf-8") as file:
            for piece in pieces:
                whole.update(piece.encode())
                file.write(piece)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise SegmentError(f"{path} cannot be written: {error}") from None
    return whole.hexdigest()


@contextmanager
def _without_triggers() -> Iterator[None]:
    """Inside a transaction, and only there: for everybody else they are never gone."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("ALTER TABLE cluster_auditentry DISABLE TRIGGER USER")
            yield
            cursor.execute("ALTER TABLE cluster_auditentry ENABLE TRIGGER USER")
            return
        cursor.execute(
            "SELECT name, sql FROM sqlite_master WHERE type = 'trigger' AND name LIKE 'audit_no_%%'"
        )
        made: list[Any] = cursor.fetchall()
        for name, _ in made:
            cursor.execute(f"DROP TRIGGER {name}")
        yield
        for _, sql in made:
            cursor.execute(sql)
