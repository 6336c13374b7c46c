"""Putting right what somebody else changed: because an operator asks, or because the cluster enforces."""

from __future__ import annotations

import logging
from dataclasses import replace
from typing import TYPE_CHECKING

from cluster.director.converge import Result
from cluster.director.drift import heal
from cluster.director.journal import Record
from cluster.director.kernel import KernelError
from cluster.director.lock import Locked, locked
from cluster.wire.drifted import label, places_from
from cluster.wire.messages import Order, Outcome

if TYPE_CHECKING:
    from cluster.director.apply import Director

log = logging.getLogger(__name__)

_VERSIONS = "Check that panel and director run versions that fit each other."


def repair(order: Order, record: Record | None, director: Director) -> Result:
    """Bring the places of the order to what they are to be now, and nothing else."""
    try:
        things = places_from(order.payload)
    except ValueError as error:
        text = f"{director.name} cannot read what it is to put right: {error}"
        return Result(Outcome.REFUSED, text, _VERSIONS, "bad places")
    if record is None:
        text = f"{director.name} was never given a table, so there is nothing to put right."
        return Result(Outcome.REFUSED, text, "Apply the cluster first.", "no table")
    wanted = director.aim.of(record.ordered)
    try:
        with director.aim.acting:
            answers, left = heal(director.kernel, wanted.table, record.owned, things)
            table = director.kernel.read_services(record.owned)
    except KernelError as error:
        text = f"{director.name}'s kernel could not be talked to: {error}"
        return Result(Outcome.UNKNOWN, text, "The panel sends the order again.", "no answer")
    told = {"planned": len(answers), "answers": tuple(answers), "table": table}
    if left:
        text = f"{label(sorted(left, key=str)[0])} is still not as it should be on {director.name}."
        remedy = "Look at the steps, find out what else programs IPVS there, and apply again."
        outcome = Outcome.PARTIAL if len(left) < len(set(things)) else Outcome.FAILED
        return Result(outcome, text, remedy, **told)  # type: ignore[arg-type]
    done = "was so already" if not answers else "is as it should be again"
    text = f"{label(things[0])} {done} on {director.name}."
    return Result(Outcome.APPLIED, text, **told)  # type: ignore[arg-type]


def set_enforcing(order: Order, record: Record | None, director: Director) -> Result:
    """Remember whether drift is put right without being asked."""
    enforce = order.payload.get("enforce")
    if not isinstance(enforce, bool):
        text = f"{director.name} cannot read whether it is to enforce."
        return Result(Outcome.REFUSED, text, _VERSIONS, "bad order")
    if record is None:
        text = f"{director.name} was never given a table; its first order will tell it."
        return Result(Outcome.REFUSED, text, "Apply the cluster.", "no table")
    enforce, at = enforcing(order, record)
    director.journal.write(replace(record, enforce=enforce, enforce_at=at))
    word = "puts right what somebody else changes" if enforce else "leaves what somebody else changes"
    return Result(Outcome.APPLIED, f"{director.name} {word} from now on.")


def enforcing(order: Order, before: Record | None) -> tuple[bool, float]:
    """Whether to enforce after this order, and when the panel changed that. No revision fences it, so an old
    copy of an order could: the panel's own clock tells what it said last, until a new epoch begins."""
    asked = order.payload.get("enforce") is True
    now, since = (before.enforce, before.enforce_at) if before else (False, 0.0)
    is_newer = order.issued_at >= since or (before is not None and order.epoch > before.ordered.epoch)
    return (asked, order.issued_at) if asked != now and is_newer else (now, since)


def heal_what_drifted(director: Director) -> None:
    """One round of enforcing: a few things of ours, and none while an order is under way."""
    try:
        with locked(director.config.state_dir / "lock", within_s=0), director.aim.acting:
            record, held = director.journal.read(), director.aim.effective
            if record is None or held is None or not record.enforce:
                return
            now = director.clock()
            number = record.ordered.epoch, record.ordered.revision
            things = director.drift.to_heal(number, at=now)
            if not things:
                return
            answers, left = heal(director.kernel, held.table, record.owned, things)
            for answer in answers:
                if answer.errno:
                    log.error("healing refused step=%s reason=%s", answer.step, answer.message)
            director.drift.note_healing(things, left, at=now)
    except Locked:
        # The order brings everything.
        return
    except KernelError as error:
        log.error("healing failed reason=%s", error)
