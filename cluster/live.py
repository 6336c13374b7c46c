"""What the directors say right now: signed frames from Redis, with their age. Never an exception.

Redis down is a state of the answer, and an old frame stays visible with its age: a page must neither
fail nor look alive on dead numbers.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import redis
from django.conf import settings

from cluster.models import Director
from cluster.wire import envelope
from cluster.wire.messages import Frame, frame_key

# The kernel refreshes its counters every 2 s; three missed frames are no hiccup.
PERIOD_S = 2.0
STALE_AFTER_S = 3 * PERIOD_S


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


def _believed(director: Director, text: bytes | None) -> DirectorLive:
    if text is None or not director.public_key:
        return DirectorLive(director)
    try:
        body = envelope.verify(envelope.parse(text), "frame", public=director.public_key)
        frame = Frame.from_body(body)
    except envelope.Refused:
        return DirectorLive(director)
    if frame.director != director.name:
        return DirectorLive(director)
    return DirectorLive(director, frame, max(0.0, time.time() - frame.at))
