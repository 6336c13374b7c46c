"""What the kernel refuses, and what it accepts but nobody means. ip_vs_ctl.c and measurements on 6.1."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
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


@dataclass(frozen=True, slots=True)
class Problem:
    """`field` names the attribute of the Service (or its key) or Backend that is at fault; `text` is a
    sentence with the remedy."""

    field: str
    text: str


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
            yield Problem("mark", "The mark must be between 1 and 4294967295.")
    else:
        yield from _virtual_address_problems(key)
    if service.persistence is not None and key.family == 4 and service.persistence.netmask == 0:
        yield Problem("persistence_prefix", "The prefix must be between 1 and 32 for IPv4.")
    if service.flags & ServiceFlags.ONE_PACKET and key.protocol is Protocol.TCP:
        yield Problem("flags", "One packet scheduling is for UDP: a TCP connection is more than one packet.")
    if service.scheduler not in SCHEDULERS:
        yield Problem("scheduler", f"“{service.scheduler}” is not a scheduler of the kernel.")


def _virtual_address_problems(key: ServiceKey) -> Iterator[Problem]:
    address = ip_address(key.address)
    if address.is_unspecified:
        yield Problem("address", f"{address} means “any address”. Give the virtual address that clients use.")
    elif address.is_multicast or address == IPv4Address("255.255.255.255"):
        yield Problem("address", f"{address} is not the address of one host. Give the virtual address.")
    elif isinstance(address, IPv6Address) and address.is_link_local:
        yield Problem("address", f"{address} is link-local. Clients in other networks cannot reach it.")
    if not 1 <= key.port <= 65535:
        yield Problem("port", "The port must be between 1 and 65535.")


def backend_problems(service: Service, backend: Backend) -> Iterator[Problem]:
    """Problems of one backend, as part of this service."""
    yield from _backend_address_problems(service, backend)
    if not 0 <= backend.weight <= LARGEST_WEIGHT:
        yield Problem(
            "weight", f"The weight must be between 0 and {LARGEST_WEIGHT}; 0 takes no new connections."
        )
    yield from _backend_port_problems(service, backend)
    if backend.lower and backend.lower > backend.upper:
        yield Problem("lower", "The lower threshold must not be above the upper one.")
    if backend.tunnel is not None and (backend.tunnel.kind is TunnelKind.GUE) != bool(backend.tunnel.port):
        yield Problem("tunnel_port", "GUE needs the port that the backend listens on; the others have none.")


def _backend_port_problems(service: Service, backend: Backend) -> Iterator[Problem]:
    marked = service.key.protocol is Protocol.FIREWALL_MARK
    if marked and backend.port and backend.forwarding is not Forwarding.MASQUERADE:
        yield Problem("port", "Only masquerade can change the port. Use 0, which keeps the client's.")
    elif not (0 if marked else 1) <= backend.port <= 65535:
        yield Problem("port", "The port must be between 1 and 65535.")
    elif not marked and backend.forwarding is not Forwarding.MASQUERADE and backend.port != service.key.port:
        yield Problem(
            "port",
            f"{backend.forwarding.word.capitalize()} forwarding cannot change the port: use"
            f" {service.key.port}, the service's own, or choose masquerade.",
        )


def _backend_address_problems(service: Service, backend: Backend) -> Iterator[Problem]:
    address, key = ip_address(backend.address), service.key
    if address.version != key.family and backend.forwarding is not Forwarding.TUNNEL:
        yield Problem(
            "address",
            f"{address} is IPv{address.version}, but the service is IPv{key.family}."
            f" {backend.forwarding.word.capitalize()} needs the same family.",
        )
    elif address.is_unspecified or address.is_multicast or address == IPv4Address("255.255.255.255"):
        yield Problem("address", f"{address} is not the address of one host.")
    elif isinstance(address, IPv6Address) and address.is_link_local:
        yield Problem(
            "address", f"The kernel refuses link-local backends such as {address}. Use a global address."
        )
    elif address.is_loopback:
        yield Problem("address", f"{address} is the director itself. Give the backend's own address.")
    elif backend.address == key.address and backend.port == key.port:
        yield Problem(
            "address", f"{endpoint(key.address, key.port)} is the service itself; it would send to itself."
        )
