"""IPVS generic netlink, both directions: steps to messages, messages to services and backends.

Our own, because pyroute2's IPVS classes lose configuration without an error: their `update` deletes,
`tun_port` is byte-swapped, reading back drops persistence, and a `set` resets what it doesn't name.
Layout: include/uapi/linux/ip_vs.h; behaviour: net/netfilter/ipvs/ip_vs_ctl.c.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Iterator
from functools import lru_cache
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import Final

from cluster.director.kernel import HalfRead
from cluster.ipvs.plan import Operation, Step
from cluster.ipvs.state import (
    Backend,
    Forwarding,
    Persistence,
    Protocol,
    Service,
    ServiceFlags,
    ServiceKey,
    Tunnel,
    TunnelKind,
    canonical_address,
)
from cluster.ipvs.stats import BackendCounters, Counters

FAMILY: Final = "IPVS"
VERSION: Final = 1

GET_SERVICE: Final = 4
GET_DEST: Final = 8
GET_INFO: Final = 15
COMMANDS: Final = {
    Operation.ADD_SERVICE: 1,
    Operation.SET_SERVICE: 2,
    Operation.REMOVE_SERVICE: 3,
    Operation.ADD_BACKEND: 5,
    Operation.SET_BACKEND: 6,
    Operation.REMOVE_BACKEND: 7,
}

# IPVS_CMD_ATTR_*
SERVICE, DEST = 1, 2
# IPVS_SVC_ATTR_*
_S_FAMILY, _S_PROTOCOL, S_ADDRESS, S_PORT, _S_MARK, _S_SCHEDULER = 1, 2, 3, 4, 5, 6
_S_FLAGS, _S_TIMEOUT, _S_NETMASK, S_STATS, _S_ENGINE, S_STATS64 = 7, 8, 9, 10, 11, 12
# IPVS_DEST_ATTR_*
D_ADDRESS, D_PORT, D_FORWARDING, D_WEIGHT, D_UPPER, D_LOWER = 1, 2, 3, 4, 5, 6
D_ACTIVE, D_INACTIVE, D_PERSISTENT, D_STATS, D_FAMILY, D_STATS64 = 7, 8, 9, 10, 11, 12
D_TUNNEL_KIND, D_TUNNEL_PORT, D_TUNNEL_FLAGS = 13, 14, 15
# IPVS_STATS_ATTR_CONNS to _OUTBYTES, in the order of Counters
COUNTERS: Final = (1, 2, 3, 4, 5)
# IPVS_INFO_ATTR_VERSION
_I_VERSION = 1

_PERSISTENT, _HASHED = 0x1, 0x2
# Everything but the kernel's own bit is ours to say, so that a SET leaves no flag that we can't see.
_FLAG_MASK = 0xFFFFFFFF & ~_HASHED
_IPV4_ALONE, _IPV6_ALONE = 0xFFFFFFFF, 128
_FEW = 64

_ATTRIBUTE, _FLAGS, _WEIGHT = struct.Struct("=HH"), struct.Struct("=II"), struct.Struct("=i")
NESTED, _KIND_MASK = 0x8000, 0x3FFF


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def walk(data: bytes, begin: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Kind, begin and end of each attribute of one level; HalfRead where one doesn't fit into the data."""
    while begin + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, begin)
        if length < 4 or begin + length > end:
            raise HalfRead("An attribute of the kernel's answer is cut.")
        yield kind & _KIND_MASK, begin + 4, begin + length
        begin += (length + 3) & ~3


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes of one level by kind; HalfRead where they don't fit into the data."""
    return {kind: data[begin:end] for kind, begin, end in walk(data, 0, len(data))}


def encode_step(step: Step) -> tuple[int, bytes]:
    """The command's number and its attributes. ValueError or struct.error for a value that no field of
    the protocol can hold."""
    command = COMMANDS[step.operation]
    if step.operation in (Operation.ADD_SERVICE, Operation.SET_SERVICE):
        one = step.service
        header = _header(one.key.family, one.scheduler, one.flags, one.persistence)
        return command, attribute(SERVICE | NESTED, _key(one.key) + header)
    service = encode_key(step.service.key)
    if step.operation is Operation.REMOVE_SERVICE:
        return command, service
    assert step.backend is not None
    body = backend_place(step.backend)
    if step.operation is not Operation.REMOVE_BACKEND:
        # A SET needs the whole backend: what is left out becomes 0.
        body += backend_settings(step.backend)
    return command, service + attribute(DEST | NESTED, body)


def encode_key(key: ServiceKey) -> bytes:
    """The attribute that names a service: of GET_SERVICE, GET_DEST and each backend's command."""
    # Not remembered: the keys of one table that is long gone would lie all over the memory that it was in.
    return attribute(SERVICE | NESTED, _key(key))


def decode_service(data: bytes) -> tuple[Service, Counters]:
    """A service without backends, and what it has counted."""
    found = attributes(_inner(data, SERVICE))
    try:
        family = _number(found[_S_FAMILY], 2)
        key = _decoded_key(found, family)
        flags, _ = _FLAGS.unpack(found[_S_FLAGS])
        held = None
        if flags & _PERSISTENT:
            mask = found[_S_NETMASK]
            held = Persistence(
                _number(found[_S_TIMEOUT], 4),
                _number(mask, 4) if family == AF_INET6 else _big_number(mask, 4),
                _text(found.get(_S_ENGINE, b"")),
            )
        service = Service(
            key, _text(found[_S_SCHEDULER]), ServiceFlags(flags & ~(_PERSISTENT | _HASHED)), held
        )
        counters = _counters(found.get(S_STATS64) or found.get(S_STATS))
    except (KeyError, ValueError, OSError, struct.error) as error:
        raise HalfRead(f"A service of the kernel's answer cannot be read: {error!r}.") from error
    return service, counters


def decode_backend(data: bytes, *, service_family: int) -> tuple[Backend, BackendCounters]:
    """A backend and what it has counted. `service_family` (4 or 6) is for kernels that don't name the
    backend's own."""
    found = attributes(_inner(data, DEST))
    try:
        family = _number(found[D_FAMILY], 2) if D_FAMILY in found else family_number(service_family)
        # The upper bits of the number are the connection's flags, not the method (IP_VS_CONN_F_FWD_MASK).
        forwarding = Forwarding(_number(found[D_FORWARDING], 4) & 7)
        tunnel = None
        if forwarding is Forwarding.TUNNEL:
            # Kernels before 5.2 know one kind alone, and don't name it.
            tunnel = Tunnel(
                TunnelKind(_number(found.get(D_TUNNEL_KIND, b"\0"), 1)),
                _big_number(found.get(D_TUNNEL_PORT, b"\0\0"), 2),
                _number(found.get(D_TUNNEL_FLAGS, b"\0\0"), 2),
            )
        backend = Backend(
            decode_address(found[D_ADDRESS], family),
            _big_number(found[D_PORT], 2),
            forwarding,
            _WEIGHT.unpack(found[D_WEIGHT])[0],
            _number(found[D_UPPER], 4),
            _number(found[D_LOWER], 4),
            tunnel,
        )
        counters = BackendCounters(
            _counters(found.get(D_STATS64) or found.get(D_STATS)),
            _number(found[D_ACTIVE], 4),
            _number(found[D_INACTIVE], 4),
            _number(found[D_PERSISTENT], 4),
        )
    except (KeyError, ValueError, OSError, struct.error) as error:
        raise HalfRead(f"A backend of the kernel's answer cannot be read: {error!r}.") from error
    return backend, counters


def decode_version(data: bytes) -> str:
    """`1.2.1` of an answer to GET_INFO."""
    try:
        number = _number(attributes(data)[_I_VERSION], 4)
    except (KeyError, ValueError) as error:
        raise HalfRead("The kernel's answer lacks the version of IPVS.") from error
    return f"{number >> 16 & 0xFF}.{number >> 8 & 0xFF}.{number & 0xFF}"


def decode_address(data: bytes, family: int) -> str:
    """Canonical text of the 16 bytes that hold an address of either family. ValueError for other ones."""
    if len(data) != 16:
        raise ValueError(f"an address of {len(data)} bytes")
    if family == AF_INET:
        return inet_ntop(AF_INET, data[:4])
    text = inet_ntop(AF_INET6, data)
    # The C library writes the last 32 bits of mapped addresses as IPv4; our canonical text may not.
    return canonical_address(text) if "." in text else text


def _key(key: ServiceKey) -> bytes:
    kind = _kind(key.family, key.protocol)
    if key.protocol is Protocol.FIREWALL_MARK:
        return kind + attribute(_S_MARK, struct.pack("=I", key.mark))
    return kind + attribute(S_ADDRESS, _packed(key.address)) + attribute(S_PORT, struct.pack("!H", key.port))


# A table has many services, but few kinds of them.
@lru_cache(maxsize=_FEW)
def _kind(family: int, protocol: Protocol) -> bytes:
    kind = attribute(_S_FAMILY, struct.pack("=H", family_number(family)))
    if protocol is not Protocol.FIREWALL_MARK:
        kind += attribute(_S_PROTOCOL, struct.pack("=H", protocol))
    return kind


@lru_cache(maxsize=_FEW)
def _header(family: int, scheduler: str, flags: ServiceFlags, held: Persistence | None) -> bytes:
    bits, alone = int(flags), _IPV6_ALONE if family == 6 else _IPV4_ALONE
    timeout, mask, engine = (held.timeout_s, held.netmask, held.engine) if held else (0, alone, "")
    if held:
        bits |= _PERSISTENT
    # For IPv6 the field that is called a mask is the prefix's length, in the host's byte order.
    netmask = struct.pack("=I" if family == 6 else "!I", mask)
    return (
        attribute(_S_SCHEDULER, _nul_ended(scheduler))
        + attribute(_S_FLAGS, struct.pack("=II", bits & _FLAG_MASK, _FLAG_MASK))
        + attribute(_S_TIMEOUT, struct.pack("=I", timeout))
        + attribute(_S_NETMASK, netmask)
        + (attribute(_S_ENGINE, _nul_ended(engine)) if engine else b"")
    )


def backend_place(backend: Backend) -> bytes:
    """The attributes that say which backend: the address first."""
    family = AF_INET6 if ":" in backend.address else AF_INET
    return (
        attribute(D_ADDRESS, _packed(backend.address))
        + attribute(D_PORT, struct.pack("!H", backend.port))
        + attribute(D_FAMILY, struct.pack("=H", family))
    )


def backend_settings(backend: Backend) -> bytes:
    """The attributes that ADD and SET have beside the place."""
    body = (
        attribute(D_FORWARDING, struct.pack("=I", backend.forwarding))
        + attribute(D_WEIGHT, struct.pack("=i", backend.weight))
        + attribute(D_UPPER, struct.pack("=I", backend.upper))
        + attribute(D_LOWER, struct.pack("=I", backend.lower))
    )
    # Only with TUNNEL: a GUE kind with port 0 is refused whatever the forwarding method is.
    if (tunnel := backend.tunnel) and backend.forwarding is Forwarding.TUNNEL:
        body += (
            attribute(D_TUNNEL_KIND, struct.pack("=B", tunnel.kind))
            + attribute(D_TUNNEL_PORT, struct.pack("!H", tunnel.port))
            + attribute(D_TUNNEL_FLAGS, struct.pack("=H", tunnel.flags))
        )
    return body


def _decoded_key(found: dict[int, bytes], family: int) -> ServiceKey:
    if _S_MARK in found:
        nowhere = "::" if family == AF_INET6 else "0.0.0.0"
        return ServiceKey(Protocol.FIREWALL_MARK, nowhere, 0, _number(found[_S_MARK], 4))
    return ServiceKey(
        Protocol(_number(found[_S_PROTOCOL], 2)),
        decode_address(found[S_ADDRESS], family),
        _big_number(found[S_PORT], 2),
    )


def _counters(nest: bytes | None) -> Counters:
    if not nest:
        return Counters()
    found = attributes(nest)
    return Counters(*(_number(found.get(kind, bytes(4)), 4, 8) for kind in COUNTERS))


def _inner(data: bytes, kind: int) -> bytes:
    found = attributes(data).get(kind)
    if found is None:
        raise HalfRead("The kernel's answer lacks what was asked for.")
    return found


def family_number(number: int) -> int:
    """AF_INET or AF_INET6 for 4 or 6."""
    return AF_INET6 if number == 6 else AF_INET


def _packed(address: str) -> bytes:
    return inet_pton(AF_INET6 if ":" in address else AF_INET, address).ljust(16, b"\0")


def _number(data: bytes, *lengths: int) -> int:
    if len(data) not in lengths:
        raise ValueError(f"a number of {len(data)} bytes")
    return int.from_bytes(data, sys.byteorder)


def _big_number(data: bytes, length: int) -> int:
    if len(data) != length:
        raise ValueError(f"a number of {len(data)} bytes")
    return int.from_bytes(data, "big")


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("ascii", "replace")


def _nul_ended(text: str) -> bytes:
    return text.encode("ascii") + b"\0"
