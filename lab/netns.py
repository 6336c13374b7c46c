"""Entering a named network namespace from Python 3.11, which has no os.setns yet."""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager

from lab.layout import HUB

CLONE_NEWNET = 0x40000000

_libc = ctypes.CDLL(None, use_errno=True)


@contextmanager
def inside(node: str) -> Iterator[None]:
    """Run the block's sockets, sysctls and child processes in the node's namespace.

    The kernel switches the calling thread alone; sockets made here stay in the node after the block.
    """
    if node == HUB:
        yield
        return
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        there = os.open(f"/run/netns/{node}", os.O_RDONLY)
        try:
            _set(there)
        finally:
            os.close(there)
        try:
            yield
        finally:
            _set(home)
    finally:
        os.close(home)


def _set(descriptor: int) -> None:
    if _libc.setns(descriptor, CLONE_NEWNET):
        number = ctypes.get_errno()
        raise OSError(number, f"setns: {os.strerror(number)}")
