"""`make demo` as somebody at a terminal meets it, in a copy of the project so that no other is disturbed."""

import json
import os
import pty
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from lab.layout import PROJECT
from tests.lab.processes import processes_of, wait_until_none

READY = b"Ctrl+C ends all of it"
IGNORED = shutil.ignore_patterns(".*", "__pycache__", "tests", "docs")
LONGEST_START_S = 90.0


def _hear_interrupts() -> None:
    """Tests that a shell started in the background have been taught to ignore them, and so would make."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


class Demo:
    """One run of the demo in a pseudo-terminal: signals, and closing the terminal, are the real ones."""

    def __init__(self, project: Path, **variables: str) -> None:
        self.project, self.words = project, b""
        self.terminal, other = pty.openpty()
        self.process = subprocess.Popen(
            ["setsid", "--ctty", "make", "demo-without-setup", f"PYTHON={sys.executable}"],
            cwd=project,
            stdin=other,
            stdout=other,
            stderr=other,
            env={**os.environ, "STAND_IN": "1", **variables},
            preexec_fn=_hear_interrupts,
        )
        os.close(other)

    def read_until(self, wanted: bytes) -> None:
        os.set_blocking(self.terminal, False)
        deadline = time.monotonic() + LONGEST_START_S
        while wanted not in self.words:
            assert time.monotonic() < deadline, self.words.decode()
            try:
                self.words += os.read(self.terminal, 65536)
            except BlockingIOError:
                time.sleep(0.05)
            except OSError:
                raise AssertionError(f"it ended before it said {wanted!r}: {self.words.decode()}") from None

    @property
    def access(self) -> Path:
        return self.project / ".demo/access.json"


@pytest.fixture
def project(tmp_path: Path) -> Iterator[Path]:
    """A copy of the project with a demo target that uses the virtual environment of these tests."""
    copy = tmp_path / "copy"
    shutil.copytree(PROJECT, copy, ignore=IGNORED)
    with (copy / "Makefile").open("a") as makefile:
        makefile.write("\ndemo-without-setup:\n\t@$(PYTHON) -m lab.demo\n")
    yield copy
    assert wait_until_none(copy) == []


@pytest.mark.traffic
def test_one_demo_runs_in_a_folder_until_ctrl_c_and_leaves_no_trace(project: Path) -> None:
    demo = Demo(project)
    demo.read_until(READY)
    assert demo.access.stat().st_mode & 0o777 == 0o600
    access = json.loads(demo.access.read_text())
    assert sorted(access) == ["api_token", "password", "url", "username"]
    assert access["password"].encode() in demo.words and access["url"].encode() in demo.words

    second = Demo(project)
    second.read_until(b"running already")
    second.process.wait(15)
    os.close(second.terminal)
    assert demo.access.exists()

    os.write(demo.terminal, b"\x03")
    demo.read_until(b"all of it has ended")
    demo.process.wait(15)
    os.close(demo.terminal)
    assert processes_of(project) == [] and not (project / ".demo").exists()


@pytest.mark.traffic
def test_a_closed_terminal_ends_it_too(project: Path) -> None:
    demo = Demo(project)
    demo.read_until(READY)
    os.close(demo.terminal)
    demo.process.wait(15)
    assert wait_until_none(project) == [] and not (project / ".demo").exists()


@pytest.mark.traffic
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_to_make_alone_ends_it(project: Path, number: int) -> None:
    """SIGINT make keeps to itself, and after SIGKILL it can pass on nothing."""
    demo = Demo(project)
    demo.read_until(READY)
    os.kill(demo.process.pid, number)
    demo.process.wait(15)
    assert wait_until_none(project) == [] and not (project / ".demo").exists()
    os.close(demo.terminal)
