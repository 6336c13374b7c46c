"""A table that somebody else changes while it is read: no backend that was there all the time is missing."""

from __future__ import annotations

import threading
import time

import pytest

from cluster.director.kernel import HalfRead
from cluster.director.kernel.netlink import NetlinkKernel
from cluster.ipvs.plan import Operation, Step
from cluster.ipvs.state import Backend, Protocol, Service, ServiceKey

WEB = Service(ServiceKey(Protocol.TCP, "192.0.2.1", 80), "rr")
STAYING = [Backend(f"10.0.{number >> 8}.{number & 255}", 80) for number in range(1, 1001)]
PASSING = [Backend(f"10.1.0.{number}", 80) for number in range(1, 51)]
SECONDS = 4.0


@pytest.mark.kernel
def test_backends_that_stay_are_in_every_reading(netlink: NetlinkKernel) -> None:
    add = [Step(Operation.ADD_BACKEND, WEB, one) for one in STAYING + PASSING]
    netlink.do([Step(Operation.ADD_SERVICE, WEB), *add])
    is_over = threading.Event()

    def change() -> None:
        """Remove those that the kernel lists first, the newest, one by one; then add them again."""
        kernel = NetlinkKernel(deadline_s=10)
        while not is_over.is_set():
            for operation in (Operation.REMOVE_BACKEND, Operation.ADD_BACKEND):
                for backend in PASSING:
                    kernel.do([Step(operation, WEB, backend)])

    # A thread is in the namespace of the one that started it.
    somebody = threading.Thread(target=change)
    somebody.start()
    whole = half = 0
    try:
        end = time.monotonic() + SECONDS
        while time.monotonic() < end:
            try:
                table = netlink.read().table if whole % 2 else netlink.read_services([WEB.key])
            except HalfRead:
                half += 1
                continue
            whole += 1
            there = set(table.by_key[WEB.key].backends)
            assert [one for one in STAYING if one not in there] == []
    finally:
        is_over.set()
        somebody.join(20)
    assert whole + half > 10
    assert set(netlink.read().table.by_key[WEB.key].backends) >= set(STAYING)
