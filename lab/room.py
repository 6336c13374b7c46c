"""The inside of a room: builds the network, starts servers and workers, then obeys the host's commands.

The same program in both kinds of room; in a guest it starts from init.sh, on the host's kernel from hub.py.
"""

import os
import platform
import socket
import sys
import threading
import time
from pathlib import Path

from lab import agent, topology
from lab.layout import (
    AGENT_PORT,
    AGENT_SOCKET,
    DIRECTORS,
    REALS,
    ROOM_ADDRESS,
    ROOM_STATE,
    RUN,
    USER_MODE_LINUX,
    Settings,
)
from lab.reals import Reals
from lab.workers import Worker

ENVIRONMENT = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/tmp",
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",  # the project is read-only in here
    "PYTHONUNBUFFERED": "1",
    # Tests that read the panel's settings find a place for its files, and never the real ones.
    "LVSADMIN_DATA_DIR": str(RUN / "panel"),
}


def main() -> None:
    settings = Settings.loads(Path(sys.argv[1]).read_text())
    clock = _Clock()
    topology.load_modules()
    clock.mark("modules loaded")
    topology.make_nodes()
    reals = Reals(settings, ENVIRONMENT)
    topology.wire_nodes(settings.kind)
    clock.mark("network built")
    for node in REALS:
        reals.start(node)
    clock.mark("real servers answer")
    workers: dict[str, Worker] = {}
    if settings.panel_public_key is not None:
        ROOM_STATE.mkdir(parents=True, exist_ok=True)
        workers = {name: Worker(name, settings, ENVIRONMENT) for name in DIRECTORS}
        for worker in workers.values():
            worker.start()
    handlers = _handlers(workers, reals, clock)
    agent.serve(_listener(settings.kind), handlers, ENVIRONMENT, settings.project)


class _Clock:
    """Remembers when each step was done, in seconds of this kernel's (host kernel: this lab's) life."""

    def __init__(self) -> None:
        self.marks: dict[str, float] = {}

    def mark(self, step: str) -> None:
        self.marks[step] = round(time.clock_gettime(time.CLOCK_BOOTTIME), 2)
        print(f"room: {step} at {self.marks[step]} s", flush=True)


def _handlers(workers: dict[str, Worker], reals: Reals, clock: _Clock) -> dict[str, agent.Handler]:
    def hello(_: agent.Request) -> agent.Request:
        return {"kernel": platform.release(), "marks": clock.marks}

    def worker(request: agent.Request) -> agent.Request:
        name = request["director"]
        if name not in workers:
            return {"error": f"No worker is kept for {name!r}: the lab was started without a panel key."}
        if request["action"] == "stop":
            workers[name].stop()
        elif request["action"] == "start":
            workers[name].start()
        return {"pid": workers[name].pid}

    def real(request: agent.Request) -> agent.Request:
        at = reals.do(request["action"], request["node"])
        return {"at": at, "pid": reals.pid(request["node"])}

    def rest(_: agent.Request) -> agent.Request:
        """Before the power goes: a guest keeps what it wrote in its own memory for up to half a minute."""
        stopping = [threading.Thread(target=kept.stop) for kept in workers.values()]
        for thread in stopping:
            thread.start()
        for thread in stopping:
            thread.join()
        os.sync()
        return {}

    return {"hello": hello, "worker": worker, "real": real, "rest": rest}


def _listener(kind: str) -> socket.socket:
    if kind == USER_MODE_LINUX:
        return socket.create_server((ROOM_ADDRESS, AGENT_PORT), backlog=128)
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(AGENT_SOCKET))
    listener.listen(128)
    return listener


if __name__ == "__main__":
    main()
