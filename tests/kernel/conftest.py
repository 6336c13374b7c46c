"""Both kernels for the same tests: the real one in a network namespace that lives for one test."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from cluster.director.kernel import Kernel
from cluster.director.kernel.memory import MemoryKernel
from cluster.director.kernel.netlink import NetlinkKernel

_CLONE_NEWNET = 0x40000000


@contextmanager
def own_namespace() -> Iterator[None]:
    """The calling thread's own empty network namespace, with lo up: without it no backend can be added."""
    libc = ctypes.CDLL(None, use_errno=True)
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        if libc.unshare(_CLONE_NEWNET):
            pytest.fail(f"No network namespace can be made here: {os.strerror(ctypes.get_errno())}")
        subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=10)
        yield
    finally:
        libc.setns(home, _CLONE_NEWNET)
        os.close(home)


@pytest.fixture
def namespace() -> Iterator[None]:
    """A network namespace for one test."""
    with own_namespace():
        yield


@pytest.fixture
def netlink(namespace: None) -> NetlinkKernel:
    return NetlinkKernel(deadline_s=10)


@pytest.fixture(params=["memory", pytest.param("netlink", marks=pytest.mark.kernel)])
def kernel(request: pytest.FixtureRequest) -> Kernel:
    """The contract's subject: a test that takes this runs once for each kernel."""
    if request.param == "memory":
        return MemoryKernel()
    real: NetlinkKernel = request.getfixturevalue("netlink")
    return real
