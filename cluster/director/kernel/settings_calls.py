"""Asking the real kernel for its settings and telling it new ones, a command and an answer at a time."""

from __future__ import annotations

import errno
import struct
from collections.abc import Callable

from cluster.director.kernel import KernelRefused, NoAnswer, codec, settings_codec
from cluster.director.kernel.conversation import Conversation
from cluster.ipvs.settings import Settings, SyncDaemon, SyncRole, Timeouts
from cluster.ipvs.state import ServiceKey


def read_settings(deadline_s: float) -> Settings:
    """Timeouts, running daemons, version and the connection table's size."""
    with Conversation(deadline_s) as talk:
        told = talk.ask(codec.GET_INFO, b"")
        timeouts = settings_codec.decode_timeouts(talk.ask(settings_codec.GET_CONFIG, b""))
        daemons = _daemons(talk)
    return Settings(
        timeouts,
        daemons,
        codec.decode_version(told),
        settings_codec.decode_table_size(told),
    )


def set_timeouts(deadline_s: float, timeouts: Timeouts) -> None:
    """Those that are not 0 get a new value."""
    _change(deadline_s, settings_codec.SET_CONFIG, lambda: settings_codec.encode_timeouts(timeouts))


def start_daemon(deadline_s: float, daemon: SyncDaemon) -> None:
    """Start the master or the backup."""
    _change(deadline_s, settings_codec.NEW_DAEMON, lambda: settings_codec.encode_daemon(daemon))


def stop_daemon(deadline_s: float, role: SyncRole) -> None:
    """Stop the master or the backup."""
    with Conversation(deadline_s) as talk:
        try:
            talk.change(settings_codec.DEL_DAEMON, settings_codec.encode_role(role))
        except NoAnswer:
            # So it is with a daemon whose thread had not begun to run (kthread_stop's EINTR): it is
            # stopped, and nothing is said. Measured on 6.1, every second time right after a start.
            if any(daemon.role == role for daemon in _daemons(talk)):
                raise


def zero(deadline_s: float, key: ServiceKey | None) -> None:
    """Set the counters of one service and its backends to 0, or those of all."""
    _change(deadline_s, settings_codec.ZERO, lambda: codec.encode_key(key) if key else b"")


def _daemons(talk: Conversation) -> tuple[SyncDaemon, ...]:
    found = [settings_codec.decode_daemon(data) for data in talk.dump(settings_codec.GET_DAEMON, b"")]
    return tuple(sorted(found, key=lambda daemon: daemon.role))


def _change(deadline_s: float, command: int, encode: Callable[[], bytes]) -> None:
    try:
        payload = encode()
    except (struct.error, ValueError, OSError):
        # As the kernel would, if the field were wide enough for it to see the value.
        raise KernelRefused(errno.EINVAL) from None
    with Conversation(deadline_s) as talk:
        talk.change(command, payload)
