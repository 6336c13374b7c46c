"""Stands where no checks are run: every backend counts as up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from threading import Event

from cluster.director.health import News, Tried, Watched
from cluster.ipvs.state import Backend, ServiceKey
from cluster.ipvs.traffic.checks import Check, Verdict
from cluster.ipvs.traffic.policy import Place


class AbsentChecker:
    """Watches nobody."""

    def __init__(self) -> None:
        self.wake = Event()

    def watch(self, backends: Sequence[Watched], known: Mapping[Place, Verdict]) -> None:
        """Nobody is watched."""

    def news(self) -> News:
        return News()

    def try_now(self, check: Check, backends: Sequence[tuple[ServiceKey, Backend]]) -> list[Tried]:
        return [Tried(False, "this worker runs no checks", 0.0) for _ in backends]

    def stop(self) -> None:
        """Nothing was started."""
