"""What befalls a real server: the others go on, and it can be undone."""

from __future__ import annotations

import pytest

from lab import Lab, LabError

pytestmark = pytest.mark.traffic


def _answer(room: Lab, last: int, *options: str) -> str:
    return room.execute(
        "director1", ["curl", "-sS", "-m", "2", *options, f"http://192.168.50.{last}/"]
    ).stdout


# Who looked for it in vain asks for its place in the network again only after a second or more.
AS_SOON_AS_IT_CAN = ("--retry", "5", "--retry-delay", "1", "--retry-all-errors")


@pytest.mark.parametrize(
    ("fault", "undoing"), [("stop", "start"), ("kill", "start"), ("freeze", "thaw"), ("unplug", "plug")]
)
def test_one_is_gone_the_others_answer_and_it_comes_back(room: Lab, fault: str, undoing: str) -> None:
    assert room.real_server(fault, "real1") > 0
    try:
        assert _answer(room, 11) == ""
        assert _answer(room, 12) == "real2\n"
    finally:
        room.real_server(undoing, "real1")
    assert _answer(room, 11, *AS_SOON_AS_IT_CAN) == "real1\n"


# Asks once, has the server asked to end, and asks again over the same connection.
_KEEPS_ALIVE = """
import http.client, os, signal, sys, time
talk = http.client.HTTPConnection("192.168.50.11", 80, timeout=5)
def ask():
    talk.request("GET", "/")
    answer = talk.getresponse()
    answer.read()
    print(answer.status, answer.headers["Connection"], flush=True)
ask()
os.kill(int(sys.argv[1]), signal.SIGTERM)
time.sleep(1)
ask()
"""


def test_a_server_that_is_asked_to_end_says_so_to_who_is_connected(room: Lab) -> None:
    pid = room.real_pid("real1")
    done = room.execute("director1", ["python3", "-c", _KEEPS_ALIVE, str(pid)])
    room.real_server("stop", "real1")
    assert done.stdout.splitlines() == ["200 keep-alive", "200 close"], done.stderr
    assert room.real_pid("real1") is None
    room.real_server("start", "real1")
    assert _answer(room, 11) == "real1\n"


def test_an_unknown_fault_is_refused(room: Lab) -> None:
    with pytest.raises(LabError, match="There is no 'melt' for 'real1'"):
        room.real_server("melt", "real1")
