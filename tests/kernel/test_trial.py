"""What nobody confirms goes back on a real kernel too: ipvsadm is the witness, and a worker is killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.director import host
from cluster.director.apply import Director, take
from cluster.director.kernel.netlink import NetlinkKernel
from cluster.director.reconcile import Reconciler
from cluster.ipvs.formats.document import to_document
from cluster.ipvs.state import Table
from tests.director.stage import Stage, backend, service, table
from tests.kernel.test_command_line import ipvsadm

pytestmark = pytest.mark.kernel

ROOT = Path(__file__).parents[2]
BEFORE = table(service(1, backend(1), backend(2)))
AFTER = table(service(1, backend(2, weight=5)), service(3, backend(5)))
OLD_LINES, NEW_LINE = ["192.0.2.1:80", "10.0.0.1:80", "10.0.0.2:80 -m -w 1"], "192.0.2.3:80"


def _is_old() -> bool:
    said = ipvsadm("-Sn")
    return all(line in said for line in OLD_LINES) and NEW_LINE not in said and "-w 5" not in said


def _is_new() -> bool:
    said = ipvsadm("-Sn")
    return NEW_LINE in said and "10.0.0.2:80 -m -w 5" in said and "10.0.0.1:80" not in said


def _wait_until(is_true: Callable[[], bool], *, timeout_s: float) -> None:
    deadline = time.monotonic() + timeout_s
    while not is_true():
        assert time.monotonic() < deadline, f"it did not come true: {ipvsadm('-Sn')}"
        time.sleep(0.1)


@pytest.fixture
def director(tmp_path: Path, netlink: NetlinkKernel) -> Director:
    """By the machine's own clocks, and with a service of somebody else beside."""
    ipvsadm("-A", "-u", "192.0.2.99:53", "-s", "rr")
    stage = Stage(tmp_path, now=time.time(), rehearsal="off")
    return replace(stage.director(), kernel=netlink, clock=time.time, boot=host.boot)


def _take(director: Director, wanted: Table, revision: int, **payload: Any) -> None:
    stage = Stage(director.config.state_dir, now=time.time())
    take(stage.order(wanted, revision=revision, payload={"table": to_document(wanted)} | payload), director)


def _on_trial(director: Director, within_s: float) -> None:
    _take(director, BEFORE, 1)
    assert _is_old()
    _take(director, AFTER, 2, trial={"within_s": within_s})
    assert _is_new()


@contextmanager
def _worker(director: Director) -> Iterator[subprocess.Popen[str]]:
    """A real one, whose broker is nowhere; killed at the end as kill -9 does."""
    config = director.config.state_dir / "director.json"
    said = {"director": "director1", "broker": "redis://127.0.0.1:1/0", "rehearsal": "off"}
    said |= {"panel_public_key": director.config.panel_public_key}
    config.write_text(json.dumps(said | {"state_dir": str(director.config.state_dir), "kernel": "netlink"}))
    words = [sys.executable, "-m", "cluster.director", "worker", "--config", str(config)]
    process = subprocess.Popen(words, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None and "kernel=netlink" in process.stdout.readline()
        yield process
    finally:
        process.kill()
        process.wait(10)


def test_the_loop_takes_an_unconfirmed_order_back(director: Director) -> None:
    _on_trial(director, within_s=2)
    loop = Reconciler(director)
    loop.round()
    assert _is_new()
    time.sleep(2.1)
    loop.round()
    assert _is_old() and "192.0.2.99:53" in ipvsadm("-Sn")


def test_a_worker_that_is_killed_before_the_end_goes_back_when_it_starts_after_it(
    director: Director,
) -> None:
    _on_trial(director, within_s=14)
    ends = time.monotonic() + 14
    with _worker(director):
        time.sleep(1)
        assert _is_new()
    time.sleep(max(0.0, ends - time.monotonic()))
    assert _is_new(), "nobody is there to do it"
    with _worker(director):
        _wait_until(_is_old, timeout_s=15)
    assert "192.0.2.99:53" in ipvsadm("-Sn")


def test_a_worker_that_runs_on_without_panel_or_broker_goes_back_in_time(director: Director) -> None:
    _on_trial(director, within_s=10)
    with _worker(director):
        assert _is_new()
        _wait_until(_is_old, timeout_s=30)


def test_an_empty_kernel_before_the_end_gets_what_was_confirmed(director: Director) -> None:
    """As after a reboot; the trial would last for an hour."""
    _on_trial(director, within_s=3600)
    ipvsadm("-C")
    with _worker(director):
        _wait_until(_is_old, timeout_s=15)
    assert NEW_LINE not in ipvsadm("-Sn")
