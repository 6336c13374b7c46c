"""An order on trial: in force at once, and taken back by the director itself unless somebody confirms it in
time, or where its guard is hurt. With panel and broker down, over restarts and reboots: docs/decisions/0022.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.director.converge import Result, converge, to_payload
from cluster.director.journal import Goal, Guard, JournalError, Record, Trial, WentBack
from cluster.director.switching import switched
from cluster.director.tuning import read_sysctls
from cluster.ipvs.state import ServiceKey, Table
from cluster.ipvs.stats import Reading
from cluster.ipvs.traffic.effective import Effective, Standing
from cluster.ipvs.traffic.paths import is_check_path
from cluster.wire.messages import Event, Order, Outcome

if TYPE_CHECKING:
    from cluster.director.apply import Director

log = logging.getLogger(__name__)

LONGEST_TRIAL_S = 24 * 3600
# One look may fall between two connections, or into the second in which a check flaps.
HURT_FOR_S = 5.0
RETRY_S = 5.0
_TRY_AGAIN = "If it is wanted after all, apply it again: that makes a new revision."
_SERVING = frozenset({Standing.UP, Standing.UNCHECKED, Standing.RETURNING})


class Unreadable(ValueError):
    """The order's trial is not what it should be; the text is one sentence."""


class _Unwritten:
    """For a disk that is full: what must come back comes back without a journal."""

    def write(self, record: Record) -> None:
        log.error("journal not written, going back all the same revision=%d", record.ordered.revision)


def begin(order: Order, goal: Goal, before: Record | None, director: Director) -> Trial | None:
    """The trial that this order begins or goes on with; None for one that needs no confirmation. KernelError
    where the kernel cannot be read, Unreadable for what no panel of ours sends."""
    said = order.payload.get("trial")
    if said is None:
        return None
    within_s, limits = _read(said)
    is_repeated = before is not None and before.ordered == goal
    running = before.trial if before else None
    if is_repeated and running is None:
        # It was confirmed since: an old copy of the order is no new trial.
        return None
    now, boot = director.clock(), director.boot()
    if running is not None:
        # The time does not begin anew, nor does it matter less what was there before. Drains and profiles are
        # no part of what is tried.
        left_s = min(within_s, _left_s(running, director))
        back = running.back if is_repeated else _with_operations(running.back, goal)
        return replace(
            running,
            run=order.run,
            back=back,
            boot=boot.id,
            ends_at=boot.seconds + left_s,
            began_wall=now,
            ends_wall=now + left_s,
        )
    reading = director.kernel.read()
    owned = before.owned if before else frozenset[ServiceKey]()
    verified = before.verified if before else None
    back = verified or Goal(goal.epoch, 0, Table())
    held = director.aim.effective or director.aim.of(back)
    guard = replace(limits, serving=_serving(held), connections=_connections(reading, owned))
    return Trial(
        run=order.run,
        back=_with_switches(_with_operations(back, goal), goal, director),
        boot=boot.id,
        ends_at=boot.seconds + within_s,
        began_wall=now,
        ends_wall=now + within_s,
        foreign=reading.table.keys - owned,
        guard=guard,
    )


def confirm(order: Order, record: Record | None, director: Director) -> Result:
    """Keep what is on trial. Asked again, it is kept already; too late is too late, and too early, because
    it has overtaken its own order, is asked again."""
    number = order.epoch, order.revision
    if record and went_back_from(order, record):
        return too_late(order, record, director.name)
    if record is None or number > record.fence:
        text = f"{director.name} has not been given revision {order.revision} yet."
        return Result(Outcome.UNKNOWN, text, "The panel asks again.", "not there yet")
    if number != (record.ordered.epoch, record.ordered.revision):
        return Result(
            Outcome.REFUSED,
            f"{director.name} does not have revision {order.revision}, so there is nothing to confirm.",
            "Look at its newest job: another revision has come since.",
            "another revision",
        )
    if record.trial is None:
        return Result(Outcome.APPLIED, f"Revision {order.revision} is confirmed on {director.name} already.")
    if _over(record.trial, director):
        # Whoever looks at the clock first goes on: here or in the loop, it is over.
        text = f"The time to confirm revision {order.revision} on {director.name} is over; it goes back now."
        return Result(Outcome.REFUSED, text, _TRY_AGAIN, "too late")
    director.journal.write(replace(record, trial=None))
    return Result(Outcome.APPLIED, f"Revision {order.revision} is confirmed on {director.name}; it stays.")


def went_back_from(order: Order, record: Record) -> bool:
    """Whether this very revision was in force once and is not any more."""
    gone = record.went_back
    return gone is not None and (order.epoch, order.revision) == (gone.epoch, gone.revision)


def too_late(order: Order, record: Record, name: str) -> Result:
    """The answer to whoever asks for a revision that went back, such as an old copy of its order."""
    cause = record.went_back.cause if record.went_back else ""
    text = f"{name} went back from revision {order.revision} already: {cause}."
    return Result(Outcome.REFUSED, text, _TRY_AGAIN, "went back")


def cause_at_start(record: Record, director: Director) -> str:
    """Why what is on trial is not to be in force after a start of the worker; empty where it is. After a
    reboot only what was confirmed comes back. KernelError where the kernel cannot be read."""
    if record.trial is None:
        return ""
    if cause := _over(record.trial, director):
        return cause
    if record.owned and not director.kernel.read_services(record.owned):
        return "the machine was restarted before anybody confirmed it"
    if not record.owned and record.trial.boot != director.boot().id:
        return "the machine was restarted before anybody confirmed it"
    return ""


def taken_back(record: Record, cause: str, director: Director) -> Record:
    """What the journal is to say from now on, written where the disk lets it: power may fail at any moment,
    and what begins to go back goes all the way."""
    trial = record.trial
    assert trial is not None
    log.warning("trial over revision=%d cause=%s", record.ordered.revision, cause)
    back = replace(
        record,
        ordered=trial.back,
        verified=trial.back,
        owned=record.owned - trial.foreign,
        trial=None,
        went_back=WentBack(trial.run, record.ordered.epoch, record.ordered.revision, director.clock(), cause),
    )
    try:
        director.journal.write(back)
    except JournalError as error:
        log.error("journal not written reason=%s", error)
    return back


def finish(record: Record, director: Director, *, is_told: bool = False) -> Result:
    """Bring the kernel to what is in force again and tell the panel. The caller holds the director's lock.
    Done again until kernel and journal have it, each time from what the kernel holds then; with `is_told`,
    the panel hears no more of it before that."""
    gone = record.went_back
    assert gone is not None
    is_written = director.journal.read() == record
    wanted, director.aim.effective = director.aim.of(record.ordered), None
    try:
        result = converge(
            director.kernel,
            director.journal if is_written else _Unwritten(),
            record,
            record.ordered,
            director=director.name,
            wanted=wanted.table,
        )
        result = switched(result, record.ordered, director)
    finally:
        director.aim.settle(wanted, record.ordered, director.journal)
    log.warning("went back revision=%d outcome=%s text=%s", gone.revision, result.outcome, result.text)
    text = f"{director.name} went back from revision {gone.revision}, because {gone.cause}. {result.text}"
    result = replace(result, text=text)
    is_done = is_written and result.outcome not in (Outcome.UNKNOWN, Outcome.FAILED)
    if is_told and not is_done:
        return result
    payload = to_payload(result, director.facts())
    director.reporter.report(
        Event.WENT_BACK,
        run=gone.run,
        cluster=record.cluster,
        epoch=gone.epoch,
        revision=gone.revision,
        payload=payload | {"cause": gone.cause, "back": record.ordered.revision},
    )
    newest = director.journal.read()
    if is_done and newest:
        director.journal.write(replace(newest, went_back=replace(gone, is_told=True)))
    return result


class Watcher:
    """Looks at each round whether a trial is over. Keeps since when its guard has been hurt."""

    def __init__(self, director: Director) -> None:
        self._director = director
        self._hurt_since: tuple[str, float] | None = None
        # The run that went back last, when it was tried last to finish that, and why.
        self._last = "", 0.0, ""

    def has_work(self, record: Record) -> bool:
        """Whether anything is to be done for a trial. Cheap where there is none."""
        gone = record.went_back
        return record.trial is not None or (gone is not None and not gone.is_told)

    def has_gone(self, record: Record) -> bool:
        """Whether the journal still has a trial that was taken back, because the disk was full."""
        return record.trial is not None and record.trial.run == self._last[0]

    def look(self, record: Record) -> None:
        """Take the trial back where it is over, and finish what was begun. The caller holds the director's
        lock, and `record` is what the journal says under it."""
        run, at, cause = self._last
        if record.trial is not None:
            if run != record.trial.run:
                run, at, cause = record.trial.run, 0.0, ""
            cause = cause or _over(record.trial, self._director) or self._hurt(record)
            if not cause:
                return
        elif record.went_back is not None and run != record.went_back.run:
            run, at = record.went_back.run, 0.0
        now = self._director.boot().seconds
        is_told = run == self._last[0]
        if is_told and now - at < RETRY_S:
            return
        self._last = run, now, cause
        if record.trial is not None:
            record = taken_back(record, cause, self._director)
        finish(record, self._director, is_told=is_told)

    def _hurt(self, record: Record) -> str:
        """What has fallen too far for long enough, in words."""
        trial, aim = record.trial, self._director.aim
        assert trial is not None
        if aim.effective is None:
            return ""
        now = self._director.boot().seconds
        cause = _hurt(trial.guard, aim.effective, aim.reading, record.owned)
        if not cause:
            self._hurt_since = None
        elif self._hurt_since is None or self._hurt_since[0] != trial.run:
            self._hurt_since = trial.run, now
        elif now - self._hurt_since[1] >= HURT_FOR_S:
            return cause
        return ""


def _read(said: object) -> tuple[float, Guard]:
    if not isinstance(said, dict):
        raise Unreadable("trial is not an object.")
    within_s = said.get("within_s")
    if not isinstance(within_s, int | float) or isinstance(within_s, bool):
        raise Unreadable("trial.within_s is not a number.")
    # NaN is in no interval.
    if not 0 < within_s <= LONGEST_TRIAL_S:
        raise Unreadable(f"trial.within_s is not between 0 and {LONGEST_TRIAL_S}.")
    for name in ("backends_percent", "connections_percent"):
        value = said.get(name)
        if value is not None and (not isinstance(value, int) or not 0 <= value < 100):
            raise Unreadable(f"trial.{name} is not a percentage below 100.")
    return float(within_s), Guard(said.get("backends_percent"), said.get("connections_percent"))


def _with_operations(back: Goal, goal: Goal) -> Goal:
    """What comes back, under the drains and profiles of the order: those are not what is tried."""
    now = goal.traffic
    traffic = replace(back.traffic, drains=now.drains, profiles=now.profiles, voters=now.voters)
    return replace(back, traffic=traffic)


def _with_switches(back: Goal, goal: Goal, director: Director) -> Goal:
    """What comes back also names the switches that the order sets and nobody asked for before, as they are
    now: else they would stay as the order sets them."""
    if director.switches is None:
        return back
    new = goal.traffic.switches.keys() - back.traffic.switches.keys()
    now = {one.name: one.value for one in read_sysctls(director.switches) if one.name in new and one.value}
    return replace(back, traffic=replace(back.traffic, switches=now | dict(back.traffic.switches)))


def _left_s(trial: Trial, director: Director) -> float:
    """By the clock that nobody sets, as long as the machine runs; by the wall's after that, and none at all
    where it went back behind the beginning."""
    boot = director.boot()
    if boot.id == trial.boot:
        return trial.ends_at - boot.seconds
    now = director.clock()
    return trial.ends_wall - now if now >= trial.began_wall else 0.0


def _over(trial: Trial, director: Director) -> str:
    return "nobody confirmed it in time" if _left_s(trial, director) <= 0 else ""


def _hurt(guard: Guard, held: Effective, reading: Reading | None, owned: frozenset[ServiceKey]) -> str:
    if guard.backends_percent is not None:
        serving = _serving(held)
        if serving < guard.serving * (100 - guard.backends_percent) / 100:
            return f"backends in service fell from {guard.serving} to {serving}"
    if guard.connections_percent is not None and reading is not None:
        connections = _connections(reading, owned)
        if connections < guard.connections * (100 - guard.connections_percent) / 100:
            return f"open connections fell from {guard.connections} to {connections}"
    return ""


def _serving(held: Effective) -> int:
    """How many backends take new connections and are not known to be ill."""
    return sum(
        backend.weight > 0 and held.note(service.key, backend).standing in _SERVING
        for service in held.table
        if not is_check_path(service.key)
        for backend in service.backends
    )


def _connections(reading: Reading, owned: frozenset[ServiceKey]) -> int:
    return sum(counted.active for (service, _), counted in reading.backends.items() if service in owned)
