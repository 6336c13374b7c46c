"""The worker's end of the checking process: starts it, starts it again, and keeps what it said."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import cluster
from cluster.director.health import News, Pace, Tried, Watched, lines
from cluster.ipvs.traffic.checks import Verdict
from cluster.ipvs.traffic.policy import Place

log = logging.getLogger(__name__)

ENDS_WITHIN_S = 5.0
_THE_END = b""
# A process that dies at once must not be started in a circle.
_PAUSES_S = (0.1, 1.0, 5.0, 15.0)
_LIVED_WELL_S = 60.0
# It tells its pace every 5 s. The time is counted in rounds of the guard, so that a worker that was stopped
# itself, with its whole machine perhaps, does not take its own sleep for the process's silence.
HANGS_AFTER_S = 20.0
_ROUNDS = 20
_SILENT_ROUNDS = 10
# How long it is told that the process was started again: long enough to be seen in the morning's rush.
TOLD_FOR_S = 900.0
# What a try may take beyond its checks' own timeouts.
_TRY_MORE_S = 5.0


class CheckingProcess:
    """A Checker. The process is started with the first backends; while it is away, verdicts hold. One that
    says nothing for `hangs_after_s` is killed and started again."""

    def __init__(self, *, scripts: Path, hangs_after_s: float = HANGS_AFTER_S) -> None:
        self._scripts = scripts
        self._round_s = hangs_after_s / _ROUNDS
        # Rounds of the guard since the process said something.
        self._silent = 0
        # How it ended last, and when that was.
        self._end: tuple[str, float] | None = None
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._threads: list[threading.Thread] = []
        self._stopping = threading.Event()
        self._backends: Sequence[Watched] = ()
        self._known: dict[Place, Verdict] = {}
        self._list = 0
        self._verdicts: dict[Place, Verdict] = {}
        self._loads: dict[Place, int] = {}
        self._pace = Pace()
        # Lines on their way: a process that does not read must not hold up who speaks to it.
        self._lines: SimpleQueue[tuple[subprocess.Popen[bytes], bytes]] = SimpleQueue()
        self._tries: dict[int, tuple[threading.Event, list[Tried]]] = {}
        self._next_try = 0
        self.wake = threading.Event()

    def watch(self, backends: Sequence[Watched], known: Mapping[Place, Verdict]) -> None:
        with self._lock:
            places = {one.place for one in backends}
            self._backends = tuple(backends)
            self._known = {place: verdict for place, verdict in known.items() if place in places}
            self._verdicts = {place: one for place, one in self._verdicts.items() if place in places}
            self._loads = {place: one for place, one in self._loads.items() if place in places}
            if backends or self._process:
                self._ensure_started()
                self._send_list()

    def news(self) -> News:
        with self._lock:
            found = News(self._verdicts, self._loads)
            self._known.update(self._verdicts)
            self._verdicts, self._loads = {}, {}
        return found

    @property
    def pace(self) -> Pace:
        return self._pace

    @property
    def trouble(self) -> str:
        with self._lock:
            process, end = self._process, self._end
            silent_s = self._silent * self._round_s
        if process is None or self._stopping.is_set():
            return ""
        if process.poll() is not None:
            return "The checking process is away and will be started again. Verdicts hold meanwhile."
        if self._silent >= _SILENT_ROUNDS:
            said = f"The checking process has said nothing for {silent_s:.0f} s. Verdicts hold;"
            return f"{said} if it goes on so, it is killed and started again."
        if end is None or (ago_s := time.monotonic() - end[1]) > TOLD_FOR_S:
            return ""
        when = f"{ago_s / 60:.0f} min ago" if ago_s >= 60 else "just now"
        said = f"The checking process {end[0]} and was started again {when}."
        return f"{said} Verdicts held meanwhile; the worker's log says more."

    def try_now(self, backends: Sequence[Watched]) -> list[Tried]:
        with self._lock:
            self._ensure_started()
            number = self._next_try = self._next_try + 1
            done, tried = self._tries[number] = threading.Event(), []
            self._send({"try": [lines.watched_out(one) for one in backends], "number": number})
        longest_s = max((one.check.timeout_s for one in backends if one.check), default=0.0)
        done.wait(longest_s + _TRY_MORE_S)
        with self._lock:
            del self._tries[number]
        if len(tried) == len(backends):
            return tried
        return [Tried(False, "the checking process did not answer", 0.0) for _ in backends]

    def stop(self) -> None:
        self._stopping.set()
        with self._lock:
            process, self._process = self._process, None
        if process is None:
            return
        # The writer closes its input, which ends it, after what is still on its way.
        self._lines.put((process, _THE_END))
        try:
            process.wait(ENDS_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        for thread in self._threads:
            thread.join(ENDS_WITHIN_S)

    def _ensure_started(self) -> None:
        if self._process is None and not self._stopping.is_set():
            self._start()
            for work in (self._listen, self._write, self._guard):
                thread = threading.Thread(target=work, name="checks", daemon=True)
                self._threads.append(thread)
                thread.start()

    def _start(self) -> None:
        root = Path(cluster.__file__).parents[1]
        self._silent = 0
        self._process = subprocess.Popen(
            [sys.executable, "-m", "cluster.director.health.process", str(self._scripts)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=os.environ | {"PYTHONPATH": str(root)},
            cwd=root,
        )

    def _listen(self) -> None:
        """Take its lines; when it has ended, start another one."""
        pauses = iter(_PAUSES_S)
        while not self._stopping.is_set():
            began = time.monotonic()
            process = self._process
            if process is None or process.stdout is None:
                return
            with process.stdout as output:
                for said in output:
                    # One that is killed may leave half a line.
                    if said.endswith(b"\n"):
                        self._take(json.loads(said))
            if self._stopping.is_set():
                return
            process.wait()
            if process.stdin:
                with suppress(OSError):
                    process.stdin.close()
            if time.monotonic() - began > _LIVED_WELL_S:
                pauses = iter(_PAUSES_S)
            log.error("checking process ended status=%s", process.returncode)
            self._note_end(process)
            while not self._stopping.wait(next(pauses, _PAUSES_S[-1])) and not self._start_again():
                process.kill()

    def _note_end(self, process: subprocess.Popen[bytes]) -> None:
        with self._lock:
            hung = self._silent >= _ROUNDS
            self._end = "hung" if hung else f"ended with status {process.returncode}", time.monotonic()

    def _guard(self) -> None:
        """Kill a process that hangs: it neither checks nor ends, and nobody else would notice."""
        while not self._stopping.wait(self._round_s):
            with self._lock:
                self._silent += 1
                process, hangs = self._process, self._silent >= _ROUNDS
            if hangs and process is not None and process.poll() is None:
                log.error("checking process hangs, killed silent_s=%.0f", self._silent * self._round_s)
                process.kill()

    def _start_again(self) -> bool:
        with self._lock:
            if not self._stopping.is_set():
                try:
                    self._start()
                except OSError as error:
                    log.error("checking process not started reason=%s", error)
                    return False
                self._send_list()
        return True

    def _write(self) -> None:
        """Hand on the lines, each to the process it was meant for."""
        while True:
            process, said = self._lines.get()
            assert process.stdin is not None
            try:
                if said:
                    process.stdin.write(said)
                    process.stdin.flush()
                else:
                    process.stdin.close()
                    return
            except (OSError, ValueError) as error:
                # It has ended: the listener starts another one and sends the list again.
                log.warning("checking process not reached reason=%s", error)
                if not said:
                    return

    def _take(self, said: dict[str, Any]) -> None:
        with self._lock:
            self._silent = 0
            if said.get("list") == self._list and "verdict" in said:
                number, *rest = said["verdict"]
                self._verdicts[self._backends[number].place] = lines.verdict_in(rest)
                self.wake.set()
            elif said.get("list") == self._list and "load" in said:
                number, percent = said["load"]
                self._loads[self._backends[number].place] = percent
                self.wake.set()
            elif "pace" in said:
                self._pace = lines.pace_in(said["pace"])
            elif "tried" in said and said["number"] in self._tries:
                done, tried = self._tries[said["number"]]
                tried += [lines.tried_in(row) for row in said["tried"]]
                done.set()

    def _send_list(self) -> None:
        self._list += 1
        known = self._known | self._verdicts
        rows = [lines.watched_out(one, known.get(one.place)) for one in self._backends]
        self._send({"list": self._list, "watch": rows})

    def _send(self, value: dict[str, Any]) -> None:
        if self._process is not None:
            self._lines.put((self._process, lines.line(value)))
