"""The checking process as a worker has it: it is started again, holds nobody up, and is never left behind."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from cluster.director.health import Watched
from cluster.director.health.child import CheckingProcess
from cluster.ipvs.state import Backend, Protocol, ServiceKey
from cluster.ipvs.traffic.checks import Check, Verdict

KEY = ServiceKey(Protocol.TCP, "192.0.2.1", 80)
QUICK = Check(interval_s=0.5, timeout_s=0.4, rise=1, fall=2, retry_s=0.1)
PATIENCE_S = 30.0


@pytest.fixture
def checker(tmp_path: Path) -> Iterator[CheckingProcess]:
    found = CheckingProcess(scripts=tmp_path)
    yield found
    found.stop()


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=100) as found:
        yield found


def until(is_so: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, "it never came to that"
        time.sleep(0.02)


def watched(port: int) -> Watched:
    return Watched(KEY, Backend("127.0.0.1", port), QUICK)


def verdict_of(checker: CheckingProcess, one: Watched) -> Verdict:
    """The next verdict."""
    found: list[Verdict] = []
    until(lambda: found.extend(v for v in [checker.news().verdicts.get(one.place)] if v) or found)
    return found[0]


def child_of(pid: int | str = "self") -> int:
    """The newest child of this process."""
    own = os.getpid() if pid == "self" else pid
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(own)], capture_output=True, text=True, check=False
    )
    return max(child for child in map(int, found.stdout.split()) if _is_checking(child))


def _is_checking(pid: int) -> bool:
    try:
        return b"cluster.director.health.process" in Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return False


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return True


def test_a_checking_process_that_is_killed_comes_back_and_verdicts_hold(
    checker: CheckingProcess, listener: socket.socket
) -> None:
    one = watched(listener.getsockname()[1])
    checker.watch([one], {})
    assert verdict_of(checker, one).is_up
    pid = child_of()
    os.kill(pid, signal.SIGKILL)
    until(lambda: is_gone(pid))
    assert checker.news().verdicts == {}
    listener.close()
    assert not verdict_of(checker, one).is_up
    assert child_of() != pid


def test_half_a_line_of_a_killed_process_ends_nothing(
    checker: CheckingProcess, listener: socket.socket
) -> None:
    one = watched(listener.getsockname()[1])
    checker.watch([one], {})
    verdict_of(checker, one)
    pid = child_of()
    # As a process that is killed while it writes.
    with open(f"/proc/{pid}/fd/1", "wb", buffering=0) as output:
        output.write(b'{"list": 1, "verd')
        os.kill(pid, signal.SIGKILL)
    listener.close()
    assert not verdict_of(checker, one).is_up


def test_a_process_that_cannot_be_started_is_tried_again(
    checker: CheckingProcess, listener: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = watched(listener.getsockname()[1])
    checker.watch([one], {})
    verdict_of(checker, one)
    start, refused = CheckingProcess._start, []

    def refuses_once(self: CheckingProcess) -> None:
        if not refused:
            refused.append(1)
            raise OSError("Cannot allocate memory")
        start(self)

    monkeypatch.setattr(CheckingProcess, "_start", refuses_once)
    os.kill(child_of(), signal.SIGKILL)
    listener.close()
    assert not verdict_of(checker, one).is_up and refused


def test_a_process_that_hangs_is_killed_and_started_again_and_verdicts_hold(
    tmp_path: Path, listener: socket.socket
) -> None:
    # It tells its pace every 5 s.
    checker = CheckingProcess(scripts=tmp_path, hangs_after_s=11)
    try:
        one = watched(listener.getsockname()[1])
        checker.watch([one], {})
        assert verdict_of(checker, one).is_up
        assert checker.trouble == ""
        pid = child_of()
        os.kill(pid, signal.SIGSTOP)
        until(lambda: "has said nothing for" in checker.trouble)
        until(lambda: is_gone(pid))
        until(lambda: "hung and was started again just now" in checker.trouble)
        assert checker.news().verdicts == {}, "nothing is known anew, so what was known holds"
        listener.close()
        assert not verdict_of(checker, one).is_up
        assert child_of() != pid
    finally:
        checker.stop()
    assert checker.trouble == ""


def test_a_process_that_has_nothing_to_say_lives_on(tmp_path: Path, listener: socket.socket) -> None:
    checker = CheckingProcess(scripts=tmp_path, hangs_after_s=11)
    try:
        one = watched(listener.getsockname()[1])
        checker.watch([one], {})
        assert verdict_of(checker, one).is_up
        pid = child_of()
        time.sleep(12.5)
        assert child_of() == pid and checker.trouble == ""
    finally:
        checker.stop()


def test_a_process_that_is_killed_is_told_of(checker: CheckingProcess) -> None:
    checker.watch([watched(1)], {})
    until(lambda: checker.news().verdicts)
    os.kill(child_of(), signal.SIGKILL)
    until(lambda: "ended with status -9 and was started again" in checker.trouble)


def test_a_process_that_does_not_read_holds_nobody_up(checker: CheckingProcess) -> None:
    checker.watch([watched(1)], {})
    until(lambda: checker.news().verdicts)
    pid = child_of()
    os.kill(pid, signal.SIGSTOP)
    # Far more than a pipe takes: were they written by who calls, this would not return.
    for _ in range(3):
        checker.watch([Watched(KEY, Backend(f"127.1.{n >> 8}.{n & 255}", 1), QUICK) for n in range(2000)], {})
    assert checker.news().verdicts == {}
    checker.stop()
    assert is_gone(pid)


def test_stop_leaves_nothing(checker: CheckingProcess, listener: socket.socket) -> None:
    checker.watch([watched(listener.getsockname()[1])], {})
    until(lambda: checker.news().verdicts)
    pid = child_of()
    checker.stop()
    assert is_gone(pid)
    checker.watch([watched(1)], {})
    with pytest.raises(ValueError):
        child_of()


def test_a_process_whose_worker_is_killed_ends_by_itself(tmp_path: Path) -> None:
    worker = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "import time; from pathlib import Path\n"
            "from tests.health.test_child import CheckingProcess, watched\n"
            f"c = CheckingProcess(scripts=Path({str(tmp_path)!r})); c.watch([watched(1)], {{}})\n"
            "while not c.news().verdicts: time.sleep(0.05)\n"
            "print('ready', flush=True); time.sleep(600)",
        ],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert worker.stdout is not None
    with worker, worker.stdout:
        try:
            assert worker.stdout.readline() == b"ready\n"
            pid = child_of(worker.pid)
        finally:
            worker.kill()
    until(lambda: is_gone(pid))


def test_a_try_says_what_came_of_each(checker: CheckingProcess, listener: socket.socket) -> None:
    up, down = checker.try_now([watched(listener.getsockname()[1]), watched(1)])
    assert (up.is_up, down.is_up, down.reason) == (True, False, "connection refused")


def test_the_process_imports_neither_celery_nor_redis() -> None:
    asked = (
        "import sys, cluster.director.health.process\n"
        "print([name for name in ('celery', 'redis', 'kombu', 'pyroute2') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", asked],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
        check=True,
    )
    assert done.stdout == "[]\n"
