"""Checkpoints: who owns the database can rewrite the whole log, but not what was signed about it before.

A checkpoint says that an entry had its hash at a time. It is made after everything since the one before was
read, is signed with a key outside of the database, and goes to a file, to syslog and to the directors."""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from pathlib import Path
from typing import Any

from django.conf import settings
from django.utils import timezone

from cluster.audit import mark, signed
from cluster.audit.chain import BATCH, Broken, Walked, lines, walk
from cluster.audit.entries import PANEL, Actor, record
from cluster.audit.signed import KIND, MARK, SEAL, Checkpoint, Envelope
from cluster.models import AuditCheckpoint, AuditEntry, AuditHead
from cluster.wire.envelope import Refused, fingerprint, unverified_body

logger = logging.getLogger(__name__)

EVERY = timedelta(minutes=5)
EVERY_ENTRIES = 1000
# What one round of the sweep reads: a third of a second.
MOST_AT_ONCE = 20_000
# A checkpoint has some 350 characters.
LONGEST_LINE = 4096


@dataclass(frozen=True, slots=True)
class Standing:
    """The log's head, up to which entry it was read and found good, when, and else what is wrong with it."""

    head: AuditHead
    sequence: int
    at: datetime | None
    broken: str


def newest() -> AuditCheckpoint | None:
    """The newest that this panel's key has signed."""
    return AuditCheckpoint.objects.filter(key=signed.our_key()).first()


def sweep(
    *, now: datetime | None = None, ask_witnesses: Callable[[], Broken | None] = lambda: None
) -> Envelope | None:
    """Make a checkpoint where one is due, and read a part of the older log again. What is found wrong is
    written down once, in the log and in its head, and no checkpoint is made until somebody has looked.

    The witnesses are asked where the database has no checkpoint: whoever removed them must not get the log
    that they wrote signed as a new one. What came since the last checkpoint is compared with the mark in each
    round."""
    now = now or timezone.now()
    head, last = AuditHead.objects.get(pk=1), newest()
    if not head.broken and (wrong := unsealed(head) or _said_by_mark() or (last and misfiled(last))):
        _say_broken(wrong, of=head)
        return None
    since = last.sequence if last else head.sealed_sequence
    is_due = last is None or head.sequence - since >= EVERY_ENTRIES or now - last.at >= EVERY
    if head.broken or head.sequence == since or not is_due:
        return None
    walked = _walked_on(head, last)
    broken = walked.broken or _recheck(head, through=since) or _said_elsewhere(last)
    if broken is None and last is None:
        broken = ask_witnesses()
    if broken is not None:
        _say_broken(broken, of=head)
        return None
    return _sign(walked.sequence, walked.hash, now)


def _walked_on(head: AuditHead, last: AuditCheckpoint | None) -> Walked:
    """Read what came after the last checkpoint, from the hash that was signed there; it is none that is
    misfiled."""
    after, before = head.sealed_sequence, head.sealed_hash
    if last is not None:
        known = Checkpoint.of(last.envelope, public=signed.signing_key().public)
        after, before = known.sequence, known.hash
    through = min(head.sequence, after + MOST_AT_ONCE)
    walked = walk(lines(after=after, through=through), after=after, before=before)
    if walked.broken is None and walked.sequence < through:
        return Walked(walked.sequence, walked.hash, Broken(walked.sequence + 1, "It is missing."))
    if walked.broken is None and through == head.sequence and walked.hash != head.hash:
        return Walked(walked.sequence, walked.hash, Broken(through, "It is not what the head says."))
    return walked


def _recheck(head: AuditHead, *, through: int) -> Broken | None:
    """Read the next part of what was signed before, round and round."""
    after = max(head.rechecked_sequence, head.sealed_sequence)
    if after >= through:
        after = head.sealed_sequence
    before = head.sealed_hash
    if after > head.sealed_sequence:
        found = AuditEntry.objects.filter(sequence=after).values_list("hash", flat=True).first()
        if found is None:
            return Broken(after, "It is missing.")
        before = found
    end = min(through, after + MOST_AT_ONCE)
    walked = walk(lines(after=after, through=end), after=after, before=before)
    if walked.broken is None and walked.sequence < end:
        return Broken(walked.sequence + 1, "It is missing.")
    # Back to the begin as soon as the end is reached, or the newest entries would hold it up for ever.
    AuditHead.objects.filter(pk=1).update(rechecked_sequence=end if end < through else 0)
    stored = AuditCheckpoint.objects.filter(sequence__gt=after, sequence__lte=end).order_by("sequence")
    ours = stored.filter(key=signed.our_key()).values_list("envelope", flat=True)
    return walked.broken or disagreement(ours)


def _said_by_mark() -> Broken | None:
    """Whether the log is still the one that came as far as the mark."""
    said = _our_mark()
    return disagreement([], marked=said) if said is not None else None


def _our_mark() -> Envelope | None:
    """What another key has signed is left to audit_verify."""
    said = mark.read()
    return said if _key_of(said) == signed.our_key() else None


def unsealed(head: AuditHead, *, keys: Sequence[str] = ()) -> Broken | None:
    """Whether the begin of the log is missing, and nothing that the key signed says that it is in a file."""
    try:
        signed.judge_seal(head, public=_public_of(head.seal, keys))
    except Refused as refusal:
        why = f"it is missing, as all up to #{head.sealed_sequence}, and no seal that is genuine says why:"
        return Broken(1, f"{why} {refusal}")
    return None


def misfiled(row: AuditCheckpoint) -> Broken | None:
    """Whether the columns of a checkpoint say something else than was signed: by them it is found, and the
    next one is due."""
    try:
        said = Checkpoint.of(row.envelope, public=signed.signing_key().public)
    except Refused as refusal:
        return Broken(row.sequence, f"Its checkpoint was forged. {refusal}")
    if (said.sequence, said.at) != (row.sequence, row.at.isoformat()):
        return Broken(said.sequence, f"Its checkpoint stands in a row of #{row.sequence}, {row.at:%F %T}.")
    return None


def _said_elsewhere(last: AuditCheckpoint | None) -> Broken | None:
    """What the file knows better than the database. Its end is looked at each time, and all of it where that
    is not the newest checkpoint of the database. Lines of other keys are left to audit_verify."""
    path = settings.AUDIT_CHECKPOINT_FILE
    if last is not None and path.exists() and _is_last_line(path, last.envelope):
        return None
    return disagreement(_ours_in_file())


def _ours_in_file() -> Iterator[Envelope]:
    """The lines of the checkpoint file that name our key; none without a file."""
    path, ours = settings.AUDIT_CHECKPOINT_FILE, signed.our_key()
    if path.exists():
        yield from (envelope for envelope in in_file(path) if _key_of(envelope) == ours)


def unvouched() -> Broken | None:
    """Whether a log that is older than a first checkpoint can take has nothing here that our key has signed
    about it: no checkpoint, in the database or in the file, and no mark that has followed it from the first
    entry. Somebody removed them, or changed the key."""
    first = AuditEntry.objects.order_by("sequence").first()
    if first is None or timezone.now() - first.at < 2 * EVERY:
        return None
    if newest() is not None or any(_ours_in_file()):
        return None
    followed_from = mark.follows_from()
    if followed_from is not None and followed_from <= first.sequence:
        return None
    return Broken(first.sequence, "nothing that was signed about the log is left to compare it with.")


def begin_anew(judged: AuditHead, *, reason: str, by: Actor) -> None:
    """Sign a log that nothing vouches for, and where it begins, because somebody has looked and says why. Its
    chain is good."""
    record("audit.begin-anew", "the audit log", by=by, reason=reason)
    sign_anew(judged)


def sign_anew(judged: AuditHead) -> None:
    """Sign where the log begins with the key of now, and how far it has come, where that has signed nothing.
    Somebody has verified just this much of it, maybe with the key of before."""
    now, ours = timezone.now(), signed.our_key()
    begin = {"sealed_sequence": judged.sealed_sequence, "sealed_hash": judged.sealed_hash}
    if judged.sealed_sequence and _key_of(judged.seal) != ours:
        seal = signed.sign(judged.sealed_sequence, judged.sealed_hash, now, kind=SEAL)
        # Where another part was dropped meanwhile, that has a seal of its own.
        AuditHead.objects.filter(pk=1, **begin).update(seal=seal)
    if newest() is None and judged.sequence > judged.sealed_sequence:
        _sign(judged.sequence, judged.hash, now)


def _is_last_line(path: Path, envelope: Envelope) -> bool:
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LONGEST_LINE))
        tail = file.read().splitlines()
    try:
        return bool(tail) and json.loads(tail[-1]) == envelope
    except ValueError:
        return False


def _sign(sequence: int, hashed: str, now: datetime) -> Envelope:
    envelope = signed.sign(sequence, hashed, now)
    text = json.dumps(envelope)
    _append(settings.AUDIT_CHECKPOINT_FILE, text)
    logger.info("audit checkpoint %s", text)
    AuditCheckpoint.objects.update_or_create(
        key=envelope["key"], sequence=sequence, defaults={"at": now, "envelope": envelope}
    )
    return envelope


def _append(path: Path, text: str) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o640)
    with open(descriptor, "w") as file:
        file.write(text + "\n")
        file.flush()
        os.fsync(descriptor)


def _say_broken(broken: Broken, *, of: AuditHead) -> None:
    """Unless a part of the log was dropped while it was read."""
    if AuditHead.objects.get(pk=1).sealed_sequence != of.sealed_sequence:
        return
    logger.error("audit log broken %s", broken)
    record("audit.broken", f"entry #{broken.sequence}", by=PANEL, result="failed", reason=str(broken))
    AuditHead.objects.filter(pk=1).update(broken=str(broken)[:200])


def in_file(path: Path) -> Iterator[Any]:
    """The envelopes of a file with one a line; of a line that is none, its text, which nothing has signed."""
    with path.open(errors="replace") as file:
        for line in file:
            try:
                yield json.loads(line)
            except ValueError:
                yield line


def standing() -> Standing:
    """What the audit page says of the chain: three looks into the database, and at most two signatures."""
    last, marked = newest(), _our_mark()
    # After these, or the log would seem to end before what was signed meanwhile.
    head = AuditHead.objects.get(pk=1)
    if head.broken or last is None:
        return Standing(head, last.sequence if last else 0, last.at if last else None, head.broken)
    broken = unsealed(head) or misfiled(last) or disagreement([last.envelope], marked=marked, head=head)
    return Standing(head, last.sequence, last.at, str(broken) if broken else "")


def disagreement(
    envelopes: Iterable[Any],
    *,
    keys: Sequence[str] = (),
    marked: Envelope | None = None,
    head: AuditHead | None = None,
) -> Broken | None:
    """The first entry that may be another one than was signed, by checkpoints and the mark, of the panel's
    own key or of others; None where all agree. What one finds lies between the last that agrees and it.
    `head` was read after them."""
    head = head or AuditHead.objects.get(pk=1)
    of_mark = [] if marked is None else [marked]
    good, rest = head.sealed_sequence, iter(_in_order([*envelopes, *of_mark]))
    while batch := list(islice(rest, BATCH)):
        numbers = [number for number, _ in batch]
        stored = dict(AuditEntry.objects.filter(sequence__in=numbers).values_list("sequence", "hash"))
        stored[head.sealed_sequence] = head.sealed_hash
        for number, envelope in batch:
            try:
                kind = MARK if envelope is marked else KIND
                said = Checkpoint.of(envelope, public=_public_of(envelope, keys), kind=kind)
            except Refused as refusal:
                return Broken(max(number, 1), f"A checkpoint of it is not genuine: {refusal}")
            if said.sequence < head.sealed_sequence:
                continue
            if said.sequence > head.sequence:
                why = f"The log ends before it; #{said.sequence} was signed at {said.at}."
                return Broken(head.sequence + 1, why)
            if stored.get(said.sequence) != said.hash:
                why = f"From here to #{said.sequence} something is not what was signed at {said.at}."
                return Broken(min(good + 1, said.sequence), why, said.sequence)
            good = said.sequence
    return None


def _public_of(envelope: Any, keys: Sequence[str]) -> str:
    """The key that it names, of ours and these; ours where it names none of them."""
    known = {fingerprint(public): public for public in keys}
    return known.get(_key_of(envelope), signed.signing_key().public)


def _key_of(envelope: Any) -> str:
    return str(envelope.get("key")) if isinstance(envelope, dict) else ""


def _in_order(envelopes: Iterable[Any]) -> list[tuple[int, Any]]:
    """By what they claim to be about; one that claims nothing comes first."""
    found = []
    for envelope in envelopes:
        try:
            number = unverified_body(envelope).get("sequence")
        except Refused:
            number = None
        found.append((number if type(number) is int and 0 <= number < 2**63 else -1, envelope))
    return sorted(found, key=lambda one: one[0])
