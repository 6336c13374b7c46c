"""What a zero-loss scene is made of: two services, their clients, and programs that run meanwhile."""

from __future__ import annotations

import json
import threading
from collections.abc import Sequence
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

from bench.clients import Group
from cluster.ipvs.state import Backend, Forwarding, Protocol, Service, ServiceKey, Table
from cluster.ipvs.traffic.checks import Check, CheckKind
from lab.door import LabError
from lab.host import Lab
from lab.layout import REALS, VIP, lan4

DIRECTOR = "director1"
MODES = {"masquerade": (80, Forwarding.MASQUERADE), "direct": (8080, Forwarding.DIRECT)}
# The same check for all that compete: three failures in a row, a second apart.
CHECK = Check(CheckKind.HTTP, interval_s=1, timeout_s=1, rise=1, fall=3)

READY_WITHIN_S = 30.0
END_WITHIN_S = 20.0
LONGEST_RUN_S = 900.0


def both_services(weights: Sequence[int] = (1, 1, 1)) -> Table:
    """The three real servers behind both forwarding modes, with these weights."""
    return Table(
        tuple(
            Service(
                ServiceKey(Protocol.TCP, VIP, port),
                "wrr",
                backends=tuple(
                    Backend(lan4(real), port, weight=weight, forwarding=forwarding)
                    for real, weight in zip(REALS, weights, strict=True)
                ),
            )
            for port, forwarding in MODES.values()
        )
    )


def crowd(clients: int = 200) -> list[Group]:
    """So many clients that keep their connections, half of them for each mode, and beside them a few that
    open a new one for each request, since only new connections show where the scheduler sends them."""
    kept = [
        Group(f"{mode}, kept", VIP, port, clients // len(MODES), pause_s=1.0)
        for mode, (port, _) in MODES.items()
    ]
    new = [
        Group(f"{mode}, new", VIP, port, 5, pause_s=0.2, keeps_alive=False)
        for mode, (port, _) in MODES.items()
    ]
    return kept + new


class Program:
    """A program of the bench in one of the lab's nodes, for as long as its block runs. It must say
    `{"ready": process id}` when it is, and end at SIGTERM; `said` is every other line, read as JSON."""

    def __init__(self, lab: Lab, node: str, module: str, *arguments: str) -> None:
        self.said: list[dict[str, Any]] = []
        self._lab = lab
        self._node = node
        self._module = module
        self._argv = [lab.python, "-S", "-m", module, *arguments]
        self._pid = 0
        self._is_ready = threading.Event()
        self._thread = threading.Thread(target=self._run, name=module, daemon=True)
        self._words: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        self._is_ready.wait(READY_WITHIN_S)
        if not self._pid:
            raise LabError(f"{self._module} did not start: {' '.join(self._words)}")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._lab.execute("hub", ["kill", "-TERM", str(self._pid)])
        self._thread.join(END_WITHIN_S)
        if self._thread.is_alive():
            raise LabError(f"{self._module} does not end.")

    def _run(self) -> None:
        try:
            self._lab.execute(self._node, self._argv, timeout_s=LONGEST_RUN_S, on_line=self._hear)
        finally:
            self._is_ready.set()

    def _hear(self, line: str) -> None:
        try:
            said = json.loads(line)
        except ValueError:
            self._words.append(line)
            return
        if "ready" in said:
            self._pid = said["ready"]
            self._is_ready.set()
        else:
            self.said.append(said)


def clients_in(lab: Lab, groups: Sequence[Group]) -> Program:
    """The crowd on the lab's client, not yet started; its document is all it says."""
    return Program(lab, "client", "bench.clients", json.dumps([asdict(group) for group in groups]))


def weights_in(lab: Lab) -> Program:
    """The watch over the director's weights, not yet started."""
    return Program(lab, DIRECTOR, "bench.weights")
