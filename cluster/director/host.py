"""The machine around the kernel's table: its release, its IPVS modules, and loading one of them.

What exists is read from this kernel's own lists, never from a list of ours: distributions differ.
"""

from __future__ import annotations

import ctypes
import gc
import os
import re
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from cluster.director.config import Config
from cluster.director.kernel import Kernel, KernelError
from cluster.director.kernel.memory import MemoryKernel
from cluster.director.tuning import read_sysctls
from cluster.ipvs import settings

MODPROBE_DEADLINE_S = 15
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")
MOST_ADDRESSES = 1000
# After so many new objects, and so many rounds among the young and the middle-aged.
_GARBAGE_THRESHOLDS = 50_000, 5, 5

# malloc.h
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3
_FREED_MEMORY = 8 * 1024 * 1024

_MODULE = re.compile(r"ip_vs(_[a-z0-9_]+)?")
_FILE = re.compile(r"/(ip_vs[a-z0-9_]*)\.ko(?:\.[a-z0-9]+)?:?(?=\s|$)")
# Modules that are neither a scheduler nor named as an engine: the FTP helper.
_HELPERS = frozenset({"ftp"})


class Boot(NamedTuple):
    """Which start of the machine this is, and the seconds since then, which nobody sets; sleep counts."""

    id: str
    seconds: float


def boot() -> Boot:
    """The machine's present run."""
    return Boot(BOOT_ID.read_text().strip(), time.clock_gettime(time.CLOCK_BOOTTIME))


def seek_garbage_rarely() -> None:
    """Look for circular garbage a hundred times less often than Python does by itself. A table is very many
    objects and no circle: looking through it while it is made takes a fifth of the time of a load."""
    gc.set_threshold(*_GARBAGE_THRESHOLDS)


def keep_freed_memory() -> None:
    """Let the C library keep what this process frees (glibc does, up to 8 MB) instead of giving all but
    128 KiB back. A worker reads its table every two seconds; with 100,000 backends it would be given a
    thousand pages anew each time."""
    if tell := getattr(ctypes.CDLL(None), "mallopt", None):
        tell(_M_TRIM_THRESHOLD, _FREED_MEMORY)
        # Larger pieces are always given back. By itself this would stay at 128 KiB from now on.
        tell(_M_MMAP_THRESHOLD, _FREED_MEMORY)


def return_free_memory() -> None:
    """Give this process's free memory back to the machine, where the C library can (glibc can). An order of
    100,000 backends leaves 14 MB in small pieces, which stay for ever otherwise."""
    if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
        trim(0)


def facts(config: Config, kernel: Kernel) -> dict[str, Any]:
    """What the panel shows of this machine. Never raises: what can't be found out is empty."""
    try:
        version = kernel.version()
    except KernelError:
        version = ""
    found = modules(config)
    return {
        "kernel": os.uname().release,
        "ipvs": version,
        "stand_in": kernel.stand_in,
        "hostname": socket.gethostname(),
        "modules": [{"name": name, "state": state} for name, state in found.items()],
        "schedulers": schedulers(found, kernel),
        "addresses": addresses(),
        "settings": _settings(kernel),
    }


def _settings(kernel: Kernel) -> dict[str, Any]:
    """What IPVS has beside its table; empty where it cannot be read."""
    try:
        found = settings.to_document(kernel.read_settings())
    except KernelError:
        return {}
    return found | {"sysctls": sysctls(kernel)}


def sysctls(kernel: Kernel) -> dict[str, str]:
    """The kernel's values below net.ipv4.vs, without those that could not be read."""
    # A stand-in must not pass this machine's switches off as its own.
    found = [] if kernel.stand_in else read_sysctls()
    return {one.name: one.value for one in found if one.value is not None}


def addresses() -> list[str]:
    """The addresses on this machine's interfaces, where a virtual address has to be for packets to arrive.
    Empty where they cannot be read; cut where there are very many."""
    try:
        with IPRoute() as links:
            found = {str(message.get_attr("IFA_ADDRESS")) for message in links.get_addr()}
    except (OSError, NetlinkError):
        return []
    return sorted(found)[:MOST_ADDRESSES]


def modules(config: Config) -> dict[str, str]:
    """Every IPVS module of the running kernel: `loaded` (or built in), `loadable`, or, for ip_vs itself,
    `missing`."""
    tree = config.modules / os.uname().release
    found = dict.fromkeys(_names(tree / "modules.dep"), "loadable")
    found |= dict.fromkeys(_names(tree / "modules.builtin"), "loaded")
    found |= dict.fromkeys(_loaded(), "loaded")
    found.setdefault("ip_vs", "missing")
    return dict(sorted(found.items()))


def schedulers(found: dict[str, str], kernel: Kernel) -> list[str]:
    """The schedulers that the kernel has or can load, by module name; of a stand-in, those it takes."""
    if isinstance(kernel, MemoryKernel):
        return sorted(kernel.schedulers - {"none"})
    names = (name.removeprefix("ip_vs_") for name in found if name.startswith("ip_vs_"))
    return sorted(name for name in names if name not in _HELPERS and not name.startswith("pe_"))


def load_module(config: Config, name: str) -> str:
    """Load one IPVS module of this kernel. Empty on success, else a sentence. Nothing but a module that
    the kernel lists under an IPVS name is ever handed to modprobe."""
    if not _MODULE.fullmatch(name):
        return "Only IPVS modules (ip_vs and ip_vs_…) may be loaded; the request named another."
    if modules(config).get(name, "missing") == "missing":
        return f"The kernel {os.uname().release} of this director has no module {name}."
    try:
        done = subprocess.run(
            [config.modprobe, "--", name],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=MODPROBE_DEADLINE_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        return f"Loading {name} took longer than {MODPROBE_DEADLINE_S} s and was given up."
    except OSError as error:
        return f"{config.modprobe} could not be started: {error.strerror}."
    if done.returncode:
        said = done.stderr.strip().splitlines()
        return f"modprobe could not load {name}: {said[-1] if said else f'exit status {done.returncode}'}."
    return ""


def _names(path: Path) -> Iterator[str]:
    try:
        text = path.read_text(errors="replace")
    except OSError:
        return
    for line in text.splitlines():
        if match := _FILE.search(line.split(" ", 1)[0]):
            yield match.group(1)


def _loaded() -> Iterator[str]:
    try:
        text = Path("/proc/modules").read_text()
    except OSError:
        return
    for line in text.splitlines():
        name = line.split(" ", 1)[0]
        if _MODULE.fullmatch(name):
            yield name
