"""What survives a power cut: what was ordered, what was last seen to hold, who owns what, and a number
that only rises."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from cluster.ipvs.formats.document import (
    canonical_json,
    canonical_pieces,
    from_document,
    key_from_document,
    key_to_document,
    services_at_once,
)
from cluster.ipvs.state import ServiceKey, Table
from cluster.ipvs.traffic import document as traffic_document
from cluster.ipvs.traffic.policy import Traffic

log = logging.getLogger(__name__)

VERSION = 1
_SEQUENCES_AT_ONCE = 1000
_TRIAL_NAMES = ("run", "boot", "ends_at", "began_wall", "ends_wall")


class JournalError(Exception):
    """The disk refused; the text is one sentence."""


@dataclass(frozen=True)
class Goal:
    """All that operators want, with the order that it comes from. The kernel holds the table with verdicts,
    drains and profiles on it."""

    epoch: int
    revision: int
    table: Table
    traffic: Traffic = field(default_factory=Traffic)


@dataclass(frozen=True)
class Guard:
    """By how many percent backends in service and open connections may fall below what they were before; None
    for as far as they like."""

    backends_percent: int | None = None
    connections_percent: int | None = None
    serving: int = 0
    connections: int = 0


@dataclass(frozen=True)
class Trial:
    """Until when an order waits for its confirmation, and what comes back without one.

    `ends_at` counts seconds since the machine's start, of which `boot` is the id; `ends_wall` and
    `began_wall` are the same by the wall's clock. `foreign` are the services that were in the kernel before
    and were not ours: found just as wanted, they became ours, and are let go again, not removed."""

    run: str
    back: Goal
    boot: str
    ends_at: float
    began_wall: float
    ends_wall: float
    foreign: frozenset[ServiceKey] = frozenset()
    guard: Guard = Guard()


@dataclass(frozen=True)
class WentBack:
    """An order that is out of force again, at `at` and why. `is_told` once the panel has the report and the
    kernel what was to come back."""

    run: str
    epoch: int
    revision: int
    at: float
    cause: str
    is_told: bool = False


@dataclass(frozen=True)
class Record:
    """`ordered` is what the newest order in force wants. `verified` is the last goal that was read back from
    the kernel as wanted: what a reboot brings back, unless there is a `trial`, which has something older for
    that. With `enforce`, what somebody else changes is put right without being asked;
    `enforce_at` is when the panel changed that, because an old order may come again. `owned` are the
    services that this project put into the kernel or was about to."""

    cluster: str
    ordered: Goal
    owned: frozenset[ServiceKey]
    verified: Goal | None = None
    trial: Trial | None = None
    went_back: WentBack | None = None
    enforce: bool = False
    enforce_at: float = 0.0

    @property
    def fence(self) -> tuple[int, int]:
        """Epoch and revision below which no order is taken any more. One that went back still counts: a copy
        of it may lie in a queue."""
        fence = self.ordered.epoch, self.ordered.revision
        return max(fence, (self.went_back.epoch, self.went_back.revision)) if self.went_back else fence

    @property
    def is_applied(self) -> bool:
        return self.verified == self.ordered

    @property
    def applied_revision(self) -> int:
        """The last verified revision of the present epoch; 0 for none."""
        verified = self.verified
        return verified.revision if verified and verified.epoch == self.ordered.epoch else 0


class Journal:
    """One JSON file. Reading is cheap while the file stays the same; any process may have written it."""

    def __init__(self, state_dir: Path) -> None:
        self._path = state_dir / "journal.json"
        self._lock = threading.Lock()
        self._stamp: tuple[int, int, int] | None = None
        self._record: Record | None = None

    def read(self) -> Record | None:
        """The newest record, or None before the first. A file that can't be read as a record is kept
        aside under another name, where `notices` finds it, and counts as none."""
        with self._lock:
            return self._newest()

    def write(self, record: Record) -> None:
        """Put the record onto the disk, unless it is there already; afterwards it is there whatever happens.
        JournalError if not."""
        with self._lock:
            # A restart that adds nothing to the journal needs no room on the disk.
            if record != self._newest():
                self._stamp = None
                write_durably(self._path, b"".join(_pieces(record)))
                # Whoever writes holds the director's lock, so this is the file that was just written.
                self._stamp = self._stamp_now()
            # This very object: its table is the one that the kernel's readings share.
            self._record = record

    def notices(self) -> list[str]:
        """A sentence for each journal that had to be kept aside, until somebody removes it."""
        aside = sorted(self._path.parent.glob(f"{self._path.name}.corrupt-*"))
        return [
            f"The journal was unreadable and is kept as {path}; which services are ours was forgotten."
            for path in aside
        ]

    def _newest(self) -> Record | None:
        try:
            stamp = self._stamp_now()
            if stamp != self._stamp:
                self._record = _record_in(json.loads(self._path.read_bytes(), object_hook=services_at_once))
                self._stamp = stamp
        except FileNotFoundError:
            self._record = self._stamp = None
        except OSError as error:
            raise JournalError(f"The journal {self._path} cannot be read: {error.strerror}.") from error
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
            log.error("journal corrupt path=%s kept=%s reason=%r", self._path, self._set_aside(), error)
            self._record = self._stamp = None
        return self._record

    def _stamp_now(self) -> tuple[int, int, int]:
        found = self._path.stat()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _set_aside(self) -> Path:
        number = 1
        while (aside := self._path.with_name(f"{self._path.name}.corrupt-{number}")).exists():
            number += 1
        try:
            self._path.rename(aside)
        except OSError as error:
            said = f"The journal {self._path} is unreadable and cannot be kept aside: {error.strerror}."
            raise JournalError(said) from error
        return aside


class Sequence:
    """Numbers that rise for ever, also over restarts. They are reserved on disk in blocks, and begin at
    the clock's seconds, so that even a lost file does not let them fall."""

    def __init__(self, state_dir: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._path = state_dir / "sequence"
        self._clock = clock
        self._lock = threading.Lock()
        self._next = self._reserved = 0

    def take(self) -> int:
        """A number larger than all before."""
        with self._lock:
            if self._next >= self._reserved:
                self._reserve()
            self._next += 1
            return self._next

    def _reserve(self) -> None:
        self._next = max(self._next, self._on_disk(), int(self._clock()))
        try:
            write_durably(self._path, str(self._next + _SEQUENCES_AT_ONCE).encode())
        except JournalError as error:
            # A director with a full disk must go on reporting. Far fewer numbers are taken than seconds go
            # by, so that the clock alone keeps them rising over a restart.
            log.error("sequence not reserved reason=%s", error)
            return
        self._reserved = self._next + _SEQUENCES_AT_ONCE

    def _on_disk(self) -> int:
        try:
            return int(self._path.read_text())
        except (OSError, ValueError):
            return 0


def write_durably(path: Path, data: bytes) -> None:
    """Replace the file as a whole: write beside it, fsync, rename, fsync the folder."""
    beside = path.with_name(f".{path.name}.{os.getpid()}-{threading.get_ident()}")
    try:
        try:
            with open(beside, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise
        folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise JournalError(f"The file {path} cannot be written: {error.strerror}.") from error


def _pieces(record: Record) -> Iterator[bytes]:
    """The record as JSON. Its tables come a service at a time, because they may have megabytes."""
    yield b'{"version":%d,"cluster":%b,"owned":' % (VERSION, json.dumps(record.cluster).encode())
    yield canonical_json([key_to_document(key) for key in sorted(record.owned)])
    yield b',"ordered":'
    yield from _goal_pieces(record.ordered)
    yield b',"verified":'
    if record.verified is None:
        yield b"null"
    elif record.is_applied:
        yield b'"ordered"'
    else:
        yield from _goal_pieces(record.verified)
    if record.trial is not None:
        yield b',"trial":%b,"back":' % canonical_json(_trial_out(record.trial))
        yield from _goal_pieces(record.trial.back)
    if record.went_back is not None:
        yield b',"went_back":%b' % canonical_json(asdict(record.went_back))
    if record.enforce_at:
        yield b',"enforce":%b' % canonical_json([record.enforce, record.enforce_at])
    yield b"}"


def _goal_pieces(goal: Goal) -> Iterator[bytes]:
    yield b'{"epoch":%d,"revision":%d,"table":' % (goal.epoch, goal.revision)
    yield from canonical_pieces(goal.table)
    yield b',"traffic":'
    yield canonical_json(traffic_document.to_document(goal.traffic))
    yield b"}"


def _record_in(document: dict[str, Any]) -> Record:
    if document["version"] != VERSION:
        raise ValueError(f"version {document['version']!r} is not known")
    ordered, verified = _goal_in(document["ordered"]), document["verified"]
    if verified == "ordered":
        verified = ordered
    elif verified is not None:
        verified = _goal_in(verified)
    owned = frozenset(key_from_document(key) for key in document["owned"])
    trial = _trial_in(document["trial"], _goal_in(document["back"])) if "trial" in document else None
    went_back = WentBack(**document["went_back"]) if "went_back" in document else None
    enforce, enforce_at = document.get("enforce", (False, 0.0))
    return Record(
        str(document["cluster"]), ordered, owned, verified, trial, went_back, bool(enforce), float(enforce_at)
    )


def _trial_out(trial: Trial) -> dict[str, Any]:
    """All but `back`, which may have megabytes."""
    said = {name: getattr(trial, name) for name in _TRIAL_NAMES}
    foreign = [key_to_document(key) for key in sorted(trial.foreign)]
    return said | {"foreign": foreign, "guard": asdict(trial.guard)}


def _trial_in(document: dict[str, Any], back: Goal) -> Trial:
    foreign = frozenset(key_from_document(key) for key in document["foreign"])
    said = {name: document[name] for name in _TRIAL_NAMES}
    return Trial(back=back, foreign=foreign, guard=Guard(**document["guard"]), **said)


def _goal_in(document: dict[str, Any]) -> Goal:
    traffic = document.get("traffic")
    return Goal(
        int(document["epoch"]),
        int(document["revision"]),
        from_document(document["table"]),
        Traffic() if traffic is None else traffic_document.from_document(traffic),
    )
