"""Checks that are programs of the director's administrator: how they are judged, and what is not run."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from cluster.ipvs.traffic.checks import Check, CheckKind
from tests.health.servers import against

ROOT = Path(__file__).parents[2]


def script(folder: Path, text: str, *, mode: int = 0o755) -> str:
    path = folder / "check"
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(mode)
    return path.name


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    found = tmp_path / "checks"
    found.mkdir(mode=0o755)
    return found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('test "$1 $2 $3" = "127.0.0.1 8080 a b"', ""),
        ("exit 3", "script ended with status 3"),
        ("kill -9 $$", "script ended by signal 9"),
        ("sleep 30", "SCRIPT timeout"),
        ("sleep 30 & sleep 30", "SCRIPT timeout"),
        ("head -c 1000000 /dev/zero", ""),
        ('test -z "$SECRET"', ""),
    ],
)
def test_a_script_is_judged_by_its_end(
    folder: Path, monkeypatch: pytest.MonkeyPatch, text: str, reason: str
) -> None:
    monkeypatch.setenv("SECRET", "of the worker")
    check = Check(CheckKind.SCRIPT, timeout_s=1.0, script=script(folder, text), arguments=("a b",))
    tried = asyncio.run(against(8080, check, scripts=folder))
    assert (tried.is_up, tried.reason) == (not reason, reason)


def test_a_script_never_sees_a_shell(folder: Path) -> None:
    name = script(folder, 'printf %s "$3"')
    check = Check(CheckKind.SCRIPT, script=name, arguments=("$(id); `id` | id",))
    assert asyncio.run(against(8080, check, scripts=folder)).text == "$(id); `id` | id"


def test_a_script_has_none_of_the_workers_capabilities(folder: Path) -> None:
    """As systemd hands them out: to a process without root, and to what it starts."""
    name = script(folder, "grep -E 'Cap(Eff|Amb)' /proc/self/status")
    code = f"""
import asyncio, sys
from pathlib import Path
from cluster.director.health import Watched
from cluster.director.health.probe import probe
from cluster.ipvs.state import Backend, Protocol, ServiceKey
from cluster.ipvs.traffic.checks import Check, CheckKind
print(Path("/proc/self/status").read_text().split("CapAmb:")[1].split()[0])
one = Watched(ServiceKey(Protocol.TCP, "192.0.2.1", 80), Backend("127.0.0.1", 80))
check = Check(CheckKind.SCRIPT, script={name!r})
print(asyncio.run(probe(one, check, scripts=Path({str(folder)!r}))))
"""
    # Root without root's own right to every capability.
    command = ["setpriv", "--securebits", "+noroot", "--inh-caps", "-all,+net_admin"]
    command += ["--ambient-caps", "-all,+net_admin", sys.executable, "-c", code]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    own, of_script = done.stdout.splitlines()
    assert int(own, 16), "the test's own process has the capability"
    assert "CapEff: 0000000000000000 CapAmb: 0000000000000000" in of_script


@pytest.mark.parametrize(
    ("spoil", "reason"),
    [
        (lambda path: path.unlink(), "no such script check on this director"),
        (lambda path: path.chmod(0o777), "the script check can be changed by others"),
        (lambda path: path.chmod(0o644), "the script check is not executable"),
        (lambda path: path.parent.chmod(0o777), "the scripts' directory can be changed by others"),
        (lambda path: (path.unlink(), path.symlink_to("/bin/true")), "the script check is no regular file"),
    ],
)
def test_a_script_that_others_could_have_written_is_not_run(folder: Path, spoil: Any, reason: str) -> None:
    name = script(folder, "exit 0")
    spoil(folder / name)
    tried = asyncio.run(against(8080, Check(CheckKind.SCRIPT, script=name), scripts=folder))
    assert not tried.is_up and tried.reason.startswith(reason)
