"""The contract of what checks backends: told whom to watch, it says whose verdict changed.

It runs beside the worker's own threads, so that neither a hung check nor a kernel's long answer delays
the other.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from threading import Event
from typing import Protocol

from cluster.ipvs.state import Backend, ServiceKey
from cluster.ipvs.traffic.checks import Check, Verdict
from cluster.ipvs.traffic.policy import LoadRule, Place


@dataclass(frozen=True, slots=True)
class Watched:
    """A backend to be watched: by a check, by its agent (a LoadRule of the source AGENT), or by both.
    `flap_changes` and `flap_window_s` are those of the policy. A check through the service goes to the
    service's address with the firewall mark `mark`, which is 0 for the others."""

    service: ServiceKey
    backend: Backend
    check: Check | None = None
    load: LoadRule | None = None
    flap_changes: int = 0
    flap_window_s: int = 300
    mark: int = 0

    @property
    def place(self) -> Place:
        return self.service, self.backend.key


@dataclass(frozen=True, slots=True)
class News:
    """What has changed since it was asked for last. A load is percent of the weight."""

    verdicts: Mapping[Place, Verdict] = field(default_factory=dict)
    loads: Mapping[Place, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Tried:
    """What one try of a check came to. `text` is what the backend answered, cut and printable."""

    is_up: bool
    reason: str
    took_ms: float
    text: str = ""


@dataclass(frozen=True, slots=True)
class Pace:
    """How the checks keep up: checks a second, the share that began late, and CPU seconds a second."""

    per_second: float = 0.0
    late_share: float = 0.0
    cpu_share: float = 0.0


class Checker(Protocol):
    """Every call returns at once but `try_now`, which takes as long as its checks' timeouts."""

    def watch(self, backends: Sequence[Watched], known: Mapping[Place, Verdict]) -> None:
        """From now on watch these and nobody else. Those that were watched just so keep their counts; a new
        one begins with its verdict in `known`, else as up until `fall` checks have failed."""

    def news(self) -> News:
        """The verdicts and loads that changed since the last call."""

    @property
    def wake(self) -> Event:
        """Set when there is news; whoever waits for it clears it."""

    @property
    def pace(self) -> Pace:
        """Of the last seconds."""

    @property
    def trouble(self) -> str:
        """A sentence while nothing is checked that should be, and for a while after; else empty."""

    def try_now(self, backends: Sequence[Watched]) -> list[Tried]:
        """Run the check of each once, all at the same time, and say what came."""

    def stop(self) -> None:
        """End, with all that was started."""
