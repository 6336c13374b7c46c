"""Which kind of room this machine can have, and what to do if it is none."""

import os
import shutil
import socket
import subprocess
from pathlib import Path

from lab.door import LabError
from lab.layout import HOST_KERNEL, KINDS, MODULES, USER_MODE_LINUX

UML = Path("/usr/bin/linux.uml")
UML_MODULES = Path("/usr/lib/uml/modules")
TUN = Path("/dev/net/tun")

PACKAGES = {
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "taskset": "util-linux",
    "mount": "mount",
    "ip": "iproute2",
    "modprobe": "kmod",
    "redis-server": "redis-server",
    "ipvsadm": "ipvsadm",
    "iptables-legacy": "iptables",
    "curl": "curl",
}

# A fresh namespace must be able to hold everything the topology needs.
TRY_HOST_KERNEL = (
    "ip link add try0 type veth peer name try1 && ip link add try2 type bridge && cat /proc/net/ip_vs"
)


class LabUnavailable(LabError):
    """This machine cannot have a lab as it is; the message says why and what would change that."""


def choose_kind(wanted: str | None = None) -> str:
    """The kind of room to build; the host's kernel is preferred, for it is the faster one."""
    if wanted is not None and wanted not in KINDS:
        raise LabError(f"There is no kind of room called {wanted!r}. Use one of: {', '.join(KINDS)}.")
    _need_root()
    _need_programs()
    if wanted != USER_MODE_LINUX and host_has_ipvs():
        return HOST_KERNEL
    if wanted == HOST_KERNEL:
        raise LabUnavailable("The kernel of this machine has no IPVS: `modprobe ip_vs` did not help.")
    _need_uml()
    return USER_MODE_LINUX


def host_has_ipvs() -> bool:
    """Whether a new network namespace of this very kernel has an IPVS table."""
    _succeeds("modprobe", "-a", *MODULES)  # may fail where they are built in
    return _succeeds("unshare", "--net", "sh", "-c", TRY_HOST_KERNEL)


def claim_cpu() -> tuple[int, socket.socket | None]:
    """A CPU that no other lab is pinned to, and the claim to keep open for as long as it is used.

    The claim is an abstract unix socket: unlike a lock file it leaves nothing behind, however a lab ends.
    """
    cpus = sorted(os.sched_getaffinity(0), reverse=True)
    for cpu in cpus:
        claim = socket.socket(socket.AF_UNIX)
        try:
            claim.bind(f"\0lvs-admin-lab-cpu{cpu}")
        except OSError:
            claim.close()
            continue
        return cpu, claim
    return cpus[os.getpid() % len(cpus)], None


def _need_root() -> None:
    if os.geteuid() != 0:
        raise LabUnavailable("A lab makes network namespaces, which needs root. Run the command with sudo.")
    if not _succeeds("unshare", "--net", "--mount", "--pid", "--ipc", "--uts", "--fork", "true"):
        raise LabUnavailable(
            "This machine does not let root make namespaces (a container without the SYS_ADMIN capability?). "
            "Run the lab outside the container, or start the container with --privileged."
        )


def _need_programs() -> None:
    search = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
    missing = [package for program, package in PACKAGES.items() if not shutil.which(program, path=search)]
    if missing:
        raise LabUnavailable(f"Programs are missing. Run: {_apt(missing)}")


def _need_uml() -> None:
    if not UML.exists() or not UML_MODULES.is_dir():
        raise LabUnavailable(
            "The kernel of this machine has no IPVS, and User Mode Linux, which could stand in, is not "
            f"installed. Run: {_apt(['user-mode-linux'])}"
        )
    if not TUN.exists():
        raise LabUnavailable(
            f"There is no {TUN}, which connects a User Mode Linux guest. Run: modprobe tun. "
            f"If this is a container, start it with --device {TUN}."
        )


def _apt(packages: list[str]) -> str:
    return f"apt-get install --no-install-recommends {' '.join(sorted(set(packages)))}"


def _succeeds(*command: str) -> bool:
    try:
        return subprocess.run(command, capture_output=True, timeout=30).returncode == 0
    except (OSError, subprocess.TimeoutExpired):
        return False
