"""IPVS generic netlink beside the table: timeouts, sync daemons, info. include/uapi/linux/ip_vs.h."""

from __future__ import annotations

import struct
import sys
from ipaddress import IPv4Address, ip_address
from typing import Final

from cluster.director.kernel import HalfRead
from cluster.director.kernel.codec import attribute, attributes
from cluster.ipvs.settings import SyncDaemon, SyncRole, Timeouts

NEW_DAEMON: Final = 9
DEL_DAEMON: Final = 10
GET_DAEMON: Final = 11
SET_CONFIG: Final = 12
GET_CONFIG: Final = 13
ZERO: Final = 16

# IPVS_CMD_ATTR_*
_DAEMON, _TCP, _TCP_FIN, _UDP = 3, 4, 5, 6
_NESTED: Final = 0x8000
# IPVS_DAEMON_ATTR_*
_ROLE, _INTERFACE, _SYNC_ID, _MAX_LENGTH = 1, 2, 3, 4
_GROUP, _GROUP6, _PORT, _TTL = 5, 6, 7, 8
# IPVS_INFO_ATTR_CONN_TAB_SIZE
_TABLE_SIZE: Final = 2


def encode_timeouts(timeouts: Timeouts) -> bytes:
    """The attributes of SET_CONFIG; a timeout of 0 stays as it is. Signed, so that the kernel may refuse
    what is negative."""
    return (
        attribute(_TCP, struct.pack("=i", timeouts.tcp_s))
        + attribute(_TCP_FIN, struct.pack("=i", timeouts.tcp_fin_s))
        + attribute(_UDP, struct.pack("=i", timeouts.udp_s))
    )


def decode_timeouts(data: bytes) -> Timeouts:
    found = attributes(data)
    return Timeouts(_number(found, _TCP), _number(found, _TCP_FIN), _number(found, _UDP))


def encode_daemon(daemon: SyncDaemon) -> bytes:
    """The attribute of NEW_DAEMON. What is empty or 0 is left out, so that the kernel's default counts.
    ValueError or struct.error for a value that no field of the protocol can hold."""
    body = (
        attribute(_ROLE, struct.pack("=I", daemon.role))
        + attribute(_INTERFACE, daemon.interface.encode() + b"\0")
        + attribute(_SYNC_ID, struct.pack("=I", daemon.sync_id))
    )
    if daemon.group:
        group = ip_address(daemon.group)
        body += attribute(_GROUP if isinstance(group, IPv4Address) else _GROUP6, group.packed)
    # In the host's byte order, unlike the ports of services.
    body += attribute(_PORT, struct.pack("=H", daemon.port)) if daemon.port else b""
    body += attribute(_TTL, struct.pack("=B", daemon.ttl)) if daemon.ttl else b""
    body += attribute(_MAX_LENGTH, struct.pack("=H", daemon.max_length)) if daemon.max_length else b""
    return attribute(_DAEMON | _NESTED, body)


def encode_role(role: SyncRole) -> bytes:
    """The attribute of DEL_DAEMON, which needs to know no more."""
    return attribute(_DAEMON | _NESTED, attribute(_ROLE, struct.pack("=I", role)))


def decode_daemon(data: bytes) -> SyncDaemon:
    found = attributes(attributes(data).get(_DAEMON, b""))
    try:
        group = found.get(_GROUP6) or found.get(_GROUP)
        return SyncDaemon(
            SyncRole(_number(found, _ROLE)),
            found[_INTERFACE].rstrip(b"\0").decode("utf-8", "replace"),
            _number(found, _SYNC_ID),
            str(ip_address(group)) if group else "",
            _number(found, _PORT),
            _number(found, _TTL),
            _number(found, _MAX_LENGTH),
        )
    except (KeyError, ValueError) as error:
        raise HalfRead(f"A sync daemon of the kernel's answer cannot be read: {error!r}.") from error


def decode_table_size(data: bytes) -> int:
    """How many slots the connection table has, of an answer to GET_INFO."""
    return _number(attributes(data), _TABLE_SIZE)


def _number(found: dict[int, bytes], kind: int) -> int:
    return int.from_bytes(found.get(kind, b""), sys.byteorder)
