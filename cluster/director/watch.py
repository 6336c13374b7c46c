"""The loop: count, sign, publish. It runs on with panel and Redis down, and never lets a page look
alive on old numbers: an error is published as an error."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from cluster.director.apply import Director
from cluster.director.ballots import Ask, Ballots, Put
from cluster.director.journal import JournalError, Record
from cluster.director.journal import Sequence as Numbers
from cluster.director.kernel import KernelError
from cluster.director.readings import counted_service
from cluster.director.tuning import switches_to_set
from cluster.ipvs.formats.document import fingerprint
from cluster.ipvs.state import ServiceKey, Table
from cluster.ipvs.stats import Reading
from cluster.ipvs.traffic.observed import to_document
from cluster.wire.envelope import LARGEST_BODY, SigningKey
from cluster.wire.messages import FRAME_LIFETIME_S, Event, Frame, frame_key

log = logging.getLogger(__name__)

PERIOD_S = 2.0
HELLO_PERIOD_S = 30.0
REDIS_DEADLINE_S = 1.5
# What the shortest backend takes in a frame: more of them need not be written out to see that they are too
# many. Their plain values would take 100 MB.
LEAST_BACKEND_BYTES = 275


class Watch:
    """One round each PERIOD_S in a thread of its own. `put` stores one frame or ballot, `ask` gets ballots;
    both raise RedisError."""

    def __init__(
        self,
        director: Director,
        *,
        key: SigningKey,
        sequence: Numbers,
        put: Put,
        ask: Ask,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._director = director
        self._key = key
        self._sequence = sequence
        self._put = put
        self._ask = ask
        self._ballots = Ballots(director, key=key, take_number=sequence.take, monotonic=monotonic)
        self._monotonic = monotonic
        self._previous: tuple[float, Reading] | None = None
        # What is ours in the kernel, as it was last time, and its fingerprint.
        self._ours = Table(), fingerprint(Table())
        self._last_hello: float | None = None
        self._is_away = False
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="watch", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, *, within_s: float = 5.0) -> None:
        """Ask the loop to end and wait that long for it."""
        self._stop.set()
        self._thread.join(within_s)

    def round(self) -> None:
        """Read, publish the frame, then say hello and send what waits if Redis is there."""
        name = self._director.name
        envelope = self._signed_frame()
        try:
            self._put(frame_key(name), json.dumps(envelope))
            self._vote()
        except (redis.RedisError, OSError) as error:
            if not self._is_away:
                log.warning("broker away reason=%s", error)
            self._is_away = True
            self._director.aim.hear(self._ballots.count())
            self._tell_drift()
            return
        if self._is_away:
            log.warning("broker back")
        self._is_away = False
        self._tell_drift()
        self._say_hello()

    def _tell_drift(self) -> None:
        """Report what somebody else changed, whenever that is something else than before."""
        record, news = self._record(), self._director.drift.news()
        if record is None or news is None:
            return
        self._director.reporter.report(
            Event.DRIFT,
            run="",
            cluster=record.cluster,
            epoch=record.ordered.epoch,
            revision=record.ordered.revision,
            payload=news,
        )

    def _vote(self) -> None:
        """Hear what the other directors saw, where the goal asks for it."""
        record = self._record()
        if record and record.ordered.traffic.asks_others:
            self._ballots.exchange(record.ordered.traffic, put=self._put, ask=self._ask)
        self._director.aim.hear(self._ballots.count())

    def _loop(self) -> None:
        due = self._monotonic()
        while not self._stop.is_set():
            began = self._monotonic()
            try:
                self.round()
            except Exception:
                # Whatever it was, the next round may do better; without the loop nobody would see it.
                log.exception("watch broke")
            # A round that takes long must leave half of the time to the thread that takes orders.
            now = self._monotonic()
            due = max(due + PERIOD_S, now + (now - began))
            self._stop.wait(due - self._monotonic())

    def _say_hello(self) -> None:
        now = self._monotonic()
        reporter = self._director.reporter
        if self._last_hello is not None and now - self._last_hello < HELLO_PERIOD_S:
            if reporter.waiting():
                reporter.flush()
            return
        record = self._record()
        self._last_hello = now
        reporter.hello(
            cluster=record.cluster if record else "",
            epoch=record.ordered.epoch if record else 0,
            revision=_applied_revision(record),
            payload={"public_key": reporter.public_key, "facts": self._director.facts()},
        )

    def _signed_frame(self) -> dict[str, str]:
        record, checker = self._record(), self._director.checker
        payload: dict[str, Any] = {
            "services": [],
            "fingerprint": "",
            "wanted": "",
            "observed": {},
            "switches": [],
            "checks": asdict(checker.pace) | {"trouble": checker.trouble},
            "revision": _applied_revision(record),
            "epoch": record.ordered.epoch if record else 0,
            "ordered": record.ordered.revision if record else 0,
            "error": "",
        }
        at = self._director.clock()
        try:
            reading, aimed = self._reading()
            owned = record.owned if record else frozenset()
            ours = reading.table.only(owned)
            payload["fingerprint"] = self._fingerprint(ours)
            self._director.drift.look(aimed, ours, at=at)
            if aimed is not None:
                same = aimed == ours
                payload["wanted"] = payload["fingerprint"] if same else fingerprint(aimed)
                payload["switches"] = self._switches(record)
            if record:
                payload["observed"] = to_document(self._director.aim.counted(record.ordered))
        except KernelError as error:
            self._previous = None
            return self._sign(record, at, payload | {"error": str(error)})
        if len(reading.backends) * LEAST_BACKEND_BYTES <= LARGEST_BODY:
            services = self._services(reading, owned)
            envelope = self._sign(record, at, payload | {"services": services})
            if len(envelope["body"]) <= LARGEST_BODY:
                return envelope
        self._previous = None
        said = f"The table has {len(reading.table)} services, too many to show live."
        return self._sign(record, at, payload | {"error": said})

    def _reading(self) -> tuple[Reading, Table | None]:
        """The kernel, and what it is meant to hold; None where that changed meanwhile."""
        aim = self._director.aim
        with aim.acting:
            before = aim.effective
            reading = self._director.kernel.read()
            is_settled = before is not None and aim.effective is before
        aim.reading = reading
        return reading, before.table if before and is_settled else None

    def _switches(self, record: Record | None) -> list[dict[str, str | None]]:
        """The kernel's switches that have another value than is wanted, and why, where that is known."""
        director = self._director
        if record is None or director.switches is None:
            return []
        problems = director.aim.switch_problems
        return [
            {"name": one.name, "wanted": one.value, "held": one.before, "problem": problems.get(one.name, "")}
            for one in switches_to_set(record.ordered.traffic.switches, director.switches)
        ]

    def _fingerprint(self, ours: Table) -> str:
        # Services that stayed as they are come from the kernel's reader as the same objects, so that this
        # comparison is quick where the fingerprint of 100,000 backends takes half a second.
        if ours != self._ours[0]:
            self._ours = ours, fingerprint(ours)
        return self._ours[1]

    def _sign(self, record: Record | None, at: float, payload: dict[str, Any]) -> dict[str, str]:
        cluster = record.cluster if record else ""
        frame = Frame(self._director.name, cluster, self._sequence.take(), at, PERIOD_S, payload)
        return self._key.sign("frame", frame.to_body())

    def _services(self, reading: Reading, owned: frozenset[ServiceKey]) -> list[dict[str, Any]]:
        now = self._monotonic()
        before, seconds = Reading(), 0.0
        if self._previous is not None:
            before, seconds = self._previous[1], now - self._previous[0]
        self._previous = now, reading
        return [
            counted_service(service, reading, owned=owned, before=before, seconds=seconds)
            for service in reading.table
        ]

    def _record(self) -> Record | None:
        try:
            return self._director.journal.read()
        except JournalError as error:
            log.error("journal unreadable reason=%s", error)
            return None


def redis_calls(broker: str) -> tuple[Put, Ask]:
    """What stores frames in the broker's Redis and what gets ballots, with deadlines that keep the loop's
    beat."""
    # Kombu and redis-py name the same socket differently.
    client = redis.Redis.from_url(
        broker.replace("redis+socket://", "unix://", 1),
        socket_timeout=REDIS_DEADLINE_S,
        socket_connect_timeout=REDIS_DEADLINE_S,
        retry=Retry(NoBackoff(), 0),
    )

    def put(key: str, text: str) -> None:
        client.set(key, text, ex=FRAME_LIFETIME_S)

    def ask(keys: Sequence[str]) -> Sequence[bytes | str | None]:
        return list(client.mget(keys)) if keys else []

    return put, ask


def _applied_revision(record: Record | None) -> int:
    return record.applied_revision if record else 0
