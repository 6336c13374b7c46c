"""The directors' workers are kept running, as a service manager would."""

import importlib.util
import time
from collections.abc import Callable

import pytest

from lab import Lab

pytestmark = [
    pytest.mark.traffic,
    pytest.mark.skipif(
        importlib.util.find_spec("cluster.director.__main__") is None, reason="there is no worker to run yet"
    ),
]


def eventually(is_so: Callable[[], bool], timeout_s: float = 20) -> bool:
    deadline = time.monotonic() + timeout_s
    while not is_so() and time.monotonic() < deadline:
        time.sleep(0.1)
    return is_so()


def test_a_killed_worker_comes_back_as_another_process(room: Lab) -> None:
    assert eventually(lambda: room.worker_pid("director1") is not None)
    first = room.worker_pid("director1")
    assert room.execute("hub", ["kill", "-9", str(first)]).returncode == 0
    assert eventually(lambda: room.worker_pid("director1") not in (None, first))


def test_a_stopped_worker_stays_away_until_it_is_started(room: Lab) -> None:
    room.stop_worker("director2")
    time.sleep(1.5)
    assert room.worker_pid("director2") is None
    room.start_worker("director2")
    assert eventually(lambda: room.worker_pid("director2") is not None)
