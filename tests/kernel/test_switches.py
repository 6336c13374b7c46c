"""Who may set the kernel's switches, tried on the kernel."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cluster.director.kernel.netlink import NetlinkKernel
from cluster.director.tuning import FOLDER, set_switches, switches_to_set

pytestmark = pytest.mark.kernel

WANTED = {"expire_nodest_conn": "1", "sync_threshold": "3 60"}
# What the worker does, as a program of its own, so that it can be another user.
SET = f"""
from cluster.director.tuning import set_switches
for step, problem in set_switches({WANTED!r}):
    print(step.name, problem)
"""


def as_program(*before: str) -> list[str]:
    root = Path(__file__).parents[2]
    done = subprocess.run(
        [*before, sys.executable, "-c", SET],
        cwd=root,
        env={"PYTHONPATH": str(root), "PATH": "/usr/sbin:/usr/bin:/sbin:/bin"},
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.splitlines()


def test_they_are_set_in_this_namespace_and_read_back(netlink: NetlinkKernel) -> None:
    netlink.version()
    assert [problem for _, problem in set_switches(WANTED)] == ["", ""]
    assert (FOLDER / "expire_nodest_conn").read_text().strip() == "1"
    assert switches_to_set(WANTED) == []
    (FOLDER / "expire_nodest_conn").write_text("0")
    assert [(one.name, one.before) for one in switches_to_set(WANTED)] == [("expire_nodest_conn", "0")]


def test_the_right_of_the_units_user_is_enough(netlink: NetlinkKernel) -> None:
    netlink.version()
    rights = [
        "--inh-caps=-all,+net_admin",
        "--ambient-caps=-all,+net_admin",
        "--bounding-set=-all,+net_admin",
    ]
    said = as_program("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", *rights)
    assert said == ["expire_nodest_conn ", "sync_threshold "]
    assert switches_to_set(WANTED) == []


def test_without_that_right_it_is_said_what_is_missing(netlink: NetlinkKernel) -> None:
    netlink.version()
    first, second = as_program("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
    assert "CAP_NET_ADMIN" in first and "CAP_NET_ADMIN" in second
    assert len(switches_to_set(WANTED)) == 2


def test_a_read_only_proc_is_named_with_its_remedy(netlink: NetlinkKernel) -> None:
    netlink.version()
    read_only = 'mount --bind /proc/sys /proc/sys && mount -o remount,ro,bind /proc/sys && exec "$@"'
    first, _ = as_program("unshare", "--mount", "sh", "-c", read_only, "sh")
    assert "/proc/sys is read-only for the worker" in first
    assert len(switches_to_set(WANTED)) == 2
