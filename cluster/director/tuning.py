"""net.ipv4.vs.* of this director: read them all, write one, bring those that are wanted to their values.
/proc/sys/net/ipv4/vs.

The kernel shows the folder of the calling thread's network namespace, and which switches it has differs
from release to release: the folder is listed, never a list of ours.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from pathlib import Path

from cluster.ipvs import tuning
from cluster.ipvs.tuning import Switching, Sysctl

FOLDER = Path("/proc/sys/net/ipv4/vs")
MOST_SYSCTLS = 100

_NOT_PERMITTED = (
    "The worker may not write there: its process lacks CAP_NET_ADMIN. Start it by its systemd unit, which"
    " grants it."
)
_REMEDIES = {
    errno.EROFS: "/proc/sys is read-only for the worker: take ProtectKernelTunables= out of its unit, or let"
    " its container write there; or set the switch in /etc/sysctl.d on the host and leave it as it is here.",
    errno.EACCES: _NOT_PERMITTED,
    errno.EPERM: _NOT_PERMITTED,
    errno.EBUSY: "A sync daemon runs that uses it: stop the daemon first.",
}


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
        said = f"The kernel did not take {wanted} for {name}: {error.strerror}. It is as it was."
        return f"{said} {_REMEDIES.get(error.errno or 0, '')}".rstrip()
    return ""


def switches_to_set(wanted: Mapping[str, str], folder: Path = FOLDER) -> list[Switching]:
    """Which of the wanted switches have another value now."""
    # The names may be anybody's: only what the kernel lists is opened.
    held = {one.name: one.value for one in read_sysctls(folder)} if wanted else {}
    return tuning.switches_to_set(held, wanted)


def set_switches(wanted: Mapping[str, str], folder: Path = FOLDER) -> list[tuple[Switching, str]]:
    """Bring them to their values and read back: each that differed, with what stood against it, empty where
    it was done. One that is refused keeps no other back."""
    differed = switches_to_set(wanted, folder)
    problems = {step.name: write_sysctl(step.name, step.value, folder) for step in differed}
    for left in switches_to_set({step.name: step.value for step in differed}, folder):
        problems[left.name] = problems[left.name] or f"It was set, and is {left.before} all the same."
    return [(step, problems[step.name]) for step in differed]


def _read(path: Path) -> str | None:
    try:
        with open(path) as file:
            return tuning.canonical_value(file.read(tuning.LONGEST_VALUE))
    except (OSError, UnicodeDecodeError):
        return None
