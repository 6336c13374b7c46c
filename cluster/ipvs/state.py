"""What an IPVS table is, as values that compare by content. include/uapi/linux/ip_vs.h."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, fields
from enum import IntEnum, IntFlag
from functools import cached_property
from ipaddress import ip_address
from operator import attrgetter
from typing import NamedTuple, Self

_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"
_IPV4 = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")


class _OpenEnum(IntEnum):
    """An enum that keeps numbers it has no name for: somebody else's service must survive being read."""

    # Equal to numbers, so hashed as they are; and Enum's own makes keys, which hold these, slow.
    __hash__ = int.__hash__

    @classmethod
    def _missing_(cls, value: object) -> Self | None:
        if not isinstance(value, int):
            return None
        member = int.__new__(cls, value)
        member._name_ = f"NUMBER_{value}"
        member._value_ = value
        return member

    @property
    def word(self) -> str:
        """The name for people and documents, such as `masquerade` or `number-7`."""
        return self._name_.lower().replace("_", "-")

    @classmethod
    def from_word(cls, word: str) -> Self:
        """Read what `word` wrote; ValueError for a word that names nothing."""
        name = word.upper().replace("-", "_")
        if name.startswith("NUMBER_") and name[7:].isdecimal():
            return cls(int(name[7:]))
        try:
            return cls[name]
        except KeyError:
            raise ValueError(f"“{word}” is not one of {', '.join(member.word for member in cls)}.") from None


class Protocol(_OpenEnum):
    """IP protocol numbers. FIREWALL_MARK stands for services that have a mark instead of an address."""

    FIREWALL_MARK = 0
    TCP = 6
    UDP = 17
    SCTP = 132


class Forwarding(_OpenEnum):
    """How a packet travels from the director to a backend (IP_VS_CONN_F_*)."""

    MASQUERADE = 0
    LOCAL = 1
    TUNNEL = 2
    DIRECT = 3
    BYPASS = 4


class TunnelKind(_OpenEnum):
    IPIP = 0
    GUE = 1
    GRE = 2


class ServiceFlags(IntFlag):
    """The flags that an operator sets. Persistence has a field of its own; `hashed` is the kernel's."""

    NONE = 0
    ONE_PACKET = 0x4
    SCHEDULER_1 = 0x8
    SCHEDULER_2 = 0x10
    SCHEDULER_3 = 0x20


# Keys and backends are tuples: making one takes a third of a dataclass's time, comparing two a twelfth.


class ServiceKey(NamedTuple):
    """What makes a service the same service. `address` is canonical text; with a firewall mark it
    is `0.0.0.0` or `::`, because the family belongs to the identity."""

    protocol: Protocol
    address: str
    port: int
    mark: int = 0

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4

    def __str__(self) -> str:
        if self.protocol is Protocol.FIREWALL_MARK:
            return f"firewall mark {self.mark}" + (" IPv6" if self.family == 6 else "")
        return f"{self.protocol.word.upper()} {endpoint(self.address, self.port)}"


class BackendKey(NamedTuple):
    """What makes a backend the same backend within its service: the forwarding method does not."""

    address: str
    port: int

    def __str__(self) -> str:
        return endpoint(self.address, self.port)


@dataclass(frozen=True, slots=True)
class Persistence:
    """Clients stay with their backend for `timeout_s` seconds after their last connection.

    `netmask` groups clients: for IPv4 the mask as a number (0xFFFFFFFF = each client alone), for IPv6
    the prefix length (128). `engine` is the persistence engine, empty for the client's address."""

    timeout_s: int
    netmask: int
    engine: str = ""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """Encapsulation of a tunnelled backend. `port` is for GUE; flags are 0 nocsum, 1 csum, 2 remcsum."""

    kind: TunnelKind = TunnelKind.IPIP
    port: int = 0
    flags: int = 0


class Backend(NamedTuple):
    """One place that answers. `weight` 0 means: no new connections. `upper` and `lower` are connection
    thresholds, 0 for none. `tunnel` is set exactly where `forwarding` is TUNNEL."""

    address: str
    port: int
    forwarding: Forwarding = Forwarding.MASQUERADE
    weight: int = 1
    upper: int = 0
    lower: int = 0
    tunnel: Tunnel | None = None

    @property
    def key(self) -> BackendKey:
        return BackendKey(self.address, self.port)


_place, _key = attrgetter("address", "port"), attrgetter("key")


@dataclass(frozen=True, slots=True)
class Service:
    """A virtual service with its backends, which are kept sorted: the kernel's order means nothing."""

    key: ServiceKey
    scheduler: str = "rr"
    flags: ServiceFlags = ServiceFlags.NONE
    persistence: Persistence | None = None
    backends: tuple[Backend, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "backends", tuple(sorted(self.backends, key=_place)))

    @property
    def header(self) -> Service:
        """The service without its backends: what SET_SERVICE can change."""
        return Service(self.key, self.scheduler, self.flags, self.persistence)

    def with_backends(self, backends: Iterable[Backend]) -> Service:
        return Service(self.key, self.scheduler, self.flags, self.persistence, tuple(backends))


@dataclass(frozen=True)
class Table:
    """All services of one director. Two tables are equal where the kernel would behave the same."""

    services: tuple[Service, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "services", tuple(sorted(self.services, key=_key)))

    @cached_property
    def by_key(self) -> dict[ServiceKey, Service]:
        return {service.key: service for service in self.services}

    @property
    def keys(self) -> frozenset[ServiceKey]:
        return frozenset(self.by_key)

    def __iter__(self) -> Iterator[Service]:
        return iter(self.services)

    def __len__(self) -> int:
        return len(self.services)

    def only(self, keys: Iterable[ServiceKey]) -> Table:
        """The part of the table that has these keys."""
        wanted = set(keys)
        return Table(tuple(service for service in self.services if service.key in wanted))


def field_names(one: Service | Backend) -> tuple[str, ...]:
    """Of all that the value says, in its order."""
    return one._fields if isinstance(one, Backend) else tuple(field.name for field in fields(one))


def canonical_address(text: str) -> str:
    """`::ffff` forms, zeros and capitals made one; ValueError where `text` is no address or has a zone."""
    if _IPV4.fullmatch(text):
        # There is one way to write an IPv4 address, and ip_address() takes ten times as long to say so.
        return text
    address = ip_address(text.strip())
    if "%" in str(address):
        raise ValueError("an address with a zone cannot be a service or backend")
    return str(address)


def netmask_of(prefix: int) -> int:
    """The IPv4 mask of a prefix length as a number: 24 gives 0xFFFFFF00."""
    return (0xFFFFFFFF << (32 - prefix)) & 0xFFFFFFFF


def prefix_of(netmask: int) -> int | None:
    """The prefix length of an IPv4 mask; None for a mask with holes, which the kernel takes as well."""
    prefix = netmask.bit_count()
    return prefix if netmask == netmask_of(prefix) else None


def endpoint(address: str, port: int) -> str:
    """`192.0.2.1:80` or `[2001:db8::1]:80`."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
