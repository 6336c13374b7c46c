"""From which of its addresses a director sends a check on the clients' way."""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path

import pytest

from cluster.director.health.sockets import own_source

VIP = "fd00:50::10"


def listed(folder: Path, *rows: tuple[str, int, int, str]) -> Path:
    """As /proc/net/if_inet6: address, prefix, flags, interface."""
    lines = [
        f"{int(IPv6Address(address)):032x} 02 {prefix:02x} "
        f"{'20' if address.startswith('fe80') else '00'} {flags:02x} {interface:>8}\n"
        for address, prefix, flags, interface in rows
    ]
    path = folder / "if_inet6"
    path.write_text("".join(lines))
    return path


USUAL = (("fe80::1", 64, 0x80, "eth0"), (VIP, 128, 0x82, "eth0"), ("fd00:50::2", 64, 0x82, "eth0"))


@pytest.mark.parametrize(
    ("more", "expected"),
    [
        ((), "fd00:50::2"),
        # Another virtual address, which the backend has as well.
        ((("fd00:50::11", 128, 0x80, "eth0"), ("fd00:50::1", 128, 0x80, "eth0")), "fd00:50::2"),
        # Out of another interface, or of another network.
        ((("fd00:50::1", 64, 0x80, "mgmt0"), ("fd00:1::1", 64, 0x80, "eth0")), "fd00:50::2"),
        # Deprecated, not yet known to be alone, known not to be.
        (tuple(("fd00:50::1", 64, flag, "eth0") for flag in (0xA0, 0xC0, 0x88)), "fd00:50::2"),
    ],
)
def test_it_is_one_of_its_own(
    tmp_path: Path, more: tuple[tuple[str, int, int, str], ...], expected: str
) -> None:
    path = listed(tmp_path, *more, *USUAL)
    for avoid in (VIP, "fd00:50::99"):
        assert own_source(VIP, "fd00:50::12", avoid=avoid, listed=path) == expected


def test_there_may_be_none(tmp_path: Path) -> None:
    path = listed(tmp_path, USUAL[0], USUAL[1])
    assert own_source(VIP, "fd00:50::12", avoid=VIP, listed=path) == ""
    assert own_source(VIP, "fd00:50::12", avoid=VIP, listed=tmp_path / "absent") == ""
    assert own_source("192.0.2.1", "192.0.2.2", avoid="192.0.2.1", listed=path) == ""


def test_what_the_kernel_chose_is_good_where_it_is_no_virtual_address(tmp_path: Path) -> None:
    path = listed(tmp_path, *USUAL)
    assert own_source("fd00:50::2", "fd00:50::12", avoid=VIP, listed=path) == "fd00:50::2"
    assert own_source("192.0.2.1", "192.0.2.2", avoid="192.0.2.9", listed=path) == "192.0.2.1"
    assert own_source("::1", "::1", avoid=VIP, listed=path) == "::1"


def test_a_machine_whose_addresses_all_stand_alone_sends_as_the_kernel_says(tmp_path: Path) -> None:
    path = listed(tmp_path, (VIP, 128, 0x80, "eth0"), ("fd00:50::2", 128, 0x80, "eth0"))
    assert own_source("fd00:50::2", "fd00:50::12", avoid=VIP, listed=path) == "fd00:50::2"
    assert own_source(VIP, "fd00:50::12", avoid=VIP, listed=path) == "fd00:50::2"


def test_a_backend_behind_a_router_is_reached_from_any_of_the_interface(tmp_path: Path) -> None:
    path = listed(tmp_path, *USUAL)
    assert own_source(VIP, "2001:db8::1", avoid=VIP, listed=path) == "fd00:50::2"


def test_the_kernels_own_list_can_be_read() -> None:
    assert own_source("::1", "::1", avoid="::2") == "::1"
