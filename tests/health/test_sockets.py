"""From which of its addresses a director sends a check on the clients' way."""

from __future__ import annotations

from ipaddress import IPv6Address
from pathlib import Path

import pytest

from cluster.director.health.sockets import source_beside

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
    assert source_beside(VIP, "fd00:50::12", listed=path) == expected


def test_there_may_be_none(tmp_path: Path) -> None:
    path = listed(tmp_path, USUAL[0], USUAL[1])
    assert source_beside(VIP, "fd00:50::12", listed=path) == ""
    assert source_beside(VIP, "fd00:50::12", listed=tmp_path / "absent") == ""
    assert source_beside("192.0.2.1", "192.0.2.2", listed=path) == ""


def test_a_backend_behind_a_router_is_reached_from_any_of_the_interface(tmp_path: Path) -> None:
    path = listed(tmp_path, *USUAL)
    assert source_beside(VIP, "2001:db8::1", listed=path) == "fd00:50::2"


def test_the_kernels_own_list_can_be_read() -> None:
    assert source_beside("::2", "::1") == ""
