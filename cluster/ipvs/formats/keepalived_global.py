"""What global_defs of keepalived.conf says of a director's IPVS: lvs_timeouts and lvs_sync_daemon."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from cluster.ipvs.formats.fidelity import Level
from cluster.ipvs.formats.keepalived_blocks import Block
from cluster.ipvs.formats.reading import Draft, Unreadable, address, number, shown
from cluster.ipvs.settings import SyncDaemon, SyncRole, Timeouts

OF_A_DIRECTOR = {"lvs_sync_daemon", "lvs_timeouts"}
_TIMEOUTS = {"tcp": "tcp_s", "tcpfin": "tcp_fin_s", "udp": "udp_s"}
_NUMBERS = {
    "id": ("sync_id", 0, 255),
    "maxlen": ("max_length", 1, 65487),
    "port": ("port", 1, 65535),
    "ttl": ("ttl", 1, 255),
}


def take_of_director(block: Block, draft: Draft) -> None:
    """Take one of the two over into the draft's settings; Unreadable where keepalived would ignore it, and as
    `lost` for a daemon whose role follows a VRRP instance."""
    if block.inside is not None:
        raise Unreadable(f"{block.name} takes no block.", "Take the braces out.")
    if block.name == "lvs_timeouts":
        draft.set_timeouts(_timeouts(block))
        return
    given = _daemon(block)
    if draft.settings and draft.settings.daemons:
        raise Unreadable(
            "lvs_sync_daemon was there before, and keepalived ignores it.", "Take one of them out."
        )
    # Without a VRRP instance keepalived runs both at once, as keepalived.conf(5) says.
    for role in SyncRole:
        draft.start_daemon(SyncDaemon(role, **given))


def _timeouts(block: Block) -> Timeouts:
    given: dict[str, int] = {}
    for name, text in _pairs(block.words[1:]):
        if name not in _TIMEOUTS:
            raise Unreadable(f"{shown(name)} is nothing of lvs_timeouts.", "It has tcp, tcpfin and udp.")
        given[_TIMEOUTS[name]] = number(text, f"The timeout of {name}")
    if not given:
        raise Unreadable("lvs_timeouts has no value.", "Give it tcp, tcpfin or udp and seconds.")
    return Timeouts(**given)


def _daemon(block: Block) -> dict[str, Any]:
    """The fields of a SyncDaemon but for its role."""
    given: dict[str, Any] = {"interface": block.word()}
    words = block.words[2:]
    if words and words[0] not in _NUMBERS and words[0] != "group":
        instance = words[1] if words[0] == "inst" and len(words) > 1 else words[0]
        raise Unreadable(
            f"The sync daemon is master or backup as the VRRP instance {shown(instance)} is.",
            "Start it on the director itself, in the role that it should have.",
            Level.LOST,
        )
    for name, text in _pairs(words):
        if name == "group":
            given["group"] = address(text)
        elif name in _NUMBERS:
            field, least, most = _NUMBERS[name]
            given[field] = number(text, f"The {name}", least=least, most=most)
        else:
            raise Unreadable(f"{shown(name)} is nothing of lvs_sync_daemon.", "Correct it, or take it out.")
    return given


def _pairs(words: list[str]) -> Iterator[tuple[str, str]]:
    waiting = iter(words)
    for name in waiting:
        yield name, next(waiting, "")
