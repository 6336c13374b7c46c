"""keepalived.conf: its LVS part is read as keepalived 2.2.7 would run it, and a bad line is named."""

from __future__ import annotations

from pathlib import Path

import pytest

from cluster.ipvs.formats import ipvsadm
from cluster.ipvs.formats.fidelity import HealthCheck, Level
from cluster.ipvs.formats.keepalived_reader import parse
from cluster.ipvs.state import Backend, Forwarding, Protocol
from tests.formats.keepalived_program import complaints

HEAD = "virtual_server 192.0.2.1 80 {\n lvs_sched rr\n lvs_method NAT\n protocol TCP\n"
REAL = " real_server 10.0.0.1 80 {\n }\n}\n"


def _lines(text: str) -> list[str]:
    read = parse(text)
    assert not read.errors, read.errors
    return ipvsadm.save(read.table)


def _settings(line: str) -> str:
    """The -A line of a TCP service with this line in its block."""
    return _lines(f"{HEAD} {line}\n{REAL}")[0].removeprefix("-A -t 192.0.2.1:80 ")


@pytest.mark.parametrize(
    ("line", "settings"),
    [
        ("", "-s rr"),
        ("lb_algo wrr", "-s wrr"),
        ("persistence_timeout", "-s rr -p 360"),
        ("persistence_timeout 50", "-s rr -p 50"),
        ("persistence_granularity 255.255.255.0", "-s rr -p 360 -M 255.255.255.0"),
        ("persistence_granularity 255.0.255.0", "-s rr -p 360 -M 255.0.255.0"),
        ("persistence_timeout 9\n persistence_engine sip", "-s rr -p 9 --pe sip"),
        ("flag-1\n flag-3", "-s rr -b flag-1,flag-3"),
        ("lvs_sched sh\n sh-port\n sh-fallback", "-s sh -b sh-fallback,sh-port"),
        ("lvs_sched mh\n mh-port", "-s mh -b mh-port"),
        ("lvs_sched sh\n hashed", "-s sh"),
        ('lvs_sched "wlc" # quoted', "-s wlc"),
        ("lvs_sched wlc ! comment { with } braces", "-s wlc"),
        ("lvs_sched\twlc\r", "-s wlc"),
    ],
)
def test_settings_of_a_service(line: str, settings: str, tmp_path: Path) -> None:
    assert _settings(line) == settings
    assert complaints(f"{HEAD} {line}\n{REAL}", tmp_path) == []


@pytest.mark.parametrize(
    ("method", "words"),
    [
        ("NAT", "-m -w 1"),
        ("DR", "-g -w 1"),
        ("TUN", "-i -w 1 --tun-type ipip"),
        ("TUN type ipip nocsum", "-i -w 1 --tun-type ipip"),
        ("TUN type gre csum", "-i -w 1 --tun-type gre --tun-csum"),
        ("TUN type gue port 6080 remcsum", "-i -w 1 --tun-type gue --tun-port 6080 --tun-remcsum"),
    ],
)
def test_methods_of_a_service_and_of_one_server(method: str, words: str, tmp_path: Path) -> None:
    of_all = HEAD.replace("lvs_method NAT", f"lb_kind {method}") + REAL
    of_one = HEAD + REAL.replace("{\n }", f"{{\n lvs_method {method}\n }}")
    for text in (of_all, of_one):
        assert _lines(text)[1] == f"-a -t 192.0.2.1:80 -r 10.0.0.1:80 {words}"
        assert complaints(text, tmp_path) == []


def test_what_is_not_said_is_what_keepalived_takes_then(tmp_path: Path) -> None:
    text = "virtual_server 192.0.2.1 {\n weight 7\n real_server 10.0.0.1 {\n }\n}\n"
    read = parse(text)
    assert ipvsadm.save(read.table) == [
        "-A -u 192.0.2.1:0 -s wlc -p 360",
        "-a -u 192.0.2.1:0 -r 10.0.0.1:0 -m -w 7",
    ]
    (note,) = read.notes
    assert (note.line, note.level) == (1, Level.MAPPED)
    said = " ".join(complaints(text, tmp_path))
    for ours, its in (
        ("protocol UDP", "defaulting to UDP"),
        ("lvs_sched wlc", "setting default 'wlc'"),
        ("lvs_method NAT", "setting default NAT"),
        ("persistence_timeout 360", "zero port only valid for persistent services - setting"),
    ):
        assert ours in note.text and its in said


def test_a_group_is_one_service_for_each_of_its_addresses_and_marks(tmp_path: Path) -> None:
    text = """
virtual_server_group web {
    192.0.2.7-9 80
    192.0.2.255-192.0.3.1 81
    198.51.100.8/31 80
    2001:db8::a-b 80
    fwmark 5 inet
    fwmark 5 inet6
}
virtual_server group web {
    lvs_sched rr
    lvs_method TUN
    protocol TCP
    real_server 10.0.0.1 {
        weight 3
    }
}
"""
    v4 = ["192.0.2.7:80", "192.0.2.8:80", "192.0.2.9:80"]
    v4 += ["192.0.2.255:81", "192.0.3.0:81", "192.0.3.1:81", "198.51.100.8:80", "198.51.100.9:80"]
    keys = {f"TCP {where}" for where in [*v4, "[2001:db8::a]:80", "[2001:db8::b]:80"]}
    read = parse(text)
    assert read.is_whole and {str(key) for key in read.table.keys} == keys | {
        "firewall mark 5",
        "firewall mark 5 IPv6",
    }
    for service in read.table:
        (backend,) = service.backends
        assert (backend.port, backend.weight) == (service.key.port, 3), "TUN cannot change the port"
    assert complaints(text, tmp_path) == []


def test_granularity_is_not_handed_on_to_a_group_as_in_keepalived() -> None:
    head = HEAD.replace("192.0.2.1 80", "group g") + " persistence_granularity 255.0.0.0\n"
    read = parse(f"virtual_server_group g {{\n 192.0.2.1 80\n}}\n{head}{REAL}")
    assert ipvsadm.save(read.table)[0] == "-A -t 192.0.2.1:80 -s rr -p 360"
    assert [note.level for note in read.notes] == [Level.MAPPED]


@pytest.mark.parametrize(
    ("inside", "family"),
    [
        ("real_server 10.0.0.1 {\n }", 4),
        ("real_server fd00::1 {\n }", 6),
        ("ip_family inet6\n lvs_method TUN\n real_server 10.0.0.1 {\n }", 6),
        ("lvs_method TUN\n real_server fd00::1 {\n }", 6),
        ("lvs_method TUN\n real_server fd00::1 {\n }\n real_server 10.0.0.1 {\n }", 4),
        ("persistence_granularity 64\n lvs_method TUN\n real_server 10.0.0.1 {\n }", 6),
    ],
)
def test_a_marks_family_is_found_as_keepalived_finds_it(inside: str, family: int) -> None:
    (service,) = parse(f"virtual_server fwmark 9 {{\n lvs_sched rr\n {inside}\n}}\n").table
    assert (service.key.family, service.key.mark) == (family, 9)
    assert service.key.protocol is Protocol.FIREWALL_MARK and service.backends


def test_a_port_that_cannot_be_changed_is_set_right_with_a_note(tmp_path: Path) -> None:
    text = (HEAD + REAL).replace("NAT", "DR").replace("10.0.0.1 80", "10.0.0.1 8080")
    read = parse(text)
    assert ipvsadm.save(read.table)[1] == "-a -t 192.0.2.1:80 -r 10.0.0.1:80 -g -w 1"
    assert [(note.line, note.level) for note in read.notes] == [(5, Level.MAPPED)]
    assert "ports don't match" in complaints(text, tmp_path)[0]


def test_a_sorry_server_stands_aside() -> None:
    more = " sorry_server 127.0.0.1 8080\n sorry_server_lvs_method DR\n sorry_server_inhibit\n"
    read = parse(HEAD + more + REAL)
    (service,) = read.table
    assert read.sorry == {service.key: Backend("127.0.0.1", 80, Forwarding.DIRECT)}
    assert [(note.line, note.level) for note in read.notes] == [(5, Level.MAPPED), (7, Level.LOST)]


CHECKS = """
virtual_server 192.0.2.1 80 {
    lvs_sched rr
    lvs_method NAT
    protocol TCP
    delay_loop 6
    virtualhost shop.example
    real_server 10.0.0.1 80 {
        weight 1
        retry 2
        uthreshold 100
        lthreshold 50
        HTTP_GET {
            url {
                path /one
                status_code 200-299 404
            }
            url {
                path /two
                digest 9b3a0c85a887a256d6939da88aabd8cd
                virtualhost other.example
            }
            connect_timeout 2.5
        }
        TCP_CHECK { connect_port 81 }
    }
    real_server 10.0.0.2 80 {
        MISC_CHECK {
            misc_path "/bin/true '#1' !"
            misc_timeout 4
        }
        DNS_CHECK {
            name example.net
            delay_loop 30
        }
        PING_CHECK {
        }
    }
}
"""


def test_checks_are_read_with_what_they_inherit(tmp_path: Path) -> None:
    read = parse(CHECKS)
    assert read.is_whole and not read.notes and complaints(CHECKS, tmp_path) == []
    (service,) = read.table
    assert [(one.upper, one.lower) for one in service.backends] == [(100, 50), (0, 0)]
    first, second = (read.checks[service.key, backend.key] for backend in service.backends)
    codes = {"path": "/one", "status_code": "200-299 404", "virtualhost": "shop.example"}
    digest = {"path": "/two", "digest": "9b3a0c85a887a256d6939da88aabd8cd", "virtualhost": "other.example"}
    assert first == (
        HealthCheck("http", codes, 6, 2.5, 2, 13),
        HealthCheck("http", digest, 6, 2.5, 2, 13),
        HealthCheck("tcp", {"connect_port": "81"}, 6, 5, 2, 25),
    )
    assert second == (
        HealthCheck("script", {"misc_path": "/bin/true '#1' !"}, 6, 4, 0, 28),
        HealthCheck("dns", {"name": "example.net"}, 30, 5, 3, 32),
        HealthCheck("ping", {}, 6, 5, 1, 36),
    )


@pytest.mark.parametrize(
    ("checker", "kind"),
    [
        ("SSL_GET {\n url {\n path /\n }\n enable_sni\n }", "https"),
        ("SMTP_CHECK {\n host {\n connect_ip 10.0.0.9\n }\n helo_name a.example\n }", "smtp"),
        ("UDP_CHECK {\n payload 00ff\n require_reply\n }", "udp"),
        ("BFD_CHECK {\n name b1\n }", "bfd"),
        ("FILE_CHECK {\n track_file f1\n weight 2\n }", "file"),
    ],
)
def test_every_checker_has_a_kind(checker: str, kind: str) -> None:
    read = parse(HEAD + REAL.replace("{\n }", f"{{\n {checker}\n }}"))
    assert read.is_whole, read.notes
    assert [check.kind for (check,) in read.checks.values()] == [kind]


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        (HEAD.replace("192.0.2.1", "192.0.2.300") + REAL, 1, "not an IP address"),
        (HEAD.replace("192.0.2.1 80", "192.0.2.1 80000") + REAL, 1, "from 0 to 65535"),
        (HEAD.replace("192.0.2.1 80", "fwmark x") + REAL, 1, "firewall mark"),
        (HEAD.replace("192.0.2.1 80", "group g") + REAL, 1, "no virtual_server_group"),
        (HEAD + "}\n", 1, "no real servers"),
        (HEAD + " lvs_sched fastest\n" + REAL, 5, "no scheduler"),
        (HEAD + " lvs_method VIA\n" + REAL, 5, "NAT, DR or TUN"),
        (HEAD + " lvs_method TUN type gue\n" + REAL, 5, "needs a port"),
        (HEAD + " lvs_method TUN type ipip csum\n" + REAL, 5, "no such checksum"),
        (HEAD + " lvs_method TUN fast\n" + REAL, 5, "no option of a tunnel"),
        (HEAD + " persistence_timeout 0\n" + REAL, 5, "from 1 to 2678400"),
        (HEAD + " persistence_granularity 24\n" + REAL, 5, "255.255.255.0"),
        (HEAD + " protocol GRE\n" + REAL, 5, "TCP, UDP or SCTP"),
        (HEAD + " sh-port\n" + REAL, 5, "for the scheduler sh alone"),
        (HEAD + " ip_family inet6\n" + REAL, 5, "other family"),
        (HEAD + " delay_loop x\n" + REAL, 5, "Give seconds"),
        (HEAD + " bogus 1\n" + REAL, 5, "keepalived has no"),
        (HEAD + ' virtualhost "open\n' + REAL, 5, "quote is not closed"),
        (HEAD + " real_server 10.0.0.1 80 {\n weight -1\n }\n}\n", 6, "from 0 to"),
        (HEAD + " real_server 10.0.0.1 80 {\n TCP_CHECK {\n url x\n }\n }\n}\n", 7, "nothing of TCP_CHECK"),
        (HEAD + " real_server 10.0.0.1 80 {\n HTTP_GET {\n }\n }\n}\n", 6, "has no url"),
        (HEAD + " real_server 10.0.0.1 80 {\n MISC_CHECK {\n }\n }\n}\n", 6, "no misc_path"),
        (HEAD + " real_server fd00::1 80 {\n }\n" + REAL, 5, "keepalived skips it"),
        (HEAD + " real_server 10.0.0.1 80 {\n }\n" + REAL, 7, "is in line 5 already"),
        (HEAD + REAL + "}\n", 8, "closes nothing"),
        (HEAD + REAL.removesuffix("}\n"), 1, "is not closed"),
        ("{\n" + HEAD + REAL + "}\n", 1, "belongs to no keyword"),
        ("nonsense\n" + HEAD + REAL, 1, "no block"),
        ("virtual_server_group g {\n 192.0.2.9-3 80\n}\n", 2, "ends before it begins"),
        ("virtual_server_group g {\n 192.0.2.1/24 80\n}\n", 2, "no network"),
        ("virtual_server_group g {\n 2001:db8::/64 80\n}\n", 2, "65536 are read"),
        ("virtual_server_group g {\n}\n", 1, "is empty"),
        ("x" * 2000 + "\n" + HEAD + REAL, 1, "too long"),
    ],
)
def test_a_bad_line_is_named_with_a_remedy(text: str, line: int, says: str) -> None:
    read = parse(text + "\nvirtual_server fwmark 7 {\n real_server 10.0.0.9 {\n }\n}\n")
    note = read.errors[0]
    assert note.line == line and says in f"{note.text} {note.remedy}", read.errors
    assert note.text.endswith(".") and note.remedy.endswith(".")
    is_inside = "is not closed" in says
    assert is_inside or any(key.mark == 7 for key in read.table.keys), "what follows is read"


def test_the_same_service_twice_is_named() -> None:
    read = parse(HEAD + REAL + HEAD + REAL)
    assert [(note.line, "in line 1 already" in note.text) for note in read.errors] == [(8, True)]


@pytest.mark.parametrize("line", ["quorum 2", "ha_suspend", "omega", 'quorum_up "/bin/x"', "smtp_alert"])
def test_what_a_table_cannot_hold_is_called_lost(line: str) -> None:
    read = parse(f"{HEAD} {line}\n{REAL}")
    assert [(note.line, note.level) for note in read.notes] == [(5, Level.LOST)]


@pytest.mark.parametrize("line", ["quorum 1", "hysteresis 0", "smtp_alert no"])
def test_what_says_nothing_is_not_called_lost(line: str) -> None:
    assert parse(f"{HEAD} {line}\n{REAL}").notes == ()


def test_other_daemons_parts_have_one_note_each() -> None:
    text = "global_defs {\n router_id a\n lvs_sync_daemon eth0 V1\n}\n"
    text += "vrrp_instance V1 {\n virtual_ipaddress {\n 192.0.2.1\n }\n @main priority 3\n}\n"
    notes = parse(text + HEAD + REAL).notes
    assert [(note.line, note.level) for note in notes] == [(n, Level.LOST) for n in (1, 3, 5)]


def test_a_hosts_name_is_not_looked_up() -> None:
    (note,) = parse((HEAD + REAL).replace("192.0.2.1", "shop.example")).notes
    assert (note.line, note.level) == (1, Level.LOST)


def test_backends_of_large_groups_are_counted_before_they_are_made() -> None:
    reals = "".join(f" real_server 10.0.0.{number} {{\n }}\n" for number in range(1, 20))
    text = "virtual_server_group g {\n 10.1.0.0/16 80\n}\nvirtual_server group g {\n" + reals + "}\n"
    read = parse(text)
    assert len(read.table) == 0 and "more than 1000000 backends" in read.errors[0].text
