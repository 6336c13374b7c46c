"""The kernel's texts in /proc/net, as Linux 6.1 wrote them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.ipvs.connections import Connection, ConnectionCounts
from cluster.ipvs.formats.proc import (
    ProcBackend,
    ProcService,
    connection_counts,
    connections,
    counters,
    service_as_shown,
    services,
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
)

HEAD = "Pro FromIP   FPrt ToIP     TPrt DestIP   DPrt State       Expires PEName PEData\n"
V6 = "2001:0db8:0000:0000:0000:0000:0000:0001"
FD = "fd00:0000:0000:0000:0000:0000:0000:0001"
ROWS = [
    "TCP C0000201 BAF8 C0000201 0050 0A000001 1F90 ESTABLISHED     899\n",
    "TCP C0000200 0000 C0000201 0000 0A000001 0000 ASSURED          60\n",
    "TCP C0000201 A5F2 C0000201 1F90 0A000001 1F90 ESTABLISHED     900\n",
    "IP  C0000201 0000 7F000001 0000 0A000001 0000 NONE            100\n",
    f"IP  {V6} 0000 0000:0007:0000:0000:0000:0000:0000:0000 0000 {FD} 0000 NONE            100\n",
    f"UDP {V6} A3E1 {V6} 0036 0A000001 0036 UDP             300\n",
    f"TCP {V6} B754 {V6} 0050 {FD} 1F90 ESTABLISHED     900\n",
    "UDP C0000201 0000 C0000201 13C4 0A000001 13C4 NONE            300 sip a b@10.0.0.9\n",
]
WEB = ServiceKey(Protocol.TCP, "192.0.2.1", 80)
WEB6 = ServiceKey(Protocol.TCP, "2001:db8::1", 80)
MARK = ServiceKey(Protocol.FIREWALL_MARK, "0.0.0.0", 0, 0x7F000001)
MARK6 = ServiceKey(Protocol.FIREWALL_MARK, "::", 0, 7)
SIP = ServiceKey(Protocol.UDP, "192.0.2.1", 5060)
TUNNELLED = ServiceKey(Protocol.UDP, "2001:db8::1", 54)
ONE, ONE6 = BackendKey("10.0.0.1", 8080), BackendKey("fd00::1", 8080)
SERVER = "10.0.0.1"


def test_rows_of_both_families_templates_and_engines_are_read() -> None:
    assert list(connections([HEAD, *ROWS])) == [
        Connection("192.0.2.1", 47864, WEB, ONE, "ESTABLISHED", 899),
        Connection("192.0.2.0", 0, WEB._replace(port=0), BackendKey(SERVER, 0), "ASSURED", 60),
        Connection("192.0.2.1", 42482, WEB._replace(port=8080), ONE, "ESTABLISHED", 900),
        Connection("192.0.2.1", 0, MARK, BackendKey(SERVER, 0), "NONE", 100),
        Connection("2001:db8::1", 0, MARK6, BackendKey("fd00::1", 0), "NONE", 100),
        Connection("2001:db8::1", 41953, TUNNELLED, BackendKey(SERVER, 54), "UDP", 300),
        Connection("2001:db8::1", 46932, WEB6, ONE6, "ESTABLISHED", 900),
        Connection("192.0.2.1", 0, SIP, BackendKey(SERVER, 5060), "NONE", 300, "sip", "a b@10.0.0.9"),
    ]


def test_templates_are_told_from_connections() -> None:
    assert [one.is_template for one in connections(ROWS)] == [
        False,
        True,
        False,
        True,
        True,
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("service", "backend", "rows"),
    [
        (WEB, None, [0]),
        (WEB6, None, [6]),
        (WEB._replace(port=0), None, [0, 1, 2]),
        (MARK, None, [3]),
        (MARK6, None, [4]),
        (TUNNELLED, BackendKey(SERVER, 54), [5]),
        (None, ONE, [0, 2]),
        (None, ONE6, [6]),
        (WEB, ONE6, []),
        (WEB._replace(protocol=Protocol.UDP), None, []),
        (WEB._replace(protocol=Protocol(50)), None, []),
        (None, None, list(range(8))),
    ],
)
def test_a_service_or_backend_alone(
    service: ServiceKey | None, backend: BackendKey | None, rows: list[int]
) -> None:
    wanted = list(connections([ROWS[row] for row in rows]))
    assert list(connections([HEAD, *ROWS], service=service, backend=backend)) == wanted


def test_counts_are_by_service_backend_and_state() -> None:
    counts = connection_counts([HEAD, *ROWS, ROWS[0].replace("BAF8", "0001"), ROWS[0].replace("899", " 1")])
    assert counts.by_state[WEB, ONE, "ESTABLISHED"] == 3
    assert counts.by_state[MARK6, BackendKey("fd00::1", 0), "NONE"] == 1
    assert (counts.total, counts.malformed, counts.is_whole) == (10, 0, True)


MALFORMED = [
    "\n",
    "TCP\n",
    "TCP C0000201 BAF8 C0000201 0050 0A000001\n",
    "TCP C0000201 BAF8 C000020Z 0050 0A000001 1F90 ESTABLISHED 899\n",
    "TCP C0000201 BAF8 C0000201 00500 0A000001 1F90 ESTABLISHED 899\n",
    "TCP C0000201 BAF8 C0000201 0050 0A0000 1F90 ESTABLISHED 899\n",
    "XYZ C0000201 BAF8 C0000201 0050 0A000001 1F90 ESTABLISHED 899\n",
    "�" * 100,
]


@pytest.mark.parametrize("row", MALFORMED)
def test_a_row_that_makes_no_sense_is_counted_and_hides_no_other(row: str) -> None:
    assert len(list(connections([HEAD, ROWS[0], row, ROWS[6]]))) == 2
    counts = connection_counts([HEAD, ROWS[0], row, ROWS[6]])
    assert (counts.total, counts.malformed) == (2, 1)


def test_an_empty_table_has_no_connections() -> None:
    assert connection_counts([HEAD]) == connection_counts([]) == ConnectionCounts()


@given(st.lists(st.text(max_size=200)))
def test_no_text_at_all_is_an_error(lines: list[str]) -> None:
    counts = connection_counts(lines)
    assert len(list(connections(lines))) <= counts.total
    assert counts.total + counts.malformed <= len(lines)


def test_a_protocol_without_a_name_has_a_number() -> None:
    (found,) = connections([ROWS[0].replace("TCP", "IP_50")])
    assert found.service.protocol == 50
    assert len(list(connections(ROWS[:1] + [ROWS[0].replace("TCP", "IP_50")], service=found.service))) == 1


STATS = """   Total Incoming Outgoing         Incoming         Outgoing
   Conns  Packets  Packets            Bytes            Bytes
       A       10        F        1000000FF                1

 Conns/s   Pkts/s   Pkts/s          Bytes/s          Bytes/s
       0        0        0                0                0
"""


def test_totals_are_written_in_hex() -> None:
    said = counters(STATS)
    assert (said.connections, said.in_packets, said.out_packets) == (10, 16, 15)
    assert (said.in_bytes, said.out_bytes) == (0x1000000FF, 1)


TABLE = f"""IP Virtual Server version 1.2.1 (size=4096)
Prot LocalAddress:Port Scheduler Flags
  -> RemoteAddress:Port Forward Weight ActiveConn InActConn
TCP  [{V6}]:0050 rr persistent 30000 40000000
  -> [{FD}]:1F90      Masq    5      3          4
  -> 0A000001:0050      Tunnel  1      0          0
UDP  C0000235:0035 wrr ops
  -> 0A010202:0035      Route   2147483647 0          0
IP_50  C0000235:0000 none
FWM  00000010 rr ops persistent 10000 FFFFFF00
FWM  00000007 rr
"""


def test_the_table_is_read_with_its_oddities() -> None:
    assert services(TABLE) == [
        ProcService(
            "TCP [2001:db8::1]:80",
            "rr",
            timeout_ticks=30000,
            netmask=0x40000000,
            backends=(
                ProcBackend("10.0.0.1", 80, "Tunnel", 1),
                ProcBackend("fd00::1", 8080, "Masq", 5, 3, 4),
            ),
        ),
        ProcService(
            "UDP 192.0.2.53:53", "wrr", True, backends=(ProcBackend("10.1.2.2", 53, "Route", 2**31 - 1),)
        ),
        ProcService("NUMBER-50 192.0.2.53:0", "none"),
        ProcService("FWM 16", "rr", True, 10000, 0xFFFFFF00),
        ProcService("FWM 7", "rr"),
    ]
    assert services(TABLE)[0].backends[1].active == 3


def test_what_a_service_would_look_like() -> None:
    web = Service(
        WEB6,
        flags=ServiceFlags.ONE_PACKET | ServiceFlags.SCHEDULER_1,
        persistence=Persistence(300, 64),
        backends=(Backend("fd00::1", 8080, weight=5), Backend("10.0.0.1", 80, Forwarding.TUNNEL)),
    )
    assert service_as_shown(web, ticks_per_s=100) == services(TABLE)[0]
    mark = Service(MARK6, flags=ServiceFlags.ONE_PACKET)
    assert service_as_shown(mark, ticks_per_s=100) == ProcService("FWM 7", "rr", True)


@pytest.mark.parametrize(
    "line", ["TCP what rr", "TCP C0000235:0035 rr odd", "TCP C0000235:0035 rr persistent 5"]
)
def test_another_text_is_no_table(line: str) -> None:
    with pytest.raises(ValueError, match="."):
        services(TABLE + line)
