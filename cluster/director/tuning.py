"""net.ipv4.vs.* of this director: read them all, write one. /proc/sys/net/ipv4/vs.

The kernel shows the folder of the calling thread's network namespace, and which switches it has differs
from release to release: the folder is listed, never a list of ours.
"""

from __future__ import annotations

import os
from pathlib import Path

from cluster.ipvs import tuning
from cluster.ipvs.tuning import Sysctl

FOLDER = Path("/proc/sys/net/ipv4/vs")
MOST_SYSCTLS = 100


def read_sysctls(folder: Path = FOLDER) -> list[Sysctl]:
    """All switches by name; none where IPVS is not loaded. One that vanishes or may not be read has no
    value and hides no other."""
    try:
        names = sorted(os.listdir(folder))[:MOST_SYSCTLS]
    except OSError:
        return []
    return [Sysctl(name, _read(folder / name)) for name in names]


def write_sysctl(name: str, value: str, folder: Path = FOLDER) -> str:
    """Set one switch. Empty on success, else a sentence. Nothing but what the kernel lists is written, and
    of that what is known to be valid."""
    if name not in (one.name for one in read_sysctls(folder)):
        return f"The kernel of this director has no switch “{name[:64]}”. Load its module, or choose another."
    if problem := tuning.value_problem(name, value):
        return problem
    wanted = tuning.canonical_value(value)
    try:
        with open(folder / name, "w") as file:
            file.write(wanted)
    except OSError as error:
        return f"The kernel did not take {wanted} for {name}: {error.strerror}. It is as it was."
    return ""


def _read(path: Path) -> str | None:
    try:
        with open(path) as file:
            return tuning.canonical_value(file.read(tuning.LONGEST_VALUE))
    except (OSError, UnicodeDecodeError):
        return None
