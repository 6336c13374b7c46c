"""What the directors say right now: signed frames from Redis, with their age. Never an exception.

Redis down is a state of the answer, and an old frame stays visible with its age: a page must neither
fail nor look alive on dead numbers.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import redis
from django.conf import settings

from cluster.ipvs.formats.document import key_from_document
from cluster.ipvs.state import endpoint
from cluster.models import Director
from cluster.wire import envelope
from cluster.wire.messages import Frame, frame_key

# The kernel refreshes its counters every 2 s; three missed frames are no hiccup.
PERIOD_S = 2.0
STALE_AFTER_S = 3 * PERIOD_S
RATE_NAMES = ("connections", "in_packets", "out_packets", "in_bytes", "out_bytes")


@dataclass(frozen=True)
class DirectorLive:
    """The newest frame of one director; `frame` is None where there is none to be believed."""

    director: Director
    frame: Frame | None = None
    age_s: float | None = None

    @property
    def is_stale(self) -> bool:
        return self.age_s is None or self.age_s > STALE_AFTER_S

    @property
    def error(self) -> str:
        return str(self.frame.payload.get("error") or "") if self.frame else ""

    @property
    def services(self) -> list[dict[str, Any]]:
        return list(self.frame.payload.get("services", [])) if self.frame else []


@dataclass(frozen=True)
class Live:
    """All that was asked for, and whether Redis answered."""

    redis_is_up: bool
    directors: list[DirectorLive] = field(default_factory=list)

    @property
    def stamp(self) -> str:
        """Changes exactly when a page would look different: a poll that sends it back gets nothing new."""
        parts = [
            f"{one.director.pk}.{one.frame.sequence if one.frame else 0}.{int(one.is_stale)}"
            for one in self.directors
        ]
        return "-".join([str(int(self.redis_is_up)), *parts])


def read(directors: Iterable[Director]) -> Live:
    """One MGET for all; each frame is checked against its director's key."""
    directors = list(directors)
    keys = [frame_key(director.name) for director in directors]
    try:
        texts = client().mget(keys) if keys else []
    except redis.RedisError:
        return Live(False, [DirectorLive(director) for director in directors])
    return Live(True, [_believed(director, text) for director, text in zip(directors, texts, strict=True)])


def redis_is_up() -> bool:
    try:
        return bool(client().ping())
    except redis.RedisError:
        return False


@cache
def client() -> redis.Redis:
    """Short deadlines: a page waits for Redis no longer than an operator would not notice."""
    return redis.Redis.from_url(settings.REDIS_URL, socket_timeout=0.5, socket_connect_timeout=0.5)


def _believed(director: Director, text: bytes | str | None) -> DirectorLive:
    if text is None or not director.public_key:
        return DirectorLive(director)
    try:
        body = envelope.verify(envelope.parse(text), "frame", public=director.public_key)
        frame = Frame.from_body(body)
    except envelope.Refused:
        return DirectorLive(director)
    if frame.director != director.name or not math.isfinite(frame.at) or not _is_readable(frame):
        return DirectorLive(director)
    # A frame from the future is as little to be trusted as an old one: its clock is wrong.
    return DirectorLive(director, frame, abs(time.time() - frame.at))


def _is_readable(frame: Frame) -> bool:
    """Whether the services of the frame have the fields that pages count on; an old or broken worker's
    may not."""
    try:
        for service in frame.payload["services"]:
            key_from_document(service)
            str(service["scheduler"]), bool(service["owned"])
            _has_numbers(service)
            for part in service["backends"]:
                endpoint(part["address"], int(part["port"])), int(part["weight"]), int(part["active"])
                _has_numbers(part)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return False
    return True


def _has_numbers(counted: dict[str, Any]) -> None:
    """An exception unless totals and rates, where given, are numbers."""
    for name in RATE_NAMES:
        int(counted.get("totals", {}).get(name, 0)), int(counted.get("rates", {}).get(name, 0.0))


def presence(one: DirectorLive, *, redis_is_up: bool) -> str:
    """`online`, `away`, or `unknown` while Redis is down and nobody can tell."""
    if not redis_is_up:
        return "unknown"
    return "away" if one.is_stale else "online"


@dataclass
class Row:
    """A service or backend with the sums over the directors that carry it. Rates are per second."""

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
    """The services of all directors, summed where several carry the same; `only` is one service's
    `PROTOCOL address:port`."""
    found: dict[str, Row] = {}
    for one in answers.directors:
        for service in one.services:
            key = service_label(service)
            if only and key != only:
                continue
            row = found.setdefault(key, Row(key, key.partition(" ")[2]))
            row.scheduler = str(service.get("scheduler", ""))
            row.is_owned = row.is_owned and bool(service.get("owned", True))
            row.add(service)
            for backend in service.get("backends", []):
                _add_backend(row, backend)
    return [found[key] for key in sorted(found)]


def active_connections(one: DirectorLive) -> dict[tuple[str, str], int]:
    """Established connections by service label and backend endpoint."""
    return {
        (service_label(service), endpoint(backend["address"], backend["port"])): int(backend["active"])
        for service in one.services
        for backend in service.get("backends", [])
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
