"""ipvsadm's lines: what was saved comes back whole, and a bad line is named, not fatal."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.ipvs.formats import ipvsadm
from cluster.ipvs.formats.fidelity import Level
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

WEB = "-A -t 192.0.2.1:80 -s wrr\n"

# As ipvsadm 1.31 saves them, measured; each line must come back as it was.
SAVED = """\
-A -t 192.0.2.10:80 -s rr
-a -t 192.0.2.10:80 -r 10.1.1.2:8080 -m -w 1
-a -t 192.0.2.10:80 -r 10.1.3.2:80 -m -w 0
-A -t 192.0.2.10:443 -s wlc -p 360 -M 255.255.255.0
-a -t 192.0.2.10:443 -r 10.1.1.2:443 -g -w 100
-A -t 192.0.2.20:80 -s sh -b sh-fallback,sh-port
-A -t 192.0.2.21:80 -s mh -b mh-fallback,mh-port
-a -t 192.0.2.21:80 -r 10.1.1.2:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-nocsum
-a -t 192.0.2.21:80 -r 10.1.2.2:80 -i -w 1 --tun-type gue --tun-port 6080 --tun-csum
-a -t 192.0.2.21:80 -r 10.1.3.2:80 -i -w 1 --tun-type gre --tun-csum
-A -t 192.0.2.22:0 -s wlc -p 300
-a -t 192.0.2.22:0 -r 10.1.1.2:0 -g -w 1
-A -t 192.0.2.5:80 -s wrr -b flag-1,flag-3
-A -u 192.0.2.53:53 -s wrr -o
-a -u 192.0.2.53:53 -r 10.1.2.2:53 -i -w 20 --tun-type ipip
-A -u 192.0.2.60:5060 -s mh -p 60 --pe sip -o -b mh-fallback
-A --sctp-service 192.0.2.70:3868 -s lc
-a --sctp-service 192.0.2.70:3868 -r 10.1.1.2:3868 -m -w 1
-A -t [2001:db8::10]:80 -s rr -p 300 -M 64
-a -t [2001:db8::10]:80 -r [2001:db8:1::2]:8080 -m -w 5
-A -f 1 -s wlc -p 1800
-a -f 1 -r 10.1.2.2:8080 -m -w 3
-A -f 2 -6 -s rr
-a -f 2 -6 -r [2001:db8:1::2]:0 -g -w 1
"""


def test_what_ipvsadm_saved_comes_back_line_by_line() -> None:
    read = ipvsadm.parse(SAVED)
    assert read.is_whole and read.notes == ()
    assert set(ipvsadm.save(read.table)) == set(SAVED.splitlines())
    assert len(read.mapped) == len(SAVED.splitlines())


@few
@given(tables)
def test_any_table_survives_its_lines(table: Table) -> None:
    read = ipvsadm.parse(ipvsadm.render(table))
    assert read.table == table and read.is_whole


@pytest.mark.parametrize(
    "service",
    [
        Service(ServiceKey(Protocol(50), "192.0.2.1", 80)),
        Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80), flags=ServiceFlags(0x40 | 0x8)),
        Service(ServiceKey(Protocol.FIREWALL_MARK, "::", 0, 0), "none"),
        Service(ServiceKey(Protocol.TCP, "2001:db8::1", 0), persistence=Persistence(0, 1, "sip")),
        Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80), persistence=Persistence(9, 0xFF00FF00)),
    ],
)
@pytest.mark.parametrize(
    "backend",
    [
        Backend("10.0.0.1", 0, Forwarding(7), 2**31 - 1, 5, 9),
        Backend("10.0.0.1", 81, Forwarding.LOCAL),
        Backend("fd00::1", 81, Forwarding.TUNNEL, tunnel=Tunnel(TunnelKind(9), 7, 1)),
        Backend("fd00::1", 81, Forwarding.TUNNEL, tunnel=Tunnel(TunnelKind.IPIP, 0, 2)),
        Backend("fd00::1", 81, Forwarding.TUNNEL, tunnel=Tunnel(TunnelKind.GUE, 65535, 0x105)),
    ],
)
def test_what_only_other_tools_can_program_survives_in_words_of_our_own(
    service: Service, backend: Backend
) -> None:
    table = Table((service.with_backends([backend]),))
    assert ipvsadm.parse(ipvsadm.render(table)).table == table


def test_the_tools_empty_flag_is_read_as_the_flag_it_forgot() -> None:
    read = ipvsadm.parse("-A -t 192.0.2.1:80 -s mh -b \n-A -t 192.0.2.2:80 -s sh -p 60 -b \n")
    assert [service.flags for service in read.table] == [ServiceFlags.SCHEDULER_3] * 2
    assert read.is_whole and [note.line for note in read.notes] == [1, 2]


@pytest.mark.parametrize(
    "line",
    [
        "ipvsadm -A -t 192.0.2.1:80 -s wrr -p 60",
        "/sbin/ipvsadm --add-service --tcp-service 192.0.2.1:80 --scheduler wrr --persistent 60",
        "sudo ipvsadm --add-service --tcp-service=192.0.2.1:80 --scheduler=wrr --persistent=60",
        "-At192.0.2.1:80 -swrr -p60   # the shop",
        "-A -t '192.0.2.1:80' -s \"wrr\" -p 60",
        "-p 60 -A -s wrr -t 192.0.2.1:80\r",
        "-A -t 192.0.2.1:80 \\\n  -s wrr \\\n  -p 60",
    ],
)
def test_hand_written_lines_are_understood(line: str) -> None:
    read = ipvsadm.parse(f"# by hand\n\n{line}\n")
    wanted = Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80), "wrr", persistence=Persistence(60, 2**32 - 1))
    assert read.table == Table((wanted,)) and read.is_whole


def test_what_is_left_out_means_what_ipvsadm_does_then() -> None:
    (service,) = ipvsadm.parse("-A -t 192.0.2.1:80 -p\n-a -t 192.0.2.1:80 -r 10.0.0.1").table
    assert (service.scheduler, service.persistence) == ("wlc", Persistence(360, 2**32 - 1))
    assert service.backends == (Backend("10.0.0.1", 80, Forwarding.DIRECT, 1),)


def test_edits_and_removals_are_carried_out_in_their_order() -> None:
    read = ipvsadm.parse(
        WEB + "-a -t 192.0.2.1:80 -r 10.0.0.1 -m -w 5\n-a -t 192.0.2.1:80 -r 10.0.0.2 -m\n"
        "-e -t 192.0.2.1:80 -r 10.0.0.1 -g -w 7\n-d -t 192.0.2.1:80 -r 10.0.0.2\n-E -t 192.0.2.1:80 -s lc\n"
        "-A -f 3\n-D -f 3\n"
    )
    (service,) = read.table
    assert read.is_whole and service.scheduler == "lc"
    assert service.backends == (Backend("10.0.0.1", 80, Forwarding.DIRECT, 7),)
    assert ipvsadm.parse(WEB + "-C").table == Table()


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("-A -t 192.0.2.300:80 -s rr", "not an IP address"),
        ("-A -t 192.0.2.2:99999", "from 0 to 65535"),
        ("-A -t 192.0.2.2:٣", "from 0 to 65535"),
        ("-A -t [2001:db8::1:80", "not an endpoint"),
        ("-A -t fe80::1%eth0", "not an IP address"),
        ("-A -t 192.0.2.1:80", "added in line 1 already"),
        ("-A -s rr", "names no service"),
        ("-A -t 192.0.2.2:80 -u 192.0.2.2:80", "names two services"),
        ("-A -t 192.0.2.2:80 -6", "-6 goes with -f only"),
        ("-A -t 192.0.2.2:80 -s rr -s wrr", "there twice"),
        ("-A -a -t 192.0.2.2:80", "two commands"),
        ("-A -t 192.0.2.2:80 -w 3", "does not go with --add-service"),
        ("-A -t 192.0.2.2:80 -p 1 -M 24", "255.255.255.0"),
        ("-A -t [2001:db8::1]:80 -p 1 -M 129", "from 1 to 128"),
        ("-A -t 192.0.2.2:80 -s rr -b sh-port", "no flag of rr"),
        ("-A -t 192.0.2.2:80 --what", "no option of ipvsadm"),
        ("-A -t 192.0.2.2:80 rest", "belongs to no option"),
        ("-A -t", "has no value"),
        ("-A -f 0x10", "firewall mark"),
        ("-A --protocol-number-0 192.0.2.2:80", "-f and the mark"),
        ("-t 192.0.2.2:80", "no command"),
        ("-A -t '192.0.2.2:80", "quote is not closed"),
        ("-a -t 192.0.2.9:80 -r 10.0.0.1", "No line before this adds"),
        ("-a -t 192.0.2.1:80", "names no backend"),
        ("-a -t 192.0.2.1:80 -r 10.0.0.1 -m -g", "exclude each other"),
        ("-a -t 192.0.2.1:80 -r 10.0.0.1 -w -1", "from 0 to"),
        ("-a -t 192.0.2.1:80 -r 10.0.0.1 -m --tun-type gue", "needs a tunnel"),
        ("-a -t 192.0.2.1:80 -r 10.0.0.1 -i --tun-type vxlan", "Known are ipip, gue, gre"),
        ("-e -t 192.0.2.1:80 -r 10.0.0.1", "is no backend"),
        ("-A -t 192.0.2.2:80 " + "x" * 5000, "too long"),
    ],
)
def test_a_bad_line_is_named_with_a_remedy_and_the_rest_is_read(line: str, says: str) -> None:
    read = ipvsadm.parse(f"{WEB}{line}\n-A -f 7 -s rr\n")
    assert [str(service.key) for service in read.table] == ["firewall mark 7", "TCP 192.0.2.1:80"]
    (note,) = read.errors
    assert note.line == 2 and says in f"{note.text} {note.remedy}" and not read.is_whole
    assert note.text.endswith(".") and note.remedy.endswith(".")


@pytest.mark.parametrize(
    "line", ["-A -t shop.example:80", "-A -t 192.0.2.2:http", "-n --set 900 120 300", "-A -f 9 -M 255.0.0.0"]
)
def test_what_a_table_cannot_hold_is_called_lost_not_wrong(line: str) -> None:
    read = ipvsadm.parse(WEB + line)
    assert [(note.line, note.level) for note in read.notes] == [(2, Level.LOST)] and not read.is_whole


def test_backends_of_an_unread_service_point_to_its_line() -> None:
    read = ipvsadm.parse(
        "-A -t shop.example:80\n-a -t shop.example:80 -r 10.0.0.1 -m\n-A -t 1:80\n-a -t 1:80 -r 1"
    )
    assert len(read.table) == 0 and len(read.notes) == 4


def test_a_port_that_ipvsadm_would_change_is_mentioned() -> None:
    read = ipvsadm.parse(WEB + "-a -t 192.0.2.1:80 -r 10.0.0.1:8080 -g")
    (note,) = read.notes
    assert note.level is Level.MAPPED and "silently use 80" in note.text


def test_the_report_goes_line_by_line() -> None:
    text = f"# head\n{WEB}-A -t shop.example:80\n-A -t 192.0.2.1:x!\n"
    levels = [level for _, _, level, _ in ipvsadm.parse(text).by_line(text)]
    assert levels == [None, Level.MAPPED, Level.LOST, Level.LOST, None]


_pieces = st.sampled_from(
    SAVED.replace("\n", " \n ").split(" ") + ["", "-b", "--", "-", "'", "\\", "#", "\0", "-p"]
)


@given(st.text() | st.lists(_pieces | st.text(max_size=5), max_size=60).map(" ".join))
def test_no_text_makes_the_reader_fail(text: str) -> None:
    read = ipvsadm.parse(text)
    again = ipvsadm.parse(ipvsadm.render(read.table))
    assert again.table == read.table


def test_large_marks_are_read_as_the_tool_saves_them() -> None:
    (service,) = ipvsadm.parse("-A -f -1 -s rr\n").table
    assert service.key.mark == 2**32 - 1


@pytest.mark.parametrize(
    "service",
    [
        Service(ServiceKey(Protocol.FIREWALL_MARK, "0.0.0.0", 0, 0)),
        Service(ServiceKey(Protocol.TCP, "192.0.2.1", 0)),
        Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80), flags=ServiceFlags.ONE_PACKET),
        Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80), flags=ServiceFlags(0x40)),
        Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80), persistence=Persistence(2678401, 2**32 - 1)),
    ],
)
def test_a_line_that_would_stop_the_tool_is_marked_so_that_it_goes_on(service: Service) -> None:
    (line,) = ipvsadm.save(Table((service,)))
    assert line.startswith("-A --beyond-ipvsadm ") and ipvsadm.parse(line).table == Table((service,))
