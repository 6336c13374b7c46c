"""The lab's Redis: a real server, to be stopped, crashed and started again by fault tests."""

import socket
import subprocess
import threading
import time
from pathlib import Path

from lab.door import LabError
from lab.layout import BROKER_ADDRESS, RUN, UNPRIVILEGED

FOLDER = RUN / "redis"  # the lab's folder `redis`, so that the machine finds the socket there
SOCKET = FOLDER / "redis.sock"
TIMEOUT_S = 15.0


class Broker:
    """Redis on a unix socket for the machine, and on TCP for the directors."""

    def __init__(self, *, persistent: bool) -> None:
        self._persistent = persistent
        self._process: subprocess.Popen[bytes] | None = None
        self._changing = threading.Lock()

    @property
    def pid(self) -> int | None:
        process = self._process
        return process.pid if process and process.poll() is None else None

    def start(self) -> None:
        with self._changing:
            if self.pid is None:
                SOCKET.unlink(missing_ok=True)
                self._process = subprocess.Popen(self._command(), stdin=subprocess.DEVNULL)
                self._wait_until_it_answers()

    def stop(self, *, crash: bool = False) -> None:
        """End Redis, politely or, to crash it, without a chance to write anything down."""
        with self._changing:
            if self._process is None or self.pid is None:
                return
            if crash:
                self._process.kill()
            else:
                self._process.terminate()
            self._process.wait(TIMEOUT_S)

    def _command(self) -> list[str]:
        who = str(UNPRIVILEGED)
        return [
            *("setpriv", "--reuid", who, "--regid", who, "--clear-groups"),
            *("--no-new-privs", "--inh-caps=-all", "--bounding-set=-all"),
            *("redis-server", "--bind", BROKER_ADDRESS, "--port", "6379", "--protected-mode", "no"),
            # The lab's folder is closed to everybody but its owner; that is the lock on this socket.
            *("--unixsocket", str(SOCKET), "--unixsocketperm", "777"),
            *("--dir", str(FOLDER), "--daemonize", "no", "--loglevel", "warning", "--save", ""),
            *("--appendonly", "yes" if self._persistent else "no"),
        ]

    def _wait_until_it_answers(self) -> None:
        assert self._process
        deadline = time.monotonic() + TIMEOUT_S
        while self._process.poll() is None and time.monotonic() < deadline:
            if _answers(SOCKET):
                return
            time.sleep(0.02)
        raise LabError("Redis did not start; its last words are in the lab's lab.log.")


def _answers(path: Path) -> bool:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(1)
        try:
            connection.connect(str(path))
            connection.sendall(b"PING\r\n")
            return connection.recv(64).startswith(b"+PONG")
        except OSError:
            return False
