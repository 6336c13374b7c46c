"""Timeouts, sync daemons and zeroing, on both kernels alike, with ipvsadm as a witness."""

from __future__ import annotations

import errno
import subprocess
from dataclasses import astuple, replace

import pytest

from cluster.director.kernel import Kernel, KernelRefused, NoAnswer, settings_codec
from cluster.director.kernel.conversation import Conversation
from cluster.director.kernel.memory import Faults, MemoryKernel
from cluster.director.kernel.netlink import NetlinkKernel
from cluster.ipvs.errors import explain
from cluster.ipvs.plan import Operation, Step
from cluster.ipvs.settings import DEFAULT_TIMEOUTS, SettingOperation, SyncDaemon, SyncRole, Timeouts
from cluster.ipvs.state import Backend, Forwarding, Protocol, Service, ServiceKey, Tunnel

WEB = Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80))
MIXED = Backend("fd00::1", 80, Forwarding.TUNNEL, tunnel=Tunnel())
MASTER = SyncDaemon(SyncRole.MASTER, "lo", 7)
BACKUP = SyncDaemon(SyncRole.BACKUP, "lo", 9, "239.1.2.3", 9000, 5, 2000)


def refusal(act: object, *arguments: object) -> int:
    assert callable(act)
    with pytest.raises(KernelRefused) as caught:
        act(*arguments)
    return caught.value.errno


def test_a_fresh_kernel_has_the_known_timeouts_and_no_daemon(kernel: Kernel) -> None:
    said = kernel.read_settings()
    assert (said.timeouts, said.daemons) == (DEFAULT_TIMEOUTS, ())


def test_a_timeout_of_0_stays_as_it_is(kernel: Kernel) -> None:
    kernel.set_timeouts(Timeouts(1800, 0, 30))
    assert kernel.read_settings().timeouts == Timeouts(1800, 120, 30)
    kernel.set_timeouts(Timeouts())
    assert kernel.read_settings().timeouts == Timeouts(1800, 120, 30)


@pytest.mark.parametrize(
    "wanted",
    [Timeouts(-1, 5, 5), Timeouts(5, -1, 5), Timeouts(5, 5, -1), Timeouts(2**31 - 1), Timeouts(2**40)],
)
def test_a_bad_timeout_is_refused_and_none_is_changed(kernel: Kernel, wanted: Timeouts) -> None:
    assert refusal(kernel.set_timeouts, wanted) == errno.EINVAL
    assert kernel.read_settings().timeouts == DEFAULT_TIMEOUTS


def test_the_longest_timeout_that_we_allow_is_kept(kernel: Kernel) -> None:
    kernel.set_timeouts(Timeouts(2_147_483, 2_147_483, 2_147_483))
    assert astuple(kernel.read_settings().timeouts) == (2_147_483,) * 3


def test_master_and_backup_run_side_by_side_with_every_setting(kernel: Kernel) -> None:
    kernel.start_daemon(BACKUP)
    kernel.start_daemon(MASTER)
    running = (replace(MASTER, group="224.0.0.81", port=8848, ttl=1, max_length=1472), BACKUP)
    assert kernel.read_settings().daemons == running
    kernel.stop_daemon(SyncRole.MASTER)
    assert kernel.read_settings().daemons == (BACKUP,)


@pytest.mark.parametrize(
    ("daemon", "length"),
    [
        (MASTER, 1472),
        (replace(MASTER, max_length=1), 1),
        (replace(MASTER, max_length=65535), 65507),
        (replace(BACKUP, max_length=0), 65507),
        (replace(BACKUP, max_length=1), 1024),
        (replace(BACKUP, max_length=0, group="ff02::81"), 65487),
        (replace(BACKUP, max_length=65535, group="ff02::81"), 65487),
    ],
    ids=str,
)
def test_the_size_of_messages_is_put_within_the_kernels_bounds(
    kernel: Kernel, daemon: SyncDaemon, length: int
) -> None:
    kernel.start_daemon(daemon)
    assert kernel.read_settings().daemons[0].max_length == length


@pytest.mark.parametrize(
    ("daemon", "code"),
    [
        (replace(MASTER, interface="nope"), errno.ENODEV),
        (replace(MASTER, interface=""), errno.ENODEV),
        (replace(MASTER, interface="x" * 16), errno.EINVAL),
        (replace(MASTER, group="10.0.0.1"), errno.EINVAL),
        (replace(MASTER, group="fd00::1"), errno.EINVAL),
        (replace(MASTER, group="10.0.0.1", interface="nope"), errno.EINVAL),
        (replace(MASTER, group="no address"), errno.EINVAL),
        (replace(MASTER, sync_id=2**32), errno.EINVAL),
        (replace(MASTER, sync_id=-1), errno.EINVAL),
        (replace(MASTER, port=65536), errno.EINVAL),
        (replace(MASTER, ttl=256), errno.EINVAL),
        (replace(MASTER, max_length=65536), errno.EINVAL),
        (MASTER, 0),
        (replace(MASTER, sync_id=256), 0),
    ],
    ids=str,
)
def test_a_daemon_that_cannot_be_is_refused(kernel: Kernel, daemon: SyncDaemon, code: int) -> None:
    if not code:
        kernel.start_daemon(daemon)
        assert kernel.read_settings().daemons[0].sync_id == daemon.sync_id
    else:
        assert refusal(kernel.start_daemon, daemon) == code
        assert kernel.read_settings().daemons == ()


def test_a_second_daemon_of_a_role_is_refused_and_the_first_goes_on(kernel: Kernel) -> None:
    kernel.start_daemon(MASTER)
    assert refusal(kernel.start_daemon, replace(MASTER, sync_id=8)) == errno.EEXIST
    assert refusal(kernel.start_daemon, replace(MASTER, interface="nope")) == errno.ENODEV
    assert [daemon.sync_id for daemon in kernel.read_settings().daemons] == [7]


def test_stopping_what_does_not_run_is_refused(kernel: Kernel) -> None:
    kernel.start_daemon(MASTER)
    assert refusal(kernel.stop_daemon, SyncRole.BACKUP) == errno.ESRCH
    kernel.stop_daemon(SyncRole.MASTER)
    assert refusal(kernel.stop_daemon, SyncRole.MASTER) == errno.ESRCH


def test_daemons_and_backends_of_another_family_exclude_each_other(kernel: Kernel) -> None:
    assert [said.errno for said in kernel.do([Step(Operation.ADD_SERVICE, WEB)])] == [0]
    assert [said.errno for said in kernel.do([Step(Operation.ADD_BACKEND, WEB, MIXED)])] == [0]
    assert refusal(kernel.start_daemon, MASTER) == errno.EINVAL
    assert [said.errno for said in kernel.do([Step(Operation.REMOVE_BACKEND, WEB, MIXED)])] == [0]
    kernel.start_daemon(MASTER)
    assert [said.errno for said in kernel.do([Step(Operation.ADD_BACKEND, WEB, MIXED)])] == [errno.EINVAL]
    kernel.stop_daemon(SyncRole.MASTER)
    assert [said.errno for said in kernel.do([Step(Operation.ADD_BACKEND, WEB, MIXED)])] == [0]


def test_zeroing_needs_the_service_that_it_names(kernel: Kernel) -> None:
    kernel.zero()
    assert refusal(kernel.zero, WEB.key) == errno.ESRCH
    kernel.do([Step(Operation.ADD_SERVICE, WEB)])
    kernel.zero(WEB.key)
    kernel.zero()


def test_a_silent_kernel_leaves_settings_unknown() -> None:
    kernel = MemoryKernel()
    kernel.faults = Faults(silent=NoAnswer("The kernel did not answer within 10 s."))
    for act in (kernel.read_settings, kernel.zero, lambda: kernel.stop_daemon(SyncRole.MASTER)):
        with pytest.raises(NoAnswer):
            act()


@pytest.mark.kernel
def test_a_daemon_that_had_no_time_to_run_is_stopped_without_waiting(netlink: NetlinkKernel) -> None:
    for _ in range(50):
        netlink.start_daemon(MASTER)
        netlink.stop_daemon(SyncRole.MASTER)
    assert netlink.read_settings().daemons == ()


@pytest.mark.kernel
def test_the_kernel_says_nothing_of_a_daemon_that_had_no_time_to_run(netlink: NetlinkKernel) -> None:
    """Why stop_daemon reads again: if this fails, a kernel has learnt to answer."""
    silent = 0
    for _ in range(50):
        netlink.start_daemon(MASTER)
        with Conversation(5) as talk:
            try:
                talk.change(settings_codec.DEL_DAEMON, settings_codec.encode_role(SyncRole.MASTER))
            except NoAnswer:
                silent += 1
    assert silent > 0
    assert netlink.read_settings().daemons == ()


@pytest.mark.kernel
def test_a_master_without_a_way_to_its_group_is_refused_in_words(netlink: NetlinkKernel) -> None:
    code = refusal(netlink.start_daemon, replace(MASTER, group="ff02::81"))
    assert code == errno.ENETUNREACH
    said = explain(code, SettingOperation.START_DAEMON, subject="the master sync daemon")
    assert "no way to the multicast group" in said.happened


@pytest.mark.kernel
def test_ipvsadm_sees_the_same_settings(netlink: NetlinkKernel) -> None:
    netlink.set_timeouts(Timeouts(1800, 60, 30))
    netlink.start_daemon(replace(MASTER, ttl=3))
    assert "1800 60 30" in ipvsadm("-L", "--timeout")
    assert ipvsadm("-L", "--daemon").split("(")[1].strip() == (
        "mcast=lo, syncid=7, maxlen=1472, group=224.0.0.81, port=8848, ttl=3)"
    )
    size = netlink.read_settings().connection_table_size
    assert f"version {netlink.read_settings().version} (size={size})" in ipvsadm("-Ln")


@pytest.mark.kernel
def test_what_ipvsadm_set_is_read(netlink: NetlinkKernel) -> None:
    ipvsadm("--set", "100", "20", "3")
    ipvsadm("--start-daemon", "backup", "--mcast-interface", "lo", "--syncid", "255")
    said = netlink.read_settings()
    assert said.timeouts == Timeouts(100, 20, 3)
    assert said.daemons == (SyncDaemon(SyncRole.BACKUP, "lo", 255, "224.0.0.81", 8848, 1, 65507),)


def ipvsadm(*arguments: str) -> str:
    done = subprocess.run(["ipvsadm", *arguments], capture_output=True, text=True, timeout=10, check=True)
    return done.stdout
