"""What takes the lab's place where there can be none: Redis, and two directors with tables in memory."""

import json
import os
import socket
import sys
import time
from pathlib import Path

from lab.children import Child, Children
from lab.door import LabError
from lab.layout import DIRECTORS, short_path

TIMEOUT_S = 15.0


class StandIn:
    """The same two directors by name, each a real worker over a real Redis. No packet is balanced."""

    def __init__(self, directory: Path, *, panel_public_key: str) -> None:
        self.directory = directory
        self._short = short_path(directory)
        self.redis_socket = self._short / "redis.sock"
        self.redis_url = f"unix://{self.redis_socket}"
        directory.mkdir(mode=0o700, parents=True)
        if self._short != directory:
            self._short.unlink(missing_ok=True)
            self._short.symlink_to(directory)
        self.children = Children()
        self._redis = self._add("Redis", self._redis_command())
        self._workers = [self._add_worker(name, panel_public_key) for name in DIRECTORS]

    def start(self) -> None:
        self._redis.start()
        self._wait_for_redis()
        for worker in self._workers:
            worker.start()

    def stop(self) -> None:
        self.children.stop()
        self.redis_socket.unlink(missing_ok=True)
        if self._short != self.directory:
            self._short.unlink(missing_ok=True)

    def _add_worker(self, director: str, panel_public_key: str) -> Child:
        config = self._write_config(director, panel_public_key)
        argv = [sys.executable, "-m", "cluster.director", "worker", "--config", str(config)]
        return self._add(f"worker of {director}", argv)

    def _add(self, name: str, argv: list[str]) -> Child:
        log = self.directory / f"{name.replace(' ', '-').lower()}.log"
        return self.children.add(Child(name, argv, log=log, env=dict(os.environ)))

    def _redis_command(self) -> list[str]:
        return [
            *("redis-server", "--port", "0", "--unixsocket", str(self.redis_socket)),
            *("--unixsocketperm", "600", "--dir", str(self.directory), "--daemonize", "no"),
            *("--loglevel", "warning", "--save", "", "--appendonly", "no"),
        ]

    def _write_config(self, director: str, panel_public_key: str) -> Path:
        path = self.directory / f"{director}.json"
        config = {
            "director": director,
            "broker": f"redis+socket://{self.redis_socket}",
            "state_dir": str(self.directory / director),
            "panel_public_key": panel_public_key,
            # A rehearsal must not change this machine's kernel.
            "modprobe": "/bin/false",
            "kernel": "memory",
        }
        path.write_text(json.dumps(config, indent=1))
        return path

    def _wait_for_redis(self) -> None:
        deadline = time.monotonic() + TIMEOUT_S
        while time.monotonic() < deadline:
            self.children.check()
            with socket.socket(socket.AF_UNIX) as connection:
                connection.settimeout(1)
                try:
                    connection.connect(str(self.redis_socket))
                    connection.sendall(b"PING\r\n")
                    if connection.recv(64).startswith(b"+PONG"):
                        return
                except OSError:
                    time.sleep(0.05)
        raise LabError(f"Redis did not answer within {TIMEOUT_S:.0f} s. Look at {self._redis.log}.")
