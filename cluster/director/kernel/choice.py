"""Which kernel a director programs."""

from __future__ import annotations

from cluster.director.config import Config
from cluster.director.kernel import Kernel
from cluster.director.kernel.memory import MemoryKernel
from cluster.director.kernel.netlink import NetlinkKernel


def make_kernel(config: Config | None) -> Kernel:
    """The kernel that the settings name; without settings, the one that this program runs on."""
    if config is not None and config.kernel == "memory":
        return MemoryKernel()
    sibling = config.rehearsal if config and config.rehearsal.startswith("/") else ""
    return NetlinkKernel(rehearsal_socket=sibling)
