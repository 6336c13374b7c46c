"""What the directors say right now: signed frames from Redis, with their age. Never an exception.

Redis down is a state of the answer, and an old frame stays visible with its age: a page must neither
fail nor look alive on dead numbers. The age is no matter of the director's clock: docs/decisions/0012.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import redis
from django.conf import settings

from cluster.ipvs.formats.document import VERSION, from_document, key_from_document
from cluster.ipvs.impact import Open
from cluster.ipvs.state import BackendKey, Table, canonical_address, endpoint
from cluster.ipvs.stats import BackendCounters
from cluster.ipvs.traffic.effective import Note
from cluster.ipvs.traffic.paths import is_check_path
from cluster.models import Director
from cluster.wire import envelope
from cluster.wire.messages import FRAME_LIFETIME_S, Frame, frame_key
from cluster.wire.payloads import has_sound_numbers

# The kernel refreshes its counters every 2 s; three missed frames are no hiccup.
PERIOD_S = 2.0
STALE_AFTER_S = 3 * PERIOD_S
LARGEST_COUNTER = 2**64
MOST_SWITCHES, LONGEST_TEXT = 100, 1000
_SWITCH_NAMES = ("name", "wanted", "held", "problem")
RATE_NAMES = ("connections", "in_packets", "out_packets", "in_bytes", "out_bytes")


@dataclass(frozen=True)
class OddSwitch:
    """A switch below net.ipv4.vs that has another value on a director than its newest order wants; `held`
    is empty where the kernel has none of that name. `problem` says why it was not set, as far as known."""

    name: str
    wanted: str
    held: str
    problem: str


@dataclass(frozen=True)
class DirectorLive:
    """The newest frame of one director, `age_s` old; `at` is when it came, by the panel's clock. `frame` is
    None where there is none to be believed. `table` is what it shows of the kernel."""

    director: Director
    frame: Frame | None = None
    age_s: float | None = None
    at: float | None = None
    table: Table = field(default_factory=Table)

    @property
    def is_stale(self) -> bool:
        return self.age_s is None or self.age_s > STALE_AFTER_S

    @property
    def shows_kernel(self) -> bool:
        """Whether `table` is what the kernel holds now."""
        return self.frame is not None and not self.is_stale and not self.error

    @property
    def error(self) -> str:
        return str(self.frame.payload.get("error") or "") if self.frame else ""

    @property
    def checks(self) -> dict[str, float] | None:
        """How the director's health checks keep up; None where it runs none, or says nothing that can be
        read."""
        said = self.frame.payload.get("checks") if self.frame else None
        if not isinstance(said, dict):
            return None
        found = {}
        for name in ("per_second", "late_share", "cpu_share"):
            value = said.get(name)
            # NaN is in no interval.
            if not isinstance(value, int | float) or not 0 <= value < LARGEST_COUNTER:
                return None
            found[name] = float(value)
        return found if found["per_second"] else None

    @property
    def checks_trouble(self) -> str:
        """A sentence where its health checks stand still, or did so lately."""
        said = self.frame.payload.get("checks") if self.frame and not self.is_stale else None
        return str(said.get("trouble") or "")[:LONGEST_TEXT] if isinstance(said, dict) else ""

    @property
    def odd_switches(self) -> list[OddSwitch]:
        """What of its switches is not as wanted; none where the frame is too old to say, or says nothing that
        can be read."""
        said = self.frame.payload.get("switches") if self.frame and not self.is_stale else None
        return [
            OddSwitch(*(str(one.get(name) or "")[:LONGEST_TEXT] for name in _SWITCH_NAMES))
            for one in (said[:MOST_SWITCHES] if isinstance(said, list) else [])
            if isinstance(one, dict)
        ]

    @property
    def services(self) -> list[dict[str, Any]]:
        return list(self.frame.payload.get("services", [])) if self.frame else []


@dataclass(frozen=True)
class Live:
    """All that was asked for, and whether Redis answered."""

    redis_is_up: bool
    directors: list[DirectorLive] = field(default_factory=list)

    @property
    def counted(self) -> list[DirectorLive]:
        """Whose numbers a page sums: the fresh ones, or, where there is none, what is left of all."""
        fresh = [one for one in self.directors if not one.is_stale]
        return fresh or [one for one in self.directors if one.frame]

    @property
    def left_out(self) -> list[Director]:
        """Who is not in the sums, because its numbers are old or missing while others' are fresh."""
        fresh = any(not one.is_stale for one in self.directors)
        return [one.director for one in self.directors if fresh and one.is_stale]

    @property
    def stamp(self) -> str:
        """Changes exactly when a page would look different: a poll that sends it back gets nothing new."""
        parts = [
            f"{one.director.pk}.{one.frame.sequence if one.frame else 0}.{int(one.is_stale)}"
            for one in self.directors
        ]
        return "-".join([str(int(self.redis_is_up)), *parts])


def read(directors: Iterable[Director]) -> Live:
    """One question for all; each frame is checked against its director's key."""
    directors = list(directors)
    if not directors:
        return Live(True)
    keys = [frame_key(director.name) for director in directors]
    try:
        # As one transaction, or the age of a frame could be that of the next one.
        with client().pipeline(transaction=True) as asked:
            asked.mget(keys)
            for key in keys:
                asked.pttl(key)
            texts, *left_ms = asked.execute()
    except redis.RedisError:
        return Live(False, [DirectorLive(director) for director in directors])
    now = time.time()
    found = zip(directors, texts, left_ms, strict=True)
    return Live(True, [_believed(director, text, left, now=now) for director, text, left in found])


def redis_is_up() -> bool:
    try:
        return bool(client().ping())
    except redis.RedisError:
        return False


@cache
def client() -> redis.Redis:
    """Short deadlines: a page waits for Redis no longer than an operator would not notice."""
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.5, socket_connect_timeout=0.5)


def _believed(director: Director, text: bytes | str | None, left_ms: int, *, now: float) -> DirectorLive:
    if text is None or not director.public_key:
        return DirectorLive(director)
    try:
        body = envelope.verify(envelope.parse(text), "frame", public=director.public_key)
        frame = Frame.from_body(body)
        table = _table_in(frame)
    except (envelope.Refused, ValueError):
        return DirectorLive(director)
    if frame.director != director.name or not has_sound_numbers(frame):
        return DirectorLive(director)
    age_s = _age_s(director, frame, left_ms, now=now)
    return (
        DirectorLive(director) if age_s is None else DirectorLive(director, frame, age_s, now - age_s, table)
    )


def _age_s(director: Director, frame: Frame, left_ms: int, *, now: float) -> float | None:
    """How long the frame lies in Redis, by Redis's own count of what is left of its life; None for one that
    nobody should believe. Who can write to Redis can put an old frame there anew: one with a lower number
    than was seen is none, and one that was seen gets older by the panel's clock."""
    age_s = FRAME_LIFETIME_S - left_ms / 1000
    if left_ms < 0 or age_s < 0 or frame.sequence < director.frame_sequence:
        return None
    if frame.sequence == director.frame_sequence and director.seen_at is not None:
        return max(age_s, now - director.seen_at.timestamp())
    return age_s


def _table_in(frame: Frame) -> Table:
    """The services of the frame as a table; ValueError unless they also have the fields that pages count
    on. An old or broken worker's may not."""
    services = frame.payload.get("services")
    table = from_document({"version": VERSION, "services": services})
    for service in services or []:
        if not isinstance(service.get("owned"), bool):
            raise ValueError("A service is neither owned nor foreign.")
        for counted in (service, *service["backends"]):
            _refuse_odd_counters(counted)
    return table


def _refuse_odd_counters(counted: dict[str, Any]) -> None:
    """ValueError unless all counters, where given, are numbers that can be summed and shown."""
    numbers = [counted.get(name, 0) for name in ("active", "inactive", "persistent")]
    for group in (counted.get("totals", {}), counted.get("rates", {})):
        if not isinstance(group, dict):
            raise ValueError("Counters are not an object.")
        numbers += [group.get(name, 0) for name in RATE_NAMES]
    # NaN is in no interval.
    if not all(isinstance(number, int | float) and 0 <= number < LARGEST_COUNTER for number in numbers):
        raise ValueError("A counter is not a number.")


def presence(one: DirectorLive, *, redis_is_up: bool) -> str:
    """`online`, `away`, or `unknown` while Redis is down and nobody can tell."""
    if not redis_is_up:
        return "unknown"
    return "away" if one.is_stale else "online"


@dataclass
class Row:
    """A service or backend with the sums over the directors that carry it. Rates are per second. `notes` is
    how a backend stands on each director, by the director's name, where cluster/standing.py knows it."""

    label: str
    address: str
    scheduler: str = ""
    forwarding: str = ""
    weights: set[int] = field(default_factory=set)
    is_owned: bool = True
    active: int = 0
    inactive: int = 0
    rates: dict[str, float] = field(default_factory=lambda: dict.fromkeys(RATE_NAMES, 0.0))
    totals: dict[str, int] = field(default_factory=lambda: dict.fromkeys(RATE_NAMES, 0))
    backends: dict[str, Row] = field(default_factory=dict)
    notes: dict[str, Note] = field(default_factory=dict)

    @property
    def standings(self) -> list[tuple[Note, str]]:
        """Each different note once, with the directors that it is not true of all of."""
        found: dict[Note, list[str]] = {}
        for director, note in sorted(self.notes.items()):
            found.setdefault(note, []).append(director)
        return [(note, ", ".join(names) if len(found) > 1 else "") for note, names in found.items()]

    @property
    def weight(self) -> str:
        """One number, or all that the directors have where they do not agree."""
        return " / ".join(str(weight) for weight in sorted(self.weights))

    def add(self, numbers: dict[str, Any]) -> None:
        self.active += int(numbers.get("active", 0))
        self.inactive += int(numbers.get("inactive", 0))
        for name in RATE_NAMES:
            self.rates[name] += float(numbers.get("rates", {}).get(name, 0.0))
            self.totals[name] += int(numbers.get("totals", {}).get(name, 0))


def rows(answers: Live, *, only: str = "") -> list[Row]:
    """The services of the directors that count, summed where several carry the same; `only` is one service's
    `PROTOCOL address:port`."""
    found: dict[str, Row] = {}
    for one in answers.counted:
        for service in one.services:
            key = service_label(service)
            if (only and key != only) or is_check_path(key_from_document(service)):
                continue
            row = found.setdefault(key, Row(key, key.partition(" ")[2]))
            row.scheduler = str(service.get("scheduler", ""))
            row.is_owned = row.is_owned and bool(service.get("owned", True))
            row.add(service)
            for backend in service.get("backends", []):
                _add_backend(row, backend)
    return [found[key] for key in sorted(found)]


def open_connections(one: DirectorLive) -> Open | None:
    """The connections of each backend, from a fresh frame; None where there is none."""
    if not one.shows_kernel:
        return None
    return {
        key_from_document(service): {
            BackendKey(canonical_address(backend["address"]), backend["port"]): BackendCounters(
                active=int(backend.get("active", 0)),
                inactive=int(backend.get("inactive", 0)),
                persistent=int(backend.get("persistent", 0)),
            )
            for backend in service["backends"]
        }
        for service in one.services
    }


def service_label(service: dict[str, Any]) -> str:
    """As `str(ServiceKey)` says it."""
    return str(key_from_document(service))


def _add_backend(row: Row, backend: dict[str, Any]) -> None:
    address = endpoint(backend["address"], backend["port"])
    part = row.backends.setdefault(address, Row(address, address))
    part.forwarding = str(backend.get("forwarding", ""))
    part.weights.add(int(backend.get("weight", 0)))
    part.add(backend)
    row.active += int(backend.get("active", 0))
    row.inactive += int(backend.get("inactive", 0))
