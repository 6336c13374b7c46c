"""Reads the LVS part of keepalived.conf into a table, with the defaults of keepalived 2.2.7.

What keepalived sets right in silence, such as a port that direct routing cannot change, is read as it would
run, with a note; what it would ignore is an error.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from cluster.ipvs.formats.fidelity import HealthCheck, Level, Parsed
from cluster.ipvs.formats.keepalived_blocks import Block, blocks
from cluster.ipvs.formats.keepalived_checks import CHECKERS, INHERITED, checks_of, setting, yes
from cluster.ipvs.formats.keepalived_global import OF_A_DIRECTOR, take_of_director
from cluster.ipvs.formats.keepalived_groups import Groups, Member
from cluster.ipvs.formats.keepalived_lines import Include, Lines
from cluster.ipvs.formats.keepalived_settings import (
    DEFAULT_TIMEOUT_S,
    Method,
    Settings,
    beyond_tables,
    method_of,
)
from cluster.ipvs.formats.reading import LARGEST_U32, Draft, Unreadable, address, number, port, shown
from cluster.ipvs.state import (
    Backend,
    BackendKey,
    Forwarding,
    Persistence,
    Protocol,
    Service,
    ServiceFlags,
    ServiceKey,
)

DEFAULT_SCHEDULER = "wlc"
# A group's members all have all of the real servers.
MOST_BACKENDS = 1_000_000

Take = Callable[[Block], None]

_NOT_LVS = ("vrrp_", "static_", "track_", "bfd_", "garp_", "linkbeat_", "interface_up_", "net_namespace")
_NOT_LVS_EITHER = {
    *("instance", "use_pid_dir", "child_wait_time", "namespace_with_ipsets"),
}


def parse(text: str, *, include: Include | None = None, config_ids: frozenset[str] | None = None) -> Parsed:
    """The table and the checks of this text. Never raises: what cannot be read is left out and has a note.

    `include` answers the name in an include line with names and texts of files; without it such a line is
    `lost`. `config_ids` are the words that a line's @condition may have; None makes such lines `lost`."""
    reader = _Reader()
    lines = Lines(reader.draft, include, config_ids)
    found = blocks(lines.said(text), reader.draft)
    if lines.may_have_conditions:
        found = [block for block in found if not reader.is_conditional(block)]
    for block in found:
        if block.name == "virtual_server_group":
            reader.attempt(block, reader.groups.read)
    for block in found:
        if block.name != "virtual_server_group":
            reader.attempt(block, reader.read)
    return reader.draft.finished()


@dataclass(slots=True)
class _Real:
    """A real_server, or the sorry server, as it is written. Its port is None where it is left out."""

    block: Block
    address: str
    port: int | None
    method: Method
    weight: int
    upper: int = 0
    lower: int = 0
    checks: tuple[HealthCheck, ...] = ()
    quiescent: tuple[bool, int] | None = None

    @property
    def family(self) -> int:
        return 6 if ":" in self.address else 4

    @property
    def is_tunnelled(self) -> bool:
        return self.method[0] is Forwarding.TUNNEL


class _Reader:
    def __init__(self) -> None:
        self.draft = Draft()
        self.groups = Groups(self.draft)
        self._heads: dict[ServiceKey, Block] = {}
        self._backends_left = MOST_BACKENDS

    def attempt(self, block: Block, read: Take) -> None:
        """Read a block; what stands against it becomes a note at its line."""
        try:
            read(block)
            self.draft.mapped.add((block.file, block.line))
        except Unreadable as why:
            self.draft.refuse(block.line, why, block.file)

    def is_conditional(self, block: Block) -> bool:
        """Whether the line has a condition that nobody can judge, which becomes a note; such lines are taken
        out of the blocks inside too."""
        if block.inside and block.name.startswith("virtual_server"):
            self._take_out_conditions(block)
        if not block.name.startswith("@"):
            return False
        condition = block.name[1:]
        whose = f"is not {shown(condition[1:])}" if condition[:1] == "^" else f"is {shown(condition)}"
        text = f"The line is for machines whose config-id {whose}."
        remedy = "Keep the lines of one machine, without the @ words."
        self.draft.note(block.line, Level.LOST, text, remedy, block.file, may_hide=True)
        return True

    def _take_out_conditions(self, block: Block) -> None:
        for child in block.inside or []:
            self._take_out_conditions(child)
        block.inside = block.inside and [one for one in block.inside if not self.is_conditional(one)]

    def read(self, block: Block) -> None:
        """One of the outermost blocks."""
        if block.name == "virtual_server":
            self._read_server(block)
        elif block.name == "global_defs":
            self._read_global(block)
        elif block.name == "SSL":
            raise Unreadable("The keys of SSL_GET are not taken.", "Keep them in mind.", Level.LOST)
        elif block.name in _NOT_LVS_EITHER or block.name.startswith(_NOT_LVS):
            text = f"{block.name} is not about services and backends and was left out."
            raise Unreadable(text, "Keep it in keepalived's own file.", Level.LOST)
        else:
            text = f"keepalived has no block {shown(block.name)}."
            raise Unreadable(text, "Correct it, or check the braces before it.")

    def _read_global(self, block: Block) -> None:
        inside = block.inside or []
        for child in inside:
            if child.name in OF_A_DIRECTOR:
                self.attempt(child, lambda one: take_of_director(one, self.draft))
        if not inside or any(child.name not in OF_A_DIRECTOR for child in inside):
            text = "global_defs is not about services and backends and was left out"
            but = ", but for what it says of IPVS" if any(one.name in OF_A_DIRECTOR for one in inside) else ""
            raise Unreadable(f"{text}{but}.", "Keep it in keepalived's own file.", Level.LOST)

    def _read_server(self, block: Block) -> None:
        settings = Settings()
        members, is_group = self._members(block, settings)
        reals: list[Block] = []
        sorry: Block | None = None
        for child in block.inside or []:
            if child.name == "real_server":
                reals.append(child)
            elif child.name == "sorry_server":
                sorry = child
            elif child.name == "sorry_server_inhibit":
                why = Unreadable("sorry_server_inhibit is about health.", "Keep it in mind.", Level.LOST)
                self.draft.refuse(child.line, why, child.file)
            else:
                self.attempt(child, settings.take)
        servers = _Servers(self, settings, reals, sorry)
        if not servers.reals:
            raise Unreadable("The virtual server has no real servers.", "keepalived ignores it; add one.")
        self._default(block, settings, members, servers, is_group)
        self._add(block, settings, members, servers, is_group)

    def _members(self, block: Block, settings: Settings) -> tuple[list[Member], bool]:
        kind = block.word()
        if kind == "group":
            return self.groups.members(block.word(2)), True
        if kind == "fwmark":
            mark = number(block.word(2), "The firewall mark", least=1, most=LARGEST_U32)
            return [Member("", 0, mark, None)], False
        member = Member(address(kind), port(block.words[2]) if len(block.words) > 2 else 0, 0, None)
        settings.family = 6 if ":" in member.address else 4
        return [member], False

    def _default(
        self,
        block: Block,
        settings: Settings,
        members: list[Member],
        servers: _Servers,
        is_group: bool,
    ) -> None:
        """Fill in, with a note, what keepalived takes where the text does not say it."""
        taken = []
        addressed = any(member.address for member in members)
        if settings.protocol is None and addressed:
            settings.protocol = Protocol.UDP
            taken.append("protocol UDP")
        if settings.scheduler is None:
            settings.scheduler = DEFAULT_SCHEDULER
            taken.append(f"lvs_sched {DEFAULT_SCHEDULER}")
        if servers.has_default_method:
            taken.append("lvs_method NAT")
        if settings.timeout_s is None and any(member.address and not member.port for member in members):
            settings.timeout_s = DEFAULT_TIMEOUT_S
            taken.append(f"persistence_timeout {DEFAULT_TIMEOUT_S}, for it has no port")
        if settings.flags & ServiceFlags.ONE_PACKET and addressed and settings.protocol is not Protocol.UDP:
            settings.flags &= ~ServiceFlags.ONE_PACKET
            taken.append("no ops, which is for UDP alone")
        if settings.netmask is not None and is_group:
            settings.netmask = None
            taken.append("no persistence_granularity, which it does not hand on to a group's members")
        if settings.engine and settings.timeout_s is None:
            taken.append("no persistence_engine, which needs a persistence_timeout")
        if taken:
            text = f"Not all is said as it will be: keepalived takes {', and '.join(taken)}."
            self.draft.note(block.line, Level.MAPPED, text, "Write it down.", block.file)

    def _add(
        self,
        block: Block,
        settings: Settings,
        members: list[Member],
        servers: _Servers,
        is_group: bool,
    ) -> None:
        self._backends_left -= len(members) * len(servers.reals)
        if self._backends_left < 0:
            text = f"The text has more than {MOST_BACKENDS} backends, counted for each address of a group."
            raise Unreadable(text, "Use a firewall mark for so many addresses.")
        by_place: dict[tuple[int, int], list[tuple[BackendKey, Backend, _Real]]] = {}
        for member in members:
            key = _key(member, settings, servers)
            if key in self._heads:
                line = self._heads[key].line
                why = Unreadable(f"{key} is in line {line} already.", "Take one of them out.")
                self.draft.refuse(block.line, why, block.file)
                continue
            self._heads[key] = block
            place = key.family, key.port
            if place not in by_place:
                by_place[place] = list(servers.backends(key, is_group))
            self.draft.services[key] = Service(
                key, settings.scheduler or DEFAULT_SCHEDULER, settings.flags, _persistence(settings, key)
            )
            self.draft.backends[key] = {one: backend for one, backend, _ in by_place[place]}
            for one, _, real in by_place[place]:
                if real.checks:
                    self.draft.checks[key, one] = real.checks
                if quiescent := real.quiescent or settings.quiescent:
                    self.draft.quiescent[key, one] = quiescent
            if (sorry := servers.sorry_backend(key)) is not None:
                self.draft.sorry[key] = sorry
                self.draft.sorry_lines[key] = servers.sorry_line


class _Servers:
    """The real servers of one virtual server, and its sorry server, with what they inherit."""

    def __init__(self, reader: _Reader, settings: Settings, reals: list[Block], sorry: Block | None) -> None:
        self._reader, self._settings = reader, settings
        self._draft = reader.draft
        self.reals: list[_Real] = []
        self._sorry: _Real | None = None
        self.sorry_line = sorry.line if sorry is not None else 0
        self._told: set[int] = set()
        self._method = settings.method or (Forwarding.MASQUERADE, None)
        for block in reals:
            reader.attempt(block, lambda block: self.reals.append(self._read(block)))
        if sorry is not None:
            reader.attempt(sorry, self._read_sorry)

    @property
    def has_default_method(self) -> bool:
        """Whether some server has a method that nobody wrote."""
        own = (any(child.name == "lvs_method" for child in real.block.inside or []) for real in self.reals)
        return self._settings.method is None and not all(own)

    @property
    def family(self) -> int:
        """The family of a firewall mark that does not say it, as keepalived finds it: that of the first
        real server without a tunnel, else that of all of them, else IPv4."""
        everybody = self.reals + ([self._sorry] if self._sorry else [])
        plain = [real.family for real in everybody if not real.is_tunnelled]
        families = {real.family for real in everybody}
        return plain[0] if plain else families.pop() if len(families) == 1 else 4

    def backends(self, key: ServiceKey, is_group: bool) -> Iterator[tuple[BackendKey, Backend, _Real]]:
        """The backends that this service gets; what keepalived would skip becomes a note."""
        there: dict[BackendKey, _Real] = {}
        for real in self.reals:
            block = real.block
            try:
                backend = self._backend(real, key, is_group)
                place = backend.key
                if place in there:
                    line = there[place].block.line
                    raise Unreadable(f"{place} is in line {line} already.", "Take one of them out.")
                there[place] = real
                yield place, backend, real
            except Unreadable as why:
                self._tell(block, why.level, why.text, why.remedy)

    def sorry_backend(self, key: ServiceKey) -> Backend | None:
        return self._backend(self._sorry, key, is_group=False) if self._sorry else None

    def _backend(self, real: _Real, key: ServiceKey, is_group: bool) -> Backend:
        forwarding, tunnel = real.method
        if real.family != key.family and not real.is_tunnelled:
            text = f"{real.address} is not of the family of {key}, and keepalived skips it."
            raise Unreadable(text, "Take it out, or use TUN.")
        at_port = real.port or 0
        if forwarding is not Forwarding.MASQUERADE:
            if at_port not in (0, key.port):
                text = f"Port {at_port} is not its service's; keepalived uses {key.port}, as NAT alone can."
                self._tell(real.block, Level.MAPPED, text, f"Write port {key.port}.")
            at_port = key.port
        elif not at_port and not is_group and real is not self._sorry:
            at_port = key.port
        return Backend(real.address, at_port, forwarding, real.weight, real.upper, real.lower, tunnel)

    def _tell(self, block: Block, level: Level, text: str, remedy: str) -> None:
        # A group may have thousands of members; its servers' lines need one note each.
        if id(block) not in self._told:
            self._told.add(id(block))
            self._draft.note(block.line, level, text, remedy, block.file)

    def _read(self, block: Block) -> _Real:
        real = self._address(block, self._method)
        inherited = dict(self._settings.inherited)
        checkers: list[Block] = []
        for child in block.inside or []:
            if child.name in CHECKERS:
                checkers.append(child)
            elif child.name in INHERITED:
                self._reader.attempt(child, lambda one: inherited.update({one.name: setting(one)}))
            else:
                self._reader.attempt(child, lambda one: self._take(real, one))
        for checker in checkers:
            self._reader.attempt(checker, lambda one: self._check(real, one, inherited))
        return real

    def _check(self, real: _Real, block: Block, inherited: dict[str, str]) -> None:
        real.checks += tuple(checks_of(block, inherited, self._draft))

    def _read_sorry(self, block: Block) -> None:
        self._sorry = self._address(block, self._settings.sorry_method or self._method)
        self._sorry.weight = 1

    def _address(self, block: Block, method: Method) -> _Real:
        at_port = port(block.words[2]) if len(block.words) > 2 else None
        return _Real(block, address(block.word()), at_port, method, self._settings.weight)

    def _take(self, real: _Real, block: Block) -> None:
        if block.inside is not None:
            raise Unreadable(f"keepalived has no block {shown(block.name)} here.", "Take it out.")
        match block.name:
            case "weight":
                real.weight = number(block.word(), "The weight")
            case "lvs_method":
                real.method = method_of(block)
            case "uthreshold":
                real.upper = number(block.word(), "The upper threshold", most=LARGEST_U32)
            case "lthreshold":
                real.lower = number(block.word(), "The lower threshold", most=LARGEST_U32)
            case "inhibit_on_failure":
                real.quiescent = yes(block), block.line
            case _:
                beyond_tables(block)


def _key(member: Member, settings: Settings, servers: _Servers) -> ServiceKey:
    if member.address:
        return ServiceKey(settings.protocol or Protocol.UDP, member.address, member.port)
    family = member.family or settings.family or servers.family
    return ServiceKey(Protocol.FIREWALL_MARK, "::" if family == 6 else "0.0.0.0", 0, member.mark)


def _persistence(settings: Settings, key: ServiceKey) -> Persistence | None:
    if settings.timeout_s is None:
        return None
    alone = 128 if key.family == 6 else LARGEST_U32
    netmask = alone if settings.netmask is None else settings.netmask
    return Persistence(settings.timeout_s, netmask, settings.engine)
