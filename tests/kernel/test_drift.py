"""What ipvsadm changes in a real kernel is found thing by thing, and put right by an order or by itself."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cluster.director import host
from cluster.director.kernel.netlink import NetlinkKernel
from cluster.wire.drifted import place_to_document
from cluster.wire.messages import Operation
from tests.director.stage import Stage
from tests.director.test_drift import DNS, SHOP, Theatre
from tests.kernel.test_command_line import ipvsadm

pytestmark = pytest.mark.kernel


class OnAKernel(Theatre):
    """The same play, with the kernel as its stage."""

    def __init__(self, folder: Path, kernel: NetlinkKernel, **payload: Any) -> None:
        stage = Stage(folder, rehearsal="off")
        plain = stage.director
        stage.director = lambda: replace(plain(), kernel=kernel, boot=host.boot)  # type: ignore[method-assign]
        super().__init__(stage, **payload)


def test_each_change_is_found_and_one_is_put_right(tmp_path: Path, netlink: NetlinkKernel) -> None:
    ipvsadm("-A", "-u", "192.0.2.99:53", "-s", "rr")
    drifted = OnAKernel(tmp_path, netlink)
    ipvsadm("-e", "-t", "192.0.2.1:80", "-r", "10.0.0.1:80", "-m", "-w", "99")
    ipvsadm("-d", "-t", "192.0.2.1:80", "-r", "10.0.0.2:80")
    ipvsadm("-D", "-t", "192.0.2.2:80")
    ipvsadm("-D", "-u", "192.0.2.99:53")
    drifted.later()
    assert drifted.wrong == [
        ("10.0.0.1:80 of TCP 192.0.2.1:80", "weight 1, masquerade", "weight 99, masquerade"),
        ("10.0.0.2:80 of TCP 192.0.2.1:80", "weight 1, masquerade", "absent"),
        ("TCP 192.0.2.2:80", "scheduler rr", "absent"),
    ]
    places = [place_to_document((DNS.key, None)), place_to_document((SHOP.key, SHOP.backends[1].key))]
    assert drifted.order(Operation.REPAIR, places=places)["outcome"] == "applied"
    said = ipvsadm("-Sn")
    assert "-A -t 192.0.2.2:80" in said and "10.0.0.3:80" in said and "10.0.0.2:80 -m -w 1" in said
    assert "10.0.0.1:80 -m -w 99" in said, "nobody asked for that"


def test_an_enforcing_director_heals_what_ipvsadm_did(tmp_path: Path, netlink: NetlinkKernel) -> None:
    drifted = OnAKernel(tmp_path, netlink, enforce=True)
    before = sorted(ipvsadm("-Sn").splitlines())
    ipvsadm("-A", "-u", "192.0.2.99:53", "-s", "rr")
    ipvsadm("-D", "-t", "192.0.2.2:80")
    ipvsadm("-a", "-t", "192.0.2.1:80", "-r", "10.0.0.9:80", "-m")
    drifted.later()
    after = sorted(ipvsadm("-Sn").splitlines())
    assert [line for line in after if "192.0.2.99" not in line] == before
    assert any("192.0.2.99" in line for line in after), "that is somebody else's"
