"""One try of one check, whatever its kind, with one deadline for all of it."""

from __future__ import annotations

import asyncio
import errno
import os
import socket
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from cluster.director.health import Tried, Watched
from cluster.director.health.datagrams import check_dns, check_ping, check_udp
from cluster.director.health.scripts import check_script
from cluster.director.health.sockets import Goal, NotTried, Unreachable, goal_of
from cluster.director.health.streams import (
    BadAnswer,
    Stream,
    check_http,
    check_smtp,
    check_tcp,
    check_tls,
    connect,
    fetch,
    printable,
)
from cluster.ipvs.traffic.checks import Check, CheckKind
from cluster.ipvs.traffic.loads import percent_in
from cluster.ipvs.traffic.policy import LoadRule

AGENT_DEADLINE_S = 2.0

# What the director has run out of.
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)

_STREAMS: dict[CheckKind, Callable[[socket.socket, Goal, Check], Awaitable[Tried]]] = {
    CheckKind.TCP: check_tcp,
    CheckKind.TLS: check_tls,
    CheckKind.HTTP: check_http,
    CheckKind.HTTPS: check_http,
    CheckKind.SMTP: check_smtp,
}
_DATAGRAMS: dict[CheckKind, Callable[[Goal, Check], Awaitable[Tried]]] = {
    CheckKind.UDP: check_udp,
    CheckKind.DNS: check_dns,
    CheckKind.PING: check_ping,
}
# Those that begin with a TCP connection.
CONNECTING: Final = frozenset(_STREAMS)


async def probe(one: Watched, check: Check, *, scripts: Path) -> Tried:
    """Try the check once, within its timeout, and say how long that took. NotTried where the director itself
    lacks something."""
    began = time.perf_counter()
    try:
        async with asyncio.timeout(check.timeout_s):
            tried = await attempt(one, check, scripts=scripts)
    except TimeoutError as error:
        tried = failed(check, error)
    return replace(tried, took_ms=(time.perf_counter() - began) * 1000)


async def attempt(one: Watched, check: Check, *, scripts: Path) -> Tried:
    """Try the check once; whoever calls cancels it where it takes too long. Every failure of the backend is
    an answer. NotTried where the director itself lacks something."""
    try:
        goal = goal_of(one, check)
        if check.kind is CheckKind.SCRIPT:
            return await check_script(goal, check, folder=scripts)
        if check.kind in CONNECTING:
            return await _STREAMS[check.kind](await connect(goal), goal, check)
        return await _DATAGRAMS[check.kind](goal, check)
    except Exception as error:
        return failed(check, error)


async def talk(connected: socket.socket, goal: Goal, check: Check) -> Tried:
    """The rest of an attempt, once there is a connection."""
    try:
        return await _STREAMS[check.kind](connected, goal, check)
    except Exception as error:
        return failed(check, error)


def failed(check: Check, error: Exception) -> Tried:
    """What an error says of the backend. NotTried where it says something of the director alone; the error
    itself where it is a mistake of ours."""
    match error:
        case TimeoutError():
            what = "connect" if check.kind is CheckKind.TCP else check.kind.upper()
            reason = f"{what} timeout"
        case Unreachable() | BadAnswer():
            reason = str(error)
        case ssl.SSLError():
            said = getattr(error, "verify_message", "") or error.reason or "no handshake"
            reason = f"TLS: {said.lower().replace('_', ' ')}"
        case OSError():
            if error.errno in _OURS:
                raise NotTried(os.strerror(error.errno).lower()) from error
            reason = _in_words(error)
        case ValueError():
            # A name that no packet can carry, for instance.
            reason = f"this check cannot be made: {printable(str(error))}"
        case _:
            raise error
    return Tried(False, reason, 0.0)


async def ask_agent(one: Watched, rule: LoadRule) -> int | None:
    """What percent of its weight the backend's agent says it can take, 0 where it wants to be drained. None
    where it says nothing that can be read."""
    check = Check(CheckKind.HTTP, port=rule.port, path=rule.path, most_bytes=64)
    try:
        async with asyncio.timeout(min(AGENT_DEADLINE_S, rule.interval_s)):
            goal = goal_of(one, check)
            stream = Stream(await connect(goal))
            try:
                # By what it says, not by its status: one that wants to be drained may well answer 503.
                _, body = await fetch(stream, goal, check)
            finally:
                stream.close()
    except (TimeoutError, OSError, ValueError, Unreachable, BadAnswer):
        return None
    return percent_in(body.decode("utf-8", "replace"))


def _in_words(error: OSError) -> str:
    match error.errno:
        case errno.ECONNREFUSED:
            return "connection refused"
        case errno.ECONNRESET | errno.EPIPE:
            return "connection reset"
        case errno.EHOSTUNREACH | errno.ENETUNREACH:
            return "no route to the backend"
        case errno.EPERM | errno.EACCES:
            return "the worker may not do this check (see docs/operating.md, Health checks)"
        case None:
            return str(error)[:100] or type(error).__name__
        case number:
            return os.strerror(number).lower()
