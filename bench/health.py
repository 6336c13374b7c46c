"""Our health checks beside keepalived's, on the same backends, one JSON line a figure.

The backends are loopback addresses of one socket. One dies by losing its route, so that a connection to it is
refused at once. Both checkers get the same interval, timeout, pause after a failure and count of failures.

Side by side in a director of the lab, whose one slow CPU the backends share, with as many as both can check
there; `alone` runs ours on this machine's own kernel, in a namespace, with as many as we want to carry.
"""

from __future__ import annotations

import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from statistics import quantiles
from typing import Protocol as Contract

from bench.inside import figure, say
from bench.room import fresh_namespace
from cluster.director.health import Watched
from cluster.director.health.child import CheckingProcess
from cluster.ipvs.state import Backend, Protocol, ServiceKey
from cluster.ipvs.traffic.checks import Check, CheckKind

FARM = Path(__file__).with_name("farm")
BESIDE, ALONE = 1000, 5000
SERVICES = 20
PORT = 8080
INTERVAL_S, TIMEOUT_S, RETRY_S, FALL = 2.0, 1.0, 1.0, 3
SETTLES_S = 6.0
MEASURED_S = 10.0
DEATHS = 250
DEATH_EVERY_S = 0.05
# A death is seen after an interval and two pauses at the latest, where a checker keeps up.
PATIENCE_S = 15.0
_TICK_S = 1 / os.sysconf("SC_CLK_TCK")


class Peer(Contract):
    """Who checks. `pids` are its processes, `seen` when it first said of an address that it is down."""

    seen: dict[str, float]

    @property
    def pids(self) -> Sequence[int]: ...


def main() -> None:
    is_alone = sys.argv[1:] == ["alone"]
    peers = {"alone": ours} if is_alone else {"ours": ours, "keepalived": keepalived}
    backends = addresses(ALONE if is_alone else BESIDE)
    for kind in (CheckKind.TCP, CheckKind.HTTP):
        for name, peer in peers.items():
            say(f"health: {kind} by {name}, {len(backends)} backends every {INTERVAL_S:g} s")
            fresh_namespace()
            with farm(kind), peer(kind, backends) as checker:
                _measure(f"{kind} {name}", checker, backends)


def _measure(name: str, checker: Peer, backends: Sequence[str]) -> None:
    time.sleep(SETTLES_S)
    figure(f"health {name} wrongly down", len(checker.seen))
    before, began = _cpu_s(checker.pids), time.monotonic()
    time.sleep(MEASURED_S)
    figure(f"health {name} CPU", (_cpu_s(checker.pids) - before) / (time.monotonic() - began))
    if isinstance(checker, Ours):
        figure(f"health {name} late", checker.late_share)
        figure(f"health {name} checks a second", checker.per_second)
    died = _kill(random.Random(7).sample(backends, DEATHS))
    deadline = time.monotonic() + PATIENCE_S
    while not died.keys() <= checker.seen.keys() and time.monotonic() < deadline:
        time.sleep(0.1)
    # One that was never seen counts as the whole patience: it must not make a figure better.
    took = [checker.seen.get(address, at + PATIENCE_S) - at for address, at in died.items()]
    # A peer that missed some was held up by something else: its figures then say nothing of who is faster.
    figure(f"health {name} deaths unseen", len(died.keys() - checker.seen.keys()))
    cuts = quantiles(took, n=100, method="inclusive")
    figure(f"health {name} death to verdict, p50", cuts[49])
    figure(f"health {name} death to verdict, p99", cuts[98])


def addresses(count: int) -> list[str]:
    return [f"127.1.{number // 250}.{number % 250 + 1}" for number in range(count)]


@contextmanager
def farm(kind: CheckKind) -> Iterator[None]:
    """The living backends."""
    process = subprocess.Popen([str(FARM), kind, str(PORT)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout as output:
        try:
            if output.readline() != b"ready\n":
                raise SystemExit("The farm did not start, so that there is nothing to check.")
            yield
        finally:
            process.kill()
            process.wait(10)


class Ours:
    """The checking process as a worker has it."""

    def __init__(self, kind: CheckKind, backends: Sequence[str]) -> None:
        self.seen: dict[str, float] = {}
        self._checker = CheckingProcess(scripts=Path("/nonexistent"))
        self._is_over = threading.Event()
        self._listening = threading.Thread(target=self._listen)
        self._listening.start()
        check = Check(kind, INTERVAL_S, TIMEOUT_S, rise=1, fall=FALL, retry_s=RETRY_S)
        key = ServiceKey(Protocol.TCP, "10.0.0.1", PORT)
        self._checker.watch([Watched(key, Backend(one, PORT), check) for one in backends], {})

    @property
    def pids(self) -> Sequence[int]:
        return _children(os.getpid(), "cluster.director.health.process")

    @property
    def late_share(self) -> float:
        return self._checker.pace.late_share

    @property
    def per_second(self) -> float:
        return self._checker.pace.per_second

    def stop(self) -> None:
        self._checker.stop()
        self._is_over.set()
        self._listening.join(10)

    def _listen(self) -> None:
        while not self._is_over.is_set():
            if self._checker.wake.wait(0.5):
                self._checker.wake.clear()
                now = time.monotonic()
                for (_, backend), verdict in self._checker.news().verdicts.items():
                    if not verdict.is_up:
                        self.seen.setdefault(backend.address, now)


@contextmanager
def ours(kind: CheckKind, backends: Sequence[str]) -> Iterator[Peer]:
    checker = Ours(kind, backends)
    try:
        yield checker
    finally:
        checker.stop()


class _Keepalived:
    """keepalived's checkers without VRRP; what it says on its console is read as it comes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.seen: dict[str, float] = {}
        self._process = process
        threading.Thread(target=self._listen, daemon=True).start()

    @property
    def pids(self) -> Sequence[int]:
        return (self._process.pid, *_children(self._process.pid, "keepalived"))

    def _listen(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            if found := re.search(r"Removing service \[?(127\.1\.\d+\.\d+)", line):
                self.seen.setdefault(found[1], time.monotonic())


@contextmanager
def keepalived(kind: CheckKind, backends: Sequence[str]) -> Iterator[Peer]:
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder) / "keepalived.conf"
        settings.write_text("".join(_virtual_servers(kind, backends)))
        command = ["keepalived", "--dont-fork", "--check", "--log-console", "--use-file", str(settings)]
        command += ["--pid", f"{folder}/pid", "--checkers_pid", f"{folder}/checkers.pid"]
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True
        )
        try:
            peer = _Keepalived(process)
            time.sleep(SETTLES_S)  # it loads its table first
            if process.poll() is not None:
                raise SystemExit("keepalived ended, so that there is nothing to compare with.")
            yield peer
        finally:
            for pid in _children(process.pid, "keepalived"):
                os.kill(pid, signal.SIGKILL)
            process.kill()
            process.wait(10)


def _virtual_servers(kind: CheckKind, backends: Sequence[str]) -> Iterator[str]:
    """The keepalived.conf: `retry` counts what comes after the first failure."""
    how = f"connect_timeout {TIMEOUT_S:g}\n retry {FALL - 1}\n delay_before_retry {RETRY_S:g}\n"
    checker = f"TCP_CHECK {{\n {how} }}\n"
    if kind is CheckKind.HTTP:
        checker = f"HTTP_GET {{\n url {{\n path /\n status_code 200\n }}\n {how} }}\n"
    each = len(backends) // SERVICES
    for number in range(SERVICES):
        yield f"virtual_server 10.0.1.{number + 1} {PORT} {{\n delay_loop {INTERVAL_S:g}\n lb_algo rr\n"
        yield " lb_kind NAT\n protocol TCP\n"
        for one in backends[number * each : (number + 1) * each]:
            yield f" real_server {one} {PORT} {{\n weight 1\n {checker} }}\n"
        yield "}\n"


def _kill(dying: Sequence[str]) -> dict[str, float]:
    """Take one address after the other off the network; when each died."""
    died = {}
    for address in dying:
        subprocess.run(
            ["ip", "route", "add", "unreachable", address, "table", "local"], check=True, timeout=10
        )
        died[address] = time.monotonic()
        time.sleep(DEATH_EVERY_S)
    return died


def _children(pid: int, named: str) -> list[int]:
    found = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [one for one in map(int, found) if named in Path(f"/proc/{one}/cmdline").read_text()]


def _cpu_s(pids: Sequence[int]) -> float:
    """What these processes have used, in user space and in the kernel for them."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(row[11]) + int(row[12]) for row in fields) * _TICK_S


if __name__ == "__main__":
    main()
