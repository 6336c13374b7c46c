"""A check on the clients' way goes through the tunnel, of whatever kind: it finds a real server that has lost
its virtual address, or the tunnel itself; a plain one notices neither."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from bench.orders import KEY, Orders
from bench.scene import DIRECTOR
from cluster.ipvs.state import (
    Backend,
    Forwarding,
    Protocol,
    Service,
    ServiceKey,
    Table,
    Tunnel,
    TunnelKind,
    endpoint,
)
from cluster.ipvs.traffic.checks import Check, CheckKind
from cluster.ipvs.traffic.policy import Policy, Traffic
from lab.host import Lab, up
from lab.layout import REALS, VIP, VIP6, lan4, lan6
from tests.traffic.test_clients_way import run
from tests.traffic.witness import ask, saved, servers

pytestmark = pytest.mark.traffic

WITHIN_S = 30.0
# Some checks of each backend.
A_WHILE_S = 4.0
GUE_PORT = 6080
KINDS = {
    "real1": Tunnel(TunnelKind.IPIP),
    "real2": Tunnel(TunnelKind.GUE, GUE_PORT),
    "real3": Tunnel(TunnelKind.GRE),
}
THROUGH = Check(CheckKind.HTTP, interval_s=0.5, timeout_s=1, rise=1, fall=2, through_service=True)
PLAIN = Check(CheckKind.HTTP, interval_s=0.5, timeout_s=1, rise=1, fall=2)
TUNNELLED, PLAINLY = 8080, 80
MODULES = ("ipip", "fou", "ip_gre", "ip6_tunnel", "fou6", "ip6_gre")


@dataclass(frozen=True)
class Family:
    """One family's addresses, and the interfaces that the real servers take packets out of tunnels with. What
    came by GUE comes out of the same interface as what came by IPIP."""

    vip: str
    reals: dict[str, str]
    devices: dict[str, str]

    def key(self, port: int) -> ServiceKey:
        return ServiceKey(Protocol.TCP, self.vip, port)

    def tables(self) -> Iterator[tuple[Service, Policy]]:
        """The real servers twice: through tunnels, each of another kind, and by address translation."""
        tunnelled = [
            Backend(self.reals[real], TUNNELLED, Forwarding.TUNNEL, tunnel=tunnel)
            for real, tunnel in KINDS.items()
        ]
        yield Service(self.key(TUNNELLED), "rr", backends=tuple(tunnelled)), Policy(THROUGH)
        plainly = [Backend(self.reals[real], PLAINLY) for real in REALS]
        yield Service(self.key(PLAINLY), "rr", backends=tuple(plainly)), Policy(PLAIN)

    def weight(self, lab: Lab, port: int, real: str) -> str:
        """As ipvsadm says it."""
        start = f"-a -t {endpoint(self.vip, port)} -r {endpoint(self.reals[real], port)} "
        (line,) = (line for line in saved(lab, DIRECTOR) if line.startswith(start))
        return line.split("-w ")[1].split()[0]

    def wait_for_weight(self, lab: Lab, real: str, wanted: str) -> None:
        deadline = time.monotonic() + WITHIN_S
        while (found := self.weight(lab, TUNNELLED, real)) != wanted:
            assert time.monotonic() < deadline, f"{real} has weight {found}, not {wanted}"
            time.sleep(0.3)

    @property
    def prefix(self) -> int:
        return 128 if ":" in self.vip else 32


IPV4 = Family(
    VIP, {real: lan4(real) for real in REALS}, {"real1": "tunl0", "real2": "tunl0", "real3": "gre0"}
)
IPV6 = Family(
    VIP6, {real: lan6(real) for real in REALS}, {"real1": "ip6in", "real2": "ip6in", "real3": "ip6gre0"}
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = up(tmp_path_factory.mktemp("tunnels"), panel_public_key=KEY.public, attached=True)
    try:
        run(lab, "hub", "modprobe", "-a", *MODULES)
        for family in ("-4", "-6"):
            run(lab, "real2", "ip", family, "fou", "add", "port", str(GUE_PORT), "gue")
        for real in ("real1", "real2"):
            # What is there by itself, ip6tnl0, takes no packets.
            told = ("mode", "ip6ip6", "local", lan6(real), "remote", "::")
            run(lab, real, "ip", "link", "add", "ip6in", "type", "ip6tnl", *told)
        for family in (IPV4, IPV6):
            for real, device in family.devices.items():
                run(lab, real, "ip", "link", "set", device, "up")
        accept = "for one in /proc/sys/net/ipv4/conf/*/accept_local; do echo 1 > $one; done"
        run(lab, DIRECTOR, "sh", "-c", accept)
        # Else the kernel sends tunnels from the virtual address, which the real servers have themselves.
        change = ("address", "change", f"{VIP6}/128", "dev", "eth0", "preferred_lft", "0")
        run(lab, DIRECTOR, "ip", "-6", *change)
        services = [*IPV4.tables(), *IPV6.tables()]
        policies = {service.key: policy for service, policy in services}
        Orders(lab, DIRECTOR).apply(Table(tuple(service for service, _ in services)), Traffic(policies))
        yield lab
    finally:
        lab.down()


@pytest.fixture(params=[IPV4, IPV6], ids=["IPv4", "IPv6"])
def family(request: pytest.FixtureRequest) -> Family:
    found: Family = request.param
    return found


def test_clients_and_checks_go_through_every_kind_of_tunnel(lab: Lab, family: Family) -> None:
    time.sleep(A_WHILE_S)
    assert [family.weight(lab, TUNNELLED, real) for real in REALS] == ["1", "1", "1"]
    found = servers(ask(lab, 6, f"http://{endpoint(family.vip, TUNNELLED)}/"))
    assert found == dict.fromkeys(REALS, 2)


@pytest.mark.parametrize("real", REALS)
def test_a_real_server_without_its_virtual_address_is_found_out(lab: Lab, family: Family, real: str) -> None:
    address = (f"{family.vip}/{family.prefix}", "dev", "lo")
    run(lab, real, "ip", "address", "del", *address)
    family.wait_for_weight(lab, real, "0")
    assert family.weight(lab, PLAINLY, real) == "1", "the plain check notices nothing"
    others = [family.weight(lab, TUNNELLED, other) for other in REALS if other != real]
    assert others == ["1", "1"]
    run(lab, real, "ip", "address", "add", *address, *(("nodad",) if family is IPV6 else ()))
    family.wait_for_weight(lab, real, "1")


@pytest.mark.parametrize("real", REALS)
def test_a_real_server_whose_tunnel_is_down_is_found_out(lab: Lab, family: Family, real: str) -> None:
    run(lab, real, "ip", "link", "set", family.devices[real], "down")
    family.wait_for_weight(lab, real, "0")
    assert family.weight(lab, PLAINLY, real) == "1"
    run(lab, real, "ip", "link", "set", family.devices[real], "up")
    family.wait_for_weight(lab, real, "1")


def test_a_director_that_would_send_from_the_virtual_address_sends_from_its_own(lab: Lab) -> None:
    """Direct routing over IPv6, with the virtual address as one that the kernel prefers."""
    prefer = ("address", "change", f"{VIP6}/128", "dev", "eth0", "preferred_lft", "forever")
    run(lab, DIRECTOR, "ip", "-6", *prefer, "valid_lft", "forever")
    backends = tuple(Backend(lan6(real), PLAINLY, Forwarding.DIRECT) for real in REALS)
    service = Service(IPV6.key(PLAINLY), "rr", backends=backends)
    Orders(lab, DIRECTOR).apply(Table((service,)), Traffic({service.key: Policy(THROUGH)}))
    time.sleep(A_WHILE_S)
    assert [IPV6.weight(lab, PLAINLY, real) for real in REALS] == ["1", "1", "1"]
    run(lab, "real1", "ip", "address", "del", f"{VIP6}/128", "dev", "lo")
    deadline = time.monotonic() + WITHIN_S
    while IPV6.weight(lab, PLAINLY, "real1") != "0":
        assert time.monotonic() < deadline
        time.sleep(0.3)
    run(lab, "real1", "ip", "address", "add", f"{VIP6}/128", "dev", "lo", "nodad")
