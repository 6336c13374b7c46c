"""Keeps the directors' Celery workers running inside the room, as a service manager would."""

import json
import signal
import subprocess
import threading
import time
from pathlib import Path

from lab.layout import BROKER_URL, ROOM_STATE, RUN, Settings

RESTART_AFTER_S = 0.5
LONGEST_PAUSE_S = 8.0
# A worker that ends by itself sooner than this is broken rather than killed: wait longer before each new try.
TOO_SOON_S = 5.0
STOP_TIMEOUT_S = 8.0


class Worker:
    """One director's worker: started, restarted when it dies, stopped and started again on demand."""

    def __init__(self, director: str, settings: Settings, environment: dict[str, str]) -> None:
        self.director = director
        self._environment = environment
        self._folder = settings.project
        config = _write_config(director, settings)
        command = [settings.python, "-m", "cluster.director", "worker", "--config", str(config)]
        self._argv = ["nsenter", f"--net=/run/netns/{director}", *command]
        self._wanted = threading.Event()
        self._process: subprocess.Popen[str] | None = None
        self._changing = threading.Lock()
        threading.Thread(target=self._keep_running, daemon=True).start()

    @property
    def pid(self) -> int | None:
        """The process id inside the room, None while there is no process."""
        process = self._process
        return process.pid if process and process.returncode is None else None

    def start(self) -> None:
        self._wanted.set()

    def stop(self) -> None:
        """End the worker and wait until it is gone; it stays away until `start`."""
        with self._changing:
            self._wanted.clear()
            process = self._process
        if process is None:
            return
        process.send_signal(signal.SIGTERM)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while process.returncode is None and time.monotonic() < deadline:
            time.sleep(0.02)
        if process.returncode is None:
            process.kill()

    def _keep_running(self) -> None:
        pause_s = RESTART_AFTER_S
        while True:
            self._wanted.wait()
            started = time.monotonic()
            code = self._run_once()
            if code is None:
                continue
            lasted_s = time.monotonic() - started
            broken = code > 0 and lasted_s < TOO_SOON_S
            print(f"{self.director}: the worker ended with {code} after {lasted_s:.1f} s", flush=True)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S) if broken else RESTART_AFTER_S
            time.sleep(pause_s)

    def _run_once(self) -> int | None:
        with self._changing:
            if not self._wanted.is_set():
                return None
            process = subprocess.Popen(
                self._argv,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
                cwd=self._folder,
                env=self._environment,
                start_new_session=True,
            )
            self._process = process
        threading.Thread(target=self._print_output, args=[process], daemon=True).start()
        return process.wait()

    def _print_output(self, process: subprocess.Popen[str]) -> None:
        """Send the worker's lines to the lab's log; a file written in a guest reaches the host much later."""
        for line in process.stdout or ():
            print(f"{self.director}: {line}", end="", flush=True)


def _write_config(director: str, settings: Settings) -> Path:
    state = ROOM_STATE / director
    state.mkdir(exist_ok=True)
    path = RUN / f"{director}.json"
    config = {
        "director": director,
        "broker": BROKER_URL,
        "state_dir": str(state),
        "panel_public_key": settings.panel_public_key,
        "modprobe": "/sbin/modprobe",
    }
    path.write_text(json.dumps(config, indent=1))
    return path
