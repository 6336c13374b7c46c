"""The room a measurement needs: an empty network namespace, and a machine that has come to rest."""

from __future__ import annotations

import ctypes
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

_CLONE_NEWNET = 0x40000000
_LOOK_S = 0.1
_QUIET_SHARE = 0.8
_PATIENCE_S = 90.0

_libc = ctypes.CDLL(None, use_errno=True)


def fresh_namespace() -> None:
    """Move this process, and those it starts, into a new namespace; the old one goes with its last user."""
    if _libc.unshare(_CLONE_NEWNET):
        raise OSError(ctypes.get_errno(), "No network namespace could be made")
    # Without lo no backend can be added.
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, timeout=10)


def settle() -> None:
    """Leave the table that is there, and wait until this kernel has taken it apart, which goes on for
    seconds after the namespace has gone."""
    fresh_namespace()
    deadline = time.monotonic() + _PATIENCE_S
    quiet = 0
    while quiet < 2 and time.monotonic() < deadline:
        idle, total = _ticks()
        time.sleep(_LOOK_S)
        after_idle, after_total = _ticks()
        rested = after_idle - idle >= _QUIET_SHARE * (after_total - total)
        quiet = quiet + 1 if rested else 0


def seconds_of(work: Callable[[], object]) -> float:
    """How long it takes by the clock on the wall."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def resident_mb(pid: int | str = "self") -> float:
    """What a process holds in memory now."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


def _ticks() -> tuple[int, int]:
    numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return numbers[3] + numbers[4], sum(numbers)
