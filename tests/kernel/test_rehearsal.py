"""A rehearsal finds what the real kernel refuses, and leaves nothing behind."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from cluster.director.kernel import CannotRehearse, Kernel
from cluster.director.kernel.netlink import NetlinkKernel
from cluster.director.kernel.rehearse import DEADLINE_S
from cluster.ipvs.plan import Operation, Step, plan
from cluster.ipvs.state import Backend, Protocol, Service, ServiceKey, Table
from tests.kernel.random_tables import random_table

ROOT = Path(__file__).parents[2]
WEB = Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80), "rr", backends=(Backend("10.0.0.1", 80),))
UNKNOWN = replace(WEB, key=WEB.key._replace(port=81), scheduler="nosuch")
UPSIDE_DOWN = replace(WEB, key=WEB.key._replace(port=82), backends=(Backend("10.0.0.1", 80, lower=5),))


@pytest.mark.parametrize("seed", range(4))
def test_a_table_that_the_kernel_takes_is_refused_nowhere(kernel: Kernel, seed: int) -> None:
    assert kernel.rehearse(random_table(seed)) == []
    assert kernel.read().table == Table()


def test_each_refusal_is_named_and_the_live_table_stays(kernel: Kernel) -> None:
    kernel.do(plan(Table(), Table((WEB,)), owned=frozenset()).steps)
    refused = kernel.rehearse(Table((WEB, UNKNOWN, UPSIDE_DOWN)))
    assert [(one.step.service.key.port, one.errno) for one in refused if one.errno > 0] == [
        (81, errno.ENOENT),
        (82, errno.ERANGE),
    ]
    assert kernel.read().table == Table((WEB,))


@pytest.fixture
def sibling(namespace: None, tmp_path: Path) -> Iterator[str]:
    """What the socket unit does: a process with a network of its own for each connection."""
    path = tmp_path / "rehearse.sock"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def answer() -> None:
        while True:
            try:
                line, _ = listener.accept()
            except OSError:
                return
            with line:
                subprocess.run(
                    ["unshare", "--net", sys.executable, "-m", "cluster.director", "rehearse"],
                    cwd=ROOT,
                    stdin=line,
                    stdout=line,
                    timeout=DEADLINE_S,
                )

    thread = threading.Thread(target=answer, daemon=True)
    thread.start()
    yield str(path)
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()
    thread.join(5)


@pytest.mark.kernel
def test_a_sibling_with_a_private_network_rehearses_for_a_worker_that_cannot(sibling: str) -> None:
    kernel = NetlinkKernel(rehearsal_socket=sibling)
    assert kernel.rehearse(random_table(1)) == []
    refused = kernel.rehearse(Table((WEB, UNKNOWN, UPSIDE_DOWN)))
    assert [(one.step.service.key.port, one.errno) for one in refused if one.errno > 0] == [
        (81, errno.ENOENT),
        (82, errno.ERANGE),
    ]
    assert kernel.read().table == Table()


@pytest.mark.kernel
def test_a_sibling_in_a_network_with_interfaces_refuses_to_rehearse(netlink: NetlinkKernel) -> None:
    subprocess.run(["ip", "link", "add", "dummy7", "type", "dummy"], check=True, timeout=10)
    said = subprocess.run(
        [sys.executable, "-m", "cluster.director", "rehearse"],
        cwd=ROOT,
        input=b'{"version": 1, "services": []}',
        capture_output=True,
        timeout=30,
    )
    assert b"not started with a private network" in said.stdout
    assert netlink.read().table == Table()


@pytest.mark.kernel
def test_a_worker_that_may_not_make_a_namespace_says_so(netlink: NetlinkKernel) -> None:
    code = """
import sys
from cluster.director.kernel import CannotRehearse
from cluster.director.kernel.netlink import NetlinkKernel
from cluster.ipvs.state import Table
try:
    NetlinkKernel().rehearse(Table())
except CannotRehearse as reason:
    print(reason)
"""
    only = ["setpriv", "--bounding-set=-all,+net_admin", "--inh-caps=-all,+net_admin"]
    done = subprocess.run(
        [*only, sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=30
    )
    assert "may not make a network namespace (Operation not permitted)" in done.stdout, done.stderr


def test_a_sibling_that_is_not_there_is_no_verdict() -> None:
    with pytest.raises(CannotRehearse, match="did not answer"):
        NetlinkKernel(rehearsal_socket="/nowhere/rehearse.sock").rehearse(Table())


@pytest.mark.kernel
def test_rehearsals_leave_no_namespace_and_no_thread_behind(netlink: NetlinkKernel) -> None:
    before = threading.active_count(), os.stat("/proc/thread-self/ns/net").st_ino
    for _ in range(5):
        netlink.rehearse(Table((WEB,)))
    assert (threading.active_count(), os.stat("/proc/thread-self/ns/net").st_ino) == before
    assert netlink.do([Step(Operation.ADD_SERVICE, WEB.header)])[0].errno == 0
