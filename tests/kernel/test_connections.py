"""Real connections through a real table, found again in the kernel's list of them."""

from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from cluster.director.kernel import KernelUnavailable, NoAnswer
from cluster.director.kernel.connection_file import connections, count_connections
from cluster.director.kernel.memory import MemoryKernel
from cluster.director.kernel.netlink import NetlinkKernel
from cluster.ipvs.connections import ConnectionCounts
from cluster.ipvs.formats import proc
from cluster.ipvs.state import (
    Backend,
    BackendKey,
    Forwarding,
    Persistence,
    Protocol,
    Service,
    ServiceKey,
    Table,
    Tunnel,
)
from tests.kernel.test_contract import make

SO_MARK = 36
INVITE = b"INVITE sip:b@192.0.2.1 SIP/2.0\r\nCall-ID: abc@10.9.8.7\r\nContent-Length: 0\r\n\r\n"
ALONE = 0xFFFFFFFF


def one(protocol: Protocol, port: int, **settings: Persistence) -> Service:
    key = ServiceKey(protocol, "192.0.2.1", port)
    return Service(key, backends=(Backend("10.0.0.1", port),), **settings)


def six(protocol: Protocol, port: int, **settings: Persistence) -> Service:
    key = ServiceKey(protocol, "2001:db8::1", port)
    return Service(key, backends=(Backend("fd00::1", port),), **settings)


WEB, WEB6 = one(Protocol.TCP, 80), six(Protocol.TCP, 80)
DNS, DNS6 = one(Protocol.UDP, 53, persistence=Persistence(300, 0xFFFFFF00)), six(Protocol.UDP, 53)
SIP = one(Protocol.UDP, 5060, persistence=Persistence(300, ALONE, "sip"))
MIXED = Service(
    ServiceKey(Protocol.UDP, "2001:db8::1", 54),
    backends=(Backend("10.0.0.1", 54, Forwarding.TUNNEL, tunnel=Tunnel()),),
)
MARK = Service(
    ServiceKey(Protocol.FIREWALL_MARK, "0.0.0.0", 0, 7),
    persistence=Persistence(100, ALONE),
    backends=(Backend("10.0.0.1", 0),),
)
MARK6 = Service(
    ServiceKey(Protocol.FIREWALL_MARK, "::", 0, 7),
    persistence=Persistence(100, 128),
    backends=(Backend("fd00::1", 0),),
)


@pytest.fixture
def busy(netlink: NetlinkKernel) -> Iterator[NetlinkKernel]:
    """A kernel whose table has seen a client for each of its services."""
    for words in ("192.0.2.1/32", "10.0.0.1/32", "2001:db8::1/128 nodad", "fd00::1/128 nodad"):
        command = ["ip", "address", "add", *words.split(), "dev", "lo"]
        subprocess.run(command, check=True, timeout=10)
    make(netlink, Table((WEB, WEB6, DNS, DNS6, SIP, MIXED, MARK, MARK6)))
    with ExitStack() as held:
        for family, address in ((socket.AF_INET, "10.0.0.1"), (socket.AF_INET6, "fd00::1")):
            held.enter_context(socket.create_server((address, 80), family=family))
        for address in ("192.0.2.1", "2001:db8::1"):
            held.enter_context(socket.create_connection((address, 80), timeout=5))
        for address, port, mark in (
            *[("192.0.2.1", 53, 0), ("192.0.2.1", 5060, 0), ("192.0.2.1", 99, 7)],
            *[("2001:db8::1", 53, 0), ("2001:db8::1", 54, 0), ("2001:db8::1", 99, 7)],
        ):
            family = socket.AF_INET6 if ":" in address else socket.AF_INET
            client = held.enter_context(socket.socket(family, socket.SOCK_DGRAM))
            client.setsockopt(socket.SOL_SOCKET, SO_MARK, mark)
            client.sendto(INVITE, (address, port))
        yield netlink


@pytest.mark.kernel
@pytest.mark.parametrize("service", [WEB, WEB6, DNS6, MIXED], ids=lambda service: str(service.key))
def test_a_client_is_found_with_its_backend(busy: NetlinkKernel, service: Service) -> None:
    (found,) = busy.connections(service=service.key)
    assert (found.service, found.backend) == (service.key, service.backends[0].key)
    assert found.client == service.key.address and not found.is_template
    assert found.state == ("ESTABLISHED" if service.key.protocol is Protocol.TCP else "UDP")
    assert 0 < found.expires_s <= (900 if service.key.protocol is Protocol.TCP else 300)
    (again,) = busy.connections(service=service.key, backend=service.backends[0].key)
    assert again.client_port == found.client_port


@pytest.mark.kernel
def test_persistence_shows_as_a_template_beside_its_connection(busy: NetlinkKernel) -> None:
    template, connection = sorted(busy.connections(service=DNS.key), key=lambda found: found.client_port)
    assert template.is_template and template.client == "192.0.2.0"
    assert connection.client == "192.0.2.1" and connection.client_port


@pytest.mark.kernel
@pytest.mark.parametrize("service", [MARK, MARK6], ids=lambda service: str(service.key))
def test_a_marks_template_names_the_mark(busy: NetlinkKernel, service: Service) -> None:
    (template,) = busy.connections(service=service.key)
    assert template.is_template and template.service == service.key
    assert template.backend == service.backends[0].key


@pytest.mark.kernel
def test_the_call_of_a_persistence_engine_is_read(busy: NetlinkKernel) -> None:
    engines = {(found.engine, found.engine_data) for found in busy.connections(service=SIP.key)}
    assert ("sip", "abc@10.9.8.7") in engines


@pytest.mark.kernel
def test_the_counts_are_those_of_the_rows_and_of_ipvsadm(busy: NetlinkKernel) -> None:
    counts = busy.count_connections()
    rows = list(busy.connections())
    said = subprocess.run(["ipvsadm", "-Lnc"], capture_output=True, text=True, timeout=10, check=True).stdout
    assert counts.total == len(rows) == len(said.splitlines()) - 2
    assert (counts.malformed, counts.is_whole) == (0, True)
    assert counts.by_state[WEB.key, WEB.backends[0].key, "ESTABLISHED"] == 1


@pytest.mark.kernel
def test_a_fresh_namespace_has_no_connections(netlink: NetlinkKernel) -> None:
    assert netlink.count_connections() == ConnectionCounts()
    assert list(netlink.connections()) == []


@pytest.mark.kernel
def test_counters_go_to_zero_for_one_service_or_for_all(busy: NetlinkKernel) -> None:
    def counted() -> list[int]:
        services = busy.read().services
        return [services[service.key].connections for service in (WEB, WEB6)]

    until = time.monotonic() + 10
    while counted() != [1, 1] and time.monotonic() < until:
        time.sleep(0.1)  # the kernel adds up every two seconds, and tells nobody
    assert counted() == [1, 1]
    busy.zero(WEB.key)
    assert counted() == [0, 1]
    busy.zero()
    assert counted() == [0, 0]
    assert proc.counters(Path("/proc/thread-self/net/ip_vs_stats").read_text()).connections == 0


def test_a_stand_in_has_no_connections() -> None:
    assert MemoryKernel().count_connections() == ConnectionCounts()
    assert list(MemoryKernel().connections(backend=BackendKey("10.0.0.1", 80))) == []


def test_a_table_that_takes_too_long_is_said_not_to_be_whole(tmp_path: Path) -> None:
    path = tmp_path / "ip_vs_conn"
    path.write_text("TCP C0000201 BAF8 C0000201 0050 0A000001 1F90 ESTABLISHED     899\n" * 1000)
    assert count_connections(60, path).total == 1000
    assert not count_connections(-1, path).is_whole
    with pytest.raises(NoAnswer):
        list(connections(-1, None, None, path))


def test_a_kernel_without_ipvs_is_said_to_be_one(tmp_path: Path) -> None:
    with pytest.raises(KernelUnavailable):
        count_connections(1, tmp_path / "none")
