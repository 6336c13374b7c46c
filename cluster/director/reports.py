"""Signed reports on their way to the panel: onto the disk first, then sent in order.

The panel ignores a report that is older than one it has seen, so nothing may overtake.
"""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from cluster.director.journal import JournalError, Sequence, write_durably
from cluster.wire.envelope import SigningKey
from cluster.wire.messages import Event, Report

log = logging.getLogger(__name__)

LARGEST_SPOOL = 200

Publish = Callable[[dict[str, str]], None]


class NotDelivered(Exception):
    """The broker could not be reached in time; the message was not sent, or perhaps was."""


class Reporter:
    """Signs, spools and sends. `publish` sends one envelope or raises NotDelivered."""

    def __init__(
        self,
        *,
        director: str,
        key: SigningKey,
        sequence: Sequence,
        state_dir: Path,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.publish: Publish = _nowhere
        self.public_key = key.public
        self._director = director
        self._key = key
        self._sequence = sequence
        self._spool = state_dir / "spool"
        self._spool.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._clock = clock
        # Two threads report; held while sending, so that the order on the wire is that of the numbers.
        self._lock = threading.Lock()

    def report(
        self, event: Event, *, run: str, cluster: str, epoch: int, revision: int, payload: Mapping[str, Any]
    ) -> None:
        """Keep the report until it is sent, and try to send it now. A repeated one does no harm."""
        with self._lock:
            number = self._sequence.take()
            envelope = self._signed(event, run, cluster, epoch, revision, payload, number)
            try:
                write_durably(self._spool / f"{number:020d}.json", json.dumps(envelope).encode())
            except JournalError as error:
                # A full disk must not silence the director while the broker still listens.
                log.error("report not spooled sequence=%d reason=%s", number, error)
                self._publish_or_log(envelope, number)
                return
            self._drop_oldest()
            self._flush()

    def hello(self, *, cluster: str, epoch: int, revision: int, payload: Mapping[str, Any]) -> None:
        """Say that the director lives. Not kept, and not said before all that waits has been sent."""
        with self._lock:
            if self._flush():
                number = self._sequence.take()
                envelope = self._signed(Event.HELLO, "", cluster, epoch, revision, payload, number)
                self._publish_or_log(envelope, number)

    def flush(self) -> bool:
        """Send what waits, oldest first; False where some of it still waits."""
        with self._lock:
            return self._flush()

    def waiting(self) -> int:
        """How many reports wait on the disk."""
        return sum(1 for _ in self._spool.glob("*.json"))

    def _signed(
        self,
        event: Event,
        run: str,
        cluster: str,
        epoch: int,
        revision: int,
        payload: Mapping[str, Any],
        number: int,
    ) -> dict[str, str]:
        report = Report(
            event, run, self._director, cluster, epoch, revision, number, self._clock(), dict(payload)
        )
        return self._key.sign("report", report.to_body())

    def _flush(self) -> bool:
        for path in sorted(self._spool.glob("*.json")):
            try:
                envelope = json.loads(path.read_bytes())
            except (OSError, ValueError) as error:
                aside = path.with_suffix(".corrupt")
                log.error("spooled report unreadable kept=%s reason=%s", aside, error)
                path.rename(aside)
                continue
            try:
                self.publish(envelope)
            except NotDelivered as error:
                log.warning("reports wait count=%d reason=%s", self.waiting(), error)
                return False
            path.unlink(missing_ok=True)
        return True

    def _publish_or_log(self, envelope: dict[str, str], number: int) -> None:
        try:
            self.publish(envelope)
        except NotDelivered as error:
            log.warning("report lost sequence=%d reason=%s", number, error)

    def _drop_oldest(self) -> None:
        waiting = sorted(self._spool.glob("*.json"))
        for path in waiting[: max(0, len(waiting) - LARGEST_SPOOL)]:
            log.error("report dropped path=%s reason=the spool is full", path)
            path.unlink(missing_ok=True)


def _nowhere(_: dict[str, str]) -> None:
    raise NotDelivered("the worker has not reached the broker yet")
