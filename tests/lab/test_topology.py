"""Both modes of the article on one LAN, programmed with plain ipvsadm: the witness is not code of ours."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from lab import Lab
from lab.layout import CLIENT, CLIENT6, SPARE_VIP, SPARE_VIP6, VIP, VIP6, lan4, lan6

pytestmark = pytest.mark.traffic

# The kernel's estimator copies the counters every two seconds.
COUNTERS_LAG_S = 2.5
FAMILIES = pytest.mark.parametrize("ipv6", [False, True], ids=["ipv4", "ipv6"])

SEND_DATAGRAMS = """
import socket, sys
family, address = (socket.AF_INET6 if ":" in sys.argv[1] else socket.AF_INET), (sys.argv[1], 53)
for number in range(4):
    with socket.socket(family, socket.SOCK_DGRAM) as client:
        client.settimeout(3)
        client.connect(address)
        client.send(b"ping")
        print(client.recv(100).decode())
"""

Serve = Callable[..., str]


@dataclass(frozen=True)
class Answer:
    server: str
    client: str
    address: str


@pytest.fixture
def serve(room: Lab) -> Iterator[Serve]:
    """Make a service with backends on real1 and real2; it is deleted after the test."""
    made = []

    def add(option: str, vip: str, port: int, mode: str, director: str = "director1") -> str:
        names = [lan6(name) if ":" in vip else lan4(name) for name in ("real1", "real2")]
        service = f"{option} {socket_text(vip, port)}"
        lines = [
            f"-A {service} -s rr",
            *(f"-a {service} -r {socket_text(name, port)} {mode}" for name in names),
        ]
        made.append((director, service.split()))
        done = room.execute(director, ["ipvsadm", "-R"], input="\n".join(lines) + "\n")
        assert done.returncode == 0, done.stderr
        return service

    yield add
    for director, service in made:
        room.execute(director, ["ipvsadm", "-D", *service])


def socket_text(address: str, port: int) -> str:
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def fetch(room: Lab, vip: str, port: int = 80, times: int = 4) -> list[Answer]:
    """Requests from the client, each on a connection of its own."""
    url = f"http://{socket_text(vip, port)}/"
    script = f"for i in $(seq {times}); do curl -sg -m 5 -D - -o /dev/null {url}; done"
    done = room.execute("client", ["sh", "-c", script])
    heads = [head for head in done.stdout.replace("\r", "").split("\n\n") if head]
    fields = [dict(line.split(": ", 1) for line in head.splitlines()[1:]) for head in heads]
    return [Answer(field["X-Server"], field["X-Client"], field["X-Address"]) for field in fields]


def packets(room: Lab, vip: str, port: int, director: str = "director1") -> tuple[int, int]:
    """Incoming and outgoing packets of a service, as the director counted them."""
    time.sleep(COUNTERS_LAG_S)
    table = room.execute(director, ["ipvsadm", "-Ln", "--stats", "--exact"]).stdout
    for line in table.splitlines():
        parts = line.split()
        if parts and parts[0] != "->" and socket_text(vip, port) in parts:
            return int(parts[3]), int(parts[4])
    raise AssertionError(table)


@FAMILIES
def test_masquerading_goes_through_the_director_both_ways(room: Lab, serve: Serve, ipv6: bool) -> None:
    vip = VIP6 if ipv6 else VIP
    serve("-t", vip, 80, "-m")
    answers = fetch(room, vip)
    servers = [answer.server for answer in answers]
    assert servers in (["real1", "real2"] * 2, ["real2", "real1"] * 2)
    assert {answer.client for answer in answers} == {CLIENT6 if ipv6 else CLIENT}
    assert {answer.address for answer in answers} == {
        lan6(name) if ipv6 else lan4(name) for name in ("real1", "real2")
    }
    incoming, outgoing = packets(room, vip, 80)
    assert incoming > 12 and outgoing > 12


@FAMILIES
@pytest.mark.parametrize("director", ["director1", "director2"])
def test_direct_routing_replies_pass_the_director_by(
    room: Lab, serve: Serve, ipv6: bool, director: str
) -> None:
    first = director == "director1"
    vip = (VIP6 if first else SPARE_VIP6) if ipv6 else (VIP if first else SPARE_VIP)
    serve("-t", vip, 8080, "-g", director)
    answers = fetch(room, vip, 8080)
    assert [answer.server for answer in answers] in (["real1", "real2"] * 2, ["real2", "real1"] * 2)
    assert {answer.client for answer in answers} == {CLIENT6 if ipv6 else CLIENT}
    assert {answer.address for answer in answers} == {vip}
    incoming, outgoing = packets(room, vip, 8080, director)
    assert incoming > 12 and outgoing == 0


@FAMILIES
@pytest.mark.parametrize("mode", ["-m", "-g"], ids=["masquerading", "direct-routing"])
def test_datagrams_come_back_from_the_address_they_went_to(
    room: Lab, serve: Serve, ipv6: bool, mode: str
) -> None:
    vip = VIP6 if ipv6 else VIP
    serve("-u", vip, 53, mode)
    done = room.execute("client", [room.python, "-S", "-c", SEND_DATAGRAMS, vip])
    assert sorted(done.stdout.splitlines()) == ["real1 ping"] * 2 + ["real2 ping"] * 2, done.stderr


@FAMILIES
def test_only_the_director_claims_the_vip_on_the_lan(room: Lab, ipv6: bool) -> None:
    vip, length = (VIP6, 128) if ipv6 else (VIP, 32)
    address = [f"{vip}/{length}", "dev", "eth0", *(["nodad"] if ipv6 else [])]

    def neighbour() -> str:
        room.execute("router", ["ip", "neigh", "flush", "to", vip, "dev", "eth0"])
        room.execute("router", ["curl", "-sg", "-m", "4", f"http://{socket_text(vip, 80)}/"])
        return room.execute("router", ["ip", "neigh", "show", "to", vip, "dev", "eth0"]).stdout

    mac = room.execute("director1", ["ip", "-br", "link", "show", "eth0"]).stdout.split()[2]
    assert mac in neighbour()
    room.execute("director1", ["ip", "addr", "del", *address[:3]])
    try:
        assert "lladdr" not in neighbour()
    finally:
        room.execute("director1", ["ip", "addr", "add", *address])


def test_a_connection_can_be_held_open(room: Lab, serve: Serve) -> None:
    serve("-t", VIP, 80, "-m")
    done = room.execute("client", ["curl", "-sv", "-m5", f"http://{VIP}/", f"http://{VIP}/"])
    assert done.stdout in ("real1\nreal1\n", "real2\nreal2\n")
    assert "Re-using existing connection" in done.stderr
