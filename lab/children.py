"""Long-running processes of ours that end with us, even if we are killed."""

import os
import signal
import subprocess
import time
from collections.abc import Collection, Sequence
from pathlib import Path

from lab.door import LabError
from lab.layout import PROJECT

STOP_TIMEOUT_S = 8.0
TAIL_LINES = 12


class Child:
    """One process with a log file of its own. Start it from the main thread: the kernel kills it when the
    *thread* that started it ends."""

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        log: Path,
        env: dict[str, str],
        pass_fds: Collection[int] = (),
    ) -> None:
        self.name = name
        self.log = log
        self._argv = ["setpriv", "--pdeathsig", "KILL", *argv]
        self._env = env
        self._pass_fds = pass_fds
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        return self._process.pid if self._process and self._process.poll() is None else None

    @property
    def exit_status(self) -> int | None:
        """How it ended by itself; None while it runs, and when it was never started or was stopped."""
        return self._process.poll() if self._process else None

    def start(self) -> None:
        if self.pid is not None:
            return
        with open(self.log, "ab") as log:
            self._process = subprocess.Popen(
                self._argv,
                cwd=PROJECT,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=self._pass_fds,
                # Ctrl+C in a terminal goes to us alone; we end the others in their order.
                start_new_session=True,
            )

    def ask_to_end(self) -> None:
        if self._process and self.pid is not None:
            self._process.send_signal(signal.SIGTERM)

    def stop(self, timeout_s: float = STOP_TIMEOUT_S) -> None:
        """End it, by force where it does not listen. It stays away until `start`."""
        process, self._process = self._process, None
        if process is None:
            return
        if process.poll() is None:
            process.terminate()
        try:
            process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            _kill_session(process.pid)
            process.wait(timeout_s)

    def tail(self) -> str:
        """The last lines of its log."""
        if not self.log.exists():
            return ""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-TAIL_LINES:])


class Children:
    """Several of them, stopped together and in the time of the slowest."""

    def __init__(self) -> None:
        self._all: list[Child] = []

    def add(self, child: Child) -> Child:
        self._all.append(child)
        return child

    def stop(self) -> None:
        for child in self._all:
            child.ask_to_end()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        for child in self._all:
            child.stop(max(0.1, deadline - time.monotonic()))

    def ended(self) -> list[Child]:
        """Those that should run and don't."""
        return [child for child in self._all if child.exit_status is not None]

    def check(self) -> None:
        """LabError, with its last words, if one of them has ended by itself."""
        for child in self.ended():
            raise LabError(
                f"The {child.name} ended with status {child.exit_status}. Its last words, of {child.log}:\n"
                f"{child.tail()}"
            )


def _kill_session(leader: int) -> None:
    try:
        os.killpg(leader, signal.SIGKILL)
    except ProcessLookupError:
        return
