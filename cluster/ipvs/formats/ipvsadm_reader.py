"""Reads `ipvsadm-save` output and lines that people wrote for ipvsadm(8), one after the other on a table.

The lines are carried out as the tool would, on a table of our own: -A adds, -E replaces, -a before its -A
is an error. ipvsadm 1.31's defaults and defects were measured, its manual is wrong about some.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TypeVar

from cluster.ipvs.formats.fidelity import Level, Parsed
from cluster.ipvs.formats.ipvsadm_options import ELSEWHERE, SETTINGS, Line, line_of, words_of
from cluster.ipvs.formats.ipvsadm_settings import is_setting, take_setting
from cluster.ipvs.formats.reading import (
    LARGEST_INT,
    LARGEST_U32,
    Draft,
    Unreadable,
    address,
    kernel_name,
    netmask,
    number,
    port,
    shown,
    split_endpoint,
)
from cluster.ipvs.state import (
    Backend,
    BackendKey,
    Forwarding,
    Persistence,
    Protocol,
    Service,
    ServiceFlags,
    ServiceKey,
    Tunnel,
    TunnelKind,
)

_Word = TypeVar("_Word", Protocol, Forwarding, TunnelKind)

# ipvsadm(8) says 300; ipvsadm 1.31 programs this.
DEFAULT_TIMEOUT_S = 360
DEFAULT_SCHEDULER = "wlc"

_PROTOCOLS = {
    "tcp-service": Protocol.TCP,
    "udp-service": Protocol.UDP,
    "sctp-service": Protocol.SCTP,
}
_FLAGS = {
    "flag-1": ServiceFlags.SCHEDULER_1,
    "flag-2": ServiceFlags.SCHEDULER_2,
    "flag-3": ServiceFlags.SCHEDULER_3,
}
_FLAGS_OF = {
    scheduler: {
        f"{scheduler}-fallback": ServiceFlags.SCHEDULER_1,
        f"{scheduler}-port": ServiceFlags.SCHEDULER_2,
    }
    for scheduler in ("sh", "mh")
}
_KEEP_PORT = (Forwarding.DIRECT, Forwarding.TUNNEL)
_TUNNEL_FLAGS = {"tun-nocsum": 0, "tun-csum": 1, "tun-remcsum": 2}
# A backend as the tool and our writer save it, which most lines of a large table are. Numbers of nine digits
# need no bounds.
_USUAL = re.compile(
    r"-a (-[tu] [0-9A-Fa-f.:\[\]]{1,60}|-f [0-9]{1,9}(?: -6)?)"
    r" -r (?:([0-9.]{7,15})|\[([0-9A-Fa-f.:]{2,45})\]):([0-9]{1,5})"
    r" -([mgi]) -w ([0-9]{1,9})( --tun-type ipip)?(?: -x ([0-9]{1,9}))?(?: -y ([0-9]{1,9}))?"
)
_METHODS = {"m": Forwarding.MASQUERADE, "g": Forwarding.DIRECT, "i": Forwarding.TUNNEL}
_IPIP = Tunnel()


def parse(text: str) -> Parsed:
    """The table that these lines make of an empty one. Never raises: a line that cannot be carried out is
    left out and has a note. `ipvsadm -R` stops at many of those; here all of them are named at once."""
    reader = _Reader()
    for at, line in _lines(text):
        reader.read(at, line)
    return reader.draft.finished()


def _lines(text: str) -> Iterator[tuple[int, str]]:
    """Numbered lines; a backslash at the end joins the next one, as in a script."""
    begun, held = 0, list[str]()
    for at, line in enumerate(text.split("\n"), start=1):
        line = line.removesuffix("\r")
        begun = begun or at
        held.append(line.removesuffix("\\"))
        if line.endswith("\\") and not line.lstrip().startswith("#"):
            continue
        yield begun, " ".join(held)
        begun, held = 0, []
    if held:
        yield begun, " ".join(held)


class _Reader:
    """Carries out lines on a draft and remembers what was lost, so that later lines can say why."""

    def __init__(self) -> None:
        self.draft = Draft()
        self._added: dict[ServiceKey, int] = {}
        self._unread: dict[str, int] = {}
        self._addresses: dict[str, str] = {}
        self._keys: dict[str, ServiceKey] = {}

    def read(self, at: int, text: str) -> None:
        line = None
        try:
            if (usual := _USUAL.fullmatch(text)) and self._add_usual(usual):
                self.draft.mapped.add(("", at))
                return
            words = words_of(text)
            if not words:
                return
            if is_setting(words):
                take_setting(at, words, self.draft)
            else:
                line = line_of(words)
                self._carry_out(at, line)
            self.draft.mapped.add(("", at))
        except Unreadable as why:
            self.draft.refuse(at, why)
            if line and line.command == "add-service":
                self._unread.setdefault(_service_text(line), at)

    def _add_usual(self, usual: re.Match[str]) -> bool:
        """Add a backend of the usual shape in a fifth of the time; False, and nothing done, where there is
        something to say of the line, which is left to the plain way."""
        named, v4, v6, at_port, method, weight, is_ipip, upper, lower = usual.groups()
        key = self._keys.get(named)
        if key is None:
            key = self._keys[named] = self._key(line_of(["-D", *named.split()]))
        there = self.draft.backends.get(key)
        port_number = int(at_port)
        if there is None or port_number > 65535:
            return False
        is_tunnel = method == "i"
        if (method != "m" and port_number != key.port) or (is_ipip and not is_tunnel):
            return False
        place = BackendKey(self._address(v4 or v6), port_number)
        if place in there:
            return False
        there[place] = Backend(
            place.address,
            port_number,
            _METHODS[method],
            int(weight),
            int(upper or 0),
            int(lower or 0),
            _IPIP if is_tunnel else None,
        )
        return True

    def _carry_out(self, at: int, line: Line) -> None:
        if line.command in ELSEWHERE:
            remedy = "Begin the line with it." if line.command in SETTINGS else "Leave it out."
            raise Unreadable(
                f"--{line.command} says nothing about services and backends.", remedy, Level.LOST
            )
        if line.command == "clear":
            for key in list(self.draft.services):
                self.draft.remove(key)
            return
        key = self._key(line)
        if line.command == "add-service":
            self._add(at, key, line)
            return
        if key not in self.draft.services:
            raise self._missing(key, line)
        if line.command == "edit-service":
            self.draft.services[key] = self._service(at, key, line)
        elif line.command == "delete-service":
            self.draft.remove(key)
        else:
            self._change_backend(at, key, line)

    def _add(self, at: int, key: ServiceKey, line: Line) -> None:
        if key in self.draft.services:
            raise Unreadable(f"{key} was added in line {self._added[key]} already.", "Take one of them out.")
        self.draft.services[key] = self._service(at, key, line)
        self.draft.backends[key] = {}
        self._added[key] = at

    def _missing(self, key: ServiceKey, line: Line) -> Unreadable:
        if unread := self._unread.get(_service_text(line)):
            return Unreadable(f"Its service, in line {unread}, was not read.", f"Mend line {unread} first.")
        return Unreadable(f"No line before this adds {key}.", "Put the service's -A line before it.")

    def _change_backend(self, at: int, key: ServiceKey, line: Line) -> None:
        there = self.draft.backends[key]
        backend = self._backend(at, key, line)
        if line.command == "add-server":
            if backend.key in there:
                raise Unreadable(f"{backend.key} is a backend of {key} already.", "Take one of them out.")
            there[backend.key] = backend
        elif backend.key not in there:
            raise Unreadable(f"{backend.key} is no backend of {key}.", "Add it with -a before.")
        elif line.command == "edit-server":
            there[backend.key] = backend
        else:
            del there[backend.key]

    def _address(self, text: str) -> str:
        # The same few addresses stand in most lines, and one of IPv6 costs as much as the rest of its line.
        if text not in self._addresses:
            self._addresses[text] = address(text)
        return self._addresses[text]

    def _key(self, line: Line) -> ServiceKey:
        options = line.options
        if (mark := options.get("fwmark-service")) is not None:
            family = "::" if "ipv6" in options else "0.0.0.0"
            # ipvsadm saves marks above 2147483647 as negative numbers, and takes them so.
            is_negative = mark.startswith("-")
            most = LARGEST_INT + 1 if is_negative else LARGEST_U32
            value = number(mark.removeprefix("-"), "The firewall mark", most=most)
            value = (LARGEST_U32 + 1 - value) & LARGEST_U32 if is_negative else value
            return ServiceKey(Protocol.FIREWALL_MARK, family, 0, value)
        host, at_port = split_endpoint(_service_text(line))
        return ServiceKey(
            _protocol(options), self._address(host), port(at_port) if at_port is not None else 0
        )

    def _service(self, at: int, key: ServiceKey, line: Line) -> Service:
        options = line.options
        scheduler = kernel_name(options.get("scheduler", DEFAULT_SCHEDULER), "The scheduler")
        flags = self._flags(at, scheduler, options.get("sched-flags"))
        if "ops" in options:
            flags |= ServiceFlags.ONE_PACKET
        return Service(key, scheduler, flags, self._persistence(at, key, options))

    def _flags(self, at: int, scheduler: str, text: str | None) -> ServiceFlags:
        if text is None:
            return ServiceFlags.NONE
        if not text and scheduler in _FLAGS_OF:
            self.draft.note(at, Level.MAPPED, "ipvsadm saves flag-3 as an empty -b; it was read as flag-3.")
            return ServiceFlags.SCHEDULER_3
        return scheduler_flags(scheduler, text)

    def _persistence(self, at: int, key: ServiceKey, options: dict[str, str]) -> Persistence | None:
        if "persistent" not in options:
            for name in ("netmask", "pe"):
                if name in options:
                    text = f"--{name} does nothing without -p and was left out."
                    self.draft.note(at, Level.LOST, text, "Add -p, or take it out.")
            return None
        given = options["persistent"]
        timeout = number(given, "The time limit", most=LARGEST_U32) if given else DEFAULT_TIMEOUT_S
        if not given:
            self.draft.note(at, Level.MAPPED, f"-p without a time limit: {timeout} s, as ipvsadm does.")
        engine = options.get("pe", "")
        if engine:
            kernel_name(engine, "The persistence engine")
        return Persistence(timeout, netmask(key.family, options.get("netmask")), engine)

    def _backend(self, at: int, key: ServiceKey, line: Line) -> Backend:
        options = line.options
        host, at_port = split_endpoint(options["real-server"])
        where = self._address(host), port(at_port) if at_port is not None else key.port
        if line.command == "delete-server":
            return Backend(*where)
        forwarding = _forwarding(options)
        if forwarding in _KEEP_PORT and where[1] != key.port:
            text = (
                f"{options['real-server']} has not its service's port; ipvsadm would silently use {key.port}."
            )
            remedy = f"Write port {key.port}, or -m if the port is to change."
            self.draft.note(at, Level.MAPPED, text, remedy)
        return Backend(
            *where,
            forwarding,
            number(options.get("weight", "1"), "The weight"),
            number(options.get("u-threshold", "0"), "The upper threshold", most=LARGEST_U32),
            number(options.get("l-threshold", "0"), "The lower threshold", most=LARGEST_U32),
            _tunnel(options, forwarding),
        )


def scheduler_flags(scheduler: str, text: str) -> ServiceFlags:
    """The flags of this scheduler by their names with commas between, as -b takes them."""
    names = _FLAGS | _FLAGS_OF.get(scheduler, {})
    flags = ServiceFlags.NONE
    for name in text.split(","):
        if name.startswith("number-"):
            flags |= ServiceFlags(number(name[7:], "A flag's number", most=LARGEST_U32))
        elif name in names:
            flags |= names[name]
        else:
            known = ", ".join(names)
            raise Unreadable(f"{shown(name)} is no flag of {scheduler}.", f"It knows {known}.")
    return flags


def _service_text(line: Line) -> str:
    options = line.options
    if "fwmark-service" in options:
        return f"{options['fwmark-service']}{' -6' if 'ipv6' in options else ''}"
    for name in _PROTOCOLS:
        if name in options:
            return options[name]
    return options["protocol"].partition(" ")[2]


def _protocol(options: dict[str, str]) -> Protocol:
    for name, protocol in _PROTOCOLS.items():
        if name in options:
            return protocol
    protocol = _word(Protocol, options["protocol"].partition(" ")[0], "protocol")
    if protocol is Protocol.FIREWALL_MARK:
        raise Unreadable("A firewall mark has no address.", "Write it as -f and the mark.")
    return protocol


def _forwarding(options: dict[str, str]) -> Forwarding:
    if "forwarding" in options:
        return _word(Forwarding, options["forwarding"], "forwarding method")
    if "masquerading" in options:
        return Forwarding.MASQUERADE
    return Forwarding.TUNNEL if "ipip" in options else Forwarding.DIRECT


def _tunnel(options: dict[str, str], forwarding: Forwarding) -> Tunnel | None:
    named = [name for name in options if name.startswith("tun-")]
    if forwarding is not Forwarding.TUNNEL:
        if named:
            raise Unreadable(f"--{named[0]} needs a tunnel.", "Add -i, or take it out.")
        return None
    flags = next((value for name, value in _TUNNEL_FLAGS.items() if name in options), None)
    if flags is None:
        flags = number(options.get("tun-flags", "0"), "The tunnel's flags", most=65535)
    return Tunnel(
        _word(TunnelKind, options.get("tun-type", "ipip"), "kind of tunnel"),
        number(options.get("tun-port", "0"), "The tunnel's port", most=65535),
        flags,
    )


def _word(kind: type[_Word], word: str, name: str) -> _Word:
    try:
        if len(word) <= 20 and word.isascii() and word == word.lower():
            return kind.from_word(word)
    except ValueError:
        pass
    raise Unreadable(f"{shown(word)} is no {name}.", f"Known are {', '.join(one.word for one in kind)}.")
