"""What every kernel of ours must do, in memory and over netlink alike, with ipvsadm as a witness."""

from __future__ import annotations

import errno
import subprocess
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path

import pytest

from cluster.director.kernel import NOT_TRIED, Kernel
from cluster.director.kernel.netlink import NetlinkKernel
from cluster.ipvs.formats import proc
from cluster.ipvs.formats.ipvsadm import parse, render, service_words
from cluster.ipvs.plan import Operation, Step, plan
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
    endpoint,
)
from tests.kernel.random_tables import drawn_seed, random_table

WEB = Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80), "rr")
ONE = Backend("10.0.0.1", 80)


def make(kernel: Kernel, wanted: Table) -> None:
    actual = kernel.read().table
    answers = kernel.do(plan(actual, wanted, owned=actual.keys | wanted.keys).steps)
    assert [str(answer.step) for answer in answers if answer.errno] == []


def ask(kernel: Kernel, operation: Operation, service: Service, backend: Backend | None = None) -> int:
    return kernel.do([Step(operation, service, backend)])[0].errno


@pytest.mark.parametrize("number", range(12))
def test_what_is_written_is_read_back(kernel: Kernel, number: int) -> None:
    wanted = random_table(drawn_seed(number))
    make(kernel, wanted)
    assert kernel.read().table == wanted
    assert kernel.read_services(wanted.keys) == wanted


@pytest.mark.parametrize("number", range(12))
def test_any_table_can_become_any_other(kernel: Kernel, number: int) -> None:
    make(kernel, random_table(drawn_seed(number)))
    make(kernel, wanted := random_table(drawn_seed(number + 1000)))
    assert kernel.read().table == wanted
    make(kernel, Table())
    assert kernel.read().table == Table()


EVERYTHING = [
    WEB.with_backends([ONE, ONE._replace(address="10.0.0.2", weight=0, upper=10, lower=5)]),
    Service(WEB.key, "wlc", ServiceFlags.SCHEDULER_1, Persistence(360, 0xFFFF0000)),
    Service(ServiceKey(Protocol.TCP, "2001:db8::1", 443), "mh", ServiceFlags.SCHEDULER_1),
    Service(
        ServiceKey(Protocol.UDP, "192.0.2.1", 5060), "rr", persistence=Persistence(60, 0xFFFFFFFF, "sip")
    ),
    Service(ServiceKey(Protocol.UDP, "192.0.2.1", 53), "rr", ServiceFlags.ONE_PACKET),
    Service(ServiceKey(Protocol.SCTP, "2001:db8::1", 9), "sh", persistence=Persistence(5, 64)),
    Service(ServiceKey(Protocol.FIREWALL_MARK, "0.0.0.0", 0, 7), "dh", backends=(Backend("10.0.0.1", 0),)),
    Service(ServiceKey(Protocol.FIREWALL_MARK, "::", 0, 4294967295), "nq"),
    WEB.with_backends([ONE._replace(forwarding=Forwarding.TUNNEL, tunnel=Tunnel(TunnelKind.GUE, 6080, 1))]),
    WEB.with_backends([ONE._replace(forwarding=Forwarding.TUNNEL, tunnel=Tunnel(TunnelKind.GRE, 0, 1))]),
    WEB.with_backends([Backend("fd00::1", 80, Forwarding.TUNNEL, tunnel=Tunnel())]),
    WEB.with_backends([ONE._replace(forwarding=Forwarding(4)), ONE._replace(port=81, weight=2**31 - 1)]),
    Service(ServiceKey(Protocol(50), "::ffff:102:304", 0), "none"),
]


@pytest.mark.parametrize("service", EVERYTHING, ids=lambda service: str(service.key))
def test_every_setting_survives(kernel: Kernel, service: Service) -> None:
    make(kernel, Table((service,)))
    assert kernel.read().table == Table((service,))


def test_absent_services_are_left_out_of_a_reading(kernel: Kernel) -> None:
    make(kernel, Table((WEB,)))
    other = WEB.key._replace(port=81)
    assert kernel.read_services([WEB.key, other]) == Table((WEB,))
    assert kernel.read_services([]) == Table()


def test_persistence_can_be_taken_away_again(kernel: Kernel) -> None:
    make(kernel, Table((replace(WEB, persistence=Persistence(60, 0xFFFFFF00)),)))
    make(kernel, Table((WEB,)))
    assert kernel.read().table == Table((WEB,))


A_DIRECT, A_V6 = ONE._replace(forwarding=Forwarding.DIRECT), Backend("fd00::1", 80)
GUE_WITHOUT_PORT = ONE._replace(forwarding=Forwarding.TUNNEL, tunnel=Tunnel(TunnelKind.GUE))
REFUSALS = [
    ("the same service again", Operation.ADD_SERVICE, WEB, None, errno.EEXIST),
    ("another service of the key", Operation.ADD_SERVICE, replace(WEB, scheduler="wlc"), None, errno.EEXIST),
    ("the same backend again", Operation.ADD_BACKEND, WEB, ONE, errno.EEXIST),
    ("the same backend otherwise forwarded", Operation.ADD_BACKEND, WEB, A_DIRECT, errno.EEXIST),
    ("an unknown scheduler", Operation.SET_SERVICE, replace(WEB, scheduler="foo"), None, errno.ENOENT),
    ("an empty scheduler", Operation.SET_SERVICE, replace(WEB, scheduler=""), None, errno.ENOENT),
    ("a long scheduler", Operation.SET_SERVICE, replace(WEB, scheduler="x" * 16), None, errno.EINVAL),
    (
        "an unknown engine",
        Operation.SET_SERVICE,
        replace(WEB, persistence=Persistence(1, 0xFFFFFFFF, "foo")),
        None,
        errno.ENOENT,
    ),
    (
        "setting an absent backend",
        Operation.SET_BACKEND,
        WEB,
        A_DIRECT.__class__("10.9.9.9", 1),
        errno.ENOENT,
    ),
    ("removing an absent backend", Operation.REMOVE_BACKEND, WEB, Backend("10.9.9.9", 1), errno.ENOENT),
    ("a negative weight", Operation.SET_BACKEND, WEB, ONE._replace(weight=-1), errno.ERANGE),
    ("a lower above the upper", Operation.SET_BACKEND, WEB, ONE._replace(upper=5, lower=10), errno.ERANGE),
    ("a lower without an upper", Operation.SET_BACKEND, WEB, ONE._replace(lower=5), errno.ERANGE),
    ("no address", Operation.ADD_BACKEND, WEB, ONE._replace(address="0.0.0.0"), errno.EINVAL),
    ("multicast", Operation.ADD_BACKEND, WEB, ONE._replace(address="224.0.0.1"), errno.EINVAL),
    ("broadcast", Operation.ADD_BACKEND, WEB, ONE._replace(address="255.255.255.255"), errno.EINVAL),
    ("a GUE tunnel without a port", Operation.SET_BACKEND, WEB, GUE_WITHOUT_PORT, errno.EINVAL),
    ("the other family without a tunnel", Operation.ADD_BACKEND, WEB, A_V6, errno.EINVAL),
]


@pytest.mark.parametrize(
    ("operation", "service", "backend", "code"),
    [refusal[1:] for refusal in REFUSALS],
    ids=[refusal[0] for refusal in REFUSALS],
)
def test_it_refuses(
    kernel: Kernel, operation: Operation, service: Service, backend: Backend | None, code: int
) -> None:
    before = Table((WEB.with_backends([ONE]),))
    make(kernel, before)
    assert errno.errorcode[ask(kernel, operation, service, backend)] == errno.errorcode[code]
    assert kernel.read().table == before


@pytest.mark.parametrize("operation", list(Operation)[1:])
def test_everything_about_an_absent_service_is_refused(kernel: Kernel, operation: Operation) -> None:
    backend = ONE if "backend" in operation else None
    assert ask(kernel, operation, WEB, backend) == errno.ESRCH


@pytest.mark.parametrize(("prefix", "code"), [(0, errno.EINVAL), (129, errno.EINVAL), (1, 0), (128, 0)])
def test_an_ipv6_prefix_has_bounds(kernel: Kernel, prefix: int, code: int) -> None:
    service = Service(ServiceKey(Protocol.TCP, "2001:db8::1", 80), "rr", persistence=Persistence(60, prefix))
    assert ask(kernel, Operation.ADD_SERVICE, service) == code


@pytest.mark.parametrize("address", ["::", "fe80::1", "ff02::1", "::ffff:a00:1"])
def test_ipv6_backends_that_are_no_host_of_ipv6_are_refused(kernel: Kernel, address: str) -> None:
    service = Service(ServiceKey(Protocol.TCP, "2001:db8::1", 80), "rr")
    make(kernel, Table((service,)))
    assert ask(kernel, Operation.ADD_BACKEND, service, Backend(address, 80)) == errno.EINVAL


@pytest.mark.parametrize(("length", "code"), [(15, errno.ENOENT), (16, errno.ENOENT), (17, errno.EINVAL)])
def test_a_long_engine_is_no_engine(kernel: Kernel, length: int, code: int) -> None:
    held = Persistence(60, 0xFFFFFFFF, "x" * length)
    assert ask(kernel, Operation.ADD_SERVICE, replace(WEB, persistence=held)) == code


def test_mark_0_is_no_mark_but_an_address_that_was_not_given(kernel: Kernel) -> None:
    marked = Service(ServiceKey(Protocol.FIREWALL_MARK, "0.0.0.0", 0, 0))
    nowhere = Service(ServiceKey(Protocol.TCP, "0.0.0.0", 0), backends=(ONE,))
    assert ask(kernel, Operation.ADD_SERVICE, marked) == 0
    assert ask(kernel, Operation.ADD_SERVICE, nowhere) == errno.EEXIST
    assert ask(kernel, Operation.ADD_BACKEND, marked, ONE) == 0
    assert kernel.read().table == kernel.read_services([marked.key]) == Table((nowhere,))
    kernel.zero(marked.key)
    assert ask(kernel, Operation.REMOVE_SERVICE, marked) == 0


def test_a_refusal_stops_its_service_and_no_other(kernel: Kernel) -> None:
    other = replace(WEB, key=WEB.key._replace(port=81))
    make(kernel, Table((WEB.with_backends([ONE]),)))
    wanted = Table((WEB.with_backends([Backend("10.0.0.2", 80, weight=-1)]), other.with_backends([ONE])))
    answers = kernel.do(plan(kernel.read().table, wanted, owned=frozenset({WEB.key})).steps)
    assert [answer.errno for answer in answers] == [errno.ERANGE, NOT_TRIED, 0, 0]
    assert kernel.read().table == Table((WEB.with_backends([ONE]), other.with_backends([ONE])))


def test_many_refusals_in_one_batch_find_their_steps(kernel: Kernel) -> None:
    make(kernel, Table((WEB,)))
    steps = [
        Step(
            Operation.ADD_BACKEND,
            WEB,
            Backend(f"10.0.{n // 200}.{n % 200 + 1}", 80, weight=-1 if n % 3 else 1),
        )
        for n in range(3000)
    ]
    answers = kernel.do(steps)
    assert [answer.errno for answer in answers] == [errno.ERANGE if n % 3 else 0 for n in range(3000)]
    assert len(kernel.read().table.services[0].backends) == 1000


def test_a_value_that_no_field_holds_is_refused_and_the_rest_done(kernel: Kernel) -> None:
    make(kernel, Table((WEB,)))
    steps = [
        Step(Operation.ADD_BACKEND, WEB, ONE._replace(weight=2**40)),
        Step(Operation.ADD_BACKEND, WEB, ONE._replace(port=81)),
    ]
    assert [answer.errno for answer in kernel.do(steps)] == [errno.EINVAL, 0]


def test_nothing_was_counted_yet(kernel: Kernel) -> None:
    make(kernel, Table((WEB.with_backends([ONE]),)))
    reading = kernel.read()
    assert reading.services[WEB.key].connections == 0
    assert reading.backends[WEB.key, ONE.key].active == 0


@pytest.mark.kernel
@pytest.mark.parametrize("number", range(12))
def test_ipvsadm_sees_the_same(netlink: NetlinkKernel, number: int) -> None:
    wanted = random_table(drawn_seed(number))
    make(netlink, wanted)
    said = subprocess.run(["ipvsadm", "-Sn"], capture_output=True, text=True, timeout=10, check=True)
    assert sorted(_witnessed(line) for line in said.stdout.splitlines()) == sorted(_expected(wanted))
    # And our reader understands what it says; thresholds it does not say.
    assert parse(said.stdout).table == _without_thresholds(wanted)
    limits = subprocess.run(
        ["ipvsadm", "-Ln", "--thresholds"], capture_output=True, text=True, timeout=10, check=True
    )
    seen = sorted(tuple(line.split()[1:4]) for line in limits.stdout.splitlines()[3:] if "->" in line)
    assert seen == sorted(
        (endpoint(one.address, one.port), str(one.upper), str(one.lower))
        for service in wanted
        for one in service.backends
    )


@pytest.mark.kernel
@pytest.mark.parametrize("number", range(12))
def test_ipvsadm_loads_what_we_render(netlink: NetlinkKernel, number: int) -> None:
    wanted = random_table(drawn_seed(number))
    done = subprocess.run(
        ["ipvsadm", "-R"], input=render(wanted), text=True, capture_output=True, check=True, timeout=30
    )
    assert done.stderr == ""
    assert netlink.read().table == wanted


@pytest.mark.kernel
@pytest.mark.parametrize("number", range(12))
def test_the_file_in_proc_shows_the_same(netlink: NetlinkKernel, number: int) -> None:
    wanted = random_table(drawn_seed(number), is_odd=True)
    make(netlink, wanted)
    assert netlink.read().table == wanted
    clock = Service(ServiceKey(Protocol.TCP, "198.51.100.1", 1), persistence=Persistence(1, 0xFFFFFFFF))
    assert ask(netlink, Operation.ADD_SERVICE, clock) == 0
    shown = proc.services(Path("/proc/thread-self/net/ip_vs").read_text())
    (ticks,) = (one.timeout_ticks for one in shown if one.name == str(clock.key))
    assert sorted(shown) == sorted(
        proc.service_as_shown(one, ticks_per_s=ticks) for one in [*wanted.services, clock]
    )


@pytest.mark.kernel
def test_what_ipvsadm_wrote_is_read(netlink: NetlinkKernel) -> None:
    rules = """-A -t 192.0.2.1:80 -s wlc -p 300 -M 255.255.255.0
-a -t 192.0.2.1:80 -r 10.0.0.1:8080 -m -w 3 -x 100 -y 50
-a -t 192.0.2.1:80 -r 10.0.0.2:80 -i -w 70000 --tun-type gue --tun-port 6080 --tun-csum
-A -u [2001:db8::1]:5060 -s rr -p 60 -M 64 --pe sip -o
-A -f 7 -6 -s mh -b mh-fallback
"""
    subprocess.run(["ipvsadm", "-R"], input=rules, text=True, check=True, timeout=10)
    first = Service(
        WEB.key,
        "wlc",
        persistence=Persistence(300, 0xFFFFFF00),
        backends=(
            Backend("10.0.0.1", 8080, weight=3, upper=100, lower=50),
            Backend("10.0.0.2", 80, Forwarding.TUNNEL, 70000, tunnel=Tunnel(TunnelKind.GUE, 6080, 1)),
        ),
    )
    second = Service(
        ServiceKey(Protocol.UDP, "2001:db8::1", 5060),
        "rr",
        ServiceFlags.ONE_PACKET,
        Persistence(60, 64, "sip"),
    )
    third = Service(ServiceKey(Protocol.FIREWALL_MARK, "::", 0, 7), "mh", ServiceFlags.SCHEDULER_1)
    assert netlink.read().table == Table((first, second, third))


@pytest.mark.kernel
def test_the_version_is_the_kernels_own(netlink: NetlinkKernel) -> None:
    said = subprocess.run(["ipvsadm", "-Ln"], capture_output=True, text=True, timeout=10, check=True).stdout
    assert f"version {netlink.version()} " in said


def _without_thresholds(table: Table) -> Table:
    return Table(
        tuple(
            service.with_backends(one._replace(upper=0, lower=0) for one in service.backends)
            for service in table
        )
    )


def _witnessed(line: str) -> tuple[str, ...]:
    """The words of a line of `ipvsadm -Sn` as a set: their order is its own. Names that it has for the
    flags of mh and sh are turned back into numbers."""
    for scheduler in ("mh", "sh"):
        line = line.replace(f"{scheduler}-fallback", "flag-1").replace(f"{scheduler}-port", "flag-2")
    return tuple(sorted(line.split()))


def _expected(table: Table) -> list[tuple[str, ...]]:
    lines = []
    for service in table:
        name = service_words(service.key)
        words = f"-A {name} -s {service.scheduler}"
        if held := service.persistence:
            words += f" -p {held.timeout_s}"
            if service.key.family == 6 and held.netmask != 128:
                words += f" -M {held.netmask}"
            elif service.key.family == 4 and held.netmask != 0xFFFFFFFF:
                words += f" -M {IPv4Address(held.netmask)}"
            words += f" --pe {held.engine}" if held.engine else ""
        words += " -o" if service.flags & ServiceFlags.ONE_PACKET else ""
        flags = [f"flag-{n}" for n, bit in ((1, 0x8), (2, 0x10), (3, 0x20)) if service.flags & bit]
        words += f" -b {','.join(flags)}" if flags else ""
        lines.append(tuple(sorted(words.split())))
        lines.extend(_expected_backend(name, one) for one in service.backends)
    return lines


def _expected_backend(name: str, one: Backend) -> tuple[str, ...]:
    method = {0: "-m", 2: "-i", 3: "-g"}[one.forwarding]
    words = f"-a {name} -r {endpoint(one.address, one.port)} {method} -w {one.weight}"
    if one.tunnel:
        words += f" --tun-type {one.tunnel.kind.word}"
        words += f" --tun-port {one.tunnel.port}" if one.tunnel.kind is TunnelKind.GUE else ""
        if one.tunnel.kind is not TunnelKind.IPIP:
            words += {0: " --tun-nocsum", 1: " --tun-csum", 2: " --tun-remcsum"}[one.tunnel.flags]
    return tuple(sorted(words.split()))
