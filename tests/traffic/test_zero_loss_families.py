"""A drain over IPv6 and of datagrams: every real server is drained, ended and started, and nobody notices."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest

from bench.clients import Answers, Group
from bench.orders import KEY, Orders
from bench.scene import CHECK, DIRECTOR, Program, clients_in
from cluster.ipvs.state import Backend, Forwarding, Protocol, Service, ServiceFlags, ServiceKey, Table
from cluster.ipvs.traffic.checks import Check, CheckKind
from cluster.ipvs.traffic.policy import Drain, Policy, Target, Traffic
from lab.host import Lab, up
from lab.layout import REALS, VIP, VIP6, lan4, lan6
from tests.traffic.test_clients_way import run
from tests.traffic.witness import saved

pytestmark = pytest.mark.traffic

UDP_CHECK = Check(CheckKind.UDP, interval_s=1, timeout_s=1, rise=1, fall=3, payload="?", expects="real")
# How long a silent UDP client is remembered: by default 300 s, for which nobody waits in a test.
UDP_TIMEOUT_S = 3
WITHIN_S = 40.0
NATTED, DIRECT, DNS = 80, 8080, 53


def service(protocol: Protocol, vip: str, port: int, forwarding: Forwarding, flags: int = 0) -> Service:
    own = lan6 if ":" in vip else lan4
    backends = tuple(Backend(own(real), port, forwarding) for real in REALS)
    key = ServiceKey(protocol, vip, port)
    return Service(key, "wrr", ServiceFlags(flags), backends=backends)


SERVICES = (
    service(Protocol.TCP, VIP6, NATTED, Forwarding.MASQUERADE),
    service(Protocol.TCP, VIP6, DIRECT, Forwarding.DIRECT),
    service(Protocol.UDP, VIP, DNS, Forwarding.MASQUERADE),
    # One that asks from the same port for ever can be drained where each datagram is scheduled anew.
    service(Protocol.UDP, VIP6, DNS, Forwarding.DIRECT, ServiceFlags.ONE_PACKET),
)
PEOPLE = [
    Group("masquerade, kept", VIP6, NATTED, 40, pause_s=1.0),
    Group("masquerade, new", VIP6, NATTED, 5, pause_s=0.2, keeps_alive=False),
    Group("direct, kept", VIP6, DIRECT, 40, pause_s=1.0),
    Group("direct, new", VIP6, DIRECT, 5, pause_s=0.2, keeps_alive=False),
]
DATAGRAMS = [
    {"name": "new ports", "address": VIP, "port": DNS, "clients": 5, "pause_s": 0.2, "keeps_port": False},
    {"name": "one port", "address": VIP6, "port": DNS, "clients": 10, "pause_s": 0.4, "keeps_port": True},
]


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = up(tmp_path_factory.mktemp("families"), panel_public_key=KEY.public, attached=True)
    try:
        lab.stop_worker("director2")
        run(lab, DIRECTOR, "ipvsadm", "--set", "0", "0", str(UDP_TIMEOUT_S))
        yield lab
    finally:
        lab.down()


def apply(orders: Orders, *drains: Drain) -> None:
    checks = {one.key: Policy(UDP_CHECK if one.key.protocol is Protocol.UDP else CHECK) for one in SERVICES}
    switches = {"expire_nodest_conn": "1"}
    orders.apply(Table(SERVICES), Traffic(checks, drains, switches=switches))


def weights(lab: Lab, real: str) -> set[str]:
    """What its services give this real server."""
    own = (f"-r {lan4(real)}:", f"-r [{lan6(real)}]:")
    lines = [line for line in saved(lab, DIRECTOR) if any(name in line for name in own)]
    assert len(lines) == len(SERVICES)
    return {line.split("-w ")[1].split()[0] for line in lines}


def datagram_clients(lab: Lab, real: str) -> int:
    """How many UDP clients the director still remembers of this real server."""
    text = lab.execute(DIRECTOR, ["ipvsadm", "-Ln"]).stdout
    rows = [line.split() for line in text.splitlines() if f"-> {lan4(real)}:{DNS} " in line]
    return sum(int(row[4]) + int(row[5]) for row in rows)


def wait_until(lab: Lab, real: str, what: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while datagram_clients(lab, real) > 0 if what == "no datagram client" else weights(lab, real) != {what}:
        assert time.monotonic() < deadline, f"{real} never came to {what}"
        time.sleep(0.3)


def test_nobody_notices_a_rolling_restart_over_ipv6_and_udp(lab: Lab) -> None:
    orders = Orders(lab, DIRECTOR)
    apply(orders)
    udp = Program(lab, "client", "tests.traffic.datagrams", json.dumps(DATAGRAMS))
    with clients_in(lab, PEOPLE) as people, udp:
        for number, real in enumerate(REALS, 1):
            hosts = (Target(address=lan4(real)), Target(address=lan6(real)))
            apply(orders, Drain(number, hosts, begins_at=0.0))
            assert weights(lab, real) == {"0"}
            wait_until(lab, real, "no datagram client")
            lab.real_server("stop", real)
            lab.real_server("start", real)
            apply(orders)
            wait_until(lab, real, "1")
            time.sleep(2)
    answers = Answers.read(people.said[-1])
    for name, one in answers.items():
        assert one.failures == () and one.requests > 50, f"{name}: {one}"
    for name, said in udp.said[-1].items():
        assert said["failures"] == [] and said["requests"] > 50, f"{name}: {said}"
        assert set(said["servers"]) == set(REALS), f"{name}: {said}"


def test_a_datagram_server_that_is_not_drained_is_noticed(lab: Lab) -> None:
    """The clients do see what there is to see."""
    with Program(lab, "client", "tests.traffic.datagrams", json.dumps(DATAGRAMS)) as udp:
        lab.real_server("stop", "real1")
        time.sleep(1)
        lab.real_server("start", "real1")
        time.sleep(1)
    assert all(said["failures"] for said in udp.said[-1].values()), udp.said[-1]
