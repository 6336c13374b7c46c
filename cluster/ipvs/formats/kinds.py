"""The one door to all formats: parse a text, render a table, guess which format a text is.

It is not in the package's __init__, so that a director that wants a fingerprint loads no YAML.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from cluster.ipvs.formats import (
    ipvsadm,
    json_document,
    keepalived_reader,
    keepalived_writer,
    ldirectord_reader,
    ldirectord_writer,
    yaml_document,
)
from cluster.ipvs.formats.fidelity import Parsed, Rendered
from cluster.ipvs.formats.keepalived_lines import Include
from cluster.ipvs.state import Table


@dataclass(frozen=True, slots=True)
class Format:
    """One way to write a table. `first` matches the first line of a text that says which format it is."""

    title: str
    parse: Callable[[str], Parsed]
    render: Callable[[Table], Rendered]
    first: re.Pattern[str]


FORMATS = {
    "ipvsadm": Format(
        "ipvsadm-save",
        ipvsadm.parse,
        lambda table: Rendered(ipvsadm.render(table)),
        re.compile(
            r"\s*(?:sudo\s+)?(?:\S*ipvsadm\s+)?(?:-[AEDCaed]|"
            r"--(?:(?:add|edit|delete)-(?:service|server)|clear|set|(?:start|stop)-daemon))\b"
        ),
    ),
    "keepalived": Format(
        "keepalived.conf",
        keepalived_reader.parse,
        keepalived_writer.render,
        re.compile(
            r"\s*(?:(?:virtual_server(?:_group)?|vrrp_\w+|global_defs|static_\w+|bfd_instance|SSL|include[rmwba]?"
            r"|track_\w+)\b|@\^?\w|\$\w+\s*=|~(?:SEQ|LST))"
        ),
    ),
    "ldirectord": Format(
        "ldirectord.cf",
        ldirectord_reader.parse,
        ldirectord_writer.render,
        re.compile(r"[a-z]+6?\s*="),
    ),
    "json": Format("JSON of this panel", json_document.parse, json_document.render, re.compile(r"\s*[\[{]")),
    "yaml": Format(
        "YAML of this panel",
        yaml_document.parse,
        yaml_document.render,
        re.compile(r"---|%YAML|(?:version|services)\s*:"),
    ),
}

# A text that says nothing for so long is none of them.
_MOST_LINES = 1000
_SAYS_NOTHING = re.compile(r"\s*(?:[#!].*)?")


def parse(text: str, *, kind: str, include: Include | None = None) -> Parsed:
    """Read a text of this kind, a name of FORMATS. Never raises for any text. `include` opens what a
    keepalived.conf includes; no other kind has includes."""
    if kind == "keepalived":
        return keepalived_reader.parse(text, include=include)
    return FORMATS[kind].parse(text)


def render(table: Table, *, kind: str) -> Rendered:
    """Write the table as this kind, a name of FORMATS."""
    return FORMATS[kind].render(table)


def guess(text: str) -> str | None:
    """The kind that the first telling line speaks of; None where no line tells it."""
    begin = 0
    for _ in range(_MOST_LINES):
        end = text.find("\n", begin)
        line = text[begin : end if end >= 0 else None][:200]
        if not _SAYS_NOTHING.fullmatch(line):
            found = next((kind for kind, one in FORMATS.items() if one.first.match(line)), None)
            if found is not None:
                return found
        if end < 0:
            return None
        begin = end + 1
    return None
