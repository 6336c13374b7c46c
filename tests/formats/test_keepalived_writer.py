"""Tables written as keepalived.conf: keepalived takes the text, and it means what the table means."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given

from cluster.ipvs.formats.fidelity import Level
from cluster.ipvs.formats.keepalived_reader import parse
from cluster.ipvs.formats.keepalived_writer import render
from cluster.ipvs.state import (
    Backend,
    Forwarding,
    Persistence,
    Protocol,
    Service,
    ServiceFlags,
    ServiceKey,
    Table,
    Tunnel,
    TunnelKind,
)
from tests.formats.keepalived_program import complaints
from tests.ipvs.tables import few, tables

WEB = ServiceKey(Protocol.TCP, "192.0.2.1", 80)
MARK = ServiceKey(Protocol.FIREWALL_MARK, "::", 0, 9)
REAL = Backend("10.0.0.1", 80)


@few
@given(tables)
def test_what_is_written_is_read_back_and_the_rest_is_named(table: Table) -> None:
    written = render(table)
    read = parse(written.text)
    assert read.notes == (), "keepalived's defaults must not be needed"
    for service in read.table:
        whole = table.by_key[service.key]
        assert service.header == whole.header and set(service.backends) <= set(whole.backends)
    missing = len(table.services) - len(read.table.services)
    missing += sum(len(table.by_key[one.key].backends) - len(one.backends) for one in read.table)
    assert len(written.notes) == missing, "one note for each that is left out"
    assert written.is_whole == (read.table == table)


@few
@given(tables)
def test_keepalived_takes_what_is_written(table: Table) -> None:
    with TemporaryDirectory() as folder:
        assert complaints(render(table).text, Path(folder)) == []


SAYABLE = Table(
    (
        Service(
            WEB,
            "sh",
            ServiceFlags.SCHEDULER_1 | ServiceFlags.SCHEDULER_3,
            Persistence(50, 0xFFFFFF00, "sip"),
            (REAL, Backend("10.0.0.2", 8080, weight=0, upper=9, lower=5)),
        ),
        Service(
            MARK,
            "wlc",
            ServiceFlags.ONE_PACKET,
            Persistence(2678400, 64),
            (
                Backend("10.0.0.1", 0, Forwarding.TUNNEL, tunnel=Tunnel(TunnelKind.GUE, 6080, 2)),
                Backend("fd00::1", 0, Forwarding.TUNNEL, tunnel=Tunnel()),
                Backend("fd00::2", 0, Forwarding.TUNNEL, tunnel=Tunnel(TunnelKind.GRE, 0, 1)),
                Backend("fd00::3", 0, Forwarding.DIRECT, 2**31 - 1),
            ),
        ),
        Service(
            ServiceKey(Protocol.SCTP, "2001:db8::1", 0),
            persistence=Persistence(1, 128),
            backends=(Backend("fd00::1", 0), Backend("fd00::1", 3868)),
        ),
    )
)


def test_all_that_keepalived_can_say_comes_back(tmp_path: Path) -> None:
    written = render(SAYABLE)
    assert written.is_whole and parse(written.text).table == SAYABLE
    assert complaints(written.text, tmp_path) == []


def _with(backend: Backend, key: ServiceKey = WEB) -> Service:
    return Service(key, backends=(backend, Backend("10.0.0.9", key.port, Forwarding.MASQUERADE)))


@pytest.mark.parametrize(
    ("service", "says"),
    [
        (Service(ServiceKey(Protocol(50), "192.0.2.1", 80), backends=(REAL,)), "no protocol number-50"),
        (Service(ServiceKey(Protocol.FIREWALL_MARK, "::", 0, 0), backends=(REAL,)), "no firewall mark 0"),
        (Service(ServiceKey(Protocol.TCP, "192.0.2.1", 0), backends=(REAL,)), "persistent"),
        (Service(WEB, "none", backends=(REAL,)), "no scheduler none"),
        (Service(WEB, flags=ServiceFlags(0x40), backends=(REAL,)), "flags"),
        (Service(WEB, flags=ServiceFlags.ONE_PACKET, backends=(REAL,)), "for UDP alone"),
        (Service(WEB, persistence=Persistence(0, 0xFFFFFFFF), backends=(REAL,)), "from 1 to"),
        (Service(WEB, persistence=Persistence(9, 0xFFFFFFFF, "a b"), backends=(REAL,)), "name of its"),
        (Service(WEB), "a real server with a weight"),
        (Service(WEB, backends=(Backend("10.0.0.1", 80, weight=0),)), "a real server with a weight"),
        (_with(Backend("10.0.0.1", 80, Forwarding.LOCAL)), "no forwarding local"),
        (_with(Backend("10.0.0.1", 8080, Forwarding.DIRECT)), "with NAT alone"),
        (_with(Backend("10.0.0.1", 0)), "the service's, 80"),
        (_with(Backend("fd00::1", 80)), "through tunnels alone"),
        (
            _with(Backend("fd00::1", 80, Forwarding.TUNNEL, tunnel=Tunnel(TunnelKind.IPIP, 0, 1))),
            "no such tunnel",
        ),
    ],
)
def test_what_keepalived_cannot_say_is_left_out_in_words(service: Service, says: str, tmp_path: Path) -> None:
    written = render(Table((service,)))
    (note,) = written.notes
    assert note.level is Level.LOST and says in note.text and note.text.endswith(".")
    assert says in written.text.splitlines()[note.line - 1], "the note's line is the comment's"
    assert complaints(written.text, tmp_path) == []


def test_a_name_with_a_line_end_cannot_break_out_of_its_comment() -> None:
    text = render(Table((Service(WEB, "x\nvirtual_server"),))).text
    assert text.count("\n") == 1 and parse(text).table == Table()
