"""One try of one check, whatever its kind, with one deadline for all of it."""

from __future__ import annotations

import asyncio
import errno
import os
import ssl
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path

from cluster.director.health import Tried, Watched
from cluster.director.health.datagrams import check_dns, check_ping, check_udp
from cluster.director.health.scripts import check_script
from cluster.director.health.sockets import Goal, NotTried, Unreachable, goal_of
from cluster.director.health.streams import (
    BadAnswer,
    check_http,
    check_smtp,
    check_tcp,
    check_tls,
    fetch,
    printable,
)
from cluster.ipvs.traffic.checks import Check, CheckKind
from cluster.ipvs.traffic.policy import LoadRule

AGENT_DEADLINE_S = 2.0

# What the director has run out of.
_OURS = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM, errno.EADDRNOTAVAIL)

_PROBES: dict[CheckKind, Callable[[Goal, Check], Awaitable[Tried]]] = {
    CheckKind.TCP: check_tcp,
    CheckKind.TLS: check_tls,
    CheckKind.HTTP: check_http,
    CheckKind.HTTPS: check_http,
    CheckKind.UDP: check_udp,
    CheckKind.DNS: check_dns,
    CheckKind.SMTP: check_smtp,
    CheckKind.PING: check_ping,
}


async def probe(one: Watched, check: Check, *, scripts: Path) -> Tried:
    """Try the check once. Every failure of the backend is an answer. NotTried where the director itself lacks
    something."""
    began = time.perf_counter()
    try:
        goal = goal_of(one, check)
        async with asyncio.timeout(check.timeout_s):
            if check.kind is CheckKind.SCRIPT:
                tried = await check_script(goal, check, folder=scripts)
            else:
                tried = await _PROBES[check.kind](goal, check)
    except TimeoutError:
        what = "connect" if check.kind is CheckKind.TCP else check.kind.upper()
        tried = Tried(False, f"{what} timeout", 0.0)
    except (Unreachable, BadAnswer) as reason:
        tried = Tried(False, str(reason), 0.0)
    except ssl.SSLError as error:
        said = getattr(error, "verify_message", "") or error.reason or "no handshake"
        tried = Tried(False, f"TLS: {said.lower().replace('_', ' ')}", 0.0)
    except OSError as error:
        if error.errno in _OURS:
            raise NotTried(os.strerror(error.errno).lower()) from error
        tried = Tried(False, _in_words(error), 0.0)
    except ValueError as error:
        # A name that no packet can carry, for instance.
        tried = Tried(False, f"this check cannot be made: {printable(str(error))}", 0.0)
    return replace(tried, took_ms=(time.perf_counter() - began) * 1000)


async def ask_agent(one: Watched, rule: LoadRule) -> int | None:
    """What percent of its weight the backend's agent says it can take, 0 where it wants to be drained. None
    where it says nothing that can be read."""
    check = Check(CheckKind.HTTP, port=rule.port, path=rule.path, most_bytes=64)
    try:
        async with asyncio.timeout(min(AGENT_DEADLINE_S, rule.interval_s)):
            # By what it says, not by its status: one that wants to be drained may well answer 503.
            _, body = await fetch(goal_of(one, check), check)
    except (TimeoutError, OSError, ValueError, Unreachable, BadAnswer):
        return None
    return percent_in(body.decode("utf-8", "replace"))


def percent_in(said: str) -> int | None:
    """`up` is 100, `drain` is 0, `75%` and `75` are 75; None for anything else."""
    word = said.strip().lower()
    if word in ("up", "ready"):
        return 100
    if word == "drain":
        return 0
    number = word.removesuffix("%").strip()
    if number.isascii() and number.isdigit() and len(number) <= 4:
        return min(int(number), 1000)
    return None


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
