"""From single results of a check to a verdict: failures in a row, successes in a row, and no flapping."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field

from cluster.ipvs.traffic.checks import Verdict


@dataclass
class Judge:
    """One backend's. `known` is the verdict that it begins with; without one it counts as up, but nobody has
    said so."""

    rise: int
    fall: int
    flap_changes: int = 0
    flap_window_s: float = 300.0
    known: Verdict | None = None
    _in_row: int = 0
    _is_up: bool = field(init=False)
    _changes: deque[float] = field(default_factory=deque)
    _is_held: bool = field(init=False)

    def __post_init__(self) -> None:
        self._is_up = self.known is None or self.known.is_up
        # Held before a restart: how it is now nobody knows, so it is down until `rise` successes.
        self._is_held = self.known is not None and self.known.is_flapping and self.flap_changes > 0

    def take(self, is_up: bool, reason: str, *, now: float) -> Verdict | None:
        """The verdict after this result, where it is another one than before; else None."""
        if self._is_held and not self._changes:
            # What came before the restart is lost: it has to be steady for a whole window from now on.
            self._changes.append(now)
        if is_up == self._is_up:
            self._in_row = 0
        else:
            self._in_row += 1
            if self._in_row >= (self.rise if is_up else self.fall):
                self._turn(is_up, now)
        self._judge_flapping(now)
        return self._said(self._verdict(is_up, reason, now))

    def _turn(self, is_up: bool, now: float) -> None:
        self._is_up, self._in_row = is_up, 0
        if self.flap_changes:
            self._changes.append(now)

    def _judge_flapping(self, now: float) -> None:
        while self._changes and self._changes[0] <= now - self.flap_window_s:
            self._changes.popleft()
        if self.flap_changes and len(self._changes) >= self.flap_changes:
            self._is_held = True
        elif not self._changes:
            # Steady for a whole window.
            self._is_held = False

    def _verdict(self, is_up: bool, reason: str, now: float) -> Verdict | None:
        if self._is_held:
            window = f"{self.flap_window_s:g} s"
            return Verdict(False, f"up and down too often: held until steady for {window}", now, True)
        if self._is_up:
            # The first failures of a backend that nobody has judged yet are no verdict.
            return None if self.known is None and not is_up else Verdict(True, "", now)
        if is_up:
            return self.known if self.known and not self.known.is_flapping else Verdict(False, reason, now)
        return Verdict(False, f"{reason} {self.fall}/{self.fall}", now)

    def _said(self, verdict: Verdict | None) -> Verdict | None:
        before = self.known
        if verdict is None or (
            before is not None
            and (before.is_up, before.reason, before.is_flapping)
            == (verdict.is_up, verdict.reason, verdict.is_flapping)
        ):
            return None
        if before is not None and (before.is_up, before.is_flapping) == (verdict.is_up, verdict.is_flapping):
            # Down for another reason is still down since then.
            verdict = Verdict(verdict.is_up, verdict.reason, before.since, verdict.is_flapping)
        self.known = verdict
        return verdict
