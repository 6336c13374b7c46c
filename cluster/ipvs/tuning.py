"""The kernel's switches for IPVS, net.ipv4.vs.*: what each is for, its default and its bounds.

Which there are is the running kernel's to say. What is not known here is shown as it is; what is known
is checked here, because the kernel takes 9 and -1 for a switch that is on or off.
Documentation/networking/ipvs-sysctl.rst; defaults and refusals measured on 6.1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

LARGEST_INT = 2_147_483_647
LONGEST_VALUE = 100
# Those that decide where a client goes whose backend is drained, removed or dead.
OF_DRAINS = ("expire_nodest_conn", "expire_quiescent_template", "conn_reuse_mode")


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of one switch. `default` is empty where the kernel works it out by its memory.

    The value is `numbers` whole numbers from `least` to `most`."""

    meaning: str
    default: str
    least: int = 0
    most: int = 1
    numbers: int = 1


@dataclass(frozen=True, slots=True)
class Sysctl:
    """One switch as the running kernel has it. `value` is None where it could not be read."""

    name: str
    value: str | None

    @property
    def known(self) -> Known | None:
        return KNOWN.get(self.name)

    @property
    def is_default(self) -> bool:
        """Whether it has the kernel's default. True as well where that is not known."""
        known = self.known
        return known is None or not known.default or self.value is None or self.value == known.default


@dataclass(frozen=True, slots=True)
class Switching:
    """One switch to be set: to what, and what it is now; None where the kernel has none of this name, or it
    cannot be read."""

    name: str
    value: str
    before: str | None

    @property
    def command(self) -> str:
        """What an operator would type."""
        return f"sysctl -w net.ipv4.vs.{self.name}={_quoted(self.value)}"

    def __str__(self) -> str:
        was = "not known there" if self.before is None else self.before
        return f"Set net.ipv4.vs.{self.name} to {self.value}; it is {was}."


KNOWN = {
    "am_droprate": Known("How often drop_packet 3 drops: every n-th packet.", "10", 1, LARGEST_INT),
    "amemthresh": Known(
        "Free memory, in pages, below which drop_entry, drop_packet and secure_tcp set to 1 begin.",
        "1024",
        0,
        LARGEST_INT,
    ),
    "backup_only": Known(
        "1: while a backup daemon runs alone, forward nothing. For directors that are each other's backends,"
        " against loops.",
        "0",
    ),
    "cache_bypass": Known(
        "1: send to the original destination where no backend is up. For transparent caches.", "0"
    ),
    "conn_reuse_mode": Known(
        "When a client uses a port again: 1 chooses a backend anew where the old connection is over; 2 where"
        " it is closing as well, for direct routing; 0 keeps the old backend, even at weight 0.",
        "1",
        0,
        3,
    ),
    "conntrack": Known(
        "1: netfilter tracks balanced connections too, for SNAT and states. Costs speed.", "0"
    ),
    "debug_level": Known("How much the kernel writes to its log; 0 is errors alone.", "0", 0, 12),
    "drop_entry": Known(
        "Against floods: drop half-open connections. 0 never, 1 and 2 by memory, 3 always.", "0", 0, 3
    ),
    "drop_packet": Known(
        "Against floods: drop new connections' packets. 0 never, 1 and 2 by memory, 3 always.", "0", 0, 3
    ),
    "est_nice": Known("How polite the threads are that work out rates: -20 to 19.", "0", -20, 19),
    "expire_nodest_conn": Known(
        "1: reset a connection whose backend was removed, and choose anew where a client connects again from"
        " a port whose old backend has weight 0; 0: drop the packets of the one until it times out or the"
        " backend is back, and send the other where it was.",
        "0",
    ),
    "expire_quiescent_template": Known(
        "1: weight 0 sends persistent clients elsewhere at their next connection; 0: they stay.", "0"
    ),
    "ignore_tunneled": Known("1: route packets of protocols that IPVS does not balance, such as IPIP.", "0"),
    "lblc_expiration": Known(
        "Seconds after which the scheduler lblc forgets an unused destination.", "86400", 0, 2_147_483
    ),
    "lblcr_expiration": Known(
        "Seconds after which the scheduler lblcr forgets an unused destination.", "86400", 0, 2_147_483
    ),
    "nat_icmp_send": Known(
        "1: tell a masqueraded backend by ICMP when a packet belongs to no connection.", "0"
    ),
    "pmtu_disc": Known("1: ask senders for smaller packets where a tunnel leaves less room.", "1"),
    "run_estimation": Known("1: work out rates and counters; 0: they stand still.", "1"),
    "schedule_icmp": Known("1: ICMP errors open connections too. For directors behind directors.", "0"),
    "secure_tcp": Known(
        "Against floods: shorter timeouts for half-open TCP. 0 never, 1 and 2 by memory, 3 always.", "0", 0, 3
    ),
    "sloppy_sctp": Known("1: take SCTP connections up in the middle.", "0"),
    "sloppy_tcp": Known(
        "1: take TCP connections up in the middle. For failover without a sync daemon, by sh or mh.", "0"
    ),
    "snat_reroute": Known("1: look the route up again for answers of masqueraded backends.", "1"),
    "sync_persist_mode": Known("1: send persistence alone, no connections, to the backup.", "0"),
    "sync_ports": Known("How many threads and ports each sync daemon uses: a power of two.", "1", 1, 64),
    "sync_qlen_max": Known("How many sync messages may wait to be sent.", "", 1, LARGEST_INT),
    "sync_refresh_period": Known(
        "Seconds after which an unchanged connection is sent again; 0: by sync_threshold.", "0", 0, 2_147_483
    ),
    "sync_retries": Known("How often a refresh is sent again.", "0", 0, 3),
    "sync_sock_size": Known("Bytes of the sync socket's buffer; 0 is the system's.", "0", 0, LARGEST_INT),
    "sync_threshold": Known(
        "Two numbers: after how many packets a connection is sent first, and then every how many.",
        "3 50",
        0,
        LARGEST_INT,
        2,
    ),
    "sync_version": Known("The sync protocol: 1, or 0 for kernels before 2.6.39.", "1"),
}


def to_document(sysctls: Iterable[Sysctl]) -> dict[str, str | None]:
    """Plain values for a message."""
    return {one.name: one.value for one in sysctls}


def from_document(said: object) -> list[Sysctl]:
    """Read what `to_document` wrote, leaving out what has another shape."""
    found = said if isinstance(said, dict) else {}
    return [
        Sysctl(str(name)[:64], value if value is None else value[:LONGEST_VALUE])
        for name, value in found.items()
        if value is None or isinstance(value, str)
    ]


def canonical_value(text: str) -> str:
    """One space between numbers, where the kernel writes a tab."""
    return " ".join(text.split())


def value_problem(name: str, value: str) -> str:
    """Why this value must not be written, as a sentence; empty where nothing speaks against it."""
    known = KNOWN.get(name)
    if known is None:
        return f"What {name} takes is not known here. Set it with sysctl on the director itself."
    words = value.split()
    if len(words) != known.numbers or not all(_is_within(word, known) for word in words):
        some = "a whole number" if known.numbers == 1 else f"{known.numbers} whole numbers"
        return f"{name} must be {some} from {known.least} to {known.most}."
    if name == "sync_ports" and int(value).bit_count() != 1:
        return "sync_ports must be a power of two, such as 1, 2 or 4."
    if name == "sync_threshold" and int(words[0]) >= int(words[1]) > 0:
        return "The first number of sync_threshold must be below the second, unless that is 0."
    return ""


def switches_to_set(actual: Mapping[str, str | None], wanted: Mapping[str, str]) -> list[Switching]:
    """What has to be set so that a kernel with these values has the wanted ones; what is not named stays."""
    return [
        Switching(name, canonical_value(value), actual.get(name))
        for name, value in sorted(wanted.items())
        if actual.get(name) != canonical_value(value)
    ]


def switch_problems(wanted: Mapping[str, str]) -> dict[str, str]:
    """By name, why a switch must not be set so, as a sentence."""
    found = {name: value_problem(name, value) for name, value in wanted.items()}
    return {name: text for name, text in found.items() if text}


def are_rates_frozen(sysctls: Iterable[Sysctl]) -> bool:
    """Whether the kernel was told not to count: then its numbers stand still, and zero means nothing."""
    return any(one.name == "run_estimation" and one.value == "0" for one in sysctls)


def _quoted(value: str) -> str:
    """As one word of a shell: two numbers need quotes."""
    return f'"{value}"' if " " in value else value


def _is_within(word: str, known: Known) -> bool:
    digits = word.removeprefix("-")
    # int() alone would take "1_0" and digits of other scripts.
    if not (digits.isascii() and digits.isdecimal() and len(digits) <= 10):
        return False
    return known.least <= int(word) <= known.most
