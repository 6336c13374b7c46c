"""The lines of ipvsadm(8) that are about the whole director: --set, --start-daemon, --stop-daemon, and back.

`ipvsadm -R` takes them among the others (measured, ipvsadm 1.31).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cluster.ipvs.formats.fidelity import Level
from cluster.ipvs.formats.reading import Draft, Unreadable, address, number, shown
from cluster.ipvs.settings import SettingOperation, Settings, SyncDaemon, SyncRole, Timeouts
from cluster.ipvs.settings_plan import SettingStep

# ipvsadm 1.31 takes it where no interface is named.
DEFAULT_INTERFACE = "eth0"
_ROLES = {role.word: role for role in SyncRole}
_COMMANDS = ("--set", "--start-daemon", "--stop-daemon")
_TEXTS = {"--mcast-interface": "interface", "--mcast-group": "group"}
_NUMBERS = {
    "--syncid": ("sync_id", 0, 255),
    "--sync-maxlen": ("max_length", 1, 65487),
    "--mcast-port": ("port", 1, 65535),
    "--mcast-ttl": ("ttl", 1, 255),
}


def is_setting(words: list[str]) -> bool:
    """Whether the line begins with one of these commands."""
    return words[0].partition("=")[0] in _COMMANDS


def take_setting(at: int, words: list[str], draft: Draft) -> None:
    """Carry the line out on the draft's settings; Unreadable where ipvsadm would not take it either."""
    command, equals, glued = words[0].partition("=")
    following = [glued, *words[1:]] if equals else words[1:]
    if command == "--set":
        if len(following) != 3:
            raise Unreadable("--set has not three numbers.", "Give the seconds of tcp, tcpfin and udp.")
        draft.set_timeouts(Timeouts(*(number(text, "The timeout") for text in following)))
        return
    role = _ROLES.get(following[0]) if following else None
    if role is None:
        raise Unreadable(f"{command} names neither master nor backup.", "Write one of them after it.")
    if command == "--start-daemon":
        draft.start_daemon(_daemon(at, role, following[1:], draft))
    else:
        _stop(role, draft)


def setting_lines(settings: Settings) -> Iterator[str]:
    """The lines that ask for these timeouts and daemons."""
    yield _timeouts_line(settings.timeouts)
    for daemon in settings.daemons:
        yield _daemon_line(daemon)


def setting_command(step: SettingStep) -> str:
    """The command line that does the same as this step."""
    if isinstance(step.what, Timeouts):
        line = _timeouts_line(step.what)
    elif step.operation is SettingOperation.STOP_DAEMON:
        line = f"--stop-daemon {step.what.role.word}"
    else:
        line = _daemon_line(step.what)
    return f"ipvsadm {line}"


def _timeouts_line(timeouts: Timeouts) -> str:
    return f"--set {timeouts.tcp_s} {timeouts.tcp_fin_s} {timeouts.udp_s}"


def _daemon_line(daemon: SyncDaemon) -> str:
    # What is left to the kernel is not said.
    words = [f"--start-daemon {daemon.role.word} --mcast-interface {daemon.interface}"]
    words += [f"--mcast-group {daemon.group}"] if daemon.group else []
    for option, (name, least, _) in _NUMBERS.items():
        if (value := getattr(daemon, name)) >= least:
            words.append(f"{option} {value}")
    return " ".join(words)


def _daemon(at: int, role: SyncRole, words: list[str], draft: Draft) -> SyncDaemon:
    given: dict[str, Any] = {}
    waiting = iter(words)
    for word in waiting:
        option, equals, value = word.partition("=")
        value = value if equals else next(waiting, "")
        name, least, most = _NUMBERS.get(option) or (_TEXTS.get(option, ""), 0, 0)
        if not name:
            raise Unreadable(f"{shown(word)} is no option of a daemon.", "Correct it; ipvsadm(8) lists them.")
        if name in given:
            raise Unreadable(f"{option} is there twice.", "Give it once.")
        if most:
            given[name] = number(value, f"The value of {option}", least=least, most=most)
        else:
            given[name] = address(value) if name == "group" else value
    if "interface" not in given:
        text = f"No --mcast-interface: {DEFAULT_INTERFACE}, as ipvsadm does."
        draft.note(at, Level.MAPPED, text, "Name it.")
    return SyncDaemon(role, **{"interface": DEFAULT_INTERFACE} | given)


def _stop(role: SyncRole, draft: Draft) -> None:
    before = draft.settings
    left = tuple(one for one in before.daemons if one.role is not role) if before else ()
    if before is None or left == before.daemons:
        raise Unreadable(
            f"No line before this starts a {role.word} sync daemon, and none is stopped by a text.",
            "Stop it on the director itself.",
            Level.LOST,
        )
    draft.settings = replace(before, daemons=left)
