"""What stands in a virtual_server block beside its servers, and the method and numbers of a real_server."""

from __future__ import annotations

from dataclasses import dataclass, field

from cluster.ipvs.formats.fidelity import Level
from cluster.ipvs.formats.keepalived_blocks import Block
from cluster.ipvs.formats.keepalived_checks import INHERITED, setting, yes
from cluster.ipvs.formats.reading import Unreadable, kernel_name, netmask, number, shown
from cluster.ipvs.formats.writing import tunnel_has_words
from cluster.ipvs.rules import SCHEDULERS
from cluster.ipvs.state import Forwarding, Protocol, ServiceFlags, Tunnel, TunnelKind

DEFAULT_TIMEOUT_S = 360
LONGEST_TIMEOUT_S = 31 * 86400
METHODS = {"NAT": Forwarding.MASQUERADE, "DR": Forwarding.DIRECT, "TUN": Forwarding.TUNNEL}
CHECKSUMS = {"nocsum": 0, "csum": 1, "remcsum": 2}
PROTOCOLS = {"TCP": Protocol.TCP, "UDP": Protocol.UDP, "SCTP": Protocol.SCTP}
FLAGS = {
    "flag-1": ServiceFlags.SCHEDULER_1,
    "flag-2": ServiceFlags.SCHEDULER_2,
    "flag-3": ServiceFlags.SCHEDULER_3,
    "ops": ServiceFlags.ONE_PACKET,
}
_FLAGS_OF = {
    f"{scheduler}-{name}": (scheduler, flag)
    for scheduler in ("sh", "mh")
    for name, flag in (("fallback", ServiceFlags.SCHEDULER_1), ("port", ServiceFlags.SCHEDULER_2))
}
# What a keyword says beyond any table, and the value that says nothing.
_BEYOND_TABLES = {
    "quorum": "1",
    "hysteresis": "0",
    "quorum_up": None,
    "quorum_down": None,
    "notify_up": None,
    "notify_down": None,
    "ha_suspend": None,
    "omega": None,
    "snmp_name": None,
    "smtp_alert": "no",
}

Method = tuple[Forwarding, Tunnel | None]


@dataclass(slots=True)
class Settings:
    """A virtual server's own settings so far. None where the text has not said it."""

    scheduler: str | None = None
    flags: ServiceFlags = ServiceFlags.NONE
    method: Method | None = None
    timeout_s: int | None = None
    netmask: int | None = None
    engine: str = ""
    protocol: Protocol | None = None
    family: int | None = None
    weight: int = 1
    sorry_method: Method | None = None
    quiescent: tuple[bool, int] | None = None
    inherited: dict[str, str] = field(default_factory=dict)

    def take(self, block: Block) -> None:
        """Take one keyword; Unreadable where keepalived would ignore it or a table cannot hold it."""
        if block.inside is not None:
            raise Unreadable(f"{shown(block.name)} takes no block.", "Take the braces out.")
        match block.name:
            case "lb_algo" | "lvs_sched":
                self.scheduler = _scheduler(block.word())
            case "lb_kind" | "lvs_method":
                self.method = method_of(block)
            case "sorry_server_lvs_method":
                self.sorry_method = method_of(block)
            case "persistence_timeout":
                self.timeout_s = DEFAULT_TIMEOUT_S
                if len(block.words) > 1:
                    self.timeout_s = number(block.word(), "The persistence", least=1, most=LONGEST_TIMEOUT_S)
            case "persistence_granularity":
                self._take_granularity(block.word())
            case "persistence_engine":
                self.engine = kernel_name(block.word(), "The persistence engine")
            case "protocol":
                self.protocol = _protocol(block.word())
            case "ip_family":
                self._take_family({"inet": 4, "inet6": 6}.get(block.word()), block.word())
            case "weight":
                self.weight = number(block.word(), "The weight", least=1)
            case "inhibit_on_failure":
                self.quiescent = True, block.line
                if len(block.words) > 1:
                    text = "keepalived looks at no word after inhibit_on_failure here, so it is on."
                    raise Unreadable(text, "Take the word out.", Level.MAPPED)
            case "hashed":
                pass  # The kernel sets this flag by itself.
            case _ if block.name in INHERITED:
                self.inherited[block.name] = setting(block)
            case _:
                self._take_flag(block)

    def _take_flag(self, block: Block) -> None:
        if block.name in FLAGS:
            self.flags |= FLAGS[block.name]
        elif block.name in _FLAGS_OF:
            scheduler, flag = _FLAGS_OF[block.name]
            if self.scheduler != scheduler:
                remedy = f"Put “lvs_sched {scheduler}” before it, or take it out."
                raise Unreadable(f"{block.name} is for the scheduler {scheduler} alone.", remedy)
            self.flags |= flag
        else:
            beyond_tables(block)

    def _take_granularity(self, text: str) -> None:
        family = self.family or (4 if "." in text else 6)
        self.netmask = netmask(family, text)
        self._take_family(family, text)
        self.timeout_s = self.timeout_s or DEFAULT_TIMEOUT_S

    def _take_family(self, family: int | None, text: str) -> None:
        if family is None:
            raise Unreadable(f"{shown(text)} is no family.", "Write inet or inet6.")
        if self.family not in (None, family):
            raise Unreadable(f"{shown(text)} is of the other family than the address.", "Leave it out.")
        self.family = family


def beyond_tables(block: Block) -> None:
    """Accept a keyword whose value says nothing; Unreadable as `lost` for others that keepalived knows, and
    as an error for those that it does not know."""
    if block.name not in _BEYOND_TABLES:
        raise Unreadable(f"keepalived has no {shown(block.name)} here.", "Correct it, or take it out.")
    nothing = _BEYOND_TABLES[block.name]
    if nothing == "no" and not yes(block):
        return
    if nothing is not None and block.value == nothing:
        return
    raise Unreadable(
        f"{block.name} is about what keepalived does when a check's answer changes.",
        "Nothing takes its place here; keep it in mind.",
        Level.LOST,
    )


def method_of(block: Block) -> Method:
    """`NAT`, `DR`, or `TUN` with its type, port and checksum."""
    forwarding = METHODS.get(block.word())
    if forwarding is None:
        raise Unreadable(f"{shown(block.word())} is no method.", "Write NAT, DR or TUN.")
    kind, at_port, flags = TunnelKind.IPIP, 0, 0
    words = iter(block.words[2:])
    for word in words:
        if word == "type":
            kind = _tunnel_kind(next(words, ""))
        elif word == "port":
            at_port = number(next(words, ""), "The tunnel's port", least=1, most=65535)
        elif word in CHECKSUMS:
            flags = CHECKSUMS[word]
        else:
            raise Unreadable(f"{shown(word)} is no option of a tunnel.", "Correct it, or take it out.")
    if (kind is TunnelKind.GUE) != bool(at_port):
        raise Unreadable("A gue tunnel needs a port, the others have none.", "Add it, or take it out.")
    if not tunnel_has_words(Tunnel(kind, at_port, flags)):
        raise Unreadable(f"A tunnel of type {kind.word} has no such checksum.", "Take it out.")
    return forwarding, Tunnel(kind, at_port, flags) if forwarding is Forwarding.TUNNEL else None


def _tunnel_kind(word: str) -> TunnelKind:
    if word not in ("ipip", "gue", "gre"):
        raise Unreadable(f"{shown(word)} is no type of tunnel.", "Write ipip, gue or gre.")
    return TunnelKind.from_word(word)


def _scheduler(word: str) -> str:
    if word not in SCHEDULERS:
        raise Unreadable(f"keepalived knows no scheduler {shown(word)}.", f"It has {', '.join(SCHEDULERS)}.")
    return word


def _protocol(word: str) -> Protocol:
    if word.upper() not in PROTOCOLS:
        raise Unreadable(f"{shown(word)} is no protocol.", "Write TCP, UDP or SCTP.")
    return PROTOCOLS[word.upper()]
