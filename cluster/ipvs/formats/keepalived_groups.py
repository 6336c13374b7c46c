"""The addresses and firewall marks of a virtual_server_group, one after the other."""

from __future__ import annotations

from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

from cluster.ipvs.formats.keepalived_blocks import Block
from cluster.ipvs.formats.reading import LARGEST_U32, Draft, Unreadable, address, number, port, shown

# A range is written in a moment; its services take memory.
MOST_MEMBERS = 65536


@dataclass(frozen=True, slots=True)
class Member:
    """One service of a group: an address with its port, or a mark. A mark's `family` is None where the
    backends tell it."""

    address: str
    port: int
    mark: int
    family: int | None


class Groups:
    """All virtual_server_groups of a text by name, their members limited in all."""

    def __init__(self, draft: Draft) -> None:
        self._draft = draft
        self._members: dict[str, list[Member]] = {}
        self._lines: dict[str, Block] = {}
        self._left = MOST_MEMBERS

    def read(self, block: Block) -> None:
        """Take a virtual_server_group; lines that cannot be read become notes."""
        name = block.word()
        if name in self._lines:
            line = self._lines[name].line
            raise Unreadable(f"The group {shown(name)} is in line {line} already.", "Rename one of them.")
        self._lines[name] = block
        members = self._members[name] = []
        for entry in block.inside or []:
            try:
                members += self._entry(entry)
                self._draft.mapped.add((entry.file, entry.line))
            except Unreadable as why:
                self._draft.refuse(entry.line, why, entry.file)
        if not block.inside:
            raise Unreadable(f"The group {shown(name)} is empty.", "Give it addresses or firewall marks.")

    def members(self, name: str) -> list[Member]:
        """The members of the group; Unreadable where there is no such group."""
        if name not in self._members:
            raise Unreadable(f"There is no virtual_server_group {shown(name)}.", "Write it, or its name.")
        return self._members[name]

    def _entry(self, entry: Block) -> list[Member]:
        if entry.inside is not None:
            raise Unreadable("A group has no blocks inside.", "Take the block out.")
        if entry.name == "fwmark":
            family = {"inet": 4, "inet6": 6}.get(entry.words[2], 0) if len(entry.words) > 2 else None
            if family == 0:
                raise Unreadable(f"{shown(entry.words[2])} is no family.", "Write inet or inet6.")
            mark = number(entry.word(), "The firewall mark", least=1, most=LARGEST_U32)
            return [Member("", 0, mark, family)]
        at_port = port(entry.words[1]) if len(entry.words) > 1 else 0
        first, last = _ends(entry.name)
        many = int(last) - int(first) + 1
        if many < 1:
            raise Unreadable(f"{shown(entry.name)} ends before it begins.", "Exchange the two ends.")
        if many > self._left:
            text = f"{shown(entry.name)} has {many} addresses; {MOST_MEMBERS} are read in all."
            raise Unreadable(text, "Use a firewall mark for so many.")
        self._left -= many
        return [Member(str(first + at), at_port, 0, first.version) for at in range(many)]


def _ends(text: str) -> tuple[IPv4Address | IPv6Address, IPv4Address | IPv6Address]:
    """First and last address of `192.0.2.1`, `192.0.2.1-10`, `192.0.2.1-192.0.3.9` or `192.0.2.0/24`. In
    the short form of IPv6, `2001:db8::1-ff`, the end is hexadecimal."""
    if "/" in text:
        try:
            network = ip_network(text[:50])
        except ValueError:
            raise Unreadable(f"{shown(text)} is no network.", "Clear the bits after the prefix.") from None
        return network[0], network[-1]
    start, dash, end = text.partition("-")
    # A host's name may have dashes too; address() says what is to be said about it.
    first = ip_address(address(start if ":" in start or start.count(".") == 3 else text))
    if not dash:
        return first, first
    if "." in end or ":" in end:
        last = ip_address(address(end))
        if last.version != first.version:
            raise Unreadable(f"The ends of {shown(text)} are of two families.", "Give both of one.")
        return first, last
    base, most = (16, 0xFFFF) if first.version == 6 else (10, 0xFF)
    try:
        found = int(end, base) if end.isalnum() and len(end) <= 4 else most + 1
    except ValueError:
        found = most + 1
    if found > most:
        raise Unreadable(f"{shown(end)} is no end of a range.", f"Write the last number, up to {most:x}.")
    return first, ip_address(int(first) & ~most | found) if first.version == 4 else IPv6Address(
        int(first) & ~most | found
    )
