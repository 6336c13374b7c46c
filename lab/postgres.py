"""A PostgreSQL of the tests' own: in a temporary folder, on a unix socket alone, ended with us."""

import os
import pwd
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lab.children import Child
from lab.door import LabError

PROGRAMS = Path("/usr/lib/postgresql")  # Debian's, one folder a version
OWNER = "lvsadmin"
INITDB_TIMEOUT_S = 60.0
READY_TIMEOUT_S = 30.0
# Nothing in here is meant to survive; what is tested is locks, not disks.
SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "autovacuum": "off",
    "max_connections": "80",
    "shared_buffers": "64MB",
    # What waits for a lock for ever would hold up everything; in the panel nothing waits for seconds.
    "lock_timeout": "20s",
}


@contextmanager
def running() -> Iterator[dict[str, str]]:
    """The variables with which the panel uses it, while it runs. LabError where it cannot be started.

    Not for many threads: it ends with the one that started it, also where that is killed."""
    # Not $TMPDIR: a unix socket's address holds 107 characters.
    folder = Path(tempfile.mkdtemp(prefix="lvsadmin-postgres-", dir="/tmp"))
    try:
        server = _server(folder)
        server.start()
        try:
            _wait_until_it_answers(server, folder)
            yield {
                "LVSADMIN_PG_NAME": OWNER,
                "LVSADMIN_PG_USER": OWNER,
                "LVSADMIN_PG_HOST": str(folder),
                "LVSADMIN_PG_PASSWORD": "",
                "LVSADMIN_PG_PORT": "",
            }
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _server(folder: Path) -> Child:
    programs = _programs()
    as_owner = _as_unprivileged(folder)
    environment = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
    initdb = [
        *(*as_owner, str(programs / "initdb"), "--pgdata", str(folder / "data"), "--username", OWNER),
        *("--auth", "trust", "--encoding", "UTF8", "--locale", "C.UTF-8", "--no-sync"),
    ]
    done = subprocess.run(
        initdb, cwd=folder, env=environment, capture_output=True, text=True, timeout=INITDB_TIMEOUT_S
    )
    if done.returncode:
        raise LabError(f"PostgreSQL's tables could not be made:\n{(done.stdout + done.stderr)[-2000:]}")
    options = [word for name, value in SETTINGS.items() for word in ("-c", f"{name}={value}")]
    argv = [*as_owner, str(programs / "postgres"), "-D", str(folder / "data"), "-k", str(folder), *options]
    return Child("PostgreSQL", argv, log=folder / "postgres.log", env=environment)


def _programs() -> Path:
    found = [path.parent for path in PROGRAMS.glob("*/bin/initdb") if path.parent.parent.name.isdecimal()]
    if not found:
        raise LabError(f"There is no PostgreSQL in {PROGRAMS}. Run: apt-get install postgresql")
    return max(found, key=lambda path: int(path.parent.name))


def _as_unprivileged(folder: Path) -> list[str]:
    """What stands before a command: PostgreSQL refuses to run as root, and then gets Debian's user for it."""
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam("postgres")
    os.chown(folder, user.pw_uid, user.pw_gid)
    # Whoever changes his user loses the signal that Child gave him for the death of his parent.
    who = ["--reuid", str(user.pw_uid), "--regid", str(user.pw_gid), "--clear-groups"]
    return ["setpriv", *who, "--pdeathsig", "KILL"]


def _wait_until_it_answers(server: Child, folder: Path) -> None:
    ready = [str(_programs() / "pg_isready"), "--quiet", "--host", str(folder)]
    deadline = time.monotonic() + READY_TIMEOUT_S
    while subprocess.run(ready, timeout=READY_TIMEOUT_S).returncode:
        if server.exit_status is not None or time.monotonic() > deadline:
            raise LabError(f"PostgreSQL does not answer. Its last words:\n{server.tail()}")
        time.sleep(0.05)
