"""Reads ldirectord.cf into a table, with the defaults of ldirectord's source, which differ from its manual.

Lines are taken as ldirectord takes them: a section is its indented lines up to the first empty one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from cluster.ipvs.formats.fidelity import Level, Parsed
from cluster.ipvs.formats.ipvsadm_reader import scheduler_flags
from cluster.ipvs.formats.ldirectord_checks import OF_CHECKS, checks_of, take_check_setting
from cluster.ipvs.formats.reading import (
    LARGEST_INT,
    LARGEST_U32,
    Draft,
    Unreadable,
    address,
    netmask,
    number,
    port,
    shown,
)
from cluster.ipvs.state import (
    Backend,
    Forwarding,
    Persistence,
    Protocol,
    Service,
    ServiceFlags,
    ServiceKey,
    Tunnel,
)

DEFAULT_SCHEDULER = "wrr"
MOST_BACKENDS = 1_000_000
LONGEST_RANGE = 65536
LONGEST_LINE = 4096
FORWARDINGS = {"gate": Forwarding.DIRECT, "masq": Forwarding.MASQUERADE, "ipip": Forwarding.TUNNEL}

_ABOUT_THE_DAEMON = {
    *("autoreload", "callback", "logfile", "execute", "supervised", "maintenancedir", "readdquiescent"),
    *("cleanstop", "emailalert", "emailalertfrom", "emailalertfreq", "emailalertstatus", "smtp"),
    *("fallbackcommand", "monitorfile", "servicename", "comment", "load"),
}
_IN_A_SECTION_ALONE = {"monitorfile", "servicename", "comment", "load"}
_GLOBAL_ALONE = {
    *("autoreload", "callback", "logfile", "execute", "supervised", "maintenancedir", "readdquiescent"),
    "emailalertfrom",
}
_OF_SERVICES = {"scheduler", "persistent", "netmask", "protocol", "ops", "schedflags"}

_VIRTUAL = re.compile(r"virtual(6?)\s*=\s*(.*)")
_DIRECTIVE = re.compile(r"([a-z0-9-]+)\s*=\s*(.*)")
_INDENTED = re.compile(r" {4,}(.+)")
_COMMENT = re.compile(r"\s*#")
_PLACE = re.compile(r"(\[[^\]]*\]|[^\s:\[\]]+)(?::([A-Za-z0-9_-]+))?")
_REAL = re.compile(
    r"(\[[^\]]*\]|[^\s:\[\]>]+?)(?:->(\[[^\]]*\]|[^\s:\[\]]+))?(?::([A-Za-z0-9_-]+))?\s+(\w+)(.*)"
)
_OF_REAL = re.compile(r'(?:\s+(\d+))?(?:\s+"([^"]*)"[, ]\s*"([^"]*)")?(?:\s+l:(\d+))?(?:\s+u:(\d+))?\s*')


@dataclass(slots=True)
class _Section:
    """One virtual or virtual6 with its lines. `settings` have their line numbers."""

    line: int
    text: str
    family: int
    settings: dict[str, tuple[int, str]] = field(default_factory=dict)
    checks: dict[str, str] = field(default_factory=dict)
    reals: list[tuple[int, str]] = field(default_factory=list)
    fallback: tuple[int, str] | None = None
    quiescent: tuple[bool, int] | None = None


@dataclass(frozen=True, slots=True)
class _Real:
    """What a real or fallback line says. Its port is None where it is left out."""

    addresses: tuple[str, ...]
    port: int | None
    forwarding: Forwarding
    weight: int = 1
    lower: int = 0
    upper: int = 0
    request: str | None = None
    receive: str | None = None


def parse(text: str) -> Parsed:
    """The table and the checks of this text. Never raises: what cannot be read is left out and has a note."""
    reader = _Reader()
    for at, line in enumerate(text.split("\n"), start=1):
        try:
            reader.take(at, line.removesuffix("\r"))
        except Unreadable as why:
            reader.draft.refuse(at, why)
    return reader.finished()


class _Reader:
    """Takes lines one after the other; services are made at the end, when all defaults are known."""

    def __init__(self) -> None:
        self.draft = Draft()
        self._sections: list[_Section] = []
        self._open: _Section | None = None
        self._checks: dict[str, str] = {}
        self._fallbacks: dict[int, tuple[int, str]] = {}
        self._quiescent: tuple[bool, int] | None = None
        self._backends_left = MOST_BACKENDS

    def take(self, at: int, line: str) -> None:
        """One line; Unreadable where ldirectord would stop at it."""
        if len(line) > LONGEST_LINE:
            raise Unreadable("The line is too long.", "Check that the file has line ends.")
        if _COMMENT.match(line):
            return
        if self._open is not None and (found := _INDENTED.fullmatch(_untabbed(line))):
            self._in_section(self._open, at, found[1].strip())
            self.draft.mapped.add(("", at))
            return
        self._open = None
        if not line.strip():
            return
        if line[0] in " \t":
            remedy = "Put it under its “virtual”, without an empty line between."
            raise Unreadable("The line is indented and belongs to no virtual.", remedy)
        if found := _VIRTUAL.fullmatch(line.rstrip()):
            self._open = _Section(at, found[2], 6 if found[1] else 4)
            self._sections.append(self._open)
        else:
            self._global(at, line.rstrip())
            self.draft.mapped.add(("", at))

    def finished(self) -> Parsed:
        for section in self._sections:
            try:
                self._add(section)
                self.draft.mapped.add(("", section.line))
            except Unreadable as why:
                self.draft.refuse(section.line, why)
        return self.draft.finished()

    def _global(self, at: int, line: str) -> None:
        name, value = _named(line)
        if name in ("fallback", "fallback6"):
            self._fallbacks[6 if name[-1] == "6" else 4] = at, value
        elif name == "quiescent":
            self._quiescent = _yes(name, value), at
        elif name in OF_CHECKS and name != "checktype":
            take_check_setting(self._checks, name, value, is_global=True)
        else:
            _about_the_daemon(name, value, allowed=_ABOUT_THE_DAEMON - _IN_A_SECTION_ALONE)

    def _in_section(self, section: _Section, at: int, line: str) -> None:
        name, value = _named(line)
        base = name.removesuffix("6")
        if base in ("real", "fallback"):
            if (name != base) != (section.family == 6):
                other = base if name != base else f"{base}6"
                raise Unreadable(f"{name} is of the other family than its virtual.", f"Write {other}.")
            if base == "real":
                section.reals.append((at, value))
            else:
                section.fallback = at, value
        elif name == "quiescent":
            section.quiescent = _yes(name, value), at
        elif name in _OF_SERVICES:
            section.settings[name] = at, value
        elif name in OF_CHECKS:
            take_check_setting(section.checks, name, value)
        else:
            _about_the_daemon(name, value, allowed=_ABOUT_THE_DAEMON - _GLOBAL_ALONE)

    def _add(self, section: _Section) -> None:
        key = self._key(section)
        if key in self.draft.services:
            raise Unreadable(f"{key} is there already.", "Take one of them out.")
        is_marked = key.protocol is Protocol.FIREWALL_MARK
        if not key.port and not is_marked and "persistent" not in section.settings:
            text = "ipvsadm refuses port 0 for a service that is not persistent."
            raise Unreadable(text, "Add “persistent = 360”.")
        self.draft.services[key] = self._service(key, section)
        there = self.draft.backends[key] = {}
        if section.checks.get("checktype") == "off":
            text = "checktype=off keeps the real servers out of the kernel's table; they were left out."
            self.draft.note(section.line, Level.LOST, text, "Write checktype=on to have them.")
            return
        for at, text in section.reals:
            try:
                real = _real(text, section.family)
                checks = checks_of(key, self._checks, section.checks, real.request, real.receive, at)
                for backend in self._backends(at, key, real):
                    if backend.key in there:
                        raise Unreadable(f"{backend.key} is there already.", "Take one of them out.")
                    there[backend.key] = backend
                    if checks:
                        self.draft.checks[key, backend.key] = checks
                    if quiescent := section.quiescent or self._quiescent:
                        self.draft.quiescent[key, backend.key] = quiescent
            except Unreadable as why:
                self.draft.refuse(at, why)
        if (fallback := section.fallback or self._fallbacks.get(key.family)) is not None:
            self._add_fallback(key, *fallback)

    def _add_fallback(self, key: ServiceKey, at: int, text: str) -> None:
        if any(note.line == at and note.level is Level.ERROR for note in self.draft.notes):
            return
        words = text.split()
        try:
            real = _real(f"{text} gate" if len(words) == 1 else text, key.family)
            (backend,) = self._backends(at, key, real)
            if real.port is None and real.forwarding is Forwarding.MASQUERADE:
                backend = Backend(backend.address, key.port, backend.forwarding, 1)
            self.draft.sorry[key] = backend
            self.draft.sorry_lines[key] = at
        except Unreadable as why:
            self.draft.refuse(at, why)

    def _key(self, section: _Section) -> ServiceKey:
        if section.text.isdecimal():
            mark = number(section.text, "The firewall mark", least=1, most=LARGEST_U32)
            _protocol(section, "fwm", ("fwm",))
            zero = "::" if section.family == 6 else "0.0.0.0"
            return ServiceKey(Protocol.FIREWALL_MARK, zero, 0, mark)
        found = _PLACE.fullmatch(section.text)
        if found is None or found[2] is None:
            raise Unreadable(
                f"{shown(section.text)} is no virtual service.", "Write 192.0.2.1:80, [2001:db8::1]:80 or 7."
            )
        at_port = port(found[2])
        word = _protocol(section, "udp" if at_port == 53 else "tcp", ("tcp", "udp"))
        protocol = Protocol.UDP if word == "udp" else Protocol.TCP
        return ServiceKey(protocol, _address(found[1], section.family), at_port)

    def _service(self, key: ServiceKey, section: _Section) -> Service:
        said = section.settings
        scheduler = said.get("scheduler", (0, DEFAULT_SCHEDULER))[1]
        if not re.fullmatch(r"[a-z]{1,15}", scheduler):
            why = Unreadable(f"The scheduler is {shown(scheduler)}.", "It has 1 to 15 small letters.")
            self.draft.refuse(said["scheduler"][0], why)
            scheduler = DEFAULT_SCHEDULER
        flags = ServiceFlags.NONE
        try:
            if "schedflags" in said:
                flags = scheduler_flags(scheduler, said["schedflags"][1])
        except Unreadable as why:
            self.draft.refuse(said["schedflags"][0], why)
        if "ops" in said:
            flags |= self._one_packet(key, *said["ops"])
        return Service(key, scheduler, flags, self._persistence(key, said))

    def _one_packet(self, key: ServiceKey, at: int, value: str) -> ServiceFlags:
        if value not in ("yes", "no"):
            self.draft.refuse(at, Unreadable(f"ops is {shown(value)}.", "Write yes or no."))
        elif value == "yes" and key.protocol is Protocol.UDP:
            return ServiceFlags.ONE_PACKET
        elif value == "yes":
            text = "ldirectord has one packet scheduling for UDP alone, so there is none."
            self.draft.note(at, Level.MAPPED, text, "Take it out.")
        return ServiceFlags.NONE

    def _persistence(self, key: ServiceKey, said: dict[str, tuple[int, str]]) -> Persistence | None:
        if "persistent" not in said:
            if "netmask" in said:
                text = "netmask does nothing without persistent and was left out."
                self.draft.note(said["netmask"][0], Level.LOST, text, "Add persistent, or take it out.")
            return None
        at, text = said["persistent"]
        try:
            timeout = number(text, "The persistence", least=1, most=LARGEST_U32)
            at, mask = said.get("netmask", (at, None))
            return Persistence(timeout, netmask(key.family, mask))
        except Unreadable as why:
            self.draft.refuse(at, why)
            return None

    def _backends(self, at: int, key: ServiceKey, real: _Real) -> Iterator[Backend]:
        at_port = real.port or 0
        if real.forwarding is not Forwarding.MASQUERADE:
            if at_port not in (0, key.port):
                text = f"Port {at_port} is not its service's; it becomes {key.port}. Only masq can change it."
                self.draft.note(at, Level.MAPPED, text, f"Write port {key.port}.")
            at_port = key.port
        self._backends_left -= len(real.addresses)
        if self._backends_left < 0:
            raise Unreadable(f"There are more than {MOST_BACKENDS} real servers.", "Use shorter ranges.")
        tunnel = Tunnel() if real.forwarding is Forwarding.TUNNEL else None
        for one in real.addresses:
            yield Backend(one, at_port, real.forwarding, real.weight, real.upper, real.lower, tunnel)


def _untabbed(line: str) -> str:
    """The line without its comment, which begins at any #, quoted or not; a tab is four blanks."""
    return line.partition("#")[0].replace("\t", "    ").rstrip()


def _named(line: str) -> tuple[str, str]:
    found = _DIRECTIVE.fullmatch(line)
    if found is None:
        raise Unreadable(f"{shown(line)} is no directive.", "Write it as name=value.")
    return found[1], found[2]


def _yes(name: str, value: str) -> bool:
    if value not in ("yes", "no"):
        raise Unreadable(f"{name} is {shown(value)}.", "Write yes or no.")
    return value == "yes"


def _about_the_daemon(name: str, value: str, *, allowed: set[str]) -> None:
    if name not in allowed and name != "fork":
        raise Unreadable(f"ldirectord has no {shown(name)} here.", "Correct it, or take it out.")
    raise Unreadable(
        f"{name} is about what ldirectord itself does.",
        "Nothing takes its place here; keep it in mind.",
        Level.LOST,
    )


def _protocol(section: _Section, default: str, known: tuple[str, ...]) -> str:
    word = section.settings.get("protocol", (0, default))[1]
    if word not in known:
        raise Unreadable(f"The protocol is {shown(word)}.", f"Write {' or '.join(known)}.")
    return word


def _address(text: str, family: int) -> str:
    found = address(text.strip("[]"))
    if (":" in found) != (family == 6):
        wanted = "virtual6, real6 and fallback6" if family == 4 else "virtual, real and fallback"
        raise Unreadable(f"{found} is of the other family.", f"IPv{10 - family} stands in {wanted}.")
    return found


def _real(text: str, family: int) -> _Real:
    found = _REAL.fullmatch(text)
    if found is None:
        raise Unreadable(f"{shown(text)} is no real server.", "Write 10.0.0.1:80 gate, masq or ipip.")
    first, last, at_port, word, rest = found.groups()
    if word not in FORWARDINGS:
        raise Unreadable(f"{shown(word)} is no forwarding method.", "Write gate, masq or ipip.")
    more = _OF_REAL.fullmatch(rest)
    if more is None:
        remedy = 'After the method stand a weight, "request", "receive", l:1 and u:2, in this order.'
        raise Unreadable(f"{shown(rest.strip())} is not understood.", remedy)
    weight, request, receive, lower, upper = more.groups()
    return _Real(
        tuple(_range(_address(first, family), _address(last, family) if last else None)),
        port(at_port) if at_port is not None else None,
        FORWARDINGS[word],
        number(weight, "The weight", most=LARGEST_INT) if weight else 1,
        number(lower, "The lower threshold", most=LARGEST_U32) if lower else 0,
        number(upper, "The upper threshold", most=LARGEST_U32) if upper else 0,
        request,
        receive,
    )


def _range(first: str, last: str | None) -> Iterator[str]:
    if last is None:
        yield first
        return
    if ":" in first:
        raise Unreadable("ldirectord has no ranges of IPv6 addresses.", "Write one line for each.")
    begin, end = IPv4Address(first), IPv4Address(last)
    many = int(end) - int(begin) + 1
    if not 1 <= many <= LONGEST_RANGE:
        text = f"The range {first}->{last} ends before it begins, or has more than {LONGEST_RANGE} addresses."
        raise Unreadable(text, "Correct its ends.")
    for at in range(many):
        yield str(begin + at)
