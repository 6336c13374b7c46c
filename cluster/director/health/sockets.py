"""Sockets on their way to a backend: the usual one, or the clients' way by a firewall mark."""

from __future__ import annotations

import socket
import time
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv6Address, IPv6Network
from pathlib import Path

from cluster.director.health import Watched
from cluster.ipvs.traffic.checks import Check, CheckKind

# asm-generic/socket.h; Python has no name for it.
_SO_MARK = 36
IPV6_ADDRESSES = Path("/proc/net/if_inet6")
# linux/if_addr.h: failed or unfinished search for duplicates, and deprecated.
_NOT_TO_SEND_FROM = 0x08 | 0x40 | 0x20
_ALONE = 128
# linux/in.h: the port is chosen when the goal is known, so that one port serves many goals.
_IP_BIND_ADDRESS_NO_PORT = 24
_SOURCE_HOLDS_S, _MOST_SOURCES = 5.0, 20_000
_sources: dict[tuple[str, str], tuple[float, str]] = {}


class Unreachable(Exception):
    """There is nothing to connect to; the text is the reason, without a full stop."""


class NotTried(Exception):
    """The director itself lacked something, so that nothing is known of the backend; the text says what."""


@dataclass(frozen=True, slots=True)
class Goal:
    """Where a check goes. `source` is the address to send from, empty for the kernel's choice."""

    address: str
    port: int
    mark: int = 0
    source: str = ""

    @property
    def family(self) -> socket.AddressFamily:
        return socket.AF_INET6 if ":" in self.address else socket.AF_INET


def goal_of(one: Watched, check: Check) -> Goal:
    """Where this check of this backend goes. Unreachable where it can go nowhere."""
    port = check.port or one.backend.port or one.service.port
    if not port and check.kind not in (CheckKind.PING, CheckKind.SCRIPT):
        raise Unreachable("the check names no port, and neither does the backend")
    if not check.through_service:
        address = check.address or one.backend.address
        return Goal(address, port, source=_source(address, one.service.address) if ":" in address else "")
    if check.kind in (CheckKind.PING, CheckKind.SCRIPT):
        # No kernel balances echoes, and a script's own sockets have no mark: both would be plain checks.
        raise Unreachable(f"a {check.kind} check cannot go through the service")
    if not one.mark:
        raise Unreachable("only direct routing and tunnel can be checked through the service")
    # The reply comes from the service's address to this one, so it must not be the service's as well.
    source = _source(one.backend.address, one.service.address)
    if not source:
        raise Unreachable("the director has no address of its own towards the backend")
    return Goal(one.service.address, check.port or one.service.port, one.mark, source)


def _source(address: str, avoid: str) -> str:
    """`own_source` towards this address, looked up again every few seconds: addresses come and go, and checks
    are many."""
    now = time.monotonic()
    found = _sources.get((address, avoid))
    if found is None or found[0] < now:
        if len(_sources) > _MOST_SOURCES:
            _sources.clear()
        found = now + _SOURCE_HOLDS_S, own_source(source_towards(address), address, avoid=avoid)
        _sources[address, avoid] = found
    return found[1]


def source_towards(address: str) -> str:
    """The address that this machine would send from. Unreachable where there is no route."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as asked:
        try:
            # Nothing is sent: a datagram socket only looks its route up.
            asked.connect((address, 9))
        except OSError as error:
            raise Unreachable(f"no route: {error.strerror}") from error
        return str(asked.getsockname()[0])


def own_source(chosen: str, backend: str, *, avoid: str, listed: Path = IPV6_ADDRESSES) -> str:
    """The address to send to the backend from, where the kernel would take `chosen`; empty where there is
    none but `avoid`, the service's.

    Of several IPv6 addresses the kernel takes the one that is most like the goal, and that may be a virtual
    one. The backend has it too, and would answer itself. So what stands alone (/128) gives way to another of
    its interface that has a network, most of all the backend's."""
    held = _held(listed) if ":" in chosen else []
    prefixes = {str(address): prefix for address, prefix, _ in held}
    if chosen != avoid and prefixes.get(chosen) != _ALONE:
        return chosen
    near = {interface for address, _, interface in held if str(address) == chosen}
    goal = IPv6Address(backend) if held else None
    others = [
        (prefix != _ALONE, goal in IPv6Network((address, prefix), strict=False), -int(address), str(address))
        for address, prefix, interface in held
        if interface in near and str(address) not in (chosen, avoid)
    ]
    has_network, *_, best = max(others, default=(False, False, 0, ""))
    if chosen == avoid:
        return best
    return best if has_network else chosen


def _held(listed: Path) -> list[tuple[IPv6Address, int, str]]:
    """This machine's global IPv6 addresses that can be sent from, with prefix and interface."""
    try:
        rows = [line.split() for line in listed.read_text().splitlines()]
    except OSError:
        return []
    return [
        (IPv6Address(int(digits, 16)), int(prefix, 16), interface)
        for digits, _, prefix, scope, flags, interface in rows
        if int(scope, 16) == 0 and not int(flags, 16) & _NOT_TO_SEND_FROM
    ]


def open_socket(goal: Goal, kind: socket.SocketKind) -> socket.socket:
    """A non-blocking socket for this goal, not connected. OSError where the kernel refuses, for instance a
    mark without CAP_NET_ADMIN."""
    # Born so, it needs no system call of its own to be made non-blocking.
    found = socket.socket(goal.family, kind | socket.SOCK_NONBLOCK)
    try:
        if goal.mark:
            found.setsockopt(socket.SOL_SOCKET, _SO_MARK, goal.mark)
        if goal.source:
            if kind == socket.SOCK_STREAM:
                with suppress(OSError):
                    found.setsockopt(socket.IPPROTO_IP, _IP_BIND_ADDRESS_NO_PORT, 1)
            found.bind((goal.source, 0))
    except BaseException:
        found.close()
        raise
    return found
