"""What the kernel refuses, and what it accepts and can never be meant. ip_vs_ctl.c, measured on 6.1.

Whatever is found here blocks an apply. What may be meant but rarely is: lint.py.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv6Address, ip_address

from cluster.ipvs.state import (
    Backend,
    Forwarding,
    Protocol,
    Service,
    ServiceFlags,
    ServiceKey,
    Table,
    TunnelKind,
    endpoint,
)

LARGEST_WEIGHT = 65535
LONGEST_PERSISTENCE_S = 31 * 24 * 3600  # as ipvsadm(8)

# The kernel's schedulers (ip_vs_*.ko of 6.1) in the words of ipvsadm(8), most used first.
SCHEDULERS = {
    "rr": "round robin",
    "wrr": "weighted round robin",
    "lc": "least connections",
    "wlc": "weighted least connections",
    "sh": "source hashing",
    "mh": "Maglev hashing",
    "dh": "destination hashing",
    "lblc": "locality-based least connections",
    "lblcr": "locality-based least connections with replication",
    "sed": "shortest expected delay",
    "nq": "never queue",
    "fo": "weighted failover",
    "ovf": "weighted overflow",
    "twos": "power of two choices",
}

_ADDRESSED = (Protocol.TCP, Protocol.UDP, Protocol.SCTP)
_METHODS = (Forwarding.MASQUERADE, Forwarding.DIRECT, Forwarding.TUNNEL)
_TUNNEL_FLAGS = (0, 1, 2)


class Severity(StrEnum):
    """An error blocks, a warning is shown in the review."""

    ERROR = "error"
    WARNING = "warning"


@dataclass(frozen=True, slots=True)
class Problem:
    """`field` names the attribute of the Service (or its key) or Backend that is at fault; `text` says in one
    sentence what is wrong and then what to do. `code` names the rule (docs/rules.md); it is empty where no
    rule about tables speaks, but for instance a name that is taken."""

    field: str
    text: str
    code: str = ""
    severity: Severity = Severity.ERROR


def table_problems(table: Table) -> list[tuple[ServiceKey, Problem]]:
    """All that stands against programming this table."""
    found = []
    for service in table:
        found += [(service.key, problem) for problem in service_problems(service)]
        for backend in service.backends:
            found += [(service.key, problem) for problem in backend_problems(service, backend)]
    return found


def service_problems(service: Service) -> Iterator[Problem]:
    """Problems of the service itself, without its backends."""
    key = service.key
    if key.protocol is Protocol.FIREWALL_MARK:
        if not 1 <= key.mark <= 0xFFFFFFFF:
            yield Problem("mark", "The mark must be between 1 and 4294967295.", "mark-range")
    elif key.protocol not in _ADDRESSED:
        yield Problem(
            "protocol",
            f"IPVS balances TCP, UDP and SCTP, and this is protocol {int(key.protocol)}. Choose one of"
            " them, or a firewall mark.",
            "protocol",
        )
    else:
        yield from _virtual_address_problems(key)
    yield from _persistence_problems(service)
    if service.flags & ServiceFlags.ONE_PACKET and key.protocol in (Protocol.TCP, Protocol.SCTP):
        name = key.protocol.word.upper()
        text = (
            f"One packet scheduling is for UDP: a connection of {name} is more than one packet. Turn it off."
        )
        yield Problem("flags", text, "one-packet-tcp")
    if service.scheduler not in SCHEDULERS:
        text = f"“{service.scheduler}” is not a scheduler of the kernel. Choose one of the list."
        yield Problem("scheduler", text, "scheduler")


def _virtual_address_problems(key: ServiceKey) -> Iterator[Problem]:
    address = ip_address(key.address)
    if address.is_unspecified:
        text = f"{address} means “any address”. Give the virtual address that clients use."
        yield Problem("address", text, "virtual-address")
    elif address.is_multicast or address == IPv4Address("255.255.255.255"):
        text = f"{address} is not the address of one host. Give the virtual address."
        yield Problem("address", text, "virtual-address")
    elif isinstance(address, IPv6Address) and address.is_link_local:
        text = f"{address} is link-local. Clients in other networks cannot reach it."
        yield Problem("address", text, "virtual-address")
    if not 0 <= key.port <= 65535:
        text = "The port must be between 1 and 65535, or 0 for every port of a persistent service."
        yield Problem("port", text, "port-range")


def _persistence_problems(service: Service) -> Iterator[Problem]:
    key, held = service.key, service.persistence
    if held is None:
        if key.port == 0 and key.protocol in _ADDRESSED:
            yield Problem(
                "port",
                "Port 0 means every port, and without persistence the kernel drops all its connections. Give"
                " one port, or set persistence.",
                "every-port-persistence",
            )
        return
    if not 1 <= held.timeout_s <= LONGEST_PERSISTENCE_S:
        text = f"Persistence lasts from 1 to {LONGEST_PERSISTENCE_S} seconds (31 days). Choose such a time."
        yield Problem("persistence_s", text, "persistence-time")
    longest = 32 if key.family == 4 else 128
    if held.netmask == 0 or (key.family == 6 and held.netmask > longest):
        text = f"The prefix must be between 1 and {longest} for IPv{key.family}."
        yield Problem("persistence_prefix", text, "persistence-prefix")
    if held.engine == "sip" and key.protocol in (Protocol.TCP, Protocol.SCTP):
        text = "The engine sip reads UDP packets and drops all others. Choose UDP, or the client's address."
        yield Problem("persistence_engine", text, "sip-needs-udp")


def backend_problems(service: Service, backend: Backend) -> Iterator[Problem]:
    """Problems of one backend, as part of this service."""
    yield from _backend_address_problems(service, backend)
    if not 0 <= backend.weight <= LARGEST_WEIGHT:
        text = f"The weight must be between 0 and {LARGEST_WEIGHT}; 0 takes no new connections."
        yield Problem("weight", text, "weight-range")
    if backend.forwarding not in _METHODS:
        text = f"The forwarding {backend.forwarding.word} is the kernel's own. Choose one of the three."
        yield Problem("forwarding", text, "forwarding")
    yield from _backend_port_problems(service, backend)
    if backend.lower and backend.lower > backend.upper:
        text = "The lower threshold must not be above the upper one. Lower it, or raise the upper one."
        yield Problem("lower", text, "thresholds")
    if backend.tunnel is not None:
        yield from _tunnel_problems(backend.tunnel.kind, backend.tunnel.port, backend.tunnel.flags)


def _tunnel_problems(kind: TunnelKind, port: int, flags: int) -> Iterator[Problem]:
    if kind > TunnelKind.GRE:
        yield Problem("tunnel", f"The kernel knows no tunnel {kind.word}. Choose ipip, gue or gre.", "tunnel")
    elif (kind is TunnelKind.GUE) != bool(port):
        text = "GUE needs the port that the backend listens on; the others have none."
        yield Problem("tunnel_port", text, "tunnel-port")
    if flags not in _TUNNEL_FLAGS:
        text = "A tunnel has no checksum, a checksum, or remote checksum offload. Choose one of them."
        yield Problem("tunnel_checksum", text, "tunnel-checksum")


def _backend_port_problems(service: Service, backend: Backend) -> Iterator[Problem]:
    marked = service.key.protocol is Protocol.FIREWALL_MARK
    changes_port = backend.forwarding is Forwarding.MASQUERADE
    if not 0 <= backend.port <= 65535:
        yield Problem("port", "The port must be between 1 and 65535.", "port-range")
    elif not marked and service.key.port == 0:
        if backend.port:
            text = "A service of every port keeps the client's port. Use port 0 here."
            yield Problem("port", text, "every-port-backend")
    elif marked and backend.port and not changes_port:
        text = "Only masquerade can change the port. Use 0, which keeps the client's."
        yield Problem("port", text, "port-mapping")
    elif not marked and backend.port == 0:
        yield Problem("port", "The port must be between 1 and 65535.", "port-range")
    elif not marked and backend.port != service.key.port and not changes_port:
        yield Problem(
            "port",
            f"{backend.forwarding.word.capitalize()} forwarding cannot change the port: use"
            f" {service.key.port}, the service's own, or choose masquerade.",
            "port-mapping",
        )


def _backend_address_problems(service: Service, backend: Backend) -> Iterator[Problem]:
    address, key = ip_address(backend.address), service.key
    if address.version != key.family and backend.forwarding is not Forwarding.TUNNEL:
        yield Problem(
            "address",
            f"{address} is IPv{address.version}, but the service is IPv{key.family}."
            f" {backend.forwarding.word.capitalize()} needs the same family.",
            "mixed-families",
        )
    elif address.is_unspecified or address.is_multicast or address == IPv4Address("255.255.255.255"):
        text = f"{address} is not the address of one host. Give the backend's own."
        yield Problem("address", text, "backend-address")
    elif isinstance(address, IPv6Address) and address.is_link_local:
        text = f"The kernel refuses link-local backends such as {address}. Use a global address."
        yield Problem("address", text, "backend-address")
    elif isinstance(address, IPv6Address) and address.ipv4_mapped:
        text = f"The kernel refuses mapped backends such as {address}. Write {address.ipv4_mapped}."
        yield Problem("address", text, "backend-address")
    elif address.is_loopback:
        text = f"{address} is the director itself. Give the backend's own address."
        yield Problem("address", text, "backend-address")
    elif backend.address == key.address and backend.port == key.port:
        text = f"{endpoint(key.address, key.port)} is the service itself; it would send to itself. Give the"
        yield Problem("address", f"{text} backend's own address.", "backend-address")
