"""ldirectord.cf: sections are read with ldirectord's own defaults, and written so that they come back."""

from __future__ import annotations

import pytest
from hypothesis import given

from cluster.ipvs.formats import ipvsadm
from cluster.ipvs.formats.fidelity import HealthCheck, Level
from cluster.ipvs.formats.ldirectord_reader import parse
from cluster.ipvs.formats.ldirectord_writer import render
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
from tests.ipvs.tables import few, tables

WEB = ServiceKey(Protocol.TCP, "192.0.2.1", 80)
HEAD = "virtual=192.0.2.1:80\n"
REAL = "    real=10.0.0.1:80 gate\n"


def _lines(text: str) -> list[str]:
    read = parse(text)
    assert not read.errors, read.errors
    return ipvsadm.save(read.table)


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("virtual=192.0.2.1:80", "-A -t 192.0.2.1:80 -s wrr"),
        ("virtual = 192.0.2.1:53", "-A -u 192.0.2.1:53 -s wrr"),
        ("virtual=192.0.2.1:53\n\tprotocol=tcp", "-A -t 192.0.2.1:53 -s wrr"),
        ("virtual6=[2001:DB8::1]:80", "-A -t [2001:db8::1]:80 -s wrr"),
        ("virtual=7\n    protocol=fwm", "-A -f 7 -s wrr"),
        ("virtual6=7", "-A -f 7 -6 -s wrr"),
        ("virtual=192.0.2.1:80\n    scheduler = rr # fair", "-A -t 192.0.2.1:80 -s rr"),
        ("virtual=192.0.2.1:80\n# in between\n    scheduler=rr", "-A -t 192.0.2.1:80 -s rr"),
        (
            "virtual=192.0.2.1:80\n    persistent=600\n    netmask=255.255.255.0",
            "-A -t 192.0.2.1:80 -s wrr -p 600 -M 255.255.255.0",
        ),
        (
            "virtual6=[2001:db8::1]:80\n    persistent=600\n    netmask=64",
            "-A -t [2001:db8::1]:80 -s wrr -p 600 -M 64",
        ),
        (
            "virtual=192.0.2.1:80\r\n    scheduler=sh\r\n    schedflags=sh-port,flag-3\r",
            "-A -t 192.0.2.1:80 -s sh -b sh-port,flag-3",
        ),
        ("virtual=192.0.2.1:53\n    ops=yes", "-A -u 192.0.2.1:53 -s wrr -o"),
    ],
)
def test_services(text: str, line: str) -> None:
    assert _lines(text + "\n") == [line]


@pytest.mark.parametrize(
    ("real", "lines"),
    [
        ("10.0.0.1:80 gate", ["10.0.0.1:80 -g -w 1"]),
        ("10.0.0.1 gate 5", ["10.0.0.1:80 -g -w 5"]),
        ("10.0.0.1:8080 masq 0", ["10.0.0.1:8080 -m -w 0"]),
        ("10.0.0.1 masq", ["10.0.0.1:0 -m -w 1"]),
        ("10.0.0.1:80 ipip 2", ["10.0.0.1:80 -i -w 2 --tun-type ipip"]),
        ('10.0.0.1:80 masq 3 "index.html", "It works" l:5 u:10', ["10.0.0.1:80 -m -w 3 -x 10 -y 5"]),
        (
            "10.0.0.254->10.0.1.1:80 gate",
            [f"10.0.{where}:80 -g -w 1" for where in ("0.254", "0.255", "1.0", "1.1")],
        ),
    ],
)
def test_real_servers(real: str, lines: list[str]) -> None:
    found = {line.partition(" -r ")[2] for line in _lines(f"{HEAD}    real={real}\n")[1:]}
    assert found == set(lines)


def test_a_port_that_cannot_be_changed_is_set_right_with_a_note() -> None:
    read = parse(f"{HEAD}    real=10.0.0.1:8080 gate\n")
    assert ipvsadm.save(read.table)[1] == "-a -t 192.0.2.1:80 -r 10.0.0.1:80 -g -w 1"
    assert [(note.line, note.level) for note in read.notes] == [(2, Level.MAPPED)]


def test_fallbacks_stand_aside_and_those_of_a_section_win() -> None:
    text = f"fallback=127.0.0.1\nfallback6=[::1]:81 masq\n{HEAD}{REAL}\n"
    text += "virtual=192.0.2.2:80\n    fallback=10.0.0.9:8080 masq\n\nvirtual6=[2001:db8::1]:80\n"
    read = parse(text)
    assert {str(key): backend for key, backend in read.sorry.items()} == {
        "TCP 192.0.2.1:80": Backend("127.0.0.1", 80, Forwarding.DIRECT),
        "TCP 192.0.2.2:80": Backend("10.0.0.9", 8080, Forwarding.MASQUERADE),
        "TCP [2001:db8::1]:80": Backend("::1", 81, Forwarding.MASQUERADE),
    }


@pytest.mark.parametrize(
    ("before", "inside", "checks"),
    [
        ("", "", [HealthCheck("http", {"service": "http"}, 10, 30, 0, 2)]),
        (
            "checkinterval=5\nchecktimeout=3\nfailurecount=4\n",
            "checktype=connect\n    checkport=8080",
            [HealthCheck("tcp", {"checkport": "8080"}, 5, 3, 3, 5)],
        ),
        (
            "negotiatetimeout=7\n",
            'service=https\n    request="status"\n    receive="OK"\n    virtualhost=shop.example',
            [
                HealthCheck(
                    "https",
                    {"service": "https", "request": "status", "receive": "OK", "virtualhost": "shop.example"},
                    10,
                    7,
                    0,
                    3,
                )
            ],
        ),
        (
            "",
            "checktype=3",
            [
                HealthCheck("tcp", {}, 10, 5, 0, 2),
                HealthCheck("http", {"service": "http", "checktype": "3"}, 10, 30, 0, 2),
            ],
        ),
        ("", "checktype=on", []),
        ("", "service=none", []),
        ("", "checktype=ping\n    checkcount=3", [HealthCheck("ping", {"checkcount": "3"}, 10, 5, 0, 2)]),
        (
            "",
            'checktype=external\n    checkcommand="/bin/check me"',
            [HealthCheck("script", {"checkcommand": "/bin/check me", "checktype": "external"}, 10, 5, 0, 2)],
        ),
        ("fork=yes\n", "checkinterval=2", [HealthCheck("http", {"service": "http"}, 2, 30, 0, 3)]),
        ("fork=no\n", "checkinterval=2", [HealthCheck("http", {"service": "http"}, 10, 30, 0, 3)]),
    ],
)
def test_checks_with_their_defaults(before: str, inside: str, checks: list[HealthCheck]) -> None:
    read = parse(f"{before}{HEAD}{REAL}    {inside}\n" if inside else f"{before}{HEAD}{REAL}")
    assert read.is_whole, read.notes
    assert [check for found in read.checks.values() for check in found] == checks


def test_a_servers_own_request_wins() -> None:
    read = parse(f'{HEAD}    request="a"\n    real=10.0.0.1:80 gate "b", "c"\n')
    ((check,),) = read.checks.values()
    assert check.parameters == {"service": "http", "request": "b", "receive": "c"}


def test_servers_that_are_never_switched_on_are_left_out() -> None:
    read = parse(f"{HEAD}    checktype=off\n{REAL}")
    assert [note.level for note in read.notes] == [Level.LOST]
    assert [service.backends for service in read.table] == [()]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("virtual=192.0.2.300:80\n", 1, "not an IP address"),
        ("virtual=192.0.2.2\n", 1, "no virtual service"),
        ("virtual=192.0.2.2:99999\n", 1, "from 0 to 65535"),
        ("virtual=[2001:db8::1]:80\n", 1, "other family"),
        ("virtual6=192.0.2.2:80\n", 1, "other family"),
        ("virtual=0\n", 1, "from 1 to"),
        ("virtual=7\n    protocol=tcp\n", 1, "Write fwm"),
        ("virtual=192.0.2.2:80\n    protocol=sctp\n", 1, "tcp or udp"),
        ("virtual=192.0.2.1:80\n", 1, "is there already"),
        ("virtual=192.0.2.2:0\n", 1, "persistent = 360"),
        ("virtual=192.0.2.2:80\n    scheduler=Best-1\n", 2, "small letters"),
        ("virtual=192.0.2.2:80\n    scheduler=rr\n    schedflags=sh-port\n", 3, "no flag of rr"),
        ("virtual=192.0.2.2:80\n    persistent=0\n", 2, "from 1 to"),
        ("virtual=192.0.2.2:80\n    persistent=9\n    netmask=24\n", 3, "255.255.255.0"),
        ("virtual=192.0.2.2:80\n    ops=maybe\n", 2, "yes or no"),
        ("virtual=192.0.2.2:80\n    real=10.0.0.1:80\n", 2, "no real server"),
        ("virtual=192.0.2.2:80\n    real=10.0.0.1:80 nat\n", 2, "gate, masq or ipip"),
        ("virtual=192.0.2.2:80\n    real=10.0.0.1:80 gate heavy\n", 2, "in this order"),
        ("virtual=192.0.2.2:80\n    real=fd00::1 gate\n", 2, "no real server"),
        ("virtual=192.0.2.2:80\n    real6=[fd00::1]:80 gate\n", 2, "Write real"),
        ("virtual=192.0.2.2:80\n    real=10.0.0.9->10.0.0.1:80 gate\n", 2, "ends before it begins"),
        ("virtual6=[2001:db8::1]:80\n    real6=[fd00::1]->[fd00::2]:80 gate\n", 2, "no ranges of IPv6"),
        ("virtual=192.0.2.2:80\n    real=10.0.0.1 gate\n    real=10.0.0.1 masq 1 x\n", 3, "in this order"),
        ("virtual=192.0.2.2:80\n    real=10.0.0.1 gate\n    real=10.0.0.1:80 ipip\n", 3, "there already"),
        ("virtual=192.0.2.2:80\n\n    scheduler=rr\n", 3, "without an empty line"),
        ("virtual=192.0.2.2:80\n  scheduler=rr\n", 2, "belongs to no virtual"),
        ("virtual=192.0.2.2:80\n    request=index\n", 2, "double quotes"),
        ('virtual=192.0.2.2:80\n    request="a#b"\n', 2, "double quotes"),
        ("virtual=192.0.2.2:80\n    checktype=guess\n", 2, "or a number"),
        ("virtual=192.0.2.2:80\n    service=gopher\n", 2, "no service"),
        ("virtual=192.0.2.2:80\n    autoreload=yes\n", 2, "has no “autoreload” here"),
        ("checkport=80\n", 1, "under its virtual"),
        ("checktimeout=0\n", 1, "from 1 to"),
        ("nonsense\n", 1, "name=value"),
        ("bogus=1\n", 1, "has no “bogus”"),
        ("quiescent=maybe\n", 1, "Write yes or no"),
        ("virtual=192.0.2.2:80\n    quiescent=1\n", 2, "Write yes or no"),
        ("x" * 5000 + "\n", 1, "too long"),
    ],
)
def test_a_bad_line_is_named_with_a_remedy(text: str, line: int, says: str) -> None:
    known = f"{HEAD}\nvirtual=9\n" if "is there" in says and "persistent" not in says else "virtual=9\n"
    before = known.count("\n") + 1
    read = parse(f"{known}\n{text}")
    assert [note.line for note in read.errors] == [line + before], read.errors
    (note,) = read.errors
    assert says in f"{note.text} {note.remedy}"
    assert note.text.endswith(".") and note.remedy.endswith(".")
    assert any(key.mark == 9 for key in read.table.keys)


@pytest.mark.parametrize(
    "text",
    [
        "virtual=shop.example:80\n",
        "virtual=192.0.2.1:http\n",
        "readdquiescent=no\n",
        "autoreload=yes\n",
        f'{HEAD}    passwd="x"\n',
        f"{HEAD}    netmask=255.0.0.0\n",
        f"{HEAD}    real=web1.example:80 gate\n",
    ],
)
def test_what_a_table_cannot_hold_is_called_lost(text: str) -> None:
    assert [note.level for note in parse(text).notes] == [Level.LOST]


def test_secrets_are_not_repeated() -> None:
    read = parse(f'{HEAD}    passwd="hunter2"\n{REAL}')
    assert "hunter2" not in repr(read)


@few
@given(tables)
def test_what_is_written_is_read_back_and_the_rest_is_named(table: Table) -> None:
    written = render(table)
    read = parse(written.text)
    assert read.notes == (), "ldirectord's defaults must not be needed"
    for service in read.table:
        whole = table.by_key[service.key]
        assert service.header == whole.header and set(service.backends) <= set(whole.backends)
    missing = len(table.services) - len(read.table.services)
    missing += sum(len(table.by_key[one.key].backends) - len(one.backends) for one in read.table)
    assert len(written.notes) == missing, "one note for each that is left out"
    assert written.is_whole == (read.table == table)


@pytest.mark.parametrize(
    ("service", "says"),
    [
        (Service(ServiceKey(Protocol.SCTP, "192.0.2.1", 80)), "no protocol sctp"),
        (Service(ServiceKey(Protocol.FIREWALL_MARK, "::", 0, 0)), "no firewall mark 0"),
        (Service(ServiceKey(Protocol.TCP, "192.0.2.1", 0)), "only if it is persistent"),
        (Service(WEB, "w-2"), "no scheduler w-2"),
        (Service(WEB, flags=ServiceFlags(0x40)), "flags"),
        (Service(WEB, flags=ServiceFlags.ONE_PACKET), "for UDP alone"),
        (Service(WEB, persistence=Persistence(9, 0xFFFFFFFF, "sip")), "no persistence engines"),
        (Service(WEB, persistence=Persistence(0, 0xFFFFFFFF)), "no persistence of 0 seconds"),
        (Service(WEB, backends=(Backend("10.0.0.1", 80, Forwarding.BYPASS),)), "no forwarding bypass"),
        (Service(WEB, backends=(Backend("10.0.0.1", 81, Forwarding.DIRECT),)), "with masq alone"),
        (
            Service(WEB, backends=(Backend("fd00::1", 80, Forwarding.TUNNEL, tunnel=Tunnel()),)),
            "other family",
        ),
        (
            Service(
                WEB, backends=(Backend("10.0.0.1", 80, Forwarding.TUNNEL, tunnel=Tunnel(TunnelKind.GRE)),)
            ),
            "plain ipip",
        ),
    ],
)
def test_what_ldirectord_cannot_say_is_left_out_in_words(service: Service, says: str) -> None:
    written = render(Table((service,)))
    (note,) = written.notes
    assert note.level is Level.LOST and says in note.text
    assert says in written.text.splitlines()[note.line - 1]
