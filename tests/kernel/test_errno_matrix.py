"""Each operation of the measured table once more, on both kernels, and in words that help."""

from __future__ import annotations

import errno
import json
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from cluster.director.kernel import Kernel, codec, settings_codec
from cluster.director.kernel.conversation import Conversation
from cluster.director.kernel.memory import MemoryKernel
from cluster.director.kernel.netlink import NetlinkKernel
from cluster.ipvs.errors import explain
from cluster.ipvs.plan import Operation, Step
from cluster.ipvs.settings import SettingOperation, SyncDaemon, SyncRole, Timeouts
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
from tests.kernel import raw
from tests.kernel.conftest import own_namespace

MEASURED = json.loads(Path(__file__).with_name("errno_matrix.json").read_text())["cases"]
ADD, SET, REMOVE = Operation.ADD_SERVICE, Operation.SET_SERVICE, Operation.REMOVE_SERVICE
PUT, CHANGE, TAKE = Operation.ADD_BACKEND, Operation.SET_BACKEND, Operation.REMOVE_BACKEND
MASTER, BACKUP = SyncRole.MASTER, SyncRole.BACKUP
INTERFACES = {"lo": 65536, "dummy0": 1500}
CHANGED_SCHEDULER, ENGINE, NETMASK, FAMILY, FLAGS, TIMEOUT = 6, 11, 9, 1, 7, 8
FORWARDING, BACKEND_FAMILY, TUNNEL_KIND = 3, 11, 13

WEB = Service(ServiceKey(Protocol.TCP, "10.0.0.1", 80))
WEB6 = Service(ServiceKey(Protocol.TCP, "2001:db8::1", 80))
MARK = Service(ServiceKey(Protocol.FIREWALL_MARK, "0.0.0.0", 0, 1))
ONE = Backend("10.1.0.1", 8080)
MIXED = Backend("2001:db8:1::1", 80, Forwarding.TUNNEL, tunnel=Tunnel())
DNS = Protocol.UDP
EMPTY = Table()
WITH_ONE = Table((WEB.with_backends([ONE]),))
WITH_MIXED = Table((WEB.with_backends([MIXED]),))


@dataclass(frozen=True)
class Case:
    """What is done, on what, and whether there is a way to ask the kernel in memory for it as well."""

    act: Callable[[Kernel], int]
    before: Table = EMPTY
    daemons: tuple[SyncDaemon, ...] = ()
    is_raw: bool = False


def step(operation: Operation, service: Service, backend: Backend | None = None, on: Table = EMPTY) -> Case:
    return Case(lambda kernel: kernel.do([Step(operation, service, backend)])[0].errno, on)


def service(*key: Any, protocol: Protocol = Protocol.TCP, **settings: Any) -> Case:
    return step(ADD, Service(ServiceKey(protocol, *key), **settings))


def put(backend: Backend, *, to: Service = WEB, beside: tuple[Backend, ...] = ()) -> Case:
    return step(PUT, to, backend, Table((to.with_backends(beside),)))


def call(act: Callable[[Kernel], object], before: Table = EMPTY, *daemons: SyncDaemon) -> Case:
    return Case(lambda kernel: raw.errno_of(lambda: act(kernel)), before, daemons)


def bare(command: int, payload: bytes = b"", before: Table = EMPTY) -> Case:
    return Case(lambda _: raw.errno_of(lambda: raw.order(command, payload)), before, is_raw=True)


def odd_service(changes: dict[int, bytes | None], base: Service = WEB) -> Case:
    return bare(*raw.altered(Step(ADD, base), raw.SERVICE, changes))


def odd_backend(changes: dict[int, bytes | None], base: Backend = ONE, to: Service = WEB) -> Case:
    return bare(*raw.altered(Step(PUT, to, base), raw.BACKEND, changes), Table((to,)))


def odd_daemon(*, role: int, interface: bytes | None = b"lo\0") -> Case:
    body = codec.attribute(1, struct.pack("=I", role)) + codec.attribute(3, struct.pack("=I", 1))
    body += codec.attribute(2, interface) if interface else b""
    return bare(settings_codec.NEW_DAEMON, codec.attribute(raw.DAEMON | raw.NESTED, body))


def start(daemon: SyncDaemon, before: Table = EMPTY, *running: SyncDaemon) -> Case:
    return call(lambda kernel: kernel.start_daemon(daemon), before, *running)


def ask(command: int, payload: bytes = b"") -> None:
    with Conversation(5) as talk:
        talk.ask(command, payload)


def nobody(act: Callable[[], object]) -> Case:
    return Case(lambda _: raw.as_nobody(act), is_raw=True)


def nobody_with_a_socket_of_root() -> Case:
    def act(_: Kernel) -> int:
        with Conversation(5) as talk:
            return raw.as_nobody(lambda: talk.change(*codec.encode_step(Step(ADD, WEB))))

    return Case(act, is_raw=True)


def persistent(timeout_s: int = 300, mask: int = 0xFFFFFFFF, engine: str = "") -> Persistence:
    return Persistence(timeout_s, mask, engine)


def tunnel(kind: int, port: int = 0) -> Backend:
    return ONE._replace(forwarding=Forwarding.TUNNEL, tunnel=Tunnel(TunnelKind(kind), port))


ON_MASTER = SyncDaemon(MASTER, "lo", 1)
CASES = {
    "NEW_SERVICE tcp 10.0.0.1:80 rr": step(ADD, WEB),
    "NEW_SERVICE same key again": step(ADD, WEB, on=Table((WEB,))),
    "NEW_SERVICE same addr:port, udp": step(ADD, Service(ServiceKey(DNS, "10.0.0.1", 80)), on=Table((WEB,))),
    "SET_SERVICE absent": step(SET, WEB),
    "DEL_SERVICE absent": step(REMOVE, WEB),
    "GET_SERVICE absent (doit)": Case(
        lambda _: raw.errno_of(lambda: ask(codec.GET_SERVICE, codec.encode_key(WEB.key))), is_raw=True
    ),
    "ZERO absent service": call(lambda kernel: kernel.zero(WEB.key)),
    "NEW_DEST on absent service": step(PUT, WEB, ONE),
    'NEW_SERVICE unknown scheduler "foo"': service("10.0.0.1", 80, scheduler="foo"),
    'NEW_SERVICE scheduler "none"': service("10.0.0.1", 80, scheduler="none"),
    "NEW_SERVICE scheduler name 16+ chars": service("10.0.0.1", 80, scheduler="x" * 16),
    "NEW_SERVICE empty scheduler name": service("10.0.0.1", 80, scheduler=""),
    'NEW_SERVICE unknown pe "foo"': service("10.0.0.1", 80, persistence=persistent(engine="foo")),
    'NEW_SERVICE pe "sip" on udp:5060 persistent': service(
        "10.0.0.1", 5060, protocol=DNS, persistence=persistent(engine="sip")
    ),
    'NEW_SERVICE pe "sip" on tcp, not persistent': odd_service({ENGINE: b"sip\0"}),
    "NEW_SERVICE missing sched attr": odd_service({CHANGED_SCHEDULER: None}),
    "NEW_SERVICE missing flags attr": odd_service({FLAGS: None}),
    "NEW_SERVICE missing timeout attr": odd_service({TIMEOUT: None}),
    "NEW_SERVICE missing netmask attr": odd_service({NETMASK: None}),
    "NEW_SERVICE missing af": odd_service({FAMILY: None}),
    "NEW_SERVICE af=7": odd_service({FAMILY: struct.pack("=H", 7)}),
    "NEW_SERVICE no SERVICE attr": bare(codec.encode_step(Step(ADD, WEB))[0]),
    "NEW_SERVICE v6 netmask 128": service("2001:db8::1", 80, persistence=persistent(mask=128)),
    "NEW_SERVICE v6 netmask 0": service("2001:db8::1", 80, persistence=persistent(mask=0)),
    "NEW_SERVICE v6 netmask 129": service("2001:db8::1", 80, persistence=persistent(mask=129)),
    "NEW_SERVICE v6 netmask as be32(128)": odd_service({NETMASK: struct.pack("!I", 128)}, WEB6),
    "NEW_SERVICE v4 netmask 0 (persistent)": service("10.0.0.1", 80, persistence=persistent(mask=0)),
    "NEW_SERVICE v4 non-contiguous netmask 255.0.255.0": service(
        "10.0.0.1", 80, persistence=persistent(mask=0xFF00FF00)
    ),
    "NEW_SERVICE port 0, not persistent, tcp": service("10.0.0.1", 0),
    "NEW_SERVICE port 0, persistent, tcp": service("10.0.0.1", 0, persistence=persistent()),
    "NEW_SERVICE persistent flag with timeout 0": service("10.0.0.1", 80, persistence=persistent(0)),
    "NEW_SERVICE ops flag on tcp": service("10.0.0.1", 80, flags=ServiceFlags.ONE_PACKET),
    "NEW_SERVICE ops+persistent on udp": service(
        "10.0.0.1", 80, protocol=DNS, flags=ServiceFlags.ONE_PACKET, persistence=persistent()
    ),
    "NEW_SERVICE protocol 132 sctp": service("10.0.0.1", 80, protocol=Protocol.SCTP),
    "NEW_SERVICE protocol 50 esp port 0": service("10.0.0.1", 0, protocol=Protocol(50)),
    "NEW_SERVICE protocol 1 icmp": service("10.0.0.1", 0, protocol=Protocol(1)),
    "NEW_SERVICE addr 0.0.0.0": service("0.0.0.0", 80),
    "NEW_SERVICE addr multicast 224.0.0.1": service("224.0.0.1", 80),
    "NEW_SERVICE fwmark 1 v4": step(ADD, MARK),
    "NEW_SERVICE fwmark 1 v6 (separate table key)": step(
        ADD, replace(MARK, key=MARK.key._replace(address="::")), on=Table((MARK,))
    ),
    "NEW_SERVICE fwmark 1 v4 again": step(ADD, MARK, on=Table((MARK,))),
    "NEW_SERVICE fwmark 0 (no addr)": step(ADD, replace(MARK, key=MARK.key._replace(mark=0))),
    "NEW_DEST to fwmark svc with port 80 masq": put(ONE._replace(port=80), to=MARK),
    "NEW_DEST to fwmark svc with port 0": put(ONE._replace(port=0), to=MARK),
    "NEW_DEST masq 10.1.0.1:8080 to :80": put(ONE),
    "NEW_DEST same again": put(ONE, beside=(ONE,)),
    "NEW_DEST same ip, other port": put(ONE._replace(port=8081), beside=(ONE,)),
    "NEW_DEST same ip:port, other fwd method": put(ONE._replace(forwarding=Forwarding.DIRECT), beside=(ONE,)),
    "NEW_DEST DR with port != service port": put(ONE._replace(forwarding=Forwarding.DIRECT)),
    "NEW_DEST TUN with port != service port": put(tunnel(0)),
    "NEW_DEST fwd=1 localnode": put(ONE._replace(forwarding=Forwarding.LOCAL)),
    "NEW_DEST fwd=4 bypass": put(ONE._replace(forwarding=Forwarding.BYPASS)),
    "NEW_DEST fwd=7 invalid": put(ONE._replace(forwarding=Forwarding(7))),
    "NEW_DEST fwd=8 (masked)": put(ONE._replace(forwarding=Forwarding(8))),
    "NEW_DEST missing fwd": odd_backend({FORWARDING: None}),
    "NEW_DEST weight 0": put(ONE._replace(weight=0)),
    "NEW_DEST weight -1": put(ONE._replace(weight=-1)),
    "NEW_DEST weight 65535": put(ONE._replace(weight=65535)),
    "NEW_DEST weight 2147483647": put(ONE._replace(weight=2**31 - 1)),
    "NEW_DEST u=10 l=5": put(ONE._replace(upper=10, lower=5)),
    "NEW_DEST u=5 l=10": put(ONE._replace(upper=5, lower=10)),
    "NEW_DEST u=0 l=5": put(ONE._replace(lower=5)),
    "SET_DEST absent": step(CHANGE, WEB, ONE, Table((WEB,))),
    "DEL_DEST absent": step(TAKE, WEB, ONE, Table((WEB,))),
    "NEW_DEST 0.0.0.0": put(ONE._replace(address="0.0.0.0")),
    "NEW_DEST 224.0.0.1": put(ONE._replace(address="224.0.0.1")),
    "NEW_DEST 255.255.255.255": put(ONE._replace(address="255.255.255.255")),
    "NEW_DEST 127.0.0.1 (local)": put(ONE._replace(address="127.0.0.1")),
    "NEW_DEST no DEST attr": bare(5, codec.encode_key(WEB.key), Table((WEB,))),
    "NEW_DEST GUE tunnel port 0": put(tunnel(1)),
    "NEW_DEST GUE tunnel port 6080": put(tunnel(1, 6080)),
    "NEW_DEST GRE tunnel": put(tunnel(2)),
    "NEW_DEST tunnel type 9": put(tunnel(9)),
    "NEW_DEST GUE type but fwd masq, port 0": odd_backend({TUNNEL_KIND: b"\1"}),
    "NEW_DEST v6 dest masq on v4 service": put(Backend("2001:db8:1::1", 80)),
    "NEW_DEST v6 dest DR on v4 service": put(Backend("2001:db8:1::1", 80, Forwarding.DIRECT)),
    "NEW_DEST v6 dest TUN on v4 service": put(MIXED),
    "NEW_DAEMON master lo while mixed-family dest exists": start(ON_MASTER, WITH_MIXED),
    "DEL_DEST v6 dest from v4 service": step(TAKE, WEB, MIXED, WITH_MIXED),
    "NEW_DEST v6 link-local fe80::1 on v6 service": put(Backend("fe80::1", 80), to=WEB6),
    "NEW_DEST v6 ff02::1": put(Backend("ff02::1", 80), to=WEB6),
    "NEW_DEST v4 TUN on v6 service": put(tunnel(0), to=WEB6),
    "NEW_DEST no ADDR_FAMILY attr on v6 service (defaults to service af)": odd_backend(
        {BACKEND_FAMILY: None}, Backend("2001:db8:1::1", 80), WEB6
    ),
    "NEW_DAEMON master no such iface": start(replace(ON_MASTER, interface="nope")),
    "NEW_DAEMON bad state 0": odd_daemon(role=0),
    "NEW_DAEMON state 3 (both)": odd_daemon(role=3),
    "NEW_DAEMON missing ifn": odd_daemon(role=1, interface=None),
    "NEW_DAEMON group not multicast": start(replace(ON_MASTER, group="10.0.0.1")),
    "NEW_DAEMON master on lo": start(ON_MASTER),
    "NEW_DAEMON master on dummy0": start(replace(ON_MASTER, interface="dummy0"), EMPTY, ON_MASTER),
    "NEW_DAEMON master again": start(ON_MASTER, EMPTY, ON_MASTER),
    "NEW_DAEMON backup on dummy0": start(SyncDaemon(BACKUP, "dummy0"), EMPTY, ON_MASTER),
    "NEW_DEST v6 TUN on v4 service while sync daemon runs": replace(put(MIXED), daemons=(ON_MASTER,)),
    "DEL_DAEMON master": call(lambda kernel: kernel.stop_daemon(MASTER), EMPTY, ON_MASTER),
    "DEL_DAEMON master again": call(lambda kernel: kernel.stop_daemon(MASTER)),
    "NEW_DAEMON syncid 256": start(replace(ON_MASTER, sync_id=256)),
    "SET_CONFIG tcp=1800 only": call(lambda kernel: kernel.set_timeouts(Timeouts(1800))),
    "SET_CONFIG tcp=0 (means: unchanged)": call(lambda kernel: kernel.set_timeouts(Timeouts(0))),
    "SET_CONFIG tcp=-1": call(lambda kernel: kernel.set_timeouts(Timeouts(-1))),
    "SET_SERVICE change scheduler rr->wlc": step(SET, replace(WEB, scheduler="wlc"), on=WITH_ONE),
    "SET_SERVICE unknown scheduler": step(SET, replace(WEB, scheduler="foo"), on=WITH_ONE),
    "SET_SERVICE to persistent 360": step(SET, replace(WEB, persistence=persistent(360)), on=WITH_ONE),
    "unknown genl cmd 99": bare(99),
    "FLUSH": bare(raw.FLUSH, before=WITH_ONE),
    "NEW_SERVICE as uid nobody": nobody_with_a_socket_of_root(),
    "NEW_SERVICE as uid nobody (fresh socket)": nobody(lambda: raw.order(*codec.encode_step(Step(ADD, WEB)))),
    "GET_INFO as uid nobody": nobody(lambda: ask(codec.GET_INFO)),
}
ERRNO = {entry["case"]: entry["errno"] for entry in MEASURED}


def test_every_measured_operation_is_tried() -> None:
    assert CASES.keys() == ERRNO.keys()


@pytest.fixture(scope="module")
def arena() -> Iterator[None]:
    """One namespace for all cases, which leave it empty: making one takes longer than most of them."""
    with own_namespace():
        for words in ("link add dummy0 type dummy", "link set dummy0 up"):
            subprocess.run(["ip", *words.split()], check=True, timeout=10)
        yield


@pytest.mark.kernel
@pytest.mark.parametrize("case", CASES)
def test_the_kernel_answers_as_it_was_measured(arena: None, case: str) -> None:
    kernel = NetlinkKernel(deadline_s=5)
    try:
        assert answer(kernel, CASES[case]) == ERRNO[case]
    finally:
        raw.order(raw.FLUSH)
        for daemon in kernel.read_settings().daemons:
            kernel.stop_daemon(daemon.role)


@pytest.mark.parametrize("case", [name for name, case in CASES.items() if not case.is_raw])
def test_the_stand_in_answers_as_the_kernel_was_measured(case: str) -> None:
    assert answer(MemoryKernel(interfaces=INTERFACES), CASES[case]) == ERRNO[case]


def answer(kernel: Kernel, case: Case) -> str:
    for one in case.before:
        steps = [Step(ADD, one.header), *(Step(PUT, one.header, backend) for backend in one.backends)]
        assert [said.message for said in kernel.do(steps) if said.errno] == []
    for daemon in case.daemons:
        kernel.start_daemon(daemon)
    code = case.act(kernel)
    # Two names, one number: Python has the other.
    return errno.errorcode[code].replace("ENOTSUP", "EOPNOTSUPP") if code else "OK"


@pytest.mark.parametrize("entry", [entry for entry in MEASURED if entry["errno"] != "OK"], ids=str)
def test_every_refusal_is_said_in_its_own_words_with_what_to_do_now(entry: dict[str, str]) -> None:
    name = entry["operation"]
    kinds = [kind(name) for kind in (Operation, SettingOperation) if name in list(kind)]
    said = explain(getattr(errno, entry["errno"]), kinds[0] if kinds else None, subject="backend 10.1.0.1:80")
    assert "not known here" not in said.happened
    assert "10.1.0.1:80" in said.happened
    assert said.happened.endswith(".") and said.remedy.endswith(".") and "dmesg" not in said.remedy
