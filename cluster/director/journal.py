"""What survives a power cut: the wanted table, who owns what, and a number that only rises."""

from __future__ import annotations

import json
import logging
import os
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cluster.ipvs.formats.document import from_document, key_from_document, key_to_document, to_document
from cluster.ipvs.state import ServiceKey, Table

log = logging.getLogger(__name__)

VERSION = 1
_SEQUENCES_AT_ONCE = 1000


class JournalError(Exception):
    """The disk refused; the text is one sentence."""


@dataclass(frozen=True)
class Record:
    """`table` is what revision `revision` wants, `owned` the services that this project put into the
    kernel or was about to. `applied_revision` is the last one whose table was read back as wanted."""

    cluster: str
    epoch: int
    revision: int
    table: Table
    owned: frozenset[ServiceKey]
    applied: bool
    applied_revision: int = 0


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
            try:
                found = self._path.stat()
                stamp = (found.st_mtime_ns, found.st_size, found.st_ino)
                if stamp != self._stamp:
                    self._record = _record_in(json.loads(self._path.read_bytes()))
                    self._stamp = stamp
            except FileNotFoundError:
                self._record = self._stamp = None
            except OSError as error:
                raise JournalError(f"The journal {self._path} cannot be read: {error.strerror}.") from error
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
                log.error("journal corrupt path=%s kept=%s reason=%r", self._path, self._set_aside(), error)
                self._record = self._stamp = None
            return self._record

    def write(self, record: Record) -> None:
        """Put the record onto the disk; afterwards it is there whatever happens. JournalError if not."""
        with self._lock:
            self._stamp = None
            write_durably(self._path, json.dumps(_record_out(record), separators=(",", ":")).encode())

    def notices(self) -> list[str]:
        """A sentence for each journal that had to be kept aside, until somebody removes it."""
        aside = sorted(self._path.parent.glob(f"{self._path.name}.corrupt-*"))
        return [
            f"The journal was unreadable and is kept as {path}; which services are ours was forgotten."
            for path in aside
        ]

    def _set_aside(self) -> Path:
        number = 1
        while (aside := self._path.with_name(f"{self._path.name}.corrupt-{number}")).exists():
            number += 1
        self._path.rename(aside)
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
        """A number larger than all before. JournalError where it could not be reserved."""
        with self._lock:
            if self._next >= self._reserved:
                self._next = max(self._next, self._on_disk(), int(self._clock()))
                write_durably(self._path, str(self._next + _SEQUENCES_AT_ONCE).encode())
                self._reserved = self._next + _SEQUENCES_AT_ONCE
            self._next += 1
            return self._next

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


def _record_out(record: Record) -> dict[str, Any]:
    return {
        "version": VERSION,
        "cluster": record.cluster,
        "epoch": record.epoch,
        "revision": record.revision,
        "applied": record.applied,
        "applied_revision": record.applied_revision,
        "owned": [key_to_document(key) for key in sorted(record.owned)],
        "table": to_document(record.table),
    }


def _record_in(document: dict[str, Any]) -> Record:
    if document["version"] != VERSION:
        raise ValueError(f"version {document['version']!r} is not known")
    return Record(
        cluster=str(document["cluster"]),
        epoch=int(document["epoch"]),
        revision=int(document["revision"]),
        table=from_document(document["table"]),
        owned=frozenset(key_from_document(key) for key in document["owned"]),
        applied=bool(document["applied"]),
        applied_revision=int(document["applied_revision"]),
    )
