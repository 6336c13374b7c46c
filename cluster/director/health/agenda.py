"""What is to be done when: one timer of the loop for thousands of checks, which are begun a few at a time.

A timer, a clock and a wait of the loop for each check would cost more than the check.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count

log = logging.getLogger(__name__)

# What is due within so many seconds is done in one turn.
TURN_S = 0.01


class Agenda:
    """Of the running loop, in seconds of its clock."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        # The number keeps those that are due at the same time in their order.
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = count()
        self._timer: asyncio.TimerHandle | None = None
        self._turn_at: float | None = None
        self._last_turn = 0.0
        self._to_wall_clock = 0.0

    def now(self) -> float:
        """The loop's time; during a turn, when the turn began."""
        return self._loop.time() if self._turn_at is None else self._turn_at

    def wall_clock(self) -> float:
        """Seconds since the epoch, as exact as the last turn is near."""
        return self.now() + (self._to_wall_clock or time.time() - self._loop.time())

    def at(self, when: float, do: Callable[[], None]) -> None:
        """Call it then, or up to a hundredth of a second later."""
        heappush(self._due, (when, next(self._number), do))
        if self._turn_at is None and (self._timer is None or when < self._timer.when()):
            self._wake_at(when)

    def stop(self) -> None:
        self._due.clear()
        if self._timer:
            self._timer.cancel()

    def _wake_at(self, when: float) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(max(when, self._last_turn + TURN_S), self._turn)

    def _turn(self) -> None:
        self._timer = None
        self._turn_at = now = self._loop.time()
        self._to_wall_clock = time.time() - now
        while self._due and self._due[0][0] <= now:
            _, _, do = heappop(self._due)
            try:
                do()
            except Exception:
                # The others must have their turn all the same.
                log.exception("a turn broke")
        self._turn_at, self._last_turn = None, now
        if self._due:
            self._wake_at(self._due[0][0])
