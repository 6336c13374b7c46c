"""What all readers of texts share: a table in the making, its notes, and how numbers and addresses read."""

from __future__ import annotations

import re
import socket
import struct
from collections.abc import Iterator
from dataclasses import astuple, dataclass, field, replace

from cluster.ipvs.formats.fidelity import HealthCheck, Level, Note, Parsed
from cluster.ipvs.rules import Problem
from cluster.ipvs.settings import Settings, SyncDaemon, Timeouts, daemon_problems, timeouts_problems
from cluster.ipvs.state import Backend, BackendKey, Service, ServiceKey, Table, canonical_address

LARGEST_U32 = 0xFFFFFFFF
LARGEST_INT = 0x7FFFFFFF

# One line may stand for a hundred thousand, by way of definitions.
MOST_NOTES_OF_A_LINE = 20

_KERNEL_NAME = re.compile(r"[A-Za-z0-9_.-]{1,15}")


class Unreadable(Exception):
    """Part of a text cannot be taken over. The reader that knows the line catches it; no parser raises it."""

    def __init__(self, text: str, remedy: str, level: Level = Level.ERROR, *, may_hide: bool = False) -> None:
        super().__init__(text)
        self.text, self.remedy, self.level, self.may_hide = text, remedy, level, may_hide


@dataclass(slots=True)
class Draft:
    """A table while it is read. Services keep the order and the line of their first mention."""

    services: dict[ServiceKey, Service] = field(default_factory=dict)
    backends: dict[ServiceKey, dict[BackendKey, Backend]] = field(default_factory=dict)
    checks: dict[tuple[ServiceKey, BackendKey], tuple[HealthCheck, ...]] = field(default_factory=dict)
    sorry: dict[ServiceKey, Backend] = field(default_factory=dict)
    sorry_lines: dict[ServiceKey, int] = field(default_factory=dict)
    quiescent: dict[tuple[ServiceKey, BackendKey], tuple[bool, int]] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)
    mapped: set[tuple[str, int]] = field(default_factory=set)
    settings: Settings | None = None
    _told: dict[tuple[str, int, bool], int] = field(default_factory=dict)

    def note(
        self,
        line: int,
        level: Level,
        text: str,
        remedy: str = "",
        file: str = "",
        *,
        may_hide: bool = False,
    ) -> None:
        # Counted apart, so that no flood of others drowns a note that something may be missing.
        place = file, line, may_hide
        told = self._told[place] = self._told.get(place, 0) + 1
        if told > MOST_NOTES_OF_A_LINE:
            if told > MOST_NOTES_OF_A_LINE + 1:
                return
            text, remedy = "There is more to say of this line.", "Mend what is named first."
        if not text.isprintable():
            text = "".join(mark if mark.isprintable() else "�" for mark in text)
        self.notes.append(Note(line, level, text, remedy, file, may_hide))

    def refuse(self, line: int, why: Unreadable, file: str = "") -> None:
        self.note(line, why.level, why.text, why.remedy, file, may_hide=why.may_hide)

    def remove(self, key: ServiceKey) -> None:
        del self.services[key], self.backends[key]

    def set_timeouts(self, given: Timeouts) -> None:
        """Take timeouts over those of before, but for 0; Unreadable where no kernel would have them."""
        _refuse(timeouts_problems(given))
        before = self.settings or Settings(Timeouts())
        seconds = zip(astuple(before.timeouts), astuple(given), strict=True)
        self.settings = replace(before, timeouts=Timeouts(*(new or old for old, new in seconds)))

    def start_daemon(self, daemon: SyncDaemon) -> None:
        """Take one more daemon; Unreadable where its role has one, or where no kernel would start it."""
        _refuse(daemon_problems(daemon))
        before = self.settings or Settings(Timeouts())
        if any(one.role is daemon.role for one in before.daemons):
            raise Unreadable(f"A {daemon.role.word} sync daemon was started before.", "Take one of them out.")
        daemons = sorted((*before.daemons, daemon), key=lambda one: one.role)
        self.settings = replace(before, daemons=tuple(daemons))

    def finished(self) -> Parsed:
        """The value, with notes in the order of lines."""
        services = (
            service.with_backends(self.backends[key].values()) for key, service in self.services.items()
        )
        notes = sorted(self.notes, key=lambda note: (note.file, note.line))
        return Parsed(
            Table(tuple(services)),
            tuple(notes),
            frozenset(self.mapped),
            self.checks,
            self.sorry,
            self.settings,
            self.sorry_lines,
            self.quiescent,
        )


def _refuse(problems: Iterator[Problem]) -> None:
    for problem in problems:
        raise Unreadable(problem.text, "Correct it, or take it out.")


def number(text: str, name: str, *, least: int = 0, most: int = LARGEST_INT) -> int:
    """A decimal number within bounds; Unreadable otherwise. `name` begins the sentence."""
    # int() alone would take "1_0", " 7" and digits of other scripts, and a megabyte of digits slowly.
    if text.isascii() and text.isdecimal() and len(text) <= 20 and least <= int(text) <= most:
        return int(text)
    raise Unreadable(f"{name} is {shown(text)}.", f"Give a whole number from {least} to {most}.")


def address(text: str) -> str:
    """Canonical text of an IP address. Unreadable as `lost` for what may be a host's name, which is not
    looked up: it could mean another machine here than there."""
    try:
        # No address is longer; ip_address() of a megabyte would look at all of it.
        if len(text) <= 45:
            return canonical_address(text)
    except ValueError:
        pass
    if text and any(mark.isalpha() for mark in text) and ":" not in text and len(text) <= 253:
        raise Unreadable(
            f"{shown(text)} is a host's name, and names are not looked up here.",
            "Write its IP address instead.",
            Level.LOST,
            may_hide=True,
        )
    raise Unreadable(f"{shown(text)} is not an IP address.", "Write an address such as 192.0.2.1.")


def port(text: str) -> int:
    """0 to 65535; Unreadable as `lost` for a port's name such as http."""
    if text.isascii() and text[:1].isalpha() and len(text) <= 64:
        raise Unreadable(
            f"{shown(text)} is a port's name, and names are not looked up here.",
            "Write the port's number; ipvsadm-save does so with -n.",
            Level.LOST,
            may_hide=True,
        )
    return number(text, "The port", most=65535)


def netmask(family: int, text: str | None) -> int:
    """What Persistence.netmask holds: for IPv6 the prefix length, for IPv4 the mask, which may have holes;
    that of one client alone where `text` is None."""
    if family == 6:
        return 128 if text is None else number(text, "The prefix length", least=1, most=128)
    if text is None:
        return LARGEST_U32
    try:
        # ipvsadm reads "24" as 0.0.0.24, which nobody means; a mask here has its four numbers.
        if text.count(".") == 3 and len(text) <= 15:
            return int(struct.unpack("!I", socket.inet_aton(text))[0])
    except OSError:
        pass
    raise Unreadable(f"{shown(text)} is not a mask.", "Write it as 255.255.255.0.")


def kernel_name(text: str, name: str) -> str:
    """The name of a scheduler or persistence engine, as kernel modules have them; `name` begins the
    sentence."""
    if _KERNEL_NAME.fullmatch(text):
        return text
    raise Unreadable(f"{name} is {shown(text)}.", "A name has 1 to 15 letters, digits, -, _ and dots.")


def split_endpoint(text: str) -> tuple[str, str | None]:
    """`192.0.2.1:80`, `[2001:db8::1]:80`, or an address alone: the two texts, the port None if absent."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise Unreadable(f"{shown(text)} is not an endpoint.", "Write it as [2001:db8::1]:80.")
        return host, rest[1:] if rest else None
    if text.count(":") > 1:
        return text, None
    host, colon, rest = text.partition(":")
    return host, rest if colon else None


def shown(text: str) -> str:
    """A piece of the text in quotes, short enough for a sentence and without control characters."""
    clean = "".join(mark if mark.isprintable() else "�" for mark in text[:61])
    return f"“{clean[:60]}…”" if len(text) > 60 else f"“{clean}”"
