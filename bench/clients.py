"""Many HTTP clients in one process: what they asked, how long it took, and every request that failed.

`python -S -m bench.clients SETTINGS` runs on the lab's client until SIGTERM, and needs nothing but Python. It
prints two lines of JSON: `{"ready": process id}` once every client has been answered or has failed, and at
the end the document of `Crowd.document`.
"""

from __future__ import annotations

import asyncio
import errno
import json
import math
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Self

LONGEST_HEAD = 16 * 1024
# A forgotten crowd goes home by itself.
LONGEST_RUN_S = 900.0

Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True, slots=True)
class Group:
    """So many clients of one service, each with one request at a time and about `pause_s` between two. With
    `keeps_alive` all requests of a client go over one connection for as long as the server lets it live;
    without, each has a connection of its own. A request without its whole answer within `limit_s`, connecting
    included, has failed."""

    name: str
    address: str
    port: int
    clients: int
    pause_s: float
    keeps_alive: bool = True
    limit_s: float = 2.0


@dataclass(frozen=True, slots=True)
class Failure:
    """A request without its answer: when it began, when that was known, by the machine's monotonic clock;
    `refused`, `reset`, `cut` (closed in the middle of an answer), `timeout`, `unreachable` or `status`; and
    whether it was the first on its connection."""

    began: float
    ended: float
    kind: str
    is_new: bool


class Crowd:
    """Groups of clients, and what becomes of their requests."""

    def __init__(self, groups: list[Group]) -> None:
        self.groups = groups
        self.began = time.monotonic()
        self._latencies: dict[str, list[float]] = {group.name: [] for group in groups}
        self._failures: dict[str, list[Failure]] = {group.name: [] for group in groups}
        self._connections: Counter[str] = Counter()
        self._closed_idle: Counter[str] = Counter()
        self._stopping = asyncio.Event()
        self._unheard = sum(group.clients for group in groups)
        self.all_heard = asyncio.Event()

    async def run(self) -> None:
        """Ask until `stop`; requests under way then are still waited for."""
        async with asyncio.TaskGroup() as tasks:
            for group in self.groups:
                for _ in range(group.clients):
                    tasks.create_task(self._client(group))

    def stop(self) -> None:
        self._stopping.set()

    def document(self) -> dict[str, Any]:
        """What it came to, a group each: `requests` that have ended, `connections` that were opened,
        `closed_idle` of them that were closed or reset between two requests, so that none was lost, times in
        milliseconds of the requests that succeeded, and each failure."""
        return {
            "began": self.began,
            "ended": time.monotonic(),
            "groups": {group.name: self._sum(group.name) for group in self.groups},
        }

    def _sum(self, name: str) -> dict[str, Any]:
        times, failures = sorted(self._latencies[name]), self._failures[name]
        return {
            "requests": len(times) + len(failures),
            "connections": self._connections[name],
            "closed_idle": self._closed_idle[name],
            "p50_ms": 1000 * percentile(times, 50),
            "p99_ms": 1000 * percentile(times, 99),
            "failures": [asdict(failure) for failure in failures],
        }

    async def _client(self, group: Group) -> None:
        connection: Connection | None = None
        await self._pause(random.uniform(0, group.pause_s))
        is_heard = False
        while not self._stopping.is_set():
            connection = await self._request(group, connection)
            if not is_heard:
                is_heard = True
                self._unheard -= 1
                if not self._unheard:
                    self.all_heard.set()
            # Clients in step would be one client.
            await self._pause(group.pause_s * random.uniform(0.5, 1.5))
        if connection:
            connection[1].close()

    async def _request(self, group: Group, connection: Connection | None) -> Connection | None:
        """One request; the connection for the next one, None where that needs a new one."""
        if connection and (connection[0].at_eof() or connection[0].exception()):
            self._closed_idle[group.name] += 1
            connection[1].close()
            connection = None
        began, is_new = time.monotonic(), connection is None
        try:
            async with asyncio.timeout(group.limit_s):
                if connection is None:
                    self._connections[group.name] += 1
                    connection = await asyncio.open_connection(group.address, group.port, limit=LONGEST_HEAD)
                stays = await _ask(group, *connection)
        except (OSError, EOFError, ValueError) as problem:
            failure = Failure(began, time.monotonic(), _kind(problem), is_new)
            self._failures[group.name].append(failure)
            stays = False
        else:
            self._latencies[group.name].append(time.monotonic() - began)
        if connection and not stays:
            connection[1].close()
            return None
        return connection

    async def _pause(self, seconds: float) -> None:
        try:
            async with asyncio.timeout(seconds):
                await self._stopping.wait()
        except TimeoutError:
            return


class WrongStatus(ValueError):
    """The answer came and was not 200."""


async def _ask(group: Group, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
    """Whether the connection may be used again. OSError, EOFError or ValueError where no good answer came."""
    manner = "keep-alive" if group.keeps_alive else "close"
    writer.write(f"GET / HTTP/1.1\r\nHost: {group.address}\r\nConnection: {manner}\r\n\r\n".encode())
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").lower()
    length = int(_field(head, "content-length"))
    await reader.readexactly(length)
    if head.split()[1] != "200":
        raise WrongStatus(head.split("\r\n", 1)[0])
    return group.keeps_alive and _field(head, "connection") != "close"


def _field(head: str, name: str) -> str:
    for line in head.split("\r\n"):
        if line.startswith(f"{name}:"):
            return line.split(":", 1)[1].strip()
    raise ValueError(f"The answer has no {name}.")


def _kind(problem: Exception) -> str:
    if isinstance(problem, TimeoutError):
        return "timeout"
    if isinstance(problem, ConnectionRefusedError):
        return "refused"
    if isinstance(problem, EOFError):
        return "cut"
    if isinstance(problem, ValueError):
        return "status"
    if isinstance(problem, OSError) and problem.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return "unreachable"
    return "reset"


def percentile(values: list[float], percent: float) -> float:
    """The smallest of the sorted values below or at which this share of them is; 0 of none."""
    return values[max(0, math.ceil(len(values) * percent / 100) - 1)] if values else 0.0


@dataclass(frozen=True, slots=True)
class Answers:
    """The document of a crowd, read back."""

    requests: int
    connections: int
    closed_idle: int
    p50_ms: float
    p99_ms: float
    failures: tuple[Failure, ...]

    @classmethod
    def read(cls, document: Mapping[str, Any]) -> dict[str, Self]:
        """By the group's name."""
        return {
            name: cls(**said | {"failures": tuple(Failure(**one) for one in said["failures"])})
            for name, said in document["groups"].items()
        }


async def _main(groups: list[Group]) -> None:
    crowd = Crowd(groups)
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGTERM, crowd.stop)
    loop.call_later(LONGEST_RUN_S, crowd.stop)
    running = asyncio.create_task(crowd.run())
    await crowd.all_heard.wait()
    print(json.dumps({"ready": os.getpid()}), flush=True)
    await running
    print(json.dumps(crowd.document()), flush=True)


if __name__ == "__main__":
    asyncio.run(_main([Group(**one) for one in json.loads(sys.argv[1])]))
