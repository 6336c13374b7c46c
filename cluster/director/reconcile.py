"""The loop that brings verdicts, drains, profiles and ramps into the kernel, with panel and broker down.

It changes nothing but backends whose wanted state has changed: what somebody else did to a table is for an
operator to judge, unless the cluster says once and for all that it is to be put right.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterable, Iterator
from typing import Any

from cluster.director.apply import Director
from cluster.director.health import Watched
from cluster.director.journal import Goal, Record
from cluster.director.kernel import KernelError
from cluster.director.lock import Locked, locked
from cluster.director.repair import heal_what_drifted
from cluster.director.trial import Watcher
from cluster.ipvs.plan import Step, plan
from cluster.ipvs.state import Backend, ServiceKey, Table
from cluster.ipvs.traffic.effective import Effective, Note, Standing
from cluster.ipvs.traffic.loads import STEERING_PERIOD_S, steered
from cluster.ipvs.traffic.paths import check_marks
from cluster.ipvs.traffic.policy import LoadSource, Place
from cluster.wire.messages import MOST_CHANGES, Event

log = logging.getLogger(__name__)

# Ramps and hours go by the second; verdicts wake the loop.
PERIOD_S = 1.0

# Of a service that nothing touches; and a sorry server that nobody needs.
_IN, _SPARE = Note(Standing.UP, 0), Note(Standing.SPARE, 0)

Backends = dict[Place, Backend]


class Reconciler:
    """One round each second, and at once when a verdict changes, in a thread of its own."""

    def __init__(self, director: Director) -> None:
        self._director = director
        self._aim = director.aim
        self._trial = Watcher(director)
        self._goal: Goal | None = None
        # Where the kernel did not take what was wanted: tried again in each round.
        self._pending: set[Place] = set()
        self._balanced_at = 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._loop, name="reconcile", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self, *, within_s: float = 5.0) -> None:
        """Ask the loop to end and wait that long for it."""
        self._stop.set()
        self._director.checker.wake.set()
        self._thread.join(within_s)

    def round(self) -> None:
        """Take the news, and bring the kernel to what they mean."""
        director = self._director
        self._aim.learn(director.checker.news())
        record = director.journal.read()
        if record is None:
            return
        if self._trial.has_work(record) and (record := self._judge_trial(record)) is None:
            return
        self._watch(record.ordered)
        self._balance(record.ordered)
        # Whoever applies holds the director's lock, and must not be kept from it by who has nothing to do.
        is_due = self._pending or not self._aim.is_settled(record.ordered)
        if is_due and self._aim.effective is not None:
            self._act(record)
        if record.enforce and not director.drift.is_settled:
            heal_what_drifted(director)
        self._aim.keep()

    def _loop(self) -> None:
        wake = self._director.checker.wake
        while not self._stop.is_set():
            wake.clear()
            try:
                self.round()
            except Exception:
                # Whatever it was, the next round may do better; without the loop nothing is ever taken out.
                log.exception("reconcile broke")
            wake.wait(PERIOD_S)

    def _judge_trial(self, record: Record) -> Record | None:
        """What is in force, after a trial that is over was taken back; None while the journal does not say
        it, because then only the trial's end is brought to the kernel."""
        director = self._director
        try:
            with locked(director.config.state_dir / "lock", within_s=0):
                if (newest := director.journal.read()) is not None:
                    self._trial.look(newest)
        except Locked:
            # An order is under way; whatever it does to the trial, the next round sees.
            return record
        newest = director.journal.read() or record
        return None if self._trial.has_gone(newest) else newest

    def _watch(self, goal: Goal) -> None:
        """Tell the checker whom to watch, where another goal is in force."""
        if goal is self._goal:
            return
        self._goal = goal
        backends = list(watched(goal))
        checked = {one.place for one in backends if one.check}
        self._aim.forget_all_but(checked, {one.place for one in backends if one.load} | _balanced(goal))
        self._director.checker.watch(backends, self._aim.observed.verdicts)

    def _balance(self, goal: Goal) -> None:
        """Let weights follow the connections where a policy says so, at a pace at which they can answer."""
        reading, held, now = self._aim.reading, self._aim.effective, self._director.clock()
        if reading is None or held is None or abs(now - self._balanced_at) < STEERING_PERIOD_S:
            return
        self._balanced_at = now
        loads = self._aim.observed.loads
        for key, policy in goal.traffic.policies.items():
            service = goal.table.by_key.get(key)
            if not service or not policy.load or policy.load.source is not LoadSource.CONNECTIONS:
                continue
            self._aim.set_loads(steered(service, policy.load, held, reading.backends, loads))

    def _act(self, record: Record) -> None:
        try:
            with locked(self._director.config.state_dir / "lock", within_s=0), self._aim.acting:
                before = self._aim.effective
                if before is None or self._director.journal.read() is not record:
                    # An order came in between: what it wants is brought already.
                    return
                after = self._aim.of(record.ordered)
                moved = set(_moved(before.table, after.table)) | self._pending
                if moved:
                    self._pending = self._bring(after.table, moved, record)
                self._aim.effective = after
        except Locked:
            # An order is under way, which brings everything; what is left then, the next round sees.
            return
        if said := list(_changes(before, after)):
            self._tell(record, said)

    def _bring(self, wanted: Table, moved: set[Place], record: Record) -> set[Place]:
        """Make the kernel's backends in these places as wanted; those that are not afterwards."""
        kernel = self._director.kernel
        keys = {service for service, _ in moved} & record.owned
        try:
            actual = kernel.read_services(keys)
            steps = [
                step
                for step in plan(actual, wanted.only(keys), owned=record.owned).steps
                if _place_of(step) in moved and step.service.key in actual.by_key
            ]
            if not steps:
                return set()
            refused = [answer for answer in kernel.do(steps) if answer.errno]
            for answer in refused:
                log.error("reconcile refused step=%s reason=%s", answer.step, answer.message)
            held = _backends(kernel.read_services(keys))
        except KernelError as error:
            log.error("reconcile failed reason=%s", error)
            return moved
        log.info("reconcile steps=%d refused=%d", len(steps), len(refused))
        goal = _backends(wanted.only(keys))
        return {place for place in moved if place[0] in actual.by_key and held.get(place) != goal.get(place)}

    def _tell(self, record: Record, said: list[dict[str, Any]]) -> None:
        """Report what changed by itself; of very many the rest is counted."""
        now = self._director.clock()
        for one in said[:MOST_CHANGES]:
            log.info("traffic target=%s standing=%s cause=%s", one["target"], one["standing"], one["cause"])
        changes = [{"at": now, **one} for one in said[:MOST_CHANGES]]
        self._director.reporter.report(
            Event.TRAFFIC,
            run="",
            cluster=record.cluster,
            epoch=record.ordered.epoch,
            revision=record.ordered.revision,
            payload={"changes": changes, "more": max(0, len(said) - MOST_CHANGES)},
        )


def watched(goal: Goal) -> Iterator[Watched]:
    """The backends of the goal that have a check or an agent."""
    marks = check_marks(goal.table, goal.traffic)
    for service in goal.table:
        policy = goal.traffic.policies.get(service.key)
        if policy is None:
            continue
        load = policy.load if policy.load and policy.load.source is LoadSource.AGENT else None
        for backend in service.backends:
            check = policy.check_of(backend.key)
            if check or load:
                yield Watched(
                    service.key,
                    backend,
                    check,
                    load,
                    policy.flap_changes,
                    policy.flap_window_s,
                    marks.get((service.key, backend.key), 0),
                )


def _balanced(goal: Goal) -> set[Place]:
    """The backends whose load is told from their connections."""
    balanced = {
        key
        for key, policy in goal.traffic.policies.items()
        if policy.load and policy.load.source is LoadSource.CONNECTIONS
    }
    return {
        (service.key, backend.key)
        for service in goal.table
        if service.key in balanced
        for backend in service.backends
    }


def _moved(before: Table, after: Table) -> Iterator[Place]:
    """The places whose backend is another one, or not there in one of both."""
    for service in after:
        earlier = before.by_key.get(service.key)
        if earlier is None or earlier is service:
            continue
        there, wanted = ({one.key: one for one in each.backends} for each in (earlier, service))
        for key in there.keys() | wanted.keys():
            if there.get(key) != wanted.get(key):
                yield service.key, key


def _backends(table: Table) -> Backends:
    return {(service.key, backend.key): backend for service in table for backend in service.backends}


def _place_of(step: Step) -> Place | None:
    return (step.service.key, step.backend.key) if step.backend else None


def _changes(before: Effective, after: Effective) -> Iterator[dict[str, Any]]:
    """What an operator would want to read later: who changed their standing, which profile holds, and which
    service has nobody left. Not each step of a ramp."""
    for place in sorted(before.notes.keys() | after.notes.keys()):
        there = before.notes.get(place), after.notes.get(place)
        is_sorry = any(note and note.standing is Standing.SORRY for note in there)
        earlier, note = (one or (_SPARE if is_sorry else _IN) for one in there)
        target = f"{place[1]} of {place[0]}"
        if _word(earlier) != _word(note):
            yield _change(target, earlier, note)
        elif before.profile == after.profile and note.standing is not Standing.RETURNING:
            # Only a load is left that moves the weight of what stands as it did.
            was, now = _weight(before.table, place), _weight(after.table, place)
            if was != now:
                yield _change(target, earlier, note) | {"before": f"weight {was}", "standing": "weight"}
    if before.profile != after.profile:
        names = [one.profile.name if one.profile else "" for one in (before, after)]
        cause = f"profile {names[1]}" if names[1] else f"profile {names[0]} is over"
        yield {"target": "weights", "before": names[0], "standing": names[1], "weight": 0, "cause": cause}
    for key in _lost(before.table, after.table):
        said = "no backend is in service, so clients are refused"
        yield {"target": str(key), "before": "", "standing": "all down", "weight": 0, "cause": said}


def _word(note: Note) -> str:
    """How it stands, for the log: whether anybody has checked what is in service is not told there."""
    return Standing.UP if note.standing is Standing.UNCHECKED else note.standing


def _weight(table: Table, place: Place) -> int | None:
    service = table.by_key.get(place[0])
    return next((one.weight for one in service.backends if one.key == place[1]), None) if service else None


def _change(target: str, before: Note, note: Note) -> dict[str, Any]:
    words = {"target": target, "before": str(_word(before)), "standing": str(_word(note))}
    return words | {"weight": note.weight, "cause": note.cause}


def _lost(before: Table, after: Table) -> Iterable[ServiceKey]:
    for service in after:
        earlier = before.by_key.get(service.key)
        if earlier is None or earlier is service:
            continue
        if any(one.weight for one in earlier.backends) and not any(one.weight for one in service.backends):
            yield service.key
