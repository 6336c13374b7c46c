"""The whole product as one thing: what it writes, what it refuses, and that nothing of it is left."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lab.demo import choose_port
from lab.door import LabError
from lab.layout import PROJECT, short_path
from lab.run_tests import count
from lab.stack import Stack, listen
from tests.lab.processes import processes_of, wait_until_none

OWNER = """
import sys, time
from pathlib import Path
from lab.stack import Stack
stack = Stack(Path(sys.argv[1]), stand_in=sys.argv[2] == "stand-in", progress=lambda line: None)
stack.start()
print("up", flush=True)
time.sleep(60)
"""


def test_a_taken_port_is_said_in_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(LabError, match=rf"Port {port} is taken.*PORT=8080\.$"):
            Stack(tmp_path / "stack", port=port)
    assert not (tmp_path / "stack").exists()


def test_it_listens_on_this_machine_alone() -> None:
    with listen(0) as listener:
        assert listener.getsockname()[0] == "127.0.0.1"


def test_without_port_the_next_free_one_is_taken() -> None:
    first = choose_port("")
    with listen(first):
        assert choose_port("") > first


@pytest.mark.parametrize("wanted", ["0", "65536", "80x", "-1"])
def test_a_port_that_is_none_is_refused(wanted: str) -> None:
    with pytest.raises(LabError, match="from 1 to 65535"):
        choose_port(wanted)


def test_a_folder_with_other_things_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "letters").touch()
    with pytest.raises(LabError, match="folder of its own"):
        Stack(tmp_path, stand_in=True).start()
    assert [path.name for path in tmp_path.iterdir()] == ["letters"]


def test_only_its_owner_reads_the_sign_in(tmp_path: Path) -> None:
    stack = Stack(tmp_path, stand_in=True)
    path = tmp_path / "access.json"
    path.touch(mode=0o644)
    stack.write_access(path)
    stack.stop()
    assert path.stat().st_mode & 0o777 == 0o600
    assert json.loads(path.read_text()) == {
        "url": stack.url,
        "username": "admin",
        "password": stack.password,
        "api_token": "",
    }


def test_every_run_has_a_password_of_its_own(tmp_path: Path) -> None:
    stacks = [Stack(tmp_path, stand_in=True) for _ in range(2)]
    for stack in stacks:
        stack.stop()
    assert stacks[0].password != stacks[1].password
    assert min(len(stack.password) for stack in stacks) >= 20


def test_a_report_is_counted_by_what_became_of_each_test() -> None:
    report = '<testsuites><testsuite tests="9" failures="1" errors="2" skipped="3"/></testsuites>'
    result = count(report, 1)
    assert (result.passed, result.failed, result.skipped) == (3, 3, 3)


@pytest.mark.parametrize(("report", "code"), [("", 1), ("", 2), ("", 4), ("", -9), ("<testsuites/>", 3)])
def test_a_broken_off_pytest_is_a_failure(report: str, code: int) -> None:
    assert count(report, code).failed == 1


def test_an_empty_folder_of_tests_is_none() -> None:
    assert count("", 5).failed == 0


@pytest.mark.traffic
def test_it_serves_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    with Stack(folder) as stack:
        assert stack.lab is not None
        assert stack.manage("audit_verify").startswith("The audit log is intact")
        assert len(processes_of(folder)) > 3
    assert processes_of(folder) == []
    assert str(folder) not in Path("/proc/self/mounts").read_text()
    assert [path for path in folder.rglob("*") if path.is_socket()] == []
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", stack.port))


@pytest.mark.traffic
def test_without_a_lab_the_directors_rehearse_in_memory(tmp_path: Path) -> None:
    folder = tmp_path / "stack"
    with Stack(folder, stand_in=True) as stack:
        assert stack.lab is None
        script = "from cluster.models import Director; print([d.is_stand_in for d in Director.objects.all()])"
        assert "[True, True]" in stack.manage("shell", "-c", script)
    assert processes_of(folder) == []
    assert [path for path in folder.rglob("*") if path.is_socket()] == []


@pytest.mark.traffic
def test_a_part_that_died_is_started_again(tmp_path: Path) -> None:
    with Stack(tmp_path / "stack", stand_in=True) as stack:
        pid = stack.panel_worker_pid()
        assert pid is not None
        os.kill(pid, signal.SIGKILL)
        deadline = time.monotonic() + 5
        revived: list[str] = []
        while not revived and time.monotonic() < deadline:
            revived = stack.revive()
            time.sleep(0.05)
        assert revived == ["panel's worker"]
        assert stack.panel_worker_pid() not in (None, pid)
        stack.stop_panel_worker()
        assert stack.revive() == [], "what was stopped on purpose stays away"


@pytest.mark.traffic
@pytest.mark.parametrize("kind", ["lab", "stand-in"])
def test_a_killed_owner_takes_everything_with_it(tmp_path: Path, kind: str) -> None:
    folder = tmp_path / "stack"
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(folder), kind], stdout=subprocess.PIPE, cwd=PROJECT
    )
    assert owner.stdout
    assert owner.stdout.readline() == b"up\n"
    assert len(processes_of(folder)) > 3
    owner.kill()
    owner.wait()
    assert wait_until_none(folder) == []
    # The short link to a deep folder is all that a killed owner leaves; the next start takes it away.
    if (short := short_path(folder / kind)) != folder / kind:
        short.unlink(missing_ok=True)
