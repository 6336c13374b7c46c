"""Killed at any step of an apply: the next start, and the order that comes again, finish it."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.director import host
from cluster.director.apply import Director, restore, take
from cluster.director.kernel import conversation
from cluster.director.kernel.conversation import Conversation
from cluster.director.kernel.netlink import NetlinkKernel
from cluster.ipvs.formats.ipvsadm import parse
from cluster.ipvs.state import Table
from tests.director.stage import Stage, backend, service, table
from tests.kernel.test_command_line import ipvsadm

pytestmark = pytest.mark.kernel

FOREIGN = service(9, backend(9))
BEFORE = table(service(1, backend(1), backend(2)), service(2, backend(3)))
AFTER = table(service(1, backend(2, weight=5), backend(4), scheduler="wlc"), service(3, backend(5)))


def _seen() -> Table:
    """What the kernel holds, as ipvsadm says it."""
    return parse(ipvsadm("-Sn")).table


def _killed_at(work: Callable[[], object], number: int, *, is_done: bool) -> bool:
    """Do it in a process that gets kill -9 at the step of this number, counted from 0: before it is sent, or,
    with `is_done`, when the kernel has done it. Whether the work had that many steps."""
    child = os.fork()
    if not child:
        try:
            _kill_at(number, is_done=is_done)
            work()
            os._exit(0)
        finally:
            os._exit(1)
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) in (0, -signal.SIGKILL)
    return os.WIFSIGNALED(status)


def _kill_at(number: int, *, is_done: bool) -> None:
    """Of this process: each step is a send of its own from now on, and one of them the last."""
    conversation._BATCH_MESSAGES = 1
    tell, steps = Conversation._tell_some, 0

    def counted(self: Conversation, *batch: Any) -> None:
        nonlocal steps
        if steps == number and not is_done:
            os.kill(os.getpid(), signal.SIGKILL)
        tell(self, *batch)
        if steps == number:
            os.kill(os.getpid(), signal.SIGKILL)
        steps += 1

    Conversation._tell_some = counted  # type: ignore[method-assign]


@pytest.mark.parametrize("is_done", [False, True], ids=["before the step", "after the step"])
@pytest.mark.parametrize("after", [AFTER, Table()], ids=["to another table", "to none"])
def test_killed_at_any_step_the_order_ends_in_the_same_table(
    netlink: NetlinkKernel, tmp_path: Path, after: Table, is_done: bool
) -> None:
    ipvsadm("-A", "-t", "192.0.2.9:80", "-s", "rr")
    ipvsadm("-a", "-t", "192.0.2.9:80", "-r", "10.0.0.9:80", "-m")
    stage = Stage(tmp_path, now=time.time(), rehearsal="off")
    revision, killed = 0, 0

    def director() -> Director:
        return replace(stage.director(), kernel=netlink, clock=time.time, boot=host.boot)

    def apply(wanted: Table) -> None:
        take(stage.order(wanted, revision=revision), director())

    while True:
        revision += 1
        apply(BEFORE)
        assert _seen() == table(FOREIGN, *BEFORE.services)
        revision += 1
        was_killed = _killed_at(lambda: apply(after), killed, is_done=is_done)
        restore(director())
        # Where nothing of ours is left, the next start takes it for a reboot, until the order comes again.
        assert after == Table() or _seen() == table(FOREIGN, *after.services), killed
        apply(after)
        assert _seen() == table(FOREIGN, *after.services), killed
        if not was_killed:
            break
        killed += 1
    assert killed == (7 if after is AFTER else 2)
