"""Timeouts and sync daemons without a kernel, refused as Linux 6.1 was measured to refuse."""

from __future__ import annotations

import errno
import struct
from collections.abc import Mapping
from dataclasses import astuple, replace

from cluster.director.kernel import KernelRefused, settings_codec
from cluster.ipvs.settings import (
    DEFAULT_GROUP,
    DEFAULT_PORT,
    DEFAULT_TIMEOUTS,
    DEFAULT_TTL,
    LONGEST_INTERFACE,
    LONGEST_TIMEOUT_S,
    Settings,
    SyncDaemon,
    SyncRole,
    Timeouts,
    is_multicast,
)

# The interfaces that a stand-in has, with the size of their packets.
INTERFACES = {"lo": 65536, "eth0": 1500}


class SettingsInMemory:
    """What a MemoryKernel has beside its table."""

    def __init__(self, interfaces: Mapping[str, int] = INTERFACES) -> None:
        self._interfaces = interfaces
        self._timeouts = DEFAULT_TIMEOUTS
        self._daemons: dict[SyncRole, SyncDaemon] = {}

    @property
    def has_daemons(self) -> bool:
        return bool(self._daemons)

    def read(self) -> Settings:
        return Settings(self._timeouts, tuple(self._daemons[role] for role in sorted(self._daemons)))

    def set_timeouts(self, timeouts: Timeouts) -> None:
        if not all(0 <= seconds <= LONGEST_TIMEOUT_S for seconds in astuple(timeouts)):
            raise KernelRefused(errno.EINVAL)
        old = astuple(self._timeouts)
        self._timeouts = Timeouts(*(new or was for new, was in zip(astuple(timeouts), old, strict=True)))

    def start_daemon(self, daemon: SyncDaemon, *, is_mixed: bool) -> None:
        """`is_mixed` tells whether a backend of the table has another family than its service."""
        if is_mixed or len(daemon.interface.encode()) > LONGEST_INTERFACE or not _is_sound(daemon):
            raise KernelRefused(errno.EINVAL)
        if daemon.interface not in self._interfaces:
            raise KernelRefused(errno.ENODEV)
        if daemon.role in self._daemons:
            raise KernelRefused(errno.EEXIST)
        self._daemons[daemon.role] = self._as_kept(daemon)

    def stop_daemon(self, role: SyncRole) -> None:
        if self._daemons.pop(role, None) is None:
            raise KernelRefused(errno.ESRCH)

    def _as_kept(self, daemon: SyncDaemon) -> SyncDaemon:
        group = daemon.group or DEFAULT_GROUP
        headers = 48 if ":" in group else 28
        is_backup = daemon.role is SyncRole.BACKUP
        longest = 65535 - headers
        if daemon.max_length:
            length = min(max(daemon.max_length, 1024 if is_backup else 1), longest)
        else:
            # Only a backup, which has to take in what others send, looks at its interface.
            packet = self._interfaces[daemon.interface] if is_backup else 1500
            length = min(max(packet, 1500), 65535) - headers
        return replace(
            daemon,
            group=group,
            port=daemon.port or DEFAULT_PORT,
            ttl=daemon.ttl or DEFAULT_TTL,
            max_length=length,
        )


def _is_sound(daemon: SyncDaemon) -> bool:
    """Whether a message can hold it, with a group that is one."""
    try:
        settings_codec.encode_daemon(daemon)
    except (struct.error, ValueError):
        return False
    return not daemon.group or is_multicast(daemon.group)
