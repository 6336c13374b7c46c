"""The others: ipvsadm, keepalived, and a C program that has nothing to do but send or receive."""

from __future__ import annotations

import os
import signal
import struct
import subprocess
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Self

from bench.room import seconds_of
from bench.tables import as_keepalived, as_saved
from cluster.director.kernel import codec
from cluster.director.kernel.conversation import Conversation
from cluster.director.kernel.netlink import NetlinkKernel
from cluster.ipvs.plan import plan
from cluster.ipvs.state import Service, Table

FLOOR = Path(__file__).with_name("floor")
_FILES = Path("/tmp")
_PIECE_BYTES = 64 * 1024
_TIMEOUT_S = 600.0
_LOOK_S = 0.002


def floor_send(wanted: Table) -> float:
    """Seconds for the messages of a load, encoded before, sent by a C program."""
    steps = plan(Table(), wanted, owned=frozenset()).steps
    messages = [codec.encode_step(step) for step in steps]
    return _floor("send", _pieces(_message(command, payload, flags=0x1) for command, payload in messages))


def floor_receive(wanted: Table) -> float:
    """Seconds for the dumps of a whole table, received by a C program that does not look into them."""
    asked = [(codec.GET_SERVICE, b"")] + [(codec.GET_DEST, codec.encode_key(one.key)) for one in wanted]
    return _floor("receive", (_message(command, payload, flags=0x301) for command, payload in asked))


def ipvsadm_restore(wanted: Table) -> float:
    """Seconds of `ipvsadm -R`."""
    return _run(["ipvsadm", "-R"], as_saved(wanted))


def ipvsadm_list() -> float:
    """Seconds of `ipvsadm -Ln --stats --exact`, whose text nobody reads."""
    return _run(["ipvsadm", "-Ln", "--stats", "--exact"], "")


class Keepalived:
    """keepalived without checkers and VRRP, from its start until all of the table is in the kernel."""

    def __init__(self, wanted: Table) -> None:
        self._wanted = wanted
        self._settings = _FILES / "keepalived.conf"
        self._kernel = NetlinkKernel()
        self.started_s = 0.0

    def __enter__(self) -> Self:
        self._settings.write_text(as_keepalived(self._wanted))
        began = time.perf_counter()
        self._process = subprocess.Popen(
            [
                *("keepalived", "--dont-fork", "--check", "--use-file", str(self._settings)),
                *("--pid", str(_FILES / "keepalived.pid"), "--checkers_pid", str(_FILES / "checkers.pid")),
            ],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            self._wait_for(self._wanted.services[-1])
            self.started_s = time.perf_counter() - began
            if self._kernel.read().table != self._wanted:
                raise SystemExit("keepalived adds its last service before others: the figure means nothing.")
        except BaseException:
            self._kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._kill()

    def reload(self, wanted: Table) -> float:
        """Seconds from SIGHUP until the last service is as wanted."""
        self._settings.write_text(as_keepalived(wanted))
        began = time.perf_counter()
        os.kill(self._process.pid, signal.SIGHUP)
        self._wait_for(wanted.services[-1])
        return time.perf_counter() - began

    def _wait_for(self, wanted: Service) -> None:
        deadline = time.monotonic() + _TIMEOUT_S
        while self._kernel.read_services([wanted.key]) != Table((wanted,)):
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("keepalived did not load the table.")
            time.sleep(_LOOK_S)

    def _kill(self) -> None:
        # By force: a stop in good order removes one backend after the other for half a minute.
        os.killpg(self._process.pid, signal.SIGKILL)
        self._process.wait(10)
        checkers = _FILES / "checkers.pid"
        if checkers.exists():
            with suppress(ProcessLookupError):
                os.kill(int(checkers.read_text()), signal.SIGKILL)
            checkers.unlink()


def _floor(work: str, pieces: Iterable[bytes]) -> float:
    path = _FILES / "floor.messages"
    path.write_bytes(b"".join(struct.pack("=I", len(piece)) + piece for piece in pieces))
    done = subprocess.run(
        [str(FLOOR), work, str(path)], capture_output=True, text=True, check=True, timeout=_TIMEOUT_S
    )
    path.unlink()
    seconds, count = done.stdout.split()
    if (work == "send") != (count == "0"):
        raise SystemExit(f"The kernel refused what the floor sent, or told it nothing: {done.stdout}")
    return float(seconds)


def _pieces(messages: Iterable[bytes]) -> Iterator[bytes]:
    piece = bytearray()
    for message in messages:
        if len(piece) + len(message) > _PIECE_BYTES:
            yield bytes(piece)
            piece.clear()
        piece += message
    yield bytes(piece)


def _message(command: int, payload: bytes, *, flags: int) -> bytes:
    length = 20 + len(payload)
    return struct.pack("=IHHIIBBH", length, _family(), flags, 1, 0, command, codec.VERSION, 0) + payload


@cache
def _family() -> int:
    with Conversation(10) as talk:
        return talk.family


def _run(command: list[str], text: str) -> float:
    def work() -> None:
        subprocess.run(
            command, input=text, text=True, stdout=subprocess.DEVNULL, check=True, timeout=_TIMEOUT_S
        )

    return seconds_of(work)
