"""What is known of the kernel's switches, tried on the kernel."""

from __future__ import annotations

import pytest

from cluster.director.kernel.netlink import NetlinkKernel
from cluster.director.tuning import FOLDER, read_sysctls, write_sysctl
from cluster.ipvs.tuning import KNOWN, are_rates_frozen

pytestmark = pytest.mark.kernel

# Of a newer kernel, and of schedulers that nobody may have used yet.
NOT_ALWAYS_THERE = {"est_nice", "lblc_expiration", "lblcr_expiration"}


def test_a_fresh_namespace_has_the_defaults_that_we_know(netlink: NetlinkKernel) -> None:
    netlink.version()  # loads nothing, but fails where there is no IPVS
    found = {one.name: one for one in read_sysctls()}
    assert [one.name for one in found.values() if one.known is None] == []
    # The log's level is one for the whole machine.
    odd = {name: one.value for name, one in found.items() if not one.is_default and name != "debug_level"}
    assert odd == {}
    assert KNOWN.keys() - found.keys() <= NOT_ALWAYS_THERE


def test_what_we_call_valid_is_taken_and_read_back(netlink: NetlinkKernel) -> None:
    for one in read_sysctls():
        known = KNOWN[one.name]
        # The log's level may not be written in a namespace, and two numbers follow below.
        wanted = [known.least, known.most] if known.numbers == 1 and one.name != "debug_level" else []
        for value in map(str, wanted):
            assert (one.name, write_sysctl(one.name, value)) == (one.name, "")
            assert {found.name: found.value for found in read_sysctls()}[one.name] == value
    for value in ("0 1", "3 0", "2147483646 2147483647"):
        assert write_sysctl("sync_threshold", value) == ""
    assert write_sysctl("debug_level", "3").startswith("The kernel did not take 3 for debug_level")


def test_the_kernel_takes_nonsense_for_a_switch_and_we_do_not(netlink: NetlinkKernel) -> None:
    (FOLDER / "expire_nodest_conn").write_text("9")
    assert {one.name: one.value for one in read_sysctls()}["expire_nodest_conn"] == "9"
    assert write_sysctl("expire_nodest_conn", "9") == "expire_nodest_conn must be a whole number from 0 to 1."


@pytest.mark.parametrize(
    ("name", "value"),
    [("sync_ports", "3"), ("sync_threshold", "3 3"), ("drop_entry", "4"), ("sync_retries", "4")],
)
def test_what_the_kernel_refuses_we_refuse(netlink: NetlinkKernel, name: str, value: str) -> None:
    with pytest.raises(OSError):
        (FOLDER / name).write_text(value)
    assert write_sysctl(name, value) != ""


def test_frozen_rates_are_noticed(netlink: NetlinkKernel) -> None:
    assert not are_rates_frozen(read_sysctls())
    assert write_sysctl("run_estimation", "0") == ""
    assert are_rates_frozen(read_sysctls())
