"""One director in memory, a panel that signs, and the reports that come of it."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Event
from typing import Any

from cluster.director.aim import Aim
from cluster.director.apply import Director, take
from cluster.director.config import Config
from cluster.director.health import News, Pace, Tried, Watched
from cluster.director.host import Boot
from cluster.director.journal import Journal
from cluster.director.journal import Sequence as Numbers
from cluster.director.kernel.memory import MemoryKernel
from cluster.director.reports import NotDelivered, Reporter
from cluster.ipvs.formats.document import to_document
from cluster.ipvs.state import Backend, Protocol, Service, ServiceKey, Table
from cluster.ipvs.traffic.checks import Verdict
from cluster.ipvs.traffic.policy import Place
from cluster.wire.envelope import SigningKey, verify
from cluster.wire.messages import Operation, Order

NOW = 1_800_000_000.0


def service(last: int, *backends: Backend, scheduler: str = "rr") -> Service:
    return Service(ServiceKey(Protocol.TCP, f"192.0.2.{last}", 80), scheduler, backends=backends)


def backend(last: int, **settings: Any) -> Backend:
    return Backend(f"10.0.0.{last}", 80, **settings)


def table(*services: Service) -> Table:
    return Table(services)


class ScriptedChecker:
    """Checks nothing: the test says what was found."""

    def __init__(self) -> None:
        self.wake = Event()
        self.watched: list[Watched] = []
        self._news = News()

    def watch(self, backends: Sequence[Watched], known: Mapping[Place, Verdict]) -> None:
        self.watched = list(backends)

    def say(self, service: Service, backend: Backend, verdict: Verdict) -> None:
        self._news = News({**self._news.verdicts, (service.key, backend.key): verdict}, self._news.loads)

    def say_load(self, service: Service, backend: Backend, percent: int) -> None:
        self._news = News(self._news.verdicts, {**self._news.loads, (service.key, backend.key): percent})

    def news(self) -> News:
        said, self._news = self._news, News()
        return said

    @property
    def pace(self) -> Pace:
        return Pace()

    @property
    def trouble(self) -> str:
        return ""

    def try_now(self, backends: Sequence[Watched]) -> list[Tried]:
        return [Tried(True, "", 1.0) for _ in backends]

    def stop(self) -> None: ...


@dataclass
class Stage:
    """What a test holds in its hands."""

    state_dir: Path
    kernel: MemoryKernel = field(default_factory=MemoryKernel)
    panel: SigningKey = field(default_factory=lambda: SigningKey(b"p" * 32))
    key: SigningKey = field(default_factory=lambda: SigningKey(b"d" * 32))
    sent: list[dict[str, Any]] = field(default_factory=list)
    is_broker_away: bool = False
    checker: ScriptedChecker = field(default_factory=ScriptedChecker)
    rehearsal: str = "on"
    now: float = NOW
    # Where the kernel's switches are; None as for a stand-in.
    switches: Path | None = None
    boot: str = "boot-1"
    # How far the wall's clock has been set since, which the machine's own does not notice.
    wall_off_s: float = 0.0

    def director(self) -> Director:
        """A worker that has just started, with what is on the disk and in the kernel."""
        config = Config(
            "director1",
            "redis://127.0.0.1:1/0",
            self.state_dir,
            self.panel.public,
            "/bin/false",
            Path("/nowhere"),
            "memory",
            self.rehearsal,
        )
        sequence = Numbers(self.state_dir, clock=lambda: self.now)
        reporter = Reporter(
            director="director1",
            key=self.key,
            sequence=sequence,
            state_dir=self.state_dir,
            clock=lambda: self.now,
        )
        reporter.publish = self._publish
        return Director(
            config,
            self.kernel,
            Journal(self.state_dir),
            reporter,
            self.checker,
            Aim(self.state_dir, clock=lambda: self.now + self.wall_off_s),
            clock=lambda: self.now + self.wall_off_s,
            boot=lambda: Boot(self.boot, self.now),
            lock_deadline_s=0.1,
            switches=self.switches,
        )

    def order(self, wanted: Table, **changes: Any) -> dict[str, str]:
        fields: dict[str, Any] = {
            "operation": Operation.APPLY,
            "run": "run-1",
            "director": "director1",
            "cluster": "shop",
            "epoch": 1,
            "revision": 1,
            "operator": "ann",
            "issued_at": self.now,
            "expires_at": self.now + 900,
            "payload": {"table": to_document(wanted)},
        }
        return self.panel.sign("order", Order(**fields | changes).to_body())

    def apply(self, wanted: Table, **changes: Any) -> dict[str, Any]:
        """Send an order to a freshly started worker; the payload of its last report."""
        take(self.order(wanted, **changes), self.director())
        payload: dict[str, Any] = self.sent[-1]["payload"]
        return payload

    def opened(self, text: str) -> dict[str, Any]:
        """A frame as it was put into Redis."""
        return verify(json.loads(text), "frame", public=self.key.public)

    @property
    def actual(self) -> Table:
        return self.kernel.read().table

    def _publish(self, envelope: dict[str, str]) -> None:
        if self.is_broker_away:
            raise NotDelivered("the broker is away")
        self.sent.append(verify(envelope, "report", public=self.key.public))
