"""Sockets on their way to a backend: the usual one, or the clients' way by a firewall mark."""

from __future__ import annotations

import socket
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
        return Goal(check.address or one.backend.address, port)
    if check.kind in (CheckKind.PING, CheckKind.SCRIPT):
        # No kernel balances echoes, and a script's own sockets have no mark: both would be plain checks.
        raise Unreachable(f"a {check.kind} check cannot go through the service")
    if not one.mark:
        raise Unreachable("only direct routing and tunnel can be checked through the service")
    # The reply comes from the service's address to this one, so it must not be the service's as well.
    source = source_towards(one.backend.address)
    if source == one.service.address and not (source := source_beside(source, one.backend.address)):
        raise Unreachable("the director has no address of its own towards the backend")
    return Goal(one.service.address, check.port or one.service.port, one.mark, source)


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


def source_beside(address: str, backend: str, *, listed: Path = IPV6_ADDRESSES) -> str:
    """Another IPv6 address of the interface that has this one, to send to the backend from; empty for none.

    Of several, the kernel takes the one that is most like the goal, and that may be a virtual address: the
    backend has it too, and would answer itself. One whose network the backend is in is most likely real."""
    if ":" not in address:
        return ""
    try:
        rows = [line.split() for line in listed.read_text().splitlines()]
    except OSError:
        return ""
    held = [
        (IPv6Address(int(digits, 16)), int(prefix, 16), interface)
        for digits, _, prefix, scope, flags, interface in rows
        if int(scope, 16) == 0 and not int(flags, 16) & _NOT_TO_SEND_FROM
    ]
    near = {interface for found, _, interface in held if str(found) == address}
    goal = IPv6Address(backend)
    others = [
        (prefix < 128 and goal in IPv6Network((found, prefix), strict=False), -int(found), str(found))
        for found, prefix, interface in held
        if interface in near and str(found) != address
    ]
    return max(others)[2] if others else ""


def open_socket(goal: Goal, kind: socket.SocketKind) -> socket.socket:
    """A non-blocking socket for this goal, not connected. OSError where the kernel refuses, for instance a
    mark without CAP_NET_ADMIN."""
    # Born so, it needs no system call of its own to be made non-blocking.
    found = socket.socket(goal.family, kind | socket.SOCK_NONBLOCK)
    try:
        if goal.mark:
            found.setsockopt(socket.SOL_SOCKET, _SO_MARK, goal.mark)
        if goal.source:
            found.bind((goal.source, 0))
    except BaseException:
        found.close()
        raise
    return found
