"""What a director's IPVS has beside its table: timeouts, sync daemons, version. include/uapi/linux/ip_vs.h.

None of it is in an export of ipvsadm; each network namespace has its own. settings_plan.py compares two.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, fields
from enum import IntEnum, StrEnum
from ipaddress import ip_address
from typing import Any

from cluster.ipvs.rules import Problem

# The kernel counts in jiffies and refuses more than INT_MAX of them: at 1000 a second this many seconds.
LONGEST_TIMEOUT_S = 2_147_483
# IFNAMSIZ less the byte that ends the name; the kernel would cut a longer one and look for another interface.
LONGEST_INTERFACE = 15
LARGEST_SYNC_ID = 255
# A message larger than this does not fit a packet: 65535 less the headers of IPv6 and UDP.
LARGEST_MESSAGE = 65_487


class SettingOperation(StrEnum):
    """What can be asked of a kernel that is no step on its table."""

    SET_TIMEOUTS = "set-timeouts"
    START_DAEMON = "start-daemon"
    STOP_DAEMON = "stop-daemon"
    ZERO = "zero"


class SyncRole(IntEnum):
    """IP_VS_STATE_*: a master sends its connections, a backup takes them in."""

    MASTER = 1
    BACKUP = 2

    @property
    def word(self) -> str:
        """`master` or `backup`."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class Timeouts:
    """After how many silent seconds the kernel forgets a connection. To set 0 means: leave it as it is.

    The kernel's own are 900, 120 and 300. `tcp_s` is for established connections, `tcp_fin_s` for those
    that are being closed."""

    tcp_s: int = 0
    tcp_fin_s: int = 0
    udp_s: int = 0


DEFAULT_TIMEOUTS = Timeouts(900, 120, 300)
# Of a sync daemon that is started without them: net/netfilter/ipvs/ip_vs_ctl.c.
DEFAULT_GROUP, DEFAULT_PORT, DEFAULT_TTL = "224.0.0.81", 8848, 1


@dataclass(frozen=True, slots=True)
class SyncDaemon:
    """One of the two threads that keep connections equal on two directors; both may run at once.

    Read back, every field has the value in force. To start one, empty `group` and 0 mean the kernel's
    default: 224.0.0.81, port 8848, ttl 1, and as many bytes a message as the interface's packets hold.
    A backup with `sync_id` 0 takes messages of every id."""

    role: SyncRole
    interface: str
    sync_id: int = 0
    group: str = ""
    port: int = 0
    ttl: int = 0
    max_length: int = 0


@dataclass(frozen=True, slots=True)
class Settings:
    """Timeouts, running daemons (master first), version and the slots of the connection table."""

    timeouts: Timeouts = DEFAULT_TIMEOUTS
    daemons: tuple[SyncDaemon, ...] = ()
    version: str = ""
    connection_table_size: int = 0


def timeouts_problems(timeouts: Timeouts) -> Iterator[Problem]:
    """Why a kernel would refuse these timeouts."""
    for one in fields(Timeouts):
        if not 0 <= getattr(timeouts, one.name) <= LONGEST_TIMEOUT_S:
            yield Problem(
                one.name,
                f"The timeout must be between 1 and {LONGEST_TIMEOUT_S} s; 0 leaves it as it is.",
            )


def daemon_problems(daemon: SyncDaemon) -> Iterator[Problem]:
    """Why a kernel would refuse to start this daemon, or start another than is meant."""
    if not 1 <= len(daemon.interface.encode()) <= LONGEST_INTERFACE:
        yield Problem("interface", f"Name an interface of the director, in 1 to {LONGEST_INTERFACE} letters.")
    if not 0 <= daemon.sync_id <= LARGEST_SYNC_ID:
        # The kernel takes more and then compares one byte of it.
        yield Problem("sync_id", f"The sync id must be between 0 and {LARGEST_SYNC_ID}.")
    if daemon.group and not is_multicast(daemon.group):
        yield Problem("group", f"“{daemon.group}” is no multicast address. Use one such as 224.0.0.81.")
    for name, most in (("port", 65535), ("ttl", 255), ("max_length", LARGEST_MESSAGE)):
        if not 0 <= getattr(daemon, name) <= most:
            words = name.replace("_", " ")
            yield Problem(name, f"The {words} must be between 1 and {most}; 0 is the kernel's default.")


def is_multicast(text: str) -> bool:
    """Whether the text is the address of a group of hosts."""
    try:
        return ip_address(text).is_multicast
    except ValueError:
        return False


def to_document(settings: Settings) -> dict[str, Any]:
    """Plain values for a message, without the version, which every hello has apart."""
    return {
        "timeouts": {one.name: getattr(settings.timeouts, one.name) for one in fields(Timeouts)},
        "daemons": [
            {one.name: getattr(daemon, one.name) for one in fields(SyncDaemon)} | {"role": daemon.role.word}
            for daemon in settings.daemons
        ],
        "connection_table_size": settings.connection_table_size,
    }


def from_document(said: object) -> Settings:
    """Read what `to_document` wrote. What has another shape becomes the default: a message from elsewhere
    must not keep a page from being shown."""
    found = said if isinstance(said, dict) else {}
    timeouts = found.get("timeouts")
    daemons = found.get("daemons")
    return Settings(
        Timeouts(**_numbers(timeouts, [one.name for one in fields(Timeouts)])),
        tuple(_daemon(one) for one in (daemons if isinstance(daemons, list) else [])[:2]),
        connection_table_size=_numbers(found, ["connection_table_size"]).get("connection_table_size", 0),
    )


def _daemon(said: object) -> SyncDaemon:
    found = said if isinstance(said, dict) else {}
    return SyncDaemon(
        SyncRole.BACKUP if found.get("role") == SyncRole.BACKUP.word else SyncRole.MASTER,
        str(found.get("interface", ""))[:LONGEST_INTERFACE],
        group=str(found.get("group", ""))[:39],
        **_numbers(found, ["sync_id", "port", "ttl", "max_length"]),
    )


def _numbers(said: object, names: list[str]) -> dict[str, int]:
    found = said if isinstance(said, dict) else {}
    return {
        name: found[name] for name in names if isinstance(found.get(name), int) and 0 <= found[name] < 2**32
    }
