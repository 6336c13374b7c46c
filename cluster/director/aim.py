"""What the kernel is to hold now, and what was observed that makes it so; the latter outlives a restart."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from cluster.director.health import News
from cluster.director.journal import Goal, Journal, JournalError, write_durably
from cluster.ipvs.formats.document import canonical_json
from cluster.ipvs.stats import Reading
from cluster.ipvs.traffic import observed as observations
from cluster.ipvs.traffic.checks import Verdict
from cluster.ipvs.traffic.effective import Effective, Standing, effective, moment
from cluster.ipvs.traffic.observed import Observed
from cluster.ipvs.traffic.policy import Place
from cluster.ipvs.traffic.votes import voted

log = logging.getLogger(__name__)

# What an answer was made of; the moment is all of the time that matters.
_Asked = tuple[Goal, Observed, Sequence[Mapping[Place, Verdict]], tuple[object, ...]]
OUT = frozenset({Standing.DOWN, Standing.REMOVED, Standing.DRAINING, Standing.CUT})


class Aim:
    """`effective` is what the kernel was brought to last; None while an order is under way, and before the
    first. Whoever reads the kernel to compare it with that holds `acting` meanwhile."""

    def __init__(self, state_dir: Path, *, clock: Callable[[], float]) -> None:
        self._path = state_dir / "observed.json"
        self._clock = clock
        self._lock = threading.Lock()
        self._observed = self._kept = self._read()
        self._others: Sequence[Mapping[Place, Verdict]] = ()
        self._last: tuple[_Asked, Effective] | None = None
        self.effective: Effective | None = None
        # Why a switch has not the value that the goal wants, by its name, as far as it was tried.
        self.switch_problems: Mapping[str, str] = {}
        # The kernel as the watch read it last, for weights that follow the connections.
        self.reading: Reading | None = None
        self.acting = threading.Lock()

    @property
    def observed(self) -> Observed:
        """What this director saw."""
        return self._observed

    def counted(self, goal: Goal) -> Observed:
        """What counts: the same, or what most directors saw where the goal asks for it."""
        return voted(self._observed, self._others, goal.traffic)

    def hear(self, others: Sequence[Mapping[Place, Verdict]]) -> None:
        """The verdicts of the cluster's other directors, as far as they are fresh."""
        # The very same object where nothing is new: what was computed of it still holds then.
        if others != self._others:
            self._others = others

    def learn(self, news: News) -> None:
        """Add what the checks have found out."""
        if not news.verdicts and not news.loads:
            return
        with self._lock:
            self._observed = replace(
                self._observed,
                verdicts={**self._observed.verdicts, **news.verdicts},
                loads={**self._observed.loads, **news.loads},
            )

    def set_loads(self, loads: Mapping[Place, int]) -> None:
        """What percent of its weight each of these can take."""
        with self._lock:
            merged = {**self._observed.loads, **loads}
            # The very same object where nothing is new: what was computed of it still holds then.
            if merged != self._observed.loads:
                self._observed = replace(self._observed, loads=merged)

    def forget_all_but(self, checked: Collection[Place], loaded: Collection[Place]) -> None:
        """Forget the verdicts and loads of backends that are not watched any more."""
        with self._lock:
            seen = self._observed
            self._observed = replace(
                seen,
                verdicts={place: one for place, one in seen.verdicts.items() if place in checked},
                loads={place: one for place, one in seen.loads.items() if place in loaded},
            )

    def is_settled(self, goal: Goal) -> bool:
        """Whether the kernel was brought to what this goal comes to now, by all that is known: `of` would say
        the same again. False while somebody is on the way back, or an order is under way."""
        with self._lock:
            if self._last is None or self._observed.returning:
                return False
            return self.effective is self._last[1] and _same(self._asked(goal), self._last[0])

    def of(self, goal: Goal) -> Effective:
        """What the goal comes to now. A backend that was out when this was asked for last and is in now
        begins its ramp."""
        with self._lock:
            asked = self._asked(goal)
            if self._last and not self._observed.returning and _same(asked, self._last[0]):
                return self._last[1]
            now = self._clock()
            found = effective(goal.table, goal.traffic, self.counted(goal), now=now)
            returning = self._returning(goal, found, now)
            if returning != self._observed.returning:
                self._observed = replace(self._observed, returning=returning)
                found = effective(goal.table, goal.traffic, self.counted(goal), now=now)
            self._last = (goal, self._observed, self._others, asked[3]), found
            return found

    def _asked(self, goal: Goal) -> _Asked:
        return goal, self._observed, self._others, moment(goal.traffic, self._clock())

    def _returning(self, goal: Goal, found: Effective, now: float) -> dict[Place, float]:
        """Who is on the way back: those that were, and those that were out and are in."""

        def is_in(place: Place) -> bool:
            note = found.notes.get(place)
            return note is None or note.standing not in OUT

        running = {
            place: since
            for place, since in self._observed.returning.items()
            if since <= now < since + _ramp_s(goal, place) and is_in(place)
        }
        before = self._last[1].notes if self._last else {}
        begun = {
            place: now
            for place, note in before.items()
            if note.standing in OUT and is_in(place) and _ramp_s(goal, place)
        }
        return running | begun

    def settle(self, wanted: Effective, goal: Goal, journal: Journal) -> None:
        """The kernel was brought to `wanted`. Kept is the same, made of the journal's own goal: its table is
        the one that the kernel's readings share, and a second one of 100,000 backends would stay in memory as
        long as the goal does."""
        self.effective = wanted
        try:
            record = journal.read()
        except JournalError:
            # What it is about is told already; the loop goes on with what it has.
            return
        if record is None:
            return
        ordered = record.ordered
        if (ordered.epoch, ordered.revision) == (goal.epoch, goal.revision):
            again = self.of(ordered)
            # A verdict may have come meanwhile: the loop must see that the kernel has yet to follow it.
            self.effective = again if again.table == wanted.table else wanted

    def keep(self) -> None:
        """Write verdicts and ramps down, where they have changed: a restarted worker must not give traffic to
        a backend that is known to be down. Loads are asked for again."""
        kept = replace(self._observed, loads={})
        if kept == self._kept:
            return
        try:
            write_durably(self._path, canonical_json(observations.to_document(kept)))
        except JournalError as error:
            # Worse than forgetting would be to stop acting on what is known.
            log.error("observations not kept reason=%s", error)
        self._kept = kept

    def _read(self) -> Observed:
        try:
            return observations.from_document(json.loads(self._path.read_bytes()))
        except FileNotFoundError:
            return Observed()
        except (OSError, ValueError, RecursionError) as error:
            log.error(
                "observations unreadable, all backends count as up path=%s reason=%s", self._path, error
            )
            return Observed()


def _same(one: _Asked, other: _Asked) -> bool:
    """The very same goal and observations, at an equal moment."""
    return all(a is b for a, b in zip(one[:3], other[:3], strict=True)) and one[3] == other[3]


def _ramp_s(goal: Goal, place: Place) -> int:
    policy = goal.traffic.policies.get(place[0])
    return policy.ramp_s if policy else 0
