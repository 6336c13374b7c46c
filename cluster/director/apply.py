"""An order's walk through a director: believed or dropped, fenced, done under a lock, reported."""

from __future__ import annotations

import logging
import time
import uuid
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from cluster.director import host, repair, trial
from cluster.director.aim import Aim
from cluster.director.config import Config
from cluster.director.converge import Result, converge, to_payload
from cluster.director.drift import Drift
from cluster.director.health import Checker
from cluster.director.journal import Goal, Journal, JournalError, Record
from cluster.director.kernel import Kernel, KernelError
from cluster.director.lock import Locked, locked
from cluster.director.probing import probe
from cluster.director.reports import Reporter
from cluster.director.switching import switched
from cluster.director.witness import keep, newest
from cluster.ipvs.formats.document import from_document
from cluster.ipvs.state import ServiceKey, Table
from cluster.ipvs.traffic import document as traffic_document
from cluster.ipvs.traffic.policy import Traffic
from cluster.wire.envelope import Refused, verify
from cluster.wire.messages import CLOCK_TOLERANCE_S, Event, Operation, Order, Outcome

log = logging.getLogger(__name__)

LOCK_DEADLINE_S = 45.0
# What an order says that has no traffic document.
_NO_TRAFFIC = traffic_document.to_document(Traffic())

_BUG_REMEDY = "Look for this run's id in the worker's log on the director, and report what stands there."


@dataclass(frozen=True)
class Director:
    """Everything that an order needs; the tests hand in a kernel, a clock and a reporter of their own."""

    config: Config
    kernel: Kernel
    journal: Journal
    reporter: Reporter
    checker: Checker
    aim: Aim
    clock: Callable[[], float] = time.time
    boot: Callable[[], host.Boot] = host.boot
    lock_deadline_s: float = LOCK_DEADLINE_S
    # Where the kernel's switches net.ipv4.vs.* are; None for a stand-in, which must not touch this machine's.
    switches: Path | None = None
    drift: Drift = field(default_factory=Drift)
    # Another one after each start: the panel then sends again what the worker before was at.
    worker: str = field(default_factory=lambda: uuid.uuid4().hex)
    # Since this start: `orders_dropped`, messages in its queue that were no order of the panel's for it.
    counts: Counter[str] = field(default_factory=Counter)

    @property
    def name(self) -> str:
        return self.config.director

    def facts(self) -> dict[str, Any]:
        """What the panel shows of this machine, and what its administrator should know."""
        # An older worker would apply what is to be confirmed and never go back: the panel must know.
        of_ours = {"worker": self.worker, "notices": self.journal.notices(), "goes_back": True}
        of_ours |= {"witness": newest(self.config.state_dir), "orders_dropped": self.counts["orders_dropped"]}
        return host.facts(self.config, self.kernel) | of_ours


def take(envelope: object, director: Director) -> None:
    """Do what a genuine order for this director says, and report it. Never raises for a bad message, a
    refusing kernel or a mistake of ours: the first is logged and dropped, the others are reported."""
    try:
        order = Order.from_body(verify(envelope, "order", public=director.config.panel_public_key))
        if order.director != director.name:
            raise Refused("The order is for another director.")
    except Refused as error:
        # Nothing of the message is quoted, neither here nor to the panel: a stranger may have written it.
        log.warning("order dropped reason=%s", error)
        director.counts["orders_dropped"] += 1
        return
    if order.operation is Operation.WITNESS:
        # It asks for nothing but to be kept, so it neither waits for a turn nor is answered.
        keep(director.config.state_dir, order.payload.get("checkpoint"))
        return
    log.info(
        "order run=%s operation=%s revision=%d.%d", order.run, order.operation, order.epoch, order.revision
    )
    try:
        result = _untimely(order, director) or _in_turn(order, director)
    except Exception as error:
        log.exception("order broke run=%s", order.run)
        result = Result(
            Outcome.FAILED,
            f"A mistake in the worker's program on {director.name} ended this run.",
            _BUG_REMEDY,
            type(error).__name__,
            bug=True,
        )
    log.info("order run=%s outcome=%s text=%s", order.run, result.outcome, result.text)
    _finished(order, director, result)


def restore(director: Director) -> Result | None:
    """Bring the journal's table back after a start, with panel and broker down. None without a journal."""
    try:
        with locked(director.config.state_dir / "lock", within_s=director.lock_deadline_s):
            record = director.journal.read()
            if record is None:
                return None
            if cause := trial.cause_at_start(record, director):
                return trial.finish(trial.taken_back(record, cause, director), director)
            goal = _goal_of_restart(record, director.kernel)
            director.aim.effective = wanted = director.aim.of(goal)
            result = converge(
                director.kernel,
                director.journal,
                record,
                goal,
                director=director.name,
                wanted=wanted.table,
                # What was verified once is brought back as fast as it goes; an order that was not may be
                # the very one that a rehearsal kept away from the kernel.
                rehearse=goal != record.verified and director.config.rehearsal != "off",
            )
            result = switched(result, goal, director)
            director.aim.settle(wanted, goal, director.journal)
    except (JournalError, KernelError) as error:
        result = Result(Outcome.UNKNOWN, f"The table of {director.name} was not restored: {error}")
    except Locked:
        result = Result(Outcome.UNKNOWN, f"Somebody else is applying, so {director.name} restored nothing.")
    except Exception as error:
        log.exception("restore broke")
        text = f"A mistake in the worker's program on {director.name} ended the restore."
        result = Result(Outcome.FAILED, text, _BUG_REMEDY, type(error).__name__, bug=True)
    log.info("restore outcome=%s text=%s", result.outcome, result.text)
    return result


def _goal_of_restart(record: Record, kernel: Kernel) -> Goal:
    """After a reboot nothing of ours is left, and what was last seen to work comes back. Where the kernel
    still carries traffic, an order that was interrupted goes on instead: back and forth would cut more."""
    if record.is_applied or kernel.read_services(record.owned):
        return record.ordered
    return record.verified or Goal(record.ordered.epoch, 0, Table())


def _untimely(order: Order, director: Director) -> Result | None:
    """UNKNOWN, which lets the panel send again: an old copy of an order in the queue must not end a run
    that a fresh copy behind it will do."""
    now = director.clock()
    remedy = (
        f"The panel sends it again. If this repeats, compare the clocks of the panel and of {director.name}."
    )
    if now > order.expires_at + CLOCK_TOLERANCE_S:
        late_s = now - order.expires_at
        text = f"By {director.name}'s clock the order expired {late_s:.0f} s ago, so nothing was done."
        return Result(Outcome.UNKNOWN, text, remedy, "expired")
    if order.issued_at > now + CLOCK_TOLERANCE_S:
        early_s = order.issued_at - now
        text = f"By {director.name}'s clock the order comes from {early_s:.0f} s ahead, so nothing was done."
        return Result(Outcome.UNKNOWN, text, remedy, "from the future")
    return None


def _in_turn(order: Order, director: Director) -> Result:
    try:
        if order.operation is Operation.PROBE:
            # It touches neither kernel nor journal, so it neither waits for others nor holds them up here.
            return probe(order.payload, director.checker, director.journal.read(), director=director.name)
        with locked(director.config.state_dir / "lock", within_s=director.lock_deadline_s):
            before = director.journal.read()
            if refusal := _fenced(order, before, director.name):
                return refusal
            if order.operation is Operation.LOAD_MODULE:
                return _load_module(order, director)
            if order.operation is Operation.CONFIRM:
                return trial.confirm(order, before, director)
            if order.operation is Operation.REPAIR:
                return repair.repair(order, before, director)
            if order.operation is Operation.ENFORCE:
                return repair.set_enforcing(order, before, director)
            return _apply(order, before, director)
    except JournalError as error:
        return Result(
            Outcome.FAILED, str(error), f"Make room or mend the disk of {director.name}, then apply again."
        )
    except Locked:
        text = f"Somebody else on {director.name} is applying: another worker, or a command."
        return Result(Outcome.UNKNOWN, text, "The panel sends the order again.", "locked")


def _fenced(order: Order, before: Record | None, name: str) -> Result | None:
    """Refuse what is older than the journal, and another cluster's orders without a higher epoch."""
    if before is None:
        return None
    if order.cluster != before.cluster and order.epoch <= before.ordered.epoch:
        return Result(
            Outcome.REFUSED,
            f"{name} belongs to another cluster and did not take this one's order.",
            f"Remove {name} from the other cluster and enrol it here anew.",
            "another cluster",
        )
    epoch, revision = before.fence
    if order.operation is Operation.APPLY and trial.went_back_from(order, before):
        return trial.too_late(order, before, name)
    lowest = (epoch, revision if order.operation is Operation.APPLY else 0)
    if (order.epoch, order.revision) < lowest:
        return Result(
            Outcome.REFUSED,
            f"{name} has revision {revision} of epoch {epoch} already; "
            f"revision {order.revision} of epoch {order.epoch} is older.",
            "To go back, change the draft back and apply it: that makes a new revision with the old content.",
            "older revision",
        )
    return None


def _apply(order: Order, before: Record | None, director: Director) -> Result:
    try:
        table = from_document(order.payload["table"])
        traffic = traffic_document.from_document(order.payload.get("traffic") or _NO_TRAFFIC)
    except (KeyError, ValueError, TypeError, AttributeError) as error:
        return Result(
            Outcome.REFUSED,
            f"{director.name} cannot read what this order wants: {error}",
            "Check that panel and director run versions that fit each other.",
            "bad table",
        )
    goal = Goal(order.epoch, order.revision, table, traffic)
    if before and goal != before.ordered and (goal.epoch, goal.revision) == _number(before):
        return Result(
            Outcome.REFUSED,
            f"{director.name} was told another content of revision {goal.revision} before.",
            "If the panel was restored from a backup, run manage.py raise_epoch there.",
            "changed revision",
        )
    try:
        tried = trial.begin(order, goal, before, director)
    except trial.Unreadable as error:
        text = f"{director.name} cannot read until when this order is to be confirmed: {error}"
        return Result(
            Outcome.REFUSED, text, "Check that panel and director run versions that fit.", "bad trial"
        )
    except KernelError as error:
        text = f"{director.name} does not know what to go back to, because its kernel cannot be read: {error}"
        return Result(Outcome.FAILED, text, "Apply without a confirmation, or mend the director first.")
    started = {"run": order.run, "cluster": order.cluster, "epoch": order.epoch, "revision": order.revision}
    director.reporter.report(Event.STARTED, payload={}, **started)  # type: ignore[arg-type]
    owned, verified = (before.owned, before.verified) if before else (frozenset[ServiceKey](), None)
    untold = before.went_back if before and before.went_back and not before.went_back.is_told else None
    enforce = repair.enforcing(order, before)
    record = Record(order.cluster, goal, owned, verified, tried, untold, *enforce)
    wanted, director.aim.effective = director.aim.of(goal), None
    try:
        result = converge(
            director.kernel,
            director.journal,
            record,
            goal,
            director=director.name,
            wanted=wanted.table,
            rehearse=director.config.rehearsal != "off",
            sysctls=host.sysctls(director.kernel),
        )
        result = switched(result, goal, director)
    finally:
        director.aim.settle(wanted, goal, director.journal)
    return _whole_or_nothing(result, director) if tried else result


def _whole_or_nothing(result: Result, director: Director) -> Result:
    """What is on trial and did not come about is not waited for: nobody could confirm it. A kernel that said
    nothing is asked again, by the panel's next copy of the order, as long as the trial lasts."""
    record = director.journal.read()
    if result.outcome in (Outcome.APPLIED, Outcome.UNKNOWN) or record is None or record.trial is None:
        return result
    back = trial.finish(trial.taken_back(record, "it could not be applied whole", director), director)
    return replace(result, text=f"{result.text} {back.text}", table=back.table)


def _number(record: Record) -> tuple[int, int]:
    return record.ordered.epoch, record.ordered.revision


def _load_module(order: Order, director: Director) -> Result:
    name = order.payload.get("module")
    if not isinstance(name, str):
        return Result(Outcome.REFUSED, "The order names no module.", "Choose one on the director's page.")
    if problem := host.load_module(director.config, name):
        remedy = (
            f"Install the modules of {director.name}'s running kernel, or restart it into the newest one."
        )
        return Result(Outcome.FAILED, problem, remedy)
    return Result(Outcome.APPLIED, f"The module {name} is loaded on {director.name}.")


def _finished(order: Order, director: Director, result: Result) -> None:
    try:
        payload = to_payload(result, director.facts())
        director.reporter.report(
            Event.FINISHED,
            run=order.run,
            cluster=order.cluster,
            epoch=order.epoch,
            revision=order.revision,
            payload=payload,
        )
    except Exception:
        # The order stays unanswered and the panel sends it again: that is what UNKNOWN is for.
        log.exception("report broke run=%s", order.run)
