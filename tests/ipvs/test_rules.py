"""Every rule fires on what it is for, says what to do, and its code can be looked up."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
from hypothesis import given

from cluster.ipvs import lint, rules
from cluster.ipvs.lint import table_warnings
from cluster.ipvs.rules import Severity, table_problems
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

KEY = ServiceKey(Protocol.TCP, "192.0.2.1", 80)
KEY6 = ServiceKey(Protocol.TCP, "2001:db8::1", 80)
MARK = ServiceKey(Protocol.FIREWALL_MARK, "0.0.0.0", 0, 7)
ONE, TWO = Backend("10.0.0.1", 80), Backend("10.0.0.2", 80)
ALONE = 0xFFFFFFFF


def web(*backends: Backend, key: ServiceKey = KEY, scheduler: str = "wrr", **settings: object) -> Service:
    return Service(key, scheduler, backends=backends or (ONE, TWO), **settings)  # type: ignore[arg-type]


def held(timeout_s: int = 60, netmask: int = ALONE, engine: str = "") -> Persistence:
    return Persistence(timeout_s, netmask, engine)


def tunnel(kind: TunnelKind = TunnelKind.IPIP, port: int = 0, flags: int = 0) -> Backend:
    return ONE._replace(forwarding=Forwarding.TUNNEL, tunnel=Tunnel(kind, port, flags))


FIVE = KEY._replace(port=0)
ERRORS = [
    ("mark-range", web(key=MARK._replace(mark=0))),
    ("protocol", web(key=ServiceKey(Protocol(50), "192.0.2.1", 80))),
    ("virtual-address", web(key=KEY._replace(address="0.0.0.0"))),
    ("virtual-address", web(key=KEY._replace(address="224.0.0.1"))),
    ("virtual-address", web(Backend("fd00::1", 80), key=KEY6._replace(address="fe80::1"))),
    ("port-range", web(key=KEY._replace(port=65536))),
    ("port-range", web(ONE._replace(port=0))),
    ("port-range", web(ONE._replace(port=65536))),
    ("every-port-persistence", web(ONE._replace(port=0), key=FIVE)),
    ("every-port-backend", web(key=FIVE, persistence=held())),
    ("persistence-time", web(persistence=held(timeout_s=0))),
    ("persistence-time", web(persistence=held(timeout_s=31 * 86400 + 1))),
    ("persistence-prefix", web(persistence=held(netmask=0))),
    ("persistence-prefix", web(Backend("fd00::1", 80), key=KEY6, persistence=held(netmask=129))),
    ("sip-needs-udp", web(persistence=held(engine="sip"))),
    ("one-packet-tcp", web(flags=ServiceFlags.ONE_PACKET)),
    ("one-packet-tcp", web(key=KEY._replace(protocol=Protocol.SCTP), flags=ServiceFlags.ONE_PACKET)),
    ("scheduler", web(scheduler="none")),
    ("weight-range", web(ONE._replace(weight=-1))),
    ("weight-range", web(ONE._replace(weight=65536))),
    ("forwarding", web(ONE._replace(forwarding=Forwarding(7)))),
    ("thresholds", web(ONE._replace(lower=5))),
    ("thresholds", web(ONE._replace(lower=6, upper=5))),
    ("tunnel", web(tunnel(TunnelKind(9)))),
    ("tunnel-port", web(tunnel(TunnelKind.GUE))),
    ("tunnel-port", web(tunnel(TunnelKind.GRE, port=6080))),
    ("tunnel-checksum", web(tunnel(TunnelKind.GRE, flags=4))),
    ("port-mapping", web(ONE._replace(port=81, forwarding=Forwarding.DIRECT))),
    ("port-mapping", web(ONE._replace(forwarding=Forwarding.DIRECT), key=MARK)),
    ("mixed-families", web(Backend("fd00::1", 80))),
    ("backend-address", web(ONE._replace(address="224.0.0.1"))),
    ("backend-address", web(ONE._replace(address="127.0.0.1"))),
    ("backend-address", web(ONE._replace(address="192.0.2.1"))),
    ("backend-address", web(Backend("fe80::1", 80), key=KEY6)),
    ("backend-address", web(Backend("::ffff:10.0.0.1", 80), key=KEY6)),
]
QUIET = TWO._replace(weight=0)
WARNINGS = [
    (
        "one-packet-persistent",
        web(key=KEY._replace(protocol=Protocol.UDP), flags=ServiceFlags.ONE_PACKET, persistence=held()),
    ),
    ("no-backend", Service(KEY, "wrr")),
    ("all-weights-0", web(QUIET)),
    ("hash-without-fallback", web(ONE, QUIET, scheduler="sh")),
    ("hash-without-fallback", web(ONE, QUIET, scheduler="mh", flags=ServiceFlags.SCHEDULER_2)),
    ("weights-ignored", web(ONE, TWO._replace(weight=3), scheduler="rr")),
    ("failover-tie", web(scheduler="fo")),
    ("hashes-destination", web(scheduler="dh")),
    ("flag-without-meaning", web(flags=ServiceFlags.SCHEDULER_1)),
    ("flag-without-meaning", web(scheduler="mh", flags=ServiceFlags.SCHEDULER_3)),
    ("mask-with-holes", web(persistence=held(netmask=0xFF00FF00))),
    ("persistence-ignores-weight-0", web(ONE, QUIET, persistence=held())),
    ("ipip-checksum", web(tunnel(flags=1))),
    ("mixed-families-and-sync", web(tunnel()._replace(address="fd00::1"))),
    ("backend-is-virtual", web(ONE._replace(address="192.0.2.2"))),
]
FINE = [
    web(),
    web(ONE, TWO._replace(weight=3)),
    web(ONE, QUIET, scheduler="rr"),
    web(scheduler="sh", flags=ServiceFlags.SCHEDULER_1 | ServiceFlags.SCHEDULER_2),
    web(ONE, QUIET, scheduler="mh", flags=ServiceFlags.SCHEDULER_1),
    web(ONE, TWO._replace(weight=2), scheduler="fo"),
    web(ONE._replace(port=0), TWO._replace(port=0), key=FIVE, persistence=held(netmask=0xFFFFFF00)),
    web(ONE._replace(port=0), TWO._replace(port=8080), key=MARK, scheduler="dh"),
    web(tunnel(TunnelKind.GUE, 6080, 2), scheduler="wlc"),
    web(ONE._replace(upper=10, lower=5), scheduler="lc"),
    web(
        key=KEY._replace(protocol=Protocol.UDP),
        flags=ServiceFlags.ONE_PACKET,
        persistence=held(engine="sip"),
    ),
]
# Makes 192.0.2.2 a virtual address of the table that a case is in.
OTHER = web(ONE._replace(port=8443), key=KEY._replace(address="192.0.2.2", port=443))


@pytest.mark.parametrize(("code", "service"), ERRORS, ids=[f"{n}-{case[0]}" for n, case in enumerate(ERRORS)])
def test_an_error_blocks_and_says_what_to_do(code: str, service: Service) -> None:
    found = [problem for _, problem in table_problems(Table((service,)))]
    assert {problem.code for problem in found} == {code}
    for problem in found:
        assert problem.severity is Severity.ERROR and problem.field
        assert problem.text.endswith(".")


@pytest.mark.parametrize(
    ("code", "service"), WARNINGS, ids=[f"{n}-{case[0]}" for n, case in enumerate(WARNINGS)]
)
def test_a_warning_names_the_rule_and_does_not_block(code: str, service: Service) -> None:
    whole = Table((service, OTHER))
    assert {problem.code for _, problem in table_warnings(whole)} == {code}
    assert table_problems(whole) == []
    for _, problem in table_warnings(whole):
        assert problem.severity is Severity.WARNING and problem.text.endswith(".")


@pytest.mark.parametrize("service", FINE, ids=[str(number) for number in range(len(FINE))])
def test_what_is_usual_is_left_in_peace(service: Service) -> None:
    whole = Table((service, OTHER))
    assert table_problems(whole) == [] and table_warnings(whole) == []


@few
@given(tables)
def test_any_table_can_be_judged(table: Table) -> None:
    for _, problem in table_problems(table) + table_warnings(table):
        assert problem.code and problem.text.endswith(".")


def test_every_code_has_a_case_and_stands_in_the_documents() -> None:
    used = {
        call.args[2].value
        for module in (rules, lint)
        for call in ast.walk(ast.parse(Path(module.__file__).read_text()))
        if isinstance(call, ast.Call)
        and getattr(call.func, "id", "") in ("Problem", "_warning")
        and isinstance(call.args[2], ast.Constant)
    }
    assert used == {code for code, _ in ERRORS + WARNINGS}
    listed = re.findall(r"^\| `([a-z0-9-]+)`", Path("docs/rules.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(used)
