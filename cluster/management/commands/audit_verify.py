"""Check the audit log: the chain from its begin to its head, and all that was signed about it."""

from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandError, CommandParser

from cluster import audit, witnesses
from cluster.audit import chain, mark, signed
from cluster.audit.checkpoints import (
    begin_anew,
    disagreement,
    in_file,
    sign_anew,
    unsealed,
    unvouched,
)
from cluster.models import AuditCheckpoint, AuditHead
from cluster.wire.envelope import fingerprint

REMEDY = (
    "Bring the checkpoint file back, or name another with --checkpoints: a copy of it, what syslog has, or"
    " what a director prints. Only if you know why all are gone, sign the log as it is: --begin-anew 'WHY'."
)


class Command(BaseCommand):
    help = "Check that no audit entry was altered, removed, swapped or cut off; names the first bad one."

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--checkpoints",
            metavar="FILE",
            action="append",
            type=Path,
            default=[],
            help="more checkpoints, one a line, such as `python -m cluster.director witness` prints",
        )
        parser.add_argument(
            "--key",
            metavar="PUBLIC",
            action="append",
            default=[],
            help="another public key that signed checkpoints, such as the one before a change of keys",
        )
        parser.add_argument(
            "--begin-anew",
            metavar="WHY",
            default="",
            help="sign a log that nothing vouches for, such as one restored without its files",
        )

    def handle(self, *args: Any, checkpoints: list[Path], key: list[str], **options: Any) -> None:
        files = [settings.AUDIT_CHECKPOINT_FILE] if settings.AUDIT_CHECKPOINT_FILE.exists() else []
        vouching, of_database = _of_database(key)
        counted, found = [], [of_database, _of_mark(key), witnesses.disagreement(by_enrolled=True)]
        for path in [*files, *checkpoints]:
            count, broken = _of_file(path, key)
            counted.append(f"{count} checkpoints of {path}")
            found.append(broken)
            vouching += count
        judged = AuditHead.objects.get(pk=1)
        if broken := _first(chain.verify(head=judged), [one for one in found if one]):
            raise CommandError(f"The audit log is not what was written, from entry {broken}")
        kept = len(witnesses.held(by_enrolled=True))
        unknown = unsealed(judged, keys=key)
        if unknown is None and not vouching + kept:
            unknown = unvouched()
        _judge_witnesses(unknown, judged, why=str(options.get("begin_anew") or ""))
        # After a change of keys the one before has vouched for it once more.
        sign_anew(judged)
        AuditHead.objects.filter(pk=1).exclude(broken="").update(broken="")
        head = AuditHead.objects.get(pk=1)
        counted += ["the mark"] if mark.read() else []
        counted.append(f"{AuditCheckpoint.objects.count()} of the database and {kept} of directors")
        begins = f" It begins after #{head.sealed_sequence}." if head.sealed_sequence else ""
        self.stdout.write(f"The audit log is intact up to entry #{head.sequence}.{begins}")
        self.stdout.write(f"It agrees with {', '.join(counted)}.")


def _judge_witnesses(unknown: chain.Broken | None, judged: AuditHead, *, why: str) -> None:
    """A chain that is good in itself proves nothing where all that was signed about it is gone, or about
    where it begins."""
    if unknown is None and why:
        raise CommandError("What was signed about the log vouches for it. Leave --begin-anew out.")
    if unknown is not None and not why:
        raise CommandError(
            f"The chain is good in itself, but from entry #{unknown.sequence}: {unknown.why} {REMEDY}"
        )
    if unknown is not None:
        begin_anew(judged, reason=why, by=audit.Actor("audit_verify"))


def _of_database(keys: list[str]) -> tuple[int, chain.Broken | None]:
    prints = [fingerprint(public) for public in [signed.signing_key().public, *keys]]
    stored = AuditCheckpoint.objects.filter(key__in=prints).values_list("envelope", flat=True)
    return len(stored), disagreement(stored, keys=keys)


def _of_mark(keys: list[str]) -> chain.Broken | None:
    return disagreement([], keys=keys, marked=mark.read())


def _of_file(path: Path, keys: list[str]) -> tuple[int, chain.Broken | None]:
    try:
        found = list(in_file(path))
    except OSError as error:
        raise CommandError(f"The checkpoints cannot be read: {error}") from None
    broken = disagreement(found, keys=keys)
    return len(found), broken and chain.Broken(broken.sequence, f"{broken.why} ({path})", broken.until)


def _first(of_chain: chain.Broken | None, others: list[chain.Broken]) -> chain.Broken | None:
    """The earliest; the chain names one entry where a checkpoint can only tell that one of many is wrong."""
    earliest = min(others, key=lambda one: one.sequence, default=None)
    if earliest is None or (of_chain and of_chain.sequence <= max(earliest.until, earliest.sequence)):
        return of_chain
    return earliest
