"""A User Mode Linux guest: an unprivileged process in a read-only tree, and a kernel that has IPVS."""

import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

from lab.checks import UML
from lab.door import LabError
from lab.layout import BROKER_ADDRESS, PROJECT, ROOM_ADDRESS, ROOM_STATE, RUN, UNPRIVILEGED, Settings

TREE = RUN / "tree"
SETTINGS_IN_ROOM = "/etc/lab.json"
ROOM_PROJECT = Path("/project")
ROOM_VENV = Path("/venv")
MEMORY = "512M"  # touched only as far as it is used
TAP = "tap0"

FOLDERS = (
    *("etc", "proc", "sys", "dev/net", "dev/shm", "run", "tmp", "var", "usr", "lib"),
    *("project", "venv", "private", "directors"),
)
# Only what programs need to know names by; nothing secret.
ETC = (
    *("passwd", "group", "nsswitch.conf", "ld.so.cache", "protocols", "services", "ethertypes"),
    *("localtime", "alternatives", "iproute2"),
)


def room_python() -> str:
    """The interpreter's path inside the guest: the project's folder and the venv have fixed places there."""
    prefix = Path(sys.prefix)
    if prefix.is_relative_to(PROJECT):
        return str(ROOM_PROJECT / prefix.relative_to(PROJECT) / "bin/python")
    if sys.prefix != sys.base_prefix:
        return str(ROOM_VENV / "bin/python")
    return sys.executable


def connect_tap() -> None:
    """One cable between the lab's namespace and the guest."""
    for line in (
        f"tuntap add dev {TAP} mode tap user {UNPRIVILEGED}",
        f"addr add {BROKER_ADDRESS}/24 dev {TAP}",
        f"link set {TAP} up",
        f"route add 10.123.1.0/24 via {ROOM_ADDRESS}",
    ):
        subprocess.run(["ip", *line.split()], check=True, timeout=10)


def build_tree(settings: Settings) -> None:
    """The guest's root. Guest root can remount its own view writable, so this side must refuse by itself:

    read-only binds, a chroot, no capabilities and a uid that owns nothing but the directors' state.
    """
    TREE.mkdir()
    _mount("-t", "tmpfs", "-o", "mode=755,size=16m", "tmpfs", TREE)
    for folder in FOLDERS:
        (TREE / folder).mkdir(parents=True)
    _bind_read_only(Path("/usr"), TREE / "usr")
    _link_libraries()
    _bind_python(settings)
    _bind_project()
    _copy_etc(settings)
    _make_devices()
    _mount("-t", "tmpfs", "-o", f"mode=700,size=1m,uid={UNPRIVILEGED}", "tmpfs", TREE / "private")
    _mount("-t", "proc", "proc", TREE / "proc")
    _mount("--bind", ROOM_STATE, TREE / "directors")
    _mount("-o", "remount,ro", TREE)
    _check_readable()


def command(settings: Settings) -> list[str]:
    """The guest as a command line. Unpinned it is ten times slower: ptrace across CPUs."""
    return [
        *("taskset", "-c", str(settings.cpu), "chroot", str(TREE)),
        *("env", "-i", "PATH=/usr/bin:/usr/sbin", "TMPDIR=/dev/shm", "HOME=/tmp"),
        *_as_nobody(),
        *(str(UML), f"mem={MEMORY}", "umid=lab", "uml_dir=/private/uml"),
        *("rootfstype=hostfs", "rootflags=/", "ro", "con=null", "con0=fd:0,fd:1", "quiet", "noreboot"),
        f"vec0:transport=tap,ifname={TAP},depth=128,gro=1",
        f"init={ROOM_PROJECT}/lab/init.sh",
        *("--", settings.python, str(ROOM_PROJECT), SETTINGS_IN_ROOM),
    ]


def _as_nobody() -> list[str]:
    who = str(UNPRIVILEGED)
    return [
        *("setpriv", "--reuid", who, "--regid", who, "--clear-groups"),
        *("--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"),
    ]


def _link_libraries() -> None:
    """/lib is links one by one, so that /lib/modules can be the guest's and `modprobe` works unmodified."""
    for name in ("bin", "sbin", "lib32", "lib64", "libx32"):
        if (TREE / "usr" / name).exists():
            (TREE / name).symlink_to(f"usr/{name}")
    for entry in (TREE / "usr/lib").iterdir():
        if entry.name != "modules":
            (TREE / "lib" / entry.name).symlink_to(f"../usr/lib/{entry.name}")
    (TREE / "lib/modules").symlink_to("../usr/lib/uml/modules")


def _bind_project() -> None:
    """Bind entry by entry: the folder itself may be closed to others, as a fresh temporary folder is.

    Hidden folders stay out, for the panel's keys and database are in one of them; the venv may be too.
    """
    for entry in PROJECT.iterdir():
        if not entry.name.startswith(".") or Path(sys.prefix).is_relative_to(entry):
            _bind_read_only(entry, TREE / "project" / entry.name)


def _bind_python(settings: Settings) -> None:
    if settings.python.startswith(f"{ROOM_VENV}/"):
        _bind_read_only(Path(sys.prefix), TREE / "venv")
    base = Path(sys.base_prefix)
    if not base.is_relative_to("/usr") or base.is_relative_to("/usr/local"):
        place = TREE / base.relative_to("/")
        if not place.exists():
            place.mkdir(parents=True)
            _bind_read_only(base, place)


def _copy_etc(settings: Settings) -> None:
    for name in ETC:
        source = Path("/etc") / name
        if source.is_dir():
            shutil.copytree(source, TREE / "etc" / name, symlinks=True)
        elif source.exists():
            shutil.copy(source, TREE / "etc" / name)
    (TREE / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost\n")
    (TREE / "etc/resolv.conf").write_text("")
    (TREE / SETTINGS_IN_ROOM.lstrip("/")).write_text(settings.dumps())


def _make_devices() -> None:
    for name in ("null", "zero", "full", "random", "urandom"):
        (TREE / "dev" / name).touch()
        _mount("--bind", f"/dev/{name}", TREE / "dev" / name)
    tun = TREE / "dev/net/tun"
    os.mknod(tun, stat.S_IFCHR | 0o600, os.makedev(10, 200))
    os.chown(tun, UNPRIVILEGED, UNPRIVILEGED)
    # The guest's memory is a file in here; huge pages where the machine has them.
    _mount("-t", "tmpfs", "-o", "mode=1777,size=2g,huge=within_size", "tmpfs", TREE / "dev/shm")


def _check_readable() -> None:
    """Files that nobody but root can read are the one thing the guest cannot cope with."""
    init = f"{ROOM_PROJECT}/lab/init.sh"
    test = ["chroot", str(TREE), *_as_nobody(), "test", "-r", init, "-a", "-x", init]
    if subprocess.run(test, timeout=10).returncode:
        raise LabError(
            f"The guest runs as an unprivileged user and cannot read {PROJECT}/lab. "
            f"Run: chmod -R o+rX {PROJECT}/*"
        )


def _bind_read_only(source: Path, place: Path) -> None:
    if source.is_symlink() and not source.exists():
        return
    if not place.exists():
        if source.is_dir():
            place.mkdir()
        else:
            place.touch()
    _mount("--bind", source, place)
    _mount("-o", "remount,bind,ro", place)


def _mount(*arguments: str | Path) -> None:
    subprocess.run(["mount", *map(str, arguments)], check=True, timeout=10)
