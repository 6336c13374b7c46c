"""A line of ipvsadm(8) taken apart: its command, its options and their values, as popt does it."""

from __future__ import annotations

import shlex
from collections.abc import Iterator
from dataclasses import dataclass

from cluster.ipvs.formats.reading import Unreadable, shown

# The tool's own buffer for a line has 1024 bytes.
LONGEST_LINE = 4096

_COMMANDS = {
    "-A": "add-service",
    "-E": "edit-service",
    "-D": "delete-service",
    "-C": "clear",
    "-a": "add-server",
    "-e": "edit-server",
    "-d": "delete-server",
    "-L": "list",
    "-l": "list",
    "-Z": "zero",
    "-R": "restore",
    "-S": "save",
    "-h": "help",
}
_SHORT = {
    "-t": "tcp-service",
    "-u": "udp-service",
    "-f": "fwmark-service",
    "-s": "scheduler",
    "-p": "persistent",
    "-M": "netmask",
    "-b": "sched-flags",
    "-o": "ops",
    "-6": "ipv6",
    "-r": "real-server",
    "-m": "masquerading",
    "-i": "ipip",
    "-g": "gatewaying",
    "-w": "weight",
    "-x": "u-threshold",
    "-y": "l-threshold",
    "-n": "numeric",
    "-c": "connection",
}
# Commands about the director's settings and views, not about the content of a table.
SETTINGS = {"set", "start-daemon", "stop-daemon"}
ELSEWHERE = {"list", "zero", "restore", "save", "help", "version", *SETTINGS}
_LONG_COMMANDS = {*_COMMANDS.values(), *ELSEWHERE}
_SERVICES = {"tcp-service", "udp-service", "sctp-service", "fwmark-service"}
_METHODS = {"masquerading", "ipip", "gatewaying"}
_TUNNEL_FLAGS = {"tun-nocsum", "tun-csum", "tun-remcsum"}
# A word of our own, which makes the tool pass over the line; here the line is read as any other.
BEYOND = "beyond-ipvsadm"
_PLAIN = {"ops", "ipv6", "numeric", "connection", BEYOND, *_METHODS, *_TUNNEL_FLAGS}
_VALUED = {
    *_SERVICES,
    *("scheduler", "netmask", "pe", "sched-flags"),
    *("real-server", "weight", "u-threshold", "l-threshold", "tun-type", "tun-port", "tun-flags"),
}
_OF_SERVICE = {"scheduler", "persistent", "netmask", "pe", "sched-flags", "ops"}
_OF_BACKEND = {
    *("real-server", "weight", "u-threshold", "l-threshold", "tun-type", "tun-port", "tun-flags"),
    *_METHODS,
    *_TUNNEL_FLAGS,
}
_OFFERED = {
    "add-service": _OF_SERVICE,
    "edit-service": _OF_SERVICE,
    "delete-service": set[str](),
    "add-server": _OF_BACKEND,
    "edit-server": _OF_BACKEND,
    "delete-server": {"real-server"},
}


@dataclass(frozen=True, slots=True)
class Line:
    """A command's long name and its options by long name. Plain options have an empty value. The words of
    our own, `--protocol-…` and `--forwarding-…`, stand under `protocol` and `forwarding`."""

    command: str
    options: dict[str, str]


def words_of(text: str) -> list[str]:
    """The words of a line without `ipvsadm` in front and without a comment; none for a line that says
    nothing. Quotes work as in a shell."""
    if len(text) > LONGEST_LINE:
        raise Unreadable("The line is too long for ipvsadm.", "Check that the file has line ends.")
    if "'" in text or '"' in text or "\\" in text or "#" in text:
        try:
            words = shlex.split(text, comments=True)
        except ValueError:
            raise Unreadable("A quote is not closed.", "Close it, or leave the quotes out.") from None
    else:
        words = text.split()
    if words and words[0] == "sudo":
        del words[0]
    if words and words[0].rpartition("/")[2] == "ipvsadm":
        del words[0]
    return words


def line_of(words: list[str]) -> Line:
    """Read a line's words; Unreadable where ipvsadm would not take them either."""
    command, options = "", dict[str, str]()
    for name, value in _options(words):
        if name in _LONG_COMMANDS:
            if command:
                raise Unreadable(f"There are two commands, --{command} and --{name}.", "Give one a line.")
            command = name
            if command in ELSEWHERE:
                break
        elif name in options:
            raise Unreadable(f"--{name} is there twice.", "Give it once.")
        else:
            options[name] = value
    if not command:
        raise Unreadable("There is no command.", "Begin the line with -A for a service, -a for a backend.")
    if command not in ELSEWHERE:
        _check_offered(command, options)
    return Line(command, options)


def _options(words: list[str]) -> Iterator[tuple[str, str]]:
    """Pairs of long name and value, with `-t192.0.2.1:80`, `-gw 3` and `--weight=3` understood."""
    waiting = iter(range(len(words)))
    for at in waiting:
        word = words[at]
        following = words[at + 1] if at + 1 < len(words) else None
        if word.startswith("--"):
            name, equals, glued = word[2:].partition("=")
            name, value, used = _with_value(name, glued if equals else None, following, word)
            yield name, value
        elif len(word) > 1 and word.startswith("-"):
            used = False
            rest = word[1:]
            while rest and not used:
                letter, rest = f"-{rest[0]}", rest[1:]
                name = _COMMANDS.get(letter) or _SHORT.get(letter, "")
                takes = name in _VALUED or name == "persistent"
                glued_value = rest.removeprefix("=") if takes and rest else None
                name, value, used = _with_value(name, glued_value, following, letter)
                rest = "" if takes else rest
                yield name, value
        else:
            raise Unreadable(f"{shown(word)} belongs to no option.", "Leave it out, or name its option.")
        if used:
            next(waiting, None)


def _with_value(name: str, glued: str | None, following: str | None, word: str) -> tuple[str, str, bool]:
    """The option's name and value, and whether the following word was that value."""
    for own in ("protocol", "forwarding"):
        if name.startswith(f"{own}-"):
            kind = name.removeprefix(f"{own}-")
            if own == "forwarding":
                return own, kind, False
            if following is None:
                raise Unreadable(f"{shown(word)} has no value.", "Give the service's address and port.")
            return own, f"{kind} {following}", True
    if name in _PLAIN or name in _LONG_COMMANDS:
        return name, "", False
    if name == "persistent":
        if glued is not None:
            return name, glued, False
        has_value = following is not None and not following.startswith("-")
        return name, (following or "") if has_value else "", has_value
    if name not in _VALUED:
        raise Unreadable(f"{shown(word)} is no option of ipvsadm.", "Correct it; ipvsadm(8) lists them.")
    if glued is not None:
        return name, glued, False
    if name == "sched-flags" and (following is None or following.startswith("-")):
        # ipvsadm 1.31 saves flag-3 of sh and mh like this, and then refuses its own line.
        return name, "", False
    if following is None:
        raise Unreadable(f"{shown(word)} has no value.", "Give one after it.")
    return name, following, True


def _check_offered(command: str, options: dict[str, str]) -> None:
    if command == "clear":
        return
    services = [name for name in options if name in _SERVICES or name == "protocol"]
    if len(services) != 1:
        found = "no service" if not services else "two services"
        raise Unreadable(f"The line names {found}.", "Give one of -t, -u, --sctp-service and -f.")
    if "ipv6" in options and services != ["fwmark-service"]:
        raise Unreadable("-6 goes with -f only.", "Leave it out: the address tells the family.")
    allowed = _OFFERED[command] | {"ipv6", BEYOND, "forwarding" if command.endswith("-server") else "ipv6"}
    for name in options:
        if name not in allowed and name not in services:
            raise Unreadable(f"--{name} does not go with --{command}.", f"Take --{name} out of this line.")
    if command.endswith("-server") and "real-server" not in options:
        raise Unreadable("The line names no backend.", "Give its address and port with -r.")
    for group in (_METHODS | {"forwarding"}, _TUNNEL_FLAGS | {"tun-flags"}):
        if len(both := sorted(group & options.keys())) > 1:
            raise Unreadable(f"--{both[0]} and --{both[1]} exclude each other.", "Give one of them.")
