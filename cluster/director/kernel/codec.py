"""IPVS generic netlink, both directions: steps to messages, messages to services and backends.

Our own, because pyroute2's IPVS classes lose configuration without an error: their `update` deletes,
`tun_port` is byte-swapped, reading back drops persistence, and a `set` resets what it doesn't name.
Layout: include/uapi/linux/ip_vs.h; behaviour: net/netfilter/ipvs/ip_vs_ctl.c.
"""

from __future__ import annotations

import struct
import sys
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
_COMMANDS: Final = {
    Operation.ADD_SERVICE: 1,
    Operation.SET_SERVICE: 2,
    Operation.REMOVE_SERVICE: 3,
    Operation.ADD_BACKEND: 5,
    Operation.SET_BACKEND: 6,
    Operation.REMOVE_BACKEND: 7,
}

# IPVS_CMD_ATTR_*
_SERVICE, _DEST = 1, 2
# IPVS_SVC_ATTR_*
_S_FAMILY, _S_PROTOCOL, _S_ADDRESS, _S_PORT, _S_MARK, _S_SCHEDULER = 1, 2, 3, 4, 5, 6
_S_FLAGS, _S_TIMEOUT, _S_NETMASK, _S_STATS, _S_ENGINE, _S_STATS64 = 7, 8, 9, 10, 11, 12
# IPVS_DEST_ATTR_*
_D_ADDRESS, _D_PORT, _D_FORWARDING, _D_WEIGHT, _D_UPPER, _D_LOWER = 1, 2, 3, 4, 5, 6
_D_ACTIVE, _D_INACTIVE, _D_PERSISTENT, _D_STATS, _D_FAMILY, _D_STATS64 = 7, 8, 9, 10, 11, 12
_D_TUNNEL_KIND, _D_TUNNEL_PORT, _D_TUNNEL_FLAGS = 13, 14, 15
# IPVS_INFO_ATTR_VERSION
_I_VERSION = 1

_PERSISTENT, _HASHED = 0x1, 0x2
# Everything but the kernel's own bit is ours to say, so that a SET leaves no flag that we can't see.
_FLAG_MASK = 0xFFFFFFFF & ~_HASHED
_IPV4_ALONE, _IPV6_ALONE = 0xFFFFFFFF, 128

_ATTRIBUTE = struct.Struct("=HH")
_NESTED, _KIND_MASK = 0x8000, 0x3FFF


def attribute(kind: int, data: bytes) -> bytes:
    """One attribute, padded to four bytes."""
    return _ATTRIBUTE.pack(4 + len(data), kind) + data + b"\0" * (-len(data) % 4)


def attributes(data: bytes) -> dict[int, bytes]:
    """The attributes of one level by kind; HalfRead where they don't fit into the data."""
    found: dict[int, bytes] = {}
    offset, end = 0, len(data)
    while offset + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, offset)
        if length < 4 or offset + length > end:
            raise HalfRead("An attribute of the kernel's answer is cut.")
        found[kind & _KIND_MASK] = data[offset + 4 : offset + length]
        offset += (length + 3) & ~3
    return found


def encode_step(step: Step) -> tuple[int, bytes]:
    """The command's number and its attributes. ValueError or struct.error for a value that no field of
    the protocol can hold."""
    command = _COMMANDS[step.operation]
    if step.operation in (Operation.ADD_SERVICE, Operation.SET_SERVICE):
        return command, attribute(_SERVICE | _NESTED, _key(step.service.key) + _header(step.service))
    service = encode_key(step.service.key)
    if step.operation is Operation.REMOVE_SERVICE:
        return command, service
    assert step.backend is not None
    body = _backend_key(step.backend)
    if step.operation is not Operation.REMOVE_BACKEND:
        # A SET needs the whole backend: what is left out becomes 0.
        body += _backend_rest(step.backend)
    return command, service + attribute(_DEST | _NESTED, body)


@lru_cache(maxsize=4096)
def encode_key(key: ServiceKey) -> bytes:
    """The attribute that names a service: of GET_SERVICE, GET_DEST and each backend's command."""
    return attribute(_SERVICE | _NESTED, _key(key))


def decode_service(data: bytes) -> tuple[Service, Counters]:
    """A service without backends, and what it has counted."""
    found = attributes(_inner(data, _SERVICE))
    try:
        family = _number(found[_S_FAMILY])
        key = _decoded_key(found, family)
        flags = _number(found[_S_FLAGS][:4])
        held = None
        if flags & _PERSISTENT:
            mask = found[_S_NETMASK]
            held = Persistence(
                _number(found[_S_TIMEOUT]),
                _number(mask) if family == AF_INET6 else int.from_bytes(mask, "big"),
                _text(found.get(_S_ENGINE, b"")),
            )
        service = Service(
            key, _text(found[_S_SCHEDULER]), ServiceFlags(flags & ~(_PERSISTENT | _HASHED)), held
        )
    except (KeyError, ValueError, OSError) as error:
        raise HalfRead(f"A service of the kernel's answer cannot be read: {error!r}.") from error
    return service, _counters(found.get(_S_STATS64) or found.get(_S_STATS))


def decode_backend(data: bytes, *, service_family: int) -> tuple[Backend, BackendCounters]:
    """A backend and what it has counted. `service_family` (4 or 6) is for kernels that don't name the
    backend's own."""
    found = attributes(_inner(data, _DEST))
    try:
        family = _number(found[_D_FAMILY]) if _D_FAMILY in found else _family(service_family)
        # The upper bits of the number are the connection's flags, not the method (IP_VS_CONN_F_FWD_MASK).
        forwarding = Forwarding(_number(found[_D_FORWARDING]) & 7)
        tunnel = None
        if forwarding is Forwarding.TUNNEL:
            tunnel = Tunnel(
                TunnelKind(_number(found.get(_D_TUNNEL_KIND, b""))),
                int.from_bytes(found.get(_D_TUNNEL_PORT, b""), "big"),
                _number(found.get(_D_TUNNEL_FLAGS, b"")),
            )
        backend = Backend(
            _decoded_address(found[_D_ADDRESS], family),
            int.from_bytes(found[_D_PORT], "big"),
            forwarding,
            int.from_bytes(found[_D_WEIGHT], sys.byteorder, signed=True),
            _number(found[_D_UPPER]),
            _number(found[_D_LOWER]),
            tunnel,
        )
        counters = BackendCounters(
            _counters(found.get(_D_STATS64) or found.get(_D_STATS)),
            _number(found[_D_ACTIVE]),
            _number(found[_D_INACTIVE]),
            _number(found[_D_PERSISTENT]),
        )
    except (KeyError, ValueError, OSError) as error:
        raise HalfRead(f"A backend of the kernel's answer cannot be read: {error!r}.") from error
    return backend, counters


def decode_version(data: bytes) -> str:
    """`1.2.1` of an answer to GET_INFO."""
    number = _number(attributes(data).get(_I_VERSION, b""))
    return f"{number >> 16 & 0xFF}.{number >> 8 & 0xFF}.{number & 0xFF}"


def _key(key: ServiceKey) -> bytes:
    family = attribute(_S_FAMILY, struct.pack("=H", _family(key.family)))
    if key.protocol is Protocol.FIREWALL_MARK:
        return family + attribute(_S_MARK, struct.pack("=I", key.mark))
    return (
        family
        + attribute(_S_PROTOCOL, struct.pack("=H", key.protocol))
        + attribute(_S_ADDRESS, _packed(key.address))
        + attribute(_S_PORT, struct.pack("!H", key.port))
    )


def _header(service: Service) -> bytes:
    held, flags = service.persistence, int(service.flags)
    alone = _IPV6_ALONE if service.key.family == 6 else _IPV4_ALONE
    timeout, mask, engine = (held.timeout_s, held.netmask, held.engine) if held else (0, alone, "")
    if held:
        flags |= _PERSISTENT
    # For IPv6 the field that is called a mask is the prefix's length, in the host's byte order.
    netmask = struct.pack("=I" if service.key.family == 6 else "!I", mask)
    return (
        attribute(_S_SCHEDULER, _nul_ended(service.scheduler))
        + attribute(_S_FLAGS, struct.pack("=II", flags & _FLAG_MASK, _FLAG_MASK))
        + attribute(_S_TIMEOUT, struct.pack("=I", timeout))
        + attribute(_S_NETMASK, netmask)
        + (attribute(_S_ENGINE, _nul_ended(engine)) if engine else b"")
    )


def _backend_key(backend: Backend) -> bytes:
    family = AF_INET6 if ":" in backend.address else AF_INET
    return (
        attribute(_D_ADDRESS, _packed(backend.address))
        + attribute(_D_PORT, struct.pack("!H", backend.port))
        + attribute(_D_FAMILY, struct.pack("=H", family))
    )


def _backend_rest(backend: Backend) -> bytes:
    body = (
        attribute(_D_FORWARDING, struct.pack("=I", backend.forwarding))
        + attribute(_D_WEIGHT, struct.pack("=i", backend.weight))
        + attribute(_D_UPPER, struct.pack("=I", backend.upper))
        + attribute(_D_LOWER, struct.pack("=I", backend.lower))
    )
    # Only with TUNNEL: a GUE kind with port 0 is refused whatever the forwarding method is.
    if (tunnel := backend.tunnel) and backend.forwarding is Forwarding.TUNNEL:
        body += (
            attribute(_D_TUNNEL_KIND, struct.pack("=B", tunnel.kind))
            + attribute(_D_TUNNEL_PORT, struct.pack("!H", tunnel.port))
            + attribute(_D_TUNNEL_FLAGS, struct.pack("=H", tunnel.flags))
        )
    return body


def _decoded_key(found: dict[int, bytes], family: int) -> ServiceKey:
    if _S_MARK in found:
        nowhere = "::" if family == AF_INET6 else "0.0.0.0"
        return ServiceKey(Protocol.FIREWALL_MARK, nowhere, 0, _number(found[_S_MARK]))
    return ServiceKey(
        Protocol(_number(found[_S_PROTOCOL])),
        _decoded_address(found[_S_ADDRESS], family),
        int.from_bytes(found[_S_PORT], "big"),
    )


def _decoded_address(data: bytes, family: int) -> str:
    if family == AF_INET:
        return inet_ntop(AF_INET, data[:4])
    text = inet_ntop(AF_INET6, data[:16])
    # The C library writes the last 32 bits of mapped addresses as IPv4; our canonical text may not.
    return canonical_address(text) if "." in text else text


def _counters(nest: bytes | None) -> Counters:
    if not nest:
        return Counters()
    found = attributes(nest)
    return Counters(*(_number(found.get(kind, b"")) for kind in range(1, 6)))


def _inner(data: bytes, kind: int) -> bytes:
    found = attributes(data).get(kind)
    if found is None:
        raise HalfRead("The kernel's answer lacks what was asked for.")
    return found


def _family(number: int) -> int:
    return AF_INET6 if number == 6 else AF_INET


def _packed(address: str) -> bytes:
    return inet_pton(AF_INET6 if ":" in address else AF_INET, address).ljust(16, b"\0")


def _number(data: bytes) -> int:
    return int.from_bytes(data, sys.byteorder)


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode("ascii", "replace")


def _nul_ended(text: str) -> bytes:
    return text.encode("ascii") + b"\0"
