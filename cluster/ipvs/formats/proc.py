"""The texts that the kernel shows of IPVS in /proc/net: ip_vs_conn, ip_vs and ip_vs_stats.

A table is better asked for over netlink: the file ip_vs has no thresholds, tunnels and scheduler flags. It
is a second view for those who doubt the first. Connections are to be had here alone.
net/netfilter/ipvs/ip_vs_ctl.c and ip_vs_conn.c; each oddity seen on 6.1.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntoa, inet_ntop, inet_pton

from cluster.ipvs.connections import Connection, ConnectionCounts
from cluster.ipvs.state import (
    Backend,
    BackendKey,
    Forwarding,
    Protocol,
    Service,
    ServiceFlags,
    ServiceKey,
    canonical_address,
)
from cluster.ipvs.stats import Counters

_PROTOCOLS = {"ICMP": 1, "TCP": 6, "UDP": 17, "ICMPv6": 58, "SCTP": 132}
_MARK = "IP"
# What has no word of its own is called Masq, bypass too.
_METHODS = {Forwarding.LOCAL: "Local", Forwarding.TUNNEL: "Tunnel", Forwarding.DIRECT: "Route"}


def connections(
    lines: Iterable[str], *, service: ServiceKey | None = None, backend: BackendKey | None = None
) -> Iterator[Connection]:
    """The entries of ip_vs_conn one by one, without its first line and without rows that make no sense.

    `service` keeps those that were sent to its address and port; with port 0, to any port there; with a
    firewall mark, the templates alone, because an entry does not tell the mark. `backend` keeps its own."""
    wanted = _asked_for(service, backend)
    for line in lines:
        words = line.split(None, 10)
        # Compared as text, so that rows which are not wanted cost no more than being split.
        if len(words) >= 9 and all(words[place] == text for place, text in wanted):
            try:
                yield _connection(words)
            except ValueError:
                continue


def connection_counts(lines: Iterable[str]) -> ConnectionCounts:
    """All entries of ip_vs_conn counted in one pass, which holds one number for each kind of entry."""
    numbers: dict[tuple[str, ...], int] = {}
    malformed = 0
    for line in lines:
        words = line.split(None, 8)
        if len(words) == 9:
            kind = (words[0], words[3], words[4], words[5], words[6], words[7])
            numbers[kind] = numbers.get(kind, 0) + 1
        else:
            malformed += 1
    by_state: dict[tuple[ServiceKey, BackendKey, str], int] = {}
    for (protocol, address, port, at, at_port, state), number in numbers.items():
        try:
            by_state[_service_key(protocol, address, port), _backend_key(at, at_port), state] = number
        except ValueError:
            # The first line is no entry, and no entry is lost with it.
            malformed += number if protocol != "Pro" else 0
    return ConnectionCounts(by_state, malformed)


def counters(text: str) -> Counters:
    """The totals of ip_vs_stats: all services of the namespace since it began, or since they were zeroed.
    ValueError for another text."""
    lines = text.split("\n")
    return Counters(*(int(word, 16) for word in lines[2].split())) if len(lines) > 2 else Counters()


@dataclass(frozen=True, slots=True, order=True)
class ProcBackend:
    """A backend as ip_vs shows it. `method` is Masq, Local, Tunnel or Route."""

    address: str
    port: int
    method: str
    weight: int
    active: int = field(default=0, compare=False)
    inactive: int = field(default=0, compare=False)


@dataclass(frozen=True, slots=True, order=True)
class ProcService:
    """A service as ip_vs shows it. `name` is `TCP 192.0.2.1:80` or `FWM 7`, whose family does not show.

    The timeout is in the kernel's own ticks, whose length does not show either; -1 without persistence.
    The netmask is for IPv4 the mask, for IPv6 the prefix's length with its bytes turned around."""

    name: str
    scheduler: str
    is_one_packet: bool = False
    timeout_ticks: int = -1
    netmask: int = 0
    backends: tuple[ProcBackend, ...] = ()


def services(text: str) -> list[ProcService]:
    """The services of ip_vs in its order, which means nothing; backends are sorted. ValueError for a line
    that no kernel writes."""
    found: list[ProcService] = []
    for line in text.split("\n")[3:]:
        words = line.split()
        if words and words[0] == "->":
            found[-1] = replace(found[-1], backends=(*found[-1].backends, _proc_backend(words)))
        elif words:
            found.append(_proc_service(words))
    return [replace(one, backends=tuple(sorted(one.backends))) for one in found]


def service_as_shown(service: Service, *, ticks_per_s: int) -> ProcService:
    """What ip_vs shows of this service on a kernel with so many ticks a second: for comparing."""
    key, held = service.key, service.persistence
    is_v6, is_mark = key.family == 6, key.protocol is Protocol.FIREWALL_MARK
    shown = ProcService(
        f"FWM {key.mark}" if is_mark else str(key),
        service.scheduler,
        # The kernel forgets to say it for IPv6.
        bool(service.flags & ServiceFlags.ONE_PACKET) and (is_mark or not is_v6),
        backends=tuple(sorted(_backend_as_shown(one) for one in service.backends)),
    )
    if held is None:
        return shown
    mask = int.from_bytes(held.netmask.to_bytes(4, sys.byteorder), "big") if is_v6 else held.netmask
    return replace(shown, timeout_ticks=held.timeout_s * ticks_per_s, netmask=mask)


def _proc_service(words: list[str]) -> ProcService:
    if words[0] == "FWM":
        name = f"FWM {int(words[1], 16)}"
    else:
        address, _, port = words[1].rpartition(":")
        name = str(_service_key(words[0], address.strip("[]"), port))
    rest = words[3:]
    is_one_packet = rest[:1] == ["ops"]
    shown = ProcService(name, words[2], is_one_packet)
    rest = rest[is_one_packet:]
    if not rest:
        return shown
    if rest[0] != "persistent" or len(rest) != 3:
        raise ValueError(f"Not a service of ip_vs: {' '.join(words)}")
    return replace(shown, timeout_ticks=int(rest[1]), netmask=int(rest[2], 16))


def _proc_backend(words: list[str]) -> ProcBackend:
    address, _, port = words[1].rpartition(":")
    weight, active, inactive = map(int, words[3:6])
    return ProcBackend(_address(address.strip("[]")), _port(port), words[2], weight, active, inactive)


def _backend_as_shown(backend: Backend) -> ProcBackend:
    method = _METHODS.get(backend.forwarding, "Masq")
    return ProcBackend(backend.address, backend.port, method, backend.weight)


def _connection(words: list[str]) -> Connection:
    return Connection(
        _address(words[1]),
        _port(words[2]),
        _service_key(words[0], words[3], words[4]),
        _backend_key(words[5], words[6]),
        words[7],
        int(words[8]),
        words[9] if len(words) > 9 else "",
        words[10].rstrip("\n") if len(words) > 10 else "",
    )


def _asked_for(service: ServiceKey | None, backend: BackendKey | None) -> list[tuple[int, str]]:
    """The places and texts of a row that is wanted."""
    wanted = []
    if service is not None and service.protocol is Protocol.FIREWALL_MARK:
        wanted += [(0, _MARK), (3, _mark_text(service))]
    elif service is not None:
        wanted += [(0, _protocol_text(service.protocol)), (3, _address_text(service.address))]
        wanted += [(4, f"{service.port:04X}")] if service.port else []
    if backend is not None:
        wanted += [(5, _address_text(backend.address)), (6, f"{backend.port:04X}")]
    return wanted


@lru_cache(maxsize=4096)
def _service_key(protocol: str, address: str, port: str) -> ServiceKey:
    """ValueError for what is none."""
    if protocol == _MARK:
        # A template of a firewall mark has the mark where the address would begin.
        nowhere = "::" if ":" in address else "0.0.0.0"
        return ServiceKey(Protocol.FIREWALL_MARK, nowhere, 0, int(address.replace(":", "")[:8], 16))
    number = _PROTOCOLS.get(protocol)
    return ServiceKey(
        Protocol(int(protocol.removeprefix("IP_")) if number is None else number),
        _address(address),
        _port(port),
    )


@lru_cache(maxsize=4096)
def _backend_key(address: str, port: str) -> BackendKey:
    """ValueError for what is none."""
    return BackendKey(_address(address), _port(port))


def _address(text: str) -> str:
    """`C0000201` or an IPv6 address with all its zeros, as canonical text."""
    if len(text) == 8:
        return inet_ntoa(bytes.fromhex(text))
    if len(text) != 39:
        raise ValueError(f"Not an address of the kernel: {text[:64]}")
    found = inet_ntop(AF_INET6, bytes.fromhex(text.replace(":", "")))
    return canonical_address(found) if "." in found else found


def _port(text: str) -> int:
    if len(text) != 4:
        raise ValueError(f"Not a port of the kernel: {text[:64]}")
    return int(text, 16)


def _address_text(address: str) -> str:
    """What `_address` reads."""
    packed = inet_pton(AF_INET6 if ":" in address else AF_INET, address)
    return _groups(packed.hex()) if ":" in address else packed.hex().upper()


def _mark_text(key: ServiceKey) -> str:
    return _groups(f"{key.mark:08x}" + "0" * 24) if key.family == 6 else f"{key.mark:08X}"


def _groups(digits: str) -> str:
    return ":".join(digits[place : place + 4] for place in range(0, 32, 4))


def _protocol_text(protocol: Protocol) -> str:
    names = {number: name for name, number in _PROTOCOLS.items()}
    return names.get(int(protocol), f"IP_{int(protocol)}")
