"""A check on the clients' way finds a real server that has lost its virtual address; a plain one does not."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from bench.orders import KEY, Orders
from bench.scene import DIRECTOR, MODES, both_services
from cluster.ipvs.state import Forwarding
from cluster.ipvs.traffic.checks import Check
from cluster.ipvs.traffic.policy import Policy, Traffic
from lab.host import Lab, up
from lab.layout import VIP, lan4

pytestmark = pytest.mark.traffic

WITHIN_S = 30.0


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    lab = up(tmp_path_factory.mktemp("clients-way"), panel_public_key=KEY.public, attached=True)
    yield lab
    lab.down()


def weight_of(lab: Lab, port: int, real: str) -> str:
    """As ipvsadm says it of one real server behind one port of the virtual address."""
    lines = lab.execute(DIRECTOR, ["ipvsadm", "-Sn"]).stdout.splitlines()
    (line,) = (line for line in lines if f"-t {VIP}:{port} -r {lan4(real)}:" in line)
    return line.split("-w ")[1].split()[0]


def wait_for_weight(lab: Lab, port: int, real: str, wanted: str) -> None:
    deadline = time.monotonic() + WITHIN_S
    while (found := weight_of(lab, port, real)) != wanted:
        assert time.monotonic() < deadline, f"{real} behind port {port} has weight {found}, not {wanted}"
        time.sleep(0.3)


def run(lab: Lab, node: str, *words: str) -> None:
    done = lab.execute(node, list(words))
    assert done.returncode == 0, done.stderr


def test_a_real_server_without_its_virtual_address_is_found_out(lab: Lab) -> None:
    plain = Check(interval_s=0.5, timeout_s=1, rise=1, fall=2)
    through = Check(interval_s=0.5, timeout_s=1, rise=1, fall=2, through_service=True)
    policies = {
        service.key: Policy(through if service.backends[0].forwarding is Forwarding.DIRECT else plain)
        for service in both_services()
    }
    # The answer comes from an address that is the director's own.
    run(
        lab, DIRECTOR, "sh", "-c", "for one in /proc/sys/net/ipv4/conf/*/accept_local; do echo 1 > $one; done"
    )
    Orders(lab, DIRECTOR).apply(both_services(), Traffic(policies))
    (masquerade, _), (direct, _) = MODES["masquerade"], MODES["direct"]
    paths = [
        line for line in lab.execute(DIRECTOR, ["ipvsadm", "-Sn"]).stdout.splitlines() if "-A -f" in line
    ]
    assert len(paths) == 3, "a firewall mark for each real server behind direct routing"
    time.sleep(3)
    assert [weight_of(lab, direct, real) for real in ("real1", "real2", "real3")] == ["1", "1", "1"]

    run(lab, "real1", "ip", "address", "del", f"{VIP}/32", "dev", "lo")
    wait_for_weight(lab, direct, "real1", "0")
    assert weight_of(lab, masquerade, "real1") == "1", "the plain check notices nothing"
    assert weight_of(lab, direct, "real2") == "1"

    run(lab, "real1", "ip", "address", "add", f"{VIP}/32", "dev", "lo")
    wait_for_weight(lab, direct, "real1", "1")
