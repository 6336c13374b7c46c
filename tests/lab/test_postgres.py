"""The tests' own PostgreSQL: on a socket alone, and nothing of it stays."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lab.layout import PROJECT
from lab.postgres import running
from tests.lab.processes import processes_of, wait_until_none

pytestmark = pytest.mark.postgres

# Python hears no Ctrl+C where its own parent was told to ignore it, as a shell does for background jobs.
OWNER = """
import signal, time
from lab.postgres import running
signal.signal(signal.SIGINT, signal.default_int_handler)
with running() as variables:
    print(variables["LVSADMIN_PG_HOST"], flush=True)
    time.sleep(600)
"""


def test_it_listens_on_its_socket_alone_and_leaves_nothing() -> None:
    with running() as variables:
        folder = Path(variables["LVSADMIN_PG_HOST"])
        assert (folder / ".s.PGSQL.5432").is_socket() and processes_of(folder)
        asked = ["psql", "-h", str(folder), "-U", variables["LVSADMIN_PG_USER"], "-d", "postgres", "-Atc"]
        said = subprocess.run([*asked, "SHOW listen_addresses"], capture_output=True, text=True, timeout=30)
        assert (said.returncode, said.stdout) == (0, "\n")
    assert not folder.exists() and processes_of(folder) == []


@pytest.mark.parametrize("way", [signal.SIGINT, signal.SIGKILL])
def test_it_ends_with_its_owner(way: signal.Signals) -> None:
    owner = subprocess.Popen([sys.executable, "-c", OWNER], cwd=PROJECT, stdout=subprocess.PIPE, text=True)
    try:
        assert owner.stdout
        folder = Path(owner.stdout.readline().strip())
        assert folder.is_dir() and processes_of(folder)
    finally:
        os.kill(owner.pid, way)
        try:
            owner.wait(60)
        finally:
            owner.kill()
    assert wait_until_none(folder) == []
    assert way == signal.SIGKILL or not folder.exists()
    shutil.rmtree(folder, ignore_errors=True)
