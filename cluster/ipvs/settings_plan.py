"""What a kernel has to be asked for, so that it has the timeouts and daemons that a text names."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from ipaddress import ip_address

from cluster.ipvs.settings import (
    DEFAULT_GROUP,
    DEFAULT_PORT,
    DEFAULT_TTL,
    SettingOperation,
    Settings,
    SyncDaemon,
    SyncRole,
    Timeouts,
)

# The kernel takes a smaller size of messages for this one.
_LEAST_OF_A_BACKUP = 1024
_KINDS = {SettingOperation.START_DAEMON: "add", SettingOperation.STOP_DAEMON: "remove"}


@dataclass(frozen=True, slots=True)
class SettingStep:
    """One thing to ask for. `what` is the timeouts to set, or the daemon to start or to stop."""

    operation: SettingOperation
    what: Timeouts | SyncDaemon

    @property
    def kind(self) -> str:
        """`add`, `change` or `remove`, as of a step on a table."""
        return _KINDS.get(self.operation, "change")

    @property
    def subject(self) -> str:
        """What a refusal is about."""
        return (
            f"the {self.what.role.word} sync daemon" if isinstance(self.what, SyncDaemon) else "the timeouts"
        )

    def __str__(self) -> str:
        if isinstance(self.what, Timeouts):
            named = zip(("tcp", "tcpfin", "udp"), astuple(self.what), strict=True)
            return (
                f"Set the timeouts: {', '.join(f'{name} {seconds} s' for name, seconds in named if seconds)}."
            )
        verb = "Stop" if self.operation is SettingOperation.STOP_DAEMON else "Start"
        return f"{verb} {self.subject} on {self.what.interface} with id {self.what.sync_id}."


def settings_plan(actual: Settings, wanted: Settings | None) -> list[SettingStep]:
    """What is missing of `wanted` in `actual`. A timeout of 0 stays, and a daemon of a role that is not
    named. One that runs otherwise than named is stopped first, for a kernel has one of each role."""
    return [*_timeouts(actual, wanted), *_daemons(actual, wanted)] if wanted else []


def _timeouts(actual: Settings, wanted: Settings) -> Iterator[SettingStep]:
    pairs = zip(astuple(actual.timeouts), astuple(wanted.timeouts), strict=True)
    if any(to_be and to_be != now for now, to_be in pairs):
        yield SettingStep(SettingOperation.SET_TIMEOUTS, wanted.timeouts)


def _daemons(actual: Settings, wanted: Settings) -> Iterator[SettingStep]:
    running = {daemon.role: daemon for daemon in actual.daemons}
    for daemon in wanted.daemons:
        now = running.get(daemon.role)
        if now is not None and _runs_so(now, daemon):
            continue
        if now is not None:
            yield SettingStep(SettingOperation.STOP_DAEMON, now)
        yield SettingStep(SettingOperation.START_DAEMON, daemon)


def _runs_so(now: SyncDaemon, wanted: SyncDaemon) -> bool:
    # Which size the kernel takes where none is named depends on the interface.
    least = _LEAST_OF_A_BACKUP if wanted.role is SyncRole.BACKUP else 1
    is_of_size = not wanted.max_length or now.max_length == max(wanted.max_length, least)
    return is_of_size and _essence(now) == _essence(wanted)


def _essence(daemon: SyncDaemon) -> tuple[object, ...]:
    group = ip_address(daemon.group or DEFAULT_GROUP)
    return daemon.interface, daemon.sync_id, group, daemon.port or DEFAULT_PORT, daemon.ttl or DEFAULT_TTL
