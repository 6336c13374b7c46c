"""Who is still there: the processes that have to do with a folder."""

import os
import time
from pathlib import Path


def processes_of(folder: Path) -> list[str]:
    """The command lines of all processes that name the folder, have it in their environment or work in it."""
    found = []
    for process in Path("/proc").glob("[0-9]*"):
        try:
            words = (process / "cmdline").read_bytes() + (process / "environ").read_bytes()
            words += os.fsencode(os.readlink(process / "cwd"))
            if int(process.name) != os.getpid() and os.fsencode(folder) in words:
                found.append((process / "cmdline").read_bytes().replace(b"\0", b" ").decode())
        except OSError:
            continue
    return found


def wait_until_none(folder: Path) -> list[str]:
    deadline = time.monotonic() + 10
    while processes_of(folder) and time.monotonic() < deadline:
        time.sleep(0.1)
    return processes_of(folder)
