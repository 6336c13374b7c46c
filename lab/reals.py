"""What can befall a real server of the room: ended, killed, frozen, unplugged, and all of it undone."""

import os
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

from lab.layout import REALS, Settings

STOP_TIMEOUT_S = 12.0


class Reals:
    """The three servers' processes and cables. May be called from many threads."""

    def __init__(self, settings: Settings, environment: dict[str, str]) -> None:
        self._nursery = subprocess.Popen(
            [settings.python, "-S", "-m", "lab.servers"],
            cwd=settings.project,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._pids: dict[str, int] = {}
        self._changing = threading.Lock()
        self._actions: dict[str, Callable[[str], None]] = {
            "start": self.start,
            "stop": self._stop,
            "kill": lambda node: self._signal(node, signal.SIGKILL),
            "freeze": lambda node: self._signal(node, signal.SIGSTOP),
            "thaw": lambda node: self._signal(node, signal.SIGCONT),
            "unplug": lambda node: _turn_cable(node, "down"),
            "plug": lambda node: _turn_cable(node, "up"),
            "look": lambda _: None,
        }

    def do(self, action: str, node: str) -> float:
        """Let it happen to the node; when it began, by the room's monotonic clock. `stop` returns when the
        server has ended, after its last client."""
        if node not in REALS or action not in self._actions:
            raise ValueError(f"There is no {action!r} for {node!r}. Nodes are {', '.join(REALS)}.")
        began = time.monotonic()
        with self._changing:
            self._actions[action](node)
        return began

    def pid(self, node: str) -> int | None:
        """The server's process id inside the room, None while there is no process."""
        pid = self._pids.get(node)
        return pid if pid and Path(f"/proc/{pid}").exists() else None

    def start(self, node: str) -> None:
        """Start the node's server and wait until it listens. Nothing where it runs."""
        if self.pid(node):
            return
        assert self._nursery.stdin and self._nursery.stdout
        self._nursery.stdin.write(f"{node}\n")
        self._nursery.stdin.flush()
        pid = int(self._nursery.stdout.readline() or 0)
        if not pid:
            raise ValueError(f"The server of {node} did not start; the lab's log says why.")
        self._pids[node] = pid

    def _stop(self, node: str) -> None:
        self._signal(node, signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while self.pid(node):
            if time.monotonic() > deadline:
                raise TimeoutError(f"The server of {node} does not end.")
            time.sleep(0.02)

    def _signal(self, node: str, number: signal.Signals) -> None:
        if pid := self.pid(node):
            os.kill(pid, number)


def _turn_cable(node: str, way: str) -> None:
    """At the switch, as when somebody pulls it out there."""
    subprocess.run(["ip", "link", "set", f"lan-{node}", way], check=True, timeout=10)
