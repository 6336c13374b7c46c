"""From whatever the kernel holds to the wanted table: read, plan, journal, do, read back.

Always the same walk, for an order, a repeated order and a restart; each step of it may be the last one
before the power goes, and the next walk ends in the same table.
"""

from __future__ import annotations

import errno as numbers
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from cluster.director.journal import Goal, JournalError, Record
from cluster.director.kernel import (
    NOT_HEARD,
    NOT_TRIED,
    Answer,
    CannotRehearse,
    HalfRead,
    Kernel,
    KernelError,
    KernelUnavailable,
    NoAnswer,
    NotPermitted,
)
from cluster.director.kernel.explained import explained
from cluster.director.kernel.rehearse import is_worth_it
from cluster.ipvs.errors import Explanation, explain, means_table_moved
from cluster.ipvs.formats.document import key_to_document, to_document
from cluster.ipvs.formats.ipvsadm import command, service_words
from cluster.ipvs.impact import Open, Sysctls, at_stake, impact
from cluster.ipvs.plan import Operation, Plan, Step, plan
from cluster.ipvs.state import ServiceKey, Table
from cluster.wire.messages import Outcome

log = logging.getLogger(__name__)

ROUNDS = 3
_NO_SYSCTLS: Sysctls = {}
# A first apply of 10,000 backends would otherwise make a report of several megabytes.
MOST_STEPS_TOLD = 500


@dataclass(frozen=True)
class Result:
    """What an order came to, in the words of a report."""

    outcome: Outcome
    text: str
    remedy: str = ""
    detail: str = ""
    bug: bool = False
    planned: int = 0
    answers: tuple[Answer, ...] = ()
    # What is ours in the kernel afterwards; None where the kernel was not read.
    table: Table | None = None
    counted: Open = field(default_factory=dict)
    sysctls: Sysctls = field(default_factory=dict)
    # Of a try of a check: what each backend answered, as the report says it; None for other orders.
    tried: tuple[dict[str, Any], ...] | None = None
    # What was done about the kernel's switches, told as steps.
    switches: tuple[dict[str, str], ...] = ()

    def steps(self) -> list[dict[str, str]]:
        """The steps for people. Of very many, those that went wrong come first and the rest is cut."""
        told = list(self.answers)
        if len(told) > MOST_STEPS_TOLD:
            told = sorted(told, key=lambda answer: answer.errno == 0)[:MOST_STEPS_TOLD]
        steps = [_step_out(answer, impact(answer.step, self.counted, self.sysctls)) for answer in told]
        return [*self.switches, *steps]


@dataclass
class _Walk:
    """What has happened so far. `owned` grows by what is about to be added, before it is added."""

    owned: frozenset[ServiceKey]
    sysctls: Sysctls
    # As they were when the walk began: what is cut is no longer counted afterwards.
    counted: Open = field(default_factory=dict)
    planned: int = 0
    done: list[Answer] = field(default_factory=list)
    trouble: list[Answer] = field(default_factory=list)
    silence: str = ""
    # Whether the answers to the last steps were lost: then only a reading tells which of them were done.
    is_unheard: bool = False
    # What the rehearsal said: the steps that would be refused, or why there was none.
    doomed: list[Answer] = field(default_factory=list)
    unrehearsed: str = ""


class Notes(Protocol):
    """Where a walk keeps what must not be forgotten: a worker's journal. A command keeps nothing."""

    def write(self, record: Record) -> None: ...


def converge(
    kernel: Kernel,
    journal: Notes,
    record: Record,
    goal: Goal,
    *,
    director: str,
    wanted: Table | None = None,
    rehearse: bool = False,
    sysctls: Sysctls = _NO_SYSCTLS,
) -> Result:
    """Make the kernel hold `wanted`, which is the goal's table or what that comes to now, touching owned
    services and new ones alone, and journal the goal.

    `record` is what the journal is to say meanwhile; its `owned` is what is owned before. The goal becomes
    its `verified` once it was read back. With `rehearse`, nothing is touched where the kernel would refuse a
    part of the goal. `sysctls` tell what removals do to connections. A kernel or disk that fails is a
    result, not an exception."""
    if wanted is None:
        wanted = goal.table
    walk = _Walk(record.owned, sysctls)
    try:
        after, rest = _until_same(kernel, journal, record, wanted, walk, rehearse=rehearse)
    except JournalError as error:
        return Result(
            Outcome.FAILED, str(error), f"Make room or mend the disk of {director}, then apply again."
        )
    except KernelError as error:
        return _unreadable(error, walk, director)
    held = after.only(_ours(after, wanted, walk.owned))
    if rest.is_empty:
        record = _verified(record, goal, wanted, after)
    try:
        journal.write(replace(record, owned=held.keys))
    except JournalError as error:
        said = f"{director}'s kernel was changed, but its journal could not be written: {error}"
        return _result(
            Outcome.FAILED, walk, held, said, f"Make room or mend the disk of {director}, then apply again."
        )
    return _judged(goal, walk, held, rest, director)


def to_payload(result: Result, facts: dict[str, Any]) -> dict[str, Any]:
    """The payload of a FINISHED report. Without a reading it has neither `table` nor `owned`, so that
    nobody takes silence for an empty kernel."""
    payload = {
        "outcome": result.outcome,
        "text": result.text,
        "remedy": result.remedy,
        "detail": result.detail,
        "bug": result.bug,
        "planned": result.planned,
        "steps": result.steps(),
        "facts": facts,
    }
    if result.table is not None:
        payload["table"] = to_document(result.table)
        payload["owned"] = [key_to_document(service.key) for service in result.table]
    if result.tried is not None:
        payload["answers"] = list(result.tried)
    return payload


def _until_same(
    kernel: Kernel, journal: Notes, record: Record, wanted: Table, walk: _Walk, *, rehearse: bool
) -> tuple[Table, Plan]:
    """The table afterwards and what still differs. Reads anew where the kernel's answers say that the
    table moved under the plan."""
    before = kernel.read()
    after = before.table
    for turn in range(ROUNDS):
        todo = plan(after, wanted, owned=walk.owned)
        walk.counted = {**walk.counted, **at_stake(before, todo.steps)}
        if rehearse and turn == 0 and is_worth_it(todo.steps):
            _rehearse(kernel, wanted, walk)
        if not todo.steps or walk.doomed:
            return after, todo
        walk.owned |= {step.service.key for step in todo.steps if step.operation is Operation.ADD_SERVICE}
        journal.write(replace(record, owned=walk.owned))
        moved = _do(kernel, todo.steps, walk)
        # At once: whatever goes wrong from here on, what turned out to be somebody else's is not ours.
        journal.write(replace(record, owned=walk.owned))
        after = kernel.read().table if moved else _read_touched(kernel, after, wanted, walk)
        rest = plan(after, wanted, owned=walk.owned)
        if walk.is_unheard:
            left = set(rest.steps)
            walk.done += [Answer(step, 0) for step in todo.steps if step not in left]
            walk.trouble = [Answer(step, NOT_HEARD) for step in rest.steps]
        if walk.silence or (walk.trouble and not moved):
            return after, rest
    return after, plan(after, wanted, owned=walk.owned)


def _rehearse(kernel: Kernel, table: Table, walk: _Walk) -> None:
    try:
        walk.doomed = kernel.rehearse(table)
    except CannotRehearse as reason:
        walk.unrehearsed = str(reason)


def _do(kernel: Kernel, steps: Sequence[Step], walk: _Walk) -> bool:
    """Take the steps; True where the table turned out not to be the one that was planned for."""
    walk.planned += len(steps)
    walk.trouble, walk.is_unheard = [], False
    try:
        answers = kernel.do(steps)
    except (HalfRead, NoAnswer) as error:
        # What was asked may have been done: the reading that follows tells.
        walk.silence, walk.is_unheard = str(error) if isinstance(error, NoAnswer) else "", True
        return True
    walk.done += [answer for answer in answers if answer.errno == 0]
    walk.trouble = [answer for answer in answers if answer.errno != 0]
    # Somebody else was faster: the service is theirs, even though we were about to add it.
    walk.owned -= {
        answer.step.service.key
        for answer in walk.trouble
        if answer.step.operation is Operation.ADD_SERVICE and answer.errno == numbers.EEXIST
    }
    return any(means_table_moved(answer.errno, answer.step.operation) for answer in walk.trouble)


def _read_touched(kernel: Kernel, before: Table, desired: Table, walk: _Walk) -> Table:
    """Our services as they are now, beside the others as they were."""
    ours = desired.keys | walk.owned
    others = tuple(service for service in before if service.key not in ours)
    return Table(others + kernel.read_services(ours).services)


def _ours(after: Table, desired: Table, owned: frozenset[ServiceKey]) -> frozenset[ServiceKey]:
    """The services in the kernel that are ours now: those owned, and those found just as wanted."""
    same = {service.key for service in desired if after.by_key.get(service.key) == service}
    return frozenset((owned | same) & after.keys)


def _verified(record: Record, goal: Goal, wanted: Table, after: Table) -> Record:
    """The goal was read back. Its services that are wanted as they are become those that were read, which are
    equal: the journal and the kernel's readings then share one table instead of holding two."""
    as_ordered = {service.key for service in goal.table if wanted.by_key.get(service.key) is service}
    others = tuple(service for service in goal.table if service.key not in as_ordered)
    shared = replace(goal, table=Table(after.only(as_ordered).services + others))
    return replace(record, ordered=shared if record.ordered == goal else record.ordered, verified=shared)


def _judged(goal: Goal, walk: _Walk, held: Table, rest: Plan, director: str) -> Result:
    """The outcome, with the sentence that an operator reads first."""
    count = len(walk.done)
    if rest.is_empty:
        return _result(Outcome.APPLIED, walk, held, _applied_text(goal, walk, held, director))
    if walk.doomed:
        return _doomed(walk, held, director)
    refused = [answer for answer in walk.trouble if answer.errno > 0]
    if walk.silence:
        return _result(
            Outcome.UNKNOWN,
            walk,
            held,
            f"{director}'s kernel did not answer in time, and {_left(rest)} not done.",
            "Apply again: the director reads the kernel first and does what is left.",
            "no answer",
        )
    if refused and rest.steps:
        explanation = _explain(refused[0])
        outcome = Outcome.PARTIAL if count else Outcome.FAILED
        more = f" {_steps(len(refused) - 1)} more were refused." if len(refused) > 1 else ""
        return _result(
            outcome, walk, held, explanation.happened + more, explanation.remedy, explanation.detail
        )
    if rest.steps:
        return _result(
            Outcome.PARTIAL if count else Outcome.FAILED,
            walk,
            held,
            f"{director}'s table keeps changing under the worker, and {_left(rest)} not done.",
            f"Find out what else programs IPVS on {director}, stop it, and apply again.",
        )
    key = rest.conflicts[0]
    more = f", and {len(rest.conflicts) - 1} more," if len(rest.conflicts) > 1 else ""
    in_place = any(service.key in held.keys for service in goal.table)
    return _result(
        Outcome.PARTIAL if count or in_place else Outcome.REFUSED,
        walk,
        held,
        f"{key}{more} is in {director}'s kernel with another content, put there by somebody else; it was "
        f"left alone.{_kept_text(rest.kept)}{_adopted_text(walk, held)}",
        f"Make the service in the panel the same as it is there, or run ipvsadm -D {service_words(key)} on "
        f"{director}; then apply again.",
        "not ours",
    )


def _doomed(walk: _Walk, held: Table, director: str) -> Result:
    refused = [answer for answer in walk.doomed if answer.errno > 0]
    explanation = _explain(refused[0])
    more = f" {_steps(len(refused) - 1)} more would be refused." if len(refused) > 1 else ""
    return Result(
        Outcome.FAILED,
        f"In a rehearsal, nothing of {director}'s table being touched: {explanation.happened}{more}",
        explanation.remedy,
        explanation.detail,
        answers=tuple(walk.doomed),
        table=held,
    )


def _applied_text(goal: Goal, walk: _Walk, held: Table, director: str) -> str:
    # What a command line wants is no revision.
    what = f"revision {goal.revision}" if goal.revision else "this table"
    if walk.planned:
        done = _steps(len(walk.done) or walk.planned)
        text = f"{director}'s kernel holds {what}: {done} done and read back."
    else:
        text = f"{director}'s kernel already holds {what}; nothing was changed."
    if walk.unrehearsed:
        text += f" It was not rehearsed first: {walk.unrehearsed}."
    return text + _adopted_text(walk, held)


def _adopted_text(walk: _Walk, held: Table) -> str:
    adopted = held.keys - walk.owned
    return f" Found there just as wanted, and managed from now on: {_named(adopted)}." if adopted else ""


def _kept_text(kept: Sequence[ServiceKey]) -> str:
    return f" Until that is settled, nothing is removed: {_named(kept)}." if kept else ""


def _named(keys: Iterable[ServiceKey]) -> str:
    names = [str(key) for key in sorted(keys)]
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    return ", ".join(names[:5]) + more


def _unreadable(error: KernelError, walk: _Walk, director: str) -> Result:
    """No table to show: the kernel did not let itself be read."""
    said = explained(error, director)
    # What was asked may have been done; without IPVS, or the right to it, nothing was.
    is_certain = isinstance(error, KernelUnavailable | NotPermitted) or not walk.planned
    outcome = Outcome.FAILED if is_certain and not isinstance(error, NoAnswer) else Outcome.UNKNOWN
    return _result(outcome, walk, None, said.happened, said.remedy, said.detail)


def _result(
    outcome: Outcome, walk: _Walk, held: Table | None, text: str, remedy: str = "", detail: str = ""
) -> Result:
    return Result(
        outcome,
        text,
        remedy,
        detail,
        planned=walk.planned,
        answers=(*walk.done, *walk.trouble),
        table=held,
        counted=walk.counted,
        sysctls=walk.sysctls,
    )


def _step_out(answer: Answer, cost: str) -> dict[str, str]:
    step = answer.step
    status = {0: "done", NOT_TRIED: "skipped", NOT_HEARD: "skipped"}.get(answer.errno, "failed")
    told = {"kind": step.kind, "text": str(step), "command": command(step)}
    # What was not done cost nothing.
    return told | {"impact": "" if answer.errno else cost, "status": status, "error": _said(answer)}


def _said(answer: Answer) -> str:
    if answer.errno == NOT_TRIED and answer.step.operation is Operation.REMOVE_SERVICE:
        return "Not removed, because an earlier step was refused: its clients may have nowhere else to go."
    if answer.errno == NOT_TRIED:
        return "Not tried, because an earlier step of this service was refused."
    if answer.errno == NOT_HEARD:
        return "The kernel gave no answer, and when it was read again this was not done."
    return "" if answer.errno == 0 else _explain(answer).happened


def _explain(answer: Answer) -> Explanation:
    step = answer.step
    subject = f"service {step.service.key}"
    if step.backend is not None:
        subject = f"backend {step.backend.key} of {step.service.key}"
    return explain(answer.errno, step.operation, subject=subject)


def _left(rest: Plan) -> str:
    return f"{_steps(len(rest.steps))} {'was' if len(rest.steps) == 1 else 'were'}"


def _steps(count: int) -> str:
    return "1 step" if count == 1 else f"{count} steps"
