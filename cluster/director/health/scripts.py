"""Checks by a script of the director's administrator: never through a shell, never anybody else's file."""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import stat
from contextlib import suppress
from pathlib import Path

from cluster.director.health import Tried
from cluster.director.health.sockets import Goal
from cluster.director.health.streams import printable
from cluster.ipvs.traffic.checks import Check

_MOST_OUTPUT = 4096
# linux/prctl.h
_PR_CAP_AMBIENT, _CLEAR_ALL = 47, 4
_libc = ctypes.CDLL(None, use_errno=True)


async def check_script(goal: Goal, check: Check, *, folder: Path) -> Tried:
    """Run it with address and port, then its arguments. It ends with 0 where the backend is up; its whole
    process group ends with the caller's deadline."""
    if "/" in check.script or check.script in ("", ".", ".."):
        return Tried(False, "a script is named without a path", 0.0)
    path = folder / check.script
    if problem := script_problem(path):
        return Tried(False, problem, 0.0)
    process = await asyncio.create_subprocess_exec(
        str(path),
        goal.address,
        str(goal.port),
        *check.arguments,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LVSADMIN_ADDRESS": goal.address}
        | {"LVSADMIN_PORT": str(goal.port)},
        cwd="/",
        start_new_session=True,
        preexec_fn=_give_up_capabilities,
    )
    try:
        assert process.stdout is not None
        output = await process.stdout.read(_MOST_OUTPUT)
        # What it says beyond that is read, so that it does not wait for a reader, and thrown away.
        while await process.stdout.read(_MOST_OUTPUT):
            pass
        status = await process.wait()
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        if process.returncode is None:
            await asyncio.shield(process.wait())
    text = printable(output.decode("utf-8", "replace"))
    if status:
        said = f"script ended with status {status}" if status > 0 else f"script ended by signal {-status}"
        return Tried(False, said, 0.0, text)
    return Tried(True, "", 0.0, text)


def _give_up_capabilities() -> None:
    """Those that systemd gave the worker to program IPVS would otherwise be the script's as well."""
    _libc.prctl(_PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)


def script_problem(path: Path) -> str:
    """Why this file must not be run; empty where it may."""
    try:
        found, folder = path.lstat(), path.parent.stat()
    except OSError as error:
        return f"no such script {path.name} on this director ({error.strerror})"
    if not stat.S_ISREG(found.st_mode):
        return f"the script {path.name} is no regular file"
    for one, what in ((found, f"the script {path.name}"), (folder, "the scripts' directory")):
        if one.st_uid not in (0, os.geteuid()) or one.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            return f"{what} can be changed by others than the administrator"
    return "" if os.access(path, os.X_OK) else f"the script {path.name} is not executable"
